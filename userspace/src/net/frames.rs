//! Memory shared with the kernel for AF_XDP, and who owns which piece of it.
//!
//! A [`Frame`] is the right to touch one frame. It can be neither copied nor cloned. It comes into being when the
//! memory is made, or when the kernel gives the frame back through the receive or the completion ring; it ends when
//! the frame is given to the kernel through the fill or the transmit ring. So nobody reads or writes what the kernel
//! works on, and no frame is given away twice. Everything `unsafe` about frames is in this file.

use std::{
    io,
    num::NonZeroU32,
    os::fd::{AsRawFd, BorrowedFd},
    slice,
};

use xsk_rs::{
    CompQueue, FillQueue, FrameDesc, RxQueue, Socket, TxQueue, Umem,
    config::{BindFlags, FrameSize, Interface, LibxdpFlags, QueueSize, SocketConfig, UmemConfig},
    socket::{SocketCreateError, XdpStatistics},
};

/// The right to touch one frame of the memory of one [`Queue`].
#[derive(Debug)]
#[repr(transparent)]
#[must_use = "a frame that is dropped is lost until the socket is closed"]
pub(super) struct Frame(FrameDesc);

/// The descriptors of `frames`.
fn descriptors(frames: &[Frame]) -> &[FrameDesc] {
    // SAFETY: a Frame has the layout of the only field that it has.
    unsafe { slice::from_raw_parts(frames.as_ptr().cast(), frames.len()) }
}

/// Octets at the beginning of every frame that the kernel keeps for XDP programs (`XDP_PACKET_HEADROOM`).
pub(super) const KERNEL_HEADROOM: u32 = 256;

/// Sizes of a [`Queue`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    /// Octets of a frame, the kernel's headroom included: a power of two.
    pub(super) frame: u32,
    /// Places in the receive, transmit and fill rings: a power of two.
    pub(super) ring: u32,
    /// Frames for replies: a power of two, at least `ring`.
    pub(super) blanks: u32,
}

/// One AF_XDP socket, bound to one queue of one interface, with its memory.
#[derive(Debug)]
pub(super) struct Queue {
    umem: Umem,
    tx: TxQueue,
    rx: RxQueue,
    fill: FillQueue,
    completion: CompQueue,
    /// Where rings write descriptors before they become frames.
    scratch: Vec<FrameDesc>,
    /// Places in the receive and the transmit ring, each.
    ring: u32,
    /// Frames that were put into the transmit ring and have not come back.
    in_flight: usize,
}

/// Why there is no [`Queue`]: what was tried, and the kernel's word.
pub(super) type OpenError = (&'static str, io::Error);

impl Queue {
    /// Opens a socket on `queue` of `interface`, gives it frames to receive into, and returns it with the blank
    /// frames.
    pub(super) fn open(
        interface: &Interface,
        queue: u32,
        sizes: Sizes,
        binding: BindFlags,
    ) -> Result<(Self, Vec<Frame>), OpenError> {
        let invalid = |what| (what, io::Error::from_raw_os_error(libc::EINVAL));
        let ring = QueueSize::new(sizes.ring).map_err(|_| invalid("ring size"))?;
        let completion = QueueSize::new(sizes.blanks).map_err(|_| invalid("blank frames"))?;
        let config = UmemConfig::builder()
            .frame_size(FrameSize::new(sizes.frame).map_err(|_| invalid("frame size"))?)
            .fill_queue_size(ring)
            .comp_queue_size(completion)
            .build()
            .map_err(|_| invalid("frame size"))?;
        let frames = NonZeroU32::new(sizes.ring + sizes.blanks).ok_or(invalid("ring size"))?;
        let (umem, mut descriptors) = Umem::new(config, frames, false)
            .map_err(|error| ("register memory", system_error(&error)))?;
        let config = SocketConfig::builder()
            .rx_queue_size(ring)
            .tx_queue_size(ring)
            .bind_flags(binding)
            // The program is ours to load.
            .libxdp_flags(LibxdpFlags::XSK_LIBXDP_FLAGS_INHIBIT_PROG_LOAD)
            .build();
        // SAFETY: the memory is new, so no other socket uses its fill and completion rings.
        let opened = unsafe { Socket::new(config, &umem, interface, queue) };
        let bind_error = |error: SocketCreateError| ("bind an AF_XDP socket", system_error(&error));
        let (tx, rx, rings) = opened.map_err(bind_error)?;
        let (mut fill, completion) = rings.ok_or(invalid("rings of an AF_XDP socket"))?;

        let blanks = descriptors.split_off(sizes.ring as usize).into_iter().map(Frame).collect();
        // SAFETY: these frames belong to this memory and are not among the blanks.
        let filled = unsafe { fill.produce(&descriptors) };
        debug_assert_eq!(filled, descriptors.len());
        let scratch = descriptors;
        let ring = sizes.ring;
        let queue = Self { umem, tx, rx, fill, completion, scratch, ring, in_flight: 0 };
        Ok((queue, blanks))
    }

    /// The socket.
    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor is open for as long as the rings are, which `self` owns.
        unsafe { BorrowedFd::borrow_raw(self.rx.fd().as_raw_fd()) }
    }

    /// What the kernel has counted.
    pub(super) fn statistics(&self) -> io::Result<XdpStatistics> {
        self.rx.fd().xdp_statistics()
    }

    /// How many of the receive ring's places are taken, in percent.
    pub(super) fn waiting_percent(&mut self) -> u32 {
        self.rx.nb_avail_exact().saturating_mul(100) / self.ring.max(1)
    }

    /// Takes at most `limit` frames that were received.
    pub(super) fn receive(&mut self, limit: usize, into: &mut Vec<Frame>) -> usize {
        let limit = limit.min(self.scratch.len());
        // SAFETY: the descriptors are only written to, and name frames of this memory.
        let count = unsafe { self.rx.consume(&mut self.scratch[..limit]) };
        into.extend(self.scratch[..count].iter().map(|&descriptor| Frame(descriptor)));
        count
    }

    /// Gives frames to the kernel to receive into. There is room for all that it ever gave us.
    pub(super) fn refill(&mut self, frames: &mut Vec<Frame>) {
        // SAFETY: the frames belong to this memory, and their tokens end here.
        let count = unsafe { self.fill.produce(descriptors(frames)) };
        // Ends the tokens of what was taken: all or nothing.
        frames.drain(..count).for_each(drop);
        if self.fill.needs_wakeup() {
            // A driver that has run out of frames wants to be told. An error shows when we send.
            let _ = self.fill.wakeup(self.rx.fd_mut(), 0);
        }
    }

    /// Queues as many of `frames` for transmission as there is room for, first come, first served. Returns how many.
    pub(super) fn transmit(&mut self, frames: &mut Vec<Frame>) -> usize {
        let wanted = u32::try_from(frames.len()).unwrap_or(u32::MAX);
        let room = self.tx.nb_free(wanted).min(wanted) as usize;
        // SAFETY: the frames belong to this memory, and their tokens end here.
        let count = unsafe { self.tx.produce(descriptors(&frames[..room])) };
        frames.drain(..count).for_each(drop);
        self.in_flight += count;
        count
    }

    /// Frames in the transmit ring that the kernel has not looked at yet.
    pub(super) fn unsent(&mut self) -> u32 {
        if self.in_flight == 0 { 0 } else { self.ring - self.tx.nb_free_exact() }
    }

    /// Tells the kernel to look at the transmit ring, if it wants to be told.
    pub(super) fn kick(&mut self) -> io::Result<()> {
        if self.tx.needs_wakeup() { self.tx.wakeup() } else { Ok(()) }
    }

    /// Takes frames back that were transmitted.
    pub(super) fn reclaim(&mut self, blanks: &mut Vec<Frame>) {
        while self.in_flight > 0 {
            // SAFETY: as in `receive`.
            let count = unsafe { self.completion.consume(&mut self.scratch) };
            if count == 0 {
                break;
            }
            self.in_flight -= count;
            blanks.extend(self.scratch[..count].iter().map(|&descriptor| Frame(descriptor)));
        }
    }

    /// What was received in `frame`.
    pub(super) fn received<'a>(&'a self, frame: &'a Frame) -> &'a [u8] {
        // SAFETY: the token says that the frame is of this memory and not the kernel's; it is borrowed, so nobody
        // writes meanwhile.
        unsafe { self.umem.data(&frame.0) }.contents()
    }

    /// All of a blank frame, to write into.
    pub(super) fn blank<'a>(&'a self, frame: &'a mut Frame) -> &'a mut [u8] {
        // SAFETY: the token says that the frame is of this memory and not the kernel's; it is borrowed mutably, so
        // nobody else reads or writes meanwhile.
        let mut data = unsafe { self.umem.data_mut(&mut frame.0) };
        data.cursor().set_pos(usize::MAX);
        let octets = data.contents_mut();
        // SAFETY: the slice is of the memory, which lives as long as `self`, and not of the local that lends it.
        unsafe { slice::from_raw_parts_mut(octets.as_mut_ptr(), octets.len()) }
    }

    /// Sets how many octets of `frame` are to be transmitted.
    pub(super) fn set_length(&self, frame: &mut Frame, length: usize) {
        // SAFETY: as in `blank`.
        unsafe { self.umem.data_mut(&mut frame.0) }.cursor().set_pos(length);
    }
}

/// The system error behind an error of xsk-rs.
fn system_error(error: &(dyn std::error::Error + 'static)) -> io::Error {
    let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
    match cause.and_then(io::Error::raw_os_error) {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::other(error.to_string()),
    }
}
