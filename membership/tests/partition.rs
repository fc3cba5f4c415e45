//! Partitions: whoever is cut off finds back without an operator.

use crate::cluster::*;
use quorate_membership::State;

fn heals(c: &mut Cluster, left: &[Node], right: &[Node], limit: u64) {
    c.form(10 * S);
    c.run(S);
    c.forget_events();
    c.cut(left, right);
    c.run_while_not(60 * S, "the cut is seen", |c| {
        let sees = |from: &[Node], to: &[Node]| {
            from.iter().all(|at| to.iter().all(|of| c.state(*at, *of) == Some(State::Failed)))
        };
        sees(left, right) && sees(right, left)
    });
    c.run(20 * S);
    c.heal();
    let took = c.form(limit);
    println!("{} | {}: whole again {} ms after the cut healed", left.len(), right.len(), took / MS);
    c.run(60 * S);
    assert!(c.is_whole(), "it lasts\n{}", c.picture());
    let (a, b) = (left[0], right[0]);
    assert!(c.events(a).contains(&format!("recovered {b}")), "{:?}", c.events(a));
    assert!(c.events(b).contains(&format!("recovered {a}")), "{:?}", c.events(b));
}

#[test]
fn two_agents_cut_apart_find_back() {
    for seed in 1..=5 {
        heals(&mut Cluster::of(2, seed), &[1], &[2], 10 * S);
    }
}

#[test]
fn one_of_three_cut_off_finds_back_without_seeds() {
    for seed in 1..=5 {
        let mut c = Cluster::of(3, seed);
        c.run(S);
        for agent in c.agents.values_mut() {
            agent.seeds.clear();
        }
        heals(&mut c, &[1], &[2, 3], 20 * S);
    }
}

#[test]
fn halves_of_five_and_of_ten_find_together() {
    for seed in 1..=3 {
        heals(&mut Cluster::of(5, seed), &[1, 2], &[3, 4, 5], 30 * S);
        heals(&mut Cluster::of(10, seed), &[1, 2, 3, 4, 5], &[6, 7, 8, 9, 10], 60 * S);
    }
}

#[test]
fn everybody_cut_from_everybody_finds_together() {
    for seed in 1..=3 {
        let mut c = Cluster::of(5, seed);
        c.form(10 * S);
        for node in 1..=5 {
            let others: Vec<Node> = (1..=5).filter(|n| *n != node).collect();
            c.cut(&[node], &others);
        }
        c.run(30 * S);
        assert!((1..=5).all(|at| c.agents[&at].core.status().alone));
        c.run(600 * S);
        c.heal();
        let took = c.form(20 * S);
        println!("seed {seed}: whole again after {} ms", took / MS);
        c.run(60 * S);
        assert!(c.is_whole());
    }
}

#[test]
fn a_short_cut_is_no_failure() {
    let mut c = Cluster::of(3, 3);
    c.form(10 * S);
    c.run(S);
    c.forget_events();
    c.cut(&[1], &[2, 3]);
    c.run(1500 * MS);
    c.heal();
    c.run(30 * S);
    assert!(c.is_whole());
    for at in 1..=3 {
        assert!(!c.events(at).iter().any(|e| e.starts_with("failed")), "{:?}", c.events(at));
    }
}

#[test]
fn an_agent_alone_keeps_asking_for_its_seeds() {
    let mut c = Cluster::new(1);
    c.start(2, vec![addr(1)]);
    c.run(3600 * S);
    assert!(c.agents[&2].core.status().alone);
    c.start(1, vec![]);
    let took = c.form(10 * S);
    println!("found the late seed after {} ms", took / MS);
}

/// The two sides have long declared each other failed, and still remember.
#[test]
fn a_partition_that_heals_after_an_hour_leaves_no_ghosts() {
    for (n, left) in [(2, 1), (3, 1), (5, 2), (10, 5)] {
        for seed in 1..=2 {
            let mut c = Cluster::of(n, seed);
            c.form(10 * S);
            // Each has met each: whom nobody ever met is forgotten sooner.
            c.run(60 * S);
            let (left, right): (Vec<Node>, Vec<Node>) = (1..=n).partition(|node| *node <= left);
            // Seeds are of no help: each finds back by what it remembers.
            c.agents.values_mut().for_each(|agent| agent.seeds.clear());
            c.cut(&left, &right);
            c.run(3600 * S);
            let gone = left.iter().all(|at| right.iter().all(|of| c.state(*at, *of) == Some(State::Failed)));
            assert!(gone, "{}", c.picture());
            c.heal();
            c.forget_events();
            let took = c.form(30 * S);
            println!("{n} agents, seed {seed}: whole {} ms after an hour apart", took / MS);
            c.run(120 * S);
            assert!(c.is_whole() && c.is_on_its_own(), "it lasts\n{}", c.picture());
            assert!(c.agents.values().all(|a| a.core.members().count() == n as usize), "no ghosts");
            assert_eq!(c.count("failed"), 0, "nobody fails by coming back");
        }
    }
}
