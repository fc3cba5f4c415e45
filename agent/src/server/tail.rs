//! Tails: the log streamed to one reader, from any offset, at the reader's own pace.
//!
//! Only what the node has published as readable ever leaves; an agent without a log fetches from one that has it.

use super::context::{Asked, Context, One, Replies, stopped};
use crate::api::{Answer, Ask, Code, Effect, Failure, ReadLevel, Start, TailFrom};
use crate::node::{Published, What};
use crate::record;
use crate::wire::rpc::{Request, Response};
use bytes::{Bytes, BytesMut};
use quorate_raft::wal::{self, Entry};
use quorate_raft::{LogIndex, Wall};
use quorate_transport::rpc::RpcSend;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Bytes of one read, and about the size of one frame.
const FRAME_BYTES: usize = 256 << 10;
/// How long a linearizable read may wait for the leader.
const READ_PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at the disk for what is committed and not written here yet.
const DISK_PAUSE: Duration = Duration::from_millis(5);
/// How long a tail waits for an agent that has just started.
const SETTLE_PATIENCE: Duration = Duration::from_secs(5);
/// How long one replica may take to answer an agent without a log.
const PROXY_PATIENCE: Duration = Duration::from_secs(3);

fn failure(code: Code, what: impl Into<String>, hint: &str) -> Failure {
    Failure { code, effect: Effect::None, what: what.into(), hint: hint.into() }
}

/// Serves one tail until it ends, its reader goes, or the agent stops.
pub(super) async fn serve(id: u64, from: TailFrom, mut send: RpcSend, mut context: Context) {
    let mut stop = context.stop.clone();
    let mut published = context.published.clone();
    let ended = tokio::select! {
        ended = run(id, from, &mut send, &mut context) => ended,
        () = stopped(&mut stop) => Err(failure(Code::Unavailable, "this agent is stopping", "continue with another agent")),
        () = drained(&mut published) => Err(failure(Code::Unavailable, "this agent is drained", "continue with another agent")),
    };
    if let Err(failure) = ended {
        let _ = send.send(Response::Failed(failure).encode(id)).await;
    }
    let _ = send.finish().await;
}

/// Resolves when the readers of this agent are to go elsewhere.
async fn drained(published: &mut watch::Receiver<Arc<Published>>) {
    if published.wait_for(|published| published.drained).await.is_err() {
        // The node is gone, which the tail finds out by itself.
        std::future::pending::<()>().await;
    }
}

/// `Ok` also when the reader is gone: nobody is left to be told.
async fn run(id: u64, from: TailFrom, send: &mut RpcSend, context: &mut Context) -> Result<(), Failure> {
    if !context.published.borrow().has_log {
        return proxy(id, from, send, context).await;
    }
    settle(context).await?;
    let fresh = match from.read {
        ReadLevel::Committed => None,
        ReadLevel::Linear => Some(ask(context, Ask::Barrier).await?),
        ReadLevel::After(offset) => Some(ask(context, Ask::Await { next: offset.saturating_add(1) }).await?),
    };
    let end = context.published.borrow_and_update().readable.max(fresh.unwrap_or(0));
    let mut next = start(&from, end, context).await?;
    let until = match (from.until, from.follow) {
        (Some(until), true) => until,
        (Some(until), false) => until.min(end),
        (None, true) => u64::MAX,
        (None, false) => end,
    };
    while next < until {
        let published = Arc::clone(&context.published.borrow_and_update());
        if next >= published.readable {
            // Nothing new: wait. A node that is gone publishes nothing more.
            let mut news = context.published.clone();
            tokio::select! {
                changed = news.changed() => if changed.is_err() { return Ok(()) },
                // The reader has left; its place is somebody else's.
                () = send.stopped() => return Ok(()),
            }
            continue;
        }
        let Some((entries, after)) = read(context, next, until, &published).await? else {
            // Committed by others before it is on the disk of this agent: a matter of one write.
            tokio::select! {
                () = tokio::time::sleep(DISK_PAUSE) => continue,
                () = send.stopped() => return Ok(()),
            }
        };
        let wanted = select(&entries, next, &from);
        next = after;
        if !wanted.is_empty() {
            let response = Response::Entries { committed: published.readable, entries: wanted };
            if send.send(response.encode(id)).await.is_err() {
                return Ok(());
            }
        }
    }
    let _ = send.send(Response::End { next }.encode(id)).await;
    Ok(())
}

/// Waits until this agent knows what is committed: right after a start it does not, and an empty answer would be a lie.
async fn settle(context: &mut Context) -> Result<(), Failure> {
    let settled = context.published.wait_for(|p| p.current);
    match tokio::time::timeout(SETTLE_PATIENCE, settled).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(_)) => Err(failure(Code::Unavailable, "this agent is stopping", "continue with another agent")),
        Err(_) => {
            let what = "since its start this agent has heard no leader, so it cannot say what is committed";
            Err(failure(Code::NoQuorum, what, "retry when `quorate status` shows a leader, or ask another agent"))
        }
    }
}

/// Asks the node on behalf of this tail.
async fn ask(context: &Context, ask: Ask) -> Result<u64, Failure> {
    let (replies, mut answers) = Replies::new(None);
    let gone = || failure(Code::Unavailable, "this agent is stopping", "continue with another agent");
    let request = One { id: 0, patience: READ_PATIENCE, cost: 0, what: What::Ask(ask) };
    let asked = Asked { who: "tail".into(), replies, requests: vec![request] };
    context.requests.send(asked).await.map_err(|_| gone())?;
    match answers.recv().await.map(|reply| reply.response) {
        Some(Response::Answer(Answer::Readable { next })) => Ok(next),
        Some(Response::Failed(failure)) => Err(failure),
        _ => Err(gone()),
    }
}

/// The first offset to send.
async fn start(from: &TailFrom, end: u64, context: &Context) -> Result<u64, Failure> {
    let next = match from.start {
        Start::First => 0,
        Start::End => end,
        Start::Offset(offset) | Start::AfterFirst(offset) => offset,
        Start::BeforeEnd(back) => end.saturating_sub(back),
        Start::Time(time) => offset_at(context, Wall(time)).await?.unwrap_or(end),
    };
    if next > end && !from.follow {
        let what = format!("offset {next} does not exist yet; the next record will get {end}");
        return Err(failure(Code::NotFound, what, "use -f to wait for it"));
    }
    Ok(next)
}

async fn offset_at(context: &Context, time: Wall) -> Result<Option<u64>, Failure> {
    let offset = move |reader: &wal::Reader| {
        let Some(index) = reader.seek_time(time)? else { return Ok(None) };
        Ok(reader.header(index)?.map(|h| h.base_offset))
    };
    context.disk.query(offset).await.map_err(|e| unreadable(&e))
}

fn unreadable(error: &wal::Error) -> Failure {
    let code = if matches!(error, wal::Error::Corrupt { .. }) { Code::Corrupt } else { Code::Unavailable };
    failure(code, format!("the log of this agent cannot be read here: {error}"), "read from another agent")
}

/// The same, with the offsets that it costs: what lies before and behind them stays readable.
async fn damage(context: &Context, error: &wal::Error) -> Failure {
    let wal::Error::Corrupt { entries: Some((first, last)), file, offset, .. } = error else {
        return unreadable(error);
    };
    let (first, last) = (*first, *last);
    let around = move |reader: &wal::Reader| {
        let before = reader.header(first.prev()).ok().flatten().map_or(0, |header| header.next_offset());
        let behind = reader.header(last.next()).ok().flatten().map(|header| header.base_offset);
        Ok((before, behind))
    };
    let (before, behind) = context.disk.query(around).await.unwrap_or((0, None));
    let up_to = behind.map_or_else(|| "the end".to_owned(), |behind| behind.saturating_sub(1).to_string());
    let touches = |lost: &(LogIndex, LogIndex)| lost.0 <= last && first <= lost.1;
    if context.published.borrow().lost.iter().any(touches) {
        let what = format!("offsets {before} to {up_to} are lost: no member of this log can read them");
        let behind = behind.map_or_else(String::new, |behind| format!("go on behind them with -o {behind}; "));
        let hint = format!("{behind}restore a member from a backup, or give them up with `quorate recover`");
        return failure(Code::Corrupt, what, &hint);
    }
    let what = format!("offsets {before} to {up_to} cannot be read at this agent ({file} is damaged at byte {offset})");
    let hint = match behind {
        Some(behind) => format!(
            "it is being repaired if another member has them: retry, read from another agent, or go on behind with -o {behind}"
        ),
        None => "it is being repaired if another member has them: retry, or read from another agent".to_owned(),
    };
    failure(Code::Corrupt, what, &hint)
}

/// Entries from the one that holds `next`, and the offset after them. Never beyond what is published; `None` if the
/// disk of this agent does not have them yet.
async fn read(
    context: &Context,
    next: u64,
    until: u64,
    published: &Published,
) -> Result<Option<(Vec<Entry>, u64)>, Failure> {
    let last = published.readable_index;
    let entries = move |reader: &wal::Reader| match reader.seek_offset(next)? {
        Some(index) => reader.read(index, last, FRAME_BYTES),
        None => Ok(Vec::new()),
    };
    let mut entries: Vec<Entry> = match context.disk.query(entries).await {
        Ok(entries) => entries,
        Err(error) => return Err(damage(context, &error).await),
    };
    entries.retain(|e| e.header().index <= last && e.header().base_offset < until);
    let after = entries.last().map_or(next, |e| e.header().next_offset()).min(published.readable);
    Ok((after > next).then_some((entries, after)))
}

/// The entries that hold something the reader wants, as they stand on disk.
fn select(entries: &[Entry], next: u64, from: &TailFrom) -> Bytes {
    let wanted = |e: &&Entry| e.header().next_offset() > next && e.header().count > 0 && matches(e, from);
    let mut out = BytesMut::new();
    for entry in entries.iter().filter(wanted) {
        out.extend_from_slice(entry.bytes());
    }
    out.freeze()
}

/// Does any record of this entry have the stream and the key asked for?
fn matches(entry: &Entry, from: &TailFrom) -> bool {
    if from.stream.is_none() && from.key.is_none() {
        return true;
    }
    let payload = entry.payload();
    let Ok(mut outlines) = record::outlines(&payload) else { return true };
    outlines.any(|outline| {
        let Ok(outline) = outline else { return true };
        let stream = from.stream.as_ref().is_none_or(|s| s == outline.stream);
        stream && from.key.as_ref().is_none_or(|k| outline.key().is_ok_and(|key| key == k))
    })
}

/// An agent outside Raft passes a tail through from one that holds the log.
async fn proxy(id: u64, mut from: TailFrom, send: &mut RpcSend, context: &mut Context) -> Result<(), Failure> {
    let no_log = || {
        failure(
            Code::Unavailable,
            "this agent does not hold the log, and none that does answers",
            "retry, or ask another agent",
        )
    };
    if from.hops > 0 {
        return Err(no_log());
    }
    from.hops = 1;
    let mut published = context.published.clone();
    let replicas = Arc::clone(&published.borrow().replicas);
    for addr in replicas.iter().copied() {
        let client = context.endpoint.rpc_client();
        let Ok(connection) = client.connect(addr, PROXY_PATIENCE).await else { continue };
        let Ok(mut upstream) = connection.open().await else { continue };
        if upstream.send(Request::Tail(from.clone()).encode(id)).await.is_err() {
            continue;
        }
        let mut passed = false;
        loop {
            let frame = tokio::select! {
                frame = upstream.recv() => frame,
                // A follower's silence is no sign; gossip knows of a dead agent long before its connection does.
                () = left_out(&mut published, addr) => break,
            };
            let Ok(Some(frame)) = frame else { break };
            passed = true;
            if send.send(vec![frame]).await.is_err() {
                return Ok(());
            }
        }
        // Once something was passed on, only the reader knows where to go on.
        if passed {
            return Ok(());
        }
    }
    Err(no_log())
}

/// Resolves when the log can no longer be read at `addr`, as far as this agent knows.
async fn left_out(published: &mut watch::Receiver<Arc<Published>>, addr: SocketAddr) {
    let _ = published.wait_for(|published| !published.replicas.contains(&addr)).await;
}
