//! The gossip core and the node: what goes in, what comes out, and what its events mean to the rest.

use super::warm::Word;
use super::{Level, Node, Offence, Options, Output, Peer};
use crate::diagnosis::Cause;
use quorate_membership as membership;
use quorate_raft::Now;
use std::net::SocketAddr;

/// From this on own health is a matter for an operator: a busy hour alone does not get there, being cut off does.
const ILL: u8 = membership::HEALTH_MAX;

/// The time as the gossip core wants it.
pub(super) fn now(now: Now) -> membership::Now {
    membership::Now { mono: membership::Mono(now.mono.0), wall_us: now.wall.0 }
}

/// A core that knows nobody yet.
pub(super) fn begin(
    options: &Options,
    local: membership::Local,
    seed: u64,
    time: Now,
) -> Result<membership::Membership, membership::Error> {
    let core = membership::Membership::new(options.membership.clone(), local, seed, now(time))?;
    #[cfg(feature = "mutants")]
    let core = {
        let mut core = core;
        if quorate_raft::mutant!(HintsFollowedAtOnce) {
            core.follow_all_hints();
        }
        core
    };
    Ok(core)
}

fn carried(node: u64, addr: SocketAddr, word: Word) -> Output {
    match word {
        Word::Datagram(bytes) => Output::Datagram { node, addr, bytes },
        Word::Exchange(bytes) => Output::Exchange { node, addr, bytes },
    }
}

impl Node {
    fn gossip(&mut self, time: Now, input: membership::Input) {
        self.members.handle(now(time), input);
    }

    pub(super) fn gossip_timeout(&mut self, time: Now) {
        if self.members.poll_timeout().is_some_and(|t| t.0 <= time.mono.0) {
            self.gossip(time, membership::Input::Timeout);
        }
    }

    pub(super) fn gossip_datagram(&mut self, time: Now, node: u64, bytes: Vec<u8>) {
        self.warm.used(node, time.mono);
        self.gossip(time, membership::Input::Datagram { from: node, bytes });
    }

    pub(super) fn gossip_exchange(&mut self, time: Now, node: u64, token: u64, bytes: Vec<u8>) {
        self.warm.used(node, time.mono);
        self.gossip(time, membership::Input::Exchange { from: node, bytes });
        // Exactly one reply follows each request; it is the only one that can be in the queue now.
        let mut rest = Vec::new();
        while let Some(output) = self.members.poll_output() {
            match output {
                membership::Output::ExchangeReply { bytes, .. } => self.emit(Output::ExchangeReply { token, bytes }),
                other => rest.push(other),
            }
        }
        for output in rest {
            self.on_gossip(time, output);
        }
    }

    pub(super) fn gossip_reply(&mut self, time: Now, node: u64, bytes: Vec<u8>) {
        self.gossip(time, membership::Input::ExchangeReply { from: node, bytes });
    }

    pub(super) fn gossip_contact(&mut self, time: Now, peer: &Peer) {
        let contact = membership::Input::Contact {
            node: peer.node,
            name: peer.name.clone(),
            addr: peer.addr,
            epoch: peer.epoch,
            boot: peer.boot,
            version: peer.version.clone(),
        };
        self.gossip(time, contact);
    }

    pub(super) fn gossip_lost(&mut self, time: Now, node: u64) {
        self.gossip(time, membership::Input::Lost { node });
    }

    /// A connection that is only kept while it is used is gone, which says nothing about the member.
    pub(super) fn gossip_released(&mut self, time: Now, node: u64) {
        self.gossip(time, membership::Input::Released { node });
    }

    /// Says something to a member: over a connection, or once there is one if it is still worth something then. A probe is
    /// until it is judged; a table while somebody waits for its answer.
    fn speak(&mut self, time: Now, node: u64, addr: SocketAddr, word: Word) {
        if self.peers.is_up(node) {
            self.warm.used(node, time.mono);
            return self.emit(carried(node, addr, word));
        }
        // In a mesh who is only told of has its turn among the hints (see `keep_peers`).
        let is_to_be_met = self.warm.is_sparse() || self.members.member(node).is_some_and(|m| m.proven);
        if !is_to_be_met || !self.may_dial(time, node, addr) {
            return;
        }
        let is_news = matches!(&word, Word::Datagram(bytes) if membership::is_only_news(bytes));
        if self.warm.say(node, time.mono, word, self.options.membership.probe_period, is_news) {
            self.emit(Output::Dial { node, addr });
        }
    }

    /// What waited for this connection.
    pub(super) fn speak_warmed(&mut self, time: Now, node: u64, addr: SocketAddr) {
        for word in self.warm.up(node, time.mono) {
            self.emit(carried(node, addr, word));
        }
    }

    pub(super) fn gossip_set_addr(&mut self, time: Now, addr: SocketAddr) {
        self.gossip(time, membership::Input::SetAddr(addr));
    }

    pub(super) fn gossip_set_tags(&mut self, time: Now, tags: membership::Tags) {
        self.gossip(time, membership::Input::SetTags(tags));
    }

    /// The log says that a node is gone for good.
    pub(super) fn gossip_forget(&mut self, time: Now, forget: membership::Input) {
        if let membership::Input::Forget { node } = &forget {
            self.watch.forget(*node);
        }
        self.gossip(time, forget);
    }

    pub(super) fn gossip_leave(&mut self, time: Now) {
        self.gossip(time, membership::Input::Leave);
    }

    /// The log has seen this Lamport time.
    pub(super) fn gossip_witness(&mut self, time: Now, lamport: u64) {
        self.gossip(time, membership::Input::Witness { lamport });
    }

    pub(super) fn drain_gossip(&mut self, time: Now) {
        while let Some(output) = self.members.poll_output() {
            self.on_gossip(time, output);
        }
    }

    fn on_gossip(&mut self, time: Now, output: membership::Output) {
        match output {
            membership::Output::Datagram { to, addr, bytes } => self.speak(time, to, addr, Word::Datagram(bytes)),
            membership::Output::Exchange { to, addr, bytes } => self.speak(time, to, addr, Word::Exchange(bytes)),
            // Answered where the request is handled.
            membership::Output::ExchangeReply { .. } => {}
            // Once each time: gossip paces itself, and a disk that is gone for good must not be dialled for ever.
            membership::Output::Reconnect { node, addr } => {
                // In a large cluster nobody is connected with all who live.
                let is_cold = self.warm.is_sparse() && self.members.is_alive(node);
                let is_wanted = !is_cold && !self.peers.is_up(node);
                if is_wanted && self.may_dial(time, node, addr) && !self.leave.is_shut_out(time.mono) {
                    self.emit(Output::DialSeed { seed: addr.to_string() });
                }
            }
            membership::Output::SeedsWanted => self.seeds_wanted(),
            // Remembered from the status, by `remember_peers`.
            membership::Output::SaveMembers => {}
            membership::Output::LeaveDone => self.gossip_left(),
            membership::Output::Alarm { from, what, lie } => {
                let what = format!("its gossip was refused: {what}");
                match lie {
                    Some(membership::Lie::OtherNode) => self.cut_off(time, from, Offence::Identity, &what),
                    Some(membership::Lie::Malformed) => self.cut_off(time, from, Offence::Malformed, &what),
                    None => self.note_about(time, from, &what),
                }
            }
            membership::Output::Event(event) => self.on_gossip_event(time, &event),
        }
    }

    /// What gossip has found out that an operator should know.
    pub(super) fn gossip_problems(&self) -> Vec<(Option<Cause>, String)> {
        let blocked = self.members.datagrams_blocked().map(|member| {
            let (name, addr) = (self.name_of(member.node), member.addr);
            let text = format!(
                "datagrams to {name} ({addr}) get no answer, streams do: the path loses most packets or drops large ones \
                 (path MTU, a firewall), or that agent cannot keep up; failures take longer to tell from loss until then"
            );
            (Some(Cause::DatagramsBlocked), text)
        });
        let mut problems: Vec<_> = blocked.collect();
        let health = self.members.health();
        if health >= ILL {
            let text = format!(
                "this agent trusts its own view of the others little (health {health} of {}, 0 is well): it runs late, or its \
                 network loses what it sends; look at its load and its network",
                membership::HEALTH_MAX
            );
            problems.push((None, text));
        }
        problems
    }

    fn on_gossip_event(&mut self, time: Now, event: &membership::Event) {
        use membership::Event as E;
        self.watch.hear(event);
        let (member, level, what) = match event {
            E::Joined(m) => (m, Level::Info, "is alive"),
            E::Updated(m) => (m, Level::Info, "has changed its address, version or tags"),
            E::Suspected(m) => (m, Level::Warn, "does not answer and is suspected"),
            E::Refuted(m) | E::Recovered(m) => (m, Level::Info, "answers again"),
            E::Failed(m) => (m, Level::Warn, "has failed"),
            E::Leaving(m) => (m, Level::Info, "is leaving"),
            E::Left(m) => (m, Level::Info, "has left"),
            E::Restarted(m) => (m, Level::Info, "has restarted"),
            E::DatagramsBlocked(m) => (m, Level::Warn, "gets no answer through by datagrams, while streams work"),
            E::DatagramsPass(m) => (m, Level::Info, "is reached by datagrams again"),
            E::NameConflict { name, nodes } => {
                let ids: Vec<String> = nodes.iter().map(|n| format!("{n:016x}")).collect();
                let name = crate::limits::printable(name);
                self.note(Level::Warn, format!("several nodes call themselves {name}: {}", ids.join(", ")));
                return;
            }
            _ => return,
        };
        if member.node == self.me.get() {
            return;
        }
        let (name, addr) = (self.name_of(member.node), member.addr);
        let text = format!("agent {name} ({addr}) {what}");
        if member.proven {
            self.note(level, text)
        } else {
            self.note_hearsay(time, level, text)
        }
        self.hurry(time);
    }
}
