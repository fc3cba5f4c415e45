//! World: virtual time, machines, a network and clients, in one line of events.
//!
//! It stands where the shell stands: it carries inputs to the production `Node` and its outputs away, and decides
//! nothing that an agent would decide.

use super::Report;
use super::client::Operation;
use super::counters::Counters;
use super::event::{Event, Happening};
use super::invariant::Invariant;
use super::machine::Machine;
use super::network::{Link, Network};
use super::plan::{MS, Plan, letter};
use super::random::Noise;
use super::script::Consumer;
use super::trace::Trace;
use super::witness::Witness;
use crate::node::Input;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};

/// How often the transport looks for silent connections.
const HOUSEKEEPING_US: u64 = 250 * MS;
/// So much happens in one second only if somebody never stops: busy worlds stay below a tenth of it.
const STORM_EVENTS: u64 = 200_000;

/// See the module.
pub(super) struct World {
    pub(super) at: u64,
    pub(super) plan: Plan,
    pub(super) machines: Vec<Machine>,
    pub(super) moves: Vec<u8>,
    pub(super) network: Network,
    pub(super) noise: Noise,
    pub(super) witness: Witness,
    pub(super) counters: Counters,
    /// Every log that anybody ever founded or joined.
    pub(super) histories: BTreeSet<[u8; 16]>,
    pub(super) trace: Trace,
    pub(super) operations: Vec<Operation>,
    pub(super) next_value: u64,
    /// Which call of its script each client makes next.
    pub(super) calls_made: Vec<usize>,
    pub(super) consumers: Vec<Consumer>,
    /// Clients go on asking.
    pub(super) clients_run: bool,
    /// When a disk was lost for the last time.
    pub(super) wiped_at: u64,
    /// Until then what operators have asked for may still be begun.
    pub(super) operators_until: u64,
    /// Who asked for which exchange of tables: machine, token, who waits.
    pub(super) exchanges: BTreeMap<(usize, u64), (usize, u64)>,
    pub(super) next_token: u64,
    /// Machines whose calls of the disk end in a power loss, and how long they are down.
    pub(super) tearing: BTreeMap<usize, u64>,
    /// How often a step has looked for a moment at which this agent may be harmed.
    pub(super) waits: BTreeMap<usize, u64>,
    /// Its disk gives other entries than those that stood there, well-formed.
    #[cfg(test)]
    pub(super) forger: Option<usize>,
    /// Gossip of these is lost until then.
    pub(super) gossip_lost: BTreeMap<usize, u64>,
    /// When, which of those of this moment, and where it lies in `pending`.
    line: BinaryHeap<Reverse<(u64, u64, usize)>>,
    pending: Vec<Option<Event>>,
    /// Places in `pending` that are free.
    free: Vec<usize>,
    sequence: u64,
    /// Things that happened.
    pub(super) events: u64,
    /// The second that is being counted, and what happened in it.
    busy: (u64, u64),
    pub(super) inbox: VecDeque<(usize, Input)>,
}

impl World {
    /// A world at the beginning of its plan.
    pub(super) fn new(plan: Plan) -> Self {
        let mut noise = Noise::new(plan.seed, plan.agents.len());
        let machines: Vec<Machine> =
            plan.agents.iter().enumerate().map(|(at, agent)| Machine::new(at, agent, &mut noise.ids[at])).collect();
        let mut world = Self {
            at: 0,
            moves: vec![0; machines.len()],
            network: Network::new(&plan.knobs),
            noise,
            witness: Witness::new(plan.knobs.autopilot().replace_after()),
            counters: Counters::default(),
            histories: BTreeSet::new(),
            trace: Trace::default(),
            operations: Vec::new(),
            next_value: 0,
            calls_made: vec![0; plan.script.len()],
            consumers: plan.consumers.iter().map(Consumer::new).collect(),
            clients_run: true,
            wiped_at: 0,
            operators_until: 0,
            exchanges: BTreeMap::new(),
            next_token: 0,
            tearing: BTreeMap::new(),
            waits: BTreeMap::new(),
            #[cfg(test)]
            forger: None,
            gossip_lost: BTreeMap::new(),
            line: BinaryHeap::new(),
            pending: Vec::new(),
            free: Vec::new(),
            sequence: 0,
            events: 0,
            busy: (0, 0),
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
        for client in 0..self.plan.script.len() {
            self.next_call(client);
        }
        for consumer in 0..self.consumers.len() {
            self.push(self.plan.consumers[consumer].every_us, Event::Consume { consumer });
        }
        if self.plan.agents.iter().filter(|a| a.bootstrap && !a.foreign).count() > 1 {
            self.counters.count("two formers");
        }
        self.push(HOUSEKEEPING_US, Event::Housekeeping);
    }

    /// Something will happen to this process, unless it ends before.
    pub(super) fn push_to(&mut self, at: u64, machine: usize, life: u64, what: Happening) {
        self.push(at, Event::To { machine, life, what });
    }

    pub(super) fn push(&mut self, at: u64, event: Event) {
        self.sequence += 1;
        let place = self.free.pop().unwrap_or(self.pending.len());
        match self.pending.get_mut(place) {
            Some(free) => *free = Some(event),
            None => self.pending.push(Some(event)),
        }
        self.line.push(Reverse((at.max(self.at), self.sequence, place)));
    }

    pub(super) fn start_at(&mut self, machine: usize, at: u64) {
        if !self.machines[machine].starting && !self.machines[machine].retired {
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
            && let Some(Reverse((at, _, _))) = self.line.peek()
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
        let Some(Reverse((at, _, place))) = self.line.pop() else { return };
        let Some(event) = self.pending.get_mut(place).and_then(Option::take) else { return };
        self.free.push(place);
        self.at = at;
        self.events += 1;
        self.count_storms();
        // A process that is stopped sees nothing; what came meanwhile finds it when it goes on.
        if let Some(process) = self.sleeper(&event).and_then(|m| self.machines[m].process.as_mut()) {
            return process.missed.push_back(event);
        }
        self.happen(event);
        while let Some((machine, input)) = self.inbox.pop_front() {
            self.feed(machine, input);
        }
    }

    /// Agents that answer each other's answers without end would keep a world in one second for ever.
    fn count_storms(&mut self) {
        let second = self.at / 1_000_000;
        if self.busy.0 != second {
            self.busy = (second, 0);
        }
        self.busy.1 += 1;
        if self.busy.1 > STORM_EVENTS {
            let what = format!("more than {STORM_EVENTS} things happened in second {second}");
            self.witness.blame(Invariant::NoStorm, what);
        }
    }

    /// The stopped machine that this event is for.
    fn sleeper(&self, event: &Event) -> Option<usize> {
        let machine = match event {
            Event::To { machine, .. } => *machine,
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
            Event::To { machine, life, what } => {
                if self.is_alive(machine, life) {
                    self.happen_to(machine, life, what);
                }
            }
            Event::Greeted { link } => self.greeted(link),
            Event::Closed { link, side } => self.link_down(link, side, "closed by the other side"),
            Event::Frame { link, to, class, bytes, bulk_epoch } => self.frame(link, to, class, bytes, bulk_epoch),
            Event::Call { client, call } => self.call(client, call),
            // What a step goes on with after the calm has begun is over.
            Event::Act { action } if self.clients_run => self.act(&action),
            Event::Act { .. } => {}
            Event::Consume { consumer } => self.consume(consumer),
            Event::DiskWell { machine } => self.machines[machine].disk.set_capacity(None),
            Event::ReadsAgain { machine } => self.reads_again(machine),
            Event::Forgetting { machine, tries } => self.forgetting(machine, tries),
            Event::Undoing { kind } => self.undoing(kind),
            Event::Removing { machine, node, looks } => self.removing(machine, node, looks),
            Event::CopyEnds { copy } => self.copy_ends(copy),
            Event::Housekeeping => {
                self.housekeeping();
                (0..self.machines.len()).for_each(|machine| self.tell_space(machine));
                self.push(self.at + HOUSEKEEPING_US, Event::Housekeeping);
            }
        }
    }

    fn happen_to(&mut self, machine: usize, life: u64, what: Happening) {
        let Some(process) = &mut self.machines[machine].process else { return };
        match what {
            Happening::Wake => {
                if process.wake_at.is_some_and(|at| at <= self.at) {
                    process.wake_at = None;
                    self.feed(machine, Input::Timeout);
                }
            }
            Happening::Drain => self.drain(machine),
            Happening::Dialled { dial, addr } => self.dialled(machine, life, dial, addr),
            Happening::NoAnswer { dial, addr } => {
                self.dial_failed(machine, life, dial, &format!("no answer from {addr} over UDP"));
            }
            Happening::Redial { node } => self.redial(machine, life, node),
            Happening::Datagram { link, from, bytes } => {
                // Before the greeting is over nobody reads.
                let up = |l: &Link| l.ends.iter().any(|e| e.machine == machine && e.up);
                if self.network.links.get(&link).is_some_and(up) {
                    self.say(format_args!("{} gossip of {from:016x}, {} bytes", letter(machine), bytes.len()));
                    self.feed(machine, Input::Datagram { node: from, bytes });
                }
            }
            Happening::Asked { from, from_life, from_node, bytes } => {
                self.asked(machine, life, (from, from_life, from_node), bytes);
            }
            Happening::Replied { from, bytes } => self.feed(machine, Input::ExchangeReply { node: from, bytes }),
            Happening::Synced => self.synced(machine),
            Happening::Save => self.save(machine),
            Happening::Pledge { change, bytes } => self.keep_pledge(machine, change, bytes),
            Happening::RetryWrite => {
                process.retries = false;
                self.write(machine);
            }
            Happening::Fetched { token, from, to, bytes_max } => {
                let entries = process.reader.read(from, to, bytes_max).unwrap_or_default();
                #[cfg(test)]
                let entries = self.forge(machine, entries);
                self.counters.count("fetches");
                self.look_for_damage(machine);
                self.feed(machine, Input::Fetched { token, entries });
            }
            Happening::Repair { id, entries } => self.repair(machine, id, entries),
            Happening::Mend { id, proven } => self.mend(machine, id, proven),
            Happening::Input(input) => self.feed(machine, input),
            Happening::Resume => self.resume(machine),
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
            let (life, at) = (process.life, self.at + self.noise.pace[machine].below(turn));
            if at <= self.at {
                return self.drain(machine);
            }
            process.drain_at = Some(at);
            self.push_to(at, machine, life, Happening::Drain);
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
        let (life, clock) = (process.life, process.clock);
        let Some(due) = process.node.poll_timeout() else { return };
        let due = clock.when(due).max(self.at + 1);
        if process.wake_at.is_none_or(|at| at > due || at < self.at) {
            process.wake_at = Some(due);
            self.push_to(due, machine, life, Happening::Wake);
        }
    }
}

impl World {
    /// What this run has shown.
    pub(super) fn report(mut self) -> Report {
        for machine in 0..self.machines.len() {
            self.count_disk(machine);
        }
        let trace = std::mem::take(&mut self.trace);
        Report {
            plan: self.plan.clone(),
            trace_hash: trace.hash(),
            trace_lines: trace.lines(),
            events: self.events,
            lasted_us: self.at,
            trace: trace.into_lines(),
            counters: std::mem::take(&mut self.counters),
            violation: self.witness.violation().cloned(),
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
