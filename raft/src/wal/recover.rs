//! Recovery: what a start may believe of the segments it finds.
//!
//! It never cuts what may have been acked, and never refuses to start over a write that a crash tore.
//!
//! # The rule
//!
//! All segments but the newest were synced before the next one got its name: any damage there is corruption, and
//! the log refuses to open. In the newest one let `p` be the first place without a good frame, and `F` the proven
//! durable frontier: the highest one in the meta and in any good frame header, before or after `p`.
//!
//! 1. `p < F`: durable bytes are damaged. Corruption.
//! 2. Only zeros from `p` on: nothing was written there. A clean end.
//! 3. A sector of the bad frame was never written (it is zero and was not when the frame was built, or the file ends
//!    before it): an honest disk cannot have synced that frame, so it was not acked. A torn tail: cut.
//! 4. Else the frame was written whole and changed later, or a sector was torn inside. It may have been acked.
//!    Corruption. "Good frames follow it" proves nothing: rot in the first frame of the last acked batch looks the
//!    same.
//!
//! The rule needs sectors that were never written to be zero. Hence segments are filled with zeros ahead of the
//! frames, and a place is never used twice: a truncation or a new life begins a new segment.
//!
//! # What is not protected
//!
//! A disk that confirms a sync and loses exactly the last batch before a crash leaves case 2 or 3; only a peer that
//! remembers more can tell. A crash that tears inside a 512-byte sector in the last window leaves case 4.
//!
//! # Why the last window is written again
//!
//! After a failed sync Linux calls the pages clean, so a process that restarts reads bytes from the cache that are on
//! no disk, and a new sync would not write them. The frames between `F` and `p` are therefore written again, byte for
//! byte, before the sync that makes them count.

use std::sync::Arc;

use super::damaged::{DamagedRange, SuspectTail};
use super::disk::{Disk, File};
use super::entry::{EntryError, EntryHeader};
use super::error::{Context, Error};
use super::frame::{self, FRAME_HEADER_BYTES, Place, Window};
use super::meta::{Meta, Tail};
use super::reader::{Reader, Shared};
use super::segment::{self, Name, Previous, SEGMENT_BYTES_MAX, SEGMENT_HEADER_BYTES, SegmentHeader};
use super::view::Segment;
use crate::{LogIndex, Position, Run};

/// Bytes read at a time.
const STEP_BYTES: usize = 1 << 20;

/// What a start found in the log, all of it durable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// The entry before the first one kept; zero for a log from its beginning.
    pub start: Position,
    /// The runs of equal term after `start`, ascending.
    pub runs: Vec<Run>,
    /// The last entry; `None` if there is none after `start`.
    pub last: Option<EntryHeader>,
    /// The entries in force that a node reads before it speaks, ascending; see
    /// [`is_remembered`](super::EntryKind::is_remembered).
    pub control: Vec<LogIndex>,
    /// Bytes of a torn tail that were cut: written before a crash, never synced, never acked.
    pub torn_bytes_cut: u64,
    /// Entries in the log that cannot be given, ascending: found by this start. The newest segments and those without a
    /// good sidecar were read; the others wait for reads and scrubs.
    pub damaged: Vec<DamagedRange>,
    /// The highest position that this node may have acknowledged and cannot prove; as in the meta.
    pub suspect: Option<Position>,
    /// What this start could not prove at the end of the log, and no longer counts in.
    pub suspect_tail: Option<SuspectTail>,
    /// Segment files found.
    pub segments: usize,
    /// Bytes of entries whose checksums were verified.
    pub verified_bytes: u64,
}

/// What the writer needs to go on.
pub(super) struct Scan {
    pub(super) recovered: Recovered,
    /// The newest segment; [`Previous::default`] if there is none.
    pub(super) newest: Previous,
    pub(super) newest_seq: u64,
    pub(super) newest_base: u64,
}

/// Reads every segment into the view, cuts a torn tail, and makes the newest segment durable. The caller syncs the
/// directory.
pub(super) fn scan(disk: &dyn Disk, names: &[String], meta: &Meta, shared: &Arc<Shared>) -> Result<Scan, Error> {
    let found = segments(disk, names, meta)?;
    let mut scanner = Scanner::new(disk, meta, shared);
    let mut newest = Previous::default();
    let (mut newest_seq, mut newest_base) = (0, 0);
    for (at, this) in found.iter().enumerate() {
        let end = match found.get(at + 1) {
            Some(next) => scanner.sealed(this, &next.header)?,
            None => scanner.tail(this)?,
        };
        shared.view_mut().bytes += end;
        newest = Previous { uid: this.header.uid, len: end };
        newest_seq = this.header.seq;
        newest_base = this.header.base_index;
    }
    scanner.recovered.start = meta.start.position;
    scanner.recovered.suspect = meta.suspect;
    scanner.recovered.segments = found.len();
    scanner.recovered.last = scanner.last;
    Ok(Scan { recovered: scanner.recovered, newest, newest_seq, newest_base })
}

/// A segment file whose header block is good.
struct FoundSegment {
    name: String,
    header: SegmentHeader,
    len: u64,
}

/// Reads all header blocks in order and checks that no segment is missing or foreign.
fn segments(disk: &dyn Disk, names: &[String], meta: &Meta) -> Result<Vec<FoundSegment>, Error> {
    let mut numbered = Vec::new();
    for name in names {
        match segment::classify(name) {
            Name::Segment(seq) => numbered.push((seq, name)),
            Name::Strange => return Err(Error::corrupt(name, 0, "this is not the name of a segment")),
            Name::Leftover | Name::Foreign => {}
        }
    }
    numbered.sort_unstable();
    let mut found: Vec<FoundSegment> = Vec::with_capacity(numbered.len());
    for (seq, name) in numbered {
        if let Some(before) = found.last().filter(|f| f.header.seq.checked_add(1) != Some(seq)) {
            let what = format!("the segment after number {} is missing, or there twice", before.header.seq);
            return Err(Error::corrupt(name, 0, what));
        }
        found.push(read_header(disk, name, meta)?);
    }
    if let Some(tail) = meta.tail {
        check_tail(&found, tail)?;
    }
    Ok(found)
}

fn read_header(disk: &dyn Disk, name: &str, meta: &Meta) -> Result<FoundSegment, Error> {
    let file = disk.open(name).context("open", name)?;
    let len = file.len().context("measure", name)?;
    if len > SEGMENT_BYTES_MAX {
        return Err(Error::corrupt(name, SEGMENT_BYTES_MAX, "the file is longer than any segment"));
    }
    let mut block = vec![0; SEGMENT_HEADER_BYTES.min(len as usize)];
    file.read_at(&mut block, 0).context("read", name)?;
    let header = SegmentHeader::decode(&block, name)?;
    if header.cluster != meta.cluster || header.node != meta.node {
        return Err(Error::corrupt(name, 0, "the segment belongs to another node or cluster"));
    }
    if Some(header.log_id) != meta.log_id {
        return Err(Error::corrupt(name, 0, "the segment belongs to another log id"));
    }
    Ok(FoundSegment { name: name.to_owned(), header, len })
}

/// The segment that the meta knows as the newest must be there, as long as it was.
fn check_tail(found: &[FoundSegment], tail: Tail) -> Result<(), Error> {
    let known = found.iter().find(|f| f.header.seq == tail.seq && f.header.uid == tail.uid);
    let Some(known) = known else {
        let name = format!("segment number {} (uid {:016x})", tail.seq, tail.uid);
        return Err(Error::corrupt(&name, 0, "the newest segment that the meta knows is missing"));
    };
    if known.len < tail.durable {
        let what = format!("the file ends before byte {}, which was durable", tail.durable);
        return Err(Error::corrupt(&known.name, known.len, what));
    }
    Ok(())
}

/// Walks the frames of all segments in order.
struct Scanner<'a> {
    disk: &'a dyn Disk,
    meta: &'a Meta,
    shared: &'a Arc<Shared>,
    last: Option<EntryHeader>,
    recovered: Recovered,
}

/// Where a walk through one segment stopped.
struct Stop {
    file: Arc<dyn File>,
    at: u64,
    place: Place,
    /// The highest durable frontier in a good frame before it.
    frontier: u64,
}

impl<'a> Scanner<'a> {
    fn new(disk: &'a dyn Disk, meta: &'a Meta, shared: &'a Arc<Shared>) -> Self {
        Self { disk, meta, shared, last: None, recovered: Recovered::default() }
    }

    /// A segment that has a successor was durable as a whole.
    fn sealed(&mut self, this: &FoundSegment, next: &SegmentHeader) -> Result<u64, Error> {
        if next.previous != (Previous { uid: this.header.uid, len: this.len }) {
            let what = format!("its successor remembers a length of {}, the file has {}", next.previous.len, this.len);
            return Err(Error::corrupt(&this.name, this.len.min(next.previous.len), what));
        }
        let stop = self.walk(this)?;
        match stop.place {
            Place::End => Ok(stop.at),
            place => Err(damage(&this.name, stop.at, &place)),
        }
    }

    /// The newest segment may end in a torn write.
    fn tail(&mut self, this: &FoundSegment) -> Result<u64, Error> {
        let stop = self.walk(this)?;
        let known = self.meta.tail.filter(|t| t.seq == this.header.seq).map_or(0, |t| t.durable);
        let mut frontier = stop.frontier.max(known);
        if matches!(stop.place, Place::End) {
            if stop.at < frontier {
                return Err(Error::corrupt(&this.name, stop.at, "the file ends before what was durable"));
            }
        } else {
            let rest = survey(this, &stop)?;
            frontier = frontier.max(rest.frontier);
            let torn = match &stop.place {
                _ if rest.written_end == stop.at => true,
                Place::BadHeader { unwritten } | Place::BadBody { unwritten, .. } => *unwritten,
                Place::Frame(_) | Place::End | Place::Unreadable(_) => false,
            };
            if stop.at < frontier || !torn {
                return Err(damage(&this.name, stop.at, &stop.place));
            }
            self.recovered.torn_bytes_cut += rest.written_end - stop.at;
        }
        make_durable(this, &stop, frontier)?;
        Ok(stop.at)
    }

    /// Takes in every good frame of a segment.
    fn walk(&mut self, this: &FoundSegment) -> Result<Stop, Error> {
        let header = &this.header;
        self.begin(this)?;
        let file = self.disk.open(&this.name).context("open", &this.name)?;
        let mut window = Window::new(file.clone(), this.len, STEP_BYTES);
        let mut at = SEGMENT_HEADER_BYTES as u64;
        let mut frontier = at;
        loop {
            match frame::read(&mut window, header.uid, at).context("read", &this.name)? {
                Place::Frame(frame) => {
                    self.meta
                        .check_next(&frame.entry, self.last.as_ref())
                        .map_err(|error| damage(&this.name, at, &Place::Unreadable(error)))?;
                    frontier = frontier.max(u64::from(frame.header.frontier));
                    let end = at + frame.header.total_len();
                    self.take(frame.entry.header(), at, end);
                    at = end;
                }
                place => return Ok(Stop { file, at, place, frontier }),
            }
        }
    }

    /// A segment supersedes all entries from its base index on.
    fn begin(&mut self, this: &FoundSegment) -> Result<(), Error> {
        let base = this.header.base_index;
        let (first, next) = {
            let view = self.shared.view();
            (view.first(), view.next())
        };
        if base < first || base > next {
            let what = format!("it begins at entry {base}, the log before it reaches from {first} to {}", next - 1);
            return Err(Error::corrupt(&this.name, 0, what));
        }
        if base < next {
            self.last = Reader::new(self.shared.clone()).header(LogIndex(base - 1))?;
            let control = self.recovered.control.partition_point(|index| index.0 < base);
            self.recovered.control.truncate(control);
            let runs = self.recovered.runs.partition_point(|run| run.first.0 < base);
            self.recovered.runs.truncate(runs);
        }
        let segment = Segment { name: this.name.clone(), seq: this.header.seq, uid: this.header.uid };
        self.shared.view_mut().begin(Arc::new(segment), base, SEGMENT_HEADER_BYTES as u64);
        Ok(())
    }

    fn take(&mut self, header: &EntryHeader, at: u64, end: u64) {
        self.shared.view_mut().push(header, at, end);
        self.recovered.verified_bytes += header.encoded_len() as u64;
        if self.recovered.runs.last().is_none_or(|run| run.term != header.term) {
            self.recovered.runs.push(Run { first: header.index, term: header.term });
        }
        if header.kind.is_remembered() {
            self.recovered.control.push(header.index);
        }
        self.last = Some(*header);
    }
}

/// What lies behind the first bad place of the newest segment.
struct Survey {
    /// The highest durable frontier in a good frame header there.
    frontier: u64,
    /// Only zeros from here on.
    written_end: u64,
}

/// Looks at every place where a frame header may stand.
fn survey(this: &FoundSegment, stop: &Stop) -> Result<Survey, Error> {
    let mut window = Window::new(stop.file.clone(), this.len, STEP_BYTES);
    let mut survey = Survey { frontier: 0, written_end: stop.at };
    let mut at = stop.at;
    while at < this.len {
        let bytes = window.get(at, STEP_BYTES).context("read", &this.name)?;
        if let Some(last) = bytes.iter().rposition(|b| *b != 0) {
            survey.written_end = at + last as u64 + 1;
        }
        for offset in (0..bytes.len()).step_by(8).filter(|o| frame::may_start(&bytes[*o..])) {
            let place = at + offset as u64;
            let head = window.get(place, FRAME_HEADER_BYTES).context("read", &this.name)?;
            if let Some(header) = frame::decode_header(&head, this.header.uid, place) {
                survey.frontier = survey.frontier.max(u64::from(header.frontier));
            }
        }
        at += bytes.len() as u64;
    }
    Ok(survey)
}

/// Writes the unproven frames again, cuts what follows them, and syncs; see the module's last section.
fn make_durable(this: &FoundSegment, stop: &Stop, frontier: u64) -> Result<(), Error> {
    let mut window = Window::new(stop.file.clone(), stop.at, STEP_BYTES);
    let mut at = frontier;
    while at < stop.at {
        let bytes = window.get(at, STEP_BYTES).context("read", &this.name)?;
        stop.file.write_at(&bytes, at).context("write", &this.name)?;
        at += bytes.len() as u64;
    }
    if this.len != stop.at {
        stop.file.set_len(stop.at).context("cut", &this.name)?;
    }
    stop.file.sync_all().context("sync", &this.name)
}

fn damage(file: &str, at: u64, place: &Place) -> Error {
    let what = match place {
        Place::Unreadable(EntryError::Version(version)) => {
            return Error::Newer { file: file.to_owned(), what: format!("entry version {version}") };
        }
        Place::Unreadable(EntryError::Kind(kind)) => {
            return Error::Newer { file: file.to_owned(), what: format!("entry kind {kind}") };
        }
        Place::Unreadable(error) => format!("the entry there is wrong: {error}"),
        Place::BadBody { header, .. } => format!("entry {} does not match its checksum", header.index),
        Place::BadHeader { .. } => "there is no valid frame header".to_owned(),
        Place::Frame(_) | Place::End => "durable frames are missing".to_owned(),
    };
    Error::corrupt(file, at, what)
}
