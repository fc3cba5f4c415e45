//! Reading and writing of the byte tables of this crate: integers big-endian, strings with a length byte.
//!
//! It never panics on what a peer sent, and never allocates more than the bytes it was given.

use crate::lie::Lie;
use crate::place::Place;
use bytes::{Buf, BufMut};

/// The bytes end early or hold a value that their table does not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed: {0}")]
pub(crate) struct Malformed(pub(crate) &'static str);

/// The one reason that an honest peer of another version may give.
pub(crate) const OTHER_VERSION: Malformed = Malformed("another version of the gossip protocol");

impl Malformed {
    /// What that says of its sender.
    pub(crate) fn lie(self) -> Option<Lie> {
        (self != OTHER_VERSION).then_some(Lie::Malformed)
    }
}

pub(crate) type Result<T> = std::result::Result<T, Malformed>;

fn need(buf: &impl Buf, n: usize) -> Result<()> {
    if buf.remaining() < n { Err(Malformed("ends early")) } else { Ok(()) }
}

pub(crate) fn get_u8(buf: &mut impl Buf) -> Result<u8> {
    need(buf, 1)?;
    Ok(buf.get_u8())
}

pub(crate) fn get_u16(buf: &mut impl Buf) -> Result<u16> {
    need(buf, 2)?;
    Ok(buf.get_u16())
}

pub(crate) fn get_u32(buf: &mut impl Buf) -> Result<u32> {
    need(buf, 4)?;
    Ok(buf.get_u32())
}

pub(crate) fn get_u64(buf: &mut impl Buf) -> Result<u64> {
    need(buf, 8)?;
    Ok(buf.get_u64())
}

/// A node id: never zero.
pub(crate) fn get_node(buf: &mut impl Buf) -> Result<u64> {
    match get_u64(buf)? {
        0 => Err(Malformed("node id is zero")),
        node => Ok(node),
    }
}

/// A length byte and that many bytes of UTF-8.
pub(crate) fn get_text(buf: &mut impl Buf) -> Result<String> {
    let len = usize::from(get_u8(buf)?);
    need(buf, len)?;
    let mut bytes = vec![0; len];
    buf.copy_to_slice(&mut bytes);
    String::from_utf8(bytes).map_err(|_| Malformed("text is not UTF-8"))
}

/// Exactly as many bytes as there is room for.
pub(crate) fn get_exact(buf: &mut impl Buf, out: &mut [u8]) -> Result<()> {
    need(buf, out.len())?;
    buf.copy_to_slice(out);
    Ok(())
}

/// Two bytes of length and that many bytes of UTF-8.
pub(crate) fn get_long_text(buf: &mut impl Buf) -> Result<String> {
    let len = usize::from(get_u16(buf)?);
    need(buf, len)?;
    let mut bytes = vec![0; len];
    buf.copy_to_slice(&mut bytes);
    String::from_utf8(bytes).map_err(|_| Malformed("text is not UTF-8"))
}

/// Text of at most 65,535 bytes; callers have validated the length.
pub(crate) fn put_long_text(buf: &mut impl BufMut, text: &str) {
    let len = u16::try_from(text.len()).expect("validated: text of at most 65,535 bytes");
    buf.put_u16(len);
    buf.put_slice(text.as_bytes());
}

/// Text of at most 255 bytes; callers have validated the length.
pub(crate) fn put_text(buf: &mut impl BufMut, text: &str) {
    let len = u8::try_from(text.len()).expect("validated: text of at most 255 bytes");
    buf.put_u8(len);
    buf.put_slice(text.as_bytes());
}

/// `4`, four bytes, port; or `6`, sixteen bytes, port.
pub(crate) fn get_place(buf: &mut impl Buf) -> Result<Place> {
    match get_u8(buf)? {
        4 => Ok(Place::V4(get_u32(buf)?.to_be_bytes(), get_u16(buf)?)),
        6 => {
            let mut octets = [0; 16];
            get_exact(buf, &mut octets)?;
            Ok(Place::V6(octets, get_u16(buf)?))
        }
        _ => Err(Malformed("unknown address family")),
    }
}

pub(crate) fn put_place(buf: &mut impl BufMut, place: Place) {
    let port = match place {
        Place::V4(ip, port) => {
            buf.put_u8(4);
            buf.put_slice(&ip);
            port
        }
        Place::V6(ip, port) => {
            buf.put_u8(6);
            buf.put_slice(&ip);
            port
        }
    };
    buf.put_u16(port);
}

/// Encoded size of an address, in bytes.
pub(crate) fn place_bytes(place: Place) -> usize {
    match place {
        Place::V4(..) => 1 + 4 + 2,
        Place::V6(..) => 1 + 16 + 2,
    }
}
