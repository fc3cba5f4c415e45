//! The queue in front of one stream: bounded in bytes, filled without waiting, drained in large batches.
//! Never drops part of a frame.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard};

use bytes::{BufMut, Bytes, BytesMut};
use quinn::{SendStream, WriteError};
use tokio::sync::Notify;

use crate::SendError;
use crate::frame::HEADER_BYTES;
use crate::lock::lock;

/// Parts shorter than this are copied together; longer ones travel as they are. In bytes.
pub(crate) const COPY_BYTES_MAX: usize = 2 * 1024;
/// The most that is handed to QUIC at once, in bytes; it bounds what is lost sight of by the queue's bound.
const BATCH_BYTES: usize = 1024 * 1024;

#[derive(Debug, Default)]
struct State {
    chunks: VecDeque<Bytes>,
    /// Headers and small parts that follow the last chunk.
    small: BytesMut,
    /// Bytes accepted and not yet written. They bound the number of chunks too: between two short ones lies a long one.
    bytes: usize,
    closed: bool,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Outbox {
    state: Mutex<State>,
    more: Notify,
    room: Notify,
    bytes_max: usize,
    frame_bytes_max: usize,
}

impl Outbox {
    pub(crate) fn new(bytes_max: usize, frame_bytes_max: usize) -> Self {
        let state = Mutex::default();
        Self { state, more: Notify::new(), room: Notify::new(), bytes_max, frame_bytes_max }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Queues one frame made of `parts`, or nothing of it.
    pub(crate) fn push(&self, parts: &[Bytes]) -> Result<(), SendError> {
        let length: usize = parts.iter().map(Bytes::len).sum();
        if length == 0 {
            return Err(SendError::Empty);
        }
        let header = match u32::try_from(length) {
            Ok(header) if length <= self.frame_bytes_max => header,
            _ => return Err(SendError::TooLarge { bytes: length, max: self.frame_bytes_max }),
        };
        let mut state = self.state();
        if state.closed {
            return Err(SendError::NotConnected);
        }
        let queued = state.bytes;
        // A queue with nothing in it takes any legal frame, so that the bound can never make one unsendable.
        if queued + length + HEADER_BYTES > self.bytes_max && queued > 0 {
            return Err(SendError::Full { queued, max: self.bytes_max });
        }
        state.bytes += length + HEADER_BYTES;
        state.small.put_u32(header);
        for part in parts {
            if part.len() < COPY_BYTES_MAX {
                state.small.extend_from_slice(part);
            } else {
                state.seal();
                state.chunks.push_back(part.clone());
            }
        }
        drop(state);
        self.more.notify_one();
        Ok(())
    }

    /// Waits until a frame of `length` bytes would fit, or the box is closed.
    pub(crate) async fn room(&self, length: usize) {
        loop {
            let notified = self.room.notified();
            {
                let state = self.state();
                let fits = state.bytes == 0 || state.bytes + length + HEADER_BYTES <= self.bytes_max;
                if state.closed || fits {
                    return;
                }
            }
            notified.await;
        }
    }

    /// Nothing more will be written.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        state.chunks.clear();
        state.small.clear();
        drop(state);
        self.more.notify_one();
        self.room.notify_waiters();
    }

    /// Writes what is queued to `stream` until the box is closed or the stream fails.
    pub(crate) async fn write_to(&self, stream: &mut SendStream) -> Result<(), WriteError> {
        let mut batch = Vec::new();
        loop {
            let notified = self.more.notified();
            let taken = match self.take(&mut batch) {
                Some(0) => {
                    notified.await;
                    continue;
                }
                Some(taken) => taken,
                None => return Ok(()),
            };
            stream.write_all_chunks(&mut batch).await?;
            self.written(taken);
        }
    }

    /// Moves up to a batch into `batch`; how many bytes, or `None` once closed.
    fn take(&self, batch: &mut Vec<Bytes>) -> Option<usize> {
        batch.clear();
        let mut state = self.state();
        if state.closed {
            return None;
        }
        state.seal();
        let mut taken = 0;
        while taken < BATCH_BYTES {
            let Some(chunk) = state.chunks.pop_front() else { break };
            taken += chunk.len();
            batch.push(chunk);
        }
        Some(taken)
    }

    fn written(&self, bytes: usize) {
        let mut state = self.state();
        assert!(state.bytes >= bytes, "more written than was queued");
        state.bytes -= bytes;
        drop(state);
        self.room.notify_waiters();
    }
}

impl State {
    /// Closes the run of small parts, so that order is kept.
    fn seal(&mut self) {
        if !self.small.is_empty() {
            let run = self.small.split().freeze();
            self.chunks.push_back(run);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drained(outbox: &Outbox) -> Vec<u8> {
        let mut batch = Vec::new();
        let taken = outbox.take(&mut batch).unwrap();
        outbox.written(taken);
        batch.concat()
    }

    #[test]
    fn parts_leave_as_one_frame_and_in_order() {
        let outbox = Outbox::new(1 << 20, 1 << 20);
        let large = Bytes::from(vec![9; COPY_BYTES_MAX]);
        outbox.push(&[Bytes::from_static(b"ab"), large.clone(), Bytes::from_static(b"c")]).unwrap();
        outbox.push(&[Bytes::from_static(b"next")]).unwrap();
        let mut expected = u32::try_from(large.len() + 3).unwrap().to_be_bytes().to_vec();
        expected.extend_from_slice(b"ab");
        expected.extend_from_slice(&large);
        expected.extend_from_slice(b"c\0\0\0\x04next");
        assert_eq!(drained(&outbox), expected);
    }

    #[test]
    fn a_full_queue_refuses_whole_frames_and_recovers() {
        let outbox = Outbox::new(100, 1_000);
        let frame = Bytes::from(vec![1; 46]);
        outbox.push(std::slice::from_ref(&frame)).unwrap();
        outbox.push(std::slice::from_ref(&frame)).unwrap();
        assert_eq!(outbox.push(&[Bytes::from_static(b"x")]), Err(SendError::Full { queued: 100, max: 100 }));
        assert_eq!(drained(&outbox).len(), 100);
        // Longer than the bound, shorter than the largest frame: passes alone.
        outbox.push(&[Bytes::from(vec![1; 1_000])]).unwrap();
        assert_eq!(outbox.push(&[Bytes::from(vec![1; 1_001])]), Err(SendError::TooLarge { bytes: 1_001, max: 1_000 }));
        assert_eq!(outbox.push(&[Bytes::new()]), Err(SendError::Empty));
        outbox.close();
        assert_eq!(outbox.push(&[frame]), Err(SendError::NotConnected));
    }
}
