//! Into the registry: a connected agent that no name is registered for, or that has booted since.
//!
//! A name is never taken from a disk that may be alive.

use super::step::Step;
use crate::machine::registry::{Command, Registration};
use crate::node::{Level, Node};
use quorate_raft::{NodeId, Now};
use std::time::Duration;

/// The same reason for not admitting an agent is told again only after this long.
const TELL_AGAIN: Duration = Duration::from_secs(30);

impl Node {
    /// A connected agent that no name is registered for, or that has booted since.
    pub(super) fn registration_step(&mut self, now: Now) -> Option<Step> {
        let candidates: Vec<_> = self.peers.up().map(|p| (p.node, p.name.clone(), p.epoch, p.boot, p.log_id)).collect();
        for (node, name, epoch, boot, log_id) in candidates {
            if !self.is_present(node) || self.registry.has_departed(node) {
                continue;
            }
            let registration = Registration { node, name: name.clone(), epoch, boot };
            match self.registry.node(node) {
                Some(known) if known.epoch >= epoch && known.name == name => {
                    self.autopilot.waiting.remove(&node);
                    continue;
                }
                Some(known) if known.name == name => {
                    let why = format!("{name} is in its boot {epoch}");
                    return Some(Step::Registry(Command::Register(registration), why));
                }
                _ => {}
            }
            if let Some(why) = self.why_not_registered(now, &registration, log_id) {
                self.tell_waiting(now, node, &name, why);
                continue;
            }
            self.autopilot.waiting.remove(&node);
            let why = format!("registering {name} as node {node:016x}");
            return Some(Step::Registry(Command::Register(registration), why));
        }
        None
    }

    fn why_not_registered(&self, now: Now, new: &Registration, log_id: Option<[u8; 16]>) -> Option<String> {
        if log_id.is_some_and(|id| Some(id) != self.log_id) {
            return Some("it belongs to another log; wipe its data directory to let it join this one".into());
        }
        if log_id.is_some() {
            return Some("its data directory holds this log, but the name is not registered to it".into());
        }
        let holder = self.registry.holder(&new.name).filter(|h| h.node != new.node)?;
        let hold = self.options.name_hold;
        if holder.node == self.me.get() || self.is_alive(holder.node) || self.peers.is_up(holder.node) {
            return Some(format!("the name is held by node {:016x}, which is alive", holder.node));
        }
        let id = NodeId::new(holder.node)?;
        let silent = self.silent_for(now.mono, &self.raft.status(), id);
        (silent < hold).then(|| {
            format!(
                "the name is held by node {:016x}, silent for {} s of {} s",
                holder.node,
                silent.as_secs(),
                hold.as_secs()
            )
        })
    }

    fn tell_waiting(&mut self, now: Now, node: u64, name: &str, why: String) {
        let told = self.autopilot.waiting.get(&node);
        let again = told.is_none_or(|(_, at)| now.mono.since(*at) >= TELL_AGAIN);
        let at = if again { now.mono } else { told.map_or(now.mono, |(_, at)| *at) };
        if again {
            let name = crate::limits::printable(name);
            self.note(Level::Warn, format!("agent {name} ({node:016x}) is not admitted: {why}"));
        }
        self.autopilot.waiting.insert(node, (why, at));
    }
}
