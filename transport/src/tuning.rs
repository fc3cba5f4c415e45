//! The QUIC settings, each with its reason (architecture §7; the measurements are in the stack study).
//! Never chooses by platform.

use std::sync::Arc;
use std::time::Duration;

use quinn::congestion::CubicConfig;
use quinn::{AckFrequencyConfig, EndpointConfig, IdleTimeout, MtuDiscoveryConfig, TransportConfig, VarInt};
use quinn_proto::HashedConnectionIdGenerator;
use ring::hmac;

use crate::congestion::Manners;
use crate::{BindError, Limits, Secrets};

/// A LAN has a round trip below this; it sets the first retransmission of a handshake to some 60 ms instead of 1 s.
const INITIAL_RTT: Duration = Duration::from_millis(20);
/// A burst of this size need not wait for the congestion window to open, in bytes.
const INITIAL_WINDOW_BYTES: u64 = 1024 * 1024;
/// Above some 6,500, ten segments of one send exceed a UDP packet's length and the kernel drops them silently.
const MTU_MAX: u16 = 6_400;
/// The default of 25 ms would be waited for by everything that answers only to an acknowledgement.
const ACK_DELAY: Duration = Duration::from_millis(5);
/// What one stream may have under way, in bytes: more than bandwidth times delay on any LAN.
const STREAM_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
/// What all streams of a connection with an agent may have under way, in bytes.
pub(crate) const AGENT_WINDOW_BYTES: u64 = 16 * 1024 * 1024;
/// The same before the greeting, when the other side has shown a certificate but not its key; in each direction.
const STRANGER_WINDOW_BYTES: u32 = 64 * 1024;
/// Streams before the greeting: the one that carries it, and one for luck.
const STRANGER_STREAMS: u32 = 2;
/// Old gossip is worthless, so little of it waits, in bytes.
const DATAGRAM_SEND_BYTES: usize = 64 * 1024;
const DATAGRAM_RECEIVE_BYTES: usize = 256 * 1024;
/// First packets of handshakes that wait to be looked at.
const INCOMING_MAX: usize = 256;
const INCOMING_BYTES: u64 = 64 * 1024;
const INCOMING_BYTES_TOTAL: u64 = 16 * 1024 * 1024;
/// QUIC version 1 and no draft.
const QUIC_V1: u32 = 1;

/// What belongs to the socket.
pub(crate) fn endpoint(secrets: &Secrets) -> Result<EndpointConfig, BindError> {
    let reset_key = hmac::Key::new(hmac::HMAC_SHA256, &secrets.reset);
    let mut config = EndpointConfig::new(Arc::new(reset_key));
    // A reset is only believed for connection ids which the restarted process recognises as its own.
    let key = secrets.connection_id;
    config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(key)));
    shape(&mut config)?;
    Ok(config)
}

/// What belongs to any socket of ours, also a client's.
pub(crate) fn shape(config: &mut EndpointConfig) -> Result<(), BindError> {
    config.supported_versions(vec![QUIC_V1]);
    config.max_udp_payload_size(MTU_MAX).map_err(|_| BindError::Option {
        what: "the largest UDP payload",
        next: "this is a fault of this program, please report it",
    })?;
    Ok(())
}

/// What both sides of all connections share.
fn common(limits: &Limits, yields: bool) -> TransportConfig {
    let mut mtu = MtuDiscoveryConfig::default();
    mtu.upper_bound(MTU_MAX);
    let mut cubic = CubicConfig::default();
    cubic.initial_window(INITIAL_WINDOW_BYTES);
    let mut acks = AckFrequencyConfig::default();
    acks.max_ack_delay(Some(ACK_DELAY));
    let mut config = TransportConfig::default();
    config
        .initial_rtt(INITIAL_RTT)
        .congestion_controller_factory(Arc::new(Manners {
            cubic: Arc::new(cubic),
            yields,
            bytes_per_second: limits.bulk_bytes_per_second,
        }))
        .mtu_discovery_config(Some(mtu))
        .ack_frequency_config(Some(acks))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(window(AGENT_WINDOW_BYTES))
        .send_window(AGENT_WINDOW_BYTES)
        .max_concurrent_bidi_streams(VarInt::from_u32(limits.streams_max))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_send_buffer_size(DATAGRAM_SEND_BYTES)
        .datagram_receive_buffer_size(Some(DATAGRAM_RECEIVE_BYTES))
        .send_fairness(false)
        .allow_spin(false)
        .enable_segmentation_offload(true);
    config
}

/// The accepting side, before it knows which protocol comes: the dialler's shorter idle timeout wins.
pub(crate) fn accepting(limits: &Limits) -> Result<Arc<TransportConfig>, BindError> {
    let mut config = common(limits, false);
    config
        .max_idle_timeout(Some(idle(limits.rpc_idle.max(limits.peer_idle))?))
        .receive_window(VarInt::from_u32(STRANGER_WINDOW_BYTES))
        // Whoever never acknowledges keeps so much of what it was sent in memory.
        .send_window(u64::from(STRANGER_WINDOW_BYTES))
        .max_concurrent_bidi_streams(VarInt::from_u32(STRANGER_STREAMS))
        // Keep-alives on this side would keep our own attackers alive.
        .keep_alive_interval(None);
    Ok(Arc::new(config))
}

/// The dialling side of a peer connection.
pub(crate) fn dialling_peer(limits: &Limits) -> Result<Arc<TransportConfig>, BindError> {
    let mut config = common(limits, false);
    config.max_idle_timeout(Some(idle(limits.peer_idle)?)).keep_alive_interval(Some(limits.peer_keep_alive));
    Ok(Arc::new(config))
}

/// The dialling side of a bulk connection: it ends by itself when it is not used.
pub(crate) fn dialling_bulk(limits: &Limits) -> Result<Arc<TransportConfig>, BindError> {
    let mut config = common(limits, true);
    config
        .max_idle_timeout(Some(idle(limits.rpc_idle)?))
        .keep_alive_interval(None)
        // Nobody reads any: whoever sends one breaks the protocol.
        .datagram_receive_buffer_size(None);
    Ok(Arc::new(config))
}

/// The dialling side of a client's connection: a reader that follows a quiet log must not be cut off.
pub(crate) fn dialling_rpc(limits: &Limits) -> Result<Arc<TransportConfig>, BindError> {
    let mut config = common(limits, false);
    config
        .max_idle_timeout(Some(idle(limits.rpc_idle)?))
        .keep_alive_interval(Some(limits.rpc_idle / 3))
        .datagram_receive_buffer_size(None)
        .max_concurrent_bidi_streams(VarInt::from_u32(0));
    Ok(Arc::new(config))
}

/// What is granted once the other side has greeted and was admitted.
pub(crate) fn trust(connection: &quinn::Connection, streams: u32, window_bytes: u64) {
    connection.set_receive_window(window(window_bytes));
    connection.set_send_window(window_bytes);
    connection.set_max_concurrent_bi_streams(VarInt::from_u32(streams));
}

/// A window that QUIC can say.
fn window(bytes: u64) -> VarInt {
    VarInt::from_u64(bytes).unwrap_or(VarInt::MAX)
}

/// A server configuration to accept with; the TLS part is replaced for each handshake.
pub(crate) fn server(
    crypto: Arc<dyn quinn::crypto::ServerConfig>,
    transport: Arc<TransportConfig>,
) -> quinn::ServerConfig {
    let mut config = quinn::ServerConfig::with_crypto(crypto);
    let mut tokens = quinn::ValidationTokenConfig::default();
    tokens.sent(0);
    config
        .transport_config(transport)
        .migration(false)
        .max_incoming(INCOMING_MAX)
        .incoming_buffer_size(INCOMING_BYTES)
        .incoming_buffer_size_total(INCOMING_BYTES_TOTAL)
        .validation_token_config(tokens);
    config
}

fn idle(timeout: Duration) -> Result<IdleTimeout, BindError> {
    IdleTimeout::try_from(timeout)
        .map_err(|_| BindError::Option { what: "an idle timeout", next: "choose at most some days" })
}
