//! Between the transport and the node: events to inputs, outputs to sends. It decides nothing.

use crate::node::{Class, FEATURE_FOUNDER, Gate as NodeGate, Input, Offence, Peer, PeerMessage, Published};
use crate::wire::peer::{decode_peer, encode_peer};
use bytes::Bytes;
use quorate_transport::{Code, DialError, Endpoint, Gate, PeerHello, PeerInfo, Refused};
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::mpsc;

/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 16;

/// The gate of the transport: what the node last published.
#[derive(Debug, Default)]
pub(super) struct SharedGate(RwLock<NodeGate>);

impl SharedGate {
    pub(super) fn set(&self, published: &Published) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = published.gate.clone();
    }
}

impl Gate for SharedGate {
    fn admit(&self, peer: &PeerHello, _from: SocketAddr) -> Result<(), Refused> {
        use crate::node::Denied;
        let gate = self.0.read().unwrap_or_else(PoisonError::into_inner);
        gate.admit(peer.node, peer.name.as_str(), peer.boot_epoch, peer.boot_id).map_err(|denied| {
            let code = match denied {
                Denied::Stale { .. } | Denied::Copy { .. } => Code::StaleInstance,
                Denied::NameHeld { .. } => Code::NotAdmitted,
            };
            Refused::new(code, denied.to_string())
        })
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
        founder: info.features & FEATURE_FOUNDER != 0,
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
pub(super) async fn dial_seed(endpoint: Endpoint, seed: String, inputs: mpsc::UnboundedSender<Input>) {
    let input = match try_seed(&endpoint, &seed).await {
        Ok(node) => Input::SeedAnswered { seed, node },
        Err(why) => Input::SeedFailed { seed, why },
    };
    let _ = inputs.send(input);
}

async fn try_seed(endpoint: &Endpoint, seed: &str) -> Result<u64, String> {
    let addresses: Vec<SocketAddr> = match tokio::net::lookup_host(seed).await {
        Ok(addresses) => addresses.take(ADDRESSES_MAX).collect(),
        Err(error) => return Err(format!("the name does not resolve ({error}); check it")),
    };
    let mut reasons = Vec::new();
    for addr in addresses {
        match endpoint.dial(addr, None).await {
            Ok(peer) => return Ok(peer.node),
            // One's own address among the join addresses is how identical machines are configured.
            Err(DialError::Myself { .. }) => return Ok(endpoint.node()),
            Err(error) => reasons.push(error.to_string()),
        }
    }
    if reasons.is_empty() { Err("the name has no address; check it".into()) } else { Err(reasons.join("; ")) }
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
