//! One lie in a good history, of every kind there is: each must be found, every time, and called by its name.
//!
//! It never weakens a history to make a lie fit: a lie that finds nothing to lie about is a failed test.

use super::good::{Told, histories, ms, rich_histories};
use crate::history::{Append, Kind, Level, Outcome, Read, Replica, Span, check};
use proptest::prelude::*;
use proptest::test_runner::Config;

/// A lie: what it does to a history; and what it shall be called.
type Lie = (&'static str, Kind, fn(&mut Told, usize));

const LIES: [Lie; 18] = [
    ("a lost write", Kind::Lost, lose),
    ("a lost last write", Kind::Lost, lose_the_last),
    ("a write that moved", Kind::Moved, shift),
    ("a duplicate", Kind::Doubled, double),
    ("a failed append that is there", Kind::FailedButThere, fail),
    ("half a batch", Kind::Torn, tear),
    ("half a batch in a read", Kind::Torn, see_half),
    ("a value of nobody's", Kind::Phantom, invent),
    ("a pair that changed places", Kind::OutOfOrder, reorder),
    ("a record seen before it was appended", Kind::OutOfOrder, foresee),
    ("a stale linearizable read", Kind::StaleRead, stale),
    ("a linearizable tail that ends too early", Kind::StaleRead, cut_short),
    ("a read that is too old for its level", Kind::StaleRead, too_old),
    ("a read of what is no longer there", Kind::ReadVanished, vanish),
    ("a session that goes back", Kind::WentBack, go_back),
    ("a gap in a tail", Kind::Gap, leave_out),
    ("a record that a tail delivers twice", Kind::Repeated, repeat),
    ("another value in a tail", Kind::Disagrees, alter),
];

/// The `n`-th of these, counted round.
fn pick<T>(mut all: Vec<T>, n: usize) -> T {
    let at = n % all.len();
    all.swap_remove(at)
}

fn acked((history, _): &mut Told) -> Vec<&mut Append<u32>> {
    history.appends.iter_mut().filter(|append| append.is_acked()).collect()
}

fn everywhere((_, replicas): &mut Told, change: impl Fn(&mut Vec<u32>)) {
    replicas.iter_mut().for_each(|replica| change(&mut replica.values));
}

fn lose(told: &mut Told, n: usize) {
    let value = pick(acked(told), n).values[0];
    everywhere(told, |log| log.retain(|other| *other != value));
}

fn lose_the_last(told: &mut Told, _: usize) {
    everywhere(told, |log| {
        log.pop();
    });
}

/// The log is as it was; the client was told another place in it.
fn shift(told: &mut Told, n: usize) {
    let append = pick(acked(told), n);
    let Outcome::Acked(first) = append.outcome else { unreachable!() };
    append.outcome = Outcome::Acked(first + 1);
}

fn double(told: &mut Told, n: usize) {
    let value = pick(acked(told), n).values[0];
    everywhere(told, |log| log.push(value));
}

fn fail(told: &mut Told, n: usize) {
    pick(acked(told), n).outcome = Outcome::NotApplied;
}

fn tear(told: &mut Told, n: usize) {
    let log = told.1[0].values.clone();
    let there = |a: &&Append<u32>| a.outcome == Outcome::Unknown && a.values.len() > 1 && log.contains(&a.values[0]);
    let value = pick(told.0.appends.iter().filter(there).collect(), n).values[1];
    everywhere(told, |log| log.retain(|other| *other != value));
}

fn see_half(told: &mut Told, n: usize) {
    let append = pick(acked(told).into_iter().filter(|a| a.values.len() > 1).collect(), n).clone();
    let read = Read { session: None, span: append.span, level: Level::Committed, next: append.next().unwrap() - 1 };
    told.0.reads.push(read);
}

fn invent(told: &mut Told, n: usize) {
    let at = n % (told.1[0].values.len() + 1);
    everywhere(told, |log| log.insert(at, u32::MAX));
}

/// Everything agrees with the log but the clock: two acknowledged records, one after the other, stand the other way round.
fn reorder(told: &mut Told, n: usize) {
    let singles: Vec<_> = acked(told).into_iter().filter(|a| a.values.len() == 1).map(|a| a.clone()).collect();
    let mut pairs = Vec::new();
    for one in &singles {
        pairs.extend(singles.iter().filter(|other| one.span.ended < other.span.asked).map(|other| (one, other)));
    }
    let (one, other) = pick(pairs, n);
    let (Outcome::Acked(a), Outcome::Acked(b)) = (one.outcome, other.outcome) else { unreachable!() };
    let swapped = |value: u32| match value {
        value if value == one.values[0] => other.values[0],
        value if value == other.values[0] => one.values[0],
        value => value,
    };
    for append in acked(told) {
        match append.values[0] {
            value if value == one.values[0] => append.outcome = Outcome::Acked(b),
            value if value == other.values[0] => append.outcome = Outcome::Acked(a),
            _ => {}
        }
    }
    for seen in told.0.tails.iter_mut().flat_map(|tail| &mut tail.seen) {
        seen.value = swapped(seen.value);
    }
    everywhere(told, |log| log.iter_mut().for_each(|value| *value = swapped(*value)));
}

fn foresee(told: &mut Told, n: usize) {
    let append = pick(acked(told), n).clone();
    let Outcome::Acked(first) = append.outcome else { unreachable!() };
    let before = append.span.asked - ms(1);
    let span = Span { asked: before - ms(1).min(before), ended: before };
    told.0.reads.push(Read { session: None, span, level: Level::Committed, next: first + 1 });
}

fn stale(told: &mut Told, n: usize) {
    let append = pick(acked(told), n).clone();
    let (asked, next) = (append.span.ended + ms(1), append.next().unwrap() - 1);
    let span = Span { asked, ended: asked + ms(1) };
    told.0.reads.push(Read { session: None, span, level: Level::Linear, next });
}

fn cut_short(told: &mut Told, n: usize) {
    let acked: Vec<_> = acked(told).into_iter().map(|a| (a.span.ended, a.next().unwrap())).collect();
    let tails = told.0.tails.iter_mut().filter(|tail| tail.level == Level::Linear && tail.ended.is_some());
    let tail = pick(tails.collect(), n);
    // Everything that was known when it was asked for, but for the last record.
    let known = acked.iter().filter(|(ended, _)| *ended < tail.asked).map(|(_, next)| *next).max().unwrap();
    tail.from = tail.from.map(|from| from.min(known - 1));
    tail.seen.retain(|seen| seen.offset + 1 < known);
}

fn too_old(told: &mut Told, n: usize) {
    let append = pick(acked(told), n).clone();
    let offset = append.next().unwrap() - 1;
    let span = Span { asked: append.span.ended + ms(1), ended: append.span.ended + ms(2) };
    told.0.reads.push(Read { session: None, span, level: Level::After(offset), next: offset });
}

fn vanish(told: &mut Told, _: usize) {
    let span = Span { asked: ms(1_000_000), ended: ms(1_000_001) };
    let next = told.1[0].values.len() as u64 + 1;
    told.0.reads.push(Read { session: None, span, level: Level::Committed, next });
}

fn go_back(told: &mut Told, n: usize) {
    let last = pick(told.0.reads.iter().filter(|r| r.session == Some(9) && r.next > 0).collect(), n);
    let again = Span { asked: last.span.ended + ms(1), ended: last.span.ended + ms(2) };
    let read = Read { span: again, next: last.next - 1, ..*last };
    told.0.reads.push(read);
}

fn long_tails((history, _): &mut Told) -> Vec<&mut crate::history::Tail<u32>> {
    history.tails.iter_mut().filter(|tail| tail.seen.len() > 2).collect()
}

fn leave_out(told: &mut Told, n: usize) {
    let tail = pick(long_tails(told), n);
    // Anything but the last: that a tail stops early is no gap.
    let at = n % (tail.seen.len() - 1);
    tail.seen.remove(at);
}

fn repeat(told: &mut Told, n: usize) {
    let tail = pick(long_tails(told), n);
    let at = n % tail.seen.len();
    let again = tail.seen[at].clone();
    tail.seen.insert(at + 1, again);
}

fn alter(told: &mut Told, n: usize) {
    let tail = pick(long_tails(told), n);
    let at = n % tail.seen.len();
    tail.seen[at].value = u32::MAX;
}

proptest! {
    #![proptest_config(Config { cases: 256, ..Config::default() })]

    /// A checker that cries wolf is of no use.
    #[test]
    fn a_good_history_is_never_flagged((history, replicas) in histories(120)) {
        let verdict = check(&history, &replicas);
        prop_assert!(verdict.is_good(), "{:?}", verdict.anomalies);
        prop_assert_eq!(verdict.records, replicas[0].values.len() as u64);
    }

    #[test]
    fn a_rich_history_is_good_before_it_is_lied_about((history, replicas) in rich_histories()) {
        let verdict = check(&history, &replicas);
        prop_assert!(verdict.is_good(), "{:?}", verdict.anomalies);
    }

    /// Every lie is found, and called by its name.
    #[test]
    fn every_lie_is_found(told in rich_histories(), n in any::<usize>()) {
        for (what, kind, lie) in LIES {
            let mut told = told.clone();
            lie(&mut told, n);
            let verdict = check(&told.0, &told.1);
            prop_assert!(verdict.count(kind) > 0, "{what} was not found: {:?}", verdict.anomalies);
        }
    }

    /// One replica that differs in one record, one that lacks the last, one whose bytes differ.
    #[test]
    fn a_difference_between_replicas_is_found((history, replicas) in rich_histories(), n in any::<usize>()) {
        let who = n % replicas.len();
        let changes: [fn(&mut Replica<u32>, usize); 3] = [
            |replica, n| { let at = n % replica.values.len(); replica.values[at] = u32::MAX; },
            |replica, _| { replica.values.pop(); },
            |replica, _| replica.digest += 1,
        ];
        for change in changes {
            let mut replicas = replicas.clone();
            change(&mut replicas[who], n);
            let verdict = check(&history, &replicas);
            prop_assert!(verdict.count(Kind::ReplicasDiffer) > 0, "{:?}", verdict.anomalies);
        }
    }
}

/// A million operations in the time of a sort: no rule may be quadratic.
#[test]
fn half_a_million_appends_are_checked_in_one_sweep() {
    use super::good::{Deed, Step, told};
    let step = |i: u64| {
        let deed = if i.is_multiple_of(10) { Deed::Linear } else { Deed::Acked { records: 1 } };
        Step { deed, before_ms: i % 60, after_ms: 1 + i % 50 }
    };
    let steps: Vec<_> = (0..500_000).map(step).collect();
    let (history, replicas) = told(&steps);
    let verdict = check(&history, &replicas);
    assert!(verdict.is_good(), "{:?}", verdict.anomalies);
    assert_eq!((verdict.acked, verdict.reads), (450_000, 50_000));
}

#[test]
fn who_may_be_a_stranger_is_said_by_the_history() {
    let replica = Replica { name: "n1".into(), values: vec![1_u32], digest: 0 };
    let mut history = crate::history::History::default();
    assert_eq!(check(&history, std::slice::from_ref(&replica)).count(Kind::Phantom), 1);
    history.is_closed = false;
    assert!(check(&history, &[replica]).is_good());
}

#[test]
fn a_value_that_was_used_twice_spoils_the_history() {
    let span = Span { asked: ms(0), ended: ms(1) };
    let append = Append { values: vec![1_u32], span, outcome: Outcome::Unknown };
    let history = crate::history::History { appends: vec![append.clone(), append], ..Default::default() };
    assert_eq!(check(&history, &[]).count(Kind::Reused), 1);
}
