//! Cluster: cores in a virtual world of time, network and disks, with the verbs of a story.
//!
//! It decides nothing for them; all that happens is checked from outside by [`Witness`].

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::time::Duration;

use quorate_raft::*;

use crate::witness::Witness;

pub(crate) type Micros = u64;
pub(crate) const MS: Micros = 1000;

pub(crate) fn node(n: u64) -> NodeId {
    NodeId::new(n).expect("not zero")
}

pub(crate) fn set(nodes: &[u64]) -> BTreeSet<NodeId> {
    nodes.iter().map(|&n| node(n)).collect()
}

/// One entry as a disk holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) term: Term,
    pub(crate) kind: EntryKind,
    /// Stands for the bytes: the ticket that proposed it, zero for the core's own.
    pub(crate) data: u64,
    pub(crate) bytes: u32,
}

/// What survives a crash.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    pub(crate) hard_state: HardState,
    pub(crate) log: Vec<Entry>,
}

impl Disk {
    /// Applies a write, in the order of its parts.
    fn apply(&mut self, write: &Persist, entries: &[Entry]) {
        if let Some(hard_state) = write.hard_state {
            self.hard_state = hard_state;
        }
        if let Some(from) = write.truncate_from {
            self.log.truncate(from.0 as usize - 1);
        }
        self.log.extend_from_slice(entries);
    }

    pub(crate) fn saved(&self, committed: LogIndex) -> Saved {
        let mut saved = Saved { hard_state: self.hard_state, committed, ..Saved::default() };
        for (i, entry) in (1..).zip(&self.log) {
            if saved.runs.last().is_none_or(|run| run.term != entry.term) {
                saved.runs.push(Run { first: LogIndex(i), term: entry.term });
            }
            if let EntryKind::Configuration(c) = &entry.kind {
                saved.configurations.push((LogIndex(i), c.clone()));
            }
        }
        saved.last = LogIndex(self.log.len() as u64);
        saved
    }
}

/// One machine.
pub(crate) struct Machine {
    pub(crate) raft: Option<Raft>,
    pub(crate) boot: BootId,
    pub(crate) disk: Disk,
    /// The log as the running process sees it: the disk and all writes on their way.
    pub(crate) log: Vec<Entry>,
    writes: VecDeque<(Persist, Vec<Entry>)>,
    /// Is a flush under way, and up to which write.
    flushing: Option<PersistTicket>,
    /// How long a flush takes; `None` while the disk hangs.
    pub(crate) fsync: Option<Micros>,
    /// Bytes of proposals handed in and not yet seen in a write.
    proposed: VecDeque<(u64, u32)>,
    boots_known: BTreeMap<NodeId, BootId>,
    pub(crate) alarms: Vec<&'static str>,
    pub(crate) halted: Option<Halt>,
    pub(crate) writes_seen: usize,
}

pub(crate) struct Packet {
    pub(crate) from: NodeId,
    pub(crate) from_boot: BootId,
    pub(crate) to: NodeId,
    pub(crate) message: Message,
    pub(crate) entries: Vec<EntryShape>,
    pub(crate) data: Vec<(LogIndex, u64)>,
}

enum Event {
    Deliver(Box<Packet>),
    Flushed(NodeId, BootId, PersistTicket),
}

/// How unkind the network is; chances in a thousand.
#[derive(Clone, Debug, Default)]
pub(crate) struct Weather {
    pub(crate) drop: u64,
    pub(crate) duplicate: u64,
    /// Delivered once more, much later.
    pub(crate) replay: u64,
    pub(crate) delay_max: Micros,
}

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
    events: BinaryHeap<Reverse<(Micros, u64)>>,
    payloads: BTreeMap<u64, Event>,
    sequence: u64,
    pub(crate) random: Random,
    next_ticket: u64,
    lives: u64,
    pub(crate) truncations: u64,
    pub(crate) replays: u64,
}

/// SplitMix64, for the world; the cores have their own.
#[derive(Clone)]
pub(crate) struct Random(pub u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }
    pub(crate) fn chance(&mut self, in_thousand: u64) -> bool {
        self.below(1000) < in_thousand
    }
    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        (!from.is_empty()).then(|| from[self.below(from.len() as u64) as usize])
    }
}

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
            let disk = Disk { hard_state: HardState { term: Term(1), vote: None }, log: vec![founding.clone()] };
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
            events: BinaryHeap::new(),
            payloads: BTreeMap::new(),
            sequence: 0,
            random: Random(1),
            next_ticket: 0,
            lives: 0,
            truncations: 0,
            replays: 0,
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

    fn clock(&self) -> Now {
        Now { mono: Mono(self.now), wall: Wall(0) }
    }

    fn schedule(&mut self, at: Micros, event: Event) {
        self.sequence += 1;
        self.events.push(Reverse((at, self.sequence)));
        self.payloads.insert(self.sequence, event);
    }

    /// The next thing that happens, if it happens before `until`. False if nothing does.
    pub(crate) fn step(&mut self, until: Micros) -> bool {
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

    fn drain(&mut self, id: NodeId, arrived: &[(LogIndex, u64)]) {
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
            self.witness.appended(LogIndex(machine.log.len() as u64 + 1), before, entry);
            machine.log.push(entry.clone());
        }
        machine.writes.push_back((write, entries));
    }

    fn start_flush(&mut self, id: NodeId) {
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
        let disk = self.machines[&id].disk.clone_shape();
        self.witness.hard_state(id, disk);
        self.input(id, Input::Persisted { ticket });
    }

    /// Hangs or frees a disk.
    pub(crate) fn disk_hangs(&mut self, id: NodeId, hangs: bool) {
        self.machine(id).fsync = (!hangs).then_some(MS);
        self.start_flush(id);
    }

    fn send(&mut self, from: NodeId, to: NodeId, message: Message) {
        *self.sent.entry(message.kind()).or_default() += 1;
        self.witness.sent(from, to, &message, &self.machines[&from]);
        let sender = &self.machines[&from];
        let mut entries = Vec::new();
        let mut data = Vec::new();
        if let Some((first, last)) = message.entries() {
            for index in first.0..=last.0 {
                let Some(entry) = sender.log.get(index as usize - 1) else { return };
                let position = Position { index: LogIndex(index), term: entry.term };
                entries.push(EntryShape { position, kind: entry.kind.clone(), bytes: entry.bytes });
                data.push((LogIndex(index), entry.data));
            }
        }
        let packet = Packet { from, from_boot: sender.boot, to, message, entries, data };
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

    // ---- verbs ----

    /// Keeps all messages of this kind on this way back, until `let_go`.
    pub(crate) fn hold_back(&mut self, from: NodeId, to: NodeId, kind: &'static str) {
        self.capture.insert((from, to, kind));
    }

    /// Delivers what was kept back, in order, and keeps no more.
    pub(crate) fn let_go(&mut self) {
        self.capture.clear();
        for packet in std::mem::take(&mut self.captured) {
            self.deliver(packet);
        }
    }

    /// A machine whose disk holds entries of these terms after the founding configuration of `voters`.
    pub(crate) fn with_log(&mut self, n: u64, term: u64, voters: &[u64], terms: &[u64]) -> NodeId {
        let configuration = Configuration { voters: set(voters), ..Configuration::default() };
        let mut log = vec![Entry { term: Term(1), kind: EntryKind::Configuration(configuration), data: 0, bytes: 0 }];
        for (i, &term) in (2..).zip(terms) {
            // The same entry wherever the same term wrote the same index.
            log.push(Entry {
                term: Term(term),
                kind: EntryKind::Normal,
                data: 1_000_000 + term * 1000 + i,
                bytes: 100,
            });
        }
        self.add_with(n, Disk { hard_state: HardState { term: Term(term), vote: None }, log })
    }

    pub(crate) fn term(&self, id: NodeId) -> u64 {
        self.raft(id).term().0
    }

    pub(crate) fn others(&self, id: NodeId) -> Vec<NodeId> {
        self.machines.keys().copied().filter(|other| *other != id).collect()
    }

    pub(crate) fn is_committed(&self, ticket: Ticket) -> bool {
        matches!(self.outcome(ticket), Some(Outcome::Committed { .. }))
    }

    pub(crate) fn crash(&mut self, id: NodeId) {
        let machine = self.machine(id);
        machine.raft = None;
        machine.writes.clear();
        machine.flushing = None;
        machine.proposed.clear();
        machine.boots_known.clear();
        machine.log = machine.disk.log.clone();
        self.witness.crashed(id);
    }

    pub(crate) fn restart(&mut self, id: NodeId) {
        self.lives += 1;
        let (now, seed, lives) = (self.clock(), self.random.next(), self.lives);
        let (options, fsync) = (self.options.clone(), self.fsync);
        let machine = self.machine(id);
        machine.boot = BootId(lives);
        machine.fsync = Some(fsync);
        let raft = Raft::restore(options, id, machine.boot, machine.disk.saved(LogIndex::ZERO), seed, now);
        machine.raft = Some(raft);
        self.drain(id, &[]);
    }

    pub(crate) fn raft(&self, id: NodeId) -> &Raft {
        self.machines[&id].raft.as_ref().expect("it runs")
    }

    pub(crate) fn leader(&self) -> Option<NodeId> {
        let leads = |m: &Machine| m.raft.as_ref().filter(|r| r.is_leader()).map(|r| r.term());
        self.machines.iter().filter_map(|(id, m)| Some((leads(m)?, *id))).max().map(|(_, id)| id)
    }

    /// Waits for a leader that has committed in its own term and hears a quorum.
    pub(crate) fn elect(&mut self) -> NodeId {
        self.until("a leader", |c| c.stable_leader().is_some());
        self.stable_leader().expect("just seen")
    }

    pub(crate) fn stable_leader(&self) -> Option<NodeId> {
        let leader = self.leader()?;
        let status = self.raft(leader).status();
        let fresh = status.quorum_heard.is_some_and(|at| Mono(self.now).since(at) < Duration::from_millis(200));
        (status.own_term_committed && fresh).then_some(leader)
    }

    /// Makes this node stand now, whatever its timer says, by making the others silent to it.
    pub(crate) fn time_out(&mut self, id: NodeId) {
        let due = self.machines[&id].raft.as_ref().and_then(Raft::poll_timeout).map_or(self.now, |at| at.0);
        let now = Now { mono: Mono(due.max(self.now)), wall: Wall(0) };
        if let Some(raft) = self.machine(id).raft.as_mut() {
            raft.handle(now, Input::Timeout);
        }
        self.drain(id, &[]);
    }

    pub(crate) fn ticket(&mut self) -> Ticket {
        self.next_ticket += 1;
        Ticket(self.next_ticket)
    }

    pub(crate) fn propose(&mut self, id: NodeId) -> Ticket {
        self.propose_bytes(id, 100)
    }

    pub(crate) fn propose_bytes(&mut self, id: NodeId, bytes: u32) -> Ticket {
        let ticket = self.ticket();
        if self.machines[&id].raft.is_none() {
            return ticket;
        }
        self.witness.issued(ticket, id);
        let machine = self.machine(id);
        machine.proposed.push_back((ticket.0, bytes));
        self.input(id, Input::Propose { ticket, bytes, term: None });
        // Refused: its bytes go nowhere.
        if self.witness.accepted_at(ticket).is_none() {
            self.machine(id).proposed.retain(|(data, _)| *data != ticket.0);
        }
        ticket
    }

    /// Many proposals before anything is polled.
    pub(crate) fn propose_burst(&mut self, id: NodeId, count: usize) -> Vec<Ticket> {
        let clock = self.clock();
        let mut tickets = Vec::new();
        for _ in 0..count {
            let ticket = self.ticket();
            self.witness.issued(ticket, id);
            let machine = self.machine(id);
            machine.proposed.push_back((ticket.0, 100));
            machine.raft.as_mut().expect("it runs").handle(clock, Input::Propose { ticket, bytes: 100, term: None });
            tickets.push(ticket);
        }
        self.drain(id, &[]);
        tickets
    }

    pub(crate) fn read(&mut self, id: NodeId) -> Ticket {
        let ticket = self.ticket();
        if self.machines[&id].raft.is_none() {
            return ticket;
        }
        self.witness.read_issued(ticket, id);
        self.input(id, Input::Read { ticket });
        ticket
    }

    pub(crate) fn change(&mut self, id: NodeId, voters: &[u64], learners: &[u64]) -> Ticket {
        let expected = self.machines[&id].raft.as_ref().map_or(LogIndex::ZERO, Raft::configuration_index);
        self.change_expecting(id, expected, voters, learners)
    }

    pub(crate) fn change_expecting(
        &mut self,
        id: NodeId,
        expected: LogIndex,
        voters: &[u64],
        learners: &[u64],
    ) -> Ticket {
        let ticket = self.ticket();
        if self.machines[&id].raft.is_none() {
            return ticket;
        }
        self.witness.issued(ticket, id);
        self.input(id, Input::Change { ticket, expected, voters: set(voters), learners: set(learners) });
        ticket
    }

    pub(crate) fn transfer(&mut self, id: NodeId, to: Option<NodeId>) -> Ticket {
        let ticket = self.ticket();
        if self.machines[&id].raft.is_none() {
            return ticket;
        }
        self.witness.issued(ticket, id);
        self.input(id, Input::Transfer { ticket, to });
        ticket
    }

    pub(crate) fn outcome(&self, ticket: Ticket) -> Option<Outcome> {
        self.witness.outcome(ticket)
    }

    /// Cuts both directions between two nodes.
    pub(crate) fn cut(&mut self, a: NodeId, b: NodeId) {
        self.cut.insert((a, b));
        self.cut.insert((b, a));
    }

    /// Cuts a node off from all others.
    pub(crate) fn isolate(&mut self, id: NodeId) {
        let others: Vec<_> = self.machines.keys().copied().filter(|other| *other != id).collect();
        for other in others {
            self.cut(id, other);
        }
    }

    /// Two islands that do not hear each other.
    pub(crate) fn partition(&mut self, island: &[NodeId]) {
        let all: Vec<_> = self.machines.keys().copied().collect();
        for &a in island {
            for &b in all.iter().filter(|b| !island.contains(b)) {
                self.cut(a, b);
            }
        }
    }

    pub(crate) fn heal(&mut self) -> &mut Self {
        self.cut.clear();
        self.censored.clear();
        self
    }

    /// Until there is a leader, all members have its whole log, durable and committed.
    pub(crate) fn settle(&mut self) -> &mut Self {
        self.until("all logs equal and committed", Self::is_settled)
    }

    pub(crate) fn is_settled(&self) -> bool {
        let Some(leader) = self.stable_leader() else { return false };
        let leading = self.raft(leader);
        let last = leading.last();
        let configuration = leading.configuration();
        !configuration.is_joint()
            && leading.committed() == last.index
            && configuration.members().iter().all(|member| {
                self.machines.get(member).and_then(|m| m.raft.as_ref()).is_none_or(|raft| {
                    raft.last() == last
                        && raft.durable() == last.index
                        && raft.committed() == last.index
                        && raft.leader() == Some(leader)
                })
            })
    }

    /// What this node has committed, as tickets in log order.
    pub(crate) fn committed(&self, id: NodeId) -> Vec<Ticket> {
        let upto = self.raft(id).committed().0 as usize;
        self.machines[&id].log[..upto].iter().filter(|e| e.data != 0).map(|e| Ticket(e.data)).collect()
    }

    /// The terms of this node's log, for comparing shapes.
    pub(crate) fn terms(&self, id: NodeId) -> Vec<u64> {
        self.machines[&id].log.iter().map(|e| e.term.0).collect()
    }

    pub(crate) fn sent(&self, kind: &str) -> u64 {
        self.sent.get(kind).copied().unwrap_or(0)
    }

    pub(crate) fn picture(&self) -> String {
        let mut out = format!("at {} us, cut {:?}\n", self.now, self.cut);
        for (id, machine) in &self.machines {
            match &machine.raft {
                None => out += &format!("{id:?} down, disk {:?} {}\n", machine.disk.hard_state, machine.disk.log.len()),
                Some(raft) => out += &format!("{:?}\n  terms {:?}\n", raft.status(), self.terms(*id)),
            }
        }
        out
    }
}

impl Clone for Packet {
    fn clone(&self) -> Self {
        Self {
            from: self.from,
            from_boot: self.from_boot,
            to: self.to,
            message: self.message.clone(),
            entries: self.entries.clone(),
            data: self.data.clone(),
        }
    }
}

impl Disk {
    fn clone_shape(&self) -> HardState {
        self.hard_state
    }
}
