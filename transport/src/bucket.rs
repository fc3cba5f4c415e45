//! A rate with a burst: so many at once, and so many a second after that.
//! Never reads a clock: time is an argument.

use std::time::Duration;

use tokio::time::Instant;

/// A token bucket; it begins full.
#[derive(Debug, Clone)]
pub(crate) struct Bucket {
    left: f64,
    burst: f64,
    per_second: f64,
    at: Instant,
}

impl Bucket {
    pub(crate) fn new(per_second: u32, burst: u32, now: Instant) -> Self {
        Self { left: f64::from(burst), burst: f64::from(burst), per_second: f64::from(per_second), at: now }
    }

    /// Takes one, if there is one.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        self.refill(now);
        if self.left < 1.0 {
            return false;
        }
        self.left -= 1.0;
        true
    }

    /// Whether it has forgotten everything.
    pub(crate) fn is_full(&mut self, now: Instant) -> bool {
        self.refill(now);
        self.left >= self.burst
    }

    fn refill(&mut self, now: Instant) {
        let passed: Duration = now.saturating_duration_since(self.at);
        self.left = (self.left + passed.as_secs_f64() * self.per_second).min(self.burst);
        self.at = self.at.max(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::new(10, 3, start);
        assert_eq!((0..9).filter(|_| bucket.take(start)).count(), 3);
        let later = start + Duration::from_millis(250);
        assert_eq!((0..9).filter(|_| bucket.take(later)).count(), 2);
        assert!(!bucket.is_full(later));
        assert!(bucket.is_full(start + Duration::from_secs(9)));
        // A clock that steps back gives nothing and takes nothing.
        assert!(bucket.take(start));
    }
}
