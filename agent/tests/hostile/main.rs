//! A member that lies: a real cluster of processes, and beside it an agent with a certificate of that cluster, a key of its
//! own and an honest greeting, that then says what it likes. One of each class of lie; the stories of the cores
//! (`raft/tests/hostile.rs`, `membership/tests/hostile.rs`) and `tests/decoders` tell the rest.
#![allow(clippy::unwrap_used)]

#[allow(dead_code)]
#[path = "../process/cluster.rs"]
mod cluster;
mod evil;
#[allow(dead_code)]
#[path = "../process/said.rs"]
mod said;

mod lies;
mod names;
mod secrets;
