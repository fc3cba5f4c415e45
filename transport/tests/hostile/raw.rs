//! Packets made by hand, on plain UDP sockets, from any address of the loopback.
//! Never answers: whoever sends these does not care what comes back, only counts it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Instant;

use quinn_proto::{ClientConfig, ConnectionHandle, EndpointConfig, TransportConfig};
use rustls::Side;
use rustls::quic::{Keys, Version};

/// QUIC version 1.
pub const V1: u32 = 1;
/// The least length of a datagram that begins a connection.
pub const INITIAL_BYTES: usize = 1200;

/// Handshakes that one knocker keeps going.
const OPEN_MAX: usize = 512;

/// A socket that counts.
pub struct Forger {
    socket: UdpSocket,
    pub sent: usize,
    pub received: usize,
    pub replies: usize,
}

impl Forger {
    /// At 127.0.0.`host`.
    pub fn at(host: u8) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::new(127, 0, 0, host), 0)).unwrap();
        socket.set_nonblocking(true).unwrap();
        Self { socket, sent: 0, received: 0, replies: 0 }
    }

    pub fn send(&mut self, to: SocketAddr, packet: &[u8]) {
        // A full socket buffer is a lost packet, as on any network.
        if let Ok(sent) = self.socket.send_to(packet, to) {
            self.sent += sent;
        }
    }

    /// Counts what has come.
    pub fn drain(&mut self) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        let mut buffer = [0; 2048];
        loop {
            match self.socket.recv_from(&mut buffer) {
                Ok((length, _)) => {
                    self.received += length;
                    self.replies += 1;
                    all.push(buffer[..length].to_vec());
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return all,
                Err(_) => {}
            }
        }
    }

    pub fn ip(&self) -> IpAddr {
        self.socket.local_addr().unwrap().ip()
    }
}

/// A QUIC client that begins handshakes and never hears an answer.
pub struct Knocker {
    endpoint: quinn_proto::Endpoint,
    config: ClientConfig,
    open: Vec<(ConnectionHandle, quinn_proto::Connection)>,
}

impl Knocker {
    pub fn new(mut tls: rustls::ClientConfig) -> Self {
        tls.enable_early_data = false;
        let crypto = quinn_proto::crypto::rustls::QuicClientConfig::try_from(tls).unwrap();
        let mut config = ClientConfig::new(Arc::new(crypto));
        let mut transport = TransportConfig::default();
        transport.max_idle_timeout(None);
        config.transport_config(Arc::new(transport));
        let endpoint = quinn_proto::Endpoint::new(Arc::new(EndpointConfig::default()), None, false, None);
        Self { endpoint, config, open: Vec::new() }
    }

    /// The first packet of a new handshake.
    pub fn initial(&mut self, to: SocketAddr, name: &str) -> Vec<u8> {
        let opened = self.endpoint.connect(Instant::now(), self.config.clone(), to, name).unwrap();
        // Those long forgotten by the other side need no more of our memory either.
        if self.open.len() == OPEN_MAX {
            self.open.remove(0);
        }
        self.open.push(opened);
        let last = self.open.len() - 1;
        self.packet(last).unwrap()
    }

    /// For each of the `last` handshakes that were begun one more first packet with a PING, which keeps a careless server's timer going.
    pub fn pings(&mut self, last: usize) -> Vec<Vec<u8>> {
        (self.open.len().saturating_sub(last)..self.open.len())
            .filter_map(|index| {
                self.open[index].1.ping();
                self.packet(index)
            })
            .collect()
    }

    fn packet(&mut self, index: usize) -> Option<Vec<u8>> {
        let mut buffer = Vec::new();
        let transmit = self.open[index].1.poll_transmit(Instant::now(), 1, &mut buffer)?;
        buffer.truncate(transmit.size);
        Some(buffer)
    }
}

/// A first packet whose header is right and whose content is noise: it costs the receiver keys and a decryption.
pub fn noise_initial(seed: u64) -> Vec<u8> {
    let mut packet = vec![0xc3];
    packet.extend_from_slice(&V1.to_be_bytes());
    packet.push(8);
    packet.extend_from_slice(&seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    packet.push(8);
    packet.extend_from_slice(&seed.to_be_bytes());
    packet.push(0);
    let rest = INITIAL_BYTES - packet.len() - 2;
    packet.extend_from_slice(&(0x4000 | u16::try_from(rest).unwrap()).to_be_bytes());
    packet.extend((0..rest).map(|at| (seed as usize + at * 31) as u8));
    packet
}

/// A first packet with these frames, protected with the keys that everybody can derive.
pub fn initial_with(side: Side, keys_cid: &[u8], dst: &[u8], src: &[u8], frames: &[u8]) -> Vec<u8> {
    let provider = quorate_certs::provider();
    let fixed = rustls::CipherSuite::TLS13_AES_128_GCM_SHA256;
    let suite =
        provider.cipher_suites.iter().filter(|s| s.suite() == fixed).find_map(|s| s.tls13()?.quic_suite()).unwrap();
    let keys = Keys::initial(Version::V1, suite.suite, suite.quic, keys_cid, side);
    let number = [0_u8, 0, 0, 1];
    let mut payload = frames.to_vec();
    let header_bytes = 1 + 4 + 1 + dst.len() + 1 + src.len() + 1 + 2 + number.len();
    let tag = keys.local.packet.tag_len();
    payload.resize(INITIAL_BYTES - header_bytes - tag, 0);
    let mut packet = vec![0xc3];
    packet.extend_from_slice(&V1.to_be_bytes());
    for id in [dst, src] {
        packet.push(u8::try_from(id.len()).unwrap());
        packet.extend_from_slice(id);
    }
    packet.push(0);
    let length = u16::try_from(number.len() + payload.len() + tag).unwrap();
    packet.extend_from_slice(&(0x4000 | length).to_be_bytes());
    let number_at = packet.len();
    packet.extend_from_slice(&number);
    let sealed = keys.local.packet.encrypt_in_place(1, &packet, &mut payload).unwrap();
    packet.extend_from_slice(&payload);
    packet.extend_from_slice(sealed.as_ref());
    let sample = packet[number_at + 4..number_at + 4 + keys.local.header.sample_len()].to_vec();
    let (head, tail) = packet.split_at_mut(number_at);
    keys.local.header.encrypt_in_place(&sample, &mut head[0], &mut tail[..4]).unwrap();
    packet
}

/// CONNECTION_CLOSE with this text (RFC 9000 §19.19).
pub fn close_frame(text: &[u8]) -> Vec<u8> {
    let length = u16::try_from(text.len()).unwrap();
    [&[0x1c, 0x0a, 0x00][..], &(0x4000 | length).to_be_bytes(), text].concat()
}
