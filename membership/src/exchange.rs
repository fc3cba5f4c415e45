//! What two members say over a stream: tables, what differs between them, tags, and probes whose datagram got no answer.
//!
//! ```text
//! message   version u8 (1 or 2, see `dialect`) | kind u8 | body
//! kind 0    nothing: the answer to what was refused, or all is the same
//! kind 1    table: row*                           asks for a table, and answers one
//! kind 2    one gossip datagram (see `packet`)    asks for a datagram, and answers one
//!                                                 from here on only in version 2
//! kind 3    hashes: salt u64 | buckets u16 (a power of two from 8 to 256) | hash u32 of each (see `digest`)
//! kind 4    differing: buckets u16 | a bit for each | row*     answers hashes: all rows of the buckets that differ
//! kind 5    rows: row*         asks for what the other has of the same members, and answers that: itself first
//! kind 6    tags wanted: want*                    at most 64
//! kind 7    tags: node u64 | epoch u64 | boot u64 | tags (see `tag_store`), any number     answers wants
//! kind 16   accusation: identity | incarnation u16          it does not answer me, in this incarnation; you? Answer: nothing
//! row       identity | incarnation u16 | state u8 | age u32, seconds in this state | record (0, or 1 and the record)
//! want      node u64 | epoch u64 | boot u64 | held u64, all up to which time is here already
//! ```
//!
//! It never decides what a table changes.

use crate::codec::{get_identity, get_state, put_identity, put_state};
use crate::dialect::Dialect;
use crate::digest::{BUCKETS_MAX, BUCKETS_MIN, Digest};
use crate::entry::{Entry, Seen};
use crate::record::{LAMPORT_LIMIT, Record};
use crate::tag_store::TagNews;
use crate::types::Life;
use crate::wire::{self, Malformed};
use bytes::{Buf, BufMut};
use foca::State;

/// The most wants of one message.
pub(crate) const WANTS_MAX: usize = 64;

/// One member as its table has it.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) seen: Seen,
    pub(crate) age_s: u32,
    pub(crate) record: Option<Record>,
}

/// Of which life of which member somebody wants the tags, and what it holds of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Want {
    pub(crate) node: u64,
    pub(crate) life: Life,
    pub(crate) held: u64,
}

#[derive(Debug)]
pub(crate) enum Message {
    Nothing,
    Table(Vec<Row>),
    Datagram(Vec<u8>),
    Hashes(Digest),
    /// Which buckets differ, one bit each, and the rows of these.
    Differing(Vec<bool>, Vec<Row>),
    Rows(Vec<Row>),
    Wanted(Vec<Want>),
    Tags(Vec<(u64, Life, TagNews)>),
    /// Of this member, in this incarnation, the sender gets no answer.
    Accusation(Seen),
}

/// What this node has found about a member, for who shall find the same or not.
pub(crate) fn accusation(suspected: &Seen) -> Vec<u8> {
    let mut out = begin(Dialect::Second, 16);
    put_identity(&mut out, &suspected.identity);
    out.put_u16(suspected.incarnation);
    out
}

fn begin(dialect: Dialect, kind: u8) -> Vec<u8> {
    vec![dialect.version(), kind]
}

pub(crate) fn nothing(dialect: Dialect) -> Vec<u8> {
    begin(dialect, 0)
}

pub(crate) fn datagram(bytes: &[u8], dialect: Dialect) -> Vec<u8> {
    let mut out = begin(dialect, 2);
    out.put_slice(bytes);
    out
}

pub(crate) fn hashes(digest: &Digest) -> Vec<u8> {
    let mut out = begin(Dialect::Second, 3);
    out.put_u64(digest.salt);
    out.put_u16(u16::try_from(digest.hashes.len()).expect("at most 256 buckets"));
    digest.hashes.iter().for_each(|hash| out.put_u32(*hash));
    out
}

pub(crate) fn wanted(wants: &[Want]) -> Vec<u8> {
    assert!(wants.len() <= WANTS_MAX, "at most 64 wants");
    let mut out = begin(Dialect::Second, 6);
    for want in wants {
        out.put_u64(want.node);
        put_life(&mut out, want.life);
        out.put_u64(want.held);
    }
    out
}

/// Answers wants, up to a number of bytes, but at least one.
#[derive(Debug)]
pub(crate) struct TagsBuilder(Vec<u8>);

impl TagsBuilder {
    pub(crate) fn new() -> Self {
        Self(begin(Dialect::Second, 7))
    }

    pub(crate) fn push(&mut self, node: u64, life: Life, news: &TagNews) {
        self.0.put_u64(node);
        put_life(&mut self.0, life);
        news.encode(&mut self.0);
    }

    pub(crate) fn bytes(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.0
    }
}

fn put_life(out: &mut Vec<u8>, life: Life) {
    out.put_u64(life.epoch);
    out.put_u64(life.boot);
}

fn get_life(buf: &mut impl Buf) -> wire::Result<Life> {
    Ok(Life { epoch: wire::get_u64(buf)?, boot: wire::get_u64(buf)? })
}

/// Builds rows of at most so many bytes.
#[derive(Debug)]
pub(crate) struct RowsBuilder {
    bytes: Vec<u8>,
    bytes_max: usize,
    dialect: Dialect,
}

impl RowsBuilder {
    /// A whole table.
    pub(crate) fn table(bytes_max: usize, dialect: Dialect) -> Self {
        Self { bytes: begin(dialect, 1), bytes_max, dialect }
    }

    /// All rows of the buckets that differ.
    pub(crate) fn differing(bytes_max: usize, differs: &[bool]) -> Self {
        let mut bytes = begin(Dialect::Second, 4);
        bytes.put_u16(u16::try_from(differs.len()).expect("at most 256 buckets"));
        for eight in differs.chunks(8) {
            bytes.put_u8(eight.iter().rev().fold(0, |byte, bit| byte << 1 | u8::from(*bit)));
        }
        Self { bytes, bytes_max, dialect: Dialect::Second }
    }

    /// Some rows.
    pub(crate) fn rows(bytes_max: usize) -> Self {
        Self { bytes: begin(Dialect::Second, 5), bytes_max, dialect: Dialect::Second }
    }

    /// Adds a row if it fits; says whether it did.
    pub(crate) fn push(&mut self, seen: &Seen, age_s: u32, entry: &Entry) -> bool {
        let record = entry.record.as_deref();
        let start = self.bytes.len();
        put_identity(&mut self.bytes, &seen.identity);
        self.bytes.put_u16(seen.incarnation);
        put_state(&mut self.bytes, seen.liveness);
        self.bytes.put_u32(age_s);
        self.bytes.put_u8(u8::from(record.is_some()));
        match (record, self.dialect) {
            (Some(record), Dialect::First) => record.encode_first(entry.tags().view(), &mut self.bytes),
            (Some(record), Dialect::Second) => record.encode_told(&entry.told_tags(record), &mut self.bytes),
            (None, _) => {}
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

/// Reads a message, and says in which version it was.
pub(crate) fn decode(mut bytes: &[u8]) -> wire::Result<(Dialect, Message)> {
    let dialect = Dialect::of(wire::get_u8(&mut bytes)?)?;
    let message = match (wire::get_u8(&mut bytes)?, dialect) {
        (0, _) if bytes.has_remaining() => return Err(Malformed("bytes after nothing")),
        (0, _) => Message::Nothing,
        (1, _) => Message::Table(get_rows(&mut bytes, dialect)?),
        (2, _) => Message::Datagram(bytes.to_vec()),
        (3, Dialect::Second) => {
            let salt = wire::get_u64(&mut bytes)?;
            let count = get_buckets(&mut bytes)?;
            let hashes = (0..count).map(|_| wire::get_u32(&mut bytes)).collect::<wire::Result<_>>()?;
            if bytes.has_remaining() {
                return Err(Malformed("bytes after the hashes"));
            }
            Message::Hashes(Digest { salt, hashes })
        }
        (4, Dialect::Second) => {
            let mut differs = Vec::with_capacity(BUCKETS_MAX);
            for _ in 0..get_buckets(&mut bytes)? / 8 {
                let byte = wire::get_u8(&mut bytes)?;
                differs.extend((0..8).map(|bit| byte >> bit & 1 == 1));
            }
            Message::Differing(differs, get_rows(&mut bytes, dialect)?)
        }
        (5, Dialect::Second) => Message::Rows(get_rows(&mut bytes, dialect)?),
        (6, Dialect::Second) => {
            let mut wants = Vec::new();
            while bytes.has_remaining() {
                if wants.len() == WANTS_MAX {
                    return Err(Malformed("more wants than one message holds"));
                }
                let (node, life) = (wire::get_node(&mut bytes)?, get_life(&mut bytes)?);
                wants.push(Want { node, life, held: wire::get_u64(&mut bytes)? });
            }
            Message::Wanted(wants)
        }
        (7, Dialect::Second) => {
            let mut tags = Vec::new();
            while bytes.has_remaining() {
                let (node, life) = (wire::get_node(&mut bytes)?, get_life(&mut bytes)?);
                tags.push((node, life, TagNews::decode(&mut bytes, LAMPORT_LIMIT - 1)?));
            }
            Message::Tags(tags)
        }
        (16, Dialect::Second) => {
            let (identity, incarnation) = (get_identity(&mut bytes)?, wire::get_u16(&mut bytes)?);
            if bytes.has_remaining() {
                return Err(Malformed("bytes after an accusation"));
            }
            Message::Accusation(Seen { identity, incarnation, liveness: State::Suspect })
        }
        _ => return Err(Malformed("unknown kind of exchange")),
    };
    Ok((dialect, message))
}

fn get_buckets(buf: &mut impl Buf) -> wire::Result<usize> {
    let count = usize::from(wire::get_u16(buf)?);
    let legal = (BUCKETS_MIN..=BUCKETS_MAX).contains(&count) && count.is_power_of_two();
    if legal { Ok(count) } else { Err(Malformed("illegal number of buckets")) }
}

fn get_rows(buf: &mut impl Buf, dialect: Dialect) -> wire::Result<Vec<Row>> {
    let mut rows = Vec::new();
    while buf.has_remaining() {
        rows.push(get_row(buf, dialect)?);
    }
    Ok(rows)
}

fn get_row(buf: &mut impl Buf, dialect: Dialect) -> wire::Result<Row> {
    let identity = get_identity(buf)?;
    let incarnation = wire::get_u16(buf)?;
    let liveness = get_state(buf)?;
    let age_s = wire::get_u32(buf)?;
    let record = match wire::get_u8(buf)? {
        0 => None,
        1 => Some(Record::decode(buf, dialect)?),
        _ => return Err(Malformed("neither a record nor none")),
    };
    if record.as_ref().is_some_and(|record| record.node != identity.node) {
        return Err(Malformed("a row with the record of another"));
    }
    Ok(Row { seen: Seen { identity, incarnation, liveness }, age_s, record })
}
