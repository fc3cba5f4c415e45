//! Agents come back: all at once, under new addresses, under an old name with a new disk.

use crate::cluster::Cluster;
use crate::history::{self, Load};
use std::time::Instant;

/// `kill -9` of all at once under load: they serve again by themselves and nothing acked is lost (behaviour 3).
#[test]
fn all_agents_are_killed_at_once() {
    let mut cluster = Cluster::of(3);
    let load = Load::on(&cluster, 4);
    cluster.wait_status("n1", "some records", |s| s.next > 100);
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
    let client = cluster.client("n2");
    let attempt = history::Attempt::make(&client, vec!["after".into()], crate::cluster::PATIENCE);
    let (after, error) = cluster.block_on(attempt);
    assert!(error.is_none(), "{error:?}");
    println!("figure: all killed, first ack {:?} after the restart", started.elapsed());
    cluster.wait_group(3, 0);
    let mut history = load.stop(&cluster);
    history.push(after);
    println!("figure: {:?}", history::verify(&cluster, &cluster.running(), &history));
}
