//! Machine: one disk, one core, and what is between them; with what travels, and the dice of the world.
//!
//! It moves nothing by itself: the cluster does.

use std::collections::{BTreeMap, VecDeque};

use quorate_raft::*;

use crate::cluster::Micros;

/// One entry as a disk holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) term: Term,
    pub(crate) kind: EntryKind,
    /// Stands for the bytes: the ticket that proposed it, zero for the core's own.
    pub(crate) data: u64,
    pub(crate) bytes: u32,
}

/// What survives a crash.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    pub(crate) hard_state: HardState,
    pub(crate) log: Vec<Entry>,
    /// The bar, as it was last written.
    pub(crate) suspect: Option<Position>,
    /// Entries that cannot be read: the first and the last one of each range, ascending.
    pub(crate) holes: Vec<(LogIndex, LogIndex)>,
    /// Known to be committed: a checkpoint says so.
    pub(crate) applied: LogIndex,
}

impl Disk {
    /// Applies a write, in the order of its parts.
    pub(crate) fn apply(&mut self, write: &Persist, entries: &[Entry]) {
        if let Some(hard_state) = write.hard_state {
            self.hard_state = hard_state;
        }
        if let Some(from) = write.truncate_from {
            let before = from.prev();
            let is_known = !self.is_hole(before) || before.0 as usize == self.log.len();
            assert!(is_known, "the log would go on behind entry {before}, which cannot be read");
            self.log.truncate(before.0 as usize);
            self.holes.retain(|(first, _)| *first < from);
            if let Some((_, last)) = self.holes.last_mut() {
                *last = (*last).min(before);
            }
        }
        self.log.extend_from_slice(entries);
        match write.suspect {
            Some(Suspect::At(bar)) => self.suspect = Some(bar),
            Some(Suspect::Cleared) => self.suspect = None,
            None => {}
        }
    }

    /// The end of the log rots, from `first` on: a start cuts what it cannot read, and knows that it may have acknowledged
    /// all that stood there.
    pub(crate) fn rot_from(&mut self, first: LogIndex) {
        let last =
            Position { index: LogIndex(self.log.len() as u64), term: self.log.last().map_or(Term::ZERO, |e| e.term) };
        self.log.truncate(first.0 as usize - 1);
        self.suspect = self.suspect.filter(|bar| bar.is_at_least_as_up_to_date_as(last)).or(Some(last));
    }

    pub(crate) fn is_hole(&self, index: LogIndex) -> bool {
        self.holes.iter().any(|(first, last)| (*first..=*last).contains(&index))
    }

    /// What a start finds. Of entries that it cannot read it guesses that they are of the term before them, but for the
    /// very last one, and it misses their configurations.
    pub(crate) fn saved(&self, committed: LogIndex) -> Saved {
        let mut saved = Saved { hard_state: self.hard_state, committed, suspect: self.suspect, ..Saved::default() };
        for (i, entry) in (1..).zip(&self.log) {
            let is_last = i as usize == self.log.len();
            if self.is_hole(LogIndex(i)) && !is_last {
                if saved.runs.is_empty() {
                    saved.runs.push(Run { first: LogIndex(i), term: Term(1) });
                }
                continue;
            }
            if saved.runs.last().is_none_or(|run| run.term != entry.term) {
                saved.runs.push(Run { first: LogIndex(i), term: entry.term });
            }
            if let EntryKind::Configuration(c) = &entry.kind
                && !self.is_hole(LogIndex(i))
            {
                saved.configurations.push((LogIndex(i), c.clone()));
            }
        }
        saved.last = LogIndex(self.log.len() as u64);
        saved
    }
}

/// One machine.
pub(crate) struct Machine {
    pub(crate) raft: Option<Raft>,
    pub(crate) boot: BootId,
    pub(crate) disk: Disk,
    /// The log as the running process sees it: the disk and all writes on their way.
    pub(crate) log: Vec<Entry>,
    pub(crate) writes: VecDeque<(Persist, Vec<Entry>)>,
    /// Is a flush under way, and up to which write.
    pub(crate) flushing: Option<PersistTicket>,
    /// How long a flush takes; `None` while the disk hangs.
    pub(crate) fsync: Option<Micros>,
    /// Bytes of proposals handed in and not yet seen in a write.
    pub(crate) proposed: VecDeque<(u64, u32)>,
    pub(crate) boots_known: BTreeMap<NodeId, BootId>,
    pub(crate) alarms: Vec<&'static str>,
    pub(crate) halted: Option<Halt>,
    pub(crate) writes_seen: usize,
}

#[derive(Clone)]
pub(crate) struct Packet {
    pub(crate) from: NodeId,
    pub(crate) from_boot: BootId,
    pub(crate) to: NodeId,
    pub(crate) message: Message,
    pub(crate) entries: Vec<EntryShape>,
    pub(crate) data: Vec<(LogIndex, u64)>,
}

/// How unkind the network is; chances in a thousand.
#[derive(Clone, Debug, Default)]
pub(crate) struct Weather {
    pub(crate) drop: u64,
    pub(crate) duplicate: u64,
    /// Delivered once more, much later.
    pub(crate) replay: u64,
    pub(crate) delay_max: Micros,
}

/// SplitMix64, for the world; the cores have their own.
#[derive(Clone)]
pub(crate) struct Random(pub u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }
    pub(crate) fn chance(&mut self, in_thousand: u64) -> bool {
        self.below(1000) < in_thousand
    }
    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        (!from.is_empty()).then(|| from[self.below(from.len() as u64) as usize])
    }
}
