//! Script: what clients ask and consumers read, spelled out request by request.
//!
//! It says whom they would ask; who is down at that moment cannot be asked, and they go to the next.

use serde::{Deserialize, Serialize};

/// One request of one client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Call {
    /// Not before, in microseconds; and not before the one before has ended.
    pub at_us: u64,
    /// Of whom.
    pub agent: usize,
    /// How long the client waits for the answer, in microseconds.
    pub timeout_us: u64,
    /// Asked of so many other agents, one after the other, if it fails.
    pub retries: u8,
    /// What.
    pub what: Asked,
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub enum Asked {
    /// To append so many records of so many bytes each.
    Append {
        /// Records.
        count: u64,
        /// Bytes of each, at least.
        bytes: u64,
    },
    /// A linearizable read.
    Read,
    /// To wait for whatever has been acknowledged to anybody.
    Await,
    /// To hand leadership over, to this agent or to any.
    Transfer {
        /// To whom.
        to: Option<usize>,
    },
}

/// Somebody who reads the log from its beginning, in order, a bite at a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConsumerPlan {
    /// Where it begins to read; it goes on elsewhere when that agent is down.
    pub agent: usize,
    /// Most bytes of one bite.
    pub bytes: u64,
    /// Between two bites, in microseconds.
    pub every_us: u64,
}

/// How far a consumer is.
#[derive(Debug)]
pub(super) struct Consumer {
    /// Where it reads.
    pub(super) agent: usize,
    /// The next offset it has not seen.
    pub(super) next: u64,
}

impl Consumer {
    pub(super) fn new(plan: &ConsumerPlan) -> Self {
        Self { agent: plan.agent, next: 0 }
    }
}
