//! A short torture with every test run: that the torturer itself works, and a cluster that nothing can tempt to lie.

#![allow(clippy::unwrap_used)]
#![cfg(unix)]

use std::process::{Command, Stdio};

fn torture(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
    for (key, _) in std::env::vars_os().filter(|(key, _)| key.to_string_lossy().starts_with("QUORATE_")) {
        command.env_remove(key);
    }
    command.arg("torture").args(args).stdin(Stdio::null());
    command
}

/// A quarter of a minute of kills, stops, partitions, bad weather and damage, on all agents too: every promise is kept, and nothing is left behind.
#[test]
fn a_short_torture_ends_well_and_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().to_str().unwrap();
    let args = ["--seed", "5", "--minutes", "0.25", "--dir", place, "--format", "json"];
    let output = torture(&args).output().unwrap();
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success(), "{out}{err}");
    let report: serde_json::Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
    assert_eq!((&report["v"], &report["good"], &report["seed"]), (&1.into(), &true.into(), &5.into()));
    assert_eq!((&report["anomalies"], &report["findings"]), (&serde_json::json!({}), &serde_json::json!([])));
    let positive = |figure: &serde_json::Value| assert!(figure.as_u64().unwrap() > 0, "{report}");
    for figure in ["operations", "records", "kills", "elections", "damages", "longest_unavailable_ms"] {
        positive(&report[figure]);
    }
    positive(&report["appends"]["acked"]);
    positive(&report["reads"]["records_seen"]);
    positive(&report["links"]["datagrams"]);
    println!("{report}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "the directory is empty again");
}

/// Ctrl-C in the middle: every agent is ended, also one that is stopped, and nothing is left on disk.
#[test]
fn an_interrupted_torture_cleans_up() {
    use std::io::{BufRead, BufReader};
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().to_str().unwrap();
    let mut child = torture(&["--seed", "1", "--minutes", "5", "--dir", place])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let formed = BufReader::new(child.stdout.take().unwrap()).lines().any(|line| line.unwrap().contains("3 voters"));
    assert!(formed);
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "the directory is empty again");
}
