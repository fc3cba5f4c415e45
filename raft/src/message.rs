//! What peers say to each other; bodies are named as in the dissertation.
//!
//! No entry bytes: those travel beside the message, and it announces them by position.

use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

use crate::{BootId, LogIndex, Position, Run, Term};

/// One message between cores. Serialized as it is, without entry bytes: those travel beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// The sender's term when it spoke.
    pub(crate) term: Term,
    /// Which lives and which membership it belongs to.
    pub(crate) fence: Fence,
    pub(crate) body: Body,
}

/// Keeps apart what was said in an earlier life or an earlier membership: an answer counts only if it echoes all of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fence {
    /// The configuration entry that admitted the peer, as the one who asks sees it; echoed by the one who answers.
    pub(crate) admitted: LogIndex,
    /// The life that speaks.
    pub(crate) from_boot: BootId,
    /// The life that is spoken to; zero if the sender does not know it yet.
    pub(crate) to_boot: BootId,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Body {
    /// Could I win an election in the next term? (§9.6)
    #[serde(rename = "p")]
    PreVote { round: u64, last: Position },
    #[serde(rename = "P")]
    PreVoteReply { round: u64, granted: bool },
    /// RequestVote (Figure 3.1). `transfer`: the leader itself asked for it, so stickiness does not apply (§4.2.3).
    #[serde(rename = "v")]
    Vote { last: Position, transfer: bool },
    #[serde(rename = "V")]
    VoteReply { granted: bool },
    /// AppendEntries (Figure 3.1) with the entries after `prev` up to `last`; without any it is a heartbeat.
    #[serde(rename = "a")]
    Append {
        prev: Position,
        last: Position,
        commit: LogIndex,
        /// The read round it asks to confirm (§6.4).
        round: u64,
        /// It only brings news of the commit index: no answer wanted, unless `prev` is unknown.
        quiet: bool,
    },
    /// `matched`: durable and equal to the leader's log. `verified`: equal, maybe not yet durable. `full`: the disk there
    /// takes only what the group itself needs.
    #[serde(rename = "A")]
    AppendReply {
        matched: LogIndex,
        verified: LogIndex,
        round: u64,
        #[serde(default)]
        full: bool,
    },
    /// The follower's log has nothing, or something else, at `prev`. `runs` is the latest shape of its log up to `last`.
    #[serde(rename = "C")]
    Conflict { prev: LogIndex, last: LogIndex, runs: Vec<Run>, round: u64 },
    /// The request was of an older term than mine.
    #[serde(rename = "S")]
    StaleTerm,
    /// A member asks the leader for a read index (§6.4).
    #[serde(rename = "r")]
    ReadIndex { id: u64 },
    /// `index` is none if the leader cannot say at the moment.
    #[serde(rename = "R")]
    ReadIndexReply { id: u64, index: Option<LogIndex> },
    /// Stand for election at once (§3.10), if your durable log reaches `last`.
    #[serde(rename = "t")]
    TimeoutNow { last: Position },
    /// You have acknowledged entries up to here in an earlier life, and your log says that you lost some of them.
    #[serde(rename = "m")]
    Missing { promised: Position },
}

impl Message {
    /// The entries that this append announces (first, last), whose bytes the caller adds or has parsed; `None` for
    /// any other message and for an empty append.
    #[must_use]
    pub fn entries(&self) -> Option<(LogIndex, LogIndex)> {
        match self.body {
            Body::Append { prev, last, .. } if last.index > prev.index => {
                Some((LogIndex(prev.index.0.saturating_add(1)), last.index))
            }
            _ => None,
        }
    }

    /// The entry before those announced and the last one announced, if any are. Bytes whose last entry stands at that
    /// very position are the right ones (log matching, §3.5).
    #[must_use]
    pub fn announced(&self) -> Option<(Position, Position)> {
        match self.body {
            Body::Append { prev, last, .. } if last.index > prev.index => Some((prev, last)),
            _ => None,
        }
    }

    /// Announce the entries only up to `last`, because more bytes would not fit one frame. Does nothing unless `last`
    /// is one of those announced. The rest follows when the peer says what it has.
    pub fn shorten(&mut self, to: Position) {
        if let Body::Append { prev, last, .. } = &mut self.body
            && to.index > prev.index
            && to.index <= last.index
            && to.term >= prev.term
            && to.term <= last.term
        {
            *last = to;
        }
    }

    /// The sender's term.
    #[must_use]
    pub fn term(&self) -> Term {
        self.term
    }

    /// What kind of message this is, in one word, for metrics and traces.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self.body {
            Body::PreVote { .. } => "pre-vote",
            Body::PreVoteReply { .. } => "pre-vote-reply",
            Body::Vote { .. } => "vote",
            Body::VoteReply { .. } => "vote-reply",
            Body::Append { .. } if self.entries().is_some() => "append",
            Body::Append { .. } => "heartbeat",
            Body::AppendReply { .. } => "append-reply",
            Body::Conflict { .. } => "conflict",
            Body::StaleTerm => "stale-term",
            Body::ReadIndex { .. } => "read-index",
            Body::ReadIndexReply { .. } => "read-index-reply",
            Body::TimeoutNow { .. } => "timeout-now",
            Body::Missing { .. } => "missing",
        }
    }

    /// If this is an acknowledgement of entries: the last index that it promises to be durable. For metrics, and for
    /// test harnesses that check the promise from outside.
    #[must_use]
    pub fn acknowledges(&self) -> Option<LogIndex> {
        match self.body {
            Body::AppendReply { matched, .. } => Some(matched),
            _ => None,
        }
    }

    /// The commit index that an append tells. For metrics and test harnesses.
    #[must_use]
    pub fn commit(&self) -> Option<LogIndex> {
        match self.body {
            Body::Append { commit, .. } => Some(commit),
            _ => None,
        }
    }

    /// Is this a granted vote (not a pre-vote)? For metrics and test harnesses.
    #[must_use]
    pub fn grants_vote(&self) -> bool {
        matches!(self.body, Body::VoteReply { granted: true })
    }
}
