//! The view: which segment holds which entries of the log in force, with a sparse index into each.
//!
//! It never holds entries: one point per 64 KiB of log, so that 10 GiB of log cost a few MiB of memory.

use std::sync::Arc;

use super::damaged::DamagedRange;
use super::entry::EntryHeader;
use super::frame::time_key;
use super::meta::Start;

/// A segment file as readers know it.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) name: String,
    pub(super) seq: u64,
    pub(super) uid: u64,
}

/// Where one entry stands in its segment, and its keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Point {
    pub(super) index: u64,
    pub(super) at: u64,
    pub(super) offset: u64,
    pub(super) time: u64,
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
    pub(super) damaged: Vec<DamagedRange>,
    /// Bytes of all segment files.
    pub(super) bytes: u64,
    index_every: u64,
}

impl View {
    pub(super) fn new(start: Start, index_every: u64) -> Self {
        Self { start, extents: Vec::new(), damaged: Vec::new(), bytes: 0, index_every }
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
        while self.extents.last().is_some_and(|e| e.first >= base) {
            self.extents.pop();
        }
        if let Some(last) = self.extents.last_mut() {
            last.next = last.next.min(base);
            let keep = last.points.partition_point(|p| p.index < base);
            last.points.truncate(keep);
        }
        self.extents.push(Extent { segment, first: base, next: base, end, points: Vec::new() });
    }

    /// The newest segment now holds this entry at `at`, and ends at `end`.
    pub(super) fn push(&mut self, header: &EntryHeader, at: u64, end: u64) {
        let every = self.index_every;
        let Some(extent) = self.extents.last_mut() else { return };
        debug_assert_eq!(extent.next, header.index.0);
        if extent.points.last().is_none_or(|p| at - p.at >= every) {
            extent.points.push(Point {
                index: header.index.0,
                at,
                offset: header.base_offset,
                time: time_key(header.time),
            });
        }
        extent.next = header.index.0 + 1;
        extent.end = end;
    }

    /// The damaged range that holds this entry.
    pub(super) fn damage_at(&self, index: u64) -> Option<&DamagedRange> {
        let at = self.damaged.partition_point(|d| d.last.0 < index);
        self.damaged.get(at).filter(|d| d.first.0 <= index)
    }

    /// Where to start reading for the entry `index`; `None` if there is none.
    pub(super) fn route(&self, index: u64) -> Option<Route> {
        let at = self.extents.partition_point(|e| e.first <= index).checked_sub(1)?;
        let extent = self.extents.get(at)?;
        if index >= extent.next {
            return None;
        }
        let point = extent.points.partition_point(|p| p.index <= index).checked_sub(1)?;
        Some(extent.route(extent.points.get(point)?))
    }

    /// Where to start a search for the last entry of which `before` holds; it must hold for a prefix of the log.
    pub(super) fn search(&self, before: impl Fn(&Point) -> bool) -> Option<Route> {
        let filled = |e: &&Extent| !e.points.is_empty();
        let extent = self.extents.iter().filter(filled).rev().find(|e| e.points.first().is_some_and(&before))?;
        let point = extent.points.partition_point(&before).checked_sub(1)?;
        Some(extent.route(extent.points.get(point)?))
    }
}

impl Extent {
    fn route(&self, point: &Point) -> Route {
        Route { segment: self.segment.clone(), point: *point, next: self.next, end: self.end }
    }
}
