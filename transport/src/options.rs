//! What the caller decides when it binds an endpoint: identity, node, policy and every bound.
//! Never changes after the bind, except through the endpoint's setters.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quorate_certs::{AgentName, Identity};

use crate::{NodeKey, Refused};

/// The id of a history (a log), as the caller knows it.
pub type LogId = [u8; 16];

/// Everything an endpoint needs.
pub struct Options {
    /// The UDP address; `[::]:port` serves IPv4 too. Port 0 lets the system choose.
    pub bind: SocketAddr,
    /// Certificate, key and trust. Must be an agent's.
    pub identity: Arc<Identity>,
    /// What must survive a restart so that peers notice it at once.
    pub secrets: Secrets,
    /// What this node says about itself.
    pub local: LocalNode,
    /// The caller's policy about peers.
    pub gate: Arc<dyn Gate>,
    /// Every bound.
    pub limits: Limits,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options").field("bind", &self.bind).field("local", &self.local).finish_non_exhaustive()
    }
}

/// Two secrets of one node, kept in its data directory (readable by the owner only), never shared by two nodes.
///
/// With the same secrets a restarted process answers packets of forgotten connections with a reset that the peer
/// believes; without, the peer waits for its idle timeout.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Secrets {
    /// Proves a stateless reset.
    pub reset: [u8; 32],
    /// Marks the connection ids of this node.
    pub connection_id: u64,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secrets")
    }
}

/// What this node says about itself in Hello and Welcome.
#[derive(Debug)]
pub struct LocalNode {
    /// Proves the node id.
    pub key: NodeKey,
    /// The human name; must be the certificate's.
    pub name: AgentName,
    /// Counts the starts of this data directory.
    pub boot_epoch: u64,
    /// Random for each start.
    pub boot_id: u64,
    /// The history this node holds, if any.
    pub log_id: Option<LogId>,
    /// Where others should dial this node, if the caller knows.
    pub advertise: Option<SocketAddr>,
    /// The program's version, for people.
    pub version: String,
    /// Feature bits, for the caller.
    pub features: u64,
}

/// What a peer proved about itself in its Hello or Welcome, before it is admitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerHello {
    /// The node id its key proves.
    pub node: u64,
    /// The name its certificate proves.
    pub name: AgentName,
    /// Its public node key.
    pub public_key: [u8; 32],
    /// Its count of starts.
    pub boot_epoch: u64,
    /// Its present start.
    pub boot_id: u64,
    /// The history it holds.
    pub log_id: Option<LogId>,
    /// Where it wants to be dialled.
    pub advertised: Option<SocketAddr>,
    /// Its UDP port.
    pub port: u16,
    /// Its program's version (sanitised).
    pub version: String,
    /// Its feature bits.
    pub features: u64,
    /// Whether the connection is for bulk.
    pub bulk: bool,
    /// Whether this side dialled.
    pub dialled: bool,
}

/// The caller's policy: asked once for each peer or bulk connection, after everything was proven. Must not block.
pub trait Gate: Send + Sync {
    /// Admits or refuses; the refusal's text is sent to the peer, so it must not repeat what the peer said.
    fn admit(&self, peer: &PeerHello, from: SocketAddr) -> Result<(), Refused>;

    /// Hears of every peer that proved itself and was refused all the same, by this policy or because another instance
    /// of it lives. Must not block.
    fn turned_away(&self, _peer: &PeerHello, _from: SocketAddr, _why: &Refused) {}
}

/// Admits every agent of the cluster.
#[derive(Debug, Clone, Copy, Default)]
pub struct OpenGate;

impl Gate for OpenGate {
    fn admit(&self, _peer: &PeerHello, _from: SocketAddr) -> Result<(), Refused> {
        Ok(())
    }
}

/// Every bound of an endpoint. The defaults suit a cluster of some hundred agents on a LAN.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Handshakes at one time. Above a quarter of it strangers must first prove their address; one address holds at most
    /// a quarter, and the last eighth is for addresses where an agent is known to be.
    pub handshakes_max: usize,
    /// Handshakes that may begin each second, all strangers with a proven address together; four times as many at once.
    /// Each costs this process about half a millisecond.
    pub handshakes_per_second: u32,
    /// The same for one IPv4 address or IPv6 /64.
    pub handshakes_per_address_per_second: u32,
    /// From the first packet until TLS is done.
    pub handshake_deadline: Duration,
    /// For each of Hello, Welcome and Ready.
    pub hello_deadline: Duration,
    /// For one dial, all steps together.
    pub dial_deadline: Duration,
    /// For an answer of an older instance of a node before a newer one takes its place.
    pub probe_deadline: Duration,
    /// For one [`exchange`](crate::Endpoint::exchange).
    pub exchange_deadline: Duration,
    /// Connections of all kinds at one time.
    pub connections_max: usize,
    /// How many of these clients cannot have, so that they never lock agents out.
    pub connections_reserved: usize,
    /// Connections of one client identity at one time.
    pub connections_per_client_max: usize,
    /// Connections that one agent's certificate holds by dialling this agent: it needs two, and for a moment four.
    pub connections_per_agent_max: usize,
    /// Bytes that a client's connection may have under way, in each direction, when all seats are taken.
    pub guest_window_bytes_min: u64,
    /// The same when few seats are taken.
    pub guest_window_bytes_max: u64,
    /// The sum of the windows of all clients' connections, in bytes, in each direction.
    pub guest_windows_bytes_max: u64,
    /// What the windows of one client identity have above the least ones, in bytes, in each direction.
    pub client_windows_bytes_max: u64,
    /// Streams of all clients at one time; what is opened beyond it waits in QUIC.
    pub guest_streams_max: usize,
    /// Streams of one client identity at one time.
    pub client_streams_max: usize,
    /// Bytes of large frames that one client identity may have in arrival.
    pub client_frames_bytes_max: usize,
    /// Bidirectional streams at one time on a connection (each costs memory even unused).
    pub streams_max: u32,
    /// Bytes of a Hello, Welcome or Ready frame.
    pub hello_bytes_max: usize,
    /// Bytes of a frame on a peer connection.
    pub peer_frame_bytes_max: usize,
    /// Bytes of a frame on a bulk connection.
    pub bulk_frame_bytes_max: usize,
    /// Bytes of a frame on a client's stream.
    pub rpc_frame_bytes_max: usize,
    /// Bytes of the request and of the answer of an exchange.
    pub exchange_bytes_max: usize,
    /// Bytes waiting to be written to one peer.
    pub peer_queue_bytes_max: usize,
    /// Bytes waiting to be written to one peer's bulk connection.
    pub bulk_queue_bytes_max: usize,
    /// Bytes a second that one bulk connection sends at most: what it leaves of the one thread is for heartbeats.
    pub bulk_bytes_per_second: u64,
    /// Events waiting for the caller.
    pub events_max: usize,
    /// Bytes of large frames being received or waiting for the caller.
    pub received_bytes_max: usize,
    /// A peer connection on which something was said, and nothing came back for this long, is gone. In whole seconds.
    pub peer_unanswered: Duration,
    /// A peer connection without any packet for this long is gone, though nobody had anything to say. Not more than
    /// `rpc_idle`: who accepts does not know yet whether a peer or a client comes, and what a client leaves behind, half a
    /// large frame or a thousand streams, would be held for as long.
    pub peer_idle: Duration,
    /// The dialling side of a peer connection that was not used for so long says that it lives: two of these may be lost
    /// within `peer_idle`. Death is noticed sooner, by who has something to say.
    pub peer_keep_alive: Duration,
    /// A client's or bulk connection without any packet for this long is gone.
    pub rpc_idle: Duration,
    /// How long the side with the higher node id waits for the other one to dial a kept peer, so that they share one
    /// connection. Some handshakes on a LAN.
    pub dial_courtesy: Duration,
    /// The first wait before a kept peer is dialled again; doubles with each failure.
    pub redial_min: Duration,
    /// The longest wait before a kept peer is dialled again.
    pub redial_max: Duration,
    /// From one report of a refused stranger to the next of its kind and source.
    pub refusals_quiet: Duration,
}

/// Room for the header of an entry beside the largest payload, in bytes.
const FRAME_SLACK_BYTES: usize = 64 * 1024;
const MIB: usize = 1024 * 1024;
const KIB: u64 = 1024;

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshakes_max: 128,
            handshakes_per_second: 256,
            handshakes_per_address_per_second: 64,
            handshake_deadline: Duration::from_secs(5),
            hello_deadline: Duration::from_secs(2),
            dial_deadline: Duration::from_secs(3),
            probe_deadline: Duration::from_secs(1),
            exchange_deadline: Duration::from_secs(5),
            connections_max: 4_096,
            connections_reserved: 512,
            connections_per_client_max: 1_024,
            connections_per_agent_max: 16,
            guest_window_bytes_min: 64 * KIB,
            guest_window_bytes_max: 4 * 1024 * KIB,
            guest_windows_bytes_max: 256 * 1024 * KIB,
            client_windows_bytes_max: 16 * 1024 * KIB,
            guest_streams_max: 16_384,
            client_streams_max: 4_096,
            client_frames_bytes_max: 64 * MIB,
            streams_max: 64,
            hello_bytes_max: 4 * 1024,
            peer_frame_bytes_max: 8 * MIB + FRAME_SLACK_BYTES,
            bulk_frame_bytes_max: 8 * MIB + FRAME_SLACK_BYTES,
            rpc_frame_bytes_max: 8 * MIB + FRAME_SLACK_BYTES,
            exchange_bytes_max: 4 * MIB,
            peer_queue_bytes_max: 32 * MIB,
            bulk_queue_bytes_max: 16 * MIB,
            bulk_bytes_per_second: 256 * 1024 * KIB,
            events_max: 4_096,
            received_bytes_max: 256 * MIB,
            peer_unanswered: Duration::from_secs(4),
            peer_idle: Duration::from_secs(30),
            peer_keep_alive: Duration::from_secs(12),
            rpc_idle: Duration::from_secs(30),
            dial_courtesy: Duration::from_millis(100),
            redial_min: Duration::from_millis(50),
            redial_max: Duration::from_secs(5),
            refusals_quiet: Duration::from_secs(10),
        }
    }
}
