//! Configuration: who votes and who learns, and which changes are legal (§4).
//!
//! It never holds an address: those are soft state of the gossip.

use alloc::collections::BTreeSet;
use serde::{Deserialize, Serialize};

use crate::NodeId;

/// Who votes, who learns, and, in a joint phase, who voted before (§4.3).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Configuration {
    /// The voters (the incoming ones in a joint phase).
    pub voters: BTreeSet<NodeId>,
    /// The outgoing voters of a joint phase; empty outside one.
    pub outgoing: BTreeSet<NodeId>,
    /// Nodes that receive the log and have no vote.
    pub learners: BTreeSet<NodeId>,
}
