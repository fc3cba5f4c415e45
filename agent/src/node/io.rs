//! Input and Output of the whole agent: the seam that the shell and the simulator share.

use super::known::Known;
use super::message::PeerMessage;
use crate::api::{Answer, Append, Appended, Ask, Failure};
use crate::checkpoint::Checkpoint;
use crate::pledge::Record;
use quorate_raft::wal::{Batch, DamagedRange, Entry, Repaired};
use quorate_raft::{LogIndex, Mono, PersistTicket};
use std::net::SocketAddr;
use std::sync::Arc;

/// The world speaks.
#[derive(Debug)]
pub enum Input {
    /// Nothing but `now`: a timeout may be due.
    Timeout,
    /// The first live connection to this agent is up; its Hello has passed.
    PeerUp(Peer),
    /// The last connection to this agent is gone.
    PeerDown {
        /// Which.
        node: u64,
    },
    /// One of the connections to this agent ended while others live: what was under way on it may be lost.
    FramesLost {
        /// To which.
        node: u64,
    },
    /// An agent said this.
    Peer {
        /// Who, proven by the connection.
        node: u64,
        /// What.
        message: PeerMessage,
    },
    /// An agent sent a frame that does not decode.
    Malformed {
        /// Who, proven by the connection.
        node: u64,
        /// What was wrong, in words of ours.
        what: &'static str,
    },
    /// A gossip packet.
    Datagram {
        /// Who sent it, proven by the connection.
        node: u64,
        /// The packet.
        bytes: Vec<u8>,
    },
    /// A push-pull request; exactly one `ExchangeReply` with this token follows.
    Exchange {
        /// Who asks.
        node: u64,
        /// Names the request.
        token: u64,
        /// The asker's state.
        bytes: Vec<u8>,
    },
    /// The answer to a push-pull that this node began.
    ExchangeReply {
        /// Who answers.
        node: u64,
        /// Its state.
        bytes: Vec<u8>,
    },
    /// A join address led to a connection.
    SeedAnswered {
        /// As it was given.
        seed: String,
        /// Who answered.
        node: u64,
    },
    /// A join address did not lead to a connection.
    SeedFailed {
        /// As it was given.
        seed: String,
        /// Why, in one sentence.
        why: String,
        /// The words of whoever answered there, if that was a refusal of this very agent.
        refusal: Option<String>,
        /// The addresses that were tried.
        tried: Vec<SocketAddr>,
    },
    /// An agent that proved a certificate of the cluster and a node key was refused.
    TurnedAway {
        /// Its node id.
        node: u64,
        /// The name that its certificate proves.
        name: String,
        /// Where it was met.
        addr: SocketAddr,
        /// Why; this side's words.
        why: String,
    },
    /// What was to be remembered about founding is durable: the end of an `Output::Pledge`.
    PledgeKept {
        /// Which change of it.
        change: u64,
    },
    /// Everything up to this write is durable.
    Written {
        /// The newest durable write.
        ticket: PersistTicket,
    },
    /// Term and vote of every write up to this one are durable, though its entries, or earlier ones, wait for room.
    HardStateWritten {
        /// The newest such write.
        ticket: PersistTicket,
    },
    /// What the file system of the log says of itself; told at the start, and when it changes.
    Space {
        /// Bytes that this agent may still fill.
        free: u64,
        /// All its bytes.
        total: u64,
        /// A write waits for room now.
        waits: bool,
    },
    /// The log on disk refused a write whose content contradicts it; nothing later was written either.
    WriteRefused {
        /// What contradicts.
        why: String,
    },
    /// The entries of a `Fetch`; fewer than asked if the size bound was reached, none if they are gone.
    Fetched {
        /// Which fetch.
        token: u64,
        /// What was read.
        entries: Vec<Entry>,
    },
    /// These entries of the log cannot be read: all that are known, ascending; again whenever that changes.
    Damaged {
        /// All of them.
        ranges: Vec<DamagedRange>,
    },
    /// The end of a `Repair`. A changed picture of the damage comes before it.
    Repaired {
        /// Which.
        id: u64,
        /// How far it has come.
        result: Result<Repaired, RepairFailed>,
    },
    /// What became of an `Output::Checkpoint`.
    Checkpointed {
        /// Of which entry.
        index: LogIndex,
        /// Its length in bytes, durable; or why it was not saved: it is asked for again later.
        result: Result<u64, String>,
    },
    /// A `Dial` came to nothing.
    DialFailed {
        /// Whom.
        node: u64,
    },
    /// The end of a `SaveTags`: durable, or why not.
    TagsSaved {
        /// Which.
        id: u64,
        /// What became of it.
        result: Result<(), String>,
    },
    /// A client asks.
    Request(Request),
    /// The process is told to stop: hand over, finish what was begun, then answer `Stopped`.
    Stop,
}

/// For whom entries are read from the log: for others at a rate, so that commits do not suffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FetchFor {
    /// This agent's own machines.
    Itself,
    /// A member that is far behind.
    CatchUp,
    /// A member that repairs its log.
    Repair,
}

/// Why entries did not repair a log. Nothing changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RepairFailed {
    /// They are not what stood there.
    Unfit(String),
    /// There is no room for the copy of a segment.
    NoRoom(String),
}

/// Another agent, as its Hello proved it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its node id.
    pub node: u64,
    /// The name its certificate proves.
    pub name: String,
    /// Its boot epoch.
    pub epoch: u64,
    /// Its boot id.
    pub boot: u64,
    /// The log it belongs to.
    pub log_id: Option<[u8; 16]>,
    /// Where it can be reached.
    pub addr: SocketAddr,
    /// Under which address it sees this agent.
    pub observed: Option<SocketAddr>,
    /// Its program version.
    pub version: String,
    /// It was told to found a log, unless it finds one.
    pub founder: bool,
    /// The highest feature level that its program understands.
    pub supports: u32,
    /// It was told to expect others, now or once: it understands what is said about founding together.
    pub expects: bool,
}

/// One request of a client.
#[derive(Clone, Debug)]
pub struct Request {
    /// Names it in `Answer`.
    pub id: u64,
    /// Who asks, for people: `client ci (append)`.
    pub who: Arc<str>,
    /// When the asker stops waiting.
    pub deadline: Mono,
    /// What is asked.
    pub what: What,
}

/// What is asked; roles have been checked.
#[derive(Clone, Debug)]
pub enum What {
    /// Append a batch.
    Append(Append),
    /// Anything else.
    Ask(Ask),
}

/// The end of a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// Of an append.
    Appended(Appended),
    /// Of a question.
    Answer(Answer),
}

/// Which connection carries a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Heartbeats and fresh entries.
    Peer,
    /// What is large and may wait: catch-up from disk, forwarded batches.
    Bulk,
}

/// The core asks.
#[derive(Debug)]
pub enum Output {
    /// Write this, in order; make it durable; answer `Written`.
    Write {
        /// Its ticket.
        ticket: PersistTicket,
        /// What to write.
        batch: Batch,
    },
    /// Keep this record about founding, in place of the one before; durable, and in the order of these; answer `PledgeKept`.
    Pledge {
        /// Names the change.
        change: u64,
        /// The whole record.
        record: Box<Record>,
    },
    /// Send this to a peer; it may be lost.
    Send {
        /// To whom.
        node: u64,
        /// On which connection.
        class: Class,
        /// What.
        message: PeerMessage,
    },
    /// Send this gossip packet; it may be lost.
    Datagram {
        /// To whom.
        node: u64,
        /// Where it is said to be.
        addr: SocketAddr,
        /// The packet.
        bytes: Vec<u8>,
    },
    /// Begin a push-pull over a stream; answer `ExchangeReply`, or nothing.
    Exchange {
        /// With whom.
        node: u64,
        /// Where it is said to be.
        addr: SocketAddr,
        /// This node's state.
        bytes: Vec<u8>,
    },
    /// Answer a push-pull.
    ExchangeReply {
        /// Which.
        token: u64,
        /// This node's state.
        bytes: Vec<u8>,
    },
    /// Resolve this join address, try each address of it, once.
    DialSeed {
        /// As it was given.
        seed: String,
    },
    /// Keep a connection to this node, redialling at this address.
    Keep {
        /// Whom.
        node: u64,
        /// Where.
        addr: SocketAddr,
    },
    /// No need to keep a connection to it any more.
    Unkeep {
        /// Whom.
        node: u64,
    },
    /// Dial this node, once; answer `PeerUp` or `DialFailed`.
    Dial {
        /// Whom.
        node: u64,
        /// Where.
        addr: SocketAddr,
    },
    /// Close every connection with this node: nobody uses them.
    Release {
        /// Which.
        node: u64,
    },
    /// Close every connection with this node, and tell it why: it has lied beyond doubt.
    CutOff {
        /// Which.
        node: u64,
        /// What it did.
        offence: super::Offence,
    },
    /// Read entries from the log; answer `Fetched`.
    Fetch {
        /// Names the read.
        token: u64,
        /// The first index.
        from: LogIndex,
        /// The last index.
        to: LogIndex,
        /// Stop after this many bytes, but read at least one entry.
        bytes_max: usize,
        /// Whose need it is.
        whom: FetchFor,
    },
    /// Give these entries back to a damaged range of the log; answer `Repaired`.
    Repair {
        /// Names it.
        id: u64,
        /// From the first one that is missing on, contiguous.
        entries: Vec<Entry>,
    },
    /// Save this state beside the log; every entry in it is durable there. Answer `Checkpointed`. At most one at a time.
    Checkpoint(Box<Checkpoint>),
    /// A request has ended; exactly once each.
    Answer {
        /// Which.
        request: u64,
        /// How.
        result: Result<Reply, Failure>,
    },
    /// What others in this process may know has changed.
    Published(Arc<Published>),
    /// This node now belongs to this log: say so in every later Hello.
    JoinedLog {
        /// Which.
        log_id: [u8; 16],
    },
    /// The addresses worth remembering over a restart have changed.
    Remember(Vec<Known>),
    /// Save the tags that were set at run time, for the next start, in place of those saved before; answer `TagsSaved`.
    SaveTags {
        /// Names it.
        id: u64,
        /// All of them.
        tags: std::collections::BTreeMap<String, String>,
    },
    /// Nothing is owed any more, or the time for it is over: stop.
    Stopped,
    /// This node has left for good: set the data directory aside and stop.
    Departed,
    /// Something a person may want to read.
    Note {
        /// How bad.
        level: Level,
        /// One sentence; remote text in it is escaped.
        text: String,
    },
}

/// How bad a note is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Normal, rare.
    Info,
    /// Look when you have time.
    Warn,
    /// Look now.
    Error,
}

/// What the readers of the log and the gate of the transport may know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Published {
    /// Records before this offset may be read here.
    pub readable: u64,
    /// The entry that holds the last of them.
    pub readable_index: LogIndex,
    /// Does this node hold the log at all.
    pub has_log: bool,
    /// Has this node, since it started, applied all that a leader told it to be committed? Before that nobody can say
    /// what is readable here.
    pub current: bool,
    /// Agents that hold the log, the leader first: for those that do not.
    pub replicas: Arc<[SocketAddr]>,
    /// Entries that no member of this log can read: the first and the last one of each range, at most those that `status`
    /// names.
    pub lost: Vec<(LogIndex, LogIndex)>,
    /// The gate.
    pub gate: super::admission::Gate,
    /// This node is about to stop and takes nothing new.
    pub stopping: bool,
    /// This node is drained: its readers go on with another agent.
    pub drained: bool,
    /// The largest value of a record.
    pub record_bytes_max: usize,
}
