//! Who holds what. No I/O; the only shared mutable state of the hot path.
//!
//! - [`geometry`], [`pool`], [`pools`]: addresses and port sets, and which of them are held; lock-free.
//! - [`Leases::lock`] gives a [`Client`], which is all that can be done to one client's slots; its shard of the
//!   table of bindings is locked meanwhile, and no code locks two.
//! - [`Leases::sweep`] gives back what is over; [`Leases::recover`] reads back what was promised.
//!
//! Whatever is promised leaves as a [`record::Record`], the image of one slot.

mod bindings;
mod bitmap;
mod block;
pub mod client;
mod entry;
mod fixed;
pub mod geometry;
mod grant;
mod guide;
#[cfg(all(test, not(feature = "loom")))]
mod history;
#[cfg(any(test, feature = "sim"))]
mod image;
mod images;
#[cfg(any(test, feature = "sim"))]
mod invariants;
pub mod key;
mod limit;
mod offers;
pub mod pool;
pub mod pools;
pub mod promise;
pub mod record;
pub mod recovery;
pub mod rules;
mod sites;
mod softwires;
pub mod stamp;
mod stock;
mod sweep;
mod terms;
#[cfg(test)]
mod tests;

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

pub use client::{Claims, Client};
pub use recovery::{Recovered, Recovery};

use self::{
    bindings::FILL,
    block::{Block, PLACES, Sides, blocks},
    geometry::{GeometryError, PoolSpec},
    key::{BindingKey, Source, SourceSecret},
    offers::Offers,
    pools::Pools,
    promise::{Promise, Watermarks},
    record::Tuple,
    rules::{Rule, holds},
    sites::Sites,
    softwires::Softwires,
    stamp::Now,
    stock::Stock,
};

/// The fewest shards: so that workers do not meet in a small table.
const SHARDS_MIN: usize = 16;

/// How the leases of a server are sized and timed.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Leases that the table surely has room for.
    pub capacity: usize,
    /// The most offers outstanding at a time. Up to an eighth of them may not be to be had for a new client, since
    /// other shards keep them.
    pub offers_max: u32,
    /// How long a slot that was given up is kept for its last holder (RFC 6888 REQ-8).
    pub hold_down_seconds: u32,
    /// How long a declined slot is kept from everybody.
    pub decline_hold_seconds: u32,
    /// How far the records of each lane are durable.
    pub watermarks: Arc<Watermarks>,
    /// The number of shards of the table; by default as many as `capacity` needs.
    pub shards: Option<usize>,
    /// What not every server needs.
    pub features: Features,
}

/// What a server does besides leasing; by default nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// The most clients of one site that have a lease or an offer at a time; 0: as many as come (RFC 7618 §10).
    pub leases_per_site_max: u32,
    /// Whether leases have softwires, each with an address of its own (RFC 8539).
    pub softwires: bool,
    /// Tuples that only those clients get that are [entitled](Claims::entitled) to them.
    pub withheld: Vec<Tuple>,
}

/// Why the leases cannot be made or read back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeaseError {
    /// A pool has an impossible shape.
    #[error("pool {pool}: {error}")]
    Geometry {
        /// Its name.
        pool: String,
        /// What is wrong.
        error: GeometryError,
    },
    /// Two pools have an address in common (RFC 7597 §5.1, RFC 7618 §8.1).
    #[error("address {address} is in pool {first} and in pool {second}, expected in one only")]
    Overlap {
        /// The first such address.
        address: Ipv4Addr,
        /// A pool.
        first: String,
        /// Another, or the same by another name.
        second: String,
    },
    /// A tuple is withheld that no pool can lease.
    #[error("{tuple:?} is reserved for a client, but no pool can lease it once")]
    NotLeasable {
        /// As configured.
        tuple: Tuple,
    },
    /// More pools than can be numbered.
    #[error("{count} pools, expected at most 65536")]
    TooManyPools {
        /// As configured.
        count: usize,
    },
    /// The recovered leases do not fit the table.
    #[error("the log has {leases} leases that run, too many for a capacity of {capacity}")]
    TooManyLeases {
        /// Leases, held-down and quarantined slots in the log.
        leases: usize,
        /// As configured.
        capacity: usize,
    },
}

fn shards_for(capacity: usize) -> usize {
    capacity.div_ceil(FILL).max(SHARDS_MIN)
}

/// Everything that is leased, offered, held down or quarantined.
pub struct Leases {
    stock: Stock,
    shards: Vec<Block>,
    settings: Settings,
    sources: SourceSecret,
}

/// How much of a table is used, and for what. Approximate while others work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Leases that run.
    pub active: usize,
    /// Leases that are over or were released, whose slots are kept for their last holders.
    pub held_down: usize,
    /// Clients whose last slot is only remembered.
    pub past: usize,
    /// Slots that were left or declined and are not free yet.
    pub resting: usize,
    /// Offers, lapsed ones that were not swept yet included.
    pub offers: usize,
}

impl Leases {
    /// Leases of these pools, of which none is held. A [`pool::PoolId`] is an index into `specs`.
    pub fn new(specs: &[PoolSpec], settings: Settings) -> Result<Leases, LeaseError> {
        let shards = settings.shards.unwrap_or_else(|| shards_for(settings.capacity)).max(1);
        let mut pools = Pools::new(specs)?;
        let mut withheld = settings.features.withheld.iter();
        if let Some(&tuple) = withheld.find(|tuple| !pools.withhold(**tuple)) {
            return Err(LeaseError::NotLeasable { tuple });
        }
        let limit = settings.features.leases_per_site_max;
        let sites = (limit != 0).then(|| Sites::new(limit, settings.capacity));
        let softwires = settings.features.softwires;
        let softwires = softwires.then(|| Softwires::new(settings.capacity));
        let noted = Sides { sites: sites.is_some(), softwires: softwires.is_some() };
        let stock = Stock::new(pools, Offers::new(settings.offers_max, shards), sites, softwires);
        Ok(Leases { stock, shards: blocks(shards, noted), settings, sources: SourceSecret::new() })
    }

    /// The pools.
    pub fn pools(&self) -> &Pools {
        &self.stock.pools
    }

    /// Whether sites have limits.
    pub fn limits_sites(&self) -> bool {
        self.stock.sites.is_some()
    }

    /// A source, to be compared with that of a [`Binding`](client::Binding).
    pub fn source(&self, address: Ipv6Addr) -> Source {
        self.sources.source(address)
    }

    fn stock(&self) -> &Stock {
        &self.stock
    }

    fn settings(&self) -> &Settings {
        &self.settings
    }

    /// How long a slot that was given up is kept for its last holder.
    // req-S80 (RFC 6888 REQ-8): late packets of one customer must not reach the next.
    fn hold_down_seconds(&self) -> u32 {
        if holds(Rule::FormerTuplesRest) { self.settings.hold_down_seconds } else { 0 }
    }

    /// Whether a crash now would keep `promise`.
    pub fn keeps(&self, promise: Promise) -> bool {
        self.settings.watermarks.keeps(promise) || !holds(Rule::RepetitionsWait)
    }

    /// Locks the shard of a client of whom nothing else is known. Lock no other client meanwhile.
    pub fn lock(&self, key: BindingKey) -> Client<'_> {
        self.lock_with(key, Claims::NONE)
    }

    /// Locks the client's shard. Lock no other client meanwhile.
    pub fn lock_with(&self, key: BindingKey, claims: Claims) -> Client<'_> {
        Client::new(self, self.shard_of(key).lock(), key, claims)
    }

    /// Asks for the memory by which the client is found. First of the two steps after which its lock takes less time.
    #[inline]
    pub fn approach(&self, key: BindingKey) {
        self.shard_of(key).approach_guide(key);
    }

    /// Asks for the memory of what the client has. Second of the two steps, when the first is done for others as well.
    #[inline]
    pub fn approach_closer(&self, key: BindingKey) {
        self.shard_of(key).approach_place(key);
    }

    #[inline]
    fn shard_of(&self, key: BindingKey) -> &Block {
        &self.shards[self.shard_number(key)]
    }

    fn shard_number(&self, key: BindingKey) -> usize {
        let index = (u128::from(key.low()) * self.shards.len() as u128) >> 64;
        usize::try_from(index).unwrap_or(0)
    }

    /// Begins reading back what was promised. Nothing else may be done before it is finished.
    pub fn recover(&self) -> Recovery<'_> {
        Recovery::new(self)
    }

    /// The most clients and resting slots that the table can hold, and so the most slots that are ever held.
    pub fn places(&self) -> usize {
        self.shards.len() * PLACES
    }

    /// The [`places`](Self::places) of a table that surely has room for `capacity` leases.
    pub fn places_for(capacity: usize) -> usize {
        shards_for(capacity) * PLACES
    }

    /// Octets that the table takes.
    pub fn table_octets(&self) -> usize {
        let octets = |shard: &Block| size_of_val(shard) + shard.lock().heap_octets();
        let shards = self.shards.iter().map(octets);
        shards.sum::<usize>() + self.stock.octets()
    }

    /// Offers outstanding that count against the limit: exact if nobody is at work. Looks at every shard; not for the
    /// hot path.
    pub fn offers(&self) -> u32 {
        let kept: u32 = self.shards.iter().map(|shard| shard.lock().offers_kept()).sum();
        self.stock.offers.drawn().saturating_sub(kept)
    }

    /// Counts everything, one shard at a time. Not for the hot path.
    pub fn census(&self, now: Now) -> Census {
        let mut census = Census::default();
        for shard in &self.shards {
            shard.lock().count(&mut census, now);
        }
        census
    }
}
