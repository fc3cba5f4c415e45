//! Comparing: who exchanges tables with whom, and how little of them travels.
//!
//! ```text
//! at first, or with the first version     table ──► table
//! later                                   hashes ──► nothing, or the rows that differ ──► those the other lacks
//! about some members only                 rows ──► rows
//! ```
//!
//! It never decides what a row changes: `tables` does.

use crate::dialect::Dialect;
use crate::digest::{self, Digest};
use crate::entry::{Entry, Seen};
use crate::exchange::{self, Message, Row, RowsBuilder};
use crate::io::Output;
use crate::membership::Membership;
use crate::record::Record;
use crate::swim::Way;
use crate::under_way::SETTLE_AGAIN;
use rand::RngExt;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// After this long an exchange without an answer is over; the transport gives up sooner.
pub(crate) const OVER_AFTER: Duration = Duration::from_secs(5);
/// A table of no more rows is sent whole at first contact; who has a larger one sends hashes of it.
const WHOLE_MAX: usize = 32;
/// Members of whom two sides say different things of one time are asked themselves: so many at once.
const SETTLED_MAX: usize = 4;
/// Up to so many members that are asked about, the answer tells of each, whether or not it differs.
const NAMED_FEW: usize = 8;

/// What a row says, as far as it can differ.
type Said = (Seen, Option<(u64, u64, [u8; 16])>);

fn said(seen: Seen, record: Option<&Record>) -> Said {
    (seen, record.map(|record| (record.lamport, record.tags.version, record.tags.hash)))
}

#[cfg(any(test, feature = "mutants"))]
impl Membership {
    /// A deliberate bug: each hint that a failed member lives is followed at once, and the answer may be the same hint.
    pub fn follow_all_hints(&mut self) {
        self.comparing.follows_all = true;
    }
}

impl Membership {
    /// Compares tables with a member.
    pub(crate) fn exchange_with(&mut self, node: u64) {
        let Some(entry) = self.roster.get(node).filter(|entry| entry.seen.is_some()) else { return };
        let (addr, dialect) = (entry.addr(), entry.dialect().unwrap_or_default());
        let is_first = entry.compared().is_none() || entry.compared() != entry.life();
        if !self.comparing.has_room(self.now.mono) {
            self.counters.exchanges_skipped += 1;
            return;
        }
        let visible = self.roster.visible().count();
        let whole = dialect == Dialect::First || (is_first && visible <= WHOLE_MAX);
        let (bytes, hashes) = if whole {
            self.counters.tables += 1;
            (self.table(dialect), None)
        } else {
            let salt = self.rng.random();
            let digest = self.digest(salt, digest::buckets(visible));
            (exchange::hashes(&digest), Some(digest.hashes.len()))
        };
        self.comparing.under_way.insert(node, (self.now.mono.after(OVER_AFTER), hashes));
        self.counters.exchanges += 1;
        self.outbox.push_back(Output::Exchange { to: node, addr, bytes });
    }

    /// Tells a member what is known of this node and of those named, and asks what it knows of them.
    pub(crate) fn ask(&mut self, node: u64, about: &[u64]) {
        let Some(entry) = self.roster.get(node).filter(|entry| entry.seen.is_some()) else { return };
        let (addr, dialect) = (entry.addr(), entry.dialect().unwrap_or_default());
        let bytes = match dialect {
            Dialect::First => self.table(dialect),
            Dialect::Second => self.rows(RowsBuilder::rows(self.options.exchange_bytes_max), about.iter().copied()),
        };
        self.counters.exchanges += 1;
        self.outbox.push_back(Output::Exchange { to: node, addr, bytes });
    }

    /// In which version of the protocol a member is spoken to.
    pub(crate) fn dialect_of(&self, node: u64) -> Dialect {
        self.roster.get(node).and_then(|entry| entry.dialect()).unwrap_or_default()
    }

    /// A peer speaks in this version of the protocol. If it turns out to know only the first, what was said to it so far
    /// was for nothing.
    pub(crate) fn hear_dialect(&mut self, from: u64, dialect: Dialect) {
        if self.roster.speaks(from, dialect) && dialect == Dialect::First && !self.departed {
            self.comparing.under_way.remove(&from);
            self.exchange_with(from);
        }
    }

    /// Of these members somebody else has heard what this node has not, at the same Lamport time: one of both was lied to.
    /// Only they know, and their word ends it.
    pub(crate) fn settle(&mut self, nodes: &[u64]) {
        if nodes.is_empty() || self.now.mono < self.comparing.settle_from {
            return;
        }
        self.comparing.settle_from = self.now.mono.after(SETTLE_AGAIN);
        for node in nodes.iter().take(SETTLED_MAX) {
            self.ask(*node, &[*node]);
        }
    }

    fn age_s(&self, entry: &Entry) -> u32 {
        u32::try_from(self.now.mono.since(entry.since).as_secs()).unwrap_or(u32::MAX)
    }

    /// What this node holds of a member, as it is told.
    fn seen_of(&self, entry: &Entry) -> Option<Seen> {
        let seen = entry.seen?;
        Some(if seen.identity.node == self.me { self.swim.me() } else { seen })
    }

    fn push_row(&self, rows: &mut RowsBuilder, entry: &Entry) -> bool {
        let Some(seen) = self.seen_of(entry) else { return true };
        rows.push(&seen, self.age_s(entry), entry)
    }

    /// All that is known: this node itself first, the others in turns, if they do not all fit.
    fn table(&mut self, dialect: Dialect) -> Vec<u8> {
        let table = RowsBuilder::table(self.options.exchange_bytes_max, dialect);
        self.rows_in_turns(table, |_| true)
    }

    fn rows_in_turns(&mut self, mut rows: RowsBuilder, wanted: impl Fn(u64) -> bool) -> Vec<u8> {
        if let Some(entry) = self.roster.get(self.me).filter(|_| wanted(self.me)) {
            self.push_row(&mut rows, entry);
        }
        let mut next = 0;
        for entry in self.roster.from(self.table_cursor) {
            let node = entry.node;
            if node != self.me && entry.seen.is_some() && wanted(node) && !self.push_row(&mut rows, entry) {
                next = node;
                break;
            }
        }
        self.table_cursor = next;
        rows.finish()
    }

    /// This node itself, and those named.
    fn rows(&self, mut rows: RowsBuilder, nodes: impl Iterator<Item = u64>) -> Vec<u8> {
        for node in std::iter::once(self.me).chain(nodes.filter(|node| *node != self.me)) {
            if let Some(entry) = self.roster.get(node)
                && !self.push_row(&mut rows, entry)
            {
                break;
            }
        }
        rows.finish()
    }

    fn digest(&self, salt: u64, buckets: usize) -> Digest {
        // Who is long gone is forgotten by each in its own time, and told of only while that is news.
        let told = self.roster.visible().filter(|entry| entry.is_present() || !self.is_long_gone(entry));
        Digest::of(told.filter_map(|entry| Some((self.seen_of(entry)?, entry))), salt, buckets)
    }

    fn is_long_gone(&self, entry: &Entry) -> bool {
        self.now.mono.since(entry.since) > crate::forgetting::UNPROVEN_TIMEOUT / 2
    }

    /// A request over a stream: exactly one answer.
    pub(crate) fn answer_exchange(&mut self, from: u64, bytes: &[u8]) {
        let nothing = exchange::nothing;
        let reply = match self.decode_exchange(from, bytes) {
            Some((dialect, Message::Table(rows))) => {
                self.roster.compares(from);
                self.hear_table(from, rows);
                self.table(dialect)
            }
            Some((dialect, Message::Datagram(bytes))) => {
                let before = self.outbox.len();
                self.hear(from, &bytes, Way::Stream);
                let answer = self.take_answer(from, before);
                answer.map_or_else(|| nothing(dialect), |bytes| exchange::datagram(&bytes, dialect))
            }
            Some((_, Message::Hashes(theirs))) => self.answer_hashes(&theirs),
            Some((_, Message::Rows(rows))) => self.answer_rows(from, rows),
            Some((_, Message::Wanted(wants))) => self.give_tags(&wants),
            Some((dialect, Message::Accusation(told))) => {
                self.hear_accusation(from, &told);
                nothing(dialect)
            }
            Some((dialect, _)) => nothing(dialect),
            None => nothing(Dialect::Second),
        };
        self.outbox.push_back(Output::ExchangeReply { to: from, bytes: reply });
    }

    fn answer_hashes(&mut self, theirs: &Digest) -> Vec<u8> {
        let buckets = theirs.hashes.len();
        let differs = self.digest(theirs.salt, buckets).differing(theirs);
        if !differs.contains(&true) {
            return exchange::nothing(Dialect::Second);
        }
        let rows = RowsBuilder::differing(self.options.exchange_bytes_max, &differs);
        self.rows_in_turns(rows, |node| differs[digest::bucket(node, buckets)])
    }

    fn answer_rows(&mut self, from: u64, rows: Vec<Row>) -> Vec<u8> {
        let told: Vec<_> = rows.iter().map(|row| said(row.seen, row.record.as_ref())).collect();
        self.hear_table(from, rows);
        let few = told.len() <= NAMED_FEW;
        let differing = told.into_iter().filter(|told| few || self.says(told.0.identity.node) != Some(*told));
        let nodes: Vec<u64> = differing.map(|told| told.0.identity.node).collect();
        self.rows(RowsBuilder::rows(self.options.exchange_bytes_max), nodes.into_iter())
    }

    fn says(&self, node: u64) -> Option<Said> {
        let entry = self.roster.get(node)?;
        Some(said(self.seen_of(entry)?, entry.record.as_deref()))
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
        let Some((_, message)) = self.decode_exchange(from, bytes) else { return };
        match message {
            Message::Table(rows) => {
                self.comparing.end(from);
                self.roster.compares(from);
                self.hear_farewell_confirmed(from, &rows);
                self.hear_table(from, rows);
            }
            Message::Datagram(bytes) => self.hear(from, &bytes, Way::Stream),
            Message::Differing(differs, rows) => self.hear_differing(from, &differs, rows),
            Message::Rows(rows) => {
                self.hear_farewell_confirmed(from, &rows);
                self.hear_table(from, rows);
            }
            Message::Tags(tags) => self.hear_tags(from, &tags),
            Message::Accusation(told) => self.hear_accusation(from, &told),
            Message::Nothing => {
                if self.comparing.end(from).is_some() {
                    self.roster.compares(from);
                }
            }
            Message::Hashes(_) | Message::Wanted(_) => self.alarm(from, "a request in answer to a request"),
        }
    }

    /// Where the tables differ the other one has told all; it is told what it lacks.
    fn hear_differing(&mut self, from: u64, differs: &[bool], rows: Vec<Row>) {
        // Only in answer to hashes, once: else one word would be answered with a table.
        let Some((_, Some(buckets))) = self.comparing.end(from) else { return };
        if buckets != differs.len() {
            return self.alarm(from, "an answer to other hashes than were sent");
        }
        self.roster.compares(from);
        let told: BTreeSet<_> = rows.iter().map(|row| row.seen.identity.node).collect();
        let said_there: BTreeMap<_, _> =
            rows.iter().map(|row| (row.seen.identity.node, said(row.seen, row.record.as_ref()))).collect();
        self.hear_table(from, rows);
        if self.departed {
            return;
        }
        let lacking = self.roster.visible().filter(|entry| {
            let node = entry.node;
            // Who is long gone need not be told of to those who do not ask.
            let is_news = told.contains(&node) || entry.is_present() || !self.is_long_gone(entry);
            node != self.me
                && is_news
                && differs[digest::bucket(node, buckets)]
                && self.says(node).as_ref() != said_there.get(&node)
        });
        let lacking: Vec<u64> = lacking.map(|entry| entry.node).collect();
        let is_known = said_there.get(&self.me) == self.says(self.me).as_ref();
        if lacking.is_empty() && (is_known || !differs[digest::bucket(self.me, buckets)]) {
            return;
        }
        self.ask(from, &lacking);
    }

    fn decode_exchange(&mut self, from: u64, bytes: &[u8]) -> Option<(Dialect, Message)> {
        if self.roster.get(from).is_none_or(|entry| entry.contact().is_none()) {
            // No connection was reported, or there was no room for it.
            self.counters.refused += 1;
            return None;
        }
        match exchange::decode(bytes) {
            Ok((dialect, message)) => {
                self.hear_dialect(from, dialect);
                Some((dialect, message))
            }
            Err(malformed) => {
                self.accuse(from, malformed.0, malformed.lie());
                None
            }
        }
    }
}
