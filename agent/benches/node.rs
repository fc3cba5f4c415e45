//! What an append costs the whole node, without disk and network: admission, numbering, sealing, Raft, apply, answer.
//!
//! One agent that is its own quorum, whose disk takes no time: `cargo bench -p quorate --bench node`

use bytes::Bytes;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use quorate::api::Append;
use quorate::membership;
use quorate::node::{
    Boot, Formation, GROWTH_PATIENCE_DEFAULT, Input, LOOK_FOR_DEFAULT, NAME_HOLD_DEFAULT, Node, Options, Output,
    REPLICAS_MAX_DEFAULT, Request, What,
};
use quorate::raft::wal::{Meta, Recovered};
use quorate::raft::{BootId, Mono, NodeId, Now, Wall};
use quorate::record::{Record, encode_batch};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// Bytes of a record's value.
const VALUE_BYTES: usize = 256;
/// How long after its start, in its own time, the agent surely leads the log that it founded.
const FOUNDED_US: u64 = 60_000_000;

/// An agent alone.
struct Alone {
    node: Node,
    now: Now,
    who: Arc<str>,
    /// What its disk has to say.
    written: VecDeque<Input>,
    next: u64,
    answered: u64,
}

impl Alone {
    fn new() -> Self {
        let id = NodeId::new(42).expect("not zero");
        let options = Options {
            name: "a".into(),
            version: "bench".into(),
            tags: BTreeMap::new(),
            advertise: ([10, 0, 0, 1], 7373).into(),
            formation: Formation { bootstrap: true, seeds: Vec::new(), look_for: LOOK_FOR_DEFAULT, expect: 0 },
            keys: Arc::new(quorate::pledge::NoKeys),
            fresh_log_id: [7; 16],
            boot: BootId(1),
            seed: 1,
            raft: quorate::raft::Options::default(),
            membership: membership::Options::lan(),
            record_bytes_max: 1 << 20,
            voters_target: 5,
            replicas_max: REPLICAS_MAX_DEFAULT,
            name_hold: NAME_HOLD_DEFAULT,
            checkpoint_entries: u64::MAX,
            checkpoint_bytes: u64::MAX,
            growth_patience: GROWTH_PATIENCE_DEFAULT,
            autopilot: Default::default(),
            feature_level: quorate::node::level::FEATURE_LEVEL,
            disk_reserve_bytes: 0,
        };
        let mut meta = Meta::new([1; 16], id);
        meta.boot_epoch = 1;
        let boot = Boot {
            meta,
            recovered: Recovered::default(),
            checkpoints: Default::default(),
            control: Vec::new(),
            known: Vec::new(),
            record: Default::default(),
            tags: BTreeMap::new(),
        };
        let now = Now { mono: Mono(0), wall: Wall(1_700_000_000_000_000) };
        let node = Node::restore(options, boot, now).expect("legal options");
        let who = "client bench (append)".into();
        let mut alone = Self { node, now, who, written: VecDeque::new(), next: 0, answered: 0 };
        while let Some(due) = alone.node.poll_timeout().filter(|due| due.0 < FOUNDED_US) {
            alone.now.mono = alone.now.mono.max(due);
            alone.tell(Input::Timeout);
        }
        let batches = alone.batches(1);
        alone.append(batches);
        assert_eq!(alone.answered, 1, "it leads its own log");
        alone
    }

    /// One input, and everything that follows from it; the disk is as quick as the question.
    fn tell(&mut self, input: Input) {
        self.node.handle(self.now, input);
        loop {
            while let Some(output) = self.node.poll_output() {
                match output {
                    Output::Write { ticket, .. } => self.written.push_back(Input::Written { ticket }),
                    Output::Answer { result, .. } => {
                        assert!(result.is_ok(), "{result:?}");
                        self.answered += 1;
                    }
                    _ => {}
                }
            }
            let Some(written) = self.written.pop_front() else { break };
            self.node.handle(self.now, written);
        }
    }

    /// What clients encode; not the node's work.
    fn batches(&self, n: u64) -> Vec<Bytes> {
        let record = |i: u64| Record::of(vec![(self.next + i) as u8; VALUE_BYTES]);
        (0..n).map(|i| encode_batch([record(i)].iter()).expect("a legal record")).collect()
    }

    /// The next request. As much time has passed as the disk of a good machine would take.
    fn request(&mut self, batch: Bytes) -> Input {
        self.next += 1;
        let append = Append { timeout_ms: 10_000, hops: 0, on_behalf_of: self.who.clone(), batch };
        let deadline = self.now.mono.after(Duration::from_secs(10));
        Input::Request(Request { id: self.next, who: self.who.clone(), deadline, what: What::Append(append) })
    }

    fn time_passes(&mut self) {
        self.now.mono.0 += 100;
        self.now.wall.0 += 100;
    }

    /// Appends that come one after the other, and their answers.
    fn append(&mut self, batches: Vec<Bytes>) {
        for batch in batches {
            self.time_passes();
            let request = self.request(batch);
            self.tell(request);
        }
    }

    /// Appends that are all there before anything is asked for, and their answers.
    fn append_together(&mut self, batches: Vec<Bytes>) {
        self.time_passes();
        for batch in batches {
            let request = self.request(batch);
            self.node.handle(self.now, request);
        }
        self.tell(Input::Timeout);
    }
}

fn appends(criterion: &mut Criterion) {
    let mut benches = criterion.benchmark_group("node, appends of 256 bytes");
    benches.throughput(Throughput::Elements(1));
    benches.bench_function("one at a time", |bencher| {
        let alone = std::cell::RefCell::new(Alone::new());
        bencher.iter_batched(
            || alone.borrow().batches(1),
            |batches| alone.borrow_mut().append(batches),
            BatchSize::SmallInput,
        );
        let alone = alone.into_inner();
        assert_eq!(alone.answered, alone.next);
    });
    for together in [64, 1024] {
        benches.throughput(Throughput::Elements(together));
        benches.bench_function(BenchmarkId::new("together", together), |bencher| {
            let alone = std::cell::RefCell::new(Alone::new());
            bencher.iter_batched(
                || alone.borrow().batches(together),
                |batches| alone.borrow_mut().append_together(batches),
                BatchSize::SmallInput,
            );
            let alone = alone.into_inner();
            assert_eq!(alone.answered, alone.next);
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3));
    targets = appends
}
criterion_main!(benches);
