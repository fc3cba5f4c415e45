//! Agents find each other: one log, however they were started.

use super::plan;
use crate::sim::client::End;
use crate::sim::plan::{Action, MS, SECOND};
use crate::sim::world::World;

/// Behaviour 1: three fresh agents are three voters and take an append within five seconds.
#[test]
fn three_fresh_agents_become_three_voters() {
    let mut w = World::new(plan(3));
    let operation = loop {
        w.run_to(w.at + 20 * MS);
        if w.machines[2].is_up() {
            break w.begin_append(2, 5 * SECOND);
        }
    };
    w.must("three voters", 5 * SECOND, |w| w.voters() == 3);
    w.must("a first ack", 5 * SECOND, |w| w.is_over(operation));
    assert!(matches!(w.end(operation), End::Answered(Ok(_))));
    assert!(w.at < 5 * SECOND);
}

/// Identical machines with one list of addresses: those that are up first find each other, and must go on looking.
#[test]
fn joiners_that_found_only_each_other_still_find_the_founder() {
    let mut late = plan(3);
    late.agents[0].start_us = 10 * SECOND;
    for joiner in &mut late.agents[1..] {
        joiner.join = vec![0, 1, 2];
    }
    let mut w = World::new(late);
    w.run_to(10 * SECOND);
    w.must("three voters", 15 * SECOND, |w| w.voters() == 3);
}

/// A founder dies after its log id is on disk and before its first entry is: it must not wait for ever for a log that
/// only it could have founded.
#[test]
fn a_founder_that_dies_in_the_middle_founds_after_all() {
    for calls in 0..40 {
        let mut alone = plan(1);
        alone.seed = calls;
        let mut w = World::new(alone);
        w.machines[0].disk.power_off_after(calls);
        w.tearing.insert(0, 100 * MS);
        w.must("it leads", 2 * SECOND, |w| w.leader().is_some());
        w.tearing.clear();
        w.machines[0].disk.heal();
        w.appends(0);
    }
}

/// The founder loses every file of its log but the meta, in the term in which it founded: that is no founding that was cut
/// short. It founds nothing under the old id, and gets all of it back.
#[test]
fn a_founder_that_lost_its_log_founds_no_other_one_under_its_id() {
    for agents in [2, 3] {
        let mut w = World::formed(agents);
        w.appends(0);
        w.converges(10 * SECOND);
        assert_eq!(w.machines[0].durable.hard_state.term.0, 1, "nobody else has led");
        let log_id = w.machines[0].process.as_ref().unwrap().log_id;
        w.act(&Action::Kill { agent: 0, down_us: SECOND });
        let disk = &w.machines[0].disk;
        let files = disk.names().into_iter().filter(|name| !name.starts_with("meta") && name != "lock");
        assert!(files.map(|name| disk.vanish(&name)).filter(|gone| *gone).count() > 1);
        w.machines[0].harmed = true;
        w.run_to(w.at + 5 * SECOND);
        w.keeps_promises();
        let process = w.machines[0].process.as_ref().expect("it starts");
        assert_eq!(process.log_id, log_id);
        if agents == 3 {
            w.converges(20 * SECOND);
            w.appends(0);
        }
    }
}

/// Behaviour 1: a fourth agent learns, a fifth makes five voters, an eighth stays outside, and all of them serve.
#[test]
fn four_agents_are_three_voters_five_are_five_and_the_eighth_stays_outside() {
    for (agents, voters, members) in [(2, 1, 2), (4, 3, 4), (5, 5, 5), (8, 5, 7)] {
        let mut w = World::formed(agents);
        let c = w.witness.configuration().expect("there is a group").clone();
        assert_eq!((c.voters.len(), c.members().len()), (voters, members), "of {agents}");
        for agent in 0..agents {
            w.appends(agent);
            w.reads(agent);
        }
        w.keeps_promises();
    }
}

/// Two founders that name each other become one cluster, not two histories.
#[test]
fn two_founders_that_join_each_other_found_one_log() {
    for apart_us in [0, 10 * MS, 2_900 * MS, 3_100 * MS] {
        let mut both = plan(3);
        both.agents[0].join = vec![1];
        both.agents[1].bootstrap = true;
        both.agents[1].join = vec![0];
        both.agents[1].start_us = apart_us;
        let mut w = World::new(both);
        w.must("three voters", 20 * SECOND, |w| w.voters() == 3);
        let logs: Vec<_> = w.machines.iter().filter_map(|m| m.process.as_ref()?.log_id).collect();
        assert!(logs.iter().all(|l| *l == logs[0]), "{apart_us} us apart: {logs:?}");
    }
}
