//! The simulated world: the production `Node` and log of several agents on a virtual clock, network and disk, from one
//! seed. It stands where the shell stands, and never decides anything for an agent.
//!
//! | file | idea |
//! |---|---|
//! | `plan`, `draw` | all that a run does to its world, spelled out; and how a seed becomes one |
//! | `world`, `event` | the one line of events, and the turns of the agents' loops |
//! | `lives`, `requests` | how processes start and end; what clients ask, and what is made of the answers |
//! | `machine`, `clock` | a disk, clocks, and at times a process on it |
//! | `network`, `links` | what gets through, and connections as the transport keeps them |
//! | `outputs` | the orders of a node, carried out |
//! | `faults` | the steps of a plan |
//! | `client` | what was asked, and what was heard |
//! | `checkpoints`, `replayed` | states that are saved, and what they must equal |
//! | `witness`, `invariant` | what must be true, checked from outside; and the names of these promises |
//! | `shrink` | a shorter plan that breaks a promise as well |
//! | `audit` | does a disk bear out what its process was told? |
//! | `bite` | with a deliberate bug (feature `mutants`): is it caught? |
//! | `verdict` | the calm after the storm: does it converge and serve |
//!
//! # Limits
//! No bit rot, no cloned data directories and no hostile agents yet. A connection's bulk lane breaks with it.

#![warn(missing_docs)]

mod audit;
#[cfg(feature = "mutants")]
pub mod bite;
mod checkpoints;
mod client;
mod clock;
mod counters;
mod draw;
mod event;
mod faults;
mod invariant;
mod links;
mod lives;
mod machine;
mod network;
mod outputs;
mod plan;
mod random;
mod replayed;
mod requests;
mod shrink;
mod trace;
mod verdict;
mod witness;
mod world;

pub use counters::Counters;
pub use invariant::{Invariant, Violation};
pub use plan::{Action, AgentPlan, Knobs, Plan, Step};
pub use shrink::shrink;

/// What a run has shown.
#[derive(Clone, Debug)]
pub struct Report {
    /// What was run.
    pub plan: Plan,
    /// The hash of every line of the trace: same plan, same hash.
    pub trace_hash: u64,
    /// How many lines the trace had.
    pub trace_lines: u64,
    /// The last lines, or all if they were asked for.
    pub trace: Vec<String>,
    /// What happened, by kind.
    pub counters: Counters,
    /// The first promise that was broken, if one was.
    pub violation: Option<Violation>,
}

/// Runs a plan to its end or to its first broken promise. `whole_trace` keeps every line.
#[must_use]
pub fn run(plan: Plan, whole_trace: bool) -> Report {
    let mut world = world::World::new(plan);
    if whole_trace {
        world.trace.keep_all();
    }
    world.run_plan();
    world.report()
}

#[cfg(test)]
mod stories;
#[cfg(test)]
mod tests;
