//! Tags and addresses: what a node says of itself reaches everybody.

use crate::cluster::*;
use quorate_membership::{Error, Event, Input, State, TAGS_BYTES_MAX, TAGS_MAX, Tags, VALUE_BYTES_MAX};
use std::collections::BTreeMap;

fn tags(pairs: &[(&str, &str)]) -> Tags {
    Tags::new(pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()).unwrap()
}

#[test]
fn tags_reach_everybody_also_when_datagrams_are_lost() {
    for (n, loss) in [(3, 0), (10, 0), (10, 300), (50, 0)] {
        let mut c = Cluster::of(n, 21);
        c.form(30 * S);
        c.run(5 * S);
        c.forget_events();
        c.loss_per_mille = loss;
        let wish = tags(&[("zone", "a"), ("rack", "r/17")]);
        c.input(2, Input::SetTags(wish.clone()));
        let took = c.run_while_not(60 * S, "tags", |c| {
            c.agents.values().all(|agent| agent.core.member(2).is_some_and(|m| m.tags == wish))
        });
        println!("{n} agents, loss {loss}: all know the tags after {} ms", took / MS);
        assert!(c.events(1).contains(&"updated 2".to_string()));
    }
}

#[test]
fn the_latest_of_many_changes_wins() {
    let mut c = Cluster::of(5, 22);
    c.form(10 * S);
    for i in 0..20 {
        c.input(4, Input::SetTags(tags(&[("i", &i.to_string())])));
        c.run(20 * MS);
    }
    c.run(3 * S);
    for agent in c.agents.values() {
        assert_eq!(agent.core.member(4).unwrap().tags.get("i"), Some("19"));
    }
}

#[test]
fn a_new_address_reaches_everybody() {
    let mut c = Cluster::of(4, 23);
    c.form(10 * S);
    c.input(3, Input::SetAddr(addr(77)));
    c.run(3 * S);
    for at in [1, 2, 4] {
        assert_eq!(c.agents[&at].core.member(3).unwrap().addr, addr(77));
        assert_eq!(c.agents[&at].core.addresses()[&3], addr(77));
    }
}

#[test]
fn an_exchange_repairs_who_missed_everything() {
    let mut c = Cluster::of(6, 24);
    c.form(10 * S);
    c.run(40 * S);
    // Not one datagram arrives: only streams do.
    c.datagrams_blocked = true;
    let wish = tags(&[("missed", "yes")]);
    c.input(6, Input::SetTags(wish.clone()));
    c.run(2 * S);
    c.datagrams_blocked = false;
    // By now the news has been sent as often as it is ever sent.
    c.run(3 * S);
    let knows = |c: &Cluster, at: u64| c.agents[&at].core.member(6).unwrap().tags == wish;
    let took = c.run_while_not(300 * S, "repair", |c| (1..=6).all(|at| knows(c, at)));
    println!("repaired after {} ms", took / MS);
}

#[test]
fn two_nodes_with_one_name_are_both_visible() {
    let mut c = Cluster::new(25);
    c.start(1, vec![]);
    c.boot_named(2, "twin", addr(2), vec![addr(1)], Tags::default());
    c.boot_named(3, "twin", addr(3), vec![addr(1)], Tags::default());
    c.form(10 * S);
    let status = c.agents[&1].core.status();
    assert_eq!(status.name_conflicts, BTreeMap::from([("twin".to_string(), vec![2, 3])]));
    let told = |e: &Event| matches!(e, Event::NameConflict { name, nodes } if name == "twin" && *nodes == [2, 3]);
    assert_eq!(c.agents[&1].events.iter().filter(|(_, e)| told(e)).count(), 1);
    c.crash(3);
    c.run(10 * S);
    assert!(c.agents[&1].core.status().name_conflicts.is_empty(), "only the present conflict");
}

#[test]
fn limits_of_tags() {
    let make = |pairs: Vec<(String, String)>| Tags::new(pairs.into_iter().collect());
    let one = |k: &str, v: &str| make(vec![(k.to_string(), v.to_string())]);
    assert!(one("a.b_c-d/E9", "").is_ok());
    assert!(one(&"k".repeat(64), &"v".repeat(VALUE_BYTES_MAX)).is_ok());
    assert_eq!(one(&"k".repeat(65), ""), Err(Error::TagKey("k".repeat(65))));
    assert_eq!(one("k", &"v".repeat(VALUE_BYTES_MAX + 1)), Err(Error::TagValue("k".to_string())));
    assert_eq!(one("", "v"), Err(Error::TagKey(String::new())));
    assert_eq!(one("a b", "v"), Err(Error::TagKey("a b".to_string())));
    assert_eq!(one("k", "\u{1b}[2J"), Err(Error::TagValue("k".to_string())), "no terminal escapes");
    let many = |n: usize| make((0..n).map(|i| (format!("{i}"), String::new())).collect());
    assert!(many(TAGS_MAX).is_ok());
    assert_eq!(many(TAGS_MAX + 1), Err(Error::TooManyTags(TAGS_MAX + 1)));
    // Two keys of one byte, and two bytes for the lengths of each key and value.
    let two = |bytes: usize| {
        let half = "v".repeat(TAGS_BYTES_MAX / 2 - 3);
        make(vec![("a".to_string(), half.clone()), ("b".to_string(), half + &"v".repeat(bytes))])
    };
    assert!(two(0).is_ok());
    assert_eq!(two(1), Err(Error::TagsTooLong(TAGS_BYTES_MAX + 1)));
}

#[test]
fn the_longest_record_fits_a_packet_and_spreads() {
    let mut c = Cluster::new(26);
    let big = vec![("a".to_string(), "v".repeat(253)), ("b".to_string(), "w".repeat(253))];
    let big = Tags::new(big.into_iter().collect()).unwrap();
    for node in 1..=8 {
        let name = format!("{node}{}", "n".repeat(62));
        c.boot_named(node, &name, addr(node), vec![addr(1)], big.clone());
    }
    c.form(30 * S);
    let known = |c: &Cluster| c.agents.values().all(|a| a.core.members().all(|m| m.tags == big));
    let took = c.run_while_not(30 * S, "big records", known);
    println!("eight of the longest records known to all after {} ms; largest datagram {}", took / MS, c.largest);
    let wish = tags(&[("c", &"x".repeat(255)), ("d", &"y".repeat(251))]);
    c.run(60 * S);
    c.input(8, Input::SetTags(wish.clone()));
    let took = c.run_while_not(5 * S, "gossip", |c| c.agents.values().all(|a| a.core.member(8).unwrap().tags == wish));
    println!("one change known to all after {} ms", took / MS);
}

/// All that one node may say of itself reaches everybody, though no packet holds it.
#[test]
fn tags_of_64_kib_reach_everybody_over_streams() {
    for (n, loss) in [(3, 0), (10, 150), (50, 0)] {
        let mut c = Cluster::of(n, 27);
        c.form(30 * S);
        c.run(5 * S);
        c.loss_per_mille = loss;
        let wish = tags(&[("inventory", &"x".repeat(VALUE_BYTES_MAX)), ("zone", "a")]);
        c.input(2, Input::SetTags(wish.clone()));
        let all =
            |c: &Cluster, wish: &Tags| c.agents.values().all(|a| a.core.member(2).is_some_and(|m| m.tags == *wish));
        let took = c.run_while_not(60 * S, "large tags", |c| all(c, &wish));
        // A small change beside it travels alone.
        let (before, streamed) = (c.fetches(), c.stream_bytes);
        let wish = tags(&[("inventory", &"x".repeat(VALUE_BYTES_MAX)), ("zone", "b")]);
        c.input(2, Input::SetTags(wish.clone()));
        let small = c.run_while_not(60 * S, "a small change", |c| all(c, &wish));
        let (fetches, streamed) = (c.fetches() - before, c.stream_bytes - streamed);
        println!(
            "{n} agents, loss {loss}: 60 KiB known to all after {} ms, one key after {} ms",
            took / MS,
            small / MS
        );
        assert!(fetches <= n / 3 && streamed < 1 << 20, "{fetches} fetches, {streamed} bytes over streams");
        // Deletions too.
        let wish = tags(&[("zone", "b")]);
        c.input(2, Input::SetTags(wish.clone()));
        c.run_while_not(60 * S, "a deletion", |c| all(c, &wish));
        assert!(c.agents.values().all(|agent| agent.alarms.is_empty()));
    }
}

/// Whoever was away while keys came and went gets what is, and loses what is not; so does a newcomer that knows only one
/// holder, and not the member itself.
#[test]
fn who_was_away_and_who_is_new_learn_of_large_tags_from_any_holder() {
    let mut c = Cluster::of(5, 28);
    c.form(10 * S);
    let first = tags(&[("a", &"1".repeat(9_000)), ("b", &"2".repeat(9_000))]);
    c.input(2, Input::SetTags(first.clone()));
    let knows = |c: &Cluster, at: u64, wish: &Tags| c.agents[&at].core.member(2).is_some_and(|m| m.tags == *wish);
    c.run_while_not(30 * S, "all know", |c| (1..=5).all(|at| knows(c, at, &first)));
    c.cut(&[5], &[1, 2, 3, 4]);
    c.run(10 * S);
    let second = tags(&[("b", &"3".repeat(9_000))]);
    c.input(2, Input::SetTags(second.clone()));
    c.run_while_not(30 * S, "the others know", |c| (1..=4).all(|at| knows(c, at, &second)));
    c.heal_between(&[5], &[1, 3, 4]);
    c.start(6, vec![addr(1)]);
    c.cut(&[2], &[1, 3, 4, 5, 6]);
    c.run_while_not(60 * S, "from other holders", |c| [5, 6].iter().all(|at| knows(c, *at, &second)));
    c.heal();
    c.form(120 * S);
    assert!((1..=6).all(|at| knows(&c, at, &second)));
}

/// Tags stand through a restart of their node: the new life has the same, and nobody sees it without in between.
#[test]
fn a_restart_does_not_blank_large_tags() {
    let mut c = Cluster::of(4, 29);
    c.form(10 * S);
    let wish = tags(&[("zone", "a"), ("big", &"x".repeat(20_000))]);
    c.input(3, Input::SetTags(wish.clone()));
    let knows = |c: &Cluster, at: u64| c.agents[&at].core.member(3).is_some_and(|m| m.tags == wish);
    c.run_while_not(30 * S, "all know", |c| (1..=4).all(|at| knows(c, at)));
    c.crash(3);
    c.run_while_not(30 * S, "it failed", |c| c.all_see(3, State::Failed));
    c.boot(3, addr(3), vec![addr(1)], wish.clone());
    let start = c.now;
    while c.now - start < 20 * S {
        c.run(10 * MS);
        assert!([1, 2, 4].iter().all(|at| knows(&c, *at)), "blank after {} ms", (c.now - start) / MS);
    }
    c.form(10 * S);
}
