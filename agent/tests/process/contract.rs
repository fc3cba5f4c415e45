//! The command line against real agents: exit codes, shapes of JSON, and how it finds whom to ask.

use crate::cluster::{Cluster, wait_until};
use crate::said::Said;
use quorate_certs::Role;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::time::Duration;

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

fn sorted<const N: usize>(mut names: [&str; N]) -> [&str; N] {
    names.sort_unstable();
    names
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// `members` and `status` in both formats, filters, `--wait`, `--check`.
#[test]
fn members_and_status_keep_their_shapes() {
    let mut cluster = Cluster::new();
    cluster.start("n1", &["--bootstrap", "--tag", "rack=r1"]);
    let seed = cluster.addr("n1").to_string();
    // A wait begins before what it waits for.
    let waiting = {
        let mut command = cluster.ask_command(
            "n1",
            &cluster.client_certs("admin", Role::Admin),
            &["members", "--wait", "alive=3,voters=3,leader,n3=voter", "--timeout", "50s", "--format", "json"],
        );
        command.stdout(Stdio::piped()).spawn().unwrap()
    };
    cluster.start("n2", &["--join", &seed]);
    cluster.start("n3", &["--join", &seed, "--tag", "rack=r2"]);
    let waited = waiting.wait_with_output().unwrap();
    assert_eq!(waited.status.code(), Some(0));
    let waited: Value = serde_json::from_slice(&waited.stdout).unwrap();
    assert_eq!((waited["v"].clone(), waited["members"].as_array().unwrap().len()), (json!(1), 3));
    cluster.wait_group(3, 0);
    cluster.wait_member("n1", "all alive", |all| all.iter().all(|m| m.state == "alive"));

    let members = cluster.ask("n1", &["members", "--format", "json"]).json();
    assert_eq!(keys(&members), ["members", "v"]);
    for member in members["members"].as_array().unwrap() {
        let expected =
            sorted(["name", "id", "addr", "state", "raft", "lag", "rtt_ms", "version", "tags", "draining", "pinned"]);
        assert_eq!(keys(member), expected);
        assert!(member["id"].is_string() && member["tags"].is_object(), "{member}");
        assert_eq!(member["version"], env!("CARGO_PKG_VERSION"));
    }
    let names = |said: Said| -> Vec<String> {
        let object = said.json();
        object["members"].as_array().unwrap().iter().map(|m| m["name"].as_str().unwrap().to_owned()).collect()
    };
    let ask = |args: &[&str]| cluster.ask("n2", &[&["members", "--format", "json"][..], args].concat());
    assert_eq!(names(ask(&["n3"])), ["n3"]);
    assert_eq!(names(ask(&["--tag", "rack=r1"])), ["n1"]);
    assert_eq!(names(ask(&["--state", "alive"])), ["n1", "n2", "n3"]);
    assert!(names(ask(&["--state", "failed"])).is_empty());
    assert_eq!(ask(&["nobody"]).json_error(8)["code"], "not_found");
    let late = ask(&["--wait", "voters=5", "--timeout", "300ms"]);
    assert_eq!(late.json_error(124)["code"], "wait_timeout");
    let text = cluster.ask("n2", &["members"]);
    let header: Vec<_> = text.ok().lines().next().unwrap().split_whitespace().collect();
    assert_eq!(header, ["NAME", "ADDRESS", "STATE", "RAFT", "LAG", "RTT", "VERSION", "TAGS"]);
    assert_eq!((text.out.lines().count(), text.err.as_str()), (4, ""));

    for name in ["n1", "n2", "n3"] {
        let status = cluster.ask(name, &["status", "--check", "--format", "json"]).json();
        let expected = sorted([
            "v",
            "cluster",
            "log_id",
            "name",
            "leader",
            "term",
            "healthy",
            "voters",
            "learners",
            "tolerates",
            "log",
            "problem_codes",
            "problems",
            "draining",
            "append",
            "disk",
            "space",
            "queues",
        ]);
        assert_eq!(keys(&status), expected);
        assert_eq!(keys(&status["space"]), sorted(["free", "total", "reserve", "full"]));
        assert_eq!(keys(&status["append"]), sorted(["queue", "fsync", "replicate", "total"]));
        assert_eq!(keys(&status["append"]["fsync"]), sorted(["count", "p50_us", "p90_us", "p99_us", "max_us"]));
        assert_eq!(keys(&status["log"]), sorted(["first", "next", "committed_index", "applied_index", "bytes"]));
        assert_eq!(status["cluster"], cluster.id().to_string());
        assert_eq!((&status["name"], &status["voters"]), (&json!(name), &json!(["n1", "n2", "n3"])));
        assert_eq!(
            (&status["tolerates"], &status["healthy"], &status["problems"]),
            (&json!(1), &json!(true), &json!([]))
        );
        assert!(status["log_id"].is_string() && status["term"].is_u64(), "{status}");
    }

    // A dead voter is a problem, and gossip says which one it is.
    cluster.kill("n3");
    let failed = cluster.ask("n1", &["members", "n3", "--wait", "n3=failed", "--timeout", "50s", "--format", "json"]);
    assert_eq!(failed.json()["members"][0]["state"], "failed");
    let check = cluster.ask("n1", &["status", "--check"]);
    assert_eq!(check.code, 9);
    assert!(check.out.contains("NOT HEALTHY") && check.out.contains("n3"), "{}", check.out);
    assert!(cluster.status("n1").unwrap().voters.contains(&"n3".to_owned()), "gossip alone takes no seat away");
}

/// `append` and `tail`: values, batches, offsets, filters, and every field of a record.
#[test]
fn append_and_tail_keep_their_shapes() {
    let mut cluster = Cluster::new();
    cluster.start("n1", &["--bootstrap"]);
    cluster.wait_group(1, 0);
    let ask = |args: &[&str]| cluster.ask("n1", args);
    let ack = ask(&[
        "append",
        "{\"total\": 42.0}",
        "--stream",
        "orders",
        "--key",
        "alice",
        "--type",
        "order.created",
        "-H",
        "a=1",
        "-H",
        "b=x=y",
        "--correlation",
        "c-1",
        "--format",
        "json",
    ])
    .json();
    assert_eq!(keys(&ack), sorted(["v", "first", "last", "term", "time", "deduped"]));
    assert_eq!(
        (&ack["v"], &ack["first"], &ack["last"], &ack["deduped"]),
        (&json!(1), &json!(0), &json!(0), &json!(false))
    );
    let certs = cluster.client_certs("admin", Role::Admin);
    let from_stdin = |args: &[&str], input: &[u8]| Said::to(&mut cluster.ask_command("n1", &certs, args), input);
    // Lines are values verbatim; one range is printed for each batch.
    assert_eq!(from_stdin(&["append", "-", "--batch", "2"], b"one\n two \n\nfour").ok(), "1..2\n3..4\n");
    let acks = from_stdin(&["append", "-", "--format", "json"], b"five\n\xff\n");
    let acks = lines(acks.ok());
    assert_eq!(acks.iter().map(|a| a["first"].as_u64().unwrap()).collect::<Vec<_>>(), [5, 6]);
    assert_eq!(from_stdin(&["append", "-"], b"").ok(), "");
    assert_eq!(ask(&["append", "-5"]).ok(), "7\n", "a value may look like a flag");

    let all = ask(&["tail", "--format", "json"]);
    let records = lines(all.ok());
    let expected = sorted([
        "offset",
        "shard",
        "term",
        "time",
        "lamport",
        "stream",
        "seq",
        "key",
        "type",
        "headers",
        "correlation_id",
        "causation_id",
        "producer",
        "value",
    ]);
    assert_eq!(keys(&records[0]), expected);
    let first = &records[0];
    assert_eq!(
        (&first["stream"], &first["key"], &first["type"]),
        (&json!("orders"), &json!("alice"), &json!("order.created"))
    );
    assert_eq!((&first["headers"], &first["correlation_id"]), (&json!({"a": "1", "b": "x=y"}), &json!("c-1")));
    assert_eq!((&first["value"], &first["seq"], &first["time"]), (&json!({"total": 42.0}), &json!(1), &ack["time"]));
    let values: Vec<_> = records[1..6].iter().map(|r| r["value"].as_str().unwrap()).collect();
    assert_eq!(values, ["one", " two ", "", "four", "five"]);
    assert_eq!((&records[6]["value_b64"], records[6].get("value")), (&json!("/w=="), None));
    assert_eq!(records[7]["value"], json!(-5));
    let numbers = |name: &str| -> Vec<u64> { records.iter().map(|r| r[name].as_u64().unwrap()).collect() };
    assert_eq!(numbers("offset"), [0, 1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(numbers("seq"), [1, 1, 2, 3, 4, 5, 6, 7], "the number within its stream");
    assert!(numbers("lamport").is_sorted_by(|a, b| a < b));

    let offsets = |args: &[&str]| -> Vec<u64> {
        let said = ask(&[&["tail", "--format", "json"][..], args].concat());
        lines(said.ok()).iter().map(|r| r["offset"].as_u64().unwrap()).collect()
    };
    assert_eq!(offsets(&["-o", "6"]), [6, 7]);
    assert_eq!(offsets(&["-o", "+6"]), [6, 7]);
    assert_eq!(offsets(&["-o", "-2"]), [6, 7]);
    assert_eq!(offsets(&["-o", "2:4"]), [2, 3]);
    assert_eq!(offsets(&["-o", "2:4", "-f"]), [2, 3], "a known end ends a tail that follows");
    assert_eq!(offsets(&["-o", "start", "-n", "3"]), [0, 1, 2]);
    assert_eq!(offsets(&["-o", "2", "-n", "1"]), [2], "inside a batch");
    assert!(offsets(&["-o", "end"]).is_empty());
    assert_eq!(offsets(&["-o", "@-1h"]).len(), 8);
    assert_eq!(offsets(&["--stream", "orders"]), [0]);
    assert_eq!(offsets(&["--key", "alice", "--stream", "orders"]), [0]);
    assert!(offsets(&["--key", "bob"]).is_empty());
    assert_eq!(offsets(&["--read", "linear", "-o", "7"]), [7]);
    assert_eq!(offsets(&["--read", "after=7", "-o", "7"]), [7]);
    assert_eq!(ask(&["tail", "-o", "99"]).code, 8, "an offset that does not exist");
    assert_eq!(ask(&["tail", "--read", "after=99", "--timeout", "300ms"]).code, 6, "a freshness that does not come");
    let text = ask(&["tail", "-n", "1"]);
    let parts: Vec<_> = text.ok().trim_end().split("  ").collect();
    assert_eq!((parts[0], parts[2], parts[3], parts[4]), ("0", "orders", "alice", "{\"total\": 42.0}"));
}

/// A reader that follows, printing to a pipe.
struct Follower {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Follower {
    fn of(cluster: &Cluster, name: &str, args: &[&str]) -> Self {
        let args = [&["tail", "-f"][..], args].concat();
        let certs = cluster.client_certs("admin", Role::Admin);
        let mut child = cluster.ask_command(name, &certs, &args).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    /// Its next line; blocks until it comes.
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line
    }

    /// Nobody reads any more; its exit code.
    fn close(mut self) -> Option<i32> {
        drop(self.lines);
        wait_until("a tail without a reader ends", || self.child.try_wait().unwrap()).code()
    }
}

/// `quorate tail -f` through each agent goes on over a change of the leader and over the death of the agent it read
/// from, without a gap or a duplicate; a closed pipe is success (behaviour 5).
#[test]
fn the_command_follows_over_a_change_of_the_leader() {
    let mut cluster = Cluster::of(3);
    let names = cluster.running();
    let mut followers: Vec<_> = names.iter().map(|name| Follower::of(&cluster, name, &[])).collect();
    // One that is sent to a leader which is just killed may end unknown; the next one knows.
    let append_through_each = |cluster: &Cluster, what: &str| {
        for name in cluster.running() {
            let value = format!("{what} through {name}");
            wait_until("an append is acked", || {
                let said = cluster.ask(&name, &["append", &value, "--timeout", "50s"]);
                assert!([0, 7].contains(&said.code), "exit {}: {}", said.code, said.err);
                (said.code == 0).then_some(())
            });
        }
    };
    // What a fresh reader finds, every follower has printed, line by line.
    let mut read = 0;
    let mut read_all = |cluster: &Cluster| {
        let all = cluster.ask(&cluster.running()[0], &["tail", "--read", "linear"]);
        let all: Vec<_> = all.ok().lines().collect();
        for expected in &all[read..] {
            for follower in &mut followers {
                assert_eq!(follower.line().trim_end_matches('\n'), *expected);
            }
        }
        assert!(all.len() > read);
        read = all.len();
    };
    append_through_each(&cluster, "at first");
    read_all(&cluster);
    for round in ["after one kill", "after two kills"] {
        let leader = cluster.leader();
        cluster.kill(&leader);
        append_through_each(&cluster, round);
        read_all(&cluster);
        cluster.restart(&leader, &[]);
        cluster.wait_group(3, 0);
    }
    append_through_each(&cluster, "at last");
    read_all(&cluster);

    // Each notices at its next line that nobody reads, and that is no error.
    let certs = cluster.client_certs("admin", Role::Admin);
    let stop = std::thread::scope(|scope| {
        let codes: Vec<_> = followers.into_iter().map(|follower| scope.spawn(|| follower.close())).collect();
        let name = cluster.running()[0].clone();
        wait_until("every follower has ended", || {
            let said = Said::by(&mut cluster.ask_command(&name, &certs, &["append", "one more"]));
            assert_eq!(said.code, 0, "{}", said.err);
            codes.iter().all(|code| code.is_finished()).then_some(())
        });
        codes.into_iter().map(|code| code.join().unwrap()).collect::<Vec<_>>()
    });
    assert_eq!(stop, [Some(0); 3]);
    // So is one that is closed in the middle of much.
    let mut much = Follower::of(&cluster, &cluster.running()[0], &["--format", "json"]);
    assert!(much.line().starts_with('{'));
    let name = cluster.running()[0].clone();
    let input = vec![b'\n'; 20_000];
    assert_eq!(Said::to(&mut cluster.ask_command(&name, &certs, &["append", "-", "--batch", "1000"]), &input).code, 0);
    assert_eq!(much.close(), Some(0));
}

/// Without `--addr` a command finds the agents of this machine: any of one log serves, several logs are listed to
/// choose from, and what is about one agent is never guessed.
#[test]
fn a_command_finds_the_agents_of_this_machine() {
    let mut cluster = Cluster::of(2);
    assert_eq!(cluster.run(&["append", "x"]).ok(), "0\n");
    assert_eq!(cluster.run(&["status", "--agent", "n2", "--format", "json"]).json()["name"], "n2");
    let said = cluster.run(&["leave"]);
    let line = said.one_error(2);
    assert!(line.contains("n1 at") && line.contains("n2 at") && line.contains("--agent"), "{line}");
    assert!(cluster.run(&["status", "--agent", "n7"]).one_error(3).contains("n7"));
    let by_variable = Said::by(cluster.command(&["status", "--format", "json"]).env("QUORATE_AGENT", "n2"));
    assert_eq!(by_variable.json()["name"], "n2");

    // A second cluster on the same machine.
    let mut other = Cluster::new();
    let mut founder = other.agent_command("m1", "127.0.0.1:0", &["--bootstrap"]);
    founder.env("QUORATE_RUNTIME_DIR", cluster.path("run"));
    other.spawn_in(&cluster.path("run"), "m1", founder).unwrap();
    other.wait_group(1, 0);
    let said = cluster.run(&["append", "x"]);
    let line = said.one_error(2);
    assert!(["n1 at", "n2 at", "m1 at", "--agent"].iter().all(|part| line.contains(part)), "{line}");
    assert_eq!(cluster.run(&["append", "x", "--agent", "m1"]).ok(), "0\n");
    assert_eq!(cluster.run(&["append", "x", "--agent", "n1"]).ok(), "1\n");

    // What a killed agent left behind misleads nobody.
    other.kill("m1");
    assert_eq!(cluster.run(&["append", "x"]).ok(), "2\n");
    cluster.kill("n2");
    cluster.stop("n1");
    let nobody = cluster.run(&["status", "--timeout", "2s"]);
    nobody.one_error(3);
    assert!(nobody.took < Duration::from_secs(20));
}
