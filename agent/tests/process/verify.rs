//! A data directory is checked while nobody uses it, and all that is damaged in it is named.

use crate::cluster::{Cluster, wait_until};
use crate::history::Load;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Every file below `dir`: its bytes and when it was last changed.
fn picture(dir: &Path) -> BTreeMap<PathBuf, (Vec<u8>, SystemTime)> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            all.append(&mut picture(&path));
        } else {
            all.insert(path.clone(), (fs::read(&path).unwrap(), entry.metadata().unwrap().modified().unwrap()));
        }
    }
    all
}

/// In use: 75. Killed under load: whole, whatever the kill tore. Two flipped bits: 11, with file and byte of both, and
/// what they cost. Nothing there: 8. And never is a byte changed.
#[test]
fn a_data_directory_is_verified() {
    let mut cluster = Cluster::of(3);
    let load = Load::on(&cluster, 4);
    wait_until("there is something to check", || (cluster.status("n1").ok()?.next > 200).then_some(()));
    let victim = cluster.other_than(&cluster.leader());
    let data = cluster.data(&victim);
    let dir = data.to_str().unwrap().to_owned();
    cluster.run(&["verify", "--data", &dir]).one_error(75);
    cluster.kill(&victim);
    load.stop(&cluster);

    let before = picture(&data);
    let said = cluster.run(&["verify", "--data", &dir, "--format", "json"]).json();
    assert_eq!((&said["v"], &said["damaged"], &said["more_damaged"]), (&1.into(), &serde_json::json!([]), &0.into()));
    let records = said["records"].as_u64().unwrap();
    assert!(records > 100 && said["segments"].as_u64().unwrap() > 0 && said["bytes"].as_u64().unwrap() > 0, "{said}");
    let text = cluster.run(&["verify", "--data", &dir]);
    assert!(text.ok().contains("damaged   none") && text.err.is_empty(), "{}{}", text.out, text.err);
    assert!(picture(&data) == before, "nothing was changed");

    let log = data.join("log");
    let segment =
        fs::read_dir(&log).unwrap().map(|e| e.unwrap().path()).find(|p| p.extension().is_some_and(|e| e == "wal"));
    let segment = segment.unwrap();
    let mut bytes = fs::read(&segment).unwrap();
    // In the body of the first frame, and in the header of the one behind it.
    let body = 4096 + 60;
    let len = u32::from_le_bytes(bytes[4100..4104].try_into().unwrap()) as usize;
    let second = 4096 + (56 + len).next_multiple_of(8);
    bytes[body] ^= 4;
    bytes[second + 20] ^= 1;
    fs::write(&segment, &bytes).unwrap();
    let before = picture(&data);
    let bad = cluster.run(&["verify", "--data", &dir, "--format", "json"]);
    assert_eq!(bad.json_error(11)["code"], "corrupt");
    let found: serde_json::Value = serde_json::from_str(&bad.out).unwrap();
    let name = segment.file_name().unwrap().to_str().unwrap();
    let damaged = found["damaged"].as_array().unwrap();
    let places: Vec<_> = damaged.iter().map(|d| (d["file"].as_str().unwrap(), d["offset"].as_u64().unwrap())).collect();
    assert_eq!(places, [(name, 4096), (name, second as u64)], "{found}");
    assert_eq!((&damaged[0]["first_index"], &damaged[0]["last_index"]), (&1.into(), &1.into()), "{found}");
    assert_eq!((&damaged[1]["first_index"], &damaged[1]["last_index"]), (&2.into(), &2.into()), "{found}");
    assert!(found["records"].as_u64().unwrap() >= records - 1, "all others are still counted: {found}");
    let said = cluster.run(&["verify", "--data", &dir]);
    assert!(said.one_error(11).contains("in 2 places"), "{}", said.err);
    assert!(said.out.contains(&format!("{name} at byte 4096: entry 1 does not match")), "{}", said.out);
    assert!(picture(&data) == before, "nothing was changed");

    let empty = cluster.path("empty");
    fs::create_dir(&empty).unwrap();
    cluster.run(&["verify", "--data", empty.to_str().unwrap()]).one_error(8);
    cluster.run(&["verify", "--data", cluster.path("nowhere").to_str().unwrap()]).one_error(8);
    assert!(picture(&empty).is_empty() && !cluster.path("nowhere").exists());
}
