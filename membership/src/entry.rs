//! One entry of the roster: what foca, records and connections say of a node, and the view that follows from it.
//!
//! It never derives events: the roster compares views. Among 5,000 members a node holds as many of these, so that what is
//! seldom there stands apart, what several mention is shared, and the view is made when somebody looks.

use crate::dialect::Dialect;
use crate::identity::Identity;
use crate::member::{Member, State};
use crate::place::{Place, is_dialable};
use crate::record::Record;
use crate::tag_store::{NONE as NO_TAGS, TagNews, TagStore};
use crate::tags::Tags;
use crate::text::Text;
use crate::types::{Life, Mono, Now};
use foca::State as Liveness;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::sync::Arc;

/// What foca holds of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) identity: Identity,
    pub(crate) incarnation: u16,
    pub(crate) liveness: Liveness,
}

/// What a connection has proven of a node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Contact {
    pub(crate) life: Life,
    pub(crate) name: Text,
    pub(crate) addr: SocketAddr,
    pub(crate) version: Text,
}

/// What is known of a node because a connection with it was up.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Met {
    pub(crate) contact: Contact,
    /// In which version of the protocol it was last heard, since its connection is up.
    pub(crate) dialect: Option<Dialect>,
    /// In this life of it tables were compared with it.
    pub(crate) compared: Option<Life>,
    /// The Lamport time of the latest record that came on its own connection, and the life it was of.
    pub(crate) own_word: Option<(Life, u64)>,
}

/// How a member is going to be introduced once its record is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Introduction {
    Joined,
    Restarted,
    Recovered,
}

#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) node: u64,
    pub(crate) seen: Option<Seen>,
    pub(crate) record: Option<Arc<Record>>,
    /// The record before, while the present one tells of a life that foca has not heard of yet.
    pub(crate) former: Option<Arc<Record>>,
    pub(crate) met: Option<Arc<Met>>,
    /// Its tags in the life of its record, as far as they are held; nothing: it has none, or none are held.
    pub(crate) tags: Option<Box<TagStore>>,
    /// The tags that users see: until those of a new life are here, those of the former one stand.
    pub(crate) shown: Tags,
    /// Against whose quota it counts: who told of it, until it is proven, or found to be gone.
    pub(crate) introduced_by: Option<NonZeroU64>,
    /// When `state` last changed; of a stranger, when anything was last heard of it.
    pub(crate) since: Mono,
    pub(crate) since_wall_us: i64,
    pub(crate) place: Place,
    pub(crate) state: State,
    /// A connection with it is up now.
    pub(crate) connected: bool,
    /// No connection has ever proven that it exists.
    pub(crate) is_hearsay: bool,
}

impl Entry {
    /// A node of which nothing is known.
    pub(crate) fn stranger(node: u64, now: Now) -> Self {
        Self {
            node,
            seen: None,
            record: None,
            former: None,
            met: None,
            tags: None,
            shown: Tags::default(),
            introduced_by: None,
            since: now.mono,
            since_wall_us: now.wall_us,
            place: Place::NOWHERE,
            state: State::Failed,
            connected: false,
            is_hearsay: false,
        }
    }

    pub(crate) fn life(&self) -> Option<Life> {
        self.seen.map(|seen| seen.identity.life)
    }

    pub(crate) fn contact(&self) -> Option<&Contact> {
        self.met.as_ref().map(|met| &met.contact)
    }

    pub(crate) fn dialect(&self) -> Option<Dialect> {
        self.met.as_ref().and_then(|met| met.dialect)
    }

    pub(crate) fn compared(&self) -> Option<Life> {
        self.met.as_ref().and_then(|met| met.compared)
    }

    pub(crate) fn own_word(&self) -> Option<(Life, u64)> {
        self.met.as_ref().and_then(|met| met.own_word)
    }

    pub(crate) fn tags(&self) -> &TagStore {
        self.tags.as_deref().unwrap_or(&NO_TAGS)
    }

    /// Where to dial it.
    pub(crate) fn addr(&self) -> SocketAddr {
        // With the scope of a link-local address, which only a connection knows.
        let contact = self.contact().map(|contact| contact.addr).filter(|addr| Place::from(*addr) == self.place);
        contact.unwrap_or(self.place.into())
    }

    /// This node itself had a connection with it in this life.
    pub(crate) fn is_proven(&self) -> bool {
        self.life().is_some() && self.contact().map(|contact| contact.life) == self.life()
    }

    /// It told so itself: its latest record came on its own connection.
    pub(crate) fn has_said_that_it_leaves(&self) -> bool {
        let said = self.record.as_ref().filter(|record| record.leaving).map(|record| (record.life, record.lamport));
        said.is_some() && said == self.own_word()
    }

    /// Its record as it is passed on: with what changed of its tags, if that is held and small.
    pub(crate) fn told(&self) -> Option<Record> {
        let record = self.record.as_deref()?;
        Some(Record { tags: self.told_tags(record), ..record.clone() })
    }

    /// What is told of its tags with that record of it.
    pub(crate) fn told_tags(&self, record: &Record) -> TagNews {
        if self.tags().holds(&record.tags) {
            self.tags().news()
        } else {
            TagNews { delta: None, ..record.tags.clone() }
        }
    }

    /// Its record tells of tags that are not held.
    pub(crate) fn is_behind(&self) -> bool {
        self.record.as_ref().is_some_and(|record| {
            let tags = self.tags();
            !(tags.holds(&record.tags) || tags.version() > record.tags.version)
        })
    }

    /// foca knows it, and not as down.
    pub(crate) fn is_present(&self) -> bool {
        self.seen.is_some() && self.state.is_present()
    }

    /// A record or a connection tells who it is, in this life.
    pub(crate) fn is_known(&self) -> bool {
        let life = self.life();
        self.record.as_ref().map(|r| r.life) == life || self.contact().map(|c| c.life) == life
    }

    /// As users see it.
    pub(crate) fn member(&self) -> Member {
        let life = self.life();
        let ours = |record: &&Arc<Record>| life.is_some_and(|life| record.life <= life);
        let record = self.record.as_ref().filter(ours).or(self.former.as_ref());
        let contact = self.contact();
        let is_proven = self.is_proven();
        let by_record = record.map(|record| (&record.name, &record.version));
        let by_contact = contact.map(|contact| (&contact.name, &contact.version));
        let is_current = record.is_some_and(|record| Some(record.life) == life);
        let name = if is_proven { by_contact.or(by_record) } else { by_record.or(by_contact) };
        let version = if is_proven && !is_current { by_contact.or(by_record) } else { by_record.or(by_contact) };
        Member {
            node: self.node,
            name: name.map(|(name, _)| name.clone()).unwrap_or_default(),
            addr: self.addr(),
            epoch: life.map_or(0, |life| life.epoch),
            boot: life.map_or(0, |life| life.boot),
            state: self.state,
            tags: self.shown.clone(),
            version: version.map(|(_, version)| version.clone()).unwrap_or_default(),
            since: self.since,
            since_wall_us: self.since_wall_us,
            lamport: record.map_or(0, |record| record.lamport),
            proven: is_proven,
            connected: self.connected,
        }
    }

    /// Makes the state, the address and the tags that users see agree with what foca, the record and the connection say;
    /// `was`: its life before.
    pub(crate) fn refresh(&mut self, was: Option<Life>, now: Now) {
        let Some(seen) = self.seen else {
            (self.since, self.since_wall_us) = (now.mono, now.wall_us);
            return;
        };
        let life = seen.identity.life;
        let record = self.record.clone().filter(|record| record.life == life);
        let state = match (seen.liveness, record.as_ref().is_some_and(|record| record.leaving)) {
            (Liveness::Down, true) => State::Left,
            (Liveness::Down, false) => State::Failed,
            (_, true) => State::Leaving,
            (Liveness::Suspect, false) => State::Suspect,
            (Liveness::Alive, false) => State::Alive,
        };
        if state != self.state || Some(life) != was {
            self.state = state;
            (self.since, self.since_wall_us) = (now.mono, now.wall_us);
        }
        if !self.place.is_dialable() {
            self.place = seen.identity.place;
        }
        let contact = self.contact().filter(|contact| contact.life == life).map(|contact| contact.addr);
        let contact = contact.filter(|addr| is_dialable(*addr)).map(Place::from);
        let Some(record) = record else {
            self.place = contact.unwrap_or(self.place);
            return;
        };
        self.former = None;
        if self.tags().holds(&record.tags) || self.tags().version() > 0 {
            self.shown = self.tags().view().clone();
        }
        // Where somebody is with whom a connection is up, nobody else knows better.
        let is_hearsay = self.connected && self.own_word() != Some((record.life, record.lamport));
        match contact {
            _ if self.is_proven() && is_hearsay => {}
            _ if record.place.is_dialable() => self.place = record.place,
            Some(place) => self.place = place,
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Thousands of these: what makes one larger shall be seen.
    #[test]
    fn an_entry_stays_small() {
        let sizes = [size_of::<Entry>(), size_of::<foca::Member<Identity>>(), size_of::<Record>(), size_of::<Met>()];
        assert_eq!(sizes, [152, 56, 128, 144], "entry, member of foca, record, met: in bytes");
    }
}
