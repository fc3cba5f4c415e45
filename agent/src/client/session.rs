//! One connection to one agent: requests go out in order on one long-lived stream, answers come back in any order.
//!
//! It never retries. What it knows better than anybody is whether a request has left this process.

use super::error::ClientError;
use crate::wire::rpc::Response;
use bytes::Bytes;
use quorate_transport::rpc::{RpcConnection, RpcRecv, RpcSend};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

/// Most requests waiting to be written; more wait with their callers.
const QUEUE_MAX: usize = 1_024;
/// Most frames that leave in one write.
const WRITE_FRAMES_MAX: usize = 64;
/// An agent that owes an answer and has been silent for this long is doubted: new requests go to another one.
const DOUBT: Duration = Duration::from_millis(400);

/// A request ready to go: its id and its frame in parts.
type Outgoing = (u64, Vec<Bytes>);

/// Why a request got no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum CallError {
    /// It never left this process.
    NotSent(String),
    /// It was sent, at least in part.
    Sent(String),
    /// The time is over; `sent` tells whether it has left.
    TimedOut { sent: bool },
}

struct Waiting {
    sent_at: Option<Instant>,
    answer: oneshot::Sender<Result<Response, CallError>>,
}

struct State {
    next_id: u64,
    waiting: BTreeMap<u64, Waiting>,
    last_heard: Instant,
    /// Why it is over.
    dead: Option<String>,
}

/// A connection in use.
pub(super) struct Session {
    connection: RpcConnection,
    state: Arc<Mutex<State>>,
    queue: mpsc::Sender<Outgoing>,
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    // Nothing panics while it holds the lock; if something did, the map is still whole.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Session {
    /// Opens the request stream and starts its two tasks.
    pub(super) async fn start(connection: RpcConnection) -> Result<Self, ClientError> {
        let stream = connection.open().await.map_err(|e| ClientError::Unreachable { why: e.to_string() })?;
        let (recv, send) = stream.split();
        let state = Arc::new(Mutex::new(State {
            next_id: 1,
            waiting: BTreeMap::new(),
            last_heard: Instant::now(),
            dead: None,
        }));
        let (queue, outgoing) = mpsc::channel(QUEUE_MAX);
        tokio::spawn(write(send, outgoing, state.clone()));
        tokio::spawn(read(recv, state.clone()));
        Ok(Self { connection, state, queue })
    }

    /// The connection, for streams of their own.
    pub(super) fn connection(&self) -> &RpcConnection {
        &self.connection
    }

    /// Can it take another request with hope of an answer?
    pub(super) fn is_good(&self) -> bool {
        let state = lock(&self.state);
        if state.dead.is_some() || self.connection.close_reason().is_some() {
            return false;
        }
        // Requests leave in the order of their ids: if the first one has not left, none that waits has.
        let oldest = state.waiting.first_key_value().and_then(|(_, waiting)| waiting.sent_at);
        oldest.is_none_or(|sent| sent.max(state.last_heard).elapsed() < DOUBT)
    }

    /// Sends what `frame` makes for its id, and waits for the answer until `deadline`.
    pub(super) async fn call(
        &self,
        frame: impl FnOnce(u64) -> Vec<Bytes>,
        deadline: Instant,
    ) -> Result<Response, CallError> {
        let (answer, answered) = oneshot::channel();
        // The place in the queue comes first, so that requests leave in the order of their ids.
        let place = match tokio::time::timeout_at(deadline, self.queue.reserve()).await {
            Err(_) => return Err(CallError::TimedOut { sent: false }),
            Ok(Err(_)) => return Err(CallError::NotSent(self.why_dead())),
            Ok(Ok(place)) => place,
        };
        let id = {
            let mut state = lock(&self.state);
            if let Some(why) = &state.dead {
                return Err(CallError::NotSent(why.clone()));
            }
            let id = state.next_id;
            state.next_id += 1;
            state.waiting.insert(id, Waiting { sent_at: None, answer });
            id
        };
        let _forget = Forget { state: &self.state, id };
        place.send((id, frame(id)));
        match tokio::time::timeout_at(deadline, answered).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(CallError::Sent(self.why_dead())),
            Err(_) => {
                let sent = lock(&self.state).waiting.remove(&id).is_none_or(|waiting| waiting.sent_at.is_some());
                Err(CallError::TimedOut { sent })
            }
        }
    }

    fn why_dead(&self) -> String {
        lock(&self.state).dead.clone().unwrap_or_else(|| "the connection ended".into())
    }
}

/// A caller that gives up must not leave its place behind: an unsent request of nobody is never sent.
struct Forget<'a> {
    state: &'a Mutex<State>,
    id: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        lock(self.state).waiting.remove(&self.id);
    }
}

fn end(state: &Mutex<State>, why: &str) {
    let waiting = {
        let mut state = lock(state);
        state.dead.get_or_insert_with(|| why.to_owned());
        std::mem::take(&mut state.waiting)
    };
    for Waiting { sent_at, answer } in waiting.into_values() {
        let error = match sent_at {
            Some(_) => CallError::Sent(why.to_owned()),
            None => CallError::NotSent(why.to_owned()),
        };
        let _ = answer.send(Err(error));
    }
}

async fn write(mut send: RpcSend, mut outgoing: mpsc::Receiver<Outgoing>, state: Arc<Mutex<State>>) {
    let mut batch = Vec::with_capacity(WRITE_FRAMES_MAX);
    while outgoing.recv_many(&mut batch, WRITE_FRAMES_MAX).await > 0 {
        for (id, frame) in batch.drain(..) {
            // From here on it counts as sent. One whose caller has given up is not sent at all.
            match lock(&state).waiting.get_mut(&id) {
                Some(waiting) => waiting.sent_at = Some(Instant::now()),
                None => continue,
            }
            if let Err(error) = send.queue(frame) {
                // Refused for its length: nothing of it went out.
                if let Some(waiting) = lock(&state).waiting.remove(&id) {
                    let _ = waiting.answer.send(Err(CallError::NotSent(error.to_string())));
                }
            }
        }
        if let Err(error) = send.flush().await {
            return end(&state, &error.to_string());
        }
    }
    // The session was dropped: nobody waits any more.
    let _ = send.finish().await;
}

async fn read(mut recv: RpcRecv, state: Arc<Mutex<State>>) {
    let why = loop {
        let frame = match recv.recv().await {
            Ok(Some(frame)) => frame,
            Ok(None) => break "the agent ended the conversation".to_owned(),
            Err(error) => break error.to_string(),
        };
        let Ok((id, response)) = Response::decode(frame) else {
            break "the agent sent a malformed answer".to_owned();
        };
        let waiting = {
            let mut state = lock(&state);
            state.last_heard = Instant::now();
            state.waiting.remove(&id)
        };
        if let Some(waiting) = waiting {
            let _ = waiting.answer.send(Ok(response));
        }
    };
    end(&state, &why);
}
