//! The dead: a spare takes the seat of a voter that has been dead for long, in one joint change.
//!
//! Dead is who gossip calls failed, who is not connected and does not answer in Raft, for as long as the settings say, by
//! the observation of the leader and of another member too. Of whom gossip does not know at all nobody is sure: everybody
//! was restarted while it was gone, or it was never there. Its seat is handed on only if every member that answers
//! misses it for as long; it is never given up for that.
//!
//! It never lowers the number of voters unless an operator has set `remove_after`; then one a minute, never below
//! `voters_min`, and only if one more than a quorum of the rest is here.

use super::candidates::{Seat, span};
use super::step::Step;
use crate::node::Node;
use quorate_raft::{Configuration, LogIndex, NodeId, Now, Status, mutant};
use std::collections::BTreeSet;
use std::time::Duration;

/// A new leader looks for so long before it calls anybody dead: each agent has time to find and greet it.
const SETTLE: Duration = Duration::from_secs(10);
/// Between two removals without replacement.
const REMOVAL_PAUSE: Duration = Duration::from_secs(60);

impl Node {
    /// Why this member does not count as dead for that long, to be read after "it".
    pub(super) fn why_not_dead(&self, node: NodeId, dead_after: Duration) -> Option<String> {
        let Some(gone) = self.watch.gone_for(node.get()) else { return Some("is not gone".into()) };
        if mutant!(ReplacedTooSoon) {
            return None;
        }
        if gone < dead_after {
            return Some(format!("has been gone for {} of {}", span(gone), span(dead_after)));
        }
        let others = |n: &&NodeId| **n != self.me && **n != node && self.watch.gone_for(n.get()).is_none();
        let members = self.raft.configuration().members();
        let (miss, see): (Vec<NodeId>, Vec<NodeId>) =
            members.iter().filter(others).partition(|n| self.watch.is_missed_by(node.get(), n.get()));
        if miss.is_empty() {
            return Some("is missed by nobody but the leader".into());
        }
        if !see.is_empty() && self.members.member(node.get()).is_none() {
            return Some(format!("is not known to gossip, and {} does not say that it misses it", self.of(see[0])));
        }
        let led = self.watch.since(self.autopilot.led_from);
        (led < SETTLE.min(dead_after)).then(|| format!("has not been watched by this leader for {} yet", span(SETTLE)))
    }

    /// A spare for a dead voter.
    pub(super) fn replacement_step(&self, now: Now, status: &Status) -> Option<Step> {
        let Configuration { voters, learners, .. } = &status.configuration;
        let patience = self.settings().replace_after();
        let victim = voters.iter().copied().filter(|v| self.why_not_dead(*v, patience).is_none());
        // One at a time: the one that flapped, else the one that is gone for longest.
        let victim = victim.max_by_key(|v| (self.flaps(v.get()), self.watch.gone_for(v.get())))?;
        let rest = voters.iter().copied().filter(|v| *v != victim).collect();
        let ready = self.ready(now, status, Seat::Others);
        let zone = self.zone_of(victim.get());
        let spare = self.spread(&ready, &rest, 1, Some(&zone)).pop_first()?;
        let mut voters = rest;
        voters.insert(spare);
        let learners = learners.iter().copied().filter(|l| *l != spare).collect();
        let gone = span(self.watch.gone_for(victim.get()).unwrap_or_default());
        let why = format!("{} takes the seat of {}, gone for {gone}", self.of(spare), self.of(victim));
        self.is_healthy_majority(now.mono, status, &voters).then_some(Step::Change { voters, learners, why })
    }

    /// A dead voter for which there is no spare, if the settings allow it at all.
    pub(super) fn shrink_step(&mut self, now: Now, status: &Status) -> Option<Step> {
        let patience = Duration::from_millis(self.settings().remove_after_ms);
        let voters_min = self.settings().voters_min as usize;
        let Configuration { voters, learners, .. } = &status.configuration;
        if patience.is_zero() && !mutant!(RemovedUnreplaced) {
            return None;
        }
        // Only whom gossip calls failed: that it does not know one proves nothing.
        let mut dead = voters.iter().copied().filter(|v| self.members.member(v.get()).is_some());
        let victim = dead.find(|v| self.why_not_dead(*v, patience).is_none())?;
        let rest: BTreeSet<NodeId> = voters.iter().copied().filter(|v| *v != victim).collect();
        let here = rest.iter().filter(|v| self.is_here(now.mono, status, **v)).count();
        let lately = self.autopilot.removed.unwrap_or(self.autopilot.led_from);
        let is_safe = rest.len() >= voters_min && here > rest.len() / 2 + 1;
        let is_time = self.watch.since(lately) >= REMOVAL_PAUSE;
        if !(is_safe && is_time || mutant!(RemovedUnreplaced)) {
            return None;
        }
        self.autopilot.removed = Some(self.watch.clock());
        let gone = span(self.watch.gone_for(victim.get()).unwrap_or_default());
        let why = format!("removing {}, gone for {gone}, without a replacement as the settings allow", self.of(victim));
        Some(Step::Change { voters: rest, learners: learners.clone(), why })
    }

    /// It holds the log and is no member any more, by its own log or by what a leader says to those outside.
    pub(in crate::node) fn seat_problem(&self) -> Option<String> {
        let view = self.view.as_ref()?;
        let held = self.raft.last().index > LogIndex::ZERO;
        let members = view.voters.len() + view.learners.len();
        (held && !self.in_raft() && !view.departed).then(|| {
            format!(
                "this agent is no member of the group any more: its seat was given to another while it was gone; the group \
                 has {members} members, and takes it in again when there is room"
            )
        })
    }

    /// The name of a node, for people.
    pub(super) fn of(&self, node: NodeId) -> String {
        self.name_of(node.get())
    }
}
