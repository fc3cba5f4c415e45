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
    let sum = |of: fn(&Row) -> u64| rows.iter().map(of).sum::<u64>();
    if let Some(why) = rows.iter().find_map(|row| row.failure.as_ref()) {
        let (refused, unknown) = (sum(|row| row.not_applied), sum(|row| row.unknown));
        notes.push(format!(
            "{refused} appends were refused, which no latency shows, and of {unknown} nobody can say, whose latency is how \
             long they were waited for; the first because: {why}"
        ));
    }
    let forwarded: u32 = rows.iter().map(|row| row.forwarded).sum();
    if forwarded > 0 {
        notes.push(format!("{forwarded} of the connections spoke with an agent that did not lead, which forwards"));
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

#[cfg(test)]
mod tests {
    use super::super::latency::Percentiles;
    use super::super::report::{ClusterObject, Summary};
    use super::super::usage::Used;
    use super::*;

    fn floor_of(sync: f64) -> Floor {
        let of = |p50_us| Some(Percentiles { p50_us, ..Percentiles::default() });
        Floor { sync_together: of(sync), round_trip: of(80.0), ..Floor::default() }
    }

    /// A report of these runs on two CPUs, and its notes but for the one on the build.
    fn notes(runs: Vec<Row>, floors: Vec<Floor>, dir: Option<&str>) -> Vec<String> {
        let cluster =
            ClusterObject { own: true, version: "0".into(), voters: 3, leader: "n1".into(), local: true, cpus: 2 };
        let load = LoadObject { size: 256, batch: 1, clients: 1, processes: 1, warm_up_s: 1.0, duration_s: 10.0 };
        let summary = Summary::of_all(&runs);
        let report = Report {
            v: 1,
            cluster,
            load,
            runs,
            floors,
            summary,
            agents: Vec::new(),
            stages: None,
            verify: None,
            notes: Vec::new(),
        };
        let ground = Ground {
            dir: dir.map(Into::into),
            bytes: 256,
            writers: 3,
            loopback: true,
            told_us: None,
            span: std::time::Duration::from_secs(1),
        };
        about(&report, &ground).into_iter().filter(|note| !note.contains("optimisation")).collect()
    }

    fn row(records_per_s: f64) -> Row {
        let latency = Percentiles { p50_us: 500.0, ..Percentiles::default() };
        Row { records_per_s, seconds: 10.0, latency, ..Row::default() }
    }

    #[test]
    fn a_quiet_machine_gets_no_note() {
        let quiet = Used { others_cpu_s: Some(0.2), stolen_cpu_s: Some(0.0), ..Used::default() };
        let rows = vec![row(100.0), Row { used: quiet, ..row(105.0) }];
        assert_eq!(notes(rows, vec![floor_of(200.0), floor_of(210.0)], Some("/")), Vec::<String>::new());
    }

    #[test]
    fn whatever_makes_the_figures_doubtful_is_told() {
        let late = Some(Percentiles { p99_us: 900.0, ..Percentiles::default() });
        let used = |others, stolen| Used { others_cpu_s: Some(others), stolen_cpu_s: Some(stolen), ..Used::default() };
        let busy = Used { clients_cpu_s: Some(9.5), ..Used::default() };
        let failed = Row { unknown: 3, not_applied: 2, failure: Some("gone".into()), ..row(100.0) };
        for (rows, floors, says) in [
            (vec![failed], vec![], "2 appends were refused, which no latency shows, and of 3 nobody can say"),
            (vec![Row { forwarded: 1, ..row(100.0) }], vec![], "1 of the connections spoke with an agent that did not"),
            (vec![Row { rate: Some(200.0), ..row(100.0) }], vec![], "100 of 200 records/s were acknowledged"),
            (vec![Row { lateness: late, ..row(100.0) }], vec![], "the load itself was late (p99 900 µs)"),
            (vec![row(100.0), row(200.0)], vec![], "runs at one level differ by up to 67 %"),
            (vec![], vec![floor_of(100.0), floor_of(200.0)], "sync went from 100 µs to 200 µs"),
            (vec![Row { used: used(4.0, 0.0), ..row(100.0) }], vec![], "other processes used up to 20 % of"),
            (vec![Row { used: used(0.0, 2.0), ..row(100.0) }], vec![], "the hypervisor kept up to 10 % of"),
            (vec![Row { used: busy, ..row(100.0) }], vec![], "the load used up a CPU of its own"),
            (vec![], vec![Floor { missing: vec!["no room".into()], ..floor_of(1.0) }], "not whole (no room)"),
        ] {
            let told = notes(rows, floors, Some("/"));
            assert!(told.len() == 1 && told[0].contains(says), "{says:?} is not {told:?}");
        }
        assert!(notes(vec![], vec![], None)[0].contains("--dir"));
    }
}
