//! Floods of streams, readers that never read, fragments that never join. (Rows 12 and 13.)

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, Runtime, TokioRuntime, UdpPoller};
use quorate_certs::Role;
use quorate_transport::Limits;
use quorate_transport::rpc::{self, RpcClient};

use crate::by_hand::{Evil, PEER, by_hand_with};
use crate::bystanders::Bystanders;
use crate::common::{World, loopback, soon};
use crate::frames::{greet_as_client, greeted_client};

/// As many streams as the limit says, opened and never written to, or written to and never finished: no more can be
/// opened, and another client of the same agent is served.
#[tokio::test]
async fn streams_beyond_the_limit_cannot_be_opened() {
    let world = World::new();
    let mut pair = Bystanders::start(&world, Limits::default()).await;
    let client = greeted_client(&world, pair.addr).await;
    let max = Limits::default().streams_max as usize;
    let mut held = Vec::new();
    loop {
        match tokio::time::timeout(Duration::from_millis(200), client.open_bi()).await {
            Ok(Ok((mut send, recv))) => {
                if held.len() % 2 == 0 {
                    send.write_all(&[0]).await.unwrap();
                }
                held.push((send, recv));
            }
            Ok(Err(error)) => panic!("{error}"),
            Err(_) => break,
        }
        assert!(held.len() <= max, "more than {max} streams");
    }
    // The stream of the greeting may still count.
    assert!(held.len() + 1 >= max, "{}", held.len());
    let other = RpcClient::new(&world.client(Role::Read, "other"), "test", 0, Limits::default()).unwrap();
    let connection = other.connect(pair.addr, crate::common::CEILING).await.unwrap();
    let mut asking = connection.open().await.unwrap();
    asking.send(vec![Bytes::from_static(b"hello")]).await.unwrap();
    let served = async {
        loop {
            let mut stream = pair.streams.recv().await.unwrap();
            if stream.who.name().as_str() == "other" {
                return stream.recv().await;
            }
        }
    };
    assert_eq!(soon(served).await.unwrap().unwrap(), "hello");
    pair.end().await;
}

/// Streams opened, reset and opened again as fast as it goes: their number stays bounded and the pair goes on.
#[tokio::test]
async fn a_flood_of_streams_leaves_nothing() {
    let world = World::new();
    let mut pair = Bystanders::start(&world, Limits::default()).await;
    let client = greeted_client(&world, pair.addr).await;
    let flood = async {
        for _ in 0..3_000 {
            let (mut send, mut recv) = client.open_bi().await.unwrap();
            let _ = send.write(&[0, 0]).await;
            // Some of them are heard of before they are given up.
            tokio::task::yield_now().await;
            tokio::task::yield_now().await;
            let _ = send.reset(quinn::VarInt::from_u32(7));
            let _ = recv.stop(quinn::VarInt::from_u32(7));
        }
    };
    let mut most = 0;
    let stats = || pair.endpoint.stats();
    let mut flood = std::pin::pin!(flood);
    loop {
        tokio::select! {
            () = &mut flood => break,
            Some(stream) = pair.streams.recv() => drop(stream),
            () = tokio::time::sleep(Duration::from_millis(5)) => most = most.max(stats().guest_streams),
        }
    }
    while pair.streams.try_recv().is_ok() {}
    println!("at most {most} streams at one time");
    assert!(most <= Limits::default().client_streams_max);
    pair.beats(10).await;
    while pair.streams.try_recv().is_ok() {}
    pair.until("no stream is left", || pair.endpoint.stats().guest_streams <= 1).await;
    assert!(client.close_reason().is_none());
    pair.end().await;
}

/// All streams of one identity together have a bound, over all its connections, and another identity has its own.
#[tokio::test]
async fn the_streams_of_one_identity_have_a_bound() {
    let world = World::new();
    let limits = Limits { client_streams_max: 20, guest_streams_max: 30, ..Limits::default() };
    let mut pair = Bystanders::start(&world, limits).await;
    let mut held = Vec::new();
    for _ in 0..4 {
        let conn = greeted_client(&world, pair.addr).await;
        for _ in 0..10 {
            let (mut send, recv) = conn.open_bi().await.unwrap();
            send.write_all(&[0]).await.unwrap();
            held.push((send, recv));
        }
    }
    let mut served = Vec::new();
    while served.len() < 20 {
        served.push(soon(pair.streams.recv()).await.unwrap());
    }
    pair.beats(10).await;
    assert!(pair.streams.try_recv().is_err(), "a stream beyond the bound");
    assert_eq!(pair.endpoint.stats().guest_streams, 20);
    let other = RpcClient::new(&world.client(Role::Read, "other"), "test", 0, Limits::default()).unwrap();
    let connection = other.connect(pair.addr, crate::common::CEILING).await.unwrap();
    let mut asking = connection.open().await.unwrap();
    asking.send(vec![Bytes::from_static(b"hello")]).await.unwrap();
    assert_eq!(soon(pair.streams.recv()).await.unwrap().who.name().as_str(), "other");
    // One that ends makes room for one that waits.
    served.truncate(19);
    soon(pair.streams.recv()).await.unwrap();
    pair.end().await;
}

/// Whoever asks, grants all that the protocol can say, and then neither reads nor acknowledges anything, costs its server
/// the window of its connection and no more; after that the server waits.
#[tokio::test]
async fn who_never_reads_costs_its_window_and_no_more() {
    let world = World::new();
    let mut pair = Bystanders::start(&world, Limits::default()).await;
    let (port, lossy) = lossy_port(usize::MAX, 1);
    let mut transport = quinn::TransportConfig::default();
    let all = quinn::VarInt::from_u32(1 << 30);
    transport.stream_receive_window(all).receive_window(all);
    let client = by_hand_with(&port, &world, pair.addr, rpc::ALPN, transport).await;
    greet_as_client(&client).await;
    let (mut send, _recv) = client.open_bi().await.unwrap();
    send.write_all(&[0, 0, 0, 1, 7]).await.unwrap();
    let mut stream = pair.streams.recv().await.unwrap();
    soon(stream.recv()).await.unwrap();
    let granted = pair.endpoint.stats().guest_window_bytes;
    lossy.armed.store(true, Ordering::Relaxed);
    let mut written = 0;
    loop {
        let sending = stream.send(vec![Bytes::from(vec![0; 64 * 1024])]);
        match tokio::time::timeout(Duration::from_millis(500), sending).await {
            Ok(sent) => sent.unwrap(),
            Err(_) => break,
        }
        written += 64 * 1024;
        assert!(written < 64 << 20, "there is no bound");
    }
    println!("{written} bytes were taken for one who does not read; its window is {granted}");
    assert!(written as u64 <= granted + (64 << 10), "{written} bytes, {granted} granted");
    pair.end().await;
}

/// A socket that loses packets once it is armed: those longer than `long`, and of the others one in `each`.
#[derive(Debug)]
struct Lossy {
    inner: Arc<dyn AsyncUdpSocket>,
    armed: AtomicBool,
    sent: AtomicUsize,
    long: usize,
    each: usize,
}

fn lossy_port(long: usize, each: usize) -> (quinn::Endpoint, Arc<Lossy>) {
    let udp = std::net::UdpSocket::bind(loopback()).unwrap();
    let inner = TokioRuntime.wrap_udp_socket(udp).unwrap();
    let lossy = Arc::new(Lossy { inner, armed: AtomicBool::new(false), sent: AtomicUsize::new(0), long, each });
    let config = quinn::EndpointConfig::default();
    let port = quinn::Endpoint::new_with_abstract_socket(config, None, lossy.clone(), Arc::new(TokioRuntime)).unwrap();
    (port, lossy)
}

impl AsyncUdpSocket for Lossy {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        self.inner.clone().create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit) -> io::Result<()> {
        let long = transmit.contents.len() > self.long;
        let lost = long || self.sent.fetch_add(1, Ordering::Relaxed).is_multiple_of(self.each);
        if self.armed.load(Ordering::Relaxed) && lost {
            return Ok(());
        }
        self.inner.try_send(transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.inner.poll_recv(cx, bufs, meta)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }
}

/// Thousands of one-byte fragments with gaps between them: the connection is closed before they cost more than a few
/// hundred bytes each, and the others notice nothing.
#[tokio::test]
async fn fragments_that_never_join_end_the_connection() {
    let world = World::new();
    let pair = Bystanders::start(&world, Limits::default()).await;
    // Long packets repeat what was lost: none of them gets through, and of the short ones every second.
    let (port, lossy) = lossy_port(60, 2);
    let mut transport = quinn::TransportConfig::default();
    transport.congestion_controller_factory(Arc::new(Stubborn)).mtu_discovery_config(None).packet_threshold(100_000);
    let conn = by_hand_with(&port, &world, pair.addr, PEER, transport).await;
    let (_, stored) = quorate_transport::NodeKey::generate().unwrap();
    let evil = Evil::on(&world, pair.addr, conn, &stored);
    let (mut send, _recv) = evil.greet().await;
    send.write_all(&(4_u32 << 20).to_be_bytes()).await.unwrap();
    pair.beats(5).await;
    lossy.armed.store(true, Ordering::Relaxed);
    let mut written = 0;
    while evil.conn.close_reason().is_none() && written < 20_000 {
        if send.write(&[7]).await.is_err() {
            break;
        }
        written += 1;
        // The packet leaves before the next byte is written.
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
    }
    let error = soon(evil.conn.closed()).await;
    println!("after {written} fragments: {error}");
    // Either QUIC saw through it, or the frame's deadline passed.
    assert!(!matches!(error, quinn::ConnectionError::TimedOut | quinn::ConnectionError::LocallyClosed), "{error}");
    pair.until("it is gone", || pair.endpoint.stats().frame_bytes == 0).await;
    pair.end().await;
}

/// Sends on whatever is lost.
#[derive(Debug)]
struct Stubborn;

impl quinn::congestion::ControllerFactory for Stubborn {
    fn build(self: Arc<Self>, _now: std::time::Instant, _mtu: u16) -> Box<dyn quinn::congestion::Controller> {
        Box::new(Ever)
    }
}

#[derive(Debug, Clone)]
struct Ever;

impl quinn::congestion::Controller for Ever {
    fn on_congestion_event(
        &mut self,
        _now: std::time::Instant,
        _sent: std::time::Instant,
        _is_persistent_congestion: bool,
        _lost_bytes: u64,
    ) {
    }

    fn on_mtu_update(&mut self, _new_mtu: u16) {}

    fn window(&self) -> u64 {
        1 << 30
    }

    fn clone_box(&self) -> Box<dyn quinn::congestion::Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        1 << 30
    }

    fn into_any(self: Box<Self>) -> Box<dyn std::any::Any> {
        self
    }
}
