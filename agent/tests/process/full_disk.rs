//! Agents on small file systems of their own that somebody else fills: leadership moves, votes go on, refusals say whose disk
//! it is, a start needs no free byte, and with room everything resumes by itself.
//!
//! The file systems are tmpfs in a mount namespace, which takes root or user namespaces; where neither is to be had, the
//! test says so and proves nothing.
#![cfg(target_os = "linux")]

use crate::cluster::{Cluster, wait_until};
use crate::history::{self, Load};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Small enough to be filled at once, and a tenth of it holds more than one step of a segment.
const DISK_BYTES: u64 = 64 << 20;

/// A mount namespace with a small file system on one directory, kept open by a process that sleeps.
struct SmallDisk {
    holder: Child,
    dir: PathBuf,
    as_root: bool,
}

impl SmallDisk {
    /// `None` if this system lets nobody mount.
    fn on(dir: PathBuf) -> Option<Self> {
        fs::create_dir_all(&dir).unwrap();
        [true, false].into_iter().find_map(|as_root| Self::try_on(&dir, as_root))
    }

    fn try_on(dir: &Path, as_root: bool) -> Option<Self> {
        let mut command = Command::new("unshare");
        if !as_root {
            command.args(["--user", "--map-root-user"]);
        }
        let script =
            format!("mount -t tmpfs -o size={DISK_BYTES},mode=0700 tmpfs \"$0\" && echo mounted && exec sleep 86400");
        command.args(["--mount", "sh", "-c", &script]).arg(dir);
        let mut holder = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().ok()?;
        let mut line = String::new();
        let _ = BufReader::new(holder.stdout.take()?).read_line(&mut line);
        let disk = Self { holder, dir: dir.to_owned(), as_root };
        (line == "mounted\n").then_some(disk)
    }

    /// The same command, on this file system. It keeps its process id.
    fn inside(&self, command: &Command) -> Command {
        let mut inside = Command::new("nsenter");
        inside.arg("--target").arg(self.holder.id().to_string()).arg("--mount");
        if !self.as_root {
            inside.args(["--user", "--preserve-credentials"]);
        }
        inside.arg("--").arg(command.get_program()).args(command.get_args()).stdin(Stdio::null());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => inside.env(key, value),
                None => inside.env_remove(key),
            };
        }
        inside
    }

    fn ballast(&self) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.holder.id()));
        root.join(self.dir.strip_prefix("/").unwrap()).join("ballast")
    }

    /// Somebody else fills it, until so many bytes are free or none more is taken.
    fn leave_free(&self, bytes: u64) {
        let path = self.ballast();
        let mut file = fs::File::options().create(true).append(true).open(&path).unwrap();
        let free = || rustix::fs::statvfs(path.parent().unwrap()).map(|s| s.f_bavail * s.f_frsize).unwrap();
        while free() > bytes {
            let step = (free() - bytes).min(1 << 20);
            if file.write_all(&vec![7; usize::try_from(step).unwrap()]).is_err() {
                break;
            }
        }
    }

    fn free(&self) {
        fs::remove_file(self.ballast()).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

fn start(cluster: &mut Cluster, disk: &SmallDisk, name: &str, bind: &str, args: &[&str]) {
    let command = disk.inside(&cluster.agent_command(name, bind, args));
    wait_until("the agent starts", || match cluster.spawn(name, command_again(&command)) {
        Ok(()) => Some(()),
        Err(78) if cluster.log(name).contains("is in use") => None,
        Err(code) => panic!("agent {name} ended with {code}"),
    });
}

fn command_again(command: &Command) -> Command {
    let mut again = Command::new(command.get_program());
    again.args(command.get_args()).stdin(Stdio::null());
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => again.env(key, value),
            None => again.env_remove(key),
        };
    }
    again
}

/// The disk of the leader is filled under load: leadership moves, no append fails. It is filled to the last byte and killed:
/// it starts, and its vote elects. With only it and a new leader left, appends are refused in words and with code 6; freed,
/// everything resumes by itself, and the replicas are equal.
#[test]
fn a_full_disk_costs_the_lead_and_nothing_else() {
    let mut cluster = Cluster::new();
    let names = ["n1", "n2", "n3"];
    let disks: Option<Vec<SmallDisk>> = names.iter().map(|name| SmallDisk::on(cluster.data(name))).collect();
    let Some(disks) = disks else {
        return println!("skipped: this system lets nobody mount a file system (root or user namespaces are needed)");
    };
    let disk_of = |name: &str| &disks[names.iter().position(|n| *n == name).unwrap()];
    start(&mut cluster, &disks[0], "n1", "127.0.0.1:0", &["--bootstrap"]);
    let seed = cluster.addr("n1").to_string();
    for at in [1, 2] {
        start(&mut cluster, &disks[at], names[at], "127.0.0.1:0", &["--join", &seed]);
    }
    let full = cluster.wait_group(3, 0);
    let before = cluster.status(&full).unwrap().space;
    assert!(!before.full && before.total == Some(DISK_BYTES) && before.reserve == DISK_BYTES / 10, "{before:?}");

    // Nearly full, under load.
    let load = Load::on(&cluster, 3);
    load.wait_ack_after(Instant::now());
    let filled = Instant::now();
    disk_of(&full).leave_free(2 << 20);
    let moved = cluster.wait_status(&full, "another leader", |s| s.leader.as_ref().is_some_and(|l| *l != full));
    println!("figure: leadership left a full disk after {:?}", filled.elapsed());
    load.wait_ack_after(Instant::now());
    let status = cluster.wait_status(&full, "its disk is full", |s| s.space.full);
    assert!(status.problems.iter().any(|p| p.contains(&full) && p.contains("are kept free")), "{:?}", status.problems);
    let said = cluster.ask(&full, &["status"]);
    assert!(said.ok().contains("NEARLY FULL"), "{}", said.out);
    let said = cluster.ask(&full, &["doctor", "--format", "json"]);
    assert!(said.code == 9 && said.out.contains("\"E0120\""), "{} {}", said.code, said.out);
    let history = load.stop(&cluster);
    let summary = history.iter().filter(|attempt| !attempt.is_acked()).count();
    assert_eq!(summary, 0, "no append failed");

    // Not a byte, and killed: it starts, and votes.
    disk_of(&full).leave_free(0);
    cluster.kill(&full);
    let bind = cluster.addr(&full).to_string();
    start(&mut cluster, disk_of(&full), &full, &bind, &[]);
    let status = cluster.wait_status(&full, "its disk is full", |s| s.space.full && s.leader.is_some());
    assert!(status.space.free.is_some_and(|free| free < 1 << 20), "{:?}", status.space);
    let old = moved.leader.unwrap();
    let other = names.into_iter().find(|n| *n != full && *n != old).unwrap();
    cluster.kill(&old);
    cluster.wait_status(&full, "the other one leads", |s| s.leader.as_deref() == Some(other));

    // Two are left, and one takes nothing.
    let refused = wait_until("an append is refused for want of room", || {
        let said = cluster.ask(other, &["append", "one", "--format", "json", "--timeout", "5s"]);
        let error: serde_json::Value = serde_json::from_str(&said.err).ok()?;
        (said.code == 6 && error["error"]["code"] == "no_space").then(|| error["error"].clone())
    });
    assert!(refused["message"].as_str().unwrap().contains(&full), "{refused}");
    assert!(refused["hint"].as_str().unwrap().contains("free space"), "{refused}");
    assert_eq!(refused["outcome"], "not_applied");
    let said = cluster.ask(other, &["append", "one", "--timeout", "5s"]);
    assert!(said.one_error(6).contains("nearly full"), "{}", said.err);

    // Room again: nobody does anything else.
    let freed = Instant::now();
    disk_of(&full).free();
    wait_until("appends are taken again", || (cluster.ask(other, &["append", "two"]).code == 0).then_some(()));
    println!("figure: appends resumed {:?} after space was freed", freed.elapsed());
    cluster.wait_status(&full, "its disk is well", |s| !s.space.full);
    let bind = cluster.addr(&old).to_string();
    start(&mut cluster, disk_of(&old), &old, &bind, &[]);
    cluster.wait_group(3, 0);
    assert!(freed.elapsed() < Duration::from_secs(120));
    history::verify(&cluster, &cluster.running(), &history);
}

/// A limit of the system (`RLIMIT_FSIZE`) that bites in the middle of a segment: whoever appends is told so with code 6, reads
/// go on, and nothing that was acked is lost. Without the limit the next start takes appends again.
#[test]
fn a_limit_on_file_sizes_is_a_full_disk() {
    let mut cluster = Cluster::new();
    let agent = cluster.agent_command("n1", "127.0.0.1:0", &["--bootstrap"]);
    let mut command = Command::new("bash");
    // In KiB: less than a segment.
    command.args(["-c", "trap '' XFSZ; ulimit -f 4096; exec \"$0\" \"$@\""]);
    command.arg(agent.get_program()).args(agent.get_args());
    for (key, value) in agent.get_envs() {
        match value {
            Some(value) => command.env(key, value),
            None => command.env_remove(key),
        };
    }
    cluster.spawn("n1", command).unwrap();
    cluster.wait_group(1, 0);
    let value = "x".repeat(100 << 10);
    let mut acked = 0;
    let refused = wait_until("the limit is met", || {
        let said = cluster.ask("n1", &["append", &value, "--timeout", "5s"]);
        match said.code {
            0 => acked += 1,
            // The one that met the limit may still be written.
            7 => {}
            code => return Some((code, said.err)),
        }
        None
    });
    assert!(refused.0 == 6 && refused.1.contains("a quota or a limit"), "{refused:?}");
    assert!((10..=40).contains(&acked), "{acked}");
    // The one that met the limit may be in the log.
    let long =
        |cluster: &Cluster| history::read(cluster, "n1").1.iter().filter(|read| read.len() == value.len()).count();
    assert!((acked..=acked + 1).contains(&long(&cluster)), "{acked} {}", long(&cluster));
    cluster.kill("n1");
    cluster.restart("n1", &[]);
    wait_until("appends are taken again", || (cluster.ask("n1", &["append", "y"]).code == 0).then_some(()));
    assert!((acked..=acked + 1).contains(&long(&cluster)), "{acked} {}", long(&cluster));
}
