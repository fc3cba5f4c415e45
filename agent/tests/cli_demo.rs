//! The demo is a promise about the whole house, so it runs with the tests.

#![allow(clippy::unwrap_used)]

use std::process::{Command, Stdio};

fn demo(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
    for (key, _) in std::env::vars_os().filter(|(key, _)| key.to_string_lossy().starts_with("QUORATE_")) {
        command.env_remove(key);
    }
    command.arg("demo").args(args).stdin(Stdio::null());
    command
}

/// Formation, kill -9 of the leader, restart, kill -9 of all, restart: nothing acknowledged is lost or doubled.
#[test]
fn the_demo_ends_well_and_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let output = demo(&["--records", "1000", "--format", "json"]).env("TMPDIR", dir.path()).output().unwrap();
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success(), "{err}");
    let report: serde_json::Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
    assert_eq!((&report["v"], &report["lost"], &report["duplicated"]), (&1.into(), &0.into(), &0.into()));
    assert_eq!(report["identical"], true);
    assert!(report["records"].as_u64().unwrap() >= 1000, "{report}");
    for figure in ["formed_ms", "failover_ms", "unknown"] {
        assert!(report[figure].is_u64(), "{figure} in {report}");
    }
    println!("{report}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "the temporary directory is empty again");
}

/// Ctrl-C in the middle: every agent is ended and nothing is left on disk.
#[cfg(unix)]
#[test]
fn an_interrupted_demo_cleans_up() {
    use std::io::{BufRead, BufReader};
    let dir = tempfile::tempdir().unwrap();
    let mut child = demo(&["--records", "1000000"])
        .env("TMPDIR", dir.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let formed = BufReader::new(child.stdout.take().unwrap()).lines().any(|line| line.unwrap().contains("formed"));
    assert!(formed);
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "the temporary directory is empty again");
}
