//! What clients did and what the log then holds: load on a cluster, and what the checker (`quorate::history`) says of it.
//!
//! It believes nobody: the log is read from every replica, entry by entry, and every ack is looked up in it.

use crate::cluster::{Cluster, wait_until};
use quorate::api::Effect;
use quorate::client::{Client, ClientError, ReadLevel, TailFrom};
pub(crate) use quorate::history::Outcome;
use quorate::history::{self, Append, History, Level, Read, Replica, Span};
use quorate::record::{Record, decode_batch};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::task::{JoinHandle, JoinSet};

/// Between two appends of one client: the test is about failures, not about throughput.
const PACE: Duration = Duration::from_millis(2);
/// Between two appends of a probe.
const PROBE_PACE: Duration = Duration::from_millis(5);
/// How long one append of the load may take.
const APPEND: Duration = Duration::from_secs(30);
/// Clients with an odd number append batches of this many records.
const BATCH: usize = 3;

/// One append, from the outside.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    pub(crate) values: Vec<String>,
    pub(crate) asked: Instant,
    pub(crate) ended: Instant,
    pub(crate) outcome: Outcome,
    /// What the client said if it was not acked.
    pub(crate) error: Option<ClientError>,
}

impl Attempt {
    /// How long it took.
    pub(crate) fn took(&self) -> Duration {
        self.ended - self.asked
    }

    pub(crate) fn is_acked(&self) -> bool {
        matches!(self.outcome, Outcome::Acked(_))
    }

    /// Appends these values as one batch and notes what came of it.
    pub(crate) async fn make(client: &Client, values: Vec<String>, patience: Duration) -> Self {
        let records: Vec<_> = values.iter().map(|value| Record::of(value.clone())).collect();
        let asked = Instant::now();
        let result = client.append_within(&records, patience).await;
        let ended = Instant::now();
        let (outcome, error) = match result {
            Ok(acked) => (Outcome::Acked(acked.first), None),
            Err(error) if error.effect() == Effect::Unknown => (Outcome::Unknown, Some(error)),
            Err(error) => (Outcome::NotApplied, Some(error)),
        };
        Self { values, asked, ended, outcome, error }
    }
}

/// Clients that append without a break until they are told to stop.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    history: Arc<Mutex<Vec<Attempt>>>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    /// `clients` of them, through different agents of `cluster`.
    pub(crate) fn on(cluster: &Cluster, clients: usize) -> Self {
        let names = cluster.running();
        Self::of(cluster, (0..clients).map(|i| cluster.client(&names[i % names.len()])))
    }

    /// These clients.
    pub(crate) fn of(cluster: &Cluster, clients: impl IntoIterator<Item = Client>) -> Self {
        let (stop, history) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let begin = |(i, client)| cluster.spawn_task(append_until(client, i, Arc::clone(&stop), Arc::clone(&history)));
        let clients = clients.into_iter().enumerate().map(begin).collect();
        Self { stop, history, clients }
    }

    /// Waits until an append that was asked for after `then` is acked: from `then` until the first such ack.
    #[track_caller]
    pub(crate) fn wait_ack_after(&self, then: Instant) -> Duration {
        wait_until("an append is acked again", || first_ack_after(&self.history.lock().unwrap(), then))
    }

    /// Waits for the last answers; what they amount to.
    pub(crate) fn stop(self, cluster: &Cluster) -> Vec<Attempt> {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            cluster.block_on(client).unwrap();
        }
        std::mem::take(&mut *self.history.lock().unwrap())
    }
}

async fn append_until(client: Client, number: usize, stop: Arc<AtomicBool>, history: Arc<Mutex<Vec<Attempt>>>) {
    let per_batch = if number.is_multiple_of(2) { 1 } else { BATCH };
    for n in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let values = (0..per_batch).map(|i| format!("client {number} append {n} record {i}")).collect();
        let attempt = Attempt::make(&client, values, APPEND).await;
        history.lock().unwrap().push(attempt);
        tokio::time::sleep(PACE).await;
    }
    client.close().await;
}

/// Clients that append every few milliseconds without waiting for their answers: they see the first moment at which
/// the cluster serves again, where a client that waits for an answer which never comes would not.
pub(crate) struct Probe {
    clients: Vec<Client>,
    number: usize,
}

impl Probe {
    /// One through each of `names`, connected.
    pub(crate) fn through(cluster: &Cluster, names: &[String]) -> Self {
        let clients: Vec<_> = names.iter().map(|name| cluster.client(name)).collect();
        for client in &clients {
            cluster.block_on(client.status()).unwrap();
        }
        Self { clients, number: 0 }
    }

    /// Appends until one of these appends is acked: how long that took from `killed` on. All of them join the history
    /// of `load`.
    pub(crate) fn first_ack(&mut self, cluster: &Cluster, load: &Load, killed: Instant) -> Duration {
        let values = killed.elapsed().as_nanos();
        cluster.block_on(async {
            let mut attempts = JoinSet::new();
            let mut all: Vec<Attempt> = Vec::new();
            while !all.iter().any(Attempt::is_acked) {
                for client in &self.clients {
                    self.number += 1;
                    let (client, value) = (client.clone(), format!("probe {values} {}", self.number));
                    attempts.spawn(async move { Attempt::make(&client, vec![value], APPEND).await });
                }
                tokio::time::sleep(PROBE_PACE).await;
                while let Some(done) = attempts.try_join_next() {
                    all.push(done.unwrap());
                }
            }
            all.extend(attempts.join_all().await);
            let first = first_ack_after(&all, killed).unwrap();
            load.history.lock().unwrap().append(&mut all);
            first
        })
    }
}

/// The whole log as the agent `name` holds it, everything acknowledged so far included: entry bytes, and values by
/// offset.
pub(crate) fn read(cluster: &Cluster, name: &str) -> (Vec<u8>, Vec<String>) {
    let client = cluster.pinned(name);
    cluster.block_on(async move {
        let mut tail = client.entries(TailFrom { read: ReadLevel::Linear, ..TailFrom::default() });
        let (mut bytes, mut values) = (Vec::new(), Vec::new());
        while let Some(entry) = tail.next().await {
            let entry = entry.unwrap();
            assert_eq!(entry.header().base_offset, values.len() as u64, "offsets are dense");
            bytes.extend_from_slice(entry.bytes());
            for stored in decode_batch(&entry.payload()).unwrap() {
                values.push(String::from_utf8(stored.record.value.to_vec()).unwrap());
            }
            assert_eq!(entry.header().next_offset(), values.len() as u64, "the header counts the records");
        }
        (bytes, values)
    })
}

/// What a history and a log amount to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) acked: usize,
    pub(crate) not_applied: usize,
    /// Of unknown outcome, and how many of those stand in the log.
    pub(crate) unknown: usize,
    pub(crate) unknown_applied: usize,
    pub(crate) records: usize,
}

/// One linearizable read: everything before `next` could be read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    pub(crate) asked: Instant,
    pub(crate) ended: Instant,
    pub(crate) next: u64,
}

/// Reads the log from each of `replicas`, finds them equal, and checks `history` against it.
#[track_caller]
pub(crate) fn verify(cluster: &Cluster, replicas: &[String], history: &[Attempt]) -> Summary {
    verify_with(cluster, replicas, history, &[])
}

/// The same, and every one of `reads` saw all that had been acked or read when it was asked for.
#[track_caller]
pub(crate) fn verify_with(cluster: &Cluster, replicas: &[String], history: &[Attempt], reads: &[Seen]) -> Summary {
    let replica = |name: &String| {
        let (bytes, values) = read(cluster, name);
        Replica { name: name.clone(), values, digest: xxhash_rust::xxh3::xxh3_128(&bytes) }
    };
    let replicas: Vec<_> = replicas.iter().map(replica).collect();
    for attempt in history.iter().filter(|attempt| attempt.outcome == Outcome::NotApplied) {
        println!("not applied after {:?}: {:?}", attempt.took(), attempt.error);
    }
    let verdict = history::check(&told(history, reads), &replicas);
    assert!(verdict.is_good(), "{:#?}", verdict.anomalies);
    let count = |n: u64| usize::try_from(n).unwrap();
    Summary {
        acked: count(verdict.acked),
        not_applied: count(verdict.not_applied),
        unknown: count(verdict.unknown),
        unknown_applied: count(verdict.unknown_applied),
        records: count(verdict.records),
    }
}

/// As the checker wants it: by one clock that begins with the first of them. Tests append more than what they note here.
fn told(history: &[Attempt], reads: &[Seen]) -> History<String> {
    let asked = history.iter().map(|attempt| attempt.asked).chain(reads.iter().map(|read| read.asked));
    let origin = asked.min().unwrap_or_else(Instant::now);
    let span = |asked: Instant, ended: Instant| Span { asked: asked - origin, ended: ended - origin };
    let append = |attempt: &Attempt| Append {
        values: attempt.values.clone(),
        span: span(attempt.asked, attempt.ended),
        outcome: attempt.outcome,
    };
    let read =
        |read: &Seen| Read { session: None, span: span(read.asked, read.ended), level: Level::Linear, next: read.next };
    History {
        appends: history.iter().map(append).collect(),
        reads: reads.iter().map(read).collect(),
        tails: Vec::new(),
        is_closed: false,
    }
}

/// From `killed` until the first ack of an append that was asked for after it.
fn first_ack_after(history: &[Attempt], killed: Instant) -> Option<Duration> {
    let later = history.iter().filter(|attempt| attempt.asked > killed && attempt.is_acked());
    later.map(|attempt| attempt.ended - killed).min()
}

/// The longest time without an ack that began in this span.
pub(crate) fn longest_silence(history: &[Attempt], from: Instant, to: Instant) -> Duration {
    let mut acks: Vec<_> = history.iter().filter(|attempt| attempt.is_acked()).map(|attempt| attempt.ended).collect();
    acks.sort();
    let pairs = acks.windows(2).filter(|pair| pair[1] > from && pair[0] < to);
    pairs.map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
}

/// The middle one, and the largest.
pub(crate) fn median_and_worst(mut times: Vec<Duration>) -> (Duration, Duration) {
    times.sort();
    (times[times.len() / 2], times[times.len() - 1])
}
