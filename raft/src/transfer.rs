//! Transfer: leadership handed over on purpose (§3.10).
//!
//! It never outlasts one election timeout: then the old leader serves again.

use crate::message::Body;
use crate::role::RoleState;
use crate::{LogIndex, Mono, NodeId, Outcome, Output, Position, Raft, Reject, Term, Ticket, mutant};

#[derive(Clone, Copy, Debug)]
pub(crate) struct Transfer {
    pub(crate) ticket: Ticket,
    pub(crate) heir: NodeId,
    pub(crate) deadline: Mono,
    /// The term that is being handed over.
    pub(crate) term: Term,
    /// The heir was asked to stand.
    pub(crate) asked: bool,
}

impl Raft {
    pub(crate) fn transfer_to(&mut self, ticket: Ticket, to: Option<NodeId>) {
        let RoleState::Leader(_) = &self.role else {
            return self.reject(ticket, Reject::NotLeader { leader: self.leader() });
        };
        if self.transfer.is_some() {
            return self.reject(ticket, Reject::Transferring);
        }
        if to == Some(self.node) {
            return self.done(ticket, Outcome::Committed { position: Position::ZERO });
        }
        let is_voter = |heir: &NodeId| self.configurations.current().configuration.voters.contains(heir);
        let Some(heir) = to.or_else(|| self.best_heir()).filter(is_voter) else {
            return self.reject(ticket, Reject::BadHeir);
        };
        let deadline = self.now.after(self.options.election_timeout_max);
        self.transfer = Some(Transfer { ticket, heir, deadline, term: self.hard_state.term, asked: false });
    }

    /// The voter that has room and most of the log, and of those the one that answered last.
    pub(crate) fn best_heir(&self) -> Option<NodeId> {
        let RoleState::Leader(leader) = &self.role else { return None };
        let configuration = &self.configurations.current().configuration;
        let heirs = leader.peers.iter().filter(|(peer, _)| configuration.voters.contains(peer));
        heirs.max_by_key(|(_, progress)| (!progress.full, progress.matched, progress.heard)).map(|(&peer, _)| peer)
    }

    /// Once everything is durable at the heir, it is asked to stand.
    pub(crate) fn ask_heir(&mut self) {
        let last = self.log.last().index;
        let RoleState::Leader(leader) = &self.role else { return };
        let matched = |heir| leader.peers.get(&heir).map_or(LogIndex::ZERO, |progress| progress.matched);
        let is_ready = |heir| matched(heir) == last || mutant!(TransferToOneBehind);
        if let Some(transfer) = self.transfer.filter(|transfer| !transfer.asked && is_ready(transfer.heir)) {
            self.transfer = Some(Transfer { asked: true, ..transfer });
            self.send_timeout_now(transfer.heir);
        }
    }

    pub(crate) fn send_timeout_now(&mut self, heir: NodeId) {
        let message = self.envelope(heir, Body::TimeoutNow { last: self.log.last() });
        self.outbox.push(Output::Send { to: heir, message });
    }

    /// Another leader is known: it is the heir, or the transfer failed.
    pub(crate) fn settle_transfer(&mut self) {
        let (Some(transfer), Some(leader)) = (self.transfer, self.leader()) else { return };
        if self.hard_state.term > transfer.term {
            self.transfer = None;
            let heir_leads = leader == transfer.heir;
            let outcome = if heir_leads {
                Outcome::Committed { position: Position::ZERO }
            } else {
                Outcome::Rejected(Reject::BadHeir)
            };
            self.done(transfer.ticket, outcome);
        }
    }

    /// One election timeout has passed: the heir did not catch up or did not win, and this node may serve again.
    pub(crate) fn expire_transfer(&mut self) {
        if let Some(transfer) = self.transfer.take_if(|transfer| transfer.deadline <= self.now) {
            self.reject(transfer.ticket, Reject::HeirLate { asked: transfer.asked });
        }
    }
}
