//! The log's time: close to the voters' clocks, never backwards, never led astray by one bad clock.
//!
//! What others said is kept against our monotonic clock, never against our wall clock: when that one jumps, theirs must
//! not seem to jump along.

use quorate_raft::{Mono, Now, Wall, mutant};
use std::collections::BTreeMap;

/// How far ahead of the voters' median the log's time may run, in microseconds.
const AHEAD_MAX_US: i64 = 1_000_000;

/// What this node knows of other clocks.
#[derive(Clone, Debug, Default)]
pub(super) struct Clocks {
    /// A peer's wall clock minus our monotonic one when its last message came in, in microseconds.
    offsets: BTreeMap<u64, i64>,
}

fn micros(mono: Mono) -> i64 {
    i64::try_from(mono.0).unwrap_or(i64::MAX)
}

impl Clocks {
    /// A message of this peer that came at `at` said what its clock says.
    pub(super) fn heard(&mut self, node: u64, theirs: Wall, at: Mono) {
        self.offsets.insert(node, theirs.0.saturating_sub(micros(at)));
    }

    /// The peer is gone.
    pub(super) fn forget(&mut self, node: u64) {
        self.offsets.remove(&node);
    }

    /// What the clock of this peer says now, as far as its last message tells.
    fn read(&self, node: u64, now: Now) -> Option<i64> {
        self.offsets.get(&node).map(|offset| offset.saturating_add(micros(now.mono)))
    }

    /// How far the clock of this peer is ahead of ours, in microseconds; none if it was not heard.
    pub(super) fn ahead(&self, node: u64, now: Now) -> Option<i64> {
        self.read(node, now).map(|theirs| theirs.saturating_sub(now.wall.0))
    }

    /// The median of the voters' clocks, `own` among them if it votes; voters not heard do not count. None if those that
    /// count are no majority: whoever has just lost its connections would be the only one that it asks.
    pub(super) fn median(&self, now: Now, own: u64, voters: impl Iterator<Item = u64>) -> Option<Wall> {
        let mut all = 0;
        let read = |v| if v == own { Some(now.wall.0) } else { self.read(v, now) };
        let mut clocks: Vec<i64> = voters.inspect(|_| all += 1).filter_map(read).collect();
        clocks.sort_unstable();
        // The lower median: with two clocks the slower one decides, and time never waits for a fast liar.
        let median = clocks.get(clocks.len().saturating_sub(1) / 2).copied().map(Wall);
        median.filter(|_| clocks.len() > all / 2)
    }

    /// The time of a new entry: `clamp(ours, previous + 1 µs, median + 1 s)`. Where no median is known, time stands still.
    pub(super) fn log_time(ours: Wall, median: Option<Wall>, previous: Option<Wall>) -> Wall {
        let furthest = match (median, previous) {
            _ if mutant!(OneClockSteers) => i64::MAX,
            (Some(median), _) => median.0.saturating_add(AHEAD_MAX_US),
            (None, Some(previous)) => previous.0,
            // The first entry of a log, whose only voter is here.
            (None, None) => ours.0,
        };
        let bounded = ours.0.min(furthest);
        match previous {
            Some(previous) if !mutant!(TimeGoesBack) => Wall(bounded.max(previous.0.saturating_add(1))),
            _ => Wall(bounded),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now(mono: u64, wall: i64) -> Now {
        Now { mono: Mono(mono), wall: Wall(wall) }
    }

    #[test]
    fn time_never_decreases_and_one_fast_clock_is_held_back() {
        let mut clocks = Clocks::default();
        clocks.heard(2, Wall(100), Mono(7));
        clocks.heard(3, Wall(110), Mono(7));
        let median = clocks.median(now(7, 1_000_000_100), 1, [1, 2, 3].into_iter());
        assert_eq!(median, Some(Wall(110)));
        assert_eq!(Clocks::log_time(Wall(1_000_000_100), median, None), Wall(1_000_110));
        assert_eq!(Clocks::log_time(Wall(5), Some(Wall(5)), Some(Wall(9))), Wall(10));
        assert_eq!(Clocks::log_time(Wall(50), Some(Wall(50)), Some(Wall(9))), Wall(50));
    }

    /// Between two messages of the others our own clock jumps: theirs go on as they did, and the very next entry already
    /// stays with them.
    #[test]
    fn a_jump_of_our_own_clock_moves_nobody_elses() {
        let mut clocks = Clocks::default();
        clocks.heard(2, Wall(1_000), Mono(50));
        clocks.heard(3, Wall(1_001), Mono(50));
        let jumped = now(60, 1 << 60);
        let median = clocks.median(jumped, 1, [1, 2, 3].into_iter());
        assert_eq!(median, Some(Wall(1_011)));
        assert_eq!(Clocks::log_time(jumped.wall, median, Some(Wall(1_000))), Wall(1_001_011));
        assert_eq!(clocks.ahead(2, now(60, 1_000)), Some(10));
    }

    /// Our clock alone is no median of three: time stands still until a majority is heard again.
    #[test]
    fn without_a_majority_of_clocks_time_stands_still() {
        let mut clocks = Clocks::default();
        let jumped = now(60, 1 << 60);
        assert_eq!(clocks.median(jumped, 1, [1].into_iter()), Some(jumped.wall));
        let alone = clocks.median(jumped, 1, [1, 2, 3].into_iter());
        assert_eq!(alone, None);
        assert_eq!(Clocks::log_time(jumped.wall, alone, Some(Wall(1_000))), Wall(1_001));
        clocks.heard(2, Wall(1_000), Mono(50));
        assert_eq!(clocks.median(jumped, 1, [1, 2, 3].into_iter()), Some(Wall(1_010)));
        clocks.forget(2);
        assert_eq!(clocks.median(jumped, 1, [1, 2, 3].into_iter()), None);
    }
}
