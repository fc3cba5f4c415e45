//! Appends in flight: admitted here, gathered and proposed or forwarded, and ended exactly once.
//!
//! What is surely not in the log may be tried again until its deadline; what may be in it is never tried again.

use super::gather::Gathered;
use super::in_hand::{InHand, Origin, Part};
use super::questions::AGENT_PATIENCE_MAX;
use super::{Class, Node, Output, PeerMessage, Reply, Waiting, not_applied};
use crate::api::{Append, Appended, Code, Effect, Failure};
use crate::record;
use quorate_raft::wal::EntryHeader;
use quorate_raft::{Mono, Now, Outcome, Reject, mutant};
use std::collections::VecDeque;
use std::time::Duration;

/// Appends that may wait for a leader.
const WAITING_MAX: usize = 16_384;
/// Bytes of the batches that may wait.
const WAITING_BYTES_MAX: usize = 64 << 20;
/// After an attempt that surely failed, before the next one.
const RETRY_AFTER: Duration = Duration::from_millis(20);
/// What was forwarded to a leader that was replaced is given this long to be answered after all.
const ORPHANED_FOR: Duration = Duration::from_millis(150);
/// The same if that leader has said that it hands over, or that it was deposed: it lives, and answers when it knows who leads,
/// however little it gets of its processor.
const HANDED_OVER_FOR: Duration = Duration::from_secs(2);

/// One entry of ours on its way to a commit, and the appends that travel in it.
#[derive(Debug)]
struct Proposed {
    parts: Vec<Part>,
    since: Mono,
    /// As it was sealed; `None` if the core did not take it at once.
    header: Option<EntryHeader>,
}

/// All appends that have not ended.
#[derive(Debug, Default)]
pub(super) struct Appends {
    /// Wait for a leader, or for the next attempt.
    waiting: VecDeque<(Mono, InHand)>,
    waiting_bytes: usize,
    /// Travel in the next entry.
    pub(super) gathered: Gathered,
    /// Proposed to our own core, by ticket.
    proposed: Waiting<Proposed>,
    /// Sent to a leader, by our id: to whom, and when to give up.
    forwarded: Waiting<(InHand, u64, Mono)>,
    /// The leader that hands over or was deposed, and until when its answers are waited for.
    handed_over: Option<(u64, Mono)>,
}

impl Appends {
    /// Has every append ended?
    pub(super) fn is_empty(&self) -> bool {
        let gathered = self.gathered.parts().next().is_some();
        self.waiting.is_empty() && self.proposed.is_empty() && self.forwarded.is_empty() && !gathered
    }

    /// This leader has begun to hand over, or was deposed and lives; perhaps its successor was heard first.
    pub(super) fn handover_told(&mut self, now: Now, node: u64) {
        let until = now.mono.after(HANDED_OVER_FOR);
        self.handed_over = Some((node, until));
        for (in_hand, _, give_up) in self.forwarded.values_mut().filter(|(_, to, _)| *to == node) {
            if *give_up > now.mono {
                *give_up = until.min(in_hand.deadline);
            }
        }
    }
}

impl Node {
    pub(super) fn client_append(&mut self, now: Now, request: u64, deadline: Mono, append: Append) {
        if let Err(error) = record::check_batch(&append.batch, self.record_bytes_max) {
            let what = format!("the batch was refused: {error}");
            let failure =
                not_applied(Code::Invalid, what, format!("values take at most {} bytes", self.record_bytes_max));
            return self.emit(Output::Answer { request, result: Err(failure) });
        }
        self.try_append(now, InHand { origin: Origin::Client(request), append, since: now.mono, deadline });
    }

    /// An append that another agent forwards. It is proposed here or it fails; it never travels on.
    pub(super) fn forwarded_append(&mut self, now: Now, node: u64, id: u64, append: Append) {
        let patience = Duration::from_millis(append.timeout_ms.into()).min(AGENT_PATIENCE_MAX);
        let deadline = now.mono.after(patience);
        let in_hand = InHand { origin: Origin::Agent { node, id }, append, since: now.mono, deadline };
        // Checked again: the other agent may be of another mind about the limits.
        if let Err(error) = record::check_batch(&in_hand.append.batch, self.record_bytes_max) {
            let failure = not_applied(Code::Invalid, format!("the batch was refused: {error}"), "");
            return self.end_append(in_hand.origin, Err(failure));
        }
        self.try_append(now, in_hand);
    }

    pub(super) fn try_append(&mut self, now: Now, in_hand: InHand) {
        // Its end is due at its deadline, not at the next round of the policies.
        self.next_reconcile = self.next_reconcile.min(in_hand.deadline);
        let is_going = self.leave.is_under_way() || self.stopping.is_under_way();
        if is_going && matches!(in_hand.origin, Origin::Client(_)) {
            let failure = not_applied(Code::Unavailable, "this agent is leaving or stopping", "ask another agent");
            return self.end_append(in_hand.origin, Err(failure));
        }
        if let Some(failure) = self.sent_away().filter(|_| matches!(in_hand.origin, Origin::Client(_))) {
            return self.end_append(in_hand.origin, Err(failure));
        }
        if let Some(failure) = self.room.refusal().filter(|_| self.raft.is_leader()) {
            return self.end_append(in_hand.origin, Err(failure.clone()));
        }
        // A leader without room is about to ask an heir that has some.
        if self.is_ready_leader() && !self.room.is_short() {
            return self.gather(now, in_hand);
        }
        // Its first entry is on its way to being applied, and what waits is tried then.
        if self.raft.is_leader() {
            return self.wait_with(now.mono.after(RETRY_AFTER), in_hand);
        }
        match (in_hand.origin, self.leader()) {
            (Origin::Client(_), Some(leader)) if leader != self.me.get() && self.peers.is_up(leader) => {
                self.forward(now, leader, in_hand);
            }
            (Origin::Client(_), _) => self.wait_with(now.mono.after(RETRY_AFTER), in_hand),
            (origin @ Origin::Agent { .. }, _) => {
                self.end_append(origin, Err(not_applied(Code::NoQuorum, "this agent does not lead", "")));
            }
        }
    }

    fn wait_with(&mut self, not_before: Mono, in_hand: InHand) {
        let bytes = in_hand.append.batch.len();
        if self.appends.waiting.len() >= WAITING_MAX || self.appends.waiting_bytes + bytes > WAITING_BYTES_MAX {
            let failure = not_applied(Code::Busy, "too many appends wait for a leader", "retry later");
            return self.end_append(in_hand.origin, Err(failure));
        }
        self.appends.waiting_bytes += bytes;
        self.next_reconcile = self.next_reconcile.min(not_before).min(in_hand.deadline);
        self.appends.waiting.push_back((not_before, in_hand));
    }

    /// When the earliest append must have ended.
    pub(super) fn next_append_deadline(&self) -> Option<Mono> {
        let waiting = self.appends.waiting.iter().map(|(_, h)| h.deadline);
        let proposed = self.appends.proposed.values().flat_map(|p| &p.parts).map(|part| part.in_hand.deadline);
        let gathered = self.appends.gathered.parts().map(|part| part.in_hand.deadline);
        waiting.chain(gathered).chain(proposed).chain(self.appends.forwarded.values().map(|(_, _, g)| *g)).min()
    }

    fn forward(&mut self, now: Now, leader: u64, in_hand: InHand) {
        let id = self.token();
        let left = in_hand.deadline.since(now.mono);
        let timeout_ms = u32::try_from(left.as_millis()).unwrap_or(u32::MAX);
        let append = Append { timeout_ms, hops: 1, ..in_hand.append.clone() };
        let deadline = in_hand.deadline;
        self.appends.forwarded.insert(id, (in_hand, leader, deadline));
        self.send(leader, Class::Bulk, PeerMessage::Forward { id, append });
    }

    /// How many entries of ours are on their way to a commit.
    pub(super) fn entries_in_flight(&self) -> usize {
        self.appends.proposed.len()
    }

    /// These appends are about to be proposed as one entry under `ticket`.
    pub(super) fn expect(&mut self, now: Now, ticket: u64, parts: Vec<Part>) {
        self.appends.proposed.insert(ticket, Proposed { parts, since: now.mono, header: None });
    }

    /// The entry under `ticket` stands in our log like this.
    pub(super) fn sealed(&mut self, ticket: u64, header: EntryHeader) {
        if let Some(proposed) = self.appends.proposed.get_mut(&ticket) {
            proposed.header = Some(header);
        }
    }

    fn append_committed(&mut self, now: Now, ticket: u64) {
        let Some(Proposed { parts, since, header }) = self.appends.proposed.remove(&ticket) else { return };
        let header = header.expect("what is committed was sealed when it was proposed");
        self.stages.committed(now.mono, since, parts.iter().map(|part| part.in_hand.since));
        let (term, time, lamport) = (header.term.0, header.time.0, header.lamport);
        for Part { in_hand, first, count } in parts {
            let first = header.base_offset + if mutant!(AckAtFirstOffset) { 0 } else { u64::from(first) };
            let last = first + u64::from(count) - 1;
            let appended = Appended { first, last, term, time, lamport, deduped: false };
            self.end_append(in_hand.origin, Ok(appended));
        }
    }

    /// The end of a proposal, if `ticket` is one of an append.
    pub(super) fn append_done(&mut self, now: Now, ticket: u64, outcome: Outcome) -> bool {
        if !self.appends.proposed.contains_key(&ticket) {
            return false;
        }
        match outcome {
            Outcome::Committed { .. } => self.append_committed(now, ticket),
            Outcome::Lost => self.not_appended(now, ticket, None),
            Outcome::Rejected(reject) => self.not_appended(now, ticket, Some(reject)),
        }
        true
    }

    /// It is surely not in the log: a client's append is tried again, a forwarded one goes back.
    fn not_appended(&mut self, now: Now, ticket: u64, reject: Option<Reject>) {
        let Some(Proposed { parts, .. }) = self.appends.proposed.remove(&ticket) else { return };
        let failure = match reject {
            Some(Reject::Overloaded) => not_applied(Code::Busy, "too much waits for commit", "retry later"),
            Some(Reject::Halted) => {
                not_applied(Code::Unavailable, "Raft of this agent has stopped", "ask another agent")
            }
            _ => not_applied(Code::NoQuorum, "the leader changed or has no quorum", "retry"),
        };
        for Part { in_hand, .. } in parts {
            match (in_hand.origin, failure.code) {
                (Origin::Client(_), Code::NoQuorum) => self.wait_with(now.mono.after(RETRY_AFTER), in_hand),
                (origin, _) => self.end_append(origin, Err(failure.clone())),
            }
        }
    }

    pub(super) fn forward_ended(&mut self, now: Now, node: u64, id: u64, result: Result<Appended, Failure>) {
        // Only the agent it was sent to can end it.
        match self.appends.forwarded.get(&id) {
            Some((_, leader, _)) if *leader == node => {}
            _ => return,
        }
        let Some((in_hand, _, _)) = self.appends.forwarded.remove(&id) else { return };
        match result {
            Err(failure) if failure.code == Code::NoQuorum && failure.effect == Effect::NotApplied => {
                self.wait_with(now.mono.after(RETRY_AFTER), in_hand);
            }
            result => self.end_append(in_hand.origin, result),
        }
    }

    /// The connection to a leader is gone: what was sent to it may or may not stand in the log.
    pub(super) fn forwards_lost(&mut self, now: Now, node: u64) {
        if mutant!(ForwardedTwice) {
            let to_it = self.appends.forwarded.iter().filter(|(_, (_, leader, _))| *leader == node);
            for token in to_it.map(|(token, _)| *token).collect::<Vec<_>>() {
                if let Some((in_hand, _, _)) = self.appends.forwarded.remove(&token) {
                    self.wait_with(now.mono, in_hand);
                }
            }
        }
        for (_, leader, give_up) in self.appends.forwarded.values_mut() {
            if *leader == node {
                *give_up = now.mono.min(*give_up);
            }
        }
        self.expire_appends(now);
    }

    /// Another leader: what the old one got is answered soon, or nobody can say. One that was only silent for a while is
    /// replaced by nobody, and answers when it has its processor back.
    pub(super) fn leader_changed(&mut self, now: Now) {
        let leader = self.leader();
        let orphans = self.appends.forwarded.values_mut().filter(|(_, to, _)| leader.is_some_and(|l| l != *to));
        for (_, sent_to, give_up) in orphans {
            let handed_over = self.appends.handed_over.filter(|(node, until)| node == sent_to && *until > now.mono);
            let patience = handed_over.map_or(now.mono.after(ORPHANED_FOR), |(_, until)| until);
            *give_up = patience.min(*give_up);
        }
        self.retry_appends(now);
    }

    /// Tries what waits and is due. Nothing moves while nobody could take it.
    pub(super) fn retry_appends(&mut self, now: Now) {
        let leader = self.leader();
        let refuses = self.raft.is_leader() && self.room.refusal().is_some();
        let takes =
            refuses || self.is_ready_leader() || leader.is_some_and(|l| l != self.me.get() && self.peers.is_up(l));
        if !takes {
            return;
        }
        for _ in 0..self.appends.waiting.len() {
            let Some((not_before, in_hand)) = self.appends.waiting.pop_front() else { break };
            self.appends.waiting_bytes -= in_hand.append.batch.len();
            if not_before <= now.mono || self.is_ready_leader() {
                self.try_append(now, in_hand);
            } else {
                self.wait_with(not_before, in_hand);
            }
        }
    }

    /// Ends what has passed its deadline with the truth: not appended, or unknown.
    pub(super) fn expire_appends(&mut self, now: Now) {
        self.retry_appends(now);
        for _ in 0..self.appends.waiting.len() {
            let Some((not_before, in_hand)) = self.appends.waiting.pop_front() else { break };
            if in_hand.deadline > now.mono {
                self.appends.waiting.push_back((not_before, in_hand));
                continue;
            }
            self.appends.waiting_bytes -= in_hand.append.batch.len();
            self.end_append(in_hand.origin, Err(self.never_proposed()));
        }
        let late = |deadline: Mono| deadline <= now.mono;
        for part in self.appends.gathered.take_late(now.mono) {
            self.end_append(part.in_hand.origin, Err(self.never_proposed()));
        }
        let mut unconfirmed = Vec::new();
        for proposed in self.appends.proposed.values_mut() {
            unconfirmed.extend(proposed.parts.extract_if(.., |part| late(part.in_hand.deadline)));
        }
        for part in unconfirmed {
            let failure = unknown("it was written, and no quorum confirmed it in time");
            let failure = if mutant!(UnconfirmedSaidFailed) { self.never_proposed() } else { failure };
            self.end_append(part.in_hand.origin, Err(failure));
        }
        let forwarded: Vec<u64> =
            self.appends.forwarded.iter().filter(|(_, (_, _, g))| late(*g)).map(|(id, _)| *id).collect();
        for id in forwarded {
            if let Some((in_hand, _, _)) = self.appends.forwarded.remove(&id) {
                let failure = unknown("it was sent to a leader that did not answer");
                let failure = if mutant!(UnansweredSaidFailed) { self.never_proposed() } else { failure };
                self.end_append(in_hand.origin, Err(failure));
            }
        }
    }

    /// Its time is over, and it never left this agent's memory.
    fn never_proposed(&self) -> Failure {
        let hint = "it was not appended; retry when `quorate status` shows a leader";
        not_applied(Code::NoQuorum, self.why_no_leader(), hint)
    }

    pub(super) fn end_append(&mut self, origin: Origin, result: Result<Appended, Failure>) {
        match origin {
            Origin::Client(request) => {
                self.emit(Output::Answer { request, result: result.map(Reply::Appended) });
            }
            Origin::Agent { node, id } => self.send(node, Class::Bulk, PeerMessage::Forwarded { id, result }),
        }
    }
}

fn unknown(why: &str) -> Failure {
    Failure {
        code: Code::Unknown,
        effect: Effect::Unknown,
        what: format!("the outcome of the append is unknown: {why}"),
        hint: "read the log before you append it again".into(),
    }
}
