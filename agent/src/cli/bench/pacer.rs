//! A schedule: when each append is due, told as it becomes due.
//!
//! It never waits for an append: what is late stays due at its own moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// The shortest sleep: what becomes due meanwhile is told together. The kernel's own slack is about as long.
const STEP: Duration = Duration::from_micros(50);
/// The longest sleep, so that a schedule that nobody follows any more ends soon.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Most moments that were told and not taken.
const TOLD_MAX: usize = 4_096;

/// Tells moments until it is dropped or the schedule is over.
pub(super) struct Pacer {
    due: mpsc::Receiver<Instant>,
    stop: Arc<AtomicBool>,
}

impl Pacer {
    /// `per_second` moments a second, evenly spaced from `from` until `to`. `phase` between 0 and 1 shifts all of them by
    /// that part of the space between two, so that several schedules do not coincide.
    ///
    /// A thread of its own tells them: the timers of the runtime would round each moment up to the next millisecond.
    /// It waits when [`TOLD_MAX`] were told and not taken, and goes on where it was: what is late stays due.
    pub(super) fn start(per_second: f64, phase: f64, from: Instant, to: Instant) -> std::io::Result<Self> {
        let (tell, due) = mpsc::channel(TOLD_MAX);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let moment = move |n: u64| from + Duration::from_secs_f64((n as f64 + phase) / per_second);
        std::thread::Builder::new().name("pacer".into()).spawn(move || {
            let mut n = 0;
            while !stopped.load(Ordering::Relaxed) {
                let now = Instant::now();
                let mut next = moment(n);
                while next <= now && next < to {
                    if tell.blocking_send(next).is_err() {
                        return;
                    }
                    n += 1;
                    next = moment(n);
                }
                if next >= to {
                    return;
                }
                std::thread::sleep(next.saturating_duration_since(Instant::now()).clamp(STEP, LOOK_AGAIN));
            }
        })?;
        Ok(Self { due, stop })
    }

    /// Moments that someone else tells.
    #[cfg(test)]
    pub(super) fn of(due: mpsc::Receiver<Instant>) -> Self {
        Self { due, stop: Arc::default() }
    }

    /// Waits until something is due and adds it to `moments`, up to `limit` of them; answers how many, 0 at the end.
    pub(super) async fn due(&mut self, moments: &mut Vec<Instant>, limit: usize) -> usize {
        self.due.recv_many(moments, limit).await
    }
}

impl Drop for Pacer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_moment_of_the_schedule_is_told_once_and_none_before_it_is_due() {
        let from = Instant::now();
        let to = from + Duration::from_millis(50);
        let mut pacer = Pacer::start(10_000.0, 0.5, from, to).unwrap();
        let mut told = Vec::new();
        while pacer.due(&mut told, 64).await > 0 {
            assert!(told.iter().all(|moment| *moment <= Instant::now()));
        }
        assert_eq!(told.len(), 500);
        assert_eq!(told[0], from + Duration::from_micros(50));
        assert!(told.windows(2).all(|pair| pair[0] < pair[1]) && told[499] < to);
    }
}
