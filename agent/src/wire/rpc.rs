//! What clients and agents say to each other on the `quorate-rpc/1` class.
//!
//! A connection carries bidirectional streams of frames. A *request stream* is long-lived and pipelined: requests go
//! one way, answers come back in any order, matched by id. A *tail* has a stream of its own, so that a slow reader
//! holds up nobody.
//!
//! ```text
//! frame     0  u8   kind
//!           1  u64  request id, chosen by the asker
//!           9  body
//! 1  APPEND    u32 milliseconds the asker will wait, u8 hops (0 from a client, 1 forwarded by an agent),
//!              u8 length and name of the client an agent vouches for (empty from a client), then the batch
//! 2  ASK       MessagePack `Ask`
//! 3  TAIL      MessagePack `TailFrom`; first and only frame from the asker on its stream
//! 65 APPENDED  u64 first offset, u64 last offset, u64 term, i64 time in microseconds, u64 lamport, u8 deduplicated
//! 66 ANSWER    MessagePack `Answer`
//! 67 FAILED    MessagePack `Failure`
//! 68 ENTRIES   u64 committed end, then whole entries as they stand on disk; the reader checks their CRCs
//! 69 END       u64 next offset: the tail has reached where it was to stop
//! ```
//! Integers are little-endian.

use super::{Malformed, decode, encode};
use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// An append as it travels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Append {
    /// How long the asker will wait, in milliseconds.
    pub timeout_ms: u32,
    /// 0 from a client, 1 from an agent that forwards; an agent never forwards a forwarded one.
    pub hops: u8,
    /// The client that an agent vouches for; empty from a client itself.
    pub on_behalf_of: String,
    /// The batch, as [`crate::record`] lays it out.
    pub batch: Bytes,
}

/// What can be asked. New questions are added at the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ask {
    /// The members as this agent sees them.
    Members,
    /// A picture of agent, Raft and log.
    Status,
    /// Leave for good: a committed removal, then gossip, then the agent stops. `on_behalf_of` as in an append.
    Leave,
    /// Agent to leader: remove this node (hex id) from the cluster, because it asks to leave.
    Remove {
        /// The node id.
        node: u64,
    },
    /// A linearizable read barrier: answered with the next offset once everything before it may be read here.
    Barrier,
    /// Wait until this agent's readable end is at least this offset.
    Await {
        /// The offset after which to answer.
        next: u64,
    },
}

/// Where a tail starts and stops.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TailFrom {
    /// Where to start.
    pub start: Start,
    /// Stop before this offset.
    pub until: Option<u64>,
    /// Go on when the committed end is reached.
    pub follow: bool,
    /// Only entries that hold a record of this stream (the reader filters records).
    pub stream: Option<String>,
    /// Only entries that hold a record with this key (the reader filters records).
    pub key: Option<String>,
    /// How fresh the committed end must be.
    pub read: ReadLevel,
    /// 0 from a client, 1 when an agent without a log fetches for its client.
    pub hops: u8,
}

/// A place in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Start {
    /// The first readable record.
    #[default]
    First,
    /// The committed end: only what comes later.
    End,
    /// This offset.
    Offset(u64),
    /// This many records after the first readable one.
    AfterFirst(u64),
    /// This many records before the committed end.
    BeforeEnd(u64),
    /// The first record at or after this wall time, microseconds since the epoch.
    Time(i64),
}

/// How fresh a read is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReadLevel {
    /// What this agent knows to be committed.
    #[default]
    Committed,
    /// Everything acknowledged before the read began, anywhere.
    Linear,
    /// At least everything up to and with this offset.
    After(u64),
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Answer {
    /// To [`Ask::Members`].
    Members(Vec<Member>),
    /// To [`Ask::Status`].
    Status(Box<Status>),
    /// To [`Ask::Leave`] and [`Ask::Remove`]: it is committed.
    Removed,
    /// To [`Ask::Barrier`] and [`Ask::Await`]: the next offset to be written that this agent may read up to.
    Readable {
        /// The first offset that is not readable yet.
        next: u64,
    },
}

/// One member as an agent sees it. Names and tags come from remote machines: escape before showing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Its node id.
    pub id: u64,
    /// The address it advertises.
    pub addr: String,
    /// `alive`, `suspect`, `leaving`, `left` or `failed`.
    pub state: String,
    /// `leader`, `voter`, `learner` or `none`.
    pub raft: String,
    /// Entries it is behind the leader; only the leader knows, others answer `None`.
    pub lag: Option<u64>,
    /// Round trip from the answering agent, in milliseconds.
    pub rtt_ms: Option<f64>,
    /// Its program version.
    pub version: String,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
}

/// A picture of one agent and what it knows of the cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Cluster id, hex.
    pub cluster: String,
    /// Log id, hex; `None` before this agent belongs to a log.
    pub log_id: Option<String>,
    /// The answering agent.
    pub name: String,
    /// Its node id.
    pub node: u64,
    /// Its program version.
    pub version: String,
    /// The leader's name, if known.
    pub leader: Option<String>,
    /// The term.
    pub term: u64,
    /// `leader`, `voter`, `learner` or `none`.
    pub raft: String,
    /// Nothing in `problems`.
    pub healthy: bool,
    /// Names of the voters.
    pub voters: Vec<String>,
    /// Names of the learners.
    pub learners: Vec<String>,
    /// How many voters may fail without the cluster stopping.
    pub tolerates: u32,
    /// First readable offset.
    pub first: u64,
    /// Next offset: one past the last committed record.
    pub next: u64,
    /// Commit index of Raft.
    pub committed_index: u64,
    /// Applied index.
    pub applied_index: u64,
    /// Bytes of the log on this agent's disk.
    pub bytes: u64,
    /// What an operator should know, one sentence each.
    pub problems: Vec<String>,
}

/// Why a request failed, in one word that scripts may compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Code {
    /// The leader is unknown or has no quorum.
    NoQuorum,
    /// It was sent to the log and nobody knows whether it will stand there.
    Unknown,
    /// The certificate's role does not allow it.
    NotAuthorised,
    /// A record, batch or name breaks a limit.
    Invalid,
    /// Too much waits already; retry later.
    Busy,
    /// The offset is trimmed, or the member is not known.
    NotFound,
    /// It would endanger the cluster.
    Refused,
    /// Something else changed meanwhile.
    Conflict,
    /// This agent cannot serve it now (no log yet, stopping, halted).
    Unavailable,
    /// The disk of this agent holds damaged data.
    Corrupt,
}

/// Whether the failed request changed anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Effect {
    /// Surely not: safe to retry.
    NotApplied,
    /// Nobody can say.
    Unknown,
    /// The request never changes anything.
    None,
}

/// A request that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{what}")]
pub struct Failure {
    /// For programs.
    pub code: Code,
    /// Was anything changed.
    pub effect: Effect,
    /// What, and why, in one sentence.
    pub what: String,
    /// What to do next; may be empty.
    pub hint: String,
}

/// The end of a successful append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Offset of the first record of the batch.
    pub first: u64,
    /// Offset of the last one.
    pub last: u64,
    /// Term of the entry.
    pub term: u64,
    /// The log's time of the entry, microseconds since the epoch.
    pub time: i64,
    /// The entry's Lamport time.
    pub lamport: u64,
    /// It was a retry of one that stands already.
    pub deduped: bool,
}

/// A frame from the side that asks.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// Kind 1.
    Append(Append),
    /// Kind 2.
    Ask(Ask),
    /// Kind 3.
    Tail(TailFrom),
}

/// A frame from the side that answers.
#[derive(Clone, Debug, PartialEq)]
pub enum Response {
    /// Kind 65.
    Appended(Appended),
    /// Kind 66.
    Answer(Answer),
    /// Kind 67.
    Failed(Failure),
    /// Kind 68: whole entries, concatenated.
    Entries {
        /// The committed end when these were read.
        committed: u64,
        /// Entries as they stand on disk.
        entries: Bytes,
    },
    /// Kind 69.
    End {
        /// Where to continue.
        next: u64,
    },
}

const APPEND: u8 = 1;
const ASK: u8 = 2;
const TAIL: u8 = 3;
const APPENDED: u8 = 65;
const ANSWER: u8 = 66;
const FAILED: u8 = 67;
const ENTRIES: u8 = 68;
const END: u8 = 69;

fn head(kind: u8, id: u64, capacity: usize) -> BytesMut {
    let mut out = BytesMut::with_capacity(9 + capacity);
    out.put_u8(kind);
    out.put_u64_le(id);
    out
}

fn with_body(kind: u8, id: u64, body: &[u8]) -> Vec<Bytes> {
    let mut out = head(kind, id, body.len());
    out.put_slice(body);
    vec![out.freeze()]
}

/// Takes fixed-size fields off the front of a frame.
struct Fields {
    rest: Bytes,
    what: &'static str,
}

impl Fields {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let chunk = *self.rest.first_chunk::<N>().ok_or(Malformed(self.what))?;
        self.rest = self.rest.slice(N..);
        Ok(chunk)
    }
    fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(self.take::<1>()?[0])
    }
    fn u64(&mut self) -> Result<u64, Malformed> {
        self.take().map(u64::from_le_bytes)
    }
}

impl Request {
    /// The frame in parts, so that a batch is not copied.
    #[must_use]
    pub fn encode(&self, id: u64) -> Vec<Bytes> {
        match self {
            Self::Append(append) => {
                let name = append.on_behalf_of.as_bytes();
                let name = &name[..name.len().min(255)];
                let mut out = head(APPEND, id, 6 + name.len());
                out.put_u32_le(append.timeout_ms);
                out.put_u8(append.hops);
                out.put_u8(name.len() as u8);
                out.put_slice(name);
                vec![out.freeze(), append.batch.clone()]
            }
            Self::Ask(ask) => with_body(ASK, id, &encode(ask)),
            Self::Tail(tail) => with_body(TAIL, id, &encode(tail)),
        }
    }

    /// A frame back to a request; the batch shares the frame's buffer.
    pub fn decode(frame: Bytes) -> Result<(u64, Self), Malformed> {
        let mut fields = Fields { rest: frame, what: "request" };
        let kind = fields.u8()?;
        let id = fields.u64()?;
        let request = match kind {
            APPEND => {
                let timeout_ms = u32::from_le_bytes(fields.take()?);
                let hops = fields.u8()?;
                let len = fields.u8()? as usize;
                let name = fields.rest.get(..len).ok_or(Malformed("append"))?;
                let on_behalf_of = std::str::from_utf8(name).map_err(|_| Malformed("append"))?.to_owned();
                Self::Append(Append { timeout_ms, hops, on_behalf_of, batch: fields.rest.slice(len..) })
            }
            ASK => Self::Ask(decode(&fields.rest, "question")?),
            TAIL => Self::Tail(decode(&fields.rest, "tail request")?),
            _ => return Err(Malformed("request kind")),
        };
        Ok((id, request))
    }
}

impl Response {
    /// The frame in parts, so that entries are not copied.
    #[must_use]
    pub fn encode(&self, id: u64) -> Vec<Bytes> {
        match self {
            Self::Appended(a) => {
                let mut out = head(APPENDED, id, 41);
                out.put_u64_le(a.first);
                out.put_u64_le(a.last);
                out.put_u64_le(a.term);
                out.put_i64_le(a.time);
                out.put_u64_le(a.lamport);
                out.put_u8(a.deduped.into());
                vec![out.freeze()]
            }
            Self::Answer(answer) => with_body(ANSWER, id, &encode(answer)),
            Self::Failed(failure) => with_body(FAILED, id, &encode(failure)),
            Self::Entries { committed, entries } => {
                let mut out = head(ENTRIES, id, 8);
                out.put_u64_le(*committed);
                vec![out.freeze(), entries.clone()]
            }
            Self::End { next } => with_body(END, id, &next.to_le_bytes()),
        }
    }

    /// A frame back to a response; entries share the frame's buffer.
    pub fn decode(frame: Bytes) -> Result<(u64, Self), Malformed> {
        let mut fields = Fields { rest: frame, what: "response" };
        let kind = fields.u8()?;
        let id = fields.u64()?;
        let response = match kind {
            APPENDED => Self::Appended(Appended {
                first: fields.u64()?,
                last: fields.u64()?,
                term: fields.u64()?,
                time: i64::from_le_bytes(fields.take()?),
                lamport: fields.u64()?,
                deduped: fields.u8()? != 0,
            }),
            ANSWER => Self::Answer(decode(&fields.rest, "answer")?),
            FAILED => Self::Failed(decode(&fields.rest, "failure")?),
            ENTRIES => Self::Entries { committed: fields.u64()?, entries: fields.rest },
            END => Self::End { next: fields.u64()? },
            _ => return Err(Malformed("response kind")),
        };
        Ok((id, response))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn joined(parts: Vec<Bytes>) -> Bytes {
        Bytes::from(parts.concat())
    }

    #[test]
    fn requests_and_responses_read_back() {
        let requests = [
            Request::Append(Append {
                timeout_ms: 5,
                hops: 1,
                on_behalf_of: "ci".into(),
                batch: Bytes::from_static(b"xyz"),
            }),
            Request::Ask(Ask::Remove { node: 7 }),
            Request::Tail(TailFrom { start: Start::BeforeEnd(3), follow: true, ..TailFrom::default() }),
        ];
        for request in requests {
            assert_eq!(Request::decode(joined(request.encode(9))), Ok((9, request)));
        }
        let failure = Failure { code: Code::Busy, effect: Effect::NotApplied, what: "w".into(), hint: "h".into() };
        let responses = [
            Response::Appended(Appended { first: 1, last: 2, term: 3, time: -4, lamport: 5, deduped: true }),
            Response::Answer(Answer::Readable { next: 4 }),
            Response::Failed(failure),
            Response::Entries { committed: 8, entries: Bytes::from_static(b"entry") },
            Response::End { next: 3 },
        ];
        for response in responses {
            assert_eq!(Response::decode(joined(response.encode(9))), Ok((9, response)));
        }
    }

    #[test]
    fn trailing_bytes_are_refused() {
        let mut frame = joined(Request::Ask(Ask::Status).encode(1)).to_vec();
        frame.push(0);
        assert!(Request::decode(frame.into()).is_err());
    }

    proptest! {
        #[test]
        fn junk_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = Request::decode(bytes.clone().into());
            let _ = Response::decode(bytes.into());
        }
    }
}
