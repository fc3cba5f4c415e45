//! The loop that dials each kept node again and again while it is not connected, whoever dials.
//! Never gives up on a kept node, and never dials faster than its back-off.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};
use tokio::time::Instant;

use crate::inner::Inner;
use crate::kept::Orders;
use crate::lock::lock;
use crate::table::Class;
use crate::{DialError, Limits, connect};

/// A connection that lived shorter than this counts as a failed attempt: else a peer that accepts and then refuses
/// would be dialled without a pause.
const SHORT_LIFE: Duration = Duration::from_secs(2);

/// Dials `node` at `addr` again and again, until it is kept no more.
pub(crate) fn keep(inner: &Arc<Inner>, node: u64, addr: SocketAddr) {
    inner.kept.keep(node, addr, |orders| tokio::spawn(redial(inner.clone(), node, orders)));
}

async fn redial(inner: Arc<Inner>, node: u64, orders: Orders) {
    let Orders { mut addr, came, trouble } = orders;
    let mut failures = 0_u32;
    loop {
        if failures == 0 && inner.node() > node && inner.table().link(node, Class::Peer).is_none() {
            // Most likely the other side keeps this node, too: it dials first.
            tokio::select! {
                () = tokio::time::sleep(inner.limits.dial_courtesy) => {}
                () = came.notified() => {}
            }
        }
        let present = inner.table().link(node, Class::Peer).cloned();
        let target = *addr.borrow_and_update();
        let dialled = match present {
            Some(link) => Ok(link),
            // Apart, so that a connection that lives does not hold the memory of its dial.
            None => Box::pin(connect::dial(&inner, target, Some(node), Class::Peer)).await,
        };
        match dialled {
            Ok(link) => {
                *lock(&trouble) = None;
                let since = Instant::now();
                link.gone().await;
                failures = if since.elapsed() < SHORT_LIFE { failures.saturating_add(1) } else { 0 };
                if failures == 0 {
                    continue;
                }
            }
            Err(DialError::Closing) => return,
            Err(error) => {
                *lock(&trouble) = Some(error);
                failures = failures.saturating_add(1);
            }
        }
        tokio::select! {
            () = tokio::time::sleep(pause(&inner.limits, failures)) => {}
            changed = addr.changed() => if changed.is_err() { return },
            () = came.notified() => {}
        }
    }
}

/// Doubles with each failure up to the bound; the upper half is random, so that nodes that lost each other together do
/// not dial together.
fn pause(limits: &Limits, failures: u32) -> Duration {
    let doubled = limits.redial_min.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(limits.redial_max);
    let mut random = [0; 4];
    // Without entropy the pause is the longest one, which is safe.
    let share = match SystemRandom::new().fill(&mut random) {
        Ok(()) => f64::from(u32::from_be_bytes(random)) / f64::from(u32::MAX),
        Err(_) => 1.0,
    };
    doubled.mul_f64(0.5 + share / 2.0)
}
