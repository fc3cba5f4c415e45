//! The view against a plain list of entries and a set of damaged ones.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::wal::frame::{FRAME_HEADER_BYTES, time_key};
use crate::wal::hole::Hole;
use crate::wal::segment::Segment;
use crate::wal::view::Point;
use crate::{LogIndex, Position};

/// Bytes between points of the index.
const EVERY: u64 = 300;
/// The entry before the first one.
const START: u64 = 10;

/// An entry that stands, or stood before it was superseded, in a segment.
#[derive(Clone, Copy, Debug)]
struct Standing {
    seq: u64,
    header: EntryHeader,
    at: u64,
    end: u64,
}

impl Standing {
    fn index(&self) -> u64 {
        self.header.index.0
    }

    fn point(&self) -> Point {
        Point::of(&self.header, self.at)
    }
}

struct World {
    view: View,
    segments: Vec<Arc<Segment>>,
    /// The log in force.
    log: Vec<Standing>,
    /// All that was ever written, also what is superseded.
    written: Vec<Standing>,
    damaged: BTreeSet<u64>,
}

#[derive(Clone, Debug)]
enum Step {
    Push(u64),
    Begin { back: usize },
    Hole { pick: prop::sample::Index, entries: u64 },
    Close(prop::sample::Index),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (1..40_u64).prop_map(|eights| Step::Push(eights * 8)),
        1 => (0..6_usize).prop_map(|back| Step::Begin { back }),
        3 => (any::<prop::sample::Index>(), 1..5_u64).prop_map(|(pick, entries)| Step::Hole { pick, entries }),
        2 => any::<prop::sample::Index>().prop_map(Step::Close),
    ]
}

fn hole(segment: &Arc<Segment>, first: u64, last: u64, at: u64, end: u64) -> Hole {
    Hole { segment: segment.clone(), at, end, first, last, what: "rot".to_owned(), before: None }
}

fn segment(seq: u64) -> Arc<Segment> {
    Arc::new(Segment { name: format!("segment {seq}"), seq, uid: seq })
}

fn view() -> View {
    let position = Position { index: LogIndex(START), term: Term(1) };
    View::new(Start { position, chain: 0, next_offset: 20 }, EVERY)
}

/// Maximal runs of neighbours.
fn groups(set: &BTreeSet<u64>) -> Vec<(u64, u64)> {
    let mut groups: Vec<(u64, u64)> = Vec::new();
    for index in set {
        match groups.last_mut() {
            Some((_, last)) if *last + 1 == *index => *last = *index,
            _ => groups.push((*index, *index)),
        }
    }
    groups
}

/// What the view says of damage, entry by entry.
fn check_damage(view: &View, damaged: &BTreeSet<u64>, indexes: std::ops::RangeInclusive<u64>) {
    let groups = groups(damaged);
    let told: Vec<_> = view.damaged().iter().map(|range| (range.first.0, range.last.0)).collect();
    assert_eq!(told, groups);
    assert!(view.holes().windows(2).all(|w| w[0].last < w[1].first), "ascending and apart");
    for index in indexes {
        let group = groups.iter().copied().find(|(first, last)| (*first..=*last).contains(&index));
        assert_eq!(view.group_at(index), group, "{index}");
        assert_eq!(view.range_at(index).map(|range| (range.first.0, range.last.0)), group, "{index}");
        let hole = view.hole_at(index);
        assert_eq!(hole.is_some(), group.is_some(), "{index}");
        assert!(hole.is_none_or(|hole| (hole.first..=hole.last).contains(&index)), "{index}");
    }
}

impl World {
    fn new() -> Self {
        let mut world =
            Self { view: view(), segments: Vec::new(), log: Vec::new(), written: Vec::new(), damaged: BTreeSet::new() };
        assert_eq!((world.view.first(), world.view.next(), world.view.active), (START + 1, START + 1, None));
        world.take(Step::Begin { back: 0 });
        world
    }

    fn next(&self) -> u64 {
        START + 1 + self.log.len() as u64
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Push(bytes) => {
                let seq = self.segments.len() as u64;
                let at = self.written.iter().rfind(|s| s.seq == seq).map_or(SEGMENT_HEADER_BYTES as u64, |s| s.end);
                let index = self.next();
                let mut header = *after(None, 1, b"").header();
                (header.index, header.base_offset, header.time) = (LogIndex(index), 2 * index, Wall(index as i64));
                let standing = Standing { seq, header, at, end: at + bytes };
                self.view.push(&header, at, standing.end);
                self.log.push(standing);
                self.written.push(standing);
            }
            Step::Begin { back } => {
                self.log.truncate(self.log.len().saturating_sub(back));
                let base = self.next();
                self.damaged.retain(|index| *index < base);
                self.segments.push(segment(self.segments.len() as u64 + 1));
                self.view.begin(self.segments.last().unwrap().clone(), base, SEGMENT_HEADER_BYTES as u64);
            }
            Step::Hole { pick, entries } => self.find(pick, entries),
            Step::Close(pick) => self.close(pick),
        }
        self.check();
    }

    /// A read meets damage in a file, of the log in force or of what is superseded.
    fn find(&mut self, pick: prop::sample::Index, entries: u64) {
        let Some(first) = (!self.written.is_empty()).then(|| *pick.get(&self.written)) else { return };
        let in_file = |index: u64| self.written.iter().find(|s| s.seq == first.seq && s.index() == index);
        let in_log = |s: &Standing| self.log.iter().any(|l| (l.seq, l.at) == (s.seq, s.at));
        let mut last = first;
        // It ends before the next good frame.
        while let Some(next) = in_file(last.index() + 1)
            && (last.index() + 1 < first.index() + entries || in_log(next) && self.damaged.contains(&next.index()))
        {
            last = *next;
        }
        let after = in_file(last.index() + 1).map(Standing::point);
        let segment = self.segments[first.seq as usize - 1].clone();
        let new = (first.index()..=last.index())
            .filter(|index| in_log(&first) && in_file(*index).is_some_and(in_log) && !self.damaged.contains(index));
        let new: Vec<u64> = new.collect();
        self.damaged.extend(&new);
        let hole = hole(&segment, first.index(), last.index(), first.at, last.end);
        let told = self.view.found_hole(hole, after);
        assert_eq!(told.map(|range| range.first.0), new.first().copied());
    }

    /// A repair has written the entries of one hole.
    fn close(&mut self, pick: prop::sample::Index) {
        let holes = self.view.holes();
        let Some(hole) = (!holes.is_empty()).then(|| pick.get(holes).clone()) else { return };
        // Also of the entries around it, one of which may be superseded.
        let near = (hole.first..=hole.last + 1).filter(|index| !self.damaged.contains(index) || *index <= hole.last);
        let near: Vec<u64> = near.collect();
        let of_segment = self.written.iter().filter(|s| s.seq == hole.segment.seq);
        let points: Vec<Point> = of_segment.filter(|s| near.contains(&s.index())).map(Standing::point).collect();
        self.view.close_holes(hole.segment.seq, hole.first, hole.last, &points);
        self.damaged.retain(|index| !(hole.first..=hole.last).contains(index));
    }

    fn check(&self) {
        let (view, active) = (&self.view, self.segments.len() as u64);
        assert_eq!((view.first(), view.next(), view.active), (START + 1, self.next(), Some(active)));
        check_damage(view, &self.damaged, 0..=self.next() + 1);
        for index in 0..=self.next() + 1 {
            let standing = index.checked_sub(START + 1).and_then(|at| self.log.get(at as usize));
            let route = view.route(index);
            let Some(standing) = standing.filter(|_| !self.damaged.contains(&index)) else {
                assert!(route.is_none(), "there is no way to {index}");
                continue;
            };
            let route = route.unwrap_or_else(|| panic!("there is a way to {index}"));
            self.check_route(&route, standing);
        }
        let seqs = 0..=active + 1;
        for seq in seqs {
            for index in 0..=self.next() + 1 {
                let holds = self.log.iter().any(|s| s.seq == seq && s.index() == index);
                assert_eq!(view.holds(seq, index), holds, "{index} in {seq}");
            }
            // Segments without an entry in force are not worth a scrub; the active one is not at rest.
            let next = self.log.iter().find(|s| s.seq >= seq).map(|s| s.seq).filter(|seq| *seq != active);
            let at_rest = next.map(|seq| {
                let of: Vec<u64> = self.log.iter().filter(|s| s.seq == seq).map(Standing::index).collect();
                (seq, of[0], of[of.len() - 1] + 1)
            });
            let told = view.at_rest(seq).map(|(segment, first, next)| (segment.seq, first, next));
            assert_eq!(told, at_rest, "from {seq}");
        }
        self.check_search();
    }

    /// From the point on, every frame up to the entry is good; and no walk goes on into damage or superseded entries.
    fn check_route(&self, route: &crate::wal::view::Route, standing: &Standing) {
        let index = standing.index();
        assert!(route.point.index <= index && index < route.next, "{index}: {route:?}");
        let way: Vec<_> = self.log.iter().filter(|s| (route.point.index..route.next).contains(&s.index())).collect();
        assert_eq!(way[0].point(), route.point);
        assert!(way.iter().all(|s| s.seq == route.segment.seq && !self.damaged.contains(&s.index())), "{route:?}");
        let goes_on = self
            .log
            .iter()
            .any(|s| s.seq == standing.seq && s.index() == route.next && !self.damaged.contains(&route.next));
        assert!(!goes_on, "{route:?} could go on");
        let end = self.written.iter().rfind(|s| s.seq == standing.seq).map(|s| s.end);
        assert_eq!(Some(route.end), end);
    }

    /// The last entry for which something holds stands behind the last point for which it holds.
    fn check_search(&self) {
        let points: Vec<Point> = self.view.extents.iter().flat_map(|extent| extent.points.clone()).collect();
        assert!(points.windows(2).all(|w| w[0].index < w[1].index), "{points:?}");
        for point in &points {
            let at = self.log.iter().find(|s| s.index() == point.index).map(Standing::point);
            assert_eq!(at.as_ref(), Some(point), "a point is an entry of the log in force");
        }
        for limit in 0..=2 * self.next() + 2 {
            let found = self.view.search(|point| point.offset < limit).map(|route| route.point);
            assert_eq!(found, points.iter().rfind(|point| point.offset < limit).copied(), "below {limit}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: Sweep::random(400), failure_persistence: None, ..ProptestConfig::default()
    })]

    /// Each entry in force is reached from a point before it, through good frames of its own segment; damaged and
    /// superseded ones are not reached at all.
    #[test]
    fn the_way_to_an_entry_is_good(steps in prop::collection::vec(step(), 1..60)) {
        let mut world = World::new();
        for step in steps {
            world.take(step);
        }
    }

    /// Damage that a start finds, in any order and twice, is a set of entries.
    #[test]
    fn damage_is_a_set(ranges in prop::collection::vec((1..60_u64, 1..6_u64), 1..20)) {
        let mut view = view();
        let mut damaged = BTreeSet::new();
        for (first, len) in ranges {
            damaged.extend(first..first + len);
            view.add_holes(vec![hole(&segment(first / 16), first, first + len - 1, first * 100, (first + len) * 100)]);
            check_damage(&view, &damaged, 0..=70);
            for hole in view.holes() {
                assert_eq!((hole.at, hole.end), (hole.first * 100, (hole.last + 1) * 100));
            }
        }
    }
}

/// A rotten disk does not fill the memory: one range too many of a segment is added to the one before it, with all
/// between; another segment has its own.
#[test]
fn ranges_are_bounded() {
    let (mut view, one) = (view(), segment(1));
    let max = crate::wal::DAMAGED_RANGES_MAX as u64;
    view.add_holes((1..=max).map(|n| hole(&one, 10 * n, 10 * n, 1_000 * n, 1_000 * n + 100)).collect());
    assert_eq!(view.holes().len() as u64, max);
    let last = 10 * max;
    view.add_holes(vec![hole(&one, last + 5, last + 6, 1_000 * max + 500, 1_000 * max + 700)]);
    assert_eq!(view.holes().len() as u64, max);
    let grown = view.hole_at(last + 3).unwrap();
    assert_eq!((grown.first, grown.last, grown.at, grown.end), (last, last + 6, 1_000 * max, 1_000 * max + 700));
    assert!(view.hole_at(last + 7).is_none());
    // Before all others there is none to add it to, and in another segment none either.
    view.add_holes(vec![hole(&one, 5, 5, 50, 60)]);
    view.add_holes(vec![hole(&segment(2), last + 20, last + 20, 0, 100)]);
    assert_eq!(view.holes().len() as u64, max + 2);
}

/// A point says where an entry stands by its keys, from the entry or from the frame header alone.
#[test]
fn points_of_entries_and_frames_are_the_same() {
    let entry = after(None, 1, b"x");
    let mut bytes = Vec::new();
    frame::encode(&mut bytes, 5, 4096, 0, &entry);
    let header = frame::decode_header(&bytes[..FRAME_HEADER_BYTES], 5, 4096).unwrap();
    assert_eq!(Point::before(&header, 4096), Point::of(entry.header(), 4096));
    assert_eq!(Point::of(entry.header(), 4096).time, time_key(entry.header().time));
    let times = [i64::MIN, -1, 0, 1, i64::MAX].map(|time| time_key(Wall(time)));
    assert!(times.is_sorted() && times[0] == 0 && times[4] == u64::MAX);
}
