//! Datagrams of UDP sockets, many to a system call.

use std::{
    io,
    mem::{size_of, zeroed},
    net::{Ipv6Addr, SocketAddrV6, UdpSocket},
    os::fd::AsRawFd as _,
};

use super::{check, raw_address, socket_length, would_block};

/// Octets that a datagram of a batch may have.
pub const DATAGRAM_LENGTH_MAX: usize = 1500;

/// Datagrams of one batch.
pub const BATCH: usize = 64;

/// Room for a batch of datagrams, sent or received by one system call.
pub struct Batch {
    buffers: Box<[[u8; DATAGRAM_LENGTH_MAX]]>,
    addresses: [libc::sockaddr_in6; BATCH],
    lengths: [usize; BATCH],
    used: usize,
}

impl Default for Batch {
    fn default() -> Self {
        Self::new()
    }
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self {
            buffers: vec![[0; DATAGRAM_LENGTH_MAX]; BATCH].into_boxed_slice(),
            addresses: [raw_address(SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, 0, 0, 0)); BATCH],
            lengths: [0; BATCH],
            used: 0,
        }
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// Whether no further datagram fits.
    pub fn is_full(&self) -> bool {
        self.used == BATCH
    }

    /// Writes one more datagram: `fill` gives its length, or `None` to leave it out.
    ///
    /// Does nothing if the batch is full.
    pub fn add(&mut self, to: SocketAddrV6, fill: impl FnOnce(&mut [u8]) -> Option<usize>) {
        let Some(buffer) = self.buffers.get_mut(self.used) else { return };
        if let Some(length) = fill(buffer) {
            self.lengths[self.used] = length;
            self.addresses[self.used] = raw_address(to);
            self.used += 1;
        }
    }

    /// As [`send`](Self::send), with the number of datagrams that were in the batch.
    pub fn send_counted(&mut self, socket: &UdpSocket) -> (usize, io::Result<usize>) {
        (self.used, self.send(socket))
    }

    /// Sends all of it through a socket and empties it. Gives the number that the kernel took; what it refused is
    /// lost, as datagrams may be.
    pub fn send(&mut self, socket: &UdpSocket) -> io::Result<usize> {
        let used = std::mem::take(&mut self.used);
        let mut sent = 0;
        while sent < used {
            match self.transfer(sent, used, |headers, count| {
                // SAFETY: the headers point into our buffers, which outlive the call.
                unsafe { libc::sendmmsg(socket.as_raw_fd(), headers, count, 0) }
            }) {
                Ok(0) => break,
                Ok(count) => sent += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // No buffer, no route for now, or the peer's port is closed: loss, which the sender must bear.
                Err(_) if sent > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(sent)
    }

    /// Receives what is there, without waiting. Gives the number of datagrams.
    pub fn receive(&mut self, socket: &UdpSocket) -> io::Result<usize> {
        self.lengths = [DATAGRAM_LENGTH_MAX; BATCH];
        let received = self.transfer(0, BATCH, |headers, count| {
            let none = std::ptr::null_mut();
            // SAFETY: the headers point into our buffers, which outlive the call; no timeout is given.
            unsafe { libc::recvmmsg(socket.as_raw_fd(), headers, count, libc::MSG_DONTWAIT, none) }
        });
        self.used = match received {
            Ok(count) => count,
            Err(error) if would_block(&error) => 0,
            Err(error) => return Err(error),
        };
        Ok(self.used)
    }

    /// One of the datagrams of the last [`receive`](Self::receive).
    pub fn datagram(&self, at: usize) -> Option<&[u8]> {
        self.buffers.get(at).filter(|_| at < self.used)?.get(..self.lengths[at])
    }

    /// One system call over the datagrams `from..to`; lengths are read from and written back to ours.
    fn transfer(
        &mut self,
        from: usize,
        to: usize,
        call: impl FnOnce(*mut libc::mmsghdr, u32) -> i32,
    ) -> io::Result<usize> {
        // SAFETY: all-zero is a valid iovec and a valid mmsghdr: null pointers with zero lengths.
        let (mut vectors, mut headers): ([libc::iovec; BATCH], [libc::mmsghdr; BATCH]) =
            unsafe { (zeroed(), zeroed()) };
        for at in from..to {
            vectors[at] = libc::iovec {
                iov_base: self.buffers[at].as_mut_ptr().cast(),
                iov_len: self.lengths[at],
            };
            let header = &mut headers[at].msg_hdr;
            header.msg_name = (&raw mut self.addresses[at]).cast();
            header.msg_namelen = socket_length(size_of::<libc::sockaddr_in6>());
            header.msg_iov = &raw mut vectors[at];
            header.msg_iovlen = 1;
        }
        let count = u32::try_from(to - from).unwrap_or(0);
        let done = check(call(headers[from..].as_mut_ptr(), count))?;
        let done = usize::try_from(done).unwrap_or(0);
        for (length, header) in self.lengths.iter_mut().zip(headers).skip(from).take(done) {
            *length = header.msg_len as usize;
        }
        Ok(done)
    }
}
