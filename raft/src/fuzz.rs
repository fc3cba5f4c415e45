//! Fuzz: whatever a peer says, in whatever order, this node does not panic, and keeps what it has promised.
//!
//! The peers here lie without shame; the stories and schedules in `tests/` are about honest ones.

use alloc::collections::{BTreeSet, VecDeque};
use alloc::vec::Vec;
use core::time::Duration;

use crate::message::{Body, Fence};
use crate::prng::Prng;
use crate::*;

struct Liar {
    random: Prng,
    raft: Raft,
    writes: VecDeque<PersistTicket>,
    now: u64,
    tickets: u64,
    /// What really happened: appends, truncations, alarms, times it led, requests that ended.
    seen: [u32; 5],
}

fn node(n: u64) -> NodeId {
    NodeId::new(n).expect("not zero")
}

fn set(nodes: &[u64]) -> BTreeSet<NodeId> {
    nodes.iter().map(|&n| node(n)).collect()
}

impl Liar {
    fn new(seed: u64) -> Self {
        let mut random = Prng::new(seed);
        let configuration = Configuration { voters: set(&[1, 2, 3]), ..Configuration::default() };
        let saved = match random.next() % 4 {
            0 => Saved::default(),
            1 => Saved {
                hard_state: HardState { term: Term(4), vote: None },
                start: Position { index: LogIndex(3), term: Term(2) },
                runs: alloc::vec![Run { first: LogIndex(4), term: Term(3) }],
                last: LogIndex(6),
                configurations: alloc::vec![(LogIndex(2), configuration)],
                committed: LogIndex(3 + random.next() % 2),
                suspect: None,
            },
            _ => Saved {
                hard_state: HardState { term: Term(3), vote: Some(node(2)) },
                start: Position::ZERO,
                runs: alloc::vec![Run { first: LogIndex(1), term: Term(1) }, Run { first: LogIndex(3), term: Term(2) }],
                last: LogIndex(5),
                configurations: alloc::vec![(LogIndex(1), configuration)],
                committed: LogIndex(1 + random.next() % 4),
                // Some disks have lost the end of their log.
                suspect: [None, Some(Position { index: LogIndex(7), term: Term(3) })][random.next() as usize % 2],
            },
        };
        let options = Options { append_entries_max: 2, conflict_runs_max: 2, window_bytes: 50, ..Options::default() };
        let raft = Raft::restore(options, node(1), BootId(1), saved, seed, Now::default());
        Self { random, raft, writes: VecDeque::new(), now: 0, tickets: 0, seen: [0; 5] }
    }

    fn below(&mut self, n: u64) -> u64 {
        self.random.next() % n
    }

    /// Mostly small, so that numbers meet; now and then absurd.
    fn number(&mut self) -> u64 {
        match self.below(60) {
            0 => u64::MAX,
            1 => self.random.next(),
            _ => self.below(9),
        }
    }

    fn position(&mut self) -> Position {
        if self.below(4) > 0 {
            let index = LogIndex(self.below(self.raft.last().index.0 + 2));
            return self.raft.log.position(index).unwrap_or(self.raft.last());
        }
        Position { index: LogIndex(self.number()), term: Term(self.number()) }
    }

    fn entries(&mut self, prev: Position) -> Vec<EntryShape> {
        let (mut entries, mut position) = (Vec::new(), prev);
        for _ in 0..self.below(4) {
            position.index = LogIndex(position.index.0.saturating_add(1));
            position.term = Term(position.term.0.saturating_add(self.below(2)).max(1));
            let kind = match self.below(4) {
                0 => EntryKind::Configuration(Configuration {
                    voters: set(&[1, 2, 1 + self.below(5)]),
                    outgoing: if self.below(2) == 0 { set(&[1 + self.below(4)]) } else { BTreeSet::new() },
                    learners: BTreeSet::new(),
                }),
                _ => EntryKind::Normal,
            };
            entries.push(EntryShape { position, kind, bytes: 10 });
        }
        entries
    }

    fn message(&mut self) -> Input {
        let mut entries = Vec::new();
        let number = self.number();
        let body = match self.below(15) {
            0 => Body::PreVote { round: number, last: self.position() },
            1 => Body::PreVoteReply { round: self.below(6), granted: true },
            2 => Body::Vote { last: self.position(), transfer: number > 4 },
            3 | 4 => Body::VoteReply { granted: true },
            5..=7 => {
                let prev = self.position();
                entries = self.entries(prev);
                let last = entries.last().map_or(prev, |entry| entry.position);
                let last = if self.below(20) == 0 { self.position() } else { last };
                Body::Append { prev, last, commit: LogIndex(number), round: self.below(4), quiet: number == 1 }
            }
            8 | 9 => {
                let matched = LogIndex(number);
                Body::AppendReply {
                    matched,
                    verified: matched.max(LogIndex(self.number())),
                    round: self.below(4),
                    full: self.below(8) == 0,
                }
            }
            10 => {
                let runs = (1..=self.below(4)).map(|i| Run { first: LogIndex(i * 2), term: Term(i) }).collect();
                Body::Conflict { prev: LogIndex(number), last: LogIndex(self.number()), runs, round: self.below(3) }
            }
            11 => Body::StaleTerm,
            12 => Body::ReadIndex { id: number },
            13 => Body::Missing { promised: self.position() },
            _ => match number % 2 {
                0 => Body::ReadIndexReply { id: self.number(), index: Some(LogIndex(self.number())) },
                _ => Body::TimeoutNow { last: self.position() },
            },
        };
        let own = self.raft.term().0;
        let term = match self.below(10) {
            0 => Term(self.number()),
            1 | 2 => Term(own.saturating_add(1)),
            _ => Term(own),
        };
        let from = node(1 + self.below(4));
        let admitted = self.raft.configurations.current().admitted.get(&from).copied().unwrap_or_default();
        let fence = Fence { admitted, from_boot: BootId(self.below(12).min(1) * from.get()), to_boot: BootId(1) };
        Input::Message { from, message: Message { term, fence, body }, entries }
    }

    fn request(&mut self) -> Input {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        match self.below(5) {
            0 | 1 => Input::Propose { ticket, bytes: 10, term: None },
            2 => Input::Read { ticket },
            3 => Input::Transfer { ticket, to: Some(node(1 + self.below(4))) },
            _ => {
                let expected = self.raft.configuration_index();
                let voters = set(&[1 + self.below(4), 1 + self.below(4), 1 + self.below(4)]);
                Input::Change { ticket, expected, voters, learners: BTreeSet::new() }
            }
        }
    }

    fn step(&mut self) {
        let input = match self.below(20) {
            0..=9 => self.message(),
            10 => match self.below(5) {
                0 => Input::Room(self.below(2) == 0),
                1 if self.below(2) == 0 => Input::Irreparable(self.below(2) == 0),
                1 => Input::StepDown,
                2 | 3 if self.below(4) == 0 => {
                    let first = LogIndex(1 + self.below(20));
                    let runs = alloc::vec![Run { first, term: Term(1 + self.below(4)) }];
                    Input::Reread { runs, last: LogIndex(first.0 + self.below(6)) }
                }
                2 | 3 => {
                    let first = LogIndex(1 + self.below(20));
                    let last = LogIndex(first.0 + self.below(6));
                    Input::Damaged((0..self.below(2)).map(|_| (first, last)).collect())
                }
                _ if self.below(2) == 0 => {
                    let [planned, first, last] = [(); 3].map(|()| LogIndex(self.number()));
                    Input::Carried { to: node(1 + self.below(4)), planned, first, last, bytes: self.number() }
                }
                _ => Input::Reluctant(self.below(2) == 0),
            },
            11..=13 => self.request(),
            14 => Input::PeerUp { peer: node(2), boot: BootId(2) },
            15 => Input::PeerDown { peer: node(2 + self.below(2)) },
            16 if self.below(8) == 0 => Input::FoundTogether { voters: (1..4).map(node).collect() },
            16 => Input::Found,
            17 | 18 => match self.writes.pop_front() {
                Some(ticket) => Input::Persisted { ticket },
                None => Input::Timeout,
            },
            _ => {
                let wait = self.random.between(Duration::ZERO, Duration::from_millis(600));
                self.now += u64::try_from(wait.as_micros()).unwrap_or(0);
                Input::Timeout
            }
        };
        let (committed, start) = (self.raft.committed(), self.raft.log.start());
        let kept: Vec<_> = (1..=committed.0).map(|i| self.raft.term_at(LogIndex(i))).collect();
        self.raft.handle(Now { mono: Mono(self.now), wall: Wall(0) }, input);
        while let Some(output) = self.raft.poll_output() {
            match output {
                Output::Persist(write) => {
                    self.seen[0] += u32::from(!write.append.is_empty());
                    self.seen[1] += u32::from(write.truncate_from.is_some());
                    self.writes.push_back(write.ticket);
                }
                Output::Alarm { .. } => self.seen[2] += 1,
                Output::RoleChanged => self.seen[3] += u32::from(self.raft.is_leader()),
                Output::Done { .. } | Output::ReadReady { .. } => self.seen[4] += 1,
                _ => {}
            }
        }
        let now: Vec<_> = (1..=committed.0).map(|i| self.raft.term_at(LogIndex(i))).collect();
        assert_eq!(kept, now, "what was committed has changed");
        assert_eq!(start, self.raft.log.start(), "what a peer said has moved the start of the log");
    }
}

/// The invariants of our own assert after each step; so this also says that no lie can break one (S3).
#[test]
fn no_lie_of_a_peer_makes_it_panic() {
    let (mut halted, mut seen) = (0, [0; 5]);
    for seed in 0..4_000 {
        let mut liar = Liar::new(seed);
        for _ in 0..80 {
            liar.step();
        }
        halted += u32::from(liar.raft.halted().is_some());
        seen.iter_mut().zip(liar.seen).for_each(|(sum, one)| *sum += one);
    }
    let bites = halted < 2_500 && seen.iter().all(|count| *count > 500);
    assert!(bites, "{halted} of 4000 halted, seen {seen:?}: too few lies were tried on a living core");
}
