//! The sockets of the UDP port: one an interface, bound to it and in the groups of servers.

use std::{
    io,
    net::{Ipv6Addr, SocketAddrV6},
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
};

use super::super::{
    link::{Facts, Published, Reach},
    sys,
};
use crate::wire::dhcpv6::{ALL_RELAYS_AND_SERVERS, ALL_SERVERS};

/// What is asked for as the socket's receive buffer.
const RECEIVE_BUFFER_OCTETS: libc::c_int = 4 << 20;

/// No option of the standard C library's headers names it (`linux/in6.h`).
const IPV6_MULTICAST_ALL: libc::c_int = 29;

/// The UDP port cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum UdpError {
    /// Somebody else is there.
    #[error(
        "UDP port {port} of {interface} is taken by another program: stop it, or set `[server] udp = false` to \
         leave the port to it (then only AF_XDP serves; see `ss -ulpn sport = :{port}`)"
    )]
    PortTaken {
        /// The interface.
        interface: String,
        /// The port.
        port: u16,
    },
    /// The process may not.
    #[error("UDP port {port} of {interface}: not permitted; missing capabilities: {missing}")]
    NotPermitted {
        /// The interface.
        interface: String,
        /// The port.
        port: u16,
        /// The names of the capabilities that it lacks.
        missing: String,
    },
    /// The kernel refuses.
    #[error("interface {interface}: {operation}: {source}")]
    Io {
        /// The interface.
        interface: String,
        /// What was tried.
        operation: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

fn failed(facts: &Facts, operation: &'static str) -> impl Fn(io::Error) -> UdpError {
    let interface = facts.name.clone();
    move |source| UdpError::Io { interface: interface.clone(), operation, source }
}

/// Joins the two groups of DHCPv6 servers on an interface, for as long as `socket` is open.
fn join_groups(socket: &OwnedFd, facts: &Facts) -> Result<(), UdpError> {
    for group in [ALL_RELAYS_AND_SERVERS, ALL_SERVERS] {
        let membership = libc::ipv6_mreq {
            ipv6mr_multiaddr: libc::in6_addr { s6_addr: group.octets() },
            ipv6mr_interface: facts.index,
        };
        let option = libc::IPV6_ADD_MEMBERSHIP;
        sys::set_option(socket.as_fd(), libc::IPPROTO_IPV6, option, &membership)
            .map_err(failed(facts, "join the groups ff02::1:2 and ff05::1:3"))?;
    }
    Ok(())
}

/// Membership of an interface in `ff02::1:2` and `ff05::1:3`, without which the network card may filter them. For where
/// there is no [`UdpPort`]; no port is used. Ends when dropped.
#[derive(Debug)]
pub struct Membership {
    _socket: OwnedFd,
}

impl Membership {
    /// Joins both groups.
    pub fn join(facts: &Facts) -> Result<Self, UdpError> {
        let socket = sys::open_socket(libc::SOCK_DGRAM).map_err(failed(facts, "open a socket"))?;
        join_groups(&socket, facts)?;
        Ok(Self { _socket: socket })
    }
}

/// One interface of a [`UdpPort`].
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) fd: OwnedFd,
    pub(super) interface: String,
    pub(super) index: u32,
    pub(super) published: Arc<Published>,
    pub(super) reach: (u64, Reach),
}

impl Socket {
    pub(super) fn open(
        facts: &Facts,
        port: u16,
        published: &Arc<Published>,
    ) -> Result<Self, UdpError> {
        let failed = |operation| failed(facts, operation);
        let socket = sys::open_socket(libc::SOCK_DGRAM).map_err(failed("open a socket"))?;
        let set = |option, value: libc::c_int| {
            sys::set_option(socket.as_fd(), libc::IPPROTO_IPV6, option, &value)
        };
        set(libc::IPV6_V6ONLY, 1).map_err(failed("IPV6_V6ONLY"))?;
        set(libc::IPV6_RECVPKTINFO, 1).map_err(failed("IPV6_RECVPKTINFO"))?;
        // Without it every group that any program of the host has joined would come in. Linux 4.20.
        let _ = set(IPV6_MULTICAST_ALL, 0);
        let device = sys::interface_name(&facts.name).map_err(failed("name the interface"))?;
        sys::set_option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_BINDTODEVICE, &device)
            .map_err(failed("bind to the interface"))?;
        let size = RECEIVE_BUFFER_OCTETS;
        let buffer = |option| sys::set_option(socket.as_fd(), libc::SOL_SOCKET, option, &size);
        // With the privilege beyond the system's limit, else up to it.
        let _ = buffer(libc::SO_RCVBUFFORCE).or_else(|_| buffer(libc::SO_RCVBUF));
        bind(&socket, port).map_err(|source| bind_failed(facts, port, source))?;
        join_groups(&socket, facts)?;
        Ok(Self {
            fd: socket,
            interface: facts.name.clone(),
            index: facts.index,
            reach: published.read(),
            published: Arc::clone(published),
        })
    }
}

fn bind(socket: &OwnedFd, port: u16) -> io::Result<()> {
    sys::bind_to(socket, SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, port, 0, 0))
}

fn bind_failed(facts: &Facts, port: u16, source: io::Error) -> UdpError {
    let interface = facts.name.clone();
    match source.raw_os_error() {
        Some(libc::EADDRINUSE) => UdpError::PortTaken { interface, port },
        Some(libc::EACCES | libc::EPERM) => {
            let missing = sys::missing_capabilities(&sys::UDP_CAPABILITIES).join(", ");
            UdpError::NotPermitted { interface, port, missing }
        }
        _ => UdpError::Io { interface, operation: "bind the UDP port", source },
    }
}
