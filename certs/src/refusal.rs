//! Why an identity was refused in a handshake, in one vocabulary for both ends.
//! Never repeats text of the other side.

use std::fmt;

use rustls::{AlertDescription, CertificateError};

use crate::{ClusterId, Date, Fault, SubjectError};

/// The reason for which a certificate was refused. Reads on after `refused: ` on either side.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// The dialling side presented no certificate.
    NoCertificate,
    /// Signed by an authority that is not ours.
    OtherAuthority,
    /// A certificate of another cluster.
    OtherCluster {
        /// The cluster it belongs to, where the reader of this message can know it.
        theirs: Option<ClusterId>,
    },
    /// Its time is over.
    Expired {
        /// Its end, where known.
        not_after: Option<Date>,
    },
    /// Its time has not begun.
    NotYetValid {
        /// Its beginning, where known.
        not_before: Option<Date>,
    },
    /// Refused for its dates by the other side, while by this machine's clock it is valid: the clocks differ.
    ClocksDiffer,
    /// Its role may not do this: a client answering as an agent, or on an agents' protocol.
    WrongRole,
    /// It names nobody, or more than one.
    Nameless(Option<SubjectError>),
    /// The two sides have no protocol in common.
    NoCommonProtocol,
    /// Revoked.
    Revoked,
    /// The authority that vouches for it is outside its own dates (first and last second, where known).
    AuthorityDates(Option<(Date, Date)>),
    /// It can be read, and breaks a rule.
    Unfit(Fault),
    /// It cannot be read, or its signature is broken.
    Broken,
    /// Another failure of the handshake, by its TLS alert code.
    Handshake {
        /// The alert.
        alert: u8,
    },
}

impl Refusal {
    /// What a failed verification on this side means.
    pub fn from_verification(error: &CertificateError) -> Self {
        use CertificateError as E;
        let date = |at: &rustls_pki_types::UnixTime| i64::try_from(at.as_secs()).ok().map(Date::from_unix);
        match error {
            E::Expired => Self::Expired { not_after: None },
            E::ExpiredContext { not_after, .. } => Self::Expired { not_after: date(not_after) },
            E::NotValidYet => Self::NotYetValid { not_before: None },
            E::NotValidYetContext { not_before, .. } => Self::NotYetValid { not_before: date(not_before) },
            // An authority that copies our authority's name shows as a broken signature: it is another one all the same.
            E::UnknownIssuer | E::BadSignature => Self::OtherAuthority,
            // We dial one name only, so another name is another cluster or no agent at all.
            E::NotValidForName | E::NotValidForNameContext { .. } => Self::OtherCluster { theirs: None },
            E::InvalidPurpose | E::InvalidPurposeContext { .. } => Self::WrongRole,
            E::ApplicationVerificationFailure => Self::OtherCluster { theirs: None },
            E::Revoked => Self::Revoked,
            E::UnsupportedSignatureAlgorithmContext { .. }
            | E::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => Self::Unfit(Fault::Algorithm),
            E::Other(rustls::OtherError(error)) => {
                error.downcast_ref().and_then(Fault::of).map_or(Self::Broken, Self::Unfit)
            }
            _ => Self::Broken,
        }
    }

    /// What a verification without rustls means.
    pub(crate) fn from_webpki(error: &webpki::Error) -> Self {
        use webpki::Error as E;
        let date = |at: &rustls_pki_types::UnixTime| i64::try_from(at.as_secs()).ok().map(Date::from_unix);
        match error {
            E::CertExpired { not_after, .. } => Self::Expired { not_after: date(not_after) },
            E::InvalidCertValidity => Self::Expired { not_after: None },
            E::CertNotValidYet { not_before, .. } => Self::NotYetValid { not_before: date(not_before) },
            E::UnknownIssuer | E::InvalidSignatureForPublicKey => Self::OtherAuthority,
            E::RequiredEkuNotFoundContext(_) => Self::WrongRole,
            E::CertRevoked => Self::Revoked,
            other => Fault::of(other).map_or(Self::Broken, Self::Unfit),
        }
    }

    /// What a rustls failure on this side means.
    pub fn from_rustls(error: &rustls::Error) -> Self {
        match error {
            rustls::Error::InvalidCertificate(error) => Self::from_verification(error),
            rustls::Error::NoCertificatesPresented => Self::NoCertificate,
            rustls::Error::AlertReceived(alert) => Self::from_alert((*alert).into()),
            rustls::Error::NoApplicationProtocol => Self::NoCommonProtocol,
            _ => Self::Broken,
        }
    }

    /// What a TLS alert means, whoever sent it (in QUIC: the low byte of a crypto error code).
    pub fn from_alert(alert: u8) -> Self {
        use AlertDescription as A;
        match A::from(alert) {
            A::CertificateRequired => Self::NoCertificate,
            A::UnknownCA | A::DecryptError => Self::OtherAuthority,
            A::AccessDenied => Self::OtherCluster { theirs: None },
            A::CertificateExpired => Self::Expired { not_after: None },
            A::UnsupportedCertificate => Self::WrongRole,
            A::CertificateUnknown => Self::Nameless(None),
            A::CertificateRevoked => Self::Revoked,
            A::NoApplicationProtocol => Self::NoCommonProtocol,
            A::DecodeError | A::BadCertificate => Self::Broken,
            _ => Self::Handshake { alert },
        }
    }

    /// What an alert *received* says about our own certificate. TLS has one alert for "expired" and "not yet valid";
    /// our own dates tell which, and if
    /// neither, that the clocks differ.
    pub fn of_ours(alert: u8, not_before: Date, not_after: Date) -> Self {
        match Self::from_alert(alert) {
            Self::Expired { .. } => {
                let now = Date::now();
                if now > not_after {
                    Self::Expired { not_after: Some(not_after) }
                } else if now < not_before {
                    Self::NotYetValid { not_before: Some(not_before) }
                } else {
                    Self::ClocksDiffer
                }
            }
            other => other,
        }
    }

    /// The error that makes rustls send the alert which [`from_alert`](Self::from_alert) reads back as this reason.
    pub(crate) fn to_verification(&self) -> CertificateError {
        match self {
            Self::OtherCluster { .. } => CertificateError::ApplicationVerificationFailure,
            Self::WrongRole => CertificateError::InvalidPurpose,
            Self::Nameless(_) => CertificateError::Other(rustls::OtherError(std::sync::Arc::new(Anonymous))),
            Self::OtherAuthority => CertificateError::UnknownIssuer,
            Self::Expired { .. } | Self::AuthorityDates(_) => CertificateError::Expired,
            Self::Unfit(Fault::KeyUsage) => CertificateError::InvalidPurpose,
            Self::NotYetValid { .. } | Self::ClocksDiffer => CertificateError::NotValidYet,
            Self::Revoked => CertificateError::Revoked,
            Self::NoCertificate | Self::NoCommonProtocol | Self::Unfit(_) | Self::Broken | Self::Handshake { .. } => {
                CertificateError::BadEncoding
            }
        }
    }

    /// A short stable word for logs and metrics.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoCertificate => "no_certificate",
            Self::OtherAuthority => "other_authority",
            Self::OtherCluster { .. } => "other_cluster",
            Self::Expired { .. } => "expired",
            Self::NotYetValid { .. } => "not_yet_valid",
            Self::ClocksDiffer => "clocks_differ",
            Self::WrongRole => "wrong_role",
            Self::Nameless(_) => "nameless",
            Self::NoCommonProtocol => "no_common_protocol",
            Self::Revoked => "revoked",
            Self::AuthorityDates(_) => "authority_dates",
            Self::Unfit(fault) => fault.code(),
            Self::Broken => "broken",
            Self::Handshake { .. } => "handshake",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCertificate => f.write_str("no certificate was presented"),
            Self::OtherAuthority => f.write_str("the certificate was issued by another authority (CA)"),
            Self::OtherCluster { theirs: Some(id) } => write!(f, "the certificate belongs to another cluster ({id})"),
            Self::OtherCluster { theirs: None } => f.write_str("the certificate belongs to another cluster"),
            Self::Expired { not_after: Some(at) } => write!(f, "the certificate expired at {at}"),
            Self::Expired { not_after: None } => f.write_str("the certificate expired"),
            Self::NotYetValid { not_before: Some(at) } => write!(f, "the certificate is not valid before {at}"),
            Self::NotYetValid { not_before: None } => f.write_str("the certificate is not yet valid"),
            Self::ClocksDiffer => f.write_str(
                "the other side's clock is outside the certificate's dates, this machine's is not; compare the clocks",
            ),
            Self::WrongRole => f.write_str(
                "the certificate's role may not do this (a client's where an agent's is needed, or no purpose of ours)",
            ),
            Self::Nameless(Some(why)) => write!(f, "the certificate names nobody of a cluster: {why}"),
            Self::Nameless(None) => f.write_str("the certificate names nobody of a cluster"),
            Self::NoCommonProtocol => f.write_str("the two sides have no protocol in common; compare the versions"),
            Self::Revoked => f.write_str("the certificate was revoked"),
            Self::AuthorityDates(Some((not_before, not_after))) => {
                write!(f, "the certificate's authority (CA) is valid only from {not_before} to {not_after}")
            }
            Self::AuthorityDates(None) => f.write_str("the certificate's authority (CA) is outside its dates"),
            Self::Unfit(fault) => write!(f, "the certificate cannot be used: {fault}"),
            Self::Broken => f.write_str("the certificate cannot be read or its signature is broken"),
            Self::Handshake { alert } => write!(f, "the TLS handshake failed (alert {alert})"),
        }
    }
}

impl std::error::Error for Refusal {}

/// Carries "names nobody" through rustls, which answers it with the alert `certificate_unknown`.
#[derive(Debug)]
struct Anonymous;

impl fmt::Display for Anonymous {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the certificate names nobody of a cluster")
    }
}

impl std::error::Error for Anonymous {}

#[cfg(test)]
mod tests {
    use super::*;

    /// The other end learns the same reason as this one, through the one byte that TLS gives us.
    #[test]
    fn reasons_survive_the_alert() {
        for reason in [
            Refusal::OtherAuthority,
            Refusal::OtherCluster { theirs: None },
            Refusal::Expired { not_after: None },
            Refusal::WrongRole,
            Refusal::Nameless(None),
            Refusal::Revoked,
        ] {
            let alert = AlertDescription::from(reason.to_verification());
            assert_eq!(Refusal::from_alert(alert.into()), reason);
        }
    }

    #[test]
    fn every_alert_has_a_text() {
        for alert in 0..=u8::MAX {
            assert!(!Refusal::from_alert(alert).to_string().is_empty());
        }
    }
}
