//! Invariants: the promises that a run is checked against, each with a name of its own.
//!
//! They hold no checks: a name says which promise was broken, so that a shrunk plan must break the same one, and a
//! deliberate bug can be set beside what caught it.

use std::fmt;

macro_rules! invariants {
    ($($(#[$meta:meta])* $name:ident = $id:literal,)*) => {
        /// One promise.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Invariant {
            $($(#[$meta])* $name,)*
        }

        impl Invariant {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The one of this name.
            #[must_use]
            pub fn of(id: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|i| i.id() == id)
            }

            /// Its name: what is printed, and kept beside a plan.
            #[must_use]
            pub fn id(self) -> &'static str {
                match self {
                    $(Self::$name => $id,)*
                }
            }
        }
    };
}

invariants! {
    /// At most one leader a term and history.
    OneLeader = "one-leader",
    /// One vote a term and node id, over all its lives.
    OneVote = "one-vote",
    /// A vote, or a request for votes, is on disk before anyone hears of it.
    VoteDurable = "vote-durable",
    /// A term is on disk before anyone acts in it.
    TermDurable = "term-durable",
    /// What is acknowledged is on the disk of whoever acknowledges it.
    AckDurable = "ack-durable",
    /// Committed means on a quorum of synced disks.
    CommitDurable = "commit-durable",
    /// Everyone applies the same entry at the same index.
    SameEntries = "same-entries",
    /// What was durable is there after a restart.
    DurableStays = "durable-stays",
    /// A node whose disk is gone says nothing, and never votes again.
    DeadDisk = "dead-disk",
    /// Whoever knows a start of a data directory lets no earlier one in, and no copy of it.
    OneLife = "one-life",
    /// A cluster has one history.
    OneHistory = "one-history",
    /// Offsets are dense, and what is readable is what the entries say.
    OffsetsDense = "offsets-dense",
    /// What may be read never goes back.
    ReadableGrows = "readable-grows",
    /// Neither log time nor Lamport time decreases.
    TimeGrows = "time-grows",
    /// Every entry, frame and record decodes, and holds what somebody wrote.
    Decodes = "decodes",
    /// No value stands twice.
    Once = "once",
    /// What surely failed never stands.
    FailedStaysOut = "failed-stays-out",
    /// What was acked stands at its offset for ever.
    AckedStands = "acked-stands",
    /// An append that is asked for after another was acked has the larger offset; a read sees all that was acked before.
    RealTime = "real-time",
    /// A configuration follows legally from the one before.
    ConfigurationFollows = "configuration-follows",
    /// At most one configuration is not committed.
    OneConfiguration = "one-configuration",
    /// Nobody is removed who neither left nor lost its disk; groups stay within their bounds.
    SafeMembership = "safe-membership",
    /// A feature level is raised only to what all members support.
    LevelForAll = "level-for-all",
    /// A change of the configuration leaves a quorum that has just answered, and never shrinks it below its floor.
    SafeQuorum = "safe-quorum",
    /// A request has exactly one end, in time.
    OneAnswer = "one-answer",
    /// A failure says truly what became of the request.
    HonestFailure = "honest-failure",
    /// An honest agent is not cut off.
    NoFalseOffence = "no-false-offence",
    /// A process ends only for a reason: nothing breaks without a fault.
    NoCrash = "no-crash",
    /// After healing, somebody leads within ten election timeouts.
    LeaderSoon = "leader-soon",
    /// After healing, one leader and one group of all.
    Converges = "converges",
    /// After healing, every agent serves.
    Serves = "serves",
    /// In the end all replicas are equal.
    ReplicasEqual = "replicas-equal",
    /// After healing, no replica is left with entries that it cannot read.
    Healed = "healed",
    /// A checkpoint never exceeds what is durable on the disk beside it.
    CheckpointDurable = "checkpoint-durable",
    /// A checkpoint equals a replay of the log from its beginning.
    CheckpointTrue = "checkpoint-true",
    /// Who leads has the votes of a quorum.
    ElectedByQuorum = "elected-by-quorum",
    /// Who leads has all that was committed before its term.
    LeaderCompleteness = "leader-completeness",
    /// A leader commits by entries of its own term only.
    OwnTermCommits = "own-term-commits",
    /// A leader changes no configuration before it has committed in its own term.
    OwnTermFirst = "own-term-first",
    /// A leader that hears no quorum stops leading.
    LeaderHearsQuorum = "leader-hears-quorum",
    /// Leadership is handed only to whose disk has all of the log.
    HeirIsWhole = "heir-is-whole",
    /// No single clock steers the time of the log.
    OneClock = "one-clock",
    /// Agents do not answer each other's answers without end.
    NoStorm = "no-storm",
    /// What waits stays within its bounds.
    Caps = "caps",
    /// What counts as durable was synced, sector by sector.
    SyncedIsSynced = "synced-is-synced",
    /// The same plan gives the same trace, byte for byte.
    Deterministic = "deterministic",
    /// An assertion of an agent's own holds.
    OwnAssertion = "own-assertion",
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id())
    }
}

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub invariant: Invariant,
    /// How, for people.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.invariant, self.what)
    }
}
