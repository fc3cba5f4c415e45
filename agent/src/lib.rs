//! Quorate: agents that find each other by gossip, prove who they are by mutual TLS, form a Raft group by themselves and
//! replicate one ordered, durable log over QUIC.
//!
//! The binary `quorate` is a thin face on this crate. To use it from a program:
//!
//! - **as a client** ([`client::Client`], feature `client` alone): append, tail, ask.
//! - **as an agent inside your process** ([`server::Agent`], feature `agent`).
//! - **as a pure core** ([`node::Node`], feature `node`): the whole agent without socket, thread, clock or file.
//!
//! # The map of the house
//!
//! Arrows go down only: `cli` → `server`, `client` → `wire` → `node` → `pledge`, `checkpoint` → `machine`; everything may use [`api`], [`facts`], [`diagnosis`], [`codec`], [`record`]
//! and [`limits`].
//!
//! | room | what it is | what it never does |
//! |---|---|---|
//! | [`cli`] | the command line, a contract with people and scripts | know what an answer means to the cluster |
//! | [`history`] | what clients saw, held against the log in the end | ask a cluster anything |
//! | [`client`] | one connection to the cluster; retries only what was surely not done | import the node |
//! | [`server`] | sockets, threads, files, signals around one node | decide anything |
//! | [`wire`] | bytes of frames | touch a socket |
//! | [`node`] | raft, gossip and policies as one pure core | own a clock, a thread, IO, entropy |
//! | [`pledge`] | how agents that expect each other found one log, as a pure core | know Raft |
//! | [`checkpoint`] | the machines' state in a file | decide when |
//! | [`diagnosis`] | from facts to causes, for `quorate doctor` | ask anybody, read a file |
//! | [`machine`] | the log and the registry as state machines | refuse what was appended |
//! | `sim` | the same node on a virtual clock, network and disk | be part of a release |

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod api;
#[cfg(feature = "node")]
pub mod checkpoint;
#[cfg(feature = "cli")]
pub mod cli;
#[cfg(feature = "client")]
pub mod client;
pub mod codec;
#[cfg(feature = "agent")]
pub mod config;
#[cfg(feature = "agent")]
pub mod descriptor;
pub mod diagnosis;
pub mod duration;
pub mod facts;
pub mod history;
pub mod limits;
#[cfg(feature = "node")]
pub mod machine;
mod measures;
#[cfg(feature = "node")]
pub mod node;
pub mod offsets;
#[cfg(feature = "node")]
pub mod pledge;
pub mod record;
#[cfg(feature = "agent")]
pub mod server;
#[cfg(all(feature = "node", any(test, feature = "sim")))]
pub mod sim;
#[cfg(any(feature = "node", feature = "agent"))]
mod spelling;
pub mod wire;

#[cfg(feature = "client")]
pub use quorate_certs as certs;
#[cfg(feature = "node")]
pub use quorate_membership as membership;
pub use quorate_raft as raft;
