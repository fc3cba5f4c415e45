//! Hostile input: what no honest peer and no sound disk would say changes nothing, and never panics.

use quorate_raft::*;

use crate::cluster::*;
use crate::machine::*;

/// Entries other than those announced are refused, and the honest ones still pass.
#[test]
fn entries_that_were_not_announced_are_refused() {
    let spoil: [fn(&mut Packet); 6] = [
        |packet| packet.entries.clear(),
        |packet| packet.entries[0].position.index = LogIndex(99),
        |packet| packet.entries[0].position.term = Term(99),
        |packet| packet.entries[0].position.term = Term::ZERO,
        |packet| packet.entries.push(packet.entries[0].clone()),
        |packet| packet.entries[0].kind = EntryKind::Configuration(Configuration::default()),
    ];
    for spoil in spoil {
        let mut c = Cluster::of(3);
        let leader = c.elect();
        c.settle();
        let follower = c.others(leader)[0];
        c.hold_back(leader, follower, "append");
        let ticket = c.propose(leader);
        let mut packet = c.captured.pop().expect("an append");
        c.capture.clear();
        let last = c.raft(follower).last();
        spoil(&mut packet);
        c.deliver(packet);
        assert_eq!(c.machines[&follower].alarms.len(), 1);
        assert_eq!(c.raft(follower).last(), last);
        c.settle();
        assert!(c.is_committed(ticket));
    }
}

/// Entries beside a message that announces none are refused.
#[test]
fn entries_beside_a_heartbeat_are_refused() {
    let mut c = Cluster::of(3);
    let leader = c.elect();
    c.settle();
    let follower = c.others(leader)[0];
    c.hold_back(leader, follower, "heartbeat");
    c.run(60 * MS);
    let mut packet = c.captured.pop().expect("a heartbeat");
    let position = Position { index: c.raft(follower).last().index.next(), term: c.raft(follower).term() };
    packet.entries.push(EntryShape { position, kind: EntryKind::Normal, bytes: 1 });
    c.deliver(packet);
    assert_eq!(c.machines[&follower].alarms.len(), 1);
}

/// A message that comes under another's name, or under one's own, cannot steal a vote or an ack.
#[test]
fn a_message_under_a_false_name_counts_for_nothing() {
    let mut c = Cluster::of(5);
    let leader = c.elect();
    c.settle();
    let (follower, liar) = (c.others(leader)[0], c.others(leader)[1]);
    c.hold_back(leader, follower, "heartbeat");
    c.run(60 * MS);
    let mut packet = c.captured.pop().expect("a heartbeat");
    packet.from = follower;
    let clock = Now { mono: Mono(c.now), wall: Wall(0) };
    let input = Input::Message { from: follower, message: packet.message.clone(), entries: vec![] };
    c.machine(follower).raft.as_mut().expect("it runs").handle(clock, input);
    let input = Input::Message { from: liar, message: packet.message, entries: vec![] };
    c.input(follower, input);
    assert!(!c.machines[&follower].alarms.is_empty());
    assert_eq!(c.raft(follower).leader(), Some(leader));
}

/// The contract of `Persisted`: only what was asked for, in order, once. Else this node's Raft stops.
#[test]
fn a_storage_that_breaks_its_contract_halts() {
    for lie in [PersistTicket(99), PersistTicket(0)] {
        let mut c = Cluster::of(1);
        let one = c.elect();
        let waits = c.read(one);
        c.input(one, Input::Persisted { ticket: lie });
        assert_eq!(c.machines[&one].halted, Some(Halt::StorageContract));
        assert_eq!(c.raft(one).status().halted, Some(Halt::StorageContract));
        assert_eq!(c.raft(one).poll_timeout(), None);
        assert!(c.outcome(waits).is_some());
        let read = c.read(one);
        assert_eq!(c.outcome(read), Some(Outcome::Rejected(Reject::Halted)));
    }
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

/// A fresh node is passive: it waits for a leader to speak, however long, and founds only when told, and only once.
#[test]
fn a_fresh_node_waits() {
    let mut c = Cluster::empty();
    let one = c.add(1);
    c.run(60_000 * MS);
    assert_eq!((c.raft(one).poll_timeout(), c.raft(one).last(), c.term(one)), (None, Position::ZERO, 0));
    c.found(one);
    assert_eq!(c.elect(), one);
    let last = c.raft(one).last();
    c.found(one);
    assert_eq!((c.raft(one).last(), c.machines[&one].alarms.len()), (last, 1));
}

/// A proposal fenced to another term is refused; bounds on what waits hold, and one past them is refused.
#[test]
fn fences_and_bounds_hold() {
    let mut c = Cluster::of(3);
    c.options.proposals_max = 5;
    c.options.reads_max = 4;
    c = c.seed(1);
    let leader = c.elect();
    c.settle();
    let wrong = c.ticket();
    c.witness.issued(wrong, leader);
    c.input(leader, Input::Propose { ticket: wrong, bytes: 1, term: Some(Term(1)) });
    assert_eq!(c.outcome(wrong), Some(Outcome::Rejected(Reject::WrongTerm)));
    c.isolate(leader);
    let proposals: Vec<_> = (0..6).map(|_| c.propose(leader)).collect();
    assert!(proposals[..5].iter().all(|ticket| c.outcome(*ticket).is_none()));
    assert_eq!(c.outcome(proposals[5]), Some(Outcome::Rejected(Reject::Overloaded)));
    let reads: Vec<_> = (0..5).map(|_| c.read(leader)).collect();
    assert!(reads[..4].iter().all(|ticket| c.outcome(*ticket).is_none()));
    assert_eq!(c.outcome(reads[4]), Some(Outcome::Rejected(Reject::Overloaded)));
    let follower = c.others(leader)[0];
    let refused = c.propose(follower);
    assert_eq!(c.outcome(refused), Some(Outcome::Rejected(Reject::NotLeader { leader: Some(leader) })));
}
