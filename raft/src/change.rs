//! Change: who votes and who learns, through joint consensus, left automatically (§4.3).
//!
//! One change at a time, and none before the leader has committed in its own term: else two leaders could each decide
//! on half a change (Ongaro's note of 2015).

use alloc::collections::BTreeSet;

use crate::progress::Progress;
use crate::role::RoleState;
use crate::{EntryKind, LogIndex, NodeId, Raft, Reject, Ticket, mutant};

impl Raft {
    pub(crate) fn change(
        &mut self,
        ticket: Ticket,
        expected: LogIndex,
        voters: BTreeSet<NodeId>,
        learners: BTreeSet<NodeId>,
    ) {
        if let Err(why) = self.may_change(expected) {
            return self.reject(ticket, why);
        }
        let Some(next) = self.configurations.current().configuration.toward(voters, learners) else {
            return self.reject(ticket, Reject::IllegalConfiguration);
        };
        let joint = next.is_joint();
        let position = self.append_own(EntryKind::Configuration(next));
        self.proposals.insert_change(position, joint, ticket);
        self.outbox.push(crate::Output::Accepted { ticket, position });
        self.reconcile_peers();
    }

    fn may_change(&self, expected: LogIndex) -> Result<(), Reject> {
        self.may_lead_requests()?;
        let current = self.configurations.current();
        let in_flight = current.configuration.is_joint() || current.index > self.committed && !mutant!(TwoChanges);
        if in_flight || !(self.own_term_is_committed() || mutant!(ChangeBeforeOwnTerm)) {
            return Err(Reject::ChangeInProgress);
        }
        if current.index != expected {
            return Err(Reject::ConfigurationChanged);
        }
        Ok(())
    }

    /// The joint configuration is committed, so the final one may be appended: by whoever leads, exactly once, since
    /// it is in force from then on.
    pub(crate) fn leave_joint_phase(&mut self) {
        let current = self.configurations.current();
        let is_committed = current.index <= self.committed || mutant!(JointLeftEarly);
        let is_due = current.configuration.is_joint() && is_committed;
        // During a transfer it waits: it would put this log ahead of the heir's.
        if is_due && self.own_term_is_committed() && self.transfer.is_none() {
            let next = current.configuration.leave();
            self.append_own(EntryKind::Configuration(next));
            self.reconcile_peers();
        }
    }

    /// The peers of a leader are the other members of the configuration in force, and those that are just leaving.
    pub(crate) fn reconcile_peers(&mut self) {
        let current = self.configurations.current();
        let until = self.now.after(self.options.election_timeout_max);
        let next = self.log.last().index.next();
        let RoleState::Leader(leader) = &mut self.role else { return };
        for (&member, &admitted) in current.admitted.iter().filter(|(member, _)| **member != self.node) {
            let known = leader.peers.get(&member).is_some_and(|peer| peer.admitted == admitted);
            if !known {
                // Nothing of an earlier membership is carried over: the peer may have lost its disk in between.
                leader.peers.insert(member, Progress::new(admitted, next));
            }
        }
        for (member, progress) in &mut leader.peers {
            if !current.admitted.contains_key(member) {
                // It counts no more, but is told of its removal, so that it need not find out by silence.
                progress.departing.get_or_insert((current.index, until));
            }
        }
    }

    /// A leader that does not vote any more hands over when the final configuration is committed (§4.2.2), and all
    /// else that it accepted: as a stranger to the group it would not hear how that ends.
    pub(crate) fn step_down_if_removed(&mut self) {
        let current = self.configurations.current();
        let is_final = !current.configuration.is_joint() && self.log.last().index == self.committed;
        if !matches!(self.role, RoleState::Leader(_)) || !is_final || current.configuration.is_voter(self.node) {
            return;
        }
        // The last word first: the others learn that it is committed, and one of them need not wait for a timeout.
        self.plan_sends();
        if let Some(heir) = self.best_heir() {
            self.send_timeout_now(heir);
        }
        self.become_follower(None);
    }
}
