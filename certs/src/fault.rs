//! What makes a certificate useless although it can be read: the rules of RFC 5280, each in words.
//! Never repeats text of the certificate.

use std::fmt;

/// The rule that a certificate, or one above it, breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// CA:TRUE where an agent or client is expected.
    Authority,
    /// Signed by a certificate that may not sign certificates.
    NotAnAuthority,
    /// A critical extension of unknown meaning.
    CriticalExtension,
    /// A key usage without digitalSignature.
    KeyUsage,
    /// Shown by somebody who did not sign the handshake with its key.
    NotItsKey,
    /// Name constraints that exclude its names, or that cannot be judged.
    NameConstraint,
    /// More intermediates than an authority allows.
    PathLength,
    /// More intermediates, signatures or names than this program looks at.
    TooDeep,
    /// A signature algorithm or a key of a kind that is not accepted.
    Algorithm,
    /// An X.509 version before 3.
    Version,
}

impl Fault {
    /// Every fault.
    pub const ALL: [Self; 10] = [
        Self::Authority,
        Self::NotAnAuthority,
        Self::CriticalExtension,
        Self::KeyUsage,
        Self::NotItsKey,
        Self::NameConstraint,
        Self::PathLength,
        Self::TooDeep,
        Self::Algorithm,
        Self::Version,
    ];

    /// A short stable word for logs and metrics.
    pub fn code(self) -> &'static str {
        match self {
            Self::Authority => "unfit_authority",
            Self::NotAnAuthority => "unfit_issuer",
            Self::CriticalExtension => "unfit_extension",
            Self::KeyUsage => "unfit_key_usage",
            Self::NotItsKey => "unfit_bearer",
            Self::NameConstraint => "unfit_names",
            Self::PathLength => "unfit_path_length",
            Self::TooDeep => "unfit_depth",
            Self::Algorithm => "unfit_algorithm",
            Self::Version => "unfit_version",
        }
    }

    /// What webpki found, if it is one of these.
    pub(crate) fn of(error: &webpki::Error) -> Option<Self> {
        use webpki::Error as E;
        Some(match error {
            E::CaUsedAsEndEntity => Self::Authority,
            E::EndEntityUsedAsCa => Self::NotAnAuthority,
            E::UnsupportedCriticalExtension => Self::CriticalExtension,
            E::NameConstraintViolation | E::MalformedNameConstraint | E::UnsupportedNameType => Self::NameConstraint,
            E::PathLenConstraintViolated => Self::PathLength,
            E::MaximumPathDepthExceeded
            | E::MaximumPathBuildCallsExceeded
            | E::MaximumSignatureChecksExceeded
            | E::MaximumNameConstraintComparisonsExceeded => Self::TooDeep,
            E::UnsupportedSignatureAlgorithmContext(_)
            | E::UnsupportedSignatureAlgorithmForPublicKeyContext(_)
            | E::SignatureAlgorithmMismatch => Self::Algorithm,
            E::UnsupportedCertVersion => Self::Version,
            _ => return None,
        })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Authority => "it is an authority's, where an agent's or a client's is needed",
            Self::NotAnAuthority => "it was signed with a certificate that may not sign others",
            Self::CriticalExtension => "it, or one above it, has a critical extension that this program does not know",
            Self::KeyUsage => "its key may not sign handshakes (its key usage lacks digitalSignature)",
            Self::NotItsKey => "who shows it does not hold its key",
            Self::NameConstraint => "an authority above it may not vouch for its names (name constraints)",
            Self::PathLength => "an authority above it allows fewer authorities below itself (path length)",
            Self::TooDeep => "its chain is longer or more intricate than this program follows",
            Self::Algorithm => "it is signed with an algorithm or a key of a kind that this program does not accept",
            Self::Version => "it is of an X.509 version before 3",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fault_has_its_own_words() {
        let texts: std::collections::BTreeSet<_> = Fault::ALL.iter().map(Fault::to_string).collect();
        let codes: std::collections::BTreeSet<_> = Fault::ALL.iter().map(|fault| fault.code()).collect();
        assert_eq!((texts.len(), codes.len()), (Fault::ALL.len(), Fault::ALL.len()));
    }
}
