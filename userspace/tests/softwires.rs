//! Where softwires begin: option 109 stored with leases, changed, refused, and remembered (RFC 8539 §8).

mod common;

use std::net::Ipv6Addr;

use common::{L1, L2, Query, Received, Server, reference_pools};
use portlease::{
    engine::policy::{Softwire, SoftwireConflict},
    lease::{Features, record::Record},
};

fn features() -> Features {
    Features { softwires: true, ..Features::default() }
}

fn server() -> Server {
    server_with(Softwire::default())
}

fn server_with(softwire: Softwire) -> Server {
    Server::featuring(&reference_pools(), features(), |policy| policy.softwire = Some(softwire))
}

/// A softwire address of client `number`.
fn end(number: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0x77, 0, 0, 0, 0, number)
}

fn from(address: Ipv6Addr, query: Query) -> Query {
    Query { softwire: Some(address.octets().to_vec()), ..query }
}

/// A lease for a client whose softwire begins at `address`.
fn obtain(server: &mut Server, client: u8, address: Ipv6Addr) -> Received {
    let offer = server.send(&Query::discover(client, L1)).offer();
    assert_eq!(offer.softwire, None, "an OFFER has none");
    server.send(&from(address, Query::select(client, L1, &offer))).ack()
}

fn stored(server: &Server) -> Option<Ipv6Addr> {
    server.journal.last().and_then(Record::softwire).map(|softwire| softwire.address)
}

#[test]
fn a_softwire_address_is_stored_and_in_every_ack() {
    let mut server = server();
    let lease = obtain(&mut server, 1, end(1));
    assert_eq!((lease.softwire, stored(&server)), (Some(end(1)), Some(end(1))));
    // Repeated, early, in time, and without the option.
    let renew = Query::renew(1, L1, &lease);
    assert_eq!(server.send(&renew).ack().softwire, Some(end(1)));
    server.advance(1800);
    assert_eq!(server.send(&renew).ack().softwire, Some(end(1)));
    assert_eq!(stored(&server), Some(end(1)));
    server.advance(1800);
    let reboot = from(end(1), Query::reboot(1, L1, &lease));
    assert_eq!(server.send(&reboot).ack().softwire, Some(end(1)));
    // A lease that has none has none in its ACKs.
    assert_eq!(server.obtain(2, L1).softwire, None);
    let mut deaf = Server::reference();
    assert_eq!(obtain(&mut deaf, 1, end(1)).softwire, None, "softwires are not configured");
    assert_eq!(stored(&deaf), None);
}

#[test]
fn a_new_address_is_stored_after_the_least_time() {
    let mut server = server();
    let lease = obtain(&mut server, 1, end(1));
    let change = |address| from(address, Query::renew(1, L1, &lease));
    server.advance(59);
    let written = server.journal.len();
    assert_eq!(server.send(&change(end(2))).ack().softwire, Some(end(1)), "too soon");
    assert_eq!(server.journal.len(), written, "nothing has changed that would be written");
    server.advance(1);
    assert_eq!(server.send(&change(end(2))).ack().softwire, Some(end(2)));
    assert_eq!((server.journal.len(), stored(&server)), (written + 1, Some(end(2))));
    // The time begins anew, and goes on over a restart. Who asks for what it has changes nothing.
    server.advance(40);
    assert_eq!(server.send(&change(end(2))).ack().softwire, Some(end(2)));
    let mut server = server.restarted(features());
    assert_eq!(server.send(&change(end(3))).ack().softwire, Some(end(2)));
    server.advance(20);
    assert_eq!(server.send(&change(end(3))).ack().softwire, Some(end(3)));
    // What it left is anybody's.
    assert_eq!(obtain(&mut server, 2, end(1)).softwire, Some(end(1)));
    assert_eq!(obtain(&mut server, 3, end(2)).softwire, Some(end(2)));
}

#[test]
fn a_first_address_need_not_wait() {
    let mut server = server();
    let lease = server.obtain(1, L1);
    let renew = from(end(1), Query::renew(1, L1, &lease));
    assert_eq!(server.send(&renew).ack().softwire, Some(end(1)));
    assert_eq!(stored(&server), Some(end(1)));
}

#[test]
fn a_client_without_a_lease_is_refused_another_s_address() {
    let mut server = server();
    let other = obtain(&mut server, 2, end(2));
    let offer = server.send(&Query::discover(1, L1)).offer();
    let written = server.journal.len();
    server.send(&from(end(2), Query::select(1, L1, &offer))).nak();
    assert_eq!((server.journal.len(), server.active()), (written, 1));
    // Nor by an INIT-REBOOT of a lease that is over.
    let lease = server.send(&from(end(1), Query::select(1, L1, &offer))).ack();
    server.send(&Query::release(1, L1, &lease));
    server.send(&from(end(2), Query::reboot(1, L1, &lease))).nak();
    assert_eq!(server.send(&Query::renew(2, L1, &other)).ack().softwire, Some(end(2)));
}

#[test]
fn a_client_with_a_lease_keeps_its_own_address() {
    for conflict in [SoftwireConflict::Existing, SoftwireConflict::Drop] {
        let mut server = server_with(Softwire { conflict, ..Softwire::default() });
        let lease = obtain(&mut server, 1, end(1));
        let other = obtain(&mut server, 2, end(2));
        for wait in [10, 1000, 2000] {
            server.advance(wait);
            let answer = server.send(&from(end(2), Query::renew(1, L1, &lease)));
            if conflict == SoftwireConflict::Existing {
                assert_eq!(answer.ack().softwire, Some(end(1)));
            } else {
                answer.silent("saddr-conflict");
                assert_eq!(server.send(&Query::renew(1, L1, &lease)).ack().softwire, Some(end(1)));
            }
            assert_eq!(server.send(&Query::renew(2, L1, &other)).ack().softwire, Some(end(2)));
        }
    }
}

#[test]
fn an_address_is_free_when_its_lease_is_over() {
    let mut server = server();
    let lease = obtain(&mut server, 1, end(1));
    server.send(&Query::release(1, L1, &lease));
    let lease = obtain(&mut server, 2, end(1));
    // Over, and not swept yet.
    server.now.0 += 3700 * 1000;
    assert_eq!(obtain(&mut server, 3, end(1)).softwire, Some(end(1)));
    // Who comes back after that has lost it.
    assert_eq!(server.send(&Query::renew(2, L1, &lease)).ack().softwire, None);
    server.send(&from(end(1), Query::renew(2, L1, &lease))).ack();
    server.advance(0);
    assert_eq!(stored(&server), None);
}

#[test]
fn one_address_is_shared_by_softwires_that_begin_in_different_places() {
    let mut server = server();
    let mut leases = Vec::new();
    for client in 1..=126 {
        leases.push(obtain(&mut server, client, end(client.into())));
    }
    let address = leases[0].address;
    assert_eq!(leases.iter().filter(|lease| lease.address == address).count(), 63);
    let mut server = server.restarted(features());
    for (client, lease) in (1..).zip(&leases) {
        let ack = server.send(&Query::renew(client, L1, lease)).ack();
        assert_eq!((ack.tuple(), ack.softwire), (lease.tuple(), Some(end(client.into()))));
    }
    let elsewhere = server.send(&Query::discover(130, L2)).offer();
    server.send(&from(end(7), Query::select(130, L2, &elsewhere))).nak();
}

#[test]
fn a_client_that_moves_to_another_tuple_takes_its_softwire_along() {
    let mut server = server();
    let lease = obtain(&mut server, 1, end(1));
    let mut params = lease.params.unwrap();
    params.psid = params.psid % 63 + 1;
    let offer = Received { params: Some(params), ..lease.clone() };
    let moved = server.send(&from(end(1), Query::select(1, L1, &offer))).ack();
    assert_eq!((moved.softwire, moved.params), (Some(end(1)), Some(params)));
    server.send(&from(end(1), Query::select(2, L1, &lease))).nak();
    let mut server = server.restarted(features());
    assert_eq!(server.send(&Query::renew(1, L1, &moved)).ack().softwire, Some(end(1)));
}

#[test]
fn an_address_that_is_none_is_as_if_it_were_not_there() {
    let mut server = server();
    let offer = server.send(&Query::discover(1, L1)).offer();
    let select = Query::select(1, L1, &offer);
    for wrong in ["::", "::1", "ff02::1", "fe80::1"] {
        let ack = server.send(&from(wrong.parse().unwrap(), select.clone())).ack();
        assert_eq!(ack.softwire, None, "{wrong}");
    }
    for octets in [vec![], vec![1; 15], vec![0x20; 17]] {
        let ack = server.send(&Query { softwire: Some(octets), ..select.clone() }).ack();
        assert_eq!(ack.softwire, None);
    }
}

/// A crash loses what is not durable: also that the first holder of an address has taken another.
#[test]
fn of_two_leases_that_begin_in_one_place_the_newer_is_right_after_a_crash() {
    let mut server = server();
    let first = obtain(&mut server, 1, end(1));
    server.advance(100);
    assert!(server.promise_without_commit(&from(end(9), Query::renew(1, L1, &first))));
    let lost = server.journal.pop().unwrap();
    assert_eq!(lost.softwire().unwrap().address, end(9));
    let second = obtain(&mut server, 2, end(1));
    let mut server = server.restarted(features());
    assert_eq!(server.send(&Query::renew(2, L1, &second)).ack().softwire, Some(end(1)));
    assert_eq!(server.send(&Query::renew(1, L1, &first)).ack().softwire, None);
    let ack = server.send(&from(end(9), Query::renew(1, L1, &first))).ack();
    assert_eq!(ack.softwire, Some(end(9)));
}
