//! Stories of the gossip core on virtual time: a title, a cast, a blow and a moral.

#![allow(clippy::unwrap_used)]

mod cluster;
mod exchanges;
mod failure;
mod hostile;
mod join;
mod leave;
mod lifeguard;
mod partition;
mod paths;
mod restart;
mod schedules;
mod tags;
mod whole;
