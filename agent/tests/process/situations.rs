//! Situations that the doctor has to tell, made with real processes: clocks, disks, elections, and what operators leave behind.
#![cfg(target_os = "linux")]

use crate::cluster::{Cluster, wait_until};
use crate::shim::{self, NO_SHIM};
use crate::small_disk::{self, NO_DISK, SmallDisk};
use crate::told::{PATIENCE, finding, json, wait_among, wait_first};
use serde_json::Value;
use std::fs;
use std::process::{Command, Stdio};

fn asked(cluster: &Cluster, name: &str) -> (i32, Value) {
    let said = cluster.ask(name, &["doctor", "--format", "json", "--timeout", PATIENCE]);
    (said.code, json(&said))
}

/// The wall clock is as many seconds ahead as the file `AHEAD` says.
const CLOCK: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static long ahead(void) {
    char text[32] = {0};
    const char *path = getenv("AHEAD");
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0) return 0;
    ssize_t len = read(fd, text, sizeof text - 1);
    close(fd);
    return len > 0 ? atol(text) : 0;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int (*real)(clockid_t, struct timespec *) = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int ended = real(clock, now);
    if (ended == 0 && clock == CLOCK_REALTIME) now->tv_sec += ahead();
    return ended;
}
"#;

/// The clock of one machine is two minutes ahead: it is told through every agent, as the clock of that one, and that nothing
/// but the clock is wrong. Set right at once, it has jumped.
#[test]
fn a_clock_that_is_wrong_is_told() {
    let mut cluster = Cluster::of(2);
    let Some(shim) = shim::make(&cluster, CLOCK) else { return println!("{NO_SHIM}") };
    let (seed, ahead) = (cluster.addr("n1").to_string(), cluster.path("ahead"));
    fs::write(&ahead, "150").unwrap();
    let mut command = cluster.agent_command("n3", "127.0.0.1:0", &["--join", &seed]);
    command.env("LD_PRELOAD", &shim).env("AHEAD", &ahead);
    cluster.spawn("n3", command).unwrap();
    for name in ["n3", "n1", "n2"] {
        let answer = wait_first(|| asked(&cluster, name), 9, "E0140", &["compares with"]);
        let first = &answer["findings"][0];
        assert!(first["about"] == "n3" && first["title"].as_str().unwrap().contains("2 min ahead"), "{answer}");
        assert!(first["next"].to_string().contains("NTP"), "{answer}");
    }
    fs::write(&ahead, "0").unwrap();
    for name in ["n3", "n1"] {
        let found = wait_among(|| asked(&cluster, name), 9, "E0141", &["was set back by"]);
        assert_eq!(found["about"], "n3");
    }
    wait_until("the clock is right", || finding(&asked(&cluster, "n1").1, "E0140").is_none().then_some(()));
}

/// The file system of an agent becomes read-only: the agent ends at its next write, and says why. Its directory tells why it
/// does not start, in the start itself and in the doctor, before that nobody runs there. Writable again, it starts.
#[test]
fn a_file_system_that_is_read_only_is_told() {
    let mut cluster = Cluster::new();
    let Some(disk) = SmallDisk::on(cluster.data("n1")) else { return println!("{NO_DISK}") };
    small_disk::start(&mut cluster, &disk, "n1", "127.0.0.1:0", &["--bootstrap"]);
    cluster.wait_group(1, 0);
    cluster.ask("n1", &["append", "while it is well"]).ok();
    // A disk that fails is made read-only by the kernel under those who write to it. `mount` refuses as long as anybody does.
    cluster.stop("n1");
    disk.remount("ro");
    let bind = cluster.addr("n1").to_string();
    let agent = disk.inside(&cluster.agent_command("n1", &bind, &[]));
    assert_eq!(cluster.spawn("n1", agent), Err(78));
    let said = cluster.log("n1").lines().last().unwrap_or_default().to_owned();
    assert!(said.contains("Read-only file system") && said.contains("; "), "{said}");
    let data = cluster.data("n1");
    let look = || {
        let mut command = cluster.command(&["doctor", "--format", "json", "--data", data.to_str().unwrap()]);
        command.arg("--certs").arg(cluster.certs("n1"));
        let mut inside = disk.inside(&command);
        let said = crate::said::Said::by(&mut inside);
        (said.code, json(&said))
    };
    let answer = wait_first(look, 9, "E0121", &["mounted it read-only"]);
    assert!(answer["findings"][0]["next"].to_string().contains("remount,rw"), "{answer}");
    assert_eq!(answer["findings"][1]["code"], "E0150", "{answer}");
    disk.remount("rw");
    small_disk::start(&mut cluster, &disk, "n1", &bind, &[]);
    wait_until("nothing is wrong", || (asked(&cluster, "n1").0 == 0).then_some(()));
}

/// Whoever leads stops running for a moment, again and again: elections follow one another, and it is told how often, and who
/// moved the term.
#[test]
fn elections_that_follow_one_another_are_told() {
    let cluster = Cluster::of(3);
    let mut terms = Vec::new();
    while terms.len() < 7 {
        let leader = cluster.leader();
        let other = cluster.other_than(&leader);
        cluster.pause(&leader);
        let next = cluster.wait_status(&other, "another leader", |s| s.leader.as_ref().is_some_and(|l| *l != leader));
        cluster.signal(&leader, "CONT");
        terms.push(next.term);
    }
    let leader = cluster.leader();
    for name in [leader.clone(), cluster.other_than(&leader)] {
        let answer = wait_first(|| asked(&cluster, &name), 9, "E0133", &["in the last minute", "moved by n"]);
        let first = &answer["findings"][0];
        assert!(first["next"][0].as_str().unwrap().contains("quorate doctor --agent n"), "{answer}");
    }
}

/// People look at a directory all the time while its agent is started again and again: no start fails, and no look changes
/// anything or takes the agent for damaged.
#[test]
fn who_only_looks_keeps_no_agent_out() {
    let mut cluster = Cluster::new();
    cluster.start("n1", &["--bootstrap"]);
    cluster.wait_group(1, 0);
    for i in 0..20 {
        cluster.ask("n1", &["append", &format!("value {i}")]).ok();
    }
    let (data, certs) = (cluster.data("n1"), cluster.certs("n1"));
    let out = cluster.path("looks");
    let looks = fs::File::create(&out).unwrap();
    let looker = |_| {
        let script = "while :; do \"$0\" doctor --format json --data \"$1\" --certs \"$2\"; done";
        let mut command = cluster.command(&[]);
        let program = command.get_program().to_owned();
        let envs: Vec<_> = command.get_envs().filter_map(|(k, v)| Some((k.to_owned(), v?.to_owned()))).collect();
        command = Command::new("sh");
        command.args(["-c", script]).arg(program).arg(&data).arg(&certs).envs(envs);
        command.stdin(Stdio::null()).stdout(looks.try_clone().unwrap()).stderr(Stdio::null()).spawn().unwrap()
    };
    let mut lookers: Vec<_> = (0..3).map(looker).collect();
    for _ in 0..8 {
        cluster.kill("n1");
        cluster.restart("n1", &[]);
        cluster.ask("n1", &["append", "again"]).ok();
    }
    for looker in &mut lookers {
        let _ = looker.kill();
        let _ = looker.wait();
    }
    let text = fs::read_to_string(&out).unwrap();
    let answers: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    assert!(answers.len() > 8, "{} looks", answers.len());
    let codes = answers.iter().flat_map(|a| a["findings"].as_array().unwrap().iter().map(|f| f["code"].to_string()));
    let wrong: Vec<_> =
        codes.filter(|code| ["E0123", "E0124", "E0126", "E0127", "E0128"].iter().any(|w| code.contains(w))).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    println!("figure: {} looks while an agent was started 8 times", answers.len());
}

/// An agent that was drained and started again serves nobody until that is taken back: half a minute later it is told, by the
/// agent itself and by the others, with the very command; while somebody is at work it is not.
#[test]
fn a_drain_that_nobody_takes_back_is_told() {
    let mut cluster = Cluster::of(3);
    let leader = cluster.leader();
    let drained = cluster.other_than(&leader);
    cluster.ask(&leader, &["drain", &drained]).ok();
    assert!(finding(&asked(&cluster, &leader).1, "E0162").is_none(), "somebody is at work");
    cluster.stop(&drained);
    let is_gone = |all: &[quorate::client::Member]| all.iter().any(|m| m.name == drained && m.state == "failed");
    cluster.wait_member(&leader, "it as gone", is_gone);
    cluster.restart(&drained, &[]);
    for name in [&leader, &drained] {
        let answer = wait_first(|| asked(&cluster, name), 9, "E0162", &["started again"]);
        let first = &answer["findings"][0];
        assert_eq!((&first["about"], first["severity"].as_str()), (&Value::String(drained.clone()), Some("warning")));
        assert_eq!(first["next"][0], format!("if the work on it is done: `quorate drain --undo {drained}`"));
    }
    cluster.ask(&leader, &["drain", "--undo", &drained]).ok();
    wait_until("nothing is wrong", || (asked(&cluster, &leader).0 == 0).then_some(()));
}
