//! Joining: everybody learns of everybody through one seed.

use crate::cluster::*;

fn forms(n: u64, limit: u64) {
    for seed in 1..=5 {
        let mut c = Cluster::of(n, seed);
        let took = c.form(limit);
        println!("{n} agents, seed {seed}: whole after {} ms, {} datagrams", took / MS, c.datagrams);
        let joined = |at: u64| c.events(at).iter().filter(|e| e.starts_with("joined")).count() as u64;
        assert!((1..=n).all(|at| joined(at) == n - 1), "each joins once: {:?}", c.events(1));
        assert!(c.agents.values().all(|agent| agent.alarms.is_empty()), "{}", c.picture());
    }
}

#[test]
fn three_agents_find_each_other_through_one_seed() {
    forms(3, 3 * S);
}

#[test]
fn ten_agents_find_each_other_through_one_seed() {
    forms(10, 5 * S);
}

#[test]
fn fifty_agents_find_each_other_through_one_seed() {
    forms(50, 30 * S);
}

#[test]
fn datagrams_come_close_to_their_limit_and_never_pass_it() {
    // Every datagram that a test sends is held against the limit; here is proof that it is ever near.
    let mut c = Cluster::of(40, 9);
    c.form(30 * S);
    println!("largest datagram: {} bytes", c.largest);
    assert!(c.largest > 1100 && c.largest <= quorate_membership::PACKET_BYTES_MAX);
}
