//! The world: AF_XDP sockets, the ordinary UDP socket, interfaces. All `unsafe` code of the package is here, but for
//! hints about memory.
//!
//! A [`Port`] is one source of datagrams and one way to answer them, owned by one worker. It hands each datagram
//! to a [`Handler`] together with a blank buffer in which the reply is built, so that neither the request nor the
//! reply is ever copied. A reply that must wait for the journal leaves the port as a token ([`Port::Reply`]) that
//! owns its buffer, and comes back to be sent or discarded.
//!
//! Nothing here allocates, logs or reads a clock once a port is open.

pub mod client;
pub mod conntrack;
pub mod counters;
#[cfg(feature = "xdp")]
mod frames;
pub mod link;
#[cfg(feature = "xdp")]
pub mod raw;
#[cfg(feature = "xdp")]
pub mod steer;
pub mod sys;
pub mod udp;
#[cfg(feature = "xdp")]
pub mod xdp;

use std::{io, sync::Arc};

use self::{counters::NetCounters, sys::WakeFd};
use crate::wire::datagram::Datagram;

/// What becomes of a datagram, and of the reply that a [`Handler`] has built for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposal {
    /// No reply: the blank buffer is free again.
    Discard,
    /// The first `length` octets of the buffer go out at once, to this UDP port of the peer.
    Send {
        /// Octets of the DHCPv6 message.
        length: usize,
        /// UDP destination port.
        port: u16,
    },
    /// The first `length` octets of the buffer are a reply that must wait: [`Handler::park`] gets it.
    Park {
        /// Octets of the DHCPv6 message.
        length: usize,
        /// UDP destination port.
        port: u16,
    },
}

/// Whoever answers the datagrams of a port, a burst at a time: all of a burst are [read](Self::read), then all
/// [approached](Self::approach), then each is [answered](Self::answer). So the memory that one answer needs is on its
/// way while others are worked on. `R` is the port's token of a reply that waits.
pub trait Handler<R> {
    /// A datagram that has been read. It borrows the octets, which stay where they are until the burst is over.
    type Reading<'a>: Default;

    /// Reads a datagram into the place where its reading stays, and asks for the memory by which its answer will be
    /// found.
    fn read<'a>(&self, datagram: &Datagram<'a>, reading: &mut Self::Reading<'a>);

    /// Asks for the memory that the answer will be made of. A hint: what is not approached is answered all the same.
    fn approach(&self, reading: &Self::Reading<'_>);

    /// Decides on one datagram. A reply is written to the beginning of `out`, which is exactly as long as the
    /// longest reply that this port can send: what does not fit is the handler's to refuse, before it promises
    /// anything.
    fn answer(&mut self, reading: &Self::Reading<'_>, out: &mut [u8]) -> Disposal;

    /// Takes the reply for which [`answer`](Self::answer) has just returned [`Disposal::Park`].
    fn park(&mut self, reply: R);
}

/// One source of datagrams and the way back to their senders. Used by one thread at a time.
pub trait Port {
    /// A reply that waits. It owns the buffer it was built in and belongs to the port that made it.
    type Reply;

    /// The number of replies that can be built now. A [`burst`](Self::burst) takes no more datagrams than this.
    fn capacity(&self) -> usize;

    /// Receives at most `limit` datagrams without waiting and gives each that is sound to `handler`. Returns how
    /// many were taken from the kernel, sound or not.
    fn burst<H: Handler<Self::Reply>>(&mut self, limit: usize, handler: &mut H) -> usize;

    /// How much of the kernel's room for datagrams that wait to be received is taken, in percent; 0 where it is not
    /// known. Where it is full, the kernel drops what comes, whatever it is.
    fn waiting_percent(&mut self) -> u32 {
        0
    }

    /// Queues a reply that was parked. It leaves with the next [`flush`](Self::flush).
    fn send(&mut self, reply: Self::Reply);

    /// Frees the buffer of a reply that was parked and will not be sent.
    fn discard(&mut self, reply: Self::Reply);

    /// Hands what is queued to the kernel, and takes back the buffers of what has left. A kernel that is busy is
    /// no error: what is left over goes with the next flush.
    ///
    /// # Errors
    ///
    /// The socket is of no use any more: the interface is gone.
    fn flush(&mut self) -> Result<(), PortError>;

    /// Whether replies are queued that the kernel has not yet taken. A worker does not sleep on those: it flushes.
    fn has_outstanding(&self) -> bool;

    /// Sleeps until there is something to receive, `wake` rings, or `timeout_ms` have passed; resets `wake`.
    /// Returns at once if replies are outstanding.
    ///
    /// # Errors
    ///
    /// As [`flush`](Self::flush).
    fn wait(&mut self, timeout_ms: u32, wake: &WakeFd) -> Result<(), PortError>;

    /// What has to be done now and then, about ten times a second: takes over the kernel's statistics and what
    /// has been published about the interface.
    fn tick(&mut self);

    /// What has happened on this port so far. Shared, so that others can read it while the port works.
    fn counters(&self) -> &Arc<NetCounters>;
}

/// A port is of no use any more.
#[derive(Debug, thiserror::Error)]
#[error("{operation} on {interface}: {source}")]
pub struct PortError {
    /// The system call that failed.
    pub operation: &'static str,
    /// The interface of the port.
    pub interface: String,
    /// What the kernel said.
    pub source: io::Error,
}
