//! The write-ahead log: term, vote and entries on disk, durable before anyone hears of them.
//!
//! It never knows what a payload means, never runs a thread of its own, and never makes up an entry: what is damaged is
//! named until a peer's entries prove themselves in its place.
//!
//! | file | idea |
//! |---|---|
//! | `entry` | the batch of records that is the same on every node |
//! | `frame` | its local envelope, bound to a place in a file |
//! | `segment` | the file that holds frames |
//! | `meta` | identity, term and vote, in two copies |
//! | `sidecar` | what a scan of a segment would find |
//! | `found` | which segments there are, and which should be |
//! | `walk`, `hole` | through the frames of one segment, past all damage |
//! | `recover` | what a start may believe of all these |
//! | `damaged` | what the outside hears of damage |
//! | `repair`, `mend` | entries of a peer in place of damaged ones: beside the writer, and the writer's moments of it |
//! | `scrub` | a slow read of all that rests |
//! | `verify`, `verifier` | all that is damaged, without changing a byte |
//! | `view` | which segment holds which entries in force |
//! | `writer`, `reader` | the two doors |
//! | `queue` | writes that wait, and what may overtake |
//! | `disk`, `os`, `sim` | the one door to storage, the real one and the treacherous one |
//!
//! # A directory
//!
//! `lock`, `meta.a`, `meta.b`, segments (`.wal`) and their sidecars (`.idx`), see the modules for the bytes. Other files
//! are not touched.
//!
//! # Order on disk
//!
//! A new segment: prepared under a temporary name, synced; the segment before cut to its frames, synced; renamed;
//! directory synced; both copies of the meta, synced; then the first frame. A truncation is a new segment whose base
//! index is the first dropped entry: nothing is rewritten in place.

mod damaged;
mod disk;
mod entry;
mod error;
mod found;
mod frame;
mod hole;
mod mend;
mod meta;
mod names;
mod options;
mod os;
mod queue;
mod reader;
mod recover;
mod repair;
mod scrub;
mod segment;
mod sidecar;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
mod verified;
mod verifier;
mod verify;
mod view;
mod walk;
mod writer;

#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;

use crate::LogIndex;

pub use damaged::{DAMAGED_RANGES_MAX, DamagedRange, Repaired, ScrubCursor, Scrubbed, SuspectTail};
pub use disk::{Disk, File, Lock, Space};
pub use entry::{
    CHAIN_GENESIS, ENTRY_BYTES_MAX, ENTRY_HEADER_BYTES, ENTRY_PAYLOAD_BYTES_MAX, Entry, EntryError, EntryFields,
    EntryHeader, EntryKind, decode_header, encode_header,
};
pub use error::Error;
pub use meta::{META_BYTES, Meta, Start, Tail};
pub use options::Options;
pub use os::OsDisk;
pub use queue::Queue;
pub use reader::Reader;
pub use recover::Recovered;
pub use repair::{Given, Proven, Repairer};
pub use segment::{SEGMENT_BYTES_MAX, SEGMENT_HEADER_BYTES};
pub use verified::{DAMAGES_MAX, Damage, Seen, TornTail, Verified};
pub use verify::verify;
pub use writer::{Batch, Writer};

use error::Context;
use meta::MetaFiles;
use reader::Shared;
use segment::Name;
use view::View;

/// The file whose lock says that a process uses the directory.
const LOCK_FILE: &str = "lock";

/// A log that was opened.
#[derive(Debug)]
pub struct Opened {
    /// Writes; there is only one.
    pub writer: Writer,
    /// Reads; clone it.
    pub reader: Reader,
    /// The meta, with the boot epoch of this life.
    pub meta: Meta,
    /// What was found.
    pub recovered: Recovered,
}

impl Opened {
    /// The control entries of the log behind `after`, ascending, as a node reads them before it speaks. One that is damaged and that no
    /// sidecar remembers is left out: it is in a damaged range.
    ///
    /// # Errors
    /// IO, or what else a read says but damage.
    pub fn control(&self, after: LogIndex) -> Result<Vec<Entry>, Error> {
        let mut control = Vec::new();
        for index in self.recovered.control.iter().filter(|index| **index > after) {
            let remembered = self.recovered.remembered.binary_search_by_key(index, |e| e.header().index);
            if let Some(entry) = remembered.ok().and_then(|at| self.recovered.remembered.get(at)) {
                control.push(entry.clone());
                continue;
            }
            match self.reader.read(*index, *index, usize::MAX) {
                Ok(entries) => control.extend(entries),
                Err(Error::Corrupt { entries: Some(_), .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(control)
    }
}

/// Does the directory hold a log?
///
/// # Errors
/// If it cannot be listed.
pub fn exists(disk: &Arc<dyn Disk>) -> Result<bool, Error> {
    Ok(first_trace(&list(disk.as_ref())?).is_some())
}

/// Whose log the directory holds, and how far it may have promised. Takes no lock and changes nothing, so of a log in use it
/// tells what was true a moment ago.
///
/// # Errors
/// [`Error::Missing`] if there is no log, [`Error::Newer`], IO, or [`Error::Corrupt`] if neither copy of the meta can be read.
pub fn peek(disk: &dyn Disk) -> Result<Meta, Error> {
    let names = list(disk)?;
    if first_trace(&names).is_none() {
        return Err(Error::Missing);
    }
    MetaFiles::peek(disk, &names)
}

/// Makes a log in an empty directory: durable, with both copies of its meta, when this returns. A crash on the way
/// leaves either no log or this one.
///
/// # Errors
/// [`Error::Exists`] if there is any trace of a log, [`Error::Locked`], or IO.
pub fn create(disk: &Arc<dyn Disk>, meta: Meta) -> Result<(), Error> {
    let _lock = lock(disk.as_ref())?;
    if let Some(file) = first_trace(&list(disk.as_ref())?) {
        return Err(Error::Exists { file: file.to_owned() });
    }
    MetaFiles::create(disk.as_ref(), &Meta { tail: None, ..meta })
}

/// Opens a log: takes the lock, reads the meta, the sidecars of old segments and the entries of new ones, cuts a torn
/// tail, makes durable all that it reports, and counts the boot epoch up. Damaged entries are named and the log opens:
/// see [`Recovered::damaged`] and [`Recovered::suspect`].
///
/// # Errors
/// [`Error::Missing`], [`Error::Locked`], [`Error::Newer`], IO, or [`Error::Corrupt`] with file and offset: both copies
/// of the meta are damaged, a file belongs to another log, or nothing tells which entries are lost. Then nothing but a
/// torn tail was changed.
pub fn open(disk: Arc<dyn Disk>, options: Options) -> Result<Opened, Error> {
    let lock = lock(disk.as_ref())?;
    let options = options.clamped();
    let names = list(disk.as_ref())?;
    if first_trace(&names).is_none() {
        return Err(Error::Missing);
    }
    let (mut files, mut meta) = MetaFiles::open(disk.as_ref(), &names)?;
    let view = View::new(meta.start, options.index_every_bytes);
    let shared = Arc::new(Shared::new(disk.clone(), view, meta));
    let mut scan = recover::scan(disk.as_ref(), &names, &meta, &shared, &options)?;
    scan.recovered.mended.splice(..0, files.mended());
    for name in names.iter().filter(|n| segment::classify(n) == Name::Leftover) {
        // The meta may have used up one of them already.
        disk::remove_if_any(disk.as_ref(), name).context("remove", name)?;
    }
    // Names that a killed process left unsynced count from here on.
    disk.sync_dir().context("sync", "the data directory")?;
    meta.boot_epoch += u64::from(!crate::mutant!(BootEpochNotCounted) || meta.boot_epoch == 0);
    meta.tail = (scan.newest_seq != 0).then_some(Tail {
        seq: scan.newest_seq,
        uid: scan.newest.uid,
        base: scan.newest.base,
        durable: scan.newest_end,
        last: scan.recovered.last,
        ends: true,
    });
    // In the same write as the end of the log: no reply comes before it.
    meta.suspect = scan.recovered.suspect;
    files.write(&meta)?;
    let writer = Writer::new(writer::Parts {
        disk,
        options,
        shared: shared.clone(),
        meta,
        files,
        last: scan.recovered.last,
        newest: scan.newest,
        newest_seq: scan.newest_seq,
        newest_end: scan.newest_end,
        lock,
    });
    Ok(Opened { writer, reader: Reader::new(shared), meta, recovered: scan.recovered })
}

fn list(disk: &dyn Disk) -> Result<Vec<String>, Error> {
    disk.list().context("list", "the data directory")
}

/// The first file that only a log leaves, under its final name.
fn first_trace(names: &[String]) -> Option<&str> {
    let is_trace =
        |n: &&String| names::META_FILES.contains(&n.as_str()) || matches!(segment::classify(n), Name::Segment(_));
    names.iter().find(is_trace).map(String::as_str)
}

fn lock(disk: &dyn Disk) -> Result<Box<dyn Lock>, Error> {
    match disk.lock(LOCK_FILE) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(Error::Locked),
        other => other.context("lock", LOCK_FILE),
    }
}
