//! What a checker found, in a form that is counted and read.
//!
//! It never judges: that is [`check`](super::check()).

use std::collections::BTreeMap;
use std::fmt;

/// Most anomalies that are kept word by word; all are counted.
const ANOMALIES_KEPT: usize = 100;

/// The ways in which a log can lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// An acknowledged record is nowhere.
    Lost,
    /// An acknowledged record stands at another offset.
    Moved,
    /// A record stands twice.
    Doubled,
    /// An append that was called not applied stands in the log.
    FailedButThere,
    /// Of a batch only a part is there, or was seen, or not in its order.
    Torn,
    /// A record that nobody appended.
    Phantom,
    /// An append that began after another one was known to be done stands before it.
    OutOfOrder,
    /// A read did not see what had been acknowledged or seen before it began.
    StaleRead,
    /// A read saw more than the log holds in the end.
    ReadVanished,
    /// A session saw less than before.
    WentBack,
    /// A tail left records out.
    Gap,
    /// A tail delivered a record again, or an earlier one after a later one.
    Repeated,
    /// A tail delivered another value than the one that stands there in the end.
    Disagrees,
    /// Two replicas hold different logs.
    ReplicasDiffer,
    /// Two appends have the same value: the history itself is no good.
    Reused,
}

impl Kind {
    /// One word for programs.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Moved => "moved",
            Self::Doubled => "doubled",
            Self::FailedButThere => "failed_but_there",
            Self::Torn => "torn",
            Self::Phantom => "phantom",
            Self::OutOfOrder => "out_of_order",
            Self::StaleRead => "stale_read",
            Self::ReadVanished => "read_vanished",
            Self::WentBack => "went_back",
            Self::Gap => "gap",
            Self::Repeated => "repeated",
            Self::Disagrees => "disagrees",
            Self::ReplicasDiffer => "replicas_differ",
            Self::Reused => "reused",
        }
    }
}

/// One thing that no honest log does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anomaly {
    /// Of which kind.
    pub kind: Kind,
    /// What exactly, in a sentence.
    pub what: String,
}

impl fmt::Display for Anomaly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind.code(), self.what)
    }
}

/// What a history and its log amount to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Appends that were acknowledged.
    pub acked: u64,
    /// Appends that surely were not applied.
    pub not_applied: u64,
    /// Appends of unknown outcome.
    pub unknown: u64,
    /// Of those, the ones that stand in the log.
    pub unknown_applied: u64,
    /// Records in the log.
    pub records: u64,
    /// Reads that were checked.
    pub reads: u64,
    /// Records that tails delivered.
    pub seen: u64,
    /// What is wrong, the first of it in words.
    pub anomalies: Vec<Anomaly>,
    /// All that is wrong, by kind.
    pub by_kind: BTreeMap<Kind, u64>,
}

impl Verdict {
    /// Nothing lost, doubled or stale, nor anything else.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.by_kind.is_empty()
    }

    /// How many of this kind.
    #[must_use]
    pub fn count(&self, kind: Kind) -> u64 {
        self.by_kind.get(&kind).copied().unwrap_or(0)
    }

    pub(super) fn add(&mut self, kind: Kind, what: String) {
        *self.by_kind.entry(kind).or_default() += 1;
        if self.anomalies.len() < ANOMALIES_KEPT {
            self.anomalies.push(Anomaly { kind, what });
        }
    }
}
