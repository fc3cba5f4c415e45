//! What a heartbeat between two agents costs while one of them is busy with something else: with a bulk transfer to the
//! same peer, and with strangers who flood it with handshakes. One run measures all in turns, and prints the ratios.
//!
//!     cargo bench -p quorate-transport --bench heartbeats [-- --seconds 16]
//!
//! Each agent has a thread and a runtime of its own, as a process would. The strangers are another process, which takes
//! what processor time is left (`nice`): in earnest they have machines of their own. Nothing is pinned.
//! A heartbeat is a frame of 64 bytes every 5 ms and its echo, on the peer connection.
#![allow(clippy::unwrap_used, dead_code, unreachable_pub)]

#[path = "../tests/common/mod.rs"]
mod common;
#[path = "../tests/hostile/raw.rs"]
mod raw;

use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::{Agent, Disk, World, options};
use quorate_transport::{Endpoint, Event, Limits, Options, runtime};
use raw::{Forger, Knocker, noise_initial};
use rustls_pki_types::pem::PemObject;

/// The first argument of a process of strangers.
const STRANGERS: &str = "strangers";
const PAUSE: Duration = Duration::from_millis(5);
/// Idle, bulk and flood take turns so often.
const ROUNDS: u32 = 8;
/// Between two of them.
const SETTLE: Duration = Duration::from_millis(500);
const BEAT_BYTES: usize = 64;
const BULK_BYTES: usize = 256 * 1024;
/// Handshakes that one stranger has open at a time.
const TOGETHER: usize = 16;
/// Noise and half-open handshakes a second, each.
const PACKETS_PER_SECOND: u32 = 2_000;

fn v4(host: u8) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::new(127, 0, 0, host), 0))
}

/// Options of an agent of its own address.
fn agent(world: &World, name: &str, host: u8) -> Options {
    let mut disk = Disk::new(name);
    Options { limits: Limits::default(), ..options(world.agent(name), &mut disk, v4(host)) }
}

/// A thread with a runtime of its own.
fn alone<F: Future<Output = ()>>(name: &str, body: impl FnOnce() -> F + Send + 'static) -> JoinHandle<()> {
    let run = move || runtime().unwrap().block_on(body());
    std::thread::Builder::new().name(name.to_owned()).spawn(run).unwrap()
}

/// The agent that is attacked: it echoes frames, and swallows bulk.
fn attacked(options: Options) -> (SocketAddr, u64, Arc<AtomicU64>, Endpoint) {
    let (sender, ready) = std::sync::mpsc::channel();
    let swallowed = Arc::new(AtomicU64::new(0));
    let count = swallowed.clone();
    alone("attacked", move || async move {
        let Agent { endpoint, mut events, addr, node } = Agent::with(options);
        sender.send((addr, node, endpoint.clone())).unwrap();
        while let Some(event) = events.recv().await {
            match event {
                Event::PeerFrame { node, bytes } => drop(endpoint.send(node, bytes)),
                Event::BulkFrame { bytes, .. } => drop(count.fetch_add(bytes.len() as u64, Ordering::Relaxed)),
                _ => {}
            }
        }
    });
    let (addr, node, endpoint) = ready.recv().unwrap();
    (addr, node, swallowed, endpoint)
}

/// The times of the echoes of one phase, sorted.
async fn beats(
    endpoint: &Endpoint,
    events: &mut quorate_transport::Events,
    node: u64,
    for_how_long: Duration,
) -> Vec<Duration> {
    let (begun, mut times) = (Instant::now(), Vec::new());
    let mut ticks = tokio::time::interval(PAUSE);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while begun.elapsed() < for_how_long {
        ticks.tick().await;
        let sent = Instant::now();
        endpoint.send(node, Bytes::from(vec![1; BEAT_BYTES])).unwrap();
        loop {
            match events.recv().await.unwrap() {
                Event::PeerFrame { .. } => break,
                Event::PeerDown { reason, .. } => panic!("the pair lost each other: {reason}"),
                _ => {}
            }
        }
        times.push(sent.elapsed());
    }
    times.sort();
    times
}

/// A configuration that trusts this authority and shows nothing.
fn nobody(authority: &str) -> rustls::ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(rustls_pki_types::CertificateDer::from_pem_slice(authority.as_bytes()).unwrap()).unwrap();
    let mut tls = rustls::ClientConfig::builder_with_provider(quorate_certs::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"quorate-peer/1".to_vec()];
    tls
}

/// Strangers in a process of their own that takes what time others leave, until they are told to stop.
struct Strangers(Child);

impl Strangers {
    fn begin(world: &World, host: u8, target: SocketAddr) -> Self {
        let program = std::env::current_exe().unwrap();
        let (host, target) = (host.to_string(), target.to_string());
        let arguments = [STRANGERS, &host, &target, &world.cluster.agent_dns(), world.authority.ca_pem()];
        let mut patient = Command::new("nice");
        patient.args(["-n", "19"]).arg(program).args(arguments).stdin(Stdio::piped());
        Self(patient.spawn().unwrap())
    }

    fn end(mut self) {
        drop(self.0.stdin.take());
        self.0.wait().unwrap();
    }
}

/// The strangers' process: whole handshakes without a certificate as fast as they are answered, handshakes begun and left,
/// and first packets of noise, until its input ends.
fn strangers(host: u8, target: SocketAddr, name: &str, authority: &str) {
    let stop = Arc::new(AtomicBool::new(false));
    let (stopped, tls, server_name) = (stop.clone(), nobody(authority), name.to_owned());
    let failing = alone("failing", move || async move {
        let port = quinn::Endpoint::client(v4(host)).unwrap();
        let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls).unwrap();
        let config = quinn::ClientConfig::new(Arc::new(crypto));
        let mut open = tokio::task::JoinSet::new();
        while !stopped.load(Ordering::Relaxed) {
            while open.len() < TOGETHER {
                let connecting = port.connect_with(config.clone(), target, &server_name).unwrap();
                open.spawn(async move {
                    if let Ok(conn) = connecting.await {
                        conn.closed().await;
                    }
                });
            }
            let _ = tokio::time::timeout(Duration::from_millis(100), open.join_next()).await;
        }
    });
    let (stopped, tls, server_name) = (stop.clone(), nobody(authority), name.to_owned());
    let raw = std::thread::spawn(move || {
        let (mut knocker, mut forger, mut seed) = (Knocker::new(tls), Forger::at(host), u64::from(host) << 32);
        while !stopped.load(Ordering::Relaxed) {
            for _ in 0..PACKETS_PER_SECOND / 100 {
                seed += 1;
                forger.send(target, &noise_initial(seed));
                forger.send(target, &knocker.initial(target, &server_name));
            }
            forger.drain();
            std::thread::sleep(Duration::from_millis(10));
        }
    });
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    stop.store(true, Ordering::Relaxed);
    failing.join().unwrap();
    raw.join().unwrap();
}

fn percentile(times: &[Duration], share: f64) -> Duration {
    times[((times.len() - 1) as f64 * share) as usize]
}

fn show(what: &str, times: &[Duration], idle: &[Duration], note: &str) {
    let (p50, p99) = (percentile(times, 0.5), percentile(times, 0.99));
    let ratio = |share| percentile(times, share).as_secs_f64() / percentile(idle, share).as_secs_f64();
    println!(
        "{what:<22} {:>7} beats  p50 {:>7.0} us  p99 {:>7.0} us  to idle: p50 {:>5.2}  p99 {:>5.2}  {note}",
        times.len(),
        p50.as_secs_f64() * 1e6,
        p99.as_secs_f64() * 1e6,
        ratio(0.5),
        ratio(0.99),
    );
}

fn main() {
    let all: Vec<String> = std::env::args().collect();
    if let [_, what, host, target, name, authority] = &all[..]
        && what == STRANGERS
    {
        return strangers(host.parse().unwrap(), target.parse().unwrap(), name, authority);
    }
    let mut arguments = std::env::args().skip_while(|argument| argument != "--seconds").skip(1);
    let seconds = arguments.next().map_or(16, |seconds| seconds.parse().expect("--seconds takes a number"));
    let turn = Duration::from_secs(seconds) / ROUNDS;
    let world = World::new();
    let (addr, node, swallowed, victim) = attacked(agent(&world, "attacked", 1));
    runtime().unwrap().block_on(async {
        let Agent { endpoint, mut events, .. } = Agent::with(agent(&world, "honest", 10));
        endpoint.dial(addr, Some(node)).await.unwrap();
        beats(&endpoint, &mut events, node, Duration::from_secs(1)).await;
        let (mut idle, mut bulk, mut flood) = (Vec::new(), Vec::new(), Vec::new());
        let (mut bytes, mut retries, mut refused) = (0, 0, 0);
        // In turns, so that whatever else this machine does meets all of them alike.
        for _ in 0..ROUNDS {
            idle.extend(beats(&endpoint, &mut events, node, turn).await);

            let stop = Arc::new(AtomicBool::new(false));
            let sending = tokio::spawn(send_bulk(endpoint.clone(), node, stop.clone()));
            let before = swallowed.load(Ordering::Relaxed);
            bulk.extend(beats(&endpoint, &mut events, node, turn).await);
            bytes += swallowed.load(Ordering::Relaxed) - before;
            stop.store(true, Ordering::Relaxed);
            sending.await.unwrap();
            beats(&endpoint, &mut events, node, SETTLE).await;

            let strangers = Strangers::begin(&world, 2, addr);
            beats(&endpoint, &mut events, node, SETTLE).await;
            let before = victim.stats();
            flood.extend(beats(&endpoint, &mut events, node, turn).await);
            let now = victim.stats();
            (retries, refused) = (retries + now.retries - before.retries, refused + now.refused - before.refused);
            strangers.end();
            beats(&endpoint, &mut events, node, SETTLE).await;
        }
        for times in [&mut idle, &mut bulk, &mut flood] {
            times.sort();
        }
        show("idle", &idle, &idle, "");
        show("bulk to the same peer", &bulk, &idle, &format!("{} MB/s", bytes / seconds / 1_000_000));
        let note = format!("{}/s told to prove their address, {}/s refused", retries / seconds, refused / seconds);
        show("flood of handshakes", &flood, &idle, &note);
    });
}

/// As much as goes, until told to stop.
async fn send_bulk(endpoint: Endpoint, node: u64, stop: Arc<AtomicBool>) {
    let frame = Bytes::from(vec![7; BULK_BYTES]);
    while !stop.load(Ordering::Relaxed) {
        endpoint.send_bulk_wait(node, std::slice::from_ref(&frame)).await.unwrap();
    }
}
