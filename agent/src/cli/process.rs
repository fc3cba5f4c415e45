//! One agent as a process of this very program: how it is started, signalled and ended.
//!
//! It never leaves a process behind, not even in a panic, and signals only what it started.

use super::output::CliError;
use crate::descriptor;
use std::fs::OpenOptions;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::process::{Child, Command};

/// How long a killed process may take to be gone.
const GONE: Duration = Duration::from_secs(5);

/// Processes that a panic must not leave behind.
static RUNNING: Mutex<Vec<u32>> = Mutex::new(Vec::new());

fn running() -> MutexGuard<'static, Vec<u32>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Before the process aborts, its agents are ended; the directory stays, as after every failure.
pub(crate) fn end_agents_on_panic(home: &Path) {
    let home = home.to_owned();
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        before(info);
        for pid in running().drain(..) {
            kill_by_id(pid);
        }
        eprintln!("the agents were ended; logs, data and certificates are in {}", home.display());
    }));
}

/// The id is of a child that was not waited for, so it cannot have passed to another process.
#[cfg(unix)]
fn kill_by_id(pid: u32) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
}

/// Elsewhere the handles of the children end them.
#[cfg(not(unix))]
fn kill_by_id(_: u32) {}

/// Waits until those are gone whose handles were dropped, which kills them: only then is their directory nobody's.
#[cfg(unix)]
pub(crate) fn wait_for_dropped() {
    use rustix::process::{Pid, WaitOptions, waitpid};
    let give_up_at = std::time::Instant::now() + GONE;
    for pid in std::mem::take(&mut *running()) {
        let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { continue };
        // An error means that it was waited for already.
        while matches!(waitpid(Some(pid), WaitOptions::NOHANG), Ok(None)) && std::time::Instant::now() < give_up_at {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// What an agent is started with.
pub(crate) struct Launch<'a> {
    pub(crate) name: &'a str,
    pub(crate) certs: &'a Path,
    pub(crate) data: &'a Path,
    /// Where its stderr goes, behind what is there.
    pub(crate) log: &'a Path,
    /// The directory of its descriptor.
    pub(crate) runtime: &'a Path,
    pub(crate) bind: &'a str,
    pub(crate) advertise: Option<&'a str>,
    pub(crate) join: &'a [String],
    pub(crate) bootstrap: bool,
}

impl Launch<'_> {
    /// Starts it, with no variable of this environment that an agent would heed.
    pub(crate) fn spawn(&self) -> Result<Process, CliError> {
        let failed = |e: std::io::Error| CliError::system("cannot start an agent", &e, "");
        let log = OpenOptions::new().create(true).append(true).open(self.log).map_err(failed)?;
        let mut command = Command::new(std::env::current_exe().map_err(failed)?);
        for (key, _) in std::env::vars_os().filter(|(key, _)| key.to_string_lossy().starts_with("QUORATE_")) {
            command.env_remove(key);
        }
        command.env(descriptor::RUNTIME_DIR_VARIABLE, self.runtime);
        command.arg("agent").arg("--name").arg(self.name).arg("--data").arg(self.data);
        command.arg("--certs").arg(self.certs).args(["--log", "info"]);
        command.arg("--bind").arg(self.bind);
        if let Some(advertise) = self.advertise {
            command.arg("--advertise").arg(advertise);
        }
        if self.bootstrap {
            command.arg("--bootstrap");
        }
        if !self.join.is_empty() {
            command.arg("--join").arg(self.join.join(","));
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).kill_on_drop(true);
        // A Ctrl-C at the terminal is for the command; it ends its agents itself, in order.
        #[cfg(unix)]
        command.process_group(0);
        let child = command.spawn().map_err(failed)?;
        let pid = child.id().unwrap_or_default();
        running().push(pid);
        Ok(Process { child, pid })
    }
}

/// A process that was started and not yet waited for.
pub(crate) struct Process {
    child: Child,
    pid: u32,
}

impl Process {
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// How it ended, if it has.
    pub(crate) fn has_ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) -> std::io::Result<()> {
        self.child.start_kill()
    }

    /// Sends a signal, unless it has ended.
    #[cfg(unix)]
    pub(crate) fn signal(&mut self, signal: rustix::process::Signal) -> std::io::Result<()> {
        // While it was not waited for, its id is its own.
        let pid = self.child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(rustix::process::Pid::from_raw);
        pid.map_or(Ok(()), |pid| rustix::process::kill_process(pid, signal).map_err(Into::into))
    }

    /// Waits until it has ended, after `kill -9` or by itself; `None` if it takes longer than it may.
    pub(crate) async fn reap(mut self) -> std::io::Result<Option<ExitStatus>> {
        let gone = tokio::time::timeout(GONE, self.child.wait()).await;
        running().retain(|pid| *pid != self.pid);
        gone.ok().transpose()
    }
}
