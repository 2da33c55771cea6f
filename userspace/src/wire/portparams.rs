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
