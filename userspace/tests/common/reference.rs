//! The reference configuration: four links, with shared pools, a full one, and both.

use std::net::{Ipv4Addr, Ipv6Addr};

use portlease::{
    engine::{
        options::OptionSet,
        policy::{Link, Match, Policy, Prefer, Prefix, Times},
    },
    lease::{geometry::PoolSpec, key::LinkId, pool::PoolId},
};

/// The server identifier of the reference configuration.
pub const SERVER_ID: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 254);

/// Links of the reference configuration, by the third group of their prefix.
pub const L1: u16 = 1;
pub const L2: u16 = 2;
pub const L3: u16 = 3;
pub const L4: u16 = 4;

/// A pool of `first` to `last`.
pub fn pool(
    name: &str,
    link: u16,
    addresses: (&str, &str),
    offset: u8,
    psid_length: u8,
) -> PoolSpec {
    PoolSpec {
        name: name.to_owned(),
        link: LinkId(link - 1),
        ranges: vec![addresses.0.parse().unwrap()..=addresses.1.parse().unwrap()],
        offset,
        psid_length,
        reserved_ports: vec![0..=1023],
    }
}

/// The pools of the reference configuration.
pub fn reference_pools() -> Vec<PoolSpec> {
    vec![
        pool("P1", L1, ("192.0.2.18", "192.0.2.19"), 0, 6),
        pool("P2", L2, ("198.51.100.1", "198.51.100.1"), 6, 8),
        pool("F", L3, ("203.0.113.10", "203.0.113.12"), 0, 0),
        pool("P4", L4, ("192.0.2.40", "192.0.2.40"), 0, 6),
        pool("F4", L4, ("203.0.113.40", "203.0.113.40"), 0, 0),
    ]
}

/// The policy of the reference configuration.
pub fn reference_policy() -> Policy {
    let link = |name: &str, shared: &[u16], full: &[u16]| Link {
        name: name.to_owned(),
        shared: shared.iter().copied().map(PoolId).collect(),
        full: full.iter().copied().map(PoolId).collect(),
        prefer: Prefer::Shared,
        options: OptionSet::default(),
    };
    let prefix = |link: u16| Some(Prefix { address: network(link), length: 64 });
    let matches = (L1..=L4).flat_map(|link| {
        let by_link = Match { link_address: prefix(link), ..Match::default() };
        let by_source = Match { source: prefix(link), ..Match::default() };
        [(by_link, LinkId(link - 1)), (by_source, LinkId(link - 1))]
    });
    let times = Times {
        lease_seconds: 3600,
        lease_seconds_max: 86400,
        offer_hold_seconds: 60,
        hold_down_seconds: 120,
        decline_hold_seconds: 86400,
        early_renewal_percent: 10,
    };
    let links = vec![
        link("L1", &[0], &[]),
        link("L2", &[1], &[]),
        link("L3", &[], &[2]),
        link("L4", &[3], &[4]),
    ];
    Policy::new(SERVER_ID, times, links, matches.collect())
}

/// `2001:db8:LINK::`
pub fn network(link: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, link, 0, 0, 0, 0, 0)
}
