//! Into the configuration: a registered, present agent learns when there is room.
//!
//! It never gives a vote. Where there is no room, a learner that has been dead for long, or one of an older version than the
//! newcomer, yields its place: it had no vote, so nothing is less safe without it.

use super::step::Step;
use crate::node::Node;
use quorate_raft::{Configuration, NodeId, Now, Status};

impl Node {
    /// Registered, present, not in the group, and there is room: it learns.
    pub(super) fn learner_step(&mut self, now: Now, status: &Status) -> Option<Step> {
        let Configuration { voters, learners, .. } = &status.configuration;
        let room = self.options.replicas_max.saturating_sub(voters.len() + learners.len());
        // Where all the room is taken by voters nobody could ever take the seat of a dead one: one more learns, until that is gone.
        let patience = self.settings().replace_after();
        let is_full_of_voters = room == 0 && learners.is_empty();
        let heir_wanted = is_full_of_voters && voters.iter().any(|v| self.why_not_dead(*v, patience).is_none());
        let room = room.max(usize::from(heir_wanted));
        let newcomers: Vec<NodeId> = self
            .registry
            .nodes()
            .filter_map(|r| NodeId::new(r.node))
            .filter(|n| !voters.contains(n) && !learners.contains(n))
            .filter(|n| self.is_present(n.get()) && !self.is_of_another_log(n.get()))
            .filter(|n| !self.is_bound_elsewhere(n.get()))
            .collect();
        // A seat is kept free for the new disk of a superseded voter, even beyond the room.
        let replaces = |n: &NodeId| voters.iter().any(|v| self.registry.superseded_by(v.get()) == Some(n.get()));
        let (heirs, others): (Vec<NodeId>, Vec<NodeId>) = newcomers.into_iter().partition(replaces);
        let chosen: Vec<NodeId> = heirs.iter().chain(others.iter().take(room)).copied().collect();
        if !self.is_healthy_majority(now.mono, status, voters) {
            return None;
        }
        if chosen.is_empty() {
            return self.yielding_step(status, &others);
        }
        let names: Vec<String> = chosen.iter().map(|n| self.of(*n)).collect();
        let why = format!("adding {} as learner", names.join(", "));
        let learners = learners.iter().copied().chain(chosen).collect();
        Some(Step::Change { voters: voters.clone(), learners, why })
    }

    /// There is no room, and somebody waits for it who is worth more than one of those who learn.
    fn yielding_step(&self, status: &Status, waiting: &[NodeId]) -> Option<Step> {
        let Configuration { voters, learners, .. } = &status.configuration;
        let patience = self.settings().replace_after();
        let dead = learners.iter().copied().find(|l| self.why_not_dead(*l, patience).is_none());
        let newest = waiting.iter().copied().max_by_key(|n| self.comparable(*n))?;
        let of = self.comparable(newest).filter(|_| self.settings().upgrade);
        // Older than the newcomer, and known to be.
        let older = |l: &NodeId| self.comparable(*l).is_some_and(|has| Some(has) < of);
        let oldest = || learners.iter().copied().filter(older).min_by_key(|l| self.comparable(*l));
        let yields = dead.or_else(oldest)?;
        let why = format!("adding {} as learner in the place of {}", self.of(newest), self.of(yields));
        let learners = learners.iter().copied().filter(|l| *l != yields).chain([newest]).collect();
        Some(Step::Change { voters: voters.clone(), learners, why })
    }
}
