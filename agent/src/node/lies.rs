//! Lies: what becomes of a peer that says what no honest peer says, and of addresses that one may have invented.
//!
//! It never judges by one peer's word against this node's own: that is refused where it is heard, and changes nothing.

use super::{Level, Node, Output};
use quorate_raft::Now;
use std::cmp::Ordering;
use std::net::{IpAddr, SocketAddr};

/// Ports below this belong to services of the system.
const PRIVILEGED_PORTS: u16 = 1024;

/// Notes about members that nobody has proven to exist, in half a minute.
const HEARSAY_NOTES_MAX: u32 = 16;

/// What a peer has proven against itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offence {
    /// It spoke for another node than its connection proves.
    Identity,
    /// Bytes or a message that no honest peer makes.
    Malformed,
}

impl Node {
    /// Ends the connections of a peer that has lied beyond doubt. It may come back: an honest one that was damaged on its
    /// way does, and a liar pays with a handshake for each lie.
    pub(super) fn cut_off(&mut self, now: Now, node: u64, offence: Offence, what: &str) {
        if !self.peers.is_up(node) {
            // What it said before it was cut off is still in the queue.
            return;
        }
        self.note_about(now, node, &format!("{what}; its connection was closed"));
        self.emit(Output::CutOff { node, offence });
    }

    /// May this node dial an address of which gossip tells? Gossip is hearsay, and a dial is a packet to wherever a liar
    /// wants one sent: so only to where agents of this cluster can be. What this agent's own configuration uses (loopback,
    /// link-local addresses, ports below 1024) it may also dial.
    pub(super) fn may_dial(&mut self, now: Now, node: u64, addr: SocketAddr) -> bool {
        if addr.port() == 0 || addr.ip().is_unspecified() {
            return false;
        }
        let is_neighbour = self.peers.get(node).is_some_and(|peer| peer.addr == addr);
        let Some(why) = refusal(addr, self.options.advertise, &self.options.formation.seeds, is_neighbour) else {
            return true;
        };
        // Once a reason: other talk of invented members must not use up the room of this.
        if self.is_news(now, 0, why) {
            let name = self.name_of(node);
            self.note(Level::Warn, format!("agent {name}: it is said to be at {addr}, which is never dialled: {why}"));
        }
        false
    }

    /// A note about what is only hearsay: whoever invents a thousand members shall not fill a disk with our log.
    pub(super) fn note_hearsay(&mut self, now: Now, level: Level, text: String) {
        if now.mono.since(self.hearsay.1) >= super::NOTE_AGAIN {
            self.hearsay = (0, now.mono);
        }
        self.hearsay.0 = self.hearsay.0.saturating_add(1);
        match self.hearsay.0.cmp(&HEARSAY_NOTES_MAX) {
            Ordering::Less => self.note(level, text),
            Ordering::Equal => self.note(
                Level::Warn,
                "there is more talk of agents that nobody has proven to exist; it is not written down",
            ),
            Ordering::Greater => {}
        }
    }

    /// Was this not told of this node lately?
    fn is_news(&mut self, now: Now, node: u64, what: &str) -> bool {
        if self.noted.len() >= super::NOTED_MAX {
            self.noted.clear();
        }
        let key = (node, what.to_owned());
        if self.noted.get(&key).is_some_and(|at| now.mono.since(*at) < super::NOTE_AGAIN) {
            return false;
        }
        self.noted.insert(key, now.mono);
        true
    }

    /// A note about what a peer does: once a reason and half a minute, so that nobody can fill a disk with our log.
    pub(super) fn note_about(&mut self, now: Now, node: u64, what: &str) {
        if !self.is_news(now, node, what) {
            return;
        }
        let name = self.name_of(node);
        self.note(Level::Warn, format!("agent {name}: {what}"));
    }
}

/// Why `addr` is not dialled by an agent that advertises `own` and was told to join at `seeds`; `is_neighbour`: a
/// connection came from that very host.
fn refusal(addr: SocketAddr, own: SocketAddr, seeds: &[String], is_neighbour: bool) -> Option<&'static str> {
    let (ip, own_ip) = (addr.ip().to_canonical(), own.ip().to_canonical());
    let ports = seeds.iter().filter_map(|seed| seed.rsplit_once(':')?.1.parse().ok()).chain([own.port()]);
    let mut privileged = ports.filter(|port: &u16| (1..PRIVILEGED_PORTS).contains(port));
    if ip.is_multicast() || ip == IpAddr::V4(std::net::Ipv4Addr::BROADCAST) {
        return Some("it is not the address of one host");
    }
    if addr.port() < PRIVILEGED_PORTS && privileged.next().is_none() {
        return Some("ports below 1024 are of other services, and no agent here was configured to use one");
    }
    if ip.is_loopback() && !is_neighbour && !own_ip.is_loopback() && !own_ip.is_unspecified() {
        return Some("loopback is this host, and this agent advertises another address");
    }
    if is_link_local(ip) && !is_link_local(own_ip) {
        return Some("link-local addresses lead to services of this network, and this agent has none itself");
    }
    None
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dials(addr: &str, own: &str, seeds: &[&str], is_neighbour: bool) -> bool {
        let seeds: Vec<String> = seeds.iter().map(|s| (*s).to_owned()).collect();
        refusal(addr.parse().unwrap(), own.parse().unwrap(), &seeds, is_neighbour).is_none()
    }

    #[test]
    fn hearsay_leads_only_to_where_agents_can_be() {
        let own = "10.0.0.1:7373";
        for good in ["10.0.0.2:7373", "192.168.7.9:1024", "8.8.8.8:65535", "[2001:db8::1]:7373", "[fd00::1]:7373"] {
            assert!(dials(good, own, &[], false), "{good}");
        }
        for bad in [
            "169.254.169.254:80",
            "169.254.169.254:7373",
            "[::ffff:169.254.169.254]:7373",
            "[fe80::1]:7373",
            "127.0.0.1:7373",
            "127.9.9.9:2379",
            "[::1]:7373",
            "[::ffff:127.0.0.1]:7373",
            "224.0.0.1:7373",
            "[ff02::1]:7373",
            "255.255.255.255:7373",
            "10.0.0.2:22",
            "10.0.0.2:53",
            "10.0.0.2:1023",
        ] {
            assert!(!dials(bad, own, &[], false), "{bad}");
        }
    }

    #[test]
    fn what_the_configuration_uses_may_be_dialled() {
        assert!(dials("127.0.0.1:9", "127.0.0.1:5", &[], false));
        assert!(dials("127.0.0.1:7374", "[::1]:7373", &[], false));
        assert!(dials("127.0.0.1:7374", "[::]:7373", &[], false), "it does not know its address yet");
        assert!(!dials("127.0.0.1:80", "[::]:7373", &[], false));
        assert!(dials("127.0.0.1:7374", "10.0.0.1:7373", &[], true), "a neighbour that came from there");
        assert!(dials("169.254.3.4:7373", "169.254.1.2:7373", &[], false));
        assert!(dials("10.0.0.2:443", "10.0.0.1:443", &[], false));
        assert!(dials("10.0.0.2:443", "10.0.0.1:7373", &["db.example:443"], false));
        assert!(!dials("10.0.0.2:443", "10.0.0.1:7373", &["db.example:7373", "no port"], false));
    }
}
