//! News: what follows from a changed entry of the roster: events for users, counts, and who claims which name.
//!
//! It never changes an entry, and never decides what one holds: everything here is derived.

use crate::entry::{Entry, Introduction};
use crate::io::Event;
use crate::member::{Member, State};
use crate::text::Text;
use crate::types::{Life, Mono, Now};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct News {
    pub(crate) events: Vec<Event>,
    /// Who is present under each name. One set: a map of sets would cost each member ten times as much.
    names: BTreeSet<(Text, u64)>,
    /// Members that are here, but of whom users have not heard; and when they do at the latest.
    introductions: BTreeMap<u64, (Introduction, Mono)>,
    pub(crate) present: usize,
    pub(crate) failed: usize,
    pub(crate) strangers: usize,
    pub(crate) addresses_changed: bool,
    pub(crate) introduce_at: Option<Mono>,
    pub(crate) gone: bool,
}

/// The view before a change, to compare with the one after it.
pub(crate) struct Before {
    pub(crate) visible: bool,
    pub(crate) present: bool,
    pub(crate) life: Option<Life>,
    pub(crate) member: Member,
    pub(crate) tag_bytes: usize,
}

impl Before {
    pub(crate) fn of(entry: &Entry) -> Self {
        Self {
            visible: entry.seen.is_some(),
            present: entry.is_present(),
            life: entry.life(),
            member: entry.member(),
            tag_bytes: entry.tags().bytes(),
        }
    }
}

/// The sooner of both.
pub(crate) fn soonest(slot: &mut Option<Mono>, at: Mono) {
    *slot = Some(slot.map_or(at, |slot| slot.min(at)));
}

impl News {
    /// Derives events and indexes from one changed entry.
    pub(crate) fn compare(&mut self, me: u64, before: &Before, entry: &Entry, now: Now, patience: Duration) {
        let node = entry.node;
        let present = entry.is_present();
        self.present = self.present + usize::from(present) - usize::from(before.present);
        let (was, is) = (&before.member, &entry.member());
        if (before.present, &was.name) != (present, &is.name) {
            self.reindex(node, before.present.then_some(&was.name), present.then_some(&is.name));
        }
        let listed = |visible: bool, member: &Member| (visible && member.state != State::Left).then_some(member.addr);
        if node != me && listed(before.visible, was) != listed(entry.seen.is_some(), is) {
            self.addresses_changed = true;
        }
        let same_life = before.life == entry.life();
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
            && !self.introductions.contains_key(&node)
        {
            let deadline = now.mono.after(patience);
            self.introductions.insert(node, (introduction, deadline));
            soonest(&mut self.introduce_at, deadline);
        }
        if (!present || entry.is_known())
            && let Some((introduction, _)) = self.introductions.remove(&node)
        {
            self.introduce(introduction, is.clone());
            if present {
                return;
            }
        }
        if !self.introductions.contains_key(&node) {
            self.describe(before, is, present && same_life, same_life);
        }
    }

    /// Users hear of it.
    pub(crate) fn introduce(&mut self, introduction: Introduction, member: Member) {
        self.events.push(match introduction {
            Introduction::Joined => Event::Joined(member),
            Introduction::Restarted => Event::Restarted(member),
            Introduction::Recovered => Event::Recovered(member),
        });
    }

    /// The events of a member that users have heard of.
    fn describe(&mut self, before: &Before, is: &Member, stays: bool, same_life: bool) {
        let was = &before.member;
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
            _ if what && stays => {
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

    fn reindex(&mut self, node: u64, was: Option<&Text>, is: Option<&Text>) {
        if let Some(name) = was {
            self.names.remove(&(name.clone(), node));
        }
        if let Some(name) = is.filter(|name| !name.is_empty())
            && self.names.insert((name.clone(), node))
        {
            let nodes = self.named(name);
            if nodes.len() > 1 {
                self.events.push(Event::NameConflict { name: name.to_string(), nodes });
            }
        }
    }

    /// Who is present under this name.
    fn named(&self, name: &Text) -> Vec<u64> {
        self.names.range((name.clone(), 0)..=(name.clone(), u64::MAX)).map(|(_, node)| *node).collect()
    }

    /// Names that more than one claims.
    pub(crate) fn name_conflicts(&self) -> BTreeMap<String, Vec<u64>> {
        let pairs = self.names.iter().zip(self.names.iter().skip(1));
        let claimed = pairs.filter(|(a, b)| a.0 == b.0).map(|(a, _)| &a.0);
        claimed.map(|name| (name.to_string(), self.named(name))).collect()
    }

    /// Those who have not been introduced in time, and when to look again.
    pub(crate) fn take_overdue(&mut self, now: Now) -> (Vec<(u64, Introduction)>, Option<Mono>) {
        let due = |(_, (_, deadline)): &(&u64, &(Introduction, Mono))| *deadline <= now.mono;
        let overdue: Vec<_> = self.introductions.iter().filter(due).map(|(node, (how, _))| (*node, *how)).collect();
        self.introductions.retain(|_, (_, deadline)| *deadline > now.mono);
        (overdue, self.introductions.values().map(|(_, deadline)| *deadline).min())
    }

    /// This entry is no more.
    pub(crate) fn forget(&mut self, entry: &Entry) {
        self.introductions.remove(&entry.node);
        if entry.seen.is_none() {
            self.strangers -= 1;
            return;
        }
        self.failed -= usize::from(entry.state == State::Failed);
        self.addresses_changed |= entry.state != State::Left;
        self.events.push(Event::Reaped(entry.member()));
    }
}
