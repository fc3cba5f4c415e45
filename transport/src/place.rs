//! Where a packet says that it comes from, as far as one party can choose it freely: an IPv4 address, an IPv6 /64.
//! Never proof of anything: whether the address was proven is said beside it.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place(IpAddr);

impl Place {
    pub(crate) fn of(addr: SocketAddr) -> Self {
        Self(match addr.ip().to_canonical() {
            IpAddr::V4(v4) => IpAddr::V4(v4),
            IpAddr::V6(v6) => {
                let [a, b, c, d, ..] = v6.segments();
                IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
            }
        })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(v4) => write!(f, "{v4}"),
            IpAddr::V6(v6) => write!(f, "{v6}/64"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_owns_a_prefix_is_one_place() {
        let place = |text: &str| Place::of(text.parse().unwrap());
        assert_eq!(place("192.0.2.1:1"), place("[::ffff:192.0.2.1]:2"));
        assert_ne!(place("192.0.2.1:1"), place("192.0.2.2:1"));
        assert_eq!(place("[2001:db8:1:2::1]:1"), place("[2001:db8:1:2:ffff::9]:1"));
        assert_ne!(place("[2001:db8:1:2::1]:1"), place("[2001:db8:1:3::1]:1"));
        assert_eq!(place("[2001:db8:1:2::1]:1").to_string(), "2001:db8:1:2::/64");
    }
}
