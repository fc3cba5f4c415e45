//! A record: what a member says of itself, spread by gossip beside foca's own updates.
//!
//! ```text
//! node u64 | epoch u64 | boot u64 | lamport u64 | intent u8 (0 stays, 1 leaves) | address | name | version | tags
//! name, version: length u8, bytes;  tags: see `tag_store`
//! in the first version of the protocol   tags: count u8, then key and value, each length u8, bytes
//! ```
//!
//! It never says whether its member is alive: that is foca's to find out. Records are not signed; a record that did not
//! come over its member's own connection is hearsay, and the member itself refutes a false one with a later time.

use crate::dialect::Dialect;
use crate::member::{is_name, is_version};
use crate::place::Place;
use crate::tag_store::TagNews;
use crate::tags::Tags;
use crate::text::Text;
use crate::types::Life;
use crate::wire::{self, Malformed};
use bytes::{Buf, BufMut};

/// Lamport times from here on are refused: a liar must not be able to stop every clock at its end.
pub(crate) const LAMPORT_LIMIT: u64 = 1 << 62;
/// What is heard moves no clock beyond this: half of the range is left for what members say of themselves.
pub(crate) const LAMPORT_HEARD_MAX: u64 = 1 << 61;
/// How far a member's record may be ahead of its own latest word, said on its own connection, to be believed of others.
/// No honest clock gets there in between: it is a million a second for half a year.
pub(crate) const RECORD_JUMP_MAX: u64 = 1 << 44;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Record {
    pub(crate) node: u64,
    pub(crate) life: Life,
    /// Orders the records of one life.
    pub(crate) lamport: u64,
    /// It is going to leave: the difference between left and failed.
    pub(crate) leaving: bool,
    pub(crate) place: Place,
    pub(crate) name: Text,
    pub(crate) version: Text,
    /// What it tells of its tags; what is held of them may be more or less.
    pub(crate) tags: TagNews,
}

impl Record {
    /// The later of two records of one node ranks higher; of the same one, that which was not told in the first version.
    pub(crate) fn rank(&self) -> (Life, u64, u64) {
        (self.life, self.lamport, self.tags.version)
    }

    /// Both say the same of where and who their member is, and whether it goes.
    pub(crate) fn tells_no_more_than_tags(&self, told: &Self) -> bool {
        (self.life, self.leaving, self.place) == (told.life, told.leaving, told.place)
            && (&self.name, &self.version) == (&told.name, &told.version)
    }

    /// What somebody may say in the name of its member without being noticed: the same as it says itself. `tags`: those
    /// it really has, for what a member of the first version passes on has lost some.
    pub(crate) fn tells_the_same(&self, told: &Self, tags: &Tags) -> bool {
        let passed_on = || {
            let kept = if tags.fit_first() { tags.clone() } else { Tags::default() };
            told.tags.as_first() == Some(kept)
        };
        let same = (told.tags.version, told.tags.hash) == (self.tags.version, self.tags.hash);
        self.lamport == told.lamport && self.tells_no_more_than_tags(told) && (same || passed_on())
    }

    pub(crate) fn encode_card(&self, buf: &mut impl BufMut) {
        // At once: a table of thousands is nothing else.
        let mut fixed = [0; 33];
        for (part, to) in
            [self.node, self.life.epoch, self.life.boot, self.lamport].iter().zip(fixed.chunks_exact_mut(8))
        {
            to.copy_from_slice(&part.to_be_bytes());
        }
        fixed[32] = u8::from(self.leaving);
        buf.put_slice(&fixed);
        wire::put_place(buf, self.place);
        wire::put_text(buf, &self.name);
        wire::put_text(buf, &self.version);
    }

    pub(crate) fn encode(&self, buf: &mut impl BufMut) {
        self.encode_card(buf);
        self.tags.encode(buf);
    }

    /// As it is passed on, with what is told of its tags now.
    pub(crate) fn encode_told(&self, tags: &TagNews, buf: &mut impl BufMut) {
        self.encode_card(buf);
        tags.encode(buf);
    }

    /// For a member of the first version, with the tags that are held.
    pub(crate) fn encode_first(&self, tags: &Tags, buf: &mut impl BufMut) {
        self.encode_card(buf);
        tags.encode_first(buf);
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(128);
        self.encode(&mut out);
        out
    }

    /// Reads one record and validates all of it; leaves what follows.
    pub(crate) fn decode(buf: &mut impl Buf, dialect: Dialect) -> wire::Result<Self> {
        let node = wire::get_node(buf)?;
        let life = Life { epoch: wire::get_u64(buf)?, boot: wire::get_u64(buf)? };
        let lamport = wire::get_u64(buf)?;
        if lamport >= LAMPORT_LIMIT {
            return Err(Malformed("lamport time beyond its limit"));
        }
        let leaving = match wire::get_u8(buf)? {
            0 => false,
            1 => true,
            _ => return Err(Malformed("unknown intent")),
        };
        let place = wire::get_place(buf)?;
        let name = wire::get_text(buf)?;
        if !is_name(&name) {
            return Err(Malformed("illegal name"));
        }
        let version = wire::get_text(buf)?;
        if !is_version(&version) {
            return Err(Malformed("illegal version"));
        }
        let tags = match dialect {
            Dialect::First => TagNews::of_first(&Tags::decode_first(buf)?),
            Dialect::Second => TagNews::decode(buf, lamport)?,
        };
        Ok(Self { node, life, lamport, leaving, place, name: name.into(), version: version.into(), tags })
    }
}
