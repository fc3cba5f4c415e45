//! ReadIndex: a linearizable read barrier from any member (§6.4).
//!
//! A leader answers only after it has committed in its own term, and after a quorum has confirmed it since.

use crate::message::{Body, Fence};
use crate::reads::{Flight, Reader};
use crate::role::RoleState;
use crate::{LogIndex, NodeId, Output, Raft, Reject, Ticket, mutant};

impl Raft {
    pub(crate) fn read(&mut self, ticket: Ticket) {
        if let RoleState::Leader(leader) = &self.role {
            let silent = self.quorum_is_silent(leader, self.options.election_timeout_min);
            let full = leader.rounds.len() >= self.options.reads_max;
            match &mut self.role {
                _ if silent => self.reject(ticket, Reject::NoQuorum),
                _ if full => self.reject(ticket, Reject::Overloaded),
                RoleState::Leader(leader) => leader.rounds.waiting.push(Reader::Local(ticket)),
                _ => {}
            }
        } else if mutant!(FollowerRead) {
            self.outbox.push(Output::ReadReady { ticket, index: self.committed });
        } else if self.leader().is_none() {
            self.reject(ticket, Reject::NotLeader { leader: None });
        } else if self.forwards.len() >= self.options.reads_max {
            self.reject(ticket, Reject::Overloaded);
        } else {
            self.forwards.insert(ticket);
        }
    }

    /// A member asks on behalf of its reads.
    pub(crate) fn on_read_index(&mut self, from: NodeId, fence: Fence, id: u64) {
        let RoleState::Leader(leader) = &self.role else {
            return self.answer(from, fence, Body::ReadIndexReply { id, index: None });
        };
        let silent = self.quorum_is_silent(leader, self.options.election_timeout_min);
        let full = leader.rounds.len() >= self.options.reads_max;
        let is_member = self.configurations.current().configuration.is_member(from);
        if silent || full || !is_member {
            return self.answer(from, fence, Body::ReadIndexReply { id, index: None });
        }
        if let RoleState::Leader(leader) = &mut self.role {
            leader.rounds.insert_remote(from, fence.from_boot, id);
        }
    }

    pub(crate) fn on_read_index_reply(&mut self, from: NodeId, id: u64, index: Option<LogIndex>) {
        if self.leader() != Some(from) {
            return;
        }
        for ticket in self.forwards.answered(id) {
            match index {
                Some(index) => self.outbox.push(Output::ReadReady { ticket, index }),
                None => self.reject(ticket, Reject::NoQuorum),
            }
        }
    }

    /// Ends the round that a quorum has confirmed, and begins the next for the reads that have come since.
    pub(crate) fn answer_reads(&mut self) {
        let own_term_is_committed = self.own_term_is_committed() || mutant!(ReadBeforeOwnTerm);
        loop {
            let RoleState::Leader(leader) = &mut self.role else { return };
            if leader.rounds.flight.is_none() {
                if leader.rounds.waiting.is_empty() || !own_term_is_committed {
                    return;
                }
                let readers = core::mem::take(&mut leader.rounds.waiting);
                leader.rounds.round += 1;
                leader.rounds.flight = Some(Flight { index: self.committed, readers });
                for peer in leader.peers.values_mut() {
                    peer.beat = true;
                }
            }
            let confirmed = |voter| match leader.peers.get(&voter) {
                _ if voter == self.node => leader.rounds.round,
                Some(progress) => progress.round,
                None => 0,
            };
            let agreed = self.configurations.current().configuration.agreed(confirmed);
            let asked = if mutant!(ReadByEarlierRound) { leader.rounds.round - 1 } else { leader.rounds.round };
            if agreed.is_none_or(|round| round < asked) && !mutant!(ReadWithoutQuorum) {
                return;
            }
            let Some(Flight { index, readers }) = leader.rounds.flight.take() else { return };
            for reader in readers {
                self.answer_reader(reader, index);
            }
        }
    }

    fn answer_reader(&mut self, reader: Reader, index: LogIndex) {
        match reader {
            Reader::Local(ticket) => self.outbox.push(Output::ReadReady { ticket, index }),
            Reader::Remote { peer, boot, id } => {
                let mut message = self.envelope(peer, Body::ReadIndexReply { id, index: Some(index) });
                message.fence.to_boot = boot;
                self.outbox.push(Output::Send { to: peer, message });
            }
        }
    }
}
