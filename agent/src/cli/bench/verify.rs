//! The check of `--verify`: what was acknowledged against what stands in the log.
//!
//! It never takes the count of records for their presence: each is looked for, at its offset, with its bytes.

use super::load::Outcome;
use super::payload::Payload;
use crate::api::{ReadLevel, Start, TailFrom};
use crate::cli::find;
use crate::cli::output::CliError;
use crate::client::Client;
use crate::record::Record;
use serde::Serialize;
use std::collections::BTreeMap;

/// Most complaints that are kept word by word; all are counted.
const COMPLAINTS_MAX: usize = 10;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Verdict {
    /// Records that were acknowledged.
    pub(super) acked: u64,
    /// Of those, the ones that are not in the log.
    pub(super) lost: u64,
    /// Records that stand in the log more than once.
    pub(super) duplicated: u64,
    /// Records whose bytes are not those that were appended.
    pub(super) altered: u64,
    /// Records at another offset than the one that was acknowledged.
    pub(super) misplaced: u64,
    /// Records in the log that were refused, or never appended.
    pub(super) uncalled: u64,
    /// Records of which nobody could say.
    pub(super) unknown: u64,
    /// Of those, the ones that stand in the log.
    pub(super) unknown_appended: u64,
    /// The first things that are wrong, in words.
    pub(super) complaints: Vec<String>,
}

impl Verdict {
    /// Is the log what was acknowledged?
    pub(super) fn is_good(&self) -> bool {
        self.lost + self.duplicated + self.altered + self.misplaced + self.uncalled == 0
    }

    pub(super) fn add(&mut self, other: Self) {
        self.acked += other.acked;
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.altered += other.altered;
        self.misplaced += other.misplaced;
        self.uncalled += other.uncalled;
        self.unknown += other.unknown;
        self.unknown_appended += other.unknown_appended;
        other.complaints.into_iter().for_each(|complaint| self.complain(complaint));
    }

    fn complain(&mut self, complaint: String) {
        if self.complaints.len() < COMPLAINTS_MAX {
            self.complaints.push(complaint);
        }
    }
}

/// Reads the log from `from` to its end and holds it against what each load was told.
pub(super) async fn read_back(client: &Client, from: u64, loads: Vec<Checker>) -> Result<Verdict, CliError> {
    let mut loads: BTreeMap<u64, Checker> = loads.into_iter().map(|load| (load.payload.run(), load)).collect();
    let start = Start::Offset(from);
    let mut tail = client.tail(TailFrom { start, read: ReadLevel::Linear, ..TailFrom::default() });
    while let Some(item) = tail.next().await {
        let item = item.map_err(|e| find::error(e, false))?;
        if let Some(load) = Payload::run_of(&item.stored.record).and_then(|run| loads.get_mut(&run)) {
            load.see(item.offset, &item.stored.record);
        }
    }
    let mut verdict = Verdict::default();
    loads.into_values().for_each(|load| verdict.add(load.finish()));
    Ok(verdict)
}

/// One load: what its appends were told, and where its records were seen.
pub(super) struct Checker {
    payload: Payload,
    batch: u64,
    outcomes: Vec<Outcome>,
    /// By number of the record, the offset where it was first seen.
    seen: Vec<Option<u64>>,
    verdict: Verdict,
}

impl Checker {
    /// `outcomes` by number of the append, each of `batch` records.
    pub(super) fn new(payload: Payload, batch: u64, outcomes: Vec<Outcome>) -> Self {
        let records = outcomes.len().saturating_mul(usize::try_from(batch).unwrap_or(usize::MAX));
        Self { payload, batch, outcomes, seen: vec![None; records], verdict: Verdict::default() }
    }

    /// A record that stands in the log. Records of other loads are none of its business.
    pub(super) fn see(&mut self, offset: u64, record: &Record) {
        let Some(number) = self.payload.number(record) else { return };
        let verdict = &mut self.verdict;
        let Some(place) = usize::try_from(number).ok().and_then(|at| self.seen.get_mut(at)) else {
            verdict.uncalled += 1;
            return verdict.complain(format!("record {number} stands at offset {offset} and was never appended"));
        };
        if let Some(first) = *place {
            verdict.duplicated += 1;
            return verdict.complain(format!("record {number} stands at offset {first} and again at {offset}"));
        }
        *place = Some(offset);
        if *record != self.payload.record(number) {
            verdict.altered += 1;
            verdict.complain(format!("record {number} at offset {offset} is not what was appended"));
        }
    }

    /// Everything has been seen.
    pub(super) fn finish(mut self) -> Verdict {
        for (number, seen) in (0_u64..).zip(&self.seen) {
            let append = usize::try_from(number / self.batch).unwrap_or(usize::MAX);
            let Some(outcome) = self.outcomes.get(append) else { break };
            let verdict = &mut self.verdict;
            match (*outcome, *seen) {
                (Outcome::Acked(first), seen) => {
                    let meant = first.saturating_add(number % self.batch);
                    verdict.acked += 1;
                    match seen {
                        None => {
                            verdict.lost += 1;
                            verdict.complain(format!("record {number} was acknowledged at offset {meant} and is lost"));
                        }
                        Some(offset) if offset != meant => {
                            verdict.misplaced += 1;
                            let what = format!("record {number} was acknowledged at offset {meant}");
                            verdict.complain(format!("{what} and stands at {offset}"));
                        }
                        Some(_) => {}
                    }
                }
                (Outcome::Unknown, seen) => {
                    verdict.unknown += 1;
                    verdict.unknown_appended += u64::from(seen.is_some());
                }
                (Outcome::NotApplied, Some(offset)) => {
                    verdict.uncalled += 1;
                    let what = format!("record {number} was surely not appended");
                    verdict.complain(format!("{what} and stands at offset {offset}"));
                }
                (Outcome::NotApplied, None) => {}
            }
        }
        self.verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Outcome::{Acked, NotApplied, Unknown};

    const SIZE: usize = 64;

    fn payload() -> Payload {
        Payload::new(7, SIZE)
    }

    /// The verdict on appends of `batch` records that were told `outcomes`, when these numbers stand in the log.
    fn verdict(batch: u64, outcomes: &[Outcome], log: &[u64]) -> Verdict {
        judged(batch, outcomes, log.iter().map(|number| payload().record(*number)))
    }

    fn judged(batch: u64, outcomes: &[Outcome], log: impl Iterator<Item = Record>) -> Verdict {
        let mut checker = Checker::new(payload(), batch, outcomes.to_vec());
        // The log starts at offset 100, and somebody else writes in it as well.
        checker.see(99, &Record::of("of somebody else"));
        checker.see(99, &Payload::new(8, SIZE).record(0));
        (100..).zip(log).for_each(|(offset, record)| checker.see(offset, &record));
        checker.finish()
    }

    #[test]
    fn a_faithful_log_passes_and_unknown_outcomes_are_told_apart() {
        let told = verdict(1, &[Acked(101), Acked(100), Unknown, Unknown, NotApplied], &[1, 0, 3]);
        assert!(told.is_good(), "{told:?}");
        assert_eq!((told.acked, told.unknown, told.unknown_appended), (2, 2, 1));
        let batches = verdict(2, &[Acked(102), Acked(100)], &[2, 3, 0, 1]);
        assert!(batches.is_good(), "{batches:?}");
        assert_eq!(batches.acked, 4);
    }

    #[test]
    fn a_lost_record_is_found() {
        let told = verdict(1, &[Acked(100), Acked(101)], &[0]);
        assert_eq!((told.lost, told.is_good()), (1, false));
        assert_eq!(told.complaints, ["record 1 was acknowledged at offset 101 and is lost"]);
        // Half of a batch is a loss as well.
        assert_eq!(verdict(2, &[Acked(100)], &[0]).lost, 1);
    }

    #[test]
    fn a_doubled_record_is_found() {
        let told = verdict(1, &[Acked(100), Acked(101)], &[0, 1, 0]);
        assert_eq!((told.duplicated, told.is_good()), (1, false));
        assert_eq!(verdict(1, &[Unknown], &[0, 0]).duplicated, 1);
    }

    #[test]
    fn an_altered_record_is_found() {
        let mut value = payload().record(0).value.to_vec();
        value[SIZE - 1] ^= 1;
        let bytes = Record { value: value.into(), ..payload().record(0) };
        let key = Record { key: "k".into(), ..payload().record(0) };
        for altered in [bytes, key] {
            let told = judged(1, &[Acked(100)], std::iter::once(altered));
            assert_eq!((told.altered, told.lost, told.is_good()), (1, 0, false));
        }
    }

    #[test]
    fn a_record_at_another_offset_is_found() {
        assert_eq!(verdict(1, &[Acked(101), Acked(100)], &[0, 1]).misplaced, 2);
        assert_eq!(verdict(2, &[Acked(100)], &[1, 0]).misplaced, 2);
    }

    #[test]
    fn a_record_that_nobody_appended_is_found() {
        assert_eq!(verdict(1, &[Acked(100), NotApplied], &[0, 1]).uncalled, 1);
        assert_eq!(verdict(1, &[Acked(100)], &[0, 9]).uncalled, 1);
    }

    /// However much is wrong, the words are few and the count is whole.
    #[test]
    fn complaints_are_bounded_and_counted() {
        let mut told = verdict(1, &[Acked(1); 50], &[]);
        assert_eq!((told.lost, told.complaints.len()), (50, COMPLAINTS_MAX));
        told.add(verdict(1, &[Acked(1); 50], &[]));
        assert_eq!((told.lost, told.complaints.len()), (100, COMPLAINTS_MAX));
    }
}
