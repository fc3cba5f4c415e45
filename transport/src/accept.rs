//! The accepting side: how many strangers may knock at one time, how long each has, and which protocol it may speak.
//! Never lets those who knock keep the others waiting: their handshakes are begun a few at a time.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::{HandshakeData, QuicServerConfig};
use quinn::{Connection, ConnectionError, Incoming};
use quorate_certs::{Refusal, Subject, Verdict};
use tokio::time::Instant;

use crate::admission::{Entry, Knock, Slot};
use crate::bucket::Bucket;
use crate::dial::{alert, peer_subject, write_frame};
use crate::frame::FrameReader;
use crate::greet::{self, gone, heard};
use crate::inner::Inner;
use crate::link::no_datagrams;
use crate::place::Place;
use crate::rpc::{self, RpcStream, RpcWelcome};
use crate::table::Class;
use crate::{Code, Event, Reason, Refused, connect, expiry, hello, socket, tuning};

/// First packets that are looked at before others get a turn: each costs some 10 to 200 us.
const TOGETHER_MAX: usize = 4;
/// First packets that are looked at in a second, and at once. The others wait in QUIC's queue, and where that is full they
/// are dropped before anything is computed for them; whoever means it sends again.
const LOOKS_PER_SECOND: u32 = 2_000;
const LOOKS_BURST: u32 = 256;
/// How long to wait when so many were looked at.
const LOOKS_PAUSE: Duration = Duration::from_millis(2);
/// Refusals that are answered in a second, and at once. Those without an answer come again when their own patience says so,
/// and not as fast as they are refused.
const ANSWERS_PER_SECOND: u32 = 64;
const ANSWERS_BURST: u32 = 256;

/// Our ALPNs in order of preference.
pub(crate) fn alpns() -> [&'static [u8]; 3] {
    [Class::Peer.alpn(), Class::Bulk.alpn(), rpc::ALPN]
}

/// Accepts until the endpoint is closed.
pub(crate) async fn accept(inner: Arc<Inner>) {
    let mut together = 0;
    let mut looks = Bucket::new(LOOKS_PER_SECOND, LOOKS_BURST, Instant::now());
    let mut answers = Bucket::new(ANSWERS_PER_SECOND, ANSWERS_BURST, Instant::now());
    while let Some(incoming) = inner.quinn.accept().await {
        admit(&inner, incoming, &mut answers);
        while !looks.take(Instant::now()) {
            tokio::time::sleep(LOOKS_PAUSE).await;
        }
        // A thousand first packets may be waiting; heartbeats must not wait for all of them.
        together += 1;
        if together == TOGETHER_MAX {
            together = 0;
            tokio::task::yield_now().await;
        }
    }
    if !inner.closing() {
        let why = "the QUIC endpoint stopped by itself (its socket or its driver failed)".to_owned();
        inner.events.send(Event::Broken { why }, None, || true).await;
    }
}

/// Decides about a first packet, without waiting.
fn admit(inner: &Arc<Inner>, incoming: Incoming, answers: &mut Bucket) {
    let from = incoming.remote_address();
    let mut refuse = |incoming: Incoming, why: Refused| {
        if answers.take(Instant::now()) {
            incoming.refuse()
        } else {
            incoming.ignore()
        }
        inner.refused(from, why, None);
    };
    if inner.quinn.open_connections() >= inner.limits.connections_max {
        return refuse(incoming, Refused::new(Code::Busy, "too many connections, try again in 1 s"));
    }
    let proven = incoming.remote_address_validated() || !incoming.may_retry();
    let knock = Knock { place: Place::of(from), proven, known: inner.knows(from.ip()) };
    match inner.admission.enter(Instant::now(), knock) {
        Entry::Slot(slot) => drop(tokio::spawn(handshake(inner.clone(), incoming, slot))),
        Entry::Prove => {
            inner.count_retry();
            // It fails only where `may_retry` said no.
            let _ = incoming.retry();
        }
        Entry::Refuse(why) => refuse(incoming, why),
    }
}

/// One handshake and greeting, each with its deadline; whoever fails is reported once.
async fn handshake(inner: Arc<Inner>, incoming: Incoming, mut slot: Slot) {
    let from = socket::canonical(incoming.remote_address());
    let verdict = Verdict::new();
    let deadline = inner.limits.handshake_deadline;
    let conn = match tokio::time::timeout(deadline, secure(&inner, incoming, &verdict)).await {
        Ok(Ok(conn)) => conn,
        Ok(Err((why, refusal))) => return inner.refused(from, why, refusal),
        Err(_) => return inner.refused(from, Refused::new(Code::Deadline, "the handshake took too long"), None),
    };
    let greeted = match slot.prove(Instant::now(), Place::of(from)) {
        Ok(()) => greet(&inner, &conn, slot).await,
        Err(why) => Err(why),
    };
    let Err(why) = greeted else { return };
    // Sends nothing if the other side closed already.
    conn.close(why.code.var(), why.wire());
    inner.refused(from, why, None);
}

/// TLS, with a configuration of its own so that the reason of a refusal belongs to this handshake.
async fn secure(
    inner: &Inner,
    incoming: Incoming,
    verdict: &Verdict,
) -> Result<Connection, (Refused, Option<Refusal>)> {
    let local = |why: String| (Refused::new(Code::Busy, why), None);
    let credentials = inner.credentials();
    let tls = credentials.tls.server(&alpns(), verdict).map_err(|e| local(e.to_string()))?;
    let crypto = QuicServerConfig::try_from(tls).map_err(|e| local(e.to_string()))?;
    let mut config = inner.server.clone();
    config.crypto = Arc::new(crypto);
    let failed = |error: ConnectionError| {
        let refusal = match &error {
            // We refused: the verifier noted why, or there was nothing to verify.
            ConnectionError::TransportError(error) => {
                verdict.refusal().or_else(|| alert(error.code.into()).map(Refusal::from_alert))
            }
            // The dialler refused us.
            ConnectionError::ConnectionClosed(close) => {
                alert(close.error_code.into()).map(|code| credentials.refusal(code))
            }
            _ => None,
        };
        let they_refused = matches!(error, ConnectionError::ConnectionClosed(_));
        let why = match &refusal {
            Some(refusal) if they_refused => {
                Refused::new(code_of(refusal), format!("the dialler does not trust us: {refusal}"))
            }
            Some(refusal) => Refused::new(code_of(refusal), refusal.to_string()),
            None => match Reason::of(&error) {
                Reason::Remote(why) => why,
                other => Refused::new(Code::GoingAway, other.to_string()),
            },
        };
        (why, refusal)
    };
    incoming.accept_with(Arc::new(config)).map_err(failed)?.await.map_err(failed)
}

/// The close code that says the same as a refusal in TLS.
fn code_of(refusal: &Refusal) -> Code {
    match refusal {
        Refusal::NoCertificate => Code::AuthRequired,
        Refusal::OtherAuthority | Refusal::OtherCluster { .. } => Code::ClusterMismatch,
        Refusal::Expired { .. } | Refusal::NotYetValid { .. } | Refusal::ClocksDiffer | Refusal::AuthorityDates(_) => {
            Code::CertExpired
        }
        Refusal::WrongRole => Code::RoleForbidden,
        Refusal::Revoked => Code::Revoked,
        Refusal::NoCommonProtocol => Code::Version,
        _ => Code::IdentityMismatch,
    }
}

/// The matrix of roles and protocols, and then the greeting of the protocol.
async fn greet(inner: &Arc<Inner>, conn: &Connection, slot: Slot) -> Result<(), Refused> {
    let data = conn.handshake_data().and_then(|data| data.downcast::<HandshakeData>().ok());
    let alpn = data.and_then(|data| data.protocol).unwrap_or_default();
    let subject = peer_subject(conn).ok_or(Refused::from(Code::AuthRequired))?;
    match Class::of(&alpn) {
        Some(_) if !subject.is_agent() => {
            Err(Refused::new(Code::RoleForbidden, "a client's certificate may only use quorate-rpc/1"))
        }
        Some(class) => {
            let seat = inner.agents.enter(&subject)?;
            let greeted = greet::accepted(inner, class, conn, &subject, seat).await?;
            drop(slot);
            connect::register(inner, greeted).await
        }
        None if alpn == rpc::ALPN => serve(inner, conn, subject, slot).await,
        None => Err(Refused::new(Code::Version, "no protocol in common")),
    }
}

/// A client's connection: Hello, Welcome, and then its streams until it goes.
async fn serve(inner: &Arc<Inner>, conn: &Connection, who: Subject, slot: Slot) -> Result<(), Refused> {
    let seat = inner.guests.enter(&who)?;
    let late = |_| Refused::new(Code::Deadline, "no greeting came in time");
    let greeting = async {
        let (mut send, recv) = conn.accept_bi().await.map_err(|e| gone(crate::frame::FrameError::Lost(e)))?;
        let mut recv = FrameReader::new(recv, inner.limits.hello_bytes_max, seat.frames.clone());
        hello::open_rpc_hello(&heard(&mut recv).await?)?;
        let welcome = hello::rpc_welcome(&welcome(inner, conn))?;
        write_frame(&mut send, &welcome).await.map_err(gone)?;
        send.finish().map_err(|_| Refused::from(Code::GoingAway))
    };
    tokio::time::timeout(inner.limits.hello_deadline, greeting).await.map_err(late)??;
    drop(slot);
    tuning::trust(conn, inner.limits.streams_max, seat.window);
    let id = inner.next_id();
    let streams = async {
        while let Ok(streams) = conn.accept_bi().await {
            let Some(place) = seat.streams.take(1).await else { break };
            let max = inner.limits.rpc_frame_bytes_max;
            let mut stream = RpcStream::new(who.clone(), id, conn.clone(), streams, max, seat.frames.clone());
            stream.holds(place);
            if !inner.events.stream(stream).await {
                return Err(Code::GoingAway.into());
            }
        }
        Ok(())
    };
    tokio::select! {
        ended = streams => ended,
        why = no_datagrams(conn) => Err(why),
        why = expiry::expired(conn) => Err(why),
    }
}

fn welcome(inner: &Inner, conn: &Connection) -> RpcWelcome {
    let said: SocketAddr = socket::canonical(conn.remote_address());
    let greeting = hello::greeting(&inner.local, inner.log_id(), inner.cluster, inner.port, said);
    RpcWelcome {
        min: greeting.min,
        max: greeting.max,
        version: greeting.version,
        features: greeting.features,
        cluster: greeting.cluster,
        name: greeting.name,
        node: inner.node(),
        boot_id: greeting.boot_id,
        log_id: greeting.log_id,
        observed: greeting.observed,
    }
}
