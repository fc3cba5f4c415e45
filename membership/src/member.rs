//! A member as users see it.
//!
//! It never holds what only the protocol needs.

use crate::tags::Tags;
use crate::text::Text;
use crate::types::Mono;
use std::fmt;
use std::net::SocketAddr;

/// Bytes of a name (architecture §6).
pub const NAME_BYTES_MAX: usize = 63;
/// Bytes of a version.
pub const VERSION_BYTES_MAX: usize = 64;

/// How a member stands, in Serf's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// It answers.
    Alive,
    /// Somebody's probe of it failed; it has a few seconds to answer.
    Suspect,
    /// It said that it is going to leave, and still answers.
    Leaving,
    /// It went, and had said so.
    Left,
    /// It stopped answering without a word.
    Failed,
}

impl State {
    /// Neither gone nor declared failed: alive, suspect or leaving.
    #[must_use]
    pub fn is_present(self) -> bool {
        matches!(self, Self::Alive | Self::Suspect | Self::Leaving)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Alive => "alive",
            Self::Suspect => "suspect",
            Self::Leaving => "leaving",
            Self::Left => "left",
            Self::Failed => "failed",
        })
    }
}

/// One member, as far as this node knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its node id.
    pub node: u64,
    /// Its human name; empty until it is known. Two nodes may claim one name: see
    /// [`Status::name_conflicts`](crate::Status::name_conflicts).
    pub name: Text,
    /// Where to dial it. Unspecified until it is known.
    pub addr: SocketAddr,
    /// Its boot epoch: which of its lives this is about.
    pub epoch: u64,
    /// Its boot id: random per process.
    pub boot: u64,
    /// How it stands.
    pub state: State,
    /// What its operator says of it.
    pub tags: Tags,
    /// Its software version; empty until it is known.
    pub version: Text,
    /// When `state` last changed, on this node's clock.
    pub since: Mono,
    /// The same on the wall clock, in microseconds since 1970, for people.
    pub since_wall_us: i64,
    /// Lamport time of its newest record; zero if none was heard yet.
    pub lamport: u64,
    /// This node itself had a connection with it in this life, so node, name and life are proven. Everything about
    /// the others is hearsay: a hint to dial (architecture §6).
    pub proven: bool,
    /// A connection with it is up now.
    pub connected: bool,
}

/// Legal name of architecture §6: `[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?`.
pub(crate) fn is_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    let inner = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-';
    !bytes.is_empty()
        && bytes.len() <= NAME_BYTES_MAX
        && bytes.iter().all(inner)
        && bytes.first() != Some(&b'-')
        && bytes.last() != Some(&b'-')
}

pub(crate) fn is_version(version: &str) -> bool {
    version.len() <= VERSION_BYTES_MAX && version.bytes().all(|b| b.is_ascii_graphic() || b == b' ')
}
