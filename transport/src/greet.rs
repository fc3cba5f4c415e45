//! Hello, Welcome, Ready: from a connection with a proven certificate to a peer with a proven node key.
//! Never asks who may be a member: that is the gate's business.

use std::net::SocketAddr;
use std::sync::Arc;

use quinn::{Connection, SendStream};
use quorate_certs::Subject;

use crate::dial::{Opened, write_frame};
use crate::frame::{FrameError, FrameReader};
use crate::hello::{self, Kind, Proven};
use crate::inner::Inner;
use crate::link;
use crate::outbox::Outbox;
use crate::seats::Seat;
use crate::table::{Class, Link, Standing};
use crate::{Code, DialError, PeerInfo, Reason, Refused, congestion, socket, tuning};

/// How often an older instance of a node is asked before the newcomer gives up: each round one connection goes.
const ROUNDS_MAX: usize = 4;

/// A greeted connection, not yet in the table.
pub(crate) struct Greeted {
    pub(crate) link: Arc<Link>,
    pub(crate) send: SendStream,
    pub(crate) recv: FrameReader,
}

/// Who answered a dial.
pub(crate) enum Met {
    /// Somebody this side had not dialled.
    New(Box<Greeted>),
    /// Somebody this side is connected to already.
    Again(Arc<Link>),
}

/// The dialling side.
pub(crate) async fn dialled(
    inner: &Inner,
    class: Class,
    addr: SocketAddr,
    expected: Option<u64>,
    opened: Opened,
) -> Result<Met, DialError> {
    let conn = &opened.conn;
    let failed = |error: FrameError| opened.failed(addr, error);
    let refuse = |why: Refused| opened.refuse(addr, why);
    let (mut send, recv) = conn.open_bi().await.map_err(|e| failed(FrameError::Lost(e)))?;
    let mut recv = FrameReader::new(recv, inner.limits.hello_bytes_max, inner.budget.clone());
    let hello = say(inner, Kind::Hello, conn).map_err(refuse)?;
    write_frame(&mut send, &hello).await.map_err(failed)?;
    let answer = match recv.next().await {
        Ok(Some(frame)) => frame.bytes,
        Ok(None) => return Err(failed(FrameError::Truncated)),
        Err(error) => return Err(failed(error)),
    };
    let proven = hear(inner, Kind::Welcome, &answer, conn, &opened.subject, class).map_err(refuse)?;
    let found = proven.hello.node;
    if found == inner.node() {
        refuse(Code::Myself.into());
        return Err(DialError::Myself { addr });
    }
    if let Some(expected) = expected
        && expected != found
    {
        refuse(Refused::new(Code::IdentityMismatch, "another node was expected here"));
        return Err(DialError::OtherNode { addr, expected, found });
    }
    admit(inner, &proven, conn).await.map_err(refuse)?;
    let present = inner.table().link(found, class).filter(|link| link.info.boot_id == proven.hello.boot_id).cloned();
    if let Some(present) = present.filter(|link| link.conn.close_reason().is_none()) {
        // The same process over another of its names, or one that has dialled meanwhile: the connection that works keeps
        // its frames. It is in the table of both sides, or will be: whoever dialled it has said so.
        refuse(Code::Ok.into());
        return Ok(Met::Again(present));
    }
    write_frame(&mut send, &[Kind::Ready as u8]).await.map_err(failed)?;
    let greeted = greeted(inner, class, proven, conn.clone(), (send, recv), None);
    Ok(Met::New(Box::new(greeted)))
}

/// The accepting side.
pub(crate) async fn accepted(
    inner: &Inner,
    class: Class,
    conn: &Connection,
    subject: &Subject,
    seat: Seat,
) -> Result<Greeted, Refused> {
    let late = |_| Refused::new(Code::Deadline, "no greeting came in time");
    let deadline = inner.limits.hello_deadline;
    let listen = async {
        let (send, recv) = conn.accept_bi().await.map_err(|e| gone(FrameError::Lost(e)))?;
        let mut recv = FrameReader::new(recv, inner.limits.hello_bytes_max, inner.budget.clone());
        let frame = heard(&mut recv).await?;
        Ok::<_, Refused>((send, recv, frame))
    };
    let (mut send, mut recv, frame) = tokio::time::timeout(deadline, listen).await.map_err(late)??;
    let proven = hear(inner, Kind::Hello, &frame, conn, subject, class)?;
    if proven.hello.node == inner.node() {
        if proven.hello.boot_id == inner.local.boot_id {
            return Err(Code::Myself.into());
        }
        inner.gate.turned_away(&proven.hello, socket::canonical(conn.remote_address()), &stale());
        return Err(stale());
    }
    admit(inner, &proven, conn).await?;
    let welcome = say(inner, Kind::Welcome, conn)?;
    let finish = async {
        write_frame(&mut send, &welcome).await.map_err(gone)?;
        // Only now does the dialler accept us too; before it did, we would report a peer that refuses us.
        let ready = heard(&mut recv).await?;
        if *ready == [Kind::Ready as u8] { Ok(()) } else { Err(Refused::from(Code::Malformed)) }
    };
    tokio::time::timeout(deadline, finish).await.map_err(late)??;
    Ok(greeted(inner, class, proven, conn.clone(), (send, recv), Some(seat)))
}

/// The caller's policy, and then: no other live instance of this node.
async fn admit(inner: &Inner, proven: &Proven, conn: &Connection) -> Result<(), Refused> {
    let remote = socket::canonical(conn.remote_address());
    let boot = (proven.hello.boot_epoch, proven.hello.boot_id);
    let verdict = match inner.gate.admit(&proven.hello, remote) {
        Ok(()) => alone(inner, proven.hello.node, boot, remote).await,
        refused => refused,
    };
    if let Err(why) = &verdict {
        inner.gate.turned_away(&proven.hello, remote, why);
    }
    verdict
}

/// Waits until no other instance of the node stands in the way of this `boot` (epoch, id); refuses if one answers.
pub(crate) async fn alone(inner: &Inner, node: u64, boot: (u64, u64), remote: SocketAddr) -> Result<(), Refused> {
    for _ in 0..ROUNDS_MAX {
        let standing = inner.table().standing(node, boot, remote);
        let old = match standing {
            Standing::Free => return Ok(()),
            Standing::Later => {
                return Err(Refused::new(Code::StaleInstance, "a later start of this node is connected already"));
            }
            Standing::Other(old) => old,
        };
        if link::probe(inner, &old).await {
            return Err(stale());
        }
        old.end(&Code::Superseded.into());
        inner.forget(&old, Reason::Local(Code::Superseded.into())).await;
    }
    Err(Code::Busy.into())
}

fn stale() -> Refused {
    Refused::new(
        Code::StaleInstance,
        "this data directory is a copy, or has been copied: another live agent uses its node key; wipe one of the two to join as a new node",
    )
}

fn greeted(
    inner: &Inner,
    class: Class,
    proven: Proven,
    conn: Connection,
    (send, recv): (SendStream, FrameReader),
    seat: Option<Seat>,
) -> Greeted {
    let Proven { hello, observed } = proven;
    let limits = &inner.limits;
    let (queue_bytes_max, frame_bytes_max) = match class {
        Class::Peer => (limits.peer_queue_bytes_max, limits.peer_frame_bytes_max),
        Class::Bulk => (limits.bulk_queue_bytes_max, limits.bulk_frame_bytes_max),
    };
    let info = PeerInfo {
        node: hello.node,
        name: hello.name,
        boot_epoch: hello.boot_epoch,
        boot_id: hello.boot_id,
        log_id: hello.log_id,
        remote: socket::canonical(conn.remote_address()),
        advertised: hello.advertised,
        observed_self: Some(socket::canonical(observed)),
        version: hello.version,
        features: hello.features,
        dialled: hello.dialled,
    };
    tuning::trust(&conn, limits.streams_max, tuning::AGENT_WINDOW_BYTES);
    if class == Class::Bulk {
        congestion::yield_way(&conn);
    }
    let outbox = Outbox::new(queue_bytes_max, frame_bytes_max);
    let link = Link::new(inner.next_id(), class, info, conn, outbox, seat);
    Greeted { link: Arc::new(link), send, recv: recv.with_max(frame_bytes_max) }
}

/// Our side of the greeting, signed for this connection.
fn say(inner: &Inner, kind: Kind, conn: &Connection) -> Result<Vec<u8>, Refused> {
    let observed = socket::canonical(conn.remote_address());
    let greeting = hello::greeting(&inner.local, inner.log_id(), inner.cluster, inner.port, observed);
    hello::seal(kind, &greeting, &inner.local.key, &exporter(conn))
}

fn hear(
    inner: &Inner,
    kind: Kind,
    frame: &[u8],
    conn: &Connection,
    subject: &Subject,
    class: Class,
) -> Result<Proven, Refused> {
    hello::open(kind, frame, inner.cluster, subject.name(), class == Class::Bulk, &exporter(conn))
}

fn exporter(conn: &Connection) -> impl Fn(&mut [u8], &[u8], &[u8]) -> bool {
    |out, label, context| conn.export_keying_material(out, label, context).is_ok()
}

/// The next frame of a greeting, on the accepting side.
pub(crate) async fn heard(recv: &mut FrameReader) -> Result<bytes::Bytes, Refused> {
    match recv.next().await {
        Ok(Some(frame)) => Ok(frame.bytes),
        Ok(None) => Err(gone(FrameError::Truncated)),
        Err(error) => Err(gone(error)),
    }
}

/// Why the dialling side went away in the middle of the greeting.
pub(crate) fn gone(error: FrameError) -> Refused {
    match error {
        FrameError::Lost(error) => match Reason::of(&error) {
            Reason::Remote(why) | Reason::Local(why) => why,
            other => Refused::new(Code::GoingAway, other.to_string()),
        },
        error => error.verdict().unwrap_or_else(|| Refused::new(Code::GoingAway, "the dialler gave the greeting up")),
    }
}
