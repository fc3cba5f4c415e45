//! The power goes, for all agents at once and under load: they serve again by themselves, within seconds, every time.
//!
//! `QUORATE_POWER_CYCLES=100 cargo test --release -p quorate --test process power -- --nocapture` is the campaign; a
//! normal run takes a few cycles and judges no time.

use crate::cluster::Cluster;
use crate::history::{self, Load, Probe};
use std::time::{Duration, Instant};

/// Cycles of a normal run.
const CYCLES: usize = 3;
/// What a campaign is judged by: from the start of the first process until an append is acked.
const SERVING: Duration = Duration::from_secs(3);

/// Bug list 21 and 43: each life ends in the middle of whatever it did, checkpoints included.
#[test]
fn the_power_goes_again_and_again_and_all_serve_within_seconds() {
    let asked = std::env::var("QUORATE_POWER_CYCLES").ok().and_then(|n| n.parse().ok());
    let cycles: usize = asked.unwrap_or(CYCLES);
    let mut cluster = Cluster::of(3);
    let load = Load::on(&cluster, 4);
    let mut probe = Probe::through(&cluster, &cluster.running());
    let mut times = Vec::new();
    for cycle in 0..cycles {
        load.wait_ack_after(Instant::now());
        let names = cluster.running();
        names.iter().for_each(|name| cluster.signal(name, "KILL"));
        for name in &names {
            cluster.ended(name);
        }
        let started = Instant::now();
        names.iter().for_each(|name| cluster.restart(name, &[]));
        let took = probe.first_ack(&cluster, &load, started);
        if asked.is_some() {
            println!("cycle {cycle}: first ack {took:?} after the first start");
        }
        times.push(took);
    }
    cluster.wait_group(3, 0);
    let history = load.stop(&cluster);
    println!("figure: {:?}", history::verify(&cluster, &cluster.running(), &history));
    let late = times.iter().filter(|took| **took > SERVING).count();
    let (median, worst) = history::median_and_worst(times);
    println!(
        "figure: {cycles} power cycles, serving after {median:?} (median), {worst:?} (worst); {late} later than {SERVING:?}"
    );
    assert!(asked.is_none() || late == 0, "{late} of {cycles} took longer than {SERVING:?}; worst {worst:?}");
}
