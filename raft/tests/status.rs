//! The picture that a core gives of itself: what people, metrics and the autopilot decide by.

use crate::cluster::*;

/// Only a leader whose own entry is committed knows what is committed at all.
#[test]
fn own_term_committed_is_said_by_such_a_leader_only() {
    let mut c = Cluster::of(3);
    c.censored.insert("append-reply");
    c.time_out(node(1));
    c.until("it leads", |c| c.raft(node(1)).is_leader());
    c.run(20 * MS);
    let said = |c: &Cluster| (c.raft(node(1)).own_term_committed(), c.raft(node(1)).status().own_term_committed);
    assert_eq!(said(&c), (false, false));
    c.heal().settle();
    assert_eq!(said(&c), (true, true));
    assert!(!c.raft(node(2)).own_term_committed() && !c.raft(node(2)).status().own_term_committed);
}

/// The commit index is known to whom a leader told it, and to a leader of whose term an entry is committed; a start knows
/// only what was once committed.
#[test]
fn the_commit_index_is_known_to_whom_it_was_told() {
    let mut c = Cluster::of(3);
    let leader = c.elect();
    c.settle();
    assert!((1..=3).all(|n| c.raft(node(n)).knows_commit()), "{}", c.picture());
    let follower = c.others(leader)[0];
    c.crash(follower);
    c.isolate(follower);
    c.restart(follower);
    assert!(!c.raft(follower).knows_commit());
    c.heal().settle();
    assert!(c.raft(follower).knows_commit());
}

/// A configuration counts as committed exactly when its entry is.
#[test]
fn a_configuration_in_flight_is_not_called_committed() {
    let mut c = Cluster::of(3);
    let leader = c.elect();
    c.settle();
    let said = |c: &Cluster| c.raft(leader).status().configuration_committed;
    assert!(said(&c));
    c.add(4);
    c.isolate(leader);
    c.change(leader, &[1, 2, 3], &[4]);
    assert!(!said(&c));
    c.heal().settle();
    assert!(said(&c));
    let status = c.raft(leader).status();
    assert_eq!(status.configuration_index, status.last.index, "the very last entry");
}

/// Everything that waits is counted once, wherever it waits: proposals, changes and reads at a leader, reads that a follower
/// has to ask for, and proposals of a leader that is none any more.
#[test]
fn what_waits_is_counted() {
    let mut c = Cluster::of(3);
    let leader = c.elect();
    c.settle();
    let pending = |c: &Cluster, id| c.raft(id).status().pending;
    assert_eq!(pending(&c, leader), 0);
    c.isolate(leader);
    for _ in 0..2 {
        c.propose(leader);
    }
    assert_eq!(pending(&c, leader), 2);
    for _ in 0..3 {
        c.read(leader);
    }
    assert_eq!(pending(&c, leader), 5);
    c.change(leader, &[1, 2, 3], &[4]);
    assert_eq!(pending(&c, leader), 6);
    let follower = c.others(leader)[0];
    for _ in 0..4 {
        c.read(follower);
    }
    assert_eq!(pending(&c, follower), 4);
    c.until("it leads no more", |c| !c.raft(leader).is_leader());
    assert_eq!(pending(&c, leader), 3, "its reads have ended, and nobody can know of the rest");
    c.heal().settle();
    assert_eq!((pending(&c, leader), pending(&c, follower)), (0, 0));
}

/// A leader tells of each peer what that has, when it spoke last, and whether entries flow; of those that leave, nothing.
#[test]
fn peers_are_shown_as_they_are() {
    let mut c = Cluster::of(3);
    let leader = c.elect();
    c.settle();
    let (near, far) = (c.others(leader)[0], c.others(leader)[1]);
    c.isolate(far);
    let before = c.raft(leader).status().peers[&far].clone();
    c.propose(leader);
    c.run(400 * MS);
    let peers = c.raft(leader).status().peers;
    assert_eq!(peers.keys().copied().collect::<Vec<_>>(), c.others(leader));
    let last = c.raft(leader).last().index;
    assert_eq!((peers[&near].matched, peers[&far].matched), (last, before.matched));
    assert_eq!(peers[&far].last_heard, before.last_heard);
    assert!(peers[&near].last_heard > before.last_heard && peers[&near].replicating);
    assert_eq!(c.raft(leader).status().quorum_heard, peers[&near].last_heard);
    assert!(c.raft(near).status().peers.is_empty() && c.raft(near).status().quorum_heard.is_none());
    let rest = [leader.get(), near.get()];
    let removal = c.change(leader, &rest, &[]);
    c.until("removed", |c| c.is_committed(removal));
    assert_eq!(c.raft(leader).status().peers.keys().copied().collect::<Vec<_>>(), [near]);
}
