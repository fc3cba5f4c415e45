//! Action: one thing that can be done to a world, as it stands in a plan.
//!
//! It says what and to whom, never how: see `faults`.

use serde::{Deserialize, Serialize};

/// What can be done to a world. Agents are named by their place in the plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[allow(missing_docs)]
pub enum Action {
    // ---- processes ----
    /// Power loss: unsynced writes survive or not, each by itself. It starts again after `down_us`.
    Crash { agent: usize, down_us: u64 },
    /// `kill -9`: what was written stays.
    Kill { agent: usize, down_us: u64 },
    /// Power loss in the middle of a write: after so many more calls of the disk. Torn: also in the middle of a sector,
    /// which a disk must not do, and after which a log cannot tell what it may have acknowledged.
    Tear { agent: usize, calls: u64, torn: bool, down_us: u64 },
    /// Power loss of whoever leads then.
    CrashLeader { down_us: u64 },
    /// Power loss of all at once.
    CrashAll { down_us: u64 },
    /// Power loss, and again each time it has been up for `up_us`.
    CrashLoop { agent: usize, times: u64, up_us: u64 },
    /// The process is stopped, and goes on later.
    Pause { agent: usize, for_us: u64 },
    /// The process is told to stop, and is started again later.
    Stop { agent: usize, down_us: u64 },
    // ---- the network ----
    /// Nothing gets from one to the other.
    Cut { from: usize, to: usize },
    /// Nothing gets to it, while all hear it.
    Deaf { agent: usize },
    /// Nothing gets from it, while it hears all.
    Mute { agent: usize },
    /// Nothing gets to or from it.
    Isolate { agent: usize },
    /// Nothing gets to or from whoever leads then.
    IsolateLeader,
    /// Nothing gets from these to the rest, nor back.
    Halves { left: Vec<usize> },
    /// Two halves that only this agent can reach both.
    Bridge { agent: usize },
    /// Each reaches only those beside it: majorities that differ from agent to agent.
    Ring,
    /// It is cut off and back again, so many times.
    Flap { agent: usize, times: u64, every_us: u64 },
    /// All ways are open again.
    Heal,
    /// All its connections break.
    Reset { agent: usize },
    /// The connection on which it next sends or gets a frame breaks while the frame is under way.
    ResetInFrame { agent: usize },
    /// What is under way on its bulk connections is lost.
    LoseBulk { agent: usize },
    /// It reads nothing from its connections for a while: what is meant for it piles up.
    SlowReader { agent: usize, for_us: u64 },
    /// Another weather of the network.
    Weather { loss: u64, duplicate: u64, reorder: u64, delay_us_max: u64 },
    /// All gossip packets of it that are still known come again, the oldest from the beginning of the run.
    ReplayGossip { agent: usize },
    /// Its gossip is lost for a while, so that the others call it dead, though it is connected with all of them.
    LoseGossip { agent: usize, for_us: u64 },
    // ---- clocks ----
    /// Its wall clock jumps.
    Clock { agent: usize, by_us: i64 },
    /// Its clock runs at this pace, in thousandths of the true one.
    Pace { agent: usize, pace: u64 },
    // ---- disks ----
    /// Its syncs take this long for a while.
    SlowDisk { agent: usize, sync_us: u64, for_us: u64 },
    /// Its next sync takes this long.
    HangDisk { agent: usize, for_us: u64 },
    /// Its next sync fails, and calls clean what it did not write: the process aborts, and is started again.
    FailSync { agent: usize },
    /// Its next read fails.
    FailRead { agent: usize },
    /// So many bytes are left on its disk for a while.
    FullDisk { agent: usize, free: u64, for_us: u64 },
    /// One bit of one of its files is wrong from now on. `file` and `place` choose among what is there.
    Rot { agent: usize, file: u64, place: u64, bit: u32 },
    /// The next write to one of the two copies of its meta is reported as done and never reaches the platter.
    LoseWrite { agent: usize },
    /// The last sectors of its newest segment were written so many sectors behind their place; power is lost as well.
    MisdirectWrite { agent: usize, sectors: u64, by: u64, down_us: u64 },
    /// The last sectors of its newest segment read as before they were written; power is lost as well.
    StaleTail { agent: usize, sectors: u64, down_us: u64 },
    /// A second process starts on a copy of its disk, at another address, for a while.
    Clone { agent: usize, for_us: u64 },
    /// Its disk is copied.
    Backup { agent: usize },
    /// It is stopped, and started with the copy of its disk, if that is of an earlier boot.
    Restore { agent: usize, down_us: u64 },
    // ---- membership ----
    /// It is stopped, and started with an empty disk under the same name, unless that would endanger a quorum.
    Wipe { agent: usize, down_us: u64 },
    /// An operator asks it to leave; after that it is started again as a new node.
    Leave { agent: usize, down_us: u64 },
    /// It dies, an operator has the others forget it, and it comes back with an empty disk.
    Forget { agent: usize },
    /// An operator drains it, and has done with that later.
    Drain { agent: usize, for_us: u64 },
    /// An operator removes it, for another one if one is named, and it comes back with an empty disk.
    Remove { agent: usize, heir: Option<usize> },
    /// An operator gives it a vote, if the group stays odd, and leaves that to the autopilot later.
    Promote { agent: usize, for_us: u64 },
    /// An operator takes its vote away, if the group stays odd, and leaves that to the autopilot later.
    Demote { agent: usize, for_us: u64 },
    /// It dies for good: nobody starts it again, unless too few others would be left.
    Retire { agent: usize },
    /// It is started again with the program of today, if its own is older.
    Upgrade { agent: usize, down_us: u64 },
    /// It returns under another address.
    Move { agent: usize, down_us: u64 },
    /// All return under other addresses.
    MoveAll { down_us: u64 },
}

impl Action {
    /// In one word, for counters: the same as in a saved plan.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Crash { .. } => "crash",
            Self::Kill { .. } => "kill",
            Self::Tear { .. } => "tear",
            Self::CrashLeader { .. } => "crash-leader",
            Self::CrashAll { .. } => "crash-all",
            Self::CrashLoop { .. } => "crash-loop",
            Self::Pause { .. } => "pause",
            Self::Stop { .. } => "stop",
            Self::Cut { .. } => "cut",
            Self::Deaf { .. } => "deaf",
            Self::Mute { .. } => "mute",
            Self::Isolate { .. } => "isolate",
            Self::IsolateLeader => "isolate-leader",
            Self::Halves { .. } => "halves",
            Self::Bridge { .. } => "bridge",
            Self::Ring => "ring",
            Self::Flap { .. } => "flap",
            Self::Heal => "heal",
            Self::Reset { .. } => "reset",
            Self::ResetInFrame { .. } => "reset-in-frame",
            Self::LoseBulk { .. } => "lose-bulk",
            Self::SlowReader { .. } => "slow-reader",
            Self::Weather { .. } => "weather",
            Self::ReplayGossip { .. } => "replay-gossip",
            Self::LoseGossip { .. } => "lose-gossip",
            Self::Clock { .. } => "clock",
            Self::Pace { .. } => "pace",
            Self::SlowDisk { .. } => "slow-disk",
            Self::HangDisk { .. } => "hang-disk",
            Self::FailSync { .. } => "fail-sync",
            Self::FailRead { .. } => "fail-read",
            Self::FullDisk { .. } => "full-disk",
            Self::Rot { .. } => "rot",
            Self::LoseWrite { .. } => "lose-write",
            Self::MisdirectWrite { .. } => "misdirect-write",
            Self::StaleTail { .. } => "stale-tail",
            Self::Clone { .. } => "clone",
            Self::Backup { .. } => "backup",
            Self::Restore { .. } => "restore",
            Self::Wipe { .. } => "wipe",
            Self::Leave { .. } => "leave",
            Self::Forget { .. } => "forget",
            Self::Drain { .. } => "drain",
            Self::Remove { .. } => "remove",
            Self::Promote { .. } => "promote",
            Self::Demote { .. } => "demote",
            Self::Retire { .. } => "retire",
            Self::Upgrade { .. } => "upgrade",
            Self::Move { .. } => "move",
            Self::MoveAll { .. } => "move-all",
        }
    }

    /// Whom it is done to, if that is one agent; of a cut the one that is not heard.
    pub(super) fn agent(&self) -> Option<usize> {
        match self {
            Self::Halves { .. } => None,
            _ => self.clone().agents_mut().first().map(|agent| **agent),
        }
    }

    /// The agents that it names, to be taken away or renumbered.
    pub(super) fn agents_mut(&mut self) -> Vec<&mut usize> {
        match self {
            Self::Cut { from, to } => vec![from, to],
            Self::Remove { agent, heir } => std::iter::once(agent).chain(heir).collect(),
            Self::Halves { left } => left.iter_mut().collect(),
            Self::CrashLeader { .. }
            | Self::CrashAll { .. }
            | Self::IsolateLeader
            | Self::Ring
            | Self::Heal
            | Self::Weather { .. }
            | Self::MoveAll { .. } => Vec::new(),
            Self::Crash { agent, .. }
            | Self::Kill { agent, .. }
            | Self::Tear { agent, .. }
            | Self::CrashLoop { agent, .. }
            | Self::Pause { agent, .. }
            | Self::Stop { agent, .. }
            | Self::Deaf { agent }
            | Self::Mute { agent }
            | Self::Isolate { agent }
            | Self::Bridge { agent }
            | Self::Flap { agent, .. }
            | Self::Reset { agent }
            | Self::ResetInFrame { agent }
            | Self::LoseBulk { agent }
            | Self::SlowReader { agent, .. }
            | Self::ReplayGossip { agent }
            | Self::LoseGossip { agent, .. }
            | Self::Clock { agent, .. }
            | Self::Pace { agent, .. }
            | Self::SlowDisk { agent, .. }
            | Self::HangDisk { agent, .. }
            | Self::FailSync { agent }
            | Self::FailRead { agent }
            | Self::FullDisk { agent, .. }
            | Self::Rot { agent, .. }
            | Self::LoseWrite { agent }
            | Self::MisdirectWrite { agent, .. }
            | Self::StaleTail { agent, .. }
            | Self::Clone { agent, .. }
            | Self::Backup { agent }
            | Self::Restore { agent, .. }
            | Self::Wipe { agent, .. }
            | Self::Leave { agent, .. }
            | Self::Forget { agent }
            | Self::Drain { agent, .. }
            | Self::Promote { agent, .. }
            | Self::Demote { agent, .. }
            | Self::Retire { agent }
            | Self::Upgrade { agent, .. }
            | Self::Move { agent, .. } => vec![agent],
        }
    }
}
