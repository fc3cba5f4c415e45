//! foca's packets as bytes, hand-laid so that a member costs as few of the 1150 bytes as it can.
//!
//! ```text
//! identity  node u64 | epoch u64 | boot u64 | bump u32 | address          35 bytes (IPv4), 47 (IPv6)
//! address   4 | ip 4 | port u16,  or  6 | ip 16 | port u16
//! header    src identity | src incarnation u16 | dst identity | message
//! message   0 ping n | 1 ack n | 2 ping-request target n | 3 indirect-ping origin n | 4 indirect-ack target n
//!           5 forwarded-ack origin n | 6 announce | 7 feed | 8 gossip | 9 broadcast | 10 turn-undead   (n: u8)
//! member    identity | incarnation u16 | state u8 (0 alive, 1 suspect, 2 down)
//! packet    header | count u16 | members          announce and turn-undead: the header alone
//! ```
//!
//! It never panics on what a peer sent, and never allocates for a count that the bytes do not back.

use crate::identity::{BUMP_LIMIT, Identity};
use crate::types::Life;
use crate::wire::{self, Malformed};
use bytes::{Buf, BufMut};
use foca::{Header, Member, Message, State};

/// The codec; it has no state.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PacketCodec;

pub(crate) fn put_identity(buf: &mut impl BufMut, id: &Identity) {
    buf.put_u64(id.node);
    buf.put_u64(id.life.epoch);
    buf.put_u64(id.life.boot);
    buf.put_u32(id.bump);
    wire::put_place(buf, id.place);
}

pub(crate) fn get_identity(buf: &mut impl Buf) -> wire::Result<Identity> {
    let node = wire::get_node(buf)?;
    let life = Life { epoch: wire::get_u64(buf)?, boot: wire::get_u64(buf)? };
    let bump = wire::get_u32(buf)?;
    if bump >= BUMP_LIMIT {
        return Err(Malformed("renewed more often than anybody can be"));
    }
    Ok(Identity { node, life, bump, place: wire::get_place(buf)? })
}

fn identity_bytes(id: &Identity) -> usize {
    8 + 8 + 8 + 4 + wire::place_bytes(id.place)
}

pub(crate) fn put_state(buf: &mut impl BufMut, state: State) {
    buf.put_u8(match state {
        State::Alive => 0,
        State::Suspect => 1,
        State::Down => 2,
    });
}

pub(crate) fn get_state(buf: &mut impl Buf) -> wire::Result<State> {
    match wire::get_u8(buf)? {
        0 => Ok(State::Alive),
        1 => Ok(State::Suspect),
        2 => Ok(State::Down),
        _ => Err(Malformed("unknown member state")),
    }
}

fn message_bytes(message: &Message<Identity>) -> usize {
    match message {
        Message::Ping(_) | Message::Ack(_) => 2,
        Message::PingReq { target: id, .. }
        | Message::IndirectPing { origin: id, .. }
        | Message::IndirectAck { target: id, .. }
        | Message::ForwardedAck { origin: id, .. } => 2 + identity_bytes(id),
        Message::Announce | Message::Feed | Message::Gossip | Message::Broadcast | Message::TurnUndead => 1,
    }
}

fn put_message(buf: &mut impl BufMut, message: &Message<Identity>) {
    let (tag, id, number) = match message {
        Message::Ping(n) => (0, None, Some(n)),
        Message::Ack(n) => (1, None, Some(n)),
        Message::PingReq { target, probe_number } => (2, Some(target), Some(probe_number)),
        Message::IndirectPing { origin, probe_number } => (3, Some(origin), Some(probe_number)),
        Message::IndirectAck { target, probe_number } => (4, Some(target), Some(probe_number)),
        Message::ForwardedAck { origin, probe_number } => (5, Some(origin), Some(probe_number)),
        Message::Announce => (6, None, None),
        Message::Feed => (7, None, None),
        Message::Gossip => (8, None, None),
        Message::Broadcast => (9, None, None),
        Message::TurnUndead => (10, None, None),
    };
    buf.put_u8(tag);
    if let Some(id) = id {
        put_identity(buf, id);
    }
    if let Some(number) = number {
        buf.put_u8(*number);
    }
}

fn get_message(buf: &mut impl Buf) -> wire::Result<Message<Identity>> {
    Ok(match wire::get_u8(buf)? {
        0 => Message::Ping(wire::get_u8(buf)?),
        1 => Message::Ack(wire::get_u8(buf)?),
        2 => Message::PingReq { target: get_identity(buf)?, probe_number: wire::get_u8(buf)? },
        3 => Message::IndirectPing { origin: get_identity(buf)?, probe_number: wire::get_u8(buf)? },
        4 => Message::IndirectAck { target: get_identity(buf)?, probe_number: wire::get_u8(buf)? },
        5 => Message::ForwardedAck { origin: get_identity(buf)?, probe_number: wire::get_u8(buf)? },
        6 => Message::Announce,
        7 => Message::Feed,
        8 => Message::Gossip,
        9 => Message::Broadcast,
        10 => Message::TurnUndead,
        _ => return Err(Malformed("unknown message")),
    })
}

impl foca::Codec<Identity> for PacketCodec {
    type Error = Malformed;

    fn encode_header(&mut self, header: &Header<Identity>, mut buf: impl BufMut) -> Result<(), Malformed> {
        let bytes = identity_bytes(&header.src) + 2 + identity_bytes(&header.dst) + message_bytes(&header.message);
        if buf.remaining_mut() < bytes {
            return Err(Malformed("no room for the header"));
        }
        put_identity(&mut buf, &header.src);
        buf.put_u16(header.src_incarnation);
        put_identity(&mut buf, &header.dst);
        put_message(&mut buf, &header.message);
        Ok(())
    }

    fn decode_header(&mut self, mut buf: impl Buf) -> Result<Header<Identity>, Malformed> {
        Ok(Header {
            src: get_identity(&mut buf)?,
            src_incarnation: wire::get_u16(&mut buf)?,
            dst: get_identity(&mut buf)?,
            message: get_message(&mut buf)?,
        })
    }

    fn encode_member(&mut self, member: &Member<Identity>, mut buf: impl BufMut) -> Result<(), Malformed> {
        // Nothing is written unless all of it fits: foca fills a packet until the first error.
        if buf.remaining_mut() < identity_bytes(member.id()) + 2 + 1 {
            return Err(Malformed("no room for the member"));
        }
        put_identity(&mut buf, member.id());
        buf.put_u16(member.incarnation());
        put_state(&mut buf, member.state());
        Ok(())
    }

    fn decode_member(&mut self, mut buf: impl Buf) -> Result<Member<Identity>, Malformed> {
        let id = get_identity(&mut buf)?;
        let incarnation = wire::get_u16(&mut buf)?;
        Ok(Member::new(id, incarnation, get_state(&mut buf)?))
    }
}
