//! What all connections of an endpoint share: its options, its bounds, its tables and its counters.
//! Never dials, greets or reads: that is for those who share it.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use quorate_certs::{ClusterId, Refusal};

use crate::admission::Admission;
use crate::budget::Budget;
use crate::dial::{Credentials, Dialler};
use crate::event::EventSender;
use crate::kept::Kept;
use crate::lock::lock;
use crate::place::Place;
use crate::refusals::Refusals;
use crate::seats::Seats;
use crate::table::{Change, Class, Link, Table};
use crate::turns::Turns;
use crate::waiting::Waiting;
use crate::{Code, Event, Gate, Limits, LocalNode, LogId, Reason, Refused, SendError};

/// See the module.
pub(crate) struct Inner {
    pub(crate) quinn: quinn::Endpoint,
    pub(crate) limits: Limits,
    pub(crate) local: LocalNode,
    pub(crate) cluster: ClusterId,
    pub(crate) port: u16,
    pub(crate) gate: Arc<dyn Gate>,
    /// What connections are accepted with, except for TLS.
    pub(crate) server: quinn::ServerConfig,
    pub(crate) events: EventSender,
    pub(crate) admission: Admission,
    pub(crate) budget: Budget,
    /// Of its own, so that no client can keep the frames of agents waiting.
    pub(crate) guest_budget: Budget,
    pub(crate) guest_streams: Budget,
    pub(crate) kept: Kept,
    pub(crate) waiting: Mutex<Waiting>,
    pub(crate) peers: Dialler,
    pub(crate) bulks: Dialler,
    pub(crate) clients: Dialler,
    pub(crate) credentials: Mutex<Credentials>,
    pub(crate) log_id: Mutex<Option<LogId>>,
    pub(crate) table: Mutex<Table>,
    /// Connections that clients hold.
    pub(crate) guests: Seats,
    /// Connections with agents that dialled this one.
    pub(crate) agents: Seats,
    pub(crate) retries: AtomicU64,
    pub(crate) turns: Turns,
    pub(crate) refusals: Mutex<Refusals>,
    pub(crate) next_id: AtomicU64,
    pub(crate) datagrams_dropped: AtomicU64,
    pub(crate) closing: AtomicBool,
}

impl Inner {
    pub(crate) fn node(&self) -> u64 {
        self.local.key.node()
    }

    pub(crate) fn log_id(&self) -> Option<LogId> {
        *lock(&self.log_id)
    }

    pub(crate) fn credentials(&self) -> Credentials {
        lock(&self.credentials).clone()
    }

    pub(crate) fn table(&self) -> MutexGuard<'_, Table> {
        lock(&self.table)
    }

    pub(crate) fn next_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }

    pub(crate) fn count_datagram(&self, delivered: bool) {
        if !delivered {
            self.datagrams_dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Queues one frame on a connection that exists.
    pub(crate) fn push(&self, node: u64, class: Class, parts: &[Bytes]) -> Result<(), SendError> {
        let table = self.table();
        table.link(node, class).ok_or(SendError::NotConnected)?.outbox.push(parts)
    }

    pub(crate) fn count_retry(&self) {
        self.retries.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether an agent is known to be at this address: connected, or kept by the caller.
    pub(crate) fn knows(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        self.kept.any_at(ip) || self.table().all().any(|link| link.info.remote.ip() == ip)
    }

    /// Takes a connection that is gone out of the table, and tells the caller what that means.
    pub(crate) async fn forget(&self, link: &Link, reason: Reason) {
        // No room means that nobody listens any more; the table is kept right all the same.
        let room = self.events.room(1).await;
        let change = self.table().remove(link, reason);
        if let (Some(mut room), Some(change)) = (room, change) {
            room.put(change.into());
        }
        link.forgotten();
    }

    /// Counts a refused stranger and tells the caller, within a rate.
    pub(crate) fn refused(&self, from: SocketAddr, why: Refused, refusal: Option<Refusal>) {
        // An agent that meets itself, or a dialler that has a connection already, is nobody's fault.
        if self.closing() || matches!(why.code, Code::Ok | Code::Myself) {
            return;
        }
        let kind = (why.code, refusal.as_ref().map(Refusal::code));
        let suppressed = lock(&self.refusals).note(kind, Place::of(from));
        if let Some(suppressed) = suppressed {
            self.events.offer(Event::Refused { from, why, refusal, suppressed });
        }
    }
}

impl From<Change> for Event {
    fn from(change: Change) -> Self {
        match change {
            Change::Up(info) => Self::PeerUp(info),
            Change::Down { node, reason } => Self::PeerDown { node, reason },
            Change::Lost { node, class } => Self::FramesLost { node, bulk: class == Class::Bulk },
        }
    }
}
