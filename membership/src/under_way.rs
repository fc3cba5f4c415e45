//! Under way: what this node has begun with others and not ended: exchanges, fetches, tries of paths in doubt, the watch.
//!
//! It never begins or ends any of it: `comparing`, `fetching`, `paths` and `watch` do, each what is its own here.

use crate::types::Mono;
use std::collections::BTreeMap;
use std::time::Duration;

/// Exchanges of tables under way at once: each may hold a table in memory on both sides (memberlist without a bound held
/// 7 GB in 3,000 of them). As many as a small cluster has members, so that joining one is not slowed down.
const UNDER_WAY_MAX: usize = 32;
/// Members of whom two sides say different things of one time are asked themselves, so often.
pub(crate) const SETTLE_AGAIN: Duration = Duration::from_secs(1);

/// Exchanges under way: with whom, until when, and how many hashes were sent, if any.
#[derive(Debug, Default)]
pub(crate) struct Comparing {
    pub(crate) under_way: BTreeMap<u64, (Mono, Option<usize>)>,
    /// The random member whose turn it is and who has not answered yet, and how many before it did not.
    pub(crate) turn: Option<(u64, u32)>,
    pub(crate) settle_from: Mono,
    /// Members that others hold for present, and when each may be tried again.
    hinted: BTreeMap<u64, Mono>,
    /// A deliberate bug: each hint is followed, however often it comes.
    #[cfg(any(test, feature = "mutants"))]
    pub(crate) follows_all: bool,
}

impl Comparing {
    /// Makes room for what is to begin; says whether there is any.
    pub(crate) fn has_room(&mut self, now: Mono) -> bool {
        self.under_way.retain(|_, (until, _)| now < *until);
        self.under_way.len() < UNDER_WAY_MAX
    }

    /// It answered: what was under way with it is over. Says what that was.
    pub(crate) fn end(&mut self, with: u64) -> Option<(Mono, Option<usize>)> {
        let ended = self.under_way.remove(&with)?;
        self.turn.take_if(|(node, _)| *node == with);
        Some(ended)
    }

    /// Each hint is followed once in a while: the answer to it may be the same hint again.
    pub(crate) fn follows_hint(&mut self, node: u64, now: Mono) -> bool {
        #[cfg(any(test, feature = "mutants"))]
        if self.follows_all {
            return true;
        }
        self.hinted.retain(|_, again| now < *again);
        let is_new = !self.hinted.contains_key(&node);
        if is_new {
            self.hinted.insert(node, now.after(SETTLE_AGAIN));
        }
        is_new
    }
}

/// A member of whose tags some are missing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Missing {
    /// Who told of them.
    pub(crate) holder: u64,
    pub(crate) tries: u32,
    pub(crate) next: Mono,
}

/// The tags that are missing, and who was asked for some. At most one of each for each member.
#[derive(Debug, Default)]
pub(crate) struct Fetching {
    pub(crate) missing: BTreeMap<u64, Missing>,
    /// Who was asked, and until when an answer is waited for.
    pub(crate) under_way: BTreeMap<u64, Mono>,
}

impl Fetching {
    pub(crate) fn wanted(&self) -> usize {
        self.missing.len()
    }
}

/// One path in doubt.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Path {
    pub(crate) lost: u8,
    pub(crate) is_blocked: bool,
    pub(crate) rest: u8,
}

/// The paths in doubt, by member.
#[derive(Debug, Default)]
pub(crate) struct Paths(pub(crate) BTreeMap<u64, Path>);

impl Paths {
    /// Members that datagrams do not reach, or do not come from.
    pub(crate) fn blocked(&self) -> impl Iterator<Item = u64> {
        self.0.iter().filter(|(_, path)| path.is_blocked).map(|(node, _)| *node)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Where the watch over the next member in the ring stands.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Watch {
    /// Who is watched; zero for nobody.
    pub(crate) node: u64,
    /// When it was last heard.
    pub(crate) heard: Mono,
    /// A ping is under way since.
    pub(crate) pinged: Option<Mono>,
}

impl Watch {
    /// This node was not there to hear.
    pub(crate) fn restart(&mut self, now: Mono) {
        (self.heard, self.pinged) = (now, None);
    }
}
