//! The runtime that an endpoint wants: one thread that looks at its socket often.
//! Never starts a thread of its own.

use std::io;

/// Tasks that run before the runtime looks at sockets and timers again.
///
/// While some task is always ready, as in a bulk transfer, the default of 61 means that a packet which has arrived waits
/// for 61 others to run: at 50 to 100 us each that is some milliseconds for every heartbeat.
const EVENT_INTERVAL: u32 = 5;
/// The same for what other threads hand over: a sync of the disk that has ended.
const HANDOVER_INTERVAL: u32 = 5;

/// A current-thread runtime for an endpoint and all that runs beside it.
pub fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .event_interval(EVENT_INTERVAL)
        .global_queue_interval(HANDOVER_INTERVAL)
        .build()
}
