//! Which nodes this side keeps a connection to, and the loop that dials each of them again and again.
//! Never gives up on a kept node, and never dials faster than its back-off.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::endpoint::{Inner, lock};
use crate::table::Class;
use crate::{DialError, Limits, SendError};

/// A connection that lived shorter than this counts as a failed attempt: else a peer that accepts and then refuses
/// would be dialled without a pause.
const SHORT_LIFE: Duration = Duration::from_secs(2);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    kept: Mutex<BTreeMap<u64, Kept>>,
    /// Nodes to which a bulk connection is being dialled, with what waits for it.
    bulk: Mutex<BTreeMap<u64, Waiting>>,
}

#[derive(Debug)]
struct Kept {
    addr: watch::Sender<SocketAddr>,
    /// The node was heard of: dial now.
    came: Arc<Notify>,
    trouble: Arc<Mutex<Option<DialError>>>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Waiting {
    frames: Vec<Vec<Bytes>>,
    bytes: usize,
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
        lock(&self.bulk).clear();
    }

    fn addr(&self, node: u64) -> Option<SocketAddr> {
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

/// Where to dial a peer for bulk: where it is kept, where we dialled it, where it wants to be dialled, or its address.
fn bulk_addr(inner: &Inner, node: u64) -> Result<SocketAddr, SendError> {
    let kept = inner.pool.addr(node);
    let table = inner.table();
    let info = &table.link(node, Class::Peer).ok_or(SendError::NotConnected)?.info;
    Ok(match kept {
        _ if info.dialled => info.remote,
        Some(addr) => addr,
        None => info.remote,
    })
}

pub(crate) fn send_bulk(inner: &Arc<Inner>, node: u64, parts: &[Bytes]) -> Result<(), SendError> {
    if let Some(link) = inner.table().link(node, Class::Bulk) {
        return link.outbox.push(parts);
    }
    let addr = bulk_addr(inner, node)?;
    let (bytes, max) = (parts.iter().map(Bytes::len).sum(), inner.limits.bulk_frame_bytes_max);
    match bytes {
        0 => return Err(SendError::Empty),
        bytes if bytes > max => return Err(SendError::TooLarge { bytes, max }),
        _ => {}
    }
    let mut bulk = lock(&inner.pool.bulk);
    let first = !bulk.contains_key(&node);
    let waiting = bulk.entry(node).or_default();
    let (queued, max) = (waiting.bytes, inner.limits.bulk_queue_bytes_max);
    if queued > 0 && queued + bytes > max {
        return Err(SendError::Full { queued, max });
    }
    waiting.bytes += bytes;
    waiting.frames.push(parts.to_vec());
    if first {
        tokio::spawn(open_bulk(inner.clone(), node, addr));
    }
    Ok(())
}

async fn open_bulk(inner: Arc<Inner>, node: u64, addr: SocketAddr) {
    let dialled = inner.dial(addr, Some(node), Class::Bulk).await;
    let waiting = lock(&inner.pool.bulk).remove(&node).unwrap_or_default();
    if let Ok(link) = dialled {
        for frame in waiting.frames {
            // Room for all of them is there; if the connection is gone again, they are lost with it.
            let _ = link.outbox.push(&frame);
        }
    }
}

pub(crate) async fn send_bulk_wait(inner: &Arc<Inner>, node: u64, parts: &[Bytes]) -> Result<(), SendError> {
    let length = parts.iter().map(Bytes::len).sum();
    let present = inner.table().link(node, Class::Bulk).cloned();
    let link = match present {
        Some(link) => link,
        None => {
            let addr = bulk_addr(inner, node)?;
            inner.dial(addr, Some(node), Class::Bulk).await.map_err(|_| SendError::NotConnected)?
        }
    };
    loop {
        link.outbox.room(length).await;
        match link.outbox.push(parts) {
            Err(SendError::Full { .. }) => {}
            other => return other,
        }
    }
}
