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
use crate::memory::{furnished, prefetch};

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
        let mut shards = furnished(images.len());
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
        let restore = |shards| self.restore_shards(images, by_shard, shards, now);
        std::thread::scope(|scope| {
            let helper = std::thread::Builder::new().spawn_scoped(scope, || restore(0..half));
            let second = restore(half..shards);
            // Without a second thread it takes longer.
            let first = helper.map_or_else(
                |_| restore(0..half),
                |helper| helper.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            );
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
            // A full shard would forget a client that holds nothing, and as yet only this one may.
            let resting = Resting { at: *at, until, stamp: image.stamp, state };
            if !shard.has_room() || !shard.rest(place, resting) {
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
mod tests;
