//! Quorate: agents that find each other, prove who they are, form a Raft group and replicate one durable log.
//!
//! placeholder: the map of the house is written when it stands.

pub mod api;
#[cfg(feature = "cli")]
pub mod cli;
#[cfg(feature = "client")]
pub mod client;
#[cfg(feature = "agent")]
pub mod config;
#[cfg(feature = "agent")]
pub mod descriptor;
pub mod duration;
pub mod limits;
#[cfg(feature = "node")]
pub mod machine;
#[cfg(feature = "node")]
pub mod node;
pub mod offsets;
pub mod record;
#[cfg(feature = "agent")]
pub mod server;
pub mod wire;
