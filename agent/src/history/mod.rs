//! What clients did to a log and were told, and whether the log can have been an honest one.
//!
//! It never asks a cluster anything: whoever recorded a [`History`] and read the replicas hands both over, so that one
//! checker serves `quorate torture`, the tests with real processes, and tests of your own.
//!
//! Offsets put all effects into one order. With real time they leave nothing to search for: a history is that of one
//! honest log exactly if the log holds what was told and nothing that came back before an operation began stands
//! behind it. So [`check`] takes O(n log n), for histories of millions of operations.

mod anomaly;
mod check;
mod silence;
#[cfg(test)]
mod tests;

pub use anomaly::{Anomaly, Kind, Verdict};
pub use check::check;
pub use silence::longest_silence;

use std::time::Duration;

/// From when until when something happened, since the beginning of the history, by one monotonic clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// When it was asked for.
    pub asked: Duration,
    /// When its answer, or its end without one, was known.
    pub ended: Duration,
}

/// What became of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Its first record stands at this offset, the others behind it.
    Acked(u64),
    /// It surely was not appended.
    NotApplied,
    /// Nobody could say.
    Unknown,
}

/// One append, from the outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Append<V> {
    /// The records of the batch. No other append has any of them: equal values could not be told apart.
    pub values: Vec<V>,
    /// When.
    pub span: Span,
    /// What the client was told.
    pub outcome: Outcome,
}

/// How much a read has promised to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// What the agent knew to be committed, however old.
    Committed,
    /// At least up to and with this offset.
    After(u64),
    /// Everything that anybody was told before the read began.
    Linear,
}

/// One read of where the log ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Read {
    /// Whose: the reads of one session never go back, at whatever level. `None`: nobody's in particular.
    pub session: Option<u64>,
    /// When.
    pub span: Span,
    /// What it promised.
    pub level: Level,
    /// Everything before this offset could be read.
    pub next: u64,
}

/// A record that a tail delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen<V> {
    /// Where it stands.
    pub offset: u64,
    /// What it is.
    pub value: V,
    /// When it was delivered.
    pub at: Duration,
}

/// One reader of the log, from its first record to its last, over however many agents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tail<V> {
    /// When it was asked for.
    pub asked: Duration,
    /// What it promised.
    pub level: Level,
    /// The offset where it was to start; `None` if that was relative to the end.
    pub from: Option<u64>,
    /// What it delivered, as it came.
    pub seen: Vec<Seen<V>>,
    /// When it said that its end was reached; `None` if it was cut off or follows for ever.
    pub ended: Option<Duration>,
}

/// Everything that clients did and saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History<V> {
    /// In any order.
    pub appends: Vec<Append<V>>,
    /// In any order.
    pub reads: Vec<Read>,
    /// In any order.
    pub tails: Vec<Tail<V>>,
    /// Is every append that was ever made among `appends`? Then a value of nobody's is an anomaly.
    pub is_closed: bool,
}

impl<V> Default for History<V> {
    fn default() -> Self {
        Self { appends: Vec::new(), reads: Vec::new(), tails: Vec::new(), is_closed: true }
    }
}

/// The whole log, from its first record on, as one replica holds it in the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replica<V> {
    /// Whose.
    pub name: String,
    /// By offset, from 0 on.
    pub values: Vec<V>,
    /// Of all its entries, bytes and all: equal logs have equal ones.
    pub digest: u128,
}

impl<V> Append<V> {
    /// Was it acknowledged?
    #[must_use]
    pub fn is_acked(&self) -> bool {
        matches!(self.outcome, Outcome::Acked(_))
    }

    /// The offset behind its last record, if it was acknowledged.
    #[must_use]
    pub fn next(&self) -> Option<u64> {
        match self.outcome {
            Outcome::Acked(first) => Some(first.saturating_add(self.values.len() as u64)),
            Outcome::NotApplied | Outcome::Unknown => None,
        }
    }
}
