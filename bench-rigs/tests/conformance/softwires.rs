//! W01-W07, the server's side: where clients' softwires begin and end (RFC 8539).

use std::net::Ipv6Addr;

use crate::{
    dora::p1,
    lab::{Bench, Lab},
    packet::{OPTION_REQUEST, S46_BIND_PREFIX, S46_BR, Tuple},
    query::{Client, L1, Query},
    registry::{Case, server},
    reply::Reply,
};

pub const CASES: &[Case] = &[
    server("W01", a_query_for_the_ends_of_softwires),
    server("W02", a_request_that_says_where_its_softwire_begins),
    server("W03", another_address_at_a_renewal),
    server("W04", another_address_too_soon).remark("an ACK with the old one"),
    server("W05", an_address_of_somebody_elses),
    server("W06", an_address_of_somebody_elses_at_a_renewal),
    server("W07", two_softwires_to_one_address),
];

/// Option 109.
const SOFTWIRE: u8 = 109;

fn border_relay() -> Ipv6Addr {
    "2001:db8::b1".parse().unwrap()
}

/// Where the softwire of the client of this number begins.
fn begins(number: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 1, 0x34, 0, 0, 0, number)
}

/// A server that knows of softwires, and takes another address after this time.
fn lab(bench: Bench, update_interval: &str, conflict: &str) -> Lab {
    bench.lab_with(|setup| {
        setup.set_toml("softwire.br", "[\"2001:db8::b1\"]");
        setup.set("softwire.bind-prefix", "2001:db8:1::/56");
        setup.set("softwire.update-interval", update_interval);
        setup.set("softwire.conflict", conflict);
        setup.set("lease.early-renewal-percent", 0);
    })
}

fn with(query: Query, address: Ipv6Addr) -> Query {
    query.set(SOFTWIRE, &address.octets())
}

/// A lease whose softwire begins at `address`.
#[track_caller]
fn obtain(lab: &mut Lab, client: &Client, tuple: Tuple, address: Ipv6Addr) -> Reply {
    let offer = lab.offer(&client.discover_for(tuple));
    assert_eq!(offer.tuple(), tuple);
    let ack = lab.ack(&with(client.select(&offer), address));
    assert_bears(lab, &ack, Some(address));
    ack
}

/// Asserts what an ACK says, and that the same is stored.
#[track_caller]
fn assert_bears(lab: &mut Lab, ack: &Reply, address: Option<Ipv6Addr>) {
    let octets = address.map(|address| address.octets().to_vec());
    assert_eq!(ack.option(SOFTWIRE), octets.as_deref());
    assert_eq!(lab.durable(ack.tuple()).unwrap().softwire, address);
}

fn a_query_for_the_ends_of_softwires(bench: Bench) {
    let mut lab = bench.lab_with(|setup| {
        setup.set_toml("softwire.br", "[\"2001:db8::b1\"]");
        setup.set("softwire.bind-prefix", "2001:db8:1::/56");
    });
    let asking = |codes: &[u16]| {
        let mut query = Client::on(L1, 1).discover();
        let list = codes.iter().flat_map(|code| code.to_be_bytes()).collect();
        query.before.push((OPTION_REQUEST, list));
        query
    };
    let relay = (S46_BR, border_relay().octets().to_vec());
    let prefix = (S46_BIND_PREFIX, vec![56, 0x20, 0x01, 0x0d, 0xb8, 0, 1, 0]);
    let mut options = lab.offer(&asking(&[90, 137])).options6;
    options.sort();
    assert_eq!(options, [relay.clone(), prefix]);
    assert_eq!(lab.offer(&asking(&[90])).options6, [relay]);
    assert!(lab.offer(&asking(&[88])).options6.is_empty());
    assert!(lab.offer(&Client::on(L1, 1).discover()).options6.is_empty());
}

fn a_request_that_says_where_its_softwire_begins(bench: Bench) {
    let mut lab = lab(bench, "60s", "existing");
    let client = Client::on(L1, 1);
    let lease = obtain(&mut lab, &client, p1(18, 9), begins(1)).tuple();
    // Every later ACK bears it, asked for or not.
    for query in [client.renew(lease), with(client.rebind(lease), begins(1)), client.reboot(lease)]
    {
        let ack = lab.ack(&query);
        assert_bears(&mut lab, &ack, Some(begins(1)));
    }
    let none = lab.obtain(&Client::on(L1, 2));
    assert_bears(&mut lab, &none, None);
}

fn another_address_at_a_renewal(bench: Bench) {
    let mut lab = lab(bench, "1s", "existing");
    let client = Client::on(L1, 1);
    let lease = obtain(&mut lab, &client, p1(18, 9), begins(1)).tuple();
    lab.wait(2);
    let ack = lab.ack(&with(client.renew(lease), begins(2)));
    assert_bears(&mut lab, &ack, Some(begins(2)));
}

fn another_address_too_soon(bench: Bench) {
    let mut lab = lab(bench, "60s", "existing");
    let client = Client::on(L1, 1);
    let lease = obtain(&mut lab, &client, p1(18, 9), begins(1)).tuple();
    lab.wait(1);
    let ack = lab.ack(&with(client.renew(lease), begins(2)));
    assert_bears(&mut lab, &ack, Some(begins(1)));
}

fn an_address_of_somebody_elses(bench: Bench) {
    let mut lab = lab(bench, "60s", "existing");
    let (one, two) = (Client::on(L1, 1), Client::on(L1, 2));
    obtain(&mut lab, &two, p1(18, 10), begins(2));
    let offer = lab.offer(&one.discover_for(p1(18, 9)));
    lab.nak_without_change(&with(one.select(&offer), begins(2)));
    assert_eq!(lab.active().len(), 1);
    assert_eq!(lab.durable(p1(18, 10)).unwrap().softwire, Some(begins(2)));
}

fn an_address_of_somebody_elses_at_a_renewal(bench: Bench) {
    for conflict in ["existing", "drop"] {
        let mut lab = lab(bench, "1s", conflict);
        let (one, two) = (Client::on(L1, 1), Client::on(L1, 2));
        obtain(&mut lab, &one, p1(18, 9), begins(1));
        obtain(&mut lab, &two, p1(18, 10), begins(2));
        lab.wait(2);
        let query = with(one.renew(p1(18, 9)), begins(2));
        if conflict == "drop" {
            lab.expect_discard("saddr-conflict", &query);
        } else {
            let ack = lab.ack(&query);
            assert_bears(&mut lab, &ack, Some(begins(1)));
        }
        assert_eq!(lab.durable(p1(18, 9)).unwrap().softwire, Some(begins(1)));
        assert_eq!(lab.durable(p1(18, 10)).unwrap().softwire, Some(begins(2)));
    }
}

fn two_softwires_to_one_address(bench: Bench) {
    let mut lab = lab(bench, "60s", "existing");
    for number in [1, 2] {
        obtain(&mut lab, &Client::on(L1, number), p1(18, number + 8), begins(number));
    }
    let stored = [9, 10].map(|psid| lab.durable(p1(18, psid)).unwrap().softwire);
    assert_eq!(stored, [Some(begins(1)), Some(begins(2))]);
}
