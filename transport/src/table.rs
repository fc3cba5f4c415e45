//! Which connections exist: by class and node id, at most one in each direction, all of one instance of the node.
//! Never waits and never does IO; it says which connections must be closed and what the caller must hear.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::watch;

use crate::lock::lock;
use crate::outbox::Outbox;
use crate::seats::Seat;
use crate::silence::Silence;
use crate::{Code, PeerInfo, Reason, Refused};

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Class {
    Peer,
    Bulk,
}

impl Class {
    /// The ALPN.
    pub(crate) fn alpn(self) -> &'static [u8] {
        match self {
            Self::Peer => b"quorate-peer/1",
            Self::Bulk => b"quorate-bulk/1",
        }
    }

    pub(crate) fn of(alpn: &[u8]) -> Option<Self> {
        [Self::Peer, Self::Bulk].into_iter().find(|class| class.alpn() == alpn)
    }
}

/// One greeted connection.
#[derive(Debug)]
pub(crate) struct Link {
    /// Which connection of this process.
    pub(crate) id: u64,
    pub(crate) class: Class,
    pub(crate) info: PeerInfo,
    pub(crate) conn: quinn::Connection,
    pub(crate) outbox: Outbox,
    /// Held by a connection that the other side dialled.
    _seat: Option<Seat>,
    replaced: AtomicBool,
    silence: Mutex<Silence>,
    silent: AtomicBool,
    /// True once nothing of it is in the table or will be reported.
    forgotten: watch::Sender<bool>,
}

impl Link {
    pub(crate) fn new(
        id: u64,
        class: Class,
        info: PeerInfo,
        conn: quinn::Connection,
        outbox: Outbox,
        seat: Option<Seat>,
    ) -> Self {
        let (replaced, silent, forgotten) = (AtomicBool::new(false), AtomicBool::new(false), watch::Sender::new(false));
        let silence = Mutex::default();
        Self { id, class, info, conn, outbox, _seat: seat, replaced, silence, silent, forgotten }
    }

    /// Whether what it receives still counts.
    pub(crate) fn counts(&self) -> bool {
        !self.replaced.load(Ordering::Relaxed)
    }

    /// For how many looks in a row something that was said on it has had no answer.
    pub(crate) fn silent_looks(&self) -> u32 {
        lock(&self.silence).of(&self.conn.stats())
    }

    /// Ends it because nothing comes back any more. Should the other side live and hear of it, it may dial.
    pub(crate) fn fall_silent(&self) {
        self.silent.store(true, Ordering::Relaxed);
        self.end(&Refused::new(Code::Deadline, "nothing came back for too long"));
    }

    /// Whether that is why it ended.
    pub(crate) fn fell_silent(&self) -> bool {
        self.silent.load(Ordering::Relaxed)
    }

    /// Says that it is out of the table.
    pub(crate) fn forgotten(&self) {
        self.forgotten.send_replace(true);
    }

    /// Waits until it is out of the table.
    pub(crate) async fn gone(&self) {
        // The sender lives as long as `self`.
        let _ = self.forgotten.subscribe().wait_for(|gone| *gone).await;
    }

    /// Ends it; nothing that it still receives counts.
    pub(crate) fn end(&self, why: &Refused) {
        self.replaced.store(true, Ordering::Relaxed);
        self.outbox.close();
        self.conn.close(why.code.var(), why.wire());
    }
}

/// The connections of one class with one node.
#[derive(Debug, Default)]
struct Pair {
    dialled: Option<Arc<Link>>,
    accepted: Option<Arc<Link>>,
}

impl Pair {
    fn slot(&mut self, dialled: bool) -> &mut Option<Arc<Link>> {
        if dialled { &mut self.dialled } else { &mut self.accepted }
    }

    fn any(&self) -> Option<&Arc<Link>> {
        self.dialled.as_ref().or(self.accepted.as_ref())
    }

    fn both(&self) -> impl Iterator<Item = &Arc<Link>> {
        self.dialled.iter().chain(&self.accepted)
    }
}

/// What a change of the table means for the caller.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Up(PeerInfo),
    Down {
        node: u64,
        reason: Reason,
    },
    /// One connection of a peer that has others: what was under way on it may be lost.
    Lost {
        node: u64,
        class: Class,
    },
}

/// What stands in the way of a new connection.
#[derive(Debug)]
pub(crate) enum Standing {
    /// Nothing, or only an older instance at the same address, which is dead.
    Free,
    /// A later start of the node at the same address: the newcomer is an echo of an earlier life.
    Later,
    /// A connection of another instance at another address: it must be asked whether it lives.
    Other(Arc<Link>),
}

/// The most changes that one call reports.
pub(crate) const CHANGES_MAX: usize = 2;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Table {
    pairs: BTreeMap<(u64, Class), Pair>,
}

impl Table {
    /// Whether this instance of a node may come in.
    pub(crate) fn standing(&self, node: u64, (boot_epoch, boot_id): (u64, u64), remote: SocketAddr) -> Standing {
        for link in self.of(node).filter(|link| link.info.boot_id != boot_id) {
            // Two sockets cannot share an address: at the same one only the latest start can be alive.
            if link.info.remote != remote {
                return Standing::Other(link.clone());
            }
            if link.info.boot_epoch > boot_epoch {
                return Standing::Later;
            }
        }
        Standing::Free
    }

    /// Adds a connection. Connections of other instances of the node, and an older one in the same place, end.
    pub(crate) fn insert(&mut self, link: &Arc<Link>) -> Vec<Change> {
        let (node, boot_id) = (link.info.node, link.info.boot_id);
        let superseded = Refused::from(Code::Superseded);
        let mut changes = Vec::new();
        for class in [Class::Peer, Class::Bulk] {
            let stale =
                self.pairs.get(&(node, class)).is_some_and(|pair| pair.both().any(|old| old.info.boot_id != boot_id));
            if stale && let Some(pair) = self.pairs.remove(&(node, class)) {
                pair.both().for_each(|old| old.end(&superseded));
                if class == Class::Peer {
                    changes.push(Change::Down { node, reason: Reason::Local(superseded.clone()) });
                }
            }
        }
        let pair = self.pairs.entry((node, link.class)).or_default();
        let first = pair.any().is_none();
        if let Some(old) = pair.slot(link.info.dialled).replace(link.clone()) {
            old.end(&superseded);
            changes.push(Change::Lost { node, class: link.class });
        }
        if first && link.class == Class::Peer {
            changes.push(Change::Up(link.info.clone()));
        }
        assert!(changes.len() <= CHANGES_MAX, "more changes than were announced");
        changes
    }

    /// Removes a connection that is gone.
    pub(crate) fn remove(&mut self, link: &Link, reason: Reason) -> Option<Change> {
        let key = (link.info.node, link.class);
        let pair = self.pairs.get_mut(&key)?;
        let slot = pair.slot(link.info.dialled);
        if slot.as_ref().is_none_or(|present| present.id != link.id) {
            return None;
        }
        *slot = None;
        let (node, class) = key;
        let lost = Change::Lost { node, class };
        if pair.any().is_some() {
            return Some(lost);
        }
        self.pairs.remove(&key);
        match class {
            Class::Peer => Some(Change::Down { node, reason }),
            Class::Bulk => self.link(node, Class::Peer).is_some().then_some(lost),
        }
    }

    /// The connection to send on: the one this side dialled, else the other.
    pub(crate) fn link(&self, node: u64, class: Class) -> Option<&Arc<Link>> {
        self.pairs.get(&(node, class))?.any()
    }

    /// The connection this side dialled.
    pub(crate) fn dialled(&self, node: u64, class: Class) -> Option<&Arc<Link>> {
        self.pairs.get(&(node, class))?.dialled.as_ref()
    }

    /// All connections with `node`.
    pub(crate) fn of(&self, node: u64) -> impl Iterator<Item = &Arc<Link>> {
        self.pairs.range((node, Class::Peer)..=(node, Class::Bulk)).flat_map(|(_, pair)| pair.both())
    }

    /// All connections.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Link>> {
        self.pairs.values().flat_map(Pair::both)
    }

    /// All connected peers, by node id.
    pub(crate) fn peers(&self) -> impl Iterator<Item = &PeerInfo> {
        self.pairs
            .iter()
            .filter(|((_, class), _)| *class == Class::Peer)
            .filter_map(|(_, pair)| pair.any())
            .map(|link| &link.info)
    }
}
