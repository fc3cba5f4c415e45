//! How long a cluster did not serve, as its clients saw it.
//!
//! It never says why.

use super::Append;
use std::time::Duration;

/// The longest time without an acknowledgement, and when it began, within `from..to`. Times before the first and after
/// the last acknowledgement count.
#[must_use]
pub fn longest_silence<V>(appends: &[Append<V>], from: Duration, to: Duration) -> (Duration, Duration) {
    let acked = appends.iter().filter(|append| append.is_acked()).map(|append| append.span.ended);
    let mut moments: Vec<_> = acked.filter(|at| (from..to).contains(at)).chain([from, to]).collect();
    moments.sort_unstable();
    let spans = moments.windows(2).map(|pair| (pair[1] - pair[0], pair[0]));
    spans.max_by_key(|(long, _)| *long).unwrap_or_default()
}
