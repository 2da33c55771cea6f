//! Whole Ethernet frames through a packet socket, VLAN tags included.

use std::{
    io,
    mem::{size_of_val, zeroed},
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    time::Duration,
};

use super::{check, family, interface_index, set_option, socket_length, wait_readable};

/// Frames of every protocol (`ETH_P_ALL`).
const EVERY_PROTOCOL: u16 = 3;

/// A socket for whole Ethernet frames on one interface.
pub struct FrameSocket(OwnedFd);

impl FrameSocket {
    /// Opens one on an interface of the calling thread's namespace.
    pub fn open(interface: &str) -> io::Result<Self> {
        let every = i32::from(EVERY_PROTOCOL.to_be());
        // SAFETY: socket takes integers; the descriptor that it gives is ours alone.
        let socket = unsafe {
            let raw =
                check(libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, every))?;
            OwnedFd::from_raw_fd(raw)
        };
        let raw = socket.as_raw_fd();
        // The kernel takes VLAN tags out of received frames; this tells us what they were.
        set_option(raw, libc::SOL_PACKET, libc::PACKET_AUXDATA, &1_i32)?;
        // SAFETY: all-zero is a valid link-layer address.
        let mut address: libc::sockaddr_ll = unsafe { zeroed() };
        address.sll_family = family(libc::AF_PACKET);
        address.sll_protocol = EVERY_PROTOCOL.to_be();
        address.sll_ifindex = i32::try_from(interface_index(interface)?).unwrap_or(0);
        // SAFETY: the address lives through the call and its true size is passed.
        check(unsafe {
            libc::bind(raw, (&raw const address).cast(), socket_length(size_of_val(&address)))
        })?;
        Ok(Self(socket))
    }

    /// Sends one frame as it is.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        // SAFETY: pointer and length are of the same live slice.
        let sent = unsafe { libc::send(self.0.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Receives the next incoming frame, VLAN tag put back, or `None` after `timeout`. Our own are left out.
    pub fn receive(&self, timeout: Duration) -> io::Result<Option<Vec<u8>>> {
        if !wait_readable(&[self.0.as_raw_fd()], timeout)? {
            return Ok(None);
        }
        let mut frame = vec![0_u8; 65_536];
        let mut control = [0_u64; 16];
        // SAFETY: all-zero is valid for both; every pointer set below is to a live local.
        let (mut from, mut header): (libc::sockaddr_ll, libc::msghdr) =
            unsafe { (zeroed(), zeroed()) };
        let mut vector = libc::iovec { iov_base: frame.as_mut_ptr().cast(), iov_len: frame.len() };
        header.msg_name = (&raw mut from).cast();
        header.msg_namelen = socket_length(size_of_val(&from));
        header.msg_iov = &raw mut vector;
        header.msg_iovlen = 1;
        header.msg_control = control.as_mut_ptr().cast();
        header.msg_controllen = size_of_val(&control);
        // SAFETY: the header points to live buffers of the sizes that it names.
        let length = unsafe { libc::recvmsg(self.0.as_raw_fd(), &raw mut header, 0) };
        let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
        frame.truncate(length);
        if from.sll_pkttype == libc::PACKET_OUTGOING {
            return self.receive(timeout);
        }
        if let Some(tag) = tag_of(&header)
            && length >= 12
        {
            frame.splice(12..12, tag);
        }
        Ok(Some(frame))
    }
}

/// The VLAN tag that the kernel took out of a frame: protocol and tag control, as on the wire.
fn tag_of(header: &libc::msghdr) -> Option<[u8; 4]> {
    // SAFETY: the header was filled by recvmsg; CMSG_FIRSTHDR and CMSG_NXTHDR stay inside its control buffer, and
    // a PACKET_AUXDATA message holds a tpacket_auxdata, plain integers, copied octet by octet since it may be
    // unaligned.
    unsafe {
        let mut message = libc::CMSG_FIRSTHDR(header);
        while !message.is_null() {
            if (*message).cmsg_level == libc::SOL_PACKET
                && (*message).cmsg_type == libc::PACKET_AUXDATA
            {
                let mut data: libc::tpacket_auxdata = zeroed();
                let length = size_of_val(&data);
                std::ptr::copy_nonoverlapping(
                    libc::CMSG_DATA(message),
                    (&raw mut data).cast(),
                    length,
                );
                if data.tp_status & libc::TP_STATUS_VLAN_VALID != 0 {
                    let [a, b] = data.tp_vlan_tpid.to_be_bytes();
                    let [c, d] = data.tp_vlan_tci.to_be_bytes();
                    return Some([a, b, c, d]);
                }
            }
            message = libc::CMSG_NXTHDR(header, message);
        }
    }
    None
}
