//! Numbers from a seed: the same seed, the same numbers, on every machine.
//!
//! It never keeps a secret: this is no randomness for keys.

/// SplitMix64 (Steele, Lea, Flood 2014): small, and good enough to choose whom to kill.
#[derive(Clone, Debug)]
pub(super) struct Draw {
    state: u64,
}

impl Draw {
    pub(super) fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// Another stream of numbers for another purpose: what one draws does not move the other.
    pub(super) fn fork(&mut self) -> Self {
        Self::new(self.next())
    }

    pub(super) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// One of `0..n`; 0 if there is none.
    pub(super) fn below(&mut self, n: u64) -> u64 {
        // The bias is below n / 2^64.
        ((u128::from(self.next()) * u128::from(n)) >> 64) as u64
    }

    /// One of `from..=to`.
    pub(super) fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.below(to.saturating_sub(from).saturating_add(1))
    }

    /// True `per_mille` times of a thousand.
    pub(super) fn chance(&mut self, per_mille: u32) -> bool {
        self.below(1_000) < u64::from(per_mille)
    }

    /// All of these in another order.
    pub(super) fn shuffle<T>(&mut self, all: &mut [T]) {
        for i in (1..all.len()).rev() {
            all.swap(i, self.below(i as u64 + 1) as usize);
        }
    }

    /// As many times as likely short as long: the logarithm is drawn.
    pub(super) fn log_between(&mut self, from: u64, to: u64) -> u64 {
        let (low, high) = ((from.max(1) as f64).ln(), (to.max(1) as f64).ln());
        let share = self.below(1 << 32) as f64 / (1_u64 << 32) as f64;
        ((low + (high - low) * share).exp() as u64).clamp(from, to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A seed in a bug report is worth nothing if the next version draws other numbers from it.
    #[test]
    fn a_seed_gives_the_same_numbers_for_ever() {
        let mut draw = Draw::new(7);
        let numbers: Vec<_> = (0..4).map(|_| draw.next()).collect();
        assert_eq!(numbers[0], 0x63cb_e1e4_5932_0dd7);
        let again: Vec<_> = {
            let mut draw = Draw::new(7);
            (0..4).map(|_| draw.next()).collect()
        };
        assert_eq!(numbers, again);
    }

    #[test]
    fn what_is_drawn_stays_within_its_bounds() {
        let mut draw = Draw::new(1);
        for _ in 0..10_000 {
            assert!(draw.below(3) < 3);
            assert!((5..=9).contains(&draw.between(5, 9)));
            assert!((50..=30_000).contains(&draw.log_between(50, 30_000)));
        }
        assert_eq!((draw.below(0), draw.between(4, 4), draw.log_between(4, 4)), (0, 4, 4));
        assert!(!draw.chance(0) && draw.chance(1_000));
        let mut all = [0, 1, 2, 3];
        draw.shuffle(&mut all);
        all.sort_unstable();
        assert_eq!(all, [0, 1, 2, 3]);
    }
}
