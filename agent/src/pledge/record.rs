//! Record: what a data directory holds about founding. Nothing is told to anybody before it is durable.
//!
//! It never shrinks: the floor only rises, and a pledge ends only with its proposal. A record that cannot be read is no
//! empty one: see [`Record::decode`].

use super::proposal::Proposal;
use super::words::Words;

/// What is on disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Record {
    /// This node pledges itself to no proposal of this round or an earlier one.
    pub floor: u64,
    /// What it has pledged itself to.
    pub pledge: Option<Pledge>,
}

/// A pledge, and what is known of the others'.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pledge {
    /// To what.
    pub proposal: Proposal,
    /// Of all founders, this one among them.
    pub words: Words,
    /// It is decided that the log is founded. Else it is open; of a dead one only the floor remains.
    pub lives: bool,
    /// The first entry was durable here: it is never written again, should the log be lost.
    pub founded: bool,
}

impl Pledge {
    /// Are the signatures of all founders here?
    #[must_use]
    pub fn is_certified(&self) -> bool {
        self.words.pledged().count() == self.proposal.founders().len()
    }
}

impl Record {
    /// Nothing was ever promised.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
