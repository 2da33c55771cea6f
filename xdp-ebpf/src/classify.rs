//! Which packets are the server's.
//!
//! The same source is compiled for the kernel and for the host. For the verifier's sake every loop has a constant
//! bound, every offset is compared with a constant before it is used, and nothing is sliced.
#![expect(clippy::inline_always, reason = "the kernel runs it as one function")]

use core::hint::black_box;

use crate::Counter;

/// Read access to a packet's octets.
pub trait Cursor {
    /// The `N` octets from offset `at` on, or `None` if the packet ends before. `N` is at least 2: of one octet the
    /// compiler makes a comparison (`from >= end`) from which the verifier learns nothing.
    fn octets<const N: usize>(&self, at: usize) -> Option<[u8; N]>;
}

impl Cursor for [u8] {
    fn octets<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.get(at..)?.first_chunk().copied()
    }
}

/// What the decision depends on beside the packet.
pub trait Site {
    /// The interface's own MAC address.
    fn mac(&self) -> [u8; 6];
    /// Whether the server listens on this unicast address.
    fn listens(&self, address: &[u8; 16]) -> bool;
}

/// The decision on a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is the server's.
    Take,
    /// It is the kernel's; the counter says why. Never [`Counter::Steered`] or [`Counter::NoSocket`].
    Pass(Counter),
}

/// VLAN tags (IEEE 802.1Q, 802.1ad) that may stand before the IPv6 header.
const TAGS_MAX: usize = 2;
const TAG_LENGTH: usize = 4;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const ETHERTYPE_VLAN: u16 = 0x8100;
const ETHERTYPE_SERVICE_VLAN: u16 = 0x88a8;

const IPV6_LENGTH: usize = 40;
const UDP: u8 = 17;
const UDP_LENGTH: usize = 8;
/// Servers and relays listen here (RFC 8415 §7.2).
const SERVER_PORT: u16 = 547;
/// `ff02::1:2` (RFC 8415 §7.1).
const ALL_RELAYS_AND_SERVERS: [u8; 16] = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 2];
/// `ff05::1:3` (RFC 8415 §7.1).
const ALL_SERVERS: [u8; 16] = [0xff, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 3];

const RELAY_FORW: u8 = 12;
const DHCPV4_QUERY: u8 = 20;
/// Type and flags (RFC 7341 §6.1); no DHCPv6 message is shorter.
const QUERY_HEADER_LENGTH: usize = 4;
/// Type, hop-count, link-address, peer-address (RFC 8415 §9).
const RELAY_HEADER_LENGTH: usize = 34;
const OPTION_HEADER_LENGTH: usize = 4;
const OPTION_RELAY_MSG: u16 = 9;

/// Options that the walk looks at in a whole chain of relays: eight levels of twelve, or any other distribution.
pub const OPTIONS_MAX: usize = 96;
/// Offsets beyond this are not looked at; the kernel's verifier wants a bound.
pub const OFFSET_MAX: usize = 0x3fff;
/// The longest IPv6 payload and the longest DHCPv6 option.
const LENGTH_MAX: usize = 0xffff;
/// No option that starts within [`OFFSET_MAX`] ends beyond this.
const END_MAX: usize = 0x1_ffff;

/// Decides on the Ethernet frame under `packet`.
#[inline(always)]
pub fn classify<C: Cursor + ?Sized, S: Site>(packet: &C, site: &S) -> Verdict {
    match decide(packet, site) {
        Ok(()) => Verdict::Take,
        Err(counter) => Verdict::Pass(counter),
    }
}

/// `Ok` if the frame is the server's, else why not. Checks go from the outside in, and the cheapest first.
#[inline(always)]
fn decide<C: Cursor + ?Sized, S: Site>(packet: &C, site: &S) -> Result<(), Counter> {
    let station: [u8; 6] = read(packet, 0)?;
    let is_group = matches!(station, [0x33, 0x33, ..]);
    if !is_group && station != site.mac() {
        return Err(Counter::ForeignMac);
    }
    let ipv6 = skip_tags(packet)?;
    let [version, _, _, _, length_high, length_low, next_header, _] = read(packet, ipv6)?;
    if version >> 4 != 6 {
        return Err(Counter::NotIpv6);
    }
    if next_header != UDP {
        return Err(Counter::NotUdp);
    }
    let destination: [u8; 16] = read(packet, ipv6 + 24)?;
    let is_multicast = destination == ALL_RELAYS_AND_SERVERS || destination == ALL_SERVERS;
    // A unicast packet in a multicast frame is not for us, whatever its address (RFC 1122 §3.3.6).
    if !is_multicast && (is_group || !site.listens(&destination)) {
        return Err(Counter::NotOurAddress);
    }
    let udp = ipv6 + IPV6_LENGTH;
    if u16::from_be_bytes(read(packet, udp + 2)?) != SERVER_PORT {
        return Err(Counter::NotOurPort);
    }
    let length = usize::from(u16::from_be_bytes([length_high, length_low]));
    walk(packet, udp + UDP_LENGTH, length.wrapping_sub(UDP_LENGTH))
}

/// Offset of the IPv6 header behind the VLAN tags.
#[inline(always)]
fn skip_tags<C: Cursor + ?Sized>(packet: &C) -> Result<usize, Counter> {
    let mut at = 12;
    for _ in 0..=TAGS_MAX {
        match u16::from_be_bytes(read(packet, at)?) {
            ETHERTYPE_IPV6 => return Ok(at + 2),
            ETHERTYPE_VLAN | ETHERTYPE_SERVICE_VLAN => at += TAG_LENGTH,
            _ => break,
        }
    }
    Err(Counter::NotIpv6)
}

/// `Ok` if the DHCPv6 message at `message` is a DHCPv4-query, or the innermost one of a chain of Relay-forwards is.
/// The first Relay Message option of a level decides; whether there is a second one is for the server to see.
#[inline(always)]
fn walk<C>(packet: &C, message: usize, length: usize) -> Result<(), Counter>
where
    C: Cursor + ?Sized,
{
    let Kind::Relay { mut options, mut end } = look(packet, message, length)? else {
        return Ok(());
    };
    for _ in 0..OPTIONS_MAX {
        if options > OFFSET_MAX {
            break;
        }
        let option = forget_lower_bound::<OFFSET_MAX>(options);
        let [code_high, code_low, length_high, length_low] = read(packet, option)?;
        let body = option + OPTION_HEADER_LENGTH;
        let length = usize::from(u16::from_be_bytes([length_high, length_low]));
        if body + length > end {
            return Err(Counter::Truncated);
        }
        if u16::from_be_bytes([code_high, code_low]) != OPTION_RELAY_MSG {
            options = body + length;
            continue;
        }
        match look(packet, body, length)? {
            Kind::Query => return Ok(()),
            Kind::Relay { options: inner_options, end: inner_end } => {
                (options, end) = (inner_options, inner_end);
            }
        }
    }
    Err(Counter::TooDeep)
}

/// What a DHCPv6 message turns out to be.
enum Kind {
    Query,
    /// The offsets where its options begin and end.
    Relay {
        options: usize,
        end: usize,
    },
}

/// Looks at the type of the message of `length` octets at `message`.
#[inline(always)]
fn look<C>(packet: &C, message: usize, length: usize) -> Result<Kind, Counter>
where
    C: Cursor + ?Sized,
{
    // The outermost length may have wrapped below zero.
    if !(QUERY_HEADER_LENGTH..=LENGTH_MAX).contains(&length) {
        return Err(Counter::Truncated);
    }
    let [kind, _, _, _]: [u8; QUERY_HEADER_LENGTH] = read(packet, message)?;
    match kind {
        DHCPV4_QUERY => Ok(Kind::Query),
        RELAY_FORW if length < RELAY_HEADER_LENGTH => Err(Counter::Truncated),
        RELAY_FORW => {
            let end = forget_lower_bound::<END_MAX>(message + length);
            // Counted from the end: from the beginning, which it may know exactly, the verifier would follow
            // every number of nested relays on its own.
            let options = end.wrapping_sub(length - RELAY_HEADER_LENGTH);
            Ok(Kind::Relay { options, end })
        }
        _ => Err(Counter::NotQuery),
    }
}

/// The value itself, which is at most `MAX`, a number of ones. But the verifier, which follows every way through
/// the loop on its own unless it has seen a state at least as general before, forgets what it knows about how large
/// the value must be: one state is left for each round in place of one for each path. The black box keeps the
/// compiler, which sees that the mask does nothing, from dropping it.
#[inline(always)]
fn forget_lower_bound<const MAX: usize>(value: usize) -> usize {
    const { assert!((MAX + 1).is_power_of_two()) }
    black_box(value) & MAX
}

#[inline(always)]
fn read<C: Cursor + ?Sized, const N: usize>(packet: &C, at: usize) -> Result<[u8; N], Counter> {
    packet.octets(at).ok_or(Counter::Truncated)
}
