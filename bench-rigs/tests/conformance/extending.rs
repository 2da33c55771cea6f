//! N01-N18: leases that are extended, with the server that gave them or with any.

use crate::{
    dora::p1,
    lab::{Bench, Lab},
    packet::{INTERFACE_ID, Level, Ports, Tuple, shared},
    query::{Client, L1, L3},
    registry::{Case, TIME, engine_only, server},
};

pub const CASES: &[Case] = &[
    server("N01", renewing_extends),
    server("N02", rebinding_extends),
    server("N03", renewing_with_free_ports),
    server("N04", renewing_with_somebody_elses_ports),
    server("N05", renewing_without_ports),
    server("N06", renewing_without_listing_ports),
    server("N07", renewing_an_address_of_nobody),
    server("N08", rebinding_an_address_of_nobody_at_an_authority),
    server("N09", renewing_with_a_server_identifier),
    server("N10", renewing_with_a_requested_address),
    engine_only("N11", TIME, renewing_too_late),
    engine_only("N12", TIME, renewing_what_is_somebody_elses_now),
    server("N13", renewing_with_another_offset),
    server("N14", renewing_by_another_way),
    server("N15", renewing_a_whole_address),
    server("N16", renewing_where_nothing_is_extended),
    server("N17", renewing_early),
    server("N18", renewing_without_an_identifier),
];

/// A server that writes every extension down, however early.
fn eager(bench: Bench) -> Lab {
    bench.lab_with(|setup| setup.set("lease.early-renewal-percent", 0))
}

/// Extends a lease after a while; it must end later then.
fn extends(bench: Bench, rebinding: bool) {
    let mut lab = eager(bench);
    let client = Client::on(L1, 1);
    let lease = lab.obtain(&client).tuple();
    let before = lab.durable(lease).unwrap();
    lab.wait(2);
    let query = if rebinding { client.rebind(lease) } else { client.renew(lease) };
    let ack = lab.ack(&query);
    assert_eq!(ack.tuple(), lease);
    assert_eq!(ack.message.ciaddr, lease.address);
    assert_eq!([51, 58, 59].map(|code| ack.number(code).unwrap()), [3600, 1800, 3150]);
    assert!(!ack.has(50));
    let after = lab.durable(lease).unwrap();
    assert!(after.expires > before.expires, "{before:?} {after:?}");
    assert_eq!(lab.active().len(), 1);
}

fn renewing_extends(bench: Bench) {
    extends(bench, false);
}

fn rebinding_extends(bench: Bench) {
    extends(bench, true);
}

/// A lease of one client, and a REQUEST of its with other ports is refused.
fn refused_with(lab: &mut Lab, client: &Client, held: Tuple, ports: Ports) {
    let wrong = Tuple { ports: Some(ports), ..held };
    lab.nak_without_change(&client.renew(wrong));
    lab.nak_without_change(&client.rebind(wrong));
    lab.assert_holds(client, held);
}

fn renewing_with_free_ports(bench: Bench) {
    let mut lab = eager(bench);
    let client = Client::on(L1, 1);
    lab.obtain_tuple(&client, p1(18, 9));
    refused_with(&mut lab, &client, p1(18, 9), Ports::new(0, 6, 10));
}

fn renewing_with_somebody_elses_ports(bench: Bench) {
    let mut lab = eager(bench);
    let (one, two) = (Client::on(L1, 1), Client::on(L1, 2));
    lab.obtain_tuple(&one, p1(18, 9));
    lab.obtain_tuple(&two, p1(18, 10));
    refused_with(&mut lab, &one, p1(18, 9), Ports::new(0, 6, 10));
    lab.assert_holds(&two, p1(18, 10));
}

fn renewing_without_ports(bench: Bench) {
    let mut lab = bench.lab();
    let client = Client::on(L1, 1);
    let lease = lab.obtain(&client).tuple();
    lab.nak_without_change(&client.renew(lease).without(159));
    lab.assert_holds(&client, lease);

    let mut lenient = bench.lab_with(|setup| setup.set("policy.renew-without-159", "accept"));
    let lease = lenient.obtain(&client).tuple();
    let ack = lenient.ack(&client.renew(lease).without(159));
    assert_eq!(ack.tuple(), lease);
    // Of another client that is no extension, however lenient the server.
    lenient.silent(&Client::on(L1, 2).renew(lease).without(159));
    lenient.assert_holds(&client, lease);
}

fn renewing_without_listing_ports(bench: Bench) {
    let mut lab = bench.lab();
    let client = Client::on(L1, 1);
    let lease = lab.obtain(&client).tuple();
    lab.expect_discard("no-159-in-prl", &client.renew(lease).not_listing_ports());
    lab.assert_holds(&client, lease);
    if bench == Bench::Engine {
        // Neither longer nor shorter than it was promised.
        lab.wait(3599);
        lab.assert_holds(&client, lease);
        lab.wait(60);
        assert!(lab.active().is_empty());
    }
}

fn renewing_an_address_of_nobody(bench: Bench) {
    let elsewhere = shared([198, 18, 0, 1], 0, 6, 9);
    bench.lab().expect_discard("not-our-address", &Client::on(L1, 1).renew(elsewhere));
}

fn rebinding_an_address_of_nobody_at_an_authority(bench: Bench) {
    let elsewhere = shared([198, 18, 0, 1], 0, 6, 9);
    let mut lab = bench.lab_with(|setup| setup.set("server.authoritative", true));
    lab.nak_without_change(&Client::on(L1, 1).rebind(elsewhere));
    bench.lab().expect_discard("not-our-address", &Client::on(L1, 1).rebind(elsewhere));
}

fn renewing_with_a_server_identifier(bench: Bench) {
    let mut lab = bench.lab();
    let client = Client::on(L1, 1);
    let lease = lab.obtain(&client).tuple();
    for query in [client.renew(lease), client.renew(lease).set(50, &lease.address.octets())] {
        lab.expect_discard("bad-request", &query.set(54, &[192, 0, 2, 254]));
    }
}

fn renewing_with_a_requested_address(bench: Bench) {
    let mut lab = bench.lab();
    let client = Client::on(L1, 1);
    let lease = lab.obtain(&client).tuple();
    let same = client.renew(lease).set(50, &lease.address.octets());
    assert_eq!(lab.ack(&same).tuple(), lease);
    let other = client.renew(lease).set(50, &[192, 0, 2, 200]);
    lab.expect_discard("bad-request", &other);

    let mut strict = bench.lab_with(|setup| setup.set("policy.renew-with-50", "ignore"));
    let lease = strict.obtain(&client).tuple();
    let same = client.renew(lease).set(50, &lease.address.octets());
    strict.expect_discard("bad-request", &same);
    strict.ack(&client.renew(lease));
}

fn renewing_too_late(bench: Bench) {
    let mut lab = bench.lab();
    let client = Client::on(L1, 1);
    let lease = lab.obtain(&client).tuple();
    // In hold-down, and when it is only remembered.
    for seconds in [3650, 4000] {
        lab.wait(seconds);
        assert!(lab.active().is_empty());
        assert_eq!(lab.ack(&client.renew(lease)).tuple(), lease);
        lab.assert_holds(&client, lease);
    }
}

fn renewing_what_is_somebody_elses_now(bench: Bench) {
    let mut lab = bench.lab();
    let (one, two) = (Client::on(L1, 1), Client::on(L1, 2));
    let lease = lab.obtain(&one).tuple();
    lab.wait(4000);
    lab.obtain_tuple(&two, lease);
    lab.nak_without_change(&one.renew(lease));
    lab.nak_without_change(&one.rebind(lease));
    lab.assert_holds(&two, lease);
}

fn renewing_with_another_offset(bench: Bench) {
    let mut lab = eager(bench);
    let client = Client::on(L1, 1);
    lab.obtain_tuple(&client, p1(18, 9));
    refused_with(&mut lab, &client, p1(18, 9), Ports::new(4, 6, 9));
}

/// Behind one relay at first, behind another then, and at last behind one on another link.
fn renewing_by_another_way(bench: Bench) {
    let mut lab = bench.lab();
    let behind = |link: &str, peer: &str, port: &[u8]| {
        let relay = Level::new(0, link, peer).with(INTERFACE_ID, port);
        Client::on(L1, 1).behind(vec![relay])
    };
    let lease = lab.obtain(&behind("2001:db8:1::1", "fe80::1", b"ge-0")).tuple();
    for (link, peer) in [("2001:db8:1::2", "fe80::2"), ("2001:db8:2::1", "fe80::3")] {
        let ack = lab.ack(&behind(link, peer, b"ge-1").renew(lease));
        assert_eq!(ack.tuple(), lease);
        let stored = lab.durable(lease).unwrap();
        assert_eq!(stored.source, peer.parse::<std::net::Ipv6Addr>().unwrap());
        assert_eq!(lab.active().len(), 1);
    }
}

fn renewing_a_whole_address(bench: Bench) {
    let mut lab = eager(bench);
    let client = Client::on(L3, 1);
    let lease = lab.obtain(&client).tuple();
    assert_eq!(lease.ports, None);
    let ack = lab.ack(&client.renew(lease));
    assert_eq!(ack.tuple(), lease);
    assert!(!ack.has(159));
}

fn renewing_where_nothing_is_extended(bench: Bench) {
    let mut lab = bench.lab_with(|setup| {
        setup.set("lease.early-renewal-percent", 0);
        setup.set("policy.extend-leases", false);
    });
    let client = Client::on(L1, 1);
    let lease = lab.obtain(&client).tuple();
    let before = lab.durable(lease).unwrap();
    lab.wait(2);
    for query in [client.renew(lease), client.rebind(lease)] {
        let ack = lab.ack(&query);
        assert_eq!(ack.tuple(), lease);
        let [left, t1, t2] = [51, 58, 59].map(|code| ack.number(code).unwrap());
        assert!((3590..=3598).contains(&left), "{left} s of 3600 remain after 2");
        assert!(t1 < t2 && t2 < left);
    }
    assert_eq!(lab.durable(lease).unwrap().expires, before.expires);
}

fn renewing_early(bench: Bench) {
    let mut lab = bench.lab();
    let client = Client::on(L1, 1);
    let lease = lab.obtain(&client).tuple();
    let ack = lab.ack(&client.renew(lease));
    assert_eq!(ack.tuple(), lease);
    assert!(ack.lease_seconds() >= 3599);
}

fn renewing_without_an_identifier(bench: Bench) {
    let mut lab = bench.lab();
    let client = Client::on(L1, 1);
    let lease = lab.obtain(&client).tuple();
    let nameless = client.clone().identified_by(None);
    lab.expect_discard("unknown-client", &nameless.renew(lease));
    lab.assert_holds(&client, lease);
}
