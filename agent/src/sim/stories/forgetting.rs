//! An operator forgets a failed agent: for good, everywhere, and only if it is gone.

use crate::api::{Answer, Code, Effect};
use crate::node::Reply;
use crate::sim::client::{End, Kind};
use crate::sim::plan::{Action, MS, SECOND};
use crate::sim::world::World;

impl World {
    #[track_caller]
    fn forgets(&mut self, asked: usize, agent: usize) -> Result<Vec<u64>, (Code, Effect, String)> {
        let operation = self.ask(None, asked, Kind::Forget { agent }, 5 * SECOND).expect("it is up");
        self.must("it is forgotten or not", 6 * SECOND, |w| w.is_over(operation));
        match self.end(operation) {
            End::Answered(Ok(Reply::Answer(Answer::Forgotten { nodes, .. }))) => Ok(nodes.clone()),
            End::Answered(Err(failure)) => Err((failure.code, failure.effect, failure.what.clone())),
            other => panic!("{other:?}"),
        }
    }

    fn forget_until_done(&mut self, asked: usize, agent: usize) -> Vec<u64> {
        for _ in 0..40 {
            match self.forgets(asked, agent) {
                Ok(nodes) => return nodes,
                Err((Code::Refused, Effect::NotApplied, _)) => self.run_to(self.at + 500 * MS),
                Err(other) => panic!("{other:?}"),
            }
        }
        panic!("never forgotten");
    }
}

/// A dead voter is refused as long as it may be alive, and forgotten once it has failed: out of the configuration at
/// once. Asked again, the answer is the same. When its disk comes back it is turned away with the reason; wiped, it joins
/// as a new node without any wait for its name.
#[test]
fn a_forgotten_voter_is_gone_for_good_and_its_name_is_free() {
    let mut w = World::formed(3);
    let leader = w.leader().expect("one leads");
    let (dead, other) = ((leader + 1) % 3, (leader + 2) % 3);
    let old = w.machines[dead].node;
    let (code, effect, what) = w.forgets(other, dead).expect_err("it is alive");
    assert_eq!((code, effect), (Code::Refused, Effect::NotApplied));
    assert!(what.contains("is alive"), "{what}");
    assert_eq!(w.forgets(other, 25).expect_err("nobody").0, Code::NotFound);

    let died = w.at;
    w.act(&Action::Kill { agent: dead, down_us: 40 * SECOND });
    w.run_to(w.at + 300 * MS);
    assert_eq!(w.forgets(leader, dead).expect_err("nobody can know yet").0, Code::Refused);
    assert_eq!(w.voters(), 3);
    let nodes = w.forget_until_done(other, dead);
    assert_eq!(nodes, [old.get()]);
    assert!(w.at - died >= 5 * SECOND, "too early, after {} us", w.at - died);
    assert_eq!(w.voters(), 2);
    assert!(w.witness.configuration().is_some_and(|c| !c.is_member(old)));
    assert_eq!(w.forgets(leader, dead), Ok(vec![old.get()]), "again is no error");
    w.appends(leader);

    // The disk comes back: turned away, whoever leads, and it takes no seat.
    w.run_to(died + 45 * SECOND);
    assert!(w.machines[dead].is_up());
    assert_eq!(w.voters(), 2);
    let told = w.trace.tail().any(|line| line.contains("dropped by an operator"));
    assert!(told, "it is told why");
    w.act(&Action::Kill { agent: leader, down_us: 300 * MS });
    w.must("one leads", 5 * SECOND, |w| w.leader().is_some());
    w.run_to(w.at + 5 * SECOND);
    assert_eq!(w.voters(), 2);

    // Wiped it is a new node under the old name, at once.
    let wiped = w.at;
    w.end_process(dead);
    w.empty_disk(dead);
    w.start_at(dead, w.at);
    let new = w.machines[dead].node;
    w.must("it votes", 15 * SECOND, |w| w.witness.configuration().is_some_and(|c| c.voters.contains(&new)));
    assert!(w.at - wiped < 15 * SECOND);
    w.converges(20 * SECOND);
    w.appends(dead);
}

/// The leader itself must have heard nothing for a while: one that was just elected knows of no silence yet, however long
/// gossip has called the agent failed.
#[test]
fn a_leader_that_was_just_elected_forgets_nobody() {
    let mut w = World::formed(5);
    let leader = w.leader().expect("one leads");
    let (dead, next) = ((leader + 1) % 5, (leader + 2) % 5);
    w.act(&Action::Kill { agent: dead, down_us: 300 * SECOND });
    w.run_to(w.at + 20 * SECOND);
    let transfer = w.ask(None, leader, Kind::Transfer { to: Some(next) }, 5 * SECOND).expect("it is up");
    w.must("another one leads", 5 * SECOND, |w| w.is_over(transfer) && w.leader() == Some(next));
    w.run_to(w.at + 500 * MS);
    let (code, _, what) = w.forgets(leader, dead).expect_err("it cannot know");
    assert_eq!(code, Code::Refused);
    assert!(what.contains("s of silence"), "{what}");
    w.forget_until_done(leader, dead);
    assert_eq!(w.voters(), 4);
    w.appends(leader);
}
