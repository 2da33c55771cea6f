//! D01-D18: from DISCOVER to ACK, and which tuple it is.

use crate::{
    lab::{Bench, Lab},
    packet::{Ports, Tuple, shared},
    query::{Client, L1},
    registry::{Case, TIME, engine_only, server},
    reply::Reply,
};

pub const CASES: &[Case] = &[
    server("D01", discover_is_offered_a_port_set),
    server("D02", a_repeated_discover_is_offered_the_same),
    server("D03", the_lease_is_stored_before_the_ack),
    server("D04", a_repeated_request_is_answered_alike),
    server("D05", a_hint_of_the_size_that_is_there),
    server("D06", a_hint_of_another_size),
    server("D07", the_tuple_that_is_asked_for),
    server("D08", a_tuple_of_somebody_else),
    server("D09", a_reserved_tuple),
    server("D10", a_tuple_cut_in_another_way),
    server("D11", an_address_alone_is_preferred),
    server("D12", the_current_tuple_wins),
    engine_only("D13", TIME, the_previous_tuple_comes_back),
    engine_only("D14", TIME, a_previous_tuple_that_is_taken),
    engine_only("D15", TIME, previous_before_requested),
    server("D16", another_server_was_chosen),
    server("D17", an_offer_without_its_ports),
    server("D18", a_request_for_somebody_elses_ports),
];

/// A tuple of pool P1.
pub fn p1(last: u8, psid: u16) -> Tuple {
    shared([192, 0, 2, last], 0, 6, psid)
}

/// Asserts that an offer or lease is one of pool P1's, which never leases PSID 0.
#[track_caller]
pub fn assert_of_p1(reply: &Reply) {
    let (address, ports) = reply.shared();
    assert!([18, 19].map(|last| [192, 0, 2, last]).contains(&address.octets()), "{address}");
    assert_eq!((ports.offset, ports.length), (0, 6));
    assert!((1..64).contains(&ports.psid), "PSID {}", ports.psid);
}

/// What `client` is offered is of P1, and not `taken`.
fn offered_other(lab: &mut Lab, client: &Client, wanted: Tuple) {
    let offer = lab.offer(&client.discover_for(wanted));
    assert_of_p1(&offer);
    assert_ne!(offer.tuple(), wanted);
}

fn discover_is_offered_a_port_set(bench: Bench) {
    let mut lab = bench.lab();
    let query = Client::on(L1, 1).discover().xid(0xfeed_0001);
    let offer = lab.offer(&query);
    assert_of_p1(&offer);
    assert_eq!(offer.message.xid, 0xfeed_0001);
    assert_eq!(offer.lease_seconds(), 3600);
    assert_eq!(offer.option(61), query.option(61));
    assert_eq!(offer.option(53), Some(&[2][..]));
    assert_eq!(offer.destination_port, 546);
    assert!(lab.active().is_empty(), "an offer is no lease");
}

fn a_repeated_discover_is_offered_the_same(bench: Bench) {
    let mut lab = bench.lab();
    let client = Client::on(L1, 1);
    let offer = lab.offer(&client.discover());
    assert_eq!(lab.offer(&client.discover()).tuple(), offer.tuple());
    assert_eq!(lab.offer(&client.discover().xid(7)).tuple(), offer.tuple());
}

fn the_lease_is_stored_before_the_ack(bench: Bench) {
    let mut lab = bench.lab();
    let client = Client::on(L1, 1);
    let offer = lab.offer(&client.discover());
    let ack = lab.ack(&client.select(&offer));
    // The reply is there, so the record must be in the log.
    let stored = lab.durable(offer.tuple()).expect("a record of the lease");
    assert_eq!(Some(stored.client), client.identifier);
    assert_eq!(ack.tuple(), offer.tuple());
    lab.assert_holds(&client, ack.tuple());
}

fn a_repeated_request_is_answered_alike(bench: Bench) {
    let mut lab = bench.lab();
    let client = Client::on(L1, 1);
    let offer = lab.offer(&client.discover());
    let ack = lab.ack(&client.select(&offer));
    let again = lab.ack(&client.select(&offer));
    let without_times = |ack: &Reply| {
        let mut message = ack.message.clone();
        message.options.retain(|(code, _)| ![51, 58, 59].contains(code));
        message
    };
    assert_eq!(without_times(&again), without_times(&ack));
    // The same end of the lease; a second may have passed between the two.
    assert!(ack.lease_seconds() - again.lease_seconds() <= 1);
    assert_eq!(lab.active().len(), 1);
}

fn a_hint_of_the_size_that_is_there(bench: Bench) {
    let hint = Some(Ports::new(0, 6, 0));
    let offer = bench.lab().offer(&Client::on(L1, 1).discover().ports(hint));
    assert_of_p1(&offer);
}

fn a_hint_of_another_size(bench: Bench) {
    let hint = Some(Ports::new(0, 8, 0));
    let offer = bench.lab().offer(&Client::on(L1, 1).discover().ports(hint));
    assert_of_p1(&offer);
}

fn the_tuple_that_is_asked_for(bench: Bench) {
    let mut lab = bench.lab();
    let offer = lab.offer(&Client::on(L1, 1).discover_for(p1(19, 7)));
    assert_eq!(offer.tuple(), p1(19, 7));
}

fn a_tuple_of_somebody_else(bench: Bench) {
    let mut lab = bench.lab();
    let (one, two) = (Client::on(L1, 1), Client::on(L1, 2));
    lab.obtain_tuple(&two, p1(19, 7));
    offered_other(&mut lab, &one, p1(19, 7));
    lab.assert_holds(&two, p1(19, 7));
}

fn a_reserved_tuple(bench: Bench) {
    let mut lab = bench.lab();
    for number in 1..=20 {
        offered_other(&mut lab, &Client::on(L1, number), p1(19, 0));
    }
}

fn a_tuple_cut_in_another_way(bench: Bench) {
    let mut lab = bench.lab();
    offered_other(&mut lab, &Client::on(L1, 1), shared([192, 0, 2, 19], 6, 8, 7));
}

/// Any tuple would do; this server prefers the address.
fn an_address_alone_is_preferred(bench: Bench) {
    let mut lab = bench.lab();
    for number in 1..=10 {
        let query = Client::on(L1, number).discover().set(50, &[192, 0, 2, 19]);
        let offer = lab.offer(&query);
        assert_of_p1(&offer);
        assert_eq!(offer.message.yiaddr.octets(), [192, 0, 2, 19]);
    }
}

fn the_current_tuple_wins(bench: Bench) {
    let mut lab = bench.lab();
    let client = Client::on(L1, 1);
    lab.obtain_tuple(&client, p1(18, 9));
    assert_eq!(lab.offer(&client.discover_for(p1(19, 7))).tuple(), p1(18, 9));
    lab.assert_holds(&client, p1(18, 9));
}

fn the_previous_tuple_comes_back(bench: Bench) {
    let mut lab = bench.lab();
    let client = Client::on(L1, 1);
    let lease = lab.obtain(&client).tuple();
    // Over, and over its hold-down too: only remembered.
    for passes in [3700, 4000] {
        lab.wait(passes);
        assert_eq!(lab.offer(&client.discover()).tuple(), lease);
        lab.wait(61);
    }
}

fn a_previous_tuple_that_is_taken(bench: Bench) {
    let mut lab = bench.lab();
    let (one, two) = (Client::on(L1, 1), Client::on(L1, 2));
    let lease = lab.obtain(&one).tuple();
    lab.wait(4000);
    lab.obtain_tuple(&two, lease);
    let offer = lab.offer(&one.discover());
    assert_of_p1(&offer);
    assert_ne!(offer.tuple(), lease);
}

fn previous_before_requested(bench: Bench) {
    let mut lab = bench.lab();
    let client = Client::on(L1, 1);
    lab.obtain_tuple(&client, p1(18, 9));
    lab.wait(4000);
    assert_eq!(lab.offer(&client.discover_for(p1(19, 7))).tuple(), p1(18, 9));
}

/// Silent, and the offered tuple is somebody else's at once.
fn another_server_was_chosen(bench: Bench) {
    let mut lab = bench.lab();
    let (one, two) = (Client::on(L1, 1), Client::on(L1, 2));
    let offer = lab.offer(&one.discover_for(p1(19, 7)));
    let other = one.select(&offer).set(54, &[198, 51, 100, 254]);
    assert_eq!(lab.silent(&other), ["not-our-server-id"]);
    assert_eq!(lab.offer(&two.discover_for(p1(19, 7))).tuple(), p1(19, 7));
    assert!(lab.durable_leases().is_empty());
    // RFC 2131 §4.1: each of a server's own addresses is the server.
    let mut lab = bench.lab_with(|setup| {
        setup.set_toml("server.other-server-ids", r#"["198.51.100.254"]"#);
    });
    let offer = lab.offer(&one.discover_for(p1(19, 7)));
    let former = one.select(&offer).set(54, &[198, 51, 100, 254]);
    assert_eq!(lab.ack(&former).tuple(), p1(19, 7));
}

fn an_offer_without_its_ports(bench: Bench) {
    let mut lab = bench.lab();
    let client = Client::on(L1, 1);
    let offer = lab.offer(&client.discover());
    let nak = lab.nak_without_change(&client.select(&offer).without(159));
    assert_eq!(nak.option(61), client.identifier.as_deref());
    assert!(!nak.has(159) && !nak.has(51));
}

fn a_request_for_somebody_elses_ports(bench: Bench) {
    let mut lab = bench.lab();
    let (one, two) = (Client::on(L1, 1), Client::on(L1, 2));
    lab.obtain_tuple(&two, p1(19, 7));
    lab.offer(&one.discover());
    lab.nak_without_change(&one.select_tuple(p1(19, 7)));
    lab.assert_holds(&two, p1(19, 7));
}
