//! The owner of a certificate, written to and read from exactly one URI.
//! Never decides what the owner may do, and never checks a signature.

use std::fmt;

use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::{AgentName, ClusterId, NameError, Role};

/// The longest URI that is looked at, in bytes (SPIFFE's limit).
const URI_BYTES_MAX: usize = 2048;

/// Whose certificate it is: `spiffe://<cluster-id>.quorate.internal/agent/<name>` or
/// `spiffe://<cluster-id>.quorate.internal/client/<read|append|admin>/<name>`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Subject {
    /// The cluster that vouches for it.
    pub cluster: ClusterId,
    /// Which agent or client of that cluster.
    pub who: Who,
}

/// An agent or a client.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Who {
    /// A member of the cluster; may be dialled and may dial on every protocol.
    Agent {
        /// Its human name.
        name: AgentName,
    },
    /// A program or a person outside the cluster; may only dial, and only for requests.
    Client {
        /// The most it may do.
        role: Role,
        /// Its human name.
        name: AgentName,
    },
}

impl Subject {
    /// The agent `name` of `cluster`.
    pub fn agent(cluster: ClusterId, name: AgentName) -> Self {
        Self { cluster, who: Who::Agent { name } }
    }

    /// The client `name` of `cluster`, allowed `role` at most.
    pub fn client(cluster: ClusterId, role: Role, name: AgentName) -> Self {
        Self { cluster, who: Who::Client { role, name } }
    }

    /// The human name.
    pub fn name(&self) -> &AgentName {
        match &self.who {
            Who::Agent { name } | Who::Client { name, .. } => name,
        }
    }

    /// Whether this is an agent of its cluster.
    pub fn is_agent(&self) -> bool {
        matches!(self.who, Who::Agent { .. })
    }

    /// The most this subject may do in a request; an agent may do everything.
    pub fn role(&self) -> Role {
        match &self.who {
            Who::Agent { .. } => Role::Admin,
            Who::Client { role, .. } => *role,
        }
    }

    /// The URI that stands for this subject in a certificate.
    pub fn uri(&self) -> String {
        let zone = self.cluster.zone();
        match &self.who {
            Who::Agent { name } => format!("spiffe://{zone}/agent/{name}"),
            Who::Client { role, name } => format!("spiffe://{zone}/client/{role}/{name}"),
        }
    }

    /// The DNS name in the certificate: agents have one, so that they can be dialled; clients have none.
    pub fn dns(&self) -> Option<String> {
        self.is_agent().then(|| self.cluster.agent_dns())
    }

    /// Reads [`uri`](Self::uri) back; every other spelling is refused.
    pub fn from_uri(uri: &str) -> Result<Self, SubjectError> {
        if uri.len() > URI_BYTES_MAX {
            return Err(SubjectError::Uri);
        }
        let rest = uri.strip_prefix("spiffe://").ok_or(SubjectError::Uri)?;
        let (host, path) = rest.split_once('/').ok_or(SubjectError::Uri)?;
        let cluster = host.strip_suffix(".quorate.internal").ok_or(SubjectError::Uri)?;
        let cluster = cluster.parse().map_err(SubjectError::Name)?;
        let mut parts = path.split('/');
        let who = match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some("agent"), Some(name), None, None) => Who::Agent { name: AgentName::new(name)? },
            (Some("client"), Some(role), Some(name), None) => {
                Who::Client { role: role.parse()?, name: AgentName::new(name)? }
            }
            _ => return Err(SubjectError::Uri),
        };
        Ok(Self { cluster, who })
    }

    /// Reads the owner out of a certificate. Proves nothing: the chain must have been verified by TLS before.
    pub fn from_der(certificate: &CertificateDer<'_>) -> Result<Self, SubjectError> {
        let (rest, parsed) = X509Certificate::from_der(certificate).map_err(|_| SubjectError::Certificate)?;
        if !rest.is_empty() {
            return Err(SubjectError::Certificate);
        }
        Self::from_x509(&parsed)
    }

    pub(crate) fn from_x509(parsed: &X509Certificate<'_>) -> Result<Self, SubjectError> {
        let names = parsed.subject_alternative_name().map_err(|_| SubjectError::Certificate)?;
        let names = names.map(|extension| extension.value.general_names.as_slice()).unwrap_or_default();
        let mut uri = None;
        let mut uris = 0_usize;
        let mut dns = Vec::new();
        for name in names {
            match name {
                GeneralName::URI(text) => {
                    uris += 1;
                    uri = Some(*text);
                }
                GeneralName::DNSName(text) => dns.push(*text),
                // A name we do not understand could be one that somebody else trusts.
                _ => return Err(SubjectError::OtherNames),
            }
        }
        let subject = match (uri, uris) {
            (Some(uri), 1) => Self::from_uri(uri)?,
            _ => return Err(SubjectError::UriCount(uris)),
        };
        match (subject.dns(), dns.as_slice()) {
            (Some(expected), [only]) if expected == *only => Ok(subject),
            (None, []) => Ok(subject),
            (Some(_), _) => Err(SubjectError::AgentDns),
            (None, _) => Err(SubjectError::ClientDns),
        }
    }
}

impl fmt::Display for Subject {
    /// `agent a1` or `client ci (append)`: the cluster is said separately where it matters.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.who {
            Who::Agent { name } => write!(f, "agent {name}"),
            Who::Client { role, name } => write!(f, "client {name} ({role})"),
        }
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.uri())
    }
}

impl fmt::Debug for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agent { name } => write!(f, "agent {name}"),
            Self::Client { role, name } => write!(f, "client {name} ({role})"),
        }
    }
}

/// Why a certificate names nobody of ours. Never repeats the certificate's own text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubjectError {
    /// Not a certificate.
    #[error("it is not a well-formed X.509 certificate")]
    Certificate,
    /// Not exactly one URI.
    #[error("it holds {0} URI names where exactly one is expected")]
    UriCount(usize),
    /// A URI of another shape.
    #[error("its URI name is not one of this program's")]
    Uri,
    /// A part of the URI is not legal.
    #[error("its URI name is not legal: {0}")]
    Name(#[from] NameError),
    /// An agent without the DNS name under which it is dialled, or with another.
    #[error("an agent's certificate needs exactly the DNS name agent.<cluster-id>.quorate.internal")]
    AgentDns,
    /// A client with a DNS name could be dialled as if it were an agent.
    #[error("a client's certificate must not hold a DNS name")]
    ClientDns,
    /// A name that is neither URI nor DNS, or that cannot be read.
    #[error("it holds a name that is no legible URI or DNS name")]
    OtherNames,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster() -> ClusterId {
        ClusterId::from_bytes([7; 16])
    }

    #[test]
    fn a_subject_survives_its_uri() {
        let name = AgentName::new("a1").unwrap();
        let mut all = vec![Subject::agent(cluster(), name.clone())];
        all.extend(Role::ALL.map(|role| Subject::client(cluster(), role, name.clone())));
        for subject in all {
            assert_eq!(Subject::from_uri(&subject.uri()), Ok(subject));
        }
    }

    #[test]
    fn every_other_spelling_is_refused() {
        let zone = cluster().zone();
        for bad in [
            String::new(),
            "spiffe://".into(),
            format!("spiffe://{zone}"),
            format!("spiffe://{zone}/agent/"),
            format!("spiffe://{zone}/agent/a/b"),
            format!("spiffe://{zone}/agent/../a"),
            format!("spiffe://{zone}/client/a"),
            format!("spiffe://{zone}/client/owner/a"),
            format!("spiffe://{zone}/client/admin/a/"),
            format!("SPIFFE://{zone}/agent/a"),
            format!("https://{zone}/agent/a"),
            format!("spiffe://{zone}:1/agent/a"),
            format!("spiffe://{}/agent/a", zone.to_uppercase()),
            format!("spiffe://{zone}/agent/{}", "a".repeat(URI_BYTES_MAX)),
        ] {
            assert!(Subject::from_uri(&bad).is_err(), "{bad}");
        }
    }

    /// A second; `QUORATE_FUZZ_SECONDS` makes it longer.
    fn fuzz_time() -> std::time::Duration {
        let seconds = std::env::var("QUORATE_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok());
        std::time::Duration::from_secs(seconds.unwrap_or(1))
    }

    #[test]
    fn no_bytes_make_the_parsers_panic() {
        bolero::check!().with_test_time(fuzz_time()).for_each(|bytes: &[u8]| {
            let _ = Subject::from_uri(&String::from_utf8_lossy(bytes));
            let _ = Subject::from_der(&CertificateDer::from(bytes));
        });
    }
}
