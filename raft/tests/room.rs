//! Room: disks that are nearly full, that have no room at all, and that hang under a leader.

use quorate_raft::*;

use crate::cluster::*;

/// A follower without room takes no record, votes, confirms reads, and costs its leader next to nothing; with room again
/// it has everything at once.
#[test]
fn a_follower_without_room_takes_no_entries_and_stays_a_member() {
    let mut c = Cluster::of(3);
    let leader = c.elect();
    c.settle();
    let (full, other) = (c.others(leader)[0], c.others(leader)[1]);
    c.input(full, Input::Room(false));
    c.until("the leader knows", |c| c.raft(leader).status().peers[&full].full);
    let (last, term) = (c.raft(full).last(), c.term(leader));
    let sent = c.sent("append");
    for _ in 0..20 {
        // Too large to be taken for a configuration.
        let ticket = c.propose_bytes(leader, 100_000);
        c.run(20 * MS);
        assert!(c.is_committed(ticket));
    }
    assert_eq!(c.raft(full).last(), last);
    assert!(c.sent("append") - sent <= 20, "only the other one is sent any: {}", c.sent("append") - sent);
    c.run(2_000 * MS);
    assert_eq!((c.leader(), c.term(leader)), (Some(leader), term), "it hears its leader all the time");
    // It answers for the quorum of a read, and would vote.
    c.crash(other);
    let read = c.read(leader);
    c.until("the read is confirmed", |c| c.outcome(read).is_some());
    assert!(matches!(c.outcome(read), Some(Outcome::Committed { .. })));
    c.restart(other);
    c.input(full, Input::Room(true));
    let end = c.raft(leader).last();
    c.until("it has all", |c| c.raft(full).last() == end);
    assert!(!c.raft(leader).status().peers[&full].full);
    c.settle();
}

/// No disk has room: the leader dies, another one is elected, and its no-op is committed, so that it can confirm reads. A
/// record that was on its way stays where it is until there is room.
#[test]
fn without_room_anywhere_leaders_still_change_and_confirm_reads() {
    for seed in 0..10 {
        let mut c = Cluster::of(3).seed(seed);
        let leader = c.elect();
        c.settle();
        for id in [1, 2, 3] {
            c.input(node(id), Input::Room(false));
        }
        c.run(200 * MS);
        let stuck = c.propose(leader);
        c.run(500 * MS);
        assert!(!c.is_committed(stuck), "nobody takes it");
        c.crash(leader);
        c.until("another leader", |c| c.stable_leader().is_some_and(|l| l != leader));
        let new = c.stable_leader().expect("just seen");
        let read = c.read(new);
        c.until("the read is confirmed", |c| c.outcome(read).is_some());
        assert!(matches!(c.outcome(read), Some(Outcome::Committed { .. })));
        c.restart(leader);
        for id in [1, 2, 3] {
            c.input(node(id), Input::Room(true));
        }
        let ticket = c.propose(new);
        c.until("committed", |c| c.is_committed(ticket));
        c.settle();
    }
}

/// A vote does not queue behind entries that wait for room; and after a crash the disk holds the vote without the entries,
/// which promises nothing that was not meant.
#[test]
fn a_vote_overtakes_entries_that_wait_for_room() {
    for seed in 0..20 {
        let mut c = Cluster::of(3).seed(seed);
        let leader = c.elect();
        c.settle();
        let (stuck, other) = (c.others(leader)[0], c.others(leader)[1]);
        c.disk_hangs(stuck, true);
        let tickets: Vec<_> = (0..5).map(|_| c.propose(leader)).collect();
        c.until("committed without it", |c| tickets.iter().all(|t| c.is_committed(*t)));
        c.run(100 * MS);
        assert!(c.raft(stuck).last().index > c.raft(stuck).status().durable);
        c.crash(leader);
        c.run(3_000 * MS);
        assert!(c.stable_leader().is_none(), "no vote without a durable one");
        // Whenever a write waits, what it says of term and vote does not.
        for _ in 0..200 {
            c.run(10 * MS);
            c.hard_states_overtake(stuck);
        }
        assert_eq!(c.leader(), Some(other), "it voted, and could not stand itself");
        let durable = c.raft(stuck).status().durable;
        let hard_state = c.machines[&stuck].disk.hard_state;
        assert_eq!(hard_state.term, c.raft(other).term());
        if seed % 2 == 0 {
            c.crash(stuck);
            c.restart(stuck);
            assert_eq!(c.raft(stuck).last().index, durable);
        } else {
            c.disk_hangs(stuck, false);
        }
        let ticket = c.propose(other);
        c.until("committed", |c| c.is_committed(ticket));
        c.restart(leader);
        c.settle();
    }
}

/// A leader told to step down does, though nobody could be asked to follow it; the others elect, and it follows.
#[test]
fn a_leader_steps_down_without_an_heir() {
    for seed in 0..10 {
        let mut c = Cluster::of(3).seed(seed);
        let leader = c.elect();
        c.settle();
        c.disk_hangs(leader, true);
        let ticket = c.propose(leader);
        c.until("committed by the others", |c| c.is_committed(ticket));
        c.input(leader, Input::Reluctant(true));
        c.input(leader, Input::StepDown);
        assert!(!c.raft(leader).is_leader());
        let at = c.now;
        c.until("another leader", |c| c.stable_leader().is_some_and(|l| l != leader));
        assert!(c.now - at < 1_500 * MS, "it took {} us", c.now - at);
        c.disk_hangs(leader, false);
        c.settle();
        assert_ne!(c.leader(), Some(leader));
    }
}

/// What this node's own disk owes waits in memory even if others have committed it: it is bounded like all that waits.
#[test]
fn a_leader_takes_no_more_than_its_own_disk_may_owe() {
    let mut c = Cluster::of(3);
    c.options.uncommitted_bytes_max = 10_000;
    c = c.seed(1);
    let leader = c.elect();
    c.settle();
    c.disk_hangs(leader, true);
    let mut taken = 0;
    for _ in 0..50 {
        let ticket = c.propose_bytes(leader, 1_000);
        c.run(20 * MS);
        taken += u32::from(c.is_committed(ticket));
    }
    assert_eq!(taken, 10);
    c.disk_hangs(leader, false);
    c.settle();
    let ticket = c.propose_bytes(leader, 1_000);
    c.until("committed", |c| c.is_committed(ticket));
}

/// Nobody can vote for a node whose disk owes a part of its log, so it does not stand: terms rest until it could.
#[test]
fn who_cannot_ask_for_votes_moves_no_term() {
    let mut c = Cluster::of(3);
    let leader = c.elect();
    c.settle();
    let stuck = c.others(leader)[0];
    c.disk_hangs(stuck, true);
    let ticket = c.propose(leader);
    c.until("committed", |c| c.is_committed(ticket));
    c.run(50 * MS);
    c.isolate(stuck);
    let term = c.raft(stuck).term();
    c.run(5_000 * MS);
    assert_eq!(c.raft(stuck).term(), term);
    c.heal();
    c.disk_hangs(stuck, false);
    c.settle();
    assert_eq!(c.leader(), Some(leader));
}
