//! The table of deliberate bugs: for each, which promise caught it, and after how many worlds.
//!
//! ```sh
//! cargo run --release --features sim,mutants --example mutants
//! cargo run --release --features sim,mutants --example mutants -- --seeds 0..200 --seconds 20 AckBeforeFsync VoteTwice
//! ```
//!
//! Each world runs in a process of its own kind: an agent that breaks its own assertion aborts, and that counts too.

use quorate::sim::bite::{Bite, Harness, bite, harness};
use quorate_raft::mutants::Mutant;
use std::io::{BufRead, BufReader};
use std::ops::Range;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

const USAGE: &str = "usage: mutants [--seeds A..B] [--seconds CPU-SECONDS] [--threads N] [NAME...]";

/// Worlds that a mutant may live through.
const SEEDS: Range<u64> = 0..1000;
/// CPU-seconds that it may live.
const SECONDS: f64 = 60.0;

struct Wanted {
    seeds: Range<u64>,
    seconds: f64,
    threads: usize,
    mutants: Vec<Mutant>,
}

/// One line of the table.
struct Row {
    mutant: Mutant,
    caught_by: Option<String>,
    seeds: u64,
    seconds: f64,
    reached: u64,
    what: String,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if let ["--hunt", name, from, to, seconds] = words[..] {
        return hunt(name, from, to, seconds).map_or_else(usage, |()| ExitCode::SUCCESS);
    }
    match parse(&words) {
        Some(wanted) => table(&wanted),
        None => usage(),
    }
}

fn usage() -> ExitCode {
    eprintln!("{USAGE}\nNAME is one of {}", Mutant::ALL.iter().map(|m| m.name()).collect::<Vec<_>>().join(", "));
    ExitCode::from(64)
}

fn parse(words: &[&str]) -> Option<Wanted> {
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let mut wanted = Wanted { seeds: SEEDS, seconds: SECONDS, threads, mutants: Vec::new() };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match *word {
            "--seeds" => {
                let (from, to) = words.next()?.split_once("..")?;
                wanted.seeds = from.parse().ok()?..to.parse().ok()?;
            }
            "--seconds" => wanted.seconds = words.next()?.parse().ok()?,
            "--threads" => wanted.threads = words.next()?.parse().ok()?,
            name => wanted.mutants.push(Mutant::named(name)?),
        }
    }
    if wanted.mutants.is_empty() {
        wanted.mutants = Mutant::ALL.to_vec();
    }
    Some(wanted)
}

// ---- the hunter: a process that may abort ----

/// Says `world SEED CPU-SECONDS REACHED` before each world, and `caught SEED CPU-SECONDS PROMISE: HOW` at the end.
fn hunt(name: &str, from: &str, to: &str, seconds: &str) -> Option<()> {
    let mutant = Mutant::named(name)?;
    let (from, to): (u64, u64) = (from.parse().ok()?, to.parse().ok()?);
    let (seconds, began): (f64, Instant) = (seconds.parse().ok()?, Instant::now());
    let mut reached = 0;
    for seed in from..to {
        let used = cpu_seconds(began);
        println!("world {seed} {used:.2} {reached}");
        if used > seconds {
            return Some(());
        }
        match bite(Some(mutant), seed) {
            Bite::Missed { reached: more } => reached += more,
            Bite::Caught { by, what } => {
                println!("caught {seed} {:.2} {by}: {what}", cpu_seconds(began));
                return Some(());
            }
        }
    }
    println!("world {to} {:.2} {reached}", cpu_seconds(began));
    Some(())
}

/// What this process, which has one thread, has had of a processor; where the system does not tell, what has passed.
fn cpu_seconds(began: Instant) -> f64 {
    let told = std::fs::read_to_string("/proc/self/schedstat").ok();
    let nanos = told.and_then(|text| text.split(' ').next()?.parse::<u64>().ok());
    nanos.map_or_else(|| began.elapsed().as_secs_f64(), |nanos| nanos as f64 / 1e9)
}

// ---- the table ----

fn table(wanted: &Wanted) -> ExitCode {
    let (next, rows) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..wanted.threads.max(1) {
            scope.spawn(|| {
                while let Some(&mutant) = wanted.mutants.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let row = match harness(mutant) {
                        Harness::Worlds | Harness::Churn => in_worlds(mutant, wanted),
                        Harness::Stories(filter) => in_stories(mutant, &["-p", "quorate-raft"], filter),
                        Harness::Tales(filter) => in_stories(mutant, &["-p", "quorate", "--lib"], filter),
                        Harness::Explored => in_states(mutant),
                    };
                    let fate = row.caught_by.as_deref().unwrap_or("SURVIVES");
                    eprintln!(
                        "{}: {fate} after {} worlds, {:.1} s; {}",
                        mutant.name(),
                        row.seeds,
                        row.seconds,
                        row.what
                    );
                    rows.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(row);
                }
            });
        }
    });
    let mut rows = rows.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    rows.sort_by_key(|row| row.mutant);
    println!("| mutant | caught by | worlds | CPU-seconds |\n|---|---|---:|---:|");
    for row in &rows {
        let by = row.caught_by.clone().unwrap_or_else(|| format!("**survives** (reached {} times)", row.reached));
        println!("| {} | {by} | {} | {:.1} |", row.mutant.name(), row.seeds, row.seconds);
    }
    let alive: Vec<&str> = rows.iter().filter(|r| r.caught_by.is_none()).map(|r| r.mutant.name()).collect();
    let seconds: f64 = rows.iter().map(|row| row.seconds).sum();
    println!("\n{} of {} caught, {seconds:.0} CPU-seconds", rows.len() - alive.len(), rows.len());
    if alive.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("not caught: {}", alive.join(", "));
    ExitCode::FAILURE
}

fn in_worlds(mutant: Mutant, wanted: &Wanted) -> Row {
    let mut row = Row { mutant, caught_by: None, seeds: 0, seconds: 0.0, reached: 0, what: String::new() };
    let Ok(program) = std::env::current_exe() else { return row };
    let Range { start, end } = wanted.seeds;
    let numbers = [start.to_string(), end.to_string(), wanted.seconds.to_string()];
    let hunter = Command::new(program)
        .args(["--hunt", mutant.name()])
        .args(numbers)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut hunter) = hunter else { return row };
    let Some(said) = hunter.stdout.take() else { return row };
    for line in BufReader::new(said).lines().map_while(Result::ok) {
        let mut words = line.splitn(4, ' ');
        let (Some(verb), Some(seed), Some(used)) = (words.next(), words.next(), words.next()) else { continue };
        row.seeds = seed.parse::<u64>().map_or(row.seeds, |seed| seed - start);
        row.seconds = used.parse().unwrap_or(row.seconds);
        let rest = words.next().unwrap_or_default();
        if verb == "caught" {
            let (by, what) = rest.split_once(": ").unwrap_or((rest, ""));
            (row.caught_by, row.what) = (Some(by.to_owned()), what.to_owned());
            row.seeds += 1;
        } else {
            row.reached = rest.parse().unwrap_or(row.reached);
        }
    }
    let ended = hunter.wait();
    if row.caught_by.is_none() && !ended.is_ok_and(|status| status.success()) {
        row.caught_by = Some("own-assertion".into());
        row.seeds += 1;
    }
    row
}

/// Every state of the protocol that founds logs, with the bug in it.
fn in_states(mutant: Mutant) -> Row {
    let began = Instant::now();
    quorate_raft::mutants::choose(Some(mutant));
    let found = quorate::pledge::explore::hunt();
    let reached = quorate_raft::mutants::reached();
    quorate_raft::mutants::choose(None);
    let (states, what) = found.unwrap_or_default();
    Row {
        mutant,
        caught_by: (!what.is_empty()).then(|| "one-founding".into()),
        seeds: states as u64,
        seconds: began.elapsed().as_secs_f64(),
        reached,
        what,
    }
}

/// Tests of one package, run with the bug: they must fail.
fn in_stories(mutant: Mutant, package: &[&str], filter: &str) -> Row {
    let began = Instant::now();
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let tests = |chosen: &str| {
        let mut tests = Command::new(&cargo);
        tests.args(["test", "-q"]).args(package).args(["--features", "sim,mutants", filter]);
        tests.env("QUORATE_MUTANT", chosen).stdout(Stdio::null()).stderr(Stdio::null());
        tests.status().is_ok_and(|status| status.success())
    };
    // Sound code first: a test that fails anyway, or does not compile, catches nothing.
    let caught = tests("") && !tests(mutant.name());
    Row {
        mutant,
        caught_by: caught.then(|| format!("story `{filter}`")),
        seeds: 1,
        seconds: began.elapsed().as_secs_f64(),
        reached: 0,
        what: String::new(),
    }
}
