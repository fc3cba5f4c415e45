//! Leaders die under load, and readers follow the log across it.

use crate::cluster::{Cluster, wait_until};
use crate::history::{self, Load, Probe};
use quorate::client::TailFrom;
use quorate_certs::Role;
use std::collections::BTreeSet;
use std::io::Write;
use std::process::Stdio;
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

/// An upgrade as everybody does it: one agent after another is stopped with SIGTERM and started again, under load.
/// Nothing is lost, and no append fails (behaviours 2 and 6).
#[test]
fn a_rolling_restart_under_load() {
    let mut cluster = Cluster::of(3);
    let load = Load::on(&cluster, 4);
    let mut gaps = vec![];
    for name in ["n1", "n2", "n3"] {
        let stopped = Instant::now();
        cluster.stop(name);
        gaps.push(load.wait_ack_after(stopped));
        cluster.restart(name, &[]);
        cluster.wait_group(3, 0);
        let other = cluster.other_than(name);
        cluster.wait_member(&other, "everybody as alive", |all| all.iter().all(|m| m.state == "alive"));
    }
    let summary = history::verify(&cluster, &cluster.running(), &load.stop(&cluster));
    println!("figure: a rolling restart, first ack after each SIGTERM: {gaps:?}, {summary:?}");
    assert_eq!(summary.not_applied, 0);
}

/// Lines from a pipe while the leader is killed: what the command printed stands where it said, and if it gave up it
/// says that the outcome is unknown (behaviour 2).
#[test]
fn a_pipe_of_appends_survives_the_leader_or_says_so() {
    let mut cluster = Cluster::of(3);
    let leader = cluster.leader();
    let other = cluster.other_than(&leader);
    let certs = cluster.client_certs("admin", Role::Admin);
    let mut command = cluster.ask_command(&other, &certs, &["append", "-", "--timeout", "50s"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let writing = std::thread::spawn(move || (0..5_000).all(|i| writeln!(stdin, "line {i}").is_ok()));
    cluster.wait_status(&other, "the first lines", |s| s.next > 100);
    cluster.kill(&leader);
    let output = child.wait_with_output().unwrap();
    writing.join().unwrap();
    let acked: Vec<usize> = String::from_utf8(output.stdout).unwrap().lines().map(|l| l.parse().unwrap()).collect();
    let said = String::from_utf8(output.stderr).unwrap();
    let log = history::read(&cluster, &other).1;
    for offset in &acked {
        assert!(log[*offset].starts_with("line "), "{offset}: {}", log[*offset]);
    }
    let distinct: BTreeSet<_> = log.iter().collect();
    assert_eq!(distinct.len(), log.len(), "no line stands twice");
    match output.status.code() {
        Some(0) => assert_eq!(acked.len(), 5_000),
        Some(7) => assert!(said.contains("unknown") && said.contains("line"), "{said}"),
        other => panic!("exit {other:?}: {said}"),
    }
    println!("figure: of 5000 lines {} were acked, {} stand, exit {:?}", acked.len(), log.len(), output.status.code());
}
