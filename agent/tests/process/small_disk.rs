//! A small file system of its own, to be filled, or to be made read-only.
//!
//! It is a tmpfs in a mount namespace, which takes root or user namespaces; where neither is to be had, a test says so and
//! proves nothing.
#![cfg(target_os = "linux")]

use crate::cluster::{Cluster, wait_until};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// What a test says that cannot have one.
pub(crate) const NO_DISK: &str =
    "skipped: this system lets nobody mount a file system (root or user namespaces are needed)";
/// Small enough to be filled at once, and a tenth of it holds more than one step of a segment.
pub(crate) const DISK_BYTES: u64 = 64 << 20;

/// A mount namespace with a small file system on one directory, kept open by a process that sleeps.
pub(crate) struct SmallDisk {
    holder: Child,
    dir: PathBuf,
    as_root: bool,
}

impl SmallDisk {
    /// `None` if this system lets nobody mount.
    pub(crate) fn on(dir: PathBuf) -> Option<Self> {
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
    pub(crate) fn inside(&self, command: &Command) -> Command {
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

    /// Mounts it again, read-only or writable.
    pub(crate) fn remount(&self, how: &str) {
        let mut mount = Command::new("mount");
        mount.arg("-o").arg(format!("remount,{how}")).arg(&self.dir);
        assert!(self.inside(&mount).status().unwrap().success(), "mount -o remount,{how}");
    }

    /// Somebody else fills it, until so many bytes are free or none more is taken.
    pub(crate) fn leave_free(&self, bytes: u64) {
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

    pub(crate) fn free(&self) {
        fs::remove_file(self.ballast()).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// Starts an agent on this file system.
pub(crate) fn start(cluster: &mut Cluster, disk: &SmallDisk, name: &str, bind: &str, args: &[&str]) {
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
