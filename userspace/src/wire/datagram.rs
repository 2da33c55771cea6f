//! A UDP datagram as the engine sees it, whichever way it came in.

use std::net::Ipv6Addr;

/// One received UDP datagram: where it came from, where it was sent to, and its payload.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    /// IPv6 source address.
    pub peer: Ipv6Addr,
    /// UDP source port.
    pub peer_port: u16,
    /// IPv6 destination address: unicast, `ff02::1:2` or `ff05::1:3`.
    pub local: Ipv6Addr,
    /// Index of the interface on which it came in, as the kernel numbers it.
    pub interface: u32,
    /// The DHCPv6 message.
    pub payload: &'a [u8],
}

impl Default for Datagram<'_> {
    /// From nobody to nobody, and empty.
    #[inline]
    fn default() -> Self {
        let nobody = Ipv6Addr::UNSPECIFIED;
        Self { peer: nobody, peer_port: 0, local: nobody, interface: 0, payload: &[] }
    }
}
