//! Warm connections: with whom of a large cluster this agent is connected, besides those it always is.
//!
//! Up to 64 members each is connected with each, by one connection for each pair, which costs nothing at rest. Beyond that
//! there are three classes: *pinned* (the Raft group, the leader; for a leader everybody, since all hear of it what it
//! sees), kept as long as they live; *warm*, dialled when gossip has something to say to them and closed when unused for a
//! while, or when there are too many, the least lately used first; and *cold*, all others. What is said to a member that is
//! not connected waits for the connection as long as it is worth anything, so that a first probe is no false suspicion. It
//! never dials itself, and decides nothing about members.

use quorate_raft::Mono;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// A full mesh up to this many members; once there were more, again from [`MESH_AGAIN`] down, so that a cluster at the
/// border does not open and close connections with each newcomer.
pub(super) const MESH_MAX: usize = 64;
const MESH_AGAIN: usize = 48;
/// Warm connections, pinned ones not counted: 5 MB of memory, and most members of the few hundred that one agent talks to
/// within a minute.
pub(super) const WARM_MAX: usize = 128;
/// A connection is closed after so long without a word, in clusters of up to [`IDLE_LONG_MEMBERS`] members and in larger
/// ones. In the former each member's turn to be probed comes sooner than that.
const IDLE_LONG: Duration = Duration::from_secs(150);
const IDLE_SHORT: Duration = Duration::from_secs(60);
const IDLE_LONG_MEMBERS: usize = 128;
/// A younger connection is closed by no lack of room: else those who want each other would only greet.
const AGE_MIN: Duration = Duration::from_secs(5);
/// Connections closed in one turn of the policies, which comes ten times a second.
const CLOSED_AT_ONCE: usize = 8;
/// Dials a second, and at once: each costs both sides half a millisecond.
const DIALS_PER_SECOND: u64 = 16;
const DIALS_BURST: u64 = 32;
/// Of the burst so many are kept for probes and answers; mere news waits for another packet.
const DIALS_RESERVED: u64 = 16;
/// Dials under way at once.
const DIALLING_MAX: usize = 32;
/// A dial without any word about it is over by then; the transport's own deadline is shorter.
const DIAL_PATIENCE: Duration = Duration::from_secs(5);
/// Messages that wait for one connection.
const WAITING_MAX: usize = 8;
/// A member that could not be reached is not dialled for this long; twice as long each time, up to the longest.
const SHUNNED_MIN: Duration = Duration::from_secs(1);
const SHUNNED_MAX: Duration = Duration::from_secs(30);
/// Members remembered as out of reach.
const SHUNNED_COUNT_MAX: usize = 4096;

/// What waits for a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Word {
    Datagram(Vec<u8>),
    Exchange(Vec<u8>),
}

#[derive(Debug)]
struct Dialling {
    since: Mono,
    waiting: VecDeque<(Mono, Word)>,
}

/// A connection that is up: since when, and when it was last used.
#[derive(Clone, Copy, Debug)]
struct Used {
    since: Mono,
    last: Mono,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Warm {
    sparse: bool,
    room: usize,
    up: BTreeMap<u64, Used>,
    dialling: BTreeMap<u64, Dialling>,
    /// How often a member could not be reached in a row, and until when it is not dialled.
    shunned: BTreeMap<u64, (u32, Mono)>,
    /// Dials allowed now, in millionths, and as of when.
    allowed: (u64, Mono),
}

impl Default for Warm {
    fn default() -> Self {
        Self::with_room(WARM_MAX)
    }
}

impl Warm {
    pub(super) fn with_room(room: usize) -> Self {
        let allowed = (DIALS_BURST * 1_000_000, Mono(0));
        Self { sparse: false, room, up: BTreeMap::new(), dialling: BTreeMap::new(), shunned: BTreeMap::new(), allowed }
    }

    /// Not everybody is connected with everybody.
    pub(super) fn is_sparse(&self) -> bool {
        self.sparse
    }

    /// There are so many members now.
    pub(super) fn resize(&mut self, members: usize) {
        self.sparse = members > if self.sparse { MESH_AGAIN } else { MESH_MAX };
    }

    /// Something was said to a connected member, or heard from it.
    pub(super) fn used(&mut self, node: u64, now: Mono) {
        if let Some(used) = self.up.get_mut(&node) {
            used.last = now;
        }
    }

    /// A connection is up; gives what waited for it and is still worth something.
    pub(super) fn up(&mut self, node: u64, now: Mono) -> Vec<Word> {
        self.up.insert(node, Used { since: now, last: now });
        self.shunned.remove(&node);
        let waiting = self.dialling.remove(&node).map(|dialling| dialling.waiting).unwrap_or_default();
        waiting.into_iter().filter(|(until, _)| now <= *until).map(|(_, word)| word).collect()
    }

    pub(super) fn down(&mut self, node: u64) {
        self.up.remove(&node);
    }

    /// Something is to be said to a member that is not connected; it is worth something for this long. Says whether to
    /// dial. `is_news`: other packets tell the same.
    pub(super) fn say(&mut self, node: u64, now: Mono, word: Word, worth: Duration, is_news: bool) -> bool {
        let until = now.after(worth);
        if let Some(dialling) = self.dialling.get_mut(&node) {
            if dialling.waiting.len() == WAITING_MAX {
                dialling.waiting.pop_front();
            }
            dialling.waiting.push_back((until, word));
            return false;
        }
        let shunned = self.shunned.get(&node).is_some_and(|(_, until)| now < *until);
        if shunned || self.dialling.len() >= DIALLING_MAX || !self.may_dial(now, is_news) {
            return false;
        }
        self.dialling.insert(node, Dialling { since: now, waiting: [(until, word)].into() });
        true
    }

    fn may_dial(&mut self, now: Mono, is_news: bool) -> bool {
        let (left, as_of) = self.allowed;
        let more = u64::try_from(now.since(as_of).as_micros()).unwrap_or(u64::MAX).saturating_mul(DIALS_PER_SECOND);
        let left = left.saturating_add(more).min(DIALS_BURST * 1_000_000);
        let least = if is_news { (DIALS_RESERVED + 1) * 1_000_000 } else { 1_000_000 };
        let may = left >= least;
        self.allowed = (if may { left - 1_000_000 } else { left }, now);
        may
    }

    /// A member could not be reached.
    pub(super) fn failed(&mut self, node: u64, now: Mono) {
        if self.dialling.remove(&node).is_some() && !self.up.contains_key(&node) {
            self.shunned.retain(|_, (_, until)| now < until.after(SHUNNED_MAX));
            let failures = self.shunned.get(&node).map_or(0, |(failures, _)| *failures);
            let pause = SHUNNED_MIN.saturating_mul(1 << failures.min(16)).min(SHUNNED_MAX);
            if self.shunned.len() < SHUNNED_COUNT_MAX {
                self.shunned.insert(node, (failures + 1, now.after(pause)));
            }
        }
    }

    /// Which connections are to be closed now, among so many members.
    pub(super) fn take_unwanted(&mut self, now: Mono, members: usize, is_pinned: impl Fn(u64) -> bool) -> Vec<u64> {
        let late = self.dialling.iter().filter(|(_, dialling)| now.since(dialling.since) >= DIAL_PATIENCE);
        for node in late.map(|(node, _)| *node).collect::<Vec<_>>() {
            self.failed(node, now);
        }
        if !self.sparse {
            return Vec::new();
        }
        let idle = if members <= IDLE_LONG_MEMBERS { IDLE_LONG } else { IDLE_SHORT };
        let mut warm: Vec<_> = self.up.iter().filter(|(node, _)| !is_pinned(**node)).collect();
        warm.sort_by_key(|(node, used)| (used.last, **node));
        let excess = warm.len().saturating_sub(self.room);
        let unused = |used: &Used| now.since(used.last) >= idle;
        let close = warm
            .iter()
            .enumerate()
            .filter(|(rank, (_, used))| unused(used) || (*rank < excess && now.since(used.since) >= AGE_MIN));
        close.map(|(_, (node, _))| **node).take(CLOSED_AT_ONCE).collect()
    }
}

#[cfg(test)]
mod tests;
