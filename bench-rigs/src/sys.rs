//! The system calls that the standard library lacks: namespaces, signals, socket options, batches of datagrams and
//! raw frames. All `unsafe` code of the rigs is here.

use std::{
    ffi::CString,
    fs::File,
    io,
    mem::{size_of, size_of_val, zeroed},
    net::{Ipv6Addr, SocketAddrV6, UdpSocket},
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
    ptr,
    time::Duration,
};

/// Signals that the rigs send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Ends a process without a word.
    Kill,
    /// Asks a process to finish.
    Terminate,
    /// As from the terminal.
    Interrupt,
    /// To the daemon: write the counters. To a client: renew now.
    User1,
}

/// Sends `signal` to a process.
pub fn signal(process: u32, signal: Signal) -> io::Result<()> {
    let number = match signal {
        Signal::Kill => libc::SIGKILL,
        Signal::Terminate => libc::SIGTERM,
        Signal::Interrupt => libc::SIGINT,
        Signal::User1 => libc::SIGUSR1,
    };
    let process = i32::try_from(process).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: kill takes two integers and touches no memory of ours.
    check(unsafe { libc::kill(process, number) }).map(drop)
}

/// The user on whose behalf the process acts; 0 is root.
pub fn effective_user() -> u32 {
    // SAFETY: geteuid takes nothing and cannot fail.
    unsafe { libc::geteuid() }
}

/// Moves the calling thread into the network namespace that `handle` stands for.
pub fn enter_network_namespace(handle: &File) -> io::Result<()> {
    // SAFETY: the descriptor is open for the duration of the call.
    check(unsafe { libc::setns(handle.as_raw_fd(), libc::CLONE_NEWNET) }).map(drop)
}

/// Binds the calling thread to one core.
pub fn pin(core: usize) -> io::Result<()> {
    // SAFETY: a cpu_set_t is plain bits, for which zero is valid; CPU_SET checks the index against its size.
    let set = unsafe {
        let mut set: libc::cpu_set_t = zeroed();
        libc::CPU_SET(core, &mut set);
        set
    };
    // SAFETY: the set lives through the call and its true size is passed.
    check(unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) }).map(drop)
}

/// Lets the calling thread run on every core again.
pub fn unpin() -> io::Result<()> {
    // SAFETY: a cpu_set_t is plain bits, and all of them may be set: the kernel leaves out cores that are not there.
    let set: libc::cpu_set_t = unsafe {
        let mut set: libc::cpu_set_t = zeroed();
        for core in 0..libc::CPU_SETSIZE.unsigned_abs() as usize {
            libc::CPU_SET(core, &mut set);
        }
        set
    };
    // SAFETY: the set lives through the call and its true size is passed.
    check(unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) }).map(drop)
}

/// Processor time of the calling thread.
pub fn thread_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel fills the timespec that we own.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// The number of an interface in the calling thread's namespace.
pub fn interface_index(name: &str) -> io::Result<u32> {
    let name = CString::new(name)?;
    // SAFETY: the name is a terminated string that lives through the call.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(io::Error::last_os_error()),
        index => Ok(index),
    }
}

/// How a UDP socket is bound.
#[derive(Clone, Copy, Debug)]
pub struct Binding<'a> {
    /// Address and port.
    pub address: SocketAddrV6,
    /// Bind to addresses that the host does not have (with a local route for their prefix).
    pub foreign: bool,
    /// Only this interface.
    pub interface: Option<&'a str>,
    /// Octets of receive buffer, beyond the system's limit if we are root.
    pub receive_buffer: Option<u32>,
}

/// A bound UDP socket over IPv6 in the calling thread's namespace.
pub fn udp_socket(binding: &Binding<'_>) -> io::Result<UdpSocket> {
    let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC;
    // SAFETY: socket takes integers; the descriptor that it gives is ours alone.
    let socket = unsafe {
        let raw = check(libc::socket(libc::AF_INET6, kind, 0))?;
        OwnedFd::from_raw_fd(raw)
    };
    let raw = socket.as_raw_fd();
    set_option(raw, libc::SOL_SOCKET, libc::SO_REUSEADDR, &1_i32)?;
    set_option(raw, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, &1_i32)?;
    if binding.foreign {
        set_option(raw, libc::IPPROTO_IPV6, libc::IPV6_FREEBIND, &1_i32)?;
    }
    if let Some(octets) = binding.receive_buffer {
        set_option(raw, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &octets)?;
    }
    if let Some(name) = binding.interface {
        // SAFETY: pointer and length are of the same live string.
        check(unsafe {
            let length = socket_length(name.len());
            libc::setsockopt(
                raw,
                libc::SOL_SOCKET,
                libc::SO_BINDTODEVICE,
                name.as_ptr().cast(),
                length,
            )
        })?;
    }
    let address = raw_address(binding.address);
    // SAFETY: the address lives through the call and its true size is passed.
    check(unsafe {
        libc::bind(raw, (&raw const address).cast(), socket_length(size_of_val(&address)))
    })?;
    Ok(UdpSocket::from(socket))
}

/// Waits until one of the sockets can be read, or `timeout` is over.
pub fn wait_readable(sockets: &[RawFd], timeout: Duration) -> io::Result<bool> {
    let mut polled: Vec<libc::pollfd> =
        sockets.iter().map(|&fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 }).collect();
    let timeout = libc::timespec {
        tv_sec: libc::time_t::try_from(timeout.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: timeout.subsec_nanos().into(),
    };
    let count = libc::nfds_t::try_from(polled.len()).unwrap_or(libc::nfds_t::MAX);
    // SAFETY: pointer and count are of the same live vector, the timeout outlives the call, and no mask is set.
    let ready = unsafe { libc::ppoll(polled.as_mut_ptr(), count, &raw const timeout, ptr::null()) };
    match check(ready) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(false),
        other => other.map(|ready| ready > 0),
    }
}

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

/// How an XDP program is attached: the flags of `linux/if_link.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XdpFlags {
    /// As the interface can.
    Any = 0,
    /// In the kernel's network stack.
    Generic = 1 << 1,
    /// In the driver.
    Native = 1 << 2,
}

/// An XDP program on an interface. It goes away when dropped.
#[derive(Debug)]
pub struct XdpProgram {
    _link: OwnedFd,
}

impl XdpProgram {
    /// Loads a program, given as the kernel's instruction words, and attaches it to an interface of the calling
    /// thread's namespace. The verifier decides whether it is sound.
    pub fn attach(interface: &str, instructions: &[u64], flags: XdpFlags) -> io::Result<Self> {
        /// Of bpf(2): commands and types as the kernel numbers them.
        const PROGRAM_LOAD: libc::c_long = 5;
        const LINK_CREATE: libc::c_long = 28;
        const PROGRAM_TYPE_XDP: u32 = 6;
        const ATTACH_TYPE_XDP: u32 = 37;
        let license = c"GPL";
        let load = [
            u64::from(PROGRAM_TYPE_XDP) | (instructions.len() as u64) << 32,
            instructions.as_ptr() as u64,
            license.as_ptr() as u64,
            0,
        ];
        let program = owned(bpf(PROGRAM_LOAD, &load)?);
        let index = u64::from(interface_index(interface)?);
        let kind = u64::from(ATTACH_TYPE_XDP) | u64::from(flags as u32) << 32;
        let link = bpf(LINK_CREATE, &[descriptor(program.as_raw_fd()) | index << 32, kind])?;
        Ok(Self { _link: owned(link) })
    }

    /// One of somebody else's: it passes everything.
    pub fn attach_foreign(interface: &str) -> io::Result<Self> {
        // r0 = XDP_PASS; exit.
        Self::attach(interface, &[0x0000_0002_0000_00b7, 0x95], XdpFlags::Any)
    }
}

/// Which AF_XDP socket gets the packets of which receive queue (`BPF_MAP_TYPE_XSKMAP`).
#[derive(Debug)]
pub struct SocketMap(OwnedFd);

impl SocketMap {
    /// An empty one for this many queues.
    pub fn new(queues: u32) -> io::Result<Self> {
        const MAP_CREATE: libc::c_long = 0;
        const MAP_TYPE_XSKMAP: u64 = 17;
        let number = size_of::<u32>() as u64;
        let map = [MAP_TYPE_XSKMAP | number << 32, number | u64::from(queues) << 32];
        Ok(Self(owned(bpf(MAP_CREATE, &map)?)))
    }

    /// Enters the socket of a queue.
    pub fn set(&self, queue: u32, socket: BorrowedFd<'_>) -> io::Result<()> {
        const MAP_UPDATE: libc::c_long = 2;
        let (key, value) = (queue, socket.as_raw_fd());
        let (key, value) = (&raw const key as u64, &raw const value as u64);
        bpf(MAP_UPDATE, &[descriptor(self.0.as_raw_fd()), key, value, 0]).map(drop)
    }

    /// Its descriptor, which instructions name it by.
    pub fn number(&self) -> i32 {
        self.0.as_raw_fd()
    }
}

fn descriptor(raw: RawFd) -> u64 {
    u64::try_from(raw).unwrap_or(u64::from(u32::MAX))
}

/// Takes over a descriptor that the kernel has just made.
fn owned(raw: RawFd) -> OwnedFd {
    // SAFETY: only called with what a creating call has given to us alone.
    unsafe { OwnedFd::from_raw_fd(raw) }
}

/// One call of bpf(2).
fn bpf(command: libc::c_long, attributes: &[u64]) -> io::Result<RawFd> {
    // SAFETY: pointer and size are of the same live slice; what it points to lives in the caller.
    let result = unsafe {
        let size = size_of_val(attributes);
        libc::syscall(libc::SYS_bpf, command, attributes.as_ptr(), size)
    };
    check(i32::try_from(result).unwrap_or(-1))
}

/// Whether a read found nothing to read. A refused port shows at the socket that sent there; it is no failure.
pub fn would_block(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock
            | io::ErrorKind::TimedOut
            | io::ErrorKind::Interrupted
            | io::ErrorKind::ConnectionRefused
    )
}

fn set_option<T>(socket: RawFd, level: i32, name: i32, value: &T) -> io::Result<()> {
    let length = socket_length(size_of::<T>());
    // SAFETY: pointer and length are of the same live value.
    check(unsafe {
        libc::setsockopt(socket, level, name, std::ptr::from_ref(value).cast(), length)
    })
    .map(drop)
}

fn raw_address(address: SocketAddrV6) -> libc::sockaddr_in6 {
    libc::sockaddr_in6 {
        sin6_family: family(libc::AF_INET6),
        sin6_port: address.port().to_be(),
        sin6_flowinfo: 0,
        sin6_addr: libc::in6_addr { s6_addr: address.ip().octets() },
        sin6_scope_id: address.scope_id(),
    }
}

fn socket_length(octets: usize) -> libc::socklen_t {
    libc::socklen_t::try_from(octets).unwrap_or(libc::socklen_t::MAX)
}

fn family(number: i32) -> libc::sa_family_t {
    libc::sa_family_t::try_from(number).unwrap_or(0)
}

fn check(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
