//! What a run amounted to, for people and for programs.
//!
//! It never judges: what is good is in the verdict.

use super::link::Counts;
use super::plan::NAMES;
use super::tally::Tally;
use crate::cli::output::{bytes, thousands};
use crate::history::Verdict;
use crate::limits::printable;
use serde::Serialize;
use std::collections::BTreeMap;

/// Everything in one object.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) v: u32,
    pub(super) good: bool,
    pub(super) seed: u64,
    pub(super) minutes: f64,
    pub(super) nodes: usize,
    pub(super) operations: u64,
    pub(super) appends: Appends,
    pub(super) reads: Reads,
    pub(super) records: u64,
    /// By name, how often each blow fell.
    pub(super) blows: BTreeMap<&'static str, u64>,
    pub(super) blows_skipped: u64,
    pub(super) kills: u64,
    pub(super) pauses: u64,
    pub(super) damages: u64,
    pub(super) damaged_bytes: u64,
    /// Copies of the log that were lost or damaged and are whole again.
    pub(super) healed: u64,
    /// Damaged directories that an agent refused, and that were replaced by empty ones.
    pub(super) refused_damage: u64,
    /// Entries that agents had from others in place of damaged ones.
    pub(super) repaired_entries: u64,
    /// Times that a copy or an old state of a directory was turned away.
    pub(super) copies_refused: u64,
    pub(super) elections: u64,
    pub(super) longest_unavailable_ms: u64,
    pub(super) longest_unavailable_at_s: f64,
    pub(super) came_together_ms: u64,
    pub(super) links: Counts,
    pub(super) anomalies: BTreeMap<&'static str, u64>,
    pub(super) findings: Vec<String>,
    /// Where everything lies, if it was kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) kept: Option<String>,
}

/// By outcome.
#[derive(Debug, Serialize)]
pub(super) struct Appends {
    pub(super) acked: u64,
    pub(super) not_applied: u64,
    pub(super) unknown: u64,
    pub(super) unknown_applied: u64,
}

/// What was read.
#[derive(Debug, Serialize)]
pub(super) struct Reads {
    pub(super) answered: u64,
    pub(super) failed: u64,
    pub(super) tails: u64,
    pub(super) records_seen: u64,
}

impl Report {
    pub(super) fn take_in(&mut self, tally: &Tally) {
        self.blows = NAMES.iter().map(|name| (*name, tally.of(name))).filter(|(_, n)| *n > 0).collect();
        self.blows_skipped = tally.of("skipped");
        self.kills = tally.of("kills");
        self.pauses = tally.of("pauses");
        self.damages = tally.of("damages");
        self.damaged_bytes = tally.of("damaged_bytes");
        self.healed = tally.of("healed");
        self.refused_damage = tally.of("refused_damage");
    }

    pub(super) fn anomalies(verdict: &Verdict) -> BTreeMap<&'static str, u64> {
        verdict.by_kind.iter().map(|(kind, count)| (kind.code(), *count)).collect()
    }

    /// The table at the end.
    pub(super) fn lines(&self) -> Vec<String> {
        let row = |name: &str, value: String| format!("{name:<12} {value}");
        let n = thousands;
        let Self { appends, reads, links, .. } = self;
        let blows = self.blows.iter().map(|(name, count)| format!("{name} {count}"));
        let mut lines = vec![
            row("operations", n(self.operations)),
            row(
                "appends",
                format!(
                    "{} acknowledged, {} not applied, {} unknown ({} of them stand)",
                    n(appends.acked),
                    n(appends.not_applied),
                    n(appends.unknown),
                    n(appends.unknown_applied)
                ),
            ),
            row(
                "reads",
                format!(
                    "{} answered, {} tails with {} records, {} failed",
                    n(reads.answered),
                    n(reads.tails),
                    n(reads.records_seen),
                    n(reads.failed)
                ),
            ),
            row("log", format!("{} records", n(self.records))),
            row("blows", format!("{}; {} skipped", blows.collect::<Vec<_>>().join(", "), self.blows_skipped)),
            row(
                "processes",
                format!("{} kills -9, {} stops, {} elections", n(self.kills), n(self.pauses), n(self.elections)),
            ),
            row(
                "disks",
                format!(
                    "{} damages ({} bytes), {} entries repaired, {} refused, {} copies whole again, {} copies turned away",
                    n(self.damages),
                    n(self.damaged_bytes),
                    n(self.repaired_entries),
                    n(self.refused_damage),
                    n(self.healed),
                    n(self.copies_refused)
                ),
            ),
            row(
                "network",
                format!(
                    "{} datagrams, {}; {} cut off, {} lost, {} twice, {} out of order, {} late, {} beyond the rate",
                    n(links.datagrams),
                    bytes(links.bytes),
                    n(links.cut),
                    n(links.lost),
                    n(links.duplicated),
                    n(links.reordered),
                    n(links.delayed),
                    n(links.overflowed)
                ),
            ),
            row(
                "unavailable",
                format!(
                    "{:.2} s at most, from {:.1} s on; together again {:.2} s after the last blow",
                    self.longest_unavailable_ms as f64 / 1e3,
                    self.longest_unavailable_at_s,
                    self.came_together_ms as f64 / 1e3
                ),
            ),
        ];
        if self.good {
            lines.push(row("verdict", format!("nothing lost, doubled or stale (seed {})", self.seed)));
        } else {
            let kinds = self.anomalies.iter().map(|(kind, count)| format!("{kind} {count}"));
            lines.push(row(
                "verdict",
                format!(
                    "BROKEN PROMISES (seed {}), {} findings: {}",
                    self.seed,
                    self.findings.len(),
                    kinds.collect::<Vec<_>>().join(", ")
                ),
            ));
            lines.extend(self.findings.iter().map(|finding| format!("  - {}", printable(finding))));
        }
        lines
    }
}
