//! Client streams: frames to requests, answers to frames. Roles are checked here and nowhere later.
//!
//! It never decides what an answer is.

use super::context::{Asked, Context, Replier, stopped};
use super::tail;
use crate::api::{Ask, Code, Effect, Failure};
use crate::node::What;
use crate::wire::rpc::{Request, Response};
use quorate_certs::{Role, Subject};
use quorate_transport::rpc::{RpcRecv, RpcSend, RpcStream};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// Requests of one stream that may wait at once; a client that pipelines deeper waits in its own buffers.
const IN_FLIGHT_MAX: usize = 8192;
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
    let (out, answers) = mpsc::unbounded_channel();
    let writer = tokio::spawn(write_answers(send, answers));
    let room = Arc::new(Semaphore::new(IN_FLIGHT_MAX));
    let mut request = Some(Ok(first));
    while let Some(read) = request {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { break };
        match read {
            Ok((id, asked)) => {
                let reply = Replier::new(id, out.clone(), permit);
                match admit(who, asked) {
                    Ok((what, patience)) => {
                        let asked = Asked { who: who.to_string(), patience, what, reply };
                        if context.requests.send(asked).await.is_err() {
                            break;
                        }
                    }
                    Err(failure) => reply.send(Response::Failed(failure)),
                }
            }
            Err(failure) => {
                let _ = out.send((0, Response::Failed(failure), permit));
                break;
            }
        }
        request = tokio::select! {
            next = next(&mut recv) => next,
            _ = stopped(&mut context.stop) => None,
        };
    }
    // The writer ends when the last answer that is still owed has been sent.
    drop(out);
    let _ = writer.await;
}

async fn next(recv: &mut RpcRecv) -> Option<Result<(u64, Request), Failure>> {
    match recv.recv().await {
        Ok(Some(frame)) => Some(Request::decode(frame).map_err(|e| Failure {
            code: Code::Invalid,
            effect: Effect::NotApplied,
            what: e.to_string(),
            hint: "upgrade the older side; `quorate --version` shows which".into(),
        })),
        Ok(None) | Err(_) => None,
    }
}

async fn refuse(send: &mut RpcSend, failure: Failure) {
    let _ = send.send(Response::Failed(failure).encode(0)).await;
    let _ = send.finish().await;
}

async fn write_answers(mut send: RpcSend, mut answers: mpsc::UnboundedReceiver<(u64, Response, OwnedSemaphorePermit)>) {
    let mut ready = Vec::with_capacity(ANSWERS_TOGETHER);
    // Answers that are ready together leave together: one packet instead of one each.
    while answers.recv_many(&mut ready, ANSWERS_TOGETHER).await > 0 {
        for (id, response, _permit) in ready.drain(..) {
            if send.queue(response.encode(id)).is_err() {
                return;
            }
        }
        if send.flush().await.is_err() {
            return;
        }
    }
    let _ = send.finish().await;
}

/// What this role may ask: a table, and everything that is not in it is refused.
fn admit(who: &Subject, request: Request) -> Result<(What, Duration), Failure> {
    let (needs, what, patience) = match request {
        Request::Append(mut append) => {
            let patience = Duration::from_millis(append.timeout_ms.into());
            // The accepting agent vouches for the name that the certificate proves.
            append.hops = 0;
            append.on_behalf_of = who.name().to_string();
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
