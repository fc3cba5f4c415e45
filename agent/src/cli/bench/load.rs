//! The load: so many appends in flight, or so many a second on a schedule, and what became of each.
//!
//! It never repeats an append and never leaves one behind: it ends when every outcome is known.

use super::latency::Latencies;
use super::payload::Payload;
use crate::api::{Code, Effect};
use crate::client::{Client, ClientError};
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// After an append that failed: a cluster in trouble is not hammered.
const AFTER_FAILURE: Duration = Duration::from_millis(10);

/// Where appends go.
pub(super) trait Sink: Clone + Send + 'static {
    /// Appends the batch with this number; answers with its first offset.
    fn append(&self, number: u64) -> impl Future<Output = Result<u64, ClientError>> + Send;
}

/// A client and what it appends.
#[derive(Clone)]
pub(super) struct Appender {
    pub(super) client: Client,
    pub(super) payload: Arc<Payload>,
    /// Records an append.
    pub(super) batch: u64,
}

impl Sink for Appender {
    async fn append(&self, number: u64) -> Result<u64, ClientError> {
        let first = number * self.batch;
        let records: Vec<_> = (first..first + self.batch).map(|number| self.payload.record(number)).collect();
        Ok(self.client.append(&records).await?.first)
    }
}

/// What became of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) enum Outcome {
    /// Acknowledged, with the offset of its first record.
    Acked(u64),
    /// Surely not in the log.
    NotApplied,
    /// Nobody could say.
    Unknown,
}

/// When the counting begins and ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    pub(super) from: Instant,
    pub(super) to: Instant,
}

impl Window {
    /// Counts for `duration` after `warm_up`, from now.
    pub(super) fn after(warm_up: Duration, duration: Duration) -> Self {
        let from = Instant::now() + warm_up;
        Self { from, to: from + duration }
    }

    fn holds(&self, moment: Instant) -> bool {
        self.from <= moment && moment < self.to
    }
}

/// What was measured.
#[derive(Debug, Default)]
pub(super) struct Measured {
    /// From the issue of each append in the window to its acknowledgement.
    pub(super) latency: Latencies,
    /// Appends acknowledged in the window.
    pub(super) acked: u64,
    /// Appends that surely failed, of the whole run.
    pub(super) not_applied: u64,
    /// Appends of which nobody could say, of the whole run.
    pub(super) unknown: u64,
    /// Why the first one failed.
    pub(super) failure: Option<String>,
    /// What became of each append, by number, if that was to be kept.
    pub(super) outcomes: Vec<Outcome>,
}

/// What all appends share.
struct Book {
    window: Window,
    keep: bool,
    stop: AtomicBool,
    pages: Mutex<Pages>,
}

struct Pages {
    measured: Measured,
    next: u64,
    /// An error that no waiting mends.
    fatal: Option<ClientError>,
}

impl Book {
    fn new(window: Window, keep: bool) -> Self {
        let pages = Pages { measured: Measured::default(), next: 0, fatal: None };
        Self { window, keep, stop: AtomicBool::new(false), pages: Mutex::new(pages) }
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || Instant::now() >= self.window.to
    }

    /// The number of the next append. Until it has ended, its outcome is unknown.
    fn issue(&self) -> u64 {
        let mut pages = self.pages();
        let number = pages.next;
        pages.next += 1;
        if self.keep {
            pages.measured.outcomes.push(Outcome::Unknown);
        }
        number
    }

    /// Writes down how an append ended; `since` is when it was issued. Answers whether it succeeded.
    fn end(&self, number: u64, since: Instant, result: Result<u64, ClientError>) -> bool {
        let now = Instant::now();
        let mut pages = self.pages();
        let outcome = match result {
            Ok(offset) => {
                if self.window.holds(since) {
                    pages.measured.latency.record(now - since);
                }
                pages.measured.acked += u64::from(self.window.holds(now));
                Outcome::Acked(offset)
            }
            Err(error) => {
                let outcome = if error.effect() == Effect::Unknown { Outcome::Unknown } else { Outcome::NotApplied };
                pages.measured.unknown += u64::from(outcome == Outcome::Unknown);
                pages.measured.not_applied += u64::from(outcome == Outcome::NotApplied);
                pages.measured.failure.get_or_insert_with(|| error.to_string());
                if is_final(&error) {
                    self.stop.store(true, Ordering::Relaxed);
                    pages.fatal = Some(error);
                }
                outcome
            }
        };
        if let Some(place) = usize::try_from(number).ok().and_then(|at| pages.measured.outcomes.get_mut(at)) {
            *place = outcome;
        }
        matches!(outcome, Outcome::Acked(_))
    }
}

/// Would the next append fare no better?
fn is_final(error: &ClientError) -> bool {
    match error {
        ClientError::NotAuthorised { .. } | ClientError::Invalid { .. } => true,
        ClientError::Failed(failure) => matches!(failure.code, Code::NotAuthorised | Code::Invalid),
        _ => false,
    }
}

/// Keeps `in_flight` appends under way until the window ends, shared out over `sinks`. `keep`: remember each outcome.
pub(super) async fn closed<S: Sink>(
    sinks: &[S],
    in_flight: u32,
    window: Window,
    keep: bool,
) -> Result<Measured, ClientError> {
    let book = Arc::new(Book::new(window, keep));
    let mut slots = JoinSet::new();
    for sink in sinks.iter().cycle().take(in_flight as usize) {
        let (book, sink) = (book.clone(), sink.clone());
        slots.spawn(async move {
            while !book.is_over() {
                let number = book.issue();
                let since = Instant::now();
                let result = sink.append(number).await;
                if !book.end(number, since, result) {
                    tokio::time::sleep(AFTER_FAILURE).await;
                }
            }
        });
    }
    while slots.join_next().await.is_some() {}
    conclude(&book)
}

fn conclude(book: &Book) -> Result<Measured, ClientError> {
    let mut pages = book.pages();
    if let Some(error) = pages.fatal.take() {
        return Err(error);
    }
    Ok(std::mem::take(&mut pages.measured))
}
