//! Quorate: agents that find each other, prove who they are, form a Raft group and replicate one durable log.
//!
//! placeholder: the map of the house is written when it stands.

pub mod limits;
pub mod record;
pub mod wire;
