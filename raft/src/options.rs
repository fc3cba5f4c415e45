//! Options: every tunable of the core with its unit and bounds.

use core::time::Duration;

/// Tunables. Pre-vote, leader stickiness, check-quorum and the own-term no-op are not among them: they are always on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// How often a leader shows that it lives to a peer that lacks something or has not answered. To one at rest it does so
    /// less often, see [`heartbeat_at_rest`](Self::heartbeat_at_rest). Default 50 ms.
    pub heartbeat: Duration,
    /// Shortest election timeout; the actual one is random up to `election_timeout_max`. Default 250 ms.
    pub election_timeout_min: Duration,
    /// Longest election timeout. Default 500 ms.
    pub election_timeout_max: Duration,
    /// Most bytes in one append message, unless a single entry is larger. Default 256 KiB.
    pub append_bytes_max: u32,
    /// Most entries in one append message. Default 1024.
    pub append_entries_max: u32,
    /// Most unacknowledged append bytes to one peer. Default 1 MiB.
    pub window_bytes: u32,
    /// Most bytes proposed and not yet both committed and durable here; beyond it proposals are refused. Default 64 MiB.
    pub uncommitted_bytes_max: u64,
    /// Most proposals in flight. Default 65,536.
    pub proposals_max: usize,
    /// Most reads in flight. Default 65,536.
    pub reads_max: usize,
    /// Most term runs in one conflict answer. Default 128.
    pub conflict_runs_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(50),
            election_timeout_min: Duration::from_millis(250),
            election_timeout_max: Duration::from_millis(500),
            append_bytes_max: 256 << 10,
            append_entries_max: 1024,
            window_bytes: 1 << 20,
            uncommitted_bytes_max: 64 << 20,
            proposals_max: 65_536,
            reads_max: 65_536,
            conflict_runs_max: 128,
        }
    }
}

impl Options {
    /// How often a leader shows that it lives to a peer that has the whole log and has answered the heartbeat before: two
    /// fifths of the shortest election timeout, 100 ms by default, and never more often than `heartbeat`.
    ///
    /// Whoever was stalled in the last ten seconds (twenty of the longest timeouts) is paced like the busy: the pause costs
    /// some of the time for which either side may stall before anybody asks for votes.
    ///
    /// Two in a row may be lost, and nobody asks for votes: the one after a heartbeat without an answer comes as soon as to a
    /// busy peer. A leader that stalls for three fifths of the shortest election timeout is still heard in time.
    #[must_use]
    pub fn heartbeat_at_rest(&self) -> Duration {
        self.heartbeat.max(self.election_timeout_min * 2 / 5)
    }
}
