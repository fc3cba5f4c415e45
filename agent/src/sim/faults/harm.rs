//! Harm: faults that destroy what was durable, and when they may be done.
//!
//! An intact copy of everything must be left with every other voter, so that no promise may be broken: one agent at a
//! time is harmed, and only at a moment at which all the others hold what it holds, and are a majority without it. A step
//! waits a while for such a moment.

use crate::sim::client::Kind;
use crate::sim::counters::Role;
use crate::sim::event::Event;
use crate::sim::machine::Machine;
use crate::sim::plan::{Action, MS, SECOND, letter};
use crate::sim::world::World;
use quorate_raft::wal::{self, Seen};
use quorate_raft::{Configuration, NodeId};
use std::collections::BTreeSet;

/// A step waits so long for a moment at which it may be done, and looks so often.
const WAITS: u64 = 400;
const LOOK_US: u64 = 10 * MS;
/// After so long a rotten disk is started again.
const FOUND_US: u64 = 50 * MS;
/// Entries that the sectors at the end of a log may hold, more or less.
const TAIL_ENTRIES: u64 = 24;

impl World {
    /// Does the harm now, or looks again soon. Says whether it was done.
    fn when_bearable(&mut self, agent: usize, action: Action, harm: impl FnOnce(&mut Self) -> bool) -> bool {
        if self.may_harm(agent) {
            self.waits.remove(&agent);
            let before = std::mem::replace(&mut self.machines[agent].harmed, true);
            let done = harm(self);
            self.machines[agent].harmed = before || done;
            self.machines[agent].was_harmed |= done;
            return done;
        }
        let waited = self.waits.entry(agent).or_insert(0);
        *waited += 1;
        if *waited < WAITS && self.clients_run {
            self.push(self.at + LOOK_US, Event::Act { action });
        } else {
            self.waits.remove(&agent);
            self.say(format_args!("{} is not harmed: the others do not hold all that it holds", letter(agent)));
        }
        false
    }

    /// Would everything that this agent holds be left with every other voter, and could they decide without it?
    pub(in crate::sim) fn may_harm(&mut self, agent: usize) -> bool {
        self.see_who_is_whole();
        let forgets = self.operations.iter().any(|o| matches!(o.kind, Kind::Forget { .. }) && o.end.is_none());
        if forgets || self.is_a_seat_in_doubt() || self.at < self.wiped_at + SECOND {
            return false;
        }
        let machine = &self.machines[agent];
        let alone = self.machines.iter().enumerate().all(|(at, m)| at == agent || !m.harmed || !m.counts());
        if !machine.counts() || machine.departed || !alone || self.machines.iter().any(|m| m.retired && m.is_up()) {
            return false;
        }
        let durable = &machine.durable;
        let (held, last) = (durable.log.len() as u64, durable.log.last().map_or(0, |(_, chain)| *chain));
        if held == 0 || held < self.witness.standing() {
            return false;
        }
        let in_force = self.in_force();
        // An older disk may be let in by nobody, and where of two each is needed nothing would be decided ever after. While
        // voters change that goes for the old set as for the new.
        let spares = |c: &&Configuration| c.voters.len() > 2 && (c.outgoing.is_empty() || c.outgoing.len() > 2);
        let many = !in_force.is_empty() && in_force.iter().all(spares);
        let mut voters = in_force.iter().flat_map(|c| c.voters.iter().chain(&c.outgoing));
        let holds = |node: &NodeId| {
            let other = self.machines.iter().find(|m| m.node == *node && m.counts());
            other.is_some_and(|m| {
                m.is_up() && m.durable.holds(held, last) && m.durable.hard_state.term >= durable.hard_state.term
            })
        };
        many && voters.all(|v| *v == machine.node || holds(v))
    }

    /// Those that were harmed and are whole again: by their disks, and whom nobody shuts out any more.
    pub(in crate::sim) fn see_who_is_whole(&mut self) {
        let standing = self.witness.standing();
        let chain = self.witness.chain(standing).unwrap_or(0);
        let shut_out: BTreeSet<usize> = (0..self.machines.len()).filter(|m| self.is_shut_out(*m)).collect();
        let may_be = |m: &Machine| m.harmed && m.refuses.is_none() && m.is_up() && m.lives >= m.seen_at_life;
        for (at, machine) in self.machines.iter_mut().enumerate() {
            if may_be(machine) && !shut_out.contains(&at) && machine.durable.holds(standing, chain) {
                let disk = machine.disk.fork();
                let verified = wal::verify(disk.attach().as_ref(), &mut |_: Seen<'_>| None);
                machine.harmed = !verified.is_ok_and(|v| v.damaged.is_empty() && v.more_damaged == 0);
            }
        }
    }

    /// Was its disk copied, or is it an older copy, and does anybody refuse it for that? Its disk may be whole, if the
    /// leader is not the one who does; to them it is lost.
    fn is_shut_out(&self, machine: usize) -> bool {
        let mut others = (0..self.machines.len()).filter(|at| *at != machine && self.machines[*at].can_be_asked());
        self.machines[machine].copied && others.any(|at| self.admits(at, machine).is_err())
    }

    /// All configurations that may decide anything now.
    pub(in crate::sim) fn in_force(&self) -> Vec<&Configuration> {
        let mut in_force: Vec<&Configuration> = self.witness.configuration().into_iter().collect();
        in_force.extend(self.machines.iter().filter(|m| m.counts()).flat_map(|m| m.configurations.values()));
        in_force.retain(|c| !self.witness.has_stood(c));
        in_force
    }

    /// May a whole disk be lost? Never more than a minority of any configuration that may be in force, and only if the
    /// others are whole.
    pub(in crate::sim) fn may_wipe(&self, agent: usize) -> bool {
        let standing = self.witness.standing();
        self.is_bearable_without(agent, |m| m.durable.log.len() as u64 + 5 >= standing)
    }

    /// The same for a disk that some of the others shut out, and with it what only the leader on it could give them: of all
    /// that stands a quorum of them holds what each election among them needs, however far the others are behind.
    pub(in crate::sim) fn may_wipe_shut_out(&self, agent: usize) -> bool {
        self.is_bearable_without(agent, |_| true)
    }

    fn is_bearable_without(&self, agent: usize, is_near: impl Fn(&Machine) -> bool) -> bool {
        let node = self.machines[agent].node;
        let is_whole = |n: &NodeId| {
            let machine = self.machines.iter().find(|m| m.node == *n && m.counts());
            *n != node && machine.is_some_and(|m| is_near(m) && m.is_up() && !m.harmed)
        };
        let bears = |voters: &BTreeSet<NodeId>| {
            voters.is_empty() || voters.iter().filter(|v| is_whole(v)).count() > voters.len() / 2
        };
        let current = self.in_force();
        !current.is_empty() && current.iter().all(|c| bears(&c.voters) && bears(&c.outgoing))
    }

    // ---- what is done ----

    /// One bit is wrong: anywhere in one of its files, as far as it is used.
    pub(super) fn rot_a_bit(&mut self, agent: usize, file: u64, place: u64, bit: u32) -> bool {
        self.when_bearable(agent, Action::Rot { agent, file, place, bit }, |w| {
            let (disk, lost_before) = (&w.machines[agent].disk, w.machines[agent].lost_before);
            // Of two copies one may lie about a write, or rot; both at once no pair outlives.
            let spared = if disk.counters().writes_lost > lost_before { "meta." } else { "lock" };
            let names: Vec<String> =
                disk.names().into_iter().filter(|name| name != "lock" && !name.starts_with(spared)).collect();
            let Some(name) = usize::try_from(file % names.len().max(1) as u64).ok().and_then(|at| names.get(at)) else {
                return false;
            };
            let used =
                disk.contents(name).map_or(0, |bytes| bytes.iter().rposition(|b| *b != 0).map_or(0, |at| at + 1));
            if used == 0 || !disk.flip_bit(name, place % used as u64, bit) {
                return false;
            }
            let (name, offset) = (name.clone(), place % used as u64);
            w.say(format_args!("bit {bit} of byte {offset} of {name} of {} is wrong now", letter(agent)));
            w.hit("bits rotted", agent);
            // It is found at the next start, at the latest.
            w.crash(agent, FOUND_US);
            true
        })
    }

    pub(super) fn stale_tail(&mut self, agent: usize, sectors: u64, down_us: u64) -> bool {
        self.when_bearable(agent, Action::StaleTail { agent, sectors, down_us }, |w| {
            let role = w.role(agent);
            if !w.has_grown_far(agent) {
                return false;
            }
            let stale = w.newest_segment(agent).map_or(0, |name| w.machines[agent].disk.stale_tail(&name, sectors));
            w.ends_lying("writes stale", agent, role, down_us, stale)
        })
    }

    pub(super) fn misdirect_write(&mut self, agent: usize, sectors: u64, by: u64, down_us: u64) -> bool {
        self.when_bearable(agent, Action::MisdirectWrite { agent, sectors, by, down_us }, |w| {
            let role = w.role(agent);
            if !w.has_grown_far(agent) {
                return false;
            }
            let moved = w.newest_segment(agent).map_or(0, |n| w.machines[agent].disk.misdirect_tail(&n, sectors, by));
            w.ends_lying("writes misdirected", agent, role, down_us, moved)
        })
    }

    fn ends_lying(&mut self, kind: &'static str, agent: usize, role: Role, down_us: u64, sectors: u64) -> bool {
        if sectors == 0 {
            return false;
        }
        self.counters.count_for(kind, role);
        self.machines[agent].seen_at_life = self.machines[agent].lives + 1;
        if !self.crash(agent, down_us) {
            self.machines[agent].disk.crash();
        }
        true
    }

    /// Even without the end of its log, is it one of several voters? A sole voter that is set back goes on alone, and
    /// nothing can tell it that others went on as well.
    pub(super) fn has_grown_far(&self, agent: usize) -> bool {
        let machine = &self.machines[agent];
        let newest = machine.configurations.iter().next_back();
        newest.is_some_and(|(index, c)| {
            c.voters.len() > 2 && c.outgoing.is_empty() && index + TAIL_ENTRIES < machine.durable.log.len() as u64
        })
    }

    /// The segment that holds the newest entries.
    fn newest_segment(&self, agent: usize) -> Option<String> {
        let disk = &self.machines[agent].disk;
        let used = |name: &String| disk.contents(name).is_some_and(|bytes| bytes.iter().skip(4096).any(|b| *b != 0));
        disk.names().into_iter().filter(|name| name.ends_with(".wal")).filter(used).max()
    }

    /// Back to the copy of its disk, if it has been started since that was made.
    pub(super) fn restore(&mut self, agent: usize, down_us: u64) -> bool {
        let earlier =
            self.machines[agent].backup.as_ref().is_some_and(|(lives, _, _)| *lives < self.machines[agent].lives);
        if !earlier {
            return false;
        }
        self.when_bearable(agent, Action::Restore { agent, down_us }, |w| {
            let Some((_, disk, durable)) = w.machines[agent].backup.take() else { return false };
            w.hit("older disks returned", agent);
            w.end_process(agent);
            w.tearing.remove(&agent);
            w.count_disk(agent);
            let machine = &mut w.machines[agent];
            machine.disk_counted = disk.counters();
            (machine.disk, machine.durable, machine.admitted) = (disk, durable, false);
            machine.copied = true;
            machine.seen_at_life = machine.lives + 1;
            w.start_at(agent, w.at + down_us);
            true
        })
    }
}
