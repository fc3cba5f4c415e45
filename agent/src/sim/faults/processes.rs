//! Blows to processes and their clocks: they die, sleep, stop, and tell the wrong time.
//!
//! What a disk keeps of a process that dies is the disk's affair.

use crate::node::Input;
use crate::sim::event::{Event, Happening};
use crate::sim::plan::{Action, MS, SECOND};
use crate::sim::world::World;

/// Between two lives of a process that crashes again and again.
const RESTART_US: u64 = 50 * MS;
/// A clock that jumps by more than this is off by a lifetime.
const LIFETIME_US: u64 = 70 * 365 * 86_400 * SECOND;

impl World {
    pub(in crate::sim) fn crash(&mut self, agent: usize, down_us: u64) -> bool {
        let up = self.machines[agent].is_up();
        if up {
            if self.has_pledged(agent) && self.histories.is_empty() {
                self.counters.count("crashed with a pledge");
            }
            self.tearing.remove(&agent);
            self.power_off(agent, down_us);
        }
        up
    }

    pub(super) fn kill(&mut self, agent: usize, down_us: u64) -> bool {
        let up = self.machines[agent].is_up();
        if up {
            self.end_process(agent);
            self.machines[agent].disk.kill();
            self.start_at(agent, self.at + down_us);
        }
        up
    }

    pub(super) fn tear(&mut self, agent: usize, calls: u64, torn: bool, down_us: u64) -> bool {
        let up = self.machines[agent].is_up();
        if up && torn && self.machines.iter().all(|m| !m.harmed) && self.may_wipe(agent) {
            // What it may have acknowledged and cannot prove must be with the others.
            self.machines[agent].disk.set_torn_sectors(true);
            self.machines[agent].harmed = true;
            self.machines[agent].was_harmed = true;
            self.machines[agent].seen_at_life = self.machines[agent].lives + 1;
        }
        if up {
            self.machines[agent].disk.power_off_after(calls);
            self.tearing.insert(agent, down_us);
        }
        up
    }

    /// It crashes now, and again when it has been up for a while.
    pub(super) fn crash_loop(&mut self, agent: usize, times: u64, up_us: u64) -> bool {
        if times > 1 && self.clients_run {
            let action = Action::CrashLoop { agent, times: times - 1, up_us };
            self.push(self.at + RESTART_US + up_us, Event::Act { action });
        }
        self.crash(agent, RESTART_US)
    }

    pub(super) fn pause(&mut self, agent: usize, for_us: u64) -> bool {
        let until = self.at + for_us;
        let Some(process) = &mut self.machines[agent].process else { return false };
        if process.paused_until > until {
            return false;
        }
        process.paused_until = until;
        let life = process.life;
        self.push_to(until, agent, life, Happening::Resume);
        true
    }

    /// As a supervisor stops it; a process that sleeps does not hear it.
    pub(super) fn stop(&mut self, agent: usize, down_us: u64) -> bool {
        let Some(process) = &self.machines[agent].process else { return false };
        let life = process.life;
        self.machines[agent].rest_us = Some(down_us);
        self.push_to(self.at, agent, life, Happening::Input(Input::Stop));
        true
    }

    pub(super) fn jump(&mut self, agent: usize, by_us: i64) -> bool {
        let machine = &mut self.machines[agent];
        machine.wall_us = machine.wall_us.saturating_add(by_us);
        self.hit(if by_us < 0 { "clock back" } else { "clock ahead" }, agent);
        if by_us.unsigned_abs() > LIFETIME_US {
            self.hit("clock off by 74 years", agent);
        }
        true
    }

    /// Its clocks run at another pace from now on, and the alarm it has set comes by the new one.
    pub(in crate::sim) fn pace(&mut self, agent: usize, pace: u64) -> bool {
        self.machines[agent].pace = pace;
        let at = self.at;
        let Some(process) = &mut self.machines[agent].process else { return false };
        process.clock.set_pace(at, pace);
        process.wake_at = None;
        let life = process.life;
        self.push_to(at, agent, life, Happening::Drain);
        true
    }
}
