//! Plan: all that a run does to its world, spelled out, so that it can be printed, replayed and cut down.
//!
//! It holds no chance: what is left to chance in a run is the noise of its seed, such as the delay of each packet.

pub(super) use super::action::Action;
use super::script::{Call, ConsumerPlan};
use crate::machine::settings::Settings;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Microseconds in a millisecond and a second.
pub(super) const MS: u64 = 1_000;
/// See [`MS`].
pub(super) const SECOND: u64 = 1_000_000;

/// Which faults a drawn plan has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Faults {
    /// All that there are.
    #[default]
    All,
    /// Those that members and their connections have: no clock and no disk is at fault.
    Membership,
}

/// A whole run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Of the noise.
    pub seed: u64,
    /// Who takes part.
    pub agents: Vec<AgentPlan>,
    /// How the world is made.
    pub knobs: Knobs,
    /// What each client asks, in this order.
    pub script: Vec<Vec<Call>>,
    /// Who reads along.
    pub consumers: Vec<ConsumerPlan>,
    /// When everything is healed and must converge, in microseconds.
    pub calm_at_us: u64,
    /// What is done until then.
    pub steps: Vec<Step>,
}

/// One agent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentPlan {
    /// When it is started for the first time, in microseconds.
    pub start_us: u64,
    /// With `--bootstrap`.
    pub bootstrap: bool,
    /// With `--expect` of so many; 0 for none.
    #[serde(default)]
    pub expect: usize,
    /// With `--join` of these.
    pub join: Vec<usize>,
    /// Its wall clock minus the true one, in microseconds.
    pub wall_us: i64,
    /// How many microseconds its monotonic clock counts in a thousand true ones, until all is calm.
    pub pace: u64,
    /// Its name, if it is not the one of its place.
    #[serde(default)]
    pub name: Option<String>,
    /// Its certificate is of another cluster: it must never get in.
    #[serde(default)]
    pub foreign: bool,
    /// The zone that its tags name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Its program is older than that of today, until it is upgraded.
    #[serde(default)]
    pub old: bool,
}

/// Bounds and tempers of a world.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
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
    /// Packets of a thousand that take far longer than others, so that many later ones overtake them.
    pub reorder: u64,
    /// Most frames that wait for a way on one connection; a further one is not taken.
    pub queue_frames: u64,
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
    /// How long a voter must be dead before a spare takes its seat, in microseconds.
    #[serde(default = "replace_after")]
    pub replace_after_us: u64,
    /// How long a spare must have been stable before that, in microseconds.
    #[serde(default = "stabilization")]
    pub stabilization_us: u64,
    /// Failures within this time make an agent one that flaps, in microseconds.
    #[serde(default = "flap_window")]
    pub flap_window_us: u64,
}

fn flap_window() -> u64 {
    Settings::default().flap_window_ms * MS
}

fn replace_after() -> u64 {
    Settings::default().replace_after_ms * MS
}

fn stabilization() -> u64 {
    Settings::default().stabilization_ms * MS
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
            reorder: 0,
            queue_frames: 100_000,
            idle_us: 4 * SECOND,
            turn_us: 0,
            append_entries_max: 1024,
            append_bytes_max: 256 << 10,
            window_bytes: 1 << 20,
            uncommitted_bytes_max: 64 << 20,
            disk_reserve_bytes: 64 << 10,
            name_hold_us: 30 * SECOND,
            checkpoint_entries: 20,
            replace_after_us: replace_after(),
            stabilization_us: stabilization(),
            flap_window_us: flap_window(),
        }
    }

    /// What the autopilot goes by.
    pub(super) fn autopilot(&self) -> Settings {
        Settings {
            replace_after_ms: self.replace_after_us / MS,
            stabilization_ms: self.stabilization_us / MS,
            flap_window_ms: self.flap_window_us / MS,
            ..Settings::default()
        }
    }
}

/// Something is done at a moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// When, in microseconds.
    pub at_us: u64,
    /// What.
    pub action: Action,
}

/// The letter of an agent, which is its name unless the plan says otherwise.
pub(super) fn letter(agent: usize) -> char {
    let at = u8::try_from(agent).unwrap_or(25).min(25);
    char::from(b'a' + at)
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let calls: usize = self.script.iter().map(Vec::len).sum();
        let (agents, clients) = (self.agents.len(), self.script.len());
        writeln!(f, "seed {}: {agents} agents, {clients} clients with {calls} requests", self.seed)?;
        for (at, agent) in self.agents.iter().enumerate() {
            let join: String = agent.join.iter().map(|j| letter(*j)).collect();
            let bootstrap = match (agent.bootstrap, agent.expect) {
                (true, _) => " --bootstrap".to_owned(),
                (false, 0) => String::new(),
                (false, expect) => format!(" --expect {expect}"),
            };
            let foreign = if agent.foreign { ", of another cluster" } else { "" };
            let start = agent.start_us as f64 / SECOND as f64;
            writeln!(
                f,
                "  {} starts at {start:.3} s{bootstrap} --join [{join}], clock {:+} us at {} in 1000{foreign}",
                letter(at),
                agent.wall_us,
                agent.pace
            )?;
        }
        writeln!(f, "  {:?}", self.knobs)?;
        for consumer in &self.consumers {
            writeln!(f, "  {consumer:?}")?;
        }
        for step in &self.steps {
            writeln!(f, "  {:>9.3} s {:?}", step.at_us as f64 / SECOND as f64, step.action)?;
        }
        write!(f, "  {:>9.3} s calm", self.calm_at_us as f64 / SECOND as f64)
    }
}
