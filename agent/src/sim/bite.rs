//! Bite: does the simulator catch a deliberate bug, and by which promise?
//!
//! It judges nothing itself: worlds are drawn and run as always, with one bug chosen for the thread.

use super::{Faults, Invariant, Plan, run};
use quorate_raft::mutants::{Mutant, choose, reached};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Where a mutant is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Harness {
    /// In drawn worlds of whole agents.
    Worlds,
    /// In drawn worlds with faults of members only: there seats are handed on, zones and versions differ.
    Churn,
    /// In tests of the Raft crate whose name holds this: what it breaks can only be seen beside a lying peer or a rotten
    /// disk, which drawn worlds have none of.
    Stories(&'static str),
    /// In stories of this crate whose name holds this: what it breaks is a refusal, of which nobody but its operator hears.
    Tales(&'static str),
    /// In every state of the protocol that founds logs together, within bounds.
    Explored,
}

/// Where this mutant is looked for.
#[must_use]
pub fn harness(mutant: Mutant) -> Harness {
    match mutant {
        // It takes a liar, an answer across two lives, or a lost end of a log.
        Mutant::TruncateBelowCommit => Harness::Stories("lives::what_is_committed_is_never_truncated"),
        Mutant::EarlierLifeCounts => Harness::Stories("lives::an_acknowledgement_of_an_earlier_life"),
        Mutant::EarlierMembershipCounts => Harness::Stories("membership::an_answer_from_an_earlier_membership"),
        Mutant::SuspectNotPersisted => Harness::Stories("damage::what_a_leader_remembers"),
        Mutant::SuspectIgnoredByVotes => Harness::Stories("damage::the_vote_of_a_disk"),
        Mutant::UnreadableCompared => Harness::Stories("damage::a_guessed_term_is_no_agreement"),
        Mutant::BlindCutWithoutBar => Harness::Stories("damage::what_is_dropped_unread"),
        Mutant::UnreadableTold => Harness::Stories("damage::what_most_cannot_read"),
        Mutant::DamagedLeads => Harness::Stories("damage::a_node_that_cannot_read_its_log"),
        // Nothing is ever read behind the end of an earlier life: only the length of the file tells.
        Mutant::TornTailKept => Harness::Stories("exact::a_torn_tail_is_cut_to_the_byte"),
        // And these a rotten disk, or a peer that gives something else.
        Mutant::RepairUnchained => Harness::Stories("repair::only_what_stood_there_is_taken"),
        Mutant::MiddleCut => Harness::Stories("damage::every_flipped_bit_is_named"),
        Mutant::ChecksumIgnored => Harness::Stories("damage::every_flipped_bit_is_named"),
        Mutant::ChecksumUnseeded => Harness::Stories("decode::a_frame_is_bound_to_its_place"),
        Mutant::PledgeUnsynced
        | Mutant::PledgeTwice
        | Mutant::CertificateOfMajority
        | Mutant::ReleasedWithoutProof
        | Mutant::VoteNotTold
        | Mutant::SilenceIsEmpty => Harness::Explored,
        // The autopilot asks for nothing so early, whatever the core would take.
        Mutant::ChangeBeforeOwnTerm => Harness::Stories("membership::changes_are_one_at_a_time"),
        // Worlds come by them, and need luck beyond the budget: the story has it.
        Mutant::VoteForgottenByStart => Harness::Stories("lives::a_start_remembers_its_vote"),
        Mutant::UpToDateByIndexOnly => Harness::Stories("election::a_candidate_with_an_older_log"),
        Mutant::ConfigurationNotReverted => Harness::Stories("reverts_with_its_entry"),
        Mutant::MetaWrittenOnce => Harness::Stories("damage::a_vote_outlives_either_copy"),
        Mutant::ReadWithoutQuorum => Harness::Stories("reads::a_deposed_leader_never_answers"),
        Mutant::ReadByEarlierRound => Harness::Stories("reads::delayed_answers_validate_no_later_read"),
        Mutant::ReplacedTooSoon | Mutant::RemovedUnreplaced | Mutant::LevelRaisedAlone | Mutant::OldProgramAdmitted => {
            Harness::Churn
        }
        // Any spare is as good for safety: the stories say who should have the seat, and when.
        Mutant::ZonesIgnored => Harness::Tales("replacing::voters_are_spread"),
        Mutant::FlapperPromoted => Harness::Tales("flapping::a_spare_that_flaps"),
        Mutant::StabilityWaived => Harness::Tales("flapping::an_election_neither"),
        // It takes a quick network and a member that is called failed again and again: `no-storm` ends that world.
        Mutant::HintsFollowedAtOnce => Harness::Tales("storming::who_is_called_failed"),
        // What is refused leaves no trace in a world: the next guard stands behind it.
        Mutant::DrainsTheQuorum => Harness::Tales("draining::what_would_stop_with_it"),
        Mutant::LaggardCounts => Harness::Tales("draining::a_voter_that_lags"),
        Mutant::DrainedLeads | Mutant::DrainedServes => Harness::Tales("draining::a_drained_leader_hands_over"),
        Mutant::RemovesTheQuorum | Mutant::DemotesTheQuorum => Harness::Tales("operating::what_would_break_the_quorum"),
        Mutant::PromotesToEven | Mutant::DemotesToEven => Harness::Tales("operating::seats_given_by_operators"),
        _ => Harness::Worlds,
    }
}

/// What came of one world with a bug in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bite {
    /// Every promise was kept; the place of the bug was reached so often.
    Missed {
        /// How often.
        reached: u64,
    },
    /// A promise was broken.
    Caught {
        /// Which.
        by: Invariant,
        /// How.
        what: String,
    },
}

/// Runs one world with this bug. A broken assertion of an agent counts as [`Invariant::OwnAssertion`] where panics
/// unwind; where they abort, the process of the caller ends with it.
#[must_use]
pub fn bite(mutant: Option<Mutant>, seed: u64) -> Bite {
    let is_churn = mutant.is_some_and(|mutant| harness(mutant) == Harness::Churn);
    let plan = Plan::draw_with(seed, if is_churn { Faults::Membership } else { Faults::All });
    choose(mutant);
    let report = catch_unwind(AssertUnwindSafe(|| run(plan, false)));
    let reached = reached();
    choose(None);
    match report.map(|report| report.violation) {
        Ok(None) => Bite::Missed { reached },
        Ok(Some(violation)) => Bite::Caught { by: violation.invariant, what: violation.what },
        Err(_) => Bite::Caught { by: Invariant::OwnAssertion, what: "an agent broke its own assertion".into() },
    }
}

/// Runs worlds until one of them shows the bug: how many it took, and by which promise.
#[must_use]
pub fn hunt(mutant: Mutant, seeds: Range<u64>) -> Option<(u64, Invariant)> {
    (1..).zip(seeds).find_map(|(n, seed)| match bite(Some(mutant), seed) {
        Bite::Caught { by, .. } => Some((n, by)),
        Bite::Missed { .. } => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A few of the table, each from another room, as part of a quick test run; and the one that guards the harness.
    #[test]
    fn deliberate_bugs_are_caught() {
        assert_eq!(hunt(Mutant::Canary, 0..1).map(|(n, _)| n), Some(1), "the harness is blind");
        let by = |mutant, seeds| hunt(mutant, 0..seeds).map(|(_, by)| by);
        assert_eq!(by(Mutant::AckReceived, 20), Some(Invariant::AckDurable));
        assert_eq!(by(Mutant::VoteBeforeFsync, 20), Some(Invariant::VoteDurable));
        assert_eq!(by(Mutant::JointLeftEarly, 20), Some(Invariant::OneConfiguration));
        assert_eq!(by(Mutant::FollowerRead, 20), Some(Invariant::RealTime));
        assert_eq!(by(Mutant::ReplacedTooSoon, 20), Some(Invariant::SafeQuorum));
        assert_eq!(by(Mutant::LevelRaisedAlone, 20), Some(Invariant::LevelForAll));
    }
}
