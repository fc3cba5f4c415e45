//! Why a connection is closed: the one table of codes, and the reasons that travel and are shown.
//! Never sends a text that the other side supplied.

use std::fmt;

use crate::sanitize;

/// An application close code. The number is the wire; the table is append-only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Code {
    /// Orderly end.
    Ok,
    /// No certificate where one is needed.
    AuthRequired,
    /// The identity was revoked.
    Revoked,
    /// The identity's role may not use this protocol.
    RoleForbidden,
    /// A claim differs from what the certificate or the node key proves.
    IdentityMismatch,
    /// Another cluster, or another history where one history is needed.
    ClusterMismatch,
    /// The data directory is a copy or an old backup of one that is in use.
    StaleInstance,
    /// No protocol version in common.
    Version,
    /// The certificate's time is over.
    CertExpired,
    /// A newer connection took this one's place.
    Superseded,
    /// The process is about to stop.
    GoingAway,
    /// A length above the limit of its class.
    FrameTooLarge,
    /// Bytes that are not what they should be.
    Malformed,
    /// Something due did not come in time.
    Deadline,
    /// No room now; try again later.
    Busy,
    /// The caller's policy said no.
    NotAdmitted,
    /// The dialler reached itself.
    Myself,
    /// A code of a newer version.
    Other(u32),
}

/// Number, word, text: the table.
const TABLE: [(Code, u32, &str, &str); 17] = [
    (Code::Ok, 0x00, "ok", "orderly end"),
    (Code::AuthRequired, 0x10, "auth_required", "this port needs a certificate of the cluster"),
    (Code::Revoked, 0x11, "revoked", "the identity was revoked"),
    (Code::RoleForbidden, 0x12, "role_forbidden", "the role of the certificate may not use this protocol"),
    (
        Code::IdentityMismatch,
        0x13,
        "identity_mismatch",
        "a claim differs from what the certificate or the node key proves",
    ),
    (Code::ClusterMismatch, 0x14, "cluster_mismatch", "another cluster or another history"),
    (Code::StaleInstance, 0x15, "stale_instance", "the data directory is a copy or an old backup of one in use"),
    (Code::Version, 0x16, "version", "no protocol version in common"),
    (Code::CertExpired, 0x17, "cert_expired", "the certificate expired"),
    (Code::Superseded, 0x18, "superseded", "a newer connection took the place of this one"),
    (Code::GoingAway, 0x19, "going_away", "the agent is stopping, ask another one"),
    (Code::FrameTooLarge, 0x20, "frame_too_large", "a frame is longer than the limit of its class"),
    (Code::Malformed, 0x21, "malformed", "bytes that are not what they should be"),
    (Code::Deadline, 0x22, "deadline", "something due did not come in time"),
    (Code::Busy, 0x23, "busy", "no room now, try again in 1 s"),
    (Code::NotAdmitted, 0x24, "not_admitted", "the agent does not admit this peer now"),
    (Code::Myself, 0x25, "myself", "the agent dialled itself"),
];

impl Code {
    /// The number on the wire.
    pub fn number(self) -> u32 {
        match self {
            Self::Other(number) => number,
            known => TABLE.iter().find(|row| row.0 == known).map_or(0x21, |row| row.1),
        }
    }

    /// The code with this number.
    pub fn from_number(number: u64) -> Self {
        let known = TABLE.iter().find(|row| u64::from(row.1) == number).map(|row| row.0);
        known.unwrap_or(Self::Other(u32::try_from(number).unwrap_or(u32::MAX)))
    }

    /// A short stable word for logs and metrics.
    pub fn word(self) -> &'static str {
        TABLE.iter().find(|row| row.0 == self).map_or("other", |row| row.2)
    }

    /// The text of the table.
    pub fn text(self) -> &'static str {
        TABLE.iter().find(|row| row.0 == self).map_or("a reason this version does not know", |row| row.3)
    }

    pub(crate) fn var(self) -> quinn::VarInt {
        quinn::VarInt::from_u32(self.number())
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Other(number) => write!(f, "other(0x{number:x})"),
            known => f.write_str(known.word()),
        }
    }
}

/// A refusal: a code and what to tell the other side. The text must not repeat anything the other side said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The code.
    pub code: Code,
    /// At most [`Refused::TEXT_BYTES_MAX`] bytes travel.
    pub text: String,
}

impl Refused {
    /// The longest text that travels, in bytes.
    pub const TEXT_BYTES_MAX: usize = 240;

    /// A refusal with its own words.
    pub fn new(code: Code, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }

    /// The bytes to put into the close frame: the text, cut at a character.
    pub(crate) fn wire(&self) -> &[u8] {
        let mut end = self.text.len().min(Self::TEXT_BYTES_MAX);
        while !self.text.is_char_boundary(end) {
            end -= 1;
        }
        &self.text.as_bytes()[..end]
    }

    pub(crate) fn received(code: quinn::VarInt, text: &[u8]) -> Self {
        Self { code: Code::from_number(code.into_inner()), text: sanitize(&String::from_utf8_lossy(text)) }
    }
}

impl From<Code> for Refused {
    fn from(code: Code) -> Self {
        Self { code, text: code.text().to_owned() }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = if self.text.is_empty() { self.code.text() } else { &self.text };
        write!(f, "{text} ({})", self.code)
    }
}

impl std::error::Error for Refused {}

/// Why a connection, or the last connection of a peer, is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// This side closed it.
    Local(Refused),
    /// The other side closed it and said why (the text is sanitised).
    Remote(Refused),
    /// Nothing came within the idle timeout.
    Silent,
    /// The other side no longer knows the connection: it restarted, or it closed in good order and the reset that
    /// answered a late packet replaced its farewell (quinn keeps the last reason, not the first). So this is not proof of
    /// a crash.
    Restarted,
    /// QUIC or TLS failed; this side's words.
    Transport(String),
}

impl Reason {
    /// This side ends it in good order.
    pub fn ok() -> Self {
        Self::Local(Code::Ok.into())
    }

    pub(crate) fn of(error: &quinn::ConnectionError) -> Self {
        use quinn::ConnectionError as E;
        match error {
            E::ApplicationClosed(close) => Self::Remote(Refused::received(close.error_code, &close.reason)),
            E::ConnectionClosed(close) => {
                Self::Transport(format!("closed by the other side: {}", sanitize(&close.error_code.to_string())))
            }
            E::TimedOut => Self::Silent,
            E::Reset => Self::Restarted,
            E::LocallyClosed => Self::ok(),
            E::TransportError(error) => Self::Transport(sanitize(&error.to_string())),
            E::VersionMismatch => Self::Transport("no QUIC version in common".to_owned()),
            E::CidsExhausted => Self::Transport("connection ids are exhausted".to_owned()),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(why) => write!(f, "closed by this side: {why}"),
            Self::Remote(why) => write!(f, "closed by the other side: {why}"),
            Self::Silent => f.write_str("nothing came within the idle timeout"),
            Self::Restarted => f.write_str("the other side no longer knows the connection (it stopped or restarted)"),
            Self::Transport(why) => write!(f, "the connection failed: {why}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_numbers_are_one_to_one() {
        for (code, number, word, text) in TABLE {
            assert_eq!(code.number(), number);
            assert_eq!(Code::from_number(u64::from(number)), code);
            assert_eq!(code.word(), word);
            assert!(text.len() <= 120 && text.is_ascii());
        }
        assert_eq!(Code::from_number(0x99), Code::Other(0x99));
        assert_eq!(Code::from_number(u64::MAX), Code::Other(u32::MAX));
    }

    #[test]
    fn a_long_text_is_cut_at_a_character() {
        let refused = Refused::new(Code::Busy, "ä".repeat(Refused::TEXT_BYTES_MAX));
        assert_eq!(refused.wire().len(), Refused::TEXT_BYTES_MAX);
        assert!(std::str::from_utf8(Refused::new(Code::Busy, format!("x{}", "ä".repeat(200))).wire()).is_ok());
    }
}
