//! Questions of clients and of other agents: answered here, or carried to the leader and back.

use super::{Class, LeaderAnswer, LeaderAsk, Node, Output, PeerMessage, Reply, Request, Waiting, What, not_applied};
use crate::api::{Answer, Ask, Code, Effect, Failure};
use quorate_raft::{LogIndex, Mono, Now, Role, Ticket, mutant};
use std::collections::BTreeMap;
use std::time::Duration;

/// Questions that may wait at once.
const WAITING_MAX: usize = 16_384;
/// Questions of one other agent among them: none can take the room of all.
const WAITING_PER_AGENT_MAX: usize = 4_096;
/// The longest that another agent may let this one wait on its behalf; no client of ours is that patient.
pub(super) const AGENT_PATIENCE_MAX: Duration = Duration::from_secs(600);

/// Who waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asker {
    /// A client of this agent.
    Client(u64),
    /// Another agent, under its own id.
    Agent { node: u64, id: u64 },
    /// This node itself, which wants to leave.
    Leave,
    /// A client of this agent that wants the cluster changed: asked once, never again by this agent itself.
    Operator(u64),
    /// The same, where asking again does no harm.
    Errand(u64),
}

#[derive(Clone, Copy, Debug)]
struct Open {
    asker: Asker,
    deadline: Mono,
}

/// All questions that have no answer yet.
#[derive(Debug, Default)]
pub(super) struct Questions {
    /// Barriers that could not be begun: no leader known.
    barriers_waiting: Vec<Open>,
    /// Barriers in our core, by ticket.
    reading: Waiting<Open>,
    /// Barriers confirmed, waiting until this index is applied.
    applying: BTreeMap<LogIndex, Vec<Open>>,
    /// Waits for an offset to be readable.
    awaiting: BTreeMap<u64, Vec<Open>>,
    /// Asked of a leader, by our id.
    asked: Waiting<(Open, u64)>,
    count: usize,
    /// Of those, how many each other agent asks.
    of_agents: BTreeMap<u64, usize>,
}

impl Node {
    pub(super) fn request(&mut self, now: Now, request: Request) {
        let Request { id, deadline, what, .. } = request;
        if matches!(what, What::Ask(Ask::Barrier | Ask::Await { .. }))
            && let Some(failure) = self.sent_away()
        {
            return self.answer(id, Err(Failure { effect: Effect::None, ..failure }));
        }
        match what {
            What::Append(append) => self.client_append(now, id, deadline, append),
            What::Ask(Ask::Members) => self.answer(id, Ok(Answer::Members(self.members_answer(now)))),
            What::Ask(Ask::Status) => self.answer(id, Ok(Answer::Status(Box::new(self.status_answer(now))))),
            What::Ask(Ask::Facts { others }) => {
                self.answer(id, Ok(Answer::Facts(Box::new(self.facts_answer(now, others)))))
            }
            What::Ask(Ask::Leave { .. }) => self.client_leave(now, id, deadline),
            What::Ask(Ask::Barrier) => self.barrier(now, Open { asker: Asker::Client(id), deadline }),
            What::Ask(Ask::Await { next }) => self.await_offset(now, id, deadline, next),
            What::Ask(Ask::Transfer { to, .. }) => self.ask_any_leader(now, id, deadline, LeaderAsk::Transfer { to }),
            What::Ask(Ask::Forget { name, .. }) => self.ask_any_leader(now, id, deadline, LeaderAsk::Forget { name }),
            What::Ask(Ask::Tags { name, change, .. }) => self.tags_asked(now, id, deadline, name, change),
            What::Ask(Ask::Operate { name, verb, .. }) => self.errand_begins(now, id, deadline, name, verb),
            What::Ask(Ask::Autopilot { ask, .. }) => self.ask_any_leader(now, id, deadline, LeaderAsk::Autopilot(ask)),
        }
    }

    pub(super) fn answer(&mut self, request: u64, result: Result<Answer, Failure>) {
        self.emit(Output::Answer { request, result: result.map(Reply::Answer) });
    }

    /// Ends a question, whoever asked it.
    pub(super) fn end_question(&mut self, now: Now, asker: Asker, result: Result<LeaderAnswer, Failure>) {
        match asker {
            Asker::Client(request) | Asker::Operator(request) => self.answer(request, result.map(Answer::from)),
            Asker::Agent { node, id } => self.send(node, Class::Peer, PeerMessage::Answered { id, result }),
            Asker::Leave => self.leave_answered(now, result),
            Asker::Errand(request) => self.errand_answered(now, request, result),
        }
    }

    fn end(&mut self, now: Now, open: Open, result: Result<LeaderAnswer, Failure>) {
        self.questions.count = self.questions.count.saturating_sub(1);
        if let Asker::Agent { node, .. } = open.asker
            && let Some(count) = self.questions.of_agents.get_mut(&node)
        {
            *count -= 1;
            if *count == 0 {
                self.questions.of_agents.remove(&node);
            }
        }
        self.end_question(now, open.asker, result);
    }

    fn open(&mut self, now: Now, open: Open) -> bool {
        let of_agent = match open.asker {
            Asker::Agent { node, .. } => self.questions.of_agents.get(&node).copied().unwrap_or(0),
            Asker::Client(_) | Asker::Operator(_) | Asker::Leave | Asker::Errand(_) => 0,
        };
        if self.questions.count >= WAITING_MAX || of_agent >= WAITING_PER_AGENT_MAX {
            self.end_question(now, open.asker, Err(not_applied(Code::Busy, "too many requests wait", "retry later")));
            return false;
        }
        self.questions.count += 1;
        if let Asker::Agent { node, .. } = open.asker {
            *self.questions.of_agents.entry(node).or_default() += 1;
        }
        self.next_reconcile = self.next_reconcile.min(open.deadline);
        true
    }

    // ---- linearizable reads ----

    fn barrier(&mut self, now: Now, open: Open) {
        if self.open(now, open) {
            self.begin_barrier(now, open);
        }
    }

    fn begin_barrier(&mut self, now: Now, open: Open) {
        if self.in_raft() && self.raft.leader().is_some() {
            let ticket = self.token();
            self.questions.reading.insert(ticket, open);
            return self.raft.handle(now, quorate_raft::Input::Read { ticket: Ticket(ticket) });
        }
        match self.leader() {
            Some(leader) if !self.in_raft() && self.peers.is_up(leader) => {
                self.ask(now, leader, open, LeaderAsk::Barrier);
            }
            _ => self.questions.barriers_waiting.push(open),
        }
    }

    pub(super) fn read_ready(&mut self, now: Now, ticket: u64, index: LogIndex) {
        if let Some(open) = self.questions.reading.remove(&ticket) {
            if self.room.is_short() && index > self.raft.last().index {
                // It will not come before somebody frees space; others have it.
                return self.end_behind(now, open);
            }
            self.questions.applying.entry(index).or_default().push(open);
            self.reads_applied(now);
        }
    }

    /// The core refused a read: there is no leader for it now. It is tried again until its deadline.
    pub(super) fn question_done(&mut self, ticket: u64) {
        if let Some(open) = self.questions.reading.remove(&ticket) {
            self.questions.barriers_waiting.push(open);
        }
    }

    /// Answers what waited for the state to get this far.
    pub(super) fn reads_applied(&mut self, now: Now) {
        let next = self.log.next_offset();
        while let Some(entry) = self.questions.applying.first_entry()
            && (*entry.key() <= self.applied.index() || mutant!(ReadBeforeApplied))
        {
            for open in entry.remove() {
                self.end(now, open, Ok(LeaderAnswer::Readable { next }));
            }
        }
        while let Some(entry) = self.questions.awaiting.first_entry()
            && *entry.key() <= next
        {
            for open in entry.remove() {
                self.end(now, open, Ok(LeaderAnswer::Readable { next }));
            }
        }
    }

    fn await_offset(&mut self, now: Now, request: u64, deadline: Mono, next: u64) {
        let readable = self.log.next_offset();
        if readable >= next || mutant!(AwaitEndsEarly) {
            return self.answer(request, Ok(Answer::Readable { next: readable }));
        }
        let open = Open { asker: Asker::Client(request), deadline };
        if self.open(now, open) {
            self.questions.awaiting.entry(next).or_default().push(open);
        }
    }

    // ---- questions to the leader ----

    fn ask(&mut self, now: Now, leader: u64, open: Open, ask: LeaderAsk) {
        let id = self.token();
        let timeout_ms = u32::try_from(open.deadline.since(now.mono).as_millis()).unwrap_or(u32::MAX);
        self.questions.asked.insert(id, (open, leader));
        self.send(leader, Class::Peer, PeerMessage::Ask { id, timeout_ms, ask });
    }

    /// Asks the leader to remove this node; the answer comes to `leave_answered`.
    pub(super) fn ask_removal(&mut self, now: Now, leader: u64, deadline: Mono) {
        let open = Open { asker: Asker::Leave, deadline };
        if self.open(now, open) {
            self.ask(now, leader, open, LeaderAsk::Remove { node: self.me.get() });
        }
    }

    /// Asks this leader on behalf of somebody who asks again if it does not answer.
    pub(super) fn ask_for(&mut self, now: Now, leader: u64, asker: Asker, deadline: Mono, ask: LeaderAsk) {
        let open = Open { asker, deadline };
        if self.open(now, open) {
            self.ask(now, leader, open, ask);
        }
    }

    /// An operator's wish, to the leader wherever it is. If there is none, or it has just changed, nothing was done, and
    /// the client tries again.
    fn ask_any_leader(&mut self, now: Now, request: u64, deadline: Mono, ask: LeaderAsk) {
        let asker = Asker::Operator(request);
        if self.raft.is_leader() {
            return self.leader_decides(now, asker, deadline, ask);
        }
        match self.leader().filter(|leader| self.peers.is_up(*leader)) {
            Some(leader) => {
                let open = Open { asker, deadline };
                if self.open(now, open) {
                    self.ask(now, leader, open, ask);
                }
            }
            None => {
                let why = self.why_no_leader();
                let hint = "retry when `quorate status` shows a leader";
                self.end_question(now, asker, Err(not_applied(Code::NoQuorum, why, hint)));
            }
        }
    }

    /// What only a leader decides.
    fn leader_decides(&mut self, now: Now, asker: Asker, deadline: Mono, ask: LeaderAsk) {
        match ask {
            LeaderAsk::Transfer { to } => self.transfer_asked(now, asker, to.as_deref(), deadline),
            LeaderAsk::Forget { name } => self.forget_asked(now, asker, name, deadline),
            LeaderAsk::Operate { name, node, verb } => self.operate_asked(now, asker, deadline, name, node, verb),
            LeaderAsk::Autopilot(ask) => self.autopilot_asked(now, asker, ask, deadline),
            LeaderAsk::Barrier
            | LeaderAsk::Remove { .. }
            | LeaderAsk::Drained
            | LeaderAsk::HandingOver
            | LeaderAsk::Tags(_) => {
                self.end_question(now, asker, Err(not_leading()));
            }
        }
    }

    pub(super) fn leader_asked(&mut self, now: Now, node: u64, id: u64, timeout_ms: u32, ask: LeaderAsk) {
        let asker = Asker::Agent { node, id };
        let deadline = now.mono.after(Duration::from_millis(timeout_ms.into()).min(AGENT_PATIENCE_MAX));
        match ask {
            LeaderAsk::Barrier => {
                if self.raft.is_leader() {
                    self.barrier(now, Open { asker, deadline });
                } else {
                    self.end_question(now, asker, Err(not_leading()));
                }
            }
            LeaderAsk::Remove { node: which } if which == node => self.removal_asked(now, asker, which, deadline),
            LeaderAsk::Remove { .. } => {
                let what = "an agent may only ask for its own removal";
                self.end_question(now, asker, Err(not_applied(Code::NotAuthorised, what, "")));
            }
            LeaderAsk::Drained => self.drained_told(now, node),
            LeaderAsk::Tags(change) => self.change_tags(now, asker, &change),
            LeaderAsk::HandingOver => self.appends.handover_told(now, node),
            ask @ (LeaderAsk::Transfer { .. }
            | LeaderAsk::Forget { .. }
            | LeaderAsk::Operate { .. }
            | LeaderAsk::Autopilot(_)) => self.leader_decides(now, asker, deadline, ask),
        }
    }

    pub(super) fn leader_answered(&mut self, now: Now, node: u64, id: u64, result: Result<LeaderAnswer, Failure>) {
        if self.tags_answered(node, id, &result) {
            return;
        }
        match self.questions.asked.get(&id) {
            Some((_, leader)) if *leader == node => {}
            _ => return,
        }
        let Some((open, _)) = self.questions.asked.remove(&id) else { return };
        let again = result.as_ref().is_err_and(|f| f.code == Code::NoQuorum && f.effect != Effect::Unknown);
        match open.asker {
            Asker::Client(_) if again => self.questions.barriers_waiting.push(open),
            _ => self.end(now, open, result),
        }
    }

    /// The connection to a leader is gone: what clients asked it is asked again, of the next one.
    pub(super) fn asks_lost(&mut self, now: Now, node: u64) {
        self.tags_lost(node);
        let lost: Vec<u64> =
            self.questions.asked.iter().filter(|(_, (_, to))| *to == node).map(|(id, _)| *id).collect();
        for id in lost {
            let Some((open, _)) = self.questions.asked.remove(&id) else { continue };
            match open.asker {
                Asker::Client(_) => self.questions.barriers_waiting.push(open),
                Asker::Operator(_) | Asker::Errand(_) => self.end(now, open, Err(leader_lost())),
                _ => self.end(now, open, Err(not_leading())),
            }
        }
    }

    pub(super) fn next_question_deadline(&self) -> Option<Mono> {
        let tags = self.own_tags.deadline();
        let q = &self.questions;
        let waiting = q.barriers_waiting.iter().map(|o| o.deadline);
        let deep = q.applying.values().chain(q.awaiting.values()).flatten().map(|o| o.deadline);
        let asked = q.asked.values().map(|(o, _)| o.deadline);
        waiting.chain(tags).chain(deep).chain(asked).chain(q.reading.values().map(|o| o.deadline)).min()
    }

    /// Tries again what found no leader; ends what has passed its deadline.
    pub(super) fn expire_questions(&mut self, now: Now) {
        self.expire_tags(now);
        for open in std::mem::take(&mut self.questions.barriers_waiting) {
            if open.deadline > now.mono {
                self.begin_barrier(now, open);
            } else {
                self.end_late(now, open);
            }
        }
        let late = |open: &Open| open.deadline <= now.mono;
        let mut ended = Vec::new();
        let q = &mut self.questions;
        q.reading.retain(|_, open| keep_or_move(!late(open), *open, &mut ended));
        q.asked.retain(|_, (open, _)| keep_or_move(!late(open), *open, &mut ended));
        for map in q.awaiting.values_mut() {
            map.retain(|open| keep_or_move(!late(open), *open, &mut ended));
        }
        let mut behind = Vec::new();
        for map in q.applying.values_mut() {
            map.retain(|open| keep_or_move(!late(open), *open, &mut behind));
        }
        q.applying.retain(|_, v| !v.is_empty());
        q.awaiting.retain(|_, v| !v.is_empty());
        for open in ended {
            self.end_late(now, open);
        }
        for open in behind {
            self.end_behind(now, open);
        }
    }

    /// The leader confirmed the read, and this agent does not hold what it must see.
    fn end_behind(&mut self, now: Now, open: Open) {
        let why = match self.why_behind() {
            Some(why) => why,
            None => format!("it has applied {} of {} entries", self.applied.index(), self.raft.committed()),
        };
        let failure = Failure {
            code: Code::Unavailable,
            effect: Effect::None,
            what: format!("this agent is behind what is to be read ({why})"),
            hint: "ask another agent".into(),
        };
        self.end(now, open, Err(failure));
    }

    fn end_late(&mut self, now: Now, open: Open) {
        let failure = Failure {
            code: Code::NoQuorum,
            effect: if matches!(open.asker, Asker::Operator(_) | Asker::Errand(_)) {
                Effect::Unknown
            } else {
                Effect::None
            },
            what: self.why_no_leader(),
            hint: "retry when `quorate status` shows a leader".into(),
        };
        self.end(now, open, Err(failure));
    }

    /// Why a request could not be served in time, for people.
    pub(super) fn why_no_leader(&self) -> String {
        let role = self.raft.role();
        match (self.log_id, self.leader()) {
            (None, _) => "this agent does not belong to a log yet".into(),
            (_, None) if role == Role::Follower && !self.in_raft() => {
                "this agent is outside Raft and hears no leader".into()
            }
            (_, None) => "no leader: no quorum of the voters can be reached".into(),
            (_, Some(leader)) => {
                format!("leader {} did not confirm in time; it may have no quorum", self.name_of(leader))
            }
        }
    }
}

fn keep_or_move(keep: bool, open: Open, moved: &mut Vec<Open>) -> bool {
    if !keep {
        moved.push(open);
    }
    keep
}

pub(super) fn not_leading() -> Failure {
    not_applied(Code::NoQuorum, "this agent does not lead", "")
}

/// A leader that was asked to change something is gone, and has not said whether it did.
fn leader_lost() -> Failure {
    Failure {
        code: Code::NoQuorum,
        effect: Effect::Unknown,
        what: "the leader was lost before it answered".into(),
        hint: "look at `quorate status` and `quorate members` for what became of it, then ask again".into(),
    }
}

/// The removal is recorded, or is about to be, and not finished.
pub(super) fn still_pending() -> Failure {
    Failure {
        code: Code::NoQuorum,
        effect: Effect::Unknown,
        what: "the removal is not finished in time".into(),
        hint: "it goes on by itself as soon as it is safe".into(),
    }
}
