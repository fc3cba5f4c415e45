//! One entry of the roster: what foca, records and connections say of a node, and the view that follows from it.
//!
//! It never derives events: the roster compares views.

use crate::dialect::Dialect;
use crate::identity::Identity;
use crate::member::{Member, State};
use crate::record::Record;
use crate::tag_store::{TagNews, TagStore};
use crate::tags::Tags;
use crate::types::{Life, Mono, Now};
use foca::State as Liveness;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// What foca holds of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) identity: Identity,
    pub(crate) incarnation: u16,
    pub(crate) liveness: Liveness,
}

/// What a connection has proven of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Contact {
    pub(crate) life: Life,
    pub(crate) name: String,
    pub(crate) addr: SocketAddr,
    pub(crate) version: String,
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
    pub(crate) member: Member,
    pub(crate) seen: Option<Seen>,
    pub(crate) record: Option<Record>,
    pub(crate) contact: Option<Contact>,
    /// Its tags, as far as they are held, and of which life.
    pub(crate) tags: TagStore,
    pub(crate) tags_life: Option<Life>,
    /// In which version of the protocol it was last heard, since its connection is up.
    pub(crate) dialect: Option<Dialect>,
    /// In this life of it tables were compared with it.
    pub(crate) compared: Option<Life>,
    /// The Lamport time of the latest record that came on its own connection, and the life it was of.
    pub(crate) own_word: Option<(Life, u64)>,
    /// No connection has ever proven that it exists.
    pub(crate) is_hearsay: bool,
    /// Against whose quota it counts: who told of it, until it is proven, or found to be gone.
    pub(crate) introduced_by: Option<u64>,
    /// It is here, but users have not heard of it; the instant at which they do at the latest.
    pub(crate) introduction: Option<(Introduction, Mono)>,
    /// When anything was last heard of it.
    pub(crate) touched: Mono,
}

/// An address that can be dialled.
pub(crate) fn is_dialable(addr: SocketAddr) -> bool {
    !addr.ip().is_unspecified() && addr.port() != 0
}

/// The address of a member of which none is known.
pub(crate) const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0);

impl Entry {
    /// A node of which nothing is known.
    pub(crate) fn stranger(node: u64, now: Now) -> Self {
        let member = Member {
            node,
            name: String::new(),
            addr: NOWHERE,
            epoch: 0,
            boot: 0,
            state: State::Failed,
            tags: Tags::default(),
            version: String::new(),
            since: now.mono,
            since_wall_us: now.wall_us,
            lamport: 0,
            proven: false,
            connected: false,
        };
        Self {
            member,
            seen: None,
            record: None,
            contact: None,
            tags: TagStore::default(),
            tags_life: None,
            dialect: None,
            compared: None,
            own_word: None,
            is_hearsay: false,
            introduced_by: None,
            introduction: None,
            touched: now.mono,
        }
    }

    pub(crate) fn life(&self) -> Option<Life> {
        self.seen.map(|seen| seen.identity.life)
    }

    /// It told so itself: its latest record came on its own connection.
    pub(crate) fn has_said_that_it_leaves(&self) -> bool {
        let said = self.record.as_ref().filter(|record| record.leaving).map(|record| (record.life, record.lamport));
        said.is_some() && said == self.own_word
    }

    /// Its record as it is passed on: with what changed of its tags, if that is held and small.
    pub(crate) fn told(&self) -> Option<Record> {
        let mut record = self.record.clone()?;
        let is_held = self.tags_life == Some(record.life) && self.tags.holds(&record.tags);
        record.tags = if is_held { self.tags.news() } else { TagNews { delta: None, ..record.tags } };
        Some(record)
    }

    /// Its record tells of tags that are not held.
    pub(crate) fn is_behind(&self) -> bool {
        self.record.as_ref().is_some_and(|record| {
            let is_of_life = self.tags_life == Some(record.life);
            !(is_of_life && (self.tags.holds(&record.tags) || self.tags.version() > record.tags.version))
        })
    }

    /// foca knows it, and not as down.
    pub(crate) fn is_present(&self) -> bool {
        self.seen.is_some() && self.member.state.is_present()
    }

    /// A record or a connection tells who it is, in this life.
    pub(crate) fn is_known(&self) -> bool {
        let life = self.life();
        self.record.as_ref().map(|r| r.life) == life || self.contact.as_ref().map(|c| c.life) == life
    }

    /// Makes the public view agree with what foca, the record and the connection say.
    pub(crate) fn refresh(&mut self, now: Now) {
        let Some(seen) = self.seen else { return };
        let life = seen.identity.life;
        let record = self.record.as_ref().filter(|record| record.life == life);
        let contact = self.contact.as_ref().filter(|contact| contact.life == life);
        let member = &mut self.member;
        let state = match (seen.liveness, record.is_some_and(|record| record.leaving)) {
            (Liveness::Down, true) => State::Left,
            (Liveness::Down, false) => State::Failed,
            (_, true) => State::Leaving,
            (Liveness::Suspect, false) => State::Suspect,
            (Liveness::Alive, false) => State::Alive,
        };
        if state != member.state || life != (Life { epoch: member.epoch, boot: member.boot }) {
            member.state = state;
            member.since = now.mono;
            member.since_wall_us = now.wall_us;
        }
        member.epoch = life.epoch;
        member.boot = life.boot;
        member.proven = contact.is_some();
        if !is_dialable(member.addr) {
            member.addr = seen.identity.addr;
        }
        if let Some(contact) = contact {
            member.name.clone_from(&contact.name);
            if record.is_none() {
                member.version.clone_from(&contact.version);
                if is_dialable(contact.addr) {
                    member.addr = contact.addr;
                }
            }
        }
        if let Some(record) = record {
            if contact.is_none() {
                member.name.clone_from(&record.name);
            }
            member.version.clone_from(&record.version);
            // Until those of a new life are here, those of the former one stand.
            if self.tags_life == Some(record.life) && (self.tags.holds(&record.tags) || self.tags.version() > 0) {
                member.tags.clone_from(self.tags.view());
            }
            member.lamport = record.lamport;
            // Where somebody is with whom a connection is up, nobody else knows better.
            let is_hearsay = member.connected && self.own_word != Some((record.life, record.lamport));
            match contact {
                Some(_) if is_hearsay => {}
                _ if is_dialable(record.addr) => member.addr = record.addr,
                Some(contact) if is_dialable(contact.addr) => member.addr = contact.addr,
                _ => {}
            }
        }
    }
}
