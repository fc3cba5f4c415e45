//! Pledges of a world: what nodes promise about founding, kept on the machine's own disk as the shell keeps it.
//!
//! It takes no node's word for what is durable: a node hears of its record when the directory is synced.

use super::event::Happening;
use super::invariant::Invariant;
use super::machine::Dead;
use super::plan::{MS, letter};
use super::world::World;
use crate::node::Input;
use crate::pledge::Record;
use quorate_raft::wal::{self, Disk};
use std::io;

const NAME: &str = "formation";
const TEMPORARY: &str = "formation.new";
/// A record is written so long after it was ordered, at least and at most, in microseconds.
const KEEP_US: (u64, u64) = (MS, 20 * MS);
/// A write that failed is tried again after this; the shell ends the process, and its supervisor starts it again.
const RETRY_US: u64 = 200 * MS;

/// The whole file or none, as `server/files.rs` does it.
fn keep(disk: &dyn Disk, bytes: &[u8]) -> io::Result<()> {
    match disk.remove(TEMPORARY) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = disk.create(TEMPORARY)?;
    file.write_at(bytes, 0)?;
    file.sync_all()?;
    disk.rename(TEMPORARY, NAME)?;
    disk.sync_dir()
}

/// What a start finds; an error says why it finds nothing that it can read.
pub(super) fn load(disk: &dyn Disk, node: u64) -> Result<Record, Dead> {
    let failed = |source| Dead::Log(wal::Error::Io { action: "read", file: NAME.into(), source });
    let file = match disk.open(NAME) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Record::default()),
        Err(error) => return Err(failed(error)),
    };
    let len = file.len().map_err(failed)?;
    let mut bytes = vec![0; usize::try_from(len).unwrap_or_default()];
    file.read_at(&mut bytes, 0).map_err(failed)?;
    match Record::decode(&bytes) {
        Ok((of, record)) if of == node => Ok(record),
        Ok((of, _)) => Err(Dead::Lost(format!("the formation file is of node {of:016x}"))),
        Err(error) => Err(Dead::Lost(format!("the formation file does not read: {error}"))),
    }
}

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
                self.feed(machine, Input::PledgeKept { change });
            }
            Err(_) if self.tearing.contains_key(&machine) => {
                let down_us = self.tearing.remove(&machine).unwrap_or_default();
                self.say(format_args!("{} loses power while it keeps a pledge", letter(machine)));
                self.counters.count("torn in a pledge");
                self.power_off(machine, down_us);
            }
            Err(_) if self.machines[machine].had_trouble() => {
                let (life, at) = (self.machines[machine].lives, self.at);
                self.push_to(at + RETRY_US, machine, life, Happening::Pledge { change, bytes });
            }
            Err(error) => {
                let what = format!("{} could not keep a pledge without a fault: {error}", letter(machine));
                self.witness.blame(Invariant::NoCrash, what);
            }
        }
    }
}
