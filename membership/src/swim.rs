//! foca, driven: each call in, its effects out.
//!
//! It never sends, never keeps time and knows nothing of records; the conductor carries the effects out.

use crate::codec::PacketCodec;
use crate::entry::Seen;
use crate::identity::Identity;
use crate::options::Options;
use crate::packet::{self, FocaPacket};
use crate::timers::FocaTimer;
use foca::{Foca, Header, Incarnation, Member, Message, NoCustomBroadcast, Notification, State};
use rand::rngs::SmallRng;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Updates of foca that may wait at once, about one member each and 50 bytes long at most, so 50 KiB; those that tell of
/// somebody alive may take half of it, so that news of suspects and failures finds room. foca itself knows no bound, and
/// looks through all that waits for each packet it fills. So many are sent in a minute; exchanges carry what finds no room.
pub(crate) const UPDATES_MAX: usize = 1024;

/// The longest of them: an identity with an IPv6 address, its incarnation and its state.
pub(crate) const UPDATE_BYTES_MAX: usize = 50;

/// What foca wants done.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    pub(crate) packets: Vec<(Header<Identity>, Vec<u8>)>,
    pub(crate) timers: Vec<(Duration, FocaTimer)>,
    /// Of these nodes foca's table may have changed.
    pub(crate) changed: BTreeSet<u64>,
    /// Of any node.
    pub(crate) changed_any: bool,
    /// A probe is over.
    pub(crate) ended: Option<Ended>,
    /// Others had declared this node failed; it came back under the next bump.
    pub(crate) renewed: bool,
}

impl foca::Runtime<Identity> for Effects {
    fn notify(&mut self, notification: Notification<'_, Identity>) {
        match notification {
            Notification::Rejoin(_) => self.renewed = true,
            Notification::MemberUp(id) | Notification::MemberDown(id) | Notification::Rename(_, id) => {
                self.changed.insert(id.node);
            }
            _ => {}
        }
    }

    fn send_to(&mut self, _to: Identity, data: &[u8]) {
        if let Some(header) = packet::own_header(data) {
            self.packets.push((header, data.to_vec()));
        }
    }

    fn submit_after(&mut self, event: FocaTimer, after: Duration) {
        self.timers.push((after, event));
    }
}

/// Which way something came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Datagram,
    Stream,
}

/// What became of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) target: u64,
    /// It answered itself.
    pub(crate) answered: Option<Way>,
    /// It answered somebody else.
    pub(crate) relayed: bool,
    /// How many of those who were asked to probe it said nothing at all; nothing if nobody was asked.
    pub(crate) silent_helpers: Option<usize>,
}

/// The probe under way: foca does not tell, but its packets do.
#[derive(Debug)]
struct Probe {
    target: Identity,
    number: u8,
    packet: Vec<u8>,
    answered: Option<Way>,
    relayed: bool,
    /// Who was asked to probe it, and whether it was heard since.
    helpers: BTreeMap<u64, bool>,
}

impl Probe {
    fn new(target: Identity, number: u8, packet: Vec<u8>) -> Self {
        Self { target, number, packet, answered: None, relayed: false, helpers: BTreeMap::new() }
    }

    fn hear(&mut self, header: &Header<Identity>, way: Way) {
        if let Some(heard) = self.helpers.get_mut(&header.src.node) {
            *heard = true;
        }
        match &header.message {
            Message::Ack(number) if *number == self.number && header.src == self.target => {
                self.answered.get_or_insert(way);
            }
            Message::ForwardedAck { origin, probe_number } => {
                self.relayed |= *probe_number == self.number && *origin == self.target;
            }
            _ => {}
        }
    }

    fn end(&self) -> Ended {
        let silent = self.helpers.values().filter(|heard| !**heard).count();
        Ended {
            target: self.target.node,
            answered: self.answered,
            relayed: self.relayed,
            silent_helpers: (!self.helpers.is_empty()).then_some(silent),
        }
    }
}

pub(crate) struct Swim {
    foca: Foca<Identity, PacketCodec, SmallRng, NoCustomBroadcast>,
    /// foca does not show its own incarnation either; each packet carries it.
    incarnation: Incarnation,
    probe: Option<Probe>,
    sized_for: usize,
    left: bool,
    /// Updates that were news here, and were not passed on for want of room.
    dropped: u64,
}

impl std::fmt::Debug for Swim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Swim").field("identity", self.foca.identity()).finish_non_exhaustive()
    }
}

impl Swim {
    pub(crate) fn new(identity: Identity, options: &Options, rng: SmallRng) -> Self {
        let foca = Foca::new(identity, options.foca(1), rng, PacketCodec);
        Self { foca, incarnation: 0, probe: None, sized_for: 1, left: false, dropped: 0 }
    }

    pub(crate) fn identity(&self) -> &Identity {
        self.foca.identity()
    }

    /// This node as it stands in its own table.
    pub(crate) fn me(&self) -> Seen {
        let liveness = if self.left { State::Down } else { State::Alive };
        Seen { identity: *self.foca.identity(), incarnation: self.incarnation, liveness }
    }

    /// All others that foca knows.
    pub(crate) fn seen(&self) -> impl Iterator<Item = Seen> {
        self.foca.iter_membership_state().map(|member| Seen {
            identity: *member.id(),
            incarnation: member.incarnation(),
            liveness: member.state(),
        })
    }

    pub(crate) fn backlog(&self) -> usize {
        self.foca.updates_backlog()
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }

    fn known(&self, node: u64) -> Option<&Member<Identity>> {
        self.foca.iter_membership_state().find(|member| member.id().node == node)
    }

    /// Takes one update over, and passes it on if there is room for it.
    fn take_over(
        &mut self,
        update: Member<Identity>,
        broadcast: bool,
        effects: &mut Effects,
    ) -> Result<(), foca::Error> {
        let room = if update.state() == State::Alive { UPDATES_MAX / 2 } else { UPDATES_MAX };
        if !broadcast || self.backlog() < room {
            return self.foca.apply_many(std::iter::once(update), broadcast, effects);
        }
        let node = update.id().node;
        let before = self.known(node).cloned();
        let taken = self.foca.apply_many(std::iter::once(update), false, effects);
        self.dropped += u64::from(self.known(node) != before.as_ref());
        taken
    }

    /// Runs one call of foca and notes what its packets tell.
    fn run(&mut self, call: impl FnOnce(&mut Self, &mut Effects) -> Result<(), foca::Error>) -> Effects {
        let mut effects = Effects::default();
        let before = *self.foca.identity();
        if call(self, &mut effects).is_err() {
            // Nothing that the conductor lets through should fail; what a call did before it failed stands.
            effects.changed_any = true;
        }
        if before != *self.foca.identity() {
            self.incarnation = 0;
            self.probe = None;
            // foca comes back disconnected and stays so until it hears of somebody, which may be never: it stopped its
            // timers. It looks at its table again when told nothing new.
            let nothing = std::iter::empty();
            let _ = self.foca.apply_many(nothing, false, &mut effects);
        }
        for (header, packet) in &effects.packets {
            if header.src == *self.foca.identity() {
                self.incarnation = self.incarnation.max(header.src_incarnation);
            }
            match header.message {
                Message::Ping(number) => self.probe = Some(Probe::new(header.dst, number, packet.clone())),
                Message::PingReq { .. } => {
                    if let Some(probe) = &mut self.probe {
                        probe.helpers.insert(header.dst.node, false);
                    }
                }
                _ => {}
            }
        }
        effects
    }

    /// A packet that was read and found honest.
    pub(crate) fn hear(&mut self, packet: &FocaPacket, bytes: &[u8], way: Way) -> Effects {
        let header = &packet.header;
        if let Some(probe) = &mut self.probe {
            probe.hear(header, way);
        }
        let is_for_me = header.dst == *self.foca.identity();
        if !is_for_me || self.backlog() + packet.members.len() < UPDATES_MAX / 2 {
            return self.run(|swim, effects| swim.foca.handle_data(bytes, effects));
        }
        // foca would pass on whatever is news to it. Where that may be too much its parts are taken over one by one, in
        // foca's order: the sender, then what it says unless it is down, then the message without them.
        let bare = FocaPacket { header: header.clone(), members: Vec::new() }.encode();
        self.run(|swim, effects| {
            swim.take_over(Member::new(header.src, header.src_incarnation, State::Alive), true, effects)?;
            let is_heard = |known: &Member<Identity>| *known.id() == header.src && known.state() != State::Down;
            if swim.known(header.src.node).is_some_and(is_heard) {
                for member in &packet.members {
                    swim.take_over(member.clone(), true, effects)?;
                }
            }
            swim.foca.handle_data(bare.as_deref().unwrap_or(bytes), effects)
        })
    }

    pub(crate) fn timer(&mut self, timer: FocaTimer) -> Effects {
        let probed = if let FocaTimer::ProbeRandomMember(_) = timer { self.probe.take() } else { None };
        let mut effects = self.run(|swim, effects| swim.foca.handle_timer(timer, effects));
        if let Some(probed) = probed {
            if self.probe.is_none() {
                // A timer of an earlier turn: this one goes on.
                self.probe = Some(probed);
            } else {
                effects.changed.insert(probed.target.node);
                effects.ended = Some(probed.end());
            }
        }
        effects
    }

    /// A packet of our own making: a message with these updates, and nothing that foca would add.
    fn bare(&self, dst: Identity, message: Message<Identity>, members: Vec<Member<Identity>>) -> Option<Vec<u8>> {
        let header = Header { src: *self.foca.identity(), src_incarnation: self.incarnation, dst, message };
        packet::FocaPacket { header, members }.encode().ok()
    }

    /// A ping apart from foca's probes. A suspect is told that it is one, so that its answer is a refutation.
    pub(crate) fn ping(&self, seen: &Seen) -> Option<Vec<u8>> {
        let suspicion = (seen.liveness == State::Suspect)
            .then(|| Member::new(seen.identity, seen.incarnation, State::Suspect))
            .into_iter()
            .collect();
        self.bare(seen.identity, Message::Ping(0), suspicion)
    }

    /// A sign of life without any news, for who asked this node to probe another.
    pub(crate) fn nod(&self, to: Identity) -> Option<Vec<u8>> {
        self.bare(to, Message::Gossip, Vec::new())
    }

    /// What foca would tell a member that it declares failed.
    pub(crate) fn courtesy(&self, to: Identity) -> Option<Vec<u8>> {
        self.bare(to, Message::TurnUndead, Vec::new())
    }

    pub(crate) fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// The ping that got no answer by the time of this timer, to be repeated on a better way.
    pub(crate) fn unanswered(&self, timer: &FocaTimer) -> Option<(Identity, &[u8])> {
        match (timer, &self.probe) {
            (FocaTimer::SendIndirectProbe { probed_id, .. }, Some(probe))
                if probe.target == *probed_id && probe.answered.is_none() =>
            {
                Some((probe.target, &probe.packet))
            }
            _ => None,
        }
    }

    /// The ping under way to this member, if it has not answered.
    pub(crate) fn unanswered_by(&self, node: u64) -> Option<Vec<u8>> {
        let probe = self.probe.as_ref()?;
        (probe.target.node == node && probe.answered.is_none()).then(|| probe.packet.clone())
    }

    pub(crate) fn apply(&mut self, updates: Vec<Member<Identity>>, broadcast: bool) -> Effects {
        let changed: BTreeSet<u64> = updates.iter().map(|update| update.id().node).collect();
        let mut effects = self
            .run(|swim, effects| updates.into_iter().try_for_each(|update| swim.take_over(update, broadcast, effects)));
        effects.changed.extend(changed);
        effects
    }

    /// A connection proved an earlier life than gossip had told of: what gossip told is forgotten.
    pub(crate) fn replace(&mut self, false_identity: Identity, proven: Identity) -> Effects {
        let mut effects = self.run(|swim, effects| {
            let down = std::iter::once(Member::down(false_identity));
            swim.foca.apply_many(down, false, &mut *effects)?;
            swim.foca.handle_timer(FocaTimer::RemoveDown(false_identity), &mut *effects)?;
            swim.foca.apply_many(std::iter::once(Member::alive(proven)), true, effects)
        });
        effects.changed.insert(proven.node);
        effects
    }

    /// Somebody holds a later bump of this life than this node ever had: it goes beyond that.
    pub(crate) fn outbid(&mut self, bump: u32) -> Effects {
        let next = Identity { bump: bump.saturating_add(1), ..*self.foca.identity() };
        let mut effects = self.run(|swim, effects| swim.foca.change_identity(next, effects));
        effects.renewed = true;
        effects
    }

    pub(crate) fn announce(&mut self, to: Identity) -> Effects {
        self.run(|swim, effects| swim.foca.announce(to, effects))
    }

    pub(crate) fn gossip(&mut self) -> Effects {
        self.run(|swim, effects| swim.foca.gossip(effects))
    }

    pub(crate) fn leave(&mut self) -> Effects {
        let effects = self.run(|swim, effects| swim.foca.leave_cluster(effects));
        self.left = true;
        effects
    }

    /// foca forgets a member that is down.
    pub(crate) fn forget(&mut self, identity: Identity) -> Effects {
        self.timer(FocaTimer::RemoveDown(identity))
    }

    /// Follows the size of the cluster, in steps of half: probe times never change, nor the packet size.
    pub(crate) fn resize(&mut self, members: usize, options: &Options) {
        let (was, is) = (self.sized_for.max(1), members.max(1));
        if (is * 2 >= was * 3 || was * 2 >= is * 3) && self.foca.set_config(options.foca(is)).is_ok() {
            self.sized_for = is;
        }
    }
}
