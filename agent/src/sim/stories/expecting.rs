//! Agents that were told to expect each other: one log, whoever is late, lost or mistaken.

use super::plan;
use crate::sim::plan::{Action, MS, Plan, SECOND};
use crate::sim::world::World;

/// Identical machines: each expects so many, and is told the addresses of all.
fn identical(agents: usize, expect: usize) -> Plan {
    let mut plan = plan(agents);
    for agent in &mut plan.agents {
        (agent.bootstrap, agent.expect, agent.join) = (false, expect, (0..agents).collect());
    }
    plan
}

impl World {
    #[track_caller]
    fn says(&mut self, agent: usize, words: &[&str]) {
        let problems = self.status(agent).expect("it is up").problems.join(" | ");
        for word in words {
            assert!(problems.contains(word), "{word:?} is not in {problems:?}");
        }
    }

    #[track_caller]
    fn one_history(&self) {
        assert_eq!(self.histories.len(), 1, "{:?}", self.histories);
    }
}

/// One, three, five and seven: all of them found it, and it serves.
#[test]
fn as_many_as_are_expected_found_one_log() {
    for n in [1, 3, 5, 7] {
        let mut w = World::new(identical(n, n));
        w.must("all vote", 10 * SECOND, |w| w.voters() == n.min(7));
        w.one_history();
        w.converges(10 * SECOND);
        (0..n).for_each(|agent| w.appends(agent));
    }
}

/// More come than are expected, in any order, and one much later: they join.
#[test]
fn who_comes_beyond_those_expected_joins() {
    let mut five = identical(5, 3);
    for (agent, start_us) in [0, 2, 4, 1, 60].into_iter().enumerate() {
        five.agents[agent].start_us = start_us * SECOND;
    }
    let mut w = World::new(five);
    w.run_to(20 * SECOND);
    assert_eq!(w.histories.len(), 1, "four of five are there, and nobody waits for the fifth");
    w.run_to(60 * SECOND);
    w.converges(20 * SECOND);
    w.one_history();
    assert_eq!(w.voters(), 5);
}

/// Three expected, three there, and two join addresses silent: behind them a group could live. Nobody takes silence for an
/// empty disk, however long it lasts; the fourth machine makes it clear.
#[test]
fn silence_is_no_empty_disk() {
    let mut five = identical(5, 3);
    five.agents[3].start_us = 600 * SECOND;
    five.agents[4].start_us = 7200 * SECOND;
    let mut w = World::new(five);
    w.run_to(599 * SECOND);
    assert!(w.histories.is_empty());
    w.says(0, &["waits for: 3 expected, 3 here (a, b, c)", "d.sim:7373 has not answered", "2 silent", "--join"]);
    w.must("three vote", 20 * SECOND, |w| w.voters() >= 3);
    w.one_history();
}

/// Who expects another number is named, and nobody founds anything before that is settled.
#[test]
fn other_expectations_are_named() {
    let mut three = identical(3, 3);
    three.agents[2].expect = 5;
    let mut w = World::new(three);
    w.run_to(30 * SECOND);
    assert!(w.histories.is_empty());
    w.says(0, &["c expects 5, this agent 3"]);
    w.says(2, &["5 expected, 1 here (c)", "a expects 3, this agent 5"]);
}

/// Whoever comes to people who have a log joins them, though it expects others and they never did.
#[test]
fn who_sees_a_log_joins_it() {
    let mut mixed = identical(4, 3);
    (mixed.agents[0].bootstrap, mixed.agents[0].expect) = (true, 0);
    mixed.agents[0].join = Vec::new();
    let mut w = World::new(mixed);
    w.converges(30 * SECOND);
    w.one_history();
}

/// A founder loses its disk with its pledge, before the pledge of the last one is in. The old word stands, so the others call
/// it off; in the next round they found a log with the new disk.
#[test]
fn a_lost_pledge_is_called_off() {
    let mut found_late = 0;
    for after_us in [0, 2, 5, 9, 14, 20, 30, 45, 60] {
        let mut three = identical(3, 3);
        three.knobs.sync_us_max = 40 * MS;
        three.seed = after_us + 1;
        let mut w = World::new(three);
        w.must("a pledge", 20 * SECOND, |w| (0..3).any(|m| w.has_pledged(m)));
        w.run_to(w.at + after_us * MS);
        let first = (0..3).find(|m| w.has_pledged(*m)).unwrap_or_default();
        w.lose_disk(first);
        w.start_at(first, w.at + 100 * MS);
        let begun = w.at;
        w.must("a group of all", 120 * SECOND, |w| w.voters() == 3);
        found_late += u64::from(w.at - begun > 5 * SECOND);
        w.one_history();
        w.converges(90 * SECOND);
        w.appends(first);
    }
    assert!(found_late > 0, "no pledge was lost in time");
}

/// Power is lost at any call of the disk while a log is being founded: whatever was half written, there is one log, and each
/// founder has the same first entry.
#[test]
fn power_lost_in_the_middle_of_a_founding_changes_nothing() {
    for calls in (0..60).step_by(3) {
        let mut three = identical(3, 3);
        three.seed = calls;
        let mut w = World::new(three);
        w.run_to(50 * MS);
        w.machines[1].disk.power_off_after(calls);
        w.tearing.insert(1, 200 * MS);
        w.must("three vote", 60 * SECOND, |w| w.voters() == 3);
        w.tearing.clear();
        w.machines[1].disk.heal();
        w.converges(60 * SECOND);
        w.one_history();
        w.appends(1);
    }
}

/// While a pledge is being written its agent waits for the disk, and asks for no turn before that. (It once asked for one after
/// the other, as fast as its processor could.)
#[test]
fn a_pledge_that_is_being_written_is_waited_for_in_peace() {
    let mut w = World::new(identical(3, 3));
    w.must("three vote", 20 * SECOND, |w| w.voters() == 3);
    assert!(w.counters.get("pledges kept") >= 3);
    assert!(w.events < 3_000, "{} events until three vote", w.events);
}

/// Three expect each other; one is missing. All addresses change, and the others are started again there, twice. Where they
/// were before nobody is missed: when the third one is there they found their log.
#[test]
fn who_has_moved_is_not_missed_where_it_was() {
    let mut three = identical(3, 3);
    three.agents[2].start_us = 120 * SECOND;
    let mut w = World::new(three);
    for _ in 0..2 {
        w.run_to(w.at + 10 * SECOND);
        w.act(&Action::MoveAll { down_us: 300 * MS });
    }
    w.run_to(119 * SECOND);
    w.says(0, &["waits for: 3 expected, 2 here (a, b)"]);
    let problems = w.status(0).expect("it is up").problems.join(" | ");
    assert_eq!(problems.matches("has not answered").count(), 1, "{problems}");
    w.must("three vote", 60 * SECOND, |w| w.voters() == 3);
    w.one_history();
    w.converges(20 * SECOND);
}

/// The file of pledges does not read, which a start says; its operator wipes that disk, and the others have founded their log
/// without it or do so with the new one.
#[test]
fn a_damaged_file_of_pledges_is_named() {
    let mut w = World::new(identical(3, 3));
    w.must("a pledge", 20 * SECOND, |w| w.has_pledged(0));
    w.must("three vote", 20 * SECOND, |w| w.voters() == 3);
    w.machines[0].harmed = true;
    assert!(w.machines[0].disk.flip_bit("formation", 30, 3));
    w.act(&Action::Kill { agent: 0, down_us: 50 * MS });
    w.must("it says so", SECOND, |w| w.machines[0].refuses.as_ref().is_some_and(|why| why.contains("formation")));
    w.must("it is wiped, and votes again", 90 * SECOND, |w| {
        w.look_after();
        w.machines[0].is_up() && w.voters() == 3 && w.is_of_one_mind().is_ok()
    });
    w.one_history();
}

/// Seven have founded a log, as many as may hold it, so the eighth stays outside. One of the seven dies for good: the eighth
/// learns beyond that room, and takes the seat. (Nobody ever did.)
#[test]
fn of_seven_founders_a_dead_one_gives_its_seat_to_the_eighth() {
    let mut eight = identical(8, 7);
    (eight.knobs.replace_after_us, eight.knobs.stabilization_us) = (15 * SECOND, SECOND);
    let mut w = World::new(eight);
    w.must("seven vote", 30 * SECOND, |w| w.voters() == 7);
    w.run_to(w.at + 10 * SECOND);
    let (leader, votes): (_, Vec<bool>) = (w.leader(), (0..8).map(|agent| w.votes(agent)).collect());
    let eighth = votes.iter().position(|votes| !votes).expect("seven of eight vote");
    let dead = (0..8).find(|agent| votes[*agent] && Some(*agent) != leader).expect("a follower");
    w.act(&Action::Kill { agent: dead, down_us: 3_600 * SECOND });
    w.must("the eighth votes", 90 * SECOND, |w| w.votes(eighth));
    let members = w.witness.configuration().map_or(0, |c| c.members().len());
    assert_eq!((w.voters(), members), (7, 7));
    w.appends(eighth);
}
