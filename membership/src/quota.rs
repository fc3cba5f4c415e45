//! Quotas: how much this node holds on the word of one peer alone, and of tags at all, so that a liar fills only its share.
//!
//! They never decide who is proven: connections do. What is proven takes the room of what is only said.

use crate::bounds::{HEARSAY_TAG_BYTES_MAX, HELD_BYTES_MAX, INTRODUCER_TAG_BYTES_MAX};
use crate::entry::Entry;
use std::collections::BTreeMap;
use std::num::NonZeroU64;

/// How many members that no connection has proven one peer may have told of, until probes have found them gone: a liar can
/// invent members, and each costs probes that real ones need. A newcomer to a large cluster hears of it from many.
const INTRODUCED_MAX: usize = 256;

/// What is held on the word of one peer.
#[derive(Clone, Copy, Debug, Default)]
struct Share {
    members: usize,
    tag_bytes: usize,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Quotas {
    /// By who told of them: members that are taken for present though no connection has proven them.
    introduced: BTreeMap<u64, Share>,
    /// What the tags of all take, in bytes.
    tag_bytes: usize,
    /// Of these, the tags of members that no connection has ever proven.
    hearsay_tag_bytes: usize,
}

impl Quotas {
    /// This peer has told of a member that nobody knew.
    pub(crate) fn introduce(&mut self, speaker: NonZeroU64) {
        self.introduced.entry(speaker.get()).or_default().members += 1;
    }

    /// How many more unknown members this peer may tell of.
    pub(crate) fn room(&self, speaker: u64) -> usize {
        INTRODUCED_MAX.saturating_sub(self.introduced.get(&speaker).map_or(0, |share| share.members))
    }

    /// Members that are taken for present though no connection has proven them.
    pub(crate) fn unproven(&self) -> usize {
        self.introduced.values().map(|share| share.members).sum()
    }

    /// What tags take: of all, and of those whom no connection has ever proven. Both in bytes.
    pub(crate) fn tag_bytes(&self) -> (usize, usize) {
        (self.tag_bytes, self.hearsay_tag_bytes)
    }

    /// A member that its introducer told of exists, or is gone: it counts against nobody any more.
    pub(crate) fn release(&mut self, entry: &mut Entry) {
        let Some(speaker) = entry.introduced_by.take() else { return };
        let Some(share) = self.introduced.get_mut(&speaker.get()) else { return };
        share.members -= 1;
        share.tag_bytes -= entry.tags().bytes();
        if share.members == 0 {
            self.introduced.remove(&speaker.get());
        }
    }

    /// A connection proved that it exists.
    pub(crate) fn prove(&mut self, entry: &mut Entry) {
        self.release(entry);
        if std::mem::take(&mut entry.is_hearsay) {
            self.hearsay_tag_bytes -= entry.tags().bytes();
        }
    }

    /// The tags of this entry took `was` bytes before.
    pub(crate) fn count_tags(&mut self, entry: &Entry, was: usize) {
        let change = |sum: &mut usize| *sum = *sum + entry.tags().bytes() - was;
        change(&mut self.tag_bytes);
        if entry.is_hearsay {
            change(&mut self.hearsay_tag_bytes);
        }
        if let Some(share) = entry.introduced_by.and_then(|speaker| self.introduced.get_mut(&speaker.get())) {
            change(&mut share.tag_bytes);
        }
    }

    /// There is no room for more tags of this member.
    pub(crate) fn is_full_for(&self, entry: &Entry) -> bool {
        if entry.is_hearsay {
            return self.is_full_of_hearsay(entry.introduced_by);
        }
        // What is only said makes room.
        self.tag_bytes - self.hearsay_tag_bytes >= HELD_BYTES_MAX
    }

    /// There is no room for tags of a member that no connection has proven, and that this peer told of.
    pub(crate) fn is_full_of_hearsay(&self, introduced_by: Option<NonZeroU64>) -> bool {
        let share = introduced_by.and_then(|speaker| self.introduced.get(&speaker.get()));
        self.tag_bytes >= HELD_BYTES_MAX
            || self.hearsay_tag_bytes >= HEARSAY_TAG_BYTES_MAX
            || share.is_some_and(|share| share.tag_bytes >= INTRODUCER_TAG_BYTES_MAX)
    }

    /// More is held than may be, and some of it on hearsay alone: that goes first.
    pub(crate) fn must_shed(&self) -> bool {
        self.tag_bytes > HELD_BYTES_MAX && self.hearsay_tag_bytes > 0
    }

    /// How much its introducer takes: whoever told most goes first.
    pub(crate) fn weight(&self, entry: &Entry) -> usize {
        let share = entry.introduced_by.and_then(|speaker| self.introduced.get(&speaker.get()));
        share.map_or(0, |share| share.tag_bytes)
    }
}
