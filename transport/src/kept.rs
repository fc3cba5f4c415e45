//! Which nodes this side keeps a connection to, where each is dialled, and what troubles it.
//! Never dials: that is the pool's business.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use crate::DialError;
use crate::lock::lock;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Kept(Mutex<BTreeMap<u64, Node>>);

#[derive(Debug)]
struct Node {
    addr: watch::Sender<SocketAddr>,
    came: Arc<Notify>,
    trouble: Arc<Mutex<Option<DialError>>>,
    task: JoinHandle<()>,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What the task of one kept node hears, and where it says its trouble.
#[derive(Debug)]
pub(crate) struct Orders {
    pub(crate) addr: watch::Receiver<SocketAddr>,
    /// The node was heard of: dial now.
    pub(crate) came: Arc<Notify>,
    pub(crate) trouble: Arc<Mutex<Option<DialError>>>,
}

impl Kept {
    /// Keeps `node` at `addr` from now on; `begin` starts its task, if it has none yet.
    pub(crate) fn keep(&self, node: u64, addr: SocketAddr, begin: impl FnOnce(Orders) -> JoinHandle<()>) {
        let mut kept = lock(&self.0);
        if let Some(present) = kept.get(&node) {
            present.addr.send_if_modified(|old| std::mem::replace(old, addr) != addr);
            return;
        }
        let (sender, addr) = watch::channel(addr);
        let came = Arc::new(Notify::new());
        let trouble = Arc::default();
        let task = begin(Orders { addr, came: came.clone(), trouble: Arc::clone(&trouble) });
        kept.insert(node, Node { addr: sender, came, trouble, task });
    }

    pub(crate) fn unkeep(&self, node: u64) {
        lock(&self.0).remove(&node);
    }

    pub(crate) fn trouble(&self, node: u64) -> Option<DialError> {
        let kept = lock(&self.0);
        lock(&kept.get(&node)?.trouble).clone()
    }

    /// A node has connected, in whichever direction: whoever waits to dial it need not wait.
    pub(crate) fn came(&self, node: u64) {
        if let Some(kept) = lock(&self.0).get(&node) {
            kept.came.notify_one();
        }
    }

    /// Keeps nobody any more.
    pub(crate) fn stop(&self) {
        lock(&self.0).clear();
    }

    /// Whether a kept node is dialled at this address.
    pub(crate) fn any_at(&self, ip: IpAddr) -> bool {
        lock(&self.0).values().any(|kept| kept.addr.borrow().ip().to_canonical() == ip)
    }

    /// Where a kept node is dialled.
    pub(crate) fn addr(&self, node: u64) -> Option<SocketAddr> {
        lock(&self.0).get(&node).map(|kept| *kept.addr.borrow())
    }
}
