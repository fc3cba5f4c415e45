//! Own health: how far this node trusts its own view of the others (Lifeguard, arXiv 1707.00788, section IV.A).
//!
//! It never judges another member. A node that is slow or cut off sees failures everywhere; it probes more slowly instead.

use std::time::Duration;

/// The worst own health: probes are then nine times as slow. memberlist's default.
pub const HEALTH_MAX: u8 = 8;

/// The local health multiplier: 0 is well, [`HEALTH_MAX`] very ill.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Health(u8);

impl Health {
    pub(crate) fn score(self) -> u8 {
        self.0
    }

    /// A sign of trouble that may well be its own: a late timer, helpers that do not nod, others that call it failed.
    pub(crate) fn worse(&mut self, by: usize) {
        self.0 = u8::try_from(by).unwrap_or(HEALTH_MAX).saturating_add(self.0).min(HEALTH_MAX);
    }

    /// A probe was answered.
    pub(crate) fn better(&mut self) {
        self.0 = self.0.saturating_sub(1);
    }

    /// How long something takes for this node, if it takes `time` for a healthy one.
    pub(crate) fn stretch(self, time: Duration) -> Duration {
        time * (1 + u32::from(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_stays_between_its_bounds_and_stretches_nine_times_at_most() {
        let second = Duration::from_secs(1);
        let mut health = Health::default();
        assert_eq!((health.score(), health.stretch(second)), (0, second));
        health.better();
        assert_eq!(health.score(), 0);
        health.worse(7);
        assert_eq!(health.score(), 7);
        health.worse(2);
        assert_eq!((health.score(), health.stretch(second)), (8, second * 9));
        health.worse(1000);
        health.better();
        assert_eq!(health.score(), 7);
    }
}
