//! Paths: datagrams that do not pass while streams do are named, and only they.

use crate::cluster::*;

#[test]
fn a_path_that_loses_all_datagrams_is_named_until_it_works_again() {
    let mut c = Cluster::of(5, 3);
    c.form(10 * S);
    c.run(2 * S);
    c.forget_events();
    // One direction suffices: neither side gets answers.
    c.blocked.insert((1, 3));
    let named = |c: &Cluster, at: Node, of: Node| c.agents[&at].core.status().datagrams_blocked == [of];
    let took = c.run_while_not(60 * S, "naming", |c| named(c, 1, 3) && named(c, 3, 1));
    println!("named after {} ms", took / MS);
    c.run(300 * S);
    assert!(c.is_whole());
    assert_eq!(c.count("failed") + c.count("suspected"), 0, "streams carry the probes");
    assert_eq!(c.count("datagrams blocked"), 2, "once on each side, and of nobody else");
    c.blocked.clear();
    let took = c.run_while_not(30 * S, "the end of it", |c| {
        (1..=5).all(|at| c.agents[&at].core.datagrams_blocked().next().is_none())
    });
    println!("over {} ms after it works again", took / MS);
    assert!(c.events(1).contains(&"datagrams pass 3".to_string()), "{:?}", c.events(1));
}

#[test]
fn loss_alone_blocks_no_path() {
    for loss in [150, 300] {
        let mut c = Cluster::of(5, 4);
        c.form(10 * S);
        c.forget_events();
        c.loss_per_mille = loss;
        c.run(600 * S);
        assert_eq!(c.count("datagrams blocked"), 0, "at {loss} per mille");
    }
}

#[test]
fn who_died_is_no_matter_of_paths() {
    let mut c = Cluster::of(5, 5);
    c.form(10 * S);
    c.forget_events();
    c.crash(3);
    c.run(120 * S);
    assert_eq!(c.count("datagrams blocked"), 0);
}
