//! The first hour of a cluster, in one story.

use quorate_raft::*;

use crate::cluster::*;

/// One founds, two join, all learn the log; the leader dies and another takes over; nothing is lost.
#[test]
fn a_cluster_is_founded_grows_and_survives_its_leader() {
    let mut c = Cluster::empty();
    let one = c.add(1);
    c.found(one);
    assert_eq!(c.elect(), one);
    let first = c.propose(one);
    c.settle();
    assert!(matches!(c.outcome(first), Some(Outcome::Committed { .. })));
    c.add(2);
    c.add(3);
    let learn = c.change(one, &[1], &[2, 3]);
    c.settle();
    assert!(matches!(c.outcome(learn), Some(Outcome::Committed { .. })));
    let vote = c.change(one, &[1, 2, 3], &[]);
    c.settle();
    assert!(matches!(c.outcome(vote), Some(Outcome::Committed { .. })));
    let second = c.propose(one);
    c.settle();
    c.crash(one);
    let new = c.elect();
    assert_ne!(new, one);
    let third = c.propose(new);
    let read = c.read(if new == node(2) { node(3) } else { node(2) });
    c.settle();
    assert!(c.outcome(read).is_some());
    c.restart(one);
    c.settle();
    assert_eq!(c.committed(one), [first, second, third]);
    c.witness.verdict();
}
