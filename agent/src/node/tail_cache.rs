//! The newest entries in memory: what peers, followers' disks and the state machines need again at once.
//!
//! It never drops an entry that is not durable yet: nobody else could supply it.

use quorate_raft::LogIndex;
use quorate_raft::wal::{Entry, EntryHeader};
use std::collections::VecDeque;

/// A contiguous run of entries up to the last one of the log.
#[derive(Debug)]
pub(super) struct TailCache {
    entries: VecDeque<Entry>,
    bytes: usize,
    bytes_max: usize,
    /// The header of the last entry, also when no entry is held.
    last: Option<EntryHeader>,
}

impl TailCache {
    /// An empty cache of a log whose last entry has this header.
    pub(super) fn new(last: Option<EntryHeader>, bytes_max: usize) -> Self {
        Self { entries: VecDeque::new(), bytes: 0, bytes_max, last }
    }

    /// The header of the last entry of the log.
    pub(super) fn last(&self) -> Option<&EntryHeader> {
        self.last.as_ref()
    }

    fn first_index(&self) -> Option<u64> {
        self.entries.front().map(|e| e.header().index.0)
    }

    /// The entry at this index, if it is held.
    pub(super) fn get(&self, index: LogIndex) -> Option<&Entry> {
        let at = index.0.checked_sub(self.first_index()?)?;
        self.entries.get(usize::try_from(at).ok()?)
    }

    /// The entries from `first` to `last`, if all are held.
    pub(super) fn range(&self, first: LogIndex, last: LogIndex) -> Option<Vec<Entry>> {
        self.get(last)?;
        (first.0..=last.0).map(|i| self.get(LogIndex(i)).cloned()).collect()
    }

    /// Drops this entry and all that follow.
    pub(super) fn truncate(&mut self, from: LogIndex) {
        while let Some(back) = self.entries.back()
            && back.header().index >= from
        {
            self.bytes -= back.bytes().len();
            self.entries.pop_back();
        }
        if let Some(back) = self.entries.back() {
            self.last = Some(*back.header());
        }
    }

    /// Adds the next entry.
    pub(super) fn push(&mut self, entry: Entry) {
        if self.entries.back().is_some_and(|back| back.header().index.next() != entry.header().index) {
            self.entries.clear();
            self.bytes = 0;
        }
        self.bytes += entry.bytes().len();
        self.last = Some(*entry.header());
        self.entries.push_back(entry);
    }

    /// Drops the oldest entries beyond the size bound, but none above `keep_above`.
    pub(super) fn trim(&mut self, keep_above: LogIndex) {
        while self.bytes > self.bytes_max
            && let Some(front) = self.entries.front()
            && front.header().index <= keep_above
        {
            self.bytes -= front.bytes().len();
            self.entries.pop_front();
        }
    }
}
