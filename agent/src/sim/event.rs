//! Events: all that happens in a world, each at its moment.
//!
//! They hold what happens, never what it leads to.

use super::plan::Action;
use crate::node::{Class, Input};
use bytes::Bytes;
use quorate_raft::LogIndex;
use quorate_raft::wal::Entry;
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
    /// A client has had its rest.
    Client { client: usize },
    /// A step of the plan.
    Act { action: Action },
    /// A trouble of a disk is over.
    DiskWell { machine: usize },
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
    Asked { from: usize, from_life: u64, bytes: Vec<u8> },
    /// The answer to one arrives.
    Replied { from: u64, bytes: Vec<u8> },
    /// The disk has synced.
    Synced,
    /// The checkpoint is to be saved now.
    Save,
    /// The disk thread tries again.
    RetryWrite,
    /// The reader has read.
    Fetched { token: u64, from: LogIndex, to: LogIndex, bytes_max: usize },
    /// The disk thread gives entries back to the log.
    Repair { id: u64, entries: Vec<Entry> },
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
}
