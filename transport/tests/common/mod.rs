//! The cast of the stories: a cluster's authority, agents on loopback, and waiting for what must happen.
//! Never sleeps: each wait is for a condition, with a ceiling far above what it takes.
#![allow(dead_code, clippy::unwrap_used, unreachable_pub)]

use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use quorate_certs::{AgentName, Authority, ClusterId, Identity, Role, Subject, Validity};
use quorate_transport::{
    Endpoint, Event, Events, Gate, Limits, LocalNode, NodeKey, OpenGate, Options, PeerInfo, Reason, Secrets,
};

/// The ceiling of every wait.
pub const CEILING: Duration = Duration::from_secs(20);

pub struct World {
    pub cluster: ClusterId,
    pub authority: Authority,
}

impl World {
    pub fn new() -> Self {
        let cluster = ClusterId::random().unwrap();
        Self { cluster, authority: Authority::create(cluster).unwrap() }
    }

    pub fn agent(&self, name: &str) -> Arc<Identity> {
        self.identity(&Subject::agent(self.cluster, AgentName::new(name).unwrap()), Validity::default())
    }

    pub fn client(&self, role: Role, name: &str) -> Arc<Identity> {
        self.identity(&Subject::client(self.cluster, role, AgentName::new(name).unwrap()), Validity::default())
    }

    pub fn identity(&self, subject: &Subject, validity: Validity) -> Arc<Identity> {
        let issued = self.authority.issue(subject, validity).unwrap();
        Arc::new(Identity::unchecked(&issued).unwrap())
    }
}

/// What of an agent survives a restart.
#[derive(Clone)]
pub struct Disk {
    pub name: String,
    pub key: Vec<u8>,
    pub secrets: Secrets,
    pub epoch: u64,
}

impl Disk {
    pub fn new(name: &str) -> Self {
        let (key, pkcs8) = NodeKey::generate().unwrap();
        let secrets = Secrets { reset: key.public(), connection_id: key.node() };
        Self { name: name.to_owned(), key: pkcs8, secrets, epoch: 0 }
    }

    pub fn node(&self) -> u64 {
        NodeKey::load(&self.key).unwrap().node()
    }
}

pub struct Agent {
    pub endpoint: Endpoint,
    pub events: Events,
    pub addr: SocketAddr,
    pub node: u64,
}

pub fn loopback() -> SocketAddr {
    SocketAddr::from((Ipv6Addr::LOCALHOST, 0))
}

pub fn options(identity: Arc<Identity>, disk: &mut Disk, bind: SocketAddr) -> Options {
    disk.epoch += 1;
    Options {
        bind,
        identity,
        secrets: disk.secrets,
        local: LocalNode {
            key: NodeKey::load(&disk.key).unwrap(),
            name: AgentName::new(&disk.name).unwrap(),
            boot_epoch: disk.epoch,
            boot_id: disk.node() ^ disk.epoch,
            log_id: None,
            advertise: None,
            version: "test".to_owned(),
            features: 0,
        },
        gate: Arc::new(OpenGate),
        // Each refusal is reported, so that each can be waited for.
        limits: Limits { refusals_quiet: Duration::ZERO, ..Limits::default() },
    }
}

impl Agent {
    pub fn start(world: &World, name: &str) -> Self {
        Self::boot(world, &mut Disk::new(name), loopback())
    }

    pub fn boot(world: &World, disk: &mut Disk, bind: SocketAddr) -> Self {
        Self::with(options(world.agent(&disk.name), disk, bind))
    }

    pub fn gated(world: &World, name: &str, gate: Arc<dyn Gate>) -> Self {
        let mut disk = Disk::new(name);
        Self::with(Options { gate, ..options(world.agent(name), &mut disk, loopback()) })
    }

    pub fn limited(world: &World, name: &str, limits: Limits) -> Self {
        let mut disk = Disk::new(name);
        let limits = Limits { refusals_quiet: Duration::ZERO, ..limits };
        Self::with(Options { limits, ..options(world.agent(name), &mut disk, loopback()) })
    }

    pub fn with(options: Options) -> Self {
        let (endpoint, events) = Endpoint::bind(options).unwrap();
        let (addr, node) = (endpoint.local_addr(), endpoint.node());
        Self { endpoint, events, addr, node }
    }

    /// The next event that `pick` takes; others are passed over.
    pub async fn until<T>(&mut self, mut pick: impl FnMut(Event) -> Option<T>) -> T {
        let waiting = async {
            loop {
                let event = self.events.recv().await.expect("the endpoint lives");
                if let Some(found) = pick(event) {
                    return found;
                }
            }
        };
        tokio::time::timeout(CEILING, waiting).await.expect("the event comes")
    }

    pub async fn up(&mut self) -> PeerInfo {
        self.until(|event| match event {
            Event::PeerUp(info) => Some(info),
            _ => None,
        })
        .await
    }

    pub async fn down(&mut self) -> Reason {
        self.until(|event| match event {
            Event::PeerDown { reason, .. } => Some(reason),
            _ => None,
        })
        .await
    }

    pub async fn frame(&mut self) -> (u64, bytes::Bytes) {
        self.until(|event| match event {
            Event::PeerFrame { node, bytes } => Some((node, bytes)),
            _ => None,
        })
        .await
    }

    pub async fn refused(&mut self) -> (quorate_transport::Refused, Option<quorate_certs::Refusal>) {
        self.until(|event| match event {
            Event::Refused { why, refusal, .. } => Some((why, refusal)),
            _ => None,
        })
        .await
    }
}

/// Waits for what must happen.
pub async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(CEILING, what).await.expect("it happens in time")
}
