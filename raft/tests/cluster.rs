//! Cluster: cores in a virtual world of time, network and disks, moved one event at a time.
//!
//! It decides nothing for them; all that happens is checked from outside by [`Witness`].

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};

use quorate_raft::*;

use crate::machine::*;
use crate::witness::Witness;

pub(crate) type Micros = u64;
pub(crate) const MS: Micros = 1000;

pub(crate) fn node(n: u64) -> NodeId {
    NodeId::new(n).expect("not zero")
}

pub(crate) fn set(nodes: &[u64]) -> BTreeSet<NodeId> {
    nodes.iter().map(|&n| node(n)).collect()
}

/// What is to come.
enum Event {
    Deliver(Box<Packet>),
    Flushed(NodeId, BootId, PersistTicket),
}

/// The world, and all that happens in it.
pub(crate) struct Cluster {
    pub(crate) now: Micros,
    pub(crate) machines: BTreeMap<NodeId, Machine>,
    pub(crate) options: Options,
    /// How long a flush takes on a machine that was just started.
    pub(crate) fsync: Micros,
    pub(crate) weather: Weather,
    pub(crate) witness: Witness,
    pub(crate) cut: BTreeSet<(NodeId, NodeId)>,
    /// Messages of these kinds vanish.
    pub(crate) censored: BTreeSet<&'static str>,
    /// Messages kept instead of delivered, to be let go by hand.
    pub(crate) captured: Vec<Packet>,
    pub(crate) capture: BTreeSet<(NodeId, NodeId, &'static str)>,
    pub(crate) sent: BTreeMap<&'static str, u64>,
    /// Entries that a machine cannot read from its disk: a message with one of them is never sent.
    pub(crate) unreadable: BTreeSet<(NodeId, LogIndex)>,
    /// A copy of each message that is sent, for who listens in.
    pub(crate) tap: Option<Vec<Packet>>,
    events: BinaryHeap<Reverse<(Micros, u64)>>,
    payloads: BTreeMap<u64, Event>,
    sequence: u64,
    pub(crate) random: Random,
    pub(crate) next_ticket: u64,
    pub(crate) lives: u64,
    pub(crate) truncations: u64,
    pub(crate) replays: u64,
    /// When the last step was, and how many have been at that very moment.
    moment: (Micros, u32),
}

/// So many steps at one moment, and a core asks for a timeout that it does not heed: time would stand still.
const STEPS_AT_ONE_MOMENT_MAX: u32 = 100_000;

impl Cluster {
    /// `n` voters named 1 to n, with the founding configuration in every log.
    pub(crate) fn of(n: u64) -> Self {
        let mut c = Self::empty();
        let founding = Entry {
            term: Term(1),
            kind: EntryKind::Configuration(Configuration {
                voters: set(&(1..=n).collect::<Vec<_>>()),
                ..Default::default()
            }),
            data: 0,
            bytes: 0,
        };
        c.witness.truth(&founding);
        for i in 1..=n {
            let disk = Disk {
                hard_state: HardState { term: Term(1), vote: None },
                log: vec![founding.clone()],
                ..Disk::default()
            };
            c.add_with(i, disk);
        }
        c
    }

    pub(crate) fn empty() -> Self {
        Self {
            now: 1_000_000,
            machines: BTreeMap::new(),
            options: Options::default(),
            fsync: MS,
            weather: Weather { delay_max: 2 * MS, ..Weather::default() },
            witness: Witness::default(),
            cut: BTreeSet::new(),
            censored: BTreeSet::new(),
            captured: Vec::new(),
            capture: BTreeSet::new(),
            sent: BTreeMap::new(),
            unreadable: BTreeSet::new(),
            tap: None,
            events: BinaryHeap::new(),
            payloads: BTreeMap::new(),
            sequence: 0,
            random: Random(1),
            next_ticket: 0,
            lives: 0,
            truncations: 0,
            replays: 0,
            moment: (0, 0),
        }
    }

    /// Other election timeouts, other delays.
    pub(crate) fn seed(mut self, seed: u64) -> Self {
        self.random = Random(seed);
        let all: Vec<_> = self.machines.keys().copied().collect();
        for id in all {
            self.crash(id);
            self.restart(id);
        }
        self
    }

    /// A fresh machine with an empty disk.
    pub(crate) fn add(&mut self, n: u64) -> NodeId {
        self.add_with(n, Disk::default())
    }

    pub(crate) fn add_with(&mut self, n: u64, disk: Disk) -> NodeId {
        let id = node(n);
        let machine = Machine {
            raft: None,
            boot: BootId::ZERO,
            log: disk.log.clone(),
            disk,
            writes: VecDeque::new(),
            flushing: None,
            fsync: Some(MS),
            proposed: VecDeque::new(),
            boots_known: BTreeMap::new(),
            alarms: Vec::new(),
            halted: None,
            writes_seen: 0,
        };
        self.witness.disk(id, &machine.disk);
        self.machines.insert(id, machine);
        self.restart(id);
        id
    }

    pub(crate) fn found(&mut self, id: NodeId) {
        self.input(id, Input::Found);
    }

    // ---- the world turns ----

    pub(crate) fn clock(&self) -> Now {
        Now { mono: Mono(self.now), wall: Wall(0) }
    }

    fn schedule(&mut self, at: Micros, event: Event) {
        self.sequence += 1;
        self.events.push(Reverse((at, self.sequence)));
        self.payloads.insert(self.sequence, event);
    }

    /// The next thing that happens, if it happens before `until`. False if nothing does.
    pub(crate) fn step(&mut self, until: Micros) -> bool {
        self.moment = if self.moment.0 == self.now { (self.now, self.moment.1 + 1) } else { (self.now, 0) };
        assert!(self.moment.1 < STEPS_AT_ONE_MOMENT_MAX, "time stands still\n{}", self.picture());
        let event = self.events.peek().map(|Reverse((at, _))| *at);
        let timeout = self.machines.iter().filter_map(|(id, m)| Some((m.raft.as_ref()?.poll_timeout()?.0, *id))).min();
        let timeout = timeout.map(|(at, id)| (at.max(self.now), id));
        match (event, timeout) {
            (event, Some((at, id))) if at <= until && event.is_none_or(|event| at <= event) => {
                self.now = self.now.max(at);
                self.input(id, Input::Timeout);
                true
            }
            (Some(at), _) if at <= until => {
                self.now = self.now.max(at);
                if let Some(Reverse((_, key))) = self.events.pop() {
                    match self.payloads.remove(&key) {
                        Some(Event::Deliver(packet)) => self.deliver(*packet),
                        Some(Event::Flushed(id, boot, ticket)) => self.flushed(id, boot, ticket),
                        None => {}
                    }
                }
                true
            }
            _ => {
                self.now = self.now.max(until);
                false
            }
        }
    }

    pub(crate) fn run(&mut self, time: Micros) -> &mut Self {
        let until = self.now + time;
        while self.step(until) {}
        self
    }

    /// Runs until it holds; panics if it does not within ten seconds of virtual time.
    pub(crate) fn until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) -> &mut Self {
        let deadline = self.now + 10_000 * MS;
        while !holds(self) {
            assert!(self.step(deadline), "waited ten seconds for: {what}\n{}", self.picture());
        }
        self
    }

    pub(crate) fn input(&mut self, id: NodeId, input: Input) {
        let clock = self.clock();
        let Some(raft) = self.machines.get_mut(&id).and_then(|m| m.raft.as_mut()) else { return };
        raft.handle(clock, input);
        self.drain(id, &[]);
    }

    pub(crate) fn drain(&mut self, id: NodeId, arrived: &[(LogIndex, u64)]) {
        loop {
            let Some(machine) = self.machines.get_mut(&id) else { return };
            let Some(output) = machine.raft.as_mut().and_then(Raft::poll_output) else { break };
            self.obey(id, output, arrived);
        }
        self.witness.look(id, &self.machines);
        self.start_flush(id);
    }

    fn obey(&mut self, id: NodeId, output: Output, arrived: &[(LogIndex, u64)]) {
        match output {
            Output::Persist(write) => self.persist(id, write, arrived),
            Output::Send { to, message } => self.send(id, to, message),
            Output::Committed { index } => self.witness.committed(id, index, &self.machines),
            Output::Accepted { ticket, position } => self.witness.accepted(ticket, position),
            Output::Done { ticket, outcome } => self.witness.done(ticket, outcome),
            Output::ReadReady { ticket, index } => self.witness.read_ready(ticket, index),
            Output::RoleChanged | Output::ConfigurationChanged => {}
            Output::Alarm { what, .. } => self.machine(id).alarms.push(what),
            Output::Halted(why) => self.machine(id).halted = Some(why),
        }
    }

    pub(crate) fn machine(&mut self, id: NodeId) -> &mut Machine {
        self.machines.get_mut(&id).expect("a machine of this cluster")
    }

    fn persist(&mut self, id: NodeId, write: Persist, arrived: &[(LogIndex, u64)]) {
        let machine = self.machines.get_mut(&id).expect("known");
        machine.writes_seen += 1;
        let mut entries = Vec::new();
        for shape in &write.append {
            let came = arrived.iter().find(|(index, _)| *index == shape.position.index).map(|(_, data)| *data);
            let data = match (&shape.kind, came) {
                (_, Some(data)) => data,
                (EntryKind::Normal, None) => machine.proposed.pop_front().expect("bytes of this proposal").0,
                (_, None) => 0,
            };
            entries.push(Entry { term: shape.position.term, kind: shape.kind.clone(), data, bytes: shape.bytes });
        }
        if let Some(from) = write.truncate_from {
            machine.log.truncate(from.0 as usize - 1);
            self.truncations += 1;
        }
        if let Some(first) = write.append.first() {
            assert_eq!(first.position.index.0 as usize, machine.log.len() + 1, "appends are contiguous");
        }
        for entry in &entries {
            let before = machine.log.last().map_or(Term::ZERO, |e| e.term);
            if arrived.is_empty() {
                self.witness.configured(machine, entry);
            }
            self.witness.appended(LogIndex(machine.log.len() as u64 + 1), before, entry);
            machine.log.push(entry.clone());
        }
        machine.writes.push_back((write, entries));
    }

    pub(crate) fn start_flush(&mut self, id: NodeId) {
        let now = self.now;
        let jitter = self.random.below(200);
        let Some(machine) = self.machines.get_mut(&id) else { return };
        if machine.flushing.is_some() || machine.raft.is_none() {
            return;
        }
        let (Some(fsync), Some((last, _))) = (machine.fsync, machine.writes.back()) else { return };
        let (ticket, boot) = (last.ticket, machine.boot);
        machine.flushing = Some(ticket);
        self.schedule(now + fsync + jitter, Event::Flushed(id, boot, ticket));
    }

    fn flushed(&mut self, id: NodeId, boot: BootId, ticket: PersistTicket) {
        let machine = self.machine(id);
        if machine.boot != boot || machine.raft.is_none() {
            return;
        }
        machine.flushing = None;
        while machine.writes.front().is_some_and(|(write, _)| write.ticket <= ticket) {
            if let Some((write, entries)) = machine.writes.pop_front() {
                machine.disk.apply(&write, &entries);
            }
        }
        let disk = self.machines[&id].disk.hard_state;
        self.witness.hard_state(id, disk);
        self.input(id, Input::Persisted { ticket });
    }

    /// Hangs or frees a disk.
    pub(crate) fn disk_hangs(&mut self, id: NodeId, hangs: bool) {
        self.machine(id).fsync = (!hangs).then_some(MS);
        self.start_flush(id);
    }

    /// The disk has no room for entries: terms and votes of all writes that wait become durable before these.
    pub(crate) fn hard_states_overtake(&mut self, id: NodeId) {
        let machine = self.machine(id);
        let mut newest = None;
        for (write, _) in &mut machine.writes {
            if let Some(hard_state) = write.hard_state.take() {
                machine.disk.hard_state = hard_state;
                newest = Some(write.ticket);
            }
        }
        let disk = machine.disk.hard_state;
        if let Some(ticket) = newest {
            self.witness.hard_state(id, disk);
            self.input(id, Input::HardStatePersisted { ticket });
        }
    }

    fn send(&mut self, from: NodeId, to: NodeId, message: Message) {
        *self.sent.entry(message.kind()).or_default() += 1;
        self.witness.sent(from, to, &message, &self.machines[&from]);
        let sender = &self.machines[&from];
        let mut entries = Vec::new();
        let mut data = Vec::new();
        if let Some((first, last)) = message.entries() {
            for index in first.0..=last.0 {
                if self.unreadable.contains(&(from, LogIndex(index))) {
                    return;
                }
                let Some(entry) = sender.log.get(index as usize - 1) else { return };
                let position = Position { index: LogIndex(index), term: entry.term };
                entries.push(EntryShape { position, kind: entry.kind.clone(), bytes: entry.bytes });
                data.push((LogIndex(index), entry.data));
            }
        }
        let packet = Packet { from, from_boot: sender.boot, to, message, entries, data };
        if let Some(tap) = &mut self.tap {
            tap.push(packet.clone());
        }
        let kind = packet.message.kind();
        if self.capture.contains(&(from, to, kind)) {
            return self.captured.push(packet);
        }
        if self.cut.contains(&(from, to)) || self.censored.contains(kind) || self.random.chance(self.weather.drop) {
            return;
        }
        let delay = 100 + self.random.below(self.weather.delay_max);
        if self.random.chance(self.weather.duplicate) {
            let again = delay + self.random.below(20 * MS);
            self.schedule(self.now + again, Event::Deliver(Box::new(packet.clone())));
        }
        if self.random.chance(self.weather.replay) {
            self.replays += 1;
            let again = delay + self.random.below(3_000 * MS);
            self.schedule(self.now + again, Event::Deliver(Box::new(packet.clone())));
        }
        self.schedule(self.now + delay, Event::Deliver(Box::new(packet)));
    }

    pub(crate) fn deliver(&mut self, packet: Packet) {
        let Packet { from, from_boot, to, message, entries, data } = packet;
        if self.machines.get(&to).is_none_or(|m| m.raft.is_none()) || self.cut.contains(&(from, to)) {
            return;
        }
        // A live link between two lives begins with Hello: each side learns the other's boot.
        if self.machines[&from].boot == from_boot && self.machines[&from].raft.is_some() {
            self.hello(from, to);
            self.hello(to, from);
        }
        let clock = self.clock();
        if let Some(raft) = self.machine(to).raft.as_mut() {
            raft.handle(clock, Input::Message { from, message, entries });
        }
        self.drain(to, &data);
    }

    fn hello(&mut self, to: NodeId, peer: NodeId) {
        let boot = self.machines[&peer].boot;
        if self.machine(to).boots_known.insert(peer, boot) != Some(boot) {
            self.input(to, Input::PeerUp { peer, boot });
        }
    }
}
