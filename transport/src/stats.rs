//! Counters of an endpoint and of its connections, for `status` and metrics.
//! Never resets: each number counts since the start, except where it says "present".

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use crate::Code;
use crate::table::{Class, Link};

/// Counters of an endpoint, for `status` and metrics.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Open QUIC connections of all kinds, greeted or not.
    pub connections: usize,
    /// Present handshakes and greetings on the accepting side.
    pub handshakes: usize,
    /// Places (IPv4 addresses, IPv6 /64s) whose handshakes are remembered at present.
    pub places: usize,
    /// Strangers who were told to prove their address first.
    pub retries: u64,
    /// Strangers refused since the start.
    pub refused: u64,
    /// The same by the code they were told.
    pub refused_by_code: BTreeMap<Code, u64>,
    /// Present connections of clients.
    pub guests: usize,
    /// What these may have under way at present, in bytes, in each direction.
    pub guest_window_bytes: u64,
    /// Present streams of clients.
    pub guest_streams: usize,
    /// Present connections that other agents dialled.
    pub agents: usize,
    /// Bytes of large frames of agents that are being received or wait for the caller.
    pub frame_bytes: usize,
    /// Bytes of large frames of clients that are being received.
    pub guest_frame_bytes: usize,
    /// Datagrams dropped because the caller was slow.
    pub datagrams_dropped: u64,
    /// Each greeted connection with an agent.
    pub links: Vec<LinkStats>,
}

/// Counters of one connection with an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkStats {
    /// Which node.
    pub node: u64,
    /// Whether it is for bulk.
    pub bulk: bool,
    /// Whether this side dialled.
    pub dialled: bool,
    /// The other side's UDP address.
    pub remote: SocketAddr,
    /// The present round trip.
    pub rtt: Duration,
    /// Packets sent.
    pub sent_packets: u64,
    /// Packets lost.
    pub lost_packets: u64,
    /// UDP bytes sent.
    pub sent_bytes: u64,
    /// UDP bytes received.
    pub received_bytes: u64,
}

impl LinkStats {
    pub(crate) fn of(link: &Link) -> Self {
        let stats = link.conn.stats();
        Self {
            node: link.info.node,
            bulk: link.class == Class::Bulk,
            dialled: link.info.dialled,
            remote: link.info.remote,
            rtt: stats.path.rtt,
            sent_packets: stats.path.sent_packets,
            lost_packets: stats.path.lost_packets,
            sent_bytes: stats.udp_tx.bytes,
            received_bytes: stats.udp_rx.bytes,
        }
    }
}
