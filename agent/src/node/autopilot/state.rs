//! What people ask of the autopilot: its settings, what it sees, and why an agent is what it is.
//!
//! It answers from the same facts and rules that decide, and decides nothing; settings change by an entry of the log only.

use super::candidates::{Seat, span};
use super::step::Step;
use crate::api::{
    AutopilotAnswer, AutopilotAsk, AutopilotExplained, AutopilotMember, AutopilotState, Code, Effect, Failure,
};
use crate::limits::printable;
use crate::machine::registry::Command;
use crate::machine::settings::Settings;
use crate::node::operate::add_it_again;
use crate::node::questions::{Asker, not_leading, still_pending};
use crate::node::{LeaderAnswer, Node, level, not_applied};
use quorate_raft::{Mono, NodeId, Now, Status};
use std::collections::BTreeSet;
use std::time::Duration;

/// Operators who may wait at once for settings to be committed.
const CONFIGURING_MAX: usize = 64;
/// Settings that one of them may set.
const SET_MAX: usize = 64;
/// The longest that a leader remembers one.
const ASK_MAX: Duration = Duration::from_secs(300);
/// Agents that one answer lists, those of the group first.
const MEMBERS_MAX: usize = 256;
/// Decisions in an answer about all, and about one agent.
const DECISIONS_SHOWN: usize = 16;

/// An operator who waits for settings.
#[derive(Debug)]
pub(super) struct Configuring {
    asker: Asker,
    deadline: Mono,
    set: Vec<(String, String)>,
}

impl Node {
    /// Somebody asks this leader.
    pub(in crate::node) fn autopilot_asked(&mut self, now: Now, asker: Asker, ask: AutopilotAsk, deadline: Mono) {
        if !self.is_ready_leader() {
            return self.end_question(now, asker, Err(not_leading()));
        }
        let answer = match ask {
            AutopilotAsk::Config { set } if set.is_empty() => Ok(self.settings_answer()),
            AutopilotAsk::Config { set } => match self.may_set(&set) {
                Ok(()) => {
                    let deadline = deadline.min(now.mono.after(ASK_MAX));
                    self.autopilot.configuring.push(Configuring { asker, deadline, set });
                    return self.hurry(now);
                }
                Err(failure) => Err(failure),
            },
            AutopilotAsk::State => Ok(AutopilotAnswer::State(self.autopilot_state(now))),
            AutopilotAsk::Explain { name } => self.explained(now, &name).map(AutopilotAnswer::Explained),
        };
        self.end_question(now, asker, answer.map(|answer| LeaderAnswer::Autopilot(Box::new(answer))));
    }

    // ---- settings ----

    fn settings_answer(&self) -> AutopilotAnswer {
        let pairs = self.settings().pairs().into_iter();
        AutopilotAnswer::Config { settings: pairs.map(|(key, value)| (key.to_owned(), value)).collect() }
    }

    fn may_set(&self, set: &[(String, String)]) -> Result<(), Failure> {
        self.needs_level(level::LEVEL_SETTINGS)?;
        if set.len() > SET_MAX || self.autopilot.configuring.len() >= CONFIGURING_MAX {
            return Err(not_applied(Code::Busy, "too many settings are being changed", "retry later"));
        }
        self.with(set).map(drop)
    }

    /// The settings after these were set.
    fn with(&self, set: &[(String, String)]) -> Result<Settings, Failure> {
        let mut settings = self.settings().clone();
        for (key, value) in set {
            settings.set(key, value).map_err(|bad| not_applied(Code::Invalid, bad.what, bad.next))?;
        }
        Ok(settings)
    }

    /// The next settings to be written into the log.
    pub(super) fn settings_step(&mut self) -> Option<Step> {
        let first = self.autopilot.configuring.first()?;
        let wanted = self.with(&first.set).ok()?;
        let changed = |key: &str| first.set.iter().any(|(k, _)| k == key);
        let pairs: Vec<String> =
            wanted.pairs().into_iter().filter(|(k, _)| changed(k)).map(|(k, v)| format!("{k}={v}")).collect();
        let why = format!("the autopilot goes by {}, as an operator asks", pairs.join(", "));
        (wanted != *self.settings()).then_some(Step::Registry(Command::Configure(wanted), why))
    }

    /// Whose settings are in force hears of it, and who waited too long.
    pub(super) fn answer_configuring(&mut self, now: Now) {
        let mut ended = Vec::new();
        while let Some(first) = self.autopilot.configuring.first() {
            let in_force = self.with(&first.set).is_ok_and(|wanted| wanted == *self.settings());
            let committed = self.applied.index() == self.raft.committed();
            if !(in_force && committed) {
                break;
            }
            let answer = LeaderAnswer::Autopilot(Box::new(self.settings_answer()));
            ended.push((self.autopilot.configuring.remove(0).asker, Ok(answer)));
        }
        let late = self.autopilot.configuring.extract_if(.., |c| c.deadline <= now.mono);
        ended.extend(late.map(|c| (c.asker, Err(still_pending()))));
        for (asker, result) in ended {
            self.end_question(now, asker, result);
        }
    }

    /// This node leads no more: what was proposed may stand, what was not never will.
    pub(super) fn configuring_lost(&mut self, now: Now) {
        for Configuring { asker, .. } in std::mem::take(&mut self.autopilot.configuring) {
            let failure = Failure {
                code: Code::NoQuorum,
                effect: Effect::Unknown,
                what: "the leader changed before the settings were committed".into(),
                hint: "look with `quorate autopilot config`, then set them again: that is safe".into(),
            };
            self.end_question(now, asker, Err(failure));
        }
    }

    // ---- what it sees ----

    /// What a decision goes by, for people; and whom it is about.
    pub(super) fn inputs(&self, now: Now, step: &Step, status: &Status) -> (String, BTreeSet<NodeId>) {
        let before = &status.configuration;
        let (voters, learners) = match step {
            Step::Change { voters, learners, .. } => (voters, learners),
            Step::Registry(command, _) => {
                let about = match command {
                    Command::Register(new) => NodeId::new(new.node),
                    Command::Depart { node } | Command::Forget { node, .. } => NodeId::new(*node),
                    _ => None,
                };
                return (format!("level {}", self.registry.level()), about.into_iter().collect());
            }
        };
        let votes = voters.symmetric_difference(&before.voters);
        let about = votes.chain(learners.symmetric_difference(&before.learners)).copied().collect();
        let all = before.members().into_iter().chain(voters.iter().chain(learners).copied());
        let seen = all.collect::<BTreeSet<_>>().into_iter().map(|n| self.seen(now, status, n));
        (seen.collect::<Vec<_>>().join("; "), about)
    }

    /// One agent in a line.
    fn seen(&self, now: Now, status: &Status, node: NodeId) -> String {
        let member = self.picture_of(now, status, node.get());
        let health = match member.gone_ms {
            Some(gone) => format!("gone {}", span(Duration::from_millis(gone))),
            None if member.healthy => format!("stable {}", span(Duration::from_millis(member.stable_ms))),
            None => "unhealthy".into(),
        };
        let lag = status.peers.get(&node).map_or(0, |p| status.committed.0.saturating_sub(p.matched.0));
        let zone = member.zone.map_or(String::new(), |zone| format!(" zone {zone}"));
        let (name, raft, flaps, version) = (member.name, member.raft, member.flaps, member.version);
        format!("{name} {raft} {health} flaps {flaps} lag {lag}{zone} version {version}")
    }

    fn autopilot_state(&self, now: Now) -> AutopilotState {
        let status = self.raft.status();
        let group = status.configuration.members();
        let others = self.registry.nodes().filter_map(|r| NodeId::new(r.node)).filter(|n| !group.contains(n));
        let all = group.iter().copied().chain(others).take(MEMBERS_MAX);
        let mut members: Vec<AutopilotMember> = all.map(|n| self.picture_of(now, &status, n.get())).collect();
        members.sort_by(|a, b| (&a.name, a.id).cmp(&(&b.name, b.id)));
        let leads = self.autopilot.leads_since.map_or(Duration::ZERO, |(_, at)| now.mono.since(at));
        AutopilotState {
            leader: self.options.name.clone(),
            term: status.term.0,
            leads_ms: millis(leads),
            level: self.registry.level(),
            supports: self.options.feature_level,
            voters_target: u32::try_from(self.options.voters_target).unwrap_or(u32::MAX),
            step: self.autopilot.step.as_ref().map(|step| step.what.clone()),
            members,
            decisions: self.decisions.newest(DECISIONS_SHOWN),
        }
    }

    fn explained(&self, now: Now, name: &str) -> Result<AutopilotExplained, Failure> {
        let Some(node) = self.node_named(name).and_then(NodeId::new) else {
            if self.registry.forgotten().any(|(_, gone)| gone == name) {
                let what = format!("{} was removed from the cluster", printable(name));
                return Err(not_applied(Code::NotFound, what, add_it_again()));
            }
            return Err(self.unknown_name(name));
        };
        let member = self.picture_of(now, &self.raft.status(), node.get());
        Ok(AutopilotExplained { member, decisions: self.decisions.about(node, DECISIONS_SHOWN) })
    }

    fn picture_of(&self, now: Now, status: &Status, node: u64) -> AutopilotMember {
        let id = NodeId::new(node);
        let configuration = &status.configuration;
        let votes = id.is_some_and(|id| configuration.is_voter(id));
        let learns = id.is_some_and(|id| configuration.learners.contains(&id));
        let answers = id.is_none_or(|id| !(votes || learns) || self.is_healthy(now.mono, status, id));
        let (should, why) = match id {
            Some(id) if votes => self.why_votes(id, status),
            Some(id) if learns => self.why_learns(now, status, id),
            _ => self.why_outside(node, status),
        };
        let raft = match (node == self.me.get(), votes, learns) {
            (true, ..) => "leader",
            (_, true, _) => "voter",
            (_, _, true) => "learner",
            _ => "none",
        };
        let stable = if node == self.me.get() { self.watch.clock() } else { self.watch.stable_for(node) };
        AutopilotMember {
            name: self.name_of(node),
            id: node,
            raft: raft.into(),
            healthy: self.is_present(node) && answers,
            stable_ms: millis(stable),
            gone_ms: self.watch.gone_for(node).map(millis),
            flaps: self.flaps_of(node),
            zone: self.zone_of(node),
            version: self.version_of(node),
            supports: self.supports(node),
            should: should.into(),
            why,
        }
    }

    /// What should become of a voter, and why.
    fn why_votes(&self, node: NodeId, status: &Status) -> (&'static str, String) {
        if self.registry.has_departed(node.get()) {
            return ("none", "it is leaving".into());
        }
        if let Some(heir) = self.registry.superseded_by(node.get()).and_then(NodeId::new) {
            return ("none", format!("its name is held by another disk, {heir}, which takes its seat"));
        }
        let settings = self.settings();
        let patience = settings.replace_after();
        if self.watch.gone_for(node.get()).is_none() {
            let flaps = if self.flaps(node.get()) { "; it flaps, so it is the first to give way" } else { "" };
            return ("voter", format!("it votes{flaps}"));
        }
        match self.why_not_dead(node, patience) {
            Some(why) => ("voter", format!("not replaced: it {why}")),
            None if status.configuration.learners.is_empty() => {
                ("none", "it is dead, and there is no spare: let another agent join, or `quorate forget` it".into())
            }
            None => ("none", "it is dead, and the next spare that is ready takes its seat".into()),
        }
    }

    /// What should become of a learner, and why.
    fn why_learns(&self, now: Now, status: &Status, node: NodeId) -> (&'static str, String) {
        if self.registry.has_departed(node.get()) {
            return ("none", "it is leaving".into());
        }
        let (have, target) = (status.configuration.voters.len(), self.options.voters_target);
        let seat = if have < target { Seat::New } else { Seat::Others };
        if let Some(why) = self.why_no_seat(now, status, node, seat) {
            return ("learner", format!("not promoted: it {why}"));
        }
        if have >= target {
            return ("learner", format!("it stands by: {have} of {target} voters are there"));
        }
        let ready = self.ready(now, status, Seat::New).len();
        if (have + ready).min(target).is_multiple_of(2) && have % 2 == 1 && ready < 2 {
            let why = format!("it stands by: {have} voters become {} when another agent is ready too", have + 2);
            return ("learner", why);
        }
        let well = status.configuration.voters.iter().all(|v| self.is_healthy(now.mono, status, *v));
        let why = if well { "all is ready: it is being promoted" } else { "not promoted: a voter does not answer" };
        ("voter", why.into())
    }

    /// Why an agent is not in the group.
    fn why_outside(&self, node: u64, status: &Status) -> (&'static str, String) {
        if let Some(why) = self.autopilot.waiting(node) {
            return ("none", format!("not admitted: {why}"));
        }
        if self.registry.has_departed(node) {
            return ("none", "it has left for good".into());
        }
        if !self.is_present(node) {
            return ("none", format!("not added: it {}", self.why_not_present(node)));
        }
        let (members, room) = (status.configuration.members().len(), self.options.replicas_max);
        if members >= room {
            return ("none", format!("it gossips and forwards: {room} agents hold the log already"));
        }
        ("learner", "it is being added".into())
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
