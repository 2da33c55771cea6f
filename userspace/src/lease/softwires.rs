//! Whose softwire begins where: no two leases that run have the same IPv6 source address (RFC 8539 §8.2).

use std::{
    hash::{BuildHasher as _, RandomState},
    net::Ipv6Addr,
    sync::PoisonError,
};

use siphasher::sip::SipHasher13;

use super::{
    client::{Client, Holder},
    fixed::{FixedTable, Row},
    key::{BindingKey, ClientIdentity},
    pools::Location,
    record::{Softwire, lasts},
    rules::{Rule, holds},
    stamp::{Now, Stamp},
};
use crate::sync::{AtomicU32, Mutex, Ordering};

/// One address, by its keyed hash: clients choose addresses, and must not choose each other's places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct End {
    key: u64,
    /// Whose it is: of an [`Owner`] one of the two.
    holder: u64,
    /// When its lease is over, in seconds since the epoch.
    expires: u32,
}

impl Row for End {
    const EMPTY: End = End { key: 0, holder: 0, expires: 0 };

    fn key(&self) -> u64 {
        self.key
    }
}

impl End {
    /// Whether another client's lease that runs has the address.
    fn is_of_another(&self, owner: Owner, now: Now) -> bool {
        let another = self.holder != owner.inside && self.holder != owner.outside;
        another && lasts(self.expires, now) && holds(Rule::SoftwiresAreUnique)
    }
}

/// A client as the owner of an address.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owner {
    /// By its lease on its link: the low half of its key.
    inside: u64,
    /// By a lease that no pool can serve any more: it may take the address along.
    outside: u64,
}

impl Owner {
    /// Tells a client without a link from one on any link.
    const OUTSIDE: u64 = 0x6f75_7473_6964_6521;

    pub(super) fn new(key: BindingKey, identity: ClientIdentity) -> Owner {
        let identity = BindingKey(identity.0).low();
        Owner { inside: key.low(), outside: identity ^ Self::OUTSIDE }
    }
}

/// Why a client does not get an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EndError {
    /// Another client's lease that runs has it.
    Held,
    /// No room.
    Full,
}

/// An address of a lease that no pool can serve.
#[derive(Clone, Copy, Debug)]
struct OutsideEnd {
    address: Ipv6Addr,
    holder: u64,
    expires: u32,
}

/// The addresses of all leases that run.
pub(super) struct Softwires {
    hasher: SipHasher13,
    table: FixedTable<End>,
    /// How many of `outside` there are: almost always none, and then nobody takes the lock.
    outside_count: AtomicU32,
    outside: Mutex<Vec<OutsideEnd>>,
}

/// Keyed anew at each start: no client can aim at a place. A history of the simulation, which can be told again, has
/// the same key each time.
fn hasher() -> SipHasher13 {
    let random = RandomState::new();
    let key = |number: u64| if cfg!(feature = "sim") { number } else { random.hash_one(number) };
    SipHasher13::new_with_keys(key(0), key(1))
}

impl Softwires {
    /// No lease has one; `capacity` leases will at most.
    pub(super) fn new(capacity: usize) -> Softwires {
        Softwires {
            hasher: hasher(),
            table: FixedTable::with_capacity(capacity),
            outside_count: AtomicU32::new(0),
            outside: Mutex::new(Vec::new()),
        }
    }

    fn key(&self, address: Ipv6Addr) -> u64 {
        self.hasher.hash(&address.octets()).max(1)
    }

    /// Gives `address` to a client whose lease ends at `expires`, unless it is another's. An address of a lease that is
    /// over is nobody's.
    ///
    /// The lease's record must exceed the stamp that is returned: that of the record in which it was another's.
    // req-S93 (RFC 8539 §8.2): checked against all leases that run.
    pub(super) fn claim(
        &self,
        address: Ipv6Addr,
        owner: Owner,
        expires: u32,
        now: Now,
    ) -> Result<Stamp, EndError> {
        let key = self.key(address);
        let mut rows = self.table.lock(key);
        if rows.find(key).is_some_and(|end| end.is_of_another(owner, now)) {
            return Err(EndError::Held);
        }
        let stamp = Stamp(rows.latest);
        let end = End { key, holder: owner.inside, expires };
        if rows.put(end) { Ok(stamp) } else { Err(EndError::Full) }
    }

    /// Keeps `address` for a lease that no pool can serve, unless it is another's. At recovery only.
    pub(super) fn claim_outside(
        &self,
        address: Ipv6Addr,
        identity: ClientIdentity,
        expires: u32,
        now: Now,
    ) {
        let Owner { outside: holder, .. } = Owner::new(BindingKey(0), identity);
        // Of several leases of a client the newest comes first.
        if self.is_held(address, holder) {
            return;
        }
        if self.claim(address, Owner { inside: holder, outside: holder }, expires, now).is_ok() {
            let mut outside = self.outside.lock().unwrap_or_else(PoisonError::into_inner);
            outside.push(OutsideEnd { address, holder, expires });
            self.outside_count.store(1, Ordering::Relaxed);
        }
    }

    /// Gives back the addresses of outside leases that are over.
    pub(super) fn sweep_outside(&self, now: Now) {
        if self.outside_count.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut outside = self.outside.lock().unwrap_or_else(PoisonError::into_inner);
        outside.retain(|end| {
            let runs = lasts(end.expires, now);
            if !runs {
                self.give_back(end.address, end.holder, Stamp::default());
            }
            runs
        });
        self.outside_count.store(u32::from(!outside.is_empty()), Ordering::Relaxed);
    }

    /// Whether the client may have `address`, or has it.
    pub(super) fn is_free(&self, address: Ipv6Addr, owner: Owner, now: Now) -> bool {
        let key = self.key(address);
        let mut rows = self.table.lock(key);
        rows.find(key).is_none_or(|end| !end.is_of_another(owner, now))
    }

    /// Gives `address` back if the client has it, whose newest record bears `stamp`.
    pub(super) fn release(&self, address: Ipv6Addr, holder: BindingKey, stamp: Stamp) {
        self.give_back(address, holder.low(), stamp);
    }

    fn give_back(&self, address: Ipv6Addr, holder: u64, stamp: Stamp) {
        let key = self.key(address);
        let mut rows = self.table.lock(key);
        if rows.find(key).is_some_and(|end| end.holder == holder) {
            rows.remove(key);
            // If that record is lost, the next holder's is the newer one nevertheless.
            rows.latest = rows.latest.max(stamp.0);
        }
    }

    /// Octets that the table takes.
    pub(super) fn octets(&self) -> usize {
        self.table.octets()
    }

    /// How many addresses clients have by leases that a pool serves. Not for the hot path.
    #[cfg(any(test, feature = "sim"))]
    pub(super) fn count(&self) -> usize {
        let outside = self.outside.lock().unwrap_or_else(PoisonError::into_inner);
        let theirs = outside.iter().filter(|end| self.is_held(end.address, end.holder)).count();
        self.table.used().len() - theirs
    }

    /// Whether the client has `address`.
    #[cfg(any(test, feature = "sim"))]
    pub(super) fn is_of(&self, address: Ipv6Addr, holder: BindingKey) -> bool {
        self.is_held(address, holder.low())
    }

    fn is_held(&self, address: Ipv6Addr, holder: u64) -> bool {
        let key = self.key(address);
        self.table.lock(key).find(key).is_some_and(|end| end.holder == holder)
    }
}

impl Client<'_> {
    fn softwires(&self) -> Option<&Softwires> {
        self.leases.stock().softwires.as_ref()
    }

    /// Whether a lease of this client may have its softwire begin at `address`: no other lease that runs has it.
    pub fn may_have_softwire(&self, address: Ipv6Addr, identity: ClientIdentity, now: Now) -> bool {
        let owner = Owner::new(self.key, identity);
        self.softwires().is_none_or(|softwires| softwires.is_free(address, owner, now))
    }

    /// The softwire of the binding, if it is at `at`.
    pub(super) fn softwire_at(&self, at: Location) -> Option<Softwire> {
        let place = self.place.filter(|&place| self.shard.entry(place).at() == Some(at))?;
        self.shard.softwire(place)
    }

    /// Takes `address` for a lease to come. If it is new to this client, it goes back if nothing comes of it; else the
    /// lease's record must exceed the stamp.
    pub(super) fn claim_softwire(
        &self,
        holder: &Holder<'_>,
        expires: u32,
        now: Now,
    ) -> Result<Option<Stamp>, EndError> {
        let (softwires, address) = (self.softwires(), holder.softwire);
        let Some((softwires, address)) = softwires.zip(address) else { return Ok(None) };
        let has = |place| self.shard.softwire(place).is_some_and(|it| it.address == address);
        let had = self.place.is_some_and(has);
        let stamp =
            softwires.claim(address, Owner::new(self.key, holder.identity), expires, now)?;
        Ok((!had).then_some(stamp))
    }

    /// Gives back an address that was new to this client.
    pub(super) fn unclaim_softwire(&self, address: Option<Ipv6Addr>) {
        if let Some((softwires, address)) = self.softwires().zip(address) {
            softwires.release(address, self.key, Stamp::default());
        }
    }

    /// Notes the softwire of the lease that the client has now, until `expires`: the holder's new one, which is
    /// claimed, or `kept`, that of the lease before. Whatever else the client had is given back.
    pub(super) fn note_softwire(
        &mut self,
        place: u16,
        holder: &Holder<'_>,
        kept: Option<Softwire>,
        expires: u32,
        now: Now,
    ) {
        let Some(softwires) = self.leases.stock().softwires.as_ref() else { return };
        let before = self.shard.softwire(place);
        let changed = now.seconds();
        let after = match holder.softwire {
            Some(address) if kept.is_none_or(|kept| kept.address != address) => {
                Some(Softwire { address, changed })
            }
            _ => kept,
        };
        if let Some(before) = before
            && after.is_none_or(|after| after.address != before.address)
        {
            let stamp = self.shard.entry(place).stamp();
            softwires.release(before.address, self.key, stamp);
        }
        let owner = Owner::new(self.key, holder.identity);
        let claimed = |it: &Softwire| softwires.claim(it.address, owner, expires, now).is_ok();
        self.shard.set_softwire(place, after.filter(claimed));
    }

    /// Gives back the address of a lease that is over.
    pub(super) fn end_softwire(&mut self, place: u16) {
        self.shard.end_softwire(place, self.leases.stock());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_one_client_s_until_its_lease_is_over() {
        let softwires = Softwires::new(100);
        let address = "2001:db8::1".parse().unwrap();
        let (one, two) = (BindingKey(1), BindingKey(2));
        let owner = |key: BindingKey| Owner::new(key, ClientIdentity(key.0 + 100));
        let at = |seconds: u64| Now(seconds * 1000);
        assert_eq!(softwires.claim(address, owner(one), 100, at(50)), Ok(Stamp(0)));
        assert_eq!(softwires.claim(address, owner(two), 200, at(99)), Err(EndError::Held));
        assert!(
            softwires.is_free(address, owner(one), at(50))
                && !softwires.is_free(address, owner(two), at(99))
        );
        // Extended by its holder.
        assert_eq!(softwires.claim(address, owner(one), 150, at(99)), Ok(Stamp(0)));
        assert!(
            !softwires.is_free(address, owner(two), at(149))
                && softwires.is_free(address, owner(two), at(150))
        );
        assert_eq!(softwires.claim(address, owner(two), 200, at(150)), Ok(Stamp(0)));
        // Who had it before cannot give it back any more.
        softwires.release(address, one, Stamp(7));
        assert_eq!(softwires.claim(address, owner(one), 900, at(160)), Err(EndError::Held));
        softwires.release(address, two, Stamp(9));
        assert_eq!(
            (softwires.count(), softwires.claim(address, owner(one), 900, at(160))),
            (0, Ok(Stamp(9)))
        );
    }

    #[test]
    fn an_address_of_a_lease_outside_goes_along_with_its_client_only() {
        let softwires = Softwires::new(100);
        let [first, second] = [1, 2].map(|last| Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last));
        let (mine, other) = (ClientIdentity(7), ClientIdentity(8));
        let at = |seconds: u64| Now(seconds * 1000);
        softwires.claim_outside(first, mine, 100, at(50));
        softwires.claim_outside(second, mine, 100, at(50));
        let owner = |number, identity| Owner::new(BindingKey(number), identity);
        assert_eq!(softwires.claim(first, owner(1, other), 900, at(60)), Err(EndError::Held));
        assert!(softwires.claim(first, owner(2, mine), 900, at(60)).is_ok());
        assert_eq!(softwires.count(), 1);
        softwires.sweep_outside(at(100));
        assert_eq!((softwires.count(), softwires.table.used().len()), (1, 1));
        assert_eq!(softwires.claim(first, owner(1, other), 900, at(100)), Err(EndError::Held));
        assert!(softwires.claim(second, owner(1, other), 900, at(100)).is_ok());
    }
}
