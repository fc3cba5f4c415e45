//! A whole cluster, every member of it: all start at once with one seed, idle, lose one by a kill and one by its leave.
//!
//! In `cargo test` among 50; `cargo run --release -p quorate-membership --example swim -- whole 5000` among 5,000. Each
//! member keeps a bounded number of connections, as agents do; what cores hold alike is held once, see `Pool`.

use super::cluster::{Cluster, MS, Node, S};
use quorate_membership::{Pool, State};

/// What was seen. Times in virtual milliseconds.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Until 90, 99, 99.9 and 100 of 100 pairs knew each other.
    pub(crate) known_ms: [u64; 4],
    /// Per member and second while nothing happens: datagrams, their bytes, bytes over streams, connections made.
    pub(crate) idle: [f64; 4],
    /// When each survivor knew of the kill, and of the leave, since it happened; sorted.
    pub(crate) failed_ms: Vec<u64>,
    pub(crate) left_ms: Vec<u64>,
    /// Of anybody but the killed one.
    pub(crate) false_failures: u64,
    pub(crate) false_suspicions: u64,
}

/// Connections that a member keeps: as many as an agent keeps warm, and never to all.
const CONNECTIONS_MAX: usize = 128;

/// Runs in steps until this share of all pairs know each other; the time it took.
fn until_known(c: &mut Cluster, share: f64, limit: u64) -> u64 {
    let start = c.now;
    let pairs = (c.agents.len() * c.agents.len()) as f64;
    loop {
        let known: usize = c.agents.values().map(|agent| agent.core.alive_count()).sum();
        if known as f64 >= pairs * share {
            return c.now - start;
        }
        assert!(c.now - start < limit, "{share} of all pairs not known within {} s", limit / S);
        c.run(100 * MS);
    }
}

/// What was told of the watched one, and when since `start`; sorted.
fn times(c: &mut Cluster, what: &str, start: u64) -> Vec<u64> {
    let mut times: Vec<u64> =
        c.watched_news.iter().filter(|(_, told)| *told == what).map(|(at, _)| (at - start) / MS).collect();
    c.watched_news.clear();
    times.sort_unstable();
    times
}

/// Lives through all of it; `say` hears of each step as it is done.
pub(crate) fn live(n: u64, loss_per_mille: u64, seed: u64, idle: u64, say: impl Fn(&str, &Cluster)) -> Seen {
    let mut seen = Seen::default();
    let mut c = Cluster::new(seed);
    let kept = CONNECTIONS_MAX.min(n as usize / 2);
    (c.pool, c.connections_max, c.loss_per_mille) = (Some(Pool::default()), kept, loss_per_mille);
    for node in 1..=n {
        c.start(node, if node == 1 { vec![] } else { vec![super::cluster::addr(1)] });
    }
    let mut took = 0;
    for (at, share) in [0.9, 0.99, 0.999, 1.0].into_iter().enumerate() {
        took += until_known(&mut c, share, 1800 * S);
        seen.known_ms[at] = took / MS;
        say(&format!("{share} of all pairs know each other after {} s", took as f64 / S as f64), &c);
    }
    let start = c.now;
    while !c.is_whole() {
        assert!(c.now - start < 600 * S, "all know each other by name: not within 600 s");
        // Who looks at thousands each time looks seldom.
        c.run(if n > 500 { S } else { 100 * MS });
    }
    let took = c.now - start;
    say(&format!("all are known by name after {} s more", took as f64 / S as f64), &c);
    c.run(60 * S);
    say("a minute later", &c);

    let before = [c.datagrams, c.bytes, c.stream_bytes, c.handshakes];
    c.run(idle);
    let share = |now: u64, was: u64| (now - was) as f64 / n as f64 / (idle / S) as f64;
    for (at, now) in [c.datagrams, c.bytes, c.stream_bytes, c.handshakes].into_iter().enumerate() {
        seen.idle[at] = share(now, before[at]);
    }
    say(&format!("idle for {} s", idle / S), &c);

    let blow = |c: &mut Cluster, victim: Node, what: &'static str, state: State| {
        (c.watched, c.watched_news) = (victim, vec![]);
        let start = c.now;
        match state {
            State::Left => drop(c.input(victim, quorate_membership::Input::Leave)),
            _ => c.crash(victim),
        }
        c.run_while_not(900 * S, what, |c| c.all_see(victim, state));
        let times = times(c, what, start);
        say(&format!("all know that {victim} {what}"), c);
        times
    };
    seen.failed_ms = blow(&mut c, 2, "failed", State::Failed);
    c.run(10 * S);
    seen.left_ms = blow(&mut c, 3, "left", State::Left);
    let told = |what: &str| c.told.get(what).copied().unwrap_or(0);
    seen.false_failures = told("failed") - seen.failed_ms.len() as u64;
    seen.false_suspicions = told("refuted");
    seen
}

/// 50 start at once where 2 of 100 datagrams are lost: all know all, a kill is known to all, and a leave is no failure.
#[test]
fn every_member_of_a_whole_cluster_hears_of_everything() {
    let seen = live(50, 20, 7, 10 * S, |_, _| {});
    println!("{seen:?}");
    assert!(seen.known_ms[3] < 10_000, "the last pair is no later than a few exchanges: {seen:?}");
    assert_eq!((seen.failed_ms.len(), seen.left_ms.len()), (49, 49), "each is told once of each, who leaves too");
    assert_eq!(seen.false_failures, 0, "{seen:?}");
    assert!(seen.failed_ms.iter().all(|ms| *ms < 30_000) && seen.left_ms.iter().all(|ms| *ms < 10_000), "{seen:?}");
}
