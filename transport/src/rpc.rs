//! Clients: the streams they open, seen from both ends, and the dialling side as a small endpoint of its own.
//! Never retries, and never decides what a role may do.

use std::fmt;
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use quinn::{SendStream, VarInt, WriteError};
use quorate_certs::{Identity, Subject, Tls};

use crate::budget::{Budget, Share};
use crate::dial::{self, Credentials, Dialler};
use crate::frame::{FrameError, FrameReader};
use crate::outbox::COPY_BYTES_MAX;
use crate::{BindError, Code, DialError, Limits, Reason, Refused, hello, socket, tuning};

pub use crate::hello::RpcWelcome;

/// Frames of agents up to this length do not draw on a client's budget, in bytes.
const SMALL_BYTES: usize = 64 * 1024;

/// The ALPN of clients.
pub const ALPN: &[u8] = b"quorate-rpc/1";

/// Why a stream of a client ended early.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RpcError {
    /// The connection is gone.
    #[error("the connection ended: {0}")]
    Lost(Reason),
    /// The other side gave the stream up.
    #[error("the other side gave the stream up ({0})")]
    Reset(Code),
    /// What came was no frame; the stream was given up.
    #[error("{0}")]
    Frame(Refused),
    /// A frame to send is empty or too long; nothing of it was sent.
    #[error("a frame of {bytes} bytes cannot be sent (1 to {max} are legal)")]
    Length {
        /// Its length.
        bytes: usize,
        /// The bound.
        max: usize,
    },
    /// The stream was closed on this side.
    #[error("the stream is closed")]
    Closed,
}

impl From<FrameError> for RpcError {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::Lost(error) => Self::Lost(Reason::of(&error)),
            FrameError::Reset(code) => Self::Reset(Code::from_number(code.into_inner())),
            other => other.verdict().map_or(Self::Closed, Self::Frame),
        }
    }
}

impl From<WriteError> for RpcError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::ConnectionLost(error) => Self::Lost(Reason::of(&error)),
            WriteError::Stopped(code) => Self::Reset(Code::from_number(code.into_inner())),
            WriteError::ClosedStream | WriteError::ZeroRttRejected => Self::Closed,
        }
    }
}

/// The receiving half of a stream.
#[derive(Debug)]
pub struct RpcRecv {
    reader: FrameReader,
    /// The share of the last frame: it counts until the next one is asked for, so that a slow caller slows its client.
    share: Option<Share>,
    /// Both halves count as one stream.
    place: Option<Arc<Share>>,
    /// The connection lives as long as one of its streams.
    _connection: quinn::Connection,
}

impl RpcRecv {
    /// The next frame; `None` when the other side finished. Cancel-safe. After an error the stream is of no use.
    pub async fn recv(&mut self) -> Result<Option<Bytes>, RpcError> {
        self.share = None;
        match self.reader.next().await {
            Ok(Some(frame)) => {
                self.share = frame.share;
                Ok(Some(frame.bytes))
            }
            Ok(None) => Ok(None),
            Err(error) => {
                if let Some(why) = error.verdict() {
                    self.reader.stop(why.code);
                }
                Err(error.into())
            }
        }
    }

    /// The next frame if it has arrived as a whole. An error is left for [`recv`](Self::recv) to tell.
    pub fn ready(&mut self) -> Option<Bytes> {
        self.reader.ready().map(|frame| frame.bytes)
    }

    /// Tells the other side that nothing more will be read.
    pub fn stop(&mut self, code: Code) {
        self.reader.stop(code);
    }
}

/// The sending half of a stream. Dropped in the middle of a frame it resets the stream, so that a cut-off frame can
/// never look like the end of a conversation.
#[derive(Debug)]
pub struct RpcSend {
    stream: SendStream,
    /// What was accepted and not yet written; survives the cancellation of a `send`.
    pending: Vec<Bytes>,
    /// Headers and small parts that follow the last of `pending`.
    small: BytesMut,
    max: usize,
    place: Option<Arc<Share>>,
    _connection: quinn::Connection,
}

impl RpcSend {
    /// Sends one frame made of `parts`, waiting while the other side reads slowly. If it is cancelled, the rest of the
    /// frame goes out with the next `send`, [`flush`](Self::flush) or [`finish`](Self::finish).
    pub async fn send(&mut self, parts: Vec<Bytes>) -> Result<(), RpcError> {
        self.queue(parts)?;
        self.flush().await
    }

    /// Takes one frame for the next [`flush`](Self::flush), so that several frames can leave in one packet.
    pub fn queue(&mut self, parts: Vec<Bytes>) -> Result<(), RpcError> {
        let bytes: usize = parts.iter().map(Bytes::len).sum();
        let header = match u32::try_from(bytes) {
            Ok(header) if bytes > 0 && bytes <= self.max => header,
            _ => return Err(RpcError::Length { bytes, max: self.max }),
        };
        self.small.put_u32(header);
        for part in parts {
            if part.len() < COPY_BYTES_MAX {
                self.small.extend_from_slice(&part);
            } else {
                self.seal();
                self.pending.push(part);
            }
        }
        Ok(())
    }

    /// The same for a short frame in one piece, which is copied.
    pub fn queue_copied(&mut self, frame: &[u8]) -> Result<(), RpcError> {
        let header = match u32::try_from(frame.len()) {
            Ok(header) if header > 0 && frame.len() <= self.max => header,
            _ => return Err(RpcError::Length { bytes: frame.len(), max: self.max }),
        };
        self.small.put_u32(header);
        self.small.extend_from_slice(frame);
        Ok(())
    }

    /// Closes the run of small parts, so that order is kept.
    fn seal(&mut self) {
        if !self.small.is_empty() {
            self.pending.push(self.small.split().freeze());
        }
    }

    /// Writes what was queued.
    pub async fn flush(&mut self) -> Result<(), RpcError> {
        self.seal();
        while !self.pending.is_empty() {
            // Either nothing was written and `pending` is as before, or it was shortened by what was written.
            let written = self.stream.write_chunks(&mut self.pending).await?;
            self.pending.drain(..written.chunks);
        }
        Ok(())
    }

    /// Ends the conversation in this direction; the other side reads all frames and then the end.
    pub async fn finish(&mut self) -> Result<(), RpcError> {
        self.flush().await?;
        self.stream.finish().map_err(|_| RpcError::Closed)
    }

    /// Gives the stream up; what was not yet acknowledged may be lost.
    pub fn reset(&mut self, code: Code) {
        self.pending.clear();
        self.small.clear();
        // The stream may have ended already, which is as good.
        let _ = self.stream.reset(code.var());
    }

    /// Waits until the other side stops reading or the connection ends: a server can notice that a reader left.
    pub async fn stopped(&mut self) {
        let _ = self.stream.stopped().await;
    }
}

impl Drop for RpcSend {
    fn drop(&mut self) {
        if !self.pending.is_empty() || !self.small.is_empty() {
            let _ = self.stream.reset(VarInt::from_u32(Code::GoingAway.number()));
        }
    }
}

/// A conversation of frames with one client, seen by the agent, or with an agent, seen by a client.
pub struct RpcStream {
    /// Who is at the other end, as its certificate proves.
    pub who: Subject,
    /// Its UDP address.
    pub remote: SocketAddr,
    /// Which connection of this process; streams of one connection share it.
    pub connection: u64,
    recv: RpcRecv,
    send: RpcSend,
}

impl fmt::Debug for RpcStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RpcStream")
            .field("who", &self.who)
            .field("remote", &self.remote)
            .field("connection", &self.connection)
            .finish_non_exhaustive()
    }
}

impl RpcStream {
    pub(crate) fn new(
        who: Subject,
        connection: u64,
        conn: quinn::Connection,
        (send, recv): (SendStream, quinn::RecvStream),
        max: usize,
        budget: Budget,
    ) -> Self {
        let remote = socket::canonical(conn.remote_address());
        let reader = FrameReader::new(recv, max, budget);
        let recv = RpcRecv { reader, share: None, place: None, _connection: conn.clone() };
        let (pending, small) = (Vec::new(), BytesMut::new());
        let send = RpcSend { stream: send, pending, small, max, place: None, _connection: conn };
        Self { who, remote, connection, recv, send }
    }

    /// Counts as a stream until both halves are dropped.
    pub(crate) fn holds(&mut self, place: Share) {
        let place = Arc::new(place);
        self.recv.place = Some(place.clone());
        self.send.place = Some(place);
    }

    /// The next frame; see [`RpcRecv::recv`].
    pub async fn recv(&mut self) -> Result<Option<Bytes>, RpcError> {
        self.recv.recv().await
    }

    /// Sends one frame; see [`RpcSend::send`].
    pub async fn send(&mut self, parts: Vec<Bytes>) -> Result<(), RpcError> {
        self.send.send(parts).await
    }

    /// Ends this direction; see [`RpcSend::finish`].
    pub async fn finish(&mut self) -> Result<(), RpcError> {
        self.send.finish().await
    }

    /// The two halves, for two tasks.
    pub fn split(self) -> (RpcRecv, RpcSend) {
        (self.recv, self.send)
    }
}

/// Dials agents as a client. Cheap to clone; the socket closes with the last clone and the last connection.
#[derive(Debug, Clone)]
pub struct RpcClient {
    pub(crate) dialler: Dialler,
    pub(crate) credentials: Credentials,
    pub(crate) version: Arc<str>,
    pub(crate) features: u64,
    pub(crate) limits: Arc<Limits>,
    pub(crate) budget: Budget,
    /// False where the port is an agent's, which a client of it must not close.
    pub(crate) owns_port: bool,
}

impl RpcClient {
    /// A client on a free UDP port of its own; must be called inside a tokio runtime.
    pub fn new(identity: &Identity, version: &str, features: u64, limits: Limits) -> Result<Self, BindError> {
        let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
        let udp = socket::bind(any)?;
        let runtime = quinn::default_runtime().ok_or(BindError::NoRuntime)?;
        // Nobody dials a client, so no secret of it need survive a restart.
        let mut config = quinn::EndpointConfig::default();
        tuning::shape(&mut config)?;
        let quinn =
            quinn::Endpoint::new(config, None, udp, runtime).map_err(|source| BindError::Io { addr: any, source })?;
        Ok(Self {
            dialler: Dialler::new(quinn, tuning::dialling_rpc(&limits)?),
            credentials: Credentials::new(Tls::new(identity)?, identity.not_before(), identity.not_after()),
            version: version.into(),
            features,
            budget: Budget::of_bytes(limits.received_bytes_max, SMALL_BYTES),
            limits: Arc::new(limits),
            owns_port: true,
        })
    }

    /// Dials one address once. Returns when the agent has accepted our certificate and said who it is.
    pub async fn connect(&self, addr: SocketAddr, deadline: Duration) -> Result<RpcConnection, DialError> {
        let opening = self.dialler.open(addr, &self.credentials, ALPN);
        dial::within(deadline, addr, opening, async |opened| self.greet(addr, opened).await).await
    }

    async fn greet(&self, addr: SocketAddr, opened: dial::Opened) -> Result<RpcConnection, DialError> {
        let conn = opened.conn.clone();
        let failed = |error: FrameError| opened.failed(addr, error);
        let (mut send, recv) = conn.open_bi().await.map_err(|e| failed(FrameError::Lost(e)))?;
        let max = self.limits.hello_bytes_max;
        let mut recv = FrameReader::new(recv, max, self.budget.clone());
        let refuse = |why: Refused| opened.refuse(addr, why);
        let frame = hello::rpc_hello(&self.version, self.features).map_err(refuse)?;
        dial::write_frame(&mut send, &frame).await.map_err(failed)?;
        let _ = send.finish();
        let answer = match recv.next().await {
            Ok(Some(frame)) => frame.bytes,
            Ok(None) => return Err(failed(FrameError::Truncated)),
            Err(error) => return Err(failed(error)),
        };
        let welcome = hello::open_rpc_welcome(&answer).map_err(refuse)?;
        let cluster = opened.subject.cluster.to_bytes();
        if welcome.name != opened.subject.name().as_str() || *welcome.cluster != cluster {
            return Err(refuse(Refused::new(
                Code::IdentityMismatch,
                "the name in the welcome is not the certificate's",
            )));
        }
        Ok(RpcConnection {
            conn,
            welcome,
            who: opened.subject,
            max: self.limits.rpc_frame_bytes_max,
            budget: self.budget.clone(),
        })
    }

    /// Closes all connections in good order and waits briefly until the other sides know. A client on an agent's port
    /// closes nothing: its connections end with their last handle, or with the agent.
    pub async fn close(&self) {
        if self.owns_port {
            self.dialler.close().await;
        }
    }
}

/// A connection to an agent.
#[derive(Debug, Clone)]
pub struct RpcConnection {
    conn: quinn::Connection,
    welcome: RpcWelcome,
    who: Subject,
    max: usize,
    budget: Budget,
}

impl RpcConnection {
    /// What the agent said about itself.
    pub fn welcome(&self) -> &RpcWelcome {
        &self.welcome
    }

    /// Who the agent is, as its certificate proves.
    pub fn who(&self) -> &Subject {
        &self.who
    }

    /// Begins a conversation; waits if as many are open as the agent allows. The agent hears of it with the first frame.
    pub async fn open(&self) -> Result<RpcStream, RpcError> {
        let streams = self.conn.open_bi().await.map_err(|e| RpcError::Lost(Reason::of(&e)))?;
        let id = self.conn.stable_id() as u64;
        Ok(RpcStream::new(self.who.clone(), id, self.conn.clone(), streams, self.max, self.budget.clone()))
    }

    /// Waits until the connection is gone, and says why.
    pub async fn closed(&self) -> Reason {
        Reason::of(&self.conn.closed().await)
    }

    /// Why the connection is gone, if it is.
    pub fn close_reason(&self) -> Option<Reason> {
        self.conn.close_reason().map(|error| Reason::of(&error))
    }

    /// The agent's UDP address.
    pub fn remote(&self) -> SocketAddr {
        socket::canonical(self.conn.remote_address())
    }

    /// The present round trip.
    pub fn rtt(&self) -> Duration {
        self.conn.rtt()
    }

    /// Closes the connection in good order.
    pub fn close(&self) {
        self.conn.close(Code::Ok.var(), b"");
    }
}
