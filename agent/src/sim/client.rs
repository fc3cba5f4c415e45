//! Clients: what they asked, of whom, by when, and what they heard.
//!
//! They believe only what they are told; a client whose agent dies never learns the end of its request.

use super::plan::{MS, letter};
use super::script::Call;
use crate::api::{Answer, Append, Ask, AutopilotAsk, Effect, Failure, Verb};
use crate::limits::STREAM_DEFAULT;
use crate::node::{Reply, What};
use crate::record::{Record, encode_batch};
use quorate_raft::Mono;

/// After its deadline a request may take this much longer to be answered: one turn of the agent's clockwork.
pub(super) const TICK_US: u64 = 5 * MS;

/// One request and its end.
#[derive(Debug)]
pub(super) struct Operation {
    pub(super) client: Option<usize>,
    pub(super) machine: usize,
    pub(super) kind: Kind,
    /// When the client stops waiting, on the clock of the agent.
    pub(super) deadline: Mono,
    /// What was acked before it was asked.
    pub(super) floor: u64,
    /// What the client may ask of somebody else if this fails.
    pub(super) retry: Option<Call>,
    pub(super) end: Option<End>,
}

/// What was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// To append these values.
    Append { first: u64, count: u64 },
    /// A linearizable read.
    Read,
    /// Wait for this offset.
    Await { next: u64 },
    /// Leave for good.
    Leave,
    /// Hand leadership over, to this agent or to any.
    Transfer { to: Option<usize> },
    /// Drop this agent for good.
    Forget { agent: usize },
    /// Drain this agent, or have done with that.
    Drain { agent: usize, undo: bool },
    /// Remove this agent, and give its vote to that one.
    Remove { agent: usize, heir: Option<usize> },
    /// Give this agent a vote; the group may be even.
    Promote { agent: usize, even: bool },
    /// Take its vote away; the group may be even.
    Demote { agent: usize, even: bool },
    /// Let the autopilot decide about its vote again.
    Unpin { agent: usize },
    /// A picture.
    Status,
    /// What the autopilot sees and wants.
    Autopilot,
}

/// How it ended for the client.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum End {
    /// It was answered.
    Answered(Result<Reply, Failure>),
    /// The agent died before it answered.
    Died,
}

impl Kind {
    /// Does an operator deal with one agent?
    pub(super) fn is_of_operators(self) -> bool {
        match self {
            Self::Drain { .. }
            | Self::Remove { .. }
            | Self::Promote { .. }
            | Self::Demote { .. }
            | Self::Unpin { .. } => true,
            Self::Append { .. }
            | Self::Read
            | Self::Await { .. }
            | Self::Leave
            | Self::Transfer { .. }
            | Self::Forget { .. }
            | Self::Status
            | Self::Autopilot => false,
        }
    }

    /// Does somebody who votes lose that, or go for good?
    pub(super) fn gives_up_a_vote(self) -> bool {
        matches!(self, Self::Leave | Self::Remove { .. } | Self::Demote { .. } | Self::Drain { undo: false, .. })
    }

    /// As the agent sees it.
    pub(super) fn what(self, timeout_us: u64, bytes: usize) -> What {
        match self {
            Self::Append { first, count } => {
                let records: Vec<Record> = (first..first + count).map(|v| record(v, bytes)).collect();
                let batch = encode_batch(records.iter()).unwrap_or_default();
                let timeout_ms = u32::try_from(timeout_us / MS).unwrap_or(u32::MAX);
                What::Append(Append { timeout_ms, hops: 0, on_behalf_of: "".into(), batch })
            }
            Self::Read => What::Ask(Ask::Barrier),
            Self::Await { next } => What::Ask(Ask::Await { next }),
            Self::Leave => What::Ask(Ask::Leave { timeout_ms: u32::try_from(timeout_us / MS).unwrap_or(u32::MAX) }),
            Self::Transfer { to } => What::Ask(Ask::Transfer {
                to: to.map(|agent| letter(agent).to_string()),
                timeout_ms: u32::try_from(timeout_us / MS).unwrap_or(u32::MAX),
            }),
            Self::Forget { agent } => What::Ask(Ask::Forget {
                name: letter(agent).to_string(),
                timeout_ms: u32::try_from(timeout_us / MS).unwrap_or(u32::MAX),
            }),
            Self::Drain { agent, undo } => operate(agent, if undo { Verb::Undrain } else { Verb::Drain }, timeout_us),
            Self::Remove { agent, heir } => {
                let replace_with = heir.map(|heir| letter(heir).to_string());
                operate(agent, Verb::Remove { replace_with }, timeout_us)
            }
            Self::Promote { agent, even } => operate(agent, Verb::Promote { allow_even: even }, timeout_us),
            Self::Demote { agent, even } => operate(agent, Verb::Demote { allow_even: even }, timeout_us),
            Self::Unpin { agent } => operate(agent, Verb::Unpin, timeout_us),
            Self::Status => What::Ask(Ask::Status),
            Self::Autopilot => What::Ask(Ask::Autopilot {
                ask: AutopilotAsk::State,
                timeout_ms: u32::try_from(timeout_us / MS).unwrap_or(u32::MAX),
            }),
        }
    }
}

fn operate(agent: usize, verb: Verb, timeout_us: u64) -> What {
    let timeout_ms = u32::try_from(timeout_us / MS).unwrap_or(u32::MAX);
    What::Ask(Ask::Operate { name: letter(agent).to_string(), verb, timeout_ms })
}

impl End {
    /// In one word, for counters and traces.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Died => "died",
            Self::Answered(Ok(_)) => "ok",
            Self::Answered(Err(failure)) => match failure.effect {
                Effect::NotApplied => "not-applied",
                Effect::Unknown => "unknown",
                Effect::None => "no-effect",
            },
        }
    }

    /// The next offset that a read saw.
    pub(super) fn readable(&self) -> Option<u64> {
        match self {
            Self::Answered(Ok(Reply::Answer(Answer::Readable { next }))) => Some(*next),
            _ => None,
        }
    }
}

/// A value tells which one it is, and has some weight.
fn record(value: u64, bytes: usize) -> Record {
    let mut text = format!("{value}.");
    while text.len() < bytes {
        text.push('x');
    }
    let stream = if value.is_multiple_of(3) { "other" } else { STREAM_DEFAULT };
    Record { stream: stream.into(), ..Record::of(text.into_bytes()) }
}
