//! What a leader does: propose, hear answers, commit, check its quorum (§3.5, §3.6.2, §6.2).
//!
//! It commits by counting only what it wrote in its own term, and counts itself only after its own fsync (§10.2.1).

use alloc::collections::BTreeMap;
use core::time::Duration;

use crate::message::Fence;
use crate::outbox::own_entry;
use crate::progress::{Mode, Pace, Progress};
use crate::reads::Rounds;
use crate::role::{Leader, RoleState};
use crate::{EntryKind, EntryShape, LogIndex, Mono, NodeId, Position, Raft, Reject, Run, Term, Ticket, mutant};

impl Raft {
    /// Won. The first entry of the term goes out before anything else (§6.4); for a founder it is the configuration.
    pub(crate) fn become_leader(&mut self, first: EntryKind) {
        self.role = RoleState::Leader(alloc::boxed::Box::new(Leader {
            peers: BTreeMap::new(),
            first: self.log.last().index.next(),
            since: self.now,
            rounds: Rounds::default(),
        }));
        self.reconcile_peers();
        self.append_own(first);
    }

    pub(crate) fn append_own(&mut self, kind: EntryKind) -> Position {
        let shape = own_entry(self.log.last().index.next(), self.hard_state.term, kind);
        self.append(shape)
    }

    fn append(&mut self, entry: EntryShape) -> Position {
        let position = self.log.append(self.hard_state.term, entry.bytes);
        assert_eq!(position, entry.position, "a leader appends at the end, in its own term (§3.5)");
        if let EntryKind::Configuration(configuration) = &entry.kind {
            self.configurations.append(position.index, configuration.clone());
        }
        if self.outbox.join_newest_write(&entry) {
            self.frontier.extend(position.index);
        } else {
            self.persist(None, alloc::vec![entry]);
        }
        position
    }

    pub(crate) fn propose(&mut self, ticket: Ticket, bytes: u32, term: Option<Term>) {
        if let Err(why) = self.may_propose(bytes, term) {
            return self.reject(ticket, why);
        }
        let position = Position { index: self.log.last().index.next(), term: self.hard_state.term };
        self.append(EntryShape { position, kind: EntryKind::Normal, bytes });
        self.proposals.insert(position, ticket);
        self.outbox.push(crate::Output::Accepted { ticket, position });
    }

    fn may_propose(&self, bytes: u32, term: Option<Term>) -> Result<(), Reject> {
        self.may_lead_requests()?;
        if term.is_some_and(|term| term != self.hard_state.term) {
            return Err(Reject::WrongTerm);
        }
        // What others have committed and this node's own disk still owes waits in its memory all the same.
        let settled = self.committed.min(self.frontier.last());
        // An entry larger than the bound still passes when nothing else waits: else it would be refused for ever.
        let waiting = self.log.bytes(settled, self.log.last().index);
        let too_much = !mutant!(NoUncommittedCap)
            && waiting > 0
            && waiting + u64::from(bytes) > self.options.uncommitted_bytes_max;
        if too_much || self.proposals.len() >= self.options.proposals_max {
            return Err(Reject::Overloaded);
        }
        Ok(())
    }

    /// This node leads, is not handing over, and has heard its quorum lately.
    pub(crate) fn may_lead_requests(&self) -> Result<&Leader, Reject> {
        let RoleState::Leader(leader) = &self.role else {
            return Err(Reject::NotLeader { leader: self.leader() });
        };
        // A leader on its way out finishes what it accepted, and takes no more.
        if self.transfer.is_some() || !self.configurations.current().configuration.is_voter(self.node) {
            return Err(Reject::Transferring);
        }
        if self.quorum_is_silent(leader, self.options.election_timeout_min) {
            return Err(Reject::NoQuorum);
        }
        Ok(leader)
    }

    pub(crate) fn own_term_is_committed(&self) -> bool {
        matches!(&self.role, RoleState::Leader(leader) if self.committed >= leader.first)
    }

    /// When a quorum had last answered: the moment the oldest needed answer came in.
    pub(crate) fn quorum_heard(&self, leader: &Leader) -> Mono {
        let heard = |voter| match leader.peers.get(&voter) {
            _ if voter == self.node => self.now,
            Some(progress) => progress.heard.unwrap_or(leader.since),
            None => leader.since,
        };
        self.configurations.current().configuration.agreed(heard).unwrap_or(leader.since)
    }

    /// The caller wants this node to lead no more.
    pub(crate) fn step_down(&mut self) {
        if let RoleState::Leader(_) = &self.role {
            self.become_follower(None);
        }
    }

    pub(crate) fn quorum_is_silent(&self, leader: &Leader, bound: Duration) -> bool {
        self.now.since(self.quorum_heard(leader)) >= bound
    }

    pub(crate) fn on_leader_timeout(&mut self) {
        let RoleState::Leader(leader) = &self.role else { return };
        // Check-quorum (§6.2), at each heartbeat: clients must be free to find the leader that the others may have elected.
        if self.quorum_is_silent(leader, self.options.election_timeout_max) && !mutant!(NoCheckQuorum) {
            return self.become_follower(None);
        }
        let (now, pace) = (self.now, self.pace(leader));
        let RoleState::Leader(leader) = &mut self.role else { return };
        leader.peers.retain(|_, peer| peer.departing.is_none_or(|(_, until)| now < until));
        // Those that are due soon are taken along: one turn for all peers costs little more than one for a single peer.
        let soon = now.after(self.options.heartbeat / 2);
        for peer in leader.peers.values_mut() {
            let due = pace.due(peer);
            peer.beat |= due <= soon;
            if pace.is_late(now.since(due)) {
                peer.stuttered = Some(now);
            }
        }
    }

    /// When the first heartbeat is due.
    pub(crate) fn beat_due(&self, leader: &Leader) -> Option<Mono> {
        let pace = self.pace(leader);
        leader.peers.values().map(|peer| pace.due(peer)).min()
    }

    fn pace(&self, leader: &Leader) -> Pace {
        Pace {
            last: self.log.last().index,
            busy: self.options.heartbeat,
            at_rest: self.options.heartbeat_at_rest(),
            silent: self.options.election_timeout_max,
            since: leader.since,
        }
    }

    /// The peer's progress, if this node leads and the answer is of the membership that the peer has now.
    fn answering(&mut self, from: NodeId, fence: Fence, round: u64) -> Option<&mut Progress> {
        let RoleState::Leader(leader) = &self.role else { return None };
        let pace = self.pace(leader);
        let RoleState::Leader(leader) = &mut self.role else { return None };
        let is_of_now =
            |progress: &&mut Progress| progress.admitted == fence.admitted || mutant!(EarlierMembershipCounts);
        let progress = leader.peers.get_mut(&from).filter(is_of_now)?;
        if round > leader.rounds.round {
            return None;
        }
        if progress.heard < Some(progress.beaten) && pace.is_late(self.now.since(progress.beaten)) {
            progress.stuttered = Some(self.now);
        }
        progress.heard = Some(self.now);
        progress.round = progress.round.max(round);
        Some(progress)
    }

    pub(crate) fn on_append_reply(
        &mut self,
        from: NodeId,
        fence: Fence,
        matched: LogIndex,
        verified: LogIndex,
        round: u64,
        full: bool,
    ) {
        if matched > verified || verified > self.log.last().index {
            return self.alarm(from, "acknowledged entries that this leader never sent");
        }
        let now = self.now;
        if let Some(progress) = self.answering(from, fence, round) {
            let (before, was_probed) = (progress.matched, matches!(progress.mode, Mode::Probe { .. }));
            progress.accepted(matched, verified);
            progress.set_full(full, verified);
            // What it may take goes with heartbeats: the first one at once, now that it is known what it lacks.
            progress.beat |= full && was_probed;
            if progress.matched > before {
                progress.batch_sent = now;
            }
            let knows = |(index, _)| progress.matched >= index && progress.commit_sent >= index;
            if progress.departing.is_some_and(knows)
                && let RoleState::Leader(leader) = &mut self.role
            {
                leader.peers.remove(&from);
            }
        }
    }

    pub(crate) fn on_conflict(
        &mut self,
        from: NodeId,
        fence: Fence,
        prev: LogIndex,
        last: LogIndex,
        runs: &[Run],
        round: u64,
    ) {
        let point = self.log.match_point(last, runs).min(prev.prev());
        let start = self.log.start().index;
        let Some(progress) = self.answering(from, fence, round) else { return };
        // A late refusal of something since accepted, or of something older than what is asked now, says nothing new.
        let is_late = prev <= progress.matched || prev >= progress.next;
        let is_of_another_probe = matches!(progress.mode, Mode::Probe { .. }) && prev.next() != progress.next;
        if is_late || is_of_another_probe {
            return;
        }
        let promised = (last < progress.promised).then_some(progress.promised);
        let is_news = promised.is_some() && !progress.has_lost;
        progress.has_lost |= promised.is_some();
        progress.probe_after(point);
        if progress.next <= start {
            progress.next = start.next();
            progress.mode = Mode::Behind;
        }
        if let Some(promised) = promised.and_then(|promised| self.log.position(promised)) {
            self.tell_missing(from, promised, is_news);
        }
    }

    /// After each input: whatever the new facts allow. Each step makes progress in a bounded quantity, so this ends.
    pub(crate) fn settle_leader(&mut self) {
        while self.advance_commit() {}
        self.leave_joint_phase();
        self.answer_reads();
        self.ask_heir();
        self.step_down_if_removed();
    }

    /// Counts only entries of this term (§3.6.2); what lies before them is committed with them.
    fn advance_commit(&mut self) -> bool {
        let RoleState::Leader(leader) = &self.role else { return false };
        let matched = |voter| match leader.peers.get(&voter) {
            _ if voter == self.node && mutant!(LeaderCountsUnsynced) => self.log.last().index,
            _ if voter == self.node => self.frontier.last(),
            Some(progress) => progress.matched,
            None => LogIndex::ZERO,
        };
        let Some(agreed) = self.configurations.current().configuration.agreed(matched) else { return false };
        let is_own = self.log.term_at(agreed) == Some(self.hard_state.term) || mutant!(CommitOldTermByCounting);
        if agreed <= self.committed || !is_own {
            return false;
        }
        self.commit_to(agreed);
        true
    }
}
