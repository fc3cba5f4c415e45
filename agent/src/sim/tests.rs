//! Seeds: many worlds, each a storm and a calm; plans that once broke a promise; and the proof that a plan is all there is
//! to a run.

use super::{Campaign, Counters, Faults, Plan, campaign, run};
use std::ops::Range;
use std::path::Path;

/// Seeds of the normal test run; `QUORATE_SEEDS=A..B` chooses others.
const SEEDS: Range<u64> = 0..200;
/// Lines of the trace that are shown of a run that failed.
const TAIL_LINES: usize = 80;
/// In two hundred worlds some things may not happen: they take long storms, which are one in sixteen, or several chances.
const RARE: [&str; 5] =
    ["forgotten", "gossip replayed after a minute", "copies refused", "older disks returned", "reads failed"];

fn chosen() -> Range<u64> {
    let Ok(text) = std::env::var("QUORATE_SEEDS") else { return SEEDS };
    let (from, to) = text.split_once("..").expect("QUORATE_SEEDS=A..B");
    from.parse().expect("a number")..to.parse().expect("a number")
}

/// A plan that once broke a promise keeps all of them since; each is the shortest one that was found.
#[test]
fn plans_that_once_failed_keep_every_promise() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/sim/regressions");
    let mut files: Vec<_> = std::fs::read_dir(&directory).expect("it is there").map(|f| f.unwrap().path()).collect();
    files.retain(|f| f.extension().is_some_and(|e| e == "json"));
    files.sort();
    assert!(!files.is_empty(), "no plans in {}", directory.display());
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let plan = Plan::from_json(&text).unwrap_or_else(|why| panic!("{}: {why}", file.display()));
        let report = run(plan, false);
        assert_eq!(report.violation, None, "{}", file.display());
    }
}

#[test]
fn two_hundred_worlds_keep_every_promise() {
    let seeds = chosen();
    let jobs = std::thread::available_parallelism().map_or(2, |n| n.get().clamp(2, 4));
    let all = Campaign { seeds: seeds.clone(), faults: Faults::All, jobs, within: None, check_determinism_every: 0 };
    let totals = campaign(&all, |seed, violation| println!("seed {seed}: {violation}"));
    println!("{}", totals.counters);
    if let Some((seed, violation)) = totals.failures.iter().min_by_key(|(seed, _)| *seed) {
        if violation.invariant != super::Invariant::OwnAssertion {
            let report = run(Plan::draw(*seed), false);
            let from = report.trace.len().saturating_sub(TAIL_LINES);
            println!("{}\n{}", report.plan, report.trace[from..].join("\n"));
        }
        panic!("{} of {} worlds broke a promise; seed {seed}: {violation}", totals.failed, totals.worlds);
    }
    if seeds == SEEDS {
        let mut missing = totals.counters.rarer_than(1);
        missing.retain(|kind| !RARE.contains(kind));
        assert!(missing.is_empty(), "never happened: {missing:?}");
    }
}

/// Worlds in which members come and go, and nothing else goes wrong.
#[test]
fn worlds_of_churn_keep_every_promise() {
    let jobs = std::thread::available_parallelism().map_or(2, |n| n.get().clamp(2, 4));
    let all = Campaign { seeds: 0..24, faults: Faults::Membership, jobs, within: None, check_determinism_every: 0 };
    let totals = campaign(&all, |seed, violation| println!("seed {seed}: {violation}"));
    println!("{}", totals.counters);
    assert_eq!(totals.failures, [], "run `simulate --faults membership --seed N`");
    let counted = |kind| totals.counters.get(kind);
    for kind in ["retire", "voters replaced", "levels raised", "upgrade", "flap", "leaves", "forgotten"] {
        assert!(counted(kind) > 0, "never happened: {kind}");
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
        assert_eq!((first.events, first.lasted_us), (second.events, second.lasted_us));
    }
    assert_ne!(run(Plan::draw(3), false).trace_hash, run(Plan::draw(4), false).trace_hash);
}

/// A saved plan needs nothing of the draws that made it.
#[test]
fn a_saved_plan_runs_as_its_seed_does() {
    for seed in [5, 8] {
        let drawn = run(Plan::draw(seed), false);
        let saved = Plan::from_json(&drawn.plan.to_json()).expect("it reads");
        let replayed = run(saved, false);
        assert_eq!((drawn.trace_hash, drawn.counters), (replayed.trace_hash, replayed.counters), "seed {seed}");
    }
}

/// A requirement that is not met is told by name; one that is met is not.
#[test]
fn what_happened_too_rarely_is_told() {
    let mut counters = Counters::default();
    assert_eq!(counters.rarer_than(1).len(), super::FAULTS.concat().len());
    counters.add("crash", 99);
    assert!(counters.rarer_than(100).contains(&"crash"));
    counters.count_for("crash", super::Role::Leader);
    assert!(!counters.rarer_than(100).contains(&"crash"));
    assert_eq!(counters.in_role("crash", super::Role::Leader), 1);
    let table = counters.table(100);
    let line = table.lines().find(|l| l.starts_with("crash ")).expect("a line");
    assert!(line.ends_with("yes") && line.contains("100"), "{line}");
}
