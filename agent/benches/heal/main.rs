//! What healing costs those who append: scrub, repair and catch-up of a real cluster, each beside quiet minutes of the same run.
//!
//! `cargo bench -p quorate --bench heal`, or with `-- scrub`, `-- repair`, `-- catch-up` one of them. Three agents hold a log
//! of `QUORATE_HEAL_MIB` (1024), in `QUORATE_HEAL_DIR` or a temporary directory, removed at the end. A client appends small
//! records to the leader on a schedule, all the time; a latency counts from when a record was due. Each kind of healing
//! happens `QUORATE_HEAL_ROUNDS` times (5), between two quiet stretches, so that what else a machine does hits both. Printed
//! are the speed of each, the 99th percentile of appends in both, and their ratio: per round, and the median.
//!
//! - scrub: the leader is started again, and reads its whole log, as it does soon after every start;
//! - repair: a follower starts with nine segments in sixteen overwritten or gone, and gets them back;
//! - catch-up: an agent with an empty disk joins and takes over the log.
//!
//! `QUORATE_HEAL_SCRUB_MIB_PER_SECOND` sets the option of that name; else it is the default.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod fleet;
mod load;

use fleet::Fleet;
use load::Load;
use std::fs;
use std::time::{Duration, Instant};

const MIB: f64 = 1024.0 * 1024.0;
/// A quiet stretch, before and after.
const QUIET: Duration = Duration::from_secs(4);
/// After something was started or has ended, before a quiet stretch.
const SETTLE: Duration = Duration::from_secs(1);
/// Bytes at both ends of a segment that stay good, so that neighbours are ranges of their own.
const INTACT_BYTES: usize = 2 << 20;
/// Only segments of at least this size are damaged: a full one has 64 MiB.
const SEGMENT_BYTES_MIN: u64 = 48 << 20;
/// Segments that are overwritten: as many as any start reads wholly.
const OVERWRITTEN: usize = 3;

/// One stretch of healing, between two quiet ones.
struct Round {
    mib_per_second: f64,
    quiet: Vec<Duration>,
    busy: Vec<Duration>,
    failed: usize,
}

fn main() {
    let number = |name: &str, default: usize| std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(default);
    let rounds = number("QUORATE_HEAL_ROUNDS", 5);
    let only = std::env::args().skip(1).find(|arg| !arg.starts_with('-'));
    let wanted = |what: &str| only.as_deref().is_none_or(|only| only == what);
    let mut fleet = Fleet::new();
    fleet.fill(number("QUORATE_HEAL_MIB", 1024));
    if wanted("scrub") {
        told("scrub", (0..rounds).map(|_| scrub(&mut fleet)));
    }
    if wanted("repair") {
        told("repair", (0..rounds).map(|_| repair(&mut fleet)));
    }
    if wanted("catch-up") {
        told("catch-up", (0..rounds).map(|n| catch_up(&mut fleet, n + 4)));
    }
}

/// Prints each round as it ends, then the medians.
fn told(what: &str, rounds: impl Iterator<Item = Round>) {
    let mut all = Vec::new();
    for (n, round) in rounds.enumerate() {
        let (quiet, busy) = (percentile(&round.quiet, 99.0), percentile(&round.busy, 99.0));
        let ratio = busy / quiet;
        println!(
            "{what} {n}: {:.0} MiB/s; append p50 {:.2} -> {:.2} ms, p99 {quiet:.2} -> {busy:.2} ms, ratio {ratio:.2} \
             ({} and {} appends, {} failed; load of the machine {})",
            round.mib_per_second,
            percentile(&round.quiet, 50.0),
            percentile(&round.busy, 50.0),
            round.quiet.len(),
            round.busy.len(),
            round.failed,
            machine_load(),
        );
        all.push((round, ratio));
    }
    let speeds = all.iter().map(|(round, _)| round.mib_per_second).collect();
    let ratios = all.iter().map(|(_, ratio)| *ratio).collect();
    let pooled = |of: fn(&Round) -> &Vec<Duration>| {
        percentile(&all.iter().flat_map(|(round, _)| of(round).clone()).collect::<Vec<_>>(), 99.0)
    };
    let (quiet, busy) = (pooled(|round| &round.quiet), pooled(|round| &round.busy));
    println!(
        "figure {what}: {:.0} MiB/s; append p99 times {:.2} (median of {} rounds), {quiet:.2} -> {busy:.2} ms, times \
         {:.2} (all rounds together)",
        median(speeds),
        median(ratios),
        all.len(),
        busy / quiet,
    );
}

/// The leader starts anew and reads its whole log.
fn scrub(fleet: &mut Fleet) -> Round {
    fleet.stop("n1");
    fleet.start("n1", true);
    fleet.lead("n1");
    let load = Load::on(fleet.client("n1"), fleet.handle());
    std::thread::sleep(SETTLE);
    let quiet = Instant::now();
    let bytes = |fleet: &Fleet| fleet.status("n1").disk.scrub;
    let first = fleet.until("the scrub begins", |fleet| Some(bytes(fleet)).filter(|scrub| scrub.bytes_total > 0));
    let begun = Instant::now();
    assert_eq!(first.cycles, 0, "the log is too short, or the machine too slow, to see the scrub begin");
    let last = fleet.until("the scrub ends", |fleet| Some(bytes(fleet)).filter(|scrub| scrub.cycles > 0));
    let ended = Instant::now();
    let read = last.bytes_total - first.bytes_total;
    finish(fleet, load, quiet, begun, ended, read)
}

/// A follower finds much of its log damaged.
fn repair(fleet: &mut Fleet) -> Round {
    fleet.lead("n1");
    fleet.stop("n3");
    // Each start begins a new one: what was written since is in small ones.
    let mut segments = fleet.segments("n3");
    segments.retain(|path| fs::metadata(path).unwrap().len() > SEGMENT_BYTES_MIN);
    assert!(segments.len() > OVERWRITTEN, "the log is too short");
    for path in segments.iter().rev().take(OVERWRITTEN) {
        let mut bytes = fs::read(path).unwrap();
        let body = INTACT_BYTES..bytes.len() - INTACT_BYTES;
        bytes[body].iter_mut().for_each(|byte| *byte ^= 0x55);
        fs::write(path, bytes).unwrap();
        fs::File::open(path).unwrap().sync_all().unwrap();
    }
    let older = segments.len().saturating_sub(OVERWRITTEN);
    let gone: Vec<_> = segments.iter().take(older).skip(1).step_by(2).collect();
    gone.iter().for_each(|path| fs::remove_file(path).unwrap());
    let ranges = (gone.len() + OVERWRITTEN) as u64;
    let load = Load::on(fleet.client("n1"), fleet.handle());
    std::thread::sleep(SETTLE);
    let quiet = Instant::now();
    std::thread::sleep(QUIET);
    fleet.start("n3", false);
    // Its start reads what it verifies; that is no repair yet.
    let first = fleet.until("the damage is known", |fleet| fleet.try_status("n3")).disk;
    let begun = Instant::now();
    assert!(first.damaged_ranges + 2 > ranges, "{} of {ranges} ranges are known", first.damaged_ranges);
    let whole = |fleet: &Fleet| fleet.try_status("n3").filter(|status| status.disk.damaged_ranges == 0);
    let last = fleet.until("all is repaired", whole).disk;
    let ended = Instant::now();
    finish(fleet, load, quiet, begun, ended, last.repaired_bytes - first.repaired_bytes)
}

/// An agent with an empty disk takes over the log.
fn catch_up(fleet: &mut Fleet, number: usize) -> Round {
    fleet.lead("n1");
    let load = Load::on(fleet.client("n1"), fleet.handle());
    std::thread::sleep(SETTLE);
    let quiet = Instant::now();
    std::thread::sleep(QUIET);
    let name = format!("n{number}");
    let begun = Instant::now();
    fleet.start(&name, false);
    let there = |fleet: &Fleet| {
        let found = fleet.members("n1").into_iter().find(|member| member.name == name)?;
        (found.raft == "learner" && found.lag.is_some_and(|lag| lag < 64)).then_some(())
    };
    fleet.until("the newcomer has caught up", there);
    let ended = Instant::now();
    let bytes = fleet.status("n1").bytes;
    fleet.leave(&name);
    finish(fleet, load, quiet, begun, ended, bytes)
}

/// The second quiet stretch, and what was seen: from `quiet` to `begun` and again after `ended`, and between them.
fn finish(fleet: &Fleet, load: Load, quiet: Instant, begun: Instant, ended: Instant, bytes: u64) -> Round {
    std::thread::sleep(SETTLE);
    let again = Instant::now();
    std::thread::sleep(QUIET);
    let seen = load.stop(fleet.handle());
    let mut calm = seen.between(quiet, begun.min(quiet + 2 * QUIET));
    calm.extend(seen.between(again, Instant::now()));
    let mib_per_second = bytes as f64 / MIB / (ended - begun).as_secs_f64();
    Round { mib_per_second, quiet: calm, busy: seen.between(begun, ended), failed: seen.failed }
}

/// In milliseconds.
fn percentile(times: &[Duration], percent: f64) -> f64 {
    let mut times = times.to_vec();
    times.sort();
    let at = (times.len() as f64 * percent / 100.0) as usize;
    times.get(at.min(times.len().saturating_sub(1))).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
}

fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of.get(of.len() / 2).copied().unwrap_or(f64::NAN)
}

fn machine_load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or("unknown").to_owned()
}
