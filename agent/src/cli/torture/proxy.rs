//! A UDP proxy between agents of this machine: every datagram of theirs passes it, and each directed link is its own.
//!
//! It never looks into a datagram, and never needs a privilege.
//!
//! Each agent advertises a socket of the proxy's, so nobody knows where it really listens. What agent A sends to the public
//! socket of B is known by its source, and goes to B from the public socket of A: so B sees A where A says it is, and
//! answers there. Whoever else sends to a public socket is a client: it gets a socket of its own toward the agent, so
//! that answers find the way back.

use super::draw::Draw;
use super::link::{Counts, Deliveries, Link, Policy};
use crate::cli::output::CliError;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::net::UdpSocket;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

/// No datagram is larger.
const DATAGRAM_BYTES_MAX: usize = 65_536;
/// Most clients of all agents at one time; the one that was silent longest goes. A client has one socket.
const CLIENTS_MAX: usize = 1_024;
/// Most datagrams that wait for their time. At a thousand a second and link this is seconds of delay.
const LATE_MAX: usize = 65_536;
/// The kernel's queue of each socket: bursts of whole windows come from several agents at once.
const SOCKET_BYTES: usize = 4 << 20;

/// A datagram on its way out.
struct Parcel {
    socket: Arc<UdpSocket>,
    to: SocketAddr,
    bytes: Vec<u8>,
}

impl Parcel {
    /// What does not fit into the kernel's queue is lost, as on any network. It goes past the runtime, which would have to
    /// learn first that a new socket can be written to.
    fn send(&self) {
        let _ = socket2::SockRef::from(&*self.socket).send_to(&self.bytes, &self.to.into());
    }
}

struct Late {
    at: Instant,
    number: u64,
    parcel: Parcel,
}

impl PartialEq for Late {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.number) == (other.at, other.number)
    }
}

impl Eq for Late {}

impl PartialOrd for Late {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Late {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

/// One client at one agent.
struct Guest {
    socket: Arc<UdpSocket>,
    last: Instant,
    reader: tokio::task::AbortHandle,
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

struct State {
    /// Where each agent really listens, while it runs.
    real: Vec<Option<SocketAddr>>,
    /// By sender and receiver; the last row and column are the clients.
    links: Vec<Vec<Link>>,
    late: BinaryHeap<Reverse<Late>>,
    number: u64,
    guests: BTreeMap<(SocketAddr, usize), Guest>,
}

struct Shared {
    state: Mutex<State>,
    /// There is something new to wait for.
    woken: Notify,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn clients(&self) -> usize {
        self.real.len()
    }

    /// Sends now, or keeps it for later. True if there is something new to wait for.
    fn deliver(&mut self, deliveries: Deliveries, now: Instant, parcel: impl Fn() -> Parcel) -> bool {
        let mut is_new = false;
        for late in deliveries.into_iter().flatten() {
            if late.is_zero() {
                parcel().send();
            } else if self.late.len() < LATE_MAX {
                self.number += 1;
                self.late.push(Reverse(Late { at: now + late, number: self.number, parcel: parcel() }));
                is_new = true;
            }
        }
        is_new
    }
}

/// The proxy, on a thread of its own.
pub(super) struct Proxy {
    shared: Arc<Shared>,
    public: Vec<SocketAddr>,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    /// One public socket for each of `agents`.
    pub(super) fn start(agents: usize, mut draw: Draw) -> Result<Self, CliError> {
        let failed = |e: std::io::Error| CliError::system("cannot start the UDP proxy", &e, "");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let now = Instant::now();
        let mut row = || (0..=agents).map(|_| Link::new(draw.fork(), now)).collect();
        let links = (0..=agents).map(|_| row()).collect();
        let state =
            State { real: vec![None; agents], links, late: BinaryHeap::new(), number: 0, guests: BTreeMap::new() };
        let shared = Arc::new(Shared { state: Mutex::new(state), woken: Notify::new() });
        let sockets = {
            // Sockets belong to the runtime that polls them.
            let _entered = runtime.enter();
            (0..agents).map(|_| bind().map(Arc::new)).collect::<Result<Vec<_>, _>>().map_err(failed)?
        };
        let public = sockets.iter().map(|socket| socket.local_addr()).collect::<Result<_, _>>().map_err(failed)?;
        let (stop, mut stopped) = watch::channel(false);
        let work = {
            let shared = shared.clone();
            move || {
                runtime.block_on(async {
                    let mut tasks = JoinSet::new();
                    for at in 0..sockets.len() {
                        tasks.spawn(serve(at, sockets.clone(), shared.clone()));
                    }
                    tasks.spawn(deliver_late(shared.clone()));
                    let _ = stopped.wait_for(|stop| *stop).await;
                    shared.state().guests.clear();
                });
            }
        };
        let thread = std::thread::Builder::new().name("udp-proxy".into()).spawn(work).map_err(failed)?;
        Ok(Self { shared, public, stop, thread: Some(thread) })
    }

    /// Where everybody else reaches this agent.
    pub(super) fn public(&self, agent: usize) -> SocketAddr {
        self.public[agent]
    }

    /// Where this agent listens from now on.
    pub(super) fn set_real(&self, agent: usize, real: SocketAddr) {
        self.shared.state().real[agent] = Some(real);
    }

    /// How each link is to behave, by sender and receiver; the last of each are the clients.
    pub(super) fn set_policies(&self, policies: &[Vec<Policy>]) {
        let mut state = self.shared.state();
        for (links, policies) in state.links.iter_mut().zip(policies) {
            for (link, policy) in links.iter_mut().zip(policies) {
                link.policy = *policy;
            }
        }
    }

    /// What each link did so far.
    pub(super) fn counts(&self) -> Vec<Vec<Counts>> {
        let state = self.shared.state();
        state.links.iter().map(|links| links.iter().map(|link| link.counts).collect()).collect()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Must be called within the runtime.
fn bind() -> std::io::Result<UdpSocket> {
    let socket = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.set_nonblocking(true)?;
    // As much of it as the system allows; less costs datagrams in bursts, which QUIC repairs.
    let _ = socket2::SockRef::from(&socket).set_recv_buffer_size(SOCKET_BYTES);
    UdpSocket::from_std(socket)
}

/// The public socket of one agent.
async fn serve(to: usize, sockets: Vec<Arc<UdpSocket>>, shared: Arc<Shared>) {
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        let Ok((len, source)) = sockets[to].recv_from(&mut buffer).await else {
            tokio::task::yield_now().await;
            continue;
        };
        let known = shared.state().real.iter().position(|real| *real == Some(source));
        let socket = match known {
            Some(from) => Some(sockets[from].clone()),
            None => guest(source, to, &sockets[to], &shared),
        };
        let Some(socket) = socket else { continue };
        let now = Instant::now();
        let mut state = shared.state();
        // Of one that is down nobody knows where it listened.
        let Some(real) = state.real[to] else { continue };
        let from = known.unwrap_or(state.clients());
        let deliveries = state.links[from][to].pass(now, len);
        let parcel = || Parcel { socket: socket.clone(), to: real, bytes: buffer[..len].to_vec() };
        if state.deliver(deliveries, now, parcel) {
            shared.woken.notify_one();
        }
    }
}

/// The socket of a client toward an agent, made at its first datagram.
fn guest(source: SocketAddr, at: usize, public: &Arc<UdpSocket>, shared: &Arc<Shared>) -> Option<Arc<UdpSocket>> {
    let now = Instant::now();
    if let Some(guest) = shared.state().guests.get_mut(&(source, at)) {
        guest.last = now;
        return Some(guest.socket.clone());
    }
    let socket = Arc::new(bind().ok()?);
    let reader = tokio::spawn(answer(source, at, socket.clone(), public.clone(), shared.clone())).abort_handle();
    let mut state = shared.state();
    if state.guests.len() >= CLIENTS_MAX
        && let Some(oldest) = state.guests.iter().min_by_key(|(_, guest)| guest.last).map(|(key, _)| *key)
    {
        state.guests.remove(&oldest);
    }
    state.guests.insert((source, at), Guest { socket: socket.clone(), last: now, reader });
    Some(socket)
}

/// What an agent answers to a client.
async fn answer(source: SocketAddr, from: usize, socket: Arc<UdpSocket>, public: Arc<UdpSocket>, shared: Arc<Shared>) {
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        let Ok((len, _)) = socket.recv_from(&mut buffer).await else {
            tokio::task::yield_now().await;
            continue;
        };
        let now = Instant::now();
        let mut state = shared.state();
        let clients = state.clients();
        let deliveries = state.links[from][clients].pass(now, len);
        let parcel = || Parcel { socket: public.clone(), to: source, bytes: buffer[..len].to_vec() };
        if state.deliver(deliveries, now, parcel) {
            shared.woken.notify_one();
        }
    }
}

/// Sends what was held back when its time has come.
async fn deliver_late(shared: Arc<Shared>) {
    loop {
        let next = {
            let mut state = shared.state();
            let now = Instant::now();
            while state.late.peek().is_some_and(|Reverse(late)| late.at <= now) {
                if let Some(Reverse(late)) = state.late.pop() {
                    late.parcel.send();
                }
            }
            state.late.peek().map(|Reverse(late)| late.at.saturating_duration_since(now))
        };
        let wait = next.unwrap_or(Duration::from_secs(3_600));
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = shared.woken.notified() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket as Plain;

    fn plain() -> Plain {
        let socket = Plain::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        socket
    }

    fn received(at: &Plain) -> (Vec<u8>, SocketAddr) {
        let mut buffer = [0; 64];
        let (len, from) = at.recv_from(&mut buffer).unwrap();
        (buffer[..len].to_vec(), from)
    }

    /// Two agents see each other where the other one says it is; a client gets its answer from where it asked.
    #[test]
    fn everybody_is_seen_at_a_public_address() {
        let proxy = Proxy::start(2, Draw::new(1)).unwrap();
        let (a, b, client) = (plain(), plain(), plain());
        proxy.set_real(0, a.local_addr().unwrap());
        proxy.set_real(1, b.local_addr().unwrap());
        a.send_to(b"to b", proxy.public(1)).unwrap();
        assert_eq!(received(&b), (b"to b".to_vec(), proxy.public(0)));
        b.send_to(b"to a", proxy.public(0)).unwrap();
        assert_eq!(received(&a), (b"to a".to_vec(), proxy.public(1)));
        client.send_to(b"ask", proxy.public(1)).unwrap();
        let (bytes, guest) = received(&b);
        assert_eq!(bytes, b"ask");
        b.send_to(b"answer", guest).unwrap();
        assert_eq!(received(&client), (b"answer".to_vec(), proxy.public(1)));
        let counts = proxy.counts();
        assert_eq!((counts[0][1].datagrams, counts[1][0].datagrams), (1, 1));
        assert_eq!((counts[2][1].datagrams, counts[1][2].datagrams), (1, 1));
    }

    /// One direction is cut and counted, the other is late and doubled; a policy that goes leaves a good link.
    #[test]
    fn a_policy_is_of_one_direction() {
        let proxy = Proxy::start(2, Draw::new(1)).unwrap();
        let (a, b) = (plain(), plain());
        proxy.set_real(0, a.local_addr().unwrap());
        proxy.set_real(1, b.local_addr().unwrap());
        let mut policies = vec![vec![Policy::default(); 3]; 3];
        policies[0][1].cut = true;
        policies[1][0] = Policy { delay_ms: 50, duplicate: 1_000, ..Policy::default() };
        proxy.set_policies(&policies);
        a.send_to(b"lost", proxy.public(1)).unwrap();
        let sent = Instant::now();
        b.send_to(b"late", proxy.public(0)).unwrap();
        assert_eq!((received(&a).0, received(&a).0), (b"late".to_vec(), b"late".to_vec()));
        assert!(sent.elapsed() >= Duration::from_millis(50));
        while proxy.counts()[0][1].cut == 0 {
            std::thread::yield_now();
        }
        proxy.set_policies(&vec![vec![Policy::default(); 3]; 3]);
        a.send_to(b"again", proxy.public(1)).unwrap();
        assert_eq!(received(&b).0, b"again");
        assert_eq!((proxy.counts()[0][1].cut, proxy.counts()[1][0].duplicated), (1, 1));
    }
}
