//! More connections than there is room for: of one client, of all clients, of one agent's certificate.

use bytes::Bytes;
use quorate_certs::Role;
use quorate_transport::rpc::{RpcClient, RpcConnection};
use quorate_transport::{Code, DialError, Limits};

use crate::by_hand::{Evil, code};
use crate::bystanders::Bystanders;
use crate::common::{Agent, CEILING, World, soon};

async fn connect(client: &RpcClient, pair: &Bystanders) -> Result<RpcConnection, DialError> {
    client.connect(pair.addr, CEILING).await
}

/// Clients take every seat that they can have; agents still come in, and go on.
#[tokio::test]
async fn clients_never_lock_agents_out() {
    let world = World::new();
    let limits = Limits { connections_max: 12, connections_reserved: 6, ..Limits::default() };
    let pair = Bystanders::start(&world, limits).await;
    let mut held = Vec::new();
    let clients: Vec<_> = (0..4)
        .map(|n| RpcClient::new(&world.client(Role::Read, &format!("c{n}")), "test", 0, Limits::default()).unwrap())
        .collect();
    let mut busy = 0;
    for client in clients.iter().cycle().take(16) {
        match connect(client, &pair).await {
            Ok(connection) => held.push(connection),
            Err(error) => {
                assert_eq!(error.code(), Some(Code::Busy), "{error}");
                busy += 1;
            }
        }
    }
    assert_eq!((held.len(), busy), (6, 10));
    assert_eq!(pair.endpoint.stats().guests, 6);
    // The seats that are left are for agents.
    pair.until("those who were refused are gone", || pair.endpoint.stats().connections <= 8).await;
    let late = Agent::start(&world, "late");
    late.endpoint.dial(pair.addr, None).await.unwrap();
    late.endpoint.send(pair.endpoint.node(), Bytes::from_static(b"in")).unwrap();
    drop(held);
    pair.until("the seats come back", || pair.endpoint.stats().guests == 0).await;
    connect(&clients[0], &pair).await.unwrap();
    pair.end().await;
}

/// However many connections a client holds, the sum of its windows is bounded, and the next client gets a good one.
#[tokio::test]
async fn the_windows_of_all_clients_have_a_sum() {
    let world = World::new();
    let limits = Limits::default();
    let pair = Bystanders::start(&world, limits.clone()).await;
    let greedy = RpcClient::new(&world.client(Role::Read, "greedy"), "test", 0, Limits::default()).unwrap();
    let mut held = Vec::new();
    for _ in 0..60 {
        held.push(connect(&greedy, &pair).await.unwrap());
    }
    let granted = pair.endpoint.stats().guest_window_bytes;
    println!("60 connections of one client may have {granted} bytes under way");
    assert!(granted <= limits.client_windows_bytes_max + 60 * limits.guest_window_bytes_min);
    assert!(granted >= 60 * limits.guest_window_bytes_min);
    let modest = RpcClient::new(&world.client(Role::Read, "modest"), "test", 0, Limits::default()).unwrap();
    let one = connect(&modest, &pair).await.unwrap();
    let more = pair.endpoint.stats().guest_window_bytes - granted;
    assert!(more >= 1 << 20, "the next one gets {more}");
    drop((held, one));
    pair.until("the windows come back", || pair.endpoint.stats().guest_window_bytes == 0).await;
    pair.end().await;
}

/// One agent's certificate and as many node keys as one likes: a few connections, and then no more.
#[tokio::test]
async fn one_certificate_is_not_many_agents() {
    let world = World::new();
    let limits = Limits { connections_per_agent_max: 5, ..Limits::default() };
    let pair = Bystanders::start(&world, limits).await;
    // The honest one holds a seat under its own name.
    let mut held = Vec::new();
    for _ in 0..5 {
        let evil = Evil::new(&world, pair.addr).await;
        let streams = evil.greet().await;
        held.push((evil, streams));
    }
    pair.until("five of it are peers", || pair.endpoint.peers().len() == 6).await;
    let sixth = Evil::new(&world, pair.addr).await;
    assert_eq!(code(&sixth.conn).await, Code::Busy);
    let honest = Agent::start(&world, "late");
    honest.endpoint.dial(pair.addr, None).await.unwrap();
    drop(held);
    let seats = || pair.endpoint.stats().agents;
    pair.until("the seats come back", || seats() == 2).await;
    let again = Evil::new(&world, pair.addr).await;
    let _streams = soon(again.greet()).await;
    pair.end().await;
}
