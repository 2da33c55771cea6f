//! Free and held slots of one pool, and the last stamp of each. Lock-free.

use std::net::Ipv4Addr;

use super::{
    bitmap::Bitmap,
    geometry::{Geometry, GeometryError, PoolSpec},
    key::LinkId,
    stamp::Stamp,
};
use crate::{
    memory::{furnished, prefetch},
    sync::{AtomicU64, Ordering},
};

pub use super::bitmap::Pick;

/// Numbers a pool of the configuration. Never leaves memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PoolId(pub u16);

/// Numbers an (address, PSID) of a pool: `address_index << psid_length | psid`. Never leaves memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot(pub u32);

/// The slots of a pool.
///
/// req-S37 (RFC 7618 §8): an address and a port set together are what is leased, and what has a state.
pub struct Pool {
    name: String,
    link: LinkId,
    geometry: Geometry,
    bits: Bitmap,
    /// Of each slot the stamp of its last record, as far as it is not in its holder's entry. Written by whoever holds
    /// the slot's bit, when it is won and before it is given back; releasing the bit publishes it to whoever claims it
    /// next.
    stamps: Vec<AtomicU64>,
    /// Bits that are set from birth on: reserved slots, those beyond the end, and withheld ones.
    unusable: usize,
    withheld: Option<Withheld>,
}

/// Slots that are kept for clients of their own. In the bitmap they are held for ever, so that no search finds them;
/// whether somebody has one is noted here. One bit a slot.
struct Withheld {
    are: Box<[u64]>,
    taken: Box<[AtomicU64]>,
}

impl Withheld {
    fn new(slots: u32) -> Withheld {
        let words = (slots as usize).div_ceil(64);
        let taken = (0..words).map(|_| AtomicU64::new(0)).collect();
        Withheld { are: vec![0; words].into(), taken }
    }

    /// The word and the bit of a slot.
    fn bit(slot: Slot) -> (usize, u64) {
        (slot.0 as usize / 64, 1 << (slot.0 % 64))
    }

    fn has(&self, slot: Slot) -> bool {
        let (word, bit) = Self::bit(slot);
        self.are[word] & bit != 0
    }

    fn claim(&self, slot: Slot) -> bool {
        let (word, bit) = Self::bit(slot);
        self.taken[word].fetch_or(bit, Ordering::AcqRel) & bit == 0
    }

    /// Whether it was taken.
    fn release(&self, slot: Slot) -> bool {
        let (word, bit) = Self::bit(slot);
        self.taken[word].fetch_and(!bit, Ordering::AcqRel) & bit != 0
    }

    fn is_taken(&self, slot: Slot) -> bool {
        let (word, bit) = Self::bit(slot);
        self.taken[word].load(Ordering::Acquire) & bit != 0
    }

    fn count(&self) -> usize {
        let ones = |word: &AtomicU64| word.load(Ordering::Relaxed).count_ones() as usize;
        self.taken.iter().map(ones).sum()
    }
}

impl Pool {
    /// A pool of which nothing is held.
    pub fn new(spec: &PoolSpec) -> Result<Pool, GeometryError> {
        let geometry = Geometry::new(spec)?;
        let reserved = |place: usize| {
            let psid = place & (geometry.psids() as usize - 1);
            u16::try_from(psid).is_ok_and(|psid| geometry.is_reserved(psid))
        };
        let bits = Bitmap::new(geometry.slots() as usize, reserved);
        let unusable = bits.count();
        let mut stamps = furnished(geometry.slots() as usize);
        stamps.extend((0..geometry.slots()).map(|_| AtomicU64::new(0)));
        let (name, link, withheld) = (spec.name.clone(), spec.link, None);
        Ok(Pool { name, link, geometry, bits, stamps, unusable, withheld })
    }

    /// Keeps a slot from everybody who does not come for it by name. False if it is reserved or withheld already.
    pub(super) fn withhold(&mut self, slot: Slot) -> bool {
        if !self.bits.claim(slot.0 as usize) {
            return false;
        }
        self.unusable += 1;
        let slots = self.geometry.slots();
        let (word, bit) = Withheld::bit(slot);
        self.withheld.get_or_insert_with(|| Withheld::new(slots)).are[word] |= bit;
        true
    }

    /// The withheld slots, if this is one of them.
    fn withheld(&self, slot: Slot) -> Option<&Withheld> {
        self.withheld.as_ref().filter(|withheld| withheld.has(slot))
    }

    /// Whether this slot is kept for a client of its own.
    pub fn is_withheld(&self, slot: Slot) -> bool {
        self.withheld(slot).is_some()
    }

    /// Its name in the configuration.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The link whose clients it serves.
    pub fn link(&self) -> LinkId {
        self.link
    }

    /// Its shape.
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// Takes any free slot.
    #[inline]
    pub fn acquire(&self, pick: Pick) -> Option<Slot> {
        self.bits.acquire(pick).map(slot)
    }

    /// Takes a free slot of this address.
    pub fn acquire_at(&self, address: Ipv4Addr, pick: Pick) -> Option<Slot> {
        let psids = self.geometry.psids() as usize;
        let first = self.geometry.index_of(address)? as usize * psids;
        self.bits.acquire_among(first, psids, pick).map(slot)
    }

    /// Takes this very slot; false if it is held or reserved. Whether the client may have a withheld one is for the
    /// caller to know.
    pub fn claim(&self, slot: Slot) -> bool {
        if let Some(withheld) = self.withheld(slot) {
            return withheld.claim(slot);
        }
        self.bits.claim(slot.0 as usize)
    }

    /// Gives back a slot that the caller holds.
    ///
    /// # Panics
    ///
    /// If nobody holds it, or it is reserved: a promise has been broken, and no further one must be made.
    pub fn release(&self, slot: Slot) {
        assert!(
            !self.geometry.is_reserved(self.geometry.psid(slot)),
            "released slot {}, which is reserved",
            slot.0
        );
        if let Some(withheld) = self.withheld(slot) {
            assert!(withheld.release(slot), "released slot {}, which nobody holds", slot.0);
            return;
        }
        self.bits.release(slot.0 as usize);
    }

    /// Whether this slot is held or reserved. A withheld slot is held if a client has it.
    pub fn is_held(&self, slot: Slot) -> bool {
        if let Some(withheld) = self.withheld(slot) {
            return withheld.is_taken(slot);
        }
        self.bits.is_set(slot.0 as usize)
    }

    /// How many slots are held; approximate while others work.
    pub fn held(&self) -> u32 {
        let withheld = self.withheld.as_ref().map_or(0, Withheld::count);
        let held = self.bits.count().saturating_sub(self.unusable) + withheld;
        u32::try_from(held).unwrap_or(u32::MAX)
    }

    /// How many slots may be leased.
    pub fn usable(&self) -> u32 {
        self.geometry.usable_slots()
    }

    /// The stamp of the slot's last record, as far as it is not in its holder's entry.
    pub(super) fn last_stamp(&self, slot: Slot) -> Stamp {
        Stamp(self.stamps[slot.0 as usize].load(Ordering::Relaxed))
    }

    /// Asks for the memory of the slot's last stamp.
    #[inline]
    pub(super) fn approach(&self, slot: Slot) {
        if let Some(stamp) = self.stamps.get(slot.0 as usize) {
            prefetch(stamp);
        }
    }

    /// Asks for the memory of the slot that `pick` will probably lead to.
    #[inline]
    pub fn approach_any(&self, pick: Pick) {
        self.bits.approach(pick);
    }

    /// Remembers the stamp. The caller holds the slot.
    pub(super) fn mark(&self, slot: Slot, stamp: Stamp) {
        self.stamps[slot.0 as usize].store(stamp.0, Ordering::Relaxed);
    }

    /// Whether the bitmap's summary is right, and no search can find a withheld slot. Holds whenever nobody is at work.
    #[cfg(any(test, feature = "sim"))]
    pub(super) fn summary_is_true(&self) -> bool {
        let mut slots = (0..self.geometry.slots()).map(Slot);
        let hidden = slots.all(|slot| !self.is_withheld(slot) || self.bits.is_set(slot.0 as usize));
        hidden && self.bits.summary_is_true()
    }
}

fn slot(place: usize) -> Slot {
    Slot(u32::try_from(place).unwrap_or(u32::MAX))
}
