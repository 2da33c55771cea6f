//! The system calls that the standard library lacks: namespaces, signals, socket options, batches of datagrams, raw
//! frames and programs in the kernel. All `unsafe` code of the rigs is here and below.

mod batch;
mod bpf;
mod frames;

use std::{
    ffi::CString,
    fs::File,
    io,
    mem::{size_of, size_of_val, zeroed},
    net::{SocketAddrV6, UdpSocket},
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
    ptr,
    time::Duration,
};

pub use self::{
    batch::{BATCH, Batch, DATAGRAM_LENGTH_MAX},
    bpf::{DeviceMap, LiveFrames, SharedArray, SocketMap, XdpFlags, XdpLink, load_xdp},
    frames::FrameSocket,
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
