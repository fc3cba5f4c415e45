//! Restarts, stops and sick disks: what a core knows after them, and what it says while it knows less than it should.

use std::time::Duration;

use quorate_raft::*;

use crate::cluster::*;

/// D1, D4. The power of all goes at once, at any moment of a busy life, and half of the writes on their way are lost: what was
/// acknowledged is there, term and vote are what they were, and they serve again.
#[test]
fn a_power_cut_of_all_loses_nothing_acked() {
    for moment in 0..60 {
        let mut c = Cluster::of(3).seed(moment);
        let leader = c.elect();
        let mut tickets = Vec::new();
        for _ in 0..moment {
            tickets.push(c.propose(leader));
            c.step(u64::MAX / 2);
        }
        let acked: Vec<_> = tickets.into_iter().filter(|ticket| c.is_committed(*ticket)).collect();
        let all: Vec<_> = c.machines.keys().copied().collect();
        let before: Vec<_> = all.iter().map(|id| c.machines[id].disk.hard_state).collect();
        for &id in &all {
            c.crash(id);
        }
        for (&id, before) in all.iter().zip(before) {
            c.restart(id);
            // What is on the disk is what the next life begins with.
            assert_eq!(c.raft(id).term(), before.term);
            assert_eq!(c.raft(id).last().index.0 as usize, c.machines[&id].disk.log.len());
        }
        c.settle();
        for &id in &all {
            assert!(c.committed(id).starts_with(&acked), "cut at moment {moment}");
        }
    }
}

/// D5. The saved commit index is only a hint: whatever it is, up to the end of the log, the same entries are committed in
/// the end. One beyond the log contradicts the disk, and that is said.
#[test]
fn any_commit_hint_is_tolerated() {
    let mut c = Cluster::of(3);
    let leader = c.elect();
    for _ in 0..6 {
        c.propose(leader);
    }
    c.settle();
    let (victim, last) = (c.others(leader)[0], c.raft(leader).last().index);
    let expected = c.committed(leader);
    for hint in 0..=last.0 {
        c.crash(victim);
        c.restart(victim);
        let (saved, boot) = (c.machines[&victim].disk.saved(LogIndex(hint)), c.machines[&victim].boot);
        let raft = Raft::restore(c.options.clone(), victim, boot, saved, hint, c.clock());
        assert_eq!((raft.halted(), raft.committed()), (None, LogIndex(hint)));
        c.machine(victim).raft = Some(raft);
        c.settle();
        assert_eq!(c.committed(victim), expected);
    }
    let saved = c.machines[&victim].disk.saved(last.next());
    let raft = Raft::restore(c.options.clone(), victim, BootId(99), saved, 1, c.clock());
    assert!(matches!(raft.halted(), Some(Halt::BadSaved(why)) if why.contains("commit")));
}

/// D6. The leader's process is stopped for an hour, with a proposal and a read that it just took; when it goes on it
/// believes for a moment that it leads, whatever its clock says, and does no harm. One election is all that it cost.
#[test]
fn a_leader_stopped_for_an_hour_does_no_harm() {
    const HOUR: Micros = 3_600_000 * MS;
    for clock_stands_still in [true, false] {
        let mut c = Cluster::of(3).seed(6);
        let old = c.elect();
        c.settle();
        let (term, others) = (c.term(old), c.others(old));
        for &other in &others {
            // What peers say meanwhile waits in its sockets.
            c.hold_back(other, old, "vote");
            c.hold_back(other, old, "pre-vote");
            c.hold_back(other, old, "heartbeat");
        }
        let lonely = c.propose(old);
        let read = c.read(old);
        let (stopped_at, asleep) = (c.now, c.machine(old).raft.take());
        c.until("another leads", |c| c.stable_leader().is_some());
        let new = c.elect();
        let acked = c.propose(new);
        c.until("acknowledged", |c| c.is_committed(acked));
        c.run(10_000 * MS);
        assert_eq!((c.leader(), c.term(new)), (Some(new), term + 1));
        let machine = c.machine(old);
        machine.raft = asleep;
        machine.flushing = None;
        assert!(c.raft(old).is_leader());
        let late = c.ticket();
        c.witness.read_issued(late, old);
        let mono = Mono(if clock_stands_still { stopped_at } else { stopped_at + HOUR });
        let raft = c.machine(old).raft.as_mut().expect("awake");
        raft.handle(Now { mono, wall: Wall(-1) }, Input::Read { ticket: late });
        raft.handle(Now { mono, wall: Wall(1) }, Input::Timeout);
        c.drain(old, &[]);
        c.let_go();
        if !clock_stands_still {
            // Its clock is ahead of all others; theirs follow, as if they had been stopped as well.
            c.now = c.now.max(stopped_at + HOUR);
        }
        c.settle();
        assert!(c.term(new) <= term + if clock_stands_still { 1 } else { 2 }, "term {} after {term}", c.term(new));
        for ticket in [read, late] {
            assert!(matches!(c.outcome(ticket), Some(Outcome::Rejected(_))), "{:?}", c.outcome(ticket));
        }
        assert!(c.outcome(lonely).is_some() && c.committed(old).contains(&acked));
    }
}

/// R16. The leader cannot read an entry that a follower needs: it sends nothing in its place, goes on committing with the
/// others, and, told that its log is damaged, hands over to one that can.
#[test]
fn a_leader_that_cannot_read_an_entry_sends_nothing_false_and_hands_over() {
    let mut c = Cluster::of(3);
    let leader = c.elect();
    c.settle();
    let (lagging, heir) = (c.others(leader)[0], c.others(leader)[1]);
    c.isolate(lagging);
    for _ in 0..5 {
        c.propose(leader);
    }
    c.until("committed by two", |c| c.raft(leader).committed() == c.raft(leader).last().index);
    let broken = c.raft(leader).last().index.prev();
    c.unreadable.insert((leader, broken));
    c.heal();
    let ticket = c.propose(leader);
    c.run(2_000 * MS);
    assert!(c.is_committed(ticket) && c.leader() == Some(leader), "the others go on");
    assert!(c.raft(lagging).last().index < broken && c.machines[&lagging].alarms.is_empty());
    c.input(leader, Input::Damaged(vec![(broken, broken)]));
    c.transfer(leader, None);
    c.until("one that can read it leads", |c| c.stable_leader() == Some(heir));
    c.settle();
    assert_eq!(c.committed(lagging), c.committed(heir));
    assert_eq!(c.leader(), Some(heir));
}

/// R16. A write that never ends: the others commit what it led, it counts itself for nothing, and it can still hand over.
#[test]
fn a_leader_whose_writes_never_end_counts_itself_for_nothing() {
    let mut c = Cluster::of(3);
    let leader = c.elect();
    c.settle();
    c.disk_hangs(leader, true);
    let with_both = c.propose(leader);
    c.until("committed by the others", |c| c.is_committed(with_both));
    let others = c.others(leader);
    c.isolate(others[0]);
    let with_one = c.propose(leader);
    c.run(200 * MS);
    assert_eq!(c.outcome(with_one), None, "one disk of three is no majority");
    c.heal();
    c.until("committed", |c| c.is_committed(with_one));
    let handed = c.transfer(leader, None);
    c.until("handed over", |c| c.leader().is_some_and(|new| new != leader));
    c.disk_hangs(leader, false);
    c.settle();
    assert_eq!(c.outcome(handed), Some(Outcome::Committed { position: Position::ZERO }));
}

/// What a disk gave back and contradicts itself makes a halted core that says why.
#[test]
fn a_disk_that_contradicts_itself_halts() {
    let good = Cluster::of(3).machines[&node(1)].disk.saved(LogIndex::ZERO);
    let spoil: [fn(&mut Saved); 10] = [
        |saved| saved.hard_state = HardState { term: Term::ZERO, vote: Some(node(2)) },
        |saved| saved.hard_state.term = Term::ZERO,
        |saved| saved.committed = LogIndex(2),
        |saved| saved.last = LogIndex(0),
        |saved| saved.runs.clear(),
        |saved| saved.runs[0].first = LogIndex(2),
        |saved| saved.runs.push(Run { first: LogIndex(1), term: Term(1) }),
        |saved| saved.start = Position { index: LogIndex(5), term: Term(1) },
        |saved| saved.configurations[0].0 = LogIndex(7),
        |saved| saved.configurations[0].1.voters.clear(),
    ];
    for (i, spoil) in spoil.iter().enumerate() {
        let mut saved = good.clone();
        spoil(&mut saved);
        let mut raft = Raft::restore(Options::default(), node(1), BootId(1), saved, 1, Now::default());
        assert!(matches!(raft.halted(), Some(Halt::BadSaved(_))), "case {i}");
        assert!(matches!(raft.poll_output(), Some(Output::Halted(_))));
        raft.handle(Now::default(), Input::Propose { ticket: Ticket(1), bytes: 1, term: None });
        let outcome = Outcome::Rejected(Reject::Halted);
        assert_eq!(raft.poll_output(), Some(Output::Done { ticket: Ticket(1), outcome }));
    }
    let hasty = Options { heartbeat: Options::default().election_timeout_min, ..Options::default() };
    let raft = Raft::restore(hasty, node(1), BootId(1), good.clone(), 1, Now::default());
    assert!(raft.halted().is_some());
    let raft = Raft::restore(Options::default(), node(1), BootId(1), good, 1, Now::default());
    assert_eq!(raft.halted(), None);
}

/// What is said of it, and how it is spoilt.
type Spoil<T> = (&'static str, fn(&mut T));

/// A log of terms 3 and 5 after a start, as full of edges as can be.
fn on_the_edge() -> Saved {
    let of = |voters: &[u64]| Configuration { voters: set(voters), ..Configuration::default() };
    Saved {
        hard_state: HardState { term: Term(5), vote: Some(node(2)) },
        start: Position { index: LogIndex(10), term: Term(3) },
        runs: vec![Run { first: LogIndex(11), term: Term(3) }, Run { first: LogIndex(14), term: Term(5) }],
        last: LogIndex(14),
        configurations: vec![(LogIndex(1), of(&[1])), (LogIndex(14), of(&[1, 2]))],
        committed: LogIndex(14),
        suspect: Some(Position { index: LogIndex(20), term: Term(5) }),
    }
}

/// Each contradiction is named for what it is, one step past its bound; at the bound all is well.
#[test]
fn each_contradiction_of_a_disk_is_named() {
    let restore = |saved: Saved| Raft::restore(Options::default(), node(1), BootId(1), saved, 1, Now::default());
    assert_eq!(restore(on_the_edge()).halted(), None);
    let empty = |hard_state| Saved { hard_state, ..Saved::default() };
    assert_eq!(restore(empty(HardState::default())).halted(), None);
    assert_eq!(restore(empty(HardState { term: Term(1), vote: Some(node(2)) })).halted(), None);
    let in_no_term = restore(empty(HardState { term: Term::ZERO, vote: Some(node(2)) }));
    assert_eq!(in_no_term.halted(), Some(&Halt::BadSaved("a vote in no term")));
    let spoil: [Spoil<Saved>; 19] = [
        ("the log ends before it starts", |s| s.last = LogIndex(9)),
        ("the start of the log has no term", |s| s.start.term = Term::ZERO),
        ("the start of the log has no term", |s| s.start.index = LogIndex::ZERO),
        ("the log has runs without entries, or entries without runs", |s| s.runs.clear()),
        ("the log has runs without entries, or entries without runs", |s| s.last = LogIndex(10)),
        ("the log has a gap", |s| s.runs[0].first = LogIndex(12)),
        ("the log has a gap", |s| s.runs[0].first = LogIndex(10)),
        ("the log has a gap", |s| s.runs[0].term = Term(2)),
        ("a run lies outside the log", |s| s.runs[1].first = LogIndex(15)),
        ("a run lies outside the log", |s| s.runs[1].term = Term::ZERO),
        ("the terms of the log do not ascend", |s| s.runs[1].term = Term(3)),
        ("the terms of the log do not ascend", |s| s.runs[1].first = LogIndex(11)),
        ("an entry is of a later term than the hard state", |s| s.hard_state.term = Term(4)),
        ("what was lost is of a later term than the hard state", |s| {
            s.suspect = Some(Position { index: LogIndex(20), term: Term(6) });
        }),
        ("the commit index lies beyond the log", |s| s.committed = LogIndex(15)),
        ("a configuration is illegal or lies outside the log", |s| s.configurations[1].0 = LogIndex(15)),
        ("a configuration is illegal or lies outside the log", |s| s.configurations[0].0 = LogIndex::ZERO),
        ("a configuration is illegal or lies outside the log", |s| s.configurations[0].1.voters.clear()),
        ("the configurations do not ascend", |s| s.configurations[0].0 = LogIndex(14)),
    ];
    for (i, (what, spoil)) in spoil.into_iter().enumerate() {
        let mut saved = on_the_edge();
        spoil(&mut saved);
        let raft = restore(saved);
        assert_eq!(raft.halted(), Some(&Halt::BadSaved(what)), "case {i}");
        assert_eq!((raft.poll_timeout(), raft.last(), raft.term()), (None, Position::ZERO, Term::ZERO));
    }
    let options: [Spoil<Options>; 3] = [
        ("the election timeouts are the wrong way round", |o| {
            o.election_timeout_max = o.election_timeout_min - Duration::from_micros(1);
        }),
        ("the heartbeat must be shorter than the election timeout, and not zero", |o| o.heartbeat = Duration::ZERO),
        ("the heartbeat must be shorter than the election timeout, and not zero", |o| {
            o.heartbeat = o.election_timeout_min
        }),
    ];
    for (what, spoil) in options {
        let mut options = Options::default();
        spoil(&mut options);
        let raft = Raft::restore(options, node(1), BootId(1), on_the_edge(), 1, Now::default());
        assert_eq!(raft.halted(), Some(&Halt::BadSaved(what)));
    }
    let equal = Options { election_timeout_max: Options::default().election_timeout_min, ..Options::default() };
    assert_eq!(Raft::restore(equal, node(1), BootId(1), on_the_edge(), 1, Now::default()).halted(), None);
    let lifeless = Raft::restore(Options::default(), node(1), BootId::ZERO, on_the_edge(), 1, Now::default());
    assert!(matches!(lifeless.halted(), Some(Halt::BadSaved(why)) if why.contains("boot id")));
}
