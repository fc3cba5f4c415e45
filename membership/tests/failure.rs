//! Failure: who stops answering is declared failed, and nobody else is.

use crate::cluster::*;
use quorate_membership::State;

#[test]
fn a_killed_member_is_known_as_failed_within_five_seconds() {
    for n in [2, 3, 5, 10] {
        for seed in 1..=5 {
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
            assert!(all < 5 * S);
        }
    }
}
