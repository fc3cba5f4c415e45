//! The segment file: its name and the header block it starts with.
//!
//! It never holds entries of two lives: a truncation and every start of the agent begin a new segment, so that no
//! byte is ever written twice with different contents and what was never written stays zero.
//!
//! # Name
//!
//! `<seq:016x>-<base index:020>-<uid:016x>.wal`. `seq` rises by one with each segment of a node. While a segment is
//! being prepared its name ends in `.wal.tmp`; such a file is worthless after a crash.
//!
//! # Header block, version 2 (little-endian, [`SEGMENT_HEADER_BYTES`] bytes)
//!
//! | at | bytes | field |
//! |---:|---:|---|
//! | 0 | 8 | magic `QUORWAL\0` |
//! | 8 | 4 | version, 2; version 1 has zeros at 104 |
//! | 12 | 4 | compatible features, 0: unknown ones are ignored |
//! | 16 | 4 | incompatible features, 0: unknown ones refuse the file |
//! | 20 | 4 | bytes of this block |
//! | 24 | 16 | cluster id |
//! | 40 | 8 | node id |
//! | 48 | 16 | log id |
//! | 64 | 8 | uid: random, seeds the checksums of all frames |
//! | 72 | 8 | seq, from 1 |
//! | 80 | 8 | base index: of the first entry; entries from here on in older segments are superseded |
//! | 88 | 8 | uid of the segment before; 0 if this is the first |
//! | 96 | 8 | final length of the segment before |
//! | 104 | 8 | base index of the segment before |
//! | 112 | 3976 | zeros |
//! | 4092 | 4 | seal: CRC32C of bytes 0..4092; stands here in every version |
//!
//! The block is written and synced before the file gets its name, so a damaged block is always corruption. All of it is
//! known from the name, the meta and the segments on both sides, so that a start writes it anew. Base and uid of the
//! segment before name that one if its file is gone.

use bytes::{Buf, BufMut};
use crc32c::crc32c;

use super::error::Error;
use super::names::{META_FILES, SIDECAR_SUFFIX, TMP_SUFFIX};
use crate::NodeId;

/// Bytes of the block at the start of each segment.
pub const SEGMENT_HEADER_BYTES: usize = 4096;
/// Most bytes of one segment: frames hold offsets in 32 bits, and a bound keeps repair units small. 1 GiB.
pub const SEGMENT_BYTES_MAX: u64 = 1 << 30;

const MAGIC: [u8; 8] = *b"QUORWAL\0";
const VERSION: u32 = 2;
const CRC_AT: usize = SEGMENT_HEADER_BYTES - 4;
const FIELDS_END_1: usize = 104;
const FIELDS_END: usize = 112;
pub(super) const SUFFIX: &str = ".wal";

/// What a segment says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) cluster: [u8; 16],
    pub(super) node: NodeId,
    pub(super) log_id: [u8; 16],
    pub(super) uid: u64,
    pub(super) seq: u64,
    pub(super) base_index: u64,
    pub(super) previous: Previous,
}

/// The segment before, as the next one remembers it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Previous {
    pub(super) uid: u64,
    /// Of the file.
    pub(super) len: u64,
    /// Its base index; zero in a block of version 1.
    pub(super) base: u64,
}

/// The name of a segment file.
pub(super) fn name_of(seq: u64, base: u64, uid: u64) -> String {
    format!("{seq:016x}-{base:020}-{uid:016x}{SUFFIX}")
}

impl SegmentHeader {
    pub(super) fn name(&self) -> String {
        name_of(self.seq, self.base_index, self.uid)
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(SEGMENT_HEADER_BYTES);
        out.put_slice(&MAGIC);
        out.put_u32_le(VERSION);
        out.put_u32_le(0);
        out.put_u32_le(0);
        out.put_u32_le(SEGMENT_HEADER_BYTES as u32);
        out.put_slice(&self.cluster);
        out.put_u64_le(self.node.get());
        out.put_slice(&self.log_id);
        out.put_u64_le(self.uid);
        out.put_u64_le(self.seq);
        out.put_u64_le(self.base_index);
        out.put_u64_le(self.previous.uid);
        out.put_u64_le(self.previous.len);
        out.put_u64_le(self.previous.base);
        out.resize(CRC_AT, 0);
        let crc = crc32c(&out);
        out.put_u32_le(crc);
        out
    }

    /// Reads the block of the file `name` and checks that it belongs to that name.
    pub(super) fn decode(bytes: &[u8], name: &str) -> Result<Self, Error> {
        let corrupt = |what: &str| Error::corrupt(name, 0, what);
        if bytes.len() < SEGMENT_HEADER_BYTES {
            return Err(corrupt("the file is shorter than its header block"));
        }
        let mut b = &bytes[..SEGMENT_HEADER_BYTES];
        if b[..8] != MAGIC {
            return Err(corrupt("the header block does not start as a segment does"));
        }
        if (&b[CRC_AT..]).get_u32_le() != crc32c(&b[..CRC_AT]) {
            return Err(corrupt("the checksum of the header block does not match"));
        }
        let all = b;
        b.advance(8);
        let version = b.get_u32_le();
        let _compatible = b.get_u32_le();
        let incompatible = b.get_u32_le();
        let block = b.get_u32_le();
        if !(1..=VERSION).contains(&version) || incompatible != 0 {
            let what = format!("segment version {version}, incompatible features {incompatible:#x}");
            return Err(Error::Newer { file: name.to_owned(), what });
        }
        let mut cluster = [0; 16];
        let mut log_id = [0; 16];
        b.copy_to_slice(&mut cluster);
        let node = NodeId::new(b.get_u64_le()).ok_or_else(|| corrupt("the node id is zero"))?;
        b.copy_to_slice(&mut log_id);
        let header = Self {
            cluster,
            node,
            log_id,
            uid: b.get_u64_le(),
            seq: b.get_u64_le(),
            base_index: b.get_u64_le(),
            previous: Previous { uid: b.get_u64_le(), len: b.get_u64_le(), base: b.get_u64_le() },
        };
        let fields_end = if version == 1 { FIELDS_END_1 } else { FIELDS_END };
        let rest_is_zero = all[fields_end..CRC_AT].iter().all(|b| *b == 0);
        if block as usize != SEGMENT_HEADER_BYTES || !rest_is_zero || header.seq == 0 || header.base_index == 0 {
            return Err(corrupt("the fields of the header block contradict each other"));
        }
        if header.name() != name {
            return Err(corrupt("the header block belongs to a file of another name"));
        }
        Ok(header)
    }
}

/// A segment file as readers know it.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) name: String,
    pub(super) seq: u64,
    pub(super) uid: u64,
}

/// What a directory entry is to the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    /// A segment, with its seq.
    Segment(u64),
    /// A sidecar.
    Sidecar,
    /// Left behind by a crash: worthless.
    Leftover,
    /// Ends like a segment but is none.
    Strange,
    /// Nothing of the log's.
    Foreign,
}

/// The seq, base index and uid in the name of a segment.
pub(super) fn parse(name: &str) -> Option<(u64, u64, u64)> {
    let mut parts = name.strip_suffix(SUFFIX)?.split('-');
    let seq = u64::from_str_radix(parts.next()?, 16).ok()?;
    let base = parts.next()?.parse().ok()?;
    let uid = u64::from_str_radix(parts.next()?, 16).ok()?;
    parts.next().is_none().then_some((seq, base, uid))
}

fn is_sidecar(name: &str) -> bool {
    name.strip_suffix(SIDECAR_SUFFIX).is_some_and(|stem| parse(&format!("{stem}{SUFFIX}")).is_some())
}

pub(super) fn classify(name: &str) -> Name {
    if let Some(stem) = name.strip_suffix(TMP_SUFFIX) {
        let ours = stem.ends_with(SUFFIX) || is_sidecar(stem) || META_FILES.contains(&stem);
        return if ours { Name::Leftover } else { Name::Foreign };
    }
    if is_sidecar(name) {
        return Name::Sidecar;
    }
    let Some(stem) = name.strip_suffix(SUFFIX) else { return Name::Foreign };
    let mut parts = stem.split('-');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(seq), Some(base), Some(uid), None) if seq.len() == 16 && base.len() == 20 && uid.len() == 16 => {
            match u64::from_str_radix(seq, 16) {
                Ok(seq) => Name::Segment(seq),
                Err(_) => Name::Strange,
            }
        }
        _ => Name::Strange,
    }
}
