//! What is: who is alive, present, silent, healthy, here and caught up, as far as this leader can know.
//!
//! It only looks; nothing here decides anything. Ages are measured on the monotonic clock, from the moment this node
//! began to lead at the earliest.

use crate::node::Node;
use quorate_membership::State;
use quorate_raft::{Mono, NodeId, Now, Status, mutant};
use std::collections::BTreeSet;
use std::time::Duration;

/// A learner this close to the commit index counts as caught up, in entries.
const CAUGHT_UP_ENTRIES: u64 = 64;
/// A member that has not answered its leader for so long is not merely late: twenty times the shortest election timeout.
const UNHEARD_MIN: Duration = Duration::from_secs(5);

impl Node {
    pub(super) fn is_alive(&self, node: u64) -> bool {
        node == self.me.get() || self.members.member(node).is_some_and(|m| m.state == State::Alive)
    }

    /// Alive in gossip and connected: its Hello proved who it is.
    pub(in crate::node) fn is_present(&self, node: u64) -> bool {
        node == self.me.get() || (self.is_alive(node) && self.peers.is_up(node))
    }

    /// How long nothing has been heard from this node, as far as this leader can know.
    pub(in crate::node) fn silent_for(&self, now: Mono, status: &Status, node: NodeId) -> Duration {
        if node == self.me {
            return Duration::ZERO;
        }
        let raft = status.peers.get(&node).and_then(|p| p.last_heard);
        let link = self.peers.last_up(node.get(), now);
        let since = self.autopilot.leads_since.map(|(_, at)| at);
        [raft, link, since].into_iter().flatten().max().map_or(Duration::ZERO, |at| now.since(at))
    }

    /// Answered within the last election timeout.
    pub(in crate::node) fn is_healthy(&self, now: Mono, status: &Status, node: NodeId) -> bool {
        let window = self.options.raft.election_timeout_max;
        let heard = status.peers.get(&node).and_then(|p| p.last_heard);
        node == self.me || heard.is_some_and(|at| now.since(at) <= window)
    }

    /// For how long a member of the group has not answered this leader, if that is longer than `UNHEARD_MIN`.
    pub(in crate::node) fn unheard_for(&self, now: Mono, node: NodeId) -> Option<Duration> {
        let (_, leads_since) = self.autopilot.leads_since.filter(|_| self.raft.is_leader())?;
        let status = self.raft.status();
        let peer = status.peers.get(&node)?;
        let last = peer.last_heard.map_or(leads_since, |at| at.max(leads_since));
        Some(now.since(last)).filter(|unheard| *unheard >= UNHEARD_MIN)
    }

    /// Answered the last heartbeat, or the one before while that one's answer is on its way; and no connection of it was lost
    /// since.
    pub(super) fn is_here(&self, now: Mono, status: &Status, node: NodeId) -> bool {
        node == self.me || (self.has_answered_lately(now, status, node) && self.peers.is_up(node.get()))
    }

    fn has_answered_lately(&self, now: Mono, status: &Status, node: NodeId) -> bool {
        let heard = status.peers.get(&node).and_then(|p| p.last_heard);
        let window = self.options.raft.heartbeat_at_rest() + self.options.raft.heartbeat;
        heard.is_some_and(|at| now.since(at) <= window)
    }

    /// Answered after this moment.
    pub(super) fn has_answered_since(&self, status: &Status, node: NodeId, since: Mono) -> bool {
        status.peers.get(&node).and_then(|p| p.last_heard).is_some_and(|at| at > since)
    }

    /// Would a majority of these voters have answered within the last election timeout?
    pub(in crate::node) fn is_healthy_majority(&self, now: Mono, status: &Status, voters: &BTreeSet<NodeId>) -> bool {
        let well = voters.iter().filter(|v| self.is_healthy(now, status, **v)).count();
        well > voters.len() / 2 || mutant!(StepWithoutMajority)
    }

    /// Would these voters still be a majority that answers if any one of the newcomers among them died in the middle of the
    /// change? What could be better is not worth less than that.
    pub(super) fn bears_a_newcomer(&self, now: Now, status: &Status, voters: &BTreeSet<NodeId>) -> bool {
        let well = voters.iter().filter(|v| self.is_healthy(now.mono, status, **v)).count();
        let has_newcomers = voters.difference(&status.configuration.voters).next().is_some();
        well.saturating_sub(usize::from(has_newcomers)) > voters.len() / 2
    }

    /// Holds everything that is committed, give or take what is on its way, and has answered lately.
    pub(in crate::node) fn is_caught_up(&self, now: Mono, status: &Status, node: NodeId) -> bool {
        let Some(peer) = status.peers.get(&node) else { return node == self.me };
        let recent = self.has_answered_lately(now, status, node);
        peer.replicating && recent && peer.matched.0 + CAUGHT_UP_ENTRIES >= status.committed.0
    }
}
