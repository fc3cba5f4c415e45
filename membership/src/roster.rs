//! The roster: what is held of each node, and the one way to change it, by which all that follows is derived.
//!
//! It never talks to foca and sends nothing. It holds at most [`Options::members_max`](crate::Options) entries.

use crate::dialect::Dialect;
use crate::entry::{Contact, Entry, Met, Seen};
use crate::io::Event;
use crate::news::{Before, News};
use crate::pool::Pool;
use crate::quota::Quotas;
use crate::types::{Life, Mono, Now};
use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

/// Where more members than this are present on the word of others alone, probes of the real ones may be late.
pub(crate) const UNPROVEN_MANY: usize = 16;

#[derive(Debug)]
pub(crate) struct Roster {
    /// Who is being listened to.
    speaker: Option<NonZeroU64>,
    /// Apart, each in a piece of its own: the nodes of a map are a third empty.
    pub(crate) entries: BTreeMap<u64, Box<Entry>>,
    pub(crate) news: News,
    pub(crate) quotas: Quotas,
    /// Where several cores run in one process, what they hold alike is held once.
    pub(crate) pool: Option<Pool>,
    pub(crate) me: u64,
    members_max: usize,
    patience: Duration,
}

impl Roster {
    pub(crate) fn new(me: u64, members_max: usize, patience: Duration) -> Self {
        let (news, quotas) = (News::default(), Quotas::default());
        Self { speaker: None, entries: BTreeMap::new(), news, quotas, pool: None, me, members_max, patience }
    }

    pub(crate) fn get(&self, node: u64) -> Option<&Entry> {
        self.entries.get(&node).map(Box::as_ref)
    }

    /// All that foca knows, and this node.
    pub(crate) fn visible(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values().map(Box::as_ref).filter(|entry| entry.seen.is_some())
    }

    /// The entries from `node` on, and then those before it.
    pub(crate) fn from(&self, node: u64) -> impl Iterator<Item = &Entry> {
        self.entries.range(node..).chain(self.entries.range(..node)).map(|(_, entry)| entry.as_ref())
    }

    /// Present members, this node included.
    pub(crate) fn present(&self) -> usize {
        self.news.present
    }

    /// Present members other than this node.
    pub(crate) fn others(&self) -> impl Iterator<Item = &Entry> {
        let me = self.me;
        self.entries.values().map(Box::as_ref).filter(move |entry| entry.node != me && entry.is_present())
    }

    /// Nobody else is present.
    pub(crate) fn is_alone(&self) -> bool {
        self.others().next().is_none()
    }

    /// Somebody went, or is not there yet: there will be something to forget.
    pub(crate) fn take_gone(&mut self) -> bool {
        std::mem::take(&mut self.news.gone)
    }

    pub(crate) fn is_full(&self) -> bool {
        self.entries.len() >= self.members_max
    }

    /// New members are from now on told of by this peer.
    pub(crate) fn listen_to(&mut self, speaker: Option<u64>) {
        self.speaker = speaker.and_then(NonZeroU64::new);
    }

    /// On whose word an unknown node would be taken in now; nobody's, if it speaks itself.
    pub(crate) fn introducer_of(&self, node: u64) -> Option<NonZeroU64> {
        self.speaker.filter(|speaker| speaker.get() != node)
    }

    /// How many more unknown members the present speaker may tell of.
    pub(crate) fn quota(&self) -> usize {
        let room = self.members_max.saturating_sub(self.entries.len());
        self.speaker.map_or(room, |speaker| room.min(self.quotas.room(speaker.get())))
    }

    /// Members that are taken for present though no connection has proven them.
    pub(crate) fn unproven(&self) -> usize {
        self.quotas.unproven()
    }

    pub(crate) fn drain_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.news.events)
    }

    /// Members declared failed.
    pub(crate) fn failed(&self) -> usize {
        self.news.failed
    }

    /// When the first member that is not introduced yet wants to be.
    pub(crate) fn take_introduce_at(&mut self) -> Option<Mono> {
        self.news.introduce_at.take()
    }

    pub(crate) fn take_addresses_changed(&mut self) -> bool {
        std::mem::take(&mut self.news.addresses_changed)
    }

    pub(crate) fn name_conflicts(&self) -> BTreeMap<String, Vec<u64>> {
        self.news.name_conflicts()
    }

    /// Changes one entry, making it first if need be, and derives what follows.
    pub(crate) fn change<R>(&mut self, node: u64, now: Now, change: impl FnOnce(&mut Entry) -> R) -> R {
        let introduced_by = self.introducer_of(node);
        let (news, quotas) = (&mut self.news, &mut self.quotas);
        let entry = self.entries.entry(node).or_insert_with(|| {
            news.strangers += 1;
            if let Some(speaker) = introduced_by {
                quotas.introduce(speaker);
            }
            let is_hearsay = introduced_by.is_some();
            Box::new(Entry { is_hearsay, introduced_by, ..Entry::stranger(node, now) })
        });
        let before = Before::of(entry);
        let result = change(entry);
        entry.refresh(before.life, now);
        if !before.visible && entry.seen.is_some() {
            news.strangers -= 1;
        }
        if before.present && !entry.is_present() && entry.is_hearsay {
            // Probably it was invented: what was said of it is not worth its room.
            entry.tags = None;
        }
        quotas.count_tags(entry, before.tag_bytes);
        if before.present && !entry.is_present() {
            // Its inventor, if it was invented, has had it probed in vain; a newcomer may take its place.
            quotas.release(entry);
        }
        news.compare(self.me, &before, entry, now, self.patience);
        result
    }

    /// foca holds this of a node.
    pub(crate) fn observe(&mut self, seen: Seen, now: Now) {
        let node = seen.identity.node;
        if self.entries.get(&node).is_none_or(|entry| entry.seen != Some(seen)) {
            self.change(node, now, |entry| entry.seen = Some(seen));
        }
    }

    /// Changes what is known of a node because a connection with it was up.
    pub(crate) fn remember(&mut self, node: u64, change: impl FnOnce(&mut Met)) {
        if let Some(met) = self.entries.get_mut(&node).and_then(|entry| entry.met.as_mut()) {
            change(Arc::make_mut(met));
            if let Some(pool) = &self.pool {
                pool.share_met(met);
            }
        }
    }

    /// A connection with it is up.
    pub(crate) fn contact(&mut self, node: u64, mut contact: Contact, now: Now) {
        if let Some(entry) = self.entries.get_mut(&node) {
            self.quotas.prove(entry);
            if let Some(record) = &entry.record {
                contact.name.share(&record.name);
                contact.version.share(&record.version);
            }
        }
        let pool = self.pool.clone();
        self.change(node, now, |entry| {
            entry.connected = true;
            entry.is_hearsay = false;
            // What is proven ends what was only said.
            if entry.record.take_if(|record| record.life > contact.life).is_some() {
                let former = entry.former.take().filter(|record| record.life <= contact.life);
                (entry.record, entry.tags) = (former, None);
            }
            let met = entry.met.take();
            let is_same = met.as_ref().is_some_and(|met| met.contact.life == contact.life);
            let met = match met {
                Some(met) => Met { dialect: met.dialect.filter(|_| is_same), contact, ..(*met).clone() },
                None => Met { contact, dialect: None, compared: None, own_word: None },
            };
            let met = entry.met.insert(Arc::new(met));
            if let Some(pool) = pool {
                pool.share_met(met);
            }
        });
    }

    /// Gossip tells of a later life of a member to whose present life a connection is up. If it is true, that connection
    /// ends or the new life makes its own; until then a rumour must not end who can be spoken to.
    pub(crate) fn is_contradicted(&self, node: u64, life: Life) -> bool {
        self.get(node)
            .is_some_and(|entry| entry.connected && entry.contact().is_some_and(|contact| life > contact.life))
    }

    /// The last connection with it is gone.
    pub(crate) fn lost(&mut self, node: u64) {
        if let Some(entry) = self.entries.get_mut(&node) {
            entry.connected = false;
        }
    }

    /// What is heard from it is in this version of the protocol; says whether that is the first word of this connection.
    pub(crate) fn speaks(&mut self, node: u64, dialect: Dialect) -> bool {
        let before = self.get(node).and_then(Entry::dialect);
        if before != Some(dialect) {
            self.remember(node, |met| met.dialect = Some(dialect));
        }
        before.is_none() && self.get(node).is_some_and(|entry| entry.met.is_some())
    }

    /// Tables were compared with it.
    pub(crate) fn compares(&mut self, node: u64) {
        let life = self.get(node).and_then(Entry::life);
        if self.get(node).is_some_and(|entry| entry.compared() != life) {
            self.remember(node, |met| met.compared = life);
        }
    }

    /// A member heard of as gone went that long ago, not just now: else rumours would renew each other for ever.
    pub(crate) fn backdate(&mut self, node: u64, since: Mono) {
        if let Some(entry) = self.entries.get_mut(&node)
            && !entry.is_present()
        {
            entry.since = since.min(entry.since);
        }
    }

    /// Introduces members whose records did not come in time; says who they are, and when to look again.
    pub(crate) fn introduce_overdue(&mut self, now: Now) -> (Vec<u64>, Option<Mono>) {
        let (overdue, next) = self.news.take_overdue(now);
        let mut unknown = Vec::with_capacity(overdue.len());
        for (node, introduction) in overdue {
            let Some(entry) = self.entries.get(&node) else { continue };
            self.news.introduce(introduction, entry.member());
            unknown.push(node);
        }
        (unknown, next)
    }
}
