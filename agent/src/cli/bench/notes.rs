//! What a reader must know before believing the figures: noise, failures, and what was not measured.
//!
//! It never changes a figure.

use super::floor::{Floor, Ground};
use super::report::{LoadObject, Report, Row, Spread};
use super::table::span;
use std::path::Path;

/// A figure of the floor that moved by more than this part of itself says that the machine is not the same all the time.
const DRIFT: f64 = 0.3;
/// Runs at one level that are further apart than this.
const SPREAD: f64 = 0.15;
/// CPU time of strangers, as a part of all there is.
const OTHERS: f64 = 0.05;
/// CPU time that a hypervisor kept, as a part of all there is.
const STOLEN: f64 = 0.02;
/// A process of the load that is busy for this part of the time measures itself.
const BUSY: f64 = 0.9;
/// A schedule counts as kept if this part of it was.
const KEPT: f64 = 0.99;

/// One sentence each; none if there is nothing to say.
pub(super) fn about(report: &Report, ground: &Ground) -> Vec<String> {
    let mut notes = Vec::new();
    if cfg!(debug_assertions) {
        notes.push("this program was built without optimisation, so the figures say little".into());
    }
    failures(&report.runs, &mut notes);
    schedule(&report.runs, &mut notes);
    noise(report, &mut notes);
    load_itself(&report.runs, &report.load, &mut notes);
    floor(&report.floors, ground, &mut notes);
    notes
}

fn failures(rows: &[Row], notes: &mut Vec<String>) {
    if let Some(why) = rows.iter().find_map(|row| row.failure.as_ref()) {
        notes.push(format!("appends failed, which no latency shows; the first because: {why}"));
    }
    let forwarded: u32 = rows.iter().map(|row| row.forwarded).sum();
    if forwarded > 0 {
        notes.push(format!(
            "{forwarded} connections spoke with an agent that did not lead: their appends were forwarded"
        ));
    }
}

fn schedule(rows: &[Row], notes: &mut Vec<String>) {
    let missed = |row: &&Row| row.rate.is_some_and(|rate| row.records_per_s < rate * KEPT);
    if let Some(row) = rows.iter().find(missed) {
        notes.push(format!(
            "the schedule was not kept: {:.0} of {:.0} records/s were acknowledged, and latencies grow with the duration",
            row.records_per_s,
            row.rate.unwrap_or(0.0)
        ));
    }
    let late = |row: &Row| row.lateness.filter(|late| late.p99_us > row.latency.p50_us).map(|late| late.p99_us);
    if let Some(us) = rows.iter().find_map(late) {
        notes.push(format!("the load itself was late (p99 {}): the latencies hold that as well", span(us)));
    }
}

fn noise(report: &Report, notes: &mut Vec<String>) {
    if let Some(worst) = widest(report.summary.iter().filter_map(|s| s.records_per_s)).filter(|s| s.relative() > SPREAD)
    {
        notes.push(format!("runs at one level differ by up to {:.0} %", worst.relative() * 100.0));
    }
    let figures =
        [("the disk's own sync", Floor::sync_us as fn(&Floor) -> _), ("the round trip", Floor::round_trip_us)];
    for (what, of) in figures {
        let Some(moved) = Spread::of(report.floors.iter().filter_map(of)).filter(|s| s.relative() > DRIFT) else {
            continue;
        };
        let (min, max) = (span(moved.min), span(moved.max));
        notes.push(format!("{what} went from {min} to {max} while this ran: trust the ratios more than the times"));
    }
    let part = |used: fn(&Row) -> Option<f64>| {
        let cpus = report.cluster.cpus.max(1) as f64;
        Spread::of(report.runs.iter().filter_map(|row| Some(used(row)? / row.seconds / cpus))).map(|all| all.max)
    };
    if let Some(others) = part(|row| row.used.others_cpu_s).filter(|others| *others > OTHERS) {
        notes.push(format!("other processes used up to {:.0} % of this machine's CPUs", others * 100.0));
    }
    if let Some(stolen) = part(|row| row.used.stolen_cpu_s).filter(|stolen| *stolen > STOLEN) {
        notes.push(format!("the hypervisor kept up to {:.0} % of the CPU time for others", stolen * 100.0));
    }
}

fn widest(all: impl Iterator<Item = Spread>) -> Option<Spread> {
    all.max_by(|a, b| a.relative().total_cmp(&b.relative()))
}

fn load_itself(rows: &[Row], load: &LoadObject, notes: &mut Vec<String>) {
    let busy = |row: &&Row| {
        let each = row.used.clients_cpu_s.map(|s| s / row.seconds / f64::from(load.processes));
        each.is_some_and(|each| each > BUSY)
    };
    if rows.iter().any(|row| busy(&row)) {
        notes.push("the load used up a CPU of its own: use more --processes to see what the cluster can do".into());
    }
}

fn floor(floors: &[Floor], ground: &Ground, notes: &mut Vec<String>) {
    if ground.span.is_zero() {
        return;
    }
    let mut missing: Vec<_> = floors.iter().flat_map(|floor| &floor.missing).collect();
    missing.dedup();
    notes.extend(missing.first().map(|why| format!("the floor is not whole ({why})")));
    match &ground.dir {
        None => notes
            .push("the disk was not measured: no agent's data lies on this machine; --dir names a like disk".into()),
        Some(dir) if is_in_memory(dir) => {
            notes.push(format!("{} lies in memory, where fdatasync does nothing; --dir names a disk", dir.display()));
        }
        Some(_) => {}
    }
    if !ground.loopback && ground.told_us.is_some() {
        notes.push("r is what the agents' connections say, not a measurement: they run on several machines".into());
    }
}

#[cfg(target_os = "linux")]
fn is_in_memory(dir: &Path) -> bool {
    const TMPFS: u64 = 0x0102_1994;
    const RAMFS: u64 = 0x8584_58f6;
    rustix::fs::statfs(dir).is_ok_and(|fs| [TMPFS, RAMFS].contains(&(fs.f_type as u64)))
}

#[cfg(not(target_os = "linux"))]
fn is_in_memory(_: &Path) -> bool {
    false
}
