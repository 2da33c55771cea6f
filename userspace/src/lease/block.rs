//! One shard of the table of bindings as it lies in memory.

use std::{
    net::Ipv6Addr,
    sync::{PoisonError, TryLockError},
};

use super::{
    bindings::{FORGETTABLE_SEEN, Shard},
    entry::Entry,
    guide::{BUCKET_PLACES, BUCKETS, Guide, home},
    key::BindingKey,
    record::Softwire,
};
use crate::{
    memory::{Parcel, furnished, parcels, prefetch, prefetch_address},
    sync::Mutex,
};

/// Places of a shard.
pub(super) const PLACES: usize = BUCKETS * BUCKET_PLACES;

/// The places of a shard, on pages of their own.
#[repr(align(4096))]
pub(super) struct Places(pub(super) [Entry; PLACES]);

/// One shard of the table, without its places: everything that finds a client is where its key alone says. Those of all
/// shards lie side by side, apart from the places, so that a processor keeps most of them, and the way to their pages.
#[repr(C, align(64))]
pub(super) struct Block {
    guide: Guide,
    /// Where the places are, for hints.
    places: usize,
    held: Mutex<Held>,
}

#[cfg(not(feature = "loom"))]
const _: () = assert!(size_of::<Block>() == size_of::<Guide>() + 64);

/// What the holder of a shard's lock sees of it.
pub(super) struct Held {
    pub(super) places: Parcel<Places>,
    /// Of each client the key of the site in whose limit it takes part; none if sites are not limited.
    pub(super) sites: Option<Box<[u64; PLACES]>>,
    /// Of each client the softwire of its lease; none if leases have none.
    pub(super) softwires: Option<Box<[Softwire; PLACES]>>,
    /// Places that are free.
    pub(super) free: u16,
    /// Places for offers that were drawn and are not used (see [`Offers`](super::offers::Offers)).
    pub(super) offers_kept: u16,
}

/// What a shard notes of clients besides their entries.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sides {
    pub sites: bool,
    pub softwires: bool,
}

/// No softwire.
pub(super) const NO_SOFTWIRE: Softwire = Softwire { address: Ipv6Addr::UNSPECIFIED, changed: 0 };

/// So many shards, in which everything is free.
#[expect(
    clippy::large_stack_arrays,
    reason = "56 KiB, a shard at a time, before anything is served"
)]
pub(super) fn blocks(count: usize, noted: Sides) -> Vec<Block> {
    let mut places = furnished(count);
    places.extend((0..count).map(|_| Places([Entry::FREE; PLACES])));
    let mut blocks = furnished(count);
    blocks.extend(parcels(places).map(|places| Block::new(places, noted)));
    blocks
}

impl Block {
    #[expect(
        clippy::large_stack_arrays,
        reason = "28 KiB, a shard at a time, before anything is served"
    )]
    fn new(places: Parcel<Places>, noted: Sides) -> Block {
        let sites = noted.sites.then(|| Box::new([0; PLACES]));
        let softwires = noted.softwires.then(|| Box::new([NO_SOFTWIRE; PLACES]));
        let free = u16::try_from(PLACES).unwrap_or(0);
        let address = places.address();
        let held = Held { places, sites, softwires, free, offers_kept: 0 };
        Block { guide: Guide::new(), places: address, held: Mutex::new(held) }
    }

    /// Locks the shard.
    pub(super) fn lock(&self) -> Shard<'_> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        Shard { guide: &self.guide, held }
    }

    /// Locks the shard, unless somebody else has.
    pub(super) fn try_lock(&self) -> Option<Shard<'_>> {
        let held = match self.held.try_lock() {
            Ok(held) => held,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        Some(Shard { guide: &self.guide, held })
    }

    /// Asks for the memory by which a client is found.
    #[inline]
    pub(super) fn approach_guide(&self, key: BindingKey) {
        prefetch(self.guide.home_of(key.high()));
        prefetch(&self.held);
    }

    /// Asks for the memory of the place where a client probably is or will be.
    #[inline]
    pub(super) fn approach_place(&self, key: BindingKey) {
        let approach = |place| prefetch_address(self.places + place * size_of::<Entry>());
        if let Some(place) = self.guide.probable(key.high()) {
            return approach(place);
        }
        // No room near home: one of the first clients there may have to be forgotten.
        let first = home(key.high()) * BUCKET_PLACES;
        (first..first + 2 * FORGETTABLE_SEEN).for_each(approach);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_one_cache_line_where_it_is_looked_for() {
        for block in &blocks(3, Sides::default()) {
            let shard = block.lock();
            for place in [0, 1, PLACES - 1] {
                let entry = std::ptr::from_ref(shard.entry(u16::try_from(place).unwrap())).addr();
                assert_eq!(entry % 64, 0);
                assert_eq!(entry, block.places + place * 64);
            }
        }
    }
}
