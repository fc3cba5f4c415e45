//! Events: all that happens in a world, each at its moment.
//!
//! They hold what happens, never what it leads to.

use super::action::Action;
use super::client::Kind;
use super::script::Call;
use crate::node::{Class, Input};
use bytes::Bytes;
use quorate_raft::LogIndex;
use quorate_raft::wal::{Entry, Proven};
use std::net::SocketAddr;

/// What happens at a moment.
#[derive(Debug)]
#[rustfmt::skip]
pub(super) enum Event {
    /// A process is started.
    Start { machine: usize },
    /// Something happens to a process, if it still is the one that was meant.
    To { machine: usize, life: u64, what: Happening },
    /// The acceptor has the last word of a greeting.
    Greeted { link: u64 },
    /// The other side has closed.
    Closed { link: u64, side: usize },
    /// A frame arrives.
    Frame { link: u64, to: usize, class: Class, bytes: Bytes, bulk_epoch: u64 },
    /// A client asks.
    Call { client: usize, call: Call },
    /// A step of the plan.
    Act { action: Action },
    /// A consumer takes another bite.
    Consume { consumer: usize },
    /// There is room on a disk again.
    DiskWell { machine: usize },
    /// An agent reads from its connections again.
    ReadsAgain { machine: usize },
    /// An operator asks once more that a dead agent be forgotten.
    Forgetting { machine: usize, tries: u64 },
    /// An operator takes back what he has begun.
    Undoing { kind: Kind },
    /// An operator looks whether the agent that he removed is out.
    Removing { machine: usize, node: u64, looks: u64 },
    /// The process on a copy of a disk ends for good.
    CopyEnds { copy: usize },
    /// The timers of the transport.
    Housekeeping,
}

/// What happens to one process.
#[derive(Debug)]
#[rustfmt::skip]
pub(super) enum Happening {
    /// A deadline of the node is due.
    Wake,
    /// The loop has its turn to carry out orders.
    Drain,
    /// A dialled address has said Welcome, or something else.
    Dialled { dial: Dial, addr: SocketAddr },
    /// A dial got no answer.
    NoAnswer { dial: Dial, addr: SocketAddr },
    /// A kept node may be dialled again.
    Redial { node: u64 },
    /// A gossip packet arrives.
    Datagram { link: u64, from: u64, bytes: Vec<u8> },
    /// A request for an exchange of tables arrives.
    Asked { from: usize, from_life: u64, from_node: u64, bytes: Vec<u8> },
    /// The answer to one arrives.
    Replied { from: u64, bytes: Vec<u8> },
    /// The disk has synced.
    Synced,
    /// The checkpoint is to be saved now.
    Save,
    /// What a node promises about founding is written now.
    Pledge { change: u64, bytes: Vec<u8> },
    /// The disk thread tries again.
    RetryWrite,
    /// The reader has read.
    Fetched { token: u64, from: LogIndex, to: LogIndex, bytes_max: usize },
    /// The repairing thread takes entries for a damaged range.
    Repair { id: u64, entries: Vec<Entry> },
    /// The disk thread gives what is proven its place.
    Mend { id: u64, proven: Proven },
    /// Anything else that the shell hands in.
    Input(Input),
    /// It was stopped, and goes on.
    Resume,
}

/// Why a process dials.
#[derive(Clone, Debug)]
pub(super) enum Dial {
    /// A join address.
    Seed(String),
    /// A node to be kept.
    Keep(u64),
    /// A node, once.
    Once(u64),
}
