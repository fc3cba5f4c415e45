//! Configuration: who votes and who learns, and which changes are legal (§4).
//!
//! It never holds an address: those are soft state of the gossip.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

use crate::{LogIndex, NodeId, mutant};

/// Who votes, who learns, and, in a joint phase, who voted before (§4.3).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Configuration {
    /// The voters (the incoming ones in a joint phase).
    pub voters: BTreeSet<NodeId>,
    /// The outgoing voters of a joint phase; empty outside one.
    pub outgoing: BTreeSet<NodeId>,
    /// Nodes that receive the log and have no vote. In a joint phase a voter that is being demoted stands here and
    /// among the outgoing ones: it votes until the phase ends.
    pub learners: BTreeSet<NodeId>,
}

impl Configuration {
    /// The founding configuration: one voter.
    #[must_use]
    pub fn sole(node: NodeId) -> Self {
        Self { voters: BTreeSet::from([node]), ..Self::default() }
    }

    /// Does this node vote, in either half of a joint phase?
    #[must_use]
    pub fn is_voter(&self, node: NodeId) -> bool {
        self.voters.contains(&node) || self.outgoing.contains(&node)
    }

    /// Does this node receive the log?
    #[must_use]
    pub fn is_member(&self, node: NodeId) -> bool {
        self.is_voter(node) || self.learners.contains(&node)
    }

    /// Is this the joint phase of a change?
    #[must_use]
    pub fn is_joint(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// All members once, ascending.
    #[must_use]
    pub fn members(&self) -> BTreeSet<NodeId> {
        self.voters.iter().chain(&self.outgoing).chain(&self.learners).copied().collect()
    }

    /// Some node votes, and no voter learns.
    #[must_use]
    pub fn is_legal(&self) -> bool {
        !self.voters.is_empty() && self.voters.is_disjoint(&self.learners)
    }

    /// The next configuration on the way to `voters` and `learners`: joint where the voters differ, else final.
    /// `None` if the wish is illegal, or if this one is itself joint.
    pub(crate) fn toward(&self, voters: BTreeSet<NodeId>, learners: BTreeSet<NodeId>) -> Option<Self> {
        let outgoing = if voters == self.voters { BTreeSet::new() } else { self.voters.clone() };
        let next = Self { voters, outgoing, learners };
        (next.is_legal() && !self.is_joint()).then_some(next)
    }

    /// The configurations by which this one becomes `node` alone, in legal steps, for a log whose quorum is lost for good:
    /// nobody agrees to them.
    #[must_use]
    pub fn steps_to_sole(&self, node: NodeId) -> Vec<Self> {
        let mut steps = Vec::new();
        let mut current = self.clone();
        while current != Self::sole(node) {
            let alone = || current.toward(BTreeSet::from([node]), BTreeSet::new());
            let next = if current.is_joint() { Some(current.leave()) } else { alone() };
            // A set of one is always legal to wish for.
            let Some(next) = next else { break };
            steps.push(next.clone());
            current = next;
        }
        steps
    }

    /// May `next` be the configuration after this one, whoever wrote it? One legal step (§4.3): to the joint phase, out
    /// of it, or to other learners. Any legal one may be the first of a log.
    pub(crate) fn may_precede(&self, next: &Self) -> bool {
        if self.voters.is_empty() {
            return !next.is_joint();
        }
        if self.is_joint() {
            *next == self.leave()
        } else {
            self.toward(next.voters.clone(), next.learners.clone()).as_ref() == Some(next)
        }
    }

    /// What follows the joint phase (§4.3).
    pub(crate) fn leave(&self) -> Self {
        Self { voters: self.voters.clone(), outgoing: BTreeSet::new(), learners: self.learners.clone() }
    }
}

/// One configuration of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Configured {
    pub(crate) index: LogIndex,
    pub(crate) configuration: Configuration,
    /// The entry that admitted each member, through all configurations since in which it stayed: the fence that
    /// keeps an answer from an earlier membership from being counted.
    pub(crate) admitted: BTreeMap<NodeId, LogIndex>,
}

/// The configurations of the log that may still matter: the last committed one and all after it. A truncation reverts
/// to the one before (§4.1).
#[derive(Clone, Debug)]
pub(crate) struct Configurations {
    kept: Vec<Configured>,
    /// How often the one in force has changed.
    changes: u64,
}

impl Configurations {
    pub(crate) fn new() -> Self {
        let nobody =
            Configured { index: LogIndex::ZERO, configuration: Configuration::default(), admitted: BTreeMap::new() };
        Self { kept: alloc::vec![nobody], changes: 0 }
    }

    pub(crate) fn current(&self) -> &Configured {
        if mutant!(ConfigurationWhenCommitted) {
            return &self.kept[0];
        }
        // Never empty: made with one, and neither `revert` nor `forget_before` takes the first that is left.
        &self.kept[self.kept.len() - 1]
    }

    /// The one in force just before `index`, if it is still known, and where it stands.
    pub(crate) fn before(&self, index: LogIndex) -> Option<(LogIndex, &Configuration)> {
        self.kept.iter().rev().find(|c| c.index < index).map(|c| (c.index, &c.configuration))
    }

    /// In force from the moment it is appended (§4.1).
    pub(crate) fn append(&mut self, index: LogIndex, configuration: Configuration) {
        let before = &self.current().admitted;
        let admitted = configuration
            .members()
            .into_iter()
            .map(|member| (member, before.get(&member).copied().unwrap_or(index)))
            .collect();
        self.changes += 1;
        self.kept.push(Configured { index, configuration, admitted });
    }

    /// An entry inside the log, unreadable until now, holds this one: it takes its place among those that are kept. Nobody
    /// leads meanwhile, so no fence that it gives has been used.
    pub(crate) fn learn(&mut self, index: LogIndex, configuration: Configuration) {
        let is_old = self.kept[0].index >= index;
        if is_old || self.kept.iter().any(|c| c.index == index) {
            return;
        }
        let at = self.kept.partition_point(|c| c.index < index);
        let later = self.kept.split_off(at);
        self.append(index, configuration);
        for Configured { index, configuration, .. } in later {
            self.append(index, configuration);
        }
    }

    /// May this node stand for election: does it vote now, or did it until an entry that may yet be undone? A leader
    /// that wrote itself out of the configuration, and was cut off before anyone heard, must still be able to lead:
    /// its log may be longer than any other, and its vote needed until that entry is committed (§4.2.2).
    pub(crate) fn may_stand(&self, node: NodeId, committed: LogIndex) -> bool {
        let undecided = self.current().index > committed;
        let before = self.kept.len().checked_sub(2).filter(|_| undecided).map(|at| &self.kept[at]);
        self.current().configuration.is_voter(node) || before.is_some_and(|before| before.configuration.is_voter(node))
    }

    /// Drops those at `from` and after.
    pub(crate) fn revert(&mut self, from: LogIndex) {
        while self.kept.len() > 1 && self.current().index >= from {
            self.kept.pop();
            self.changes += 1;
        }
    }

    /// Keeps the newest at or before `committed`, and all after it.
    pub(crate) fn forget_before(&mut self, committed: LogIndex) {
        let newest = self.kept.iter().rposition(|c| c.index <= committed).unwrap_or(0);
        self.kept.drain(..newest);
    }

    /// The first one after `index` that is not joint.
    pub(crate) fn first_final_after(&self, index: LogIndex) -> Option<LogIndex> {
        self.kept.iter().find(|c| c.index > index && !c.configuration.is_joint()).map(|c| c.index)
    }

    /// How often the one in force has changed.
    pub(crate) fn changes(&self) -> u64 {
        self.changes
    }

    /// Where those that are kept stand, ascending.
    pub(crate) fn indexes(&self) -> impl Iterator<Item = LogIndex> + '_ {
        self.kept.iter().map(|c| c.index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn node(n: u64) -> NodeId {
        NodeId::new(n).expect("not zero")
    }

    fn nodes() -> impl Strategy<Value = BTreeSet<NodeId>> {
        proptest::collection::btree_set((1u64..=7).prop_map(node), 0..=5)
    }

    proptest! {
        /// §4.3: no set of nodes may decide for the old voters alone, or for the new ones alone, during the change.
        #[test]
        fn each_step_of_a_change_overlaps_the_one_before(old in nodes(), voters in nodes(), learners in nodes(), yes in nodes()) {
            let old = Configuration { voters: old, ..Configuration::default() };
            prop_assume!(old.is_legal());
            match old.toward(voters.clone(), learners.clone()) {
                None => prop_assert!(voters.is_empty() || !voters.is_disjoint(&learners)),
                Some(step) if step.is_joint() => {
                    let (yes, no) = (|n| yes.contains(&n), |n| !yes.contains(&n));
                    let decided = |c: &Configuration, by: &dyn Fn(NodeId) -> bool| c.agreed(by) == Some(true);
                    prop_assert!(!(decided(&step, &yes) && decided(&old, &no)));
                    prop_assert!(!(decided(&step, &yes) && decided(&step.leave(), &no)));
                    prop_assert_eq!(step.leave().voters, voters);
                    prop_assert!(step.toward(old.voters.clone(), BTreeSet::new()).is_none());
                }
                Some(step) => prop_assert_eq!(step.voters, old.voters),
            }
        }
    }

    proptest! {
        #[test]
        fn any_group_becomes_one_node_in_legal_steps(voters in nodes(), outgoing in nodes(), learners in nodes(), me in 1u64..=8) {
            let from = Configuration { learners: learners.difference(&voters).copied().collect(), voters, outgoing };
            prop_assume!(from.is_legal());
            let steps = from.steps_to_sole(node(me));
            let mut before = &from;
            for step in &steps {
                prop_assert!(step.is_legal() && before.may_precede(step));
                before = step;
            }
            prop_assert_eq!(before, &Configuration::sole(node(me)));
        }
    }

    #[test]
    fn a_member_that_left_and_came_back_is_admitted_anew() {
        let mut all = Configurations::new();
        let (one, two) = (node(1), node(2));
        let both = Configuration { voters: [one].into(), learners: [two].into(), ..Configuration::default() };
        all.append(LogIndex(1), Configuration::sole(one));
        all.append(LogIndex(2), both.clone());
        all.append(LogIndex(3), Configuration::sole(one));
        all.append(LogIndex(4), both.clone());
        all.append(LogIndex(5), both);
        assert_eq!(all.current().admitted[&one], LogIndex(1));
        assert_eq!(all.current().admitted[&two], LogIndex(4));
        all.revert(LogIndex(3));
        assert_eq!(all.current().admitted[&two], LogIndex(2));
    }

    /// Configurations at 1, 4 (joint), 5 and 9, of 1 to 3, and of 2 and 3.
    fn history() -> Configurations {
        let (three, two) = ([node(1), node(2), node(3)].into(), BTreeSet::from([node(2), node(3)]));
        let three = Configuration { voters: three, ..Configuration::default() };
        let joint = three.toward(two, BTreeSet::new()).expect("legal");
        let mut all = Configurations::new();
        all.append(LogIndex(1), three);
        all.append(LogIndex(4), joint.clone());
        all.append(LogIndex(5), joint.leave());
        all.append(LogIndex(9), joint.leave());
        all
    }

    #[test]
    fn the_one_before_an_entry_is_that_of_an_earlier_entry() {
        let all = history();
        let size = |index| all.before(LogIndex(index)).map(|(_, c)| (c.voters.len(), c.is_joint()));
        assert_eq!([size(1), size(2), size(4)], [Some((0, false)), Some((3, false)), Some((3, false))]);
        assert_eq!([size(5), size(6), size(99)], [Some((2, true)), Some((2, false)), Some((2, false))]);
        assert_eq!(all.before(LogIndex::ZERO), None);
    }

    #[test]
    fn the_first_final_one_after_an_entry_is_a_later_one_that_is_not_joint() {
        let all = history();
        let first = |index| all.first_final_after(LogIndex(index)).map(|index| index.0);
        assert_eq!([first(0), first(1), first(4), first(5), first(9)], [Some(1), Some(5), Some(5), Some(9), None]);
    }

    /// The last committed one is never forgotten, and all after it are kept.
    #[test]
    fn what_may_still_be_reverted_to_is_kept_and_no_more() {
        for (committed, kept) in
            [(0, &[0, 1, 4, 5, 9][..]), (3, &[1, 4, 5, 9]), (4, &[4, 5, 9]), (8, &[5, 9]), (99, &[9])]
        {
            let mut all = history();
            all.forget_before(LogIndex(committed));
            assert_eq!(all.indexes().map(|index| index.0).collect::<Vec<_>>(), kept);
        }
    }

    /// Whoever counts the changes sees each one, also that of a reversal; and the last one is never reverted.
    #[test]
    fn each_change_counts_and_the_last_one_stays() {
        let mut all = history();
        assert_eq!((all.changes(), all.current().index), (4, LogIndex(9)));
        all.revert(LogIndex(10));
        assert_eq!(all.changes(), 4, "nothing was there to revert");
        all.revert(LogIndex(5));
        assert_eq!((all.changes(), all.current().index), (6, LogIndex(4)));
        all.forget_before(LogIndex(4));
        all.revert(LogIndex(2));
        assert_eq!((all.changes(), all.current().index), (6, LogIndex(4)));
    }

    /// Who was written out may stand until that is committed, and not a moment longer (§4.2.2).
    #[test]
    fn who_was_written_out_may_stand_until_that_is_committed() {
        let mut all = history();
        all.revert(LogIndex(9));
        let may = |committed| all.may_stand(node(1), LogIndex(committed));
        assert_eq!([may(3), may(4), may(5), may(6)], [true, true, false, false]);
        assert!(all.may_stand(node(2), LogIndex(99)) && !all.may_stand(node(7), LogIndex(0)));
    }

    proptest! {
        /// What may follow is one step of §4.3, written down from its words and not from the code: nothing but learners
        /// changes; or a joint phase begins, with the old voters outgoing; or it ends, with nothing else changed.
        #[test]
        fn what_may_follow_is_one_legal_step(
            (a, b, c) in (nodes(), nodes(), nodes()), (x, y, z) in (nodes(), nodes(), nodes()), alike in 0u8..6
        ) {
            let before = Configuration { voters: a, outgoing: b, learners: c };
            let mut next = Configuration { voters: x, outgoing: y, learners: z };
            // Random sets are hardly ever a step; most of these are, or nearly.
            if alike & 1 > 0 { next.voters = before.voters.clone(); }
            if alike & 2 > 0 { next.outgoing = before.voters.clone(); }
            if alike & 4 > 0 { next.learners = before.learners.clone(); }
            if alike == 5 { next.outgoing.clear(); }
            let is_step = if before.voters.is_empty() {
                next.outgoing.is_empty()
            } else if before.outgoing.is_empty() {
                let legal = !next.voters.is_empty() && next.voters.intersection(&next.learners).count() == 0;
                let learners_only = next.voters == before.voters && next.outgoing.is_empty();
                let begins = next.voters != before.voters && next.outgoing == before.voters;
                legal && (learners_only || begins)
            } else {
                next.voters == before.voters && next.outgoing.is_empty() && next.learners == before.learners
            };
            prop_assert_eq!(before.may_precede(&next), is_step, "{:?} then {:?}", before, next);
            let everybody: BTreeSet<_> = before.voters.iter().chain(&before.outgoing).chain(&before.learners).copied().collect();
            prop_assert_eq!(before.members(), everybody.clone());
            for n in (1..=7).map(node) {
                prop_assert_eq!(before.is_member(n), everybody.contains(&n));
                prop_assert_eq!(before.is_voter(n), before.voters.contains(&n) || before.outgoing.contains(&n));
            }
        }
    }
}
