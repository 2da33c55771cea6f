//! A place of the table: a client's entry, or a slot of its that rests.

use super::{
    key::{BindingKey, Source},
    pool::{PoolId, Slot},
    pools::Location,
    promise::{LaneId, Promise},
    record::{State, lasts},
    sites::Stake,
    stamp::{Now, Stamp},
};

/// No place.
pub(super) const NONE: u16 = u16::MAX;

/// The binding's slot is held.
const HELD: u8 = 1;
/// The offer counts against the limit of offers.
const COUNTED: u8 = 2;
/// The place is a client's entry, neither free nor a resting slot's.
const CLIENT: u8 = 4;
/// The client takes part in its site's limit: with a lease or an offer, or with slots that are held down.
const STAKE_LIVE: u8 = 8;
const STAKE_RESTING: u8 = 16;

/// A slot that its client left and nobody else gets yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Resting {
    pub at: Location,
    pub until: u32,
    pub stamp: Stamp,
    /// Former: its client may have it back. Quarantined: nobody may.
    pub state: State,
}

/// A place: a client's entry, a resting slot, or free. One cache line.
#[derive(Clone, Copy)]
pub(super) struct Entry {
    key: [u64; 2],
    source: Source,
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
    /// The next resting place of the client.
    pub(super) next: u16,
    state: Option<State>,
    flags: u8,
}

const _: () = assert!(size_of::<Entry>() == 64);

impl Entry {
    /// A free place.
    pub(super) const FREE: Entry = Entry {
        key: [0; 2],
        source: Source(0),
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

    /// The entry of a client that has nothing yet.
    pub(super) fn of(key: BindingKey) -> Entry {
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

    pub(super) fn source(&self) -> Source {
        self.source
    }

    pub(super) fn promise(&self) -> Promise {
        let lane = u16::try_from(self.promise >> 48).unwrap_or(u16::MAX);
        Promise { lane: LaneId(lane), sequence: self.promise & ((1 << 48) - 1) }
    }

    /// Whether the lease runs at `now`.
    pub(super) fn is_active(&self, now: Now) -> bool {
        self.state == Some(State::Bound) && self.flags & HELD != 0 && lasts(self.expires, now)
    }

    /// Whether this is a lease that runs, or is over and was not swept yet.
    pub(super) fn is_bound(&self) -> bool {
        self.state == Some(State::Bound) && self.flags & HELD != 0
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
    pub(super) fn promised(&mut self, source: Source, promise: Promise) {
        self.source = source;
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

    pub(super) fn clear_offer(&mut self) {
        self.offer_until = 0;
        self.flags &= !COUNTED;
    }

    /// What the client takes of its site's limit.
    pub(super) fn stake(&self) -> Stake {
        match self.flags & (STAKE_LIVE | STAKE_RESTING) {
            0 => Stake::Nothing,
            STAKE_RESTING => Stake::Resting,
            _ => Stake::Live,
        }
    }

    pub(super) fn set_stake(&mut self, stake: Stake) {
        self.flags = self.flags & !(STAKE_LIVE | STAKE_RESTING)
            | match stake {
                Stake::Nothing => 0,
                Stake::Resting => STAKE_RESTING,
                Stake::Live => STAKE_LIVE,
            };
    }

    /// The place of a slot that rests, chained before `next`.
    pub(super) fn resting(key: BindingKey, resting: Resting, next: u16) -> Entry {
        Entry {
            key: [key.low(), key.high()],
            stamp: resting.stamp,
            pool: resting.at.pool,
            slot: resting.at.slot,
            expires: resting.until,
            state: Some(resting.state),
            next,
            ..Self::FREE
        }
    }

    /// What rests here, in a resting slot's place.
    pub(super) fn as_resting(&self) -> Resting {
        Resting {
            at: Location { pool: self.pool, slot: self.slot },
            until: self.expires,
            stamp: self.stamp,
            // A resting place always has a state.
            state: self.state.unwrap_or(State::Quarantined),
        }
    }

    /// Whether this is a client's entry, neither free nor a resting slot's.
    pub(super) fn is_client(&self) -> bool {
        self.flags & CLIENT != 0
    }

    /// Whether this is the entry of `key`. Ask only of clients' entries.
    pub(super) fn is_of(&self, key: BindingKey) -> bool {
        self.key == [key.low(), key.high()]
    }

    /// What the index hashes by.
    pub(super) fn hash(&self) -> u64 {
        self.key[1]
    }
}
