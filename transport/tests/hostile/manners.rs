//! Stories of a peer with a good certificate and bad manners: each ends with the right code and costs the others nothing.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quorate_certs::{Role, Tls, Verdict};
use quorate_transport::rpc::{self, RpcClient};
use quorate_transport::{Code, DialError, Event, Limits, NodeKey, node_id};

use crate::by_hand::{Evil, PEER, by_hand, by_hand_from, code, framed};
use crate::common::{self, Agent, World, loopback, soon};

/// The greeting is a contract: another program that follows the page above is a peer.
#[tokio::test]
async fn a_greeting_by_hand_is_as_good() {
    let world = World::new();
    let mut a = Agent::start(&world, "a");
    let evil = Evil::new(&world, a.addr).await;
    let (mut send, mut recv) = evil.greet().await;
    let info = a.up().await;
    assert_eq!(Some(info.node), node_id(&evil.hello.key));
    send.write_all(&framed(b"hi")).await.unwrap();
    assert_eq!(a.frame().await, (info.node, Bytes::from_static(b"hi")));
    a.endpoint.send(info.node, Bytes::from_static(b"yo")).unwrap();
    let mut answer = [0; 6];
    soon(recv.read_exact(&mut answer)).await.unwrap();
    assert_eq!(answer, *b"\0\0\0\x02yo");
}

#[tokio::test]
async fn frames_that_are_none_end_the_connection() {
    let world = World::new();
    let mut a = Agent::start(&world, "a");
    let over = u32::try_from(Limits::default().peer_frame_bytes_max + 1).unwrap();
    let cases: [(&[u8], Code); 3] = [
        (&[0; 4], Code::Malformed),
        (&over.to_be_bytes(), Code::FrameTooLarge),
        (&u32::MAX.to_be_bytes(), Code::FrameTooLarge),
    ];
    for (bytes, expected) in cases {
        let evil = Evil::new(&world, a.addr).await;
        let (mut send, _recv) = evil.greet().await;
        a.up().await;
        send.write_all(bytes).await.unwrap();
        assert_eq!(code(&evil.conn).await, expected);
        let reason = a.down().await;
        assert!(matches!(&reason, quorate_transport::Reason::Local(why) if why.code == expected), "{reason}");
    }
    let evil = Evil::new(&world, a.addr).await;
    let (mut send, _recv) = evil.greet().await;
    a.up().await;
    send.write_all(&framed(b"cut off")[..8]).await.unwrap();
    send.finish().unwrap();
    assert_eq!(code(&evil.conn).await, Code::Malformed);
}

/// The largest legal frame passes, both ways round.
#[tokio::test]
async fn a_frame_at_the_limit_passes() {
    let world = World::new();
    let limits = Limits { peer_frame_bytes_max: 300_000, ..Limits::default() };
    let mut a = Agent::limited(&world, "a", limits.clone());
    let b = Agent::limited(&world, "b", limits);
    b.endpoint.dial(a.addr, None).await.unwrap();
    b.endpoint.send(a.node, Bytes::from(vec![1; 300_000])).unwrap();
    assert_eq!(a.frame().await.1.len(), 300_000);
    assert!(b.endpoint.send(a.node, Bytes::from(vec![1; 300_001])).is_err());
}

/// A certificate, and then nothing: the deadline ends it on each protocol.
#[tokio::test]
async fn silence_is_ended_by_the_deadline() {
    let world = World::new();
    let limits = Limits { hello_deadline: Duration::from_millis(200), ..Limits::default() };
    let mut a = Agent::limited(&world, "a", limits);
    for alpn in [PEER, b"quorate-bulk/1", rpc::ALPN] {
        let conn = by_hand(&world, a.addr, alpn).await;
        assert_eq!(code(&conn).await, Code::Deadline);
        assert_eq!(a.refused().await.0.code, Code::Deadline);
        // A stream and half a length are no greeting either.
        let conn = by_hand(&world, a.addr, alpn).await;
        let (mut send, _recv) = conn.open_bi().await.unwrap();
        send.write_all(&[0, 0]).await.unwrap();
        assert_eq!(code(&conn).await, Code::Deadline);
    }
    // A Hello and no Ready: never a peer.
    let evil = Evil::new(&world, a.addr).await;
    let _streams = evil.say(&evil.frame()).await;
    assert_eq!(code(&evil.conn).await, Code::Deadline);
    assert!(a.endpoint.peers().is_empty());
    while let Some(event) = a.events.try_recv() {
        assert!(!matches!(event, Event::PeerUp(_)));
    }
}

#[tokio::test]
async fn a_greeting_longer_than_its_limit_is_refused() {
    let world = World::new();
    let a = Agent::start(&world, "a");
    for alpn in [PEER, rpc::ALPN] {
        let conn = by_hand(&world, a.addr, alpn).await;
        let (mut send, _recv) = conn.open_bi().await.unwrap();
        send.write_all(&framed(&vec![1; Limits::default().hello_bytes_max + 1])).await.unwrap();
        assert_eq!(code(&conn).await, Code::FrameTooLarge);
    }
}

/// Who names the key of another node cannot sign for it.
#[tokio::test]
async fn an_impostor_of_a_node_is_refused() {
    let world = World::new();
    let (mut a, mut b) = (Agent::start(&world, "a"), Agent::start(&world, "b"));
    b.endpoint.dial(a.addr, None).await.unwrap();
    a.up().await;
    let evil_key = NodeKey::generate().unwrap().0;
    let mut evil = Evil::new(&world, a.addr).await;
    evil.hello.key = serde_bytes::ByteArray::new(evil_key.public());
    let _streams = evil.say(&evil.frame()).await;
    assert_eq!(code(&evil.conn).await, Code::IdentityMismatch);
    // Nor may it use the name of another.
    let mut evil = Evil::new(&world, a.addr).await;
    evil.hello.name = "b".to_owned();
    let _streams = evil.say(&evil.frame()).await;
    assert_eq!(code(&evil.conn).await, Code::IdentityMismatch);
    // Nor does a Hello recorded on one connection help on another.
    let recorded = evil.frame();
    let evil = Evil::new(&world, a.addr).await;
    let _streams = evil.say(&recorded).await;
    assert_eq!(code(&evil.conn).await, Code::IdentityMismatch);
    a.endpoint.send(b.node, Bytes::from_static(b"undisturbed")).unwrap();
    assert_eq!(b.frame().await.1, "undisturbed");
}

/// The dialler expected somebody else at this address.
#[tokio::test]
async fn another_node_than_the_expected_one_is_no_peer() {
    let world = World::new();
    let (a, mut b) = (Agent::start(&world, "a"), Agent::start(&world, "b"));
    let error = a.endpoint.dial(b.addr, Some(7)).await.unwrap_err();
    assert_eq!(error, DialError::OtherNode { addr: b.addr, expected: 7, found: b.node });
    assert_eq!(b.refused().await.0.code, Code::IdentityMismatch);
    assert!(a.endpoint.peers().is_empty() && b.endpoint.peers().is_empty());
}

#[tokio::test]
async fn a_version_mismatch_names_both_ranges() {
    let world = World::new();
    let mut a = Agent::start(&world, "a");
    let mut evil = Evil::new(&world, a.addr).await;
    (evil.hello.min, evil.hello.max) = (5, 6);
    let _streams = evil.say(&evil.frame()).await;
    let quinn::ConnectionError::ApplicationClosed(close) = soon(evil.conn.closed()).await else {
        panic!("closed otherwise")
    };
    assert_eq!(close.error_code.into_inner(), u64::from(Code::Version.number()));
    let text = String::from_utf8(close.reason.to_vec()).unwrap();
    assert!(text.contains("1..1") && text.contains("5..6"), "{text}");
    assert_eq!(a.refused().await.0.code, Code::Version);

    // Seen from the other end: an agent of another time answers.
    let crypto = Tls::new(&world.agent("later")).unwrap().server(&[PEER], &Verdict::new()).unwrap();
    let crypto = quinn::crypto::rustls::QuicServerConfig::try_from(crypto).unwrap();
    let later = quinn::Endpoint::server(quinn::ServerConfig::with_crypto(Arc::new(crypto)), loopback()).unwrap();
    let addr = later.local_addr().unwrap();
    let answering = tokio::spawn(async move {
        let conn = later.accept().await.unwrap().await.unwrap();
        let _ = conn.accept_bi().await;
        // A terminal escape in the reason must not come through.
        conn.close(quinn::VarInt::from_u32(Code::Version.number()), b"this side speaks 5..6, the other 1..1\x1b[2J");
        conn.closed().await;
    });
    let error = a.endpoint.dial(addr, None).await.unwrap_err();
    assert!(matches!(error, DialError::Version { .. }));
    let text = error.to_string();
    assert!(text.contains("1..1") && text.contains("5..6") && !text.contains('\u{1b}'), "{text}");
    answering.await.unwrap();
}

/// Handshakes are bounded: while all slots are taken by the silent, strangers are turned away, and then served again.
#[tokio::test]
async fn handshake_slots_are_bounded_and_come_back() {
    let world = World::new();
    // Of eight, one address may hold two.
    let limits = Limits { handshakes_max: 8, hello_deadline: Duration::from_millis(500), ..Limits::default() };
    let mut a = Agent::limited(&world, "a", limits);
    let silent = [by_hand(&world, a.addr, PEER).await, by_hand(&world, a.addr, PEER).await];
    assert_eq!(a.endpoint.stats().handshakes, 2);
    let client = RpcClient::new(&world.client(Role::Read, "c"), "test", 0, Limits::default()).unwrap();
    let error = client.connect(a.addr, Duration::from_secs(5)).await.unwrap_err();
    assert_eq!(error.code(), Some(Code::Busy), "{error}");
    assert_eq!(a.refused().await.0.code, Code::Busy);
    for conn in &silent {
        assert_eq!(code(conn).await, Code::Deadline);
    }
    client.connect(a.addr, common::CEILING).await.unwrap();
}

/// The queue to a peer that does not read is bounded, and the caller is told instead of made to wait.
#[tokio::test]
async fn the_queue_to_a_deaf_peer_is_bounded() {
    let world = World::new();
    let limits = Limits { peer_queue_bytes_max: 1 << 20, ..Limits::default() };
    let mut a = Agent::limited(&world, "a", limits);
    let evil = Evil::new(&world, a.addr).await;
    let _streams = evil.greet().await;
    let node = a.up().await.node;
    let frame = Bytes::from(vec![0; 64 * 1024]);
    let mut sent = 0_usize;
    let full = soon(async {
        loop {
            match a.endpoint.send(node, frame.clone()) {
                Ok(()) => sent += 1,
                Err(error) => return error,
            }
            assert!(sent < 10_000, "the queue has no bound");
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(matches!(full, quorate_transport::SendError::Full { max, .. } if max == 1 << 20), "{full}");
}

/// A slow caller makes the network wait; it loses no frame and its queue does not grow.
#[tokio::test]
async fn a_slow_caller_loses_no_frame() {
    let world = World::new();
    let limits = Limits { events_max: 8, ..Limits::default() };
    let mut a = Agent::limited(&world, "a", limits);
    let b = Agent::start(&world, "b");
    b.endpoint.dial(a.addr, None).await.unwrap();
    for number in 0..5_000_u32 {
        b.endpoint.send(a.node, Bytes::copy_from_slice(&number.to_be_bytes())).unwrap();
    }
    for number in 0..5_000_u32 {
        assert_eq!(a.frame().await.1, number.to_be_bytes().as_slice());
    }
}

/// A client's stream with bytes that are no frame dies alone: the connection and its other streams live on.
#[tokio::test]
async fn a_bad_frame_of_a_client_ends_its_stream_only() {
    let world = World::new();
    let mut a = Agent::start(&world, "a");
    let client = RpcClient::new(&world.client(Role::Read, "c"), "test", 0, Limits::default()).unwrap();
    let connection = client.connect(a.addr, common::CEILING).await.unwrap();
    let rpc = |event| match event {
        Event::Rpc(stream) => Some(stream),
        _ => None,
    };
    let mut cut = connection.open().await.unwrap();
    cut.send(vec![Bytes::from_static(b"first")]).await.unwrap();
    let mut served = a.until(rpc).await;
    assert_eq!(served.recv().await.unwrap().unwrap(), "first");
    let (_recv, mut send) = cut.split();
    send.queue(vec![Bytes::from_static(b"never flushed")]).unwrap();
    drop(send);
    // Dropped in the middle of a conversation with something unsent: a reset, never a clean end.
    assert!(matches!(served.recv().await, Err(rpc::RpcError::Reset(Code::GoingAway))));

    let mut fine = connection.open().await.unwrap();
    let over = vec![Bytes::from(vec![0; Limits::default().rpc_frame_bytes_max + 1])];
    assert!(matches!(fine.send(over).await, Err(rpc::RpcError::Length { .. })));
    fine.send(vec![Bytes::from_static(b"ok")]).await.unwrap();
    let mut served = a.until(rpc).await;
    assert_eq!(served.recv().await.unwrap().unwrap(), "ok");
}

/// At one address only the latest start can be alive: an earlier one that speaks again is an echo, a later one is the heir.
#[tokio::test]
async fn at_one_address_the_latest_start_counts() {
    let world = World::new();
    let mut a = Agent::start(&world, "a");
    let port = quinn::Endpoint::client(loopback()).unwrap();
    let (_, stored) = NodeKey::generate().unwrap();
    let start = async |epoch| {
        let conn = by_hand_from(&port, &world, a.addr, PEER).await;
        let mut evil = Evil::on(&world, a.addr, conn, &stored);
        (evil.hello.boot_epoch, evil.hello.boot_id) = (epoch, epoch);
        evil
    };
    let (present, echo, heir) = (start(5).await, start(4).await, start(6).await);
    let _present = present.greet().await;
    assert_eq!(a.up().await.boot_epoch, 5);
    let _echo = echo.say(&echo.frame()).await;
    assert_eq!(code(&echo.conn).await, Code::StaleInstance);
    let _heir = heir.greet().await;
    assert_eq!(code(&present.conn).await, Code::Superseded);
    a.down().await;
    assert_eq!(a.up().await.boot_epoch, 6);
}

/// One of several connections with a peer breaks: the caller hears that something may be lost, and not that the peer is
/// gone. So it does when the bulk connection cannot be dialled.
#[tokio::test]
async fn a_broken_connection_beside_another_is_told() {
    let world = World::new();
    let mut a = Agent::start(&world, "a");
    let (_, stored) = NodeKey::generate().unwrap();
    let node = NodeKey::load(&stored).unwrap().node();
    let port = quinn::Endpoint::client(loopback()).unwrap();
    let connect = async |alpn| {
        let conn = by_hand_from(&port, &world, a.addr, alpn).await;
        let evil = Evil::on(&world, a.addr, conn, &stored);
        let streams = evil.greet().await;
        (evil, streams)
    };
    let _peer = connect(PEER).await;
    let mut bulk = connect(b"quorate-bulk/1").await;
    assert_eq!(a.up().await.node, node);
    let lost = |event| match event {
        Event::FramesLost { node, bulk } => Some((node, bulk)),
        Event::PeerDown { reason, .. } => panic!("the peer is not gone: {reason}"),
        _ => None,
    };
    // It is in the table when a frame came on it.
    bulk.1.0.write_all(&framed(b"here")).await.unwrap();
    a.until(|event| matches!(event, Event::BulkFrame { .. }).then_some(())).await;
    bulk.0.conn.close(quinn::VarInt::from_u32(Code::GoingAway.number()), b"");
    assert_eq!(a.until(lost).await, (node, true));
    // It listens nowhere, so that no bulk connection can be dialled: what waited for one is lost.
    a.endpoint.send_bulk(node, &[Bytes::from_static(b"for nobody")]).unwrap();
    assert_eq!(a.until(lost).await, (node, true));
    assert_eq!(a.endpoint.peers().len(), 1);
}
