//! The few system calls that the standard library has no word for.

use std::{
    io,
    mem::{size_of, zeroed},
    net::{Ipv6Addr, SocketAddrV6},
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    time::Duration,
};

use caps::{CapSet, Capability};

/// Turns the result of a system call into a [`Result`].
pub(super) fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Wakes a thread that sleeps in [`Port::wait`](super::Port::wait): an eventfd.
#[derive(Debug)]
pub struct WakeFd(OwnedFd);

impl WakeFd {
    /// A new one, not rung.
    pub fn new() -> io::Result<Self> {
        // SAFETY: no pointers are passed.
        let fd = check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?;
        // SAFETY: eventfd gave us this descriptor and nobody else owns it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Wakes whoever waits, now or next. Any thread may call it.
    pub fn ring(&self) {
        let one = 1_u64;
        // SAFETY: the pointer is to eight readable octets. The write can fail only if the counter is full, and
        // then the sleeper is awake.
        unsafe { libc::write(self.0.as_raw_fd(), (&raw const one).cast(), size_of::<u64>()) };
    }

    /// Sleeps until it is rung or `timeout_ms` have passed, then forgets that it was rung.
    pub fn wait(&self, timeout_ms: u32) {
        // It could fail only for want of memory; to wake early does no harm.
        let _ = poll(&mut [readable(self.as_fd())], timeout_ms);
        self.reset();
    }

    /// Forgets that it was rung.
    pub fn reset(&self) {
        let mut count = 0_u64;
        // SAFETY: the pointer is to eight writable octets. The read can fail only if there is nothing to forget.
        unsafe { libc::read(self.0.as_raw_fd(), (&raw mut count).cast(), size_of::<u64>()) };
    }
}

impl AsFd for WakeFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Waits until one of `descriptors` has what it waits for, or `timeout_ms` have passed. A signal ends it early.
pub(super) fn poll(descriptors: &mut [libc::pollfd], timeout_ms: u32) -> io::Result<()> {
    let timeout = libc::c_int::try_from(timeout_ms).unwrap_or(libc::c_int::MAX);
    let count = descriptors.len() as libc::nfds_t;
    // SAFETY: pointer and count are those of one slice.
    match check(unsafe { libc::poll(descriptors.as_mut_ptr(), count, timeout) }) {
        Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
        _ => Ok(()),
    }
}

/// An entry of [`poll`]'s list that waits for something to read.
pub(super) fn readable(fd: BorrowedFd<'_>) -> libc::pollfd {
    libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 }
}

/// Time since the machine was started, sleep included. It never steps (`CLOCK_BOOTTIME`).
pub fn boottime() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a writable timespec. The call cannot fail for this clock.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut time) };
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Runs the calling thread on these cores only.
pub fn pin_to_cpus(cpus: &[usize]) -> io::Result<()> {
    // SAFETY: a cpu_set_t is an array of integers, for which zero is a value.
    let mut set: libc::cpu_set_t = unsafe { zeroed() };
    for &cpu in cpus {
        if cpu >= libc::CPU_SETSIZE as usize {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        // SAFETY: `cpu` was just checked against the size of the set.
        unsafe { libc::CPU_SET(cpu, &mut set) };
    }
    // SAFETY: pointer and size are those of `set`; 0 is the calling thread.
    check(unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) })?;
    Ok(())
}

/// The cores on which the calling thread may run.
pub fn allowed_cpus() -> io::Result<Vec<usize>> {
    // SAFETY: as in `pin_to_cpus`.
    let mut set: libc::cpu_set_t = unsafe { zeroed() };
    // SAFETY: pointer and size are those of `set`; 0 is the calling thread.
    check(unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) })?;
    let cpus = 0..libc::CPU_SETSIZE as usize;
    // SAFETY: every index is below the size of the set.
    Ok(cpus.filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) }).collect())
}

/// Puts the calling thread into the round-robin real-time class (needs `CAP_SYS_NICE`).
pub fn set_round_robin(priority: i32) -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: priority };
    // SAFETY: the pointer is to a sched_param; 0 is the calling thread.
    check(unsafe { libc::sched_setscheduler(0, libc::SCHED_RR, &raw const parameters) })?;
    Ok(())
}

/// How much the calling thread goes before others of the ordinary class: from 19, after them, to -20, before them
/// (needs `CAP_SYS_NICE` below 0).
pub fn set_niceness(niceness: i32) -> io::Result<()> {
    // SAFETY: no pointers are passed; for Linux the process 0 is the calling thread.
    check(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, niceness) })?;
    Ok(())
}

/// Names of those of `needed` that the calling thread has not got.
pub fn missing_capabilities(needed: &[Capability]) -> Vec<String> {
    let has = |capability| caps::has_cap(None, CapSet::Effective, capability).unwrap_or(false);
    needed.iter().filter(|&&capability| !has(capability)).map(ToString::to_string).collect()
}

/// Asks the kernel about one interface of the calling thread's network namespace.
#[derive(Debug)]
pub(super) struct InterfaceControl {
    socket: OwnedFd,
    /// Terminated by at least one zero.
    name: [libc::c_char; libc::IFNAMSIZ],
}

impl InterfaceControl {
    /// `ENODEV` for a name that no interface can have.
    pub(super) fn open(name: &str) -> io::Result<Self> {
        Ok(Self { name: interface_name(name)?, socket: open_socket(libc::SOCK_DGRAM)? })
    }

    /// One `ioctl` with an `ifreq` that carries `argument` in and out.
    fn request(
        &self,
        number: libc::Ioctl,
        argument: libc::__c_anonymous_ifr_ifru,
    ) -> io::Result<libc::__c_anonymous_ifr_ifru> {
        let mut request = libc::ifreq { ifr_name: self.name, ifr_ifru: argument };
        // SAFETY: the pointer is to an ifreq, which is what all requests of this module take; where it holds a
        // pointer in turn, the caller keeps what that points to alive.
        check(unsafe { libc::ioctl(self.socket.as_raw_fd(), number, &raw mut request) })?;
        Ok(request.ifr_ifru)
    }

    /// Its number.
    pub(super) fn index(&self) -> io::Result<u32> {
        let blank = libc::__c_anonymous_ifr_ifru { ifru_ifindex: 0 };
        let answer = self.request(libc::SIOCGIFINDEX, blank)?;
        // SAFETY: SIOCGIFINDEX fills this field.
        Ok(unsafe { answer.ifru_ifindex }.cast_unsigned())
    }

    /// Its `IFF_` flags.
    pub(super) fn flags(&self) -> io::Result<libc::c_int> {
        let blank = libc::__c_anonymous_ifr_ifru { ifru_flags: 0 };
        let answer = self.request(libc::SIOCGIFFLAGS, blank)?;
        // SAFETY: SIOCGIFFLAGS fills this field.
        Ok(libc::c_int::from(unsafe { answer.ifru_flags }))
    }

    /// The longest packet that it carries, in octets.
    pub(super) fn mtu(&self) -> io::Result<u32> {
        let blank = libc::__c_anonymous_ifr_ifru { ifru_mtu: 0 };
        let answer = self.request(libc::SIOCGIFMTU, blank)?;
        // SAFETY: SIOCGIFMTU fills this field.
        Ok(unsafe { answer.ifru_mtu }.cast_unsigned())
    }

    /// Its `ARPHRD_` type and the first six octets of its address.
    pub(super) fn hardware_address(&self) -> io::Result<(u16, [u8; 6])> {
        let zero = libc::sockaddr { sa_family: 0, sa_data: [0; 14] };
        let blank = libc::__c_anonymous_ifr_ifru { ifru_hwaddr: zero };
        let answer = self.request(libc::SIOCGIFHWADDR, blank)?;
        // SAFETY: SIOCGIFHWADDR fills this field.
        let address = unsafe { answer.ifru_hwaddr };
        let mut mac = [0; 6];
        for (to, from) in mac.iter_mut().zip(address.sa_data) {
            [*to] = from.to_ne_bytes();
        }
        Ok((address.sa_family, mac))
    }

    /// Receive queues in use; 1 where the driver does not say.
    pub(super) fn receive_queues(&self) -> io::Result<u32> {
        /// `struct ethtool_channels` of the kernel's `ethtool.h`.
        #[repr(C)]
        #[derive(Default)]
        struct Channels {
            command: u32,
            limits: [u32; 4],
            receive: u32,
            transmit: u32,
            other: u32,
            combined: u32,
        }
        const ETHTOOL_GCHANNELS: u32 = 0x3c;
        let mut channels = Channels { command: ETHTOOL_GCHANNELS, ..Channels::default() };
        let argument = libc::__c_anonymous_ifr_ifru { ifru_data: (&raw mut channels).cast() };
        match self.request(libc::SIOCETHTOOL, argument) {
            Ok(_) => Ok((channels.receive + channels.combined).max(1)),
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(1),
            Err(error) => Err(error),
        }
    }
}

/// A name as the kernel takes it, padded with zeros. `ENODEV` for one that no interface can have.
pub(super) fn interface_name(name: &str) -> io::Result<[libc::c_char; libc::IFNAMSIZ]> {
    let mut padded = [0; libc::IFNAMSIZ];
    if name.is_empty() || name.len() >= padded.len() || name.contains('\0') {
        return Err(io::Error::from_raw_os_error(libc::ENODEV));
    }
    for (to, from) in padded.iter_mut().zip(name.bytes()) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    Ok(padded)
}

/// An IPv6 socket that is closed on exec and does not block.
pub(super) fn open_socket(kind: libc::c_int) -> io::Result<OwnedFd> {
    let kind = kind | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: no pointers are passed.
    let fd = check(unsafe { libc::socket(libc::AF_INET6, kind, 0) })?;
    // SAFETY: socket gave us this descriptor and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Binds an IPv6 socket.
pub(super) fn bind_to(socket: &OwnedFd, address: SocketAddrV6) -> io::Result<()> {
    let address = socket_address(*address.ip(), address.port(), address.scope_id());
    let length = length_of::<libc::sockaddr_in6>();
    // SAFETY: pointer and length are those of one socket address.
    check(unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) })?;
    Ok(())
}

#[expect(clippy::cast_possible_truncation, reason = "it is 10")]
const FAMILY: libc::sa_family_t = libc::AF_INET6 as libc::sa_family_t;

/// An IPv6 socket address as the kernel takes it.
pub(super) fn socket_address(address: Ipv6Addr, port: u16, scope: u32) -> libc::sockaddr_in6 {
    libc::sockaddr_in6 {
        sin6_family: FAMILY,
        sin6_port: port.to_be(),
        sin6_flowinfo: 0,
        sin6_addr: libc::in6_addr { s6_addr: address.octets() },
        sin6_scope_id: scope,
    }
}

/// A netlink socket to netfilter: what is written goes to the kernel, and what is read comes from it.
pub(super) fn netfilter_socket() -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: no pointers are passed.
    let fd = check(unsafe { libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_NETFILTER) })?;
    // SAFETY: socket gave us this descriptor and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sets a socket option whose value is the plain structure `T`.
pub(super) fn set_option<T: Copy>(
    socket: BorrowedFd<'_>,
    level: libc::c_int,
    option: libc::c_int,
    value: &T,
) -> io::Result<()> {
    let pointer: *const T = value;
    let length = length_of::<T>();
    // SAFETY: pointer and length are those of `value`; the kernel only reads.
    check(unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, pointer.cast(), length) })?;
    Ok(())
}

/// Reads a socket option whose value is an integer.
#[cfg(feature = "xdp")]
pub(super) fn integer_option(
    socket: BorrowedFd<'_>,
    level: libc::c_int,
    option: libc::c_int,
) -> io::Result<libc::c_int> {
    let mut value: libc::c_int = 0;
    let mut length = length_of::<libc::c_int>();
    let pointer = (&raw mut value).cast();
    // SAFETY: pointer and length are those of `value`.
    check(unsafe {
        libc::getsockopt(socket.as_raw_fd(), level, option, pointer, &raw mut length)
    })?;
    Ok(value)
}

/// The size of a structure as system calls want it.
#[expect(clippy::cast_possible_truncation, reason = "structures of the kernel are small")]
pub(super) const fn length_of<T>() -> libc::socklen_t {
    size_of::<T>() as libc::socklen_t
}

/// What AF_XDP needs: to attach a program, to load it, to have it compute with pointers, to open a raw socket.
pub const XDP_CAPABILITIES: [Capability; 4] = [
    Capability::CAP_NET_ADMIN,
    Capability::CAP_BPF,
    Capability::CAP_PERFMON,
    Capability::CAP_NET_RAW,
];

/// What the UDP socket needs: to bind port 547.
pub const UDP_CAPABILITIES: [Capability; 1] = [Capability::CAP_NET_BIND_SERVICE];

#[cfg(test)]
mod tests {
    use super::*;

    fn is_rung(wake: &WakeFd) -> bool {
        let mut list = [readable(wake.as_fd())];
        poll(&mut list, 0).unwrap();
        list[0].revents & libc::POLLIN != 0
    }

    #[test]
    fn a_bell_is_heard_until_it_is_reset() {
        let wake = WakeFd::new().unwrap();
        assert!(!is_rung(&wake));
        wake.reset();
        std::thread::scope(|scope| {
            scope.spawn(|| wake.ring());
        });
        wake.ring();
        assert!(is_rung(&wake));
        wake.reset();
        assert!(!is_rung(&wake));
    }

    #[test]
    fn a_thread_can_be_pinned_to_a_core_it_may_use_and_to_no_other() {
        std::thread::spawn(|| {
            let cpu = *allowed_cpus().unwrap().last().unwrap();
            pin_to_cpus(&[cpu]).unwrap();
            assert_eq!(allowed_cpus().unwrap(), [cpu]);
            assert!(pin_to_cpus(&[usize::MAX]).is_err() && pin_to_cpus(&[]).is_err());
            assert_eq!(allowed_cpus().unwrap(), [cpu]);
        })
        .join()
        .unwrap();
    }

    #[test]
    fn boottime_goes_forward() {
        let before = boottime();
        assert!(before > Duration::ZERO);
        assert!(boottime() >= before);
    }

    #[test]
    fn missing_capabilities_are_named() {
        std::thread::spawn(|| {
            caps::clear(None, CapSet::Effective).unwrap();
            assert_eq!(missing_capabilities(&UDP_CAPABILITIES), ["CAP_NET_BIND_SERVICE"]);
            assert_eq!(missing_capabilities(&XDP_CAPABILITIES).len(), 4);
        })
        .join()
        .unwrap();
    }
}
