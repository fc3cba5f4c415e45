//! Hearsay: how far the word of a third party about a member is believed.
//!
//! It never ends whom this node can speak to on one peer's word: that is a suspicion, which the member can still answer.
//! And what a member says on its own connection overrules what others have said of it.

use crate::doubt::Doubt;
use crate::entry::Seen;
use crate::identity::Identity;
use crate::member;
use crate::membership::Membership;
use crate::roster::UNPROVEN_MANY;
use crate::timers::Due;
use foca::{Member, State};
use std::time::Duration;

/// How far the renewals of a member may be ahead of what is known, to be believed. Honest ones are a second apart at
/// least: this is eighteen hours of nothing else.
const BUMP_JUMP_MAX: u32 = 1 << 16;
/// The same for foca's incarnations, of which an honest member needs one for each suspicion.
const INCARNATION_JUMP_MAX: u16 = 1 << 12;
/// A suspicion of which a member has known for this share of its time may be ended by others.
const HEARD_IN_TIME: u32 = 2;
/// How long it takes before this node tells again, unasked, what it really says of itself.
const SPEAK_AGAIN: Duration = Duration::from_secs(1);

/// Is `told` further ahead of `known`, in the same life, than an honest member gets unheard?
pub(crate) fn is_beyond(known: &Seen, told: &Seen) -> bool {
    let (of, id) = (known.identity, told.identity);
    of.life == id.life
        && (id.bump > of.bump.saturating_add(BUMP_JUMP_MAX)
            || (id.bump == of.bump && told.incarnation > known.incarnation.saturating_add(INCARNATION_JUMP_MAX)))
}

/// What a third party's word about a member is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Worth {
    /// As told.
    Told,
    /// A suspicion of what is known.
    Suspicion,
    /// Nothing.
    Nothing,
    /// Nothing: it is further ahead than it can be.
    Beyond,
}

impl Membership {
    /// What is worth the word of `from` about a known member?
    pub(crate) fn worth(&self, from: u64, told: &Seen) -> Worth {
        let node = told.identity.node;
        let Some(entry) = self.roster.get(node) else { return Worth::Told };
        let Some(known) = entry.seen else { return Worth::Told };
        if node == from {
            return Worth::Told;
        }
        if is_beyond(&known, told) {
            return Worth::Beyond;
        }
        let is_proven = entry.connected && entry.contact().is_some_and(|c| c.life == told.identity.life);
        if told.liveness != State::Down || !is_proven || known.liveness == State::Down {
            return Worth::Told;
        }
        if told.identity.bump > known.identity.bump {
            // Of a renewal of which it has not told itself: it would have, on its connection.
            return Worth::Nothing;
        }
        // Who said that it goes is believed to have gone; who could not answer a suspicion in time, too.
        let had_its_time = self.now.mono.since(entry.since) >= self.suspicion() / HEARD_IN_TIME;
        match entry.state {
            member::State::Leaving if entry.has_said_that_it_leaves() => Worth::Told,
            member::State::Suspect if had_its_time && !self.doubts.contains_key(&node) => Worth::Told,
            _ => Worth::Suspicion,
        }
    }

    /// The suspicion that a false or early word of a failure is taken for; this node itself sees to its end.
    pub(crate) fn suspect(&mut self, told: &Seen) -> Option<Member<Identity>> {
        let node = told.identity.node;
        let known = self.roster.get(node)?.seen?;
        let incarnation = known.incarnation.max(told.incarnation);
        let suspected = Seen { incarnation, liveness: State::Suspect, ..known };
        if self.doubts.get(&node).is_none_or(|doubt| doubt.suspected != suspected) {
            if self.roster.get(node)?.state == member::State::Leaving {
                // Others say that it goes; a suspect is asked with the event, this one here.
                self.ask(node, &[node]);
            }
            let until = self.now.mono.after(self.suspicion());
            self.doubts.insert(node, Doubt { suspected, until });
            self.timers.set_at_latest(Due::Doubt, until);
        }
        Some(Member::new(known.identity, incarnation, State::Suspect))
    }

    /// The last connection with this member is gone. Its turn to be probed comes soon, unless probes are taken up by
    /// members of which only others tell, and who may be inventions: then this alone is reason to suspect it.
    pub(crate) fn suspect_if_probes_are_late(&mut self, node: u64) {
        let Some(seen) = self.roster.get(node).and_then(|entry| entry.seen) else { return };
        if seen.liveness == State::Alive
            && self.roster.unproven() > UNPROVEN_MANY
            && let Some(suspicion) = self.suspect(&seen)
        {
            let effects = self.swim.apply(vec![suspicion], true);
            self.carry_out(effects);
        }
    }

    /// Those who have not answered in time are taken for what others said they are.
    pub(crate) fn end_doubts(&mut self) {
        let now = self.now.mono;
        let over: Vec<Doubt> = self.doubts.values().filter(|doubt| doubt.until <= now).copied().collect();
        self.doubts.retain(|_, doubt| doubt.until > now);
        if let Some(next) = self.doubts.values().map(|doubt| doubt.until).min() {
            self.timers.set_at_latest(Due::Doubt, next);
        }
        for Doubt { suspected, .. } in over {
            let Seen { identity, incarnation, .. } = suspected;
            let known = self.roster.get(identity.node).and_then(|entry| entry.seen);
            if known == Some(suspected) {
                let effects = self.swim.apply(vec![Member::new(identity, incarnation, State::Down)], true);
                self.carry_out(effects);
            }
        }
    }

    /// A member's own packet or table says who it is; what others said beyond that was made up.
    pub(crate) fn hear_own_word(&mut self, from: u64, said: &Seen) {
        let Some(known) = self.roster.get(from).and_then(|entry| entry.seen) else { return };
        if said.identity.node == from && is_beyond(said, &known) {
            let effects = self.swim.replace(known.identity, said.identity);
            self.carry_out(effects);
        }
    }

    /// Somebody believes of this node what it never said: it gets this node's own table.
    pub(crate) fn speak_for_itself(&mut self, to: u64) {
        if self.now.mono >= self.speak_from {
            self.speak_from = self.now.mono.after(SPEAK_AGAIN);
            self.ask(to, &[]);
        }
    }
}
