//! Deadlines: foca's timers in the order in which it wants them, and one slot for each of our own.
//!
//! There is no clock inside. A slot that is empty costs no wake-up.

use crate::identity::Identity;
use crate::types::Mono;
use std::collections::BTreeMap;
use std::time::Duration;

pub(crate) type FocaTimer = foca::Timer<Identity>;

/// Our own deadlines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Due {
    /// Pass news on.
    Gossip,
    /// Exchange tables with a random member.
    Exchange,
    /// Exchange tables with another, since who was chosen did not answer.
    ExchangeAgain,
    /// Dial failed members, ask for seeds.
    Reconnect,
    /// Announce members whose records did not arrive.
    Introduce,
    /// The next step of leaving.
    Leave,
    /// Ask for tags that did not fit a packet.
    Fetch,
    /// End a suspicion that came of others' word.
    Doubt,
    /// Look into this node's own suspicions.
    Suspicion,
    /// Watch over the next member in the ring.
    Watch,
    /// Try the paths in doubt.
    Paths,
    /// Forget old tombstones.
    Reap,
}

/// Those of our own after which somebody is judged by what it did not say in time.
const JUDGING: [Due; 4] = [Due::Doubt, Due::Suspicion, Due::Watch, Due::Paths];

#[derive(Debug, Default)]
pub(crate) struct Timers {
    /// By deadline; then by kind, for a probe must be repeated before it is judged; then by age.
    foca: BTreeMap<(Mono, u8, u64), FocaTimer>,
    own: BTreeMap<Due, Mono>,
    sequence: u64,
}

fn rank(timer: &FocaTimer) -> u8 {
    match timer {
        foca::Timer::SendIndirectProbe { .. } => 0,
        foca::Timer::ProbeRandomMember(_) => 1,
        _ => 2,
    }
}

impl Timers {
    pub(crate) fn push_foca(&mut self, at: Mono, timer: FocaTimer) {
        self.sequence += 1;
        self.foca.insert((at, rank(&timer), self.sequence), timer);
    }

    pub(crate) fn pop_foca(&mut self, now: Mono) -> Option<FocaTimer> {
        let entry = self.foca.first_entry()?;
        (entry.key().0 <= now).then(|| entry.remove())
    }

    fn first_foca(&self) -> Option<Mono> {
        self.foca.first_key_value().map(|(key, _)| key.0)
    }

    /// The first deadline of those after which somebody is judged.
    pub(crate) fn first_judging(&self) -> Option<Mono> {
        let own = JUDGING.iter().filter_map(|due| self.own.get(due).copied());
        self.first_foca().into_iter().chain(own).min()
    }

    /// Moves all of those: the time in between did not count.
    pub(crate) fn postpone_judging(&mut self, by: Duration) {
        self.foca = std::mem::take(&mut self.foca)
            .into_iter()
            .map(|((at, rank, sequence), timer)| ((at.after(by), rank, sequence), timer))
            .collect();
        for due in JUDGING {
            if let Some(at) = self.own.get_mut(&due) {
                *at = at.after(by);
            }
        }
    }

    pub(crate) fn is_set(&self, due: Due) -> bool {
        self.own.contains_key(&due)
    }

    pub(crate) fn set(&mut self, due: Due, at: Mono) {
        self.own.insert(due, at);
    }

    /// Sets it unless it is due sooner already.
    pub(crate) fn set_at_latest(&mut self, due: Due, at: Mono) {
        let slot = self.own.entry(due).or_insert(at);
        *slot = at.min(*slot);
    }

    pub(crate) fn clear(&mut self, due: Due) {
        self.own.remove(&due);
    }

    pub(crate) fn clear_all(&mut self) {
        self.foca.clear();
        self.own.clear();
    }

    pub(crate) fn pop_own(&mut self, now: Mono) -> Option<Due> {
        let due = self.own.iter().find(|(_, at)| **at <= now).map(|(due, _)| *due)?;
        self.own.remove(&due);
        Some(due)
    }

    pub(crate) fn next(&self) -> Option<Mono> {
        self.first_foca().into_iter().chain(self.own.values().copied()).min()
    }
}
