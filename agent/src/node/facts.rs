//! Facts: what this node knows that may explain why its cluster does not serve.
//!
//! It judges nothing: the shell adds what only it knows, and `diagnosis` draws the conclusions.

use super::Node;
use super::denied::Denied;
use crate::api::Status;
use crate::diagnosis::Cause;
use crate::facts::{
    AutopilotFacts, ClockFacts, DiskFacts, Facts, Heard, LevelFacts, MemberFacts, Picture, RaftFacts, RegistryFacts,
    StrangerFacts,
};
use quorate_raft::{NodeId, Now, Role};
use std::collections::BTreeSet;
use std::time::Duration;

/// Agents that one answer tells of: the group, and more than any cluster that a person looks at one by one.
const MEMBERS_MAX: usize = 128;
/// Other agents that are asked in turn: the largest group twice.
const ASKED_MAX: usize = 16;
/// Join addresses that are asked in turn by one that has no leader: who refuses an agent may still say why.
const SEEDS_ASKED_MAX: usize = 8;
/// Nodes of the registry that one answer tells of.
const REGISTRY_MAX: usize = 256;

/// What a refusal at the door is about.
pub(super) fn cause_of(text: &str) -> Option<Cause> {
    Denied::word_of(text).and_then(Cause::of_refusal)
}

fn ms(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

impl Node {
    /// Everything that this node knows; with `others`, also whom to ask in turn.
    pub(super) fn facts_answer(&self, now: Now, others: bool) -> Picture {
        let Status { problems, codes, .. } = self.status_answer(now);
        let problem = |(text, code)| crate::facts::Problem { code, text };
        let own = Facts {
            cluster: String::new(),
            name: self.options.name.clone(),
            node: self.me.get(),
            version: self.options.version.clone(),
            boot: self.epoch,
            up_ms: ms(self.lately.up(now.mono)),
            advertise: self.options.advertise.to_string(),
            bind: String::new(),
            data: String::new(),
            log_id: self.history().map(hex::encode),
            formation: self.formation_facts(),
            raft: self.raft_facts(now),
            members: self.member_facts(now),
            registry: self.registry_facts(now),
            strangers: self.stranger_facts(now),
            knocks: Vec::new(),
            dials: Vec::new(),
            disk: DiskFacts {
                health: self.disk_health(),
                space: self.disk_space(),
                fsync: self.stages.picture().fsync,
                hangs_ms: self.disk_hangs_for(now).map(ms),
            },
            clock: self.clock_facts(now),
            certificate: None,
            problems: problems.into_iter().zip(codes).map(problem).collect(),
            level: LevelFacts { log: self.registry.level(), supports: self.options.feature_level },
            autopilot: AutopilotFacts {
                voters_target: u32::try_from(self.options.voters_target).unwrap_or(u32::MAX),
                upgrade_off: !self.settings().upgrade,
            },
        };
        let asked = |m: &MemberFacts| Heard {
            node: Some(m.node),
            name: m.name.clone(),
            addr: m.addr.clone(),
            ..Heard::default()
        };
        let is_member = |seed: &str| own.members.iter().any(|m| m.addr == seed && m.connected);
        let strange = own.formation.seeds.iter().filter(|seed| others && own.raft.leader.is_none() && !is_member(seed));
        let strange: Vec<Heard> = strange
            .take(SEEDS_ASKED_MAX)
            .map(|seed| Heard { name: seed.clone(), addr: seed.clone(), ..Heard::default() })
            .collect();
        // Those of the group first, and among them those that are connected: a few have to do.
        let mut whom: Vec<&MemberFacts> = if others { own.members.iter().collect() } else { Vec::new() };
        whom.sort_by_key(|m| (!own.raft.voters.contains(&m.node), !m.connected));
        let others = whom.into_iter().take(ASKED_MAX).map(asked).chain(strange).collect();
        Picture { own, others }
    }

    /// What the sentence is about that an agent without a log tells of itself.
    pub(super) fn formation_cause(&self, text: &str) -> Cause {
        cause_of(text).unwrap_or_else(|| match self.formation_facts() {
            facts if facts.expect.is_some() && self.view.is_none() => Cause::WaitingForExpected,
            _ if self.log_id.is_some() || self.peers.up().next().is_some() => Cause::NotAdmitted,
            facts if facts.seeds.is_empty() => Cause::NobodyFounded,
            _ => Cause::NoJoinAddress,
        })
    }

    fn raft_facts(&self, now: Now) -> RaftFacts {
        let status = self.raft.status();
        let (voters, learners) = self.group();
        let named = |node: Option<u64>| node.map(|node| self.name_of(node));
        let leader = self.leader();
        let movers = self.lately.movers(now.mono).into_iter();
        RaftFacts {
            member: self.in_raft(),
            role: match status.role {
                Role::Follower => "follower",
                Role::PreCandidate => "pre-candidate",
                Role::Candidate => "candidate",
                Role::Leader => "leader",
            }
            .into(),
            term: status.term.0,
            leader,
            leader_name: named(leader),
            leaderless_ms: self.lately.leaderless_for(now.mono).filter(|_| leader.is_none()).map(ms),
            last_leader: named(self.lately.last_leader()),
            voters: voters.into_iter().collect(),
            outgoing: status.configuration.outgoing.iter().map(|node| node.get()).collect(),
            learners: learners.into_iter().collect(),
            leads_ms: self.lately.leads_for(now.mono).filter(|_| leader == Some(self.me.get())).map(ms),
            own_term_committed: status.own_term_committed,
            last: status.last.index.0,
            durable: status.durable.0,
            committed: status.committed.0,
            applied: self.applied.index().0,
            halted: status.halted.map(|why| format!("{why:?}")),
            machine: self.applied.trouble().map(str::to_owned),
            missing: status.missing.map(|index| index.0),
            contradicted_by: named(status.contradicted_by.map(NodeId::get)),
            departed: self.registry.has_departed(self.me.get()) || self.view.as_ref().is_some_and(|v| v.departed),
            terms_moved: self.lately.moved(now.mono),
            movers: movers.map(|(node, count)| (self.name_of(node.get()), count)).collect(),
            election_timeout_min_ms: ms(self.options.raft.election_timeout_min),
            election_timeout_max_ms: ms(self.options.raft.election_timeout_max),
        }
    }

    /// The group first, then everybody whom gossip knows.
    fn member_facts(&self, now: Now) -> Vec<MemberFacts> {
        let (voters, learners) = self.group();
        let gossip: BTreeSet<u64> = self.members.members().map(|m| m.node).collect();
        let rest = gossip.into_iter().filter(|node| !voters.contains(node) && !learners.contains(node));
        let all = voters.iter().chain(&learners).copied().chain(rest).filter(|node| *node != self.me.get());
        all.take(MEMBERS_MAX).map(|node| self.member_fact(now, node)).collect()
    }

    fn member_fact(&self, now: Now, node: u64) -> MemberFacts {
        let gossip = self.members.member(node);
        let peer = self.peers.get(node);
        let since = gossip.as_ref().map(|m| now.mono.since(quorate_raft::Mono(m.since.0)));
        let last_up = self.peers.last_up(node, now.mono).map(|at| ms(now.mono.since(at)));
        let full = |id| self.raft.status().peers.get(&id).is_some_and(|peer| peer.full);
        MemberFacts {
            node,
            name: self.name_of(node),
            addr: self.addr_of(node).map_or_else(String::new, |addr| addr.to_string()),
            state: gossip.as_ref().map_or_else(|| "unseen".into(), |m| m.state.to_string()),
            since_ms: since.map_or(0, ms),
            proven: gossip.as_ref().is_some_and(|m| m.proven),
            connected: peer.is_some(),
            last_up_ms: last_up,
            trouble: None,
            version: gossip.map_or_else(String::new, |m| m.version.into()),
            log_id: peer.and_then(|peer| peer.log_id).map(hex::encode),
            boot: self.boots.of(node).map_or(0, |(epoch, _)| epoch),
            clock_ahead_us: self.clocks.ahead(node, now),
            full: NodeId::new(node).is_some_and(full),
            unheard_ms: NodeId::new(node).and_then(|id| self.unheard_for(now.mono, id)).map(ms),
            rtt_us: None,
            supports: peer.map(|peer| peer.supports),
            sent_packets: 0,
            lost_packets: 0,
        }
    }

    fn registry_facts(&self, now: Now) -> RegistryFacts {
        let holders = self.registry.nodes().map(|r| (r.name.clone(), r.node, r.epoch));
        RegistryFacts {
            holders: holders.take(REGISTRY_MAX).collect(),
            forgotten: self.registry.forgotten().map(|(node, _)| node).take(REGISTRY_MAX).collect(),
            superseded: self.registry.superseded().take(REGISTRY_MAX).collect(),
            draining: self.lately.drained(now.mono).map(|(node, known)| (node, ms(known))).take(REGISTRY_MAX).collect(),
            pinned: self.registry.pins().map(|(node, seat)| (node, seat.word().into())).take(REGISTRY_MAX).collect(),
        }
    }

    fn stranger_facts(&self, now: Now) -> Vec<StrangerFacts> {
        let fact = |(node, name, addr, why, ago): super::strangers::Told<'_>| StrangerFacts {
            node,
            name: name.to_owned(),
            addr: addr.to_string(),
            detail: Denied::word_of(why).unwrap_or_default().to_owned(),
            why: why.to_owned(),
            ago_ms: ms(ago),
        };
        self.strangers_lately(now).map(fact).collect()
    }

    fn clock_facts(&self, now: Now) -> ClockFacts {
        let (ahead_us, sick) = self.clock_picture(now);
        ClockFacts {
            wall_us: now.wall.0,
            ahead_us,
            sick,
            jumped: self.lately.jumped(now.mono).map(|(by, ago)| (by, ms(ago))),
            stalled: self.lately.stalled(now.mono).map(|(pause, ago)| (ms(pause), ms(ago))),
        }
    }
}
