//! Autopilot: on the leader, from what is to what should be, at most one change at a time.
//!
//! Level-triggered: it looks at gossip, registry, configuration and progress anew at each turn and takes one legal
//! step. Gossip alone never edits the configuration, and after each step a majority of the new voters has answered
//! within the last election timeout, or the step is not taken.

mod facts;
mod growth;
mod learners;
mod registration;
mod removal;
mod step;
mod supersede;
mod wishes;

use super::{Level, Node};
use crate::codec;
use quorate_raft::wal::EntryKind;
use quorate_raft::{LogIndex, Mono, NodeId, Now, Outcome, Status, Term, Ticket, mutant};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use step::Step;

/// After a refused step, before the next try.
const PAUSE: Duration = Duration::from_millis(100);

/// What the autopilot is waiting for.
#[derive(Debug, Default)]
pub(super) struct Autopilot {
    /// The step in flight: its ticket, and what it does, for people.
    step: Option<(u64, String)>,
    /// Not before this.
    not_before: Mono,
    /// Since when growth has been possible without a break, and to whom.
    growth: Option<(BTreeSet<NodeId>, Mono)>,
    /// Why an agent is not admitted, and when that was told.
    waiting: BTreeMap<u64, (String, Mono)>,
    /// When this node began to lead: silence before that says nothing about others.
    leads_since: Option<(Term, Mono)>,
}

impl Autopilot {
    /// Why this agent is not in the group, if the autopilot knows.
    pub(super) fn waiting(&self, node: u64) -> Option<String> {
        self.waiting.get(&node).map(|(why, _)| why.clone())
    }
}

impl Node {
    /// One turn.
    pub(super) fn reconcile(&mut self, now: Now) {
        if !self.raft.is_leader() {
            self.autopilot = Autopilot::default();
            return;
        }
        if self.autopilot.leads_since.is_none_or(|(term, _)| term != self.raft.term()) {
            self.autopilot = Autopilot { leads_since: Some((self.raft.term(), now.mono)), ..Autopilot::default() };
        }
        self.answer_removals(now);
        let is_ready = self.is_ready_leader() || mutant!(ChangeBeforeOwnTerm);
        let is_busy = self.autopilot.step.is_some() && !mutant!(TwoChanges);
        if !is_ready || is_busy || now.mono < self.autopilot.not_before {
            return;
        }
        // The registry must be what the log says before anyone judges by it.
        if self.applied.index() != self.raft.committed() && !mutant!(ChangeBeforeOwnTerm) {
            return;
        }
        let status = self.raft.status();
        let is_settled = status.configuration_committed || mutant!(TwoChanges) || mutant!(ChangeBeforeOwnTerm);
        if !is_settled || !status.configuration.outgoing.is_empty() || self.handover.is_under_way() {
            return;
        }
        if let Some(step) = self.next_step(now, &status) {
            self.take(now, step, status.configuration_index);
        }
    }

    fn next_step(&mut self, now: Now, status: &Status) -> Option<Step> {
        self.removal_step(now, status)
            .or_else(|| self.registration_step(now))
            .or_else(|| self.supersede_step(now, status))
            .or_else(|| self.wish_step(now, status))
            .or_else(|| self.learner_step(now, status))
            .or_else(|| self.growth_step(now, status))
    }

    fn take(&mut self, now: Now, step: Step, expected: LogIndex) {
        let ticket = self.token();
        match step {
            Step::Registry(command, why) => {
                self.note(Level::Info, why.clone());
                self.autopilot.step = Some((ticket, why));
                self.propose(now, ticket, EntryKind::Registry, codec::encode(&command).into(), 0);
            }
            Step::Change { voters, learners, why } => {
                self.note(Level::Info, why.clone());
                self.autopilot.step = Some((ticket, why));
                let change = quorate_raft::Input::Change { ticket: Ticket(ticket), expected, voters, learners };
                self.raft.handle(now, change);
                self.drain_raft(now);
            }
        }
    }

    /// The end of a step, if `ticket` is one.
    pub(super) fn autopilot_done(&mut self, now: Now, ticket: u64, outcome: Outcome) -> bool {
        if self.autopilot.step.as_ref().is_none_or(|(t, _)| *t != ticket) {
            return false;
        }
        let step = self.autopilot.step.take();
        match outcome {
            Outcome::Committed { .. } => self.hurry(now),
            Outcome::Rejected(why) => {
                self.autopilot.not_before = now.mono.after(PAUSE);
                if let (Some((_, what)), true) = (step, self.raft.is_leader()) {
                    self.note(Level::Info, format!("{what}: put off ({why:?})"));
                }
            }
            Outcome::Lost => {}
        }
        true
    }
}
