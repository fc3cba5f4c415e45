//! The quorum is lost for good: one disk goes on alone, and says first what that costs. A log is listed offline.

use crate::cluster::Cluster;
use crate::history::read;
use crate::said::Said;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            all.append(&mut files(&path));
        } else {
            all.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    all
}

fn dumped(cluster: &Cluster, data: &str, args: &[&str]) -> Vec<Value> {
    let said = cluster.run(&[&["log", "dump", "--data", data, "--format", "json"], args].concat());
    said.ok().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn of_kind(lines: &[Value], kind: &str) -> Vec<Value> {
    lines.iter().filter(|line| line["kind"] == kind).cloned().collect()
}

/// Two of three disks are gone. Without an answer, or with a wrong one: 10, and not a byte is changed. With the log id:
/// every record of this disk at its offset in a new history, which others join under their old names and which the
/// disks of the old one cannot join. Run again on a healthy log: 10.
#[test]
fn a_lost_quorum_is_recovered_from_one_disk() {
    let mut cluster = Cluster::of(3);
    for i in 0..40 {
        cluster.ask("n1", &["append", &format!("kept {i}"), "--stream", if i % 2 == 0 { "even" } else { "odd" }]).ok();
    }
    let next = cluster.status("n1").unwrap().next;
    for name in ["n1", "n2", "n3"] {
        cluster.wait_status(name, "it holds all of it", |s| s.next == next && s.applied_index == s.committed_index);
    }
    let before = read(&cluster, "n1").1;
    let log_id = cluster.ask("n1", &["status", "--format", "json"]).json()["log_id"].as_str().unwrap().to_owned();
    let data = cluster.data("n1");
    let dir = data.to_str().unwrap().to_owned();
    cluster.run(&["recover", "--data", &dir, "--confirm", &log_id]).one_error(75);
    for name in ["n1", "n2", "n3"] {
        cluster.kill(name);
    }
    let old_third = cluster.path("old-n3");
    fs::rename(cluster.data("n3"), &old_third).unwrap();
    fs::remove_dir_all(cluster.data("n2")).unwrap();

    let picture = files(&data);
    let recover = |cluster: &Cluster, answer: &str, args: &[&str]| {
        let mut command = cluster.command(&[&["recover", "--data", &dir], args].concat());
        Said::to(&mut command, answer.as_bytes())
    };
    let looked = recover(&cluster, "", &[]);
    assert!(looked.one_error(10).contains("was not typed back"), "{}", looked.err);
    for part in [log_id.as_str(), "n1 (this one)", "n2", "n3", "40 records", "every record from offset 40 on"] {
        assert!(looked.out.contains(part), "{part:?} in {}", looked.out);
    }
    let wrong = recover(&cluster, "yes\n", &[]);
    assert!(
        wrong.one_error(10).contains("yes is not the id of this log") && wrong.err.contains(&log_id),
        "{}",
        wrong.err
    );
    let json = recover(&cluster, "", &["--format", "json"]);
    json.json_error(10);
    let plan: Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(
        (&plan["recovered"], &plan["may_be_lost_from"], &plan["records"]),
        (&false.into(), &40.into(), &40.into())
    );
    assert_eq!(plan["voters"].as_array().unwrap().len(), 3, "{plan}");
    assert!(files(&data) == picture, "nothing was changed");

    let done = recover(&cluster, &format!("{log_id}\n"), &["--format", "json"]).json();
    assert_eq!((&done["recovered"], &done["old_log_id"]), (&true.into(), &log_id.clone().into()));
    let new_id = done["log_id"].as_str().unwrap().to_owned();
    assert_ne!(new_id, log_id);
    assert!(Path::new(done["old_history"].as_str().unwrap()).join("log").is_dir(), "the old history is kept: {done}");
    assert_eq!(cluster.run(&["verify", "--data", &dir, "--format", "json"]).json()["damaged"], serde_json::json!([]));
    let again = recover(&cluster, &new_id, &[]);
    assert!(again.one_error(10).contains("nothing is lost"), "{}", again.err);

    cluster.restart("n1", &[]);
    cluster.wait_status("n1", "it leads", |s| s.leader.as_deref() == Some("n1") && s.next == 40);
    assert_eq!(cluster.ask("n1", &["status", "--format", "json"]).json()["log_id"], new_id.as_str());
    assert_eq!(read(&cluster, "n1").1, before, "every record at its offset");
    let seq = cluster.ask("n1", &["append", "and on", "--stream", "even"]);
    assert_eq!(seq.ok(), "40\n");
    let last = cluster.ask("n1", &["tail", "-o", "40", "--format", "json"]).json();
    assert_eq!((&last["seq"], &last["value"]), (&21.into(), &"and on".into()), "a stream goes on: {last}");

    let seed = cluster.addr("n1").to_string();
    cluster.restart("n2", &["--join", &seed]);
    cluster.wait_status("n1", "n2 is back under its name", |s| s.voters.len() + s.learners.len() == 2);
    cluster.wait_status("n2", "it holds all of it", |s| s.next == 41 && s.applied_index == s.committed_index);
    assert!(read(&cluster, "n2") == read(&cluster, "n1"), "byte for byte");
    fs::rename(&old_third, cluster.data("n3")).unwrap();
    cluster.restart("n3", &["--join", &seed]);
    cluster.wait_log("n3", &["dropped by an operator", "wipe its data directory to join as a new node"]);
    assert!(cluster.status("n3").map_or(true, |s| s.next <= 40));
    assert!(cluster.status("n1").unwrap().voters.iter().all(|v| v != "n3"), "a disk of the old history takes no part");
}

/// Two segments, one of them with a damaged entry in the middle of the log: what is behind it is said to be lost, and
/// what is before it goes on.
#[test]
fn a_damaged_sole_log_goes_on_before_the_damage() {
    let mut cluster = Cluster::new();
    cluster.start("n1", &["--bootstrap"]);
    cluster.wait_status("n1", "it leads", |s| s.leader.is_some());
    for i in 0..10 {
        cluster.ask("n1", &["append", &format!("v{i}")]).ok();
    }
    cluster.kill("n1");
    let data = cluster.data("n1");
    let dir = data.to_str().unwrap().to_owned();
    let lines = dumped(&cluster, &dir, &["--entries"]);
    let entries = of_kind(&lines, "entry");
    let hit = entries.iter().find(|e| e["entry"] == "records" && e["offset"] == 6).unwrap();
    let segments = of_kind(&lines, "segment");
    assert_eq!(segments.iter().map(|s| s["records"].as_u64().unwrap()).sum::<u64>(), 10, "{segments:?}");
    assert_eq!(of_kind(&lines, "meta").len(), 1);
    let log_id = of_kind(&lines, "meta")[0]["log_id"].as_str().unwrap().to_owned();
    let text = cluster.run(&["log", "dump", "--data", &dir]);
    assert!(text.ok().contains("offsets 0..9") && text.out.contains(&log_id), "{}", text.out);

    let file = data.join("log").join(hit["file"].as_str().unwrap());
    let mut bytes = fs::read(&file).unwrap();
    let at = hit["at"].as_u64().unwrap() as usize + 170;
    bytes[at] ^= 1;
    fs::write(&file, &bytes).unwrap();
    assert_eq!(of_kind(&dumped(&cluster, &dir, &[]), "damage").len(), 1);
    let looked = cluster.run(&["recover", "--data", &dir, "--confirm", "?"]);
    looked.one_error(10);
    assert!(looked.out.contains("entries with 3 records behind the damage"), "{}", looked.out);
    let done = cluster.run(&["recover", "--data", &dir, "--confirm", &log_id, "--format", "json"]).json();
    assert_eq!((&done["records"], &done["damage"]["records_lost_behind"]), (&6.into(), &3.into()), "{done}");
    cluster.restart("n1", &[]);
    cluster.wait_status("n1", "it leads again", |s| s.leader.is_some() && s.next == 6);
    assert_eq!(cluster.ask("n1", &["append", "on"]).ok(), "6\n");
    let empty = cluster.path("empty");
    fs::create_dir(&empty).unwrap();
    for verb in [&["recover"][..], &["log", "dump"]] {
        cluster.run(&[verb, &["--data", empty.to_str().unwrap()]].concat()).one_error(8);
    }
}
