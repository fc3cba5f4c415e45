//! Log: the shape of the log (first, last, runs of equal term), never a payload.
//!
//! It does no IO and cannot fail: a few dozen runs answer every question about terms.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::{LogIndex, Position, Run, Term};

/// How many of the latest entries have their size remembered, for flow control (8 bytes each).
const SIZES_MAX: usize = 65_536;
/// What an entry is taken to weigh whose size is not remembered (written in an earlier life). Too low an estimate makes
/// larger messages, which the caller may shorten; too high a one makes catching up slow.
const UNKNOWN_ENTRY_BYTES: u64 = 1024;
/// It follows what is read from disk, but never below this: a message has a bound of entries, too.
const UNKNOWN_ENTRY_BYTES_MIN: u64 = 64;

#[derive(Clone, Debug)]
pub(crate) struct Log {
    start: Position,
    runs: Vec<Run>,
    last: LogIndex,
    /// Bytes of this life up to and including each of the latest entries; the back is `last`.
    sizes: VecDeque<u64>,
    /// The same sum before the front of `sizes`.
    sizes_before: u64,
    /// What an entry is taken to weigh whose size is not remembered.
    unknown: u64,
}

impl Log {
    pub(crate) fn new(start: Position, runs: Vec<Run>, last: LogIndex) -> Self {
        Self { start, runs, last, sizes: VecDeque::new(), sizes_before: 0, unknown: UNKNOWN_ENTRY_BYTES }
    }

    pub(crate) fn start(&self) -> Position {
        self.start
    }

    pub(crate) fn last(&self) -> Position {
        let term = self.runs.last().map_or(self.start.term, |run| run.term);
        Position { index: self.last, term }
    }

    pub(crate) fn runs(&self) -> &[Run] {
        &self.runs
    }

    pub(crate) fn term_at(&self, index: LogIndex) -> Option<Term> {
        if index > self.last || index < self.start.index {
            return None;
        }
        if index == self.start.index {
            return Some(self.start.term);
        }
        let run = self.runs.partition_point(|run| run.first <= index);
        self.runs.get(run.checked_sub(1)?).map(|run| run.term)
    }

    pub(crate) fn position(&self, index: LogIndex) -> Option<Position> {
        self.term_at(index).map(|term| Position { index, term })
    }

    pub(crate) fn append(&mut self, term: Term, bytes: u32) -> Position {
        let index = self.last.next();
        assert!(term >= self.last().term, "terms never decrease along a log");
        if self.runs.last().is_none_or(|run| run.term != term) {
            self.runs.push(Run { first: index, term });
        }
        self.last = index;
        let total = self.sizes.back().copied().unwrap_or(self.sizes_before);
        self.sizes.push_back(total + u64::from(bytes));
        if self.sizes.len() > SIZES_MAX {
            self.sizes_before = self.sizes.pop_front().unwrap_or(self.sizes_before);
        }
        Position { index, term }
    }

    /// Drops `from` and all that follow.
    pub(crate) fn truncate(&mut self, from: LogIndex) {
        assert!(from > self.start.index, "nothing before the start is kept to be dropped");
        while self.last >= from {
            if self.sizes.pop_back().is_none() {
                self.last = from.prev();
                break;
            }
            self.last = self.last.prev();
        }
        let keep = self.runs.partition_point(|run| run.first < from);
        self.runs.truncate(keep);
    }

    /// Replaces the terms from the first of these `runs` up to `last`, if a log can have them: they must fit between the
    /// terms before and after, and the last entry keeps its own.
    pub(crate) fn correct(&mut self, runs: &[Run], last: LogIndex) {
        let (Some(head), Some(tail)) = (runs.first(), runs.last()) else { return };
        let ascend = runs.windows(2).all(|pair| pair[0].first < pair[1].first && pair[0].term < pair[1].term);
        let inside = head.first > self.start.index && tail.first <= last && last <= self.last;
        let before = self.term_at(head.first.prev()).is_some_and(|before| before <= head.term);
        let next = if last == self.last { Some(tail.term) } else { self.term_at(last.next()) };
        let keeps_end = last < self.last || tail.term == self.last().term;
        let Some(next) = next.filter(|next| ascend && inside && before && keeps_end && tail.term <= *next) else {
            return;
        };
        let mut all: Vec<Run> = Vec::with_capacity(self.runs.len() + runs.len() + 1);
        let behind = Run { first: last.next(), term: next };
        let kept_before = self.runs.iter().copied().filter(|run| run.first < head.first);
        let kept_behind = self.runs.iter().copied().filter(|run| run.first > last.next());
        let behind = (last < self.last).then_some(behind);
        for run in kept_before.chain(runs.iter().copied()).chain(behind).chain(kept_behind) {
            if all.last().is_none_or(|known| known.term != run.term) {
                all.push(run);
            }
        }
        self.runs = all;
    }

    /// The sum of bytes in `after + 1 ..= to`.
    pub(crate) fn bytes(&self, after: LogIndex, to: LogIndex) -> u64 {
        let to = to.min(self.last);
        if after >= to {
            return 0;
        }
        let first_known = LogIndex(self.last.0 + 1 - self.sizes.len() as u64);
        let upto = |index: LogIndex| match index.0.checked_sub(first_known.0) {
            Some(i) => self.sizes.get(usize::try_from(i).unwrap_or(usize::MAX)).copied().unwrap_or(self.sizes_before),
            None => self.sizes_before,
        };
        let unknown = to.0.min(first_known.0 - 1).saturating_sub(after.0);
        upto(to) - upto(after) + unknown.saturating_mul(self.unknown)
    }

    /// Entries of an earlier life weigh so much, as was seen of the latest that were read.
    pub(crate) fn weigh(&mut self, entry_bytes: u64) {
        self.unknown = entry_bytes.max(UNKNOWN_ENTRY_BYTES_MIN);
    }

    /// The last index of a message that starts at `first`: within both limits, but at least one entry.
    pub(crate) fn batch(&self, first: LogIndex, bytes_max: u32, entries_max: u32) -> LogIndex {
        let furthest = self.last.0.min(first.0.saturating_add(u64::from(entries_max.max(1)) - 1));
        let (mut low, mut high) = (first.0, furthest.max(first.0));
        // Invariant: `low` fits or is the first; `high + 1` does not fit or is out of reach.
        while low < high {
            let middle = low + (high - low).div_ceil(2);
            if self.bytes(first.prev(), LogIndex(middle)) <= u64::from(bytes_max) {
                low = middle;
            } else {
                high = middle - 1;
            }
        }
        LogIndex(low)
    }

    /// The latest runs at or before `index`, at most `runs_max`, ascending, and the last index they cover.
    pub(crate) fn latest_runs(&self, index: LogIndex, runs_max: usize) -> (LogIndex, Vec<Run>) {
        let covered = index.min(self.last);
        let to = self.runs.partition_point(|run| run.first <= covered);
        let from = to.saturating_sub(runs_max.max(1));
        (covered, self.runs[from..to].to_vec())
    }

    /// The last index at which this log and another one agree, given the other one's latest `runs` up to `last`: by
    /// log matching (§3.5), agreement on one term at one index is agreement on all before it. If no run agrees, the
    /// index before the first of them is the best that can be said.
    pub(crate) fn match_point(&self, last: LogIndex, runs: &[Run]) -> LogIndex {
        let mut end = last;
        for run in runs.iter().rev() {
            if let Some(i) = self.runs.iter().rposition(|mine| mine.term == run.term) {
                let mine_end = self.runs.get(i + 1).map_or(self.last, |next| next.first.prev());
                let common = end.min(mine_end);
                if common >= run.first && common >= self.runs[i].first {
                    return common;
                }
            }
            end = run.first.prev();
        }
        end.min(self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn log_of(terms: &[u64]) -> Log {
        let mut log = Log::new(Position::ZERO, Vec::new(), LogIndex::ZERO);
        for &term in terms {
            log.append(Term(term), 10);
        }
        log
    }

    /// Two logs that share a prefix and then part, as logs of one Raft group do: terms differ from there on.
    fn two_logs() -> impl Strategy<Value = (Vec<u64>, Vec<u64>, usize)> {
        let steps = || proptest::collection::vec(0u64..2, 0..12);
        (steps(), steps(), steps()).prop_map(|(shared, a, b)| {
            let mut term = 1;
            let mut prefix = Vec::new();
            for step in shared {
                term += step;
                prefix.push(term);
            }
            let tail = |steps: Vec<u64>, mut term: u64| {
                let mut out = Vec::new();
                for step in steps {
                    term += step * 2;
                    out.push(term);
                }
                out
            };
            let at = prefix.len();
            // Odd and even terms never meet: each term has one leader.
            let base = term + (term & 1);
            let (a, b) = (tail(a, base + 2), tail(b, base + 1));
            ([prefix.clone(), a].concat(), [prefix, b].concat(), at)
        })
    }

    /// The terms of a log that begins behind the entry 5 of term 1.
    fn later_log(terms: &[u64]) -> Log {
        let mut log = Log::new(Position { index: LogIndex(5), term: Term(1) }, Vec::new(), LogIndex(5));
        for &term in terms {
            log.append(Term(term), 10);
        }
        log
    }

    proptest! {
        /// Terms are put right if a log can have them so, else they stay as they are.
        #[test]
        fn corrected_terms_are_those_of_a_log(
            steps in proptest::collection::vec(0u64..2, 1..9),
            given in proptest::collection::vec((0u64..4, 0u64..3), 0..4),
            (first, term, len) in (4u64..15, 0u64..6, 0u64..7),
        ) {
            let mut terms = Vec::from([1]);
            for step in steps {
                terms.push(terms[terms.len() - 1] + step);
            }
            let mut log = later_log(&terms[1..]);
            let (mut runs, mut next) = (Vec::new(), Run { first: LogIndex(first), term: Term(term) });
            for (entries, more) in given {
                runs.push(next);
                next = Run { first: LogIndex(next.first.0 + entries), term: Term(next.term.0 + more) };
            }
            let last = LogIndex(first + len);
            log.correct(&runs, last);

            let ascend = runs.windows(2).all(|pair| pair[0].first < pair[1].first && pair[0].term < pair[1].term);
            let end = 4 + terms.len() as u64;
            let inside = first > 5 && runs.last().is_some_and(|run| run.first <= last) && last.0 <= end;
            if ascend && inside {
                let mut wanted = terms.clone();
                for index in first..=last.0 {
                    let run = runs.iter().rev().find(|run| run.first.0 <= index);
                    wanted[index as usize - 5] = run.map_or(0, |run| run.term.0);
                }
                // No term is lower than the one before, and the last entry of all is known.
                if wanted.is_sorted() && wanted.last() == terms.last() {
                    terms = wanted;
                }
            }
            for index in 0..=end + 1 {
                let term = index.checked_sub(5).and_then(|at| terms.get(at as usize));
                prop_assert_eq!(log.term_at(LogIndex(index)), term.map(|term| Term(*term)), "{}", index);
            }
            let distinct: Vec<Term> = log.runs().iter().map(|run| run.term).collect();
            prop_assert!(distinct.is_sorted_by(|a, b| a < b), "{:?}", distinct);
        }

        #[test]
        fn the_match_point_is_found_in_one_step((a, b, at) in two_logs()) {
            let (leader, follower) = (log_of(&a), log_of(&b));
            let (last, runs) = follower.latest_runs(LogIndex(u64::MAX), 128);
            prop_assert_eq!(leader.match_point(last, &runs), LogIndex(at as u64));
        }

        #[test]
        fn a_match_point_never_skips_an_entry_however_few_runs_are_told((a, b, at) in two_logs(), few in 1usize..4) {
            let (leader, follower) = (log_of(&a), log_of(&b));
            let mut from = LogIndex(b.len() as u64);
            for _ in 0..=b.len() {
                let (last, runs) = follower.latest_runs(from, few);
                let point = leader.match_point(last, &runs);
                if leader.term_at(point).is_some() && leader.term_at(point) == follower.term_at(point) {
                    prop_assert!(point.0 <= at as u64);
                    break;
                }
                prop_assert!(point < from, "no progress at {}", from);
                from = point;
            }
        }

        #[test]
        fn terms_and_bytes_are_what_a_plain_list_says(steps in proptest::collection::vec((0u64..2, 0u32..50), 1..60), cut in 0usize..60) {
            let mut log = Log::new(Position::ZERO, Vec::new(), LogIndex::ZERO);
            let mut list = Vec::new();
            let mut term = 1;
            for (step, bytes) in steps {
                term += step;
                log.append(Term(term), bytes);
                list.push((term, u64::from(bytes)));
            }
            if cut > 0 && cut < list.len() {
                log.truncate(LogIndex(cut as u64 + 1));
                list.truncate(cut);
            }
            prop_assert_eq!(log.last().index.0 as usize, list.len());
            for a in 0..=list.len() {
                let term = list.get(a.wrapping_sub(1)).map_or(0, |e| e.0);
                prop_assert_eq!(log.term_at(LogIndex(a as u64)), Some(Term(term)));
                for b in a..=list.len() {
                    let sum: u64 = list[a..b].iter().map(|e| e.1).sum();
                    prop_assert_eq!(log.bytes(LogIndex(a as u64), LogIndex(b as u64)), sum);
                }
            }
        }
    }

    /// Runs of ascending terms after a start, as pairs of term and length.
    fn shape() -> impl Strategy<Value = (u64, Vec<(u64, u64)>)> {
        (0u64..4, proptest::collection::vec((1u64..3, 1u64..4), 0..5)).prop_map(|(start, steps)| {
            let mut term = 0;
            let of = |(step, length)| {
                term += step;
                (term, length)
            };
            (start, steps.into_iter().map(of).collect())
        })
    }

    fn log_after((start, runs): &(u64, Vec<(u64, u64)>)) -> Log {
        let start = Position { index: LogIndex(*start), term: Term::ZERO };
        let mut log = Log::new(start, Vec::new(), start.index);
        for (term, length) in runs {
            (0..*length).for_each(|_| {
                log.append(Term(*term), 1);
            });
        }
        log
    }

    proptest! {
        /// Any two shapes, also of logs that start elsewhere and that no honest group could have: the match point is the
        /// greatest index at which both name the same term, or the one before all that was told.
        #[test]
        fn a_match_point_is_the_last_index_of_equal_terms(a in shape(), b in shape(), few in 1usize..4) {
            let (mine, other) = (log_after(&a), log_after(&b));
            let (last, runs) = other.latest_runs(LogIndex(u64::MAX), few);
            let inside = |log: &Log, index: u64| (index > log.start().index.0).then(|| log.term_at(LogIndex(index))).flatten();
            let first_told = runs.first().map_or(last.0 + 1, |run| run.first.0);
            let equal = (first_told..=last.0).rev().find(|&i| inside(&mine, i).is_some() && inside(&mine, i) == inside(&other, i));
            let expected = equal.unwrap_or((first_told - 1).min(mine.last().index.0));
            prop_assert_eq!(mine.match_point(last, &runs), LogIndex(expected));
        }

        /// The longest batch within both limits, found by trying all.
        #[test]
        fn a_batch_is_the_longest_that_fits(
            sizes in proptest::collection::vec(0u32..40, 1..40), first in 1usize..40, bytes in 0u32..200, entries in 0u32..50
        ) {
            prop_assume!(first <= sizes.len());
            let mut log = Log::new(Position::ZERO, Vec::new(), LogIndex::ZERO);
            sizes.iter().for_each(|&size| {
                log.append(Term(1), size);
            });
            let fits = |last: usize| {
                let sum: u32 = sizes[first - 1..last].iter().sum();
                last == first || (sum <= bytes && last < first + entries.max(1) as usize)
            };
            let longest = (first..=sizes.len()).rev().find(|&last| fits(last)).expect("one entry always fits");
            prop_assert_eq!(log.batch(LogIndex(first as u64), bytes, entries), LogIndex(longest as u64));
        }

        #[test]
        fn runs_are_what_a_plain_list_says(terms in proptest::collection::vec(1u64..5, 0..30)) {
            let mut terms = terms;
            terms.sort_unstable();
            let log = log_of(&terms);
            let is_first = |i: &usize| *i == 0 || terms[*i - 1] != terms[*i];
            let runs: Vec<_> = (0..terms.len()).filter(is_first).map(|i| Run { first: LogIndex(i as u64 + 1), term: Term(terms[i]) }).collect();
            prop_assert_eq!(log.runs(), &runs[..]);
        }
    }

    proptest! {
        /// Whatever a start guessed of a range, the true terms of it make the log what it was; and what no log can have
        /// changes nothing.
        #[test]
        fn guessed_terms_are_put_right(terms in proptest::collection::vec(1u64..6, 1..30), from in 0usize..30, len in 1usize..10, lie in 1u64..9) {
            let mut terms = terms;
            terms.sort_unstable();
            let from = from % terms.len();
            let to = (from + len).min(terms.len());
            let mut guess = terms.clone();
            // The very last entry is always known.
            let guessed = from..to.min(terms.len() - 1).max(from);
            let before = from.checked_sub(1).map_or(1, |at| terms[at]);
            guess[guessed].fill(before);
            let truth = log_of(&terms);
            let mut log = log_of(&guess);
            let mut runs: Vec<Run> = Vec::new();
            for (at, term) in terms.iter().enumerate().take(to).skip(from) {
                if runs.last().is_none_or(|run| run.term.0 != *term) {
                    runs.push(Run { first: LogIndex(at as u64 + 1), term: Term(*term) });
                }
            }
            let mut lies = runs.clone();
            lies[0].term = Term(lie);
            let mut misled = log.clone();
            misled.correct(&lies, LogIndex(to as u64));
            prop_assert!(misled.runs().windows(2).all(|pair| pair[0].first < pair[1].first && pair[0].term < pair[1].term));
            prop_assert_eq!(misled.last(), log.last());
            log.correct(&runs, LogIndex(to as u64));
            prop_assert_eq!((log.runs(), log.last()), (truth.runs(), truth.last()));
        }
    }

    /// Entries of an earlier life weigh what those weighed that were read last, and never next to nothing.
    #[test]
    fn what_was_not_seen_weighs_as_what_was() {
        let runs = Vec::from([Run { first: LogIndex(1), term: Term(1) }]);
        let mut log = Log::new(Position::ZERO, runs, LogIndex(20));
        assert_eq!(log.bytes(LogIndex(0), LogIndex(4)), 4 * UNKNOWN_ENTRY_BYTES);
        log.append(Term(1), 7);
        for (seen, each) in
            [(5_000, 5_000), (0, UNKNOWN_ENTRY_BYTES_MIN), (UNKNOWN_ENTRY_BYTES_MIN + 1, UNKNOWN_ENTRY_BYTES_MIN + 1)]
        {
            log.weigh(seen);
            assert_eq!(log.bytes(LogIndex(0), LogIndex(4)), 4 * each);
            assert_eq!(log.bytes(LogIndex(18), LogIndex(21)), 2 * each + 7);
        }
    }

    /// The sizes of the latest entries are remembered exactly, however many there were; those of older ones and of earlier
    /// lives are guessed, each the same.
    #[test]
    fn sizes_are_exact_for_the_latest_and_guessed_for_the_rest() {
        let earlier = alloc::vec![Run { first: LogIndex(1), term: Term(1) }];
        let mut log = Log::new(Position::ZERO, earlier, LogIndex(10));
        let more = SIZES_MAX as u64 + 5;
        (0..more).for_each(|i| {
            log.append(Term(1), (i % 7) as u32);
        });
        let exact = |after: u64, to: u64| (after..to).map(|index| (index - 10) % 7).sum::<u64>();
        let last = 10 + more;
        assert_eq!(log.sizes.len(), SIZES_MAX);
        // The front of what is remembered is entry 16: what lies before counts as unknown.
        for (after, to) in [(15, 16), (15, 40), (last - 3, last), (15, last), (100, 60_000)] {
            assert_eq!(log.bytes(LogIndex(after), LogIndex(to)), exact(after, to), "{after}..{to}");
        }
        assert_eq!(log.bytes(LogIndex(0), LogIndex(3)), 3 * UNKNOWN_ENTRY_BYTES);
        assert_eq!(log.bytes(LogIndex(3), LogIndex(15)), 12 * UNKNOWN_ENTRY_BYTES);
        assert_eq!(log.bytes(LogIndex(14), LogIndex(17)), UNKNOWN_ENTRY_BYTES + exact(15, 17));
        assert_eq!(
            log.bytes(LogIndex(last - 1), LogIndex(last + 50)),
            exact(last - 1, last),
            "nothing lies beyond the end"
        );
    }

    #[test]
    fn a_batch_keeps_both_limits_but_holds_one_entry_at_least() {
        let log = log_of(&[1; 20]);
        assert_eq!(log.batch(LogIndex(1), 100, 1000), LogIndex(10));
        assert_eq!(log.batch(LogIndex(1), 99, 1000), LogIndex(9));
        assert_eq!(log.batch(LogIndex(1), 100, 3), LogIndex(3));
        assert_eq!(log.batch(LogIndex(7), 1, 1000), LogIndex(7));
        assert_eq!(log.batch(LogIndex(15), 1000, 1000), LogIndex(20));
    }
}
