//! What a person wants to know about certificates on disk: what one says, and whether a directory of them is sound.
//! Never changes a file, and never reads more of a key than its mode and whether it fits.

use std::path::{Path, PathBuf};

use serde::Serialize;
use webpki::KeyUsage;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::anchors::Anchors;
use crate::certificates::{certificates, dates, fingerprint};
use crate::identity::Paths;
use crate::{CertsError, ClusterId, Date, Identity, Role, Subject, Who, files};

/// How many days before the end of an identity [`verify`] begins to warn.
const WARN_DAYS: i64 = 30;

/// What sort of certificate it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// An authority's.
    Authority,
    /// An agent's.
    Agent,
    /// A client's.
    Client,
    /// One that names nobody of ours.
    Unknown,
}

/// What a certificate says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Inspection {
    /// The file.
    pub path: PathBuf,
    /// What sort of certificate it is.
    pub kind: Kind,
    /// The owner's URI, or an authority's common name.
    pub subject: String,
    /// The cluster it belongs to.
    pub cluster: Option<ClusterId>,
    /// A client's role.
    pub role: Option<Role>,
    /// The human name.
    pub name: Option<String>,
    /// The serial number in hexadecimal.
    pub serial: String,
    /// Its first valid second.
    pub not_before: Date,
    /// Its last valid second.
    pub not_after: Date,
    /// SHA-256 of the certificate in hexadecimal.
    pub fingerprint: String,
    /// The common name of who signed it.
    pub issuer: String,
}

/// Reads what the first certificate in `path` says; for a directory, in its `cert.pem` or else its `ca.pem`.
pub fn inspect(path: &Path) -> Result<Inspection, CertsError> {
    let file = if path.is_dir() {
        let paths = Paths::of(path);
        if paths.cert.exists() { paths.cert } else { paths.ca }
    } else {
        path.to_owned()
    };
    let bytes = files::read(&file, "the certificate to inspect", "name a certificate or a directory of one")?;
    let der = certificates(&file, &bytes)?.swap_remove(0);
    let malformed =
        || CertsError::Malformed { path: file.clone(), why: "it is not a well-formed certificate".to_owned() };
    let (_, parsed) = X509Certificate::from_der(&der).map_err(|_| malformed())?;
    let (not_before, not_after) = dates(&parsed);
    let common = |name: &x509_parser::x509::X509Name<'_>| {
        let text = name.iter_common_name().next().and_then(|cn| cn.as_str().ok()).unwrap_or("?");
        printable(text)
    };
    let subject = Subject::from_x509(&parsed).ok();
    let (kind, role) = match subject.as_ref().map(|subject| &subject.who) {
        Some(Who::Agent { .. }) => (Kind::Agent, None),
        Some(Who::Client { role, .. }) => (Kind::Client, Some(*role)),
        None if parsed.is_ca() => (Kind::Authority, None),
        None => (Kind::Unknown, None),
    };
    let own_name = common(parsed.subject());
    let cluster = match (&subject, kind) {
        (Some(subject), _) => Some(subject.cluster),
        (None, Kind::Authority) => {
            own_name.rsplit(' ').next().filter(|_| !own_name.contains(" dev ")).and_then(|id| id.parse().ok())
        }
        (None, _) => None,
    };
    Ok(Inspection {
        kind,
        subject: subject.as_ref().map_or(own_name, Subject::uri),
        cluster,
        role,
        name: subject.as_ref().map(|subject| subject.name().to_string()),
        serial: hex::encode(parsed.raw_serial()),
        not_before,
        not_after,
        fingerprint: hex::encode(fingerprint(&der)),
        issuer: common(parsed.issuer()),
        path: file,
    })
}

/// How bad a [`Finding`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// As it should be.
    Good,
    /// Works now, not for long.
    Warning,
    /// Cannot be used.
    Error,
}

/// One thing [`verify`] looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The file or directory.
    pub path: PathBuf,
    /// How bad it is.
    pub severity: Severity,
    /// What was found and, where something is wrong, what to do.
    pub text: String,
}

/// Checks a directory: of one identity (`cert.pem`), of an authority (`ca.key`) with all identities below it, or both.
pub fn verify(dir: &Path) -> Vec<Finding> {
    let mut findings = Vec::new();
    if dir.join("ca.key").exists() {
        verify_authority(dir, &mut findings);
    }
    if dir.join("cert.pem").exists() {
        verify_identity(dir, None, &mut findings);
    }
    let authority = std::fs::read(dir.join("ca.pem")).ok();
    let mut below: Vec<PathBuf> = std::fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.join("cert.pem").exists())
        .collect();
    below.sort();
    for identity in below {
        verify_identity(&identity, authority.as_deref(), &mut findings);
    }
    if findings.is_empty() {
        findings.push(Finding {
            path: dir.to_owned(),
            severity: Severity::Error,
            text: "no certificates here (neither ca.key nor cert.pem); name the directory given to `quorate certs`"
                .to_owned(),
        });
    }
    findings
}

fn verify_authority(dir: &Path, findings: &mut Vec<Finding>) {
    let path = dir.join("ca.pem");
    let (severity, text) = match crate::Authority::load(dir).and_then(|_| inspect(&path)) {
        Ok(said) if said.not_after < Date::now() => (
            Severity::Error,
            format!("the authority expired at {}; make a new one with `quorate certs init`", said.not_after),
        ),
        Ok(said) => (Severity::Good, format!("{} until {}", said.subject, said.not_after)),
        Err(error) => (Severity::Error, error.to_string()),
    };
    findings.push(Finding { path, severity, text });
}

fn verify_identity(dir: &Path, authority: Option<&[u8]>, findings: &mut Vec<Finding>) {
    let path = dir.join("cert.pem");
    let (severity, text) = match Identity::load(dir) {
        Err(error) => (Severity::Error, error.to_string()),
        Ok(identity) => {
            let days = Date::now().days_until(identity.not_after());
            let trusted = authority.map_or(Ok(()), |pem| {
                let anchors = Anchors::read(&path, pem).map_err(|e| e.to_string())?;
                let (leaf, between) = (&identity.chain()[0], &identity.chain()[1..]);
                anchors.verify(leaf, between, Date::now(), KeyUsage::client_auth()).map_err(|e| e.to_string())
            });
            let subject = identity.subject();
            if let Err(why) = trusted {
                (Severity::Error, format!("{subject} was not issued by the authority above it ({why}); issue it again"))
            } else if days < WARN_DAYS {
                let until = identity.not_after();
                (
                    Severity::Warning,
                    format!(
                        "{subject} of cluster {} until {until} ({days} days left); issue a new one",
                        subject.cluster
                    ),
                )
            } else {
                (Severity::Good, format!("{subject} of cluster {} until {}", subject.cluster, identity.not_after()))
            }
        }
    };
    findings.push(Finding { path, severity, text });
}

/// A name from a certificate may hold anything; a terminal must not obey it.
fn printable(text: &str) -> String {
    text.chars().take(200).flat_map(char::escape_debug).collect()
}
