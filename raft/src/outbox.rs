//! Outbox: outputs in order; a message waits here until the write it promises is durable (§3.8, §10.2.1).
//!
//! It decides nothing: who waits for which write is said by those who fill it.

use alloc::collections::VecDeque;

use crate::message::Body;
use crate::{EntryShape, LogIndex, Message, NodeId, Output, Persist, PersistTicket, Term};

#[derive(Clone, Debug, Default)]
pub(crate) struct Outbox {
    queue: VecDeque<Output>,
    /// How many outputs have been polled: the number of the one at the front of the queue.
    polled: u64,
    /// The number of the newest write in the queue.
    newest_write: Option<u64>,
    /// The newest write that the caller has seen; only that far may it report.
    written: PersistTicket,
    held: VecDeque<Held>,
}

#[derive(Clone, Debug)]
struct Held {
    until: PersistTicket,
    needs: Needs,
    to: NodeId,
    message: Message,
}

/// What of the write a message waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Needs {
    /// Term and vote, which it promises.
    HardState,
    /// All of it and of all writes before it: it tells of the whole log.
    Everything,
}

impl Outbox {
    pub(crate) fn push(&mut self, output: Output) {
        if matches!(output, Output::Persist(_)) {
            self.newest_write = Some(self.polled + self.queue.len() as u64);
        }
        self.queue.push_back(output);
    }

    pub(crate) fn poll(&mut self) -> Option<Output> {
        let output = self.queue.pop_front()?;
        self.polled += 1;
        if let Output::Persist(persist) = &output {
            self.written = persist.ticket;
        }
        Some(output)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// The newest write the caller has seen.
    pub(crate) fn written(&self) -> PersistTicket {
        self.written
    }

    /// Adds an entry to the newest write if the caller has not seen that yet, and it ends just before the entry. The
    /// order of payloads is kept: entries join in the order they were proposed.
    #[must_use]
    pub(crate) fn join_newest_write(&mut self, entry: &EntryShape) -> bool {
        let Some(number) = self.newest_write else { return false };
        let Some(at) = number.checked_sub(self.polled) else { return false };
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        let Some(Output::Persist(Persist { append, .. })) = self.queue.get_mut(at) else { return false };
        if append.last().is_none_or(|last| last.position.index.next() != entry.position.index) {
            return false;
        }
        append.push(entry.clone());
        true
    }

    /// Keeps a message back until that write is durable, as far as it needs it.
    pub(crate) fn hold(&mut self, until: PersistTicket, needs: Needs, to: NodeId, message: Message) {
        self.held.push_back(Held { until, needs, to, message });
    }

    /// This node stands no more: the votes it was about to ask for would answer nothing.
    pub(crate) fn retract_vote_requests(&mut self) {
        self.held.retain(|held| !matches!(held.message.body, Body::Vote { .. }));
    }

    /// Everything up to `ticket` is durable: what waited for it may go, if it is still of this term.
    pub(crate) fn release(&mut self, ticket: PersistTicket, term: Term) {
        while self.held.front().is_some_and(|held| held.until <= ticket) {
            if let Some(Held { to, message, .. }) = self.held.pop_front()
                && message.term == term
            {
                self.push(Output::Send { to, message });
            }
        }
    }

    /// Term and vote of everything up to `ticket` are durable: what waited for these alone may go.
    pub(crate) fn release_hard_state(&mut self, ticket: PersistTicket, term: Term) {
        for held in core::mem::take(&mut self.held) {
            if held.until > ticket || held.needs != Needs::HardState {
                self.held.push_back(held);
            } else if held.message.term == term {
                self.push(Output::Send { to: held.to, message: held.message });
            }
        }
    }

    /// Keeps writes and outcomes, and says nothing more to any peer.
    pub(crate) fn silence(&mut self) {
        self.held.clear();
        self.queue.retain(|output| !matches!(output, Output::Send { .. }));
        self.newest_write = None;
    }
}

/// A shape for an entry that the core makes itself.
pub(crate) fn own_entry(index: LogIndex, term: Term, kind: crate::EntryKind) -> EntryShape {
    EntryShape { position: crate::Position { index, term }, kind, bytes: 0 }
}
