//! One agent of the group says what is not so, under its own proven name: the others do not act on its word alone.

use crate::node::{Input, LeaderAsk, PeerMessage, View};
use crate::sim::plan::{MS, SECOND};
use crate::sim::world::World;

/// Every agent that joins is a learner. One that tells the others, as if it led, that they have left for good, or that it
/// leads in the last of all terms, sends nobody away and gets no append: whoever hears a leader hears such things in the
/// log, and who has a group of its own believes its voters.
#[test]
fn a_learner_sends_nobody_away() {
    let mut w = World::formed(4);
    let leader = w.leader().expect("one leads");
    let configuration = w.witness.configuration().cloned().expect("there is one");
    let learner = configuration.learners.iter().next().expect("of four, one learns").get();
    let others: Vec<usize> = (0..4).filter(|m| w.machines[*m].node.get() != learner).collect();
    let log_id = w.machines[leader].process.as_ref().and_then(|p| p.log_id).expect("it leads a log");
    for round in 0..20 {
        for &machine in &others {
            for term in [1, 1_000, u64::MAX] {
                let view = View {
                    log_id,
                    term,
                    leader: learner,
                    voters: vec![learner],
                    committed: u64::MAX,
                    next: u64::MAX,
                    departed: true,
                    ..View::default()
                };
                w.feed(machine, Input::Peer { node: learner, message: PeerMessage::View(view) });
            }
            let node = w.machines[machine].node.get();
            let ask = PeerMessage::Ask { id: round, timeout_ms: u32::MAX, ask: LeaderAsk::Remove { node } };
            w.feed(machine, Input::Peer { node: learner, message: ask });
        }
        w.run_to(w.at + 50 * MS);
        for &machine in &others {
            w.appends(machine);
        }
    }
    w.run_to(w.at + 5 * SECOND);
    assert_eq!(w.counters.get("departed"), 0);
    assert_eq!((w.voters(), w.leader()), (3, Some(leader)));
    w.converges(15 * SECOND);
}
