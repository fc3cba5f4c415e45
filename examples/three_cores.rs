//! Three Raft cores driven by hand in a for-loop: an election, a write, the death of the leader, another write.
//!
//! No threads, no sockets, no clock: the loop below is the whole world. `cargo run -p quorate-raft --example three_cores`

use std::collections::{BTreeMap, VecDeque};

use quorate_raft::*;

/// The bytes that the cores never see: each node keeps its own.
type Log = Vec<(EntryShape, String)>;

/// A message on its way, and the entries that travel beside it.
type Packet = (NodeId, NodeId, Message, Log);

#[derive(Default)]
struct World {
    /// Milliseconds since the beginning.
    clock: u64,
    cores: BTreeMap<NodeId, Raft>,
    logs: BTreeMap<NodeId, Log>,
    network: VecDeque<Packet>,
}

fn main() {
    let mut world = World::default();
    let ids: Vec<NodeId> = (1..=3).filter_map(NodeId::new).collect();
    // All three disks hold the same first entry: who votes. (An agent founds with one node and adds the others.)
    let voters = Configuration { voters: ids.iter().copied().collect(), ..Configuration::default() };
    for &id in &ids {
        let first = Position { index: LogIndex(1), term: Term(1) };
        let saved = Saved {
            hard_state: HardState { term: Term(1), vote: None },
            runs: vec![Run { first: first.index, term: first.term }],
            last: first.index,
            configurations: vec![(first.index, voters.clone())],
            ..Saved::default()
        };
        let core = Raft::restore(Options::default(), id, BootId(id.get()), saved, id.get(), world.now());
        world.cores.insert(id, core);
        let kind = EntryKind::Configuration(voters.clone());
        world.logs.insert(id, vec![(EntryShape { position: first, kind, bytes: 0 }, "who votes".into())]);
    }

    let leader = world.run_until_led();
    world.propose(leader, Ticket(1), "the first line");
    world.run(100);

    println!("{:5} ms  {leader:?} is unplugged", world.clock);
    world.cores.remove(&leader);
    let heir = world.run_until_led();
    world.propose(heir, Ticket(2), "the second line");
    world.run(100);

    for (id, core) in &world.cores {
        let lines: Vec<_> = world.logs[id].iter().map(|(_, line)| line.as_str()).collect();
        println!("{id:?} committed {} of {lines:?}", core.committed());
    }
}

impl World {
    fn now(&self) -> Now {
        Now { mono: Mono(self.clock * 1000), wall: Wall(0) }
    }

    fn propose(&mut self, to: NodeId, ticket: Ticket, line: &str) {
        println!("{:5} ms  propose {line:?} to {to:?}", self.clock);
        self.input(to, Input::Propose { ticket, bytes: line.len() as u32, term: None }, &[line.into()]);
    }

    fn run_until_led(&mut self) -> NodeId {
        loop {
            self.run(1);
            if let Some((&id, _)) = self.cores.iter().find(|(_, core)| core.is_leader()) {
                return id;
            }
        }
    }

    /// The loop: each millisecond, wake who must be woken and deliver what is on its way.
    fn run(&mut self, ms: u64) {
        for _ in 0..ms {
            self.clock += 1;
            let now = self.now().mono;
            let due = |core: &Raft| core.poll_timeout().is_some_and(|at| at <= now);
            let wake: Vec<_> = self.cores.iter().filter(|(_, core)| due(core)).map(|(&id, _)| id).collect();
            for id in wake {
                self.input(id, Input::Timeout, &[]);
            }
            for (from, to, message, log) in std::mem::take(&mut self.network) {
                let (entries, lines): (Vec<_>, Vec<_>) = log.into_iter().unzip();
                self.input(to, Input::Message { from, message, entries }, &lines);
            }
        }
    }

    /// One input to one core, then all that it asks for. `lines` are the bytes that came with the input.
    fn input(&mut self, id: NodeId, input: Input, lines: &[String]) {
        let now = self.now();
        let Some(core) = self.cores.get_mut(&id) else { return };
        core.handle(now, input);
        while let Some(output) = core.poll_output() {
            match output {
                Output::Persist(write) => {
                    let log = self.logs.entry(id).or_default();
                    if let Some(from) = write.truncate_from {
                        log.retain(|(entry, _)| entry.position.index < from);
                    }
                    // What came with the input ends where the write ends; the core's own entries came with nothing.
                    let known = lines.len().min(write.append.len());
                    let own = write.append.len() - known;
                    for (i, entry) in write.append.into_iter().enumerate() {
                        let line = if i < own { "-".into() } else { lines[lines.len() - known + i - own].clone() };
                        log.push((entry, line));
                    }
                    // This disk is memory, so the write is durable already.
                    core.handle(now, Input::Persisted { ticket: write.ticket });
                }
                Output::Send { to, message } => {
                    let entries = message
                        .entries()
                        .map_or(&[][..], |(first, last)| &self.logs[&id][first.0 as usize - 1..last.0 as usize]);
                    self.network.push_back((id, to, message.clone(), entries.to_vec()));
                }
                Output::Committed { index } => println!("{:5} ms  {id:?} committed {index}", self.clock),
                Output::RoleChanged => {
                    println!("{:5} ms  {id:?} is {:?} in term {}", self.clock, core.role(), core.term())
                }
                Output::Done { ticket, outcome } => println!("{:5} ms  {ticket:?} ended: {outcome:?}", self.clock),
                Output::Accepted { .. } | Output::ReadReady { .. } | Output::ConfigurationChanged => {}
                Output::Alarm { from, what, .. } => println!("{from:?} {what}"),
                Output::Halted(why) => println!("{id:?} stopped: {why:?}"),
            }
        }
    }
}
