//! The ordinary UDP socket: for what the XDP program passes on, and for machines without AF_XDP.
//!
//! One socket an interface, bound to it, so that a reply leaves where its query came in and other interfaces' port
//! 547 is left alone. The kernel reassembles fragments and skips extension headers here, and fragments long replies.

use std::{
    io,
    mem::{size_of, zeroed},
    net::Ipv6Addr,
    os::fd::{AsFd, AsRawFd},
    ptr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use arrayvec::ArrayVec;

use super::{
    Disposal, Handler, Port, PortError,
    counters::{Event, NetCounters},
    link::{Facts, Published},
    sys::{self, WakeFd},
};
use crate::wire::{
    datagram::Datagram,
    dhcpv6::{ALL_RELAYS_AND_SERVERS, ALL_SERVERS, SERVER_PORT},
};

mod socket;

use socket::Socket;
pub use socket::{Membership, UdpError};

/// The most datagrams of one system call, and of one burst from one interface.
pub const BATCH_MAX: usize = 64;

/// The longest datagram that is received or sent, in octets. DHCPv4 messages have a few hundred, and a relay adds
/// less than a hundred.
pub const DATAGRAM_LENGTH_MAX: usize = 16 * 1_024;

/// How long to sleep while the kernel takes nothing from us.
const STALLED_MS: u32 = 1;

/// Room for one control message with an `in6_pktinfo`, and aligned for its header.
type Control = [u64; 6];

/// The arrays that one system call on many datagrams wants: headers that point to vectors, addresses and control
/// messages, all of the same index.
struct Batch {
    headers: Box<[libc::mmsghdr; BATCH_MAX]>,
    vectors: Box<[libc::iovec; BATCH_MAX]>,
    names: Box<[libc::sockaddr_in6; BATCH_MAX]>,
    controls: Box<[Control; BATCH_MAX]>,
}

// SAFETY: the pointers inside go to the heap blocks that the batch itself owns, or are set before each use.
unsafe impl Send for Batch {}

impl Batch {
    fn new() -> Self {
        let vector = libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 };
        // SAFETY: for integers and pointers zero is a value.
        let header: libc::mmsghdr = unsafe { zeroed() };
        let name = sys::socket_address(Ipv6Addr::UNSPECIFIED, 0, 0);
        Self {
            headers: Box::new([header; BATCH_MAX]),
            vectors: Box::new([vector; BATCH_MAX]),
            names: Box::new([name; BATCH_MAX]),
            controls: Box::new([[0; 6]; BATCH_MAX]),
        }
    }

    /// Points the headers of entry `at` to its other parts.
    fn prepare(&mut self, at: usize, base: *mut u8, length: usize) {
        self.vectors[at] = libc::iovec { iov_base: base.cast(), iov_len: length };
        let header = &mut self.headers[at].msg_hdr;
        header.msg_name = (&raw mut self.names[at]).cast();
        header.msg_namelen = sys::length_of::<libc::sockaddr_in6>();
        header.msg_iov = &raw mut self.vectors[at];
        header.msg_iovlen = 1;
        header.msg_control = (&raw mut self.controls[at]).cast();
        header.msg_controllen = size_of::<Control>();
        header.msg_flags = 0;
    }

    /// Writes the control message that says from where entry `at` is to be sent.
    fn put_source(&mut self, at: usize, source: Ipv6Addr, interface: u32) {
        let info = libc::in6_pktinfo {
            ipi6_addr: libc::in6_addr { s6_addr: source.octets() },
            ipi6_ifindex: interface,
        };
        let header = &mut self.headers[at].msg_hdr;
        // SAFETY: `prepare` has pointed the header to a control buffer with room for this message.
        unsafe {
            let message = libc::CMSG_FIRSTHDR(header);
            (*message).cmsg_level = libc::IPPROTO_IPV6;
            (*message).cmsg_type = libc::IPV6_PKTINFO;
            (*message).cmsg_len = libc::CMSG_LEN(sys::length_of::<libc::in6_pktinfo>()) as usize;
            ptr::write_unaligned(libc::CMSG_DATA(message).cast(), info);
            header.msg_controllen =
                libc::CMSG_SPACE(sys::length_of::<libc::in6_pktinfo>()) as usize;
        }
    }

    /// Where the datagram in entry `at` was sent to.
    fn destination(&self, at: usize) -> Option<Ipv6Addr> {
        let header = &self.headers[at].msg_hdr;
        // SAFETY: the kernel has filled header and control buffer, and the macros stay inside.
        unsafe {
            let mut message = libc::CMSG_FIRSTHDR(header);
            while !message.is_null() {
                let kind = ((*message).cmsg_level, (*message).cmsg_type);
                if kind == (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) {
                    let info: libc::in6_pktinfo =
                        ptr::read_unaligned(libc::CMSG_DATA(message).cast());
                    return Some(Ipv6Addr::from(info.ipi6_addr.s6_addr));
                }
                message = libc::CMSG_NXTHDR(header, message);
            }
        }
        None
    }
}

/// A reply that waits: its buffer, and where it goes.
#[derive(Debug)]
pub struct UdpReply {
    port: u64,
    /// Number of the buffer.
    buffer: usize,
    length: usize,
    /// Number of the socket.
    socket: usize,
    source: Ipv6Addr,
    peer: Ipv6Addr,
    peer_port: u16,
}

/// The UDP sockets of all served interfaces.
pub struct UdpPort {
    /// Distinguishes this port's replies from those of others.
    id: u64,
    sockets: Vec<Socket>,
    listen: Vec<Ipv6Addr>,
    /// The socket that is read first in the next burst.
    first: usize,
    incoming: Batch,
    requests: Vec<u8>,
    outgoing: Batch,
    replies: Vec<u8>,
    /// Numbers of the reply buffers that are free.
    blanks: Vec<usize>,
    outbox: Vec<UdpReply>,
    pollable: Vec<libc::pollfd>,
    counters: Arc<NetCounters>,
}

/// What a [`UdpPort`] is made of.
#[derive(Clone, Copy, Debug)]
pub struct UdpOptions {
    /// The UDP port.
    pub port: u16,
    /// Replies that may wait for the journal or for transmission at once.
    pub replies: usize,
}

impl Default for UdpOptions {
    fn default() -> Self {
        Self { port: SERVER_PORT, replies: 1_024 }
    }
}

impl UdpPort {
    /// Opens a socket on each interface and joins the groups `ff02::1:2` and `ff05::1:3` there. Datagrams to other
    /// addresses than these and `listen` are dropped.
    pub fn open(
        interfaces: &[(Facts, Arc<Published>)],
        listen: &[Ipv6Addr],
        options: UdpOptions,
    ) -> Result<Self, UdpError> {
        static NEXT_ID: AtomicU64 = AtomicU64::new(0);
        let sockets = interfaces
            .iter()
            .map(|(facts, published)| Socket::open(facts, options.port, published))
            .collect::<Result<Vec<_>, _>>()?;
        let replies = options.replies;
        Ok(Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            listen: listen.to_vec(),
            first: 0,
            incoming: Batch::new(),
            requests: vec![0; BATCH_MAX * DATAGRAM_LENGTH_MAX],
            outgoing: Batch::new(),
            // Fresh pages are zero: those that are never used cost nothing.
            replies: vec![0; replies * DATAGRAM_LENGTH_MAX],
            blanks: (0..replies).rev().collect(),
            outbox: Vec::with_capacity(replies),
            pollable: Vec::with_capacity(sockets.len() + 1),
            counters: Arc::new(NetCounters::new()),
            sockets,
        })
    }

    /// Receives at most `limit` datagrams from one socket; their number.
    fn receive(&mut self, socket: usize, limit: usize) -> usize {
        let limit = limit.min(BATCH_MAX);
        let buffers = self.requests.chunks_exact_mut(DATAGRAM_LENGTH_MAX);
        for (at, buffer) in buffers.take(limit).enumerate() {
            self.incoming.prepare(at, buffer.as_mut_ptr(), DATAGRAM_LENGTH_MAX);
        }
        let fd = self.sockets[socket].fd.as_raw_fd();
        let headers = self.incoming.headers.as_mut_ptr();
        let count = libc::c_uint::try_from(limit).unwrap_or(0);
        // SAFETY: `limit` headers have been prepared, and point to buffers that `self` owns.
        let received =
            unsafe { libc::recvmmsg(fd, headers, count, libc::MSG_DONTWAIT, ptr::null_mut()) };
        // An error is that there is nothing, or one that a datagram of ours has met; the next call goes on.
        usize::try_from(received).unwrap_or(0)
    }

    /// Answers the first `count` entries of the batch from socket `number`: reads them all, approaches them all,
    /// answers one after the other.
    fn serve<H: Handler<UdpReply>>(&mut self, number: usize, count: usize, handler: &mut H) {
        let Self { id, sockets, listen, incoming, requests, replies, blanks, outbox, .. } = self;
        let mut burst = ArrayVec::<_, BATCH_MAX>::new();
        let buffers = requests.chunks_exact(DATAGRAM_LENGTH_MAX);
        for (at, octets) in buffers.take(count.min(BATCH_MAX)).enumerate() {
            match accept(incoming, at, octets, &sockets[number], listen) {
                Ok((datagram, source)) => {
                    burst.push((H::Reading::default(), datagram.peer, source));
                    if let Some((reading, ..)) = burst.last_mut() {
                        handler.read(&datagram, reading);
                    }
                }
                Err(event) => self.counters.count(event),
            }
        }
        for (reading, ..) in &burst {
            handler.approach(reading);
        }
        for &(ref reading, peer, source) in &burst {
            let Some(buffer) = blanks.pop() else {
                self.counters.count(Event::NoBlank);
                continue;
            };
            let start = buffer * DATAGRAM_LENGTH_MAX;
            let out = &mut replies[start..start + DATAGRAM_LENGTH_MAX];
            let disposal = handler.answer(reading, out);
            let (Disposal::Send { length, port } | Disposal::Park { length, port }) = disposal
            else {
                blanks.push(buffer);
                continue;
            };
            if length > out.len() {
                self.counters.count(Event::ReplyTooLarge);
                blanks.push(buffer);
                continue;
            }
            let (port, peer_port, socket) = (*id, port, number);
            let reply = UdpReply { port, buffer, length, socket, source, peer, peer_port };
            match disposal {
                Disposal::Park { .. } => handler.park(reply),
                _ => outbox.push(reply),
            }
        }
    }

    /// Sends the first replies of the outbox, as far as they go through one socket. Returns how many were taken
    /// from the outbox, or `None` if the kernel takes no more now.
    fn send_some(&mut self) -> Option<usize> {
        let socket = self.outbox.first()?.socket;
        let run = self.outbox.iter().take_while(|reply| reply.socket == socket);
        let mut prepared = 0;
        let interface = &self.sockets[socket];
        let replies = self.replies.as_mut_ptr();
        for (at, reply) in run.take(BATCH_MAX).enumerate() {
            let start = reply.buffer * DATAGRAM_LENGTH_MAX;
            let base = replies.wrapping_add(start);
            let scope = if reply.peer.is_unicast_link_local() { interface.index } else { 0 };
            self.outgoing.names[at] = sys::socket_address(reply.peer, reply.peer_port, scope);
            self.outgoing.prepare(at, base, reply.length);
            // req-S8 (RFC 7341 §11): from the interface that it came to, and the address.
            self.outgoing.put_source(at, reply.source, interface.index);
            prepared = at + 1;
        }
        let fd = interface.fd.as_raw_fd();
        let headers = self.outgoing.headers.as_mut_ptr();
        let count = libc::c_uint::try_from(prepared).unwrap_or(0);
        // SAFETY: `prepared` headers have been filled, and point to buffers that `self` owns.
        let sent = unsafe { libc::sendmmsg(fd, headers, count, libc::MSG_DONTWAIT) };
        let taken = if let Ok(sent) = usize::try_from(sent) {
            self.counters.add(Event::Sent, sent as u64);
            sent
        } else {
            let error = io::Error::last_os_error().raw_os_error();
            if matches!(error, Some(libc::EAGAIN | libc::EINTR | libc::ENOBUFS)) {
                return None;
            }
            // No route, no neighbour, an address that is gone: of the first one, others may have better luck.
            self.counters.count(Event::TransmitFailed);
            1
        };
        self.blanks.extend(self.outbox.drain(..taken).map(|reply| reply.buffer));
        Some(taken)
    }
}

/// The datagram in entry `at` of a batch, if it is for us, and the source of its reply; else what became of it.
fn accept<'a>(
    batch: &Batch,
    at: usize,
    octets: &'a [u8],
    socket: &Socket,
    listen: &[Ipv6Addr],
) -> Result<(Datagram<'a>, Ipv6Addr), Event> {
    let header = &batch.headers[at];
    let payload = octets.get(..header.msg_len as usize).ok_or(Event::TooLong)?;
    if header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0 {
        return Err(Event::TooLong);
    }
    let local = batch.destination(at).ok_or(Event::NotOurDestination)?;
    // req-S19 (RFC 9915 §16): by unicast only to the addresses that the configuration names for it.
    if ![ALL_RELAYS_AND_SERVERS, ALL_SERVERS].contains(&local) && !listen.contains(&local) {
        return Err(Event::NotOurDestination);
    }
    let name = &batch.names[at];
    let peer = Ipv6Addr::from(name.sin6_addr.s6_addr);
    let source = socket.reach.1.source_for(local, peer).ok_or(Event::NoSourceAddress)?;
    let peer_port = u16::from_be(name.sin6_port);
    Ok((Datagram { peer, peer_port, local, interface: socket.index, payload }, source))
}

impl Port for UdpPort {
    type Reply = UdpReply;

    fn capacity(&self) -> usize {
        self.blanks.len()
    }

    fn burst<H: Handler<UdpReply>>(&mut self, limit: usize, handler: &mut H) -> usize {
        let mut total = 0;
        for step in 0..self.sockets.len() {
            let socket = (self.first + step) % self.sockets.len();
            let room = (limit - total).min(self.blanks.len());
            if room == 0 {
                break;
            }
            let count = self.receive(socket, room);
            self.serve(socket, count, handler);
            total += count;
        }
        self.first = (self.first + 1) % self.sockets.len().max(1);
        if total > 0 {
            self.counters.add(Event::Received, total as u64);
        }
        total
    }

    fn send(&mut self, reply: UdpReply) {
        if reply.port == self.id {
            self.outbox.push(reply);
        } else {
            self.counters.count(Event::ForeignReply);
        }
    }

    fn discard(&mut self, reply: UdpReply) {
        if reply.port == self.id {
            self.blanks.push(reply.buffer);
        } else {
            self.counters.count(Event::ForeignReply);
        }
    }

    fn flush(&mut self) -> Result<(), PortError> {
        while !self.outbox.is_empty() {
            if self.send_some().is_none() {
                self.counters.count(Event::TransmitFull);
                break;
            }
        }
        Ok(())
    }

    fn has_outstanding(&self) -> bool {
        !self.outbox.is_empty()
    }

    fn wait(&mut self, timeout_ms: u32, wake: &WakeFd) -> Result<(), PortError> {
        let mut timeout_ms = timeout_ms;
        if self.has_outstanding() {
            self.flush()?;
            if self.has_outstanding() {
                timeout_ms = timeout_ms.min(STALLED_MS);
            }
        }
        self.pollable.clear();
        self.pollable.push(sys::readable(wake.as_fd()));
        let sockets = self.sockets.iter().map(|socket| sys::readable(socket.fd.as_fd()));
        self.pollable.extend(sockets);
        sys::poll(&mut self.pollable, timeout_ms).map_err(|source| PortError {
            operation: "poll",
            interface: self.sockets.first().map(|s| s.interface.clone()).unwrap_or_default(),
            source,
        })?;
        if self.pollable[0].revents != 0 {
            wake.reset();
        }
        Ok(())
    }

    fn tick(&mut self) {
        for socket in &mut self.sockets {
            socket.published.refresh(&mut socket.reach);
        }
    }

    fn counters(&self) -> &Arc<NetCounters> {
        &self.counters
    }
}

#[cfg(test)]
mod tests;
