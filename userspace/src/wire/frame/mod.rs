//! Ethernet frames with a UDP datagram over IPv6 inside: taken apart for the engine, and wrapped
//! around its reply.
//!
//! A frame that comes from the steering program has been looked at already, but not checked: it may
//! be anything.

use std::net::Ipv6Addr;

use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned,
    network_endian::{U16, U32},
};

use super::{checksum, dhcpv6::SERVER_PORT};

/// Length of a hardware address of Ethernet.
pub const MAC_LENGTH: usize = 6;

/// The most VLAN tags that are read: 802.1ad around 802.1Q.
pub const VLAN_TAGS_MAX: usize = 2;

/// The most octets before the UDP payload.
pub const HEADROOM_MAX: usize =
    ETHERNET_LENGTH + VLAN_TAGS_MAX * VLAN_LENGTH + IPV6_LENGTH + UDP_LENGTH;

const ETHERNET_LENGTH: usize = 14;
const VLAN_LENGTH: usize = 4;
const IPV6_LENGTH: usize = 40;
const UDP_LENGTH: usize = 8;

const ETHERTYPE_IPV6: u16 = 0x86dd;
const ETHERTYPE_VLAN: u16 = 0x8100;
const ETHERTYPE_SERVICE_VLAN: u16 = 0x88a8;

const NEXT_HOP_BY_HOP: u8 = 0;
const NEXT_UDP: u8 = 17;
const NEXT_ROUTING: u8 = 43;
const NEXT_FRAGMENT: u8 = 44;
const NEXT_AUTHENTICATION: u8 = 51;
const NEXT_DESTINATION: u8 = 60;
const NEXT_MOBILITY: u8 = 135;

/// Of what we send. Relays may be routers away.
const HOP_LIMIT: u8 = 64;

/// Version 6, traffic class 0, flow label 0.
const VERSION_WORD: u32 = 6 << 28;

/// The group bit of a hardware address.
const MAC_GROUP: u8 = 0x01;

macro_rules! faults {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// Why a frame is not a datagram for us. Each is a counter.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum FrameFault { $($(#[$doc])* $variant,)* }

        impl FrameFault {
            /// All variants, in the order of their discriminants.
            pub const ALL: &[FrameFault] = &[$(FrameFault::$variant,)*];

            /// The counter's name.
            pub const fn name(self) -> &'static str {
                match self { $(FrameFault::$variant => $name,)* }
            }
        }
    };
}

faults! {
    /// Shorter than its headers.
    TooShort = "frame-short",
    /// To a hardware address that is neither ours nor an IPv6 multicast group (RFC 2464 §7).
    ForeignMac = "frame-foreign-mac",
    /// From a group address, of Ethernet or IPv6: an answer would go to many.
    GroupSource = "frame-group-source",
    /// Neither IPv6 nor up to two VLAN tags before it.
    NotIpv6 = "frame-not-ipv6",
    /// A fragment, or whole but with a fragment header (RFC 8200 §4.5).
    Fragment = "frame-fragment",
    /// Another extension header before the UDP header (RFC 8200 §4).
    ExtensionHeader = "frame-extension-header",
    /// Not UDP.
    NotUdp = "frame-not-udp",
    /// Not to the port of DHCPv6 servers.
    WrongPort = "frame-wrong-port",
    /// The lengths of frame, IPv6 and UDP contradict each other.
    LengthMismatch = "frame-length-mismatch",
    /// No UDP checksum, which IPv6 requires (RFC 8200 §8.1).
    ZeroChecksum = "frame-zero-checksum",
    /// The UDP checksum is wrong.
    BadChecksum = "frame-bad-checksum",
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Ethernet {
    destination: [u8; MAC_LENGTH],
    source: [u8; MAC_LENGTH],
    ethertype: U16,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Vlan {
    tag: U16,
    ethertype: U16,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Ipv6 {
    version_word: U32,
    payload_length: U16,
    next_header: u8,
    hop_limit: u8,
    source: [u8; 16],
    destination: [u8; 16],
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Udp {
    source_port: U16,
    destination_port: U16,
    length: U16,
    checksum: U16,
}

/// A datagram taken out of its frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken<'a> {
    /// Hardware address it came from.
    pub source_mac: [u8; MAC_LENGTH],
    /// Hardware address it was sent to.
    pub destination_mac: [u8; MAC_LENGTH],
    /// IPv6 source.
    pub source: Ipv6Addr,
    /// IPv6 destination.
    pub destination: Ipv6Addr,
    /// UDP source port.
    pub source_port: u16,
    /// UDP destination port.
    pub destination_port: u16,
    /// Octets of the frame before the payload.
    pub header_length: usize,
    /// The UDP payload.
    pub payload: &'a [u8],
}

/// Takes a frame apart that was sent to a server on an interface with hardware address `own_mac`.
///
/// Whether the IPv6 destination is one of ours is for the caller to know.
#[inline]
pub fn take_apart<'a>(
    frame: &'a [u8],
    own_mac: &[u8; MAC_LENGTH],
) -> Result<Taken<'a>, FrameFault> {
    let (ethernet, _) = Ethernet::ref_from_prefix(frame).map_err(|_| FrameFault::TooShort)?;
    let to_group = matches!(ethernet.destination, [0x33, 0x33, ..]);
    if !to_group && ethernet.destination != *own_mac {
        return Err(FrameFault::ForeignMac);
    }
    let taken = dissect(frame)?;
    if taken.destination_port == SERVER_PORT { Ok(taken) } else { Err(FrameFault::WrongPort) }
}

/// Takes any frame with UDP over IPv6 apart, whoever it is for. The checksum is verified.
#[inline]
pub fn dissect(frame: &[u8]) -> Result<Taken<'_>, FrameFault> {
    let (ethernet, rest) = Ethernet::ref_from_prefix(frame).map_err(|_| FrameFault::TooShort)?;
    let [first, ..] = ethernet.source;
    if first & MAC_GROUP != 0 {
        return Err(FrameFault::GroupSource);
    }
    let rest = skip_tags(ethernet.ethertype.get(), rest)?;
    let (ip, rest) = Ipv6::ref_from_prefix(rest).map_err(|_| FrameFault::TooShort)?;
    if ip.version_word.get() >> 28 != 6 {
        return Err(FrameFault::NotIpv6);
    }
    check_next_header(ip.next_header)?;
    let (udp, _) = Udp::ref_from_prefix(rest).map_err(|_| FrameFault::TooShort)?;
    // Ethernet pads short frames, so the frame may be longer than the packet, never shorter.
    let segment = rest.get(..usize::from(ip.payload_length.get()));
    let segment = segment.ok_or(FrameFault::LengthMismatch)?;
    let payload = segment.get(UDP_LENGTH..).ok_or(FrameFault::LengthMismatch)?;
    if udp.length != ip.payload_length {
        return Err(FrameFault::LengthMismatch);
    }
    let (source, destination) = (Ipv6Addr::from(ip.source), Ipv6Addr::from(ip.destination));
    if source.is_multicast() {
        return Err(FrameFault::GroupSource);
    }
    if udp.checksum.get() == 0 {
        return Err(FrameFault::ZeroChecksum);
    }
    if checksum::udp_sum(source, destination, segment) != 0xffff {
        return Err(FrameFault::BadChecksum);
    }
    let header_length = frame.len().saturating_sub(rest.len()).saturating_add(UDP_LENGTH);
    Ok(Taken {
        source_mac: ethernet.source,
        destination_mac: ethernet.destination,
        source,
        destination,
        source_port: udp.source_port.get(),
        destination_port: udp.destination_port.get(),
        header_length,
        payload,
    })
}

/// The octets behind the Ethernet header and its VLAN tags, if IPv6 follows.
#[inline]
fn skip_tags(mut ethertype: u16, mut rest: &[u8]) -> Result<&[u8], FrameFault> {
    for _ in 0..VLAN_TAGS_MAX {
        if !matches!(ethertype, ETHERTYPE_VLAN | ETHERTYPE_SERVICE_VLAN) {
            break;
        }
        let (vlan, behind) = Vlan::ref_from_prefix(rest).map_err(|_| FrameFault::TooShort)?;
        (ethertype, rest) = (vlan.ethertype.get(), behind);
    }
    if ethertype == ETHERTYPE_IPV6 { Ok(rest) } else { Err(FrameFault::NotIpv6) }
}

#[inline]
fn check_next_header(next_header: u8) -> Result<(), FrameFault> {
    match next_header {
        NEXT_UDP => Ok(()),
        NEXT_FRAGMENT => Err(FrameFault::Fragment),
        NEXT_HOP_BY_HOP | NEXT_ROUTING | NEXT_AUTHENTICATION | NEXT_DESTINATION | NEXT_MOBILITY => {
            Err(FrameFault::ExtensionHeader)
        }
        _ => Err(FrameFault::NotUdp),
    }
}

/// Where the payload of the reply to `taken` must begin: the reply has the same headers and VLAN
/// tags.
pub fn headroom(taken: &Taken<'_>) -> usize {
    taken.header_length
}

/// Puts the headers around a reply that goes back the way its request came, and returns the frame's
/// length.
///
/// `out` holds the payload already, `payload_length` octets from [`headroom`] on. The frame goes to
/// the request's hardware source with the request's VLAN tags, and to its IPv6 source, from
/// `source` and UDP port 547 to `destination_port`. `None` if `request_frame` is not what
/// [`dissect`] takes, or the frame does not fit `out` or the payload a UDP datagram.
#[inline]
pub fn wrap(
    out: &mut [u8],
    request_frame: &[u8],
    payload_length: usize,
    source: Ipv6Addr,
    destination_port: u16,
    own_mac: &[u8; MAC_LENGTH],
) -> Option<usize> {
    let (asked, behind) = Ethernet::ref_from_prefix(request_frame).ok()?;
    let asked_packet = skip_tags(asked.ethertype.get(), behind).ok()?;
    let (asked_ip, _) = Ipv6::ref_from_prefix(asked_packet).ok()?;
    let tags_length = behind.len().checked_sub(asked_packet.len())?;
    let segment_length = payload_length.checked_add(UDP_LENGTH)?;

    let (ethernet, rest) = Ethernet::mut_from_prefix(out).ok()?;
    ethernet.destination = asked.source;
    ethernet.source = *own_mac;
    ethernet.ethertype = asked.ethertype;
    let (tags, rest) = rest.split_at_mut_checked(tags_length)?;
    tags.copy_from_slice(behind.get(..tags_length)?);
    let (ip, rest) = Ipv6::mut_from_prefix(rest).ok()?;
    ip.version_word.set(VERSION_WORD);
    ip.payload_length.set(u16::try_from(segment_length).ok()?);
    ip.next_header = NEXT_UDP;
    ip.hop_limit = HOP_LIMIT;
    ip.source = source.octets();
    ip.destination = asked_ip.source;
    let (destination, length) = (Ipv6Addr::from(ip.destination), ip.payload_length);

    let segment = rest.get_mut(..segment_length)?;
    let (udp, _) = Udp::mut_from_prefix(&mut *segment).ok()?;
    udp.source_port.set(SERVER_PORT);
    udp.destination_port.set(destination_port);
    udp.length = length;
    udp.checksum.set(0);
    let checksum = checksum::udp(source, destination, segment);
    let (udp, _) = Udp::mut_from_prefix(&mut *segment).ok()?;
    udp.checksum.set(checksum);
    segment_length.checked_add(IPV6_LENGTH)?.checked_add(tags_length)?.checked_add(ETHERNET_LENGTH)
}

#[cfg(test)]
mod tests;
