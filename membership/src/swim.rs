//! foca, driven: each call in, its effects out.
//!
//! It never sends, never keeps time and knows nothing of records; the conductor carries the effects out.

use crate::codec::PacketCodec;
use crate::entry::Seen;
use crate::identity::Identity;
use crate::options::Options;
use crate::packet;
use crate::timers::FocaTimer;
use foca::{Foca, Header, Incarnation, Member, Message, NoCustomBroadcast, Notification, State};
use rand::rngs::SmallRng;
use std::time::Duration;

/// What foca wants done.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    pub(crate) packets: Vec<(Header<Identity>, Vec<u8>)>,
    pub(crate) timers: Vec<(Duration, FocaTimer)>,
    /// The table of foca may have changed.
    pub(crate) scan: bool,
    /// Others had declared this node failed; it came back under the next bump.
    pub(crate) renewed: bool,
}

impl foca::Runtime<Identity> for Effects {
    fn notify(&mut self, notification: Notification<'_, Identity>) {
        self.scan = true;
        if let Notification::Rejoin(_) = notification {
            self.renewed = true;
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

/// The probe under way: foca does not tell, but its packets do.
#[derive(Debug)]
struct Probe {
    target: Identity,
    number: u8,
    packet: Vec<u8>,
    answered: bool,
}

pub(crate) struct Swim {
    foca: Foca<Identity, PacketCodec, SmallRng, NoCustomBroadcast>,
    /// foca does not show its own incarnation either; each packet carries it.
    incarnation: Incarnation,
    probe: Option<Probe>,
    sized_for: usize,
    left: bool,
}

impl std::fmt::Debug for Swim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Swim").field("identity", self.foca.identity()).finish_non_exhaustive()
    }
}

impl Swim {
    pub(crate) fn new(identity: Identity, options: &Options, rng: SmallRng) -> Self {
        let foca = Foca::new(identity, options.foca(1), rng, PacketCodec);
        Self { foca, incarnation: 0, probe: None, sized_for: 1, left: false }
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

    /// Runs one call of foca and notes what its packets tell.
    fn run(&mut self, call: impl FnOnce(&mut Self, &mut Effects) -> Result<(), foca::Error>) -> Effects {
        let mut effects = Effects::default();
        let before = *self.foca.identity();
        if call(self, &mut effects).is_err() {
            // Nothing that the conductor lets through should fail; what a call did before it failed stands.
            effects.scan = true;
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
            if let Message::Ping(number) = header.message {
                self.probe = Some(Probe { target: header.dst, number, packet: packet.clone(), answered: false });
            }
        }
        effects
    }

    /// A packet that was read and found honest.
    pub(crate) fn hear(&mut self, header: &Header<Identity>, bytes: &[u8]) -> Effects {
        if let (Message::Ack(number), Some(probe)) = (&header.message, &mut self.probe)
            && probe.number == *number
            && probe.target == header.src
        {
            probe.answered = true;
        }
        self.run(|swim, effects| swim.foca.handle_data(bytes, effects))
    }

    pub(crate) fn timer(&mut self, timer: FocaTimer) -> Effects {
        if let FocaTimer::ChangeSuspectToDown { member_id, incarnation, .. } = &timer {
            // foca 2.0 tells a suspect that it is down when its time is over, even if it has answered by then: the
            // member would renew itself for nothing.
            let mut members = self.foca.iter_membership_state();
            if !members.any(|member| member.id() == member_id && member.incarnation() == *incarnation) {
                return Effects::default();
            }
        }
        let scan = matches!(timer, FocaTimer::ProbeRandomMember(_) | FocaTimer::ChangeSuspectToDown { .. });
        let mut effects = self.run(|swim, effects| swim.foca.handle_timer(timer, effects));
        effects.scan |= scan;
        effects
    }

    /// The ping that got no answer by the time of this timer, to be repeated on a better way.
    pub(crate) fn unanswered(&self, timer: &FocaTimer) -> Option<(Identity, &[u8])> {
        match (timer, &self.probe) {
            (FocaTimer::SendIndirectProbe { probed_id, .. }, Some(probe))
                if probe.target == *probed_id && !probe.answered =>
            {
                Some((probe.target, &probe.packet))
            }
            _ => None,
        }
    }

    pub(crate) fn apply(&mut self, updates: Vec<Member<Identity>>, broadcast: bool) -> Effects {
        let mut effects = self.run(|swim, effects| swim.foca.apply_many(updates.into_iter(), broadcast, effects));
        effects.scan = true;
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
        effects.scan = true;
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
