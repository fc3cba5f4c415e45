//! Stages: where the time of an append goes, as this agent measures it.
//!
//! It never keeps more than two windows, so that what it says is about now.

use super::Node;
use crate::api::{AppendStages, Latency};
use hdrhistogram::Histogram;
use quorate_raft::{Mono, Now, PersistTicket};
use std::collections::VecDeque;
use std::time::Duration;

/// Samples are kept for one to two of these.
const WINDOW: Duration = Duration::from_secs(30);
/// The longest time that is told apart, in microseconds.
const LONGEST_US: u64 = 60_000_000;
/// Two digits: a percent is finer than anybody needs, and a window takes some 20 KiB a stage.
const DIGITS: u8 = 2;

/// One stage in the present window and the one before.
#[derive(Debug)]
struct Stage {
    now: Histogram<u32>,
    before: Histogram<u32>,
}

impl Default for Stage {
    fn default() -> Self {
        let empty = || Histogram::new_with_bounds(1, LONGEST_US, DIGITS).expect("the bounds are constants and legal");
        Self { now: empty(), before: empty() }
    }
}

impl Stage {
    fn add(&mut self, took: Duration) {
        self.now.saturating_record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }

    fn turn(&mut self) {
        std::mem::swap(&mut self.now, &mut self.before);
        self.now.reset();
    }

    fn latency(&self) -> Latency {
        let mut both = self.before.clone();
        // The same bounds, so it cannot fail.
        let _ = both.add(&self.now);
        let at = |q: f64| both.value_at_quantile(q);
        let max = if both.is_empty() { 0 } else { both.max() };
        Latency { count: both.len(), p50_us: at(0.5), p90_us: at(0.9), p99_us: at(0.99), max_us: max }
    }
}

/// All stages of the appends that this agent led, and of its own disk.
#[derive(Debug, Default)]
pub(super) struct Stages {
    queue: Stage,
    fsync: Stage,
    replicate: Stage,
    total: Stage,
    /// Writes on their way to the disk, in order.
    writing: VecDeque<(PersistTicket, Mono)>,
    turned: Mono,
}

impl Stages {
    /// A write with entries goes to the disk.
    pub(super) fn writes(&mut self, now: Mono, ticket: PersistTicket) {
        self.writing.push_back((ticket, now));
    }

    /// Everything up to `ticket` is durable.
    fn written(&mut self, now: Mono, ticket: PersistTicket) {
        while let Some((write, since)) = self.writing.front().copied()
            && write <= ticket
        {
            self.writing.pop_front();
            self.fsync.add(now.since(since));
        }
    }

    /// An entry is committed: proposed at `proposed`, made of appends that came at these moments.
    pub(super) fn committed(&mut self, now: Mono, proposed: Mono, came: impl Iterator<Item = Mono>) {
        self.replicate.add(now.since(proposed));
        for came in came {
            self.queue.add(proposed.since(came));
            self.total.add(now.since(came));
        }
    }

    /// The window moves on.
    pub(super) fn turn(&mut self, now: Mono) {
        if now.since(self.turned) >= WINDOW {
            self.turned = now;
            for stage in [&mut self.queue, &mut self.fsync, &mut self.replicate, &mut self.total] {
                stage.turn();
            }
        }
    }

    /// The picture for people.
    pub(super) fn picture(&self) -> AppendStages {
        AppendStages {
            queue: self.queue.latency(),
            fsync: self.fsync.latency(),
            replicate: self.replicate.latency(),
            total: self.total.latency(),
        }
    }
}

impl Node {
    /// Everything up to this write is durable.
    pub(super) fn written(&mut self, now: Now, ticket: PersistTicket) {
        self.stages.written(now.mono, ticket);
        self.truncating = self.truncating.filter(|last| *last > ticket);
        self.raft.handle(now, quorate_raft::Input::Persisted { ticket });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stage_tells_its_own_time_and_old_windows_are_forgotten() {
        let mut stages = Stages::default();
        stages.writes(Mono(1_000), PersistTicket(1));
        stages.writes(Mono(1_100), PersistTicket(2));
        stages.written(Mono(1_500), PersistTicket(2));
        stages.committed(Mono(2_000), Mono(1_000), [Mono(0), Mono(900)].into_iter());
        let picture = stages.picture();
        assert_eq!(
            (picture.fsync.count, picture.replicate.count, picture.queue.count, picture.total.count),
            (2, 1, 2, 2)
        );
        assert!(picture.replicate.p50_us.abs_diff(1_000) <= 10, "{picture:?}");
        assert!(picture.queue.p50_us <= 101 && picture.queue.max_us.abs_diff(1_000) <= 10, "{picture:?}");
        let window = u64::try_from(WINDOW.as_micros()).unwrap();
        stages.turn(Mono(window));
        assert_eq!(stages.picture().total.count, 2, "the window before still counts");
        stages.turn(Mono(2 * window));
        assert_eq!(stages.picture().total, Latency::default());
    }
}
