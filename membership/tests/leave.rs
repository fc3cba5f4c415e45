//! Leaving: who said that it goes has left, however it went.

use crate::cluster::*;
use quorate_membership::{Input, Output, Phase, State};

#[test]
fn who_leaves_is_seen_as_left_and_never_as_failed() {
    for n in [2, 3, 10, 50] {
        for loss in [0, 150] {
            let mut c = Cluster::of(n, n + loss);
            c.form(30 * S);
            c.run(S);
            c.forget_events();
            c.loss_per_mille = loss;
            c.input(n, Input::Leave);
            let gone = c.run_while_not(10 * S, "leaving", |c| c.agents[&n].left);
            // From here on the process is gone.
            c.crash(n);
            let all = c.run_while_not(10 * S, "left", |c| c.all_see(n, State::Left));
            println!("{n} agents, loss {loss}: done after {} ms, known to all {} ms later", gone / MS, all / MS);
            c.run(60 * S);
            assert!(c.all_see(n, State::Left), "{}", c.picture());
            for at in c.up() {
                let events = c.events(at);
                let about: Vec<_> = events.iter().filter(|e| e.ends_with(&format!(" {n}"))).collect();
                assert_eq!(about, [&format!("leaving {n}"), &format!("left {n}")], "at {at}");
                assert!(!c.agents[&at].core.is_alive(n));
                assert_eq!(c.agents[&at].core.alive_count() as u64, n - 1);
            }
        }
    }
}

#[test]
fn who_dies_while_leaving_has_left() {
    let mut c = Cluster::of(6, 7);
    c.form(10 * S);
    c.run(S);
    c.forget_events();
    c.input(6, Input::Leave);
    c.run_while_not(S, "the intent", |c| c.all_see(6, State::Leaving));
    c.crash(6);
    assert!(!c.agents[&6].left, "it died before it was done");
    c.run_while_not(10 * S, "left", |c| c.all_see(6, State::Left));
    assert_eq!(c.events(1), ["leaving 6", "left 6"]);
}

#[test]
fn the_last_agent_leaves_at_once_and_says_nothing_more() {
    let mut c = Cluster::of(1, 1);
    c.run(S);
    c.input(1, Input::Leave);
    assert!(c.agents[&1].left);
    let core = &mut c.agents.get_mut(&1).unwrap().core;
    assert_eq!(core.status().phase, Phase::Left);
    assert_eq!(core.poll_timeout(), None);
    core.handle(quorate_membership::Now::default(), Input::Exchange { from: 2, bytes: vec![] });
    assert!(matches!(core.poll_output(), Some(Output::ExchangeReply { to: 2, .. })), "a request is always answered");
    core.handle(quorate_membership::Now::default(), Input::Leave);
    assert_eq!(core.poll_output(), None);
}

#[test]
fn a_newcomer_learns_who_left_and_who_failed() {
    let mut c = Cluster::of(4, 3);
    c.form(10 * S);
    c.run(S);
    c.input(4, Input::Leave);
    c.run_while_not(5 * S, "leaving", |c| c.agents[&4].left);
    c.crash(4);
    c.crash(3);
    c.run_while_not(20 * S, "failure", |c| c.all_see(3, State::Failed) && c.all_see(4, State::Left));
    c.start(5, vec![addr(2)]);
    c.run(2 * S);
    assert_eq!(c.state(5, 4), Some(State::Left), "{}", c.picture());
    assert_eq!(c.state(5, 3), Some(State::Failed));
    assert!(c.events(5).iter().all(|e| e.starts_with("joined")), "they were gone before it came: {:?}", c.events(5));
}

#[test]
fn the_gone_are_forgotten_by_all_after_a_day_and_do_not_rise_again() {
    let mut c = Cluster::new(5);
    c.options.tombstone_timeout = std::time::Duration::from_secs(120);
    for node in 1..=5 {
        c.start(node, vec![addr(1)]);
    }
    c.form(10 * S);
    c.crash(5);
    c.input(4, Input::Leave);
    c.run_while_not(20 * S, "gone", |c| c.all_see(5, State::Failed) && c.all_see(4, State::Left));
    c.crash(4);
    c.run(60 * S);
    assert!(c.all_see(5, State::Failed));
    c.run(70 * S);
    let forgotten = |c: &Cluster| c.up().into_iter().all(|at| c.state(at, 4).is_none() && c.state(at, 5).is_none());
    assert!(forgotten(&c), "{}", c.picture());
    c.run(300 * S);
    assert!(forgotten(&c), "rumours raised the dead: {}", c.picture());
    assert_eq!(c.events(1).iter().filter(|e| e.starts_with("reaped")).count(), 2);
}

/// Some are told that a failed node is gone for good: it is off their tables, and what those say who were not told brings
/// it back to nobody. Not even its own return does.
#[test]
fn who_is_forgotten_is_not_remembered_by_hearsay() {
    let mut c = Cluster::of(5, 31);
    c.form(10 * S);
    c.crash(5);
    c.run_while_not(20 * S, "failure", |c| c.all_see(5, State::Failed));
    for told in [1, 2] {
        c.input(told, Input::Forget { node: 5 });
    }
    c.run(60 * S);
    let sees = |c: &Cluster, at| c.agents[&at].core.member(5).map(|m| m.state);
    assert_eq!([1, 2, 3, 4].map(|at| sees(&c, at)), [None, None, Some(State::Failed), Some(State::Failed)]);
    c.restart(5, addr(5));
    c.run(20 * S);
    assert_eq!([1, 2].map(|at| sees(&c, at)), [None, None]);
    assert_eq!(c.agents[&1].core.alive_count(), 4);
}

/// Whoever is told before it has noticed the failure itself forgets as well.
#[test]
fn a_node_that_still_seems_alive_is_forgotten_too() {
    let mut c = Cluster::of(3, 32);
    c.form(10 * S);
    c.crash(3);
    for told in [1, 2] {
        c.input(told, Input::Forget { node: 3 });
    }
    c.run(60 * S);
    for at in [1, 2] {
        assert!(c.agents[&at].core.member(3).is_none());
        assert_eq!(c.agents[&at].core.alive_count(), 2);
    }
}
