//! Strangers: agents with a good certificate that were turned away at the door, for people to read.
//!
//! It decides nothing: the gate did, or the transport, which found the same node key twice.

use super::{Level, Node};
use quorate_raft::{Mono, Now};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

/// How long one is remembered after its last try: three times the longest pause between two tries of a join address.
const REMEMBER: Duration = Duration::from_secs(15);
/// Strangers remembered at most; the one heard of longest ago makes room.
const STRANGERS_MAX: usize = 32;
/// The same is noted about the same stranger only after this long.
const TELL_AGAIN: Duration = Duration::from_secs(300);

#[derive(Debug)]
struct Stranger {
    addr: SocketAddr,
    why: String,
    at: Mono,
    told: Mono,
}

/// One of them for those who ask: node, name, address, why, and how long ago.
pub(super) type Told<'a> = (u64, &'a str, SocketAddr, &'a str, Duration);

/// Who was turned away lately, by node id and name.
#[derive(Debug, Default)]
pub(super) struct Strangers(BTreeMap<(u64, String), Stranger>);

impl Strangers {
    fn forget(&mut self, now: Mono) {
        self.0.retain(|_, stranger| now.since(stranger.told) < TELL_AGAIN || now.since(stranger.at) < REMEMBER);
        while self.0.len() >= STRANGERS_MAX {
            let oldest = self.0.iter().min_by_key(|(_, stranger)| stranger.at).map(|(key, _)| key.clone());
            oldest.and_then(|key| self.0.remove(&key));
        }
    }
}

impl Node {
    /// An agent that proved a certificate and a node key was refused, here or by this side of its connection.
    pub(super) fn turned_away(&mut self, now: Now, node: u64, name: String, addr: SocketAddr, why: String) {
        let key = (node, name);
        let former = self.strangers.0.remove(&key);
        let is_old_news = |old: &Stranger| old.why == why && now.mono.since(old.told) < TELL_AGAIN;
        let told = former.filter(is_old_news).map_or(now.mono, |old| old.told);
        if told == now.mono {
            let who = self.stranger(&key, addr);
            self.note(Level::Warn, format!("{who} was refused: {why}"));
        }
        self.strangers.forget(now.mono);
        self.strangers.0.insert(key, Stranger { addr, why, at: now.mono, told });
    }

    /// Those that still try.
    pub(super) fn strangers_lately(&self, now: Now) -> impl Iterator<Item = Told<'_>> {
        let all = self
            .strangers
            .0
            .iter()
            .map(move |((node, name), s)| (*node, name.as_str(), s.addr, s.why.as_str(), now.mono.since(s.at)));
        all.filter(|(.., addr, _, ago)| *ago < REMEMBER && !self.is_let_in(*addr))
    }

    /// Somebody at this address has got in since: the disk that was turned away is there no more, or its time has come.
    fn is_let_in(&self, addr: SocketAddr) -> bool {
        self.peers.up().any(|peer| self.addr_of(peer.node) == Some(addr))
    }

    /// One line for each stranger that still tries.
    pub(super) fn stranger_problems(&self, now: Now) -> Vec<String> {
        let lately = self.strangers_lately(now);
        let line = |(node, name, addr, why, _): Told<'_>| {
            format!("{} is not admitted: {why}", self.stranger(&(node, name.to_owned()), addr))
        };
        lately.map(line).collect()
    }

    fn stranger(&self, (node, name): &(u64, String), addr: SocketAddr) -> String {
        let name = crate::limits::printable(name);
        let is_known = *node == self.me.get() || self.registry.node(*node).is_some() || self.peers.is_up(*node);
        let which = if is_known { "a second agent" } else { "an agent" };
        format!("{which} {name} at {addr} (node {node:016x})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_are_bounded_and_the_oldest_goes() {
        let mut strangers = Strangers::default();
        let addr = SocketAddr::from(([127, 0, 0, 1], 1));
        for node in 0..1_000_u64 {
            let at = Mono(node);
            strangers.forget(at);
            strangers.0.insert((node, "x".into()), Stranger { addr, why: "why".into(), at, told: at });
        }
        assert_eq!(strangers.0.len(), STRANGERS_MAX);
        assert!(strangers.0.contains_key(&(999, "x".into())) && !strangers.0.contains_key(&(0, "x".into())));
    }
}
