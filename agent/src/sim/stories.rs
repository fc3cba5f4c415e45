//! Stories of whole agents: a cast, a blow and a moral. The world is calm unless a story says otherwise.

use super::client::{End, Kind};
use super::plan::{Action, AgentPlan, Knobs, MS, Plan, SECOND};
use super::world::World;
use crate::api::{Code, Effect};

/// Agents a, b, c ...: the first one founds, the others join it.
fn plan(agents: usize) -> Plan {
    let agents = (0..agents)
        .map(|at| AgentPlan {
            start_us: at as u64 * 10 * MS,
            bootstrap: at == 0,
            join: if at == 0 { vec![] } else { vec![0] },
            wall_us: 0,
            name: None,
        })
        .collect();
    Plan { seed: 1, agents, knobs: Knobs::calm(), clients: 0, calm_at_us: 0, steps: Vec::new() }
}

impl World {
    /// A cluster that has found itself.
    fn formed(agents: usize) -> Self {
        let mut w = World::new(plan(agents));
        w.converges(15 * SECOND);
        w
    }

    /// Fails the story, with the end of the trace, unless it comes to be.
    #[track_caller]
    fn must(&mut self, what: &str, within: u64, is_so: impl FnMut(&mut Self) -> bool) {
        let came = self.run_until(within, is_so);
        self.keeps_promises();
        assert!(came, "{what}: not within {} ms", within / MS);
    }

    #[track_caller]
    fn keeps_promises(&self) {
        let violation = self.witness.violation();
        assert_eq!(violation, None);
    }

    #[track_caller]
    fn converges(&mut self, within: u64) {
        let mut why = String::new();
        let came = self.run_until(within, |w| match w.is_of_one_mind() {
            Ok(()) => true,
            Err(reason) => {
                why = reason;
                false
            }
        });
        self.keeps_promises();
        assert!(came, "not of one mind: {why}");
    }

    fn voters(&self) -> usize {
        self.witness.configuration().map_or(0, |c| if c.outgoing.is_empty() { c.voters.len() } else { 0 })
    }

    /// Asks for an append of one record.
    fn begin_append(&mut self, agent: usize, timeout_us: u64) -> usize {
        let first = self.next_value;
        self.next_value += 1;
        self.ask(None, agent, Kind::Append { first, count: 1 }, timeout_us).expect("the agent is up")
    }

    fn is_over(&self, operation: usize) -> bool {
        self.operations[operation].end.is_some()
    }

    fn end(&self, operation: usize) -> &End {
        self.operations[operation].end.as_ref().expect("it is over")
    }

    /// An append that must succeed.
    #[track_caller]
    fn appends(&mut self, agent: usize) {
        let operation = self.begin_append(agent, 5 * SECOND);
        self.must("an append ends", 6 * SECOND, |w| w.is_over(operation));
        assert!(matches!(self.end(operation), End::Answered(Ok(_))), "{:?}", self.end(operation));
    }

    /// A linearizable read that must succeed.
    #[track_caller]
    fn reads(&mut self, agent: usize) {
        let operation = self.ask(None, agent, Kind::Read, 5 * SECOND).expect("the agent is up");
        self.must("a read ends", 6 * SECOND, |w| w.is_over(operation));
        assert!(matches!(self.end(operation), End::Answered(Ok(_))), "{:?}", self.end(operation));
    }
}

/// Behaviour 1: three fresh agents are three voters and take an append within five seconds.
#[test]
fn three_fresh_agents_become_three_voters() {
    let mut w = World::new(plan(3));
    let operation = loop {
        w.run_to(w.at + 20 * MS);
        if w.machines[2].is_up() {
            break w.begin_append(2, 5 * SECOND);
        }
    };
    w.must("three voters", 5 * SECOND, |w| w.voters() == 3);
    w.must("a first ack", 5 * SECOND, |w| w.is_over(operation));
    assert!(matches!(w.end(operation), End::Answered(Ok(_))));
    assert!(w.at < 5 * SECOND);
}

/// Behaviour 4: a client is told that the outcome is unknown, and the entry is committed after all. Nobody waits for
/// that any more, and that is no fault of anyone.
#[test]
fn an_append_that_outlives_its_client_is_committed_in_silence() {
    let mut w = World::formed(3);
    let leader = w.leader().expect("one leads");
    for other in (0..3).filter(|o| *o != leader) {
        w.act(&Action::Cut { from: other, to: leader });
    }
    let operation = w.begin_append(leader, 50 * MS);
    w.must("it ends", 100 * MS, |w| w.is_over(operation));
    let End::Answered(Err(failure)) = w.end(operation) else { panic!("nobody could confirm it") };
    assert_eq!((failure.code, failure.effect), (Code::Unknown, Effect::Unknown));
    w.act(&Action::Heal);
    w.must("it stands", 5 * SECOND, |w| w.witness.offset_of(0).is_some());
    w.appends(leader);
}

/// A batch that the leader refuses must not leave a hole in the numbering of its stream: every agent would halt there.
#[test]
fn a_refused_batch_leaves_no_hole_in_its_stream() {
    let mut alone = plan(1);
    alone.knobs.uncommitted_bytes_max = 300;
    let mut w = World::new(alone);
    w.must("it leads", SECOND, |w| w.leader().is_some());
    let many: Vec<usize> = (0..40).map(|_| w.begin_append(0, SECOND)).collect();
    w.must("all end", 2 * SECOND, |w| many.iter().all(|o| w.is_over(*o)));
    let refused = many.iter().filter(|o| w.end(**o).word() == "not-applied").count();
    assert!(refused > 0, "nothing was refused");
    w.appends(0);
}

/// Identical machines with one list of addresses: those that are up first find each other, and must go on looking.
#[test]
fn joiners_that_found_only_each_other_still_find_the_founder() {
    let mut late = plan(3);
    late.agents[0].start_us = 10 * SECOND;
    for joiner in &mut late.agents[1..] {
        joiner.join = vec![0, 1, 2];
    }
    let mut w = World::new(late);
    w.run_to(10 * SECOND);
    w.must("three voters", 15 * SECOND, |w| w.voters() == 3);
}
