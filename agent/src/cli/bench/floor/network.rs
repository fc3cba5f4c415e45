//! The network's own figure: round trips on one QUIC stream with mutual TLS over loopback, and nothing else.
//!
//! It never uses our transport: a floor of our own making would flatter us. The certificates are throw-away ones.

use crate::cli::bench::latency::Latencies;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ClientConfig, Endpoint, RecvStream, SendStream, ServerConfig};
use quorate_certs::{AgentName, Authority, ClusterId, Identity, Subject, Tls, Validity, Verdict};
use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

const ALPN: &[u8] = b"quorate-bench-echo/1";
/// Round trips before the first that counts.
const WARM_UP: u32 = 200;
/// How long one round trip may take before the measurement is given up.
const PATIENCE: Duration = Duration::from_secs(5);
/// What is read at a time.
const CHUNK_BYTES: usize = 64 << 10;

type Failed = Box<dyn Error + Send + Sync>;

/// Round trips of `bytes` bytes for `span`: two threads with a runtime each, as two processes would have.
pub(super) fn measure(bytes: usize, span: Duration) -> Result<Latencies, String> {
    let (server, client, name) = configurations().map_err(|e| e.to_string())?;
    let (tell, told) = oneshot::channel();
    let (stop, stopped) = oneshot::channel::<()>();
    std::thread::scope(|scope| {
        let echo = scope.spawn(move || run(serve(server, tell, stopped)));
        let ended = run(async {
            let addr = told.await?;
            ask(client, addr, &name, bytes.max(1), span).await
        });
        drop(stop);
        let served = echo.join().map_err(|_| "the echo ended early".to_owned())?;
        match (ended, served) {
            (Ok(all), _) => Ok(all),
            (Err(_), Err(why)) | (Err(why), Ok(())) => Err(why.to_string()),
        }
    })
}

fn run<T>(what: impl Future<Output = Result<T, Failed>>) -> Result<T, Failed> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(what)
}

/// Both sides of one handshake, each proven to the other.
fn configurations() -> Result<(ServerConfig, ClientConfig, String), Failed> {
    let cluster = ClusterId::random()?;
    let authority = Authority::create(cluster)?;
    let dir = tempfile::tempdir()?;
    let tls = |name: &str| -> Result<Tls, Failed> {
        let subject = Subject::agent(cluster, AgentName::new(name)?);
        Ok(Tls::new(&Identity::load(&authority.issue_to(&subject, Validity::default(), dir.path())?)?)?)
    };
    let (there, here) = (tls("there")?, tls("here")?);
    let server = QuicServerConfig::try_from(there.server(&[ALPN], &Verdict::new())?)?;
    let client = QuicClientConfig::try_from(here.client(ALPN, &Verdict::new())?)?;
    Ok((ServerConfig::with_crypto(Arc::new(server)), ClientConfig::new(Arc::new(client)), here.server_name()))
}

async fn serve(
    config: ServerConfig,
    tell: oneshot::Sender<SocketAddr>,
    stopped: oneshot::Receiver<()>,
) -> Result<(), Failed> {
    let endpoint = Endpoint::server(config, (Ipv4Addr::LOCALHOST, 0).into())?;
    let _ = tell.send(endpoint.local_addr()?);
    let echo = async {
        let connection = endpoint.accept().await.ok_or("the socket closed")?.await?;
        let (mut send, mut recv) = connection.accept_bi().await?;
        let mut chunk = vec![0; CHUNK_BYTES];
        while let Some(read) = recv.read(&mut chunk).await? {
            send.write_all(&chunk[..read]).await?;
        }
        Ok(())
    };
    tokio::select! {
        ended = echo => ended,
        // The asking side has what it wanted, or has failed.
        _ = stopped => Ok(()),
    }
}

async fn ask(
    config: ClientConfig,
    addr: SocketAddr,
    name: &str,
    bytes: usize,
    span: Duration,
) -> Result<Latencies, Failed> {
    let mut endpoint = Endpoint::client((Ipv4Addr::LOCALHOST, 0).into())?;
    endpoint.set_default_client_config(config);
    let connection = tokio::time::timeout(PATIENCE, endpoint.connect(addr, name)?).await??;
    let (mut send, mut recv) = connection.open_bi().await?;
    let (there, mut back) = (vec![7; bytes], vec![0; bytes]);
    for _ in 0..WARM_UP {
        tokio::time::timeout(PATIENCE, round_trip(&mut send, &mut recv, &there, &mut back)).await??;
    }
    let mut all = Latencies::default();
    let began = Instant::now();
    while began.elapsed() < span {
        let since = Instant::now();
        tokio::time::timeout(PATIENCE, round_trip(&mut send, &mut recv, &there, &mut back)).await??;
        all.record(since.elapsed());
    }
    connection.close(0_u32.into(), b"");
    Ok(all)
}

async fn round_trip(send: &mut SendStream, recv: &mut RecvStream, there: &[u8], back: &mut [u8]) -> Result<(), Failed> {
    send.write_all(there).await?;
    recv.read_exact(back).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_over_mutual_tls() {
        let told = measure(4096, Duration::from_millis(50)).unwrap().percentiles();
        assert!(told.samples > 0 && told.p50_us > 0.0, "{told:?}");
    }
}
