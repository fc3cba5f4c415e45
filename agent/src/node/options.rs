//! Options, and what a boot hands to the node.

use super::formation::Formation;
use super::known::Known;
use crate::checkpoint::Loaded;
use crate::codec;
use crate::machine::registry::Registration;
use crate::machine::settings::Settings;
use crate::pledge::{Founder, Keys, Proposal, Record};
use quorate_raft::wal::{Entry, EntryKind, Meta, Recovered};
use quorate_raft::{BootId, Configuration, HardState, LogIndex, NodeId, Term};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Tunables and identity of one agent.
#[derive(Clone, Debug)]
pub struct Options {
    /// The name that its certificate proves.
    pub name: String,
    /// Its program version.
    pub version: String,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// Where others reach it; if its IP is unspecified, the address under which a peer sees it is taken.
    pub advertise: SocketAddr,
    /// How it comes to a log.
    pub formation: Formation,
    /// With what it signs a founding together with others.
    pub keys: Arc<dyn Keys>,
    /// The id of the log that it would found; fresh entropy.
    pub fresh_log_id: [u8; 16],
    /// Random per process.
    pub boot: BootId,
    /// Seed of all randomness inside.
    pub seed: u64,
    /// Of the Raft core.
    pub raft: quorate_raft::Options,
    /// Of the gossip core.
    pub membership: quorate_membership::Options,
    /// The largest value of a record; a founder writes it into the log, all others follow the log.
    pub record_bytes_max: usize,
    /// How many voters to grow to; odd. Default 5.
    pub voters_target: usize,
    /// How many agents hold the log at all. Default 7.
    pub replicas_max: usize,
    /// How long a new disk waits for a name whose holder is silent. Default 30 s.
    pub name_hold: Duration,
    /// Entries applied between two checkpoints. Fewer make a quicker start after a crash, and more writing. Default 50,000.
    pub checkpoint_entries: u64,
    /// The same in bytes of log, whichever comes first. Default 128 MiB.
    pub checkpoint_bytes: u64,
    /// How long everything must be well before growth that raises the tolerance. Default 1 s.
    pub growth_patience: Duration,
    /// What the autopilot goes by unless the log says otherwise.
    pub autopilot: Settings,
    /// The highest feature level that this program supports.
    pub feature_level: u32,
    /// Free bytes below which this agent takes no more entries, at most a tenth of its file system; 0 for none. Default
    /// 256 MiB, see `room`.
    pub disk_reserve_bytes: u64,
}

impl Options {
    pub(super) fn local_member(
        &self,
        node: u64,
        epoch: u64,
    ) -> Result<quorate_membership::Local, quorate_membership::Error> {
        Ok(quorate_membership::Local {
            node,
            name: self.name.clone(),
            addr: self.advertise,
            epoch,
            boot: self.boot.0,
            version: self.version.clone(),
            tags: quorate_membership::Tags::new(self.tags.clone())?,
        })
    }
}

/// Agents that hold the log at all, by default.
pub const REPLICAS_MAX_DEFAULT: usize = 7;
/// How long a new disk waits for a name whose holder is silent, by default.
pub const NAME_HOLD_DEFAULT: Duration = Duration::from_secs(30);
/// How long everything must be well before growth that raises the tolerance, by default.
pub const GROWTH_PATIENCE_DEFAULT: Duration = Duration::from_secs(1);

/// What the disk gave back.
#[derive(Debug)]
pub struct Boot {
    /// Identity, term, vote, boot epoch.
    pub meta: Meta,
    /// The shape of the log.
    pub recovered: Recovered,
    /// The state to begin with; what was found on disk.
    pub checkpoints: Loaded,
    /// Every entry of the log after that which is not a batch of records or a no-op, in order.
    pub control: Vec<Entry>,
    /// Addresses remembered from before.
    pub known: Vec<Known>,
    /// What it has promised about founding.
    pub record: Record,
    /// Tags that were set at run time, in former lives.
    pub tags: BTreeMap<String, String>,
}

impl Boot {
    /// The configuration at the checkpoint, and all in the log after it.
    pub(super) fn configurations(&self) -> Vec<(LogIndex, Configuration)> {
        let begun = self.checkpoints.checkpoint.as_ref().map(|c| c.configuration.clone());
        let later = self.control.iter().filter_map(|e| Some((e.header().index, configuration_of(e)?)));
        begun.into_iter().chain(later).collect()
    }

    /// Did this node decide to found a log, and die before its first entry was durable? Log id, term and vote are on
    /// disk before the entry is. Only a founder votes with an empty log: without a configuration nobody can stand. And it
    /// founds in the first term: whoever voted in a later one had a log.
    pub(super) fn is_interrupted_founding(&self) -> bool {
        let empty = self.recovered.last.is_none() && self.recovered.start.index == LogIndex::ZERO;
        // A disk that lost its first entries is something else.
        let lost = self.recovered.suspect.is_some() || !self.recovered.damaged.is_empty();
        let own = HardState { term: Term(1), vote: Some(self.meta.node) };
        empty && !lost && self.meta.log_id.is_some() && self.meta.hard_state == own
    }
}

impl Boot {
    /// Did this node die between the log id of a founding together and its first entry? What it founds is decided, so it writes
    /// the same entry now. Nobody votes in the first term of such a log, so this node has promised nothing in it.
    pub(super) fn is_interrupted_together(&self) -> bool {
        let empty = self.recovered.last.is_none() && self.recovered.start.index == LogIndex::ZERO;
        let lost = self.recovered.suspect.is_some() || !self.recovered.damaged.is_empty();
        let decided = self
            .record
            .pledge
            .as_ref()
            .filter(|pledge| pledge.lives && !pledge.founded)
            .map(|pledge| pledge.proposal.id());
        let begun = HardState { term: Term(1), vote: None };
        empty && !lost && self.meta.log_id.is_some() && self.meta.log_id == decided && self.meta.hard_state == begun
    }
}

/// The payload of the first entry of a log: all that a founding decides, in one write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Founding {
    /// The log's id.
    #[serde(with = "serde_bytes")]
    pub log_id: [u8; 16],
    /// The founder alone, or all that founded it together.
    pub configuration: Configuration,
    /// The founder's name; of several, that of the lowest id.
    pub founder: Registration,
    /// The largest value of a record in this log.
    pub record_bytes_max: u64,
    /// The names of the other founders, ascending by id; in boot zero, since all write the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<Registration>,
}

impl Founding {
    /// All founders.
    pub fn founders(&self) -> impl Iterator<Item = &Registration> {
        std::iter::once(&self.founder).chain(&self.others)
    }

    /// What every founder of this proposal writes; the same bytes everywhere.
    #[must_use]
    pub fn together(proposal: &Proposal) -> Option<Self> {
        let register = |f: &Founder| Registration { node: f.node, name: f.name.clone(), epoch: 0, boot: 0 };
        let mut founders = proposal.founders().iter().map(register);
        let voters = proposal.founders().iter().filter_map(|f| NodeId::new(f.node)).collect();
        Some(Self {
            log_id: proposal.id(),
            configuration: Configuration { voters, ..Configuration::default() },
            founder: founders.next()?,
            record_bytes_max: proposal.record_bytes_max(),
            others: founders.collect(),
        })
    }
}

/// The configuration that this entry carries, if it is one that does and decodes.
pub(super) fn configuration_of(entry: &Entry) -> Option<Configuration> {
    match entry.header().kind {
        EntryKind::Configuration => codec::decode(&entry.payload(), "configuration").ok(),
        EntryKind::Founding => {
            codec::decode::<Founding>(&entry.payload(), "founding entry").ok().map(|f| f.configuration)
        }
        _ => None,
    }
}

/// How many other members, and how many other voters, the newest configuration has that a checkpoint or these entries tell
/// of; `None` if they tell of none.
#[must_use]
pub fn others_in(begun: Option<&Configuration>, control: &[Entry], me: NodeId) -> Option<(usize, usize)> {
    let newest = control.iter().rev().find_map(configuration_of).or_else(|| begun.cloned())?;
    let voters = newest.voters.union(&newest.outgoing).filter(|node| **node != me).count();
    Some((newest.members().iter().filter(|node| **node != me).count(), voters))
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_raft::Position;

    /// Only the traces of a founding that was cut short are taken for one: everything else is a disk that has lost its log, and
    /// must not found another one under the same id.
    #[test]
    fn an_empty_log_is_an_interrupted_founding_in_the_first_term_only() {
        let me = NodeId::new(7).expect("not zero");
        let boot = |term: u64, vote: u64, suspect: Option<Position>| Boot {
            meta: Meta {
                log_id: Some([1; 16]),
                hard_state: HardState { term: Term(term), vote: NodeId::new(vote) },
                ..Meta::new([2; 16], me)
            },
            recovered: Recovered { suspect, ..Recovered::default() },
            checkpoints: Loaded::default(),
            control: Vec::new(),
            known: Vec::new(),
            record: Record::default(),
            tags: BTreeMap::new(),
        };
        assert!(boot(1, 7, None).is_interrupted_founding());
        assert!(!boot(2, 7, None).is_interrupted_founding(), "it has stood for election, so it had a log");
        assert!(!boot(1, 8, None).is_interrupted_founding());
        let lost = Position { index: LogIndex(9), term: Term(1) };
        assert!(!boot(1, 7, Some(lost)).is_interrupted_founding());
    }
}
