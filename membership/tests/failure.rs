//! Failure: who stops answering is declared failed, and nobody else is.

use crate::cluster::*;
use quorate_membership::State;

#[test]
fn a_killed_member_is_known_as_failed_within_four_seconds() {
    for n in [2, 3, 5, 10] {
        for seed in 1..=12 {
            let mut c = Cluster::of(n, seed);
            c.form(10 * S);
            c.run(seed * 137 * MS);
            c.forget_events();
            c.crash(n);
            let start = c.now;
            let all = c.run_while_not(20 * S, "detection", |c| c.all_see(n, State::Failed));
            let first = c.agents.values().flat_map(|agent| &agent.events);
            let first = first.filter(|(_, e)| brief(e) == format!("failed {n}")).map(|(at, _)| *at).min().unwrap();
            println!("{n} agents, seed {seed}: first {} ms, all {} ms", (first - start) / MS, all / MS);
            assert!(all < 4 * S);
            // Who could ask others, and was heard by them, does not mistrust itself for it.
            assert!(n == 2 || c.agents.values().all(|agent| agent.core.health() == 0), "{n} agents, seed {seed}");
        }
    }
}

/// 600 s in which 15 of 100 datagrams are lost and nobody dies.
#[test]
fn nobody_is_declared_failed_because_of_loss() {
    for (n, loss) in [(3, 150), (10, 150), (3, 300)] {
        for seed in 1..=2 {
            let mut c = Cluster::of(n, seed);
            c.form(10 * S);
            c.run(S);
            c.forget_events();
            c.loss_per_mille = loss;
            c.run(600 * S);
            assert!(c.is_whole(), "{}", c.picture());
            let count = |what: &str| {
                let all = c.agents.values().flat_map(|agent| &agent.events);
                all.filter(|(_, e)| brief(e).starts_with(what)).count()
            };
            let repeated: u64 = c.agents.values().map(|a| a.core.status().counters.probes_repeated).sum();
            println!(
                "{n} agents, loss {loss}, seed {seed}: {} suspicions, {} failures, {repeated} probes repeated, {:.2} packets and {} bytes per agent and second",
                count("suspected"),
                count("failed"),
                c.datagrams as f64 / (n * 600) as f64,
                c.bytes / n / 600,
            );
            assert_eq!(count("failed"), 0);
            assert!(c.agents.values().all(|a| a.core.status().counters.renewals == 0));
        }
    }
}

/// A process that was stopped for ten seconds wakes up: its probes went unanswered because it slept.
#[test]
fn a_sleeper_judges_nobody_by_its_sleep_and_comes_back() {
    let mut c = Cluster::of(3, 5);
    c.form(10 * S);
    c.run(S);
    c.forget_events();
    c.sleep(2, 10 * S);
    assert!(c.events(1).contains(&"failed 2".to_string()), "the others could not know: {:?}", c.events(1));
    let took = c.form(20 * S);
    println!("whole again {} ms after it woke", took / MS);
    assert!(c.events(1).contains(&"recovered 2".to_string()));
    assert!(!c.events(2).iter().any(|e| e.starts_with("failed")), "{:?}", c.events(2));
    assert_eq!(c.agents[&2].core.status().counters.stalls, 1);
}

/// Datagrams do not pass at all (a firewall, a broken path): streams carry the probes, and nobody is declared failed.
#[test]
fn without_any_datagram_streams_keep_the_members_alive() {
    let mut c = Cluster::of(3, 6);
    c.form(10 * S);
    c.run(S);
    c.forget_events();
    c.datagrams_blocked = true;
    c.run(300 * S);
    assert!(c.is_whole(), "{}", c.picture());
    for at in 1..=3 {
        // Each probe was repeated over a stream first: nobody is so much as suspected.
        let calm = |e: &String| !e.starts_with("failed") && !e.starts_with("suspected");
        assert!(c.events(at).iter().all(calm), "{:?}", c.events(at));
    }
    c.crash(3);
    let took = c.run_while_not(20 * S, "detection", |c| c.all_see(3, quorate_membership::State::Failed));
    println!("detected after {} ms", took / MS);
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = |seed| {
        let mut c = Cluster::of(6, seed);
        c.trace = Some(0xcbf2_9ce4_8422_2325);
        c.loss_per_mille = 100;
        c.run(20 * S);
        c.crash(3);
        c.run(10 * S);
        c.cut(&[1, 2], &[4, 5, 6]);
        c.run(30 * S);
        c.heal();
        c.restart(3, addr(33));
        c.run(60 * S);
        assert!(c.is_whole(), "{}", c.picture());
        (c.trace, c.datagrams)
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}
