//! What a client can do, case by case. Pool and times are those of the reference configuration.

use std::{collections::BTreeSet, net::Ipv4Addr, sync::Arc};

use super::{
    client::{GrantError, Granted, Holder, Holding, OfferError, QuarantineError, Standing},
    key::{ClientIdentity, LinkId},
    pool::{Pick, PoolId, Slot},
    pools::Location,
    promise::LaneId,
    record::{NEVER, State, Tuple},
    stamp::Stamp,
    *,
};

pub(super) const HOLD_DOWN: u32 = 120;
pub(super) const DECLINE_HOLD: u32 = 86_400;
pub(super) const START: u32 = 1_000_000;
const OFFER_HOLD: u32 = 60;

pub(super) const LINK: LinkId = LinkId(3);
pub(super) const POOL: PoolId = PoolId(0);

pub(super) fn shared(name: &str, range: (&str, &str), offset: u8, psid_length: u8) -> PoolSpec {
    PoolSpec {
        name: name.into(),
        link: LINK,
        ranges: vec![range.0.parse().unwrap()..=range.1.parse().unwrap()],
        offset,
        psid_length,
        reserved_ports: vec![0..=1023],
    }
}

pub(super) fn p1() -> PoolSpec {
    shared("P1", ("192.0.2.18", "192.0.2.19"), 0, 6)
}

pub(super) fn settings() -> Settings {
    Settings {
        capacity: 1000,
        offers_max: 1000,
        hold_down_seconds: HOLD_DOWN,
        decline_hold_seconds: DECLINE_HOLD,
        watermarks: Arc::new(Watermarks::new(2)),
        shards: None,
        features: Features::default(),
    }
}

pub(super) fn leases(specs: &[PoolSpec]) -> Leases {
    Leases::new(specs, settings()).unwrap()
}

pub(super) fn at(seconds: u32) -> Now {
    Now(u64::from(seconds) * 1000)
}

/// Client number `number`, spread over the shards as a keyed hash would.
pub(super) fn identity(number: u64) -> ClientIdentity {
    let secret = key::IdentitySecret([3; 16]);
    secret.identify(key::IdentityKind::ClientIdentifier, &number.to_be_bytes())
}

pub(super) fn holder(number: u64) -> Holder<'static> {
    Holder {
        identity: identity(number),
        client: b"client",
        hardware: false,
        source: "2001:db8::1".parse().unwrap(),
        softwire: None,
    }
}

pub(super) fn lock(leases: &Leases, number: u64) -> Client<'_> {
    leases.lock(identity(number).on(LINK))
}

pub(super) fn promise(sequence: u64) -> Promise {
    Promise { lane: LaneId(1), sequence }
}

pub(super) fn slot(number: u32) -> Location {
    Location { pool: POOL, slot: Slot(number) }
}

pub(super) fn grant(
    leases: &Leases,
    number: u64,
    to: Location,
    expires: u32,
    now: Now,
) -> Result<Granted, GrantError> {
    lock(leases, number).grant(to, expires, &holder(number), promise(1), now)
}

fn standing(leases: &Leases, number: u64, to: Location, now: Now) -> Standing {
    lock(leases, number).standing(to, now)
}

#[test]
fn two_addresses_serve_126_clients_and_not_one_more() {
    let leases = leases(&[p1()]);
    let now = at(START);
    let mut tuples = BTreeSet::new();
    for number in 0..126 {
        let pick = Pick::Random(fastrand::u64(..));
        let mut client = lock(&leases, number);
        let offer = client.offer_any(POOL, pick, START + OFFER_HOLD, now).unwrap().unwrap();
        assert_ne!(offer.tuple.psid, 0);
        let granted = client.grant(offer.at, START + 3600, &holder(number), promise(1), now);
        assert_eq!(granted.unwrap().records[0].tuple(), offer.tuple);
        tuples.insert(offer.tuple);
    }
    assert_eq!(tuples.len(), 126);
    let first = Ipv4Addr::new(192, 0, 2, 18);
    assert_eq!(tuples.iter().filter(|tuple| tuple.address == first).count(), 63);
    assert_eq!((leases.pools().get(POOL).held(), leases.pools().get(POOL).usable()), (126, 126));
    let none = lock(&leases, 126).offer_any(POOL, Pick::Random(9), START + OFFER_HOLD, now);
    assert_eq!(none, Ok(None));
    leases.check_invariants().unwrap();
}

#[test]
fn clients_of_one_address_are_independent() {
    let leases = leases(&[p1()]);
    let now = at(START);
    for number in 1..=3 {
        let to = slot(u32::try_from(number).unwrap());
        grant(&leases, number, to, START + 100 * u32::try_from(number).unwrap(), now).unwrap();
    }
    lock(&leases, 1).release(&holder(1), promise(2), now).unwrap();
    grant(&leases, 3, slot(3), START + 1000, now).unwrap();
    let later = at(START + 250);
    assert_eq!(standing(&leases, 1, slot(1), later), Standing::Kept);
    assert_eq!(lock(&leases, 2).binding(later).unwrap().holding, Holding::Expired);
    assert_eq!(lock(&leases, 3).binding(later).unwrap().holding, Holding::Active);
    leases.check_invariants().unwrap();
}

#[test]
fn pools_with_an_address_in_common_are_refused() {
    let p1 = p1();
    for (offset, psid_length) in [(0, 6), (6, 8), (0, 0)] {
        let other = shared("other", ("192.0.2.1", "192.0.2.18"), offset, psid_length);
        assert_eq!(
            Leases::new(&[p1.clone(), other], settings()).err(),
            Some(LeaseError::Overlap {
                address: "192.0.2.18".parse().unwrap(),
                first: "other".into(),
                second: "P1".into(),
            }),
        );
    }
    let empty = Leases::new(&[shared("P9", ("192.0.2.1", "192.0.2.1"), 8, 6)], settings());
    let error = empty.err().unwrap().to_string();
    assert!(error.contains("P9") && error.contains("reserved"), "{error}");
}

#[test]
fn addresses_are_found_in_their_pools() {
    let specs = [
        shared("b", ("198.51.100.1", "198.51.100.9"), 6, 8),
        p1(),
        shared("c", ("198.51.100.10", "198.51.100.10"), 0, 0),
    ];
    let leases = leases(&specs);
    let locate = |address: &str| leases.pools().locate(address.parse().unwrap());
    assert_eq!(locate("198.51.100.0"), None);
    assert_eq!(locate("198.51.100.9"), Some(PoolId(0)));
    assert_eq!(locate("192.0.2.19"), Some(PoolId(1)));
    assert_eq!(locate("198.51.100.10"), Some(PoolId(2)));
    assert_eq!(locate("255.255.255.255"), None);
    let whole = Tuple::whole("198.51.100.10".parse().unwrap());
    let found = leases.pools().locate_tuple(whole);
    assert_eq!(found, Some(Location { pool: PoolId(2), slot: Slot(0) }));
    assert_eq!(leases.pools().locate_tuple(Tuple { psid_length: 6, ..whole }), None);
}

#[test]
fn an_offer_holds_its_slot_until_it_lapses_and_a_repeated_one_holds_it_longer() {
    let leases = leases(&[p1()]);
    let now = at(START);
    let until = START + OFFER_HOLD;
    assert!(lock(&leases, 1).offer_slot(slot(5), until, now).unwrap().is_some());
    assert_eq!(lock(&leases, 2).offer_slot(slot(5), until, now), Ok(None));
    assert_eq!(grant(&leases, 2, slot(5), START + 99, now).unwrap_err(), GrantError::Taken);
    assert_eq!(standing(&leases, 1, slot(5), now), Standing::Offered);
    assert_eq!(standing(&leases, 2, slot(5), now), Standing::Taken);

    let again = lock(&leases, 1).offer_slot(slot(5), until + 30, at(START + 30)).unwrap().unwrap();
    assert_eq!((again.at, again.until, leases.offers()), (slot(5), until + 30, 1));
    leases.sweep_all(at(until));
    assert_eq!(lock(&leases, 1).offer(at(until)).map(|offer| offer.at), Some(slot(5)));
    leases.sweep_all(at(until + 30));
    assert_eq!(lock(&leases, 1).offer(at(until + 30)), None);
    assert_eq!(standing(&leases, 1, slot(5), at(until + 30)), Standing::Free);
    assert_eq!((leases.offers(), leases.pools().get(POOL).held()), (0, 0));
    leases.check_invariants().unwrap();
}

#[test]
fn another_offer_takes_the_place_of_the_first() {
    let leases = leases(&[p1()]);
    let (now, until) = (at(START), START + OFFER_HOLD);
    let address = Ipv4Addr::new(192, 0, 2, 19);
    let mut client = lock(&leases, 1);
    client.offer_slot(slot(5), until, now).unwrap();
    assert_eq!(client.offer_slot(slot(0), until, now), Ok(None), "reserved");
    assert_eq!(client.offer(now).unwrap().at, slot(5), "what fails changes nothing");
    let offer = client.offer_address(address, POOL, Pick::Lowest, until, now).unwrap().unwrap();
    assert_eq!((offer.at, offer.tuple.address), (slot(65), address));
    drop(client);
    assert_eq!((leases.offers(), leases.pools().get(POOL).held()), (1, 1));
    lock(&leases, 1).drop_offer();
    assert_eq!((leases.offers(), leases.pools().get(POOL).held()), (0, 0));
    leases.check_invariants().unwrap();
}

#[test]
fn offers_are_bounded_but_a_clients_own_slot_is_always_offered() {
    let leases = Leases::new(&[p1()], Settings { offers_max: 2, ..settings() }).unwrap();
    let (now, until) = (at(START), START + OFFER_HOLD);
    grant(&leases, 9, slot(9), START + 1000, now).unwrap();
    for number in 1..=2 {
        lock(&leases, number).offer_any(POOL, Pick::Lowest, until, now).unwrap().unwrap();
    }
    let third = lock(&leases, 3).offer_any(POOL, Pick::Lowest, until, now);
    assert_eq!(third, Err(OfferError::OffersExhausted));
    assert!(lock(&leases, 9).offer_slot(slot(9), until, now).unwrap().is_some());
    assert!(lock(&leases, 1).offer_slot(slot(40), until, now).unwrap().is_some(), "replaced");
    leases.check_invariants().unwrap();
}

#[test]
fn an_offer_of_the_own_slot_keeps_it_from_the_sweep() {
    let leases = leases(&[p1()]);
    grant(&leases, 1, slot(7), START + 100, at(START)).unwrap();
    let late = START + 100 + HOLD_DOWN - 1;
    assert!(lock(&leases, 1).offer_slot(slot(7), late + OFFER_HOLD, at(late)).unwrap().is_some());
    leases.sweep_all(at(late + 10));
    assert_eq!(lock(&leases, 1).binding(at(late + 10)).unwrap().holding, Holding::Past);
    assert_eq!(standing(&leases, 1, slot(7), at(late + 10)), Standing::Offered);
    assert_eq!(standing(&leases, 2, slot(7), at(late + 10)), Standing::Taken);
    leases.check_invariants().unwrap();
    leases.sweep_all(at(late + OFFER_HOLD));
    assert_eq!(standing(&leases, 2, slot(7), at(late + OFFER_HOLD)), Standing::Free);
    assert_eq!(standing(&leases, 1, slot(7), at(late + OFFER_HOLD)), Standing::Past);
    leases.check_invariants().unwrap();
}

#[test]
fn a_renewal_never_shortens_a_lease() {
    let leases = leases(&[p1()]);
    let first = grant(&leases, 1, slot(7), START + 1000, at(START)).unwrap();
    let second = grant(&leases, 1, slot(7), START + 500, at(START + 10)).unwrap();
    assert_eq!((first.expires, second.expires), (START + 1000, START + 1000));
    assert_eq!(second.records[0].expires(), START + 1000);
    let third = grant(&leases, 1, slot(7), NEVER, at(START + 20)).unwrap();
    assert_eq!(third.expires, NEVER);
    assert_eq!(grant(&leases, 1, slot(7), START + 900, at(START + 30)).unwrap().expires, NEVER);
    // A lease that is over is no promise any more.
    grant(&leases, 2, slot(8), START + 1000, at(START)).unwrap();
    lock(&leases, 2).release(&holder(2), promise(1), at(START + 1));
    let again = grant(&leases, 2, slot(8), START + 500, at(START + 10)).unwrap();
    assert_eq!(again.expires, START + 500);
}

#[test]
fn stamps_of_a_slot_rise_also_within_a_millisecond_and_under_another_holder() {
    let leases = leases(&[p1()]);
    let now = at(START);
    let mut last = Stamp(0);
    for number in [1, 1, 2, 2, 1] {
        let granted = grant(&leases, number, slot(7), START + 100, now).unwrap();
        assert!(granted.records[0].stamp() > last);
        let released = lock(&leases, number).release(&holder(number), promise(1), now).unwrap();
        assert!(released.stamp() > granted.records[0].stamp());
        last = released.stamp();
        // As if its time were over, though the clock stands still.
        leases.sweep_all(at(START + HOLD_DOWN + 1));
    }
    assert!(last > Stamp(now.0 + 8));
}

#[test]
fn a_slot_that_was_left_remembers_its_last_stamp() {
    let leases = leases(&[p1()]);
    let now = at(START);
    grant(&leases, 1, slot(7), START + 100, now).unwrap();
    let moved = grant(&leases, 1, slot(8), START + 100, now).unwrap();
    // As if its time were over, though the clock stands still.
    leases.sweep_all(at(START + HOLD_DOWN + 1));
    let granted = grant(&leases, 2, slot(7), START + 100, now).unwrap();
    assert!(granted.records[0].stamp() > moved.records[1].stamp());
}

#[test]
fn a_released_slot_is_kept_for_its_last_holder_until_the_hold_down_is_over() {
    let leases = leases(&[p1()]);
    let now = at(START);
    grant(&leases, 1, slot(7), START + 1000, now).unwrap();
    let record = lock(&leases, 1).release(&holder(1), promise(2), now).unwrap();
    assert_eq!((record.state(), record.expires()), (Some(State::Former), START + 1000));
    assert!(lock(&leases, 1).release(&holder(1), promise(3), now).is_none(), "nothing runs");
    let binding = lock(&leases, 1).binding(now).unwrap();
    assert_eq!((binding.holding, binding.promise), (Holding::Former, promise(2)));

    let before = at(START + HOLD_DOWN - 1);
    leases.sweep_all(before);
    assert_eq!(grant(&leases, 2, slot(7), NEVER, before).unwrap_err(), GrantError::Taken);
    assert_eq!(lock(&leases, 2).offer_slot(slot(7), NEVER, before), Ok(None));
    assert!(lock(&leases, 1).offer_slot(slot(7), START + 180, before).unwrap().is_some());
    grant(&leases, 1, slot(7), START + 2000, before).unwrap();
    lock(&leases, 1).release(&holder(1), promise(4), before).unwrap();

    leases.sweep_all(at(START + 2 * HOLD_DOWN));
    grant(&leases, 2, slot(7), START + 3000, at(START + 2 * HOLD_DOWN)).unwrap();
    assert_eq!(standing(&leases, 1, slot(7), at(START + 2 * HOLD_DOWN)), Standing::Taken);
    leases.check_invariants().unwrap();
}

#[test]
fn an_expired_lease_is_revived_by_its_owner_alone() {
    let leases = leases(&[p1()]);
    grant(&leases, 1, slot(7), START + 100, at(START)).unwrap();
    let over = at(START + 100);
    assert_eq!(lock(&leases, 1).binding(over).unwrap().holding, Holding::Expired);
    assert_eq!(standing(&leases, 1, slot(7), over), Standing::Kept);
    assert_eq!(grant(&leases, 2, slot(7), NEVER, over).unwrap_err(), GrantError::Taken);
    assert_eq!(grant(&leases, 1, slot(7), START + 300, over).unwrap().records.len(), 1);
    // Remembered after the hold-down, and free for whoever comes first.
    let past = at(START + 300 + HOLD_DOWN);
    leases.sweep_all(past);
    assert_eq!(lock(&leases, 1).binding(past).unwrap().holding, Holding::Past);
    assert_eq!(standing(&leases, 1, slot(7), past), Standing::Past);
    grant(&leases, 1, slot(7), START + 900, past).unwrap();
    assert_eq!(standing(&leases, 1, slot(7), past), Standing::Active);
}

#[test]
fn a_move_binds_the_new_slot_and_leaves_the_old_one_in_one_lane() {
    let leases = leases(&[p1()]);
    let now = at(START);
    grant(&leases, 1, slot(7), START + 1000, now).unwrap();
    let moved = lock(&leases, 1).grant(slot(8), START + 900, &holder(1), promise(5), now).unwrap();
    let said: Vec<_> =
        moved.records.iter().map(|record| (record.state().unwrap(), record.tuple().psid)).collect();
    assert_eq!(said, [(State::Bound, 8), (State::Former, 7)]);
    assert!(moved.records[0].stamp() > moved.records[1].stamp());
    let binding = lock(&leases, 1).binding(now).unwrap();
    assert_eq!((binding.at, binding.promise, binding.expires), (slot(8), promise(6), START + 900));
    assert_eq!(standing(&leases, 1, slot(7), now), Standing::Kept);
    assert_eq!(grant(&leases, 2, slot(7), NEVER, now).unwrap_err(), GrantError::Taken);
    // And back again.
    grant(&leases, 1, slot(7), START + 1000, now).unwrap();
    assert_eq!(standing(&leases, 1, slot(8), now), Standing::Kept);
    leases.check_invariants().unwrap();
    leases.sweep_all(at(START + HOLD_DOWN + 1));
    assert_eq!(standing(&leases, 1, slot(8), at(START + HOLD_DOWN + 1)), Standing::Free);
    assert_eq!(leases.pools().get(POOL).held(), 1);
}

#[test]
fn a_client_cannot_leave_slots_without_end() {
    let leases = leases(&[p1()]);
    let now = at(START);
    for number in 1..=9 {
        grant(&leases, 1, slot(number), START + 1000, now).unwrap();
    }
    assert_eq!(grant(&leases, 1, slot(10), NEVER, now).unwrap_err(), GrantError::Crowded);
    assert_eq!(lock(&leases, 1).binding(now).unwrap().at, slot(9), "nothing has changed");
    assert_eq!(standing(&leases, 2, slot(10), now), Standing::Free);
    grant(&leases, 1, slot(3), START + 1000, now).unwrap();
    leases.check_invariants().unwrap();
}

#[test]
fn a_grant_of_something_else_drops_the_offer() {
    let leases = leases(&[p1()]);
    let (now, until) = (at(START), START + OFFER_HOLD);
    lock(&leases, 1).offer_slot(slot(5), until, now).unwrap();
    grant(&leases, 1, slot(6), START + 1000, now).unwrap();
    assert_eq!(lock(&leases, 1).offer(now), None);
    assert_eq!(standing(&leases, 2, slot(5), now), Standing::Free);
    assert_eq!(leases.offers(), 0);
    leases.check_invariants().unwrap();
}

#[test]
fn a_declined_slot_is_nobodys_until_its_time_is_over() {
    let leases = leases(&[p1()]);
    let now = at(START);
    let decline = |number, to| lock(&leases, number).quarantine(to, &holder(number), now);
    grant(&leases, 1, slot(7), START + 1000, now).unwrap();
    assert_eq!(decline(2, slot(7)).unwrap_err(), QuarantineError::NotHeld);
    let record = decline(1, slot(7)).unwrap();
    assert_eq!(record.state(), Some(State::Quarantined));
    assert_eq!(record.expires(), START + DECLINE_HOLD);
    assert_eq!(lock(&leases, 1).binding(now), None);
    for number in [1, 2] {
        assert_eq!(standing(&leases, number, slot(7), now), Standing::Taken);
        assert_eq!(lock(&leases, number).offer_slot(slot(7), NEVER, now), Ok(None));
        assert_eq!(grant(&leases, number, slot(7), NEVER, now).unwrap_err(), GrantError::Taken);
    }
    // An offered one, while another is leased: only that one.
    grant(&leases, 1, slot(8), START + 1000, now).unwrap();
    lock(&leases, 1).offer_slot(slot(9), START + OFFER_HOLD, now).unwrap();
    let before = lock(&leases, 1).binding(now);
    let elsewhere = Holder { source: "2001:db8::2".parse().unwrap(), ..holder(1) };
    lock(&leases, 1).quarantine(slot(9), &elsewhere, now).unwrap();
    // The lease waits for its own record, and is where it was.
    assert_eq!(lock(&leases, 1).binding(now), before);
    assert_eq!(standing(&leases, 1, slot(8), now), Standing::Active);
    assert_eq!(leases.offers(), 0);
    leases.check_invariants().unwrap();

    leases.sweep_all(at(START + DECLINE_HOLD));
    assert_eq!(standing(&leases, 2, slot(9), at(START + DECLINE_HOLD)), Standing::Free);
    leases.check_invariants().unwrap();
}

#[test]
fn a_client_cannot_decline_the_pool_away() {
    let leases = leases(&[p1()]);
    let now = at(START);
    let mut declined = 0;
    for _ in 0..20 {
        let mut client = lock(&leases, 1);
        let offer = client.offer_any(POOL, Pick::Random(fastrand::u64(..)), START + 60, now);
        let to = offer.unwrap().unwrap().at;
        match client.quarantine(to, &holder(1), now) {
            Ok(_) => declined += 1,
            Err(error) => assert_eq!(error, QuarantineError::Crowded),
        }
    }
    assert_eq!(declined, 4);
    leases.check_invariants().unwrap();
}

#[test]
fn a_promise_is_kept_once_it_is_durable() {
    let leases = leases(&[p1()]);
    assert!(leases.keeps(Promise::RECOVERED));
    assert!(!leases.keeps(promise(3)));
    leases.settings.watermarks.publish(LaneId(1), 3);
    assert!(leases.keeps(promise(3)) && !leases.keeps(promise(4)));
}

#[test]
fn a_thousand_clients_on_eight_threads_never_share_a_tuple() {
    let leases = leases(&[shared("P", ("192.0.2.0", "192.0.2.7"), 0, 6)]);
    let holders: Vec<std::sync::atomic::AtomicU64> = (0..512).map(|_| 0.into()).collect();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (leases, holders) = (&leases, &holders);
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(thread);
                for step in 0..20_000_u32 {
                    let number = random.u64(1..=1000);
                    let now = at(START + step / 100);
                    let mut client = lock(leases, number);
                    let held = |to: Location| &holders[to.slot.0 as usize];
                    let order = std::sync::atomic::Ordering::SeqCst;
                    match client.binding(now) {
                        Some(binding) if binding.holding == Holding::Active => {
                            assert_eq!(held(binding.at).load(order), number);
                            if random.u8(..) < 80 {
                                held(binding.at).store(0, order);
                                client.release(&holder(number), promise(1), now).unwrap();
                            }
                        }
                        _ => {
                            let pick = Pick::Random(random.u64(..));
                            let until = now.seconds() + 2;
                            let Ok(Some(offer)) = client.offer_any(POOL, pick, until, now) else {
                                continue;
                            };
                            if random.bool() {
                                let (who, expires) = (holder(number), NEVER);
                                client.grant(offer.at, expires, &who, promise(1), now).unwrap();
                                assert_eq!(held(offer.at).swap(number, order), 0);
                            }
                        }
                    }
                    drop(client);
                    leases.sweep(random.usize(..leases.shards()), now);
                }
            });
        }
    });
    leases.check_invariants().unwrap();
}
