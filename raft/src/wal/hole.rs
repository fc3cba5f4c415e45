//! The hole: a damaged range with its place in the file, as repair needs it.
//!
//! It never reaches over a segment, nor over entries that a later segment supersedes.

use std::sync::Arc;

use super::damaged::DamagedRange;
use super::entry::EntryHeader;
use super::segment::Segment;
use crate::LogIndex;

/// The entries `first..=last`, whose frames fill the bytes `at..end` of a segment.
#[derive(Clone, Debug)]
pub(super) struct Hole {
    pub(super) segment: Arc<Segment>,
    pub(super) at: u64,
    /// Where the next good frame begins; where the frames end if none follows.
    pub(super) end: u64,
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) what: String,
    /// The entry before, if that is known.
    pub(super) before: Option<EntryHeader>,
}

impl Hole {
    /// As the outside sees it.
    pub(super) fn range(&self) -> DamagedRange {
        DamagedRange {
            file: self.segment.name.clone(),
            at: self.at,
            what: self.what.clone(),
            first: LogIndex(self.first),
            last: LogIndex(self.last),
        }
    }
}
