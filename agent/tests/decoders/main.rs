//! Everything that decodes, fed with noise, with good encodings that were changed, and with bombs: it answers or refuses,
//! never panics, and never takes more memory than what is there is worth.
//!
//! Each target runs for a second; `QUORATE_FUZZ_SECONDS` makes it longer. What is private to a crate has its targets
//! there: frames and greetings in `quorate-transport`, frames, metas and segments on disk in `quorate-raft`.
#![allow(clippy::unwrap_used)]

mod fed;

mod bombs;
mod checkpoint;
mod formation;
mod gossip;
mod text;
mod wire;

/// Counts what the decoders take.
#[global_allocator]
static MEMORY: &peakmem_alloc::PeakMemAlloc<std::alloc::System> = &peakmem_alloc::INSTRUMENTED_SYSTEM;
