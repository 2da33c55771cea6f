//! The pools of a configuration, and where an address is among them.

use std::net::Ipv4Addr;

use super::{
    LeaseError,
    geometry::{PoolSpec, last_before},
    key::LinkId,
    pool::{Pool, PoolId, Slot},
    record::Tuple,
};

/// A slot of a pool. Never leaves memory: a record names the [`Tuple`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Location {
    /// The pool.
    pub pool: PoolId,
    /// The slot in it.
    pub slot: Slot,
}

/// A run of addresses that are a pool's.
struct Run {
    first: u32,
    last: u32,
    pool: PoolId,
}

/// All pools. A [`PoolId`] is an index in the order of the configuration.
pub struct Pools {
    pools: Box<[Pool]>,
    runs: Box<[Run]>,
}

impl Pools {
    /// Makes the pools; an address must be in one only.
    // req-S47 (RFC 7597 §5.1): so an address is cut in one way for all its leases.
    pub fn new(specs: &[PoolSpec]) -> Result<Pools, LeaseError> {
        let pools = specs.iter().map(|spec| {
            Pool::new(spec).map_err(|error| LeaseError::Geometry { pool: spec.name.clone(), error })
        });
        let pools: Box<[Pool]> = pools.collect::<Result<_, LeaseError>>()?;
        let mut runs = Vec::new();
        for (index, pool) in pools.iter().enumerate() {
            let id = u16::try_from(index).map(PoolId);
            let id = id.map_err(|_| LeaseError::TooManyPools { count: pools.len() })?;
            let own = pool.geometry().address_runs();
            runs.extend(own.map(|(first, last)| Run { first, last, pool: id }));
        }
        runs.sort_unstable_by_key(|run| run.first);
        for pair in runs.windows(2) {
            if let [one, two] = pair
                && one.last >= two.first
            {
                return Err(LeaseError::Overlap {
                    address: Ipv4Addr::from(two.first),
                    first: pools[usize::from(one.pool.0)].name().to_owned(),
                    second: pools[usize::from(two.pool.0)].name().to_owned(),
                });
            }
        }
        Ok(Pools { pools, runs: runs.into() })
    }

    /// Keeps a tuple from everybody who does not come for it by name. False if no pool has it, it is reserved, or it is
    /// withheld already.
    pub(super) fn withhold(&mut self, tuple: Tuple) -> bool {
        let Some(at) = self.locate_tuple(tuple) else { return false };
        self.pools.get_mut(usize::from(at.pool.0)).is_some_and(|pool| pool.withhold(at.slot))
    }

    /// Whether `at` is kept for a client of its own.
    pub fn is_withheld(&self, at: Location) -> bool {
        self.get(at.pool).is_withheld(at.slot)
    }

    /// The pool that has this address.
    pub fn locate(&self, address: Ipv4Addr) -> Option<PoolId> {
        let address = u32::from(address);
        let run = last_before(&self.runs, |run| run.first <= address)?;
        (address <= run.last).then_some(run.pool)
    }

    /// The slot of this tuple; `None` if no pool has the address, or it cuts it in another way.
    pub fn locate_tuple(&self, tuple: Tuple) -> Option<Location> {
        let pool = self.locate(tuple.address)?;
        let slot = self.get(pool).geometry().slot_of(tuple)?;
        Some(Location { pool, slot })
    }

    /// Asks for the memory that granting this tuple to somebody anew takes.
    #[inline]
    pub fn approach(&self, tuple: Tuple) {
        if let Some(at) = self.locate_tuple(tuple) {
            self.get(at.pool).approach(at.slot);
        }
    }

    /// What is leased at `at`.
    pub fn tuple_of(&self, at: Location) -> Tuple {
        self.get(at.pool).geometry().tuple_of(at.slot)
    }

    /// This pool, which must be one of these.
    pub fn get(&self, pool: PoolId) -> &Pool {
        &self.pools[usize::from(pool.0)]
    }

    /// The link that this pool serves.
    pub fn link_of(&self, pool: PoolId) -> LinkId {
        self.get(pool).link()
    }

    /// Whether `at` is held or reserved.
    pub fn is_held(&self, at: Location) -> bool {
        self.get(at.pool).is_held(at.slot)
    }

    /// The number of pools.
    pub fn len(&self) -> usize {
        self.pools.len()
    }

    /// Whether there is no pool.
    pub fn is_empty(&self) -> bool {
        self.pools.is_empty()
    }

    /// The pools, in the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (PoolId, &Pool)> {
        (0..=u16::MAX).map(PoolId).zip(self.pools.iter())
    }
}
