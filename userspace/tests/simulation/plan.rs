//! The configuration: tiny pools, so that tuples are contended, and what an operator may do to them at a restart.

use std::{net::Ipv4Addr, sync::Arc};

use portlease::{
    engine::{
        options::OptionSet,
        policy::{
            Link, Match, Policy, Prefer, Prefix, Reservation, ReservedFor, SitePolicy, Softwire,
            SoftwireConflict, Times,
        },
    },
    lease::{
        Features, Settings,
        geometry::PoolSpec,
        key::LinkId,
        pool::PoolId,
        pools::Pools,
        promise::Watermarks,
        record::{NEVER, Tuple},
    },
};

use crate::common::{client_identifier, network, reference_policy};

/// The links, by the third group of their prefix.
pub const LINKS: [u16; 2] = [1, 2];

/// Ways to cut an address: offset bits and bits of the PSID.
const CUTS: [(u8, u8); 5] = [(0, 2), (6, 1), (6, 2), (0, 3), (0, 0)];

/// How long things last in this history, in seconds.
#[derive(Clone, Copy, Debug)]
pub struct Durations {
    pub hold_down: u32,
    pub decline_hold: u32,
    pub offer_hold: u32,
    early_percent: u8,
    lease_max: u32,
}

/// What the server does besides leasing in this history.
#[derive(Clone, Copy, Debug)]
pub struct Extras {
    /// Clients with a lease or an offer that a site has at most; 0: any number.
    pub leases_per_site_max: u32,
    /// Direct clients of one link are one site, or each is its own.
    site_prefix_length: u8,
    /// The least time between two softwire addresses of a lease, in seconds, where leases have softwires.
    softwire_interval: Option<u32>,
    conflict: SoftwireConflict,
}

/// An address, cut in some way.
#[derive(Clone, Copy, Debug)]
struct Planned {
    name: &'static str,
    link: u16,
    address: Ipv4Addr,
    cut: (u8, u8),
    removed: bool,
}

/// The configuration of the next start.
#[derive(Clone, Debug)]
pub struct Plan {
    pub durations: Durations,
    pub extras: Extras,
    /// The client, by its number, and what is reserved for it.
    reserved: Option<(u8, Tuple)>,
    pools: Vec<Planned>,
    /// A link's number in the configuration is its place here.
    links: Vec<u16>,
    prefer: Prefer,
    authoritative: bool,
}

impl Plan {
    pub fn new(random: &mut fastrand::Rng) -> Plan {
        let pool = |name, link, last: u8, cut| {
            let address = Ipv4Addr::new(192, 0, 2, last);
            Planned { name, link, address, cut, removed: false }
        };
        let mut plan = Plan {
            durations: Durations {
                hold_down: random.u32(0..15).saturating_sub(4),
                decline_hold: random.u32(20..60),
                offer_hold: random.u32(3..15),
                early_percent: random.u8(0..60),
                lease_max: if random.u32(0..4) == 0 { NEVER } else { 200 },
            },
            extras: Extras {
                leases_per_site_max: random.u32(0..6).saturating_sub(2),
                site_prefix_length: if random.bool() { 64 } else { 128 },
                softwire_interval: [None, Some(0), Some(20)][random.usize(0..3)],
                conflict: if random.bool() {
                    SoftwireConflict::Existing
                } else {
                    SoftwireConflict::Drop
                },
            },
            reserved: None,
            pools: vec![
                pool("shared", 1, 1, (0, 2)),
                pool("whole", 1, 2, (0, 0)),
                pool("halves", 1, 3, (6, 1)),
                pool("other", 2, 4, (6, 1)),
            ],
            links: LINKS.to_vec(),
            prefer: if random.bool() { Prefer::Shared } else { Prefer::Full },
            authoritative: random.bool(),
        };
        if random.bool() {
            // Fewer tuples than clients.
            plan.pools.remove(2);
        }
        if random.u32(0..3) == 0 {
            plan.reserve(random);
        }
        plan
    }

    /// What an operator may do between two lives: remove a pool or bring one back, cut it anew, give it to another
    /// link, put everything in another order.
    pub fn change(&mut self, random: &mut fastrand::Rng) {
        let at = random.usize(0..self.pools.len());
        match random.u32(0..7) {
            5 => self.reserved = None,
            6 => self.reserve(random),
            0 => self.pools[at].removed = !self.pools[at].removed,
            1 => self.pools[at].cut = CUTS[random.usize(0..CUTS.len())],
            2 => self.pools[at].link = LINKS[random.usize(0..LINKS.len())],
            3 => random.shuffle(&mut self.pools),
            _ => random.shuffle(&mut self.links),
        }
    }

    /// Reserves a tuple for a client with an identifier, whether its link has it or not.
    fn reserve(&mut self, random: &mut fastrand::Rng) {
        let client = random.u8(1..5);
        self.reserved = Some((client, self.any_tuple(1, random)));
    }

    /// What is reserved in fact: a tuple of a pool that may be leased.
    pub fn reserved(&self) -> Option<(u8, Tuple)> {
        self.reserved.filter(|(_, tuple)| {
            let pools = Pools::new(&self.pools()).unwrap();
            let at = pools.locate_tuple(*tuple);
            at.is_some_and(|at| !pools.get(at.pool).geometry().is_reserved(tuple.psid))
        })
    }

    fn reservation(&self) -> Option<Reservation> {
        let (client, tuple) = self.reserved()?;
        let pool = self.served().find(|pool| pool.address == tuple.address)?;
        Some(Reservation {
            link: self.link_id(pool.link),
            client: ReservedFor::ClientIdentifier(client_identifier(client)),
            tuple,
        })
    }

    fn served(&self) -> impl Iterator<Item = &Planned> {
        self.pools.iter().filter(|pool| !pool.removed)
    }

    fn link_id(&self, link: u16) -> LinkId {
        let place = self.links.iter().position(|other| *other == link).unwrap();
        LinkId(u16::try_from(place).unwrap())
    }

    pub fn pools(&self) -> Vec<PoolSpec> {
        let spec = |pool: &Planned| PoolSpec {
            name: pool.name.to_owned(),
            link: self.link_id(pool.link),
            ranges: vec![pool.address..=pool.address],
            offset: pool.cut.0,
            psid_length: pool.cut.1,
            reserved_ports: vec![0..=1023],
        };
        self.served().map(spec).collect()
    }

    pub fn policy(&self) -> Policy {
        let pools_of = |link: u16, shared: bool| {
            let numbered = (0..).map(PoolId).zip(self.served());
            let fits = move |pool: &Planned| pool.link == link && (pool.cut.1 > 0) == shared;
            numbered.filter(move |(_, pool)| fits(pool)).map(|(id, _)| id).collect()
        };
        let link = |link: &u16| Link {
            name: format!("L{link}"),
            shared: pools_of(*link, true),
            full: pools_of(*link, false),
            prefer: self.prefer,
            options: OptionSet::default(),
        };
        let matches = self.links.iter().flat_map(|&link| {
            let prefix = Some(Prefix { address: network(link), length: 64 });
            let by_link = Match { link_address: prefix, ..Match::default() };
            let by_source = Match { source: prefix, ..Match::default() };
            [(by_link, self.link_id(link)), (by_source, self.link_id(link))]
        });
        Policy {
            times: Times {
                lease_seconds: 90,
                lease_seconds_max: self.durations.lease_max,
                offer_hold_seconds: self.durations.offer_hold,
                hold_down_seconds: self.durations.hold_down,
                decline_hold_seconds: self.durations.decline_hold,
                early_renewal_percent: self.durations.early_percent,
            },
            links: self.links.iter().map(link).collect(),
            matches: matches.collect(),
            authoritative: self.authoritative,
            reservations: self.reservation().into_iter().collect(),
            softwire: self.extras.softwire_interval.map(|seconds| Softwire {
                update_interval_seconds: seconds,
                conflict: self.extras.conflict,
                ..Softwire::default()
            }),
            sites: SitePolicy {
                prefix_length: self.extras.site_prefix_length,
                ..SitePolicy::default()
            },
            ..reference_policy()
        }
    }

    pub fn settings(&self, watermarks: &Arc<Watermarks>) -> Settings {
        Settings {
            capacity: 100,
            offers_max: 4,
            hold_down_seconds: self.durations.hold_down,
            decline_hold_seconds: self.durations.decline_hold,
            watermarks: Arc::clone(watermarks),
            shards: Some(2),
            features: Features {
                leases_per_site_max: self.extras.leases_per_site_max,
                softwires: self.extras.softwire_interval.is_some(),
                withheld: self.reserved().into_iter().map(|(_, tuple)| tuple).collect(),
            },
        }
    }

    /// Any tuple, reserved and unserved ones among them, mostly of the link.
    pub fn any_tuple(&self, link: u16, random: &mut fastrand::Rng) -> Tuple {
        let mut pools: Vec<&Planned> = self.pools.iter().collect();
        random.shuffle(&mut pools);
        let ours = pools.iter().find(|pool| pool.link == link);
        let pool = ours.unwrap_or(&pools[0]);
        let (offset, psid_length) = pool.cut;
        if psid_length == 0 {
            return Tuple::whole(pool.address);
        }
        let psid = random.u16(0..1 << psid_length);
        Tuple { address: pool.address, offset, psid_length, psid }
    }
}

/// Whether two tuples have a port in common.
pub fn overlap(one: Tuple, other: Tuple) -> bool {
    if one.address != other.address {
        return false;
    }
    if (one.offset, one.psid_length) == (other.offset, other.psid_length) {
        return one.psid == other.psid;
    }
    let has = |port: u16| {
        let (offset, psid_length) = (u32::from(other.offset), u32::from(other.psid_length));
        let excluded = offset > 0 && u32::from(port) >> (16 - offset) == 0;
        let psid = u32::from(port) >> (16 - offset - psid_length) & ((1 << psid_length) - 1);
        !excluded && psid == u32::from(other.psid)
    };
    one.ports().any(has)
}

/// A tuple, for the trace.
pub fn short(tuple: Tuple) -> String {
    let Tuple { address, offset, psid_length, psid } = tuple;
    format!("{address}/{offset}+{psid_length}:{psid}")
}
