//! Blows to the membership: agents leave, are forgotten, lose their disks, and return elsewhere.
//!
//! The operators in it do only what the documentation tells them.

use crate::sim::client::Kind;
use crate::sim::event::Event;
use crate::sim::machine::{address, host};
use crate::sim::plan::{MS, SECOND, letter};
use crate::sim::world::World;

/// A disk that is lost and an agent that leaves before anyone can know of it are two losses at once, which three voters
/// cannot bear. Detection takes this long.
const ALONE_US: u64 = SECOND;
/// How long an operator waits for a leave.
const LEAVE_TIMEOUT_US: u64 = 15 * SECOND;
/// So many agents are never retired: three voters that bear one more loss.
const LEAST_LEFT: usize = 4;
/// Of so many founders one may lose its disk before their log is founded.
const WIPED_OF_AT_LEAST: usize = 3;
/// How long for a dead agent to be forgotten, how often he asks, and how long he waits in between.
const FORGET_TIMEOUT_US: u64 = 3 * SECOND;
const FORGET_TRIES: u64 = 20;
const FORGET_AGAIN_US: u64 = 800 * MS;

impl World {
    pub(super) fn leave(&mut self, agent: usize, down_us: u64) -> bool {
        if self.is_a_disk_in_doubt() {
            self.say(format_args!("{} does not leave: a disk was just lost", letter(agent)));
            return false;
        }
        self.machines[agent].rest_us = Some(down_us);
        self.ask(None, agent, Kind::Leave, LEAVE_TIMEOUT_US).is_some()
    }

    /// Was a disk just lost, or harmed? Then no vote may be given up on purpose.
    pub(super) fn is_a_disk_in_doubt(&self) -> bool {
        self.at < self.wiped_at + ALONE_US || self.machines.iter().any(|m| m.harmed && m.counts())
    }

    /// Is a vote being given up on purpose? Then no disk may be lost.
    pub(super) fn is_a_seat_in_doubt(&self) -> bool {
        self.operations.iter().any(|o| o.kind.gives_up_a_vote() && o.end.is_none())
    }

    pub(super) fn move_to_another_address(&mut self, agent: usize, down_us: u64) -> bool {
        if self.machines[agent].retired {
            return false;
        }
        self.moves[agent] = self.moves[agent].wrapping_add(1);
        self.machines[agent].addr = address(agent, self.moves[agent]);
        if !self.kill(agent, down_us) {
            self.start_at(agent, self.at + down_us);
        }
        true
    }

    pub(super) fn wipe(&mut self, agent: usize, down_us: u64) -> bool {
        if !self.may_lose(agent) && !self.may_lose_before_a_log(agent) {
            self.say(format_args!("{} is not wiped: too few others", letter(agent)));
            return false;
        }
        if self.has_pledged(agent) && self.histories.is_empty() {
            self.counters.count("wiped with a pledge");
        }
        self.lose_disk(agent);
        self.start_at(agent, self.at + down_us);
        true
    }

    fn may_lose(&self, agent: usize) -> bool {
        !self.is_a_seat_in_doubt() && self.machines[agent].counts() && self.may_wipe(agent)
    }

    /// Nobody holds a log yet: then of at least three who expect each other one may lose its disk, and with it what it has
    /// promised. They found a log all the same; with two such disks a person might have to help.
    fn may_lose_before_a_log(&self, agent: usize) -> bool {
        let nobody = self.histories.is_empty() && self.machines.iter().all(|m| m.configurations.is_empty());
        let machine = &self.machines[agent];
        nobody && self.wiped_at == 0 && machine.counts() && machine.expect >= WIPED_OF_AT_LEAST
    }

    /// A process ends, and its disk is gone.
    pub(in crate::sim) fn lose_disk(&mut self, agent: usize) {
        self.wiped_at = self.at;
        self.end_process(agent);
        self.tearing.remove(&agent);
        self.empty_disk(agent);
    }

    /// What was on this machine is gone; it will be a new node, and its operator names all others to it.
    pub(in crate::sim) fn empty_disk(&mut self, agent: usize) {
        self.witness.disk_gone(self.machines[agent].node);
        self.count_disk(agent);
        self.machines[agent].wipe(&mut self.noise.ids[agent]);
        let others = (0..self.machines.len()).filter(|m| *m != agent && self.machines[*m].counts());
        self.machines[agent].join = others.map(host).collect();
    }

    /// It is gone for good, and nobody says so. So many others are left that they can go on, and replace it.
    pub(super) fn retire(&mut self, agent: usize) -> bool {
        let left = self.machines.iter().filter(|m| m.counts()).count();
        if left <= LEAST_LEFT || !self.machines[agent].is_up() || !self.may_lose(agent) {
            return false;
        }
        self.wiped_at = self.at;
        self.end_process(agent);
        self.tearing.remove(&agent);
        self.machines[agent].disk.kill();
        self.machines[agent].admitted = false;
        (self.machines[agent].retired, self.machines[agent].lost) = (true, true);
        true
    }

    /// It comes back with the program of today.
    pub(in crate::sim) fn upgrade(&mut self, agent: usize, down_us: u64) -> bool {
        let machine = &mut self.machines[agent];
        if !machine.counts() || !machine.is_of_old() {
            return false;
        }
        machine.upgrade();
        if !self.kill(agent, down_us) {
            self.start_at(agent, self.at + down_us);
        }
        true
    }

    /// It dies, and an operator tells the others that it will not come back.
    pub(super) fn forget(&mut self, agent: usize) -> bool {
        if !self.machines[agent].is_up() || !self.may_lose(agent) {
            return false;
        }
        // Its disk counts as lost from now on: it comes back only with an empty one, or if nobody would forget it.
        self.wiped_at = self.at;
        self.end_process(agent);
        self.tearing.remove(&agent);
        self.machines[agent].disk.kill();
        self.push(self.at + FORGET_AGAIN_US, Event::Forgetting { machine: agent, tries: FORGET_TRIES });
        true
    }

    /// The operator asks again, until it is done or he gives up and starts the agent as it was.
    pub(in crate::sim) fn forgetting(&mut self, machine: usize, tries: u64) {
        let node = self.machines[machine].node.get();
        if self.machines[machine].is_up() {
            return;
        }
        if self.witness.has_departed(node) {
            self.hit("forgotten", machine);
            self.lose_disk(machine);
            return self.start_at(machine, self.at + MS);
        }
        if tries == 0 || !self.clients_run {
            return self.start_at(machine, self.at);
        }
        let asked = self.leader().or_else(|| (0..self.machines.len()).find(|m| self.machines[*m].can_be_asked()));
        if let Some(asked) = asked {
            self.ask(None, asked, Kind::Forget { agent: machine }, FORGET_TIMEOUT_US);
        }
        self.push(self.at + FORGET_AGAIN_US, Event::Forgetting { machine, tries: tries - 1 });
    }
}
