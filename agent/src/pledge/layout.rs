//! Layout: the bytes of what is stored and sent about founding. Integers are little-endian.
//!
//! It never trusts a length or a number: every field is bounded, and nothing may be left over. What is hashed or signed,
//! `content` and `word` write.
//!
//! The file `DATA/formation` (at most 8 KiB):
//! ```text
//!  0  8  "quopledg"
//!  8  2  version, 1
//! 10  2  zero
//! 12  4  length of the body in bytes
//! 16  4  CRC32C of bytes 0..16 and the body
//! 20     body: u64 node id of this directory, u64 floor, u8 stage (0 free, 1 pledged, 2 lives, 3 founded), and unless
//!        free the proposal and its words
//! ```
//! A proposal:
//! ```text
//!  0 16  cluster id
//! 16  8  round, not zero
//! 24  8  largest value of a record, in bytes
//! 32  1  number of founders: 1, 3, 5 or 7
//! 33     each, ascending by node id: u64 node id, 32 bytes of key, u8 length and text of the name
//! ```
//! Words, one group for each founder in their order:
//! ```text
//!  0  1  bits: 1 pledged, 2 promised, 4 voted
//!  1     if pledged: 64 bytes of signature
//!        if promised: u64 ballot, u8 0 (never voted), 1 (voted for life) or 2 (for death), u64 ballot of that vote, signature
//!        if voted: u64 ballot, u8 1 (for life) or 2 (for death), signature
//! ```
//! A report, in a frame of the peer class:
//! ```text
//!  0 32  key
//! 32  1  expected
//! 33  8  largest value of a record, in bytes
//! 41  8  floor
//! 49  1  bits: 1 has a log, 2 has pledged itself, 4 never founds what is named
//! 50     if it has a log: 16 bytes of its id
//!        if pledged: the proposal and its words
//!        if never: 16 bytes of the proposal's id, 64 bytes of signature
//! ```
//! Not protected: a whole file that was put back as it was before. A disk that goes back in time is beyond this.

use super::content::{Founder, put_content};
use super::keys::Signature;
use super::proposal::{Proposal, is_expectable};
use super::record::{Pledge, Record};
use super::report::Report;
use super::word::{Ballot, Verdict, Word, put_vote, verdict_byte};
use super::words::Words;
use crate::codec::Malformed;
use crate::limits;

const MAGIC: &[u8; 8] = b"quopledg";
const VERSION: u16 = 1;
/// Bytes before the body.
const HEAD_BYTES: usize = 20;
/// More than seven founders with all their words need.
const FILE_BYTES_MAX: usize = 8 << 10;

type Read<T> = Result<T, Malformed>;

/// Bytes that are read from the front.
struct Rest<'a> {
    bytes: &'a [u8],
    what: &'static str,
}

impl Rest<'_> {
    fn take<const N: usize>(&mut self) -> Read<[u8; N]> {
        let (first, rest) = self.bytes.split_first_chunk::<N>().ok_or(Malformed(self.what))?;
        self.bytes = rest;
        Ok(*first)
    }
    fn u8(&mut self) -> Read<u8> {
        Ok(self.take::<1>()?[0])
    }
    fn u64(&mut self) -> Read<u64> {
        self.take().map(u64::from_le_bytes)
    }
    fn text(&mut self) -> Read<String> {
        let len = self.u8()?.into();
        let (text, rest) = self.bytes.split_at_checked(len).ok_or(Malformed(self.what))?;
        self.bytes = rest;
        let text = std::str::from_utf8(text).map_err(|_| Malformed(self.what))?;
        limits::check_name(text).map_err(|_| Malformed(self.what))?;
        Ok(text.to_owned())
    }
    fn end(self) -> Read<()> {
        if self.bytes.is_empty() { Ok(()) } else { Err(Malformed(self.what)) }
    }
    fn bad<T>(&self) -> Read<T> {
        Err(Malformed(self.what))
    }
}

fn proposal(rest: &mut Rest<'_>) -> Read<Proposal> {
    let (cluster, round, record_bytes_max) = (rest.take()?, rest.u64()?, rest.u64()?);
    let count: usize = rest.u8()?.into();
    if !is_expectable(count) {
        return rest.bad();
    }
    let mut founders = Vec::with_capacity(count);
    for _ in 0..count {
        founders.push(Founder { node: rest.u64()?, key: rest.take()?, name: rest.text()? });
    }
    let is_ascending = founders.windows(2).all(|two| matches!(two, [a, b] if a.node < b.node));
    let made = Proposal::new(cluster, round, record_bytes_max, founders).filter(|_| is_ascending);
    made.ok_or(Malformed(rest.what))
}

fn vote(rest: &mut Rest<'_>) -> Read<Option<Verdict>> {
    match rest.u8()? {
        0 => Ok(None),
        1 => Ok(Some(Verdict::Lives)),
        2 => Ok(Some(Verdict::Dead)),
        _ => rest.bad(),
    }
}

fn put_words(out: &mut Vec<u8>, proposal: &Proposal, words: &Words) {
    for founder in proposal.founders() {
        let said = words.of(founder.node).cloned().unwrap_or_default();
        let bits = [said.pledged.is_some(), said.promised.is_some(), said.voted.is_some()];
        out.push(bits.iter().zip([1, 2, 4]).map(|(is, bit)| if *is { bit } else { 0 }).sum());
        if let Some(signature) = said.pledged {
            out.extend_from_slice(&signature);
        }
        if let Some((ballot, voted, signature)) = said.promised {
            out.extend_from_slice(&ballot.0.to_le_bytes());
            put_vote(out, voted);
            out.extend_from_slice(&signature);
        }
        if let Some((ballot, verdict, signature)) = said.voted {
            out.extend_from_slice(&ballot.0.to_le_bytes());
            out.push(verdict_byte(verdict));
            out.extend_from_slice(&signature);
        }
    }
}

fn words(rest: &mut Rest<'_>, proposal: &Proposal) -> Read<Words> {
    let mut words = Words::default();
    for founder in proposal.founders() {
        let bits = rest.u8()?;
        if bits > 7 {
            return rest.bad();
        }
        if bits & 1 != 0 {
            words.say(founder.node, Word::Pledged, rest.take()?);
        }
        if bits & 2 != 0 {
            let ballot = Ballot(rest.u64()?);
            let (verdict, at) = (vote(rest)?, Ballot(rest.u64()?));
            let voted = match verdict {
                Some(verdict) => Some((at, verdict)),
                None if at == Ballot::FOUNDING => None,
                None => return rest.bad(),
            };
            words.say(founder.node, Word::Promised { ballot, voted }, rest.take()?);
        }
        if bits & 4 != 0 {
            let ballot = Ballot(rest.u64()?);
            let Some(verdict) = vote(rest)? else { return rest.bad() };
            words.say(founder.node, Word::Voted { ballot, verdict }, rest.take()?);
        }
    }
    Ok(words)
}

impl Record {
    /// The bytes of the file of this node.
    #[must_use]
    pub fn encode(&self, node: u64) -> Vec<u8> {
        let mut body = Vec::with_capacity(1024);
        body.extend_from_slice(&node.to_le_bytes());
        body.extend_from_slice(&self.floor.to_le_bytes());
        body.push(self.pledge.as_ref().map_or(0, |p| 1 + u8::from(p.lives) + u8::from(p.lives && p.founded)));
        if let Some(pledge) = &self.pledge {
            put_content(&mut body, pledge.proposal.content());
            put_words(&mut body, &pledge.proposal, &pledge.words);
        }
        let mut out = Vec::with_capacity(HEAD_BYTES + body.len());
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&[0; 2]);
        out.extend_from_slice(&(body.len() as u32).to_le_bytes());
        let crc = crc32c::crc32c_append(crc32c::crc32c(&out), &body);
        out.extend_from_slice(&crc.to_le_bytes());
        out.extend_from_slice(&body);
        out
    }

    /// The file back to the record, and whose it is. Whoever cannot read its own must not act as if it had promised nothing:
    /// without a log it is told to be wiped.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub fn decode(bytes: &[u8]) -> Result<(u64, Self), Malformed> {
        if bytes.len() > FILE_BYTES_MAX {
            return Err(Malformed("formation file (too long)"));
        }
        let (head, body) = bytes.split_at_checked(HEAD_BYTES).ok_or(Malformed("formation file (too short)"))?;
        let mut rest = Rest { bytes: head, what: "formation file" };
        let (magic, version, zero) = (rest.take::<8>()?, u16::from_le_bytes(rest.take()?), rest.take::<2>()?);
        if magic != *MAGIC {
            return Err(Malformed("formation file (another kind of file)"));
        }
        let len = u32::from_le_bytes(rest.take()?) as usize;
        let crc = crc32c::crc32c_append(crc32c::crc32c(head.get(..16).unwrap_or_default()), body);
        if len != body.len() || u32::from_le_bytes(rest.take()?) != crc || zero != [0; 2] {
            return Err(Malformed("formation file (checksum)"));
        }
        if version != VERSION {
            return Err(Malformed("formation file (of a later version)"));
        }
        let mut rest = Rest { bytes: body, what: "formation file" };
        let (node, floor) = (rest.u64()?, rest.u64()?);
        let stage = rest.u8()?;
        match stage {
            0 => {
                rest.end()?;
                return Ok((node, Self { floor, pledge: None }));
            }
            1..=3 => {}
            _ => return rest.bad(),
        }
        let proposal = proposal(&mut rest)?;
        let words = words(&mut rest, &proposal)?;
        rest.end()?;
        Ok((node, Self { floor, pledge: Some(Pledge { proposal, words, lives: stage >= 2, founded: stage == 3 }) }))
    }
}

impl Report {
    /// The bytes of a report, without the kind of its frame.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(1024);
        out.extend_from_slice(&self.key);
        out.push(self.expect);
        out.extend_from_slice(&self.record_bytes_max.to_le_bytes());
        out.extend_from_slice(&self.floor.to_le_bytes());
        let bits = [self.log.is_some(), self.pledge.is_some(), self.never.is_some()];
        out.push(bits.iter().zip([1, 2, 4]).map(|(is, bit)| if *is { bit } else { 0 }).sum());
        if let Some(log) = self.log {
            out.extend_from_slice(&log);
        }
        if let Some((proposal, words)) = &self.pledge {
            put_content(&mut out, proposal.content());
            put_words(&mut out, proposal, words);
        }
        if let Some((id, signature)) = &self.never {
            out.extend_from_slice(id);
            out.extend_from_slice(signature);
        }
        out
    }

    /// The bytes back to a report. No signature is checked yet.
    ///
    /// # Errors
    /// That they are none.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut rest = Rest { bytes, what: "formation report" };
        let key = rest.take()?;
        let (expect, record_bytes_max, floor, bits) = (rest.u8()?, rest.u64()?, rest.u64()?, rest.u8()?);
        if bits > 7 || (expect != 0 && !is_expectable(expect.into())) {
            return rest.bad();
        }
        let log = if bits & 1 != 0 { Some(rest.take()?) } else { None };
        let pledge = if bits & 2 != 0 {
            let proposal = proposal(&mut rest)?;
            let words = words(&mut rest, &proposal)?;
            Some((proposal, words))
        } else {
            None
        };
        let never = if bits & 4 != 0 { Some((rest.take()?, rest.take::<64>()? as Signature)) } else { None };
        rest.end()?;
        Ok(Self { key, expect, record_bytes_max, floor, log, pledge, never })
    }
}
