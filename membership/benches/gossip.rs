//! What the gossip core costs: a ping answered, a piece of news heard, and a second of an idle member.
//!
//! `cargo bench -p quorate-membership --bench gossip`. The network is left out: these are the core's own microseconds.

#![allow(clippy::unwrap_used)]

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use quorate_membership::{Input, Local, Membership, Mono, Now, Options, Output, Tags};
use std::hint::black_box;
use std::net::SocketAddr;

const SIZES: [u64; 4] = [10, 100, 1_000, 5_000];
/// Bytes of an identity with an IPv4 address.
const IDENTITY: usize = 35;

fn addr(node: u64) -> SocketAddr {
    SocketAddr::from(([10, 0, (node >> 8) as u8, node as u8], 7373))
}

fn identity(node: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(IDENTITY);
    for part in [node, 1, 1] {
        out.extend(part.to_be_bytes());
    }
    out.extend([0; 4]);
    out.extend([4, 10, 0, (node >> 8) as u8, node as u8]);
    out.extend(7373u16.to_be_bytes());
    out
}

/// A datagram from `from` to node 1: a message with its number, and members in an incarnation, alive.
fn datagram(from: u64, message: &[u8], members: &[(u64, u16)]) -> Vec<u8> {
    let mut foca = identity(from);
    foca.extend([0; 2]);
    foca.extend(identity(1));
    foca.extend(message);
    foca.extend((members.len() as u16).to_be_bytes());
    for (node, incarnation) in members {
        foca.extend(identity(*node));
        foca.extend(incarnation.to_be_bytes());
        foca.push(0);
    }
    let mut out = vec![1];
    out.extend((foca.len() as u16).to_be_bytes());
    out.extend(foca);
    out
}

/// Node 1, which has met all others; they answer every ping at once.
struct World {
    core: Membership,
    now: u64,
}

impl World {
    fn new(n: u64) -> Self {
        let (name, version) = ("agent-1".to_owned(), "0.1.0".to_owned());
        let local = Local { node: 1, name, addr: addr(1), epoch: 1, boot: 1, version, tags: Tags::default() };
        let core = Membership::new(Options::lan(), local, 1, Now::default()).unwrap();
        let mut world = Self { core, now: 0 };
        for node in 2..=n {
            let (name, version) = (format!("agent-{node}"), "0.1.0".to_owned());
            world.input(Input::Contact { node, name, addr: addr(node), epoch: 1, boot: 1, version });
        }
        // The news of all these contacts goes out.
        for _ in 0..60 + n / 10 {
            world.second();
        }
        assert_eq!(world.core.status().counts.alive as u64, n, "nobody failed: all were answered");
        world
    }

    fn input(&mut self, input: Input) {
        self.core.handle(Now { mono: Mono(self.now), wall_us: 0 }, input);
        let mut answers = Vec::new();
        while let Some(output) = self.core.poll_output() {
            if let Output::Datagram { to, bytes, .. } = black_box(output)
                && let Some([0, number]) = bytes.get(3 + 2 * IDENTITY + 2..3 + 2 * IDENTITY + 4)
            {
                answers.push((to, *number));
            }
        }
        for (from, number) in answers {
            self.input(Input::Datagram { from, bytes: datagram(from, &[1, number], &[]) });
        }
    }

    fn second(&mut self) {
        let end = self.now + 1_000_000;
        while let Some(Mono(at)) = self.core.poll_timeout().filter(|at| at.0 <= end) {
            self.now = at.max(self.now);
            self.input(Input::Timeout);
        }
        self.now = end;
    }
}

fn gossip(c: &mut Criterion) {
    for n in SIZES {
        let mut world = World::new(n);
        let ping = datagram(2, &[0, 7], &[]);
        c.benchmark_group("ping").bench_function(BenchmarkId::from_parameter(n), |b| {
            b.iter(|| world.input(Input::Datagram { from: 2, bytes: ping.clone() }));
        });
        let mut heard = 0u64;
        c.benchmark_group("news").bench_function(BenchmarkId::from_parameter(n), |b| {
            b.iter(|| {
                heard += 1;
                let (node, incarnation) = (3 + heard % (n - 2), 1 + (heard / (n - 2)) as u16 % 30_000);
                world.input(Input::Datagram { from: 2, bytes: datagram(2, &[8], &[(node, incarnation)]) });
            });
        });
        let mut world = World::new(n);
        c.benchmark_group("second").bench_function(BenchmarkId::from_parameter(n), |b| b.iter(|| world.second()));
    }
}

criterion_group!(benches, gossip);
criterion_main!(benches);
