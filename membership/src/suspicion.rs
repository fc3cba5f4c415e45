//! A suspicion: what this node has found out by itself about a member that may have failed, and who else found the same.
//!
//! It never ends a member, and never counts what somebody says that somebody else has found.

use crate::entry::Seen;
use crate::types::Mono;
use std::collections::BTreeSet;
use std::time::Duration;

/// So many members, beside this node, must have found the same for a suspicion to take its shortest time. memberlist's k.
pub(crate) const CONFIRMATIONS: usize = 2;
/// How much longer than the shortest time a suspicion lasts that nobody confirms. memberlist's default.
pub(crate) const UNCONFIRMED: u32 = 6;
/// To how many peers one finding is told: those who were asked, and those who asked.
pub(crate) const TOLD_MAX: usize = 32;

/// How long a suspect has to answer: long at first, and shorter with each independent confirmation. `eligible` is how many
/// could confirm it; where there are fewer than needed, waiting for them would only be late (memberlist).
pub(crate) fn suspicion_time(shortest: Duration, confirmations: usize, eligible: usize) -> Duration {
    if eligible < CONFIRMATIONS || confirmations >= CONFIRMATIONS {
        return shortest;
    }
    let share = (confirmations as f64 + 1.0).ln() / (CONFIRMATIONS as f64 + 1.0).ln();
    let longest = shortest * UNCONFIRMED;
    (longest - (longest - shortest).mul_f64(share)).max(shortest)
}

/// One suspicion that this node looks into by itself.
#[derive(Debug)]
pub(crate) struct Suspicion {
    /// Whom, and in which incarnation: a later one has answered.
    pub(crate) suspected: Seen,
    pub(crate) since: Mono,
    /// An open question: silence until then is a finding of this node's own.
    pub(crate) question_until: Option<Mono>,
    /// A probe or a question of this node's own went unanswered. Without that nothing here ends anybody.
    pub(crate) is_found: bool,
    /// It was asked a last time before the end.
    pub(crate) asked_last: bool,
    /// Others whether they find the same were asked.
    pub(crate) asked_others: bool,
    /// Who said on their own connection that it does not answer them.
    pub(crate) confirmed_by: BTreeSet<u64>,
    /// Who shall hear of this node's finding, and who has.
    pub(crate) to_tell: BTreeSet<u64>,
    pub(crate) told: BTreeSet<u64>,
}

impl Suspicion {
    pub(crate) fn new(suspected: Seen, since: Mono) -> Self {
        Self {
            suspected,
            since,
            question_until: None,
            is_found: false,
            asked_last: false,
            asked_others: false,
            confirmed_by: BTreeSet::new(),
            to_tell: BTreeSet::new(),
            told: BTreeSet::new(),
        }
    }

    /// When this node declares the suspect failed if it hears nothing from it.
    pub(crate) fn ends_at(&self, shortest: Duration, eligible: usize) -> Mono {
        self.since.after(suspicion_time(shortest, self.confirmed_by.len(), eligible))
    }

    /// This node did not run for so long: that was no time to answer in.
    pub(crate) fn postpone(&mut self, by: Duration) {
        self.since = self.since.after(by);
        self.question_until = self.question_until.map(|until| until.after(by));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn confirmations_shorten_as_in_memberlist() {
        let time = |n, eligible| suspicion_time(Duration::from_secs(2), n, eligible).as_millis();
        assert_eq!([time(0, 8), time(1, 8), time(2, 8), time(3, 8)], [12_000, 5_690, 2_000, 2_000]);
        assert_eq!([time(0, 2), time(1, 2), time(2, 2)], [12_000, 5_690, 2_000]);
        assert_eq!([time(0, 1), time(0, 0)], [2_000, 2_000], "nobody could confirm");
    }
}
