//! What an operator may let pass, and what is remarked about a message that is answered.

mod common;

use std::net::Ipv4Addr;

use common::{Answer, L1, L3, L4, Query, SERVER_ID, Server};
use portlease::engine::remark::Remark::{
    self, BadOverload, ClaimsAnothers, Moved, UnicastSelecting,
};
use portlease::wire::dhcpv4::MessageType;

fn remarks(reply: &common::Received) -> Vec<Remark> {
    reply.remarks.iter().collect()
}

#[test]
fn n10_an_option_50_that_repeats_the_address() {
    let mut server = Server::reference();
    let lease = server.obtain(1, L1);
    let repeats = Query { requested: Some(lease.address), ..Query::renew(1, L1, &lease) };
    server.send(&repeats).ack();
    let mut strict = Server::with(|policy| policy.accept_renew_with_50 = false);
    let lease = strict.obtain(1, L1);
    let repeats = Query { requested: Some(lease.address), ..Query::renew(1, L1, &lease) };
    strict.send(&repeats).silent("bad-request");
    strict.send(&Query::renew(1, L1, &lease)).ack();
    strict.send(&Query::reboot(1, L1, &lease)).ack();
}

#[test]
fn l03_a_release_without_option_159() {
    let mut server = Server::with(|policy| policy.accept_release_without_159 = true);
    let lease = server.obtain(1, L1);
    let bare = |client, lease| Query { params: None, ..Query::release(client, L1, lease) };
    let elsewhere = Query { ciaddr: Ipv4Addr::new(192, 0, 2, 40), ..bare(1, &lease) };
    server.send(&elsewhere).silent("release-mismatch");
    server.send(&bare(2, &lease)).silent("release-mismatch");
    let wrong = Query { params: Some(vec![0, 6, 4, 1]), ..bare(1, &lease) };
    server.send(&wrong).silent("bad-portparams");
    assert!(matches!(server.send(&bare(1, &lease)), Answer::Done));
    assert_eq!(server.active(), 0);
    server.send(&bare(1, &lease)).silent("release-repeated");
}

#[test]
fn s64_messages_to_an_identifier_that_the_server_had_before_are_for_it() {
    let former = Ipv4Addr::new(192, 0, 2, 253);
    let mut server = Server::with(|policy| policy.other_server_ids = vec![former]);
    let offer = server.send(&Query::discover(1, L3)).offer();
    assert_eq!(offer.server_id, Some(SERVER_ID));
    let to_former = |query| Query { server_id: Some(former), ..query };
    let lease = server.send(&to_former(Query::select(1, L3, &offer))).ack();
    assert_eq!(lease.server_id, Some(SERVER_ID));
    assert!(matches!(server.send(&to_former(Query::release(1, L3, &lease))), Answer::Done));
}

#[test]
fn n16_a_lease_that_is_not_extended_is_acknowledged_with_what_remains() {
    let mut server = Server::with(|policy| policy.extend_leases = false);
    let lease = server.obtain(1, L1);
    let recorded = server.journal[0].expires();
    for (passed, left) in [(600, 3000), (2400, 600), (590, 10)] {
        server.advance(passed);
        for request in [Query::renew, Query::rebind, Query::reboot] {
            let ack = server.send(&request(1, L1, &lease)).ack();
            assert_eq!((ack.tuple(), ack.lease_seconds), (lease.tuple(), Some(left)));
            assert!(ack.renewal_seconds < ack.rebinding_seconds);
            assert!(ack.rebinding_seconds < ack.lease_seconds);
        }
        let asking = Query { lease_seconds: Some(7200), ..Query::renew(1, L1, &lease) };
        assert_eq!(server.send(&asking).ack().lease_seconds, Some(left));
        // Nor by way of a DISCOVER.
        let discover = Query { lease_seconds: Some(7200), ..Query::discover(1, L1) };
        let offer = server.send(&discover).offer();
        assert_eq!(offer.lease_seconds, Some(left));
        assert_eq!(server.send(&Query::select(1, L1, &offer)).ack().lease_seconds, Some(left));
    }
    assert_eq!(server.journal.len(), 1);
    // The client has moved: that is recorded, and nothing else.
    let moved = Query { relayed: true, ..Query::renew(1, L1, &lease) };
    assert_eq!(server.send(&moved).ack().lease_seconds, Some(10));
    assert_eq!(server.journal[1].expires(), recorded);
    server.advance(11);
    for request in [Query::renew, Query::rebind, Query::reboot] {
        server.send(&request(1, L1, &lease)).nak();
    }
    assert_eq!(server.obtain(1, L1).lease_seconds, Some(3600), "a new lease");
}

#[test]
fn two_seconds_are_too_short_to_be_renewed() {
    let mut server = Server::with(|policy| policy.extend_leases = false);
    let lease = server.obtain(1, L1);
    server.advance(3598);
    let ack = server.send(&Query::renew(1, L1, &lease)).ack();
    assert_eq!(ack.lease_seconds, Some(2));
    assert_eq!((ack.renewal_seconds, ack.rebinding_seconds), (None, None));
}

#[test]
fn whoever_claims_anothers_lease_is_refused_and_remarked() {
    let mut server = Server::reference();
    let (lease, others) = (server.obtain(1, L1), server.obtain(2, L1));
    for client in [2, 3] {
        let nak = server.send(&Query::renew(client, L1, &lease)).nak();
        assert_eq!(remarks(&nak), [ClaimsAnothers]);
    }
    assert_eq!(server.active(), 2);
    server.send(&Query::renew(1, L1, &lease)).ack();
    server.send(&Query::renew(2, L1, &others)).ack();
    // What a client has declined itself is nobody else's.
    let decline = Query {
        kind: MessageType::Decline,
        server_id: Some(SERVER_ID),
        parameter_list: Vec::new(),
        ..Query::select(1, L1, &lease)
    };
    server.send(&decline);
    assert_eq!(remarks(&server.send(&Query::renew(1, L1, &lease)).nak()), []);
    assert_eq!(remarks(&server.send(&Query::renew(2, L1, &lease)).nak()), [ClaimsAnothers]);
}

#[test]
fn oddities_are_remarked_beside_the_answer() {
    let mut server = Server::reference();
    assert_eq!(remarks(&server.send(&Query::discover(1, L1)).offer()), []);
    for overload in [vec![0], vec![4], vec![255], vec![1, 1]] {
        let query = Query { extra: vec![(52, overload)], ..Query::discover(1, L1) };
        assert_eq!(remarks(&server.send(&query).offer()), [BadOverload]);
    }
    let offer = server.send(&Query::discover(1, L1)).offer();
    let select = Query { unicast: true, ..Query::select(1, L1, &offer) };
    let lease = server.send(&select).ack();
    assert_eq!(remarks(&lease), [UnicastSelecting]);
    let reboot = Query { unicast: true, ..Query::reboot(1, L1, &lease) };
    assert_eq!(remarks(&server.send(&reboot).ack()), [], "RFC 2131 §4.4.4 allows it there");
    let moved = Query { relayed: true, ..Query::reboot(1, L1, &lease) };
    assert_eq!(remarks(&server.send(&moved).ack()), [Moved]);
    assert_eq!(remarks(&server.send(&Query::discover(2, L4)).offer()), []);
}
