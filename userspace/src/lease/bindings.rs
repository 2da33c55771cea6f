//! Clients and what they hold: one shard of the table.
//!
//! A shard is a fixed number of places and a guide to them, sized once. A client's first place is
//! its *entry*: its binding and its offer. Slots that it left and that are still held down rest in further
//! places, chained to the entry. A slot's bit is held by its client as long as the entry's binding, its offer or
//! a resting place refers to it, and is given back with the last of them.

use super::{
    Census,
    block::{Held, NO_SOFTWIRE, PLACES},
    entry::{Entry, NONE, Resting},
    guide::{BUCKET_PLACES, Guide, Use, home},
    key::BindingKey,
    pools::Location,
    record::{Softwire, lasts},
    rules::{Rule, holds},
    sites::Stake,
    stamp::Now,
    stock::Stock,
};
use crate::sync::MutexGuard;

/// The mean number of clients of a shard when the table is as full as its capacity. Clients fall into shards by
/// a keyed hash: that one of 20,000 shards gets more than [`PLACES`] is a matter of 1 in 10⁶ (see the test).
pub(super) const FILL: usize = 710;

/// The most slots of one client that rest at a time; further moves have to wait.
pub(super) const RESTING_MAX: usize = 8;

/// The most slots of one client that rest after it has declined one: declines leave room for moves.
pub(super) const RESTING_MAX_DECLINED: usize = 4;

/// Of so many clients that hold nothing the one is forgotten that was granted something longest ago. To look at all of
/// them for each new client would cost more than anything else that is done for it.
pub(super) const FORGETTABLE_SEEN: usize = 4;

/// A shard of the table, whose lock is held.
pub(super) struct Shard<'l> {
    pub(super) guide: &'l Guide,
    pub(super) held: MutexGuard<'l, Held>,
}

impl Shard<'_> {
    /// Octets that a shard takes on the heap.
    pub(super) fn heap_octets(&self) -> usize {
        let sites = self.held.sites.as_deref().map_or(0, size_of_val);
        let softwires = self.held.softwires.as_deref().map_or(0, size_of_val);
        size_of_val(&*self.held.places) + sites + softwires
    }

    #[inline]
    pub(super) fn entry(&self, place: u16) -> &Entry {
        &self.held.places.0[usize::from(place)]
    }

    #[inline]
    pub(super) fn entry_mut(&mut self, place: u16) -> &mut Entry {
        &mut self.held.places.0[usize::from(place)]
    }

    /// The client's entry.
    #[inline]
    pub(super) fn find(&self, key: BindingKey) -> Option<u16> {
        let is = |place: usize| self.held.places.0.get(place).is_some_and(|entry| entry.is_of(key));
        self.guide.find(key.high(), is).and_then(|place| u16::try_from(place).ok())
    }

    /// An entry for a client that has none. `None`: all places are taken by clients that hold something.
    pub(super) fn insert(&mut self, key: BindingKey) -> Option<u16> {
        let place = self.take_place(key, Use::Client(key.high()))?;
        *self.entry_mut(place) = Entry::of(key);
        Some(place)
    }

    /// A free place near the client's home, or that of an old entry that holds nothing.
    fn take_place(&mut self, key: BindingKey, used: Use) -> Option<u16> {
        if self.held.free == 0 {
            let forgotten = self.forgettable(key)?;
            self.remove(forgotten);
        }
        let place = self.guide.free(key.high())?;
        self.guide.occupy(place, used);
        self.held.free -= 1;
        u16::try_from(place).ok()
    }

    /// Of the nearest clients that hold nothing the one that was granted something longest ago.
    fn forgettable(&self, key: BindingKey) -> Option<u16> {
        let first = home(key.high()) * BUCKET_PLACES;
        let around = (first..PLACES).chain(0..first).filter_map(|place| u16::try_from(place).ok());
        let clients = around.filter(|&place| self.entry(place).is_client());
        let seen = clients.filter(|&place| self.holds_nothing(place)).take(FORGETTABLE_SEEN);
        seen.min_by_key(|&place| self.entry(place).stamp())
    }

    fn free_place(&mut self, place: u16, used: Use) {
        *self.entry_mut(place) = Entry::FREE;
        self.guide.vacate(place.into(), used);
        self.held.free += 1;
    }

    /// Forgets a client that holds nothing.
    fn remove(&mut self, place: u16) {
        let hash = self.entry(place).hash();
        self.free_place(place, Use::Client(hash));
    }

    /// Whether a place is left without forgetting anybody.
    pub(super) fn has_room(&self) -> bool {
        self.held.free != 0
    }

    /// Places of all clients.
    pub(super) fn clients(&self) -> impl Iterator<Item = u16> {
        let places = (0..).zip(self.held.places.0.iter());
        places.filter(|(_, entry)| entry.is_client()).map(|(place, _)| place)
    }

    fn holds_nothing(&self, place: u16) -> bool {
        let entry = self.entry(place);
        entry.held_at().is_none() && entry.offered_at().is_none() && entry.next == NONE
    }

    /// Slots of this client that rest.
    pub(super) fn resting(&self, place: u16) -> impl Iterator<Item = Resting> {
        self.chain(place).map(|place| self.entry(place).as_resting())
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

    /// The softwire of the client's lease.
    pub(super) fn softwire(&self, place: u16) -> Option<Softwire> {
        let softwire = self.held.softwires.as_ref()?.get(usize::from(place)).copied();
        softwire.filter(|softwire| *softwire != NO_SOFTWIRE)
    }

    pub(super) fn set_softwire(&mut self, place: u16, softwire: Option<Softwire>) {
        let noted = self.held.softwires.as_mut();
        if let Some(noted) = noted.and_then(|noted| noted.get_mut(usize::from(place))) {
            *noted = softwire.unwrap_or(NO_SOFTWIRE);
        }
    }

    /// Gives back the address of a lease that is over.
    pub(super) fn end_softwire(&mut self, place: u16, stock: &Stock) {
        if let Some((softwires, softwire)) = stock.softwires.as_ref().zip(self.softwire(place)) {
            let entry = self.entry(place);
            softwires.release(softwire.address, entry.key(), entry.stamp());
            self.set_softwire(place, None);
        }
    }

    /// The key of the site in whose limit the client takes part, and with what.
    pub(super) fn stake(&self, place: u16) -> (u64, Stake) {
        let sites = self.held.sites.as_ref();
        let site = sites.and_then(|sites| sites.get(usize::from(place)).copied());
        (site.unwrap_or(0), self.entry(place).stake())
    }

    /// Notes what the client takes of its site's limit.
    pub(super) fn set_stake(&mut self, place: u16, site: u64, stake: Stake) {
        let sites = self.held.sites.as_mut();
        if let Some(noted) = sites.and_then(|sites| sites.get_mut(usize::from(place))) {
            *noted = site;
            self.entry_mut(place).set_stake(stake);
        }
    }

    /// Lowers what the client takes of its site's limit to what it has. It is never raised here: whoever takes more
    /// asks before. A lease that is over counts until a sweep sees it, which passes `is_active`.
    pub(super) fn lower_stake(&mut self, place: u16, stock: &Stock, is_active: bool) {
        let (site, stake) = self.stake(place);
        let Some(sites) = stock.sites.as_ref().filter(|_| stake > Stake::Nothing) else { return };
        let due = if is_active || self.entry(place).offered_at().is_some() {
            Stake::Live
        } else if self.holds_nothing(place) {
            Stake::Nothing
        } else {
            Stake::Resting
        };
        if due < stake {
            sites.change(site, stake, due);
            self.entry_mut(place).set_stake(due);
        }
    }

    /// Lets a slot rest whose bit this client holds. False if there is no place.
    pub(super) fn rest(&mut self, place: u16, resting: Resting) -> bool {
        let key = self.entry(place).key();
        let Some(added) = self.take_place(key, Use::Resting) else { return false };
        let next = std::mem::replace(&mut self.entry_mut(place).next, added);
        *self.entry_mut(added) = Entry::resting(key, resting, next);
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
            let woken = self.entry(found).as_resting();
            if woken.at == at {
                self.entry_mut(before).next = self.entry(found).next;
                self.free_place(found, Use::Resting);
                return Some(woken);
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

    /// Takes a place for an offer; false if all are taken.
    pub(super) fn count_offer(&mut self, stock: &Stock) -> bool {
        stock.offers.take(&mut self.held.offers_kept)
    }

    /// Gives back the place of an offer.
    pub(super) fn uncount_offer(&mut self, stock: &Stock) {
        stock.offers.give_back(&mut self.held.offers_kept);
    }

    /// Places for offers that were drawn and are not used.
    pub(super) fn offers_kept(&self) -> u32 {
        self.held.offers_kept.into()
    }

    /// Ends the client's offer, if it has one.
    pub(super) fn end_offer(&mut self, place: u16, stock: &Stock) {
        let entry = self.entry_mut(place);
        if let Some(at) = entry.offered_at() {
            let counts = entry.offer_counts();
            entry.clear_offer();
            if counts {
                self.uncount_offer(stock);
            }
            self.let_go(place, at, stock);
        }
    }

    /// Ends the hold of the binding's slot: from now on it is only remembered.
    pub(super) fn end_hold(&mut self, place: u16, stock: &Stock) {
        let entry = self.entry_mut(place);
        if let Some(at) = entry.held_at() {
            stock.mark(at, entry.stamp());
            entry.unhold();
            self.let_go(place, at, stock);
        }
    }

    /// Ends the rest of every slot of the client whose time is over.
    fn end_rests(&mut self, place: u16, stock: &Stock, now: Now) {
        let over = |shard: &Self| shard.resting(place).find(|rest| !lasts(rest.until, now));
        while let Some(over) = over(self) {
            self.wake(place, over.at);
            stock.mark(over.at, over.stamp);
            self.let_go(place, over.at, stock);
        }
    }

    /// Gives back what is over, and forgets clients of whom nothing is left.
    pub(super) fn sweep(&mut self, stock: &Stock, hold_down_seconds: u32, now: Now) {
        for place in 0..u16::try_from(PLACES).unwrap_or(NONE) {
            let entry = self.entry(place);
            // Resting places are seen by way of their clients' entries.
            if !entry.is_client() {
                continue;
            }
            if entry.held_at().is_some() && !lasts(entry.hold_end(hold_down_seconds), now) {
                self.end_hold(place, stock);
            }
            let offer_until = self.entry(place).offer_until();
            let held = lasts(offer_until, now) && holds(Rule::OffersHold);
            if offer_until != 0 && !held {
                self.end_offer(place, stock);
            }
            self.end_rests(place, stock, now);
            let is_active = self.entry(place).is_active(now);
            self.lower_stake(place, stock, is_active);
            if !is_active {
                self.end_softwire(place, stock);
            }
            self.forget_if_empty(place);
        }
    }

    /// Forgets the client if it has no binding, not even a remembered one, and holds nothing.
    pub(super) fn forget_if_empty(&mut self, place: u16) {
        if self.entry(place).at().is_none() && self.holds_nothing(place) {
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
        let free = usize::from(self.held.free);
        let clients = self.clients().count();
        let resting: usize = self.clients().map(|place| self.resting(place).count()).sum();
        if free + clients + resting != PLACES {
            return Err(format!("{free} free, {clients} clients, {resting} resting of {PLACES}"));
        }
        match self.clients().find(|&place| self.find(self.entry(place).key()) != Some(place)) {
            Some(place) => Err(format!("place {place} is not found by its key")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::{
        Features, Leases, Settings,
        block::{Block, Sides, blocks},
        geometry::PoolSpec,
        offers::Offers,
        pool::{PoolId, Slot},
        pools::Pools,
        record::{NEVER, State},
        stamp::Stamp,
        tests,
    };

    fn stock() -> Stock {
        let spec: PoolSpec = tests::shared("P", ("192.0.2.0", "192.0.2.15"), 0, 6);
        Stock::new(Pools::new(&[spec]).unwrap(), Offers::new(u32::MAX, 1), None, None)
    }

    fn block() -> Block {
        blocks(1, Sides::default()).pop().unwrap()
    }

    fn key(number: u64) -> BindingKey {
        BindingKey(tests::identity(number).0)
    }

    /// Binds a client to a slot of its own that nobody can sweep.
    fn bind(shard: &mut Shard<'_>, number: u64, stamp: u64) -> Option<u16> {
        let place = shard.insert(key(number))?;
        let slot = Slot(u32::try_from(number).unwrap());
        let at = Location { pool: PoolId(0), slot };
        shard.entry_mut(place).bind(at, State::Bound, NEVER, Stamp(stamp));
        Some(place)
    }

    #[test]
    fn a_full_shard_forgets_the_oldest_that_holds_nothing_and_then_refuses() {
        let block = block();
        let mut shard = block.lock();
        let clients = PLACES as u64;
        for number in 0..clients {
            assert!(bind(&mut shard, number, 1000 - number).is_some());
        }
        assert_eq!(shard.insert(key(clients)), None, "all hold something");
        for number in [3, 7, 5] {
            let place = shard.find(key(number)).unwrap();
            shard.entry_mut(place).unhold();
        }
        // Of the three the seventh client's stamp is the oldest.
        assert!(bind(&mut shard, clients, 1).is_some());
        assert_eq!(shard.find(key(7)), None);
        assert!(shard.find(key(3)).is_some() && shard.find(key(5)).is_some());
        shard.check().unwrap();
        // A resting slot takes a place, too.
        let resting = Resting {
            at: Location { pool: PoolId(0), slot: Slot(900) },
            until: 9,
            stamp: Stamp(1),
            state: State::Former,
        };
        let place = shard.find(key(0)).unwrap();
        assert!(shard.rest(place, resting));
        assert!(shard.rest(place, resting));
        assert!(!shard.rest(place, resting), "the table is full");
        assert_eq!((shard.find(key(5)), shard.find(key(3))), (None, None));
        shard.check().unwrap();
    }

    #[test]
    fn a_client_that_only_has_a_resting_slot_is_not_forgotten() {
        let block = block();
        let mut shard = block.lock();
        let place = shard.insert(key(0)).unwrap();
        let at = Location { pool: PoolId(0), slot: Slot(70) };
        let resting = Resting { at, until: 9, stamp: Stamp(1), state: State::Quarantined };
        assert!(shard.rest(place, resting));
        shard.forget_if_empty(place);
        for number in 1.. {
            if bind(&mut shard, number, 5).is_none() {
                break;
            }
        }
        assert_eq!(shard.find(key(0)), Some(place));
        assert_eq!(shard.wake(place, at), Some(resting));
        assert_eq!(shard.wake(place, at), None);
    }

    #[test]
    fn the_index_never_grows_however_clients_come_and_go() {
        let (block, stock) = (block(), stock());
        let mut shard = block.lock();
        let octets = shard.heap_octets();
        let mut random = fastrand::Rng::with_seed(7);
        for number in 0..200_000 {
            if shard.insert(key(number)).is_none() {
                shard.sweep(&stock, 0, Now(0));
            }
            let gone = number.saturating_sub(random.u64(300..PLACES as u64));
            if let Some(place) = shard.find(key(gone)) {
                shard.forget_if_empty(place);
            }
        }
        shard.check().unwrap();
        assert_eq!(shard.heap_octets(), octets);
    }

    #[test]
    fn a_place_takes_less_than_110_octets_all_told() {
        let leases = tests::leases(&[]);
        assert!(leases.table_octets() / leases.places() < 110, "{}", leases.table_octets());
    }

    #[test]
    fn sites_and_softwires_add_less_than_95_octets_to_a_lease() {
        let capacity = 100_000;
        let octets = |features: Features| {
            let settings = Settings { capacity, features, ..tests::settings() };
            Leases::new(&[tests::p1()], settings).unwrap().table_octets()
        };
        let plain = octets(Features::default());
        let sites = octets(Features { leases_per_site_max: 1, ..Features::default() }) - plain;
        let softwires = octets(Features { softwires: true, ..Features::default() }) - plain;
        assert!(sites < 33 * capacity && softwires < 62 * capacity, "{sites}, {softwires}");
    }

    /// The chance that one of the shards gets more than [`PLACES`] of as many clients as the capacity is.
    fn overrun(capacity: f64) -> f64 {
        let number = |count: usize| f64::from(u32::try_from(count).unwrap());
        let shards = (capacity / number(FILL)).ceil();
        let chance = 1.0 / shards;
        // P(k) of the binomial distribution by recurrence from P(0), in logarithms.
        let mut log = capacity * (-chance).ln_1p();
        let mut tail = 0.0;
        for count in 1..=2 * PLACES {
            let count = number(count);
            log += ((capacity - count + 1.0) / count * chance / (1.0 - chance)).ln();
            tail += if count > number(PLACES) { log.exp() } else { 0.0 };
        }
        tail * shards
    }

    #[test]
    fn random_keys_overrun_no_shard() {
        for capacity in [10e3, 100e3, 1e6, 4e6, 16e6] {
            assert!(overrun(capacity) < 1e-6, "{capacity}: {}", overrun(capacity));
        }
    }
}
