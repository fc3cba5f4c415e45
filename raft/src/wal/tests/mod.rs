//! The proofs of the log: a cast of entries and disks, and one file per kind of story.

#![allow(clippy::unwrap_used)]

mod believed;
mod bounds;
mod crash;
mod cut;
mod damage;
mod decode;
mod exact;
mod faults;
mod formats;
mod frames;
mod full;
mod heal;
mod model;
mod real;
mod repair;
mod verify;
mod view;

use std::sync::Arc;

use super::*;
use crate::{LogIndex, NodeId, Term, Wall};

pub(super) const LOG_ID: [u8; 16] = *b"0123456789abcdef";

pub(super) fn seed() -> u64 {
    u64::from_le_bytes(LOG_ID[..8].try_into().unwrap())
}

pub(super) fn meta() -> Meta {
    Meta::new([7; 16], NodeId::new(42).unwrap())
}

/// Tries every so many cases of a sweep: all of them, unless `QUORATE_SWEEP` says otherwise. `.ci/mutants` does, which runs
/// the sweeps hundreds of times; a prime keeps it out of step with sectors and subsets.
pub(super) struct Sweep {
    pub(super) every: u64,
    seen: u64,
}

impl Sweep {
    pub(super) fn new() -> Self {
        let every = std::env::var("QUORATE_SWEEP").map_or(1, |text| text.parse().expect("QUORATE_SWEEP=N"));
        assert_ne!(every, 0);
        Self { every, seen: 0 }
    }

    /// Of random cases, which are cheap and find much, some stay.
    pub(super) fn random(cases: u32) -> u32 {
        cases / Self::new().every.min(6) as u32
    }

    pub(super) fn takes(&mut self) -> bool {
        self.seen += 1;
        (self.seen - 1).is_multiple_of(self.every)
    }
}

/// The smallest segments, small steps, a point every 256 bytes: everything happens often.
pub(super) fn small(seed: u64) -> Options {
    Options { segment_bytes: 8192, prepare_bytes: 4096, index_every_bytes: 256, verify_at_open_bytes: u64::MAX, seed }
}

/// The entry after `last`, of `term`, with two records and this payload.
pub(super) fn after(last: Option<&EntryHeader>, term: u64, payload: &[u8]) -> Entry {
    after_of(last, term, EntryKind::Normal, 2, payload)
}

pub(super) fn after_of(last: Option<&EntryHeader>, term: u64, kind: EntryKind, count: u32, payload: &[u8]) -> Entry {
    let index = last.map_or(LogIndex(1), |l| l.index.next());
    let fields = EntryFields {
        seed: seed(),
        index,
        term: Term(term),
        kind,
        base_offset: last.map_or(0, EntryHeader::next_offset),
        count,
        time: Wall(last.map_or(1_000, |l| l.time.0 + 10)),
        lamport: index.0,
        shard: 0,
        session: 0,
        seq: 0,
    };
    Entry::seal(fields, last.map_or(CHAIN_GENESIS, |l| l.chain), payload)
}

/// `n` entries after `last`.
pub(super) fn chain_of(mut last: Option<EntryHeader>, term: u64, sizes: impl IntoIterator<Item = usize>) -> Vec<Entry> {
    let mut entries = Vec::new();
    for size in sizes {
        let byte = (last.map_or(0, |l| l.index.0) % 251) as u8;
        let entry = after(last.as_ref(), term, &vec![byte; size]);
        last = Some(*entry.header());
        entries.push(entry);
    }
    entries
}

pub(super) fn append(entries: Vec<Entry>) -> Batch {
    Batch { log_id: Some(LOG_ID), append: entries, ..Batch::default() }
}

/// All entries of the log.
pub(super) fn all(reader: &Reader) -> Vec<Entry> {
    reader.read(reader.first_index(), reader.last_index(), usize::MAX).unwrap()
}

pub(super) fn dyn_disk(disk: impl Disk + 'static) -> Arc<dyn Disk> {
    Arc::new(disk)
}
