//! Blows to the network: who reaches whom, what breaks, and who does not listen.
//!
//! While a second process runs on a copy of a disk nobody is cut off: see the limits of the simulator.

use crate::node::Input;
use crate::sim::event::{Event, Happening};
use crate::sim::plan::{Action, SECOND};
use crate::sim::world::World;

/// Gossip of so long ago is old.
const OLD_US: u64 = 60 * SECOND;

impl World {
    /// Nothing gets from the first to the second of each.
    pub(super) fn cut(&mut self, ways: impl IntoIterator<Item = (usize, usize)>) -> bool {
        if self.machines.iter().any(|m| m.retired && m.is_up()) {
            self.say(format_args!("nobody is cut off while a copy runs"));
            return false;
        }
        let before = self.network.cut.len();
        self.network.cut.extend(ways.into_iter().filter(|(from, to)| from != to));
        self.network.cut.len() > before
    }

    fn others(&self, agent: usize) -> Vec<usize> {
        (0..self.machines.len()).filter(|other| *other != agent).collect()
    }

    pub(super) fn deaf(&mut self, agent: usize) -> bool {
        let others = self.others(agent);
        self.cut(others.into_iter().map(|other| (other, agent)))
    }

    pub(super) fn mute(&mut self, agent: usize) -> bool {
        let others = self.others(agent);
        self.cut(others.into_iter().map(|other| (agent, other)))
    }

    /// These on one side, all others on the other.
    pub(super) fn isolate(&mut self, left: &[usize]) -> bool {
        let right: Vec<usize> = (0..self.machines.len()).filter(|m| !left.contains(m)).collect();
        self.part(left, &right)
    }

    fn part(&mut self, left: &[usize], right: &[usize]) -> bool {
        let ways: Vec<_> = left.iter().flat_map(|a| right.iter().flat_map(|b| [(*a, *b), (*b, *a)])).collect();
        self.cut(ways)
    }

    pub(super) fn bridge(&mut self, agent: usize) -> bool {
        let others = self.others(agent);
        let (left, right) = others.split_at(others.len() / 2);
        self.part(left, right)
    }

    pub(super) fn ring(&mut self) -> bool {
        let n = self.machines.len();
        let beside = |a: usize, b: usize| (a + 1) % n == b || (b + 1) % n == a;
        let ways: Vec<_> = (0..n).flat_map(|a| (0..n).map(move |b| (a, b))).filter(|(a, b)| !beside(*a, *b)).collect();
        self.cut(ways)
    }

    /// Cut off, and back again, in turns.
    pub(super) fn flap(&mut self, agent: usize, times: u64, every_us: u64) -> bool {
        if times > 1 && self.clients_run {
            self.push(self.at + every_us, Event::Act { action: Action::Flap { agent, times: times - 1, every_us } });
        }
        if times.is_multiple_of(2) {
            return self.isolate(&[agent]);
        }
        let before = self.network.cut.len();
        self.network.cut.retain(|(from, to)| *from != agent && *to != agent);
        self.unstall();
        self.network.cut.len() < before
    }

    pub(in crate::sim) fn heal(&mut self) -> bool {
        let any = !self.network.cut.is_empty();
        self.network.cut.clear();
        self.unstall();
        any
    }

    pub(super) fn reset(&mut self, agent: usize) -> bool {
        let Some(life) = self.machines[agent].process.as_ref().map(|p| p.life) else { return false };
        let links = self.network.of(agent, life);
        for (link, side) in &links {
            self.link_down(*link, *side, "reset");
        }
        !links.is_empty()
    }

    pub(super) fn lose_bulk(&mut self, agent: usize) -> bool {
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

    /// What is meant for it piles up on its connections, which stay alive.
    pub(super) fn slow_reader(&mut self, agent: usize, for_us: u64) -> bool {
        let begins = self.machines[agent].is_up() && self.network.not_reading.insert(agent);
        if begins {
            self.push(self.at + for_us, Event::ReadsAgain { machine: agent });
        }
        begins
    }

    pub(in crate::sim) fn reads_again(&mut self, agent: usize) {
        if self.network.not_reading.remove(&agent) {
            self.unstall();
        }
    }

    /// All that is still known of its gossip comes again, to whoever it was meant for, over the connections of today.
    pub(super) fn replay_gossip(&mut self, agent: usize) -> bool {
        let Some(life) = self.machines[agent].process.as_ref().map(|p| p.life) else { return false };
        let from = self.machines[agent].node.get();
        let old: Vec<_> = (0..self.machines.len())
            .filter_map(|to| Some((to, self.network.old_gossip.get(&(agent, to))?.clone())))
            .collect();
        let mut any = false;
        for (to, packets) in old {
            let Some((link, side)) = self.network.route(agent, life, self.machines[to].node.get()) else { continue };
            let end = self.network.links[&link].ends[side].clone();
            for packet in packets.into_iter().filter(|packet| packet.node == from) {
                any = true;
                self.counters.count("gossip replayed");
                self.counters.add("gossip replayed after a minute", u64::from(self.at > packet.sent + OLD_US));
                let arrives = self.at + self.network.delay(&mut self.noise.network[agent]);
                self.push_to(arrives, end.machine, end.life, Happening::Datagram { link, from, bytes: packet.bytes });
            }
        }
        any
    }
}
