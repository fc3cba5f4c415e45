//! Who could vote: what a learner lacks for a seat, and who of several gets it.
//!
//! It gives no seat.

use crate::node::Node;
use quorate_raft::{NodeId, Now, Status, mutant};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What the seat is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seat {
    /// One more: a cluster that forms must not wait, so who has not failed of late needs no stability but the patience of
    /// growth itself.
    New,
    /// That of somebody else: nothing hurries, or what hurries was waited for already.
    Others,
}

impl Node {
    /// Why this learner gets no such seat now, to be read after "it".
    pub(super) fn why_no_seat(&self, now: Now, status: &Status, node: NodeId, seat: Seat) -> Option<String> {
        let id = node.get();
        if self.registry.node(id).is_none() {
            return Some("holds no name in the registry".into());
        }
        if self.registry.has_departed(id) {
            return Some("is leaving".into());
        }
        if !self.may_vote(node) {
            return Some("is drained, or an operator has demoted it".into());
        }
        if !self.is_present(id) {
            return Some(self.why_not_present(id));
        }
        if !self.is_caught_up(now.mono, status, node) {
            let behind = status.peers.get(&node).map_or(0, |p| status.committed.0.saturating_sub(p.matched.0));
            return Some(match behind {
                0 => "has not answered within two heartbeats".into(),
                n => format!("lacks {n} committed entries"),
            });
        }
        if self.spares.is_sick(now.mono, id) {
            return Some("cannot read all of its log".into());
        }
        let flaps = self.flaps_of(id);
        if self.flaps(id) && !mutant!(FlapperPromoted) {
            let window = span(self.settings().flap_window());
            return Some(format!("flaps: it failed and came back {flaps} times within {window}"));
        }
        if seat == Seat::New && flaps == 0 {
            return None;
        }
        let (stable, needed) = (self.watch.stable_for(id), self.settings().stabilization(flaps));
        let often = if flaps == 0 { String::new() } else { format!(", doubled for each of {flaps} failures") };
        (stable < needed).then(|| format!("has been stable for {} of {}{often}", span(stable), span(needed)))
    }

    pub(super) fn why_not_present(&self, node: u64) -> String {
        match self.members.member(node).map(|m| m.state) {
            None => "was never seen in gossip".into(),
            Some(quorate_membership::State::Alive) => "is not connected with the leader".into(),
            Some(state) => format!("is {state} in gossip"),
        }
    }

    /// Learners that could take such a seat at once.
    pub(super) fn ready(&self, now: Now, status: &Status, seat: Seat) -> Vec<NodeId> {
        let learners = status.configuration.learners.iter().copied();
        learners.filter(|l| self.why_no_seat(now, status, *l, seat).is_none()).collect()
    }

    /// The zone of an agent, if there is such a tag and it has one.
    pub(in crate::node) fn zone_of(&self, node: u64) -> Option<String> {
        let key = self.settings().zone_tag.as_str();
        let member = self.members.member(node).filter(|_| !key.is_empty())?;
        member.tags.as_map().get(key).filter(|zone| !zone.is_empty()).cloned()
    }

    /// How many of these are in each zone; those without one are in one of their own.
    pub(super) fn zones<'a>(&self, nodes: impl IntoIterator<Item = &'a NodeId>) -> BTreeMap<Option<String>, usize> {
        let mut zones = BTreeMap::new();
        for node in nodes {
            *zones.entry(self.zone_of(node.get())).or_insert(0) += 1;
        }
        zones
    }

    /// So many of these, each in the zone that has fewest voters then. `instead_of`: the zone of a seat that is free.
    pub(super) fn spread(
        &self,
        ready: &[NodeId],
        voters: &BTreeSet<NodeId>,
        how_many: usize,
        instead_of: Option<&Option<String>>,
    ) -> BTreeSet<NodeId> {
        let mut zones = self.zones(voters);
        let mut left: Vec<NodeId> = ready.to_vec();
        let mut chosen = BTreeSet::new();
        while chosen.len() < how_many {
            let best = left.iter().copied().min_by_key(|node| {
                let zone = self.zone_of(node.get());
                let crowd = if mutant!(ZonesIgnored) { 0 } else { zones.get(&zone).copied().unwrap_or(0) };
                let elsewhere = instead_of.is_some_and(|same| *same != zone) && !mutant!(ZonesIgnored);
                let stable = self.watch.stable_for(node.get()).as_secs();
                // Growth has taken the lowest ids always; among spares the steadiest comes first.
                let restless = instead_of.map(|_| (self.flaps_of(node.get()), Reverse(stable)));
                (crowd, elsewhere, restless, *node)
            });
            let Some(best) = best else { break };
            left.retain(|node| *node != best);
            *zones.entry(self.zone_of(best.get())).or_insert(0) += 1;
            chosen.insert(best);
        }
        chosen
    }
}

/// A span as people read it: to a tenth of a second, minutes from two on.
pub(super) fn span(span: Duration) -> String {
    match span.as_secs() {
        0..60 if span.subsec_millis() >= 50 => format!("{:.1} s", span.as_secs_f64()),
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 if seconds % 60 == 0 => format!("{} min", seconds / 60),
        seconds @ 120..7200 => format!("{} min {} s", seconds / 60, seconds % 60),
        seconds => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}
