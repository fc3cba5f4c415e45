//! The reader: entries by index, offset and time, from any thread, while the writer writes.
//!
//! It never returns a byte whose checksums it has not verified, and never an entry that was truncated before the
//! call. It sees entries as soon as they are written, which may be before they are durable.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::damaged::{DamagedRange, ScrubCursor, Scrubbed};
use super::disk::{Disk, File};
use super::entry::{Entry, EntryHeader};
use super::error::{Context, Error};
use super::frame::{self, Place, Window};
use super::view::{Route, Segment, View};
use crate::{LogIndex, Wall};

/// Segment files that readers keep open; a follower far behind walks them in order, so a few suffice.
const OPEN_FILES_MAX: usize = 16;
/// Bytes read at a time; a read of one entry costs one such step.
const STEP_BYTES_MIN: usize = 64 << 10;
const STEP_BYTES_MAX: usize = 1 << 20;

/// Reads the log. Clones share one view.
#[derive(Clone)]
pub struct Reader {
    shared: Arc<Shared>,
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Reader");
        shown.field("first", &self.first_index()).field("last", &self.last_index()).finish_non_exhaustive()
    }
}

/// What the writer and all readers share.
pub(super) struct Shared {
    disk: Arc<dyn Disk>,
    view: RwLock<View>,
    files: Mutex<BTreeMap<u64, Arc<dyn File>>>,
}

impl Shared {
    pub(super) fn new(disk: Arc<dyn Disk>, view: View) -> Self {
        Self { disk, view: RwLock::new(view), files: Mutex::new(BTreeMap::new()) }
    }

    // A reader that panicked has changed nothing, and the writer changes the view in steps that cannot panic half-way.
    pub(super) fn view(&self) -> RwLockReadGuard<'_, View> {
        self.view.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn view_mut(&self) -> RwLockWriteGuard<'_, View> {
        self.view.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&self, segment: &Segment) -> Result<Arc<dyn File>, Error> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = files.get(&segment.seq) {
            return Ok(file.clone());
        }
        let file = self.disk.open(&segment.name).context("open", &segment.name)?;
        if files.len() >= OPEN_FILES_MAX {
            files.pop_first();
        }
        files.insert(segment.seq, file.clone());
        Ok(file)
    }
}

impl Reader {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// The entries from `from` up to and including `to`, as far as they exist and fit into `max_bytes`; at least one
    /// if there is one at `from`, none if the log ends before it. Damage further on only shortens the answer.
    ///
    /// # Errors
    /// [`Error::Trimmed`] before the first entry, [`Error::Corrupt`] with file and offset for damage, or IO.
    pub fn read(&self, from: LogIndex, to: LogIndex, max_bytes: usize) -> Result<Vec<Entry>, Error> {
        let first = self.first_index();
        if from < first {
            return Err(Error::Trimmed { asked: from, first });
        }
        let mut entries = Vec::new();
        let mut bytes = 0_usize;
        let mut next = from.0;
        while next <= to.0 {
            if let Some(range) = self.shared.view().damage_at(next) {
                return if entries.is_empty() { Err(Error::of_range(range)) } else { Ok(cut_at_a_splice(entries)) };
            }
            // One view per segment: the tail may be truncated meanwhile, and then the chain of entries tells.
            let Some(route) = self.shared.view().route(next) else { break };
            let before = next;
            let walked = self.walk(&route, max_bytes.saturating_sub(bytes), |entry| {
                let head = entry.header();
                if head.index.0 < next {
                    return true;
                }
                bytes = bytes.saturating_add(entry.bytes().len());
                if bytes > max_bytes && !entries.is_empty() {
                    return false;
                }
                next = head.index.0 + 1;
                entries.push(entry);
                next <= to.0
            });
            match walked {
                Ok(full) if full || next == before => break,
                Ok(_) => {}
                // What is good is handed out; a read that begins at the damage says so.
                Err(_) if !entries.is_empty() => break,
                Err(error) => return Err(error),
            }
        }
        Ok(cut_at_a_splice(entries))
    }

    /// The header of one entry; `None` if there is none at `index`.
    ///
    /// # Errors
    /// As [`read`](Self::read), but an index before the first entry is `None`.
    pub fn header(&self, index: LogIndex) -> Result<Option<EntryHeader>, Error> {
        if index < self.first_index() {
            return Ok(None);
        }
        Ok(self.read(index, index, 0)?.first().map(|e| *e.header()))
    }

    /// The index of the entry that holds the record of this offset; `None` if no record here has it.
    ///
    /// # Errors
    /// [`Error::Corrupt`] with file and offset for damage, or IO.
    pub fn seek_offset(&self, offset: u64) -> Result<Option<LogIndex>, Error> {
        let Some(route) = self.shared.view().search(|p| p.offset <= offset) else { return Ok(None) };
        let mut found = None;
        self.walk(&route, 0, |entry| {
            let head = entry.header();
            if (head.base_offset..head.next_offset()).contains(&offset) {
                found = Some(head.index);
            }
            found.is_none() && head.base_offset <= offset
        })?;
        Ok(found)
    }

    /// The index of the first entry whose time is not before `time`; `None` if all are older.
    ///
    /// # Errors
    /// [`Error::Corrupt`] with file and offset for damage, or IO.
    pub fn seek_time(&self, time: Wall) -> Result<Option<LogIndex>, Error> {
        let key = frame::time_key(time);
        let (route, first, next) = {
            let view = self.shared.view();
            (view.search(|p| p.time < key), view.first(), view.next())
        };
        // No entry is known to be older: then the first one will do.
        let Some(route) = route else { return Ok((first < next).then_some(LogIndex(first))) };
        let mut after = route.next;
        self.walk(&route, 0, |entry| {
            let older = entry.header().time < time;
            if !older {
                after = entry.header().index.0;
            }
            older
        })?;
        Ok((after < next).then_some(LogIndex(after)))
    }

    /// What is known to be damaged, ascending: found at the start, by a read or by a scrub, and not yet repaired.
    #[must_use]
    pub fn damaged(&self) -> Vec<DamagedRange> {
        self.shared.view().damaged.clone()
    }

    /// Reads about `bytes_max` bytes of the segments that take no more frames, from the disk and not from the cache where
    /// the system can tell them apart, and checks everything in them. Damage is no error: it is noted.
    ///
    /// # Errors
    /// IO other than reading, or [`Error::Newer`].
    pub fn scrub(&self, cursor: ScrubCursor, bytes_max: u64) -> Result<Scrubbed, Error> {
        let next = cursor.index.max(self.first_index().0);
        let mut bytes = 0;
        let Some(route) = self.shared.view().route(next) else { return Ok(Scrubbed::default()) };
        let mut index = next;
        self.walk(&route, STEP_BYTES_MAX, |entry| {
            bytes += frame::framed_len(entry.bytes().len());
            index = entry.header().index.0 + 1;
            bytes < bytes_max
        })?;
        Ok(Scrubbed { next: Some(ScrubCursor { index, ..cursor }), bytes, damaged: Vec::new() })
    }

    /// The first index that is kept, or will be the first.
    #[must_use]
    pub fn first_index(&self) -> LogIndex {
        LogIndex(self.shared.view().first())
    }

    /// The last index; the one before [`first_index`](Self::first_index) if the log is empty.
    #[must_use]
    pub fn last_index(&self) -> LogIndex {
        LogIndex(self.shared.view().next() - 1)
    }

    /// Bytes that the segment files take, with what is prepared for entries to come.
    #[must_use]
    pub fn bytes_on_disk(&self) -> u64 {
        self.shared.view().bytes
    }

    /// Points of the index in memory.
    #[cfg(test)]
    pub(super) fn points(&self) -> usize {
        self.shared.view().extents.iter().map(|e| e.points.len()).sum()
    }

    /// Hands the verified entries of one segment from the route's point on to `visit`, until that says `false`
    /// (then the answer is `true`) or the segment's part of the log ends.
    fn walk(&self, route: &Route, expected_bytes: usize, mut visit: impl FnMut(Entry) -> bool) -> Result<bool, Error> {
        let segment = &route.segment;
        let file = self.shared.file(segment)?;
        let step = expected_bytes.saturating_add(STEP_BYTES_MIN).min(STEP_BYTES_MAX);
        let mut window = Window::new(file, route.end, step);
        let mut at = route.point.at;
        let mut index = route.point.index;
        while index < route.next {
            let corrupt = |what: String| Err(Error::corrupt(&segment.name, at, what));
            match frame::read(&mut window, segment.uid, at).context("read", &segment.name)? {
                Place::Frame(frame) if frame.header.index == index => {
                    at += frame.header.total_len();
                    if !visit(frame.entry) {
                        return Ok(true);
                    }
                    index += 1;
                }
                Place::Frame(frame) => {
                    return corrupt(format!("entry {} stands where {index} belongs", frame.header.index));
                }
                Place::Unreadable(error) => return corrupt(format!("entry {index}: {error}")),
                Place::BadBody { .. } => return corrupt(format!("entry {index} does not match its checksum")),
                Place::BadHeader { .. } | Place::End => {
                    return corrupt(format!("the frame header of entry {index} is damaged"));
                }
            }
        }
        Ok(false)
    }
}

/// A truncation between two segments of one read may have joined parts of two histories: keep the first part.
fn cut_at_a_splice(mut entries: Vec<Entry>) -> Vec<Entry> {
    let splice = entries.windows(2).position(|pair| match pair {
        [a, b] => b.follows(a.header()).is_err(),
        _ => false,
    });
    if let Some(at) = splice {
        entries.truncate(at + 1);
    }
    entries
}
