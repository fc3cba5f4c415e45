//! Silence: a connection on which something was said and nothing came back is gone, long before its idle timeout.
//! Never says anything itself: who has nothing to say need not know.

use std::sync::Arc;
use std::time::Duration;

use quinn::ConnectionStats;
use tokio::time::{MissedTickBehavior, interval};

use crate::inner::Inner;
use crate::table::{Class, Link};

/// How often all connections are looked at: one timer for all of them, whatever their number.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What the counters of one connection showed when it was last looked at.
#[derive(Debug, Default)]
pub(crate) struct Silence {
    heard: u64,
    said: u64,
    /// For so many looks something that was said has had no answer.
    looks: u32,
}

impl Silence {
    /// For how many looks in a row something that was said has had no answer.
    ///
    /// QUIC asks on behalf of whoever said something: each packet with more than an acknowledgement in it is acknowledged within
    /// milliseconds, and while it is not, further packets are sent, at ever longer intervals.
    fn look(&mut self, heard: u64, said: u64) -> u32 {
        if heard != self.heard {
            *self = Self { heard, said, looks: 0 };
        } else if self.looks > 0 || said != self.said {
            self.looks += 1;
        }
        self.looks
    }

    /// The same from the counters of a connection. Only what was decrypted counts: nobody else can make it seem alive.
    pub(crate) fn of(&mut self, stats: &ConnectionStats) -> u32 {
        let (rx, tx) = (&stats.frame_rx, &stats.frame_tx);
        // With the latter two QUIC asks again. Whatever else it says it says with something of these.
        let said = tx.datagram + tx.stream + tx.ping + tx.immediate_ack;
        self.look(rx.acks + rx.datagram + rx.stream + rx.ping, said)
    }
}

/// Looks at all peer connections until the endpoint closes, and ends those that have been silent for too long.
///
/// Looks are counted, not time: a process that did not run for a while first hears what has come meanwhile.
pub(crate) async fn watch(inner: Arc<Inner>) {
    let looks_max = looks(inner.limits.peer_unanswered);
    let mut timer = interval(LOOK_EVERY);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !inner.closing() {
        timer.tick().await;
        let links: Vec<Arc<Link>> = inner.table().all().filter(|link| link.class == Class::Peer).cloned().collect();
        for link in links.iter().filter(|link| link.silent_looks() > looks_max) {
            link.fall_silent();
        }
    }
}

fn looks(limit: Duration) -> u32 {
    u32::try_from(limit.as_secs()).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_said_makes_silence_count() {
        let mut silence = Silence::default();
        assert_eq!(silence.look(3, 5), 0);
        for _ in 0..100 {
            assert_eq!(silence.look(3, 5), 0, "nobody said anything");
        }
        assert_eq!(silence.look(3, 6), 1);
        assert_eq!(silence.look(3, 6), 2, "it was said, and waits");
        assert_eq!(silence.look(3, 9), 3);
        assert_eq!(silence.look(4, 9), 0, "an answer ends it");
        assert_eq!(silence.look(4, 9), 0);
    }

    #[test]
    fn what_was_said_and_heard_between_two_looks_is_no_silence() {
        let mut silence = Silence::default();
        for round in 1..50 {
            assert_eq!(silence.look(round, round * 7), 0);
        }
    }

    #[test]
    fn a_limit_below_one_look_is_one_look() {
        assert_eq!([0, 1, 4].map(|s| looks(Duration::from_secs(s))), [1, 1, 4]);
    }
}
