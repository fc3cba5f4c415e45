//! How often refused strangers are reported: one line for each kind and place in ten seconds, however many come.
//! Never forgets one: what is not reported is counted, and the next report of its kind and place tells how many.

use std::collections::BTreeMap;

use tokio::time::{Duration, Instant};

use crate::Code;
use crate::place::Place;

/// Kinds and places that are told apart; all further places of a kind are one. A forger chooses places freely.
const KEYS_MAX: usize = 256;
/// Reports of all kinds and places in the time that one kind and place is quiet.
const REPORTS_MAX: u32 = 32;

/// The code, and the word for what was wrong with the certificate, if that was it.
pub(crate) type Kind = (Code, Option<&'static str>);

#[derive(Debug)]
pub(crate) struct Refusals {
    /// From one report of a kind and place to the next.
    quiet: Duration,
    /// `None`: the places for which there was no room.
    keys: BTreeMap<(Kind, Option<Place>), Key>,
    window: Option<Instant>,
    reported: u32,
    by_code: BTreeMap<Code, u64>,
}

#[derive(Debug)]
struct Key {
    quiet_until: Instant,
    suppressed: u64,
}

impl Refusals {
    pub(crate) fn new(quiet: Duration) -> Self {
        Self { quiet, keys: BTreeMap::new(), window: None, reported: 0, by_code: BTreeMap::new() }
    }

    /// Counts one; `Some` if it should be reported, with the number of those of its kind and place that were not.
    pub(crate) fn note(&mut self, kind: Kind, place: Place) -> Option<u64> {
        self.note_at(Instant::now(), kind, place)
    }

    fn note_at(&mut self, now: Instant, kind: Kind, place: Place) -> Option<u64> {
        *self.by_code.entry(kind.0).or_default() += 1;
        if self.window.is_none_or(|begun| now.saturating_duration_since(begun) >= self.quiet) {
            self.window = Some(now);
            self.reported = 0;
        }
        let whose = self.whose(now, kind, place);
        let key = self.keys.entry((kind, whose)).or_insert(Key { quiet_until: now, suppressed: 0 });
        if self.reported >= REPORTS_MAX || now < key.quiet_until {
            key.suppressed += 1;
            return None;
        }
        key.quiet_until = now + self.quiet;
        self.reported += 1;
        Some(std::mem::take(&mut key.suppressed))
    }

    /// Under whose name it is counted.
    fn whose(&mut self, now: Instant, kind: Kind, place: Place) -> Option<Place> {
        if self.keys.contains_key(&(kind, Some(place))) {
            return Some(place);
        }
        if self.keys.len() >= KEYS_MAX {
            self.fold(now);
        }
        (self.keys.len() < KEYS_MAX).then_some(place)
    }

    /// Places that are quiet no more make room; what they did not report is counted for their kind.
    fn fold(&mut self, now: Instant) {
        let old = |(key, state): (&(Kind, Option<Place>), &Key)| {
            (key.1.is_some() && state.quiet_until <= now).then_some((*key, state.suppressed))
        };
        let old: Vec<_> = self.keys.iter().filter_map(old).collect();
        for (key, suppressed) in old {
            self.keys.remove(&key);
            if suppressed > 0 {
                let all = self.keys.entry((key.0, None)).or_insert(Key { quiet_until: now, suppressed: 0 });
                all.suppressed += suppressed;
            }
        }
    }

    /// Since the start, by code.
    pub(crate) fn by_code(&self) -> &BTreeMap<Code, u64> {
        &self.by_code
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUIET: Duration = Duration::from_secs(10);
    const BUSY: Kind = (Code::Busy, None);

    fn place(host: u32) -> Place {
        Place::of((std::net::Ipv4Addr::from(host), 1).into())
    }

    #[test]
    fn a_flood_is_counted_and_not_repeated() {
        let mut refusals = Refusals::new(QUIET);
        let start = Instant::now();
        let reported = (0..1_000).filter_map(|_| refusals.note_at(start, BUSY, place(1))).count();
        assert_eq!(reported, 1);
        // Another place and another kind are other news.
        assert_eq!(refusals.note_at(start, BUSY, place(2)), Some(0));
        assert_eq!(refusals.note_at(start, (Code::Malformed, None), place(1)), Some(0));
        assert_eq!(refusals.note_at(start + QUIET, BUSY, place(1)), Some(999));
        assert_eq!(refusals.note_at(start + 2 * QUIET, BUSY, place(1)), Some(0));
        assert_eq!(refusals.by_code()[&Code::Busy], 1_003);
    }

    /// Forged places neither fill the log nor the memory, and are all counted.
    #[test]
    fn a_flood_of_places_is_bounded() {
        let mut refusals = Refusals::new(QUIET);
        let start = Instant::now();
        let mut told = 0;
        for round in 0..3 {
            let now = start + round * QUIET;
            let heard: Vec<_> =
                (0..10_000).filter_map(|host| refusals.note_at(now, BUSY, place(round * 10_000 + host))).collect();
            assert!(heard.len() <= REPORTS_MAX as usize);
            assert!(refusals.keys.len() <= KEYS_MAX + 1);
            told += heard.len() as u64 + heard.iter().sum::<u64>();
        }
        let owed: u64 = refusals.keys.values().map(|key| key.suppressed).sum();
        assert_eq!(told + owed, 30_000);
    }
}
