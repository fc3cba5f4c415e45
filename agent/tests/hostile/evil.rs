//! The liar: a proven member whose gossip is honest enough to stay one, with a free hand beside it.

use crate::cluster::{Cluster, PATIENCE, name_of};
use bytes::Bytes;
use quorate::node;
use quorate_certs::{Identity, Subject, Validity};
use quorate_membership::{Input, Local, Membership, Mono, Now, Options, Output, Tags};
use quorate_raft::Message;
use quorate_transport::{
    Code, Endpoint, Event, Events, Limits, LocalNode, NodeKey, OpenGate, PeerInfo, Reason, Secrets,
};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(crate) const NAME: &str = "evil";
const EPOCH: u64 = 1;

pub(crate) struct Evil {
    pub(crate) endpoint: Endpoint,
    events: Events,
    gossip: Membership,
    started: Instant,
    pub(crate) boot: u64,
    /// Who is connected, by node id.
    pub(crate) up: BTreeMap<u64, PeerInfo>,
    /// Why connections ended, in order.
    pub(crate) ended: Vec<(u64, Reason)>,
    /// Frames that came.
    pub(crate) heard: Vec<(u64, Bytes)>,
}

impl Evil {
    /// Must be called inside the runtime of the harness.
    pub(crate) fn new(cluster: &Cluster) -> Self {
        let subject = Subject::agent(cluster.id(), name_of(NAME));
        let issued = cluster.authority().issue(&subject, Validity::default()).unwrap();
        let (key, _) = NodeKey::generate().unwrap();
        let (node, boot) = (key.node(), key.node() | 1);
        let local = LocalNode {
            key,
            name: name_of(NAME),
            boot_epoch: EPOCH,
            boot_id: boot,
            log_id: None,
            advertise: None,
            version: "6.6.6".into(),
            features: node::level::features(false, node::level::FEATURE_LEVEL),
        };
        let (endpoint, events) = Endpoint::bind(quorate_transport::Options {
            bind: SocketAddr::from(([127, 0, 0, 1], 0)),
            identity: Arc::new(Identity::from_issued(&issued).unwrap()),
            secrets: Secrets { reset: [6; 32], connection_id: 6 },
            local,
            gate: Arc::new(OpenGate),
            limits: Limits::default(),
        })
        .unwrap();
        let addr = endpoint.local_addr();
        let local =
            Local { node, name: NAME.into(), addr, epoch: EPOCH, boot, version: "6.6.6".into(), tags: Tags::default() };
        let gossip = Membership::new(Options::lan(), local, 6, Now::default()).unwrap();
        let (up, ended, heard) = (BTreeMap::new(), Vec::new(), Vec::new());
        Self { endpoint, events, gossip, started: Instant::now(), boot, up, ended, heard }
    }

    pub(crate) fn node(&self) -> u64 {
        self.endpoint.node()
    }

    fn gossip(&mut self, input: Input) -> Option<Vec<u8>> {
        let mono = Mono(u64::try_from(self.started.elapsed().as_micros()).unwrap());
        self.gossip.handle(Now { mono, wall_us: 0 }, input);
        let mut reply = None;
        while let Some(output) = self.gossip.poll_output() {
            match output {
                Output::Datagram { to, bytes, .. } => drop(self.endpoint.datagram(to, bytes.into())),
                Output::ExchangeReply { bytes, .. } => reply = Some(bytes),
                _ => {}
            }
        }
        reply
    }

    /// Lives for a moment: hears what came, and answers probes.
    pub(crate) async fn live(&mut self, moment: Duration) {
        let until = Instant::now() + moment;
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            let Ok(Some(event)) = tokio::time::timeout(left.min(Duration::from_millis(50)), self.events.recv()).await
            else {
                self.gossip(Input::Timeout);
                continue;
            };
            match event {
                Event::PeerUp(info) => {
                    self.gossip(Input::Contact {
                        node: info.node,
                        name: info.name.to_string(),
                        addr: info.remote,
                        epoch: info.boot_epoch,
                        boot: info.boot_id,
                        version: info.version.clone(),
                    });
                    self.up.insert(info.node, info);
                }
                Event::PeerDown { node, reason } => {
                    self.up.remove(&node);
                    self.ended.push((node, reason));
                    self.gossip(Input::Lost { node });
                }
                Event::PeerFrame { node, bytes } | Event::BulkFrame { node, bytes } => {
                    self.heard.push((node, bytes));
                    let over = self.heard.len().saturating_sub(1_000);
                    self.heard.drain(..over);
                }
                Event::Datagram { node, bytes } => {
                    self.gossip(Input::Datagram { from: node, bytes: bytes.to_vec() });
                }
                Event::Exchange { node, request, reply } => {
                    let answer = self.gossip(Input::Exchange { from: node, bytes: request.to_vec() });
                    let _ = reply.send(answer.unwrap_or_default().into());
                }
                _ => {}
            }
        }
    }

    /// Lives until it is so.
    pub(crate) async fn until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let started = Instant::now();
        while !is_so(self) {
            assert!(started.elapsed() < PATIENCE, "waited in vain until {what}; ended {:?}", self.ended);
            self.live(Duration::from_millis(20)).await;
        }
    }

    /// Connects with whoever listens there, and is a peer when this returns; its node id.
    pub(crate) async fn meet(&mut self, addr: SocketAddr) -> u64 {
        let started = Instant::now();
        loop {
            // It may still be busy with the end of the connection before this one.
            if let Ok(info) = self.endpoint.dial(addr, None).await {
                self.until("it is a peer", |evil| evil.up.contains_key(&info.node)).await;
                return info.node;
            }
            assert!(started.elapsed() < PATIENCE, "{addr} does not let the liar in");
            self.live(Duration::from_millis(50)).await;
        }
    }

    /// Says something, once, and waits for the code with which it is shown the door.
    pub(crate) async fn shown_the_door(&mut self, addr: SocketAddr, say: impl AsyncFnOnce(&mut Self, u64)) -> Code {
        let node = self.meet(addr).await;
        let before = self.ended.len();
        say(self, node).await;
        self.until("the connection is closed", |evil| evil.ended[before..].iter().any(|(n, _)| *n == node)).await;
        match self.ended[before..].iter().find(|(n, _)| *n == node) {
            Some((_, Reason::Remote(why))) => why.code,
            other => panic!("ended by {other:?}"),
        }
    }

    /// A message of the core, for `to`, with a body as the documentation of the core lays it out.
    pub(crate) fn raft(&self, to: u64, term: u64, body: &serde_json::Value) -> Message {
        let fence = serde_json::json!({"admitted": 1, "from_boot": self.boot, "to_boot": self.up[&to].boot_id});
        serde_json::from_value(serde_json::json!({"term": term, "fence": fence, "body": body})).unwrap()
    }

    /// The seed of the log that this peer said it holds.
    pub(crate) fn seed(&self, of: u64) -> u64 {
        quorate::node::log_seed(&self.up[&of].log_id.unwrap())
    }

    // ---- gossip, laid out by hand ----

    pub(crate) fn myself(&self) -> Vec<u8> {
        identity(self.node(), EPOCH, self.boot, 0)
    }

    pub(crate) fn identity_of(&self, node: u64, bump: u32) -> Vec<u8> {
        identity(node, self.up[&node].boot_epoch, self.up[&node].boot_id, bump)
    }

    /// A packet of gossip to `to`, from whoever `src` says.
    pub(crate) fn packet(&self, src: &[u8], to: u64, members: &[Vec<u8>], records: &[Vec<u8>]) -> Bytes {
        const GOSSIP: u8 = 8;
        let count = u16::try_from(members.len()).unwrap().to_be_bytes();
        let foca = [src, &[0, 0], &self.identity_of(to, 0), &[GOSSIP], &count, &members.concat()].concat();
        let mut out = vec![1];
        out.extend(u16::try_from(foca.len()).unwrap().to_be_bytes());
        out.extend(foca);
        for record in records {
            out.extend(u16::try_from(record.len()).unwrap().to_be_bytes());
            out.extend(record);
        }
        out.into()
    }
}

pub(crate) fn identity(node: u64, epoch: u64, boot: u64, bump: u32) -> Vec<u8> {
    let mut out = Vec::new();
    for part in [node, epoch, boot] {
        out.extend(part.to_be_bytes());
    }
    out.extend(bump.to_be_bytes());
    out.extend([4, 127, 0, 0, 1, 0, 9]);
    out
}

/// A member as foca tells of one: 0 alive, 1 suspect, 2 down.
pub(crate) fn member(identity: &[u8], incarnation: u16, state: u8) -> Vec<u8> {
    [identity, &incarnation.to_be_bytes(), &[state]].concat()
}

/// A record of gossip.
pub(crate) fn record(
    node: u64,
    boot: u64,
    lamport: u64,
    ip: [u8; 4],
    port: u16,
    name: &str,
    tags: &[(&str, &str)],
) -> Vec<u8> {
    let mut out = Vec::new();
    for part in [node, 1, boot, lamport] {
        out.extend(part.to_be_bytes());
    }
    out.extend([0, 4]);
    out.extend(ip);
    out.extend(port.to_be_bytes());
    let mut text = |text: &str| {
        out.push(u8::try_from(text.len()).unwrap());
        out.extend(text.as_bytes());
    };
    text(name);
    text("1");
    out.push(u8::try_from(tags.len()).unwrap());
    for (key, value) in tags {
        for text in [key, value] {
            out.push(u8::try_from(text.len()).unwrap());
            out.extend(text.as_bytes());
        }
    }
    out
}
