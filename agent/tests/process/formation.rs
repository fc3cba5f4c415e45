//! How agents come together: founding, joining, growing, and who stays outside.

use crate::cluster::{Cluster, PATIENCE, wait_until};
use crate::history::{self, Attempt};
use crate::said::Said;
use bytes::Bytes;
use quorate::client::TailFrom;
use quorate_certs::Role;
use std::collections::BTreeSet;
use std::net::UdpSocket;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// Three agents are three voters with a first ack; the fourth learns, the fifth makes five voters, the eighth is
/// outside Raft; every one of the eight forwards appends and serves tails (behaviour 1).
#[test]
fn eight_agents_come_one_after_another() {
    let mut cluster = Cluster::new();
    let started = Instant::now();
    cluster.start("n1", &["--bootstrap"]);
    let seed = cluster.addr("n1").to_string();
    cluster.start("n2", &["--join", &seed]);
    cluster.start("n3", &["--join", &seed]);
    cluster.wait_group(3, 0);
    let voters = started.elapsed();
    let first = cluster.ask("n3", &["append", "first", "--timeout", "50s"]);
    assert_eq!(first.ok(), "0\n");
    println!("figure: three voters after {voters:?}, first ack after {:?}", started.elapsed());
    assert!(started.elapsed() < Duration::from_secs(50), "ten times the figure of the contract");

    // Joining through any member is as good as through the founder.
    let through = cluster.addr("n3").to_string();
    cluster.start("n4", &["--join", &through]);
    cluster.wait_group(3, 1);
    cluster.wait_member("n1", "n4 as learner", |all| all.iter().any(|m| m.name == "n4" && m.raft == "learner"));
    cluster.start("n5", &["--join", &seed]);
    cluster.wait_group(5, 0);
    cluster.start("n6", &["--join", &seed]);
    cluster.start("n7", &["--join", &through]);
    cluster.wait_group(5, 2);
    cluster.start("n8", &["--join", &seed]);
    cluster.wait_group(5, 2);
    let members =
        cluster.wait_member("n8", "eight alive", |all| all.len() == 8 && all.iter().all(|m| m.state == "alive"));
    let raft = |word: &str| members.iter().filter(|m| m.raft == word).count();
    assert_eq!((raft("leader"), raft("voter"), raft("learner"), raft("none")), (1, 4, 2, 1), "{members:?}");
    assert_eq!(members.iter().find(|m| m.raft == "none").unwrap().name, "n8");

    let mut attempts = vec![];
    for name in cluster.running() {
        let client = cluster.pinned(&name);
        let value = format!("through {name}");
        let attempt = cluster.block_on(Attempt::make(&client, vec![value], Duration::from_secs(50)));
        assert!(attempt.is_acked(), "{attempt:?}");
        attempts.push(attempt);
    }
    let summary = history::verify(&cluster, &cluster.running(), &attempts);
    assert_eq!((summary.acked, summary.records), (8, 9));
    // The one without a log serves the command line too, and follows, also when the replica it reads from dies.
    let tail = cluster.ask("n8", &["tail", "-f", "-n", "9", "--timeout", "50s"]);
    assert_eq!(tail.ok().lines().count(), 9);
    assert!(tail.out.starts_with("0  ") && tail.out.contains("  first\n"), "{}", tail.out);
    let following = follow(&cluster, "n8", 11);
    let large = vec![b'x'; 1 << 20];
    let certs = cluster.client_certs("admin", Role::Admin);
    let said = Said::to(&mut cluster.ask_command("n8", &certs, &["append", "-", "--timeout", "50s"]), &large);
    assert_eq!(said.ok(), "9\n", "the largest record, by way of an agent that has to forward it");
    let leader = cluster.leader();
    let killed = Instant::now();
    cluster.kill(&leader);
    wait_until("an append through n8 is acked again", || {
        (cluster.ask("n8", &["append", "late", "--timeout", "50s"]).code == 0).then_some(())
    });
    let acked = killed.elapsed();
    let followed = cluster.block_on(following).unwrap();
    println!("figure: through an agent outside Raft, ack {acked:?} and tail {:?} after the kill", killed.elapsed());
    assert_eq!(followed.iter().map(|(offset, _)| *offset).collect::<Vec<_>>(), (0..11).collect::<Vec<_>>());
    assert!(followed[9].1 == large && followed[10].1 == b"late"[..]);
    cluster.restart(&leader, &[]);
    cluster.wait_group(5, 2);

    // A seat is free when a learner leaves; who comes back without a seat can leave without one.
    let learner = cluster.status("n8").unwrap().learners[0].clone();
    assert_eq!(cluster.ask(&learner, &["leave", "--timeout", "50s"]).ok(), "left\n");
    assert_eq!(cluster.ended(&learner), 0);
    cluster.wait_status("n8", "itself as a learner", |s| s.raft == "learner");
    cluster.wait_group(5, 2);
    cluster.restart(&learner, &["--join", &seed]);
    cluster.wait_status(&learner, "a leader and no seat", |s| s.raft == "none" && s.leader.is_some());
    assert_eq!(cluster.ask(&learner, &["leave", "--timeout", "50s"]).ok(), "left\n");
    assert_eq!(cluster.ended(&learner), 0);
}

/// The first `n` records as a reader that follows gets them from this agent alone.
fn follow(cluster: &Cluster, name: &str, n: usize) -> JoinHandle<Vec<(u64, Bytes)>> {
    let client = cluster.pinned_for(name, PATIENCE);
    cluster.spawn_task(async move {
        let mut tail = client.tail(TailFrom { follow: true, ..TailFrom::default() });
        let mut seen = vec![];
        while seen.len() < n {
            let item = tail.next().await.unwrap().unwrap();
            seen.push((item.offset, item.stored.record.value));
        }
        seen
    })
}

/// Every agent is given the same list of all of them, itself included; one of them founds (section Build, formation).
#[test]
fn every_agent_has_the_same_seeds() {
    let mut cluster = Cluster::new();
    let sockets = ["n1", "n2", "n3"].map(|name| (name, UdpSocket::bind("127.0.0.1:0").unwrap()));
    let addrs = sockets.iter().map(|(_, socket)| socket.local_addr().unwrap().to_string()).collect::<Vec<_>>();
    let seeds = addrs.join(",");
    for (name, socket) in sockets {
        let addr = socket.local_addr().unwrap().to_string();
        drop(socket);
        let founds = if name == "n2" { &["--bootstrap"][..] } else { &[] };
        // Somebody else may have been given the port meanwhile, for a moment.
        let begun = std::time::Instant::now();
        loop {
            let command = cluster.agent_command(name, &addr, &[&["--join", &seeds][..], founds].concat());
            match cluster.spawn(name, command) {
                Ok(_) => break,
                Err(code) => assert!(code == 78 && begun.elapsed() < PATIENCE, "{name} does not start: {code}"),
            }
        }
    }
    cluster.wait_group(3, 0);
    // With the same command lines they come back, all at once.
    for name in ["n1", "n2", "n3"] {
        cluster.kill(name);
    }
    for name in ["n1", "n2", "n3"] {
        cluster.restart(name, &["--join", &seeds, "--bootstrap"]);
    }
    cluster.wait_group(3, 0);
    let logs: BTreeSet<_> = cluster.running().iter().map(|name| cluster.status(name).unwrap().log_id).collect();
    assert_eq!(logs.len(), 1);
}

/// A founder with join addresses looks for members for three seconds first; if one answers it joins, else it founds
/// (section Build, formation).
#[test]
fn a_founder_with_seeds_looks_before_it_founds() {
    let mut cluster = Cluster::new();
    // Nobody listens there: the discard port.
    let started = Instant::now();
    cluster.start("n1", &["--bootstrap", "--join", "127.0.0.1:9"]);
    cluster.wait_log("n1", &["founded log"]);
    assert!(started.elapsed() >= Duration::from_secs(3), "it founded after {:?}", started.elapsed());
    let log_id = cluster.wait_status("n1", "its log", |s| s.log_id.is_some()).log_id;

    let seed = cluster.addr("n1").to_string();
    cluster.start("n2", &["--bootstrap", "--join", &seed]);
    let status = cluster.wait_status("n2", "a log", |s| s.log_id.is_some());
    assert_eq!(status.log_id, log_id, "it joined instead of founding");
    assert!(!cluster.log("n2").contains("founded log"));

    // On a directory that holds a log --bootstrap means nothing, with or without anybody at the seeds.
    cluster.kill("n1");
    cluster.kill("n2");
    cluster.restart("n1", &["--bootstrap"]);
    let status = cluster.wait_status("n1", "itself as the leader", |s| s.leader.as_deref() == Some("n1"));
    assert_eq!(status.log_id, log_id);
}

/// An agent that only joins never founds; it retries for ever and says per seed why, and each reason is the true one
/// (section Build, formation).
#[test]
fn a_joiner_waits_and_says_why_per_seed() {
    let mut cluster = Cluster::new();
    let mut stranger = Cluster::new();
    stranger.start("s1", &["--bootstrap"]);
    let foreign = stranger.addr("s1").to_string();
    let seeds = format!("127.0.0.1:9,{foreign},no-such-host.invalid:7373");
    // The name may mean another machine, which a loopback address would lock out: it listens everywhere.
    let command = cluster.agent_command("n1", "[::]:0", &["--join", &seeds]);
    cluster.spawn("n1", command).unwrap();
    cluster.wait_log("n1", &["join address 127.0.0.1:9", "no answer over UDP"]);
    cluster.wait_log("n1", &[&format!("join address {foreign}"), "authority"]);
    cluster.wait_log("n1", &["join address no-such-host.invalid:7373", "does not resolve"]);
    let status = cluster.wait_status("n1", "its problem", |s| !s.problems.is_empty());
    assert_eq!((status.log_id, status.leader, status.healthy), (None, None, false));
    assert!(status.problems.iter().any(|p| p.contains("127.0.0.1:9")), "{:?}", status.problems);
    // An append there waits for its whole time, and says that it was not applied.
    let mut tries = 0..;
    wait_until("an append is surely not applied", || {
        let said = cluster.ask("n1", &["append", &format!("x{:?}", tries.next()), "--timeout", "2s"]);
        assert!([6, 7].contains(&said.code), "exit {}: {}", said.code, said.err);
        (said.code == 6).then_some(())
    });

    // The founder comes late, at an address that was not known to be good before.
    cluster.start("n2", &["--bootstrap", "--join", &cluster.addr("n1").to_string()]);
    wait_until("both are of one log", || {
        let (a, b) = (cluster.status("n1").ok()?.log_id, cluster.status("n2").ok()?.log_id);
        (a.is_some() && a == b).then_some(())
    });
    assert!(!cluster.log("n1").contains("founded log"));
}

/// Two foundings under one authority are two histories: the agents know of each other, both say so, and nothing of one
/// reaches the other (architecture, section 6).
#[test]
fn two_histories_are_named_and_never_mixed() {
    let mut cluster = Cluster::new();
    cluster.start("n1", &["--bootstrap"]);
    cluster.start("m1", &["--bootstrap"]);
    for name in ["n1", "m1"] {
        cluster.wait_status(name, "itself as the leader", |s| s.leader.as_deref() == Some(name));
        assert_eq!(cluster.ask(name, &["append", &format!("of {name}")]).ok(), "0\n");
    }
    let log = |cluster: &Cluster, name: &str| cluster.status(name).unwrap().log_id.unwrap();
    let logs = [log(&cluster, "n1"), log(&cluster, "m1")];
    assert_ne!(logs[0], logs[1]);
    cluster.stop("m1");
    cluster.restart("m1", &["--bootstrap", "--join", &cluster.addr("n1").to_string()]);
    for (name, other, theirs) in [("n1", "m1", &logs[1]), ("m1", "n1", &logs[0])] {
        cluster.wait_status(name, "the other history as a problem", |s| {
            s.problems.iter().any(|problem| problem.contains(other) && problem.contains(theirs.as_str()))
        });
        cluster.wait_member(name, "both as alive", |all| all.len() == 2 && all.iter().all(|m| m.state == "alive"));
        let status = cluster.status(name).unwrap();
        assert_eq!((status.voters, status.learners.len()), (vec![name.to_owned()], 0));
        assert_eq!(history::read(&cluster, name).1, [format!("of {name}")]);
    }
    assert_eq!([log(&cluster, "n1"), log(&cluster, "m1")], logs);
}

/// Agents that listen on both families meet over either; the address that others are told is the one that a seed saw
/// ("The first hour of a user").
#[test]
fn agents_meet_over_ipv6_and_ipv4() {
    if UdpSocket::bind("[::1]:0").is_err() {
        println!("skipped: this machine has no IPv6 loopback");
        return;
    }
    let mut cluster = Cluster::new();
    let spawn = |cluster: &mut Cluster, name: &str, args: &[&str]| {
        let command = cluster.agent_command(name, "[::]:0", args);
        cluster.spawn(name, command).unwrap();
    };
    spawn(&mut cluster, "n1", &["--bootstrap"]);
    let port = cluster.addr("n1").port();
    spawn(&mut cluster, "n2", &["--join", &format!("[::1]:{port}")]);
    spawn(&mut cluster, "n3", &["--join", &format!("127.0.0.1:{port}")]);
    spawn(&mut cluster, "n4", &["--join", &format!("localhost:{port}")]);
    cluster.wait_group(3, 1);
    let members =
        cluster.wait_member("n1", "four alive", |all| all.len() == 4 && all.iter().all(|m| m.state == "alive"));
    let addr = |name: &str| members.iter().find(|m| m.name == name).unwrap().addr.clone();
    assert_eq!(addr("n2"), format!("[::1]:{}", cluster.addr("n2").port()));
    assert_eq!(addr("n3"), format!("127.0.0.1:{}", cluster.addr("n3").port()));
    assert_eq!(cluster.ask("n3", &["append", "x"]).ok(), "0\n");
}
