//! What one directed link does to the datagrams that pass it.
//!
//! It never touches a socket: it decides, the proxy carries out.

use super::draw::Draw;
use serde::Serialize;
use std::time::{Duration, Instant};

/// A link that is slowed down queues for so long at most; what would wait longer is dropped, as by any router.
const QUEUE_MAX: Duration = Duration::from_millis(200);

/// How a link is to behave. The default is a good link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Policy {
    /// Nothing passes.
    pub(super) cut: bool,
    /// Nothing passes in every other span of so many milliseconds; 0: does not flap.
    pub(super) flap_ms: u32,
    /// Every datagram is late by so much.
    pub(super) delay_ms: u32,
    /// And by up to so much more.
    pub(super) jitter_ms: u32,
    /// Of a thousand, so many are lost.
    pub(super) loss: u32,
    /// Of a thousand, so many come twice.
    pub(super) duplicate: u32,
    /// Of a thousand, so many come behind some that were sent later.
    pub(super) reorder: u32,
    /// At most so many bytes a second; 0: no limit.
    pub(super) rate: u64,
}

impl Policy {
    /// Both at once: the worse of each.
    pub(super) fn and(self, other: Self) -> Self {
        let rate = match (self.rate, other.rate) {
            (0, rate) | (rate, 0) => rate,
            (one, two) => one.min(two),
        };
        Self {
            cut: self.cut || other.cut,
            flap_ms: self.flap_ms.max(other.flap_ms),
            delay_ms: self.delay_ms.max(other.delay_ms),
            jitter_ms: self.jitter_ms.max(other.jitter_ms),
            loss: self.loss.max(other.loss),
            duplicate: self.duplicate.max(other.duplicate),
            reorder: self.reorder.max(other.reorder),
            rate,
        }
    }
}

/// What a link did, as evidence that faults really happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Counts {
    /// Datagrams that came to the link.
    pub(super) datagrams: u64,
    /// Their bytes.
    pub(super) bytes: u64,
    /// Dropped by chance.
    pub(super) lost: u64,
    /// Dropped by a cut.
    pub(super) cut: u64,
    /// Dropped because too much waited at a limited rate.
    pub(super) overflowed: u64,
    /// Delivered twice.
    pub(super) duplicated: u64,
    /// Held back behind later ones.
    pub(super) reordered: u64,
    /// Delivered late.
    pub(super) delayed: u64,
}

impl Counts {
    pub(super) fn add(&mut self, other: &Self) {
        self.datagrams += other.datagrams;
        self.bytes += other.bytes;
        self.lost += other.lost;
        self.cut += other.cut;
        self.overflowed += other.overflowed;
        self.duplicated += other.duplicated;
        self.reordered += other.reordered;
        self.delayed += other.delayed;
    }
}

/// When copies of a datagram are to be delivered: none, one or two moments from now.
pub(super) type Deliveries = [Option<Duration>; 2];

/// One directed link.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) policy: Policy,
    pub(super) counts: Counts,
    draw: Draw,
    began: Instant,
    /// When all bytes that wait at a limited rate will have gone.
    free_at: Instant,
}

impl Link {
    pub(super) fn new(draw: Draw, now: Instant) -> Self {
        Self { policy: Policy::default(), counts: Counts::default(), draw, began: now, free_at: now }
    }

    /// A datagram of so many bytes comes.
    pub(super) fn pass(&mut self, now: Instant, bytes: usize) -> Deliveries {
        let (policy, counts, draw) = (self.policy, &mut self.counts, &mut self.draw);
        counts.datagrams += 1;
        counts.bytes += bytes as u64;
        let since = now.saturating_duration_since(self.began).as_millis();
        let flaps = policy.flap_ms > 0 && (since / u128::from(policy.flap_ms)).is_multiple_of(2);
        if policy.cut || flaps {
            counts.cut += 1;
            return [None, None];
        }
        if draw.chance(policy.loss) {
            counts.lost += 1;
            return [None, None];
        }
        let mut wait = Duration::ZERO;
        // At no rate there is no limit, and nothing waits.
        if let Some(micros) = (bytes as u64 * 1_000_000).checked_div(policy.rate) {
            let queued = self.free_at.saturating_duration_since(now);
            if queued > QUEUE_MAX {
                counts.overflowed += 1;
                return [None, None];
            }
            wait = queued + Duration::from_micros(micros);
            self.free_at = now + wait;
        }
        let late = |draw: &mut Draw| {
            let jitter = draw.below(u64::from(policy.jitter_ms) * 1_000 + 1);
            wait + Duration::from_millis(policy.delay_ms.into()) + Duration::from_micros(jitter)
        };
        let mut first = late(draw);
        if draw.chance(policy.reorder) {
            counts.reordered += 1;
            first += Duration::from_millis(draw.between(1, 30));
        }
        let second = draw.chance(policy.duplicate).then(|| late(draw));
        counts.duplicated += u64::from(second.is_some());
        counts.delayed += u64::from(!first.is_zero());
        [Some(first), second]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(policy: Policy) -> (Link, Instant) {
        let now = Instant::now();
        let mut link = Link::new(Draw::new(3), now);
        link.policy = policy;
        (link, now)
    }

    #[test]
    fn a_good_link_delivers_once_and_at_once() {
        let (mut link, now) = link(Policy::default());
        assert_eq!(link.pass(now, 1_200), [Some(Duration::ZERO), None]);
        assert_eq!(link.counts, Counts { datagrams: 1, bytes: 1_200, ..Counts::default() });
    }

    #[test]
    fn each_policy_does_what_it_says_and_is_counted() {
        let (mut link, now) = link(Policy { cut: true, ..Policy::default() });
        assert_eq!(link.pass(now, 9), [None, None]);
        assert_eq!(link.counts.cut, 1);
        link.policy =
            Policy { loss: 300, duplicate: 200, reorder: 100, delay_ms: 5, jitter_ms: 5, ..Policy::default() };
        for _ in 0..10_000 {
            for late in link.pass(now, 9).into_iter().flatten() {
                assert!((5..=40).contains(&late.as_millis()), "{late:?}");
            }
        }
        let Counts { lost, duplicated, reordered, delayed, .. } = link.counts;
        assert!((2_700..3_300).contains(&lost), "{lost}");
        assert!((1_200..1_600).contains(&duplicated), "{duplicated}");
        assert!((550..850).contains(&reordered), "{reordered}");
        assert_eq!(delayed, 10_000 - lost);
    }

    #[test]
    fn a_flapping_link_is_cut_every_other_while() {
        let (mut link, now) = link(Policy { flap_ms: 100, ..Policy::default() });
        let passes: Vec<_> = (0..4).map(|i| link.pass(now + Duration::from_millis(i * 100), 1)[0].is_some()).collect();
        assert_eq!(passes, [false, true, false, true]);
    }

    #[test]
    fn a_slow_link_queues_and_then_drops() {
        let (mut link, now) = link(Policy { rate: 100_000, ..Policy::default() });
        let waits: Vec<_> = (0..300).map(|_| link.pass(now, 1_000)[0]).collect();
        assert_eq!(waits[0], Some(Duration::from_millis(10)));
        assert_eq!(waits[1], Some(Duration::from_millis(20)));
        assert!(link.counts.overflowed > 0 && waits[299].is_none());
    }

    #[test]
    fn two_policies_are_as_bad_as_the_worse_of_both() {
        let slow = Policy { rate: 10, loss: 5, ..Policy::default() };
        let cut = Policy { cut: true, rate: 3, loss: 1, ..Policy::default() };
        assert_eq!(slow.and(cut), Policy { cut: true, rate: 3, loss: 5, ..Policy::default() });
        assert_eq!(slow.and(Policy::default()), slow);
    }
}
