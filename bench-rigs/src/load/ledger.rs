//! Who holds what, as the clients were told, and every way in which a server can contradict it.

use std::{
    collections::HashMap,
    fmt,
    hash::{BuildHasherDefault, Hasher},
    net::Ipv4Addr,
    ops::RangeInclusive,
    time::Instant,
};

use portlease::wire::portparams::PortParams;

use crate::message::Lease;

/// A way in which an answer breaks a promise or the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Violation {
    /// A tuple was acknowledged to two clients.
    HeldTwice,
    /// One address was leased with two geometries, whose port sets may overlap (RFC 7597 §5.1).
    TwoGeometries,
    /// A port set with a reserved port in it (RFC 7618 §9).
    ReservedPort,
    /// An ACK has another tuple than the OFFER that it follows, or than the lease that it extends.
    TupleChanged,
    /// The extension of a lease that was acknowledged was refused.
    LeaseLost,
    /// The client identifier did not come back unaltered (RFC 6842 §3).
    Identifier,
    /// Option 54 names another server than before.
    ServerId,
    /// Option 159 was malformed.
    PortParams,
    /// A lease time of zero, or T1 and T2 that are not below it in this order (RFC 2131 §4.4.5).
    Times,
    /// A kind of message that does not answer what was asked.
    Unasked,
}

impl Violation {
    /// All of them.
    pub const ALL: [Violation; 10] = [
        Violation::HeldTwice,
        Violation::TwoGeometries,
        Violation::ReservedPort,
        Violation::TupleChanged,
        Violation::LeaseLost,
        Violation::Identifier,
        Violation::ServerId,
        Violation::PortParams,
        Violation::Times,
        Violation::Unasked,
    ];

    /// Its name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Violation::HeldTwice => "held-twice",
            Violation::TwoGeometries => "two-geometries",
            Violation::ReservedPort => "reserved-port",
            Violation::TupleChanged => "tuple-changed",
            Violation::LeaseLost => "lease-lost",
            Violation::Identifier => "client-identifier",
            Violation::ServerId => "server-identifier",
            Violation::PortParams => "port-parameters",
            Violation::Times => "times",
            Violation::Unasked => "unasked",
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Whose a tuple is, in 8 octets.
#[derive(Clone, Copy, Debug)]
struct Holder {
    client: u32,
    /// In quarters of a second since the ledger was made, rounded down: a lease may seem to run out a little early,
    /// so that no server is blamed wrongly.
    until: u32,
}

impl Holder {
    const NOBODY: Self = Self { client: u32::MAX, until: 0 };
}

/// One address: its geometry, and where its port sets begin among the holders.
#[derive(Clone, Copy, Debug)]
struct Shelf {
    offset: u8,
    psid_length: u8,
    first: usize,
}

/// Hashes an address by one multiplication: addresses are consecutive, and nobody attacks the rig.
#[derive(Clone, Copy, Debug, Default)]
struct AddressHasher(u64);

impl Hasher for AddressHasher {
    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 32
    }

    fn write(&mut self, octets: &[u8]) {
        for &octet in octets {
            self.write_u32(octet.into());
        }
    }

    fn write_u32(&mut self, value: u32) {
        self.0 = (self.0 ^ u64::from(value)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

/// The leases that were acknowledged and not given up, by tuple.
///
/// The port sets of an address lie side by side, in the geometry in which the address was first seen.
#[derive(Debug)]
pub struct Ledger {
    shelves: HashMap<u32, Shelf, BuildHasherDefault<AddressHasher>>,
    holders: Vec<Holder>,
    /// Holders of port sets that the geometry of their address does not have.
    strays: HashMap<(u32, u16), Holder>,
    held: usize,
    reserved: Vec<RangeInclusive<u16>>,
    /// By geometry: which PSIDs were found to be free of reserved ports.
    free_of_reserved: HashMap<(u8, u8), Vec<bool>, BuildHasherDefault<AddressHasher>>,
    counts: [u64; Violation::ALL.len()],
    first: Option<String>,
    began: Instant,
}

impl Ledger {
    /// An empty ledger for a server that must not lease these ports.
    pub fn new(reserved: Vec<RangeInclusive<u16>>) -> Self {
        Self {
            shelves: HashMap::default(),
            holders: Vec::new(),
            strays: HashMap::new(),
            held: 0,
            reserved,
            free_of_reserved: HashMap::default(),
            counts: [0; Violation::ALL.len()],
            first: None,
            began: Instant::now(),
        }
    }

    /// Makes room for this many leases, so that the ledger need not grow while it is measured with. Costs memory only
    /// as it is used.
    pub fn reserve(&mut self, leases: usize) {
        self.holders.reserve(leases);
    }

    /// Enters a lease of `client` that was acknowledged just now, and checks it against all others.
    pub fn acknowledge(&mut self, client: u32, lease: &Lease, now: Instant) {
        let ports = lease.ports.unwrap_or(WHOLE);
        let known = self.shelf_for(lease.address, ports);
        if (known.offset, known.psid_length) != (ports.offset, ports.psid_length) {
            self.violate(Violation::TwoGeometries, || {
                let geometry = (known.offset, known.psid_length);
                format!("client {client}: {lease:?}, while the address has geometry {geometry:?}")
            });
        }
        if lease.ports.is_some() && self.meets_reserved(ports) {
            self.violate(Violation::ReservedPort, || format!("client {client}: {lease:?}"));
        }
        let moment = self.quarters(now);
        let until = moment.saturating_add(lease.lease_seconds.saturating_mul(4));
        let place = self.place(lease.address, ports.psid, known);
        let before = std::mem::replace(place, Holder { client, until });
        if before.client == u32::MAX {
            self.held += 1;
        } else if before.client != client && before.until > moment {
            self.violate(Violation::HeldTwice, || {
                let holder = before.client;
                format!("{lease:?} is held by client {holder} and now also by client {client}")
            });
        }
    }

    /// Strikes out a lease whose extension was refused; that is a lost promise unless it had run out.
    pub fn refuse(&mut self, client: u32, lease: &Lease, now: Instant) {
        let moment = self.quarters(now);
        let holder = self.holder(lease);
        if holder.is_some_and(|holder| holder.client == client && holder.until > moment) {
            self.violate(Violation::LeaseLost, || format!("client {client}: NAK for {lease:?}"));
        }
        self.forget(client, lease);
    }

    /// Strikes out a lease that `client` gave up.
    pub fn forget(&mut self, client: u32, lease: &Lease) {
        if let Some(holder) = self.holder(lease).filter(|holder| holder.client == client) {
            *holder = Holder::NOBODY;
            self.held -= 1;
        }
    }

    /// The shelf of an address; a new one in the geometry of these ports, if it is seen for the first time.
    #[inline]
    fn shelf_for(&mut self, address: Ipv4Addr, ports: PortParams) -> Shelf {
        let holders = &mut self.holders;
        *self.shelves.entry(address.to_bits()).or_insert_with(|| {
            let first = holders.len();
            let sets = 1 << ports.psid_length.min(16);
            holders.resize(first + sets, Holder::NOBODY);
            Shelf { offset: ports.offset, psid_length: ports.psid_length, first }
        })
    }

    /// Where the holder of a port set stands.
    #[inline]
    fn place(&mut self, address: Ipv4Addr, psid: u16, of: Shelf) -> &mut Holder {
        let at = of.first + usize::from(psid);
        let fits = u32::from(psid) < 1 << of.psid_length.min(16);
        match self.holders.get_mut(at).filter(|_| fits) {
            Some(holder) => holder,
            None => self.strays.entry((address.to_bits(), psid)).or_insert(Holder::NOBODY),
        }
    }

    /// The holder of a lease.
    fn holder(&mut self, lease: &Lease) -> Option<&mut Holder> {
        let of = *self.shelves.get(&lease.address.to_bits())?;
        Some(self.place(lease.address, lease.ports.map_or(0, |ports| ports.psid), of))
    }

    fn quarters(&self, now: Instant) -> u32 {
        let since = now.saturating_duration_since(self.began);
        u32::try_from(since.as_millis() / 250).unwrap_or(u32::MAX)
    }

    /// Leases in it.
    pub fn len(&self) -> usize {
        self.held
    }

    /// Whether nothing is leased.
    pub fn is_empty(&self) -> bool {
        self.held == 0
    }

    /// Counts a violation; the first one is kept in words.
    pub fn violate(&mut self, violation: Violation, story: impl FnOnce() -> String) {
        self.counts[violation as usize] += 1;
        if self.first.is_none() {
            self.first = Some(format!("{violation}: {}", story()));
        }
    }

    /// How often each violation was seen.
    pub fn violations(&self) -> impl Iterator<Item = (Violation, u64)> {
        Violation::ALL.into_iter().zip(self.counts).filter(|&(_, count)| count > 0)
    }

    /// All violations together.
    pub fn violation_count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The first violation, in words.
    pub fn first_violation(&self) -> Option<&str> {
        self.first.as_deref()
    }

    #[inline]
    fn meets_reserved(&mut self, ports: PortParams) -> bool {
        let geometry = (ports.offset, ports.psid_length);
        let free = self.free_of_reserved.entry(geometry).or_default();
        let at = usize::from(ports.psid);
        if free.get(at) == Some(&true) {
            return false;
        }
        let set = ports.ports();
        let meets = self.reserved.iter().any(|range| set.intersects(range));
        if !meets {
            free.resize(free.len().max(at + 1), false);
            free[at] = true;
        }
        meets
    }
}

/// The ports of a whole address.
const WHOLE: PortParams = PortParams { offset: 0, psid_length: 0, psid: 0 };

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn lease(psid: u16, psid_length: u8) -> Lease {
        Lease {
            address: Ipv4Addr::new(192, 0, 2, 18),
            ports: Some(PortParams { offset: 0, psid_length, psid }),
            server: Ipv4Addr::new(192, 0, 2, 254),
            lease_seconds: 3600,
        }
    }

    fn seen(ledger: &Ledger) -> Vec<(Violation, u64)> {
        ledger.violations().collect()
    }

    #[test]
    fn a_tuple_held_by_two_is_seen_and_one_that_was_given_up_is_free() {
        let now = Instant::now();
        let mut ledger = Ledger::new(vec![0..=1023]);
        ledger.acknowledge(1, &lease(5, 6), now);
        ledger.acknowledge(1, &lease(5, 6), now);
        ledger.acknowledge(2, &lease(6, 6), now);
        assert_eq!(seen(&ledger), []);
        ledger.acknowledge(2, &lease(5, 6), now);
        assert_eq!(seen(&ledger), [(Violation::HeldTwice, 1)]);
        assert!(ledger.first_violation().unwrap().contains("client 1"));
        ledger.forget(2, &lease(5, 6));
        ledger.acknowledge(3, &lease(5, 6), now);
        assert_eq!(ledger.violation_count(), 1);
    }

    #[test]
    fn a_stranger_cannot_strike_out_a_lease() {
        let mut ledger = Ledger::new(Vec::new());
        ledger.acknowledge(1, &lease(5, 6), Instant::now());
        ledger.forget(2, &lease(5, 6));
        assert_eq!(ledger.len(), 1);
    }

    #[test]
    fn a_lease_that_ran_out_binds_nobody() {
        let now = Instant::now();
        let later = now + Duration::from_secs(3601);
        let mut ledger = Ledger::new(Vec::new());
        ledger.acknowledge(1, &lease(5, 6), now);
        ledger.acknowledge(2, &lease(5, 6), later);
        ledger.refuse(1, &lease(5, 6), later);
        assert_eq!(seen(&ledger), []);
        ledger.refuse(2, &lease(5, 6), later);
        assert_eq!(seen(&ledger), [(Violation::LeaseLost, 1)]);
        assert!(ledger.is_empty());
    }

    #[test]
    fn reserved_ports_and_mixed_geometries_are_seen() {
        let now = Instant::now();
        let mut ledger = Ledger::new(vec![0..=1023]);
        ledger.acknowledge(1, &lease(0, 6), now);
        assert_eq!(seen(&ledger), [(Violation::ReservedPort, 1)]);
        ledger.acknowledge(2, &lease(77, 8), now);
        assert_eq!(seen(&ledger), [(Violation::TwoGeometries, 1), (Violation::ReservedPort, 1)]);
    }

    #[test]
    fn port_sets_beyond_the_geometry_of_an_address_are_kept_apart() {
        let now = Instant::now();
        let mut ledger = Ledger::new(Vec::new());
        ledger.acknowledge(1, &lease(5, 6), now);
        ledger.acknowledge(2, &lease(200, 8), now);
        ledger.acknowledge(3, &lease(200, 8), now);
        let expected = [(Violation::HeldTwice, 1), (Violation::TwoGeometries, 2)];
        assert_eq!(seen(&ledger), expected);
        assert_eq!(ledger.len(), 2);
        ledger.forget(3, &lease(200, 8));
        ledger.forget(1, &lease(5, 6));
        assert!(ledger.is_empty());
    }

    /// Many addresses, whole and shared, against the plainest memory that there is.
    #[test]
    fn a_long_life_is_remembered_as_by_a_map() {
        let mut random = fastrand::Rng::with_seed(11);
        let now = Instant::now();
        let mut ledger = Ledger::new(Vec::new());
        let mut plain: HashMap<(Ipv4Addr, u16), u32> = HashMap::new();
        let mut twice = 0;
        for _ in 0..50_000 {
            let last = random.u8(..);
            let address = Ipv4Addr::new(10, 0, random.u8(..4), last);
            let whole = last.is_multiple_of(2);
            let psid = if whole { 0 } else { random.u16(..64) };
            let ports = (!whole).then_some(PortParams { offset: 0, psid_length: 6, psid });
            let client = random.u32(..100);
            let one = Lease { address, ports, ..lease(0, 6) };
            if random.bool() {
                twice += u64::from(
                    plain.insert((address, psid), client).is_some_and(|other| other != client),
                );
                ledger.acknowledge(client, &one, now);
            } else {
                if plain.get(&(address, psid)) == Some(&client) {
                    plain.remove(&(address, psid));
                }
                ledger.forget(client, &one);
            }
            assert_eq!(ledger.len(), plain.len());
        }
        assert!(twice > 0);
        assert_eq!(seen(&ledger), [(Violation::HeldTwice, twice)]);
    }
}
