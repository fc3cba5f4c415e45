//! Stories of certificates that must not pass: on every protocol, as dialler and as answerer, with the same reason at
//! both ends.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{Agent, Disk, World, loopback, options};
use quorate_certs::{AgentName, Authority, ClusterId, Date, Identity, Refusal, Role, Subject, Tls, Validity, Verdict};
use quorate_transport::rpc::{self, RpcClient};
use quorate_transport::{Code, DialError, Endpoint, Limits};

const PROTOCOLS: [&[u8]; 3] = [b"quorate-peer/1", b"quorate-bulk/1", rpc::ALPN];

/// What a dialler with `tls` hears from `agent`: the code of the connection's end.
async fn knock(agent: &Agent, tls: rustls::ClientConfig, server_name: &str) -> quinn::ConnectionError {
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls).unwrap();
    let config = quinn::ClientConfig::new(Arc::new(crypto));
    let endpoint = quinn::Endpoint::client(loopback()).unwrap();
    match common::soon(endpoint.connect_with(config, agent.addr, server_name).unwrap()).await {
        Err(error) => error,
        Ok(conn) => common::soon(conn.closed()).await,
    }
}

fn alert(error: &quinn::ConnectionError) -> u8 {
    let code: u64 = match error {
        quinn::ConnectionError::ConnectionClosed(close) => close.error_code.into(),
        quinn::ConnectionError::TransportError(error) => error.code.into(),
        other => panic!("not a TLS failure: {other}"),
    };
    u8::try_from(code - 0x100).unwrap()
}

/// `bad` dials a good agent with every protocol, and the good agent dials `bad`: (seen by the good, seen by the bad).
async fn both_ways(world: &World, bad: Arc<Identity>) -> Vec<(Refusal, Refusal)> {
    let mut good = Agent::start(world, "good");
    let mut seen = Vec::new();
    // As client, with each protocol.
    for alpn in PROTOCOLS {
        // The name of the good agent's cluster, so that the bad one is judged and not its way of asking.
        let tls = Tls::new(&bad).unwrap().client(alpn, &Verdict::new()).unwrap();
        let error = knock(&good, careless(tls), &world.cluster.agent_dns()).await;
        let heard = Refusal::of_ours(alert(&error), bad.not_before(), bad.not_after());
        let (_, refusal) = good.refused().await;
        seen.push((refusal.unwrap(), heard));
    }
    // As server.
    let mut disk = Disk::new(bad.subject().name().as_str());
    let (endpoint, events) = Endpoint::bind(options(bad, &mut disk, loopback())).unwrap();
    let (addr, node) = (endpoint.local_addr(), endpoint.node());
    let mut bad = Agent { endpoint, events, addr, node };
    let error = good.endpoint.dial(bad.addr, None).await.unwrap_err();
    let DialError::NotTrusted { why, .. } = error else { panic!("{error}") };
    let (_, refusal) = bad.refused().await;
    seen.push((why, refusal.unwrap()));
    seen
}

/// The same certificate, without our care about who answers.
fn careless(mut tls: rustls::ClientConfig) -> rustls::ClientConfig {
    #[derive(Debug)]
    struct Anybody;
    use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
    impl ServerCertVerifier for Anybody {
        fn verify_server_cert(
            &self,
            _: &rustls_pki_types::CertificateDer<'_>,
            _: &[rustls_pki_types::CertificateDer<'_>],
            _: &rustls_pki_types::ServerName<'_>,
            _: &[u8],
            _: rustls_pki_types::UnixTime,
        ) -> Result<ServerCertVerified, rustls::Error> {
            Ok(ServerCertVerified::assertion())
        }
        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &rustls_pki_types::CertificateDer<'_>,
            _: &rustls::DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            Ok(HandshakeSignatureValid::assertion())
        }
        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &rustls_pki_types::CertificateDer<'_>,
            _: &rustls::DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            Ok(HandshakeSignatureValid::assertion())
        }
        fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
            vec![rustls::SignatureScheme::ECDSA_NISTP256_SHA256]
        }
    }
    tls.dangerous().set_certificate_verifier(Arc::new(Anybody));
    tls
}

fn name(text: &str) -> AgentName {
    AgentName::new(text).unwrap()
}

#[tokio::test]
async fn another_authority_is_refused_everywhere() {
    let world = World::new();
    let stranger = Authority::create(ClusterId::random().unwrap()).unwrap();
    let quorate_certs::Scope::Cluster(theirs) = stranger.scope() else { panic!("a cluster's authority") };
    let issued = stranger.issue(&Subject::agent(theirs, name("bad")), Validity::default()).unwrap();
    for (good, bad) in both_ways(&world, Arc::new(Identity::from_issued(&issued).unwrap())).await {
        assert_eq!((good, bad), (Refusal::OtherAuthority, Refusal::OtherAuthority));
    }
}

#[tokio::test]
async fn another_cluster_is_refused_everywhere() {
    let dev = Authority::create_dev().unwrap();
    let world = World { cluster: ClusterId::random().unwrap(), authority: dev };
    let theirs = ClusterId::random().unwrap();
    let bad = world.identity(&Subject::agent(theirs, name("bad")), Validity::default());
    for (good, bad) in both_ways(&world, bad).await {
        assert_eq!(good, Refusal::OtherCluster { theirs: Some(theirs) });
        assert_eq!(bad, Refusal::OtherCluster { theirs: None });
    }
}

#[tokio::test]
async fn the_wrong_dates_are_refused_everywhere() {
    let world = World::new();
    let now = Date::now();
    let subject = Subject::agent(world.cluster, name("bad"));
    let end = now.plus_days(-1);
    let expired = world.identity(&subject, Validity { not_before: now.plus_days(-2), not_after: end });
    for (good, bad) in both_ways(&world, expired).await {
        assert_eq!((good, bad), [(); 2].map(|()| Refusal::Expired { not_after: Some(end) }).into());
    }
    let begin = now.plus_days(1);
    let early = world.identity(&subject, Validity { not_before: begin, not_after: now.plus_days(2) });
    for (good, bad) in both_ways(&world, early).await {
        assert_eq!((good, bad), [(); 2].map(|()| Refusal::NotYetValid { not_before: Some(begin) }).into());
    }
}

#[tokio::test]
async fn no_certificate_is_refused_everywhere() {
    let world = World::new();
    let mut good = Agent::start(&world, "good");
    for alpn in PROTOCOLS {
        let mut tls = rustls::ClientConfig::builder_with_provider(quorate_certs::provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(world.agent("x").roots())
            .with_no_client_auth();
        tls.alpn_protocols = vec![alpn.to_vec()];
        let error = knock(&good, tls, &world.cluster.agent_dns()).await;
        assert_eq!(Refusal::from_alert(alert(&error)), Refusal::NoCertificate);
        let (why, refusal) = good.refused().await;
        assert_eq!((why.code, refusal), (Code::AuthRequired, Some(Refusal::NoCertificate)));
    }
}

#[tokio::test]
async fn an_unknown_protocol_is_refused() {
    let world = World::new();
    let mut good = Agent::start(&world, "good");
    let tls = Tls::new(&world.agent("x")).unwrap().client(b"quorate-peer/2", &Verdict::new()).unwrap();
    let error = knock(&good, tls, &world.cluster.agent_dns()).await;
    assert_eq!(Refusal::from_alert(alert(&error)), Refusal::NoCommonProtocol);
    assert_eq!(good.refused().await.1, Some(Refusal::NoCommonProtocol));
}

/// The class of fault that Nomad and Consul had: a certificate of the right authority and the wrong role.
#[tokio::test]
async fn a_client_may_not_speak_as_an_agent() {
    let world = World::new();
    let mut good = Agent::start(&world, "good");
    for role in Role::ALL {
        let client = world.client(role, "ci");
        for alpn in [PROTOCOLS[0], PROTOCOLS[1]] {
            let tls = Tls::new(&client).unwrap().client(alpn, &Verdict::new()).unwrap();
            let error = knock(&good, tls, &world.cluster.agent_dns()).await;
            let quinn::ConnectionError::ApplicationClosed(close) = error else { panic!("{error}") };
            assert_eq!(u64::from(close.error_code), u64::from(Code::RoleForbidden.number()));
            assert_eq!(good.refused().await.0.code, Code::RoleForbidden);
        }
        // And it cannot be bound as an agent.
        let mut disk = Disk::new("ci");
        assert!(Endpoint::bind(options(client.clone(), &mut disk, loopback())).is_err());
        // What it may do.
        let dialling = RpcClient::new(&client, "test", 0, Limits::default()).unwrap();
        dialling.connect(good.addr, common::CEILING).await.unwrap();
    }
    // A client's certificate answering as an agent.
    let client = world.client(Role::Admin, "ci");
    let crypto = Tls::new(&client).unwrap().server(&PROTOCOLS, &Verdict::new()).unwrap();
    let crypto = quinn::crypto::rustls::QuicServerConfig::try_from(crypto).unwrap();
    let impostor = quinn::Endpoint::server(quinn::ServerConfig::with_crypto(Arc::new(crypto)), loopback()).unwrap();
    let addr = impostor.local_addr().unwrap();
    let answering = tokio::spawn(async move { impostor.accept().await.unwrap().await });
    let error = good.endpoint.dial(addr, None).await.unwrap_err();
    assert_eq!(error, DialError::NotTrusted { addr, why: Refusal::WrongRole });
    assert!(answering.await.unwrap().is_err());
}

/// `connect` of a TLS 1.3 dialler succeeds before the other side has looked: `dial` must not.
#[tokio::test]
async fn a_dial_waits_for_the_other_sides_judgement() {
    let world = World::new();
    let good = Agent::start(&world, "good");
    let stranger = Authority::create(world.cluster).unwrap();
    let subject = Subject::agent(world.cluster, name("bad"));
    let issued = stranger.issue(&subject, Validity::default()).unwrap();
    // Trusts our authority, is vouched for by another one.
    let issued = quorate_certs::Issued { ca_pem: world.authority.ca_pem().to_owned(), ..issued };
    let bad = Arc::new(Identity::unchecked(&issued).unwrap());
    let agent = Agent::with(options(bad.clone(), &mut Disk::new("bad"), loopback()));
    let refused = DialError::TheyRefused { addr: good.addr, why: Refusal::OtherAuthority };
    assert_eq!(agent.endpoint.dial(good.addr, None).await.unwrap_err(), refused);
    let client = RpcClient::new(&bad, "test", 0, Limits::default()).unwrap();
    assert_eq!(client.connect(good.addr, Duration::from_secs(5)).await.unwrap_err(), refused);
}

/// After SIGHUP new handshakes use the new certificate in both directions, and live connections stay.
#[tokio::test]
async fn a_new_identity_counts_from_the_next_handshake_on() {
    let world = World::new();
    let (mut a, mut b) = (Agent::start(&world, "a"), Agent::start(&world, "b"));
    a.endpoint.dial(b.addr, None).await.unwrap();
    b.up().await;
    let twin = Authority::create(world.cluster).unwrap();
    let subject = Subject::agent(world.cluster, name("a"));
    let renewed = Identity::from_issued(&twin.issue(&subject, Validity::default()).unwrap()).unwrap();
    a.endpoint.set_identity(&renewed).unwrap();
    a.endpoint.send(b.node, bytes::Bytes::from_static(b"still here")).unwrap();
    assert_eq!(b.frame().await.1, "still here");
    let c = Agent::start(&world, "c");
    let error = a.endpoint.dial(c.addr, None).await.unwrap_err();
    assert_eq!(error.refusal(), Some(&Refusal::OtherAuthority));
    let error = c.endpoint.dial(a.addr, None).await.unwrap_err();
    assert_eq!(error.refusal(), Some(&Refusal::OtherAuthority));
    assert!(a.refused().await.1.is_some());
    let stranger = world.agent("other-name");
    assert!(a.endpoint.set_identity(&stranger).is_err());
}
