//! Tables: what the rows of another member's table change here, which makes up for all that gossip loses.
//!
//! It never lets a third party's word alone end a member: of whom we hold for present, only a suspicion is taken over.

use crate::exchange::Row;
use crate::hearsay::{Worth, is_beyond};
use crate::membership::Membership;
use crate::merging::same;
use crate::place::is_dialable;
use crate::record::Record;
use crate::timers::Due;
use crate::types::Life;
use foca::{Member, State};
use std::time::Duration;

/// Up to this many news of one table are passed on; more is a join, and those we could tell know already.
const SPREAD_MAX: usize = 256;
/// The most members one table makes us dial.
const HINTS_MAX: usize = 8;

impl Membership {
    /// Takes over what a table, or some rows of it, tell.
    pub(crate) fn hear_table(&mut self, from: u64, rows: Vec<Row>) {
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
        let mut doubtful: Vec<u64> =
            records.iter().filter(|record| self.is_doubtful(from, record)).map(|record| record.node).collect();
        let news: Vec<_> = records.into_iter().filter(|record| self.is_news(from, record)).collect();
        let spread = news.len() <= SPREAD_MAX;
        for record in news {
            let (node, life, lamport) = (record.node, record.life, record.lamport);
            if !self.hear_record(from, record, spread) && self.is_refused(node, life, lamport) {
                doubtful.push(node);
            }
        }
        let spread = updates.len() <= SPREAD_MAX;
        let effects = self.swim.apply(updates, spread);
        self.carry_out(effects);
        for (node, age) in tombstones {
            let since = self.now.mono.before(age);
            self.roster.backdate(node, since);
            self.timers.set_at_latest(
                Due::Reap,
                since.after(crate::forgetting::UNPROVEN_TIMEOUT.min(self.options.tombstone_timeout)),
            );
        }
        self.settle(&doubtful);
        for node in hints.into_iter().take(HINTS_MAX) {
            if self.comparing.follows_hint(node, self.now.mono) {
                self.retry(node);
            }
        }
    }

    fn is_news(&self, from: u64, record: &Record) -> bool {
        let Some(entry) = self.roster.get(record.node) else { return true };
        let Some(known) = entry.record.as_ref() else { return true };
        let speaks_of_itself = [from, self.me].contains(&record.node);
        record.rank() > known.rank() || (speaks_of_itself && !same(known, record)) || entry.is_behind()
    }

    /// What was told of a member in its present life was not believed, though it is later than what is known.
    fn is_refused(&self, node: u64, life: Life, lamport: u64) -> bool {
        let known = self.roster.get(node).and_then(|entry| entry.record.as_ref());
        node != self.me && known.is_some_and(|known| known.life == life && known.lamport < lamport)
    }

    /// A third party tells of a member, at the same time, something else than is known here.
    fn is_doubtful(&self, from: u64, record: &Record) -> bool {
        let known = self.roster.get(record.node).and_then(|entry| entry.record.as_ref());
        let of_others = ![from, self.me].contains(&record.node);
        of_others && known.is_some_and(|known| known.rank() == record.rank() && !same(known, record))
    }

    /// Somebody holds a member for present that we hold for failed, in the same life.
    fn is_thought_dead(&self, row: &Row) -> bool {
        self.roster.get(row.seen.identity.node).is_some_and(|entry| {
            entry.seen.is_some_and(|seen| seen.identity == row.seen.identity && seen.liveness == State::Down)
                && is_dialable(entry.addr())
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
            let remembered = self.options.tombstone_timeout.min(crate::forgetting::UNPROVEN_TIMEOUT);
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
        let leaves = |record: &Record| record.leaving && record.life == id.life;
        let entry = self.roster.get(id.node)?;
        if row.record.as_ref().is_some_and(leaves) || entry.record.as_deref().is_some_and(leaves) {
            return as_told;
        }
        // memberlist's rule: a third party's "failed" is a suspicion here, which the member can still answer.
        Some(Member::new(id, known.incarnation.max(row.seen.incarnation), State::Suspect))
    }
}
