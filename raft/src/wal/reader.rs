//! The reader: entries by index, offset and time, from any thread, while the writer writes.
//!
//! It never returns a byte whose checksums it has not verified, and never an entry that was truncated before the
//! call. It sees entries as soon as they are written, which may be before they are durable.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::damaged::DamagedRange;
use super::disk::{Disk, File};
use super::entry::{Entry, EntryHeader};
use super::error::{Context, Error};
use super::frame::{self, FRAME_HEADER_BYTES, Place, Window};
use super::hole::Hole;
use super::meta::Meta;
use super::segment::{SEGMENT_HEADER_BYTES, Segment};
use super::view::{Point, Route, View};
use crate::{LogIndex, Wall};

/// Segment files that readers keep open; a follower far behind walks them in order, so a few suffice.
const OPEN_FILES_MAX: usize = 16;
/// Bytes read at a time; a read of one entry costs one such step.
const STEP_BYTES_MIN: usize = 64 << 10;
const STEP_BYTES_MAX: usize = 1 << 20;
/// How often one read may meet damage that was not known before it says so.
const RETRIES_MAX: usize = 64;

/// Reads the log. Clones share one view.
#[derive(Clone)]
pub struct Reader {
    pub(super) shared: Arc<Shared>,
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
    /// Which log this is; the rest of it is the writer's to know.
    meta: Mutex<Meta>,
}

impl Shared {
    pub(super) fn new(disk: Arc<dyn Disk>, view: View, meta: Meta) -> Self {
        Self { disk, view: RwLock::new(view), files: Mutex::new(BTreeMap::new()), meta: Mutex::new(meta) }
    }

    pub(super) fn meta(&self) -> Meta {
        *self.meta.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_meta(&self, meta: Meta) {
        *self.meta.lock().unwrap_or_else(PoisonError::into_inner) = meta;
    }

    // A reader that panicked has changed nothing, and the writer changes the view in steps that cannot panic half-way.
    pub(super) fn view(&self) -> RwLockReadGuard<'_, View> {
        self.view.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn view_mut(&self) -> RwLockWriteGuard<'_, View> {
        self.view.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn files(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<dyn File>>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn disk(&self) -> &dyn Disk {
        self.disk.as_ref()
    }

    /// Another file has the name now.
    pub(super) fn forget(&self, seq: u64) {
        self.files().remove(&seq);
    }

    /// Is this still the file that readers of the segment get?
    fn is_current(&self, seq: u64, file: &Arc<dyn File>) -> bool {
        self.files().get(&seq).is_some_and(|current| Arc::ptr_eq(current, file))
    }

    /// The open file; `None` if it is gone.
    pub(super) fn file(&self, segment: &Segment) -> Result<Option<Arc<dyn File>>, Error> {
        let mut files = self.files();
        if let Some(file) = files.get(&segment.seq) {
            return Ok(Some(file.clone()));
        }
        let file = match self.disk.open(&segment.name) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            other => other.context("open", &segment.name)?,
        };
        if files.len() >= OPEN_FILES_MAX {
            files.pop_first();
        }
        files.insert(segment.seq, file.clone());
        Ok(Some(file))
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
        let mut retries = 0;
        while next <= to.0 {
            if let Some(range) = self.shared.view().range_at(next) {
                return if entries.is_empty() { Err(Error::of_range(&range)) } else { Ok(cut_at_a_splice(entries)) };
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
                // It was met on the way from the last point of the index: there is a nearer one now.
                Err(Error::Corrupt { .. }) if retries < RETRIES_MAX => retries += 1,
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
        let mut retries = 0;
        loop {
            let Some(route) = self.shared.view().search(|p| p.offset <= offset) else {
                return self.unless_damaged(self.first_index().0).map(|()| None);
            };
            let mut found = None;
            let walked = self.walk(&route, 0, |entry| {
                let head = entry.header();
                if (head.base_offset..head.next_offset()).contains(&offset) {
                    found = Some(head.index);
                }
                found.is_none() && head.base_offset <= offset
            });
            match walked {
                // It may be among the damaged ones that follow.
                Ok(false) if found.is_none() => return self.unless_damaged(route.next).map(|()| None),
                Ok(_) => return Ok(found),
                Err(Error::Corrupt { .. }) if retries < RETRIES_MAX => retries += 1,
                Err(error) => return Err(error),
            }
        }
    }

    fn unless_damaged(&self, index: u64) -> Result<(), Error> {
        self.shared.view().range_at(index).map_or(Ok(()), |range| Err(Error::of_range(&range)))
    }

    /// The index of the first entry whose time is not before `time`; `None` if all are older.
    ///
    /// # Errors
    /// [`Error::Corrupt`] with file and offset for damage, or IO.
    pub fn seek_time(&self, time: Wall) -> Result<Option<LogIndex>, Error> {
        let mut retries = 0;
        loop {
            match self.try_seek_time(time) {
                Err(Error::Corrupt { .. }) if retries < RETRIES_MAX => retries += 1,
                other => return other,
            }
        }
    }

    fn try_seek_time(&self, time: Wall) -> Result<Option<LogIndex>, Error> {
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
        self.shared.view().damaged()
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
    /// (then the answer is `true`) or the segment's part of the log, or what of it is good, ends.
    fn walk(&self, route: &Route, expected_bytes: usize, mut visit: impl FnMut(Entry) -> bool) -> Result<bool, Error> {
        let segment = &route.segment;
        let Some(file) = self.shared.file(segment)? else {
            self.missing(segment);
            return Err(Error::corrupt(&segment.name, 0, "the file is missing"));
        };
        let step = expected_bytes.saturating_add(STEP_BYTES_MIN).min(STEP_BYTES_MAX);
        let mut window = Window::new(file.clone(), route.end, step).lenient();
        let mut at = route.point.at;
        let mut index = route.point.index;
        while index < route.next {
            let place = frame::read(&mut window, segment.uid, at).context("read", &segment.name)?;
            let what = match place {
                Place::Frame(frame) if frame.header.index == index => {
                    at += frame.header.total_len();
                    if !visit(frame.entry) {
                        return Ok(true);
                    }
                    index += 1;
                    continue;
                }
                Place::Frame(ref frame) => format!("entry {} stands where {index} belongs", frame.header.index),
                Place::Unreadable(ref error) => format!("entry {index}: {error}"),
                Place::BadBody { .. } => format!("entry {index} does not match its checksum"),
                Place::BadHeader { .. } | Place::End => format!("the frame header of entry {index} is damaged"),
            };
            self.met_damage(segment, &file, at, index, what.clone(), &place);
            let entries = self.shared.view().group_at(index).map(|(first, last)| (LogIndex(first), LogIndex(last)));
            return Err(Error::Corrupt { file: segment.name.clone(), offset: at, what, entries });
        }
        Ok(false)
    }

    /// Notes damage where the entry `index` belongs. Gives what of it is new.
    pub(super) fn met_damage(
        &self,
        segment: &Arc<Segment>,
        file: &Arc<dyn File>,
        at: u64,
        index: u64,
        what: String,
        place: &Place,
    ) -> Option<DamagedRange> {
        let len = file.len().ok()?;
        let mut window = Window::new(file.clone(), len, STEP_BYTES_MIN).lenient();
        let mut good_header = |at: u64| {
            let head = window.get(at, FRAME_HEADER_BYTES).ok()?;
            frame::decode_header(&head, segment.uid, at)
        };
        let (last, end, after) = match place {
            Place::BadBody { header, .. } if header.index == index => {
                let end = at + header.total_len();
                (index, end, good_header(end).map(|next| Point::before(&next, end)))
            }
            Place::Frame(frame) if frame.header.index == index => {
                let end = at + frame.header.total_len();
                (index, end, good_header(end).map(|next| Point::before(&next, end)))
            }
            _ => match frame::next(&mut window, segment.uid, at + 8).ok()?.filter(|(_, next)| next.index > index) {
                Some((end, next)) => (next.index - 1, end, Some(Point::before(&next, end))),
                None => (u64::MAX, len.max(at), None),
            },
        };
        let hole = Hole { segment: segment.clone(), at, end, first: index, last, what, before: None };
        let mut view = self.shared.view_mut();
        // A repair may have put another file there: what was read is history.
        if !self.shared.is_current(segment.seq, file) {
            return None;
        }
        view.found_hole(hole, after)
    }

    /// The file of a segment is gone while the log is open.
    pub(super) fn missing(&self, segment: &Arc<Segment>) -> Option<DamagedRange> {
        let (at, what) = (SEGMENT_HEADER_BYTES as u64, "the file is missing".to_owned());
        let mut view = self.shared.view_mut();
        let (first, end) = view.extents.iter().find(|e| e.segment.seq == segment.seq).map(|e| (e.first, e.end))?;
        let hole = Hole { segment: segment.clone(), at, end, first, last: u64::MAX, what, before: None };
        view.found_hole(hole, None)
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
