//! Plan: all that a run does to its world, spelled out, so that it can be printed, replayed and cut down.
//!
//! It holds no chance: what is left to chance in a run is the noise of its seed, such as the delay of each packet.

use std::fmt;

/// Microseconds in a millisecond and a second.
pub(super) const MS: u64 = 1_000;
/// See [`MS`].
pub(super) const SECOND: u64 = 1_000_000;

/// A whole run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Of the noise.
    pub seed: u64,
    /// Who takes part.
    pub agents: Vec<AgentPlan>,
    /// How the world is made.
    pub knobs: Knobs,
    /// How many clients append and read.
    pub clients: usize,
    /// When everything is healed and must converge, in microseconds.
    pub calm_at_us: u64,
    /// What is done until then.
    pub steps: Vec<Step>,
}

/// One agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentPlan {
    /// When it is started for the first time, in microseconds.
    pub start_us: u64,
    /// With `--bootstrap`.
    pub bootstrap: bool,
    /// With `--join` of these.
    pub join: Vec<usize>,
    /// Its wall clock minus the true one, in microseconds.
    pub wall_us: i64,
    /// How many microseconds its monotonic clock counts in a thousand true ones, until all is calm.
    pub pace: u64,
    /// Its name, if it is not the one of its place.
    pub name: Option<String>,
}

/// Bounds and tempers of a world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Knobs {
    /// Bytes of a segment of the log.
    pub segment_bytes: u64,
    /// A sync takes from this, in microseconds ...
    pub sync_us_min: u64,
    /// ... to this.
    pub sync_us_max: u64,
    /// A packet takes from this, in microseconds ...
    pub delay_us_min: u64,
    /// ... to this.
    pub delay_us_max: u64,
    /// Packets of a thousand that are lost. A datagram is gone, a frame comes late.
    pub loss: u64,
    /// Datagrams of a thousand that come twice.
    pub duplicate: u64,
    /// A connection without any packet for this long is gone, in microseconds.
    pub idle_us: u64,
    /// Inputs within this time share one turn of the agent's loop, in microseconds.
    pub turn_us: u64,
    /// Most entries in one append message.
    pub append_entries_max: u32,
    /// Most bytes in one append message.
    pub append_bytes_max: u32,
    /// Most unacknowledged bytes to one peer.
    pub window_bytes: u32,
    /// Most bytes waiting for commit.
    pub uncommitted_bytes_max: u64,
    /// Bytes kept free on each disk.
    pub disk_reserve_bytes: u64,
    /// How long a name is kept for a silent holder, in microseconds.
    pub name_hold_us: u64,
    /// Entries between two checkpoints.
    pub checkpoint_entries: u64,
    /// Between two requests of one client, at most, in microseconds.
    pub think_us: u64,
}

impl Knobs {
    /// A quiet network and a quick disk.
    #[must_use]
    pub fn calm() -> Self {
        Self {
            segment_bytes: 8 << 10,
            sync_us_min: MS,
            sync_us_max: 5 * MS,
            delay_us_min: 200,
            delay_us_max: 2 * MS,
            loss: 0,
            duplicate: 0,
            idle_us: 4 * SECOND,
            turn_us: 0,
            append_entries_max: 1024,
            append_bytes_max: 256 << 10,
            window_bytes: 1 << 20,
            uncommitted_bytes_max: 64 << 20,
            disk_reserve_bytes: 64 << 10,
            name_hold_us: 30 * SECOND,
            checkpoint_entries: 20,
            think_us: 100 * MS,
        }
    }
}

/// Something is done at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// When, in microseconds.
    pub at_us: u64,
    /// What.
    pub action: Action,
}

/// What can be done to a world. Agents are named by their place in the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Action {
    /// Power loss: unsynced writes survive or not, each by itself. It starts again after `down_us`.
    Crash { agent: usize, down_us: u64 },
    /// `kill -9`: what was written stays.
    Kill { agent: usize, down_us: u64 },
    /// Power loss in the middle of a write: after so many more calls of the disk.
    Tear { agent: usize, calls: u64, down_us: u64 },
    /// Power loss of whoever leads then.
    CrashLeader { down_us: u64 },
    /// Power loss of all at once.
    CrashAll { down_us: u64 },
    /// The process is stopped, and goes on later.
    Pause { agent: usize, for_us: u64 },
    /// Nothing gets from one to the other.
    Cut { from: usize, to: usize },
    /// Nothing gets to or from it.
    Isolate { agent: usize },
    /// Nothing gets to or from whoever leads then.
    IsolateLeader,
    /// Nothing gets from these to the rest, nor back.
    Halves { left: Vec<usize> },
    /// All ways are open again.
    Heal,
    /// All its connections break.
    Reset { agent: usize },
    /// What is under way on its bulk connections is lost.
    LoseBulk { agent: usize },
    /// Another weather of the network.
    Weather { loss: u64, duplicate: u64, delay_us_max: u64 },
    /// Its syncs take this long for a while.
    SlowDisk { agent: usize, sync_us: u64, for_us: u64 },
    /// Its next sync fails: the process aborts, and is started again.
    FailSync { agent: usize, down_us: u64 },
    /// Its disk is full for a while.
    FullDisk { agent: usize, for_us: u64 },
    /// Its wall clock jumps.
    Clock { agent: usize, by_us: i64 },
    /// It is stopped, and started with an empty disk under the same name, unless that would endanger a quorum.
    Wipe { agent: usize, down_us: u64 },
    /// An operator asks it to leave; after that it is started again as a new node.
    Leave { agent: usize, down_us: u64 },
    /// It returns under another address.
    Move { agent: usize, down_us: u64 },
    /// All return under other addresses.
    MoveAll { down_us: u64 },
}

impl Action {
    /// In one word, for counters.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Crash { .. } => "crash",
            Self::Kill { .. } => "kill",
            Self::Tear { .. } => "tear",
            Self::CrashLeader { .. } => "crash-leader",
            Self::CrashAll { .. } => "crash-all",
            Self::Pause { .. } => "pause",
            Self::Cut { .. } => "cut",
            Self::Isolate { .. } => "isolate",
            Self::IsolateLeader => "isolate-leader",
            Self::Halves { .. } => "halves",
            Self::Heal => "heal",
            Self::Reset { .. } => "reset",
            Self::LoseBulk { .. } => "lose-bulk",
            Self::Weather { .. } => "weather",
            Self::SlowDisk { .. } => "slow-disk",
            Self::FailSync { .. } => "fail-sync",
            Self::FullDisk { .. } => "full-disk",
            Self::Clock { .. } => "clock",
            Self::Wipe { .. } => "wipe",
            Self::Leave { .. } => "leave",
            Self::Move { .. } => "move",
            Self::MoveAll { .. } => "move-all",
        }
    }
}

/// The letter of an agent, which is its name unless the plan says otherwise.
pub(super) fn letter(agent: usize) -> char {
    let at = u8::try_from(agent).unwrap_or(25).min(25);
    char::from(b'a' + at)
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}: {} agents, {} clients", self.seed, self.agents.len(), self.clients)?;
        for (at, agent) in self.agents.iter().enumerate() {
            let join: String = agent.join.iter().map(|j| letter(*j)).collect();
            let bootstrap = if agent.bootstrap { " --bootstrap" } else { "" };
            let start = agent.start_us as f64 / SECOND as f64;
            writeln!(
                f,
                "  {} starts at {start:.3} s{bootstrap} --join [{join}], clock {:+} us at {} in 1000",
                letter(at),
                agent.wall_us,
                agent.pace
            )?;
        }
        writeln!(f, "  {:?}", self.knobs)?;
        for step in &self.steps {
            writeln!(f, "  {:>9.3} s {:?}", step.at_us as f64 / SECOND as f64, step.action)?;
        }
        write!(f, "  {:>9.3} s calm", self.calm_at_us as f64 / SECOND as f64)
    }
}
