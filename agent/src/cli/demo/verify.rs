//! The verdict: what was acknowledged against what stands in the log, and every replica against every other.
//!
//! It never trusts the agents' own accounts: it reads the log from each of them, entry by entry.

use super::load::{Attempt, PROBE, number};
use crate::cli::cluster::Cluster;
use crate::cli::output::CliError;
use crate::cli::replica;
use crate::history::{self, Append, History, Kind, Outcome, Span};
use std::time::{Duration, Instant};

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    pub(super) acked: u64,
    pub(super) unknown: u64,
    pub(super) unknown_appended: u64,
    pub(super) lost: u64,
    pub(super) duplicated: u64,
    pub(super) identical: bool,
    pub(super) replicas: usize,
    pub(super) entries: u64,
    /// Whatever is not as it must be; empty if all is well.
    pub(super) complaints: Vec<String>,
}

/// Reads everything and compares.
pub(super) async fn verify(cluster: &Cluster, attempts: &[Attempt]) -> Result<Verdict, CliError> {
    let (mut replicas, mut entries) = (Vec::new(), 0);
    for name in cluster.names() {
        let client = cluster.pinned(&name)?;
        let sent = replica::read(&client, &name, number).await?;
        client.close().await;
        entries = sent.entries;
        replicas.push(sent.replica);
    }
    let found = history::check(&told(attempts), &replicas);
    Ok(Verdict {
        acked: found.acked,
        // The probe of the beginning was acknowledged to the demo itself.
        unknown: found.unknown - 1,
        unknown_appended: found.unknown_applied.saturating_sub(1),
        lost: found.count(Kind::Lost),
        duplicated: found.count(Kind::Doubled),
        identical: found.count(Kind::ReplicasDiffer) == 0,
        replicas: replicas.len(),
        entries,
        complaints: found.anomalies.iter().map(ToString::to_string).collect(),
    })
}

/// As the checker wants it. The probe came first, and where it stands nobody asked.
fn told(attempts: &[Attempt]) -> History<u64> {
    let origin = attempts.iter().map(|attempt| attempt.issued).min().unwrap_or_else(Instant::now);
    let append = |attempt: &Attempt| Append {
        values: vec![attempt.id],
        span: Span { asked: attempt.issued - origin, ended: attempt.ended - origin },
        outcome: attempt.outcome,
    };
    let first = Span { asked: Duration::ZERO, ended: Duration::ZERO };
    let probe = Append { values: vec![PROBE], span: first, outcome: Outcome::Unknown };
    History { appends: attempts.iter().map(append).chain([probe]).collect(), ..History::default() }
}
