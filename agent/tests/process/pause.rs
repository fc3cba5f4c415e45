//! Agents stop in the middle of everything (SIGSTOP: a debugger, a hypervisor, a laptop's lid) and go on as if nothing
//! had been: no acked record is lost, nobody reads the past, and nobody's term moves who need not.
//!
//! Eight seconds is longer than every timeout between agents; `QUORATE_PAUSE=60s` takes as long as the contract says.

use crate::cluster::{Cluster, wait_until};
use crate::history::{self, Load, Seen};
use quorate::client::Client;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// Clients that append through all agents while one of them is stopped.
const CLIENTS: usize = 3;

/// A machine that is too busy for a heartbeat within an election timeout costs an election that no pause has caused: then
/// the story is told again, so often at most. In virtual time, where nothing is busy, `sim/stories/pausing.rs` is strict.
const TRIES: usize = 3;

/// How long agents are stopped: `QUORATE_PAUSE`, in whole seconds, or a little longer than every timeout.
fn pause() -> Duration {
    let text = std::env::var("QUORATE_PAUSE").unwrap_or_else(|_| "8s".into());
    let seconds = text.strip_suffix('s').and_then(|seconds| seconds.parse().ok());
    Duration::from_secs(seconds.unwrap_or_else(|| panic!("QUORATE_PAUSE={text} is no number of seconds, like 60s")))
}

/// Linearizable reads through one agent without a break, so that one is under way whenever it stops.
struct Reads {
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<Vec<Seen>>>,
    task: JoinHandle<()>,
}

impl Reads {
    fn through(cluster: &Cluster, name: &str, patience: Duration) -> Self {
        let client = cluster.pinned_for(name, patience);
        let (stop, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let task = cluster.spawn_task(read_until(client, Arc::clone(&stop), Arc::clone(&seen)));
        Self { stop, seen, task }
    }

    /// All of them, and how long the one took that was under way while the agent was stopped, if it was answered.
    fn stop(self, cluster: &Cluster, woken: Instant) -> (Vec<Seen>, Option<Duration>) {
        self.stop.store(true, Ordering::Relaxed);
        cluster.block_on(self.task).unwrap();
        let seen = std::mem::take(&mut *self.seen.lock().unwrap());
        let across = seen.iter().find(|read| read.asked < woken && read.ended > woken);
        let across = across.map(|read| read.ended - read.asked);
        (seen, across)
    }
}

async fn read_until(client: Client, stop: Arc<AtomicBool>, seen: Arc<Mutex<Vec<Seen>>>) {
    while !stop.load(Ordering::Relaxed) {
        let asked = Instant::now();
        // A read that fails says nothing; that some succeed is asserted by whoever looks at them.
        if let Ok(next) = client.barrier().await {
            seen.lock().unwrap().push(Seen { asked, ended: Instant::now(), next });
        }
    }
}

/// How often an agent of the cluster has won an election.
fn elections(cluster: &Cluster) -> usize {
    let won = |name: &String| cluster.log(name).matches("this agent leads in term").count();
    cluster.running().iter().map(won).sum()
}

/// Who led when, for a story that took more elections than it should.
fn show_elections(cluster: &Cluster) {
    for name in cluster.running() {
        let log = cluster.log(&name);
        let lines = log.lines().filter(|line| line.contains("lead") || line.contains("hand"));
        lines.for_each(|line| println!("{name}: {line}"));
    }
}

/// An append through `other` that is acked now: the offset behind it.
fn ack(cluster: &Cluster, other: &str, value: &str) -> u64 {
    let offset: u64 = cluster.ask(other, &["append", value, "--timeout", "50s"]).ok().trim().parse().unwrap();
    offset + 1
}

/// The agent goes on: how long until the leader counts it as alive and as a voter who holds what was acked when it woke.
fn resume(cluster: &Cluster, name: &str, acked: u64) -> Duration {
    let woken = Instant::now();
    cluster.signal(name, "CONT");
    wait_until("it is a voter again", || {
        let status = cluster.status(name).ok().filter(|s| s.next >= acked && s.leader.is_some())?;
        let members = cluster.members(&status.leader?).ok()?;
        let is_back =
            |m: &&quorate::client::Member| m.name == name && m.state == "alive" && m.lag.is_some_and(|lag| lag < 64);
        let voter = members.iter().find(is_back)?;
        (voter.raft == "voter" || voter.raft == "leader").then_some(())
    });
    woken.elapsed()
}

/// A follower stops: the others serve on, the term does not move, not even when it wakes, and what is read through it
/// from its first moment on is not the past.
fn a_follower_stops(pause: Duration) -> bool {
    let cluster = Cluster::of(3);
    let leader = cluster.leader();
    let victim = cluster.other_than(&leader);
    let (term, won) = (cluster.status(&leader).unwrap().term, elections(&cluster));
    let load = Load::on(&cluster, CLIENTS);
    load.wait_ack_after(Instant::now());
    let reads = Reads::through(&cluster, &victim, pause * 2 + Duration::from_secs(30));
    wait_until("reads go on", || (reads.seen.lock().unwrap().len() > 3).then_some(()));

    cluster.pause(&victim);
    load.wait_ack_after(Instant::now());
    thread::sleep(pause);
    let last = ack(&cluster, &leader, "the last before it wakes");
    let woken = Instant::now();
    let back = resume(&cluster, &victim, last);
    let first = cluster.block_on(cluster.pinned(&victim).barrier()).unwrap();
    assert!(first >= last, "a read through the one that woke saw the log before {first}, and {last} had been acked");
    load.wait_ack_after(Instant::now());
    let status = cluster.status(&victim).unwrap();
    let is_calm = (status.term, elections(&cluster)) == (term, won);
    let history = load.stop(&cluster);
    let (seen, across) = reads.stop(&cluster, woken);
    let count = seen.len();
    assert!(count > 10, "reads were made: {count}");
    let summary = history::verify_with(&cluster, &cluster.running(), &history, &seen);
    println!(
        "figure: follower stopped {pause:?}: voter again after {back:?}, term {term} before and {} after",
        status.term
    );
    println!(
        "figure: follower stopped: {count} linear reads through it, the one under way took {across:?}; {summary:?}"
    );
    if !is_calm {
        show_elections(&cluster);
    }
    is_calm
}

/// The leader stops: one election replaces it, and none follows when it wakes as a follower.
fn a_leader_stops(pause: Duration) -> bool {
    let cluster = Cluster::of(3);
    let victim = cluster.leader();
    let other = cluster.other_than(&victim);
    let won = elections(&cluster);
    let load = Load::on(&cluster, CLIENTS);
    load.wait_ack_after(Instant::now());
    let reads = Reads::through(&cluster, &victim, pause * 2 + Duration::from_secs(30));
    wait_until("reads go on", || (reads.seen.lock().unwrap().len() > 3).then_some(()));

    cluster.pause(&victim);
    let failover = load.wait_ack_after(Instant::now());
    thread::sleep(pause);
    let new = cluster.wait_status(&other, "another leader", |s| s.leader.as_ref().is_some_and(|l| *l != victim));
    let last = ack(&cluster, &other, "the last before it wakes");
    let woken = Instant::now();
    let back = resume(&cluster, &victim, last);
    let first = cluster.block_on(cluster.pinned(&victim).barrier()).unwrap();
    assert!(first >= last, "a read through the one that woke saw the log before {first}, and {last} had been acked");
    load.wait_ack_after(Instant::now());
    let status = cluster.status(&victim).unwrap();
    let elected = elections(&cluster) - won;
    let is_calm = (status.term, &status.leader, elected) == (new.term, &new.leader, 1);
    let history = load.stop(&cluster);
    let (seen, across) = reads.stop(&cluster, woken);
    let count = seen.len();
    let summary = history::verify_with(&cluster, &cluster.running(), &history, &seen);
    println!(
        "figure: leader stopped {pause:?}: next ack after {failover:?}, voter again after {back:?}, elections won {elected}"
    );
    println!("figure: leader stopped: {count} linear reads through it, the one under way took {across:?}; {summary:?}");
    if !is_calm {
        show_elections(&cluster);
    }
    is_calm
}

/// All stop and go on, each at its own moment: they serve again by themselves, and nothing acked is lost.
fn all_stop(pause: Duration) -> bool {
    let cluster = Cluster::of(3);
    let load = Load::on(&cluster, CLIENTS);
    load.wait_ack_after(Instant::now());
    let won = elections(&cluster);
    let reads = Reads::through(&cluster, "n2", pause * 2 + Duration::from_secs(30));
    wait_until("reads go on", || (reads.seen.lock().unwrap().len() > 3).then_some(()));
    for name in cluster.running() {
        cluster.pause(&name);
    }
    thread::sleep(pause);
    let woken = Instant::now();
    for name in cluster.running() {
        cluster.signal(&name, "CONT");
    }
    let served = load.wait_ack_after(woken);
    cluster.wait_group(3, 0);
    load.wait_ack_after(Instant::now());
    let history = load.stop(&cluster);
    let (seen, across) = reads.stop(&cluster, woken);
    let count = seen.len();
    let summary = history::verify_with(&cluster, &cluster.running(), &history, &seen);
    let elected = elections(&cluster) - won;
    println!("figure: all stopped {pause:?}: next ack {served:?} after they woke, {elected} elections won");
    println!("figure: all stopped: {count} linear reads, the one under way took {across:?}; {summary:?}");
    true
}

/// Three clusters at once, since each waits most of the time: one stops its follower, one its leader, one everybody.
#[test]
fn agents_stop_and_go_on() {
    let pause = pause();
    thread::scope(|scope| {
        let stories = [a_follower_stops, a_leader_stops, all_stop];
        let stories = stories.map(|story| scope.spawn(move || (0..TRIES).any(|_| story(pause))));
        for story in stories {
            let calm = story.join().unwrap_or_else(|_| panic!("the panic of a story stands above"));
            assert!(calm, "more elections than the pause costs, {TRIES} times in a row; see the figures above");
        }
    });
}
