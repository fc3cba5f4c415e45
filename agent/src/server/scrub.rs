//! The scrubber: reads the whole log again and again, slowly, so that damage is found while others still hold what it hit.
//!
//! It repairs nothing and decides nothing: what it finds, the node hears. A first cycle begins soon after a start, then one
//! a week. It yields to writes: it works in short stretches with a rest between them, compares how long syncs take in both,
//! and slows down while they take longer beside it.

use crate::api::ScrubState;
use quorate_raft::wal::{Reader, ScrubCursor};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
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
const SLOWER_MAX_PERCENT: u64 = 15;
/// Fewer syncs than this say nothing.
const SYNCS_MIN: u64 = 8;
/// How soon it hears that the agent stops.
const NAP: Duration = Duration::from_millis(200);

/// What the scrubber shares with the thread that writes, and with `status`.
#[derive(Debug)]
pub(super) struct Scrub {
    rate_max: u64,
    state: Mutex<ScrubState>,
    syncs: AtomicU64,
    syncs_us: AtomicU64,
}

/// Syncs in some stretch of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Syncs {
    count: u64,
    us: u64,
}

impl Syncs {
    fn since(self, before: Self) -> Self {
        Self { count: self.count.saturating_sub(before.count), us: self.us.saturating_sub(before.us) }
    }

    /// What was seen counts half as much with each new stretch.
    fn and(self, more: Self) -> Self {
        Self { count: self.count / 2 + more.count, us: self.us / 2 + more.us }
    }

    fn mean_us(self) -> Option<u64> {
        (self.count >= SYNCS_MIN).then(|| self.us / self.count)
    }
}

/// The rate to go on with, given what syncs cost beside the scrubber and in its rests.
fn next_rate(rate: u64, rate_max: u64, beside: Syncs, alone: Syncs) -> u64 {
    let is_slower = match (beside.mean_us(), alone.mean_us()) {
        (Some(beside), Some(alone)) => beside.saturating_mul(100) > alone.saturating_mul(100 + SLOWER_MAX_PERCENT),
        // Nobody writes, or nobody can tell.
        _ => false,
    };
    let next = if is_slower { rate / 4 * 3 } else { rate + rate / 8 + 1 };
    next.clamp(RATE_MIN.min(rate_max), rate_max)
}

impl Scrub {
    pub(super) fn new(rate_max: u64) -> Self {
        let state = Mutex::new(ScrubState { bytes_per_second: rate_max, ..ScrubState::default() });
        Self { rate_max, state, syncs: AtomicU64::new(0), syncs_us: AtomicU64::new(0) }
    }

    /// The log was synced, which took so long.
    pub(super) fn synced(&self, took: Duration) {
        self.syncs_us.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.syncs.fetch_add(1, Ordering::Relaxed);
    }

    fn syncs(&self) -> Syncs {
        Syncs { count: self.syncs.load(Ordering::Relaxed), us: self.syncs_us.load(Ordering::Relaxed) }
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

    fn syncs(count: u64, mean_us: u64) -> Syncs {
        Syncs { count, us: count * mean_us }
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
}
