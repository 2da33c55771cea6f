//! What one client holds, and everything that can be done about it while its shard is locked.
//!
//! Nothing here does I/O, allocates or waits. What fails changes nothing.

use std::net::Ipv4Addr;

pub use super::terms::{
    Binding, GrantError, Granted, Holder, Holding, Offer, OfferError, QuarantineError, Records,
    Standing,
};

use super::{
    Leases,
    bindings::Shard,
    entry::{Entry, Resting},
    key::{BindingKey, SiteId},
    limit::Admission,
    pool::{Pick, Pool, PoolId, Slot},
    pools::Location,
    record::{State, lasts},
    rules::{Rule, holds},
    stamp::Now,
};

/// What is known of a client besides its identity.
#[derive(Clone, Copy, Debug)]
pub struct Claims {
    /// Where it is: it takes part in the limit of its site.
    pub site: SiteId,
    /// The slot that it may have though it is withheld from everybody else.
    pub entitled: Option<Location>,
}

impl Claims {
    /// Nothing is known.
    pub const NONE: Claims = Claims { site: SiteId::UNKNOWN, entitled: None };
}

/// A client, with its shard locked.
pub struct Client<'l> {
    pub(super) leases: &'l Leases,
    pub(super) shard: Shard<'l>,
    pub(super) key: BindingKey,
    pub(super) place: Option<u16>,
    pub(super) site: SiteId,
    /// The withheld slot that this client may have.
    entitled: Option<Location>,
}

impl<'l> Client<'l> {
    #[inline]
    pub(super) fn new(
        leases: &'l Leases,
        shard: Shard<'l>,
        key: BindingKey,
        claims: Claims,
    ) -> Self {
        let place = shard.find(key);
        let Claims { site, entitled } = claims;
        Client { leases, shard, key, place, site, entitled }
    }

    /// The withheld slot that this client may have.
    pub fn entitlement(&self) -> Option<Location> {
        self.entitled
    }

    /// Whether `at` is withheld from this client: a lease of it goes on until it ends, and is not extended.
    pub fn is_barred_from(&self, at: Location) -> bool {
        self.entitled != Some(at)
            && self.leases.pools().is_withheld(at)
            && holds(Rule::ReservationsHold)
    }

    pub(super) fn entry(&self) -> Option<&Entry> {
        self.place.map(|place| self.shard.entry(place))
    }

    fn pool(&self, pool: PoolId) -> &'l Pool {
        self.leases.pools().get(pool)
    }

    pub(super) fn hold_down_seconds(&self) -> u32 {
        self.leases.hold_down_seconds()
    }

    /// The slot that the client has or had last.
    pub fn binding(&self, now: Now) -> Option<Binding> {
        let entry = self.entry()?;
        let at = entry.at()?;
        let holding = match entry.state() {
            _ if entry.held_at().is_none() => Holding::Past,
            Some(State::Bound) if lasts(entry.expires(), now) => Holding::Active,
            Some(State::Bound) => Holding::Expired,
            _ => Holding::Former,
        };
        Some(Binding {
            at,
            holding,
            expires: entry.expires(),
            stamp: entry.stamp(),
            promise: entry.promise(),
            source: entry.source(),
            softwire: self.softwire_at(at).filter(|_| holding == Holding::Active),
        })
    }

    /// The outstanding offer.
    pub fn offer(&self, now: Now) -> Option<Offer> {
        let entry = self.entry()?;
        let at = entry.offered_at()?;
        let until = entry.offer_until();
        lasts(until, now).then(|| Offer { at, tuple: self.leases.pools().tuple_of(at), until })
    }

    /// What `at` is to this client.
    pub fn standing(&self, at: Location, now: Now) -> Standing {
        let held = self.entry().is_some_and(|entry| entry.held_at() == Some(at));
        if held && self.entry().is_some_and(|entry| entry.is_active(now)) {
            Standing::Active
        } else if self.quarantines(at) || self.is_barred_from(at) {
            Standing::Taken
        } else if self.offer(now).is_some_and(|offer| offer.at == at) {
            Standing::Offered
        } else if held || self.rests(at) {
            Standing::Kept
        } else if self.leases.pools().is_held(at) && !self.holds(at) {
            Standing::Taken
        } else if self.entry().is_some_and(|entry| entry.at() == Some(at)) {
            Standing::Past
        } else {
            Standing::Free
        }
    }

    /// Whether somebody else has `at`. What this client has declined rests with it, and what is reserved may be free.
    pub fn is_anothers(&self, at: Location) -> bool {
        self.leases.pools().is_held(at) && !self.holds(at)
    }

    pub(super) fn holds(&self, at: Location) -> bool {
        self.place.is_some_and(|place| self.shard.holds(place, at))
    }

    fn resting(&self, at: Location) -> Option<Resting> {
        self.shard.resting(self.place?).find(|resting| resting.at == at)
    }

    fn rests(&self, at: Location) -> bool {
        self.resting(at).is_some()
    }

    pub(super) fn quarantines(&self, at: Location) -> bool {
        self.resting(at).is_some_and(|resting| resting.state == State::Quarantined)
    }

    /// Whether so many slots of this client rest, other than `at`, that no further one may.
    pub(super) fn is_crowded(&self, at: Location, resting_max: usize) -> bool {
        let others = |place| self.shard.resting(place).filter(|resting| resting.at != at).count();
        self.place.map_or(0, others) >= resting_max
    }

    /// Offers this very slot until `until`. `None` if it is taken.
    ///
    /// What the client holds anyhow needs no further bit and does not count as an offer.
    pub fn offer_slot(
        &mut self,
        at: Location,
        until: u32,
        now: Now,
    ) -> Result<Option<Offer>, OfferError> {
        if self.quarantines(at) || self.is_barred_from(at) {
            return Ok(None);
        }
        if self.holds(at) {
            let link = self.leases.pools().link_of(at.pool);
            let admission = self.admit(link, now).ok_or(OfferError::SiteFull)?;
            return Ok(self.reoffer(at, until, admission));
        }
        self.offer_new(at.pool, until, now, |pool| pool.claim(at.slot).then_some(at.slot))
    }

    /// Offers any free slot of this pool until `until`. `None` if there is none.
    pub fn offer_any(
        &mut self,
        pool: PoolId,
        pick: Pick,
        until: u32,
        now: Now,
    ) -> Result<Option<Offer>, OfferError> {
        self.offer_new(pool, until, now, |pool| pool.acquire(pick))
    }

    /// Offers any free slot of this address of this pool until `until`. `None` if there is none.
    pub fn offer_address(
        &mut self,
        address: Ipv4Addr,
        pool: PoolId,
        pick: Pick,
        until: u32,
        now: Now,
    ) -> Result<Option<Offer>, OfferError> {
        self.offer_new(pool, until, now, |pool| pool.acquire_at(address, pick))
    }

    /// Offers a slot that the client holds already.
    fn reoffer(&mut self, at: Location, until: u32, admission: Admission) -> Option<Offer> {
        let place = self.place?;
        let stock = self.leases.stock();
        if self.shard.entry(place).offered_at() == Some(at) {
            let counts = self.shard.entry(place).offer_counts();
            self.shard.entry_mut(place).set_offer(at, until, counts);
        } else {
            self.shard.end_offer(place, stock);
            self.shard.entry_mut(place).set_offer(at, until, false);
        }
        self.enter(place, admission);
        Some(Offer { at, tuple: stock.pools.tuple_of(at), until })
    }

    /// Offers a slot that `take` takes from the pool.
    // req-S66 (RFC 2131 §3.1): it is held for this client until the offer lapses, and then it is free again.
    fn offer_new(
        &mut self,
        pool: PoolId,
        until: u32,
        now: Now,
        take: impl FnOnce(&Pool) -> Option<Slot>,
    ) -> Result<Option<Offer>, OfferError> {
        let stock = self.leases.stock();
        let admission = self.admit(stock.pools.link_of(pool), now).ok_or(OfferError::SiteFull)?;
        // A new offer takes the place of the one that it replaces.
        let replaces = self.entry().is_some_and(Entry::offer_counts);
        if !replaces && !self.shard.count_offer(stock) {
            self.retreat(admission);
            return Err(OfferError::OffersExhausted);
        }
        let taken = take(self.pool(pool)).map(|slot| Location { pool, slot });
        let place = taken.and_then(|_| self.place_or_insert());
        let (Some(at), Some(place)) = (taken, place) else {
            if !replaces {
                self.shard.uncount_offer(stock);
            }
            taken.inspect(|&at| stock.give_back(at));
            self.retreat(admission);
            return if taken.is_some() { Err(OfferError::TableFull) } else { Ok(None) };
        };
        let former = self.shard.entry(place).offered_at();
        self.shard.entry_mut(place).set_offer(at, until, true);
        if let Some(former) = former {
            self.shard.let_go(place, former, stock);
        }
        self.enter(place, admission);
        debug_assert!(lasts(until, now), "an offer that is over before it is made");
        Ok(Some(Offer { at, tuple: stock.pools.tuple_of(at), until }))
    }

    pub(super) fn place_or_insert(&mut self) -> Option<u16> {
        if self.place.is_none() {
            self.place = self.shard.insert(self.key);
        }
        self.place
    }

    /// Takes back the offer: the client chose another server.
    pub fn drop_offer(&mut self) {
        if let Some(place) = self.place {
            self.shard.end_offer(place, self.leases.stock());
            self.settle(place);
            self.forget_if_empty(place);
        }
    }

    fn forget_if_empty(&mut self, place: u16) {
        self.shard.forget_if_empty(place);
        self.place = self.shard.find(self.key);
    }
}
