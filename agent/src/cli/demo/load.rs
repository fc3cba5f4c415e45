//! Several clients that append without a pause, and remember exactly what they were told.
//!
//! It never repeats an append: the demo wants to know what became of each.

use crate::api::{Code, Effect};
use crate::cli::cluster::Cluster;
use crate::cli::find;
use crate::cli::output::{CliError, Exit};
use crate::client::{Client, ClientError};
use crate::history::Outcome;
use crate::record::Record;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// How many clients append at the same time.
pub(super) const CLIENTS: usize = 4;
/// Appends of one client under way at one time in the fast part.
const IN_FLIGHT: u32 = 16;
/// The same at the steady pace: appends go out as if nothing had happened, however long the others hang.
const IN_FLIGHT_STEADY: u32 = 1_024;
/// How long one append may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two appends of one client once the first part is done: steady, and short to read back.
const PACE: Duration = Duration::from_millis(4);
/// Bytes of a value.
const VALUE_BYTES: usize = 128;
/// The stream that is written.
pub(super) const STREAM: &str = "demo";
/// The number of the record that shows that the cluster serves.
pub(super) const PROBE: u64 = u64::MAX;

/// One append, from outside.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attempt {
    /// Its unique number, which its value carries.
    pub(super) id: u64,
    /// When it was issued.
    pub(super) issued: Instant,
    /// When its outcome was known.
    pub(super) ended: Instant,
    /// Its outcome.
    pub(super) outcome: Outcome,
}

#[derive(Default)]
struct Shared {
    attempts: Mutex<Vec<Attempt>>,
    ids: AtomicU64,
    acked: AtomicU64,
    stop: AtomicBool,
    /// An error that no waiting mends.
    fatal: Mutex<Option<ClientError>>,
}

/// The clients at work.
pub(super) struct Load {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

/// The record that shows that the cluster serves. Its value carries no number.
pub(super) fn probe() -> Record {
    Record { stream: STREAM.into(), ..Record::of("the first one") }
}

fn record(id: u64) -> Record {
    let mut value = format!("{id:016x} ");
    while value.len() < VALUE_BYTES {
        value.push(char::from(b'a' + (value.len() as u64 * 7 + id) as u8 % 26));
    }
    Record { stream: STREAM.into(), key: format!("k{}", id % 100), ..Record::of(value) }
}

/// The number of a record that stands at `offset`; one that was altered has a number that no append ever has.
pub(super) fn number(of: &Record, offset: u64) -> u64 {
    if *of == probe() {
        return PROBE;
    }
    let digits = of.value.get(..16).and_then(|digits| std::str::from_utf8(digits).ok());
    let id = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok());
    id.filter(|id| record(*id) == *of).unwrap_or(PROBE - 1 - offset)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Load {
    /// Starts the clients, each at another agent: `fast` appends as quickly as they go, then at a steady pace.
    pub(super) fn start(cluster: &Cluster, fast: u64) -> Result<Self, CliError> {
        let shared = Arc::new(Shared::default());
        let mut workers = Vec::with_capacity(CLIENTS);
        for i in 0..CLIENTS {
            workers.push(tokio::spawn(work(cluster.client(i)?, shared.clone(), fast)));
        }
        Ok(Self { shared, workers })
    }

    /// How many were acknowledged so far.
    pub(super) fn acked(&self) -> u64 {
        self.shared.acked.load(Ordering::Relaxed)
    }

    /// Has a client been refused for good?
    pub(super) fn check(&self) -> Result<(), CliError> {
        match lock(&self.shared.fatal).take() {
            Some(error) => Err(find::error(error, true)),
            None => Ok(()),
        }
    }

    /// The moment of the first ack of an append that was issued after `moment`.
    pub(super) async fn first_ack_issued_after(
        &self,
        moment: Instant,
        patience: Duration,
    ) -> Result<Instant, CliError> {
        let give_up_at = Instant::now() + patience;
        loop {
            self.check()?;
            let acked = |a: &&Attempt| a.issued > moment && matches!(a.outcome, Outcome::Acked(_));
            let first = lock(&self.shared.attempts).iter().filter(acked).map(|a| a.ended).min();
            if let Some(first) = first {
                return Ok(first);
            }
            if Instant::now() > give_up_at {
                let what =
                    format!("nothing was acknowledged for {} s (the cluster did not recover)", patience.as_secs());
                return Err(CliError::new(Exit::NoQuorum, what, ""));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Stops, waits for every outcome and hands them over.
    pub(super) async fn finish(self) -> Result<Vec<Attempt>, CliError> {
        self.shared.stop.store(true, Ordering::Relaxed);
        for worker in self.workers {
            worker.await.map_err(|e| CliError::system("a client of the demo ended", &e, ""))?;
        }
        if let Some(error) = lock(&self.shared.fatal).take() {
            return Err(find::error(error, true));
        }
        Ok(std::mem::take(&mut *lock(&self.shared.attempts)))
    }
}

async fn work(client: Client, shared: Arc<Shared>, fast: u64) {
    let room = Arc::new(Semaphore::new(IN_FLIGHT_STEADY as usize));
    // In the fast part one append takes the room of many.
    let share = IN_FLIGHT_STEADY / IN_FLIGHT;
    while !shared.stop.load(Ordering::Relaxed) {
        let id = shared.ids.fetch_add(1, Ordering::Relaxed);
        let steady = id >= fast;
        if steady {
            tokio::time::sleep(PACE).await;
        }
        let Ok(permit) = room.clone().acquire_many_owned(if steady { 1 } else { share }).await else { break };
        let (client, shared) = (client.clone(), shared.clone());
        tokio::spawn(async move {
            attempt(&client, &shared, id).await;
            drop(permit);
        });
    }
    // All room back means every outcome known.
    let _ = room.acquire_many(IN_FLIGHT_STEADY).await;
}

/// Would the next append fare no better?
fn is_final(error: &ClientError) -> bool {
    match error {
        ClientError::NotAuthorised { .. } | ClientError::Invalid { .. } => true,
        ClientError::Failed(failure) => matches!(failure.code, Code::NotAuthorised | Code::Invalid),
        _ => false,
    }
}

async fn attempt(client: &Client, shared: &Shared, id: u64) {
    let issued = Instant::now();
    let outcome = match client.append_within(&[record(id)], PATIENCE).await {
        Ok(acked) => {
            shared.acked.fetch_add(1, Ordering::Relaxed);
            Outcome::Acked(acked.first)
        }
        Err(error) if error.effect() == Effect::Unknown => Outcome::Unknown,
        Err(error) => {
            if is_final(&error) {
                *lock(&shared.fatal) = Some(error);
            }
            Outcome::NotApplied
        }
    };
    lock(&shared.attempts).push(Attempt { id, issued, ended: Instant::now(), outcome });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_carries_its_number_and_an_altered_one_is_noticed() {
        assert_eq!(number(&probe(), 0), PROBE);
        assert_eq!(number(&record(77), 9), 77);
        assert_eq!(record(77).value.len(), VALUE_BYTES);
        let mut altered = record(77);
        altered.key = "k1".into();
        assert_eq!(number(&altered, 9), PROBE - 10);
        assert_eq!(number(&Record::of("x"), 3), PROBE - 4);
    }
}
