//! Fetching: tags that did not fit a packet are asked for over a stream, from whoever told of them or the member itself.
//!
//! It never believes a third party's answer that does not match the hash in the member's record.

use crate::broadcast::Urgency;
use crate::exchange::{self, TagsBuilder, WANTS_MAX, Want};
use crate::io::Output;
use crate::membership::Membership;
use crate::record::Record;
use crate::tag_store::TagNews;
use crate::timers::Due;
use crate::types::Life;
use crate::under_way::Missing;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Bytes of one answer, in tags of whole members; but always one of them.
const ANSWER_BYTES_MAX: usize = 256 << 10;
/// Requests under way at once, each of another member.
const UNDER_WAY_MAX: usize = 4;
/// The first wait for an answer; the next is as long again and from somebody else, up to the longest.
const WAIT_MIN: Duration = Duration::from_secs(2);
const WAIT_MAX: Duration = Duration::from_secs(60);

impl Membership {
    /// `holder` has told of tags of a member that are not held here.
    pub(crate) fn want_tags(&mut self, node: u64, holder: u64) {
        let now = self.now.mono;
        let missing = self.fetching.missing.entry(node).or_insert(Missing { holder, tries: 0, next: now });
        if missing.tries > 0 && missing.holder != holder {
            // Somebody else has them: that is a new chance.
            *missing = Missing { holder, tries: missing.tries, next: missing.next.min(now) };
        }
        let next = missing.next;
        self.timers.set_at_latest(Due::Fetch, next);
    }

    /// Asks for what is missing and due.
    pub(crate) fn fetch_tags(&mut self) {
        let now = self.now.mono;
        let (roster, me, departed) = (&self.roster, self.me, self.departed);
        // What is held stays; what is new and finds no room comes when there is some again, with the next exchange.
        self.fetching.missing.retain(|node, _| !departed && *node != me && roster.wants_tags(*node));
        self.fetching.under_way.retain(|_, until| now < *until);
        let due = self.fetching.missing.iter().filter(|(_, missing)| missing.next <= now);
        // Whom a connection has proven comes first, then who was asked for least: inventions fail again and again.
        let rank = |node: u64, tries: u32| (roster.get(node).is_none_or(|entry| entry.is_hearsay), tries, node);
        let due: BTreeSet<_> = due.map(|(node, missing)| rank(*node, missing.tries)).collect();
        let due: Vec<u64> = due.into_iter().map(|(_, _, node)| node).collect();
        let mut requests: BTreeMap<u64, Vec<Want>> = BTreeMap::new();
        for node in due {
            let Some(missing) = self.fetching.missing.get(&node).copied() else { continue };
            let Some(from) = self.holder_of(node, &missing) else { continue };
            let is_new = !requests.contains_key(&from);
            let full = requests.len() + self.fetching.under_way.len() >= UNDER_WAY_MAX;
            if is_new && (full || self.fetching.under_way.contains_key(&from)) {
                continue;
            }
            let wants = requests.entry(from).or_default();
            let Some(entry) = self.roster.get(node).filter(|_| wants.len() < WANTS_MAX) else { continue };
            let Some(life) = entry.record.as_ref().map(|record| record.life) else { continue };
            // What did not fit what is held once is asked for as a whole.
            let held = if missing.tries == 0 { entry.tags().version() } else { 0 };
            wants.push(Want { node, life, held });
            if let Some(missing) = self.fetching.missing.get_mut(&node) {
                missing.next = now.after((WAIT_MIN * 2_u32.saturating_pow(missing.tries.min(8))).min(WAIT_MAX));
                missing.tries = missing.tries.saturating_add(1);
            }
        }
        for (from, wants) in requests {
            let Some(addr) = self.roster.get(from).map(|entry| entry.addr()) else { continue };
            self.fetching.under_way.insert(from, now.after(WAIT_MIN));
            self.counters.fetches += 1;
            self.outbox.push_back(Output::Exchange { to: from, addr, bytes: exchange::wanted(&wants) });
        }
        let waits = self.fetching.under_way.values().copied().min();
        let next = self.fetching.missing.values().map(|missing| missing.next).min();
        if let Some(next) = next {
            // What is due and found no place waits for one.
            self.timers.set(Due::Fetch, if next <= now { waits.unwrap_or(now.after(WAIT_MIN)) } else { next });
        }
    }

    /// Whom to ask: who told of it, then the member itself, then anybody.
    fn holder_of(&mut self, node: u64, missing: &Missing) -> Option<u64> {
        let is_here = |of: u64| self.roster.get(of).is_some_and(|entry| entry.is_present());
        match missing.tries {
            0 if is_here(missing.holder) => Some(missing.holder),
            0 | 1 if is_here(node) => Some(node),
            tries => {
                let mut all: Vec<u64> = self.roster.others().map(|entry| entry.node).collect();
                if tries % 2 == 1 && is_here(node) {
                    all = vec![node];
                }
                self.choose(all, 1).first().copied()
            }
        }
    }

    /// What is held of what somebody wants.
    pub(crate) fn give_tags(&self, wants: &[Want]) -> Vec<u8> {
        let mut answer = TagsBuilder::new();
        for want in wants {
            let is_of_life = |record: &Record| record.life == want.life;
            let entry = self.roster.get(want.node).filter(|entry| entry.record.as_deref().is_some_and(is_of_life));
            let Some(entry) = entry else { continue };
            if answer.bytes() > ANSWER_BYTES_MAX - entry.tags().bytes().min(ANSWER_BYTES_MAX) && answer.bytes() > 2 {
                break;
            }
            answer.push(want.node, want.life, &entry.tags().news_since(want.held));
        }
        answer.finish()
    }

    /// Tags that were asked for.
    pub(crate) fn hear_tags(&mut self, from: u64, tags: &[(u64, Life, TagNews)]) {
        if self.fetching.under_way.remove(&from).is_none() || self.departed {
            return;
        }
        let mut held = false;
        for (node, life, news) in tags {
            if self.fetching.missing.contains_key(node)
                && self.roster.fetched(*node, *life, news, *node == from, self.now)
            {
                self.fetching.missing.remove(node);
                self.spread(*node, Urgency::Tags);
                held = true;
            }
        }
        if held {
            // The answer may have had no room for all: the rest is asked for at once.
            let now = self.now.mono;
            let rest =
                self.fetching.missing.values_mut().filter(|missing| missing.holder == from && missing.tries == 1);
            rest.for_each(|missing| (missing.tries, missing.next) = (0, now));
        }
        self.timers.set_at_latest(Due::Fetch, self.now.mono);
    }
}
