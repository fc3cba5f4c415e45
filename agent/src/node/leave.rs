//! Leaving for good: a committed removal first, then gossip, then the agent stops.
//!
//! A departed node id never comes back: the removal is in the registry before the configuration changes.

use super::questions::{Asker, not_leading, still_pending};
use super::{LeaderAnswer, Level, Node, Output, Reply, not_applied};
use crate::api::{Answer, Code, Effect, Failure};
use quorate_raft::{LogIndex, Mono, NodeId, Now};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Questions of one agent about its removal that are answered: it asks again and again, and means only the latest.
const REMOVAL_ASKERS_MAX: usize = 16;
/// How long the gossip of a leaver may take before the agent stops without it.
const GOSSIP_PATIENCE: Duration = Duration::from_secs(3);
/// Between two requests to be removed: what a leader that was just elected needs until it may decide.
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// The longest that a leader remembers one request.
const ASK_MAX: Duration = Duration::from_secs(300);

/// How far this node's own leaving is.
#[derive(Debug, Default)]
enum Phase {
    #[default]
    Stays,
    /// Waits for the committed removal.
    Removal {
        request: u64,
        deadline: Mono,
        next_ask: Mono,
        asking: bool,
        /// Requests so far; what became of an earlier one may not be known.
        tries: u32,
        /// It led, and has tried to hand over first.
        handed_over: bool,
    },
    /// Removed; the others are being told.
    Gossip {
        /// Who is told at the end; nobody, if the request had ended before.
        request: Option<u64>,
        until: Mono,
    },
    Gone,
    /// An operator has removed it: it stays up, serves nobody, and says so.
    Out {
        /// The others have time until then to hear of it.
        until: Mono,
    },
}

/// This node's leaving, and on a leader the leavings of others.
#[derive(Debug, Default)]
pub(super) struct Leave {
    phase: Phase,
    /// Who waits for which node to be removed.
    removals: BTreeMap<u64, Vec<(Asker, Mono)>>,
    /// Who told this node, while it holds no log, that it has left for good.
    told_by: BTreeSet<u64>,
}

impl Leave {
    pub(super) fn is_under_way(&self) -> bool {
        !matches!(self.phase, Phase::Stays)
    }

    /// When the next step is due, whatever happens.
    pub(super) fn deadline(&self) -> Option<Mono> {
        match self.phase {
            Phase::Removal { deadline, .. } => Some(deadline),
            Phase::Gossip { until, .. } => Some(until),
            Phase::Stays | Phase::Gone | Phase::Out { .. } => None,
        }
    }

    /// Has an operator removed this node, and have the others had the time to hear of it?
    pub(super) fn is_shut_out(&self, now: Mono) -> bool {
        matches!(self.phase, Phase::Out { until } if until <= now)
    }
}

impl Node {
    /// A client asks this agent to leave.
    pub(super) fn client_leave(&mut self, now: Now, request: u64, deadline: Mono) {
        let refuse = |what: &str, hint: &str| Failure {
            code: Code::Refused,
            effect: Effect::NotApplied,
            what: what.into(),
            hint: hint.into(),
        };
        let failure = if matches!(self.leave.phase, Phase::Out { .. }) {
            Some(refuse("an operator has removed this agent already", "stop it with Ctrl-C"))
        } else if self.leave.is_under_way() {
            Some(refuse("this agent is leaving already", "wait for it to stop"))
        } else if self.log_id.is_none() && self.view.is_none() {
            Some(refuse("this agent is not part of a cluster yet", "stop it with Ctrl-C"))
        } else if self.is_last_agent() {
            let hint = "stop it with Ctrl-C; its data directory holds the only copy of the log";
            Some(refuse("this is the last agent of the cluster", hint))
        } else {
            None
        };
        match failure {
            Some(failure) => self.emit(Output::Answer { request, result: Err(failure) }),
            None => {
                self.leave.phase = Phase::Removal {
                    request,
                    deadline,
                    next_ask: now.mono,
                    asking: false,
                    tries: 0,
                    handed_over: false,
                };
                self.next_reconcile = self.next_reconcile.min(deadline);
                self.note(Level::Info, "leaving the cluster");
                self.pursue_leave(now);
            }
        }
    }

    /// Nobody else holds the log or could.
    fn is_last_agent(&self) -> bool {
        let configuration = self.raft.configuration();
        let others = configuration.voters.iter().chain(&configuration.learners).any(|n| *n != self.me);
        self.in_raft() && !others && self.peers.up().next().is_none()
    }

    /// One turn of this node's own leaving.
    pub(super) fn pursue_leave(&mut self, now: Now) {
        match self.leave.phase {
            Phase::Stays => {
                if !self.is_removed() {
                    return;
                }
                if self.was_removed() {
                    self.leave.phase = Phase::Out { until: now.mono.after(GOSSIP_PATIENCE) };
                    return self.stay_out(now);
                }
                self.tell_removal(now, None);
            }
            Phase::Gone | Phase::Out { .. } => {}
            Phase::Removal { request, deadline, tries, .. } if now.mono >= deadline => {
                self.leave.phase = Phase::Stays;
                let failure = self.not_left_in_time(tries);
                self.emit(Output::Answer { request, result: Err(failure) });
            }
            Phase::Removal { deadline, next_ask, asking, .. } => {
                if !asking && now.mono >= next_ask {
                    self.ask_to_be_removed(now, deadline);
                }
            }
            Phase::Gossip { until, .. } if now.mono >= until => self.gone(),
            Phase::Gossip { .. } => {}
        }
    }

    fn not_left_in_time(&self, tries: u32) -> Failure {
        let why = self.why_no_leader();
        if tries == 0 {
            let what = format!("no leader could be asked for the removal: {why}");
            return not_applied(
                Code::NoQuorum,
                what,
                "the agent stays; leave again when `quorate status` shows a leader",
            );
        }
        Failure {
            code: Code::NoQuorum,
            effect: Effect::Unknown,
            what: format!("the removal was not confirmed in time: {why}"),
            hint: "if it is recorded already, the agent leaves by itself as soon as that is safe; run it again to wait for it"
                .into(),
        }
    }

    fn ask_to_be_removed(&mut self, now: Now, deadline: Mono) {
        let me = self.me.get();
        if self.raft.is_leader() {
            if self.hands_over_before_leaving(now) {
                return;
            }
            self.mark_asking(now, true);
            return self.removal_asked(now, Asker::Leave, me, deadline);
        }
        if let Some(leader) = self.leader().filter(|l| *l != me && self.peers.is_up(*l)) {
            self.mark_asking(now, true);
            // A short deadline for each try: the leader may change while it removes us.
            let try_until = now.mono.after(Duration::from_secs(2)).min(deadline);
            self.ask_removal(now, leader, try_until);
        }
    }

    /// A leader that may leave lets another voter lead first, so that nobody has to elect one; once. If that fails, or
    /// nobody can take over, it removes itself and hands over with its last word. Says whether to wait.
    fn hands_over_before_leaving(&mut self, now: Now) -> bool {
        if self.handover.is_under_way() {
            return true;
        }
        if !self.is_ready_leader() || self.may_remove(now, self.me.get()).is_err() {
            return false;
        }
        match &mut self.leave.phase {
            Phase::Removal { handed_over, .. } if !*handed_over => *handed_over = true,
            _ => return false,
        }
        self.hand_over_for(now, super::handover::Why::Leaves)
    }

    fn mark_asking(&mut self, now: Now, now_asking: bool) {
        if let Phase::Removal { next_ask, asking, tries, .. } = &mut self.leave.phase {
            *asking = now_asking;
            *tries += u32::from(now_asking);
            *next_ask = now.mono.after(ASK_AGAIN);
        }
    }

    /// What the leader said to our wish to leave.
    pub(super) fn leave_answered(&mut self, now: Now, result: Result<LeaderAnswer, Failure>) {
        let Phase::Removal { request, deadline, tries, .. } = self.leave.phase else { return };
        match result {
            Ok(_) => self.tell_removal(now, Some((request, deadline))),
            // Only the first request is refused for good: an earlier one may have marked this node as departed.
            Err(failure) if failure.code == Code::Refused && tries == 1 => {
                self.leave.phase = Phase::Stays;
                self.emit(Output::Answer { request, result: Err(failure) });
            }
            // No leader, or it changed: asked again until the client's deadline.
            Err(_) => self.mark_asking(now, false),
        }
    }

    /// It is removed for good, though its request to leave ended without a word of that: the removal was marked in the
    /// log, and a later leader carried it out, or it died before it could tell. It could never come back, so it finishes
    /// leaving. Only a leader can say so to one that sees no more of the log.
    fn is_removed(&self) -> bool {
        // One that never held the log has no id to compare: seed 102729 left while it was outside the group and died
        // before it could set its directory aside.
        let of_ours = |log_id| self.log_id.is_none_or(|ours| ours == log_id);
        let told = self.view.as_ref().is_some_and(|v| v.departed && of_ours(v.log_id));
        told || (self.is_out_of_group() && self.registry.has_departed(self.me.get()))
    }

    /// May `node` tell this one that it has left for good? Who hears a leader hears of it in the log. Who has a group of
    /// its own believes a voter of that group, for every agent that joins is a learner; who has none, two agents, if it
    /// is connected with more than one.
    pub(super) fn may_tell_departure(&mut self, node: u64) -> bool {
        if self.raft.leader().is_some_and(|leader| leader.get() != node) {
            return false;
        }
        if self.raft.last().index > LogIndex::ZERO {
            return NodeId::new(node).is_some_and(|id| self.raft.configuration().is_voter(id));
        }
        let peers = &self.peers;
        self.leave.told_by.retain(|teller| peers.is_up(*teller));
        self.leave.told_by.insert(node);
        self.leave.told_by.len() >= self.peers.up().take(2).count()
    }

    /// Is this node outside a configuration that is committed?
    fn is_out_of_group(&self) -> bool {
        !self.in_raft() && self.raft.configuration_index() <= self.raft.committed()
    }

    /// Gossip has its time, but no longer than the client waits for the good news.
    fn tell_removal(&mut self, now: Now, request: Option<(u64, Mono)>) {
        let patience = now.mono.after(GOSSIP_PATIENCE);
        let until = request.map_or(patience, |(_, deadline)| patience.min(deadline));
        self.leave.phase = Phase::Gossip { request: request.map(|(id, _)| id), until };
        self.next_reconcile = self.next_reconcile.min(until);
        self.note(Level::Info, "removed from the cluster; telling the others");
        self.gossip_leave(now);
    }

    /// Gossip has told enough others.
    pub(super) fn gossip_left(&mut self) {
        self.gone();
    }

    fn gone(&mut self) {
        if let Phase::Gossip { request, .. } = self.leave.phase {
            self.leave.phase = Phase::Gone;
            if let Some(request) = request {
                self.emit(Output::Answer { request, result: Ok(Reply::Answer(Answer::Removed)) });
            }
            self.emit(Output::Departed);
        }
    }

    // ---- on the leader ----

    /// A node asks to be removed. The autopilot does it: first the departure into the registry, then the configuration.
    /// What is refused is refused before anything is appended; what is recorded is carried out as soon as it is safe.
    pub(super) fn removal_asked(&mut self, now: Now, asker: Asker, node: u64, deadline: Mono) {
        if !self.is_ready_leader() {
            return self.end_question(now, asker, Err(not_leading()));
        }
        if !self.registry.has_departed(node)
            && let Err(failure) = self.may_remove(now, node)
        {
            return self.end_question(now, asker, Err(failure));
        }
        let deadline = deadline.min(now.mono.after(ASK_MAX));
        let askers = self.leave.removals.entry(node).or_default();
        if askers.len() >= REMOVAL_ASKERS_MAX {
            // It has asked before and gave up waiting: only its latest questions are worth an answer.
            askers.remove(0);
        }
        askers.push((asker, deadline));
        self.hurry(now);
    }

    /// Nodes whose removal was asked of this leader and is not recorded yet.
    pub(super) fn next_departure(&self) -> Option<u64> {
        self.leave.removals.keys().copied().find(|n| !self.registry.has_departed(*n))
    }

    /// Would the group be safe without this node, and without all who are on their way out already?
    fn may_remove(&self, now: Now, node: u64) -> Result<(), Failure> {
        let status = self.raft.status();
        let Some(id) = NodeId::new(node) else { return Ok(()) };
        let mut after = status.clone();
        let leaving = |n: &NodeId| self.registry.has_departed(n.get()) || self.leave.removals.contains_key(&n.get());
        after.configuration.voters.retain(|n| *n == id || !leaving(n));
        after.configuration.learners.retain(|n| *n == id || !leaving(n));
        let in_group = after.configuration.voters.contains(&id) || after.configuration.learners.contains(&id);
        if !in_group || self.without(now.mono, &after, id).is_some() {
            return Ok(());
        }
        let (what, hint) = if after.configuration.voters.len() == 1 {
            ("no other agent holds the whole log yet", "wait until a learner has caught up, then leave again")
        } else {
            ("a majority of the remaining voters does not answer", "restore them first; `quorate members` shows who")
        };
        Err(not_applied(Code::Refused, what, hint))
    }

    /// Tells the leavers whose removal is committed, and those who waited too long.
    pub(super) fn answer_removals(&mut self, now: Now) {
        if self.leave.removals.is_empty() {
            return;
        }
        let status = self.raft.status();
        let everyone = [&status.configuration.voters, &status.configuration.outgoing, &status.configuration.learners];
        let mut ended = Vec::new();
        self.leave.removals.retain(|node, askers| {
            let inside = everyone.iter().any(|set| set.iter().any(|n| n.get() == *node));
            if !inside && status.configuration_committed && self.registry.has_departed(*node) {
                ended.extend(askers.drain(..).map(|(asker, _)| (asker, Ok(LeaderAnswer::Removed))));
            }
            let late = askers.extract_if(.., |(_, deadline)| *deadline <= now.mono);
            ended.extend(late.map(|(asker, _)| (asker, Err(still_pending()))));
            !askers.is_empty()
        });
        for (asker, result) in ended {
            self.end_question(now, asker, result);
        }
    }

    /// This node leads no more: others must ask the new leader, and so must it for itself.
    pub(super) fn removals_lost(&mut self, now: Now) {
        // A configuration acts when it is appended; who goes before it is committed may take the quorum along.
        let own_removal_done = self.is_out_of_group() && self.registry.has_departed(self.me.get());
        for (_, askers) in std::mem::take(&mut self.leave.removals) {
            for (asker, _) in askers {
                let done = asker == Asker::Leave && own_removal_done;
                let result = if done { Ok(LeaderAnswer::Removed) } else { Err(not_leading()) };
                self.end_question(now, asker, result);
            }
        }
    }
}
