//! Scene: who is there, and what follows from it: may this agent found a log now, and with whom?
//!
//! It never counts silence as an empty disk, and knows no time.

use super::content::Founder;
use super::member::Member;
use super::proposal::ProposalId;
use super::report::Report;
use quorate_raft::mutant;
use std::collections::{BTreeMap, BTreeSet};

/// What the agent around this core sees at this moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scene {
    /// Connected agents that were told to expect others, or once were: node id and name.
    pub peers: BTreeMap<u64, String>,
    /// Join addresses and known members that are not connected, each once, in a sentence for people.
    pub silent: Vec<String>,
    /// Somebody connected belongs to a log, or a leader has spoken.
    pub sees_log: bool,
    /// Somebody connected was told to found a log by itself; its name.
    pub founder: Option<String>,
}

/// What a connected agent has last said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// Its name, which its certificate proves.
    pub name: String,
    /// What it said.
    pub report: Report,
}

/// Why nothing is founded at this moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Obstacle {
    /// There is a log: it is joined.
    Log,
    /// There will be one: this agent founds it by itself.
    Founder(String),
    /// Connected, and has not said yet what it holds.
    Unheard(String),
    /// This agent expects another number (0: none).
    Expects(String, u8),
    /// This agent would write another largest value of a record into the log.
    RecordBytes(String, u64),
    /// Two agents have this name.
    SameName(String),
    /// This agent has pledged itself, and that is open; to whom.
    Pledged(String, Vec<String>),
    /// So many are silent that a living group could hide among them.
    Silence,
}

/// The member, what it sees, and what it was told.
#[derive(Clone, Copy, Debug)]
pub struct Sight<'a> {
    /// The protocol.
    pub member: &'a Member,
    /// What is seen.
    pub scene: &'a Scene,
    /// What was told, by node id.
    pub reports: &'a BTreeMap<u64, Heard>,
}

impl Sight<'_> {
    /// May this agent pledge itself to this proposal, or to one of its own?
    #[must_use]
    pub fn may_found(&self, toward: Option<&ProposalId>) -> bool {
        self.obstacles(toward).is_empty()
    }

    /// Everything that keeps this agent from it.
    pub(super) fn obstacles(&self, toward: Option<&ProposalId>) -> Vec<Obstacle> {
        let mut all = Vec::new();
        let heard = || self.scene.peers.keys().filter_map(|node| self.reports.get(node));
        if self.scene.sees_log || heard().any(|h| h.report.log.is_some()) {
            all.push(Obstacle::Log);
        }
        all.extend(self.scene.founder.clone().map(Obstacle::Founder));
        for (node, name) in &self.scene.peers {
            match self.reports.get(node) {
                None => all.push(Obstacle::Unheard(name.clone())),
                Some(heard) => all.extend(self.obstacle(heard, toward)),
            }
        }
        let mut names = BTreeSet::from([self.member.me().name.as_str()]);
        for name in self.scene.peers.values() {
            if !names.insert(name) {
                all.push(Obstacle::SameName(name.clone()));
            }
        }
        let majority = self.member.expect() / 2 + 1;
        if self.scene.silent.len() >= majority && !mutant!(SilenceIsEmpty) {
            all.push(Obstacle::Silence);
        }
        all
    }

    fn obstacle(&self, heard: &Heard, toward: Option<&ProposalId>) -> Option<Obstacle> {
        let (name, report) = (heard.name.clone(), &heard.report);
        if usize::from(report.expect) != self.member.expect() {
            return Some(Obstacle::Expects(name, report.expect));
        }
        if report.record_bytes_max != self.member.record_bytes_max() {
            return Some(Obstacle::RecordBytes(name, report.record_bytes_max));
        }
        let (proposal, _) = report.pledge.as_ref().filter(|(p, _)| Some(&p.id()) != toward)?;
        let others = proposal.founders().iter().map(|f| f.name.clone()).filter(|n| *n != name).collect();
        Some(Obstacle::Pledged(name, others))
    }

    /// The fresh agents, this one among them.
    pub(super) fn candidates(&self) -> Vec<(Founder, u64)> {
        let me = (self.member.me().clone(), self.member.record().floor);
        let others = self.scene.peers.keys().filter_map(|node| {
            let Heard { name, report } = self.reports.get(node)?;
            let fits = usize::from(report.expect) == self.member.expect();
            let is_fresh = fits && report.log.is_none() && report.pledge.is_none();
            is_fresh.then(|| (Founder { node: *node, key: report.key, name: name.clone() }, report.floor))
        });
        let mut all: Vec<(Founder, u64)> = others.chain([me]).collect();
        all.sort();
        all
    }

    /// Those who are to found a log, if this agent is one of them and nothing stands against it; and the highest floor.
    #[must_use]
    pub fn founders(&self) -> Option<(Vec<Founder>, u64)> {
        let mut chosen = self.candidates();
        chosen.truncate(self.member.expect());
        let is_whole = chosen.len() == self.member.expect() && self.member.is_free() && self.may_found(None);
        let is_one = chosen.iter().any(|(f, _)| f.node == self.member.me().node);
        let floor = chosen.iter().map(|(_, floor)| *floor).max()?;
        (is_whole && is_one).then(|| (chosen.into_iter().map(|(f, _)| f).collect(), floor))
    }
}
