//! Checkpoints of a world: saved on the machine's own disk as the shell's thread does, and compared with a replay.
//!
//! It takes no node's word: what is durable is what the disk was seen to sync, what is true is what the log says.

use super::event::Happening;
use super::invariant::Invariant;
use super::plan::{MS, letter};
use super::world::World;
use crate::checkpoint::Checkpoint;
use crate::node::Input;

/// A save begins so long after it was ordered, at least and at most, in microseconds.
const SAVE_US: (u64, u64) = (MS, 30 * MS);

impl World {
    /// A node wants its state saved: it must be what the log says, and all of it durable on this very disk.
    pub(super) fn checkpoint(&mut self, machine: usize, checkpoint: Box<Checkpoint>) {
        let (index, chain) = (checkpoint.index().0, checkpoint.last.chain);
        let name = letter(machine);
        if !self.machines[machine].durable.holds(index, chain) {
            let held = self.machines[machine].durable.log.len();
            let what = format!("{name} saves the state of entry {index}, and {held} entries are on its disk");
            self.witness.blame(Invariant::CheckpointDurable, what);
        }
        let (takes, at) = (self.noise.pace[machine].between(SAVE_US.0, SAVE_US.1), self.at);
        let Some(process) = &mut self.machines[machine].process else { return };
        process.replayed.advance(&process.ordered, index);
        if let Some(part) = process.replayed.differs(&checkpoint) {
            let what = format!("{name} saves a state of entry {index} that differs from a replay in {part}");
            self.witness.blame(Invariant::CheckpointTrue, what);
        }
        if process.saving.replace(checkpoint).is_some() {
            self.witness.blame(Invariant::NoCrash, format!("{name} saves two checkpoints at once"));
        }
        let life = self.machines[machine].lives;
        self.push_to(at + takes, machine, life, Happening::Save);
    }

    /// The thread saves what it was given.
    pub(super) fn save(&mut self, machine: usize) {
        let Some(process) = &mut self.machines[machine].process else { return };
        let Some(checkpoint) = process.saving.take() else { return };
        let index = checkpoint.index();
        let result = process.store.save(&checkpoint);
        let name = letter(machine);
        match &result {
            Ok(bytes) => {
                self.counters.count("checkpoints saved");
                self.say(format_args!("{name} has saved the state of entry {index}, {bytes} bytes"));
            }
            Err(_) if self.tearing.contains_key(&machine) => {
                let down_us = self.tearing.remove(&machine).unwrap_or_default();
                self.say(format_args!("{name} loses power while it saves the state of entry {index}"));
                self.counters.count("torn in a checkpoint");
                return self.power_off(machine, down_us);
            }
            Err(trouble) if self.machines[machine].had_trouble() => {
                self.counters.count("checkpoints not saved");
                self.say(format_args!("{name}: {trouble}"));
            }
            Err(trouble) => {
                let what = format!("{name} could not save a checkpoint without a fault: {trouble}");
                self.witness.blame(Invariant::NoCrash, what);
            }
        }
        self.feed(machine, Input::Checkpointed { index, result: result.map_err(|trouble| trouble.to_string()) });
    }

    /// What a start made of the checkpoints.
    pub(super) fn resumed(&mut self, machine: usize) {
        let Some(process) = &self.machines[machine].process else { return };
        let (at, passed_over) = (process.resumed_at, process.passed_over as u64);
        self.counters.add("checkpoints passed over", passed_over);
        if at > 0 {
            self.counters.count("starts from a checkpoint");
        }
    }
}
