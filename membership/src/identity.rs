//! Our foca identity: a node, one life of it, and how often that life had to renew itself.
//!
//! It never decides who is who: node ids are proven by the caller's handshake.

use crate::place::Place;
use crate::types::Life;

/// Who speaks, to foca.
///
/// The `bump` counts renewals: for foca a failed identity is failed for ever, so a live node that was declared failed
/// comes back under the next bump. It starts at zero in each life and need not be persisted, because the boot epoch
/// (which the caller persists) outranks it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Identity {
    pub(crate) node: u64,
    pub(crate) life: Life,
    pub(crate) bump: u32,
    /// Where to dial somebody of whom nothing else is known yet. Not part of equality: a node changes its address
    /// without becoming another one, and a peer that saw it under another address must still reach it (foca drops
    /// packets that are not for exactly the receiver's identity).
    pub(crate) place: Place,
}

impl Identity {
    /// What decides between two identities of one node: the later life, then the later renewal of it.
    pub(crate) fn rank(&self) -> (Life, u32) {
        (self.life, self.bump)
    }
}

/// Bumps from here on are refused, so that there always is a next one.
pub(crate) const BUMP_LIMIT: u32 = 1 << 31;

impl PartialEq for Identity {
    fn eq(&self, other: &Self) -> bool {
        self.node == other.node && self.rank() == other.rank()
    }
}

impl Eq for Identity {}

impl foca::Identity for Identity {
    type Addr = u64;

    fn renew(&self) -> Option<Self> {
        Some(Self { bump: self.bump.checked_add(1)?, ..*self })
    }

    fn addr(&self) -> u64 {
        self.node
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        self.rank() > adversary.rank()
    }
}
