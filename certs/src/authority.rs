//! The certificate authority of a cluster: makes it, keeps it on disk, signs agents and clients.
//! Never signs a request made by somebody else: each issue makes its own key.

use std::fmt;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, NameConstraints, PKCS_ECDSA_P256_SHA256, SanType, SerialNumber,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::files::{self, Privacy};
use crate::name::entropy;
use crate::{CertsError, ClusterId, Date, Subject};

/// How long an agent's or a client's certificate lasts unless said otherwise, in days.
pub const VALIDITY_LEAF_DAYS: i64 = 365;
/// How long an authority lasts, in days (ten years).
pub const VALIDITY_CA_DAYS: i64 = 3_650;
/// How far every certificate reaches back, in seconds: machines whose clocks lag by less can use it at once.
const BACKDATE_SECONDS: i64 = 60 * 60;

const CA_CERT: &str = "ca.pem";
const CA_KEY: &str = "ca.key";

/// Begin and end of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// The first second at which it is valid.
    pub not_before: Date,
    /// The last second at which it is valid.
    pub not_after: Date,
}

impl Validity {
    /// From one hour ago until `days` from now.
    pub fn days(days: i64) -> Self {
        let now = Date::now();
        Self { not_before: now.plus_seconds(-BACKDATE_SECONDS), not_after: now.plus_days(days) }
    }
}

impl Default for Validity {
    /// [`VALIDITY_LEAF_DAYS`] from now.
    fn default() -> Self {
        Self::days(VALIDITY_LEAF_DAYS)
    }
}

/// For whom an authority may vouch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Exactly this cluster; a constraint in the authority's certificate says so too.
    Cluster(ClusterId),
    /// Any cluster of the user who owns the key: the authority behind `--dev`, where each founder mints its own id.
    Dev,
}

/// A fresh certificate and its key, in PEM.
pub struct Issued {
    /// The certificate.
    pub cert_pem: String,
    /// The private key, PKCS #8.
    pub key_pem: String,
    /// The authority's certificate, which goes beside it.
    pub ca_pem: String,
}

impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issued").field("cert_pem", &self.cert_pem).finish_non_exhaustive()
    }
}

/// A certificate authority with its private key (ECDSA P-256).
pub struct Authority {
    scope: Scope,
    ca_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("scope", &self.scope).finish_non_exhaustive()
    }
}

impl Authority {
    /// Makes the authority of `cluster`, in memory.
    pub fn create(cluster: ClusterId) -> Result<Self, CertsError> {
        Self::create_for(Scope::Cluster(cluster), Validity::days(VALIDITY_CA_DAYS))
    }

    /// Makes a per-user development authority, in memory: it may vouch for any number of clusters.
    pub fn create_dev() -> Result<Self, CertsError> {
        Self::create_for(Scope::Dev, Validity::days(VALIDITY_CA_DAYS))
    }

    /// Makes an authority of this scope and lifetime, in memory.
    pub fn create_for(scope: Scope, validity: Validity) -> Result<Self, CertsError> {
        let key = new_key()?;
        let (common_name, zone) = match scope {
            Scope::Cluster(cluster) => (common_name(cluster), cluster.zone()),
            Scope::Dev => (format!("{DEV_PREFIX}{}", hex::encode(entropy::<16>()?)), "quorate.internal".to_owned()),
        };
        // The name is unique, because verifiers look an issuer up by name: with equal names "another cluster's
        // authority" would be reported as a broken signature.
        let mut params = base_params(&common_name, validity)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.use_authority_key_identifier_extension = false;
        // Only DNS: webpki refuses every certificate below a constraint on URIs.
        params.name_constraints = Some(NameConstraints {
            permitted_subtrees: vec![GeneralSubtree::DnsName(zone)],
            excluded_subtrees: Vec::new(),
        });
        let certificate = params.self_signed(&key).map_err(|e| CertsError::crypto("sign the authority", e))?;
        let issuer = Issuer::new(params, key);
        Ok(Self { scope, ca_pem: certificate.pem(), issuer })
    }

    /// Reads `dir/ca.pem` and `dir/ca.key`; refuses a key that others can read.
    pub fn load(dir: &Path) -> Result<Self, CertsError> {
        let (cert_path, key_path) = (dir.join(CA_CERT), dir.join(CA_KEY));
        let next = "make the authority with `quorate certs init`";
        let cert = files::read(&cert_path, "the certificate of the authority", next)?;
        let key = files::read(&key_path, "the private key of the authority", next)?;
        files::refuse_loose(&key_path)?;
        let malformed = |path: &PathBuf, why: &str| CertsError::Malformed { path: path.clone(), why: why.into() };
        let der =
            CertificateDer::from_pem_slice(&cert).map_err(|_| malformed(&cert_path, "it holds no PEM certificate"))?;
        let (_, parsed) = X509Certificate::from_der(&der)
            .map_err(|_| malformed(&cert_path, "it is not a well-formed certificate"))?;
        if !parsed.is_ca() {
            return Err(malformed(&cert_path, "it is not the certificate of an authority"));
        }
        let scope = scope_of(&parsed).ok_or_else(|| malformed(&cert_path, "it was not made by this program"))?;
        let key = std::str::from_utf8(&key)
            .ok()
            .and_then(|text| KeyPair::from_pem_and_sign_algo(text, &PKCS_ECDSA_P256_SHA256).ok())
            .ok_or_else(|| malformed(&key_path, "it holds no P-256 private key in PEM"))?;
        if key.public_key_raw() != parsed.public_key().subject_public_key.data.as_ref() {
            return Err(CertsError::KeyMismatch { key: key_path, certificate: cert_path });
        }
        let issuer = Issuer::from_ca_cert_der(&der, key).map_err(|e| CertsError::crypto("read the authority", e))?;
        let ca_pem = String::from_utf8(cert).map_err(|_| malformed(&cert_path, "it is not text"))?;
        Ok(Self { scope, ca_pem, issuer })
    }

    /// Writes `dir/ca.key` (0600) and `dir/ca.pem`; fails if either exists. Creates `dir` with mode 0700.
    pub fn save(&self, dir: &Path) -> Result<(), CertsError> {
        files::private_dir(dir)?;
        let (cert_path, key_path) = (dir.join(CA_CERT), dir.join(CA_KEY));
        if cert_path.symlink_metadata().is_ok() {
            return Err(CertsError::Exists(cert_path));
        }
        // The key goes first: a certificate without its key would look like an authority and be none.
        files::new_file(&key_path, Privacy::Secret, self.issuer.key().serialize_pem().as_bytes())?;
        files::new_file(&cert_path, Privacy::Public, self.ca_pem.as_bytes()).inspect_err(|_| {
            let _ = std::fs::remove_file(&key_path);
        })
    }

    /// For whom this authority may vouch.
    pub fn scope(&self) -> Scope {
        self.scope
    }

    /// The authority's certificate, in PEM.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// Signs a fresh key for `subject`. Fails if this authority vouches for another cluster.
    pub fn issue(&self, subject: &Subject, validity: Validity) -> Result<Issued, CertsError> {
        if let Scope::Cluster(ours) = self.scope
            && ours != subject.cluster
        {
            return Err(CertsError::OtherCluster { ours, asked: subject.cluster });
        }
        let mut params = leaf_params(subject.name().as_str(), validity)?;
        params.subject_alt_names.push(SanType::URI(ia5(&subject.uri())?));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        if let Some(dns) = subject.dns() {
            params.subject_alt_names.push(SanType::DnsName(ia5(&dns)?));
            params.extended_key_usages.insert(0, ExtendedKeyUsagePurpose::ServerAuth);
        }
        self.sign(&params)
    }

    /// Issues for `subject` into the new directory `out/<name>`: `ca.pem`, `cert.pem`, `key.pem`. Returns the directory.
    pub fn issue_to(&self, subject: &Subject, validity: Validity, out: &Path) -> Result<PathBuf, CertsError> {
        files::private_dir(out)?;
        let dir = out.join(subject.name().as_str());
        if dir.symlink_metadata().is_ok() {
            return Err(CertsError::Exists(dir));
        }
        self.issue(subject, validity)?.save(&dir)?;
        Ok(dir)
    }

    fn sign(&self, params: &CertificateParams) -> Result<Issued, CertsError> {
        let key = new_key()?;
        let certificate =
            params.signed_by(&key, &self.issuer).map_err(|e| CertsError::crypto("sign a certificate", e))?;
        Ok(Issued { cert_pem: certificate.pem(), key_pem: key.serialize_pem(), ca_pem: self.ca_pem.clone() })
    }
}

impl Issued {
    /// Writes the three files of an identity into the new directory `dir` (0700), all at once or not at all.
    pub fn save(&self, dir: &Path) -> Result<(), CertsError> {
        files::new_dir(
            dir,
            &[
                ("ca.pem", Privacy::Public, self.ca_pem.as_bytes()),
                ("cert.pem", Privacy::Public, self.cert_pem.as_bytes()),
                ("key.pem", Privacy::Secret, self.key_pem.as_bytes()),
            ],
        )
    }
}

const CLUSTER_PREFIX: &str = "Quorate CA ";
const DEV_PREFIX: &str = "Quorate dev CA ";

fn common_name(cluster: ClusterId) -> String {
    format!("{CLUSTER_PREFIX}{cluster}")
}

fn scope_of(authority: &X509Certificate<'_>) -> Option<Scope> {
    let name = authority.subject().iter_common_name().next()?.as_str().ok()?;
    if name.starts_with(DEV_PREFIX) {
        return Some(Scope::Dev);
    }
    name.strip_prefix(CLUSTER_PREFIX)?.parse().ok().map(Scope::Cluster)
}

fn new_key() -> Result<KeyPair, CertsError> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|e| CertsError::crypto("make a key", e))
}

fn leaf_params(common_name: &str, validity: Validity) -> Result<CertificateParams, CertsError> {
    let mut params = base_params(common_name, validity)?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// What every certificate has: name, dates, and a random serial (rcgen would derive it from the key and so repeat it).
fn base_params(common_name: &str, validity: Validity) -> Result<CertificateParams, CertsError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    let date =
        |date: Date| date.offset().ok_or_else(|| CertsError::crypto("use a date", format!("{date} is out of range")));
    params.not_before = date(validity.not_before)?;
    params.not_after = date(validity.not_after)?;
    let mut serial = entropy::<16>()?;
    // A serial is a positive integer without leading zeros: clear the sign bit and set the next one.
    serial[0] = (serial[0] & 0x7f) | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    Ok(params)
}

fn ia5(text: &str) -> Result<rcgen::string::Ia5String, CertsError> {
    text.try_into().map_err(|e: rcgen::Error| CertsError::crypto("write a name", e))
}
