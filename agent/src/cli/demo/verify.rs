//! The verdict: what was acknowledged against what stands in the log, and every replica against every other.
//!
//! It never trusts the agents' own accounts: it reads the log through the client, entry by entry.

use super::load::{Attempt, Outcome, number};
use crate::cli::cluster::Cluster;
use crate::cli::find;
use crate::cli::output::CliError;
use crate::client::{Client, ReadLevel, TailFrom};
use std::collections::BTreeMap;
use xxhash_rust::xxh3::Xxh3;

/// Most complaints that are collected; one is enough to fail.
const COMPLAINTS_MAX: usize = 100;

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

impl Verdict {
    fn complain(&mut self, text: String) {
        if self.complaints.len() < COMPLAINTS_MAX {
            self.complaints.push(text);
        }
    }
}

/// Reads everything and compares.
pub(super) async fn verify(cluster: &Cluster, attempts: &[Attempt]) -> Result<Verdict, CliError> {
    let mut verdict = Verdict { identical: true, replicas: cluster.len(), ..Verdict::default() };
    let client = cluster.client(0)?;
    let (log, next) = read_log(&client, &mut verdict).await?;
    judge(&log, attempts, &mut verdict);
    compare_replicas(cluster, next, &mut verdict).await?;
    Ok(verdict)
}

/// Every number in the log with its offsets, and the next offset.
async fn read_log(client: &Client, verdict: &mut Verdict) -> Result<(BTreeMap<u64, Vec<u64>>, u64), CliError> {
    let mut log: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    let mut next = 0;
    let mut tail = client.tail(TailFrom { read: ReadLevel::Linear, ..TailFrom::default() });
    while let Some(item) = tail.next().await {
        let item = item.map_err(|e| find::error(e, false))?;
        if item.offset != next {
            verdict.complain(format!("offset {} follows offset {}", item.offset, next.wrapping_sub(1)));
        }
        next = item.offset + 1;
        match number(&item.stored.record) {
            Ok(Some(id)) => log.entry(id).or_default().push(item.offset),
            Ok(None) => {}
            Err(why) => verdict.complain(format!("offset {}: {why}", item.offset)),
        }
    }
    Ok((log, next))
}

/// What each append was told, against the log.
fn judge(log: &BTreeMap<u64, Vec<u64>>, attempts: &[Attempt], verdict: &mut Verdict) {
    let nowhere = Vec::new();
    for attempt in attempts {
        let places = log.get(&attempt.id).unwrap_or(&nowhere);
        let id = attempt.id;
        if places.len() > 1 {
            verdict.duplicated += 1;
            verdict.complain(format!("append {id} stands {} times in the log, at {places:?}", places.len()));
        }
        match attempt.outcome {
            Outcome::Acked(offset) => {
                verdict.acked += 1;
                if places.is_empty() {
                    verdict.lost += 1;
                    verdict.complain(format!("append {id} was acknowledged at offset {offset} and is lost"));
                } else if !places.contains(&offset) {
                    verdict
                        .complain(format!("append {id} was acknowledged at offset {offset} and stands at {places:?}"));
                }
            }
            Outcome::Unknown => {
                verdict.unknown += 1;
                verdict.unknown_appended += u64::from(!places.is_empty());
            }
            Outcome::NotApplied if !places.is_empty() => {
                verdict.complain(format!("append {id} was called not applied and stands at {places:?}"));
            }
            Outcome::NotApplied => {}
        }
    }
    let known: BTreeMap<u64, ()> = attempts.iter().map(|attempt| (attempt.id, ())).collect();
    if let Some(stranger) = log.keys().find(|id| !known.contains_key(id)) {
        verdict.complain(format!("append {stranger} stands in the log and nobody made it"));
    }
    judge_order(attempts, verdict);
}

/// What was acknowledged before another append was issued stands before it.
fn judge_order(attempts: &[Attempt], verdict: &mut Verdict) {
    let mut acks: Vec<_> = attempts
        .iter()
        .filter_map(|a| match a.outcome {
            Outcome::Acked(offset) => Some((a.issued, a.ended, offset)),
            Outcome::NotApplied | Outcome::Unknown => None,
        })
        .collect();
    let mut by_end = acks.clone();
    acks.sort_unstable_by_key(|(issued, ..)| *issued);
    by_end.sort_unstable_by_key(|(_, ended, _)| *ended);
    let mut ended = by_end.into_iter().peekable();
    let mut before: Option<u64> = None;
    for (issued, _, offset) in acks {
        while let Some((_, _, done)) = ended.next_if(|(_, end, _)| *end < issued) {
            before = before.max(Some(done));
        }
        if before.is_some_and(|before| before >= offset) {
            let why = "stands before one that was acknowledged earlier";
            verdict.complain(format!("the record at offset {offset} {why}"));
        }
    }
}

/// The entries of each replica, as that replica itself sends them.
async fn compare_replicas(cluster: &Cluster, next: u64, verdict: &mut Verdict) -> Result<(), CliError> {
    let mut first: Option<(String, u64, u64)> = None;
    for name in cluster.names() {
        let client = cluster.pinned(&name)?;
        let read = if next == 0 { ReadLevel::Committed } else { ReadLevel::After(next - 1) };
        let mut entries = client.entries(TailFrom { read, until: Some(next), ..TailFrom::default() });
        let mut hash = Xxh3::new();
        let mut count = 0_u64;
        while let Some(entry) = entries.next().await {
            hash.update(entry.map_err(|e| find::error(e, false))?.bytes());
            count += 1;
        }
        let digest = hash.digest();
        client.close().await;
        match &first {
            None => first = Some((name, count, digest)),
            Some((other, entries, expected)) if (*entries, *expected) != (count, digest) => {
                verdict.identical = false;
                verdict.complain(format!("{name} ({count} entries) differs from {other} ({entries} entries)"));
            }
            Some(_) => {}
        }
    }
    verdict.entries = first.map_or(0, |(_, entries, _)| entries);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    fn attempt(origin: Instant, id: u64, from: u64, to: u64, outcome: Outcome) -> Attempt {
        let at = |ms| origin + Duration::from_millis(ms);
        Attempt { id, issued: at(from), ended: at(to), outcome }
    }

    fn judged(log: &[(u64, u64)], outcomes: &[(u64, u64, u64, Outcome)]) -> Verdict {
        let mut places: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        for (id, offset) in log {
            places.entry(*id).or_default().push(*offset);
        }
        let origin = Instant::now();
        let attempts: Vec<_> = outcomes.iter().map(|(id, a, b, o)| attempt(origin, *id, *a, *b, *o)).collect();
        let mut verdict = Verdict::default();
        judge(&places, &attempts, &mut verdict);
        verdict
    }

    #[test]
    fn a_faithful_log_passes_and_unknowns_are_classified() {
        use Outcome::{Acked, NotApplied, Unknown};
        let outcomes =
            [(0, 0, 2, Acked(0)), (1, 1, 3, Acked(1)), (2, 4, 5, Unknown), (3, 4, 5, Unknown), (4, 4, 5, NotApplied)];
        let verdict = judged(&[(0, 0), (1, 1), (3, 2)], &outcomes);
        assert_eq!(verdict.complaints, Vec::<String>::new());
        assert_eq!((verdict.acked, verdict.unknown, verdict.unknown_appended), (2, 2, 1));
    }

    #[test]
    fn every_lie_is_found() {
        use Outcome::{Acked, NotApplied};
        let lost = judged(&[], &[(0, 0, 1, Acked(0))]);
        assert_eq!((lost.lost, lost.complaints.len()), (1, 1));
        let doubled = judged(&[(0, 0), (0, 1)], &[(0, 0, 1, Acked(0))]);
        assert_eq!((doubled.duplicated, doubled.complaints.len()), (1, 1));
        assert_eq!(judged(&[(0, 5)], &[(0, 0, 1, Acked(0))]).complaints.len(), 1);
        assert_eq!(judged(&[(0, 0)], &[(0, 0, 1, NotApplied)]).complaints.len(), 1);
        assert_eq!(judged(&[(9, 0)], &[]).complaints.len(), 1);
        let backwards = judged(&[(0, 1), (1, 0)], &[(0, 0, 1, Acked(1)), (1, 2, 3, Acked(0))]);
        assert_eq!(backwards.complaints.len(), 1);
        let concurrent = judged(&[(0, 1), (1, 0)], &[(0, 0, 3, Acked(1)), (1, 2, 3, Acked(0))]);
        assert!(concurrent.complaints.is_empty());
    }
}
