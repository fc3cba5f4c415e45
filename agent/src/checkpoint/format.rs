//! The bytes of a checkpoint file.
//!
//! It never knows what the content means.
//!
//! # Layout, version 1 (little-endian)
//!
//! A header, chunks of content, a footer; nothing else, and nothing behind it.
//!
//! | at | bytes | header |
//! |---:|---:|---|
//! | 0 | 8 | magic `QRMCKPT` and a zero |
//! | 8 | 2 | version, 1 |
//! | 10 | 2 | length of this header, 128 |
//! | 12 | 4 | zero |
//! | 16 | 8 | features that a reader must know; none yet |
//! | 24 | 8 | features that a reader may ignore; none yet |
//! | 32 | 16 | cluster id |
//! | 48 | 16 | log id |
//! | 64 | 8 | node id |
//! | 72 | 8 | index of the last entry that the state holds |
//! | 80 | 8 | its term |
//! | 88 | 8 | its chain hash |
//! | 96 | 8 | its next offset |
//! | 104 | 8 | uid: XXH3-64 of bytes 0..104, the seed of the checksums below |
//! | 112 | 12 | zero |
//! | 124 | 4 | CRC32C of bytes 0..124 |
//!
//! | at | bytes | chunk |
//! |---:|---:|---|
//! | 0 | 4 | length `n` of the content in it, 1 to [`CHUNK_BYTES_MAX`] |
//! | 4 | n | content |
//! | 4 + n | 4 | CRC32C of (uid, place of this chunk in the file, bytes 0..4 + n) |
//!
//! | at | bytes | footer |
//! |---:|---:|---|
//! | 0 | 4 | zero: no chunk is that short |
//! | 4 | 4 | zero |
//! | 8 | 8 | length of the whole file |
//! | 16 | 16 | XXH3-128 of the content of all chunks |
//! | 32 | 8 | number of chunks |
//! | 40 | 4 | zero |
//! | 44 | 4 | CRC32C of (uid, place of the footer in the file, bytes 0..44) |
//!
//! The content is a list of sections, each kind once, in ascending order of their kinds:
//! `{kind 2, zero 6, items 8}` and so many items `{length 4, bytes}`. A reader skips sections of kinds from 0x8000 on that
//! it does not know, and refuses others.
//!
//! | kind | item | items |
//! |---:|---|---|
//! | 1 | the header of the last entry 96, Lamport time 8, `record_bytes_max` 8, index of the configuration 8 | 1 |
//! | 2 | the configuration, MessagePack | 1 |
//! | 3 | a run of equal term: first index 8, term 8 | any |
//! | 4 | a boot: node 8, epoch 8, boot id 8 | any |
//! | 5 | a fact of the registry, MessagePack | any |
//! | 6 | a stream: next number 8, name | any |
//!
//! # What is not protected
//!
//! The checksums find accidents, not attackers. A file that was read back after its sync may come from the cache; a disk
//! that confirms a sync and loses the bytes is found by the checksums of the next start, which then takes the older file.
//! Every checksum may be right and the log shorter than the state: that is the reader's to compare, see `store`.

use bytes::{Buf, BufMut};
use crc32c::{crc32c, crc32c_append};
use quorate_raft::{LogIndex, NodeId, Position, Term};
use xxhash_rust::xxh3::xxh3_64;

/// The version of the format that this program writes, and the only one it reads.
pub const VERSION: u16 = 1;
/// Most bytes of content in one chunk: what a reader holds at a time.
pub const CHUNK_BYTES_MAX: usize = 64 << 10;
/// No checkpoint is longer, in bytes: seven times what the most streams with the longest names take.
pub const FILE_BYTES_MAX: u64 = 1 << 30;
/// No item is longer, in bytes; a configuration of the most members takes a hundredth of it.
pub(super) const ITEM_BYTES_MAX: usize = 64 << 10;

pub(super) const HEADER_BYTES: usize = 128;
pub(super) const FOOTER_BYTES: usize = 48;
/// Before and behind the content of a chunk.
pub(super) const CHUNK_FRAME_BYTES: usize = 8;
pub(super) const SECTION_BYTES: usize = 16;
/// Sections from here on may be skipped by who does not know them.
pub(super) const OPTIONAL_FROM: u16 = 0x8000;

const MAGIC: [u8; 8] = *b"QRMCKPT\0";
const UID_AT: usize = 104;
const CRC_AT: usize = 124;

/// Why a file is no checkpoint to start from.
#[derive(Debug, thiserror::Error)]
pub enum Invalid {
    /// Its bytes are not those that were written.
    #[error("damaged at byte {at}: {what}")]
    Damaged {
        /// Where.
        at: u64,
        /// What is wrong there.
        what: &'static str,
    },
    /// It was written by a newer program.
    #[error("written by a newer version ({what})")]
    Newer {
        /// What is not known.
        what: String,
    },
    /// It cannot be read.
    #[error("cannot be read: {0}")]
    Io(#[from] std::io::Error),
}

/// The sections of the content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(super) enum Section {
    Head = 1,
    Configuration = 2,
    Runs = 3,
    Boots = 4,
    Registry = 5,
    Streams = 6,
}

impl Section {
    pub(super) const ALL: [Self; 6] =
        [Self::Head, Self::Configuration, Self::Runs, Self::Boots, Self::Registry, Self::Streams];

    pub(super) fn of(kind: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|s| *s as u16 == kind)
    }
}

/// The first block of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) cluster: [u8; 16],
    pub(super) log_id: [u8; 16],
    pub(super) node: NodeId,
    pub(super) position: Position,
    pub(super) chain: u64,
    pub(super) next_offset: u64,
    pub(super) uid: u64,
}

/// The last block of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Footer {
    pub(super) len: u64,
    pub(super) hash: u128,
    pub(super) chunks: u64,
}

/// The checksum of bytes at a place of a file: bytes of another file, or from another place, do not pass.
pub(super) fn checksum(uid: u64, at: u64, bytes: &[u8]) -> u32 {
    crc32c_append(crc32c_append(crc32c(&uid.to_le_bytes()), &at.to_le_bytes()), bytes)
}

impl Header {
    /// The bytes, and the uid that they make.
    pub(super) fn encode(&self) -> (Vec<u8>, u64) {
        let mut out = Vec::with_capacity(HEADER_BYTES);
        out.put_slice(&MAGIC);
        out.put_u16_le(VERSION);
        out.put_u16_le(HEADER_BYTES as u16);
        out.put_bytes(0, 4 + 8 + 8);
        out.put_slice(&self.cluster);
        out.put_slice(&self.log_id);
        out.put_u64_le(self.node.get());
        out.put_u64_le(self.position.index.0);
        out.put_u64_le(self.position.term.0);
        out.put_u64_le(self.chain);
        out.put_u64_le(self.next_offset);
        let uid = xxh3_64(&out);
        out.put_u64_le(uid);
        out.put_bytes(0, CRC_AT - out.len());
        let crc = crc32c(&out);
        out.put_u32_le(crc);
        (out, uid)
    }

    pub(super) fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Self, Invalid> {
        let damaged = |at, what| Err(Invalid::Damaged { at, what });
        if bytes[..8] != MAGIC {
            return damaged(0, "this is no checkpoint");
        }
        if (&bytes[CRC_AT..]).get_u32_le() != crc32c(&bytes[..CRC_AT]) {
            return damaged(0, "the header does not match its checksum");
        }
        let mut b = &bytes[8..];
        let (version, len) = (b.get_u16_le(), b.get_u16_le());
        if version != VERSION || usize::from(len) != HEADER_BYTES {
            return Err(Invalid::Newer { what: format!("format version {version}") });
        }
        b.advance(4);
        let (needed, _ignored) = (b.get_u64_le(), b.get_u64_le());
        if needed != 0 {
            return Err(Invalid::Newer { what: format!("feature bits {needed:#x}") });
        }
        let (mut cluster, mut log_id) = ([0; 16], [0; 16]);
        b.copy_to_slice(&mut cluster);
        b.copy_to_slice(&mut log_id);
        let Some(node) = NodeId::new(b.get_u64_le()) else { return damaged(64, "the node id is zero") };
        let position = Position { index: LogIndex(b.get_u64_le()), term: Term(b.get_u64_le()) };
        let (chain, next_offset, uid) = (b.get_u64_le(), b.get_u64_le(), b.get_u64_le());
        if uid != xxh3_64(&bytes[..UID_AT]) {
            return damaged(UID_AT as u64, "the uid is not that of the header");
        }
        Ok(Self { cluster, log_id, node, position, chain, next_offset, uid })
    }
}

impl Footer {
    pub(super) fn encode(&self, uid: u64, at: u64) -> Vec<u8> {
        let mut out = Vec::with_capacity(FOOTER_BYTES);
        out.put_u64_le(0);
        out.put_u64_le(self.len);
        out.put_u128_le(self.hash);
        out.put_u64_le(self.chunks);
        out.put_u32_le(0);
        let crc = checksum(uid, at, &out);
        out.put_u32_le(crc);
        out
    }

    pub(super) fn decode(bytes: &[u8; FOOTER_BYTES], uid: u64, at: u64) -> Result<Self, Invalid> {
        let (body, crc) = bytes.split_at(FOOTER_BYTES - 4);
        if checksum(uid, at, body) != { crc }.get_u32_le() {
            return Err(Invalid::Damaged { at, what: "the footer does not match its checksum" });
        }
        let mut b = &body[8..];
        Ok(Self { len: b.get_u64_le(), hash: b.get_u128_le(), chunks: b.get_u64_le() })
    }
}
