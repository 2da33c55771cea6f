//! Tuples that are reserved for one client, by its identifier or by its line.

mod common;

use std::net::Ipv4Addr;

use common::{
    Answer, L1, L3, L4, Query, Received, Server, client_identifier, params, reference_pools,
};
use portlease::{
    engine::policy::{Reservation, ReservedFor},
    lease::{Features, key::LinkId, record::Tuple},
};

const SHARED: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 18);
const FULL: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 11);

fn set(psid: u16) -> Tuple {
    Tuple { address: SHARED, offset: 0, psid_length: 6, psid }
}

fn for_client(client: u8, link: u16, tuple: Tuple) -> Reservation {
    let client = ReservedFor::ClientIdentifier(client_identifier(client));
    Reservation { link: LinkId(link - 1), client, tuple }
}

fn for_line(line: &[u8], tuple: Tuple) -> Reservation {
    Reservation { link: LinkId(L1 - 1), client: ReservedFor::RemoteId(line.to_vec()), tuple }
}

fn withheld(reservations: &[Reservation]) -> Features {
    let withheld = reservations.iter().map(|reservation| reservation.tuple).collect();
    Features { withheld, ..Features::default() }
}

fn server(reservations: &[Reservation]) -> Server {
    Server::featuring(&reference_pools(), withheld(reservations), |policy| {
        policy.reservations = reservations.to_vec();
    })
}

fn offered(answer: Answer) -> Tuple {
    let offer = answer.offer();
    match offer.params {
        None => Tuple::whole(offer.address),
        Some(it) => Tuple {
            address: offer.address,
            offset: it.offset,
            psid_length: it.psid_length,
            psid: it.psid,
        },
    }
}

/// A REQUEST for `psid` of the shared address, in SELECTING.
fn ask(client: u8, psid: u16) -> Query {
    Query {
        requested: Some(SHARED),
        server_id: Some(common::SERVER_ID),
        params: Some(params(0, 6, psid)),
        ..Query::new(portlease::wire::dhcpv4::MessageType::Request, client, L1)
    }
}

#[test]
fn a_reserved_tuple_is_its_client_s_through_a_whole_life() {
    let mut server = server(&[for_client(9, L1, set(7))]);
    assert_eq!(offered(server.send(&Query::discover(9, L1))), set(7));
    let lease = server.obtain(9, L1);
    assert_eq!((lease.address, lease.params.unwrap().psid), (SHARED, 7));
    server.send(&Query::renew(9, L1, &lease)).ack();
    server.send(&Query::reboot(9, L1, &lease)).ack();
    server.advance(1800);
    server.send(&Query::rebind(9, L1, &lease)).ack();
    server.send(&Query::release(9, L1, &lease));
    server.advance(200);
    assert_eq!(offered(server.send(&Query::discover(9, L1))), set(7));
    // A client whose records are lost still knows what is reserved for it.
    let mut server = self::server(&[for_client(9, L1, set(7))]);
    server.send(&Query::renew(9, L1, &lease)).ack();
    let mut server = self::server(&[for_client(9, L1, set(7))]);
    server.send(&Query::reboot(9, L1, &lease)).ack();
    let mut server = self::server(&[]);
    server.send(&Query::reboot(9, L1, &lease)).silent("unknown-client");
}

#[test]
fn nobody_else_gets_it_whatever_is_asked() {
    let mut server = server(&[for_client(200, L1, set(7))]);
    let hint =
        Query { requested: Some(SHARED), params: Some(params(0, 6, 7)), ..Query::discover(1, L1) };
    assert_ne!(offered(server.send(&hint)), set(7));
    server.send(&ask(1, 7)).nak();
    let lease = server.obtain(1, L1);
    let wrong = Received {
        params: lease.params.map(|it| portlease::wire::portparams::PortParams { psid: 7, ..it }),
        address: SHARED,
        ..lease
    };
    server.send(&Query::reboot(1, L1, &wrong)).nak();
    server.send(&Query::renew(1, L1, &wrong)).nak();
    let unknown = Query::renew(130, L1, &wrong);
    server.send(&unknown).nak();
    for client in 2..=125 {
        server.obtain(client, L1);
    }
    server.send(&Query::discover(126, L1)).silent("pool-exhausted");
    assert_eq!(offered(server.send(&Query::discover(200, L1))), set(7));
    server.obtain(200, L1);
    let pool = server.engine.leases().pools().get(portlease::lease::pool::PoolId(0));
    assert_eq!((pool.held(), pool.usable()), (126, 126));
}

#[test]
fn a_whole_address_is_reserved_like_a_set_of_ports() {
    let mut server = server(&[for_client(9, L3, Tuple::whole(FULL))]);
    for client in 1..=2 {
        assert_ne!(server.obtain(client, L3).address, FULL);
    }
    server.send(&Query::discover(3, L3)).silent("pool-exhausted");
    assert_eq!(server.obtain(9, L3).address, FULL);
    // A client that cannot use what is reserved for it is served from elsewhere.
    let set = Tuple { address: Ipv4Addr::new(192, 0, 2, 40), ..set(5) };
    let mut server = self::server(&[for_client(9, L4, set)]);
    let legacy = server.send(&Query::discover(9, L4).without_159()).offer();
    assert_eq!((legacy.address, legacy.params), (Ipv4Addr::new(203, 0, 113, 40), None));
    assert_eq!(offered(server.send(&Query::discover(9, L4))), set);
}

#[test]
fn a_line_s_reservation_is_for_whoever_is_behind_it() {
    let line = b"\0\0\x07\xdbcust-0001";
    let behind = |query| Query { relayed: true, remote_id: Some(line.to_vec()), ..query };
    let mut server = server(&[for_line(line, set(7)), for_client(3, L1, set(8))]);
    assert_ne!(offered(server.send(&Query { relayed: true, ..Query::discover(1, L1) })), set(7));
    assert_eq!(offered(server.send(&behind(Query::discover(1, L1)))), set(7));
    let offer = server.send(&behind(Query::discover(1, L1))).offer();
    server.send(&Query { relayed: true, ..Query::select(1, L1, &offer) }).nak();
    let lease = server.send(&behind(Query::select(1, L1, &offer))).ack();
    // One tuple for one client: the next behind the line gets another, and a client's own comes first.
    assert_ne!(offered(server.send(&behind(Query::discover(2, L1)))), set(7));
    assert_eq!(offered(server.send(&behind(Query::discover(3, L1)))), set(8));
    server.send(&behind(Query::release(1, L1, &lease)));
    assert_ne!(offered(server.send(&behind(Query::discover(2, L1)))), set(7), "it rests");
    server.advance(121);
    assert_eq!(offered(server.send(&behind(Query::discover(2, L1)))), set(7));
}

#[test]
fn a_client_keeps_what_it_has_until_it_asks_anew() {
    let mut server = server(&[for_client(9, L1, set(7))]);
    let lease = server.send(&ask(9, 20)).ack();
    server.send(&Query::renew(9, L1, &lease)).ack();
    assert_eq!(server.send(&Query::reboot(9, L1, &lease)).ack().tuple(), lease.tuple());
    let offer = server.send(&Query::discover(9, L1)).offer();
    assert_eq!(offer.params.unwrap().psid, 7);
    server.send(&Query::select(9, L1, &offer)).ack();
    assert_eq!(server.active(), 1);
}

#[test]
fn whoever_has_what_is_reserved_now_keeps_it_to_its_end_and_no_longer() {
    let mut server = server(&[]);
    let lease = server.send(&ask(1, 7)).ack();
    let reservations = [for_client(9, L1, set(7))];
    server.reserve(&reservations);
    let mut server = server.restarted(withheld(&reservations));
    assert_ne!(offered(server.send(&Query::discover(9, L1))), set(7), "it is in use");
    server.send(&Query::renew(1, L1, &lease)).nak();
    server.send(&Query::reboot(1, L1, &lease)).nak();
    assert_ne!(offered(server.send(&Query::discover(1, L1))), set(7), "not its again");
    assert_eq!(server.active(), 1);
    server.advance(3611);
    assert_ne!(offered(server.send(&Query::discover(9, L1))), set(7), "it rests");
    server.advance(120);
    assert_eq!(offered(server.send(&Query::discover(9, L1))), set(7));
    // It may give it back before.
    let mut server = self::server(&[]);
    let lease = server.send(&ask(1, 7)).ack();
    server.reserve(&reservations);
    let mut server = server.restarted(withheld(&reservations));
    server.send(&Query::release(1, L1, &lease));
    server.advance(121);
    assert_eq!(offered(server.send(&Query::discover(9, L1))), set(7));
}

#[test]
fn a_lease_outlives_its_reservation() {
    let mut server = server(&[for_client(9, L1, set(7))]);
    let lease = server.obtain(9, L1);
    server.reserve(&[]);
    let mut server = server.restarted(Features::default());
    server.send(&ask(1, 7)).nak();
    server.send(&Query::renew(9, L1, &lease)).ack();
    server.send(&Query::release(9, L1, &lease));
    server.advance(121);
    server.send(&ask(1, 7)).ack();
}

#[test]
fn its_client_is_told_apart_by_link() {
    let mut server = server(&[for_client(9, L1, set(7))]);
    assert_ne!(server.obtain(9, L4).params.unwrap().psid, 7);
    assert_eq!(server.obtain(9, L1).params.unwrap().psid, 7);
}
