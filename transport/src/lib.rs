//! One QUIC endpoint per agent: authenticated peers, framed streams, datagrams, and the streams of clients.
//! Never knows what the bytes mean.
//!
//! # Shape
//!
//! [`Endpoint::bind`] gives a handle (cheap to clone) and [`Events`], the one queue of everything that happens. All
//! tasks run on the caller's tokio runtime, which is best the one that [`runtime`] makes.
//!
//! ```text
//! Endpoint::bind(Options) -> Result<(Endpoint, Events), BindError>      inside a tokio runtime
//! Events::recv().await -> Option<Event>       Events::try_recv() -> Option<Event>
//! endpoint.local_addr() -> SocketAddr         endpoint.node() -> u64
//! endpoint.set_log_id(LogId)                  from the next greeting on
//! endpoint.set_identity(&Identity) -> Result<(), BindError>             new handshakes only, both directions
//! endpoint.dial(addr, expected: Option<u64>).await -> Result<PeerInfo, DialError>     one attempt, <= 3 s
//! endpoint.keep(node, addr)                   one connection, whoever dials it, redialled for ever with back-off
//! endpoint.unkeep(node)                       stop that, and close the outgoing connection
//! endpoint.trouble(node) -> Option<DialError> why a kept node cannot be reached
//! endpoint.disconnect(node, &Refused)         close every connection of a node
//! endpoint.send(node, Bytes), send_parts(node, &[Bytes]) -> Result<(), SendError>     never blocks
//! endpoint.send_bulk(node, &[Bytes]) -> Result<(), SendError>           never blocks; dials on first use
//! endpoint.send_bulk_wait(node, &[Bytes]).await -> Result<(), SendError>              connects, waits for room
//! endpoint.datagram(node, Bytes) -> Result<(), SendError>
//! endpoint.exchange(node, Bytes).await -> Result<Bytes, ExchangeError>  one stream, one answer, one deadline
//! endpoint.rtt(node) -> Option<Duration>      endpoint.peers() -> Vec<PeerInfo>
//! endpoint.stats() -> Stats                   endpoint.close(&Refused).await
//!
//! rpc::RpcClient::new(&Identity, version, features, Limits) -> Result<RpcClient, BindError>
//! endpoint.rpc_client() -> RpcClient          dials from the agent's own port, as the agent
//! client.connect(addr, deadline).await -> Result<RpcConnection, DialError>
//! connection.welcome() -> &RpcWelcome         connection.open().await -> Result<RpcStream, RpcError>
//! stream.recv().await -> Result<Option<Bytes>, RpcError>                cancel-safe
//! stream.send(Vec<Bytes>).await -> Result<(), RpcError>                 the parts are one frame
//! stream.finish().await                       stream.split() -> (RpcRecv, RpcSend)
//! ```
//!
//! # Protocols
//!
//! | ALPN | who may dial | carries |
//! |---|---|---|
//! | `quorate-peer/1` | agents | frames both ways on the first stream, datagrams, exchanges and probes on further streams |
//! | `quorate-bulk/1` | agents | large frames both ways on the first stream |
//! | `quorate-rpc/1` | clients and agents | each stream a conversation of frames, begun by the dialler |
//!
//! A frame is a `u32` length (big endian, never 0) and that many bytes. On `peer` and `bulk` the first frames are
//! Hello (dialler), Welcome (acceptor), Ready (dialler); on `rpc` they are Hello and Welcome. A peer exists for the
//! caller only after that ([`Event::PeerUp`]): a QUIC dialler believes itself connected before its certificate was
//! looked at.
//!
//! # Which connection carries what
//!
//! Two agents that keep each other share one connection: the one with the lower node id dials at once, the other one a
//! moment later, if nobody came until then. Should both dial at the same moment, there may be two, one dialled by each;
//! none is closed in favour of the other. A side sends on the connection it dialled while that lives, else on the other
//! one; so frames are in order as long as the choice does not change, and may be lost or overtake each other when a
//! connection comes or goes.
//!
//! # How long a connection lasts
//!
//! A connection at rest says nothing, but for a packet each twelve seconds that keeps it open: whatever is silent for half a
//! minute is let go, since it may be a client that left something behind. It is gone when something that was said on it had
//! no answer for `peer_unanswered`: so whoever talks with a dead peer soon knows, and whoever has nothing to say need not. To
//! notice the death of a silent peer is the caller's business.
#![warn(missing_docs)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod accept;
mod admission;
mod bucket;
mod budget;
mod bulk;
mod close;
mod congestion;
mod connect;
mod dial;
mod endpoint;
mod error;
mod event;
mod expiry;
mod frame;
mod greet;
mod hello;
mod inner;
mod kept;
mod key;
mod link;
mod lock;
mod options;
mod outbox;
mod place;
mod pool;
mod refusals;
pub mod rpc;
mod runtime;
mod sanitize;
mod seats;
mod silence;
mod socket;
mod stats;
mod table;
mod tuning;
mod turns;
mod waiting;

pub use close::{Code, Reason, Refused};
pub use endpoint::Endpoint;
pub use error::{BindError, DialError, ExchangeError, SendError};
pub use event::{Event, Events, PeerInfo};
pub use key::{KeyError, NodeKey, is_statement_of, node_id};
pub use options::{Gate, Limits, LocalNode, LogId, OpenGate, Options, PeerHello, Secrets};
pub use runtime::runtime;
pub use sanitize::sanitize;
pub use stats::{LinkStats, Stats};
