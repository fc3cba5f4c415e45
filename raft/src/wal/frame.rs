//! The frame: the local envelope of one entry in a segment, bound to its place by checksum.
//!
//! It never leaves the node: peers and readers get the entry inside, which is the same everywhere.
//!
//! # Layout, version 1 of the segment (little-endian); a frame starts at a multiple of 8
//!
//! | at | bytes | field |
//! |---:|---:|---|
//! | 0 | 4 | magic `QFRM` |
//! | 4 | 4 | length of the body, at most [`ENTRY_BYTES_MAX`] |
//! | 8 | 4 | group id, 0 for now |
//! | 12 | 4 | durable frontier: the segment offset known durable when the frame was built |
//! | 16 | 8 | index of the entry |
//! | 24 | 8 | key: base offset |
//! | 32 | 8 | key: time, with the sign bit flipped so that it sorts unsigned |
//! | 40 | 4 | how many 512-byte sectors of the file hold only zeros of this body |
//! | 44 | 4 | zero |
//! | 48 | 4 | CRC32C of the body |
//! | 52 | 4 | CRC32C of (segment uid, file offset of the frame, bytes 0..52) |
//! | 56 | n | body: one entry |
//! | 56+n | 0–7 | zeros up to a multiple of 8 |
//!
//! # Why each part
//!
//! The header's checksum is seeded with uid and offset, so that a good frame at a wrong place (a misdirected write, a
//! copied block) is damage. It vouches for the length, so that a damaged body can be measured and skipped, and it
//! holds the body's checksum, which binds the two.
//!
//! The frontier and the zero count tell a torn write from rot, see `recover`. A sector that was never written reads
//! as zeros, but so may a payload: only *more* zero sectors than the header counts prove that one was not written.

use std::io;
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes};
use crc32c::{crc32c, crc32c_append};

use super::disk::File;
use super::entry::{self, ENTRY_BYTES_MAX, ENTRY_HEADER_BYTES, Entry, EntryError, EntryHeader};
use crate::{Wall, mutant};

/// Bytes of a frame before its body.
pub(super) const FRAME_HEADER_BYTES: usize = 56;
/// What a disk writes as a whole, or not at all.
pub(super) const SECTOR_BYTES: usize = 512;

const MAGIC: [u8; 4] = *b"QFRM";
const CRC_AT: usize = 52;

/// The key by which time is searched: sorts as the time does.
pub(super) fn time_key(time: Wall) -> u64 {
    (time.0 as u64) ^ (1 << 63)
}

/// Bytes that a body of this length takes in a segment.
pub(super) fn framed_len(body: usize) -> u64 {
    (FRAME_HEADER_BYTES + body).next_multiple_of(8) as u64
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHeader {
    pub(super) body_len: u32,
    pub(super) group: u32,
    /// The segment offset known durable when the frame was built.
    pub(super) frontier: u32,
    pub(super) index: u64,
    pub(super) offset_key: u64,
    pub(super) time_key: u64,
    pub(super) zero_sectors: u32,
    pub(super) body_crc: u32,
}

impl FrameHeader {
    /// Bytes of the whole frame with its padding.
    pub(super) fn total_len(&self) -> u64 {
        framed_len(self.body_len as usize)
    }

    /// The header of its entry, if that is not damaged, whatever the payload is.
    pub(super) fn of_entry(&self, body: &[u8]) -> Option<EntryHeader> {
        let header = entry::decode_header(body).ok()?;
        let same = header.encoded_len() == self.body_len as usize && describes(self, &header);
        same.then_some(header)
    }
}

/// Appends the frame of `entry`, which will stand at `at` of the segment `uid`.
pub(super) fn encode(out: &mut Vec<u8>, uid: u64, at: u64, frontier: u32, entry: &Entry) {
    debug_assert_eq!(at % 8, 0);
    let start = out.len();
    let head = entry.header();
    let body = entry.bytes();
    out.put_slice(&MAGIC);
    out.put_u32_le(body.len() as u32);
    out.put_u32_le(0);
    out.put_u32_le(frontier);
    out.put_u64_le(head.index.0);
    out.put_u64_le(head.base_offset);
    out.put_u64_le(time_key(head.time));
    out.put_u32_le(zero_sectors(at + FRAME_HEADER_BYTES as u64, body));
    out.put_u32_le(0);
    out.put_u32_le(entry.crc());
    let crc = header_crc(uid, at, &out[start..start + CRC_AT]);
    out.put_u32_le(crc);
    out.put_slice(body);
    out.resize(start + framed_len(body.len()) as usize, 0);
}

fn header_crc(uid: u64, at: u64, bytes: &[u8]) -> u32 {
    let mut seed = [0; 16];
    seed[..8].copy_from_slice(&uid.to_le_bytes());
    seed[8..].copy_from_slice(&at.to_le_bytes());
    crc32c_append(if mutant!(ChecksumUnseeded) { 0 } else { crc32c(&seed) }, bytes)
}

/// May a frame start with these bytes? A cheap filter before [`decode_header`].
pub(super) fn may_start(bytes: &[u8]) -> bool {
    bytes.starts_with(&MAGIC)
}

/// The header at the start of `bytes`, if it is one of segment `uid` at offset `at`.
pub(super) fn decode_header(bytes: &[u8], uid: u64, at: u64) -> Option<FrameHeader> {
    let (mut b, _) = bytes.split_at_checked(FRAME_HEADER_BYTES)?;
    if b[..4] != MAGIC || (&b[CRC_AT..]).get_u32_le() != header_crc(uid, at, &b[..CRC_AT]) {
        return None;
    }
    b.advance(4);
    let body_len = b.get_u32_le();
    let group = b.get_u32_le();
    let frontier = b.get_u32_le();
    let index = b.get_u64_le();
    let offset_key = b.get_u64_le();
    let time_key = b.get_u64_le();
    let zero_sectors = b.get_u32_le();
    let zero = b.get_u32_le();
    let body_crc = b.get_u32_le();
    let len = body_len as usize;
    // A frame behind its own frontier cannot be: then the frontier was not known when it was built.
    if !(ENTRY_HEADER_BYTES..=ENTRY_BYTES_MAX).contains(&len) || zero != 0 || u64::from(frontier) > at {
        return None;
    }
    Some(FrameHeader { body_len, group, frontier, index, offset_key, time_key, zero_sectors, body_crc })
}

/// In how many sectors of the file do these bytes, which stand at `at`, leave nothing but zeros?
pub(super) fn zero_sectors(at: u64, bytes: &[u8]) -> u32 {
    sectors(at, bytes).filter(|part| part.iter().all(|b| *b == 0)).count() as u32
}

/// Splits bytes that stand at `at` at the sector boundaries of the file.
fn sectors(at: u64, bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let first = (SECTOR_BYTES - (at % SECTOR_BYTES as u64) as usize).min(bytes.len());
    let (head, rest) = bytes.split_at(first);
    std::iter::once(head).filter(|h| !h.is_empty()).chain(rest.chunks(SECTOR_BYTES))
}

/// What stands at a place where a frame may start.
#[derive(Debug)]
pub(super) enum Place {
    /// A good frame.
    Frame(Frame),
    /// No byte is left.
    End,
    /// No good header. `unwritten`: one of its sectors was never written.
    BadHeader {
        /// A sector of the header is all zeros, which no header leaves.
        unwritten: bool,
    },
    /// A good header with a damaged body. `unwritten`: more sectors are zero than were when it was built.
    BadBody {
        header: FrameHeader,
        /// At least one sector of the body was never written.
        unwritten: bool,
    },
    /// Undamaged, yet not an entry that this version understands or that the frame describes.
    Unreadable(EntryError),
}

/// A good frame.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) header: FrameHeader,
    pub(super) entry: Entry,
}

/// Reads what stands at `at`.
pub(super) fn read(window: &mut Window, uid: u64, at: u64) -> io::Result<Place> {
    if at >= window.end() {
        return Ok(Place::End);
    }
    let head = window.get(at, FRAME_HEADER_BYTES)?;
    let Some(header) = decode_header(&head, uid, at) else {
        let unwritten = head.len() < FRAME_HEADER_BYTES || zero_sectors(at, &head) > 0;
        return Ok(Place::BadHeader { unwritten });
    };
    let body_at = at + FRAME_HEADER_BYTES as u64;
    let padded = window.get(body_at, header.total_len() as usize - FRAME_HEADER_BYTES)?;
    let len = header.body_len as usize;
    if padded.len() + FRAME_HEADER_BYTES < header.total_len() as usize {
        // The file ends inside: what lies beyond its end was never written.
        return Ok(Place::BadBody { header, unwritten: true });
    }
    let body = padded.slice(..len);
    let damaged = || Place::BadBody { header, unwritten: zero_sectors(body_at, &body) > header.zero_sectors };
    if padded[len..].iter().any(|b| *b != 0) {
        return Ok(damaged());
    }
    let entry = match Entry::decode(body.clone()) {
        Ok(entry) if entry.crc() == header.body_crc || mutant!(ChecksumIgnored) => entry,
        Err(error) if crc32c(&body) == header.body_crc => return Ok(Place::Unreadable(error)),
        _ => return Ok(damaged()),
    };
    if !describes(&header, entry.header()) {
        return Ok(Place::Unreadable(EntryError::Contradiction("the frame describes another entry")));
    }
    Ok(Place::Frame(Frame { header, entry }))
}

fn describes(frame: &FrameHeader, entry: &EntryHeader) -> bool {
    frame.group == 0
        && frame.index == entry.index.0
        && frame.offset_key == entry.base_offset
        && frame.time_key == time_key(entry.time)
}

/// The first place from `at` on where a good frame header stands.
pub(super) fn next(window: &mut Window, uid: u64, at: u64) -> io::Result<Option<(u64, FrameHeader)>> {
    const STEP: usize = 64 << 10;
    let mut at = at;
    while at < window.end() {
        let bytes = window.get(at, STEP)?;
        for offset in (0..bytes.len()).step_by(8).filter(|o| may_start(bytes.get(*o..).unwrap_or_default())) {
            let place = at + offset as u64;
            let head = window.get(place, FRAME_HEADER_BYTES)?;
            if let Some(header) = decode_header(&head, uid, place) {
                return Ok(Some((place, header)));
            }
        }
        at += bytes.len() as u64;
    }
    Ok(None)
}

/// What lies behind a bad place of a segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Survey {
    /// The highest durable frontier in a good frame header there.
    pub(super) frontier: u64,
    /// Only zeros from here on.
    pub(super) written_end: u64,
    /// The last good frame header there, and where its frame ends.
    pub(super) last: Option<LastFrame>,
}

/// A good frame header behind which there is no other.
#[derive(Clone, Copy, Debug)]
pub(super) struct LastFrame {
    pub(super) index: u64,
    /// Where its frame ends.
    pub(super) end: u64,
    /// The header of its entry, if that is good.
    pub(super) entry: Option<EntryHeader>,
}

/// Looks at every place from `from` on where a frame header may stand.
pub(super) fn survey(window: &mut Window, uid: u64, from: u64) -> io::Result<Survey> {
    const STEP: usize = 64 << 10;
    let mut survey = Survey { frontier: 0, written_end: from, last: None };
    let mut at = from;
    while at < window.end() {
        let bytes = window.get(at, STEP)?;
        if let Some(last) = bytes.iter().rposition(|b| *b != 0) {
            survey.written_end = at + last as u64 + 1;
        }
        at += bytes.len() as u64;
    }
    let mut at = from;
    while let Some((place, header)) = next(window, uid, at)? {
        survey.frontier = survey.frontier.max(u64::from(header.frontier));
        let body = window.get(place + FRAME_HEADER_BYTES as u64, ENTRY_HEADER_BYTES)?;
        let (index, end) = (header.index, place + header.total_len());
        survey.last = Some(LastFrame { index, end, entry: header.of_entry(&body) });
        at = place + 8;
    }
    Ok(survey)
}

/// A moving window over a file: reads in large steps, hands out shared slices.
pub(super) struct Window {
    file: Arc<dyn File>,
    end: u64,
    step: usize,
    at: u64,
    bytes: Bytes,
    /// A place that the system cannot read is damage like any other, and not the end of the walk.
    lenient: bool,
    /// Past the cache, as far as the system can.
    cold: bool,
}

/// What a place that cannot be read is taken for: not zeros, which would mean that it was never written.
const UNREADABLE: u8 = 0xff;
/// Read at a time around such a place: what a disk remaps at a time.
const CAREFUL_BYTES: usize = 4096;

impl Window {
    /// Over the bytes of `file` before `end`, which must not exceed its length; `step` bytes are read at a time.
    pub(super) fn new(file: Arc<dyn File>, end: u64, step: usize) -> Self {
        Self { file, end, step, at: 0, bytes: Bytes::new(), lenient: false, cold: false }
    }

    /// Takes what the system cannot read for damaged bytes.
    pub(super) fn lenient(self) -> Self {
        Self { lenient: true, ..self }
    }

    /// Reads the disk and not the cache, as far as the system can tell them apart.
    pub(super) fn cold(self) -> Self {
        Self { cold: true, ..self }
    }

    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Are these bytes in memory already?
    pub(super) fn holds(&self, at: u64, len: u64) -> bool {
        self.at <= at && at + len <= self.at + self.bytes.len() as u64
    }

    /// `len` bytes from `at`, or fewer where the window ends.
    pub(super) fn get(&mut self, at: u64, len: usize) -> io::Result<Bytes> {
        let left = usize::try_from(self.end.saturating_sub(at)).unwrap_or(usize::MAX);
        let len = len.min(left);
        let loaded = self.at + self.bytes.len() as u64;
        if at < self.at || at + len as u64 > loaded {
            // The caller bounds `len` by the format and `left` by the real length of the file.
            let mut buffer = vec![0; len.max(self.step).min(left)];
            if self.cold {
                self.file.forget_cached(at, buffer.len() as u64);
            }
            match self.file.read_at(&mut buffer, at) {
                Err(_) if self.lenient => self.read_around(&mut buffer, at),
                other => other?,
            }
            self.at = at;
            self.bytes = buffer.into();
        }
        let from = (at - self.at) as usize;
        Ok(self.bytes.slice(from..from + len))
    }

    fn read_around(&self, buffer: &mut [u8], at: u64) {
        // The file may be shorter than its part of the log.
        let there = self.file.len().unwrap_or(0).saturating_sub(at);
        let there = usize::try_from(there).unwrap_or(usize::MAX).min(buffer.len());
        let (there, gone) = buffer.split_at_mut(there);
        gone.fill(UNREADABLE);
        for (n, part) in there.chunks_mut(CAREFUL_BYTES).enumerate() {
            if self.file.read_at(part, at + (n * CAREFUL_BYTES) as u64).is_err() {
                part.fill(UNREADABLE);
            }
        }
    }
}
