//! The meta: who this node is, its term and vote, and which segment is the newest; kept in two copies.
//!
//! It never has only one good copy while a reply depends on it: each change is written and synced to one copy, then
//! to the other, and only then does the caller go on. So any single damaged or torn copy loses nothing, which one
//! file written in turn could not say: there, rot of the newest copy would silently give an old vote back.
//!
//! # Layout of `meta.a` and `meta.b`, version 2 (little-endian, [`META_BYTES`] bytes, one sector)
//!
//! | at | bytes | field |
//! |---:|---:|---|
//! | 0 | 8 | magic `QUORMETA` |
//! | 8 | 4 | version, 2; version 1 ends with zeros from 152 on |
//! | 12 | 4 | compatible features, 0 |
//! | 16 | 4 | incompatible features, 0 |
//! | 20 | 4 | bit 0: there is a log id; 1: a suspect position; 2: an entry at 184; 3: the log ends at 144 |
//! | 24 | 8 | generation: rises with each change; the good copy with the higher one counts |
//! | 32 | 16 | cluster id |
//! | 48 | 8 | node id |
//! | 56 | 16 | log id |
//! | 72 | 8 | boot epoch |
//! | 80 | 8 | term |
//! | 88 | 8 | vote, 0 for none |
//! | 96 | 8 | start: index of the entry before the first one kept |
//! | 104 | 8 | start: its term |
//! | 112 | 8 | start: its chain value |
//! | 120 | 8 | start: the next offset after it |
//! | 128 | 8 | newest segment: seq, 0 for none |
//! | 136 | 8 | newest segment: uid |
//! | 144 | 8 | newest segment: bytes known durable |
//! | 152 | 8 | newest segment: base index, 0 if not known |
//! | 160 | 8 | suspect: index |
//! | 168 | 8 | suspect: term |
//! | 176 | 8 | zero |
//! | 184 | 96 | header of the last entry before byte 144 of the newest segment, as in an entry |
//! | 280 | 228 | zeros |
//! | 508 | 4 | seal: CRC32C of bytes 0..508; stands here in every version |
//!
//! # What is not protected
//!
//! Both copies damaged at once: the node must not vote again under this id. A directory put back from an old backup
//! looks healthy: only peers that remember a higher boot epoch can tell.

use std::sync::Arc;

use bytes::{Buf, BufMut};
use crc32c::crc32c;

use super::disk::{self, Disk, File};
use super::entry::{self, CHAIN_GENESIS, Entry, EntryError, EntryHeader};
use super::error::{Context, Error};
use super::names::{META_FILES, TMP_SUFFIX};
use crate::mutant;
use crate::{HardState, LogIndex, NodeId, Position, Term};

/// Bytes of each copy.
pub const META_BYTES: usize = 512;

const MAGIC: [u8; 8] = *b"QUORMETA";
const VERSION: u32 = 2;
const CRC_AT: usize = META_BYTES - 4;
const FIELDS_END_1: usize = 152;
const FIELDS_END: usize = 280;
const HAS_LOG_ID: u32 = 1;
const HAS_SUSPECT: u32 = 2;
const HAS_LAST: u32 = 4;
const ENDS: u32 = 8;

/// What a node knows of itself before it reads its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    /// The trust domain.
    pub cluster: [u8; 16],
    /// The identity of this disk.
    pub node: NodeId,
    /// Which history the log is; `None` until the first entry. Never changes once set.
    pub log_id: Option<[u8; 16]>,
    /// How often this directory was opened.
    pub boot_epoch: u64,
    /// Term and vote.
    pub hard_state: HardState,
    /// Where the kept log begins.
    pub start: Start,
    /// The newest segment; kept by the log itself.
    pub tail: Option<Tail>,
    /// The highest position that this node may have acknowledged and cannot prove: its bytes were damaged at the end of
    /// the log. Kept over restarts, raised by a start, cleared by a [`Batch`](super::Batch).
    pub suspect: Option<Position>,
}

/// What is known of the entry before the first one kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// Its index and term; zero for a log from its beginning.
    pub position: Position,
    /// Its chain value.
    pub chain: u64,
    /// The next offset after it.
    pub next_offset: u64,
}

impl Default for Start {
    fn default() -> Self {
        Self { position: Position::ZERO, chain: CHAIN_GENESIS, next_offset: 0 }
    }
}

/// The newest segment that may hold an acked entry: if it is gone, the directory was damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tail {
    /// Its number.
    pub seq: u64,
    /// Its uid.
    pub uid: u64,
    /// The index of its first entry; zero if an older version wrote this.
    pub base: u64,
    /// How much of it was durable when this was written; it may be more by now.
    pub durable: u64,
    /// The last entry of the log up to there; `None` if there is none, or an older version wrote this.
    pub last: Option<EntryHeader>,
    /// The log ends at `durable`, whatever stands behind it in the file: a start could not prove it.
    pub ends: bool,
}

impl Meta {
    /// The meta of a node that has done nothing yet.
    #[must_use]
    pub fn new(cluster: [u8; 16], node: NodeId) -> Self {
        Self {
            cluster,
            node,
            log_id: None,
            boot_epoch: 0,
            hard_state: HardState::default(),
            start: Start::default(),
            tail: None,
            suspect: None,
        }
    }

    /// The seed that every entry of this log carries; `None` without a log id.
    #[must_use]
    pub fn seed(&self) -> Option<u64> {
        self.log_id.map(|id| (&id[..]).get_u64_le())
    }

    /// Is `entry` the next one of this log, whose last entry is `last`?
    pub(super) fn check_next(&self, entry: &Entry, last: Option<&EntryHeader>) -> Result<(), EntryError> {
        let head = entry.header();
        if Some(head.seed) != self.seed() {
            return Err(EntryError::NotNext("it belongs to another log id"));
        }
        if let Some(last) = last {
            return entry.follows(last);
        }
        if self.start.position.index.0.checked_add(1) != Some(head.index.0) {
            return Err(EntryError::NotNext("the index is not the next one"));
        }
        if head.term < self.start.position.term {
            return Err(EntryError::NotNext("the term is lower"));
        }
        if head.base_offset != self.start.next_offset {
            return Err(EntryError::NotNext("the offset is not the next one"));
        }
        entry.chains_to(self.start.chain)
    }

    fn encode(&self, generation: u64) -> Vec<u8> {
        let mut out = Vec::with_capacity(META_BYTES);
        out.put_slice(&MAGIC);
        out.put_u32_le(VERSION);
        out.put_u32_le(0);
        out.put_u32_le(0);
        let last = self.tail.and_then(|tail| tail.last);
        let flag = |is: bool, bit: u32| if is { bit } else { 0 };
        out.put_u32_le(
            flag(self.log_id.is_some(), HAS_LOG_ID)
                | flag(self.suspect.is_some(), HAS_SUSPECT)
                | flag(last.is_some(), HAS_LAST)
                | flag(self.tail.is_some_and(|tail| tail.ends), ENDS),
        );
        out.put_u64_le(generation);
        out.put_slice(&self.cluster);
        out.put_u64_le(self.node.get());
        out.put_slice(&self.log_id.unwrap_or_default());
        out.put_u64_le(self.boot_epoch);
        out.put_u64_le(self.hard_state.term.0);
        out.put_u64_le(self.hard_state.vote.map_or(0, NodeId::get));
        out.put_u64_le(self.start.position.index.0);
        out.put_u64_le(self.start.position.term.0);
        out.put_u64_le(self.start.chain);
        out.put_u64_le(self.start.next_offset);
        let (seq, uid, base, durable) = self.tail.map_or((0, 0, 0, 0), |t| (t.seq, t.uid, t.base, t.durable));
        out.put_u64_le(seq);
        out.put_u64_le(uid);
        out.put_u64_le(durable);
        out.put_u64_le(base);
        let suspect = self.suspect.unwrap_or(Position::ZERO);
        out.put_u64_le(suspect.index.0);
        out.put_u64_le(suspect.term.0);
        out.put_u64_le(0);
        if let Some(last) = last {
            out.put_slice(&entry::encode_header(&last));
        }
        out.resize(CRC_AT, 0);
        let crc = crc32c(&out);
        out.put_u32_le(crc);
        out
    }
}

/// Reads one copy.
pub(super) fn decode(bytes: &[u8], name: &str) -> Result<(u64, Meta), Error> {
    let corrupt = |what: &str| Error::corrupt(name, 0, what);
    if bytes.len() != META_BYTES {
        return Err(corrupt("the file has not the length of a meta"));
    }
    let mut b = bytes;
    if b[..8] != MAGIC {
        return Err(corrupt("it does not start as a meta does"));
    }
    if (&b[CRC_AT..]).get_u32_le() != crc32c(&b[..CRC_AT]) {
        return Err(corrupt("the checksum does not match"));
    }
    let all = b;
    b.advance(8);
    let version = b.get_u32_le();
    let _compatible = b.get_u32_le();
    let incompatible = b.get_u32_le();
    let (fields_end, known_flags) = match version {
        1 => (FIELDS_END_1, HAS_LOG_ID),
        _ => (FIELDS_END, HAS_LOG_ID | HAS_SUSPECT | HAS_LAST | ENDS),
    };
    if !(1..=VERSION).contains(&version) || incompatible != 0 {
        let what = format!("meta version {version}, incompatible features {incompatible:#x}");
        return Err(Error::Newer { file: name.to_owned(), what });
    }
    let flags = b.get_u32_le();
    let generation = b.get_u64_le();
    let mut cluster = [0; 16];
    b.copy_to_slice(&mut cluster);
    let node = NodeId::new(b.get_u64_le()).ok_or_else(|| corrupt("the node id is zero"))?;
    let mut log_id = [0; 16];
    b.copy_to_slice(&mut log_id);
    let boot_epoch = b.get_u64_le();
    let hard_state = HardState { term: Term(b.get_u64_le()), vote: NodeId::new(b.get_u64_le()) };
    let start = Start {
        position: Position { index: LogIndex(b.get_u64_le()), term: Term(b.get_u64_le()) },
        chain: b.get_u64_le(),
        next_offset: b.get_u64_le(),
    };
    let (seq, uid, durable, base) = (b.get_u64_le(), b.get_u64_le(), b.get_u64_le(), b.get_u64_le());
    let suspect = Position { index: LogIndex(b.get_u64_le()), term: Term(b.get_u64_le()) };
    let rest_is_zero = all[fields_end..CRC_AT].iter().all(|b| *b == 0);
    if flags & !known_flags != 0 || !rest_is_zero || b.get_u64_le() != 0 {
        return Err(corrupt("fields that this version does not use are not zero"));
    }
    let last = match flags & HAS_LAST {
        0 => None,
        _ => Some(entry::decode_header(b).map_err(|_| corrupt("the header of the last entry is wrong"))?),
    };
    let tail = Tail { seq, uid, base, durable, last, ends: flags & ENDS != 0 };
    let meta = Meta {
        cluster,
        node,
        log_id: (flags & HAS_LOG_ID != 0).then_some(log_id),
        boot_epoch,
        hard_state,
        start,
        tail: (tail.seq != 0).then_some(tail),
        suspect: (flags & HAS_SUSPECT != 0).then_some(suspect),
    };
    Ok((generation, meta))
}

/// The two copies, open.
pub(super) struct MetaFiles {
    files: [Arc<dyn File>; 2],
    generation: u64,
    /// Which copy is written first: the one that may be torn, so that the good one stays until it is not needed.
    first: usize,
    /// The copy that was damaged when this was opened.
    mended: Option<(String, String)>,
}

impl MetaFiles {
    /// Makes both copies, under their final names only when whole. The directory holds a log as soon as one of them
    /// has its name, so a crash in between leaves either nothing or a log that opens.
    pub(super) fn create(disk: &dyn Disk, meta: &Meta) -> Result<(), Error> {
        for name in META_FILES {
            let tmp = format!("{name}{TMP_SUFFIX}");
            write_new(disk, &tmp, &meta.encode(1))?;
            disk.rename(&tmp, name).context("rename", &tmp)?;
            disk.sync_dir().context("sync", "the data directory")?;
        }
        Ok(())
    }

    /// Reads both copies. One that is missing or damaged is tolerated, and made good by the next
    /// [`write`](Self::write); opening always does one.
    pub(super) fn open(disk: &dyn Disk, names: &[String]) -> Result<(Self, Meta), Error> {
        let mut copies = Vec::with_capacity(META_FILES.len());
        for name in META_FILES {
            copies.push(read_copy(disk, names, name)?);
        }
        let generation = |copy: &Result<(u64, Meta), Error>| copy.as_ref().map_or(0, |(g, _)| *g);
        let first = usize::from(generation(&copies[0]) > generation(&copies[1]));
        // A copy that a newer version wrote is not damage: going on would overwrite it.
        if let Some(at) = copies.iter().position(|c| matches!(c, Err(Error::Newer { .. }))) {
            return Err(copies.swap_remove(at).map_or_else(|error| error, |_| Error::Missing));
        }
        let mended = copies.iter().zip(META_FILES).find_map(|(copy, name)| match copy {
            Err(Error::Corrupt { what, .. }) => Some((name.to_owned(), what.clone())),
            Err(error) => Some((name.to_owned(), error.to_string())),
            Ok(_) => None,
        });
        let (generation, meta) = copies.swap_remove(1 - first)?;
        let mut files = Vec::with_capacity(META_FILES.len());
        for name in META_FILES {
            if !names.iter().any(|n| n == name) {
                let tmp = format!("{name}{TMP_SUFFIX}");
                write_new(disk, &tmp, &meta.encode(generation))?;
                disk.rename(&tmp, name).context("rename", &tmp)?;
            }
            files.push(disk.open(name).context("open", name)?);
        }
        let [a, b] = [files.swap_remove(0), files.swap_remove(0)];
        Ok((Self { files: [a, b], generation, first, mended }, meta))
    }

    /// The newer of the copies that can be read. Changes nothing.
    pub(super) fn peek(disk: &dyn Disk, names: &[String]) -> Result<Meta, Error> {
        let [a, b] = META_FILES;
        match (read_copy(disk, names, a)?, read_copy(disk, names, b)?) {
            (Err(error @ Error::Newer { .. }), _) | (_, Err(error @ Error::Newer { .. })) => Err(error),
            (Ok(a), Ok(b)) => Ok(if b.0 > a.0 { b.1 } else { a.1 }),
            (Ok((_, meta)), Err(_)) | (Err(_), Ok((_, meta))) => Ok(meta),
            (Err(error), Err(_)) => Err(error),
        }
    }

    /// The copy that opening found damaged; writing makes it good.
    pub(super) fn mended(&mut self) -> Option<(String, String)> {
        self.mended.take()
    }

    /// Makes `meta` durable in both copies. After an error nothing may be replied that depends on either value.
    pub(super) fn write(&mut self, meta: &Meta) -> Result<(), Error> {
        self.generation += 1;
        let bytes = meta.encode(self.generation);
        for at in [self.first, 1 - self.first] {
            if at != self.first && mutant!(MetaWrittenOnce) {
                break;
            }
            let (file, name) = (&self.files[at], META_FILES[at]);
            file.write_at(&bytes, 0).context("write", name)?;
            if file.len().context("measure", name)? != META_BYTES as u64 {
                file.set_len(META_BYTES as u64).context("cut", name)?;
            }
            // Same place, same length: no attribute matters, and the file system's journal stays out of a vote.
            if !mutant!(MetaNotSynced) {
                file.sync_data().context("sync", name)?;
            }
        }
        Ok(())
    }
}

/// One copy; a damaged or missing one is the inner error.
fn read_copy(disk: &dyn Disk, names: &[String], name: &str) -> Result<Result<(u64, Meta), Error>, Error> {
    if !names.iter().any(|n| n == name) {
        return Ok(Err(Error::corrupt(name, 0, "the file is missing")));
    }
    let file = disk.open(name).context("open", name)?;
    let len = file.len().context("measure", name)?;
    if len != META_BYTES as u64 {
        return Ok(Err(Error::corrupt(name, 0, "the file has not the length of a meta")));
    }
    let mut bytes = vec![0; META_BYTES];
    // A sector that cannot be read is what the other copy is for.
    Ok(file.read_at(&mut bytes, 0).context("read", name).and_then(|()| decode(&bytes, name)))
}

fn write_new(disk: &dyn Disk, name: &str, bytes: &[u8]) -> Result<(), Error> {
    disk::remove_if_any(disk, name).context("remove", name)?;
    let file = disk.create(name).context("create", name)?;
    file.write_at(bytes, 0).context("write", name)?;
    file.sync_all().context("sync", name)
}
