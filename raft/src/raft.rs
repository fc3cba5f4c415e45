//! Raft, the conductor: the world's inputs in, orders out; the term rule (§3.3), then one match on what was said.
//!
//! It computes nothing itself: log, frontier, progress, quorum and reads do.

use alloc::collections::BTreeMap;

use crate::configuration::Configurations;
use crate::frontier::Frontier;
use crate::message::{Body, Fence};
use crate::missing::Bar;
use crate::outbox::{Needs, Outbox};
use crate::proposals::Proposals;
use crate::reads::Forwards;
use crate::role::{Follower, RoleState};
use crate::transfer::Transfer;
use crate::{
    BootId, Configuration, EntryKind, EntryShape, Halt, HardState, Input, Log, LogIndex, Message, Mono, NodeId, Now,
    Options, Outcome, Output, Persist, PersistTicket, Position, Reject, Role, Suspect, Term, Ticket, mutant,
    prng::Prng,
};

/// One member of a Raft group, as a machine of inputs and outputs: no clock, no IO, no threads, no payload bytes.
///
/// The caller hands every event to [`handle`](Self::handle), then drains [`poll_output`](Self::poll_output) until it
/// is empty, and calls `handle` with [`Input::Timeout`] when [`poll_timeout`](Self::poll_timeout) is due.
#[derive(Clone, Debug)]
pub struct Raft {
    pub(crate) options: Options,
    pub(crate) node: NodeId,
    pub(crate) boot: BootId,
    pub(crate) now: Mono,
    pub(crate) prng: Prng,
    pub(crate) hard_state: HardState,
    pub(crate) log: Log,
    pub(crate) configurations: Configurations,
    pub(crate) committed: LogIndex,
    pub(crate) frontier: Frontier,
    pub(crate) outbox: Outbox,
    pub(crate) role: RoleState,
    /// When to stand for election; for a node without a vote: when to forget a silent leader.
    pub(crate) election_due: Option<Mono>,
    /// Any other leader is better than this node.
    pub(crate) reluctant: bool,
    /// The disk takes entries.
    pub(crate) has_room: bool,
    /// When the leader of this term was last heard.
    pub(crate) leader_heard: Option<Mono>,
    /// The life of each peer, as its link has proven it.
    pub(crate) boots: BTreeMap<NodeId, BootId>,
    pub(crate) proposals: Proposals,
    pub(crate) forwards: Forwards,
    pub(crate) transfer: Option<Transfer>,
    pub(crate) pre_vote_round: u64,
    pub(crate) halted: Option<Halt>,
    /// What this disk has lost of what it may have acknowledged.
    pub(crate) lost: Option<Bar>,
    /// Entries inside the log that cannot be read: the first and the last one of each range, ascending.
    pub(crate) unreadable: alloc::vec::Vec<(LogIndex, LogIndex)>,
    /// No better member is to be had for these.
    pub(crate) irreparable: bool,
    /// A member that, as a leader, contradicted what is committed here, and the term in which it did. One member can lie;
    /// the second one that says the same makes it this node's own state that cannot be trusted.
    pub(crate) contradicted: Option<(NodeId, Term)>,
    /// When this node last heard a leader, led, or started.
    pub(crate) led_at: Mono,
    /// When each learner last moved the term of this node; at most one entry for each member.
    pub(crate) taught: BTreeMap<NodeId, Mono>,
    /// A leader of this life has told the commit index, and this log reaches there.
    pub(crate) told: bool,
    /// Something was handled since sends were last planned.
    pub(crate) unplanned: bool,
}

/// A member without a vote moves the term under a living leader at most once in this time.
const TEACH_AGAIN: core::time::Duration = core::time::Duration::from_secs(600);

/// An election among those who have a vote here is over, or hopeless, after so many of the longest election timeouts.
const ELECTION_TAKES_TIMEOUTS: u32 = 4;

/// What must be announced when it changes, and must never go back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Picture {
    pub(crate) term: Term,
    pub(crate) role: Role,
    pub(crate) leader: Option<NodeId>,
    pub(crate) committed: LogIndex,
    pub(crate) configurations: u64,
}

impl Raft {
    /// The world speaks. Then drain [`poll_output`](Self::poll_output).
    pub fn handle(&mut self, now: Now, input: Input) {
        self.now = self.now.max(now.mono);
        if self.halted.is_some() {
            return self.refuse_halted(&input);
        }
        self.unplanned = true;
        let before = self.picture();
        match input {
            Input::Timeout => self.on_timeout(),
            Input::Message { from, message, entries } => self.on_message(from, &message, entries),
            Input::Found => self.found(),
            Input::FoundTogether { voters } => self.found_together(voters),
            Input::Propose { ticket, bytes, term } => self.propose(ticket, bytes, term),
            Input::Read { ticket } => self.read(ticket),
            Input::Change { ticket, expected, voters, learners } => self.change(ticket, expected, voters, learners),
            Input::Transfer { ticket, to } => self.transfer_to(ticket, to),
            Input::Persisted { ticket } => self.on_persisted(ticket),
            Input::Carried { to, planned, first, last, bytes } => self.on_carried(to, planned, first, last, bytes),
            Input::Reluctant(reluctant) => self.set_reluctant(reluctant),
            Input::Damaged(ranges) => self.set_damaged(ranges),
            Input::Irreparable(irreparable) => self.irreparable = irreparable,
            Input::Room(has_room) => self.set_room(has_room),
            Input::StepDown => self.step_down(),
            Input::HardStatePersisted { ticket } => self.on_hard_state_persisted(ticket),
            Input::Outvoted { index } => self.halt(Halt::Outvoted { index }),
            Input::Learned { index, configuration } => self.learn(index, configuration),
            Input::Reread { runs, last } => self.reread(&runs, last),
            Input::PeerUp { peer, boot } => self.on_peer_up(peer, boot),
            Input::PeerDown { peer } => self.on_peer_down(peer),
        }
        self.settle_leader();
        self.settle_bar();
        self.announce(before);
        self.assert_invariants(before);
    }

    /// The next order of the core; `None` when it waits for the world.
    pub fn poll_output(&mut self) -> Option<Output> {
        // What to send is planned only when everything else was taken: many proposals make few messages.
        if self.outbox.is_empty() && self.unplanned && self.halted.is_none() {
            self.unplanned = false;
            self.plan_sends();
            self.plan_answers();
        }
        self.outbox.poll()
    }

    /// When to call [`handle`](Self::handle) with [`Input::Timeout`], if nothing else happens before.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Mono> {
        if self.halted.is_some() {
            return None;
        }
        let role = match &self.role {
            RoleState::Leader(leader) => self.beat_due(leader),
            _ => self.election_due,
        };
        let transfer = self.transfer.as_ref().map(|transfer| transfer.deadline);
        role.into_iter().chain(transfer).min()
    }

    fn on_timeout(&mut self) {
        self.expire_transfer();
        match &self.role {
            RoleState::Leader(_) => self.on_leader_timeout(),
            _ if self.election_due.is_some_and(|due| due <= self.now) => self.on_election_timeout(),
            _ => {}
        }
    }

    fn on_message(&mut self, from: NodeId, message: &Message, entries: alloc::vec::Vec<EntryShape>) {
        if let Err(what) = self.examine(from, message, &entries) {
            return self.outbox.push(Output::Alarm { from, what, proof: from != self.node });
        }
        if !self.is_of_this_life(from, message) || !self.obey_term(from, message) {
            return;
        }
        let fence = message.fence;
        match &message.body {
            Body::PreVote { round, last } => self.on_pre_vote(from, message, *round, *last),
            Body::PreVoteReply { round, granted } => self.on_pre_vote_reply(from, fence, *round, *granted),
            Body::Vote { last, .. } => self.on_vote(from, fence, *last),
            Body::VoteReply { granted } => self.on_vote_reply(from, fence, *granted),
            Body::Append { prev, last, commit, round, quiet } => {
                if self.follow(from, fence, *round) {
                    self.on_append(*prev, *last, *commit, *quiet, entries);
                }
            }
            Body::AppendReply { matched, verified, round, full } => {
                self.on_append_reply(from, fence, *matched, *verified, *round, *full);
            }
            Body::Conflict { prev, last, runs, round } => self.on_conflict(from, fence, *prev, *last, runs, *round),
            Body::ReadIndex { id } => self.on_read_index(from, fence, *id),
            Body::ReadIndexReply { id, index } => self.on_read_index_reply(from, *id, *index),
            Body::TimeoutNow { last } => self.on_timeout_now(from, *last),
            Body::Missing { promised } => self.on_missing(from, *promised),
            // All it had to say was its term.
            Body::StaleTerm => {}
        }
    }

    /// Does it belong to this life of this node, and to the life of the peer that its link has proven?
    fn is_of_this_life(&self, from: NodeId, message: &Message) -> bool {
        let Fence { from_boot, to_boot, .. } = message.fence;
        let is_answer = matches!(
            message.body,
            Body::PreVoteReply { .. }
                | Body::VoteReply { .. }
                | Body::AppendReply { .. }
                | Body::Conflict { .. }
                | Body::StaleTerm
                | Body::ReadIndexReply { .. }
        );
        if mutant!(EarlierLifeCounts) {
            return true;
        }
        let addressed = to_boot == self.boot || (to_boot == BootId::ZERO && !is_answer);
        addressed && self.boots.get(&from).is_none_or(|&boot| boot == from_boot)
    }

    /// The term rule (§3.3): a newer term is adopted, an older one is refused. False if that settles the message.
    fn obey_term(&mut self, from: NodeId, message: &Message) -> bool {
        let newer = message.term > self.hard_state.term;
        let older = message.term < self.hard_state.term;
        match &message.body {
            Body::Append { .. } if older && mutant!(OldTermAppendTaken) => return true,
            // A pre-vote moves no term, on neither side: that is what it is for (§9.6). But a refusal teaches a term
            // that really was reached, or a node of an older term could never win with the better log.
            Body::PreVote { .. } => return true,
            Body::PreVoteReply { granted: true, .. } => return !newer,
            // Whoever hears a live leader does not listen to candidates (§4.2.3), and so cannot be disturbed.
            Body::Vote { transfer: false, .. } if newer && self.is_sticky_against(from) => return false,
            // Whom the leader asked to stand has a vote, and so has whoever leads. The configuration of this node may lag
            // behind both, so it is no lie, and is held against them only while an election among those with a vote is
            // possible or under way: an honest one waits that long.
            Body::Vote { .. } | Body::Append { .. } if newer && !self.could_lead(from) && self.was_led_of_late() => {
                return false;
            }
            Body::PreVoteReply { .. }
            | Body::VoteReply { .. }
            | Body::AppendReply { .. }
            | Body::Conflict { .. }
            | Body::StaleTerm
            | Body::ReadIndex { .. }
            | Body::ReadIndexReply { .. }
                if newer && !self.configurations.current().configuration.is_member(from) =>
            {
                // A node that was removed must not unseat anyone (§4.2.3).
                return false;
            }
            Body::PreVoteReply { .. }
            | Body::VoteReply { .. }
            | Body::AppendReply { .. }
            | Body::Conflict { .. }
            | Body::StaleTerm
            | Body::ReadIndex { .. }
            | Body::ReadIndexReply { .. }
                if newer && self.is_sticky_against(from) && !self.could_lead(from) && !self.may_teach(from) =>
            {
                return false;
            }
            Body::Vote { .. } if older => {
                self.answer(from, message.fence, Body::VoteReply { granted: false });
                return false;
            }
            Body::Append { .. } | Body::ReadIndex { .. } | Body::TimeoutNow { .. } | Body::Missing { .. } if older => {
                self.answer(from, message.fence, Body::StaleTerm);
                return false;
            }
            _ if older => return false,
            _ => {}
        }
        if newer {
            self.adopt(message.term);
        }
        true
    }

    /// Has it a vote in the group, as far as this node knows? A node that knows no group yet cannot tell.
    fn could_lead(&self, peer: NodeId) -> bool {
        let configuration = &self.configurations.current().configuration;
        configuration.voters.is_empty() || configuration.is_voter(peer)
    }

    /// Did this node lead or hear a leader a few election timeouts ago, or start? Longer than any election takes.
    fn was_led_of_late(&self) -> bool {
        let leads = matches!(&self.role, RoleState::Leader(_));
        leads || self.now.since(self.led_at) < self.options.election_timeout_max * ELECTION_TAKES_TIMEOUTS
    }

    /// May a member without a vote unseat the leader that this node hears, or this leader, by telling of a newer term? A
    /// voter that was demoted while it stood needs that once, or it would refuse its leader for ever. More often, nobody.
    fn may_teach(&mut self, learner: NodeId) -> bool {
        let now = self.now;
        self.taught.retain(|_, at| now.since(*at) < TEACH_AGAIN);
        let is_first = !self.taught.contains_key(&learner);
        if is_first {
            self.taught.insert(learner, now);
        }
        is_first
    }

    /// Enter a newer term, as a follower that does not know its leader yet.
    fn adopt(&mut self, term: Term) {
        self.become_follower(None);
        self.set_hard_state(HardState { term, vote: None });
    }

    /// Leave whatever role this is. Reads that only a leader could confirm end here; proposals wait for the log.
    pub(crate) fn become_follower(&mut self, following: Option<crate::role::Following>) {
        let leader = following.as_ref().map(|following| following.leader);
        let was = core::mem::replace(&mut self.role, RoleState::Follower(Follower { following }));
        if let RoleState::Candidate(_) = was {
            self.outbox.retract_vote_requests();
        }
        if let RoleState::Leader(was) = was {
            self.led_at = self.now;
            self.leader_heard = None;
            self.reset_election_timer();
            for ticket in was.rounds.into_local() {
                self.reject(ticket, Reject::NotLeader { leader });
            }
        }
    }

    fn on_persisted(&mut self, ticket: PersistTicket) {
        if ticket > self.outbox.written() || !self.frontier.complete(ticket) {
            return self.halt(Halt::StorageContract);
        }
        self.on_bar_durable(ticket);
        self.outbox.release(ticket, self.hard_state.term);
        self.on_own_vote_durable(ticket);
        self.on_frontier_moved();
    }

    fn on_hard_state_persisted(&mut self, ticket: PersistTicket) {
        if ticket > self.outbox.written() || !self.frontier.complete_hard_state(ticket) {
            return self.halt(Halt::StorageContract);
        }
        self.outbox.release_hard_state(ticket, self.hard_state.term);
    }

    fn on_peer_up(&mut self, peer: NodeId, boot: BootId) {
        let is_new_life = self.boots.insert(peer, boot) != Some(boot);
        if let RoleState::Leader(leader) = &mut self.role
            && let Some(progress) = leader.peers.get_mut(&peer)
        {
            if is_new_life {
                progress.forget();
            }
            progress.reset(true);
        }
    }

    fn on_peer_down(&mut self, peer: NodeId) {
        if let RoleState::Leader(leader) = &mut self.role {
            if let Some(progress) = leader.peers.get_mut(&peer) {
                progress.reset(false);
            }
        } else if self.leader() == Some(peer) {
            // The leader may be gone: ask soon whether an election could be won. If it lives, the others hear it and
            // refuse, and no term moves. Spread, so that followers that lost it together do not ask together.
            let spread = self.prng.between(core::time::Duration::ZERO, self.options.heartbeat);
            let soon = self.now.after(spread + self.hesitation());
            self.election_due = self.election_due.map(|due| due.min(soon));
            self.leader_heard = None;
        }
    }

    /// Found a new log: this node is the only voter of its first entry, and leads it in term 1.
    fn found(&mut self) {
        let is_fresh = self.log.last() == Position::ZERO && self.hard_state == HardState::default();
        if !is_fresh {
            let what = "asked to found a log where one has begun; start with an empty data directory instead";
            return self.alarm(self.node, what);
        }
        self.set_hard_state(HardState { term: Term(1), vote: Some(self.node) });
        self.become_leader(EntryKind::Configuration(Configuration::sole(self.node)));
    }

    /// Found a new log together with others: all of them write the same first entry, of term 1, and nobody leads that term. The
    /// entry counts as committed when a leader of theirs has committed one of its own (§5.4.2).
    fn found_together(&mut self, voters: alloc::collections::BTreeSet<NodeId>) {
        let is_fresh = self.log.last() == Position::ZERO && self.hard_state == HardState::default();
        if !is_fresh || !voters.contains(&self.node) {
            let what = "asked to found a log where one has begun; start with an empty data directory instead";
            return self.alarm(self.node, what);
        }
        self.set_hard_state(HardState { term: Term(1), vote: None });
        let configuration = Configuration { voters, ..Configuration::default() };
        self.append_own(EntryKind::Configuration(configuration));
        self.led_at = self.now;
        self.reset_election_timer();
    }

    // What every role shares: write, commit, answer, refuse.

    pub(crate) fn set_hard_state(&mut self, hard_state: HardState) -> PersistTicket {
        assert!(hard_state.term >= self.hard_state.term, "terms never decrease");
        self.hard_state = hard_state;
        self.persist(Some(hard_state), alloc::vec![])
    }

    /// One more write of the ordered stream; the log has its new shape already.
    pub(crate) fn persist(
        &mut self,
        hard_state: Option<HardState>,
        append: alloc::vec::Vec<EntryShape>,
    ) -> PersistTicket {
        self.issue(Persist { ticket: PersistTicket::ZERO, hard_state, truncate_from: None, append, suspect: None })
    }

    /// The same where entries are dropped; a bar stands in the same write.
    pub(crate) fn persist_cut(
        &mut self,
        from: LogIndex,
        append: alloc::vec::Vec<EntryShape>,
        suspect: Option<Suspect>,
    ) -> PersistTicket {
        self.frontier.truncate(from);
        let truncate_from = Some(from);
        self.issue(Persist { ticket: PersistTicket::ZERO, hard_state: None, truncate_from, append, suspect })
    }

    /// The same for the bar.
    pub(crate) fn persist_bar(&mut self, suspect: Suspect) -> PersistTicket {
        self.issue(Persist {
            ticket: PersistTicket::ZERO,
            hard_state: None,
            truncate_from: None,
            append: alloc::vec![],
            suspect: Some(suspect),
        })
    }

    fn issue(&mut self, persist: Persist) -> PersistTicket {
        let ticket = self.frontier.issue(persist.hard_state, self.log.last().index);
        self.outbox.push(Output::Persist(Persist { ticket, ..persist }));
        ticket
    }

    pub(crate) fn commit_to(&mut self, index: LogIndex) {
        let index = index.min(self.log.last().index);
        if index <= self.committed {
            return;
        }
        self.committed = index;
        self.outbox.push(Output::Committed { index });
        let Some(committed) = self.log.position(index) else { return };
        let decided = self.proposals.decide(&self.log, committed, |i| self.configurations.first_final_after(i));
        for (ticket, outcome) in decided {
            self.outbox.push(Output::Done { ticket, outcome });
        }
        self.configurations.forget_before(index);
    }

    pub(crate) fn envelope(&self, to: NodeId, body: Body) -> Message {
        let fence = Fence {
            admitted: self.configurations.current().admitted.get(&to).copied().unwrap_or_default(),
            from_boot: self.boot,
            to_boot: self.boots.get(&to).copied().unwrap_or_default(),
        };
        Message { term: self.hard_state.term, fence, body }
    }

    pub(crate) fn reply(&self, fence: Fence, body: Body) -> Message {
        let fence = Fence { admitted: fence.admitted, from_boot: self.boot, to_boot: fence.from_boot };
        Message { term: self.hard_state.term, fence, body }
    }

    /// Answers at once: only for what promises nothing.
    pub(crate) fn answer(&mut self, to: NodeId, fence: Fence, body: Body) {
        let message = self.reply(fence, body);
        self.outbox.push(Output::Send { to, message });
    }

    /// Answers once term and vote are durable, which such an answer promises (§3.8).
    pub(crate) fn answer_when_durable(&mut self, to: NodeId, fence: Fence, body: Body) {
        let message = self.reply(fence, body);
        match self.frontier.hard_state_pending() {
            Some(until) => self.outbox.hold(until, Needs::HardState, to, message),
            None => self.outbox.push(Output::Send { to, message }),
        }
    }

    pub(crate) fn done(&mut self, ticket: Ticket, outcome: Outcome) {
        self.outbox.push(Output::Done { ticket, outcome });
    }

    pub(crate) fn reject(&mut self, ticket: Ticket, why: Reject) {
        self.done(ticket, Outcome::Rejected(why));
    }

    pub(crate) fn alarm(&mut self, from: NodeId, what: &'static str) {
        self.outbox.push(Output::Alarm { from, what, proof: false });
    }

    /// Stop for good in this life. Requests that promise nothing are refused; proposals stay open, since only the
    /// log could tell how they end.
    pub(crate) fn halt(&mut self, why: Halt) {
        if self.halted.is_some() {
            return;
        }
        self.halted = Some(why.clone());
        self.become_follower(None);
        self.outbox.silence();
        for ticket in self.forwards.take() {
            self.reject(ticket, Reject::Halted);
        }
        if let Some(transfer) = self.transfer.take() {
            self.reject(transfer.ticket, Reject::Halted);
        }
        self.outbox.push(Output::Halted(why));
    }

    fn refuse_halted(&mut self, input: &Input) {
        match *input {
            Input::Propose { ticket, .. }
            | Input::Read { ticket }
            | Input::Change { ticket, .. }
            | Input::Transfer { ticket, .. } => self.reject(ticket, Reject::Halted),
            Input::Timeout
            | Input::Message { .. }
            | Input::Found
            | Input::FoundTogether { .. }
            | Input::Carried { .. }
            | Input::Reluctant(_)
            | Input::Damaged(_)
            | Input::Irreparable(_)
            | Input::Room(_)
            | Input::StepDown
            | Input::HardStatePersisted { .. }
            | Input::Learned { .. }
            | Input::Reread { .. }
            | Input::Outvoted { .. }
            | Input::Persisted { .. }
            | Input::PeerUp { .. }
            | Input::PeerDown { .. } => {}
        }
    }

    fn picture(&self) -> Picture {
        Picture {
            term: self.hard_state.term,
            role: self.role(),
            leader: self.leader(),
            committed: self.committed,
            configurations: self.configurations.changes(),
        }
    }

    fn announce(&mut self, before: Picture) {
        let after = self.picture();
        if (after.term, after.leader) != (before.term, before.leader) {
            let leader = after.leader;
            for ticket in self.forwards.take() {
                self.reject(ticket, Reject::NotLeader { leader });
            }
            self.settle_transfer();
        }
        if (after.term, after.role, after.leader) != (before.term, before.role, before.leader) {
            self.outbox.push(Output::RoleChanged);
        }
        if after.configurations != before.configurations {
            self.outbox.push(Output::ConfigurationChanged);
        }
    }
}
