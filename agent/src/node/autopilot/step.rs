//! A step: what one turn of the autopilot may decide.
//!
//! It carries nothing out; the conductor does.

use crate::machine::registry::Command;
use quorate_raft::NodeId;
use std::collections::BTreeSet;

/// What a turn decides.
pub(super) enum Step {
    /// A command for the registry, and what it does, for people.
    Registry(Command, String),
    /// Another configuration, and what that does, for people.
    Change { voters: BTreeSet<NodeId>, learners: BTreeSet<NodeId>, why: String },
}

impl Step {
    /// What it does, for people.
    pub(super) fn why(&self) -> &str {
        match self {
            Self::Registry(_, why) | Self::Change { why, .. } => why,
        }
    }
}
