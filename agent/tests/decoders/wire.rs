//! What comes over a connection: frames of agents and of clients, batches, entries, control entries.

use crate::fed::{BYTES_ANYWAY, BYTES_LAID_BY_HAND, feed, turn};
use bytes::{Bytes, BytesMut};
use quorate::api::*;
use quorate::codec::{decode, encode};
use quorate::limits::RECORD_BYTES_MAX_DEFAULT;
use quorate::machine::registry::{Command, Registration};
use quorate::node::{Founding, LeaderAnswer, LeaderAsk, Mark, PeerMessage, RaftMessage, Spare, View};
use quorate::record::{self, Record};
use quorate::wire::peer::{decode_peer, encode_peer};
use quorate::wire::rpc::{Request, Response};
use quorate_raft::wal::{CHAIN_GENESIS, Entry, EntryFields, EntryKind};
use quorate_raft::{Configuration, LogIndex, Message, NodeId, Term, Wall};

fn failure() -> Failure {
    Failure { code: Code::Busy, effect: Effect::NotApplied, what: "what".into(), hint: "hint".into() }
}

fn appended() -> Appended {
    Appended { first: 1, last: 2, term: 3, time: -4, lamport: 5, deduped: true }
}

fn batch() -> Bytes {
    let headers = vec![("name".to_owned(), "value".to_owned()), ("n".to_owned(), String::new())];
    let full = Record {
        key: "key".into(),
        kind: "type".into(),
        headers,
        correlation: "c".into(),
        causation: "d".into(),
        ..Record::of("value")
    };
    record::encode_batch([Record::of(""), full].iter()).unwrap()
}

pub(crate) fn entries() -> Vec<Entry> {
    let mut previous = CHAIN_GENESIS;
    let kinds = [
        (EntryKind::Normal, batch()),
        (EntryKind::Noop, Bytes::new()),
        (EntryKind::Registry, encode(&command()).into()),
    ];
    let mut made = Vec::new();
    for (index, (kind, payload)) in (1..).zip(kinds) {
        let fields = EntryFields {
            seed: 7,
            index: LogIndex(index),
            term: Term(3),
            kind,
            base_offset: 0,
            count: 0,
            time: Wall(5),
            lamport: index,
            shard: 0,
            session: 0,
            seq: 0,
        };
        let entry = Entry::seal(fields, previous, &payload);
        previous = entry.header().chain;
        made.push(entry);
    }
    made
}

fn command() -> Command {
    Command::Register(Registration { node: 7, name: "a1".into(), epoch: 2, boot: 9 })
}

fn operated() -> Operated {
    Operated { name: "a1".into(), node: 7, heir: Some("b".into()), voters: vec!["b".into()], ..Operated::default() }
}

/// One of each message of the core, as another core would write it.
pub(crate) fn raft_messages() -> Vec<Message> {
    let position = serde_json::json!({"index": 4, "term": 3});
    let bodies = serde_json::json!([
        {"p": {"round": 1, "last": position}},
        {"P": {"round": 1, "granted": true}},
        {"v": {"last": position, "transfer": true}},
        {"V": {"granted": true}},
        {"a": {"prev": position, "last": position, "commit": 1, "round": 9, "quiet": false}},
        {"A": {"matched": 1, "verified": 1, "round": 0}},
        {"C": {"prev": 1, "last": 1, "runs": [{"first": 1, "term": 1}, {"first": 3, "term": 2}], "round": 0}},
        "S",
        {"r": {"id": 1}},
        {"R": {"id": 1, "index": 1}},
        {"t": {"last": position}},
    ]);
    let fence = serde_json::json!({"admitted": 1, "from_boot": 2, "to_boot": 3});
    let all = bodies.as_array().unwrap().iter();
    all.map(|body| serde_json::from_value(serde_json::json!({"term": 3, "fence": fence, "body": body})).unwrap())
        .collect()
}

pub(crate) fn peer_messages() -> Vec<PeerMessage> {
    let raft =
        |message| PeerMessage::Raft(Box::new(RaftMessage { seed: 7, wall: Wall(1), message, entries: entries() }));
    let mut all: Vec<_> = raft_messages().into_iter().map(raft).collect();
    let append = Append { timeout_ms: 7, hops: 1, on_behalf_of: "ci".into(), batch: batch() };
    all.push(PeerMessage::Forward { id: 1, append });
    all.push(PeerMessage::Forwarded { id: 2, result: Ok(appended()) });
    all.push(PeerMessage::Forwarded { id: 2, result: Err(failure()) });
    all.push(PeerMessage::Ask { id: 3, timeout_ms: 9, ask: LeaderAsk::Remove { node: 4 } });
    all.push(PeerMessage::Answered { id: 3, result: Ok(LeaderAnswer::Readable { next: 8 }) });
    let operate = LeaderAsk::Operate { name: "a1".into(), node: Some(7), verb: Verb::Promote { allow_even: true } };
    all.push(PeerMessage::Ask { id: 5, timeout_ms: 9, ask: operate });
    all.push(PeerMessage::Ask { id: 6, timeout_ms: 0, ask: LeaderAsk::Drained });
    all.push(PeerMessage::Answered { id: 5, result: Ok(LeaderAnswer::Operated(operated())) });
    let view = View { voters: vec![1, 2, 3], learners: vec![4], waiting: Some("why".into()), ..View::default() };
    all.push(PeerMessage::View(view));
    all.push(PeerMessage::RepairRequest { id: 4, seed: 7, first: LogIndex(2), last: LogIndex(9) });
    let spares = [Spare::Entries(entries()), Spare::Damaged, Spare::Absent, Spare::Busy];
    all.extend(spares.map(|has| PeerMessage::RepairReply { id: 4, has }));
    all.push(PeerMessage::Chain { seed: 7, mark: Mark { index: LogIndex(4), term: Term(3), chain: 5 } });
    all
}

pub(crate) fn requests() -> Vec<Request> {
    let tail = TailFrom {
        start: Start::Time(-5),
        until: Some(9),
        stream: Some("s".into()),
        key: Some("k".into()),
        read: ReadLevel::After(3),
        ..TailFrom::default()
    };
    vec![
        Request::Append(Append { timeout_ms: 5, hops: 1, on_behalf_of: "ci".into(), batch: batch() }),
        Request::Ask(Ask::Await { next: 7 }),
        Request::Ask(Ask::Status),
        Request::Ask(Ask::Facts { others: true }),
        Request::Ask(Ask::Operate {
            name: "a1".into(),
            verb: Verb::Remove { replace_with: Some("b".into()) },
            timeout_ms: 7,
        }),
        Request::Tail(tail),
    ]
}

pub(crate) fn responses() -> Vec<Response> {
    let member = Member {
        name: "a1".into(),
        id: 7,
        addr: "10.0.0.1:7373".into(),
        state: "alive".into(),
        raft: "voter".into(),
        lag: Some(3),
        rtt_ms: Some(0.5),
        version: "0.1.0".into(),
        tags: [("rack".to_owned(), "r1".to_owned())].into(),
        draining: true,
        pinned: Some("learner".into()),
    };
    vec![
        Response::Appended(appended()),
        Response::Answer(Answer::Members(vec![member.clone(), member])),
        Response::Answer(Answer::Facts(Box::default())),
        Response::Answer(Answer::Readable { next: 4 }),
        Response::Answer(Answer::Operated(operated())),
        Response::Failed(failure()),
        Response::Entries { committed: 8, entries: entries().iter().flat_map(|e| e.bytes().to_vec()).collect() },
        Response::End { next: 3 },
    ]
}

/// What an agent accepts from another one, it would write again as something that means the same.
#[test]
fn frames_of_agents() {
    let _turn = turn();
    let examples = peer_messages().iter().map(|m| encode_peer(m).concat()).collect();
    feed(examples, BYTES_ANYWAY, |bytes| {
        if let Ok(message) = decode_peer(Bytes::copy_from_slice(bytes)) {
            let again = encode_peer(&message).concat();
            assert_eq!(decode_peer(again.into()), Ok(message));
        }
    });
}

#[test]
fn requests_of_clients() {
    let _turn = turn();
    let examples = requests().iter().map(|r| r.encode(9).concat()).collect();
    feed(examples, BYTES_ANYWAY, |bytes| {
        if let Ok((id, request)) = Request::decode(Bytes::copy_from_slice(bytes)) {
            let again = request.encode(id).concat();
            assert_eq!(Request::decode(again.into()), Ok((id, request)));
        }
    });
}

/// The same for a client: its agent may lie, too. Numbers that are none are no reason to fail, but equal nothing.
#[test]
fn answers_of_agents() {
    let _turn = turn();
    let examples = responses().iter().map(|r| r.encode(9).concat()).collect();
    feed(examples, BYTES_ANYWAY, |bytes| {
        if let Ok((id, response)) = Response::decode(Bytes::copy_from_slice(bytes)) {
            let again = response.encode(id).concat();
            let (_, read) = Response::decode(again.clone().into()).expect("what was written is read");
            assert_eq!(read.encode(id).concat(), again);
        }
    });
}

/// A batch that is accepted has the bytes that it would be written with, but for the numbers that a leader gives.
#[test]
fn batches_of_records() {
    let _turn = turn();
    feed(vec![batch().to_vec()], BYTES_LAID_BY_HAND, |bytes| {
        let bytes = Bytes::copy_from_slice(bytes);
        let checked = record::check_batch(&bytes, RECORD_BYTES_MAX_DEFAULT);
        if let Ok(count) = checked {
            let stored = record::decode_batch(&bytes).expect("it was checked");
            assert_eq!(stored.len(), count as usize);
            let records: Vec<_> = stored.into_iter().map(|s| s.record).collect();
            let again = record::encode_batch(records.iter()).expect("it was checked");
            assert_eq!(again.len(), bytes.len());
            let read: Vec<_> = record::decode_batch(&again).expect("just made").into_iter().map(|s| s.record).collect();
            assert_eq!(read, records);
            assert_eq!(record::join(&mut BytesMut::from(&bytes[..]), &bytes).is_ok(), count < 8_192);
        }
        let _ = record::decode_batch(&bytes);
    });
}

#[test]
fn entries_of_the_log() {
    let _turn = turn();
    let example: Vec<u8> = entries().iter().flat_map(|e| e.bytes().to_vec()).collect();
    feed(vec![example], BYTES_LAID_BY_HAND, |bytes| {
        if let Ok(read) = Entry::decode_many(Bytes::copy_from_slice(bytes), 100) {
            let again: Vec<u8> = read.iter().flat_map(|e| e.bytes().to_vec()).collect();
            assert_eq!(again, bytes);
        }
    });
}

/// What stands in control entries: every node reads them, whoever wrote them.
#[test]
fn payloads_of_control_entries() {
    let _turn = turn();
    let node = |n| NodeId::new(n).unwrap();
    let configuration =
        Configuration { voters: [node(1), node(2)].into(), outgoing: [node(3)].into(), learners: [node(4)].into() };
    let founder = Registration { node: 7, name: "a1".into(), epoch: 2, boot: 9 };
    let founding = Founding {
        log_id: [7; 16],
        configuration: configuration.clone(),
        founder,
        record_bytes_max: 9,
        others: Vec::new(),
    };
    let examples = vec![encode(&configuration), encode(&founding), encode(&command())];
    feed(examples, BYTES_ANYWAY, |bytes| {
        if let Ok(value) = decode::<Configuration>(bytes, "configuration") {
            assert_eq!(decode::<Configuration>(&encode(&value), "configuration"), Ok(value));
        }
        if let Ok(value) = decode::<Founding>(bytes, "founding") {
            assert_eq!(decode::<Founding>(&encode(&value), "founding"), Ok(value));
        }
        if let Ok(value) = decode::<Command>(bytes, "command") {
            assert_eq!(decode::<Command>(&encode(&value), "command"), Ok(value));
        }
    });
}
