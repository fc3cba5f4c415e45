//! The next number of each stream, in a map that is copied in microseconds however large it is.
//!
//! It never shares what it changes: after a copy, the first change in a bucket copies that bucket, and only that. So a
//! checkpoint costs the loop no pause that grows with the number of streams.

use std::collections::BTreeMap;
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

/// Buckets: with the most streams a log may have, one holds about a thousand, copied in some 100 µs.
const BUCKETS: usize = 1024;

type Bucket = BTreeMap<Box<str>, u64>;

/// The next number of each stream that has records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Streams {
    buckets: Vec<Arc<Bucket>>,
    len: usize,
}

impl Default for Streams {
    fn default() -> Self {
        Self { buckets: vec![Arc::default(); BUCKETS], len: 0 }
    }
}

fn place(stream: &str) -> usize {
    // The same on every agent and in every version: buckets are how a checkpoint is ordered.
    (xxh3_64(stream.as_bytes()) % BUCKETS as u64) as usize
}

impl Streams {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn get(&self, stream: &str) -> Option<u64> {
        self.buckets.get(place(stream))?.get(stream).copied()
    }

    pub(super) fn set(&mut self, stream: &str, next: u64) {
        let Some(bucket) = self.buckets.get_mut(place(stream)) else { return };
        let bucket = Arc::make_mut(bucket);
        match bucket.get_mut(stream) {
            Some(known) => *known = next,
            None => {
                bucket.insert(stream.into(), next);
                self.len += 1;
            }
        }
    }

    /// All of them, in an order that depends on the names alone.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.buckets.iter().flat_map(|bucket| bucket.iter().map(|(stream, next)| (stream.as_ref(), *next)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_stays_as_it_was_and_shares_what_did_not_change() {
        let mut streams = Streams::default();
        for i in 0..5000 {
            streams.set(&format!("s{i}"), i);
        }
        let copy = streams.clone();
        streams.set("s7", 99);
        streams.set("new", 1);
        assert_eq!((copy.get("s7"), copy.get("new"), copy.len()), (Some(7), None, 5000));
        assert_eq!((streams.get("s7"), streams.len()), (Some(99), 5001));
        let shared = copy.buckets.iter().zip(&streams.buckets).filter(|(a, b)| Arc::ptr_eq(a, b)).count();
        assert!(shared >= BUCKETS - 2, "{shared} buckets are shared");
        assert_eq!(copy.iter().count(), 5000);
    }
}
