//! Requests: what clients ask of agents, and what is made of the answers.
//!
//! Each has exactly one end, in time; the witness hears of all of them.

use super::client::{End, Kind, Operation, TICK_US};
use super::event::{Event, Happening};
use super::invariant::Invariant;
use super::plan::{MS, SECOND, letter};
use super::world::World;
use crate::api::{Answer, Effect, Status};
use crate::node::{Input, Reply, Request};
use quorate_raft::Mono;

impl World {
    /// Asks an agent something. Gives the number of the operation; none if the agent is down.
    pub(super) fn ask(&mut self, client: Option<usize>, machine: usize, kind: Kind, timeout_us: u64) -> Option<usize> {
        let bytes = match self.random.below(20) {
            0 => 5_000,
            1..=3 => 300,
            _ => 0,
        };
        let at = self.at;
        let floor = self.witness.acked_next();
        let process = self.machines[machine].process.as_mut()?;
        process.next_request += 1;
        let id = process.next_request;
        let (life, deadline) = (process.life, process.clock.read(at + timeout_us));
        process.requests.insert(id, self.operations.len());
        let operation = Operation { client, machine, kind, deadline, floor, end: None };
        self.operations.push(operation);
        self.say(format_args!("{} is asked: {kind:?}", letter(machine)));
        let request = Request { id, who: "client sim".into(), deadline, what: kind.what(timeout_us, bytes) };
        let number = self.operations.len() - 1;
        self.push_to(at, machine, life, Happening::Input(Input::Request(request)));
        Some(number)
    }

    /// A request has ended.
    pub(super) fn answered(&mut self, machine: usize, request: u64, end: End) {
        let process = self.machines[machine].process.as_mut();
        let Some(operation) = process.and_then(|p| p.requests.remove(&request)) else {
            return self
                .witness
                .blame(Invariant::OneAnswer, format!("{} answered request {request} twice", letter(machine)));
        };
        self.ended(operation, end);
    }

    pub(super) fn ended(&mut self, number: usize, end: End) {
        let operation = &self.operations[number];
        let (kind, machine, client) = (operation.kind, operation.machine, operation.client);
        let (deadline, floor) = (operation.deadline, operation.floor);
        let late = self.lateness(machine, deadline);
        if late > TICK_US + self.plan.knobs.turn_us && end != End::Died && !self.was_asleep(machine) {
            let ms = late / MS;
            let what = format!("{} answered a request {ms} ms after its deadline", letter(machine));
            self.witness.blame(Invariant::OneAnswer, what);
        }
        self.say(format_args!("{} answers {kind:?}: {}", letter(machine), end.word()));
        if kind != Kind::Status {
            self.counters.count(match (kind, end.word()) {
                (Kind::Append { .. }, "ok") => "appends acked",
                (Kind::Append { .. }, "unknown") => "appends unknown",
                (Kind::Append { .. }, "not-applied") => "appends refused",
                (Kind::Read, "ok") => "reads",
                (Kind::Leave, "ok") => "leaves",
                (Kind::Transfer { .. }, "ok") => "transfers",
                (_, "died") => "requests orphaned",
                _ => "other answers",
            });
        }
        match (kind, &end) {
            (Kind::Append { first, count }, End::Answered(result)) => match result {
                Ok(Reply::Appended(a)) => self.witness.acked(first, count, a.first, a.last, floor),
                Ok(Reply::Answer(_)) => {
                    self.witness.blame(Invariant::HonestFailure, "an append was answered as a question".into())
                }
                Err(f) if f.effect == Effect::NotApplied => self.witness.failed(first, count),
                Err(f) if f.effect == Effect::None => {
                    self.witness.blame(
                        Invariant::HonestFailure,
                        format!("an append failed without saying what became of it: {f}"),
                    );
                }
                Err(_) => {}
            },
            (Kind::Read, end) => {
                if let Some(next) = end.readable() {
                    self.witness.read(next, floor);
                }
            }
            (Kind::Await { next }, end) => {
                if let Some(readable) = end.readable() {
                    self.witness.read(readable, next);
                }
            }
            _ => {}
        }
        self.operations[number].end = Some(end);
        if let Some(client) = client {
            let rest = self.random.between(MS, self.plan.knobs.think_us.max(MS));
            self.push(self.at + rest, Event::Client { client });
        }
    }

    /// How long this deadline is over, in microseconds, as the agent sees it.
    pub(super) fn lateness(&self, machine: usize, deadline: Mono) -> u64 {
        let process = self.machines[machine].process.as_ref();
        process.map_or(0, |p| p.clock.read(self.at).0.saturating_sub(deadline.0))
    }

    fn was_asleep(&self, machine: usize) -> bool {
        let process = self.machines[machine].process.as_ref();
        process.is_some_and(|p| p.paused_until > 0 && self.at <= p.paused_until + SECOND)
    }

    /// The next request of a client, of an agent that is up.
    pub(super) fn client(&mut self, client: usize) {
        if !self.clients_run {
            return;
        }
        let up: Vec<usize> = (0..self.machines.len()).filter(|m| self.machines[*m].is_up()).collect();
        let timeout_us = self.random.between(200, 3_000) * MS;
        let kind = match self.random.below(10) {
            0..=6 => {
                let count = if self.random.chance(200) { self.random.between(2, 5) } else { 1 };
                let first = self.next_value;
                self.next_value += count;
                Kind::Append { first, count }
            }
            7 | 8 => Kind::Read,
            // Now and then an operator moves leadership about.
            9 if self.random.chance(50) => {
                let to = self.random.below(self.machines.len() as u64 + 1) as usize;
                Kind::Transfer { to: (to < self.machines.len()).then_some(to) }
            }
            _ => Kind::Await { next: self.witness.acked_next() },
        };
        let asked = self.random.pick(&up).and_then(|machine| self.ask(Some(client), machine, kind, timeout_us));
        if asked.is_none() {
            self.push(self.at + 100 * MS, Event::Client { client });
        }
    }

    /// What an agent says of itself through its front door, at once.
    pub(super) fn status(&mut self, machine: usize) -> Option<Status> {
        let number = self.ask(None, machine, Kind::Status, SECOND)?;
        let at = self.at;
        self.run_to(at + self.plan.knobs.turn_us);
        match self.operations[number].end.clone() {
            Some(End::Answered(Ok(Reply::Answer(Answer::Status(status))))) => Some(*status),
            _ => None,
        }
    }
}
