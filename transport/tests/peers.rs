//! Stories of agents that greet, talk, part and come back.
#![allow(clippy::unwrap_used)]

mod common;

use bytes::Bytes;
use common::{Agent, Disk, World, loopback, soon};
use quorate_certs::Role;
use quorate_transport::rpc::RpcClient;
use quorate_transport::{Code, DialError, Event, Limits, Reason, SendError};

/// One connection carries frames both ways, whoever dialled it.
#[tokio::test]
async fn frames_flow_both_ways_on_one_connection() {
    let world = World::new();
    let (mut a, mut b) = (Agent::start(&world, "a"), Agent::start(&world, "b"));
    let info = a.endpoint.dial(b.addr, None).await.unwrap();
    assert_eq!((info.node, info.name.as_str(), info.dialled), (b.node, "b", true));
    assert_eq!(info.observed_self, Some(a.addr));
    let seen = b.up().await;
    assert_eq!((seen.node, seen.remote, seen.dialled), (a.node, a.addr, false));
    assert_eq!(seen.observed_self, Some(b.addr));

    a.endpoint.send(b.node, Bytes::from_static(b"there")).unwrap();
    assert_eq!(b.frame().await, (a.node, Bytes::from_static(b"there")));
    let parts = [Bytes::from_static(b"and "), Bytes::from(vec![b'x'; 100_000]), Bytes::from_static(b" back")];
    b.endpoint.send_parts(a.node, &parts).unwrap();
    let (from, frame) = a.frame().await;
    assert_eq!((from, frame.len()), (b.node, 100_009));
    assert!(frame.starts_with(b"and ") && frame.ends_with(b" back"));
    assert!(a.endpoint.rtt(b.node).is_some());
    assert_eq!(a.endpoint.stats().links.len(), 1);
}

#[tokio::test]
async fn a_client_talks_on_its_stream() {
    let world = World::new();
    let mut a = Agent::start(&world, "a");
    let client = RpcClient::new(&world.client(Role::Append, "ci"), "test", 0, Limits::default()).unwrap();
    let connection = client.connect(a.addr, common::CEILING).await.unwrap();
    assert_eq!(connection.welcome().node, a.node);
    assert_eq!(connection.who().name().as_str(), "a");
    let mut stream = connection.open().await.unwrap();
    stream.send(vec![Bytes::from_static(b"ask")]).await.unwrap();
    let mut served = a
        .until(|event| match event {
            Event::Rpc(stream) => Some(stream),
            _ => None,
        })
        .await;
    assert_eq!(served.who, *world.client(Role::Append, "ci").subject());
    assert_eq!(served.recv().await.unwrap().unwrap(), "ask");
    served.send(vec![Bytes::from_static(b"ans"), Bytes::from_static(b"wer")]).await.unwrap();
    served.finish().await.unwrap();
    assert_eq!(stream.recv().await.unwrap().unwrap(), "answer");
    assert_eq!(stream.recv().await.unwrap(), None);
}

/// `keep` brings the connection back after the peer died and came again, and the peer learns of it too.
#[tokio::test]
async fn a_kept_peer_is_redialled_after_a_restart() {
    let world = World::new();
    let mut a = Agent::start(&world, "a");
    let mut disk = Disk::new("b");
    let b = Agent::boot(&world, &mut disk, loopback());
    let addr = b.addr;
    a.endpoint.keep(b.node, addr);
    assert_eq!(a.up().await.boot_epoch, 1);
    b.endpoint.close(&Code::GoingAway.into()).await;
    assert!(matches!(a.down().await, Reason::Remote(why) if why.code == Code::GoingAway));
    drop(b);
    let _b = soon(async {
        loop {
            // The old socket closes when its tasks have ended.
            if std::net::UdpSocket::bind(addr).is_ok() {
                return Agent::boot(&world, &mut disk, addr);
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(a.up().await.boot_epoch, 2);
}

#[tokio::test]
async fn nobody_answers_is_said_as_that() {
    let world = World::new();
    let a = Agent::limited(
        &world,
        "a",
        Limits { dial_deadline: std::time::Duration::from_millis(300), ..Limits::default() },
    );
    // Bound and silent: nobody else can take the port meanwhile.
    let silent = std::net::UdpSocket::bind(loopback()).unwrap();
    let error = a.endpoint.dial(silent.local_addr().unwrap(), None).await.unwrap_err();
    assert!(matches!(error, DialError::NoAnswer { .. }), "{error}");
    assert_eq!(a.endpoint.send(1, Bytes::from_static(b"x")), Err(SendError::NotConnected));
    assert_eq!(a.endpoint.dial(a.addr, None).await.unwrap_err(), DialError::Myself { addr: a.addr });
}
