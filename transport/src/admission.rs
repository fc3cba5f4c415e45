//! Who of those who knock may begin a handshake now: how many at one time and how often, in all and by place.
//! Never limits by an address that was not proven: a forger could lock its victim out.
//!
//! | who knocks | handshakes at one time | new ones a second |
//! |---|---|---|
//! | an address that is not proven | a quarter of all; then it must prove itself | few; then it must prove itself |
//! | a proven address | a quarter of all | a rate of its own |
//! | all proven addresses where no agent is known to be | seven eighths | a common rate |
//! | a proven address where an agent is known to be | a quarter of all, the last eighth included | a rate of its own |

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tokio::time::Instant;

use crate::bucket::Bucket;
use crate::lock::lock;
use crate::place::Place;
use crate::{Code, Limits, Refused};

/// One place may hold one in so many of the handshakes; above that share a stranger must prove its address.
const SHARE: usize = 4;
/// One in so many of the handshakes is for places where an agent is known to be.
const RESERVED: usize = 8;
/// New handshakes a second of addresses that are not proven, and at once: an idle agent costs its callers no round trip.
const UNPROVEN_PER_SECOND: u32 = 16;
const UNPROVEN_BURST: u32 = 64;
/// A rate is allowed to be used so many seconds in advance.
const BURST_SECONDS: u32 = 4;
/// Places that are remembered; more than the common rate can make in the time that a place is remembered.
const PLACES_MAX: usize = 8_192;

/// One who knocks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Knock {
    pub(crate) place: Place,
    /// The address answered to a packet that was sent to it.
    pub(crate) proven: bool,
    /// An agent is known to be there.
    pub(crate) known: bool,
}

/// What becomes of it.
#[derive(Debug)]
pub(crate) enum Entry {
    /// The handshake may begin.
    Slot(Slot),
    /// It must prove its address first.
    Prove,
    /// Not now.
    Refuse(Refused),
}

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Admission(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    slots_max: usize,
    per_second: u32,
    held: usize,
    places: BTreeMap<Place, Here>,
    strangers: Bucket,
    unproven: Bucket,
}

/// What one place does.
#[derive(Debug)]
struct Here {
    held: usize,
    rate: Bucket,
}

/// A handshake under way; it counts until this is dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    admission: Admission,
    proven: Option<Place>,
}

impl Admission {
    pub(crate) fn new(limits: &Limits) -> Self {
        let (now, all) = (Instant::now(), limits.handshakes_per_second);
        Self(Arc::new(Mutex::new(State {
            slots_max: limits.handshakes_max,
            per_second: limits.handshakes_per_address_per_second,
            held: 0,
            places: BTreeMap::new(),
            strangers: Bucket::new(all, all.saturating_mul(BURST_SECONDS), now),
            unproven: Bucket::new(UNPROVEN_PER_SECOND, UNPROVEN_BURST, now),
        })))
    }

    /// Decides about one who knocks.
    pub(crate) fn enter(&self, now: Instant, knock: Knock) -> Entry {
        match lock(&self.0).enter(now, knock) {
            Ok(true) => Entry::Slot(Slot { admission: self.clone(), proven: knock.proven.then_some(knock.place) }),
            Ok(false) => Entry::Prove,
            Err(why) => Entry::Refuse(Refused::new(Code::Busy, why)),
        }
    }

    /// Handshakes under way.
    pub(crate) fn held(&self) -> usize {
        lock(&self.0).held
    }

    /// Places that are remembered.
    pub(crate) fn places(&self) -> usize {
        lock(&self.0).places.len()
    }
}

impl State {
    fn share(&self) -> usize {
        (self.slots_max / SHARE).max(1)
    }

    /// `Ok(true)`: a slot was taken. `Ok(false)`: prove the address first.
    fn enter(&mut self, now: Instant, knock: Knock) -> Result<bool, &'static str> {
        if !knock.proven {
            if self.held >= self.share() || !self.unproven.take(now) {
                return Ok(false);
            }
            self.held += 1;
            return Ok(true);
        }
        let reserved = if knock.known { 0 } else { self.slots_max / RESERVED };
        if self.held + reserved >= self.slots_max {
            return Err("too many handshakes at one time, try again in 1 s");
        }
        self.stay(now, knock.place)?;
        let here = self.places.get_mut(&knock.place).is_none_or(|here| here.rate.take(now));
        if !here {
            self.leave(now, knock.place);
            return Err("too many handshakes a second from this address, try again in 1 s");
        }
        if !knock.known && !self.strangers.take(now) {
            self.leave(now, knock.place);
            return Err("too many handshakes a second, try again in 1 s");
        }
        self.held += 1;
        Ok(true)
    }

    /// One more of this place, if its share allows it.
    fn stay(&mut self, now: Instant, place: Place) -> Result<(), &'static str> {
        if self.places.len() >= PLACES_MAX && !self.places.contains_key(&place) {
            self.places.retain(|_, here| here.held > 0 || !here.rate.is_full(now));
            if self.places.len() >= PLACES_MAX {
                return Err("too many places at one time, try again in 1 s");
            }
        }
        let (share, rate) = (self.share(), self.per_second);
        let fresh = || Here { held: 0, rate: Bucket::new(rate, rate.saturating_mul(BURST_SECONDS), now) };
        let here = self.places.entry(place).or_insert_with(fresh);
        if here.held >= share {
            return Err("too many handshakes at one time from this address, try again in 1 s");
        }
        here.held += 1;
        Ok(())
    }

    fn leave(&mut self, now: Instant, place: Place) {
        if let Some(here) = self.places.get_mut(&place) {
            here.held -= 1;
            if here.held == 0 && here.rate.is_full(now) {
                self.places.remove(&place);
            }
        }
    }
}

impl Slot {
    /// The handshake has proven the address: from now on it counts for its place.
    pub(crate) fn prove(&mut self, now: Instant, place: Place) -> Result<(), Refused> {
        if self.proven.is_none() {
            lock(&self.admission.0).stay(now, place).map_err(|why| Refused::new(Code::Busy, why))?;
            self.proven = Some(place);
        }
        Ok(())
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut state = lock(&self.admission.0);
        state.held -= 1;
        if let Some(place) = self.proven {
            state.leave(Instant::now(), place);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn knock(text: &str, proven: bool, known: bool) -> Knock {
        Knock { place: Place::of(format!("{text}:1").parse().unwrap()), proven, known }
    }

    fn admission() -> Admission {
        Admission::new(&Limits::default())
    }

    fn slot(entry: Entry) -> Option<Slot> {
        match entry {
            Entry::Slot(slot) => Some(slot),
            _ => None,
        }
    }

    /// Whoever proves one address gets a quarter, and the next address still gets in.
    #[test]
    fn one_place_cannot_hold_all_slots() {
        let (admission, now) = (admission(), Instant::now());
        let flood: Vec<_> =
            (0..500).filter_map(|_| slot(admission.enter(now, knock("192.0.2.1", true, false)))).collect();
        assert_eq!(flood.len(), Limits::default().handshakes_max / SHARE);
        assert!(slot(admission.enter(now, knock("192.0.2.2", true, false))).is_some());
        drop(flood);
        assert_eq!(admission.held(), 0);
        assert!(slot(admission.enter(now, knock("192.0.2.1", true, false))).is_some());
    }

    /// However many places strangers prove, an agent's place gets in.
    #[test]
    fn strangers_leave_room_for_agents() {
        let (admission, now) = (admission(), Instant::now());
        let flood: Vec<_> = (0..100_u8)
            .flat_map(|host| (0..4).map(move |_| knock(&format!("192.0.2.{host}"), true, false)))
            .filter_map(|knock| slot(admission.enter(now, knock)))
            .collect();
        assert_eq!(flood.len(), Limits::default().handshakes_max * (RESERVED - 1) / RESERVED);
        assert!(matches!(admission.enter(now, knock("198.51.100.1", true, false)), Entry::Refuse(_)));
        assert!(slot(admission.enter(now, knock("198.51.100.1", true, true))).is_some());
    }

    /// Forged addresses take a quarter at most, are never refused by name, and cost the one whose name they use nothing.
    #[test]
    fn a_forged_address_costs_its_owner_nothing() {
        let (admission, now) = (admission(), Instant::now());
        let forged: Vec<_> = (0..500).map(|_| admission.enter(now, knock("192.0.2.1", false, true))).collect();
        assert!(!forged.iter().any(|entry| matches!(entry, Entry::Refuse(_))));
        assert_eq!(admission.held(), Limits::default().handshakes_max / SHARE);
        assert!(slot(admission.enter(now, knock("192.0.2.1", true, true))).is_some());
    }

    /// Handshakes that end quickly are bounded by their rate, whoever knocks.
    #[test]
    fn quick_handshakes_are_bounded_by_a_rate() {
        let (admission, start) = (admission(), Instant::now());
        let limits = Limits::default();
        let quick = |now, from: Knock| (0..20_000).filter(|_| slot(admission.enter(now, from)).is_some()).count();
        let one = knock("192.0.2.1", true, false);
        let (rate, burst) = (limits.handshakes_per_address_per_second, BURST_SECONDS);
        assert_eq!(quick(start, one), (rate * burst) as usize);
        let later = quick(start + Duration::from_secs(1), one);
        assert!((rate as usize - 1..=rate as usize).contains(&later), "{later}");
        assert_eq!(quick(start, knock("192.0.2.2", false, false)), UNPROVEN_BURST as usize);
        let many: usize = (0..200).map(|host| quick(start, knock(&format!("198.51.100.{host}"), true, false))).sum();
        assert!(many <= (limits.handshakes_per_second * burst) as usize, "{many}");
        // An agent's place has a rate of its own.
        assert!(quick(start, knock("203.0.113.1", true, true)) > 0);
    }

    /// What nobody uses is forgotten.
    #[test]
    fn places_are_forgotten() {
        let (admission, now) = (admission(), Instant::now());
        for host in 0..=255_u8 {
            drop(slot(admission.enter(now, knock(&format!("192.0.2.{host}"), true, true))));
        }
        assert!(admission.places() <= 256);
        let mut state = lock(&admission.0);
        let later = now + Duration::from_secs(60);
        state.places.retain(|_, here| here.held > 0 || !here.rate.is_full(later));
        assert!(state.places.is_empty());
    }
}
