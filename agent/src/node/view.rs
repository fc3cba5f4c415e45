//! Pictures: what this agent tells people about itself, its members and its group.

use super::admission::Held;
use super::{Node, Output, Published};
use crate::api::{DiskHealth, Member, QueueLoad, ScrubState, Status};
use crate::diagnosis::Cause;
use quorate_membership::State;
use quorate_raft::{Configuration, NodeId, Now, Role, mutant};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// Bytes of tags that one list of members tells, of all together. Beyond it only 32 short
/// values of each are told: a list must fit a frame, and `quorate tags NAME` tells all of one.
const TAGS_TOLD_BYTES_MAX: usize = 3 << 20;
/// A short value.
const TAG_SHORT_BYTES: usize = 255;

/// Of these tags those that there is room for.
fn told_tags(tags: &BTreeMap<String, String>, left: &mut usize) -> BTreeMap<String, String> {
    let bytes = |(k, v): (&String, &String)| k.len() + v.len();
    let total: usize = tags.iter().map(bytes).sum();
    if total <= *left {
        *left -= total;
        return tags.clone();
    }
    *left = 0;
    let short = tags.iter().filter(|(_, v)| v.len() <= TAG_SHORT_BYTES).take(32);
    short.map(|(k, v)| (k.clone(), v.clone())).collect()
}

impl Node {
    /// Everyone in the group as this agent knows it: voters, learners.
    pub(super) fn group(&self) -> (BTreeSet<u64>, BTreeSet<u64>) {
        if self.in_raft() || self.view.is_none() {
            let configuration = self.raft.configuration();
            let ids = |set: &BTreeSet<NodeId>| set.iter().map(|n| n.get()).collect::<BTreeSet<u64>>();
            let voters = ids(&configuration.voters).union(&ids(&configuration.outgoing)).copied().collect();
            return (voters, ids(&configuration.learners));
        }
        let view = self.view.clone().unwrap_or_default();
        (view.voters.into_iter().collect(), view.learners.into_iter().collect())
    }

    pub(super) fn raft_word(&self, node: u64) -> &'static str {
        let (voters, learners) = self.group();
        if self.leader() == Some(node) && voters.contains(&node) {
            "leader"
        } else if voters.contains(&node) {
            "voter"
        } else if learners.contains(&node) {
            "learner"
        } else {
            "none"
        }
    }

    pub(super) fn members_answer(&self, _now: Now) -> Vec<Member> {
        let status = self.raft.is_leader().then(|| self.raft.status());
        let mut tags_left = TAGS_TOLD_BYTES_MAX;
        let mut members: Vec<Member> = self
            .members
            .members()
            .map(|m| {
                let peer = status.as_ref().zip(NodeId::new(m.node));
                let lag = match peer {
                    Some((_, id)) if id == self.me => Some(0),
                    Some((s, id)) => s.peers.get(&id).map(|p| s.last.index.0.saturating_sub(p.matched.0)),
                    None => None,
                };
                Member {
                    name: self.name_of(m.node),
                    id: m.node,
                    addr: m.addr.to_string(),
                    state: m.state.to_string(),
                    raft: self.raft_word(m.node).into(),
                    lag,
                    // Known to the transport only; the shell fills it in.
                    rtt_ms: None,
                    version: m.version.into(),
                    tags: told_tags(m.tags.as_map(), &mut tags_left),
                    draining: self.is_draining(m.node),
                    pinned: self.registry.pinned(m.node).map(|seat| seat.word().into()),
                }
            })
            .collect();
        members.sort_by(|a, b| (&a.name, a.id).cmp(&(&b.name, b.id)));
        members
    }

    pub(super) fn status_answer(&self, now: Now) -> Status {
        let (voters, learners) = self.group();
        let names = |set: &BTreeSet<u64>| {
            let mut names: Vec<String> = set.iter().map(|n| self.name_of(*n)).collect();
            names.sort();
            names
        };
        let (codes, problems): (Vec<_>, Vec<_>) = self.problems(now, &voters).into_iter().unzip();
        let present = |v: &&u64| **v == self.me.get() || self.members.member(**v).is_some_and(|m| m.state.is_present());
        let majority = voters.len() / 2 + 1;
        let outside = self.view.as_ref().filter(|_| !self.in_raft());
        Status {
            cluster: String::new(),
            log_id: self.log_id.or(outside.map(|v| v.log_id)).map(hex::encode),
            name: self.options.name.clone(),
            node: self.me.get(),
            version: self.options.version.clone(),
            leader: self.leader().map(|l| self.name_of(l)),
            term: outside.map_or(self.raft.term().0, |v| v.term),
            raft: self.raft_word(self.me.get()).into(),
            healthy: problems.is_empty(),
            voters: names(&voters),
            learners: names(&learners),
            tolerates: voters.iter().filter(present).count().saturating_sub(majority) as u32,
            first: 0,
            next: outside.map_or(self.log.next_offset(), |v| v.next),
            committed_index: outside.map_or(self.raft.committed().0, |v| v.committed),
            applied_index: self.applied.index().0,
            bytes: 0,
            problems,
            record_bytes_max: self.record_bytes_max as u64,
            append: self.stages.picture(),
            disk: self.disk_health(),
            space: self.disk_space(),
            draining: names(&self.all_draining().into_iter().collect()),
            codes: codes.into_iter().map(|cause: Option<Cause>| cause.map(Cause::code)).collect(),
            queues: self.queue_loads(),
        }
    }

    fn queue_loads(&self) -> Vec<QueueLoad> {
        let loads = self.members.loads();
        let named = [
            ("gossip_updates", loads.updates),
            ("gossip_records", loads.records),
            ("tags", loads.tags),
            ("tags_unproven", loads.tags_unproven),
        ];
        let load = |(name, load): (&str, quorate_membership::Load)| QueueLoad {
            name: name.to_owned(),
            depth: load.depth as u64,
            depth_max: load.depth_max.map(|max| max as u64),
            bytes: load.bytes.map(|bytes| bytes as u64),
            bytes_max: load.bytes_max as u64,
            dropped: load.dropped,
        };
        named.into_iter().map(load).collect()
    }

    /// What this node knows of its disk; the shell adds what only it can know.
    pub(super) fn disk_health(&self) -> DiskHealth {
        let (damaged, ranges) = self.repair.picture();
        let (repaired_entries, repaired_bytes) = self.repair.repaired();
        DiskHealth {
            damaged,
            damaged_ranges: ranges as u64,
            suspect: self.raft.status().missing.map(|index| index.0),
            repaired_entries,
            repaired_bytes,
            scrub: ScrubState::default(),
        }
    }

    /// What an operator should know, one sentence each, with its cause where `diagnosis` knows one.
    fn problems(&self, now: Now, voters: &BTreeSet<u64>) -> Vec<(Option<Cause>, String)> {
        if self.was_removed() {
            return vec![(Some(Cause::NodeRemoved), self.removed_problem())];
        }
        let mut problems: Vec<(Option<Cause>, String)> = Vec::new();
        let of = |cause: Cause| move |text: String| (Some(cause), text);
        if let Some(why) = self.raft.status().halted {
            problems.push(of(Cause::RaftHalted)(format!("Raft of this agent has stopped ({why:?}); restart it")));
        }
        if let Some(until) = self.raft.status().missing {
            problems.push(of(Cause::DiskForgot)(format!(
                "the disk of this agent has lost what it had acknowledged up to entry {until}; it does not lead before it \
                 holds that again, and votes only for who does; check the disk"
            )));
        }
        if let Some(member) = self.raft.status().contradicted_by {
            let name = self.name_of(member.get());
            problems.push(of(Cause::HistoriesDiffer)(format!(
                "{name}, as a leader, contradicted what is committed here; one of the two logs is wrong, and only one member says so"
            )));
        }
        problems.extend(self.repair_problems().into_iter().map(|(cause, text)| (Some(cause), text)));
        problems.extend(self.compare_problems().into_iter().map(of(Cause::HistoriesDiffer)));
        let stopped = self.why_too_old().map_or(Cause::MachineStopped, |_| Cause::ProgramTooOld);
        problems.extend(self.applied.trouble().map(str::to_owned).map(of(stopped)));
        problems.extend(self.checkpoints.problems().map(of(Cause::CheckpointTrouble)));
        problems.extend(self.fitness_problems(now).into_iter().map(|(cause, text)| (Some(cause), text)));
        problems.extend(self.room_problems().into_iter().map(of(Cause::DiskFull)));
        problems.extend(self.gossip_problems());
        problems.extend(self.formation_problem().map(|text| (Some(self.formation_cause(&text)), text)));
        problems.extend(self.seat_problem().into_iter().map(|text| (None, text)));
        // Who is not let in hears nobody: that there is no leader, and that nobody is seen, says nothing about them.
        let is_shut_out = self.is_shut_out();
        if self.log_id.is_some() && self.leader().is_none() && !is_shut_out {
            problems.push(of(Cause::NoLeader)(self.why_no_leader()));
        }
        for voter in voters.iter().filter(|v| **v != self.me.get() && !is_shut_out) {
            match self.members.member(*voter).map(|m| m.state) {
                Some(State::Alive | State::Leaving) => {}
                Some(state) => {
                    problems.push(of(Cause::VoterDown)(format!("voter {} is {state}", self.name_of(*voter))))
                }
                None => problems.push(of(Cause::VoterDown)(format!("voter {} was never seen", self.name_of(*voter)))),
            }
        }
        if self.raft.is_leader() {
            let status = self.raft.status();
            if !self.is_healthy_majority(now.mono, &status, &status.configuration.voters) {
                problems.push(of(Cause::QuorumDown)("this leader does not hear a majority of the voters".into()));
            }
            let mute = status.peers.keys().filter(|node| self.is_present(node.get()));
            let mute = mute.filter_map(|node| Some((node, self.unheard_for(now.mono, *node)?)));
            problems.extend(mute.map(|(node, unheard)| {
                of(Cause::LinkBroken)(format!(
                    "{} is connected and has not answered Raft for {} s: large packets may not get through",
                    self.name_of(node.get()),
                    unheard.as_secs()
                ))
            }));
            let lossy = status.peers.iter().filter(|(_, peer)| peer.has_lost).map(|(node, _)| self.name_of(node.get()));
            problems.extend(lossy.map(|name| {
                of(Cause::DiskForgot)(format!("the disk of {name} has lost what it had acknowledged; check it"))
            }));
            let newcomers = self
                .peers
                .up()
                .filter(|p| !self.is_of_another_log(p.node))
                .filter_map(|p| Some((p, self.autopilot.waiting(p.node)?)));
            problems
                .extend(newcomers.map(|(p, why)| {
                    of(Cause::NotAdmitted)(format!("{} is not admitted: {why}", self.name_of(p.node)))
                }));
        }
        problems.extend(self.zone_problems(voters).into_iter().map(|text| (None, text)));
        problems.extend(self.history_problems(voters).into_iter().map(of(Cause::TwoHistories)));
        problems.extend(self.stranger_problems(now).into_iter().map(|text| (super::facts::cause_of(&text), text)));
        problems
    }

    /// Publishes what readers and the gate may know, if it changed.
    pub(super) fn publish(&mut self, now: Now) {
        // As long as the disk may still hold what a truncation drops, a reader would take that for what is committed there.
        let held_back = self.truncating.is_some();
        let moved = self.published.readable_index != self.applied.index() && !held_back;
        // Everything else changes with time, gossip and registry, which are looked at once per turn of the policies.
        let turn = std::mem::take(&mut self.turned);
        if !moved && !turn {
            return;
        }
        let mut next = Published::clone(&self.published);
        if !held_back {
            next.readable = self.log.next_offset() + u64::from(mutant!(Canary));
            next.readable_index = self.applied.index();
        }
        if turn || !next.current {
            let told = self.raft.knows_commit() || self.raft.committed() > self.begun_at;
            next.current |= told && self.applied.index().0 > 0 && self.applied.index() == self.raft.committed();
        }
        if turn {
            next.has_log = (self.in_raft() || self.applied.index().0 > 0) && !self.compare.is_outvoted();
            next.record_bytes_max = self.record_bytes_max;
            next.stopping = self.leave.is_under_way() || self.stopping.is_under_way();
            next.drained = self.draining.sends_away();
            next.replicas = self.replica_addrs().into();
            next.lost = self.repair.lost();
            let held = |holder| self.name_is_held(now, holder).map(|left| Held { holder, left });
            let own = (self.options.name.clone(), self.me.get());
            next.gate = super::Gate::draw(own, &self.boots, &self.registry, held, |node| self.is_in_force(node));
        }
        if moved || next != *self.published {
            self.published = Arc::new(next);
            self.emit(Output::Published(Arc::clone(&self.published)));
        }
    }

    /// Is it in the configuration in force, so that the group may need it, even to be rid of it? What is dropped is in the
    /// log before it is out of the configuration, and nothing but a quorum of both ends that.
    pub(super) fn is_in_force(&self, node: u64) -> bool {
        let Configuration { voters, outgoing, learners } = self.raft.configuration();
        NodeId::new(node).is_some_and(|id| [voters, outgoing, learners].iter().any(|set| set.contains(&id)))
    }

    /// Is the name of this node kept for it? With how much longer, unless it is alive. In whole seconds, so that a gate is
    /// not drawn anew at each turn.
    fn name_is_held(&self, now: Now, holder: u64) -> Option<Option<Duration>> {
        if holder == self.me.get() || self.members.member(holder).is_some_and(|m| m.state.is_present()) {
            return Some(None);
        }
        let silent = now.mono.since(self.peers.last_up(holder, now.mono)?);
        let left = self.options.name_hold.checked_sub(silent).filter(|left| !left.is_zero())?;
        Some((!silent.is_zero()).then(|| Duration::from_secs(left.as_secs())))
    }

    /// Where the log can be read by those who do not hold it: the leader first. Whom gossip does not call alive is left
    /// out, unless that leaves nobody.
    fn replica_addrs(&self) -> Vec<std::net::SocketAddr> {
        let (voters, learners) = self.group();
        let leader = self.leader();
        let rest = voters.iter().chain(&learners).copied().filter(|n| Some(*n) != leader);
        let nodes: Vec<u64> = leader.into_iter().chain(rest).filter(|n| *n != self.me.get()).collect();
        let is_alive = |n: &u64| self.members.member(*n).is_some_and(|m| m.state == State::Alive);
        let serves = |n: &u64| is_alive(n) && !self.is_draining(*n);
        let alive: Vec<u64> = nodes.iter().copied().filter(serves).collect();
        let chosen = if alive.is_empty() { nodes } else { alive };
        chosen.into_iter().filter_map(|n| self.addr_of(n)).collect()
    }

    /// Does this node lead, for the shell's metrics.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.raft.role() == Role::Leader
    }
}
