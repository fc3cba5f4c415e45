//! Tags and addresses: what a node says of itself reaches everybody.

use crate::cluster::*;
use quorate_membership::{Error, Event, Input, TAGS_BYTES_MAX, Tags};
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
    assert!(one(&"k".repeat(64), &"v".repeat(255)).is_ok());
    assert_eq!(one(&"k".repeat(65), ""), Err(Error::TagKey("k".repeat(65))));
    assert_eq!(one("k", &"v".repeat(256)), Err(Error::TagValue("k".to_string())));
    assert_eq!(one("", "v"), Err(Error::TagKey(String::new())));
    assert_eq!(one("a b", "v"), Err(Error::TagKey("a b".to_string())));
    assert_eq!(one("k", "\u{1b}[2J"), Err(Error::TagValue("k".to_string())), "no terminal escapes");
    assert!(make((0..32).map(|i| (format!("{i}"), String::new())).collect()).is_ok());
    assert_eq!(make((0..33).map(|i| (format!("{i}"), String::new())).collect()), Err(Error::TooManyTags(33)));
    let two = |bytes: usize| vec![("a".to_string(), "v".repeat(250)), ("b".to_string(), "v".repeat(bytes - 256))];
    assert!(make(two(TAGS_BYTES_MAX - 1)).is_ok());
    let exact = vec![("a".to_string(), "v".repeat(253)), ("b".to_string(), "v".repeat(253))];
    assert!(make(exact).is_ok());
    let more = vec![("a".to_string(), "v".repeat(253)), ("b".to_string(), "v".repeat(254))];
    assert_eq!(make(more), Err(Error::TagsTooLong(513)));
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
