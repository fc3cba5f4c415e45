//! Frames for a bulk connection that does not exist yet: it is dialled when the first one comes.
//! Never delays the peer connection, with which it shares neither window nor queue.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;

use crate::inner::Inner;
use crate::lock::lock;
use crate::table::{Class, Link};
use crate::{Event, SendError, connect};

/// Queues one frame; the first one dials.
pub(crate) fn send(inner: &Arc<Inner>, node: u64, parts: &[Bytes]) -> Result<(), SendError> {
    let mut waiting = lock(&inner.waiting);
    let first = !waiting.holds(node);
    // While something waits, everything waits behind it, so that the order is kept.
    if first && let Some(link) = inner.table().link(node, Class::Bulk) {
        return link.outbox.push(parts);
    }
    let addr = addr(inner, node)?;
    waiting.push(node, parts, &inner.limits)?;
    if first {
        tokio::spawn(open(inner.clone(), node, addr));
    }
    Ok(())
}

async fn open(inner: Arc<Inner>, node: u64, addr: SocketAddr) {
    let dialled = connect::dial(&inner, addr, Some(node), Class::Bulk).await;
    if queued(&inner, node, dialled.ok().as_deref()) {
        return;
    }
    let lost = Event::FramesLost { node, bulk: true };
    // A peer that is gone as a whole was, or will be, said to be down.
    inner.events.send(lost, None, || inner.table().link(node, Class::Peer).is_some()).await;
}

/// Queues what waited for `node`; false if something of it was lost.
fn queued(inner: &Inner, node: u64, link: Option<&Link>) -> bool {
    // Held until all is queued, so that no later frame comes first.
    let mut waiting = lock(&inner.waiting);
    let frames = waiting.take(node);
    let Some(link) = link else { return frames.is_empty() };
    // The waiting list has the bound of the queue; if the connection is gone again, they are lost with it.
    let lost = frames.iter().filter(|frame| link.outbox.push(frame).is_err()).count();
    lost == 0
}

/// Connects if need be, waits for room, and queues one frame.
pub(crate) async fn send_wait(inner: &Arc<Inner>, node: u64, parts: &[Bytes]) -> Result<(), SendError> {
    let length = parts.iter().map(Bytes::len).sum();
    let present = inner.table().link(node, Class::Bulk).cloned();
    let link = match present {
        Some(link) => link,
        None => {
            let addr = addr(inner, node)?;
            connect::dial(inner, addr, Some(node), Class::Bulk).await.map_err(|_| SendError::NotConnected)?
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

/// Where to dial a peer: where we dialled it, where it is kept, or where its packets come from.
fn addr(inner: &Inner, node: u64) -> Result<SocketAddr, SendError> {
    let kept = inner.kept.addr(node);
    let table = inner.table();
    let info = &table.link(node, Class::Peer).ok_or(SendError::NotConnected)?.info;
    Ok(if info.dialled { info.remote } else { kept.unwrap_or(info.remote) })
}
