//! Reads: linearizable read barriers without log writes, many to a heartbeat round (§6.4).
//!
//! They never depend on a clock: no leases.

use alloc::vec::Vec;
use core::time::Duration;

use crate::{BootId, LogIndex, Mono, NodeId, Ticket};

/// The leader's side: rounds of heartbeats, each confirming every read that waited when it began.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rounds {
    /// The latest round begun in this term. Never reused: a late answer to an earlier round proves nothing for a
    /// later one.
    pub(crate) round: u64,
    pub(crate) waiting: Vec<Reader>,
    pub(crate) flight: Option<Flight>,
}

#[derive(Clone, Debug)]
pub(crate) struct Flight {
    /// The commit index when the round began: at least what was committed when each of its reads came.
    pub(crate) index: LogIndex,
    pub(crate) readers: Vec<Reader>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    Local(Ticket),
    Remote { peer: NodeId, boot: BootId, id: u64 },
}

impl Rounds {
    pub(crate) fn len(&self) -> usize {
        self.waiting.len() + self.flight.as_ref().map_or(0, |flight| flight.readers.len())
    }

    /// This node leads no more: its own reads, in order. Those of peers end there.
    pub(crate) fn into_local(self) -> Vec<Ticket> {
        let flight = self.flight.map_or_else(Vec::new, |flight| flight.readers);
        let all = flight.into_iter().chain(self.waiting);
        all.filter_map(|reader| if let Reader::Local(ticket) = reader { Some(ticket) } else { None }).collect()
    }

    /// A peer asks; asking again is harmless, and a later request of the same life stands for the earlier ones.
    pub(crate) fn insert_remote(&mut self, peer: NodeId, boot: BootId, id: u64) {
        let reader = Reader::Remote { peer, boot, id };
        if self.flight.as_ref().is_some_and(|flight| flight.readers.contains(&reader)) {
            return;
        }
        self.waiting.retain(|waiting| !matches!(waiting, Reader::Remote { peer: p, .. } if *p == peer));
        self.waiting.push(reader);
    }
}

/// The other side: a member that does not lead asks the leader, one request at a time for all reads that wait.
#[derive(Clone, Debug, Default)]
pub(crate) struct Forwards {
    next_id: u64,
    waiting: Vec<Ticket>,
    flight: Option<Request>,
}

#[derive(Clone, Debug)]
struct Request {
    id: u64,
    sent: Mono,
    tickets: Vec<Ticket>,
}

impl Forwards {
    pub(crate) fn len(&self) -> usize {
        self.waiting.len() + self.flight.as_ref().map_or(0, |flight| flight.tickets.len())
    }

    pub(crate) fn insert(&mut self, ticket: Ticket) {
        self.waiting.push(ticket);
    }

    /// The request to send now: a new one if none is on its way, the same once more if it has been out for `patience`
    /// (it or its answer was lost; asking again is harmless).
    pub(crate) fn next_request(&mut self, now: Mono, patience: Duration) -> Option<u64> {
        if let Some(flight) = &mut self.flight {
            let overdue = now.since(flight.sent) >= patience;
            if overdue {
                flight.sent = now;
            }
            return overdue.then_some(flight.id);
        }
        if self.waiting.is_empty() {
            return None;
        }
        self.next_id += 1;
        self.flight = Some(Request { id: self.next_id, sent: now, tickets: core::mem::take(&mut self.waiting) });
        Some(self.next_id)
    }

    /// The reads that an answer to `id` ends.
    pub(crate) fn answered(&mut self, id: u64) -> Vec<Ticket> {
        match self.flight.take() {
            Some(flight) if flight.id == id => flight.tickets,
            other => {
                self.flight = other;
                Vec::new()
            }
        }
    }

    /// All reads that wait, in order; none is left.
    pub(crate) fn take(&mut self) -> Vec<Ticket> {
        let mut all = self.flight.take().map_or_else(Vec::new, |flight| flight.tickets);
        all.append(&mut self.waiting);
        all
    }
}
