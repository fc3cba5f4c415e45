//! Facts: what an agent knows that may explain why its cluster does not serve, or why it is not a member. Pure data.
//!
//! It never judges: that is the business of [`crate::diagnosis`], which takes the same facts from an agent that runs and from a
//! directory that nobody uses. It holds no key and no token. Names and texts come from remote machines: escape before showing.
//!
//! Times are told in milliseconds before the moment of the answer, so that clocks need not agree. What one of a few things
//! is called is a word, not an enumeration: an older reader must be able to read what a newer agent says.

use crate::measures::{DiskHealth, DiskSpace, Latency};
use serde::{Deserialize, Serialize};

/// The answer to [`crate::api::Ask::Facts`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Picture {
    /// Of the agent that was asked.
    pub own: Facts,
    /// Of those that it asked in turn.
    pub others: Vec<Heard>,
}

/// What came of asking another agent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Heard {
    /// Its node id, if it is known.
    pub node: Option<u64>,
    /// Its name, or the address that was asked.
    pub name: String,
    /// Where it was asked.
    pub addr: String,
    /// Its facts; none if it did not answer.
    pub facts: Option<Facts>,
    /// Why it did not.
    pub trouble: Option<Trouble>,
}

/// Everything that one agent knows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Facts {
    /// Cluster id, hex.
    pub cluster: String,
    /// Its name.
    pub name: String,
    /// Its node id.
    pub node: u64,
    /// Its program version.
    pub version: String,
    /// Which of its lives this is.
    pub boot: u64,
    /// For how long it has run.
    pub up_ms: u64,
    /// Where it says that others reach it.
    pub advertise: String,
    /// Where it listens.
    pub bind: String,
    /// Its data directory.
    pub data: String,
    /// Log id, hex; none before it belongs to a log.
    pub log_id: Option<String>,
    /// How it means to come to a log.
    pub formation: FormationFacts,
    /// Its Raft.
    pub raft: RaftFacts,
    /// The other agents that it knows.
    pub members: Vec<MemberFacts>,
    /// Who holds which name, and who is gone for good.
    pub registry: RegistryFacts,
    /// Agents with a good certificate that were turned away lately.
    pub strangers: Vec<StrangerFacts>,
    /// Who failed to get in lately for another reason, by address.
    pub knocks: Vec<KnockFacts>,
    /// Join addresses that did not lead in, when last tried.
    pub dials: Vec<DialFacts>,
    /// Its disk.
    pub disk: DiskFacts,
    /// Its clock.
    pub clock: ClockFacts,
    /// Its certificate.
    pub certificate: Option<CertificateFacts>,
    /// What its status lists as problems.
    pub problems: Vec<Problem>,
    /// What programs understand: its own, and all of its log.
    pub level: LevelFacts,
    /// What the autopilot goes by.
    pub autopilot: AutopilotFacts,
}

/// Feature levels.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LevelFacts {
    /// What every member of the log has to understand; zero: not said.
    pub log: u32,
    /// What the program of this agent understands.
    pub supports: u32,
}

/// What the autopilot goes by, as far as a rule here asks for it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AutopilotFacts {
    /// So many voters it grows to; zero: not said.
    pub voters_target: u32,
    /// An operator has told it to leave the seats of older versions alone.
    pub upgrade_off: bool,
}

/// One line of the problems that an agent tells.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Problem {
    /// The code of the cause, where it has one: `E0130`.
    pub code: Option<String>,
    /// For people.
    pub text: String,
}

/// Why somebody cannot be reached, in words that programs may compare.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Trouble {
    /// `no_answer`, `not_trusted` (their certificate, by us), `they_refused` (ours, by them), `closed` (by their policy),
    /// `we_refused` (by ours), `version`, `other_node`, `address`, `unresolved`, `failed`.
    pub word: String,
    /// What was wrong with the certificate (`expired`, `other_authority`, ..), or the reason of a policy (`copy`, `stale`,
    /// `forgotten`, `superseded`, `name_held`, `name_kept`, or the word of a close code).
    pub detail: String,
    /// For people.
    pub text: String,
}

/// How an agent means to come to a log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FormationFacts {
    /// `--bootstrap`.
    pub bootstrap: bool,
    /// `--join`, and addresses remembered from before.
    pub seeds: Vec<String>,
    /// It looks for members before it founds.
    pub founding: bool,
    /// How many agents have to come together before a log is founded.
    pub expect: Option<u32>,
    /// Those that have come, by name.
    pub seen: Vec<String>,
    /// Why a leader has not added it yet, or what else it waits for.
    pub waiting: Option<String>,
}

/// The Raft of one agent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RaftFacts {
    /// It is a voter or learner of its log, as far as it knows.
    pub member: bool,
    /// `leader`, `candidate`, `pre-candidate` or `follower`.
    pub role: String,
    /// The term.
    pub term: u64,
    /// The leader's node id.
    pub leader: Option<u64>,
    /// Its name.
    pub leader_name: Option<String>,
    /// For how long no leader is known.
    pub leaderless_ms: Option<u64>,
    /// Who led last, as far as it knows.
    pub last_leader: Option<String>,
    /// Node ids of the voters, those of both groups in a joint phase.
    pub voters: Vec<u64>,
    /// Those of the group that is given up, in a joint phase: it needs a majority of its own.
    pub outgoing: Vec<u64>,
    /// Node ids of the learners.
    pub learners: Vec<u64>,
    /// For how long it has led.
    pub leads_ms: Option<u64>,
    /// A leader: is an entry of its own term committed.
    pub own_term_committed: bool,
    /// The last entry here.
    pub last: u64,
    /// The last durable one.
    pub durable: u64,
    /// The commit index.
    pub committed: u64,
    /// The applied index.
    pub applied: u64,
    /// Why Raft of this agent has stopped.
    pub halted: Option<String>,
    /// Why its machines have stopped or wait.
    pub machine: Option<String>,
    /// Its disk has lost what it acknowledged up to here.
    pub missing: Option<u64>,
    /// A member that, as a leader, contradicted what is committed here.
    pub contradicted_by: Option<String>,
    /// The log that it holds says that this node is not of it any more.
    pub departed: bool,
    /// How often the term has moved in the last minute.
    pub terms_moved: u64,
    /// Who moved it, the busiest first: name, and how often.
    pub movers: Vec<(String, u64)>,
    /// The shortest election timeout.
    pub election_timeout_min_ms: u64,
    /// The longest one.
    pub election_timeout_max_ms: u64,
}

/// Another agent, as one agent sees it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MemberFacts {
    /// Its node id.
    pub node: u64,
    /// Its name.
    pub name: String,
    /// Where it is dialled.
    pub addr: String,
    /// `alive`, `suspect`, `leaving`, `left`, `failed`, or `unseen`: gossip has never heard of it.
    pub state: String,
    /// For how long.
    pub since_ms: u64,
    /// This agent had a connection with it in this life.
    pub proven: bool,
    /// There is a connection now.
    pub connected: bool,
    /// When there last was one.
    pub last_up_ms: Option<u64>,
    /// Why there is none.
    pub trouble: Option<Trouble>,
    /// Its program version.
    pub version: String,
    /// The log that it belongs to, hex.
    pub log_id: Option<String>,
    /// Its newest life that is known.
    pub boot: u64,
    /// How far its clock is ahead of this agent's, in microseconds.
    pub clock_ahead_us: Option<i64>,
    /// A leader: its disk takes no entries.
    pub full: bool,
    /// A leader: for how long it has not answered Raft, if that is longer than any election.
    pub unheard_ms: Option<u64>,
    /// Round trip, in microseconds.
    pub rtt_us: Option<u64>,
    /// The feature level that its program understands, if it is connected.
    pub supports: Option<u32>,
    /// Packets sent on the connection.
    pub sent_packets: u64,
    /// Of those, lost.
    pub lost_packets: u64,
}

/// Who holds which name, and who is gone for good, as far as an agent has applied its log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RegistryFacts {
    /// Name, node id, newest boot that was registered.
    pub holders: Vec<(String, u64, u64)>,
    /// Nodes that an operator has dropped.
    pub forgotten: Vec<u64>,
    /// Nodes whose name was given to another: the node, and who holds it.
    pub superseded: Vec<(u64, u64)>,
    /// Nodes that an operator drains, and for how long this agent has known that in its present life, in milliseconds.
    pub draining: Vec<(u64, u64)>,
    /// Nodes to which an operator gave a seat: `voter` or `learner`.
    pub pinned: Vec<(u64, String)>,
}

/// An agent with a good certificate that was turned away.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StrangerFacts {
    /// Its node id.
    pub node: u64,
    /// The name that its certificate proves.
    pub name: String,
    /// From where.
    pub addr: String,
    /// The reason in one word, as in [`Trouble::detail`].
    pub detail: String,
    /// For people.
    pub why: String,
    /// When it last tried.
    pub ago_ms: u64,
}

/// Somebody who failed to get in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct KnockFacts {
    /// From where; without its port, which changes with each try.
    pub from: String,
    /// What happened.
    pub trouble: Trouble,
    /// How often lately.
    pub count: u64,
    /// When last.
    pub ago_ms: u64,
}

/// A join address that did not lead in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DialFacts {
    /// As it was given.
    pub seed: String,
    /// What happened.
    pub trouble: Trouble,
    /// When last.
    pub ago_ms: u64,
    /// How often in a row.
    pub count: u64,
}

/// The disk of one agent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DiskFacts {
    /// Damage, repair, scrubbing.
    pub health: DiskHealth,
    /// Room.
    pub space: DiskSpace,
    /// Its syncs of late.
    pub fsync: Latency,
    /// For how long a write has been waiting to be confirmed.
    pub hangs_ms: Option<u64>,
}

/// The clock of one agent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClockFacts {
    /// What it shows, in microseconds since 1970.
    pub wall_us: i64,
    /// How far it is ahead of the median of the voters, or of its leader, in microseconds.
    pub ahead_us: Option<i64>,
    /// That is too far, and has been for a while.
    pub sick: bool,
    /// By how much the wall clock last jumped, in microseconds, and when.
    pub jumped: Option<(i64, u64)>,
    /// For how long the process last did not run, in milliseconds, and when it went on.
    pub stalled: Option<(u64, u64)>,
}

/// The certificate of one agent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CertificateFacts {
    /// The directory of its files.
    pub dir: String,
    /// Whose it is.
    pub subject: String,
    /// Its first valid second since 1970.
    pub not_before: i64,
    /// Its last one.
    pub not_after: i64,
}
