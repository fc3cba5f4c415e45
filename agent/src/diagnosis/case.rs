//! The case: all facts that were gathered about one agent, from whatever source.
//!
//! It never judges.

use crate::api::{DamagedEntries, DiskSpace};
use crate::facts::{CertificateFacts, Facts, Heard, MemberFacts, Picture, Trouble};
use std::collections::BTreeMap;

/// What is to be judged.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Case {
    /// What the agent said, and those that it asked.
    pub picture: Option<Picture>,
    /// Why it did not say anything.
    pub unreachable: Option<Trouble>,
    /// What its data directory holds.
    pub local: Option<LocalFacts>,
    /// What others said that were asked directly: last known addresses of a directory whose agent does not answer.
    pub probes: Vec<Heard>,
    /// The wall clock of whoever asks, in microseconds since 1970.
    pub now_us: i64,
}

/// What is wrong with a directory or a file of it, before anything can be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LocalTrouble {
    /// `absent`, `permission`, `loose`, `foreign`, `damaged`, `newer`, `failed`.
    pub word: String,
    /// For people: which file, and why.
    pub text: String,
}

/// What a data directory holds. Read without changing anything.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LocalFacts {
    /// The directory.
    pub data: String,
    /// What keeps it from being used.
    pub troubles: Vec<LocalTrouble>,
    /// Somebody holds its lock.
    pub locked: bool,
    /// Who, as its descriptor says: name, process, address.
    pub holder: Option<(String, u32, String)>,
    /// The node id that its key makes.
    pub node: Option<u64>,
    /// The name, as the certificate says.
    pub name: Option<String>,
    /// Its last life.
    pub boot: u64,
    /// Cluster id, hex.
    pub cluster: Option<String>,
    /// Log id, hex.
    pub log_id: Option<String>,
    /// The term on disk.
    pub term: u64,
    /// Directories of former lives that have left: their names.
    pub left: Vec<String>,
    /// Entries that cannot be read.
    pub damaged: Vec<DamagedEntries>,
    /// Every checksum was looked at; otherwise only whether log and meta open.
    pub verified: bool,
    /// The file system takes no writes.
    pub read_only: bool,
    /// Room.
    pub space: DiskSpace,
    /// What an append and sync of 4 KiB took, in microseconds, if it was measured: median and longest.
    pub fsync_us: Option<(u64, u64)>,
    /// The certificate.
    pub certificate: Option<CertificateFacts>,
    /// Why there is none to use: the word of a refusal, and for people.
    pub certificate_trouble: Option<Trouble>,
    /// Last known addresses of others: name, node, address.
    pub known: Vec<(String, u64, String)>,
}

/// An agent that was never met goes by its number.
fn is_name(member: &MemberFacts) -> bool {
    !member.name.is_empty() && member.name != format!("{:016x}", member.node)
}

/// The case as the rules look at it.
pub(super) struct View<'a> {
    pub(super) case: &'a Case,
    /// The agent that was asked.
    pub(super) own: Option<&'a Facts>,
    /// All others that said something.
    pub(super) others: Vec<&'a Facts>,
    /// Those that were asked in vain.
    pub(super) silent: Vec<&'a Heard>,
    names: BTreeMap<u64, String>,
}

impl<'a> View<'a> {
    pub(super) fn of(case: &'a Case) -> Self {
        let own = case.picture.as_ref().map(|picture| &picture.own);
        let asked = || case.picture.iter().flat_map(|picture| &picture.others).chain(&case.probes);
        let mut others: Vec<&Facts> = Vec::new();
        for facts in asked().filter_map(|heard| heard.facts.as_ref()) {
            let is_own = own.is_some_and(|own| own.node == facts.node && own.boot == facts.boot);
            if !is_own && !others.iter().any(|known| known.node == facts.node && known.boot == facts.boot) {
                others.push(facts);
            }
        }
        let silent = asked().filter(|heard| heard.facts.is_none()).collect();
        let mut names = BTreeMap::new();
        for facts in own.into_iter().chain(others.iter().copied()) {
            names.entry(facts.node).or_insert_with(|| facts.name.clone());
            for member in facts.members.iter().filter(|member| is_name(member)) {
                names.entry(member.node).or_insert_with(|| member.name.clone());
            }
        }
        Self { case, own, others, silent, names }
    }

    /// Everybody who said something, the agent that was asked first.
    pub(super) fn all(&self) -> impl Iterator<Item = &'a Facts> {
        self.own.into_iter().chain(self.others.iter().copied())
    }

    /// Of the log that the agent in question belongs to: others under the same authority speak for their own.
    pub(super) fn of_log(&self) -> impl Iterator<Item = &'a Facts> {
        let log = self.log_id();
        self.all().filter(move |facts| log.is_none() || facts.log_id.as_deref() == log)
    }

    pub(super) fn log_id(&self) -> Option<&'a str> {
        let local = self.case.local.as_ref().and_then(|local| local.log_id.as_deref());
        self.own.and_then(|own| own.log_id.as_deref()).or(local)
    }

    pub(super) fn name_of(&self, node: u64) -> String {
        self.names.get(&node).cloned().unwrap_or_else(|| format!("{node:016x}"))
    }

    /// The name of the agent in question.
    pub(super) fn name(&self) -> Option<String> {
        let local = || self.case.local.as_ref().and_then(|local| local.name.clone());
        self.own.map(|own| own.name.clone()).or_else(local)
    }

    pub(super) fn node(&self) -> Option<u64> {
        self.own.map(|own| own.node).or_else(|| self.case.local.as_ref().and_then(|local| local.node))
    }

    /// What somebody else says of this node.
    pub(super) fn said_of(&self, node: u64) -> impl Iterator<Item = (&'a Facts, &'a MemberFacts)> {
        self.all().filter_map(move |facts| Some((facts, facts.members.iter().find(|m| m.node == node)?)))
    }

    pub(super) fn facts_of(&self, node: u64) -> Option<&'a Facts> {
        self.all().find(|facts| facts.node == node)
    }

    /// The leader that somebody of this log knows, in the newest term; of those, whoever says it of itself first.
    pub(super) fn leads(&self) -> Option<(&'a Facts, u64)> {
        let known = self.of_log().filter_map(|facts| Some((facts, facts.raft.leader?)));
        known.max_by_key(|(facts, leader)| (facts.raft.term, *leader == facts.node))
    }

    pub(super) fn leader(&self) -> Option<String> {
        self.leads().map(|(_, leader)| self.name_of(leader))
    }

    /// Has nobody who was asked a leader, although it belongs to a log, or means to?
    pub(super) fn is_leaderless(&self) -> bool {
        self.all().next().is_some() && self.leads().is_none()
    }

    /// ` of NAME`, where more than one agent is talked of.
    pub(super) fn whose(&self, facts: &Facts) -> String {
        let mine = self.own.is_some_and(|own| std::ptr::eq(own, facts));
        if mine { "this agent".into() } else { facts.name.clone() }
    }
}
