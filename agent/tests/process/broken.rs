//! Links that break: large packets are lost between two machines, and whoever is asked says so.
#![cfg(target_os = "linux")]

use crate::cluster::{Cluster, wait_until};
use crate::network::{NO_NETWORK, Network};
use crate::told::{PATIENCE, json, wait_first};
use serde_json::Value;

/// Too narrow for a handshake, and wide enough for heartbeats.
const NARROW: u32 = 1_000;

fn doctor(network: &Network, cluster: &Cluster, machine: u32) -> (i32, Value) {
    let said = network.ask(cluster, machine, &["doctor", "--format", "json", "--timeout", PATIENCE]);
    (said.code, json(&said))
}

/// Which machine leads, as this one says.
fn leader(network: &Network, cluster: &Cluster, machine: u32) -> Option<u32> {
    let said = network.ask(cluster, machine, &["status", "--format", "json", "--timeout", "2s"]);
    let status: Value = serde_json::from_str(&said.out).ok()?;
    status["leader"].as_str()?.trim_start_matches('n').parse().ok()
}

/// On a machine that has much else to do the one that reaches everybody may come to lead: then it hands over.
fn leads_not(network: &Network, cluster: &Cluster, third: u32, old: u32) {
    if leader(network, cluster, third) == Some(third) {
        network.ask(cluster, third, &["transfer", &format!("n{old}")]);
    }
}

/// A black hole for large packets between a leader and a follower. The two stay connected, since heartbeats are small; as soon
/// as there is something to replicate nothing gets through any more: whoever is asked says that, on which link, and to look at
/// the MTU. Started again the follower is not connected at all, and a third one knows that it lives. Wide again, nothing is wrong.
#[test]
fn a_black_hole_for_large_packets_is_told() {
    let Some(network) = Network::new() else { return println!("{NO_NETWORK}") };
    let mut cluster = Cluster::new();
    network.start(&mut cluster, 1, &["--bootstrap"]);
    let seeds = ["--join", "10.73.0.1:7373,10.73.0.2:7373"];
    network.start(&mut cluster, 2, &seeds);
    network.start(&mut cluster, 3, &seeds);
    for machine in 1..=3 {
        wait_until("nothing is wrong", || (doctor(&network, &cluster, machine).0 == 0).then_some(()));
    }
    wait_until("three vote", || {
        (network.ask(&cluster, 1, &["members", "--wait", "voters=3", "--timeout", "2s"]).code == 0).then_some(())
    });
    let old = wait_until("one leads", || leader(&network, &cluster, 1));
    // Seeds are tried for ever: the one that is cut off has a seed beside the leader.
    let (far, third) = if old == 3 { (1, 2) } else { (3, 3 - old) };
    network.narrow(old, far, NARROW);
    network.ask(&cluster, third, &["append", &"x".repeat(3_000)]).ok();
    let pair = format!("n{}-n{}", old.min(far), old.max(far));
    for asked in [old, third, far] {
        let look = || {
            leads_not(&network, &cluster, third, old);
            doctor(&network, &cluster, asked)
        };
        let answer = wait_first(look, 9, "E0117", &["is connected with"]);
        let first = &answer["findings"][0];
        assert_eq!(first["about"], *pair, "{answer}");
        assert!(first["next"].to_string().contains("ping -M do -s 1224 10.73.0."), "{answer}");
        assert_eq!(answer["findings"].as_array().unwrap().len(), 1, "and nothing else: {answer}");
    }
    wait_until("the leader says it in its status", || {
        leads_not(&network, &cluster, third, old);
        let said = [old, far].map(|machine| network.ask(&cluster, machine, &["status", "--check"]));
        said.iter().any(|s| s.code == 9 && s.out.contains("has not answered Raft for")).then_some(())
    });

    let name = format!("n{far}");
    cluster.kill(&name);
    network.start(&mut cluster, far, &seeds);
    for asked in [far, third] {
        let parts = ["no answer over UDP", &*format!("n{third} is connected with it")];
        let answer = wait_first(|| doctor(&network, &cluster, asked), 9, "E0117", &parts);
        assert_eq!(answer["findings"][0]["about"], *pair, "{answer}");
    }
    network.widen(old, far);
    for machine in 1..=3 {
        wait_until("nothing is wrong", || (doctor(&network, &cluster, machine).0 == 0).then_some(()));
    }
}
