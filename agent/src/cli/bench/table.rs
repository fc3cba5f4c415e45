//! What was measured, for people: a line a run, aligned, with units.
//!
//! It never computes a figure: those are in the report.

use super::floor::Floor;
use super::latency::Percentiles;
use super::report::{AgentObject, Row, Spread, Summary};
use super::verify::Verdict;
use crate::api::{AppendStages, Latency};
use crate::cli::output::{bytes, thousands};
use crate::limits::printable;

/// The columns behind the level and the run.
struct Figures {
    records_per_s: f64,
    mb_per_s: Option<f64>,
    latencies_us: [f64; 5],
    /// p99 corrected, or p99 of the lateness.
    other_us: Option<f64>,
    cpu_s_per_100k: Option<f64>,
    sync_us: Option<f64>,
    round_trip_us: Option<f64>,
    floor_ratio: Option<f64>,
}

/// Over the columns. `scheduled`: the levels are rates.
pub(super) fn header(scheduled: bool) -> String {
    let (level, other) = if scheduled { ("rate", "p99 late") } else { ("in flight", "p99 corr") };
    format!(
        "{level:>9} {:>3} {:>9} {:>7} {:>8} {:>8} {:>8} {:>8} {:>8} {other:>8} {:>8} {:>8} {:>8} {:>7}",
        "run", "records/s", "MB/s", "p50", "p90", "p99", "p99.9", "max", "CPU/100k", "f", "r", "x floor"
    )
}

fn line(level: &str, run: &str, f: &Figures) -> String {
    let dash = || "-".to_owned();
    let time = |us: Option<f64>| us.map_or_else(dash, span);
    let number = |n: Option<f64>, digits: usize| n.map_or_else(dash, |n| format!("{n:.digits$}"));
    let [p50, p90, p99, p999, max] = f.latencies_us.map(span);
    format!(
        "{level:>9} {run:>3} {:>9} {:>7} {p50:>8} {p90:>8} {p99:>8} {p999:>8} {max:>8} {:>8} {:>8} {:>8} {:>8} {:>7}",
        thousands(f.records_per_s.round() as u64),
        number(f.mb_per_s, 1),
        time(f.other_us),
        f.cpu_s_per_100k.map_or_else(dash, |s| format!("{s:.2} s")),
        time(f.sync_us),
        time(f.round_trip_us),
        number(f.floor_ratio, 2),
    )
}

fn level(in_flight: u32, rate: Option<f64>) -> String {
    thousands(rate.map_or(u64::from(in_flight), |rate| rate as u64))
}

/// One run.
pub(super) fn row(row: &Row) -> String {
    let l = &row.latency;
    let figures = Figures {
        records_per_s: row.records_per_s,
        mb_per_s: Some(row.mb_per_s),
        latencies_us: [l.p50_us, l.p90_us, l.p99_us, l.p999_us, l.max_us],
        other_us: row.corrected.or(row.lateness).map(|other| other.p99_us),
        cpu_s_per_100k: row.agents_cpu_s_per_100k,
        sync_us: row.sync_us,
        round_trip_us: row.round_trip_us,
        floor_ratio: row.floor_ratio,
    };
    let mut line = line(&level(row.in_flight, row.rate), &row.run.to_string(), &figures);
    let mut remark = |n: u64, what: &str| {
        if n > 0 {
            line.push_str(&format!("  {} {what}", thousands(n)));
        }
    };
    remark(row.not_applied, "refused");
    remark(row.unknown, "unknown");
    remark(row.unissued, "never sent");
    if row.forwarded > 0 {
        line.push_str("  forwarded");
    }
    line
}

/// The medians of several runs, and how far they are apart.
pub(super) fn summary(all: &Summary) -> String {
    let median = |spread: Option<Spread>| spread.map(|spread| spread.median);
    let or_zero = |spread: Option<Spread>| median(spread).unwrap_or(0.0);
    let figures = Figures {
        records_per_s: or_zero(all.records_per_s),
        mb_per_s: None,
        latencies_us: [all.p50_us, all.p90_us, all.p99_us, all.p999_us, all.max_us].map(or_zero),
        other_us: None,
        cpu_s_per_100k: median(all.agents_cpu_s_per_100k),
        sync_us: median(all.sync_us),
        round_trip_us: median(all.round_trip_us),
        floor_ratio: median(all.floor_ratio),
    };
    let spread = all.records_per_s.map_or(0.0, |spread| spread.relative() * 100.0);
    format!("{}  spread {spread:.0} %", line(&level(all.in_flight, all.rate), "med", &figures))
}

/// One measurement of the floor.
pub(super) fn floor(floor: &Floor, writers: usize) -> Option<String> {
    let of = |p: &Percentiles| format!("p50 {} p99 {}", span(p.p50_us), span(p.p99_us));
    let mut parts = Vec::new();
    if let Some(alone) = &floor.sync_alone {
        parts.push(format!("fdatasync, 1 writer {}", of(alone)));
    }
    if let Some(together) = floor.sync_together.as_ref().filter(|_| writers > 1) {
        parts.push(format!("{writers} writers {}", of(together)));
    }
    if let Some(round_trip) = &floor.round_trip {
        parts.push(format!("QUIC round trip {}", of(round_trip)));
    }
    if let Some(us) = floor.round_trip_told_us {
        parts.push(format!("round trip between agents, as they say, {}", span(us)));
    }
    (!parts.is_empty()).then(|| format!("floor: {}", parts.join("; ")))
}

/// Where the time went in the leader.
pub(super) fn stages(stages: &AppendStages) -> String {
    let of = |l: &Latency| format!("{} / {}", span(l.p50_us as f64), span(l.p99_us as f64));
    format!(
        "in the leader, over its last 30 to 60 s, p50 / p99: queue {}, its own fsync {}, replicate {}, total {}",
        of(&stages.queue),
        of(&stages.fsync),
        of(&stages.replicate),
        of(&stages.total)
    )
}

/// One agent.
pub(super) fn agent(agent: &AgentObject) -> Option<String> {
    let (before, after) = (agent.before?, agent.after?);
    Some(format!(
        "{}: resident {}, at most {} ({} before); {} descriptors ({} before)",
        printable(&agent.name),
        bytes(after.rss),
        bytes(after.rss_peak),
        bytes(before.rss),
        after.descriptors,
        before.descriptors
    ))
}

/// What `--verify` found.
pub(super) fn verdict(verdict: &Verdict) -> String {
    format!(
        "read back: {} acknowledged records; lost {}, doubled {}, altered {}, misplaced {}, uncalled {}; {} unknown, of \
         which {} stand in the log",
        thousands(verdict.acked),
        verdict.lost,
        verdict.duplicated,
        verdict.altered,
        verdict.misplaced,
        verdict.uncalled,
        thousands(verdict.unknown),
        thousands(verdict.unknown_appended)
    )
}

/// Microseconds as people say them.
pub(super) fn span(us: f64) -> String {
    match us {
        us if us < 1_000.0 => format!("{us:.0} µs"),
        us if us < 10_000.0 => format!("{:.2} ms", us / 1e3),
        us if us < 100_000.0 => format!("{:.1} ms", us / 1e3),
        us if us < 1_000_000.0 => format!("{:.0} ms", us / 1e3),
        us => format!("{:.2} s", us / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_has_the_columns_of_the_header() {
        let row_of = Row { run: 1, in_flight: 64, records_per_s: 1e6, ..Row::default() };
        let width = |line: &str| line.chars().count();
        assert_eq!(width(&row(&row_of)), width(&header(false)));
        assert_eq!(width(&row(&row_of)), width(&header(true)));
        let all = summary(&Summary::of_all(std::slice::from_ref(&row_of))[0]);
        assert_eq!(all, format!("{}  spread 0 %", &all[..all.find("  spread").unwrap()]));
        assert_eq!(width(&all) - width("  spread 0 %"), width(&header(false)));
        let failing = row(&Row { not_applied: 3, unknown: 1_000, unissued: 2, forwarded: 1, ..row_of });
        assert!(failing.ends_with("  3 refused  1,000 unknown  2 never sent  forwarded"), "{failing}");
    }

    #[test]
    fn spans_keep_three_digits() {
        for (us, said) in
            [(97.4, "97 µs"), (1_234.0, "1.23 ms"), (12_340.0, "12.3 ms"), (123_400.0, "123 ms"), (2.5e6, "2.50 s")]
        {
            assert_eq!(span(us), said);
        }
    }
}
