//! Who is in the cluster: SWIM gossip on `foca`, with Serf's semantics on top, as a pure core.
//!
//! It opens no socket, reads no clock, draws no entropy, writes no log line, and knows nothing of Raft. Time and seeds
//! are arguments, maps are ordered: the same inputs and the same seed give the same outputs.
//!
//! ```text
//!    Input ──► Membership::handle ──► poll_output ──► Output
//!              poll_timeout ──► wake me then with Input::Timeout
//! ```
//!
//! `foca` finds out who answers: probes, suspicion, dissemination. This crate adds what it lacks (architecture §8):
//!
//! - **names, versions and tags** as records beside foca's updates, and **left** told from **failed** by an intent;
//! - **exchanges** of tables over a stream, on contact and periodically: gossip alone never tells everybody. Two who hold
//!   the same find out by a few hundred bytes of hashes;
//! - **tags** of up to 64 KiB, told by what changed and fetched where that does not fit a packet;
//! - **probes repeated over a stream** when their datagram got no answer, so that loss looks like loss;
//! - **reconnection**: foca stops all timers when nobody is left, so two nodes that were cut apart would stay apart;
//! - at least eight transmissions of each piece of news, however small the cluster;
//! - patience with itself (Lifeguard): a process that slept judges nobody by what it missed, one that others do not hear
//!   probes more slowly, and a suspect has long to answer unless others find by themselves that it does not;
//! - a watch over the next member in the ring of ids, so that no failure waits for a random probe;
//! - names for paths that lose datagrams while streams work.
//!
//! Who is who is proven by the caller's handshake ([`Input::Contact`]); a datagram speaks only for the connection it
//! came on, and whatever is said about others is hearsay: [`Member::proven`] tells which is which.

#![warn(missing_docs)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod acting;
mod alarms;
mod bounds;
mod broadcast;
mod codec;
mod comparing;
mod contacts;
#[cfg(test)]
mod conversing;
mod dialect;
mod digest;
mod doubt;
mod entry;
mod error;
mod exchange;
mod fetching;
mod forgetting;
mod health;
mod hearing;
mod hearsay;
mod identity;
mod io;
mod judging;
mod keeping;
mod lie;
mod member;
mod membership;
mod merging;
mod news;
mod options;
mod packet;
mod paths;
mod place;
mod pool;
mod quota;
mod record;
mod roster;
mod speaking;
mod status;
mod suspicion;
mod swim;
mod tables;
mod tag_store;
mod tags;
mod text;
mod timers;
mod types;
mod under_way;
mod watch;
mod wire;

pub use bounds::{KEY_BYTES_MAX, TAGS_BYTES_MAX, TAGS_MAX, VALUE_BYTES_MAX};
pub use error::Error;
pub use health::HEALTH_MAX;
pub use io::{Event, Input, Output};
pub use lie::Lie;
pub use member::{Member, NAME_BYTES_MAX, State, VERSION_BYTES_MAX};
pub use membership::{Local, Membership};
pub use options::Options;
pub use packet::{PACKET_BYTES_MAX, is_only_news};
pub use pool::Pool;
pub use status::{Counters, Counts, Load, Loads, Phase, Queue, Status};
pub use tags::Tags;
pub use text::Text;
pub use types::{Mono, Now};
