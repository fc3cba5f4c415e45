//! Operate: on the leader, what operators want of single agents, from the asking to the end of it.
//!
//! What is wanted is judged, written into the log, and then carried out by the autopilot, whoever leads by then. Nothing
//! is written that would leave the group unsafe, and nothing that is written is answered before it is done.

use super::questions::{Asker, not_leading};
use super::{LeaderAnswer, Node, level, not_applied};
use crate::api::{Code, Effect, Failure, Operated, Verb};
use crate::limits::printable;
use crate::machine::registry::Command;
use crate::spelling::nearest;
use quorate_raft::{Mono, NodeId, Now, Status, mutant};
use std::collections::BTreeSet;
use std::time::Duration;

/// Wishes that one leader has at once: operators are few.
const WISHES_MAX: usize = 64;
/// The longest that a leader remembers who waits.
const ASK_MAX: Duration = Duration::from_secs(600);

/// One thing that an operator wants, and is told the end of.
#[derive(Clone, Debug)]
pub(super) struct Wish {
    asker: Asker,
    since: Mono,
    deadline: Mono,
    pub(super) name: String,
    pub(super) node: u64,
    pub(super) verb: Verb,
    /// Who voted when it was asked.
    before: BTreeSet<NodeId>,
    /// It stands in the log because of this wish, or may.
    begun: bool,
    /// This node led, and has tried to hand over first.
    pub(super) handed_over: bool,
    /// What it was waiting for when it was last looked at.
    waits: String,
}

/// All wishes of a leader.
#[derive(Debug, Default)]
pub(super) struct Operating {
    wishes: Vec<Wish>,
    /// Drained agents that say they have ended what their clients had begun.
    pub(super) quiet: BTreeSet<u64>,
}

impl Operating {
    pub(super) fn deadline(&self) -> Option<Mono> {
        self.wishes.iter().map(|wish| wish.deadline).min()
    }
}

/// What becomes of a wish in this turn.
pub(super) enum Judged {
    /// It is as it was wanted.
    Done,
    /// It will not be done.
    Refused(Failure),
    /// This has to stand in the log; and what that does, for people.
    Write(Command, String),
    /// Leadership goes elsewhere first.
    HandOver,
    /// It takes this, to be read after "waiting for".
    Wait(String),
}

impl Judged {
    /// It would endanger the group.
    pub(super) fn refused(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Refused(not_applied(Code::Refused, what, hint))
    }
}

impl Node {
    /// An operator wants this leader to see to it.
    pub(super) fn operate_asked(
        &mut self,
        now: Now,
        asker: Asker,
        deadline: Mono,
        name: String,
        node: Option<u64>,
        verb: Verb,
    ) {
        if !self.is_ready_leader() {
            return self.end_question(now, asker, Err(not_leading()));
        }
        if let Err(failure) = self.needs_level(level::LEVEL_OPERATE) {
            return self.end_question(now, asker, Err(failure));
        }
        let node = match self.disk_meant(&name, node, &verb) {
            Ok(node) => node,
            Err(failure) => return self.end_question(now, asker, Err(failure)),
        };
        if self.operating.wishes.len() >= WISHES_MAX {
            let busy = not_applied(Code::Busy, "too many operators wait for the leader", "retry later");
            return self.end_question(now, asker, Err(busy));
        }
        let before = self.raft.configuration().voters.clone();
        let deadline = deadline.min(now.mono.after(ASK_MAX));
        let (since, begun, handed_over, waits) = (now.mono, false, false, String::new());
        self.operating.wishes.push(Wish {
            asker,
            since,
            deadline,
            name,
            node,
            verb,
            before,
            begun,
            handed_over,
            waits,
        });
        self.hurry(now);
    }

    /// The disk that is meant by this name, and by the asker. A name may have gone to another disk meanwhile: then nothing
    /// is done to that one.
    fn disk_meant(&self, name: &str, asked: Option<u64>, verb: &Verb) -> Result<u64, Failure> {
        let shown = printable(name);
        if let Some(gone) = asked.filter(|node| self.registry.is_removed(*node)) {
            return if matches!(verb, Verb::Remove { .. }) {
                Ok(gone)
            } else {
                Err(not_applied(Code::NotFound, format!("{shown} was removed from the cluster"), add_it_again()))
            };
        }
        let known = self.node_named(name).filter(|node| !self.registry.has_departed(*node));
        match (known, asked) {
            (Some(node), None) => Ok(node),
            (Some(node), Some(asked)) if node == asked => Ok(node),
            (Some(node), Some(asked)) => {
                let what =
                    format!("{shown} is node {node:016x} now, and was {asked:016x} for the agent that was asked");
                Err(not_applied(Code::Conflict, what, "look at `quorate members`, then ask again"))
            }
            (None, _) => {
                let removed =
                    || self.registry.forgotten().find(|(node, n)| *n == name && self.registry.is_removed(*node));
                match removed().filter(|_| matches!(verb, Verb::Remove { .. })) {
                    Some((gone, _)) => Ok(gone),
                    None => Err(self.unknown_name(name)),
                }
            }
        }
    }

    /// No agent has this name; perhaps another one is meant.
    pub(in crate::node) fn unknown_name(&self, name: &str) -> Failure {
        let gossip: Vec<_> = self.members.members().map(|m| m.name).collect();
        let names: BTreeSet<&str> = (gossip.iter().map(|name| name.as_str()))
            .chain(self.registry.nodes().map(|r| r.name.as_str()))
            .chain([self.options.name.as_str()])
            .collect();
        let hint = match nearest(name, names) {
            Some(near) => format!("did you mean {}? `quorate members` lists all", printable(near)),
            None => "list all with `quorate members`".to_owned(),
        };
        not_applied(Code::NotFound, format!("no agent {} is known", printable(name)), hint)
    }

    /// One turn on the leader: what is done is answered, and what is late.
    pub(super) fn pursue_wishes(&mut self, now: Now) {
        let registry = &self.registry;
        self.operating.quiet.retain(|node| registry.is_draining(*node));
        if self.operating.wishes.is_empty() {
            return;
        }
        if !self.raft.is_leader() {
            return self.wishes_lost(now);
        }
        // Who hands over decides nothing; and the registry must be what the log says before anyone judges by it.
        let ready = self.is_ready_leader() && self.applied.index() == self.raft.committed();
        let status = self.raft.status();
        for mut wish in std::mem::take(&mut self.operating.wishes) {
            let judged = if ready { self.judge_wish(now, &status, &wish) } else { Judged::Wait(wish.waits.clone()) };
            let end = match judged {
                Judged::Done => Some(Ok(LeaderAnswer::Operated(self.operated(now, &status, &wish)))),
                // What stands in the log is not taken back by a refusal: it waits until it is safe.
                Judged::Refused(failure) if !wish.begun => Some(Err(failure)),
                Judged::Refused(failure) => {
                    wish.waits = failure.what;
                    None
                }
                Judged::HandOver => {
                    wish.handed_over = true;
                    self.hand_over_for(now, super::handover::Why::Operator);
                    None
                }
                Judged::Wait(why) => {
                    wish.waits = why;
                    None
                }
                Judged::Write(..) => None,
            };
            let late = || (wish.deadline <= now.mono).then(|| Err(late(&wish)));
            match end.or_else(late) {
                Some(result) => self.end_question(now, wish.asker, result),
                None => self.operating.wishes.push(wish),
            }
        }
    }

    fn judge_wish(&self, now: Now, status: &Status, wish: &Wish) -> Judged {
        // Half a second ago is not enough where a vote is given up: a voter that counts has answered since it was asked for,
        // or is known to be silent.
        let gives_up = matches!(wish.verb, Verb::Drain | Verb::Remove { .. } | Verb::Demote { .. });
        if gives_up && !wish.begun && !self.have_answered_since(now, status, wish.since) {
            return Judged::Wait("the voters to answer".into());
        }
        match &wish.verb {
            Verb::Drain => self.judge_drain(now, status, wish),
            Verb::Undrain => self.judge_undrain(wish),
            Verb::Remove { replace_with } => self.judge_remove(now, status, wish, replace_with.as_deref()),
            Verb::Promote { allow_even } => self.judge_promote(now, status, wish, *allow_even),
            Verb::Demote { allow_even } => self.judge_demote(now, status, wish, *allow_even),
            Verb::Unpin => self.judge_unpin(wish),
        }
    }

    fn have_answered_since(&self, now: Now, status: &Status, since: Mono) -> bool {
        status.configuration.voters.iter().all(|v| {
            let heard = status.peers.get(v).and_then(|peer| peer.last_heard);
            *v == self.me || heard.is_some_and(|at| at > since) || !self.is_healthy(now.mono, status, *v)
        })
    }

    /// The next word for the log that some wish needs, and that is safe now.
    pub(super) fn next_wish(&mut self, now: Now, status: &Status) -> Option<(Command, String)> {
        let judged = |wish: &Wish| match self.judge_wish(now, status, wish) {
            Judged::Write(command, why) => Some((command, why)),
            _ => None,
        };
        let (at, found) = self.operating.wishes.iter().enumerate().find_map(|(at, wish)| Some((at, judged(wish)?)))?;
        self.operating.wishes[at].begun = true;
        Some(found)
    }

    /// This node leads no more. What is written the next leader carries out; what is not, nobody does.
    pub(super) fn wishes_lost(&mut self, now: Now) {
        let Operating { wishes, .. } = std::mem::take(&mut self.operating);
        for wish in wishes {
            let mut failure = not_leading();
            if wish.begun {
                failure.effect = Effect::Unknown;
            }
            self.end_question(now, wish.asker, Err(failure));
        }
    }

    /// What has become of it, for the operator.
    fn operated(&self, now: Now, status: &Status, wish: &Wish) -> Operated {
        let voters = &status.configuration.voters;
        let gave = NodeId::new(wish.node).is_some_and(|n| wish.before.contains(&n) && !voters.contains(&n));
        let heir = voters.iter().find(|v| !wish.before.contains(v)).filter(|_| gave);
        Operated {
            name: wish.name.clone(),
            node: wish.node,
            raft: self.raft_word(wish.node).into(),
            changed: wish.begun,
            present: self.is_present(wish.node),
            heir: heir.map(|n| self.name_of(n.get())),
            voters: voters.iter().map(|n| self.name_of(n.get())).collect(),
            tolerates: self.tolerated(now.mono, status),
            ms: 0,
        }
    }

    /// How many more voters may fail, once those that are drained are stopped.
    fn tolerated(&self, now: Mono, status: &Status) -> u32 {
        let voters = &status.configuration.voters;
        let stays = |v: &&NodeId| self.is_healthy(now, status, **v) && !self.registry.is_draining(v.get());
        let spare = voters.iter().filter(stays).count().saturating_sub(voters.len() / 2 + 1);
        u32::try_from(spare).unwrap_or(u32::MAX)
    }

    /// Why these voters could not go on without that node, and without all that are drained: with what would help, or, if
    /// some only have to catch up, waiting for them. `what` would be done is said before the reason.
    pub(super) fn why_short(
        &self,
        now: Mono,
        status: &Status,
        voters: &BTreeSet<NodeId>,
        without: NodeId,
        what: &str,
    ) -> Option<Judged> {
        let stays = |v: &&NodeId| **v != without && !self.registry.is_draining(v.get());
        let answers = |v: &&NodeId| self.is_healthy(now, status, **v);
        let holds = |v: &&NodeId| answers(v) && (self.is_caught_up(now, status, **v) || mutant!(LaggardCounts));
        let need = voters.len() / 2 + 1;
        if voters.iter().filter(stays).filter(holds).count() >= need {
            return None;
        }
        let well = voters.iter().filter(stays).filter(answers).count();
        if well >= need {
            let late = voters.iter().filter(stays).find(|v| !holds(v)).copied();
            return Some(Judged::Wait(self.lag_of(status, late.unwrap_or(without))));
        }
        let names = |nodes: Vec<NodeId>| nodes.iter().map(|n| self.name_of(n.get())).collect::<Vec<_>>();
        let silent = names(voters.iter().filter(|v| **v != without && !answers(v)).copied().collect());
        let drained = voters.iter().filter(|v| **v != without && self.registry.is_draining(v.get()));
        let drained = names(drained.copied().collect());
        let mut helps: Vec<String> = Vec::new();
        helps.extend((!silent.is_empty()).then(|| {
            let them = silent.join(" and ");
            format!("bring {them} back, or remove {them} first")
        }));
        helps.extend(drained.iter().map(|name| format!("`quorate drain --undo {name}` first")));
        if helps.is_empty() {
            helps.push("add an agent first and wait until it has caught up".into());
        }
        let said = |nodes: &[String], one: &str, more: &str| match nodes {
            [] => String::new(),
            [node] => format!("; {node} {one}"),
            nodes => format!("; {} {more}", nodes.join(" and ")),
        };
        let silent = said(&silent, "does not answer", "do not answer");
        let drained = said(&drained, "is drained", "are drained");
        let total = voters.len();
        let why = format!("{well} of {total} voters would be left, and {need} must answer{silent}{drained}");
        Some(Judged::refused(format!("{what}: {why}"), helps.join("; or ")))
    }
}

/// What a removed agent needs to come back.
pub(in crate::node) fn add_it_again() -> String {
    "start it with a fresh data directory to join as a new node".into()
}

fn late(wish: &Wish) -> Failure {
    let what = match (wish.begun, wish.waits.as_str()) {
        (_, "") => "the leader has not come to it in time".to_owned(),
        (_, waits) => format!("still waiting for {waits}"),
    };
    let name = printable(&wish.name);
    if wish.begun {
        return Failure {
            code: Code::NoQuorum,
            effect: Effect::Unknown,
            what: format!("it is begun and not finished in time: {what}"),
            hint: format!("it goes on by itself; ask again to wait for it, or look at {name} in `quorate members`"),
        };
    }
    not_applied(Code::Late, what, "give it more time with --timeout")
}
