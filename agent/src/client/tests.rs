//! Stories of a client between agents that answer late, wrongly, or never again.
//!
//! The cast speaks the real protocol over real QUIC on loopback; only what it answers is scripted.

use super::*;
use crate::record::{Record, encode_batch};
use quorate_certs::{AgentName, Authority, ClusterId, Role, Subject, Validity};
use quorate_raft::wal::{CHAIN_GENESIS, Entry, EntryFields, EntryKind};
use quorate_raft::{LogIndex, Term, Wall};
use quorate_transport::{Endpoint, Event, LocalNode, NodeKey, OpenGate, Options, Refused, Secrets};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};

/// The ceiling of every wait; nothing here should take a tenth of it.
const CEILING: Duration = Duration::from_secs(10);

struct World {
    cluster: ClusterId,
    authority: Authority,
}

/// What an agent of the cast does with a request.
enum Reaction {
    Answer(Response),
    /// Several frames; the stream ends after them.
    Answers(Vec<Response>),
    /// It keeps the asker waiting.
    Silence,
    /// The whole agent goes away.
    Die,
    /// It says nothing for so long, then goes away.
    DieAfter(Duration),
    /// It sends these, then goes away.
    AnswerAndDie(Vec<Response>),
}

type Script = Arc<dyn Fn(Request) -> Reaction + Send + Sync>;

struct Actor {
    addr: String,
}

impl World {
    fn new() -> Self {
        let cluster = ClusterId::random().unwrap();
        Self { cluster, authority: Authority::create(cluster).unwrap() }
    }

    fn identity(&self, subject: &Subject) -> Arc<Identity> {
        let issued = self.authority.issue(subject, Validity::default()).unwrap();
        Arc::new(Identity::from_issued(&issued).unwrap())
    }

    fn actor(&self, name: &str, script: impl Fn(Request) -> Reaction + Send + Sync + 'static) -> Actor {
        let name = AgentName::new(name).unwrap();
        let (key, _) = NodeKey::generate().unwrap();
        let secrets = Secrets { reset: key.public(), connection_id: key.node() };
        let local = LocalNode {
            key,
            name: name.clone(),
            boot_epoch: 1,
            boot_id: 1,
            log_id: None,
            advertise: None,
            version: "test".into(),
            features: 0,
        };
        let (endpoint, mut events) = Endpoint::bind(Options {
            bind: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            identity: self.identity(&Subject::agent(self.cluster, name)),
            secrets,
            local,
            gate: Arc::new(OpenGate),
            limits: Limits::default(),
        })
        .unwrap();
        let addr = endpoint.local_addr().to_string();
        let script: Script = Arc::new(script);
        tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                if let Event::Rpc(stream) = event {
                    tokio::spawn(act(*stream, script.clone(), endpoint.clone()));
                }
            }
        });
        Actor { addr }
    }

    fn client<const N: usize>(&self, actors: [&Actor; N]) -> Client {
        let subject = Subject::client(self.cluster, Role::Append, AgentName::new("ci").unwrap());
        let addrs = actors.iter().map(|actor| actor.addr.clone());
        Client::new(ConnectOptions::new(addrs, self.identity(&subject)).timeout(CEILING)).unwrap()
    }
}

async fn act(stream: quorate_transport::rpc::RpcStream, script: Script, endpoint: Endpoint) {
    let (mut recv, mut send) = stream.split();
    while let Ok(Some(frame)) = recv.recv().await {
        let (id, request) = Request::decode(frame).unwrap();
        // What the client asks by itself, to learn of other members, is not part of any story.
        let reaction = match request {
            Request::Ask(Ask::Members) => Reaction::Silence,
            request => script(request),
        };
        let (answers, dies) = match reaction {
            Reaction::Answer(response) => {
                send.send(response.encode(id)).await.unwrap();
                continue;
            }
            Reaction::Silence => continue,
            Reaction::Answers(responses) => (responses, false),
            Reaction::AnswerAndDie(responses) => (responses, true),
            Reaction::Die => (Vec::new(), true),
            Reaction::DieAfter(silence) => {
                tokio::time::sleep(silence).await;
                (Vec::new(), true)
            }
        };
        for response in answers {
            send.send(response.encode(id)).await.unwrap();
        }
        let _ = send.finish().await;
        if dies {
            // Closing drops what is under way, so everything must have arrived first.
            send.stopped().await;
            endpoint.close(&Refused::new(quorate_transport::Code::GoingAway, "gone")).await;
            return;
        }
    }
}

fn acked(first: u64, records: u64) -> Response {
    Response::Appended(Appended { first, last: first + records - 1, term: 1, time: 1, lamport: 1, deduped: false })
}

fn failed(code: Code, effect: Effect) -> Response {
    Response::Failed(Failure { code, effect, what: "no".into(), hint: String::new() })
}

/// The entries of a log whose entry number i holds `counts[i]` records, with the offset as value.
fn log(counts: &[u32]) -> Vec<Entry> {
    let (mut chain, mut base_offset) = (CHAIN_GENESIS, 0);
    let mut entries = Vec::new();
    for (i, &count) in counts.iter().enumerate() {
        let records: Vec<_> = (0..u64::from(count)).map(|k| Record::of((base_offset + k).to_string())).collect();
        let payload = encode_batch(records.iter()).unwrap();
        let fields = EntryFields {
            seed: 7,
            index: LogIndex(i as u64 + 1),
            term: Term(1),
            kind: EntryKind::Normal,
            count,
            shard: 0,
            base_offset,
            time: Wall(i as i64),
            lamport: 10 * (i as u64 + 1),
            session: 0,
            seq: 0,
        };
        let entry = Entry::seal(fields, chain, &payload);
        chain = entry.header().chain;
        base_offset += u64::from(count);
        entries.push(entry);
    }
    entries
}

fn frame(entries: &[Entry]) -> Response {
    let bytes: Vec<u8> = entries.iter().flat_map(|entry| entry.bytes().to_vec()).collect();
    let committed = entries.last().map_or(0, |entry| entry.header().next_offset());
    Response::Entries { committed, entries: bytes.into() }
}

async fn offsets(tail: &mut Tail) -> Vec<Result<u64, ClientError>> {
    let mut all = Vec::new();
    while let Some(item) = tokio::time::timeout(CEILING, tail.next()).await.unwrap() {
        all.push(item.map(|item| {
            assert_eq!(item.stored.record.value, item.offset.to_string());
            item.offset
        }));
    }
    all
}

/// Many callers share one stream, and each gets its own answer, in whatever order they come.
#[tokio::test]
async fn pipelined_appends_find_their_own_answers() {
    let world = World::new();
    let (held, count) = (Arc::new(Mutex::new(Vec::new())), AtomicUsize::new(0));
    let actor = world.actor("a", move |request| {
        let Request::Append(append) = request else { return Reaction::Silence };
        // The value says which offset this one gets.
        let stored = &crate::record::decode_batch(&append.batch).unwrap()[0];
        let offset = std::str::from_utf8(&stored.record.value).unwrap().parse().unwrap();
        held.lock().unwrap().push(offset);
        count.fetch_add(1, Ordering::Relaxed);
        Reaction::Answer(acked(offset, 1))
    });
    let client = world.client([&actor]);
    let mut tasks = tokio::task::JoinSet::new();
    for i in 0..200_u64 {
        let client = client.clone();
        tasks.spawn(async move { (i, client.append(&[Record::of(i.to_string())]).await.unwrap().first) });
    }
    while let Some(done) = tasks.join_next().await {
        let (asked, got) = done.unwrap();
        assert_eq!(asked, got);
    }
}

/// "Not applied" is the one answer after which an append may be repeated; any other ends it.
#[tokio::test]
async fn only_what_was_surely_not_applied_is_repeated() {
    let world = World::new();
    for (code, effect, attempts) in [
        (Code::NoQuorum, Effect::NotApplied, 3),
        (Code::Busy, Effect::NotApplied, 3),
        (Code::NoQuorum, Effect::Unknown, 1),
        (Code::Unknown, Effect::Unknown, 1),
        (Code::Invalid, Effect::NotApplied, 1),
        (Code::NotAuthorised, Effect::NotApplied, 1),
    ] {
        let count = Arc::new(AtomicUsize::new(0));
        let counted = count.clone();
        let actor = world.actor("a", move |_| match counted.fetch_add(1, Ordering::Relaxed) {
            0 | 1 => Reaction::Answer(failed(code, effect)),
            _ => Reaction::Answer(acked(5, 1)),
        });
        let said = world.client([&actor]).append(&[Record::of("x")]).await;
        assert_eq!(count.load(Ordering::Relaxed), attempts, "{code:?} {effect:?}");
        match said {
            Ok(appended) => assert_eq!((appended.first, attempts), (5, 3)),
            Err(error) => assert_eq!((error.effect(), attempts), (effect, 1)),
        }
    }
}

/// The agent dies with the append in its hands: the client says that it does not know, and asks nobody else.
#[tokio::test]
async fn an_append_that_left_and_was_not_answered_is_unknown() {
    let world = World::new();
    let dying = world.actor("a", |_| Reaction::Die);
    let elsewhere = Arc::new(AtomicUsize::new(0));
    let counted = elsewhere.clone();
    let other = world.actor("b", move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
        Reaction::Answer(acked(0, 1))
    });
    let client = world.client([&dying, &other]);
    let said = client.append(&[Record::of("x")]).await;
    assert!(matches!(said, Err(ClientError::Unknown { .. })), "{said:?}");
    assert_eq!(elsewhere.load(Ordering::Relaxed), 0);
    // The next one goes through the other agent.
    assert_eq!(client.append(&[Record::of("y")]).await.map(|a| a.first), Ok(0));
}

/// Silence until the deadline: unknown for what writes, a plain timeout for what only asks.
#[tokio::test]
async fn nothing_waits_past_the_callers_deadline() {
    let world = World::new();
    let actor = world.actor("a", |_| Reaction::Silence);
    let client = world.client([&actor]);
    let patience = Duration::from_millis(300);
    let said = tokio::time::timeout(CEILING, client.append_within(&[Record::of("x")], patience)).await.unwrap();
    assert!(matches!(said, Err(ClientError::Unknown { .. })), "{said:?}");
    let subject = Subject::client(world.cluster, Role::Read, AgentName::new("r").unwrap());
    let asker = Client::new(ConnectOptions::new([actor.addr], world.identity(&subject)).timeout(patience)).unwrap();
    let said = tokio::time::timeout(CEILING, asker.status()).await.unwrap();
    assert!(matches!(said, Err(ClientError::TimedOut { .. })), "{said:?}");
}

/// An agent that owes an answer and says nothing is doubted: later appends do not wait behind it.
#[tokio::test]
async fn a_silent_agent_is_left_before_its_connection_is_known_to_be_dead() {
    let world = World::new();
    let silent = world.actor("a", |_| Reaction::Silence);
    let other = world.actor("b", |_| Reaction::Answer(acked(3, 1)));
    let client = world.client([&silent, &other]);
    let stuck = tokio::spawn({
        let client = client.clone();
        async move { client.append(&[Record::of("x")]).await }
    });
    let through = async {
        loop {
            if let Ok(appended) = client.append_within(&[Record::of("y")], Duration::from_millis(200)).await {
                return appended.first;
            }
        }
    };
    assert_eq!(tokio::time::timeout(CEILING, through).await.unwrap(), 3);
    stuck.abort();
}

fn status(next: u64, record_bytes_max: usize) -> Response {
    let json = serde_json::json!({
        "cluster": "", "log_id": null, "name": "a", "node": 1, "version": "", "leader": null, "term": 1,
        "raft": "voter", "healthy": true, "voters": [], "learners": [], "tolerates": 0, "first": 0, "next": next,
        "committed_index": 0, "applied_index": 0, "bytes": 0, "problems": [], "record_bytes_max": record_bytes_max
    });
    Response::Answer(Answer::Status(Box::new(serde_json::from_value(json).unwrap())))
}

/// The batch is bounded before anything leaves, by the limit of the cluster.
#[tokio::test]
async fn a_record_of_the_limit_goes_and_one_byte_more_is_refused_here() {
    for limit in [RECORD_BYTES_MAX_DEFAULT, 2 * RECORD_BYTES_MAX_DEFAULT] {
        let world = World::new();
        let count = Arc::new(AtomicUsize::new(0));
        let counted = count.clone();
        let actor = world.actor("a", move |request| match request {
            Request::Append(_) => {
                counted.fetch_add(1, Ordering::Relaxed);
                Reaction::Answer(acked(0, 1))
            }
            _ => Reaction::Answer(status(0, limit)),
        });
        let client = world.client([&actor]);
        let of = |bytes| Record::of(vec![b'x'; bytes]);
        assert!(client.append(&[of(limit)]).await.is_ok());
        let said = client.append(&[of(limit + 1)]).await;
        assert!(matches!(said, Err(ClientError::Invalid { .. })), "{said:?}");
        assert!(matches!(client.append(&[]).await, Err(ClientError::Invalid { .. })));
        assert_eq!(count.load(Ordering::Relaxed), 1);
    }
}

/// Somebody else's certificate is refused at once; waiting would not make it better.
#[tokio::test]
async fn a_stranger_is_told_so_without_delay() {
    let (ours, theirs) = (World::new(), World::new());
    let actor = ours.actor("a", |_| Reaction::Silence);
    let said = tokio::time::timeout(CEILING / 2, theirs.client([&actor]).status()).await.unwrap();
    assert!(matches!(said, Err(ClientError::NotAuthorised { .. })), "{said:?}");
}

/// The agent dies in the middle; another one goes on, and repeats an entry that was seen in part.
#[tokio::test]
async fn a_tail_goes_on_through_another_agent_without_gap_or_duplicate() {
    let world = World::new();
    let all = log(&[2, 1, 3, 1]);
    let (head, rest) = (all[..2].to_vec(), all[1..].to_vec());
    let dying = world.actor("a", move |request| match request {
        Request::Tail(from) => {
            assert_eq!(from.start, Start::First);
            Reaction::AnswerAndDie(vec![frame(&head)])
        }
        _ => Reaction::Silence,
    });
    let heir = world.actor("b", move |request| match request {
        Request::Tail(from) => {
            assert_eq!(from.start, Start::Offset(3));
            // It must have caught up with what the first one knew before it says "end".
            assert_eq!(from.read, ReadLevel::After(2));
            Reaction::Answers(vec![frame(&rest), Response::End { next: 7 }])
        }
        _ => Reaction::Silence,
    });
    let mut tail = world.client([&dying, &heir]).tail(TailFrom::default());
    let expected: Vec<_> = (0..7).map(Ok).collect();
    assert_eq!(offsets(&mut tail).await, expected);
}

/// "From the end on" is settled once: an agent that takes over must not choose a later end.
#[tokio::test]
async fn the_end_is_one_place_even_if_the_agent_dies_before_the_first_record() {
    let world = World::new();
    let all = log(&[5, 1, 1]);
    let status = |next| status(next, RECORD_BYTES_MAX_DEFAULT);
    let dying = world.actor("a", move |request| match request {
        Request::Tail(from) => {
            assert_eq!(from.start, Start::Offset(5));
            Reaction::Die
        }
        _ => Reaction::Answer(status(5)),
    });
    let late = all[1..].to_vec();
    let heir = world.actor("b", move |request| match request {
        Request::Tail(from) => {
            assert_eq!(from.start, Start::Offset(5));
            Reaction::Answers(vec![frame(&late), Response::End { next: 7 }])
        }
        _ => Reaction::Answer(status(7)),
    });
    let from = TailFrom { start: Start::End, follow: true, ..TailFrom::default() };
    let mut tail = world.client([&dying, &heir]).tail(from);
    assert_eq!(offsets(&mut tail).await, [Ok(5), Ok(6)]);
}

/// A log may be quiet for hours; the patience for an agent that dies begins when it dies.
#[tokio::test]
async fn a_quiet_follower_outlives_its_agent() {
    let world = World::new();
    let patience = Duration::from_millis(400);
    let dying = world.actor("a", move |request| match request {
        Request::Tail(_) => Reaction::DieAfter(3 * patience),
        _ => Reaction::Silence,
    });
    let all = log(&[2]);
    let heir = world.actor("b", move |request| match request {
        Request::Tail(_) => Reaction::Answers(vec![frame(&all), Response::End { next: 2 }]),
        _ => Reaction::Silence,
    });
    let subject = Subject::client(world.cluster, Role::Append, AgentName::new("ci").unwrap());
    let addrs = [dying.addr.clone(), heir.addr.clone()];
    let options = ConnectOptions::new(addrs, world.identity(&subject)).timeout(patience);
    let from = TailFrom { follow: true, ..TailFrom::default() };
    let mut tail = Client::new(options).unwrap().tail(from);
    assert_eq!(offsets(&mut tail).await, [Ok(0), Ok(1)]);
}

/// What was asked for is filtered by record, although whole entries travel.
#[tokio::test]
async fn records_outside_the_range_are_not_shown() {
    let world = World::new();
    let all = log(&[4, 4]);
    let actor = world.actor("a", move |request| match request {
        Request::Tail(_) => Reaction::Answers(vec![frame(&all), Response::End { next: 6 }]),
        _ => Reaction::Silence,
    });
    let from = TailFrom { start: Start::Offset(2), until: Some(6), ..TailFrom::default() };
    let mut tail = world.client([&actor]).tail(from);
    assert_eq!(offsets(&mut tail).await, [Ok(2), Ok(3), Ok(4), Ok(5)]);
}

/// An agent that leaves something out, or sends damaged bytes, is not believed; what came before is.
#[tokio::test]
async fn a_gap_and_a_damaged_entry_are_told_from_data() {
    let world = World::new();
    let all = log(&[2, 2, 2]);
    let gap = frame(&[all[0].clone(), all[2].clone()]);
    let mut bytes = all[1].bytes().to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    let damaged = Response::Entries { committed: 6, entries: bytes.into() };
    for second in [gap, damaged] {
        let first = frame(&all[..1]);
        let actor = world.actor("a", move |request| match request {
            Request::Tail(_) => Reaction::Answers(vec![first.clone(), second.clone()]),
            _ => Reaction::Silence,
        });
        let said = offsets(&mut world.client([&actor]).tail(TailFrom::default())).await;
        assert_eq!(said[..2], [Ok(0), Ok(1)]);
        assert!(matches!(said[2..], [Err(ClientError::Corrupt { .. })]), "{said:?}");
    }
}

/// An agent that accepts every tail and refuses it at once does not hold its reader for ever.
#[tokio::test]
async fn a_tail_that_is_always_refused_ends_with_the_callers_patience() {
    let world = World::new();
    for follow in [false, true] {
        let actor = world.actor("a", |request| match request {
            Request::Tail(_) => Reaction::Answers(vec![failed(Code::NoQuorum, Effect::None)]),
            _ => Reaction::Silence,
        });
        let subject = Subject::client(world.cluster, Role::Read, AgentName::new("r").unwrap());
        let options = ConnectOptions::new([actor.addr], world.identity(&subject)).timeout(Duration::from_millis(300));
        let mut tail = Client::new(options).unwrap().tail(TailFrom { follow, ..TailFrom::default() });
        let said = offsets(&mut tail).await;
        assert!(matches!(said[..], [Err(ClientError::Failed(_))]), "{said:?}");
    }
}

/// A record's own Lamport time follows from its place in the entry.
#[tokio::test]
async fn lamport_times_rise_within_an_entry() {
    let world = World::new();
    let all = log(&[3]);
    let actor = world.actor("a", move |request| match request {
        Request::Tail(_) => Reaction::Answers(vec![frame(&all), Response::End { next: 3 }]),
        _ => Reaction::Silence,
    });
    let mut tail = world.client([&actor]).tail(TailFrom::default());
    for expected in [8, 9, 10] {
        assert_eq!(tail.next().await.unwrap().unwrap().lamport, expected);
    }
}

/// All agents may be replaced, one after another, while one of them serves: what was named stays, what was learned
/// follows the members, and one that is only called failed is not forgotten.
#[tokio::test]
async fn addresses_follow_the_members() {
    let world = World::new();
    let (a, b) = (Actor { addr: "127.0.0.1:1".into() }, Actor { addr: "127.0.0.1:2".into() });
    let client = world.client([&a, &b]);
    let member = |port: u16, state: &str| Member {
        name: format!("n{port}"),
        id: port.into(),
        addr: format!("127.0.0.1:{port}"),
        state: state.into(),
        raft: "voter".into(),
        lag: None,
        rtt_ms: None,
        version: "test".into(),
        tags: std::collections::BTreeMap::new(),
        draining: false,
        pinned: None,
    };
    let known = || client.shared.addrs().clone();
    client.shared.remember(&[member(1, "alive"), member(3, "alive"), member(4, "alive"), member(5, "failed")]);
    assert_eq!(known(), ["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3", "127.0.0.1:4"]);
    client.shared.put_first("127.0.0.1:4");
    client.shared.remember(&[member(3, "failed"), member(6, "alive")]);
    assert_eq!(known(), ["127.0.0.1:4", "127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3", "127.0.0.1:6"]);
    client.shared.put_first("127.0.0.1:6");
    client.shared.remember(&[member(3, "left"), member(6, "alive")]);
    assert_eq!(known(), ["127.0.0.1:6", "127.0.0.1:1", "127.0.0.1:2"]);
}
