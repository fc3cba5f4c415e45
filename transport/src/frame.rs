//! Frames on a QUIC stream: a `u32` length, big endian, and that many bytes; a length of 0 is not legal.
//! Never allocates by what a length promises, only by what has arrived.

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use quinn::{ConnectionError, ReadError, RecvStream, VarInt};
use tokio::time::{Instant, timeout_at};

use crate::budget::{Budget, Share};
use crate::{Code, Refused};

/// Bytes of the length before each frame.
pub(crate) const HEADER_BYTES: usize = 4;
/// The time for a frame to arrive once its first byte came, besides the time its length allows.
const BODY_DEADLINE: Duration = Duration::from_secs(2);
/// The slowest arrival that is tolerated, in bytes a second.
const BODY_BYTES_PER_SECOND: u64 = 1024 * 1024;

/// Why no frame came.
#[derive(Debug)]
pub(crate) enum FrameError {
    /// Longer than the limit of its class.
    TooLarge { bytes: usize, max: usize },
    /// A length of 0.
    Empty,
    /// The stream ended within a frame.
    Truncated,
    /// The frame did not arrive in time.
    Deadline,
    /// The stream was given up by the other side, with this code.
    Reset(VarInt),
    /// The connection is gone.
    Lost(ConnectionError),
    /// The stream was closed on this side.
    Closed,
}

impl FrameError {
    /// What to close with; `None` if the fault is not in the bytes.
    pub(crate) fn verdict(&self) -> Option<Refused> {
        match self {
            Self::TooLarge { bytes, max } => {
                Some(Refused::new(Code::FrameTooLarge, format!("a frame of {bytes} bytes exceeds the limit of {max}")))
            }
            Self::Empty => Some(Refused::new(Code::Malformed, "a frame of no bytes")),
            Self::Truncated => Some(Refused::new(Code::Malformed, "the stream ended within a frame")),
            Self::Deadline => Some(Refused::new(Code::Deadline, "a frame did not arrive in time")),
            Self::Reset(_) | Self::Lost(_) | Self::Closed => None,
        }
    }
}

impl From<ReadError> for FrameError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Reset(code) => Self::Reset(code),
            ReadError::ConnectionLost(error) => Self::Lost(error),
            ReadError::ClosedStream | ReadError::IllegalOrderedRead | ReadError::ZeroRttRejected => Self::Closed,
        }
    }
}

/// A frame and the share of the budget it holds while it waits.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) bytes: Bytes,
    pub(crate) share: Option<Share>,
}

/// The frame that is being put together.
#[derive(Debug, Default)]
pub(crate) struct Assembly {
    header: BytesMut,
    body: BytesMut,
    /// The length promised by the header, once that is whole.
    expected: Option<usize>,
}

impl Assembly {
    /// Takes bytes from `chunk` until a frame is whole or `chunk` is empty. Pure, so that it can be fuzzed.
    ///
    /// The body is copied once: a slice of the received packet would keep a whole batch of packets alive.
    pub(crate) fn feed(&mut self, chunk: &mut Bytes, max: usize) -> Result<Option<Bytes>, FrameError> {
        let expected = match self.expected {
            Some(expected) => expected,
            None => match self.length(chunk, max)? {
                Some(length) => length,
                None => return Ok(None),
            },
        };
        let take = chunk.len().min(expected - self.body.len());
        if take > 0 {
            // Room for what is here, and at most as much again: the buffer follows the bytes, not the promise.
            let ahead = (expected - self.body.len()).min(take.max(self.body.len()));
            self.body.reserve(ahead);
            self.body.extend_from_slice(&chunk[..take]);
            chunk.advance(take);
        }
        if self.body.len() < expected {
            return Ok(None);
        }
        self.expected = None;
        Ok(Some(std::mem::take(&mut self.body).freeze()))
    }

    /// Reads the header from what is here.
    fn length(&mut self, chunk: &mut Bytes, max: usize) -> Result<Option<usize>, FrameError> {
        let take = chunk.len().min(HEADER_BYTES - self.header.len());
        self.header.extend_from_slice(&chunk[..take]);
        chunk.advance(take);
        if self.header.len() < HEADER_BYTES {
            return Ok(None);
        }
        let length = self.header.get_u32() as usize;
        self.header.clear();
        if length == 0 {
            return Err(FrameError::Empty);
        }
        if length > max {
            return Err(FrameError::TooLarge { bytes: length, max });
        }
        self.expected = Some(length);
        Ok(Some(length))
    }

    /// The length of the frame whose header is here and whose body is not.
    fn pending(&self) -> Option<usize> {
        self.expected
    }

    /// Does `chunk` begin with a whole legal frame?
    fn is_whole(&self, chunk: &Bytes, max: usize) -> bool {
        let Some((header, body)) = chunk.split_first_chunk::<HEADER_BYTES>() else { return false };
        let length = u32::from_be_bytes(*header) as usize;
        (1..=max).contains(&length) && length <= body.len()
    }

    fn begun(&self) -> bool {
        self.expected.is_some() || !self.header.is_empty()
    }
}

/// Reads frames from a stream. Cancel-safe: what has arrived stays here.
#[derive(Debug)]
pub(crate) struct FrameReader {
    stream: RecvStream,
    max: usize,
    budget: Budget,
    chunk: Bytes,
    assembly: Assembly,
    share: Option<Share>,
    /// When the first byte of the present frame came.
    begun: Option<Instant>,
}

impl FrameReader {
    pub(crate) fn new(stream: RecvStream, max: usize, budget: Budget) -> Self {
        Self { stream, max, budget, chunk: Bytes::new(), assembly: Assembly::default(), share: None, begun: None }
    }

    /// The same stream with another limit: a greeting is smaller than what follows it.
    pub(crate) fn with_max(mut self, max: usize) -> Self {
        self.max = max;
        self
    }

    /// The next frame; `None` at the end of the stream.
    pub(crate) async fn next(&mut self) -> Result<Option<Frame>, FrameError> {
        loop {
            if !self.chunk.is_empty()
                && let Some(bytes) = self.assembly.feed(&mut self.chunk, self.max)?
            {
                self.begun = None;
                return Ok(Some(Frame { bytes, share: self.share.take() }));
            }
            if !self.chunk.is_empty() {
                continue;
            }
            if !self.assembly.begun() {
                match self.stream.read_chunk(usize::MAX, true).await? {
                    Some(chunk) => self.chunk = chunk.bytes,
                    None => return Ok(None),
                }
                continue;
            }
            self.more().await?;
        }
    }

    /// The next frame if all of it is here. What is no frame is left for [`next`](Self::next) to find again.
    pub(crate) fn ready(&mut self) -> Option<Frame> {
        if self.assembly.begun() || !self.assembly.is_whole(&self.chunk, self.max) {
            return None;
        }
        let bytes = self.assembly.feed(&mut self.chunk, self.max).ok().flatten()?;
        Some(Frame { bytes, share: self.share.take() })
    }

    /// Waits for more bytes of a frame that has begun, within its budget and its deadline.
    async fn more(&mut self) -> Result<(), FrameError> {
        let pending = self.assembly.pending().unwrap_or(0);
        let allowed = BODY_DEADLINE + Duration::from_millis(pending as u64 * 1000 / BODY_BYTES_PER_SECOND);
        let deadline = *self.begun.get_or_insert_with(Instant::now) + allowed;
        let late = |_| FrameError::Deadline;
        // A long frame takes its share before its body is read.
        if pending > self.budget.small_bytes && self.share.is_none() {
            let share = timeout_at(deadline, self.budget.take(pending)).await.map_err(late)?;
            self.share = Some(share.ok_or(FrameError::Closed)?);
        }
        match timeout_at(deadline, self.stream.read_chunk(usize::MAX, true)).await.map_err(late)?? {
            Some(chunk) => self.chunk = chunk.bytes,
            None => return Err(FrameError::Truncated),
        }
        Ok(())
    }

    pub(crate) fn stop(&mut self, code: Code) {
        // The stream may have ended already, which is as good.
        let _ = self.stream.stop(code.var());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: usize = 1_000;

    fn framed(body: &[u8]) -> Bytes {
        let mut bytes = BytesMut::new();
        bytes.extend_from_slice(&u32::try_from(body.len()).unwrap().to_be_bytes());
        bytes.extend_from_slice(body);
        bytes.freeze()
    }

    /// Frames come out whole however the network cut them.
    #[test]
    fn any_cut_gives_the_same_frames() {
        let bodies: [&[u8]; 3] = [b"a", &[7; MAX], b"last"];
        let whole: Vec<u8> = bodies.iter().flat_map(|body| framed(body)).collect();
        for size in 1..=whole.len() {
            let mut assembly = Assembly::default();
            let mut got = Vec::new();
            for piece in whole.chunks(size) {
                let mut chunk = Bytes::copy_from_slice(piece);
                while !chunk.is_empty() {
                    got.extend(assembly.feed(&mut chunk, MAX).unwrap());
                }
            }
            assert_eq!(got, bodies);
            assert!(!assembly.begun());
        }
    }

    #[test]
    fn the_limit_passes_and_one_byte_more_does_not() {
        let mut assembly = Assembly::default();
        assert!(assembly.feed(&mut framed(&[1; MAX]), MAX).unwrap().is_some());
        let over = assembly.feed(&mut framed(&[1; MAX + 1]), MAX);
        assert!(matches!(over, Err(FrameError::TooLarge { bytes, max: MAX }) if bytes == MAX + 1));
        assert!(matches!(Assembly::default().feed(&mut framed(b""), MAX), Err(FrameError::Empty)));
    }

    /// A length alone costs nothing: memory follows the bytes.
    #[test]
    fn a_promise_allocates_nothing() {
        let mut assembly = Assembly::default();
        let mut header = Bytes::copy_from_slice(&8_000_000_u32.to_be_bytes());
        assert!(assembly.feed(&mut header, 8_000_000).unwrap().is_none());
        assert!(assembly.body.capacity() < 1_024);
        assert!(assembly.feed(&mut Bytes::from_static(b"abc"), 8_000_000).unwrap().is_none());
        assert!(assembly.body.capacity() < 1_024);
    }

    /// A second; `QUORATE_FUZZ_SECONDS` makes it longer.
    fn fuzz_time() -> std::time::Duration {
        let seconds = std::env::var("QUORATE_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok());
        std::time::Duration::from_secs(seconds.unwrap_or(1))
    }

    #[test]
    fn no_bytes_make_the_reader_panic() {
        bolero::check!().with_test_time(fuzz_time()).for_each(|bytes: &[u8]| {
            let mut assembly = Assembly::default();
            let mut chunk = Bytes::copy_from_slice(bytes);
            while !chunk.is_empty() {
                if assembly.feed(&mut chunk, MAX).is_err() {
                    break;
                }
                assert!(assembly.body.len() < MAX);
            }
        });
    }
}
