//! Operators at work on real agents: a rolling restart that nobody notices, and every refusal as a new user meets it.

use crate::cluster::{Cluster, wait_until};
use crate::history::{self, Load};
use quorate::client::{ReadLevel, TailFrom};
use quorate_certs::Role;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// A reader that follows the log from its beginning: no gap, no duplicate, no error. How far it is.
struct Follower {
    next: Arc<AtomicU64>,
    reader: JoinHandle<()>,
}

impl Follower {
    fn at(cluster: &Cluster, name: &str) -> Self {
        let next = Arc::new(AtomicU64::new(0));
        let mut tail =
            cluster.client(name).tail(TailFrom { follow: true, read: ReadLevel::Committed, ..TailFrom::default() });
        let seen = Arc::clone(&next);
        let reader = cluster.spawn_task(async move {
            while let Some(item) = tail.next().await {
                let item = item.expect("a tail goes on elsewhere at the same offset");
                assert_eq!(item.offset, seen.load(Ordering::Relaxed), "neither a gap nor a duplicate");
                seen.store(item.offset + 1, Ordering::Relaxed);
            }
        });
        Self { next, reader }
    }
}

/// The recipe of the README: drain, stop, start, undo, the next one. With the leader among them, appends and tails
/// through every agent: no request fails, nothing is lost or doubled, and every tail sees all of it.
#[test]
fn a_rolling_restart_with_drain_loses_no_request() {
    let mut cluster = Cluster::of(3);
    let load = Load::on(&cluster, 6);
    let followers: Vec<_> = cluster.running().iter().map(|name| Follower::at(&cluster, name)).collect();
    let mut slowest = Duration::ZERO;
    let (names, before) = (["n1", "n2", "n3"], cluster.status("n1").unwrap().term);
    for name in names {
        load.wait_ack_after(Instant::now());
        // Refused as long as the one before has not caught up: then it is asked again.
        let drained = wait_until("it may be drained", || {
            let said = cluster.ask(name, &["drain", name, "--format", "json"]);
            assert!([0, 10].contains(&said.code), "{} {}", said.out, said.err);
            (said.code == 0).then(|| said.json())
        });
        assert_eq!(
            (&drained["draining"], &drained["raft"], &drained["tolerates"]),
            (&json!(true), &json!("voter"), &json!(0))
        );
        slowest = slowest.max(Duration::from_millis(drained["ms"].as_u64().unwrap()));
        assert_ne!(cluster.leader(), name);
        let other = cluster.other_than(name);
        cluster.wait_member(&other, "it as draining", |all| all.iter().any(|m| m.name == name && m.draining));
        cluster.stop(name);
        cluster.restart(name, &[]);
        cluster.wait_status(name, "it is still drained", |s| s.draining == [name] && s.leader.is_some());
        assert!(cluster.ask(name, &["drain", "--undo", name]).ok().starts_with(&format!("{name} serves again; ")));
    }
    load.wait_ack_after(Instant::now());
    let history = load.stop(&cluster);
    for attempt in history.iter().filter(|attempt| !attempt.is_acked()) {
        println!("failed after {:?}: {:?}", attempt.took(), attempt.error);
    }
    let summary = history::verify(&cluster, &cluster.running(), &history);
    println!("figure: {summary:?}, the slowest drain took {slowest:?}");
    assert_eq!(summary.not_applied, 0, "no request fails");
    // A machine with ten times as much to do as it has processors elects leaders that nobody meant: of what was sent to one that
    // gets no processor for longer than its successor waits, nobody knows. Where every new term was a handover, all is known.
    let handovers: usize = names.iter().map(|n| cluster.log(n).matches("handing leadership over to").count()).sum();
    let terms = cluster.status("n1").unwrap().term - before;
    println!("figure: {terms} new terms, {handovers} handovers");
    assert!(summary.unknown == 0 || terms > handovers as u64, "no request fails");
    let end = cluster.status("n1").unwrap().next;
    for follower in followers {
        wait_until("every tail sees all of it", || {
            assert!(!follower.reader.is_finished(), "a tail failed");
            (follower.next.load(Ordering::Relaxed) >= end).then_some(())
        });
        follower.reader.abort();
    }
}

/// As a new user would: wrong names, what is not safe, what is shown; text and JSON; and a removed agent that is told.
#[test]
fn operators_are_told_what_is_safe() {
    let mut cluster = Cluster::of(4);
    let leader = cluster.leader();
    let learner = cluster.status(&leader).unwrap().learners[0].clone();
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();

    // Names.
    let said = cluster.ask(&learner, &["drain", "n33"]);
    assert!(said.one_error(8).contains("no agent n33 is known; did you mean n3?"), "{}", said.err);
    let said = cluster.ask(&learner, &["remove", "paris"]);
    assert!(said.one_error(8).contains("no agent paris is known; list all with `quorate members`"), "{}", said.err);
    let error = cluster.ask("n1", &["promote", "paris", "--format", "json"]).json_error(8);
    assert_eq!((&error["code"], &error["outcome"]), (&json!("not_found"), &json!("not_applied")));
    assert_eq!(cluster.ask("n1", &["demote", "N/3"]).code, 2);
    assert_eq!(cluster.ask("n1", &["promote", "n1", "--undo", "--allow-even"]).code, 2);
    let reader = cluster.client_certs("ro", Role::Append);
    assert!(cluster.ask_as("n1", &reader, &["drain", "n2"]).one_error(4).contains("admin"));

    // Seats.
    let said = cluster.ask("n1", &["promote", &learner]);
    assert!(said.one_error(10).contains("4 voters bear no more failures than 3"), "{}", said.err);
    let seat = cluster.ask("n1", &["promote", &learner, "--allow-even", "--format", "json"]).json();
    assert_eq!(keys(&seat), ["changed", "heir", "ms", "name", "pinned", "raft", "tolerates", "v", "voters"]);
    assert_eq!((&seat["raft"], &seat["pinned"], &seat["tolerates"]), (&json!("voter"), &json!("voter"), &json!(1)));
    let said = cluster.ask("n2", &["demote", &learner]);
    assert!(said.ok().starts_with(&format!("{learner} is learner now; 3 voters, ")), "{}", said.out);
    assert!(said.err.contains(&format!("`quorate demote --undo {learner}`")), "{}", said.err);
    assert!(cluster.ask("n2", &["demote", &learner]).ok().starts_with(&format!("{learner} is learner already; ")));
    let members = cluster.ask(&leader, &["members", &learner, "--format", "json"]).json();
    assert_eq!(members["members"][0]["pinned"], "learner");
    assert!(cluster.ask("n3", &["demote", "--undo", &learner]).ok().starts_with("the autopilot decides now"));

    // Draining: the learner takes the seat, and clients that know only the drained agent are served all the same.
    let voter = cluster.status("n1").unwrap().voters.into_iter().find(|v| *v != cluster.leader()).unwrap();
    let said = cluster.ask(&voter, &["drain", &voter]);
    let text = format!(
        "the cluster tolerates 1 failure now: `quorate drain --undo {voter}` when it is back\n{learner} votes in its place\n"
    );
    assert!(said.ok().starts_with(&format!("{voter} drained in ")) && said.out.ends_with(&text), "{}", said.out);
    assert!(cluster.ask(&voter, &["drain", &voter]).ok().starts_with(&format!("{voter} is drained already; ")));
    cluster.ask(&voter, &["append", "through a drained agent"]).ok();
    assert!(cluster.ask(&voter, &["tail"]).ok().contains("through a drained agent"));
    assert!(
        cluster.ask("n1", &["members"]).ok().lines().any(|l| l.starts_with(&voter) && l.contains(" learner,draining "))
    );
    assert!(cluster.ask("n1", &["status"]).ok().contains(&format!("draining  {voter}\n")));
    cluster.ask("n1", &["members", "--wait", &format!("{voter}=draining")]).ok();
    let refused = cluster.ask("n1", &["transfer", &voter]);
    assert_eq!(refused.code, 10, "{}", refused.err);
    let undone = cluster.ask("n1", &["drain", &voter, "--undo", "--format", "json"]).json();
    assert_eq!(keys(&undone), ["changed", "draining", "heir", "ms", "name", "raft", "tolerates", "v", "voters"]);
    assert_eq!((&undone["draining"], &undone["changed"]), (&json!(false), &json!(true)));

    // Removal: of a voter for the spare, then down to what would break.
    let said = cluster.ask("n1", &["remove", &learner, "--replace-with", &learner]);
    assert!(said.one_error(10).contains("cannot replace itself"), "{}", said.err);
    let removed = cluster.ask(&voter, &["remove", &learner, "--replace-with", &voter, "--format", "json"]).json();
    let expected =
        ["certificate_revoked", "changed", "heir", "ms", "name", "node", "removed", "tolerates", "v", "voters"];
    assert_eq!(keys(&removed), expected);
    assert_eq!((&removed["heir"], &removed["changed"]), (&json!(voter), &json!(true)));
    cluster.wait_status(&learner, "it was removed", |s| {
        s.problems.len() == 1 && s.problems[0].contains("an operator has removed this agent") && !s.healthy
    });
    assert!(cluster.ask(&learner, &["status"]).ok().contains("with a fresh data directory"));
    assert!(cluster.ask("n1", &["remove", &learner]).ok().starts_with(&format!("{learner} is removed already")));
    // Its old disk is turned away; with a fresh one it joins again under the same name.
    cluster.stop(&learner);
    std::fs::remove_dir_all(cluster.data(&learner)).unwrap();
    let seed = cluster.addr(&voter).to_string();
    cluster.start(&learner, &["--join", &seed]);
    cluster.wait_group(3, 1);

    // Without a quorum nothing is begun, and it is said so.
    let mut voters = cluster.status("n1").unwrap().voters;
    let stays = voters.pop().unwrap();
    for name in &voters {
        cluster.kill(name);
    }
    cluster.wait_status(&stays, "nobody leads", |s| s.leader.is_none());
    // An agent that is late with its answer, since the machine has much else to do, leaves the outcome open: asked again.
    let asked = |args: &[&str]| {
        wait_until("it is known that nothing was done", || {
            let said = cluster.ask(&stays, args);
            assert!([6, 7].contains(&said.code), "{} {}", said.code, said.err);
            (said.code == 6).then_some(said)
        })
    };
    let said = asked(&["drain", &stays, "--timeout", "2s"]);
    // What took so long is told before the error.
    assert!(said.err.ends_with("; retry when `quorate status` shows a leader\n"), "{}", said.err);
    assert!(said.err.contains("error: no leader: no quorum"), "{}", said.err);
    let error = asked(&["remove", &voters[0], "--timeout", "2s", "--format", "json"]).json_error(6);
    assert_eq!((&error["code"], &error["outcome"]), (&json!("no_quorum"), &json!("not_applied")));
}

/// A replacement that does not catch up in time: nothing is changed, and the command says what it waited for (124). What
/// would stop the cluster is refused with what would be safe.
#[test]
fn what_is_not_safe_is_refused_with_what_would_be() {
    let mut cluster = Cluster::of(3);
    let leader = cluster.leader();
    let others: Vec<String> = cluster.running().into_iter().filter(|name| *name != leader).collect();
    let (b, c) = (&others[0], &others[1]);
    cluster.kill(b);
    // At once: nobody is counted that has not answered since.
    let said = cluster.ask(&leader, &["remove", c]);
    let expected = format!("bring {b} back, or remove {b} first");
    assert!(said.code == 10 && said.err.contains(&expected), "{} {}", said.code, said.err);
    let said = cluster.ask(c, &["drain", c]);
    assert!(said.one_error(10).contains(&format!("the cluster would stop with {c}")), "{}", said.err);
    let said = cluster.ask(c, &["demote", c]);
    assert!(said.one_error(10).contains("--allow-even"), "{}", said.err);
    assert!(cluster.ask(c, &["remove", b]).ok().starts_with(&format!("{b} removed in ")));
    cluster.wait_group(2, 0);
    assert!(cluster.ask(&leader, &["remove", &leader]).ok().contains("tolerates 0 failures now"));
    let said = cluster.ask(c, &["remove", c]);
    assert!(said.one_error(10).contains(&format!("{c} is the last voter")), "{}", said.err);
    cluster.ask(c, &["append", "still here"]).ok();
}
