//! A disk that lost its name to a newer one: the new disk takes its seat, in one change.
//!
//! It never acts before the old disk has been silent for as long as a name is held.

use super::step::Step;
use crate::node::Node;
use quorate_raft::{Configuration, NodeId, Now, Status};

impl Node {
    /// A disk that lost its name to a newer one: the new disk takes its seat, in one change.
    pub(super) fn supersede_step(&mut self, now: Now, status: &Status) -> Option<Step> {
        let Configuration { voters, learners, .. } = &status.configuration;
        let heir = |old: &NodeId| self.registry.superseded_by(old.get()).and_then(NodeId::new);
        if let Some(old) = learners.iter().find(|n| heir(n).is_some()) {
            let learners = learners.iter().copied().filter(|n| n != old).collect();
            let why = format!("removing the former disk {old} of a superseded learner");
            return Some(Step::Change { voters: voters.clone(), learners, why });
        }
        let silent = |n: &NodeId| self.silent_for(now.mono, status, *n) >= self.options.name_hold;
        let mut seats = voters.iter().filter(|n| silent(n)).filter_map(|n| Some((*n, heir(n)?)));
        seats.find_map(|(old, new)| self.seat_of(now, status, old, new))
    }

    /// What becomes of the seat of a lost disk whose name is held by the disk `new`.
    fn seat_of(&self, now: Now, status: &Status, old: NodeId, new: NodeId) -> Option<Step> {
        let Configuration { mut voters, mut learners, .. } = status.configuration.clone();
        if voters.contains(&new) || self.registry.has_departed(new.get()) {
            // It has a seat of its own already, or wants none any more.
            let (voters, learners) = self.without(now.mono, status, old)?;
            let why = format!("removing the former disk {old} of {}", self.name_of(new.get()));
            return Some(Step::Change { voters, learners, why });
        }
        let drained = self.registry.is_draining(new.get());
        if !learners.remove(&new) || drained || !self.is_caught_up(now.mono, status, new) {
            return None;
        }
        voters.remove(&old);
        voters.insert(new);
        let why = format!("the new disk of {} takes the seat of its former one", self.name_of(new.get()));
        self.is_healthy_majority(now.mono, status, &voters).then_some(Step::Change { voters, learners, why })
    }
}
