//! Leaders die under load, and readers follow the log across it.

use crate::cluster::{Cluster, wait_until};
use crate::history::{self, Load, Probe};
use quorate::client::TailFrom;
use std::time::{Duration, Instant};

/// Ten times the figure of the contract.
const FAILOVER_CEILING: Duration = Duration::from_secs(10);

/// How many leaders are killed: `QUORATE_KILLS`, or a few.
fn kills() -> usize {
    std::env::var("QUORATE_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(4)
}

/// `kill -9` of the leader under load, again and again: nothing acked is lost, doubled or reordered, the next ack
/// comes soon, the killed one is a voter again unaided (behaviour 2), and a reader that follows sees every record once
/// (behaviour 5).
#[test]
fn leaders_are_killed_under_load() {
    let mut cluster = Cluster::of(3);
    let load = Load::on(&cluster, 5);
    let reader = cluster.client("n2");
    let (seen_sender, seen) = std::sync::mpsc::channel();
    let following = cluster.spawn_task(async move {
        let mut tail = reader.tail(TailFrom { follow: true, ..TailFrom::default() });
        while let Some(item) = tail.next().await {
            let item = item.unwrap();
            let value = String::from_utf8(item.stored.record.value.to_vec()).unwrap();
            if seen_sender.send((item.offset, value)).is_err() {
                return;
            }
        }
    });
    let mut failovers = vec![];
    for _ in 0..kills() {
        let leader = cluster.leader();
        let others: Vec<_> = cluster.running().into_iter().filter(|name| *name != leader).collect();
        let mut probe = Probe::through(&cluster, &others);
        load.wait_ack_after(Instant::now());
        let killed = Instant::now();
        cluster.kill(&leader);
        failovers.push(probe.first_ack(&cluster, &load, killed));
        let other = cluster.other_than(&leader);
        cluster.restart(&leader, &[]);
        cluster.wait_group(3, 0);
        wait_until("the restarted one has caught up", || {
            let next = cluster.status(&other).ok()?.next;
            (cluster.status(&leader).ok()?.next >= next).then_some(())
        });
    }
    let history = load.stop(&cluster);
    let summary = history::verify(&cluster, &cluster.running(), &history);
    let (median, worst) = history::median_and_worst(failovers.clone());
    println!("figure: {} kills, first ack: median {median:?}, worst {worst:?}, all {failovers:?}", failovers.len());
    println!("figure: {summary:?}");
    assert!(worst < FAILOVER_CEILING, "{failovers:?}");
    assert!(summary.acked > 10 * failovers.len(), "the load was a load: {summary:?}");
    assert_eq!(summary.not_applied, 0, "a client retries what was surely not appended: {summary:?}");

    let expected: Vec<_> = (0..).zip(history::read(&cluster, "n1").1).collect();
    let mut followed = vec![];
    wait_until("the follower has seen everything", || {
        followed.extend(seen.try_iter());
        (followed.len() >= expected.len()).then_some(())
    });
    assert!(followed == expected, "the follower saw each record once, in order");
    following.abort();
}

/// A leader that is paused, not dead, is replaced; when it wakes it has lost nothing and lies to nobody (behaviours 2
/// and 4).
#[test]
fn a_paused_leader_wakes_up_deposed() {
    let cluster = Cluster::of(3);
    let load = Load::on(&cluster, 3);
    let leader = cluster.leader();
    let paused = Instant::now();
    cluster.pause(&leader);
    let other = cluster.other_than(&leader);
    let failover = load.wait_ack_after(paused);
    cluster.wait_status(&other, "another leader", |s| s.leader.as_ref().is_some_and(|l| *l != leader));
    cluster.signal(&leader, "CONT");
    cluster.wait_group(3, 0);
    load.wait_ack_after(Instant::now());
    let history = load.stop(&cluster);
    let summary = history::verify(&cluster, &cluster.running(), &history);
    println!("figure: leader paused, first ack after {failover:?}, {summary:?}");
    assert!(failover < FAILOVER_CEILING);
}
