//! Replayed: the state of the machines by a plain replay of the log from its beginning: what a checkpoint must equal.
//!
//! It shares the machines with the agents, and nothing of how an agent applies, saves or resumes.

use crate::checkpoint::Checkpoint;
use crate::codec;
use crate::machine::log::LogMachine;
use crate::machine::registry::{Command, Registration, Registry};
use crate::node::Founding;
use quorate_raft::wal::{Entry, EntryKind};
use quorate_raft::{Configuration, LogIndex, Run};
use std::collections::BTreeMap;

/// The state after the entries so far.
#[derive(Debug, Default)]
pub(super) struct Replayed {
    entries: usize,
    log: LogMachine,
    registry: Registry,
    lamport: u64,
    record_bytes_max: u64,
    configuration: Option<(LogIndex, Configuration)>,
    runs: Vec<Run>,
    epochs: BTreeMap<u64, u64>,
    broken: Option<String>,
}

impl Replayed {
    /// Applies the log from where it is up to entry `to`.
    pub(super) fn advance(&mut self, log: &[Entry], to: u64) {
        for entry in log.iter().take(to as usize).skip(self.entries) {
            self.apply(entry);
        }
        self.entries = self.entries.max(to as usize);
    }

    fn apply(&mut self, entry: &Entry) {
        let header = entry.header();
        if self.runs.last().is_none_or(|run| run.term != header.term) {
            self.runs.push(Run { first: header.index, term: header.term });
        }
        if let Some(next) = configuration(entry) {
            self.configuration = Some((header.index, next));
        }
        match header.kind {
            EntryKind::Normal => {
                self.lamport = self.lamport.max(header.lamport);
                if let Err(why) = self.log.apply(header.base_offset, header.count, &entry.payload()) {
                    self.broken.get_or_insert(format!("entry {}: {why}", header.index));
                }
            }
            EntryKind::Founding => {
                if let Ok(founding) = codec::decode::<Founding>(&entry.payload(), "founding entry") {
                    self.record_bytes_max = founding.record_bytes_max;
                    founding.founders().cloned().for_each(|founder| self.register(founder));
                }
            }
            EntryKind::Registry => match codec::decode(&entry.payload(), "registry") {
                Ok(Command::Register(registration)) => self.register(registration),
                Ok(command) => self.registry.apply(command),
                Err(why) => drop(self.broken.get_or_insert(format!("entry {}: {why}", header.index))),
            },
            EntryKind::Noop | EntryKind::Configuration => {}
        }
    }

    fn register(&mut self, registration: Registration) {
        let epoch = self.epochs.entry(registration.node).or_default();
        *epoch = registration.epoch.max(*epoch);
        self.registry.apply(Command::Register(registration));
    }

    /// In what the checkpoint of the entry that was replayed last differs from the replay.
    pub(super) fn differs(&self, from: &Checkpoint) -> Option<String> {
        let boots: BTreeMap<u64, u64> = from.boots.iter().map(|(node, epoch, _)| (*node, *epoch)).collect();
        let knows_boots = self.epochs.iter().all(|(node, epoch)| boots.get(node).is_some_and(|known| known >= epoch));
        let parts = [
            (self.entries as u64 == from.index().0, "the index"),
            (self.log == from.log, "offsets or stream numbers"),
            (self.registry == from.registry, "the registry"),
            (self.lamport == from.lamport, "the Lamport time"),
            (self.record_bytes_max == from.record_bytes_max as u64, "the largest value of a record"),
            (self.configuration.as_ref() == Some(&from.configuration), "the configuration in force"),
            (self.runs == from.runs, "the runs of terms"),
            (knows_boots, "the boots that the log tells of"),
        ];
        let part = parts.into_iter().find(|(same, _)| !same).map(|(_, part)| part.to_owned());
        self.broken.clone().or(part)
    }
}

/// The configuration in an entry, if it holds one.
pub(super) fn configuration(entry: &Entry) -> Option<Configuration> {
    match entry.header().kind {
        EntryKind::Configuration => codec::decode(&entry.payload(), "configuration").ok(),
        EntryKind::Founding => {
            codec::decode::<Founding>(&entry.payload(), "founding entry").ok().map(|f| f.configuration)
        }
        _ => None,
    }
}
