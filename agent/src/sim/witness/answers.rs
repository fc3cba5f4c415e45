//! Answers: what clients and consumers heard, held against what stands.
//!
//! It believes no answer: whoever heard of a record finds it at that offset for ever, or the answer was a lie.

use super::super::invariant::Invariant;
use super::Witness;
use quorate_raft::wal::Entry;

impl Witness {
    /// A client heard that these values stand from this offset on. `floor`: the acked end when it asked.
    pub(in super::super) fn acked(&mut self, first_value: u64, count: u64, first: u64, last: u64, floor: u64) {
        self.claim(last + 1 == first + count, Invariant::AckedStands, || {
            format!("{count} records were acked as offsets {first} to {last}")
        });
        self.claim(first >= floor, Invariant::RealTime, || {
            format!("acked at {first}, and {floor} was acked before it was asked for")
        });
        for at in 0..count {
            let (value, offset) = (first_value + at, first + at);
            if let Some(other) = self.acked.insert(offset, value) {
                self.blame(
                    Invariant::AckedStands,
                    format!("offset {offset} was acked for value {other} and for value {value}"),
                );
            }
            let stands = self.values.get(offset as usize).copied();
            self.claim(stands.is_none_or(|s| s == value), Invariant::AckedStands, || {
                format!("value {value} was acked at {offset}, where value {} stands", stands.unwrap_or(0))
            });
        }
        self.acked_next = self.acked_next.max(last + 1);
    }

    /// A client heard that these values surely do not stand.
    pub(in super::super) fn failed(&mut self, first_value: u64, count: u64) {
        for value in first_value..first_value + count {
            self.failed.insert(value);
            let offset = self.offset_of(value);
            self.claim(offset.is_none(), Invariant::FailedStaysOut, || {
                format!("the append of value {value} surely failed, and it stands at {}", offset.unwrap_or(0))
            });
        }
    }

    /// A linearizable read ended.
    pub(in super::super) fn read(&mut self, next: u64, floor: u64) {
        self.claim(next >= floor, Invariant::RealTime, || {
            format!("a linearizable read saw {next}, and {floor} was acked before it began")
        });
    }

    /// A consumer got this entry from an agent, having seen everything before `next`.
    pub(in super::super) fn consumed(&mut self, name: &str, entry: &Entry, next: u64) {
        let header = entry.header();
        let index = header.index.0;
        self.claim(self.chain(index) == Some(header.chain), Invariant::SameEntries, || {
            format!("{name} gave a consumer another entry {index} than stands there")
        });
        self.claim(header.next_offset() >= next, Invariant::OffsetsDense, || {
            format!("{name} gave a consumer entry {index} again, which ends before {next}")
        });
        self.claim(Entry::decode(entry.bytes().clone()).is_ok(), Invariant::Decodes, || {
            format!("{name} gave a consumer a damaged entry {index}")
        });
    }

    /// At the end nothing acked may be missing.
    pub(in super::super) fn all_acked_stand(&mut self) {
        let missing = self.acked.iter().find(|(offset, value)| self.values.get(**offset as usize) != Some(value));
        if let Some((offset, value)) = missing {
            let what = format!("value {value} was acked at {offset}, and does not stand there");
            self.blame(Invariant::AckedStands, what);
        }
    }
}
