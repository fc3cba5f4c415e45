//! World: virtual time, machines, a network and clients, in one line of events.
//!
//! It stands where the shell stands: it carries inputs to the production `Node` and its outputs away, and decides
//! nothing that an agent would decide.

use super::Report;
use super::client::{End as OpEnd, Kind, Operation, TICK_US};
use super::counters::Counters;
use super::machine::{Dead, Machine, address, host};
use super::network::Network;
use super::plan::{Action, MS, Plan, letter};
use super::random::Random;
use super::trace::Trace;
use super::witness::Witness;
use crate::api::{Answer, Effect, Status};
use crate::node::{Class, Input, Reply, Request};
use bytes::Bytes;
use quorate_raft::wal::sim::SimDisk;
use quorate_raft::{LogIndex, Mono};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::net::SocketAddr;

/// How often the transport looks for silent connections.
const HOUSEKEEPING_US: u64 = 250 * MS;
/// A start takes so long.
const START_US: u64 = 20 * MS;

/// Why a process dials.
#[derive(Clone, Debug)]
pub(super) enum Dial {
    /// A join address.
    Seed(String),
    /// A node to be kept.
    Keep(u64),
}

/// What happens at a moment.
#[derive(Debug)]
pub(super) enum Event {
    /// A process was started.
    Start {
        machine: usize,
    },
    /// A deadline of the node is due.
    Wake {
        machine: usize,
        life: u64,
    },
    /// The loop has its turn to carry out orders.
    Drain {
        machine: usize,
        life: u64,
    },
    /// A dialled address answers, or not.
    Dialled {
        machine: usize,
        life: u64,
        dial: Dial,
        addr: SocketAddr,
    },
    /// A dial got no answer.
    NoAnswer {
        machine: usize,
        life: u64,
        dial: Dial,
        addr: SocketAddr,
    },
    /// A kept node may be dialled again.
    Redial {
        machine: usize,
        life: u64,
        node: u64,
    },
    /// The acceptor has the last word of the greeting.
    Greeted {
        link: u64,
    },
    /// The other side has closed.
    Closed {
        link: u64,
        side: usize,
    },
    Frame {
        link: u64,
        to: usize,
        class: Class,
        bytes: Bytes,
        bulk_epoch: u64,
    },
    Datagram {
        machine: usize,
        life: u64,
        link: u64,
        from: u64,
        bytes: Vec<u8>,
    },
    Asked {
        machine: usize,
        life: u64,
        from: usize,
        from_life: u64,
        bytes: Vec<u8>,
    },
    Replied {
        machine: usize,
        life: u64,
        from: u64,
        bytes: Vec<u8>,
    },
    /// The disk has synced.
    Synced {
        machine: usize,
        life: u64,
    },
    /// The disk thread tries again.
    RetryWrite {
        machine: usize,
        life: u64,
    },
    Fetch {
        machine: usize,
        life: u64,
        token: u64,
        from: LogIndex,
        to: LogIndex,
        bytes_max: usize,
    },
    Input {
        machine: usize,
        life: u64,
        input: Input,
    },
    /// A client has had its rest.
    Client {
        client: usize,
    },
    /// A step of the plan.
    Act {
        action: Action,
    },
    /// A stopped process goes on.
    Resume {
        machine: usize,
        life: u64,
    },
    /// A trouble of a disk is over.
    DiskWell {
        machine: usize,
    },
    Housekeeping,
}

/// See the module.
pub(super) struct World {
    pub(super) at: u64,
    pub(super) plan: Plan,
    pub(super) machines: Vec<Machine>,
    pub(super) moves: Vec<u8>,
    pub(super) network: Network,
    pub(super) random: Random,
    pub(super) witness: Witness,
    pub(super) counters: Counters,
    pub(super) trace: Trace,
    pub(super) operations: Vec<Operation>,
    pub(super) next_value: u64,
    /// Clients go on asking.
    pub(super) clients_run: bool,
    /// When a disk was lost for the last time.
    pub(super) wiped_at: u64,
    /// Who asked for which exchange of tables: machine, token, who waits.
    pub(super) exchanges: BTreeMap<(usize, u64), (usize, u64)>,
    pub(super) next_token: u64,
    /// Machines whose calls of the disk end in a power loss, and how long they are down.
    pub(super) tearing: BTreeMap<usize, u64>,
    events: BinaryHeap<Reverse<(u64, u64)>>,
    pending: BTreeMap<u64, Event>,
    sequence: u64,
    pub(super) inbox: VecDeque<(usize, Input)>,
}

impl World {
    /// A world at the beginning of its plan.
    pub(super) fn new(plan: Plan) -> Self {
        let mut random = Random::new(plan.seed);
        let machines: Vec<Machine> = (0..plan.agents.len())
            .map(|at| {
                let agent = &plan.agents[at];
                Machine {
                    name: agent.name.clone().unwrap_or_else(|| letter(at).to_string()),
                    disk: SimDisk::new(random.next()),
                    node: super::machine::fresh_node(&mut random),
                    addr: address(at, 0),
                    wall_us: agent.wall_us,
                    bootstrap: agent.bootstrap,
                    join: agent.join.iter().map(|j| host(*j)).collect(),
                    known: Vec::new(),
                    process: None,
                    lives: 0,
                    starting: false,
                    durable: Default::default(),
                    configurations: BTreeMap::new(),
                    slow_disk: None,
                    departed: false,
                    rest_us: Some(super::plan::SECOND),
                }
            })
            .collect();
        let mut world = Self {
            at: 0,
            moves: vec![0; machines.len()],
            network: Network::new(&plan.knobs),
            random,
            witness: Witness::default(),
            counters: Counters::default(),
            trace: Trace::default(),
            operations: Vec::new(),
            next_value: 0,
            clients_run: true,
            wiped_at: 0,
            exchanges: BTreeMap::new(),
            next_token: 0,
            tearing: BTreeMap::new(),
            events: BinaryHeap::new(),
            pending: BTreeMap::new(),
            sequence: 0,
            inbox: VecDeque::new(),
            machines,
            plan,
        };
        world.schedule();
        world
    }

    /// Puts the whole plan on the line of events.
    fn schedule(&mut self) {
        for machine in 0..self.machines.len() {
            let at = self.plan.agents[machine].start_us;
            self.start_at(machine, at);
        }
        for step in self.plan.steps.clone() {
            self.push(step.at_us, Event::Act { action: step.action });
        }
        for client in 0..self.plan.clients {
            let at = self.random.between(MS, self.plan.knobs.think_us.max(MS));
            self.push(at, Event::Client { client });
        }
        self.push(HOUSEKEEPING_US, Event::Housekeeping);
    }

    pub(super) fn push(&mut self, at: u64, event: Event) {
        self.sequence += 1;
        self.events.push(Reverse((at.max(self.at), self.sequence)));
        self.pending.insert(self.sequence, event);
    }

    pub(super) fn start_at(&mut self, machine: usize, at: u64) {
        if !self.machines[machine].starting {
            self.machines[machine].starting = true;
            self.push(at, Event::Start { machine });
        }
    }

    pub(super) fn say(&mut self, what: std::fmt::Arguments<'_>) {
        self.trace.line(self.at, what);
    }

    /// Runs until that moment, or until something is wrong.
    pub(super) fn run_to(&mut self, until: u64) {
        while self.witness.violation().is_none()
            && let Some(Reverse((at, _))) = self.events.peek()
            && *at <= until
        {
            self.step();
        }
        self.at = self.at.max(until);
    }

    /// Runs until it is so; false if that takes longer than allowed.
    pub(super) fn run_until(&mut self, within: u64, mut is_so: impl FnMut(&mut Self) -> bool) -> bool {
        let until = self.at + within;
        while self.at < until && self.witness.violation().is_none() {
            if is_so(self) {
                return true;
            }
            self.run_to((self.at + 20 * MS).min(until));
        }
        self.witness.violation().is_none() && is_so(self)
    }

    fn step(&mut self) {
        let Some(Reverse((at, sequence))) = self.events.pop() else { return };
        let Some(event) = self.pending.remove(&sequence) else { return };
        self.at = at;
        // A process that is stopped sees nothing; what came meanwhile finds it when it goes on.
        if let Some(process) = self.sleeper(&event).and_then(|m| self.machines[m].process.as_mut()) {
            return process.missed.push_back(event);
        }
        self.happen(event);
        while let Some((machine, input)) = self.inbox.pop_front() {
            self.feed(machine, input);
        }
    }

    /// The stopped machine that this event is for.
    fn sleeper(&self, event: &Event) -> Option<usize> {
        let machine = match event {
            Event::Wake { machine, .. }
            | Event::Drain { machine, .. }
            | Event::Dialled { machine, .. }
            | Event::NoAnswer { machine, .. }
            | Event::Redial { machine, .. }
            | Event::Datagram { machine, .. }
            | Event::Asked { machine, .. }
            | Event::Replied { machine, .. }
            | Event::Synced { machine, .. }
            | Event::RetryWrite { machine, .. }
            | Event::Fetch { machine, .. }
            | Event::Input { machine, .. } => *machine,
            Event::Frame { link, to, .. } => self.network.links.get(link)?.ends[*to].machine,
            Event::Closed { link, side } => self.network.links.get(link)?.ends[*side].machine,
            Event::Greeted { link } => self.network.links.get(link)?.ends[1].machine,
            _ => return None,
        };
        (self.machines[machine].process.as_ref()?.paused_until > self.at).then_some(machine)
    }

    /// A stopped process goes on, and finds all that came meanwhile.
    pub(super) fn resume(&mut self, machine: usize) {
        let Some(process) = &mut self.machines[machine].process else { return };
        process.paused_until = process.paused_until.min(self.at);
        for event in std::mem::take(&mut process.missed) {
            self.push(self.at, event);
        }
    }

    /// Is this still the process that was meant?
    pub(super) fn is_alive(&self, machine: usize, life: u64) -> bool {
        self.machines[machine].process.as_ref().is_some_and(|p| p.life == life)
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Start { machine } => self.start(machine),
            Event::Wake { machine, life } => {
                if let Some(p) = self.machines[machine].process.as_mut().filter(|p| p.life == life) {
                    if p.wake_at.is_some_and(|w| w <= self.at) {
                        p.wake_at = None;
                        self.feed(machine, Input::Timeout);
                    }
                }
            }
            Event::Drain { machine, life } => {
                if self.is_alive(machine, life) {
                    self.drain(machine);
                }
            }
            Event::Dialled { machine, life, dial, addr } => self.dialled(machine, life, dial, addr),
            Event::NoAnswer { machine, life, dial, addr } => {
                self.dial_failed(machine, life, dial, &format!("no answer from {addr} over UDP"));
            }
            Event::Redial { machine, life, node } => self.redial(machine, life, node),
            Event::Greeted { link } => self.greeted(link),
            Event::Closed { link, side } => self.link_down(link, side, "closed by the other side"),
            Event::Frame { link, to, class, bytes, bulk_epoch } => self.frame(link, to, class, bytes, bulk_epoch),
            Event::Datagram { machine, life, link, from, bytes } => {
                // Before the greeting is over nobody reads.
                let up = |l: &super::network::Link| l.ends.iter().any(|e| e.machine == machine && e.up);
                if self.is_alive(machine, life) && self.network.links.get(&link).is_some_and(up) {
                    self.say(format_args!("{} gossip of {from:016x}, {} bytes", letter(machine), bytes.len()));
                    self.feed(machine, Input::Datagram { node: from, bytes });
                }
            }
            Event::Asked { machine, life, from, from_life, bytes } => self.asked(machine, life, from, from_life, bytes),
            Event::Replied { machine, life, from, bytes } => {
                if self.is_alive(machine, life) {
                    self.feed(machine, Input::ExchangeReply { node: from, bytes });
                }
            }
            Event::Synced { machine, life } => self.synced(machine, life),
            Event::RetryWrite { machine, life } => {
                if self.is_alive(machine, life) {
                    self.write(machine);
                }
            }
            Event::Fetch { machine, life, token, from, to, bytes_max } => {
                if let Some(p) = self.machines[machine].process.as_ref().filter(|p| p.life == life) {
                    let entries = p.reader.read(from, to, bytes_max).unwrap_or_default();
                    self.counters.count("fetches");
                    self.feed(machine, Input::Fetched { token, entries });
                }
            }
            Event::Input { machine, life, input } => {
                if self.is_alive(machine, life) {
                    self.feed(machine, input);
                }
            }
            Event::Client { client } => self.client(client),
            Event::Act { action } => self.act(&action),
            Event::Resume { machine, life } => {
                if self.is_alive(machine, life)
                    && self.machines[machine].process.as_ref().is_some_and(|p| p.paused_until <= self.at)
                {
                    self.resume(machine);
                }
            }
            Event::DiskWell { machine } => self.machines[machine].disk.heal(),
            Event::Housekeeping => {
                self.housekeeping();
                self.push(self.at + HOUSEKEEPING_US, Event::Housekeeping);
            }
        }
    }

    // ---- processes ----

    fn start(&mut self, machine: usize) {
        self.machines[machine].starting = false;
        if self.machines[machine].is_up() {
            return;
        }
        if self.machines[machine].departed {
            // The data directory was set aside: this is a new node.
            self.empty_disk(machine);
        }
        let at = self.at;
        let knobs = self.plan.knobs.clone();
        match self.machines[machine].boot(at, &knobs, &mut self.random) {
            Ok(()) => {
                let (node, life) = (self.machines[machine].node, self.machines[machine].lives);
                let last = self.machines[machine].durable.log.len();
                self.say(format_args!("{} starts as {node}, life {life}, {last} entries", letter(machine)));
                self.drain(machine);
            }
            Err(dead) => self.died(machine, dead),
        }
    }

    /// What the disk thread does about an error.
    pub(super) fn died(&mut self, machine: usize, dead: Dead) {
        match dead {
            Dead::Log(error) if self.tearing.contains_key(&machine) => {
                let down_us = self.tearing.remove(&machine).unwrap_or(START_US);
                self.say(format_args!("{} loses power in a call of the disk: {error}", letter(machine)));
                self.counters.count("torn in a call");
                self.power_off(machine, down_us);
            }
            Dead::Log(error) if error.is_retriable() && self.machines[machine].is_up() => {
                self.counters.count("disk full");
                let life = self.machines[machine].lives;
                self.push(self.at + 200 * MS, Event::RetryWrite { machine, life });
            }
            Dead::Log(error) if self.machines[machine].had_trouble() => {
                self.say(format_args!("{} aborts: {error}", letter(machine)));
                self.counters.count("aborts");
                self.machines[machine].disk.kill();
                self.end_process(machine);
                self.start_at(machine, self.at + 300 * MS);
            }
            Dead::Log(error) => {
                let what = format!("the log of {} broke without a fault: {error}", letter(machine));
                self.witness.blame(what);
            }
            Dead::Lost(what) | Dead::Options(what) => {
                self.witness.blame(format!("{}: {what}", letter(machine)));
            }
        }
    }

    /// Power loss, now.
    pub(super) fn power_off(&mut self, machine: usize, down_us: u64) {
        self.end_process(machine);
        self.machines[machine].disk.crash();
        self.start_at(machine, self.at + down_us.max(START_US));
    }

    /// The process is gone; its clients never hear.
    pub(super) fn end_process(&mut self, machine: usize) {
        let Some(process) = self.machines[machine].process.take() else { return };
        for operation in process.requests.into_values() {
            self.ended(operation, OpEnd::Died);
        }
    }

    // ---- turns of the loop ----

    pub(super) fn feed(&mut self, machine: usize, input: Input) {
        let now = self.machines[machine].clock(self.at);
        let turn = self.plan.knobs.turn_us;
        let Some(process) = &mut self.machines[machine].process else { return };
        process.node.handle(now, input);
        if turn == 0 {
            return self.drain(machine);
        }
        // Several inputs share one turn, as in the shell.
        if process.drain_at.is_none_or(|at| at <= self.at) {
            let (life, at) = (process.life, self.at + self.random.below(turn));
            if at <= self.at {
                return self.drain(machine);
            }
            process.drain_at = Some(at);
            self.push(at, Event::Drain { machine, life });
        }
    }

    /// Carries out what the node asks for, and wakes it when it wants.
    pub(super) fn drain(&mut self, machine: usize) {
        while let Some(process) = &mut self.machines[machine].process
            && let Some(output) = process.node.poll_output()
        {
            self.output(machine, output);
        }
        let Some(process) = &mut self.machines[machine].process else { return };
        process.drain_at = None;
        let (life, mono_us) = (process.life, process.mono_us);
        let Some(Mono(due)) = process.node.poll_timeout() else { return };
        let due = due.saturating_sub(mono_us).max(self.at + 1);
        if process.wake_at.is_none_or(|at| at > due || at < self.at) {
            process.wake_at = Some(due);
            self.push(due, Event::Wake { machine, life });
        }
    }

    // ---- requests ----

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
        let (life, deadline) = (process.life, Mono(at + process.mono_us + timeout_us));
        process.requests.insert(id, self.operations.len());
        let deadline_us = at + timeout_us;
        let operation = Operation { client, machine, kind, deadline: deadline_us, floor, end: None };
        self.operations.push(operation);
        self.say(format_args!("{} is asked: {kind:?}", letter(machine)));
        let request = Request { id, who: "client sim".into(), deadline, what: kind.what(timeout_us, bytes) };
        let number = self.operations.len() - 1;
        self.push(at, Event::Input { machine, life, input: Input::Request(request) });
        Some(number)
    }

    /// A request has ended.
    pub(super) fn answered(&mut self, machine: usize, request: u64, end: OpEnd) {
        let process = self.machines[machine].process.as_mut();
        let Some(operation) = process.and_then(|p| p.requests.remove(&request)) else {
            return self.witness.blame(format!("{} answered request {request} twice", letter(machine)));
        };
        self.ended(operation, end);
    }

    fn ended(&mut self, number: usize, end: OpEnd) {
        let operation = &self.operations[number];
        let (kind, machine, client) = (operation.kind, operation.machine, operation.client);
        let (deadline, floor) = (operation.deadline, operation.floor);
        let late = self.at > deadline + TICK_US + self.plan.knobs.turn_us && end != OpEnd::Died;
        if late && !self.was_asleep(machine) {
            let ms = (self.at - deadline) / MS;
            let what = format!("{} answered a request {ms} ms after its deadline", letter(machine));
            self.witness.blame(what);
        }
        self.say(format_args!("{} answers {kind:?}: {}", letter(machine), end.word()));
        if kind != Kind::Status {
            self.counters.count(match (kind, end.word()) {
                (Kind::Append { .. }, "ok") => "appends acked",
                (Kind::Append { .. }, "unknown") => "appends unknown",
                (Kind::Append { .. }, "not-applied") => "appends refused",
                (Kind::Read, "ok") => "reads",
                (Kind::Leave, "ok") => "leaves",
                (_, "died") => "requests orphaned",
                _ => "other answers",
            });
        }
        match (kind, &end) {
            (Kind::Append { first, count }, OpEnd::Answered(result)) => match result {
                Ok(Reply::Appended(a)) => self.witness.acked(first, count, a.first, a.last, floor),
                Ok(Reply::Answer(_)) => self.witness.blame("an append was answered as a question".into()),
                Err(f) if f.effect == Effect::NotApplied => self.witness.failed(first, count),
                Err(f) if f.effect == Effect::None => {
                    self.witness.blame(format!("an append failed without saying what became of it: {f}"));
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

    fn was_asleep(&self, machine: usize) -> bool {
        let process = self.machines[machine].process.as_ref();
        process.is_some_and(|p| p.paused_until > 0 && self.at <= p.paused_until + super::plan::SECOND)
    }

    /// The next request of a client, of an agent that is up.
    fn client(&mut self, client: usize) {
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
            _ => Kind::Await { next: self.witness.acked_next() },
        };
        let asked = self.random.pick(&up).and_then(|machine| self.ask(Some(client), machine, kind, timeout_us));
        if asked.is_none() {
            self.push(self.at + 100 * MS, Event::Client { client });
        }
    }

    /// What an agent says of itself through its front door, at once.
    pub(super) fn status(&mut self, machine: usize) -> Option<Status> {
        let number = self.ask(None, machine, Kind::Status, super::plan::SECOND)?;
        let at = self.at;
        self.run_to(at + self.plan.knobs.turn_us);
        match self.operations[number].end.clone() {
            Some(OpEnd::Answered(Ok(Reply::Answer(Answer::Status(status))))) => Some(*status),
            _ => None,
        }
    }
}

impl World {
    /// What this run has shown.
    pub(super) fn report(mut self) -> Report {
        for machine in &self.machines {
            let disk = machine.disk.counters();
            self.counters.add("sectors lost", disk.sectors_lost);
            self.counters.add("sectors kept", disk.sectors_kept);
            self.counters.add("names lost", disk.names_lost);
            self.counters.add("syncs failed", disk.syncs_failed);
            self.counters.add("writes on a full disk", disk.full);
        }
        let trace = std::mem::take(&mut self.trace);
        Report {
            plan: self.plan.clone(),
            trace_hash: trace.hash(),
            trace_lines: trace.lines(),
            trace: trace.into_lines(),
            counters: std::mem::take(&mut self.counters),
            violation: self.witness.violation().map(str::to_owned),
        }
    }
}

impl Drop for World {
    /// A broken assertion of an agent ends the run in the middle: the end of the trace says how it came to that.
    fn drop(&mut self) {
        if std::thread::panicking() {
            let tail: Vec<&str> = self.trace.tail().collect();
            let from = tail.len().saturating_sub(60);
            eprintln!("{}\n{}", self.plan, tail[from..].join("\n"));
        }
    }
}
