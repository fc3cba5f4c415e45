//! Several processes that load a cluster at the same time: each is this program, told its job over stdin.
//!
//! It ends only processes that it started, and they end by themselves when their stdin does.

use super::crew::{Crew, Job};
use super::load::{Measured, Window};
use crate::cli::find;
use crate::cli::output::{CliError, Exit};
use crate::limits::printable;
use quorate_certs::Identity;
use serde::{Deserialize, Serialize};
use std::process::Stdio;
use std::sync::Arc;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines, Stdin};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};

/// Bytes of an error that are listened to.
const ERROR_BYTES_MAX: u64 = 4 << 10;

/// What a worker says: it is ready, then what it measured.
#[derive(Debug, Serialize, Deserialize)]
enum Word {
    Ready,
    Done(Box<Measured>),
}

/// One process at work.
struct Worker {
    child: Child,
    orders: ChildStdin,
    said: Lines<BufReader<ChildStdout>>,
    errors: ChildStderr,
}

/// All of them.
pub(super) struct Workers(Vec<Worker>);

impl Workers {
    /// Starts a process for each job, and waits until all are connected.
    pub(super) async fn start(jobs: &[Job]) -> Result<Self, CliError> {
        let mut workers = Vec::with_capacity(jobs.len());
        for job in jobs {
            workers.push(Worker::start(job).await?);
        }
        for worker in &mut workers {
            match worker.hear().await? {
                Word::Ready => {}
                Word::Done(_) => return Err(out_of_turn()),
            }
        }
        Ok(Self(workers))
    }

    pub(super) fn pids(&self) -> Vec<u32> {
        self.0.iter().filter_map(|worker| worker.child.id()).collect()
    }

    /// Says go; answers once all were told.
    pub(super) async fn go(&mut self) -> Result<(), CliError> {
        for worker in &mut self.0 {
            worker.orders.write_all(b"go\n").await.map_err(|e| failed(&e))?;
        }
        Ok(())
    }

    /// What each has measured, in the order of the jobs.
    pub(super) async fn finish(self) -> Result<Vec<Measured>, CliError> {
        let mut all = Vec::with_capacity(self.0.len());
        for mut worker in self.0 {
            match worker.hear().await? {
                Word::Done(measured) => all.push(*measured),
                Word::Ready => return Err(out_of_turn()),
            }
            drop(worker.orders);
            worker.child.wait().await.map_err(|e| failed(&e))?;
        }
        Ok(all)
    }
}

impl Worker {
    async fn start(job: &Job) -> Result<Self, CliError> {
        let program = std::env::current_exe().map_err(|e| failed(&e))?;
        let mut command = Command::new(program);
        for (key, _) in std::env::vars_os().filter(|(key, _)| key.to_string_lossy().starts_with("QUORATE_")) {
            command.env_remove(key);
        }
        command.args(["bench", "--worker"]).kill_on_drop(true);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| failed(&e))?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(mut orders), Some(said), Some(errors)) = pipes else {
            return Err(failed(&"no pipe to it"));
        };
        let mut line = serde_json::to_string(job).map_err(|e| failed(&e))?;
        line.push('\n');
        orders.write_all(line.as_bytes()).await.map_err(|e| failed(&e))?;
        Ok(Self { child, orders, said: BufReader::new(said).lines(), errors })
    }

    /// Its next word. If it ends without one, it has said on stderr why.
    async fn hear(&mut self) -> Result<Word, CliError> {
        if let Some(line) = self.said.next_line().await.map_err(|e| failed(&e))? {
            return serde_json::from_str(&line).map_err(|e| failed(&e));
        }
        let mut text = String::new();
        let _ = (&mut self.errors).take(ERROR_BYTES_MAX).read_to_string(&mut text).await;
        let line = text.lines().find_map(|line| line.strip_prefix("error: "));
        let exit = match self.child.wait().await.ok().and_then(|status| status.code()) {
            Some(3) => Exit::Unreachable,
            Some(4) => Exit::NotAuthorised,
            Some(6) => Exit::NoQuorum,
            _ => Exit::Error,
        };
        Err(line.map_or_else(|| failed(&"it ended early"), |line| CliError::from_sentence(exit, line)))
    }
}

fn failed(why: &dyn std::fmt::Display) -> CliError {
    let why = printable(&why.to_string());
    CliError::system("a process of the load failed", &why, "check the limits of this process, or use fewer --processes")
}

fn out_of_turn() -> CliError {
    failed(&"it spoke out of turn")
}

/// The other side: what `--worker` does.
pub(super) async fn work() -> Result<(), CliError> {
    let mut orders = BufReader::new(tokio::io::stdin()).lines();
    let job: Job = serde_json::from_str(&order(&mut orders).await?).map_err(|e| failed(&e))?;
    let identity = Arc::new(Identity::load(&job.certs).map_err(|e| find::identity_error(&e))?);
    let (warm_up, duration) = (job.warm_up, job.duration);
    let crew = Crew::gather(job, &identity).await?;
    say(&Word::Ready).await?;
    order(&mut orders).await?;
    let work = crew.work(Window::after(warm_up, duration));
    tokio::select! {
        measured = work => say(&Word::Done(Box::new(measured?))).await,
        // Nobody waits for it any more.
        _ = order(&mut orders) => Ok(()),
    }
}

async fn order(orders: &mut Lines<BufReader<Stdin>>) -> Result<String, CliError> {
    match orders.next_line().await.map_err(|e| failed(&e))? {
        Some(line) => Ok(line),
        None => Err(failed(&"its orders ended")),
    }
}

async fn say(word: &Word) -> Result<(), CliError> {
    let mut line = serde_json::to_string(word).map_err(|e| failed(&e))?;
    line.push('\n');
    let mut out = tokio::io::stdout();
    out.write_all(line.as_bytes()).await.map_err(|e| failed(&e))?;
    out.flush().await.map_err(|e| failed(&e))
}
