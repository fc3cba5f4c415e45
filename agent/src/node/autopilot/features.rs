//! The feature level is raised when every member of the group, and everyone connected, supports a higher one.
//!
//! It is never lowered. A member that is not connected has not said what it supports: then it stays as it is.

use super::step::Step;
use crate::api::{Code, Failure};
use crate::machine::registry::Command;
use crate::node::{Node, not_applied};
use quorate_raft::{NodeId, Status, mutant};

impl Node {
    /// What the program of an agent supports, if it is connected.
    pub(super) fn supports(&self, node: u64) -> Option<u32> {
        if node == self.me.get() {
            return Some(self.options.feature_level);
        }
        self.peers.get(node).map(|peer| peer.supports)
    }

    /// Refuses what an older member would not understand in the log.
    pub(in crate::node) fn needs_level(&self, needs: u32) -> Result<(), Failure> {
        let has = self.registry.level();
        if has >= needs {
            return Ok(());
        }
        let what = format!("this needs feature level {needs}, and not every member supports it (the log is at {has})");
        let hint = "upgrade all agents first; `quorate autopilot state` shows what each supports";
        Err(not_applied(Code::Refused, what, hint))
    }

    pub(super) fn level_step(&self, status: &Status) -> Option<Step> {
        let members = status.configuration.members();
        let group: Option<Vec<u32>> = members.iter().map(|n: &NodeId| self.supports(n.get())).collect();
        let others = self.peers.up().filter(|p| !self.is_of_another_log(p.node)).map(|peer| peer.supports);
        let mut common = group?.into_iter().chain(others).min()?;
        if mutant!(LevelRaisedAlone) {
            common = self.options.feature_level;
        }
        let level = Some(common).filter(|level| *level > self.registry.level())?;
        let why = format!("all members support feature level {level}");
        Some(Step::Registry(Command::RaiseLevel { level }, why))
    }

    /// Why this agent cannot go on with its own log: others have agreed on more than its program understands.
    pub(in crate::node) fn why_too_old(&self) -> Option<String> {
        let (needs, supports) = (self.registry.level(), self.options.feature_level);
        (needs > supports).then(|| {
            format!("the log is at feature level {needs} and this program supports only {supports}; upgrade this agent")
        })
    }
}
