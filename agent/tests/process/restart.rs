//! Agents come back: all at once, after crash loops, under new addresses.

use crate::cluster::Cluster;
use crate::history::{self, Load};
use std::process::Stdio;
use std::time::{Duration, Instant};

/// `kill -9` of all at once under load: they serve again by themselves and nothing acked is lost (behaviour 3).
#[test]
fn all_agents_are_killed_at_once() {
    let mut cluster = Cluster::of(3);
    let load = Load::on(&cluster, 4);
    load.wait_ack_after(Instant::now());
    for name in cluster.running() {
        cluster.signal(&name, "KILL");
    }
    for name in cluster.running() {
        cluster.ended(&name);
    }
    let started = Instant::now();
    for name in ["n1", "n2", "n3"] {
        cluster.restart(name, &[]);
    }
    println!("figure: all killed, first ack {:?} after the restart", load.wait_ack_after(started));
    cluster.wait_group(3, 0);
    let history = load.stop(&cluster);
    println!("figure: {:?}", history::verify(&cluster, &cluster.running(), &history));
}

/// An agent that is killed again and again while it starts is no worse for it.
#[test]
fn an_agent_crashes_while_it_starts() {
    let mut cluster = Cluster::of(3);
    let load = Load::on(&cluster, 3);
    let victim = cluster.other_than(&cluster.leader());
    cluster.kill(&victim);
    for i in 0..12 {
        let mut command = cluster.agent_command(&victim, "127.0.0.1:0", &[]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // Any moment is a good one; these differ.
        std::thread::sleep(Duration::from_millis(i * 7));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    cluster.restart(&victim, &[]);
    cluster.wait_group(3, 0);
    load.wait_ack_after(Instant::now());
    let history = load.stop(&cluster);
    history::verify(&cluster, &cluster.running(), &history);
}

/// Two of three are silent until the third one calls them failed and is alone; when they wake, all find each other again
/// with nobody's help (section Build, membership: reconnect after total isolation).
#[test]
fn an_isolated_agent_finds_the_others_again() {
    let cluster = Cluster::of(3);
    let seats = cluster.status("n1").unwrap().voters;
    cluster.pause("n2");
    cluster.pause("n3");
    cluster.wait_member("n1", "the others as failed", |all| all.iter().filter(|m| m.state == "failed").count() == 2);
    let status = cluster.wait_status("n1", "what is wrong", |s| s.leader.is_none());
    let said = status.problems.join("; ");
    assert!(said.contains("n2") && said.contains("n3") && said.contains("quorum"), "{said}");
    assert_eq!(status.voters, seats, "nobody loses a seat for being silent");
    let woken = Instant::now();
    cluster.signal("n2", "CONT");
    cluster.signal("n3", "CONT");
    cluster.wait_group(3, 0);
    for name in ["n1", "n2", "n3"] {
        cluster.wait_member(name, "everybody as alive", |all| all.len() == 3 && all.iter().all(|m| m.state == "alive"));
    }
    println!("figure: all of one mind {:?} after they woke", woken.elapsed());
    assert_eq!(cluster.ask("n3", &["append", "x"]).ok(), "0\n");
    cluster.wait_status("n1", "health", |s| s.healthy);
}

/// One agent returns under a new address, then all at once do: accepted with their data, and nobody's seat changes
/// (behaviour 7).
#[test]
fn addresses_change() {
    let mut cluster = Cluster::of(3);
    assert_eq!(cluster.ask("n1", &["append", "before"]).ok(), "0\n");
    let seats = |cluster: &Cluster, at: &str| {
        let status = cluster.status(at).unwrap();
        let mut ids: Vec<_> = cluster.members(at).unwrap().into_iter().map(|m| (m.name, m.id)).collect();
        ids.sort();
        (status.log_id, status.voters, status.learners, ids)
    };
    let before = seats(&cluster, "n1");
    let changes = |cluster: &Cluster| {
        let logs = ["n1", "n2", "n3"].map(|name| cluster.log(name));
        logs.iter()
            .flat_map(|log| log.lines())
            .filter(|line| line.contains("as learner") || line.contains("voters"))
            .count()
    };
    let changed = changes(&cluster);

    let former = cluster.addr("n3");
    cluster.stop("n3");
    // Without a join address: it knows the others from before.
    cluster.start("n3", &[]);
    assert_ne!(cluster.addr("n3"), former);
    let new = cluster.addr("n3").to_string();
    cluster.wait_group(3, 0);
    for name in ["n1", "n2", "n3"] {
        cluster.wait_member(name, "n3 alive at its new address", |all| {
            all.len() == 3 && all.iter().any(|m| m.name == "n3" && m.addr == new && m.state == "alive")
        });
    }
    assert_eq!(seats(&cluster, "n1"), before);

    for name in ["n1", "n2", "n3"] {
        cluster.kill(name);
    }
    cluster.start("n2", &[]);
    let seed = cluster.addr("n2").to_string();
    cluster.start("n1", &["--join", &seed]);
    cluster.start("n3", &["--join", &seed]);
    cluster.wait_group(3, 0);
    for name in ["n1", "n2", "n3"] {
        let at = ["n1", "n2", "n3"].map(|name| cluster.addr(name).to_string());
        cluster.wait_member(name, "all at their new addresses", |all| {
            all.len() == 3 && all.iter().all(|m| m.state == "alive" && at.contains(&m.addr))
        });
        assert_eq!(seats(&cluster, name), before);
    }
    assert_eq!(changes(&cluster), changed, "no configuration change was needed");
    assert_eq!(cluster.ask("n3", &["append", "after"]).ok(), "1\n");
    assert_eq!(history::read(&cluster, "n1").1, ["before", "after"]);
}
