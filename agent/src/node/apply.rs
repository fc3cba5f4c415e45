//! Committed entries to the state machines, in order, in slices.
//!
//! What a machine refuses here was accepted by the leader that appended it: the two disagree, and this node halts.

use super::checkpoints::configures;
use super::options::{Founding, configuration_of};
use super::{FetchFor, Level, Node, Output};
use crate::codec;
use crate::machine::registry::Command;
use quorate_raft::wal::{Entry, EntryKind};
use quorate_raft::{LogIndex, Mono, Now, Position, Term, mutant};
use std::collections::VecDeque;
use std::time::Duration;

/// Entries applied before the node looks at its inputs again: about a millisecond.
const SLICE_ENTRIES: usize = 512;
/// Bytes of one read from disk while catching up.
const FETCH_BYTES: usize = 1 << 20;
/// Between two tries to read what the disk did not give.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// How far the machines are.
#[derive(Debug, Default)]
pub(super) struct Applied {
    index: LogIndex,
    term: Term,
    /// Entries read ahead from disk, the next one first.
    read: VecDeque<Entry>,
    read_bytes: usize,
    fetching: Option<u64>,
    more: bool,
    lamport: u64,
    /// The disk did not give what is due: not asked again before this.
    retry_at: Mono,
    trouble: Option<String>,
    /// An entry that is not a batch of records was applied in this turn.
    control: bool,
    halted: Option<String>,
}

impl Applied {
    pub(super) fn index(&self) -> LogIndex {
        self.index
    }
    /// The term of the last applied entry.
    pub(super) fn term(&self) -> Term {
        self.term
    }
    /// Is there work that waits for nothing but a turn?
    pub(super) fn has_more(&self) -> bool {
        self.more
    }
    /// Why the machines have stopped, if they have.
    pub(super) fn halted(&self) -> Option<&str> {
        self.halted.as_deref()
    }
    /// What keeps them from going on at the moment.
    pub(super) fn trouble(&self) -> Option<&str> {
        self.halted.as_deref().or(self.trouble.as_deref())
    }
    /// What could not be read may be readable now.
    pub(super) fn read_again(&mut self) {
        self.retry_at = Mono(0);
    }
    /// The last entry that was read ahead.
    fn read_to(&self) -> Option<LogIndex> {
        self.read.back().map(|entry| entry.header().index)
    }
    /// The Lamport time of the last record.
    pub(super) fn lamport(&self) -> u64 {
        self.lamport
    }
    /// All up to this entry is applied: a checkpoint says so.
    pub(super) fn resume(&mut self, position: Position, lamport: u64) {
        (self.index, self.term, self.lamport) = (position.index, position.term, lamport);
    }
    /// Nothing more is applied in this life.
    pub(super) fn halt(&mut self, why: String) {
        self.halted = Some(why);
    }
}

impl Node {
    pub(super) fn apply_committed(&mut self, now: Now) {
        self.applied.more = false;
        let before = self.applied.index;
        for _ in 0..SLICE_ENTRIES {
            let next = self.applied.index.next();
            let end = if mutant!(ApplyUncommitted) { self.raft.last().index } else { self.raft.committed() };
            if next > end || self.applied.halted.is_some() {
                break;
            }
            let Some(entry) = self.entry_to_apply(now, next) else { break };
            if let Err(why) = self.apply(&entry) {
                let text = match self.why_too_old() {
                    Some(why) => format!("{why}; it stops applying at entry {next}"),
                    None => format!("entry {next} contradicts the state of this agent: {why}; it stops applying here"),
                };
                self.applied.halted = Some(text.clone());
                self.note(Level::Error, text);
                break;
            }
            let carried = configures(entry.header().kind).then(|| configuration_of(&entry)).flatten();
            self.checkpoints.applied(entry.header(), carried);
            self.applied.index = next;
            self.applied.term = entry.header().term;
            self.compare.applied(entry.header());
            self.applied.control |= entry.header().kind != EntryKind::Normal;
        }
        self.applied.more = self.applied.index < self.raft.committed()
            && self.applied.halted.is_none()
            && (self.applied.fetching.is_none() || !self.applied.read.is_empty())
            && now.mono >= self.applied.retry_at;
        self.read_ahead();
        if self.applied.index != before {
            self.advanced(now);
        }
    }

    /// The state has moved on: what waited for it may go on.
    fn advanced(&mut self, now: Now) {
        if self.applied.index == self.raft.last().index && !mutant!(NumbersKept) {
            self.in_flight.clear();
        }
        self.in_flight.trim(&self.log);
        self.cache.trim(self.raft.durable().min(self.applied.index));
        self.gossip_witness(now, self.applied.lamport);
        self.reads_applied(now);
        self.retry_appends(now);
        // The registry or the group may have changed: policies look at once. A batch of records changes neither.
        if std::mem::take(&mut self.applied.control) {
            self.hurry(now);
        }
    }

    /// What the core wanted written contradicts what is on disk: nothing more becomes durable in this life, so nothing
    /// more is acknowledged, and people have to know.
    pub(super) fn write_refused(&mut self, why: String) {
        let text = format!("the log on disk refused an entry ({why}); this agent takes no part any more; restart it");
        self.note(Level::Error, text.clone());
        self.applied.halt(text);
    }

    fn entry_to_apply(&mut self, now: Now, next: LogIndex) -> Option<Entry> {
        if let Some(entry) = self.cache.get(next) {
            return Some(entry.clone());
        }
        while let Some(entry) = self.applied.read.pop_front() {
            self.applied.read_bytes -= entry.bytes().len();
            if entry.header().index == next {
                return Some(entry);
            }
        }
        if self.applied.fetching.is_none() && now.mono >= self.applied.retry_at {
            self.fetch_to_apply(next);
        }
        None
    }

    fn fetch_to_apply(&mut self, from: LogIndex) {
        let token = self.token();
        self.applied.fetching = Some(token);
        let to = self.raft.committed();
        self.emit(Output::Fetch { token, from, to, bytes_max: FETCH_BYTES, whom: FetchFor::Itself });
    }

    /// While one piece of the log is applied, the next is read: at most two are in memory.
    fn read_ahead(&mut self) {
        let Some(next) = self.applied.read_to().map(LogIndex::next) else { return };
        let is_wanted = next <= self.raft.committed() && self.cache.get(next).is_none();
        if is_wanted && self.applied.fetching.is_none() && self.applied.read_bytes < FETCH_BYTES {
            self.fetch_to_apply(next);
        }
    }

    pub(super) fn fetched_for_apply(&mut self, now: Now, token: u64, entries: Vec<Entry>) {
        if self.applied.fetching != Some(token) {
            return;
        }
        self.applied.fetching = None;
        // Only what the core calls committed, under the term it knows.
        let committed = self.raft.committed();
        let stands =
            |e: &Entry| e.header().index <= committed && self.raft.term_at(e.header().index) == Some(e.header().term);
        let mut wanted = self.applied.read_to().unwrap_or(self.applied.index).next();
        for entry in entries.into_iter().take_while(stands) {
            // Each right behind the one before.
            if entry.header().index == wanted {
                wanted = wanted.next();
                self.applied.read_bytes += entry.bytes().len();
                self.applied.read.push_back(entry);
            }
        }
        let next = self.applied.index.next();
        if self.applied.read.is_empty() && self.cache.get(next).is_none() {
            self.applied.retry_at = now.mono.after(RETRY_AFTER);
            self.applied.trouble =
                Some(format!("entry {next} is committed and cannot be read from disk; see the log of this agent"));
            return;
        }
        self.applied.trouble = None;
        self.apply_committed(now);
    }

    fn apply(&mut self, entry: &Entry) -> Result<(), String> {
        let header = entry.header();
        self.boots.read(entry);
        match header.kind {
            EntryKind::Noop | EntryKind::Configuration => {}
            EntryKind::Normal => {
                self.log.apply(header.base_offset, header.count, &entry.payload()).map_err(|e| e.to_string())?;
                self.applied.lamport = self.applied.lamport.max(header.lamport);
            }
            EntryKind::Founding => {
                let founding: Founding = decode(entry)?;
                self.record_bytes_max = founding.record_bytes_max as usize;
                founding.founders().cloned().for_each(|founder| self.registry.apply(Command::Register(founder)));
            }
            EntryKind::Registry => {
                self.registry.apply(decode(entry)?);
                if let Some(why) = self.why_too_old() {
                    return Err(why);
                }
            }
        }
        if header.next_offset() != self.log.next_offset() {
            return Err(format!("next offset {} here, {} in the entry", self.log.next_offset(), header.next_offset()));
        }
        Ok(())
    }
}

fn decode<T: serde::de::DeserializeOwned>(entry: &Entry) -> Result<T, String> {
    codec::decode(&entry.payload(), "control entry").map_err(|e| e.to_string())
}
