//! Agents leave for good, and only when they are told to.

use crate::cluster::{Cluster, wait_until};
use crate::history::{self, Load};
use crate::said::Said;
use std::time::Instant;

/// Under load: SIGTERM removes nobody; the leader leaves, 3 to 2; the next leader leaves, 2 to 1; one of them comes
/// back as a new node with the same data directory and learns; the sole voter hands it the seat and leaves; the last
/// agent refuses (behaviour 6).
#[test]
fn three_agents_leave_until_the_last_refuses() {
    let mut cluster = Cluster::of(3);
    let load = Load::on(&cluster, 3);

    cluster.stop("n3");
    cluster.wait_member("n1", "n3 not alive and still a voter", |all| {
        all.iter().any(|m| m.name == "n3" && m.state != "alive" && m.state != "left" && m.raft == "voter")
    });
    assert_eq!(cluster.status("n1").unwrap().voters, ["n1", "n2", "n3"]);
    cluster.restart("n3", &[]);
    cluster.wait_group(3, 0);

    let first = leave_of_the_leader(&mut cluster, &load);
    cluster.wait_group(2, 0);
    let witness = cluster.running()[0].clone();
    cluster.wait_member(&witness, "the leaver as left", |all| {
        all.iter().any(|m| m.name == first && m.state == "left" && m.raft == "none")
    });
    let status = cluster.status(&witness).unwrap();
    assert_eq!(status.tolerates, 0);

    let second = leave_of_the_leader(&mut cluster, &load);
    let sole = cluster.wait_group(1, 0);
    assert!(sole != first && sole != second);

    // The same data directory again: a new node under the old name, which the log no longer knows.
    let ids = |cluster: &Cluster| -> Vec<u64> {
        cluster.members(&sole).unwrap().into_iter().filter(|m| m.name == first).map(|m| m.id).collect()
    };
    let former = ids(&cluster);
    let seed = cluster.addr(&sole).to_string();
    cluster.restart(&first, &["--join", &seed]);
    cluster.wait_group(1, 1);
    assert!(ids(&cluster).iter().any(|id| !former.contains(id)), "a new node id");

    // The sole voter goes as soon as its heir has caught up.
    load.wait_ack_after(Instant::now());
    wait_until("the learner has caught up", || {
        let said = cluster.ask(&sole, &["leave", "--timeout", "50s"]);
        match said.code {
            0 => Some(()),
            10 => None,
            _ => panic!("exit {}: {}", said.code, said.err),
        }
    });
    assert_eq!(cluster.ended(&sole), 0);
    assert_eq!(cluster.wait_group(1, 0), first);
    load.wait_ack_after(Instant::now());

    let refused = cluster.ask(&first, &["leave"]);
    assert!(refused.one_error(10).contains("last agent"), "{}", refused.err);
    let history = load.stop(&cluster);
    println!("figure: {:?}", history::verify(&cluster, &cluster.running(), &history));
    assert_eq!(cluster.ask(&first, &["append", "still here"]).code, 0);
}

/// The leader leaves: exit 0, its process ends cleanly, its data lies in `left-…`, and the others go on.
#[track_caller]
fn leave_of_the_leader(cluster: &mut Cluster, load: &Load) -> String {
    let leader = cluster.leader();
    let asked = Instant::now();
    let said = cluster.ask(&leader, &["leave", "--timeout", "50s"]);
    assert_eq!(said.ok(), "left\n");
    assert_eq!(cluster.ended(&leader), 0);
    cluster.wait_log(&leader, &["handing leadership over to", "this agent leaves"]);
    println!("figure: the leader has left after {:?}", asked.elapsed());
    let data: Vec<_> = std::fs::read_dir(cluster.data(&leader)).unwrap().map(|e| e.unwrap().path()).collect();
    let left = data.iter().find(|path| path.file_name().unwrap().to_string_lossy().starts_with("left-"));
    let left = left.unwrap_or_else(|| panic!("the data is set aside: {data:?}"));
    assert!(left.join("node.key").is_file() && left.join("log").is_dir());
    assert!(!cluster.data(&leader).join("node.key").exists() && !cluster.data(&leader).join("log").exists());
    load.wait_ack_after(asked);
    leader
}

/// A follower and a learner leave without anybody noticing but the list of members; one that is asked twice leaves
/// once (behaviour 6).
#[test]
fn a_follower_and_a_learner_leave() {
    let mut cluster = Cluster::of(4);
    let follower = cluster.other_than(&cluster.leader());
    let learner = cluster.status("n1").unwrap().learners[0].clone();
    assert_eq!(cluster.ask(&learner, &["leave", "--format", "json"]).json()["v"], 1);
    assert_eq!(cluster.ended(&learner), 0);
    cluster.wait_group(3, 0);
    let follower = if follower == learner { cluster.other_than(&cluster.leader()) } else { follower };
    assert_eq!(cluster.ask(&follower, &["leave"]).ok(), "left\n");
    assert_eq!(cluster.ended(&follower), 0);
    cluster.wait_group(2, 0);
    assert_eq!(cluster.ask(&cluster.leader(), &["append", "x"]).ok(), "0\n");
    let gone = cluster.ask(&follower, &["leave", "--timeout", "1s"]);
    gone.one_error(3);
}

/// Two of three leave at the same moment: whatever the order, the third one keeps every acked record and serves
/// (behaviour 6).
#[test]
fn two_leave_at_once() {
    let mut cluster = Cluster::of(3);
    let load = Load::on(&cluster, 3);
    let stays = cluster.leader();
    let leavers: Vec<_> = cluster.running().into_iter().filter(|name| *name != stays).collect();
    let certs = cluster.certs(&stays);
    std::thread::scope(|scope| {
        for name in &leavers {
            let mut command = cluster.ask_command(name, &certs, &["leave", "--timeout", "50s"]);
            scope.spawn(move || assert_eq!(Said::by(&mut command).ok(), "left\n"));
        }
    });
    for name in &leavers {
        assert_eq!(cluster.ended(name), 0);
    }
    assert_eq!(cluster.wait_group(1, 0), stays);
    load.wait_ack_after(Instant::now());
    let history = load.stop(&cluster);
    history::verify(&cluster, &cluster.running(), &history);
}
