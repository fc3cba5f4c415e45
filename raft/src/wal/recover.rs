//! Recovery: what a start may believe of the segments it finds.
//!
//! It never cuts what may have been acked, and never refuses to start over a write that a crash tore.
//!
//! # The rule
//!
//! All segments but the newest were synced before the next one got its name: any damage there is named, as a range of
//! entries, and stays. In the newest one let `p` be the first place without a good frame, and `F` the proven durable
//! frontier: the highest one in the meta, the sidecar and any good frame header, before or after `p`.
//!
//! 1. `p < F`: durable bytes are damaged. A named range up to the next good frame, or, if none follows, up to the end
//!    that meta or sidecar know exactly; from there the rule applies again.
//! 2. Only zeros from `p` on: nothing was written there. A clean end.
//! 3. A sector of the bad frame was never written (it is zero and was not when the frame was built, or the file ends
//!    before it): an honest disk cannot have synced that frame, so it was not acked. A torn tail: cut.
//! 4. Else the frame was written whole and changed later, or a sector was torn inside. It may have been acked. "Good
//!    frames follow it" proves nothing: rot in the first frame of the last acked batch looks the same. A suspect tail:
//!    the log ends before it, the bytes stay in the file, and the meta keeps the highest position that may stand there,
//!    in the same write that says where the log ends.
//!
//! Case 4 also holds for `p < F` where nobody knows how many entries the damage costs.
//!
//! The rule needs sectors that were never written to be zero. Hence segments are filled with zeros ahead of the
//! frames, and a place is never used twice: a truncation or a new life begins a new segment.
//!
//! # What is not protected
//!
//! A disk that confirms a sync and loses exactly the last batch before a crash, or somebody who cuts the newest file
//! after a crash, leaves case 2 or 3; only a peer that remembers more can tell. If a range costs entries of several terms, and neither sidecar nor entry headers tell which,
//! they are given out as of the lower one until it is repaired.
//!
//! # Why the last window is written again
//!
//! After a failed sync Linux calls the pages clean, so a process that restarts reads bytes from the cache that are on
//! no disk, and a new sync would not write them. So the cache of the newest segment is dropped before it is read, where the
//! system lets itself be asked; and where it does not, the frames between `F` and `p` are therefore written again, byte for
//! byte, before the sync that makes them count.

use std::sync::Arc;

use super::damaged::{DamagedRange, SuspectTail};
use super::disk::{Disk, File};
use super::entry::{Entry, EntryHeader};
use super::error::{Context, Error};
use super::found::{self, Found};
use super::frame::{LastFrame, Place, Survey, Window};
use super::hole::Hole;
use super::meta::{Meta, Tail};
use super::options::Options;
use super::reader::{Reader, Shared};
use super::segment::{Previous, SEGMENT_BYTES_MAX, SEGMENT_HEADER_BYTES};
use super::sidecar::{self, Facts, Of};
use super::view::Extent;
use super::walk::{Before, STEP_BYTES, Walker, describe};
use crate::{LogIndex, Position, Run, Term, mutant};

/// The smallest frame, by which entries that cannot be counted are bounded.
const FRAME_BYTES_MIN: u64 = 152;

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
    /// Those of them that sidecars hold or that were read, ascending: they are good though the log may be damaged there.
    pub remembered: Vec<Entry>,
    /// Bytes of a torn tail that were cut: written before a crash, never synced, never acked.
    pub torn_bytes_cut: u64,
    /// Entries in the log that cannot be given, ascending: found by this start. The newest segments and those without a
    /// good sidecar were read; the others wait for reads and scrubs.
    pub damaged: Vec<DamagedRange>,
    /// The highest position that this node may have acknowledged and cannot prove; as in the meta.
    pub suspect: Option<Position>,
    /// What this start could not prove at the end of the log, and no longer counts in.
    pub suspect_tail: Option<SuspectTail>,
    /// Files that this start made good by itself, and what was wrong with them.
    pub mended: Vec<(String, String)>,
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
    /// Where the log ends in it.
    pub(super) newest_end: u64,
}

/// Takes all segments into the view: the older ones by their sidecars, the newest ones by reading them. Cuts a torn tail,
/// and makes the newest segment durable. The caller syncs the directory.
pub(super) fn scan(
    disk: &dyn Disk,
    names: &[String],
    meta: &Meta,
    shared: &Arc<Shared>,
    options: &Options,
) -> Result<Scan, Error> {
    let found = found::segments(disk, names, meta)?;
    let mut scanner = Scanner { disk, meta, shared, options, before: Before::Start, recovered: Recovered::default() };
    let mut untils = vec![u64::MAX; found.len()];
    let mut unread = vec![0; found.len()];
    let (mut until, mut bytes) = (u64::MAX, 0);
    for (at, this) in found.iter().enumerate().rev() {
        untils[at] = until;
        until = until.min(this.base);
        bytes += this.len.unwrap_or(0);
        unread[at] = bytes;
    }
    let mut scan = Scan { recovered: Recovered::default(), newest: Previous::default(), newest_seq: 0, newest_end: 0 };
    for (at, this) in found.iter().enumerate() {
        let known = scanner.begin(this)?;
        let (facts, len) = match found.get(at + 1) {
            Some(_) => {
                let must_read = unread[at] <= options.verify_at_open_bytes;
                (scanner.sealed(this, untils[at], known, must_read)?, this.sealed_len.or(this.len).unwrap_or(0))
            }
            None => scanner.newest(this, known)?,
        };
        scan.newest = Previous { uid: this.segment.uid, len, base: this.base };
        scan.newest_seq = this.segment.seq;
        scan.newest_end = facts.end;
        shared.view_mut().bytes += this.len.map_or(0, |_| len);
        scanner.take(this, facts, untils[at]);
    }
    for this in &found {
        scanner.mend(this)?;
    }
    scan.recovered = scanner.end(found.iter().filter(|f| f.len.is_some()).count())?;
    Ok(scan)
}

struct Scanner<'a> {
    disk: &'a dyn Disk,
    meta: &'a Meta,
    shared: &'a Arc<Shared>,
    options: &'a Options,
    /// The entry before the next segment.
    before: Before,
    recovered: Recovered,
}

impl<'a> Scanner<'a> {
    /// A segment supersedes all entries from its base index on. Gives what its sidecar knows.
    fn begin(&mut self, this: &Found) -> Result<Option<(Of, Facts)>, Error> {
        let first = self.shared.view().first();
        if this.base < first {
            let what = format!("it begins at entry {}, the log at {first}", this.base);
            return Err(Error::corrupt(&this.segment.name, 0, what));
        }
        let is_next = |header: &EntryHeader| header.index.0 + 1 == this.base;
        self.before = match self.before {
            _ if this.base == first => Before::Start,
            Before::Known(header) if is_next(&header) => self.before,
            _ => match Reader::new(self.shared.clone()).header(LogIndex(this.base - 1)) {
                Ok(Some(header)) => Before::Known(header),
                // Newest by far: the meta remembers the entry before it.
                Ok(None) | Err(Error::Corrupt { .. }) => self
                    .meta
                    .tail
                    .filter(|tail| tail.seq == this.segment.seq)
                    .and_then(|tail| tail.last)
                    .filter(is_next)
                    .map_or(Before::Unknown, Before::Known),
                Err(error) => return Err(error),
            },
        };
        let known = sidecar::read(self.disk, &this.segment.name);
        Ok(known.filter(|(of, _)| (of.uid, of.seq, of.base) == (this.segment.uid, this.segment.seq, this.base)))
    }

    fn walker(&self, this: &Found, file: Arc<dyn File>, len: u64) -> Walker<'a> {
        let window = Window::new(file, len, STEP_BYTES);
        let window = if this.sealed_len.is_some() { window.lenient() } else { window };
        let every = self.options.index_every_bytes;
        Walker::new(self.meta, this.segment.clone(), this.base, self.before, window, every)
    }

    /// A segment that has a successor was durable as a whole.
    fn sealed(
        &mut self,
        this: &Found,
        until: u64,
        known: Option<(Of, Facts)>,
        must_read: bool,
    ) -> Result<Facts, Error> {
        let is_whole = known.as_ref().is_some_and(|(of, facts)| {
            facts.next >= until && this.len == Some(of.len) && this.sealed_len.is_none_or(|len| len == of.len)
        });
        if let (Some((_, facts)), true, false) = (&known, is_whole, must_read) {
            return Ok(facts.clone());
        }
        let Some(len) = this.len else { return Ok(self.absent(this, until, known)) };
        let file = self.disk.open(&this.segment.name).context("open", &this.segment.name)?;
        let mut walker = self.walker(this, file, len);
        loop {
            let place = walker.run(until)?;
            if walker.index >= until {
                break;
            }
            if matches!(place, Place::End) || !walker.skip(&place, until)? {
                let end = this.sealed_len.unwrap_or(len).max(walker.at);
                walker.jump(until, end, None, describe(&place));
                break;
            }
        }
        let (mut facts, holes, verified) = (walker.facts, walker.holes, walker.verified);
        self.recovered.verified_bytes += verified;
        let clean = holes.is_empty();
        self.shared.view_mut().add_holes(holes);
        match known {
            Some((_, known)) if !clean => facts.fill_from(&known),
            // What was read counts, and the sidecar was wrong or not there.
            _ if clean && !is_whole => self.write_sidecar(this, &facts, len),
            _ => {}
        }
        Ok(facts)
    }

    fn write_sidecar(&self, this: &Found, facts: &Facts, len: u64) {
        let of = Of { uid: this.segment.uid, seq: this.segment.seq, base: this.base, len };
        sidecar::write(self.disk, &this.segment.name, of, facts);
    }

    /// The file is gone: all of its entries are damaged.
    fn absent(&mut self, this: &Found, until: u64, known: Option<(Of, Facts)>) -> Facts {
        let mut walker = self.no_file(this);
        if until > this.base {
            let end = this.sealed_len.unwrap_or(SEGMENT_BYTES_MAX);
            walker.jump(until, end, None, "the file is missing".to_owned());
        }
        let mut facts = walker.facts;
        let holes = walker.holes;
        self.shared.view_mut().add_holes(holes);
        if let Some((_, known)) = known {
            facts.fill_from(&known);
        }
        facts
    }

    fn no_file(&self, this: &Found) -> Walker<'a> {
        self.walker(this, Arc::new(super::disk::Nothing), 0)
    }

    /// The newest segment may end in a torn write; or nobody knows where. Gives the facts, and the length of the file.
    fn newest(&mut self, this: &Found, sidecar: Option<(Of, Facts)>) -> Result<(Facts, u64), Error> {
        let tail = self.meta.tail.filter(|tail| tail.seq == this.segment.seq);
        let ends = tail.filter(|tail| tail.ends);
        let known = Known::best(tail, sidecar.as_ref());
        let name = &this.segment.name;
        let file = match this.len {
            Some(_) => self.disk.open(name).context("open", name)?,
            None => Arc::new(super::disk::Nothing),
        };
        // What a failed sync left in the cache alone is not on disk, however often it is read there.
        file.forget_cached(0, 0);
        let len = this.len.unwrap_or(0);
        let mut walker = self.walker(this, file.clone(), ends.map_or(len, |tail| tail.durable.min(len)));
        let end = find_end(&mut walker, known, this.len.is_some(), ends.is_some())?;
        let Walker { mut facts, mut holes, verified, .. } = walker;
        let mut end = end;
        // Without the last entry's header nobody can append, and its term is not known: then the log ends before it.
        if facts.last.is_none() && facts.next > this.base {
            facts.last = known.last.filter(|last| last.index.0 + 1 == facts.next);
        }
        while facts.last.is_none() && facts.next > this.base {
            if holes.is_empty() {
                return Err(Error::corrupt(name, facts.end, "the entries before the damage cannot be told"));
            }
            end = cut_before(&mut facts, &mut holes, end);
        }
        self.recovered.verified_bytes += verified;
        let clean = holes.is_empty();
        self.shared.view_mut().add_holes(holes);
        let mut len = len;
        match end.how {
            How::Suspect { up_to, at, what } if !mutant!(MiddleCut) => {
                let term = up_to.1.unwrap_or(self.meta.hard_state.term);
                let up_to = Position { index: LogIndex(up_to.0), term };
                self.recovered.suspect_tail = Some(SuspectTail { file: name.clone(), at, what, up_to });
                rewrite(&file, name, end.frontier, facts.end)?;
            }
            _ if ends.is_some() || this.len.is_none() => {}
            _ => {
                self.recovered.torn_bytes_cut += end.torn;
                rewrite(&file, name, end.frontier, facts.end)?;
                if len > facts.end && !mutant!(TornTailKept) {
                    file.set_len(facts.end).context("cut", name)?;
                    len = facts.end;
                }
            }
        }
        if this.len.is_some() && !mutant!(RecoveryWithoutSync) {
            file.sync_all().context("sync", name)?;
        }
        match sidecar {
            Some((_, known)) if !clean => facts.fill_from(&known),
            known if clean && this.len.is_some() => {
                let good = known.is_some_and(|(of, known)| of.len == len && known.next == facts.next);
                if !good {
                    self.write_sidecar(this, &facts, len);
                }
            }
            _ => {}
        }
        let len = if this.len.is_some() { len } else { facts.end };
        Ok((facts, len))
    }

    /// The facts of a segment become part of the log.
    fn take(&mut self, this: &Found, facts: Facts, until: u64) {
        let next = facts.next.min(until);
        let mut view = self.shared.view_mut();
        if until > this.base {
            view.extents.push(Extent {
                segment: this.segment.clone(),
                first: this.base,
                next,
                end: facts.end,
                points: facts.points.iter().copied().filter(|p| p.index < next).collect(),
            });
        }
        drop(view);
        for run in facts.runs.iter().filter(|run| run.first.0 < next) {
            if self.recovered.runs.last().is_none_or(|last| last.term != run.term) {
                self.recovered.runs.push(*run);
            }
        }
        self.recovered.control.extend(facts.control.iter().filter(|index| index.0 < next));
        self.recovered.remembered.extend(facts.remembered.iter().filter(|e| e.header().index.0 < next).cloned());
        if next > this.base {
            self.before = match facts.last {
                Some(last) if last.index.0 + 1 == next => Before::Known(last),
                _ => Before::Unknown,
            };
        }
    }

    /// Writes a damaged header block anew, in place: all of it is known, so that a crash on the way costs nothing.
    fn mend(&mut self, this: &Found) -> Result<(), Error> {
        let Some((block, what)) = &this.block else { return Ok(()) };
        let name = &this.segment.name;
        if !block.is_empty() {
            let file = self.disk.open(name).context("open", name)?;
            file.write_at(block, 0).context("write", name)?;
            file.sync_all().context("sync", name)?;
        }
        self.recovered.mended.push((name.clone(), what.clone()));
        Ok(())
    }

    fn end(mut self, segments: usize) -> Result<Recovered, Error> {
        let view = self.shared.view();
        self.recovered.start = self.meta.start.position;
        self.recovered.segments = segments;
        self.recovered.damaged = view.damaged();
        // Damage at the very beginning: no run begins there, and there is no term before it that a log could have.
        let first = self.meta.start.position.index.next();
        let term = self.meta.start.position.term.max(Term(1));
        match self.recovered.runs.first_mut() {
            Some(run) if run.first > first && run.term <= term => run.first = first,
            Some(run) if run.first > first => self.recovered.runs.insert(0, Run { first, term }),
            _ => {}
        }
        self.recovered.last = match (self.before, view.extents.last()) {
            (Before::Known(last), _) => Some(last),
            (_, None) => None,
            (Before::Start, Some(_)) => None,
            (Before::Unknown, Some(newest)) => {
                let what = "the last entry of the log is damaged, and nothing tells what it was";
                return Err(Error::corrupt(&newest.segment.name, SEGMENT_HEADER_BYTES as u64, what));
            }
        };
        let raised = self.recovered.suspect_tail.as_ref().map(|tail| tail.up_to);
        self.recovered.suspect = match (self.meta.suspect, raised) {
            (Some(old), Some(new)) if old.is_at_least_as_up_to_date_as(new) => Some(old),
            (old, new) => new.or(old),
        };
        drop(view);
        Ok(self.recovered)
    }
}

/// A frontier that was durable, and the last entry before it if that is known.
#[derive(Clone, Copy)]
struct Known {
    frontier: u64,
    last: Option<EntryHeader>,
}

impl Known {
    fn best(tail: Option<Tail>, sidecar: Option<&(Of, Facts)>) -> Self {
        let by_meta = tail.map_or(Self { frontier: 0, last: None }, |t| Self { frontier: t.durable, last: t.last });
        match sidecar {
            Some((_, facts)) if facts.end >= by_meta.frontier && tail.is_none_or(|t| !t.ends) => {
                Self { frontier: facts.end, last: facts.last.or(by_meta.last) }
            }
            _ => by_meta,
        }
    }
}

/// How the newest segment ends.
struct End {
    how: How,
    /// Everything before was durable.
    frontier: u64,
    /// Bytes of a torn write behind the end.
    torn: u64,
}

enum How {
    /// Where the walk stopped.
    Exact,
    /// There too, and something that may have been acked stood from `at` on: up to this index, of this term if known.
    Suspect { up_to: (u64, Option<Term>), at: u64, what: String },
}

/// Walks to the end of the newest segment, by the rule.
fn find_end(walker: &mut Walker<'_>, known: Known, is_there: bool, ends: bool) -> Result<End, Error> {
    let mut rest: Option<Survey> = None;
    loop {
        let place = walker.run(u64::MAX)?;
        let at = walker.at;
        let what = if is_there { describe(&place) } else { "the file is missing".to_owned() };
        let frontier = known.frontier.max(walker.frontier);
        let is_end = matches!(place, Place::End);
        let survey = match rest {
            _ if is_end => Survey { frontier: 0, written_end: at, last: None },
            Some(survey) => survey,
            None => *rest.insert(walker.survey()?),
        };
        let frontier = frontier.max(survey.frontier);
        let exact = |torn| Ok(End { how: How::Exact, frontier, torn });
        if at >= frontier {
            // A file that is gone may have held more than anybody remembers, unless the log was closed.
            if !is_there && !ends {
                return Ok(suspect_end(at, frontier, SEGMENT_BYTES_MAX, walker.index, None, what));
            }
            if survey.written_end <= at {
                return exact(0);
            }
            if matches!(place, Place::BadHeader { unwritten: true } | Place::BadBody { unwritten: true, .. }) {
                return exact(survey.written_end - at);
            }
            return Ok(suspect_end(at, frontier, survey.written_end, walker.index, survey.last.as_ref(), what));
        }
        if !is_end && walker.skip(&place, u64::MAX)? {
            continue;
        }
        match known.last {
            Some(last) if known.frontier > at && last.index.0 >= walker.index => {
                walker.jump(last.index.0 + 1, known.frontier, Some(last), what);
            }
            _ => {
                let written = survey.written_end.max(frontier);
                return Ok(suspect_end(at, frontier, written, walker.index, survey.last.as_ref(), what));
            }
        }
    }
}

/// The highest index that may stand in the bytes from `at` to `written`, where the entry `index` belongs first.
fn suspect_end(at: u64, frontier: u64, written: u64, index: u64, last: Option<&LastFrame>, what: String) -> End {
    let fit = |from: u64| written.saturating_sub(from).div_ceil(FRAME_BYTES_MIN);
    let up_to = match last.filter(|last| last.index >= index) {
        Some(LastFrame { index, end, entry: Some(entry) }) if written <= *end => (*index, Some(entry.term)),
        Some(LastFrame { index, end, .. }) => (index.saturating_add(fit(*end)), None),
        None => (index.saturating_add(fit(at).max(1) - 1), None),
    };
    End { how: How::Suspect { up_to, at, what }, frontier: frontier.min(at), torn: 0 }
}

/// The last entries are damaged and nothing tells their terms: the log ends before the last hole.
fn cut_before(facts: &mut Facts, holes: &mut Vec<Hole>, end: End) -> End {
    let Some(hole) = holes.pop() else { return end };
    let up_to = match end.how {
        How::Suspect { up_to, .. } => up_to,
        How::Exact => (facts.next - 1, None),
    };
    facts.cut(hole.first, hole.at, hole.before);
    End { how: How::Suspect { up_to, at: hole.at, what: hole.what }, frontier: end.frontier.min(hole.at), torn: 0 }
}

/// Writes the unproven frames again; see the module's last section.
fn rewrite(file: &Arc<dyn File>, name: &str, from: u64, end: u64) -> Result<(), Error> {
    let mut window = Window::new(file.clone(), end, STEP_BYTES);
    let mut at = if mutant!(RecoveryTrustsCache) { end } else { from };
    while at < end {
        let bytes = window.get(at, STEP_BYTES).context("read", name)?;
        file.write_at(&bytes, at).context("write", name)?;
        at += bytes.len() as u64;
    }
    Ok(())
}
