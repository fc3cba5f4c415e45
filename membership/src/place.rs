//! A place: an address in the 20 bytes that gossip tells of it, where `SocketAddr` takes 32.
//!
//! It never holds the scope of a link-local address: only a connection knows that, and its contact keeps it.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

/// Where somebody is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Place {
    V4([u8; 4], u16),
    V6([u8; 16], u16),
}

impl Place {
    /// The place of somebody of whom none is known.
    pub(crate) const NOWHERE: Self = Self::V6([0; 16], 0);

    /// It can be dialled.
    pub(crate) fn is_dialable(self) -> bool {
        is_dialable(self.into())
    }
}

/// An address that can be dialled.
pub(crate) fn is_dialable(addr: SocketAddr) -> bool {
    !addr.ip().is_unspecified() && addr.port() != 0
}

impl From<SocketAddr> for Place {
    fn from(addr: SocketAddr) -> Self {
        match addr {
            SocketAddr::V4(addr) => Self::V4(addr.ip().octets(), addr.port()),
            SocketAddr::V6(addr) => Self::V6(addr.ip().octets(), addr.port()),
        }
    }
}

impl From<Place> for SocketAddr {
    fn from(place: Place) -> Self {
        match place {
            Place::V4(ip, port) => (Ipv4Addr::from(ip), port).into(),
            Place::V6(ip, port) => (Ipv6Addr::from(ip), port).into(),
        }
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        SocketAddr::from(*self).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_families_come_back_as_they_were() {
        for text in ["10.0.0.1:7373", "[::1]:7373", "[::ffff:10.0.0.1]:7373", "[::]:0"] {
            let addr: SocketAddr = text.parse().unwrap();
            assert_eq!(SocketAddr::from(Place::from(addr)), addr);
        }
        assert!(!Place::NOWHERE.is_dialable());
        assert_eq!(std::mem::size_of::<Place>(), 20);
    }
}
