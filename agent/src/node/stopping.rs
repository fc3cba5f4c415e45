//! Stopping for a while: leadership first, then what was begun, then the process.
//!
//! It never waits longer than it takes to find out that nobody can take over: an agent that is told to stop, stops.

use super::handover::Why;
use super::{Level, Node, Output};
use quorate_raft::{Mono, Now};
use std::time::Duration;

/// Between two looks at what is still owed.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// How far the stopping is.
#[derive(Debug, Default)]
pub(super) struct Stopping {
    since: Option<Mono>,
    /// It has tried to hand over.
    tried: bool,
    /// When it last led.
    led: Option<Mono>,
    stopped: bool,
}

impl Stopping {
    pub(super) fn is_under_way(&self) -> bool {
        self.since.is_some()
    }
}

impl Node {
    /// The process is told to stop.
    pub(super) fn stop(&mut self, now: Now) {
        if !self.stopping.is_under_way() {
            self.stopping.since = Some(now.mono);
            self.hurry(now);
        }
    }

    /// One turn of it. Clients are sent to other agents from the first moment on; the heir and everybody who forwards to
    /// this agent have a heartbeat to hear of the change; appends in hand have the rest of the time to be answered.
    pub(super) fn pursue_stop(&mut self, now: Now) {
        let Some(since) = self.stopping.since.filter(|_| !self.stopping.stopped) else { return };
        let raft = &self.options.raft;
        let (linger, until) = (raft.heartbeat, since.after(raft.election_timeout_max + raft.heartbeat * 2));
        self.next_reconcile = self.next_reconcile.min(now.mono.after(LOOK_AGAIN));
        if self.raft.is_leader() && !self.stopping.tried && !self.handover.is_under_way() {
            self.stopping.tried = true;
            if !self.hand_over_for(now, Why::Stops) && self.raft.configuration().voters.len() > 1 {
                self.note(Level::Warn, "stopping as leader: no other voter can take over now");
            }
        }
        if self.handover.is_under_way() {
            self.stopping.led = Some(now.mono);
        }
        let quiet = now.mono >= self.stopping.led.unwrap_or(since).after(linger);
        let done = quiet && !self.handover.is_under_way() && self.appends.is_empty();
        if done || now.mono >= until {
            if !done {
                self.note(Level::Warn, "stopping with requests that have no answer yet: the time for them is over");
            }
            self.stopping.stopped = true;
            self.last_checkpoint();
            self.emit(Output::Stopped);
        }
    }
}
