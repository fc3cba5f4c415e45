//! Status: a picture of the core for people, metrics and policies.
//!
//! It never changes anything, and is not cheap: take it when somebody looks.

use crate::member::Member;
use std::collections::BTreeMap;
use std::time::Duration;

/// Where this node stands in its own life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It takes part.
    Member,
    /// It has said that it leaves.
    Leaving,
    /// It has left.
    Left,
}

/// How many members are in each state, this node included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// [`State::Alive`](crate::State::Alive)
    pub alive: usize,
    /// [`State::Suspect`](crate::State::Suspect)
    pub suspect: usize,
    /// [`State::Leaving`](crate::State::Leaving)
    pub leaving: usize,
    /// [`State::Left`](crate::State::Left)
    pub left: usize,
    /// [`State::Failed`](crate::State::Failed)
    pub failed: usize,
}

/// Counters since this core was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Datagrams handed to the caller.
    pub datagrams_sent: u64,
    /// Datagrams accepted.
    pub datagrams_received: u64,
    /// Datagrams, requests and answers refused.
    pub refused: u64,
    /// Table exchanges asked for: whole tables, or hashes of them.
    pub exchanges: u64,
    /// Of these, whole tables.
    pub tables: u64,
    /// Exchanges left out because too many were under way.
    pub exchanges_skipped: u64,
    /// Requests for tags that did not fit a packet.
    pub fetches: u64,
    /// Probes repeated over a stream because no answer came to the datagram.
    pub probes_repeated: u64,
    /// Members asked over a stream, apart from probes, whether they are there.
    pub questions: u64,
    /// How often this node had to come back after others had declared it failed.
    pub renewals: u64,
    /// How often it was asleep for so long that it did not trust its own view of the others.
    pub stalls: u64,
}

/// What waits in one queue, or is held, beside its bound; for operators.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// How many wait.
    pub depth: usize,
    /// The most that may; nothing where only bytes are bounded.
    pub depth_max: Option<usize>,
    /// What it takes, in bytes; nothing where that is not known.
    pub bytes: Option<usize>,
    /// The most that it may take, in bytes.
    pub bytes_max: usize,
    /// What found no room, since this core was made.
    pub dropped: u64,
}

/// What waits in this core, and how full it is. Cheap, unlike [`Status`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loads {
    /// Who is suspect, down or alive, on its way to others.
    pub updates: Load,
    /// Records on their way to others.
    pub records: Load,
    /// Tags of all, as held here; waiting: members whose tags are being fetched.
    pub tags: Load,
    /// Of these, tags of members that no connection has ever proven.
    pub tags_unproven: Load,
}

/// News on its way, with its bounds: at most two records for each member (64 at least), and 128 KiB. What is dropped is
/// not lost: exchanges carry it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Queue {
    /// Intents to leave, and answers to what was falsely said: these go first.
    pub words: usize,
    /// Who somebody is and where. Before these go foca's updates, of which there is at most one for each member.
    pub cards: usize,
    /// Changed tags: these go last.
    pub tags: usize,
    /// All of it, in bytes.
    pub bytes: usize,
    /// How long the oldest has been on its way.
    pub oldest: Duration,
    /// Dropped for want of room, since this core was made.
    pub dropped: u64,
}

/// The picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// This node.
    pub node: u64,
    /// Where it stands.
    pub phase: Phase,
    /// Nobody else is present.
    pub alone: bool,
    /// The Lamport clock.
    pub lamport: u64,
    /// By state.
    pub counts: Counts,
    /// All members by node id, this node included.
    pub members: Vec<Member>,
    /// How far this node mistrusts its own view: 0 is well, 8 worst. Its probes take 1 + this times as long.
    pub health: u8,
    /// Present members whose datagrams get lost, in one direction or both, while streams with them work.
    pub datagrams_blocked: Vec<u64>,
    /// Names that more than one present member claims.
    pub name_conflicts: BTreeMap<String, Vec<u64>>,
    /// foca's updates on their way: who is suspect, down or alive. At most 1,024, of 50 bytes each.
    pub updates_backlog: usize,
    /// Updates that were news and were not passed on for want of room, since this core was made.
    pub updates_dropped: u64,
    /// Records on their way.
    pub records_backlog: usize,
    /// The same by kind, with bytes, age and what was dropped.
    pub queue: Queue,
    /// Bytes held of the tags of all; at most 64 MiB.
    pub tag_bytes: usize,
    /// Of these, of members that no connection has ever proven; at most 16 MiB, and 4 MiB by the word of one peer.
    pub tag_bytes_unproven: usize,
    /// Members whose tags are being fetched.
    pub tags_wanted: usize,
    /// Counters.
    pub counters: Counters,
}
