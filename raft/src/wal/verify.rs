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
use super::error::Error;
use super::verified::{Seen, Verified};
use super::verifier::Verifier;

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
