//! Latencies in a histogram of constant size, and what is told of them.
//!
//! It never averages percentiles: histograms are merged, then asked.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The finest step, in nanoseconds; nothing here is faster.
const LOWEST_NS: u64 = 100;
/// The longest latency that is told apart, in nanoseconds: two minutes. Longer ones count as this.
const HIGHEST_NS: u64 = 120_000_000_000;
/// Significant decimal digits of every figure.
const DIGITS: u8 = 3;

/// Latencies of one kind. Between processes they travel as pairs of nanoseconds and count.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(from = "Vec<(u64, u64)>", into = "Vec<(u64, u64)>")]
pub(super) struct Latencies(Histogram<u64>);

/// Percentiles, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(super) struct Percentiles {
    pub(super) p50_us: f64,
    pub(super) p90_us: f64,
    pub(super) p99_us: f64,
    pub(super) p999_us: f64,
    pub(super) max_us: f64,
    pub(super) mean_us: f64,
    pub(super) samples: u64,
}

impl Default for Latencies {
    fn default() -> Self {
        let bounded = Histogram::new_with_bounds(LOWEST_NS, HIGHEST_NS, DIGITS);
        // The bounds are constants that the histogram takes; every test makes one.
        Self(bounded.unwrap_or_else(|_| unreachable!("the bounds of a histogram")))
    }
}

impl Latencies {
    pub(super) fn record(&mut self, span: Duration) {
        self.0.saturating_record(u64::try_from(span.as_nanos()).unwrap_or(HIGHEST_NS));
    }

    /// Takes in what another process or run has measured.
    pub(super) fn add(&mut self, other: &Self) {
        // Both have the same bounds, so it cannot fail.
        let _ = self.0.add(&other.0);
    }

    pub(super) fn percentiles(&self) -> Percentiles {
        if self.0.is_empty() {
            return Percentiles::default();
        }
        let us = |ns: u64| ns as f64 / 1e3;
        let at = |quantile| us(self.0.value_at_quantile(quantile));
        Percentiles {
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: us(self.0.max()),
            mean_us: us(self.0.mean() as u64),
            samples: self.0.len(),
        }
    }

    /// What a client on a schedule of one append per median latency would have seen: one that waits through a stall
    /// issues nothing meanwhile, so a closed loop sees the stall once where a schedule sees it many times.
    pub(super) fn corrected(&self) -> Self {
        let interval = self.0.value_at_quantile(0.5);
        Self(self.0.clone_correct(interval))
    }
}

impl From<Latencies> for Vec<(u64, u64)> {
    fn from(all: Latencies) -> Self {
        all.0.iter_recorded().map(|at| (at.value_iterated_to(), at.count_at_value())).collect()
    }
}

impl From<Vec<(u64, u64)>> for Latencies {
    fn from(counts: Vec<(u64, u64)>) -> Self {
        let mut all = Self::default();
        for (value, count) in counts {
            all.0.saturating_record_n(value, count);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(spans: impl IntoIterator<Item = Duration>) -> Latencies {
        let mut all = Latencies::default();
        spans.into_iter().for_each(|span| all.record(span));
        all
    }

    #[test]
    fn percentiles_are_those_of_the_samples() {
        let told = of((1..=1_000).map(Duration::from_micros)).percentiles();
        assert_eq!(told.samples, 1_000);
        for (told, meant) in [
            (told.p50_us, 500.0),
            (told.p90_us, 900.0),
            (told.p99_us, 990.0),
            (told.p999_us, 999.0),
            (told.max_us, 1e3),
        ] {
            assert!((told - meant).abs() <= meant / 500.0, "{told} is not {meant}");
        }
        assert_eq!(Latencies::default().percentiles(), Percentiles::default());
    }

    /// One client, 1 ms an append, and one stall of a second: it saw one slow append in two thousand, while a client on
    /// a schedule would have waited a thousand times.
    #[test]
    fn a_stall_that_a_closed_loop_hides_is_in_the_corrected_figure() {
        let seen = of((0..2_000).map(|i| Duration::from_millis(if i == 1_000 { 1_000 } else { 1 })));
        assert!(seen.percentiles().p99_us < 1_100.0);
        assert!(seen.corrected().percentiles().p99_us > 900_000.0);
    }

    #[test]
    fn what_another_process_measured_arrives_whole() {
        let here = of((1..=500).map(|i| Duration::from_micros(i * 37)));
        let there: Latencies = serde_json::from_str(&serde_json::to_string(&here).unwrap()).unwrap();
        assert_eq!(there.percentiles(), here.percentiles());
        let mut both = here.clone();
        both.add(&there);
        assert_eq!(both.percentiles().samples, 1_000);
    }

    #[test]
    fn what_is_beyond_the_bound_counts_as_the_bound() {
        let told = of([Duration::from_secs(3_600)]).percentiles();
        assert!((told.max_us - 120e6).abs() < 1e6, "{}", told.max_us);
    }
}
