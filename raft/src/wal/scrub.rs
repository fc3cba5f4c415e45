//! The scrub: a slow read of everything that is at rest, so that rot is found while peers still have the entries.
//!
//! It never changes a byte and keeps no pace of its own: the caller asks for so many bytes at a time. A sidecar that
//! contradicts its segment is removed, since the next start would believe it.

use std::sync::Arc;

use super::damaged::{ScrubCursor, Scrubbed};
use super::disk;
use super::error::{Context, Error};
use super::frame::{self, Place, Window};
use super::reader::Reader;
use super::segment::{SEGMENT_HEADER_BYTES, Segment, SegmentHeader};
use super::sidecar;
use super::walk::{STEP_BYTES, describe};
use crate::LogIndex;

impl Reader {
    /// Reads about `bytes_max` bytes (at least one entry) of the segments that take no more frames, from the disk and
    /// not from the cache where the system can tell them apart, and checks everything in them that is part of the log:
    /// header blocks, frames, the chain, sidecars. Damage is no error: it is noted, see [`Reader::damaged`].
    ///
    /// # Errors
    /// IO other than reading, or [`Error::Newer`].
    pub fn scrub(&self, cursor: ScrubCursor, bytes_max: u64) -> Result<Scrubbed, Error> {
        let mut done = Scrubbed::default();
        let mut cursor = cursor;
        loop {
            let target = self.shared.view().at_rest(cursor.seq);
            let Some((segment, first, next)) = target else { return Ok(done) };
            if segment.seq != cursor.seq || cursor.at == 0 || cursor.index < first {
                let before = cursor.before.filter(|before| before.index.0 + 1 == first);
                cursor = ScrubCursor { seq: segment.seq, at: SEGMENT_HEADER_BYTES as u64, index: first, before };
                self.scrub_header(&segment, &mut done)?;
            }
            self.scrub_frames(&segment, next, &mut cursor, bytes_max, &mut done)?;
            if cursor.index < next {
                done.next = Some(cursor);
                return Ok(done);
            }
            self.scrub_sidecar(&segment, &cursor, &mut done)?;
            cursor.seq += 1;
            cursor.at = 0;
            if done.bytes >= bytes_max {
                done.next = self.shared.view().at_rest(cursor.seq).map(|_| cursor);
                return Ok(done);
            }
        }
    }

    fn scrub_header(&self, segment: &Arc<Segment>, done: &mut Scrubbed) -> Result<(), Error> {
        let Some(file) = self.shared.file(segment)? else { return Ok(()) };
        let len = file.len().context("measure", &segment.name)?;
        let mut window = Window::new(file, len, SEGMENT_HEADER_BYTES).lenient().cold();
        let block = window.get(0, SEGMENT_HEADER_BYTES).context("read", &segment.name)?;
        done.bytes += block.len() as u64;
        match SegmentHeader::decode(&block, &segment.name) {
            Err(Error::Corrupt { what, .. }) => done.other.push((segment.name.clone(), what)),
            Err(error) => return Err(error),
            Ok(_) => {}
        }
        Ok(())
    }

    /// Reads on to the entry `next`, or until it is enough.
    fn scrub_frames(
        &self,
        segment: &Arc<Segment>,
        next: u64,
        cursor: &mut ScrubCursor,
        bytes_max: u64,
        done: &mut Scrubbed,
    ) -> Result<(), Error> {
        let Some(file) = self.shared.file(segment)? else {
            if self.shared.view().hole_at(cursor.index).is_none() {
                let range = self.missing(segment);
                done.damaged.extend(range);
            }
            cursor.index = next;
            cursor.before = None;
            return Ok(());
        };
        let len = file.len().context("measure", &segment.name)?;
        let mut window = Window::new(file.clone(), len, STEP_BYTES).lenient().cold();
        // Of entries of one size, none is read twice because only a part of it came with those before.
        let mut len = 0;
        while cursor.index < next && (len == 0 || done.bytes < bytes_max && window.holds(cursor.at, len)) {
            let hole = self.shared.view().hole_at(cursor.index).map(|hole| (hole.last, hole.end));
            if let Some((last, end)) = hole {
                (cursor.index, cursor.at, cursor.before) = (last + 1, end, None);
                continue;
            }
            let place = frame::read(&mut window, segment.uid, cursor.at).context("read", &segment.name)?;
            let what = match &place {
                Place::Frame(frame) if frame.header.index != cursor.index => {
                    format!("entry {} stands where {} belongs", frame.header.index, cursor.index)
                }
                Place::Frame(frame) => match self.is_next(cursor, frame) {
                    Ok(()) => {
                        done.bytes += frame.header.total_len();
                        cursor.at += frame.header.total_len();
                        cursor.index += 1;
                        cursor.before = Some(*frame.entry.header());
                        len = frame.header.total_len();
                        continue;
                    }
                    Err(error) => format!("the entry there is wrong: {error}"),
                },
                place => describe(place),
            };
            let known = self.damaged().len();
            let found = self.met_damage(segment, &file, cursor.at, cursor.index, what, &place);
            match found {
                Some(range) => done.damaged.push(range),
                // Superseded or repaired meanwhile: the rest of this segment waits for the next round.
                None if self.damaged().len() == known => {
                    cursor.index = next;
                    return Ok(());
                }
                None => {}
            }
        }
        Ok(())
    }

    fn is_next(&self, cursor: &ScrubCursor, frame: &frame::Frame) -> Result<(), super::EntryError> {
        let start = self.shared.view().start;
        match &cursor.before {
            Some(before) => frame.entry.follows(before),
            None if start.position.index.next() == LogIndex(cursor.index) => frame.entry.chains_to(start.chain),
            None => Ok(()),
        }
    }

    /// Does the sidecar tell the same as the frames?
    fn scrub_sidecar(&self, segment: &Arc<Segment>, cursor: &ScrubCursor, done: &mut Scrubbed) -> Result<(), Error> {
        let name = sidecar::name_of(&segment.name);
        let what = match (sidecar::read(self.shared.disk(), &segment.name), cursor.before) {
            (None, _) if self.shared.disk().open(&name).is_err() => return Ok(()),
            (None, _) => "it is damaged",
            (Some((of, _)), _) if (of.uid, of.seq) != (segment.uid, segment.seq) => "it belongs to another segment",
            (Some((_, facts)), Some(before)) => {
                let last = facts.last.filter(|last| last.index == before.index);
                match last {
                    Some(last) if last != before => "it knows another last entry",
                    _ => return Ok(()),
                }
            }
            (Some(_), None) => return Ok(()),
        };
        done.other.push((name.clone(), what.to_owned()));
        disk::remove_if_any(self.shared.disk(), &name).context("remove", &name)
    }
}
