//! Leadership goes from one agent to another on purpose, and who appends meanwhile does not notice.

use super::plan;
use crate::api::{Answer, Code, Effect, Transferred};
use crate::node::{Input, Reply};
use crate::sim::client::{End, Kind};
use crate::sim::plan::{Action, MS, Plan, SECOND};
use crate::sim::world::World;
use quorate_raft::LogIndex;
use quorate_raft::wal::DamagedRange;

/// Three voters and a learner.
fn with_a_learner() -> World {
    let w = World::formed(4);
    assert_eq!(w.voters(), 3);
    w
}

impl World {
    #[track_caller]
    fn transfers(&mut self, asked: usize, to: Option<usize>) -> Result<Transferred, (Code, Effect)> {
        let operation = self.ask(None, asked, Kind::Transfer { to }, 5 * SECOND).expect("it is up");
        self.must("a transfer ends", 6 * SECOND, |w| w.is_over(operation));
        match self.end(operation) {
            End::Answered(Ok(Reply::Answer(Answer::Transferred(transferred)))) => Ok(transferred.clone()),
            End::Answered(Err(failure)) => Err((failure.code, failure.effect)),
            other => panic!("{other:?}"),
        }
    }

    /// An append each millisecond or two, through every agent in turn.
    pub(super) fn appends_for(&mut self, agents: &[usize], us: u64) -> Vec<usize> {
        let until = self.at + us;
        let mut operations = Vec::new();
        while self.at < until {
            for &agent in agents {
                if self.machines[agent].is_up() {
                    operations.push(self.begin_append(agent, 5 * SECOND));
                }
                self.run_to(self.at + MS);
            }
        }
        operations
    }

    fn is_voter(&self, agent: usize) -> bool {
        self.witness.configuration().is_some_and(|c| c.voters.contains(&self.machines[agent].node))
    }

    pub(super) fn problems_of(&mut self, agent: usize) -> String {
        self.status(agent).map(|s| s.problems.join("; ")).unwrap_or_default()
    }

    /// The newest time in the log of this agent, less the true one, in microseconds.
    fn log_ahead_us(&self, agent: usize) -> i64 {
        let ordered = self.machines[agent].process.as_ref().map(|p| &p.ordered).expect("it is up");
        let true_time = self.machines[agent].clock(self.at).wall.0 - self.machines[agent].wall_us;
        ordered.last().expect("there is an entry").header().time.0 - true_time
    }
}

/// Asked through any agent, leadership goes where it was sent, and every append in the middle of it is acked.
#[test]
fn appends_do_not_notice_a_transfer() {
    let mut w = with_a_learner();
    for asked in 0..4 {
        let old = w.leader().expect("one leads");
        let to = (0..4).find(|a| *a != old && w.is_voter(*a)).expect("another voter");
        let named = if asked % 2 == 0 { Some(to) } else { None };
        let appends = w.appends_for(&[0, 1, 2, 3], 20 * MS);
        let transferred = w.transfers(asked, named).expect("it is healthy");
        let new = w.leader().expect("one leads");
        assert!(new != old && named.is_none_or(|to| new == to));
        assert_eq!((transferred.from, transferred.to), (w.machines[old].name.clone(), w.machines[new].name.clone()));
        assert!(transferred.ms < 100, "{} ms", transferred.ms);
        w.must("all end", 6 * SECOND, |w| appends.iter().all(|o| w.is_over(*o)));
        assert!(appends.iter().all(|o| w.end(*o).word() == "ok"));
        w.run_to(w.at + SECOND);
        assert_eq!(w.leader(), Some(new), "nobody takes it back");
    }
}

/// A leader that gets nothing out is deposed and lives: it says so, and those that forwarded to it wait for its answer though
/// another one leads. It learns late what became of its log; then it answers, and no append ends unknown.
#[test]
fn a_leader_that_is_deposed_and_lives_answers_what_it_was_sent() {
    let mut w = World::formed(3);
    let old = w.leader().expect("one leads");
    let others = [(old + 1) % 3, (old + 2) % 3];
    w.act(&Action::Mute { agent: old });
    let appends: Vec<usize> = others.iter().map(|other| w.begin_append(*other, 5 * SECOND)).collect();
    w.must("another one leads", 3 * SECOND, |w| w.leader().is_some_and(|leader| leader != old));
    let new = w.leader().expect("one leads");
    w.act(&Action::Heal);
    w.act(&Action::Cut { from: new, to: old });
    w.run_to(w.at + 400 * MS);
    assert!(w.machines[old].is_up());
    w.act(&Action::Heal);
    w.must("all end", 6 * SECOND, |w| appends.iter().all(|o| w.is_over(*o)));
    assert!(
        appends.iter().all(|o| w.end(*o).word() == "ok"),
        "{:?}",
        appends.iter().map(|o| w.end(*o)).collect::<Vec<_>>()
    );
}

/// What cannot be is refused at once, and changes nothing: a stranger, a learner, a dead voter; who leads already is told
/// so.
#[test]
fn an_heir_that_cannot_lead_is_refused() {
    let mut w = with_a_learner();
    let leader = w.leader().expect("one leads");
    let learner = (0..4).find(|a| !w.is_voter(*a)).expect("one learns");
    let dead = (0..4).find(|a| ![leader, learner].contains(a)).expect("a voter");
    for asked in [leader, learner] {
        let same = w.transfers(asked, Some(leader)).expect("it leads already");
        assert_eq!((&same.from, same.ms), (&same.to, 0));
        assert_eq!(w.transfers(asked, Some(25)), Err((Code::NotFound, Effect::NotApplied)));
        assert_eq!(w.transfers(asked, Some(learner)), Err((Code::Refused, Effect::NotApplied)));
    }
    w.machines[dead].rest_us = None;
    w.act(&Action::Kill { agent: dead, down_us: 60 * SECOND });
    w.run_to(w.at + SECOND);
    assert_eq!(w.transfers(leader, Some(dead)), Err((Code::Refused, Effect::NotApplied)));
    assert_eq!(w.leader(), Some(leader));
    w.transfers(learner, None).expect("the other voter is well");
}

/// The heir stops in the middle: an election timeout later the old leader serves again, and says that the heir may still
/// win.
#[test]
fn a_transfer_that_does_not_end_is_given_up() {
    let mut w = World::formed(3);
    let leader = w.leader().expect("one leads");
    let heir = (leader + 1) % 3;
    w.act(&Action::Pause { agent: heir, for_us: 3 * SECOND });
    let operation = w.ask(None, leader, Kind::Transfer { to: Some(heir) }, 5 * SECOND).expect("it is up");
    w.run_to(w.at + 50 * MS);
    let append = w.begin_append(leader, 5 * SECOND);
    w.must("it is given up", SECOND, |w| w.is_over(operation));
    let End::Answered(Err(failure)) = w.end(operation) else { panic!("{:?}", w.end(operation)) };
    assert_eq!((failure.code, failure.effect), (Code::Refused, Effect::Unknown), "{failure}");
    w.must("the append that waited is acked", SECOND, |w| w.is_over(append));
    assert_eq!(w.end(append).word(), "ok");
    w.appends(leader);
    w.run_to(w.at + 4 * SECOND);
    w.converges(20 * SECOND);
}

/// One handover at a time: who asks for another one meanwhile, to whomever, is told so; who asked first hears how it ends.
#[test]
fn a_second_transfer_does_not_silence_the_first() {
    let mut w = World::formed(3);
    let leader = w.leader().expect("one leads");
    let heir = (leader + 1) % 3;
    w.act(&Action::Pause { agent: heir, for_us: 3 * SECOND });
    let first = w.ask(None, leader, Kind::Transfer { to: Some(heir) }, 5 * SECOND).expect("it is up");
    for to in [None, Some(leader), Some(heir), Some((leader + 2) % 3)] {
        assert_eq!(w.transfers(leader, to), Err((Code::Busy, Effect::NotApplied)), "{to:?}");
    }
    assert!(!w.is_over(first), "{:?}", w.end(first));
    w.must("it is given up", SECOND, |w| w.is_over(first));
    let End::Answered(Err(failure)) = w.end(first) else { panic!("{:?}", w.end(first)) };
    assert_eq!(failure.code, Code::Refused, "{failure}");
    w.transfers(leader, None).expect("the third one is well");
}

/// A leader that is told to stop hands over, answers what it has in hand and sends its clients away: no append is left
/// without an answer. A sole voter stops as well.
#[test]
fn a_leader_that_stops_leaves_no_append_unanswered() {
    for seed in 0..5 {
        let mut w = World::formed(3);
        w.machines.iter_mut().for_each(|m| m.rest_us = None);
        let leader = w.leader().expect("one leads");
        let mut appends = w.appends_for(&[0, 1, 2], (10 + seed) * MS);
        let told = w.at;
        w.inbox.push_back((leader, Input::Stop));
        appends.extend(w.appends_for(&[0, 1, 2], 40 * MS));
        w.must("it stops", SECOND, |w| !w.machines[leader].is_up());
        assert!(w.at - told < 600 * MS, "{} us", w.at - told);
        appends.extend(w.appends_for(&[(leader + 1) % 3, (leader + 2) % 3], 20 * MS));
        w.must("all end", 6 * SECOND, |w| appends.iter().all(|o| w.is_over(*o)));
        for operation in &appends {
            // What came after the word was refused unread; everything else is acked.
            let word = w.end(*operation).word();
            let refused = word == "not-applied" && w.operations[*operation].machine == leader;
            assert!(word == "ok" || refused, "seed {seed}: {:?}", w.end(*operation));
        }
        assert!(w.counters.get("stopped") == 1);
    }
    let mut alone = World::formed(1);
    alone.inbox.push_back((0, Input::Stop));
    alone.appends_for(&[0], 10 * MS);
    alone.must("it stops", SECOND, |w| w.counters.get("stopped") == 1);
}

/// The leader that leaves hands over first: nobody has to elect, and appends through the others go on.
#[test]
fn a_leader_that_leaves_hands_over_first() {
    let mut w = World::formed(3);
    w.machines.iter_mut().for_each(|m| m.rest_us = None);
    let leader = w.leader().expect("one leads");
    let others = [(leader + 1) % 3, (leader + 2) % 3];
    let leave = w.ask(None, leader, Kind::Leave, 10 * SECOND).expect("it is up");
    let appends = w.appends_for(&others, 100 * MS);
    w.must("it has left", 12 * SECOND, |w| w.machines[leader].departed);
    assert_eq!((w.end(leave).word(), w.voters()), ("ok", 2));
    w.must("all end", 6 * SECOND, |w| appends.iter().all(|o| w.is_over(*o)));
    assert!(appends.iter().all(|o| w.end(*o).word() == "ok"));
}

/// A leader's clock jumps 74 years ahead: the log's time stays with the others', a healthy voter leads a second later,
/// and the sick one is not elected back, not even when the healthy leader dies (D6).
#[test]
fn a_leader_with_a_jumped_clock_hands_over_for_good() {
    for by_us in [74 * 31_557_600 * SECOND as i64, -31 * SECOND as i64] {
        let mut w = World::formed(3);
        let sick = w.leader().expect("one leads");
        w.act(&Action::Clock { agent: sick, by_us });
        let appends = w.appends_for(&[0, 1, 2], 200 * MS);
        assert!(w.log_ahead_us(sick) < 2 * SECOND as i64, "{} us", w.log_ahead_us(sick));
        w.must("another one leads", 3 * SECOND, |w| w.leader().is_some_and(|l| l != sick));
        w.must("all end", 6 * SECOND, |w| appends.iter().all(|o| w.is_over(*o)));
        assert!(appends.iter().all(|o| w.end(*o).word() == "ok"));
        let new = w.leader().expect("one leads");
        w.run_to(w.at + 20 * SECOND);
        assert_eq!(w.leader(), Some(new), "no ping-pong");
        w.appends(sick);
        assert!(w.log_ahead_us(new).abs() < 2 * SECOND as i64, "{} us", w.log_ahead_us(new));
        assert!(w.problems_of(sick).contains("the clock of this agent is"), "{}", w.problems_of(sick));
        assert!(w.problems_of(new).contains("the clock of"), "{}", w.problems_of(new));
        assert_eq!(w.transfers(new, Some(sick)), Err((Code::Refused, Effect::NotApplied)));
        w.act(&Action::Kill { agent: new, down_us: 5 * SECOND });
        w.must("a healthy one leads", 3 * SECOND, |w| w.leader().is_some_and(|l| l != sick && l != new));
        // Set right, it may lead as any other.
        w.act(&Action::Clock { agent: sick, by_us: -by_us });
        w.run_to(w.at + 10 * SECOND);
        w.converges(20 * SECOND);
        w.transfers(sick, Some(sick)).expect("its clock is well");
        assert!(w.problems_of(sick).is_empty(), "{}", w.problems_of(sick));
    }
}

/// A leader's clock jumps, and all its connections break with it: for as long as it still leads it hears no clock but its
/// own, and that one does not lead the log's time astray.
#[test]
fn a_leader_that_hears_no_clock_does_not_set_the_time() {
    let mut w = World::formed(3);
    let sick = w.leader().expect("one leads");
    w.appends(sick);
    w.act(&Action::Clock { agent: sick, by_us: 44 * SECOND as i64 });
    w.act(&Action::Reset { agent: sick });
    let ordered = |w: &World| w.machines[sick].process.as_ref().map_or(0, |p| p.ordered.len());
    let before = ordered(&w);
    let append = w.begin_append(sick, 5 * SECOND);
    w.must("it is stamped", SECOND, |w| ordered(w) > before);
    assert!(w.log_ahead_us(sick) < 2 * SECOND as i64, "{} us", w.log_ahead_us(sick));
    w.must("it ends", 6 * SECOND, |w| w.is_over(append));
    w.run_to(w.at + 10 * SECOND);
    w.converges(20 * SECOND);
    let new = w.leader().expect("one leads");
    // The log may have rested for a while.
    w.appends(new);
    assert!(new != sick && w.log_ahead_us(new).abs() < 2 * SECOND as i64, "{} us", w.log_ahead_us(new));
}

/// Every clock is far from every other: whoever is in the middle leads, and leads on; of two agents the slower one does.
#[test]
fn where_every_clock_is_off_leadership_rests() {
    for offsets in [vec![0, 20, -20], vec![20, 0, -20], vec![-20, 20, 0], vec![-40, 20, 60]] {
        let mut off = plan(3);
        for (agent, seconds) in off.agents.iter_mut().zip(&offsets) {
            agent.wall_us = seconds * SECOND as i64;
        }
        let mut w = World::new(off);
        w.converges(20 * SECOND);
        w.run_to(w.at + 5 * SECOND);
        let mut sorted = offsets.clone();
        sorted.sort_unstable();
        let middle = offsets.iter().position(|o| *o == sorted[1]);
        assert_eq!(w.leader(), middle, "{offsets:?}");
        let term = w.status(0).expect("it is up").term;
        w.run_to(w.at + 20 * SECOND);
        assert_eq!((w.leader(), w.status(0).expect("it is up").term), (middle, term), "{offsets:?}");
        w.appends(0);
    }
}

/// The leader's disk hangs: the others go on committing without it, one of them leads soon, and the sick one comes back as
/// a follower (R16).
#[test]
fn a_leader_with_a_hanging_disk_hands_over() {
    let mut w = World::formed(3);
    let sick = w.leader().expect("one leads");
    w.act(&Action::SlowDisk { agent: sick, sync_us: 8 * SECOND, for_us: 8 * SECOND });
    let appends = w.appends_for(&[0, 1, 2], 300 * MS);
    w.must("another one leads", 2 * SECOND, |w| w.leader().is_some_and(|l| l != sick));
    w.must("all end", 6 * SECOND, |w| appends.iter().all(|o| w.is_over(*o)));
    assert!(appends.iter().all(|o| w.end(*o).word() == "ok"));
    assert!(w.problems_of(sick).contains("has not confirmed a write"), "{}", w.problems_of(sick));
    let new = w.leader().expect("one leads");
    w.appends(new);
    w.run_to(w.at + 10 * SECOND);
    w.converges(20 * SECOND);
    assert_eq!(w.leader(), Some(new));
    assert!(w.problems_of(sick).is_empty(), "{}", w.problems_of(sick));
}

/// A leader that must hand over knows that an heir cannot read its log only while that asks it for entries. Such an heir is
/// asked in vain once, not again and again: then the other one is.
#[test]
fn who_did_not_take_over_is_asked_after_the_others() {
    for seed in 0..12 {
        let mut w = World::new(Plan { seed, ..plan(3) });
        w.converges(15 * SECOND);
        w.fill(0, 5);
        w.run_to(w.at + SECOND);
        let sick = w.leader().expect("one leads");
        let unable = (sick + 1 + seed as usize % 2) % 3;
        // It says so, and nothing that it is given makes it whole: it asks every second, then less and less often.
        let (file, what) = ("1.wal".to_owned(), "as it were".to_owned());
        let range = DamagedRange { file, at: 0, what, first: LogIndex(2), last: LogIndex(2) };
        w.feed(unable, Input::Damaged { ranges: vec![range] });
        w.run_to(w.at + 26 * SECOND);
        assert_eq!(w.leader(), Some(sick));
        w.act(&Action::Clock { agent: sick, by_us: 31 * SECOND as i64 });
        // Its clock is off for a second, one try takes half of one, and the next one comes a second later.
        w.must("another one leads", 4 * SECOND, |w| w.leader().is_some_and(|l| l != sick));
        assert_eq!(w.leader(), Some(3 - sick - unable), "who can");
    }
}

/// All disks are slow alike: nobody is better, so nobody hands over.
#[test]
fn equally_slow_disks_move_nobody() {
    let mut w = World::formed(3);
    let leader = w.leader().expect("one leads");
    for agent in 0..3 {
        w.act(&Action::SlowDisk { agent, sync_us: 700 * MS, for_us: 20 * SECOND });
    }
    let term = w.status(leader).expect("it is up").term;
    for _ in 0..3 {
        w.appends_for(&[0, 1, 2], 2 * SECOND);
    }
    assert_eq!((w.leader(), w.status(leader).expect("it is up").term), (Some(leader), term));
}
