//! What a client can do, case by case. Pools and times are those of the reference configuration.

use std::{net::Ipv4Addr, sync::Arc};

use super::{
    client::Holder,
    key::{ClientIdentity, LinkId},
    pool::{Pick, PoolId},
    promise::LaneId,
    *,
};

pub(super) const HOLD_DOWN: u32 = 120;
pub(super) const DECLINE_HOLD: u32 = 86_400;
const OFFER_HOLD: u32 = 60;
const START: u32 = 1_000_000;

const LINK: LinkId = LinkId(3);
const POOL: PoolId = PoolId(0);

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

fn p1() -> PoolSpec {
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
    }
}

fn lock(leases: &Leases, number: u64) -> Client<'_> {
    leases.lock(identity(number).on(LINK))
}

fn promise(sequence: u64) -> Promise {
    Promise { lane: LaneId(1), sequence }
}

#[test]
fn two_addresses_serve_126_clients_and_not_one_more() {
    let leases = leases(&[p1()]);
    let now = at(START);
    let mut tuples = std::collections::BTreeSet::new();
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
    let none = lock(&leases, 126).offer_any(POOL, Pick::Random(9), START + OFFER_HOLD, now);
    assert_eq!(none, Ok(None));
    leases.check_invariants().unwrap();
}
