//! What a follower does: append, acknowledge what is durable, answer votes (§3.4, §3.5).
//!
//! It never acknowledges from memory of what it received: every ack is computed from the durable frontier when it goes.

use alloc::vec::Vec;

use crate::message::{Body, Fence};
use crate::role::{Ack, Follower, Following, RoleState};
use crate::{EntryKind, EntryShape, Halt, LogIndex, NodeId, Position, Raft, mutant};

impl Raft {
    /// An append of this term came from `from`: it leads. False if that cannot be.
    pub(crate) fn follow(&mut self, from: NodeId, fence: Fence, round: u64) -> bool {
        if self.contradicted == Some((from, self.hard_state.term)) {
            // Its word was refused, with an alarm; nothing that it says in this term can be right.
            return false;
        }
        let known = match &mut self.role {
            RoleState::Leader(_) => {
                self.alarm(from, "leads in the very term in which this node leads; its vote or ours was given twice");
                return false;
            }
            RoleState::Follower(follower) => follower.following.as_mut(),
            RoleState::PreCandidate(_) | RoleState::Candidate(_) => None,
        };
        match known {
            Some(following) if following.leader != from => {
                self.alarm(from, "leads in a term that has another leader; a vote was given twice");
                return false;
            }
            Some(following) => {
                following.leader_boot = fence.from_boot;
                following.admitted = fence.admitted;
                if round > following.round {
                    following.round = round;
                    following.ack = Ack::Now;
                }
            }
            None => self.become_follower(Some(Following {
                leader: from,
                leader_boot: fence.from_boot,
                admitted: fence.admitted,
                // Leader completeness (§3.6.3): whoever leads a term has every entry committed before it.
                verified: self.committed,
                acked: LogIndex::ZERO,
                round,
                ack: if round > 0 { Ack::Now } else { Ack::None },
            })),
        }
        self.leader_heard = Some(self.now);
        self.led_at = self.now;
        self.reset_election_timer();
        true
    }

    pub(crate) fn on_append(
        &mut self,
        prev: Position,
        last: Position,
        commit: LogIndex,
        quiet: bool,
        entries: Vec<EntryShape>,
    ) {
        if !self.agrees_with(prev) {
            return self.on_mismatch(prev);
        }
        let (entries, last, is_cut) = self.cut_to_room(prev, last, entries);
        let is_heartbeat = entries.is_empty() || is_cut;
        let too_early = is_heartbeat && mutant!(AckEmptyAppend)
            || !is_heartbeat && last.index <= self.log.last().index && mutant!(AckDuplicateAppend);
        if !self.take(entries) {
            return;
        }
        let durable = self.frontier.last();
        let RoleState::Follower(follower) = &mut self.role else { return };
        let Some(following) = &mut follower.following else { return };
        following.verified = following.verified.max(last.index);
        let verified = following.verified;
        if too_early {
            return self.ack_what_was_received();
        }
        if !quiet {
            let nothing_to_wait_for = is_heartbeat || verified <= durable;
            following.ack = match following.ack {
                Ack::None | Ack::WhenDurable if nothing_to_wait_for => Ack::Now,
                Ack::None => Ack::WhenDurable,
                owed => owed,
            };
        }
        // Never past what is known to equal the leader's log: a longer tail of ours may differ (§3.5).
        self.told |= commit <= verified;
        self.commit_to(if mutant!(CommitPastMatched) { commit } else { commit.min(verified) });
    }

    /// Does this log hold that entry? What lies before its start was committed, so a leader has it.
    fn agrees_with(&self, prev: Position) -> bool {
        prev.index < self.log.start().index || self.holds(prev)
    }

    /// The leader's entry at this place, and this log's, are one. Of what cannot be read, only what is settled is.
    fn holds(&self, entry: Position) -> bool {
        if self.is_unknown(entry.index) {
            return entry.index <= self.verified().max(self.committed);
        }
        self.log.term_at(entry.index) == Some(entry.term)
    }

    fn on_mismatch(&mut self, prev: Position) {
        let RoleState::Follower(follower) = &self.role else { return };
        let Some(following) = &follower.following else { return };
        let (leader, verified, round) = (following.leader, following.verified, following.round);
        let fence = Fence { admitted: following.admitted, from_boot: following.leader_boot, ..Fence::default() };
        if prev.index <= self.committed {
            return self.contradict(leader, prev.index);
        }
        if prev.index <= verified {
            return self.alarm_leader("tells two histories in one term");
        }
        // The whole latest shape of this log, so that the leader finds the match point in one round trip.
        let told = self.unreadable_from(prev.index).map_or(prev.index, LogIndex::prev);
        let (last, runs) = self.log.latest_runs(told, self.options.conflict_runs_max);
        self.answer_when_durable(leader, fence, Body::Conflict { prev: prev.index, last, runs, round });
    }

    /// Appends what is new; drops our tail only where it really differs, since a duplicate or late append must never
    /// remove what was already acknowledged. False if nothing was taken because it must not be.
    fn take(&mut self, entries: Vec<EntryShape>) -> bool {
        let held = |entry: &EntryShape| entry.position.index <= self.log.start().index || self.holds(entry.position);
        let is_kept = |entry: &EntryShape| held(entry) && !self.truncates_on_receipt(entry);
        let mut new: Vec<_> = entries.into_iter().skip_while(is_kept).collect();
        if new.first().is_some_and(|entry| self.is_unknown(entry.position.index)) {
            // One entry behind the range that is the same in both logs makes all before it the same (§3.5).
            let proven = new.iter().rposition(|entry| is_kept(entry) && !self.is_unknown(entry.position.index));
            new.drain(..proven.map_or(0, |at| at + 1));
        }
        let Some(Position { index: first, term }) = new.first().map(|entry| entry.position) else { return true };
        if self.log.term_at(first.prev()).is_some_and(|before| term < before) {
            // Only possible across the start of this log, where `prev` could not be compared.
            self.alarm_leader("sent entries of an older term than what is committed before them");
            return false;
        }
        if self.is_unknown(first.prev()) {
            // The log could not go on behind what cannot be read: it is repaired first.
            return false;
        }
        let truncate_from = (first <= self.log.last().index).then_some(first);
        if let Some(from) = truncate_from {
            if from <= self.committed && !mutant!(TruncateBelowCommit) {
                self.contradict_leader(from);
                return false;
            }
            if from <= self.verified() && !mutant!(TruncateOnReceipt) {
                self.alarm_leader("tells two histories in one term");
                return false;
            }
        }
        if !self.is_legal_chain(first, &new) {
            self.alarm_leader("sent a configuration that does not follow from the one before it");
            return false;
        }
        let mut bar = None;
        if let Some(from) = truncate_from {
            bar = self.cut_damage(from);
            self.log.truncate(from);
            if !mutant!(ConfigurationNotReverted) {
                self.configurations.revert(from);
            }
        }
        for entry in &new {
            let position = self.log.append(entry.position.term, entry.bytes);
            if let EntryKind::Configuration(configuration) = &entry.kind {
                self.configurations.append(position.index, configuration.clone());
            }
        }
        match truncate_from {
            Some(from) => self.persist_cut(from, new, bar),
            None => self.persist(None, new),
        };
        true
    }

    /// Two mutants: an ack that is computed from what came in, as it came in.
    fn ack_what_was_received(&mut self) {
        let RoleState::Follower(Follower { following: Some(following) }) = &self.role else { return };
        let (leader, matched, round) = (following.leader, following.verified, following.round);
        let fence = Fence { admitted: following.admitted, from_boot: following.leader_boot, ..Fence::default() };
        self.answer(leader, fence, Body::AppendReply { matched, verified: matched, round, full: !self.has_room });
    }

    fn truncates_on_receipt(&self, entry: &EntryShape) -> bool {
        entry.position.index > self.committed && mutant!(TruncateOnReceipt)
    }

    /// Is each configuration among these entries one step from the one before it (§4.3)? Else a majority of one could
    /// decide without any member of another.
    fn is_legal_chain(&self, first: LogIndex, entries: &[EntryShape]) -> bool {
        // One that cannot be read may stand between them.
        let hides_one = |at: LogIndex| self.unreadable.iter().any(|(from, to)| *to > at && *from < first);
        let before = self.configurations.before(first).filter(|(at, _)| !hides_one(*at));
        let mut before = before.map(|(_, configuration)| configuration);
        entries.iter().all(|entry| match &entry.kind {
            EntryKind::Configuration(next) => before.replace(next).is_none_or(|before| before.may_precede(next)),
            EntryKind::Normal | EntryKind::Noop => true,
        })
    }

    /// A leader contradicts what is committed here. Leader completeness (§3.6.3) says that no leader can: it lies, or
    /// this node's own state is wrong. One member's word does not decide that: it is refused, and is no leader of this
    /// node in this term. When a second member says the same, this node stops.
    fn contradict(&mut self, leader: NodeId, index: LogIndex) {
        match self.contradicted {
            Some((first, _)) if first != leader => self.halt(Halt::ConflictBelowCommit { index }),
            _ => {
                self.contradicted = Some((leader, self.hard_state.term));
                self.alarm(leader, "contradicts, as a leader, what is committed here; its log or this node's is wrong");
                self.leader_heard = None;
                self.become_follower(None);
            }
        }
    }

    fn contradict_leader(&mut self, index: LogIndex) {
        if let Some(leader) = self.leader() {
            self.contradict(leader, index);
        }
    }

    /// Up to here this log equals that of the leader it follows.
    fn verified(&self) -> LogIndex {
        match &self.role {
            RoleState::Follower(Follower { following: Some(following) }) => following.verified,
            _ => LogIndex::ZERO,
        }
    }

    fn alarm_leader(&mut self, what: &'static str) {
        if let Some(leader) = self.leader() {
            self.alarm(leader, what);
        }
    }

    /// The frontier moved: an ack that waited for it is owed now. One per fsync, however many appends it covered.
    pub(crate) fn on_frontier_moved(&mut self) {
        let durable = self.frontier.last();
        if let RoleState::Follower(follower) = &mut self.role
            && let Some(following) = &mut follower.following
            && following.ack == Ack::WhenDurable
            && following.verified.min(durable) > following.acked
        {
            following.ack = Ack::Now;
        }
    }

    /// The one ack that is owed, if any, and the one read request.
    pub(crate) fn plan_answers(&mut self) {
        let durable = self.frontier.last();
        let term_is_durable = self.frontier.hard_state().term == self.hard_state.term;
        let RoleState::Follower(follower) = &mut self.role else { return };
        let Some(following) = &mut follower.following else { return };
        let leader = following.leader;
        let fence = Fence { admitted: following.admitted, from_boot: following.leader_boot, ..Fence::default() };
        if following.ack == Ack::Now && term_is_durable {
            let matched = if mutant!(AckReceived) { following.verified } else { following.verified.min(durable) };
            let full = !self.has_room;
            let body = Body::AppendReply { matched, verified: following.verified, round: following.round, full };
            following.acked = matched;
            following.ack = if following.verified > durable { Ack::WhenDurable } else { Ack::None };
            self.answer(leader, fence, body);
        }
        // Heartbeats keep this going: what was lost is asked again with one of the next.
        if let Some(id) = self.forwards.next_request(self.now, self.options.heartbeat * 2) {
            self.answer(leader, fence, Body::ReadIndex { id });
        }
    }
}
