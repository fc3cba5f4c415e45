//! Clients at work: they append, read and tail through all agents, and note exactly what they asked and were told.
//!
//! They never repeat an append, and never forget a strange answer.

use super::draw::Draw;
use super::fleet::Directory;
use super::payload::{number, record};
use crate::api::{Code, Effect};
use crate::cli::output::CliError;
use crate::client::{Client, ClientError, ReadLevel, Start, TailFrom};
use crate::history::{Append, History, Level, Outcome, Read, Seen, Span, Tail};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// Clients that append. Even ones go where they are served, odd ones ask one agent after another.
const APPENDERS: usize = 8;
/// Clients that read where the log ends.
const READERS: usize = 3;
/// Clients that read records.
const TAILERS: usize = 3;
/// Most records of one append.
const BATCH_MAX: u64 = 6;
/// How long one request may take. Short, so that many appends fall into each failure.
const PATIENCE_MS: (u64, u64) = (300, 5_000);
/// Between two appends of one client: the run is about failures, and each record is read back several times.
const PACE_MS: (u64, u64) = (2, 50);
/// Between two reads of one client.
const READ_PACE_MS: (u64, u64) = (5, 60);
/// Between two tails of one client.
const TAIL_PACE_MS: (u64, u64) = (100, 600);
/// Most records that one tail reads: all of them are remembered.
const TAIL_RECORDS_MAX: u64 = 400;
/// How long one tail may follow.
const TAIL_MS: (u64, u64) = (50, 4_000);
/// Most strange answers that are kept word by word.
const STRANGE_MAX: usize = 20;

/// What all clients share.
struct Shared {
    directory: Arc<Directory>,
    began: Instant,
    history: Mutex<History<u64>>,
    numbers: AtomicU64,
    acked: AtomicU64,
    operations: AtomicU64,
    /// The furthest end of the log that a client has heard of.
    end: AtomicU64,
    reads_failed: AtomicU64,
    /// Answers that no honest agent gives: damaged bytes, or something else than was asked for.
    strange: Mutex<Vec<String>>,
    stop: AtomicBool,
}

/// The clients.
pub(super) struct Load {
    shared: Arc<Shared>,
    tasks: Vec<JoinHandle<()>>,
}

/// What they did and saw.
pub(super) struct Told {
    pub(super) history: History<u64>,
    pub(super) strange: Vec<String>,
    /// Reads and tails that ended in an error.
    pub(super) reads_failed: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Load {
    /// Starts all clients; their clock begins at `began`.
    pub(super) fn start(directory: &Arc<Directory>, began: Instant, draw: &mut Draw) -> Result<Self, CliError> {
        let shared = Arc::new(Shared {
            directory: directory.clone(),
            began,
            history: Mutex::default(),
            numbers: AtomicU64::new(1),
            acked: AtomicU64::new(0),
            operations: AtomicU64::new(0),
            end: AtomicU64::new(0),
            reads_failed: AtomicU64::new(0),
            strange: Mutex::default(),
            stop: AtomicBool::new(false),
        });
        let mut tasks = Vec::new();
        for i in 0..APPENDERS {
            let clients = Clients::new(&shared, i.is_multiple_of(2).then_some(i))?;
            tasks.push(tokio::spawn(append(shared.clone(), clients, draw.fork())));
        }
        for _ in 0..READERS {
            tasks.push(tokio::spawn(read(shared.clone(), Clients::new(&shared, None)?, draw.fork())));
        }
        for i in 0..TAILERS {
            let clients = Clients::new(&shared, (i == 0).then_some(i))?;
            tasks.push(tokio::spawn(tail(shared.clone(), clients, draw.fork())));
        }
        Ok(Self { shared, tasks })
    }

    /// Appends that were acknowledged so far.
    pub(super) fn acked(&self) -> u64 {
        self.shared.acked.load(Ordering::Relaxed)
    }

    /// Requests that were answered or given up so far.
    pub(super) fn operations(&self) -> u64 {
        self.shared.operations.load(Ordering::Relaxed)
    }

    /// Stops, waits for every outcome and hands them over.
    pub(super) async fn finish(self) -> Result<Told, CliError> {
        self.shared.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.map_err(|e| CliError::system("a client ended", &e, "report this"))?;
        }
        Ok(Told {
            history: std::mem::take(&mut *lock(&self.shared.history)),
            strange: std::mem::take(&mut *lock(&self.shared.strange)),
            reads_failed: self.shared.reads_failed.load(Ordering::Relaxed),
        })
    }
}

impl Shared {
    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    fn done(&self) {
        self.operations.fetch_add(1, Ordering::Relaxed);
    }

    /// An agent may say that its disk is damaged; no damage may come through.
    fn look_at(&self, error: &ClientError, doing: &str) {
        let is_strange = match error {
            ClientError::Corrupt { .. } | ClientError::Protocol { .. } | ClientError::NotAuthorised { .. } => true,
            ClientError::Failed(failure) => matches!(failure.code, Code::Invalid | Code::NotAuthorised),
            _ => false,
        };
        let mut strange = lock(&self.strange);
        if is_strange && strange.len() < STRANGE_MAX {
            strange.push(format!("{doing} at {:.2} s: {error}", self.now().as_secs_f64()));
        }
    }

    fn read_failed(&self, error: &ClientError, doing: &str) {
        self.look_at(error, doing);
        self.reads_failed.fetch_add(1, Ordering::Relaxed);
    }

    fn heard_of(&self, end: u64) {
        self.end.fetch_max(end, Ordering::Relaxed);
    }
}

/// How one worker reaches the cluster.
struct Clients {
    roaming: Option<Client>,
    pinned: Vec<Client>,
}

impl Clients {
    /// One that goes where it is served and begins at `roams`, or one for each agent.
    fn new(shared: &Shared, roams: Option<usize>) -> Result<Self, CliError> {
        let directory = &shared.directory;
        let patience = Duration::from_millis(PATIENCE_MS.1);
        Ok(match roams {
            Some(first) => Self { roaming: Some(directory.roaming(first, patience)?), pinned: Vec::new() },
            None => {
                let agents = 0..directory.public.len();
                let pinned = agents.map(|agent| directory.pinned(agent, patience)).collect::<Result<_, _>>()?;
                Self { roaming: None, pinned }
            }
        })
    }

    /// Who is asked next, and which agent that is if it is a certain one.
    fn pick(&self, draw: &mut Draw) -> (&Client, Option<usize>) {
        match &self.roaming {
            Some(client) => (client, None),
            None => {
                let agent = draw.below(self.pinned.len() as u64) as usize;
                (&self.pinned[agent], Some(agent))
            }
        }
    }
}

fn millis(draw: &mut Draw, (from, to): (u64, u64)) -> Duration {
    Duration::from_millis(draw.log_between(from, to))
}

async fn append(shared: Arc<Shared>, clients: Clients, mut draw: Draw) {
    while shared.goes_on() {
        let many = if draw.chance(700) { 1 } else { draw.between(2, BATCH_MAX) };
        let first = shared.numbers.fetch_add(many, Ordering::Relaxed);
        let values: Vec<_> = (first..first + many).collect();
        let records: Vec<_> = values.iter().copied().map(record).collect();
        let (client, _) = clients.pick(&mut draw);
        let patience = millis(&mut draw, PATIENCE_MS);
        let asked = shared.now();
        let told = client.append_within(&records, patience).await;
        let span = Span { asked, ended: shared.now() };
        let outcome = match told {
            Ok(acked) => {
                shared.acked.fetch_add(1, Ordering::Relaxed);
                shared.heard_of(acked.last + 1);
                Outcome::Acked(acked.first)
            }
            Err(error) => {
                shared.look_at(&error, "an append");
                if error.effect() == Effect::Unknown { Outcome::Unknown } else { Outcome::NotApplied }
            }
        };
        shared.done();
        lock(&shared.history).appends.push(Append { values, span, outcome });
        sleep(millis(&mut draw, PACE_MS)).await;
    }
}

async fn read(shared: Arc<Shared>, clients: Clients, mut draw: Draw) {
    while shared.goes_on() {
        let (client, agent) = clients.pick(&mut draw);
        let life = |agent: usize| shared.directory.life(agent);
        let before = agent.map(life);
        let end = shared.end.load(Ordering::Relaxed);
        let asked = shared.now();
        let (level, answer) = match draw.below(10) {
            0..6 => (Level::Linear, client.barrier().await),
            6..8 => (Level::Committed, client.status().await.map(|status| status.next)),
            _ if end > 0 => {
                let offset = draw.below(end);
                (Level::After(offset), client.wait_for(offset + 1).await)
            }
            _ => continue,
        };
        let span = Span { asked, ended: shared.now() };
        shared.done();
        match answer {
            Ok(next) => {
                shared.heard_of(next);
                // What one life of one agent knew to be committed it does not forget; the next life may have to learn it.
                let is_same_life = agent.is_some() && before == agent.map(life);
                let session = (is_same_life && level == Level::Committed).then(|| {
                    let (agent, life) = (agent.unwrap_or_default() as u64, before.unwrap_or_default());
                    agent << 32 | life
                });
                lock(&shared.history).reads.push(Read { session, span, level, next });
            }
            Err(error) => shared.read_failed(&error, "a read"),
        }
        sleep(millis(&mut draw, READ_PACE_MS)).await;
    }
}

async fn tail(shared: Arc<Shared>, clients: Clients, mut draw: Draw) {
    while shared.goes_on() {
        let (client, _) = clients.pick(&mut draw);
        let end = shared.end.load(Ordering::Relaxed);
        // Near the end more often than not: that is where things happen.
        let back = draw.log_between(1, end.max(1));
        let from = if draw.chance(100) { 0 } else { end.saturating_sub(back) };
        let (level, read) = match draw.below(4) {
            0 if end > 0 => (Level::After(end - 1), ReadLevel::After(end - 1)),
            0 | 1 => (Level::Committed, ReadLevel::Committed),
            _ => (Level::Linear, ReadLevel::Linear),
        };
        let follow = draw.chance(500);
        let wanted = TailFrom { start: Start::Offset(from), follow, read, ..TailFrom::default() };
        let asked = shared.now();
        let limit = asked + millis(&mut draw, TAIL_MS);
        let mut tail = Tail { asked, level, from: Some(from), seen: Vec::new(), ended: None };
        let mut items = client.tail(wanted);
        while (tail.seen.len() as u64) < TAIL_RECORDS_MAX {
            let left = limit.saturating_sub(shared.now());
            match timeout(left, items.next()).await {
                Ok(Some(Ok(item))) => {
                    let (offset, value) = (item.offset, number(&item.stored.record, item.offset));
                    tail.seen.push(Seen { offset, value, at: shared.now() });
                }
                Ok(Some(Err(error))) => {
                    shared.read_failed(&error, "a tail");
                    break;
                }
                Ok(None) => {
                    tail.ended = Some(shared.now());
                    break;
                }
                Err(_) => break,
            }
        }
        shared.done();
        if let Some(last) = tail.seen.last() {
            shared.heard_of(last.offset + 1);
        }
        lock(&shared.history).tails.push(tail);
        sleep(millis(&mut draw, TAIL_PACE_MS)).await;
    }
}
