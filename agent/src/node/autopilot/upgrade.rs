//! Upgrades: spares of a newer version take the seats of older ones, and one of the newer ones leads.
//!
//! An upgrade in place needs nothing of this: each agent keeps its seat through its restart. It never acts while a voter
//! does not answer or tells a version that is no version, and never where the group would stand still if one of those that
//! come in died meanwhile: a single voter is joined by others first, or gives its seat away as its operator says.

use super::candidates::Seat;
use super::step::Step;
use super::zones::swapped;
use crate::node::Node;
use crate::node::handover::Why;
use quorate_raft::{Configuration, NodeId, Now, Status};
use std::cmp::Reverse;
use std::collections::BTreeSet;

/// A version that can be compared: major, minor, patch.
pub(super) type Version = (u64, u64, u64);

/// Reads `1.2.3`, with or without something behind a `-` or `+`.
pub(super) fn version(text: &str) -> Option<Version> {
    let plain = text.split(['-', '+']).next()?;
    let mut numbers = plain.split('.').map(|n| n.parse::<u64>().ok());
    let version = (numbers.next()??, numbers.next()??, numbers.next()??);
    numbers.next().is_none().then_some(version)
}

impl Node {
    /// The program version of an agent, as it says itself.
    pub(super) fn version_of(&self, node: u64) -> String {
        if node == self.me.get() {
            return self.options.version.clone();
        }
        self.members.member(node).map(|m| m.version.into()).unwrap_or_default()
    }

    pub(super) fn comparable(&self, node: NodeId) -> Option<Version> {
        version(&self.version_of(node.get()))
    }

    /// When enough spares of the newest version are ready they take seats of older voters, all in one change. Enough is as
    /// many as there are older voters, or as many as the group has room for beside its voters.
    pub(super) fn upgrade_step(&self, now: Now, status: &Status) -> Option<Step> {
        let Configuration { voters, learners, .. } = &status.configuration;
        let well = |v: &NodeId| self.is_healthy(now.mono, status, *v) && self.comparable(*v).is_some();
        if !self.settings().upgrade || !voters.iter().all(well) {
            return None;
        }
        let mut ready = self.ready(now, status, Seat::Others);
        let newest = ready.iter().filter_map(|l| self.comparable(*l)).max()?;
        ready.retain(|l| self.comparable(*l) == Some(newest));
        let mut older: Vec<NodeId> =
            voters.iter().copied().filter(|v| self.comparable(*v) < Some(newest) && self.may_lose_seat(*v)).collect();
        let enough = older.len().min(self.options.replicas_max.saturating_sub(voters.len()));
        if older.is_empty() || ready.len() < enough.max(1) {
            return None;
        }
        // The leader last: it hands over first, once most voters are of the newer version.
        older.sort_by_key(|v| (*v == self.me, Reverse(self.flaps(v.get())), self.comparable(*v), *v));
        older.truncate(ready.len());
        older.retain(|v| *v != self.me);
        let victims: BTreeSet<NodeId> = older.into_iter().collect();
        let rest = voters.difference(&victims).copied().collect();
        let spares = self.spread(&ready, &rest, victims.len(), None);
        if victims.is_empty() || spares.len() != victims.len() {
            return None;
        }
        let names = |nodes: &BTreeSet<NodeId>| nodes.iter().map(|n| self.of(*n)).collect::<Vec<_>>().join(", ");
        let to = spares.first().map(|n| self.version_of(n.get())).unwrap_or_default();
        let why = format!("{} of version {to} take the seats of {}", names(&spares), names(&victims));
        let (voters, learners) = swapped(voters, learners, &victims, &spares);
        let is_safe =
            self.is_healthy_majority(now.mono, status, &voters) && self.bears_a_newcomer(now, status, &voters);
        is_safe.then_some(Step::Change { voters, learners, why })
    }

    /// An older leader hands over once most voters are of a newer version.
    pub(super) fn makes_way_for_newer(&mut self, now: Now, status: &Status) {
        let voters = &status.configuration.voters;
        let mine = version(&self.options.version);
        let newer = |v: &NodeId| mine.is_some() && self.comparable(*v) > mine;
        let newer: BTreeSet<NodeId> = voters.iter().copied().filter(newer).collect();
        let most = newer.len() > voters.len() / 2;
        if !self.settings().upgrade || !most || now.mono < self.autopilot.hand_over_at {
            return;
        }
        self.autopilot.hand_over_at = now.mono.after(super::HAND_OVER_AGAIN);
        self.hand_over_to_one_of(now, &newer, Why::Upgrade);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_as_numbers_and_nonsense_is_none() {
        assert!(version("0.10.0") > version("0.9.4"));
        assert_eq!(version("1.2.3-rc.1+build"), Some((1, 2, 3)));
        for nonsense in ["", "sim", "1.2", "1.2.3.4", "v1.2.3", "1.-2.3"] {
            assert_eq!(version(nonsense), None, "{nonsense}");
        }
    }
}
