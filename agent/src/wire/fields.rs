//! Fixed-size fields off the front of a frame: every length is checked, nothing is copied.

use super::Malformed;
use crate::api::Appended;
use bytes::{Buf, BufMut, Bytes, BytesMut};

/// What is left of a frame that is being decoded.
#[derive(Debug)]
pub(super) struct Fields {
    rest: Bytes,
    what: &'static str,
}

impl Fields {
    pub(super) fn new(rest: Bytes, what: &'static str) -> Self {
        Self { rest, what }
    }
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let chunk = *self.rest.first_chunk::<N>().ok_or(Malformed(self.what))?;
        self.rest.advance(N);
        Ok(chunk)
    }
    pub(super) fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(self.take::<1>()?[0])
    }
    pub(super) fn u32(&mut self) -> Result<u32, Malformed> {
        self.take().map(u32::from_le_bytes)
    }
    pub(super) fn u64(&mut self) -> Result<u64, Malformed> {
        self.take().map(u64::from_le_bytes)
    }
    pub(super) fn i64(&mut self) -> Result<i64, Malformed> {
        self.take().map(i64::from_le_bytes)
    }
    pub(super) fn bytes(&mut self, len: usize) -> Result<Bytes, Malformed> {
        if len > self.rest.len() {
            return Err(Malformed(self.what));
        }
        Ok(self.rest.split_to(len))
    }
    pub(super) fn text(&mut self, len: usize) -> Result<String, Malformed> {
        let bytes = self.bytes(len)?;
        std::str::from_utf8(&bytes).map(str::to_owned).map_err(|_| Malformed(self.what))
    }
    pub(super) fn rest(self) -> Bytes {
        self.rest
    }
    pub(super) fn end(self) -> Result<(), Malformed> {
        if self.rest.is_empty() { Ok(()) } else { Err(Malformed(self.what)) }
    }
}

impl Appended {
    /// 41 bytes: first, last, term, time, lamport, deduplicated.
    pub(super) fn put(&self, out: &mut BytesMut) {
        out.put_u64_le(self.first);
        out.put_u64_le(self.last);
        out.put_u64_le(self.term);
        out.put_i64_le(self.time);
        out.put_u64_le(self.lamport);
        out.put_u8(self.deduped.into());
    }

    pub(super) fn take(fields: &mut Fields) -> Result<Self, Malformed> {
        Ok(Self {
            first: fields.u64()?,
            last: fields.u64()?,
            term: fields.u64()?,
            time: fields.i64()?,
            lamport: fields.u64()?,
            deduped: match fields.u8()? {
                0 => false,
                1 => true,
                _ => return Err(Malformed(fields.what)),
            },
        })
    }
}
