//! The UDP socket: both families on one port, large buffers.
//! Never falls back silently from an address the user chose.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use socket2::{Domain, Protocol, Socket, Type};

use crate::BindError;

/// Asked for receiving and sending, in bytes; the system may grant less, which costs losses in bursts.
const BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// Binds `addr`; `[::]` serves IPv4 too, and is `0.0.0.0` on a machine without IPv6.
pub(crate) fn bind(addr: SocketAddr) -> Result<UdpSocket, BindError> {
    let bound = match open(addr) {
        Err(_) if addr.ip() == Ipv6Addr::UNSPECIFIED && !has_ipv6() => {
            open(SocketAddr::from((Ipv4Addr::UNSPECIFIED, addr.port())))
        }
        other => other,
    };
    bound.map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => BindError::InUse { addr },
        io::ErrorKind::AddrNotAvailable => BindError::NotOurs { addr },
        io::ErrorKind::PermissionDenied => BindError::Forbidden { addr },
        _ => BindError::Io { addr, source },
    })
}

fn open(addr: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
    if addr.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    // A system that grants less still works; `Endpoint::stats` shows the losses.
    let _ = socket.set_recv_buffer_size(BUFFER_BYTES);
    let _ = socket.set_send_buffer_size(BUFFER_BYTES);
    socket.bind(&addr.into())?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

fn has_ipv6() -> bool {
    Socket::new(Domain::IPV6, Type::DGRAM, Some(Protocol::UDP)).is_ok()
        && open(SocketAddr::from((Ipv6Addr::LOCALHOST, 0))).is_ok()
}

/// The address as people write it: IPv4 without its IPv6 dress.
pub(crate) fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_in_use_is_named() {
        let first = bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let addr = first.local_addr().unwrap();
        let error = bind(addr).unwrap_err().to_string();
        assert!(error.contains("in use") && error.contains(&addr.port().to_string()), "{error}");
    }

    #[test]
    fn a_foreign_address_is_named() {
        let addr = "192.0.2.1:0".parse().unwrap();
        assert!(matches!(bind(addr), Err(BindError::NotOurs { .. })));
    }
}
