//! Frames for a bulk connection that does not exist yet: it is dialled when the first one comes.
//! Never delays the peer connection, with which it shares neither window nor queue.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use crate::SendError;
use crate::endpoint::{Inner, lock};
use crate::frame::HEADER_BYTES;
use crate::table::Class;

/// What waits until a bulk connection is dialled, by node id.
#[derive(Debug, Default)]
pub(crate) struct Bulk(Mutex<BTreeMap<u64, Waiting>>);

#[derive(Debug, Default)]
struct Waiting {
    frames: Vec<Vec<Bytes>>,
    bytes: usize,
}

/// Queues one frame; the first one dials.
pub(crate) fn send(inner: &Arc<Inner>, node: u64, parts: &[Bytes]) -> Result<(), SendError> {
    let mut all = lock(&inner.bulk.0);
    // While something waits, everything waits behind it, so that the order is kept.
    if !all.contains_key(&node)
        && let Some(link) = inner.table().link(node, Class::Bulk)
    {
        return link.outbox.push(parts);
    }
    let addr = addr(inner, node)?;
    let (bytes, max) = (parts.iter().map(Bytes::len).sum::<usize>(), inner.limits.bulk_frame_bytes_max);
    match bytes {
        0 => return Err(SendError::Empty),
        bytes if bytes > max => return Err(SendError::TooLarge { bytes, max }),
        _ => {}
    }
    let first = !all.contains_key(&node);
    let waiting = all.entry(node).or_default();
    let (queued, max) = (waiting.bytes, inner.limits.bulk_queue_bytes_max);
    if queued > 0 && queued + bytes + HEADER_BYTES > max {
        return Err(SendError::Full { queued, max });
    }
    waiting.bytes += bytes + HEADER_BYTES;
    waiting.frames.push(parts.to_vec());
    if first {
        tokio::spawn(open(inner.clone(), node, addr));
    }
    Ok(())
}

async fn open(inner: Arc<Inner>, node: u64, addr: SocketAddr) {
    let dialled = inner.dial(addr, Some(node), Class::Bulk).await;
    let mut all = lock(&inner.bulk.0);
    let waiting = all.remove(&node).unwrap_or_default();
    if let Ok(link) = dialled {
        for frame in waiting.frames {
            // The waiting list has the bound of the queue; if the connection is gone again, they are lost with it.
            let _ = link.outbox.push(&frame);
        }
    }
}

/// Connects if need be, waits for room, and queues one frame.
pub(crate) async fn send_wait(inner: &Arc<Inner>, node: u64, parts: &[Bytes]) -> Result<(), SendError> {
    let length = parts.iter().map(Bytes::len).sum();
    let present = inner.table().link(node, Class::Bulk).cloned();
    let link = match present {
        Some(link) => link,
        None => {
            let addr = addr(inner, node)?;
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

/// Where to dial a peer: where we dialled it, where it is kept, or where its packets come from.
fn addr(inner: &Inner, node: u64) -> Result<SocketAddr, SendError> {
    let kept = inner.pool.addr(node);
    let table = inner.table();
    let info = &table.link(node, Class::Peer).ok_or(SendError::NotConnected)?.info;
    Ok(if info.dialled { info.remote } else { kept.unwrap_or(info.remote) })
}
