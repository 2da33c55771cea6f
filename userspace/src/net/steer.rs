//! The XDP program: loads the embedded object, attaches it to an interface, and tells it which sockets serve which
//! queue and which addresses are ours.
//!
//! One [`Steering`] is one interface with a program and maps of its own. The attachment is a BPF link, which the
//! kernel takes down with the process, however that ends.

use std::{
    error::Error,
    fmt, io,
    net::Ipv6Addr,
    os::fd::{AsRawFd, BorrowedFd},
    time::Duration,
};

use aya::{
    Ebpf, TestRunOptions,
    maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray, XskMap},
    programs::{ProgramError, TestRun, Xdp, links::FdLink, xdp::XdpMode},
    util::KernelVersion,
};
use xdp_ebpf::{COUNTERS, Counter, INTERFACE, LISTEN, LISTEN_MAX, PROGRAM, SOCKETS};

use super::{link::Facts, sys};

/// The program as it was compiled for the kernel. `xdp-ebpf/verify.sh` rebuilds and compares it.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!("../../../xdp-ebpf/steer.o");

/// Where the program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// In the driver, before the kernel makes a packet of the frame.
    Native,
    /// In the kernel's network stack: on every interface, but later.
    Generic,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mode::Native => "native",
            Mode::Generic => "generic",
        })
    }
}

/// Packets cannot be steered.
#[derive(Debug, thiserror::Error)]
pub enum SteerError {
    /// The process may not.
    #[error("{operation}: not permitted; missing capabilities: {missing}")]
    NotPermitted {
        /// What it may not do.
        operation: &'static str,
        /// The names of the capabilities that it lacks.
        missing: String,
    },
    /// Somebody else's program is there, and only one can be.
    #[error(
        "interface {interface} has another XDP program already, see `ip link show dev {interface}`; \
         stop its owner, or use datapath = \"socket\""
    )]
    ForeignProgram {
        /// The interface.
        interface: String,
    },
    /// The interface cannot run programs in this mode.
    #[error("interface {interface} takes no program in {mode} mode: {source}")]
    Unsupported {
        /// The interface.
        interface: String,
        /// The mode.
        mode: Mode,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel would leave the program attached after our death.
    #[error(
        "interface {interface}: this kernel has no BPF links for XDP, which are there since Linux 5.9"
    )]
    NoLinks {
        /// The interface.
        interface: String,
    },
    /// The interface is gone.
    #[error("interface {interface} has vanished")]
    Vanished {
        /// The interface.
        interface: String,
    },
    /// More addresses than the program's map has room for.
    #[error("{count} listen addresses, but the XDP program has room for {LISTEN_MAX}")]
    TooManyAddresses {
        /// The number of addresses.
        count: usize,
    },
    /// No mode was asked for.
    #[error("no mode to attach the XDP program in")]
    NoMode,
    /// The program or its maps do not load.
    #[error("the XDP program does not load: {0}")]
    Load(String),
    /// A map cannot be read or written.
    #[error("map {map} of the XDP program: {reason}")]
    Map {
        /// Its name.
        map: &'static str,
        /// What is wrong.
        reason: String,
    },
}

/// Totals of the program's counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals([u64; Counter::COUNT as usize]);

impl Totals {
    /// How many packets met this fate.
    pub fn get(&self, counter: Counter) -> u64 {
        self.0[counter as usize]
    }

    /// Names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        Counter::ALL.iter().map(|&counter| (counter.name(), self.get(counter)))
    }
}

/// The program in the kernel with its maps, attached to nothing yet.
pub struct Program {
    object: Ebpf,
    sockets: XskMap<MapData>,
    listen: HashMap<MapData, [u8; 16], u8>,
    interface: Array<MapData, [u8; 8]>,
    counters: PerCpuArray<MapData, u64>,
}

impl Program {
    /// Loads the embedded object.
    pub fn load() -> Result<Self, SteerError> {
        let mut object = Ebpf::load(OBJECT).map_err(|error| not_loaded(&error))?;
        find_program(&mut object)?.load().map_err(|error| not_loaded(&error))?;
        Ok(Self {
            sockets: take_map(&mut object, SOCKETS)?,
            listen: take_map(&mut object, LISTEN)?,
            interface: take_map(&mut object, INTERFACE)?,
            counters: take_map(&mut object, COUNTERS)?,
            object,
        })
    }

    /// Frames to this station are looked at, beside those to groups.
    pub fn set_mac(&mut self, mac: [u8; 6]) -> Result<(), SteerError> {
        let mut padded = [0; 8];
        padded[..mac.len()].copy_from_slice(&mac);
        self.interface.set(0, padded, 0).map_err(map_failed(INTERFACE))
    }

    /// Packets to these unicast addresses are looked at, beside those to the two DHCPv6 groups.
    pub fn set_listen(&mut self, addresses: &[Ipv6Addr]) -> Result<(), SteerError> {
        if addresses.len() > LISTEN_MAX as usize {
            return Err(SteerError::TooManyAddresses { count: addresses.len() });
        }
        let old: Vec<[u8; 16]> =
            self.listen.keys().collect::<Result<_, _>>().map_err(map_failed(LISTEN))?;
        for key in old.iter().filter(|&&key| !addresses.contains(&key.into())) {
            self.listen.remove(key).map_err(map_failed(LISTEN))?;
        }
        for address in addresses {
            self.listen.insert(address.octets(), 1, 0).map_err(map_failed(LISTEN))?;
        }
        Ok(())
    }

    /// How many packets met this fate so far, over all processors.
    pub fn total(&self, counter: Counter) -> Result<u64, SteerError> {
        let values = self.counters.get(&(counter as u32), 0).map_err(map_failed(COUNTERS))?;
        Ok(values.iter().sum())
    }

    /// What became of the packets so far, over all processors.
    pub fn totals(&self) -> Result<Totals, SteerError> {
        let mut totals = Totals::default();
        for counter in Counter::ALL {
            totals.0[counter as usize] = self.total(counter)?;
        }
        Ok(totals)
    }

    /// Runs the program `repeat` times on `frame`, without any interface. Returns its `XDP_` action and the time
    /// of one run.
    pub fn run(&self, frame: &[u8], repeat: u32) -> Result<(u32, Duration), SteerError> {
        let options = TestRunOptions { data_in: Some(frame), repeat, ..TestRunOptions::default() };
        let result = match self.object.program(PROGRAM) {
            Some(aya::programs::Program::Xdp(program)) => program.test_run(options),
            _ => Err(ProgramError::NotLoaded),
        };
        let result = result.map_err(|error| not_loaded(&error))?;
        Ok((result.return_value, result.duration))
    }

    /// Attaches the program to an interface in one mode.
    fn attach(&mut self, interface: &str, index: u32, mode: Mode) -> Result<FdLink, SteerError> {
        let xdp = find_program(&mut self.object)?;
        // Older kernels attach by netlink, and that outlives us.
        let first = KernelVersion::new(5, 9, 0);
        if KernelVersion::current().is_ok_and(|version| version < first) {
            return Err(SteerError::NoLinks { interface: interface.to_owned() });
        }
        let kernel_mode = match mode {
            Mode::Native => XdpMode::Driver,
            Mode::Generic => XdpMode::Skb,
        };
        let id = xdp
            .attach_to_if_index(index, kernel_mode)
            .map_err(|error| not_attached(interface, mode, &error))?;
        let link = xdp.take_link(id).map_err(|error| not_loaded(&error))?;
        link.try_into().map_err(|_| SteerError::NoLinks { interface: interface.to_owned() })
    }
}

/// The program at work on one interface. Dropping it detaches the program.
pub struct Steering {
    // First, so that the program is off the interface before its maps are closed.
    _link: FdLink,
    program: Program,
    mode: Mode,
    fallbacks: Vec<SteerError>,
}

impl Steering {
    /// Attaches the program to the interface of `facts`, in the first of `modes` that it takes. Until
    /// [`admit`](Self::admit) has been called for a queue, everything of that queue passes to the kernel.
    ///
    /// # Errors
    ///
    /// Of the last mode, if none works. A program that is there already ends the search at once.
    pub fn attach(facts: &Facts, listen: &[Ipv6Addr], modes: &[Mode]) -> Result<Self, SteerError> {
        let mut program = Program::load()?;
        program.set_mac(facts.mac)?;
        program.set_listen(listen)?;
        let mut fallbacks = Vec::new();
        for &mode in modes {
            match program.attach(&facts.name, facts.index, mode) {
                Ok(link) => return Ok(Self { program, mode, fallbacks, _link: link }),
                Err(error @ SteerError::Unsupported { .. }) => fallbacks.push(error),
                Err(error) => return Err(error),
            }
        }
        Err(fallbacks.pop().unwrap_or(SteerError::NoMode))
    }

    /// The mode that worked.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Why the modes before it did not.
    pub fn fallbacks(&self) -> &[SteerError] {
        &self.fallbacks
    }

    /// Gives the packets of `queue` to an AF_XDP socket. The kernel forgets it when the socket is closed.
    pub fn admit(&mut self, queue: u32, socket: BorrowedFd<'_>) -> Result<(), SteerError> {
        let fd = socket.as_raw_fd();
        self.program.sockets.set(queue, fd, 0).map_err(map_failed(SOCKETS))
    }

    /// See [`Program::set_mac`].
    pub fn set_mac(&mut self, mac: [u8; 6]) -> Result<(), SteerError> {
        self.program.set_mac(mac)
    }

    /// See [`Program::set_listen`].
    pub fn set_listen(&mut self, addresses: &[Ipv6Addr]) -> Result<(), SteerError> {
        self.program.set_listen(addresses)
    }

    /// See [`Program::totals`].
    pub fn totals(&self) -> Result<Totals, SteerError> {
        self.program.totals()
    }
}

fn find_program(object: &mut Ebpf) -> Result<&mut Xdp, SteerError> {
    match object.program_mut(PROGRAM) {
        Some(program) => program.try_into().map_err(|error: ProgramError| not_loaded(&error)),
        None => Err(SteerError::Load(format!("no program {PROGRAM} in the object"))),
    }
}

fn take_map<M>(object: &mut Ebpf, name: &'static str) -> Result<M, SteerError>
where
    M: TryFrom<Map, Error = MapError>,
{
    let map = object
        .take_map(name)
        .ok_or(SteerError::Map { map: name, reason: "not in the object".to_owned() })?;
    map.try_into().map_err(map_failed(name))
}

fn map_failed(map: &'static str) -> impl Fn(MapError) -> SteerError {
    move |error| SteerError::Map { map, reason: with_causes(&error) }
}

fn not_loaded(error: &(dyn Error + 'static)) -> SteerError {
    // EACCES is what the verifier says to a program that it does not like. Without the capabilities it likes less.
    let lacks = || !sys::missing_capabilities(&sys::XDP_CAPABILITIES).is_empty();
    match system_error(error) {
        Some(libc::EPERM) => not_permitted("load the XDP program"),
        Some(libc::EACCES) if lacks() => not_permitted("load the XDP program"),
        _ => SteerError::Load(shortened(&with_causes(error))),
    }
}

/// The beginning and the end of a text: the verifier's log is long, and its last lines matter.
fn shortened(text: &str) -> String {
    const LINES_MAX: usize = 10;
    let lines: Vec<&str> = text.lines().collect();
    match lines.as_slice() {
        [first, ..] if lines.len() > LINES_MAX => {
            format!("{first}\n…\n{}", lines[lines.len() - LINES_MAX..].join("\n"))
        }
        _ => text.to_owned(),
    }
}

fn not_permitted(operation: &'static str) -> SteerError {
    let missing = sys::missing_capabilities(&sys::XDP_CAPABILITIES);
    let missing = if missing.is_empty() {
        "none; is BPF disabled by a security module or the container?".to_owned()
    } else {
        missing.join(", ")
    };
    SteerError::NotPermitted { operation, missing }
}

fn not_attached(interface: &str, mode: Mode, error: &ProgramError) -> SteerError {
    let interface = interface.to_owned();
    match system_error(error) {
        Some(libc::EPERM) => not_permitted("attach the XDP program"),
        // EBUSY: in the same mode. EEXIST: in the other one.
        Some(libc::EBUSY | libc::EEXIST) => SteerError::ForeignProgram { interface },
        Some(libc::ENODEV) => SteerError::Vanished { interface },
        Some(code) => {
            let source = io::Error::from_raw_os_error(code);
            SteerError::Unsupported { interface, mode, source }
        }
        None => SteerError::Load(shortened(&with_causes(error))),
    }
}

/// The first system error among `error` and its causes.
fn system_error(error: &(dyn Error + 'static)) -> Option<i32> {
    let code = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error);
    code.or_else(|| error.source().and_then(system_error))
}

/// The texts of `error` and its causes, without repetition.
fn with_causes(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_long_log_the_end_is_kept() {
        assert_eq!(shortened("a\nb"), "a\nb");
        let long: Vec<String> = (0..500).map(|line| format!("line {line}")).collect();
        let short = shortened(&long.join("\n"));
        assert!(short.starts_with("line 0\n…\nline 490\n") && short.ends_with("line 499"));
    }
}
