//! Report: all that one agent tells another about founding, whole each time, so that any one may be lost, late or doubled.
//!
//! It never tells what is not durable.

use super::keys::{PublicKey, Signature};
use super::proposal::{Proposal, ProposalId};
use super::words::Words;

/// What an agent says of itself, and what it knows that founders have signed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Report {
    /// The key that proves its node id.
    pub key: PublicKey,
    /// How many it was told to expect; 0 for none.
    pub expect: u8,
    /// The largest value of a record that it would write into a log.
    pub record_bytes_max: u64,
    /// It pledges itself to no proposal of this round or an earlier one.
    pub floor: u64,
    /// The log that it belongs to.
    pub log: Option<[u8; 16]>,
    /// What it has pledged itself to, and what it knows of the others.
    pub pledge: Option<(Proposal, Words)>,
    /// A proposal that it never founds, signed.
    pub never: Option<(ProposalId, Signature)>,
}
