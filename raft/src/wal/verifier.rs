//! The verifier: the walk of `verify` through meta and segments, past all damage.
//!
//! It keeps one window of a file, one header a segment and the list of damages; never an entry longer than it looks at it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use super::disk::{Disk, File};
use super::entry::{Entry, EntryError, EntryHeader};
use super::error::{Context, Error};
use super::frame::{self, FRAME_HEADER_BYTES, FrameHeader, Place, Window};
use super::meta::{self, META_BYTES, Meta};
use super::names::{META_FILES, SIDECAR_SUFFIX};
use super::segment::{self, Name, SEGMENT_BYTES_MAX, SEGMENT_HEADER_BYTES, SegmentHeader};
use super::sidecar;
use super::verified::{DAMAGES_MAX, Damage, Seen, TornTail, Verified};
use crate::LogIndex;

/// Bytes read at a time.
const STEP_BYTES: usize = 1 << 20;

/// A segment file, as its name tells and, if it is good, its header block.
struct SegmentFile {
    name: String,
    seq: u64,
    base: u64,
    uid: u64,
    len: u64,
    header: Option<SegmentHeader>,
}

pub(super) struct Verifier<'a> {
    disk: &'a dyn Disk,
    look: &'a mut dyn FnMut(Seen<'_>) -> Option<String>,
    found: Verified,
    bytes_of: u64,
    /// The last good entry in force, if no damage lies behind it.
    last: Option<EntryHeader>,
    /// Something between `last` and here is damaged, so that what follows need not follow it directly.
    gap: bool,
    /// The entry before the base of each segment, for those that begin behind a truncation.
    before_bases: BTreeMap<u64, EntryHeader>,
    wanted: BTreeSet<u64>,
    /// The damage whose end is told by the next good header.
    open: Option<usize>,
    /// The entry that belongs to the place where the walk is.
    expected: u64,
    /// The last good entry in force.
    force: Option<EntryHeader>,
    /// Entries in force before this one are counted or named as damaged.
    covered: u64,
    /// Numbers and bases of segments that are missing, as far as their successors or the meta tell.
    missing: Vec<(u64, u64)>,
}

impl<'a> Verifier<'a> {
    pub(super) fn new(disk: &'a dyn Disk, look: &'a mut dyn FnMut(Seen<'_>) -> Option<String>) -> Self {
        Self {
            disk,
            look,
            found: Verified::default(),
            bytes_of: 0,
            last: None,
            gap: false,
            before_bases: BTreeMap::new(),
            wanted: BTreeSet::new(),
            open: None,
            expected: 0,
            force: None,
            covered: 0,
            missing: Vec::new(),
        }
    }

    pub(super) fn run(mut self, names: &[String]) -> Result<Verified, Error> {
        self.meta(names)?;
        let found = self.segments(names)?;
        for at in 0..found.len() {
            let later = found.get(at + 1..).unwrap_or_default();
            if let Some(this) = found.get(at) {
                self.segment(this, later)?;
            }
        }
        self.found.last = self.force.map(|header| header.index);
        Ok(self.found)
    }

    /// Notes a damage; its place in the list, if it is listed.
    fn damage(&mut self, file: &str, offset: u64, what: impl Into<String>) -> Option<usize> {
        if self.found.damaged.len() >= DAMAGES_MAX {
            self.found.more_damaged += 1;
            return None;
        }
        let damage = Damage { file: file.to_owned(), offset, what: what.into(), entries: None, records: None };
        self.found.damaged.push(damage);
        Some(self.found.damaged.len() - 1)
    }

    fn damage_of(&mut self, error: Error) -> Result<(), Error> {
        match error {
            Error::Corrupt { file, offset, what, .. } => {
                self.damage(&file, offset, what);
                Ok(())
            }
            other => Err(other),
        }
    }

    fn read(&mut self, bytes: u64) {
        self.found.bytes += bytes;
        (self.look)(Seen::Progress { bytes: self.found.bytes, of: self.bytes_of });
    }

    // ---- meta ----

    fn meta(&mut self, names: &[String]) -> Result<(), Error> {
        let mut best: Option<(u64, Meta)> = None;
        let mut bad = Vec::new();
        for name in META_FILES {
            match self.meta_copy(names, name) {
                Ok(copy) => best = best.filter(|(generation, _)| *generation >= copy.0).or(Some(copy)),
                Err(error) => bad.push(error),
            }
        }
        let no_segments = names.iter().all(|n| !matches!(segment::classify(n), Name::Segment(_)));
        for error in bad {
            // A crash while the log was made leaves the first copy alone; the next start makes the second one.
            let is_unfinished = best.is_some_and(|(generation, _)| generation == 1)
                && no_segments
                && matches!(&error, Error::Corrupt { file, .. } if !names.contains(file));
            if !is_unfinished {
                self.damage_of(error)?;
            }
        }
        self.found.meta = best.map(|(_, meta)| meta);
        Ok(())
    }

    fn meta_copy(&mut self, names: &[String], name: &str) -> Result<(u64, Meta), Error> {
        if !names.iter().any(|n| n == name) {
            return Err(Error::corrupt(name, 0, "the file is missing"));
        }
        let file = self.disk.open(name).context("open", name)?;
        let len = file.len().context("measure", name)?;
        if len != META_BYTES as u64 {
            return Err(Error::corrupt(name, len.min(META_BYTES as u64), "the file has not the length of a meta"));
        }
        let mut bytes = vec![0; META_BYTES];
        file.read_at(&mut bytes, 0).map_err(|error| Error::corrupt(name, 0, unreadable(&error)))?;
        self.found.bytes += len;
        meta::decode(&bytes, name)
    }

    // ---- segments ----

    fn segments(&mut self, names: &[String]) -> Result<Vec<SegmentFile>, Error> {
        let mut found: Vec<SegmentFile> = Vec::new();
        for name in names {
            match segment::classify(name) {
                Name::Segment(_) => match segment::parse(name) {
                    Some((seq, base, uid)) => {
                        let file = self.disk.open(name).context("open", name)?;
                        let len = file.len().context("measure", name)?;
                        let header = self.header_block(name, len, file.as_ref())?;
                        found.push(SegmentFile { name: name.clone(), seq, base, uid, len, header });
                    }
                    None => drop(self.damage(name, 0, "this is not the name of a segment")),
                },
                Name::Strange => drop(self.damage(name, 0, "this is not the name of a segment")),
                Name::Sidecar => self.sidecar(name),
                Name::Leftover | Name::Foreign => {}
            }
        }
        found.sort_by(|a, b| (a.seq, &a.name).cmp(&(b.seq, &b.name)));
        self.check_order(&found);
        self.bytes_of = self.found.bytes + found.iter().map(|f| f.len).sum::<u64>();
        self.found.segments = found.len();
        self.wanted = found.iter().map(|f| f.base.saturating_sub(1)).collect();
        Ok(found)
    }

    fn sidecar(&mut self, name: &str) {
        let segment = name.replace(SIDECAR_SUFFIX, segment::SUFFIX);
        let good = sidecar::read(self.disk, &segment)
            .filter(|(of, _)| segment::parse(&segment) == Some((of.seq, of.base, of.uid)));
        match good {
            Some(_) => self.found.sidecars += 1,
            None => self.found.sidecars_useless.push(name.to_owned()),
        }
    }

    fn header_block(&mut self, name: &str, len: u64, file: &dyn File) -> Result<Option<SegmentHeader>, Error> {
        if len > SEGMENT_BYTES_MAX {
            self.damage(name, SEGMENT_BYTES_MAX, "the file is longer than any segment");
        }
        let mut block = vec![0; SEGMENT_HEADER_BYTES.min(usize::try_from(len).unwrap_or(usize::MAX))];
        if let Err(error) = file.read_at(&mut block, 0) {
            self.damage(name, 0, unreadable(&error));
            return Ok(None);
        }
        let header = match SegmentHeader::decode(&block, name) {
            Ok(header) => header,
            Err(error) => return self.damage_of(error).map(|()| None),
        };
        if let Some(meta) = &self.found.meta {
            if header.cluster != meta.cluster || header.node != meta.node {
                self.damage(name, 0, "the segment belongs to another node or cluster");
            } else if Some(header.log_id) != meta.log_id {
                self.damage(name, 0, "the segment belongs to another log id");
            }
        }
        Ok(Some(header))
    }

    /// No segment is missing, there twice, or shorter than its successor or the meta remembers.
    fn check_order(&mut self, found: &[SegmentFile]) {
        let is_there = |seq: u64| found.iter().any(|f| f.seq == seq);
        let told = found.iter().filter_map(|f| Some((f.seq.checked_sub(1)?, f.header?.previous.base)));
        let tail = self.found.meta.and_then(|meta| meta.tail).map(|tail| (tail.seq, tail.base));
        self.missing = told.chain(tail).filter(|(seq, base)| *base > 0 && !is_there(*seq)).collect();
        for pair in found.windows(2) {
            let [before, next] = pair else { continue };
            let until = found.iter().filter(|f| f.seq >= next.seq).map(|f| f.base).min().unwrap_or(0);
            let told = next.header.map(|h| h.previous).filter(|p| p.base > 0 && before.seq + 2 == next.seq);
            if told.is_some_and(|previous| previous.base >= until) {
                // The one that is missing held nothing in force.
                self.found.harmless += 1;
            } else if before.seq.checked_add(1) != Some(next.seq) {
                let what = format!("the segment after number {} is missing, or there twice", before.seq);
                self.damage(&next.name, 0, what);
            } else if let Some(header) = &next.header
                && (header.previous.uid, header.previous.len) != (before.uid, before.len)
            {
                // If that costs entries in force, the walk names them.
                self.found.harmless += 1;
            }
        }
        let Some(tail) = self.found.meta.and_then(|meta| meta.tail) else { return };
        match found.iter().find(|f| f.seq == tail.seq && f.uid == tail.uid) {
            None => {
                let name = format!("segment number {} (uid {:016x})", tail.seq, tail.uid);
                let last = tail.last.map(|last| last.index).filter(|last| last.0 >= tail.base);
                if tail.ends && tail.base > 0 && last.is_none() {
                    // The log ended before it when this was written.
                    self.found.harmless += 1;
                    return;
                }
                let place = self.damage(&name, 0, "the newest segment that the meta knows is missing");
                if let Some(damage) =
                    place.and_then(|place| self.found.damaged.get_mut(place)).filter(|_| tail.base > 0)
                {
                    damage.entries = Some((LogIndex(tail.base), last));
                }
            }
            Some(known) if known.len < tail.durable => {
                let what = format!("the file ends before byte {}, which was durable", tail.durable);
                self.damage(&known.name, known.len, what);
            }
            Some(_) => {}
        }
    }

    fn segment(&mut self, this: &SegmentFile, later: &[SegmentFile]) -> Result<(), Error> {
        let SegmentFile { name, seq, base, len, .. } = this;
        (self.look)(Seen::Segment { name, seq: *seq, base: LogIndex(*base), bytes: *len });
        let file = self.disk.open(&this.name).context("open", &this.name)?;
        // Entries from here on are superseded by a later segment.
        let missing = self.missing.iter().filter(|(seq, _)| *seq > this.seq).map(|(_, base)| *base);
        let until = later.iter().map(|f| f.base).chain(missing).min();
        let newest = until.is_none();
        let until = until.unwrap_or(u64::MAX);
        self.begin(this, until);
        let tail = self.found.meta.and_then(|m| m.tail).filter(|t| newest && (t.seq, t.uid) == (this.seq, this.uid));
        let by_sidecar = sidecar::read(self.disk, &this.name).filter(|(of, _)| newest && of.uid == this.uid);
        let len = tail.filter(|t| t.ends).map_or(this.len, |t| t.durable.min(this.len));
        // As `recover` decides: what both know of the end.
        let (mut known, mut last) = tail.map_or((0, None), |t| (t.durable, t.last));
        if let Some((_, facts)) = by_sidecar.filter(|(_, f)| f.end >= known && tail.is_none_or(|t| !t.ends)) {
            (known, last) = (facts.end, facts.last.or(last));
        }
        let last = last.map(|last| last.index);
        let walk = Walk { this, file, until, newest, len, known, last };
        self.found.bytes += this.len.min(SEGMENT_HEADER_BYTES as u64);
        // A place that the system cannot read ends the walk through this file, not the verification.
        if let Err((at, error)) = self.walk(&walk) {
            self.damage(&this.name, at, unreadable(&error));
            self.gap = true;
        }
        Ok(())
    }

    /// A segment supersedes all entries from its base on.
    fn begin(&mut self, this: &SegmentFile, until: u64) {
        let start = self.found.meta.map_or_else(Default::default, |meta| meta.start);
        let before = this.base.saturating_sub(1);
        let known = self.force.filter(|force| force.index.0 == before).or(self.before_bases.get(&before).copied());
        self.before_bases.retain(|index, _| *index < this.base);
        self.open = None;
        self.last = known;
        self.gap = known.is_none() && before != start.position.index.0;
        // One in which nothing is in force may begin anywhere.
        if until <= this.base || !self.gap {
            return;
        }
        let first = self.covered.max(start.position.index.0 + 1);
        if first <= before {
            let what = format!("it begins at entry {}, the log before it ends with {}", this.base, first - 1);
            let at = self.damage(&this.name, 0, what);
            if let Some(damage) = at.and_then(|at| self.found.damaged.get_mut(at)) {
                damage.entries = Some((LogIndex(first), Some(LogIndex(before))));
            }
        }
    }

    fn walk(&mut self, walk: &Walk<'_>) -> Result<(), (u64, io::Error)> {
        let mut window = Window::new(walk.file.clone(), walk.len, STEP_BYTES);
        let mut frontier = walk.known.max(SEGMENT_HEADER_BYTES as u64);
        self.expected = walk.this.base;
        let mut rest: Option<Survey> = None;
        let mut at = SEGMENT_HEADER_BYTES as u64;
        loop {
            let place = frame::read(&mut window, walk.this.uid, at).map_err(|e| (at, e))?;
            if let Place::Frame(frame) = place {
                frontier = frontier.max(u64::from(frame.header.frontier));
                self.good(walk, at, &frame.header, &frame.entry);
                self.read(frame.header.total_len());
                at += frame.header.total_len();
                continue;
            }
            if matches!(place, Place::End) {
                self.end(walk, at, frontier);
                return Ok(());
            }
            let survey = match &rest {
                Some(survey) => survey,
                None => rest.insert(survey(walk, at).map_err(|e| (at, e))?),
            };
            frontier = frontier.max(survey.frontier);
            if self.is_end(walk, at, &place, frontier, survey.written_end) {
                self.read(walk.len.max(at) - at);
                return Ok(());
            }
            let next = self.bad(walk, &mut window, at, &place).map_err(|e| (at, e))?;
            self.read(next - at);
            at = next;
        }
    }

    /// Nothing follows. All that was known durable must be there.
    fn end(&mut self, walk: &Walk<'_>, at: u64, frontier: u64) {
        let last = if walk.newest { walk.last.map(|last| last.0) } else { walk.until.checked_sub(1) };
        let is_short = if walk.newest { at < frontier } else { self.expected < walk.until };
        match self.open.and_then(|open| self.found.damaged.get_mut(open)).and_then(|d| d.entries.as_mut()) {
            // How far the damage before the end reaches.
            Some((first, end)) if end.is_none() => {
                *end = last.map(LogIndex).filter(|last| *last >= *first);
                self.open = None;
            }
            _ if is_short => {
                let place = self.damage(&walk.this.name, at, "durable frames are missing");
                let first = LogIndex(self.expected);
                if let Some(damage) = place.and_then(|place| self.found.damaged.get_mut(place)) {
                    damage.entries = Some((first, last.map(LogIndex).filter(|last| *last >= first)));
                }
                self.gap = true;
            }
            _ => {}
        }
        if !walk.newest && walk.until > walk.this.base {
            self.covered = self.covered.max(walk.until);
        }
    }

    /// Is the newest segment over here without any damage: never written, or torn by a crash? As `recover` decides.
    fn is_end(&mut self, walk: &Walk<'_>, at: u64, place: &Place, frontier: u64, written_end: u64) -> bool {
        let torn = match place {
            _ if written_end <= at => true,
            Place::BadHeader { unwritten } | Place::BadBody { unwritten, .. } => *unwritten,
            Place::Frame(_) | Place::End | Place::Unreadable(_) => false,
        };
        if !walk.newest || at < frontier || !torn {
            return false;
        }
        if written_end > at {
            let file = walk.this.name.clone();
            self.found.torn_tail = Some(TornTail { file, offset: at, bytes: written_end - at });
        }
        true
    }

    /// A frame whose checksums are right.
    fn good(&mut self, walk: &Walk<'_>, at: u64, frame: &FrameHeader, entry: &Entry) {
        let header = *entry.header();
        self.close(walk, frame);
        self.expected = header.index.0 + 1;
        if let Err(error) = self.is_next(entry) {
            let place = self.damage(&walk.this.name, at, format!("the entry there is wrong: {error}"));
            self.costs(place, frame);
        }
        let in_force = header.index.0 < walk.until;
        if let Some(what) = (self.look)(Seen::Entry { entry, at, end: at + frame.total_len(), in_force }) {
            let place = self.damage(&walk.this.name, at, format!("the payload of the entry there is wrong: {what}"));
            self.costs(place, frame);
        }
        if in_force {
            self.found.entries += 1;
            self.found.records += u64::from(header.count);
            self.force = Some(header);
            self.covered = header.index.0 + 1;
        } else {
            self.found.superseded += 1;
        }
        if in_force && self.wanted.contains(&header.index.0) {
            self.before_bases.insert(header.index.0, header);
        }
        self.last = Some(header);
        self.gap = false;
    }

    /// After damage an entry cannot follow the one before; but nothing may go back.
    fn is_next(&self, entry: &Entry) -> Result<(), EntryError> {
        let header = entry.header();
        match (&self.found.meta, &self.last) {
            (_, Some(last)) if self.gap => {
                let goes_back = header.index <= last.index
                    || header.term < last.term
                    || header.time < last.time
                    || header.base_offset < last.next_offset();
                if goes_back { Err(EntryError::NotNext("index, term, time or offset go back")) } else { Ok(()) }
            }
            (_, Some(last)) => entry.follows(last),
            (Some(meta), None) if !self.gap => meta.check_next(entry, None),
            (_, None) => Ok(()),
        }
    }

    /// A damaged place; where to go on.
    fn bad(&mut self, walk: &Walk<'_>, window: &mut Window, at: u64, place: &Place) -> io::Result<u64> {
        let name = &walk.this.name;
        let head = window.get(at, FRAME_HEADER_BYTES)?;
        self.gap = true;
        if self.expected >= walk.until {
            // Nothing of this segment is in force any more.
            self.found.harmless += 1;
            return match frame::decode_header(&head, walk.this.uid, at) {
                Some(header) => Ok((at + header.total_len()).min(walk.len)),
                None => Ok(next_frame(window, walk, at + 8)?.unwrap_or(walk.len)),
            };
        }
        if let Some(header) = frame::decode_header(&head, walk.this.uid, at) {
            self.close(walk, &header);
            self.expected = header.index + 1;
            let what = match place {
                Place::Unreadable(error) => format!("the entry there is wrong: {error}"),
                _ => format!("entry {} does not match its checksum", header.index),
            };
            let place = self.damage(name, at, what);
            self.costs(place, &header);
            self.open = place;
            return Ok((at + header.total_len()).min(walk.len));
        }
        let next = next_frame(window, walk, at + 8)?.unwrap_or(walk.len);
        // How many records a damaged body before this held, nobody tells any more.
        let start = self.found.meta.map_or(0, |meta| meta.start.next_offset);
        let offset = match self.last {
            Some(last) => (last.index.0 + 1 == self.expected).then(|| last.next_offset()),
            None => (self.expected == 1).then_some(start),
        };
        let first = LogIndex(self.expected);
        let what = format!("there is no valid frame header, nor one in the {} bytes from here on", next - at);
        let place = self.damage(name, at, what);
        if let Some(damage) = place.and_then(|p| self.found.damaged.get_mut(p)) {
            damage.entries = Some((first, None));
            damage.records = offset.map(|offset| (offset, None));
        }
        self.open = place;
        Ok(next)
    }

    /// This damage costs the entry of this frame; how many records, the next frame tells.
    fn costs(&mut self, place: Option<usize>, frame: &FrameHeader) {
        if let Some(damage) = place.and_then(|place| self.found.damaged.get_mut(place)) {
            let index = LogIndex(frame.index);
            damage.entries = Some((index, Some(index)));
            damage.records = Some((frame.offset_key, None));
        }
    }

    /// A good frame header tells where the damage before it ended.
    fn close(&mut self, walk: &Walk<'_>, frame: &FrameHeader) {
        let open = self.open.take().and_then(|place| self.found.damaged.get_mut(place));
        let Some(damage) = open else { return };
        if let Some((first, last)) = &mut damage.entries {
            let before = LogIndex(frame.index.min(walk.until).saturating_sub(1));
            *last = last.or(Some(before)).filter(|last| *last >= *first);
            if last.is_none() {
                damage.entries = None;
            }
        }
        if let Some((first, last)) = &mut damage.records {
            *last = frame.offset_key.checked_sub(1).filter(|last| *last >= *first);
            if last.is_none() {
                damage.records = None;
            }
        }
    }
}

/// One walk through a segment.
struct Walk<'a> {
    this: &'a SegmentFile,
    file: Arc<dyn File>,
    until: u64,
    newest: bool,
    /// Bytes of the file that count.
    len: u64,
    /// So many were durable, says the meta or the sidecar, up to this entry.
    known: u64,
    last: Option<LogIndex>,
}

/// What lies behind the first bad place of a segment.
#[derive(Clone, Copy)]
struct Survey {
    /// The highest durable frontier in a good frame header there.
    frontier: u64,
    /// Only zeros from here on.
    written_end: u64,
}

fn survey(walk: &Walk<'_>, from: u64) -> io::Result<Survey> {
    let mut window = Window::new(walk.file.clone(), walk.len, STEP_BYTES);
    let mut survey = Survey { frontier: 0, written_end: from };
    let mut at = from;
    while at < walk.len {
        let bytes = window.get(at, STEP_BYTES)?;
        if let Some(last) = bytes.iter().rposition(|b| *b != 0) {
            survey.written_end = at + last as u64 + 1;
        }
        at += bytes.len() as u64;
    }
    let mut at = from;
    while let Some((place, header)) = frame::next(&mut window, walk.this.uid, at)? {
        survey.frontier = survey.frontier.max(u64::from(header.frontier));
        at = place + 8;
    }
    Ok(survey)
}

/// The first place from `at` on where a good frame header stands.
fn next_frame(window: &mut Window, walk: &Walk<'_>, at: u64) -> io::Result<Option<u64>> {
    Ok(frame::next(window, walk.this.uid, at)?.map(|(place, _)| place))
}

fn unreadable(error: &io::Error) -> String {
    format!("the system cannot read it ({error})")
}
