//! What clients may have waiting in this agent, in bytes: requests until their answers are on their way, and tails.
//!
//! It never looks into a request: who lets one in says what it costs.

use quorate_certs::Subject;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Semaphore;

/// Requests of all clients that wait, with the room for their answers.
const ALL_BYTES_MAX: usize = 128 << 20;
/// The same of one identity, over all its connections: the largest batch and as much again three times.
pub(super) const OWN_BYTES_MAX: usize = 32 << 20;
/// Tails at one time: each holds a frame on its way to its reader.
const TAILS_MAX: usize = 1_024;
/// The same of one identity.
const OWN_TAILS_MAX: usize = 256;

/// The bounds of all clients together. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Backlog {
    requests: Pool,
    tails: Pool,
}

impl Default for Backlog {
    fn default() -> Self {
        Self { requests: Pool::new(ALL_BYTES_MAX, OWN_BYTES_MAX), tails: Pool::new(TAILS_MAX, OWN_TAILS_MAX) }
    }
}

impl Backlog {
    /// What a stream of `who` draws on.
    pub(super) fn purse(&self, who: &Subject) -> Purse {
        self.requests.purse(who)
    }

    /// Room for one tail of `who`; `None` if there is none now.
    pub(super) fn tail(&self, who: &Subject) -> Option<Purse> {
        let purse = self.tails.purse(who);
        purse.try_take(1).then_some(purse)
    }
}

/// So much for all, and a part of it for each.
#[derive(Debug, Clone)]
struct Pool {
    all: Arc<Semaphore>,
    own_max: usize,
    owners: Arc<Mutex<BTreeMap<Subject, Arc<Semaphore>>>>,
}

impl Pool {
    fn new(all: usize, own_max: usize) -> Self {
        Self { all: Arc::new(Semaphore::new(all)), own_max, owners: Arc::default() }
    }

    fn purse(&self, who: &Subject) -> Purse {
        let mut owners = self.owners.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever holds nothing here any more is forgotten.
        owners.retain(|_, own| Arc::strong_count(own) > 1);
        let own = owners.entry(who.clone()).or_insert_with(|| Arc::new(Semaphore::new(self.own_max)));
        Purse { own: own.clone(), own_max: self.own_max, all: self.all.clone(), held: AtomicUsize::new(0) }
    }
}

/// What one stream holds of a pool; all of it goes back when this is dropped.
#[derive(Debug)]
pub(super) struct Purse {
    own: Arc<Semaphore>,
    own_max: usize,
    all: Arc<Semaphore>,
    held: AtomicUsize,
}

impl Purse {
    /// Waits until so much is free, first of the own part, so that nobody waits for the others' with more than that.
    /// Returns what was taken: nothing costs more than the whole part. Cancel-safe.
    pub(super) async fn take(&self, amount: usize) -> usize {
        let amount = amount.min(self.own_max);
        let units = u32::try_from(amount).unwrap_or(u32::MAX);
        // Nobody closes a semaphore of a pool.
        let (Ok(own), Ok(all)) = (self.own.acquire_many(units).await, self.all.acquire_many(units).await) else {
            return 0;
        };
        own.forget();
        all.forget();
        self.held.fetch_add(amount, Ordering::Relaxed);
        amount
    }

    fn try_take(&self, amount: u32) -> bool {
        let (Ok(own), Ok(all)) = (self.own.try_acquire_many(amount), self.all.try_acquire_many(amount)) else {
            return false;
        };
        own.forget();
        all.forget();
        self.held.fetch_add(amount as usize, Ordering::Relaxed);
        true
    }

    /// Gives back at most what is held.
    pub(super) fn give(&self, amount: usize) {
        let less = |held: usize| Some(held - held.min(amount));
        let held = self.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).unwrap_or_default();
        let amount = held.min(amount);
        self.own.add_permits(amount);
        self.all.add_permits(amount);
    }
}

impl Drop for Purse {
    fn drop(&mut self) {
        self.give(usize::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_certs::{AgentName, ClusterId, Role};

    fn client(name: &str) -> Subject {
        Subject::client(ClusterId::random().unwrap(), Role::Append, AgentName::new(name).unwrap())
    }

    fn is_ready(future: impl Future) -> bool {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        std::pin::pin!(future).poll(&mut context).is_ready()
    }

    /// A client that uses up its part waits for itself, on all its streams; another one does not wait for it.
    #[test]
    fn a_client_waits_for_its_own_part() {
        let pool = Pool::new(100, 40);
        let (greedy, modest) = (client("greedy"), client("modest"));
        let (first, second) = (pool.purse(&greedy), pool.purse(&greedy));
        assert!(is_ready(first.take(40)));
        assert!(!is_ready(second.take(1)));
        assert!(is_ready(pool.purse(&modest).take(40)));
        first.give(10);
        assert!(is_ready(second.take(10)));
        drop(first);
        assert!(is_ready(second.take(30)));
        // What costs more than the part costs the part.
        drop(second);
        assert!(is_ready(pool.purse(&greedy).take(1_000)));
        assert_eq!(pool.all.available_permits(), 100);
    }

    /// However many clients come, all together hold no more than all.
    #[test]
    fn all_together_have_a_bound() {
        let pool = Pool::new(100, 40);
        let purses: Vec<_> = (0..5).map(|n| pool.purse(&client(&format!("c{n}")))).collect();
        let full = purses.iter().filter(|purse| is_ready(purse.take(40))).count();
        assert_eq!((full, pool.all.available_permits()), (2, 20));
        // Those who gave up waiting hold nothing.
        drop(purses);
        assert_eq!(pool.all.available_permits(), 100);
    }

    #[test]
    fn nobody_gives_back_more_than_it_holds() {
        let pool = Pool::new(100, 40);
        let purse = pool.purse(&client("a"));
        assert!(is_ready(purse.take(5)));
        purse.give(9);
        purse.give(9);
        drop(purse);
        assert_eq!(pool.all.available_permits(), 100);
    }

    #[test]
    fn tails_have_places() {
        let backlog = Backlog::default();
        let (greedy, modest) = (client("greedy"), client("modest"));
        let held: Vec<_> = (0..300).filter_map(|_| backlog.tail(&greedy)).collect();
        assert_eq!(held.len(), OWN_TAILS_MAX);
        assert!(backlog.tail(&modest).is_some());
        drop(held);
        assert!(backlog.tail(&greedy).is_some());
        backlog.purse(&modest);
        assert!(backlog.tails.owners.lock().unwrap().len() <= 2);
    }
}
