//! What was measured, as a table for people and as one object for programs.
//!
//! It never rounds what a program reads, and never hides a failure.

use super::latency::Percentiles;
use super::load::Measured;
use crate::cli::output::thousands;
use serde::Serialize;
use std::time::Duration;

/// One measured run.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    pub(super) in_flight: u32,
    pub(super) run: u32,
    pub(super) records: u64,
    pub(super) seconds: f64,
    pub(super) records_per_s: f64,
    /// Bytes of values, 10⁶ a second.
    pub(super) mb_per_s: f64,
    /// As each append was seen by its client.
    pub(super) latency: Percentiles,
    /// Appends that surely failed.
    pub(super) not_applied: u64,
    /// Appends whose outcome nobody could say.
    pub(super) unknown: u64,
    /// Why the first one failed.
    pub(super) failure: Option<String>,
    /// Connections that spoke with an agent that did not lead, before or after the run.
    pub(super) forwarded: u32,
}

impl Row {
    pub(super) fn of(measured: &Measured, size: u32, batch: u32, duration: Duration) -> Self {
        let records = measured.acked * u64::from(batch);
        let seconds = duration.as_secs_f64();
        Self {
            in_flight: 0,
            run: 0,
            records,
            seconds,
            records_per_s: records as f64 / seconds,
            mb_per_s: (records * u64::from(size)) as f64 / seconds / 1e6,
            latency: measured.latency.percentiles(),
            not_applied: measured.not_applied,
            unknown: measured.unknown,
            failure: measured.failure.clone(),
            forwarded: 0,
        }
    }

    /// Over the columns.
    pub(super) fn header() -> String {
        format!(
            "{:>9} {:>4} {:>10} {:>8} {:>9} {:>9} {:>9} {:>9} {:>9}",
            "in flight", "run", "records/s", "MB/s", "p50", "p90", "p99", "p99.9", "max"
        )
    }

    pub(super) fn line(&self) -> String {
        let l = &self.latency;
        let mut line = format!(
            "{:>9} {:>4} {:>10} {:>8.1} {:>9} {:>9} {:>9} {:>9} {:>9}",
            thousands(self.in_flight.into()),
            self.run,
            thousands(self.records_per_s.round() as u64),
            self.mb_per_s,
            span(l.p50_us),
            span(l.p90_us),
            span(l.p99_us),
            span(l.p999_us),
            span(l.max_us)
        );
        if self.not_applied + self.unknown > 0 {
            line.push_str(&format!("   {} failed, {} unknown", self.not_applied, self.unknown));
        }
        if self.forwarded > 0 {
            line.push_str("   forwarded");
        }
        line
    }
}

/// Microseconds as people say them.
pub(super) fn span(us: f64) -> String {
    match us {
        us if us < 1_000.0 => format!("{us:.0} µs"),
        us if us < 100_000.0 => format!("{:.2} ms", us / 1e3),
        us if us < 1_000_000.0 => format!("{:.0} ms", us / 1e3),
        us => format!("{:.2} s", us / 1e6),
    }
}

/// Everything.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) v: u32,
    pub(super) version: String,
    pub(super) agents: usize,
    pub(super) leader: String,
    pub(super) size: u32,
    pub(super) batch: u32,
    pub(super) clients: u32,
    pub(super) runs: Vec<Row>,
}
