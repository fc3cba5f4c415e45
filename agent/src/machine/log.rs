//! The users' log as a state machine: dense offsets and the number of each record in its stream.
//!
//! It never holds a record: those stay in the write-ahead log.

use super::streams::Streams;
use crate::limits::STREAMS_MAX;
use crate::record::{self, Malformed};
use bytes::BytesMut;
use std::collections::BTreeMap;

/// What the log machine knows after the entries applied so far. A copy costs microseconds, however many streams there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogMachine {
    next: u64,
    streams: Streams,
}

/// An entry that contradicts the state: the leader that made it computed something else.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// Offsets have a hole or overlap.
    #[error("entry starts at offset {got}, {expected} was next")]
    Offset {
        /// What the state expects.
        expected: u64,
        /// What the entry says.
        got: u64,
    },
    /// The count in the header and the batch differ.
    #[error("entry announces {header} records and holds {batch}")]
    Count {
        /// In the header.
        header: u32,
        /// In the batch.
        batch: u32,
    },
    /// A stream's numbering has a hole or overlaps.
    #[error("a record has number {got} in its stream, {expected} was next")]
    Sequence {
        /// What the state expects.
        expected: u64,
        /// What the record says.
        got: u64,
    },
    /// The batch does not decode.
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

impl LogMachine {
    /// A machine that goes on at this offset, without any stream yet: see [`set_next_in`](Self::set_next_in).
    #[must_use]
    pub fn at(next: u64) -> Self {
        Self { next, ..Self::default() }
    }

    /// What a checkpoint says of one stream.
    pub fn set_next_in(&mut self, stream: &str, next: u64) {
        self.streams.set(stream, next);
    }

    /// The next number of each stream that has records, in an order that depends on the names alone.
    pub fn numbers(&self) -> impl Iterator<Item = (&str, u64)> {
        self.streams.iter()
    }

    /// The offset of the next record.
    #[must_use]
    pub fn next_offset(&self) -> u64 {
        self.next
    }

    /// The number of the next record of this stream; from 1.
    #[must_use]
    pub fn next_in(&self, stream: &str) -> u64 {
        self.streams.get(stream).unwrap_or(1)
    }

    /// How many streams there are.
    #[must_use]
    pub fn streams(&self) -> usize {
        self.streams.len()
    }

    fn has(&self, stream: &str) -> bool {
        self.streams.get(stream).is_some()
    }

    /// Applies one batch that stands at `base`.
    pub fn apply(&mut self, base: u64, count: u32, batch: &[u8]) -> Result<(), Mismatch> {
        if base != self.next {
            return Err(Mismatch::Offset { expected: self.next, got: base });
        }
        let outlines = record::outlines(batch)?;
        let mut n = 0;
        for outline in outlines {
            let outline = outline?;
            let expected = self.next_in(outline.stream);
            if outline.seq() != expected {
                return Err(Mismatch::Sequence { expected, got: outline.seq() });
            }
            self.streams.set(outline.stream, expected + 1);
            n += 1;
        }
        if n != count {
            return Err(Mismatch::Count { header: count, batch: n });
        }
        self.next += u64::from(count);
        Ok(())
    }
}

/// Streams in flight before those that are applied are sorted out.
const TRIM_ABOVE: usize = 4096;

/// The numbers that a leader has given out beyond what is applied: its own entries in flight.
#[derive(Clone, Debug, Default)]
pub struct InFlight {
    streams: BTreeMap<Box<str>, u64>,
}

/// The next number of each stream after one batch.
#[derive(Debug)]
#[must_use = "the numbers of a batch that was appended must be kept"]
pub struct Given(BTreeMap<Box<str>, u64>);

/// Why the leader does not number a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The batch does not decode.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// It would open more streams than a log may have.
    #[error("the log already has {STREAMS_MAX} streams, the most it may have")]
    TooManyStreams,
}

impl InFlight {
    /// Forgets all: everything in flight is applied, or this node no longer leads.
    pub fn clear(&mut self) {
        self.streams.clear();
    }

    /// Forgets what is applied by now, once there is enough of it: under constant load nothing ever stands still.
    pub fn trim(&mut self, applied: &LogMachine) {
        if self.streams.len() > TRIM_ABOVE {
            self.streams.retain(|stream, next| *next > applied.next_in(stream));
        }
    }

    /// Writes the stream numbers into a batch that is about to be appended. They are given out only by
    /// [`keep`](Self::keep), once the batch stands in the log: a number that nobody has would be a hole for ever.
    pub fn number(&self, applied: &LogMachine, batch: &mut BytesMut) -> Result<Given, Refused> {
        let mut patches: Vec<(usize, u64)> = Vec::with_capacity(record::count(batch)? as usize);
        let mut given: BTreeMap<Box<str>, u64> = BTreeMap::new();
        for outline in record::outlines(batch)? {
            let outline = outline?;
            let next = match given.get_mut(outline.stream) {
                Some(next) => next,
                None => {
                    let next = self.streams.get(outline.stream).copied();
                    let next = next.unwrap_or_else(|| applied.next_in(outline.stream));
                    given.entry(outline.stream.into()).or_insert(next)
                }
            };
            patches.push((outline.seq_at, *next));
            *next += 1;
        }
        let opened_by = |names: &BTreeMap<Box<str>, u64>| names.keys().filter(|s| !applied.has(s)).count();
        let new = given.keys().filter(|s| !applied.has(s) && !self.streams.contains_key(*s)).count();
        // Counting what is in flight is only worth its cost when something new is opened.
        if new > 0 && applied.streams() + opened_by(&self.streams) + new > STREAMS_MAX {
            return Err(Refused::TooManyStreams);
        }
        for (at, seq) in patches {
            if let Some(field) = batch.get_mut(at..at + 8) {
                field.copy_from_slice(&seq.to_le_bytes());
            }
        }
        Ok(Given(given))
    }

    /// The batch was appended: its numbers belong to it.
    pub fn keep(&mut self, Given(mut given): Given) {
        self.streams.append(&mut given);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Record, encode_batch};

    fn batch(streams: &[&str]) -> BytesMut {
        let records: Vec<_> = streams.iter().map(|s| Record { stream: (*s).into(), ..Record::of("v") }).collect();
        BytesMut::from(encode_batch(records.iter()).unwrap().as_ref())
    }

    #[test]
    fn what_the_leader_numbers_every_agent_accepts() {
        let (mut log, mut flight) = (LogMachine::default(), InFlight::default());
        let (mut a, mut b) = (batch(&["x", "y", "x"]), batch(&["y"]));
        let given = flight.number(&log, &mut a).unwrap();
        flight.keep(given);
        let given = flight.number(&log, &mut b).unwrap();
        flight.keep(given);
        log.apply(0, 3, &a).unwrap();
        log.apply(3, 1, &b).unwrap();
        assert_eq!((log.next_offset(), log.next_in("x"), log.next_in("y"), log.next_in("z")), (4, 3, 3, 1));
        flight.clear();
        let mut c = batch(&["x"]);
        let _refused = flight.number(&log, &mut c).unwrap();
        let _appended = flight.number(&log, &mut c).unwrap();
        log.apply(4, 1, &c).unwrap();
    }

    #[test]
    fn what_is_applied_is_not_remembered_as_in_flight_for_ever() {
        let (mut log, mut flight) = (LogMachine::default(), InFlight::default());
        let mut base = 0;
        for i in 0..TRIM_ABOVE + 2 {
            let mut one = batch(&[&format!("s{i}")]);
            let given = flight.number(&log, &mut one).unwrap();
            flight.keep(given);
            // The last one is still on its way.
            if i <= TRIM_ABOVE {
                log.apply(base, 1, &one).unwrap();
                base += 1;
            }
        }
        flight.trim(&log);
        assert_eq!(flight.streams.len(), 1);
    }

    #[test]
    fn a_hole_a_wrong_count_and_a_wrong_number_are_seen() {
        let mut log = LogMachine::default();
        let mut a = batch(&["x"]);
        assert_eq!(log.clone().apply(0, 1, &a), Err(Mismatch::Sequence { expected: 1, got: 0 }));
        let _given = InFlight::default().number(&log, &mut a).unwrap();
        assert_eq!(log.apply(1, 1, &a), Err(Mismatch::Offset { expected: 0, got: 1 }));
        assert_eq!(log.apply(0, 2, &a), Err(Mismatch::Count { header: 2, batch: 1 }));
    }
}
