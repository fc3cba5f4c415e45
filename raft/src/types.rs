//! Newtypes of the core: nothing that counts is a bare integer.
//!
//! They never do arithmetic beyond their own meaning.

use crate::mutant;
use core::fmt;
use core::num::NonZeroU64;
use core::time::Duration;
use serde::{Deserialize, Serialize};

macro_rules! counter {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// The value before the first.
            pub const ZERO: Self = Self(0);
            /// The next value.
            #[must_use]
            pub fn next(self) -> Self {
                Self(self.0 + 1)
            }
            /// The value before; zero stays zero.
            #[must_use]
            pub fn prev(self) -> Self {
                Self(self.0.saturating_sub(1))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

counter! {
    /// A term: a period with at most one leader (Figure 3.2). Zero is before any election.
    Term
}
counter! {
    /// A position in the log, from 1. Zero is the position before the first entry.
    LogIndex
}
counter! {
    /// Names one local request (proposal, read, change, transfer); chosen by the caller, unique in one life.
    Ticket
}
counter! {
    /// Names one write of the ordered stream of [`Persist`](crate::Persist)s; chosen by the core, from 1, dense.
    PersistTicket
}
counter! {
    /// Random per process start: an answer from an earlier life carries another one. Zero is "not known yet".
    BootId
}

/// The Raft identity of a disk (64 bits of the hash of its node key); never zero, never reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(pub NonZeroU64);

impl NodeId {
    /// The id with this value; `None` for zero.
    #[must_use]
    pub fn new(value: u64) -> Option<Self> {
        NonZeroU64::new(value).map(Self)
    }
    /// The bare value, for the wire.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0.get()
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{:x}", self.0)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Where an entry stands: its index and the term that wrote it. Two logs that agree on one agree on all before (§3.5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Position {
    /// The index.
    pub index: LogIndex,
    /// The term of the entry at that index.
    pub term: Term,
}

impl Position {
    /// Before the first entry.
    pub const ZERO: Self = Self { index: LogIndex::ZERO, term: Term::ZERO };
    /// The up-to-date order of §3.6.1: the later last term wins, then the longer log.
    #[must_use]
    pub fn is_at_least_as_up_to_date_as(self, other: Self) -> bool {
        if mutant!(UpToDateByIndexOnly) {
            return self.index >= other.index;
        }
        (self.term, self.index) >= (other.term, other.index)
    }
}

/// A monotonic instant in microseconds since an origin that only its owner knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mono(pub u64);

impl Mono {
    /// This instant and `d` later; saturates.
    #[must_use]
    pub fn after(self, d: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(d.as_micros()).unwrap_or(u64::MAX)))
    }
    /// The time since `earlier`; zero if that is in the future.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

/// Wall-clock time in microseconds since the Unix epoch. The core only passes it on; no decision depends on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Wall(pub i64);

/// What the caller's clocks say at this moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// The monotonic clock; never goes back between two calls.
    pub mono: Mono,
    /// The wall clock; may jump.
    pub wall: Wall,
}
