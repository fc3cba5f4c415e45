//! What operators want of single agents, carried out: seats change hands, one joint change each.
//!
//! It never judges whether a wish is wise: that was done before it was written into the log.

use super::step::Step;
use crate::machine::registry::Seat;
use crate::node::Node;
use quorate_raft::{Configuration, Mono, NodeId, Now, Status, mutant};
use std::collections::BTreeSet;

/// Another configuration, and what it does, for people.
pub(in crate::node) struct SeatChange {
    /// Who votes then.
    pub(in crate::node) voters: BTreeSet<NodeId>,
    learners: BTreeSet<NodeId>,
    why: String,
}

impl From<SeatChange> for Step {
    fn from(SeatChange { voters, learners, why }: SeatChange) -> Self {
        Self::Change { voters, learners, why }
    }
}

impl Node {
    /// A word of an operator for the log; else a seat that is not as operators want it.
    pub(super) fn wish_step(&mut self, now: Now, status: &Status) -> Option<Step> {
        if let Some((command, why)) = self.next_wish(now, status) {
            return Some(Step::Registry(command, why));
        }
        let voters = &status.configuration.voters;
        let drained = voters.iter().copied().filter(|v| self.registry.is_draining(v.get()));
        let mut drained = drained.filter_map(|v| self.seat_after_drain(now.mono, status, v));
        if let Some(change) = drained.next() {
            return Some(change.into());
        }
        let mut pinned = self.registry.pins().filter_map(|(node, seat)| {
            let id = NodeId::new(node)?;
            match seat {
                Seat::Voter { even } => self.seat_of_pinned_voter(now.mono, status, id, even),
                Seat::Learner { even } => self.seat_of_pinned_learner(now.mono, status, id, even),
            }
        });
        pinned.next().map(Step::from)
    }

    /// Could this learner vote at once, if somebody gave it a seat?
    pub(super) fn may_vote(&self, node: NodeId) -> bool {
        let pinned = matches!(self.registry.pinned(node.get()), Some(Seat::Learner { .. }));
        let drained = self.registry.is_draining(node.get()) && !mutant!(PromotesTheDrained);
        !pinned && !drained && !self.registry.has_departed(node.get())
    }

    /// Learners that could take a seat now, the one with most of the log first.
    pub(in crate::node) fn spares_of(&self, now: Mono, status: &Status) -> Vec<NodeId> {
        let learners = status.configuration.learners.iter().copied();
        let mut spares: Vec<NodeId> = learners
            .filter(|l| self.may_vote(*l) && self.registry.node(l.get()).is_some() && self.is_present(l.get()))
            .filter(|l| !self.is_of_another_log(l.get()) && self.is_caught_up(now, status, *l))
            .collect();
        spares.sort_by_key(|l| std::cmp::Reverse(status.peers.get(l).map(|peer| peer.matched)));
        spares
    }

    /// Who could have the seat of this voter: by the zones, then the steadiest.
    pub(in crate::node) fn spare_for(&self, now: Mono, status: &Status, voter: NodeId) -> Option<NodeId> {
        let rest = status.configuration.voters.iter().copied().filter(|v| *v != voter).collect();
        self.spread(&self.spares_of(now, status), &rest, 1, Some(&self.zone_of(voter.get()))).pop_first()
    }

    /// What draining this voter does to its seat: a spare takes it; without one it is given up if the group is even, for
    /// that bears as many failures with one voter less.
    pub(in crate::node) fn seat_after_drain(&self, now: Mono, status: &Status, node: NodeId) -> Option<SeatChange> {
        let even = status.configuration.voters.len().is_multiple_of(2);
        let why = format!("{} is drained", self.name_of(node.get()));
        self.seat_given_up(now, status, node, even, &why)
    }

    /// A voter that an operator wants to learn.
    pub(in crate::node) fn seat_of_pinned_learner(
        &self,
        now: Mono,
        status: &Status,
        node: NodeId,
        even: bool,
    ) -> Option<SeatChange> {
        let leaves_odd = status.configuration.voters.len().is_multiple_of(2);
        let why = format!("{} is to learn, as an operator says", self.name_of(node.get()));
        self.seat_given_up(now, status, node, leaves_odd || even, &why)
    }

    fn seat_given_up(&self, now: Mono, status: &Status, node: NodeId, alone: bool, why: &str) -> Option<SeatChange> {
        let Configuration { mut voters, mut learners, .. } = status.configuration.clone();
        if !voters.remove(&node) {
            return None;
        }
        learners.insert(node);
        let spare = self.spare_for(now, status, node);
        let why = match spare {
            Some(spare) => format!("{why}: {} takes its seat", self.name_of(spare.get())),
            None => format!("{why}: {} voters become {}", voters.len() + 1, voters.len()),
        };
        match spare {
            Some(spare) => {
                learners.remove(&spare);
                voters.insert(spare);
            }
            None if !alone || voters.is_empty() => return None,
            None => {}
        }
        // Each that counts must be here now: half a second ago is not enough where fewer are left.
        let here = voters.iter().filter(|v| self.is_here(now, status, **v)).count();
        let safe = here > voters.len() / 2 && self.is_healthy_majority(now, status, &voters);
        safe.then_some(SeatChange { voters, learners, why })
    }

    /// A learner that an operator wants to vote.
    pub(super) fn seat_of_pinned_voter(
        &self,
        now: Mono,
        status: &Status,
        node: NodeId,
        even: bool,
    ) -> Option<SeatChange> {
        let Configuration { mut voters, mut learners, .. } = status.configuration.clone();
        let can = self.may_vote(node) && self.is_present(node.get()) && self.is_caught_up(now, status, node);
        if !learners.remove(&node) || !can {
            return None;
        }
        voters.insert(node);
        let fits = voters.len() <= self.options.voters_target && (even || voters.len() % 2 == 1);
        let why = format!("{} votes, as an operator says", self.name_of(node.get()));
        let safe = fits && self.is_healthy_majority(now, status, &voters);
        safe.then_some(SeatChange { voters, learners, why })
    }
}
