//! Leases as they are after a restart.

use zerocopy::{FromBytes, IntoBytes};

use super::*;
use crate::lease::{
    block::PLACES,
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
    let held =
        || -> Vec<u32> { (4..256).filter(|&psid| leases.pools().is_held(slot(psid))).collect() };
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
fn in_a_full_shard_a_client_is_not_forgotten_for_its_own_slot() {
    let settings = super::super::Settings { shards: Some(1), ..settings() };
    let numbers = 0..u16::try_from(PLACES).unwrap();
    // One of them is restored last; it needs two places where one is left.
    for quarantined in numbers.clone() {
        let pool = shared("P", ("192.0.2.0", "192.0.2.15"), 0, 6);
        let leases = Leases::new(&[pool], settings.clone()).unwrap();
        let mut recovery = leases.recover();
        for number in numbers.clone() {
            let host = u8::try_from(number / 63).unwrap();
            let address = std::net::Ipv4Addr::new(192, 0, 2, host);
            let tuple = Tuple { address, ..tuple(number % 63 + 1) };
            let state = if number == quarantined { State::Quarantined } else { State::Bound };
            recovery.adopt(&record(number.into(), tuple, state, 10, NEVER));
        }
        let error = recovery.finish(at(START)).unwrap_err();
        assert_eq!(error, LeaseError::TooManyLeases { leases: PLACES, capacity: 1000 });
    }
}

#[test]
fn a_recovered_lease_goes_on_like_any_other() {
    let leases = leases(&[p1()]);
    recover(&leases, &[bound(1, 7, 10, START + 100)], at(START));
    let granted = lock(&leases, 1).grant(slot(7), START + 50, &holder(1), promise(4), at(START));
    assert_eq!(granted.unwrap().expires, START + 100);
    assert_eq!(lock(&leases, 1).binding(at(START)).unwrap().promise, promise(4));
}
