//! Input and Output: all that crosses the wall of the core.
//!
//! No payload byte ever does: the caller keeps the bytes and the core names them by index.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

use crate::{BootId, Configuration, LogIndex, Message, NodeId, PersistTicket, Position, Term, Ticket};

/// What an entry is to the core.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// Opaque to the core.
    Normal,
    /// The first entry of a leader's term (§6.4); no payload.
    Noop,
    /// A configuration, active from the moment it is appended (§4.1).
    Configuration(Configuration),
}

/// All that the core knows of one entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryShape {
    /// Where it stands.
    pub position: Position,
    /// What it is.
    pub kind: EntryKind,
    /// Size of its encoded bytes, for flow control. For entries that the core makes itself: zero.
    pub bytes: u32,
}

/// Term and vote: what must be on disk before anyone hears of it (Figure 3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HardState {
    /// The latest term seen.
    pub term: Term,
    /// Whom this node voted for in `term`.
    pub vote: Option<NodeId>,
}

/// One write of the ordered stream. Parts happen in this order: hard state, truncation, append. The caller makes all
/// of it durable, then answers [`Input::Persisted`]. Several writes may be answered by the newest ticket alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Persist {
    /// Dense from 1 in each life.
    pub ticket: PersistTicket,
    /// New term or vote.
    pub hard_state: Option<HardState>,
    /// Drop this entry and all that follow.
    pub truncate_from: Option<LogIndex>,
    /// Append these, contiguous. Their bytes came with the input that was just handled; `Noop` and `Configuration`
    /// entries of a leader are the core's own, and the caller encodes them.
    pub append: Vec<EntryShape>,
    /// The bar of this disk changes: see [`Saved::suspect`].
    pub suspect: Option<Suspect>,
}

/// How the bar of a disk that lost what it may have acknowledged changes; see [`Saved::suspect`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suspect {
    /// It stands here from now on.
    At(Position),
    /// The log holds all of that again: there is none any more.
    Cleared,
}

/// A run of entries of one term: it reaches to the entry before the next run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// The first index of the run.
    pub first: LogIndex,
    /// The term of all its entries.
    pub term: Term,
}

/// What a boot read back from the disk, after everything in it was synced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Saved {
    /// Term and vote.
    pub hard_state: HardState,
    /// The entry before the first one kept; zero for a log from its beginning.
    pub start: Position,
    /// The shape of the log after `start`, ascending in index and term.
    pub runs: Vec<Run>,
    /// The last index; `start.index` if the log is empty.
    pub last: LogIndex,
    /// Every configuration entry in the log (and the one in force at `start`), ascending by index.
    pub configurations: Vec<(LogIndex, Configuration)>,
    /// A lower bound of the commit index; only a hint, never above `last`.
    pub committed: LogIndex,
    /// The end of what this disk may have acknowledged and no longer holds, if that lies beyond `last`: a bar for this node
    /// and for the candidates it votes for, until a leader has brought its log up to there again.
    pub suspect: Option<Position>,
}

/// The world speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Nothing but `now`: a timeout may be due.
    Timeout,
    /// An authenticated peer said this. `entries` are the shapes that the caller parsed from the bytes that came with
    /// an append; they must be exactly those that the message announces, else the message is refused.
    Message {
        /// Who said it, proven by the connection it came on.
        from: NodeId,
        /// What was said.
        message: Message,
        /// The shapes of the entries that came along.
        entries: Vec<EntryShape>,
    },
    /// Found a new log: this node is the only voter of its first entry. Legal once, on an empty log.
    Found,
    /// Found a new log together: every one of `voters`, this node among them, writes the same first entry of term 1. Legal
    /// once, on an empty log, and only when a majority of them is bound to do the same: see the agent's `pledge`.
    FoundTogether {
        /// The voters of the first entry.
        voters: alloc::collections::BTreeSet<NodeId>,
    },
    /// Append one entry of `bytes` bytes. `term`: only if this node leads in exactly that term (fencing).
    Propose {
        /// Names the proposal in [`Output::Done`].
        ticket: Ticket,
        /// Encoded size, for flow control.
        bytes: u32,
        /// Fence.
        term: Option<Term>,
    },
    /// A linearizable read barrier (§6.4), from any member.
    Read {
        /// Names the read in [`Output::ReadReady`] or [`Output::Done`].
        ticket: Ticket,
    },
    /// Change who votes and who learns. Through joint consensus where voters differ, left automatically (§4.3).
    Change {
        /// Names the change in [`Output::Done`]; done when the final configuration is committed.
        ticket: Ticket,
        /// The configuration the caller saw, by the index of its entry: compare-and-set.
        expected: LogIndex,
        /// The voters to be.
        voters: BTreeSet<NodeId>,
        /// The learners to be.
        learners: BTreeSet<NodeId>,
    },
    /// Hand leadership to `to`, or to the most up-to-date voter (§3.10).
    Transfer {
        /// Names the transfer in [`Output::Done`].
        ticket: Ticket,
        /// The heir.
        to: Option<NodeId>,
    },
    /// Entries that an append to this peer announced were read from disk, and it goes out with those of them that fit:
    /// whatever was planned behind them the caller drops, and it is planned again. Says what such entries weigh, too: the
    /// core knows that only of those appended in its own life.
    Carried {
        /// The peer.
        to: NodeId,
        /// Where the append was planned to end.
        planned: LogIndex,
        /// Where it begins and ends.
        first: LogIndex,
        /// See `first`.
        last: LogIndex,
        /// The encoded size of these entries.
        bytes: u64,
    },
    /// From now on this node stands for election only if nobody else has for a while, or at once again: its clock or its
    /// disk is sick, and any other leader is better. It still votes, and still stands in the end.
    Reluctant(bool),
    /// The entries inside this node's log that it cannot read, each range by its first and last one, ascending; none if it
    /// can read all. While there are some it stands for no election, and a leader should hand over. It still votes: where
    /// its log ends it knows.
    Damaged(Vec<(LogIndex, LogIndex)>),
    /// Of the entries that this node cannot read, most voters can read none either, or some can. If so, and if all of them
    /// are known to be committed, this node may stand for election again: who waits for a better one waits for nobody.
    Irreparable(bool),
    /// From now on the disk takes no entries but those that the group itself needs (no-ops and configurations), or takes
    /// all again. The leader is told with every answer and sends accordingly; heartbeats, votes and reads go on.
    Room(bool),
    /// Lead no more, if this node leads: its disk hangs and nobody could be asked to take over (§3.10 needs an heir).
    StepDown,
    /// Term and vote of every write up to this one are durable, though its entries, and entries before it, still wait for
    /// room. What promises term or vote alone may go.
    HardStatePersisted {
        /// The newest write whose hard state, and those of all writes before it, are durable.
        ticket: PersistTicket,
    },
    /// Most voters hold another history than this node, at this entry that all of them committed: it takes no part any more.
    Outvoted {
        /// The entry.
        index: LogIndex,
    },
    /// This entry of the log could not be read at the start, and holds a configuration. It comes before the `Damaged` that
    /// ends the damage, so whoever leads knows all of them.
    Learned {
        /// The index of the entry.
        index: LogIndex,
        /// What it holds.
        configuration: Configuration,
    },
    /// Entries that could not be read at the start can be read again, and these are their terms, from the first run on up to
    /// `last`; a start may have had to guess. It comes before the `Damaged` that ends the damage, as [`Input::Learned`] does.
    Reread {
        /// The runs, ascending.
        runs: Vec<Run>,
        /// The last of these entries.
        last: LogIndex,
    },
    /// Everything up to this write is durable.
    Persisted {
        /// The newest durable write.
        ticket: PersistTicket,
    },
    /// A link to this peer came up under this boot id (proven by Hello). A hint: resend now; also the peer's fence: from
    /// now on only messages of that life count, so this comes before the first of them.
    PeerUp {
        /// The peer.
        peer: NodeId,
        /// Its boot.
        boot: BootId,
    },
    /// The link is gone. Only a hint: nothing in flight will be answered.
    PeerDown {
        /// The peer.
        peer: NodeId,
    },
}

/// How a local request ended. Every ticket ends exactly once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Committed at this position. (Transfer: the heir leads, `position` is zero.)
    Committed {
        /// Where.
        position: Position,
    },
    /// Refused before anything was appended: safe to retry.
    Rejected(Reject),
    /// It was appended, and overwritten by another leader: it will never be committed. Said only when a commit excludes
    /// it: an entry overwritten here may still be committed by a leader that kept it (Figure 3.7).
    Lost,
}

/// Why a local request was refused. State is unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reject {
    /// This node does not lead; maybe that one does.
    NotLeader {
        /// A hint.
        leader: Option<NodeId>,
    },
    /// The leader cannot reach a quorum at the moment.
    NoQuorum,
    /// The fence named another term.
    WrongTerm,
    /// Too many bytes wait for commit; retry later.
    Overloaded,
    /// A configuration change is in flight, or the own-term entry is not committed yet.
    ChangeInProgress,
    /// The configuration is not the one the caller saw.
    ConfigurationChanged,
    /// The wished configuration is illegal (no voters, a voter that is also a learner).
    IllegalConfiguration,
    /// Leadership is being handed over; retry with the heir.
    Transferring,
    /// The heir is unknown or not a voter, or another node won.
    BadHeir,
    /// The heir did not take over within an election timeout; this node leads on.
    HeirLate {
        /// It was asked to stand, and may still win. Otherwise it did not even catch up.
        asked: bool,
    },
    /// The log is not empty.
    NotEmpty,
    /// This node's Raft has stopped.
    Halted,
}

/// Why this node's Raft stopped: its own state can no longer be trusted. The agent lives on and says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Halt {
    /// The logs of two members, each in a term that it led, conflict with an entry that is committed here. (One alone could
    /// be a lie, and is refused with an alarm.)
    ConflictBelowCommit {
        /// The first index in conflict.
        index: LogIndex,
    },
    /// Most voters hold another history at this committed entry: see [`Input::Outvoted`].
    Outvoted {
        /// The entry.
        index: LogIndex,
    },
    /// The caller broke the contract of [`Input::Persisted`].
    StorageContract,
    /// What the disk gave back contradicts itself.
    BadSaved(&'static str),
}

/// The core asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Write this, in order.
    Persist(Persist),
    /// Send this now; by construction all that it promises is durable. An append announces a range of entries whose
    /// bytes the caller adds; if they are no longer what the message says, it drops the message.
    Send {
        /// To whom.
        to: NodeId,
        /// What.
        message: Message,
    },
    /// The commit index is now this.
    Committed {
        /// The new commit index.
        index: LogIndex,
    },
    /// A proposal was appended here; its end comes as `Done`. Follows the `Persist` that carries the entry.
    Accepted {
        /// Which.
        ticket: Ticket,
        /// Where it stands.
        position: Position,
    },
    /// A local request ended.
    Done {
        /// Which.
        ticket: Ticket,
        /// How.
        outcome: Outcome,
    },
    /// A read may be served once the state is applied up to `index`.
    ReadReady {
        /// Which.
        ticket: Ticket,
        /// Apply at least this far first.
        index: LogIndex,
    },
    /// Term, role or known leader changed: see `status`.
    RoleChanged,
    /// The configuration in force changed (appended, or reverted by a truncation): see `status`.
    ConfigurationChanged,
    /// A peer said what it must not; nothing changed.
    Alarm {
        /// Who.
        from: NodeId,
        /// What was wrong, for the log.
        what: &'static str,
        /// No honest peer says this, whatever happened to either of the two: the connection it came on is best closed.
        /// Else one of the two is wrong, and nobody can say which.
        proof: bool,
    },
    /// This node's Raft has stopped for good in this life.
    Halted(Halt),
}
