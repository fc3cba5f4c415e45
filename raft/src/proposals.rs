//! Proposals: local requests whose end the log decides, in log order.
//!
//! An entry that was overwritten here may still be committed by a leader who kept it (Figure 3.7), so nothing is
//! called lost before a commit excludes it.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::{Log, LogIndex, Outcome, Position, Term, Ticket};

#[derive(Clone, Debug, Default)]
pub(crate) struct Proposals {
    /// By term first: the order in which commits decide.
    waiting: BTreeMap<(Term, LogIndex), Ticket>,
    change: Option<Change>,
}

/// A configuration change whose first entry is in a log.
#[derive(Clone, Copy, Debug)]
struct Change {
    ticket: Ticket,
    first: Position,
    /// Its first entry is joint, so it is done with the final one that follows.
    joint: bool,
}

impl Proposals {
    pub(crate) fn len(&self) -> usize {
        self.waiting.len() + usize::from(self.change.is_some())
    }

    pub(crate) fn insert(&mut self, position: Position, ticket: Ticket) {
        self.waiting.insert((position.term, position.index), ticket);
    }

    pub(crate) fn insert_change(&mut self, first: Position, joint: bool, ticket: Ticket) {
        self.change = Some(Change { ticket, first, joint });
    }

    /// What a commit up to `committed` decides, in log order. An entry of an older term than the committed one's is
    /// decided wherever it stood: every later log holds that committed entry, and terms never decrease along a log.
    pub(crate) fn decide(
        &mut self,
        log: &Log,
        committed: Position,
        final_after: impl Fn(LogIndex) -> Option<LogIndex>,
    ) -> Vec<(Ticket, Outcome)> {
        let mut decided = Vec::new();
        while let Some((&(term, index), &ticket)) = self.waiting.first_key_value() {
            if (term, index) > (committed.term, committed.index) {
                break;
            }
            self.waiting.pop_first();
            decided.push((ticket, outcome(log, committed, Position { index, term })));
        }
        if let Some((ticket, outcome)) = self.decide_change(log, committed, final_after) {
            self.change = None;
            decided.push((ticket, outcome));
        }
        decided
    }

    fn decide_change(
        &self,
        log: &Log,
        committed: Position,
        final_after: impl Fn(LogIndex) -> Option<LogIndex>,
    ) -> Option<(Ticket, Outcome)> {
        let Change { ticket, first, joint } = self.change?;
        if (first.term, first.index) > (committed.term, committed.index) {
            return None;
        }
        match outcome(log, committed, first) {
            Outcome::Committed { .. } if joint => {
                // Whoever leads leaves the joint phase by the very final configuration that was asked for.
                let index = final_after(first.index).filter(|&index| index <= committed.index)?;
                Some((ticket, Outcome::Committed { position: log.position(index)? }))
            }
            outcome => Some((ticket, outcome)),
        }
    }
}

fn outcome(log: &Log, committed: Position, position: Position) -> Outcome {
    if position.index <= committed.index && log.term_at(position.index) == Some(position.term) {
        Outcome::Committed { position }
    } else {
        Outcome::Lost
    }
}
