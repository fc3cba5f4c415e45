//! What a candidate does: ask whether an election could be won, then stand for it (§3.4, §9.6).
//!
//! It asks for no vote before its own vote and its whole log are durable: a grant answers a request, and must not
//! outlive the log that the request told of.

use alloc::collections::BTreeSet;
use core::time::Duration;

use crate::message::{Body, Fence};
use crate::outbox::Needs;
use crate::role::{Candidate, PreCandidate, RoleState, Tally};
use crate::{EntryKind, HardState, NodeId, PersistTicket, Position, Raft, mutant};

impl Raft {
    pub(crate) fn reset_election_timer(&mut self) {
        let wait = self.prng.between(self.options.election_timeout_min, self.options.election_timeout_max);
        self.election_due = Some(self.now.after(wait + self.hesitation()));
    }

    /// How much longer than others a reluctant node waits: everyone else has had its turn by then, and one that lost a
    /// split vote a second one.
    pub(crate) fn hesitation(&self) -> Duration {
        if self.reluctant { self.options.election_timeout_max * 2 } else { Duration::ZERO }
    }

    /// The caller found this node fit, or unfit, to lead.
    pub(crate) fn set_reluctant(&mut self, reluctant: bool) {
        let changed = core::mem::replace(&mut self.reluctant, reluctant) != reluctant;
        if changed && self.election_due.is_some() && matches!(self.role, RoleState::Follower(_)) {
            self.reset_election_timer();
        }
    }

    pub(crate) fn on_election_timeout(&mut self) {
        if !self.configurations.may_stand(self.node, self.committed) {
            // Nothing to stand for: forget the silent leader and wait for one that speaks.
            self.become_follower(None);
            self.election_due = None;
            return;
        }
        let owes = self.frontier.last() < self.log.last().index;
        if !self.is_whole() || owes {
            // Others may win with its vote; it waits until it is whole. While its disk owes a part of its log it could ask
            // for no vote, only move the terms of those who can.
            self.become_follower(None);
            return self.reset_election_timer();
        }
        if self.is_elected_by(&BTreeSet::from([self.node])) {
            return self.stand(false);
        }
        self.pre_vote_round += 1;
        let round = self.pre_vote_round;
        let tally = Tally { granted: BTreeSet::from([self.node]) };
        self.role = RoleState::PreCandidate(PreCandidate { round, tally });
        self.reset_election_timer();
        let last = self.log.last();
        for to in self.other_voters() {
            let message = self.envelope(to, Body::PreVote { round, last });
            self.outbox.push(crate::Output::Send { to, message });
        }
    }

    pub(crate) fn on_pre_vote_reply(&mut self, from: NodeId, fence: Fence, round: u64, granted: bool) {
        if !self.admission_holds(from, fence) {
            return;
        }
        if granted && mutant!(PreVoteCountsAsVote) {
            self.count_vote(from);
        }
        let RoleState::PreCandidate(candidate) = &mut self.role else { return };
        if candidate.round != round || !granted {
            return;
        }
        candidate.tally.granted.insert(from);
        let granted = candidate.tally.granted.clone();
        if self.is_elected_by(&granted) {
            self.stand(false);
        }
    }

    /// Stand for election in the next term. `transfer`: the leader asked for it.
    pub(crate) fn stand(&mut self, transfer: bool) {
        self.become_follower(None);
        let vote = HardState { term: self.hard_state.term.next(), vote: Some(self.node) };
        let ticket = self.set_hard_state(vote);
        self.role = RoleState::Candidate(Candidate { ticket, tally: Tally::default() });
        self.reset_election_timer();
        // The write just issued is the newest, and writes become durable in order: with it, all of the log is.
        let last = self.log.last();
        for to in self.other_voters() {
            let message = self.envelope(to, Body::Vote { last, transfer });
            if mutant!(VoteRequestBeforeFsync) {
                self.outbox.push(crate::Output::Send { to, message });
                continue;
            }
            self.outbox.hold(ticket, Needs::Everything, to, message);
        }
    }

    pub(crate) fn on_own_vote_durable(&mut self, durable: PersistTicket) {
        if let RoleState::Candidate(candidate) = &mut self.role
            && durable >= candidate.ticket
        {
            self.count_vote(self.node);
        }
    }

    pub(crate) fn on_vote_reply(&mut self, from: NodeId, fence: Fence, granted: bool) {
        if granted && self.admission_holds(from, fence) {
            self.count_vote(from);
        }
    }

    fn count_vote(&mut self, voter: NodeId) {
        let RoleState::Candidate(candidate) = &mut self.role else { return };
        candidate.tally.granted.insert(voter);
        let granted = candidate.tally.granted.clone();
        if self.is_elected_by(&granted) {
            self.become_leader(EntryKind::Noop);
        }
    }

    /// `TimeoutNow` (§3.10): the leader hands over. Refused unless everything it counts on is durable here.
    pub(crate) fn on_timeout_now(&mut self, from: NodeId, last: Position) {
        let is_ready = self.leader() == Some(from)
            && self.is_whole()
            && self.configurations.current().configuration.is_voter(self.node)
            && (self.log.last().is_at_least_as_up_to_date_as(last) && self.frontier.last() >= last.index
                || mutant!(TransferToOneBehind));
        if is_ready && !matches!(self.role, RoleState::Leader(_)) {
            self.stand(true);
        }
    }

    fn is_elected_by(&self, granted: &BTreeSet<NodeId>) -> bool {
        self.configurations.current().configuration.agreed(|voter| granted.contains(&voter)) == Some(true)
    }

    fn admission_holds(&self, from: NodeId, fence: Fence) -> bool {
        self.configurations.current().admitted.get(&from) == Some(&fence.admitted) || mutant!(EarlierMembershipCounts)
    }

    fn other_voters(&self) -> BTreeSet<NodeId> {
        let configuration = &self.configurations.current().configuration;
        configuration.voters.union(&configuration.outgoing).copied().filter(|&voter| voter != self.node).collect()
    }
}
