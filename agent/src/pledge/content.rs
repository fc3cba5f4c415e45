//! Content: what a proposal says, and the bytes of that, of which its id is the hash.
//!
//! It never says whether its parts make sense together: `proposal` does, before there is one.

use super::keys::PublicKey;

/// One agent that is to be a voter of the first entry.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Founder {
    /// Its node id.
    pub node: u64,
    /// The key that proves the node id.
    pub key: PublicKey,
    /// Its name.
    pub name: String,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Content {
    /// The trust domain.
    pub(super) cluster: [u8; 16],
    /// Above the floor of each founder: a proposal that died never comes back under its id.
    pub(super) round: u64,
    /// The largest value of a record in this log.
    pub(super) record_bytes_max: u64,
    /// Ascending by node id.
    pub(super) founders: Vec<Founder>,
}

/// As it is hashed, stored and sent.
pub(super) fn put_content(out: &mut Vec<u8>, content: &Content) {
    out.extend_from_slice(&content.cluster);
    out.extend_from_slice(&content.round.to_le_bytes());
    out.extend_from_slice(&content.record_bytes_max.to_le_bytes());
    out.push(content.founders.len() as u8);
    for founder in &content.founders {
        out.extend_from_slice(&founder.node.to_le_bytes());
        out.extend_from_slice(&founder.key);
        // Names have at most 63 bytes: what enters here was checked.
        out.push(founder.name.len() as u8);
        out.extend_from_slice(founder.name.as_bytes());
    }
}
