//! The writer: one thread's door to append, truncate and persist, with group commit.
//!
//! It never reports anything durable before the sync returned, and never goes on after a failed write or sync: what
//! the system threw away then, no later call can tell.

use std::fmt;
use std::sync::Arc;

use super::disk::{self, Disk, File, Lock, Space};
use super::entry::{Entry, EntryHeader};
use super::error::{Context, Error};
use super::frame;
use super::meta::{Meta, MetaFiles, Tail};
use super::names::TMP_SUFFIX;
use super::options::Options;
use super::reader::{Reader, Shared};
use super::repair::Repairer;
use super::segment::{Previous, SEGMENT_BYTES_MAX, SEGMENT_HEADER_BYTES, Segment, SegmentHeader};
use super::sidecar::{self, Facts, Of};
use crate::mutant;
use crate::{HardState, LogIndex, Position};

/// Most bytes of frames in one batch: it goes into one segment as a whole.
const BATCH_BYTES_MAX: u64 = SEGMENT_BYTES_MAX - SEGMENT_HEADER_BYTES as u64;

/// One write of the ordered stream. Its parts happen in the order of the fields.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// The identity of the log; set once, with or before the first entry.
    pub log_id: Option<[u8; 16]>,
    /// New term or vote.
    pub hard_state: Option<HardState>,
    /// Clear the suspect position (`Some(None)`), or set it.
    pub suspect: Option<Option<Position>>,
    /// Drop this entry and all that follow.
    pub truncate_from: Option<LogIndex>,
    /// Append these, contiguous.
    pub append: Vec<Entry>,
}

/// The only writer of a log. Dropping it releases the lock of the directory and syncs nothing.
pub struct Writer {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) options: Options,
    pub(super) shared: Arc<Shared>,
    pub(super) reader: Reader,
    pub(super) meta: Meta,
    files: MetaFiles,
    pub(super) last: Option<EntryHeader>,
    /// The segment of this life that takes frames; `None` before the first one.
    active: Option<Active>,
    /// The newest segment, final as soon as it is not the active one.
    newest: Previous,
    newest_seq: u64,
    /// Where the log ends in the newest segment, if that is not the active one.
    newest_end: u64,
    /// For repairs that nobody prepares elsewhere.
    pub(super) repairs: Repairer,
    failed: Option<String>,
    _lock: Box<dyn Lock>,
}

/// The segment that takes frames.
struct Active {
    file: Arc<dyn File>,
    name: String,
    uid: u64,
    /// Frames end here.
    end: u64,
    /// Zeros are written up to here.
    prepared: u64,
    /// A sync returned with everything up to here.
    durable: u64,
    /// The last entry of the log up to there.
    durable_last: Option<EntryHeader>,
    /// Frames may reach up to here.
    capacity: u64,
    seq: u64,
    /// What a sidecar says of it.
    facts: Facts,
    /// Where the last sidecar ends.
    marked: u64,
}

/// A segment that is whole on disk and has no name yet.
struct Prepared {
    header: SegmentHeader,
    tmp: String,
    active: Active,
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Writer");
        shown.field("meta", &self.meta).field("last", &self.last).field("failed", &self.failed).finish_non_exhaustive()
    }
}

pub(super) struct Parts {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) options: Options,
    pub(super) shared: Arc<Shared>,
    pub(super) meta: Meta,
    pub(super) files: MetaFiles,
    pub(super) last: Option<EntryHeader>,
    pub(super) newest: Previous,
    pub(super) newest_seq: u64,
    pub(super) newest_end: u64,
    pub(super) lock: Box<dyn Lock>,
}

impl Writer {
    pub(super) fn new(parts: Parts) -> Self {
        parts.shared.set_meta(parts.meta);
        Self {
            repairs: Repairer::new(parts.shared.clone(), parts.options.index_every_bytes),
            disk: parts.disk,
            options: parts.options,
            reader: Reader::new(parts.shared.clone()),
            shared: parts.shared,
            meta: parts.meta,
            files: parts.files,
            last: parts.last,
            active: None,
            newest: parts.newest,
            newest_seq: parts.newest_seq,
            newest_end: parts.newest_end,
            failed: None,
            _lock: parts.lock,
        }
    }

    /// The meta as it is on disk.
    #[must_use]
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// The last entry that was written.
    #[must_use]
    pub fn last(&self) -> Option<&EntryHeader> {
        self.last.as_ref()
    }

    /// How much room the disk has.
    ///
    /// # Errors
    /// Whatever the system says; it changes nothing.
    pub fn space(&self) -> std::io::Result<Space> {
        self.disk.space()
    }

    /// Writes a batch. Log id, hard state, suspect position and truncation are durable when this returns, entries after the next
    /// [`sync`](Self::sync). Many writes may share one sync.
    ///
    /// # Errors
    /// [`Error::Refused`] and [`Error::RefusedEntry`]: the batch contradicts the log. [`Error::NotPrepared`]: no
    /// space. [`Error::Corrupt`] with a range of entries: the one before the truncation cannot be read, and is to be
    /// [repaired](Self::repair) first. In these cases no entry was written and the writer lives. After any other error it
    /// is dead: abort.
    pub fn write(&mut self, batch: &Batch) -> Result<(), Error> {
        self.check_alive()?;
        let plan = self.check(batch)?;
        let prepared = match self.prepare(&plan) {
            Err(error) if !error.is_retriable() => return Err(self.fail(error)),
            other => other?,
        };
        self.carry_out(batch, &plan, prepared)
            .map_err(|error| if error.is_retriable() { error } else { self.fail(error) })
    }

    /// Makes every entry written so far durable, with one `fdatasync`; without new entries it costs nothing.
    ///
    /// # Errors
    /// Any: the writer is dead; abort.
    pub fn sync(&mut self) -> Result<(), Error> {
        self.check_alive()?;
        let Some(active) = &mut self.active else { return Ok(()) };
        if active.durable == active.end {
            return Ok(());
        }
        let synced = if mutant!(NoSync) { Ok(()) } else { active.file.sync_data() };
        let synced = if mutant!(FailedSyncRetried) { synced.or_else(|_| active.file.sync_data()) } else { synced };
        match synced.context("sync", &active.name) {
            Ok(()) => {
                active.durable = active.end;
                active.durable_last = self.last;
                Ok(())
            }
            Err(error) => Err(self.fail(error)),
        }
    }

    /// Makes everything durable and says so in the meta, so that whatever is damaged at the next start was durable
    /// before. A process that is killed instead loses nothing.
    ///
    /// # Errors
    /// Any; then the directory is as after a crash.
    pub fn close(mut self) -> Result<(), Error> {
        self.sync()?;
        if let Some(old) = self.active.take() {
            self.seal(&old)?;
            self.newest_end = old.end;
        }
        self.meta.tail = self.tail();
        self.files.write(&self.meta)
    }

    /// Nothing was written for a while (the caller decides for how long, about 100 ms): notes in a sidecar how far the
    /// newest segment is durable, so that damage up to here is never taken for the end of the log. Costs nothing if
    /// nothing was written since the last time, or if entries wait for a sync.
    pub fn mark_idle(&mut self) {
        let Some(active) = &mut self.active else { return };
        if self.failed.is_some() || active.durable != active.end || active.marked == active.end {
            return;
        }
        active.marked = active.end;
        sidecar::write(self.disk.as_ref(), &active.name, active.describe(0), &active.facts);
    }

    pub(super) fn check_alive(&self) -> Result<(), Error> {
        self.failed.as_ref().map_or(Ok(()), |why| Err(Error::Poisoned(why.clone())))
    }

    pub(super) fn fail(&mut self, error: Error) -> Error {
        self.failed = Some(error.to_string());
        error
    }
}

/// What a batch needs, decided before anything is written.
struct Plan {
    /// The meta after log id and hard state.
    meta: Meta,
    /// Entries from here on are dropped.
    truncate_from: Option<LogIndex>,
    /// The entry before the first one appended.
    before: Option<EntryHeader>,
    /// Bytes of frames.
    bytes: u64,
}

impl Writer {
    /// Is the batch legal? Changes nothing.
    fn check(&self, batch: &Batch) -> Result<Plan, Error> {
        let mut meta = self.meta;
        if let Some(id) = batch.log_id {
            if meta.log_id.is_some_and(|known| known != id) {
                return Err(Error::Refused("the log has another log id; a new history needs a new directory"));
            }
            meta.log_id = Some(id);
        }
        if let Some(new) = batch.hard_state {
            let old = meta.hard_state;
            if new.term < old.term {
                return Err(Error::Refused("the term would go back"));
            }
            if new.term == old.term && old.vote.is_some() && new.vote != old.vote {
                return Err(Error::Refused("the vote of a term would change"));
            }
            meta.hard_state = new;
        }
        if let Some(suspect) = batch.suspect {
            meta.suspect = suspect;
        }
        let next = self.reader.last_index().next();
        let truncate_from = batch.truncate_from.filter(|from| *from != next);
        let mut before = self.last;
        if let Some(from) = truncate_from {
            if from > next || from < self.reader.first_index() {
                return Err(Error::Refused("the truncation begins outside the log"));
            }
            before = self.reader.header(from.prev())?;
        }
        let mut bytes = 0_u64;
        let mut last = before;
        for entry in &batch.append {
            meta.check_next(entry, last.as_ref())
                .map_err(|source| Error::RefusedEntry { index: entry.header().index, source })?;
            bytes += frame::framed_len(entry.bytes().len());
            last = Some(*entry.header());
        }
        if bytes > BATCH_BYTES_MAX {
            return Err(Error::Refused("the batch exceeds the largest segment; write it in parts"));
        }
        Ok(Plan { meta, truncate_from, before, bytes })
    }

    /// Makes room: zeros in the active segment, or a new segment if that is full or history changes.
    fn prepare(&mut self, plan: &Plan) -> Result<Option<Prepared>, Error> {
        let base = match (plan.truncate_from, plan.bytes) {
            (Some(from), _) => from,
            (None, 0) => return Ok(None),
            (None, bytes) => match &mut self.active {
                Some(active) if active.end + bytes <= active.capacity => {
                    let grown = active.grow(active.end + bytes, &self.options)?;
                    self.shared.view_mut().bytes += grown;
                    return Ok(None);
                }
                _ => self.reader.last_index().next(),
            },
        };
        self.prepare_segment(base, plan).map(Some)
    }

    fn prepare_segment(&mut self, base: LogIndex, plan: &Plan) -> Result<Prepared, Error> {
        let Some(log_id) = plan.meta.log_id else {
            return Err(Error::Refused("the log has no log id yet"));
        };
        let seq = self.newest_seq + 1;
        let header = SegmentHeader {
            cluster: self.meta.cluster,
            node: self.meta.node,
            log_id,
            uid: self.options.uid(self.meta.boot_epoch, seq),
            seq,
            base_index: base.0,
            previous: self.active.as_ref().map_or(self.newest, |a| Previous {
                uid: a.uid,
                len: a.end,
                base: a.facts.base,
            }),
        };
        let name = header.name();
        let tmp = format!("{name}{TMP_SUFFIX}");
        let made = self.fill_segment(&header, name, &tmp, plan);
        if made.is_err() {
            // Best effort, for the space: what stays is removed at the next try or the next start.
            let _ = self.disk.remove(&tmp);
        }
        Ok(Prepared { header, active: made?, tmp })
    }

    fn fill_segment(&self, header: &SegmentHeader, name: String, tmp: &str, plan: &Plan) -> Result<Active, Error> {
        let Plan { bytes, before, .. } = *plan;
        let start = SEGMENT_HEADER_BYTES as u64;
        // What an earlier try left.
        disk::remove_if_any(self.disk.as_ref(), tmp).preparing(tmp)?;
        let file = self.disk.create(tmp).preparing(tmp)?;
        file.write_at(&header.encode(), 0).preparing(tmp)?;
        let mut active = Active {
            file,
            name,
            uid: header.uid,
            end: start,
            prepared: start,
            durable: start,
            durable_last: before,
            capacity: self.options.segment_bytes.max(start + bytes),
            seq: header.seq,
            facts: Facts::new(header.base_index),
            marked: start,
        };
        match active.grow(start + bytes.max(1), &self.options) {
            Err(Error::Io { source, .. }) => return Err(source).preparing(tmp),
            other => other?,
        };
        active.file.sync_all().preparing(tmp)?;
        Ok(active)
    }

    /// From here on every failure is fatal, but for the name of a new segment that finds no room in the directory.
    fn carry_out(&mut self, batch: &Batch, plan: &Plan, prepared: Option<Prepared>) -> Result<(), Error> {
        if plan.meta != self.meta {
            let mut meta = plan.meta;
            meta.tail = self.tail();
            self.files.write(&meta)?;
            self.meta = meta;
            self.shared.set_meta(meta);
        }
        if let Some(prepared) = prepared {
            self.switch(prepared)?;
            self.last = plan.before;
        }
        self.append(&batch.append, plan.bytes)
    }

    /// Seals the active segment and makes the prepared one the newest, all of it durable.
    fn switch(&mut self, prepared: Prepared) -> Result<(), Error> {
        if let Some(old) = self.active.take() {
            self.seal(&old)?;
        }
        let Prepared { header, tmp, active } = prepared;
        if let Err(error) = self.disk.rename(&tmp, &active.name) {
            // A directory can be as full as a file. The log ends with the segment that was just sealed, as after a start.
            if disk::is_full(&error) {
                let _ = self.disk.remove(&tmp);
                return Err(error).preparing(&active.name);
            }
            return Err(error).context("rename", &tmp);
        }
        if !mutant!(NoDirectorySync) {
            self.disk.sync_dir().context("sync", "the data directory")?;
        }
        self.newest = Previous { uid: header.uid, len: active.end, base: header.base_index };
        self.newest_seq = header.seq;
        let segment = Segment { name: active.name.clone(), seq: header.seq, uid: header.uid };
        {
            let mut view = self.shared.view_mut();
            view.bytes += active.prepared;
            view.begin(Arc::new(segment), header.base_index, active.end);
        }
        self.active = Some(active);
        // Only now may an entry in it be acked: were the file to vanish, the meta would tell.
        self.meta.tail = self.tail();
        self.files.write(&self.meta)
    }

    /// The next segment, or the meta, vouches for this one as a whole, so it must be durable before that is.
    fn seal(&mut self, old: &Active) -> Result<(), Error> {
        old.file.set_len(old.end).context("cut", &old.name)?;
        if !mutant!(SealWithoutSync) {
            old.file.sync_all().context("sync", &old.name)?;
        }
        sidecar::write(self.disk.as_ref(), &old.name, old.describe(old.end), &old.facts);
        let mut view = self.shared.view_mut();
        view.bytes -= old.prepared - old.end;
        view.active = None;
        self.newest.len = old.end;
        Ok(())
    }

    /// The segment that takes frames takes no more.
    pub(super) fn begin_segment(&mut self) -> Result<(), Error> {
        let base = self.reader.last_index().next();
        let plan = Plan { meta: self.meta, truncate_from: None, before: self.last, bytes: 0 };
        let prepared = self.prepare_segment(base, &plan)?;
        self.switch(prepared).map_err(|error| if error.is_retriable() { error } else { self.fail(error) })
    }

    pub(super) fn active_seq(&self) -> Option<u64> {
        self.active.as_ref().map(|_| self.newest_seq)
    }

    /// `bytes`: what the frames of all these entries take.
    fn append(&mut self, entries: &[Entry], bytes: u64) -> Result<(), Error> {
        let (Some(active), Some(last)) = (&mut self.active, entries.last()) else { return Ok(()) };
        let mut frames = Vec::with_capacity(bytes as usize);
        for entry in entries {
            let at = active.end + frames.len() as u64;
            frame::encode(&mut frames, active.uid, at, active.durable as u32, entry);
        }
        assert!(active.end + frames.len() as u64 <= active.prepared, "frames beyond the prepared zeros");
        active.file.write_at(&frames, active.end).context("write", &active.name)?;
        let mut view = self.shared.view_mut();
        for entry in entries {
            let end = active.end + frame::framed_len(entry.bytes().len());
            view.push(entry.header(), active.end, end);
            active.facts.push(entry.header(), Some(entry), active.end, end, self.options.index_every_bytes);
            active.end = end;
        }
        self.last = Some(*last.header());
        Ok(())
    }

    fn tail(&self) -> Option<Tail> {
        if self.newest_seq == 0 {
            return None;
        }
        let rest = (self.newest_end, self.last);
        let (durable, last) = self.active.as_ref().map_or(rest, |a| (a.durable, a.durable_last));
        let (seq, Previous { uid, base, .. }) = (self.newest_seq, self.newest);
        Some(Tail { seq, uid, base, durable, last, ends: self.active.is_none() })
    }
}

impl Active {
    /// `len`: of the file, if it takes no more frames.
    fn describe(&self, len: u64) -> Of {
        Of { uid: self.uid, seq: self.seq, base: self.facts.base, len }
    }

    /// Writes zeros ahead until frames may reach `wanted`; returns by how much the file grew. A full disk changes
    /// nothing: zeros beyond `prepared` are as good as none.
    fn grow(&mut self, wanted: u64, options: &Options) -> Result<u64, Error> {
        assert!(wanted <= self.capacity, "a segment would grow beyond its capacity");
        let before = self.prepared;
        let step = options.prepare_bytes.max(1);
        // A sync after this is a slow one, and the logs of a group are of one length: each node begins its steps at another
        // point of a segment, so that a quorum never waits for several slow syncs at once.
        let phase = self.uid % step;
        while self.prepared < wanted {
            let to_boundary = step - (self.prepared + phase) % step;
            let len = to_boundary.min(self.capacity - self.prepared);
            let needed = len.min(wanted - self.prepared);
            match self.file.write_at(&vec![0; len as usize], self.prepared) {
                Ok(()) => self.prepared += len,
                // The last bytes of a disk are as good as any: they may hold the first entry of a new leader.
                Err(error) if disk::is_full(&error) && needed < len => {
                    self.file.write_at(&vec![0; needed as usize], self.prepared).growing(&self.name)?;
                    self.prepared += needed;
                }
                failed => failed.growing(&self.name)?,
            }
        }
        Ok(self.prepared - before)
    }
}
