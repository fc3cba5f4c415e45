//! Decisions: what the autopilot of this agent has decided while it led, with what it saw then, and what came of it.
//!
//! It keeps the newest ones only, and they survive the end of a leadership: so that people can ask why.

use crate::api::AutopilotDecision;
use quorate_raft::{NodeId, Now};
use std::collections::{BTreeSet, VecDeque};

/// How many are kept: some hours of a restless cluster.
pub(super) const DECISIONS_MAX: usize = 256;
/// Most bytes of the inputs of one decision.
const INPUTS_BYTES_MAX: usize = 2048;

/// The newest decisions, oldest first.
#[derive(Debug, Default)]
pub(in crate::node) struct Decisions {
    ring: VecDeque<(AutopilotDecision, BTreeSet<NodeId>)>,
    count: u64,
}

impl Decisions {
    /// Something was decided about these nodes. Gives its number.
    pub(super) fn note(
        &mut self,
        now: Now,
        (rule, what): (&str, String),
        mut inputs: String,
        about: BTreeSet<NodeId>,
    ) -> u64 {
        self.count += 1;
        if inputs.len() > INPUTS_BYTES_MAX {
            let end = (0..=INPUTS_BYTES_MAX).rev().find(|at| inputs.is_char_boundary(*at)).unwrap_or(0);
            inputs.truncate(end);
            inputs.push_str(" ...");
        }
        if self.ring.len() == DECISIONS_MAX {
            self.ring.pop_front();
        }
        let outcome = "under way".to_owned();
        let (number, time_us, rule) = (self.count, now.wall.0, rule.to_owned());
        self.ring.push_back((AutopilotDecision { number, time_us, rule, what, inputs, outcome }, about));
        number
    }

    /// What came of it, if it is still known.
    pub(super) fn ended(&mut self, number: u64, outcome: String) {
        if let Some((decision, _)) = self.ring.iter_mut().rev().find(|(d, _)| d.number == number) {
            decision.outcome = outcome;
        }
    }

    /// The newest ones, newest first.
    pub(super) fn newest(&self, most: usize) -> Vec<AutopilotDecision> {
        self.ring.iter().rev().take(most).map(|(decision, _)| decision.clone()).collect()
    }

    /// The newest ones about one node, newest first.
    pub(super) fn about(&self, node: NodeId, most: usize) -> Vec<AutopilotDecision> {
        let about = self.ring.iter().rev().filter(|(_, about)| about.contains(&node));
        about.take(most).map(|(decision, _)| decision.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_raft::{Mono, Wall};

    #[test]
    fn the_newest_are_kept_and_an_outcome_finds_its_decision() {
        let mut decisions = Decisions::default();
        let now = Now { mono: Mono(0), wall: Wall(7) };
        let node = NodeId::new(9).unwrap();
        for at in 0..DECISIONS_MAX + 10 {
            let about = if at % 2 == 0 { [node].into() } else { BTreeSet::new() };
            decisions.note(now, ("growth", format!("step {at}")), "é".repeat(INPUTS_BYTES_MAX), about);
        }
        assert_eq!(decisions.newest(usize::MAX).len(), DECISIONS_MAX);
        assert_eq!(decisions.about(node, usize::MAX).len(), DECISIONS_MAX / 2);
        let newest = decisions.newest(1).remove(0);
        assert!(newest.inputs.len() <= INPUTS_BYTES_MAX + 4 && newest.outcome == "under way");
        decisions.ended(newest.number, "done".into());
        decisions.ended(1, "forgotten".into());
        assert_eq!(decisions.newest(1)[0].outcome, "done");
    }
}
