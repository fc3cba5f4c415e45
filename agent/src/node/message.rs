//! What agents say to each other beside gossip: Raft, forwarded requests, and the leader's view for agents outside Raft.
//!
//! Typed, never bytes: the layout is the business of `wire::peer`.

use super::compare::Mark;
use crate::api::{
    Answer, Append, Appended, AutopilotAnswer, AutopilotAsk, Failure, Operated, TagsChange, TagsOf, Transferred, Verb,
};
use crate::pledge::Report;
use quorate_raft::wal::Entry;
use quorate_raft::{LogIndex, Message, Wall};
use serde::{Deserialize, Serialize};

/// Most members that one agent tells it misses: more than a group has.
pub const MISSED_MAX: usize = 64;

/// One message between two agents whose Hello has passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerMessage {
    /// Between the Raft cores; refused by a node of another log.
    Raft(Box<RaftMessage>),
    /// A client's append on its way to the leader; never forwarded again.
    Forward {
        /// Chosen by the sender.
        id: u64,
        /// The append.
        append: Append,
    },
    /// A question for the leader.
    Ask {
        /// Chosen by the sender.
        id: u64,
        /// How long the asker will wait.
        timeout_ms: u32,
        /// The question.
        ask: LeaderAsk,
    },
    /// The end of a `Forward`.
    Forwarded {
        /// The sender's id.
        id: u64,
        /// How it ended.
        result: Result<Appended, Failure>,
    },
    /// The end of an `Ask`.
    Answered {
        /// The sender's id.
        id: u64,
        /// How it ended.
        result: Result<LeaderAnswer, Failure>,
    },
    /// What the leader tells agents that are not in Raft.
    View(View),
    /// The sender belongs to this log now; its Hello could not say so yet.
    Joined {
        /// Which.
        log_id: [u8; 16],
    },
    /// The sender cannot read these entries of its log any more, and wants them back.
    RepairRequest {
        /// Chosen by the sender.
        id: u64,
        /// First bytes of the log id.
        seed: u64,
        /// The first entry.
        first: LogIndex,
        /// The last entry.
        last: LogIndex,
    },
    /// Members that are gone as far as the sender can see: failed in gossip, not connected. Said again and again, to the
    /// leader, by members of its group.
    Missed {
        /// First bytes of the log id.
        seed: u64,
        /// Their node ids, at most [`MISSED_MAX`].
        nodes: Vec<u64>,
    },
    /// The hash of the sender's log at an entry that it has applied.
    Chain {
        /// First bytes of the log id.
        seed: u64,
        /// Where, and which.
        mark: Mark,
    },
    /// What the sender says about founding a log together; only to agents that were told to expect others.
    Founding(Box<Report>),
    /// The answer to a `RepairRequest`.
    RepairReply {
        /// The asker's id.
        id: u64,
        /// What this agent has of it.
        has: Spare,
    },
}

/// What an agent has of the entries that another one has lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spare {
    /// These, from the first one asked for; at least one.
    Entries(Vec<Entry>),
    /// It cannot read them either.
    Damaged,
    /// Its log does not reach there, on this side or on that.
    Absent,
    /// It has its hands full: ask later.
    Busy,
}

/// A message between cores, with the entries that it announces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RaftMessage {
    /// First bytes of the log id: two histories never exchange a Raft message.
    pub seed: u64,
    /// The sender's wall clock.
    pub wall: Wall,
    /// The core's message.
    pub message: Message,
    /// The announced entries, in order.
    pub entries: Vec<Entry>,
}

/// What can be asked of a leader by another agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LeaderAsk {
    /// Remove this node for good, because it asks to leave.
    Remove {
        /// The node id; must be the asker.
        node: u64,
    },
    /// A linearizable read barrier.
    Barrier,
    /// Hand leadership over.
    Transfer {
        /// To the agent of this name, or to whom the leader thinks best.
        to: Option<String>,
    },
    /// Drop a failed agent for good.
    Forget {
        /// Its name.
        name: String,
    },
    /// Change what an agent is to the group.
    Operate {
        /// Its name.
        name: String,
        /// Its node id, as far as the asker knows: what is asked again must not mean another disk.
        node: Option<u64>,
        /// How.
        verb: Verb,
    },
    /// The asked agent's own tags, leader or not, after this change.
    Tags(TagsChange),
    /// The asker leads and has begun to hand over, or has just been deposed: what was forwarded to it, it answers when it
    /// knows who leads. Nothing is answered to this.
    HandingOver,
    /// The asker is drained and has ended what its clients had begun. Nothing is answered.
    Drained,
    /// Something of the autopilot.
    Autopilot(AutopilotAsk),
}

/// What a leader answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LeaderAnswer {
    /// The removal is committed.
    Removed,
    /// Everything before this offset is readable.
    Readable {
        /// The first offset that is not.
        next: u64,
    },
    /// Another agent leads, or the one that was asked for did all along.
    Transferred {
        /// Who led.
        from: String,
        /// Who leads.
        to: String,
        /// How long that took, in milliseconds.
        ms: u64,
    },
    /// It is forgotten.
    Forgotten {
        /// The name it had.
        name: String,
        /// All nodes that were forgotten under this name.
        nodes: Vec<u64>,
    },
    /// It is done.
    Operated(Operated),
    /// What was asked of the autopilot.
    Autopilot(Box<AutopilotAnswer>),
    /// The asked agent's own tags.
    Tags(TagsOf),
}

impl From<LeaderAnswer> for Answer {
    fn from(answer: LeaderAnswer) -> Self {
        match answer {
            LeaderAnswer::Removed => Self::Removed,
            LeaderAnswer::Readable { next } => Self::Readable { next },
            LeaderAnswer::Transferred { from, to, ms } => Self::Transferred(Transferred { from, to, ms }),
            LeaderAnswer::Forgotten { name, nodes } => Self::Forgotten { name, nodes },
            LeaderAnswer::Operated(operated) => Self::Operated(operated),
            LeaderAnswer::Autopilot(answer) => Self::Autopilot(answer),
            LeaderAnswer::Tags(tags) => Self::Tags(tags),
        }
    }
}

/// The group as its leader sees it, for agents that are not in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// The log.
    pub log_id: [u8; 16],
    /// The term.
    pub term: u64,
    /// The leader.
    pub leader: u64,
    /// Who votes.
    pub voters: Vec<u64>,
    /// Who learns.
    pub learners: Vec<u64>,
    /// The commit index.
    pub committed: u64,
    /// The next offset.
    pub next: u64,
    /// Why the receiver is not in the group, if the leader has a reason to tell.
    pub waiting: Option<String>,
    /// The receiver has left this log for good, should it not know.
    pub departed: bool,
    /// Nodes that an operator has dropped for good.
    #[serde(default)]
    pub forgotten: Vec<u64>,
    /// Nodes that operators drain.
    #[serde(default)]
    pub draining: Vec<u64>,
    /// The receiver has not left by itself: an operator has removed it.
    #[serde(default)]
    pub removed: bool,
}
