//! Merging: what a record, or tags that were asked for, change of what is held.
//!
//! It never asks for what is missing, and passes nothing on: the conductor does.

use crate::entry::Entry;
use crate::record::{RECORD_JUMP_MAX, Record};
use crate::roster::Roster;
use crate::tag_store::{Adopted, TagNews};
use crate::tags::Tags;
use crate::types::{Life, Now};
use std::sync::Arc;

/// The most records kept for nodes that foca does not know (yet): records may overtake foca's update by a packet.
const STRANGERS_MAX: usize = 1024;

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Merge {
    /// Tell the others.
    News,
    /// Known, or older than what is known.
    Stale,
    /// Against what is proven.
    Refused(&'static str),
}

/// What a change of this node's own record does to its tags.
#[derive(Debug)]
pub(crate) enum OwnTags {
    Keep,
    /// These from now on.
    Write(Tags),
    /// The same, written again, later than what somebody said in its name.
    Again,
}

/// Both say the same of their member.
pub(crate) fn same(a: &Record, b: &Record) -> bool {
    let tags = |r: &Record| (r.tags.version, r.tags.hash);
    let card = |r: &Record| (r.leaving, r.place);
    a.rank() == b.rank() && card(a) == card(b) && (&a.name, &a.version) == (&b.name, &b.version) && tags(a) == tags(b)
}

/// Takes tags over; `full`: only what does not take more room than before.
fn adopt(entry: &mut Entry, news: &TagNews, own: bool, full: bool) {
    if news.delta.is_none() || entry.tags().holds(news) {
        return;
    }
    let mut tags = entry.tags().clone();
    let is_held = tags.adopt(news, own) == Adopted::Held;
    if is_held && !(full && tags.bytes() > entry.tags().bytes()) {
        entry.tags = Some(Box::new(tags));
    }
}

impl Roster {
    /// A record of another node, or of this one when this node made it.
    ///
    /// `own`: it came on the connection of its member, which counts for more than what others say of it.
    pub(crate) fn merge(&mut self, record: Record, own: bool, now: Now) -> Merge {
        let life = record.life;
        let no_room = self.is_full() || self.news.strangers >= STRANGERS_MAX || self.quota() == 0;
        if own {
            self.hear_own_word(&record);
        }
        match self.get(record.node) {
            Some(entry) => {
                let word = entry.own_word().filter(|(of, _)| *of == life).map(|(_, lamport)| lamport);
                if !own && word.is_some_and(|word| record.lamport > word.saturating_add(RECORD_JUMP_MAX)) {
                    return Merge::Refused("a record of a member from further ahead than it can be");
                }
                if let Some(contact) = entry.contact() {
                    if record.life < contact.life {
                        return Merge::Stale;
                    }
                    if record.life == contact.life && record.name != contact.name {
                        return Merge::Refused("a record gives a member another name than its certificate");
                    }
                }
                if entry.life().is_some_and(|life| record.life < life) {
                    return Merge::Stale;
                }
                let overrules = |known: &Record| {
                    own && known.life == life && known.lamport > record.lamport.saturating_add(RECORD_JUMP_MAX)
                };
                // What somebody else has said in its name, at the very time of its own word.
                let corrects = |known: &Record| own && record.rank() == known.rank() && !same(known, &record);
                let is_later = |known: &Record| record.rank() > known.rank() || overrules(known) || corrects(known);
                if entry.record.as_ref().is_some_and(|known| !is_later(known)) {
                    // What was hearsay is now its own word, which counts for more.
                    let is_told = entry.is_behind() && entry.record.as_ref().is_some_and(|k| same(k, &record));
                    let is_of_life = entry.record.as_ref().is_some_and(|known| known.life == life);
                    if is_of_life && (own || is_told) {
                        let full = self.quotas.is_full_for(entry);
                        self.change_tags(record.node, now, |entry| adopt(entry, &record.tags, own && is_told, full));
                    }
                    return Merge::Stale;
                }
            }
            None if no_room => return Merge::Stale,
            None => {}
        }
        let record = self.shared(record);
        let full = self.is_full_for(record.node);
        let Record { node, ref tags, .. } = record;
        let told = tags.clone();
        let record = Arc::new(Record { tags: TagNews { delta: None, ..record.tags }, ..record });
        let record = self.pool.as_ref().map_or_else(|| record.clone(), |pool| pool.record(&record));
        self.change_tags(node, now, |entry| {
            let known = entry.record.replace(record);
            if known.as_ref().is_none_or(|known| known.life != life) {
                entry.tags = None;
                // Users see the present life until foca has heard of the next.
                let of = entry.life();
                entry.former = known.filter(|known| of.is_some_and(|of| known.life <= of)).or(entry.former.take());
            }
            adopt(entry, &told, own, full);
        });
        Merge::News
    }

    /// There is no room for more tags of this node, known or not.
    fn is_full_for(&self, node: u64) -> bool {
        match (self.get(node), self.introducer_of(node)) {
            (Some(entry), _) => self.quotas.is_full_for(entry),
            (None, introducer) => introducer.is_some() && self.quotas.is_full_of_hearsay(introducer),
        }
    }

    /// A record came on the connection of its member.
    fn hear_own_word(&mut self, record: &Record) {
        let (life, known) = (record.life, self.get(record.node).and_then(Entry::own_word));
        let word = known.filter(|(of, _)| *of == life).map_or(0, |(_, lamport)| lamport);
        let word = Some((life, record.lamport.max(word)));
        if word != known {
            self.remember(record.node, |met| met.own_word = word);
        }
    }

    /// The same record, its texts held once with those that read the same.
    fn shared(&self, mut record: Record) -> Record {
        let mine = self.get(self.me).and_then(|entry| entry.record.as_ref());
        let entry = self.get(record.node);
        for known in mine.into_iter().chain(entry.and_then(|entry| entry.record.as_ref())) {
            record.name.share(&known.name);
            record.version.share(&known.version);
        }
        if let Some(contact) = entry.and_then(Entry::contact) {
            record.name.share(&contact.name);
            record.version.share(&contact.version);
        }
        record
    }

    /// Changes an entry's tags, and lets go of what is then too much.
    fn change_tags<R>(&mut self, node: u64, now: Now, change: impl FnOnce(&mut Entry) -> R) -> R {
        let result = self.change(node, now, change);
        while self.quotas.must_shed() {
            let held = self.entries.values().filter(|entry| entry.is_hearsay && entry.tags.is_some());
            let most = held.max_by_key(|entry| (self.quotas.weight(entry), entry.tags().bytes()));
            let Some(shed) = most.map(|entry| entry.node) else { break };
            self.change(shed, now, |entry| entry.tags = None);
        }
        result
    }

    /// Its record tells of tags that are not held, and there is room for them.
    pub(crate) fn wants_tags(&self, node: u64) -> bool {
        let is_here = |entry: &Entry| entry.is_present() || !entry.is_hearsay;
        self.get(node).is_some_and(|entry| entry.is_behind() && is_here(entry) && !self.quotas.is_full_for(entry))
    }

    /// Tags that were asked for came; `own`: from the member itself. Says whether they are held now.
    pub(crate) fn fetched(&mut self, node: u64, life: Life, news: &TagNews, own: bool, now: Now) -> bool {
        let Some(entry) = self.get(node) else { return false };
        let Some(record) = entry.record.as_ref().filter(|record| record.life == life) else { return false };
        let told = (record.tags.version, record.tags.hash);
        let full = self.quotas.is_full_for(entry);
        if entry.is_behind() && (own || told == (news.version, news.hash)) {
            self.change_tags(node, now, |entry| {
                adopt(entry, news, own, full);
                !entry.is_behind()
            })
        } else {
            false
        }
    }

    /// This node's own record from now on.
    pub(crate) fn speak(&mut self, mut record: Record, tags: OwnTags, now: Now) {
        let (node, word) = (record.node, (record.life, record.lamport));
        self.change(node, now, |entry| {
            let mut store = entry.tags().clone();
            match tags {
                OwnTags::Keep => {}
                OwnTags::Write(wish) => drop(store.write(&wish, record.lamport)),
                OwnTags::Again => store.write_again(record.lamport),
            }
            record.tags = TagNews { delta: None, ..store.news() };
            // Of who never wrote any none is held.
            entry.tags = (store.version() > 0).then(|| Box::new(store));
            entry.record = Some(Arc::new(record));
        });
        self.remember(node, |met| met.own_word = Some(word));
    }
}
