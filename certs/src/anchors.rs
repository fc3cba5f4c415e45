//! The authorities that an identity trusts, and the rules about them that webpki leaves to its caller.
//! Never trusts a certificate that does not say it is an authority's.
//!
//! webpki takes any certificate as an anchor: it looks neither at the anchor's dates nor at its basic constraints, path
//! length included, and at no key usage anywhere (RFC 5280 §4.2.1.3, §4.2.1.9, §6.1). Here an anchor is checked once when it is read, and by the clock at
//! each handshake; the key usage of intermediates is checked on the path that was really taken.

use std::cell::Cell;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::RootCertStore;
use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, KeyUsage, VerifiedPath};
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::public_key::PublicKey;

use crate::certificates::{certificates, dates, malformed};
use crate::{CertsError, Date, Fault, Refusal, provider};

/// The shortest RSA key of an authority, in bits: shorter ones can be factored, and TLS refuses what they sign.
const RSA_BITS_MIN: usize = 2_048;

/// Authorities, each with what webpki forgets of it.
#[derive(Debug, Clone)]
pub(crate) struct Anchors {
    store: Arc<RootCertStore>,
    /// In the order of the store.
    rules: Vec<Rules>,
}

/// What an authority says about itself.
#[derive(Debug, Clone, Copy)]
struct Rules {
    not_before: Date,
    not_after: Date,
    /// How many authorities may stand between it and a leaf, if it says so.
    below_max: Option<u32>,
}

impl Rules {
    fn open(&self, now: Date) -> bool {
        (self.not_before..=self.not_after).contains(&now)
    }
}

impl Anchors {
    /// Reads the authorities in a PEM file, at least one.
    pub(crate) fn read(path: &Path, pem: &[u8]) -> Result<Self, CertsError> {
        let mut store = RootCertStore::empty();
        let mut rules = Vec::new();
        for der in certificates(path, pem)? {
            rules.push(authority(&der).map_err(|why| malformed(path, why))?);
            store.add(der).map_err(|_| malformed(path, "it is no certificate of an authority"))?;
        }
        Ok(Self { store: Arc::new(store), rules })
    }

    pub(crate) fn store(&self) -> Arc<RootCertStore> {
        self.store.clone()
    }

    /// From the first second at which any of them is valid until the last.
    pub(crate) fn window(&self) -> (Date, Date) {
        let first = self.rules.iter().map(|rules| rules.not_before).min();
        let last = self.rules.iter().map(|rules| rules.not_after).max();
        (first.unwrap_or(Date::from_unix(i64::MAX)), last.unwrap_or(Date::from_unix(i64::MIN)))
    }

    /// What a stock verification at `now` left open about this chain. Costs nothing for a chain without intermediates
    /// while all authorities are valid, which is what this program issues.
    pub(crate) fn complete(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: Date,
        usage: KeyUsage,
    ) -> Result<(), Refusal> {
        signs(leaf)?;
        if intermediates.is_empty() && self.rules.iter().all(|rules| rules.open(now)) {
            return Ok(());
        }
        self.verify(leaf, intermediates, now, usage)
    }

    /// Whether a path leads from `leaf` to an authority that is valid at `now`, each step allowed.
    pub(crate) fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: Date,
        usage: KeyUsage,
    ) -> Result<(), Refusal> {
        signs(leaf)?;
        let certificate = EndEntityCert::try_from(leaf).map_err(|error| Refusal::from_webpki(&error))?;
        let time = UnixTime::since_unix_epoch(Duration::from_secs(now.unix().max(0).unsigned_abs()));
        let algorithms = provider().signature_verification_algorithms;
        // Our own objection to a path has no webpki error that says as much.
        let objection = Cell::new(None);
        let path = |path: &VerifiedPath<'_>| {
            self.object(path, now).map_err(|why| {
                objection.set(Some(why));
                webpki::Error::UnknownIssuer
            })
        };
        let roots = &self.store.roots;
        let verified =
            certificate.verify_for_usage(algorithms.all, roots, intermediates, time, usage, None, Some(&path));
        match verified {
            Ok(_) => Ok(()),
            Err(error) => Err(objection.take().unwrap_or_else(|| Refusal::from_webpki(&error))),
        }
    }

    /// What is wrong with a path whose signatures and dates are good.
    fn object(&self, path: &VerifiedPath<'_>, now: Date) -> Result<(), Refusal> {
        let mut below = 0;
        for between in path.intermediate_certificates() {
            let der = between.der();
            let (_, parsed) = X509Certificate::from_der(&der).map_err(|_| Refusal::Broken)?;
            if !may(&parsed, |usage| usage.key_cert_sign()) {
                return Err(Refusal::Unfit(Fault::NotAnAuthority));
            }
            // One that names itself as issuer is the same authority with another key (RFC 5280 §4.2.1.9).
            below += u32::from(parsed.subject() != parsed.issuer());
        }
        let at = self.store.roots.iter().position(|root| root == path.anchor());
        let rules = at.and_then(|at| self.rules.get(at)).ok_or(Refusal::OtherAuthority)?;
        if !rules.open(now) {
            return Err(Refusal::AuthorityDates(Some((rules.not_before, rules.not_after))));
        }
        if rules.below_max.is_some_and(|max| below > max) {
            return Err(Refusal::Unfit(Fault::PathLength));
        }
        Ok(())
    }
}

/// Whether this is the certificate of an authority that can be trusted; what it says about itself.
fn authority(der: &CertificateDer<'_>) -> Result<Rules, &'static str> {
    let (rest, parsed) = X509Certificate::from_der(der).map_err(|_| "it is not a well-formed certificate")?;
    if !rest.is_empty() {
        return Err("it is not a well-formed certificate");
    }
    if !parsed.is_ca() {
        return Err("its basic constraints do not say that it is an authority's");
    }
    if !may(&parsed, |usage| usage.key_cert_sign()) {
        return Err("its key may not sign certificates (its key usage lacks keyCertSign)");
    }
    let unknown = |extension: &ParsedExtension<'_>| {
        matches!(extension, ParsedExtension::UnsupportedExtension { .. } | ParsedExtension::ParseError { .. })
    };
    if parsed.extensions().iter().any(|extension| extension.critical && unknown(extension.parsed_extension())) {
        return Err("it has a critical extension that this program does not know");
    }
    match parsed.public_key().parsed() {
        Ok(PublicKey::RSA(key)) if key.key_size() < RSA_BITS_MIN => {
            return Err("its RSA key is shorter than 2048 bits");
        }
        _ => {}
    }
    let constraints = parsed.basic_constraints().ok().flatten();
    let below_max = constraints.and_then(|found| found.value.path_len_constraint);
    let (not_before, not_after) = dates(&parsed);
    Ok(Rules { not_before, not_after, below_max })
}

/// Whether the owner of this certificate may sign a handshake (RFC 8446 §4.4.2.2).
fn signs(leaf: &CertificateDer<'_>) -> Result<(), Refusal> {
    let (_, parsed) = X509Certificate::from_der(leaf).map_err(|_| Refusal::Broken)?;
    if may(&parsed, |usage| usage.digital_signature()) { Ok(()) } else { Err(Refusal::Unfit(Fault::KeyUsage)) }
}

/// A certificate without a key usage may do everything.
fn may(parsed: &X509Certificate<'_>, allowed: impl Fn(&x509_parser::extensions::KeyUsage) -> bool) -> bool {
    match parsed.key_usage() {
        Ok(Some(usage)) => allowed(usage.value),
        Ok(None) => true,
        Err(_) => false,
    }
}
