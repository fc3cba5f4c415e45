//! The table of members: foca says who is there, records say who that is, and a change of either may be an event.
//!
//! It never talks to foca and sends nothing. It holds at most [`Options::members_max`](crate::Options) entries.

use crate::bounds::HELD_BYTES_MAX;
use crate::dialect::Dialect;
use crate::entry::{Contact, Entry, Introduction, Seen};
use crate::identity::Identity;
use crate::io::Event;
use crate::member::{Member, State};
use crate::record::{RECORD_JUMP_MAX, Record};
use crate::tag_store::{Adopted, TagNews, TagStore};
use crate::tags::Tags;
use crate::types::{Life, Mono, Now};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The most records kept for nodes that foca does not know (yet): records may overtake foca's update by a packet.
const STRANGERS_MAX: usize = 1024;
/// How long such a record is kept.
pub(crate) const STRANGER_TIMEOUT: Duration = Duration::from_secs(60);

/// How many members that no connection has proven one peer may have told of, until probes have found them gone: a liar can
/// invent members, and each costs probes that real ones need. A newcomer to a large cluster hears of it from many.
const INTRODUCED_MAX: usize = 256;
/// How long a member that is gone is remembered if no connection ever proved that it existed.
pub(crate) const UNPROVEN_TIMEOUT: Duration = Duration::from_secs(600);
/// Where more members than this are present on the word of others alone, probes of the real ones may be late.
pub(crate) const UNPROVEN_MANY: usize = 16;

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

/// What follows from changes of entries: everything here is derived from them.
#[derive(Debug, Default)]
struct Log {
    events: Vec<Event>,
    names: BTreeMap<String, BTreeSet<u64>>,
    present: usize,
    failed: usize,
    strangers: usize,
    addresses_changed: bool,
    introduce_at: Option<Mono>,
    gone: bool,
    /// What the tags of all take, in bytes.
    tag_bytes: usize,
    /// How many unproven members each peer has told of.
    introduced: BTreeMap<u64, usize>,
}

#[derive(Debug)]
pub(crate) struct Roster {
    /// Who is being listened to.
    speaker: Option<u64>,
    entries: BTreeMap<u64, Entry>,
    log: Log,
    me: u64,
    members_max: usize,
    patience: Duration,
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

/// The view before a change, to compare with the one after it.
struct Before {
    visible: bool,
    present: bool,
    member: Member,
    tag_bytes: usize,
}

impl Before {
    fn of(entry: &Entry) -> Self {
        let tag_bytes = entry.tags.bytes();
        Self { tag_bytes, visible: entry.seen.is_some(), present: entry.is_present(), member: entry.member.clone() }
    }
}

fn soonest(slot: &mut Option<Mono>, at: Mono) {
    *slot = Some(slot.map_or(at, |slot| slot.min(at)));
}

/// Both say the same of their member.
pub(crate) fn same(a: &Record, b: &Record) -> bool {
    let tags = |r: &Record| (r.tags.version, r.tags.hash);
    let card = |r: &Record| (r.leaving, r.addr);
    a.rank() == b.rank() && card(a) == card(b) && (&a.name, &a.version) == (&b.name, &b.version) && tags(a) == tags(b)
}

/// Takes tags over; `full`: only what does not take more room than before.
fn adopt(entry: &mut Entry, news: &TagNews, own: bool, full: bool) {
    if full {
        let mut tags = entry.tags.clone();
        if tags.adopt(news, own) == Adopted::Held && tags.bytes() <= entry.tags.bytes() {
            entry.tags = tags;
        }
    } else {
        entry.tags.adopt(news, own);
    }
}

impl Log {
    /// A member that this peer told of exists, or is gone.
    fn proven(&mut self, introduced_by: Option<u64>) {
        if let Some(speaker) = introduced_by
            && let Some(count) = self.introduced.get_mut(&speaker)
        {
            *count -= 1;
            if *count == 0 {
                self.introduced.remove(&speaker);
            }
        }
    }

    /// Derives events and indexes from one changed entry.
    fn compare(&mut self, me: u64, before: &Before, entry: &mut Entry, now: Now, patience: Duration) {
        let node = entry.member.node;
        let present = entry.is_present();
        self.present = self.present + usize::from(present) - usize::from(before.present);
        let (was, is) = (&before.member, &entry.member);
        if (before.present, &was.name) != (present, &is.name) {
            self.reindex(node, before.present.then_some(&was.name), present.then_some(&is.name));
        }
        let listed = |visible: bool, member: &Member| (visible && member.state != State::Left).then_some(member.addr);
        if node != me && listed(before.visible, was) != listed(entry.seen.is_some(), is) {
            self.addresses_changed = true;
        }
        let same_life = (was.epoch, was.boot) == (is.epoch, is.boot);
        let known = before.visible.then_some(was.state);
        let failed = |visible: bool, member: &Member| usize::from(visible && member.state == State::Failed);
        self.failed = self.failed + failed(entry.seen.is_some(), is) - failed(before.visible, was);
        self.gone |= !present;
        let introduction = match known {
            _ if !present => None,
            Some(State::Failed) if same_life => Some(Introduction::Recovered),
            Some(State::Failed) => Some(Introduction::Restarted),
            _ if !before.present => Some(Introduction::Joined),
            // Foca may replace a live identity by a later one without a word on either going down or up.
            _ if !same_life => Some(Introduction::Restarted),
            _ => None,
        };
        if let Some(introduction) = introduction
            && entry.introduction.is_none()
        {
            let deadline = now.mono.after(patience);
            entry.introduction = Some((introduction, deadline));
            soonest(&mut self.introduce_at, deadline);
        }
        if (!present || entry.is_known())
            && let Some((introduction, _)) = entry.introduction.take()
        {
            self.introduce(introduction, &entry.member);
            if present {
                return;
            }
        }
        if entry.introduction.is_none() {
            self.describe(before, entry, same_life);
        }
    }

    fn introduce(&mut self, introduction: Introduction, member: &Member) {
        let member = member.clone();
        self.events.push(match introduction {
            Introduction::Joined => Event::Joined(member),
            Introduction::Restarted => Event::Restarted(member),
            Introduction::Recovered => Event::Recovered(member),
        });
    }

    /// The events of a member that users have heard of.
    fn describe(&mut self, before: &Before, entry: &Entry, same_life: bool) {
        let (was, is) = (&before.member, &entry.member);
        let what = (&was.name, was.addr, &was.version, &was.tags) != (&is.name, is.addr, &is.version, &is.tags);
        let event = match (was.state, is.state) {
            _ if !before.visible => None,
            (was, State::Failed) if was.is_present() => Some(Event::Failed(is.clone())),
            (was, State::Left) if was != State::Left => Some(Event::Left(is.clone())),
            (State::Alive, State::Suspect) => Some(Event::Suspected(is.clone())),
            (State::Suspect, State::Alive) => Some(Event::Refuted(is.clone())),
            (State::Alive | State::Suspect, State::Leaving) => Some(Event::Leaving(is.clone())),
            // It took the intent back.
            (State::Leaving, State::Alive | State::Suspect) => Some(Event::Updated(is.clone())),
            _ if what && same_life && entry.is_present() => {
                self.events.push(Event::Updated(is.clone()));
                return;
            }
            _ => None,
        };
        let said = event.is_some();
        self.events.extend(event);
        if said && what && same_life && is.state.is_present() {
            self.events.push(Event::Updated(is.clone()));
        }
    }

    fn reindex(&mut self, node: u64, was: Option<&String>, is: Option<&String>) {
        if let Some(name) = was
            && let Some(nodes) = self.names.get_mut(name)
        {
            nodes.remove(&node);
            if nodes.is_empty() {
                self.names.remove(name);
            }
        }
        if let Some(name) = is.filter(|name| !name.is_empty()) {
            let nodes = self.names.entry(name.clone()).or_default();
            if nodes.insert(node) && nodes.len() > 1 {
                let nodes = nodes.iter().copied().collect();
                self.events.push(Event::NameConflict { name: name.clone(), nodes });
            }
        }
    }
}

impl Roster {
    pub(crate) fn new(me: u64, members_max: usize, patience: Duration) -> Self {
        Self { speaker: None, entries: BTreeMap::new(), log: Log::default(), me, members_max, patience }
    }

    pub(crate) fn get(&self, node: u64) -> Option<&Entry> {
        self.entries.get(&node)
    }

    /// All that foca knows, and this node.
    pub(crate) fn visible(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values().filter(|entry| entry.seen.is_some())
    }

    /// The entries from `node` on, and then those before it.
    pub(crate) fn from(&self, node: u64) -> impl Iterator<Item = &Entry> {
        self.entries.range(node..).chain(self.entries.range(..node)).map(|(_, entry)| entry)
    }

    /// Present members, this node included.
    pub(crate) fn present(&self) -> usize {
        self.log.present
    }

    /// Present members other than this node.
    pub(crate) fn others(&self) -> impl Iterator<Item = &Entry> {
        let me = self.me;
        self.entries.values().filter(move |entry| entry.member.node != me && entry.is_present())
    }

    /// Somebody went, or is not there yet: there will be something to forget.
    pub(crate) fn take_gone(&mut self) -> bool {
        std::mem::take(&mut self.log.gone)
    }

    pub(crate) fn is_full(&self) -> bool {
        self.entries.len() >= self.members_max
    }

    /// New members are from now on told of by this peer.
    pub(crate) fn listen_to(&mut self, speaker: Option<u64>) {
        self.speaker = speaker;
    }

    /// How many more unknown members the present speaker may tell of.
    pub(crate) fn quota(&self) -> usize {
        let room = self.members_max.saturating_sub(self.entries.len());
        let used = self.speaker.map(|speaker| self.log.introduced.get(&speaker).copied().unwrap_or(0));
        used.map_or(room, |used| room.min(INTRODUCED_MAX.saturating_sub(used)))
    }

    /// Members that are taken for present though no connection has proven them.
    pub(crate) fn unproven(&self) -> usize {
        self.log.introduced.values().sum()
    }

    pub(crate) fn drain_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.log.events)
    }

    /// Members declared failed.
    pub(crate) fn failed(&self) -> usize {
        self.log.failed
    }

    /// When the first member that is not introduced yet wants to be.
    pub(crate) fn take_introduce_at(&mut self) -> Option<Mono> {
        self.log.introduce_at.take()
    }

    pub(crate) fn take_addresses_changed(&mut self) -> bool {
        std::mem::take(&mut self.log.addresses_changed)
    }

    pub(crate) fn name_conflicts(&self) -> BTreeMap<String, Vec<u64>> {
        let conflicts = self.log.names.iter().filter(|(_, nodes)| nodes.len() > 1);
        conflicts.map(|(name, nodes)| (name.clone(), nodes.iter().copied().collect())).collect()
    }

    /// Changes one entry, making it first if need be, and derives what follows.
    fn change<R>(&mut self, node: u64, now: Now, change: impl FnOnce(&mut Entry) -> R) -> R {
        let log = &mut self.log;
        let speaker = self.speaker.filter(|speaker| *speaker != node);
        let entry = self.entries.entry(node).or_insert_with(|| {
            log.strangers += 1;
            if let Some(speaker) = speaker {
                *log.introduced.entry(speaker).or_default() += 1;
            }
            Entry { is_hearsay: speaker.is_some(), introduced_by: speaker, ..Entry::stranger(node, now) }
        });
        let before = Before::of(entry);
        let result = change(entry);
        entry.touched = now.mono;
        entry.refresh(now);
        if !before.visible && entry.seen.is_some() {
            log.strangers -= 1;
        }
        log.tag_bytes = log.tag_bytes + entry.tags.bytes() - before.tag_bytes;
        if before.present && !entry.is_present() {
            // Its inventor, if it was invented, has had it probed in vain; a newcomer may take its place.
            log.proven(entry.introduced_by.take());
        }
        log.compare(self.me, &before, entry, now, self.patience);
        result
    }

    /// foca holds this of a node.
    pub(crate) fn observe(&mut self, seen: Seen, now: Now) {
        let node = seen.identity.node;
        if self.entries.get(&node).is_none_or(|entry| entry.seen != Some(seen)) {
            self.change(node, now, |entry| entry.seen = Some(seen));
        }
    }

    /// A connection with it is up.
    pub(crate) fn contact(&mut self, node: u64, contact: Contact, now: Now) {
        let introduced_by = self.entries.get_mut(&node).and_then(|entry| entry.introduced_by.take());
        self.log.proven(introduced_by);
        self.change(node, now, |entry| {
            entry.member.connected = true;
            if entry.contact.as_ref().is_none_or(|known| known.life != contact.life) {
                entry.dialect = None;
            }
            entry.is_hearsay = false;
            // What is proven ends what was only said.
            entry.record.take_if(|record| record.life > contact.life);
            entry.contact = Some(contact);
        });
    }

    /// Gossip tells of a later life of a member to whose present life a connection is up. If it is true, that connection
    /// ends or the new life makes its own; until then a rumour must not end who can be spoken to.
    pub(crate) fn is_contradicted(&self, node: u64, life: Life) -> bool {
        self.entries.get(&node).is_some_and(|entry| {
            entry.member.connected && entry.contact.as_ref().is_some_and(|contact| life > contact.life)
        })
    }

    /// The last connection with it is gone.
    pub(crate) fn lost(&mut self, node: u64) {
        if let Some(entry) = self.entries.get_mut(&node) {
            entry.member.connected = false;
        }
    }

    /// A record of another node, or of this one when this node made it.
    ///
    /// `own`: it came on the connection of its member, which counts for more than what others say of it.
    pub(crate) fn merge(&mut self, record: Record, own: bool, now: Now) -> Merge {
        let life = record.life;
        let no_room = self.is_full() || self.log.strangers >= STRANGERS_MAX || self.quota() == 0;
        match self.entries.get_mut(&record.node) {
            Some(entry) => {
                let word = entry.own_word.filter(|(of, _)| *of == life).map(|(_, lamport)| lamport);
                if own {
                    entry.own_word = Some((life, record.lamport.max(word.unwrap_or(0))));
                } else if word.is_some_and(|word| record.lamport > word.saturating_add(RECORD_JUMP_MAX)) {
                    return Merge::Refused("a record of a member from further ahead than it can be");
                }
                if let Some(contact) = entry.contact.as_ref() {
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
                    if own || is_told {
                        let full = self.is_full_of_tags();
                        self.change(record.node, now, |entry| adopt(entry, &record.tags, own && is_told, full));
                    }
                    return Merge::Stale;
                }
            }
            None if no_room => return Merge::Stale,
            None => {}
        }
        let full = self.is_full_of_tags();
        self.change(record.node, now, |entry| {
            if entry.tags_life != Some(life) {
                (entry.tags, entry.tags_life) = (TagStore::default(), Some(life));
            }
            let mut record = record;
            let told = std::mem::take(&mut record.tags);
            record.tags = TagNews { delta: None, ..told.clone() };
            entry.record = Some(record);
            adopt(entry, &told, own, full);
        });
        Merge::News
    }

    /// There is no room for more tags of others.
    pub(crate) fn is_full_of_tags(&self) -> bool {
        self.log.tag_bytes >= HELD_BYTES_MAX
    }

    /// Tags that were asked for came; `own`: from the member itself. Says whether they are held now.
    pub(crate) fn fetched(&mut self, node: u64, life: Life, news: &TagNews, own: bool, now: Now) -> bool {
        let full = self.is_full_of_tags();
        let Some(entry) = self.entries.get(&node).filter(|entry| entry.tags_life == Some(life)) else { return false };
        let told = entry.record.as_ref().map(|record| (record.tags.version, record.tags.hash));
        if entry.is_behind() && (own || told == Some((news.version, news.hash))) {
            self.change(node, now, |entry| {
                adopt(entry, news, own, full);
                !entry.is_behind()
            })
        } else {
            false
        }
    }

    /// This node's own record from now on.
    pub(crate) fn speak(&mut self, mut record: Record, tags: OwnTags, now: Now) {
        self.change(record.node, now, |entry| {
            entry.tags_life = Some(record.life);
            match tags {
                OwnTags::Keep => {}
                OwnTags::Write(wish) => drop(entry.tags.write(&wish, record.lamport)),
                OwnTags::Again => entry.tags.write_again(record.lamport),
            }
            record.tags = TagNews { delta: None, ..entry.tags.news() };
            entry.own_word = Some((record.life, record.lamport));
            entry.record = Some(record);
        });
    }

    /// What is heard from it is in this version of the protocol; says whether that is the first word of this connection.
    pub(crate) fn speaks(&mut self, node: u64, dialect: Dialect) -> bool {
        self.entries.get_mut(&node).is_some_and(|entry| entry.dialect.replace(dialect).is_none())
    }

    /// Tables were compared with it.
    pub(crate) fn compares(&mut self, node: u64) {
        let Some(entry) = self.entries.get_mut(&node) else { return };
        entry.compared = entry.life();
    }

    /// A member heard of as gone went that long ago, not just now: else rumours would renew each other for ever.
    pub(crate) fn backdate(&mut self, node: u64, since: Mono) {
        if let Some(entry) = self.entries.get_mut(&node)
            && !entry.is_present()
        {
            entry.member.since = since.min(entry.member.since);
        }
    }

    /// Introduces members whose records did not come in time; says who they are, and when to look again.
    pub(crate) fn introduce_overdue(&mut self, now: Now) -> (Vec<u64>, Option<Mono>) {
        let mut next = None;
        let mut unknown = Vec::new();
        for entry in self.entries.values_mut() {
            let Some((introduction, deadline)) = entry.introduction else { continue };
            if deadline <= now.mono {
                entry.introduction = None;
                self.log.introduce(introduction, &entry.member);
                unknown.push(entry.member.node);
            } else {
                soonest(&mut next, deadline);
            }
        }
        (unknown, next)
    }

    /// Forgets members gone for longer than `timeout`, and strangers; returns what foca is to forget, and when to look
    /// again.
    pub(crate) fn reap(&mut self, now: Now, timeout: Duration) -> (Vec<Identity>, Option<Mono>) {
        let mut next: Option<Mono> = None;
        let mut gone = Vec::new();
        for (node, entry) in &self.entries {
            let deadline = match (entry.seen, entry.member.connected) {
                _ if *node == self.me || entry.is_present() => continue,
                (None, true) => continue,
                (None, false) => entry.touched.after(STRANGER_TIMEOUT),
                (Some(_), _) if entry.is_hearsay => entry.member.since.after(timeout.min(UNPROVEN_TIMEOUT)),
                (Some(_), _) => entry.member.since.after(timeout),
            };
            if deadline <= now.mono {
                gone.push(*node);
            } else {
                soonest(&mut next, deadline);
            }
        }
        (gone.into_iter().filter_map(|node| self.forget(node)).collect(), next)
    }

    /// Forgets who is of the least use of all that are gone, so that somebody who is here has room.
    pub(crate) fn make_room(&mut self) -> Option<Identity> {
        let gone = self
            .entries
            .values()
            .filter(|entry| entry.member.node != self.me && !entry.is_present() && !entry.member.connected);
        let least = gone.min_by_key(|entry| (entry.seen.is_some(), entry.member.proven, entry.member.since))?;
        self.forget(least.member.node)
    }

    pub(crate) fn forget(&mut self, node: u64) -> Option<Identity> {
        let entry = self.entries.remove(&node)?;
        self.log.tag_bytes -= entry.tags.bytes();
        self.log.proven(entry.introduced_by);
        let Some(seen) = entry.seen else {
            self.log.strangers -= 1;
            return None;
        };
        self.log.failed -= usize::from(entry.member.state == State::Failed);
        self.log.addresses_changed |= entry.member.state != State::Left;
        self.log.events.push(Event::Reaped(entry.member));
        Some(seen.identity)
    }
}
