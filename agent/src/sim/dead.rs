//! Dead: why a process did not start, or ended.
//!
//! It never says whether that was allowed: `lives` judges it by what was done to the machine.

use quorate_raft::wal;

/// Why a process did not start, or ended.
#[derive(Debug)]
pub(super) enum Dead {
    /// The log said so.
    Log(wal::Error),
    /// The file of pledges does not read.
    Pledges(String),
    /// What the log should hold is not there.
    Lost(String),
    /// A checkpoint is not what it says.
    Untrue(String),
    /// An option is illegal.
    Options(String),
}
