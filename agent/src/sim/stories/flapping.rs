//! Who fails and comes back again and again gets no seat; and what has been seen of others outlives a leadership.

use super::plan;
use crate::sim::plan::{Action, MS, SECOND};
use crate::sim::world::World;

const FOR_EVER: u64 = 100 * 3_600 * SECOND;

fn roles(w: &World) -> (Vec<usize>, usize) {
    let (c, leader) = (w.witness.configuration().cloned().expect("there is one"), w.leader());
    let voters = (0..w.machines.len()).filter(|m| Some(*m) != leader && c.voters.contains(&w.machines[*m].node));
    let spare = (0..w.machines.len()).find(|m| c.learners.contains(&w.machines[*m].node)).expect("one learns");
    (voters.collect(), spare)
}

fn votes(w: &World, agent: usize) -> bool {
    w.witness.configuration().is_some_and(|c| c.voters.contains(&w.machines[agent].node))
}

/// A spare is cut off and back four times, each time for so long that gossip calls it failed. When a voter dies, the spare
/// gets no seat, however long it has been quiet since, until its failures are ten minutes old.
#[test]
fn a_spare_that_flaps_is_not_promoted_before_its_failures_are_old() {
    let mut four = plan(4);
    four.knobs.replace_after_us = 15 * SECOND;
    let mut w = World::new(four);
    w.converges(15 * SECOND);
    let (voters, spare) = roles(&w);
    for _ in 0..4 {
        w.act(&Action::Isolate { agent: spare });
        w.run_to(w.at + 20 * SECOND);
        w.act(&Action::Heal);
        w.run_to(w.at + 20 * SECOND);
    }
    w.converges(20 * SECOND);
    let quiet_since = w.at;
    w.act(&Action::Kill { agent: voters[0], down_us: FOR_EVER });
    w.run_to(quiet_since + 400 * SECOND);
    w.keeps_promises();
    assert!(!votes(&w, spare), "it flapped, and got a seat");
    w.must("it has the seat", 700 * SECOND, |w| votes(w, spare));
    assert!(w.at - quiet_since >= 400 * SECOND);
    w.appends(spare);
}

/// A spare that has been there for a second gets no seat of the dead before it has been there for the whole of its
/// patience, also if the leader changes meanwhile: an election neither waives it nor begins it again.
#[test]
fn an_election_neither_waives_nor_resets_the_patience() {
    let mut five = plan(4);
    five.knobs.replace_after_us = 15 * SECOND;
    five.knobs.stabilization_us = 60 * SECOND;
    // The spare comes when a voter is dead already.
    five.agents[3].start_us = 40 * SECOND;
    let mut w = World::new(five);
    w.must("three vote", 20 * SECOND, |w| w.voters() == 3);
    let leader = w.leader().expect("one leads");
    let (dead, next) = ((leader + 1) % 3, (leader + 2) % 3);
    w.act(&Action::Kill { agent: dead, down_us: FOR_EVER });
    w.run_to(42 * SECOND);
    let came = 40 * SECOND;
    w.must("it learns", 10 * SECOND, |w| w.witness.configuration().is_some_and(|c| !c.learners.is_empty()));
    w.run_to(came + 30 * SECOND);
    let asked = w.ask(None, leader, crate::sim::client::Kind::Transfer { to: Some(next) }, 5 * SECOND);
    w.must("another one leads", 5 * SECOND, |w| w.leader() == Some(next));
    assert!(asked.is_some());
    w.run_to(came + 58 * SECOND);
    assert!(!votes(&w, 3), "an election made it stable");
    w.must("it votes", 12 * SECOND, |w| votes(w, 3));
    assert!(w.at < came + 75 * SECOND, "the election began it again: {} ms", (w.at - came) / MS);
}

/// Gossip of the leader is lost again and again, so that the others call it failed, and it has to come back each time. The
/// fourth time another one leads, handed over to and not elected, and the flapping one is not elected back.
#[test]
fn a_leader_that_flaps_hands_over() {
    let mut w = World::formed(3);
    let leader = w.leader().expect("one leads");
    let mut handed_over = false;
    for _ in 0..6 {
        w.act(&Action::LoseGossip { agent: leader, for_us: 25 * SECOND });
        for _ in 0..50 {
            w.run_to(w.at + SECOND);
            w.keeps_promises();
            handed_over |= w.trace.tail().any(|line| line.contains("has failed and come back too often"));
        }
    }
    assert!(handed_over, "it leads on");
    assert!(w.leader().is_some_and(|now| now != leader));
    w.appends(leader);
    assert_eq!(w.voters(), 3, "it keeps its seat");
}
