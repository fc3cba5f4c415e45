//! What is to be seen of a cluster: who knows whom, and what was told of whom.
//!
//! It never changes anything but what was kept for looking at.

use super::{Cluster, Node};
use quorate_membership::{Event, State};

impl Cluster {
    pub(crate) fn up(&self) -> Vec<Node> {
        self.agents.iter().filter(|(_, agent)| agent.up && !agent.left).map(|(node, _)| *node).collect()
    }

    pub(crate) fn state(&self, at: Node, of: Node) -> Option<State> {
        self.agents[&at].core.member(of).map(|member| member.state)
    }

    /// All agents that run see this of that member.
    pub(crate) fn all_see(&self, of: Node, state: State) -> bool {
        self.up().into_iter().filter(|at| *at != of).all(|at| self.state(at, of) == Some(state))
    }

    /// All agents that run see exactly each other as alive, by name.
    pub(crate) fn is_whole(&self) -> bool {
        let up = self.up();
        up.iter().all(|at| {
            let core = &self.agents[at].core;
            core.alive_count() == up.len()
                && up.iter().all(|of| {
                    core.member(*of).is_some_and(|m| {
                        m.state == State::Alive && !m.name.is_empty() && m.epoch == self.agents[of].epoch
                    })
                })
        })
    }

    /// No agent holds anybody for present who does not exist.
    pub(crate) fn is_on_its_own(&self) -> bool {
        let up = self.up();
        up.iter().all(|at| self.agents[at].core.alive_count() == up.len())
    }

    pub(crate) fn form(&mut self, limit: u64) -> u64 {
        self.run_while_not(limit, "forming", Self::is_whole)
    }

    pub(crate) fn events(&self, at: Node) -> Vec<String> {
        self.agents[&at].events.iter().map(|(_, event)| brief(event)).collect()
    }

    /// How many events of this kind there were, at everybody.
    pub(crate) fn count(&self, what: &str) -> usize {
        let all = self.agents.values().flat_map(|agent| &agent.events);
        all.filter(|(_, event)| brief(event).starts_with(what)).count()
    }

    pub(crate) fn forget_events(&mut self) {
        for agent in self.agents.values_mut() {
            agent.events = vec![];
        }
    }

    pub(crate) fn picture(&self) -> String {
        let mut out = String::new();
        for (node, agent) in &self.agents {
            out += &format!("{node}{}: ", if agent.up { "" } else { " (down)" });
            for member in agent.core.members() {
                out += &format!("{}={}/{} ", member.node, member.state, member.epoch);
            }
            out += &format!("peers {:?} alarms {:?}\n", agent.peers.keys(), agent.alarms.iter().take(3));
        }
        out
    }
}

/// What an event tells, and of whom.
pub(crate) fn news(event: &Event) -> (&'static str, Node) {
    let (what, member) = match event {
        Event::Joined(m) => ("joined", m),
        Event::Updated(m) => ("updated", m),
        Event::Suspected(m) => ("suspected", m),
        Event::Refuted(m) => ("refuted", m),
        Event::Failed(m) => ("failed", m),
        Event::Recovered(m) => ("recovered", m),
        Event::Restarted(m) => ("restarted", m),
        Event::Leaving(m) => ("leaving", m),
        Event::Left(m) => ("left", m),
        Event::Reaped(m) => ("reaped", m),
        Event::DatagramsBlocked(m) => ("datagrams blocked", m),
        Event::DatagramsPass(m) => ("datagrams pass", m),
        _ => return ("other", 0),
    };
    (what, member.node)
}

/// An event in two words.
pub(crate) fn brief(event: &Event) -> String {
    match (event, news(event)) {
        (Event::NameConflict { name, nodes }, _) => format!("conflict {name} {nodes:?}"),
        (_, (what, 0)) => what.to_string(),
        (_, (what, node)) => format!("{what} {node}"),
    }
}
