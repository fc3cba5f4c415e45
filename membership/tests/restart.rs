//! Restarting: a new life replaces the old one at once, wherever it comes back.

use crate::cluster::*;
use quorate_membership::State;

#[test]
fn a_restart_before_anybody_noticed_replaces_the_old_life() {
    for moved in [false, true] {
        let mut c = Cluster::of(5, 11);
        c.form(10 * S);
        c.run(2 * S);
        c.forget_events();
        c.crash(4);
        c.run(100 * MS);
        c.restart(4, if moved { addr(104) } else { addr(4) });
        let took = c.form(3 * S);
        println!("moved {moved}: whole after {} ms", took / MS);
        c.run(S);
        for at in [1, 2, 3, 5] {
            let member = c.agents[&at].core.member(4).unwrap();
            assert_eq!((member.epoch, member.addr), (2, if moved { addr(104) } else { addr(4) }));
            assert_eq!(c.events(at), ["restarted 4"], "at {at}");
        }
        c.run(30 * S);
        assert!(c.is_whole());
        for at in [1, 2, 3, 5] {
            assert_eq!(c.events(at), ["restarted 4"], "nothing of the old life comes after: at {at}");
        }
    }
}

#[test]
fn a_restart_after_the_failure_was_noticed_is_a_restart_too() {
    for moved in [false, true] {
        let mut c = Cluster::of(3, 12);
        c.form(10 * S);
        c.forget_events();
        c.crash(3);
        c.run_while_not(10 * S, "failure", |c| c.all_see(3, State::Failed));
        c.restart(3, if moved { addr(103) } else { addr(3) });
        let took = c.form(3 * S);
        println!("moved {moved}: whole after {} ms", took / MS);
        assert_eq!(c.events(1), ["suspected 3", "failed 3", "restarted 3"]);
    }
}

#[test]
fn all_agents_restart_at_once() {
    for moved in [false, true] {
        let mut c = Cluster::of(5, 13);
        c.form(10 * S);
        c.run(2 * S);
        for node in 1..=5 {
            c.crash(node);
        }
        c.run(S);
        let place = |node| if moved { addr(200 + node) } else { addr(node) };
        for node in 1..=5 {
            c.agents.get_mut(&node).unwrap().seeds = (1..=5).filter(|n| *n != node).map(place).collect();
            c.restart(node, place(node));
        }
        let took = c.form(10 * S);
        println!("moved {moved}: whole after {} ms", took / MS);
        assert!((1..=5).all(|at| c.agents[&at].core.addresses().values().all(|a| (1..=5).any(|n| place(n) == *a))));
        c.run(60 * S);
        assert!(c.is_whole(), "{}", c.picture());
    }
}

#[test]
fn restarts_without_a_pause_end_in_the_last_life() {
    let mut c = Cluster::of(3, 14);
    c.form(10 * S);
    for _ in 0..10 {
        c.crash(2);
        c.run(30 * MS);
        c.restart(2, addr(2));
        c.run(70 * MS);
    }
    c.form(10 * S);
    assert_eq!(c.agents[&1].core.member(2).unwrap().epoch, 11);
    c.run(30 * S);
    assert!(c.is_whole());
}

#[test]
fn who_left_may_come_back() {
    let mut c = Cluster::of(3, 15);
    c.form(10 * S);
    c.input(3, quorate_membership::Input::Leave);
    c.run_while_not(5 * S, "leaving", |c| c.agents[&3].left && c.all_see(3, State::Left));
    c.crash(3);
    c.forget_events();
    c.restart(3, addr(3));
    c.form(5 * S);
    assert_eq!(c.events(1), ["joined 3"]);
}
