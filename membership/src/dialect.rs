//! Dialects: the versions of the protocol that this crate speaks, and hears.
//!
//! They never differ in what foca says, nor in the size of a packet: members of both find and watch each other.

use crate::wire::{self, OTHER_VERSION};

/// In which version a peer is spoken to: the latest, unless it was last heard in the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Dialect {
    /// Tags that fit one packet, within each record; whole tables only.
    First,
    /// Tags of any size, told by what changed; tables compared by hashes.
    #[default]
    Second,
}

impl Dialect {
    /// The first byte of each message.
    pub(crate) fn version(self) -> u8 {
        match self {
            Self::First => 1,
            Self::Second => 2,
        }
    }

    pub(crate) fn of(version: u8) -> wire::Result<Self> {
        match version {
            1 => Ok(Self::First),
            2 => Ok(Self::Second),
            _ => Err(OTHER_VERSION),
        }
    }
}
