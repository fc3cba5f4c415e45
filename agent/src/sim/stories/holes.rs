//! Holes: entries inside a log that cannot be read, while others lead on: what they were is not guessed at, what nobody can
//! give back is named, and what is given must fit.

use crate::sim::plan::{Action, MS, SECOND};
use crate::sim::world::World;
use quorate_raft::LogIndex;
use quorate_raft::wal::{Entry, EntryFields};

impl World {
    /// The last entry that is durable here.
    fn held(&self, agent: usize) -> u64 {
        self.machines[agent].durable.log.len() as u64
    }

    /// While this agent is down its disk forgets which entry this is: the header of its frame rots, and so do the notes beside
    /// the segments.
    fn forget_entry(&mut self, agent: usize, index: u64) {
        let machine = &self.machines[agent];
        let entry = machine.archive[index as usize - 1].bytes();
        let segments = machine.disk.names().into_iter().filter(|name| name.ends_with(".wal")).rev();
        let (name, at) = segments
            .filter_map(|name| {
                let bytes = machine.disk.contents(&name)?;
                let at = bytes.windows(entry.len()).position(|window| window == &entry[..])?;
                Some((name, at as u64))
            })
            .next()
            .expect("it is on disk");
        assert!(machine.disk.flip_bit(&name, at - 20, 3));
        let stem = name.trim_end_matches(".wal");
        for beside in machine.disk.names().into_iter().filter(|other| *other != name && other.starts_with(stem)) {
            machine.disk.vanish(&beside);
        }
    }

    /// What the disk of the forger gives.
    pub(in crate::sim) fn forge(&mut self, machine: usize, entries: Vec<Entry>) -> Vec<Entry> {
        let (Some(forger), Some(first)) = (self.forger, entries.first()) else { return entries };
        let index = first.header().index.0 as usize;
        if forger != machine || index < 2 {
            return entries;
        }
        self.counters.add("entries forged", entries.len() as u64);
        let mut before = self.machines[machine].durable.log[index - 2].1;
        let mut forge = |entry: &Entry| {
            let forged = another(entry, before);
            before = forged.header().chain;
            forged
        };
        entries.iter().map(&mut forge).collect()
    }

    /// The ranges that this agent cannot read.
    fn unreadable(&self, agent: usize) -> Vec<(u64, u64)> {
        let process = self.machines[agent].process.as_ref().expect("it is up");
        process.reader.damaged().iter().map(|range| (range.first.0, range.last.0)).collect()
    }
}

/// Three agents, and a leader that is cut off and has a tail that nobody else holds: it, and how many entries all share.
fn with_a_lonely_tail() -> (World, usize, u64) {
    let mut w = World::formed(3);
    w.fill(0, 5);
    w.converges(10 * SECOND);
    let old = w.leader().unwrap();
    let shared = w.held(old);
    w.act(&Action::Isolate { agent: old });
    for _ in 0..5 {
        w.begin_append(old, SECOND);
    }
    w.must("it has a tail of its own", SECOND, |w| w.held(old) >= shared + 2);
    (w, old, shared)
}

/// What stands at a change of term is lost, with all that told of which term it was. The agent guesses no term into agreement,
/// learns it with the repair, and goes on by it: its state is that of the others.
#[test]
fn a_hole_over_a_change_of_term_is_learned_again() {
    let mut w = World::formed(3);
    w.fill(0, 22);
    let old = w.leader().unwrap();
    let victim = (old + 1) % 3;
    w.act(&Action::Kill { agent: old, down_us: SECOND });
    w.must("another one leads", 5 * SECOND, |w| w.leader().is_some_and(|leader| leader != old));
    w.fill(victim, 3);
    w.converges(10 * SECOND);
    let log = w.machines[victim].durable.log.clone();
    let change = log.windows(2).rposition(|pair| pair[0].0 != pair[1].0).unwrap() as u64 + 2;
    w.act(&Action::Kill { agent: victim, down_us: SECOND });
    w.forget_entry(victim, change);
    w.run_to(w.at + 990 * MS);
    let seen = w.run_until(SECOND, |w| w.machines[victim].is_up() && !w.unreadable(victim).is_empty());
    assert!(seen, "the start has found it");
    assert_eq!(w.unreadable(victim), [(change, change)]);
    w.must("given back", 20 * SECOND, |w| w.repaired() > 0 && w.whole());
    w.must("applied", 5 * SECOND, |w| w.status(victim).is_some_and(|s| s.applied_index >= change));
    w.converges(10 * SECOND);
    w.appends(victim);
    w.reads(victim);
}

/// A leader that was cut off has a tail that nobody else holds, and rot at its beginning reaches back over what all hold.
/// Nobody can give that back as a whole; it goes, with the tail, when the log of the new leader takes its place, and never is
/// the log cut behind what cannot be read.
#[test]
fn a_rotten_tail_that_nobody_holds_goes_as_a_whole() {
    let (mut w, old, shared) = with_a_lonely_tail();
    w.act(&Action::Kill { agent: old, down_us: 3 * SECOND });
    w.must("another one leads", 5 * SECOND, |w| w.leader().is_some_and(|leader| leader != old));
    let other = w.leader().unwrap();
    w.fill(other, 3);
    w.forget_entry(old, shared);
    w.forget_entry(old, shared + 1);
    w.act(&Action::Heal);
    w.must("it is up, and has found it", 5 * SECOND, |w| w.machines[old].is_up());
    w.must("nothing is left of it", 20 * SECOND, |w| w.whole() && w.held(old) > shared + 3);
    assert_eq!(w.repaired(), 0, "nobody had it");
    w.converges(10 * SECOND);
    w.appends(old);
    w.reads(old);
}

/// Such a tail is to be dropped, and the disk has no room to note that: until it has, the tail stands, through a restart too,
/// and what rots in it meanwhile is named like all else, and goes with it.
#[test]
fn a_tail_that_waits_to_be_dropped_still_stands() {
    let (mut w, old, shared) = with_a_lonely_tail();
    let tail = w.machines[old].durable.log.clone();
    w.leave_free(old, 0);
    w.must("another one leads", 5 * SECOND, |w| w.leader().is_some_and(|leader| leader != old));
    let other = w.leader().unwrap();
    w.fill(other, 3);
    w.act(&Action::Heal);
    let waits = |w: &mut World| {
        let process = w.machines[old].process.as_ref();
        process.is_some_and(|p| p.waits && p.queue.front().is_some_and(|batch| batch.truncate_from.is_some()))
    };
    w.must("its tail is to be dropped", 5 * SECOND, waits);
    assert!(w.machines[old].durable.log.starts_with(&tail), "and stands");
    w.act(&Action::Kill { agent: old, down_us: SECOND });
    w.forget_entry(old, shared + 1);
    w.must("it is up, and has found it", 5 * SECOND, |w| w.machines[old].is_up());
    assert_eq!(w.unreadable(old), [(shared + 1, shared + 1)]);
    assert!(w.machines[old].durable.log.starts_with(&tail), "it stands after a start too");
    w.free_disk(old);
    w.must("nothing is left of it", 20 * SECOND, |w| w.whole() && w.held(old) > shared + 3);
    assert_eq!(w.repaired(), 0, "nobody had it");
    w.converges(10 * SECOND);
    w.appends(old);
    w.reads(old);
}

/// A well-formed entry that is not the one that stood there, of the same length and with all checksums right, from a member
/// whose disk holds that: it is refused, the member is named, and another one is asked.
#[test]
fn a_member_that_gives_other_entries_repairs_nothing() {
    let mut w = World::formed(3);
    w.fill(0, 40);
    w.converges(10 * SECOND);
    let leader = w.leader().unwrap();
    let (victim, index) = ((leader + 1) % 3, 12);
    // The leader is asked last.
    w.forger = Some((leader + 2) % 3);
    w.act(&Action::Kill { agent: victim, down_us: SECOND });
    w.forget_entry(victim, index);
    w.run_to(w.at + 990 * MS);
    w.must("it is up", SECOND, |w| w.machines[victim].is_up());
    w.scrub(victim);
    assert_eq!(w.unreadable(victim), [(index, index)]);
    w.must("given back by the other one", 20 * SECOND, |w| w.repaired() == 1 && w.whole());
    assert!(w.counters.get("entries forged") > 0, "the forger was asked");
    let process = w.machines[victim].process.as_ref().unwrap();
    let entry = process.reader.read(LogIndex(index), LogIndex(index), 0).unwrap().remove(0);
    assert_eq!(entry.header().chain, w.machines[victim].durable.log[index as usize - 1].1, "the one that stood there");
    w.forger = None;
    w.converges(10 * SECOND);
    w.reads(victim);
}

/// The same entry rots on all disks, and nobody can give it back: all say so, and name it. Everything else is read, appends go
/// on, and after the leader's death, and after that of all, somebody leads again.
#[test]
fn what_no_member_can_read_is_named_and_the_rest_goes_on() {
    let mut w = World::formed(3);
    w.fill(0, 60);
    w.converges(10 * SECOND);
    let index = 7;
    for agent in 0..3 {
        w.act(&Action::Stop { agent, down_us: 2 * SECOND });
    }
    w.run_to(w.at + SECOND);
    for agent in 0..3 {
        w.forget_entry(agent, index);
    }
    w.must("all are up", 5 * SECOND, |w| w.machines.iter().all(|m| m.is_up()));
    for agent in 0..3 {
        w.scrub(agent);
        assert_eq!(w.unreadable(agent), [(index, index)]);
    }
    let is_named = |w: &mut World, agent: usize| {
        w.status(agent).is_some_and(|s| {
            let named =
                s.disk.damaged.iter().any(|range| (range.first, range.last, range.lost) == (index, index, true));
            named && s.problems.iter().any(|p| p.contains("entries 7 to 7") && p.contains("no member can read them"))
        })
    };
    w.must("all name it as lost", 60 * SECOND, |w| (0..3).all(|agent| is_named(w, agent)));
    w.must("somebody leads", 10 * SECOND, |w| w.leader().is_some());
    let serves = |w: &mut World| {
        for agent in 0..3 {
            w.appends(agent);
            w.reads(agent);
        }
    };
    serves(&mut w);
    let terms = |w: &World| w.machines[0].durable.hard_state.term;
    let before = terms(&w);
    w.run_to(w.at + 60 * SECOND);
    assert_eq!(terms(&w), before, "leadership goes nowhere: nobody leads better");
    let reader = w.machines[1].process.as_ref().unwrap().reader.clone();
    let error = reader.read(LogIndex(index), LogIndex(index), 0).unwrap_err();
    assert!(
        matches!(error, quorate_raft::wal::Error::Corrupt { entries: Some((first, last)), .. } if first == last),
        "{error}"
    );
    assert_eq!(reader.read(LogIndex(index + 1), LogIndex(index + 3), 1 << 20).unwrap().len(), 3);
    let old = w.leader().unwrap();
    w.act(&Action::Kill { agent: old, down_us: 3 * SECOND });
    w.must("another one leads", 10 * SECOND, |w| w.leader().is_some_and(|leader| leader != old));
    w.must("it is back", 10 * SECOND, |w| w.machines[old].is_up());
    serves(&mut w);
    w.all_down(SECOND);
    w.run_to(w.at + 2 * SECOND);
    w.must("somebody leads again", 60 * SECOND, |w| w.leader().is_some());
    serves(&mut w);
    assert!(!w.whole() && w.repaired() == 0);
}

/// Another entry of the same shape behind the same one before it.
fn another(entry: &Entry, before: u64) -> Entry {
    let h = entry.header();
    let fields = EntryFields {
        seed: h.seed,
        index: h.index,
        term: h.term,
        kind: h.kind,
        base_offset: h.base_offset,
        count: h.count,
        time: quorate_raft::Wall(h.time.0 + 1),
        lamport: h.lamport,
        shard: h.shard,
        session: h.session,
        seq: h.seq,
    };
    Entry::seal(fields, before, &entry.payload())
}
