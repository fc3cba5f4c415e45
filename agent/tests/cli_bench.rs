//! `quorate bench` with real agents: the shape of what it tells, its checks, and that it leaves nothing behind. Never how
//! fast anything was.

#![allow(clippy::unwrap_used)]

use serde_json::Value;
use std::process::{Child, Command, Output, Stdio};
use tempfile::TempDir;

/// As short as a measurement can be.
const SHORT: [&str; 6] = ["--duration", "300ms", "--warm-up", "100ms", "--floor", "50ms"];

/// A user of this machine, who sees no other agent.
struct User {
    dir: TempDir,
}

impl User {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
        for (key, _) in std::env::vars_os().filter(|(key, _)| key.to_string_lossy().starts_with("QUORATE_")) {
            command.env_remove(key);
        }
        let path = |name: &str| self.dir.path().join(name);
        std::fs::create_dir_all(path("tmp")).unwrap();
        command.env("QUORATE_RUNTIME_DIR", path("run")).env("XDG_DATA_HOME", path("share")).env("TMPDIR", path("tmp"));
        command.args(args).stdin(Stdio::null());
        command
    }

    fn bench(&self, args: &[&str]) -> Output {
        self.command(&[&["bench"], args].concat()).output().unwrap()
    }

    #[track_caller]
    fn report(&self, args: &[&str]) -> Value {
        let output = self.bench(&[args, &SHORT, &["--verify", "--format", "json"]].concat());
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["v"], 1);
        let verify = &report["verify"];
        for wrong in ["lost", "duplicated", "altered", "misplaced", "uncalled"] {
            assert_eq!(verify[wrong], 0, "{wrong} in {verify}");
        }
        // What was acknowledged during the warm-up is read back as well.
        let records: u64 = report["runs"].as_array().unwrap().iter().map(|run| run["records"].as_u64().unwrap()).sum();
        assert!(records > 0 && verify["acked"].as_u64().unwrap() >= records, "{report}");
        report
    }

    fn is_tidy(&self) -> bool {
        std::fs::read_dir(self.dir.path().join("tmp")).unwrap().count() == 0
    }
}

/// An agent that ends with the test.
struct Agent(Child);

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[track_caller]
fn assert_ordered(latency: &Value) {
    let figures = ["p50_us", "p90_us", "p99_us", "p999_us", "max_us"].map(|at| latency[at].as_f64().unwrap());
    assert!(figures[0] > 0.0 && figures.is_sorted(), "{latency}");
}

/// The cluster that any command finds: one development agent.
#[test]
fn a_running_cluster_is_measured_and_every_record_read_back() {
    let user = User::new();
    let agent = ["agent", "--dev", "--name", "a", "--bind", "127.0.0.1:0", "--log", "error"];
    let _agent = Agent(user.command(&agent).stderr(Stdio::null()).spawn().unwrap());
    let led = user.command(&["members", "--wait", "leader", "--timeout", "60s"]).output().unwrap();
    assert!(led.status.success(), "{}", String::from_utf8_lossy(&led.stderr));

    let report = user.report(&["--in-flight", "1,8", "--clients", "2", "--runs", "2"]);
    let runs = report["runs"].as_array().unwrap();
    let order: Vec<_> =
        runs.iter().map(|run| (run["in_flight"].as_u64().unwrap(), run["run"].as_u64().unwrap())).collect();
    assert_eq!(order, [(1, 1), (8, 1), (1, 2), (8, 2)]);
    for run in runs {
        assert_ordered(&run["latency"]);
        assert_ordered(&run["corrected"]);
        assert_eq!((&run["rate"], &run["lateness"], &run["forwarded"]), (&Value::Null, &Value::Null, &0.into()));
        assert!(run["floor_ratio"].as_f64().unwrap() > 0.0, "{run}");
        if cfg!(target_os = "linux") {
            assert!(run["agents_cpu_s_per_100k"].as_f64().unwrap() >= 0.0, "{run}");
        }
    }
    assert_eq!(report["floors"].as_array().unwrap().len(), 5, "before the first run and after each");
    assert!(report["floors"].as_array().unwrap().iter().all(|f| f["missing"] == Value::Array(Vec::new())), "{report}");
    assert!(report["stages"]["total"]["count"].as_u64().unwrap() > 0, "{report}");
    let summary = report["summary"].as_array().unwrap();
    assert_eq!(summary.len(), 2);
    assert!(summary.iter().all(|all| all["runs"] == 2 && all["p50_us"]["median"].as_f64().unwrap() > 0.0));
    assert_eq!((&report["cluster"]["own"], &report["cluster"]["voters"]), (&false.into(), &1.into()));

    // For people: the same columns in every line, and nothing on stderr.
    let text = user.bench(&[&["--in-flight", "4"], &SHORT[..]].concat());
    assert!(text.status.success());
    assert_eq!(String::from_utf8(text.stderr).unwrap(), "");
    let text = String::from_utf8(text.stdout).unwrap();
    let header = text.lines().position(|line| line.contains("records/s") && line.contains("x floor")).unwrap();
    let row = text.lines().nth(header + 1).unwrap();
    assert_eq!(row.split_whitespace().take(2).collect::<Vec<_>>(), ["4", "1"]);
}

/// A cluster of its own, loaded by several processes on a schedule, in batches.
#[test]
fn a_cluster_of_its_own_is_loaded_by_several_processes_and_ended() {
    let user = User::new();
    let report = user.report(&["--nodes", "3", "--processes", "2", "--rate", "400", "--batch", "4", "--size", "100"]);
    let run = &report["runs"][0];
    assert_ordered(&run["latency"]);
    assert_eq!((&run["rate"], &run["corrected"]), (&400.0.into(), &Value::Null));
    assert!(run["lateness"]["max_us"].as_f64().unwrap() > 0.0, "{run}");
    // Two schedules of fifty appends a second each, for three tenths of a second.
    let (sent, unsent) = (run["latency"]["samples"].as_u64().unwrap(), run["unissued"].as_u64().unwrap());
    assert!(
        sent <= 30 && sent + run["unknown"].as_u64().unwrap() + run["not_applied"].as_u64().unwrap() >= 28,
        "{run}"
    );
    assert!(unsent <= sent, "{run}");
    assert_eq!((&report["cluster"]["own"], &report["cluster"]["voters"]), (&true.into(), &3.into()));
    assert_eq!(report["agents"].as_array().unwrap().len(), 3);
    assert!(user.is_tidy(), "the directory of the cluster is gone");
}

/// Who may only read is told so at once, and not after the hour that was to be measured.
#[test]
fn a_load_that_is_not_allowed_ends_at_once() {
    let user = User::new();
    let certs = user.dir.path().join("certs").display().to_string();
    for args in [
        &["certs", "init"][..],
        &["certs", "issue", "agent", "a"][..],
        &["certs", "issue", "client", "reader", "--role", "read"][..],
    ] {
        let made = user.command(&[args, &["--out", &certs]].concat()).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }
    let (data, of_agent) = (user.dir.path().join("data").display().to_string(), format!("{certs}/a"));
    let agent =
        ["agent", "--data", &data, "--certs", &of_agent, "--bind", "127.0.0.1:0", "--bootstrap", "--log", "error"];
    let _agent = Agent(user.command(&agent).stderr(Stdio::null()).spawn().unwrap());
    let led = user.command(&["members", "--wait", "leader", "--timeout", "60s"]).output().unwrap();
    assert!(led.status.success(), "{}", String::from_utf8_lossy(&led.stderr));
    let reader = format!("{certs}/reader");
    for processes in ["1", "2"] {
        let args = ["--certs", &reader, "--duration", "1h", "--floor", "0s", "--rate", "10", "--processes", processes];
        let output = user.bench(&args);
        let err = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(4), "{err}");
        assert!(err.starts_with("error: ") && err.contains("role append"), "{err}");
    }
}

#[test]
fn what_cannot_be_measured_is_refused_before_anything_starts() {
    let user = User::new();
    for (args, code) in [
        (&["--rate", "10", "--in-flight", "1,2"][..], 2),
        (&["--in-flight", "2", "--batch", "3"][..], 2),
        (&["--nodes", "3", "--addr", "127.0.0.1:1"][..], 2),
        (&["--nodes", "8"][..], 2),
        (&["--size", "31"][..], 2),
        (&["--timeout", "200ms"][..], 3),
        (&["--nodes", "3", "--dir", "/nowhere/at/all"][..], 1),
    ] {
        let output = user.bench(args);
        let err = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {err}");
        assert!(err.starts_with("error: ") && output.stdout.is_empty(), "{args:?}: {err}");
    }
    assert!(user.is_tidy());
}

/// Ctrl-C in the middle: every agent is ended and nothing is left on disk.
#[cfg(unix)]
#[test]
fn an_interrupted_measurement_cleans_up() {
    use std::io::{BufRead, BufReader};
    let user = User::new();
    let args = ["bench", "--nodes", "1", "--duration", "1h", "--processes", "2", "--floor", "50ms"];
    let mut child = user.command(&args).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let begun = BufReader::new(child.stdout.take().unwrap()).lines().any(|line| line.unwrap().contains("records/s"));
    assert!(begun);
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(user.is_tidy());
}
