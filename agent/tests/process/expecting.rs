//! Identical machines: real agents that were told to expect each other, in any order, and some of them harmed meanwhile.
//!
//! `QUORATE_FOUNDINGS=20 cargo test --release -p quorate --test process identical_machines -- --nocapture` is the campaign.

use crate::cluster::{Cluster, wait_until};
use std::collections::BTreeSet;
use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

/// Foundings of a normal run.
const FOUNDINGS: u64 = 1;
const NAMES: [&str; 5] = ["n1", "n2", "n3", "n4", "n5"];

/// Addresses that are free now. Who starts there later waits should somebody else have taken it meanwhile.
fn free(n: usize) -> Vec<SocketAddr> {
    let sockets: Vec<UdpSocket> = (0..n).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
    sockets.iter().map(|s| s.local_addr().unwrap()).collect()
}

fn list(addrs: &[SocketAddr]) -> String {
    addrs.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

fn start(cluster: &mut Cluster, name: &str, at: SocketAddr, join: &str, expect: &str) {
    let data = cluster.data(name);
    cluster.start_as(name, name, &data, &at.to_string(), &["--expect", expect, "--join", join]);
}

/// A draw of this run, reproducible by its number.
struct Draw(u64);

impl Draw {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

/// Five machines, three expected, in any order; one is killed and one loses its disk in the middle. One history, on all five.
fn one_founding(run: u64) -> Duration {
    let (mut cluster, mut draw) = (Cluster::new(), Draw(run.wrapping_mul(77).wrapping_add(5)));
    let addrs = free(NAMES.len());
    let join = list(&addrs);
    let mut order: Vec<usize> = (0..NAMES.len()).collect();
    for last in (1..order.len()).rev() {
        order.swap(last, draw.below(last as u64 + 1) as usize);
    }
    let began = Instant::now();
    let (killed, wiped) = (order[draw.below(4) as usize], order[draw.below(4) as usize]);
    for (nth, agent) in order.iter().enumerate() {
        start(&mut cluster, NAMES[*agent], addrs[*agent], &join, "3");
        // The last one comes late, after the blows: they fall where the first four may be founding.
        if nth == 3 {
            thread::sleep(Duration::from_millis(draw.below(900)));
            cluster.kill(NAMES[killed]);
            if wiped != killed {
                thread::sleep(Duration::from_millis(draw.below(300)));
                cluster.kill(NAMES[wiped]);
            }
            fs::remove_dir_all(cluster.data(NAMES[wiped])).unwrap();
            start(&mut cluster, NAMES[wiped], addrs[wiped], &join, "3");
        }
    }
    if wiped != killed {
        start(&mut cluster, NAMES[killed], addrs[killed], &join, "3");
    }
    let mut logs = BTreeSet::new();
    for name in NAMES {
        logs.insert(wait_until(&format!("{name} is of a log that is led"), || {
            let status = cluster.status(name).ok()?;
            status.log_id.filter(|_| status.leader.is_some())
        }));
    }
    assert_eq!(logs.len(), 1, "run {run}: {logs:?}");
    let took = began.elapsed();
    for name in NAMES {
        let said = cluster.log(name);
        let founded: BTreeSet<&str> =
            said.lines().filter_map(|l| l.split("founded log ").nth(1)?.split(' ').next()).collect();
        assert!(
            founded.iter().all(|id| logs.contains(*id)),
            "run {run}: {name} founded {founded:?}, and all are of {logs:?}"
        );
        cluster.ask(name, &["append", "one history", "--timeout", "50s"]).ok();
    }
    took
}

#[test]
fn identical_machines_found_one_log() {
    let asked = std::env::var("QUORATE_FOUNDINGS").ok().and_then(|n| n.parse().ok());
    let runs: u64 = asked.unwrap_or(FOUNDINGS);
    let mut times: Vec<Duration> = Vec::new();
    for run in 0..runs {
        let took = one_founding(run);
        println!("figure: founding {run}: one history after {took:?}");
        times.push(took);
    }
    times.sort();
    println!(
        "figure: {runs} foundings of five identical machines, one killed and one wiped: always one history; all of it after {:?} (median), {:?} (last)",
        times[times.len() / 2],
        times[times.len() - 1]
    );
}

/// Before there is a log, people are told what is waited for; after it the flags mean nothing more.
#[test]
fn waiting_agents_say_for_whom_and_the_flags_may_stay() {
    let mut cluster = Cluster::new();
    let addrs = free(3);
    let join = list(&addrs);
    start(&mut cluster, "n1", addrs[0], &join, "3");
    let members = cluster.ask("n1", &["members"]);
    assert!(members.ok().contains("n1"));
    let silent = addrs[1].to_string();
    wait_until("n1 says for whom it waits", || {
        let told = cluster.status("n1").ok()?.problems.join(" | ");
        let says = |word: &str| told.contains(word);
        (says("waits for: 3 expected, 1 here (n1)") && says(&format!("{silent} has not answered ("))).then_some(())
    });
    start(&mut cluster, "n2", addrs[1], &join, "5");
    wait_until("n1 names who expects another number", || {
        cluster.status("n1").ok()?.problems.join(" | ").contains("n2 expects 5, this agent 3").then_some(())
    });
    cluster.stop("n2");
    start(&mut cluster, "n2", addrs[1], &join, "3");
    start(&mut cluster, "n3", addrs[2], &join, "3");
    cluster.wait_group(3, 0);
    let log = cluster.status("n1").unwrap().log_id;
    for name in ["n1", "n2", "n3"] {
        cluster.kill(name);
    }
    for (name, at) in ["n1", "n2", "n3"].into_iter().zip(&addrs) {
        start(&mut cluster, name, *at, &join, "3");
    }
    cluster.wait_group(3, 0);
    assert_eq!(cluster.status("n2").unwrap().log_id, log);
    cluster.kill("n3");
    let data = cluster.data("n3").display().to_string();
    cluster.run(&["verify", "--data", &data]).ok();
    let file = cluster.data("n3").join("formation");
    let mut bytes = fs::read(&file).unwrap();
    bytes[40] ^= 1;
    fs::write(&file, &bytes).unwrap();
    let said = cluster.run(&["verify", "--data", &data]);
    assert!(said.code == 11 && said.out.contains("formation at byte 0"), "{}{}", said.out, said.err);
}

/// What cannot be meant is refused with what could be.
#[test]
fn wrong_expectations_are_refused() {
    let cluster = Cluster::new();
    for (args, code, words) in [
        (vec!["--expect", "2"], 78, "1, 3, 5 or 7"),
        (vec!["--expect", "9"], 78, "1, 3, 5 or 7"),
        (vec!["--expect", "3", "--bootstrap"], 2, "leave one of the two out"),
    ] {
        let said = crate::said::Said::by(&mut cluster.agent_command("n1", "127.0.0.1:0", &args));
        assert!(said.code == code && said.err.contains(words), "{args:?}: {} {}", said.code, said.err);
    }
}
