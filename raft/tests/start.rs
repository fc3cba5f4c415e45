//! A log that starts later than its first entry: what the start of a log must never do, here where no node ever moves it
//! for another (§5).
//!
//! There is no InstallSnapshot: no message carries a start, a state or a place to cut, so what can go wrong with one
//! (S3-S7, M14) has no beginning. A node starts its log where its own checkpoint is, and one that needs older entries
//! gets them from elsewhere, restarts, and goes on from there. `fuzz.rs` holds, under everything that a peer may say, that
//! the start stays where it was.

use quorate_raft::*;

use crate::cluster::*;

fn voters(nodes: &[u64]) -> Configuration {
    Configuration { voters: set(nodes), ..Configuration::default() }
}

/// A log of term 3 that starts at 10 and ends at `last`.
fn saved(configurations: Vec<(u64, Configuration)>, last: u64, committed: u64) -> Saved {
    Saved {
        hard_state: HardState { term: Term(3), vote: None },
        start: Position { index: LogIndex(10), term: Term(3) },
        runs: if last > 10 { vec![Run { first: LogIndex(11), term: Term(3) }] } else { vec![] },
        last: LogIndex(last),
        configurations: configurations.into_iter().map(|(index, c)| (LogIndex(index), c)).collect(),
        committed: LogIndex(committed),
        ..Saved::default()
    }
}

fn restore(n: u64, saved: Saved) -> Raft {
    Raft::restore(Options::default(), node(n), BootId(n), saved, n, Now::default())
}

/// Two cores that hear each other at once and whose disks are immediate.
struct Pair {
    leader: Raft,
    peer: Raft,
    now: Micros,
    appends: u64,
}

impl Pair {
    fn new(leader: Raft, peer: Raft) -> Self {
        let mut pair = Self { leader, peer, now: 0, appends: 0 };
        pair.meet();
        pair
    }

    fn clock(&self) -> Now {
        Now { mono: Mono(self.now), wall: Wall(0) }
    }

    fn meet(&mut self) {
        let (clock, of_leader, of_peer) = (self.clock(), self.leader.status().node, self.peer.status().node);
        self.leader.handle(clock, Input::PeerUp { peer: of_peer, boot: BootId(of_peer.get()) });
        self.peer.handle(clock, Input::PeerUp { peer: of_leader, boot: BootId(of_leader.get()) });
    }

    fn run(&mut self, ms: u64) {
        for _ in 0..ms {
            self.now += MS;
            self.turn();
        }
    }

    fn turn(&mut self) {
        let clock = self.clock();
        let other = (self.leader.status().node, self.peer.status().node);
        let mut letters = Vec::new();
        for (is_leader, raft) in [(true, &mut self.leader), (false, &mut self.peer)] {
            // The peer only listens: for it no time runs.
            if is_leader && raft.poll_timeout().is_some_and(|at| at <= clock.mono) {
                raft.handle(clock, Input::Timeout);
            }
            while let Some(output) = raft.poll_output() {
                match output {
                    Output::Persist(write) => raft.handle(clock, Input::Persisted { ticket: write.ticket }),
                    Output::Send { to, message } if to == if is_leader { other.1 } else { other.0 } => {
                        let range = message.entries().map_or(0..0, |(first, last)| first.0..last.0 + 1);
                        let shape = |index| {
                            let index = LogIndex(index);
                            let term = raft.term_at(index).expect("an entry of this log");
                            EntryShape { position: Position { index, term }, kind: EntryKind::Normal, bytes: 1 }
                        };
                        letters.push((is_leader, message.clone(), range.map(shape).collect::<Vec<_>>()));
                    }
                    Output::Alarm { what, .. } => panic!("{what}"),
                    _ => {}
                }
            }
        }
        for (of_leader, message, entries) in letters {
            self.appends += u64::from(message.kind() == "append");
            let (to, from) = if of_leader { (&mut self.peer, other.0) } else { (&mut self.leader, other.1) };
            to.handle(clock, Input::Message { from, message, entries });
        }
    }
}

fn leader_with(learner: u64, last: u64) -> Raft {
    let configuration = Configuration { learners: set(&[learner]), ..voters(&[1]) };
    restore(1, saved(vec![(9, configuration)], last, last))
}

/// S1, S4, S5. A peer that was behind the start of the log comes back with what it lacked, from wherever it got it: a
/// start and a tail. It streams at once, also when its start lies behind the leader's, or before it.
#[test]
fn a_peer_that_got_what_it_lacked_elsewhere_streams_again() {
    for (start, last) in [(10, 10), (10, 11), (12, 12), (4, 10)] {
        let mut pair = Pair::new(leader_with(2, 12), restore(2, Saved::default()));
        pair.run(500);
        let behind = pair.leader.status().peers[&node(2)].clone();
        assert_eq!((behind.replicating, behind.matched), (false, LogIndex::ZERO));
        // Its new life: the same disk, with entries and a start that did not come by appends.
        let configuration = Configuration { learners: set(&[2]), ..voters(&[1]) };
        let index = start.min(9);
        let mut brought = saved(vec![(index, configuration)], last, start);
        brought.start.index = LogIndex(start);
        brought.runs = if last > start { vec![Run { first: LogIndex(start + 1), term: Term(3) }] } else { vec![] };
        pair.peer = Raft::restore(Options::default(), node(2), BootId(2), brought, 2, pair.clock());
        pair.leader.handle(pair.clock(), Input::PeerUp { peer: node(2), boot: BootId(99) });
        pair.leader.handle(pair.clock(), Input::PeerUp { peer: node(2), boot: BootId(2) });
        pair.peer.handle(pair.clock(), Input::PeerUp { peer: node(1), boot: BootId(1) });
        pair.run(200);
        let whole = pair.leader.status().peers[&node(2)].clone();
        assert_eq!((whole.replicating, whole.matched), (true, pair.leader.last().index), "start {start}, last {last}");
        assert_eq!(pair.peer.committed(), pair.leader.committed());
    }
}

/// S2. A leader all of whose entries lie before its start, and a learner that has none: heartbeats, no storm, no harm.
#[test]
fn a_leader_without_entries_and_an_empty_learner_harm_nobody() {
    let mut pair = Pair::new(leader_with(2, 10), restore(2, Saved::default()));
    pair.run(2_000);
    assert!(pair.leader.is_leader() && pair.leader.committed() == pair.leader.last().index);
    let peer = pair.leader.status().peers[&node(2)].clone();
    assert_eq!((peer.replicating, peer.matched), (false, LogIndex::ZERO));
    assert!(peer.last_heard.is_some(), "it is there, and not silent");
    assert!(pair.appends <= 3, "{} appends to a peer that cannot use them", pair.appends);
    assert_eq!(pair.peer.last(), Position::ZERO);
}

/// M14. A configuration that lies after the start and is not committed goes with its entry, whatever the start covers:
/// what is in force then is the one from before the start. No phantom voter is left.
#[test]
fn a_start_leaves_no_phantom_of_an_uncommitted_configuration() {
    let joint = Configuration { voters: set(&[1, 2, 3, 4]), outgoing: set(&[1, 2, 3]), ..Configuration::default() };
    let lagging = saved(vec![(7, voters(&[1, 2, 3])), (12, joint.clone())], 12, 10);
    // Node 2 has another entry 12, of term 4, and wins term 5 with the vote of node 3.
    let mut winning = saved(vec![(7, voters(&[1, 2, 3]))], 12, 10);
    winning.hard_state.term = Term(4);
    winning.runs.push(Run { first: LogIndex(12), term: Term(4) });
    let mut pair = Pair::new(restore(2, winning), restore(3, lagging));
    assert_eq!((pair.peer.configuration(), pair.peer.configuration_index()), (&joint, LogIndex(12)));
    pair.run(1_000);
    assert!(pair.leader.is_leader());
    assert_eq!((pair.peer.last(), pair.peer.leader()), (pair.leader.last(), Some(node(2))));
    assert_eq!((pair.peer.configuration(), pair.peer.configuration_index()), (&voters(&[1, 2, 3]), LogIndex(7)));
}

/// M15. The configuration whose entry is the very last before the start is in force, over any number of restarts; its id
/// is the index of its entry, not of the start (B24, B25).
#[test]
fn a_configuration_right_at_the_start_survives() {
    for index in [10, 9, 1] {
        let mut disk = saved(vec![(index, voters(&[1, 2, 3]))], 12, 10);
        for committed in 0..=12 {
            disk.committed = LogIndex(committed);
            let raft = restore(1, disk.clone());
            assert_eq!(raft.halted(), None);
            assert_eq!((raft.configuration(), raft.configuration_index()), (&voters(&[1, 2, 3]), LogIndex(index)));
            assert!(raft.poll_timeout().is_some(), "a voter may stand");
        }
    }
}

/// S3. What is at or before the start of a log is committed, and a start is taken for agreed: an append that contradicts
/// it drops nothing, and matching entries behind it stay.
#[test]
fn a_tail_behind_the_start_is_kept_where_it_matches_and_dropped_where_not() {
    let disk = |terms: &[u64]| {
        let mut runs: Vec<Run> = Vec::new();
        for (index, term) in (11..).zip(terms) {
            if runs.last().is_none_or(|run| run.term != Term(*term)) {
                runs.push(Run { first: LogIndex(index), term: Term(*term) });
            }
        }
        let last = LogIndex(10 + terms.len() as u64);
        let configuration = Configuration { learners: set(&[2]), ..voters(&[1]) };
        let hard_state = HardState { term: Term(7), vote: None };
        Saved { hard_state, runs, last, ..saved(vec![(10, configuration)], 10, 10) }
    };
    for tail in [&[][..], &[3][..], &[3, 5][..], &[3, 4, 4, 4][..], &[4, 4, 4, 4, 4][..], &[3, 6, 6][..]] {
        let mut leading = disk(&[3, 5, 5]);
        leading.committed = leading.last;
        let mut pair = Pair::new(restore(1, leading), restore(2, disk(tail)));
        pair.run(500);
        assert_eq!(pair.peer.last(), pair.leader.last(), "after {tail:?}");
        for index in 10..=pair.leader.last().index.0 {
            assert_eq!(pair.peer.term_at(LogIndex(index)), pair.leader.term_at(LogIndex(index)), "after {tail:?}");
        }
        assert_eq!(pair.peer.term_at(LogIndex(9)), None);
    }
}
