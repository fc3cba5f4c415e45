//! A real cluster under the strongest of the attacks at once, while it serves: what it costs in memory and descriptors,
//! and that nothing of it reaches the log or the group.
//!
//! What one client identity may cost an agent at most, by the bounds of the transport and of the server: 32 MiB of requests
//! and answers, 64 MiB of frames in arrival, 2 x 80 MiB of windows (1,024 connections), 256 tails of 256 KiB; strangers:
//! 16 MiB of first packets and 64 handshakes. An attack that stays below reaches less, and is held to [`GROWTH_MAX`].

#[path = "../../../transport/tests/hostile/raw.rs"]
#[allow(dead_code, unreachable_pub)]
mod raw;

use crate::cluster::{Cluster, wait_until};
use crate::history::{self, Load};
use quorate::wire::rpc::{Ask, Request, TailFrom};
use quorate_certs::{Identity, Role, Tls, Verdict, provider};
use raw::{Forger, Knocker, noise_initial};
use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How long the attacks last: longer than the deadlines of handshakes and greetings.
const STORM: Duration = Duration::from_secs(7);
/// What an agent may grow by in the storm, in KiB, besides what the appends leave in its caches.
const GROWTH_MAX: u64 = 96 * 1024;
/// Descriptors that a log may open meanwhile: segments and their successors.
const DESCRIPTORS_MORE: usize = 4;
/// The storm, the agents and whatever else this machine does share its processors: a follower that was not run for half a
/// second must not take that for the silence of its leader.
const PATIENT: &str = "heartbeat_ms = 50\nelection_timeout_ms_min = 3000\nelection_timeout_ms_max = 5000\n";
/// What each kind of attack sends at one time.
const TOGETHER: usize = 8;

/// Resident KiB and open descriptors of a process.
fn cost(pid: u32) -> (u64, usize) {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let resident = line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0);
    (resident, fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count))
}

/// Everything that strikes one agent.
struct Storm {
    stop: Arc<AtomicBool>,
    struck: Arc<Struck>,
    threads: Vec<thread::JoinHandle<()>>,
}

/// What was sent, so that a storm that did not happen is noticed.
#[derive(Debug, Default)]
struct Struck {
    handshakes: AtomicU64,
    packets: AtomicU64,
    greeted: AtomicU64,
    streams: AtomicU64,
    questions: AtomicU64,
    dripped: AtomicU64,
}

/// What the attackers have: a certificate of the cluster with the least role, and the name of its agents.
#[derive(Clone)]
struct Kit {
    tls: Tls,
    nobody: rustls::ClientConfig,
    name: String,
}

impl Kit {
    fn of(cluster: &Cluster) -> Self {
        let identity = Identity::load(&cluster.client_certs("evil", Role::Read)).unwrap();
        let mut nobody = rustls::ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(identity.roots())
            .with_no_client_auth();
        nobody.alpn_protocols = vec![b"quorate-peer/1".to_vec()];
        Self { tls: Tls::new(&identity).unwrap(), nobody, name: cluster.id().agent_dns() }
    }

    /// A dialler at 127.0.0.`host` that grants windows of so many bytes.
    fn port(host: u8) -> quinn::Endpoint {
        quinn::Endpoint::client(SocketAddr::from((Ipv4Addr::new(127, 0, 0, host), 0))).unwrap()
    }

    fn config(tls: rustls::ClientConfig, window: u32) -> quinn::ClientConfig {
        let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls).unwrap();
        let mut config = quinn::ClientConfig::new(Arc::new(crypto));
        let mut transport = quinn::TransportConfig::default();
        let window = quinn::VarInt::from_u32(window);
        transport.receive_window(window).stream_receive_window(window);
        transport.keep_alive_interval(Some(Duration::from_secs(1)));
        config.transport_config(Arc::new(transport));
        config
    }

    /// A client's connection that has greeted.
    async fn client(&self, port: &quinn::Endpoint, to: SocketAddr, window: u32) -> Option<quinn::Connection> {
        let tls = self.tls.client(b"quorate-rpc/1", &Verdict::new()).unwrap();
        let conn = port.connect_with(Self::config(tls, window), to, &self.name).ok()?.await.ok()?;
        let (mut send, mut recv) = conn.open_bi().await.ok()?;
        // {min: 1, max: 1, version: "", features: 0}
        let hello = b"\x04\x84\xa3min\x01\xa3max\x01\xa7version\xa0\xa8features\x00";
        send.write_all(&framed(hello)).await.ok()?;
        send.finish().ok()?;
        recv.read_to_end(4096).await.ok()?;
        Some(conn)
    }
}

fn framed(body: &[u8]) -> Vec<u8> {
    [&u32::try_from(body.len()).unwrap().to_be_bytes(), body].concat()
}

/// A request as a frame.
fn asked(id: u64, request: Request) -> Vec<u8> {
    framed(&request.encode(id).concat())
}

impl Storm {
    fn on(kit: &Kit, to: SocketAddr) -> Self {
        let (stop, struck) = (Arc::new(AtomicBool::new(false)), Arc::new(Struck::default()));
        let (a, b, c) = (kit.clone(), stop.clone(), struck.clone());
        let quic = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let until = async {
                    while !b.load(Ordering::Relaxed) {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                };
                let all = async {
                    tokio::join!(handshakes(&a, to, &c), loris(&a, to, &c), deaf(&a, to, &c), streams(&a, to, &c));
                };
                tokio::select! {
                    () = until => {}
                    () = all => {}
                }
            });
        };
        let (a, b, c) = (kit.clone(), stop.clone(), struck.clone());
        let raw = move || packets(&a, to, &b, &c);
        Self { stop, struck, threads: vec![thread::spawn(quic), thread::spawn(raw)] }
    }

    fn end(self) -> Arc<Struck> {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
        self.struck
    }
}

/// Whole handshakes without a certificate, as fast as they are judged.
async fn handshakes(kit: &Kit, to: SocketAddr, struck: &Struck) {
    let (port, config) = (Kit::port(2), Kit::config(kit.nobody.clone(), 1 << 16));
    let one = || async {
        loop {
            if let Ok(connecting) = port.connect_with(config.clone(), to, &kit.name)
                && let Ok(conn) = connecting.await
            {
                conn.closed().await;
            }
            struck.handshakes.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::join!(one(), one(), one(), one(), one(), one(), one(), one());
}

/// The longest frame promised on every stream that can be had, and a byte now and then.
async fn loris(kit: &Kit, to: SocketAddr, struck: &Struck) {
    let port = Kit::port(3);
    let mut open = Vec::new();
    loop {
        if open.is_empty() {
            let Some(conn) = kit.client(&port, to, 1 << 16).await else { continue };
            struck.greeted.fetch_add(1, Ordering::Relaxed);
            for _ in 0..60 {
                let Ok((mut send, recv)) = conn.open_bi().await else { break };
                let _ = send.write_all(&(8_u32 << 20).to_be_bytes()).await;
                open.push((send, recv, conn.clone()));
            }
        }
        for (send, ..) in &mut open {
            if send.write_all(b"x").await.is_ok() {
                struck.dripped.fetch_add(1, Ordering::Relaxed);
            }
        }
        open.retain(|(send, ..)| send.set_priority(0).is_ok());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Questions with long answers and tails of all there is, and not one answer read: no window is granted for them.
async fn deaf(kit: &Kit, to: SocketAddr, struck: &Struck) {
    let port = Kit::port(4);
    let mut kept = Vec::new();
    for _ in 0..TOGETHER {
        let Some(conn) = kit.client(&port, to, 1 << 12).await else { continue };
        struck.greeted.fetch_add(1, Ordering::Relaxed);
        for stream in 0..30 {
            let Ok((mut send, recv)) = conn.open_bi().await else { break };
            let asking = async {
                let count = if stream % 3 == 0 { 1 } else { 2_000 };
                for id in 0..count {
                    let tail = TailFrom { follow: true, ..TailFrom::default() };
                    let request = if count == 1 { Request::Tail(tail) } else { Request::Ask(Ask::Members) };
                    if send.write_all(&asked(id, request)).await.is_err() {
                        return;
                    }
                    struck.questions.fetch_add(1, Ordering::Relaxed);
                }
            };
            // Where the agent takes no more, the next stream is tried.
            let _ = tokio::time::timeout(Duration::from_millis(100), asking).await;
            kept.push((conn.clone(), send, recv));
        }
    }
    std::future::pending().await
}

/// Streams opened, begun and given up, again and again.
async fn streams(kit: &Kit, to: SocketAddr, struck: &Struck) {
    let port = Kit::port(5);
    loop {
        let Some(conn) = kit.client(&port, to, 1 << 16).await else { continue };
        struck.greeted.fetch_add(1, Ordering::Relaxed);
        while let Ok((mut send, mut recv)) = conn.open_bi().await {
            let _ = send.write(&[0, 0, 1]).await;
            tokio::task::yield_now().await;
            let _ = (send.reset(7_u32.into()), recv.stop(7_u32.into()));
            if struck.streams.fetch_add(1, Ordering::Relaxed).is_multiple_of(64) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }
}

/// Handshakes begun and left, kept alive with PINGs, first packets of noise, and junk, from forged addresses.
fn packets(kit: &Kit, to: SocketAddr, stop: &AtomicBool, struck: &Struck) {
    let mut knocker = Knocker::new(kit.nobody.clone());
    let mut forgers: Vec<Forger> = (20..28).map(Forger::at).collect();
    let mut round = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        for (forger, number) in forgers.iter_mut().zip(0..) {
            round += 1;
            forger.send(to, &knocker.initial(to, &kit.name));
            forger.send(to, &noise_initial(round * 64 + number));
            let junk: Vec<u8> = (0..(round % 1400)).map(|at| (at.wrapping_mul(round) >> 3) as u8).collect();
            forger.send(to, &junk);
            forger.drain();
            struck.packets.fetch_add(3, Ordering::Relaxed);
        }
        for (ping, number) in knocker.pings(64).iter().zip(0..) {
            let which: usize = number % forgers.len();
            forgers[which].send(to, ping);
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// The storm of rows 1, 11, 12, 14, 15 and 17 on all three agents at once, while five clients append (behaviour of
/// issue 3: hostile peers). Every append is acked, no term changes, nobody grows beyond the bound, every descriptor comes
/// back, and afterwards the cluster serves as before.
#[test]
fn a_storm_of_strangers_costs_little_and_changes_nothing() {
    let mut cluster = Cluster::new();
    let config = cluster.path("patient.toml");
    fs::write(&config, PATIENT).unwrap();
    let config = config.to_str().unwrap();
    cluster.start("n1", &["--bootstrap", "--config", config]);
    let seed = cluster.addr("n1").to_string();
    for name in ["n2", "n3"] {
        cluster.start(name, &["--join", &seed, "--config", config]);
    }
    cluster.wait_group(3, 0);
    let kit = Kit::of(&cluster);
    let load = Load::on(&cluster, 5);
    load.wait_ack_after(Instant::now());
    let term = cluster.status("n1").unwrap().term;
    let names = cluster.running();
    let costs = || -> BTreeMap<String, (u64, usize)> {
        names.iter().map(|name| (name.clone(), cost(cluster.pid(name)))).collect()
    };
    let before = costs();
    let storms: Vec<_> = names.iter().map(|name| Storm::on(&kit, cluster.addr(name))).collect();
    let (begun, mut most) = (Instant::now(), before.clone());
    let mut slowest = Duration::ZERO;
    while begun.elapsed() < STORM {
        let asked = Instant::now();
        load.wait_ack_after(asked);
        slowest = slowest.max(asked.elapsed());
        for (name, (resident, open)) in costs() {
            let so_far = most.get_mut(&name).unwrap();
            *so_far = (so_far.0.max(resident), so_far.1.max(open));
        }
        thread::sleep(Duration::from_millis(50));
    }
    let struck: Vec<_> = storms.into_iter().map(Storm::end).collect();
    let history = load.stop(&cluster);
    wait_until("the descriptors are back", || {
        let now = costs();
        names.iter().all(|name| now[name].1 <= before[name].1 + DESCRIPTORS_MORE).then_some(())
    });
    let after = costs();
    for (name, struck) in names.iter().zip(&struck) {
        println!(
            "figure: {name}: resident KiB / descriptors before {:?}, at most {:?}, after {:?}; {struck:?}",
            before[name], most[name], after[name]
        );
    }
    let summary = history::verify(&cluster, &names, &history);
    println!("figure: {summary:?}, the slowest wait for an ack {slowest:?}");
    assert_eq!((summary.unknown, summary.not_applied), (0, 0), "every append was acked");
    for name in &names {
        assert_eq!(cluster.status(name).unwrap().term, term, "{name} saw another term");
        let grown = most[name].0.saturating_sub(before[name].0);
        assert!(grown <= GROWTH_MAX, "{name} grew by {grown} KiB");
        // A flood is a few lines, whatever it was made of.
        let lines = cluster.log(name).lines().filter(|line| line.contains("refused")).count();
        assert!(lines <= 150, "{lines} lines about refusals in the log of {name}");
    }
    for struck in &struck {
        let counts =
            [&struck.handshakes, &struck.packets, &struck.greeted, &struck.streams, &struck.questions, &struck.dripped];
        assert!(
            counts.iter().all(|count| count.load(Ordering::Relaxed) > 0),
            "a part of the storm did not happen: {struck:?}"
        );
    }
}
