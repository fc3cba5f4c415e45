//! Instants and the life of a node: the small types that every file of this crate shares.
//!
//! They never read a clock: whoever calls the core says what time it is.

use std::fmt;
use std::time::Duration;

/// A monotonic instant in microseconds since an origin that only the caller knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mono(pub u64);

impl Mono {
    /// This instant and `d` later; saturates.
    #[must_use]
    pub fn after(self, d: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(d.as_micros()).unwrap_or(u64::MAX)))
    }

    /// How long ago `earlier` was; zero if it is not in the past.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }

    /// The instant `d` before this one; stops at the origin.
    #[must_use]
    pub(crate) fn before(self, d: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(d.as_micros()).unwrap_or(u64::MAX)))
    }
}

/// What time it is, on both clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Drives every timer.
    pub mono: Mono,
    /// Microseconds since 1970, only ever shown to people.
    pub wall_us: i64,
}

/// One life of a node: a process from its start to its end.
///
/// Lives of one node are ordered by boot epoch; the boot id breaks a tie, which only a copied data directory can cause.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Life {
    /// Counts the starts of the node; persisted by the caller before it is used.
    pub(crate) epoch: u64,
    /// Random per process.
    pub(crate) boot: u64,
}

impl fmt::Debug for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{:x}", self.epoch, self.boot)
    }
}
