//! How the mutexes of this crate are locked: a poisoned one like any other.
//! Never waits for a task: what is done under a lock awaits nothing.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Nothing panics while it holds one of these locks, so a poisoned one is as sound as any.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
