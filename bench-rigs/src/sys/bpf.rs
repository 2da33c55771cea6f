//! bpf(2): programs given as the kernel's instruction words, their maps, and frames that leave through a program.

use std::{
    io,
    mem::{size_of, size_of_val},
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
    ptr::{self, NonNull},
    slice,
};

use super::{check, interface_index};

/// Commands, as the kernel numbers them.
const MAP_CREATE: libc::c_long = 0;
const MAP_UPDATE: libc::c_long = 2;
const PROGRAM_LOAD: libc::c_long = 5;
const PROGRAM_RUN: libc::c_long = 10;
const LINK_CREATE: libc::c_long = 28;

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

/// An XDP program on an interface. It goes off when this is dropped.
#[derive(Debug)]
pub struct XdpLink {
    _link: OwnedFd,
}

impl XdpLink {
    /// Puts a program onto an interface of the calling thread's namespace.
    pub fn attach(interface: &str, program: BorrowedFd<'_>, flags: XdpFlags) -> io::Result<Self> {
        const ATTACH_TYPE_XDP: u64 = 37;
        let index = u64::from(interface_index(interface)?);
        let kind = ATTACH_TYPE_XDP | u64::from(flags as u32) << 32;
        let link = bpf(LINK_CREATE, &[descriptor(program.as_raw_fd()) | index << 32, kind])?;
        Ok(Self { _link: owned(link) })
    }

    /// One of somebody else's: it passes everything.
    pub fn attach_foreign(interface: &str) -> io::Result<Self> {
        // r0 = XDP_PASS; exit.
        let program = load_xdp(&[0x0000_0002_0000_00b7, 0x95])?;
        Self::attach(interface, program.as_fd(), XdpFlags::Any)
    }
}

/// Loads an XDP program, given as the kernel's instruction words. The verifier decides whether it is sound.
pub fn load_xdp(instructions: &[u64]) -> io::Result<OwnedFd> {
    const PROGRAM_TYPE_XDP: u64 = 6;
    let license = c"GPL";
    let count = (instructions.len() as u64) << 32;
    let attributes =
        [PROGRAM_TYPE_XDP | count, instructions.as_ptr() as u64, license.as_ptr() as u64, 0];
    bpf(PROGRAM_LOAD, &attributes).map(owned)
}

/// Makes a map with keys of four octets.
fn map(kind: u64, value_octets: u64, entries: u64, flags: u64) -> io::Result<OwnedFd> {
    let key_octets = size_of::<u32>() as u64;
    bpf(MAP_CREATE, &[kind | key_octets << 32, value_octets | entries << 32, flags]).map(owned)
}

/// Which AF_XDP socket gets the packets of which receive queue (`BPF_MAP_TYPE_XSKMAP`).
#[derive(Debug)]
pub struct SocketMap(OwnedFd);

impl SocketMap {
    /// An empty one for this many queues.
    pub fn new(queues: u32) -> io::Result<Self> {
        const MAP_TYPE_XSKMAP: u64 = 17;
        map(MAP_TYPE_XSKMAP, size_of::<u32>() as u64, queues.into(), 0).map(Self)
    }

    /// Enters the socket of a queue.
    pub fn set(&self, queue: u32, socket: BorrowedFd<'_>) -> io::Result<()> {
        let (key, value) = (queue, socket.as_raw_fd());
        let (key, value) = (&raw const key as u64, &raw const value as u64);
        bpf(MAP_UPDATE, &[descriptor(self.0.as_raw_fd()), key, value, 0]).map(drop)
    }

    /// Its descriptor, which instructions name it by.
    pub fn number(&self) -> i32 {
        self.0.as_raw_fd()
    }
}

/// The interface that frames are redirected to (`BPF_MAP_TYPE_DEVMAP` with one entry), in whatever namespace.
#[derive(Debug)]
pub struct DeviceMap(OwnedFd);

impl DeviceMap {
    /// For an interface of the calling thread's namespace.
    pub fn new(interface: &str) -> io::Result<Self> {
        const MAP_TYPE_DEVMAP: u64 = 14;
        let devices = map(MAP_TYPE_DEVMAP, size_of::<u32>() as u64, 1, 0)?;
        let (key, value) = (0_u32, interface_index(interface)?);
        let (key, value) = (&raw const key as u64, &raw const value as u64);
        bpf(MAP_UPDATE, &[descriptor(devices.as_raw_fd()), key, value, 0])?;
        Ok(Self(devices))
    }

    /// Its descriptor, which instructions name it by.
    pub fn number(&self) -> i32 {
        self.0.as_raw_fd()
    }
}

/// Octets that this program and one in the kernel share: the only value of a mapped array.
#[derive(Debug)]
pub struct SharedArray {
    map: OwnedFd,
    octets: NonNull<u8>,
    length: usize,
}

// SAFETY: the octets are memory of the process as any other, and owned.
unsafe impl Send for SharedArray {}

impl SharedArray {
    /// Zeros. `length` is a multiple of the size of a page.
    pub fn new(length: u32) -> io::Result<Self> {
        const MAP_TYPE_ARRAY: u64 = 2;
        const MMAPABLE: u64 = 1 << 10;
        let map = map(MAP_TYPE_ARRAY, length.into(), 1, MMAPABLE)?;
        let length = length as usize;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at a place that the kernel chooses; nothing of ours is touched.
        let at = unsafe {
            libc::mmap(ptr::null_mut(), length, access, libc::MAP_SHARED, map.as_raw_fd(), 0)
        };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let octets = NonNull::new(at.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { map, octets, length })
    }
}

impl Drop for SharedArray {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and of this length, and nobody borrows its octets any more.
        unsafe { libc::munmap(self.octets.as_ptr().cast(), self.length) };
    }
}

/// Frames of the kernel's own that an XDP program turns into ours (`BPF_F_TEST_XDP_LIVE_FRAMES`): what it redirects
/// leaves.
#[derive(Debug)]
pub struct LiveFrames {
    program: Option<OwnedFd>,
    array: SharedArray,
}

impl LiveFrames {
    /// Frames whose octets come from this array. Nothing leaves before there is a program.
    pub fn new(array: SharedArray) -> Self {
        Self { program: None, array }
    }

    /// From now on this program, which reads the array, makes the frames.
    pub fn run_by(&mut self, program: OwnedFd) {
        self.program = Some(program);
    }

    /// The descriptor that instructions name the array by.
    pub fn array_number(&self) -> i32 {
        self.array.map.as_raw_fd()
    }

    /// The octets of the array.
    #[inline]
    pub fn octets(&mut self) -> &mut [u8] {
        // SAFETY: the mapping has this length and lives as long as `self`, which is borrowed. The program writes to it
        // only inside of `run`, which borrows `self` mutably too.
        unsafe { slice::from_raw_parts_mut(self.array.octets.as_ptr(), self.array.length) }
    }

    /// Runs the program on `count` frames, each of `octets` at first, and returns when all are on their way. They are
    /// passed on in batches of `batch`, at most 256.
    pub fn run(&mut self, count: usize, octets: usize, batch: usize) -> io::Result<()> {
        const LIVE_FRAMES: u64 = 1 << 1;
        static BLANK: [u8; 2048] = [0; 2048];
        let Some(program) = self.program.as_ref().filter(|_| octets <= BLANK.len()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let (octets, at) = (octets as u64, BLANK.as_ptr() as u64);
        let program = descriptor(program.as_raw_fd());
        let (count, batch) = (count as u64, batch as u64);
        let attributes = [program, octets, at, 0, count, 0, 0, 0, LIVE_FRAMES, batch];
        bpf(PROGRAM_RUN, &attributes).map(drop)
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
