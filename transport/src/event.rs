//! What an endpoint tells its caller, in one bounded queue.
//! Never lets bytes pile up: large frames hold a share of one budget until they are taken.

use std::net::SocketAddr;

use quorate_certs::AgentName;

use crate::LogId;

/// A connected peer, as it proved itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerInfo {
    /// The node id its key proves.
    pub node: u64,
    /// The name its certificate proves.
    pub name: AgentName,
    /// Its count of starts.
    pub boot_epoch: u64,
    /// Its present start.
    pub boot_id: u64,
    /// The history it held when it connected.
    pub log_id: Option<LogId>,
    /// The UDP address it uses.
    pub remote: SocketAddr,
    /// Where it wants to be dialled.
    pub advertised: Option<SocketAddr>,
    /// Our address as it sees us: our source if we dialled, the address it dialled if it did.
    pub observed_self: Option<SocketAddr>,
    /// Its program's version (sanitised).
    pub version: String,
    /// Its feature bits.
    pub features: u64,
    /// Whether this side dialled.
    pub dialled: bool,
}
