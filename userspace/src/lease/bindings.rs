//! Clients and what they hold: one shard of the table.
//!
//! A shard is a fixed number of places and an index from keys to places, sized once. A client's first place is
//! its *entry*: its binding and its offer. Slots that it left and that are still held down rest in further
//! places, chained to the entry. A slot's bit is held by its client as long as the entry's binding, its offer or
//! a resting place refers to it, and is given back with the last of them.

use std::net::Ipv6Addr;

use hashbrown::HashTable;

use super::{
    Census,
    key::BindingKey,
    pool::{PoolId, Slot},
    pools::Location,
    promise::{LaneId, Promise},
    record::{State, lasts},
    rules::{Rule, holds},
    stamp::{Now, Stamp},
    stock::Stock,
};

/// Places of a shard.
pub(super) const PLACES: usize = 448;

/// The mean number of clients of a shard when the table is as full as its capacity. Clients fall into shards by
/// a keyed hash: that one of 50,000 shards gets more than [`PLACES`] is a matter of 1 in 10⁶ (see the test).
pub(super) const FILL: usize = 320;

/// The most slots of one client that rest at a time; further moves and declines have to wait.
pub(super) const RESTING_MAX: usize = 8;

/// Buckets that keep the index from ever growing: hashbrown rehashes in place while it is at most half full.
const INDEX_CAPACITY: usize = PLACES * 2;

/// No place.
const NONE: u16 = u16::MAX;

/// The binding's slot is held.
const HELD: u8 = 1;
/// The offer counts against the limit of offers.
const COUNTED: u8 = 2;
/// The place is a client's entry, neither free nor a resting slot's.
const CLIENT: u8 = 4;

/// A place: a client's entry, a resting slot, or free. 72 octets, of which the first 16 find it.
#[derive(Clone, Copy)]
pub(super) struct Entry {
    key: [u64; 2],
    source: [u8; 16],
    /// Of the last record of the binding's slot; exceeds those of all records of the client before it.
    stamp: Stamp,
    /// Lane in the upper 16 bits, sequence in the lower 48.
    promise: u64,
    slot: Slot,
    /// End of the lease, or of the rest.
    expires: u32,
    offer_slot: Slot,
    /// End of the offer; 0 if there is none.
    offer_until: u32,
    pool: PoolId,
    offer_pool: PoolId,
    /// The next resting place of the client, or the next free place.
    next: u16,
    state: Option<State>,
    flags: u8,
}

const _: () = assert!(size_of::<Entry>() == 72);

impl Entry {
    const FREE: Entry = Entry {
        key: [0; 2],
        source: [0; 16],
        stamp: Stamp(0),
        promise: 0,
        slot: Slot(0),
        expires: 0,
        offer_slot: Slot(0),
        offer_until: 0,
        pool: PoolId(0),
        offer_pool: PoolId(0),
        next: NONE,
        state: None,
        flags: 0,
    };

    fn of(key: BindingKey) -> Entry {
        Entry { key: [key.low(), key.high()], flags: CLIENT, ..Self::FREE }
    }

    pub(super) fn key(&self) -> BindingKey {
        BindingKey(u128::from(self.key[1]) << 64 | u128::from(self.key[0]))
    }

    /// What the binding is: bound, former, or none at all.
    pub(super) fn state(&self) -> Option<State> {
        self.state
    }

    /// The slot of the binding, if there is one; also after its bit was given back.
    pub(super) fn at(&self) -> Option<Location> {
        self.state.map(|_| Location { pool: self.pool, slot: self.slot })
    }

    /// The slot of the binding while its bit is held.
    pub(super) fn held_at(&self) -> Option<Location> {
        self.at().filter(|_| self.flags & HELD != 0)
    }

    /// The slot of the offer, lapsed or not.
    pub(super) fn offered_at(&self) -> Option<Location> {
        (self.offer_until != 0).then_some(Location { pool: self.offer_pool, slot: self.offer_slot })
    }

    pub(super) fn offer_until(&self) -> u32 {
        self.offer_until
    }

    pub(super) fn offer_counts(&self) -> bool {
        self.flags & COUNTED != 0
    }

    pub(super) fn expires(&self) -> u32 {
        self.expires
    }

    pub(super) fn stamp(&self) -> Stamp {
        self.stamp
    }

    pub(super) fn source(&self) -> Ipv6Addr {
        Ipv6Addr::from(self.source)
    }

    pub(super) fn promise(&self) -> Promise {
        let lane = u16::try_from(self.promise >> 48).unwrap_or(u16::MAX);
        Promise { lane: LaneId(lane), sequence: self.promise & ((1 << 48) - 1) }
    }

    /// Whether the lease runs at `now`.
    pub(super) fn is_active(&self, now: Now) -> bool {
        self.state == Some(State::Bound) && self.flags & HELD != 0 && lasts(self.expires, now)
    }

    /// When the binding's slot is free for others.
    pub(super) fn hold_end(&self, hold_down_seconds: u32) -> u32 {
        match self.state {
            Some(State::Bound) => self.expires.saturating_add(hold_down_seconds),
            _ => self.stamp.hold_end(hold_down_seconds),
        }
    }

    /// Makes this the client's binding.
    pub(super) fn bind(&mut self, at: Location, state: State, expires: u32, stamp: Stamp) {
        (self.pool, self.slot) = (at.pool, at.slot);
        (self.state, self.expires, self.stamp) = (Some(state), expires, stamp);
        self.flags |= HELD;
    }

    /// Notes whence and in which record the client was promised this.
    pub(super) fn promised(&mut self, source: Ipv6Addr, promise: Promise) {
        self.source = source.octets();
        self.promise = u64::from(promise.lane.0) << 48 | promise.sequence & ((1 << 48) - 1);
    }

    /// The binding's bit is not this entry's any more: it is free, or rests.
    pub(super) fn unhold(&mut self) {
        self.flags &= !HELD;
    }

    /// The client has no binding; the stamp stays, so that its later records exceed it.
    pub(super) fn unbind(&mut self) {
        self.state = None;
        self.flags &= !HELD;
    }

    pub(super) fn set_offer(&mut self, at: Location, until: u32, counts: bool) {
        (self.offer_pool, self.offer_slot) = (at.pool, at.slot);
        // 0 is no offer, and nothing that ends then is held.
        self.offer_until = until.max(1);
        self.flags = if counts { self.flags | COUNTED } else { self.flags & !COUNTED };
    }

    fn clear_offer(&mut self) {
        self.offer_until = 0;
        self.flags &= !COUNTED;
    }
}

/// A slot that its client left and nobody else gets yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Resting {
    pub at: Location,
    pub until: u32,
    pub stamp: Stamp,
    /// Former: its client may have it back. Quarantined: nobody may.
    pub state: State,
}

/// A shard of the table. Only its lock's holder sees it.
pub(super) struct Shard {
    index: HashTable<u16>,
    places: Box<[Entry]>,
    /// The first free place.
    free: u16,
}

impl Shard {
    pub(super) fn new() -> Shard {
        let mut places: Box<[Entry]> = vec![Entry::FREE; PLACES].into();
        for (next, place) in (1..).zip(places.iter_mut()) {
            place.next = if usize::from(next) == PLACES { NONE } else { next };
        }
        Shard { index: HashTable::with_capacity(INDEX_CAPACITY), places, free: 0 }
    }

    /// Octets that a shard takes on the heap.
    pub(super) fn heap_octets() -> usize {
        // hashbrown: a control octet a bucket, and a group of them at the end.
        let buckets = (INDEX_CAPACITY * 8 / 7).next_power_of_two();
        PLACES * size_of::<Entry>() + buckets * (1 + size_of::<u16>()) + 16
    }

    pub(super) fn entry(&self, place: u16) -> &Entry {
        &self.places[usize::from(place)]
    }

    pub(super) fn entry_mut(&mut self, place: u16) -> &mut Entry {
        &mut self.places[usize::from(place)]
    }

    /// The client's entry.
    pub(super) fn find(&self, key: BindingKey) -> Option<u16> {
        let words = [key.low(), key.high()];
        self.index.find(key.high(), |&place| self.entry(place).key == words).copied()
    }

    /// An entry for a client that has none. `None`: all places are taken by clients that hold something.
    pub(super) fn insert(&mut self, key: BindingKey) -> Option<u16> {
        let place = self.take_place()?;
        *self.entry_mut(place) = Entry::of(key);
        let Self { index, places, .. } = self;
        index.insert_unique(key.high(), place, |&place| places[usize::from(place)].key[1]);
        Some(place)
    }

    /// A free place, or that of the oldest entry that holds nothing.
    fn take_place(&mut self) -> Option<u16> {
        if self.free == NONE {
            let forgettable = self.clients().filter(|&place| self.holds_nothing(place));
            let oldest = forgettable.min_by_key(|&place| self.entry(place).stamp)?;
            self.remove(oldest);
        }
        let place = self.free;
        self.free = self.entry(place).next;
        Some(place)
    }

    fn free_place(&mut self, place: u16) {
        *self.entry_mut(place) = Entry { next: self.free, ..Entry::FREE };
        self.free = place;
    }

    /// Forgets a client that holds nothing.
    fn remove(&mut self, place: u16) {
        let hash = self.entry(place).key[1];
        if let Ok(found) = self.index.find_entry(hash, |&other| other == place) {
            found.remove();
            self.free_place(place);
        }
    }

    /// Whether a place is left without forgetting anybody.
    pub(super) fn has_room(&self) -> bool {
        self.free != NONE
    }

    /// Places of all clients.
    pub(super) fn clients(&self) -> impl Iterator<Item = u16> {
        let places = (0..).zip(self.places.iter());
        places.filter(|(_, entry)| entry.flags & CLIENT != 0).map(|(place, _)| place)
    }

    fn holds_nothing(&self, place: u16) -> bool {
        let entry = self.entry(place);
        entry.held_at().is_none() && entry.offered_at().is_none() && entry.next == NONE
    }

    /// Slots of this client that rest.
    pub(super) fn resting(&self, place: u16) -> impl Iterator<Item = Resting> {
        self.chain(place).map(|place| {
            let entry = self.entry(place);
            Resting {
                at: Location { pool: entry.pool, slot: entry.slot },
                until: entry.expires,
                stamp: entry.stamp,
                // A resting place always has a state.
                state: entry.state.unwrap_or(State::Quarantined),
            }
        })
    }

    fn chain(&self, place: u16) -> impl Iterator<Item = u16> {
        self.places_from(self.entry(place).next)
    }

    fn places_from(&self, first: u16) -> impl Iterator<Item = u16> {
        let link = |place: u16| Some(place).filter(|&place| place != NONE);
        std::iter::successors(link(first), move |&place| link(self.entry(place).next))
    }

    /// Whether this client holds the slot's bit.
    pub(super) fn holds(&self, place: u16, at: Location) -> bool {
        let entry = self.entry(place);
        entry.held_at() == Some(at)
            || entry.offered_at() == Some(at)
            || self.resting(place).any(|resting| resting.at == at)
    }

    /// Lets a slot rest whose bit this client holds. False if there is no place.
    pub(super) fn rest(&mut self, place: u16, resting: Resting) -> bool {
        let Some(added) = self.take_place() else { return false };
        let next = std::mem::replace(&mut self.entry_mut(place).next, added);
        let key = self.entry(place).key;
        *self.entry_mut(added) = Entry {
            key,
            stamp: resting.stamp,
            pool: resting.at.pool,
            slot: resting.at.slot,
            expires: resting.until,
            state: Some(resting.state),
            next,
            ..Entry::FREE
        };
        true
    }

    /// Ends the rest of a slot; its bit is the caller's now.
    pub(super) fn wake(&mut self, place: u16, at: Location) -> Option<Resting> {
        let mut before = place;
        loop {
            let found = self.entry(before).next;
            if found == NONE {
                return None;
            }
            if (Location { pool: self.entry(found).pool, slot: self.entry(found).slot }) == at {
                let woken = self.resting(before).next();
                self.entry_mut(before).next = self.entry(found).next;
                self.free_place(found);
                return woken;
            }
            before = found;
        }
    }

    /// Gives the slot's bit back if nothing of this client refers to it any more.
    pub(super) fn let_go(&self, place: u16, at: Location, stock: &Stock) {
        if !self.holds(place, at) {
            stock.give_back(at);
        }
    }

    /// Ends the client's offer, if it has one.
    pub(super) fn end_offer(&mut self, place: u16, stock: &Stock) {
        let entry = self.entry_mut(place);
        if let Some(at) = entry.offered_at() {
            if entry.offer_counts() {
                stock.uncount_offer();
            }
            entry.clear_offer();
            self.let_go(place, at, stock);
        }
    }

    /// Ends the hold of the binding's slot: from now on it is only remembered.
    pub(super) fn end_hold(&mut self, place: u16, stock: &Stock) {
        let entry = self.entry_mut(place);
        if let Some(at) = entry.held_at() {
            stock.mark(at, entry.key(), entry.stamp);
            entry.unhold();
            self.let_go(place, at, stock);
        }
    }

    /// Ends the rest of every slot of the client whose time is over.
    fn end_rests(&mut self, place: u16, stock: &Stock, now: Now) {
        let over = |shard: &Self| shard.resting(place).find(|rest| !lasts(rest.until, now));
        while let Some(over) = over(self) {
            self.wake(place, over.at);
            stock.mark(over.at, self.entry(place).key(), over.stamp);
            self.let_go(place, over.at, stock);
        }
    }

    /// Gives back what is over, and forgets clients of whom nothing is left.
    pub(super) fn sweep(&mut self, stock: &Stock, hold_down_seconds: u32, now: Now) {
        for place in 0..u16::try_from(PLACES).unwrap_or(NONE) {
            let entry = self.entry(place);
            // Resting places are seen by way of their clients' entries.
            if entry.flags & CLIENT == 0 {
                continue;
            }
            if entry.held_at().is_some() && !lasts(entry.hold_end(hold_down_seconds), now) {
                self.end_hold(place, stock);
            }
            let offer_until = self.entry(place).offer_until;
            let held = lasts(offer_until, now) && holds(Rule::OffersHold);
            if offer_until != 0 && !held {
                self.end_offer(place, stock);
            }
            self.end_rests(place, stock, now);
            self.forget_if_empty(place);
        }
    }

    /// Forgets the client if it has no binding, not even a remembered one, and holds nothing.
    pub(super) fn forget_if_empty(&mut self, place: u16) {
        if self.entry(place).state.is_none() && self.holds_nothing(place) {
            self.remove(place);
        }
    }

    pub(super) fn count(&self, census: &mut Census, now: Now) {
        for place in self.clients() {
            let entry = self.entry(place);
            census.active += usize::from(entry.is_active(now));
            census.held_down += usize::from(entry.held_at().is_some() && !entry.is_active(now));
            census.past += usize::from(entry.at().is_some() && entry.held_at().is_none());
            census.resting += self.resting(place).count();
            census.offers += usize::from(entry.offered_at().is_some());
        }
    }

    /// Checks that every place is free, a client's, or rests in one chain. The error says what is wrong.
    #[cfg(any(test, feature = "sim"))]
    pub(super) fn check(&self) -> Result<(), String> {
        let free = self.places_from(self.free).take(PLACES + 1).count();
        let clients = self.clients().count();
        let resting: usize = self.clients().map(|place| self.resting(place).count()).sum();
        if free + clients + resting != PLACES {
            return Err(format!("{free} free, {clients} clients, {resting} resting of {PLACES}"));
        }
        if clients != self.index.len() {
            return Err(format!("{clients} clients, but {} in the index", self.index.len()));
        }
        match self.clients().find(|&place| self.find(self.entry(place).key()) != Some(place)) {
            Some(place) => Err(format!("place {place} is not found by its key")),
            None => Ok(()),
        }
    }
}
