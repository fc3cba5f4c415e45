//! The simulated world: the production `Node` and log of several agents on a virtual clock, network and disk, from one
//! seed. It stands where the shell stands, and never decides anything for an agent.
//!
//! | file | idea |
//! |---|---|
//! | `plan`, `draw` | all that a run does to its world, spelled out; and how a seed becomes one |
//! | `world` | the one line of events, the turns of the agents' loops, requests and their ends |
//! | `machine` | a disk, clocks, and at times a process on it |
//! | `network`, `links` | what gets through, and connections as the transport keeps them |
//! | `outputs` | the orders of a node, carried out |
//! | `faults` | the steps of a plan |
//! | `client` | what was asked, and what was heard |
//! | `witness` | what must be true, checked from outside |
//! | `verdict` | the calm after the storm: does it converge and serve |
//!
//! # Limits
//! No bit rot, no cloned data directories and no hostile agents yet. A connection's bulk lane breaks with it.

#![warn(missing_docs)]

mod client;
mod counters;
mod faults;
mod links;
mod machine;
mod network;
mod outputs;
mod plan;
mod random;
mod trace;
mod witness;
mod world;

pub use counters::Counters;
pub use plan::{Action, AgentPlan, Knobs, Plan, Step};

#[cfg(test)]
mod stories;
