//! Replication: what to send to each peer next (§3.5, §10.2).
//!
//! It is planned when the caller has taken everything else, so that proposals that came together travel together; and
//! it never waits for this node's own disk.

use crate::message::{Body, Fence, Message};
use crate::missing::unreadable_from;
use crate::progress::{BATCHES_MAX, BATCHES_ON_WAY_MAX, Mode, Progress};
use crate::role::RoleState;
use crate::{BootId, Log, LogIndex, Mono, NodeId, Options, Output, Position, Raft, Term, mutant};

/// Bytes of entries that a heartbeat to a peer without room carries at most: a configuration of many members fits, and
/// twenty in vain a second cost nothing.
const ESSENTIAL_BYTES_MAX: u32 = 4 << 10;
/// And entries.
const ESSENTIAL_ENTRIES_MAX: u32 = 16;

/// What is the same in all appends of one planning.
struct Plan<'a> {
    options: &'a Options,
    log: &'a Log,
    /// What of it cannot be read.
    unreadable: &'a [(LogIndex, LogIndex)],
    term: Term,
    boot: BootId,
    commit: LogIndex,
    round: u64,
    now: Mono,
}

impl Raft {
    /// See [`Input::Carried`](crate::Input::Carried).
    pub(crate) fn on_carried(&mut self, to: NodeId, planned: LogIndex, first: LogIndex, last: LogIndex, bytes: u64) {
        if first > last || last > planned || planned > self.log.last().index {
            return;
        }
        self.log.weigh(bytes / (last.0 - first.0 + 1));
        let RoleState::Leader(leader) = &mut self.role else { return };
        if let Some(progress) = leader.peers.get_mut(&to).filter(|_| last < planned) {
            progress.shorten(planned, last);
        }
    }

    pub(crate) fn plan_sends(&mut self) {
        let RoleState::Leader(leader) = &mut self.role else { return };
        let plan = Plan {
            options: &self.options,
            log: &self.log,
            unreadable: &self.unreadable,
            term: self.hard_state.term,
            boot: self.boot,
            commit: self.committed,
            round: leader.rounds.round,
            now: self.now,
        };
        for (&to, progress) in &mut leader.peers {
            let to_boot = self.boots.get(&to).copied().unwrap_or_default();
            plan.peer(progress, to_boot, |message| self.outbox.push(Output::Send { to, message }));
        }
    }
}

impl Plan<'_> {
    fn peer(&self, progress: &mut Progress, to_boot: BootId, mut send: impl FnMut(Message)) {
        let beat = core::mem::take(&mut progress.beat);
        if beat {
            progress.beaten = self.now;
        }
        if progress.full {
            if beat {
                self.essentials(progress, to_boot, send);
            }
            return;
        }
        let is_unknown = unreadable_from(self.unreadable, self.log.last().index, progress.next.prev()).is_some();
        if is_unknown && !mutant!(UnreadableTold) {
            // It lacks entries that nobody here can read, nor vouch for: it hears of this leader, and no more.
            if beat {
                let start = self.log.start().index;
                send(self.append(progress, to_boot, start, start, false));
            }
            return;
        }
        let mut sent = false;
        let mut reaches = LogIndex::ZERO;
        match progress.mode {
            Mode::Probe { sent: false } => {
                let to = self.end_of_batch(progress.next);
                send(self.append(progress, to_boot, progress.next.prev(), to, false));
                progress.mode = Mode::Probe { sent: true };
                sent = true;
            }
            Mode::Replicate => {
                while self.may_send_more(progress) {
                    let to = self.end_of_batch(progress.next);
                    send(self.append(progress, to_boot, progress.next.prev(), to, false));
                    progress.next = to.next();
                    if progress.batches.is_empty() {
                        progress.batch_sent = self.now;
                    }
                    progress.batches.push_back(to);
                    reaches = to;
                    sent = true;
                }
            }
            Mode::Probe { sent: true } | Mode::Behind => {}
        }
        // A peer that still owes an ack learns of the commit with what that ack sets free, at no cost.
        let is_idle = progress.mode == Mode::Replicate && progress.batches.is_empty();
        let has_news = is_idle && progress.commit_sent < self.commit;
        if !sent && (beat || has_news) {
            let at = self.beat_at(progress);
            send(self.append(progress, to_boot, at, at, !beat));
            reaches = at;
            sent = true;
        }
        // A commit index says nothing about entries beyond those that the message itself reaches.
        if sent && progress.mode == Mode::Replicate {
            progress.commit_sent = progress.commit_sent.max(self.commit.min(reaches));
        }
    }

    /// To a peer whose disk takes no entries: heartbeats, with what may be a no-op or a configuration. The core does not
    /// remember the kinds of old entries, but what the group itself needs is small; the peer takes what it may.
    fn essentials(&self, progress: &mut Progress, to_boot: BootId, mut send: impl FnMut(Message)) {
        let first = progress.next;
        let is_small = || self.log.bytes(first.prev(), first) <= u64::from(ESSENTIAL_BYTES_MAX);
        let to = if progress.mode != Mode::Behind && first <= self.log.last().index && is_small() {
            self.log.batch(first, ESSENTIAL_BYTES_MAX, ESSENTIAL_ENTRIES_MAX)
        } else {
            first.prev()
        };
        send(self.append(progress, to_boot, first.prev(), to, false));
        progress.commit_sent = progress.commit_sent.max(self.commit.min(to));
    }

    /// One batch on the wire while the one before is being fsynced; more only when enough bytes have gathered; never
    /// more than a few, nor more than the window, except a single entry that is larger.
    fn may_send_more(&self, progress: &Progress) -> bool {
        let last = self.log.last().index;
        let in_flight = self.log.bytes(progress.matched, progress.next.prev());
        let waiting = self.log.bytes(progress.next.prev(), last);
        let on_way = progress.batches.len();
        let is_worth_it = on_way < BATCHES_MAX || waiting >= u64::from(self.options.append_bytes_max / 4);
        let fits = on_way < BATCHES_ON_WAY_MAX && in_flight < u64::from(self.options.window_bytes);
        progress.next <= last && is_worth_it && (fits || on_way == 0)
    }

    fn end_of_batch(&self, first: LogIndex) -> LogIndex {
        if first > self.log.last().index {
            return first.prev();
        }
        self.log.batch(first, self.options.append_bytes_max, self.options.append_entries_max)
    }

    /// Where a heartbeat claims that the logs agree. In `Replicate` that is the last entry sent: if a window was lost,
    /// the answer says so. But large batches travel on a connection of their own, and a heartbeat that overtakes one
    /// would have it sent again; so while a batch may still be on its way it is the last entry known to be there.
    fn beat_at(&self, progress: &Progress) -> LogIndex {
        let on_its_way = self.now.since(progress.batch_sent) < self.options.election_timeout_min;
        if progress.mode == Mode::Replicate && !progress.batches.is_empty() && on_its_way {
            return progress.matched;
        }
        progress.next.prev()
    }

    fn append(&self, progress: &Progress, to_boot: BootId, from: LogIndex, to: LogIndex, quiet: bool) -> Message {
        let at = |index| self.log.position(index).unwrap_or_else(|| self.log.start());
        let prev: Position = at(from);
        let last = at(to);
        let body = Body::Append { prev, last, commit: self.commit, round: self.round, quiet };
        let fence = Fence { admitted: progress.admitted, from_boot: self.boot, to_boot };
        Message { term: self.term, fence, body }
    }
}
