//! Tags of this agent: what it was started with, and what operators change while it runs.
//!
//! It never says how they spread: gossip does. Only an agent itself changes its tags; a wish for those of another one is
//! carried there. What was set at run time is on disk before it is answered for, and stands after a restart, except for
//! keys that the flags or the configuration of that start give.

use super::questions::Asker;
use super::{Class, LeaderAnswer, LeaderAsk, Level, Node, Output, PeerMessage, not_applied};
use crate::api::{Answer, Code, Effect, Failure, TagsChange, TagsOf};
use crate::limits::{check_tags, printable};
use quorate_raft::{Mono, Now};
use std::collections::BTreeMap;

/// Operators who wait at once, here or for another agent: they are few.
const WAITING_MAX: usize = 64;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct OwnTags {
    /// What this start was given.
    given: BTreeMap<String, String>,
    /// What was set at run time, in this life or before.
    set: BTreeMap<String, String>,
    /// What is on its way to the disk: who is told then, and what.
    saving: BTreeMap<u64, (Asker, TagsOf)>,
    /// What another agent was asked: which, for which request, until when.
    asked: BTreeMap<u64, (u64, u64, Mono)>,
    /// What waits for the connection to be asked on, by the same id.
    unsaid: BTreeMap<u64, TagsChange>,
}

impl OwnTags {
    /// What a start begins with: what was set before, except for the keys that the start is given. If both are too much
    /// together, what is given stands alone; `Err` says so.
    pub(super) fn begin(
        given: &BTreeMap<String, String>,
        mut set: BTreeMap<String, String>,
    ) -> (Self, BTreeMap<String, String>, Result<(), String>) {
        set.retain(|key, _| !given.contains_key(key));
        let all: BTreeMap<_, _> = set.iter().chain(given).map(|(k, v)| (k.clone(), v.clone())).collect();
        match check_tags(&all) {
            Ok(()) => (Self { given: given.clone(), set, ..Self::default() }, all, Ok(())),
            Err(why) => (Self { given: given.clone(), ..Self::default() }, given.clone(), Err(why.to_string())),
        }
    }

    pub(super) fn deadline(&self) -> Option<Mono> {
        self.asked.values().map(|(_, _, deadline)| *deadline).min()
    }
}

impl Node {
    fn own_tags_now(&self) -> BTreeMap<String, String> {
        self.members.member(self.me.get()).map(|me| me.tags.as_map().clone()).unwrap_or_default()
    }

    /// An operator asks for the tags of an agent, and may change them.
    pub(super) fn tags_asked(
        &mut self,
        now: Now,
        request: u64,
        deadline: Mono,
        name: Option<String>,
        change: TagsChange,
    ) {
        match name.filter(|name| *name != self.options.name) {
            None => self.change_tags(now, Asker::Client(request), &change),
            Some(name) => {
                if let Err(failure) = self.ask_tags(now, request, deadline, &name, change) {
                    self.answer(request, Err(failure));
                }
            }
        }
    }

    /// Carries the wish to the agent of that name.
    fn ask_tags(
        &mut self,
        now: Now,
        request: u64,
        deadline: Mono,
        name: &str,
        change: TagsChange,
    ) -> Result<(), Failure> {
        let shown = printable(name);
        let known: Vec<_> =
            self.members.members().filter(|m| m.name == name).map(|m| (m.node, m.state.is_present(), m.addr)).collect();
        let Some((node, _, addr)) = known.iter().find(|(_, present, _)| *present).or(known.first()).copied() else {
            return Err(self.unknown_name(name));
        };
        let is_up = self.peers.is_up(node);
        let may_meet = is_up || (self.warm.is_sparse() && self.may_dial(now, node, addr));
        if !may_meet {
            let what = format!("{shown} ({addr}) cannot be reached from {}", printable(&self.options.name));
            let hint = format!("see its state with `quorate members {shown}`; or ask it directly with --addr {addr}");
            return Err(not_applied(Code::Unavailable, what, hint));
        }
        if self.own_tags.asked.len() >= WAITING_MAX {
            return Err(not_applied(Code::Busy, "too many wait for tags of other agents", "retry later"));
        }
        let id = self.token();
        self.own_tags.asked.insert(id, (node, request, deadline));
        self.next_reconcile = self.next_reconcile.min(deadline);
        self.own_tags.unsaid.insert(id, change);
        if is_up {
            self.say_asked_tags(now, node);
        } else {
            // In a large cluster nobody is connected with everybody.
            self.emit(Output::Dial { node, addr });
        }
        Ok(())
    }

    /// A connection with this agent is up: it is asked what waited for that.
    pub(super) fn say_asked_tags(&mut self, now: Now, node: u64) {
        let own = &mut self.own_tags;
        let ready: Vec<u64> = own.asked.iter().filter(|(_, (to, _, _))| *to == node).map(|(id, _)| *id).collect();
        for id in ready {
            let Some(change) = self.own_tags.unsaid.remove(&id) else { continue };
            let deadline = self.own_tags.asked.get(&id).map_or(now.mono, |(_, _, deadline)| *deadline);
            let timeout_ms = u32::try_from(deadline.since(now.mono).as_millis()).unwrap_or(u32::MAX);
            self.send(node, Class::Peer, PeerMessage::Ask { id, timeout_ms, ask: LeaderAsk::Tags(change) });
        }
    }

    /// The other agent answers; says whether that was for one of these.
    pub(super) fn tags_answered(&mut self, node: u64, id: u64, result: &Result<LeaderAnswer, Failure>) -> bool {
        let Some((asked, request, _)) = self.own_tags.asked.get(&id).copied() else { return false };
        if asked == node {
            self.own_tags.asked.remove(&id);
            self.answer(request, result.clone().map(Answer::from));
        }
        true
    }

    /// The connection to another agent is gone.
    pub(super) fn tags_lost(&mut self, node: u64) {
        self.end_asked(|(to, _, _)| *to == node, "the connection to the agent was lost before it answered");
    }

    pub(super) fn expire_tags(&mut self, now: Now) {
        self.end_asked(|(_, _, deadline)| *deadline <= now.mono, "the agent did not answer in time");
    }

    fn end_asked(&mut self, which: impl Fn(&(u64, u64, Mono)) -> bool, why: &str) {
        let ended: Vec<u64> = self.own_tags.asked.iter().filter(|(_, asked)| which(asked)).map(|(id, _)| *id).collect();
        for id in ended {
            let Some((_, request, _)) = self.own_tags.asked.remove(&id) else { continue };
            // Nothing was changed by what was never said.
            let unsaid = self.own_tags.unsaid.remove(&id).is_some();
            let failure = Failure {
                code: Code::Unavailable,
                effect: if unsaid { Effect::NotApplied } else { Effect::Unknown },
                what: why.to_owned(),
                hint: "look at the tags with `quorate tags NAME`; the same change may be asked for again".into(),
            };
            self.answer(request, Err(failure));
        }
    }

    /// Changes this agent's own tags, and answers when that is saved.
    pub(super) fn change_tags(&mut self, now: Now, asker: Asker, change: &TagsChange) {
        let result = self.changed_tags(change);
        match result {
            Err(failure) => self.end_question(now, asker, Err(failure)),
            Ok(told) if change.is_empty() => self.end_question(now, asker, Ok(LeaderAnswer::Tags(told))),
            Ok(told) => {
                let tags = quorate_membership::Tags::new(told.tags.clone()).unwrap_or_default();
                self.gossip_set_tags(now, tags);
                for key in &change.delete {
                    self.own_tags.set.remove(key);
                }
                self.own_tags.set.extend(change.set.clone());
                let id = self.token();
                self.own_tags.saving.insert(id, (asker, told));
                self.emit(Output::SaveTags { id, tags: self.own_tags.set.clone() });
            }
        }
    }

    /// What the tags would be.
    fn changed_tags(&self, change: &TagsChange) -> Result<TagsOf, Failure> {
        let name = self.options.name.clone();
        let mut tags = self.own_tags_now();
        if change.is_empty() {
            return Ok(TagsOf { name, tags, notes: Vec::new() });
        }
        if self.own_tags.saving.len() >= WAITING_MAX {
            return Err(not_applied(Code::Busy, "too many changes of tags wait for the disk", "retry later"));
        }
        let mut notes = Vec::new();
        let shown = printable(&name);
        for key in &change.delete {
            if change.set.contains_key(key) {
                let what = format!("the tag {} is to be both set and deleted", printable(key));
                return Err(not_applied(Code::Invalid, what, "say which"));
            }
            if tags.remove(key).is_none() {
                notes.push(format!("{shown} had no tag {}", printable(key)));
            }
        }
        tags.extend(change.set.clone());
        if let Err(why) = check_tags(&tags) {
            let hint = format!("see what {shown} has with `quorate tags {shown}`, and delete or shorten something");
            return Err(not_applied(Code::Invalid, why.to_string(), hint));
        }
        let touched = change.set.keys().chain(&change.delete);
        for key in touched.filter(|key| self.own_tags.given.contains_key(*key)) {
            let (key, given) = (printable(key), printable(&self.own_tags.given[key]));
            notes
                .push(format!("{shown} is started with the tag {key}={given}, which holds again after its next start"));
        }
        Ok(TagsOf { name, tags, notes })
    }

    /// The disk has what was set at run time, or not.
    pub(super) fn tags_saved(&mut self, now: Now, id: u64, result: Result<(), String>) {
        let Some((asker, told)) = self.own_tags.saving.remove(&id) else { return };
        let result = result.map(|()| LeaderAnswer::Tags(told)).map_err(|why| {
            self.note(Level::Warn, format!("cannot save the tags that were set: {why}"));
            Failure {
                code: Code::Unavailable,
                effect: Effect::Unknown,
                what: format!("the tags are changed, but not saved for the next start ({why})"),
                hint: "mend the disk and set them again".into(),
            }
        });
        self.end_question(now, asker, result);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn what_a_start_is_given_wins_for_its_keys() {
        let (own, all, fits) = OwnTags::begin(&map(&[("zone", "a")]), map(&[("zone", "b"), ("rack", "7")]));
        assert_eq!(all, map(&[("zone", "a"), ("rack", "7")]));
        assert_eq!(own.set, map(&[("rack", "7")]));
        assert_eq!(fits, Ok(()));
    }

    #[test]
    fn what_is_too_much_together_is_left_out_and_said() {
        let large = "x".repeat(60 << 10);
        let (own, all, fits) = OwnTags::begin(&map(&[("given", &large)]), map(&[("set", &large)]));
        assert_eq!(all.keys().collect::<Vec<_>>(), ["given"]);
        assert!(own.set.is_empty());
        assert!(fits.is_err_and(|why| why.contains("65536 bytes together")));
    }
}
