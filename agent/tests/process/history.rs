//! What clients did and what the log then holds: load on a cluster, and the checker of the two against each other.
//!
//! It believes nobody: the log is read from every replica, entry by entry, and every ack is looked up in it.

use crate::cluster::{Cluster, wait_until};
use quorate::api::Effect;
use quorate::client::{Client, ClientError, ReadLevel, TailFrom};
use quorate::record::{Record, decode_batch};
use std::collections::BTreeMap;
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

/// What became of one append.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It stands at this offset and the following ones.
    Acked(u64),
    /// It surely was not appended.
    NotApplied,
    /// Nobody could say.
    Unknown,
}

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

    /// The offset behind its last record, if it was acked.
    pub(crate) fn next(&self) -> Option<u64> {
        match self.outcome {
            Outcome::Acked(first) => Some(first + self.values.len() as u64),
            _ => None,
        }
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

/// Reads the log from each of `replicas`, finds them equal, and checks `history` against it.
#[track_caller]
pub(crate) fn verify(cluster: &Cluster, replicas: &[String], history: &[Attempt]) -> Summary {
    let mut logs = replicas.iter().map(|name| (name, read(cluster, name)));
    let (first, (bytes, values)) = logs.next().unwrap();
    for (name, (other_bytes, other_values)) in logs {
        assert_eq!(values, other_values, "{first} and {name} hold the same records");
        assert!(bytes == other_bytes, "{first} and {name} hold the same bytes");
    }
    for attempt in history.iter().filter(|attempt| attempt.outcome == Outcome::NotApplied) {
        println!("not applied after {:?}: {:?}", attempt.took(), attempt.error);
    }
    check(history, &values).unwrap_or_else(|why| panic!("{why}"))
}

/// Nothing acked is lost, doubled or elsewhere, nothing refused is there, and time and offsets agree.
pub(crate) fn check(history: &[Attempt], log: &[String]) -> Result<Summary, String> {
    let mut offsets: BTreeMap<&str, u64> = BTreeMap::new();
    for (offset, value) in (0..).zip(log) {
        if let Some(first) = offsets.insert(value, offset) {
            return Err(format!("{value:?} stands at {first} and again at {offset}"));
        }
    }
    let mut summary = Summary { records: log.len(), ..Summary::default() };
    for attempt in history {
        let found: Vec<_> = attempt.values.iter().map(|value| offsets.get(value.as_str()).copied()).collect();
        let first = match attempt.outcome {
            Outcome::Acked(first) => Some(first),
            Outcome::NotApplied => None,
            // Whole, or not at all.
            Outcome::Unknown => found[0],
        };
        let expected: Vec<_> = (0..found.len() as u64).map(|i| first.map(|first| first + i)).collect();
        if found != expected {
            return Err(format!("{attempt:?} should stand at {expected:?} and stands at {found:?}"));
        }
        match attempt.outcome {
            Outcome::Acked(_) => summary.acked += 1,
            Outcome::NotApplied => summary.not_applied += 1,
            Outcome::Unknown => {
                summary.unknown += 1;
                summary.unknown_applied += usize::from(first.is_some());
            }
        }
    }
    in_real_time(history)?;
    Ok(summary)
}

/// An append that was asked for after another had been acked has the larger offset.
fn in_real_time(history: &[Attempt]) -> Result<(), String> {
    let offset = |attempt: &Attempt| match attempt.outcome {
        Outcome::Acked(first) => first,
        _ => 0,
    };
    let mut by_asked: Vec<&Attempt> = history.iter().filter(|attempt| attempt.is_acked()).collect();
    let mut by_ended = by_asked.clone();
    by_asked.sort_by_key(|attempt| attempt.asked);
    by_ended.sort_by_key(|attempt| attempt.ended);
    let mut ended = by_ended.into_iter().peekable();
    let mut highest: Option<&Attempt> = None;
    for attempt in by_asked {
        while let Some(earlier) = ended.next_if(|earlier| earlier.ended < attempt.asked) {
            if highest.is_none_or(|highest| offset(highest) < offset(earlier)) {
                highest = Some(earlier);
            }
        }
        if let Some(highest) = highest.filter(|highest| offset(highest) > offset(attempt)) {
            return Err(format!("{attempt:?} was asked for after {highest:?} had been acked, and stands before it"));
        }
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(value: &str, from: u64, to: u64, outcome: Outcome) -> Attempt {
        let origin = Instant::now();
        let (asked, ended) = (origin + Duration::from_secs(from), origin + Duration::from_secs(to));
        Attempt { values: vec![value.into()], asked, ended, outcome, error: None }
    }

    fn log(values: &[&str]) -> Vec<String> {
        values.iter().map(|value| (*value).to_owned()).collect()
    }

    fn good() -> Vec<Attempt> {
        vec![
            attempt("a", 0, 10, Outcome::Acked(0)),
            attempt("b", 20, 30, Outcome::Acked(1)),
            attempt("c", 21, 31, Outcome::Unknown),
            attempt("d", 22, 32, Outcome::Unknown),
            attempt("e", 23, 33, Outcome::NotApplied),
        ]
    }

    #[test]
    fn a_good_history_passes_and_is_counted() {
        let summary = check(&good(), &log(&["a", "b", "d"])).unwrap();
        assert_eq!(summary, Summary { acked: 2, not_applied: 1, unknown: 2, unknown_applied: 1, records: 3 });
    }

    /// The checker must bite: each of these is what it exists to find.
    #[test]
    fn losses_doubles_lies_and_reordering_are_found() {
        for (what, bad) in [
            ("lost", log(&["a"])),
            ("doubled", log(&["a", "b", "a"])),
            ("elsewhere", log(&["b", "a"])),
            ("refused, and there", log(&["a", "b", "e"])),
        ] {
            assert!(check(&good(), &bad).is_err(), "{what}");
        }
        let backwards = [attempt("a", 0, 10, Outcome::Acked(1)), attempt("b", 20, 30, Outcome::Acked(0))];
        assert!(check(&backwards, &log(&["b", "a"])).is_err());
        let mut torn = attempt("a", 0, 10, Outcome::Unknown);
        torn.values.push("b".into());
        assert!(check(&[torn], &log(&["a"])).is_err());
    }
}
