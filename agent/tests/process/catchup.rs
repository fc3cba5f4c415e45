//! A new replica takes over a log of many megabytes while others append to it; and what an agent makes of its checkpoints
//! when it starts.

use crate::cluster::{Cluster, wait_until};
use crate::history::{self, Attempt, Load};
use quorate::record::Record;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Megabytes of log that the newcomer has to take over, unless `QUORATE_CATCHUP_MIB` says otherwise.
const LOG_MIB: usize = 48;
const MIB: usize = 1 << 20;

/// Appends records of one size, some at a time.
fn fill(cluster: &Cluster, name: &str, mib: usize, record_bytes: usize) {
    let client = cluster.client(name);
    cluster.block_on(async {
        let mut under_way = tokio::task::JoinSet::new();
        for n in 0..mib * MIB / record_bytes {
            if under_way.len() >= 16 {
                under_way.join_next().await.unwrap().unwrap();
            }
            let client = client.clone();
            under_way.spawn(async move {
                let value = format!("{n:08}").repeat(record_bytes / 8);
                client.append(&[Record::of(value)]).await.unwrap();
            });
        }
        under_way.join_all().await;
    });
}

/// Bytes in the segments of an agent's log.
fn log_bytes(cluster: &Cluster, name: &str) -> u64 {
    let files = fs::read_dir(cluster.data(name).join("log")).into_iter().flatten().flatten();
    files.filter_map(|file| file.metadata().ok()).map(|m| m.len()).sum()
}

/// How long all but the slowest hundredth took.
fn percentile_99<'a>(attempts: impl Iterator<Item = &'a Attempt>) -> Duration {
    let mut times: Vec<_> = attempts.map(Attempt::took).collect();
    times.sort();
    times.get(times.len() * 99 / 100).copied().unwrap_or_default()
}

/// The newcomer is killed twice on its way and goes on where its disk was; those who append do not notice.
#[test]
fn a_new_replica_catches_up_though_it_is_killed_on_the_way() {
    let mib = std::env::var("QUORATE_CATCHUP_MIB").ok().and_then(|n| n.parse().ok()).unwrap_or(LOG_MIB);
    let mut cluster = Cluster::new();
    cluster.start("n1", &["--bootstrap"]);
    cluster.wait_group(1, 0);
    fill(&cluster, "n1", mib, 256 << 10);
    let load = Load::on(&cluster, 2);
    // A picture of appends without a newcomer.
    for _ in 0..200 {
        load.wait_ack_after(Instant::now());
    }
    let seed = cluster.addr("n1").to_string();
    cluster.start("n2", &["--join", &seed]);
    let begun = Instant::now();
    for part in 1..=2 {
        let until = (mib * MIB / 3 * part) as u64;
        wait_until("part of the log is there", || (log_bytes(&cluster, "n2") >= until).then_some(()));
        cluster.kill("n2");
        let held = log_bytes(&cluster, "n2");
        cluster.restart("n2", &["--join", &seed]);
        assert!(log_bytes(&cluster, "n2") + (16 << 20) >= held, "it began again from the beginning");
    }
    cluster.wait_group(1, 1);
    cluster.wait_member("n1", "n2 as caught up", |all| {
        all.iter().any(|m| m.name == "n2" && m.raft == "learner" && m.lag.is_some_and(|lag| lag < 16))
    });
    let ended = Instant::now();
    println!("figure: {mib} MiB taken over in {:?}, killed twice on the way", ended - begun);
    load.wait_ack_after(ended);
    let history = load.stop(&cluster);
    let during = |a: &&Attempt| a.asked >= begun && a.ended <= ended;
    let before = percentile_99(history.iter().filter(|a| a.ended < begun));
    println!(
        "figure: p99 of an append {before:?} before, {:?} meanwhile",
        percentile_99(history.iter().filter(during))
    );
    println!("figure: {:?}", history::verify(&cluster, &cluster.running(), &history));
}

fn checkpoints(cluster: &Cluster, name: &str, end: &str) -> Vec<PathBuf> {
    let files = fs::read_dir(cluster.data(name).join("checkpoints")).into_iter().flatten().flatten();
    let mut found: Vec<_> = files.map(|f| f.path()).filter(|p| p.to_string_lossy().ends_with(end)).collect();
    found.sort();
    found
}

/// A stop saves the state, a start goes on from it; one that is damaged is named with file and place, set aside, and costs
/// nothing but time (bug list 5 and 44).
#[test]
fn a_start_goes_on_from_a_checkpoint_and_never_fails_for_one() {
    let mut cluster = Cluster::new();
    cluster.start("n1", &["--bootstrap"]);
    cluster.wait_group(1, 0);
    assert_eq!(cluster.ask("n1", &["append", "first"]).ok(), "0\n");
    cluster.stop("n1");
    let saved = checkpoints(&cluster, "n1", ".ckpt");
    assert_eq!(saved.len(), 1, "{saved:?}");
    cluster.restart("n1", &[]);
    cluster.wait_log("n1", &["was taken from its checkpoint"]);
    assert_eq!(cluster.ask("n1", &["append", "second"]).ok(), "1\n");
    cluster.kill("n1");

    let mut bytes = fs::read(&saved[0]).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 0x10;
    fs::write(&saved[0], bytes).unwrap();
    cluster.restart("n1", &[]);
    let name = saved[0].file_name().unwrap().to_string_lossy().into_owned();
    cluster.wait_log("n1", &[&name, "passed over", "at byte"]);
    assert_eq!(cluster.ask("n1", &["append", "third"]).ok(), "2\n");
    // It is replaced as soon as there is something to save, and `status` has nothing to tell any more.
    wait_until("a good one has replaced it", || {
        let (good, bad) = (checkpoints(&cluster, "n1", ".ckpt"), checkpoints(&cluster, "n1", ".broken"));
        (good.len() == 1 && bad.is_empty()).then_some(())
    });
    cluster.wait_status("n1", "no problem with checkpoints", |s| {
        s.problems.iter().all(|problem| !problem.contains("checkpoint"))
    });
    cluster.kill("n1");

    // A directory that cannot be one: a word, and a start.
    fs::remove_dir_all(cluster.data("n1").join("checkpoints")).unwrap();
    fs::write(cluster.data("n1").join("checkpoints"), "not a directory").unwrap();
    cluster.restart("n1", &[]);
    cluster.wait_log("n1", &["cannot open the directory of checkpoints"]);
    assert_eq!(cluster.ask("n1", &["append", "fourth"]).ok(), "3\n");
    assert_eq!(history::read(&cluster, "n1").1, ["first", "second", "third", "fourth"]);
}
