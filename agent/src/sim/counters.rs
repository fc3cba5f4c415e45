//! Counters: what really happened to a world, by kind and by the role of whoever it happened to, so that a fault that
//! never fires is seen.
//!
//! They count what took effect; a fault that was only planned counts nowhere.

use std::collections::BTreeMap;
use std::fmt;

/// What a machine was to the group when something happened to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// It led.
    Leader,
    /// It voted, and did not lead.
    Follower,
    /// It learned.
    Learner,
    /// It was not in the group, or there was none yet, or it was down.
    Outside,
}

impl Role {
    const ALL: [Self; 4] = [Self::Leader, Self::Follower, Self::Learner, Self::Outside];
}

/// Faults of disks, as they take effect.
const OF_DISKS: &[&str] = &[
    "slow-disk",
    "hang-disk",
    "syncs failed",
    "reads failed",
    "writes on a full disk",
    "sectors lost",
    "sectors torn",
    "names lost",
    "writes lost",
    "writes misdirected",
    "writes stale",
    "bits rotted",
    "copies started",
    "older disks returned",
    "wipe",
];

/// What faults do when they take effect. Each must happen often enough in a campaign, or the campaign shows little.
pub const FAULTS: [&[&str]; 6] = [
    // Processes.
    &["crash", "kill", "torn in a call", "crash-leader", "crash-all", "crash-loop", "pause", "stopped"],
    // The network.
    &[
        "packets lost",
        "datagrams lost",
        "datagrams doubled",
        "datagrams overtaken",
        "frames late",
        "cut",
        "deaf",
        "mute",
        "isolate",
        "isolate-leader",
        "halves",
        "bridge",
        "ring",
        "flap",
        "frames stalled",
        "reset",
        "reset-in-frame",
        "frames lost",
        "slow-reader",
        "queue full",
        "gossip replayed",
        "gossip replayed after a minute",
        "lose-gossip",
    ],
    // Clocks.
    &["clock ahead", "clock back", "clock off by 74 years", "pace"],
    OF_DISKS,
    // Membership.
    &[
        "copies refused",
        "crashed with a pledge",
        "demote",
        "departed",
        "drain",
        "forgotten",
        "founded together",
        "move",
        "move-all",
        "promote",
        "removed",
        "strangers refused",
        "two formers",
        "wiped with a pledge",
    ],
    // Clients.
    &["retried elsewhere", "appends unknown", "bites of slow readers"],
];

/// How often each kind of thing happened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    counts: BTreeMap<&'static str, u64>,
    roles: BTreeMap<(&'static str, Role), u64>,
}

impl Counters {
    /// Once more.
    pub(super) fn count(&mut self, kind: &'static str) {
        self.add(kind, 1);
    }

    /// So many times more.
    pub(super) fn add(&mut self, kind: &'static str, n: u64) {
        *self.counts.entry(kind).or_default() += n;
    }

    /// Once more, to a machine in this role.
    pub(super) fn count_for(&mut self, kind: &'static str, role: Role) {
        self.count(kind);
        *self.roles.entry((kind, role)).or_default() += 1;
    }

    /// How often.
    #[must_use]
    pub fn get(&self, kind: &str) -> u64 {
        self.counts.get(kind).copied().unwrap_or(0)
    }

    /// How often to machines in this role.
    #[must_use]
    pub fn in_role(&self, kind: &'static str, role: Role) -> u64 {
        self.roles.get(&(kind, role)).copied().unwrap_or(0)
    }

    /// Adds those of another run.
    pub fn merge(&mut self, other: &Self) {
        for (kind, n) in &other.counts {
            self.add(kind, *n);
        }
        for (key, n) in &other.roles {
            *self.roles.entry(*key).or_default() += n;
        }
    }

    /// All of them, by kind.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.counts.iter().map(|(kind, n)| (*kind, *n))
    }

    /// All kinds of faults.
    fn faults() -> impl Iterator<Item = &'static str> {
        FAULTS.into_iter().flatten().copied()
    }

    /// How many faults of disks took effect.
    #[must_use]
    pub fn storage_faults(&self) -> u64 {
        OF_DISKS.iter().map(|kind| self.get(kind)).sum()
    }

    /// The faults that took effect less often than this.
    #[must_use]
    pub fn rarer_than(&self, least: u64) -> Vec<&'static str> {
        Self::faults().filter(|kind| self.get(kind) < least).collect()
    }

    /// A line for each fault: how often, to whom, and whether that is enough.
    #[must_use]
    pub fn table(&self, least: u64) -> String {
        let mut out = format!(
            "{:<32} {:>9} {:>9} {:>9} {:>9} {:>9}  at least {least}\n",
            "fault that took effect", "all", "leader", "follower", "learner", "outside"
        );
        for kind in Self::faults() {
            let of = |role| match self.in_role(kind, role) {
                0 => "-".to_owned(),
                n => n.to_string(),
            };
            let [leader, follower, learner, outside] = Role::ALL.map(of);
            let verdict = if self.get(kind) >= least { "yes" } else { "NO" };
            let all = self.get(kind);
            out += &format!("{kind:<32} {all:>9} {leader:>9} {follower:>9} {learner:>9} {outside:>9}  {verdict}\n");
        }
        out
    }
}

impl fmt::Display for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (kind, n)) in self.counts.iter().enumerate() {
            let gap = if at == 0 { "" } else { ", " };
            write!(f, "{gap}{kind} {n}")?;
        }
        Ok(())
    }
}
