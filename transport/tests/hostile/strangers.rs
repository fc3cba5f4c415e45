//! Those who have no certificate, or never get as far as showing one: half-open handshakes, forged addresses, floods.
//! (Rows 12, 14 and 15; rows 1 to 6 are in `tests/trust.rs`.)

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use quorate_certs::{Role, Tls, Verdict};
use quorate_transport::rpc::RpcClient;
use quorate_transport::{Code, Endpoint, Limits};

use crate::by_hand::{PEER, code};
use crate::bystanders::Bystanders;
use crate::common::{Agent, Disk, World, options, soon};
use crate::raw::{Forger, Knocker};

/// On IPv4, so that the loopback has many addresses.
fn v4(host: u8) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::new(127, 0, 0, host), 0))
}

pub fn agent_at(world: &World, name: &str, host: u8, limits: Limits) -> Agent {
    let mut disk = Disk::new(name);
    let mut options = options(world.agent(name), &mut disk, v4(host));
    options.limits = Limits { refusals_quiet: Duration::ZERO, ..limits };
    Agent::with(options)
}

/// A configuration that trusts this cluster and shows nothing.
pub fn nobody(world: &World, alpn: &[u8]) -> rustls::ClientConfig {
    let mut tls = rustls::ClientConfig::builder_with_provider(quorate_certs::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(world.agent("x").roots())
        .with_no_client_auth();
    tls.alpn_protocols = vec![alpn.to_vec()];
    tls
}

fn port_at(host: u8) -> quinn::Endpoint {
    quinn::Endpoint::client(v4(host)).unwrap()
}

fn dialling(tls: rustls::ClientConfig) -> quinn::ClientConfig {
    quinn::ClientConfig::new(Arc::new(quinn::crypto::rustls::QuicClientConfig::try_from(tls).unwrap()))
}

/// A thousand handshakes are begun and never answered, each kept alive with PINGs in first packets. They hold a quarter
/// of the slots and no more; the others must prove their address, which they cannot; agents and clients get in all the
/// while; each one ends by its deadline, and then nothing of it is left.
#[tokio::test]
async fn half_open_handshakes_hold_a_quarter_and_end() {
    let world = World::new();
    let limits = Limits { handshakes_max: 16, handshake_deadline: Duration::from_millis(600), ..Limits::default() };
    let share = limits.handshakes_max / 4;
    let attacked = agent_at(&world, "attacked", 1, limits);
    let pair = Bystanders::of(attacked, agent_at(&world, "honest", 10, Limits::default())).await;
    let mut knocker = Knocker::new(nobody(&world, PEER));
    let mut forger = Forger::at(2);
    let mut held = 0;
    for _ in 0..50 {
        for _ in 0..20 {
            let initial = knocker.initial(pair.addr, &world.cluster.agent_dns());
            forger.send(pair.addr, &initial);
        }
        for ping in &knocker.pings(40) {
            forger.send(pair.addr, ping);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
        held = held.max(pair.endpoint.stats().handshakes);
        forger.drain();
    }
    assert!((1..=share).contains(&held), "{held} slots were held");
    assert!(pair.endpoint.stats().retries > 100, "{:?}", pair.endpoint.stats());
    // While they are held, another agent and a client come in at once.
    let late = agent_at(&world, "late", 11, Limits::default());
    late.endpoint.dial(pair.addr, None).await.unwrap();
    let client = RpcClient::new(&world.client(Role::Read, "c"), "test", 0, Limits::default()).unwrap();
    client.connect(pair.addr, Duration::from_secs(5)).await.unwrap();
    pair.until("the slots come back", || pair.endpoint.stats().handshakes == 0).await;
    forger.drain();
    println!(
        "sent {} bytes, heard {} in {} packets; {:?}",
        forger.sent,
        forger.received,
        forger.replies,
        pair.refused()
    );
    assert!(forger.received <= 3 * forger.sent);
    assert!(pair.refused().contains_key(&Code::Deadline));
    pair.until("the connections are gone", || pair.endpoint.stats().connections <= 4).await;
    pair.end().await;
}

/// First packets under forged addresses, also those of a real peer: they are told to prove themselves, nothing is
/// amplified, and the real peer at that very address gets in at once.
#[tokio::test]
async fn a_forged_address_locks_nobody_out() {
    let world = World::new();
    let limits = Limits { handshakes_max: 16, ..Limits::default() };
    let pair =
        Bystanders::of(agent_at(&world, "attacked", 1, limits), agent_at(&world, "honest", 10, Limits::default()))
            .await;
    let victim = agent_at(&world, "victim", 3, Limits::default());
    let mut knocker = Knocker::new(nobody(&world, PEER));
    let mut forgers: Vec<Forger> = (2..=9).map(Forger::at).collect();
    for round in 0..40 {
        for forger in &mut forgers {
            for _ in 0..4 {
                forger.send(pair.addr, &knocker.initial(pair.addr, &world.cluster.agent_dns()));
            }
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
        if round == 30 {
            let begun = Instant::now();
            victim.endpoint.dial(pair.addr, None).await.unwrap();
            println!("the owner of a forged address got in after {:?}", begun.elapsed());
        }
    }
    pair.until("strangers are told to prove themselves", || pair.endpoint.stats().retries > 500).await;
    for forger in &mut forgers {
        forger.drain();
        assert!(forger.received <= 3 * forger.sent, "{}: {} for {}", forger.ip(), forger.received, forger.sent);
    }
    let (sent, received) = forgers.iter().fold((0, 0), |(s, r), forger| (s + forger.sent, r + forger.received));
    println!("{sent} bytes sent under eight addresses, {received} came back");
    // Nobody was refused by name on the word of a forger.
    assert!(!pair.refused().contains_key(&Code::Busy), "{:?}", pair.refused());
    pair.end().await;
}

/// One who proves its address, and opens as many connections as it can, gets its share: the next address gets in.
#[tokio::test]
async fn one_proven_address_gets_its_share_and_no_more() {
    let world = World::new();
    let limits = Limits { handshakes_max: 16, hello_deadline: Duration::from_secs(3), ..Limits::default() };
    let pair =
        Bystanders::of(agent_at(&world, "attacked", 1, limits), agent_at(&world, "honest", 10, Limits::default()))
            .await;
    let port = port_at(2);
    let evil = Tls::new(&world.agent("evil")).unwrap();
    // With a good certificate, so that each holds its slot until the deadline of the greeting.
    let silent: Vec<_> = (0..60)
        .map(|_| {
            let config = dialling(evil.client(PEER, &Verdict::new()).unwrap());
            port.connect_with(config, pair.addr, &world.cluster.agent_dns()).unwrap()
        })
        .map(|connecting| tokio::spawn(async move { soon(connecting).await }))
        .collect();
    let mut connected = Vec::new();
    let mut turned_away = 0;
    for task in silent {
        match task.await.unwrap() {
            Ok(conn) if conn.close_reason().is_none() => connected.push(conn),
            _ => turned_away += 1,
        }
    }
    // Four before the address was asked for at most, and then its quarter.
    assert!(pair.endpoint.stats().handshakes <= 8, "{:?}", pair.endpoint.stats());
    assert!(turned_away >= 52, "{turned_away} of 60 were turned away");
    let begun = Instant::now();
    let late = agent_at(&world, "late", 3, Limits::default());
    late.endpoint.dial(pair.addr, None).await.unwrap();
    println!("{turned_away} of 60 turned away; another address got in after {:?}", begun.elapsed());
    for conn in &connected {
        assert!(matches!(code(conn).await, Code::Deadline | Code::Busy));
    }
    pair.until("the slots come back", || pair.endpoint.stats().handshakes == 0).await;
    pair.end().await;
}

/// Handshakes that fail quickly are a flood as well: they are bounded by a rate, and others keep coming in.
#[tokio::test]
async fn a_flood_of_failing_handshakes_is_bounded_by_a_rate() {
    let world = World::new();
    let limits = Limits { handshakes_per_address_per_second: 4, ..Limits::default() };
    let burst = 16;
    let pair =
        Bystanders::of(agent_at(&world, "attacked", 1, limits), agent_at(&world, "honest", 10, Limits::default()))
            .await;
    let (port, config, begun) = (port_at(2), dialling(nobody(&world, PEER)), Instant::now());
    let (mut judged, mut busy) = (0_u64, 0);
    while busy < 20 && begun.elapsed() < crate::common::CEILING {
        let name = world.cluster.agent_dns();
        let together: Vec<_> = (0..12)
            .map(|_| port.connect_with(config.clone(), pair.addr, &name).unwrap())
            .map(|connecting| {
                tokio::spawn(async move {
                    match soon(connecting).await {
                        Ok(conn) => soon(conn.closed()).await,
                        Err(error) => error,
                    }
                })
            })
            .collect();
        for one in together {
            match one.await.unwrap() {
                quinn::ConnectionError::ConnectionClosed(close) if u64::from(close.error_code) == 0x02 => busy += 1,
                _ => judged += 1,
            }
        }
    }
    // Those that came before the address was asked for and their rate, the burst, and the rate.
    let seconds = begun.elapsed().as_secs() + 1;
    println!("{judged} were judged and {busy} turned away within {seconds} s; {:?}", pair.refused());
    assert!(judged <= 64 + 16 * seconds + burst + 4 * seconds, "{judged} handshakes were made");
    assert!(busy > 0);
    let late = agent_at(&world, "late", 3, Limits::default());
    late.endpoint.dial(pair.addr, None).await.unwrap();
    pair.end().await;
}

/// Whatever is refused, the log gets one line of each kind and source in ten seconds, and the number of the others.
#[tokio::test]
async fn a_flood_of_refusals_is_one_line() {
    let world = World::new();
    let mut disk = Disk::new("attacked");
    let attacked = Agent::with(options_quiet(&world, &mut disk));
    let pair = Bystanders::of(attacked, agent_at(&world, "honest", 10, Limits::default())).await;
    let (port, config) = (port_at(2), dialling(nobody(&world, PEER)));
    for _ in 0..50 {
        let connecting = port.connect_with(config.clone(), pair.addr, &world.cluster.agent_dns()).unwrap();
        if let Ok(conn) = soon(connecting).await {
            soon(conn.closed()).await;
        }
    }
    pair.until("all were refused", || pair.endpoint.stats().refused >= 50).await;
    assert_eq!(pair.refused()[&Code::AuthRequired].0, 1, "{:?}", pair.lines());
    assert_eq!(pair.endpoint.stats().refused_by_code[&Code::AuthRequired], 50);
    pair.end().await;
}

fn options_quiet(world: &World, disk: &mut Disk) -> quorate_transport::Options {
    let mut options = options(world.agent("attacked"), disk, v4(1));
    options.limits = Limits::default();
    options
}

/// What a stranger's connection may have under way before anybody knows it is next to nothing.
#[tokio::test]
async fn a_stranger_gets_a_small_window() {
    let world = World::new();
    let pair = Bystanders::start(&world, Limits::default()).await;
    let conn = crate::by_hand::by_hand(&world, pair.addr, PEER).await;
    let (mut send, _recv) = conn.open_bi().await.unwrap();
    // A greeting whose length is legal, and behind it as much as goes in.
    let written = async {
        let mut written = 0;
        while let Ok(bytes) = send.write(&[0; 16 * 1024]).await {
            written += bytes;
        }
        written
    };
    let written = tokio::select! {
        written = written => written,
        _ = async { conn.closed().await } => 0,
    };
    println!("{written} bytes went in; {}", code(&conn).await);
    assert!(written <= 128 * 1024, "{written} bytes went in");
    let streams = futures_open(&conn).await;
    assert!(streams <= 2, "{streams} streams");
    pair.end().await;
}

/// How many streams can be opened at once.
async fn futures_open(conn: &quinn::Connection) -> usize {
    let mut streams = Vec::new();
    loop {
        match tokio::time::timeout(Duration::from_millis(50), conn.open_bi()).await {
            Ok(Ok(stream)) => streams.push(stream),
            _ => return streams.len(),
        }
    }
}

/// The endpoint itself is what answers; this is here so that a change of its meaning is noticed.
#[tokio::test]
async fn the_counters_begin_at_nothing() {
    let world = World::new();
    let agent = Agent::start(&world, "a");
    let endpoint: &Endpoint = &agent.endpoint;
    let stats = endpoint.stats();
    assert_eq!((stats.handshakes, stats.places, stats.retries, stats.refused), (0, 0, 0, 0));
    assert_eq!((stats.guests, stats.guest_window_bytes, stats.guest_streams), (0, 0, 0));
    assert_eq!((stats.agents, stats.frame_bytes, stats.guest_frame_bytes), (0, 0, 0));
}
