//! What two members say over a stream: whole tables, and probes whose datagram got no answer.
//!
//! ```text
//! message   version u8 = 1 | kind u8 | body
//! kind 0    nothing: the answer to what was refused
//! kind 1    table: entry*                         asks for a table, and answers one
//! kind 2    one gossip datagram (see `packet`)    asks for a datagram, and answers one
//! kind 16   accusation: identity | incarnation u16          it does not answer me, in this incarnation; you? Answer: nothing
//! entry     identity | incarnation u16 | state u8 | age u32, seconds in this state | record (0, or 1 and the record)
//! ```
//!
//! It never decides what a table changes.

use crate::codec::{get_identity, get_state, put_identity, put_state};
use crate::entry::Seen;
use crate::record::Record;
use crate::wire::{self, Malformed};
use bytes::{Buf, BufMut};
use foca::State;

const VERSION: u8 = 1;

/// One member as its table has it.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) seen: Seen,
    pub(crate) age_s: u32,
    pub(crate) record: Option<Record>,
}

#[derive(Debug)]
pub(crate) enum Message {
    Nothing,
    Table(Vec<Row>),
    Datagram(Vec<u8>),
    /// Of this member, in this incarnation, the sender gets no answer.
    Accusation(Seen),
}

/// What this node has found about a member, for who shall find the same or not.
pub(crate) fn accusation(suspected: &Seen) -> Vec<u8> {
    let mut out = vec![VERSION, 16];
    put_identity(&mut out, &suspected.identity);
    out.put_u16(suspected.incarnation);
    out
}

pub(crate) fn nothing() -> Vec<u8> {
    vec![VERSION, 0]
}

pub(crate) fn datagram(bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![VERSION, 2];
    out.put_slice(bytes);
    out
}

/// Builds a table of at most so many bytes.
#[derive(Debug)]
pub(crate) struct TableBuilder {
    bytes: Vec<u8>,
    bytes_max: usize,
}

impl TableBuilder {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { bytes: vec![VERSION, 1], bytes_max }
    }

    /// Adds a row if it fits; says whether it did.
    pub(crate) fn push(&mut self, seen: &Seen, age_s: u32, record: Option<&Record>) -> bool {
        let start = self.bytes.len();
        put_identity(&mut self.bytes, &seen.identity);
        self.bytes.put_u16(seen.incarnation);
        put_state(&mut self.bytes, seen.liveness);
        self.bytes.put_u32(age_s);
        self.bytes.put_u8(u8::from(record.is_some()));
        if let Some(record) = record {
            record.encode(&mut self.bytes);
        }
        let fits = self.bytes.len() <= self.bytes_max;
        if !fits {
            self.bytes.truncate(start);
        }
        fits
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.bytes
    }
}

pub(crate) fn decode(mut bytes: &[u8]) -> wire::Result<Message> {
    if wire::get_u8(&mut bytes)? != VERSION {
        return Err(wire::OTHER_VERSION);
    }
    match wire::get_u8(&mut bytes)? {
        0 if bytes.has_remaining() => Err(Malformed("bytes after nothing")),
        0 => Ok(Message::Nothing),
        1 => {
            let mut rows = Vec::new();
            while bytes.has_remaining() {
                rows.push(get_row(&mut bytes)?);
            }
            Ok(Message::Table(rows))
        }
        2 => Ok(Message::Datagram(bytes.to_vec())),
        16 => {
            let (identity, incarnation) = (get_identity(&mut bytes)?, wire::get_u16(&mut bytes)?);
            if bytes.has_remaining() {
                return Err(Malformed("bytes after an accusation"));
            }
            Ok(Message::Accusation(Seen { identity, incarnation, liveness: State::Suspect }))
        }
        _ => Err(Malformed("unknown kind of exchange")),
    }
}

fn get_row(buf: &mut impl Buf) -> wire::Result<Row> {
    let identity = get_identity(buf)?;
    let incarnation = wire::get_u16(buf)?;
    let liveness = get_state(buf)?;
    let age_s = wire::get_u32(buf)?;
    let record = match wire::get_u8(buf)? {
        0 => None,
        1 => Some(Record::decode(buf)?),
        _ => return Err(Malformed("neither a record nor none")),
    };
    if record.as_ref().is_some_and(|record| record.node != identity.node) {
        return Err(Malformed("a row with the record of another"));
    }
    Ok(Row { seen: Seen { identity, incarnation, liveness }, age_s, record })
}
