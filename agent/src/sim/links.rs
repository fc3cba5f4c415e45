//! Connections as the transport makes and ends them: dial, greet, admit, keep, give up.
//!
//! It asks the node's gate, and tells the node who is up and who is down; it decides nothing else.

use super::event::{Dial, Event, Happening};
use super::invariant::Invariant;
use super::machine::{Kept, host};
use super::network::End;
use super::plan::{MS, SECOND, letter};
use super::world::World;
use crate::node::{Caller, Denied, Input, Peer};
use quorate_raft::NodeId;
use std::net::SocketAddr;

/// An attempt without an answer ends after this.
const DIAL_DEADLINE_US: u64 = 3 * SECOND;
/// The first and the longest pause before a kept node is dialled again.
const REDIAL_US_MIN: u64 = 50 * MS;
const REDIAL_US_MAX: u64 = 5 * SECOND;
/// How long the one with the higher node id waits for the other to dial.
const COURTESY_US: u64 = 100 * MS;
/// After this a connection that nobody used says by itself that it lives, and is gone if that has no answer.
const REST_US: u64 = 12 * SECOND;
/// How long an older life at another address is asked whether it lives.
const PROBE_US: u64 = SECOND;
/// After this the gate of whoever has met somebody is drawn anew.
const KNOWN_AFTER_US: u64 = SECOND;

impl World {
    // ---- dialling ----

    pub(super) fn dial(&mut self, machine: usize, life: u64, dial: Dial, addr: SocketAddr) {
        let there = self.machines.iter().position(|m| m.addr == addr && m.is_up());
        let foreign = there.is_some_and(|to| self.machines[to].foreign != self.machines[machine].foreign);
        let reaches = there.is_some_and(|to| {
            let asleep = self.machines[to].process.as_ref().is_some_and(|p| p.paused_until > self.at);
            let open = self.network.is_open(machine, to) && self.network.is_open(to, machine);
            !asleep && open && self.may_meet(machine, to) && self.may_meet(to, machine)
        });
        let random = &mut self.noise.network[machine];
        if !reaches || random.chance(self.network.loss / 4) {
            return self.push_to(self.at + DIAL_DEADLINE_US, machine, life, Happening::NoAnswer { dial, addr });
        }
        let trips: u64 = (0..4).map(|_| self.network.delay(random)).sum();
        if foreign {
            // Neither side's certificate is of the other one's cluster.
            self.counters.count("strangers refused");
        }
        self.push_to(self.at + trips, machine, life, Happening::Dialled { dial, addr });
    }

    /// Has this process a connection with that node whose other end is there, too?
    pub(super) fn reaches(&self, machine: usize, life: u64, node: u64) -> bool {
        self.network.route(machine, life, node).is_some_and(|(link, to)| {
            let end = &self.network.links[&link].ends[to];
            end.up && self.is_alive(end.machine, end.life)
        })
    }

    /// Of two processes on copies of one disk the later one reaches those who are connected with the earlier, and by that can
    /// tell the two apart; or who know it already. Nobody else could: see the limits of the simulator.
    fn may_meet(&self, who: usize, other: usize) -> bool {
        let (me, there) = (&self.machines[who], self.machines[other].process.as_ref());
        let (Some(mine), Some(there)) = (&me.process, there) else { return true };
        let twins = self.machines.iter().filter(|m| m.node == me.node && m.addr != me.addr);
        let earlier = twins.filter_map(|m| m.process.as_ref()).find(|twin| me.retired || twin.born < mine.born);
        let knows_me = there.met.get(&me.node).is_some_and(|(_, boot, _)| *boot == mine.boot);
        match earlier {
            Some(twin) => knows_me || (twin.paused_until <= self.at && self.reaches(other, there.life, me.node.get())),
            None => !me.retired,
        }
    }

    /// From now on this process knows that start of the other one.
    fn meets(&mut self, machine: usize, other: &End) {
        let started = self.machines[other.machine].process.as_ref().filter(|p| p.life == other.life);
        let (Some(node), Some((epoch, boot))) = (NodeId::new(other.node), started.map(|p| (p.epoch, p.boot))) else {
            return;
        };
        let at = self.at;
        if let Some(process) = &mut self.machines[machine].process {
            let known = process.met.entry(node).or_insert((epoch, boot, at));
            if known.0 < epoch {
                *known = (epoch, boot, at);
            }
        }
    }

    /// The gate has let `who` in: does its program support what `at` knows that all have agreed on?
    fn keeps_the_level(&mut self, at: usize, who: usize) {
        let (machine, supports) = (&self.machines[at], self.machines[who].feature_level);
        let life = machine.process.as_ref().map_or(0, |p| p.life);
        let Some((known, _, since)) = machine.level_known.filter(|(_, of, _)| *of == life) else { return };
        if supports < known && self.at > since + KNOWN_AFTER_US {
            let (at, who) = (letter(at), letter(who));
            let what = format!("{at} knows of feature level {known}, and lets {who} in, which supports {supports}");
            self.witness.blame(Invariant::LevelForAll, what);
        }
    }

    /// The gate has let `who` in: is it no earlier start than one that has long been known there?
    fn keeps_one_life(&mut self, at: usize, who: usize) {
        let (gate, caller) = (&self.machines[at], &self.machines[who]);
        let (Some(gate), Some(process)) = (&gate.process, &caller.process) else { return };
        let Some((epoch, boot, since)) = gate.met.get(&caller.node).copied() else { return };
        let is_second = process.epoch < epoch || (process.epoch == epoch && process.boot != boot);
        if is_second && self.at > since + KNOWN_AFTER_US {
            let (who, at, now) = (letter(who), letter(at), process.epoch);
            let what =
                format!("{at} has met start {epoch} of a data directory, and lets {who} in with another start {now}");
            self.witness.blame(Invariant::OneLife, what);
        }
    }

    /// The other side has said Welcome, or something else.
    pub(super) fn dialled(&mut self, machine: usize, life: u64, dial: Dial, addr: SocketAddr) {
        if !self.is_alive(machine, life) {
            return;
        }
        let there = self.machines.iter().position(|m| m.addr == addr && m.is_up());
        let open = |to: usize| self.network.is_open(machine, to) && self.network.is_open(to, machine);
        let meet = |to: usize| self.may_meet(machine, to) && self.may_meet(to, machine);
        let Some(to) = there.filter(|to| open(*to) && meet(*to)) else {
            return self.dial_failed(machine, life, dial, "the greeting broke off");
        };
        if to == machine {
            // One's own address among the join addresses is how identical machines are configured.
            return match dial {
                Dial::Seed(seed) => {
                    let node = self.machines[machine].node.get();
                    self.feed(machine, Input::SeedAnswered { seed, node });
                }
                Dial::Keep(_) | Dial::Once(_) => {
                    self.dial_failed(machine, life, dial, "it is this agent's own address")
                }
            };
        }
        if self.machines[to].foreign != self.machines[machine].foreign {
            return self.dial_failed(machine, life, dial, "the certificate is of another cluster");
        }
        let node = self.machines[to].node.get();
        if node == self.machines[machine].node.get() {
            // As the transport does, before it asks the gate.
            self.counters.count("copies refused");
            self.machines[machine].told_of_copy = true;
            return self.dial_failed(machine, life, dial, "this data directory is a copy, or has been copied");
        }
        if let Dial::Keep(expected) | Dial::Once(expected) = dial
            && expected != node
        {
            let why = format!("node {expected:016x} was expected, node {node:016x} answers");
            return self.dial_failed(machine, life, dial, &why);
        }
        for (at, who) in [(to, machine), (machine, to)] {
            let Err(why) = self.admits(at, who) else { continue };
            self.counters.count("refused at the gate");
            self.machines[who].told_of_copy |= matches!(why, Denied::Stale { .. } | Denied::Copy { .. });
            return self.dial_failed(machine, life, dial, &why.to_string());
        }
        self.keeps_one_life(to, machine);
        self.keeps_one_life(machine, to);
        self.keeps_the_level(to, machine);
        self.keeps_the_level(machine, to);
        let mine = self.end_of(machine);
        let theirs = self.end_of(to);
        // An older life at another address is asked first.
        let older = match (self.older_lives(to, &mine), self.older_lives(machine, &theirs)) {
            (Ok(ours), Ok(others)) => ours + others,
            _ => {
                self.counters.count("copies refused");
                return self.dial_failed(machine, life, dial, "this data directory is a copy, or has been copied");
            }
        };
        self.machines[machine].admitted = true;
        self.machines[to].admitted = true;
        let link = self.network.insert(mine, theirs);
        let wait = if older > 0 { PROBE_US } else { 0 };
        let greeted = self.at + wait + self.network.delay(&mut self.noise.network[to]);
        for end in 0..2 {
            self.network.not_before(link, end, greeted);
        }
        self.push(greeted, Event::Greeted { link });
        self.link_up(link, 0);
        match dial {
            Dial::Seed(seed) => {
                self.push_to(self.at, machine, life, Happening::Input(Input::SeedAnswered { seed, node }));
            }
            Dial::Once(_) => {}
            Dial::Keep(node) => self.rest(machine, node, |kept| {
                kept.failures = 0;
                kept.busy = false;
            }),
        }
    }

    fn rest(&mut self, machine: usize, node: u64, change: impl FnOnce(&mut Kept)) {
        if let Some(kept) = self.machines[machine].process.as_mut().and_then(|p| p.kept.get_mut(&node)) {
            change(kept);
        }
    }

    fn end_of(&self, machine: usize) -> End {
        let m = &self.machines[machine];
        let life = m.process.as_ref().map_or(0, |p| p.life);
        End { machine, life, node: m.node.get(), addr: m.addr, up: false, heard: self.at, said: None }
    }

    /// Would the gate of `at` let the agent of `who` in?
    pub(super) fn admits(&self, at: usize, who: usize) -> Result<(), Denied> {
        let (gate, other) = (&self.machines[at], &self.machines[who]);
        // Both are up: the one dials, and the other was found at its address.
        let (Some(gate), Some(process)) = (&gate.process, &other.process) else { return Ok(()) };
        let caller = Caller {
            node: other.node.get(),
            name: &other.name,
            epoch: process.epoch,
            boot: process.boot,
            log_id: process.log_id,
            supports: other.feature_level,
        };
        gate.gate.admit(&caller)
    }

    /// How many connections with another life of this node at another address `at` has that do not answer any more; an
    /// error if one answers, or is of a later start.
    fn older_lives(&self, at: usize, end: &End) -> Result<usize, ()> {
        let life = self.machines[at].process.as_ref().map_or(0, |p| p.life);
        let boot = |m: usize, life: u64| self.machines[m].process.as_ref().filter(|p| p.life == life).map(|p| p.epoch);
        let mut silent = 0;
        for (id, side) in self.network.of(at, life) {
            let Some(link) = self.network.links.get(&id) else { continue };
            let other = &link.ends[1 - side];
            if other.node != end.node || other.addr == end.addr {
                continue;
            }
            let awake = self.machines[other.machine].process.as_ref().is_some_and(|p| p.paused_until <= self.at);
            let open = self.network.is_open(at, other.machine) && self.network.is_open(other.machine, at);
            let answers = other.up && awake && open && self.is_alive(other.machine, other.life);
            let later = boot(other.machine, other.life) > boot(end.machine, end.life);
            if answers || later {
                return Err(());
            }
            silent += 1;
        }
        Ok(silent)
    }

    pub(super) fn dial_failed(&mut self, machine: usize, life: u64, dial: Dial, why: &str) {
        if !self.is_alive(machine, life) {
            return;
        }
        match dial {
            Dial::Seed(seed) => {
                let named = (0..self.machines.len()).find(|m| host(*m) == seed).map(|m| self.machines[m].addr);
                let tried = named.or_else(|| seed.parse().ok()).into_iter().collect();
                self.feed(machine, Input::SeedFailed { seed, why: why.into(), refusal: None, tried });
            }
            Dial::Once(node) => self.feed(machine, Input::DialFailed { node }),
            Dial::Keep(node) => {
                let Some(process) = &mut self.machines[machine].process else { return };
                let Some(kept) = process.kept.get_mut(&node) else { return };
                kept.failures += 1;
                let doubled = REDIAL_US_MIN << kept.failures.min(16).saturating_sub(1);
                let pause = doubled.min(REDIAL_US_MAX);
                let pause = self.noise.network[machine].between(pause / 2, pause);
                self.push_to(self.at + pause, machine, life, Happening::Redial { node });
            }
        }
    }

    pub(super) fn keep(&mut self, machine: usize, node: u64, addr: SocketAddr) {
        let Some(process) = &mut self.machines[machine].process else { return };
        let life = process.life;
        let kept = process.kept.entry(node).or_insert(Kept { addr, failures: 0, busy: false, waited: false });
        kept.addr = addr;
        if !kept.busy {
            self.redial(machine, life, node);
        }
    }

    pub(super) fn unkeep(&mut self, machine: usize, node: u64) {
        let Some(process) = &mut self.machines[machine].process else { return };
        process.kept.remove(&node);
        let life = process.life;
        for (link, side) in self.network.of(machine, life) {
            let ours = self.network.links.get(&link).is_some_and(|l| side == 0 && l.ends[1].node == node);
            if ours {
                self.link_down(link, side, "no longer kept");
            }
        }
    }

    /// Every connection with this node ends, whoever dialled it.
    pub(super) fn release(&mut self, machine: usize, life: u64, node: u64) {
        for (link, side) in self.network.of(machine, life) {
            if self.network.links.get(&link).is_some_and(|l| l.ends[1 - side].node == node) {
                self.link_down(link, side, "no longer used");
            }
        }
    }

    pub(super) fn redial(&mut self, machine: usize, life: u64, node: u64) {
        let has = self.network.route(machine, life, node).is_some();
        let me = self.machines[machine].node.get();
        let Some(process) = self.machines[machine].process.as_mut().filter(|p| p.life == life) else { return };
        let Some(kept) = process.kept.get_mut(&node) else { return };
        kept.busy = !has;
        let is_polite = kept.failures == 0 && me > node && !kept.waited;
        kept.waited = !has && is_polite;
        let addr = kept.addr;
        if has {
            return;
        }
        if is_polite {
            // Most likely the other side keeps this node, too: it dials first.
            return self.push_to(self.at + COURTESY_US, machine, life, Happening::Redial { node });
        }
        self.dial(machine, life, Dial::Keep(node), addr);
    }

    // ---- up and down ----

    pub(super) fn greeted(&mut self, link: u64) {
        let Some(l) = self.network.links.get(&link) else { return };
        let (dialler, acceptor) = (l.ends[0].clone(), l.ends[1].clone());
        let dead = !self.is_alive(acceptor.machine, acceptor.life) || !dialler.up;
        if dead || !self.network.is_open(dialler.machine, acceptor.machine) {
            // The acceptor's deadline passes; the dialler finds out by silence.
            return;
        }
        self.link_up(link, 1);
    }

    /// This side has a connection now. Those with an older life of the other one end.
    fn link_up(&mut self, link: u64, side: usize) {
        let Some(l) = self.network.links.get_mut(&link) else { return };
        l.ends[side].up = true;
        l.ends[side].heard = self.at;
        let (mine, other) = (l.ends[side].clone(), l.ends[1 - side].clone());
        self.meets(mine.machine, &other);
        let before = self.network.of(mine.machine, mine.life);
        let mut connected = false;
        for (id, end) in before {
            let Some(old) = self.network.links.get(&id).filter(|_| id != link) else { continue };
            let their = &old.ends[1 - end];
            if their.node != other.node {
                continue;
            }
            let same_life = their.is_of(&other);
            connected |= same_life;
            if !same_life || end == side {
                self.counters.count("connections superseded");
                self.link_gone(id, end);
            }
            if !same_life {
                self.tell_down(mine.machine, mine.life, other.node, Some(&other));
            }
        }
        if !connected {
            self.tell_up(&mine, &other);
        }
    }

    fn tell_up(&mut self, mine: &End, other: &End) {
        let their = &self.machines[other.machine];
        let Some(process) = their.process.as_ref().filter(|p| p.life == other.life) else { return };
        let peer = Peer {
            node: other.node,
            name: their.name.clone(),
            epoch: process.epoch,
            boot: process.boot,
            log_id: process.log_id,
            addr: other.addr,
            observed: Some(mine.addr),
            version: their.version.clone(),
            founder: their.bootstrap,
            supports: their.feature_level,
            expects: process.expects,
        };
        if self.is_alive(mine.machine, mine.life) {
            self.say(format_args!("{} is connected with {}", letter(mine.machine), letter(other.machine)));
            self.feed(mine.machine, Input::PeerUp(peer));
        }
    }

    /// The last connection with this node is gone; one with its process `except` is only just coming up.
    fn tell_down(&mut self, machine: usize, life: u64, node: u64, except: Option<&End>) {
        let others = self.network.of(machine, life);
        let still = others.iter().filter_map(|(id, side)| Some(&self.network.links.get(id)?.ends[1 - side]));
        let still =
            still.filter(|their| their.node == node && except.is_none_or(|except| !their.is_of(except))).count();
        if self.is_alive(machine, life) && still == 0 {
            self.say(format_args!("{} is no longer connected with {node:016x}", letter(machine)));
            self.counters.count("connections lost");
            self.feed(machine, Input::PeerDown { node });
        } else if self.is_alive(machine, life) && still > 0 {
            self.counters.count("frames lost");
            self.feed(machine, Input::FramesLost { node });
        }
    }

    /// One side ends; it tells the other, if there is a way.
    pub(super) fn link_down(&mut self, link: u64, side: usize, why: &str) {
        let Some(l) = self.network.links.get(&link).filter(|l| l.ends[side].up) else { return };
        let (mine, other) = (l.ends[side].clone(), l.ends[1 - side].clone());
        self.say(format_args!("{} drops a connection with {}: {why}", letter(mine.machine), letter(other.machine)));
        self.link_gone(link, side);
        if self.network.is_open(mine.machine, other.machine) {
            let arrives = self.at + self.network.delay(&mut self.noise.network[mine.machine]);
            self.push(arrives, Event::Closed { link, side: 1 - side });
        }
        self.tell_down(mine.machine, mine.life, other.node, None);
        self.redial(mine.machine, mine.life, other.node);
    }

    fn link_gone(&mut self, link: u64, side: usize) {
        if let Some(l) = self.network.links.get_mut(&link) {
            l.ends[side].up = false;
            l.stalled[side].clear();
        }
    }

    /// What the transport's timers do: notice that what was said has no answer, and processes that are no more.
    pub(super) fn housekeeping(&mut self) {
        let mut ends = Vec::new();
        let (at, idle_us) = (self.at, self.plan.knobs.idle_us);
        for (id, link) in &mut self.network.links {
            for side in 0..2 {
                let (mine, other) = (link.ends[side].clone(), link.ends[1 - side].clone());
                if !mine.up {
                    continue;
                }
                let their = &self.machines[other.machine];
                let their_life = their.process.as_ref().map(|p| p.life);
                let asleep = their.process.as_ref().is_some_and(|p| p.paused_until > at);
                let open = !self.network.cut.contains(&(other.machine, mine.machine));
                let same_place = their.addr == other.addr;
                let since = mine.said.or((at > mine.heard + REST_US).then_some(mine.heard + REST_US));
                if open && same_place && !asleep && since.is_some() && their_life.is_some_and(|l| l != other.life) {
                    // A new process answers with a stateless reset.
                    ends.push((*id, side, "reset by a new process"));
                } else if open && !asleep && their_life == Some(other.life) && other.up {
                    link.ends[side].heard = at;
                    link.ends[side].said = None;
                } else if since.is_some_and(|since| at > since + idle_us) {
                    ends.push((*id, side, "silent for too long"));
                }
            }
        }
        for (link, side, why) in ends {
            self.link_down(link, side, why);
        }
        let machines = &self.machines;
        let alive = |e: &End| machines[e.machine].process.as_ref().is_some_and(|p| p.life == e.life);
        self.network.links.retain(|_, l| l.ends.iter().any(|e| e.up && alive(e)));
    }
}
