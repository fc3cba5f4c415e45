//! Random: the only source of chance in a simulated world, small and reproducible, in streams that do not mix.
//!
//! It never asks the system for entropy.

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// SplitMix64.
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    /// The stream of this seed.
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The stream of one part of a world: another part that draws more or less does not shift it.
    pub(super) fn of(seed: u64, part: &str, agent: usize) -> Self {
        let agent = (agent as u64).to_le_bytes();
        Self(xxh3_64_with_seed(&agent, xxh3_64_with_seed(part.as_bytes(), seed)))
    }

    /// Any number.
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Less than `n`; zero if `n` is zero.
    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }

    /// From `low` to `high`, both included.
    pub(super) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low).saturating_add(1))
    }

    /// From `low` to `high`, as likely between one and two as between ten and twenty.
    pub(super) fn log_between(&mut self, low: u64, high: u64) -> u64 {
        let (low, high) = (low.max(1), high.max(low.max(1)));
        let doublings = (high / low).ilog2();
        let from = low << self.below(u64::from(doublings) + 1);
        self.between(from, (from * 2).min(high))
    }

    /// True in so many of a thousand cases.
    pub(super) fn chance(&mut self, in_thousand: u64) -> bool {
        self.below(1000) < in_thousand
    }

    /// One of these, if there is any.
    pub(super) fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        let at = usize::try_from(self.below(from.len() as u64)).unwrap_or(0);
        from.get(at).copied()
    }
}

/// One of so many.
pub(super) fn one(random: &mut Random, n: usize) -> usize {
    usize::try_from(random.below(n as u64)).unwrap_or(0)
}

/// The noise of a world: one stream for each part and agent, so that a fault that is taken away shifts as little of the
/// rest as can be.
#[derive(Clone, Debug)]
pub(super) struct Noise {
    seed: u64,
    /// Delays and losses of what an agent sends.
    pub(super) network: Vec<Random>,
    /// How long its disk and its turns take.
    pub(super) pace: Vec<Random>,
    /// Its ids: nodes, boots, logs, segments.
    pub(super) ids: Vec<Random>,
}

impl Noise {
    pub(super) fn new(seed: u64, agents: usize) -> Self {
        let mut noise = Self { seed, network: Vec::new(), pace: Vec::new(), ids: Vec::new() };
        (0..agents).for_each(|_| noise.one_more());
        noise
    }

    /// Another machine has appeared.
    pub(super) fn one_more(&mut self) {
        let agent = self.ids.len();
        self.network.push(Random::of(self.seed, "network", agent));
        self.pace.push(Random::of(self.seed, "pace", agent));
        self.ids.push(Random::of(self.seed, "ids", agent));
    }
}
