//! Autopilot: on the leader, from what is to what should be, at most one change at a time.
//!
//! Level-triggered: it looks at gossip, registry, configuration and progress anew at each turn and takes one legal
//! step. Gossip alone never edits the configuration, and after each step a majority of the new voters has answered
//! within the last election timeout, or the step is not taken.

use super::{Level, Node};
use crate::codec;
use crate::machine::registry::{Command, Registration};
use quorate_membership::State;
use quorate_raft::wal::EntryKind;
use quorate_raft::{Configuration, LogIndex, Mono, NodeId, Now, Outcome, Role, Status, Term, Ticket, mutant};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A learner this close to the commit index counts as caught up, in entries.
const CAUGHT_UP_ENTRIES: u64 = 64;
/// After a refused step, before the next try.
const PAUSE: Duration = Duration::from_millis(100);
/// The same reason for not admitting an agent is told again only after this long.
const TELL_AGAIN: Duration = Duration::from_secs(30);

/// What the autopilot is waiting for.
#[derive(Debug, Default)]
pub(super) struct Autopilot {
    /// The step in flight: its ticket, and what it does, for people.
    step: Option<(u64, String)>,
    /// Not before this.
    not_before: Mono,
    /// Since when growth has been possible without a break, and to whom.
    growth: Option<(BTreeSet<NodeId>, Mono)>,
    /// Why an agent is not admitted, and when that was told.
    waiting: BTreeMap<u64, (String, Mono)>,
    /// When this node began to lead: silence before that says nothing about others.
    leads_since: Option<(Term, Mono)>,
}

/// What a turn decides.
enum Step {
    Registry(Command, String),
    Change { voters: BTreeSet<NodeId>, learners: BTreeSet<NodeId>, why: String },
}

impl Autopilot {
    /// Why this agent is not in the group, if the autopilot knows.
    pub(super) fn waiting(&self, node: u64) -> Option<String> {
        self.waiting.get(&node).map(|(why, _)| why.clone())
    }
}

impl Node {
    /// One turn.
    pub(super) fn reconcile(&mut self, now: Now) {
        if !self.raft.is_leader() {
            self.autopilot = Autopilot::default();
            return;
        }
        if self.autopilot.leads_since.is_none_or(|(term, _)| term != self.raft.term()) {
            self.autopilot = Autopilot { leads_since: Some((self.raft.term(), now.mono)), ..Autopilot::default() };
        }
        self.answer_removals(now);
        let is_ready = self.is_ready_leader() || mutant!(ChangeBeforeOwnTerm);
        let is_busy = self.autopilot.step.is_some() && !mutant!(TwoChanges);
        if !is_ready || is_busy || now.mono < self.autopilot.not_before {
            return;
        }
        // The registry must be what the log says before anyone judges by it.
        if self.applied.index() != self.raft.committed() && !mutant!(ChangeBeforeOwnTerm) {
            return;
        }
        let status = self.raft.status();
        let is_settled = status.configuration_committed || mutant!(TwoChanges) || mutant!(ChangeBeforeOwnTerm);
        if !is_settled || !status.configuration.outgoing.is_empty() || self.handover.is_under_way() {
            return;
        }
        if let Some(step) = self.next_step(now, &status) {
            self.take(now, step, status.configuration_index);
        }
    }

    fn next_step(&mut self, now: Now, status: &Status) -> Option<Step> {
        self.removal_step(now, status)
            .or_else(|| self.registration_step(now))
            .or_else(|| self.supersede_step(now, status))
            .or_else(|| self.learner_step(now, status))
            .or_else(|| self.growth_step(now, status))
    }

    fn take(&mut self, now: Now, step: Step, expected: LogIndex) {
        let ticket = self.token();
        match step {
            Step::Registry(command, why) => {
                self.note(Level::Info, why.clone());
                self.autopilot.step = Some((ticket, why));
                self.propose(now, ticket, EntryKind::Registry, codec::encode(&command).into(), 0);
            }
            Step::Change { voters, learners, why } => {
                self.note(Level::Info, why.clone());
                self.autopilot.step = Some((ticket, why));
                let change = quorate_raft::Input::Change { ticket: Ticket(ticket), expected, voters, learners };
                self.raft.handle(now, change);
                self.drain_raft(now);
            }
        }
    }

    /// The end of a step, if `ticket` is one.
    pub(super) fn autopilot_done(&mut self, now: Now, ticket: u64, outcome: Outcome) -> bool {
        if self.autopilot.step.as_ref().is_none_or(|(t, _)| *t != ticket) {
            return false;
        }
        let step = self.autopilot.step.take();
        match outcome {
            Outcome::Committed { .. } => self.hurry(now),
            Outcome::Rejected(why) => {
                self.autopilot.not_before = now.mono.after(PAUSE);
                if let (Some((_, what)), true) = (step, self.raft.is_leader()) {
                    self.note(Level::Info, format!("{what}: put off ({why:?})"));
                }
            }
            Outcome::Lost => {}
        }
        true
    }

    // ---- what is ----

    fn is_alive(&self, node: u64) -> bool {
        node == self.me.get() || self.members.member(node).is_some_and(|m| m.state == State::Alive)
    }

    /// Alive in gossip and connected: its Hello proved who it is.
    fn is_present(&self, node: u64) -> bool {
        node == self.me.get() || (self.is_alive(node) && self.peers.is_up(node))
    }

    /// How long nothing has been heard from this node, as far as this leader can know.
    pub(super) fn silent_for(&self, now: Mono, status: &Status, node: NodeId) -> Duration {
        if node == self.me {
            return Duration::ZERO;
        }
        let raft = status.peers.get(&node).and_then(|p| p.last_heard);
        let link = self.peers.last_up(node.get(), now);
        let since = self.autopilot.leads_since.map(|(_, at)| at);
        [raft, link, since].into_iter().flatten().max().map_or(Duration::ZERO, |at| now.since(at))
    }

    /// Answered within the last election timeout.
    pub(super) fn is_healthy(&self, now: Mono, status: &Status, node: NodeId) -> bool {
        let window = self.options.raft.election_timeout_max;
        let heard = status.peers.get(&node).and_then(|p| p.last_heard);
        node == self.me || heard.is_some_and(|at| now.since(at) <= window)
    }

    /// Answered within two heartbeats, and no connection of it was lost since.
    fn is_here(&self, now: Mono, status: &Status, node: NodeId) -> bool {
        let heard = status.peers.get(&node).and_then(|p| p.last_heard);
        let recent = heard.is_some_and(|at| now.since(at) <= self.options.raft.heartbeat * 2);
        node == self.me || (recent && self.peers.is_up(node.get()))
    }

    /// Would a majority of these voters have answered within the last election timeout?
    pub(super) fn is_healthy_majority(&self, now: Mono, status: &Status, voters: &BTreeSet<NodeId>) -> bool {
        let well = voters.iter().filter(|v| self.is_healthy(now, status, **v)).count();
        well > voters.len() / 2 || mutant!(StepWithoutMajority)
    }

    /// Holds everything that is committed, give or take what is on its way, and answered within two heartbeats.
    pub(super) fn is_caught_up(&self, now: Mono, status: &Status, node: NodeId) -> bool {
        let Some(peer) = status.peers.get(&node) else { return node == self.me };
        let recent = peer.last_heard.is_some_and(|at| now.since(at) <= self.options.raft.heartbeat * 2);
        peer.replicating && recent && peer.matched.0 + CAUGHT_UP_ENTRIES >= status.committed.0
    }

    // ---- what should be ----

    /// Someone has left, or was superseded while it only learned: out of the configuration.
    fn removal_step(&mut self, now: Now, status: &Status) -> Option<Step> {
        if let Some(node) = self.next_departure() {
            let why = format!("{} asks to leave", self.name_of(node));
            return Some(Step::Registry(Command::Depart { node }, why));
        }
        if let Some(command) = self.next_forgotten() {
            return Some(Step::Registry(command, "forgetting a failed agent, as an operator asks".into()));
        }
        if let Some(step) = self.foreign_learner_step(status) {
            return Some(step);
        }
        let configuration = &status.configuration;
        let everyone = configuration.voters.iter().chain(&configuration.learners);
        let failed = |n: u64| self.members.member(n).is_some_and(|m| m.state == State::Failed);
        let is_to_go = |n: u64| self.registry.has_departed(n) || failed(n) && mutant!(RemovedByGossip);
        let leaver = everyone.copied().find(|n| is_to_go(n.get()))?;
        let (voters, learners) = self.without(now.mono, status, leaver)?;
        // Fewer voters bear fewer losses, so each that counts must be here now: half a second ago is not enough.
        let here = voters.iter().filter(|v| self.is_here(now.mono, status, **v)).count();
        if here <= voters.len() / 2 && !mutant!(StepWithoutMajority) {
            return None;
        }
        let how = if self.registry.is_forgotten(leaver.get()) { "is forgotten" } else { "is leaving" };
        let why = format!("removing {}, which {how}", self.name_of(leaver.get()));
        Some(Step::Change { voters, learners, why })
    }

    /// A newcomer that was added here and joined another log meanwhile will never catch up with this one.
    fn foreign_learner_step(&self, status: &Status) -> Option<Step> {
        let Configuration { voters, learners, .. } = &status.configuration;
        let foreign = learners.iter().find(|n| self.is_of_another_log(n.get()))?;
        let learners = learners.iter().copied().filter(|n| n != foreign).collect();
        let why = format!("removing {}, which belongs to another log", self.name_of(foreign.get()));
        Some(Step::Change { voters: voters.clone(), learners, why })
    }

    /// The configuration without this node, if that is safe: a sole voter hands its seat to a caught-up learner.
    pub(super) fn without(
        &self,
        now: Mono,
        status: &Status,
        node: NodeId,
    ) -> Option<(BTreeSet<NodeId>, BTreeSet<NodeId>)> {
        let Configuration { mut voters, mut learners, .. } = status.configuration.clone();
        learners.remove(&node);
        if voters.remove(&node) && voters.is_empty() {
            let heir = learners.iter().copied().find(|l| self.is_caught_up(now, status, *l))?;
            learners.remove(&heir);
            voters.insert(heir);
        }
        self.is_healthy_majority(now, status, &voters).then_some((voters, learners))
    }

    /// A connected agent that no name is registered for, or that has booted since.
    fn registration_step(&mut self, now: Now) -> Option<Step> {
        let candidates: Vec<_> = self.peers.up().map(|p| (p.node, p.name.clone(), p.epoch, p.boot, p.log_id)).collect();
        for (node, name, epoch, boot, log_id) in candidates {
            if !self.is_present(node) || self.registry.has_departed(node) {
                continue;
            }
            let registration = Registration { node, name: name.clone(), epoch, boot };
            match self.registry.node(node) {
                Some(known) if known.epoch >= epoch && known.name == name => {
                    self.autopilot.waiting.remove(&node);
                    continue;
                }
                Some(known) if known.name == name => {
                    let why = format!("{name} is in its boot {epoch}");
                    return Some(Step::Registry(Command::Register(registration), why));
                }
                _ => {}
            }
            if let Some(why) = self.why_not_registered(now, &registration, log_id) {
                self.tell_waiting(now, node, &name, why);
                continue;
            }
            self.autopilot.waiting.remove(&node);
            let why = format!("registering {name} as node {node:016x}");
            return Some(Step::Registry(Command::Register(registration), why));
        }
        None
    }

    fn why_not_registered(&self, now: Now, new: &Registration, log_id: Option<[u8; 16]>) -> Option<String> {
        if log_id.is_some_and(|id| Some(id) != self.log_id) {
            return Some("it belongs to another log; wipe its data directory to let it join this one".into());
        }
        if log_id.is_some() {
            return Some("its data directory holds this log, but the name is not registered to it".into());
        }
        let holder = self.registry.holder(&new.name).filter(|h| h.node != new.node)?;
        let hold = self.options.name_hold;
        if holder.node == self.me.get() || self.is_alive(holder.node) || self.peers.is_up(holder.node) {
            return Some(format!("the name is held by node {:016x}, which is alive", holder.node));
        }
        let id = NodeId::new(holder.node)?;
        let silent = self.silent_for(now.mono, &self.raft.status(), id);
        (silent < hold).then(|| {
            format!(
                "the name is held by node {:016x}, silent for {} s of {} s",
                holder.node,
                silent.as_secs(),
                hold.as_secs()
            )
        })
    }

    fn tell_waiting(&mut self, now: Now, node: u64, name: &str, why: String) {
        let told = self.autopilot.waiting.get(&node);
        let again = told.is_none_or(|(_, at)| now.mono.since(*at) >= TELL_AGAIN);
        let at = if again { now.mono } else { told.map_or(now.mono, |(_, at)| *at) };
        if again {
            let name = crate::limits::printable(name);
            self.note(Level::Warn, format!("agent {name} ({node:016x}) is not admitted: {why}"));
        }
        self.autopilot.waiting.insert(node, (why, at));
    }

    /// A disk that lost its name to a newer one: the new disk takes its seat, in one change.
    fn supersede_step(&mut self, now: Now, status: &Status) -> Option<Step> {
        let Configuration { voters, learners, .. } = &status.configuration;
        let heir = |old: &NodeId| self.registry.superseded_by(old.get()).and_then(NodeId::new);
        if let Some(old) = learners.iter().find(|n| heir(n).is_some()) {
            let learners = learners.iter().copied().filter(|n| n != old).collect();
            let why = format!("removing the former disk {old} of a superseded learner");
            return Some(Step::Change { voters: voters.clone(), learners, why });
        }
        let silent = |n: &NodeId| self.silent_for(now.mono, status, *n) >= self.options.name_hold;
        let mut seats = voters.iter().filter(|n| silent(n)).filter_map(|n| Some((*n, heir(n)?)));
        seats.find_map(|(old, new)| self.seat_of(now, status, old, new))
    }

    /// What becomes of the seat of a lost disk whose name is held by the disk `new`.
    fn seat_of(&self, now: Now, status: &Status, old: NodeId, new: NodeId) -> Option<Step> {
        let Configuration { mut voters, mut learners, .. } = status.configuration.clone();
        if voters.contains(&new) || self.registry.has_departed(new.get()) {
            // It has a seat of its own already, or wants none any more.
            let (voters, learners) = self.without(now.mono, status, old)?;
            let why = format!("removing the former disk {old} of {}", self.name_of(new.get()));
            return Some(Step::Change { voters, learners, why });
        }
        if !learners.remove(&new) || !self.is_caught_up(now.mono, status, new) {
            return None;
        }
        voters.remove(&old);
        voters.insert(new);
        let why = format!("the new disk of {} takes the seat of its former one", self.name_of(new.get()));
        self.is_healthy_majority(now.mono, status, &voters).then_some(Step::Change { voters, learners, why })
    }

    /// Registered, present, not in the group, and there is room: it learns.
    fn learner_step(&mut self, now: Now, status: &Status) -> Option<Step> {
        let configuration = &status.configuration;
        let mut learners = configuration.learners.clone();
        let room = self.options.replicas_max.saturating_sub(configuration.voters.len() + learners.len());
        // A seat is kept free for the new disk of a superseded voter, even beyond the room.
        let newcomers: Vec<NodeId> = self
            .registry
            .nodes()
            .filter_map(|r| NodeId::new(r.node))
            .filter(|n| !configuration.voters.contains(n) && !learners.contains(n))
            .filter(|n| self.is_present(n.get()) && !self.is_of_another_log(n.get()))
            .collect();
        let replaces =
            |n: &NodeId| configuration.voters.iter().any(|v| self.registry.superseded_by(v.get()) == Some(n.get()));
        let chosen: Vec<NodeId> = newcomers
            .iter()
            .copied()
            .filter(replaces)
            .chain(newcomers.iter().copied().filter(|n| !replaces(n)).take(room))
            .collect();
        if chosen.is_empty() || !self.is_healthy_majority(now.mono, status, &configuration.voters) {
            return None;
        }
        let names: Vec<String> = chosen.iter().map(|n| self.name_of(n.get())).collect();
        learners.extend(chosen);
        let why = format!("adding {} as learner", names.join(", "));
        Some(Step::Change { voters: configuration.voters.clone(), learners, why })
    }

    /// Odd governs growth: 1 to 3 and 3 to 5 are one joint change; an even group grows by the one it lacks.
    fn growth_step(&mut self, now: Now, status: &Status) -> Option<Step> {
        let configuration = &status.configuration;
        let ready: Vec<NodeId> = configuration
            .learners
            .iter()
            .copied()
            .filter(|l| self.registry.node(l.get()).is_some() && self.is_present(l.get()))
            .filter(|l| self.is_caught_up(now.mono, status, *l))
            .collect();
        let have = configuration.voters.len();
        let most = (have + ready.len()).min(self.options.voters_target);
        let goal = if most.is_multiple_of(2) && !mutant!(EvenGrowth) { most.saturating_sub(1) } else { most };
        if goal <= have {
            self.autopilot.growth = None;
            return None;
        }
        let chosen: BTreeSet<NodeId> = ready.into_iter().take(goal - have).collect();
        let since = match &self.autopilot.growth {
            Some((same, since)) if *same == chosen => *since,
            _ => {
                self.autopilot.growth = Some((chosen, now.mono));
                return None;
            }
        };
        let well = configuration.voters.iter().all(|v| self.is_healthy(now.mono, status, *v));
        if !well || now.mono.since(since) < self.options.growth_patience {
            return None;
        }
        self.autopilot.growth = None;
        let voters: BTreeSet<NodeId> = configuration.voters.union(&chosen).copied().collect();
        let learners = configuration.learners.difference(&chosen).copied().collect();
        let names: Vec<String> = chosen.iter().map(|n| self.name_of(n.get())).collect();
        let why = format!("{} voters become {}: {}", have, voters.len(), names.join(", "));
        self.is_healthy_majority(now.mono, status, &voters).then_some(Step::Change { voters, learners, why })
    }

    /// Term, role or leader changed.
    pub(super) fn role_changed(&mut self, now: Now) {
        let picture = (self.raft.term(), self.raft.leader(), self.raft.role());
        if picture == self.reported {
            return;
        }
        let (old_term, old_leader, old_role) = std::mem::replace(&mut self.reported, picture);
        let (term, leader, role) = picture;
        match (leader, role) {
            (_, Role::Leader) if old_role != Role::Leader || old_term != term => {
                if !mutant!(NumbersKept) {
                    self.in_flight.clear();
                }
                self.note(Level::Info, format!("this agent leads in term {term}"));
            }
            (Some(leader), _) if Some(leader) != old_leader || old_term != term => {
                let name = self.name_of(leader.get());
                self.note(Level::Info, format!("{name} leads in term {term}"));
            }
            (None, _) if old_leader.is_some() => self.note(Level::Warn, "no leader".to_string()),
            _ => {}
        }
        if role != Role::Leader {
            if !mutant!(NumbersKept) {
                self.in_flight.clear();
            }
            self.removals_lost(now);
        }
        self.leader_changed(now);
        self.hurry(now);
    }
}
