//! Client streams: frames to requests, answers to frames. Roles are checked here and nowhere later.
//!
//! It never decides what an answer is.

use super::context::{Asked, Context, One, Replies, stopped};
use super::tail;
use crate::api::{Ask, Code, Effect, Failure};
use crate::node::What;
use crate::wire::rpc::{Request, Response};
use bytes::{Bytes, BytesMut};
use quorate_certs::{Role, Subject};
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
/// How long the agent works on a question whose asker named no deadline.
const ASK_PATIENCE: Duration = Duration::from_secs(60);

/// Serves one stream until its client ends it or the agent stops.
pub(super) async fn serve(stream: RpcStream, context: Context) {
    let who = stream.who.clone();
    let (mut recv, mut send) = stream.split();
    let first = match next(&mut recv).await {
        Some(Ok(first)) => first,
        Some(Err(failure)) => return refuse(&mut send, failure).await,
        None => return,
    };
    if let (id, Request::Tail(from)) = first {
        return tail::serve(id, from, send, context).await;
    }
    converse(&who, first, recv, send, context).await;
}

/// Pipelined requests: read here, answered in any order by a task of their own.
async fn converse(who: &Subject, first: (u64, Request), mut recv: RpcRecv, send: RpcSend, mut context: Context) {
    let (replies, answers) = Replies::new();
    // What is in flight is taken from here by this task, and given back by the one that writes the answers.
    let room = Arc::new(Semaphore::new(IN_FLIGHT_MAX));
    let writer = tokio::spawn(write_answers(send, answers, room.clone()));
    let name: Arc<str> = who.name().to_string().into();
    let shown: Arc<str> = who.to_string().into();
    let mut request = Some(Ok(first));
    while let Some(read) = request {
        let (mut requests, mut broken) = (Vec::new(), None);
        let mut read = Some(read);
        let mut taken = 0;
        // What came in one packet goes to the node together.
        while let Some(one) = read {
            match one {
                Ok((id, asked)) => {
                    taken += 1;
                    match admit(who, &name, asked) {
                        Ok((what, patience)) => requests.push(One { id, patience, what }),
                        Err(failure) => replies.send(id, Response::Failed(failure)),
                    }
                }
                Err(failure) => {
                    broken = Some(failure);
                    break;
                }
            }
            read = if taken < REQUESTS_TOGETHER { ready(&mut recv) } else { None };
        }
        let Ok(permits) = room.acquire_many(taken).await else { break };
        permits.forget();
        let asked = Asked { who: shown.clone(), replies: replies.clone(), requests };
        if !asked.requests.is_empty() && context.requests.send(asked).await.is_err() {
            break;
        }
        if let Some(failure) = broken {
            replies.send(0, Response::Failed(failure));
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

async fn next(recv: &mut RpcRecv) -> Option<Result<(u64, Request), Failure>> {
    match recv.recv().await {
        Ok(Some(frame)) => Some(decode(frame)),
        Ok(None) | Err(_) => None,
    }
}

/// The next request if it is here already. An error is found again by [`next`].
fn ready(recv: &mut RpcRecv) -> Option<Result<(u64, Request), Failure>> {
    recv.ready().map(decode)
}

fn decode(frame: Bytes) -> Result<(u64, Request), Failure> {
    Request::decode(frame).map_err(|e| Failure {
        code: Code::Invalid,
        effect: Effect::NotApplied,
        what: e.to_string(),
        hint: "upgrade the older side; `quorate --version` shows which".into(),
    })
}

async fn refuse(send: &mut RpcSend, failure: Failure) {
    let _ = send.send(Response::Failed(failure).encode(0)).await;
    let _ = send.finish().await;
}

async fn write_answers(mut send: RpcSend, mut answers: mpsc::UnboundedReceiver<(u64, Response)>, room: Arc<Semaphore>) {
    let mut ready = Vec::with_capacity(ANSWERS_TOGETHER);
    let mut small = BytesMut::new();
    // Answers that are ready together leave together: one packet instead of one each.
    while answers.recv_many(&mut ready, ANSWERS_TOGETHER).await > 0 {
        let answered = ready.len();
        for (id, response) in ready.drain(..) {
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
        if send.flush().await.is_err() {
            return;
        }
        room.add_permits(answered);
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
                Ask::Members | Ask::Status | Ask::Barrier | Ask::Await { .. } => (Role::Read, ASK_PATIENCE),
                Ask::Leave { timeout_ms } => (Role::Admin, Duration::from_millis(timeout_ms.into())),
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
