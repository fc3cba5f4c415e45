//! Forgetting: an operator drops a failed agent for good.
//!
//! Gossip alone never does. What was forgotten is in the log, so it is not forgotten by anybody: its disk is never let in
//! again, its name is free at once, and every list of members drops it.

use super::questions::{Asker, not_leading, still_pending};
use super::{LeaderAnswer, Node, not_applied};
use crate::api::{Code, Effect, Failure};
use crate::limits::printable;
use crate::machine::registry::Command;
use quorate_membership::{Input as Gossip, State};
use quorate_raft::{Mono, NodeId, Now, Status};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A leader has heard nothing from it for this long, whatever gossip says: ten times the longest election timeout.
const SILENCE: Duration = Duration::from_secs(5);
/// Who may wait for one node to be forgotten: operators, who are few.
const ASKERS_MAX: usize = 64;
/// The longest that a leader remembers who waits.
const ASK_MAX: Duration = Duration::from_secs(300);

/// What a leader was asked to forget and has not finished.
#[derive(Debug, Default)]
pub(super) struct Forgetting {
    /// By node: its name, and who waits.
    asked: BTreeMap<u64, (String, Vec<(Asker, Mono)>)>,
}

impl Forgetting {
    pub(super) fn deadline(&self) -> Option<Mono> {
        self.asked.values().flat_map(|(_, askers)| askers).map(|(_, deadline)| *deadline).min()
    }
}

impl Node {
    /// An operator wants this leader to forget the agent of that name.
    pub(super) fn forget_asked(&mut self, now: Now, asker: Asker, name: String, deadline: Mono) {
        if !self.is_ready_leader() {
            return self.end_question(now, asker, Err(not_leading()));
        }
        let nodes = self.nodes_named(&name);
        let result = if nodes.is_empty() { self.forgotten_before(&name) } else { self.may_forget(now, &name, &nodes) };
        match result {
            Err(failure) => self.end_question(now, asker, Err(failure)),
            Ok(Some(answer)) => self.end_question(now, asker, Ok(answer)),
            Ok(None) => {
                // Who waits for several disks of one name waits for the last of them; they are forgotten in order.
                let last = nodes.last().copied();
                let waiting = last.and_then(|last| self.forgetting.asked.get(&last)).map_or(0, |(_, a)| a.len());
                if waiting >= ASKERS_MAX {
                    let busy = not_applied(Code::Busy, "too many wait for it to be forgotten", "retry later");
                    return self.end_question(now, asker, Err(busy));
                }
                let deadline = deadline.min(now.mono.after(ASK_MAX));
                for node in nodes {
                    let (_, askers) = self.forgetting.asked.entry(node).or_insert_with(|| (name.clone(), Vec::new()));
                    askers.extend((Some(node) == last).then_some((asker, deadline)));
                }
                self.hurry(now);
            }
        }
    }

    /// Every node that this name could mean and that is not forgotten: who holds it, and who is listed under it.
    fn nodes_named(&self, name: &str) -> BTreeSet<u64> {
        let listed = self.members.members().filter(|m| m.name == name).map(|m| m.node);
        let held = self.registry.holder(name).map(|r| r.node);
        let mut nodes: BTreeSet<u64> = listed.chain(held).filter(|n| !self.registry.is_forgotten(*n)).collect();
        if name == self.options.name {
            nodes.insert(self.me.get());
        }
        nodes
    }

    /// Nobody is known under the name: that is how it should be, if it was forgotten.
    fn forgotten_before(&self, name: &str) -> Result<Option<LeaderAnswer>, Failure> {
        let nodes: Vec<u64> = self.registry.forgotten().filter(|(_, n)| *n == name).map(|(node, _)| node).collect();
        if nodes.is_empty() {
            return Err(self.unknown_name(name));
        }
        Ok(Some(LeaderAnswer::Forgotten { name: name.to_owned(), nodes }))
    }

    /// Is every one of them gone, and is the group safe without them?
    fn may_forget(&self, now: Now, name: &str, nodes: &BTreeSet<u64>) -> Result<Option<LeaderAnswer>, Failure> {
        let status = self.raft.status();
        let refuse = |what: String, hint: &str| Err(not_applied(Code::Refused, what, hint));
        let shown = printable(name);
        for node in nodes {
            let state = self.members.member(*node).map(|m| m.state);
            if *node == self.me.get() || self.peers.is_up(*node) || state == Some(State::Alive) {
                return refuse(format!("{shown} is alive"), "use `quorate leave` on it");
            }
            if let Some(state @ (State::Suspect | State::Leaving)) = state {
                return refuse(
                    format!("{shown} is {state}, not failed"),
                    "wait until `quorate members` calls it failed",
                );
            }
            let silent = NodeId::new(*node).map_or(SILENCE, |id| self.silent_for(now.mono, &status, id));
            if silent < SILENCE {
                let what = format!(
                    "{shown} may be alive: the leader cannot know of more than {} s of silence, and wants {}",
                    silent.as_secs(),
                    SILENCE.as_secs()
                );
                return refuse(what, "ask again in a few seconds");
            }
        }
        match nodes.iter().find_map(|node| self.why_unsafe_without(now.mono, &status, *node)) {
            None => Ok(None),
            Some((why, hint)) => refuse(format!("the group is not safe without {shown}: {why}"), &hint),
        }
    }

    /// Why this node must stay in the configuration for now, and what would make it safe.
    fn why_unsafe_without(&self, now: Mono, status: &Status, node: u64) -> Option<(String, String)> {
        let id = NodeId::new(node).filter(|id| status.configuration.voters.contains(id))?;
        if self.without(now, status, id).is_some() {
            return None;
        }
        let rest: Vec<NodeId> = status.configuration.voters.iter().copied().filter(|v| *v != id).collect();
        let (here, gone): (Vec<NodeId>, Vec<NodeId>) =
            rest.iter().copied().partition(|v| self.is_healthy(now, status, *v));
        let names = |nodes: Vec<NodeId>| nodes.iter().map(|n| self.name_of(n.get())).collect::<Vec<_>>().join(", ");
        let need = rest.len() / 2 + 1;
        let why = format!("of the {} voters that would remain {} answer, and {need} must", rest.len(), here.len());
        let hint = if gone.is_empty() {
            "wait until another agent has caught up".to_owned()
        } else {
            format!("start {} first, or let another agent join", names(gone))
        };
        Some((why, hint))
    }

    /// The next one to be written into the registry as forgotten.
    pub(super) fn next_forgotten(&self) -> Option<Command> {
        let due = self.forgetting.asked.iter().find(|(node, _)| !self.registry.is_forgotten(**node));
        due.map(|(node, (name, _))| Command::Forget { node: *node, name: name.clone() })
    }

    /// One turn. On every agent: whom the log calls forgotten, gossip forgets. On the leader: who waits hears of it.
    pub(super) fn keep_forgetting(&mut self, now: Now) {
        let of_view = self.view.iter().flat_map(|v| v.forgotten.iter().copied());
        let forgotten: Vec<u64> = self.registry.forgotten().map(|(node, _)| node).chain(of_view).collect();
        for node in forgotten {
            if self.members.member(node).is_some() && !self.peers.is_up(node) && !self.is_in_force(node) {
                self.gossip_forget(now, Gossip::Forget { node });
            }
        }
        if self.forgetting.asked.is_empty() {
            return;
        }
        if !self.raft.is_leader() {
            return self.forgets_lost(now);
        }
        let status = self.raft.status();
        let (registry, group) = (&self.registry, status.configuration.members());
        let mut ended = Vec::new();
        self.forgetting.asked.retain(|node, (name, askers)| {
            let inside = NodeId::new(*node).is_some_and(|id| group.contains(&id));
            let done = registry.is_forgotten(*node) && !inside && status.configuration_committed;
            if done {
                let nodes = || registry.forgotten().filter(|(_, n)| *n == *name).map(|(node, _)| node).collect();
                let told = askers.drain(..).map(|(asker, _)| asker);
                ended.extend(
                    told.map(|asker| (asker, Ok(LeaderAnswer::Forgotten { name: name.clone(), nodes: nodes() }))),
                );
            }
            let late = askers.extract_if(.., |(_, deadline)| *deadline <= now.mono);
            ended.extend(late.map(|(asker, _)| (asker, Err(still_pending()))));
            !done
        });
        for (asker, result) in ended {
            self.end_question(now, asker, result);
        }
    }

    /// This node leads no more. What is recorded the next leader carries out; what is not, nobody does.
    fn forgets_lost(&mut self, now: Now) {
        for (_, (_, askers)) in std::mem::take(&mut self.forgetting.asked) {
            for (asker, _) in askers {
                let failure = Failure {
                    code: Code::NoQuorum,
                    effect: Effect::Unknown,
                    what: "the leader changed before it was done".into(),
                    hint: "forget it again: that is safe, whatever became of this".into(),
                };
                self.end_question(now, asker, Err(failure));
            }
        }
    }

    /// Forgotten nodes, for agents that do not hold the log: the ones with the highest ids if they are many.
    pub(super) fn forgotten_to_tell(&self) -> Vec<u64> {
        self.registry.forgotten().map(|(node, _)| node).take(super::views::FORGOTTEN_TOLD_MAX).collect()
    }
}
