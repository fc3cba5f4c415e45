//! Repair: entries of a peer in place of damaged ones, proven before anything is changed.
//!
//! It never believes a peer: what is put in place follows from the intact entry before the damage and is followed by the
//! intact entry after it, or is the very last entry that the log remembers. It never writes into a file that counts, and
//! needs the writer for two moments only: it stands beside it, on a thread of its own.
//!
//! # How
//!
//! Damaged ranges that touch are repaired together, since only their ends have intact neighbours. The segments they lie
//! in are copied to temporary names, without what is damaged, and the frames written into the copies piece by piece. A few
//! megabytes at a time are written, synced and compared with what the disk then gives: so the syncs of the log never queue
//! behind a whole segment. When the chain closes the writer gives each copy the name of its segment, see `mend`. A crash
//! before leaves files that the next start removes; a crash between two renames leaves a proven half.

use std::fmt;
use std::sync::Arc;

use super::disk::{self, Disk, File};
use super::entry::{Entry, EntryHeader};
use super::error::{Context, Error};
use super::frame::{self, Window};
use super::hole::Hole;
use super::names::TMP_SUFFIX;
use super::reader::{Reader, Shared};
use super::segment::{self, Previous, SEGMENT_BYTES_MAX, SEGMENT_HEADER_BYTES, Segment, SegmentHeader};
use super::view::{Point, View};
use super::walk::Before;
use crate::{LogIndex, mutant};

/// Bytes that are dirty at most, in a copy, before they are synced: a sync of the log may have to wait for so much.
const DIRTY_BYTES_MAX: usize = 2 << 20;

/// Prepares repairs beside the writer, see [`Writer::repairer`](super::Writer::repairer).
pub struct Repairer {
    shared: Arc<Shared>,
    reader: Reader,
    index_every: u64,
    /// A repair that waits for more entries.
    staged: Option<Staged>,
}

impl fmt::Debug for Repairer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Repairer").field("staged", &self.staged).finish_non_exhaustive()
    }
}

/// How far [`Repairer::give`] has come.
#[derive(Debug)]
pub enum Given {
    /// The entries fit. Nothing counts before the ones from here on are given, too; a crash forgets these.
    Wants(LogIndex),
    /// The damage is in the segment that takes frames: give them again after [`Writer::end_segment`](super::Writer::end_segment).
    Unsealed,
    /// All entries of the range are proven and durable: for [`Writer::put_in_place`](super::Writer::put_in_place).
    Proven(Proven),
}

/// Proven copies of segments that wait for their names. Dropped instead, they are files that the next start removes.
pub struct Proven(pub(super) Staged);

impl fmt::Debug for Proven {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Proven").field(&self.0).finish()
    }
}

/// Ranges that touch, and what was given of them so far.
pub(super) struct Staged {
    pub(super) first: u64,
    pub(super) last: u64,
    /// Wanted next.
    next: u64,
    before: Before,
    pub(super) parts: Vec<Part>,
}

impl fmt::Debug for Staged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "entries {} to {}, {} next", self.first, self.last, self.next)
    }
}

/// The copy of one segment.
pub(super) struct Part {
    pub(super) segment: Arc<Segment>,
    pub(super) tmp: String,
    pub(super) file: Arc<dyn File>,
    /// The holes filled so far: entries, and the bytes they take.
    pub(super) filled: Vec<Filled>,
    pub(super) points: Vec<Point>,
}

#[derive(Clone, Copy)]
pub(super) struct Filled {
    pub(super) first: u64,
    pub(super) last: u64,
    at: u64,
    end: u64,
    /// Where the hole ends.
    limit: u64,
}

impl Staged {
    pub(super) fn refuse(&self, why: impl Into<String>) -> Error {
        Error::NotRepaired { first: LogIndex(self.first), last: LogIndex(self.last), why: why.into() }
    }

    /// Is what is damaged still what it was when this began, and does nobody write there?
    pub(super) fn still_stands(&self, view: &View) -> bool {
        let as_before = |part: &Part, filled: &Filled| {
            view.active != Some(part.segment.seq)
                && view.hole_at(filled.first).is_some_and(|hole| {
                    let place = (hole.segment.seq, hole.first, hole.last, hole.at, hole.end.max(hole.at));
                    place == (part.segment.seq, filled.first, filled.last, filled.at, filled.limit)
                })
        };
        view.group_at(self.first) == Some((self.first, self.last))
            && self.parts.iter().all(|part| part.filled.iter().all(|filled| as_before(part, filled)))
    }

    /// Does the chain close behind the range, and do the frames fill its bytes exactly? `end`: the last entry of the log, to
    /// who may not be mistaken about it.
    pub(super) fn prove(&self, reader: &Reader, view: &Shared, end: Option<&EntryHeader>) -> Result<(), Error> {
        let last = LogIndex(self.last);
        let ours = self.before.header();
        if last == reader.last_index() {
            if end.is_some() && ours != end {
                return Err(self.refuse("its last entry is not the last one of this log"));
            }
        } else {
            let next = reader.read(last.next(), last.next(), 0)?;
            let follows = next.first().zip(ours).map(|(next, ours)| next.follows(ours));
            match follows {
                Some(Ok(())) => {}
                Some(_) if mutant!(RepairUnchained) => {}
                Some(Err(error)) => return Err(self.refuse(format!("entry {} does not follow: {error}", last.next()))),
                None => return Err(self.refuse("the entry after it cannot be read")),
            }
        }
        let view = view.view();
        for part in &self.parts {
            for filled in &part.filled {
                let followed = view.holds(part.segment.seq, filled.last + 1);
                if followed && filled.end != filled.limit {
                    return Err(self.refuse("they do not fill the bytes of the damaged ones"));
                }
            }
        }
        Ok(())
    }

    /// Best effort, for the space: what stays is removed at the next try or the next start.
    pub(super) fn remove(&self, disk: &dyn Disk) {
        for part in &self.parts {
            let _ = disk.remove(&part.tmp);
        }
    }
}

impl Repairer {
    pub(super) fn new(shared: Arc<Shared>, index_every: u64) -> Self {
        Self { reader: Reader::new(shared.clone()), shared, index_every, staged: None }
    }

    /// Takes entries of a damaged range, from its first one on, in pieces of any size. Each is verified here: its
    /// checksums, and that it follows the one before. When the last one is followed by the intact entry after the range,
    /// the segment stands anew beside the old one, synced and compared. Ranges that touch are one: the answer tells how far
    /// it reaches. Entries beyond it are ignored.
    ///
    /// # Errors
    /// [`Error::NotRepaired`] if they are not the entries that stood there, or stand in no damaged range; then begin again
    /// with the first one. [`Error::NotPrepared`] if there is no room for the copy. After any other error abort, as after
    /// one of the writer. Nothing that counts changed in all cases.
    pub fn give(&mut self, entries: &[Entry]) -> Result<Given, Error> {
        let Some(first) = entries.first() else { return Err(Error::Refused("a repair of nothing")) };
        let Some(mut staged) = self.staged_for(first.header().index.0)? else { return Ok(Given::Unsealed) };
        let done = match self.stage(&mut staged, entries) {
            Ok(()) if staged.next <= staged.last => {
                let wanted = LogIndex(staged.next);
                self.staged = Some(staged);
                return Ok(Given::Wants(wanted));
            }
            // Where the log ends only the writer knows.
            Ok(()) => staged.prove(&self.reader, &self.shared, None).and_then(|()| staged.sync()),
            Err(error) => Err(error),
        };
        match done {
            Ok(()) => Ok(Given::Proven(Proven(staged))),
            Err(error) => {
                staged.remove(self.shared.disk());
                Err(error)
            }
        }
    }

    /// What was staged before, if these entries go on there; or a new beginning.
    fn staged_for(&mut self, wanted: u64) -> Result<Option<Staged>, Error> {
        let refuse = |first: u64, last: u64, why: &str| Error::NotRepaired {
            first: LogIndex(first),
            last: LogIndex(last),
            why: why.to_owned(),
        };
        let group = self.shared.view().group_at(wanted);
        let staged = self.staged.take();
        let Some((first, last)) = group else { return Err(refuse(wanted, wanted, "nothing is damaged there")) };
        match staged {
            Some(staged) if (staged.first, staged.last, staged.next) == (first, last, wanted) => {
                return Ok(Some(staged));
            }
            Some(staged) => staged.remove(self.shared.disk()),
            None => {}
        }
        if wanted != first {
            return Err(refuse(first, last, "the entries do not begin with its first one"));
        }
        let before = if first == self.shared.view().first() {
            Before::Start
        } else {
            match self.reader.header(LogIndex(first - 1))? {
                Some(header) => Before::Known(header),
                None => return Err(refuse(first, last, "the entry before it is not there")),
            }
        };
        // A copy of a segment that takes frames would miss the next ones.
        let view = self.shared.view();
        let touches = |hole: &Hole| hole.first >= first && hole.last <= last && Some(hole.segment.seq) == view.active;
        let is_active = view.holes().iter().any(touches);
        Ok((!is_active).then(|| Staged { first, last, next: first, before, parts: Vec::new() }))
    }

    /// Writes these entries into the copies.
    fn stage(&mut self, staged: &mut Staged, entries: &[Entry]) -> Result<(), Error> {
        let (first, last) = (LogIndex(staged.first), LogIndex(staged.last));
        let refuse = |why: String| Error::NotRepaired { first, last, why };
        let meta = self.shared.meta();
        let mut frames = Vec::new();
        let mut frames_at = 0;
        for entry in entries.iter().take_while(|e| e.header().index <= last) {
            let entry = Entry::decode(entry.bytes().clone()).map_err(|error| refuse(error.to_string()))?;
            staged
                .before
                .check(&meta, &entry)
                .map_err(|error| refuse(format!("entry {} does not belong there: {error}", entry.header().index)))?;
            let index = entry.header().index.0;
            let hole = self.shared.view().hole_at(index).cloned();
            let hole = hole.ok_or_else(|| refuse("the damage has changed".to_owned()))?;
            if staged.parts.last().and_then(|part| part.filled.last()).is_none_or(|f| f.first != hole.first) {
                if let Some(part) = staged.parts.last().filter(|_| !frames.is_empty()) {
                    part.write(&frames, frames_at, first, last)?;
                    frames.clear();
                }
                self.begin_hole(staged, &hole)?;
            }
            let Some(part) = staged.parts.last_mut() else { continue };
            let Some(filled) = part.filled.last_mut() else { continue };
            if frames.is_empty() {
                frames_at = filled.end;
            }
            let (at, len) = (filled.end, frame::framed_len(entry.bytes().len()));
            if at + len > filled.limit {
                return Err(refuse(format!("entry {index} is longer than the one that stood there")));
            }
            // How far it was durable no longer matters: everything before it is.
            frame::encode(&mut frames, part.segment.uid, at, SEGMENT_HEADER_BYTES as u32, &entry);
            if part.points.last().is_none_or(|p| at - p.at >= self.index_every) {
                part.points.push(Point::of(entry.header(), at));
            }
            filled.end = at + len;
            filled.last = index;
            staged.before = Before::Known(*entry.header());
            staged.next = index + 1;
        }
        if let Some(part) = staged.parts.last().filter(|_| !frames.is_empty()) {
            part.write(&frames, frames_at, first, last)?;
        }
        Ok(())
    }

    fn begin_hole(&mut self, staged: &mut Staged, hole: &Hole) -> Result<(), Error> {
        if staged.parts.last().is_none_or(|part| part.segment.seq != hole.segment.seq) {
            let part = self.copy(hole, (staged.first, staged.last), staged.parts.last())?;
            staged.parts.push(part);
        }
        if let Some(part) = staged.parts.last_mut() {
            let (first, at) = (hole.first, hole.at);
            part.filled.push(Filled { first, last: first, at, end: at, limit: hole.end.max(at) });
            part.points.retain(|p| p.at < at);
        }
        Ok(())
    }

    /// A copy of the segment under a temporary name, without what is to be filled; if it is gone, a header block.
    fn copy(&self, hole: &Hole, (first, last): (u64, u64), before: Option<&Part>) -> Result<Part, Error> {
        let name = &hole.segment.name;
        let tmp = format!("{name}{TMP_SUFFIX}");
        disk::remove_if_any(self.shared.disk(), &tmp).preparing(&tmp)?;
        let file = self.shared.disk().create(&tmp).preparing(&tmp)?;
        let part = Part { segment: hole.segment.clone(), tmp, file, filled: Vec::new(), points: Vec::new() };
        let to_fill: Vec<(u64, u64)> = {
            let view = self.shared.view();
            let here =
                |other: &&Hole| other.segment.seq == hole.segment.seq && other.first >= first && other.last <= last;
            view.holes().iter().filter(here).map(|other| (other.at, other.end.max(other.at))).collect()
        };
        let filled = self.begin_copy(&part, hole, &to_fill, before);
        if filled.is_err() {
            let _ = self.shared.disk().remove(&part.tmp);
        }
        filled.map(|()| part)
    }

    fn begin_copy(&self, part: &Part, hole: &Hole, to_fill: &[(u64, u64)], before: Option<&Part>) -> Result<(), Error> {
        match self.shared.disk().open(&hole.segment.name) {
            Ok(old) => part.copy(&old, to_fill)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let header = self.header_of(hole, before)?;
                part.file.write_at(&header.encode(), 0).preparing(&part.tmp)?;
            }
            Err(error) => return Err(error).preparing(&part.tmp),
        }
        let len = part.file.len().context("measure", &part.tmp)?;
        // The file was cut, or is gone: its successor remembers how long it was.
        if hole.end > len && hole.end < SEGMENT_BYTES_MAX {
            part.file.set_len(hole.end).preparing(&part.tmp)?;
        }
        Ok(())
    }

    /// The header block of a segment that is gone.
    fn header_of(&self, hole: &Hole, before: Option<&Part>) -> Result<SegmentHeader, Error> {
        let Segment { name, seq, uid } = hole.segment.as_ref();
        let names = self.shared.disk().list().context("list", "the data directory")?;
        let previous = names.iter().find_map(|n| segment::parse(n).filter(|(s, ..)| s + 1 == *seq).map(|p| (n, p)));
        let staged = before.filter(|part| part.segment.seq + 1 == *seq);
        let previous = match (staged, previous) {
            (Some(part), _) => {
                let base = segment::parse(&part.segment.name).map_or(0, |(_, base, _)| base);
                let len = part.file.len().context("measure", &part.tmp)?;
                Previous { uid: part.segment.uid, len, base }
            }
            (None, Some((file, (_, base, uid)))) => {
                let open = self.shared.disk().open(file).context("open", file)?;
                Previous { uid, len: open.len().context("measure", file)?, base }
            }
            (None, None) => Previous::default(),
        };
        let base_index = segment::parse(name).map_or(hole.first, |(_, base, _)| base);
        let meta = self.shared.meta();
        let log_id = meta.log_id.ok_or(Error::Refused("the log has no log id yet"))?;
        let (cluster, node) = (meta.cluster, meta.node);
        Ok(SegmentHeader { cluster, node, log_id, uid: *uid, seq: *seq, base_index, previous })
    }
}

impl Part {
    /// All of the old file but these ranges, which ascend. What of it the system cannot read stays damaged.
    fn copy(&self, from: &Arc<dyn File>, without: &[(u64, u64)]) -> Result<(), Error> {
        let len = from.len().preparing(&self.tmp)?;
        let mut window = Window::new(from.clone(), len, DIRTY_BYTES_MAX).lenient();
        let mut at = 0;
        for (hole, end) in without.iter().copied().chain([(len, len)]) {
            let hole = hole.min(len);
            while at < hole {
                let bytes = window.get(at, (hole - at).min(DIRTY_BYTES_MAX as u64) as usize).preparing(&self.tmp)?;
                self.file.write_at(&bytes, at).preparing(&self.tmp)?;
                self.file.sync_data().context("sync", &self.tmp)?;
                at += bytes.len() as u64;
            }
            at = at.max(end);
        }
        // What is to be filled may be the end of it.
        if self.file.len().context("measure", &self.tmp)? < len {
            self.file.set_len(len).preparing(&self.tmp)?;
        }
        Ok(())
    }

    /// Writes frames of the entries `first..=last`: durable, and as the disk gives them.
    fn write(&self, frames: &[u8], at: u64, first: LogIndex, last: LogIndex) -> Result<(), Error> {
        let mut at = at;
        for bytes in frames.chunks(DIRTY_BYTES_MAX) {
            self.file.write_at(bytes, at).preparing(&self.tmp)?;
            self.file.sync_data().context("sync", &self.tmp)?;
            let end = at + bytes.len() as u64;
            let read = Window::new(self.file.clone(), end, bytes.len()).cold().get(at, bytes.len());
            if read.context("read", &self.tmp)? != bytes {
                let why = "what was written does not read back; the disk of this node is failing".to_owned();
                return Err(Error::NotRepaired { first, last, why });
            }
            at = end;
        }
        Ok(())
    }
}

impl Staged {
    /// From here on a failure is fatal: nobody knows what the disk holds.
    fn sync(&self) -> Result<(), Error> {
        self.parts.iter().try_for_each(|part| part.file.sync_all().context("sync", &part.tmp))
    }
}
