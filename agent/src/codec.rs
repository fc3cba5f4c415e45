//! Bounded MessagePack: how every control structure becomes bytes and comes back.
//!
//! It never trusts a length or a depth, and refuses trailing bytes.

use serde::{Serialize, de::DeserializeOwned};

/// Bytes that do not decode: from a broken or hostile peer. Carries no remote text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed {0}")]
pub struct Malformed(pub &'static str);

/// Nesting depth that any message of ours needs at most.
const DEPTH_MAX: usize = 24;

/// Encodes a control structure as positional MessagePack.
pub fn encode<T: Serialize>(message: &T) -> Vec<u8> {
    // Writing our own types to memory cannot fail; an empty frame would be refused by the other side.
    rmp_serde::to_vec(message).unwrap_or_default()
}

/// Decodes exactly one structure: bounded depth, no trailing bytes.
pub fn decode<T: DeserializeOwned>(bytes: &[u8], what: &'static str) -> Result<T, Malformed> {
    let mut rest = bytes;
    #[expect(clippy::disallowed_methods, reason = "this is the one place")]
    let mut de = rmp_serde::Deserializer::new(&mut rest);
    de.set_max_depth(DEPTH_MAX);
    let value = T::deserialize(&mut de).map_err(|_| Malformed(what))?;
    drop(de);
    if rest.is_empty() { Ok(value) } else { Err(Malformed(what)) }
}
