//! What one member says, and what becomes of it.

use crate::cluster::Cluster;
use crate::evil::{Evil, NAME, identity, member, record};
use bytes::Bytes;
use quorate::api::{Append, Appended};
use quorate::node::{LeaderAnswer, LeaderAsk, PeerMessage, RaftMessage, View};
use quorate::record::Record;
use quorate::wire::peer::encode_peer;
use quorate_raft::wal::{Entry, EntryFields, EntryKind};
use quorate_raft::{LogIndex, Message, Term, Wall};
use quorate_transport::Code;
use serde_json::json;
use std::time::{Duration, Instant};

/// Memory that three agents may grow by under fire, each, in KiB.
const GROWTH_KIB_MAX: u64 = 24 << 10;

/// What the liar sends to a node in a term.
type Frame = fn(&Evil, u64, u64) -> Bytes;

fn frame(message: &PeerMessage) -> Bytes {
    encode_peer(message).concat().into()
}

fn raft(seed: u64, message: Message, entries: Vec<Entry>) -> PeerMessage {
    PeerMessage::Raft(Box::new(RaftMessage { seed, wall: Wall(i64::MAX), message, entries }))
}

/// An entry of this log as the liar would have it.
fn entry(seed: u64, index: u64, term: u64, lamport: u64, time: i64) -> Entry {
    let fields = EntryFields {
        seed,
        index: LogIndex(index),
        term: Term(term),
        kind: EntryKind::Normal,
        base_offset: 0,
        count: 1,
        time: Wall(time),
        lamport,
        shard: 0,
        session: 0,
        seq: 0,
    };
    Entry::seal(fields, 666, b"a lie")
}

/// Bodies of every kind that a core may be told, as they would concern this entry.
fn bodies(index: u64, term: u64) -> Vec<serde_json::Value> {
    let last = json!({"index": index, "term": term});
    let far = json!({"index": index + 1_000_000, "term": term});
    vec![
        json!({"p": {"round": 1, "last": far}}),
        json!({"P": {"round": 1, "granted": true}}),
        json!({"P": {"round": 1, "granted": false}}),
        json!({"v": {"last": far, "transfer": false}}),
        json!({"v": {"last": far, "transfer": true}}),
        json!({"V": {"granted": true}}),
        json!({"a": {"prev": last, "last": last, "commit": index, "round": 9, "quiet": false}}),
        json!({"a": {"prev": {"index": 1, "term": term}, "last": {"index": 1, "term": term}, "commit": 1, "round": 9, "quiet": false}}),
        json!({"A": {"matched": index, "verified": index, "round": 0}}),
        json!({"A": {"matched": index + 50, "verified": index + 99, "round": 7}}),
        json!({"C": {"prev": index, "last": index, "runs": [{"first": 1, "term": 1}], "round": 0}}),
        json!({"r": {"id": 1}}),
        json!({"R": {"id": 1, "index": 1}}),
    ]
}

fn resident_kib(cluster: &Cluster, name: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", cluster.pid(name))).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

fn lines_about(cluster: &Cluster, name: &str, what: &str) -> usize {
    cluster.log(name).lines().filter(|line| line.contains(NAME) && line.contains(what)).count()
}

/// What no honest agent says ends the connection, with the code that says which it was and one line in the log however
/// often it is said; nothing moves, and nobody is halted.
#[test]
fn who_lies_beyond_doubt_is_shown_the_door() {
    let cluster = Cluster::of(3);
    cluster.ask("n1", &["append", "before"]).ok();
    let before = cluster.status("n1").unwrap();
    let (addr, term) = (cluster.addr("n2"), before.term);
    let log = |parts: &[&str]| cluster.wait_log("n2", &[&[NAME, "its connection was closed"], parts].concat());
    cluster.block_on(async {
        let mut evil = Evil::new(&cluster);
        let frames: [(&str, Frame); 12] = [
            ("malformed peer frame kind", |_, _, _| Bytes::from_static(b"\xee\x1b[2Jhello")),
            ("malformed view", |_, _, _| Bytes::from_static(b"\x06\xdd\xff\xff\xff\xff")),
            ("malformed view", |_, _, _| [&[6][..], &[0x91; 50_000]].concat().into()),
            ("malformed question", |_, _, _| Bytes::from_static(b"\x03\x93\x01\x02\xa4\xff\xfe\xc0\x80")),
            ("malformed raft message", |_, _, _| [&[1][..], &[0; 16], &[1, 0, 0, 0, 0xc1]].concat().into()),
            ("malformed peer frame", |e, to, term| {
                let whole = frame(&raft(e.seed(to), e.raft(to, term, &json!("S")), vec![]));
                whole.slice(..20)
            }),
            ("malformed entries", |e, to, term| {
                let message = e.raft(to, term, &bodies(2, term)[6]);
                let mut bytes = frame(&raft(e.seed(to), message, vec![entry(e.seed(to), 2, term, 1, 1)])).to_vec();
                let last = bytes.len() - 1;
                bytes[last] ^= 1;
                bytes.into()
            }),
            ("malformed answer", |_, _, _| {
                let answered = PeerMessage::Answered { id: 1, result: Ok(LeaderAnswer::Removed) };
                [&frame(&answered)[..], b"\x00"].concat().into()
            }),
            ("a term further ahead", |e, to, _| frame(&raft(e.seed(to), e.raft(to, 1 << 61, &json!("S")), vec![]))),
            ("beyond all reason", |e, to, _| frame(&raft(e.seed(to), e.raft(to, u64::MAX, &json!({"v": {"last": {"index": 1, "term": 1}, "transfer": true}})), vec![]))),
            ("beyond all reason", |e, to, term| {
                let body = json!({"a": {"prev": {"index": 1, "term": 1}, "last": {"index": 1, "term": 1}, "commit": u64::MAX, "round": 0, "quiet": false}});
                frame(&raft(e.seed(to), e.raft(to, term, &body), vec![]))
            }),
            ("announces none", |e, to, term| {
                let message = e.raft(to, term, &json!("S"));
                frame(&raft(e.seed(to), message, vec![entry(e.seed(to), 2, term, 1, 1)]))
            }),
        ];
        for (what, make) in frames {
            let say = async |e: &mut Evil, to: u64| e.endpoint.send(to, make(e, to, term)).unwrap();
            assert_eq!(evil.shown_the_door(addr, say).await, Code::Malformed, "{what}");
            log(&[what]);
        }
        // The source of a gossip packet speaks only for its connection.
        let as_another = async |e: &mut Evil, to: u64| {
            let packet = e.packet(&identity(0xabcd, 1, 1, 0), to, &[], &[]);
            e.endpoint.datagram(to, packet).unwrap();
        };
        assert_eq!(evil.shown_the_door(addr, as_another).await, Code::IdentityMismatch);
        log(&["speaks for another node"]);
        // Malformed gossip, over both ways; the text of a tag holds an escape that no terminal shall see.
        let escape = record(7, 7, 7, [10, 0, 0, 7], 7373, "n7", &[("k", "\u{1b}]0;pwn\u{7}")]);
        let by_datagram = async |e: &mut Evil, to: u64| {
            let packet = e.packet(&e.myself(), to, &[], &[escape]);
            e.endpoint.datagram(to, packet).unwrap();
        };
        assert_eq!(evil.shown_the_door(addr, by_datagram).await, Code::Malformed);
        log(&["illegal tags"]);
        let by_table = async |e: &mut Evil, to: u64| {
            let endpoint = e.endpoint.clone();
            tokio::spawn(async move { drop(endpoint.exchange(to, Bytes::from_static(b"\x01\x01\x00")).await) });
        };
        assert_eq!(evil.shown_the_door(addr, by_table).await, Code::Malformed);
        // Said again and again, it is in the log once.
        for _ in 0..20 {
            let again = async |e: &mut Evil, to: u64| e.endpoint.send(to, Bytes::from_static(b"\xee")).unwrap();
            assert_eq!(evil.shown_the_door(addr, again).await, Code::Malformed);
        }
        evil.endpoint.close(&Code::Ok.into()).await;
    });
    assert!(lines_about(&cluster, "n2", "peer frame kind") <= 2, "{}", cluster.log("n2"));
    assert!(!cluster.log("n2").contains('\u{1b}'), "an escape reached the log");
    let after = cluster.status("n1").unwrap();
    assert_eq!((after.term, after.leader, after.next), (before.term, before.leader, before.next));
    assert_eq!(cluster.ask("n2", &["append", "after"]).ok(), "1\n");
}

/// What one member says of others, of itself and of the log, for seconds, to everybody: the leader stays, appends are
/// acknowledged, nobody is taken for failed, invented members are not dialled where no agent can be, memory is bounded;
/// and when the liar is gone, it is the only one who failed.
#[test]
fn what_one_member_says_moves_nothing() {
    let cluster = Cluster::of(3);
    let names = ["n1", "n2", "n3"];
    cluster.ask("n1", &["append", "before"]).ok();
    let client = cluster.client("n1");
    let resident: Vec<_> = names.iter().map(|name| resident_kib(&cluster, name)).collect();
    let acked = cluster.block_on(async {
        let mut evil = Evil::new(&cluster);
        let mut peers = Vec::new();
        for name in names {
            peers.push(evil.meet(cluster.addr(name)).await);
        }
        // It becomes what every agent with a certificate becomes: a member, and a learner.
        let started = Instant::now();
        let is_member = |evil: &Evil| evil.heard.iter().any(|(_, bytes)| bytes.first() == Some(&1));
        evil.until("the leader sends it the log", is_member).await;
        println!("a learner after {} ms", started.elapsed().as_millis());
        let before = cluster.pinned("n1").status().await.unwrap();
        let appends = tokio::spawn(async move {
            let (mut acked, started) = (0, Instant::now());
            while started.elapsed() < Duration::from_secs(6) {
                client.append(&[Record::of("under fire")]).await.expect("it is acknowledged");
                acked += 1;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            acked
        });
        let mut invented = 1_u64;
        for round in 0_u64.. {
            if appends.is_finished() {
                break;
            }
            for &to in &peers {
                if !evil.up.contains_key(&to) {
                    continue;
                }
                tell_the_core(&evil, to, &before, round);
                tell_the_node(&evil, to, &before);
                tell_the_gossip(&evil, to, &peers, round, &mut invented);
            }
            evil.live(Duration::from_millis(30)).await;
        }
        let acked = appends.await.unwrap();
        // A learner that tells of a newer term is believed once by each; nothing of the kind was said here.
        let after = cluster.pinned("n1").status().await.unwrap();
        assert_eq!((&after.leader, after.term), (&before.leader, before.term), "the leader was unseated");
        assert!(after.next >= before.next + acked);
        println!("{acked} records acknowledged under fire, {invented} members invented");
        evil.endpoint.close(&Code::Ok.into()).await;
        acked
    });
    assert!(acked > 10);
    for (name, before) in names.iter().zip(resident) {
        if let (Some(before), Some(after)) = (before, resident_kib(&cluster, name)) {
            println!("{name}: {before} KiB resident before, {after} KiB after");
            assert!(after < before + GROWTH_KIB_MAX, "{name} grew from {before} to {after} KiB");
        }
        let log = cluster.log(name);
        assert!(!log.contains("has stopped"), "somebody halted: {log}");
        for other in names.iter().filter(|other| *other != name) {
            assert!(
                !log.contains(&format!("agent {other} (127.0.0.1:{}) has failed", cluster.addr(other).port())),
                "{log}"
            );
        }
        assert!(log.contains("which is never dialled"), "{log}");
        let about = log.lines().filter(|line| line.contains("WARN") && line.contains(NAME)).count();
        assert!(about < 60, "{about} lines about the liar: {log}");
    }
    for name in names {
        cluster.wait_member(name, "the liar as failed, the others as alive", |members| {
            let state = |of: &str| members.iter().find(|m| m.name == of).map(|m| m.state.as_str());
            state(NAME) == Some("failed") && names.iter().all(|n| state(n) == Some("alive"))
        });
    }
    // The address, tags and name of each are its own.
    for member in cluster.members("n1").unwrap().iter().filter(|m| names.contains(&m.name.as_str())) {
        assert_eq!(member.addr, cluster.addr(&member.name).to_string());
        assert!(member.tags.is_empty());
    }
}

/// The core: every kind of message, in the term that is, and (of those that only a voter may say) in later ones.
fn tell_the_core(evil: &Evil, to: u64, before: &quorate::client::Status, round: u64) {
    let seed = evil.seed(to);
    let (index, term) = (before.committed_index, before.term);
    for (kind, body) in bodies(index, term).iter().enumerate() {
        let ahead = if matches!(kind, 0 | 3 | 4 | 6 | 7) { [0, 1, 1_000][round as usize % 3] } else { 0 };
        let message = evil.raft(to, term + ahead, body);
        let _ = evil.endpoint.send(to, frame(&raft(seed, message, vec![])));
        // The same for another log: two histories never exchange a word.
        let message = evil.raft(to, term, body);
        let _ = evil.endpoint.send(to, frame(&raft(seed ^ 1, message, vec![])));
    }
    // Entries: of another chain, of another log, of a far time.
    for (of, lamport, time) in [(seed, 1, 1), (seed ^ 1, 1, 1), (seed, 1 << 62, 1), (seed, (1 << 62) + 1, i64::MAX)] {
        let lie = entry(of, index + 1, term, lamport, time);
        let body = json!({"a": {"prev": {"index": index, "term": term}, "last": {"index": index + 1, "term": term}, "commit": index + 1, "round": 0, "quiet": false}});
        let _ = evil.endpoint.send(to, frame(&raft(seed, evil.raft(to, term, &body), vec![lie])));
    }
}

/// The node: answers to nobody's question, questions in the name of others, a view of a leader that is none.
fn tell_the_node(evil: &Evil, to: u64, before: &quorate::client::Status) {
    let appended = Appended { first: 0, last: 0, term: before.term, time: 0, lamport: 0, deduped: false };
    let view = View {
        log_id: evil.up[&to].log_id.unwrap_or_default(),
        term: u64::MAX,
        leader: evil.node(),
        voters: vec![evil.node()],
        committed: u64::MAX,
        next: u64::MAX,
        departed: true,
        ..View::default()
    };
    let append = Append {
        timeout_ms: u32::MAX,
        hops: 9,
        on_behalf_of: "\u{1b}[31madmin".into(),
        batch: Bytes::from_static(b"\x01\0\0\0junk"),
    };
    for message in [
        PeerMessage::Forwarded { id: 1, result: Ok(appended) },
        PeerMessage::Answered { id: 1, result: Ok(LeaderAnswer::Removed) },
        PeerMessage::Answered { id: 2, result: Ok(LeaderAnswer::Readable { next: u64::MAX }) },
        PeerMessage::Ask { id: 3, timeout_ms: u32::MAX, ask: LeaderAsk::Remove { node: to } },
        PeerMessage::Ask { id: 4, timeout_ms: u32::MAX, ask: LeaderAsk::Barrier },
        PeerMessage::Forward { id: 5, append },
        PeerMessage::View(view),
    ] {
        let _ = evil.endpoint.send(to, frame(&message));
    }
}

/// The gossip: everybody is down, or as far ahead as nobody can be; words in the mouths of others; a hundred new members a
/// round, some of them where no agent can be.
fn tell_the_gossip(evil: &Evil, to: u64, peers: &[u64], round: u64, invented: &mut u64) {
    let others: Vec<u64> = peers.iter().copied().filter(|n| evil.up.contains_key(n)).collect();
    let states = [(0, 2), (0, 1), (u16::MAX, 1), (u16::MAX, 0), (round as u16, 2)];
    let (incarnation, state) = states[round as usize % states.len()];
    let told: Vec<_> = others.iter().map(|n| member(&evil.identity_of(*n, 0), incarnation, state)).collect();
    let words = others.iter().filter(|n| **n != to).map(|n| {
        let info = &evil.up[n];
        let lamport = [1 << 40, (1 << 62) - 1][round as usize % 2];
        record(*n, info.boot_id, lamport, [169, 254, 169, 254], 80, info.name.as_str(), &[("owned", "yes")])
    });
    let words: Vec<_> = words.collect();
    let _ = evil.endpoint.datagram(to, evil.packet(&evil.myself(), to, &told, &words));
    let bumped: Vec<_> = others.iter().map(|n| member(&evil.identity_of(*n, (1 << 31) - 1), 0, state)).collect();
    let _ = evil.endpoint.datagram(to, evil.packet(&evil.myself(), to, &bumped, &[]));
    let mut table = vec![1, 1];
    for _ in 0..100 {
        *invented += 1;
        // Low ids come first in every list.
        table.extend(identity(*invented, 1, 1, 0));
        table.extend([0, 0, 0, 0, 0, 0, 0]);
        let is_service = invented.is_multiple_of(10);
        if is_service {
            table.push(1);
            table.extend(record(*invented, 1, 1, [169, 254, 169, 254], 80, &format!("fake-{invented}"), &[]));
        } else {
            table.push(0);
        }
    }
    let endpoint = evil.endpoint.clone();
    tokio::spawn(async move { drop(endpoint.exchange(to, table.into()).await) });
}
