//! Faults: the steps of a plan, done to the world.
//!
//! A step that finds nothing to break, or that would break more than any cluster can bear, does nothing and says so.

use super::client::Kind;
use super::event::{Event, Happening};
use super::machine::{address, host};
use super::plan::{Action, SECOND, letter};
use super::world::World;
use crate::node::Input;
use quorate_raft::wal::sim::{Fault, Injection, Op};
use quorate_raft::{Configuration, NodeId};
use std::collections::BTreeSet;

/// A disk that is lost and an agent that leaves before anyone can know of it are two losses at once, which three voters
/// cannot bear. Detection takes this long.
const ALONE_US: u64 = SECOND;
/// How long an operator waits for a leave.
const LEAVE_TIMEOUT_US: u64 = 15 * SECOND;

impl World {
    pub(super) fn act(&mut self, action: &Action) {
        self.say(format_args!("--- {action:?}"));
        let happened = match *action {
            Action::Crash { agent, down_us } => self.crash(agent, down_us),
            Action::Kill { agent, down_us } => self.kill(agent, down_us),
            Action::Tear { agent, calls, down_us } => self.tear(agent, calls, down_us),
            Action::CrashLeader { down_us } => self.leader().is_some_and(|agent| self.crash(agent, down_us)),
            Action::CrashAll { down_us } => self.each(|w, agent| w.crash(agent, down_us)),
            Action::Pause { agent, for_us } => self.pause(agent, for_us),
            Action::Cut { from, to } => self.network.cut.insert((from, to)),
            Action::Isolate { agent } => self.isolate(&[agent]),
            Action::IsolateLeader => self.leader().is_some_and(|agent| self.isolate(&[agent])),
            Action::Halves { ref left } => self.isolate(left),
            Action::Heal => {
                self.network.cut.clear();
                self.unstall();
                true
            }
            Action::Reset { agent } => self.reset(agent),
            Action::LoseBulk { agent } => self.lose_bulk(agent),
            Action::Weather { loss, duplicate, delay_us_max } => {
                (self.network.loss, self.network.duplicate) = (loss, duplicate);
                self.network.delay_us_max = delay_us_max.max(self.network.delay_us_min);
                true
            }
            Action::SlowDisk { agent, sync_us, for_us } => {
                self.machines[agent].slow_disk = Some((sync_us, self.at + for_us));
                true
            }
            Action::FailSync { agent, .. } => self.fail_sync(agent),
            Action::FullDisk { agent, for_us } => {
                self.machines[agent].disk.set_capacity(Some(0));
                self.push(self.at + for_us, Event::DiskWell { machine: agent });
                true
            }
            Action::Clock { agent, by_us } => {
                self.machines[agent].wall_us = self.machines[agent].wall_us.saturating_add(by_us);
                true
            }
            Action::Wipe { agent, down_us } => self.wipe(agent, down_us),
            Action::Leave { agent, down_us } => self.leave(agent, down_us),
            Action::Move { agent, down_us } => self.move_to_another_address(agent, down_us),
            Action::MoveAll { down_us } => self.each(|w, agent| w.move_to_another_address(agent, down_us)),
        };
        if happened {
            self.counters.count(action.kind());
        }
    }

    /// Does it to all of them; says whether it hit one.
    fn each(&mut self, mut act: impl FnMut(&mut Self, usize) -> bool) -> bool {
        let hit: Vec<bool> = (0..self.machines.len()).map(|agent| act(self, agent)).collect();
        hit.contains(&true)
    }

    /// Who leads, if somebody does: the one in the newest term.
    pub(super) fn leader(&self) -> Option<usize> {
        let leads = |m: &usize| self.machines[*m].process.as_ref().is_some_and(|p| p.node.is_leader());
        (0..self.machines.len()).filter(leads).max_by_key(|m| self.machines[*m].durable.hard_state.term)
    }

    fn crash(&mut self, agent: usize, down_us: u64) -> bool {
        let up = self.machines[agent].is_up();
        if up {
            self.tearing.remove(&agent);
            self.power_off(agent, down_us);
        }
        up
    }

    fn kill(&mut self, agent: usize, down_us: u64) -> bool {
        let up = self.machines[agent].is_up();
        if up {
            self.end_process(agent);
            self.machines[agent].disk.kill();
            self.start_at(agent, self.at + down_us);
        }
        up
    }

    fn tear(&mut self, agent: usize, calls: u64, down_us: u64) -> bool {
        let up = self.machines[agent].is_up();
        if up {
            self.machines[agent].disk.power_off_after(calls);
            self.tearing.insert(agent, down_us);
        }
        up
    }

    fn pause(&mut self, agent: usize, for_us: u64) -> bool {
        let until = self.at + for_us;
        let Some(process) = &mut self.machines[agent].process else { return false };
        process.paused_until = until;
        let life = process.life;
        self.push_to(until, agent, life, Happening::Resume);
        true
    }

    /// These on one side, all others on the other.
    fn isolate(&mut self, left: &[usize]) -> bool {
        let mut any = false;
        for &a in left {
            for b in (0..self.machines.len()).filter(|b| !left.contains(b)) {
                self.network.cut.insert((a, b));
                self.network.cut.insert((b, a));
                any = true;
            }
        }
        any
    }

    fn reset(&mut self, agent: usize) -> bool {
        let Some(life) = self.machines[agent].process.as_ref().map(|p| p.life) else { return false };
        let links = self.network.of(agent, life);
        for (link, side) in &links {
            self.link_down(*link, *side, "reset");
        }
        !links.is_empty()
    }

    fn lose_bulk(&mut self, agent: usize) -> bool {
        let mut told = Vec::new();
        for link in self.network.links.values_mut().filter(|l| l.ends.iter().any(|e| e.machine == agent)) {
            link.bulk_epoch += 1;
            let ends = [(&link.ends[0], &link.ends[1]), (&link.ends[1], &link.ends[0])];
            told.extend(ends.map(|(mine, other)| (mine.machine, mine.life, mine.up, other.node)));
        }
        for (machine, life, up, node) in &told {
            if *up && self.is_alive(*machine, *life) {
                self.counters.count("frames lost");
                self.feed(*machine, Input::FramesLost { node: *node });
            }
        }
        !told.is_empty()
    }

    fn fail_sync(&mut self, agent: usize) -> bool {
        let fault = Fault::Error(std::io::ErrorKind::Other);
        self.machines[agent].disk.inject(Injection { op: Op::Sync, name: String::new(), skip: 0, fault });
        true
    }

    fn leave(&mut self, agent: usize, down_us: u64) -> bool {
        if self.at < self.wiped_at + ALONE_US {
            self.say(format_args!("{} does not leave: a disk was just lost", letter(agent)));
            return false;
        }
        self.machines[agent].rest_us = Some(down_us);
        self.ask(None, agent, Kind::Leave, LEAVE_TIMEOUT_US).is_some()
    }

    fn move_to_another_address(&mut self, agent: usize, down_us: u64) -> bool {
        self.moves[agent] = self.moves[agent].wrapping_add(1);
        self.machines[agent].addr = address(agent, self.moves[agent]);
        if !self.kill(agent, down_us) {
            self.start_at(agent, self.at + down_us);
        }
        true
    }

    /// Never more than a minority of any configuration that may be in force, and only if the others are whole.
    fn wipe(&mut self, agent: usize, down_us: u64) -> bool {
        let leaves = self.operations.iter().any(|o| o.kind == Kind::Leave && o.end.is_none());
        if leaves || !self.may_wipe(agent) {
            self.say(format_args!("{} is not wiped: too few others", letter(agent)));
            return false;
        }
        self.wiped_at = self.at;
        self.end_process(agent);
        self.tearing.remove(&agent);
        self.empty_disk(agent);
        self.start_at(agent, self.at + down_us);
        true
    }

    /// What was on this machine is gone; it will be a new node, and its operator names all others to it.
    pub(super) fn empty_disk(&mut self, agent: usize) {
        self.witness.disk_gone(self.machines[agent].node);
        self.machines[agent].wipe(&mut self.random);
        let others = (0..self.machines.len()).filter(|m| *m != agent);
        self.machines[agent].join = others.map(host).collect();
    }

    fn may_wipe(&self, agent: usize) -> bool {
        let node = self.machines[agent].node;
        let mut in_force: Vec<&Configuration> = self.witness.configuration().into_iter().collect();
        in_force.extend(self.machines.iter().flat_map(|m| m.configurations.values()));
        let standing = self.witness.standing();
        let is_whole = |n: &NodeId| {
            let machine = self.machines.iter().find(|m| m.node == *n);
            *n != node && machine.is_some_and(|m| m.durable.log.len() as u64 + 5 >= standing && m.is_up())
        };
        let bears = |voters: &BTreeSet<NodeId>| {
            voters.is_empty() || voters.iter().filter(|v| is_whole(v)).count() > voters.len() / 2
        };
        let current: Vec<_> = in_force.into_iter().filter(|c| !self.witness.has_stood(c)).collect();
        !current.is_empty() && current.iter().all(|c| bears(&c.voters) && bears(&c.outgoing))
    }
}
