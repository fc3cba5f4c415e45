//! Verdict: the calm after the storm. Everything is healed; the agents must converge and serve within a bound.
//!
//! It asks them through their front door only.

use super::client::{End, Kind, TICK_US};
use super::clock::TRUE_PACE;
use super::event::Happening;
use super::invariant::Invariant;
use super::machine::Machine;
use super::plan::{MS, SECOND, letter};
use super::world::World;
use crate::api::Status;
use quorate_raft::{Configuration, NodeId};
use std::collections::BTreeSet;

/// Everyone agrees on one leader and one group within this time of calm.
const CONVERGE_WITHIN_US: u64 = 45 * SECOND;
/// A new leader watches for so long before it calls anybody dead, in microseconds.
const SETTLE_US: u64 = 10 * SECOND;
/// And who expects others, and has founded no log with them when the calm begins, may have to call off pledges first: each
/// founder waits longer for that than the one before, and a pledge that is called off may be followed by another one.
const FOUND_WITHIN_US: u64 = 90 * SECOND;
/// Failures make a spare wait so many times longer, at most.
const FLAPS_DOUBLE: u64 = 16;
/// After healing, somebody leads within so many election timeouts ...
const LEADER_WITHIN_TIMEOUTS: u64 = 10;
/// ... counted from when one of them is connected with a quorum, and so it stays. Dead connections end and the next dial
/// comes within this: a greeting has its deadline, and so has the pause before the next one.
const GREETING_US: u64 = 10 * SECOND;
/// Between two looks.
const LOOK_EVERY_US: u64 = 500 * MS;
/// Once all are of one mind, a replica that is behind gets at least so many entries a second, however few an append may
/// hold; and some time for what else there is to do.
const CATCH_UP_PER_SECOND: u64 = 100;
const CATCH_UP_WITHIN_US: u64 = 5 * SECOND;
/// Who cannot read its own log applies nothing of that before it is given back; whoever could not say whether it has that is
/// asked again within this time, answers included.
const ASKED_AGAIN_WITHIN_US: u64 = 15 * SECOND;
/// And gets back what it could not read within this time: several tries, and some pieces each.
const REPAIR_WITHIN_US: u64 = 30 * SECOND;
/// A request in a calm world is answered well within this time.
const SERVE_WITHIN_US: u64 = 5 * SECOND;

impl World {
    /// Storm, calm, verdict.
    pub(super) fn run_plan(&mut self) {
        self.run_to(self.plan.calm_at_us);
        if self.witness.violation().is_some() {
            return;
        }
        self.calm();
        self.converge();
        self.catch_up();
        self.serve();
        self.settle();
        self.be_whole();
    }

    /// How long it may take until all are of one mind: what the autopilot is told to wait for comes on top.
    fn converge_within(&self) -> u64 {
        let k = &self.plan.knobs;
        let is_churn = k.replace_after_us < CONVERGE_WITHIN_US;
        let waits = k.replace_after_us + SETTLE_US + self.flaps_are_forgotten_within();
        let founds = self.histories.is_empty() && self.machines.iter().any(|m| m.expect > 0);
        CONVERGE_WITHIN_US + if is_churn { waits } else { 0 } + if founds { FOUND_WITHIN_US } else { 0 }
    }

    /// How long a spare that came and went has to wait for a seat.
    fn flaps_are_forgotten_within(&self) -> u64 {
        FLAPS_DOUBLE * self.plan.knobs.stabilization_us + self.plan.knobs.flap_window_us
    }

    fn calm(&mut self) {
        self.say(format_args!("--- calm"));
        self.clients_run = false;
        self.network.loss = 0;
        self.network.duplicate = 0;
        self.network.reorder = 0;
        self.network.delay_us_max = self.network.delay_us_max.min(2 * MS).max(self.network.delay_us_min);
        self.network.not_reading.clear();
        self.network.breaking.clear();
        self.gossip_lost.clear();
        self.heal();
        for machine in 0..self.machines.len() {
            if self.machines[machine].retired {
                self.copy_ends(machine);
                continue;
            }
            self.audit(machine);
            self.machines[machine].disk.heal();
            self.machines[machine].slow_disk = None;
            self.machines[machine].hangs_us = None;
            if let Some(life) = self.machines[machine].process.as_ref().filter(|p| p.syncing.is_some()).map(|p| p.life)
            {
                // A call that hangs returns.
                self.push_to(self.at + MS, machine, life, Happening::Synced);
            }
            self.tearing.remove(&machine);
            self.resume(machine);
            self.pace(machine, TRUE_PACE);
            // Who was refused for its age is upgraded by its operator, like everybody else.
            self.upgrade(machine, MS);
        }
        self.look_after();
    }

    fn converge(&mut self) {
        let since = self.at;
        let mut why = String::new();
        let mut stable = 0;
        self.elect(since);
        let mut within = self.converge_within();
        let mut may_wait = true;
        while self.at < since + within && self.witness.violation().is_none() {
            self.run_to(self.at + LOOK_EVERY_US);
            self.look_after();
            match self.is_of_one_mind() {
                Ok(()) => stable += 1,
                Err(reason) => {
                    stable = 0;
                    why = reason;
                }
            }
            if stable >= 2 {
                self.counters.add("ms to converge", (self.at - since) / MS);
                return;
            }
            if self.at + LOOK_EVERY_US > since + within && std::mem::take(&mut may_wait) && self.somebody_flapped() {
                within += self.flaps_are_forgotten_within();
            }
        }
        if self.witness.violation().is_none() {
            self.tell_the_autopilot();
            let seconds = within / SECOND;
            self.witness
                .blame(Invariant::Converges, format!("not of one mind {seconds} s after everything was healed: {why}"));
        }
    }

    /// Somebody leads soon, if those who are up can elect one: the bound of the contract.
    fn elect(&mut self, since: u64) {
        let within = LEADER_WITHIN_TIMEOUTS * quorate_raft::Options::default().election_timeout_max.as_micros() as u64;
        let (until, mut connected) = (since + within + GREETING_US, None);
        while self.witness.violation().is_none() && self.leader().is_none() && self.somebody_can_be_elected() {
            connected = connected.filter(|_| self.may_elect()).or_else(|| self.may_elect().then_some(self.at));
            if self.at > until || connected.is_some_and(|connected| self.at > connected + within) {
                let ms = (self.at - connected.unwrap_or(since)) / MS;
                self.witness.blame(Invariant::LeaderSoon, format!("no leader {ms} ms after everything was healed"));
                return;
            }
            self.run_to(self.at + 20 * MS);
        }
        if self.leader().is_some() {
            self.counters.add("ms to a leader", (self.at - since) / MS);
        }
    }

    /// Is there a voter whom those who are up can elect?
    fn somebody_can_be_elected(&self) -> bool {
        self.candidates(|_, _| true).next().is_some()
    }

    /// Is there one that is connected with all whose votes it needs?
    fn may_elect(&self) -> bool {
        self.candidates(|candidate, voter| {
            let (m, node) = (&self.machines[candidate], self.machines[voter].node);
            candidate == voter || self.reaches(candidate, m.lives, node.get())
        })
        .next()
        .is_some()
    }

    /// Voters by the newest configuration in their own log, committed or not, for whom a quorum of that may vote: whoever is
    /// up, is asked, and has nothing newer on its disk. While voters change it takes two majorities, and a voter that was
    /// killed with the step that removes another one is missed in both until it is back.
    fn candidates(&self, asks: impl Fn(usize, usize) -> bool) -> impl Iterator<Item = usize> {
        let up = |m: &usize| self.machines[*m].counts() && self.machines[*m].is_up() && !self.machines[*m].harmed;
        let ups: Vec<usize> = (0..self.machines.len()).filter(up).collect();
        let newest = |m: usize| {
            let log = &self.machines[m].durable.log;
            (log.last().map(|(term, _)| *term), log.len())
        };
        ups.clone().into_iter().filter(move |candidate| {
            let machine = &self.machines[*candidate];
            let Some((_, c)) = machine.configurations.iter().next_back() else { return false };
            let votes = |voter: &&usize| newest(**voter) <= newest(*candidate) && asks(*candidate, **voter);
            let voting: BTreeSet<NodeId> = ups.iter().filter(votes).map(|m| self.machines[*m].node).collect();
            let elects = |v: &BTreeSet<NodeId>| v.is_empty() || v.intersection(&voting).count() > v.len() / 2;
            c.is_voter(machine.node) && elects(&c.voters) && elects(&c.outgoing)
        })
    }

    /// One leader, one group that holds every agent that there is room for, nobody who is gone.
    pub(super) fn is_of_one_mind(&mut self) -> Result<(), String> {
        if self.operations.iter().any(|o| o.kind == Kind::Leave && o.end.is_none()) {
            return Err("an agent is leaving".into());
        }
        if self.at < self.operators_until && !self.clients_run {
            return Err("an operator may still be at work".into());
        }
        let mut all: Vec<Status> = Vec::new();
        for machine in (0..self.machines.len()).filter(|m| self.machines[*m].counts()).collect::<Vec<_>>() {
            let status = self.status(machine);
            all.push(status.ok_or_else(|| format!("{} is down", letter(machine)))?);
        }
        let Some(first) = all.first() else { return Ok(()) };
        let leader = first.leader.clone().ok_or_else(|| format!("{} knows no leader", first.name))?;
        for status in &all {
            let same = status.leader.as_ref() == Some(&leader) && status.term == first.term;
            if !same {
                return Err(format!("{} says {:?} leads in term {}", status.name, status.leader, status.term));
            }
            if status.voters != first.voters || status.learners != first.learners {
                return Err(format!("{} sees voters {:?}, learners {:?}", status.name, status.voters, status.learners));
            }
        }
        let Some(configuration) = self.witness.configuration().cloned() else { return Err("no group".into()) };
        let ours = || self.machines.iter().filter(|m| m.counts());
        let present: BTreeSet<u64> = ours().map(|m| m.node.get()).collect();
        self.ghosts_have_no_heirs(&configuration, &present)?;
        if let Some(leaver) = ours().find(|m| self.witness.has_departed(m.node.get())) {
            return Err(format!("{} has left, and is still there", leaver.name));
        }
        if let Some(held) =
            ours().find(|m| self.witness.is_draining(m.node.get()) || self.witness.is_pinned(m.node.get()))
        {
            return Err(format!("{} is drained, or pinned to its seat", held.name));
        }
        let ghosts = configuration.members().iter().filter(|n| !present.contains(&n.get())).count();
        let room = crate::node::REPLICAS_MAX_DEFAULT.min(ours().count() + ghosts);
        if configuration.members().len() < room || !configuration.outgoing.is_empty() {
            return Err(format!("{} of {room} agents are in the group", configuration.members().len()));
        }
        // Each agent is a voter as far as odd growth allows.
        let idle = configuration.learners.iter().filter(|n| !present.contains(&n.get())).count();
        let most = (room - idle.min(room)).min(5);
        let target = if most.is_multiple_of(2) { most - 1 } else { most };
        if configuration.voters.len() < target {
            return Err(format!("{} voters, {target} could be", configuration.voters.len()));
        }
        self.zones_are_spread(&configuration)
    }

    /// Who is gone for good has a seat only as long as there is nobody to take it.
    fn ghosts_have_no_heirs(&self, configuration: &Configuration, present: &BTreeSet<u64>) -> Result<(), String> {
        let is_ghost = |n: &&NodeId| !present.contains(&n.get());
        // It may have been wiped before it died, and never told anybody its new name.
        let lost = self.machines.iter().any(|m| m.lost);
        let spare = configuration.learners.iter().any(|n| present.contains(&n.get()));
        let all = configuration.members();
        if let Some(gone) = all.iter().find(is_ghost).filter(|_| !lost) {
            return Err(format!("{gone} is in the group, and its disk is gone"));
        }
        match configuration.voters.iter().find(is_ghost) {
            Some(ghost) if spare => Err(format!("{ghost} votes, is gone for good, and a spare stands by")),
            _ => Ok(()),
        }
    }

    /// No spare could take a seat that would spread the voters better.
    fn zones_are_spread(&self, configuration: &Configuration) -> Result<(), String> {
        let zone = |n: &NodeId| self.machines.iter().find(|m| m.node == *n).and_then(|m| m.zone.clone());
        let crowd = |n: &NodeId| configuration.voters.iter().filter(|v| zone(v) == zone(n)).count();
        if configuration.members().iter().all(|n| zone(n).is_none()) {
            return Ok(());
        }
        let lives = |n: &&NodeId| self.machines.iter().any(|m| m.counts() && m.node == **n);
        for spare in configuration.learners.iter().filter(lives) {
            if let Some(crowded) = configuration.voters.iter().find(|v| crowd(v) >= crowd(spare) + 2) {
                let (theirs, other) = (zone(crowded), zone(spare));
                return Err(format!("zone {theirs:?} has {} voters, zone {other:?} {}", crowd(crowded), crowd(spare)));
            }
        }
        Ok(())
    }

    /// Every replica applies what stands now.
    fn catch_up(&mut self) {
        let standing = self.witness.standing();
        let members = self.witness.configuration().map(|c| c.members()).unwrap_or_default();
        let last = move |w: &Self| {
            let replicas = w.machines.iter().filter(|m| m.counts() && members.contains(&m.node));
            let applied = |m: &Machine| m.process.as_ref().map_or(0, |p| p.published.readable_index.0);
            replicas.map(|m| (applied(m), m.name.clone())).min().filter(|(applied, _)| *applied < standing)
        };
        let missing = last(self).map_or(0, |(applied, _)| standing - applied);
        let is_damaged = |m: &Machine| m.process.as_ref().is_some_and(|p| !p.damaged.is_empty());
        let asks = self.machines.iter().any(|m| m.counts() && is_damaged(m));
        let within =
            CATCH_UP_WITHIN_US + missing * SECOND / CATCH_UP_PER_SECOND + if asks { ASKED_AGAIN_WITHIN_US } else { 0 };
        if !self.run_until(within, |w| last(w).is_none())
            && let Some((applied, name)) = last(self)
        {
            let what = format!("{name} has applied {applied} of {standing} entries, and lacked {missing} before");
            self.witness.blame(Invariant::ReplicasEqual, what);
        }
    }

    /// Every agent takes an append and a read.
    fn serve(&mut self) {
        for machine in (0..self.machines.len()).filter(|m| self.machines[*m].counts()).collect::<Vec<_>>() {
            // Two ends may dial each other twice even now; the connection that gives way takes with it what is under way,
            // and the client hears the truth: unknown. The next one must succeed.
            let served = (0..2).any(|_| {
                let first = self.next_value;
                self.next_value += 1;
                self.is_served(machine, Kind::Append { first, count: 1 })
            });
            let served = served && self.is_served(machine, Kind::Read);
            if !served && self.witness.violation().is_none() {
                let end = self.operations.last().and_then(|o| o.end.clone());
                let what = format!("{} does not serve in the calm: {end:?}", letter(machine));
                self.witness.blame(Invariant::Serves, what);
            }
        }
    }

    fn is_served(&mut self, machine: usize, kind: Kind) -> bool {
        let Some(number) = self.ask(None, machine, kind, SERVE_WITHIN_US) else { return false };
        self.run_until(SERVE_WITHIN_US + SECOND, |w| w.operations[number].end.is_some());
        let end = &self.operations[number].end;
        if matches!(end, Some(e) if e.word() == "unknown") {
            self.counters.count("unknown in the calm");
        }
        matches!(end, Some(End::Answered(Ok(_))))
    }

    /// Everything asked was answered, and all replicas are equal.
    fn settle(&mut self) {
        if self.witness.violation().is_some() {
            return;
        }
        self.run_to(self.at + SECOND);
        let open = self.operations.iter().find(|o| o.end.is_none() && self.lateness(o.machine, o.deadline) > TICK_US);
        if let Some(open) = open {
            let what = format!("{} never answered {:?}", letter(open.machine), open.kind);
            self.witness.blame(Invariant::OneAnswer, what);
        }
        self.witness.all_acked_stand();
        // Leadership may have been handed over meanwhile, and the new leader may still be waiting for a dial that was begun in
        // the storm: its first entry reaches everybody once that is over.
        if !self.run_until(GREETING_US, |w| w.unequal().is_none())
            && let Some(what) = self.unequal()
        {
            self.witness.blame(Invariant::ReplicasEqual, what);
            return;
        }
        let standing = self.witness.standing();
        self.counters.add("entries", standing);
        self.counters.add("configurations", self.witness.configurations().count() as u64);
        self.counters.add("terms", self.witness.term().0);
        self.counters.add("voters replaced", self.witness.voters_replaced());
        self.counters.add("levels raised", self.witness.levels_raised());
    }

    /// A replica that has not applied all that stands, or whose disk ends otherwise.
    fn unequal(&self) -> Option<String> {
        let standing = self.witness.standing();
        let members = self.witness.configuration().map(|c| c.members()).unwrap_or_default();
        let chain = self.witness.chain(standing).unwrap_or(0);
        self.machines.iter().filter(|m| m.counts() && members.contains(&m.node)).find_map(|machine| {
            let applied = machine.process.as_ref()?.published.readable_index.0;
            if applied != standing {
                return Some(format!("{} has applied {applied} of {standing} entries", machine.name));
            }
            let ends_alike = machine.durable.holds(standing, chain);
            (!ends_alike).then(|| format!("the disk of {} does not end as the others' do", machine.name))
        })
    }

    /// What could not be read somewhere was given back by those who hold it: each harm left that with every other voter.
    fn be_whole(&mut self) {
        let members = self.witness.configuration().map(|c| c.members()).unwrap_or_default();
        let damaged = move |w: &Self| {
            let replicas = w.machines.iter().filter(|m| m.counts() && members.contains(&m.node));
            let mut ranges =
                replicas.filter_map(|m| Some((m.name.clone(), m.process.as_ref()?.damaged.first()?.clone())));
            ranges.next()
        };
        if self.witness.violation().is_none()
            && !self.run_until(REPAIR_WITHIN_US, |w| damaged(w).is_none())
            && let Some((name, range)) = damaged(self)
        {
            let what = format!("{name} still cannot read entries {} to {}: {}", range.first, range.last, range.what);
            self.witness.blame(Invariant::Healed, what);
        }
    }
}
