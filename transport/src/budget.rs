//! What may be held at one time: by all together, and by each client a part of it.
//! Never decides what is worth counting, except that small frames are not.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The unit in which bytes are counted.
pub(crate) const UNIT_BYTES: usize = 1024;

/// The budget that one reader draws on. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Budget {
    all: Arc<Semaphore>,
    /// Drawn on first, so that nobody waits for the common one with more than its part.
    own: Option<Arc<Semaphore>>,
    unit: usize,
    /// Frames up to this length are not counted, in bytes: their number is bounded by streams and queues.
    pub(crate) small_bytes: usize,
}

/// A part of a budget, given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    _all: OwnedSemaphorePermit,
    _own: Option<OwnedSemaphorePermit>,
}

impl Budget {
    /// A budget of bytes, on which frames longer than `small_bytes` draw.
    pub(crate) fn of_bytes(bytes: usize, small_bytes: usize) -> Self {
        Self { all: semaphore(bytes, UNIT_BYTES), own: None, unit: UNIT_BYTES, small_bytes }
    }

    /// A budget of things.
    pub(crate) fn of_things(things: usize) -> Self {
        Self { all: semaphore(things, 1), own: None, unit: 1, small_bytes: 0 }
    }

    /// The same budget, of which this holder and its clones may hold so much.
    pub(crate) fn part(&self, own: usize) -> Self {
        Self { own: Some(semaphore(own, self.unit)), ..self.clone() }
    }

    /// Waits for so much; `None` only if the budget was closed, which nobody does.
    pub(crate) async fn take(&self, amount: usize) -> Option<Share> {
        let units = u32::try_from(amount.div_ceil(self.unit)).unwrap_or(u32::MAX);
        let own = match &self.own {
            Some(own) => Some(own.clone().acquire_many_owned(units).await.ok()?),
            None => None,
        };
        Some(Share { _all: self.all.clone().acquire_many_owned(units).await.ok()?, _own: own })
    }

    /// What is left.
    pub(crate) fn left(&self) -> usize {
        self.all.available_permits() * self.unit
    }
}

fn semaphore(amount: usize, unit: usize) -> Arc<Semaphore> {
    Arc::new(Semaphore::new((amount / unit).min(Semaphore::MAX_PERMITS)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One client waits for itself; the others do not wait for it.
    #[tokio::test]
    async fn a_part_is_used_up_before_the_whole() {
        let all = Budget::of_bytes(10 * UNIT_BYTES, 0);
        let (greedy, modest) = (all.part(4 * UNIT_BYTES), all.part(4 * UNIT_BYTES));
        let _held = greedy.take(4 * UNIT_BYTES).await.unwrap();
        let mut waiting = std::pin::pin!(greedy.take(1));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(waiting.as_mut().poll(&mut context).is_pending());
        let share = modest.take(4 * UNIT_BYTES).await.unwrap();
        assert_eq!(all.left(), 2 * UNIT_BYTES);
        drop(share);
        assert_eq!(all.left(), 6 * UNIT_BYTES);
    }
}
