//! One attempt to reach an address: QUIC, TLS, and what a failure of either means in words.
//! Never retries, and does not know what is said after the handshake.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ConnectionError, SendStream, TransportConfig, WriteError};
use quorate_certs::{Date, Refusal, Subject, Tls, Verdict};
use rustls_pki_types::CertificateDer;
use tokio::time::Instant;

use crate::frame::FrameError;
use crate::hello::PROTOCOL;
use crate::{Code, DialError, Reason, Refused, sanitize};

/// QUIC's own code for "no room for another handshake".
const CONNECTION_REFUSED: u64 = 0x02;
/// How long a closing endpoint waits until its last packets are out.
const LINGER: Duration = Duration::from_millis(500);

/// What a handshake needs of an identity.
#[derive(Debug, Clone)]
pub(crate) struct Credentials {
    pub(crate) tls: Tls,
    not_before: Date,
    not_after: Date,
}

impl Credentials {
    pub(crate) fn new(tls: Tls, not_before: Date, not_after: Date) -> Self {
        Self { tls, not_before, not_after }
    }

    /// What an alert of the other side says about our certificate.
    pub(crate) fn refusal(&self, alert: u8) -> Refusal {
        Refusal::of_ours(alert, self.not_before, self.not_after)
    }
}

/// A socket and the settings to dial with.
#[derive(Debug, Clone)]
pub(crate) struct Dialler {
    quinn: quinn::Endpoint,
    transport: Arc<TransportConfig>,
}

/// A connection whose TLS is done on this side, with what its failures are explained by.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) conn: quinn::Connection,
    pub(crate) subject: Subject,
    credentials: Credentials,
}

impl Dialler {
    pub(crate) fn new(quinn: quinn::Endpoint, transport: Arc<TransportConfig>) -> Self {
        Self { quinn, transport }
    }

    /// Dials `addr`. When this returns, the other side has *not* yet looked at our certificate.
    pub(crate) async fn open(
        &self,
        addr: SocketAddr,
        credentials: &Credentials,
        alpn: &[u8],
    ) -> Result<Opened, DialError> {
        let verdict = Verdict::new();
        let local = |why: String| DialError::Failed { addr, why };
        let tls = credentials.tls.client(alpn, &verdict).map_err(|e| local(e.to_string()))?;
        let crypto = QuicClientConfig::try_from(tls).map_err(|e| local(e.to_string()))?;
        let mut config = quinn::ClientConfig::new(Arc::new(crypto));
        config.transport_config(self.transport.clone());
        let started = Instant::now();
        let connecting =
            self.quinn.connect_with(config, addr, &credentials.tls.server_name()).map_err(|e| match e {
                quinn::ConnectError::EndpointStopping => DialError::Closing,
                quinn::ConnectError::InvalidRemoteAddress(_) => {
                    DialError::Address { addr, why: "the socket is of the other address family".to_owned() }
                }
                other => DialError::Address { addr, why: other.to_string() },
            })?;
        let conn = connecting.await.map_err(|e| {
            let waited = started.elapsed();
            explain(addr, &e, credentials, &verdict, waited)
        })?;
        // The verifier admitted it, so this can only fail if the certificate vanished between two lines.
        let subject = peer_subject(&conn).ok_or_else(|| local("the certificate cannot be read again".to_owned()))?;
        Ok(Opened { conn, subject, credentials: credentials.clone() })
    }

    /// Closes everything on the socket, and waits briefly until the other sides know.
    pub(crate) async fn close(&self) {
        self.quinn.close(Code::Ok.var(), b"");
        let _ = tokio::time::timeout(LINGER, self.quinn.wait_idle()).await;
    }
}

impl Opened {
    /// What it means that the greeting broke off.
    pub(crate) fn failed(&self, addr: SocketAddr, error: FrameError) -> DialError {
        let broken = || Refused::new(Code::Malformed, "the greeting broke off");
        let why = error.verdict().unwrap_or_else(broken);
        let lost = match error {
            FrameError::Lost(error) => Some(error),
            _ => self.conn.close_reason(),
        };
        match lost {
            Some(error) => explain(addr, &error, &self.credentials, &Verdict::new(), Duration::ZERO),
            None => self.refuse(addr, why),
        }
    }

    /// Closes the connection because of what the other side said.
    pub(crate) fn refuse(&self, addr: SocketAddr, why: Refused) -> DialError {
        self.conn.close(why.code.var(), why.wire());
        match why.code {
            Code::Version => DialError::Version { addr, ours: PROTOCOL, theirs: why.text },
            _ => DialError::WeRefused { addr, why },
        }
    }
}

/// Runs `open` and then `greet` within one deadline; afterwards nothing of a failed attempt is left.
pub(crate) async fn within<T>(
    deadline: Duration,
    addr: SocketAddr,
    open: impl Future<Output = Result<Opened, DialError>>,
    greet: impl AsyncFnOnce(Opened) -> Result<T, DialError>,
) -> Result<T, DialError> {
    let until = Instant::now() + deadline;
    let Ok(opened) = tokio::time::timeout_at(until, open).await else {
        return Err(DialError::NoAnswer { addr, waited: deadline });
    };
    let opened = opened?;
    let conn = opened.conn.clone();
    match tokio::time::timeout_at(until, greet(opened)).await {
        Ok(greeted) => greeted,
        Err(_) => {
            conn.close(Code::Deadline.var(), Code::Deadline.text().as_bytes());
            let why = format!("it answered, but did not finish the greeting within {} ms", deadline.as_millis());
            Err(DialError::Failed { addr, why })
        }
    }
}

/// A connection's end in words, for the side that dialled.
fn explain(
    addr: SocketAddr,
    error: &ConnectionError,
    credentials: &Credentials,
    verdict: &Verdict,
    waited: Duration,
) -> DialError {
    match error {
        ConnectionError::TransportError(error) => match (verdict.refusal(), alert(error.code.into())) {
            (Some(why), _) => DialError::NotTrusted { addr, why },
            (None, Some(code)) => DialError::NotTrusted { addr, why: Refusal::from_alert(code) },
            (None, None) => DialError::Failed { addr, why: sanitize(&error.to_string()) },
        },
        ConnectionError::ConnectionClosed(close) => match (alert(close.error_code.into()), close.error_code.into()) {
            (Some(code), _) => DialError::TheyRefused { addr, why: credentials.refusal(code) },
            (None, CONNECTION_REFUSED) => DialError::Closed { addr, why: Code::Busy.into() },
            (None, _) => DialError::Failed { addr, why: Reason::of(error).to_string() },
        },
        ConnectionError::ApplicationClosed(close) => {
            let why = Refused::received(close.error_code, &close.reason);
            match why.code {
                Code::Version => DialError::Version { addr, ours: PROTOCOL, theirs: format!("it says: {}", why.text) },
                Code::Myself => DialError::Myself { addr },
                _ => DialError::Closed { addr, why },
            }
        }
        // Once something came back, silence is a failure of who answered, not of the way to it.
        ConnectionError::TimedOut if waited.is_zero() => DialError::Failed { addr, why: Reason::Silent.to_string() },
        ConnectionError::TimedOut => DialError::NoAnswer { addr, waited },
        ConnectionError::LocallyClosed => DialError::Closing,
        ConnectionError::VersionMismatch | ConnectionError::Reset | ConnectionError::CidsExhausted => {
            DialError::Failed { addr, why: Reason::of(error).to_string() }
        }
    }
}

/// The TLS alert in a QUIC error code, if it holds one (RFC 9001 §4.8).
pub(crate) fn alert(code: u64) -> Option<u8> {
    u8::try_from(code.checked_sub(0x100)?).ok()
}

/// Whose certificate the other side presented. TLS has verified it.
pub(crate) fn peer_subject(conn: &quinn::Connection) -> Option<Subject> {
    let chain = conn.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    Subject::from_der(chain.first()?).ok()
}

/// Writes one frame of a greeting.
pub(crate) async fn write_frame(send: &mut SendStream, body: &[u8]) -> Result<(), FrameError> {
    // A greeting is far below the limit of a length.
    let length = u32::try_from(body.len()).map_err(|_| FrameError::Closed)?;
    let mut chunks = [Bytes::copy_from_slice(&length.to_be_bytes()), Bytes::copy_from_slice(body)];
    send.write_all_chunks(&mut chunks).await.map_err(|error| match error {
        WriteError::ConnectionLost(error) => FrameError::Lost(error),
        WriteError::Stopped(code) => FrameError::Reset(code),
        WriteError::ClosedStream | WriteError::ZeroRttRejected => FrameError::Closed,
    })
}
