//! How often refused strangers are reported: a flood of them must not become a flood of log lines.
//! Never forgets one: what is not reported is counted.

use tokio::time::{Duration, Instant};

/// Reports in one window.
const REPORTS_MAX: u32 = 10;
const WINDOW: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(crate) struct Refusals {
    window: Option<Instant>,
    reported: u32,
    suppressed: u64,
    total: u64,
}

impl Refusals {
    /// Counts one; `Some` if it should be reported, with the number of those that were not.
    pub(crate) fn note(&mut self) -> Option<u64> {
        self.note_at(Instant::now())
    }

    fn note_at(&mut self, now: Instant) -> Option<u64> {
        self.total += 1;
        if self.window.is_none_or(|begun| now.duration_since(begun) >= WINDOW) {
            self.window = Some(now);
            self.reported = 0;
        }
        if self.reported >= REPORTS_MAX {
            self.suppressed += 1;
            return None;
        }
        self.reported += 1;
        Some(std::mem::take(&mut self.suppressed))
    }

    pub(crate) fn total(&self) -> u64 {
        self.total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_counted_and_not_repeated() {
        let mut refusals = Refusals::default();
        let start = Instant::now();
        let reported = (0..1_000).filter_map(|_| refusals.note_at(start)).count();
        assert_eq!(reported, REPORTS_MAX as usize);
        assert_eq!(refusals.note_at(start + WINDOW), Some(1_000 - u64::from(REPORTS_MAX)));
        assert_eq!(refusals.note_at(start + WINDOW), Some(0));
        assert_eq!(refusals.total(), 1_002);
    }
}
