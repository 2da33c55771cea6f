//! AF_XDP: frames of our own making, one socket for each queue of the interface.

use std::{
    io,
    net::{Ipv6Addr, SocketAddrV6, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use portlease::{
    net::{
        link::Facts,
        raw::{self, RawPort},
        steer::Mode,
        xdp::{XdpError, XdpOptions},
    },
    wire::checksum::Sum,
};

use super::{Attach, Place, Transmit, Written, XdpPlace, live::Outlet, steer::Steering};
use crate::{
    error::{Doing as _, Result, RigError},
    shell,
    sys::XdpFlags,
};

/// Octets of Ethernet, IPv6 and UDP header.
const HEADERS: usize = 62;
/// Where fields of them begin.
const IPV6: usize = 14;
const UDP: usize = 54;

/// Frames in flight each way: answers to some thousand queries at once, and as many queries.
const FRAMES: XdpOptions = XdpOptions { ring_frames: 4_096, reply_frames: 8_192 };

/// How long a queue may be taken by a socket that its owner has closed already.
const QUEUE_TAKEN_PATIENCE: Duration = Duration::from_secs(2);

/// So many frames at least leave by an outlet: for fewer, what the kernel needs to begin costs more than it saves.
const BURST_MIN: usize = 12;

/// One source address: the headers of all that leaves from it, but for lengths and checksum.
#[derive(Debug)]
struct Source {
    headers: [u8; HEADERS],
    /// The sum over pseudo-header and UDP header, but for lengths and checksum.
    sum: u16,
}

/// Open sockets, and the program that brings answers to them.
pub(in super::super) struct XdpTransport {
    // First, so that no answer is steered to a socket that is gone.
    _steering: Steering,
    ports: Vec<RawPort>,
    /// Sends bursts instead of the ports.
    outlet: Option<Outlet>,
    sources: Vec<Source>,
    /// The UDP port that answers come to.
    port: u16,
    /// Whose burst is being read.
    inlet: usize,
    /// Frames for which there was no room, or which the interface did not take.
    pub(super) refused: u64,
}

impl XdpTransport {
    pub(super) fn open(place: &Place, options: &XdpPlace) -> Result<Self> {
        let interface = &options.interface;
        let unusable = |error: &dyn std::error::Error| RigError::unexpected(error.to_string());
        let facts = Facts::read(interface).map_err(|error| unusable(&error))?;
        let queues = options.queues.unwrap_or(facts.queues).clamp(1, facts.queues.max(1));
        let mac = match options.server_mac {
            Some(mac) => mac,
            None => mac_towards(place.server, interface)?,
        };
        let port = place.port();
        let mut outlet = match options.transmit {
            Transmit::LiveFrames => Some(Outlet::new(interface)?),
            Transmit::Socket => None,
        };
        let all = facts.queues.max(1);
        let (steering, mode) = attach(interface, port, all, options.attach, outlet.as_mut())?;
        let mut ports = Vec::new();
        for queue in 0..queues {
            let opened = open(&facts, queue, mode).map_err(|error| unusable(&error))?;
            steering.admit(queue, opened.socket())?;
            ports.push(opened);
        }
        let server = place.server;
        let sources = place
            .sources
            .iter()
            .map(|&source| {
                Source::new(facts.mac, mac, SocketAddrV6::new(source, port, 0, 0), server)
            })
            .collect();
        Ok(Self { _steering: steering, ports, outlet, sources, port, inlet: 0, refused: 0 })
    }

    #[inline]
    pub(super) fn send(
        &mut self,
        client: u32,
        fill: impl FnOnce(&mut [u8]) -> Option<Written>,
    ) -> Result<()> {
        let client = client as usize;
        let Some(source) = self.sources.get(client % self.sources.len().max(1)) else {
            return Ok(());
        };
        if let Some(outlet) = &mut self.outlet {
            if outlet.capacity() == 0 {
                outlet.flush().doing("send queries")?;
            }
            outlet.send(|frame| source.write(frame, fill));
            return Ok(());
        }
        let number = if self.ports.len() == 1 { 0 } else { client % self.ports.len() };
        let Some(port) = self.ports.get_mut(number) else { return Ok(()) };
        if port.capacity() == 0 {
            flush(port, &mut self.refused)?;
        }
        if !port.send(|frame| source.write(frame, fill)) {
            self.refused += 1;
        }
        Ok(())
    }

    pub(super) fn flush(&mut self) -> Result<()> {
        if let (Some(outlet), [port, ..]) = (&mut self.outlet, self.ports.as_mut_slice()) {
            if outlet.written() < BURST_MIN {
                let room = |port: &mut RawPort, frame: &[u8]| port.send(|room| copy(room, frame));
                let refused = outlet.drain(|frame| room(port, frame));
                self.refused += refused;
            } else {
                outlet.flush().doing("send queries")?;
            }
        }
        for port in &mut self.ports {
            if port.has_outstanding() {
                flush(port, &mut self.refused)?;
            }
        }
        Ok(())
    }

    pub(super) fn gathering(&self) -> usize {
        self.outlet.as_ref().map_or(0, Outlet::written)
    }

    pub(super) fn inlets(&self) -> usize {
        self.ports.len()
    }

    pub(super) fn receive(&mut self, inlet: usize) -> usize {
        self.inlet = inlet;
        self.ports.get_mut(inlet).map_or(0, RawPort::receive)
    }

    #[inline]
    pub(super) fn received(&self, at: usize) -> Option<&[u8]> {
        payload(self.ports.get(self.inlet)?.frame(at)?, self.port)
    }

    pub(super) fn wait(&self, timeout: Duration) -> Result<()> {
        // What the kernel has not taken yet must be offered again soon.
        let outstanding = self.ports.iter().any(RawPort::has_outstanding);
        let milliseconds = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX);
        let milliseconds = if outstanding { 0 } else { milliseconds };
        raw::wait(&self.ports, milliseconds).doing("wait for answers")
    }
}

/// A socket on a queue. The kernel gives up that of a run which has just ended a little later than its owner.
fn open(facts: &Facts, queue: u32, mode: Mode) -> std::result::Result<RawPort, XdpError> {
    let patience = Instant::now() + QUEUE_TAKEN_PATIENCE;
    loop {
        match RawPort::open(facts, queue, mode, FRAMES) {
            Err(XdpError::QueueTaken { .. }) if Instant::now() < patience => {
                thread::sleep(Duration::from_millis(20));
            }
            outcome => return outcome,
        }
    }
}

/// An interface that is down for a moment loses what is sent, from which retransmission recovers.
fn flush(port: &mut RawPort, refused: &mut u64) -> Result<()> {
    match port.flush() {
        Ok(()) => Ok(()),
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENETDOWN | libc::ENOBUFS)) => {
            *refused += 1;
            Ok(())
        }
        Err(error) => Err(error).doing("send queries"),
    }
}

/// Puts a frame into a larger buffer. Gives its length.
fn copy(room: &mut [u8], frame: &[u8]) -> Option<usize> {
    room.get_mut(..frame.len())?.copy_from_slice(frame);
    Some(frame.len())
}

impl Source {
    fn new(from: [u8; 6], to: [u8; 6], source: SocketAddrV6, server: SocketAddrV6) -> Self {
        let mut headers = [0; HEADERS];
        headers[..6].copy_from_slice(&to);
        headers[6..12].copy_from_slice(&from);
        headers[12..14].copy_from_slice(&[0x86, 0xdd]);
        headers[IPV6] = 6 << 4;
        headers[IPV6 + 6] = 17;
        headers[IPV6 + 7] = 64;
        headers[IPV6 + 8..IPV6 + 24].copy_from_slice(&source.ip().octets());
        headers[IPV6 + 24..IPV6 + 40].copy_from_slice(&server.ip().octets());
        headers[UDP..UDP + 2].copy_from_slice(&source.port().to_be_bytes());
        headers[UDP + 2..UDP + 4].copy_from_slice(&server.port().to_be_bytes());
        let sum = Sum::new().over(&headers[IPV6 + 8..UDP + 4]).over(&[0, 17]).fold();
        Self { headers, sum }
    }

    /// Writes a whole frame. Gives its length.
    #[inline]
    fn write(
        &self,
        frame: &mut [u8],
        fill: impl FnOnce(&mut [u8]) -> Option<Written>,
    ) -> Option<usize> {
        let (headers, payload) = frame.split_first_chunk_mut::<HEADERS>()?;
        let written = fill(payload)?;
        let length = u16::try_from(written.length + HEADERS - UDP).ok()?;
        *headers = self.headers;
        headers[IPV6 + 4..IPV6 + 6].copy_from_slice(&length.to_be_bytes());
        headers[UDP + 4..UDP + 6].copy_from_slice(&length.to_be_bytes());
        // The length counts twice: in the pseudo-header and in the header.
        let sum = u32::from(self.sum) + u32::from(written.sum) + 2 * u32::from(length);
        headers[UDP + 6..].copy_from_slice(&checksum_of(sum).to_be_bytes());
        Some(written.length + HEADERS)
    }
}

/// The checksum that belongs to a sum; never 0 (RFC 8200 §8.1).
fn checksum_of(sum: u32) -> u16 {
    match !fold(sum) {
        0 => 0xffff,
        checksum => checksum,
    }
}

fn fold(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    u16::try_from(sum).unwrap_or(u16::MAX)
}

/// The payload of a received frame, if it is an intact UDP datagram over IPv6 to `port`.
///
/// A checksum over the pseudo-header alone passes: so a datagram of a kernel's socket looks on a virtual link, where
/// nobody has computed the rest.
#[inline]
fn payload(frame: &[u8], port: u16) -> Option<&[u8]> {
    let (headers, _) = frame.split_first_chunk::<HEADERS>()?;
    let field = |at: usize| u16::from_be_bytes([headers[at], headers[at + 1]]);
    if field(12) != 0x86dd || headers[IPV6 + 6] != 17 || field(UDP + 2) != port {
        return None;
    }
    let segment = frame.get(UDP..UDP + usize::from(field(UDP + 4)))?;
    let pseudo =
        Sum::new().over(&headers[IPV6 + 8..UDP]).over(&[0, 17]).over(&headers[UDP + 4..UDP + 6]);
    let is_intact = pseudo.over(segment).fold() == 0xffff || pseudo.fold() == field(UDP + 6);
    segment.get(HEADERS - UDP..).filter(|_| is_intact && field(UDP + 6) != 0)
}

fn attach(
    interface: &str,
    port: u16,
    queues: u32,
    attach: Attach,
    mut outlet: Option<&mut Outlet>,
) -> Result<(Steering, Mode)> {
    let sends = outlet.is_some();
    let mut with = |mode| {
        let flags = match mode {
            Mode::Native => XdpFlags::Native,
            Mode::Generic => XdpFlags::Generic,
        };
        Steering::attach(interface, port, queues, flags, outlet.as_deref_mut())
            .map(|steering| (steering, mode))
    };
    match attach {
        // Only then does the driver take frames that are redirected to it.
        Attach::Auto if sends => with(Mode::Native),
        Attach::Native => with(Mode::Native),
        Attach::Generic => with(Mode::Generic),
        Attach::Auto => with(Mode::Native).or_else(|_| with(Mode::Generic)),
    }
}

/// The hardware address that packets to the server must go to: its own, its group's, or the router's.
fn mac_towards(server: SocketAddrV6, interface: &str) -> Result<[u8; 6]> {
    let address = *server.ip();
    if address.is_multicast() {
        // RFC 2464 §7.
        let [.., a, b, c, d] = address.octets();
        return Ok([0x33, 0x33, a, b, c, d]);
    }
    let route = shell::run(&format!("ip -6 -o route get {address} oif {interface}"))?;
    let next: Ipv6Addr =
        word_after(&route, "via").and_then(|word| word.parse().ok()).unwrap_or(address);
    for attempt in 0..20 {
        let line = shell::run(&format!("ip -6 -o neigh show to {next} dev {interface}"))?;
        if let Some(mac) = word_after(&line, "lladdr").and_then(parse_mac) {
            return Ok(mac);
        }
        if attempt % 5 == 0 {
            // Any datagram makes the kernel ask; nobody listens to the discard port.
            let asked = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).and_then(|socket| {
                socket.send_to(&[], SocketAddrV6::new(address, 9, 0, server.scope_id()))
            });
            asked.doing(format_args!("ask for the neighbour {next}"))?;
        }
        thread::sleep(Duration::from_millis(100));
    }
    Err(io::Error::from(io::ErrorKind::HostUnreachable))
        .doing(format_args!("find the hardware address of {next} on {interface}"))
}

fn word_after<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.split_whitespace().skip_while(|&word| word != name).nth(1)
}

/// Reads a hardware address as `ip` writes it.
pub fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let mut mac = [0; 6];
    let mut parts = text.split(':');
    for octet in &mut mac {
        *octet = u8::from_str_radix(parts.next()?, 16).ok()?;
    }
    parts.next().is_none().then_some(mac)
}

#[cfg(test)]
mod tests {
    use portlease::wire::checksum;

    use super::*;

    fn source() -> Source {
        let from = "[2001:db8:1::10]:546".parse().unwrap();
        let server = "[2001:db8:ffff::547]:547".parse().unwrap();
        Source::new([2, 0, 0, 0, 0, 2], [2, 0, 0, 0, 0, 1], from, server)
    }

    #[test]
    fn frames_carry_the_checksum_of_their_datagram_whatever_its_length() {
        for length in [0_usize, 1, 2, 299, 300] {
            let mut frame = [0; 512];
            let written = source().write(&mut frame, |payload| {
                for (at, octet) in payload[..length].iter_mut().enumerate() {
                    *octet = (at * 37 % 251).to_le_bytes()[0];
                }
                Written::sum_up(payload, length)
            });
            let octets = &frame[..written.unwrap()];
            let read = crate::frame::Frame::read(octets).unwrap();
            assert!(read.is_checksum_right(), "{length} octets");
            assert_eq!(read.payload.len(), length);
            assert_eq!((read.source_port, read.destination_port), (546, 547));
            assert_eq!(payload(octets, 547), Some(&octets[HEADERS..]));
        }
    }

    #[test]
    fn damaged_and_foreign_frames_are_not_read() {
        let mut frame = [0; 512];
        let length = source().write(&mut frame, |payload| Written::sum_up(payload, 40)).unwrap();
        let octets = &mut frame[..length];
        assert!(payload(octets, 547).is_some());
        assert_eq!(payload(octets, 546), None);
        octets[80] ^= 1;
        assert_eq!(payload(octets, 547), None);
        assert_eq!(payload(&octets[..70], 547), None);
    }

    #[test]
    fn a_checksum_over_the_pseudo_header_alone_passes() {
        let mut frame = [7; 512];
        let length = source().write(&mut frame, |payload| Written::sum_up(payload, 40)).unwrap();
        let (from, to) = ("2001:db8:1::10".parse().unwrap(), "2001:db8:ffff::547".parse().unwrap());
        let partial = checksum::udp_sum(from, to, &[]).wrapping_add(48);
        frame[60..62].copy_from_slice(&partial.to_be_bytes());
        assert!(payload(&frame[..length], 547).is_some());
    }
}
