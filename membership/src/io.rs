//! Input, Output and Event: all that crosses the wall of the core.
//!
//! No socket, no connection: the caller knows which node is at the other end of each of its connections.

use crate::lie::Lie;
use crate::member::Member;
use crate::tags::Tags;
use std::net::SocketAddr;

/// The world speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Nothing but `now`: a timeout may be due.
    Timeout,
    /// A gossip datagram. Before the [`Contact`](Self::Contact) of its connection it is dropped.
    Datagram {
        /// The node proven by the connection it came on. A datagram that speaks for another is refused.
        from: u64,
        /// As it came.
        bytes: Vec<u8>,
    },
    /// A connection is up, in either direction, and the other side has proven all of this. `addr` is what it
    /// advertises, or, if it does not know that yet, where it was seen.
    Contact {
        /// Its node id.
        node: u64,
        /// Its name.
        name: String,
        /// Where to dial it.
        addr: SocketAddr,
        /// Its boot epoch.
        epoch: u64,
        /// Its boot id.
        boot: u64,
        /// Its software version.
        version: String,
    },
    /// The last connection with it is gone. Only a hint: nothing is decided by this alone.
    Lost {
        /// Which node.
        node: u64,
    },
    /// The last connection with it was closed because nobody used it, by either side: says nothing about the member.
    Released {
        /// Which node.
        node: u64,
    },
    /// A request came over a stream. Exactly one [`Output::ExchangeReply`] follows, during this very call.
    Exchange {
        /// The node proven by the connection.
        from: u64,
        /// As it came.
        bytes: Vec<u8>,
    },
    /// The answer to an [`Output::Exchange`]. A request that got no answer needs no input at all.
    ExchangeReply {
        /// The node proven by the connection.
        from: u64,
        /// As it came.
        bytes: Vec<u8>,
    },
    /// Tags of this node from now on.
    SetTags(Tags),
    /// Where others shall dial this node: learned, or changed.
    SetAddr(SocketAddr),
    /// Go gracefully: tell the others, then leave. [`Output::LeaveDone`] says when they were told often enough.
    Leave,
    /// This node id is gone for good, by a word that counts for more than gossip: it is dropped from the table, and
    /// nothing that is said of it is heard any more. Its name is free.
    Forget {
        /// Which.
        node: u64,
    },
    /// A Lamport time seen elsewhere.
    Witness {
        /// The time.
        lamport: u64,
    },
}

impl Input {
    /// Whose words these are.
    pub(crate) fn speaker(&self) -> Option<u64> {
        match self {
            Self::Datagram { from, .. } | Self::Exchange { from, .. } | Self::ExchangeReply { from, .. } => Some(*from),
            _ => None,
        }
    }
}

/// The core asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send this datagram, now or never: late it is worth less than nothing.
    Datagram {
        /// To this node, over any connection with it.
        to: u64,
        /// Where to dial it if there is none; unspecified if not known.
        addr: SocketAddr,
        /// At most [`PACKET_BYTES_MAX`](crate::PACKET_BYTES_MAX) bytes.
        bytes: Vec<u8>,
    },
    /// Send this request over a stream; give what comes back as [`Input::ExchangeReply`]. No answer within
    /// a second or two: drop it.
    Exchange {
        /// To this node.
        to: u64,
        /// Where to dial it if there is no connection; unspecified if not known.
        addr: SocketAddr,
        /// The request.
        bytes: Vec<u8>,
    },
    /// The answer to the [`Input::Exchange`] being handled.
    ExchangeReply {
        /// To the node that asked.
        to: u64,
        /// The answer.
        bytes: Vec<u8>,
    },
    /// Dial this member unless there is a connection: it failed, its connection was lost, or gossip names it.
    Reconnect {
        /// Which node is expected there.
        node: u64,
        /// Its last known address.
        addr: SocketAddr,
    },
    /// This node is alone: dial the join seeds, if there are any.
    SeedsWanted,
    /// News for users and policies.
    Event(Event),
    /// The last known addresses changed: cache [`Membership::addresses`](crate::Membership::addresses) for the next
    /// start.
    SaveMembers,
    /// This node has left; the core says and does nothing more.
    LeaveDone,
    /// A peer said what it must not; what it said was ignored.
    Alarm {
        /// Who.
        from: u64,
        /// What was wrong, for the log.
        what: &'static str,
        /// What no honest peer says: the connection it came on is best closed. `None`: it may only repeat what another
        /// one made up, or be of another version.
        lie: Option<Lie>,
    },
}

/// What happened among the members, this node included once it is one. Each carries the member as it stands now.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// It is here, for the first time or after it had left.
    Joined(Member),
    /// Its tags, address, name or version changed.
    Updated(Member),
    /// A probe of it failed. No reason to act: most suspects answer.
    Suspected(Member),
    /// The suspect answered.
    Refuted(Member),
    /// It stopped answering.
    Failed(Member),
    /// It had been declared failed, and is here in the same life: it was cut off.
    Recovered(Member),
    /// It is here in a new life; that its former one ended may or may not have been noticed.
    Restarted(Member),
    /// It is going to leave.
    Leaving(Member),
    /// It left.
    Left(Member),
    /// It was gone for so long that it is now forgotten.
    Reaped(Member),
    /// No datagram to it is answered, while streams with it work.
    DatagramsBlocked(Member),
    /// Datagrams with it work again.
    DatagramsPass(Member),
    /// These present members claim one name. Nothing is resolved here.
    NameConflict {
        /// The name.
        name: String,
        /// All who claim it.
        nodes: Vec<u64>,
    },
}
