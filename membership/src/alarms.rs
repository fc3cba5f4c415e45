//! Alarms: what a peer said that it may not say, told to whoever owns the connection.
//!
//! They never flood a log: each is raised once in a while, and all are counted.

use crate::io::Output;
use crate::lie::Lie;
use crate::membership::Membership;
use std::time::Duration;

/// The same alarm about the same peer is raised once in this time; all are counted.
const ALARM_INTERVAL: Duration = Duration::from_secs(10);
/// The most different alarms in that time.
const ALARMS_MAX: usize = 256;

impl Membership {
    pub(crate) fn alarm(&mut self, from: u64, what: &'static str) {
        self.accuse(from, what, None);
    }

    /// An alarm about what only a liar says is never left out: whoever owns the connection closes it.
    pub(crate) fn accuse(&mut self, from: u64, what: &'static str, lie: Option<Lie>) {
        self.counters.refused += 1;
        if lie.is_some() {
            return self.outbox.push_back(Output::Alarm { from, what, lie });
        }
        let now = self.now.mono;
        if self.alarmed.get(&(from, what)).is_some_and(|last| now < last.after(ALARM_INTERVAL)) {
            return;
        }
        self.alarmed.retain(|_, last| now < last.after(ALARM_INTERVAL));
        if self.alarmed.len() < ALARMS_MAX {
            self.alarmed.insert((from, what), now);
            self.outbox.push_back(Output::Alarm { from, what, lie });
        }
    }
}
