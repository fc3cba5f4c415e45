//! Known agents: what is remembered of the others over restarts, so that they are found again.
//!
//! It never counts as proof of anything.

use std::net::SocketAddr;

/// An agent and its last known address, kept over restarts.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Known {
    /// Its node id.
    pub node: u64,
    /// Its name.
    pub name: String,
    /// Its address.
    pub addr: SocketAddr,
    /// Its newest boot, and the random id of that; zero if none was seen.
    #[serde(default)]
    pub epoch: u64,
    /// See `epoch`.
    #[serde(default)]
    pub boot: u64,
}
