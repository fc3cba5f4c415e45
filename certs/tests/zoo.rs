//! The zoo of bad certificates, each led before both sides of a TLS handshake in memory: both must name what is wrong.
#![allow(clippy::unwrap_used)]

mod shake;

use std::sync::Arc;

use quorate_certs::{
    AgentName, Authority, CertsError, ClusterId, Date, Fault, Identity, Issued, Refusal, Role, Subject, Tls, Validity,
    Verdict, provider,
};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::{ClientConnection, ServerConnection};
use shake::shake;

const ALPN: &[u8] = b"test/1";

/// What each side said: why it refused, in its own words, and what it understood of the other side's alert.
struct Outcome {
    client: Result<(), Refusal>,
    server: Result<(), Refusal>,
}

fn handshake(client: &Identity, server: &Identity, name: &str) -> Outcome {
    let (of_client, of_server) = (Verdict::new(), Verdict::new());
    let config = Tls::new(client).unwrap().client(ALPN, &of_client).unwrap();
    let dialled = name.to_owned().try_into().unwrap();
    let dialling = ClientConnection::new(Arc::new(config), dialled).unwrap();
    let config = Tls::new(server).unwrap().server(&[ALPN], &of_server).unwrap();
    let (at_client, at_server) = shake(dialling, ServerConnection::new(Arc::new(config)).unwrap());
    let words = |result: Result<(), rustls::Error>, verdict: &Verdict, own: &Identity| {
        result.map_err(|error| match (verdict.refusal(), error) {
            (Some(refusal), _) => refusal,
            (None, rustls::Error::AlertReceived(alert)) => {
                Refusal::of_ours(alert.into(), own.not_before(), own.not_after())
            }
            (None, error) => Refusal::from_rustls(&error),
        })
    };
    Outcome { client: words(at_client, &of_client, client), server: words(at_server, &of_server, server) }
}

struct World {
    cluster: ClusterId,
    authority: Authority,
    good: Identity,
}

fn name(text: &str) -> AgentName {
    AgentName::new(text).unwrap()
}

impl World {
    fn new() -> Self {
        let cluster = ClusterId::random().unwrap();
        let authority = Authority::create(cluster).unwrap();
        let issued = authority.issue(&Subject::agent(cluster, name("good")), Validity::default()).unwrap();
        Self { cluster, authority, good: Identity::from_issued(&issued).unwrap() }
    }

    fn agent(&self, validity: Validity) -> Identity {
        let issued = self.authority.issue(&Subject::agent(self.cluster, name("a1")), validity).unwrap();
        Identity::unchecked(&issued).unwrap()
    }

    /// `bad` dials the good agent, and the good agent dials `bad`: (as client, as server).
    fn judge(&self, bad: &Identity) -> (Outcome, Outcome) {
        let dns = self.cluster.agent_dns();
        (handshake(bad, &self.good, &dns), handshake(&self.good, bad, &dns))
    }
}

/// What the good side says of the bad one, and what the bad one understands, in both directions.
fn refused(outcome: (Outcome, Outcome)) -> [Refusal; 4] {
    let (as_client, as_server) = outcome;
    [
        as_client.server.unwrap_err(),
        as_client.client.unwrap_err(),
        as_server.client.unwrap_err(),
        as_server.server.unwrap_err(),
    ]
}

#[test]
fn two_agents_of_a_cluster_trust_each_other_and_resume_nothing() {
    let world = World::new();
    let (as_client, as_server) = world.judge(&world.agent(Validity::default()));
    for result in [as_client.client, as_client.server, as_server.client, as_server.server] {
        assert_eq!(result, Ok(()));
    }
    let tls = Tls::new(&world.good).unwrap();
    let server = tls.server(&[ALPN], &Verdict::new()).unwrap();
    assert_eq!((server.send_tls13_tickets, server.max_early_data_size), (0, 0));
    assert!(!server.session_storage.can_cache());
    assert!(!tls.client(ALPN, &Verdict::new()).unwrap().enable_early_data);
}

#[test]
fn a_client_may_dial_and_may_not_answer() {
    let world = World::new();
    let subject = Subject::client(world.cluster, Role::Admin, name("ci"));
    let client = Identity::from_issued(&world.authority.issue(&subject, Validity::default()).unwrap()).unwrap();
    let (as_client, as_server) = world.judge(&client);
    assert_eq!((as_client.client, as_client.server), (Ok(()), Ok(())));
    assert_eq!(as_server.client, Err(Refusal::WrongRole));
    assert_eq!(as_server.server, Err(Refusal::WrongRole));
}

#[test]
fn the_dates_are_told_to_both_sides() {
    let world = World::new();
    let now = Date::now();
    let end = now.plus_days(-1);
    let expired = world.agent(Validity { not_before: now.plus_days(-2), not_after: end });
    assert_eq!(refused(world.judge(&expired)), [(); 4].map(|()| Refusal::Expired { not_after: Some(end) }));
    let begin = now.plus_days(1);
    let early = world.agent(Validity { not_before: begin, not_after: now.plus_days(2) });
    assert_eq!(refused(world.judge(&early)), [(); 4].map(|()| Refusal::NotYetValid { not_before: Some(begin) }));
}

/// Another authority for the same cluster id, with another name and, worse, with the same one.
#[test]
fn another_authority_is_named_as_that() {
    let world = World::new();
    // Same cluster id, so the same common name: a verifier finds it by name and then fails at the signature.
    let twin = Authority::create(world.cluster).unwrap();
    let dev = Authority::create_dev().unwrap();
    for authority in [twin, dev] {
        let issued = authority.issue(&Subject::agent(world.cluster, name("a1")), Validity::default()).unwrap();
        let stranger = Identity::from_issued(&issued).unwrap();
        // The client judges first, so as a client the stranger refuses the good agent itself.
        assert_eq!(refused(world.judge(&stranger)), [(); 4].map(|()| Refusal::OtherAuthority));
        // A stranger that trusts us is refused by the accepting side.
        let trusting = Issued { ca_pem: world.authority.ca_pem().to_owned(), ..issued };
        let outcome = handshake(&Identity::unchecked(&trusting).unwrap(), &world.good, &world.cluster.agent_dns());
        assert_eq!((outcome.server, outcome.client), (Err(Refusal::OtherAuthority), Err(Refusal::OtherAuthority)));
    }
}

/// One development authority, two clusters.
#[test]
fn another_cluster_under_the_same_authority_is_named_as_that() {
    let dev = Authority::create_dev().unwrap();
    let identity = |cluster| {
        let issued = dev.issue(&Subject::agent(cluster, name("a1")), Validity::default()).unwrap();
        Identity::from_issued(&issued).unwrap()
    };
    let (ours, theirs) = (ClusterId::random().unwrap(), ClusterId::random().unwrap());
    let (a, b) = (identity(ours), identity(theirs));
    let outcome = handshake(&a, &b, &ours.agent_dns());
    assert_eq!(outcome.client, Err(Refusal::OtherCluster { theirs: Some(theirs) }));
    assert_eq!(outcome.server, Err(Refusal::OtherCluster { theirs: None }));
    // The dialler lies about the name and asks for the other cluster's agent: our policy still looks at the URI.
    let outcome = handshake(&a, &b, &theirs.agent_dns());
    assert_eq!(outcome.client, Err(Refusal::OtherCluster { theirs: Some(theirs) }));
    // A client of the other cluster knocks at ours.
    let subject = Subject::client(theirs, Role::Read, name("x"));
    let client = Identity::from_issued(&dev.issue(&subject, Validity::default()).unwrap()).unwrap();
    let verdict = Verdict::new();
    let server = Tls::new(&a).unwrap().server(&[ALPN], &verdict).unwrap();
    let dialling = careless(&client, &ours);
    let (at_client, _) = shake(dialling, ServerConnection::new(Arc::new(server)).unwrap());
    assert_eq!(verdict.refusal(), Some(Refusal::OtherCluster { theirs: Some(theirs) }));
    assert_eq!(Refusal::from_rustls(&at_client.unwrap_err()), Refusal::OtherCluster { theirs: None });
}

#[test]
fn no_certificate_is_named_as_that() {
    let world = World::new();
    let verdict = Verdict::new();
    let server = Tls::new(&world.good).unwrap().server(&[ALPN], &verdict).unwrap();
    let mut config = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(world.good.roots())
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    let dns = world.cluster.agent_dns().try_into().unwrap();
    let dialling = ClientConnection::new(Arc::new(config), dns).unwrap();
    let (at_client, at_server) = shake(dialling, ServerConnection::new(Arc::new(server)).unwrap());
    assert_eq!(Refusal::from_rustls(&at_server.unwrap_err()), Refusal::NoCertificate);
    assert_eq!(Refusal::from_rustls(&at_client.unwrap_err()), Refusal::NoCertificate);
}

/// A dialler with our certificate and the stock verifier: it does not look at the URI.
fn careless(identity: &Identity, cluster: &ClusterId) -> ClientConnection {
    struct Present(Arc<rustls::sign::CertifiedKey>);
    impl std::fmt::Debug for Present {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("Present")
        }
    }
    impl rustls::client::ResolvesClientCert for Present {
        fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<rustls::sign::CertifiedKey>> {
            Some(self.0.clone())
        }
        fn has_certs(&self) -> bool {
            true
        }
    }
    // The certificate is taken from a configuration of ours, whose key never leaves the crate otherwise.
    let ours = Tls::new(identity).unwrap().client(ALPN, &Verdict::new()).unwrap();
    let certified =
        ours.client_auth_cert_resolver.resolve(&[], &[rustls::SignatureScheme::ECDSA_NISTP256_SHA256]).unwrap();
    let mut config = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(identity.roots())
        .with_client_cert_resolver(Arc::new(Present(certified)));
    config.alpn_protocols = vec![ALPN.to_vec()];
    ClientConnection::new(Arc::new(config), cluster.agent_dns().try_into().unwrap()).unwrap()
}

/// A forge: an authority made by hand that signs what ours never would.
struct Forge {
    ca_pem: String,
    issuer: Issuer<'static, KeyPair>,
    trust: Identity,
    cluster: ClusterId,
}

impl Forge {
    fn new() -> Self {
        let cluster = ClusterId::random().unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "forge");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let ca_pem = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        let mut forge = Self { ca_pem, issuer, trust: World::new().good, cluster };
        let uri = Subject::agent(cluster, name("good")).uri();
        forge.trust = Identity::from_issued(&forge.sign(&[&uri], &[&cluster.agent_dns()], |_| {})).unwrap();
        forge
    }

    fn sign(&self, uris: &[&str], dns: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Issued {
        let mut params = CertificateParams::default();
        let uris = uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap()));
        let dns = dns.iter().map(|dns| SanType::DnsName((*dns).try_into().unwrap()));
        params.subject_alt_names = uris.chain(dns).collect();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let cert_pem = params.signed_by(&key, &self.issuer).unwrap().pem();
        Issued { cert_pem, key_pem: key.serialize_pem(), ca_pem: self.ca_pem.clone() }
    }

    /// What the accepting side says to a dialler with this certificate, and what the dialler understands.
    fn knock(&self, issued: &Issued) -> (Option<Refusal>, Refusal) {
        let verdict = Verdict::new();
        let server = Tls::new(&self.trust).unwrap().server(&[ALPN], &verdict).unwrap();
        let pem = rustls_pki_types::pem::PemObject::from_pem_slice;
        let mut config = rustls::ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(self.trust.roots())
            .with_client_auth_cert(vec![pem(issued.cert_pem.as_bytes()).unwrap()], {
                let key: Result<rustls_pki_types::PrivateKeyDer<'static>, _> =
                    rustls_pki_types::pem::PemObject::from_pem_slice(issued.key_pem.as_bytes());
                key.unwrap()
            })
            .unwrap();
        config.alpn_protocols = vec![ALPN.to_vec()];
        let dialling = ClientConnection::new(Arc::new(config), self.cluster.agent_dns().try_into().unwrap()).unwrap();
        let (at_client, at_server) = shake(dialling, ServerConnection::new(Arc::new(server)).unwrap());
        assert!(at_server.is_err());
        (verdict.refusal(), Refusal::from_rustls(&at_client.unwrap_err()))
    }

    /// What the dialling side says to an agent that answers with this certificate.
    fn answer(&self, issued: &Issued) -> Option<Refusal> {
        let verdict = Verdict::new();
        let client = Tls::new(&self.trust).unwrap().client(ALPN, &verdict).unwrap();
        let dialling = ClientConnection::new(Arc::new(client), self.cluster.agent_dns().try_into().unwrap()).unwrap();
        let key: rustls_pki_types::PrivateKeyDer<'static> =
            rustls_pki_types::pem::PemObject::from_pem_slice(issued.key_pem.as_bytes()).unwrap();
        let chain = vec![rustls_pki_types::pem::PemObject::from_pem_slice(issued.cert_pem.as_bytes()).unwrap()];
        let mut config = rustls::ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        config.alpn_protocols = vec![ALPN.to_vec()];
        let (at_client, _) = shake(dialling, ServerConnection::new(Arc::new(config)).unwrap());
        assert!(at_client.is_err());
        verdict.refusal()
    }
}

#[test]
fn a_certificate_must_name_exactly_one() {
    let forge = Forge::new();
    let (agent, dns) = (Subject::agent(forge.cluster, name("a1")).uri(), forge.cluster.agent_dns());
    let client = Subject::client(forge.cluster, Role::Admin, name("a1")).uri();
    let bad: [(&[&str], &[&str]); 7] = [
        (&[], &[&dns]),
        (&[&agent, &agent], &[&dns]),
        (&[&agent, "https://example.org/"], &[&dns]),
        (&["spiffe://example.org/agent/a1"], &[&dns]),
        (&[&agent], &[]),
        (&[&agent], &[&dns, "another.example"]),
        (&[&client], &[&dns]),
    ];
    for (uris, dns) in bad {
        let issued = forge.sign(uris, dns, |_| {});
        let (says, hears) = forge.knock(&issued);
        assert!(matches!(says, Some(Refusal::Nameless(Some(_)))), "{uris:?} {dns:?}: {says:?}");
        assert_eq!(hears, Refusal::Nameless(None));
        assert!(matches!(forge.answer(&issued), Some(Refusal::Nameless(Some(_)))), "{uris:?} {dns:?}");
        assert!(Identity::from_issued(&issued).is_err());
    }
}

#[test]
fn the_wrong_purpose_is_the_wrong_role() {
    let forge = Forge::new();
    let (agent, dns) = (Subject::agent(forge.cluster, name("a1")).uri(), forge.cluster.agent_dns());
    let server_only = forge.sign(&[&agent], &[&dns], |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    });
    assert_eq!(forge.knock(&server_only), (Some(Refusal::WrongRole), Refusal::WrongRole));
    assert!(Identity::from_issued(&server_only).is_err());
    let client_only = forge.sign(&[&agent], &[&dns], |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    });
    assert_eq!(forge.answer(&client_only), Some(Refusal::WrongRole));
}

#[test]
fn an_authority_is_no_agent() {
    let forge = Forge::new();
    let (agent, dns) = (Subject::agent(forge.cluster, name("a1")).uri(), forge.cluster.agent_dns());
    let issued = forge.sign(&[&agent], &[&dns], |params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    assert_eq!(forge.knock(&issued).0, Some(Refusal::Unfit(Fault::Authority)));
    assert_eq!(forge.answer(&issued), Some(Refusal::Unfit(Fault::Authority)));
}

/// Size alone is no fault (openssl agrees): 60,000 bytes of an extension that nobody knows, in both directions.
#[test]
fn a_large_certificate_is_only_large() {
    let forge = Forge::new();
    let (agent, dns) = (Subject::agent(forge.cluster, name("a1")).uri(), forge.cluster.agent_dns());
    let large = forge.sign(&[&agent], &[&dns], |params| {
        let unknown = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99_999, 1], vec![0; 60_000]);
        params.custom_extensions.push(unknown);
    });
    let identity = Identity::from_issued(&large).unwrap();
    for outcome in [handshake(&identity, &forge.trust, &dns), handshake(&forge.trust, &identity, &dns)] {
        assert_eq!((outcome.client, outcome.server), (Ok(()), Ok(())));
    }
    // Beyond 64 KiB none of ours is read at all.
    let too_large = forge.sign(&[&agent], &[&dns], |params| {
        let unknown = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99_999, 1], vec![0; 150_000]);
        params.custom_extensions.push(unknown);
    });
    assert!(matches!(Identity::from_issued(&too_large), Err(CertsError::Malformed { .. })));
}
