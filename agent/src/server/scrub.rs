//! The scrubber: reads the whole log again and again, slowly, so that damage is found while others still hold what it hit.
//!
//! It repairs nothing and decides nothing: what it finds, the node hears. A first cycle begins soon after a start, then one
//! a week. It yields to writes: it works in short stretches with a rest between them, compares how long syncs take in both,
//! and slows down while they take longer beside it.

use crate::api::ScrubState;
use quorate_raft::wal::{Reader, ScrubCursor};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

/// After a start, before the first cycle: what a start needs from the disk comes first.
const BEGIN_AFTER: Duration = Duration::from_secs(10);
/// From the end of a cycle to the next one.
const CYCLE_EVERY: Duration = Duration::from_secs(7 * 86_400);
/// Bytes of one step.
const STEP_BYTES: u64 = 1 << 20;
/// How long it works at a stretch, and rests: a rest shows what syncs cost without it.
const WORK: Duration = Duration::from_millis(400);
const REST: Duration = Duration::from_millis(100);
/// Never slower than this, or a large log would never be read: bytes a second.
const RATE_MIN: u64 = 4 << 20;
/// Syncs beside it may take so much longer than in its rests, in percent, before it slows down.
const SLOWER_MAX_PERCENT: f64 = 15.0;
/// And that by so many standard errors: the times of syncs vary by themselves, and more on a machine that does much else.
const SURE: f64 = 2.0;
/// Fewer syncs than this say nothing.
const SYNCS_MIN: f64 = 16.0;
/// What was seen before counts so much less with each stretch: the last four seconds or so decide.
const FADES: f64 = 0.875;
/// How soon it hears that the agent stops.
const NAP: Duration = Duration::from_millis(200);

/// What the scrubber shares with the thread that writes, and with `status`.
#[derive(Debug)]
pub(super) struct Scrub {
    rate_max: u64,
    state: Mutex<ScrubState>,
    syncs: Mutex<Syncs>,
}

/// Syncs in some stretch of time: how many, the sum of their times in microseconds, and of the squares of those.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Syncs {
    count: f64,
    us: f64,
    squares: f64,
}

impl Syncs {
    fn since(self, before: Self) -> Self {
        Self { count: self.count - before.count, us: self.us - before.us, squares: self.squares - before.squares }
    }

    fn and(self, more: Self) -> Self {
        Self {
            count: self.count * FADES + more.count,
            us: self.us * FADES + more.us,
            squares: self.squares * FADES + more.squares,
        }
    }

    /// The mean, and the square of its standard error.
    fn mean(self) -> Option<(f64, f64)> {
        (self.count >= SYNCS_MIN).then(|| {
            let mean = self.us / self.count;
            let variance = (self.squares / self.count - mean * mean).max(0.0);
            (mean, variance / self.count)
        })
    }
}

/// The rate to go on with, given what syncs cost beside the scrubber and in its rests.
fn next_rate(rate: u64, rate_max: u64, beside: Syncs, alone: Syncs) -> u64 {
    let is_slower = match (beside.mean(), alone.mean()) {
        (Some((beside, of_beside)), Some((alone, of_alone))) => {
            let allowed = alone * (1.0 + SLOWER_MAX_PERCENT / 100.0);
            beside - allowed > SURE * (of_beside + of_alone).sqrt()
        }
        // Nobody writes, or nobody can tell.
        _ => false,
    };
    let next = if is_slower { rate / 4 * 3 } else { rate + rate / 8 + 1 };
    next.clamp(RATE_MIN.min(rate_max), rate_max)
}

impl Scrub {
    pub(super) fn new(rate_max: u64) -> Self {
        let state = Mutex::new(ScrubState { bytes_per_second: rate_max, ..ScrubState::default() });
        Self { rate_max, state, syncs: Mutex::default() }
    }

    /// The log was synced, which took so long.
    pub(super) fn synced(&self, took: Duration) {
        let us = took.as_secs_f64() * 1e6;
        let mut syncs = self.syncs.lock().unwrap_or_else(PoisonError::into_inner);
        *syncs = Syncs { count: syncs.count + 1.0, us: syncs.us + us, squares: syncs.squares + us * us };
    }

    fn syncs(&self) -> Syncs {
        *self.syncs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For `status`.
    pub(super) fn state(&self) -> ScrubState {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, change: impl FnOnce(&mut ScrubState)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Runs until the agent stops. `found` is called when there may be news.
    pub(super) fn run(&self, reader: &Reader, alive: &Weak<AtomicBool>, found: impl Fn()) {
        let mut rate = self.rate_max;
        let (mut beside, mut alone) = (Syncs::default(), Syncs::default());
        let mut pause = BEGIN_AFTER;
        while nap(pause, alive) {
            pause = CYCLE_EVERY;
            let mut cursor = Some(ScrubCursor::default());
            while let Some(from) = cursor {
                let begun = self.syncs();
                match self.stretch(reader, from, rate, alive, &found) {
                    Some(next) => cursor = next,
                    None => return,
                }
                beside = beside.and(self.syncs().since(begun));
                let rested = self.syncs();
                if cursor.is_some() && !nap(REST, alive) {
                    return;
                }
                alone = alone.and(self.syncs().since(rested));
                rate = next_rate(rate, self.rate_max, beside, alone);
                self.note(|state| state.bytes_per_second = rate);
            }
            self.note(|state| {
                state.cycles += 1;
                state.bytes = 0;
            });
        }
    }

    /// One stretch of work: where to go on, or none inside at the end of the cycle. `None` if the agent stops.
    #[expect(clippy::option_option, reason = "the end of a cycle is not the end of the agent")]
    fn stretch(
        &self,
        reader: &Reader,
        from: ScrubCursor,
        rate: u64,
        alive: &Weak<AtomicBool>,
        found: impl Fn(),
    ) -> Option<Option<ScrubCursor>> {
        let begun = Instant::now();
        let (mut cursor, mut bytes) = (from, 0_u64);
        while begun.elapsed() < WORK {
            if alive.upgrade().is_none_or(|stopping| stopping.load(Ordering::Relaxed)) {
                return None;
            }
            let step = match reader.scrub(cursor, STEP_BYTES) {
                Ok(step) => step,
                Err(error) => {
                    tracing::warn!("the scrubber cannot read the log: {error}; it tries again with the next cycle");
                    return Some(None);
                }
            };
            bytes += step.bytes;
            self.note(|state| {
                state.bytes += step.bytes;
                state.bytes_total += step.bytes;
                state.errors += step.damaged.len() as u64;
            });
            if !step.damaged.is_empty() {
                found();
            }
            match step.next {
                Some(next) => cursor = next,
                None => return Some(None),
            }
            // The rest counts as time: over both, the rate is held.
            let due = Duration::from_secs_f64(bytes as f64 / rate.max(1) as f64).mul_f64(share_of_work());
            thread::sleep(due.saturating_sub(begun.elapsed()).min(WORK));
        }
        Some(Some(cursor))
    }
}

fn share_of_work() -> f64 {
    WORK.as_secs_f64() / (WORK + REST).as_secs_f64()
}

/// Sleeps; false if the agent stops.
fn nap(time: Duration, alive: &Weak<AtomicBool>) -> bool {
    let begun = Instant::now();
    loop {
        if alive.upgrade().is_none_or(|stopping| stopping.load(Ordering::Relaxed)) {
            return false;
        }
        let left = time.saturating_sub(begun.elapsed());
        if left.is_zero() {
            return true;
        }
        thread::sleep(left.min(NAP));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Half of them a fifth longer than this, half of them a fifth shorter.
    fn syncs(count: u64, mean_us: u64) -> Syncs {
        let (count, mean) = (count as f64, mean_us as f64);
        Syncs { count, us: count * mean, squares: count * mean * mean * 1.04 }
    }

    #[test]
    fn it_yields_while_writes_suffer_and_comes_back() {
        let max = 256 << 20;
        let mut rate = max;
        for _ in 0..50 {
            rate = next_rate(rate, max, syncs(100, 1_500), syncs(100, 1_000));
        }
        assert_eq!(rate, RATE_MIN);
        assert!(next_rate(rate, max, syncs(100, 1_140), syncs(100, 1_000)) > rate, "a little slower is allowed");
        for _ in 0..50 {
            rate = next_rate(rate, max, syncs(100, 1_000), syncs(100, 1_000));
        }
        assert_eq!(rate, max);
        assert_eq!(next_rate(max, max, syncs(3, 9_000), syncs(100, 1_000)), max, "three syncs say nothing");
        assert_eq!(next_rate(1, 1, syncs(0, 0), syncs(0, 0)), 1, "never more than was allowed");
    }

    /// Times that vary by a factor of ten and have one mean: now and then one of both looks slower, and it stays fast.
    #[test]
    fn chance_does_not_slow_it_down() {
        let max = 256 << 20;
        let (mut rate, mut slow, mut seed) = (max, 0, 1_u64);
        let (mut beside, mut alone) = (Syncs::default(), Syncs::default());
        let mut some = |count: usize| {
            let mut syncs = Syncs::default();
            for _ in 0..count {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let us = if seed >> 60 == 0 { 20_000.0 } else { 1_000.0 + (seed >> 54) as f64 };
                syncs = Syncs { count: syncs.count + 1.0, us: syncs.us + us, squares: syncs.squares + us * us };
            }
            syncs
        };
        for _ in 0..1_000 {
            beside = beside.and(some(80));
            alone = alone.and(some(20));
            rate = next_rate(rate, max, beside, alone);
            slow += usize::from(rate < max / 5 * 4);
        }
        assert!(slow < 100, "{slow} of a thousand stretches below four fifths of the rate");
    }
}
