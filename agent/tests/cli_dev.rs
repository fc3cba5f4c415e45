//! The first minute of a stranger: development agents on this machine, and every command against them.

#![allow(clippy::unwrap_used)]
#![cfg(unix)]

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use tempfile::TempDir;

/// The ceiling of every wait; ten times what it should take.
const PATIENCE: &str = "60s";

/// A user of this machine: directories of its own, and the agents that it started.
struct User {
    dir: TempDir,
    agents: Vec<Child>,
}

impl User {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), agents: Vec::new() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
        for (key, _) in std::env::vars_os().filter(|(key, _)| key.to_string_lossy().starts_with("QUORATE_")) {
            command.env_remove(key);
        }
        command.env("QUORATE_RUNTIME_DIR", self.path("run")).env("XDG_DATA_HOME", self.path("share"));
        command.env("TMPDIR", self.dir.path()).args(args).stdin(Stdio::null());
        command
    }

    fn output(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// What a command that must succeed wrote to stdout.
    #[track_caller]
    fn ok(&self, args: &[&str]) -> String {
        let output = self.output(args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    #[track_caller]
    fn fails(&self, args: &[&str], code: i32) -> String {
        let output = self.output(args);
        let err = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {err}");
        err
    }

    fn json(&self, args: &[&str]) -> serde_json::Value {
        serde_json::from_str(&self.ok(&[args, &["--format", "json"]].concat())).unwrap()
    }

    /// Starts a development agent; its log goes to a file, so that nobody has to read a pipe.
    fn agent(&mut self, name: &str, more: &[&str]) {
        let log = std::fs::File::create(self.path(&format!("{name}.log"))).unwrap();
        let bind = ["agent", "--dev", "--name", name, "--bind", "127.0.0.1:0"];
        self.agents.push(self.command(&[&bind, more].concat()).stderr(log).spawn().unwrap());
    }

    fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(&format!("{name}.log"))).unwrap()
    }

    fn pipe(&self, args: &[&str], input: &[u8]) -> String {
        let mut child =
            self.command(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for User {
    fn drop(&mut self) {
        for agent in &mut self.agents {
            let _ = agent.kill();
            let _ = agent.wait();
        }
    }
}

fn terminate(agent: &Child) {
    let pid = rustix::process::Pid::from_child(agent);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
}

/// One agent without any configuration: what is appended is read back in every form the contract names.
#[test]
fn a_stranger_appends_and_reads_within_the_first_minute() {
    let mut user = User::new();
    user.agent("a", &[]);
    user.ok(&["members", "--wait", "leader", "--timeout", PATIENCE]);

    assert_eq!(user.ok(&["append", "hello"]), "0\n");
    assert_eq!(user.pipe(&["append", "-", "--batch", "2"], b"1\n{\"a\": 2}\n\xff\n"), "1..2\n3\n");
    let acked =
        user.json(&["append", "x=y", "--stream", "s", "--key", "k", "--type", "t", "-H", "h=1", "--correlation", "c"]);
    assert_eq!(
        (&acked["v"], &acked["first"], &acked["last"], &acked["deduped"]),
        (&1.into(), &4.into(), &4.into(), &false.into())
    );

    let text = user.ok(&["tail"]);
    let values: Vec<_> = text.lines().map(|line| line.split("  ").nth(4).unwrap()).collect();
    assert_eq!(values, ["hello", "1", "{\"a\": 2}", "\\xff", "x=y"]);
    let record = user.json(&["tail", "--stream", "s", "--key", "k"]);
    assert_eq!(
        (&record["offset"], &record["seq"], &record["type"], &record["headers"]["h"], &record["correlation_id"]),
        (&4.into(), &1.into(), &"t".into(), &"1".into(), &"c".into())
    );
    let raw = user.json(&["tail", "-o", "3:4"]);
    assert_eq!((&raw["value_b64"], raw.get("value")), (&"/w==".into(), None));
    for (spec, offsets) in [
        ("start", "0 1 2 3 4"),
        ("end", ""),
        ("2", "2 3 4"),
        ("+4", "4"),
        ("-2", "3 4"),
        ("1:3", "1 2"),
        ("@-1h", "0 1 2 3 4"),
        ("@2000-01-01T00:00:00Z", "0 1 2 3 4"),
    ] {
        let text = user.ok(&["tail", "-o", spec]);
        let got: Vec<_> = text.lines().map(|line| line.split("  ").next().unwrap()).collect();
        assert_eq!(got.join(" "), offsets, "-o {spec}");
    }
    assert_eq!(user.ok(&["tail", "-n", "2", "--read", "linear"]).lines().count(), 2);
    assert_eq!(user.ok(&["tail", "--read", "after=4"]).lines().count(), 5);
    user.fails(&["tail", "-o", "99"], 8);
    user.fails(&["members", "nobody"], 8);
    user.fails(&["members", "--wait", "alive=9", "--timeout", "300ms"], 124);

    let members = user.json(&["members"]);
    let only = &members["members"][0];
    assert_eq!((&only["name"], &only["state"], &only["raft"]), (&"a".into(), &"alive".into(), &"leader".into()));
    assert!(only["id"].is_string() && members["members"].as_array().unwrap().len() == 1);
    let status = user.json(&["status", "--check"]);
    assert_eq!((&status["leader"], &status["log"]["next"], &status["healthy"]), (&"a".into(), &5.into(), &true.into()));
    assert!(user.log("a").contains("removed when the agent ends"));
    // The last agent of a cluster does not leave it.
    user.fails(&["leave"], 10);

    // A mistyped flag is never written into the log; a value that looks like one stands behind `--`.
    user.fails(&["append", "-x"], 2);
    assert_eq!(user.ok(&["append", "--", "-x"]), "5\n");
}

/// Whoever reads stdout may stop at any time.
#[test]
fn a_closed_pipe_is_success() {
    let mut user = User::new();
    user.agent("a", &[]);
    user.ok(&["members", "--wait", "leader", "--timeout", PATIENCE]);
    let many: Vec<u8> = (0..20_000).flat_map(|i| format!("{i}\n").into_bytes()).collect();
    user.pipe(&["append", "-", "--batch", "1000"], &many);
    let mut tail = user.command(&["tail", "-f"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = String::new();
    BufReader::new(tail.stdout.take().unwrap()).read_line(&mut first).unwrap();
    assert!(first.starts_with("0  "), "{first}");
    let output = tail.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}

/// Three of them form a cluster by one address; what is kept comes back, what is not is gone.
#[test]
fn development_agents_join_leave_and_keep_what_was_to_be_kept() {
    let mut user = User::new();
    let data = user.path("data-a").display().to_string();
    user.agent("a", &["--data", &data]);
    user.ok(&["members", "--wait", "leader", "--timeout", PATIENCE]);
    let addr = user.json(&["members"])["members"][0]["addr"].as_str().unwrap().to_owned();
    user.agent("b", &["--join", &addr, "--tag", "rack=r1"]);
    user.agent("c", &["--join", &addr]);
    user.ok(&["members", "--wait", "voters=3", "--wait", "alive=3", "--timeout", PATIENCE]);
    assert_eq!(user.json(&["members", "--tag", "rack=r1"])["members"][0]["name"], "b");
    assert!(user.log("a").contains("(kept)"));
    assert_eq!(user.ok(&["append", "kept"]), "0\n");

    // Which one leaves must be said.
    assert!(user.fails(&["leave"], 2).contains("--agent"));
    user.ok(&["leave", "--agent", "c", "--timeout", PATIENCE]);
    user.ok(&["members", "--wait", "c=left", "--agent", "a", "--timeout", PATIENCE]);
    assert!(user.agents[2].wait().unwrap().success());

    // The same data directory twice is refused while its agent lives.
    assert!(user.fails(&["agent", "--dev", "--name", "a", "--data", &data], 75).contains("in use"));
    for i in [0, 1] {
        terminate(&user.agents[i]);
        assert!(user.agents[i].wait().unwrap().success());
    }
    let left: Vec<_> = std::fs::read_dir(user.dir.path()).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().starts_with("quorate-dev-")), "{left:?}");
    assert!(PathBuf::from(&data).is_dir());
    user.fails(&["members"], 3);
}

/// What could not be said still stands in the log, and does not look as if nothing had happened.
#[cfg(target_os = "linux")]
#[test]
fn an_append_that_cannot_speak_is_no_failed_append() {
    let mut user = User::new();
    user.agent("a", &[]);
    user.ok(&["members", "--wait", "leader", "--timeout", PATIENCE]);
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let status = user.command(&["append", "x"]).stdout(full).stderr(Stdio::null()).status().unwrap();
    assert_eq!(status.code(), Some(7));
    assert_eq!(user.ok(&["tail"]).lines().count(), 1);
    // Nobody reads the ranges any more; the lines are appended all the same.
    let mut append = user.command(&["append", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    drop(append.stdout.take());
    std::io::Write::write_all(&mut append.stdin.take().unwrap(), b"1\n2\n3\n").unwrap();
    assert_eq!(append.wait().unwrap().code(), Some(0));
    assert_eq!(user.ok(&["tail"]).lines().count(), 4);
}
