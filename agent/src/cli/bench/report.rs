//! What was measured, as one object for programs; the tables for people are made from it.
//!
//! It never rounds what a program reads, and never hides a failure.

use super::crew::Pace;
use super::floor::Floor;
use super::latency::Percentiles;
use super::load::Measured;
use super::usage::{Process, Used};
use super::verify::Verdict;
use crate::api::AppendStages;
use serde::Serialize;
use std::time::Duration;

/// Everything.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) v: u32,
    pub(super) cluster: ClusterObject,
    pub(super) load: LoadObject,
    /// One a run, in the order in which they were measured.
    pub(super) runs: Vec<Row>,
    /// Before the first run, and after each.
    pub(super) floors: Vec<Floor>,
    /// Of all runs at one level.
    pub(super) summary: Vec<Summary>,
    pub(super) agents: Vec<AgentObject>,
    /// Where the time of appends went in the leader, over its last 30 to 60 seconds.
    pub(super) stages: Option<AppendStages>,
    /// With `--verify`: over all runs.
    pub(super) verify: Option<Verdict>,
    /// What a reader of the figures should know, one sentence each.
    pub(super) notes: Vec<String>,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct ClusterObject {
    /// Was it started for this.
    pub(super) own: bool,
    pub(super) version: String,
    /// Agents that vote.
    pub(super) voters: usize,
    pub(super) leader: String,
    /// Do all of them run on this machine.
    pub(super) local: bool,
    /// CPUs of this machine.
    pub(super) cpus: usize,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct LoadObject {
    /// Bytes of a value.
    pub(super) size: u32,
    /// Records of an append.
    pub(super) batch: u32,
    /// Connections of a process.
    pub(super) clients: u32,
    pub(super) processes: u32,
    pub(super) warm_up_s: f64,
    pub(super) duration_s: f64,
}

/// One agent of this machine.
#[derive(Clone, Debug, Serialize)]
pub(super) struct AgentObject {
    pub(super) name: String,
    pub(super) before: Option<Process>,
    pub(super) after: Option<Process>,
}

/// One measured run.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Row {
    pub(super) run: u32,
    /// Records in flight, or the most that may be on a schedule, in each process.
    pub(super) in_flight: u32,
    /// Records a second that were asked for; `None` in a closed loop.
    pub(super) rate: Option<f64>,
    /// Records acknowledged in the window.
    pub(super) records: u64,
    pub(super) seconds: f64,
    pub(super) records_per_s: f64,
    /// Bytes of values, 10⁶ a second.
    pub(super) mb_per_s: f64,
    /// Closed loop: from issue to acknowledgement. On a schedule: from when it was due. One whose outcome is unknown
    /// counts until it was given up; one that was refused does not.
    pub(super) latency: Percentiles,
    /// Closed loop: with the appends that a schedule of one per median latency would have sent during stalls.
    pub(super) corrected: Option<Percentiles>,
    /// On a schedule: from when an append was due until it was issued.
    pub(super) lateness: Option<Percentiles>,
    /// On a schedule: appends that were due and never issued, because too much was in flight.
    pub(super) unissued: u64,
    /// Appends that surely failed, warm-up included.
    pub(super) not_applied: u64,
    /// Appends of which nobody could say, warm-up included.
    pub(super) unknown: u64,
    /// Why the first one failed.
    pub(super) failure: Option<String>,
    /// Connections that spoke with an agent that did not lead.
    pub(super) forwarded: u32,
    pub(super) used: Used,
    /// CPU seconds of all agents together.
    pub(super) agents_cpu_s_per_100k: Option<f64>,
    /// CPU seconds of the load.
    pub(super) clients_cpu_s_per_100k: Option<f64>,
    /// f: median append and fdatasync with as many writers as agents, mean of before and after, in microseconds.
    pub(super) sync_us: Option<f64>,
    /// r: median round trip, mean of before and after, in microseconds.
    pub(super) round_trip_us: Option<f64>,
    /// p50 / (f + 2r).
    pub(super) floor_ratio: Option<f64>,
}

impl Row {
    pub(super) fn of(measured: &Measured, pace: Pace, load: &LoadObject, window: Duration) -> Self {
        let records = measured.acked * u64::from(load.batch);
        let seconds = window.as_secs_f64();
        let (in_flight, rate) = match pace {
            Pace::Closed { in_flight } => (in_flight, None),
            Pace::Rate { per_second, in_flight } => (in_flight, Some(per_second)),
        };
        Self {
            in_flight,
            rate,
            records,
            seconds,
            records_per_s: records as f64 / seconds,
            mb_per_s: (records * u64::from(load.size)) as f64 / seconds / 1e6,
            latency: measured.latency.percentiles(),
            corrected: rate.is_none().then(|| measured.latency.corrected().percentiles()),
            lateness: rate.map(|_| measured.lateness.percentiles()),
            unissued: measured.unissued,
            not_applied: measured.not_applied,
            unknown: measured.unknown,
            failure: measured.failure.clone(),
            forwarded: measured.forwarded,
            ..Self::default()
        }
    }

    pub(super) fn with_usage(self, used: Used) -> Self {
        let per_100k = |cpu_s: Option<f64>| cpu_s.filter(|_| self.records > 0).map(|s| s / self.records as f64 * 1e5);
        Self {
            agents_cpu_s_per_100k: per_100k(used.agents_cpu_s),
            clients_cpu_s_per_100k: per_100k(used.clients_cpu_s),
            used,
            ..self
        }
    }

    /// Beside the floor measured before and after.
    pub(super) fn beside(self, before: &Floor, after: &Floor) -> Self {
        let mean = |of: fn(&Floor) -> Option<f64>| Some((of(before)? + of(after)?) / 2.0);
        let (sync, round_trip) = (mean(Floor::sync_us), mean(Floor::round_trip_us));
        let least = sync.zip(round_trip).map(|(f, r)| f + 2.0 * r);
        let floor_ratio = least.filter(|least| *least > 0.0).map(|least| self.latency.p50_us / least);
        Self { sync_us: sync, round_trip_us: round_trip, floor_ratio, ..self }
    }
}

/// A figure of several runs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Spread {
    pub(super) median: f64,
    pub(super) min: f64,
    pub(super) max: f64,
}

impl Spread {
    /// `None` if there is none.
    pub(super) fn of(figures: impl Iterator<Item = f64>) -> Option<Self> {
        let mut figures: Vec<_> = figures.collect();
        figures.sort_by(f64::total_cmp);
        let (min, max) = (*figures.first()?, *figures.last()?);
        let half = figures.len() / 2;
        let median =
            if figures.len().is_multiple_of(2) { (figures[half - 1] + figures[half]) / 2.0 } else { figures[half] };
        Some(Self { median, min, max })
    }

    /// The largest and the smallest are so far apart, as a part of the median.
    pub(super) fn relative(&self) -> f64 {
        if self.median > 0.0 { (self.max - self.min) / self.median } else { 0.0 }
    }
}

/// All runs at one level.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Summary {
    pub(super) in_flight: u32,
    pub(super) rate: Option<f64>,
    pub(super) runs: usize,
    pub(super) records_per_s: Option<Spread>,
    pub(super) p50_us: Option<Spread>,
    pub(super) p90_us: Option<Spread>,
    pub(super) p99_us: Option<Spread>,
    pub(super) p999_us: Option<Spread>,
    pub(super) max_us: Option<Spread>,
    pub(super) agents_cpu_s_per_100k: Option<Spread>,
    pub(super) clients_cpu_s_per_100k: Option<Spread>,
    pub(super) sync_us: Option<Spread>,
    pub(super) round_trip_us: Option<Spread>,
    pub(super) floor_ratio: Option<Spread>,
}

impl Summary {
    /// By level, in the order of the first run.
    pub(super) fn of_all(rows: &[Row]) -> Vec<Self> {
        let mut levels: Vec<(u32, Option<f64>)> = Vec::new();
        for level in rows.iter().map(|row| (row.in_flight, row.rate)) {
            if !levels.contains(&level) {
                levels.push(level);
            }
        }
        let of = |level: (u32, Option<f64>)| {
            let rows: Vec<_> = rows.iter().filter(|row| (row.in_flight, row.rate) == level).collect();
            let spread = |figure: &dyn Fn(&Row) -> Option<f64>| Spread::of(rows.iter().filter_map(|row| figure(row)));
            Self {
                in_flight: level.0,
                rate: level.1,
                runs: rows.len(),
                records_per_s: spread(&|row| Some(row.records_per_s)),
                p50_us: spread(&|row| Some(row.latency.p50_us)),
                p90_us: spread(&|row| Some(row.latency.p90_us)),
                p99_us: spread(&|row| Some(row.latency.p99_us)),
                p999_us: spread(&|row| Some(row.latency.p999_us)),
                max_us: spread(&|row| Some(row.latency.max_us)),
                agents_cpu_s_per_100k: spread(&|row| row.agents_cpu_s_per_100k),
                clients_cpu_s_per_100k: spread(&|row| row.clients_cpu_s_per_100k),
                sync_us: spread(&|row| row.sync_us),
                round_trip_us: spread(&|row| row.round_trip_us),
                floor_ratio: spread(&|row| row.floor_ratio),
            }
        };
        levels.into_iter().map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floor(sync: f64, round_trip: f64) -> Floor {
        let of = |p50_us| Some(Percentiles { p50_us, ..Percentiles::default() });
        Floor { sync_together: of(sync), round_trip: of(round_trip), ..Floor::default() }
    }

    #[test]
    fn a_run_is_compared_with_the_floor_on_both_sides_of_it() {
        let latency = Percentiles { p50_us: 600.0, ..Percentiles::default() };
        let row = Row { latency, ..Row::default() }.beside(&floor(150.0, 90.0), &floor(250.0, 110.0));
        assert_eq!((row.sync_us, row.round_trip_us, row.floor_ratio), (Some(200.0), Some(100.0), Some(1.5)));
        let blind = Row::default().beside(&floor(150.0, 90.0), &Floor::default());
        assert_eq!(blind.floor_ratio, None);
    }

    #[test]
    fn cpu_is_told_per_100_000_records() {
        let used = Used { agents_cpu_s: Some(3.0), clients_cpu_s: None, ..Used::default() };
        let row = Row { records: 200_000, ..Row::default() }.with_usage(used);
        assert_eq!((row.agents_cpu_s_per_100k, row.clients_cpu_s_per_100k), (Some(1.5), None));
        assert_eq!(Row::default().with_usage(used).agents_cpu_s_per_100k, None);
    }

    #[test]
    fn runs_at_one_level_are_told_together() {
        let row = |in_flight, records_per_s| Row { in_flight, records_per_s, ..Row::default() };
        let rows = [row(1, 10.0), row(64, 500.0), row(1, 12.0), row(64, 300.0), row(1, 11.0), row(64, 400.0)];
        let told = Summary::of_all(&rows);
        let figures: Vec<_> = told.iter().map(|s| (s.in_flight, s.runs, s.records_per_s.unwrap())).collect();
        assert_eq!(
            figures,
            [
                (1, 3, Spread { median: 11.0, min: 10.0, max: 12.0 }),
                (64, 3, Spread { median: 400.0, min: 300.0, max: 500.0 })
            ]
        );
        assert_eq!(figures[1].2.relative(), 0.5);
        assert_eq!(Spread::of([1.0, 2.0].into_iter()).unwrap().median, 1.5);
        assert_eq!(told[0].floor_ratio, None);
    }
}
