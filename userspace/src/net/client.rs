//! The socket that a client speaks with: of one interface and one address, and it blocks.

use std::{
    io,
    net::{SocketAddrV6, UdpSocket},
    os::fd::AsFd as _,
};

use super::sys;

/// A socket of the interface `device`, bound to `address`.
///
/// With `shared`, another program that allows it too may have the port on this or all addresses; what
/// is sent to this address comes here.
///
/// # Errors
///
/// What the system says: the port is taken, or a privilege is missing.
pub fn client_socket(device: &str, address: SocketAddrV6, shared: bool) -> io::Result<UdpSocket> {
    let socket = sys::open_socket(libc::SOCK_DGRAM)?;
    let device = sys::interface_name(device)?;
    let bound = sys::set_option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_BINDTODEVICE, &device);
    match bound {
        // Before Linux 5.7 it took a privilege. The address alone has to do then.
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => {}
        bound => bound?,
    }
    if shared {
        let on: libc::c_int = 1;
        sys::set_option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_REUSEADDR, &on)?;
    }
    sys::bind_to(&socket, address)?;
    let socket = UdpSocket::from(socket);
    socket.set_nonblocking(false)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::*;

    #[test]
    fn a_port_is_shared_only_with_who_shares_it() {
        let free = SocketAddrV6::new(Ipv6Addr::LOCALHOST, 0, 0, 0);
        let alone = client_socket("lo", free, false).unwrap();
        let taken =
            SocketAddrV6::new(Ipv6Addr::LOCALHOST, alone.local_addr().unwrap().port(), 0, 0);
        for shared in [false, true] {
            let error = client_socket("lo", taken, shared).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "shared: {shared}");
        }
        drop(alone);
        let _one = client_socket("lo", taken, true).unwrap();
        let _other = client_socket("lo", taken, true).unwrap();
        assert!(client_socket("no-such-device", free, false).is_err());
    }
}
