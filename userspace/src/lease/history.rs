//! Random histories of a few clients on a few slots against a naive model, with restarts from shuffled records.
//!
//! The model knows claims: a client, a slot, why and until when. A slot is held exactly if there is a claim on it,
//! and claims that are over go away when the table is swept.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    client::{GrantError, Granted, Holding, OfferError, QuarantineError, Standing},
    pool::{Pick, Slot},
    record::{Record, State},
    stamp::Stamp,
    tests::{POOL, holder, identity, lock, promise, shared, slot},
    *,
};

const CLIENTS: u64 = 6;
const DECLINE_HOLD: u32 = 200;
const OFFERS_MAX: u32 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Why {
    /// A lease that runs until then.
    Lease(u32),
    /// Released.
    Former,
    /// Left for another.
    Left,
    Declined,
    /// Whether it counts.
    Offer(bool),
}

#[derive(Clone, Copy, Debug)]
struct Claim {
    client: u64,
    slot: u32,
    why: Why,
    until: u32,
}

struct Model {
    random: fastrand::Rng,
    leases: Leases,
    hold_down: u32,
    now: Now,
    claims: Vec<Claim>,
    /// The last slot of each client that was its lease.
    last: BTreeMap<u64, u32>,
    /// The newest stamp of each slot.
    stamps: BTreeMap<u32, Stamp>,
    log: Vec<Record>,
}

fn new_leases(hold_down: u32) -> Leases {
    let settings = Settings {
        capacity: 100,
        offers_max: OFFERS_MAX,
        hold_down_seconds: hold_down,
        decline_hold_seconds: DECLINE_HOLD,
        ..tests::settings()
    };
    // Eight slots an address, of which the first is reserved.
    Leases::new(&[shared("P", ("192.0.2.1", "192.0.2.2"), 0, 3)], settings).unwrap()
}

impl Model {
    fn new(seed: u64) -> Model {
        let mut random = fastrand::Rng::with_seed(seed);
        let hold_down = [0, 3, 30][random.usize(..3)];
        Model {
            leases: new_leases(hold_down),
            random,
            hold_down,
            now: Now(1_000_000_500),
            claims: Vec::new(),
            last: BTreeMap::new(),
            stamps: BTreeMap::new(),
            log: Vec::new(),
        }
    }

    fn seconds(&self) -> u32 {
        self.now.seconds()
    }

    fn of(&self, client: u64) -> impl Iterator<Item = &Claim> {
        self.claims.iter().filter(move |claim| claim.client == client)
    }

    fn at(&self, slot: u32) -> impl Iterator<Item = &Claim> {
        self.claims.iter().filter(move |claim| claim.slot == slot)
    }

    fn lease(&self, client: u64) -> Option<Claim> {
        self.of(client).find(|claim| matches!(claim.why, Why::Lease(_) | Why::Former)).copied()
    }

    fn is_active(&self, claim: &Claim) -> bool {
        matches!(claim.why, Why::Lease(end) if end > self.seconds())
    }

    fn offer(&self, client: u64) -> Option<Claim> {
        self.of(client).find(|claim| matches!(claim.why, Why::Offer(_))).copied()
    }

    /// How many slots but this one the client has left or declined.
    fn resting(&self, client: u64, but: u32) -> usize {
        let resting = |it: &&Claim| matches!(it.why, Why::Left | Why::Declined);
        self.of(client).filter(resting).filter(|claim| claim.slot != but).count()
    }

    fn offers(&self) -> u32 {
        let counting = self.claims.iter().filter(|claim| claim.why == Why::Offer(true));
        u32::try_from(counting.count()).unwrap()
    }

    fn available(&self, client: u64, slot: u32) -> bool {
        !slot.is_multiple_of(8)
            && self.at(slot).all(|claim| claim.client == client && claim.why != Why::Declined)
    }

    fn standing(&self, client: u64, slot: u32) -> Standing {
        let mine = |why: fn(&Why) -> bool| {
            self.at(slot).any(|claim| claim.client == client && why(&claim.why))
        };
        let seconds = self.seconds();
        if self.lease(client).is_some_and(|lease| lease.slot == slot && self.is_active(&lease)) {
            Standing::Active
        } else if !self.available(client, slot) {
            Standing::Taken
        } else if self.offer(client).is_some_and(|it| it.slot == slot && it.until > seconds) {
            Standing::Offered
        } else if mine(|why| !matches!(why, Why::Offer(_))) {
            Standing::Kept
        } else if self.last.get(&client) == Some(&slot) {
            Standing::Past
        } else {
            Standing::Free
        }
    }

    /// When the hold-down is over that begins with this stamp.
    fn hold_end(&self, stamp: Stamp) -> u32 {
        u32::try_from(stamp.0.div_ceil(1000)).unwrap() + self.hold_down
    }

    /// Checks a record and takes it to the log.
    fn note(&mut self, record: &Record, client: u64, slot: u32, state: State) {
        let pool = self.leases.pools().get(POOL);
        assert_eq!(record.state(), Some(state));
        assert_eq!(record.identity(), identity(client));
        assert_eq!(record.tuple(), pool.geometry().tuple_of(Slot(slot)));
        assert!(record.stamp().0 >= self.now.0);
        let last = self.stamps.insert(slot, record.stamp());
        assert!(last.is_none_or(|last| last < record.stamp()), "rule 3");
        self.log.push(*record);
    }

    fn retain(&mut self, mut keep: impl FnMut(&Claim) -> bool) {
        self.claims.retain(|claim| keep(claim));
    }

    fn step(&mut self) {
        let client = self.random.u64(..CLIENTS);
        let slot = self.random.u32(..16);
        match self.random.u32(..100) {
            0..15 => self.offer_slot(client, slot),
            15..30 => self.offer_any(client),
            30..60 => self.grant(client, slot),
            60..70 => self.release(client),
            70..76 => self.quarantine(client, slot),
            76..80 => {
                lock(&self.leases, client).drop_offer();
                self.retain(|it| it.client != client || !matches!(it.why, Why::Offer(_)));
            }
            80..90 => self.sweep(),
            90..99 => self.now.0 += self.random.u64(..20_000),
            _ => self.restart(),
        }
    }

    /// Holds the slot for the client by an offer, in place of its other one.
    fn set_offer(&mut self, client: u64, slot: u32, until: u32, counts: bool) {
        self.retain(|it| it.client != client || !matches!(it.why, Why::Offer(_)));
        self.claims.push(Claim { client, slot, why: Why::Offer(counts), until });
    }

    fn offer_slot(&mut self, client: u64, number: u32) {
        let until = self.seconds() + self.random.u32(1..20);
        let result = lock(&self.leases, client).offer_slot(slot(number), until, self.now);
        let old = self.offer(client);
        let counted = old.is_some_and(|offer| offer.why == Why::Offer(true));
        let held = self.at(number).any(|claim| claim.client == client);
        let same = old.filter(|offer| offer.slot == number);
        if self.at(number).any(|it| it.client == client && it.why == Why::Declined) {
            assert_eq!(result, Ok(None));
        } else if !held && !counted && self.offers() == OFFERS_MAX {
            assert_eq!(result, Err(OfferError::OffersExhausted));
        } else if self.available(client, number) {
            assert_eq!(result.unwrap().unwrap().at, slot(number));
            let counts = same.map_or(!held, |offer| offer.why == Why::Offer(true));
            self.set_offer(client, number, until, counts);
        } else {
            assert_eq!(result, Ok(None));
        }
    }

    fn offer_any(&mut self, client: u64) {
        let until = self.seconds() + self.random.u32(1..20);
        let pick = Pick::Random(self.random.u64(..));
        let result = lock(&self.leases, client).offer_any(POOL, pick, until, self.now);
        let free: BTreeSet<u32> =
            (0..16).filter(|slot| slot % 8 != 0 && self.at(*slot).next().is_none()).collect();
        let counted = self.offer(client).is_some_and(|offer| offer.why == Why::Offer(true));
        if !counted && self.offers() == OFFERS_MAX {
            assert_eq!(result, Err(OfferError::OffersExhausted));
        } else if free.is_empty() {
            assert_eq!(result, Ok(None));
        } else {
            let offered = result.unwrap().unwrap().at.slot.0;
            assert!(free.contains(&offered));
            self.set_offer(client, offered, until, true);
        }
    }

    fn grant(&mut self, client: u64, number: u32) {
        let lease = self.lease(client);
        // Half of the time what the client has or was offered.
        let own = self.offer(client).or(lease).map(|claim| claim.slot);
        let number = own.filter(|_| self.random.bool()).unwrap_or(number);
        let expires = self.seconds() + self.random.u32(1..60);
        let result = lock(&self.leases, client).grant(
            slot(number),
            expires,
            &holder(client),
            promise(1),
            self.now,
        );
        let active = lease.filter(|lease| self.is_active(lease));
        let leaves = lease.filter(|lease| {
            lease.slot != number && (self.is_active(lease) || lease.until > self.seconds())
        });
        let resting = self.resting(client, number);
        let crowded = leaves.is_some() && resting >= 8;
        let declined = self.at(number).any(|it| it.why == Why::Declined && it.client == client);
        if crowded && !declined {
            assert_eq!(result.unwrap_err(), GrantError::Crowded);
        } else if self.available(client, number) {
            self.granted(client, number, expires, active, leaves, &result.unwrap());
        } else {
            assert_eq!(result.unwrap_err(), GrantError::Taken);
        }
    }

    fn granted(
        &mut self,
        client: u64,
        number: u32,
        expires: u32,
        active: Option<Claim>,
        leaves: Option<Claim>,
        granted: &Granted,
    ) {
        let renewed = active
            .filter(|lease| lease.slot == number)
            .map_or(0, |lease| if let Why::Lease(end) = lease.why { end } else { 0 });
        assert_eq!(granted.expires, expires.max(renewed), "rule 5");
        let moves = active.is_some_and(|lease| lease.slot != number);
        assert_eq!(granted.records.len(), if moves { 2 } else { 1 });
        self.note(&granted.records[0], client, number, State::Bound);
        assert_eq!(granted.records[0].expires(), granted.expires);
        self.retain(|it| {
            let lease = matches!(it.why, Why::Lease(_) | Why::Former | Why::Offer(_));
            it.client != client || !(lease || it.slot == number)
        });
        if let Some(left) = leaves {
            let mut until = left.until;
            if moves {
                self.note(&granted.records[1], client, left.slot, State::Former);
                assert!(granted.records[1].stamp() < granted.records[0].stamp());
                until = self.hold_end(granted.records[1].stamp());
            }
            self.claims.push(Claim { client, slot: left.slot, why: Why::Left, until });
        }
        self.last.insert(client, number);
        let (why, until) = (Why::Lease(granted.expires), granted.expires + self.hold_down);
        self.claims.push(Claim { client, slot: number, why, until });
    }

    fn release(&mut self, client: u64) {
        let record = lock(&self.leases, client).release(&holder(client), promise(1), self.now);
        match self.lease(client).filter(|lease| self.is_active(lease)) {
            None => assert!(record.is_none()),
            Some(lease) => {
                let record = record.unwrap();
                self.note(&record, client, lease.slot, State::Former);
                let until = self.hold_end(record.stamp());
                self.retain(|it| {
                    let own_offer = matches!(it.why, Why::Offer(_)) && it.slot == lease.slot;
                    it.client != client || !(matches!(it.why, Why::Lease(_)) || own_offer)
                });
                self.claims.push(Claim { why: Why::Former, until, ..lease });
            }
        }
    }

    fn quarantine(&mut self, client: u64, number: u32) {
        let own = self.offer(client).or(self.lease(client)).map(|claim| claim.slot);
        let number = own.unwrap_or(number);
        let standing = self.standing(client, number);
        let result = lock(&self.leases, client).quarantine(slot(number), &holder(client), self.now);
        let resting = self.resting(client, number);
        if !matches!(standing, Standing::Active | Standing::Offered) {
            assert_eq!(result.unwrap_err(), QuarantineError::NotHeld);
        } else if resting >= 4 {
            assert_eq!(result.unwrap_err(), QuarantineError::Crowded);
        } else {
            self.note(&result.unwrap(), client, number, State::Quarantined);
            let until = self.seconds() + DECLINE_HOLD;
            self.retain(|it| it.slot != number);
            self.claims.push(Claim { client, slot: number, why: Why::Declined, until });
            if self.last.get(&client) == Some(&number) {
                self.last.remove(&client);
            }
        }
    }

    fn sweep(&mut self) {
        self.leases.sweep_all(self.now);
        let seconds = self.seconds();
        self.retain(|claim| claim.until > seconds);
    }

    /// A crash with everything durable: offers are lost, all else comes back from the records in any order.
    fn restart(&mut self) {
        self.random.shuffle(&mut self.log);
        self.leases = new_leases(self.hold_down);
        let mut recovery = self.leases.recover();
        self.log.iter().for_each(|record| recovery.adopt(record));
        let recovered = recovery.finish(self.now).unwrap();
        let greatest = self.log.iter().map(Record::stamp).max().unwrap_or_default();
        assert_eq!(recovered.greatest_stamp, greatest);
        assert!(recovered.outside.is_empty());
        self.retain(|claim| !matches!(claim.why, Why::Offer(_)));
        let seconds = self.seconds();
        self.retain(|claim| claim.until > seconds);
        let kept = recovered.bound + recovered.former + recovered.quarantined;
        assert_eq!(kept, self.claims.len());
        self.adjust_after_restart();
    }

    /// What the model knows better than the log, harmlessly: which of its former slots a client had last.
    fn adjust_after_restart(&mut self) {
        for client in 0..CLIENTS {
            let binding = lock(&self.leases, client).binding(self.now);
            let lease = self.lease(client).map(|lease| lease.slot);
            match (binding, lease) {
                (Some(binding), Some(slot)) => assert_eq!(binding.at.slot.0, slot),
                // A slot that was left rests no more if the lease it was left for is over or declined.
                (Some(binding), None) => {
                    let slot = binding.at.slot.0;
                    let mut own = self.claims.iter_mut();
                    let left = own.find(|it| it.client == client && it.slot == slot);
                    match left {
                        Some(left) if binding.holding == Holding::Expired => {
                            left.why = Why::Lease(binding.expires);
                        }
                        Some(left) => {
                            assert_eq!(binding.holding, Holding::Former);
                            left.why = Why::Former;
                        }
                        None => assert_eq!(binding.holding, Holding::Past),
                    }
                    self.last.insert(client, slot);
                }
                (None, Some(slot)) => panic!("client {client} has lost slot {slot}"),
                (None, None) => {
                    self.last.remove(&client);
                }
            }
        }
    }

    fn check(&self) {
        self.leases.check_invariants().unwrap();
        for number in 0..16 {
            let held = number % 8 == 0 || self.at(number).next().is_some();
            let at = slot(number);
            assert_eq!(self.leases.pools().is_held(at), held, "slot {number}: {:?}", self.claims);
        }
        for client in 0..CLIENTS {
            self.check_client(client);
        }
    }

    fn check_client(&self, client: u64) {
        let guard = lock(&self.leases, client);
        for number in 0..16 {
            assert_eq!(
                guard.standing(slot(number), self.now),
                self.standing(client, number),
                "client {client}, slot {number}, {:?}, last {:?}",
                self.claims,
                self.last,
            );
        }
        let binding = guard.binding(self.now);
        let expected = match self.lease(client) {
            Some(lease) if self.is_active(&lease) => Some((lease.slot, Holding::Active)),
            Some(Claim { slot, why: Why::Former, .. }) => Some((slot, Holding::Former)),
            Some(lease) => Some((lease.slot, Holding::Expired)),
            None => self.last.get(&client).map(|&slot| (slot, Holding::Past)),
        };
        assert_eq!(binding.map(|binding| (binding.at.slot.0, binding.holding)), expected);
        let offer = self.offer(client).filter(|offer| offer.until > self.seconds());
        let found = guard.offer(self.now).map(|offer| (offer.at, offer.until));
        assert_eq!(found, offer.map(|offer| (slot(offer.slot), offer.until)));
    }
}

fn run_histories(seeds: u64) {
    for seed in 0..seeds {
        let mut model = Model::new(seed);
        for _ in 0..300 {
            model.step();
            model.check();
        }
    }
}

#[test]
fn random_histories_keep_to_the_model() {
    run_histories(150);
}

/// Not every rule: histories have no lost records, no leases outside and no lanes.
#[cfg(feature = "sim")]
#[test]
fn a_rule_that_is_switched_off_is_missed() {
    use super::rules::{Rule, without};

    for rule in [
        Rule::GreaterStampWins,
        Rule::StampsRise,
        Rule::ExpiriesRise,
        Rule::FormerTuplesRest,
        Rule::DeclinedTuplesRest,
        Rule::RestsOutliveRestarts,
        Rule::OffersHold,
    ] {
        let broken = std::panic::catch_unwind(|| without(Some(rule), || run_histories(20)));
        assert!(broken.is_err(), "{rule:?}");
    }
}
