//! Proposal: who is to found a log together, and the id that follows from it.
//!
//! It never says whether anybody agrees.

use super::content::{Content, Founder, put_content};
use super::keys::Keys;
use std::sync::Arc;

/// Most founders of one log.
pub const EXPECT_MAX: usize = 7;

/// The id of a proposal, and of the log that it founds.
pub type ProposalId = [u8; 16];

/// What the hash of a proposal begins with, so that it is the hash of nothing else.
const DOMAIN: &[u8] = b"quorate founding 1\0";

/// May so many be expected? Odd, so that each of them helps to bear a loss, and few enough that all can vote.
#[must_use]
pub fn is_expectable(expect: usize) -> bool {
    expect % 2 == 1 && expect <= EXPECT_MAX
}

/// All that a founding decides. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Proposal {
    id: ProposalId,
    content: Arc<Content>,
}

impl Proposal {
    /// A proposal, if its parts make sense: an odd number of founders, each once.
    #[must_use]
    pub fn new(cluster: [u8; 16], round: u64, record_bytes_max: u64, mut founders: Vec<Founder>) -> Option<Self> {
        founders.sort();
        let distinct = founders.windows(2).all(|two| matches!(two, [a, b] if a.node < b.node && a.name != b.name));
        if !is_expectable(founders.len()) || !distinct || round == 0 {
            return None;
        }
        let content = Content { cluster, round, record_bytes_max, founders };
        let mut bytes = DOMAIN.to_vec();
        put_content(&mut bytes, &content);
        let id = *ring::digest::digest(&ring::digest::SHA256, &bytes).as_ref().first_chunk()?;
        Some(Self { id, content: Arc::new(content) })
    }

    /// Has each founder the key of its node id?
    #[must_use]
    pub fn is_proven(&self, keys: &dyn Keys) -> bool {
        self.content.founders.iter().all(|f| f.node != 0 && keys.node_of(&f.key) == Some(f.node))
    }

    pub(super) fn content(&self) -> &Content {
        &self.content
    }
    /// Its id, which is the id of the log that it founds.
    #[must_use]
    pub fn id(&self) -> ProposalId {
        self.id
    }
    /// The trust domain.
    #[must_use]
    pub fn cluster(&self) -> [u8; 16] {
        self.content.cluster
    }
    /// The round.
    #[must_use]
    pub fn round(&self) -> u64 {
        self.content.round
    }
    /// The largest value of a record in this log.
    #[must_use]
    pub fn record_bytes_max(&self) -> u64 {
        self.content.record_bytes_max
    }
    /// The founders, ascending by node id.
    #[must_use]
    pub fn founders(&self) -> &[Founder] {
        &self.content.founders
    }
    /// How many must agree on whether it lives.
    #[must_use]
    pub fn quorum(&self) -> usize {
        self.content.founders.len() / 2 + 1
    }
    /// The place of a node among the founders.
    #[must_use]
    pub fn rank(&self, node: u64) -> Option<usize> {
        self.content.founders.iter().position(|f| f.node == node)
    }
    /// The founder with this node id.
    #[must_use]
    pub fn founder(&self, node: u64) -> Option<&Founder> {
        self.content.founders.iter().find(|f| f.node == node)
    }
}
