//! What strangers and misbehaving insiders try, row by row of the threat table: what was sent, what they heard, and that
//! a pair of honest agents beside them never noticed.
#![allow(clippy::unwrap_used, unreachable_pub)]

#[path = "../common/mod.rs"]
mod common;

mod by_hand;
mod bystanders;
mod raw;

mod crowds;
mod datagrams;
mod escapes;
mod frames;
mod junk;
mod manners;
mod secrets;
mod strangers;
mod streams;
