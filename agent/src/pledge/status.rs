//! Status: in words for people, what an agent that expects others waits for.
//!
//! It never hides a reason behind another one: all that is known is told.

use super::pact::Pact;
use super::scene::Obstacle;

/// What keeps a log from being founded here; empty if nothing does, or there is one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// In one sentence.
    pub waits: Option<String>,
    /// Its parts: each obstacle for itself.
    pub because: Vec<String>,
}

impl Pact {
    /// A picture for people.
    #[must_use]
    pub fn status(&self) -> Status {
        if self.member.log().is_some() || self.is_idle() {
            return Status::default();
        }
        if let Some(open) = self.member.open() {
            return self.status_pledged(open);
        }
        if let Some(pledge) = &self.member.record().pledge {
            let log = hex::encode(pledge.proposal.id());
            let waits = if pledge.founded {
                format!("has founded log {log} once, and has lost it: wipe the data directory to join as a new node")
            } else {
                format!("founds log {log}")
            };
            return Status { waits: Some(waits), because: Vec::new() };
        }
        let mut names: Vec<String> = self.sight().candidates().into_iter().map(|(f, _)| f.name).collect();
        names.sort();
        let expect = self.member.expect();
        let mut because: Vec<String> = Vec::new();
        let obstacles = self.sight().obstacles(None);
        for obstacle in &obstacles {
            because.extend(self.reason(obstacle));
        }
        because.extend(self.scene.silent.iter().cloned());
        if obstacles.contains(&Obstacle::Silence) {
            because.push(format!(
                "that is {} silent, behind whom a group of {expect} could live: start {}, or take it out of --join if \
                 there is nothing",
                self.scene.silent.len(),
                if self.scene.silent.len() == 1 { "it" } else { "one of them" },
            ));
        }
        let here = format!("waits for: {expect} expected, {} here ({})", names.len(), names.join(", "));
        let waits = std::iter::once(here).chain(because.iter().cloned()).collect::<Vec<_>>().join("; ");
        Status { waits: Some(waits), because }
    }

    fn status_pledged(&self, open: &super::Pledge) -> Status {
        let founders = open.proposal.founders();
        let name_of = |node: u64| open.proposal.founder(node).map_or_else(String::new, |f| f.name.clone());
        let names: Vec<String> = founders.iter().map(|f| f.name.clone()).collect();
        let missing: Vec<String> = founders
            .iter()
            .filter(|f| !open.words.pledged().any(|node| node == f.node))
            .map(|f| f.name.clone())
            .collect();
        let me = self.member.me().node;
        let away = founders.iter().filter(|f| f.node != me && !self.scene.peers.contains_key(&f.node));
        let away: Vec<String> = away.map(|f| f.name.clone()).collect();
        // Whoever is here under the same name and another id has lost its disk.
        let replaced = self.scene.peers.iter().filter(|(node, name)| {
            open.proposal.founder(**node).is_none() && founders.iter().any(|f| f.node != me && f.name == **name)
        });
        let mut because: Vec<String> = Vec::new();
        if !missing.is_empty() {
            because.push(format!("the pledge of {} is missing", missing.join(", ")));
        }
        because.extend(
            replaced.map(|(_, name)| format!("{name} has a new disk, and cannot keep the pledge of its old one")),
        );
        if !away.is_empty() {
            because.push(format!("{} cannot be reached", away.join(", ")));
        }
        if away.len() + 1 > founders.len() - open.proposal.quorum() + 1 {
            because.push(format!(
                "it takes {} of them to go on or to call it off: start those that are down; if their disks are gone, wipe \
                 the data directory of {} too",
                open.proposal.quorum(),
                name_of(me)
            ));
        }
        let here = format!("has pledged itself to found a log with {}", names.join(", "));
        let waits = std::iter::once(here).chain(because.iter().cloned()).collect::<Vec<_>>().join("; ");
        Status { waits: Some(waits), because }
    }

    fn reason(&self, obstacle: &Obstacle) -> Option<String> {
        Some(match obstacle {
            Obstacle::Log => "there is a log already: it will be joined".into(),
            Obstacle::Founder(name) => format!("{name} was started with --bootstrap and founds a log by itself"),
            Obstacle::Unheard(name) => format!("{name} has not said yet what it holds"),
            Obstacle::Expects(name, 0) => format!("{name} runs without --expect now, but has pledged itself once"),
            Obstacle::Expects(name, n) => {
                format!("{name} expects {n}, this agent {}: start all with the same --expect", self.member.expect())
            }
            Obstacle::RecordBytes(name, n) => format!(
                "record_bytes_max of {name} is {n}, of this agent {}: start all with the same",
                self.member.record_bytes_max()
            ),
            Obstacle::SameName(name) => format!("two agents are called {name}: give one another name"),
            Obstacle::Pledged(name, others) => {
                format!("{name} has pledged itself to found a log with {}", others.join(", "))
            }
            Obstacle::Silence => return None,
        })
    }
}
