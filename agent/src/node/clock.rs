//! The log's time: close to the voters' clocks, never backwards, never led astray by one bad clock.

use quorate_raft::Wall;
use std::collections::BTreeMap;

/// How far ahead of the voters' median the log's time may run, in microseconds.
const AHEAD_MAX_US: i64 = 1_000_000;

/// What this node knows of other clocks.
#[derive(Clone, Debug, Default)]
pub(super) struct Clocks {
    /// Peer's clock minus ours when its last message came in, in microseconds.
    offsets: BTreeMap<u64, i64>,
}

impl Clocks {
    /// A message of this peer said `theirs` when our clock said `ours`.
    pub(super) fn heard(&mut self, node: u64, theirs: Wall, ours: Wall) {
        self.offsets.insert(node, theirs.0.saturating_sub(ours.0));
    }

    /// The peer is gone.
    pub(super) fn forget(&mut self, node: u64) {
        self.offsets.remove(&node);
    }

    /// How far the median of the voters' clocks is ahead of ours, in microseconds; voters not heard do not count.
    pub(super) fn median_offset(&self, own: u64, voters: impl Iterator<Item = u64>) -> i64 {
        let offset = |v| if v == own { Some(0) } else { self.offsets.get(&v).copied() };
        let mut offsets: Vec<i64> = voters.filter_map(offset).collect();
        offsets.sort_unstable();
        // The lower median: with two clocks the slower one decides, and time never waits for a fast liar.
        offsets.get(offsets.len().saturating_sub(1) / 2).copied().unwrap_or(0)
    }

    /// The time of a new entry: `clamp(ours, previous + 1 µs, median + 1 s)`.
    pub(super) fn log_time(ours: Wall, median_offset: i64, previous: Option<Wall>) -> Wall {
        let bounded = ours.0.min(ours.0.saturating_add(median_offset).saturating_add(AHEAD_MAX_US));
        match previous {
            Some(previous) => Wall(bounded.max(previous.0.saturating_add(1))),
            None => Wall(bounded),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_never_decreases_and_one_fast_clock_is_held_back() {
        let mut clocks = Clocks::default();
        clocks.heard(2, Wall(100), Wall(1_000_000_100));
        clocks.heard(3, Wall(110), Wall(1_000_000_100));
        let median = clocks.median_offset(1, [1, 2, 3].into_iter());
        assert_eq!(median, -999_999_990);
        assert_eq!(Clocks::log_time(Wall(1_000_000_100), median, None), Wall(1_000_110));
        assert_eq!(Clocks::log_time(Wall(5), 0, Some(Wall(9))), Wall(10));
        assert_eq!(Clocks::log_time(Wall(50), 0, Some(Wall(9))), Wall(50));
    }
}
