//! Errands: what an operator asks of this agent is carried to whoever leads, until it is done, refused, or late.
//!
//! It decides nothing. What is carried twice does no harm: it names a disk, and a disk is drained, promoted or removed
//! once. So a leader that changes in the middle costs time, and never the outcome.

use super::questions::Asker;
use super::{LeaderAnswer, LeaderAsk, Node, not_applied};
use crate::api::{Code, Effect, Failure, Operated, Verb};
use quorate_raft::{Mono, Now};
use std::collections::BTreeMap;
use std::time::Duration;

/// Errands that one agent has at once: operators are few.
const ERRANDS_MAX: usize = 64;
/// Between two attempts: what a leader that was just elected needs until it may decide.
const ASK_AGAIN: Duration = Duration::from_millis(50);
/// The leader is asked to answer so much earlier than this agent must: its words say more than ours.
const MARGIN_MAX: Duration = Duration::from_millis(150);

/// One of them.
#[derive(Clone, Debug)]
struct Errand {
    name: String,
    /// The disk that the name meant when it began.
    node: Option<u64>,
    verb: Verb,
    since: Mono,
    deadline: Mono,
    /// Not before this.
    next: Mono,
    /// A leader is working on it.
    asking: bool,
    tries: u32,
    /// A leader may have written it into the log, and has not said.
    unknown: bool,
    /// What the last leader said.
    last: Option<Failure>,
}

/// All that are under way, by request.
#[derive(Debug, Default)]
pub(super) struct Errands {
    all: BTreeMap<u64, Errand>,
}

impl Errands {
    /// When the next one is due, whatever happens.
    pub(super) fn deadline(&self) -> Option<Mono> {
        self.all.values().map(|e| if e.asking { e.deadline } else { e.next.min(e.deadline) }).min()
    }
}

impl Node {
    /// A client wants this done.
    pub(super) fn errand_begins(&mut self, now: Now, request: u64, deadline: Mono, name: String, verb: Verb) {
        if self.errands.all.len() >= ERRANDS_MAX {
            let busy = not_applied(Code::Busy, "too many operators wait for this agent", "retry later");
            return self.answer(request, Err(busy));
        }
        let errand = Errand {
            node: self.node_named(&name),
            name,
            verb,
            since: now.mono,
            deadline,
            next: now.mono,
            asking: false,
            tries: 0,
            unknown: false,
            last: None,
        };
        self.errands.all.insert(request, errand);
        self.hurry(now);
    }

    /// One turn.
    pub(super) fn pursue_errands(&mut self, now: Now) {
        let late: Vec<u64> =
            self.errands.all.iter().filter(|(_, e)| e.deadline <= now.mono).map(|(id, _)| *id).collect();
        for request in late {
            let Some(errand) = self.errands.all.remove(&request) else { continue };
            let failure = self.late_errand(errand);
            self.answer(request, Err(failure));
        }
        let due = |e: &Errand| !e.asking && e.next <= now.mono;
        let due: Vec<u64> = self.errands.all.iter().filter(|(_, e)| due(e)).map(|(id, _)| *id).collect();
        for request in due {
            self.carry(now, request);
        }
    }

    fn carry(&mut self, now: Now, request: u64) {
        let leader = match self.leader() {
            Some(leader) if leader == self.me.get() || self.peers.is_up(leader) => Some(leader),
            _ => None,
        };
        let Some(errand) = self.errands.all.get_mut(&request) else { return };
        errand.next = now.mono.after(ASK_AGAIN);
        let Some(leader) = leader else { return };
        errand.asking = true;
        errand.tries += 1;
        let left = errand.deadline.since(now.mono);
        let until = now.mono.after(left - MARGIN_MAX.min(left / 4));
        let Errand { name, node, verb, .. } = errand.clone();
        let asker = Asker::Errand(request);
        if leader == self.me.get() {
            return self.operate_asked(now, asker, until, name, node, verb);
        }
        self.ask_for(now, leader, asker, until, LeaderAsk::Operate { name, node, verb });
    }

    /// What a leader said.
    pub(super) fn errand_answered(&mut self, now: Now, request: u64, result: Result<LeaderAnswer, Failure>) {
        let Some(errand) = self.errands.all.get_mut(&request) else { return };
        errand.asking = false;
        let failure = match result {
            Ok(LeaderAnswer::Operated(done)) => {
                let ms = u64::try_from(now.mono.since(errand.since).as_millis()).unwrap_or(u64::MAX);
                // A second leader finds done what the first one has begun for this very errand.
                let changed = done.changed || errand.unknown;
                self.errands.all.remove(&request);
                let done = Operated { ms, changed, ..done };
                return self.answer(request, Ok(crate::api::Answer::Operated(done)));
            }
            Ok(_) => not_applied(Code::NoQuorum, "the leader answered another question", ""),
            Err(failure) => failure,
        };
        errand.unknown |= failure.effect == Effect::Unknown;
        // A leader that is none any more, or has too much to do: the next one is asked, or it again. It has been asked for
        // as long as there is time if it says that it goes on.
        let again = matches!(failure.code, Code::NoQuorum | Code::Busy | Code::Unavailable);
        if again && errand.deadline > now.mono {
            errand.next = now.mono.after(ASK_AGAIN);
            errand.last = Some(failure);
            self.next_reconcile = self.next_reconcile.min(now.mono.after(ASK_AGAIN));
            return;
        }
        self.errands.all.remove(&request);
        self.answer(request, Err(failure));
    }

    /// This node was removed, and knows: whoever asked for that here need not be told by a leader.
    pub(super) fn own_removal_done(&mut self, now: Now) {
        let me = self.me.get();
        let own = |e: &Errand| e.node == Some(me) && matches!(e.verb, Verb::Remove { .. });
        let done: Vec<u64> = self.errands.all.iter().filter(|(_, e)| own(e)).map(|(id, _)| *id).collect();
        for request in done {
            let voters = self.raft.configuration().voters.iter().map(|v| self.name_of(v.get())).collect();
            let name = self.options.name.clone();
            let raft = "none".into();
            let done = Operated { name, node: me, raft, changed: true, present: true, voters, ..Operated::default() };
            self.errand_answered(now, request, Ok(LeaderAnswer::Operated(done)));
        }
    }

    /// There is no time left.
    fn late_errand(&self, errand: Errand) -> Failure {
        let what = match errand.last {
            Some(failure) if self.leader().is_some() => failure.what,
            _ => self.why_no_leader(),
        };
        if errand.unknown || errand.asking {
            return Failure {
                code: Code::NoQuorum,
                effect: Effect::Unknown,
                what: format!("nobody can say whether the {} was begun: {what}", errand.verb.word()),
                hint: "ask again: that is safe, whatever became of this".into(),
            };
        }
        let hint = if errand.tries == 0 { "retry when `quorate status` shows a leader" } else { "retry" };
        not_applied(Code::NoQuorum, what, hint)
    }
}
