//! Repair: entries of a peer in place of damaged ones, proven before anything is changed.
//!
//! It never believes a peer: what is put in place follows from the intact entry before the damage and is followed by the
//! intact entry after it, or is the very last entry that the log remembers. It never writes into a file that counts.
//!
//! # How
//!
//! Damaged ranges that touch are repaired together, since only their ends have intact neighbours. The segments they lie
//! in are copied to temporary names, the frames written into the copies piece by piece. When the chain closes the copies
//! are synced and read back from the disk, then each takes the name of its segment. A crash before leaves files that the
//! next start removes; a crash between two renames leaves a proven half.

use std::sync::Arc;

use super::damaged::Repaired;
use super::disk::{self, File};
use super::entry::{Entry, EntryHeader};
use super::error::{Context, Error};
use super::frame::{self, Place, Window};
use super::hole::Hole;
use super::names::TMP_SUFFIX;
use super::segment::{self, Previous, SEGMENT_BYTES_MAX, SEGMENT_HEADER_BYTES, Segment, SegmentHeader};
use super::view::Point;
use super::walk::{Before, STEP_BYTES};
use super::writer::Writer;
use crate::{LogIndex, mutant};

/// Ranges that touch, and what was given of them so far.
pub(super) struct Staged {
    first: u64,
    last: u64,
    /// Wanted next.
    next: u64,
    before: Before,
    parts: Vec<Part>,
}

/// The copy of one segment.
struct Part {
    segment: Arc<Segment>,
    tmp: String,
    file: Arc<dyn File>,
    /// The holes filled so far: entries, and the bytes they take.
    filled: Vec<Filled>,
    points: Vec<Point>,
}

#[derive(Clone, Copy)]
struct Filled {
    first: u64,
    last: u64,
    at: u64,
    end: u64,
    /// Where the hole ends.
    limit: u64,
}

impl Writer {
    /// Gives entries of a damaged range back, from its first one on, in pieces of any size. Each is verified here: its
    /// checksums, and that it follows the one before. Only when the last one is followed by the intact entry after the
    /// range is anything changed: the segment is written anew beside the old one, synced, read back, and takes its name.
    /// Ranges that touch are one: the answer tells how far it reaches. Entries beyond it are ignored.
    ///
    /// # Errors
    /// [`Error::NotRepaired`] if they are not the entries that stood there, or stand in no damaged range; then begin again
    /// with the first one. [`Error::NotPrepared`] if there is no room for the copy. Nothing changed in both cases. After
    /// any other error the writer is dead: abort.
    pub fn repair(&mut self, entries: &[Entry]) -> Result<Repaired, Error> {
        self.check_alive()?;
        let Some(first) = entries.first() else { return Err(Error::Refused("a repair of nothing")) };
        let mut staged = self.staged_for(first.header().index.0)?;
        match self.stage(&mut staged, entries) {
            Ok(()) if staged.next <= staged.last => {
                let wanted = LogIndex(staged.next);
                self.staged = Some(staged);
                Ok(Repaired::Wants(wanted))
            }
            Ok(()) => {
                let (first, last) = (LogIndex(staged.first), LogIndex(staged.last));
                match self.prove(&staged).and_then(|()| self.put_in_place(&staged)) {
                    Ok(()) => Ok(Repaired::Whole { first, last }),
                    Err(error) => Err(self.give_up(&staged, error)),
                }
            }
            Err(error) => Err(self.give_up(&staged, error)),
        }
    }

    fn give_up(&mut self, staged: &Staged, error: Error) -> Error {
        for part in &staged.parts {
            // Best effort, for the space: what stays is removed at the next try or the next start.
            let _ = self.disk.remove(&part.tmp);
        }
        if error.is_retriable() || matches!(error, Error::NotRepaired { .. }) { error } else { self.fail(error) }
    }

    /// What was staged before, if these entries go on there; or a new beginning.
    fn staged_for(&mut self, wanted: u64) -> Result<Staged, Error> {
        let refuse = |first: u64, last: u64, why: &str| Error::NotRepaired {
            first: LogIndex(first),
            last: LogIndex(last),
            why: why.to_owned(),
        };
        let group = self.shared.view().group_at(wanted);
        let staged = self.staged.take();
        let Some((first, last)) = group else { return Err(refuse(wanted, wanted, "nothing is damaged there")) };
        match staged {
            Some(staged) if (staged.first, staged.last, staged.next) == (first, last, wanted) => return Ok(staged),
            Some(staged) => {
                for part in &staged.parts {
                    let _ = self.disk.remove(&part.tmp);
                }
            }
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
        let active = self.active_seq();
        let touches = self
            .shared
            .view()
            .holes()
            .iter()
            .any(|hole| hole.first >= first && hole.last <= last && Some(hole.segment.seq) == active);
        if touches {
            self.begin_segment()?;
        }
        Ok(Staged { first, last, next: first, before, parts: Vec::new() })
    }

    /// Writes these entries into the copies.
    fn stage(&mut self, staged: &mut Staged, entries: &[Entry]) -> Result<(), Error> {
        let (first, last) = (LogIndex(staged.first), LogIndex(staged.last));
        let refuse = |why: String| Error::NotRepaired { first, last, why };
        let mut frames = Vec::new();
        let mut frames_at = 0;
        for entry in entries.iter().take_while(|e| e.header().index <= last) {
            let entry = Entry::decode(entry.bytes().clone()).map_err(|error| refuse(error.to_string()))?;
            staged
                .before
                .check(&self.meta, &entry)
                .map_err(|error| refuse(format!("entry {} does not belong there: {error}", entry.header().index)))?;
            let index = entry.header().index.0;
            let hole = self.shared.view().hole_at(index).cloned();
            let hole = hole.ok_or_else(|| refuse("the damage has changed".to_owned()))?;
            if staged.parts.last().and_then(|part| part.filled.last()).is_none_or(|f| f.first != hole.first) {
                if let Some(part) = staged.parts.last().filter(|_| !frames.is_empty()) {
                    part.file.write_at(&frames, frames_at).preparing(&part.tmp)?;
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
            if part.points.last().is_none_or(|p| at - p.at >= self.options.index_every_bytes) {
                part.points.push(Point::of(entry.header(), at));
            }
            filled.end = at + len;
            filled.last = index;
            staged.before = Before::Known(*entry.header());
            staged.next = index + 1;
        }
        if let Some(part) = staged.parts.last().filter(|_| !frames.is_empty()) {
            part.file.write_at(&frames, frames_at).preparing(&part.tmp)?;
        }
        Ok(())
    }

    fn begin_hole(&mut self, staged: &mut Staged, hole: &Hole) -> Result<(), Error> {
        if staged.parts.last().is_none_or(|part| part.segment.seq != hole.segment.seq) {
            let part = self.copy(hole, staged.parts.last())?;
            staged.parts.push(part);
        }
        if let Some(part) = staged.parts.last_mut() {
            let (first, at) = (hole.first, hole.at);
            part.filled.push(Filled { first, last: first, at, end: at, limit: hole.end.max(at) });
            part.points.retain(|p| p.at < at);
        }
        Ok(())
    }

    /// A copy of the segment under a temporary name; if it is gone, a header block.
    fn copy(&self, hole: &Hole, before: Option<&Part>) -> Result<Part, Error> {
        let name = &hole.segment.name;
        let tmp = format!("{name}{TMP_SUFFIX}");
        disk::remove_if_any(self.disk.as_ref(), &tmp).preparing(&tmp)?;
        let file = self.disk.create(&tmp).preparing(&tmp)?;
        let part = Part { segment: hole.segment.clone(), tmp, file, filled: Vec::new(), points: Vec::new() };
        let copied = match self.disk.open(name) {
            Ok(old) => copy_bytes(&old, &part.file),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let header = self.header_of(hole, before)?;
                part.file.write_at(&header.encode(), 0)
            }
            Err(error) => Err(error),
        };
        let len = part.file.len();
        let grown = copied.and(len).and_then(|len| match hole.end {
            // The file was cut, or is gone: its successor remembers how long it was.
            end if end > len && end < SEGMENT_BYTES_MAX => part.file.set_len(end),
            _ => Ok(()),
        });
        if let Err(error) = grown {
            let _ = self.disk.remove(&part.tmp);
            return Err(error).preparing(&part.tmp);
        }
        Ok(part)
    }

    /// The header block of a segment that is gone.
    fn header_of(&self, hole: &Hole, before: Option<&Part>) -> Result<SegmentHeader, Error> {
        let Segment { name, seq, uid } = hole.segment.as_ref();
        let names = self.disk.list().context("list", "the data directory")?;
        let previous = names.iter().find_map(|n| segment::parse(n).filter(|(s, ..)| s + 1 == *seq).map(|p| (n, p)));
        let staged = before.filter(|part| part.segment.seq + 1 == *seq);
        let previous = match (staged, previous) {
            (Some(part), _) => {
                let base = segment::parse(&part.segment.name).map_or(0, |(_, base, _)| base);
                let len = part.file.len().context("measure", &part.tmp)?;
                Previous { uid: part.segment.uid, len, base }
            }
            (None, Some((file, (_, base, uid)))) => {
                let open = self.disk.open(file).context("open", file)?;
                Previous { uid, len: open.len().context("measure", file)?, base }
            }
            (None, None) => Previous::default(),
        };
        let base_index = segment::parse(name).map_or(hole.first, |(_, base, _)| base);
        let log_id = self.meta.log_id.ok_or(Error::Refused("the log has no log id yet"))?;
        let (cluster, node) = (self.meta.cluster, self.meta.node);
        Ok(SegmentHeader { cluster, node, log_id, uid: *uid, seq: *seq, base_index, previous })
    }

    /// Does the chain close behind the range, and do the frames fill its bytes exactly?
    fn prove(&self, staged: &Staged) -> Result<(), Error> {
        let (first, last) = (LogIndex(staged.first), LogIndex(staged.last));
        let refuse = |why: String| Error::NotRepaired { first, last, why };
        let ours = staged.before.header();
        if last == self.reader.last_index() {
            if ours != self.last.as_ref() {
                return Err(refuse("its last entry is not the last one of this log".to_owned()));
            }
        } else {
            let next = self.reader.read(last.next(), last.next(), 0)?;
            let follows = next.first().zip(ours).map(|(next, ours)| next.follows(ours));
            match follows {
                Some(Ok(())) => {}
                Some(_) if mutant!(RepairUnchained) => {}
                Some(Err(error)) => return Err(refuse(format!("entry {} does not follow: {error}", last.next()))),
                None => return Err(refuse("the entry after it cannot be read".to_owned())),
            }
        }
        let view = self.shared.view();
        for part in &staged.parts {
            for filled in &part.filled {
                let followed = view.holds(part.segment.seq, filled.last + 1);
                if followed && filled.end != filled.limit {
                    return Err(refuse("they do not fill the bytes of the damaged ones".to_owned()));
                }
            }
        }
        Ok(())
    }

    /// From here on a failure is fatal, unless the copy is bad.
    fn put_in_place(&mut self, staged: &Staged) -> Result<(), Error> {
        let (first, last) = (LogIndex(staged.first), LogIndex(staged.last));
        for part in &staged.parts {
            part.file.sync_all().context("sync", &part.tmp)?;
            for filled in &part.filled {
                if !reads_back(part, filled).context("read", &part.tmp)? {
                    let why = "what was written does not read back; the disk of this node is failing".to_owned();
                    return Err(Error::NotRepaired { first, last, why });
                }
            }
        }
        for part in &staged.parts {
            let name = &part.segment.name;
            let old = self.disk.open(name).and_then(|file| file.len()).unwrap_or(0);
            let new = part.file.len().context("measure", &part.tmp)?;
            self.disk.rename(&part.tmp, name).context("rename", &part.tmp)?;
            self.disk.sync_dir().context("sync", "the data directory")?;
            self.shared.forget(part.segment.seq);
            let mut view = self.shared.view_mut();
            view.bytes = (view.bytes + new).saturating_sub(old);
            for filled in &part.filled {
                view.close_holes(part.segment.seq, filled.first, filled.last, &part.points);
            }
        }
        Ok(())
    }
}

/// Bytes that the system cannot read stay damaged.
fn copy_bytes(from: &Arc<dyn File>, to: &Arc<dyn File>) -> std::io::Result<()> {
    let mut window = Window::new(from.clone(), from.len()?, STEP_BYTES).lenient();
    let mut at = 0;
    while at < window.end() {
        let bytes = window.get(at, STEP_BYTES)?;
        to.write_at(&bytes, at)?;
        at += bytes.len() as u64;
    }
    Ok(())
}

/// Are these entries in the copy, as the disk gives it?
fn reads_back(part: &Part, filled: &Filled) -> std::io::Result<bool> {
    let mut window = Window::new(part.file.clone(), filled.end, STEP_BYTES).cold();
    let mut at = filled.at;
    let mut before: Option<EntryHeader> = None;
    for index in filled.first..=filled.last {
        let Place::Frame(frame) = frame::read(&mut window, part.segment.uid, at)? else { return Ok(false) };
        let follows = before.is_none_or(|before| frame.entry.follows(&before).is_ok());
        if frame.header.index != index || !follows {
            return Ok(false);
        }
        at += frame.header.total_len();
        before = Some(*frame.entry.header());
    }
    Ok(at == filled.end)
}
