//! Measures: how one agent's disk is, where the time of its appends goes and what waits in its queues, as status and `quorate doctor` are both told.
//!
//! It never judges: what is too full, too slow or damaged beyond repair is said elsewhere. Pure data.

use serde::{Deserialize, Serialize};

/// Room on the file system that holds an agent's log, in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskSpace {
    /// What the agent may still fill; `None` if the system does not tell.
    pub free: Option<u64>,
    /// All of it, full or not.
    pub total: Option<u64>,
    /// With less free than this the agent takes no more entries.
    pub reserve: u64,
    /// It takes none now.
    pub full: bool,
}

/// What waits in one queue of an agent, or is held by it, beside its bound.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueLoad {
    /// Which: `gossip_updates`, `gossip_records`, `tags` or `tags_unproven`.
    pub name: String,
    /// How many wait.
    pub depth: u64,
    /// The most that may; `None` where only bytes are bounded.
    pub depth_max: Option<u64>,
    /// What it takes, in bytes; `None` where that is not known.
    pub bytes: Option<u64>,
    /// The most that it may take, in bytes.
    pub bytes_max: u64,
    /// What found no room, since the agent started.
    pub dropped: u64,
}

impl QueueLoad {
    /// More than half of what it may be.
    #[must_use]
    pub fn is_backlog(&self) -> bool {
        self.depth_max.is_some_and(|max| self.depth * 2 > max) || self.bytes.is_some_and(|b| b * 2 > self.bytes_max)
    }
}

/// What is known of the bytes of the log on one disk, and what was done about damage in this life of the agent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskHealth {
    /// The first ranges of entries that cannot be read.
    pub damaged: Vec<DamagedEntries>,
    /// How many there are.
    pub damaged_ranges: u64,
    /// The end of what this disk may have acknowledged and does not hold: until it does, it neither stands for election nor
    /// votes for who holds less.
    pub suspect: Option<u64>,
    /// Entries given back by other members.
    pub repaired_entries: u64,
    /// And their bytes.
    pub repaired_bytes: u64,
    /// How the scrubber gets on.
    pub scrub: ScrubState,
}

/// Entries that one disk cannot give.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DamagedEntries {
    /// The segment file.
    pub file: String,
    /// Where the damage begins in it, in bytes.
    pub at: u64,
    /// What is wrong there.
    pub what: String,
    /// The first entry.
    pub first: u64,
    /// The last entry.
    pub last: u64,
    /// No member of the log can read them.
    pub lost: bool,
}

/// How far the scrubber is, which reads all of the log again and again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScrubState {
    /// Whole cycles in this life of the agent.
    pub cycles: u64,
    /// Bytes read in the cycle under way; zero between two.
    pub bytes: u64,
    /// Bytes read in this life of the agent.
    pub bytes_total: u64,
    /// Damaged ranges it has found.
    pub errors: u64,
    /// Bytes a second, at the moment: less than allowed while writes would suffer.
    pub bytes_per_second: u64,
}

/// Where the time of appends goes, over the last 30 to 60 seconds. All but `fsync` are the leader's to tell.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppendStages {
    /// From the arrival of an append until its entry is proposed.
    pub queue: Latency,
    /// Of one write to this agent's own disk, from when it is handed over until it is synced.
    pub fsync: Latency,
    /// From the proposal of an entry until a quorum has it on disk.
    pub replicate: Latency,
    /// From the arrival of an append until it is answered.
    pub total: Latency,
}

/// The distribution of one kind of delay. Microseconds, to a percent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latency {
    /// Samples.
    pub count: u64,
    /// Half took at most this long.
    pub p50_us: u64,
    /// Nine of ten.
    pub p90_us: u64,
    /// Ninety-nine of a hundred.
    pub p99_us: u64,
    /// The longest.
    pub max_us: u64,
}
