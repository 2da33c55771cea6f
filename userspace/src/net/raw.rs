//! Whole Ethernet frames through an AF_XDP socket, for programs that build and read their headers themselves, such as
//! load generators and measuring peers.
//!
//! As a [`Port`](super::Port) it works on one queue of one interface, for one thread, and neither allocates nor reads a
//! clock once it is open. Frames are written in place and read in place.

use std::{
    io,
    os::fd::{AsFd as _, BorrowedFd},
};

use super::{
    frames::{Frame, Queue},
    link::Facts,
    steer::Mode,
    sys,
    xdp::{self, XdpError, XdpOptions},
};

/// How often one flush tells the kernel to go on. In copy mode each time sends a limited number of frames.
const KICKS_MAX: usize = 8;

/// What the kernel has dropped or refused on a socket since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RawStatistics {
    /// Frames that came in while the receive ring was full.
    pub ring_full: u64,
    /// Frames that came in while there was none to receive into, or that were too long.
    pub dropped: u64,
    /// Descriptors that the kernel did not accept.
    pub invalid: u64,
}

/// One AF_XDP socket for whole frames.
#[derive(Debug)]
pub struct RawPort {
    queue: Queue,
    is_zero_copy: bool,
    received: Vec<Frame>,
    blanks: Vec<Frame>,
    outbox: Vec<Frame>,
    unsent: u32,
}

impl RawPort {
    /// Opens a socket on `queue` of the interface of `facts`: with zero copy if `mode` is native and the driver can,
    /// else with copies. It can send at once; what it receives is for an XDP program to decide, which has to redirect
    /// to its [`socket`](Self::socket).
    pub fn open(
        facts: &Facts,
        queue: u32,
        mode: Mode,
        options: XdpOptions,
    ) -> Result<Self, XdpError> {
        let (queue, blanks, is_zero_copy) = xdp::open_queue(facts, queue, mode, options)?;
        Ok(Self {
            queue,
            is_zero_copy,
            received: Vec::with_capacity(xdp::BURST_MAX),
            outbox: Vec::with_capacity(blanks.len()),
            blanks,
            unsent: 0,
        })
    }

    /// The socket, for a map of an XDP program and for `poll`.
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.queue.socket()
    }

    /// Whether the network card reads and writes our frames itself.
    pub fn is_zero_copy(&self) -> bool {
        self.is_zero_copy
    }

    /// Frames that can be written before some have to be [flushed](Self::flush).
    pub fn capacity(&self) -> usize {
        self.blanks.len()
    }

    /// Takes at most [`BURST_MAX`](xdp::BURST_MAX) frames that have come in, without waiting. They stay readable by
    /// [`frame`](Self::frame) until the next call, which gives their memory back first.
    pub fn receive(&mut self) -> usize {
        if !self.received.is_empty() {
            self.queue.refill(&mut self.received);
        }
        // What the kernel had no room for stays ours, and is offered again.
        let room = xdp::BURST_MAX - self.received.len();
        if self.received.is_empty() { self.queue.receive(room, &mut self.received) } else { 0 }
    }

    /// The octets of a frame of the last [`receive`](Self::receive), by its place in it.
    #[inline]
    pub fn frame(&self, at: usize) -> Option<&[u8]> {
        self.received.get(at).map(|frame| self.queue.received(frame))
    }

    /// Has `fill` write a frame into the octets it is given, to leave with the next [`flush`](Self::flush). It returns
    /// the length, or `None` to send nothing. `false` if there was no free frame, and `fill` was not called.
    #[inline]
    pub fn send(&mut self, fill: impl FnOnce(&mut [u8]) -> Option<usize>) -> bool {
        let Some(mut blank) = self.blanks.pop() else { return false };
        let room = self.queue.blank(&mut blank);
        let most = room.len();
        match fill(room).filter(|&length| length <= most) {
            Some(length) => {
                self.queue.set_length(&mut blank, length);
                self.outbox.push(blank);
            }
            None => self.blanks.push(blank),
        }
        true
    }

    /// Hands what was written to the kernel, and takes frames back that have left. A kernel that is busy is no error:
    /// what is left over goes with the next flush.
    ///
    /// # Errors
    ///
    /// The interface is down or gone.
    pub fn flush(&mut self) -> io::Result<()> {
        if !self.outbox.is_empty() {
            self.queue.transmit(&mut self.outbox);
        }
        self.unsent = self.queue.unsent();
        for _ in 0..KICKS_MAX {
            if self.unsent == 0 {
                break;
            }
            self.queue.kick()?;
            let before = std::mem::replace(&mut self.unsent, self.queue.unsent());
            if self.unsent == before {
                break;
            }
        }
        self.queue.reclaim(&mut self.blanks);
        Ok(())
    }

    /// Whether frames are queued that the kernel has not yet taken.
    pub fn has_outstanding(&self) -> bool {
        self.unsent > 0 || !self.outbox.is_empty()
    }

    /// What the kernel has counted.
    pub fn statistics(&self) -> io::Result<RawStatistics> {
        let kernel = self.queue.statistics()?;
        Ok(RawStatistics {
            ring_full: kernel.rx_ring_full(),
            dropped: kernel.rx_dropped(),
            invalid: kernel.rx_invalid_descs() + kernel.tx_invalid_descs(),
        })
    }
}

/// Sleeps until one of the ports has something to receive or `timeout_ms` have passed.
pub fn wait(ports: &[RawPort], timeout_ms: u32) -> io::Result<()> {
    /// More queues than this are looked at when the time is up.
    const PORTS_MAX: usize = 64;
    let mut list = [libc::pollfd { fd: -1, events: 0, revents: 0 }; PORTS_MAX];
    for (entry, port) in list.iter_mut().zip(ports) {
        *entry = sys::readable(port.socket().as_fd());
    }
    let used = ports.len().min(PORTS_MAX);
    sys::poll(&mut list[..used], timeout_ms)
}
