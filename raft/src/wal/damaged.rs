//! What is damaged in an open log, and how far a scrub has come.
//!
//! It never holds a byte of the log.

use super::entry::EntryHeader;
use crate::{LogIndex, Position};

/// Ranges that an open log keeps one by one. The entries of one more are added to the last range of its segment, and
/// are read again when that is repaired: a rotten disk must not fill the memory as well.
pub const DAMAGED_RANGES_MAX: usize = 10_000;

/// Entries that belong to the log and cannot be given: their bytes are damaged or gone. They are never cut away; entries
/// from a peer make them good, see [`Writer::repair`](super::Writer::repair). Damaged places that touch are one range, which
/// may then reach into the next segment; file, place and words are those of the first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamagedRange {
    /// The segment file.
    pub file: String,
    /// Where the damage begins in it, in bytes.
    pub at: u64,
    /// What is wrong there.
    pub what: String,
    /// The first entry.
    pub first: LogIndex,
    /// The last entry.
    pub last: LogIndex,
}

/// How far [`Writer::repair`](super::Writer::repair) has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repaired {
    /// The entries fit. Nothing counts before the ones from here on are given, too; a crash forgets these.
    Wants(LogIndex),
    /// All entries of this range are proven, durable, and given to readers from now on.
    Whole {
        /// The first entry.
        first: LogIndex,
        /// The last entry.
        last: LogIndex,
    },
}

/// Where a log ended at the last start, although more was written once: the bytes from there on are kept in the file, but
/// their entries are no longer in the log. See [`Meta::suspect`](super::Meta::suspect) for how far they reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SuspectTail {
    /// The segment file.
    pub file: String,
    /// Where the damage begins in it, in bytes.
    pub at: u64,
    /// What is wrong there.
    pub what: String,
    /// The highest position that may stand there.
    pub up_to: Position,
}

/// Where a scrub goes on; the default is the beginning of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScrubCursor {
    /// The number of the segment.
    pub(super) seq: u64,
    /// Where in it; zero is its beginning.
    pub(super) at: u64,
    /// The entry expected there.
    pub(super) index: u64,
    /// The entry before, if it was good.
    pub(super) before: Option<EntryHeader>,
}

/// What one step of a scrub has read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scrubbed {
    /// Where the next step begins; `None`: the end of the sealed segments is reached, begin anew.
    pub next: Option<ScrubCursor>,
    /// Bytes read.
    pub bytes: u64,
    /// Files of which something else than an entry is damaged, and what: header blocks and sidecars, which the next start
    /// makes good by itself.
    pub other: Vec<(String, String)>,
    /// Damage that was not known before; it is among [`Reader::damaged`](super::Reader::damaged) now.
    pub damaged: Vec<DamagedRange>,
}
