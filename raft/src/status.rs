//! Status: a picture of the core for people, metrics and autopilot.

use alloc::collections::BTreeMap;

use crate::{Configuration, Halt, LogIndex, Mono, NodeId, Position, Term};

/// The role in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Hears a leader, or waits for one.
    Follower,
    /// Asks whether an election could be won (§9.6).
    PreCandidate,
    /// Stands for election.
    Candidate,
    /// Leads.
    Leader,
}

/// One peer as the leader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// The last index known durable there.
    pub matched: LogIndex,
    /// When it last answered anything of this term; `None` if never.
    pub last_heard: Option<Mono>,
    /// Is its log known to match up to `matched`, and entries flow.
    pub replicating: bool,
    /// Its disk has lost what it acknowledged in an earlier life, and does not hold that again yet.
    pub has_lost: bool,
    /// Its disk takes no entries but those that the group itself needs.
    pub full: bool,
}

/// A picture of the core.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// This node.
    pub node: NodeId,
    /// The current term.
    pub term: Term,
    /// The role.
    pub role: Role,
    /// The leader of `term`, if known.
    pub leader: Option<NodeId>,
    /// The last entry.
    pub last: Position,
    /// The last durable index.
    pub durable: LogIndex,
    /// The commit index.
    pub committed: LogIndex,
    /// Leader: has an entry of its own term been committed.
    pub own_term_committed: bool,
    /// Leader: when a quorum had last answered (the moment the oldest needed answer came in).
    pub quorum_heard: Option<Mono>,
    /// The configuration in force.
    pub configuration: Configuration,
    /// The index of its entry; its id for compare-and-set.
    pub configuration_index: LogIndex,
    /// Is that entry committed.
    pub configuration_committed: bool,
    /// Is leadership being handed over.
    pub transferring: bool,
    /// Leader: all other members.
    pub peers: BTreeMap<NodeId, PeerStatus>,
    /// Proposals and reads waiting.
    pub pending: usize,
    /// This node's disk has lost what it acknowledged up to here: until it holds that again it does not stand for
    /// election, and votes as if it held it.
    pub missing: Option<LogIndex>,
    /// Entries inside its log cannot be read: it does not stand for election.
    pub damaged: bool,
    /// A member that, as a leader, contradicted what is committed here: its state or this node's is wrong.
    pub contradicted_by: Option<NodeId>,
    /// Stopped, and why.
    pub halted: Option<Halt>,
}
