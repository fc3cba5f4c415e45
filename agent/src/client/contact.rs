//! Finding an agent to speak with: names are resolved, every address is tried, the first that answers serves.
//!
//! It never speaks to an agent of another cluster: TLS refuses those.

use super::error::ClientError;
use crate::limits::shown;
use quorate_transport::DialError;
use quorate_transport::rpc::{RpcClient, RpcConnection};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};

/// How long one address has to answer before it is given up in this round.
const ATTEMPT: Duration = Duration::from_secs(3);
/// The next address is tried when the one before has been silent this long.
const STAGGER: Duration = Duration::from_millis(150);
/// Between two rounds over all addresses.
const PAUSE: Duration = Duration::from_millis(100);
/// Most socket addresses tried in one round.
const ADDRESSES_MAX: usize = 64;
/// Most failures that an error repeats.
const REASONS_MAX: usize = 4;

/// Tries `addrs` (`HOST:PORT`) in order, overlapping, round after round until `deadline`.
///
/// If every address refuses this identity it ends at once: waiting would not help.
pub(super) async fn contact(
    rpc: &RpcClient,
    addrs: &[String],
    deadline: Instant,
) -> Result<(String, RpcConnection), ClientError> {
    loop {
        let failures = match round(rpc, addrs, deadline).await {
            Ok(found) => return Ok(found),
            Err(failures) => failures,
        };
        let refused = !failures.is_empty() && failures.iter().all(|failure| failure.refused);
        let mut why: Vec<_> = failures.into_iter().map(|failure| failure.why).collect();
        why.dedup();
        why.truncate(REASONS_MAX);
        let why = why.join("; also ");
        if refused {
            return Err(ClientError::NotAuthorised { why });
        }
        if Instant::now() + PAUSE >= deadline {
            return Err(ClientError::Unreachable { why });
        }
        sleep(PAUSE).await;
    }
}

struct Failed {
    why: String,
    refused: bool,
}

async fn round(rpc: &RpcClient, addrs: &[String], deadline: Instant) -> Result<(String, RpcConnection), Vec<Failed>> {
    let mut failures = Vec::new();
    let mut queue = std::collections::VecDeque::new();
    for addr in addrs {
        match timeout_at(deadline, tokio::net::lookup_host(addr.as_str())).await {
            Ok(Ok(found)) => {
                let found: Vec<SocketAddr> = found.collect();
                queue.extend(found.into_iter().map(|socket| (addr.clone(), socket)));
            }
            Ok(Err(error)) => {
                failures.push(Failed { why: format!("{} does not resolve: {error}", shown(addr)), refused: false });
            }
            Err(_) => {
                failures.push(Failed { why: format!("{} does not resolve in time", shown(addr)), refused: false });
            }
        }
    }
    queue.truncate(ADDRESSES_MAX);
    let mut attempts = JoinSet::new();
    loop {
        if let Some((addr, socket)) = queue.pop_front() {
            let rpc = rpc.clone();
            let patience = deadline.saturating_duration_since(Instant::now()).min(ATTEMPT);
            attempts.spawn(async move { rpc.connect(socket, patience).await.map(|connection| (addr, connection)) });
        }
        let more = !queue.is_empty();
        tokio::select! {
            ended = attempts.join_next() => match ended {
                // Dropping the set ends the other attempts.
                Some(Ok(Ok(found))) => return Ok(found),
                Some(Ok(Err(error))) => failures.push(failed(&error)),
                Some(Err(error)) => failures.push(Failed { why: error.to_string(), refused: false }),
                None if more => {}
                None => return Err(failures),
            },
            () = sleep(STAGGER), if more => {}
        }
    }
}

fn failed(error: &DialError) -> Failed {
    use quorate_transport::Code;
    let refused = error.refusal().is_some()
        || matches!(
            error.code(),
            Some(
                Code::AuthRequired
                    | Code::Revoked
                    | Code::RoleForbidden
                    | Code::IdentityMismatch
                    | Code::ClusterMismatch
                    | Code::CertExpired
            )
        );
    // The errors of dialling end with a next step; the caller of a client gets one of its own.
    let text = error.to_string();
    let why = text.split_once("; ").map_or(text.as_str(), |(why, _)| why).to_owned();
    Failed { why, refused }
}
