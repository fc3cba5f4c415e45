//! Role: what a node is at the moment, each variant owning only the data of that role.
//!
//! It knows no transitions: data of a role that ended is gone with it, so no answer to an earlier round can find it.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};

use crate::progress::Progress;
use crate::reads::Rounds;
use crate::{BootId, LogIndex, Mono, NodeId, PersistTicket, Role};

#[derive(Clone, Debug)]
pub(crate) enum RoleState {
    Follower(Follower),
    PreCandidate(PreCandidate),
    Candidate(Candidate),
    Leader(Box<Leader>),
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Follower {
    /// The leader of this term, once heard.
    pub(crate) following: Option<Following>,
}

/// What a follower knows of its leader.
#[derive(Clone, Debug)]
pub(crate) struct Following {
    pub(crate) leader: NodeId,
    /// The leader's life and the admission it named last: echoed in answers.
    pub(crate) leader_boot: BootId,
    pub(crate) admitted: LogIndex,
    /// Up to here the log equals the leader's.
    pub(crate) verified: LogIndex,
    /// The last index acknowledged in this term.
    pub(crate) acked: LogIndex,
    /// The latest read round heard.
    pub(crate) round: u64,
    pub(crate) ack: Ack,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ack {
    /// Nothing is owed.
    None,
    /// Owed when the durable frontier moves: one ack per fsync, not per message.
    WhenDurable,
    /// Owed now.
    Now,
}

#[derive(Clone, Debug)]
pub(crate) struct PreCandidate {
    /// Names this attempt: a grant to another one does not count.
    pub(crate) round: u64,
    pub(crate) tally: Tally,
}

#[derive(Clone, Debug)]
pub(crate) struct Leader {
    pub(crate) peers: BTreeMap<NodeId, Progress>,
    /// Its first entry: with it, everything before is committed (§3.6.2).
    pub(crate) first: LogIndex,
    /// Since when it leads: the grace of peers that have not answered yet.
    pub(crate) since: Mono,
    pub(crate) rounds: Rounds,
}

#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    /// The write of its own vote: it counts itself, and asks others, only once that is durable.
    pub(crate) ticket: PersistTicket,
    pub(crate) tally: Tally,
}

/// Who said yes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) granted: BTreeSet<NodeId>,
}

impl RoleState {
    pub(crate) fn name(&self) -> Role {
        match self {
            Self::Follower(_) => Role::Follower,
            Self::PreCandidate(_) => Role::PreCandidate,
            Self::Candidate(_) => Role::Candidate,
            Self::Leader(_) => Role::Leader,
        }
    }
}
