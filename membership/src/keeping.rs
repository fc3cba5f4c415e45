//! Keeping: what is done because time passed. Gossip, exchanges, reconnection, leaving, forgetting.
//!
//! It never wakes without need: each timer is set only while there is something to do for it.

use crate::comparing::OVER_AFTER;
use crate::exchange::Row;
use crate::identity::Identity;
use crate::io::Output;
use crate::member::State;
use crate::membership::Membership;
use crate::options::EXCHANGE_WAIT_MIN;
use crate::place::is_dialable;
use crate::status::Phase;
use crate::timers::Due;
use rand::RngExt;
use std::collections::BTreeSet;
use std::time::Duration;

/// The most failed members dialled at once while this node is alone.
const REDIALS_MAX: usize = 8;
/// Up to this many present members every tick dials a failed one; beyond, as often as Serf: failed / present.
const REDIAL_ALWAYS: usize = 10;
/// How many nameless members are asked for their records at once; their answers name others, too.
const ASKED_MAX: usize = 3;
/// How many members are tried in one turn to exchange tables, until one answers.
const EXCHANGE_TRIES: u32 = 3;
/// Node ids remembered as gone for good: operators forget one disk at a time.
const FORGOTTEN_MAX: usize = 4096;
/// To how many members a leaving node gives its table.
const FAREWELLS_MAX: usize = 3;

impl Membership {
    /// A process that was not run for a while missed the answers to its probes: that time does not count, and those that
    /// have come meanwhile are heard first.
    pub(crate) fn forgive_own_sleep(&mut self) {
        let now = self.now.mono;
        let Some(first) = self.timers.first_judging() else { return };
        let late = now.since(first);
        if late <= self.options.probe_timeout {
            return;
        }
        self.health.worse(1);
        let is_stall = late > (self.options.probe_period * 2).max(Duration::from_secs(1));
        // A process that is always a little late must judge at some time.
        if !is_stall && now < self.forgiven.after(self.options.probe_period * 2) {
            return;
        }
        self.forgiven = now;
        let by = late + self.options.probe_timeout;
        self.timers.postpone_judging(by);
        self.postpone_judgements(by);
        if is_stall {
            self.counters.stalls += 1;
            // What do the others say of it? Who is suspected answers.
            let others = self.roster.others().map(|entry| entry.node).collect();
            for node in self.choose(others, ASKED_MAX) {
                self.exchange_with(node);
            }
        }
    }

    /// Does all that is due.
    pub(crate) fn run_due(&mut self) {
        while let Some(timer) = self.timers.pop_foca(self.now.mono) {
            self.repeat_probe(&timer);
            let effects = self.swim.timer(timer);
            self.carry_out(effects);
        }
        while let Some(due) = self.timers.pop_own(self.now.mono) {
            match due {
                Due::Gossip => self.gossip(),
                Due::Exchange => self.exchange_with_someone(0),
                Due::ExchangeAgain => self.exchange_again(),
                Due::Reconnect => self.reconnect(),
                Due::Introduce => self.introduce_overdue(),
                Due::Leave => self.leave_further(),
                Due::Fetch => self.fetch_tags(),
                Due::Doubt => self.end_doubts(),
                Due::Suspicion => self.look_into_suspicions(),
                Due::Watch => self.watch(),
                Due::Paths => self.try_paths(),
                Due::Reap => self.reap(),
            }
        }
    }

    /// Sets the timers for which there is something to do, and clears the others.
    pub(crate) fn arm(&mut self) {
        let now = self.now.mono;
        if self.phase == Phase::Left {
            self.timers.clear_all();
            return;
        }
        let alone = self.is_alone();
        let news = self.swim.backlog() > 0 || !self.broadcasts.is_empty();
        if !news || alone {
            self.timers.clear(Due::Gossip);
        } else if !self.timers.is_set(Due::Gossip) {
            let next = self.last_gossip.map_or(now, |last| last.after(self.options.gossip_interval).max(now));
            self.timers.set(Due::Gossip, next);
        }
        if alone || self.departed {
            self.timers.clear(Due::Watch);
        } else if !self.timers.is_set(Due::Watch) {
            self.timers.set(Due::Watch, now);
        }
        if alone || self.departed {
            self.timers.clear(Due::Exchange);
            self.comparing.turn = None;
            self.exchange_wait = EXCHANGE_WAIT_MIN;
        } else if !self.timers.is_set(Due::Exchange) {
            let wait = self.exchange_wait.min(self.options.exchange_period(self.roster.present()));
            let at = now.after(self.jitter(wait));
            self.timers.set(Due::Exchange, at);
            self.exchange_wait = wait * 2;
        }
        if self.comparing.turn.is_none() {
            self.timers.clear(Due::ExchangeAgain);
        }
        if self.departed || !(alone || self.roster.failed() > 0) {
            self.timers.clear(Due::Reconnect);
        } else if !self.timers.is_set(Due::Reconnect) {
            let at = now.after(self.jitter(self.options.reconnect_interval));
            self.timers.set(Due::Reconnect, at);
        }
        if let Some(at) = self.roster.take_introduce_at() {
            self.timers.set_at_latest(Due::Introduce, at);
        }
        if self.roster.take_gone() {
            // The true deadline is found when it is looked for; until then it is at least this far.
            let soonest = self.options.tombstone_timeout.min(crate::forgetting::STRANGER_TIMEOUT);
            self.timers.set_at_latest(Due::Reap, now.after(soonest));
        }
        if self.phase == Phase::Leaving {
            let sent = if self.departed { !news } else { !self.broadcasts.contains(self.me) };
            if sent || alone || self.awaited.as_ref().is_some_and(BTreeSet::is_empty) {
                self.timers.set_at_latest(Due::Leave, now);
            }
        }
    }

    /// `period` and up to a fifth more or less.
    fn jitter(&mut self, period: Duration) -> Duration {
        let us = u64::try_from(period.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(us - us / 5 + self.rng.random_range(0..=us / 5 * 2))
    }

    fn gossip(&mut self) {
        self.last_gossip = Some(self.now.mono);
        let effects = self.swim.gossip();
        self.carry_out(effects);
    }

    /// Some of these nodes, in random order.
    pub(crate) fn choose(&mut self, mut nodes: Vec<u64>, count: usize) -> Vec<u64> {
        let count = count.min(nodes.len());
        for i in 0..count {
            let j = self.rng.random_range(i..nodes.len());
            nodes.swap(i, j);
        }
        nodes.truncate(count);
        nodes
    }

    /// Who is known by no name yet is announced without one, and asked for its record.
    fn introduce_overdue(&mut self) {
        let (unknown, next) = self.roster.introduce_overdue(self.now);
        for node in self.choose(unknown, ASKED_MAX) {
            self.exchange_with(node);
        }
        if let Some(at) = next {
            self.timers.set_at_latest(Due::Introduce, at);
        }
    }

    /// After so many who did not answer.
    fn exchange_with_someone(&mut self, unanswered: u32) {
        let silent = self.comparing.turn.map(|(node, _)| node).filter(|_| unanswered > 0);
        let others = self.roster.others().map(|entry| entry.node).filter(|node| Some(*node) != silent).collect();
        for node in self.choose(others, 1) {
            self.exchange_with(node);
            self.comparing.turn = Some((node, unanswered));
            self.timers.set(Due::ExchangeAgain, self.now.mono.after(OVER_AFTER));
        }
    }

    /// Who was chosen may be gone, or out of reach; the next turn is minutes away, and until then whoever is not heard of by
    /// gossip would stay unknown.
    fn exchange_again(&mut self) {
        match self.comparing.turn {
            Some((_, unanswered)) if unanswered + 1 < EXCHANGE_TRIES => self.exchange_with_someone(unanswered + 1),
            _ => self.comparing.turn = None,
        }
    }

    fn failed(&self) -> Vec<u64> {
        self.roster.visible().filter(|entry| entry.state == State::Failed).map(|entry| entry.node).collect()
    }

    fn reconnect(&mut self) {
        if self.is_alone() {
            self.outbox.push_back(Output::SeedsWanted);
            let failed = self.failed();
            for node in self.choose(failed, REDIALS_MAX) {
                self.retry(node);
            }
            return;
        }
        let (failed, present) = (self.roster.failed(), self.roster.present());
        if failed > 0 && (present <= REDIAL_ALWAYS || self.rng.random_range(0..present) < failed) {
            let failed = self.failed();
            for node in self.choose(failed, 1) {
                self.retry(node);
            }
        }
    }

    /// Tries to reach a member that we hold for failed.
    pub(crate) fn retry(&mut self, node: u64) {
        let Some(entry) = self.roster.get(node) else { return };
        let (connected, addr) = (entry.connected, entry.addr());
        if connected && let Some(seen) = entry.seen {
            // We can talk, but one of us holds the other for dead: this settles it.
            let effects = self.swim.announce(seen.identity);
            self.carry_out(effects);
            self.ask(node, &[node]);
        } else if is_dialable(addr) {
            self.outbox.push_back(Output::Reconnect { node, addr });
        }
    }

    /// The intent to leave is spread first, so that nobody takes what follows for a failure.
    pub(crate) fn leave(&mut self) {
        if self.phase != Phase::Member {
            return;
        }
        self.phase = Phase::Leaving;
        self.publish(|record| record.leaving = true);
        if self.is_alone() {
            return self.leave_further();
        }
        self.farewell();
        self.timers.set(Due::Leave, self.now.mono.after(self.options.leave_patience));
    }

    fn farewell(&mut self) {
        let present: Vec<u64> = self.roster.others().map(|entry| entry.node).collect();
        self.awaited = (present.len() <= FAREWELLS_MAX).then(|| present.iter().copied().collect());
        for node in self.choose(present, FAREWELLS_MAX) {
            self.ask(node, &[]);
        }
    }

    /// Among few members each is told over a stream, and its answer says whether it knows: then nobody need wait.
    pub(crate) fn hear_farewell_confirmed(&mut self, from: u64, rows: &[Row]) {
        let Some(awaited) = &mut self.awaited else { return };
        let me = rows.iter().find(|row| row.seen.identity.node == self.me);
        let knows = me.is_some_and(|row| match self.departed {
            true => row.seen.liveness == foca::State::Down,
            false => row.record.as_ref().is_some_and(|record| record.leaving),
        });
        if knows {
            awaited.remove(&from);
        }
    }

    fn leave_further(&mut self) {
        if self.phase != Phase::Leaving {
            return;
        }
        if !self.departed && !self.is_alone() {
            self.departed = true;
            let effects = self.swim.leave();
            self.carry_out(effects);
            self.farewell();
            self.timers.set(Due::Leave, self.now.mono.after(self.options.leave_patience));
            return;
        }
        if !self.departed {
            self.departed = true;
            let effects = self.swim.leave();
            self.carry_out(effects);
        }
        self.phase = Phase::Left;
        self.outbox.push_back(Output::LeaveDone);
    }

    /// A node id is gone for good. That is remembered, since tables of others still tell of it.
    pub(crate) fn forget(&mut self, node: u64) {
        if node == self.me || self.forgotten.len() >= FORGOTTEN_MAX || self.forgotten.contains(&node) {
            return;
        }
        if let Some(seen) = self.roster.get(node).and_then(|entry| entry.seen) {
            // Foca forgets only whom it holds for down.
            let down = foca::Member::new(seen.identity, seen.incarnation, foca::State::Down);
            let effects = self.swim.apply(vec![down], false);
            self.carry_out(effects);
        }
        // From here on nothing of it gets into the table again.
        self.forgotten.insert(node);
        if let Some(identity) = self.roster.forget(node) {
            let effects = self.swim.forget(identity);
            self.carry_out(effects);
        }
        self.broadcasts.remove(node);
    }

    fn reap(&mut self) {
        let (forget, next): (Vec<Identity>, _) = self.roster.reap(self.now, self.options.tombstone_timeout);
        for identity in forget {
            let effects = self.swim.forget(identity);
            self.carry_out(effects);
            self.broadcasts.remove(identity.node);
        }
        if let Some(at) = next {
            self.timers.set(Due::Reap, at);
        }
    }
}
