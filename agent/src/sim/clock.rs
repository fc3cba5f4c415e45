//! Clock: the monotonic clock of a process, which may run fast or slow.
//!
//! It never goes back, whatever its pace becomes.

use quorate_raft::Mono;

/// The pace of a true clock.
pub(super) const TRUE_PACE: u64 = 1000;

/// A clock that started at some moment, with some reading, at some pace.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    since: u64,
    reading: u64,
    /// Its microseconds in a thousand true ones.
    pace: u64,
}

impl Clock {
    pub(super) fn new(since: u64, reading: u64, pace: u64) -> Self {
        Self { since, reading, pace: pace.max(1) }
    }

    /// What it says at this moment.
    pub(super) fn read(&self, at: u64) -> Mono {
        Mono(self.reading + at.saturating_sub(self.since) * self.pace / 1000)
    }

    /// The first moment at which it says at least this.
    pub(super) fn when(&self, mono: Mono) -> u64 {
        self.since + (mono.0.saturating_sub(self.reading) * 1000).div_ceil(self.pace)
    }

    /// From now on it runs at this pace.
    pub(super) fn set_pace(&mut self, at: u64, pace: u64) {
        *self = Self::new(at, self.read(at).0, pace);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_wakes_neither_early_nor_late_and_never_goes_back() {
        for pace in [1, 250, 999, 1000, 1001, 3000] {
            let mut clock = Clock::new(500, 70, pace);
            for mono in [70, 71, 100, 12_345] {
                let when = clock.when(Mono(mono));
                assert!(clock.read(when).0 >= mono, "{pace} {mono}");
                assert!(when == 500 || clock.read(when - 1).0 < mono, "{pace} {mono}");
            }
            let before = clock.read(9_000);
            clock.set_pace(9_000, 10);
            assert_eq!(clock.read(9_000), before);
        }
    }
}
