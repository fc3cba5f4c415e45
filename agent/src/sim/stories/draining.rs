//! An operator drains an agent, and nobody who works with the cluster notices.

use crate::api::{Answer, Code, Effect, Failure, Operated};
use crate::node::Reply;
use crate::sim::client::{End, Kind};
use crate::sim::plan::{Action, MS, SECOND, letter};
use crate::sim::world::World;

impl World {
    /// What an operator is told.
    #[track_caller]
    pub(super) fn operates(&mut self, asked: usize, kind: Kind) -> Result<Operated, Failure> {
        let operation = self.ask(None, asked, kind, 8 * SECOND).expect("it is up");
        self.must("the operator hears", 9 * SECOND, |w| w.is_over(operation));
        match self.end(operation) {
            End::Answered(Ok(Reply::Answer(Answer::Operated(operated)))) => Ok(operated.clone()),
            End::Answered(Err(failure)) => Err(failure.clone()),
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    pub(super) fn refuses(&mut self, asked: usize, kind: Kind) -> String {
        let failure = self.operates(asked, kind).expect_err("it is not safe");
        assert_eq!((failure.code, failure.effect), (Code::Refused, Effect::NotApplied), "{failure}");
        format!("{failure}; {}", failure.hint)
    }

    #[track_caller]
    fn drains(&mut self, asked: usize, agent: usize) -> Operated {
        self.operates(asked, Kind::Drain { agent, undo: false }).expect("it can be drained")
    }

    pub(super) fn votes(&self, agent: usize) -> bool {
        self.witness.configuration().is_some_and(|c| c.voters.contains(&self.machines[agent].node))
    }

    pub(super) fn a_learner(&self) -> usize {
        (0..self.machines.len()).find(|m| !self.votes(*m)).expect("somebody learns")
    }
}

const UNDO: fn(usize) -> Kind = |agent| Kind::Drain { agent, undo: true };

/// The leader is drained under load: another one leads, no append fails, its clients are sent on, and it stays drained
/// over a restart until an operator says otherwise. Asked again, nothing changes.
#[test]
fn a_drained_leader_hands_over_and_its_clients_go_on() {
    let mut w = World::formed(3);
    let leader = w.leader().expect("one leads");
    let (next, last) = ((leader + 1) % 3, (leader + 2) % 3);
    let before = w.appends_for(&[0, 1, 2], 20 * MS);
    let drain = w.ask(None, leader, Kind::Drain { agent: leader, undo: false }, 5 * SECOND).expect("it is up");
    let during = w.appends_for(&[next, last], 200 * MS);
    w.must("it is drained", 5 * SECOND, |w| w.is_over(drain));
    let End::Answered(Ok(Reply::Answer(Answer::Operated(done)))) = w.end(drain).clone() else {
        panic!("{:?}", w.end(drain))
    };
    assert_eq!((done.raft.as_str(), done.changed, done.tolerates, done.heir), ("voter", true, 0, None));
    assert!(w.leader().is_some_and(|l| l != leader));
    w.must("all end", 6 * SECOND, |w| before.iter().chain(&during).all(|o| w.is_over(*o)));
    assert!(during.iter().all(|o| w.end(*o).word() == "ok"), "who speaks with the others notices nothing");
    let sent_on = |w: &mut World| {
        let append = w.begin_append(leader, SECOND);
        w.must("it ends", SECOND, |w| w.is_over(append));
        let End::Answered(Err(failure)) = w.end(append) else { panic!("{:?}", w.end(append)) };
        assert_eq!((failure.code, failure.effect), (Code::Unavailable, Effect::NotApplied), "{failure}");
    };
    sent_on(&mut w);
    assert!(!w.drains(next, leader).changed, "again is no error");
    w.act(&Action::Kill { agent: leader, down_us: 300 * MS });
    w.appends(next);
    w.run_to(w.at + 5 * SECOND);
    assert_eq!(w.status(next).expect("it is up").draining, [letter(leader).to_string()]);
    sent_on(&mut w);
    assert!(w.leader().is_some_and(|l| l != leader));
    let done = w.operates(leader, UNDO(leader)).expect("it may serve again");
    assert_eq!((done.changed, done.tolerates), (true, 1));
    assert!(!w.operates(next, UNDO(leader)).expect("again is no error").changed);
    w.run_to(w.at + 500 * MS);
    w.appends(leader);
    w.converges(10 * SECOND);
}

/// A learner that has caught up takes the seat of a drained voter, in one change, and nothing is tolerated less. The
/// drained one is not promoted, whoever dies, until that is taken back.
#[test]
fn a_spare_takes_the_seat_of_a_drained_voter() {
    let mut w = World::formed(4);
    let spare = w.a_learner();
    let leader = w.leader().expect("one leads");
    let drained = (0..4).find(|m| *m != leader && *m != spare).expect("another voter");
    let done = w.drains(spare, drained);
    let heir = Some(letter(spare).to_string());
    assert_eq!((done.raft.as_str(), done.heir, done.tolerates), ("learner", heir, 1));
    assert!(w.voters() == 3 && w.votes(spare) && !w.votes(drained));
    let said = w.refuses(leader, Kind::Promote { agent: drained, even: true });
    assert!(said.contains(&format!("`quorate drain --undo {}` first", letter(drained))), "{said}");
    let other = (0..4).find(|m| ![leader, spare, drained].contains(m)).expect("the third voter");
    w.machines[other].rest_us = None;
    w.operates(leader, Kind::Remove { agent: other, heir: None }).expect("two of two answer");
    w.run_to(w.at + 10 * SECOND);
    assert!(w.voters() == 2 && !w.votes(drained), "a drained learner is not promoted");
    w.appends(leader);
    w.operates(leader, UNDO(drained)).expect("it is back");
    w.must("it votes", 10 * SECOND, |w| w.voters() == 3 && w.votes(drained));
}

/// What would stop if the agent were stopped is not drained, and the operator hears what would be safe. A dead agent may
/// be drained: it is missed already.
#[test]
fn what_would_stop_with_it_is_not_drained() {
    let mut w = World::formed(3);
    let leader = w.leader().expect("one leads");
    let (b, c) = ((leader + 1) % 3, (leader + 2) % 3);
    w.drains(leader, b);
    let said = w.refuses(c, Kind::Drain { agent: c, undo: false });
    assert!(said.contains(&format!("`quorate drain --undo {}` first", letter(b))), "{said}");
    w.operates(leader, UNDO(b)).expect("it is back");
    w.machines[b].rest_us = None;
    w.act(&Action::Kill { agent: b, down_us: 8 * SECOND });
    w.run_to(w.at + SECOND);
    let said = w.refuses(leader, Kind::Drain { agent: c, undo: false });
    assert!(said.contains(&format!("bring {} back", letter(b))), "{said}");
    let done = w.drains(leader, b);
    assert!(!done.present && done.changed);
    w.run_to(w.at + 10 * SECOND);
    assert!(w.status(b).expect("it is up").draining.contains(&letter(b).to_string()), "it came back drained");
    assert_eq!(w.operates(leader, Kind::Drain { agent: 25, undo: false }).expect_err("nobody").code, Code::NotFound);
    let mut alone = World::formed(1);
    let said = alone.refuses(0, Kind::Drain { agent: 0, undo: false });
    assert!(said.contains("the only voter"), "{said}");
    alone.appends(0);
}

/// A voter that is up and has not caught up does not count: if the other one were stopped, all would wait for it. The
/// operator waits, and hears for what if that takes too long.
#[test]
fn a_voter_that_lags_is_waited_for() {
    let mut w = World::formed(3);
    let leader = w.leader().expect("one leads");
    let (lags, other) = ((leader + 1) % 3, (leader + 2) % 3);
    w.act(&Action::SlowDisk { agent: lags, sync_us: 20 * SECOND, for_us: 20 * SECOND });
    for _ in 0..100 {
        w.appends(leader);
    }
    let drain = w.ask(None, leader, Kind::Drain { agent: other, undo: false }, SECOND).expect("it is up");
    w.must("the operator hears", 2 * SECOND, |w| w.is_over(drain));
    let End::Answered(Err(failure)) = w.end(drain) else { panic!("{:?}", w.end(drain)) };
    assert_eq!((failure.code, failure.effect), (Code::Late, Effect::NotApplied), "{failure}");
    assert!(failure.what.starts_with(&format!("still waiting for {} to catch up (", letter(lags))), "{failure}");
    let drain = w.ask(None, leader, Kind::Drain { agent: other, undo: false }, 40 * SECOND).expect("it is up");
    w.must("it is drained", 40 * SECOND, |w| w.is_over(drain));
    assert_eq!(w.end(drain).word(), "ok");
}

/// A drained agent does not lead as long as anybody else could, and does when nobody else can: the other one that is up
/// lacks what was acknowledged.
#[test]
fn a_drained_agent_leads_only_if_nobody_else_can() {
    let mut w = World::formed(3);
    let leader = w.leader().expect("one leads");
    let (drained, third) = ((leader + 1) % 3, (leader + 2) % 3);
    w.drains(leader, drained);
    for _ in 0..3 {
        let leads = w.leader().expect("one leads");
        w.act(&Action::Kill { agent: leads, down_us: 2 * SECOND });
        w.must("another one leads", 4 * SECOND, |w| w.leader().is_some_and(|l| l != leads));
        assert_ne!(w.leader(), Some(drained), "somebody else could");
        w.run_to(w.at + 4 * SECOND);
    }
    let leads = w.leader().expect("one leads");
    let lacking = if leads == leader { third } else { leader };
    w.act(&Action::Kill { agent: lacking, down_us: 4 * SECOND });
    w.run_to(w.at + 500 * MS);
    w.appends(leads);
    w.act(&Action::Kill { agent: leads, down_us: 60 * SECOND });
    w.must("the drained one leads", 12 * SECOND, |w| w.leader() == Some(drained));
    w.appends(lacking);
}

/// The leader dies in each moment of a drain that was asked through another agent: the operator is told that it is done,
/// or asks again and is; and the drained agent does not lead.
#[test]
fn a_drain_outlives_the_leader_that_began_it() {
    for after_ms in (0..160).step_by(16) {
        let mut w = World::formed(3);
        let leader = w.leader().expect("one leads");
        let (drained, asked) = ((leader + 1) % 3, (leader + 2) % 3);
        let drain = w.ask(None, asked, Kind::Drain { agent: drained, undo: false }, 6 * SECOND).expect("it is up");
        w.run_to(w.at + after_ms * MS);
        w.act(&Action::Crash { agent: leader, down_us: 2 * SECOND });
        w.must("the operator hears", 7 * SECOND, |w| w.is_over(drain));
        let refused = match w.end(drain) {
            End::Answered(Ok(_)) => false,
            // The leader is down, so the cluster would stop with the drained one.
            End::Answered(Err(failure)) => {
                assert_eq!(failure.code, Code::Refused, "after {after_ms} ms: {failure}");
                true
            }
            End::Died => panic!("it lives"),
        };
        w.run_to(w.at + 4 * SECOND);
        w.converges_but_for_operators(20 * SECOND);
        assert_eq!(w.drains(asked, drained).changed, refused, "after {after_ms} ms");
        assert_ne!(w.leader(), Some(drained));
        w.operates(asked, UNDO(drained)).expect("it is back");
        w.converges(20 * SECOND);
    }
}

impl World {
    /// One leader whom all know.
    #[track_caller]
    fn converges_but_for_operators(&mut self, within: u64) {
        self.must("all know one leader", within, |w| {
            let Some(leader) = w.leader().map(|l| letter(l).to_string()) else { return false };
            (0..w.machines.len()).all(|m| w.status(m).is_some_and(|s| s.leader.as_ref() == Some(&leader)))
        });
    }
}
