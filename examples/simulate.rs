//! Runs simulated clusters: production agents on a virtual clock, network and disk.
//!
//! ```sh
//! cargo run --release --features sim --example simulate -- --seed 7 --trace
//! cargo run --release --features sim --example simulate -- --seed 7 --shrink
//! cargo run --release --features sim --example simulate -- --seeds 0..1000
//! ```

use quorate::sim::{Counters, Plan, run, shrink};
use std::process::ExitCode;

const USAGE: &str = "usage: simulate --seed N [--trace | --shrink] | --seeds A..B";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["--seed", seed] => seed.parse().map_or_else(|_| usage(), |seed| one(Plan::draw(seed), false)),
        ["--seed", seed, "--trace"] => seed.parse().map_or_else(|_| usage(), |seed| one(Plan::draw(seed), true)),
        ["--seed", seed, "--shrink"] => {
            seed.parse().map_or_else(|_| usage(), |seed| one(shrink(Plan::draw(seed)), false))
        }
        ["--seeds", range] => match range.split_once("..").map(|(a, b)| (a.parse(), b.parse())) {
            Some((Ok(from), Ok(to))) => many(from, to),
            _ => usage(),
        },
        _ => usage(),
    }
}

fn usage() -> ExitCode {
    eprintln!("{USAGE}");
    ExitCode::from(64)
}

/// One world: its plan, its trace if asked for, and how it ended.
fn one(plan: Plan, trace: bool) -> ExitCode {
    let seed = plan.seed;
    println!("{plan}");
    let report = run(plan, trace);
    if trace || report.violation.is_some() {
        report.trace.iter().for_each(|line| println!("{line}"));
    }
    println!("{}", report.counters);
    println!("trace {:016x}, {} lines", report.trace_hash, report.trace_lines);
    match report.violation {
        None => {
            println!("seed {seed}: every promise was kept");
            ExitCode::SUCCESS
        }
        Some(violation) => {
            println!("seed {seed}: {violation}");
            ExitCode::FAILURE
        }
    }
}

/// Many worlds: only what went wrong, and what happened in all of them together.
fn many(from: u64, to: u64) -> ExitCode {
    let mut all = Counters::default();
    let mut failed = 0;
    for seed in from..to {
        let report = run(Plan::draw(seed), false);
        all.merge(&report.counters);
        if let Some(violation) = report.violation {
            failed += 1;
            println!("seed {seed}: {violation}");
        }
    }
    println!("{all}\n{failed} of {} worlds broke a promise", to.saturating_sub(from));
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
