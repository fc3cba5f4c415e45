//! Runs simulated clusters: production agents on a virtual clock, network and disk.
//!
//! ```sh
//! cargo run --release --features sim --example simulate -- --seed 7 --trace
//! cargo run --release --features sim --example simulate -- --seed 7 --shrink --write-plan short.json
//! cargo run --release --features sim --example simulate -- --plan short.json
//! cargo run --release --features sim --example simulate -- --seeds 0..1000000 --minutes 30 --require 100
//! cargo run --release --features sim --example simulate -- --faults membership --minutes 10
//! ```

use quorate::sim::{Campaign, Faults, Invariant, Plan, Report, Totals, campaign, run, shrink};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

const USAGE: &str = "\
usage: simulate --seed N | --plan FILE  [--faults all|membership] [--trace] [--shrink] [--write-plan FILE] [--check-determinism]
       simulate --seeds A..B [--faults all|membership] [--minutes M] [--jobs J] [--require N] [--check-determinism]

  --seed N              one world, as this seed draws it
  --plan FILE           one world, as a saved plan says
  --seeds A..B          many worlds
  --faults F            which faults worlds have: all, or those of membership only: no disk lies, no clock is wrong
  --minutes M           begin no further world after M minutes of the clock on the wall
  --jobs J              run J worlds at once; as many as there are cores if not given
  --require N           fail if any fault took effect less often than N times
  --trace               print every line of what happened
  --shrink              look for a shorter plan that breaks the same promise
  --write-plan FILE     save the plan; with --shrink the short one
  --check-determinism   run it twice; of many worlds one in a hundred
";

#[derive(Default)]
struct Options {
    seed: Option<u64>,
    plan: Option<String>,
    seeds: Option<(u64, u64)>,
    faults: Faults,
    minutes: Option<f64>,
    jobs: Option<usize>,
    require: Option<u64>,
    trace: bool,
    shrink: bool,
    write_plan: Option<String>,
    check_determinism: bool,
    judge: bool,
}

fn main() -> ExitCode {
    match options().and_then(|options| act(&options)) {
        Ok(code) => code,
        Err(why) => {
            eprintln!("simulate: {why}");
            ExitCode::from(64)
        }
    }
}

fn options() -> Result<Options, String> {
    let mut options = Options::default();
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value\n\n{USAGE}"));
        match word.as_str() {
            "--seed" => options.seed = Some(number(&value()?)?),
            "--plan" => options.plan = Some(value()?),
            "--seeds" => {
                let text = value()?;
                let (from, to) = text.split_once("..").ok_or_else(|| format!("{text} is no range; write 0..1000"))?;
                options.seeds = Some((number(from)?, number(to)?));
            }
            "--faults" => {
                options.faults = match value()?.as_str() {
                    "all" => Faults::All,
                    "membership" => Faults::Membership,
                    other => return Err(format!("{other} are no faults; write all or membership")),
                }
            }
            "--minutes" => options.minutes = Some(number(&value()?)?),
            "--jobs" | "--threads" => options.jobs = Some(number(&value()?)?),
            "--require" => options.require = Some(number(&value()?)?),
            "--trace" => options.trace = true,
            "--shrink" => options.shrink = true,
            "--write-plan" => options.write_plan = Some(value()?),
            "--check-determinism" => options.check_determinism = true,
            // How a shrinking asks about one plan: in a process of its own, since a broken assertion ends the process.
            "--judge" => options.judge = true,
            _ => return Err(format!("{word} is not known\n\n{USAGE}")),
        }
    }
    Ok(options)
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{text} is no number that fits here"))
}

fn act(options: &Options) -> Result<ExitCode, String> {
    match (options.seed, &options.plan, options.seeds) {
        (Some(seed), None, None) => one(Plan::draw_with(seed, options.faults), options),
        (None, Some(file), None) => {
            let text = std::fs::read_to_string(file).map_err(|e| format!("{file}: {e}"))?;
            one(Plan::from_json(&text).map_err(|why| format!("{file}: {why}"))?, options)
        }
        (None, None, Some((from, to))) => Ok(many(from, to, options)),
        // A budget of time alone is enough.
        (None, None, None) if options.minutes.is_some() => Ok(many(0, u64::MAX, options)),
        _ => Err(format!("one of --seed, --plan and --seeds\n\n{USAGE}")),
    }
}

/// One world: its plan, its trace if asked for, and how it ended.
fn one(mut plan: Plan, options: &Options) -> Result<ExitCode, String> {
    if options.judge {
        let violation = run(plan, false).violation;
        println!("{}", violation.map_or("", |v| v.invariant.id()));
        return Ok(ExitCode::SUCCESS);
    }
    if options.shrink {
        let shrunk = shrink(plan, judged);
        let broke = shrunk.invariant.map_or("no promise", Invariant::id);
        println!("shrunk in {} runs; it breaks {broke}", shrunk.runs);
        plan = shrunk.plan;
    }
    if let Some(file) = &options.write_plan {
        std::fs::write(file, plan.to_json()).map_err(|e| format!("{file}: {e}"))?;
    }
    println!("{plan}");
    let seed = plan.seed;
    let report = run(plan, options.trace);
    show(&report, options.trace);
    if options.check_determinism {
        let again = run(report.plan.clone(), false);
        let same = again.trace_hash == report.trace_hash && again.counters == report.counters;
        println!("run again: {}", if same { "the same" } else { "ANOTHER TRACE" });
        if !same {
            return Ok(ExitCode::FAILURE);
        }
    }
    match report.violation {
        None => {
            println!("seed {seed}: every promise was kept");
            Ok(ExitCode::SUCCESS)
        }
        Some(violation) => {
            println!("seed {seed}: {violation}");
            Ok(ExitCode::FAILURE)
        }
    }
}

fn show(report: &Report, trace: bool) {
    if trace || report.violation.is_some() {
        report.trace.iter().for_each(|line| println!("{line}"));
    }
    println!("{}", report.counters);
    println!("trace {:016x}, {} lines, {} events", report.trace_hash, report.trace_lines, report.events);
}

/// Which promise a plan breaks, found out by another process.
fn judged(plan: &Plan) -> Option<Invariant> {
    let file = std::env::temp_dir().join(format!("quorate-shrink-{}.json", std::process::id()));
    std::fs::write(&file, plan.to_json()).ok()?;
    let mut command = Command::new(std::env::current_exe().ok()?);
    let output = command.arg("--plan").arg(&file).arg("--judge").stderr(Stdio::null()).output().ok();
    let _ = std::fs::remove_file(&file);
    let output = output?;
    if !output.status.success() {
        return Some(Invariant::OwnAssertion);
    }
    Invariant::of(String::from_utf8_lossy(&output.stdout).trim())
}

/// Many worlds: what went wrong, and what happened in all of them together.
fn many(from: u64, to: u64, options: &Options) -> ExitCode {
    let jobs = options.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, Into::into));
    let within = options.minutes.map(|minutes| Duration::from_secs_f64((minutes * 60.0).clamp(0.0, 1e9)));
    let check_determinism_every = if options.check_determinism { 100 } else { 0 };
    let cpu_before = cpu_seconds();
    let totals = campaign(
        &Campaign { seeds: from..to, faults: options.faults, jobs, within, check_determinism_every },
        |seed, violation| {
            let faults = if options.faults == Faults::All { "" } else { " --faults membership" };
            println!(
                "seed {seed}: {violation}\n  simulate --seed {seed}{faults} --shrink --write-plan seed-{seed}.json"
            );
        },
    );
    summary(&totals, jobs, cpu_seconds().zip(cpu_before).map(|(now, before)| now - before));
    let least = options.require.unwrap_or(1);
    println!("{}", totals.counters.table(least));
    let rare = totals.counters.rarer_than(least);
    if options.require.is_some() && !rare.is_empty() {
        println!("took effect less often than {least} times: {}", rare.join(", "));
        return ExitCode::FAILURE;
    }
    if totals.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn summary(totals: &Totals, jobs: usize, cpu: Option<f64>) {
    let wall = totals.took.as_secs_f64().max(1e-9);
    let cpu = cpu.filter(|cpu| *cpu > 0.0).unwrap_or(wall * jobs as f64);
    let seconds = totals.simulated_us as f64 / 1e6;
    let of = |kind| totals.counters.get(kind);
    println!("worlds                {:>12}   {} run twice", totals.worlds, totals.run_twice);
    println!("broke a promise       {:>12}", totals.failed);
    println!("time                  {:>12.1} minutes, {:.1} CPU minutes, {jobs} at once", wall / 60.0, cpu / 60.0);
    println!(
        "simulated time        {:>12.1} h = {:.2} days = {:.5} years",
        seconds / 3600.0,
        seconds / 86_400.0,
        seconds / 31_557_600.0
    );
    println!(
        "  a CPU second        {:>12.0} s; a year takes {:.1} CPU hours",
        seconds / cpu,
        31_557_600.0 / (seconds / cpu).max(1e-9) / 3600.0
    );
    println!("events                {:>12}   {:.0} a second and core", totals.events, totals.events as f64 / cpu);
    println!("recoveries of a crash {:>12}", of("restarts on a used disk"));
    println!("configuration changes {:>12}", of("configurations"));
    println!("  voters replaced     {:>12}   feature levels raised {}", of("voters replaced"), of("levels raised"));
    println!("storage faults        {:>12}", totals.counters.storage_faults());
    println!(
        "appends acked         {:>12}   unknown {}, refused {}",
        of("appends acked"),
        of("appends unknown"),
        of("appends refused")
    );
}

/// CPU time of this process so far, where the system tells it as Linux does.
fn cpu_seconds() -> Option<f64> {
    const TICKS_A_SECOND: f64 = 100.0;
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at)?.parse::<f64>().ok();
    Some((ticks(11)? + ticks(12)?) / TICKS_A_SECOND)
}
