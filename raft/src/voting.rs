//! Voting: may this vote be granted? The same answer in every role (§3.6.1, §4.2.3, §9.6).
//!
//! A vote leaves only when it is durable; a pre-vote promises nothing and leaves at once.

use crate::message::{Body, Fence};
use crate::role::RoleState;
use crate::{HardState, Message, NodeId, Position, Raft, mutant};

impl Raft {
    /// Does this node hear a live leader other than the candidate? Then it refuses any candidate (§4.2.3). The former
    /// leader itself is not refused for its own sake: it knows best that it does not lead any more.
    pub(crate) fn is_sticky_against(&self, candidate: NodeId) -> bool {
        match &self.role {
            RoleState::Leader(leader) => !self.quorum_is_silent(leader, self.options.election_timeout_min),
            RoleState::Follower(_) => {
                self.leader().is_some_and(|leader| leader != candidate)
                    && self.leader_heard.is_some_and(|at| self.now.since(at) < self.options.election_timeout_min)
            }
            RoleState::PreCandidate(_) | RoleState::Candidate(_) => false,
        }
    }

    /// Would this node vote for `from` in the term after that of the message? Resets no timer: else one node that asks
    /// again and again could keep all others from standing.
    pub(crate) fn on_pre_vote(&mut self, from: NodeId, message: &Message, round: u64, last: Position) {
        let granted = message.term >= self.hard_state.term
            && last.is_at_least_as_up_to_date_as(self.bar_for_candidates())
            && !self.is_sticky_against(from);
        self.answer(from, message.fence, Body::PreVoteReply { round, granted });
    }

    /// One vote a term, to a candidate whose log is at least as up-to-date as this one (§3.6.1).
    pub(crate) fn on_vote(&mut self, from: NodeId, fence: Fence, last: Position) {
        let HardState { term, vote } = self.hard_state;
        let is_free = vote.is_none_or(|vote| vote == from) || mutant!(VoteTwice);
        let granted =
            is_free && self.leader().is_none() && last.is_at_least_as_up_to_date_as(self.bar_for_candidates());
        if granted {
            if vote.is_none() {
                self.set_hard_state(HardState { term, vote: Some(from) });
            }
            self.reset_election_timer();
        }
        if mutant!(VoteBeforeFsync) {
            return self.answer(from, fence, Body::VoteReply { granted });
        }
        self.answer_when_durable(from, fence, Body::VoteReply { granted });
    }
}
