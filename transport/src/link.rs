//! The life of one greeted connection between agents: its writer, its reader, its datagrams, its side streams.
//! Never decides whether the connection may exist.

use std::sync::Arc;

use bytes::Bytes;
use quinn::{RecvStream, SendStream, VarInt};
use tokio::sync::oneshot;

use crate::dial::write_frame;
use crate::frame::{FrameError, FrameReader};
use crate::inner::Inner;
use crate::table::{Class, Link};
use crate::{Code, Event, ExchangeError, Reason, Refused, expiry};

/// The first byte of a stream besides the first one.
const EXCHANGE: u8 = 1;
const PROBE: u8 = 2;

/// Carries a connection until it ends, and takes it out of the table.
pub(crate) async fn live(inner: Arc<Inner>, link: Arc<Link>, send: SendStream, recv: FrameReader) {
    let writer = tokio::spawn(write(link.clone(), send));
    let side = tokio::spawn(side_streams(inner.clone(), link.clone()));
    let datagrams = tokio::spawn(datagrams(inner.clone(), link.clone()));
    let refused = tokio::select! {
        biased;
        refused = read(&inner, &link, recv) => refused,
        why = expiry::expired(&link.conn) => {
            inner.refused(link.info.remote, why.clone(), None);
            Some(why)
        }
    };
    if let Some(why) = &refused {
        link.end(why);
    }
    let reason = match (refused, link.conn.closed().await) {
        _ if link.fell_silent() => Reason::Silent,
        (Some(why), _) => Reason::Local(why),
        (None, error) => Reason::of(&error),
    };
    link.outbox.close();
    for task in [writer, side, datagrams] {
        task.abort();
    }
    inner.forget(&link, reason).await;
}

async fn write(link: Arc<Link>, mut send: SendStream) {
    // That the connection is lost `live` hears from the connection itself. A stream that the other side refuses to
    // read is of no use, and with it the connection.
    if let Err(quinn::WriteError::Stopped(_)) = link.outbox.write_to(&mut send).await {
        link.end(&Refused::new(Code::Malformed, "the stream of frames was stopped"));
    }
}

/// Hands frames to the caller until the stream ends; `Some` if the other side is at fault.
async fn read(inner: &Inner, link: &Link, mut recv: FrameReader) -> Option<Refused> {
    let node = link.info.node;
    loop {
        match recv.next().await {
            Ok(Some(frame)) => {
                let bytes = frame.bytes;
                let event = match link.class {
                    Class::Peer => Event::PeerFrame { node, bytes },
                    Class::Bulk => Event::BulkFrame { node, bytes },
                };
                if !inner.events.send(event, frame.share, || link.counts()).await {
                    return None;
                }
            }
            // The stream lives as long as the connection: its end is the other side's farewell.
            Ok(None) => return Some(Refused::new(Code::Ok, "the other side ended the stream of frames")),
            Err(FrameError::Reset(_)) => {
                return Some(Refused::new(Code::Malformed, "the stream of frames was given up"));
            }
            Err(error) => return error.verdict(),
        }
    }
}

async fn datagrams(inner: Arc<Inner>, link: Arc<Link>) {
    if link.class == Class::Bulk {
        return link.end(&no_datagrams(&link.conn).await);
    }
    while let Ok(bytes) = link.conn.read_datagram().await {
        if link.counts() {
            let node = link.info.node;
            inner.count_datagram(inner.events.offer(Event::Datagram { node, bytes }));
        }
    }
}

/// Datagrams belong to `quorate-peer/1`. Where nobody reads them they would fill a buffer of each connection.
pub(crate) async fn no_datagrams(conn: &quinn::Connection) -> Refused {
    match conn.read_datagram().await {
        Ok(_) => Refused::new(Code::Malformed, "a datagram on a protocol that has none"),
        // The end of the connection is somebody else's to report.
        Err(_) => std::future::pending().await,
    }
}

/// Answers the streams that the other side opens.
async fn side_streams(inner: Arc<Inner>, link: Arc<Link>) {
    while let Ok((send, recv)) = link.conn.accept_bi().await {
        // As many tasks as streams, which QUIC bounds.
        tokio::spawn(side_stream(inner.clone(), link.clone(), send, recv));
    }
}

async fn side_stream(inner: Arc<Inner>, link: Arc<Link>, mut send: SendStream, mut recv: RecvStream) {
    let mut kind = [0];
    let deadline = inner.limits.exchange_deadline;
    let begun = tokio::time::timeout(deadline, recv.read_exact(&mut kind)).await;
    let outcome = match (begun, kind) {
        (Ok(Ok(())), [PROBE]) => {
            // The connection may be gone, which answers the probe as well.
            let _ = send.write_all(&[PROBE]).await;
            Ok(())
        }
        (Ok(Ok(())), [EXCHANGE]) if link.class == Class::Peer => {
            let answer = answer(&inner, &link, &mut send, recv);
            tokio::time::timeout(deadline, answer).await.unwrap_or(Err(Code::Deadline))
        }
        _ => Err(Code::Malformed),
    };
    let ended = match outcome {
        Ok(()) => send.finish(),
        Err(code) => send.reset(code.var()),
    };
    // The stream may be gone with its connection.
    let _ = ended;
}

async fn answer(inner: &Inner, link: &Link, send: &mut SendStream, recv: RecvStream) -> Result<(), Code> {
    let mut reader = FrameReader::new(recv, inner.limits.exchange_bytes_max, inner.budget.clone());
    let request = match reader.next().await {
        Ok(Some(frame)) => frame,
        Ok(None) => return Err(Code::Malformed),
        Err(error) => return Err(error.verdict().map_or(Code::Malformed, |why| why.code)),
    };
    let (reply, answered) = oneshot::channel();
    let event = Event::Exchange { node: link.info.node, request: request.bytes, reply };
    if !inner.events.send(event, request.share, || link.counts()).await {
        return Err(Code::GoingAway);
    }
    let answer = answered.await.map_err(|_| Code::NotAdmitted)?;
    if answer.is_empty() || answer.len() > inner.limits.exchange_bytes_max {
        return Err(Code::FrameTooLarge);
    }
    write_frame(send, &answer).await.map_err(|_| Code::GoingAway)
}

/// Asks on a stream of its own.
pub(crate) async fn exchange(inner: &Inner, link: &Link, request: Bytes) -> Result<Bytes, ExchangeError> {
    let lost = |error: &quinn::ConnectionError| ExchangeError::Lost(Reason::of(error).to_string());
    let failed = |error: FrameError| match error {
        FrameError::Lost(error) => lost(&error),
        FrameError::Reset(code) => ExchangeError::Declined(Code::from_number(code.into_inner())),
        other => ExchangeError::Declined(other.verdict().map_or(Code::Malformed, |why| why.code)),
    };
    let (mut send, recv) = link.conn.open_bi().await.map_err(|e| lost(&e))?;
    let given_up = |_| failed(FrameError::Closed);
    send.write_chunk(Bytes::from_static(&[EXCHANGE])).await.map_err(given_up)?;
    write_frame(&mut send, &request).await.map_err(failed)?;
    // Nothing can be lost by a stream that is gone already: the answer below will say so.
    let _ = send.finish();
    let mut reader = FrameReader::new(recv, inner.limits.exchange_bytes_max, inner.budget.clone());
    match reader.next().await {
        Ok(Some(frame)) => Ok(frame.bytes),
        Ok(None) => Err(ExchangeError::Declined(Code::Malformed)),
        Err(error) => Err(failed(error)),
    }
}

/// Whether the process at the other end of `link` still answers.
pub(crate) async fn probe(inner: &Inner, link: &Link) -> bool {
    let asked = async {
        let (mut send, mut recv) = link.conn.open_bi().await.ok()?;
        send.write_all(&[PROBE]).await.ok()?;
        let mut answer = [0];
        recv.read_exact(&mut answer).await.ok()?;
        let _ = recv.stop(VarInt::from_u32(Code::Ok.number()));
        (answer == [PROBE]).then_some(())
    };
    tokio::time::timeout(inner.limits.probe_deadline, asked).await.ok().flatten().is_some()
}
