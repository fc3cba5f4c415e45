//! Autopilot: on the leader, from what is to what should be, at most one change at a time.
//!
//! Level-triggered: it looks at gossip, registry, configuration and progress anew at each turn and takes one legal
//! step. Gossip alone never edits the configuration, and after each step a majority of the new voters has answered
//! within the last election timeout, or the step is not taken.

mod candidates;
mod decisions;
mod facts;
mod features;
mod growth;
mod keep;
mod learners;
mod registration;
mod removal;
mod replacement;
mod state;
mod step;
mod supersede;
mod upgrade;
mod watch;
mod wishes;
mod zones;

use super::{Level, Node};
use crate::codec;
use quorate_raft::wal::EntryKind;
use quorate_raft::{Mono, NodeId, Now, Outcome, Status, Term, Ticket, mutant};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use step::Step;

pub(super) use decisions::Decisions;
pub(super) use watch::Watch;

/// After a refused step, before the next try.
const PAUSE: Duration = Duration::from_millis(100);

/// Between two tries to hand over to somebody of a newer version.
const HAND_OVER_AGAIN: Duration = Duration::from_secs(10);

/// A rule: the step that it wants now, if it wants one.
type Rule = fn(&mut Node, Now, &Status) -> Option<Step>;

/// What the autopilot is waiting for.
#[derive(Debug, Default)]
pub(super) struct Autopilot {
    /// The step in flight: its ticket, and what it does, for people.
    step: Option<InHand>,
    /// Not before this.
    not_before: Mono,
    /// Since when growth has been possible without a break, and to whom.
    growth: Option<(BTreeSet<NodeId>, Mono)>,
    /// Who is to go, and since when this leader knows.
    leaver: Option<(NodeId, Mono)>,
    /// Why an agent is not admitted, and when that was told.
    waiting: BTreeMap<u64, (String, Mono)>,
    /// When this node began to lead: silence before that says nothing about others.
    leads_since: Option<(Term, Mono)>,
    /// The same on the clock of the watch.
    led_from: Duration,
    /// When a voter was last removed without a replacement, on that clock.
    removed: Option<Duration>,
    /// When it may next hand over to somebody of a newer version.
    hand_over_at: Mono,
    /// Operators who wait for their settings to be committed.
    configuring: Vec<state::Configuring>,
}

/// A step in flight.
#[derive(Debug)]
struct InHand {
    ticket: u64,
    what: String,
    /// Of its decision.
    number: u64,
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
            self.configuring_lost(now);
            self.autopilot = Autopilot::default();
            return;
        }
        if self.autopilot.leads_since.is_none_or(|(term, _)| term != self.raft.term()) {
            self.configuring_lost(now);
            self.autopilot = Autopilot {
                leads_since: Some((self.raft.term(), now.mono)),
                led_from: self.watch.clock(),
                ..Autopilot::default()
            };
        }
        self.answer_removals(now);
        self.answer_configuring(now);
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
        if let Some((rule, step)) = self.next_step(now, &status) {
            self.take(now, (rule, step), &status);
        } else {
            self.makes_way_for_newer(now, &status);
        }
    }

    /// The first rule that wants something. The order is the policy: what others have asked for, then what is broken, then
    /// what could be better.
    fn next_step(&mut self, now: Now, status: &Status) -> Option<(&'static str, Step)> {
        let rules: [(&'static str, Rule); 12] = [
            ("removal", |node, now, status| node.removal_step(now, status)),
            ("registration", |node, now, _| node.registration_step(now)),
            ("settings", |node, _, _| node.settings_step()),
            ("supersede", |node, now, status| node.supersede_step(now, status)),
            ("wish", |node, now, status| node.wish_step(now, status)),
            ("replacement", |node, now, status| node.replacement_step(now, status)),
            ("level", |node, _, status| node.level_step(status)),
            ("learner", |node, now, status| node.learner_step(now, status)),
            ("growth", |node, now, status| node.growth_step(now, status)),
            ("upgrade", |node, now, status| node.upgrade_step(now, status)),
            ("zone", |node, now, status| node.zone_step(now, status)),
            ("shrink", |node, now, status| node.shrink_step(now, status)),
        ];
        rules.into_iter().find_map(|(name, rule)| Some((name, rule(self, now, status)?)))
    }

    fn take(&mut self, now: Now, (rule, step): (&'static str, Step), status: &Status) {
        let ticket = self.token();
        let what = step.why().to_owned();
        self.note(Level::Info, what.clone());
        let (inputs, about) = self.inputs(now, &step, status);
        let number = self.decisions.note(now, (rule, what.clone()), inputs, about);
        self.autopilot.step = Some(InHand { ticket, what, number });
        match step {
            Step::Registry(command, _) => {
                self.propose(now, ticket, EntryKind::Registry, codec::encode(&command).into(), 0);
            }
            Step::Change { voters, learners, .. } => {
                let expected = status.configuration_index;
                let change = quorate_raft::Input::Change { ticket: Ticket(ticket), expected, voters, learners };
                self.raft.handle(now, change);
                self.drain_raft(now);
            }
        }
    }

    /// The end of a step, if `ticket` is one.
    pub(super) fn autopilot_done(&mut self, now: Now, ticket: u64, outcome: Outcome) -> bool {
        let Some(InHand { what, number, .. }) = self.autopilot.step.take_if(|step| step.ticket == ticket) else {
            return false;
        };
        let came = match outcome {
            Outcome::Committed { .. } => {
                self.hurry(now);
                "done".to_owned()
            }
            Outcome::Rejected(why) => {
                self.autopilot.not_before = now.mono.after(PAUSE);
                if self.raft.is_leader() {
                    self.note(Level::Info, format!("{what}: put off ({why:?})"));
                }
                format!("put off ({why:?})")
            }
            Outcome::Lost => "not known: this agent leads no more".to_owned(),
        };
        self.decisions.ended(number, came);
        true
    }
}
