//! Certificates as they lie in files: read, dated, named by their fingerprint.
//! Never judges one.

use std::path::Path;

use ring::digest::{SHA256, digest};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::{CertsError, Date};

/// The largest number of certificates in a file that are looked at.
const CHAIN_MAX: usize = 8;

/// All certificates in a PEM file: at least one, at most [`CHAIN_MAX`].
pub(crate) fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, CertsError> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).take(CHAIN_MAX + 1).collect();
    let all = all.map_err(|_| malformed(path, "its PEM is damaged"))?;
    match all.len() {
        0 => Err(malformed(path, "it holds no PEM certificate")),
        1..=CHAIN_MAX => Ok(all),
        _ => Err(malformed(path, "it holds too many certificates")),
    }
}

/// Begin and end of a certificate.
pub(crate) fn dates(parsed: &X509Certificate<'_>) -> (Date, Date) {
    let validity = parsed.validity();
    (Date::from_unix(validity.not_before.timestamp()), Date::from_unix(validity.not_after.timestamp()))
}

/// The last second at which a certificate is valid; `None` if it cannot be read. Proves nothing: its chain must have
/// been verified by TLS before.
pub fn not_after(certificate: &CertificateDer<'_>) -> Option<Date> {
    X509Certificate::from_der(certificate).ok().map(|(_, parsed)| dates(&parsed).1)
}

/// SHA-256 of a certificate.
pub(crate) fn fingerprint(certificate: &CertificateDer<'_>) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, certificate).as_ref());
    bytes
}

/// What is wrong with a file.
pub(crate) fn malformed(path: &Path, why: &str) -> CertsError {
    CertsError::Malformed { path: path.to_owned(), why: why.to_owned() }
}
