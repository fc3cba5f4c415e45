//! Mutants: deliberate bugs, each at the place where it was or could be made, to show that the tests bite.
//!
//! They never exist in a normal build: without the feature `mutants`, which nothing turns on, `mutant!` is `false` and the
//! compiler drops what it guards. With it one bug at a time is chosen: by `choose` for the thread, else by the variable
//! `QUORATE_MUTANT` for the process.
//!
//! ```
//! use quorate_raft::mutant;
//!
//! let durable = false;
//! assert!(!(durable || mutant!(AckBeforeFsync)));
//! ```
//!
//! # To add one
//! A line below that says what goes wrong, and `mutant!(Name)` at the place, so that the sound code reads as it did:
//! `if is_durable || mutant!(Name)`. Then run the table (`CONTRIBUTING.md`): it must be caught within the budget, by a
//! promise from outside if there is one.
//!
//! # Not yet
//! No sessions (doubled (session, seq), sessions missing from a checkpoint), no retention (trimming before the checkpoint
//! is durable, one clock that trims), no installed snapshots (over a conflicting tail): no bugs in what is not there.

macro_rules! mutants {
    ($($(#[$doc:meta])+ $name:ident,)+) => {
        /// One deliberate bug.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Mutant {
            $($(#[$doc])+ $name,)+
        }

        impl Mutant {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// Its name, as in the code.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)+
                }
            }

            /// The one of this name.
            #[must_use]
            pub fn named(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|mutant| mutant.name() == name)
            }
        }
    };
}

mutants! {
    /// The harness itself: readers are told of one record more than stands. Every world must see it.
    Canary,

    // Elections.
    /// A vote is sent before it is durable.
    VoteBeforeFsync,
    /// Votes are asked for before one's own vote and log are durable.
    VoteRequestBeforeFsync,
    /// A second candidate of a term gets a vote too.
    VoteTwice,
    /// A start forgets for whom it voted.
    VoteForgottenByStart,
    /// A log is as up-to-date as it is long, whatever its last term.
    UpToDateByIndexOnly,
    /// A granted pre-vote counts as a vote.
    PreVoteCountsAsVote,
    /// An append of an older term is taken.
    OldTermAppendTaken,
    /// A leader that hears no quorum goes on leading.
    NoCheckQuorum,
    /// Leadership is handed to one that lacks the end of the log.
    TransferToOneBehind,

    // Replication.
    /// Whatever was ordered to be written counts as durable at once.
    AckBeforeFsync,
    /// What was received is acknowledged, durable or not.
    AckReceived,
    /// An empty append is answered with what was received.
    AckEmptyAppend,
    /// An append that was all there already is answered with what was received.
    AckDuplicateAppend,
    /// The leader counts its own log as far as it has written, not as far as it is durable.
    LeaderCountsUnsynced,
    /// A completion that comes after truncate and append proves what replaced it.
    StaleCompletion,
    /// A duplicate or late append drops what comes after it.
    TruncateOnReceipt,
    /// A leader may truncate what is committed here.
    TruncateBelowCommit,
    /// Entries of older terms are committed by counting.
    CommitOldTermByCounting,
    /// A heartbeat commits entries that are not known to equal the leader's.
    CommitPastMatched,
    /// What is in the log is applied, committed or not.
    ApplyUncommitted,
    /// A truncation leaves the configurations that it dropped in force.
    ConfigurationNotReverted,
    /// An answer to an earlier life of the leader, or from an earlier life of the peer, counts.
    EarlierLifeCounts,
    /// An answer from an earlier membership of the peer counts.
    EarlierMembershipCounts,
    /// No bound on what waits for a commit.
    NoUncommittedCap,

    // Lost and damaged logs.
    /// What a disk is known to have lost is forgotten by a start.
    SuspectNotPersisted,
    /// A disk that has lost the end of its log votes as if it had never been longer.
    SuspectIgnoredByVotes,
    /// Who cannot read its log leads all the same.
    DamagedLeads,
    /// Entries that cannot be read are compared by the terms that a start guessed.
    UnreadableCompared,
    /// Entries that cannot be read are dropped for a leader's without a word of what may have been acknowledged.
    BlindCutWithoutBar,
    /// A leader speaks of entries that it cannot read by the terms that a start guessed.
    UnreadableTold,
    /// A repair takes well-formed entries that the intact one behind them does not follow.
    RepairUnchained,

    // Configurations.
    /// The newest committed configuration is in force, not the newest one.
    ConfigurationWhenCommitted,
    /// The acknowledgement of a learner counts.
    LearnerCounts,
    /// A change may begin while another one is not committed.
    TwoChanges,
    /// A new leader changes the configuration before it has committed in its own term.
    ChangeBeforeOwnTerm,
    /// Half of an even number is a majority.
    HalfIsMajority,
    /// The new voters alone decide in a joint phase.
    JointNeedsOneMajority,
    /// The joint phase is left before it is committed.
    JointLeftEarly,

    // Reads.
    /// A read is answered without asking a quorum.
    ReadWithoutQuorum,
    /// A round of heartbeats confirms reads that came after it began.
    ReadByEarlierRound,
    /// A new leader answers reads before it has committed in its own term.
    ReadBeforeOwnTerm,
    /// A follower answers reads by what it knows.
    FollowerRead,
    /// A read does not wait until its index is applied.
    ReadBeforeApplied,
    /// A wait for an offset ends before that offset is there.
    AwaitEndsEarly,

    // Checkpoints.
    /// A state is saved before this node's own disk holds all of it.
    CheckpointAheadOfDisk,
    /// A checkpoint holds the newest configuration, not the one in force at its entry.
    CheckpointConfigurationTooNew,
    /// A checkpoint leaves out which boots were seen.
    CheckpointWithoutBoots,
    /// A checkpoint leaves out the numbers of streams.
    CheckpointWithoutStreams,

    // The write-ahead log.
    /// A sync does not sync.
    NoSync,
    /// A sync that failed is tried again.
    FailedSyncRetried,
    /// A new segment gets its name without a sync of the directory.
    NoDirectorySync,
    /// A segment is followed by the next one without being synced.
    SealWithoutSync,
    /// Term and vote are written and not synced.
    MetaNotSynced,
    /// Term and vote are written to one copy only.
    MetaWrittenOnce,
    /// A start believes what it reads, and does not make it durable.
    RecoveryWithoutSync,
    /// A start takes what it reads in the cache for what is on the platter.
    RecoveryTrustsCache,
    /// A start does not cut a torn tail.
    TornTailKept,
    /// A start cuts damage in the middle as if it were a torn tail.
    MiddleCut,
    /// The checksum of a frame is not bound to its place.
    ChecksumUnseeded,
    /// The checksum of an entry is not looked at when it is read.
    ChecksumIgnored,
    /// Every start has the same boot epoch.
    BootEpochNotCounted,

    // The agent.
    /// An append is acked when it is proposed.
    AckAtProposal,
    /// All appends of an entry are acked at its first offset.
    AckAtFirstOffset,
    /// What was written and not confirmed in time is said to have failed.
    UnconfirmedSaidFailed,
    /// What was forwarded and not answered is said to have failed.
    UnansweredSaidFailed,
    /// What was forwarded on a connection that broke is tried again.
    ForwardedTwice,
    /// An offset is skipped.
    OffsetSkipped,
    /// The log's time follows the leader's clock back.
    TimeGoesBack,
    /// The log's time follows the leader's clock anywhere.
    OneClockSteers,
    /// The numbers given out by a leader that lost its leadership stay given.
    NumbersKept,

    // Membership.
    /// Whom gossip calls failed is removed.
    RemovedByGossip,
    /// A step is taken without asking whether a majority of the new voters is there.
    StepWithoutMajority,
    /// A group grows to an even number of voters.
    EvenGrowth,
    /// A node that has left is admitted again.
    DepartedAdmitted,
    /// An agent is drained though the quorum would stop with it.
    DrainsTheQuorum,
    /// A drained agent leads as if nothing were.
    DrainedLeads,
    /// A drained agent goes on serving its clients.
    DrainedServes,
    /// A drained learner is promoted.
    PromotesTheDrained,
    /// An agent is removed though too few would answer without it.
    RemovesTheQuorum,
    /// A voter is demoted though too few would answer without it.
    DemotesTheQuorum,
    /// A voter that lags counts where another one is to be done without.
    LaggardCounts,
    /// A learner is promoted though that makes the group even, and nobody said it may be.
    PromotesToEven,
    /// A voter is demoted though that makes the group even, and nobody said it may be.
    DemotesToEven,
    /// Each hint that a failed member lives is followed at once, though the answer may be the same hint (`membership`).
    HintsFollowedAtOnce,
    /// A boot that is older than one known, or a copy, may connect.
    StaleBootAccepted,
    /// A wiped disk comes back under the same node id.
    WipedKeepsItsId,

    // The autopilot.
    /// A voter that gossip calls failed is replaced at once, however short its silence and whoever else hears it.
    ReplacedTooSoon,
    /// A spare that flaps gets a seat like any other.
    FlapperPromoted,
    /// What a new leader knows of others is taken for long stability.
    StabilityWaived,
    /// The feature level is raised by what the leader itself supports.
    LevelRaisedAlone,
    /// A program that is too old for the feature level may connect.
    OldProgramAdmitted,
    /// A dead voter is removed though nobody takes its seat.
    RemovedUnreplaced,
    /// Whatever its zone, the first spare takes a seat.
    ZonesIgnored,
    // Founding a log together (`agent/src/pledge`).
    /// A pledge is told before it is durable.
    PledgeUnsynced,
    /// Who has pledged itself to one proposal pledges itself to another one too.
    PledgeTwice,
    /// The signatures of a majority are taken for those of all.
    CertificateOfMajority,
    /// Who has waited long enough is free of its pledge, whatever the others hold.
    ReleasedWithoutProof,
    /// A promise keeps quiet about the vote before it.
    VoteNotTold,
    /// Who does not answer counts as a disk that is empty.
    SilenceIsEmpty,
}

#[cfg(feature = "mutants")]
mod chosen {
    extern crate std;

    use super::Mutant;
    use core::cell::Cell;

    std::thread_local! {
        static CHOSEN: Cell<Option<Mutant>> = Cell::new(of_process());
        static REACHED: Cell<u64> = const { Cell::new(0) };
    }

    fn of_process() -> Option<Mutant> {
        let name = std::env::var("QUORATE_MUTANT").ok().filter(|name| !name.is_empty())?;
        let mutant = Mutant::named(&name);
        // A table that ran the sound code under a misspelt name would call it a survivor.
        assert!(mutant.is_some(), "QUORATE_MUTANT={name}: there is no such mutant");
        mutant
    }

    /// This thread runs with this bug from now on, or with none.
    pub fn choose(mutant: Option<Mutant>) {
        CHOSEN.set(mutant);
        REACHED.set(0);
    }

    /// How often this thread has come by the place of the bug since it was chosen.
    #[must_use]
    pub fn reached() -> u64 {
        REACHED.get()
    }

    /// Does this thread run with this bug?
    #[must_use]
    pub fn is_chosen(mutant: Mutant) -> bool {
        let chosen = CHOSEN.get() == Some(mutant);
        if chosen {
            REACHED.set(REACHED.get() + 1);
        }
        chosen
    }
}

#[cfg(feature = "mutants")]
pub use chosen::{choose, is_chosen, reached};

/// Is this deliberate bug in force? `false`, and no code, without the feature `mutants`.
#[cfg(feature = "mutants")]
#[macro_export]
macro_rules! mutant {
    ($name:ident) => {
        $crate::mutants::is_chosen($crate::mutants::Mutant::$name)
    };
}

/// Is this deliberate bug in force? `false`, and no code, without the feature `mutants`.
#[cfg(not(feature = "mutants"))]
#[macro_export]
macro_rules! mutant {
    ($name:ident) => {{
        const _: $crate::mutants::Mutant = $crate::mutants::Mutant::$name;
        false
    }};
}
