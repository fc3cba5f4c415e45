//! The checker is held against histories that are good by construction, and against the same with one lie in them.
//!
//! It never takes the checker's word: what is good is built from a log that really was one, and a search that knows no
//! offsets (`second_opinion.rs`) judges the same histories.

mod good;
mod injected;
mod second_opinion;
