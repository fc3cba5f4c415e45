//! Reading the log: entries, checked, without a gap and without a duplicate, whichever agents come and go meanwhile.
//!
//! It never believes an agent about bytes: every entry's checksums are verified here, and its place is compared with
//! the entry before it.

use super::error::{ClientError, may_pass};
use super::{Client, of_failure};
use crate::api::{ReadLevel, Start, TailFrom};
use crate::record::{Stored, decode_batch};
use crate::wire::rpc::{Request, Response};
use quorate_raft::wal::{Entry, EntryHeader, EntryKind};
use quorate_transport::rpc::{RpcRecv, RpcSend};
use std::collections::VecDeque;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout, timeout_at};

/// Most entries in one frame; an agent sends far fewer.
const ENTRIES_PER_FRAME_MAX: usize = 65_536;
/// An agent that has followed the log for us this long without a word serves, although there is nothing to send: it
/// would have refused before.
const CALM: Duration = Duration::from_secs(10);
/// Between two attempts to continue.
const PAUSE: Duration = Duration::from_millis(50);

/// One record with its place in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Its offset.
    pub offset: u64,
    /// The term of its entry.
    pub term: u64,
    /// The log's time of its entry, microseconds since the Unix epoch.
    pub time: i64,
    /// Its Lamport time.
    pub lamport: u64,
    /// Its shard.
    pub shard: u32,
    /// The producer's session and the sequence number in it, if it was written in one.
    pub producer: Option<(u64, u64)>,
    /// The record.
    pub stored: Stored,
}

/// Entries from a place in the log on.
pub struct EntryTail {
    client: Client,
    from: TailFrom,
    /// The next offset that is wanted; `None` until the first entry tells.
    next: Option<u64>,
    /// The furthest committed end any agent has spoken of.
    committed: u64,
    last: Option<EntryHeader>,
    stream: Option<(RpcRecv, RpcSend)>,
    ready: VecDeque<Entry>,
    /// When the present trouble ends the tail; `None` while all is well.
    give_up_at: Option<Instant>,
    /// Told after what was read before it.
    failed: Option<ClientError>,
    ended: bool,
}

impl std::fmt::Debug for EntryTail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EntryTail").field("from", &self.from).field("next", &self.next).finish_non_exhaustive()
    }
}

/// What one frame, or its absence, means.
enum Step {
    /// A stream is open; nothing has come on it yet.
    Opened,
    More,
    Ended,
    Again(ClientError),
}

impl EntryTail {
    pub(super) fn new(client: Client, from: TailFrom) -> Self {
        Self {
            client,
            from,
            next: None,
            committed: 0,
            last: None,
            stream: None,
            ready: VecDeque::new(),
            give_up_at: None,
            failed: None,
            ended: false,
        }
    }

    /// Is there an entry at hand, so that [`next`](Self::next) answers without waiting?
    #[must_use]
    pub fn is_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// The first offset that is wanted; `None` before the log has told what `start` means.
    #[must_use]
    pub fn position(&self) -> Option<u64> {
        self.next
    }

    /// The next entry that holds records; `None` when the end is reached, and never after an error. Entries may hold
    /// records that were not asked for. Cancel-safe.
    pub async fn next(&mut self) -> Option<Result<Entry, ClientError>> {
        loop {
            if let Some(entry) = self.ready.pop_front() {
                return Some(Ok(entry));
            }
            if let Some(error) = self.failed.take() {
                self.ended = true;
                return Some(Err(error));
            }
            if self.ended {
                return None;
            }
            // A following step may last for hours, so what is said afterwards is judged by a clock read afterwards.
            let patience = || Instant::now() + self.client.shared.timeout;
            match self.step(self.give_up_at.unwrap_or_else(patience)).await {
                // Only what came is progress: an agent that accepts and refuses in turn must not hold us for ever.
                Ok(Step::More) => self.give_up_at = None,
                Ok(Step::Opened) => {}
                Ok(Step::Ended) => self.ended = true,
                Ok(Step::Again(error)) => {
                    self.stream = None;
                    let patience = Instant::now() + self.client.shared.timeout;
                    if Instant::now() + PAUSE >= *self.give_up_at.get_or_insert(patience) {
                        self.failed = Some(error);
                    } else {
                        sleep(PAUSE).await;
                    }
                }
                Err(error) => self.failed = Some(error),
            }
        }
    }

    async fn step(&mut self, deadline: Instant) -> Result<Step, ClientError> {
        let recv = match &mut self.stream {
            Some((recv, _)) => recv,
            None => {
                return Ok(self.open(deadline).await?.map_or(Step::Opened, Step::Again));
            }
        };
        // Silence is no error while following: the connection's own idle timeout tells a dead agent. A reader who was
        // served before, and has now been left in peace for a while, is out of trouble.
        let received = if self.from.follow {
            let served = self.last.is_some() || self.from.read == ReadLevel::Committed;
            match (self.give_up_at, served) {
                (Some(_), true) => match timeout(CALM, recv.recv()).await {
                    Ok(received) => received,
                    Err(_) => {
                        self.give_up_at = None;
                        return Ok(Step::Opened);
                    }
                },
                _ => recv.recv().await,
            }
        } else {
            match timeout_at(deadline, recv.recv()).await {
                Ok(received) => received,
                Err(_) => return Err(ClientError::TimedOut { why: "the agent sent nothing in time".into() }),
            }
        };
        let frame = match received {
            Ok(Some(frame)) => frame,
            Ok(None) => return Ok(Step::Again(lost("the agent ended the tail"))),
            Err(error) => return Ok(Step::Again(lost(&error.to_string()))),
        };
        match Response::decode(frame) {
            Ok((_, Response::Entries { committed, entries })) => {
                self.committed = self.committed.max(committed);
                let entries = Entry::decode_many(entries, ENTRIES_PER_FRAME_MAX)
                    .map_err(|e| ClientError::Corrupt { why: format!("an entry after {}: {e}", self.place()) })?;
                for entry in entries {
                    self.take(entry)?;
                }
                Ok(Step::More)
            }
            Ok((_, Response::End { .. })) => Ok(Step::Ended),
            Ok((_, Response::Failed(failure))) if may_pass(failure.code) => {
                if failure.code == crate::api::Code::Unavailable
                    && let Ok(session) = self.client.shared.session(deadline).await
                {
                    self.client.shared.leave(&session).await;
                }
                Ok(Step::Again(of_failure(failure)))
            }
            Ok((_, Response::Failed(failure))) => Err(of_failure(failure)),
            Ok(_) => Err(ClientError::Protocol { why: "an answer that is no part of a tail".into() }),
            Err(error) => Err(ClientError::Protocol { why: error.to_string() }),
        }
    }

    /// Asks an agent to go on from here. A failure that may pass is a value, not an error.
    async fn open(&mut self, deadline: Instant) -> Result<Option<ClientError>, ClientError> {
        self.settle_start().await?;
        let session = self.client.shared.session(deadline).await?;
        let opened = timeout_at(deadline, session.connection().open()).await;
        let stream = match opened {
            Err(_) => return Ok(Some(lost("the agent allows no further stream"))),
            Ok(Err(error)) => return Ok(Some(lost(&error.to_string()))),
            Ok(Ok(stream)) => stream,
        };
        let (recv, mut send) = stream.split();
        let mut from = self.from.clone();
        if let Some(next) = self.next {
            from.start = Start::Offset(next);
            // The agent that takes over may know less than the one before; it must catch up before it says "end".
            if self.committed > 0 && !from.follow {
                from.read = ReadLevel::After(self.committed - 1);
            }
        }
        if let Err(error) = send.send(Request::Tail(from).encode(0)).await {
            return Ok(Some(lost(&error.to_string())));
        }
        self.stream = Some((recv, send));
        Ok(None)
    }

    /// Turns a start that is relative to the end into an offset, once: asked again later it would mean another place,
    /// and records between the two would be lost.
    async fn settle_start(&mut self) -> Result<(), ClientError> {
        if self.next.is_some() {
            return Ok(());
        }
        let relative = matches!(self.from.start, Start::End | Start::BeforeEnd(_) | Start::AfterFirst(_));
        if let Start::Offset(offset) = self.from.start {
            self.next = Some(offset);
        } else if relative {
            let status = self.client.status().await?;
            let end = match self.from.read {
                // An agent without a log of its own cannot know the end without asking.
                ReadLevel::Committed if status.raft == "none" => self.client.barrier().await?,
                ReadLevel::Committed => status.next,
                ReadLevel::Linear => self.client.barrier().await?,
                ReadLevel::After(offset) => self.client.wait_for(offset.saturating_add(1)).await?,
            };
            self.next = Some(match self.from.start {
                Start::BeforeEnd(n) => end.saturating_sub(n).max(status.first),
                Start::AfterFirst(n) => status.first.saturating_add(n),
                _ => end,
            });
            self.committed = self.committed.max(end);
        }
        Ok(())
    }

    /// Accepts an entry if it is the next one; drops it if all of it was seen before.
    fn take(&mut self, entry: Entry) -> Result<(), ClientError> {
        let header = *entry.header();
        if header.kind != EntryKind::Normal || header.count == 0 {
            return Ok(());
        }
        let next = self.next.unwrap_or(header.base_offset);
        if header.next_offset() <= next {
            return Ok(());
        }
        let filtered = self.from.stream.is_some() || self.from.key.is_some();
        if header.base_offset > next && !filtered {
            let why = format!("the agent went from offset {next} to {} without what lies between", header.base_offset);
            return Err(ClientError::Corrupt { why });
        }
        if let Some(last) = &self.last {
            let neighbours = last.index.0 + 1 == header.index.0;
            let ordered = last.seed == header.seed && last.index < header.index && last.term <= header.term;
            if !ordered || (neighbours && entry.follows(last).is_err()) {
                let why = format!("the entry at offset {} does not follow the one before it", header.base_offset);
                return Err(ClientError::Corrupt { why });
            }
        }
        self.next = Some(header.next_offset());
        self.last = Some(header);
        self.ready.push_back(entry);
        Ok(())
    }

    fn place(&self) -> String {
        self.next.map_or_else(|| "the start".into(), |next| format!("offset {next}"))
    }
}

fn lost(why: &str) -> ClientError {
    ClientError::Unreachable { why: why.to_owned() }
}

/// Records from a place in the log on.
#[derive(Debug)]
pub struct Tail {
    entries: EntryTail,
    /// The first offset that is still wanted, where `start` names one.
    floor: Option<u64>,
    ready: VecDeque<Item>,
}

impl Tail {
    pub(super) fn new(entries: EntryTail) -> Self {
        Self { entries, floor: None, ready: VecDeque::new() }
    }

    /// Is there a record at hand, so that [`next`](Self::next) answers without waiting?
    #[must_use]
    pub fn is_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// The next record that was asked for; `None` when the end is reached, and never after an error. Cancel-safe.
    pub async fn next(&mut self) -> Option<Result<Item, ClientError>> {
        loop {
            if let Some(item) = self.ready.pop_front() {
                return Some(Ok(item));
            }
            // Before the first entry the position is where the tail starts; later it is behind what was taken.
            if self.floor.is_none() && self.entries.next.is_none() {
                if let Err(error) = self.entries.settle_start().await {
                    self.entries.ended = true;
                    return Some(Err(error));
                }
                self.floor = Some(self.entries.next.unwrap_or(0));
            }
            let entry = match self.entries.next().await? {
                Ok(entry) => entry,
                Err(error) => return Some(Err(error)),
            };
            if let Err(error) = self.unpack(&entry) {
                self.entries.ended = true;
                self.entries.ready.clear();
                return Some(Err(error));
            }
        }
    }

    fn unpack(&mut self, entry: &Entry) -> Result<(), ClientError> {
        let header = *entry.header();
        let corrupt =
            |why: String| ClientError::Corrupt { why: format!("the entry at offset {}: {why}", header.base_offset) };
        let records = decode_batch(&entry.payload()).map_err(|e| corrupt(e.to_string()))?;
        if records.len() != header.count as usize {
            return Err(corrupt("its count of records is wrong".into()));
        }
        let from = &self.entries.from;
        let floor = self.floor.unwrap_or(0);
        let until = from.until.unwrap_or(u64::MAX);
        let last = u64::from(header.count) - 1;
        let producer = (header.session != 0).then_some((header.session, header.seq));
        for (i, stored) in (0_u64..).zip(records) {
            let offset = header.base_offset + i;
            let wanted = offset >= floor
                && offset < until
                && from.stream.as_ref().is_none_or(|stream| *stream == stored.record.stream)
                && from.key.as_ref().is_none_or(|key| *key == stored.record.key);
            if wanted {
                self.ready.push_back(Item {
                    offset,
                    term: header.term.0,
                    time: header.time.0,
                    // The header carries the clock of the entry's last record.
                    lamport: header.lamport.saturating_sub(last - i),
                    shard: header.shard,
                    producer,
                    stored,
                });
            }
        }
        Ok(())
    }
}
