//! In hand: one append that has not ended, and who waits for its end.
//!
//! It never ends by itself: whoever holds it says how.

use crate::api::Append;
use quorate_raft::Mono;

/// Who waits for the end of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// A client of this agent.
    Client(u64),
    /// Another agent that forwards; it tries again itself.
    Agent { node: u64, id: u64 },
}

/// One append that has not ended.
#[derive(Debug)]
pub(super) struct InHand {
    pub(super) origin: Origin,
    pub(super) append: Append,
    /// When it came.
    pub(super) since: Mono,
    pub(super) deadline: Mono,
}

/// One append in an entry.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) in_hand: InHand,
    /// Records before its first one in the entry.
    pub(super) first: u32,
    /// Its records.
    pub(super) count: u32,
}
