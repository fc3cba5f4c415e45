//! Real agents: processes over loopback with mutual TLS, killed, paused, restarted and asked. One file a topic; each
//! test tells a story and names the behaviours of the contract that it proves.
#![allow(clippy::unwrap_used)]

mod cluster;
mod data;
mod history;
mod network;
mod said;
mod shim;
mod small_disk;
mod told;

mod broken;
mod catchup;
mod contract;
mod damage;
mod dev;
mod doctor;
mod expecting;
mod failover;
mod forget;
mod formation;
mod full_disk;
mod hostile;
mod identity;
mod leave;
mod limits;
mod operate;
mod operators;
mod pause;
mod power;
mod quorum;
mod recover;
mod restart;
mod sick_disk;
mod situations;
mod start;
mod tags;
mod transfer;
mod trust;
mod verify;
