//! Clients and their leases, without an engine: set up at a million and more a second, on all cores.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use portlease::lease::{
    Features, Leases, Settings,
    client::{Client, Holder},
    geometry::PoolSpec,
    key::{ClientIdentity, IdentityKind, IdentitySecret, LinkId},
    pool::{PoolId, Slot},
    pools::Location,
    promise::{LaneId, Promise, Watermarks},
    stamp::Now,
};

use crate::{LEASE_SECONDS, START, random::Random};

/// Where every client's messages come from.
pub const SOURCE: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1);

/// The link of all clients.
pub const LINK: LinkId = LinkId(0);

/// The pool of all clients.
pub const POOL: PoolId = PoolId(0);

/// The secret of all identities.
pub const SECRET: IdentitySecret = IdentitySecret([7; 16]);

/// Workers that promise something.
pub const LANES: u16 = 8;

/// Clients of an address: 64 port sets, the first of which is reserved.
const SHARES: u32 = 63;

/// Of how many slots of the pool at least one is free.
const FREE_SHARE: u32 = 10;

/// Seconds for which a declined slot is nobody's: the shortest time there is.
pub const DECLINE_HOLD_SECONDS: u32 = 1;

/// Bits of a PSID.
pub const PSID_LENGTH: u8 = 6;

/// A pool of `addresses` addresses from 10.0.0.0 on, of 64 port sets each.
pub fn spec(addresses: u32) -> PoolSpec {
    let first = u32::from(Ipv4Addr::new(10, 0, 0, 0));
    PoolSpec {
        name: "pool".to_owned(),
        link: LINK,
        ranges: vec![Ipv4Addr::from(first)..=Ipv4Addr::from(first + addresses - 1)],
        offset: 0,
        psid_length: PSID_LENGTH,
        reserved_ports: vec![0..=1023],
    }
}

/// Option 61 of a client: type 255, an IAID and a DUID (RFC 4361 §6.1).
pub fn identifier(client: u32) -> [u8; 15] {
    let mut identifier = [255, 0, 0, 0, 1, 0, 3, 0, 1, 2, 0, 0, 0, 0, 0];
    identifier[11..].copy_from_slice(&client.to_be_bytes());
    identifier
}

/// Who a client is to the server.
pub fn identity(client: u32) -> ClientIdentity {
    SECRET.identify(IdentityKind::ClientIdentifier, &identifier(client))
}

fn holder(identity: ClientIdentity) -> Holder<'static> {
    Holder { identity, client: b"identifier", hardware: false, source: SOURCE, softwire: None }
}

/// The leases of `clients` clients, and room for visitors.
pub struct Population {
    /// The leases.
    pub leases: Arc<Leases>,
    /// How far the lanes are durable.
    pub watermarks: Arc<Watermarks>,
    /// Clients that hold a lease from the beginning.
    pub clients: u32,
    /// The most further clients that may come before [`forget`](Self::forget).
    pub visitors: u32,
    /// The slot of each client.
    pub slots: Vec<Slot>,
}

impl Population {
    /// Leases of `clients`, obtained at [`START`] from random places.
    ///
    /// # Panics
    ///
    /// If so many clients do not fit into 10.0.0.0/8.
    pub fn new(clients: u32) -> Population {
        let visitors = (clients / 8).clamp(1 << 10, 1 << 17);
        // A visitor who is forgotten declines: its slot rests in a place beside that of its entry until the sweep.
        let room = clients + 2 * visitors;
        let watermarks = Arc::new(Watermarks::new(usize::from(LANES)));
        let settings = Settings {
            capacity: room as usize,
            offers_max: u32::MAX,
            hold_down_seconds: 120,
            decline_hold_seconds: DECLINE_HOLD_SECONDS,
            watermarks: Arc::clone(&watermarks),
            shards: None,
            features: Features::default(),
        };
        let addresses = (room + room / FREE_SHARE) / SHARES + 2;
        let leases = Leases::new(&[spec(addresses)], settings).expect("the pool fits");
        let leases = Arc::new(leases);
        let mut slots = vec![Slot(0); clients as usize];
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let part = slots.len().div_ceil(threads).max(1);
        std::thread::scope(|scope| {
            for (thread, slots) in slots.chunks_mut(part).enumerate() {
                let leases = &leases;
                scope.spawn(move || {
                    let mut random = Random(thread as u64 + 1);
                    let first = u32::try_from(thread * part).expect("a client's number");
                    for (client, slot) in (first..).zip(slots) {
                        *slot = obtain(leases, identity(client), &mut random, START);
                    }
                });
            }
        });
        Population { leases, watermarks, clients, visitors, slots }
    }

    /// The client at a place of an order that leads all over the table, and comes round.
    pub fn client(&self, place: u64) -> u32 {
        // A prime that is larger than any number of clients.
        const STRIDE: u64 = 2_654_435_761;
        let client = place % u64::from(self.clients) * STRIDE % u64::from(self.clients);
        u32::try_from(client).unwrap_or(0)
    }

    /// Locks what a client has.
    pub fn lock(&self, identity: ClientIdentity) -> Client<'_> {
        self.leases.lock(identity.on(LINK))
    }

    /// Leases `at` to the client, again or as an extension, with a record.
    ///
    /// # Panics
    ///
    /// If another has it.
    pub fn renew(&self, identity: ClientIdentity, at: Location, now: Now) {
        grant(&mut self.lock(identity), at, identity, now);
    }

    /// The slot of a client of the beginning.
    pub fn home(&self, client: u32) -> Location {
        Location { pool: POOL, slot: self.slots[client as usize] }
    }

    /// Forgets these visitors as if they had never come; returns the time at which they are forgotten.
    ///
    /// # Panics
    ///
    /// If the table has no room for declined slots.
    pub fn forget(&self, visitors: impl Iterator<Item = u32>, now: Now) -> Now {
        for visitor in visitors {
            let identity = identity(visitor);
            let mut client = self.lock(identity);
            client.drop_offer();
            // Whoever declines its slot keeps no memory of it.
            if let Some(binding) = client.binding(now) {
                client.quarantine(binding.at, &holder(identity), now).expect("a lease");
            }
        }
        let later = Now(now.0 + 2000 * u64::from(DECLINE_HOLD_SECONDS));
        self.leases.sweep_all(later);
        later
    }
}

/// An offer of a random slot.
///
/// # Panics
///
/// If there is none, or no room for the client.
pub fn offer(client: &mut Client<'_>, random: &mut Random, now: Now) -> Location {
    let offer = client.offer_any(POOL, random.pick(), now.seconds() + 60, now);
    offer.expect("room for an offer").expect("a free slot").at
}

/// An offer and its lease.
fn obtain(leases: &Leases, identity: ClientIdentity, random: &mut Random, now: Now) -> Slot {
    let mut client = leases.lock(identity.on(LINK));
    let at = offer(&mut client, random, now);
    grant(&mut client, at, identity, now);
    at.slot
}

fn grant(client: &mut Client<'_>, at: Location, identity: ClientIdentity, now: Now) {
    let promise = Promise { lane: LaneId(0), sequence: 0 };
    let expires = now.seconds() + LEASE_SECONDS;
    let granted = client.grant(at, expires, &holder(identity), promise, now);
    std::hint::black_box(granted).expect("a lease");
}
