//! An identity from a directory: `ca.pem`, `cert.pem`, `key.pem`, checked against each other before anything uses them.
//! Never asks the network, and never gives the key out except to TLS.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use webpki::{EndEntityCert, KeyUsage};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::anchors::Anchors;
use crate::certificates::{certificates, dates, fingerprint, malformed};
use crate::{CertsError, ClusterId, Date, Issued, Refusal, Subject, files, provider};

/// A checked certificate with its key and the authority that vouches for it.
pub struct Identity {
    subject: Subject,
    /// First and last valid second of the certificate alone.
    own: (Date, Date),
    fingerprint: [u8; 32],
    chain: Vec<CertificateDer<'static>>,
    anchors: Anchors,
    key: PrivateKeyDer<'static>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("subject", &self.subject)
            .field("not_after", &self.not_after())
            .finish_non_exhaustive()
    }
}

/// The three files of an identity.
pub(crate) struct Paths {
    pub(crate) ca: PathBuf,
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

impl Paths {
    pub(crate) fn of(dir: &Path) -> Self {
        Self { ca: dir.join("ca.pem"), cert: dir.join("cert.pem"), key: dir.join("key.pem") }
    }
}

impl Identity {
    /// Reads and checks the identity in `dir` by this machine's clock.
    pub fn load(dir: &Path) -> Result<Self, CertsError> {
        let paths = Paths::of(dir);
        let next = "copy it from the directory made by `quorate certs issue`";
        let ca = files::read(&paths.ca, "the authority to trust", next)?;
        let cert = files::read(&paths.cert, "the certificate of this agent or client", next)?;
        files::refuse_loose(&paths.key)?;
        let key = files::read(&paths.key, "the private key of this agent or client", next)?;
        Self::check(&paths, &ca, &cert, &key, Date::now())
    }

    /// Checks an identity that never was on disk, by this machine's clock.
    pub fn from_issued(issued: &Issued) -> Result<Self, CertsError> {
        let (ca, cert, key) = (&issued.ca_pem, &issued.cert_pem, &issued.key_pem);
        Self::check(&Paths::of(Path::new("")), ca.as_bytes(), cert.as_bytes(), key.as_bytes(), Date::now())
    }

    /// Takes an identity as it is: key and certificate fit, but dates and chain are the caller's business.
    #[doc(hidden)]
    pub fn unchecked(issued: &Issued) -> Result<Self, CertsError> {
        let (ca, cert, key) = (&issued.ca_pem, &issued.cert_pem, &issued.key_pem);
        Self::parse(&Paths::of(Path::new("")), ca.as_bytes(), cert.as_bytes(), key.as_bytes())
    }

    fn check(paths: &Paths, ca: &[u8], cert: &[u8], key: &[u8], now: Date) -> Result<Self, CertsError> {
        let identity = Self::parse(paths, ca, cert, key)?;
        // The dates come first: their errors name a date, verification's would only say "invalid".
        let (authority_begins, authority_ends) = identity.anchors.window();
        let begins = [(&paths.cert, identity.own.0), (&paths.ca, authority_begins)];
        if let Some((path, not_before)) = begins.into_iter().find(|(_, begin)| now < *begin) {
            return Err(CertsError::NotYetValid { path: path.clone(), not_before, now });
        }
        if now > identity.own.1 {
            return Err(CertsError::Expired { path: paths.cert.clone(), not_after: identity.own.1, now });
        }
        if now > authority_ends {
            return Err(CertsError::AuthorityExpired { path: paths.ca.clone(), not_after: authority_ends, now });
        }
        identity.verify_chain(now).map_err(|why| match why {
            Refusal::OtherAuthority => CertsError::OtherAuthority {
                certificate: paths.cert.clone(),
                authority: paths.ca.clone(),
                why: "the signature is not by that authority".to_owned(),
            },
            why => malformed(&paths.cert, &in_file(&why)),
        })?;
        Ok(identity)
    }

    fn parse(paths: &Paths, ca: &[u8], cert: &[u8], key: &[u8]) -> Result<Self, CertsError> {
        let chain = certificates(&paths.cert, cert)?;
        let anchors = Anchors::read(&paths.ca, ca)?;
        let key =
            PrivateKeyDer::from_pem_slice(key).map_err(|_| malformed(&paths.key, "it holds no private key in PEM"))?;
        // `certificates` never answers with none. The certificate comes before the key, so that each is blamed for its own.
        let leaf = &chain[0];
        let unreadable = || malformed(&paths.cert, "it is not a well-formed certificate");
        let (rest, parsed) = X509Certificate::from_der(leaf).map_err(|_| unreadable())?;
        if !rest.is_empty() {
            return Err(unreadable());
        }
        let fit = EndEntityCert::try_from(leaf).map_err(|error| Refusal::from_webpki(&error));
        fit.map_err(|why| malformed(&paths.cert, &in_file(&why)))?;
        CertifiedKey::from_der(chain.clone(), key.clone_key(), &provider()).map_err(|why| match why {
            rustls::Error::InconsistentKeys(_) => {
                CertsError::KeyMismatch { key: paths.key.clone(), certificate: paths.cert.clone() }
            }
            _ => malformed(&paths.key, "it holds no private key of a known kind"),
        })?;
        let subject =
            Subject::from_x509(&parsed).map_err(|source| CertsError::Subject { path: paths.cert.clone(), source })?;
        let own = dates(&parsed);
        let fingerprint = fingerprint(leaf);
        Ok(Self { subject, own, fingerprint, chain, anchors, key })
    }

    /// Whether the chain leads to our authority and may be used as the subject needs it.
    fn verify_chain(&self, now: Date) -> Result<(), Refusal> {
        let mut usages = vec![KeyUsage::client_auth()];
        if self.subject.is_agent() {
            usages.push(KeyUsage::server_auth());
        }
        usages.into_iter().try_for_each(|usage| self.anchors.verify(&self.chain[0], &self.chain[1..], now, usage))
    }

    /// Whose identity this is.
    pub fn subject(&self) -> &Subject {
        &self.subject
    }

    /// The cluster it belongs to.
    pub fn cluster(&self) -> ClusterId {
        self.subject.cluster
    }

    /// The first second at which certificate and authority are valid.
    pub fn not_before(&self) -> Date {
        self.own.0.max(self.anchors.window().0)
    }

    /// The last second at which certificate and authority are valid.
    pub fn not_after(&self) -> Date {
        self.own.1.min(self.anchors.window().1)
    }

    /// SHA-256 of the certificate.
    pub fn fingerprint(&self) -> [u8; 32] {
        self.fingerprint
    }

    /// The certificate, and intermediates if there are any.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// The authorities this identity trusts.
    pub fn roots(&self) -> Arc<RootCertStore> {
        self.anchors.store()
    }

    pub(crate) fn anchors(&self) -> &Anchors {
        &self.anchors
    }

    pub(crate) fn key(&self) -> PrivateKeyDer<'static> {
        self.key.clone_key()
    }
}

/// A refusal as it follows the name of a file.
fn in_file(why: &Refusal) -> String {
    match why {
        Refusal::Unfit(fault) => fault.to_string(),
        other => other.to_string(),
    }
}
