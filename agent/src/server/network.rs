//! Between the transport and the node: events to inputs, outputs to sends. It decides nothing.

use super::facts::{self, Seen};
use crate::facts::Trouble;
use crate::node::{Caller, Class, Gate as NodeGate, Input, Offence, Peer, PeerMessage, Published, level};
use crate::wire::peer::{decode_peer, encode_peer};
use bytes::Bytes;
use quorate_transport::{Code, DialError, Endpoint, Gate, PeerHello, PeerInfo, Refused};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 16;

/// Refused peers that the node hears of in one second; more of them are a flood, of which the transport counts the rest.
const TURNED_AWAY_MAX: u32 = 16;

/// The gate of the transport: what the node last published.
#[derive(Debug)]
pub(super) struct SharedGate {
    picture: RwLock<NodeGate>,
    inputs: mpsc::UnboundedSender<Input>,
    /// Since when, and how many refusals were passed on since then.
    window: Mutex<(Instant, u32)>,
}

impl SharedGate {
    pub(super) fn new(inputs: mpsc::UnboundedSender<Input>) -> Self {
        Self { picture: RwLock::default(), inputs, window: Mutex::new((Instant::now(), 0)) }
    }

    pub(super) fn set(&self, published: &Published) {
        *self.picture.write().unwrap_or_else(PoisonError::into_inner) = published.gate.clone();
    }

    fn may_tell(&self) -> bool {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        if window.0.elapsed() >= Duration::from_secs(1) {
            *window = (Instant::now(), 0);
        }
        window.1 += 1;
        window.1 <= TURNED_AWAY_MAX
    }
}

/// Does this refusal say that the node tells of it, once and for all who ask, rather than the log each time?
pub(super) fn is_told_by_the_node(code: Code) -> bool {
    matches!(code, Code::NotAdmitted | Code::StaleInstance)
}

impl Gate for SharedGate {
    fn admit(&self, peer: &PeerHello, _from: SocketAddr) -> Result<(), Refused> {
        use crate::node::Denied;
        let gate = self.picture.read().unwrap_or_else(PoisonError::into_inner);
        let caller = Caller {
            node: peer.node,
            name: peer.name.as_str(),
            epoch: peer.boot_epoch,
            boot: peer.boot_id,
            log_id: peer.log_id,
            supports: level::supported(peer.features),
        };
        gate.admit(&caller).map_err(|denied| {
            let code = match denied {
                Denied::Stale { .. } | Denied::Copy { .. } | Denied::Superseded { .. } | Denied::Forgotten => {
                    Code::StaleInstance
                }
                Denied::NameHeld { .. } | Denied::NameKept { .. } | Denied::Level { .. } => Code::NotAdmitted,
            };
            Refused::new(code, denied.to_string())
        })
    }

    fn turned_away(&self, peer: &PeerHello, from: SocketAddr, why: &Refused) {
        if is_told_by_the_node(why.code) && self.may_tell() {
            let (name, why) = (peer.name.to_string(), why.text.clone());
            let _ = self.inputs.send(Input::TurnedAway { node: peer.node, name, addr: from, why });
        }
    }
}

/// A peer as the node wants to know it.
pub(super) fn peer(info: &PeerInfo) -> Peer {
    let remote = SocketAddr::new(info.remote.ip().to_canonical(), info.remote.port());
    let addr = match info.advertised {
        // Loopback as somebody from elsewhere means it is another host than this one.
        Some(addr) if addr.ip().to_canonical().is_loopback() && !remote.ip().is_loopback() => {
            SocketAddr::new(remote.ip(), addr.port())
        }
        Some(addr) if !addr.ip().is_unspecified() => addr,
        Some(addr) => SocketAddr::new(remote.ip(), addr.port()),
        None => remote,
    };
    Peer {
        node: info.node,
        name: info.name.to_string(),
        epoch: info.boot_epoch,
        boot: info.boot_id,
        log_id: info.log_id,
        addr,
        observed: info.observed_self,
        version: info.version.clone(),
        founder: level::is_founder(info.features),
        supports: level::supported(info.features),
        expects: level::expects(info.features),
    }
}

/// A frame of a peer as an input.
pub(super) fn frame(node: u64, bytes: Bytes) -> Input {
    match decode_peer(bytes) {
        Ok(message) => Input::Peer { node, message },
        Err(error) => Input::Malformed { node, what: error.0 },
    }
}

/// Sends a message. What could not even be queued and must not stay a riddle is answered at once.
pub(super) fn send(endpoint: &Endpoint, node: u64, class: Class, message: &PeerMessage) -> Option<Input> {
    let parts = encode_peer(message);
    let sent = match class {
        Class::Bulk => endpoint.send_bulk(node, &parts),
        Class::Peer => endpoint.send_parts(node, &parts),
    };
    match (sent, message) {
        (Err(_), PeerMessage::Forward { id, .. }) => Some(Input::Peer {
            node,
            message: PeerMessage::Forwarded { id: *id, result: Err(crate::node::never_sent()) },
        }),
        (Err(error), _) => {
            tracing::debug!("message to node {node:016x} dropped: {error}");
            None
        }
        (Ok(()), _) => None,
    }
}

/// What a peer is told that has lied.
pub(super) fn refused(offence: Offence) -> Refused {
    match offence {
        Offence::Identity => Code::IdentityMismatch.into(),
        Offence::Malformed => Code::Malformed.into(),
    }
}

/// Resolves a join address and dials each of its addresses once.
pub(super) async fn dial_seed(endpoint: Endpoint, seed: String, inputs: mpsc::UnboundedSender<Input>, seen: Seen) {
    let input = match try_seed(&endpoint, &seed).await {
        Ok(node) => {
            seen.dial_answered(&seed);
            Input::SeedAnswered { seed, node }
        }
        Err(Failed { why, refusal, tried, trouble }) => {
            seen.dial_failed(&seed, trouble);
            Input::SeedFailed { seed, why, refusal, tried }
        }
    };
    let _ = inputs.send(input);
}

/// Why a join address did not lead in.
struct Failed {
    why: String,
    refusal: Option<String>,
    tried: Vec<SocketAddr>,
    trouble: Trouble,
}

/// The other side's own words, if it refused this very agent and not only this moment.
fn refusal(error: &DialError) -> Option<String> {
    match error {
        DialError::Closed { why, .. }
            if matches!(why.code, Code::NotAdmitted | Code::StaleInstance | Code::Revoked) =>
        {
            Some(why.text.clone())
        }
        _ => None,
    }
}

async fn try_seed(endpoint: &Endpoint, seed: &str) -> Result<u64, Failed> {
    let addresses: Vec<SocketAddr> = match tokio::net::lookup_host(seed).await {
        Ok(addresses) => addresses.take(ADDRESSES_MAX).collect(),
        Err(error) => {
            let why = format!("the name does not resolve ({error}); check it");
            let trouble = Trouble { word: "unresolved".into(), text: why.clone(), ..Trouble::default() };
            return Err(Failed { why, refusal: None, tried: Vec::new(), trouble });
        }
    };
    let (mut reasons, mut refused) = (Vec::new(), None);
    let mut trouble = Trouble { word: "unresolved".into(), ..Trouble::default() };
    for addr in addresses.iter().copied() {
        match endpoint.dial(addr, None).await {
            Ok(peer) => return Ok(peer.node),
            // One's own address among the join addresses is how identical machines are configured.
            Err(DialError::Myself { .. }) => return Ok(endpoint.node()),
            Err(error) => {
                refused = refused.or_else(|| refusal(&error));
                trouble = facts::trouble(&error);
                reasons.push(error.to_string());
            }
        }
    }
    let why = if reasons.is_empty() { "the name has no address; check it".into() } else { reasons.join("; ") };
    let trouble = Trouble { text: why.clone(), ..trouble };
    Err(Failed { why, refusal: refused, tried: addresses, trouble })
}

/// One dial to a node that gossip has something to say to; that it is up is told by the transport.
pub(super) async fn dial(endpoint: Endpoint, node: u64, addr: SocketAddr, inputs: mpsc::UnboundedSender<Input>) {
    if let Err(error) = endpoint.dial(addr, Some(node)).await {
        tracing::debug!("node {node:016x} was not reached: {error}");
        let _ = inputs.send(Input::DialFailed { node });
    }
}

/// Push-pull with a peer: its answer is an input, silence is nothing.
pub(super) async fn exchange(endpoint: Endpoint, node: u64, request: Vec<u8>, inputs: mpsc::UnboundedSender<Input>) {
    match endpoint.exchange(node, request.into()).await {
        Ok(bytes) => drop(inputs.send(Input::ExchangeReply { node, bytes: bytes.to_vec() })),
        Err(error) => tracing::debug!("push-pull with node {node:016x} failed: {error}"),
    }
}

/// Shares what the node publishes with readers and the gate.
pub(super) fn publish(
    gate: &SharedGate,
    sender: &tokio::sync::watch::Sender<Arc<Published>>,
    published: Arc<Published>,
) {
    gate.set(&published);
    sender.send_replace(published);
}
