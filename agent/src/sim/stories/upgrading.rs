//! Upgrades: versions side by side, seats that go to the newer one, and a feature level that waits for the last.

use super::plan;
use crate::node::level::FEATURE_LEVEL;
use crate::sim::plan::{Action, MS, SECOND};
use crate::sim::world::World;

impl World {
    /// It is started again with this program.
    fn upgraded(&mut self, agent: usize, version: &str, supports: u32) {
        self.machines[agent].version = version.into();
        self.machines[agent].feature_level = supports;
        self.act(&Action::Stop { agent, down_us: SECOND });
        self.run_to(self.at + 2 * SECOND);
        self.must("it is back", 10 * SECOND, |w| w.machines[agent].is_up() && w.leader().is_some());
        self.run_to(self.at + 3 * SECOND);
        self.keeps_promises();
    }

    fn level(&self) -> u32 {
        self.witness.level().map_or(1, |(level, _)| level)
    }
}

/// Five agents go from one version to a third by way of one in between, one at a time, with all three side by side for a
/// while. The feature level is raised when the last one supports it and not before; no seat moves; the cluster serves
/// throughout. After that an agent with the first program is turned away, and told why.
#[test]
fn five_agents_are_upgraded_with_a_version_in_between() {
    let mut six = plan(6);
    // The sixth comes at the end, with the program of the beginning.
    six.agents[5].start_us = 1_000 * SECOND;
    let mut w = World::new(six);
    for machine in &mut w.machines {
        (machine.version, machine.feature_level) = ("1.0.0".into(), FEATURE_LEVEL);
    }
    w.must("five vote", 20 * SECOND, |w| w.voters() == 5);
    w.must("a level", 5 * SECOND, |w| w.level() == FEATURE_LEVEL);
    let before = w.witness.configurations().count();
    let steps = [(0, "1.1.0", 0), (1, "1.1.0", 0), (2, "1.2.0", 1), (0, "1.2.0", 1), (3, "1.2.0", 1), (1, "1.2.0", 1)];
    for (agent, version, more) in steps {
        w.upgraded(agent, version, FEATURE_LEVEL + more);
        w.appends(agent);
        assert_eq!(w.level(), FEATURE_LEVEL, "raised before the last one supports it");
    }
    w.upgraded(4, "1.2.0", FEATURE_LEVEL + 1);
    w.must("the level is raised", 5 * SECOND, |w| w.level() == FEATURE_LEVEL + 1);
    assert_eq!(w.witness.configurations().count(), before, "no seat moved");
    assert_eq!(w.voters(), 5);

    w.machines[5].starting = false;
    w.start_at(5, w.at);
    w.run_to(w.at + 10 * SECOND);
    w.keeps_promises();
    assert!(w.witness.configuration().is_some_and(|c| !c.is_member(w.machines[5].node)));
    let said = w.status(5).expect("it is up").problems;
    assert!(said.iter().any(|p| p.contains("feature level 3") && p.contains("upgrade it")), "{said:?}");
    w.machines[5].feature_level = FEATURE_LEVEL + 1;
    w.machines[5].version = "1.2.0".into();
    w.act(&Action::Kill { agent: 5, down_us: SECOND });
    w.must("upgraded it joins", 30 * SECOND, |w| {
        w.witness.configuration().is_some_and(|c| c.is_member(w.machines[5].node))
    });
}

/// New machines with a new version stand beside three old ones: when they are ready they take the seats, and one of them
/// leads. The old ones learn, until their operator takes them away.
#[test]
fn machines_of_a_newer_version_take_the_seats_and_the_lead() {
    let mut eight = plan(7);
    (5..7).for_each(|agent| eight.agents[agent].start_us = 20 * SECOND);
    eight.knobs.replace_after_us = 20 * SECOND;
    let mut w = World::new(eight);
    for agent in 5..7 {
        w.machines[agent].version = "1.1.0".into();
    }
    w.must("five vote", 19 * SECOND, |w| w.voters() == 5);
    let votes = |w: &World, agent: usize| {
        w.witness.configuration().is_some_and(|c| c.outgoing.is_empty() && c.voters.contains(&w.machines[agent].node))
    };
    w.run_to(28 * SECOND);
    assert!(!votes(&w, 5) && !votes(&w, 6), "not stable yet");
    w.must("the new ones vote", 30 * SECOND, |w| votes(w, 5) && votes(w, 6));
    assert_eq!(w.voters(), 5);
    w.converges(10 * SECOND);
    // One more is upgraded in place: then most voters are of the newer version, and an old leader makes way.
    let third = (0..5).find(|a| votes(&w, *a) && w.leader() != Some(*a)).expect("three old ones vote");
    w.upgraded(third, "1.1.0", FEATURE_LEVEL);
    w.must("a newer one leads", 40 * SECOND, |w| {
        w.leader().is_some_and(|leader| w.machines[leader].version == "1.1.0")
    });
    w.appends(third);
}

/// One agent votes yet, and one of the others is of a newer version. It does not take the only seat alone: had it died in the
/// middle, nobody would lead for good. They vote together first.
#[test]
fn the_only_voter_gives_its_seat_to_no_other_one_alone() {
    let mut five = plan(5);
    // Sooner than the patience of growth: else all are ready at once, and growth comes first anyway.
    five.knobs.stabilization_us = 100 * MS;
    let mut w = World::new(five);
    for (agent, machine) in w.machines.iter_mut().enumerate() {
        machine.version = if agent == 3 { "1.1.0" } else { "1.0.0" }.into();
    }
    w.must("five vote", 30 * SECOND, |w| w.voters() == 5);
    let voters: Vec<_> = w.witness.configurations().map(|c| c.voters.clone()).collect();
    let next = voters.windows(2).find(|two| two[0].len() == 1 && two[1] != two[0]).map(|two| two[1].len());
    assert!(next > Some(1), "{voters:?}");
    w.keeps_promises();
}
