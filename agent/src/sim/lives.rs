//! Lives of processes: how they start, and how they end.
//!
//! Whoever dies takes its requests with it; what its disk keeps is the disk's affair.

use super::client::End;
use super::dead::Dead;
use super::invariant::Invariant;
use super::plan::{MS, letter};
use super::world::World;
use quorate_raft::wal;

/// A start takes so long.
const START_US: u64 = 20 * MS;
/// A process that aborted is started again after this.
const SUPERVISOR_US: u64 = 300 * MS;

impl World {
    pub(super) fn start(&mut self, machine: usize) {
        self.machines[machine].starting = false;
        if self.machines[machine].is_up() || self.machines[machine].retired {
            return;
        }
        if self.machines[machine].departed {
            // The data directory was set aside: this is a new node.
            self.empty_disk(machine);
        }
        let at = self.at;
        let knobs = self.plan.knobs.clone();
        match self.machines[machine].boot(at, &knobs, &mut self.noise.ids[machine]) {
            Ok(()) => {
                let (node, life) = (self.machines[machine].node, self.machines[machine].lives);
                let last = self.machines[machine].durable.log.len();
                self.resumed(machine);
                self.machines[machine].disk.set_torn_sectors(false);
                self.counters.count(if last > 0 { "restarts on a used disk" } else { "starts on an empty disk" });
                self.say(format_args!("{} starts as {node}, life {life}, {last} entries", letter(machine)));
                self.drain(machine);
            }
            Err(dead) => self.died(machine, dead),
        }
    }

    /// What the disk thread does about an error.
    pub(super) fn died(&mut self, machine: usize, dead: Dead) {
        match dead {
            Dead::Log(error) if self.tearing.contains_key(&machine) => {
                let down_us = self.tearing.remove(&machine).unwrap_or(START_US);
                self.say(format_args!("{} loses power in a call of the disk: {error}", letter(machine)));
                self.hit("torn in a call", machine);
                self.power_off(machine, down_us);
            }
            // Damage is named, and the agent stays down: a person decides.
            Dead::Log(error @ wal::Error::Corrupt { .. })
                if self.machines[machine].harmed && !self.machines[machine].is_up() =>
            {
                self.say(format_args!("{} does not start: {error}", letter(machine)));
                self.counters.count("damage named");
                self.machines[machine].refuses = Some(error.to_string());
                self.machines[machine].disk.kill();
            }
            Dead::Pledges(what) if self.machines[machine].harmed => {
                self.say(format_args!("{} does not start: {what}", letter(machine)));
                self.counters.count("damage named");
                self.machines[machine].refuses = Some(what);
                self.machines[machine].disk.kill();
            }
            Dead::Log(error) if self.machines[machine].had_trouble() => {
                self.say(format_args!("{} aborts: {error}", letter(machine)));
                self.counters.count("aborts");
                self.machines[machine].disk.kill();
                self.end_process(machine);
                self.start_at(machine, self.at + SUPERVISOR_US);
            }
            Dead::Log(error) => {
                let what = format!("the log of {} broke without a fault: {error}", letter(machine));
                self.witness.blame(Invariant::NoCrash, what);
            }
            Dead::Untrue(what) => {
                self.witness.blame(Invariant::CheckpointTrue, format!("{}: {what}", letter(machine)));
            }
            Dead::Lost(what) | Dead::Options(what) | Dead::Pledges(what) => {
                self.witness.blame(Invariant::DurableStays, format!("{}: {what}", letter(machine)));
            }
        }
    }

    /// Power loss, now.
    pub(super) fn power_off(&mut self, machine: usize, down_us: u64) {
        self.audit(machine);
        self.end_process(machine);
        self.machines[machine].disk.crash();
        self.start_at(machine, self.at + down_us.max(START_US));
    }

    /// The process is gone; its clients never hear.
    pub(super) fn end_process(&mut self, machine: usize) {
        let Some(process) = self.machines[machine].process.take() else { return };
        self.machines[machine].archive = process.on_disk;
        for operation in process.requests.into_values() {
            self.ended(operation, End::Died);
        }
    }
}
