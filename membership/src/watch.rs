//! The watch: each member is probed by its predecessor in the ring of node ids, so that no failure waits for luck.
//!
//! It never replaces foca's random probes, which find who died together with its watcher. foca probes each member once a
//! period on average only: in three of a hundred periods of two nobody looks at it at all.

use crate::membership::Membership;
use crate::roster::UNPROVEN_MANY;
use crate::timers::Due;
use crate::under_way::Watch;

impl Membership {
    /// The next present member in the ring; where many are known by the word of others alone, who may have invented them,
    /// the next one that a connection has proven.
    fn successor(&self) -> Option<u64> {
        let any = self.roster.unproven() <= UNPROVEN_MANY;
        let mut ring = self.roster.from(self.me).filter(|entry| entry.node != self.me && entry.is_present());
        ring.find(|entry| any || entry.is_proven()).map(|entry| entry.node)
    }

    /// Something came from this member itself.
    pub(crate) fn heard_from(&mut self, node: u64) {
        if self.watch.node == node {
            self.watch.restart(self.now.mono);
        }
    }

    /// The watched one was silent for too long, or has not answered.
    pub(crate) fn watch(&mut self) {
        let now = self.now.mono;
        let successor = self.successor().unwrap_or_default();
        if successor != self.watch.node {
            // Nobody knows for how long it was not looked at.
            let heard = now.before(self.health.stretch(self.options.watch_interval));
            self.watch = Watch { node: successor, heard, pinged: None };
        }
        if successor == 0 || self.departed {
            // Nobody whom a connection has proven among many inventions: looked for again, but not at once.
            return self.timers.set(Due::Watch, now.after(self.options.watch_interval));
        }
        let patience = self.health.stretch(self.options.probe_timeout);
        let interval = self.health.stretch(self.options.watch_interval);
        let next = match self.watch.pinged {
            None if now < self.watch.heard.after(interval) => self.watch.heard.after(interval),
            None => {
                self.ping(successor);
                self.watch.pinged = Some(now);
                now.after(patience)
            }
            Some(since) if now < since.after(patience) => since.after(patience),
            Some(_) => {
                // Loss looks like loss: what is silent over datagrams is asked over a stream before it is suspected.
                self.question(successor, true);
                self.paths_missed(successor);
                self.watch.restart(now);
                now.after(interval)
            }
        };
        self.timers.set(Due::Watch, next);
    }
}
