//! The words of an identity: cluster id, human name and client role, each with the one parser for it.
//! Never touches a certificate.

use std::fmt;
use std::str::FromStr;

use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::CertsError;

/// The longest legal name of an agent or client, in bytes (the limit of a DNS label).
pub const NAME_BYTES_MAX: usize = 63;

/// The cluster an identity belongs to: 128 random bits made once; the boundary of trust.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId([u8; 16]);

impl ClusterId {
    /// A fresh id from the system's entropy.
    pub fn random() -> Result<Self, CertsError> {
        Ok(Self(entropy()?))
    }

    /// The id with these bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The 16 bytes, as they travel.
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0
    }

    /// The DNS zone every name of this cluster lives in: `<cluster-id>.quorate.internal`.
    pub fn zone(self) -> String {
        format!("{self}.quorate.internal")
    }

    /// The name under which any agent of this cluster is dialled: `agent.<cluster-id>.quorate.internal`.
    pub fn agent_dns(self) -> String {
        format!("agent.{}", self.zone())
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ClusterId {
    type Err = NameError;

    /// Reads exactly 32 lowercase hexadecimal digits: one id has one spelling.
    fn from_str(text: &str) -> Result<Self, NameError> {
        let mut bytes = [0; 16];
        let lower = text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !lower || hex::decode_to_slice(text, &mut bytes).is_err() {
            return Err(NameError::ClusterId);
        }
        Ok(Self(bytes))
    }
}

impl Serialize for ClusterId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ClusterId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A legal human name of an agent or a client: `[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AgentName(String);

impl AgentName {
    /// Checks `text`; the only way to a name.
    pub fn new(text: &str) -> Result<Self, NameError> {
        valid_name(text)?;
        Ok(Self(text.to_owned()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AgentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for AgentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for AgentName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl FromStr for AgentName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::new(text)
    }
}

impl Serialize for AgentName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for AgentName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// Whether `text` is a legal name; the error says which rule it breaks.
pub fn valid_name(text: &str) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    if text.len() > NAME_BYTES_MAX {
        return Err(NameError::TooLong { bytes: text.len() });
    }
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if let Some(c) = text.chars().find(|&c| !legal(c)) {
        return Err(NameError::Character(c));
    }
    if text.starts_with('-') || text.ends_with('-') {
        return Err(NameError::Hyphen);
    }
    Ok(())
}

/// Why a name, a cluster id or a role is not one. Never repeats the input raw.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// No text at all.
    #[error("a name cannot be empty (use 1 to {NAME_BYTES_MAX} of a-z, 0-9 and '-')")]
    Empty,
    /// More than [`NAME_BYTES_MAX`] bytes.
    #[error("a name has at most {NAME_BYTES_MAX} bytes, this one has {bytes}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// A character outside `a-z`, `0-9` and `-`.
    #[error("a name consists of a-z, 0-9 and '-', not '{}'", .0.escape_default())]
    Character(char),
    /// A hyphen at one of the ends.
    #[error("a name begins and ends with a letter or a digit, not with '-'")]
    Hyphen,
    /// Not 32 lowercase hexadecimal digits.
    #[error("a cluster id is exactly 32 of 0-9 and a-f")]
    ClusterId,
    /// Not a client role.
    #[error("a role is one of read, append, admin")]
    Role,
}

/// What a client may do at most; each role includes the ones before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Read records and status.
    Read,
    /// Read, and append records.
    Append,
    /// Everything, including membership changes.
    Admin,
}

impl Role {
    /// Every role, weakest first.
    pub const ALL: [Self; 3] = [Self::Read, Self::Append, Self::Admin];

    /// The word for it in certificates and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Append => "append",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::ALL.into_iter().find(|role| role.as_str() == text).ok_or(NameError::Role)
    }
}

/// `N` bytes of the system's entropy.
pub(crate) fn entropy<const N: usize>() -> Result<[u8; N], CertsError> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| CertsError::Entropy)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_dns_labels_in_lower_case() {
        let longest = "a".repeat(NAME_BYTES_MAX);
        for good in ["a", "0", "a1", "a-1", "x--y", longest.as_str()] {
            assert_eq!(valid_name(good), Ok(()), "{good}");
        }
        let too_long = "a".repeat(NAME_BYTES_MAX + 1);
        let bad = ["", "-", "-a", "a-", "A", "a.b", "../x", "a b", "a\0", "a\u{1b}[0m", "\u{430}", too_long.as_str()];
        for bad in bad {
            assert!(valid_name(bad).is_err(), "{bad:?}");
        }
        assert_eq!(
            valid_name("a\u{1b}").unwrap_err().to_string(),
            "a name consists of a-z, 0-9 and '-', not '\\u{1b}'"
        );
    }

    #[test]
    fn a_cluster_id_has_one_spelling() {
        let id = ClusterId::from_bytes([0xab; 16]);
        assert_eq!(id.to_string(), "ab".repeat(16));
        assert_eq!(id.to_string().parse(), Ok(id));
        for bad in ["", "ab", &"AB".repeat(16), &"ab".repeat(17), &"zz".repeat(16)] {
            assert_eq!(bad.parse::<ClusterId>(), Err(NameError::ClusterId));
        }
    }

    #[test]
    fn roles_are_ordered() {
        assert!(Role::Read < Role::Append && Role::Append < Role::Admin);
        assert_eq!("append".parse(), Ok(Role::Append));
        assert_eq!("Append".parse::<Role>(), Err(NameError::Role));
    }
}
