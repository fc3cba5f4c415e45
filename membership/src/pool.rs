//! A pool: what several cores in one process hold alike, held once. A simulation of thousands fits into memory so.
//!
//! It never changes what a core does, and one core by itself needs none: of what it holds nothing is twice.

use crate::entry::Met;
use crate::record::Record;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

/// How many are held before those that nobody uses are looked for.
const SWEEP_MIN: usize = 1 << 16;

#[derive(Debug)]
struct Shelf<T> {
    held: BTreeSet<Arc<T>>,
    sweep_at: usize,
}

impl<T: Ord> Shelf<T> {
    fn share(&mut self, one: &Arc<T>) -> Arc<T> {
        if let Some(held) = self.held.get(one) {
            return Arc::clone(held);
        }
        if self.held.len() >= self.sweep_at {
            self.held.retain(|held| Arc::strong_count(held) > 1);
            self.sweep_at = (self.held.len() * 2).max(SWEEP_MIN);
        }
        self.held.insert(Arc::clone(one));
        Arc::clone(one)
    }
}

/// See the module. Cheap to clone: all clones are one.
#[derive(Clone, Debug)]
pub struct Pool(Arc<Mutex<(Shelf<Record>, Shelf<Met>)>>);

impl Default for Pool {
    fn default() -> Self {
        let (records, met) = (
            Shelf { held: BTreeSet::new(), sweep_at: SWEEP_MIN },
            Shelf { held: BTreeSet::new(), sweep_at: SWEEP_MIN },
        );
        Self(Arc::new(Mutex::new((records, met))))
    }
}

impl Pool {
    /// The one that reads like this record.
    pub(crate) fn record(&self, record: &Arc<Record>) -> Arc<Record> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0.share(record)
    }

    /// The one that reads like this, in its place.
    pub(crate) fn share_met(&self, met: &mut Arc<Met>) {
        *met = self.0.lock().unwrap_or_else(PoisonError::into_inner).1.share(met);
    }
}
