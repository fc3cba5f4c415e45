//! Which nodes this side keeps a connection to, and the loop that dials each of them again and again.
//! Never gives up on a kept node, and never dials faster than its back-off.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::endpoint::{Inner, lock};
use crate::table::Class;
use crate::{DialError, Limits};

/// A connection that lived shorter than this counts as a failed attempt: else a peer that accepts and then refuses
/// would be dialled without a pause.
const SHORT_LIFE: Duration = Duration::from_secs(2);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    kept: Mutex<BTreeMap<u64, Kept>>,
}

#[derive(Debug)]
struct Kept {
    addr: watch::Sender<SocketAddr>,
    /// The node was heard of: dial now.
    came: Arc<Notify>,
    trouble: Arc<Mutex<Option<DialError>>>,
    task: JoinHandle<()>,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Pool {
    pub(crate) fn keep(&self, inner: &Arc<Inner>, node: u64, addr: SocketAddr) {
        let mut kept = lock(&self.kept);
        if let Some(present) = kept.get(&node) {
            present.addr.send_if_modified(|old| std::mem::replace(old, addr) != addr);
            return;
        }
        let (sender, addr) = watch::channel(addr);
        let came = Arc::new(Notify::new());
        let trouble = Arc::default();
        let task = tokio::spawn(keep(inner.clone(), node, addr, came.clone(), Arc::clone(&trouble)));
        kept.insert(node, Kept { addr: sender, came, trouble, task });
    }

    pub(crate) fn unkeep(&self, node: u64) {
        lock(&self.kept).remove(&node);
    }

    pub(crate) fn trouble(&self, node: u64) -> Option<DialError> {
        let kept = lock(&self.kept);
        lock(&kept.get(&node)?.trouble).clone()
    }

    /// A node has connected, in whichever direction: whoever waits to dial it need not wait.
    pub(crate) fn came(&self, node: u64) {
        if let Some(kept) = lock(&self.kept).get(&node) {
            kept.came.notify_one();
        }
    }

    pub(crate) fn stop(&self) {
        lock(&self.kept).clear();
    }

    /// Where a kept node is dialled.
    pub(crate) fn addr(&self, node: u64) -> Option<SocketAddr> {
        lock(&self.kept).get(&node).map(|kept| *kept.addr.borrow())
    }
}

async fn keep(
    inner: Arc<Inner>,
    node: u64,
    mut addr: watch::Receiver<SocketAddr>,
    came: Arc<Notify>,
    trouble: Arc<Mutex<Option<DialError>>>,
) {
    let mut failures = 0_u32;
    loop {
        let present = inner.table().dialled(node, Class::Peer).cloned();
        let target = *addr.borrow_and_update();
        let dialled = match present {
            Some(link) => Ok(link),
            None => inner.dial(target, Some(node), Class::Peer).await,
        };
        match dialled {
            Ok(link) => {
                *lock(&trouble) = None;
                let since = Instant::now();
                link.gone().await;
                failures = if since.elapsed() < SHORT_LIFE { failures.saturating_add(1) } else { 0 };
                if failures == 0 {
                    continue;
                }
            }
            Err(DialError::Closing) => return,
            Err(error) => {
                *lock(&trouble) = Some(error);
                failures = failures.saturating_add(1);
            }
        }
        tokio::select! {
            () = tokio::time::sleep(pause(&inner.limits, failures)) => {}
            changed = addr.changed() => if changed.is_err() { return },
            () = came.notified() => {}
        }
    }
}

/// Doubles with each failure up to the bound; the upper half is random, so that nodes that lost each other together do
/// not dial together.
fn pause(limits: &Limits, failures: u32) -> Duration {
    let doubled = limits.redial_min.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(limits.redial_max);
    let mut random = [0; 4];
    // Without entropy the pause is the longest one, which is safe.
    let share = match SystemRandom::new().fill(&mut random) {
        Ok(()) => f64::from(u32::from_be_bytes(random)) / f64::from(u32::MAX),
        Err(_) => 1.0,
    };
    doubled.mul_f64(0.5 + share / 2.0)
}
