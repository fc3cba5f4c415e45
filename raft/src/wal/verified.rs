//! What a verification finds, and what its caller sees on the way.
//!
//! It never looks at a byte itself.

use super::entry::Entry;
use super::meta::Meta;
use crate::LogIndex;

/// Damages that are listed one by one; more are only counted. A rotten disk must not fill the memory as well.
pub const DAMAGES_MAX: usize = 10_000;

/// One damaged place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub file: String,
    /// Where in it, in bytes.
    pub offset: u64,
    /// What is wrong there.
    pub what: String,
    /// The entries that it costs: the first, and the last if that can be told.
    pub entries: Option<(LogIndex, Option<LogIndex>)>,
    /// The offsets of the records that it costs: the first, and the last if that can be told.
    pub records: Option<(u64, Option<u64>)>,
}

/// Bytes behind the last frame that were written before a crash, never synced and never acknowledged. The next start
/// cuts them. No damage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TornTail {
    /// The file.
    pub file: String,
    /// Where it begins, in bytes.
    pub offset: u64,
    /// How long it is.
    pub bytes: u64,
}

/// What a verification found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// The meta, if one of its copies is good.
    pub meta: Option<Meta>,
    /// Segment files.
    pub segments: usize,
    /// Good entries in force.
    pub entries: u64,
    /// Records in them.
    pub records: u64,
    /// Good entries that a truncation has superseded.
    pub superseded: u64,
    /// Damaged places where nothing in force stands: superseded entries, and zeros behind the last frame. They cost nothing.
    pub harmless: u64,
    /// Good sidecars.
    pub sidecars: usize,
    /// Sidecars that are of no use: damaged, or cut off by a crash, since they are never synced. No damage: the next start
    /// reads their segments instead.
    pub sidecars_useless: Vec<String>,
    /// Bytes read.
    pub bytes: u64,
    /// The last good entry.
    pub last: Option<LogIndex>,
    /// What a crash left behind the last frame.
    pub torn_tail: Option<TornTail>,
    /// All damage, in the order of the files, at most [`DAMAGES_MAX`].
    pub damaged: Vec<Damage>,
    /// Damages beyond that.
    pub more_damaged: u64,
}

/// What the caller sees on the way.
#[derive(Debug)]
pub enum Seen<'a> {
    /// The walk through a segment file begins.
    Segment {
        /// The file.
        name: &'a str,
        /// Its number, from 1.
        seq: u64,
        /// The first entry that it was made for; it supersedes older segments from there on.
        base: LogIndex,
        /// How long it is.
        bytes: u64,
    },
    /// An entry whose checksums are right. An answer of `Some` says what its payload lacks: that is damage.
    Entry {
        /// The entry.
        entry: &'a Entry,
        /// Where its frame begins in the file, in bytes.
        at: u64,
        /// Where its frame ends.
        end: u64,
        /// No later segment supersedes it.
        in_force: bool,
    },
    /// So many bytes of so many were read.
    Progress {
        /// Read so far.
        bytes: u64,
        /// All there are.
        of: u64,
    },
}
