//! How a connection comes to life: dialled in its turn or accepted, and once greeted, entered into the table.
//! Never tries twice, and does not know what the greeting says.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::greet::{self, Greeted, Met};
use crate::inner::Inner;
use crate::table::{CHANGES_MAX, Class, Link};
use crate::{Code, DialError, Refused, dial, link};

/// The connection there is, whoever dialled it, or a new one.
pub(crate) async fn dial(
    inner: &Arc<Inner>,
    addr: SocketAddr,
    expected: Option<u64>,
    class: Class,
) -> Result<Arc<Link>, DialError> {
    let Some(node) = expected else { return dial_now(inner, addr, None, class).await };
    let dial = async {
        let present = inner.table().link(node, class).cloned();
        match present.filter(|link| link.conn.close_reason().is_none()) {
            Some(link) => Ok(link),
            None => dial_now(inner, addr, expected, class).await,
        }
    };
    inner.turns.take(node, class, dial).await
}

/// Dials, greets and registers.
async fn dial_now(
    inner: &Arc<Inner>,
    addr: SocketAddr,
    expected: Option<u64>,
    class: Class,
) -> Result<Arc<Link>, DialError> {
    if inner.closing() {
        return Err(DialError::Closing);
    }
    let dialler = match class {
        Class::Peer => &inner.peers,
        Class::Bulk => &inner.bulks,
    };
    let credentials = inner.credentials();
    let opening = dialler.open(addr, &credentials, class.alpn());
    let greeting = async |opened| greet::dialled(inner, class, addr, expected, opened).await;
    let greeted = match dial::within(inner.limits.dial_deadline, addr, opening, greeting).await? {
        Met::Again(link) => return Ok(link),
        Met::New(greeted) => *greeted,
    };
    let link = greeted.link.clone();
    match register(inner, greeted).await {
        Ok(()) => Ok(link),
        Err(why) => Err(DialError::WeRefused { addr, why }),
    }
}

/// Puts a greeted connection into the table, tells the caller, and lets it live.
pub(crate) async fn register(inner: &Arc<Inner>, greeted: Greeted) -> Result<(), Refused> {
    let Greeted { link, send, recv } = greeted;
    let info = &link.info;
    // Between the greeting and now another instance may have come.
    let clear = greet::alone(inner, info.node, (info.boot_epoch, info.boot_id), info.remote).await;
    let Some(mut room) = inner.events.room(CHANGES_MAX).await else {
        return Err(Code::GoingAway.into());
    };
    if let Err(why) = clear {
        link.end(&why);
        return Err(why);
    }
    for change in inner.table().insert(&link) {
        room.put(change.into());
    }
    drop(room);
    // Only what the other side did says that it is reachable again; our own dial must not undo its own back-off.
    if !info.dialled {
        inner.kept.came(info.node);
    }
    tokio::spawn(link::live(inner.clone(), link, send, recv));
    Ok(())
}
