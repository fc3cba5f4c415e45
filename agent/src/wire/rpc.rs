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
//! Integers are little-endian. An answer has the id of its request; a FAILED to bytes that are no request has the id 0
//! and ends the stream, not the connection. What a client says about hops and the name it speaks for is not believed.
//!
//! MessagePack here is positional: a struct is the array of its fields in the order of [`crate::api`], all of them. An
//! enum's variant without fields is its name (`"Status"`); one with fields is a map of one entry from the name to its
//! field (`{"Offset": 7}`), or to the array of its fields if they have names (`{"Await": [7]}`). No field is left out:
//! an absent option is nil. A batch is laid out as in [`crate::record`], an entry as in `quorate_raft::wal`.

use super::fields::Fields;
pub use crate::api::*;
use crate::codec::{Malformed, decode, encode};
use bytes::{BufMut, Bytes, BytesMut};

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
        let mut fields = Fields::new(frame, "request");
        let kind = fields.u8()?;
        let id = fields.u64()?;
        let request = match kind {
            APPEND => {
                let timeout_ms = fields.u32()?;
                let hops = fields.u8()?;
                let len = fields.u8()?.into();
                let on_behalf_of = fields.text(len)?.into();
                Self::Append(Append { timeout_ms, hops, on_behalf_of, batch: fields.rest() })
            }
            ASK => Self::Ask(decode(&fields.rest(), "question")?),
            TAIL => Self::Tail(decode(&fields.rest(), "tail request")?),
            _ => return Err(Malformed("request kind")),
        };
        Ok((id, request))
    }
}

impl Response {
    /// Lays the answer to an append out in `out`, which saves its frame a buffer of its own. False, with nothing
    /// written, for any other response.
    pub fn put_small(&self, id: u64, out: &mut BytesMut) -> bool {
        let Self::Appended(appended) = self else { return false };
        out.put_u8(APPENDED);
        out.put_u64_le(id);
        appended.put(out);
        true
    }

    /// The frame in parts, so that entries are not copied.
    #[must_use]
    pub fn encode(&self, id: u64) -> Vec<Bytes> {
        match self {
            Self::Appended(a) => {
                let mut out = head(APPENDED, id, 41);
                a.put(&mut out);
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
        let mut fields = Fields::new(frame, "response");
        let kind = fields.u8()?;
        let id = fields.u64()?;
        let response = match kind {
            APPENDED => {
                let appended = Appended::take(&mut fields)?;
                fields.end()?;
                Self::Appended(appended)
            }
            ANSWER => Self::Answer(decode(&fields.rest(), "answer")?),
            FAILED => Self::Failed(decode(&fields.rest(), "failure")?),
            ENTRIES => Self::Entries { committed: fields.u64()?, entries: fields.rest() },
            END => {
                let next = fields.u64()?;
                fields.end()?;
                Self::End { next }
            }
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
            Request::Ask(Ask::Await { next: 7 }),
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
