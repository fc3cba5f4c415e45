//! Leadership changes hands on purpose, and whoever appends meanwhile sees a pause, not an error.

use crate::cluster::{Cluster, wait_until};
use crate::history::{self, Load, longest_silence};
use quorate_certs::Role;
use std::time::Instant;

/// `quorate transfer` through any agent, with and without a name, under load: the named one leads, nothing fails, and
/// what it says is what the contract says.
#[test]
fn leadership_is_transferred_under_load() {
    let cluster = Cluster::of(4);
    let load = Load::on(&cluster, 4);
    let learner = cluster.status("n1").unwrap().learners[0].clone();
    let mut gaps = vec![];
    for round in 0..4 {
        let leader = cluster.leader();
        let voters = cluster.status("n1").unwrap().voters;
        let heir = voters.into_iter().find(|name| *name != leader).unwrap();
        let through = ["n1", "n2", "n3", "n4"][round];
        load.wait_ack_after(Instant::now());
        let asked = Instant::now();
        if round % 2 == 0 {
            let said = cluster.ask(through, &["transfer", &heir, "--format", "json"]).json();
            assert_eq!((&said["v"], &said["from"], &said["to"]), (&1.into(), &leader.into(), &heir.clone().into()));
            assert!(said["ms"].as_u64().is_some(), "{said}");
            cluster.wait_status(through, "the heir leads", |s| s.leader.as_ref() == Some(&heir));
        } else {
            let said = cluster.ask(through, &["transfer"]);
            let new =
                cluster.wait_status(through, "another leader", |s| s.leader.as_ref().is_some_and(|l| *l != leader));
            let new = new.leader.unwrap();
            assert!(said.ok().starts_with(&format!("{new} leads  (")) && said.ok().ends_with(" ms)\n"), "{}", said.out);
        }
        gaps.push(load.wait_ack_after(asked));
    }
    let leader = cluster.leader();
    assert_eq!(cluster.ask("n1", &["transfer", &leader]).ok(), format!("{leader} leads already\n"));
    let same = cluster.ask("n2", &["transfer", &leader, "--format", "json"]).json();
    assert_eq!((&same["from"], &same["to"], &same["ms"]), (&leader.clone().into(), &leader.into(), &0.into()));
    let refused = cluster.ask("n2", &["transfer", &learner]);
    assert!(refused.one_error(10).contains("learner"), "{}", refused.err);
    let unknown = cluster.ask("n2", &["transfer", "nobody"]);
    assert!(unknown.one_error(8).contains("nobody"), "{}", unknown.err);
    let weak = cluster.client_certs("writer", Role::Append);
    cluster.ask_as("n1", &weak, &["transfer"]).one_error(4);

    let history = load.stop(&cluster);
    let summary = history::verify(&cluster, &cluster.running(), &history);
    println!("figure: transfers, first ack after asking {gaps:?}, {summary:?}");
    assert_eq!((summary.not_applied, summary.unknown), (0, 0), "{summary:?}");
}

/// Nobody to hand over to: refused, with the reason, and the leader leads on; without a leader 6.
#[test]
fn a_transfer_that_cannot_be_is_refused() {
    let mut cluster = Cluster::of(3);
    let leader = cluster.leader();
    let others: Vec<_> = cluster.running().into_iter().filter(|name| *name != leader).collect();
    cluster.kill(&others[0]);
    let dead = others[0].clone();
    wait_until("its death is noticed", || {
        let said = cluster.ask(&leader, &["transfer", &dead, "--timeout", "3s"]);
        match said.code {
            10 => Some(said),
            7 => None,
            other => panic!("exit {other}: {}", said.err),
        }
    });
    let leader = cluster.leader();
    let other = cluster.other_than(&leader);
    assert_eq!(cluster.ask(&leader, &["append", "still served"]).code, 0);
    cluster.kill(&other);
    cluster.wait_status(&leader, "no leader", |s| s.leader.is_none());
    let nobody = cluster.ask(&leader, &["transfer", "--timeout", "1s"]);
    assert!(nobody.one_error(6).contains("leader"), "{}", nobody.err);
}

/// SIGTERM of the leader under load, again and again: it hands over and says so, nothing is lost, nobody is left without
/// an answer; the pause is printed.
#[test]
fn a_leader_that_is_told_to_stop_hands_over() {
    let mut cluster = Cluster::of(3);
    let load = Load::on(&cluster, 6);
    let mut stops = vec![];
    for _ in 0..3 {
        let leader = cluster.leader();
        load.wait_ack_after(Instant::now());
        let told = Instant::now();
        cluster.stop(&leader);
        let took = told.elapsed();
        load.wait_ack_after(Instant::now());
        stops.push((told, took));
        cluster.wait_log(&leader, &["handing leadership over to", "this agent stops"]);
        cluster.wait_log(&leader, &["leads,", "after this agent began to hand over"]);
        cluster.restart(&leader, &[]);
        cluster.wait_group(3, 0);
        let other = cluster.other_than(&leader);
        cluster.wait_member(&other, "everybody as alive", |all| all.iter().all(|m| m.state == "alive"));
    }
    let history = load.stop(&cluster);
    let gaps: Vec<_> = stops.iter().map(|(told, took)| longest_silence(&history, *told, *told + *took)).collect();
    let took: Vec<_> = stops.iter().map(|(_, took)| *took).collect();
    let summary = history::verify(&cluster, &cluster.running(), &history);
    println!(
        "figure: SIGTERM of the leader: longest time without an ack {gaps:?}, stopped after {took:?}, {summary:?}"
    );
    assert_eq!(summary.not_applied, 0, "{summary:?}");
    assert_eq!(summary.unknown, 0, "{summary:?}");
}
