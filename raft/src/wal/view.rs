//! The view: which segment holds which entries of the log in force, with a sparse index into each.
//!
//! It never holds entries: one point per 64 KiB of log, so that 10 GiB of log cost a few MiB of memory.

use std::sync::Arc;

use super::damaged::{DAMAGED_RANGES_MAX, DamagedRange};
use super::entry::EntryHeader;
use super::frame::{FrameHeader, time_key};
use super::hole::Hole;
use super::meta::Start;
use super::segment::Segment;
use crate::LogIndex;

/// Where one entry stands in its segment, and its keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Point {
    pub(super) index: u64,
    pub(super) at: u64,
    pub(super) offset: u64,
    pub(super) time: u64,
}

impl Point {
    pub(super) fn of(header: &EntryHeader, at: u64) -> Self {
        Self { index: header.index.0, at, offset: header.base_offset, time: time_key(header.time) }
    }

    /// Where a good frame header stands.
    pub(super) fn before(frame: &FrameHeader, at: u64) -> Self {
        Self { index: frame.index, at, offset: frame.offset_key, time: frame.time_key }
    }
}

/// The entries `first..next` of the log in force, all in one segment.
#[derive(Clone, Debug)]
pub(super) struct Extent {
    pub(super) segment: Arc<Segment>,
    pub(super) first: u64,
    pub(super) next: u64,
    /// Frames end here; beyond it nothing was written.
    pub(super) end: u64,
    /// Ascending; the first entry always has one.
    pub(super) points: Vec<Point>,
}

/// Where to start reading for an entry.
#[derive(Clone, Debug)]
pub(super) struct Route {
    pub(super) segment: Arc<Segment>,
    pub(super) point: Point,
    pub(super) next: u64,
    pub(super) end: u64,
}

/// The log in force.
#[derive(Debug)]
pub(super) struct View {
    pub(super) start: Start,
    pub(super) extents: Vec<Extent>,
    /// Entries in force that cannot be given, ascending.
    holes: Vec<Hole>,
    /// The number of the segment that takes frames.
    pub(super) active: Option<u64>,
    /// Bytes of all segment files.
    pub(super) bytes: u64,
    index_every: u64,
}

impl View {
    pub(super) fn new(start: Start, index_every: u64) -> Self {
        Self { start, extents: Vec::new(), holes: Vec::new(), active: None, bytes: 0, index_every }
    }

    /// The first index that is or will be kept.
    pub(super) fn first(&self) -> u64 {
        self.start.position.index.0 + 1
    }

    /// The index after the last entry.
    pub(super) fn next(&self) -> u64 {
        self.extents.last().map_or_else(|| self.first(), |e| e.next)
    }

    /// From now on entries go to `segment`; those from `base` on in older segments are superseded.
    pub(super) fn begin(&mut self, segment: Arc<Segment>, base: u64, end: u64) {
        self.active = Some(segment.seq);
        while self.extents.last().is_some_and(|e| e.first >= base) {
            self.extents.pop();
        }
        if let Some(last) = self.extents.last_mut() {
            last.next = last.next.min(base);
            let keep = last.points.partition_point(|p| p.index < base);
            last.points.truncate(keep);
        }
        self.holes.retain(|hole| hole.first < base);
        if let Some(hole) = self.holes.last_mut() {
            hole.last = hole.last.min(base - 1);
        }
        self.extents.push(Extent { segment, first: base, next: base, end, points: Vec::new() });
    }

    /// The newest segment now holds this entry at `at`, and ends at `end`.
    pub(super) fn push(&mut self, header: &EntryHeader, at: u64, end: u64) {
        let every = self.index_every;
        let Some(extent) = self.extents.last_mut() else { return };
        debug_assert_eq!(extent.next, header.index.0);
        // No walk passes damage, so that there must be a point behind it.
        let behind_hole = self.holes.last().is_some_and(|hole| hole.last + 1 == extent.next);
        if behind_hole || extent.points.last().is_none_or(|p| at - p.at >= every) {
            extent.points.push(Point::of(header, at));
        }
        extent.next = header.index.0 + 1;
        extent.end = end;
    }

    /// The hole that holds this entry.
    pub(super) fn hole_at(&self, index: u64) -> Option<&Hole> {
        let at = self.holes.partition_point(|hole| hole.last < index);
        self.holes.get(at).filter(|hole| hole.first <= index)
    }

    /// All holes, ascending.
    pub(super) fn holes(&self) -> &[Hole] {
        &self.holes
    }

    /// As the outside sees them: holes that touch are one range, since only its ends have intact neighbours.
    pub(super) fn damaged(&self) -> Vec<DamagedRange> {
        let mut ranges: Vec<DamagedRange> = Vec::with_capacity(self.holes.len());
        for hole in &self.holes {
            match ranges.last_mut() {
                Some(range) if range.last.0 + 1 == hole.first => range.last = LogIndex(hole.last),
                _ => ranges.push(hole.range()),
            }
        }
        ranges
    }

    /// The damaged range that holds this entry.
    pub(super) fn range_at(&self, index: u64) -> Option<DamagedRange> {
        let hole = self.hole_at(index)?;
        let (first, last) = self.group_at(index)?;
        Some(DamagedRange { first: LogIndex(first), last: LogIndex(last), ..hole.range() })
    }

    /// Notes damage of a segment; what is noted already stays as it is.
    pub(super) fn add_holes(&mut self, holes: Vec<Hole>) {
        for hole in holes {
            self.add_hole(hole);
        }
    }

    /// Gives the first part of it that is new: what is known already may lie at its beginning, inside and at its end.
    fn add_hole(&mut self, mut hole: Hole) -> Option<DamagedRange> {
        let mut new = None;
        loop {
            let at = self.holes.partition_point(|known| known.last < hole.first);
            let known = self.holes.get(at).filter(|known| known.first <= hole.last);
            let Some(known) = known.map(|known| (known.first, known.last, known.at, known.end)) else {
                return new.or(self.insert(at, hole));
            };
            let (first, last, begin, end) = known;
            if first > hole.first {
                let part = Hole { last: first - 1, end: begin, ..hole.clone() };
                new = new.or(self.insert(at, part));
            }
            if last >= hole.last {
                return new;
            }
            (hole.first, hole.at, hole.before) = (last + 1, end, None);
        }
    }

    fn insert(&mut self, at: usize, hole: Hole) -> Option<DamagedRange> {
        if self.holes.len() >= DAMAGED_RANGES_MAX
            && let Some(before) = at.checked_sub(1).and_then(|at| self.holes.get_mut(at))
            && before.segment.seq == hole.segment.seq
        {
            (before.last, before.end) = (hole.last, hole.end);
            return None;
        }
        let range = hole.range();
        self.holes.insert(at, hole);
        Some(range)
    }

    /// A read or a scrub met damage. Gives what of it is part of the log and new. `after`: the next good frame.
    pub(super) fn found_hole(&mut self, mut hole: Hole, after: Option<Point>) -> Option<DamagedRange> {
        let seq = hole.segment.seq;
        let extent = self.extents.iter_mut().find(|extent| extent.segment.seq == seq)?;
        hole.last = hole.last.min(extent.next - 1);
        if hole.first < extent.first || hole.first > hole.last {
            return None;
        }
        extent.points.retain(|point| !(hole.first..=hole.last).contains(&point.index));
        if let Some(after) = after.filter(|after| after.index == hole.last + 1 && after.index < extent.next) {
            let at = extent.points.partition_point(|point| point.index < after.index);
            if extent.points.get(at).is_none_or(|point| point.index != after.index) {
                extent.points.insert(at, after);
            }
        }
        self.add_hole(hole)
    }

    /// These entries are whole again. `points`: where they stand.
    pub(super) fn close_holes(&mut self, seq: u64, first: u64, last: u64, points: &[Point]) {
        self.holes.retain(|hole| hole.segment.seq != seq || hole.last < first || hole.first > last);
        let Some(extent) = self.extents.iter_mut().find(|extent| extent.segment.seq == seq) else { return };
        for point in points.iter().filter(|point| (extent.first..extent.next).contains(&point.index)) {
            let at = extent.points.partition_point(|known| known.index < point.index);
            if extent.points.get(at).is_none_or(|known| known.index != point.index) {
                extent.points.insert(at, *point);
            }
        }
    }

    /// Where to start reading for the entry `index`; `None` if there is none, or if it is damaged.
    pub(super) fn route(&self, index: u64) -> Option<Route> {
        let at = self.extents.partition_point(|e| e.first <= index).checked_sub(1)?;
        let extent = self.extents.get(at)?;
        if index >= extent.next || self.hole_at(index).is_some() {
            return None;
        }
        let point = extent.points.partition_point(|p| p.index <= index).checked_sub(1)?;
        let point = extent.points.get(point)?;
        // No walk passes a hole. Where no good frame was met behind one, its end is the only way to what stood there.
        let behind = self.holes.partition_point(|hole| hole.last < index).checked_sub(1);
        let hole = behind.and_then(|at| self.holes.get(at)).filter(|hole| hole.segment.seq == extent.segment.seq);
        let behind = hole.filter(|hole| hole.last >= point.index);
        let point = behind.map_or(*point, |hole| Point { index: hole.last + 1, at: hole.end, ..*point });
        Some(self.route_from(extent, &point))
    }

    /// A walk ends before the next hole.
    fn route_from(&self, extent: &Extent, point: &Point) -> Route {
        let hole = self.holes.partition_point(|hole| hole.last < point.index);
        let next = self.holes.get(hole).map_or(extent.next, |hole| extent.next.min(hole.first));
        Route { segment: extent.segment.clone(), point: *point, next, end: extent.end }
    }

    /// The damaged entries around this one: ranges that touch are one.
    pub(super) fn group_at(&self, index: u64) -> Option<(u64, u64)> {
        let at = self.holes.partition_point(|hole| hole.last < index);
        let hole = self.holes.get(at).filter(|hole| hole.first <= index)?;
        let (mut first, mut last) = (hole.first, hole.last);
        for before in self.holes.get(..at).unwrap_or_default().iter().rev() {
            if before.last + 1 != first {
                break;
            }
            first = before.first;
        }
        for next in self.holes.get(at + 1..).unwrap_or_default() {
            if next.first != last + 1 {
                break;
            }
            last = next.last;
        }
        Some((first, last))
    }

    /// Is this entry of the log in this segment?
    pub(super) fn holds(&self, seq: u64, index: u64) -> bool {
        self.extents.iter().any(|e| e.segment.seq == seq && (e.first..e.next).contains(&index))
    }

    /// The first segment of this number or later that takes no more frames, and the entries of the log in it.
    pub(super) fn at_rest(&self, seq: u64) -> Option<(Arc<Segment>, u64, u64)> {
        let extent = self.extents.iter().find(|e| e.segment.seq >= seq && e.first < e.next)?;
        (Some(extent.segment.seq) != self.active).then(|| (extent.segment.clone(), extent.first, extent.next))
    }

    /// Where to start a search for the last entry of which `before` holds; it must hold for a prefix of the log.
    pub(super) fn search(&self, before: impl Fn(&Point) -> bool) -> Option<Route> {
        let filled = |e: &&Extent| !e.points.is_empty();
        let extent = self.extents.iter().filter(filled).rev().find(|e| e.points.first().is_some_and(&before))?;
        let point = extent.points.partition_point(&before).checked_sub(1)?;
        Some(self.route_from(extent, extent.points.get(point)?))
    }
}
