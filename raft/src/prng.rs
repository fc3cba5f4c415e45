//! SplitMix64 from an injected seed: the only randomness of the core (randomized election timeouts, §3.4).
//!
//! It is no source of secrets.

use core::time::Duration;

#[derive(Clone, Debug)]
pub(crate) struct Prng(u64);

impl Prng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A duration in `min..=max`, in whole microseconds. The modulo bias is below one in a billion for any timeout
    /// that a person would wait for.
    pub(crate) fn between(&mut self, min: Duration, max: Duration) -> Duration {
        let min = u64::try_from(min.as_micros()).unwrap_or(u64::MAX);
        let max = u64::try_from(max.as_micros()).unwrap_or(u64::MAX);
        let span = max.saturating_sub(min).saturating_add(1);
        Duration::from_micros(min.saturating_add(self.next() % span))
    }
}
