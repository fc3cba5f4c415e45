//! Faults: the steps of a plan, done to the world.
//!
//! A step that finds nothing to break, or that would break more than any cluster can bear, does nothing and says so.

mod disks;
mod harm;
mod members;
mod network;
mod operators;
mod processes;

use super::client::Kind;
use super::counters::Role;
use super::plan::Action;
use super::world::World;

impl World {
    pub(super) fn act(&mut self, action: &Action) {
        self.say(format_args!("--- {action:?}"));
        let role = action.agent().map(|agent| self.role(agent));
        let happened = match *action {
            Action::Crash { agent, down_us } => self.crash(agent, down_us),
            Action::Kill { agent, down_us } => self.kill(agent, down_us),
            Action::Tear { agent, calls, torn, down_us } => self.tear(agent, calls, torn, down_us),
            Action::CrashLeader { down_us } => self.leader().is_some_and(|agent| self.crash(agent, down_us)),
            Action::CrashAll { down_us } => self.each(|w, agent| w.crash(agent, down_us)),
            Action::CrashLoop { agent, times, up_us } => self.crash_loop(agent, times, up_us),
            Action::Pause { agent, for_us } => self.pause(agent, for_us),
            Action::Stop { agent, down_us } => self.stop(agent, down_us),
            Action::Cut { from, to } => self.cut([(from, to)]),
            Action::Deaf { agent } => self.deaf(agent),
            Action::Mute { agent } => self.mute(agent),
            Action::Isolate { agent } => self.isolate(&[agent]),
            Action::IsolateLeader => self.leader().is_some_and(|agent| self.isolate(&[agent])),
            Action::Halves { ref left } => self.isolate(left),
            Action::Bridge { agent } => self.bridge(agent),
            Action::Ring => self.ring(),
            Action::Flap { agent, times, every_us } => self.flap(agent, times, every_us),
            Action::Heal => self.heal(),
            Action::Reset { agent } => self.reset(agent),
            Action::ResetInFrame { agent } => self.machines[agent].is_up() && self.network.breaking.insert(agent),
            Action::LoseBulk { agent } => self.lose_bulk(agent),
            Action::SlowReader { agent, for_us } => self.slow_reader(agent, for_us),
            Action::Weather { loss, duplicate, reorder, delay_us_max } => {
                let network = &mut self.network;
                (network.loss, network.duplicate, network.reorder) = (loss, duplicate, reorder);
                network.delay_us_max = delay_us_max.max(network.delay_us_min);
                true
            }
            Action::ReplayGossip { agent } => self.replay_gossip(agent),
            Action::LoseGossip { agent, for_us } => self.gossip_lost.insert(agent, self.at + for_us).is_none(),
            Action::Clock { agent, by_us } => self.jump(agent, by_us),
            Action::Pace { agent, pace } => self.pace(agent, pace),
            Action::SlowDisk { agent, sync_us, for_us } => {
                self.machines[agent].slow_disk = Some((sync_us, self.at + for_us));
                true
            }
            Action::HangDisk { agent, for_us } => self.machines[agent].hangs_us.replace(for_us).is_none(),
            Action::FailSync { agent } => self.fail_sync(agent),
            Action::FailRead { agent } => self.fail_read(agent),
            Action::FullDisk { agent, free, for_us } => self.full_disk(agent, free, for_us),
            Action::Rot { agent, file, place, bit } => self.rot_a_bit(agent, file, place, bit),
            Action::LoseWrite { agent } => self.lose_write(agent),
            Action::MisdirectWrite { agent, sectors, by, down_us } => self.misdirect_write(agent, sectors, by, down_us),
            Action::StaleTail { agent, sectors, down_us } => self.stale_tail(agent, sectors, down_us),
            Action::Clone { agent, for_us } => self.clone_disk(agent, for_us),
            Action::Backup { agent } => self.back_up(agent),
            Action::Restore { agent, down_us } => self.restore(agent, down_us),
            Action::Wipe { agent, down_us } => self.wipe(agent, down_us),
            Action::Leave { agent, down_us } => self.leave(agent, down_us),
            Action::Forget { agent } => self.forget(agent),
            Action::Drain { agent, for_us } => self.drain_for(agent, for_us),
            Action::Remove { agent, heir } => self.remove(agent, heir),
            Action::Promote { agent, for_us } => self.pin_for(agent, Kind::Promote { agent, even: false }, for_us),
            Action::Demote { agent, for_us } => self.pin_for(agent, Kind::Demote { agent, even: false }, for_us),
            Action::Retire { agent } => self.retire(agent),
            Action::Upgrade { agent, down_us } => self.upgrade(agent, down_us),
            Action::Move { agent, down_us } => self.move_to_another_address(agent, down_us),
            Action::MoveAll { down_us } => self.each(|w, agent| w.move_to_another_address(agent, down_us)),
        };
        match role {
            Some(role) if happened => self.counters.count_for(action.kind(), role),
            None if happened => self.counters.count(action.kind()),
            _ => self.counters.count("steps without effect"),
        }
    }

    /// A fault took effect on this machine.
    pub(super) fn hit(&mut self, kind: &'static str, machine: usize) {
        let role = self.role(machine);
        self.counters.count_for(kind, role);
    }

    /// What a machine is to the group now.
    pub(super) fn role(&self, machine: usize) -> Role {
        let machine = &self.machines[machine];
        let Some(process) = machine.process.as_ref().filter(|_| machine.counts()) else { return Role::Outside };
        if process.node.is_leader() {
            return Role::Leader;
        }
        match self.witness.configuration() {
            Some(c) if c.voters.contains(&machine.node) || c.outgoing.contains(&machine.node) => Role::Follower,
            Some(c) if c.is_member(machine.node) => Role::Learner,
            _ => Role::Outside,
        }
    }

    /// Does it to all of them; says whether it hit one.
    fn each(&mut self, mut act: impl FnMut(&mut Self, usize) -> bool) -> bool {
        let hit: Vec<bool> = (0..self.machines.len()).map(|agent| act(self, agent)).collect();
        hit.contains(&true)
    }

    /// Who leads, if somebody does: the one in the newest term.
    pub(super) fn leader(&self) -> Option<usize> {
        let leads = |m: &usize| {
            let machine = &self.machines[*m];
            machine.counts() && machine.process.as_ref().is_some_and(|p| p.node.is_leader())
        };
        (0..self.machines.len()).filter(leads).max_by_key(|m| self.machines[*m].durable.hard_state.term)
    }
}
