//! Stories of certificates that end while connections live: both kinds of connection are cut, with the reason, and a
//! renewed certificate is welcome at once.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{Agent, Disk, World, loopback, options, soon};
use quorate_certs::{AgentName, Date, Identity, Role, Subject, Validity};
use quorate_transport::rpc::RpcClient;
use quorate_transport::{Code, Limits, Reason};

/// How long the short certificates of these stories live, in seconds: enough to connect on a slow machine.
const SHORT_SECONDS: i64 = 4;

fn short() -> Validity {
    let now = Date::now();
    Validity { not_before: now.plus_days(-1), not_after: now.plus_seconds(SHORT_SECONDS) }
}

fn short_agent(world: &World, name: &str) -> Arc<Identity> {
    world.identity(&Subject::agent(world.cluster, AgentName::new(name).unwrap()), short())
}

/// A peer whose certificate ends is cut by the other side with the code for it, both say why, and its frames count no
/// more; with a renewed certificate the two are connected again without anybody's restart.
#[tokio::test]
async fn a_peer_is_cut_when_its_certificate_ends() {
    let world = World::new();
    let mut good = Agent::start(&world, "good");
    let mut disk = Disk::new("late");
    let mut late = Agent::with(options(short_agent(&world, "late"), &mut disk, loopback()));
    let ends = Date::now().plus_seconds(SHORT_SECONDS);
    late.endpoint.keep(good.node, good.addr);
    good.up().await;
    late.up().await;

    let connected = Instant::now();
    let (here, there) = (good.down().await, late.down().await);
    println!("seen: cut {:?} after they connected; {here}; {there}", connected.elapsed());
    let Reason::Local(why) = here else { panic!("{here}") };
    assert_eq!(why.code, Code::CertExpired);
    assert!(why.text.contains("expired at"), "{why}");
    let Reason::Remote(why) = there else { panic!("{there}") };
    assert_eq!(why.code, Code::CertExpired);
    assert!(Date::now() > ends.plus_seconds(-1), "not a second before its time");

    // It is kept, so it is dialled again and again: refused in the handshake now, until it is renewed.
    let error = good.endpoint.dial(late.addr, None).await.unwrap_err();
    assert!(error.refusal().is_some_and(|why| why.to_string().contains("expired")), "{error}");
    late.endpoint.set_identity(&world.agent("late")).unwrap();
    assert_eq!(good.up().await.node, late.node);
    late.up().await;
}

/// A peer that renewed its certificate in time is cut from the connection that the old one vouched for, and is back at
/// once: the caller sees a blink and no more.
#[tokio::test]
async fn a_peer_that_renewed_in_time_only_blinks() {
    let world = World::new();
    let mut good = Agent::start(&world, "good");
    let mut disk = Disk::new("late");
    let late = Agent::with(options(short_agent(&world, "late"), &mut disk, loopback()));
    late.endpoint.keep(good.node, good.addr);
    good.up().await;
    late.endpoint.set_identity(&world.agent("late")).unwrap();
    assert!(matches!(good.down().await, Reason::Local(why) if why.code == Code::CertExpired));
    let cut = Instant::now();
    good.up().await;
    println!("seen: back after {:?}", cut.elapsed());
}

/// A client's connection ends with its certificate, however busy it is.
#[tokio::test]
async fn a_client_is_cut_when_its_certificate_ends() {
    let world = World::new();
    let mut agent = Agent::start(&world, "agent");
    let subject = Subject::client(world.cluster, Role::Admin, AgentName::new("late").unwrap());
    let identity = world.identity(&subject, short());
    let client = RpcClient::new(&identity, "test", 0, Limits::default()).unwrap();
    let connection = client.connect(agent.addr, Duration::from_secs(3)).await.unwrap();
    let (why, _) = agent.refused().await;
    assert_eq!(why.code, Code::CertExpired);
    let reason = soon(connection.closed()).await;
    println!("seen: {reason}");
    assert!(matches!(&reason, Reason::Remote(why) if why.code == Code::CertExpired), "{reason}");
    let error = client.connect(agent.addr, Duration::from_secs(3)).await.unwrap_err();
    assert!(error.to_string().contains("expired"), "{error}");
}
