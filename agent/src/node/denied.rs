//! Why an agent may not connect, in the words that it and its operator read.
//!
//! It never decides: that is done at the gate.

use std::time::Duration;

/// Why a connection is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// A newer boot of the same disk is known.
    #[error(
        "this data directory is a copy or an old backup: it is in its boot {got}, and the cluster has seen boot {known} of it; wipe it to join as a new node"
    )]
    Stale {
        /// In the Hello.
        got: u64,
        /// Known.
        known: u64,
    },
    /// The same boot of the same disk is known, from another process.
    #[error(
        "this data directory is a copy or has been copied: its boot {epoch} was another process; wipe one of the two to join as a new node"
    )]
    Copy {
        /// In the Hello and known.
        epoch: u64,
    },
    /// Its name was given to another disk.
    #[error(
        "the name of this data directory is held by node {holder:016x}, which took it over; wipe the directory to join as a new node"
    )]
    Superseded {
        /// Who holds the name.
        holder: u64,
    },
    /// An operator has dropped it for good.
    #[error(
        "this node was dropped by an operator (`quorate remove`, `quorate forget`, or `quorate recover` on another disk); wipe its data directory to join as a new node under the same name"
    )]
    Forgotten,
    /// Its program is older than what the cluster has agreed on.
    #[error(
        "the cluster is at feature level {needed} and this program supports only {supports}; upgrade it to the version of the others"
    )]
    Level {
        /// The cluster's level.
        needed: u32,
        /// What the caller supports.
        supports: u32,
    },
    /// Its name belongs to another disk that lives.
    #[error("the name is held by node {holder:016x}, which is alive; stop that agent, or choose another name")]
    NameHeld {
        /// Who holds it.
        holder: u64,
    },
    /// Its name belongs to another disk that has not been silent for long enough.
    #[error("the name is held by node {holder:016x}, which is silent; it is free in about {} s", .left.as_secs())]
    NameKept {
        /// Who holds it.
        holder: u64,
        /// How much longer, if it stays silent.
        left: Duration,
    },
}
