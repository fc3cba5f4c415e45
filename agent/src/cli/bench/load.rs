//! The load: so many appends in flight, or so many a second on a schedule, and what became of each.
//!
//! It never repeats an append and never leaves one behind: it ends when every outcome is known.

use super::latency::Latencies;
use super::pacer::Pacer;
use super::payload::Payload;
use crate::api::{Code, Effect};
use crate::client::{Client, ClientError};
use serde::{Deserialize, Serialize};
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

/// After an append that failed: a cluster in trouble is not hammered.
const AFTER_FAILURE: Duration = Duration::from_millis(10);
/// Most appends that are issued between two looks at the schedule.
const DUE_TOGETHER: usize = 256;

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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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

/// What was measured, by one process or by several together.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Measured {
    /// Of each append that was issued (closed loop) or due (schedule) in the window, until its acknowledgement, or until
    /// it was given up because nobody could say.
    pub(super) latency: Latencies,
    /// On a schedule, from when each append was due until it was issued: what of the latency is the load's own doing.
    pub(super) lateness: Latencies,
    /// Appends acknowledged in the window.
    pub(super) acked: u64,
    /// Appends that were due in the window and never issued: too much was in flight. Their wait so far is a latency.
    pub(super) unissued: u64,
    /// Appends that surely failed, of the whole run.
    pub(super) not_applied: u64,
    /// Appends of which nobody could say, of the whole run.
    pub(super) unknown: u64,
    /// Why the first one failed.
    pub(super) failure: Option<String>,
    /// What became of each append, by number, if that was to be kept.
    pub(super) outcomes: Vec<Outcome>,
    /// Connections that spoke with an agent that did not lead, before or afterwards.
    pub(super) forwarded: u32,
    /// The load ended early, because no more outcomes could be kept.
    pub(super) is_cut: bool,
}

impl Measured {
    /// Takes in what another process has measured at the same time, but for its outcomes.
    pub(super) fn add(&mut self, other: &Self) {
        self.latency.add(&other.latency);
        self.lateness.add(&other.lateness);
        self.acked += other.acked;
        self.unissued += other.unissued;
        self.not_applied += other.not_applied;
        self.unknown += other.unknown;
        self.failure = self.failure.take().or_else(|| other.failure.clone());
        self.forwarded += other.forwarded;
        self.is_cut |= other.is_cut;
    }
}

/// What all appends share.
struct Book {
    window: Window,
    /// Most outcomes that are remembered; 0 for none.
    keep: usize,
    stop: AtomicBool,
    pages: Mutex<Pages>,
}

#[derive(Default)]
struct Pages {
    measured: Measured,
    next: u64,
    /// An error that no waiting mends.
    fatal: Option<ClientError>,
}

impl Book {
    fn new(window: Window, keep: usize) -> Self {
        Self { window, keep, stop: AtomicBool::new(false), pages: Mutex::default() }
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
        if self.keep > 0 {
            pages.measured.outcomes.push(Outcome::Unknown);
            if pages.measured.outcomes.len() >= self.keep {
                pages.measured.is_cut = true;
                self.stop.store(true, Ordering::Relaxed);
            }
        }
        number
    }

    /// The same for one that was due at `due`.
    fn issue_late(&self, due: Instant) -> u64 {
        if self.window.holds(due) {
            self.pages().measured.lateness.record(due.elapsed());
        }
        self.issue()
    }

    /// What was due at `due` and will not be issued any more has waited at least until now.
    fn never_issued(&self, due: Instant) {
        if self.window.holds(due) {
            let measured = &mut self.pages().measured;
            measured.unissued += 1;
            measured.latency.record(due.elapsed());
        }
    }

    /// Writes down how an append ended; its latency counts from `since`. Answers whether it succeeded.
    fn end(&self, number: u64, since: Instant, result: Result<u64, ClientError>) -> bool {
        let now = Instant::now();
        let mut pages = self.pages();
        let outcome = match result {
            Ok(offset) => {
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
        // One that nobody can say anything of has taken at least this long; to leave it out would flatter. One that was
        // refused is none: it may have been refused at once.
        if outcome != Outcome::NotApplied && self.window.holds(since) {
            pages.measured.latency.record(now - since);
        }
        if let Some(place) = usize::try_from(number).ok().and_then(|at| pages.measured.outcomes.get_mut(at)) {
            *place = outcome;
        }
        matches!(outcome, Outcome::Acked(_))
    }

    fn close(&self) -> Result<Measured, ClientError> {
        let mut pages = self.pages();
        match pages.fatal.take() {
            Some(error) => Err(error),
            None => Ok(std::mem::take(&mut pages.measured)),
        }
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

/// Keeps `in_flight` appends under way until the window ends, shared out over `sinks`. `keep`: so many
/// outcomes are remembered, and the load ends when there are as many.
pub(super) async fn closed<S: Sink>(
    sinks: &[S],
    in_flight: u32,
    window: Window,
    keep: usize,
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
                    sleep(AFTER_FAILURE).await;
                }
            }
        });
    }
    while slots.join_next().await.is_some() {}
    book.close()
}

/// Issues an append whenever one is due, until the pacer ends; at most `in_flight` are under way, and one that has to
/// wait for room waits at its own expense: its latency counts from when it was due. When the window is over nothing waits
/// for room any more.
pub(super) async fn scheduled<S: Sink>(
    sinks: &[S],
    in_flight: u32,
    mut pacer: Pacer,
    window: Window,
    keep: usize,
) -> Result<Measured, ClientError> {
    let book = Arc::new(Book::new(window, keep));
    let room = Arc::new(Semaphore::new(in_flight as usize));
    let mut next = sinks.iter().cycle();
    let mut issue = |at: Instant, permit: OwnedSemaphorePermit| {
        let Some(sink) = next.next().cloned() else { return };
        let book = book.clone();
        let number = book.issue_late(at);
        tokio::spawn(async move {
            let result = sink.append(number).await;
            book.end(number, at, result);
            drop(permit);
        });
    };
    let mut due = Vec::with_capacity(DUE_TOGETHER);
    // The pacer ends with the window, and then tells the last that were due. A load that has to stop does so at once.
    while !book.stop.load(Ordering::Relaxed) && pacer.due(&mut due, DUE_TOGETHER).await > 0 {
        for at in due.drain(..) {
            let free = match room.clone().try_acquire_owned() {
                Ok(permit) => Some(permit),
                Err(_) => tokio::select! {
                    permit = room.clone().acquire_owned() => permit.ok(),
                    () = sleep_until(window.to) => None,
                },
            };
            match free.filter(|_| !book.stop.load(Ordering::Relaxed)) {
                Some(permit) => issue(at, permit),
                None => book.never_issued(at),
            }
        }
    }
    // All room back means every outcome known.
    let _ = room.acquire_many(in_flight).await;
    book.close()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::mpsc;

    const MS: Duration = Duration::from_millis(1);

    /// A cluster that answers after a tenth of a millisecond, but for a second of silence.
    #[derive(Clone)]
    struct Stalling {
        from: Instant,
        to: Instant,
    }

    impl Sink for Stalling {
        async fn append(&self, number: u64) -> Result<u64, ClientError> {
            sleep(MS / 10).await;
            let now = Instant::now();
            if self.from <= now && now < self.to {
                sleep_until(self.to).await;
            }
            Ok(number)
        }
    }

    /// Ten seconds of which the fourth is silent.
    fn scene() -> (Stalling, Window) {
        let window = Window::after(Duration::ZERO, 10_000 * MS);
        (Stalling { from: window.from + 3_000 * MS, to: window.from + 4_000 * MS }, window)
    }

    /// A thousand appends a second.
    fn schedule(window: Window) -> Pacer {
        let (tell, due) = mpsc::channel(16);
        tokio::spawn(async move {
            for n in 0..10_000 {
                let at = window.from + n * MS;
                sleep_until(at).await;
                let _ = tell.send(at).await;
            }
        });
        Pacer::of(due)
    }

    /// A second of silence at a thousand a second hits a tenth of all appends, whether they wait for an answer or, since
    /// only few may be in flight, to be issued.
    #[tokio::test(start_paused = true)]
    async fn on_a_schedule_a_stall_is_seen_by_everything_that_was_due() {
        for in_flight in [4_096, 8] {
            let (cluster, window) = scene();
            let measured = scheduled(&[cluster], in_flight, schedule(window), window, usize::MAX).await.unwrap();
            let seen = measured.latency.percentiles();
            assert_eq!((seen.samples, measured.unissued), (10_000, 0), "{in_flight}");
            assert!(seen.p99_us > 850_000.0, "{in_flight} in flight: p99 is {} µs", seen.p99_us);
            assert!(seen.p50_us < 2_500.0, "{in_flight} in flight: p50 is {} µs", seen.p50_us);
            assert_eq!(measured.outcomes.len(), 10_000);
            assert!((0..).zip(&measured.outcomes).all(|(n, outcome)| *outcome == Outcome::Acked(n)));
        }
    }

    /// The same stall in a closed loop: one slow append a slot, which is why the corrected figure stands beside.
    #[tokio::test(start_paused = true)]
    async fn in_a_closed_loop_the_stall_stops_the_load() {
        let (cluster, window) = scene();
        let measured = closed(&[cluster], 1, window, 0).await.unwrap();
        assert!(measured.latency.percentiles().p99_us < 10_000.0);
        assert!(measured.latency.percentiles().max_us > 900_000.0);
        assert!(measured.latency.corrected().percentiles().p99_us > 850_000.0);
        assert!(measured.outcomes.is_empty());
    }

    /// A cluster that falls silent for good: what was due and never issued is no good latency either.
    #[tokio::test(start_paused = true)]
    async fn what_was_due_and_never_issued_is_counted() {
        let (mut cluster, window) = scene();
        cluster.to = window.to + 5_000 * MS;
        let measured = scheduled(&[cluster], 8, schedule(window), window, 0).await.unwrap();
        let seen = measured.latency.percentiles();
        assert_eq!(seen.samples, 10_000);
        assert!(measured.unissued > 6_900, "{}", measured.unissued);
        assert!(seen.p90_us > 5_900_000.0, "{}", seen.p90_us);
        assert!(measured.acked < 3_010, "{}", measured.acked);
    }

    /// Only what was issued after the warm-up is in the figures.
    #[tokio::test(start_paused = true)]
    async fn the_warm_up_does_not_count() {
        let (cluster, _) = scene();
        let window = Window::after(4_000 * MS, 1_000 * MS);
        let measured = closed(&[cluster], 2, window, 0).await.unwrap();
        assert!(measured.latency.percentiles().max_us < 10_000.0);
        assert!(measured.acked <= 2 * 1_001 && measured.acked > 500, "{}", measured.acked);
    }

    /// What is remembered is bounded: the load ends rather than forget one.
    #[tokio::test(start_paused = true)]
    async fn the_load_ends_when_no_more_outcomes_can_be_kept() {
        let (cluster, window) = scene();
        let measured = closed(std::slice::from_ref(&cluster), 4, window, 100).await.unwrap();
        assert!(measured.is_cut);
        assert!((100..104).contains(&measured.outcomes.len()), "{}", measured.outcomes.len());
        assert!(measured.outcomes.iter().all(|outcome| matches!(outcome, Outcome::Acked(_))));
        let measured = scheduled(&[cluster], 4, schedule(window), window, 100).await.unwrap();
        assert!(measured.is_cut);
        assert_eq!(measured.outcomes.len(), 100);
    }

    /// Whatever no waiting mends ends the run with its reason; anything else is counted.
    #[tokio::test(start_paused = true)]
    async fn failures_are_counted_and_final_ones_end_the_run() {
        #[derive(Clone)]
        struct Failing(ClientError);
        impl Sink for Failing {
            async fn append(&self, _: u64) -> Result<u64, ClientError> {
                sleep(MS).await;
                Err(self.0.clone())
            }
        }
        let window = || Window::after(Duration::ZERO, 1_000 * MS);
        let unknown = Failing(ClientError::Unknown { why: "gone".into() });
        let measured = closed(&[unknown], 2, window(), usize::MAX).await.unwrap();
        assert!(measured.unknown > 10 && measured.not_applied == 0);
        assert_eq!(measured.outcomes.len() as u64, measured.unknown);
        assert_eq!((measured.acked, measured.latency.percentiles().samples), (0, measured.unknown));
        assert!(measured.failure.unwrap().contains("gone"));
        let error = ClientError::NotAuthorised { why: "role".into() };
        assert_eq!(closed(&[Failing(error.clone())], 2, window(), 0).await.unwrap_err(), error);
    }
}
