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
    bindings::{RESTING_MAX, RESTING_MAX_DECLINED, Shard},
    entry::{Entry, Resting},
    key::BindingKey,
    pool::{Pick, Pool, PoolId, Slot},
    pools::Location,
    promise::Promise,
    record::{Content, Record, State, lasts},
    rules::{Rule, holds},
    stamp::{Now, Stamp},
};
use crate::sync::MutexGuard;

/// A client, with its shard locked.
pub struct Client<'l> {
    leases: &'l Leases,
    shard: MutexGuard<'l, Shard>,
    key: BindingKey,
    place: Option<u16>,
}

impl<'l> Client<'l> {
    pub(super) fn new(leases: &'l Leases, shard: MutexGuard<'l, Shard>, key: BindingKey) -> Self {
        let place = shard.find(key);
        Client { leases, shard, key, place }
    }

    fn entry(&self) -> Option<&Entry> {
        self.place.map(|place| self.shard.entry(place))
    }

    fn pool(&self, pool: PoolId) -> &'l Pool {
        self.leases.pools().get(pool)
    }

    fn hold_down_seconds(&self) -> u32 {
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
            tuple: self.leases.pools().tuple_of(at),
            holding,
            expires: entry.expires(),
            stamp: entry.stamp(),
            promise: entry.promise(),
            source: entry.source(),
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
        } else if self.quarantines(at) {
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

    fn holds(&self, at: Location) -> bool {
        self.place.is_some_and(|place| self.shard.holds(place, at))
    }

    fn resting(&self, at: Location) -> Option<Resting> {
        self.shard.resting(self.place?).find(|resting| resting.at == at)
    }

    fn rests(&self, at: Location) -> bool {
        self.resting(at).is_some()
    }

    fn quarantines(&self, at: Location) -> bool {
        self.resting(at).is_some_and(|resting| resting.state == State::Quarantined)
    }

    /// Whether so many slots of this client rest, other than `at`, that no further one may.
    fn is_crowded(&self, at: Location, resting_max: usize) -> bool {
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
        if self.quarantines(at) {
            return Ok(None);
        }
        if self.holds(at) {
            return Ok(self.reoffer(at, until));
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
    fn reoffer(&mut self, at: Location, until: u32) -> Option<Offer> {
        let place = self.place?;
        let stock = self.leases.stock();
        if self.shard.entry(place).offered_at() == Some(at) {
            let counts = self.shard.entry(place).offer_counts();
            self.shard.entry_mut(place).set_offer(at, until, counts);
        } else {
            self.shard.end_offer(place, stock);
            self.shard.entry_mut(place).set_offer(at, until, false);
        }
        Some(Offer { at, tuple: stock.pools.tuple_of(at), until })
    }

    /// Offers a slot that `take` takes from the pool.
    fn offer_new(
        &mut self,
        pool: PoolId,
        until: u32,
        now: Now,
        take: impl FnOnce(&Pool) -> Option<Slot>,
    ) -> Result<Option<Offer>, OfferError> {
        let stock = self.leases.stock();
        // A new offer takes the place of the one that it replaces.
        let replaces = self.entry().is_some_and(Entry::offer_counts);
        if !replaces && !stock.count_offer() {
            return Err(OfferError::OffersExhausted);
        }
        let taken = take(self.pool(pool)).map(|slot| Location { pool, slot });
        let place = taken.and_then(|_| self.place_or_insert());
        let (Some(at), Some(place)) = (taken, place) else {
            if !replaces {
                stock.uncount_offer();
            }
            taken.inspect(|&at| stock.give_back(at));
            return if taken.is_some() { Err(OfferError::TableFull) } else { Ok(None) };
        };
        let former = self.shard.entry(place).offered_at();
        self.shard.entry_mut(place).set_offer(at, until, true);
        if let Some(former) = former {
            self.shard.let_go(place, former, stock);
        }
        debug_assert!(lasts(until, now), "an offer that is over before it is made");
        Ok(Some(Offer { at, tuple: stock.pools.tuple_of(at), until }))
    }

    fn place_or_insert(&mut self) -> Option<u16> {
        if self.place.is_none() {
            self.place = self.shard.insert(self.key);
        }
        self.place
    }

    /// Takes back the offer: the client chose another server.
    pub fn drop_offer(&mut self) {
        if let Some(place) = self.place {
            self.shard.end_offer(place, self.leases.stock());
            self.forget_if_empty(place);
        }
    }

    fn forget_if_empty(&mut self, place: u16) {
        self.shard.forget_if_empty(place);
        self.place = self.shard.find(self.key);
    }

    /// Leases `at` to this client until `expires`; an offer is fulfilled or dropped by it.
    ///
    /// A slot that the client has now is left in the same transaction and rests. An expiry never moves backwards.
    /// `promise` is that of the first record; the binding keeps that of the last.
    pub fn grant(
        &mut self,
        at: Location,
        expires: u32,
        holder: &Holder<'_>,
        promise: Promise,
        now: Now,
    ) -> Result<Granted, GrantError> {
        debug_assert_eq!(holder.identity.on(self.leases.pools().link_of(at.pool)), self.key);
        let stock = self.leases.stock();
        if self.quarantines(at) {
            return Err(GrantError::Taken);
        }
        let rest = self.leaving(at, now);
        if rest.is_some() && self.is_crowded(at, RESTING_MAX) {
            return Err(GrantError::Crowded);
        }
        let claims = !self.holds(at);
        if claims && !stock.claim(at) {
            return Err(GrantError::Taken);
        }
        // Wake before resting: what wakes up leaves its place to what lies down.
        let place = self.place_or_insert();
        let woken = place.and_then(|place| self.shard.wake(place, at));
        let place = place.filter(|&place| rest.is_none_or(|rest| self.shard.rest(place, rest)));
        let Some(place) = place else {
            if claims {
                stock.give_back(at);
            }
            return Err(GrantError::TableFull);
        };

        let entry = self.shard.entry(place);
        let was_active = entry.is_active(now);
        let renews = was_active && entry.held_at() == Some(at);
        let rises = renews && holds(Rule::ExpiriesRise);
        let expires = if rises { expires.max(entry.expires()) } else { expires };
        let former = rest.filter(|_| was_active).map(|rest| {
            record(rest.at, rest.stamp, State::Former, entry.expires(), self.leases, holder)
        });
        // Bound(new) exceeds Former(old): a client's newest record says what it has.
        let left = [rest, woken].into_iter().flatten().map(|resting| resting.stamp).max();
        let mut last = entry.stamp().max(left.unwrap_or_default());
        if entry.held_at() != Some(at) {
            last = last.max(stock.last_stamp(at));
            if rest.is_none() {
                self.shard.end_hold(place, stock);
            }
        }
        let stamp = Stamp::after(last, now);
        let entry = self.shard.entry_mut(place);
        entry.bind(at, State::Bound, expires, stamp);
        let sequence = promise.sequence + u64::from(former.is_some());
        entry.promised(holder.source, Promise { sequence, ..promise });
        self.shard.end_offer(place, stock);
        if !renews {
            stock.mark(at, self.key, stamp);
        }
        let bound = record(at, stamp, State::Bound, expires, self.leases, holder);
        let records = former.map_or(bound.into(), |former| Records::pair(bound, former));
        Ok(Granted { records, expires })
    }

    /// How the slot that the client has will rest if it leaves it for `at` now; `None` if it has none to leave.
    fn leaving(&self, at: Location, now: Now) -> Option<Resting> {
        let hold_down_seconds = self.hold_down_seconds();
        let entry = self.entry()?;
        let left = entry.held_at().filter(|&held| held != at)?;
        let (stamp, until) = if entry.is_active(now) {
            let stamp = Stamp::after(entry.stamp(), now);
            (stamp, stamp.hold_end(hold_down_seconds))
        } else {
            (entry.stamp(), entry.hold_end(hold_down_seconds))
        };
        let resting = Resting { at: left, until, stamp, state: State::Former };
        (entry.is_active(now) || lasts(until, now)).then_some(resting)
    }

    /// Ends the lease at the client's wish: its slot is kept for it until the hold-down is over.
    ///
    /// `None` if no lease of the client runs.
    pub fn release(&mut self, holder: &Holder<'_>, promise: Promise, now: Now) -> Option<Record> {
        let place = self.place?;
        let entry = self.shard.entry_mut(place);
        let at = entry.held_at().filter(|_| entry.is_active(now))?;
        let stamp = Stamp::after(entry.stamp(), now);
        let expires = entry.expires();
        entry.bind(at, State::Former, expires, stamp);
        entry.promised(holder.source, promise);
        Some(record(at, stamp, State::Former, expires, self.leases, holder))
    }

    /// Takes a slot out of use that the client says is in use by another (RFC 2131 §3.1 step 5).
    ///
    /// It must be the client's lease, which ends with it, or offered to it. Nobody gets it before the time is over.
    pub fn quarantine(
        &mut self,
        at: Location,
        holder: &Holder<'_>,
        promise: Promise,
        now: Now,
    ) -> Result<Record, QuarantineError> {
        let place = match self.standing(at, now) {
            Standing::Active | Standing::Offered => self.place,
            _ => None,
        };
        let place = place.ok_or(QuarantineError::NotHeld)?;
        if self.is_crowded(at, RESTING_MAX_DECLINED) {
            return Err(QuarantineError::Crowded);
        }
        let stock = self.leases.stock();
        let woken = self.shard.wake(place, at).map(|woken| woken.stamp);
        let last = self.shard.entry(place).stamp().max(woken.unwrap_or_default());
        let stamp = Stamp::after(last.max(stock.last_stamp(at)), now);
        let decline_hold_seconds = self.leases.settings().decline_hold_seconds;
        let rests = holds(Rule::DeclinedTuplesRest);
        let until = now.seconds().saturating_add(if rests { decline_hold_seconds } else { 0 });
        let state = State::Quarantined;
        if !self.shard.rest(place, Resting { at, until, stamp, state }) {
            return Err(QuarantineError::TableFull);
        }
        if self.shard.entry(place).offered_at() == Some(at) {
            self.shard.end_offer(place, stock);
        }
        let entry = self.shard.entry_mut(place);
        if entry.at() == Some(at) {
            entry.unbind();
        }
        entry.promised(holder.source, promise);
        stock.mark(at, self.key, stamp);
        Ok(record(at, stamp, state, until, self.leases, holder))
    }
}

/// The image of a slot.
fn record(
    at: Location,
    stamp: Stamp,
    state: State,
    expires: u32,
    leases: &Leases,
    holder: &Holder<'_>,
) -> Record {
    Record::new(&Content {
        stamp,
        identity: holder.identity,
        tuple: leases.pools().tuple_of(at),
        state,
        expires,
        source: holder.source,
        client: holder.client,
        hardware: holder.hardware,
    })
}
