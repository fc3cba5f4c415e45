//! The checker: a history against the log that all replicas hold in the end.
//!
//! It believes nobody, and never searches: every rule is one pass over something sorted.

use super::anomaly::{Kind, Verdict};
use super::{Append, History, Level, Outcome, Replica, Tail};
use std::collections::{BTreeMap, btree_map};
use std::fmt::Debug;
use std::time::Duration;

/// Holds everything that clients were told and saw against the final log of `replicas`.
///
/// 1. All replicas are equal. 2. No record stands twice, none is nobody's. 3. What was acknowledged stands at its
///    offset; what failed does not stand at all; what is unknown stands whole or not at all. 4. What tails delivered
///    is what stands there, without gap, repetition or disorder. 5. An append that began after something was
///    acknowledged or seen stands behind that: so nothing is seen before it was appended either. 6. A read sees what its level
///    promises and no half of a batch, and a session never sees less than before.
#[must_use]
pub fn check<V: Ord + Debug>(history: &History<V>, replicas: &[Replica<V>]) -> Verdict {
    let mut verdict = Verdict::default();
    let log = replicas_agree(replicas, &mut verdict);
    verdict.records = log.len() as u64;
    let places = places(log, &mut verdict);
    let effects = appends(history, log, &places, &mut verdict);
    for tail in &history.tails {
        delivered(tail, log, &mut verdict);
    }
    let known = Known::of(history);
    order(&effects, &known, &mut verdict);
    reads(history, log.len() as u64, &known, &mut verdict);
    halves(history, effects, &mut verdict);
    sessions(history, &mut verdict);
    verdict
}

/// Every replica is compared with the longest one.
fn replicas_agree<'a, V: Ord + Debug>(replicas: &'a [Replica<V>], verdict: &mut Verdict) -> &'a [V] {
    let Some(longest) = replicas.iter().max_by_key(|replica| replica.values.len()) else { return &[] };
    for replica in replicas {
        let (a, b) = (&replica.name, &longest.name);
        let differ = replica.values.iter().zip(&longest.values).position(|(one, other)| one != other);
        let what = if let Some(at) = differ {
            format!("at offset {at} {a} holds {:?} and {b} holds {:?}", replica.values[at], longest.values[at])
        } else if replica.values.len() != longest.values.len() {
            format!("{a} holds {} records and {b} holds {}", replica.values.len(), longest.values.len())
        } else if replica.digest != longest.digest {
            format!("{a} and {b} hold the same records in different bytes")
        } else {
            continue;
        };
        verdict.add(Kind::ReplicasDiffer, what);
    }
    &longest.values
}

/// Where each value stands.
fn places<'a, V: Ord + Debug>(log: &'a [V], verdict: &mut Verdict) -> BTreeMap<&'a V, u64> {
    let mut places = BTreeMap::new();
    for (offset, value) in (0_u64..).zip(log) {
        match places.entry(value) {
            btree_map::Entry::Vacant(entry) => {
                entry.insert(offset);
            }
            btree_map::Entry::Occupied(first) => {
                verdict.add(Kind::Doubled, format!("{value:?} stands at {} and again at {offset}", first.get()));
            }
        }
    }
    places
}

/// An append that stands in the log.
struct Effect {
    asked: Duration,
    first: u64,
    /// Behind its last record, if it stands in one piece.
    next: u64,
}

/// What each append was told, against where its values stand.
fn appends<V: Ord + Debug>(
    history: &History<V>,
    log: &[V],
    places: &BTreeMap<&V, u64>,
    verdict: &mut Verdict,
) -> Vec<Effect> {
    let mut effects = Vec::new();
    let mut named: BTreeMap<&V, ()> = BTreeMap::new();
    for append in &history.appends {
        for value in &append.values {
            if named.insert(value, ()).is_some() {
                verdict.add(Kind::Reused, format!("{value:?} was appended twice by the test itself"));
            }
        }
        let found: Vec<_> = append.values.iter().map(|value| places.get(value).copied()).collect();
        if let Some(first) = judge(append, &found, verdict) {
            let next = if whole_at(first, &found) { first + found.len() as u64 } else { first };
            effects.push(Effect { asked: append.span.asked, first, next });
        }
    }
    if history.is_closed {
        for (offset, value) in (0_u64..).zip(log).filter(|(_, value)| !named.contains_key(value)) {
            verdict.add(Kind::Phantom, format!("{value:?} stands at {offset}, and nobody appended it"));
        }
    }
    effects
}

fn whole_at(first: u64, found: &[Option<u64>]) -> bool {
    (first..).zip(found).all(|(offset, found)| *found == Some(offset))
}

/// One append; where it stands, if it does.
fn judge<V: Debug>(append: &Append<V>, found: &[Option<u64>], verdict: &mut Verdict) -> Option<u64> {
    let is_nowhere = found.iter().all(Option::is_none);
    let first = found.first().copied().flatten();
    match append.outcome {
        Outcome::Acked(at) => {
            verdict.acked += 1;
            if !whole_at(at, found) {
                let kind = if found.iter().any(Option::is_none) { Kind::Lost } else { Kind::Moved };
                verdict.add(kind, format!("{append:?} was acknowledged and its records stand at {found:?}"));
            }
        }
        Outcome::NotApplied => {
            verdict.not_applied += 1;
            if !is_nowhere {
                verdict.add(Kind::FailedButThere, format!("{append:?} was not applied, and stands at {found:?}"));
            }
        }
        Outcome::Unknown => {
            verdict.unknown += 1;
            verdict.unknown_applied += u64::from(!is_nowhere);
            if !is_nowhere && !first.is_some_and(|first| whole_at(first, found)) {
                verdict.add(Kind::Torn, format!("{append:?} is one batch, and its records stand at {found:?}"));
            }
        }
    }
    first
}

/// One tail against the log: contiguous from where it began, each value the one that stands there.
fn delivered<V: Ord + Debug>(tail: &Tail<V>, log: &[V], verdict: &mut Verdict) {
    let mut expected = tail.from;
    for seen in &tail.seen {
        verdict.seen += 1;
        let (at, value) = (seen.offset, &seen.value);
        match expected {
            Some(expected) if at > expected => {
                verdict.add(Kind::Gap, format!("a tail went on with offset {at} where {expected} was next"));
            }
            Some(expected) if at < expected => {
                verdict.add(Kind::Repeated, format!("a tail delivered offset {at} where {expected} was next"));
            }
            _ => {}
        }
        expected = Some(at.saturating_add(1));
        match usize::try_from(at).ok().and_then(|at| log.get(at)) {
            Some(stands) if stands == value => {}
            Some(stands) => {
                let what = format!("a tail delivered {value:?} at offset {at}, where {stands:?} stands");
                verdict.add(Kind::Disagrees, what);
            }
            None => {
                let what = format!("a tail delivered {value:?} at offset {at}, and the log ends before that");
                verdict.add(Kind::ReadVanished, what);
            }
        }
    }
}

/// How much of the log somebody knew to be there, from when on.
struct Known {
    /// By time, the highest offset known then, exclusively. Both grow.
    steps: Vec<(Duration, u64)>,
}

impl Known {
    /// Acknowledgements, answers to reads and records that tails delivered: all of them say that the log reaches so far.
    fn of<V>(history: &History<V>) -> Self {
        let acks = history.appends.iter().filter_map(|append| Some((append.span.ended, append.next()?)));
        let reads = history.reads.iter().map(|read| (read.span.ended, read.next));
        let seen = history.tails.iter().flat_map(|tail| tail.seen.iter().map(|seen| (seen.at, seen.offset + 1)));
        let mut steps: Vec<_> = acks.chain(reads).chain(seen).collect();
        steps.sort_unstable();
        let mut highest = 0;
        steps.retain(|(_, next)| {
            let grows = *next > highest;
            highest = highest.max(*next);
            grows
        });
        Self { steps }
    }

    /// What was known before this moment. What comes at the same moment may have come after it.
    fn before(&self, moment: Duration) -> u64 {
        let count = self.steps.partition_point(|(at, _)| *at < moment);
        count.checked_sub(1).map_or(0, |last| self.steps[last].1)
    }
}

/// Whatever began after something was known stands behind it.
fn order(effects: &[Effect], known: &Known, verdict: &mut Verdict) {
    for Effect { asked, first, .. } in effects {
        let before = known.before(*asked);
        if *first < before {
            let what = format!(
                "an append that began at {asked:?} stands at offset {first}, and everything before {before} was known then"
            );
            verdict.add(Kind::OutOfOrder, what);
        }
    }
}

/// Each read sees what its level promises, and nothing that is not there in the end.
fn reads<V: Ord + Debug>(history: &History<V>, len: u64, known: &Known, verdict: &mut Verdict) {
    let tails = history.tails.iter().filter(|tail| tail.ended.is_some()).filter_map(|tail| {
        let end = tail.seen.last().map(|seen| seen.offset + 1).or(tail.from)?;
        Some((tail.asked, tail.level, end))
    });
    let tails: Vec<_> = tails.collect();
    verdict.reads = (history.reads.len() + tails.len()) as u64;
    for read in history.reads.iter().filter(|read| read.next > len) {
        let what = format!("{read:?} saw the log up to {}, and it ends at {len}", read.next);
        verdict.add(Kind::ReadVanished, what);
    }
    let reads = history.reads.iter().map(|read| (read.span.asked, read.level, read.next));
    for (asked, level, next) in reads.chain(tails) {
        let promised = match level {
            Level::Committed => 0,
            Level::After(offset) => offset.saturating_add(1),
            Level::Linear => known.before(asked),
        };
        if next < promised {
            let what =
                format!("a read ({level:?}) that began at {asked:?} saw the log up to {next}, not to {promised}");
            verdict.add(Kind::StaleRead, what);
        }
    }
}

/// A batch is committed as a whole: no read ends in the middle of one.
fn halves<V>(history: &History<V>, mut effects: Vec<Effect>, verdict: &mut Verdict) {
    effects.sort_unstable_by_key(|effect| effect.first);
    for read in &history.reads {
        let behind = effects.partition_point(|effect| effect.first < read.next);
        let batch = behind.checked_sub(1).map(|last| &effects[last]);
        if let Some(batch) = batch.filter(|batch| read.next < batch.next) {
            let what = format!("{read:?} ends within the batch at offsets {} to {}", batch.first, batch.next - 1);
            verdict.add(Kind::Torn, what);
        }
    }
}

/// What a session read never gets less.
fn sessions<V>(history: &History<V>, verdict: &mut Verdict) {
    let mut by_session: BTreeMap<u64, Vec<_>> = BTreeMap::new();
    for read in &history.reads {
        if let Some(session) = read.session {
            by_session.entry(session).or_default().push(read);
        }
    }
    for (session, mut reads) in by_session {
        let mut by_end = reads.clone();
        reads.sort_by_key(|read| read.span.asked);
        by_end.sort_by_key(|read| read.span.ended);
        let (mut ended, mut before) = (by_end.into_iter().peekable(), 0);
        for read in reads {
            while let Some(done) = ended.next_if(|done| done.span.ended < read.span.asked) {
                before = before.max(done.next);
            }
            if read.next < before {
                let what = format!("session {session} had read up to {before}, and then {read:?}");
                verdict.add(Kind::WentBack, what);
            }
        }
    }
}
