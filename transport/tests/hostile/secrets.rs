//! What must not be handed out: tickets that would skip the verifier of the next handshake, and the keys of connections.
//! (Rows 10 and 28.)

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use quorate_certs::{Role, Tls, Verdict};
use quorate_transport::Limits;
use quorate_transport::rpc::{self, RpcClient};
use rustls::client::{ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::{NamedGroup, pki_types::ServerName};

use crate::by_hand::PEER;
use crate::bystanders::Bystanders;
use crate::common::{Agent, CEILING, World, loopback, soon};

/// Counts what a server hands out.
#[derive(Debug, Default)]
struct Purse {
    tickets: AtomicUsize,
}

impl ClientSessionStore for Purse {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}
    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }
    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}
    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }
    fn remove_tls12_session(&self, _: &ServerName<'static>) {}
    fn insert_tls13_ticket(&self, _: ServerName<'static>, _: Tls13ClientSessionValue) {
        self.tickets.fetch_add(1, Ordering::Relaxed);
    }
    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        None
    }
}

/// A client that wants tickets and early data is given neither, on any protocol.
#[tokio::test]
async fn no_ticket_and_no_early_data() {
    let world = World::new();
    let pair = Bystanders::start(&world, Limits::default()).await;
    for alpn in [PEER, b"quorate-bulk/1", rpc::ALPN] {
        let purse = Arc::new(Purse::default());
        let mut tls = Tls::new(&world.agent("x")).unwrap().client(alpn, &Verdict::new()).unwrap();
        tls.resumption = Resumption::store(purse.clone());
        tls.enable_early_data = true;
        let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls).unwrap();
        let config = quinn::ClientConfig::new(Arc::new(crypto));
        let port = quinn::Endpoint::client(loopback()).unwrap();
        for _ in 0..3 {
            let connecting = port.connect_with(config.clone(), pair.addr, &world.cluster.agent_dns()).unwrap();
            let Err(connecting) = connecting.into_0rtt() else { panic!("early data") };
            let conn = soon(connecting).await.unwrap();
            // Tickets would come with the first data of the server; its deadline for the greeting is later than that.
            pair.beats(5).await;
            conn.close(0_u32.into(), b"");
        }
        assert_eq!(purse.tickets.load(Ordering::Relaxed), 0, "{}", String::from_utf8_lossy(alpn));
    }
    pair.end().await;
}

const CHILD: &str = "secrets::a_handshake_beside_sslkeylogfile";

/// SSLKEYLOGFILE in the environment would write the keys of every connection to a file: nobody listens to it. The
/// variable must be there before the process starts, so the handshake is made by another one.
#[test]
fn sslkeylogfile_is_ignored() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("keys");
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", CHILD, "--nocapture"])
        .env("SSLKEYLOGFILE", &file)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("connected both ways"), "{said}");
    assert!(!file.exists(), "keys were written: {}", std::fs::read_to_string(&file).unwrap_or_default());
}

/// Run by the story above with the variable set; alone it is a plain handshake.
#[tokio::test]
async fn a_handshake_beside_sslkeylogfile() {
    let world = World::new();
    let (a, b) = (Agent::start(&world, "a"), Agent::start(&world, "b"));
    a.endpoint.dial(b.addr, None).await.unwrap();
    b.endpoint.dial(a.addr, Some(a.node)).await.unwrap();
    let client = RpcClient::new(&world.client(Role::Read, "c"), "test", 0, Limits::default()).unwrap();
    client.connect(a.addr, CEILING).await.unwrap();
    println!("connected both ways");
}
