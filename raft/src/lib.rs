//! placeholder
#![cfg_attr(not(feature = "wal"), no_std)]
extern crate alloc;

mod configuration;
mod io;
mod message;
mod options;
mod status;
mod types;

pub use configuration::Configuration;
pub use io::*;
pub use message::Message;
pub use options::Options;
pub use status::{PeerStatus, Role, Status};
pub use types::*;

#[cfg(feature = "wal")]
pub mod wal;
