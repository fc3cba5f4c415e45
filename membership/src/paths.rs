//! Paths: members whose datagrams get lost while streams with them work, named so that an operator can mend it.
//!
//! It never suspects anybody: who answers over a stream is alive.

use crate::io::{Event, Output};
use crate::membership::Membership;
use crate::timers::Due;
use crate::under_way::Path;
use foca::State;
use std::time::Duration;

/// So many pings in a row must be lost. At 15 % loss each way, and with a stop of five seconds among them, that happens once
/// in a hundred million times.
const LOST_IN_A_ROW: u8 = 20;
/// How often a path in doubt is tried.
const TRY_INTERVAL: Duration = Duration::from_secs(1);
/// A path that is known to be blocked is tried each so many times.
const TRY_BLOCKED_EVERY: u8 = 10;
/// The most paths in doubt at once; more are no matter of single paths, and probes go on anyway.
const PATHS_MAX: usize = 64;

impl Membership {
    /// A ping to it over datagrams got no answer in time. That is all that is known: it may have died.
    pub(crate) fn paths_missed(&mut self, node: u64) {
        if self.paths.0.len() < PATHS_MAX || self.paths.0.contains_key(&node) {
            self.paths.0.entry(node).or_insert(Path { lost: 1, ..Path::default() });
            self.timers.set_at_latest(Due::Paths, self.now.mono.after(TRY_INTERVAL));
        }
    }

    /// A datagram answered a ping: the path works both ways.
    pub(crate) fn paths_passed(&mut self, node: u64) {
        if let Some(path) = self.paths.0.remove(&node)
            && path.is_blocked
            && let Some(entry) = self.roster.get(node)
        {
            self.outbox.push_back(Output::Event(Event::DatagramsPass(entry.member())));
        }
    }

    /// Tries the paths in doubt again.
    pub(crate) fn try_paths(&mut self) {
        let mut due = Vec::new();
        for (node, mut path) in std::mem::take(&mut self.paths.0) {
            let entry = self.roster.get(node).filter(|entry| entry.connected && entry.is_present());
            // Who died is a matter of suspicions; who comes back is tried anew.
            let Some(entry) = entry else { continue };
            // All this time it has answered probes and questions over streams, or it would be a suspect by now.
            let is_alive = entry.seen.is_some_and(|seen| seen.liveness == State::Alive);
            if is_alive && !path.is_blocked && path.lost >= LOST_IN_A_ROW {
                path.is_blocked = true;
                self.outbox.push_back(Output::Event(Event::DatagramsBlocked(entry.member())));
            }
            path.rest = path.rest.saturating_sub(1);
            if path.rest == 0 {
                path.lost = path.lost.saturating_add(1).min(LOST_IN_A_ROW);
                path.rest = if path.is_blocked { TRY_BLOCKED_EVERY } else { 1 };
                due.push(node);
            }
            self.paths.0.insert(node, path);
        }
        for node in due {
            self.ping(node);
        }
        if !self.paths.is_empty() {
            self.timers.set(Due::Paths, self.now.mono.after(TRY_INTERVAL));
        }
    }
}
