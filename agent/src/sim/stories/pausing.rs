//! Agents stop for a minute and go on, in virtual time: not one election more than it takes.

use super::plan;
use crate::sim::plan::{Action, SECOND};
use crate::sim::world::World;

/// Longer than every timeout between agents, and as long as the contract says.
const PAUSE: u64 = 60 * SECOND;

/// The term on each disk, and who leads.
fn terms(w: &World) -> (Vec<u64>, Vec<usize>) {
    let leads = |at: &usize| w.machines[*at].process.as_ref().is_some_and(|p| p.node.is_leader());
    let terms = w.machines.iter().map(|m| m.durable.hard_state.term.0).collect();
    (terms, (0..w.machines.len()).filter(leads).collect())
}

/// A follower that wakes asks nobody for votes that it could get, and moves no term.
#[test]
fn a_follower_that_wakes_moves_no_term() {
    for victim in [1, 2] {
        let mut w = World::formed(3);
        w.appends(1);
        let before = terms(&w);
        assert_eq!(before.1, [0], "the founder leads in a calm world");
        w.act(&Action::Pause { agent: victim, for_us: PAUSE });
        w.run_to(w.at + PAUSE / 2);
        w.appends(0);
        w.run_to(w.at + PAUSE / 2);
        w.appends(0);
        // The witness knows what had been acked when the read was asked for.
        w.reads(victim);
        w.converges(5 * SECOND);
        assert_eq!(terms(&w), before);
    }
}

/// A leader that wakes finds another one, in the term of the one election that replaced it, and follows (D6).
#[test]
fn a_leader_that_wakes_follows_the_one_that_replaced_it() {
    let mut w = World::formed(3);
    w.appends(1);
    let before = terms(&w);
    w.act(&Action::Pause { agent: 0, for_us: PAUSE });
    w.run_to(w.at + 5 * SECOND);
    w.appends(1);
    let new: Vec<usize> = terms(&w).1.into_iter().filter(|at| *at != 0).collect();
    let term = terms(&w).0[1];
    assert_eq!((new.len(), term), (1, before.0[1] + 1), "one election");
    w.run_to(w.at + PAUSE);
    w.reads(0);
    w.converges(5 * SECOND);
    assert_eq!(terms(&w), (vec![term; 3], new), "and none when it woke");
}

/// All stop at once and go on: they serve again within seconds, and the witness has lost nothing.
#[test]
fn all_stop_and_serve_again() {
    let mut w = World::formed(3);
    w.appends(1);
    for agent in 0..3 {
        w.act(&Action::Pause { agent, for_us: PAUSE });
    }
    w.run_to(w.at + PAUSE);
    w.appends(2);
    w.reads(1);
    w.converges(10 * SECOND);
}

/// A twin of a healthy agent (its name, a disk of its own) tries for ten minutes: no seat, no term and no leader moves.
#[test]
fn a_twin_of_a_healthy_agent_never_gets_in() {
    let mut four = plan(4);
    four.agents[3].name = Some("b".into());
    four.agents[3].join = vec![0, 1, 2];
    four.agents[3].start_us = 10 * SECOND;
    let mut w = World::new(four);
    w.must("three vote", 9 * SECOND, |w| w.voters() == 3);
    let (before, changes) = (terms(&w), w.witness.configurations().count());
    let twin = w.machines[3].node;
    w.run_to(w.at + 600 * SECOND);
    w.appends(1);
    let (now, leaders) = terms(&w);
    assert_eq!((&now[..3], leaders), (&before.0[..3], before.1));
    assert_eq!((now[3], w.witness.configurations().count()), (0, changes));
    assert!(w.witness.configuration().is_some_and(|c| !c.is_member(twin) && c.is_member(w.machines[1].node)));
}
