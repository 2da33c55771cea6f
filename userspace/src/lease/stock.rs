//! The pools and what is taken from them, as the holder of a shard's lock sees them: everything that clients share.

use std::sync::PoisonError;

use super::{
    offers::Offers,
    pools::{Location, Pools},
    record::lasts,
    sites::Sites,
    softwires::Softwires,
    stamp::{Now, Stamp},
};
use crate::sync::{AtomicU32, Mutex, Ordering};

/// Pools, places for offers, and slots held for leases from outside the pools.
pub(super) struct Stock {
    pub pools: Pools,
    /// What each site has, if that is limited.
    pub sites: Option<Sites>,
    /// Whose softwire begins where, if leases have softwires.
    pub softwires: Option<Softwires>,
    /// Places for offers.
    pub offers: Offers,
    /// How many of `outside` there are: almost always none, and then nobody takes the lock.
    outside_count: AtomicU32,
    /// Sorted by location. A leaf lock: whoever takes it takes no other after it.
    outside: Mutex<Vec<Outside>>,
}

/// A slot that shares ports with a lease that no pool can serve: nobody gets it before that lease is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Outside {
    pub at: Location,
    pub until: u32,
    /// Whether the slot's bit is held for this. If not, a client holds the slot and hands it over.
    pub owned: bool,
}

impl Stock {
    pub(super) fn new(
        pools: Pools,
        offers: Offers,
        sites: Option<Sites>,
        softwires: Option<Softwires>,
    ) -> Stock {
        Stock {
            pools,
            sites,
            softwires,
            offers,
            outside_count: AtomicU32::new(0),
            outside: Mutex::new(Vec::new()),
        }
    }

    /// Octets of what not every server has.
    pub(super) fn octets(&self) -> usize {
        let sites = self.sites.as_ref().map_or(0, Sites::octets);
        sites + self.softwires.as_ref().map_or(0, Softwires::octets)
    }

    /// Takes this slot if nobody holds it.
    pub(super) fn claim(&self, at: Location) -> bool {
        self.pools.get(at.pool).claim(at.slot)
    }

    /// Gives back a slot that the caller holds.
    pub(super) fn give_back(&self, at: Location) {
        if self.outside_count.load(Ordering::Relaxed) != 0 {
            let mut outside = self.outside.lock().unwrap_or_else(PoisonError::into_inner);
            let found = outside.binary_search_by_key(&at, |outside| outside.at);
            if let Some(hold) = found.ok().and_then(|index| outside.get_mut(index)) {
                hold.owned = true;
                return;
            }
        }
        self.pools.get(at.pool).release(at.slot);
    }

    /// Remembers the last stamp of a slot that the caller still holds.
    pub(super) fn mark(&self, at: Location, stamp: Stamp) {
        self.pools.get(at.pool).mark(at.slot, stamp);
    }

    /// The stamp of the slot's last record, as far as its holder's entry does not know it.
    pub(super) fn last_stamp(&self, at: Location) -> Stamp {
        self.pools.get(at.pool).last_stamp(at.slot)
    }

    /// Holds these slots for leases from outside. At recovery only, when clients hold what they hold.
    pub(super) fn hold_outside(&self, mut holds: Vec<Outside>) {
        holds.sort_unstable_by_key(|hold| (hold.at, std::cmp::Reverse(hold.until)));
        holds.dedup_by_key(|hold| hold.at);
        for hold in &mut holds {
            hold.owned = self.claim(hold.at);
        }
        self.outside_count.store(u32::try_from(holds.len()).unwrap_or(u32::MAX), Ordering::Relaxed);
        *self.outside.lock().unwrap_or_else(PoisonError::into_inner) = holds;
    }

    /// Gives back the slots whose outside leases are over.
    pub(super) fn sweep_outside(&self, now: Now) {
        if self.outside_count.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut outside = self.outside.lock().unwrap_or_else(PoisonError::into_inner);
        outside.retain(|hold| {
            let keep = lasts(hold.until, now);
            if !keep && hold.owned {
                self.pools.get(hold.at.pool).release(hold.at.slot);
            }
            keep
        });
        let count = u32::try_from(outside.len()).unwrap_or(u32::MAX);
        self.outside_count.store(count, Ordering::Relaxed);
    }

    /// Slots held for leases from outside.
    #[cfg(any(test, feature = "sim"))]
    pub(super) fn outside(&self) -> Vec<Outside> {
        self.outside.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
