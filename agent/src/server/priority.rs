//! Threads that give way to those that serve.
//!
//! It never changes the priority of anything but the calling thread.

/// How much nicer than the rest: a third of the share of a thread that serves, when both want to run, and all of a processor
/// that nobody else wants. More would let a busy machine starve what keeps the log whole.
#[cfg(target_os = "linux")]
const NICE: i32 = 5;

/// The calling thread is for what can wait. Where the system knows no priority of threads, nothing happens.
pub(super) fn give_way() {
    // Only here does the priority of a process without a number mean the calling thread. A refusal is of no consequence.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::setpriority_process(None, NICE);
}
