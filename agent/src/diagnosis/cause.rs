//! Causes: the one table of what can be wrong, each with a stable code. Append-only: a code never changes its meaning.
//!
//! It never says when a cause applies: the rules do.

use super::pages::{self, Page};
use serde::Serialize;
use std::fmt;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Works now, with less to spare.
    Warning,
    /// Something does not work as it should.
    Error,
    /// Keeps the cluster from having a leader, or an agent from being a member.
    Critical,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Warning => "warning",
            Self::Error => "error",
            Self::Critical => "critical",
        })
    }
}

/// One row of the table.
pub(super) struct Row {
    pub(super) cause: Cause,
    pub(super) number: u16,
    pub(super) severity: Severity,
    pub(super) title: &'static str,
    pub(super) page: Page,
}

macro_rules! causes {
    ($($(#[doc = $doc:literal])+ $cause:ident = $number:literal, $severity:ident, $title:literal;)+) => {
        /// What can be wrong. In the order of the table, roots come before what follows from them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Cause {
            $($(#[doc = $doc])+ $cause,)+
        }

        /// The table.
        pub(super) const TABLE: &[Row] = &[
            $(Row {
                cause: Cause::$cause,
                number: $number,
                severity: Severity::$severity,
                title: $title,
                page: pages::$cause,
            },)+
        ];
    };
}

causes! {
    /// Another process uses the data directory.
    DirectoryInUse = 126, Critical, "the data directory is in use by another process";
    /// The data directory cannot be read, or others can replace what is in it.
    DirectoryRefused = 127, Critical, "the data directory cannot be used as it is";
    /// The files in the data directory do not belong together.
    DirectoryForeign = 128, Critical, "the files of the data directory do not belong together";
    /// A certificate's time is over.
    CertificateExpired = 101, Critical, "a certificate has expired";
    /// A certificate's time has not begun.
    CertificateNotYetValid = 102, Critical, "a certificate is not valid yet";
    /// Two agents trust different authorities.
    OtherAuthority = 103, Critical, "a certificate was issued by another authority (CA)";
    /// Two agents are of different clusters.
    OtherCluster = 104, Critical, "a certificate belongs to another cluster";
    /// A certificate or key file cannot be used.
    CertificateUnusable = 105, Critical, "a certificate or its key cannot be used";
    /// A data directory exists twice, or is older than the cluster remembers.
    DirectoryCopied = 106, Critical, "a data directory is a copy or an old backup";
    /// The node was dropped from the cluster for good.
    NodeRemoved = 107, Critical, "this node was removed from the cluster";
    /// Two agents want one name.
    NameHeld = 108, Critical, "two agents want one name";
    /// The node has left, and its data was set aside.
    NodeLeft = 109, Critical, "this node has left the cluster";
    /// The clock of an agent is wrong.
    ClockOff = 140, Error, "a clock is wrong";
    /// The clock of an agent was set by a large step.
    ClockJumped = 141, Warning, "a clock has jumped";
    /// The process of an agent did not run for a while.
    ProcessStalled = 142, Warning, "an agent did not run for a while";
    /// The disk of an agent is nearly full.
    DiskFull = 120, Error, "a disk is nearly full";
    /// The file system of an agent cannot be written.
    DiskReadOnly = 121, Critical, "a file system is read-only";
    /// The disk of an agent confirms writes too slowly.
    DiskSlow = 122, Error, "a disk is slower than an election";
    /// No member can read these entries.
    DamageLost = 124, Critical, "entries of the log are damaged and nobody has them";
    /// Entries are being repaired from other members.
    DamageRepairing = 123, Warning, "entries of the log are damaged and are being repaired";
    /// The disk has lost what it had acknowledged.
    DiskForgot = 125, Error, "a disk has lost what it had acknowledged";
    /// The state of the machines cannot be saved, or could not be read.
    CheckpointTrouble = 129, Warning, "the state of an agent cannot be saved";
    /// Raft of an agent has stopped.
    RaftHalted = 134, Critical, "Raft of an agent has stopped";
    /// The machines of an agent have stopped.
    MachineStopped = 137, Error, "an agent no longer applies the log";
    /// Members hold different histories of one log.
    HistoriesDiffer = 135, Error, "members hold different histories of one log";
    /// Two logs were founded under one authority.
    TwoHistories = 114, Error, "two clusters were founded under one authority";
    /// An agent says that others reach it at an address where they cannot.
    AdvertiseUnreachable = 115, Error, "an agent advertises an address that others cannot reach";
    /// Two agents speak no common version.
    VersionGate = 119, Critical, "two agents have no version in common";
    /// The log asks more of a program than it understands.
    ProgramTooOld = 160, Critical, "a program is too old for its log";
    /// Datagrams do not arrive, streams do.
    DatagramsBlocked = 116, Warning, "datagrams do not arrive, while streams do";
    /// A member lives, and this agent cannot reach it.
    LinkBroken = 117, Critical, "a member is alive, and Raft cannot reach it";
    /// The agent does not run.
    AgentDown = 150, Critical, "the agent does not run";
    /// The agent runs and does not answer.
    AgentSilent = 151, Critical, "the agent runs and does not answer";
    /// Nobody has founded the cluster.
    NobodyFounded = 110, Critical, "nobody has founded the cluster";
    /// No join address answers.
    NoJoinAddress = 111, Critical, "no join address answers";
    /// Fewer agents came together than were expected.
    WaitingForExpected = 112, Critical, "fewer agents have come together than are expected";
    /// The agent is connected and not in the group yet.
    NotAdmitted = 113, Error, "an agent is connected and not in Raft yet";
    /// Terms move again and again.
    TermChurn = 133, Error, "elections follow one another";
    /// Somebody leads and cannot commit its first entry.
    FirstEntryUncommitted = 132, Critical, "a leader cannot commit its first entry";
    /// A member says that it left, and no removal is committed.
    LeftInGossip = 138, Error, "a member says that it has left, and is still in the group";
    /// Too few voters can be reached.
    QuorumDown = 130, Critical, "too few voters can be reached for a quorum";
    /// A voter is down, and a quorum is left.
    VoterDown = 131, Warning, "a voter is down";
    /// There is no leader, and nothing says why.
    NoLeader = 136, Critical, "there is no leader, and a quorum is connected";
    /// A feature level is not raised because of some.
    LevelHeldBack = 161, Warning, "older programs keep the feature level down";
    /// A drain that nobody has ended.
    DrainLeft = 162, Warning, "an agent is back and still drained";
    /// What operators have said keeps the autopilot from filling seats.
    AutopilotHeld = 163, Warning, "the autopilot is kept from what it would do";
    /// The agent tells of a problem that has no code of its own.
    Reported = 190, Warning, "an agent reports a problem";
}

impl Cause {
    pub(super) fn row(self) -> &'static Row {
        // The enumeration and the table are written by one macro, in one order.
        &TABLE[self as usize]
    }

    /// Every cause, roots first.
    pub fn all() -> impl Iterator<Item = Self> {
        TABLE.iter().map(|row| row.cause)
    }

    /// The stable code: `E0130`.
    #[must_use]
    pub fn code(self) -> String {
        format!("E{:04}", self.row().number)
    }

    /// In one line, as the list of codes has it.
    #[must_use]
    pub fn title(self) -> &'static str {
        self.row().title
    }

    /// How bad it is, unless a finding says otherwise.
    #[must_use]
    pub fn severity(self) -> Severity {
        self.row().severity
    }

    /// What a refusal at the door of an agent is about, by its word: see [`crate::facts::Trouble::detail`].
    #[must_use]
    pub fn of_refusal(word: &str) -> Option<Self> {
        match word {
            "stale" | "copy" | "stale_instance" => Some(Self::DirectoryCopied),
            "superseded" | "forgotten" => Some(Self::NodeRemoved),
            "name_held" | "name_kept" => Some(Self::NameHeld),
            "level" => Some(Self::ProgramTooOld),
            _ => None,
        }
    }

    /// Is it a reason to turn an agent away?
    #[must_use]
    pub fn shuts_out(self) -> bool {
        matches!(self, Self::DirectoryCopied | Self::NodeRemoved | Self::NameHeld | Self::ProgramTooOld)
    }

    /// The cause with this code: `E0130`, `e130`, `130`.
    #[must_use]
    pub fn of(code: &str) -> Option<Self> {
        let digits = code.trim().trim_start_matches(['e', 'E']);
        let number: u16 = digits.parse().ok().filter(|_| digits.bytes().all(|b| b.is_ascii_digit()))?;
        TABLE.iter().find(|row| row.number == number).map(|row| row.cause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn codes_and_titles_are_unique_and_codes_read_back() {
        let codes: BTreeSet<String> = Cause::all().map(Cause::code).collect();
        let titles: BTreeSet<&str> = Cause::all().map(Cause::title).collect();
        assert_eq!((codes.len(), titles.len()), (TABLE.len(), TABLE.len()));
        for cause in Cause::all() {
            let code = cause.code();
            assert_eq!((code.len(), Cause::of(&code), cause.row().cause), (5, Some(cause), cause));
            assert_eq!(Cause::of(&code.to_lowercase()), Some(cause));
        }
        assert_eq!((Cause::of("130"), Cause::of("E9999"), Cause::of("")), (Some(Cause::QuorumDown), None, None));
        assert_eq!((Cause::of("E+130"), Cause::of("é")), (None, None));
    }

    #[test]
    fn severities_are_ordered_by_how_bad_they_are() {
        assert!(Severity::Critical > Severity::Error && Severity::Error > Severity::Warning);
    }
}
