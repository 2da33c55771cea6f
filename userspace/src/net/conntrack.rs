//! Flows that the kernel tracks: forgets those of an address, so that no translation outlives its lease.
//!
//! Speaks `ctnetlink` (`linux/netfilter/nfnetlink_conntrack.h`): lists the entries of IPv4, and deletes those that
//! touch the address, one by one.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    net::Ipv4Addr,
    os::fd::AsFd as _,
};

use super::sys;

/// Octets of `struct nlmsghdr`.
const HEADER_LENGTH: usize = 16;
/// Octets of `struct nfgenmsg`.
const FAMILY_LENGTH: usize = 4;
/// Octets of `struct nlattr`.
const ATTRIBUTE_LENGTH: usize = 4;

/// `NFNL_SUBSYS_CTNETLINK` in the upper octet of a message type, `IPCTNL_MSG_CT_NEW`, `_GET`, `_DELETE` in the lower.
const ENTRY: u16 = 0x0100;
const GET_ENTRIES: u16 = 0x0101;
const DELETE_ENTRY: u16 = 0x0102;

/// `struct nfgenmsg`: the family (`AF_INET`), version and resource 0.
const IPV4_FAMILY: [u8; FAMILY_LENGTH] = [2, 0, 0, 0];

/// The upper bits of an attribute's type are flags (`NLA_TYPE_MASK`).
const ATTRIBUTE_TYPE_MASK: u16 = 0x3fff;
/// `CTA_TUPLE_ORIG` and `CTA_TUPLE_REPLY`: a flow as its first packet saw it, and as answers come.
const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_REPLY: u16 = 2;
/// `CTA_ID` tells an entry from a later one of the same flow.
const ID: u16 = 12;
/// `CTA_ZONE`.
const ZONE: u16 = 18;
/// `CTA_TUPLE_IP`, and in it `CTA_IP_V4_SRC` and `CTA_IP_V4_DST`.
const TUPLE_IP: u16 = 1;
const IP_SOURCE: u16 = 1;
const IP_DESTINATION: u16 = 2;

/// Longest datagram of a dump; the kernel makes them half as long.
const DATAGRAM_LENGTH: usize = 1 << 16;

/// How long the kernel may take to answer.
const PATIENCE_MS: u32 = 2000;

/// Dumps until nothing is left. A dump may miss an entry when the table is resized under it.
const PASSES: usize = 3;

/// Deletes every tracked IPv4 flow from or to `address`, translated or not. Returns how many there were. Needs
/// `CAP_NET_ADMIN`.
pub fn forget(address: Ipv4Addr) -> io::Result<usize> {
    let mut kernel = Kernel::open()?;
    let mut forgotten = 0;
    for _ in 0..PASSES {
        let flows = kernel.flows_of(address)?;
        if flows.is_empty() {
            break;
        }
        for flow in &flows {
            forgotten += usize::from(kernel.delete(flow)?);
        }
    }
    Ok(forgotten)
}

/// The attributes that name an entry, as the kernel wrote them.
type Flow = Vec<u8>;

struct Kernel {
    socket: File,
    sequence: u32,
}

impl Kernel {
    fn open() -> io::Result<Self> {
        Ok(Self { socket: File::from(sys::netfilter_socket()?), sequence: 0 })
    }

    fn ask(&mut self, kind: u16, flags: libc::c_int, attributes: &[u8]) -> io::Result<()> {
        self.sequence += 1;
        let length = HEADER_LENGTH + FAMILY_LENGTH + attributes.len();
        let length = u32::try_from(length).map_err(io::Error::other)?;
        let flags = u16::try_from(flags | libc::NLM_F_REQUEST).map_err(io::Error::other)?;
        let mut message = Vec::new();
        message.extend(length.to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend(flags.to_ne_bytes());
        message.extend(self.sequence.to_ne_bytes());
        message.extend(0_u32.to_ne_bytes());
        message.extend(IPV4_FAMILY);
        message.extend(attributes);
        self.socket.write_all(&message)
    }

    /// One datagram of the answer.
    fn hear<'a>(&mut self, buffer: &'a mut [u8]) -> io::Result<&'a [u8]> {
        let mut waiting = [sys::readable(self.socket.as_fd())];
        sys::poll(&mut waiting, PATIENCE_MS)?;
        match self.socket.read(buffer) {
            Ok(length) => Ok(buffer.get(..length).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                Err(io::ErrorKind::TimedOut.into())
            }
            Err(error) => Err(error),
        }
    }

    fn flows_of(&mut self, address: Ipv4Addr) -> io::Result<Vec<Flow>> {
        self.ask(GET_ENTRIES, libc::NLM_F_DUMP, &[])?;
        let mut buffer = vec![0; DATAGRAM_LENGTH];
        let mut flows = Vec::new();
        loop {
            for (kind, content) in Messages(self.hear(&mut buffer)?) {
                match i32::from(kind) {
                    libc::NLMSG_DONE => return Ok(flows),
                    libc::NLMSG_ERROR => return Err(said(content)),
                    _ if kind == ENTRY => {
                        let attributes = content.get(FAMILY_LENGTH..).unwrap_or_default();
                        flows.extend(flow_of(attributes, address));
                    }
                    _ => {}
                }
            }
        }
    }

    /// Deletes an entry. Returns whether it was still there.
    fn delete(&mut self, flow: &Flow) -> io::Result<bool> {
        self.ask(DELETE_ENTRY, libc::NLM_F_ACK, flow)?;
        let mut buffer = [0; 1024];
        loop {
            let mut answers = Messages(self.hear(&mut buffer)?);
            let Some((_, content)) =
                answers.find(|(kind, _)| i32::from(*kind) == libc::NLMSG_ERROR)
            else {
                continue;
            };
            let error = said(content);
            return match error.raw_os_error() {
                None => Ok(true),
                Some(libc::ENOENT) => Ok(false),
                Some(_) => Err(error),
            };
        }
    }
}

/// What an `NLMSG_ERROR` says. Without a number in it, it is the acknowledgement.
fn said(content: &[u8]) -> io::Error {
    match content.first_chunk().map(|octets| i32::from_ne_bytes(*octets)) {
        Some(0) | None => io::Error::other("no error"),
        Some(number) => io::Error::from_raw_os_error(number.saturating_neg()),
    }
}

/// What names an entry, if it touches `address`.
fn flow_of(attributes: &[u8], address: Ipv4Addr) -> Option<Flow> {
    let touches = Attributes(attributes)
        .filter(|attribute| matches!(attribute.kind, TUPLE_ORIGINAL | TUPLE_REPLY))
        .flat_map(|tuple| Attributes(tuple.value).filter(|part| part.kind == TUPLE_IP))
        .flat_map(|part| Attributes(part.value))
        .any(|end| matches!(end.kind, IP_SOURCE | IP_DESTINATION) && end.value == address.octets());
    let names = |kind| matches!(kind, TUPLE_ORIGINAL | ID | ZONE);
    touches.then(|| {
        Attributes(attributes)
            .filter(|attribute| names(attribute.kind))
            .flat_map(|attribute| attribute.whole.iter().copied())
            .collect()
    })
}

/// The messages of a datagram: type, and what follows the header.
struct Messages<'a>(&'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let length = u32::from_ne_bytes(*self.0.first_chunk()?);
        let kind = u16::from_ne_bytes(*self.0.get(4..)?.first_chunk()?);
        let (whole, rest) = split_padded(self.0, usize::try_from(length).ok()?)?;
        self.0 = rest;
        Some((kind, whole.get(HEADER_LENGTH..)?))
    }
}

/// An attribute: its type without flags, its value, and all of it with its padding.
struct Attribute<'a> {
    kind: u16,
    value: &'a [u8],
    whole: &'a [u8],
}

/// A list of attributes.
struct Attributes<'a>(&'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = Attribute<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        let length = usize::from(u16::from_ne_bytes(*self.0.first_chunk()?));
        let kind = u16::from_ne_bytes(*self.0.get(2..)?.first_chunk()?) & ATTRIBUTE_TYPE_MASK;
        let (unpadded, rest) = split_padded(self.0, length)?;
        let value = unpadded.get(ATTRIBUTE_LENGTH..)?;
        let whole = self.0.get(..self.0.len() - rest.len())?;
        self.0 = rest;
        Some(Attribute { kind, value, whole })
    }
}

/// The first `length` octets, and what follows their padding to a multiple of four. The last piece may lack padding.
fn split_padded(octets: &[u8], length: usize) -> Option<(&[u8], &[u8])> {
    let padded = length.next_multiple_of(4).min(octets.len());
    Some((octets.get(..length)?, octets.get(padded..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASED: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 18);
    const INSIDE: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 2);
    const REMOTE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(ATTRIBUTE_LENGTH + value.len()).unwrap();
        let mut octets = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
        octets.extend(value);
        octets.resize(octets.len().next_multiple_of(4), 0);
        octets
    }

    fn tuple(kind: u16, source: Ipv4Addr, destination: Ipv4Addr) -> Vec<u8> {
        let ends = [attribute(IP_SOURCE, &source.octets()), attribute(2, &destination.octets())];
        attribute(0x8000 | kind, &attribute(0x8000 | TUPLE_IP, &ends.concat()))
    }

    fn entry(source: Ipv4Addr, answers_to: Ipv4Addr) -> Vec<u8> {
        let original = tuple(TUPLE_ORIGINAL, source, REMOTE);
        let reply = tuple(TUPLE_REPLY, REMOTE, answers_to);
        let mark = attribute(8, &[0; 4]);
        [original, reply, mark, attribute(ID, &[1, 2, 3, 4]), attribute(ZONE, &[0, 9])].concat()
    }

    #[test]
    fn a_translated_flow_is_named_by_its_first_packet_its_number_and_its_zone() {
        let expected = [
            tuple(TUPLE_ORIGINAL, INSIDE, REMOTE),
            attribute(ID, &[1, 2, 3, 4]),
            attribute(ZONE, &[0, 9]),
        ];
        assert_eq!(flow_of(&entry(INSIDE, LEASED), LEASED), Some(expected.concat()));
        assert!(flow_of(&entry(LEASED, LEASED), LEASED).is_some(), "the host's own");
        assert!(flow_of(&entry(INSIDE, INSIDE), LEASED).is_none(), "somebody else's");
    }

    #[test]
    fn octets_that_are_no_attributes_end_the_list() {
        let whole = entry(INSIDE, LEASED);
        for length in 0..whole.len() {
            let _ = flow_of(&whole[..length], LEASED);
            let _ = Messages(&whole[..length]).count();
        }
        assert_eq!(Attributes(&[3, 0, 1, 0]).count(), 0, "shorter than its own header");
        assert_eq!(Attributes(&[0, 0, 1, 0]).count(), 0);
        assert_eq!(Messages(&[0; 64]).count(), 0, "never without end");
    }

    #[test]
    fn an_error_is_the_kernels_and_an_acknowledgement_is_none() {
        assert_eq!(said(&(-1_i32).to_ne_bytes()).raw_os_error(), Some(libc::EPERM));
        assert_eq!(said(&0_i32.to_ne_bytes()).raw_os_error(), None);
    }
}
