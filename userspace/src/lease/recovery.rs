//! Reads back what was promised, from records in any order.
//!
//! Of two records of a slot the greater stamp wins. Of two slots that a client would hold, the one with the newer
//! record is its lease; the other was left, and is held down from then on.

use std::{cmp::Reverse, hint::black_box, ops::Range};

pub use super::images::OutsideLease;
use super::{
    LeaseError, Leases,
    bindings::Shard,
    entry::Resting,
    images::{ByShard, Image, Images, NOWHERE},
    key::BindingKey,
    pools::Location,
    promise::Promise,
    record::{Record, State, lasts},
    rules::{Rule, holds},
    sites::Stake,
    softwires::Owner,
    stamp::{Now, Stamp},
    stock::Outside,
};
use crate::memory::prefetch;

/// Images that one thread restores sooner than two would have begun.
const WORTH_A_THREAD: usize = 50_000;

/// An image of a slot that a pool has.
#[derive(Clone, Copy)]
struct Inside<'i> {
    key: BindingKey,
    at: Location,
    image: &'i Image,
}

/// What was read back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Leases, expired ones included whose slots are still kept.
    pub bound: usize,
    /// Slots that were given up and are still kept for their last holders.
    pub former: usize,
    /// Declined slots.
    pub quarantined: usize,
    /// Clients whose last slot is remembered.
    pub past: usize,
    /// Leases, held-down and quarantined slots that no pool has, or that are reserved now.
    pub outside: Vec<OutsideLease>,
    /// Records of a kind that this version does not know.
    pub unknown: usize,
    /// The greatest stamp: nothing may be served while the clock is behind it.
    pub greatest_stamp: Stamp,
}

/// Reads back what was promised: adopt every record of the log, then finish.
pub struct Recovery<'l> {
    leases: &'l Leases,
    images: Images,
    recovered: Recovered,
}

impl<'l> Recovery<'l> {
    pub(super) fn new(leases: &'l Leases) -> Self {
        let with_softwires = leases.stock().softwires.is_some();
        let images = Images::new(leases.settings().capacity, with_softwires);
        Recovery { leases, images, recovered: Recovered::default() }
    }

    /// Takes a record into account; the order does not matter.
    pub fn adopt(&mut self, record: &Record) {
        self.adopt_all(std::slice::from_ref(record));
    }

    /// Takes records into account.
    pub fn adopt_all(&mut self, records: &[Record]) {
        let Self { leases, images, recovered } = self;
        let source = |address| leases.source(address);
        images.take_in(records, source, |image| match image {
            Some(image) => recovered.greatest_stamp = recovered.greatest_stamp.max(image.stamp),
            None => recovered.unknown += 1,
        });
    }

    /// The greatest stamp of all records so far.
    pub fn greatest_stamp(&self) -> Stamp {
        self.recovered.greatest_stamp
    }

    /// Forgets all that was adopted.
    pub fn begin_anew(&mut self) {
        *self = Recovery::new(self.leases);
    }

    /// Restores all that is not over at `now`, and remembers the last holders of what is.
    pub fn finish(self, now: Now) -> Result<Recovered, LeaseError> {
        let Recovery { leases, images, mut recovered } = self;
        let hold_down_seconds = leases.hold_down_seconds();
        let mut shards = Vec::with_capacity(images.len());
        for image in images.iter() {
            let inside = leases.inside(image);
            if inside.is_none() && lasts(image.end(hold_down_seconds), now) {
                let Image { tuple, identity, state, .. } = *image;
                let until = image.end(hold_down_seconds);
                recovered.outside.push(OutsideLease { tuple, identity, state, until });
            }
            let shard = inside.map(|(key, _)| leases.shard_number(key));
            shards.push(shard.and_then(|shard| u32::try_from(shard).ok()).unwrap_or(NOWHERE));
        }
        let by_shard = ByShard::new(leases.shards.len(), &shards);
        drop(shards);
        for part in leases.restore_all(&images, &by_shard, now) {
            let Some(part) = part else {
                let last = |image: &&Image| lasts(image.end(hold_down_seconds), now);
                let inside = images.iter().filter(|image| leases.inside(image).is_some());
                return Err(LeaseError::TooManyLeases {
                    leases: inside.filter(last).count(),
                    capacity: leases.settings().capacity,
                });
            };
            recovered.bound += part.bound;
            recovered.former += part.former;
            recovered.quarantined += part.quarantined;
            recovered.past += part.past;
        }
        leases.restore_softwires(&images, now);
        if holds(Rule::OutsideLeasesHold) {
            leases.hold_outside(&recovered.outside);
        }
        Ok(recovered)
    }
}

impl Leases {
    /// The slot of an image and its client's key, if it can be served.
    fn inside(&self, image: &Image) -> Option<(BindingKey, Location)> {
        let at = self.pools().locate_tuple(image.tuple)?;
        let pool = self.pools().get(at.pool);
        (!pool.geometry().is_reserved(image.tuple.psid))
            .then(|| (image.identity.on(pool.link()), at))
    }

    /// Restores what the clients of all shards hold; the parts of what was recovered are to be added up. `None` for a
    /// part: a shard had no room.
    fn restore_all(&self, images: &Images, by_shard: &ByShard, now: Now) -> Vec<Option<Recovered>> {
        // What clients of different shards have in common is made to be changed by many threads at once.
        let (half, shards) = (self.shards.len() / 2, self.shards.len());
        if images.len() < WORTH_A_THREAD {
            return vec![self.restore_shards(images, by_shard, 0..shards, now)];
        }
        std::thread::scope(|scope| {
            let first = scope.spawn(|| self.restore_shards(images, by_shard, 0..half, now));
            let second = self.restore_shards(images, by_shard, half..shards, now);
            let first = first.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            vec![first, second]
        })
    }

    /// The same for some shards.
    fn restore_shards(
        &self,
        images: &Images,
        by_shard: &ByShard,
        shards: Range<usize>,
        now: Now,
    ) -> Option<Recovered> {
        let mut recovered = Recovered::default();
        let (mut inside, mut past) = (Vec::new(), Vec::new());
        // Newest first within a client.
        let age = |stamp: Stamp| if holds(Rule::NewerLeaseWins) { !stamp.0 } else { stamp.0 };
        for number in shards {
            inside.clear();
            past.clear();
            let numbers = by_shard.shard(number).iter();
            for &number in numbers.clone() {
                prefetch(images.get(number));
            }
            inside.extend(numbers.filter_map(|&number| {
                let image = images.get(number);
                let (key, at) = self.inside(image)?;
                // Many such reads are under way at once; later ones would wait for each other.
                black_box(self.stock().last_stamp(at));
                Some(Inside { key, at, image })
            }));
            inside.sort_unstable_by_key(|inside| (inside.key.0, age(inside.image.stamp)));
            let mut shard = self.shards[number].lock();
            for images in inside.chunk_by(|one, two| one.key == two.key) {
                if !self.restore(&mut shard, images, now, &mut recovered) {
                    return None;
                }
                let mut images = images.iter();
                past.extend(images.find(|one| one.image.state != State::Quarantined).copied());
            }
            // The newest first: in a full shard they are the ones that are remembered.
            past.sort_unstable_by_key(|inside| Reverse(inside.image.stamp));
            recovered.past += past.iter().filter(|one| Self::remember(&mut shard, one)).count();
        }
        Some(recovered)
    }

    /// Restores what a client holds; false if its shard has no room. `images` begins with the newest.
    fn restore(
        &self,
        shard: &mut Shard<'_>,
        images: &[Inside<'_>],
        now: Now,
        recovered: &mut Recovered,
    ) -> bool {
        let hold_down_seconds = self.hold_down_seconds();
        let mut lease: Option<&Inside<'_>> = None;
        for inside in images {
            let Inside { key, at, image } = inside;
            // Rule 3 outlives the restart, for slots that are over too.
            self.stock().mark(*at, image.stamp);
            if !lasts(image.end(hold_down_seconds), now) {
                continue;
            }
            let place = shard.find(*key).or_else(|| shard.insert(*key));
            let Some(place) = place else { return false };
            let until = match (image.state, lease) {
                (State::Quarantined, _) => image.expires,
                (_, None) => {
                    lease = Some(inside);
                    let entry = shard.entry_mut(place);
                    entry.bind(*at, image.state, image.expires, image.stamp);
                    entry.promised(image.source, Promise::RECOVERED);
                    self.stock().claim(*at);
                    if image.state == State::Bound {
                        recovered.bound += 1;
                    } else {
                        recovered.former += 1;
                    }
                    self.count_at_site(shard, place, inside, now);
                    continue;
                }
                // Left for the lease, though the record that says so was lost.
                (State::Bound, Some(lease)) => {
                    let left = image.expires.min(lease.image.stamp.hold_end(0));
                    left.saturating_add(hold_down_seconds)
                }
                (State::Former, Some(_)) => image.end(hold_down_seconds),
            };
            if !lasts(until, now) {
                shard.forget_if_empty(place);
                continue;
            }
            let state = match image.state {
                State::Quarantined => State::Quarantined,
                State::Bound | State::Former => State::Former,
            };
            if !shard.rest(place, Resting { at: *at, until, stamp: image.stamp, state }) {
                return false;
            }
            self.stock().claim(*at);
            self.count_at_site(shard, place, inside, now);
            if state == State::Quarantined {
                recovered.quarantined += 1;
            } else {
                recovered.former += 1;
            }
        }
        true
    }

    /// Counts a client in the limit of its site, however much that has: by its lease if that runs, else by a slot
    /// that rests.
    fn count_at_site(&self, shard: &mut Shard<'_>, place: u16, inside: &Inside<'_>, now: Now) {
        let site = inside.image.site.on(self.pools().link_of(inside.at.pool));
        let Some(sites) = self.stock().sites.as_ref().filter(|_| site != 0) else { return };
        let (noted, counted) = shard.stake(place);
        let is_active = shard.entry(place).is_active(now);
        let stake = if is_active { Stake::Live } else { Stake::Resting };
        if stake <= counted || !holds(Rule::SitesOutliveRestarts) {
            return;
        }
        if sites.change(site, Stake::Nothing, stake) {
            sites.change(noted, counted, Stake::Nothing);
            shard.set_stake(place, site, stake);
        }
    }

    /// Notes where the softwires of the leases that run begin. Of two leases that begin at one address the older has
    /// been given another, or was released, though the record that says so was lost.
    fn restore_softwires(&self, images: &Images, now: Now) {
        let softwires = self.stock().softwires.as_ref();
        let kept = softwires.filter(|_| holds(Rule::SoftwiresOutliveRestarts));
        let Some(softwires) = kept else { return };
        let runs = |(image, _): &(&Image, _)| image.runs(now);
        let mut running: Vec<_> = images.with_softwires().filter(runs).collect();
        running.sort_unstable_by_key(|(image, _)| Reverse((image.stamp, image.identity.0)));
        for (image, softwire) in running {
            let (identity, expires) = (image.identity, image.expires);
            let Some((key, at)) = self.inside(image) else {
                softwires.claim_outside(softwire.address, identity, expires, now);
                continue;
            };
            let mut shard = self.shard_of(key).lock();
            let Some(place) = shard.find(key) else { continue };
            let entry = shard.entry(place);
            let owner = Owner::new(key, identity);
            if entry.is_active(now)
                && entry.at() == Some(at)
                && softwires.claim(softwire.address, owner, expires, now).is_ok()
            {
                shard.set_softwire(place, Some(softwire));
            }
        }
    }

    /// Remembers a client's last slot if the client has no lease and its shard has room.
    fn remember(shard: &mut Shard<'_>, inside: &Inside<'_>) -> bool {
        let Inside { key, at, image } = inside;
        let place = match shard.find(*key) {
            Some(place) if shard.entry(place).state().is_some() => return false,
            Some(place) => place,
            None if !shard.has_room() => return false,
            None => match shard.insert(*key) {
                Some(place) => place,
                None => return false,
            },
        };
        let entry = shard.entry_mut(place);
        entry.bind(*at, image.state, image.expires, image.stamp);
        entry.promised(image.source, Promise::RECOVERED);
        entry.unhold();
        true
    }

    /// Holds the slots that share ports with leases that no pool can serve.
    fn hold_outside(&self, outside: &[OutsideLease]) {
        let mut holds = Vec::new();
        for lease in outside {
            let Some(pool) = self.pools().locate(lease.tuple.address) else { continue };
            let geometry = self.pools().get(pool).geometry();
            let met = geometry.slots_meeting(lease.tuple).into_iter();
            let met = met.filter(|&slot| !geometry.is_reserved(geometry.psid(slot)));
            let until = lease.until;
            holds.extend(met.map(|slot| Outside {
                at: Location { pool, slot },
                until,
                owned: false,
            }));
        }
        self.stock().hold_outside(holds);
    }
}

#[cfg(test)]
mod tests {
    use zerocopy::{FromBytes, IntoBytes};

    use super::*;
    use crate::lease::{
        bindings::PLACES,
        client::{GrantError, Holding, Standing},
        geometry::PoolSpec,
        key::SiteId,
        record::{Content, NEVER, Tuple},
        tests::{
            DECLINE_HOLD, HOLD_DOWN, POOL, START, at, grant, holder, identity, leases, lock, p1,
            promise, settings, shared, slot,
        },
    };

    fn tuple(psid: u16) -> Tuple {
        Tuple { address: "192.0.2.18".parse().unwrap(), offset: 0, psid_length: 6, psid }
    }

    fn record(number: u64, tuple: Tuple, state: State, stamp: u64, expires: u32) -> Record {
        Record::new(&Content {
            stamp: Stamp(stamp),
            identity: identity(number),
            tuple,
            state,
            expires,
            source: "2001:db8::9".parse().unwrap(),
            client: b"client",
            hardware: false,
            site: SiteId::UNKNOWN,
            softwire: None,
        })
    }

    fn bound(number: u64, psid: u16, stamp: u64, expires: u32) -> Record {
        record(number, tuple(psid), State::Bound, stamp, expires)
    }

    fn recover(leases: &Leases, records: &[Record], now: Now) -> Recovered {
        let mut recovery = leases.recover();
        for record in records {
            recovery.adopt(record);
        }
        let recovered = recovery.finish(now).unwrap();
        leases.check_invariants().unwrap();
        recovered
    }

    #[test]
    fn the_greatest_stamp_of_a_slot_wins_in_any_order_and_under_any_holder() {
        let expires = START + 1000;
        let mut records = [
            bound(1, 7, 10, expires),
            record(1, tuple(7), State::Former, 20, expires),
            bound(2, 7, 30, expires),
            bound(2, 7, 40, expires + 5),
        ];
        for seed in 0..24 {
            fastrand::Rng::with_seed(seed).shuffle(&mut records);
            let leases = leases(&[p1()]);
            let recovered = recover(&leases, &records, at(START));
            assert_eq!((recovered.bound, recovered.former, recovered.past), (1, 0, 0));
            assert_eq!(recovered.greatest_stamp, Stamp(40));
            assert_eq!(lock(&leases, 1).binding(at(START)), None);
            let binding = lock(&leases, 2).binding(at(START)).unwrap();
            assert_eq!((binding.at, binding.holding), (slot(7), Holding::Active));
            assert_eq!((binding.expires, binding.stamp), (expires + 5, Stamp(40)));
            assert_eq!(binding.promise, Promise::RECOVERED);
            assert_eq!(binding.source, leases.source("2001:db8::9".parse().unwrap()));
        }
    }

    #[test]
    fn of_two_leases_of_one_client_the_older_was_left_when_the_newer_was_made() {
        let start = u64::from(START) * 1000;
        let records = [bound(1, 7, start - 50_000, NEVER), bound(1, 8, start, NEVER)];
        let leases = leases(&[p1()]);
        let recovered = recover(&leases, &records, at(START + 5));
        assert_eq!((recovered.bound, recovered.former), (1, 1));
        assert_eq!(lock(&leases, 1).binding(at(START + 5)).unwrap().at, slot(8));
        assert_eq!(lock(&leases, 1).standing(slot(7), at(START + 5)), Standing::Kept);
        leases.sweep_all(at(START + HOLD_DOWN - 1));
        let late = at(START + HOLD_DOWN);
        assert_eq!(grant(&leases, 2, slot(7), NEVER, late).unwrap_err(), GrantError::Taken);
        leases.sweep_all(late);
        let granted = grant(&leases, 2, slot(7), NEVER, at(1)).unwrap();
        assert!(granted.records[0].stamp() > Stamp(start - 50_000), "rule 3");
        leases.check_invariants().unwrap();
    }

    #[test]
    fn what_is_held_is_held_over_a_restart_for_as_long_as_before() {
        let start = u64::from(START) * 1000;
        let records = [
            bound(1, 1, start, START + 10),
            record(2, tuple(2), State::Former, start, NEVER),
            record(3, tuple(3), State::Quarantined, start, START + DECLINE_HOLD),
            bound(4, 4, start - 1_000_000, START - HOLD_DOWN),
        ];
        let leases = leases(&[p1()]);
        let now = at(START + 20);
        let recovered = recover(&leases, &records, now);
        assert_eq!((recovered.bound, recovered.former, recovered.quarantined), (1, 1, 1));
        assert_eq!(recovered.past, 1);
        let standing = |number, psid| lock(&leases, number).standing(slot(psid), now);
        assert_eq!(lock(&leases, 1).binding(now).unwrap().holding, Holding::Expired);
        assert_eq!(lock(&leases, 2).binding(now).unwrap().holding, Holding::Former);
        assert_eq!((standing(1, 1), standing(5, 1)), (Standing::Kept, Standing::Taken));
        assert_eq!((standing(2, 2), standing(5, 2)), (Standing::Kept, Standing::Taken));
        assert_eq!((standing(3, 3), standing(5, 3)), (Standing::Taken, Standing::Taken));
        assert_eq!((standing(4, 4), standing(5, 4)), (Standing::Past, Standing::Free));

        let ends = [(START + 10 + HOLD_DOWN, 1), (START + HOLD_DOWN, 2), (START + DECLINE_HOLD, 3)];
        for (end, psid) in ends {
            leases.sweep_all(at(end - 1));
            assert!(leases.pools().is_held(slot(psid)) || end < START + 10 + HOLD_DOWN);
            leases.sweep_all(at(end));
            assert!(!leases.pools().is_held(slot(psid)), "slot {psid}");
        }
        leases.check_invariants().unwrap();
    }

    #[test]
    fn slots_that_are_free_remember_their_last_stamps() {
        let ahead = u64::from(START) * 1000 + 999;
        let leases = leases(&[p1()]);
        recover(&leases, &[bound(1, 7, ahead, START - HOLD_DOWN)], at(START));
        let granted = grant(&leases, 2, slot(7), NEVER, at(START)).unwrap();
        assert!(granted.records[0].stamp() > Stamp(ahead));
    }

    #[test]
    fn leases_follow_their_tuples_when_pools_are_reordered_and_grown() {
        let records = [bound(1, 7, 10, NEVER)];
        let grown = shared("P1", ("192.0.2.10", "192.0.2.19"), 0, 6);
        let other = shared("other", ("198.51.100.1", "198.51.100.1"), 6, 8);
        let leases = leases(&[other, grown]);
        recover(&leases, &records, at(START));
        let binding = lock(&leases, 1).binding(at(START)).unwrap();
        assert_eq!((binding.at.pool.0, binding.at.slot.0), (1, 8 << 6 | 7));
        assert_eq!(leases.pools().tuple_of(binding.at), tuple(7));
    }

    /// A lease of PSID 7 of 64 outside of `pools`, until `START + 100` and its hold-down.
    fn recover_outside(pools: &[PoolSpec]) -> (Leases, Recovered) {
        let leases = leases(pools);
        let recovered = recover(&leases, &[bound(1, 7, 10, START + 100)], at(START));
        assert_eq!(
            recovered.outside,
            [OutsideLease {
                tuple: tuple(7),
                identity: identity(1),
                state: State::Bound,
                until: START + 100 + HOLD_DOWN,
            }],
        );
        assert_eq!(lock(&leases, 1).binding(at(START)), None);
        (leases, recovered)
    }

    #[test]
    fn ports_of_a_lease_outside_the_pools_are_nobodys_until_it_is_over() {
        // PSID 7 of 64 is ports 7168 to 8191: PSIDs 28 to 31 of 256.
        let (leases, _) = recover_outside(&[shared("P1", ("192.0.2.18", "192.0.2.18"), 0, 8)]);
        let held = || -> Vec<u32> {
            (4..256).filter(|&psid| leases.pools().is_held(slot(psid))).collect()
        };
        assert_eq!(held(), [28, 29, 30, 31]);
        assert_eq!(grant(&leases, 1, slot(28), NEVER, at(START)).unwrap_err(), GrantError::Taken,);
        leases.sweep_all(at(START + 100 + HOLD_DOWN - 1));
        assert_eq!(held().len(), 4);
        leases.sweep_all(at(START + 100 + HOLD_DOWN));
        assert_eq!(held().len(), 0);
        leases.check_invariants().unwrap();
    }

    #[test]
    fn a_lease_without_any_pool_or_on_reserved_ports_is_outside() {
        recover_outside(&[shared("P", ("198.51.100.1", "198.51.100.1"), 0, 6)]);
        let mut reserved = p1();
        reserved.reserved_ports.push(8000..=8000);
        let (leases, _) = recover_outside(&[reserved]);
        assert_eq!(lock(&leases, 1).standing(slot(7), at(START)), Standing::Taken);
        // A whole address meets every port set of it, and each of those meets it.
        let (leases, _) = recover_outside(&[shared("F", ("192.0.2.18", "192.0.2.19"), 0, 0)]);
        assert_eq!(leases.pools().get(POOL).held(), 1);
        let leases = self::leases(&[p1()]);
        let whole = Tuple::whole("192.0.2.19".parse().unwrap());
        recover(&leases, &[record(1, whole, State::Bound, 10, NEVER)], at(START));
        assert_eq!(leases.pools().get(POOL).held(), 63);
    }

    #[test]
    fn a_slot_that_a_client_holds_passes_to_the_outside_lease_that_meets_it() {
        let outer = Tuple { psid_length: 5, psid: 3, ..tuple(0) };
        let records =
            [bound(1, 7, 10, START + 10), record(2, outer, State::Quarantined, 10, START + 900)];
        let leases = leases(&[p1()]);
        recover(&leases, &records, at(START));
        assert_eq!(lock(&leases, 1).standing(slot(7), at(START)), Standing::Active);
        leases.sweep_all(at(START + 10 + HOLD_DOWN));
        leases.check_invariants().unwrap();
        let now = at(START + 10 + HOLD_DOWN);
        assert_eq!(lock(&leases, 1).standing(slot(7), now), Standing::Taken);
        leases.sweep_all(at(START + 900));
        assert_eq!(leases.pools().get(POOL).held(), 0);
        leases.check_invariants().unwrap();
    }

    #[test]
    fn records_of_a_later_version_are_counted() {
        const STATE: usize = 36;
        let mut octets = [0; crate::lease::record::RECORD_LENGTH];
        octets.copy_from_slice(bound(1, 7, 10, NEVER).as_bytes());
        octets[STATE] = 9;
        let later = Record::read_from_bytes(&octets).unwrap();
        let leases = leases(&[p1()]);
        let recovered = recover(&leases, &[later, bound(1, 7, 5, NEVER)], at(START));
        assert_eq!((recovered.unknown, recovered.bound), (1, 1));
    }

    #[test]
    fn more_leases_than_the_table_has_room_for_are_refused() {
        let settings = super::super::Settings { shards: Some(1), ..settings() };
        let pool = shared("P", ("192.0.2.0", "192.0.2.15"), 0, 6);
        let leases = Leases::new(&[pool], settings).unwrap();
        let mut recovery = leases.recover();
        let leases_max = u16::try_from(PLACES).unwrap();
        for number in 0..=leases_max {
            let host = u8::try_from(number / 63).unwrap();
            let address = std::net::Ipv4Addr::new(192, 0, 2, host);
            let tuple = Tuple { address, ..tuple(number % 63 + 1) };
            recovery.adopt(&record(number.into(), tuple, State::Bound, 10, NEVER));
        }
        let error = recovery.finish(at(START)).unwrap_err();
        assert_eq!(error, LeaseError::TooManyLeases { leases: PLACES + 1, capacity: 1000 });
    }

    #[test]
    fn a_recovered_lease_goes_on_like_any_other() {
        let leases = leases(&[p1()]);
        recover(&leases, &[bound(1, 7, 10, START + 100)], at(START));
        let granted =
            lock(&leases, 1).grant(slot(7), START + 50, &holder(1), promise(4), at(START));
        assert_eq!(granted.unwrap().expires, START + 100);
        assert_eq!(lock(&leases, 1).binding(at(START)).unwrap().promise, promise(4));
    }
}
