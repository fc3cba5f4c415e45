//! The node key: the identity of one data directory, and the number derived from it.
//! Never leaves the process except as PKCS #8 bytes for the caller to store.

use std::fmt;

use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};

/// Bytes of a node's public key.
pub(crate) const PUBLIC_KEY_BYTES: usize = 32;
/// Bytes of a signature by a node key.
pub(crate) const SIGNATURE_BYTES: usize = 64;
/// What the program around the transport signs begins with this.
const STATEMENT: &[u8] = b"quorate statement\0";

/// An Ed25519 key that proves a node id.
pub struct NodeKey {
    pair: Ed25519KeyPair,
    public: [u8; PUBLIC_KEY_BYTES],
    node: u64,
}

/// Why a node key cannot be made or read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The system gave no entropy.
    #[error("the system gave no random bytes for a node key; try again")]
    Entropy,
    /// Not a PKCS #8 Ed25519 key.
    #[error(
        "the node key is damaged (it is no Ed25519 key in PKCS #8); the directory's identity is lost with it, start with a new one"
    )]
    Malformed,
}

impl NodeKey {
    /// Makes a new key; returns it with the PKCS #8 bytes to store (readable by the owner only).
    pub fn generate() -> Result<(Self, Vec<u8>), KeyError> {
        loop {
            let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| KeyError::Entropy)?;
            match Self::load(document.as_ref()) {
                Ok(key) => return Ok((key, document.as_ref().to_vec())),
                // One key in 2^64 has no id: the eight bytes are zero. Draw again.
                Err(KeyError::Malformed) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads the PKCS #8 bytes that [`generate`](Self::generate) gave.
    pub fn load(pkcs8: &[u8]) -> Result<Self, KeyError> {
        let pair = Ed25519KeyPair::from_pkcs8(pkcs8).map_err(|_| KeyError::Malformed)?;
        let public = pair.public_key().as_ref().try_into().map_err(|_| KeyError::Malformed)?;
        let node = node_id(&public).ok_or(KeyError::Malformed)?;
        Ok(Self { pair, public, node })
    }

    /// The node id this key proves.
    pub fn node(&self) -> u64 {
        self.node
    }

    /// The public key.
    pub fn public(&self) -> [u8; PUBLIC_KEY_BYTES] {
        self.public
    }

    /// Signs a statement of the program around the transport. What the transport itself signs never begins like it.
    #[must_use]
    pub fn sign_statement(&self, statement: &[u8]) -> [u8; SIGNATURE_BYTES] {
        self.sign(&[STATEMENT, statement].concat())
    }

    pub(crate) fn sign(&self, message: &[u8]) -> [u8; SIGNATURE_BYTES] {
        let mut bytes = [0; SIGNATURE_BYTES];
        bytes.copy_from_slice(self.pair.sign(message).as_ref());
        bytes
    }
}

impl fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeKey({:016x})", self.node)
    }
}

/// The node id of a public key: the first 64 bits of its SHA-256, big endian; `None` if they are all zero.
pub fn node_id(public: &[u8; PUBLIC_KEY_BYTES]) -> Option<u64> {
    let hash = digest(&SHA256, public);
    let mut first = [0; 8];
    first.copy_from_slice(&hash.as_ref()[..8]);
    Some(u64::from_be_bytes(first)).filter(|&id| id != 0)
}

/// Did the owner of this key sign this statement, by [`NodeKey::sign_statement`]?
#[must_use]
pub fn is_statement_of(public: &[u8; PUBLIC_KEY_BYTES], statement: &[u8], signature: &[u8; SIGNATURE_BYTES]) -> bool {
    verified(public, &[STATEMENT, statement].concat(), signature)
}

pub(crate) fn verified(public: &[u8; PUBLIC_KEY_BYTES], message: &[u8], signature: &[u8]) -> bool {
    UnparsedPublicKey::new(&ED25519, public).verify(message, signature).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_keeps_its_id_on_disk() {
        let (key, stored) = NodeKey::generate().unwrap();
        let again = NodeKey::load(&stored).unwrap();
        assert_eq!(key.node(), again.node());
        assert_eq!(Some(key.node()), node_id(&key.public()));
        let signature = again.sign(b"message");
        assert!(verified(&key.public(), b"message", &signature));
        assert!(!verified(&key.public(), b"massage", &signature));
        let signature = key.sign_statement(b"statement");
        assert!(is_statement_of(&key.public(), b"statement", &signature));
        assert!(!verified(&key.public(), b"statement", &signature), "it is nothing that the transport would take");
    }

    #[test]
    fn damage_is_an_error() {
        let (_, mut stored) = NodeKey::generate().unwrap();
        stored.pop();
        assert_eq!(NodeKey::load(&stored).unwrap_err(), KeyError::Malformed);
        assert_eq!(NodeKey::load(&[]).unwrap_err(), KeyError::Malformed);
    }
}
