//! Formation: how an agent comes to a log. It founds one, or joins one, or goes on with its own.
//!
//! A joiner never founds. A founder with join addresses looks for members first.

use super::{Boot, Level, Node, Output};
use crate::facts::FormationFacts;
use quorate_raft::{Mono, Now};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

/// What the operator asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Formation {
    /// `--bootstrap`: found a log unless there is one.
    pub bootstrap: bool,
    /// `--join`: addresses of agents, as they were given.
    pub seeds: Vec<String>,
    /// How long a founder looks for members at its join addresses first. Default 3 s.
    pub look_for: Duration,
    /// `--expect`: found a log together with so many agents in all; 0 for not.
    pub expect: usize,
}

/// How long a founder looks for members at its join addresses.
pub const LOOK_FOR_DEFAULT: Duration = Duration::from_secs(3);
/// The first pause between two tries of one address, and the longest. The first one is short: when many start at once, whom
/// they join by has no room for all of them for some tenths of a second.
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(5);
/// The same reason is told again only after this long.
const TELL_AGAIN: Duration = Duration::from_secs(30);

/// Join addresses that one answer tells of.
const SEEDS_TOLD_MAX: usize = 64;

#[derive(Debug)]
struct Seed {
    next: Mono,
    pause: Duration,
    dialling: bool,
    /// Who answered last.
    node: Option<u64>,
    told: Option<(String, Mono)>,
    /// What it said if it refused this agent.
    refusal: Option<(Mono, String)>,
    /// The addresses it stood for when it was last tried in vain.
    tried: Vec<SocketAddr>,
    /// Nobody gave this address: it is where that node, of that name, was last seen.
    of: Option<(u64, String)>,
}

/// An address to join, as far as it has been tried.
pub(super) struct Place<'a> {
    /// As it was given.
    pub(super) name: &'a str,
    /// Who answered there last.
    pub(super) node: Option<u64>,
    /// What it stood for when it was tried in vain.
    pub(super) tried: &'a [SocketAddr],
    /// Why in vain.
    pub(super) why: Option<&'a str>,
    /// Whose last address it is, if nobody gave it: node and name.
    pub(super) of: Option<(u64, &'a str)>,
}

/// Where the agent is on its way to a log.
#[derive(Debug)]
pub(super) struct State {
    bootstrap: bool,
    /// Every address to join is of this machine.
    local: bool,
    seeds: BTreeMap<String, Seed>,
    /// A founder that has looked in vain until then founds.
    found_at: Option<Mono>,
}

impl State {
    pub(super) fn new(formation: &Formation, boot: &Boot, now: Mono) -> Self {
        let mut all: BTreeMap<String, Option<(u64, String)>> =
            boot.known.iter().map(|k| (k.addr.to_string(), Some((k.node, k.name.clone())))).collect();
        all.extend(formation.seeds.iter().map(|seed| (seed.clone(), None)));
        let has_log = boot.meta.log_id.is_some();
        let found_at = match (formation.bootstrap && !has_log, all.is_empty()) {
            // It had decided already.
            _ if boot.is_interrupted_founding() => Some(now),
            // It has promised to found no other log than one.
            _ if boot.record.pledge.is_some() => None,
            (false, _) => None,
            (true, true) => Some(now),
            (true, false) => Some(now.after(formation.look_for)),
        };
        let loopback = |s: &String| s.starts_with("127.") || s.starts_with("[::1]") || s.starts_with("localhost:");
        let local = all.keys().all(loopback);
        let seed = |(s, of)| {
            (
                s,
                Seed {
                    next: now,
                    pause: RETRY_MIN,
                    dialling: false,
                    node: None,
                    told: None,
                    refusal: None,
                    tried: Vec::new(),
                    of,
                },
            )
        };
        Self { bootstrap: formation.bootstrap, local, seeds: all.into_iter().map(seed).collect(), found_at }
    }
}

impl State {
    /// Each join address, and each that was remembered.
    pub(super) fn places(&self) -> impl Iterator<Item = Place<'_>> {
        self.seeds.iter().map(|(name, s)| Place {
            name,
            node: s.node,
            tried: &s.tried,
            why: s.told.as_ref().map(|(why, _)| &**why),
            of: s.of.as_ref().map(|(node, name)| (*node, &**name)),
        })
    }

    /// Is this cluster meant for one machine?
    pub(super) fn is_local(&self) -> bool {
        self.local
    }
}

impl Node {
    /// Does this node mean to found a log itself?
    pub(super) fn founds(&self) -> bool {
        self.formation.found_at.is_some()
    }

    /// How it means to come to a log.
    pub(super) fn formation_facts(&self) -> FormationFacts {
        let waiting = self.view.as_ref().filter(|_| !self.in_raft()).and_then(|view| view.waiting.clone());
        FormationFacts {
            bootstrap: self.formation.bootstrap,
            seeds: self.formation.seeds.keys().take(SEEDS_TOLD_MAX).cloned().collect(),
            founding: self.founds(),
            expect: u32::try_from(self.options.formation.expect).ok().filter(|n| *n > 0 && self.log_id.is_none()),
            seen: std::iter::once(self.me.get())
                .chain(self.peers.up().map(|p| p.node))
                .map(|n| self.name_of(n))
                .collect(),
            waiting: waiting.or_else(|| self.pact.status().waits),
        }
    }

    /// What the operator reads while an agent waits.
    pub(super) fn formation_problem(&self) -> Option<String> {
        if let Some(why) = self.refused_everywhere() {
            return Some(format!("not admitted by the others: {why}"));
        }
        if self.log_id.is_some() {
            return None;
        }
        let waiting = self.view.as_ref().and_then(|v| v.waiting.clone());
        if let Some(why) = waiting {
            return Some(format!("not in Raft yet: {}", crate::limits::printable(&why)));
        }
        if let Some(waits) = self.pact.status().waits {
            return Some(waits);
        }
        Some(if self.founds() {
            "looking for members before founding a log".into()
        } else if self.formation.seeds.is_empty() && !self.formation.bootstrap {
            "waiting for a cluster: start one agent with --bootstrap, or this one with --join, or all with --expect"
                .into()
        } else if self.peers.up().next().is_none() {
            let reasons: Vec<String> =
                self.formation.seeds.iter().filter_map(|(s, d)| Some(format!("{s}: {}", d.told.as_ref()?.0))).collect();
            format!("no join address has answered ({})", reasons.join("; "))
        } else {
            "connected, waiting for a leader to add this agent".into()
        })
    }

    /// What the others say to an agent that they do not let in; nothing for one that has found a leader.
    fn refused_everywhere(&self) -> Option<String> {
        if self.leader().is_some() {
            return None;
        }
        // They may differ for a moment in what they know: the newest word counts.
        let newest = self.formation.seeds.values().filter_map(|s| s.refusal.as_ref()).max_by_key(|(at, _)| *at);
        newest.map(|(_, why)| crate::limits::printable(why))
    }

    /// Is it turned away by those that it tries, and connected with nobody?
    pub(super) fn is_shut_out(&self) -> bool {
        self.refused_everywhere().is_some() && self.peers.up().next().is_none()
    }

    /// One turn: found, or try the addresses that are due.
    pub(super) fn form(&mut self, now: Now) {
        if self.leader().is_some() {
            // It is let in: what was said before counts no more, not even when that leader is gone.
            self.formation.seeds.values_mut().for_each(|seed| seed.refusal = None);
        }
        if let Some(at) = self.formation.found_at {
            // A leader that sends its view, or an agent that belongs to a log, is a cluster to join.
            if self.view.is_some() || self.peers.up().any(|p| p.log_id.is_some()) {
                self.formation.found_at = None;
                self.note(Level::Info, "found a cluster at a join address; joining it instead of founding one");
            } else if now.mono >= at && !self.yields_to_a_founder() {
                self.formation.found_at = None;
                self.found(now);
            }
        }
        self.dial_seeds(now);
    }

    /// Of founders that see each other the one with the lowest id founds, and the others join it.
    fn yields_to_a_founder(&self) -> bool {
        self.peers.up().any(|p| p.founder && p.node < self.me.get())
    }

    /// A leader has sent its log: this node founds none.
    pub(super) fn joined(&mut self) {
        self.formation.found_at = None;
    }

    /// Join addresses are tried until there is a leader and every member of the group is connected: a member that does
    /// not answer may have another address now, which a join address knows, and joiners that found only each other go
    /// on looking for the founder. One that leads to a connected agent is left alone.
    fn dial_seeds(&mut self, now: Now) {
        if self.leave.is_shut_out(now.mono) {
            return;
        }
        let configuration = self.raft.configuration();
        let missing = configuration.members().into_iter().any(|m| m != self.me && !self.peers.is_up(m.get()));
        if self.leader().is_some() && !missing && self.peers.up().next().is_some() {
            return;
        }
        let (me, peers) = (self.me.get(), &self.peers);
        let due: Vec<String> = self
            .formation
            .seeds
            .iter_mut()
            .filter(|(_, s)| !s.dialling && s.next <= now.mono && !s.node.is_some_and(|n| n == me || peers.is_up(n)))
            .map(|(name, s)| {
                s.dialling = true;
                s.next = now.mono.after(s.pause);
                name.clone()
            })
            .collect();
        for seed in due {
            self.emit(Output::DialSeed { seed });
        }
    }

    /// Says why an address did not lead in, once per reason and half a minute.
    pub(super) fn seed_failed(
        &mut self,
        now: Now,
        seed: String,
        why: String,
        refusal: Option<String>,
        tried: Vec<SocketAddr>,
    ) {
        let Some(state) = self.formation.seeds.get_mut(&seed) else { return };
        state.dialling = false;
        state.tried = tried;
        // Silence is no word of admission: the last refusal stands until somebody there says otherwise.
        state.refusal = refusal.map(|why| (now.mono, why)).or(state.refusal.take());
        state.pause = (state.pause * 2).min(RETRY_MAX);
        let news = match &state.told {
            Some((told, at)) => *told != why || now.mono.since(*at) >= TELL_AGAIN,
            None => true,
        };
        if news {
            state.told = Some((why.clone(), now.mono));
            self.note(Level::Warn, format!("join address {seed}: {why}; trying again"));
        }
    }

    /// Gossip sees nobody: the operator's addresses are the way back.
    pub(super) fn seeds_wanted(&mut self) {
        for seed in self.formation.seeds.values_mut() {
            seed.pause = RETRY_MIN;
        }
    }

    /// The attempt is over; the next one starts afresh when it is needed.
    pub(super) fn seed_answered(&mut self, seed: &str, node: u64) {
        if let Some(state) = self.formation.seeds.get_mut(seed) {
            state.dialling = false;
            state.node = Some(node);
            state.pause = RETRY_MIN;
            state.told = None;
            state.refusal = None;
        }
    }
}
