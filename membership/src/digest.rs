//! Digests: a table in a few hundred bytes, so that two members who hold the same need not tell each other.
//!
//! A member falls into a bucket by its node id; the hash of a bucket is the sum of its members' hashes over node, life,
//! bump, incarnation, state, record and tags. It never tells what differs, only in which bucket. The salt, new in each
//! exchange, keeps two different tables from looking the same twice, and a liar from making them so.

use crate::codec::put_state;
use crate::entry::{Entry, Seen};
use bytes::BufMut;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The least and the most buckets.
pub(crate) const BUCKETS_MIN: usize = 8;
pub(crate) const BUCKETS_MAX: usize = 256;
/// Members for each bucket, where the number of buckets is free: one member that differs costs the rows of so many.
const MEMBERS_A_BUCKET: usize = 8;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Digest {
    pub(crate) salt: u64,
    pub(crate) hashes: Vec<u32>,
}

/// How many buckets suit so many members.
pub(crate) fn buckets(members: usize) -> usize {
    members.div_ceil(MEMBERS_A_BUCKET).next_power_of_two().clamp(BUCKETS_MIN, BUCKETS_MAX)
}

/// Where a node falls; `buckets` is a power of two.
pub(crate) fn bucket(node: u64, buckets: usize) -> usize {
    // Multiplied by the golden ratio, since ids of tests are small; those of nodes are hashes already.
    (node.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize & (buckets - 1)
}

impl Digest {
    /// Of these members.
    pub(crate) fn of<'a>(entries: impl Iterator<Item = (Seen, &'a Entry)>, salt: u64, buckets: usize) -> Self {
        let mut sums = vec![0_u64; buckets];
        let mut bytes = Vec::with_capacity(256);
        for (seen, entry) in entries {
            bytes.clear();
            // Without the address, which is not part of an identity: see `Identity`.
            let id = seen.identity;
            for part in [id.node, id.life.epoch, id.life.boot, id.bump.into()] {
                bytes.put_u64(part);
            }
            bytes.put_u16(seen.incarnation);
            put_state(&mut bytes, seen.liveness);
            if let Some(record) = &entry.record {
                record.encode_card(&mut bytes);
                bytes.put_u64(record.tags.version);
                bytes.put_slice(&record.tags.hash);
            }
            bytes.put_slice(entry.tags().hash());
            let sum = &mut sums[bucket(seen.identity.node, buckets)];
            *sum = sum.wrapping_add(xxh3_64_with_seed(&bytes, salt));
        }
        // The upper half: both are as good as random.
        Self { salt, hashes: sums.into_iter().map(|sum| (sum >> 32) as u32).collect() }
    }

    /// Which buckets differ; both have as many.
    pub(crate) fn differing(&self, other: &Self) -> Vec<bool> {
        self.hashes.iter().zip(&other.hashes).map(|(a, b)| a != b).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_suit_the_cluster() {
        let counts = [1, 3, 10, 64, 100, 500, 1_000, 5_000, 100_000].map(buckets);
        assert_eq!(counts, [8, 8, 8, 8, 16, 64, 128, 256, 256]);
    }

    #[test]
    fn small_and_random_ids_fall_evenly() {
        for ids in [
            (1..=1024_u64).collect::<Vec<_>>(),
            (1..=1024_u64).map(|n| xxh3_64_with_seed(&n.to_be_bytes(), 7)).collect(),
        ] {
            let mut count = [0; 64];
            ids.iter().for_each(|id| count[bucket(*id, 64)] += 1);
            assert!(count.iter().all(|n| (4..=40).contains(n)), "{count:?}");
        }
    }
}
