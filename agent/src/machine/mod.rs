//! The state machines that every agent runs on the log: deterministic, pure, fed entry by entry.
//!
//! They never see a clock, a socket or a message; what they refuse was refused before it was appended, and a
//! difference between the two is a reason to halt.

pub mod log;
pub mod registry;
pub mod settings;
mod streams;
