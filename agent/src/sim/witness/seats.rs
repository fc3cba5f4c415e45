//! Seats: what a leader may do to the configuration and to the feature level, judged when it orders that to be written.
//!
//! It believes no node: who has answered is what has arrived, who is gone is who was not heard.

use super::super::invariant::Invariant;
use super::super::machine::{Machine, Process};
use super::super::replayed::configuration;
use super::Witness;
use crate::codec;
use crate::machine::registry::{Command, Registry};
use crate::node::Founding;
use quorate_raft::wal::{Entry, EntryKind};
use quorate_raft::{Configuration, NodeId};
use std::collections::BTreeSet;

impl Witness {
    /// Each new configuration leaves a quorum that has just answered, and takes no vote from anybody who may live.
    pub(super) fn keeps_a_safe_quorum(
        &mut self,
        by: usize,
        machines: &[Machine],
        process: &Process,
        entry: &Entry,
        at: u64,
    ) {
        let (machine, index) = (&machines[by], entry.header().index.0);
        let Some((_, before)) = machine.configurations.range(..index).next_back() else { return };
        let Some(next) = configuration(entry) else { return };
        // That the joint phase ends was decided when it began.
        if !before.outgoing.is_empty() {
            return;
        }
        let now = process.clock.read(at);
        let last = |v: &NodeId| self.elections.heard_last((by, process.life), *v);
        let window = quorate_raft::Options::default().election_timeout_max;
        let near = |v: &&NodeId| **v == machine.node || last(v).is_some_and(|last| now.since(last) <= window);
        let answered = next.voters.iter().filter(near).count();
        let (name, voters) = (&machine.name, next.voters.len());
        let patience = self.settings.as_ref().map_or(self.replace_after, |s| s.replace_after());
        let known = registry_of(&process.ordered);
        let excused = |v: &NodeId| known.has_departed(v.get()) || known.superseded_by(v.get()).is_some();
        let lost =
            before.voters.iter().filter(|v| !next.voters.contains(v) && !next.learners.contains(v) && !excused(v));
        let shrinks = voters < before.voters.len();
        let wrong = lost.copied().find(|v| shrinks || last(v).is_some_and(|last| now.since(last) < patience));
        let heard = wrong.and_then(|v| last(&v)).map(|last| now.since(last));
        self.claim(answered > voters / 2, Invariant::SafeQuorum, || {
            format!("{name} orders entry {index} for {voters} voters, of which {answered} have answered it lately")
        });
        self.claim(wrong.is_none(), Invariant::SafeQuorum, || {
            format!(
                "entry {index} of {name} takes the seat of {wrong:?}, heard {heard:?} ago, and leaves {voters} voters"
            )
        });
    }

    /// A level is raised by one entry after the other, and only to what the program of every member supports.
    pub(super) fn raises_for_all(&mut self, by: usize, machines: &[Machine], entry: &Entry) {
        let Ok(Command::RaiseLevel { level }) = codec::decode(&entry.payload(), "registry") else { return };
        let index = entry.header().index.0;
        let Some((_, in_force)) = machines[by].configurations.range(..index).next_back() else { return };
        let members = in_force.members();
        let of_group = machines.iter().filter(|m| m.counts() && members.contains(&m.node));
        let lacks: Vec<&str> =
            of_group.filter(|m| m.feature_level < level).map(|m| m.name.as_str()).collect::<Vec<_>>();
        self.claim(lacks.is_empty(), Invariant::LevelForAll, || {
            format!("entry {index} raises the feature level to {level}, which {} cannot support", lacks.join(", "))
        });
    }

    /// Whoever is no member any more left, lost its disk, was dead and gave its seat to another, or had no vote and gave
    /// its place to another.
    pub(super) fn may_go(&self, node: NodeId, before: &Configuration, next: &Configuration) -> bool {
        let replaced = before.outgoing.contains(&node) && before.voters.len() >= before.outgoing.len();
        let others: BTreeSet<&NodeId> = next.learners.difference(&before.learners).collect();
        let yielded = before.learners.contains(&node) && !others.is_empty();
        let excused = self.departed.contains(&node.get()) || self.superseded.contains(&node.get());
        excused || replaced || yielded
    }

    /// An entry that a leader orders.
    pub(super) fn seats_ordered(&mut self, by: usize, machines: &[Machine], process: &Process, entry: &Entry, at: u64) {
        match entry.header().kind {
            EntryKind::Configuration => self.keeps_a_safe_quorum(by, machines, process, entry, at),
            EntryKind::Registry => self.raises_for_all(by, machines, entry),
            EntryKind::Normal | EntryKind::Noop | EntryKind::Founding => {}
        }
    }
}

/// The registry as the entries of this log say: what a leader decides by.
fn registry_of(log: &[Entry]) -> Registry {
    let mut registry = Registry::default();
    for entry in log {
        match entry.header().kind {
            EntryKind::Registry => {
                if let Ok(command) = codec::decode(&entry.payload(), "registry") {
                    registry.apply(command);
                }
            }
            EntryKind::Founding => {
                if let Ok(founding) = codec::decode::<Founding>(&entry.payload(), "founding entry") {
                    founding.founders().cloned().for_each(|founder| registry.apply(Command::Register(founder)));
                }
            }
            EntryKind::Normal | EntryKind::Noop | EntryKind::Configuration => {}
        }
    }
    registry
}
