//! A sans-IO Raft core that cannot promise what is not on disk, and the write-ahead log beneath it.
//!
//! # What it is
//! [`Raft`] is one member of a Raft group as a machine of inputs and outputs, after Ongaro's dissertation (cited as
//! `§3.5`, `Figure 3.2`). Four verbs: [`handle`](Raft::handle) an [`Input`], drain [`poll_output`](Raft::poll_output),
//! wait until [`poll_timeout`](Raft::poll_timeout), look at the [`status`](Raft::status).
//!
//! # What it never does
//! No clock, no IO, no threads, no entropy, no log lines; and no payload bytes: the core knows the *shape* of the log
//! (first, last, runs of equal term) and names ranges, the caller keeps the bytes. Input from a peer or a disk never
//! panics: it is refused with an [`Output::Alarm`], or, where this node's own state can no longer be trusted, Raft of
//! this node stops with [`Output::Halted`].
//!
//! # Life of a proposal
//! [`Input::Propose`] → the leader appends the shape → [`Output::Persist`] and [`Output::Accepted`] → appends to the
//! peers at once, beside its own fsync → [`Input::Persisted`]: the leader counts itself → peers acknowledge what is
//! durable with them → a majority holds an entry of this term → [`Output::Committed`] → [`Output::Done`].
//!
//! # Persist before send
//! There is one ordered stream of [`Persist`]s. Every vote, vote request, acknowledgement and self-acknowledgement
//! depends on [`Input::Persisted`], and an acknowledged index is computed from the durable frontier at the moment it is
//! sent. So whatever [`Output::Send`] hands out may be sent at once, in any order, or be lost.
//!
//! One thing may overtake: on a full disk the term and vote of a write may become durable before entries of earlier writes
//! ([`Input::HardStatePersisted`]). A crash then leaves the disk of a node that voted and never received those entries,
//! and nothing was said that such a node could not say.
//!
//! # Limits
//! Every bound is a field of [`Options`]. Not yet: logs that start later than a peer needs (such a peer gets heartbeats
//! only, and shows as not replicating).
//!
//! # Sources
//! Diego Ongaro, *Consensus: Bridging Theory and Practice* (2014); the term runs in conflicts after etcd's fast log
//! backtracking, told all at once.
// The core is `no_std`: `cargo check --no-default-features` proves it. Only the wal beside it needs `std`.
#![cfg_attr(not(any(feature = "wal", feature = "mutants")), no_std)]
extern crate alloc;

mod candidate;
mod change;
mod configuration;
mod examine;
mod follower;
mod frontier;
#[cfg(test)]
mod fuzz;
mod invariants;
mod io;
mod leader;
mod log;
mod message;
mod missing;
pub mod mutants;
mod options;
mod outbox;
mod prng;
mod progress;
mod proposals;
mod quorum;
mod raft;
mod read_index;
mod reads;
mod replication;
mod restore;
mod role;
mod room;
mod status;
mod transfer;
mod types;
mod voting;

pub use configuration::Configuration;
pub use io::*;
pub(crate) use log::Log;
pub use message::Message;
pub use options::Options;
pub use raft::Raft;
pub use status::{PeerStatus, Role, Status};
pub use types::*;

#[cfg(feature = "wal")]
pub mod wal;
