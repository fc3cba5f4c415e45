//! One dial to a node at a time: a second connection in the same direction would only replace the first.
//! Never holds a turn for a node that nobody dials.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use crate::lock::lock;
use crate::table::Class;

type Turn = Arc<tokio::sync::Mutex<()>>;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Turns(Mutex<BTreeMap<(u64, Class), Turn>>);

impl Turns {
    /// Runs `dial` when nobody else dials `node` for `class`.
    pub(crate) async fn take<T>(&self, node: u64, class: Class, dial: impl Future<Output = T>) -> T {
        // Declared first, so that it looks when our own share of the turn is gone.
        let _leave = Leave(self);
        let turn = lock(&self.0).entry((node, class)).or_default().clone();
        let _held = turn.lock().await;
        dial.await
    }
}

/// Forgets the turns that nobody waits for, also when a dial is cancelled.
struct Leave<'a>(&'a Turns);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        lock(&self.0.0).retain(|_, turn| Arc::strong_count(turn) > 1);
    }
}
