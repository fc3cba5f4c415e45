//! How fast a connection sends: like everybody (Cubic), or, for bulk, so that whoever else uses the way notices little.
//! Never looks at what is sent.
//!
//! Cubic fills every queue until something is lost. Heartbeats to the same agent wait in the same queues, above all in the
//! receive buffer of its one socket: at 1 GB/s its 4 MiB are 4 ms. A yielding sender keeps the delay that it adds itself
//! near a target instead (as LEDBAT does, RFC 6817): it grows while its round trip stays near the shortest one that was
//! seen, and shrinks in proportion as soon as it does not. And it keeps below a rate: an agent has one thread, and a
//! heartbeat passes through it some ten times between two of them, each time behind what bulk does there.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use quinn::congestion::{Controller, ControllerFactory, CubicConfig};
use quinn_proto::RttEstimator;

/// The delay that bulk may add to a round trip.
const DELAY_TARGET: Duration = Duration::from_micros(500);
/// What bulk has under way at least, in bytes, however long its round trips become.
const WINDOW_MIN: u64 = 128 * 1024;
/// The same where that would be more than its rate, in bytes: a few packets.
const RATE_WINDOW_MIN: u64 = 32 * 1024;
/// And at most: what the windows of its connection allow.
const WINDOW_MAX: u64 = 16 * 1024 * 1024;

/// Builds controllers that begin as Cubic with this initial window.
#[derive(Debug)]
pub(crate) struct Manners {
    pub(crate) cubic: Arc<CubicConfig>,
    /// Whether they yield from the beginning.
    pub(crate) yields: bool,
    /// The rate that they stay below while they yield.
    pub(crate) bytes_per_second: u64,
}

impl ControllerFactory for Manners {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        let cubic = self.cubic.clone().build(now, current_mtu);
        let queue = Yielding::new(now, self.bytes_per_second);
        Box::new(Sender { cubic, yields: Arc::new(AtomicBool::new(self.yields)), queue })
    }
}

/// Makes a connection yield to others from now on. Its protocol is known only after its controller was made.
pub(crate) fn yield_way(conn: &quinn::Connection) {
    // What is handed out is a copy, which shares the switch.
    if let Ok(sender) = conn.congestion_state().into_any().downcast::<Sender>() {
        sender.yields.store(true, Ordering::Relaxed);
    }
}

/// One controller of both kinds.
struct Sender {
    cubic: Box<dyn Controller>,
    yields: Arc<AtomicBool>,
    queue: Yielding,
}

impl Sender {
    fn yields(&self) -> bool {
        self.yields.load(Ordering::Relaxed)
    }
}

impl Controller for Sender {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        self.cubic.on_sent(now, bytes, last_packet_number);
    }

    fn on_ack(&mut self, now: Instant, sent: Instant, bytes: u64, app_limited: bool, rtt: &RttEstimator) {
        if self.yields() {
            self.queue.on_ack(now, bytes, app_limited, rtt.get(), rtt.min());
        } else {
            self.cubic.on_ack(now, sent, bytes, app_limited, rtt);
        }
    }

    fn on_end_acks(&mut self, now: Instant, in_flight: u64, app_limited: bool, largest_packet_num_acked: Option<u64>) {
        self.cubic.on_end_acks(now, in_flight, app_limited, largest_packet_num_acked);
    }

    fn on_congestion_event(&mut self, now: Instant, sent: Instant, is_persistent_congestion: bool, lost_bytes: u64) {
        if self.yields() {
            self.queue.on_loss(now, sent);
        } else {
            self.cubic.on_congestion_event(now, sent, is_persistent_congestion, lost_bytes);
        }
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.cubic.on_mtu_update(new_mtu);
    }

    fn window(&self) -> u64 {
        if self.yields() { self.queue.window } else { self.cubic.window() }
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(Self { cubic: self.cubic.clone_box(), yields: self.yields.clone(), queue: self.queue.clone() })
    }

    fn initial_window(&self) -> u64 {
        if self.yields() { WINDOW_MIN } else { self.cubic.initial_window() }
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

/// The window of a sender that yields; decided once a round trip.
#[derive(Debug, Clone)]
struct Yielding {
    window: u64,
    /// Acknowledged in this round, while the window was what held the sender back.
    acked: u64,
    round_ends: Instant,
    /// Losses of what was sent before this were answered.
    lost_until: Instant,
    bytes_per_second: u64,
}

impl Yielding {
    fn new(now: Instant, bytes_per_second: u64) -> Self {
        Self { window: WINDOW_MIN, acked: 0, round_ends: now, lost_until: now, bytes_per_second }
    }

    fn on_ack(&mut self, now: Instant, bytes: u64, app_limited: bool, round_trip: Duration, shortest: Duration) {
        if !app_limited {
            self.acked += bytes;
        }
        if now < self.round_ends {
            return;
        }
        self.round_ends = now + round_trip;
        let acked = std::mem::take(&mut self.acked);
        let added = round_trip.saturating_sub(shortest);
        let window = if added <= DELAY_TARGET {
            // Doubles in a round trip where nothing is added, and stands still at the target.
            let room = (DELAY_TARGET - added).as_secs_f64() / DELAY_TARGET.as_secs_f64();
            self.window + (acked.min(self.window) as f64 * room) as u64
        } else {
            let excess = (added - DELAY_TARGET).as_secs_f64() / round_trip.as_secs_f64();
            (self.window as f64 * (1.0 - excess.min(0.5))) as u64
        };
        let rate = (self.bytes_per_second as f64 * round_trip.as_secs_f64()) as u64;
        self.window = window.clamp(WINDOW_MIN, WINDOW_MAX).min(rate.max(RATE_WINDOW_MIN));
    }

    fn on_loss(&mut self, now: Instant, sent: Instant) {
        if sent >= self.lost_until {
            self.lost_until = now;
            self.window = (self.window / 2).max(WINDOW_MIN);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: Duration = Duration::from_micros(200);
    const NO_RATE: u64 = u64::MAX;

    /// A way that carries so many bytes a second and queues the rest: the window after a while, and the delay it adds.
    fn settle(bytes_per_second: f64, base: Duration, rate: u64) -> (u64, Duration) {
        let mut now = Instant::now();
        let mut sender = Yielding::new(now, rate);
        let mut smoothed = base;
        for _ in 0..2_000 {
            let carried = bytes_per_second * base.as_secs_f64();
            let queued = (sender.window as f64 - carried).max(0.0);
            let round_trip = base + Duration::from_secs_f64(queued / bytes_per_second);
            smoothed = (smoothed * 7 + round_trip) / 8;
            now += round_trip;
            sender.on_ack(now, sender.window, false, smoothed, base);
        }
        (sender.window, smoothed.saturating_sub(base))
    }

    #[test]
    fn the_delay_that_it_adds_settles_at_the_target() {
        for (rate, base) in [(1e9, BASE), (3e9, BASE), (100e6, Duration::from_millis(20))] {
            let (window, added) = settle(rate, base, NO_RATE);
            assert!(added <= DELAY_TARGET * 3 / 2, "{rate}: {added:?}");
            // And it uses the way.
            assert!(window as f64 >= 0.8 * rate * base.as_secs_f64(), "{rate}: {window}");
        }
        // Where the least window is more than the way carries, it stays the least.
        assert_eq!(settle(10e6, BASE, NO_RATE).0, WINDOW_MIN);
    }

    #[test]
    fn it_stays_below_its_rate() {
        for base in [Duration::from_millis(1), Duration::from_millis(20)] {
            let (window, added) = settle(1e9, base, 200 << 20);
            let sent = window as f64 / (base + added).as_secs_f64();
            assert!((0.9..=1.01).contains(&(sent / (200 << 20) as f64)), "{sent}");
        }
        assert_eq!(settle(1e9, BASE, 1).0, RATE_WINDOW_MIN);
    }

    #[test]
    fn a_loss_halves_once_a_round() {
        let now = Instant::now();
        let mut sender = Yielding { window: 8 << 20, ..Yielding::new(now, NO_RATE) };
        let later = now + BASE;
        for _ in 0..10 {
            sender.on_loss(later, now);
        }
        assert_eq!(sender.window, 4 << 20);
        sender.on_loss(later + BASE, later);
        assert_eq!(sender.window, 2 << 20);
    }

    /// Who has nothing to send does not grow in secret.
    #[test]
    fn what_is_not_used_does_not_grow() {
        let mut now = Instant::now();
        let mut sender = Yielding::new(now, NO_RATE);
        for _ in 0..100 {
            now += BASE;
            sender.on_ack(now, 1_000, true, BASE, BASE);
        }
        assert_eq!(sender.window, WINDOW_MIN);
    }

    #[test]
    fn a_copy_shares_the_switch() {
        let cubic = Arc::new(CubicConfig::default());
        let sender = Arc::new(Manners { cubic, yields: false, bytes_per_second: NO_RATE }).build(Instant::now(), 1_200);
        let before = sender.window();
        let copy = sender.clone_box().into_any().downcast::<Sender>().ok().unwrap();
        copy.yields.store(true, Ordering::Relaxed);
        assert_ne!(before, WINDOW_MIN);
        assert_eq!(sender.window(), WINDOW_MIN);
    }
}
