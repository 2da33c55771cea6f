//! Option 159 and the port sets that it describes: RFC 7618 §9, RFC 7597 §5.1.
//!
//! The PSID is kept as a plain integer everywhere; only [`PortParams::decode`] and
//! [`PortParams::encode`] know that it stands at the left end of its 16 bits on the wire (and at
//! the right end in a softwire's interface identifier, see [`interface_identifier`]).

use std::{net::Ipv4Addr, ops::RangeInclusive};

/// The greatest offset, `a` of RFC 7597 §5.1 (RFC 7618 §9: "between 0 and 15").
pub const OFFSET_MAX: u8 = 15;

/// The greatest PSID length, `k`; also the number of bits in a port.
pub const PSID_LENGTH_MAX: u8 = 16;

/// The content of option 159 (RFC 7618 §9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortParams {
    /// Offset bits, `a`: 0 to 15.
    pub offset: u8,
    /// Bits of the PSID, `k`: 0 to 16. With 0 there is no PSID and every port that the offset
    /// leaves is meant.
    pub psid_length: u8,
    /// The port set identifier, right-aligned: 0 to 2^k - 1.
    pub psid: u16,
}

impl PortParams {
    /// Checked: `None` unless offset ≤ 15, `offset + psid_length` ≤ 16 and the PSID fits its
    /// length.
    pub fn new(offset: u8, psid_length: u8, psid: u16) -> Option<Self> {
        let params = Self { offset, psid_length, psid };
        params.is_valid().then_some(params)
    }

    /// Reads the four octets of the option. `None` if they contradict themselves: the offset or the
    /// length out of range, more than 16 bits together, or padding bits set.
    #[inline]
    pub fn decode(octets: [u8; 4]) -> Option<Self> {
        let [offset, psid_length, high, low] = octets;
        if psid_length == 0 {
            // RFC 7618 §9: "When set to 0, the PSID field is to be ignored."
            return Self::new(offset, 0, 0);
        }
        let field = u16::from_be_bytes([high, low]);
        let shift = u32::from(PSID_LENGTH_MAX.checked_sub(psid_length)?);
        let psid = field.checked_shr(shift)?;
        // "The remaining (16 - k) bits on the right are padding zeros."
        if psid.checked_shl(shift)? != field {
            return None;
        }
        Self::new(offset, psid_length, psid)
    }

    /// The four octets of the option, the PSID left-aligned.
    // req-S48 (RFC 7618 §9): four octets, the PSID in the first bits of the field, zeros behind it.
    #[inline]
    pub fn encode(self) -> [u8; 4] {
        // A length of 0 shifts all 16 bits out, which `checked_shl` refuses: no PSID, all zero, as
        // it should be.
        let shift = u32::from(PSID_LENGTH_MAX.saturating_sub(self.psid_length));
        let field = self.psid.checked_shl(shift).unwrap_or(0);
        let [high, low] = field.to_be_bytes();
        [self.offset, self.psid_length, high, low]
    }

    /// Whether a client that sends this asks for a size only: a length, and no particular set (RFC
    /// 7618 §7).
    ///
    /// A client asks for its former set 0 with the same octets and an address in option 50 beside
    /// them.
    pub fn is_hint(self) -> bool {
        self.psid_length != 0 && self.psid == 0
    }

    /// Whether the three numbers fit each other.
    pub fn is_valid(self) -> bool {
        self.offset <= OFFSET_MAX
            && self.psid_length <= PSID_LENGTH_MAX
            && self.offset.saturating_add(self.psid_length) <= PSID_LENGTH_MAX
            && u32::from(self.psid) >> self.psid_length == 0
    }

    /// The ports that are meant.
    pub fn ports(self) -> PortSet {
        PortSet::from(self)
    }
}

/// The ports of one PSID (RFC 7597 §5.1): `2^a - 1` ranges of `2^m` ports, or a single range if `a`
/// is 0.
///
/// Made from parameters that contradict themselves it is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortSet {
    /// First port of the first range.
    first: u32,
    /// Distance from one range's first port to the next one's, `2^(16-a)`.
    stride: u32,
    /// Ports in a range, `2^m`.
    width: u32,
    /// Number of ranges.
    count: u32,
}

impl From<PortParams> for PortSet {
    fn from(params: PortParams) -> Self {
        if !params.is_valid() {
            return Self { first: 0, stride: 1, width: 0, count: 0 };
        }
        let bits = u32::from(PSID_LENGTH_MAX);
        let (offset, length) = (u32::from(params.offset), u32::from(params.psid_length));
        // Valid parameters have offset + length ≤ 16: no shift exceeds 16.
        let stride = 1u32 << bits.saturating_sub(offset);
        let width = 1u32 << bits.saturating_sub(offset).saturating_sub(length);
        let base = u32::from(params.psid).saturating_mul(width);
        if offset == 0 {
            Self { first: base, stride, width, count: 1 }
        } else {
            // RFC 7597 §5.1: A must be larger than 0, which leaves the lowest ports out.
            let count = (1u32 << offset).saturating_sub(1);
            Self { first: stride.saturating_add(base), stride, width, count }
        }
    }
}

impl PortSet {
    /// The ranges in ascending order.
    pub fn ranges(self) -> impl ExactSizeIterator<Item = RangeInclusive<u16>> + Clone {
        let Self { first, stride, width, count } = self;
        // At most 2^15 - 1 ranges: the conversion cannot fail.
        (0..u16::try_from(count).unwrap_or(0)).map(move |index| {
            let start = first.saturating_add(u32::from(index).saturating_mul(stride));
            port(start)..=port(start.saturating_add(width).saturating_sub(1))
        })
    }

    /// Whether `port` is one of the set.
    pub fn contains(self, port: u16) -> bool {
        let Some(above) = u32::from(port).checked_sub(self.first) else { return false };
        above / self.stride < self.count && above % self.stride < self.width
    }

    /// Whether the set has a port in `range`. Constant time, whatever the number of ranges.
    pub fn intersects(self, range: &RangeInclusive<u16>) -> bool {
        let (low, high) = (u32::from(*range.start()), u32::from(*range.end()));
        if low > high || self.count == 0 {
            return false;
        }
        // The first range of the set that does not end below `low`.
        let past = low.saturating_add(1).saturating_sub(self.first.saturating_add(self.width));
        let index = past.div_ceil(self.stride);
        let start = self.first.saturating_add(index.saturating_mul(self.stride));
        index < self.count && start <= high
    }

    /// The number of ports.
    pub fn port_count(self) -> u32 {
        self.count.saturating_mul(self.width)
    }

    /// The number of ranges.
    pub fn range_count(self) -> u32 {
        self.count
    }
}

/// A number that is below 2^16 by construction.
fn port(number: u32) -> u16 {
    u16::try_from(number).unwrap_or(u16::MAX)
}

/// Whose `port` is under the given cut of an address: the PSID, or `None` if no set has it (RFC
/// 7597 §5.1) or the cut contradicts itself. With a `psid_length` of 0 the only set is number 0.
pub fn psid_of(port: u16, offset: u8, psid_length: u8) -> Option<u16> {
    PortParams::new(offset, psid_length, 0)?;
    let (port, bits) = (u32::from(port), u32::from(PSID_LENGTH_MAX));
    let (offset, length) = (u32::from(offset), u32::from(psid_length));
    if offset > 0 && port >> bits.saturating_sub(offset) == 0 {
        return None;
    }
    let psid = (port >> bits.saturating_sub(offset).saturating_sub(length)) & ((1 << length) - 1);
    u16::try_from(psid).ok()
}

/// The interface identifier of a softwire: 16 zero bits, the IPv4 address, the PSID *right*-aligned
/// (RFC 7596 §5.1, RFC 7597 §6).
pub fn interface_identifier(address: Ipv4Addr, psid: u16) -> u64 {
    u64::from(address.to_bits()) << 16 | u64::from(psid)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::vectors;

    fn cut() -> impl Iterator<Item = (u8, u8)> {
        (0..=OFFSET_MAX).flat_map(|offset| (0..=16 - offset).map(move |length| (offset, length)))
    }

    /// `P = R*M*i + M*PSID + j` of RFC 7597 Appendix B, taken literally: the owner of each port.
    fn owners(offset: u8, length: u8) -> Vec<Option<u16>> {
        let (r, m) = (1u32 << length, 1u32 << (16 - offset - length));
        let mut owners = vec![None; 1 << 16];
        let first = u32::from(offset > 0);
        for i in first..1 << offset {
            for psid in 0..r {
                for j in 0..m {
                    let port = usize::try_from(r * m * i + m * psid + j).unwrap();
                    assert_eq!(owners[port].replace(u16::try_from(psid).unwrap()), None);
                }
            }
        }
        owners
    }

    /// case-P01 to case-P09 and the whole table of reference values.
    #[test]
    fn the_reference_table_holds() {
        for line in vectors::PORT_PARAMS.lines().filter(|line| !line.starts_with('#')) {
            let columns: Vec<&str> = line.split('|').map(str::trim).collect();
            let [offset, length, psid, option, ranges, ports, first, second, last] = columns[..]
            else {
                panic!("nine columns: {line}")
            };
            let params = PortParams::new(
                offset.parse().unwrap(),
                length.parse().unwrap(),
                psid.parse().unwrap(),
            )
            .unwrap_or_else(|| panic!("valid: {line}"));
            let octets = vectors::octets(option);
            assert_eq!(octets[..2], [159, 4], "{line}");
            let content: [u8; 4] = octets[2..].try_into().unwrap();
            assert_eq!(params.encode(), content, "{line}");
            assert_eq!(PortParams::decode(content), Some(params), "{line}");

            let set = params.ports();
            assert_eq!(set.range_count().to_string(), ranges, "{line}");
            assert_eq!(set.port_count().to_string(), ports, "{line}");
            let text = |range: RangeInclusive<u16>| match (range.start(), range.end()) {
                (start, end) if start == end => start.to_string(),
                (start, end) => format!("{start}-{end}"),
            };
            let mut written = set.ranges().map(text);
            assert_eq!(written.next().as_deref(), Some(first), "{line}");
            assert_eq!(written.next().as_deref().unwrap_or("-"), second, "{line}");
            assert_eq!(set.ranges().map(text).last().as_deref(), Some(last), "{line}");
        }
    }

    #[test]
    fn contradictions_are_invalid() {
        for (octets, why) in [
            ([0x10, 0x06, 0x04, 0x00], "M3: offset 16"),
            ([0x00, 0x11, 0xff, 0xff], "M4: 17 bits of PSID"),
            ([0x0a, 0x08, 0x01, 0x00], "M5: 18 bits together"),
            ([0x00, 0x06, 0x04, 0x01], "M6: padding bits set"),
            ([0x10, 0x00, 0x00, 0x00], "offset 16 without PSID"),
            ([0x00, 0xff, 0x00, 0x00], "255 bits of PSID"),
            ([0xff, 0xff, 0xff, 0xff], "all ones"),
        ] {
            assert_eq!(PortParams::decode(octets), None, "{why}");
        }
    }

    #[test]
    fn without_a_length_the_psid_is_ignored() {
        // M9, case-P06.
        let whole = PortParams { offset: 0, psid_length: 0, psid: 0 };
        assert_eq!(PortParams::decode([0, 0, 0x12, 0x34]), Some(whole));
        // case-P04: and nothing shifts too far.
        assert_eq!(PortParams { psid: 0x1234, ..whole }.encode(), [0, 0, 0, 0]);
        assert_eq!(whole.ports().ranges().collect::<Vec<_>>(), [0..=65535]);
    }

    #[test]
    fn a_length_without_a_psid_is_a_hint() {
        assert!(PortParams { offset: 0, psid_length: 6, psid: 0 }.is_hint());
        assert!(!PortParams { offset: 0, psid_length: 6, psid: 1 }.is_hint());
        assert!(!PortParams { offset: 0, psid_length: 0, psid: 0 }.is_hint());
    }

    /// case-P11: the sets of a cut are disjoint and together all ports from 2^(16-a) on, or all
    /// ports if a = 0. The four ways to ask (ranges, contains, count, owner) say the same.
    #[test]
    fn every_cut_divides_the_ports() {
        for (offset, length) in cut() {
            let owners = owners(offset, length);
            let lowest = if offset == 0 { 0 } else { 1 << (16 - u32::from(offset)) };
            for port in 0..=u16::MAX {
                let owner = owners[usize::from(port)];
                assert_eq!(owner.is_some(), u32::from(port) >= lowest, "{offset}/{length}");
                assert_eq!(psid_of(port, offset, length), owner, "{port} of {offset}/{length}");
                if let Some(psid) = owner {
                    let set = PortParams::new(offset, length, psid).unwrap().ports();
                    assert!(set.contains(port), "{port} of {offset}/{length}/{psid}");
                }
            }
            let mut ports = 0;
            for psid in 0..=u16::MAX {
                let Some(params) = PortParams::new(offset, length, psid) else { break };
                let set = params.ports();
                assert_eq!(set.ranges().len(), usize::try_from(set.range_count()).unwrap());
                let inside: usize = set.ranges().map(|range| range.len()).sum();
                assert_eq!(u32::try_from(inside), Ok(set.port_count()));
                for port in set.ranges().flatten() {
                    assert_eq!(owners[usize::from(port)], Some(psid), "{port}");
                }
                ports += set.port_count();
            }
            assert_eq!(ports + lowest, 1 << 16, "{offset}/{length}");
        }
    }

    #[test]
    fn a_port_has_an_owner_under_each_cut() {
        // case-P10.
        assert_eq!(psid_of(1232, 6, 8), Some(0x34));
        assert_eq!(psid_of(1023, 6, 8), None);
        assert_eq!(psid_of(1024, 10, 8), None, "no such cut");
        assert_eq!(psid_of(80, 0, 0), Some(0));
    }

    /// case-P12: which sets of a = 0 have a port below 1024.
    #[test]
    fn system_ports_exclude_the_lowest_sets() {
        for (length, usable) in [
            (1, 1),
            (2, 3),
            (3, 7),
            (4, 15),
            (5, 31),
            (6, 63),
            (7, 126),
            (8, 252),
            (9, 504),
            (10, 1008),
            (11, 2016),
            (12, 4032),
            (16, 64512),
        ] {
            let system = 0..=1023;
            let (mut excluded, mut others) = (Vec::new(), 0);
            for psid in (0..=u16::MAX).take(1 << length) {
                let set = PortParams::new(0, length, psid).unwrap().ports();
                if set.intersects(&system) { excluded.push(psid) } else { others += 1 }
            }
            assert_eq!(others, usable, "k = {length}");
            let lowest: Vec<u16> = (0..).take(excluded.len()).collect();
            assert_eq!(excluded, lowest, "k = {length}");
        }
        for offset in 1..=OFFSET_MAX {
            // RFC 7597 §5.1 says that a > 0 excludes the system ports. It does up to 6.
            let set = PortParams::new(offset, 1, 0).unwrap().ports();
            assert_eq!(set.intersects(&(0..=1023)), offset > 6, "a = {offset}");
        }
    }

    #[test]
    fn a_contradiction_has_no_ports() {
        let set = PortParams { offset: 10, psid_length: 10, psid: 0 }.ports();
        assert_eq!((set.port_count(), set.range_count(), set.ranges().count()), (0, 0, 0));
        assert!(!set.contains(0) && !set.contains(65535) && !set.intersects(&(0..=65535)));
    }

    #[test]
    fn a_softwire_carries_the_psid_on_the_right() {
        // case-P23, and RFC 7597 Appendix A example 1: ...:0:c000:212:34.
        let identifier = interface_identifier(Ipv4Addr::new(192, 0, 2, 18), 0x34);
        assert_eq!(identifier, 0x0000_c000_0212_0034);
    }

    proptest! {
        #[test]
        fn whatever_decodes_encodes_to_the_same_octets(octets: [u8; 4]) {
            if let Some(params) = PortParams::decode(octets) {
                prop_assert!(params.is_valid());
                if params.psid_length > 0 {
                    prop_assert_eq!(params.encode(), octets);
                }
            }
        }

        #[test]
        fn no_numbers_make_it_panic(offset: u8, psid_length: u8, psid: u16, port: u16) {
            let params = PortParams { offset, psid_length, psid };
            let decoded = PortParams::decode(params.encode());
            if params.is_valid() && (psid_length > 0) {
                prop_assert_eq!(decoded, Some(params));
            }
            let set = params.ports();
            prop_assert_eq!(set.contains(port), set.intersects(&(port..=port)));
        }

        #[test]
        fn an_intersection_is_a_port_in_both(
            (offset, psid_length) in (0..=OFFSET_MAX).prop_flat_map(|a| (Just(a), 0..=16 - a)),
            psid: u16,
            ends: (u16, u16),
        ) {
            let psid = u16::try_from(u32::from(psid) & ((1 << psid_length) - 1)).unwrap();
            let set = PortParams::new(offset, psid_length, psid).unwrap().ports();
            let mut range = ends.0..=ends.1;
            prop_assert_eq!(set.intersects(&range), range.any(|port| set.contains(port)));
        }
    }
}
