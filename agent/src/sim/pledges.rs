//! Pledges of a world: what nodes promise about founding, kept on the machine's own disk as the shell keeps it.
//!
//! It takes no node's word for what is durable: a node hears of its record when the directory is synced.

use super::dead::Dead;
use super::event::Happening;
use super::invariant::Invariant;
use super::plan::{MS, letter};
use super::pledge_file::{NAME, keep};
use super::world::World;
use crate::node::Input;
use crate::pledge::Record;
use quorate_raft::wal;

/// A record is written so long after it was ordered, at least and at most, in microseconds.
const KEEP_US: (u64, u64) = (MS, 20 * MS);

impl World {
    /// A node wants to be held to this.
    pub(super) fn pledge(&mut self, machine: usize, change: u64, record: &Record) {
        let (takes, at) = (self.noise.pace[machine].between(KEEP_US.0, KEEP_US.1), self.at);
        if record.pledge.is_none() && record.floor > 0 {
            self.counters.count("pledges called off");
        }
        let bytes = record.encode(self.machines[machine].node.get());
        let Some(process) = &mut self.machines[machine].process else { return };
        // One thread writes: in the order of the orders.
        let done = process.reading_until.max(at) + takes;
        process.reading_until = done;
        let life = process.life;
        self.push_to(done, machine, life, Happening::Pledge { change, bytes });
    }

    /// The thread writes what it was given.
    pub(super) fn keep_pledge(&mut self, machine: usize, change: u64, bytes: Vec<u8>) {
        let Some(process) = &self.machines[machine].process else { return };
        match keep(&*process.files, &bytes) {
            Ok(()) => {
                self.counters.count("pledges kept");
                self.say(format_args!("{} keeps change {change} of what it has promised", letter(machine)));
                self.feed(machine, Input::PledgeKept { change });
            }
            Err(_) if self.tearing.contains_key(&machine) => {
                let down_us = self.tearing.remove(&machine).unwrap_or_default();
                self.say(format_args!("{} loses power while it keeps a pledge", letter(machine)));
                self.counters.count("torn in a pledge");
                self.power_off(machine, down_us);
            }
            // What was not written was not promised: the process ends, as in the shell.
            Err(source) if self.machines[machine].had_trouble() => {
                self.died(machine, Dead::Log(wal::Error::Io { action: "write", file: NAME.into(), source }));
            }
            Err(error) => {
                let what = format!("{} could not keep a pledge without a fault: {error}", letter(machine));
                self.witness.blame(Invariant::NoCrash, what);
            }
        }
    }
}
