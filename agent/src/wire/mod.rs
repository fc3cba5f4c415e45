//! What the bytes between agents and clients mean. Pure: no socket, no clock.
//!
//! It never trusts a length: decoding is bounded and refuses trailing bytes.

mod fields;
#[cfg(feature = "node")]
pub mod peer;
pub mod rpc;

pub use crate::codec::Malformed;
