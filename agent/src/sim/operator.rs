//! Operator: the person who looks after agents that cannot help themselves, and does what the documentation says.
//!
//! He never touches an agent that serves, and wipes a disk only when the others are enough without it.

use super::plan::{MS, letter};
use super::world::World;

impl World {
    /// One look at all agents. Says whether he had to do anything.
    pub(super) fn look_after(&mut self) -> bool {
        let mut acted = self.take_back();
        self.see_who_is_whole();
        for machine in 0..self.machines.len() {
            if !self.machines[machine].counts() {
                continue;
            }
            let copied = self.why_shut_out(machine).filter(|_| self.may_wipe_shut_out(machine));
            let why = copied.or_else(|| self.why_wipe(machine).filter(|_| self.may_wipe(machine)));
            if let Some(why) = why {
                self.say(format_args!("the operator wipes {}: {why}", letter(machine)));
                self.counters.count("wiped by the operator");
                self.lose_disk(machine);
                self.start_at(machine, self.at + MS);
                acted = true;
            } else if !self.machines[machine].is_up() && self.machines[machine].refuses.is_none() {
                self.start_at(machine, self.at);
            } else if self.reads_failed_for_good(machine) {
                self.say(format_args!("the operator restarts {}: its disk reads again", letter(machine)));
                self.end_process(machine);
                self.machines[machine].disk.kill();
                self.start_at(machine, self.at + MS);
                acted = true;
            }
        }
        acted
    }

    /// Could a sole voter not read its log when its disk gave errors, though nothing is wrong with what is on it? Nobody else
    /// has what it asks for, and it believes a second reading no more than the first; a start reads all anew.
    fn reads_failed_for_good(&self, machine: usize) -> bool {
        let m = &self.machines[machine];
        let alone = self.witness.configuration().is_some_and(|c| c.voters.len() == 1 && c.voters.contains(&m.node));
        let damaged = m.process.as_ref().is_some_and(|p| !p.damaged.is_empty());
        alone && damaged && !m.harmed && m.disk.counters().reads_failed > 0
    }

    /// Why this disk is of no use any more, if it is not.
    fn why_wipe(&self, machine: usize) -> Option<&'static str> {
        let machine = &self.machines[machine];
        if machine.refuses.is_some() {
            return Some("its log is damaged, and it says so");
        }
        if self.witness.has_departed(machine.node.get()) {
            return Some("it was forgotten, or has left");
        }
        let shut_out = machine.harmed && machine.is_up() && !machine.admitted;
        shut_out.then_some("nobody lets it in: its disk is older than what they know")
    }

    /// Was its disk copied, and is it told so, and to be wiped? Others may have let it in meanwhile, who had not heard of the
    /// newer boot, and it may even lead them; those that refuse it go on so.
    fn why_shut_out(&self, machine: usize) -> Option<&'static str> {
        let machine = &self.machines[machine];
        let told = machine.copied && machine.is_up() && machine.told_of_copy;
        told.then_some("it is told that its disk was copied, and to wipe it")
    }

    /// The process on a copy of a disk ends for good. Which of the two the others know is the operator's affair: if the
    /// copy was let in at all, the disk that was copied is wiped as well.
    pub(super) fn copy_ends(&mut self, copy: usize) {
        let (node, was_let_in) = (self.machines[copy].node, self.machines[copy].admitted);
        if !self.machines[copy].is_up() && !was_let_in {
            return;
        }
        self.end_process(copy);
        self.machines[copy].disk.kill();
        let original = self.machines.iter().position(|m| m.node == node && m.counts());
        if let Some(original) = original.filter(|_| was_let_in) {
            self.counters.count("copies let in");
            self.machines[original].harmed = true;
            self.machines[original].admitted = false;
        }
        self.machines[copy].admitted = false;
    }
}
