//! Operators take agents away and give them seats: safely, or not at all.

use crate::api::Code;
use crate::sim::client::{End, Kind};
use crate::sim::plan::{Action, MS, SECOND, letter};
use crate::sim::world::World;

fn removal(agent: usize, heir: Option<usize>) -> Kind {
    Kind::Remove { agent, heir }
}

/// Five servers become three, one by one, and the first to go is the leader: each removal is one change, and what is
/// appended meanwhile stands. The removed agents stay up, serve nobody and say why.
#[test]
fn five_servers_become_three_by_removal() {
    let mut w = World::formed(5);
    for left in [4, 3] {
        let gone = w.leader().expect("one leads");
        let asked = (0..5).find(|m| *m != gone && w.votes(*m)).expect("another voter");
        let remove = w.ask(None, asked, removal(gone, None), 6 * SECOND).expect("it is up");
        let appends = w.appends_for(&[asked], 300 * MS);
        w.must("it is removed", 6 * SECOND, |w| w.is_over(remove));
        assert_eq!(w.end(remove).word(), "ok");
        w.must("all end", 6 * SECOND, |w| appends.iter().all(|o| w.is_over(*o)));
        assert!(appends.iter().all(|o| w.end(*o).word() == "ok"));
        assert_eq!(w.voters(), left);
        w.must("it knows", 5 * SECOND, |w| w.problems_of(gone).contains("an operator has removed this agent"));
        assert!(!w.machines[gone].departed, "its data is left alone");
        let append = w.begin_append(gone, SECOND);
        w.must("it ends", 2 * SECOND, |w| w.is_over(append));
        assert_eq!(w.end(append).word(), "not-applied");
        w.run_to(w.at + 8 * SECOND);
        assert_eq!(w.voters(), left);
        let again = w.operates(asked, removal(gone, None)).expect("again is no error");
        assert!(!again.changed);
    }
    let leader = w.leader().expect("one leads");
    w.appends(leader);
    // With its old disk it is turned away; with a fresh one it is a new node.
    let gone = (0..5).find(|m| !w.votes(*m)).expect("one is out");
    let old = w.machines[gone].node;
    w.act(&Action::Kill { agent: gone, down_us: 300 * MS });
    w.run_to(w.at + 5 * SECOND);
    assert!(w.problems_of(gone).contains("operator"), "{}", w.problems_of(gone));
    assert!(w.witness.configuration().is_some_and(|c| !c.is_member(old)));
    w.end_process(gone);
    w.empty_disk(gone);
    w.start_at(gone, w.at);
    w.must("it learns", 15 * SECOND, |w| {
        let new = w.machines[gone].node;
        w.witness.configuration().is_some_and(|c| c.is_member(new))
    });
}

/// The same by `leave`, the leader first again.
#[test]
fn five_servers_become_three_by_leaving() {
    let mut w = World::formed(5);
    w.machines.iter_mut().for_each(|m| m.rest_us = None);
    for left in [4, 3] {
        let gone = w.leader().expect("one leads");
        let others: Vec<usize> = (0..5).filter(|m| *m != gone && w.machines[*m].is_up()).collect();
        let leave = w.ask(None, gone, Kind::Leave, 10 * SECOND).expect("it is up");
        let appends = w.appends_for(&others, 100 * MS);
        w.must("it has left", 12 * SECOND, |w| w.machines[gone].departed);
        assert_eq!((w.end(leave).word(), w.voters()), ("ok", left));
        w.must("all end", 6 * SECOND, |w| appends.iter().all(|o| w.is_over(*o)));
        assert!(appends.iter().all(|o| w.end(*o).word() == "ok"));
        w.run_to(w.at + 5 * SECOND);
        assert_eq!(w.voters(), left);
    }
}

/// Every server leaves, but for the last, which refuses: it has the only copy. Started again, the others are new nodes
/// and all that was acknowledged is there.
#[test]
fn every_server_leaves_but_the_last() {
    let mut w = World::formed(3);
    w.machines.iter_mut().for_each(|m| m.rest_us = None);
    w.appends(0);
    for left in [2, 1] {
        let gone = (0..3).rev().find(|m| w.machines[*m].is_up()).expect("somebody is there");
        let leave = w.ask(None, gone, Kind::Leave, 10 * SECOND).expect("it is up");
        w.must("it has left", 12 * SECOND, |w| w.machines[gone].departed && w.is_over(leave));
        assert_eq!(w.voters(), left);
    }
    let last = (0..3).find(|m| w.machines[*m].is_up()).expect("one stays");
    let leave = w.ask(None, last, Kind::Leave, 5 * SECOND).expect("it is up");
    w.must("it refuses", 6 * SECOND, |w| w.is_over(leave));
    assert!(matches!(w.end(leave), End::Answered(Err(f)) if f.code == Code::Refused), "{:?}", w.end(leave));
    let said = w.refuses(last, removal(last, None));
    assert!(said.contains("is the last voter") && said.contains("add an agent first"), "{said}");
    w.appends(last);
    for machine in (0..3).filter(|m| *m != last) {
        w.start_at(machine, w.at + MS);
    }
    w.run_to(w.at + SECOND);
    w.converges(30 * SECOND);
    assert_eq!(w.voters(), 3);
    w.appends(0);
    w.reads(2);
}

/// What would leave too few to answer is not removed, and the operator hears what would be safe: first the dead one, or a
/// spare in its place.
#[test]
fn what_would_break_the_quorum_is_not_removed() {
    let mut w = World::formed(3);
    let leader = w.leader().expect("one leads");
    let (dead, other) = ((leader + 1) % 3, (leader + 2) % 3);
    w.machines[dead].rest_us = None;
    w.act(&Action::Kill { agent: dead, down_us: 900 * SECOND });
    // At once: nobody is counted that has not answered since.
    let said = w.refuses(leader, removal(other, None));
    assert!(said.contains(&format!("bring {0} back, or remove {0} first", letter(dead))), "{said}");
    let said = w.refuses(leader, Kind::Demote { agent: other, even: true });
    assert!(said.contains(&format!("bring {0} back, or remove {0} first", letter(dead))), "{said}");
    assert_eq!(w.voters(), 3);
    w.operates(leader, removal(dead, None)).expect("two of two answer");
    assert_eq!(w.voters(), 2);
    w.operates(leader, removal(other, None)).expect("one of one answers");
    let said = w.refuses(leader, removal(leader, None));
    assert!(said.contains("is the last voter"), "{said}");
    w.appends(leader);
}

/// A dead voter and a living one are replaced by a learner, each in one change: never are there fewer voters.
#[test]
fn a_replacement_votes_in_the_same_change() {
    for alive in [true, false] {
        let mut w = World::formed(4);
        let (spare, leader) = (w.a_learner(), w.leader().expect("one leads"));
        let gone = (0..4).find(|m| *m != leader && *m != spare).expect("another voter");
        let third = (0..4).find(|m| ![leader, spare, gone].contains(m)).expect("the third voter");
        assert_eq!(w.operates(leader, removal(gone, Some(25))).expect_err("nobody").code, Code::NotFound);
        let said = w.refuses(leader, removal(gone, Some(third)));
        assert!(said.contains("votes already"), "{said}");
        let said = w.refuses(leader, removal(spare, Some(third)));
        assert!(said.contains("no vote"), "{said}");
        if !alive {
            w.machines[gone].rest_us = None;
            w.act(&Action::Kill { agent: gone, down_us: 900 * SECOND });
            w.run_to(w.at + SECOND);
        }
        let done = w.operates(third, removal(gone, Some(spare))).expect("it can vote");
        assert_eq!((done.heir, done.changed, done.tolerates), (Some(letter(spare).to_string()), true, 1));
        assert!(w.voters() == 3 && w.votes(spare) && !w.votes(gone));
        w.appends(spare);
    }
}

/// Promotions and demotions last until an operator takes them back, and make no even group unasked.
#[test]
fn seats_given_by_operators_last() {
    let mut w = World::formed(4);
    let (spare, leader) = (w.a_learner(), w.leader().expect("one leads"));
    let said = w.refuses(leader, Kind::Promote { agent: spare, even: false });
    assert!(said.contains("4 voters bear no more failures than 3") && said.contains("--allow-even"), "{said}");
    let done = w.operates(spare, Kind::Promote { agent: spare, even: true }).expect("he insists");
    assert_eq!((done.raft.as_str(), done.voters.len(), done.tolerates), ("voter", 4, 1));
    assert!(!w.operates(spare, Kind::Promote { agent: spare, even: false }).expect("again").changed);
    w.run_to(w.at + 5 * SECOND);
    assert_eq!(w.voters(), 4);
    // The leader itself: another one leads first, and it stays a learner.
    let leader = w.leader().expect("one leads");
    let done = w.operates(leader, Kind::Demote { agent: leader, even: false }).expect("three are left");
    assert_eq!((done.raft.as_str(), done.voters.len(), done.changed), ("learner", 3, true));
    w.run_to(w.at + 5 * SECOND);
    assert!(w.voters() == 3 && !w.votes(leader));
    let other = (0..4).find(|m| w.votes(*m)).expect("a voter");
    let said = w.refuses(other, Kind::Demote { agent: other, even: false });
    assert!(said.contains("2 voters would be left, which bear 0 failures instead of 1"), "{said}");
    w.operates(other, Kind::Demote { agent: other, even: true }).expect("he insists");
    w.run_to(w.at + 5 * SECOND);
    assert_eq!(w.voters(), 2);
    for agent in 0..4 {
        w.operates(0, Kind::Unpin { agent }).expect("the autopilot decides again");
    }
    w.converges(20 * SECOND);
    assert_eq!(w.voters(), 3);
}

/// There are as many voters as the cluster wants, and learners as it takes: an operator does not exceed that.
#[test]
fn a_group_does_not_grow_beyond_its_target() {
    let mut w = World::formed(7);
    assert_eq!(w.voters(), 5);
    let learner = w.a_learner();
    for even in [false, true] {
        let said = w.refuses(0, Kind::Promote { agent: learner, even });
        assert!(said.contains("5 voters are all that this cluster wants"), "{said}");
    }
}

/// The leader loses power in each moment of a removal, a promotion and a demotion: whatever the operator is told is true,
/// asked again it is done, and it was done once.
#[test]
fn what_operators_want_outlives_the_leader() {
    for after_ms in (0..120).step_by(12) {
        let mut w = World::formed(4);
        let (spare, leader) = (w.a_learner(), w.leader().expect("one leads"));
        let voter = (0..4).find(|m| *m != leader && *m != spare).expect("another voter");
        let asked = (0..4).find(|m| ![leader, spare, voter].contains(m)).expect("the third voter");
        let kind = match after_ms / 12 % 3 {
            0 => removal(voter, Some(spare)),
            1 => Kind::Demote { agent: voter, even: false },
            _ => Kind::Promote { agent: spare, even: true },
        };
        let operation = w.ask(None, asked, kind, 6 * SECOND).expect("it is up");
        w.run_to(w.at + after_ms * MS);
        w.act(&Action::Crash { agent: leader, down_us: SECOND });
        w.must("the operator hears", 7 * SECOND, |w| w.is_over(operation));
        w.run_to(w.at + 4 * SECOND);
        let again = w.operates(asked, kind).expect("all are there again");
        match w.end(operation).word() {
            "ok" => assert!(!again.changed, "after {after_ms} ms"),
            "not-applied" => assert!(again.changed, "after {after_ms} ms: {:?}", w.end(operation)),
            word => assert_eq!(word, "unknown", "after {after_ms} ms"),
        }
        match kind {
            Kind::Promote { .. } => assert!(w.voters() == 4 && w.votes(spare)),
            _ => assert!(w.voters() == 3 && w.votes(spare) && !w.votes(voter)),
        }
        w.appends(asked);
    }
}

/// The only voter is removed for a learner, and loses power in each moment of that. What it was dropped by is in the log
/// before its vote is gone, and without its vote nobody can end the change: so it is let in until that is done (seed 501312).
#[test]
fn a_removed_voter_is_let_in_until_it_is_out() {
    for after_ms in (0..72).step_by(4) {
        let mut w = World::formed(2);
        let leader = w.leader().expect("one leads");
        let heir = 1 - leader;
        let remove = w.ask(None, heir, removal(leader, Some(heir)), 3 * SECOND).expect("it is up");
        w.run_to(w.at + after_ms * MS);
        w.act(&Action::Crash { agent: leader, down_us: 4 * SECOND });
        w.must("the operator hears", 4 * SECOND, |w| w.is_over(remove));
        w.run_to(w.at + 8 * SECOND);
        let removed = w.witness.has_departed(w.machines[leader].node.get());
        let again =
            w.operates(heir, removal(leader, Some(heir))).unwrap_or_else(|f| panic!("after {after_ms} ms: {f}"));
        assert_eq!(again.changed, !removed, "after {after_ms} ms");
        assert!(w.voters() == 1 && w.votes(heir));
        w.appends(heir);
    }
}

/// Nobody leads: the operator hears that nothing was done, in time.
#[test]
fn without_a_leader_nothing_is_begun() {
    let mut w = World::formed(3);
    let alone = 0;
    w.act(&Action::Isolate { agent: alone });
    w.run_to(w.at + 3 * SECOND);
    let failure = w.operates(alone, Kind::Drain { agent: 1, undo: false }).expect_err("nobody leads");
    assert_eq!((failure.code, failure.effect), (Code::NoQuorum, crate::api::Effect::NotApplied), "{failure}");
    w.act(&Action::Heal);
    w.converges(20 * SECOND);
}
