//! The way to the server and back: ordinary UDP sockets, or AF_XDP with frames of our own making.
//!
//! Both put what a client says straight into the memory that the kernel sends it from, and let answers be read where
//! the kernel has put them.

mod live;
mod place;
mod program;
mod steer;
mod udp;
mod xdp;

pub use self::{
    place::{Attach, Backend, Place, RelayPlace, Transmit, XdpPlace},
    xdp::parse_mac,
};

use std::time::Duration;

use self::{udp::UdpTransport, xdp::XdpTransport};
use crate::error::Result;

/// What was written of a DHCPv6 message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Written {
    /// Octets.
    pub(super) length: usize,
    /// Their one's complement sum, which transports without a kernel's help build the UDP checksum of.
    pub(super) sum: u16,
}

#[cfg(test)]
impl Written {
    /// The first `length` octets of a buffer, summed now.
    pub(super) fn sum_up(buffer: &[u8], length: usize) -> Option<Self> {
        Some(Self {
            length,
            sum: portlease::wire::checksum::Sum::new().over(buffer.get(..length)?).fold(),
        })
    }
}

/// One of the ways.
#[expect(clippy::large_enum_variant, reason = "there is one of them")]
pub(super) enum Transport {
    Udp(UdpTransport),
    Xdp(XdpTransport),
}

impl Transport {
    /// Opens it in the network namespace of the calling thread.
    pub(super) fn open(place: &Place, backend: &Backend) -> Result<Self> {
        Ok(match backend {
            Backend::Udp => Self::Udp(UdpTransport::open(place)?),
            Backend::Xdp(options) => Self::Xdp(XdpTransport::open(place, options)?),
        })
    }

    /// Lets `fill` write what a client says, to leave with the next [`flush`](Self::flush) at the latest.
    #[inline]
    pub(super) fn send(
        &mut self,
        client: u32,
        fill: impl FnOnce(&mut [u8]) -> Option<Written>,
    ) -> Result<()> {
        match self {
            Self::Udp(transport) => transport.send(client, fill),
            Self::Xdp(transport) => transport.send(client, fill),
        }
    }

    /// Sends what was written.
    pub(super) fn flush(&mut self) -> Result<()> {
        match self {
            Self::Udp(transport) => transport.flush(),
            Self::Xdp(transport) => transport.flush(),
        }
    }

    /// Datagrams that were written and that would be cheaper to send if there were more of them.
    #[inline]
    pub(super) fn gathering(&self) -> usize {
        match self {
            Self::Udp(_) => 0,
            Self::Xdp(transport) => transport.gathering(),
        }
    }

    /// Sources of answers: sockets or queues.
    pub(super) fn inlets(&self) -> usize {
        match self {
            Self::Udp(transport) => transport.inlets(),
            Self::Xdp(transport) => transport.inlets(),
        }
    }

    /// Takes a burst from one of them, without waiting. Gives the number of datagrams, which
    /// [`received`](Self::received) lends until the next call.
    pub(super) fn receive(&mut self, inlet: usize) -> Result<usize> {
        match self {
            Self::Udp(transport) => transport.receive(inlet),
            Self::Xdp(transport) => Ok(transport.receive(inlet)),
        }
    }

    /// The UDP payload of a datagram of the last burst, by its place in it; `None` if it is damaged or not ours.
    #[inline]
    pub(super) fn received(&self, at: usize) -> Option<&[u8]> {
        match self {
            Self::Udp(transport) => transport.received(at),
            Self::Xdp(transport) => transport.received(at),
        }
    }

    /// Sleeps until something comes in or `timeout` is over.
    pub(super) fn wait(&self, timeout: Duration) -> Result<()> {
        match self {
            Self::Udp(transport) => transport.wait(timeout),
            Self::Xdp(transport) => transport.wait(timeout),
        }
    }

    /// Datagrams that the kernel refused to send, or for which there was no room.
    pub(super) fn refused(&self) -> u64 {
        match self {
            Self::Udp(transport) => transport.refused,
            Self::Xdp(transport) => transport.refused,
        }
    }
}
