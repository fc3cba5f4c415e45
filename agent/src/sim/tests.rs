//! Seeds: many worlds, each a storm and a calm; and the proof that a seed is all there is to a run.

use super::{Counters, Plan, run};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Seeds of the normal test run; `QUORATE_SEEDS=A..B` chooses others.
const SEEDS: Range<u64> = 0..200;
/// Lines of the trace that are shown of a run that failed.
const TAIL_LINES: usize = 80;

/// What must really have happened in the normal test run.
const MUST_HAPPEN: [&str; 35] = [
    "aborts",
    "appends acked",
    "appends refused",
    "appends unknown",
    "clock",
    "connections lost",
    "crash",
    "crash-all",
    "crash-leader",
    "cut",
    "datagrams doubled",
    "datagrams lost",
    "departed",
    "disk full",
    "fail-sync",
    "fetches",
    "frames lost",
    "frames stalled",
    "full-disk",
    "halves",
    "isolate",
    "isolate-leader",
    "kill",
    "lose-bulk",
    "move",
    "move-all",
    "packets lost",
    "pause",
    "reads",
    "reset",
    "sectors lost",
    "slow-disk",
    "tear",
    "torn in a call",
    "wipe",
];

fn chosen() -> Range<u64> {
    let Ok(text) = std::env::var("QUORATE_SEEDS") else { return SEEDS };
    let (from, to) = text.split_once("..").expect("QUORATE_SEEDS=A..B");
    from.parse().expect("a number")..to.parse().expect("a number")
}

/// Runs one seed; `Err` holds all that is needed to look at it again.
fn check(seed: u64) -> Result<Counters, String> {
    let report = catch_unwind(AssertUnwindSafe(|| run(Plan::draw(seed), false)));
    let Ok(report) = report else { return Err(format!("seed {seed}: an agent broke its own assertion, see above")) };
    match report.violation {
        None => Ok(report.counters),
        Some(violation) => {
            let from = report.trace.len().saturating_sub(TAIL_LINES);
            let tail = report.trace[from..].join("\n");
            Err(format!("{}\n{tail}\nseed {seed}: {violation}", report.plan))
        }
    }
}

#[test]
fn two_hundred_worlds_keep_every_promise() {
    let (seeds, counters, failures) = (chosen(), Mutex::new(Counters::default()), Mutex::new(Vec::new()));
    let next = AtomicU64::new(seeds.start);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, |n| n.get().clamp(2, 4)) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if !seeds.contains(&seed) {
                        return;
                    }
                    match check(seed) {
                        Ok(counted) => counters.lock().unwrap().merge(&counted),
                        Err(failure) => failures.lock().unwrap().push((seed, failure)),
                    }
                }
            });
        }
    });
    let (counters, mut failures) = (counters.into_inner().unwrap(), failures.into_inner().unwrap());
    println!("{counters}");
    failures.sort();
    for (_, failure) in &failures {
        println!("{}", failure.lines().last().unwrap_or_default());
    }
    if let Some((_, first)) = failures.first() {
        let all: Vec<u64> = failures.iter().map(|(seed, _)| *seed).collect();
        panic!("{first}\n{} of {} seeds failed: {all:?}", failures.len(), seeds.end - seeds.start);
    }
    if seeds == SEEDS {
        let missing: Vec<&str> = MUST_HAPPEN.into_iter().filter(|kind| counters.get(kind) == 0).collect();
        assert!(missing.is_empty(), "never happened: {missing:?}");
    }
}

#[test]
fn the_same_seed_gives_the_same_trace_byte_for_byte() {
    for seed in [3, 11] {
        let (first, second) = (run(Plan::draw(seed), true), run(Plan::draw(seed), true));
        assert!(first.trace_lines > 1000, "a run of {} lines shows little", first.trace_lines);
        assert_eq!(first.trace, second.trace);
        assert_eq!(first.trace_hash, second.trace_hash);
        assert_eq!(first.counters, second.counters);
    }
    assert_ne!(run(Plan::draw(3), false).trace_hash, run(Plan::draw(4), false).trace_hash);
}
