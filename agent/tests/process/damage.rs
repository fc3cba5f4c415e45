//! Flipped bits: in every kind of file of a stopped agent, in all agents at once, under one that runs, and where nobody
//! else has a copy.

use crate::cluster::{Cluster, wait_until};
use crate::data::entries;
use std::fs;
use std::path::{Path, PathBuf};

/// Records of one life of the victim; each life begins a new segment.
const PER_LIFE: usize = 40;

fn append(cluster: &Cluster, at: &str, values: std::ops::Range<usize>) {
    let values: Vec<String> = values.map(|i| format!("value {i} {}", "x".repeat(100))).collect();
    for value in values {
        cluster.ask(at, &["append", &value]).ok();
    }
}

/// Flips one bit of this file.
fn flip(file: &Path, byte: usize, bit: u8) {
    let mut bytes = fs::read(file).unwrap();
    bytes[byte] ^= 1 << bit;
    fs::write(file, bytes).unwrap();
}

/// Whole, caught up, with nothing to complain of.
fn wait_whole(cluster: &Cluster, name: &str, next: u64) {
    cluster.wait_status(name, "whole again and caught up", |s| {
        s.disk.damaged_ranges == 0 && s.disk.suspect.is_none() && s.next == next && s.applied_index == s.committed_index
    });
}

/// What a start has not read, the scrubber has by now.
fn scrubbed(cluster: &Cluster, name: &str) {
    cluster.wait_status(name, "scrubbed once", |s| s.disk.scrub.cycles > 0);
}

/// The same records at all agents, and not a damaged byte on any of their disks.
fn all_equal_and_clean(cluster: &mut Cluster, next: u64) {
    let names = cluster.running();
    let read = |name: &String| cluster.ask(name, &["tail", "--format", "json"]).ok().to_owned();
    let logs: Vec<String> = names.iter().map(read).collect();
    assert_eq!(logs[0].lines().count() as u64, next);
    assert!(logs.iter().all(|log| *log == logs[0]), "the same records everywhere");
    for name in names {
        cluster.stop(&name);
        let data = cluster.data(&name);
        let said = cluster.run(&["verify", "--data", data.to_str().unwrap(), "--format", "json"]).json();
        assert_eq!(said["damaged"], serde_json::json!([]), "{name}: {said}");
    }
}

/// Every kind of file, one after another: the agent starts, the damage is found and repaired, nothing is different.
#[test]
fn one_bit_in_any_file_of_a_stopped_agent() {
    let mut cluster = Cluster::of(3);
    let mut next = 0;
    let victim = cluster.other_than(&cluster.leader());
    for _ in 0..3 {
        append(&cluster, "n1", next..next + PER_LIFE);
        next += PER_LIFE;
        cluster.stop(&victim);
        cluster.restart(&victim, &[]);
    }
    append(&cluster, "n1", next..next + PER_LIFE);
    next += PER_LIFE;
    wait_whole(&cluster, &victim, next as u64);
    cluster.stop(&victim);
    let data = cluster.data(&victim);
    let mut names: Vec<PathBuf> = fs::read_dir(data.join("log")).unwrap().map(|e| e.unwrap().path()).collect();
    if let Ok(checkpoints) = fs::read_dir(data.join("checkpoints")) {
        names.extend(checkpoints.map(|e| e.unwrap().path()));
    }
    names.extend(["node.key", "node.key.copy", "quic.key", "peers.json"].map(|name| data.join(name)));
    names.retain(|path| path.file_name().is_some_and(|name| name != "lock"));
    names.sort();
    let of_kind = |end: &str| names.iter().filter(|p| p.to_string_lossy().ends_with(end)).count();
    assert!(of_kind(".wal") >= 4 && of_kind("meta.a") == 1 && of_kind("node.key.copy") == 1, "{names:?}");
    for (turn, file) in names.iter().enumerate() {
        // A start takes leftovers away, and may have made a file anew under another name.
        let Ok(bytes) = fs::read(file) else { continue };
        let written = bytes.iter().rposition(|b| *b != 0).unwrap_or(0);
        let is_segment = file.extension().is_some_and(|e| e == "wal");
        let places = if is_segment { vec![100, 4096 + (written - 4096) / 2] } else { vec![written / 2] };
        for place in places {
            flip(file, place, (turn % 8) as u8);
            let shown = file.file_name().unwrap().to_string_lossy().into_owned();
            println!("flipped bit {} of byte {place} of {shown}", turn % 8);
            cluster.restart(&victim, &[]);
            wait_whole(&cluster, &victim, next as u64);
            cluster.stop(&victim);
        }
    }
    cluster.restart(&victim, &[]);
    wait_whole(&cluster, &victim, next as u64);
    append(&cluster, &victim, next..next + 1);
    next += 1;
    for name in cluster.running() {
        scrubbed(&cluster, &name);
        wait_whole(&cluster, &name, next as u64);
    }
    all_equal_and_clean(&mut cluster, next as u64);
}

/// All three are stopped and each is damaged elsewhere: they repair each other before anybody leads, with nobody's help.
#[test]
fn all_agents_are_damaged_in_different_places() {
    let mut cluster = Cluster::of(3);
    let all = ["n1", "n2", "n3"];
    let mut next = 0;
    for _ in 0..2 {
        append(&cluster, "n1", next..next + PER_LIFE);
        next += PER_LIFE;
        for name in all {
            wait_whole(&cluster, name, next as u64);
        }
        for name in all {
            cluster.stop(name);
        }
        for name in all {
            cluster.restart(name, &[]);
        }
        cluster.wait_group(3, 0);
    }
    for name in all {
        cluster.stop(name);
    }
    for (turn, name) in all.into_iter().enumerate() {
        let entries = entries(&cluster, name);
        // Two entries each, in different lives.
        for share in [turn * 10 + 3, 45 + turn * 10] {
            let (file, at) = &entries[share * entries.len() / 80];
            flip(file, at + 170, 3);
        }
    }
    for name in all {
        cluster.restart(name, &[]);
    }
    cluster.wait_group(3, 0);
    for name in all {
        scrubbed(&cluster, name);
        wait_whole(&cluster, name, next as u64);
    }
    all_equal_and_clean(&mut cluster, next as u64);
}

/// Nobody else has a copy: the agent does not start, and says which file, which byte, what it costs and what to do.
#[test]
fn a_lone_agent_refuses_damage_with_file_and_byte() {
    let mut cluster = Cluster::new();
    cluster.start("n1", &["--bootstrap"]);
    cluster.wait_status("n1", "it leads", |s| s.leader.is_some());
    append(&cluster, "n1", 0..10);
    cluster.stop("n1");
    cluster.restart("n1", &[]);
    append(&cluster, "n1", 10..20);
    cluster.stop("n1");
    let entries = entries(&cluster, "n1");
    // In the first life, in the last one, and the very last entry, whose end nobody can vouch for.
    for (file, at) in [&entries[3], &entries[14], &entries[19]] {
        let good = fs::read(file).unwrap();
        flip(file, at + 170, 5);
        let command = cluster.agent_command("n1", "127.0.0.1:0", &[]);
        let code = cluster.spawn("n1", command).unwrap_err();
        let log = cluster.log("n1");
        let name = file.file_name().unwrap().to_str().unwrap();
        assert_eq!(code, 11, "{log}");
        for part in [name, &format!("at byte {at}"), "no other member has a copy", "restore", "quorate recover"] {
            assert!(log.contains(part), "{part:?} in {log}");
        }
        fs::write(file, good).unwrap();
    }
    cluster.restart("n1", &[]);
    cluster.wait_status("n1", "put back, it serves", |s| s.leader.is_some() && s.next == 20);
}

/// A bit flips under an agent that runs: the scrubber finds it, the others give it back, and nobody starts anything.
#[test]
fn a_bit_flips_under_a_running_agent() {
    let mut cluster = Cluster::of(3);
    append(&cluster, "n1", 0..PER_LIFE);
    let victim = cluster.other_than(&cluster.leader());
    wait_whole(&cluster, &victim, PER_LIFE as u64);
    cluster.stop(&victim);
    let entries = entries(&cluster, &victim);
    let (file, at) = &entries[entries.len() / 2];
    // A machine so slow that the scrubber has passed before the bit flips gets another try.
    loop {
        cluster.restart(&victim, &[]);
        wait_whole(&cluster, &victim, PER_LIFE as u64);
        if cluster.status(&victim).unwrap().disk.scrub.bytes_total == 0 {
            break;
        }
        cluster.stop(&victim);
    }
    flip(file, at + 170, 1);
    let pid = cluster.pid(&victim);
    cluster.wait_log(&victim, &["cannot be read", file.file_name().unwrap().to_str().unwrap()]);
    let status =
        cluster.wait_status(&victim, "repaired", |s| s.disk.repaired_entries > 0 && s.disk.damaged_ranges == 0);
    assert!(status.problems.is_empty(), "{status:?}");
    assert_eq!(cluster.pid(&victim), pid);
    wait_until("the cycle ends", || (cluster.status(&victim).ok()?.disk.scrub.cycles == 1).then_some(()));
    all_equal_and_clean(&mut cluster, PER_LIFE as u64);
}

/// The same records rot at all three: all name them as lost, readers of them are told so, and what stands before and behind
/// them is read and grows.
#[test]
fn what_no_agent_can_read_is_named_and_the_rest_goes_on() {
    let mut cluster = Cluster::of(3);
    let all = ["n1", "n2", "n3"];
    append(&cluster, "n1", 0..PER_LIFE);
    for name in all {
        wait_whole(&cluster, name, PER_LIFE as u64);
    }
    for name in all {
        cluster.stop(name);
    }
    for name in all {
        let (file, at) = &entries(&cluster, name)[10];
        flip(file, at + 170, 3);
    }
    for name in all {
        cluster.restart(name, &[]);
    }
    for name in all {
        let status = cluster.wait_status(name, "names what is lost", |s| s.disk.damaged.iter().any(|range| range.lost));
        assert!(status.problems.iter().any(|problem| problem.contains("no member can read them")), "{status:?}");
    }
    cluster.wait_status("n1", "somebody leads", |s| s.leader.is_some());
    let said = cluster.ask("n1", &["doctor", "--format", "json"]);
    assert!(said.code == 11 && said.out.contains("\"E0124\"") && said.out.contains("at byte"), "{}", said.out);
    append(&cluster, "n2", PER_LIFE..PER_LIFE + 5);
    for name in all {
        cluster.wait_status(name, "what is appended is there", |s| s.next == PER_LIFE as u64 + 5);
        let said = cluster.ask(name, &["tail"]);
        assert_eq!(said.code, 11, "{}", said.err);
        for part in ["offsets 10 to 10 are lost", "no member of this log can read them", "-o 11"] {
            assert!(said.err.contains(part), "{part:?} in {}", said.err);
        }
        assert_eq!(
            cluster.ask(name, &["tail", "-o", "11", "--format", "json"]).ok().lines().count(),
            PER_LIFE + 5 - 11
        );
    }
}
