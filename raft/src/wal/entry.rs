//! The entry: one batch of records, or one control command, byte-identical on every node, on disk and on the wire.
//!
//! It never looks into a payload, and it knows neither frames nor files: those are local to a node.
//!
//! # Layout, version 1 (little-endian)
//!
//! | at | bytes | field |
//! |---:|---:|---|
//! | 0 | 2 | magic `QE` |
//! | 2 | 1 | version, 1 |
//! | 3 | 1 | kind, see [`EntryKind`] |
//! | 4 | 4 | payload length, at most [`ENTRY_PAYLOAD_BYTES_MAX`] |
//! | 8 | 4 | count of records; 0 in every control entry |
//! | 12 | 4 | shard |
//! | 16 | 8 | seed: the first 8 bytes of the log id |
//! | 24 | 8 | index, from 1 |
//! | 32 | 8 | term |
//! | 40 | 8 | base offset: of the first record; in a control entry the next offset |
//! | 48 | 8 | time, µs since the Unix epoch, signed |
//! | 56 | 8 | Lamport clock |
//! | 64 | 8 | session |
//! | 72 | 8 | sequence number in that session |
//! | 80 | 8 | chain: XXH3-64 of (the previous entry's chain, bytes 0..80, payload CRC) |
//! | 88 | 4 | payload CRC32C |
//! | 92 | 4 | header CRC32C, of bytes 0..92 |
//! | 96 | n | payload |
//!
//! Header and payload have separate checksums, so a damaged payload still tells which entry it was.
//!
//! # What is not protected
//!
//! CRC32C and XXH3 find accidents, not attackers: who may write here is decided by TLS and by file permissions. An
//! entry alone does not prove its place in the log; only [`Entry::follows`] against its predecessor does.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use crc32c::{crc32c, crc32c_combine};
use xxhash_rust::xxh3::xxh3_64;

use crate::{LogIndex, Position, Term, Wall, mutant};

/// Bytes of an entry before its payload.
pub const ENTRY_HEADER_BYTES: usize = 96;
/// Most payload bytes in one entry: 8 MiB. A hard bound of the format, checked before any allocation.
pub const ENTRY_PAYLOAD_BYTES_MAX: usize = 8 << 20;
/// Most bytes of a whole encoded entry.
pub const ENTRY_BYTES_MAX: usize = ENTRY_HEADER_BYTES + ENTRY_PAYLOAD_BYTES_MAX;
/// The chain value before the first entry of a log.
pub const CHAIN_GENESIS: u64 = 0;

/// From here on combining two checksums (about 20 µs) is cheaper than reading the payload again (20 GB/s).
const COMBINE_FROM_BYTES: usize = 256 << 10;
const MAGIC: [u8; 2] = *b"QE";
const VERSION: u8 = 1;
/// Chain covers the bytes before it; the header CRC all bytes before itself.
const CHAIN_AT: usize = 80;
const HEADER_CRC_AT: usize = 92;

/// What an entry is. The number is the one on disk; an unknown one is an error, never a guess.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum EntryKind {
    /// A batch of records.
    Normal = 1,
    /// The first entry of a leader's term (§6.4).
    Noop = 2,
    /// Who votes and who learns (§4.1).
    Configuration = 3,
    /// The first entry of a log: configuration, registry of the founder, log id and options together.
    Founding = 4,
    /// Which node id holds a name.
    Registry = 5,
}

impl EntryKind {
    /// The kind with this number on disk; `None` if this version does not know it.
    #[must_use]
    pub fn from_u8(value: u8) -> Option<Self> {
        match value {
            1 => Some(Self::Normal),
            2 => Some(Self::Noop),
            3 => Some(Self::Configuration),
            4 => Some(Self::Founding),
            5 => Some(Self::Registry),
            _ => None,
        }
    }

    /// Must a node that opens its log read this entry before it can speak for itself?
    #[must_use]
    pub fn is_remembered(self) -> bool {
        matches!(self, Self::Configuration | Self::Founding | Self::Registry)
    }
}

/// All of an entry but its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryHeader {
    /// The first 8 bytes of the log id: an entry of another history never passes as one of this.
    pub seed: u64,
    /// Where it stands.
    pub index: LogIndex,
    /// The term of the leader that made it.
    pub term: Term,
    /// What it is.
    pub kind: EntryKind,
    /// The offset of its first record, or the next offset if it holds none.
    pub base_offset: u64,
    /// Records in it; 0 in control entries.
    pub count: u32,
    /// When the leader accepted it; never decreases along the log.
    pub time: Wall,
    /// The Lamport clock of its last record.
    pub lamport: u64,
    /// The shard; 0 for now.
    pub shard: u32,
    /// The producer's session; 0 without one.
    pub session: u64,
    /// The sequence number in that session.
    pub seq: u64,
    /// The hash of this entry and all before it.
    pub chain: u64,
    /// Bytes of the payload.
    pub payload_len: u32,
    /// CRC32C of the payload.
    pub payload_crc: u32,
}

impl EntryHeader {
    /// Its index and term.
    #[must_use]
    pub fn position(&self) -> Position {
        Position { index: self.index, term: self.term }
    }

    /// The offset that the next record of the log will have.
    #[must_use]
    pub fn next_offset(&self) -> u64 {
        self.base_offset.saturating_add(u64::from(self.count))
    }

    /// Bytes of the whole encoded entry.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        ENTRY_HEADER_BYTES + self.payload_len as usize
    }
}

/// What the maker of an entry chooses; the rest follows from the payload and the previous entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryFields {
    /// See [`EntryHeader::seed`].
    pub seed: u64,
    /// See [`EntryHeader::index`].
    pub index: LogIndex,
    /// See [`EntryHeader::term`].
    pub term: Term,
    /// See [`EntryHeader::kind`].
    pub kind: EntryKind,
    /// See [`EntryHeader::base_offset`].
    pub base_offset: u64,
    /// See [`EntryHeader::count`].
    pub count: u32,
    /// See [`EntryHeader::time`].
    pub time: Wall,
    /// See [`EntryHeader::lamport`].
    pub lamport: u64,
    /// See [`EntryHeader::shard`].
    pub shard: u32,
    /// See [`EntryHeader::session`].
    pub session: u64,
    /// See [`EntryHeader::seq`].
    pub seq: u64,
}

/// Why bytes are not an entry, or not the next one. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EntryError {
    /// Fewer bytes than the entry announces.
    #[error("an entry is cut short")]
    Short,
    /// Bytes follow the entry that do not belong to it.
    #[error("bytes follow the end of an entry")]
    Trailing,
    /// These bytes were never an entry.
    #[error("not an entry (wrong magic bytes)")]
    Magic,
    /// Written by a newer version of this program.
    #[error("entry version {0} is not known here; upgrade this node")]
    Version(u8),
    /// A kind made by a newer version of this program.
    #[error("entry kind {0} is not known here; upgrade this node")]
    Kind(u8),
    /// Longer than the format allows.
    #[error("a payload of {0} bytes exceeds the limit of {ENTRY_PAYLOAD_BYTES_MAX}")]
    TooLong(u32),
    /// More entries than the caller expects.
    #[error("more entries than announced")]
    TooMany,
    /// The header is damaged.
    #[error("the header's checksum does not match")]
    HeaderCrc,
    /// The payload is damaged.
    #[error("the payload's checksum does not match")]
    PayloadCrc,
    /// The checksums are right but the fields contradict each other: its maker is at fault.
    #[error("the fields contradict each other ({0})")]
    Contradiction(&'static str),
    /// It is not the successor of the entry it was compared with.
    #[error("not the next entry ({0})")]
    NotNext(&'static str),
}

/// An entry: its header, and the bytes of the whole encoding, shared without copying.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    header: EntryHeader,
    bytes: Bytes,
}

impl Entry {
    /// Makes the entry that follows the one whose chain value is `previous_chain` ([`CHAIN_GENESIS`] for the first).
    ///
    /// # Panics
    /// If the payload is longer than [`ENTRY_PAYLOAD_BYTES_MAX`], the index is zero, a control entry counts records
    /// or the offset overflows: the caller decides all of these before it seals.
    #[must_use]
    pub fn seal(fields: EntryFields, previous_chain: u64, payload: &[u8]) -> Self {
        Self::seal_with_crc(fields, previous_chain, payload, crc32c(payload))
    }

    /// As [`seal`](Self::seal), with the payload's CRC32C as it was computed where the batch was accepted. A wrong one
    /// makes an entry that no decoder accepts.
    ///
    /// # Panics
    /// As [`seal`](Self::seal).
    #[must_use]
    pub fn seal_with_crc(fields: EntryFields, previous_chain: u64, payload: &[u8], payload_crc: u32) -> Self {
        assert!(payload.len() <= ENTRY_PAYLOAD_BYTES_MAX, "payload of {} bytes exceeds the format", payload.len());
        let mut header = EntryHeader {
            seed: fields.seed,
            index: fields.index,
            term: fields.term,
            kind: fields.kind,
            base_offset: fields.base_offset,
            count: fields.count,
            time: fields.time,
            lamport: fields.lamport,
            shard: fields.shard,
            session: fields.session,
            seq: fields.seq,
            chain: 0,
            payload_len: payload.len() as u32,
            payload_crc,
        };
        if let Err(error) = check_fields(&header) {
            panic!("sealing an entry that no decoder accepts: {error}");
        }
        let mut bytes = BytesMut::with_capacity(ENTRY_HEADER_BYTES + payload.len());
        put_prefix(&mut bytes, &header);
        header.chain = chain(previous_chain, &bytes, payload_crc);
        bytes.put_u64_le(header.chain);
        bytes.put_u32_le(payload_crc);
        let header_crc = crc32c(&bytes);
        bytes.put_u32_le(header_crc);
        bytes.put_slice(payload);
        Self { header, bytes: bytes.freeze() }
    }

    /// Reads exactly one entry and checks every checksum.
    ///
    /// # Errors
    /// Anything that is not one whole, undamaged entry of a known version and kind.
    pub fn decode(bytes: Bytes) -> Result<Self, EntryError> {
        let header = decode_header(&bytes)?;
        match bytes.len() - ENTRY_HEADER_BYTES {
            n if n < header.payload_len as usize => return Err(EntryError::Short),
            n if n > header.payload_len as usize => return Err(EntryError::Trailing),
            _ => {}
        }
        if crc32c(&bytes[ENTRY_HEADER_BYTES..]) != header.payload_crc && !mutant!(ChecksumIgnored) {
            return Err(EntryError::PayloadCrc);
        }
        Ok(Self { header, bytes })
    }

    /// Reads at most `max` entries that stand one behind the other, without copying, and checks every checksum. It
    /// does not check that they follow each other: see [`follows`](Self::follows).
    ///
    /// # Errors
    /// If one of them is not an entry, if bytes are left over, or if there are more than `max`.
    pub fn decode_many(mut bytes: Bytes, max: usize) -> Result<Vec<Self>, EntryError> {
        // Not sized by `max`: a peer chooses both, and only bytes that are here may cost memory.
        let mut entries = Vec::new();
        while !bytes.is_empty() {
            if entries.len() == max {
                return Err(EntryError::TooMany);
            }
            let len = decode_header(&bytes)?.encoded_len();
            if bytes.len() < len {
                return Err(EntryError::Short);
            }
            entries.push(Self::decode(bytes.split_to(len))?);
        }
        Ok(entries)
    }

    /// The header.
    #[must_use]
    pub fn header(&self) -> &EntryHeader {
        &self.header
    }

    /// The payload, shared.
    #[must_use]
    pub fn payload(&self) -> Bytes {
        self.bytes.slice(ENTRY_HEADER_BYTES..)
    }

    /// The whole encoding: what goes to disk and to peers, unchanged.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Is this the entry right after `previous`: same history, next index, a term and a time not lower, the next
    /// offset, and a chain that hashes all before it.
    ///
    /// # Errors
    /// [`EntryError::NotNext`] names the first field that contradicts.
    pub fn follows(&self, previous: &EntryHeader) -> Result<(), EntryError> {
        let h = &self.header;
        if h.seed != previous.seed {
            return Err(EntryError::NotNext("it belongs to another log id"));
        }
        if previous.index.0.checked_add(1) != Some(h.index.0) {
            return Err(EntryError::NotNext("the index is not the next one"));
        }
        if h.term < previous.term {
            return Err(EntryError::NotNext("the term is lower"));
        }
        if h.base_offset != previous.next_offset() {
            return Err(EntryError::NotNext("the offset is not the next one"));
        }
        if h.time < previous.time {
            return Err(EntryError::NotNext("the time is lower"));
        }
        self.chains_to(previous.chain)
    }

    /// Does the chain value of this entry follow from `previous_chain`?
    ///
    /// # Errors
    /// [`EntryError::NotNext`] if it does not: two histories differ before this entry.
    pub fn chains_to(&self, previous_chain: u64) -> Result<(), EntryError> {
        if chain(previous_chain, &self.bytes[..CHAIN_AT], self.header.payload_crc) == self.header.chain {
            Ok(())
        } else {
            Err(EntryError::NotNext("the chain hash differs: the histories before it are not the same"))
        }
    }

    /// CRC32C of the whole encoding.
    pub(crate) fn crc(&self) -> u32 {
        let (head, payload) = self.bytes.split_at(ENTRY_HEADER_BYTES);
        if payload.len() < COMBINE_FROM_BYTES {
            return crc32c(&self.bytes);
        }
        crc32c_combine(crc32c(head), self.header.payload_crc, payload.len())
    }
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.header.fmt(f)
    }
}

fn chain(previous: u64, prefix: &[u8], payload_crc: u32) -> u64 {
    let mut input = [0; 8 + CHAIN_AT + 4];
    input[..8].copy_from_slice(&previous.to_le_bytes());
    input[8..8 + CHAIN_AT].copy_from_slice(prefix);
    input[8 + CHAIN_AT..].copy_from_slice(&payload_crc.to_le_bytes());
    xxh3_64(&input)
}

/// The first 80 bytes.
fn put_prefix(out: &mut BytesMut, h: &EntryHeader) {
    out.put_slice(&MAGIC);
    out.put_u8(VERSION);
    out.put_u8(h.kind as u8);
    out.put_u32_le(h.payload_len);
    out.put_u32_le(h.count);
    out.put_u32_le(h.shard);
    out.put_u64_le(h.seed);
    out.put_u64_le(h.index.0);
    out.put_u64_le(h.term.0);
    out.put_u64_le(h.base_offset);
    out.put_i64_le(h.time.0);
    out.put_u64_le(h.lamport);
    out.put_u64_le(h.session);
    out.put_u64_le(h.seq);
}

/// The bytes of a header without its payload, as [`decode_header`] takes them.
#[must_use]
pub fn encode_header(header: &EntryHeader) -> Vec<u8> {
    let mut bytes = BytesMut::with_capacity(ENTRY_HEADER_BYTES);
    put_prefix(&mut bytes, header);
    bytes.put_u64_le(header.chain);
    bytes.put_u32_le(header.payload_crc);
    let crc = crc32c(&bytes);
    bytes.put_u32_le(crc);
    bytes.to_vec()
}

/// What must hold inside one header, checked before it is written and after it is read.
fn check_fields(h: &EntryHeader) -> Result<(), EntryError> {
    if h.index == LogIndex::ZERO {
        return Err(EntryError::Contradiction("index zero is before the first entry"));
    }
    if h.kind != EntryKind::Normal && h.count != 0 {
        return Err(EntryError::Contradiction("a control entry counts records"));
    }
    if h.base_offset.checked_add(u64::from(h.count)).is_none() {
        return Err(EntryError::Contradiction("the offset overflows"));
    }
    Ok(())
}

/// Reads and checks the header at the start of `bytes`; the payload need not be there.
///
/// # Errors
/// As [`Entry::decode`], but for the payload.
pub fn decode_header(bytes: &[u8]) -> Result<EntryHeader, EntryError> {
    let Some((mut b, _)) = bytes.split_at_checked(ENTRY_HEADER_BYTES) else { return Err(EntryError::Short) };
    if b[..2] != MAGIC {
        return Err(EntryError::Magic);
    }
    let crc = crc32c(&b[..HEADER_CRC_AT]);
    // The checksum first: a damaged version byte must not read as "upgrade this node".
    if (&b[HEADER_CRC_AT..]).get_u32_le() != crc {
        return Err(EntryError::HeaderCrc);
    }
    b.advance(2);
    let version = b.get_u8();
    if version != VERSION {
        return Err(EntryError::Version(version));
    }
    let kind = b.get_u8();
    let kind = EntryKind::from_u8(kind).ok_or(EntryError::Kind(kind))?;
    let payload_len = b.get_u32_le();
    if payload_len as usize > ENTRY_PAYLOAD_BYTES_MAX {
        return Err(EntryError::TooLong(payload_len));
    }
    let count = b.get_u32_le();
    let shard = b.get_u32_le();
    let header = EntryHeader {
        kind,
        payload_len,
        count,
        shard,
        seed: b.get_u64_le(),
        index: LogIndex(b.get_u64_le()),
        term: Term(b.get_u64_le()),
        base_offset: b.get_u64_le(),
        time: Wall(b.get_i64_le()),
        lamport: b.get_u64_le(),
        session: b.get_u64_le(),
        seq: b.get_u64_le(),
        chain: b.get_u64_le(),
        payload_crc: b.get_u32_le(),
    };
    check_fields(&header)?;
    Ok(header)
}
