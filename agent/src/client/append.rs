//! Appending: a batch is encoded once and repeated only while it surely does not stand in the log.
//!
//! It never waits past the caller's deadline, and never calls an unknown outcome anything else.

use super::error::ClientError;
use super::{Client, answer_within, unexpected};
use crate::api::{Append, Appended};
use crate::limits::RECORD_BYTES_MAX_CEILING;
use crate::record::{Record, encode_batch};
use crate::wire::rpc::{Request, Response};
use bytes::Bytes;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::Instant;

impl Client {
    /// Appends records as one batch: all of them, in this order, at neighbouring offsets, or none. Answers when they
    /// are durable on a quorum.
    pub async fn append(&self, records: &[Record]) -> Result<Appended, ClientError> {
        self.append_within(records, self.shared.timeout).await
    }

    /// The same with another patience.
    pub async fn append_within(&self, records: &[Record], timeout: Duration) -> Result<Appended, ClientError> {
        let deadline = Instant::now() + timeout;
        let batch = encode(records, self.value_max(records).await)?;
        let frame = |id: u64, left: Duration| {
            let append =
                Append { timeout_ms: answer_within(left), hops: 0, on_behalf_of: "".into(), batch: batch.clone() };
            Request::Append(append).encode(id)
        };
        match self.request(frame, deadline, false).await? {
            Response::Appended(appended) if fits(&appended, records.len()) => Ok(appended),
            // It stands in the log, but where is not known.
            Response::Appended(_) => Err(ClientError::Unknown { why: "the answer does not fit the batch".into() }),
            _ => Err(unexpected("append")),
        }
    }

    /// The largest value the cluster takes. It is asked only if something is larger than what is known to be taken.
    async fn value_max(&self, records: &[Record]) -> usize {
        let known = self.shared.record_bytes_max.load(Ordering::Relaxed);
        let largest = records.iter().map(|r| r.value.len()).max().unwrap_or(0);
        if largest <= known || largest > RECORD_BYTES_MAX_CEILING {
            return known;
        }
        let Ok(status) = self.status().await else { return known };
        let said = usize::try_from(status.record_bytes_max).unwrap_or(known);
        self.shared.record_bytes_max.store(said, Ordering::Relaxed);
        said
    }
}

fn fits(appended: &Appended, records: usize) -> bool {
    appended.last.checked_sub(appended.first).is_some_and(|more| more + 1 == records as u64)
}

fn encode(records: &[Record], value_max: usize) -> Result<Bytes, ClientError> {
    let invalid = |why: String| ClientError::Invalid { why };
    for (i, record) in records.iter().enumerate() {
        record.check(value_max).map_err(|e| {
            let which = if records.len() > 1 { format!("record {} of the batch: ", i + 1) } else { String::new() };
            invalid(format!("{which}{e}"))
        })?;
    }
    encode_batch(records.iter()).map_err(|e| invalid(e.to_string()))
}
