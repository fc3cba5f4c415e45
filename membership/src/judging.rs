//! Judging: who stopped answering this node, who else finds the same, and when that is a failure (Lifeguard, section IV).
//!
//! It never ends a member by what others say: without an unanswered probe or question of its own this node waits for who
//! has one. An accusation speaks for the connection it came on alone, so that one liar counts once, and not before this
//! node has found the same by itself.

use crate::dialect::Dialect;
use crate::entry::Seen;
use crate::exchange;
use crate::hearsay::is_beyond;
use crate::identity::Identity;
use crate::io::Output;
use crate::membership::Membership;
use crate::packet;
use crate::suspicion::{CONFIRMATIONS, Suspicion, TOLD_MAX};
use crate::swim::{Ended, Way};
use crate::timers::Due;
use foca::{Member, State};
use std::time::Duration;

/// How many others are asked whether they find the same. Two confirmations are enough; some may have failed, too.
const WITNESSES: usize = 8;
/// The most questions open at once: a partition makes everybody on the other side silent. Probes find the rest.
const QUESTIONS_MAX: usize = 64;

impl Membership {
    /// How long a suspect has at least to answer, among so many members.
    pub(crate) fn suspicion(&self) -> Duration {
        self.options.suspicion_among(self.roster.present())
    }

    /// How long a question over a stream may take: half of what a probe may.
    fn question_patience(&self) -> Duration {
        self.health.stretch(self.options.probe_period / 2)
    }

    /// Who could confirm a suspicion of this member: who is present and was proven by a connection, for others may be
    /// invented. Counted no further than is needed.
    fn eligible(&self, node: u64) -> usize {
        self.witnesses(node).take(CONFIRMATIONS).count()
    }

    fn witnesses(&self, node: u64) -> impl Iterator<Item = u64> {
        self.roster.others().filter(move |entry| entry.node != node && entry.is_proven()).map(|entry| entry.node)
    }

    /// Sends a ping over datagrams, apart from foca's probes.
    pub(crate) fn ping(&mut self, node: u64) {
        let Some(entry) = self.roster.get(node).filter(|entry| entry.is_present()) else { return };
        let (Some(seen), addr) = (entry.seen, entry.addr()) else { return };
        let dialect = entry.dialect().unwrap_or_default();
        let Some(ping) = self.swim.ping(&seen) else { return };
        self.counters.datagrams_sent += 1;
        self.outbox.push_back(Output::Datagram { to: node, addr, bytes: packet::wrap(&ping, dialect) });
    }

    /// Asks a member over a stream whether it is there, and tells it if it is suspected. `finding`: its silence will be this
    /// node's own finding.
    pub(crate) fn question(&mut self, node: u64, finding: bool) {
        let Some(entry) = self.roster.get(node).filter(|entry| entry.is_present()) else { return };
        let (Some(seen), addr) = (entry.seen, entry.addr()) else { return };
        let dialect = entry.dialect().unwrap_or_default();
        let Some(ping) = self.swim.ping(&seen) else { return };
        self.counters.questions += 1;
        let bytes = exchange::datagram(&packet::wrap(&ping, dialect), dialect);
        self.outbox.push_back(Output::Exchange { to: node, addr, bytes });
        if !finding {
            return;
        }
        let open = self.suspicions.values().filter(|suspicion| suspicion.question_until.is_some()).count();
        let until = self.now.mono.after(self.question_patience());
        let suspicion = self.suspicion_of(seen);
        if open < QUESTIONS_MAX && suspicion.question_until.is_none() && !suspicion.is_found {
            suspicion.question_until = Some(until);
            self.timers.set_at_latest(Due::Suspicion, until);
        }
    }

    /// A connection with it is up: what was asked before that may have gone nowhere.
    pub(crate) fn ask_again(&mut self, node: u64) {
        if self.suspicions.get(&node).is_some_and(|suspicion| suspicion.question_until.is_some()) {
            self.question(node, false);
        }
        if let Some(ping) = self.swim.unanswered_by(node) {
            self.repeat_ping(node, &ping);
        }
    }

    /// The suspicion of a member as it is now; begun, if it is not what an earlier one was about.
    fn suspicion_of(&mut self, seen: Seen) -> &mut Suspicion {
        let now = self.now.mono;
        let suspected = Seen { liveness: State::Suspect, ..seen };
        let node = seen.identity.node;
        let suspicion = self.suspicions.entry(node).or_insert_with(|| Suspicion::new(suspected, now));
        if suspicion.suspected != suspected {
            *suspicion = Suspicion::new(suspected, now);
        }
        suspicion
    }

    /// It answered something: an open question to it is none any more.
    pub(crate) fn answered(&mut self, node: u64) {
        self.heard_from(node);
        if let Some(suspicion) = self.suspicions.get_mut(&node)
            && suspicion.question_until.take().is_some()
            && !suspicion.is_found
        {
            self.suspicions.remove(&node);
        }
    }

    /// foca's probe of it failed, directly, through others and over a stream.
    pub(crate) fn own_probe_failed(&mut self, identity: Identity, incarnation: u16) {
        let suspected = Seen { identity, incarnation, liveness: State::Suspect };
        let known = self.roster.get(identity.node).and_then(|entry| entry.seen);
        // It may have answered since that probe began.
        if known == Some(suspected) {
            self.found(suspected, true);
        }
    }

    /// This node has found by itself that the suspect does not answer. `unasked`: nobody had asked.
    fn found(&mut self, suspected: Seen, unasked: bool) {
        let node = suspected.identity.node;
        let suspicion = self.suspicion_of(suspected);
        suspicion.question_until = None;
        suspicion.is_found = true;
        if unasked && !suspicion.asked_others {
            suspicion.asked_others = true;
            self.ask_others(node);
        }
        let suspicion = self.suspicion_of(suspected);
        let tell: Vec<u64> = suspicion.to_tell.difference(&suspicion.told).copied().collect();
        for peer in tell {
            self.accuse_to(peer, suspected);
        }
        self.plan_suspicion(node);
    }

    /// Asks others whether they find the same.
    fn ask_others(&mut self, node: u64) {
        let witnesses = self.witnesses(node).collect();
        let witnesses = self.choose(witnesses, WITNESSES);
        if let Some(suspicion) = self.suspicions.get_mut(&node) {
            suspicion.to_tell.extend(witnesses);
        }
    }

    /// Tells a peer, once, what this node has found.
    fn accuse_to(&mut self, peer: u64, suspected: Seen) {
        let Some(suspicion) = self.suspicions.get_mut(&suspected.identity.node) else { return };
        if !suspicion.told.insert(peer) {
            return;
        }
        // A member of the first version would take it for a lie.
        let peers = self.roster.get(peer).filter(|entry| entry.dialect() != Some(Dialect::First));
        let Some(addr) = peers.map(|entry| entry.addr()) else { return };
        self.outbox.push_back(Output::Exchange { to: peer, addr, bytes: exchange::accusation(&suspected) });
    }

    /// A peer says that a member does not answer it. That is a reason to ask the member, and counts once this node has found
    /// the same.
    pub(crate) fn hear_accusation(&mut self, from: u64, told: &Seen) {
        let node = told.identity.node;
        if node == self.me || node == from || self.departed {
            return;
        }
        let Some(known) = self.roster.get(node).filter(|entry| entry.is_present()).and_then(|entry| entry.seen) else {
            return;
        };
        if is_beyond(&known, told) {
            return self.alarm(from, "word of a member from further ahead than it can be");
        }
        if known.identity != told.identity || told.incarnation < known.incarnation {
            // It has answered since.
            return;
        }
        if told.incarnation > known.incarnation {
            let newer = Member::new(known.identity, told.incarnation, State::Suspect);
            let effects = self.swim.apply(vec![newer], true);
            self.carry_out(effects);
        }
        let Some(seen) = self.roster.get(node).and_then(|entry| entry.seen) else { return };
        let suspicion = self.suspicion_of(seen);
        let suspected = suspicion.suspected;
        if suspicion.to_tell.len() < TOLD_MAX {
            suspicion.to_tell.insert(from);
            suspicion.confirmed_by.insert(from);
        }
        if suspicion.is_found {
            self.found(suspected, false);
        } else if suspicion.question_until.is_none() {
            self.question(node, true);
        }
    }

    /// foca or gossip began to hold it for a suspect: it is told so at once, and asked. Where there are many members some do.
    pub(crate) fn is_suspected(&mut self, node: u64) {
        if self.departed || !self.is_one_of_few() {
            return;
        }
        self.question(node, true);
        // A member of which others say what it never said shall hear that, too.
        self.ask(node, &[node]);
    }

    /// When there is something to do about this suspicion.
    fn plan_suspicion(&mut self, node: u64) {
        let (shortest, eligible) = (self.suspicion(), self.eligible(node));
        let Some(suspicion) = self.suspicions.get(&node) else { return };
        let at = suspicion.question_until.unwrap_or_else(|| {
            let end = suspicion.ends_at(shortest, eligible);
            if suspicion.asked_last { end } else { end.before(self.last_question(shortest)) }
        });
        self.timers.set_at_latest(Due::Suspicion, at);
    }

    /// So long before the end the suspect is asked a last time: it may have been stopped, and be back.
    fn last_question(&self, shortest: Duration) -> Duration {
        self.question_patience().min(shortest / 2)
    }

    /// Looks into all suspicions for which it is time.
    pub(crate) fn look_into_suspicions(&mut self) {
        let nodes: Vec<u64> = self.suspicions.keys().copied().collect();
        for node in nodes {
            self.look_into(node);
        }
    }

    fn look_into(&mut self, node: u64) {
        let now = self.now.mono;
        let (shortest, eligible) = (self.suspicion(), self.eligible(node));
        let known = self.roster.get(node).filter(|entry| entry.is_present()).and_then(|entry| entry.seen);
        let Some(suspicion) = self.suspicions.get_mut(&node) else { return };
        let suspected = suspicion.suspected;
        let is_same = |seen: Seen| seen.identity == suspected.identity && seen.incarnation == suspected.incarnation;
        if !known.is_some_and(is_same) {
            // It answered, failed, or came back as another.
            self.suspicions.remove(&node);
            return;
        }
        match suspicion.question_until {
            Some(until) if now < until => {}
            Some(_) => {
                let asked_by_others = !suspicion.to_tell.is_empty();
                let effects = {
                    let suspect = Member::new(suspected.identity, suspected.incarnation, State::Suspect);
                    self.swim.apply(vec![suspect], true)
                };
                let was_known = known.is_some_and(|seen| seen.liveness == State::Suspect);
                if !was_known {
                    // Its time begins when it is told.
                    self.suspicion_of(suspected).since = now;
                }
                // Found before it is told of, so that it is not asked again for the same reason.
                self.found(suspected, !asked_by_others && !was_known);
                self.carry_out(effects);
            }
            None if !suspicion.is_found => {
                self.suspicions.remove(&node);
                return;
            }
            None if now >= suspicion.ends_at(shortest, eligible) => return self.declare_failed(suspected),
            None => {
                let last = suspicion.ends_at(shortest, eligible).before(self.last_question(shortest));
                if let Some(suspicion) = self.suspicions.get_mut(&node)
                    && now >= last
                    && !suspicion.asked_last
                {
                    suspicion.asked_last = true;
                    self.question(node, false);
                }
            }
        }
        self.plan_suspicion(node);
    }

    /// Its time is over. It is told so, should it be able to hear.
    fn declare_failed(&mut self, suspected: Seen) {
        let Seen { identity, incarnation, .. } = suspected;
        self.suspicions.remove(&identity.node);
        let effects = self.swim.apply(vec![Member::new(identity, incarnation, State::Down)], true);
        self.carry_out(effects);
        let Some(addr) = self.roster.get(identity.node).map(|entry| entry.addr()) else { return };
        if let Some(bytes) = self.swim.courtesy(identity) {
            self.counters.datagrams_sent += 1;
            self.outbox.push_back(Output::Datagram {
                to: identity.node,
                addr,
                bytes: packet::wrap(&bytes, self.dialect_of(identity.node)),
            });
        }
    }

    /// What a probe of foca's that is over says of this node itself, and of the path it took.
    pub(crate) fn probe_ended(&mut self, ended: &Ended) {
        match ended.answered {
            Some(way) => {
                self.health.better();
                if way == Way::Stream {
                    self.paths_missed(ended.target);
                }
            }
            None if ended.relayed => self.health.better(),
            // Helpers that do not even nod: then it may well be this node that is not heard. Without helpers any failure
            // may be its own (memberlist's rule).
            None => self.health.worse(ended.silent_helpers.unwrap_or(1)),
        }
    }

    /// Somebody suspected this node, or declared it failed, and it had to answer. At most once in a probe period: whoever
    /// keeps suspecting it must not be able to slow its probes down.
    pub(crate) fn had_to_refute(&mut self) {
        if self.now.mono >= self.refuted_from {
            self.refuted_from = self.now.mono.after(self.options.probe_period);
            self.health.worse(1);
        }
    }

    /// This node did not run for so long.
    pub(crate) fn postpone_judgements(&mut self, by: Duration) {
        for suspicion in self.suspicions.values_mut() {
            suspicion.postpone(by);
        }
        for doubt in self.doubts.values_mut() {
            doubt.until = doubt.until.after(by);
        }
        self.watch.restart(self.now.mono);
    }
}
