//! Invariants: what must hold after every step (Figure 3.2, as far as one node can see it).
//!
//! A broken one is our own bug, so it panics; nothing here can be reached by what a peer or a disk says.

use crate::progress::Mode;
use crate::raft::Picture;
use crate::role::RoleState;
use crate::{Raft, Role};

impl Raft {
    /// Asserts all of it, against the picture before the step.
    pub(crate) fn assert_invariants(&self, before: Picture) {
        check(self, before);
    }
}

fn check(raft: &Raft, before: Picture) {
    let last = raft.log.last();
    assert!(raft.hard_state.term >= before.term, "the term went back");
    assert!(raft.committed >= before.committed, "the commit index went back");
    assert!(raft.committed <= last.index, "committed beyond the log");
    assert!(raft.frontier.last() <= last.index, "durable beyond the log");
    assert!(last.term <= raft.hard_state.term, "an entry of a term not yet reached");
    assert!(raft.configurations.current().index <= last.index, "a configuration beyond the log");
    if before.role == Role::Leader && raft.role() == Role::Leader {
        assert_eq!(raft.hard_state.term, before.term, "a leader entered another term without an election");
    }
    match &raft.role {
        RoleState::Leader(leader) => {
            assert_eq!(raft.hard_state.vote, Some(raft.node), "leads without its own vote");
            assert!(leader.first <= last.index, "leads without its own first entry");
        }
        RoleState::Candidate(_) => assert_eq!(raft.hard_state.vote, Some(raft.node), "stands without its own vote"),
        RoleState::Follower(follower) => {
            if let Some(following) = &follower.following {
                assert!(following.verified <= last.index, "verified beyond the log");
                assert_ne!(following.leader, raft.node, "follows itself");
            }
        }
        RoleState::PreCandidate(_) => {}
    }
    if cfg!(debug_assertions) {
        check_all(raft);
    }
}

/// What costs more than a few comparisons.
fn check_all(raft: &Raft) {
    let last = raft.log.last();
    let runs = raft.log.runs();
    assert!(runs.windows(2).all(|pair| pair[0].first < pair[1].first && pair[0].term < pair[1].term));
    assert!(runs.last().is_none_or(|run| run.first <= last.index));
    let indexes: alloc::vec::Vec<_> = raft.configurations.indexes().collect();
    assert!(indexes.windows(2).all(|pair| pair[0] < pair[1]));
    let durable_term = raft.frontier.hard_state().term;
    assert!(durable_term <= raft.hard_state.term, "a durable term that was never entered");
    if let RoleState::Leader(leader) = &raft.role {
        assert!(!leader.peers.contains_key(&raft.node), "a leader is not its own peer");
        for progress in leader.peers.values() {
            assert!(progress.matched <= last.index, "a peer matches beyond the log");
            assert!(progress.matched < progress.next, "what is matched is not sent again");
            assert!(progress.next.0 <= last.index.0 + 1, "entries to send beyond the log");
            assert!(progress.mode == Mode::Replicate || progress.batches.is_empty(), "a window without streaming");
        }
    }
}
