//! Progress: one peer as the leader sees it, and what may be sent to it next.
//!
//! `matched` comes from answers only, never from what was sent.

use alloc::collections::VecDeque;
use core::time::Duration;

use crate::{LogIndex, Mono};

/// How many appends may be unanswered before more must wait, unless enough bytes have gathered: one on the wire while
/// the one before it is being fsynced.
pub(crate) const BATCHES_MAX: usize = 2;

/// How many appends may be unanswered at all. Appends that may hold few entries never fill the window in bytes, and a
/// caller that reads old entries from disk has a bound on that as well: what it drops for it comes back as a gap.
pub(crate) const BATCHES_ON_WAY_MAX: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Where the logs part is not known: one append at a time, then only heartbeats until it is answered.
    Probe { sent: bool },
    /// The logs agree up to `next - 1` if nothing was lost; entries flow without waiting.
    Replicate,
    /// It needs entries before the start of this log: heartbeats only, until it has them from elsewhere.
    Behind,
}

#[derive(Clone, Debug)]
pub(crate) struct Progress {
    /// The configuration entry that admitted it: the fence of its answers.
    pub(crate) admitted: LogIndex,
    /// Durable there, and equal to this log.
    pub(crate) matched: LogIndex,
    /// What it acknowledged in its life before this one, until it shows that it still has that.
    pub(crate) promised: LogIndex,
    /// It said in this life that it has lost some of that.
    pub(crate) has_lost: bool,
    /// The next index to send.
    pub(crate) next: LogIndex,
    pub(crate) mode: Mode,
    /// When it last answered in this term.
    pub(crate) heard: Option<Mono>,
    /// The latest read round it has confirmed.
    pub(crate) round: u64,
    /// The commit index it was last told.
    pub(crate) commit_sent: LogIndex,
    /// A heartbeat is due.
    pub(crate) beat: bool,
    /// When the last one went.
    pub(crate) beaten: Mono,
    /// When one last went late, or its answer came late.
    pub(crate) stuttered: Option<Mono>,
    /// The last index of each append that is not yet answered, in mode `Replicate`.
    pub(crate) batches: VecDeque<LogIndex>,
    /// Since when the first of them has been on its way, as far as answers tell.
    pub(crate) batch_sent: Mono,
    /// Its disk takes only what the group itself needs.
    pub(crate) full: bool,
    /// It is no longer a member: it still receives the log until it knows, or until this moment.
    pub(crate) departing: Option<(LogIndex, Mono)>,
}

/// A heartbeat that goes so late, or whose answer comes so late, as a part of the pause at rest: somebody was stalled.
const LATE_PART: u32 = 4;
/// A stall is remembered for so many of the longest election timeouts.
const STALL_TIMEOUTS: u32 = 20;

/// How often a leader shows that it lives, by what a peer is in need of.
///
/// The longer pause at rest is paid for with the time that either side may be stalled before anybody asks for votes. So it is
/// for those who are not stalled: on a machine that is starved of the processor the pace is that of the busy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// The last entry of the log.
    pub(crate) last: LogIndex,
    /// From one heartbeat to the next where something is owed: entries, or an answer.
    pub(crate) busy: Duration,
    /// The same where nothing is.
    pub(crate) at_rest: Duration,
    /// Whoever owes an answer for so long is gone: there is no more to hurry for.
    pub(crate) silent: Duration,
    /// Since when this node leads: the grace of peers that have not answered yet.
    pub(crate) since: Mono,
}

impl Pace {
    /// When the next heartbeat to this peer is due. What was lost, on the way there or back, shows as an answer that is owed.
    pub(crate) fn due(&self, peer: &Progress) -> Mono {
        // To a peer without room all news travels with heartbeats, that of a commit too.
        let has_all = peer.mode == Mode::Replicate && peer.matched == self.last && !peer.full;
        let has_answered = peer.heard.is_some_and(|heard| heard >= peer.beaten);
        let is_gone = peer.beaten.since(peer.heard.unwrap_or(self.since)) >= self.silent;
        let is_on_time = peer.stuttered.is_none_or(|at| peer.beaten.since(at) >= self.silent * STALL_TIMEOUTS);
        let is_at_rest = has_all && has_answered && is_on_time || is_gone;
        peer.beaten.after(if is_at_rest { self.at_rest } else { self.busy })
    }

    /// Is something so late that whoever was to do it must have been stalled?
    pub(crate) fn is_late(&self, by: Duration) -> bool {
        by >= self.at_rest / LATE_PART
    }
}

impl Progress {
    /// A peer whose log is not known, taken to equal a log that ends before `next`.
    pub(crate) fn new(admitted: LogIndex, next: LogIndex) -> Self {
        Self {
            admitted,
            matched: LogIndex::ZERO,
            promised: LogIndex::ZERO,
            has_lost: false,
            next,
            mode: Mode::Probe { sent: false },
            heard: None,
            round: 0,
            commit_sent: LogIndex::ZERO,
            beat: true,
            beaten: Mono::default(),
            stuttered: None,
            batches: VecDeque::new(),
            batch_sent: Mono::default(),
            full: false,
            departing: None,
        }
    }

    /// The peer has `matched` durable, and has seen up to `verified`.
    pub(crate) fn accepted(&mut self, matched: LogIndex, verified: LogIndex) {
        self.matched = self.matched.max(matched);
        if self.matched >= self.promised {
            self.promised = LogIndex::ZERO;
            self.has_lost = false;
        }
        let known = self.matched.max(verified);
        while self.batches.front().is_some_and(|&last| last <= self.matched) {
            self.batches.pop_front();
        }
        match self.mode {
            Mode::Replicate => self.next = self.next.max(known.next()),
            Mode::Probe { .. } | Mode::Behind => {
                // An answer to a probe: what it verified is where streaming begins, whatever was sent before.
                self.next = known.next();
                self.mode = Mode::Replicate;
                self.batches.clear();
            }
        }
    }

    /// It says whether its disk takes entries. What is on its way to one that takes none is dropped there.
    pub(crate) fn set_full(&mut self, full: bool, verified: LogIndex) {
        self.full = full;
        if full {
            self.next = self.matched.max(verified).next();
            self.batches.clear();
        }
    }

    /// The append that was planned to end at `planned` ends at `last`, and none was sent after it.
    pub(crate) fn shorten(&mut self, planned: LogIndex, last: LogIndex) {
        let Some(at) = self.batches.iter().position(|batch| *batch == planned) else { return };
        self.batches.truncate(at);
        self.batches.push_back(last);
        self.next = last.next();
    }

    /// Everything after `point` is to be sent again, once `point` is confirmed.
    pub(crate) fn probe_after(&mut self, point: LogIndex) {
        self.next = point.max(self.matched).next();
        self.mode = Mode::Probe { sent: false };
        self.batches.clear();
    }

    /// It has started again: only what it says in this life counts. A disk that was rolled back, or lied, has lost what
    /// an earlier life acknowledged.
    pub(crate) fn forget(&mut self) {
        self.promised = self.promised.max(self.matched);
        self.matched = LogIndex::ZERO;
        self.has_lost = false;
        self.full = false;
        if self.promised > LogIndex::ZERO {
            self.next = self.promised.next();
        }
    }

    /// The link broke or came up: what was in flight will not be answered.
    pub(crate) fn reset(&mut self, link_is_up: bool) {
        if self.matched > LogIndex::ZERO {
            self.next = self.matched.next();
        }
        self.mode = Mode::Probe { sent: !link_is_up };
        self.batches.clear();
        self.beat |= link_is_up;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn streaming(matched: u64, next: u64) -> Progress {
        let (matched, next) = (LogIndex(matched), LogIndex(next));
        let batches = [next.prev()].into();
        Progress { matched, mode: Mode::Replicate, batches, beat: false, ..Progress::new(LogIndex(1), next) }
    }

    /// An append that could not be sent whole ends earlier, and those before it are as they were.
    #[test]
    fn a_shortened_append_is_the_last_one() {
        let mut peer = streaming(2, 12);
        peer.batches = [5, 8, 11].map(LogIndex).into();
        peer.shorten(LogIndex(10), LogIndex(9));
        assert_eq!((peer.batches.len(), peer.next), (3, LogIndex(12)), "there is no such append");
        peer.shorten(LogIndex(11), LogIndex(9));
        assert_eq!((peer.batches.clone(), peer.next), ([5, 8, 9].map(LogIndex).into(), LogIndex(10)));
        peer.shorten(LogIndex(5), LogIndex(4));
        assert_eq!((peer.batches.clone(), peer.next), ([LogIndex(4)].into(), LogIndex(5)));
    }

    /// What was promised in an earlier life is settled by what is durable in this one, and by nothing less.
    #[test]
    fn a_promise_is_settled_by_holding_it_again() {
        let mut peer = streaming(9, 12);
        peer.forget();
        assert_eq!((peer.matched, peer.promised, peer.next), (LogIndex::ZERO, LogIndex(9), LogIndex(10)));
        peer.has_lost = true;
        peer.accepted(LogIndex(8), LogIndex(11));
        assert_eq!((peer.promised, peer.has_lost), (LogIndex(9), true), "one entry is still owed");
        peer.forget();
        assert_eq!((peer.promised, peer.has_lost), (LogIndex(9), false), "the greater promise stands");
        peer.accepted(LogIndex(9), LogIndex(9));
        assert_eq!((peer.promised, peer.has_lost, peer.matched), (LogIndex::ZERO, false, LogIndex(9)));
    }

    /// A peer that never acknowledged anything has promised nothing: where to send next stays as it was.
    #[test]
    fn who_promised_nothing_is_probed_where_it_was() {
        let mut peer = streaming(0, 12);
        peer.forget();
        assert_eq!((peer.promised, peer.next), (LogIndex::ZERO, LogIndex(12)));
        peer.reset(true);
        assert_eq!((peer.next, peer.mode, peer.beat), (LogIndex(12), Mode::Probe { sent: false }, true));
    }

    /// A link that came up is probed at once; one that broke is not spoken to before a heartbeat is due; and what was in
    /// flight is sent again either way.
    #[test]
    fn a_link_that_breaks_or_comes_up_begins_after_what_is_known() {
        for (link_is_up, beat_before) in [(true, false), (true, true), (false, false), (false, true)] {
            let mut peer = Progress { beat: beat_before, ..streaming(7, 12) };
            peer.reset(link_is_up);
            assert_eq!((peer.next, peer.matched, peer.batches.len()), (LogIndex(8), LogIndex(7), 0));
            assert_eq!(peer.mode, Mode::Probe { sent: !link_is_up });
            assert_eq!(peer.beat, beat_before || link_is_up);
        }
    }

    /// A heartbeat comes sooner to whoever lacks something, and after one that was not answered; not to the dead.
    #[test]
    fn the_pace_follows_what_is_owed() {
        let ms = |n: u64| Mono(n * 1_000);
        let [busy, at_rest, silent] = [50, 100, 500].map(Duration::from_millis);
        let pace = Pace { last: LogIndex(7), busy, at_rest, silent, since: ms(900) };
        let well = Progress { heard: Some(ms(1_000)), beaten: ms(1_000), ..streaming(7, 8) };
        let cases = [
            ("has all, has answered", well.clone(), 100),
            ("lacks an entry", Progress { matched: LogIndex(6), ..well.clone() }, 50),
            ("has no room", Progress { full: true, ..well.clone() }, 50),
            ("is probed", Progress { mode: Mode::Probe { sent: true }, ..well.clone() }, 50),
            (
                "has stalled of late",
                Progress { stuttered: Some(ms(0)), beaten: ms(9_999), heard: Some(ms(9_999)), ..well.clone() },
                9_049,
            ),
            (
                "has stalled long ago",
                Progress { stuttered: Some(ms(0)), beaten: ms(10_000), heard: Some(ms(10_000)), ..well.clone() },
                9_100,
            ),
            ("has not answered the last one", Progress { heard: Some(ms(999)), ..well.clone() }, 50),
            (
                "has not answered for long, but for less than that",
                Progress { heard: Some(ms(501)), ..well.clone() },
                50,
            ),
            ("is gone", Progress { heard: Some(ms(500)), ..well.clone() }, 100),
            ("has never answered", Progress { heard: None, ..well.clone() }, 50),
            ("has never answered, for long", Progress { heard: None, beaten: ms(1_400), ..well.clone() }, 500),
        ];
        for (what, peer, after) in cases {
            assert_eq!(pace.due(&peer), ms(1_000 + after), "{what}");
        }
    }

    /// Answers only ever add to what is known, and free the window up to what is durable.
    #[test]
    fn an_answer_frees_the_window_and_never_takes_back() {
        let mut peer = streaming(3, 12);
        peer.batches = [LogIndex(5), LogIndex(8), LogIndex(11)].into();
        peer.accepted(LogIndex(8), LogIndex(11));
        assert_eq!((peer.matched, peer.next), (LogIndex(8), LogIndex(12)));
        assert_eq!(peer.batches, [LogIndex(11)]);
        peer.accepted(LogIndex(5), LogIndex(5));
        assert_eq!((peer.matched, peer.next), (LogIndex(8), LogIndex(12)));
        peer.accepted(LogIndex(11), LogIndex(20));
        assert_eq!((peer.matched, peer.next, peer.batches.len()), (LogIndex(11), LogIndex(21), 0));
        // To a probe: what it has verified is where streaming begins, though more was sent before.
        peer.probe_after(LogIndex(2));
        assert_eq!((peer.next, peer.mode), (LogIndex(12), Mode::Probe { sent: false }), "never below what matches");
        peer.next = LogIndex(30);
        peer.accepted(LogIndex(11), LogIndex(15));
        assert_eq!((peer.next, peer.mode), (LogIndex(16), Mode::Replicate));
    }
}
