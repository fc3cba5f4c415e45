//! Speaking: this node's own record, those of others that are passed on, and what is heard of both.
//!
//! It never decides what a record is worth: the roster does.

use crate::broadcast::Urgency;
use crate::membership::Membership;
use crate::merging::{Merge, OwnTags};
use crate::record::{LAMPORT_HEARD_MAX, LAMPORT_LIMIT, RECORD_JUMP_MAX, Record};
use crate::tags::Tags;

impl Membership {
    pub(crate) fn witness(&mut self, lamport: u64) {
        self.lamport = self.lamport.max(lamport.min(LAMPORT_HEARD_MAX));
    }

    /// Changes this node's own record and spreads it.
    pub(crate) fn publish(&mut self, change: impl FnOnce(&mut Record)) {
        let Some(mut record) = self.own_record_after(0) else { return };
        change(&mut record);
        let urgency = if record.leaving { Urgency::Word } else { Urgency::Card };
        self.speak(record, OwnTags::Keep, urgency);
    }

    pub(crate) fn set_tags(&mut self, tags: Tags) {
        let is_news = self.roster.get(self.me).is_some_and(|entry| *entry.tags().view() != tags);
        if let Some(record) = self.own_record_after(0).filter(|_| is_news) {
            self.speak(record, OwnTags::Write(tags), Urgency::Tags);
        }
    }

    /// This node's own record at a time later than all it knows, and later than what somebody says it has said.
    fn own_record_after(&self, heard: u64) -> Option<Record> {
        let mut record = self.roster.get(self.me).and_then(|entry| entry.record.as_deref().cloned())?;
        record.lamport = (self.lamport.max(record.lamport).max(heard) + 1).min(LAMPORT_LIMIT - 1);
        Some(record)
    }

    fn speak(&mut self, record: Record, tags: OwnTags, urgency: Urgency) {
        self.witness(record.lamport);
        self.roster.speak(record, tags, self.now);
        self.spread(self.me, urgency);
    }

    /// Passes on what is known of a member.
    pub(crate) fn spread(&mut self, node: u64, urgency: Urgency) {
        let members = self.roster.present();
        if let Some(record) = self.roster.get(node).and_then(|entry| entry.told()) {
            let transmissions = self.options.transmissions(members);
            self.broadcasts.push(&record, urgency, transmissions, members, self.now.mono);
        }
    }

    /// A record from a peer, of whomever; `spread`: pass it on if it is news. Says whether it was.
    pub(crate) fn hear_record(&mut self, from: u64, record: Record, spread: bool) -> bool {
        if record.node == self.me {
            self.hear_record_of_me(from, &record);
            return false;
        }
        if self.roster.is_contradicted(record.node, record.life) || self.forgotten.contains(&record.node) {
            return false;
        }
        let (node, lamport, own) = (record.node, record.lamport, record.node == from);
        let known = self.roster.get(node).and_then(|entry| entry.record.as_deref());
        let urgency = match known {
            _ if record.leaving => Urgency::Word,
            Some(known) if known.tells_no_more_than_tags(&record) => Urgency::Tags,
            _ => Urgency::Card,
        };
        let merged = self.roster.merge(record, own, self.now);
        let is_behind = self.roster.get(node).is_some_and(|entry| entry.is_behind());
        if is_behind && self.roster.wants_tags(node) {
            self.want_tags(node, from);
        }
        match merged {
            Merge::News => {
                self.witness(lamport);
                // Tags that are not here yet are passed on when they are: who hears of them can have them of this node.
                if spread && !(is_behind && urgency == Urgency::Tags) {
                    self.spread(node, urgency);
                }
                true
            }
            Merge::Stale => false,
            Merge::Refused(what) => {
                self.alarm(from, what);
                false
            }
        }
    }

    /// Only this node speaks for itself: what else is said of this life is overruled by a later record.
    fn hear_record_of_me(&mut self, from: u64, record: &Record) {
        let Some(entry) = self.roster.get(self.me) else { return };
        let Some(mine) = entry.record.as_ref() else { return };
        if record.life > mine.life {
            self.alarm(from, "somebody speaks for a later life of this node: is its data directory in use twice?");
        } else if record.life == mine.life
            && (record.lamport > mine.lamport
                || (record.lamport == mine.lamport && !mine.tells_the_same(record, entry.tags().view())))
        {
            if record.lamport > mine.lamport.saturating_add(RECORD_JUMP_MAX) {
                // Outbidding that would use up the range. Whoever hears this node itself believes it over others.
                self.alarm(from, "a record of this node from further ahead than it can be");
                return self.speak_for_itself(from);
            }
            let same_tags = entry.tags().holds(&record.tags);
            if let Some(next) = self.own_record_after(record.lamport) {
                let tags = if same_tags { OwnTags::Keep } else { OwnTags::Again };
                self.speak(next, tags, Urgency::Word);
            }
        }
    }
}
