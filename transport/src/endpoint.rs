//! The endpoint: the caller's handle, which hands each wish to whoever carries it out.
//! Never blocks the caller: what cannot be done now is refused or awaited.

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use quinn::SendDatagramError;
use quinn::crypto::rustls::QuicServerConfig;
use quorate_certs::{CertsError, Identity, Tls, Verdict};

use crate::admission::Admission;
use crate::budget::{Budget, UNIT_BYTES};
use crate::dial::{Credentials, Dialler};
use crate::event::{EventSender, Events};
use crate::inner::Inner;
use crate::kept::Kept;
use crate::lock::lock;
use crate::refusals::Refusals;
use crate::rpc::RpcClient;
use crate::seats::{Room, Seats};
use crate::stats::{LinkStats, Stats};
use crate::table::{CHANGES_MAX, Class};
use crate::turns::Turns;
use crate::{
    BindError, Code, DialError, ExchangeError, Limits, LocalNode, LogId, Options, PeerInfo, Refused, SendError, accept,
    bulk, connect, link, pool, silence, socket, tuning,
};

/// Frames of agents up to this length do not draw on the budget, in bytes: there are few agents.
const AGENT_SMALL_BYTES: usize = 64 * 1024;
/// The same for clients, of which there may be as many as there are streams.
const GUEST_SMALL_BYTES: usize = 8 * 1024;
/// How long a closing endpoint waits until its last packets are out.
const LINGER: Duration = Duration::from_millis(500);

/// One UDP port, and every connection on it. Cheap to clone.
///
/// Whoever drains [`Events`] must not wait for `dial`, `exchange` or `send_bulk_wait` in the same task: these may need
/// room in the queue of events.
#[derive(Clone)]
pub struct Endpoint {
    inner: Arc<Inner>,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({:016x} on {})", self.node(), self.local_addr())
    }
}

impl Endpoint {
    /// Binds the port and begins to accept. Must be called inside a tokio runtime, which then carries everything until
    /// [`close`](Self::close), whether or not a handle is kept.
    pub fn bind(options: Options) -> Result<(Self, Events), BindError> {
        let Options { bind, identity, secrets, local, gate, limits } = options;
        check(&identity, &local, &limits)?;
        let credentials = credentials(&identity)?;
        let unusable = |e: &dyn fmt::Display| CertsError::Crypto { doing: "prepare QUIC", why: e.to_string() };
        let tls = credentials.tls.server(&accept::alpns(), &Verdict::new())?;
        let crypto = QuicServerConfig::try_from(tls).map_err(|e| unusable(&e))?;
        let server = tuning::server(Arc::new(crypto), tuning::accepting(&limits)?);
        let udp = socket::bind(bind)?;
        let io = |source| BindError::Io { addr: bind, source };
        let port = udp.local_addr().map_err(io)?.port();
        let runtime = quinn::default_runtime().ok_or(BindError::NoRuntime)?;
        let config = tuning::endpoint(&secrets)?;
        let quinn = quinn::Endpoint::new(config, Some(server.clone()), udp, runtime).map_err(io)?;
        let (events, queue) = EventSender::new(limits.events_max);
        let budget = Budget::of_bytes(limits.received_bytes_max, AGENT_SMALL_BYTES);
        let guest_budget = Budget::of_bytes(limits.received_bytes_max, GUEST_SMALL_BYTES);
        let guest_streams = Budget::of_things(limits.guest_streams_max);
        let inner = Arc::new(Inner {
            peers: Dialler::new(quinn.clone(), tuning::dialling_peer(&limits)?),
            bulks: Dialler::new(quinn.clone(), tuning::dialling_bulk(&limits)?),
            clients: Dialler::new(quinn.clone(), tuning::dialling_rpc(&limits)?),
            cluster: identity.cluster(),
            admission: Admission::new(&limits),
            guests: Seats::new(guest_room(&limits), guest_budget.clone(), guest_streams.clone()),
            agents: Seats::new(agent_room(&limits), budget.clone(), guest_streams.clone()),
            budget,
            guest_budget,
            guest_streams,
            log_id: Mutex::new(local.log_id),
            credentials: Mutex::new(credentials),
            kept: Kept::default(),
            waiting: Mutex::default(),
            turns: Turns::default(),
            table: Mutex::default(),
            refusals: Mutex::new(Refusals::new(limits.refusals_quiet)),
            retries: AtomicU64::new(0),
            next_id: AtomicU64::new(1),
            datagrams_dropped: AtomicU64::new(0),
            closing: AtomicBool::new(false),
            quinn,
            limits,
            local,
            port,
            gate,
            server,
            events,
        });
        tokio::spawn(accept::accept(inner.clone()));
        tokio::spawn(silence::watch(inner.clone()));
        Ok((Self { inner }, queue))
    }

    /// The address the socket is bound to.
    pub fn local_addr(&self) -> SocketAddr {
        let unknown = SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, self.inner.port));
        self.inner.quinn.local_addr().unwrap_or(unknown)
    }

    /// This node's id.
    pub fn node(&self) -> u64 {
        self.inner.node()
    }

    /// Says this history in every greeting from now on.
    pub fn set_log_id(&self, log_id: LogId) {
        *lock(&self.inner.log_id) = Some(log_id);
    }

    /// Uses this identity for every handshake from now on, in both directions; connections that exist stay. It must be
    /// of the same cluster and name.
    pub fn set_identity(&self, identity: &Identity) -> Result<(), BindError> {
        if identity.cluster() != self.inner.cluster {
            return Err(CertsError::OtherCluster { ours: self.inner.cluster, asked: identity.cluster() }.into());
        }
        check(identity, &self.inner.local, &self.inner.limits)?;
        *lock(&self.inner.credentials) = credentials(identity)?;
        Ok(())
    }

    /// Dials once, within `dial_deadline`. When it returns, the node at `addr` is a peer.
    pub async fn dial(&self, addr: SocketAddr, expected: Option<u64>) -> Result<PeerInfo, DialError> {
        connect::dial(&self.inner, addr, expected, Class::Peer).await.map(|link| link.info.clone())
    }

    /// Keeps one connection with `node`, whoever dials it: while there is none it is dialled at `addr` again and again, until
    /// [`unkeep`](Self::unkeep). A new address replaces the old one from the next attempt on.
    pub fn keep(&self, node: u64, addr: SocketAddr) {
        if node != self.node() {
            pool::keep(&self.inner, node, addr);
        }
    }

    /// Stops to keep `node`, and closes the outgoing connection.
    pub fn unkeep(&self, node: u64) {
        self.inner.kept.unkeep(node);
        let link = self.inner.table().dialled(node, Class::Peer).cloned();
        if let Some(link) = link {
            link.end(&Code::Ok.into());
        }
    }

    /// Why the last attempt to reach a kept node failed, while it is not connected.
    pub fn trouble(&self, node: u64) -> Option<DialError> {
        self.inner.kept.trouble(node)
    }

    /// Closes every connection with `node` and tells it why. It may come back if the gate lets it.
    pub fn disconnect(&self, node: u64, why: &Refused) {
        let links: Vec<_> = self.inner.table().of(node).cloned().collect();
        links.iter().for_each(|link| link.end(why));
    }

    /// Queues one frame for `node`.
    pub fn send(&self, node: u64, frame: Bytes) -> Result<(), SendError> {
        self.inner.push(node, Class::Peer, &[frame])
    }

    /// Queues one frame made of several buffers for `node`, without copying the long ones.
    pub fn send_parts(&self, node: u64, parts: &[Bytes]) -> Result<(), SendError> {
        self.inner.push(node, Class::Peer, parts)
    }

    /// Queues one frame for `node` on the bulk connection; if there is none, the node is dialled first, and the frame
    /// is lost if that fails. The node must be a peer already.
    pub fn send_bulk(&self, node: u64, parts: &[Bytes]) -> Result<(), SendError> {
        bulk::send(&self.inner, node, parts)
    }

    /// Like [`send_bulk`](Self::send_bulk), but connects first and waits for room, and fails if that is impossible.
    pub async fn send_bulk_wait(&self, node: u64, parts: &[Bytes]) -> Result<(), SendError> {
        bulk::send_wait(&self.inner, node, parts).await
    }

    /// Sends one datagram to `node`: at once or never. 1150 bytes always fit.
    pub fn datagram(&self, node: u64, bytes: Bytes) -> Result<(), SendError> {
        let link = self.inner.table().link(node, Class::Peer).cloned().ok_or(SendError::NotConnected)?;
        let length = bytes.len();
        link.conn.send_datagram(bytes).map_err(|error| match error {
            SendDatagramError::TooLarge => {
                SendError::TooLarge { bytes: length, max: link.conn.max_datagram_size().unwrap_or(0) }
            }
            _ => SendError::NotConnected,
        })
    }

    /// Asks `node` and waits for the answer, within `exchange_deadline`.
    pub async fn exchange(&self, node: u64, request: Bytes) -> Result<Bytes, ExchangeError> {
        let inner = &self.inner;
        let (bytes, max) = (request.len(), inner.limits.exchange_bytes_max);
        if bytes == 0 {
            return Err(SendError::Empty.into());
        }
        if bytes > max {
            return Err(SendError::TooLarge { bytes, max }.into());
        }
        let link = inner.table().link(node, Class::Peer).cloned().ok_or(SendError::NotConnected)?;
        let deadline = inner.limits.exchange_deadline;
        let asked = tokio::time::timeout(deadline, link::exchange(inner, &link, request)).await;
        asked.unwrap_or(Err(ExchangeError::Deadline(deadline)))
    }

    /// The present round trip to `node`.
    pub fn rtt(&self, node: u64) -> Option<Duration> {
        self.inner.table().link(node, Class::Peer).map(|link| link.conn.rtt())
    }

    /// Everybody who is connected now, by node id.
    pub fn peers(&self) -> Vec<PeerInfo> {
        self.inner.table().peers().cloned().collect()
    }

    /// A client on this port, for requests to other agents under this agent's own certificate.
    pub fn rpc_client(&self) -> RpcClient {
        let inner = &self.inner;
        RpcClient {
            dialler: inner.clients.clone(),
            credentials: inner.credentials(),
            version: inner.local.version.as_str().into(),
            features: inner.local.features,
            limits: Arc::new(inner.limits.clone()),
            budget: inner.guest_budget.clone(),
            owns_port: false,
        }
    }

    /// Counters.
    pub fn stats(&self) -> Stats {
        let inner = &self.inner;
        let refused = lock(&inner.refusals).by_code().clone();
        let (guests, guest_window_bytes) = inner.guests.granted();
        Stats {
            links: inner.table().all().map(|link| LinkStats::of(link)).collect(),
            connections: inner.quinn.open_connections(),
            handshakes: inner.admission.held(),
            places: inner.admission.places(),
            retries: inner.retries.load(Ordering::Relaxed),
            refused: refused.values().sum(),
            refused_by_code: refused,
            guests,
            guest_window_bytes,
            guest_streams: inner.limits.guest_streams_max.saturating_sub(inner.guest_streams.left()),
            agents: inner.agents.granted().0,
            frame_bytes: inner.limits.received_bytes_max.saturating_sub(inner.budget.left()),
            guest_frame_bytes: inner.limits.received_bytes_max.saturating_sub(inner.guest_budget.left()),
            datagrams_dropped: inner.datagrams_dropped.load(Ordering::Relaxed),
        }
    }

    /// Closes everything, tells everybody why, and waits briefly until the last packets are out.
    pub async fn close(&self, why: &Refused) {
        self.inner.closing.store(true, Ordering::Relaxed);
        self.inner.kept.stop();
        self.inner.quinn.close(why.code.var(), why.wire());
        // Whoever does not hear it finds out by its idle timeout.
        let _ = tokio::time::timeout(LINGER, self.inner.quinn.wait_idle()).await;
    }
}

fn credentials(identity: &Identity) -> Result<Credentials, CertsError> {
    Ok(Credentials::new(Tls::new(identity)?, identity.not_before(), identity.not_after()))
}

/// What clients may hold.
fn guest_room(limits: &Limits) -> Room {
    let connections_max = limits.connections_max.saturating_sub(limits.connections_reserved);
    let (least, most) = (limits.guest_window_bytes_min, limits.guest_window_bytes_max);
    Room {
        connections_max,
        own_connections_max: limits.connections_per_client_max,
        window_bytes: (least, most.max(least)),
        // What is left when each connection has the least.
        extra_bytes_max: limits.guest_windows_bytes_max.saturating_sub(least * connections_max as u64),
        own_extra_bytes_max: limits.client_windows_bytes_max,
        own_frames_bytes_max: limits.client_frames_bytes_max,
        own_streams_max: limits.client_streams_max,
    }
}

/// What agents that dial this one may hold. Their windows are those of the class; there are few of them.
fn agent_room(limits: &Limits) -> Room {
    Room {
        connections_max: limits.connections_max,
        own_connections_max: limits.connections_per_agent_max,
        window_bytes: (0, 0),
        extra_bytes_max: 0,
        own_extra_bytes_max: 0,
        own_frames_bytes_max: limits.received_bytes_max,
        own_streams_max: 0,
    }
}

/// An agent's identity of the right name, and limits that fit together.
fn check(identity: &Identity, local: &LocalNode, limits: &Limits) -> Result<(), BindError> {
    let subject = identity.subject();
    if !subject.is_agent() || *subject.name() != local.name {
        return Err(BindError::Name { subject: subject.to_string(), name: local.name.to_string() });
    }
    let largest = [
        limits.peer_frame_bytes_max,
        limits.bulk_frame_bytes_max,
        limits.rpc_frame_bytes_max,
        limits.exchange_bytes_max,
    ];
    let largest = largest.into_iter().max().unwrap_or(0);
    let too_small = |what| Err(BindError::Option { what, next: "choose a larger one" });
    if limits.received_bytes_max < largest + UNIT_BYTES {
        return too_small("a received_bytes_max smaller than the largest frame");
    }
    if limits.events_max < 2 * CHANGES_MAX {
        return too_small("an events_max this small");
    }
    if limits.handshakes_max == 0 || limits.streams_max < 2 {
        return too_small("a handshakes_max or streams_max this small");
    }
    if limits.client_frames_bytes_max < largest + UNIT_BYTES {
        return too_small("a client_frames_bytes_max smaller than the largest frame");
    }
    if limits.handshakes_per_second == 0 || limits.handshakes_per_address_per_second == 0 {
        return too_small("a rate of handshakes this small");
    }
    if limits.connections_reserved >= limits.connections_max {
        return Err(BindError::Option {
            what: "a connections_reserved that leaves clients no connection",
            next: "choose a smaller one",
        });
    }
    Ok(())
}
