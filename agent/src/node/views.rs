//! Views: what a leader tells agents outside the group, so that they know whom to ask and how far the log is.
//!
//! It says what has changed, and seldom that nothing has: most agents of a large cluster are outside the group, and at rest
//! its leader would otherwise say more than anybody else.

use super::{Class, Level, Node, PeerMessage, View};
use quorate_raft::{Mono, Now};
use std::collections::BTreeMap;
use std::time::Duration;

/// More members than a group can have; a view that names more is not of a leader.
const VIEW_MEMBERS_MAX: usize = 64;
/// Forgotten nodes that one view tells of: an operator forgets one disk at a time.
pub(super) const FORGOTTEN_TOLD_MAX: usize = 256;
/// The same view is told again after so long: it says that the leader is still there.
const VIEW_AGAIN: Duration = Duration::from_secs(2);

/// What each connected agent was told last, and when.
#[derive(Debug, Default)]
pub(super) struct Told(BTreeMap<u64, (View, Mono)>);

impl Told {
    /// Is this news for the agent, or time to repeat it? Then it counts as told.
    fn is_due(&mut self, node: u64, view: &View, now: Mono) -> bool {
        let is_due = self.0.get(&node).is_none_or(|(told, at)| told != view || now.since(*at) >= VIEW_AGAIN);
        if is_due {
            self.0.insert(node, (view.clone(), now));
        }
        is_due
    }

    /// What it was told may be lost.
    pub(super) fn forget(&mut self, node: u64) {
        self.0.remove(&node);
    }
}

impl Node {
    /// A leader tells agents that it does not replicate to what it sees. Other members tell those that have left: one
    /// that was cut off believes only members that it knows, and the leader may have come later.
    pub(super) fn send_views(&mut self, now: Now) {
        if !self.in_raft() {
            return;
        }
        let leads = self.raft.is_leader();
        let leader = if leads { self.me.get() } else { self.leader().unwrap_or_default() };
        let (voters, learners) = self.group();
        // An appended configuration may still be undone: nobody is told to go before it is committed.
        let settled = self.raft.configuration_index() <= self.raft.committed();
        let outside = self.peers.up().map(|p| p.node).filter(|n| !voters.contains(n) && !learners.contains(n));
        let told: Vec<u64> = outside.filter(|n| leads || self.registry.has_departed(*n)).collect();
        for node in told {
            let view = View {
                log_id: self.log_id.unwrap_or_default(),
                term: self.raft.term().0,
                leader,
                voters: voters.iter().copied().collect(),
                learners: learners.iter().copied().collect(),
                committed: self.raft.committed().0,
                next: self.log.next_offset(),
                waiting: self.autopilot.waiting(node),
                departed: settled && self.registry.has_departed(node),
                forgotten: self.forgotten_to_tell(),
                draining: self.registry.draining().collect(),
                removed: self.registry.is_removed(node),
            };
            if self.views_told.is_due(node, &view, now.mono) {
                self.send(node, Class::Peer, PeerMessage::View(view));
            }
        }
    }

    /// What a leader says to an agent outside the group. An older term is an older truth.
    pub(super) fn view_received(&mut self, now: Now, node: u64, view: View) {
        let newer = self.view.as_ref().is_none_or(|old| view.term >= old.term || !self.peers.is_up(old.leader));
        let of_ours = self.history().is_none_or(|id| id == view.log_id);
        let of_group = view.voters.contains(&node);
        let known = self.view.as_ref().is_some_and(|old| old.departed);
        let believed = || of_ours && view.term >= self.raft.term().0;
        let departed = known || (view.departed && believed() && self.may_tell_departure(node));
        let view = View { departed, ..view };
        if departed && !known && view.leader != node && view.voters.len() <= VIEW_MEMBERS_MAX {
            self.view = Some(view);
            return;
        }
        if view.leader != node || !newer || !of_ours || !of_group || view.voters.len() > VIEW_MEMBERS_MAX {
            return;
        }
        let changed = self.view.as_ref().is_none_or(|old| old.leader != view.leader || old.term != view.term);
        if changed && !self.in_raft() {
            let name = self.name_of(node);
            self.note(Level::Info, format!("{name} leads in term {}", view.term));
        }
        self.view_heard = now.mono;
        self.view = Some(view);
        if changed {
            self.leader_changed(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_is_told_when_it_changes_and_again_after_a_while() {
        let mut told = Told::default();
        let at = |ms: u64| Mono(1_000_000 + ms * 1_000);
        let view = View { term: 3, leader: 1, ..View::default() };
        assert!(told.is_due(7, &view, at(0)), "it was never told");
        assert!(!told.is_due(7, &view, at(500)) && !told.is_due(7, &view, at(1_500)));
        assert!(told.is_due(8, &view, at(500)), "each for itself");
        assert!(told.is_due(7, &view, at(2_000)), "it says that the leader is there");
        let next = View { committed: 9, ..view.clone() };
        assert!(told.is_due(7, &next, at(2_500)) && !told.is_due(7, &next, at(3_000)));
        told.forget(7);
        assert!(told.is_due(7, &next, at(3_000)), "a new connection may be another life");
    }
}
