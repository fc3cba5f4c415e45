//! The frames that wait until a bulk connection is dialled, by node id, within the bounds of its queue.
//! Never dials and never sends.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::frame::HEADER_BYTES;
use crate::{Limits, SendError};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Waiting(BTreeMap<u64, Queue>);

#[derive(Debug, Default)]
struct Queue {
    frames: Vec<Vec<Bytes>>,
    bytes: usize,
}

impl Waiting {
    /// Whether something waits for `node`.
    pub(crate) fn holds(&self, node: u64) -> bool {
        self.0.contains_key(&node)
    }

    /// Adds one frame for `node` behind the others.
    pub(crate) fn push(&mut self, node: u64, parts: &[Bytes], limits: &Limits) -> Result<(), SendError> {
        let (bytes, max) = (parts.iter().map(Bytes::len).sum::<usize>(), limits.bulk_frame_bytes_max);
        match bytes {
            0 => return Err(SendError::Empty),
            bytes if bytes > max => return Err(SendError::TooLarge { bytes, max }),
            _ => {}
        }
        let queue = self.0.entry(node).or_default();
        let (queued, max) = (queue.bytes, limits.bulk_queue_bytes_max);
        if queued > 0 && queued + bytes + HEADER_BYTES > max {
            return Err(SendError::Full { queued, max });
        }
        queue.bytes += bytes + HEADER_BYTES;
        queue.frames.push(parts.to_vec());
        Ok(())
    }

    /// Takes all that waits for `node`, in order.
    pub(crate) fn take(&mut self, node: u64) -> Vec<Vec<Bytes>> {
        self.0.remove(&node).unwrap_or_default().frames
    }
}
