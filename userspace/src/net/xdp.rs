//! The AF_XDP port: one socket on one queue of one interface.
//!
//! The steering program puts into it only what looks like a query to us; the frame is checked here. The reply is
//! built in another frame, so that the request's octets can be borrowed while it is written.

use std::{
    io,
    net::Ipv6Addr,
    os::fd::{AsFd, BorrowedFd},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use arrayvec::ArrayVec;
use xsk_rs::config::{BindFlags, Interface};

use super::{
    Disposal, Handler, Port, PortError,
    counters::{Event, NetCounters},
    frames::{Frame, KERNEL_HEADROOM, Queue, Sizes},
    link::{Facts, Published, Reach},
    steer::Mode,
    sys::{self, WakeFd},
};
use crate::{
    memory::prefetch_octets,
    wire::{
        datagram::Datagram,
        frame::{self, FrameFault, Taken},
    },
};

/// The most frames of one burst.
pub const BURST_MAX: usize = 64;

/// How many frames ahead of the one that is read are on their way: the kernel may have written them on another core.
const FETCHED_AHEAD: usize = 2;

/// How often one flush tells the kernel to go on. In copy mode each time sends a limited number of frames.
const KICKS_MAX: usize = 8;

/// Frames that the kernel sends for one system call in copy mode, if it lets us choose (Linux 6.18).
const TRANSMIT_BUDGET: libc::c_int = 256;
/// Of `linux/if_xdp.h`.
const XDP_OPTIONS: libc::c_int = 8;
const XDP_OPTIONS_ZEROCOPY: libc::c_int = 1;
const XDP_MAX_TX_SKB_BUDGET: libc::c_int = 9;

/// How long to sleep while the kernel takes no frames from us: the interface may be down.
const STALLED_MS: u32 = 1;

/// Octets of the longest Ethernet header that we send beside those of the IPv6 packet.
const ETHERNET_LENGTH_MAX: u32 = 22;

/// What a port costs.
#[derive(Clone, Copy, Debug)]
pub struct XdpOptions {
    /// Frames that the kernel may fill before we look: a power of two.
    pub ring_frames: u32,
    /// Replies that may wait for the journal or for transmission at once: a power of two, at least `ring_frames`.
    pub reply_frames: u32,
}

impl Default for XdpOptions {
    fn default() -> Self {
        Self { ring_frames: 2_048, reply_frames: 4_096 }
    }
}

/// There is no AF_XDP socket to be had.
#[derive(Debug, thiserror::Error)]
pub enum XdpError {
    /// The process may not.
    #[error("interface {interface}: {operation}: not permitted; missing capabilities: {missing}")]
    NotPermitted {
        /// The interface.
        interface: String,
        /// What it may not do.
        operation: &'static str,
        /// The names of the capabilities that it lacks.
        missing: String,
    },
    /// Memory for frames has to stay in RAM, and the limit for that is too low.
    #[error(
        "interface {interface}: {octets} octets of frames exceed the limit on locked memory: \
         raise RLIMIT_MEMLOCK or give CAP_IPC_LOCK"
    )]
    LockedMemory {
        /// The interface.
        interface: String,
        /// What is needed.
        octets: u64,
    },
    /// Another AF_XDP socket has the queue.
    #[error("interface {interface}: queue {queue} has an AF_XDP socket already: stop its owner")]
    QueueTaken {
        /// The interface.
        interface: String,
        /// Its queue.
        queue: u32,
    },
    /// The kernel refuses.
    #[error("interface {interface}, queue {queue}: {operation}: {source}")]
    Io {
        /// The interface.
        interface: String,
        /// Its queue.
        queue: u32,
        /// What was tried last.
        operation: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

/// A reply that waits: the frame in which it was built, complete with its headers.
#[derive(Debug)]
pub struct XdpReply {
    frame: Frame,
    port: u64,
}

/// One AF_XDP socket. Open it on the thread that will use it, so that its memory is near.
#[derive(Debug)]
pub struct XdpPort {
    interface: String,
    index: u32,
    /// Distinguishes this port's replies from those of others.
    id: u64,
    queue: Queue,
    is_zero_copy: bool,
    received: Vec<Frame>,
    spent: Vec<Frame>,
    blanks: Vec<Frame>,
    outbox: Vec<Frame>,
    unsent: u32,
    published: Arc<Published>,
    reach: (u64, Reach),
    counters: Arc<NetCounters>,
}

impl XdpPort {
    /// Opens a socket on `queue` of the interface of `facts`: with zero copy if the program runs in the driver and
    /// that can, else with copies. It receives once [`Steering::admit`](super::steer::Steering::admit) has got its
    /// [`socket`](Self::socket).
    pub fn open(
        facts: &Facts,
        queue: u32,
        mode: Mode,
        options: XdpOptions,
        published: Arc<Published>,
    ) -> Result<Self, XdpError> {
        static NEXT_ID: AtomicU64 = AtomicU64::new(0);
        let (queue, blanks, is_zero_copy) = open_queue(facts, queue, mode, options)?;
        Ok(Self {
            interface: facts.name.clone(),
            index: facts.index,
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            queue,
            is_zero_copy,
            received: Vec::with_capacity(BURST_MAX),
            spent: Vec::with_capacity(BURST_MAX),
            outbox: Vec::with_capacity(blanks.len()),
            blanks,
            unsent: 0,
            reach: published.read(),
            published,
            counters: Arc::new(NetCounters::new()),
        })
    }

    /// The socket, for the steering program.
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.queue.socket()
    }

    /// Whether the network card reads and writes our frames itself.
    pub fn is_zero_copy(&self) -> bool {
        self.is_zero_copy
    }

    /// Answers the frames of one burst: reads them all, approaches them all, answers one after the other.
    fn serve<H: Handler<XdpReply>>(&mut self, requests: &[Frame], handler: &mut H) {
        let Self { queue, reach: (_, reach), index, id, blanks, outbox, counters, .. } = self;
        let mut burst = ArrayVec::<_, BURST_MAX>::new();
        for (at, request) in requests.iter().take(BURST_MAX).enumerate() {
            if let Some(later) = requests.get(at + FETCHED_AHEAD) {
                prefetch_octets(queue.received(later));
            }
            let octets = queue.received(request);
            match accept(octets, reach, *index, handler, &mut burst) {
                Ok(()) => {}
                Err(Dropped::Fault(fault)) => counters.count_fault(fault),
                Err(Dropped::NoSource) => counters.count(Event::NoSourceAddress),
            }
        }
        for accepted in &burst {
            handler.approach(&accepted.reading);
        }
        for accepted in &burst {
            let Some(mut blank) = blanks.pop() else {
                counters.count(Event::NoBlank);
                continue;
            };
            let out = queue.blank(&mut blank);
            let Some(disposal) = accepted.answer(out, reach, handler) else {
                counters.count(Event::ReplyTooLarge);
                blanks.push(blank);
                continue;
            };
            let (Disposal::Send { length, port } | Disposal::Park { length, port }) = disposal
            else {
                blanks.push(blank);
                continue;
            };
            let (octets, source) = (accepted.octets, accepted.source);
            let Some(length) = frame::wrap(out, octets, length, source, port, &reach.mac) else {
                counters.count(Event::ReplyTooLarge);
                blanks.push(blank);
                continue;
            };
            queue.set_length(&mut blank, length);
            match disposal {
                Disposal::Park { .. } => handler.park(XdpReply { frame: blank, port: *id }),
                _ => outbox.push(blank),
            }
        }
    }

    fn error(&self, operation: &'static str) -> impl Fn(io::Error) -> PortError + use<> {
        let interface = self.interface.clone();
        move |source| PortError { operation, interface: interface.clone(), source }
    }
}

impl Port for XdpPort {
    type Reply = XdpReply;

    fn capacity(&self) -> usize {
        self.blanks.len()
    }

    fn waiting_percent(&mut self) -> u32 {
        self.queue.waiting_percent()
    }

    fn burst<H: Handler<XdpReply>>(&mut self, limit: usize, handler: &mut H) -> usize {
        let limit = limit.min(BURST_MAX).min(self.blanks.len());
        let mut received = std::mem::take(&mut self.received);
        let count = self.queue.receive(limit, &mut received);
        self.serve(&received, handler);
        self.spent.append(&mut received);
        self.received = received;
        if count > 0 {
            self.counters.add(Event::Received, count as u64);
            self.queue.refill(&mut self.spent);
        }
        count
    }

    fn send(&mut self, reply: XdpReply) {
        if reply.port == self.id {
            self.outbox.push(reply.frame);
        } else {
            self.counters.count(Event::ForeignReply);
        }
    }

    fn discard(&mut self, reply: XdpReply) {
        if reply.port == self.id {
            self.blanks.push(reply.frame);
        } else {
            self.counters.count(Event::ForeignReply);
        }
    }

    fn flush(&mut self) -> Result<(), PortError> {
        if !self.outbox.is_empty() {
            let count = self.queue.transmit(&mut self.outbox);
            self.counters.add(Event::Sent, count as u64);
            if !self.outbox.is_empty() {
                self.counters.count(Event::TransmitFull);
            }
        }
        self.unsent = self.queue.unsent();
        for _ in 0..KICKS_MAX {
            if self.unsent == 0 {
                break;
            }
            self.queue.kick().map_err(self.error("send"))?;
            let before = std::mem::replace(&mut self.unsent, self.queue.unsent());
            if self.unsent == before {
                break;
            }
        }
        self.queue.reclaim(&mut self.blanks);
        Ok(())
    }

    fn has_outstanding(&self) -> bool {
        self.unsent > 0 || !self.outbox.is_empty()
    }

    fn wait(&mut self, timeout_ms: u32, wake: &WakeFd) -> Result<(), PortError> {
        let mut timeout_ms = timeout_ms;
        if self.has_outstanding() {
            self.flush()?;
            if self.has_outstanding() {
                timeout_ms = timeout_ms.min(STALLED_MS);
            }
        }
        let mut list = [sys::readable(self.queue.socket()), sys::readable(wake.as_fd())];
        sys::poll(&mut list, timeout_ms).map_err(self.error("poll"))?;
        if list[1].revents != 0 {
            wake.reset();
        }
        self.queue.reclaim(&mut self.blanks);
        Ok(())
    }

    fn tick(&mut self) {
        self.published.refresh(&mut self.reach);
        if let Ok(kernel) = self.queue.statistics() {
            // That the fill ring was empty is counted besides, once for every frame dropped for it.
            let invalid = kernel.rx_invalid_descs() + kernel.tx_invalid_descs();
            self.counters.set(Event::ReceiveRingFull, kernel.rx_ring_full());
            self.counters.set(Event::ReceiveDropped, kernel.rx_dropped());
            self.counters.set(Event::InvalidDescriptor, invalid);
        }
    }

    fn counters(&self) -> &Arc<NetCounters> {
        &self.counters
    }
}

/// A frame of a burst that is to be answered.
struct Accepted<'a, T> {
    octets: &'a [u8],
    /// Octets before the payload.
    header_length: usize,
    /// The address that the reply comes from.
    source: Ipv6Addr,
    reading: T,
}

/// Why a frame is not answered.
enum Dropped {
    Fault(FrameFault),
    NoSource,
}

/// Takes a frame apart and has its datagram read, into a burst that has room.
#[inline]
fn accept<'a, H: Handler<XdpReply>>(
    octets: &'a [u8],
    reach: &Reach,
    interface: u32,
    handler: &H,
    burst: &mut ArrayVec<Accepted<'a, H::Reading<'a>>, BURST_MAX>,
) -> Result<(), Dropped> {
    let taken = frame::take_apart(octets, &reach.mac).map_err(Dropped::Fault)?;
    let source = reach.source_for(taken.destination, taken.source).ok_or(Dropped::NoSource)?;
    let header_length = frame::headroom(&taken);
    burst.push(Accepted { octets, header_length, source, reading: Default::default() });
    if let Some(accepted) = burst.last_mut() {
        handler.read(&datagram(&taken, interface), &mut accepted.reading);
    }
    Ok(())
}

impl<'a, T> Accepted<'a, T> {
    /// Has the reply built in `out`, where its payload will stand. `None` if headers alone are too long.
    #[inline]
    fn answer<H>(&self, out: &mut [u8], reach: &Reach, handler: &mut H) -> Option<Disposal>
    where
        H: Handler<XdpReply, Reading<'a> = T>,
    {
        let room = out.len().min(frame_length_max(self.header_length, reach.mtu));
        let out = out.get_mut(self.header_length..room)?;
        Some(handler.answer(&self.reading, out))
    }
}

/// Opens a socket on `queue`, with zero copy if the program runs in the driver and that can, else with copies. Gives it
/// with its blank frames, and whether the network card reads and writes them itself.
pub(super) fn open_queue(
    facts: &Facts,
    queue: u32,
    mode: Mode,
    options: XdpOptions,
) -> Result<(Queue, Vec<Frame>, bool), XdpError> {
    let sizes = sizes_for(facts.mtu, options);
    let failed = |error| open_failed(facts, queue, sizes, error);
    let interface: Interface = facts
        .name
        .parse()
        .map_err(|_| failed(("name the interface", io::Error::from_raw_os_error(libc::EINVAL))))?;
    let open = |binding: BindFlags| {
        Queue::open(&interface, queue, sizes, binding | BindFlags::XDP_USE_NEED_WAKEUP)
    };
    let zero_copy = match mode {
        Mode::Native => open(BindFlags::XDP_ZEROCOPY).ok(),
        Mode::Generic => None,
    };
    let (queue, blanks) = match zero_copy {
        Some(opened) => opened,
        None => open(BindFlags::XDP_COPY).map_err(failed)?,
    };
    // An older kernel has no such option, and sends 32 frames for each system call.
    let budget = i32::try_from(options.ring_frames).unwrap_or(i32::MAX).min(TRANSMIT_BUDGET);
    let _ = sys::set_option(queue.socket(), libc::SOL_XDP, XDP_MAX_TX_SKB_BUDGET, &budget);
    let flags = sys::integer_option(queue.socket(), libc::SOL_XDP, XDP_OPTIONS).unwrap_or(0);
    Ok((queue, blanks, flags & XDP_OPTIONS_ZEROCOPY != 0))
}

/// Frames of 2 KiB where a packet fits one, else of a page, which is the most that AF_XDP has.
fn sizes_for(mtu: u32, options: XdpOptions) -> Sizes {
    let needed = mtu.saturating_add(KERNEL_HEADROOM + ETHERNET_LENGTH_MAX);
    let frame = if needed <= 2_048 { 2_048 } else { 4_096 };
    let blanks = options.reply_frames.max(options.ring_frames);
    Sizes { frame, ring: options.ring_frames, blanks }
}

/// The most octets of a reply, Ethernet header and VLAN tags included, to a frame with so many octets of headers, on
/// an interface with this MTU.
fn frame_length_max(header_length: usize, mtu: u32) -> usize {
    const IPV6_AND_UDP_LENGTH: usize = 48;
    header_length - IPV6_AND_UDP_LENGTH + mtu as usize
}

fn datagram<'a>(taken: &Taken<'a>, interface: u32) -> Datagram<'a> {
    Datagram {
        peer: taken.source,
        peer_port: taken.source_port,
        local: taken.destination,
        interface,
        payload: taken.payload,
    }
}

fn open_failed(
    facts: &Facts,
    queue: u32,
    sizes: Sizes,
    (operation, source): (&'static str, io::Error),
) -> XdpError {
    let interface = facts.name.clone();
    match source.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => {
            let missing = sys::missing_capabilities(&sys::XDP_CAPABILITIES).join(", ");
            XdpError::NotPermitted { interface, operation, missing }
        }
        Some(libc::ENOBUFS) => {
            let octets = u64::from(sizes.frame) * u64::from(sizes.ring + sizes.blanks);
            XdpError::LockedMemory { interface, octets }
        }
        Some(libc::EBUSY) => XdpError::QueueTaken { interface, queue },
        _ => XdpError::Io { interface, queue, operation, source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_hold_the_longest_packet_of_the_interface_where_afxdp_can() {
        let frame = |mtu| sizes_for(mtu, XdpOptions::default()).frame;
        assert_eq!([frame(1_280), frame(1_500), frame(1_770)], [2_048; 3]);
        assert_eq!([frame(1_771), frame(3_000), frame(9_000), frame(u32::MAX)], [4_096; 4]);
    }

    #[test]
    fn replies_are_as_long_as_the_mtu_allows_whatever_the_tags() {
        for (tags, length) in [(0, 1_514), (1, 1_518), (2, 1_522)] {
            assert_eq!(frame_length_max(14 + tags * 4 + 48, 1_500), length);
        }
    }
}
