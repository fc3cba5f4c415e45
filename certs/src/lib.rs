//! Who an agent or a client is: the cluster's certificate authority, identities on disk and the rustls configurations.
//! Never opens a socket, and holds no policy about what an identity may do.
//!
//! A certificate names its owner in exactly one URI (`docs` on [`Subject`]); the cluster id in it is the boundary of trust.
//! Everything that turns bytes into an identity goes through [`Subject::from_der`], and everything that refuses one does
//! so with a [`Refusal`], so that both ends of a failed handshake can log the same English reason.
#![warn(missing_docs)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod anchors;
mod authority;
mod certificates;
mod date;
mod error;
mod fault;
mod files;
mod identity;
mod inspect;
mod name;
mod refusal;
mod subject;
mod tls;

pub use authority::{Authority, Issued, Scope, VALIDITY_CA_DAYS, VALIDITY_LEAF_DAYS, Validity};
pub use certificates::not_after;
pub use date::Date;
pub use error::CertsError;
pub use fault::Fault;
pub use identity::Identity;
pub use inspect::{Finding, Inspection, Kind, Severity, inspect, verify};
pub use name::{AgentName, ClusterId, NAME_BYTES_MAX, NameError, Role, valid_name};
pub use refusal::Refusal;
pub use subject::{Subject, SubjectError, Who};
pub use tls::{Tls, Verdict, client_config, provider, server_config};
