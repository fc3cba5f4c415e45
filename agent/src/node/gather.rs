//! Gathering: appends that come together travel in one entry, since what a log costs it costs per entry.
//!
//! It never delays an append that has the wire to itself, and never splits one.

use super::Node;
use super::in_hand::{InHand, Part};
use super::not_applied;
use crate::api::Code;
use crate::limits::{BATCH_BYTES_MAX, BATCH_RECORDS_MAX};
use crate::machine::log::Refused;
use crate::record;
use bytes::BytesMut;
use quorate_raft::wal::EntryKind;
use quorate_raft::{Mono, Now, Outcome, mutant};

/// Entries of ours on their way to a commit before what comes next is gathered: one that travels while the one before
/// it is being fsynced. More would only make more and smaller entries.
const ENTRIES_IN_FLIGHT_MAX: usize = 2;
/// So many bytes are an entry of their own, however many are on their way: enough that its costs hardly count.
const ENTRY_BYTES: usize = 256 << 10;

/// What travels in the next entry.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    parts: Vec<Part>,
    records: u32,
    /// The payload so far: one batch.
    payload: BytesMut,
}

impl Gathered {
    pub(super) fn parts(&self) -> impl Iterator<Item = &Part> {
        self.parts.iter()
    }

    /// Is there room for a batch of so many records and bytes beside what is here?
    fn fits(&self, records: u32, bytes: usize) -> bool {
        self.parts.is_empty()
            || (self.records + records) as usize <= BATCH_RECORDS_MAX && self.payload.len() + bytes <= BATCH_BYTES_MAX
    }

    /// Adds an append. Its batch has been checked.
    fn add(&mut self, in_hand: InHand) -> Result<(), record::Malformed> {
        let count = record::join(&mut self.payload, &in_hand.append.batch)?;
        self.parts.push(Part { in_hand, first: self.records, count });
        self.records += count;
        Ok(())
    }

    fn take(&mut self) -> (Vec<Part>, u32, BytesMut) {
        // As much room again at once, instead of growing into it.
        let (parts, room) = (self.parts.len(), self.payload.len());
        let payload = std::mem::replace(&mut self.payload, BytesMut::with_capacity(room.min(ENTRY_BYTES)));
        let parts = std::mem::replace(&mut self.parts, Vec::with_capacity(parts));
        (parts, std::mem::take(&mut self.records), payload)
    }

    /// Takes out what has passed its deadline; the rest is put together anew.
    pub(super) fn take_late(&mut self, now: Mono) -> Vec<Part> {
        if self.parts.iter().all(|part| part.in_hand.deadline > now) {
            return Vec::new();
        }
        let (parts, _, _) = self.take();
        let (late, rest): (Vec<Part>, Vec<Part>) = parts.into_iter().partition(|p| p.in_hand.deadline <= now);
        for part in rest {
            // It was taken once.
            let _ = self.add(part.in_hand);
        }
        late
    }
}

impl Node {
    /// Takes an append into the next entry of this leader.
    pub(super) fn gather(&mut self, now: Now, in_hand: InHand) {
        let batch = &in_hand.append.batch;
        let records = match record::count(batch) {
            Ok(records) => records,
            Err(error) => {
                return self.end_append(in_hand.origin, Err(not_applied(Code::Invalid, error.to_string(), "")));
            }
        };
        if !self.appends.gathered.fits(records, batch.len()) {
            self.propose_gathered(now);
        }
        let origin = in_hand.origin;
        if let Err(error) = self.appends.gathered.add(in_hand) {
            return self.end_append(origin, Err(not_applied(Code::Invalid, error.to_string(), "")));
        }
        if self.appends.gathered.payload.len() >= ENTRY_BYTES {
            self.propose_gathered(now);
        }
    }

    /// The end of a turn: what was gathered goes, unless enough is on its way already.
    pub(super) fn send_gathered(&mut self, now: Now) {
        if self.appends.gathered.parts.is_empty() {
            return;
        }
        if !self.is_ready_leader() {
            // It leads no more: nothing of this was proposed, so each goes its own way again.
            for part in self.appends.gathered.take().0 {
                self.try_append(now, part.in_hand);
            }
        } else if self.entries_in_flight() < ENTRIES_IN_FLIGHT_MAX {
            self.propose_gathered(now);
        }
    }

    fn propose_gathered(&mut self, now: Now) {
        let (parts, records, payload) = self.appends.gathered.take();
        self.propose_parts(now, parts, records, payload);
    }

    fn propose_parts(&mut self, now: Now, parts: Vec<Part>, records: u32, mut payload: BytesMut) {
        let numbers = match self.in_flight.number(&self.log, &mut payload) {
            Ok(numbers) => numbers,
            Err(error) => return self.not_numbered(now, parts, error),
        };
        let ticket = self.token();
        self.expect(now, ticket, parts);
        if let Some(header) = self.propose(now, ticket, EntryKind::Normal, payload.freeze(), records) {
            self.in_flight.keep(numbers);
            self.sealed(ticket, header);
            if mutant!(AckAtProposal) {
                self.append_done(now, ticket, Outcome::Committed { position: header.position() });
            }
        }
    }

    /// One of these is at fault, and only that one fails: each is tried alone.
    fn not_numbered(&mut self, now: Now, mut parts: Vec<Part>, error: Refused) {
        if let [_] = parts.as_slice()
            && let Some(part) = parts.pop()
        {
            let code = if matches!(error, Refused::TooManyStreams) { Code::Refused } else { Code::Invalid };
            return self.end_append(part.in_hand.origin, Err(not_applied(code, error.to_string(), "")));
        }
        for Part { in_hand, count, .. } in parts {
            let payload = BytesMut::from(&in_hand.append.batch[..]);
            self.propose_parts(now, vec![Part { in_hand, first: 0, count }], count, payload);
        }
    }
}
