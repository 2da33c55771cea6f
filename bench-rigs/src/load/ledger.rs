//! Who holds what, as the clients were told, and every way in which a server can contradict it.

use std::{
    collections::HashMap,
    fmt,
    net::Ipv4Addr,
    ops::RangeInclusive,
    time::{Duration, Instant},
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
    /// An extension came back with another tuple.
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

/// Whose a tuple is.
#[derive(Clone, Copy, Debug)]
struct Holder {
    client: u32,
    until: Instant,
}

/// The leases that were acknowledged and not given up, by tuple.
#[derive(Debug, Default)]
pub struct Ledger {
    holders: HashMap<(Ipv4Addr, u16), Holder>,
    geometries: HashMap<Ipv4Addr, (u8, u8)>,
    reserved: Vec<RangeInclusive<u16>>,
    meets_reserved: HashMap<(u8, u8, u16), bool>,
    counts: [u64; Violation::ALL.len()],
    first: Option<String>,
}

impl Ledger {
    /// An empty ledger for a server that must not lease these ports.
    pub fn new(reserved: Vec<RangeInclusive<u16>>) -> Self {
        Self { reserved, ..Self::default() }
    }

    /// Enters a lease of `client` that was acknowledged just now, and checks it against all others.
    pub fn acknowledge(&mut self, client: u32, lease: &Lease, now: Instant) {
        let ports = lease.ports.unwrap_or(PortParams { offset: 0, psid_length: 0, psid: 0 });
        let geometry = (ports.offset, ports.psid_length);
        let known = *self.geometries.entry(lease.address).or_insert(geometry);
        if known != geometry {
            self.violate(Violation::TwoGeometries, || {
                format!("client {client}: {lease:?}, while the address has geometry {known:?}")
            });
        }
        if lease.ports.is_some() && self.meets_reserved(ports) {
            self.violate(Violation::ReservedPort, || format!("client {client}: {lease:?}"));
        }
        let until = now + Duration::from_secs(lease.lease_seconds.into());
        let holder = Holder { client, until };
        let before = self.holders.insert((lease.address, ports.psid), holder);
        if let Some(other) = before.filter(|other| other.client != client && other.until > now) {
            self.violate(Violation::HeldTwice, || {
                let holder = other.client;
                format!("{lease:?} is held by client {holder} and now also by client {client}")
            });
        }
    }

    /// Strikes out a lease whose extension was refused; that is a lost promise unless it had run out.
    pub fn refuse(&mut self, client: u32, lease: &Lease, now: Instant) {
        let holder = self.holders.get(&key_of(lease));
        if holder.is_some_and(|holder| holder.client == client && holder.until > now) {
            self.violate(Violation::LeaseLost, || format!("client {client}: NAK for {lease:?}"));
        }
        self.forget(client, lease);
    }

    /// Strikes out a lease that `client` gave up.
    pub fn forget(&mut self, client: u32, lease: &Lease) {
        let key = key_of(lease);
        if self.holders.get(&key).is_some_and(|holder| holder.client == client) {
            self.holders.remove(&key);
        }
    }

    /// Leases in it.
    pub fn len(&self) -> usize {
        self.holders.len()
    }

    /// Whether nothing is leased.
    pub fn is_empty(&self) -> bool {
        self.holders.is_empty()
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

    fn meets_reserved(&mut self, ports: PortParams) -> bool {
        let key = (ports.offset, ports.psid_length, ports.psid);
        *self.meets_reserved.entry(key).or_insert_with(|| {
            let set = ports.ports();
            self.reserved.iter().any(|range| set.intersects(range))
        })
    }
}

fn key_of(lease: &Lease) -> (Ipv4Addr, u16) {
    (lease.address, lease.ports.map_or(0, |ports| ports.psid))
}

#[cfg(test)]
mod tests {
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
}
