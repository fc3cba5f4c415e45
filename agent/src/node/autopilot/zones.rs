//! Zones: a spare takes the seat of a voter where that spreads the voters over more zones.
//!
//! It never moves a seat while any voter does not answer, and never for what is as good as before.

use super::candidates::Seat;
use super::step::Step;
use crate::node::Node;
use quorate_raft::{Configuration, NodeId, Now, Status};
use std::collections::BTreeSet;

impl Node {
    /// One seat, from the most crowded zone to one with two voters less.
    pub(super) fn zone_step(&self, now: Now, status: &Status) -> Option<Step> {
        let Configuration { voters, learners, .. } = &status.configuration;
        let zones = self.zones(voters);
        let all_well = voters.iter().all(|v| self.is_healthy(now.mono, status, *v));
        // Without a zone anywhere there is nothing to spread over.
        if !all_well || zones.keys().chain(self.zones(learners).keys()).all(Option::is_none) {
            return None;
        }
        let crowd = |node: &NodeId| zones.get(&self.zone_of(node.get())).copied().unwrap_or(0);
        let spare = self.spread(&self.ready(now, status, Seat::Others), voters, 1, None).pop_first()?;
        // A seat never goes back to an older version: upgrades gave it to the newer one.
        let older = |v: &NodeId| self.settings().upgrade && self.comparable(spare) < self.comparable(*v);
        let victims = voters.iter().copied().filter(|v| *v != self.me && self.may_lose_seat(*v) && !older(v));
        let victim = victims.max_by_key(|v| (crowd(v), self.flaps(v.get()), *v))?;
        if crowd(&victim) < crowd(&spare) + 2 {
            return None;
        }
        let why = format!(
            "{} (zone {}) takes the seat of {} (zone {}, which has {} voters)",
            self.of(spare),
            self.zone_name(spare),
            self.of(victim),
            self.zone_name(victim),
            crowd(&victim)
        );
        let (voters, learners) = swapped(voters, learners, &[victim].into(), &[spare].into());
        let is_safe =
            self.is_healthy_majority(now.mono, status, &voters) && self.bears_a_newcomer(now, status, &voters);
        is_safe.then_some(Step::Change { voters, learners, why })
    }

    /// May the autopilot take this seat on its own account?
    pub(super) fn may_lose_seat(&self, node: NodeId) -> bool {
        !matches!(self.registry.pinned(node.get()), Some(crate::machine::registry::Seat::Voter { .. }))
    }

    fn zone_name(&self, node: NodeId) -> String {
        self.zone_of(node.get()).map_or_else(|| "none".into(), |zone| crate::limits::printable(&zone))
    }

    /// What an operator should know of zones.
    pub(in crate::node) fn zone_problems(&self, voters: &BTreeSet<u64>) -> Vec<String> {
        let voters: BTreeSet<NodeId> = voters.iter().filter_map(|v| NodeId::new(*v)).collect();
        let zones = self.zones(&voters);
        let known = zones.keys().flatten().count();
        if voters.len() < 3 || known != 2 || zones.contains_key(&None) {
            return Vec::new();
        }
        let most = zones.iter().max_by_key(|(_, count)| **count);
        let largest = most.and_then(|(zone, _)| zone.as_deref()).unwrap_or_default();
        vec![format!(
            "the voters are in two zones only: if zone {} is lost, nobody decides; add agents in a third zone",
            crate::limits::printable(largest)
        )]
    }
}

/// The configuration after these voters gave their seats to these learners, and learn instead.
pub(super) fn swapped(
    voters: &BTreeSet<NodeId>,
    learners: &BTreeSet<NodeId>,
    victims: &BTreeSet<NodeId>,
    spares: &BTreeSet<NodeId>,
) -> (BTreeSet<NodeId>, BTreeSet<NodeId>) {
    let voters_after = voters.difference(victims).chain(spares).copied().collect();
    let learners_after = learners.difference(spares).chain(victims).copied().collect();
    (voters_after, learners_after)
}
