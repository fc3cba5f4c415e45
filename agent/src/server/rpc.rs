//! Client streams: frames to requests, answers to frames. Roles are checked here and nowhere later.
//!
//! It never decides what an answer is.

use super::backlog::Purse;
use super::context::{Asked, Context, One, Replies, Reply, stopped};
use super::tail;
use crate::api::{Ask, Code, Effect, Failure};
use crate::node::What;
use crate::wire::rpc::{Request, Response};
use bytes::{Bytes, BytesMut};
use quorate_certs::{Role, Subject};
use quorate_transport::Code as Why;
use quorate_transport::rpc::{RpcRecv, RpcSend, RpcStream};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc};

/// Requests of one stream that may wait at once; a client that pipelines deeper waits in its own buffers.
const IN_FLIGHT_MAX: usize = 8192;
/// Requests read before the node hears of them.
const REQUESTS_TOGETHER: u32 = 64;
/// Answers written before the stream is flushed.
const ANSWERS_TOGETHER: usize = 256;
/// A client that takes none of its answers for this long has left them: the stream is given up.
const ANSWERS_PATIENCE: Duration = Duration::from_secs(30);
/// What a request costs besides its bytes, and an answer of the short kinds, in bytes.
const REQUEST_BYTES: usize = 1 << 10;
/// Room for the answer that lists the members, in bytes: a few hundred of them.
const MEMBERS_BYTES: usize = 64 << 10;
/// Room for the answer that tells all facts of several agents, in bytes.
const FACTS_BYTES: usize = 256 << 10;
/// Room for the answer that tells the status, in bytes.
const STATUS_BYTES: usize = 16 << 10;
/// Room for the answer of the autopilot, in bytes: every agent with its reasons, and the newest decisions.
const AUTOPILOT_BYTES: usize = 128 << 10;
/// Room for the answer that tells the tags of an agent, in bytes: all that one may have.
const TAGS_BYTES: usize = crate::limits::TAGS_BYTES_MAX + REQUEST_BYTES;
/// How long the agent works on a question whose asker named no deadline.
const ASK_PATIENCE: Duration = Duration::from_secs(60);

/// One request as it was read.
struct Read {
    /// As its asker named it.
    id: u64,
    /// What it holds of the backlog, in bytes.
    cost: usize,
    what: Request,
}

/// Serves one stream until its client ends it or the agent stops.
pub(super) async fn serve(stream: RpcStream, context: Context) {
    let who = stream.who.clone();
    let (mut recv, mut send) = stream.split();
    let first = match next(&mut recv).await {
        Some(Ok(first)) => first,
        Some(Err(failure)) => return refuse(&mut send, failure).await,
        None => return,
    };
    if let Read { id, what: Request::Tail(from), .. } = first {
        let Some(_place) = context.backlog.tail(&who) else { return refuse(&mut send, too_many_tails()).await };
        return tail::serve(id, from, send, context).await;
    }
    converse(&who, first, recv, send, context).await;
}

/// Pipelined requests: read here, answered in any order by a task of their own.
async fn converse(who: &Subject, first: Read, mut recv: RpcRecv, send: RpcSend, mut context: Context) {
    let purse = Arc::new(context.backlog.purse(who));
    let (replies, answers) = Replies::new(Some(purse.clone()));
    // What is in flight is taken from here by this task, and given back by the one that writes the answers.
    let room = Arc::new(Semaphore::new(IN_FLIGHT_MAX));
    let writer = tokio::spawn(write_answers(send, answers, room.clone(), purse));
    let name: Arc<str> = who.name().to_string().into();
    let shown: Arc<str> = who.to_string().into();
    let mut request = Some(Ok(first));
    while let Some(read) = request {
        let (mut requests, mut refused, mut broken) = (Vec::new(), Vec::new(), None);
        let mut read = Some(read);
        let (mut taken, mut cost) = (0, 0);
        // What came in one packet goes to the node together.
        while let Some(one) = read {
            match one {
                Ok(Read { id, cost: its, what }) => {
                    taken += 1;
                    cost += its;
                    match admit(who, &name, what) {
                        Ok((what, patience)) => requests.push(One { id, patience, cost: its, what }),
                        Err(failure) => refused.push((id, its, failure)),
                    }
                }
                Err(failure) => {
                    broken = Some(failure);
                    break;
                }
            }
            read = if taken < REQUESTS_TOGETHER { ready(&mut recv) } else { None };
        }
        // While there is no room nothing more is read: the client waits in its own buffers.
        if !replies.room(cost).await {
            break;
        }
        let Ok(permits) = room.acquire_many(taken).await else { break };
        permits.forget();
        for (id, cost, failure) in refused {
            replies.send(id, cost, Response::Failed(failure));
        }
        let asked = Asked { who: shown.clone(), replies: replies.clone(), requests };
        if !asked.requests.is_empty() && context.requests.send(asked).await.is_err() {
            break;
        }
        if let Some(failure) = broken {
            replies.send(0, 0, Response::Failed(failure));
            break;
        }
        request = tokio::select! {
            next = next(&mut recv) => next,
            _ = stopped(&mut context.stop) => None,
        };
    }
    // The writer ends when the last answer that is still owed has been sent.
    drop(replies);
    let _ = writer.await;
}

async fn next(recv: &mut RpcRecv) -> Option<Result<Read, Failure>> {
    match recv.recv().await {
        Ok(Some(frame)) => Some(decode(frame)),
        Ok(None) | Err(_) => None,
    }
}

/// The next request if it is here already. An error is found again by [`next`].
fn ready(recv: &mut RpcRecv) -> Option<Result<Read, Failure>> {
    recv.ready().map(decode)
}

fn decode(frame: Bytes) -> Result<Read, Failure> {
    let bytes = frame.len();
    match Request::decode(frame) {
        Ok((id, what)) => Ok(Read { id, cost: bytes + answer_bytes(&what), what }),
        Err(e) => Err(Failure {
            code: Code::Invalid,
            effect: Effect::NotApplied,
            what: e.to_string(),
            hint: "upgrade the older side; `quorate --version` shows which".into(),
        }),
    }
}

/// Room for what a request leaves in memory besides its bytes, and for its answer.
fn answer_bytes(what: &Request) -> usize {
    match what {
        Request::Ask(Ask::Members) => MEMBERS_BYTES,
        Request::Ask(Ask::Status) => STATUS_BYTES,
        Request::Ask(Ask::Autopilot { .. }) => AUTOPILOT_BYTES,
        Request::Ask(Ask::Tags { .. }) => TAGS_BYTES,
        Request::Ask(Ask::Facts { .. }) => FACTS_BYTES,
        _ => REQUEST_BYTES,
    }
}

fn too_many_tails() -> Failure {
    Failure {
        code: Code::Busy,
        effect: Effect::None,
        what: "too many tails are open".into(),
        hint: "close one, or ask another agent".into(),
    }
}

async fn refuse(send: &mut RpcSend, failure: Failure) {
    let _ = send.send(Response::Failed(failure).encode(0)).await;
    let _ = send.finish().await;
}

async fn write_answers(
    mut send: RpcSend,
    mut answers: mpsc::UnboundedReceiver<Reply>,
    room: Arc<Semaphore>,
    purse: Arc<Purse>,
) {
    let mut ready = Vec::with_capacity(ANSWERS_TOGETHER);
    let mut small = BytesMut::new();
    // Answers that are ready together leave together: one packet instead of one each.
    while answers.recv_many(&mut ready, ANSWERS_TOGETHER).await > 0 {
        let (answered, mut paid) = (ready.len(), 0);
        for Reply { id, response, cost } in ready.drain(..) {
            paid += cost;
            small.clear();
            let queued = if response.put_small(id, &mut small) {
                send.queue_copied(&small)
            } else {
                send.queue(response.encode(id))
            };
            if queued.is_err() {
                return;
            }
        }
        match tokio::time::timeout(ANSWERS_PATIENCE, send.flush()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return,
            Err(_) => return send.reset(Why::Deadline),
        }
        room.add_permits(answered);
        purse.give(paid);
    }
    let _ = send.finish().await;
}

/// What this role may ask: a table, and everything that is not in it is refused.
fn admit(who: &Subject, name: &Arc<str>, request: Request) -> Result<(What, Duration), Failure> {
    let (needs, what, patience) = match request {
        Request::Append(mut append) => {
            let patience = Duration::from_millis(append.timeout_ms.into());
            // The accepting agent vouches for the name that the certificate proves.
            append.hops = 0;
            append.on_behalf_of = name.clone();
            (Role::Append, What::Append(append), patience)
        }
        Request::Ask(ask) => {
            let (needs, patience) = match ask {
                Ask::Members | Ask::Status | Ask::Barrier | Ask::Await { .. } | Ask::Facts { .. } => {
                    (Role::Read, ASK_PATIENCE)
                }
                Ask::Autopilot { ref ask, timeout_ms } => {
                    let needs = if ask.changes() { Role::Admin } else { Role::Read };
                    (needs, Duration::from_millis(timeout_ms.into()))
                }
                Ask::Tags { ref change, timeout_ms, .. } if change.is_empty() => {
                    (Role::Read, Duration::from_millis(timeout_ms.into()))
                }
                Ask::Leave { timeout_ms }
                | Ask::Transfer { timeout_ms, .. }
                | Ask::Forget { timeout_ms, .. }
                | Ask::Operate { timeout_ms, .. }
                | Ask::Tags { timeout_ms, .. } => (Role::Admin, Duration::from_millis(timeout_ms.into())),
            };
            (needs, What::Ask(ask), patience)
        }
        Request::Tail(_) => {
            return Err(Failure {
                code: Code::Invalid,
                effect: Effect::None,
                what: "a tail needs a stream of its own".into(),
                hint: String::new(),
            });
        }
    };
    if who.role() < needs {
        return Err(Failure {
            code: Code::NotAuthorised,
            effect: Effect::NotApplied,
            what: format!("{who} may not do this: it takes the role {needs}"),
            hint: format!("issue a certificate with `quorate certs issue client NAME --role {needs}`"),
        });
    }
    Ok((what, patience))
}
