//! What every agent observes at each turn, leader or not, and tells its leader.
//!
//! It decides nothing.

use crate::machine::settings::Settings;
use crate::node::{Class, MISSED_MAX, Node, PeerMessage, level};
use quorate_membership::State;
use quorate_raft::{Mono, NodeId, Now, Status};
use std::collections::BTreeSet;
use std::time::Duration;

/// How often a member tells its leader whom it misses.
const TELL_EVERY: Duration = Duration::from_secs(2);

impl Node {
    /// What the autopilot goes by: what the log says, else the defaults.
    pub(in crate::node) fn settings(&self) -> &Settings {
        self.registry.settings().unwrap_or(&self.options.autopilot)
    }

    /// One turn.
    pub(in crate::node) fn keep_watching(&mut self, now: Now) {
        self.watch.turn(now.mono);
        self.watch.renewed(self.members.renewals());
        let status = self.raft.is_leader().then(|| self.raft.status());
        if let Some(status) = &status {
            self.watch_those_led(now.mono, status);
        }
        let configuration = self.raft.configuration();
        let members = configuration.members().into_iter().filter(|n| *n != self.me);
        let gone: BTreeSet<NodeId> = members.filter(|n| self.is_gone(now.mono, status.as_ref(), *n)).collect();
        self.watch.gone(&gone);
        self.tell_whom_it_misses(now, &gone);
    }

    /// Gossip calls it failed or has never heard of it, there is no connection, and a leader has not heard of it for an
    /// election timeout.
    fn is_gone(&self, now: Mono, status: Option<&Status>, node: NodeId) -> bool {
        let failed = self.members.member(node.get()).is_none_or(|m| m.state == State::Failed);
        let answers = status.is_some_and(|status| self.is_healthy(now, status, node));
        failed && !self.peers.is_up(node.get()) && !answers
    }

    /// Who does not answer its leader is not stable, whatever gossip says. A leader that has only just begun has no say.
    fn watch_those_led(&mut self, now: Mono, status: &Status) {
        let window = self.options.raft.election_timeout_max;
        let begun = self.autopilot.leads_since.is_some_and(|(_, at)| now.since(at) > window * 2);
        let broken: Vec<NodeId> =
            status.peers.keys().copied().filter(|n| begun && !self.is_healthy(now, status, *n)).collect();
        broken.into_iter().for_each(|node| self.watch.broke(node));
    }

    fn tell_whom_it_misses(&mut self, now: Now, gone: &BTreeSet<NodeId>) {
        let leader = self.raft.leader().filter(|leader| *leader != self.me && self.in_raft()).map(NodeId::get);
        let (Some(leader), Some(seed)) = (leader, self.log_seed()) else { return };
        let hears = self.peers.get(leader).is_some_and(|peer| peer.supports >= level::LEVEL_MISSED);
        if gone.is_empty() || !hears || now.mono < self.watch.tell_at {
            return;
        }
        self.watch.tell_at = now.mono.after(TELL_EVERY);
        let nodes = gone.iter().take(MISSED_MAX).map(|n| n.get()).collect();
        self.send(leader, Class::Peer, PeerMessage::Missed { seed, nodes });
    }

    /// Another member of the group misses these.
    pub(in crate::node) fn missed_told(&mut self, by: u64, seed: u64, nodes: &[u64]) {
        let is_member = NodeId::new(by).is_some_and(|by| self.raft.configuration().is_member(by));
        if !is_member || self.log_seed() != Some(seed) {
            return;
        }
        for node in nodes.iter().filter(|node| **node != by) {
            self.watch.missed(*node, by);
        }
    }

    /// How often this agent failed and came back within the window of the settings, as far as this one has seen.
    pub(super) fn flaps_of(&self, node: u64) -> u32 {
        let window = self.settings().flap_window();
        if node == self.me.get() { self.watch.own_flaps(window) } else { self.watch.flaps(node, window) }
    }

    /// Too often?
    pub(in crate::node) fn flaps(&self, node: u64) -> bool {
        self.flaps_of(node) >= self.settings().flaps_max
    }

    /// Has this agent itself been called failed too often?
    pub(in crate::node) fn flaps_itself(&self) -> bool {
        self.flaps(self.me.get())
    }
}
