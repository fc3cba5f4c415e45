//! A failed agent is forgotten: for good, by everybody, and it is told so when it comes back.

use crate::cluster::{Cluster, wait_until};
use quorate::client::Member;

/// `quorate forget`: refused for a live agent, unknown for a stranger, done for a dead one, the same when repeated; off
/// every list of members, also of an agent outside Raft; the disk that comes back is turned away with the reason; a wiped
/// one joins as a new node at once.
#[test]
fn a_failed_agent_is_forgotten() {
    let mut cluster = Cluster::of(3);
    let leader = cluster.leader();
    let dead = cluster.other_than(&leader);
    let alive = cluster.ask(&leader, &["forget", &dead]);
    let said = alive.one_error(10);
    assert!(said.contains("is alive") && said.contains("quorate leave"), "{said}");
    assert!(cluster.ask(&leader, &["forget", "nobody"]).one_error(8).contains("nobody"));
    assert!(cluster.ask(&leader, &["forget", &leader]).one_error(10).contains("is alive"));

    cluster.kill(&dead);
    let asked = std::time::Instant::now();
    let done = wait_until("it is forgotten", || {
        let said = cluster.ask(&leader, &["forget", &dead]);
        match said.code {
            0 => Some(said),
            10 => None,
            other => panic!("exit {other}: {}", said.err),
        }
    });
    println!("figure: forgotten {:?} after its death", asked.elapsed());
    assert_eq!(done.out, format!("{dead} is forgotten\n"));
    assert!(done.err.contains("certificate is not revoked"), "{}", done.err);
    cluster.wait_group(2, 0);
    let others = cluster.running();
    for name in &others {
        cluster.wait_member(name, "two members", |all| all.len() == 2 && all.iter().all(|m| m.name != dead));
        let again = cluster.ask(name, &["forget", &dead, "--format", "json"]).json();
        assert_eq!((&again["v"], &again["forgotten"]), (&1.into(), &dead.clone().into()), "{again}");
        assert_eq!(again["certificate_revoked"], false);
        assert_eq!(again["nodes"].as_array().unwrap().len(), 1, "{again}");
    }
    assert!(cluster.status(&leader).unwrap().problems.is_empty());

    cluster.restart(&dead, &[]);
    let line = cluster.wait_log(&dead, &["dropped by an operator"]);
    assert!(line.contains("wipe its data directory to join as a new node"), "{line}");
    cluster.wait_log(&leader, &["dropped by an operator"]);
    let none = |all: &[Member]| all.iter().all(|m| m.name != dead);
    assert!(others.iter().all(|name| none(&cluster.members(name).unwrap())));
    cluster.stop(&dead);

    std::fs::remove_dir_all(cluster.data(&dead)).unwrap();
    let seed = cluster.addr(&leader).to_string();
    cluster.restart(&dead, &["--join", &seed]);
    cluster.wait_group(3, 0);
    assert_eq!(cluster.ask(&dead, &["append", "back again"]).code, 0);
}
