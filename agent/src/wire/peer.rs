//! How messages between agents are laid out in frames of the peer and bulk classes.
//!
//! ```text
//! 0  u8  kind
//! 1 RAFT       u64 seed of the log id, i64 wall clock in microseconds, u32 length and MessagePack of the core's
//!              message, then the entries that it announces, as they stand on disk
//! 2 FORWARD    u64 id, u32 milliseconds, u8 length and name of the client, then the batch
//! 3 ASK        MessagePack (id, milliseconds, question)
//! 4 FORWARDED  u64 id, then u8 0 and 41 bytes as in `rpc` APPENDED, or u8 1 and a MessagePack failure
//! 5 ANSWERED   MessagePack (id, result)
//! 6 VIEW       MessagePack
//! 7 JOINED     16 bytes of the log id
//! 8 MISSED     u64 seed of the log id, then at most 64 node ids, u64 each
//! 16 REPAIR    u64 id, u64 seed of the log id, u64 first and u64 last index
//! 17 SPARE     u64 id, then u8 0 and entries as they stand on disk, or u8 1 (damaged), 2 (absent) or 3 (busy)
//! 32 FOUNDING   a report, as laid out in `pledge`; only to agents whose Hello says that they expect others
//! 18 CHAIN     u64 seed of the log id, u64 index, u64 term, u64 chain hash of the entry there
//! ```
//! Integers are little-endian. Entries are decoded and every checksum checked before the node hears of them.

use super::fields::Fields;
use crate::api::{Append, Appended, Failure};
use crate::codec::{Malformed, decode, encode};
use crate::node::{LeaderAnswer, LeaderAsk, MISSED_MAX, Mark, PeerMessage, RaftMessage, Spare};
use crate::pledge::Report;
use bytes::{BufMut, Bytes, BytesMut};
use quorate_raft::wal::Entry;
use quorate_raft::{LogIndex, Term, Wall};

/// Entries that one message may carry.
const ENTRIES_MAX: usize = 65_536;

const RAFT: u8 = 1;
const FORWARD: u8 = 2;
const ASK: u8 = 3;
const FORWARDED: u8 = 4;
const ANSWERED: u8 = 5;
const VIEW: u8 = 6;
const JOINED: u8 = 7;
const MISSED: u8 = 8;
const REPAIR: u8 = 16;
const SPARE: u8 = 17;
const CHAIN: u8 = 18;
const FOUNDING: u8 = 32;

/// The frame in parts, so that entries and batches are not copied.
#[must_use]
pub fn encode_peer(message: &PeerMessage) -> Vec<Bytes> {
    match message {
        PeerMessage::Raft(raft) => raft_parts(raft),
        PeerMessage::Forward { id, append } => {
            let name = append.on_behalf_of.as_bytes();
            let name = &name[..name.len().min(255)];
            let mut out = BytesMut::with_capacity(14 + name.len());
            out.put_u8(FORWARD);
            out.put_u64_le(*id);
            out.put_u32_le(append.timeout_ms);
            out.put_u8(name.len() as u8);
            out.put_slice(name);
            vec![out.freeze(), append.batch.clone()]
        }
        PeerMessage::Forwarded { id, result } => {
            let mut out = BytesMut::with_capacity(64);
            out.put_u8(FORWARDED);
            out.put_u64_le(*id);
            match result {
                Ok(appended) => {
                    out.put_u8(0);
                    appended.put(&mut out);
                }
                Err(failure) => {
                    out.put_u8(1);
                    out.put_slice(&encode(failure));
                }
            }
            vec![out.freeze()]
        }
        PeerMessage::Ask { id, timeout_ms, ask } => tagged(ASK, &(id, timeout_ms, ask)),
        PeerMessage::Answered { id, result } => tagged(ANSWERED, &(id, result)),
        PeerMessage::View(view) => tagged(VIEW, view),
        PeerMessage::Joined { log_id } => vec![[&[JOINED], log_id.as_slice()].concat().into()],
        PeerMessage::RepairRequest { id, seed, first, last } => {
            let mut out = BytesMut::with_capacity(33);
            out.put_u8(REPAIR);
            for field in [*id, *seed, first.0, last.0] {
                out.put_u64_le(field);
            }
            vec![out.freeze()]
        }
        PeerMessage::Missed { seed, nodes } => {
            let mut out = BytesMut::with_capacity(9 + 8 * nodes.len());
            out.put_u8(MISSED);
            out.put_u64_le(*seed);
            nodes.iter().take(MISSED_MAX).for_each(|node| out.put_u64_le(*node));
            vec![out.freeze()]
        }
        PeerMessage::Chain { seed, mark } => {
            let mut out = BytesMut::with_capacity(33);
            out.put_u8(CHAIN);
            for field in [*seed, mark.index.0, mark.term.0, mark.chain] {
                out.put_u64_le(field);
            }
            vec![out.freeze()]
        }
        PeerMessage::RepairReply { id, has } => spare_parts(*id, has),
        PeerMessage::Founding(report) => vec![[&[FOUNDING], &report.encode()[..]].concat().into()],
    }
}

fn spare_parts(id: u64, has: &Spare) -> Vec<Bytes> {
    let (word, entries): (u8, &[Entry]) = match has {
        Spare::Entries(entries) => (0, entries),
        Spare::Damaged => (1, &[]),
        Spare::Absent => (2, &[]),
        Spare::Busy => (3, &[]),
    };
    let mut out = BytesMut::with_capacity(10);
    out.put_u8(SPARE);
    out.put_u64_le(id);
    out.put_u8(word);
    let mut parts = vec![out.freeze()];
    parts.extend(entries.iter().map(|e| e.bytes().clone()));
    parts
}

fn tagged<T: serde::Serialize>(kind: u8, body: &T) -> Vec<Bytes> {
    let body = encode(body);
    let mut out = BytesMut::with_capacity(1 + body.len());
    out.put_u8(kind);
    out.put_slice(&body);
    vec![out.freeze()]
}

fn raft_parts(raft: &RaftMessage) -> Vec<Bytes> {
    let message = encode(&raft.message);
    let mut out = BytesMut::with_capacity(21 + message.len());
    out.put_u8(RAFT);
    out.put_u64_le(raft.seed);
    out.put_i64_le(raft.wall.0);
    out.put_u32_le(message.len() as u32);
    out.put_slice(&message);
    let mut parts = Vec::with_capacity(1 + raft.entries.len());
    parts.push(out.freeze());
    parts.extend(raft.entries.iter().map(|e| e.bytes().clone()));
    parts
}

/// A frame back to a message. The frame comes from another agent: proven who, never trusted what.
pub fn decode_peer(frame: Bytes) -> Result<PeerMessage, Malformed> {
    let mut fields = Fields::new(frame, "peer frame");
    match fields.u8()? {
        RAFT => {
            let seed = fields.u64()?;
            let wall = Wall(fields.i64()?);
            let len = fields.u32()? as usize;
            let message = decode(&fields.bytes(len)?, "raft message")?;
            let entries = Entry::decode_many(fields.rest(), ENTRIES_MAX).map_err(|_| Malformed("entries"))?;
            Ok(PeerMessage::Raft(Box::new(RaftMessage { seed, wall, message, entries })))
        }
        FORWARD => {
            let id = fields.u64()?;
            let timeout_ms = fields.u32()?;
            let len = fields.u8()?.into();
            let on_behalf_of = fields.text(len)?.into();
            let append = Append { timeout_ms, hops: 1, on_behalf_of, batch: fields.rest() };
            Ok(PeerMessage::Forward { id, append })
        }
        FORWARDED => {
            let id = fields.u64()?;
            let result = match fields.u8()? {
                0 => {
                    let appended = Appended::take(&mut fields)?;
                    fields.end()?;
                    Ok(appended)
                }
                1 => Err(decode::<Failure>(&fields.rest(), "failure")?),
                _ => return Err(Malformed("forward result")),
            };
            Ok(PeerMessage::Forwarded { id, result })
        }
        ASK => {
            let (id, timeout_ms, ask): (u64, u32, LeaderAsk) = decode(&fields.rest(), "question")?;
            Ok(PeerMessage::Ask { id, timeout_ms, ask })
        }
        ANSWERED => {
            let (id, result): (u64, Result<LeaderAnswer, Failure>) = decode(&fields.rest(), "answer")?;
            Ok(PeerMessage::Answered { id, result })
        }
        VIEW => Ok(PeerMessage::View(decode(&fields.rest(), "view")?)),
        JOINED => match <[u8; 16]>::try_from(&fields.rest()[..]) {
            Ok(log_id) => Ok(PeerMessage::Joined { log_id }),
            Err(_) => Err(Malformed("joined")),
        },
        REPAIR => {
            let (id, seed) = (fields.u64()?, fields.u64()?);
            let (first, last) = (LogIndex(fields.u64()?), LogIndex(fields.u64()?));
            fields.end()?;
            if first == LogIndex::ZERO || last < first {
                return Err(Malformed("repair"));
            }
            Ok(PeerMessage::RepairRequest { id, seed, first, last })
        }
        SPARE => spare(fields),
        MISSED => {
            let seed = fields.u64()?;
            let nodes = fields.rest();
            if !nodes.len().is_multiple_of(8) || nodes.len() > 8 * MISSED_MAX {
                return Err(Malformed("missed"));
            }
            let nodes = nodes.as_chunks::<8>().0.iter().map(|node| u64::from_le_bytes(*node)).collect();
            Ok(PeerMessage::Missed { seed, nodes })
        }
        CHAIN => {
            let seed = fields.u64()?;
            let mark = Mark { index: LogIndex(fields.u64()?), term: Term(fields.u64()?), chain: fields.u64()? };
            fields.end()?;
            Ok(PeerMessage::Chain { seed, mark })
        }
        FOUNDING => Ok(PeerMessage::Founding(Box::new(Report::decode(&fields.rest())?))),
        _ => Err(Malformed("peer frame kind")),
    }
}

fn spare(mut fields: Fields) -> Result<PeerMessage, Malformed> {
    let id = fields.u64()?;
    let has = match fields.u8()? {
        0 => {
            let entries = Entry::decode_many(fields.rest(), ENTRIES_MAX).map_err(|_| Malformed("entries"))?;
            if entries.is_empty() {
                return Err(Malformed("no entries"));
            }
            return Ok(PeerMessage::RepairReply { id, has: Spare::Entries(entries) });
        }
        1 => Spare::Damaged,
        2 => Spare::Absent,
        3 => Spare::Busy,
        _ => return Err(Malformed("spare")),
    };
    fields.end()?;
    Ok(PeerMessage::RepairReply { id, has })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Code, Effect};
    use crate::node::View;
    use proptest::prelude::*;
    use quorate_raft::wal::{EntryFields, EntryKind};

    fn round_trip(message: &PeerMessage) {
        let frame = Bytes::from(encode_peer(message).concat());
        assert_eq!(decode_peer(frame).as_ref(), Ok(message));
    }

    #[test]
    fn messages_read_back() {
        let append = Append { timeout_ms: 7, hops: 1, on_behalf_of: "ci".into(), batch: Bytes::from_static(b"batch") };
        round_trip(&PeerMessage::Forward { id: 1, append });
        let appended = Appended { first: 1, last: 2, term: 3, time: -4, lamport: 5, deduped: false };
        round_trip(&PeerMessage::Forwarded { id: 2, result: Ok(appended) });
        let failure = Failure { code: Code::Busy, effect: Effect::NotApplied, what: "w".into(), hint: "h".into() };
        round_trip(&PeerMessage::Forwarded { id: 2, result: Err(failure) });
        round_trip(&PeerMessage::Ask { id: 3, timeout_ms: 9, ask: LeaderAsk::Remove { node: 4 } });
        round_trip(&PeerMessage::Answered { id: 3, result: Ok(LeaderAnswer::Readable { next: 8 }) });
        round_trip(&PeerMessage::Joined { log_id: [9; 16] });
        assert!(
            decode_peer(Bytes::from_static(&[JOINED; 16])).is_err()
                && decode_peer(Bytes::from_static(&[JOINED; 18])).is_err()
        );
        let (first, last) = (LogIndex(4), LogIndex(9));
        round_trip(&PeerMessage::RepairRequest { id: 4, seed: 5, first, last });
        for has in [Spare::Damaged, Spare::Absent, Spare::Busy, Spare::Entries(vec![entry(1), entry(2)])] {
            round_trip(&PeerMessage::RepairReply { id: 6, has });
        }
        for nodes in [vec![], vec![1, u64::MAX], vec![3; MISSED_MAX]] {
            round_trip(&PeerMessage::Missed { seed: 5, nodes });
        }
        assert!(decode_peer(Bytes::from(vec![MISSED; 9 + 8 * (MISSED_MAX + 1)])).is_err());
        assert!(decode_peer(Bytes::from(vec![MISSED; 12])).is_err());
        let mark = Mark { index: first, term: Term(2), chain: 77 };
        round_trip(&PeerMessage::Chain { seed: 5, mark });
        let backwards = PeerMessage::RepairRequest { id: 4, seed: 5, first: last, last: first };
        let nothing = PeerMessage::RepairReply { id: 6, has: Spare::Entries(Vec::new()) };
        for bad in [backwards, nothing] {
            assert!(decode_peer(Bytes::from(encode_peer(&bad).concat())).is_err(), "{bad:?}");
        }
        round_trip(&PeerMessage::View(View { voters: vec![1, 2], waiting: Some("why".into()), ..View::default() }));
    }

    fn entry(index: u64) -> Entry {
        let fields = EntryFields {
            seed: 5,
            index: LogIndex(index),
            term: Term(1),
            kind: EntryKind::Normal,
            base_offset: index,
            count: 1,
            time: Wall(7),
            lamport: 8,
            shard: 0,
            session: 0,
            seq: 0,
        };
        Entry::seal(fields, 9, b"payload")
    }

    proptest! {
        #[test]
        fn junk_after_a_kind_of_repair_never_panics(kind in 16u8..19, bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            let mut frame = vec![kind];
            frame.extend(bytes);
            let _ = decode_peer(frame.into());
        }

        #[test]
        fn junk_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..128)) {
            let _ = decode_peer(bytes.into());
        }
    }
}
