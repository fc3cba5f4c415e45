//! The simulated world: the production `Node` and log of several agents on a virtual clock, network and disk, from one
//! seed. It stands where the shell stands, and never decides anything for an agent.
//!
//! | file | idea |
//! |---|---|
//! | `plan`, `action`, `script` | all that a run does to its world, spelled out: the world, the blows, the requests |
//! | `draw`, `storm`, `churn` | how a seed becomes a plan: with all faults, or with those of members only |
//! | `together` | a share of both: founded by agents that expect each other, with blows in the middle of it |
//! | `saved` | a plan as a file |
//! | `world`, `event` | the one line of events, and the turns of the agents' loops |
//! | `lives`, `requests` | how processes start and end; what clients ask, and what is made of the answers |
//! | `machine`, `clock`, `dead` | a disk, clocks, and at times a process on it; why it ended |
//! | `boot`, `disk_thread` | how a process begins on its disk; what is written as one group, and durable with its sync |
//! | `network`, `links` | what gets through, and connections as the transport keeps them |
//! | `outputs` | the orders of a node, carried out |
//! | `faults` | the steps of a plan, carried out: on processes, the network, disks and members |
//! | `operator` | what a person does about agents that cannot help themselves |
//! | `client`, `consumer` | what was asked, and what was heard; who reads along |
//! | `pledges`, `pledge_file` | what nodes promise about founding, on their disks |
//! | `checkpoints`, `replayed` | states that are saved, and what they must equal |
//! | `witness`, `invariant` | what must be true, checked from outside; and the names of these promises |
//! | `audit` | does a disk bear out what its process was told? |
//! | `founding` | identical machines that expect each other, and lose disks and power meanwhile |
//! | `campaign` | many worlds, and what they have shown together |
//! | `shrink` | a shorter plan that breaks the same promise |
//! | `bite` | with a deliberate bug (feature `mutants`): is it caught? |
//! | `random`, `counters`, `trace` | chance, what took effect, and what happened line by line |
//! | `verdict` | the calm after the storm: does it converge and serve |
//!
//! # What an event is
//! One thing that happens at a moment: an alarm or another input of a node, the arrival of a frame or datagram, the end
//! of a sync or read, a step of a client or of the plan.
//!
//! # Limits
//! No sessions of clients, so none is evicted; no hostile agents. A connection's bulk lane breaks with it. While a second
//! process runs on a copy of a disk nobody is cut off, and it reaches nobody who has not met the first one in this life: two
//! copies that never meet are not told apart by anything. Faults
//! that destroy what was durable are done only while every other voter holds it (`faults/harm`), one agent at a time.

#![warn(missing_docs)]

mod action;
mod audit;
#[cfg(feature = "mutants")]
pub mod bite;
mod boot;
mod campaign;
mod checkpoints;
mod churn;
mod client;
mod clock;
mod consumer;
mod counters;
mod dead;
mod disk_thread;
mod draw;
mod event;
mod faults;
mod founding;
mod invariant;
mod links;
mod lives;
mod machine;
mod network;
mod operator;
mod outputs;
mod plan;
mod pledge_file;
mod pledges;
mod random;
mod replayed;
mod requests;
mod saved;
mod script;
mod shrink;
mod storm;
mod together;
mod trace;
mod verdict;
mod witness;
mod world;

pub use action::Action;
pub use campaign::{Campaign, Totals, campaign};
pub use counters::{Counters, FAULTS, Role};
pub use founding::{Founded, founding};
pub use invariant::{Invariant, Violation};
pub use plan::{AgentPlan, Faults, Knobs, Plan, Step};
pub use script::{Asked, Call, ConsumerPlan};
pub use shrink::{Shrunk, shrink};

/// What a run has shown.
#[derive(Clone, Debug)]
pub struct Report {
    /// What was run.
    pub plan: Plan,
    /// The hash of every line of the trace: same plan, same hash.
    pub trace_hash: u64,
    /// How many lines the trace had.
    pub trace_lines: u64,
    /// Things that happened: see the module.
    pub events: u64,
    /// How long it lasted in the simulated world, in microseconds.
    pub lasted_us: u64,
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
