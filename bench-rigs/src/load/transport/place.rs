//! Where the clients of a load sit, where their server is, and which way leads there.

use std::net::{Ipv6Addr, SocketAddrV6};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use portlease::wire::dhcpv6::{CLIENT_PORT, SERVER_PORT};

/// Where the clients of a load sit and where their server is.
#[derive(Clone, Debug)]
pub struct Place {
    /// The server: one of its addresses, or `ff02::1:2` with the interface as its scope.
    pub server: SocketAddrV6,
    /// Where packets come from. Clients are spread over them; with UDP there is one socket for each.
    pub sources: Vec<Ipv6Addr>,
    /// The sources are not addresses of this host; a local route for their prefix brings the answers in. AF_XDP needs
    /// neither addresses nor routes.
    pub foreign: bool,
    /// The interface of all sockets, where addresses alone do not tell.
    pub interface: Option<String>,
    /// Clients sit behind relays: each source is one, sends from port 547 and wraps what it sends.
    pub relay: Option<RelayPlace>,
}

impl Place {
    /// The UDP port that packets leave from and answers come to.
    pub(super) fn port(&self) -> u16 {
        if self.relay.is_some() { SERVER_PORT } else { CLIENT_PORT }
    }
}

/// The relays of a load.
#[derive(Clone, Debug)]
pub struct RelayPlace {
    /// Link-address of the relay next to the clients; decides their pool.
    pub link_address: Ipv6Addr,
    /// The link-address of the next relay is one prefix of this length further; none: all have the same.
    pub link_step: Option<u8>,
    /// Levels of Relay-forward around each query.
    pub levels: usize,
    /// Adds an Interface-Id, one for each client.
    pub interface_id: bool,
}

impl RelayPlace {
    /// The link-address of the relay of this number.
    pub fn link_address_of(&self, relay: u32) -> Ipv6Addr {
        let shift = self.link_step.map_or(128, |step| 128_u32.saturating_sub(step.into()));
        let further = u128::from(relay).checked_shl(shift).unwrap_or(0);
        Ipv6Addr::from_bits(self.link_address.to_bits().wrapping_add(further))
    }
}

/// How datagrams leave and come in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Backend {
    /// Through UDP sockets of the kernel.
    #[default]
    Udp,
    /// Through AF_XDP sockets, past the kernel's IP stack.
    Xdp(XdpPlace),
}

/// What AF_XDP needs to know beside the addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct XdpPlace {
    /// The interface. Answers to our UDP port do not reach its host's sockets meanwhile; all else does.
    pub interface: String,
    /// Where the program that picks the answers runs.
    pub attach: Attach,
    /// How frames leave.
    pub transmit: Transmit,
    /// Hardware address of the server or the router to it; without one it is asked for by neighbour discovery.
    pub server_mac: Option<[u8; 6]>,
    /// How many queues of the interface to use, from the first; without a number all.
    pub queues: Option<u32>,
}

/// Where the XDP program that picks the answers runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Attach {
    /// In the driver if it can, else in the network stack.
    #[default]
    Auto,
    /// In the driver.
    Native,
    /// In the network stack.
    Generic,
}

/// How frames leave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transmit {
    /// Through AF_XDP sockets: with zero copy where the driver can, else each in a socket buffer.
    #[default]
    Socket,
    /// Bursts in frames of the kernel's own, without socket buffers; single frames as before. The driver must take
    /// frames that are redirected to it. A virtual link does while both ends have a program in the driver; otherwise it
    /// loses them.
    LiveFrames,
}
