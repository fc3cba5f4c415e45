//! Datagrams where they do not belong, too many of them, too long ones.

use std::time::Duration;

use bytes::Bytes;
use quorate_transport::rpc;
use quorate_transport::{Code, Limits, SendError};

use crate::by_hand::{Evil, by_hand, code};
use crate::bystanders::Bystanders;
use crate::common::{Agent, World};
use crate::frames::greeted_client;

/// Only `quorate-peer/1` has datagrams: elsewhere one ends the connection.
#[tokio::test]
async fn a_datagram_on_another_protocol_ends_the_connection() {
    let world = World::new();
    let pair = Bystanders::start(&world, Limits::default()).await;
    let client = greeted_client(&world, pair.addr).await;
    client.send_datagram(Bytes::from_static(b"news")).unwrap();
    assert_eq!(code(&client).await, Code::Malformed);

    let bulk = by_hand(&world, pair.addr, b"quorate-bulk/1").await;
    let (_, stored) = quorate_transport::NodeKey::generate().unwrap();
    let evil = Evil::on(&world, pair.addr, bulk, &stored);
    let _streams = evil.greet().await;
    evil.conn.send_datagram(Bytes::from_static(b"news")).unwrap();
    assert_eq!(code(&evil.conn).await, Code::Malformed);

    // Before the greeting they cost their buffer until the deadline, and are never handed on.
    let rude = by_hand(&world, pair.addr, rpc::ALPN).await;
    for _ in 0..100 {
        rude.send_datagram(Bytes::from_static(b"news")).unwrap();
    }
    assert_eq!(code(&rude).await, Code::Deadline);
    assert_eq!(pair.datagrams(), 0);
    pair.end().await;
}

/// A peer that sends more datagrams than anybody can take: they are dropped, its frames and those of others are not.
#[tokio::test]
async fn a_flood_of_datagrams_is_dropped() {
    let world = World::new();
    let limits = Limits { events_max: 64, ..Limits::default() };
    let pair = Bystanders::start(&world, limits).await;
    let evil = Evil::new(&world, pair.addr).await;
    let _streams = evil.greet().await;
    let mut sent = 0_u64;
    for round in 0..200 {
        for _ in 0..100 {
            let bytes = Bytes::from(vec![round as u8; 1_000]);
            if evil.conn.send_datagram(bytes).is_ok() {
                sent += 1;
            }
        }
        tokio::task::yield_now().await;
    }
    pair.beats(20).await;
    let dropped = pair.endpoint.stats().datagrams_dropped;
    println!("{sent} datagrams sent, {} handed on, {dropped} dropped by the endpoint", pair.datagrams());
    assert!(pair.datagrams() + dropped <= sent);
    assert!(evil.conn.close_reason().is_none());
    pair.end().await;
}

/// One that is too long is refused where it would be sent; the longest that always fits arrives.
#[tokio::test]
async fn a_datagram_that_is_too_long_is_refused_here() {
    let world = World::new();
    let pair = Bystanders::start(&world, Limits::default()).await;
    let late = Agent::start(&world, "late");
    late.endpoint.dial(pair.addr, None).await.unwrap();
    let node = pair.endpoint.node();
    let error = late.endpoint.datagram(node, Bytes::from(vec![0; 100_000])).unwrap_err();
    assert!(matches!(error, SendError::TooLarge { bytes: 100_000, .. }), "{error}");
    let arrived = async {
        loop {
            late.endpoint.datagram(node, Bytes::from(vec![0; 1_150])).unwrap();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        () = pair.until("it arrives", || pair.datagrams() > 0) => {}
        () = arrived => {}
    }
    pair.end().await;
}
