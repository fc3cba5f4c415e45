//! Lengths that lie, frames that never end, kinds that nobody knows: on each protocol, before and after the greeting.
//! (Rows 11 and 12; the first stories of this kind are in `manners.rs`.)

use std::time::Duration;

use quorate_certs::Role;
use quorate_transport::rpc::{self, RpcClient, RpcError};
use quorate_transport::{Code, Limits};

use crate::by_hand::{Evil, PEER, by_hand, code, framed};
use crate::bystanders::Bystanders;
use crate::common::{World, soon};

const BULK: &[u8] = b"quorate-bulk/1";

/// Before the greeting: zero, the limit and one more, 4 GiB, cut off, an unknown kind, a map that is none, and bytes
/// behind a right Hello. Each is closed with its code on each protocol, and no byte of ours came before that.
#[tokio::test]
async fn first_frames_that_are_none_are_refused_on_each_protocol() {
    let world = World::new();
    let pair = Bystanders::start(&world, Limits::default()).await;
    let max = Limits::default().hello_bytes_max;
    let length = |bytes: usize| u32::try_from(bytes).unwrap().to_be_bytes().to_vec();
    let cases: [(&str, Vec<u8>, bool, Code); 8] = [
        ("a length of zero", length(0), false, Code::Malformed),
        ("the limit and one", length(max + 1), false, Code::FrameTooLarge),
        ("4 GiB", length(u32::MAX as usize), false, Code::FrameTooLarge),
        ("the limit, of noise", framed(&vec![0xd1; max]), false, Code::Malformed),
        ("cut off in the length", vec![0, 0], true, Code::Malformed),
        ("cut off in the body", framed(&[1; 64])[..20].to_vec(), true, Code::Malformed),
        ("an unknown kind", framed(&[9, 0x80]), false, Code::Malformed),
        ("an array of 4 billion", framed(&[1, 0xdd, 0xff, 0xff, 0xff, 0xff]), false, Code::Malformed),
    ];
    for alpn in [PEER, BULK, rpc::ALPN] {
        for (what, bytes, ends, expected) in &cases {
            let conn = by_hand(&world, pair.addr, alpn).await;
            let (mut send, mut recv) = conn.open_bi().await.unwrap();
            send.write_all(bytes).await.unwrap();
            if *ends {
                send.finish().unwrap();
            }
            let heard = soon(recv.read_to_end(1 << 20)).await;
            assert!(heard.is_err(), "{what}: heard {heard:?}");
            let closed = code(&conn).await;
            println!("{} {what}: {closed}", String::from_utf8_lossy(alpn));
            assert_eq!(closed, *expected, "{what}");
        }
        // A first stream that only goes one way cannot even be opened.
        let conn = by_hand(&world, pair.addr, alpn).await;
        assert!(tokio::time::timeout(Duration::from_millis(50), conn.open_uni()).await.is_err());
    }
    // What follows a right Hello must be Ready.
    let evil = Evil::new(&world, pair.addr).await;
    let _streams = evil.say(&[evil.frame(), framed(b"trailing")].concat()).await;
    assert_eq!(code(&evil.conn).await, Code::Malformed);
    assert_eq!(pair.others(), 0);
    assert_eq!(pair.endpoint.stats().frame_bytes, 0);
    pair.end().await;
}

/// A greeted client: a bad frame costs it the stream, with the code, and nothing of what it promised is kept.
#[tokio::test]
async fn a_clients_frame_that_is_none_ends_its_stream() {
    let world = World::new();
    let mut pair = Bystanders::start(&world, Limits::default()).await;
    let conn = greeted_client(&world, pair.addr).await;
    let cap = Limits::default().rpc_frame_bytes_max;
    let length = |bytes: usize| u32::try_from(bytes).unwrap().to_be_bytes().to_vec();
    for (bytes, ends, expected) in [
        (length(0), false, Code::Malformed),
        (length(cap + 1), false, Code::FrameTooLarge),
        (length(u32::MAX as usize), false, Code::FrameTooLarge),
        (framed(b"cut off")[..6].to_vec(), true, Code::Malformed),
    ] {
        let (mut send, _recv) = conn.open_bi().await.unwrap();
        send.write_all(&bytes).await.unwrap();
        if ends {
            send.finish().unwrap();
        }
        let mut stream = pair.streams.recv().await.unwrap();
        let Err(RpcError::Frame(why)) = soon(stream.recv()).await else { panic!("a frame of {bytes:?}") };
        assert_eq!(why.code, expected);
        if !ends {
            let stopped = soon(send.stopped()).await.unwrap().unwrap();
            assert_eq!(Code::from_number(stopped.into_inner()), expected);
        }
    }
    // The largest legal one passes.
    let (mut send, _recv) = conn.open_bi().await.unwrap();
    let whole = framed(&vec![7; cap]);
    let writing = tokio::spawn(async move { send.write_all(&whole).await });
    let mut stream = pair.streams.recv().await.unwrap();
    assert_eq!(soon(stream.recv()).await.unwrap().unwrap().len(), cap);
    writing.await.unwrap().unwrap();
    drop(stream);
    pair.until("nothing is held", || pair.endpoint.stats().guest_frame_bytes == 0).await;
    pair.end().await;
}

/// A promise of the longest frame and then a byte now and then: on the protocols of agents the connection ends by the
/// deadline of the frame, on a client's the stream; what was set aside for the promise comes back.
#[tokio::test]
async fn a_slow_loris_is_ended_by_the_deadline_of_its_frame() {
    let world = World::new();
    let limits = Limits { peer_frame_bytes_max: 128 << 10, rpc_frame_bytes_max: 128 << 10, ..Limits::default() };
    let mut pair = Bystanders::start(&world, limits).await;
    let promise = (128_u32 << 10).to_be_bytes();
    let evil = Evil::new(&world, pair.addr).await;
    let (mut peer_send, _recv) = evil.greet().await;
    let client = greeted_client(&world, pair.addr).await;
    let (mut client_send, _recv) = client.open_bi().await.unwrap();
    peer_send.write_all(&promise).await.unwrap();
    client_send.write_all(&promise).await.unwrap();
    let mut stream = pair.streams.recv().await.unwrap();
    let reading = tokio::spawn(async move { stream.recv().await });
    let drip = async {
        loop {
            let _ = (peer_send.write_all(b"x").await, client_send.write_all(b"x").await);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let ended = async {
        let (peer, stream) = (code(&evil.conn).await, soon(reading).await.unwrap());
        assert_eq!(peer, Code::Deadline);
        assert!(matches!(&stream, Err(RpcError::Frame(why)) if why.code == Code::Deadline), "{stream:?}");
    };
    tokio::select! {
        () = ended => {}
        () = drip => {}
    }
    pair.until("nothing is held", || {
        let stats = pair.endpoint.stats();
        stats.frame_bytes == 0 && stats.guest_frame_bytes == 0
    })
    .await;
    assert!(client.close_reason().is_none(), "the client's connection lives on");
    pair.end().await;
}

/// One client promises more than its part of the budget; another's large frame still gets through.
#[tokio::test]
async fn the_promises_of_one_client_do_not_use_up_the_budget() {
    let world = World::new();
    let limits = Limits {
        rpc_frame_bytes_max: 256 << 10,
        client_frames_bytes_max: 16 << 20,
        received_bytes_max: 24 << 20,
        peer_frame_bytes_max: 1 << 20,
        bulk_frame_bytes_max: 1 << 20,
        ..Limits::default()
    };
    let mut pair = Bystanders::start(&world, limits.clone()).await;
    let greedy = greeted_client(&world, pair.addr).await;
    let mut promised = Vec::new();
    for _ in 0..60 {
        let (mut send, recv) = greedy.open_bi().await.unwrap();
        send.write_all(&(256_u32 << 10).to_be_bytes()).await.unwrap();
        let mut stream = pair.streams.recv().await.unwrap();
        promised.push((send, recv, tokio::spawn(async move { stream.recv().await })));
    }
    pair.until("the promises are noted", || pair.endpoint.stats().guest_frame_bytes >= 15 << 20).await;
    assert!(pair.endpoint.stats().guest_frame_bytes <= 16 << 20);
    let modest = RpcClient::new(&world.client(Role::Append, "modest"), "test", 0, limits).unwrap();
    let connection = modest.connect(pair.addr, crate::common::CEILING).await.unwrap();
    let mut asking = connection.open().await.unwrap();
    asking.send(vec![vec![1; 200 << 10].into()]).await.unwrap();
    let mut asked = pair.streams.recv().await.unwrap();
    assert_eq!(soon(asked.recv()).await.unwrap().unwrap().len(), 200 << 10);
    drop(promised);
    pair.end().await;
}

/// A client's connection that has greeted by hand.
pub async fn greeted_client(world: &World, agent: std::net::SocketAddr) -> quinn::Connection {
    let conn = by_hand(world, agent, rpc::ALPN).await;
    greet_as_client(&conn).await;
    conn
}

pub async fn greet_as_client(conn: &quinn::Connection) {
    let (mut send, mut recv) = conn.open_bi().await.unwrap();
    #[derive(serde::Serialize)]
    struct Hello {
        min: u16,
        max: u16,
        version: &'static str,
        features: u64,
    }
    let mut body = vec![4];
    rmp_serde::encode::write_named(&mut body, &Hello { min: 1, max: 1, version: "evil", features: 0 }).unwrap();
    send.write_all(&framed(&body)).await.unwrap();
    send.finish().unwrap();
    let welcome = soon(recv.read_to_end(1 << 16)).await.unwrap();
    assert_eq!(welcome[4], 5, "a Welcome");
}

/// Streams of a peer whose first byte nobody knows are given up alone; the connection lives on.
#[tokio::test]
async fn an_unknown_kind_of_stream_is_given_up_alone() {
    let world = World::new();
    let pair = Bystanders::start(&world, Limits::default()).await;
    let evil = Evil::new(&world, pair.addr).await;
    let _streams = evil.greet().await;
    for kind in [0, 3, 9, 0xff] {
        let (mut send, mut recv) = evil.conn.open_bi().await.unwrap();
        send.write_all(&[kind, 1, 2, 3]).await.unwrap();
        let error = soon(recv.read_to_end(10)).await.unwrap_err();
        let quinn::ReadToEndError::Read(quinn::ReadError::Reset(reset)) = error else { panic!("{error}") };
        assert_eq!(Code::from_number(reset.into_inner()), Code::Malformed, "kind {kind}");
    }
    // A probe on the same connection is answered.
    let (mut send, mut recv) = evil.conn.open_bi().await.unwrap();
    send.write_all(&[2]).await.unwrap();
    assert_eq!(soon(recv.read_to_end(10)).await.unwrap(), [2]);
    pair.end().await;
}
