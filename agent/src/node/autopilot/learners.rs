//! Into the configuration: a registered, present agent learns when there is room.
//!
//! It never gives a vote.

use super::step::Step;
use crate::node::Node;
use quorate_raft::{NodeId, Now, Status};

impl Node {
    /// Registered, present, not in the group, and there is room: it learns.
    pub(super) fn learner_step(&mut self, now: Now, status: &Status) -> Option<Step> {
        let configuration = &status.configuration;
        let mut learners = configuration.learners.clone();
        let room = self.options.replicas_max.saturating_sub(configuration.voters.len() + learners.len());
        // A seat is kept free for the new disk of a superseded voter, even beyond the room.
        let newcomers: Vec<NodeId> = self
            .registry
            .nodes()
            .filter_map(|r| NodeId::new(r.node))
            .filter(|n| !configuration.voters.contains(n) && !learners.contains(n))
            .filter(|n| self.is_present(n.get()) && !self.is_of_another_log(n.get()))
            .collect();
        let replaces =
            |n: &NodeId| configuration.voters.iter().any(|v| self.registry.superseded_by(v.get()) == Some(n.get()));
        let chosen: Vec<NodeId> = newcomers
            .iter()
            .copied()
            .filter(replaces)
            .chain(newcomers.iter().copied().filter(|n| !replaces(n)).take(room))
            .collect();
        if chosen.is_empty() || !self.is_healthy_majority(now.mono, status, &configuration.voters) {
            return None;
        }
        let names: Vec<String> = chosen.iter().map(|n| self.name_of(n.get())).collect();
        learners.extend(chosen);
        let why = format!("adding {} as learner", names.join(", "));
        Some(Step::Change { voters: configuration.voters.clone(), learners, why })
    }
}
