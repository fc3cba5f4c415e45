//! Blows to disks that destroy nothing that was durable: they fail, fill up, and are copied.
//!
//! Those that destroy something are in `harm`.

use crate::sim::event::Event;
use crate::sim::plan::letter;
use crate::sim::random::Noise;
use crate::sim::world::World;
use quorate_raft::wal::sim::{Fault, Injection, Op};

impl World {
    pub(super) fn fail_sync(&mut self, agent: usize) -> bool {
        self.inject(agent, Op::Sync, "", Fault::Error(std::io::ErrorKind::Other))
    }

    pub(super) fn fail_read(&mut self, agent: usize) -> bool {
        self.inject(agent, Op::Read, "", Fault::Error(std::io::ErrorKind::Other))
    }

    /// Of two copies of the meta one is lost, and nobody is told.
    pub(super) fn lose_write(&mut self, agent: usize) -> bool {
        self.inject(agent, Op::Write, "meta.a", Fault::Lost)
    }

    fn inject(&mut self, agent: usize, op: Op, name: &str, fault: Fault) -> bool {
        self.machines[agent].disk.inject(Injection { op, name: name.to_owned(), skip: 0, fault });
        true
    }

    pub(super) fn full_disk(&mut self, agent: usize, free: u64, for_us: u64) -> bool {
        let disk = &self.machines[agent].disk;
        disk.set_capacity(Some(disk.used() + free));
        self.push(self.at + for_us, Event::DiskWell { machine: agent });
        true
    }

    /// A copy of its disk is kept.
    pub(super) fn back_up(&mut self, agent: usize) -> bool {
        let grown = self.has_grown_far(agent);
        let machine = &mut self.machines[agent];
        let up = grown && machine.is_up() && machine.counts() && !machine.harmed;
        if up {
            // As it is on the platter: what was not synced may be in it or not.
            let copy = machine.disk.fork();
            copy.crash();
            machine.backup = Some((machine.lives, copy, machine.durable.clone()));
        }
        up
    }

    /// A second process is started on a copy of its disk, at another address.
    pub(super) fn clone_disk(&mut self, agent: usize, for_us: u64) -> bool {
        let machine = &self.machines[agent];
        let quiet =
            self.network.cut.is_empty() && self.machines.iter().all(|m| !m.harmed && (!m.retired || !m.is_up()));
        let awake = machine.process.as_ref().is_some_and(|p| p.paused_until <= self.at);
        let place = self.machines.len();
        // Whichever of the two is let in, the other must be no loss; and a sole voter and its copy would each be a quorum.
        let bearable = self.may_harm(agent);
        let machine = &self.machines[agent];
        if !quiet || !awake || !bearable || !machine.counts() || place >= COPIES_TO {
            return false;
        }
        let copy = machine.copy(place);
        copy.disk.crash();
        self.hit("copies started", agent);
        self.machines[agent].was_harmed = true;
        self.machines[agent].admitted = false;
        self.machines[agent].copied = true;
        self.machines.push(copy);
        self.moves.push(0);
        Noise::one_more(&mut self.noise);
        self.say(format_args!("{} is a copy of {}", letter(place), letter(agent)));
        self.start(place);
        // From now on it never starts again by itself, and does not count as one of the agents.
        self.machines[place].retired = true;
        self.push(self.at + for_us, Event::CopyEnds { copy: place });
        true
    }

    /// What its counters say now counts; then it may be replaced.
    pub(in crate::sim) fn count_disk(&mut self, machine: usize) {
        let seen = self.machines[machine].disk.counters();
        let counted = std::mem::replace(&mut self.machines[machine].disk_counted, seen);
        let counts = [
            ("sectors lost", seen.sectors_lost, counted.sectors_lost),
            ("sectors kept", seen.sectors_kept, counted.sectors_kept),
            ("sectors torn", seen.sectors_torn, counted.sectors_torn),
            ("names lost", seen.names_lost, counted.names_lost),
            ("syncs failed", seen.syncs_failed, counted.syncs_failed),
            ("reads failed", seen.reads_failed, counted.reads_failed),
            ("writes lost", seen.writes_lost, counted.writes_lost),
            ("writes on a full disk", seen.full, counted.full),
        ];
        for (kind, now, before) in counts {
            self.counters.add(kind, now.saturating_sub(before));
        }
    }
}

/// Copies get places up to here: each has a letter.
const COPIES_TO: usize = 24;
