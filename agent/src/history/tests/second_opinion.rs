//! A second opinion: a search for a linearization that does not know what offsets imply (porcupine).
//!
//! It never judges tails, sessions or reads of a level below linearizable: those promise less.

use super::good::{Told, histories, ms};
use crate::history::{History, Level, Outcome, Read, Span, check};
use porcupine_rs::{CheckResult, Model, Operation, check_operations_timeout};
use proptest::prelude::*;
use proptest::test_runner::Config;
use std::time::Duration;

/// Far more than a history of this size takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// A log of which only the length is known: each append says where it stands, each read how long it is.
#[derive(Clone, Debug)]
struct Log;

#[derive(Clone, Debug)]
enum Op {
    /// So many records, at this offset.
    Append(u64, u64),
    Read(u64),
}

impl Model for Log {
    type State = u64;
    type Op = Op;
    type Metadata = ();

    fn init() -> u64 {
        0
    }

    fn step(len: &u64, op: &Op) -> (bool, u64) {
        match *op {
            Op::Append(records, at) => (at == *len, *len + records),
            Op::Read(next) => (next == *len, *len),
        }
    }
}

/// An append of unknown outcome that stands in the log may have happened at any time after it was asked for.
fn operations(history: &History<u32>, log: &[u32]) -> Vec<Operation<Log>> {
    let micros = |at: Duration| i64::try_from(at.as_micros()).unwrap();
    let operation = |span: Span, forever: bool, op| Operation {
        client_id: None,
        call_time: micros(span.asked),
        return_time: if forever { i64::MAX } else { micros(span.ended) },
        op,
        metadata: None,
    };
    let appends = history.appends.iter().filter_map(|append| {
        let records = append.values.len() as u64;
        match append.outcome {
            Outcome::Acked(first) => Some(operation(append.span, false, Op::Append(records, first))),
            Outcome::Unknown => {
                let first = log.iter().position(|value| *value == append.values[0])? as u64;
                Some(operation(append.span, true, Op::Append(records, first)))
            }
            Outcome::NotApplied => None,
        }
    });
    let linear = history.reads.iter().filter(|read| read.level == Level::Linear);
    let reads = linear.map(|read| operation(read.span, false, Op::Read(read.next)));
    appends.chain(reads).collect()
}

/// Without what the search does not judge.
fn judged(mut told: Told) -> Told {
    told.0.tails.clear();
    told.0.reads.retain(|read| read.level == Level::Linear);
    told
}

fn is_linearizable(told: &Told) -> bool {
    match check_operations_timeout::<Log>(&operations(&told.0, &told.1[0].values), PATIENCE) {
        CheckResult::Ok => true,
        CheckResult::Illegal => false,
        CheckResult::Unknown => panic!("the search gave up"),
    }
}

proptest! {
    #![proptest_config(Config { cases: 64, ..Config::default() })]

    /// What is good by construction is linearizable; with a read or an acknowledgement changed at random, both say the same.
    #[test]
    fn the_search_and_the_checker_agree(told in histories(40), n in any::<usize>(), by in -3..=3_i64, late in 0..400_u64) {
        let mut told = judged(told);
        prop_assert!(is_linearizable(&told) && check(&told.0, &told.1).is_good());
        let len = told.1[0].values.len() as u64;
        let next = (n as u64 % (len + 1)).saturating_add_signed(by).min(len);
        let span = Span { asked: ms(late), ended: ms(late + 1 + n as u64 % 50) };
        told.0.reads.push(Read { session: None, span, level: Level::Linear, next });
        let verdict = check(&told.0, &told.1);
        prop_assert_eq!(is_linearizable(&told), verdict.is_good(), "{:?}", verdict.anomalies);
    }
}
