//! The end of a certificate is the end of the connections that it vouched for: TLS looks at it only once.
//! Never looks at this side's own certificate: the other side does, by its own clock.

use std::time::Duration;

use quinn::Connection;
use quorate_certs::Date;
use rustls_pki_types::CertificateDer;

use crate::{Code, Refused};

/// The longest sleep between two looks at the clock, which may be set while a connection lives, or may have gone on
/// while the machine was suspended.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// Waits until the certificate that the other side showed is over, by this machine's clock; the verdict then. A renewed
/// one is shown by the next handshake.
pub(crate) async fn expired(conn: &Connection) -> Refused {
    let Some(not_after) = not_after(conn) else { return std::future::pending().await };
    while let Some(left) = left(not_after, Date::now()) {
        tokio::time::sleep(left.min(LOOK_EVERY)).await;
    }
    Refused::new(Code::CertExpired, format!("the certificate expired at {not_after}"))
}

/// The end of the first certificate to end of those that were shown: an intermediate's ends the leaf's worth too.
fn not_after(conn: &Connection) -> Option<Date> {
    let chain = conn.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    chain.iter().filter_map(quorate_certs::not_after).min()
}

/// How long a certificate is still good; `None` once it is not. Its last second still counts, as in a handshake.
fn left(not_after: Date, now: Date) -> Option<Duration> {
    let seconds = not_after.unix().saturating_sub(now.unix()).saturating_add(1);
    u64::try_from(seconds).ok().filter(|left| *left > 0).map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_second_still_counts() {
        let end = Date::from_unix(1_000);
        assert_eq!(left(end, Date::from_unix(998)), Some(Duration::from_secs(3)));
        assert_eq!(left(end, end), Some(Duration::from_secs(1)));
        assert_eq!(left(end, end.plus_seconds(1)), None);
        assert_eq!(left(end, end.plus_days(999)), None);
    }
}
