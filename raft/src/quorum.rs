//! Quorum arithmetic: what a majority has reached, in a single and in a joint configuration (§3.5, §4.3).
//!
//! It knows nothing of logs or time: the same function answers for commit indexes, votes, read rounds and instants.

use alloc::collections::BTreeSet;

use crate::{Configuration, NodeId, mutant};

/// The greatest value that more than half of `voters` have reached; `None` without voters.
///
/// Quadratic, and without allocation: a configuration has at most a handful of voters, and this runs at every ack.
pub(crate) fn majority<T: Ord + Copy>(voters: &BTreeSet<NodeId>, reached: impl Fn(NodeId) -> T) -> Option<T> {
    let needed = if mutant!(HalfIsMajority) { voters.len().div_ceil(2) } else { voters.len() / 2 + 1 };
    let mut best = None;
    for candidate in voters.iter().map(|&voter| reached(voter)) {
        let supporters = voters.iter().filter(|&&voter| reached(voter) >= candidate).count();
        if supporters >= needed && best.is_none_or(|best| candidate > best) {
            best = Some(candidate);
        }
    }
    best
}

impl Configuration {
    /// Is this so of a quorum, in a joint phase of both?
    #[must_use]
    pub fn is_true_of_a_quorum(&self, is_so: impl Fn(NodeId) -> bool) -> bool {
        self.agreed(is_so) == Some(true)
    }

    /// The greatest value that a quorum has reached. In a joint phase both majorities must have reached it (§4.3).
    pub(crate) fn agreed<T: Ord + Copy>(&self, reached: impl Fn(NodeId) -> T) -> Option<T> {
        let incoming = majority(&self.voters, &reached)?;
        if mutant!(LearnerCounts) {
            return self.agreed_with_learners(reached);
        }
        if self.outgoing.is_empty() || mutant!(JointNeedsOneMajority) {
            return Some(incoming);
        }
        Some(incoming.min(majority(&self.outgoing, &reached)?))
    }

    /// A mutant: as many as a majority of the voters, whoever they are.
    fn agreed_with_learners<T: Ord + Copy>(&self, reached: impl Fn(NodeId) -> T) -> Option<T> {
        let mut all: alloc::vec::Vec<T> = self.voters.union(&self.learners).map(|&member| reached(member)).collect();
        all.sort_unstable_by(|a, b| b.cmp(a));
        all.get(self.voters.len() / 2).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeMap;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    fn node(n: u64) -> NodeId {
        NodeId::new(n).expect("not zero")
    }

    /// By definition: the greatest v such that a subset of more than half of the voters are all at v or beyond.
    fn brute_force(voters: &BTreeSet<NodeId>, at: &BTreeMap<NodeId, u64>) -> Option<u64> {
        let voters: Vec<_> = voters.iter().collect();
        let mut best = None;
        for subset in 1u32..(1 << voters.len()) {
            if (subset.count_ones() as usize) * 2 <= voters.len() {
                continue;
            }
            let lowest = (0..voters.len()).filter(|i| subset >> i & 1 == 1).map(|i| at[voters[i]]).min();
            best = best.max(lowest);
        }
        best
    }

    fn voters() -> impl Strategy<Value = BTreeSet<NodeId>> {
        proptest::collection::btree_set((1u64..=9).prop_map(node), 0..=7)
    }

    proptest! {
        #[test]
        fn a_majority_is_what_brute_force_says(voters in voters(), values in proptest::collection::vec(0u64..6, 9)) {
            let at: BTreeMap<_, _> = (1..=9).map(|n| (node(n), values[n as usize - 1])).collect();
            prop_assert_eq!(majority(&voters, |n| at[&n]), brute_force(&voters, &at));
        }

        #[test]
        fn a_joint_quorum_is_the_lower_of_both(a in voters(), b in voters(), values in proptest::collection::vec(0u64..6, 9)) {
            let at: BTreeMap<_, _> = (1..=9).map(|n| (node(n), values[n as usize - 1])).collect();
            let configuration = Configuration { voters: a.clone(), outgoing: b.clone(), learners: BTreeSet::new() };
            let expected = match (brute_force(&a, &at), brute_force(&b, &at)) {
                (Some(x), Some(y)) => Some(x.min(y)),
                (Some(x), None) => Some(x),
                (None, _) => None,
            };
            prop_assert_eq!(configuration.agreed(|n| at[&n]), expected);
            for least in 0..7 {
                let is_so = expected.is_some_and(|agreed| agreed >= least);
                prop_assert_eq!(configuration.is_true_of_a_quorum(|n| at[&n] >= least), is_so, "{} or more", least);
            }
        }

        #[test]
        fn two_quorums_of_one_configuration_meet(voters in voters(), picks in proptest::collection::vec(0u8..2, 9)) {
            let side = |n: NodeId| picks[n.get() as usize - 1];
            let first = majority(&voters, |n| side(n) == 0) == Some(true);
            let second = majority(&voters, |n| side(n) == 1) == Some(true);
            prop_assert!(!(first && second));
        }
    }
}
