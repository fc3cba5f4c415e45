//! Tables: the exchange of all that two members know, which makes up for all that gossip loses.
//!
//! It never lets a third party's word alone end a member: of whom we hold for present, only a suspicion is taken over.

use crate::entry::is_dialable;
use crate::exchange::{self, Message, Row, TableBuilder};
use crate::hearsay::{Worth, is_beyond};
use crate::io::Output;
use crate::membership::Membership;
use crate::swim::Way;
use crate::timers::Due;
use foca::{Member, State};
use std::time::Duration;

/// Up to this many news of one table are passed on; more is a join, and those we could tell know already.
const SPREAD_MAX: usize = 256;
/// The most members one table makes us dial.
const HINTS_MAX: usize = 8;

impl Membership {
    /// Asks a member for its table, and gives it ours.
    pub(crate) fn exchange_with(&mut self, node: u64) {
        let Some(entry) = self.roster.get(node).filter(|entry| entry.seen.is_some()) else { return };
        let addr = entry.member.addr;
        let bytes = self.table();
        self.counters.exchanges += 1;
        self.outbox.push_back(Output::Exchange { to: node, addr, bytes });
    }

    fn table(&mut self) -> Vec<u8> {
        let mut table = TableBuilder::new(self.options.exchange_bytes_max);
        let now = self.now.mono;
        let age = |since| u32::try_from(now.since(since).as_secs()).unwrap_or(u32::MAX);
        // This node itself always comes first; the others in turns, if they do not all fit.
        if let Some(entry) = self.roster.get(self.me) {
            table.push(&self.swim.me(), age(entry.member.since), entry.record.as_ref());
        }
        let mut next = 0;
        for entry in self.roster.from(self.table_cursor) {
            let Some(seen) = entry.seen.filter(|seen| seen.identity.node != self.me) else { continue };
            if !table.push(&seen, age(entry.member.since), entry.record.as_ref()) {
                next = seen.identity.node;
                break;
            }
        }
        self.table_cursor = next;
        table.finish()
    }

    /// A request over a stream: exactly one answer.
    pub(crate) fn answer_exchange(&mut self, from: u64, bytes: &[u8]) {
        let reply = match self.decode_exchange(from, bytes) {
            Some(Message::Table(rows)) => {
                self.hear_table(from, rows);
                self.table()
            }
            Some(Message::Datagram(bytes)) => {
                let before = self.outbox.len();
                self.hear(from, &bytes, Way::Stream);
                self.take_answer(from, before).map_or_else(exchange::nothing, |bytes| exchange::datagram(&bytes))
            }
            Some(Message::Accusation(told)) => {
                self.hear_accusation(from, &told);
                exchange::nothing()
            }
            Some(Message::Nothing) | None => exchange::nothing(),
        };
        self.outbox.push_back(Output::ExchangeReply { to: from, bytes: reply });
    }

    /// Of what hearing a datagram put out since, the datagram for its sender: it goes back the way it came.
    fn take_answer(&mut self, to_sender: u64, since: usize) -> Option<Vec<u8>> {
        // The last one: a member that is told of a suspicion gossips its refutation first, and answers then.
        let index = (since..self.outbox.len())
            .rfind(|index| matches!(self.outbox.get(*index), Some(Output::Datagram { to, .. }) if *to == to_sender))?;
        match self.outbox.remove(index) {
            Some(Output::Datagram { bytes, .. }) => Some(bytes),
            _ => None,
        }
    }

    pub(crate) fn hear_exchange_reply(&mut self, from: u64, bytes: &[u8]) {
        match self.decode_exchange(from, bytes) {
            Some(Message::Table(rows)) => {
                self.hear_farewell_confirmed(from, &rows);
                self.hear_table(from, rows);
            }
            Some(Message::Datagram(bytes)) => self.hear(from, &bytes, Way::Stream),
            Some(Message::Accusation(told)) => self.hear_accusation(from, &told),
            Some(Message::Nothing) | None => {}
        }
    }

    fn decode_exchange(&mut self, from: u64, bytes: &[u8]) -> Option<Message> {
        if self.roster.get(from).is_none_or(|entry| entry.contact.is_none()) {
            // No connection was reported, or there was no room for it.
            self.counters.refused += 1;
            return None;
        }
        match exchange::decode(bytes) {
            Ok(message) => Some(message),
            Err(malformed) => {
                self.accuse(from, malformed.0, malformed.lie());
                None
            }
        }
    }

    fn hear_table(&mut self, from: u64, rows: Vec<Row>) {
        if self.departed {
            return;
        }
        let mut updates = Vec::new();
        let mut tombstones = Vec::new();
        let mut records = Vec::new();
        let mut hints = Vec::new();
        let mut room = self.roster.quota();
        for row in rows {
            let node = row.seen.identity.node;
            if self.forgotten.contains(&node) {
                continue;
            }
            let known = self.roster.get(node).is_some();
            if !known && room == 0 {
                continue;
            }
            let age = Duration::from_secs(row.age_s.into());
            let update = self.weigh(from, &row);
            if !known && update.is_none() {
                continue;
            }
            room -= usize::from(!known);
            if let Some(update) = update {
                if !known && update.state() == State::Down {
                    tombstones.push((node, age));
                }
                updates.push(update);
            } else if row.seen.liveness != State::Down && self.is_thought_dead(&row) {
                hints.push(node);
            }
            records.extend(row.record);
        }
        let news: Vec<_> = records.into_iter().filter(|record| self.is_news(from, record)).collect();
        let spread = news.len() <= SPREAD_MAX;
        for record in news {
            self.hear_record(from, record, spread);
        }
        let spread = updates.len() <= SPREAD_MAX;
        let effects = self.swim.apply(updates, spread);
        self.carry_out(effects);
        for (node, age) in tombstones {
            let since = self.now.mono.before(age);
            self.roster.backdate(node, since);
            self.timers.set_at_latest(
                Due::Reap,
                since.after(crate::roster::UNPROVEN_TIMEOUT.min(self.options.tombstone_timeout)),
            );
        }
        for node in hints.into_iter().take(HINTS_MAX) {
            self.retry(node);
        }
    }

    /// What a member says of itself on its own connection counts for more than a later time in a record that others told.
    fn is_news(&self, from: u64, record: &crate::record::Record) -> bool {
        let known = self.roster.get(record.node).and_then(|entry| entry.record.as_ref());
        let is_own_word = record.node == self.me || record.node == from;
        known.is_none_or(|known| record.rank() > known.rank() || (is_own_word && record != known))
    }

    /// Somebody holds a member for present that we hold for failed, in the same life.
    fn is_thought_dead(&self, row: &Row) -> bool {
        self.roster.get(row.seen.identity.node).is_some_and(|entry| {
            entry.seen.is_some_and(|seen| seen.identity == row.seen.identity && seen.liveness == State::Down)
                && is_dialable(entry.member.addr)
        })
    }

    /// What a row is worth to foca, if anything.
    fn weigh(&mut self, from: u64, row: &Row) -> Option<Member<crate::identity::Identity>> {
        let (id, liveness) = (row.seen.identity, row.seen.liveness);
        let as_told = Some(Member::new(id, row.seen.incarnation, liveness));
        if id.node == self.me {
            let me = *self.swim.identity();
            if is_beyond(&self.swim.me(), &row.seen) {
                self.alarm(from, "word of this node from further ahead than it can be");
                self.speak_for_itself(from);
                return None;
            }
            if id.life == me.life {
                self.outbid(id.bump);
            } else if id.life > me.life {
                self.alarm(from, "somebody speaks for a later life of this node: is its data directory in use twice?");
            }
            return as_told.filter(|_| id == me && (liveness != State::Down || self.may_renew()));
        }
        if self.roster.is_contradicted(id.node, id.life) {
            return None;
        }
        let age = Duration::from_secs(row.age_s.into());
        let Some(known) = self.roster.get(id.node).and_then(|entry| entry.seen) else {
            // Else those who forgot it already would remember it again.
            let remembered = self.options.tombstone_timeout.min(crate::roster::UNPROVEN_TIMEOUT);
            return as_told.filter(|_| liveness != State::Down || age < remembered);
        };
        if id.node == from {
            self.hear_own_word(from, &row.seen);
        }
        if known == row.seen || known.identity.rank() > id.rank() {
            return None;
        }
        match self.worth(from, &row.seen) {
            Worth::Told => {}
            Worth::Suspicion => return self.suspect(&row.seen),
            Worth::Nothing => return None,
            Worth::Beyond => {
                self.alarm(from, "word of a member from further ahead than it can be");
                return None;
            }
        }
        if liveness != State::Down || id.node == from || known.identity != id {
            return as_told.filter(|_| known.liveness != State::Down || known.identity != id);
        }
        if known.liveness == State::Down {
            return None;
        }
        let leaves = |record: &crate::record::Record| record.leaving && record.life == id.life;
        let entry = self.roster.get(id.node)?;
        if row.record.as_ref().is_some_and(leaves) || entry.record.as_ref().is_some_and(leaves) {
            return as_told;
        }
        // memberlist's rule: a third party's "failed" is a suspicion here, which the member can still answer.
        Some(Member::new(id, known.incarnation.max(row.seen.incarnation), State::Suspect))
    }
}
