//! Data directories of agents that do not run: copied, and looked into. It changes none of them.

use crate::cluster::Cluster;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// Copies a data directory as `cp -a` would.
pub(crate) fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    fs::set_permissions(to, fs::metadata(from).unwrap().permissions()).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// What a log of a stopped agent holds: the place of each entry with records.
pub(crate) fn entries(cluster: &Cluster, name: &str) -> Vec<(PathBuf, usize)> {
    let data = cluster.data(name);
    let said = cluster.run(&["log", "dump", "--data", data.to_str().unwrap(), "--entries", "--format", "json"]);
    let lines: Vec<Value> = said.ok().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let records = lines.iter().filter(|line| line["entry"] == "records");
    let place = |e: &Value| (data.join("log").join(e["file"].as_str().unwrap()), e["at"].as_u64().unwrap() as usize);
    records.map(place).collect()
}
