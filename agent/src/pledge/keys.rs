//! Keys: how a founder signs, and how its word is checked.
//!
//! The core never holds a key: the shell signs with the key of the data directory, the explorer and the simulator with a
//! symbol.

use std::fmt;

/// A founder's public key.
pub type PublicKey = [u8; 32];
/// A founder's signature.
pub type Signature = [u8; 64];

/// The key of this data directory, and what can be checked of others. Signing must be deterministic.
pub trait Keys: fmt::Debug + Send + Sync {
    /// The public key of this node.
    fn public(&self) -> PublicKey;
    /// The node id that a public key proves.
    fn node_of(&self, key: &PublicKey) -> Option<u64>;
    /// Signs a statement.
    fn sign(&self, statement: &[u8]) -> Signature;
    /// Did the owner of this key sign this statement?
    fn holds(&self, key: &PublicKey, statement: &[u8], signature: &Signature) -> bool;
}

/// No key at all: an agent that takes no part in founding together.
#[derive(Clone, Copy, Debug)]
pub struct NoKeys;

impl Keys for NoKeys {
    fn public(&self) -> PublicKey {
        [0; 32]
    }
    fn node_of(&self, _key: &PublicKey) -> Option<u64> {
        None
    }
    fn sign(&self, _statement: &[u8]) -> Signature {
        [0; 64]
    }
    fn holds(&self, _key: &PublicKey, _statement: &[u8], _signature: &Signature) -> bool {
        false
    }
}

/// Keys that are only names: a signature is a hash of who says what. Nobody in a simulated world forges one.
#[cfg(any(test, feature = "sim"))]
#[derive(Clone, Copy, Debug)]
pub struct SymbolicKeys(pub u64);

#[cfg(any(test, feature = "sim"))]
impl Keys for SymbolicKeys {
    fn public(&self) -> PublicKey {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&self.0.to_le_bytes());
        key
    }
    fn node_of(&self, key: &PublicKey) -> Option<u64> {
        let (first, rest) = key.split_first_chunk::<8>()?;
        let node = u64::from_le_bytes(*first);
        (node != 0 && rest.iter().all(|b| *b == 0)).then_some(node)
    }
    fn sign(&self, statement: &[u8]) -> Signature {
        seal(&self.public(), statement)
    }
    fn holds(&self, key: &PublicKey, statement: &[u8], signature: &Signature) -> bool {
        seal(key, statement) == *signature
    }
}

#[cfg(any(test, feature = "sim"))]
fn seal(key: &PublicKey, statement: &[u8]) -> Signature {
    let seed = key.first_chunk().map_or(0, |b| u64::from_le_bytes(*b));
    let mut signature = [0; 64];
    signature[..8].copy_from_slice(&xxhash_rust::xxh3::xxh3_64_with_seed(statement, seed).to_le_bytes());
    signature
}
