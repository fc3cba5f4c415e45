//! What can fail at the endpoint's surface: each error says whose fault it is and what to do.
//! Never carries unsanitised text of the other side.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use quorate_certs::{CertsError, Refusal};

use crate::{Code, Refused};

/// Why an endpoint cannot be bound.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// Another process holds the port.
    #[error("UDP port {} is in use ({addr}); stop the other process or choose another --bind", addr.port())]
    InUse {
        /// The address asked for.
        addr: SocketAddr,
    },
    /// The address is not one of this machine's.
    #[error("{} is no address of this machine; choose another --bind", addr.ip())]
    NotOurs {
        /// The address asked for.
        addr: SocketAddr,
    },
    /// The system forbids the port.
    #[error("UDP port {} may not be used by this user ({addr}); choose one above 1023", addr.port())]
    Forbidden {
        /// The address asked for.
        addr: SocketAddr,
    },
    /// Another failure of the system.
    #[error("cannot bind UDP {addr} ({source}); choose another --bind")]
    Io {
        /// The address asked for.
        addr: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The identity cannot be used.
    #[error(transparent)]
    Identity(#[from] CertsError),
    /// An agent's endpoint needs an agent's certificate with the same name.
    #[error("the certificate is for {subject}, this agent is {name}; use the certificate of that agent")]
    Name {
        /// Whose certificate it is.
        subject: String,
        /// The name of this agent.
        name: String,
    },
    /// Called outside of a tokio runtime.
    #[error("no tokio runtime here (an endpoint lives on the caller's runtime); bind inside of one")]
    NoRuntime,
    /// A value of the options cannot be used.
    #[error("{what} cannot be used; {next}")]
    Option {
        /// Which one.
        what: &'static str,
        /// What to do.
        next: &'static str,
    },
}

/// Why a dial did not end in a connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// Nothing answered.
    #[error("no answer over UDP from {addr} within {} ms; check the address, the port and firewalls", waited.as_millis())]
    NoAnswer {
        /// The address dialled.
        addr: SocketAddr,
        /// How long.
        waited: Duration,
    },
    /// This side refused the certificate of who answered.
    #[error("{addr} is not trusted: {why}")]
    NotTrusted {
        /// The address dialled.
        addr: SocketAddr,
        /// Why.
        why: Refusal,
    },
    /// The other side refused our certificate.
    #[error("{addr} does not trust us: {why}")]
    TheyRefused {
        /// The address dialled.
        addr: SocketAddr,
        /// Why.
        why: Refusal,
    },
    /// The other side closed the connection and said why.
    #[error("{addr} refused: {why}")]
    Closed {
        /// The address dialled.
        addr: SocketAddr,
        /// Code and sanitised text.
        why: Refused,
    },
    /// No protocol version in common.
    #[error("{addr} speaks another protocol version: this side speaks {}..{}, {theirs}; upgrade the older one", ours.0, ours.1)]
    Version {
        /// The address dialled.
        addr: SocketAddr,
        /// The range of this side.
        ours: (u16, u16),
        /// What is known of the range of the other side.
        theirs: String,
    },
    /// The node that answered is not the one expected there.
    #[error(
        "{addr} is node {found:016x}, expected {expected:016x}; its data directory was replaced or the address moved"
    )]
    OtherNode {
        /// The address dialled.
        addr: SocketAddr,
        /// Who was expected.
        expected: u64,
        /// Who answered.
        found: u64,
    },
    /// The address is our own.
    #[error("{addr} is this agent itself; leave it out")]
    Myself {
        /// The address dialled.
        addr: SocketAddr,
    },
    /// This side's checks or policy refused who answered.
    #[error("{addr} was refused by this side: {why}")]
    WeRefused {
        /// The address dialled.
        addr: SocketAddr,
        /// Code and text.
        why: Refused,
    },
    /// The connection broke in another way.
    #[error("the connection to {addr} failed: {why}")]
    Failed {
        /// The address dialled.
        addr: SocketAddr,
        /// This side's words.
        why: String,
    },
    /// The address cannot be dialled from this socket.
    #[error("{addr} cannot be dialled ({why}); check the address and --bind")]
    Address {
        /// The address.
        addr: SocketAddr,
        /// This side's words.
        why: String,
    },
    /// This endpoint is closed.
    #[error("this endpoint is closed")]
    Closing,
}

impl DialError {
    /// The address that was dialled, if the error is about one.
    pub fn addr(&self) -> Option<SocketAddr> {
        match self {
            Self::NoAnswer { addr, .. }
            | Self::NotTrusted { addr, .. }
            | Self::TheyRefused { addr, .. }
            | Self::Closed { addr, .. }
            | Self::Version { addr, .. }
            | Self::OtherNode { addr, .. }
            | Self::Myself { addr }
            | Self::WeRefused { addr, .. }
            | Self::Failed { addr, .. }
            | Self::Address { addr, .. } => Some(*addr),
            Self::Closing => None,
        }
    }

    /// The close code the other side gave, if it gave one.
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Closed { why, .. } => Some(why.code),
            Self::Version { .. } => Some(Code::Version),
            _ => None,
        }
    }

    /// What either side held against the other's certificate, if that was it.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::NotTrusted { why, .. } | Self::TheyRefused { why, .. } => Some(why),
            _ => None,
        }
    }
}

/// Why a frame or a datagram was dropped before it was sent. Nothing of it was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// No live connection to the node.
    #[error("not connected to that node; wait for PeerUp")]
    NotConnected,
    /// The queue to the node is full.
    #[error("the queue to that node is full ({queued} of {max} bytes); it reads more slowly than we write")]
    Full {
        /// Bytes waiting.
        queued: usize,
        /// The bound.
        max: usize,
    },
    /// The frame is longer than its class allows.
    #[error("a frame of {bytes} bytes exceeds the limit of {max}")]
    TooLarge {
        /// Its length.
        bytes: usize,
        /// The bound.
        max: usize,
    },
    /// A frame has at least one byte.
    #[error("a frame cannot be empty")]
    Empty,
}

/// Why an exchange got no answer. Whether the other side saw the request is unknown, except for `Send`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExchangeError {
    /// The request was not sent.
    #[error(transparent)]
    Send(#[from] SendError),
    /// No answer in time.
    #[error("no answer within {} ms", .0.as_millis())]
    Deadline(Duration),
    /// The connection ended.
    #[error("the connection ended: {0}")]
    Lost(String),
    /// The other side declined to answer.
    #[error("the other side did not answer: {0}")]
    Declined(Code),
}
