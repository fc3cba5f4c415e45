//! Two honest agents that go on talking while somebody attacks one of them.
//! Never sleeps longer than the pause between two beats.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use quorate_transport::rpc::RpcStream;
use quorate_transport::{Code, Endpoint, Event, Limits, Refused};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::common::{Agent, World};

/// From one beat to the next.
const PAUSE: Duration = Duration::from_millis(10);

/// The attacked agent, its honest peer, and what the attacked one heard.
pub struct Bystanders {
    pub endpoint: Endpoint,
    pub addr: std::net::SocketAddr,
    /// Streams of clients, as they come.
    pub streams: mpsc::UnboundedReceiver<Box<RpcStream>>,
    seen: Arc<Seen>,
    tasks: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Seen {
    sent: AtomicU64,
    answered: AtomicU64,
    downs: AtomicU64,
    datagrams: AtomicU64,
    others: AtomicU64,
    refused: Mutex<Vec<(Refused, u64)>>,
}

impl Bystanders {
    pub async fn start(world: &World, limits: Limits) -> Self {
        Self::of(Agent::limited(world, "attacked", limits), Agent::start(world, "honest")).await
    }

    /// With these two, each connected with the other.
    pub async fn of(attacked: Agent, mut honest: Agent) -> Self {
        honest.endpoint.dial(attacked.addr, None).await.unwrap();
        honest.up().await;
        let (seen, (sender, streams)) = (Arc::new(Seen::default()), mpsc::unbounded_channel());
        let (endpoint, peer) = (attacked.endpoint.clone(), honest.endpoint.clone());
        let (addr, node, honest_node) = (attacked.addr, attacked.node, honest.node);
        let tasks = vec![
            tokio::spawn(attend(attacked, honest_node, seen.clone(), sender)),
            tokio::spawn(beat(peer, node, seen.clone())),
            tokio::spawn(answers(honest, seen.clone())),
        ];
        let this = Self { endpoint, addr, streams, seen, tasks };
        this.beats(3).await;
        this
    }

    /// Waits until so many more beats were answered.
    pub async fn beats(&self, more: u64) {
        let target = self.seen.answered.load(Ordering::Relaxed) + more;
        self.until("the honest pair goes on", || self.seen.answered.load(Ordering::Relaxed) >= target).await;
    }

    /// Waits for a condition, looking again and again.
    pub async fn until(&self, what: &str, mut test: impl FnMut() -> bool) {
        let waiting = async {
            while !test() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let waited = tokio::time::timeout(crate::common::CEILING, waiting).await;
        assert!(waited.is_ok(), "waited in vain until {what}; {:?}", self.endpoint.stats());
    }

    /// How often each code was reported, with what was suppressed.
    pub fn refused(&self) -> BTreeMap<Code, (usize, u64)> {
        let mut by_code: BTreeMap<Code, (usize, u64)> = BTreeMap::new();
        for (why, suppressed) in self.seen.refused.lock().unwrap().iter() {
            let entry = by_code.entry(why.code).or_default();
            entry.0 += 1;
            entry.1 += suppressed;
        }
        by_code
    }

    /// Every text that would be a line of the log.
    pub fn lines(&self) -> Vec<String> {
        self.seen.refused.lock().unwrap().iter().map(|(why, _)| why.to_string()).collect()
    }

    /// Datagrams that came from somebody else.
    pub fn datagrams(&self) -> u64 {
        self.seen.datagrams.load(Ordering::Relaxed)
    }

    /// Peers that came and went beside the honest one, and their frames.
    pub fn others(&self) -> u64 {
        self.seen.others.load(Ordering::Relaxed)
    }

    /// The honest pair still talks, and never lost each other.
    pub async fn end(self) -> u64 {
        self.beats(5).await;
        assert_eq!(self.seen.downs.load(Ordering::Relaxed), 0, "the honest pair lost each other");
        for task in self.tasks {
            task.abort();
        }
        self.seen.answered.load(Ordering::Relaxed)
    }
}

async fn attend(mut attacked: Agent, honest: u64, seen: Arc<Seen>, streams: mpsc::UnboundedSender<Box<RpcStream>>) {
    while let Some(event) = attacked.events.recv().await {
        match event {
            Event::PeerFrame { node, bytes } if node == honest => {
                let _ = attacked.endpoint.send(node, bytes);
            }
            Event::PeerDown { node, .. } if node == honest => drop(seen.downs.fetch_add(1, Ordering::Relaxed)),
            Event::Refused { why, suppressed, .. } => seen.refused.lock().unwrap().push((why, suppressed)),
            Event::Datagram { node, .. } if node != honest => drop(seen.datagrams.fetch_add(1, Ordering::Relaxed)),
            Event::Rpc(stream) => drop(streams.send(stream)),
            Event::PeerUp(info) if info.node != honest => drop(seen.others.fetch_add(1, Ordering::Relaxed)),
            _ => {}
        }
    }
}

async fn beat(peer: Endpoint, node: u64, seen: Arc<Seen>) {
    loop {
        let number = seen.sent.fetch_add(1, Ordering::Relaxed);
        peer.send(node, Bytes::copy_from_slice(&number.to_be_bytes())).unwrap();
        tokio::time::sleep(PAUSE).await;
    }
}

async fn answers(mut honest: Agent, seen: Arc<Seen>) {
    let mut next = 0_u64;
    while let Some(event) = honest.events.recv().await {
        match event {
            Event::PeerFrame { bytes, .. } => {
                assert_eq!(bytes, next.to_be_bytes().as_slice(), "a beat is missing");
                next += 1;
                seen.answered.store(next, Ordering::Relaxed);
            }
            Event::PeerDown { .. } => drop(seen.downs.fetch_add(1, Ordering::Relaxed)),
            _ => {}
        }
    }
}
