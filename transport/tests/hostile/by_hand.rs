//! Diallers that speak QUIC and our greeting by hand, and so can say anything.
//! Never uses the crate's own writer of frames or greetings: it is a second pen.

use std::net::SocketAddr;
use std::sync::Arc;

use quorate_certs::{Tls, Verdict};
use quorate_transport::{Code, NodeKey};
use serde::Serialize;

use crate::common::{World, loopback, soon};

pub const PEER: &[u8] = b"quorate-peer/1";

/// A dialler that speaks QUIC by hand.
pub async fn by_hand(world: &World, agent: SocketAddr, alpn: &[u8]) -> quinn::Connection {
    by_hand_from(&quinn::Endpoint::client(loopback()).unwrap(), world, agent, alpn).await
}

pub async fn by_hand_from(port: &quinn::Endpoint, world: &World, agent: SocketAddr, alpn: &[u8]) -> quinn::Connection {
    by_hand_with(port, world, agent, alpn, quinn::TransportConfig::default()).await
}

pub async fn by_hand_with(
    port: &quinn::Endpoint,
    world: &World,
    agent: SocketAddr,
    alpn: &[u8],
    transport: quinn::TransportConfig,
) -> quinn::Connection {
    let tls = Tls::new(&world.agent("evil")).unwrap().client(alpn, &Verdict::new()).unwrap();
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls).unwrap();
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    config.transport_config(Arc::new(transport));
    soon(port.connect_with(config, agent, &world.cluster.agent_dns()).unwrap()).await.unwrap()
}

pub async fn code(conn: &quinn::Connection) -> Code {
    match soon(conn.closed()).await {
        quinn::ConnectionError::ApplicationClosed(close) => Code::from_number(close.error_code.into_inner()),
        other => panic!("not closed by the agent: {other}"),
    }
}

pub fn framed(body: &[u8]) -> Vec<u8> {
    [&u32::try_from(body.len()).unwrap().to_be_bytes(), body].concat()
}

/// The map of a Hello, written by somebody else than this crate.
#[derive(Serialize, Clone)]
pub struct Hello {
    pub min: u16,
    pub max: u16,
    pub version: String,
    pub features: u64,
    pub cluster: serde_bytes::ByteArray<16>,
    pub name: String,
    pub key: serde_bytes::ByteArray<32>,
    pub boot_epoch: u64,
    pub boot_id: u64,
    pub log_id: Option<serde_bytes::ByteArray<16>>,
    pub advertised: Option<SocketAddr>,
    pub port: u16,
    pub observed: SocketAddr,
}

pub struct Evil {
    pub conn: quinn::Connection,
    pub key: ring::signature::Ed25519KeyPair,
    pub hello: Hello,
}

impl Evil {
    pub async fn new(world: &World, agent: SocketAddr) -> Self {
        let conn = by_hand(world, agent, PEER).await;
        let (_, stored) = NodeKey::generate().unwrap();
        Self::on(world, agent, conn, &stored)
    }

    pub fn on(world: &World, agent: SocketAddr, conn: quinn::Connection, stored: &[u8]) -> Self {
        let key = NodeKey::load(stored).unwrap();
        let hello = Hello {
            min: 1,
            max: 1,
            version: "evil".to_owned(),
            features: 0,
            cluster: serde_bytes::ByteArray::new(world.cluster.to_bytes()),
            name: "evil".to_owned(),
            key: serde_bytes::ByteArray::new(key.public()),
            boot_epoch: 1,
            boot_id: 1,
            log_id: None,
            advertised: None,
            port: 1,
            observed: agent,
        };
        Self { conn, key: ring::signature::Ed25519KeyPair::from_pkcs8(stored).unwrap(), hello }
    }

    /// The frame of the Hello, signed with our key whatever key it names.
    pub fn frame(&self) -> Vec<u8> {
        let mut body = vec![1];
        rmp_serde::encode::write_named(&mut body, &self.hello).unwrap();
        let mut exported = [0; 64];
        self.conn.export_keying_material(&mut exported, b"EXPORTER-quorate-hello", &body).unwrap();
        body.extend_from_slice(self.key.sign(&exported).as_ref());
        framed(&body)
    }

    pub async fn say(&self, bytes: &[u8]) -> (quinn::SendStream, quinn::RecvStream) {
        let (mut send, recv) = self.conn.open_bi().await.unwrap();
        send.write_all(bytes).await.unwrap();
        (send, recv)
    }

    /// Greets as it should, and is a peer.
    pub async fn greet(&self) -> (quinn::SendStream, quinn::RecvStream) {
        let (mut send, mut recv) = self.say(&self.frame()).await;
        let mut length = [0; 4];
        soon(recv.read_exact(&mut length)).await.unwrap();
        let mut welcome = vec![0; u32::from_be_bytes(length) as usize];
        soon(recv.read_exact(&mut welcome)).await.unwrap();
        assert_eq!(welcome[0], 2);
        send.write_all(&framed(&[3])).await.unwrap();
        (send, recv)
    }
}
