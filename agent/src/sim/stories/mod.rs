//! Stories of whole agents: a cast, a blow and a moral. The world is calm unless a story says otherwise.

mod catching;
mod checkpoints;
mod damage;
mod disks;
mod draining;
mod expecting;
mod flapping;
mod forgetting;
mod formation;
mod handing;
mod holes;
mod leaving;
mod lying;
mod operating;
mod pausing;
mod replacing;
mod returning;
mod serving;
mod storming;
mod upgrading;

use super::client::{End, Kind};
use super::clock::TRUE_PACE;
use super::plan::{AgentPlan, Knobs, MS, Plan, SECOND};
use super::world::World;

/// Agents a, b, c ...: the first one founds, the others join it.
fn plan(agents: usize) -> Plan {
    let agents = (0..agents)
        .map(|at| AgentPlan {
            start_us: at as u64 * 10 * MS,
            bootstrap: at == 0,
            expect: 0,
            join: if at == 0 { vec![] } else { vec![0] },
            wall_us: 0,
            pace: TRUE_PACE,
            name: None,
            foreign: false,
            zone: None,
            old: false,
        })
        .collect();
    let (script, consumers, steps) = (Vec::new(), Vec::new(), Vec::new());
    Plan { seed: 1, agents, knobs: Knobs::calm(), script, consumers, calm_at_us: 0, steps }
}

impl World {
    /// A cluster that has found itself.
    pub(super) fn formed(agents: usize) -> Self {
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
