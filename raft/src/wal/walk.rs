//! The walk through the frames of one segment, past all damage.
//!
//! It never changes a byte and decides nothing: it finds the facts and the holes, and says where it stopped.

use std::sync::Arc;

use super::entry::{Entry, EntryError, EntryHeader};
use super::error::{Context, Error};
use super::frame::{self, FRAME_HEADER_BYTES, Place, Survey, Window};
use super::hole::Hole;
use super::meta::Meta;
use super::segment::{SEGMENT_HEADER_BYTES, Segment};
use super::sidecar::Facts;

/// Bytes read at a time.
pub(super) const STEP_BYTES: usize = 1 << 20;

/// What is known of the entry before the next one.
#[derive(Clone, Copy, Debug)]
pub(super) enum Before {
    /// The next one is the first of the log.
    Start,
    Known(EntryHeader),
    /// It is damaged: the chain cannot be checked here.
    Unknown,
}

impl Before {
    pub(super) fn header(&self) -> Option<&EntryHeader> {
        match self {
            Self::Known(header) => Some(header),
            Self::Start | Self::Unknown => None,
        }
    }

    /// Is `entry` the next one of the log?
    pub(super) fn check(&self, meta: &Meta, entry: &Entry) -> Result<(), EntryError> {
        match self {
            Self::Start => meta.check_next(entry, None),
            Self::Known(header) => meta.check_next(entry, Some(header)),
            Self::Unknown if Some(entry.header().seed) != meta.seed() => {
                Err(EntryError::NotNext("it belongs to another log id"))
            }
            Self::Unknown => Ok(()),
        }
    }
}

pub(super) struct Walker<'a> {
    meta: &'a Meta,
    segment: Arc<Segment>,
    window: Window,
    every: u64,
    /// Where it stands, and which entry belongs there.
    pub(super) at: u64,
    pub(super) index: u64,
    pub(super) before: Before,
    pub(super) facts: Facts,
    pub(super) holes: Vec<Hole>,
    /// The highest durable frontier in a good frame so far.
    pub(super) frontier: u64,
    /// Bytes of good entries.
    pub(super) verified: u64,
}

impl<'a> Walker<'a> {
    /// From the first frame on, to the end of the window.
    pub(super) fn new(
        meta: &'a Meta,
        segment: Arc<Segment>,
        base: u64,
        before: Before,
        window: Window,
        every: u64,
    ) -> Self {
        let start = SEGMENT_HEADER_BYTES as u64;
        Self {
            meta,
            segment,
            window,
            every,
            at: start,
            index: base,
            before,
            facts: Facts::new(base),
            holes: Vec::new(),
            frontier: start,
            verified: 0,
        }
    }

    /// Takes in good frames before the entry `until`; says what stands behind them.
    ///
    /// # Errors
    /// [`Error::Newer`], [`Error::Corrupt`] for frames that no crash and no rot leaves so, or IO.
    pub(super) fn run(&mut self, until: u64) -> Result<Place, Error> {
        loop {
            let place = frame::read(&mut self.window, self.segment.uid, self.at).context("read", &self.segment.name)?;
            let Place::Frame(frame) = place else {
                refuse_newer(&self.segment.name, &place)?;
                return Ok(place);
            };
            let header = *frame.entry.header();
            if self.index >= until {
                return Ok(Place::Frame(frame));
            }
            if header.index.0 != self.index {
                let what = format!("entry {} stands where {} belongs", header.index, self.index);
                return Err(Error::corrupt(&self.segment.name, self.at, what));
            }
            let end = self.at + frame.header.total_len();
            if let Err(error) = self.before.check(self.meta, &frame.entry) {
                self.note(self.index + 1, end, format!("the entry there is wrong: {error}"));
                self.facts.push(&header, None, self.at, end, self.every);
            } else {
                self.facts.push(&header, Some(&frame.entry), self.at, end, self.every);
                self.verified += header.encoded_len() as u64;
            }
            self.frontier = self.frontier.max(u64::from(frame.header.frontier));
            self.before = Before::Known(header);
            self.index += 1;
            self.at = end;
        }
    }

    /// Goes on behind the damage that `run` found, at the next good frame header before the entry `until`. If there is
    /// none it stays: nobody knows how far the damage reaches.
    pub(super) fn skip(&mut self, place: &Place, until: u64) -> Result<bool, Error> {
        let context = |error| Err(error).context("read", &self.segment.name);
        if let Place::BadBody { header, .. } = place
            && header.index == self.index
        {
            let body = self.window.get(self.at + FRAME_HEADER_BYTES as u64, header.body_len as usize);
            let known = match body {
                Ok(body) => header.of_entry(&body),
                Err(error) => return context(error),
            };
            let end = self.at + header.total_len();
            self.note(self.index + 1, end, describe(place));
            self.frontier = self.frontier.max(u64::from(header.frontier));
            match known {
                Some(known) => {
                    self.facts.push(&known, None, self.at, end, self.every);
                    self.before = Before::Known(known);
                }
                None => {
                    self.facts.skip(self.index + 1, end, None);
                    self.before = Before::Unknown;
                }
            }
            self.index += 1;
            self.at = end;
            return Ok(true);
        }
        let found = match frame::next(&mut self.window, self.segment.uid, self.at + 8) {
            Ok(found) => found,
            Err(error) => return context(error),
        };
        let Some((next_at, header)) = found else { return Ok(false) };
        if header.index <= self.index {
            let what = format!("entry {} stands behind damage where {} begins", header.index, self.index);
            return Err(Error::corrupt(&self.segment.name, self.at, what));
        }
        if header.index > until {
            return Ok(false);
        }
        self.jump(header.index, next_at, None, describe(place));
        Ok(true)
    }

    /// Everything before the entry `next`, which begins at `at`, is damaged from here on; of the last of them this much is
    /// known.
    pub(super) fn jump(&mut self, next: u64, at: u64, last: Option<EntryHeader>, what: String) {
        self.note(next, at, what);
        self.facts.skip(next, at, last);
        self.before = last.map_or(Before::Unknown, Before::Known);
        self.index = next;
        self.at = at;
    }

    fn note(&mut self, next: u64, end: u64, what: String) {
        self.holes.push(Hole {
            segment: self.segment.clone(),
            at: self.at,
            end,
            first: self.index,
            last: next - 1,
            what,
            before: self.before.header().copied(),
        });
        // The index in memory gets a point behind the hole as soon as a good frame stands there.
        self.facts.points_after_hole();
    }

    /// What lies behind the place where it stands.
    pub(super) fn survey(&mut self) -> Result<Survey, Error> {
        frame::survey(&mut self.window, self.segment.uid, self.at).context("read", &self.segment.name)
    }
}

/// What a version that is not known here wrote is no damage.
fn refuse_newer(file: &str, place: &Place) -> Result<(), Error> {
    let what = match place {
        Place::Unreadable(EntryError::Version(version)) => format!("entry version {version}"),
        Place::Unreadable(EntryError::Kind(kind)) => format!("entry kind {kind}"),
        _ => return Ok(()),
    };
    Err(Error::Newer { file: file.to_owned(), what })
}

/// What is wrong at this place, in words.
pub(super) fn describe(place: &Place) -> String {
    match place {
        Place::Unreadable(error) => format!("the entry there is wrong: {error}"),
        Place::BadBody { header, .. } => format!("entry {} does not match its checksum", header.index),
        Place::BadHeader { .. } => "there is no valid frame header".to_owned(),
        Place::Frame(_) | Place::End => "durable frames are missing".to_owned(),
    }
}
