//! Rumour: all that was ever told about one proposal, word by word, and what of it somebody may get to hear.
//!
//! It never forgets: what was told once may arrive at any later time.

use super::super::keys::Signature;
use super::super::proposal::Proposal;
use super::super::word::{Ballot, Verdict, Vote};
use super::super::words::{Said, Words};
use std::collections::{BTreeMap, BTreeSet};

/// What was ever told about one proposal.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Rumour {
    pub(super) proposal: Proposal,
    said: BTreeMap<u64, Spoken>,
    /// Who never founds it.
    pub(super) nevers: BTreeMap<u64, Signature>,
}

/// What one founder ever said about it; `Said` holds the newest of each kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Spoken {
    pledged: Option<Signature>,
    promised: BTreeSet<(Ballot, Option<Vote>, Signature)>,
    voted: BTreeSet<(Ballot, Verdict, Signature)>,
}

impl Spoken {
    /// Every state of knowledge about this founder that these words allow.
    fn heard(&self) -> Vec<Said> {
        let pledged = [None, self.pledged];
        let promised: Vec<_> = std::iter::once(None).chain(self.promised.iter().map(|p| Some(*p))).collect();
        let voted: Vec<_> = std::iter::once(None).chain(self.voted.iter().map(|v| Some(*v))).collect();
        let mut all = Vec::new();
        for pledged in pledged.into_iter().take(1 + usize::from(self.pledged.is_some())) {
            for promised in &promised {
                all.extend(voted.iter().map(|voted| Said { pledged, promised: *promised, voted: *voted }));
            }
        }
        all
    }
}

impl Rumour {
    pub(super) fn new(proposal: Proposal) -> Self {
        Self { proposal, said: BTreeMap::new(), nevers: BTreeMap::new() }
    }

    /// Somebody tells these.
    pub(super) fn add(&mut self, words: &Words) {
        for founder in self.proposal.founders() {
            let Some(said) = words.of(founder.node) else { continue };
            let spoken = self.said.entry(founder.node).or_default();
            spoken.pledged = spoken.pledged.or(said.pledged);
            spoken.promised.extend(said.promised);
            spoken.voted.extend(said.voted);
        }
    }

    /// Everything that a node may know of this after any of the words have reached it, in any order.
    pub(super) fn may_hear(&self, me: u64) -> Vec<Words> {
        let mut all = vec![BTreeMap::new()];
        for (node, spoken) in self.said.iter().filter(|(node, _)| **node != me) {
            let heard = spoken.heard();
            let with = |known: &BTreeMap<u64, Said>| -> Vec<BTreeMap<u64, Said>> {
                let also = heard.iter().map(|said| {
                    let mut known = known.clone();
                    if *said != Said::default() {
                        known.insert(*node, said.clone());
                    }
                    known
                });
                also.collect()
            };
            all = all.iter().flat_map(with).collect();
        }
        all.into_iter().map(Words).collect()
    }
}
