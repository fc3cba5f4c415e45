//! The sidecar: what a scan of a segment would find, beside the segment.
//!
//! It never is the truth: it holds facts that were proven when it was written, is bound to one segment by uid and length,
//! and is forgotten on any doubt. So it is neither synced nor needed.
//!
//! # What it is for
//!
//! A start reads the sidecars of the older segments instead of their frames. Where bytes are damaged it still tells terms,
//! control entries and the last entry of the segment. One of a segment that takes frames, written when the log has been
//! idle for a while, tells how far that was durable: damage up to there is never taken for the end of the log.
//!
//! # Name and layout, version 1 (little-endian)
//!
//! The name of the segment with `.idx` in place of `.wal`.
//!
//! | at | bytes | field |
//! |---:|---:|---|
//! | 0 | 8 | magic `QUORIDX\0` |
//! | 8 | 4 | version, 1 |
//! | 12 | 4 | bit 0: there is a last entry |
//! | 16 | 8 | uid of the segment |
//! | 24 | 8 | seq of the segment |
//! | 32 | 8 | base index of the segment |
//! | 40 | 8 | frontier: this tells all frames before this byte of the segment, and all of them were durable |
//! | 48 | 8 | length of the segment file; 0 while it takes frames |
//! | 56 | 8 | index after the last entry before the frontier |
//! | 64 | 4 | count of runs |
//! | 68 | 4 | count of control entries |
//! | 72 | 4 | count of points |
//! | 76 | 4 | bytes of remembered entries |
//! | 80 | 96 | header of the last entry, or zeros |
//! | 176 | 16 each | runs of terms: first index, term |
//! | | 8 each | control entries: index |
//! | | 32 each | points: index, place in the segment, base offset, time key |
//! | | n | remembered: control entries as a whole, one behind the other |
//! | | 4 | CRC32C of all before |

use bytes::{Buf, BufMut, Bytes};
use crc32c::crc32c;

use super::disk::{self, Disk};
use super::entry::{self, ENTRY_HEADER_BYTES, Entry, EntryHeader};
use super::names::{SIDECAR_SUFFIX, TMP_SUFFIX};
use super::segment::{SEGMENT_BYTES_MAX, SEGMENT_HEADER_BYTES};
use super::view::Point;
use crate::{LogIndex, Run, Term};

/// Most bytes of a sidecar: of a segment that would need more there is none, and a start reads its frames.
pub(super) const SIDECAR_BYTES_MAX: usize = 4 << 20;
/// Most bytes of control entries that one sidecar remembers as a whole.
const REMEMBERED_BYTES_MAX: usize = 256 << 10;
const MAGIC: [u8; 8] = *b"QUORIDX\0";
const VERSION: u32 = 1;
const FIXED_BYTES: usize = 176;
const HAS_LAST: u32 = 1;

/// What is known of the frames of one segment, from its first to `end`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) base: u64,
    /// The index after the last frame.
    pub(super) next: u64,
    /// The frames end here.
    pub(super) end: u64,
    /// The last entry of the segment; `None` if there is none, or nobody knows it.
    pub(super) last: Option<EntryHeader>,
    pub(super) runs: Vec<Run>,
    pub(super) control: Vec<LogIndex>,
    pub(super) points: Vec<Point>,
    pub(super) remembered: Vec<Entry>,
    remembered_bytes: usize,
    /// The next good frame gets a point, however near the last one is.
    point_next: bool,
}

/// Which segment a sidecar speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Of {
    pub(super) uid: u64,
    pub(super) seq: u64,
    pub(super) base: u64,
    /// Of the file; 0 while it takes frames.
    pub(super) len: u64,
}

impl Facts {
    pub(super) fn new(base: u64) -> Self {
        Self {
            base,
            next: base,
            end: SEGMENT_HEADER_BYTES as u64,
            last: None,
            runs: Vec::new(),
            control: Vec::new(),
            points: Vec::new(),
            remembered: Vec::new(),
            remembered_bytes: 0,
            point_next: true,
        }
    }

    /// Readers must not walk over a hole: they begin behind it.
    pub(super) fn points_after_hole(&mut self) {
        self.point_next = true;
    }

    /// The next frame holds this entry. Its body may be damaged: then there is only the header.
    pub(super) fn push(&mut self, header: &EntryHeader, entry: Option<&Entry>, at: u64, end: u64, every: u64) {
        debug_assert_eq!(self.next, header.index.0);
        if entry.is_some() && (self.point_next || self.points.last().is_none_or(|p| at - p.at >= every)) {
            self.points.push(Point::of(header, at));
            self.point_next = false;
        }
        if self.runs.last().is_none_or(|run| run.term != header.term) {
            self.runs.push(Run { first: header.index, term: header.term });
        }
        if header.kind.is_remembered() {
            self.control.push(header.index);
            if let Some(entry) = entry
                && self.remembered_bytes + entry.bytes().len() <= REMEMBERED_BYTES_MAX
            {
                self.remembered_bytes += entry.bytes().len();
                self.remembered.push(entry.clone());
            }
        }
        self.next = header.index.0 + 1;
        self.end = end;
        self.last = Some(*header);
    }

    /// Nothing is known of the entries up to `next`, whose frames end at `end`; or only the last of them is known.
    pub(super) fn skip(&mut self, next: u64, end: u64, last: Option<EntryHeader>) {
        self.next = next;
        self.end = end;
        self.last = last;
        if let Some(last) = last
            && self.runs.last().is_none_or(|run| run.term != last.term)
        {
            self.runs.push(Run { first: last.index, term: last.term });
        }
    }

    /// The frames end before the entry `next`, at `end`, with this entry as the last one.
    pub(super) fn cut(&mut self, next: u64, end: u64, last: Option<EntryHeader>) {
        self.next = next;
        self.end = end;
        self.last = last.filter(|last| next > self.base && last.index.0 + 1 == next);
        self.runs.retain(|run| run.first.0 < next);
        self.control.retain(|index| index.0 < next);
        self.points.retain(|point| point.index < next);
        self.remembered.retain(|entry| entry.header().index.0 < next);
    }

    /// The same segment, as it was known when nothing in it was damaged: where both speak, that one tells more.
    pub(super) fn fill_from(&mut self, better: &Self) {
        let from = better.next.min(self.next);
        let mut runs: Vec<Run> = better.runs.iter().copied().filter(|run| run.first.0 < from).collect();
        for run in self.runs.iter().filter(|run| run.first.0 >= from) {
            if runs.last().is_none_or(|last| last.term != run.term) {
                runs.push(*run);
            }
        }
        self.runs = runs;
        let theirs = better.control.iter().copied().filter(|index| index.0 < from);
        self.control = theirs.chain(self.control.iter().copied().filter(|index| index.0 >= from)).collect();
        let theirs = better.remembered.iter().filter(|e| e.header().index.0 < from).cloned();
        let ours = self.remembered.iter().filter(|e| e.header().index.0 >= from).cloned();
        self.remembered = theirs.chain(ours).collect();
        if self.last.is_none() && better.next == self.next {
            self.last = better.last;
        }
    }

    /// `None` if it would be too long.
    pub(super) fn encode(&self, of: Of) -> Option<Vec<u8>> {
        let mut out = Vec::with_capacity(FIXED_BYTES + 32 * self.points.len());
        out.put_slice(&MAGIC);
        out.put_u32_le(VERSION);
        out.put_u32_le(if self.last.is_some() { HAS_LAST } else { 0 });
        for field in [of.uid, of.seq, of.base, self.end, of.len, self.next] {
            out.put_u64_le(field);
        }
        for count in [self.runs.len(), self.control.len(), self.points.len()] {
            out.put_u32_le(u32::try_from(count).ok()?);
        }
        out.put_u32_le(self.remembered.iter().map(|e| e.bytes().len() as u32).sum());
        match &self.last {
            Some(last) => out.put_slice(&entry::encode_header(last)),
            None => out.put_bytes(0, ENTRY_HEADER_BYTES),
        }
        for run in &self.runs {
            out.put_u64_le(run.first.0);
            out.put_u64_le(run.term.0);
        }
        for index in &self.control {
            out.put_u64_le(index.0);
        }
        for Point { index, at, offset, time } in &self.points {
            for field in [index, at, offset, time] {
                out.put_u64_le(*field);
            }
        }
        for entry in &self.remembered {
            out.put_slice(entry.bytes());
        }
        let crc = crc32c(&out);
        out.put_u32_le(crc);
        (out.len() <= SIDECAR_BYTES_MAX).then_some(out)
    }
}

/// The facts, and of which segment they are; `None` on any doubt.
pub(super) fn decode(bytes: &Bytes) -> Option<(Of, Facts)> {
    let (all, crc) = bytes.split_at_checked(bytes.len().checked_sub(4)?)?;
    let (mut b, mut rest) = all.split_at_checked(FIXED_BYTES)?;
    if b[..8] != MAGIC || (&crc[..]).get_u32_le() != crc32c(all) {
        return None;
    }
    b.advance(8);
    let (version, flags) = (b.get_u32_le(), b.get_u32_le());
    let (uid, seq, base) = (b.get_u64_le(), b.get_u64_le(), b.get_u64_le());
    let (end, len, next) = (b.get_u64_le(), b.get_u64_le(), b.get_u64_le());
    let counts = [b.get_u32_le() as usize, b.get_u32_le() as usize, b.get_u32_le() as usize];
    let remembered_bytes = b.get_u32_le() as usize;
    let [runs, control, points] = counts;
    // Each is below 2^32, so that the sum cannot overflow; nothing is allocated for more than is here.
    if version != VERSION
        || flags & !HAS_LAST != 0
        || 16 * runs + 8 * control + 32 * points + remembered_bytes != rest.len()
    {
        return None;
    }
    let last = if flags & HAS_LAST != 0 { Some(entry::decode_header(b).ok()?) } else { None };
    let runs: Vec<Run> =
        (0..runs).map(|_| Run { first: LogIndex(rest.get_u64_le()), term: Term(rest.get_u64_le()) }).collect();
    let control: Vec<LogIndex> = (0..control).map(|_| LogIndex(rest.get_u64_le())).collect();
    let points: Vec<Point> = (0..points)
        .map(|_| Point {
            index: rest.get_u64_le(),
            at: rest.get_u64_le(),
            offset: rest.get_u64_le(),
            time: rest.get_u64_le(),
        })
        .collect();
    let remembered = Entry::decode_many(bytes.slice_ref(rest), control.len()).ok()?;
    let facts = Facts { base, next, end, last, runs, control, points, remembered, remembered_bytes, point_next: false };
    let of = Of { uid, seq, base, len };
    facts.is_sound(of).then_some((of, facts))
}

impl Facts {
    /// Does nothing in it contradict the rest? A good checksum proves only that it was written so.
    fn is_sound(&self, of: Of) -> bool {
        let within = |index: u64| (self.base..self.next).contains(&index);
        let start = SEGMENT_HEADER_BYTES as u64;
        let first_point = self.points.first().is_none_or(|p| p.index == self.base && p.at == start);
        let shape = if self.next == self.base {
            self.end == start && self.last.is_none() && self.points.is_empty() && self.runs.is_empty()
        } else {
            let first_run = self.runs.first().is_some_and(|run| run.first.0 == self.base);
            let last_run = self
                .runs
                .last()
                .zip(self.last)
                .is_some_and(|(run, last)| run.term == last.term && last.index.0.checked_add(1) == Some(self.next));
            first_run && last_run && !self.points.is_empty()
        };
        of.base == self.base
            && of.seq > 0
            && self.base > 0
            && (self.base..u64::MAX).contains(&self.next)
            && (start..=SEGMENT_BYTES_MAX).contains(&self.end)
            && (of.len == 0 || self.end <= of.len)
            && shape
            && first_point
            && self.runs.iter().all(|run| within(run.first.0))
            && self.runs.is_sorted_by(|a, b| a.first < b.first && a.term < b.term)
            && self.control.iter().all(|index| within(index.0))
            && self.control.is_sorted_by(|a, b| a < b)
            && self.points.iter().all(|p| within(p.index) && p.at < self.end)
            && self.points.is_sorted_by(|a, b| a.index < b.index && a.at < b.at)
            && self.remembered.iter().all(|e| self.control.binary_search(&e.header().index).is_ok())
            && self.remembered.is_sorted_by(|a, b| a.header().index < b.header().index)
    }
}

/// The name of the sidecar of this segment.
pub(super) fn name_of(segment: &str) -> String {
    format!("{}{SIDECAR_SUFFIX}", segment.strip_suffix(super::segment::SUFFIX).unwrap_or(segment))
}

/// Writes it beside its segment. Nothing is lost if that fails, or if a crash takes it: the next start reads frames.
pub(super) fn write(disk: &dyn Disk, segment: &str, of: Of, facts: &Facts) {
    let name = name_of(segment);
    let tmp = format!("{name}{TMP_SUFFIX}");
    let Some(bytes) = facts.encode(of) else { return };
    let written = disk::remove_if_any(disk, &tmp).and_then(|()| {
        let file = disk.create(&tmp)?;
        file.write_at(&bytes, 0)?;
        disk.rename(&tmp, &name)
    });
    if written.is_err() {
        // For the space, if it was that; the next start removes it otherwise.
        let _ = disk.remove(&tmp);
    }
}

/// Reads the one of this segment; `None` if there is none, or on any doubt.
pub(super) fn read(disk: &dyn Disk, segment: &str) -> Option<(Of, Facts)> {
    let file = disk.open(&name_of(segment)).ok()?;
    let len = usize::try_from(file.len().ok()?).ok().filter(|len| *len <= SIDECAR_BYTES_MAX)?;
    let mut bytes = vec![0; len];
    file.read_at(&mut bytes, 0).ok()?;
    decode(&bytes.into())
}
