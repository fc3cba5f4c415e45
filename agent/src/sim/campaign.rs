//! Campaign: many worlds, one after the other on each of several threads, and what all of them have shown together.
//!
//! It stands outside the worlds: it reads the clock of the machine, and they never do.

use super::{Counters, Faults, Invariant, Plan, Report, Violation, run};
use std::cell::Cell;
use std::collections::VecDeque;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, mpsc};
use std::time::{Duration, Instant};

/// How many failures are kept with their plans; more are only counted.
const FAILURES_MAX: usize = 100;

/// What is to be run.
#[derive(Clone, Debug)]
pub struct Campaign {
    /// Which seeds, at most.
    pub seeds: Range<u64>,
    /// With which faults.
    pub faults: Faults,
    /// On how many threads.
    pub jobs: usize,
    /// No world is begun after this time.
    pub within: Option<Duration>,
    /// One of so many worlds is run twice, and both must be the same; 0 for none.
    pub check_determinism_every: u64,
}

/// What all worlds have shown.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    /// Worlds that were run to their end.
    pub worlds: u64,
    /// How many of them were run twice.
    pub run_twice: u64,
    /// Simulated time, in microseconds.
    pub simulated_us: u64,
    /// Things that happened.
    pub events: u64,
    /// What happened, by kind.
    pub counters: Counters,
    /// How many broke a promise.
    pub failed: u64,
    /// The first of them.
    pub failures: VecDeque<(u64, Violation)>,
    /// How long it took.
    pub took: Duration,
}

impl Totals {
    fn add(&mut self, report: &Report) {
        self.worlds += 1;
        self.simulated_us += report.lasted_us;
        self.events += report.events;
        self.counters.merge(&report.counters);
    }

    fn fail(&mut self, seed: u64, violation: Violation) {
        self.failed += 1;
        if self.failures.len() < FAILURES_MAX {
            self.failures.push_back((seed, violation));
        }
    }
}

enum News {
    Ended(u64, Box<Report>, Option<Violation>),
    /// An agent broke an assertion of its own: the thread that ran it is gone.
    Broke(u64, String),
    /// A thread has found no more seeds.
    Idle,
}

/// Runs them all. `tell` hears of each failure as soon as it is known.
pub fn campaign(campaign: &Campaign, mut tell: impl FnMut(u64, &Violation)) -> Totals {
    let begun = Instant::now();
    let (sender, news) = mpsc::channel();
    let shared = Arc::new(Shared { next: AtomicU64::new(campaign.seeds.start), campaign: campaign.clone(), begun });
    let spawn = || {
        let (shared, sender) = (Arc::clone(&shared), sender.clone());
        std::thread::spawn(move || work(&shared, &sender));
    };
    let mut working = campaign.jobs.max(1);
    (0..working).for_each(|_| spawn());
    let mut totals = Totals::default();
    while working > 0
        && let Ok(news) = news.recv()
    {
        match news {
            News::Ended(seed, report, violation) => {
                totals.add(&report);
                totals.run_twice += u64::from(shared.is_run_twice(seed));
                if let Some(violation) = violation {
                    tell(seed, &violation);
                    totals.fail(seed, violation);
                }
            }
            News::Broke(seed, what) => {
                let violation = Violation { invariant: Invariant::OwnAssertion, what };
                tell(seed, &violation);
                totals.worlds += 1;
                totals.fail(seed, violation);
                spawn();
            }
            News::Idle => working -= 1,
        }
    }
    totals.took = begun.elapsed();
    totals
}

struct Shared {
    next: AtomicU64,
    campaign: Campaign,
    begun: Instant,
}

impl Shared {
    fn is_run_twice(&self, seed: u64) -> bool {
        self.campaign.check_determinism_every > 0 && seed.is_multiple_of(self.campaign.check_determinism_every)
    }

    fn next(&self) -> Option<u64> {
        let late = self.campaign.within.is_some_and(|within| self.begun.elapsed() >= within);
        let seed = self.next.fetch_add(1, Ordering::Relaxed);
        (!late && self.campaign.seeds.contains(&seed)).then_some(seed)
    }
}

fn work(shared: &Shared, sender: &mpsc::Sender<News>) {
    while let Some(seed) = shared.next() {
        let news = match guarded(seed, sender, || {
            judge(Plan::draw_with(seed, shared.campaign.faults), shared.is_run_twice(seed))
        }) {
            Ok((report, violation)) => News::Ended(seed, Box::new(report), violation),
            Err(what) => {
                let _ = sender.send(News::Broke(seed, what));
                return;
            }
        };
        if sender.send(news).is_err() {
            return;
        }
    }
    let _ = sender.send(News::Idle);
}

fn judge(plan: Plan, twice: bool) -> (Report, Option<Violation>) {
    let report = run(plan, false);
    let mut violation = report.violation.clone();
    if twice && violation.is_none() {
        let again = run(report.plan.clone(), false);
        if again.trace_hash != report.trace_hash || again.counters != report.counters {
            let what = format!("trace {:016x} the first time, {:016x} the second", report.trace_hash, again.trace_hash);
            violation = Some(Violation { invariant: Invariant::Deterministic, what });
        }
    }
    (report, violation)
}

thread_local! {
    static RUNNING: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Where a panic is told where it cannot be caught.
static ORPHANS: OnceLock<Mutex<mpsc::Sender<News>>> = OnceLock::new();

/// Runs one world. Where a panic unwinds, it ends here. Where it aborts the process, as in the release profile, it is told
/// from the hook, and the thread sleeps for good: one broken world must not cost all the others.
fn guarded<T>(seed: u64, sender: &mpsc::Sender<News>, run: impl FnOnce() -> T) -> Result<T, String> {
    if cfg!(panic = "abort") {
        ORPHANS.get_or_init(|| {
            std::panic::set_hook(Box::new(|info| {
                if let (Some(seed), Some(orphans)) = (RUNNING.get(), ORPHANS.get()) {
                    let sender = orphans.lock().unwrap_or_else(PoisonError::into_inner).clone();
                    let _ = sender.send(News::Broke(seed, info.to_string()));
                    loop {
                        std::thread::park();
                    }
                }
                eprintln!("{info}");
            }));
            Mutex::new(sender.clone())
        });
        if let Some(orphans) = ORPHANS.get() {
            *orphans.lock().unwrap_or_else(PoisonError::into_inner) = sender.clone();
        }
    }
    RUNNING.set(Some(seed));
    let result = catch_unwind(AssertUnwindSafe(run));
    RUNNING.set(None);
    result.map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        text.unwrap_or("a panic without words").to_owned()
    })
}
