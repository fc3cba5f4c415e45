//! Disks that fail and hang under real agents: a shim between the program and libc answers `fsync` and `fdatasync` as it is told.
//!
#![cfg(target_os = "linux")]

use crate::cluster::{Cluster, wait_until};
use crate::history::{self, Load};
use crate::shim::{self, NO_SHIM};
use crate::told;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// While the file `SICK` exists every sync fails with EIO if its first byte is `f`, and hangs if it is `h`; if it is `w`, those
/// of segments hang, and what a node votes gets through. The path of each file whose sync failed is a line of `SICK.seen`.
const SHIM: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char told(void) {
    char byte = 0;
    const char *path = getenv("SICK");
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0) return 0;
    if (read(fd, &byte, 1) != 1) byte = 0;
    close(fd);
    return byte;
}

static int sick(int fd) {
    char link[64], file[4096], seen[4096];
    char what;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t len = readlink(link, file, sizeof file - 1);
    if (len < 0) len = 0;
    int segment = len > 4 && !memcmp(file + len - 4, ".wal", 4);
    while ((what = told()) == 'h' || (what == 'w' && segment)) usleep(10000);
    if (what != 'f') return 0;
    file[len++] = '\n';
    snprintf(seen, sizeof seen, "%s.seen", getenv("SICK"));
    int out = open(seen, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (out >= 0) {
        if (write(out, file, len) != len) abort();
        close(out);
    }
    errno = EIO;
    return 1;
}

int fdatasync(int fd) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    return sick(fd) ? -1 : real(fd);
}

int fsync(int fd) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    return sick(fd) ? -1 : real(fd);
}
"#;

/// Three agents, each on a disk that does as it is told.
struct Sick {
    cluster: Cluster,
    shim: PathBuf,
}

impl Sick {
    /// `None` where no shim can be made.
    fn new() -> Option<Self> {
        let cluster = Cluster::new();
        let shim = shim::make(&cluster, SHIM)?;
        let mut sick = Self { cluster, shim };
        sick.start("n1", "127.0.0.1:0", &["--bootstrap"]).unwrap();
        let seed = sick.cluster.addr("n1").to_string();
        sick.start("n2", "127.0.0.1:0", &["--join", &seed]).unwrap();
        sick.start("n3", "127.0.0.1:0", &["--join", &seed]).unwrap();
        sick.cluster.wait_group(3, 0);
        Some(sick)
    }

    fn start(&mut self, name: &str, bind: &str, args: &[&str]) -> Result<(), i32> {
        wait_until("the port is free", || {
            let mut command = self.cluster.agent_command(name, bind, args);
            command.env("LD_PRELOAD", &self.shim).env("SICK", self.told(name));
            match self.cluster.spawn(name, command) {
                Err(78) if self.cluster.log(name).lines().last().is_some_and(|line| line.contains("is in use")) => None,
                ended => Some(ended),
            }
        })
    }

    fn restart(&mut self, name: &str) -> Result<(), i32> {
        let bind = self.cluster.addr(name).to_string();
        self.start(name, &bind, &[])
    }

    fn told(&self, name: &str) -> PathBuf {
        self.cluster.path(&format!("sick-{name}"))
    }

    fn tell(&self, name: &str, what: &str) {
        fs::write(self.told(name), what).unwrap();
    }

    fn cure(&self, name: &str) {
        fs::remove_file(self.told(name)).unwrap();
    }

    /// The files of the log whose sync has failed, once for each time.
    fn failed(&self, name: &str) -> Vec<String> {
        let seen = fs::read_to_string(self.told(name).with_extension("seen")).unwrap_or_default();
        seen.lines().filter(|line| line.ends_with(".wal")).map(str::to_owned).collect()
    }
}

/// The sync of the leader fails once, under load: it ends at once, never tries that file again, and says what failed. On a
/// disk that still fails it does not start. On one that is well again it reads what is there, and is a voter again; nothing
/// that was acked is lost.
#[test]
fn a_failed_sync_ends_the_agent() {
    let Some(mut sick) = Sick::new() else { return println!("{NO_SHIM}") };
    let load = Load::on(&sick.cluster, 3);
    load.wait_ack_after(Instant::now());
    let leader = sick.cluster.leader();
    sick.tell(&leader, "f");
    let code = sick.cluster.ended(&leader);
    let failed = sick.failed(&leader);
    let log = sick.cluster.log(&leader);
    assert_eq!(failed.len(), 1, "tried once and never again: {failed:?}");
    assert!(code != 0, "{code}");
    let file = Path::new(&failed[0]).file_name().unwrap().to_str().unwrap();
    let said = log.lines().last().unwrap_or_default();
    assert!(said.contains(file) && said.contains("os error 5") && said.contains("sync"), "{said}");
    println!("figure: the agent ended with {code}: {said}");
    load.wait_ack_after(Instant::now());

    let refused = sick.restart(&leader);
    assert!(refused.is_err_and(|code| code != 0), "{refused:?}");
    sick.cure(&leader);
    sick.restart(&leader).unwrap();
    sick.cluster.wait_group(3, 0);
    load.wait_ack_after(Instant::now());
    let history = load.stop(&sick.cluster);
    println!("figure: {:?}", history::verify(&sick.cluster, &sick.cluster.running(), &history));
}

/// The sync of the leader hangs: another one leads, and appends go on. When it returns, the former leader follows; nothing
/// that was acked is lost.
#[test]
fn a_leader_whose_sync_hangs_makes_way() {
    let Some(sick) = Sick::new() else { return println!("{NO_SHIM}") };
    let load = Load::on(&sick.cluster, 3);
    load.wait_ack_after(Instant::now());
    let leader = sick.cluster.leader();
    let hung = Instant::now();
    sick.tell(&leader, "h");
    let other = sick.cluster.other_than(&leader);
    sick.cluster.wait_status(&other, "another leader", |s| s.leader.as_ref().is_some_and(|l| *l != leader));
    println!("figure: another one led {:?} after the disk hung", hung.elapsed());
    load.wait_ack_after(Instant::now());
    // The others hear of it too: one is asked, and asks the one whose disk hangs.
    wait_until("the doctor names the disk that hangs", || {
        let said = sick.cluster.ask(&other, &["doctor", "--format", "json"]);
        let answer: serde_json::Value = serde_json::from_str(&said.out).ok()?;
        let about = |f: &serde_json::Value| f["code"] == "E0122" && f["about"] == *leader;
        (said.code == 9 && answer["findings"].as_array()?.iter().any(about)).then_some(())
    });
    sick.cure(&leader);
    sick.cluster.wait_group(3, 0);
    load.wait_ack_after(Instant::now());
    let history = load.stop(&sick.cluster);
    println!("figure: {:?}", history::verify(&sick.cluster, &sick.cluster.running(), &history));
}

/// A follower votes, and confirms no entry: whoever is elected with its vote cannot commit its first entry. That is told, beside
/// the disk that hangs, and is over when the disk is well.
#[test]
fn a_first_entry_that_is_not_committed_is_told() {
    let Some(mut sick) = Sick::new() else { return println!("{NO_SHIM}") };
    let leader = sick.cluster.leader();
    let others: Vec<String> = sick.cluster.running().into_iter().filter(|name| *name != leader).collect();
    sick.tell(&others[0], "w");
    sick.cluster.kill(&leader);
    let look = || {
        let said = sick.cluster.ask(&others[1], &["doctor", "--format", "json", "--timeout", told::PATIENCE]);
        (said.code, told::json(&said))
    };
    let first = told::wait_among(look, 9, "E0132", &["it has led term", "committed"]);
    assert!(first["next"].to_string().contains("quorate transfer"), "{first}");
    let disk = told::wait_among(look, 9, "E0122", &["for a write to be confirmed"]);
    assert_eq!(disk["about"], *others[0]);
    sick.cure(&others[0]);
    sick.restart(&leader).unwrap();
    sick.cluster.wait_group(3, 0);
}
