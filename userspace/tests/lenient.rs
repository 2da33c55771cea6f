//! What an operator may let pass, and what is remarked about a message that is answered.

mod common;

use std::net::Ipv4Addr;

use common::{Answer, L1, L3, L4, Query, SERVER_ID, Server};
use portlease::engine::remark::Remark::{self, BadOverload, Moved, UnicastSelecting};

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
