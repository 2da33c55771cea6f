//! The shape of a pool: which addresses, cut into which port sets, and which of those are never leased.
//!
//! Port-set arithmetic is that of RFC 7597 §5.1: a port is `A (a bits) | PSID (k bits) | j (m bits)`, and ports
//! with A = 0 belong to nobody if a > 0.

use std::{net::Ipv4Addr, ops::RangeInclusive};

use super::{key::LinkId, pool::Slot, record::Tuple};

/// The longest offset. With 16 no bit would be left for the PSID.
pub const OFFSET_MAX: u8 = 15;

/// The longest PSID: a port each.
pub const PSID_LENGTH_MAX: u8 = 16;

/// The most slots of one pool; each takes 16 octets and a bit.
pub const SLOTS_MAX: u64 = 1 << 28;

/// A pool as the configuration describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolSpec {
    /// Its name in the configuration.
    pub name: String,
    /// The link whose clients it serves.
    pub link: LinkId,
    /// Its addresses.
    pub ranges: Vec<RangeInclusive<Ipv4Addr>>,
    /// Offset bits, `a`. Without meaning if `psid_length` is 0.
    pub offset: u8,
    /// Bits of the PSID, `k`; 0 is a pool of whole addresses.
    pub psid_length: u8,
    /// Ports that must not be leased: a port set that has one of them is never given. Without meaning for
    /// whole addresses.
    pub reserved_ports: Vec<RangeInclusive<u16>>,
}

/// What is wrong with the shape of a pool.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GeometryError {
    /// There is nothing to lease.
    #[error("has no addresses")]
    NoAddresses,
    /// A range ends before it begins.
    #[error("range {first}-{last} ends before it begins")]
    BackwardRange {
        /// As written.
        first: Ipv4Addr,
        /// As written.
        last: Ipv4Addr,
    },
    /// An address is in two of the pool's ranges.
    #[error("address {address} is in two of its ranges")]
    RangesOverlap {
        /// The first such address.
        address: Ipv4Addr,
    },
    /// The offset has too many bits.
    #[error("psid-offset is {offset}, expected 0 to {OFFSET_MAX}")]
    OffsetTooLong {
        /// As written.
        offset: u8,
    },
    /// The PSID has too many bits.
    #[error("psid-len is {psid_length}, expected 0 to {PSID_LENGTH_MAX}")]
    PsidTooLong {
        /// As written.
        psid_length: u8,
    },
    /// Offset and PSID do not fit a port number (RFC 7598 §4.5).
    #[error("psid-offset {offset} and psid-len {psid_length} take more than the 16 bits of a port")]
    TooManyBits {
        /// As written.
        offset: u8,
        /// As written.
        psid_length: u8,
    },
    /// Every port set has a reserved port. With an offset of 7 or more all of them reach below 1024.
    #[error(
        "psid-offset {offset} and psid-len {psid_length} leave no port set without a reserved port"
    )]
    AllReserved {
        /// As written.
        offset: u8,
        /// As written.
        psid_length: u8,
    },
    /// More slots than a pool may have.
    #[error("has {slots} port sets, expected at most {SLOTS_MAX}")]
    TooManySlots {
        /// Addresses times port sets an address.
        slots: u64,
    },
}

/// A run of addresses and the index of its first one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    first: u32,
    last: u32,
    index: u32,
}

/// The checked shape of a pool: slots to tuples and back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Geometry {
    runs: Box<[Run]>,
    addresses: u32,
    offset: u8,
    psid_length: u8,
    /// One bit a PSID, set if it is never leased.
    reserved: Box<[u64]>,
    reserved_count: u32,
}

impl Geometry {
    /// Checks a pool's description.
    pub fn new(spec: &PoolSpec) -> Result<Geometry, GeometryError> {
        let (offset, psid_length) = (spec.offset, spec.psid_length);
        if offset > OFFSET_MAX {
            return Err(GeometryError::OffsetTooLong { offset });
        }
        if psid_length > PSID_LENGTH_MAX {
            return Err(GeometryError::PsidTooLong { psid_length });
        }
        if offset + psid_length > 16 {
            return Err(GeometryError::TooManyBits { offset, psid_length });
        }
        let offset = if psid_length == 0 { 0 } else { offset };
        let (runs, addresses) = runs(&spec.ranges)?;
        let slots = addresses << psid_length;
        if slots > SLOTS_MAX {
            return Err(GeometryError::TooManySlots { slots });
        }
        let addresses = u32::try_from(addresses).unwrap_or(u32::MAX);
        let mut geometry = Geometry {
            runs,
            addresses,
            offset,
            psid_length,
            reserved: vec![0; (1_usize << psid_length).div_ceil(64)].into(),
            reserved_count: 0,
        };
        if psid_length > 0 {
            for port in spec.reserved_ports.iter().cloned().flatten() {
                if let Some(psid) = geometry.psid_of(port) {
                    geometry.reserve(psid);
                }
            }
        }
        if geometry.reserved_count == geometry.psids() {
            return Err(GeometryError::AllReserved { offset, psid_length });
        }
        Ok(geometry)
    }

    fn reserve(&mut self, psid: u16) {
        let (word, bit) = (usize::from(psid) / 64, 1 << (psid % 64));
        if self.reserved[word] & bit == 0 {
            self.reserved[word] |= bit;
            self.reserved_count += 1;
        }
    }

    /// Offset bits, `a`; 0 for whole addresses.
    pub fn offset(&self) -> u8 {
        self.offset
    }

    /// Bits of the PSID, `k`; 0 for whole addresses.
    pub fn psid_length(&self) -> u8 {
        self.psid_length
    }

    /// Whether addresses are shared between clients.
    pub fn is_shared(&self) -> bool {
        self.psid_length > 0
    }

    /// The number of addresses.
    pub fn addresses(&self) -> u32 {
        self.addresses
    }

    /// The number of slots, reserved ones included.
    pub fn slots(&self) -> u32 {
        self.addresses << self.psid_length
    }

    /// The number of slots that may be leased.
    pub fn usable_slots(&self) -> u32 {
        self.addresses * (self.psids() - self.reserved_count)
    }

    /// The number of port sets of an address, reserved ones included.
    pub fn psids(&self) -> u32 {
        1 << self.psid_length
    }

    /// Port sets that are never leased, ascending.
    pub fn reserved_psids(&self) -> impl Iterator<Item = u16> {
        (0..=u16::MAX).take(self.psids() as usize).filter(|&psid| self.is_reserved(psid))
    }

    /// Whether this port set is never leased.
    // req-S41 (RFC 7618 §8): ranges of ports are reserved by leaving out the sets that meet them.
    pub fn is_reserved(&self, psid: u16) -> bool {
        self.reserved.get(usize::from(psid) / 64).is_some_and(|word| word >> (psid % 64) & 1 == 1)
    }

    /// The place of `address` among the pool's addresses.
    pub fn index_of(&self, address: Ipv4Addr) -> Option<u32> {
        let address = u32::from(address);
        let run = last_before(&self.runs, |run| run.first <= address)?;
        (address <= run.last).then(|| run.index + (address - run.first))
    }

    /// The slot of this tuple, if the pool has such an address and cuts it in this way. Reserved slots included.
    pub fn slot_of(&self, tuple: Tuple) -> Option<Slot> {
        let fits = tuple.offset == self.offset
            && tuple.psid_length == self.psid_length
            && u32::from(tuple.psid) < self.psids();
        let index = self.index_of(tuple.address)?;
        fits.then(|| Slot(index << self.psid_length | u32::from(tuple.psid)))
    }

    /// What is leased with `slot`, which must be one of this pool's.
    pub fn tuple_of(&self, slot: Slot) -> Tuple {
        let index = slot.0 >> self.psid_length;
        let run = last_before(&self.runs, |run| run.index <= index);
        let address = run.map_or(0, |run| run.first + (index - run.index));
        Tuple {
            address: Ipv4Addr::from(address),
            offset: self.offset,
            psid_length: self.psid_length,
            psid: self.psid(slot),
        }
    }

    /// The port set of `slot`.
    pub fn psid(&self, slot: Slot) -> u16 {
        u16::try_from(slot.0 & (self.psids() - 1)).unwrap_or(u16::MAX)
    }

    /// The port set that `port` is in; `None` if it is in none because the offset excludes it.
    pub fn psid_of(&self, port: u16) -> Option<u16> {
        let tuple_bits = 16 - u32::from(self.offset) - u32::from(self.psid_length);
        let excluded = self.offset > 0 && u32::from(port) >> (16 - self.offset) == 0;
        let psid = u32::from(port) >> tuple_bits & (self.psids() - 1);
        (!excluded).then(|| u16::try_from(psid).unwrap_or(u16::MAX))
    }

    /// Slots of the tuple's address that have a port in common with it. For tuples of another shape.
    pub fn slots_meeting(&self, tuple: Tuple) -> Vec<Slot> {
        let Some(index) = self.index_of(tuple.address) else { return Vec::new() };
        let first = index << self.psid_length;
        if !self.is_shared() {
            return vec![Slot(first)];
        }
        let mut met = vec![tuple.psid_length == 0; self.psids() as usize];
        for port in tuple.ports() {
            if let Some(psid) = self.psid_of(port) {
                met[usize::from(psid)] = true;
            }
        }
        (first..).zip(met).filter(|&(_, met)| met).map(|(slot, _)| Slot(slot)).collect()
    }

    /// Runs of addresses, ascending: first and last address.
    pub(super) fn address_runs(&self) -> impl Iterator<Item = (u32, u32)> {
        self.runs.iter().map(|run| (run.first, run.last))
    }
}

/// The last of the runs for which `begins` holds, which it does for the first ones. Most often there is one run.
#[inline]
pub(super) fn last_before<R>(runs: &[R], begins: impl Fn(&R) -> bool) -> Option<&R> {
    match runs {
        [only] => Some(only).filter(|run| begins(run)),
        _ => runs[..runs.partition_point(begins)].last(),
    }
}

/// Sorts ranges and numbers their addresses.
fn runs(ranges: &[RangeInclusive<Ipv4Addr>]) -> Result<(Box<[Run]>, u64), GeometryError> {
    let mut sorted: Vec<(Ipv4Addr, Ipv4Addr)> =
        ranges.iter().map(|range| (*range.start(), *range.end())).collect();
    sorted.sort_unstable();
    let mut runs: Vec<Run> = Vec::with_capacity(sorted.len());
    let mut addresses = 0_u64;
    for (first, last) in sorted {
        if last < first {
            return Err(GeometryError::BackwardRange { first, last });
        }
        let (first, last) = (u32::from(first), u32::from(last));
        if runs.last().is_some_and(|run| run.last >= first) {
            return Err(GeometryError::RangesOverlap { address: Ipv4Addr::from(first) });
        }
        // A sum that does not fit is refused as too many slots before the index is used.
        runs.push(Run { first, last, index: u32::try_from(addresses).unwrap_or(u32::MAX) });
        addresses += u64::from(last - first) + 1;
    }
    if runs.is_empty() {
        return Err(GeometryError::NoAddresses);
    }
    Ok((runs.into(), addresses))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn spec(addresses: &[(&str, &str)], offset: u8, psid_length: u8) -> PoolSpec {
        PoolSpec {
            name: "P".into(),
            link: LinkId(0),
            ranges: addresses
                .iter()
                .map(|(first, last)| first.parse().unwrap()..=last.parse().unwrap())
                .collect(),
            offset,
            psid_length,
            reserved_ports: vec![0..=1023],
        }
    }

    fn one_address(offset: u8, psid_length: u8) -> Result<Geometry, GeometryError> {
        Geometry::new(&spec(&[("192.0.2.1", "192.0.2.1")], offset, psid_length))
    }

    #[test]
    fn well_known_ports_exclude_the_port_sets_of_the_table() {
        let table = [
            (1, 1, 1),
            (2, 1, 3),
            (3, 1, 7),
            (4, 1, 15),
            (5, 1, 31),
            (6, 1, 63),
            (7, 2, 126),
            (8, 4, 252),
            (9, 8, 504),
            (10, 16, 1008),
            (11, 32, 2016),
            (12, 64, 4032),
            (16, 1024, 64512),
        ];
        for (psid_length, excluded, usable) in table {
            let geometry = one_address(0, psid_length).unwrap();
            let reserved: Vec<u16> = geometry.reserved_psids().collect();
            assert_eq!(reserved, (0..excluded).collect::<Vec<u16>>(), "k = {psid_length}");
            assert_eq!(geometry.usable_slots(), usable, "k = {psid_length}");
        }
    }

    #[test]
    fn offsets_up_to_six_exclude_nothing_and_longer_ones_everything() {
        for offset in 1..=6 {
            for psid_length in 1..=8 {
                let geometry = one_address(offset, psid_length).unwrap();
                assert_eq!(geometry.reserved_psids().count(), 0);
            }
        }
        for offset in 7..=15 {
            assert_eq!(
                one_address(offset, 1),
                Err(GeometryError::AllReserved { offset, psid_length: 1 }),
            );
        }
    }

    #[test]
    fn system_ports_are_leased_if_nothing_is_reserved() {
        let mut spec = spec(&[("192.0.2.1", "192.0.2.1")], 0, 6);
        spec.reserved_ports.clear();
        assert_eq!(Geometry::new(&spec).unwrap().usable_slots(), 64);
        (spec.offset, spec.psid_length) = (8, 6);
        assert_eq!(Geometry::new(&spec).unwrap().usable_slots(), 64);
    }

    #[test]
    fn further_reserved_ports_exclude_the_port_sets_they_meet() {
        let mut spec = spec(&[("192.0.2.1", "192.0.2.1")], 0, 6);
        spec.reserved_ports.push(5060..=5061);
        assert_eq!(Geometry::new(&spec).unwrap().reserved_psids().collect::<Vec<_>>(), [0, 4]);
    }

    #[test]
    fn whole_addresses_have_no_offset_and_nothing_reserved() {
        let geometry = Geometry::new(&spec(&[("203.0.113.10", "203.0.113.12")], 6, 0)).unwrap();
        assert_eq!((geometry.offset(), geometry.slots(), geometry.usable_slots()), (0, 3, 3));
        let tuple = Tuple::whole(Ipv4Addr::new(203, 0, 113, 11));
        assert_eq!(geometry.slot_of(tuple), Some(Slot(1)));
        assert_eq!(geometry.tuple_of(Slot(1)), tuple);
    }

    #[test]
    fn impossible_shapes_are_refused_by_name() {
        assert_eq!(one_address(16, 0), Err(GeometryError::OffsetTooLong { offset: 16 }));
        assert_eq!(one_address(0, 17), Err(GeometryError::PsidTooLong { psid_length: 17 }));
        assert_eq!(
            one_address(6, 11),
            Err(GeometryError::TooManyBits { offset: 6, psid_length: 11 })
        );
        assert_eq!(Geometry::new(&spec(&[], 0, 6)), Err(GeometryError::NoAddresses));
        assert_eq!(
            Geometry::new(&spec(&[("0.0.0.0", "255.255.255.255")], 0, 16)),
            Err(GeometryError::TooManySlots { slots: 1 << 48 }),
        );
        assert_eq!(
            Geometry::new(&spec(&[("192.0.2.9", "192.0.2.1")], 0, 6)),
            Err(GeometryError::BackwardRange {
                first: "192.0.2.9".parse().unwrap(),
                last: "192.0.2.1".parse().unwrap(),
            }),
        );
        assert_eq!(
            Geometry::new(&spec(&[("192.0.2.5", "192.0.2.9"), ("192.0.2.1", "192.0.2.5")], 0, 6)),
            Err(GeometryError::RangesOverlap { address: "192.0.2.5".parse().unwrap() }),
        );
    }

    #[test]
    fn addresses_outside_and_tuples_of_another_shape_have_no_slot() {
        let ranges = [("192.0.2.1", "192.0.2.2"), ("192.0.2.8", "192.0.2.8")];
        let geometry = Geometry::new(&spec(&ranges, 4, 6)).unwrap();
        let tuple = |address: &str, offset, psid_length, psid| Tuple {
            address: address.parse().unwrap(),
            offset,
            psid_length,
            psid,
        };
        assert_eq!(geometry.slot_of(tuple("192.0.2.8", 4, 6, 5)), Some(Slot(2 << 6 | 5)));
        for bad in [
            tuple("192.0.2.0", 4, 6, 5),
            tuple("192.0.2.3", 4, 6, 5),
            tuple("192.0.2.9", 4, 6, 5),
            tuple("192.0.2.8", 3, 6, 5),
            tuple("192.0.2.8", 4, 7, 5),
            tuple("192.0.2.8", 4, 6, 64),
        ] {
            assert_eq!(geometry.slot_of(bad), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn slots_and_tuples_are_one_to_one_and_ports_belong_to_one_slot(
            offset in 0_u8..=6, psid_length in 1_u8..=8, seed: u32,
        ) {
            let ranges = [("192.0.2.1", "192.0.2.3"), ("198.51.100.0", "198.51.100.1")];
            let geometry = Geometry::new(&spec(&ranges, offset, psid_length)).unwrap();
            let slot = Slot(seed % geometry.slots());
            let tuple = geometry.tuple_of(slot);
            prop_assert_eq!(geometry.slot_of(tuple), Some(slot));
            for port in tuple.ports() {
                prop_assert_eq!(geometry.psid_of(port), Some(tuple.psid));
            }
            prop_assert_eq!(geometry.slots_meeting(tuple), vec![slot]);
        }

        #[test]
        fn slots_meeting_a_tuple_of_another_shape_are_those_that_share_a_port(
            (offset, psid_length, psid) in (0_u8..=6, 0_u8..=8, 0_u16..256),
            (other_offset, other_length) in (0_u8..=6, 0_u8..=6),
        ) {
            let geometry =
                Geometry::new(&spec(&[("192.0.2.1", "192.0.2.2")], other_offset, other_length))
                    .unwrap();
            let address = Ipv4Addr::new(192, 0, 2, 2);
            let tuple = if psid_length == 0 {
                Tuple::whole(address)
            } else {
                Tuple { address, offset, psid_length, psid: psid % (1 << psid_length) }
            };
            let theirs: std::collections::HashSet<u16> = tuple.ports().collect();
            let first = 1 << other_length;
            let expected: Vec<Slot> = (first..first * 2)
                .map(Slot)
                .filter(|&slot| {
                    geometry.tuple_of(slot).ports().any(|port| theirs.contains(&port))
                })
                .collect();
            prop_assert_eq!(geometry.slots_meeting(tuple), expected);
        }
    }
}
