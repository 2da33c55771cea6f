//! A DHCPv6 relay agent (RFC 8415 §19) with an Interface-Id for each of its client links.
//!
//! It knows nothing of DHCPv4-over-DHCPv6: a relay passes on messages of types that it does not know (RFC 7283 §4.2).

use std::{
    collections::HashMap,
    net::{Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket},
    os::fd::AsRawFd as _,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use portlease::wire::dhcpv6::{
    ALL_RELAYS_AND_SERVERS, CLIENT_PORT, OPTION_INTERFACE_ID, OPTION_RELAY_MESSAGE, Options,
    RELAY_FORWARD, RELAY_REPLY, SERVER_PORT,
};

use crate::{
    error::{Doing as _, Result},
    sys::{self, Binding},
};

/// The most relays that a message may have passed (RFC 8415 §7.6).
const HOP_COUNT_LIMIT: u8 = 8;

/// Octets before the options of a relay message (RFC 8415 §9).
const HEADER_LENGTH: usize = 34;

/// What a relay is told.
#[derive(Clone, Debug)]
pub struct RelayOptions {
    /// The interface towards the server.
    pub upstream: String,
    /// Where to send what clients say.
    pub server: Ipv6Addr,
    /// The interfaces towards clients, or towards relays closer to them.
    pub downstream: Vec<String>,
    /// An address of the client links, which tells the server where clients are.
    pub link_address: Ipv6Addr,
}

/// A relay with its sockets open.
#[derive(Debug)]
pub struct Relay {
    upstream: UdpSocket,
    server: SocketAddrV6,
    link_address: Ipv6Addr,
    downstream: Vec<Link>,
    by_interface_id: HashMap<Vec<u8>, usize>,
}

/// A client link.
#[derive(Debug)]
struct Link {
    name: String,
    index: u32,
    socket: UdpSocket,
}

/// Messages that a relay passed on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// Towards the server.
    pub forward: u64,
    /// Back to clients.
    pub back: u64,
    /// Neither: malformed, too many hops, or not for us.
    pub discarded: u64,
}

impl Relay {
    /// Opens the sockets in the network namespace of the calling thread.
    pub fn open(options: &RelayOptions) -> Result<Self> {
        let bind = |name: &str| {
            let binding = Binding {
                address: SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, SERVER_PORT, 0, 0),
                foreign: false,
                interface: Some(name),
                receive_buffer: None,
            };
            let socket = sys::udp_socket(&binding).doing(format!("bind port 547 of {name}"))?;
            socket.set_nonblocking(true).doing("make a socket non-blocking")?;
            Ok(socket)
        };
        let mut downstream = Vec::new();
        for name in &options.downstream {
            let index = sys::interface_index(name).doing(name)?;
            let socket = bind(name)?;
            socket
                .join_multicast_v6(&ALL_RELAYS_AND_SERVERS, index)
                .doing(format!("join {ALL_RELAYS_AND_SERVERS} on {name}"))?;
            downstream.push(Link { name: name.clone(), index, socket });
        }
        let by_interface_id = (0..)
            .zip(&downstream)
            .map(|(number, link)| (link.name.clone().into_bytes(), number))
            .collect();
        Ok(Self {
            upstream: bind(&options.upstream)?,
            server: SocketAddrV6::new(options.server, SERVER_PORT, 0, 0),
            link_address: options.link_address,
            downstream,
            by_interface_id,
        })
    }

    /// Relays until `stop` is set.
    pub fn run(&self, stop: &AtomicBool) -> Result<Passed> {
        let mut sockets = vec![self.upstream.as_raw_fd()];
        sockets.extend(self.downstream.iter().map(|link| link.socket.as_raw_fd()));
        let mut passed = Passed::default();
        let mut buffer = vec![0; 65_536];
        while !stop.load(Ordering::Relaxed) {
            sys::wait_readable(&sockets, Duration::from_millis(100)).doing("wait for messages")?;
            while let Some((length, _)) = receive(&self.upstream, &mut buffer)? {
                if self.send_back(&buffer[..length]) {
                    passed.back += 1;
                } else {
                    passed.discarded += 1;
                }
            }
            for link in &self.downstream {
                while let Some((length, from)) = receive(&link.socket, &mut buffer)? {
                    if self.send_forward(&buffer[..length], *from.ip(), link) {
                        passed.forward += 1;
                    } else {
                        passed.discarded += 1;
                    }
                }
            }
        }
        Ok(passed)
    }

    fn send_forward(&self, message: &[u8], from: Ipv6Addr, link: &Link) -> bool {
        forward(message, from, self.link_address, link.name.as_bytes())
            .is_some_and(|outer| self.upstream.send_to(&outer, self.server).is_ok())
    }

    fn send_back(&self, message: &[u8]) -> bool {
        let Some(back) = back(message) else { return false };
        let link = self.by_interface_id.get(back.interface_id);
        let Some(link) = link.and_then(|&number| self.downstream.get(number)) else { return false };
        // A relay closer to the client listens on another port than a client (RFC 8415 §19.2).
        let is_relay = back.message.first() == Some(&RELAY_REPLY);
        let port = if is_relay { SERVER_PORT } else { CLIENT_PORT };
        let scope = if back.peer_address.is_unicast_link_local() { link.index } else { 0 };
        let to = SocketAddrV6::new(back.peer_address, port, 0, scope);
        link.socket.send_to(back.message, to).is_ok()
    }
}

fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> Result<Option<(usize, SocketAddrV6)>> {
    match socket.recv_from(buffer) {
        Ok((length, SocketAddr::V6(from))) => Ok(Some((length, from))),
        Ok(_) => Ok(None),
        Err(error) if sys::would_block(&error) => Ok(None),
        Err(error) => Err(error).doing("receive a message"),
    }
}

/// The Relay-forward around a message from a client or from a relay closer to it (RFC 8415 §19.1), or `None` if
/// the message may not be relayed.
pub fn forward(
    message: &[u8],
    from: Ipv6Addr,
    link_address: Ipv6Addr,
    interface_id: &[u8],
) -> Option<Vec<u8>> {
    let (hop_count, link_address) = match *message.first()? {
        RELAY_REPLY => return None,
        RELAY_FORWARD => {
            let hops = *message.get(1)?;
            let is_global = !from.is_unicast_link_local();
            (hops < HOP_COUNT_LIMIT)
                .then(|| (hops + 1, if is_global { Ipv6Addr::UNSPECIFIED } else { link_address }))?
        }
        _ => (0, link_address),
    };
    let mut outer = vec![RELAY_FORWARD, hop_count];
    outer.extend(link_address.octets());
    outer.extend(from.octets());
    put_option(&mut outer, OPTION_INTERFACE_ID, interface_id)?;
    put_option(&mut outer, OPTION_RELAY_MESSAGE, message)?;
    Some(outer)
}

fn put_option(message: &mut Vec<u8>, code: u16, content: &[u8]) -> Option<()> {
    message.extend(code.to_be_bytes());
    message.extend(u16::try_from(content.len()).ok()?.to_be_bytes());
    message.extend(content);
    Some(())
}

/// What a Relay-reply says to the relay that gets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Back<'a> {
    /// On which link.
    pub interface_id: &'a [u8],
    /// To whom.
    pub peer_address: Ipv6Addr,
    /// What.
    pub message: &'a [u8],
}

/// Takes a Relay-reply apart (RFC 8415 §19.2); `None` if it is none.
pub fn back(message: &[u8]) -> Option<Back<'_>> {
    let (header, options) = message.split_at_checked(HEADER_LENGTH)?;
    if header[0] != RELAY_REPLY {
        return None;
    }
    let peer: [u8; 16] = header[18..].try_into().ok()?;
    let find = |wanted| Options::new(options).find(|&(code, _)| code == wanted);
    Some(Back {
        interface_id: find(OPTION_INTERFACE_ID)?.1,
        peer_address: Ipv6Addr::from(peer),
        message: find(OPTION_RELAY_MESSAGE)?.1,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
    const OTHER: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0xa);
    const LINK: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1);

    #[test]
    fn a_message_goes_forward_and_comes_back_on_its_link() {
        let mut outer = forward(&[20, 0, 0, 0], CLIENT, LINK, b"port 7").unwrap();
        assert_eq!(outer[..2], [RELAY_FORWARD, 0]);
        assert_eq!(outer[2..18], LINK.octets());
        outer[0] = RELAY_REPLY;
        let back = back(&outer).unwrap();
        assert_eq!(back.interface_id, b"port 7");
        assert_eq!(back.peer_address, CLIENT);
        assert_eq!(back.message, [20, 0, 0, 0]);
    }

    #[test]
    fn hops_are_counted_up_to_the_limit_and_replies_do_not_go_forward() {
        let inner = forward(&[20], CLIENT, LINK, b"a").unwrap();
        let outer = forward(&inner, OTHER, LINK, b"b").unwrap();
        assert_eq!(outer[1], 1);
        assert_eq!(outer[2..18], Ipv6Addr::UNSPECIFIED.octets());
        let mut far = outer.clone();
        far[1] = HOP_COUNT_LIMIT;
        assert_eq!(forward(&far, OTHER, LINK, b"c"), None);
        assert_eq!(forward(&[RELAY_REPLY; 40], OTHER, LINK, b"c"), None);
        assert_eq!(forward(&[], CLIENT, LINK, b"c"), None);
    }

    #[test]
    fn what_is_no_relay_reply_is_not_sent_back() {
        assert_eq!(back(&[RELAY_REPLY; 20]), None);
        assert_eq!(back(&forward(&[20], CLIENT, LINK, b"a").unwrap()), None);
    }
}
