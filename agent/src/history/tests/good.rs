//! Random histories of a log that really was one: every operation takes effect at one moment between its two ends.
//!
//! It never makes an anomaly; `injected.rs` does.

use crate::history::{Append, History, Level, Outcome, Read, Replica, Seen, Span, Tail};
use proptest::collection::vec;
use proptest::prelude::*;
use std::time::Duration;

/// Between two effects.
const STEP_MS: u64 = 10;
/// How far the ends of an operation may be from its effect: several others happen meanwhile.
const REACH_MS: u64 = 60;

/// One operation, before it has its place.
#[derive(Clone, Copy, Debug)]
pub(super) enum Deed {
    Acked {
        records: u8,
    },
    Unknown {
        applied: bool,
        records: u8,
    },
    Failed,
    Linear,
    /// So many appends behind.
    Committed {
        behind: u8,
    },
    After {
        behind: u8,
    },
    Session {
        session: u8,
    },
    Tail {
        from: u8,
        ends: bool,
    },
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    pub(super) deed: Deed,
    pub(super) before_ms: u64,
    pub(super) after_ms: u64,
}

pub(super) type Told = (History<u32>, Vec<Replica<u32>>);

pub(super) fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn step() -> impl Strategy<Value = Step> {
    let deed = prop_oneof![
        6 => (1..=3_u8).prop_map(|records| Deed::Acked { records }),
        1 => (any::<bool>(), 1..=3_u8).prop_map(|(applied, records)| Deed::Unknown { applied, records }),
        1 => Just(Deed::Failed),
        3 => Just(Deed::Linear),
        1 => (0..9_u8).prop_map(|behind| Deed::Committed { behind }),
        1 => (1..9_u8).prop_map(|behind| Deed::After { behind }),
        2 => (0..3_u8).prop_map(|session| Deed::Session { session }),
        1 => (any::<u8>(), any::<bool>()).prop_map(|(from, ends)| Deed::Tail { from, ends }),
    ];
    (deed, 0..REACH_MS, 1..REACH_MS).prop_map(|(deed, before_ms, after_ms)| Step { deed, before_ms, after_ms })
}

/// Good histories of up to `most` random operations.
pub(super) fn histories(most: usize) -> impl Strategy<Value = Told> {
    vec(step(), 1..most).prop_map(|steps| told(&steps))
}

/// Good histories that hold at least one of everything that can be lied about, at both ends of what is random.
pub(super) fn rich_histories() -> impl Strategy<Value = Told> {
    let plain = |deed| Step { deed, before_ms: 1, after_ms: 1 };
    let acked = plain(Deed::Acked { records: 1 });
    let head = [
        acked,
        acked,
        plain(Deed::Session { session: 9 }),
        plain(Deed::Acked { records: 3 }),
        plain(Deed::Unknown { applied: true, records: 2 }),
        plain(Deed::Failed),
        acked,
        plain(Deed::Session { session: 9 }),
        plain(Deed::Tail { from: 0, ends: true }),
        plain(Deed::Linear),
    ];
    vec(step(), 0..60).prop_map(move |rest| told(&[&head[..], &rest, &head[..]].concat()))
}

pub(super) fn told(steps: &[Step]) -> Told {
    let (mut history, mut log) = (History::default(), Vec::new());
    // The lengths that the log had, the last one last.
    let mut ends = vec![0];
    // By offset, when it took effect.
    let mut since = Vec::new();
    let mut tails = Vec::new();
    for (i, step) in (0_u64..).zip(steps) {
        let at = REACH_MS + i * STEP_MS;
        let span = Span { asked: ms(at - step.before_ms), ended: ms(at + step.after_ms) };
        let first = log.len() as u64;
        let values = |records: u8| (0..u32::from(records)).map(|k| i as u32 * 8 + k).collect::<Vec<_>>();
        let (values, outcome, applied) = match step.deed {
            Deed::Acked { records } => (values(records), Outcome::Acked(first), true),
            Deed::Unknown { applied, records } => (values(records), Outcome::Unknown, applied),
            Deed::Failed => (values(1), Outcome::NotApplied, false),
            Deed::Linear | Deed::Committed { .. } | Deed::After { .. } | Deed::Session { .. } => {
                history.reads.push(read(step.deed, span, &ends));
                continue;
            }
            Deed::Tail { from, ends } => {
                tails.push((span, u64::from(from) % (first + 1), ends.then_some(first)));
                continue;
            }
        };
        if applied {
            log.extend(&values);
            since.resize(log.len(), at);
            ends.push(log.len() as u64);
        }
        history.appends.push(Append { values, span, outcome });
    }
    for (span, from, end) in tails {
        history.tails.push(tail(span, from, end, &log, &since));
    }
    let names = ["n1", "n2", "n3"];
    let replicas = names.map(|name| Replica { name: name.into(), values: log.clone(), digest: 7 });
    (history, replicas.into())
}

fn read(deed: Deed, span: Span, ends: &[u64]) -> Read {
    let len = ends[ends.len() - 1];
    let earlier = |behind: u8| ends[(ends.len() - 1).saturating_sub(behind.into())];
    match deed {
        Deed::Committed { behind } => Read { session: None, span, level: Level::Committed, next: earlier(behind) },
        Deed::After { behind } if earlier(behind) > 0 => {
            let next = earlier(behind);
            Read { session: None, span, level: Level::After(next - 1), next }
        }
        Deed::Session { session } => Read { session: Some(session.into()), span, level: Level::Committed, next: len },
        _ => Read { session: None, span, level: Level::Linear, next: len },
    }
}

/// One that reads to an end that it was told, or one that follows to the end of time.
fn tail(span: Span, from: u64, end: Option<u64>, log: &[u32], since: &[u64]) -> Tail<u32> {
    let until = end.unwrap_or(log.len() as u64);
    let mut at = span.ended;
    let mut seen = Vec::new();
    for offset in from..until {
        at = at.max(ms(since[offset as usize] + 1));
        seen.push(Seen { offset, value: log[offset as usize], at });
    }
    let level = if end.is_some() { Level::Linear } else { Level::Committed };
    Tail { asked: span.asked, level, from: Some(from), seen, ended: end.map(|_| at) }
}
