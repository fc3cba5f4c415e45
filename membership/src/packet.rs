//! One gossip datagram: a packet of foca and, in the room that it leaves, records of members.
//!
//! ```text
//! datagram  version u8 (1 or 2, see `dialect`) | foca length u16 | foca packet | record*        at most 1150 bytes together
//! record    length u16 | record (see `record`)
//! ```
//!
//! It never decides what is news. A packet is read as a whole before foca sees it, so that what a peer may not say can
//! be taken out.

use crate::codec::PacketCodec;
use crate::dialect::Dialect;
use crate::entry::Seen;
use crate::identity::Identity;
use crate::record::Record;
use crate::wire::{self, Malformed};
use bytes::{Buf, BufMut};
use foca::{Codec, Header, Member, Message, State};

/// The size no gossip datagram exceeds, in bytes: what QUIC carries in one packet of 1200 bytes with the longest
/// connection ids. The same in the whole cluster, so it is not an option.
pub const PACKET_BYTES_MAX: usize = 1150;

const PREFIX_BYTES: usize = 1 + 2;

/// What foca may use of a datagram. Never changed at run time: foca asserts that its buffer keeps this size.
pub(crate) const FOCA_BYTES_MAX: usize = PACKET_BYTES_MAX - PREFIX_BYTES;

/// What foca says in one packet.
#[derive(Debug)]
pub(crate) struct FocaPacket {
    pub(crate) header: Header<Identity>,
    pub(crate) members: Vec<Member<Identity>>,
}

/// A datagram, read.
#[derive(Debug)]
pub(crate) struct Packet {
    pub(crate) dialect: Dialect,
    pub(crate) foca: FocaPacket,
    pub(crate) records: Vec<Record>,
}

/// Wraps a foca packet; records follow with [`append`].
pub(crate) fn wrap(foca: &[u8], dialect: Dialect) -> Vec<u8> {
    let len = u16::try_from(foca.len()).expect("foca keeps its packet size");
    assert!(foca.len() <= FOCA_BYTES_MAX, "foca keeps its packet size");
    let mut out = Vec::with_capacity(PACKET_BYTES_MAX);
    out.put_u8(dialect.version());
    out.put_u16(len);
    out.put_slice(foca);
    out
}

/// Appends an encoded record if it fits; says whether it did.
pub(crate) fn append(packet: &mut Vec<u8>, record: &[u8]) -> bool {
    if packet.len() + 2 + record.len() > PACKET_BYTES_MAX {
        return false;
    }
    packet.put_u16(u16::try_from(record.len()).expect("shorter than a packet"));
    packet.put_slice(record);
    true
}

/// Reads a whole datagram.
pub(crate) fn decode(mut bytes: &[u8]) -> wire::Result<Packet> {
    if bytes.len() > PACKET_BYTES_MAX {
        return Err(Malformed("datagram of more than 1150 bytes"));
    }
    let dialect = Dialect::of(wire::get_u8(&mut bytes)?)?;
    let len = usize::from(wire::get_u16(&mut bytes)?);
    if bytes.len() < len {
        return Err(Malformed("ends early"));
    }
    let (foca, mut rest) = bytes.split_at(len);
    let foca = decode_foca(foca)?;
    let mut records = Vec::new();
    while !rest.is_empty() {
        let len = usize::from(wire::get_u16(&mut rest)?);
        if rest.len() < len {
            return Err(Malformed("ends early"));
        }
        let (mut record, after) = rest.split_at(len);
        records.push(Record::decode(&mut record, dialect)?);
        if !record.is_empty() {
            return Err(Malformed("bytes after a record"));
        }
        rest = after;
    }
    Ok(Packet { dialect, foca, records })
}

/// The part of a datagram, read before, that is foca's.
pub(crate) fn foca_bytes(datagram: &[u8]) -> &[u8] {
    match datagram {
        [_, high, low, rest @ ..] => rest.get(..usize::from(u16::from_be_bytes([*high, *low]))).unwrap_or(rest),
        _ => &[],
    }
}

fn decode_foca(mut bytes: &[u8]) -> wire::Result<FocaPacket> {
    let header = PacketCodec.decode_header(&mut bytes)?;
    let mut members = Vec::new();
    match header.message {
        // We never send these: records ride in our own envelope.
        Message::Broadcast => return Err(Malformed("foca broadcasts are not part of this protocol")),
        Message::Announce | Message::TurnUndead => {}
        _ => {
            if bytes.has_remaining() {
                for _ in 0..wire::get_u16(&mut bytes)? {
                    members.push(PacketCodec.decode_member(&mut bytes)?);
                }
            }
        }
    }
    if bytes.has_remaining() {
        return Err(Malformed("bytes after the members"));
    }
    Ok(FocaPacket { header, members })
}

/// The same packet, telling a suspect that it is one if foca left that out, so that its answer is a refutation; nothing if
/// there is no need.
pub(crate) fn with_suspicion(foca: &[u8], seen: &Seen) -> Option<Vec<u8>> {
    if seen.liveness != State::Suspect {
        return None;
    }
    let mut packet = decode_foca(foca).ok()?;
    if packet.members.iter().any(|member| *member.id() == seen.identity) {
        return None;
    }
    packet.members.insert(0, Member::new(seen.identity, seen.incarnation, State::Suspect));
    let mut bytes = packet.encode().ok()?;
    while bytes.len() > FOCA_BYTES_MAX {
        // What is left out was taken for sent; it is sent several times, and exchanges carry it.
        packet.members.pop()?;
        bytes = packet.encode().ok()?;
    }
    Some(bytes)
}

/// A packet of our own foca without as many of its members as make room for so many bytes, who is alive first. What is
/// taken out loses one of the many times that it is sent.
pub(crate) fn make_room(foca: &[u8], bytes: usize) -> Option<Vec<u8>> {
    let mut packet = decode_foca(foca).ok()?;
    let room = FOCA_BYTES_MAX.checked_sub(bytes)?;
    // Stable, so of equals those that foca put last go first.
    packet.members.sort_by_key(|member| member.state() == State::Alive);
    let mut out = packet.encode().ok()?;
    while out.len() > room {
        packet.members.pop()?;
        out = packet.encode().ok()?;
    }
    Some(out)
}

/// Whether a datagram, made by a core, only passes news on: of no use to who is not connected, unlike probes and answers.
#[must_use]
pub fn is_only_news(datagram: &[u8]) -> bool {
    own_header(foca_bytes(datagram)).is_some_and(|header| header.message == Message::Gossip)
}

/// The header of a packet that our own foca made.
pub(crate) fn own_header(mut foca: &[u8]) -> Option<Header<Identity>> {
    PacketCodec.decode_header(&mut foca).ok()
}

impl FocaPacket {
    /// The bytes to hand to foca, after what the sender may not say was taken out.
    pub(crate) fn encode(&self) -> wire::Result<Vec<u8>> {
        let mut out = Vec::with_capacity(PACKET_BYTES_MAX);
        PacketCodec.encode_header(&self.header, &mut out)?;
        if !matches!(self.header.message, Message::Announce | Message::TurnUndead) {
            out.put_u16(u16::try_from(self.members.len()).map_err(|_| Malformed("too many members"))?);
            for member in &self.members {
                PacketCodec.encode_member(member, &mut out)?;
            }
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Life;

    fn identity(node: u64) -> Identity {
        Identity {
            node,
            life: Life { epoch: 1, boot: 1 },
            bump: 0,
            place: crate::place::Place::V4([10, 0, 0, 1], 7373),
        }
    }

    /// Who is alive makes room for who goes; who is suspected or down does not, as long as there is anybody alive.
    #[test]
    fn the_living_make_room_first() {
        let header = Header { src: identity(1), src_incarnation: 0, dst: identity(2), message: Message::Gossip };
        let state = |n: u64| [State::Alive, State::Suspect, State::Down][(n % 3) as usize];
        let members: Vec<_> = (3..31).map(|n| Member::new(identity(n), 0, state(n))).collect();
        let count = |members: &[Member<Identity>], of: State| members.iter().filter(|m| m.state() == of).count();
        let full = FocaPacket { header, members }.encode().unwrap();
        assert!(full.len() <= FOCA_BYTES_MAX && full.len() + 38 > FOCA_BYTES_MAX, "{} bytes", full.len());
        let shorter = make_room(&full, 200).unwrap();
        assert!(shorter.len() + 200 <= FOCA_BYTES_MAX);
        let left = decode_foca(&shorter).unwrap().members;
        let all = decode_foca(&full).unwrap().members;
        assert_eq!(count(&left, State::Suspect), count(&all, State::Suspect));
        assert_eq!(count(&left, State::Down), count(&all, State::Down));
        assert!(count(&left, State::Alive) < count(&all, State::Alive));
        // What fits leaves all as it is, but for the order; what cannot fit is not made to.
        assert_eq!(make_room(&shorter, 200).map(|bytes| bytes.len()), Some(shorter.len()));
        assert_eq!(make_room(&full, FOCA_BYTES_MAX), None);
    }
}
