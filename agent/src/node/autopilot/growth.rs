//! From learner to voter: odd governs growth.
//!
//! It never takes a vote away.

use super::candidates::Seat;
use super::step::Step;
use crate::node::Node;
use quorate_raft::{NodeId, Now, Status, mutant};
use std::collections::BTreeSet;

impl Node {
    /// Odd governs growth: 1 to 3 and 3 to 5 are one joint change; an even group grows by the one it lacks.
    pub(super) fn growth_step(&mut self, now: Now, status: &Status) -> Option<Step> {
        let configuration = &status.configuration;
        let ready = self.ready(now, status, Seat::New);
        let have = configuration.voters.len();
        let most = (have + ready.len()).min(self.options.voters_target);
        let goal = if most.is_multiple_of(2) && !mutant!(EvenGrowth) { most.saturating_sub(1) } else { most };
        if goal <= have {
            self.autopilot.growth = None;
            return None;
        }
        let chosen = self.spread(&ready, &configuration.voters, goal - have, None);
        let since = match &self.autopilot.growth {
            Some((same, since)) if *same == chosen => *since,
            _ => {
                self.autopilot.growth = Some((chosen, now.mono));
                return None;
            }
        };
        let well = configuration.voters.iter().all(|v| self.is_healthy(now.mono, status, *v));
        if !well || now.mono.since(since) < self.options.growth_patience {
            return None;
        }
        self.autopilot.growth = None;
        let voters: BTreeSet<NodeId> = configuration.voters.union(&chosen).copied().collect();
        let learners = configuration.learners.difference(&chosen).copied().collect();
        let names: Vec<String> = chosen.iter().map(|n| self.name_of(n.get())).collect();
        let why = format!("{} voters become {}: {}", have, voters.len(), names.join(", "));
        self.is_healthy_majority(now.mono, status, &voters).then_some(Step::Change { voters, learners, why })
    }
}
