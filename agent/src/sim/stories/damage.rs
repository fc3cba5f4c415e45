//! Disks rot: what is damaged is found, given back by others, and nobody acts on it meanwhile.

use super::plan;
use crate::node::{Input, Mark, PeerMessage};
use crate::sim::plan::{Action, MS, SECOND};
use crate::sim::world::World;
use quorate_raft::wal::ScrubCursor;

impl World {
    /// Appends so many records, one after another.
    pub(super) fn fill(&mut self, agent: usize, records: usize) {
        for _ in 0..records {
            self.appends(agent);
        }
    }

    /// All stop at once, for a while; what was written stays.
    pub(super) fn all_down(&mut self, down_us: u64) {
        for agent in 0..self.machines.len() {
            self.act(&Action::Kill { agent, down_us });
        }
    }

    /// Flips a bit in the middle of what this stopped agent has written in its segment number `at`.
    pub(super) fn rot(&mut self, agent: usize, at: usize) {
        let disk = &self.machines[agent].disk;
        let segments: Vec<String> = disk.names().into_iter().filter(|name| name.ends_with(".wal")).collect();
        let name = &segments[at % segments.len()];
        let written = disk.contents(name).unwrap().iter().rposition(|b| *b != 0).unwrap() as u64;
        assert!(written > 4096, "{name} holds no entry");
        assert!(disk.flip_bit(name, 4096 + (written - 4096) / 2, 3));
    }

    /// Reads all of this log, as the scrubber of an agent does: a start reads no more than it must.
    pub(super) fn scrub(&mut self, agent: usize) {
        let reader = self.machines[agent].process.as_ref().unwrap().reader.clone();
        let mut cursor = Some(ScrubCursor::default());
        while let Some(from) = cursor {
            cursor = reader.scrub(from, 1 << 20).unwrap().next;
        }
        self.look_for_damage(agent);
    }

    pub(super) fn whole(&mut self) -> bool {
        let clean =
            |m: &crate::sim::machine::Machine| m.process.as_ref().is_some_and(|p| p.reader.damaged().is_empty());
        self.machines.iter().all(clean)
    }

    pub(super) fn repaired(&mut self) -> u64 {
        (0..self.machines.len()).map(|agent| self.status(agent).map_or(0, |s| s.disk.repaired_entries)).sum()
    }
}

/// Rot in every segment of one of three: it starts, says so, gets all of it back, and is whole without another start.
#[test]
fn a_rotten_minority_is_repaired_by_the_others() {
    let mut w = World::formed(3);
    w.fill(0, 40);
    let victim = (w.leader().unwrap() + 1) % 3;
    w.act(&Action::Kill { agent: victim, down_us: SECOND });
    let segments = w.machines[victim].disk.names().iter().filter(|name| name.ends_with(".wal")).count();
    assert!(segments > 1);
    for at in 0..segments - 1 {
        w.rot(victim, at);
    }
    w.run_to(w.at + 2 * SECOND);
    w.scrub(victim);
    w.must("found and given back", 30 * SECOND, |w| w.repaired() > 0 && w.whole());
    w.converges(20 * SECOND);
    w.appends(victim);
    w.reads(victim);
}

/// One that starts alone finds nobody to ask, and looks again later each time. Who comes then is asked at once: that nobody
/// was there says nothing of whoever is.
#[test]
fn who_comes_back_is_asked_at_once() {
    let mut w = World::formed(3);
    w.fill(0, 40);
    let victim = (w.leader().unwrap() + 1) % 3;
    for agent in 0..3 {
        let down_us = if agent == victim { SECOND } else { 40 * SECOND };
        w.act(&Action::Kill { agent, down_us });
    }
    w.rot(victim, 0);
    w.run_to(w.at + 2 * SECOND);
    w.scrub(victim);
    assert!(!w.whole(), "it is found");
    w.must("the others are back", 60 * SECOND, |w| w.status(victim).is_some_and(|s| s.leader.is_some()));
    w.must("given back", 2 * SECOND, |w| w.repaired() > 0 && w.whole());
    w.converges(20 * SECOND);
    w.appends(victim);
}

/// Answers get lost for long, on a connection that stands: who could not say is asked again every few seconds.
#[test]
fn who_could_not_say_is_asked_again_soon() {
    let mut far = plan(3);
    (far.knobs.delay_us_min, far.knobs.delay_us_max) = (20 * MS, 30 * MS);
    let mut w = World::new(far);
    w.converges(15 * SECOND);
    w.fill(0, 40);
    let victim = (w.leader().unwrap() + 1) % 3;
    w.act(&Action::Kill { agent: victim, down_us: SECOND });
    w.rot(victim, 0);
    w.run_to(w.at + 2 * SECOND);
    w.converges(10 * SECOND);
    w.scrub(victim);
    assert!(!w.whole(), "it is found");
    let until = w.at + 33 * SECOND;
    while w.at < until {
        w.act(&Action::LoseBulk { agent: victim });
        w.run_to(w.at + 30 * MS);
    }
    assert_eq!(w.repaired(), 0, "no answer arrived");
    w.must("given back", 6 * SECOND, |w| w.repaired() > 0 && w.whole());
    w.converges(20 * SECOND);
}

/// All of them, each elsewhere: they make each other whole before anybody leads, unattended.
#[test]
fn all_are_rotten_in_different_places() {
    let mut w = World::formed(3);
    w.fill(0, 40);
    w.all_down(SECOND);
    for agent in 0..3 {
        w.rot(agent, agent);
    }
    w.run_to(w.at + 2 * SECOND);
    for agent in 0..3 {
        w.scrub(agent);
    }
    w.must("all are whole", 60 * SECOND, |w| w.repaired() >= 1 && w.whole());
    w.converges(30 * SECOND);
    w.appends(1);
    w.reads(2);
}

/// The leader finds out that it cannot read its log: somebody else leads, and it is repaired.
#[test]
fn a_leader_that_cannot_read_its_log_hands_over() {
    let mut w = World::formed(3);
    w.fill(0, 40);
    let old = w.leader().unwrap();
    w.rot(old, 0);
    let node = w.machines[old].process.as_ref().unwrap().reader.clone();
    // As a tail, or the scrubber, would.
    let read = node.read(quorate_raft::LogIndex(1), quorate_raft::LogIndex(u64::MAX - 1), usize::MAX);
    let _ = read.and_then(|entries| node.header(quorate_raft::LogIndex(entries.len() as u64 + 1)));
    assert!(!node.damaged().is_empty(), "the read has found it");
    w.look_for_damage(old);
    w.must("another one leads", 10 * SECOND, |w| w.leader().is_some_and(|leader| leader != old));
    w.must("it is whole", 30 * SECOND, |w| w.whole() && w.repaired() > 0);
    w.run_to(w.at + 500 * MS);
    w.converges(20 * SECOND);
    w.appends(old);
}

/// One member alone says that this node's history is wrong: both are named, and nothing stops. When most voters say so, it
/// takes no part any more, serves nothing, and the others go on.
#[test]
fn only_most_voters_stop_a_node_with_another_history() {
    let mut w = World::formed(3);
    w.fill(0, 5);
    w.converges(10 * SECOND);
    let leader = w.leader().unwrap();
    let (victim, other) = ((leader + 1) % 3, (leader + 2) % 3);
    let process = w.machines[victim].process.as_ref().unwrap();
    let index = process.published.readable_index;
    let header = *process.ordered[index.0 as usize - 1].header();
    let seed = header.seed;
    let lie = |w: &mut World, from: usize| {
        let mark = Mark { index, term: header.term, chain: header.chain ^ 1 };
        let node = w.machines[from].node.get();
        w.feed(victim, Input::Peer { node, message: PeerMessage::Chain { seed, mark } });
    };
    let problem = |w: &mut World| w.status(victim).unwrap().problems.join("\n");
    // Only the leader says what is compared.
    lie(&mut w, other);
    assert_eq!(problem(&mut w), "");
    lie(&mut w, leader);
    assert!(problem(&mut w).contains("has another history than this agent"), "{}", problem(&mut w));
    w.appends(victim);
    w.must("it goes on", 5 * SECOND, |w| w.status(victim).is_some_and(|s| s.applied_index > index.0));
    lie(&mut w, other);
    assert!(problem(&mut w).contains("most voters have another history"), "{}", problem(&mut w));
    w.appends(leader);
    w.appends(other);
    w.must("readers are sent elsewhere", 5 * SECOND, |w| {
        w.machines[victim].process.as_ref().is_some_and(|p| !p.published.has_log)
    });
}

/// While a group grows, the voters of before and those of after both decide. The storms harm no disk that either of them
/// cannot spare: an older disk that returns then is let in by nobody, and with it the group has lost its majority.
#[test]
fn no_disk_is_harmed_that_a_growing_group_cannot_spare() {
    let mut w = World::new(plan(3));
    let mut looks = 0;
    let until = w.at + 15 * SECOND;
    while w.at < until && w.voters() < 3 {
        w.run_to(w.at + MS / 2);
        if w.in_force().iter().any(|c| (1..3).contains(&c.outgoing.len())) {
            looks += 1;
            assert_eq!((0..3).find(|agent| w.may_harm(*agent)), None, "at {} us", w.at);
        }
    }
    w.converges(10 * SECOND);
    assert!(looks > 0);
    w.must("three can spare any one", SECOND, |w| (0..3).all(|agent| w.may_harm(agent)));
}
