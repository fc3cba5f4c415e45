//! Checkpoints: when the state of the machines goes to a file, and what is known of the files.
//!
//! It never takes one ahead of this node's own disk: a state is taken when it is due, and given out only when every entry
//! in it is durable here. Else a node that lost the end of its log would start with the effects of records that it does
//! not have, and a leader may replace.
//!
//! A failed save is a warning and a later try: no file in use was touched.

use super::{Level, Node, Output};
use crate::checkpoint::{Checkpoint, Loaded};
use crate::machine::log::LogMachine;
use quorate_raft::wal::{EntryHeader, EntryKind};
use quorate_raft::{Configuration, LogIndex, Mono, Now, Run, mutant};
use std::time::Duration;

/// Entries applied between two checkpoints, by default: they are applied again in well under a second at a start.
pub const CHECKPOINT_ENTRIES_DEFAULT: u64 = 50_000;
/// The same in bytes of log: they are read again in well under a second at a start.
pub const CHECKPOINT_BYTES_DEFAULT: u64 = 128 << 20;
/// The log grows by so many times the last checkpoint before the next: saving them stays the smaller part of writing.
const GROWTH_MIN: u64 = 2;
/// Between a failed save and the next try.
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// What is known of this node's checkpoints.
#[derive(Debug, Default)]
pub(super) struct Checkpoints {
    /// The last applied entry.
    last: Option<EntryHeader>,
    /// The configuration in force there.
    configuration: Option<(LogIndex, Configuration)>,
    runs: Vec<Run>,
    /// Applied since the last one was taken.
    entries: u64,
    bytes: u64,
    /// The newest that is safe, and its length.
    saved: LogIndex,
    saved_bytes: u64,
    /// Taken, and waiting for this node's own disk to hold its last entry.
    taken: Option<Box<Checkpoint>>,
    /// Given out, and not yet heard of.
    in_flight: bool,
    retry_at: Mono,
    /// The last save failed, and why.
    trouble: Option<String>,
    /// What the start did not take.
    passed_over: Vec<String>,
}

impl Checkpoints {
    /// An entry was applied. Its configuration, if it carries one, is in force from now on.
    pub(super) fn applied(&mut self, header: &EntryHeader, configuration: Option<Configuration>) {
        if self.runs.last().is_none_or(|run| run.term != header.term) {
            self.runs.push(Run { first: header.index, term: header.term });
        }
        if let Some(configuration) = configuration {
            self.configuration = Some((header.index, configuration));
        }
        self.last = Some(*header);
        self.entries += 1;
        self.bytes += header.encoded_len() as u64;
    }

    /// What an operator should know.
    pub(super) fn problems(&self) -> impl Iterator<Item = String> + '_ {
        let trouble = self.trouble.iter().map(|why| {
            let after = RETRY_AFTER.as_secs();
            format!("{why}; the next start takes longer; it is tried again every {after} s")
        });
        trouble.chain(self.passed_over.iter().cloned())
    }

    fn is_due(&self, now: Mono, entries_max: u64, bytes_max: u64) -> bool {
        let enough = self.entries >= entries_max || self.bytes >= bytes_max;
        let grown = self.bytes >= self.saved_bytes.saturating_mul(GROWTH_MIN);
        // What was passed over is replaced as soon as there is something to save.
        let spoilt = self.trouble.is_some() || !self.passed_over.is_empty();
        let wanted = (enough && grown) || (spoilt && self.last.is_some_and(|last| last.index > self.saved));
        wanted && !self.in_flight && self.taken.is_none() && now >= self.retry_at
    }
}

impl Node {
    /// The state that a start begins with: that of the checkpoint, if one may be believed.
    pub(super) fn resume(&mut self, loaded: Loaded) {
        for passed_over in &loaded.passed_over {
            self.note(Level::Warn, passed_over.to_string());
        }
        self.checkpoints.passed_over = loaded.passed_over.iter().map(ToString::to_string).collect();
        let Some(checkpoint) = loaded.checkpoint else { return };
        let index = checkpoint.index();
        // A core that is halted from the start knows of no entry.
        if index > self.raft.committed() {
            return;
        }
        self.applied.resume(checkpoint.last.position(), checkpoint.lamport);
        self.boots.remember(&checkpoint.boots);
        self.record_bytes_max = checkpoint.record_bytes_max;
        self.registry = checkpoint.registry;
        self.log = checkpoint.log;
        self.checkpoints.last = Some(checkpoint.last);
        self.checkpoints.configuration = Some(checkpoint.configuration);
        self.checkpoints.runs = checkpoint.runs;
        self.checkpoints.saved = index;
        self.note(Level::Info, format!("the state of entry {index} was taken from its checkpoint"));
    }

    /// Takes one if it is due, and gives it out once this node's own disk holds all of it.
    pub(super) fn keep_checkpoints(&mut self, now: Now) {
        let (entries, bytes) = (self.options.checkpoint_entries, self.options.checkpoint_bytes);
        if self.checkpoints.is_due(now.mono, entries, bytes) && self.applied.halted().is_none() {
            self.checkpoints.taken = self.checkpoint().map(Box::new);
            (self.checkpoints.entries, self.checkpoints.bytes) = (0, 0);
        }
        self.give_out();
    }

    fn give_out(&mut self) {
        if self.checkpoints.in_flight {
            return;
        }
        let durable = self.raft.durable();
        let taken = &mut self.checkpoints.taken;
        if let Some(checkpoint) = taken.take_if(|c| c.index() <= durable || mutant!(CheckpointAheadOfDisk)) {
            self.checkpoints.in_flight = true;
            self.emit(Output::Checkpoint(checkpoint));
        }
    }

    /// The last one of this life: the next start has nothing to apply.
    pub(super) fn last_checkpoint(&mut self) {
        let newest = self.checkpoints.last.map_or(LogIndex::ZERO, |last| last.index);
        if newest <= self.checkpoints.saved || self.applied.halted().is_some() {
            return;
        }
        if newest <= self.raft.durable() || mutant!(CheckpointAheadOfDisk) {
            self.checkpoints.taken = self.checkpoint().map(Box::new);
        }
        self.give_out();
    }

    /// Whatever has come since the last one: what the next start must know, since nobody will tell it again.
    pub(super) fn checkpoint_soon(&mut self) {
        let newest = self.checkpoints.last.map_or(LogIndex::ZERO, |last| last.index);
        if newest > self.checkpoints.saved && self.applied.halted().is_none() {
            self.checkpoints.taken = self.checkpoint().map(Box::new);
            self.give_out();
        }
    }

    /// The state as it is now. It costs microseconds: what is large is shared until it changes.
    fn checkpoint(&self) -> Option<Checkpoint> {
        let mut configuration = self.checkpoints.configuration.clone()?;
        if mutant!(CheckpointConfigurationTooNew) {
            configuration.1 = self.raft.configuration().clone();
        }
        let boots = self.boots.all().filter(|_| !mutant!(CheckpointWithoutBoots)).collect();
        let without = mutant!(CheckpointWithoutStreams);
        let log = if without { LogMachine::at(self.log.next_offset()) } else { self.log.clone() };
        Some(Checkpoint {
            cluster: self.cluster,
            log_id: self.log_id?,
            node: self.me,
            last: self.checkpoints.last?,
            lamport: self.applied.lamport(),
            record_bytes_max: self.record_bytes_max,
            configuration,
            runs: self.checkpoints.runs.clone(),
            boots,
            registry: self.registry.clone(),
            log,
        })
    }

    /// What became of the one that was given out: its length, or why it was not saved.
    pub(super) fn checkpointed(&mut self, now: Now, index: LogIndex, result: Result<u64, String>) {
        self.checkpoints.in_flight = false;
        match result {
            Ok(bytes) => {
                self.checkpoints.saved = self.checkpoints.saved.max(index);
                self.checkpoints.saved_bytes = bytes;
                self.checkpoints.trouble = None;
                // The save has removed them.
                self.checkpoints.passed_over.clear();
            }
            Err(why) => {
                self.checkpoints.retry_at = now.mono.after(RETRY_AFTER);
                if self.checkpoints.trouble.as_ref() != Some(&why) {
                    self.note(Level::Warn, format!("{why}; it is tried again later"));
                }
                self.checkpoints.trouble = Some(why);
            }
        }
    }
}

/// Does an entry of this kind carry a configuration?
pub(super) fn configures(kind: EntryKind) -> bool {
    matches!(kind, EntryKind::Configuration | EntryKind::Founding)
}
