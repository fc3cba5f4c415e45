//! What an endpoint tells its caller, in one bounded queue.
//! Never lets bytes pile up: large frames hold a share of one budget until they are taken.

use std::net::SocketAddr;

use bytes::Bytes;
use quorate_certs::{AgentName, Refusal};
use tokio::sync::{mpsc, oneshot};

use crate::budget::Share;
use crate::rpc::RpcStream;
use crate::{LogId, Reason, Refused};

/// A connected peer, as it proved itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerInfo {
    /// The node id its key proves.
    pub node: u64,
    /// The name its certificate proves.
    pub name: AgentName,
    /// Its count of starts.
    pub boot_epoch: u64,
    /// Its present start.
    pub boot_id: u64,
    /// The history it held when it connected.
    pub log_id: Option<LogId>,
    /// The UDP address it uses.
    pub remote: SocketAddr,
    /// Where it wants to be dialled.
    pub advertised: Option<SocketAddr>,
    /// Our address as it sees us: our source if we dialled, the address it dialled if it did.
    pub observed_self: Option<SocketAddr>,
    /// Its program's version (sanitised).
    pub version: String,
    /// Its feature bits.
    pub features: u64,
    /// Whether this side dialled.
    pub dialled: bool,
}

/// Something happened. Events of one node are in order: up, then its frames, then down. Streams of clients wait in a
/// queue of their own, so that they never delay what peers say.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// The first live connection of a peer exists, or a new instance of it took the place of the old one.
    PeerUp(PeerInfo),
    /// The last live connection of a peer is gone.
    PeerDown {
        /// Which node.
        node: u64,
        /// Why its last connection ended.
        reason: Reason,
    },
    /// One of the connections with a peer ended while the peer stays connected by another: frames that were queued or
    /// under way on it, in either direction, may be lost.
    FramesLost {
        /// Which node.
        node: u64,
        /// Whether it was a bulk connection, or the attempt to dial one.
        bulk: bool,
    },
    /// A frame came on a peer connection.
    PeerFrame {
        /// From which node.
        node: u64,
        /// The frame.
        bytes: Bytes,
    },
    /// A frame came on a bulk connection.
    BulkFrame {
        /// From which node.
        node: u64,
        /// The frame.
        bytes: Bytes,
    },
    /// A datagram came. Datagrams are dropped when the caller is slow.
    Datagram {
        /// From which node.
        node: u64,
        /// The datagram.
        bytes: Bytes,
    },
    /// A peer asks and waits on a stream of its own; dropping `reply` declines.
    Exchange {
        /// Which node.
        node: u64,
        /// What it asks.
        request: Bytes,
        /// Where the answer goes.
        reply: oneshot::Sender<Bytes>,
    },
    /// A client (or a forwarding agent) opened a stream.
    Rpc(Box<RpcStream>),
    /// Somebody was refused: for one log line. Of each kind and source (IPv4 address, IPv6 /64) one is reported in
    /// `refusals_quiet`, and of all together at most 32.
    Refused {
        /// The UDP address; anybody can write any address into a first packet.
        from: SocketAddr,
        /// Code and text.
        why: Refused,
        /// What was wrong with the certificate, if that was it.
        refusal: Option<Refusal>,
        /// How many more of this kind and source were refused since the last report.
        suppressed: u64,
    },
    /// The endpoint works no more; the process should end and say so.
    Broken {
        /// What is known.
        why: String,
    },
}

/// New streams of clients that wait for the caller; more wait in QUIC.
const STREAMS_WAITING_MAX: usize = 256;

/// The queue of [`Event`]s.
#[derive(Debug)]
pub struct Events {
    queue: mpsc::Receiver<Queued>,
    streams: mpsc::Receiver<RpcStream>,
}

impl Events {
    /// The next event; `None` once the endpoint and all its handles are gone. Cancel-safe.
    pub async fn recv(&mut self) -> Option<Event> {
        tokio::select! {
            biased;
            queued = self.queue.recv() => queued.map(|queued| queued.event),
            Some(stream) = self.streams.recv() => Some(Event::Rpc(Box::new(stream))),
        }
    }

    /// The next event if one is waiting.
    pub fn try_recv(&mut self) -> Option<Event> {
        let queued = self.queue.try_recv().ok().map(|queued| queued.event);
        queued.or_else(|| self.streams.try_recv().ok().map(|stream| Event::Rpc(Box::new(stream))))
    }
}

/// An event and its share of the budget for received bytes, given back when the caller takes the event.
#[derive(Debug)]
struct Queued {
    event: Event,
    _share: Option<Share>,
}

/// The sending end.
#[derive(Debug, Clone)]
pub(crate) struct EventSender {
    queue: mpsc::Sender<Queued>,
    streams: mpsc::Sender<RpcStream>,
}

/// Room for some events, taken before a lock so that what happens under the lock is reported in order.
pub(crate) struct Room<'a>(mpsc::PermitIterator<'a, Queued>);

impl Room<'_> {
    /// Puts an event into the reserved room. The caller reserved enough.
    pub(crate) fn put(&mut self, event: Event) {
        if let Some(permit) = self.0.next() {
            permit.send(Queued { event, _share: None });
        }
    }
}

impl EventSender {
    pub(crate) fn new(events_max: usize) -> (Self, Events) {
        let (sender, queue) = mpsc::channel(events_max);
        let (stream_sender, streams) = mpsc::channel(STREAMS_WAITING_MAX);
        (Self { queue: sender, streams: stream_sender }, Events { queue, streams })
    }

    /// Waits for room; `None` if the caller dropped its [`Events`].
    pub(crate) async fn room(&self, events: usize) -> Option<Room<'_>> {
        self.queue.reserve_many(events).await.ok().map(Room)
    }

    /// Waits for room, then asks `alive` once more and sends. False if nobody listens or `alive` says no.
    pub(crate) async fn send(&self, event: Event, share: Option<Share>, alive: impl FnOnce() -> bool) -> bool {
        let Ok(permit) = self.queue.reserve().await else { return false };
        if !alive() {
            return false;
        }
        permit.send(Queued { event, _share: share });
        true
    }

    /// Waits for room for a stream of a client; false if nobody listens.
    pub(crate) async fn stream(&self, stream: RpcStream) -> bool {
        self.streams.send(stream).await.is_ok()
    }

    /// Sends if there is room now.
    pub(crate) fn offer(&self, event: Event) -> bool {
        self.queue.try_send(Queued { event, _share: None }).is_ok()
    }
}
