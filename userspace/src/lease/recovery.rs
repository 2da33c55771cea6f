//! Reads back what was promised, from records in any order.
//!
//! Of two records of a slot the greater stamp wins. Of two slots that a client would hold, the one with the newer
//! record is its lease; the other was left, and is held down from then on.

use std::{net::Ipv6Addr, sync::PoisonError};

use hashbrown::HashTable;

use super::{
    LeaseError, Leases,
    entry::Resting,
    key::{BindingKey, ClientIdentity},
    pools::Location,
    promise::Promise,
    record::{Record, State, Tuple, lasts},
    rules::{Rule, holds},
    stamp::{Now, Stamp},
    stock::Outside,
};

/// The newest record of a slot.
#[derive(Clone, Copy)]
struct Image {
    stamp: Stamp,
    tuple: Tuple,
    identity: ClientIdentity,
    state: State,
    expires: u32,
    source: Ipv6Addr,
}

impl Image {
    /// When others get the slot.
    fn end(&self, hold_down_seconds: u32) -> u32 {
        match self.state {
            State::Bound => self.expires.saturating_add(hold_down_seconds),
            _ if !holds(Rule::RestsOutliveRestarts) => 0,
            State::Former => self.stamp.hold_end(hold_down_seconds),
            State::Quarantined => self.expires,
        }
    }
}

/// An image of a slot that a pool has.
struct Inside {
    key: BindingKey,
    at: Location,
    image: Image,
}

/// A lease that no pool can serve any more. It stays in the log and its ports are nobody's until it is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutsideLease {
    /// What was leased.
    pub tuple: Tuple,
    /// To whom.
    pub identity: ClientIdentity,
    /// What became of it.
    pub state: State,
    /// When it is over, its hold-down included, in seconds since the epoch.
    pub until: u32,
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

impl Recovered {
    /// Whether promises may be made again at `now`, by a clock that was set at this birth. If the clock is behind the
    /// log it was stepped back, and what is promised by it would end too early: wait until it is set, and read it anew.
    pub fn may_serve(&self, now: Now) -> bool {
        now.0 >= self.greatest_stamp.0 || !holds(Rule::ClockCatchesUp)
    }
}

/// Reads back what was promised: adopt every record of the log, then finish.
pub struct Recovery<'l> {
    leases: &'l Leases,
    images: HashTable<Image>,
    recovered: Recovered,
}

/// Tuples are not secret, and a multiplication spreads them well enough.
fn hash(tuple: Tuple) -> u64 {
    let product = u128::from(tuple.packed()) * 0x9e37_79b9_7f4a_7c15;
    u64::try_from(product >> 64 ^ product & u128::from(u64::MAX)).unwrap_or(0)
}

impl<'l> Recovery<'l> {
    pub(super) fn new(leases: &'l Leases) -> Self {
        Recovery { leases, images: HashTable::new(), recovered: Recovered::default() }
    }

    /// Takes a record into account; the order does not matter.
    pub fn adopt(&mut self, record: &Record) {
        let Some(state) = record.state() else {
            self.recovered.unknown += 1;
            return;
        };
        let image = Image {
            stamp: record.stamp(),
            tuple: record.tuple(),
            identity: record.identity(),
            state,
            expires: record.expires(),
            source: record.source(),
        };
        self.recovered.greatest_stamp = self.recovered.greatest_stamp.max(image.stamp);
        let same = |other: &Image| other.tuple == image.tuple;
        match self.images.find_mut(hash(image.tuple), same) {
            Some(known) if known.stamp >= image.stamp && holds(Rule::GreaterStampWins) => {}
            Some(known) => *known = image,
            None => {
                self.images.insert_unique(hash(image.tuple), image, |image| hash(image.tuple));
            }
        }
    }

    /// Restores all that is not over at `now`, and remembers the last holders of what is.
    pub fn finish(self, now: Now) -> Result<Recovered, LeaseError> {
        let Recovery { leases, images, mut recovered } = self;
        let hold_down_seconds = leases.hold_down_seconds();
        let mut inside = Vec::with_capacity(images.len());
        for image in images {
            match leases.inside(&image) {
                Some((key, at)) => inside.push(Inside { key, at, image }),
                None if lasts(image.end(hold_down_seconds), now) => {
                    let Image { tuple, identity, state, .. } = image;
                    let until = image.end(hold_down_seconds);
                    recovered.outside.push(OutsideLease { tuple, identity, state, until });
                }
                None => {}
            }
        }
        // Newest first within a client.
        let age = |stamp: Stamp| if holds(Rule::NewerLeaseWins) { !stamp.0 } else { stamp.0 };
        inside.sort_unstable_by_key(|inside| (inside.key.0, age(inside.image.stamp)));
        let mut past = Vec::new();
        for images in inside.chunk_by(|one, two| one.key == two.key) {
            if !leases.restore(images, now, &mut recovered) {
                let end = |inside: &&Inside| lasts(inside.image.end(hold_down_seconds), now);
                return Err(LeaseError::TooManyLeases {
                    leases: inside.iter().filter(end).count(),
                    capacity: leases.settings().capacity,
                });
            }
            past.extend(images.iter().find(|inside| inside.image.state != State::Quarantined));
        }
        // The newest first: in a full shard they are the ones that are remembered.
        past.sort_unstable_by_key(|inside| std::cmp::Reverse(inside.image.stamp));
        recovered.past = past.into_iter().filter(|inside| leases.remember(inside)).count();
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

    /// Restores what a client holds; false if its shard has no room. `images` begins with the newest.
    fn restore(&self, images: &[Inside], now: Now, recovered: &mut Recovered) -> bool {
        let hold_down_seconds = self.hold_down_seconds();
        let mut lease: Option<&Inside> = None;
        for inside in images {
            let Inside { key, at, image } = inside;
            // Rule 3 outlives the restart, for slots that are over too.
            self.stock().mark(*at, *key, image.stamp);
            if !lasts(image.end(hold_down_seconds), now) {
                continue;
            }
            let mut shard = self.shard_of(*key).lock().unwrap_or_else(PoisonError::into_inner);
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
            if state == State::Quarantined {
                recovered.quarantined += 1;
            } else {
                recovered.former += 1;
            }
        }
        true
    }

    /// Remembers a client's last slot if the client has no lease and its shard has room.
    fn remember(&self, inside: &Inside) -> bool {
        let Inside { key, at, image } = inside;
        let mut shard = self.shard_of(*key).lock().unwrap_or_else(PoisonError::into_inner);
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
