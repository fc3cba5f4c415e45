//! Verification: every checksum of a log that nobody uses, and all that is damaged, not only the first of it.
//!
//! It never changes a byte and never believes more than a start would: it finds no damage exactly where
//! [`open`](super::open) would open, but for a damaged copy of the meta, which a start mends and this names.
//!
//! # How it goes on past damage
//!
//! A good frame header vouches for its length, so a damaged body is skipped exactly. Behind a damaged header the next
//! good one is searched at every place where one may stand; its checksum is bound to segment and offset, so nothing but a
//! frame of that place passes. What was lost in between is told by the indexes and offsets on both sides. The uid of a
//! segment stands in its name as well, so that a damaged header block hides no frames.

use super::disk::Disk;
use super::entry::Entry;
use super::error::Error;
use super::meta::Meta;
use super::verifier::Verifier;
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
    /// An entry whose checksums are right. An answer of `Some` says what its payload lacks: that is damage.
    Entry(&'a Entry),
    /// So many bytes of so many were read.
    Progress {
        /// Read so far.
        bytes: u64,
        /// All there are.
        of: u64,
    },
}

/// Checks meta and segments. Memory is bounded by the largest entry and the number of segments. `look` sees every good
/// entry, in the order of the files, superseded ones included.
///
/// # Errors
/// [`Error::Missing`] if there is no log, [`Error::Locked`] if a process uses it, [`Error::Newer`] if a newer version
/// wrote it, or IO other than reading a file. Damage is no error.
pub fn verify(disk: &dyn Disk, look: &mut dyn FnMut(Seen<'_>) -> Option<String>) -> Result<Verified, Error> {
    let names = super::list(disk)?;
    if super::first_trace(&names).is_none() {
        return Err(Error::Missing);
    }
    let _lock = super::lock(disk)?;
    Verifier::new(disk, look).run(&names)
}
