//! Our verdict on every animal of the zoo equals openssl's, but for a list of exceptions with a reason each.
//!
//! The zoo is made by `zoo/make.py` with openssl; `zoo/animals/verdicts` holds what openssl said of each, `zoo/ours` what
//! we say, `zoo/exceptions` where the two differ and why. `QUORATE_ZOO` names another directory of animals (`.ci/zoo` makes
//! them anew and compares), and with `QUORATE_ZOO_BLESS` set `zoo/ours` is written instead of compared.
#![allow(clippy::unwrap_used)]

mod shake;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use quorate_certs::{Finding, Identity, Issued, Refusal, Severity, Tls, Verdict, inspect, provider, verify};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConnection, DigitallySignedStruct, ServerConnection, SignatureScheme};
use shake::shake;

const ALPN: &[u8] = b"zoo/1";
const DNS: &str = "agent.5a005a005a005a005a005a005a005a00.quorate.internal";

/// One line of `animals/verdicts`: what openssl says of it as a server, as a client, and of its key.
struct Animal {
    name: String,
    openssl: [String; 3],
}

/// What we say: nothing, or why not.
#[derive(Debug, PartialEq, Eq)]
struct Said {
    server: Result<(), String>,
    client: Result<(), String>,
    load: Result<(), String>,
}

fn home() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/zoo")
}

fn animals_dir() -> PathBuf {
    std::env::var_os("QUORATE_ZOO").map_or_else(|| home().join("animals"), PathBuf::from)
}

fn animals() -> Vec<Animal> {
    let text = fs::read_to_string(animals_dir().join("verdicts")).unwrap();
    let animals: Vec<Animal> = text
        .lines()
        .map(|line| {
            let words: Vec<&str> = line.split('\t').collect();
            let [name, server, client, key] = words[..] else { panic!("{line}") };
            Animal { name: name.into(), openssl: [server, client, key].map(str::to_owned) }
        })
        .collect();
    assert!(animals.len() >= 100, "{} animals", animals.len());
    animals
}

impl Animal {
    /// One of its files; what it does not have of its own is that of the good one.
    fn file(&self, kind: &str) -> Vec<u8> {
        let own = animals_dir().join(format!("{}.{kind}.pem", self.name));
        fs::read(&own).unwrap_or_else(|_| fs::read(animals_dir().join(format!("good.{kind}.pem"))).unwrap())
    }

    /// Whether it wants to be a client, which is never a server.
    fn is_client(&self) -> bool {
        self.name.starts_with("good-client") || self.name == "client-of-no-role"
    }

    /// As a server and as a client, where who shows it must hold its key, and at the start of an agent or a client.
    fn says_openssl(&self) -> [bool; 3] {
        let [server, client, key] = self.openssl.each_ref().map(|word| word == "ok");
        let held = self.openssl[2] != "mismatch";
        [server && held, client && held, client && key && (server || self.is_client())]
    }

    /// Its directory, as `quorate certs issue` would have made it.
    fn settle(&self, dir: &Path) -> PathBuf {
        let at = dir.join(&self.name);
        fs::create_dir(&at).unwrap();
        for kind in ["ca", "cert", "key"] {
            fs::write(at.join(format!("{kind}.pem")), self.file(kind)).unwrap();
        }
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            fs::set_permissions(at.join("key.pem"), fs::Permissions::from_mode(0o600)).unwrap();
        }
        at
    }

    /// Our side of a handshake: the good agent, which trusts what the animal brought as its authority.
    fn judge(&self, good: &Animal) -> Result<Tls, String> {
        let text = |kind: &str, of: &Animal| String::from_utf8_lossy(&of.file(kind)).into_owned();
        let issued = Issued {
            cert_pem: text("cert", good),
            key_pem: text("key", good),
            ca_pem: String::from_utf8(self.file("ca")).unwrap(),
        };
        let identity = Identity::unchecked(&issued).map_err(|error| error.to_string())?;
        Ok(Tls::new(&identity).unwrap())
    }

    /// What it shows, with its key; where that cannot sign here, with another one: the certificate is judged first.
    fn shown(&self, good: &Animal) -> Result<Arc<SingleCertAndKey>, String> {
        let chain: Result<Vec<CertificateDer<'static>>, _> =
            CertificateDer::pem_slice_iter(&self.file("cert")).collect();
        let chain = chain.ok().filter(|chain| !chain.is_empty()).ok_or("no certificate could be shown")?;
        let load = |pem: &[u8]| {
            let key = PrivateKeyDer::from_pem_slice(pem).ok()?;
            provider().key_provider.load_private_key(key).ok()
        };
        let key = load(&self.file("key")).or_else(|| load(&good.file("key"))).unwrap();
        Ok(Arc::new(SingleCertAndKey::from(CertifiedKey::new(chain, key))))
    }

    fn as_client(&self, good: &Animal) -> Result<(), String> {
        let (tls, shown) = (self.judge(good)?, self.shown(good)?);
        let verdict = Verdict::new();
        let server = ServerConnection::new(Arc::new(tls.server(&[ALPN], &verdict).unwrap())).unwrap();
        let mut config = rustls::ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody))
            .with_client_cert_resolver(shown);
        config.alpn_protocols = vec![ALPN.to_vec()];
        let client = ClientConnection::new(Arc::new(config), DNS.try_into().unwrap()).unwrap();
        let (_, ours) = shake(client, server);
        outcome(ours, &verdict)
    }

    fn as_server(&self, good: &Animal) -> Result<(), String> {
        let (tls, shown) = (self.judge(good)?, self.shown(good)?);
        let verdict = Verdict::new();
        let config = tls.client(ALPN, &verdict).unwrap();
        let client = ClientConnection::new(Arc::new(config), DNS.try_into().unwrap()).unwrap();
        let mut config = rustls::ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(shown);
        config.alpn_protocols = vec![ALPN.to_vec()];
        let (ours, _) = shake(client, ServerConnection::new(Arc::new(config)).unwrap());
        outcome(ours, &verdict)
    }
}

/// What our side would log of a handshake.
fn outcome(ours: Result<(), rustls::Error>, verdict: &Verdict) -> Result<(), String> {
    ours.map_err(|error| verdict.refusal().unwrap_or_else(|| Refusal::from_rustls(&error)).to_string())
}

/// An attacker's view of certificates.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

/// Everything we say about everybody, computed once for a test.
fn all() -> Vec<(Animal, Said, Finding)> {
    let dir = tempfile::tempdir().unwrap();
    let good = Animal { name: "good".into(), openssl: Default::default() };
    let plain = |text: String| text.replace(&format!("{}/", dir.path().display()), "");
    animals()
        .into_iter()
        .map(|animal| {
            let at = animal.settle(dir.path());
            let mut findings = verify(&at);
            assert_eq!(findings.len(), 1, "{}", animal.name);
            // Looking at it must never do harm, whatever it is.
            let _ = inspect(&at.join("cert.pem")).map(|said| said.subject);
            let _ = inspect(&at.join("ca.pem"));
            let load = Identity::load(&at).map(drop).map_err(|error| plain(now_less(&error.to_string())));
            let short = |said: Result<(), String>| said.map_err(|why| why.replace("/ca.pem", "ca.pem"));
            let said = Said { server: short(animal.as_server(&good)), client: short(animal.as_client(&good)), load };
            (animal, said, findings.swap_remove(0))
        })
        .collect()
}

/// A text without the time of day.
fn now_less(text: &str) -> String {
    match (text.find(" (it is "), text.find(" now)")) {
        (Some(from), Some(to)) if from < to => format!("{}{}", &text[..from], &text[to + " now)".len()..]),
        _ => text.to_owned(),
    }
}

#[test]
fn we_judge_as_openssl_does_but_for_reasons() {
    let text = fs::read_to_string(home().join("exceptions")).unwrap();
    let mut reasons = BTreeMap::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let words: Vec<&str> = line.split('\t').collect();
        let [name, places, reason] = words[..] else { panic!("not name, places, reason: {line}") };
        for place in places.split(',') {
            assert!(reasons.insert((name.to_owned(), place.to_owned()), reason).is_none(), "twice: {name} {place}");
        }
    }
    let mut unexplained = Vec::new();
    for (animal, said, _) in all() {
        let ours = [&said.server, &said.client, &said.load].map(Result::is_ok);
        for ((place, ours), theirs) in ["server", "client", "load"].into_iter().zip(ours).zip(animal.says_openssl()) {
            let explained = reasons.remove(&(animal.name.clone(), place.to_owned())).is_some();
            // No reason is good enough to let pass what openssl refuses.
            if (ours != theirs) != explained || (ours && !theirs) {
                let is = if explained { "listed, and differs no more" } else { "differs" };
                unexplained.push(format!("{}\t{place}\t{is}: openssl {:?}, we {said:?}", animal.name, animal.openssl));
            }
        }
    }
    unexplained.extend(reasons.keys().map(|(name, place)| format!("{name}\t{place}\tlisted, and not in the zoo")));
    assert!(unexplained.is_empty(), "{}", unexplained.join("\n"));
}

#[test]
fn every_refusal_says_why() {
    let line = |said: &Result<(), String>| said.as_ref().map_or_else(String::clone, |()| "ok".to_owned());
    let mut text = String::new();
    for (animal, said, finding) in all() {
        let (server, client, load) = (line(&said.server), line(&said.client), line(&said.load));
        assert!([&server, &client, &load].iter().all(|said| said.chars().all(|c| !c.is_control())), "{}", animal.name);
        assert!([&server, &client, &load].iter().all(|said| said.len() < 400), "{}", animal.name);
        // What a person is told at the command line is what an agent would be told at its start.
        assert_eq!(finding.severity == Severity::Error, said.load.is_err(), "{}: {finding:?}", animal.name);
        text.push_str(&format!("{}\n  as server  {server}\n  as client  {client}\n  at start   {load}\n", animal.name));
    }
    let path = home().join("ours");
    if std::env::var_os("QUORATE_ZOO_BLESS").is_some() {
        fs::write(&path, &text).unwrap();
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    for (kept, now) in kept.lines().zip(text.lines()) {
        assert_eq!(kept, now, "zoo/ours differs; with QUORATE_ZOO_BLESS=1 it is written anew");
    }
    assert_eq!(kept.lines().count(), text.lines().count());
}
