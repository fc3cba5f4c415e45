//! The vocabulary of requests: what can be asked of an agent and what is answered. Pure data.
//!
//! How it is laid out on a stream is the business of [`crate::wire::rpc`].

pub use crate::measures::{AppendStages, DamagedEntries, DiskHealth, DiskSpace, Latency, QueueLoad, ScrubState};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// An append as it travels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Append {
    /// How long the asker will wait, in milliseconds.
    pub timeout_ms: u32,
    /// 0 from a client, 1 from an agent that forwards; an agent never forwards a forwarded one.
    pub hops: u8,
    /// The client that an agent vouches for; empty from a client itself.
    pub on_behalf_of: Arc<str>,
    /// The batch, as [`crate::record`] lays it out.
    pub batch: Bytes,
}

/// What can be asked. New questions are added at the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ask {
    /// The members as this agent sees them.
    Members,
    /// A picture of agent, Raft and log.
    Status,
    /// Leave for good: a committed removal, then gossip, then the agent stops.
    Leave {
        /// How long the asker will wait, in milliseconds: nobody leaves after the asker has given up unheard.
        timeout_ms: u32,
    },
    /// A linearizable read barrier: answered with the next offset once everything before it may be read here.
    Barrier,
    /// Wait until this agent's readable end is at least this offset.
    Await {
        /// The offset after which to answer.
        next: u64,
    },
    /// Hand leadership over.
    Transfer {
        /// To the agent of this name, or to the most caught-up healthy voter.
        to: Option<String>,
        /// How long the asker will wait, in milliseconds.
        timeout_ms: u32,
    },
    /// Drop a failed agent for good.
    Forget {
        /// Its name.
        name: String,
        /// How long the asker will wait, in milliseconds.
        timeout_ms: u32,
    },
    /// Change what an agent is to the group.
    Operate {
        /// Its name.
        name: String,
        /// How.
        verb: Verb,
        /// How long the asker will wait, in milliseconds.
        timeout_ms: u32,
    },
    /// What the autopilot goes by, sees and wants; only the leader knows.
    Autopilot {
        /// What about it.
        ask: AutopilotAsk,
        /// How long the asker will wait, in milliseconds.
        timeout_ms: u32,
    },
    /// The tags of an agent, after a change of them if there is one.
    Tags {
        /// Its name; the answering agent's own, if there is none.
        name: Option<String>,
        /// What to change.
        change: TagsChange,
        /// How long the asker will wait, in milliseconds.
        timeout_ms: u32,
    },
    /// Whatever may explain why the cluster does not serve.
    Facts {
        /// Ask the other agents too, for two seconds.
        others: bool,
    },
}

/// A change of the tags of one agent; nothing changes if it is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TagsChange {
    /// Keys that get these values.
    pub set: BTreeMap<String, String>,
    /// Keys that go.
    pub delete: Vec<String>,
}

impl TagsChange {
    /// It changes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.delete.is_empty()
    }
}

/// The tags of one agent, as it says them itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TagsOf {
    /// Its name.
    pub name: String,
    /// All of them.
    pub tags: BTreeMap<String, String>,
    /// What whoever changed them should know, one sentence each.
    pub notes: Vec<String>,
}

/// What an operator does with an agent. Each is done at most once, however often it is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verb {
    /// Move leadership, clients and, if a spare can have it, its vote elsewhere, so that it may be stopped.
    Drain,
    /// The end of that.
    Undrain,
    /// Out of the cluster for good, dead or alive.
    Remove {
        /// The agent that gets its vote in the same change.
        replace_with: Option<String>,
    },
    /// A learner gets a vote, and keeps it.
    Promote {
        /// The group may become even.
        allow_even: bool,
    },
    /// A voter loses its vote, and does not get it back by itself.
    Demote {
        /// The group may become even.
        allow_even: bool,
    },
    /// The autopilot decides again who votes.
    Unpin,
}

impl Verb {
    /// As people type it.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Drain => "drain",
            Self::Undrain => "drain --undo",
            Self::Remove { .. } => "remove",
            Self::Promote { .. } => "promote",
            Self::Demote { .. } => "demote",
            Self::Unpin => "unpin",
        }
    }
}

/// What can be asked of the autopilot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AutopilotAsk {
    /// Its settings, after these were set.
    Config {
        /// Key and value of each, as a person writes them.
        set: Vec<(String, String)>,
    },
    /// What it sees, and which role each agent should have.
    State,
    /// Why one agent is what it is.
    Explain {
        /// Its name.
        name: String,
    },
}

impl AutopilotAsk {
    /// Does it change anything?
    #[must_use]
    pub fn changes(&self) -> bool {
        matches!(self, Self::Config { set } if !set.is_empty())
    }
}

/// What the autopilot answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AutopilotAnswer {
    /// To [`AutopilotAsk::Config`].
    Config {
        /// All settings, key and value of each as a person writes them.
        settings: Vec<(String, String)>,
    },
    /// To [`AutopilotAsk::State`].
    State(AutopilotState),
    /// To [`AutopilotAsk::Explain`].
    Explained(AutopilotExplained),
}

/// What the autopilot of a leader sees and wants.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AutopilotState {
    /// Who leads.
    pub leader: String,
    /// In which term.
    pub term: u64,
    /// For how long, in milliseconds.
    pub leads_ms: u64,
    /// The feature level of the log.
    pub level: u32,
    /// What this leader's program supports.
    pub supports: u32,
    /// How many voters it grows the group to.
    pub voters_target: u32,
    /// The step under way, or what keeps it from any.
    pub step: Option<String>,
    /// Everyone it knows that is registered or in the group.
    pub members: Vec<AutopilotMember>,
    /// Its newest decisions, newest first.
    pub decisions: Vec<AutopilotDecision>,
}

/// One agent as the autopilot sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AutopilotMember {
    /// Its name.
    pub name: String,
    /// Its node id.
    pub id: u64,
    /// `leader`, `voter`, `learner` or `none`.
    pub raft: String,
    /// It is in gossip, connected, and answers if it is in the group.
    pub healthy: bool,
    /// Since when without a break, in milliseconds, as far as this leader has observed.
    pub stable_ms: u64,
    /// How long it has been gone, if it is.
    pub gone_ms: Option<u64>,
    /// Failures within the window of the settings that it came back from.
    pub flaps: u32,
    /// Its zone, if its tags name one.
    pub zone: Option<String>,
    /// Its program version.
    pub version: String,
    /// The highest feature level that its program supports, if it is connected.
    pub supports: Option<u32>,
    /// The role that it should have: `voter`, `learner` or `none`.
    pub should: String,
    /// Why that is so, or why it is not so yet.
    pub why: String,
}

/// One decision.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AutopilotDecision {
    /// Counted from the start of the agent that decided.
    pub number: u64,
    /// When, by the wall clock of that agent, in microseconds since the epoch; for people only.
    pub time_us: i64,
    /// By which rule.
    pub rule: String,
    /// What was decided.
    pub what: String,
    /// What was seen then.
    pub inputs: String,
    /// What came of it.
    pub outcome: String,
}

/// Why one agent is what it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AutopilotExplained {
    /// The agent.
    pub member: AutopilotMember,
    /// Decisions about it that this leader remembers, newest first.
    pub decisions: Vec<AutopilotDecision>,
}

/// Where a tail starts and stops.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TailFrom {
    /// Where to start.
    pub start: Start,
    /// Stop before this offset.
    pub until: Option<u64>,
    /// Go on when the committed end is reached.
    pub follow: bool,
    /// Only entries that hold a record of this stream (the reader filters records).
    pub stream: Option<String>,
    /// Only entries that hold a record with this key (the reader filters records).
    pub key: Option<String>,
    /// How fresh the committed end must be.
    pub read: ReadLevel,
    /// 0 from a client, 1 when an agent without a log fetches for its client.
    pub hops: u8,
}

/// A place in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Start {
    /// The first readable record.
    #[default]
    First,
    /// The committed end: only what comes later.
    End,
    /// This offset.
    Offset(u64),
    /// This many records after the first readable one.
    AfterFirst(u64),
    /// This many records before the committed end.
    BeforeEnd(u64),
    /// The first record at or after this wall time, microseconds since the epoch.
    Time(i64),
}

/// How fresh a read is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReadLevel {
    /// What this agent knows to be committed.
    #[default]
    Committed,
    /// Everything acknowledged before the read began, anywhere.
    Linear,
    /// At least everything up to and with this offset.
    After(u64),
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Answer {
    /// To [`Ask::Members`].
    Members(Vec<Member>),
    /// To [`Ask::Status`].
    Status(Box<Status>),
    /// To [`Ask::Leave`]: it is committed, and the agent stops.
    Removed,
    /// To [`Ask::Barrier`] and [`Ask::Await`]: the next offset to be written that this agent may read up to.
    Readable {
        /// The first offset that is not readable yet.
        next: u64,
    },
    /// To [`Ask::Transfer`].
    Transferred(Transferred),
    /// To [`Ask::Forget`]: it is committed.
    Forgotten {
        /// The name it had.
        name: String,
        /// All nodes that were ever forgotten under this name.
        nodes: Vec<u64>,
    },
    /// To [`Ask::Operate`]: it is done, and committed.
    Operated(Operated),
    /// To [`Ask::Autopilot`].
    Autopilot(Box<AutopilotAnswer>),
    /// To [`Ask::Tags`]: changed, and saved for the next start of that agent.
    Tags(TagsOf),
    /// To [`Ask::Facts`].
    Facts(Box<crate::facts::Picture>),
}

/// What became of an agent that an operator dealt with, and of the group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operated {
    /// Its name.
    pub name: String,
    /// Its node id.
    pub node: u64,
    /// What it is in the group now: `leader`, `voter`, `learner` or `none`.
    pub raft: String,
    /// It was otherwise before.
    pub changed: bool,
    /// It answers: what was asked has been done by it as well.
    pub present: bool,
    /// Who got its vote.
    pub heir: Option<String>,
    /// Who votes now.
    pub voters: Vec<String>,
    /// How many more voters may fail without the cluster stopping, once those that are drained are stopped.
    pub tolerates: u32,
    /// From when it was asked until it was done, in milliseconds.
    pub ms: u64,
}

/// Leadership after a transfer. If the named agent led already, both names are its own and no time has passed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transferred {
    /// Who led when it was asked.
    pub from: String,
    /// Who leads now.
    pub to: String,
    /// From the leader's decision until it heard its heir lead, in milliseconds.
    pub ms: u64,
}

/// One member as an agent sees it. Names and tags come from remote machines: escape before showing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Its node id.
    pub id: u64,
    /// The address it advertises.
    pub addr: String,
    /// `alive`, `suspect`, `leaving`, `left` or `failed`.
    pub state: String,
    /// `leader`, `voter`, `learner` or `none`.
    pub raft: String,
    /// Entries it is behind the leader; only the leader knows, others answer `None`.
    pub lag: Option<u64>,
    /// Round trip from the answering agent, in milliseconds.
    pub rtt_ms: Option<f64>,
    /// Its program version.
    pub version: String,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// An operator has drained it, or does.
    #[serde(default)]
    pub draining: bool,
    /// `voter` or `learner`, if an operator gave it that seat.
    #[serde(default)]
    pub pinned: Option<String>,
}

/// A picture of one agent and what it knows of the cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Cluster id, hex.
    pub cluster: String,
    /// Log id, hex; `None` before this agent belongs to a log.
    pub log_id: Option<String>,
    /// The answering agent.
    pub name: String,
    /// Its node id.
    pub node: u64,
    /// Its program version.
    pub version: String,
    /// The leader's name, if known.
    pub leader: Option<String>,
    /// The term.
    pub term: u64,
    /// `leader`, `voter`, `learner` or `none`.
    pub raft: String,
    /// Nothing in `problems`.
    pub healthy: bool,
    /// Names of the voters.
    pub voters: Vec<String>,
    /// Names of the learners.
    pub learners: Vec<String>,
    /// How many more voters may fail without the cluster stopping; those that have failed already are counted off.
    pub tolerates: u32,
    /// First readable offset.
    pub first: u64,
    /// Next offset: one past the last committed record.
    pub next: u64,
    /// Commit index of Raft.
    pub committed_index: u64,
    /// Applied index.
    pub applied_index: u64,
    /// Bytes of the log on this agent's disk.
    pub bytes: u64,
    /// What an operator should know, one sentence each.
    pub problems: Vec<String>,
    /// The largest value of a record in this log, in bytes.
    pub record_bytes_max: u64,
    /// Where the time of recent appends went at this agent.
    #[serde(default)]
    pub append: AppendStages,
    /// What is known of the bytes on this agent's disk.
    #[serde(default)]
    pub disk: DiskHealth,
    /// Room on this agent's disk.
    #[serde(default)]
    pub space: DiskSpace,
    /// Names of the agents that operators have drained, or do.
    #[serde(default)]
    pub draining: Vec<String>,
    /// For each of `problems` the code of its cause (`E0130`), where it has one: see [`crate::diagnosis`].
    #[serde(default)]
    pub codes: Vec<Option<String>>,
    /// What waits in its queues, and how full they are.
    #[serde(default)]
    pub queues: Vec<QueueLoad>,
}

/// Why a request failed, in one word that scripts may compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Code {
    /// The leader is unknown or has no quorum.
    NoQuorum,
    /// It was sent to the log and nobody knows whether it will stand there.
    Unknown,
    /// The certificate's role does not allow it.
    NotAuthorised,
    /// A record, batch or name breaks a limit.
    Invalid,
    /// Too much waits already; retry later.
    Busy,
    /// The offset is trimmed, or the member is not known.
    NotFound,
    /// It would endanger the cluster.
    Refused,
    /// Something else changed meanwhile.
    Conflict,
    /// This agent cannot serve it now (no log yet, stopping, halted).
    Unavailable,
    /// The disk of this agent holds damaged data.
    Corrupt,
    /// The disks that would have to take it are nearly full; retry when there is room.
    NoSpace,
    /// It waited for something that has not come in time.
    Late,
}

/// Whether the failed request changed anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Effect {
    /// Surely not: safe to retry.
    NotApplied,
    /// Nobody can say.
    Unknown,
    /// The request never changes anything.
    None,
}

/// A request that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{what}")]
pub struct Failure {
    /// For programs.
    pub code: Code,
    /// Was anything changed.
    pub effect: Effect,
    /// What, and why, in one sentence.
    pub what: String,
    /// What to do next; may be empty.
    pub hint: String,
}

/// The end of a successful append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Offset of the first record of the batch.
    pub first: u64,
    /// Offset of the last one.
    pub last: u64,
    /// Term of the entry.
    pub term: u64,
    /// The log's time of the entry, microseconds since the epoch.
    pub time: i64,
    /// The entry's Lamport time.
    pub lamport: u64,
    /// It was a retry of one that stands already.
    pub deduped: bool,
}
