//! The rustls configurations: TLS 1.3 only, both sides authenticated, nothing resumed, one provider.
//! Never opens a socket, and has no switch that weakens a check.

use std::fmt;
use std::sync::{Arc, OnceLock};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use webpki::KeyUsage;

use crate::anchors::Anchors;
use crate::{CertsError, ClusterId, Date, Fault, Identity, Refusal, Subject};

/// The one cryptographic provider; passed explicitly everywhere, so that no process-wide default is ever consulted.
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER.get_or_init(|| Arc::new(rustls::crypto::ring::default_provider())).clone()
}

/// Where the verifier of one handshake leaves its reason, because the transport only hands on an alert code.
#[derive(Clone, Default)]
pub struct Verdict(Arc<OnceLock<Refusal>>);

impl Verdict {
    /// An empty slot.
    pub fn new() -> Self {
        Self::default()
    }

    /// Why this side refused the other side's certificate, if it did.
    pub fn refusal(&self) -> Option<Refusal> {
        self.0.get().cloned()
    }

    fn note(&self, refusal: Refusal) {
        // Only the first reason counts; a handshake is verified once.
        let _ = self.0.set(refusal);
    }
}

impl fmt::Debug for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Verdict").field(&self.0.get()).finish()
    }
}

/// What all handshakes of one identity share; each handshake gets its own configuration from it, which is cheap.
#[derive(Clone)]
pub struct Tls {
    cluster: ClusterId,
    certified: Arc<SingleCertAndKey>,
    clients: Arc<dyn ClientCertVerifier>,
    servers: Arc<WebPkiServerVerifier>,
    anchors: Anchors,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("cluster", &self.cluster).finish_non_exhaustive()
    }
}

impl Tls {
    /// Prepares the handshakes of `identity`.
    pub fn new(identity: &Identity) -> Result<Self, CertsError> {
        let failed = |e: &dyn fmt::Display| CertsError::crypto("prepare TLS", e);
        let certified =
            CertifiedKey::from_der(identity.chain().to_vec(), identity.key(), &provider()).map_err(|e| failed(&e))?;
        let clients = WebPkiClientVerifier::builder_with_provider(identity.roots(), provider())
            .build()
            .map_err(|e| failed(&e))?;
        let servers = WebPkiServerVerifier::builder_with_provider(identity.roots(), provider())
            .build()
            .map_err(|e| failed(&e))?;
        let certified = Arc::new(SingleCertAndKey::from(certified));
        Ok(Self { cluster: identity.cluster(), certified, clients, servers, anchors: identity.anchors().clone() })
    }

    /// The accepting side of one handshake, offering `alpns` in this order of preference.
    pub fn server(&self, alpns: &[&[u8]], verdict: &Verdict) -> Result<rustls::ServerConfig, CertsError> {
        let verifier = ClientPolicy { inner: self.clients.clone(), rules: self.rules(verdict) };
        let mut config = rustls::ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|e| CertsError::crypto("prepare TLS", e))?
            .with_client_cert_verifier(Arc::new(verifier))
            .with_cert_resolver(self.certified.clone());
        config.alpn_protocols = alpns.iter().map(|alpn| alpn.to_vec()).collect();
        // A resumed session skips the verifier: expiry, revocation and a changed authority would have a back door.
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.max_early_data_size = 0;
        Ok(config)
    }

    /// The dialling side of one handshake, for exactly one protocol.
    pub fn client(&self, alpn: &[u8], verdict: &Verdict) -> Result<rustls::ClientConfig, CertsError> {
        let verifier = ServerPolicy { inner: self.servers.clone(), rules: self.rules(verdict) };
        let mut config = rustls::ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|e| CertsError::crypto("prepare TLS", e))?
            // The verifier only narrows the stock one, to which it delegates every step.
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(self.certified.clone());
        config.alpn_protocols = vec![alpn.to_vec()];
        config.resumption = rustls::client::Resumption::disabled();
        config.enable_early_data = false;
        Ok(config)
    }

    fn rules(&self, verdict: &Verdict) -> Rules {
        Rules { cluster: self.cluster, anchors: self.anchors.clone(), verdict: verdict.clone() }
    }

    /// The name to dial: any agent of our cluster answers to it.
    pub fn server_name(&self) -> String {
        self.cluster.agent_dns()
    }
}

/// The accepting side's configuration of `identity`, for callers that need no [`Verdict`].
pub fn server_config(identity: &Identity, alpns: &[&[u8]]) -> Result<rustls::ServerConfig, CertsError> {
    Tls::new(identity)?.server(alpns, &Verdict::new())
}

/// The dialling side's configuration of `identity`, for callers that need no [`Verdict`].
pub fn client_config(identity: &Identity, alpn: &[u8]) -> Result<rustls::ClientConfig, CertsError> {
    Tls::new(identity)?.client(alpn, &Verdict::new())
}

/// The stock verification of a dialler's certificate, and then: one name, of our cluster.
struct ClientPolicy {
    inner: Arc<dyn ClientCertVerifier>,
    rules: Rules,
}

/// The stock verification of an answering agent's certificate, and then: an agent, of our cluster.
struct ServerPolicy {
    inner: Arc<WebPkiServerVerifier>,
    rules: Rules,
}

/// What both sides ask beyond the stock verification.
struct Rules {
    cluster: ClusterId,
    anchors: Anchors,
    verdict: Verdict,
}

impl Rules {
    /// Refuses what the stock verification let pass and should not have, and notes why.
    fn judge(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        as_server: bool,
    ) -> Result<(), rustls::Error> {
        let now = Date::from_unix(i64::try_from(now.as_secs()).unwrap_or(i64::MAX));
        let usage = if as_server { KeyUsage::server_auth() } else { KeyUsage::client_auth() };
        self.anchors
            .complete(end_entity, intermediates, now, usage)
            .and_then(|()| policy(end_entity, self.cluster, as_server))
            .map_err(|why| refuse(&self.verdict, why))
    }

    /// Notes that the certificate is good and its bearer is not.
    fn unproven(&self, error: rustls::Error) -> rustls::Error {
        self.verdict.note(match &error {
            rustls::Error::InvalidCertificate(CertificateError::BadSignature) => Refusal::Unfit(Fault::NotItsKey),
            other => Refusal::from_rustls(other),
        });
        error
    }
}

/// Notes why a verification failed, in our words, and hands the error on.
fn noted(verdict: &Verdict, error: rustls::Error, presented: &CertificateDer<'_>) -> rustls::Error {
    let refusal = match Refusal::from_rustls(&error) {
        Refusal::OtherCluster { theirs: None } => named(presented),
        other => other,
    };
    verdict.note(refusal.clone());
    match refusal {
        // The stock alert for a wrong name says "bad certificate"; ours tells the other end what is meant.
        Refusal::WrongRole | Refusal::OtherCluster { .. } | Refusal::Nameless(_) => refusal.to_verification().into(),
        _ => error,
    }
}

/// Why a certificate that chains to our authority does not answer to the name we dialled.
fn named(presented: &CertificateDer<'_>) -> Refusal {
    match Subject::from_der(presented) {
        Ok(subject) if subject.is_agent() => Refusal::OtherCluster { theirs: Some(subject.cluster) },
        Ok(_) => Refusal::WrongRole,
        Err(why) => Refusal::Nameless(Some(why)),
    }
}

/// The rules beyond the chain, the same for both sides.
fn policy(presented: &CertificateDer<'_>, cluster: ClusterId, agents_only: bool) -> Result<(), Refusal> {
    let subject = Subject::from_der(presented).map_err(|why| Refusal::Nameless(Some(why)))?;
    if subject.cluster != cluster {
        return Err(Refusal::OtherCluster { theirs: Some(subject.cluster) });
    }
    if agents_only && !subject.is_agent() {
        return Err(Refusal::WrongRole);
    }
    Ok(())
}

fn refuse(verdict: &Verdict, refusal: Refusal) -> rustls::Error {
    let error = refusal.to_verification().into();
    verdict.note(refusal);
    error
}

impl ClientCertVerifier for ClientPolicy {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // Hints would tell a stranger the authority's name, and our clients have one certificate to offer anyway.
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self
            .inner
            .verify_client_cert(end_entity, intermediates, now)
            .map_err(|error| noted(&self.rules.verdict, error, end_entity))?;
        self.rules.judge(end_entity, intermediates, now, false)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, cert, dss).map_err(|error| self.rules.unproven(error))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

impl ServerCertVerifier for ServerPolicy {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified = self
            .inner
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
            .map_err(|error| noted(&self.rules.verdict, error, end_entity))?;
        self.rules.judge(end_entity, intermediates, now, true)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, cert, dss).map_err(|error| self.rules.unproven(error))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

impl fmt::Debug for ClientPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientPolicy").field("cluster", &self.rules.cluster).finish_non_exhaustive()
    }
}

impl fmt::Debug for ServerPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerPolicy").field("cluster", &self.rules.cluster).finish_non_exhaustive()
    }
}
