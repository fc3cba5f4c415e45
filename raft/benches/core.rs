//! What the core costs: three members in memory, driven as fast as they go, and single messages.
//!
//! No disk, no network, no bytes: `cargo bench -p quorate-raft --bench core`

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use quorate_raft::*;
use std::collections::{BTreeMap, VecDeque};
use std::hint::black_box;
use std::time::Duration;

/// Bytes of every entry that is proposed.
const BYTES: u32 = 256;

/// Three members whose disks and network take no time.
struct Group {
    now: Now,
    members: Vec<Raft>,
    /// The entries that the core made itself; all others look alike.
    own: BTreeMap<LogIndex, EntryShape>,
    waiting: VecDeque<(usize, Input)>,
    ticket: u64,
    ended: u64,
}

/// What one member was told, and who it was before.
struct Moment {
    member: Raft,
    input: Input,
}

impl Group {
    fn new() -> Self {
        let ids: Vec<NodeId> = (1..=3).filter_map(NodeId::new).collect();
        let voters = Configuration { voters: ids.iter().copied().collect(), ..Configuration::default() };
        let first = Position { index: LogIndex(1), term: Term(1) };
        let now = Now { mono: Mono(0), wall: Wall(0) };
        let saved = Saved {
            hard_state: HardState { term: Term(1), vote: None },
            runs: vec![Run { first: first.index, term: first.term }],
            last: first.index,
            configurations: vec![(first.index, voters.clone())],
            ..Saved::default()
        };
        let member =
            |id: &NodeId| Raft::restore(Options::default(), *id, BootId(id.get()), saved.clone(), id.get(), now);
        let members = ids.iter().map(member).collect();
        let own = EntryShape { position: first, kind: EntryKind::Configuration(voters), bytes: 0 };
        let own = BTreeMap::from([(first.index, own)]);
        let mut group = Self { now, members, own, waiting: VecDeque::new(), ticket: 0, ended: 0 };
        // The first one stands for election before anybody else is due.
        group.now.mono = group.members[0].poll_timeout().expect("a follower waits for its leader");
        group.tell(0, Input::Timeout);
        group.settle();
        assert!(group.members[0].is_leader());
        group
    }

    fn shape(&self, position: Position) -> EntryShape {
        let alike = || EntryShape { position, kind: EntryKind::Normal, bytes: BYTES };
        self.own.get(&position.index).cloned().unwrap_or_else(alike)
    }

    /// One input, and whatever it leads to is queued.
    fn tell(&mut self, to: usize, input: Input) {
        self.members[to].handle(self.now, input);
        while let Some(output) = self.members[to].poll_output() {
            match output {
                Output::Persist(write) => {
                    for entry in write.append.into_iter().filter(|entry| entry.kind != EntryKind::Normal) {
                        self.own.insert(entry.position.index, entry);
                    }
                    self.waiting.push_back((to, Input::Persisted { ticket: write.ticket }));
                }
                Output::Send { to: peer, message } => {
                    let entries = message.announced().map_or(Vec::new(), |(prev, last)| {
                        let indexes = prev.index.0 + 1..=last.index.0;
                        indexes.map(|i| self.shape(Position { index: LogIndex(i), term: last.term })).collect()
                    });
                    let from = NodeId::new(to as u64 + 1).expect("members count from one");
                    let peer = usize::try_from(peer.get() - 1).expect("there are three");
                    self.waiting.push_back((peer, Input::Message { from, message, entries }));
                }
                Output::Done { .. } => self.ended += 1,
                _ => {}
            }
        }
    }

    fn settle(&mut self) {
        while let Some((to, input)) = self.waiting.pop_front() {
            self.tell(to, input);
        }
    }

    fn propose(&mut self) {
        self.ticket += 1;
        self.tell(0, Input::Propose { ticket: Ticket(self.ticket), bytes: BYTES, term: None });
    }

    /// Settles until somebody is about to be told what `is` asks for.
    fn before(mut self, to: usize, is: impl Fn(&Input) -> bool) -> Moment {
        loop {
            let (member, input) = self.waiting.pop_front().expect("it comes sooner or later");
            if member == to && is(&input) {
                return Moment { member: self.members[to].clone(), input };
            }
            self.tell(member, input);
        }
    }
}

fn is_kind(kind: &'static str) -> impl Fn(&Input) -> bool {
    move |input| matches!(input, Input::Message { message, .. } if message.kind() == kind)
}

/// Proposals that the whole group commits, so many handed in at a time: everything that three cores do for it.
fn proposals(criterion: &mut Criterion) {
    let mut benches = criterion.benchmark_group("three cores, proposals");
    for together in [1, 16, 256, 1024] {
        benches.throughput(Throughput::Elements(together));
        benches.bench_function(BenchmarkId::from_parameter(together), |bencher| {
            let mut group = Group::new();
            bencher.iter(|| {
                let goal = group.ended + together;
                (0..together).for_each(|_| group.propose());
                group.settle();
                assert_eq!(group.ended, goal);
            });
        });
    }
}

/// One input to one member, with everything that it asks for in return.
fn messages(criterion: &mut Criterion) {
    let proposed = || {
        let mut group = Group::new();
        group.propose();
        group
    };
    let heartbeat = {
        let mut group = Group::new();
        group.now.mono = group.members[0].poll_timeout().expect("a leader's heartbeat is due");
        group.tell(0, Input::Timeout);
        group.before(1, is_kind("heartbeat"))
    };
    let propose = Input::Propose { ticket: Ticket(9), bytes: BYTES, term: None };
    let moments = [
        ("leader: a proposal", Moment { member: Group::new().members.swap_remove(0), input: propose }),
        ("leader: its own write is durable", proposed().before(0, |input| matches!(input, Input::Persisted { .. }))),
        ("leader: an ack that commits", proposed().before(0, is_kind("append-reply"))),
        ("follower: a heartbeat", heartbeat),
        ("follower: an append of one entry", proposed().before(1, is_kind("append"))),
        ("follower: its write is durable", proposed().before(1, |input| matches!(input, Input::Persisted { .. }))),
    ];
    let mut benches = criterion.benchmark_group("one message");
    benches.throughput(Throughput::Elements(1));
    for (name, Moment { member, input }) in moments {
        let now = Now { mono: member.poll_timeout().map_or(Mono(0), |at| Mono(at.0.saturating_sub(1))), wall: Wall(0) };
        let fresh = || (member.clone(), input.clone());
        benches.bench_function(name, |bencher| {
            bencher.iter_batched(
                fresh,
                |(mut member, input)| {
                    member.handle(now, input);
                    while let Some(output) = member.poll_output() {
                        black_box(output);
                    }
                    // Dropped by the harness, off the clock.
                    member
                },
                BatchSize::SmallInput,
            );
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3));
    targets = proposals, messages
}
criterion_main!(benches);
