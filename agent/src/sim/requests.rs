//! Requests: what clients ask of agents, and what is made of the answers.
//!
//! Each has exactly one end, in time; the witness hears of all of them.

use super::client::{End, Kind, Operation, TICK_US};
use super::event::{Event, Happening};
use super::invariant::Invariant;
use super::plan::{MS, SECOND, letter};
use super::script::{Asked, Call};
use super::world::World;
use crate::api::{Answer, AutopilotAnswer, AutopilotState, Effect, Status};
use crate::node::{Input, Reply, Request};
use quorate_raft::Mono;

/// Before a client asks somebody else.
const RETRY_US: u64 = 20 * MS;

impl World {
    /// Asks an agent something. Gives the number of the operation; none if the agent is down.
    pub(super) fn ask(&mut self, client: Option<usize>, machine: usize, kind: Kind, timeout_us: u64) -> Option<usize> {
        self.ask_with(client, machine, kind, timeout_us, 0)
    }

    /// The same, with records of so many bytes.
    fn ask_with(
        &mut self,
        client: Option<usize>,
        machine: usize,
        kind: Kind,
        timeout_us: u64,
        bytes: usize,
    ) -> Option<usize> {
        let at = self.at;
        let floor = self.witness.acked_next();
        let process = self.machines[machine].process.as_mut()?;
        process.next_request += 1;
        let id = process.next_request;
        let (life, deadline) = (process.life, process.clock.read(at + timeout_us));
        process.requests.insert(id, self.operations.len());
        let operation = Operation { client, machine, kind, deadline, floor, retry: None, end: None };
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
        if !matches!(kind, Kind::Status | Kind::Autopilot) {
            self.counters.count(match (kind, end.word()) {
                (Kind::Append { .. }, "ok") => "appends acked",
                (Kind::Append { .. }, "unknown") => "appends unknown",
                (Kind::Append { .. }, "not-applied") => "appends refused",
                (Kind::Read, "ok") => "reads",
                (Kind::Leave, "ok") => "leaves",
                (Kind::Transfer { .. }, "ok") => "transfers",
                (Kind::Drain { undo: false, .. }, "ok") => "drains done",
                (Kind::Drain { undo: true, .. }, "ok") => "drains taken back",
                (Kind::Remove { .. }, "ok") => "removals done",
                (Kind::Promote { .. }, "ok") => "promotions done",
                (Kind::Demote { .. }, "ok") => "demotions done",
                (_, "not-applied") if kind.is_of_operators() => "operators refused",
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
            self.heard(client, number);
        }
    }

    /// A client has its answer: it asks somebody else if that was no good, or goes on in its script.
    fn heard(&mut self, client: usize, number: usize) {
        let failed = self.operations[number].end.as_ref().is_none_or(|e| e.word() != "ok");
        match self.operations[number].retry.take().filter(|_| failed && self.clients_run) {
            Some(call) if call.retries > 0 => {
                self.counters.count("retried elsewhere");
                let agent = (self.operations[number].machine + 1) % self.machines.len();
                let call = Call { at_us: self.at + RETRY_US, agent, retries: call.retries - 1, ..call };
                self.push(call.at_us, Event::Call { client, call });
            }
            _ => self.next_call(client),
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

    /// The next request of a client takes its place on the line.
    pub(super) fn next_call(&mut self, client: usize) {
        let next = self.calls_made[client];
        let Some(call) = self.plan.script[client].get(next).cloned() else { return };
        self.calls_made[client] += 1;
        let at = call.at_us.max(self.at + MS);
        self.push(at, Event::Call { client, call });
    }

    /// A client asks the agent it means, or the next one that is up.
    pub(super) fn call(&mut self, client: usize, call: Call) {
        if !self.clients_run {
            return;
        }
        let count = self.machines.len();
        let up = (0..count).map(|more| (call.agent + more) % count).find(|m| self.machines[*m].can_be_asked());
        let Some(machine) = up else {
            // Nobody is there: it looks again, and asks the same.
            return self.push(self.at + 100 * MS, Event::Call { client, call });
        };
        let (kind, bytes) = match call.what {
            Asked::Append { count, bytes } => {
                let first = self.next_value;
                self.next_value += count;
                (Kind::Append { first, count }, usize::try_from(bytes).unwrap_or(0))
            }
            Asked::Read => (Kind::Read, 0),
            Asked::Await => (Kind::Await { next: self.witness.acked_next() }, 0),
            Asked::Transfer { to } => (Kind::Transfer { to }, 0),
        };
        if let Some(number) = self.ask_with(Some(client), machine, kind, call.timeout_us, bytes) {
            self.operations[number].retry = Some(call);
        }
    }

    /// What the autopilot of whoever leads says, line by line, into the trace: why it is as it is.
    pub(super) fn tell_the_autopilot(&mut self) {
        let Some(state) = self.autopilot_state() else { return };
        for member in state.members {
            self.say(format_args!("{member:?}"));
        }
        for decision in state.decisions {
            self.say(format_args!("{decision:?}"));
        }
    }

    /// Does somebody wait for a seat because it failed and came back before?
    pub(super) fn somebody_flapped(&mut self) -> bool {
        let state = self.autopilot_state();
        state.is_some_and(|state| state.members.iter().any(|member| member.flaps > 0 && member.should == "learner"))
    }

    /// What the autopilot says of itself, if there is a leader and it answers at once.
    fn autopilot_state(&mut self) -> Option<AutopilotState> {
        let leader = self.leader()?;
        let number = self.ask(None, leader, Kind::Autopilot, SECOND)?;
        self.run_to(self.at + self.plan.knobs.turn_us);
        match self.operations[number].end.clone()? {
            End::Answered(Ok(Reply::Answer(Answer::Autopilot(answer)))) => match *answer {
                AutopilotAnswer::State(state) => Some(state),
                _ => None,
            },
            _ => None,
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
