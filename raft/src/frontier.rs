//! Frontier: how far this node's own writes are known to be durable.
//!
//! It never believes in an index for its own sake: completions name writes, and each write remembers what of it is
//! still the log. So a late completion of entries that were since truncated and replaced proves nothing about those
//! that replaced them (the ABA that plain (index, term) completions must argue away).

use alloc::collections::VecDeque;

use crate::{HardState, LogIndex, PersistTicket, mutant};

#[derive(Clone, Debug)]
struct Write {
    ticket: PersistTicket,
    hard_state: Option<HardState>,
    /// The last index of the log once this write is durable, less what was truncated after it.
    last: LogIndex,
}

#[derive(Clone, Debug)]
pub(crate) struct Frontier {
    writes: VecDeque<Write>,
    newest: PersistTicket,
    completed: PersistTicket,
    last: LogIndex,
    hard_state: HardState,
}

impl Frontier {
    pub(crate) fn new(last: LogIndex, hard_state: HardState) -> Self {
        Self { writes: VecDeque::new(), newest: PersistTicket::ZERO, completed: PersistTicket::ZERO, last, hard_state }
    }

    /// The last durable index that is still the log.
    pub(crate) fn last(&self) -> LogIndex {
        self.last
    }

    pub(crate) fn hard_state(&self) -> HardState {
        self.hard_state
    }

    /// The newest write that carries a hard state and is not durable yet.
    pub(crate) fn hard_state_pending(&self) -> Option<PersistTicket> {
        self.writes.iter().rev().find(|write| write.hard_state.is_some()).map(|write| write.ticket)
    }

    /// A new write, after which the log ends at `last`.
    pub(crate) fn issue(&mut self, hard_state: Option<HardState>, last: LogIndex) -> PersistTicket {
        self.newest = self.newest.next();
        self.writes.push_back(Write { ticket: self.newest, hard_state, last });
        if mutant!(AckBeforeFsync) {
            self.last = last;
        }
        self.newest
    }

    /// More entries joined the newest write, which the caller has not seen yet.
    pub(crate) fn extend(&mut self, last: LogIndex) {
        if let Some(write) = self.writes.back_mut() {
            write.last = last;
        }
    }

    /// What was written at `from` and after is no longer the log, on whatever way to the disk it is.
    pub(crate) fn truncate(&mut self, from: LogIndex) {
        let keep = from.prev();
        self.last = self.last.min(keep);
        if mutant!(StaleCompletion) {
            return;
        }
        for write in &mut self.writes {
            write.last = write.last.min(keep);
        }
    }

    /// Term and vote of every write up to `ticket` are durable, though their entries may not be. False if that cannot be.
    ///
    /// On disk this is the state of a node that voted and never received those entries: it promises nothing more.
    #[must_use]
    pub(crate) fn complete_hard_state(&mut self, ticket: PersistTicket) -> bool {
        if ticket > self.newest {
            return false;
        }
        for write in self.writes.iter_mut().take_while(|write| write.ticket <= ticket) {
            self.hard_state = write.hard_state.take().unwrap_or(self.hard_state);
        }
        true
    }

    /// Everything up to `ticket` is durable. False if that cannot be: it was never asked for, or was said before.
    #[must_use]
    pub(crate) fn complete(&mut self, ticket: PersistTicket) -> bool {
        if ticket <= self.completed || ticket > self.newest {
            return false;
        }
        self.completed = ticket;
        while let Some(write) = self.writes.pop_front() {
            if write.ticket > ticket {
                self.writes.push_front(write);
                break;
            }
            self.last = write.last;
            self.hard_state = write.hard_state.unwrap_or(self.hard_state);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    /// R13, R14: a completion that comes after truncate and append proves only what it wrote.
    #[test]
    fn a_late_completion_proves_nothing_about_what_replaced_it() {
        let mut frontier = Frontier::new(LogIndex(0), HardState::default());
        let nine = frontier.issue(None, LogIndex(9));
        frontier.truncate(LogIndex(6));
        let again = frontier.issue(None, LogIndex(9));
        assert!(frontier.complete(nine));
        assert_eq!(frontier.last(), LogIndex(5));
        assert!(frontier.complete(again));
        assert_eq!(frontier.last(), LogIndex(9));
        assert!(!frontier.complete(again));
        assert!(!frontier.complete(again.next()));
    }

    /// A vote overtakes entries that wait for room, and they count no sooner for it.
    #[test]
    fn a_hard_state_may_be_durable_before_entries_of_earlier_writes() {
        let mut frontier = Frontier::new(LogIndex(3), HardState::default());
        let hard_state = |term| HardState { term: crate::Term(term), vote: None };
        let entries = frontier.issue(None, LogIndex(5));
        let first = frontier.issue(Some(hard_state(2)), LogIndex(5));
        let both = frontier.issue(Some(hard_state(3)), LogIndex(6));
        assert!(frontier.complete_hard_state(first));
        assert_eq!((frontier.hard_state(), frontier.last()), (hard_state(2), LogIndex(3)));
        assert_eq!(frontier.hard_state_pending(), Some(both));
        assert!(frontier.complete_hard_state(both));
        assert_eq!((frontier.hard_state_pending(), frontier.last()), (None, LogIndex(3)));
        assert!(frontier.complete(entries));
        assert_eq!((frontier.hard_state(), frontier.last()), (hard_state(3), LogIndex(5)));
        assert!(frontier.complete(both) && frontier.last() == LogIndex(6));
        assert!(!frontier.complete_hard_state(both.next()));
    }

    proptest! {
        /// Against a disk that really holds what was written: the frontier never claims an entry that is not there.
        #[test]
        fn the_frontier_never_exceeds_the_disk(steps in proptest::collection::vec((0u8..3, 1u64..6), 1..80)) {
            let mut frontier = Frontier::new(LogIndex(0), HardState::default());
            let (mut log, mut disk): (Vec<u32>, Vec<u32>) = (Vec::new(), Vec::new());
            let mut queue: VecDeque<(PersistTicket, Vec<u32>)> = VecDeque::new();
            for (id, (step, n)) in (0u32..).zip(steps) {
                match step {
                    0 => {
                        log.extend(core::iter::repeat_n(id, n as usize));
                        queue.push_back((frontier.issue(None, LogIndex(log.len() as u64)), log.clone()));
                    }
                    1 if log.len() as u64 >= n => {
                        frontier.truncate(LogIndex(n));
                        log.truncate(n as usize - 1);
                        log.push(id);
                        queue.push_back((frontier.issue(None, LogIndex(log.len() as u64)), log.clone()));
                    }
                    _ => {
                        let mut newest = None;
                        for _ in 0..n {
                            newest = queue.pop_front().or(newest);
                        }
                        if let Some((ticket, image)) = newest {
                            disk = image;
                            prop_assert!(frontier.complete(ticket));
                        }
                    }
                }
                let claimed = frontier.last().0 as usize;
                prop_assert!(claimed <= disk.len() && disk[..claimed] == log[..claimed]);
            }
        }
    }
}
