//! Out of the configuration: whoever asked to leave, was forgotten, or learned for another log.
//!
//! Nobody is removed here because gossip says so.

use super::step::Step;
use crate::machine::registry::Command;
use crate::node::Node;
use quorate_membership::State;
use quorate_raft::{Configuration, Mono, NodeId, Now, Status, mutant};
use std::collections::BTreeSet;

impl Node {
    /// Someone has left, or was superseded while it only learned: out of the configuration.
    pub(super) fn removal_step(&mut self, now: Now, status: &Status) -> Option<Step> {
        if let Some(node) = self.next_departure() {
            let why = format!("{} asks to leave", self.name_of(node));
            return Some(Step::Registry(Command::Depart { node }, why));
        }
        if let Some(command) = self.next_forgotten() {
            return Some(Step::Registry(command, "forgetting a failed agent, as an operator asks".into()));
        }
        if let Some(step) = self.foreign_learner_step(status) {
            return Some(step);
        }
        let configuration = &status.configuration;
        let everyone = configuration.voters.iter().chain(&configuration.learners);
        let failed = |n: u64| self.members.member(n).is_some_and(|m| m.state == State::Failed);
        let is_to_go = |n: u64| self.registry.has_departed(n) || failed(n) && mutant!(RemovedByGossip);
        let leaver = everyone.copied().find(|n| is_to_go(n.get()))?;
        let (voters, learners) = self.without_or_replaced(now.mono, status, leaver)?;
        let since = match self.autopilot.leaver {
            Some((same, since)) if same == leaver => since,
            _ => now.mono,
        };
        self.autopilot.leaver = Some((leaver, since));
        // Fewer voters bear fewer losses, so each that counts must be here now: half a second ago is not enough, nor is
        // an answer from before it was known that somebody goes, for who gave it may have been killed since.
        let answered = |v: &NodeId| *v == self.me || self.has_answered_since(status, *v, since);
        let here = voters.iter().filter(|v| self.is_here(now.mono, status, **v) && answered(v)).count();
        if here <= voters.len() / 2 && !mutant!(StepWithoutMajority) {
            return None;
        }
        let how = if self.registry.is_removed(leaver.get()) {
            "an operator removes"
        } else if self.registry.is_forgotten(leaver.get()) {
            "is forgotten"
        } else {
            "is leaving"
        };
        let mut why = format!("removing {}, which {how}", self.name_of(leaver.get()));
        if let Some(heir) = voters.difference(&configuration.voters).next() {
            why += &format!(": {} takes its seat", self.name_of(heir.get()));
        } else if here == voters.len() / 2 + 1 && voters.len() < configuration.voters.len() {
            why += &format!(": of the {} voters left {here} have just answered, and {here} must", voters.len());
        }
        Some(Step::Change { voters, learners, why })
    }

    /// A newcomer that was added here and joined another log meanwhile will never catch up with this one.
    fn foreign_learner_step(&self, status: &Status) -> Option<Step> {
        let Configuration { voters, learners, .. } = &status.configuration;
        let foreign = learners.iter().find(|n| self.is_of_another_log(n.get()))?;
        let learners = learners.iter().copied().filter(|n| n != foreign).collect();
        let why = format!("removing {}, which belongs to another log", self.name_of(foreign.get()));
        Some(Step::Change { voters: voters.clone(), learners, why })
    }

    /// The same, with its vote for whom an operator named. That one is waited for as long as it lives.
    fn without_or_replaced(
        &self,
        now: Mono,
        status: &Status,
        node: NodeId,
    ) -> Option<(BTreeSet<NodeId>, BTreeSet<NodeId>)> {
        let Configuration { mut voters, mut learners, .. } = status.configuration.clone();
        let heir = self.registry.heir_of(node.get()).and_then(NodeId::new);
        let heir =
            heir.filter(|h| learners.contains(h) && !self.registry.has_departed(h.get()) && voters.contains(&node));
        let heir = heir.filter(|h| !self.registry.is_draining(h.get()));
        let Some(heir) = heir.filter(|h| self.members.member(h.get()).is_some_and(|m| m.state.is_present())) else {
            return self.without(now, status, node);
        };
        voters.remove(&node);
        voters.insert(heir);
        learners.remove(&heir);
        let safe = self.is_caught_up(now, status, heir) && self.is_healthy_majority(now, status, &voters);
        safe.then_some((voters, learners))
    }

    /// The configuration without this node, if that is safe.
    ///
    /// Of an odd group its seat goes to a spare, if one stands by, in the same change: one voter less would bear one failure
    /// less, and nobody knows who of those that have just answered is dead by now. A joint phase has no way back (its leader
    /// could still revert it, until another one is elected; but that buys milliseconds), so it must not hang on one voter
    /// where it need not. An even group bears as much without the seat as with a spare on it; growth gives it away later. A sole
    /// voter hands its seat to any learner that has caught up.
    pub(in crate::node) fn without(
        &self,
        now: Mono,
        status: &Status,
        node: NodeId,
    ) -> Option<(BTreeSet<NodeId>, BTreeSet<NodeId>)> {
        let Configuration { mut voters, mut learners, .. } = status.configuration.clone();
        learners.remove(&node);
        let is_odd = !voters.len().is_multiple_of(2);
        let had_seat = voters.remove(&node);
        if let Some(spare) = self.spare_for(now, status, node).filter(|spare| had_seat && is_odd && *spare != node) {
            learners.remove(&spare);
            voters.insert(spare);
        } else if had_seat && voters.is_empty() {
            // Whom an operator wants without a vote only if nobody else is there, whom he drains not even then.
            let may = |l: &NodeId| !self.registry.is_draining(l.get()) && self.is_caught_up(now, status, *l);
            let heir = learners.iter().copied().filter(may).max_by_key(|l| self.may_vote(*l))?;
            learners.remove(&heir);
            voters.insert(heir);
        }
        self.is_healthy_majority(now, status, &voters).then_some((voters, learners))
    }
}
