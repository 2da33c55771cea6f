//! R01-R20: relays, what goes back through them, and where a client is.

use portlease::engine::remark::Remark;

use crate::{
    dora::{assert_of_p1, p1},
    encoding::vectors,
    lab::{Bench, Lab},
    packet::{
        CLIENT_LINK_LAYER, Datagram, ECHO_REQUEST, INTERFACE_ID, Level, OFFER, RELAY_FORWARD,
        RELAY_MESSAGE, RELAY_PORT, RELAY_REPLY, REMOTE_ID,
    },
    query::{Client, L1, L3, Query},
    registry::{Case, server},
    reply::Reply,
};

pub const CASES: &[Case] = &[
    server("R01", two_relays),
    server("R02", the_inner_link_address_counts),
    server("R03", a_lightweight_relay_before_a_relay),
    server("R04", a_link_local_link_address),
    server("R05", options_that_are_asked_back),
    server("R06", a_relay_with_a_port_of_its_own),
    server("R07", a_relay_that_names_no_port),
    server("R08", nine_levels),
    server("R09", thirty_four_levels),
    server("R10", a_relay_without_a_message),
    server("R11", a_relayed_relay_reply),
    server("R12", a_relayed_solicit),
    server("R13", a_link_layer_address_in_the_query),
    server("R14", an_unknown_relay_option),
    server("R15", two_relayed_messages),
    server("R16", an_empty_interface_id),
    server("R17", a_client_behind_a_dhcpv4_relay),
    server("R18", relay_information_that_does_not_fit),
    server("R19", the_group_of_all_servers),
    server("R20", unicast_from_a_client),
];

/// A client behind one relay on L1.
fn behind_one(number: u16) -> Client {
    let relay = Level::new(0, "2001:db8:1::1", "fe80::1");
    Client::on(L1, number).behind(vec![relay])
}

/// A client behind an outer relay that says nothing of the link, and this one.
fn behind_two(number: u16, inner: Level) -> Client {
    Client::on(L1, number).behind(vec![Level::new(1, "::", "2001:db8:ffff::b"), inner])
}

fn two_relays(bench: Bench) {
    let mut lab = bench.lab();
    let asked = behind_one(1).discover().replaced_by(&vectors::octets(vectors::RELAY_FORWARD));
    let outcome = lab.deliver(&asked);
    let [sent] = &outcome.sent[..] else { panic!("{outcome:?}") };
    let to = (sent.destination, sent.destination_port);
    assert_eq!(to, (asked.source, 547));
    let reply = Reply::read(sent.source, to, &sent.payload);
    let vector = vectors::octets(vectors::RELAY_REPLY);
    let vector = Reply::read(sent.source, to, &vector);
    assert_eq!(reply.relays, vector.relays);
    assert_eq!(reply.relays.len(), 2);
    assert_eq!(reply.relays[1].options, [(INTERFACE_ID, b"ge-0/0/1.100".to_vec())]);
    assert_eq!((reply.kind(), reply.flags, &reply.options6[..]), (OFFER, [0; 3], &[][..]));
    assert_of_p1(&reply);
    for code in [51, 54, 58, 59, 61] {
        assert_eq!(reply.option(code), vector.option(code), "option {code}");
    }
}

fn the_inner_link_address_counts(bench: Bench) {
    let client = behind_two(1, Level::new(0, "2001:db8:1::1", "fe80::1"));
    assert_of_p1(&bench.lab().obtain(&client));
}

/// The site is the pair of link-address and Interface-Id: with one lease a site, one client for each of them.
fn a_lightweight_relay_before_a_relay(bench: Bench) {
    let mut lab = bench.lab_with(|setup| setup.set("policy.max-leases-per-site", 1));
    let at = |number: u16, link: &str, port: &[u8]| {
        let lightweight = Level::new(0, "::", "fe80::1").with(INTERFACE_ID, port);
        Client::on(L1, number).behind(vec![Level::new(1, link, "fe80::2"), lightweight])
    };
    let ack = lab.obtain(&at(1, "2001:db8:1::1", b"port-1"));
    assert_of_p1(&ack);
    assert_eq!(ack.relays[1].options, [(INTERFACE_ID, b"port-1".to_vec())]);
    lab.expect_discard("site-limit", &at(2, "2001:db8:1::1", b"port-1").discover());
    lab.obtain(&at(3, "2001:db8:1::1", b"port-2"));
    lab.obtain(&at(4, "2001:db8:1::2", b"port-1"));
}

fn a_link_local_link_address(bench: Bench) {
    let at = |port: &[u8]| {
        let relay = Level::new(0, "fe80::1", "fe80::2").with(INTERFACE_ID, port);
        Client::on(L1, 1).behind(vec![relay])
    };
    bench.lab().expect_discard("no-attachment", &at(b"ge-7").discover());
    let mut lab = bench.lab_with(|setup| {
        setup.push("link.0.match", "{ interface-id = \"ge-7\" }");
        setup.push("link.2.match", "{}");
    });
    assert_of_p1(&lab.offer(&at(b"ge-7").discover()));
    let by_default = lab.offer(&at(b"ge-8").discover());
    assert_eq!(by_default.message.yiaddr.octets()[..3], [203, 0, 113]);
}

fn options_that_are_asked_back(bench: Bench) {
    let remote = b"\0\0\x7d\xb7cust-0001";
    let codes: Vec<u8> = [37_u16, 18, 999].iter().flat_map(|code| code.to_be_bytes()).collect();
    let relay = Level::new(0, "2001:db8:1::1", "fe80::1")
        .with(INTERFACE_ID, b"ge-0")
        .with(REMOTE_ID, remote)
        .with(ECHO_REQUEST, &codes);
    let offer = bench.lab().offer(&behind_two(1, relay).discover());
    let mut options = offer.relays[1].options.clone();
    options.sort();
    assert_eq!(options, [(INTERFACE_ID, b"ge-0".to_vec()), (REMOTE_ID, remote.to_vec())]);
    assert!(offer.relays[0].options.is_empty());
}

fn a_relay_with_a_port_of_its_own(bench: Bench) {
    let outer = Level::new(1, "::", "2001:db8:ffff::b").with(RELAY_PORT, &[0, 0]);
    let inner = Level::new(0, "2001:db8:1::1", "fe80::1");
    let client = Client::on(L1, 1).behind(vec![outer, inner]);
    let offer = bench.lab().offer(&client.discover().port(5000));
    assert_eq!(offer.destination_port, 5000);
    assert_eq!(offer.relays[0].options, [(RELAY_PORT, vec![0, 0])]);
    assert!(offer.relays[1].options.is_empty());
}

fn a_relay_that_names_no_port(bench: Bench) {
    let offer = bench.lab().offer(&behind_one(1).discover().port(5000));
    assert_eq!(offer.destination_port, 547);
}

/// So many levels, the outermost with the greatest hop-count.
fn levels(count: u8) -> Client {
    let chain = (0..count).rev().map(|hops| {
        let link = if hops == 0 { "2001:db8:1::1" } else { "::" };
        Level::new(hops, link, "fe80::1")
    });
    Client::on(L1, 1).behind(chain.collect())
}

fn nine_levels(bench: Bench) {
    let offer = bench.lab().offer(&levels(9).discover());
    assert_eq!(
        offer.relays.iter().map(|level| level.hops).collect::<Vec<_>>(),
        [8, 7, 6, 5, 4, 3, 2, 1, 0]
    );
    assert_of_p1(&offer);
}

fn thirty_four_levels(bench: Bench) {
    bench.lab().expect_discard("nesting", &levels(34).discover());
}

/// A Relay-forward on L1 with these options and nothing else.
fn forward(options: &[(u16, &[u8])]) -> Datagram {
    let mut payload = vec![RELAY_FORWARD, 0];
    payload.extend("2001:db8:1::1".parse::<std::net::Ipv6Addr>().unwrap().octets());
    payload.extend("fe80::1".parse::<std::net::Ipv6Addr>().unwrap().octets());
    let options: Vec<_> = options.iter().map(|(code, value)| (*code, value.to_vec())).collect();
    payload.extend(crate::packet::encode_options6(&options));
    behind_one(1).discover().replaced_by(&payload)
}

fn a_relay_without_a_message(bench: Bench) {
    bench.lab().expect_discard("no-relay-msg", forward(&[(INTERFACE_ID, b"ge-0")]));
}

fn a_relayed_relay_reply(bench: Bench) {
    let level = Level::new(0, "2001:db8:1::1", "fe80::1");
    let query = Client::on(L1, 1).discover();
    let reply = level.around(RELAY_REPLY, &query.datagram().payload);
    bench.lab().expect_discard("relay-reply", forward(&[(RELAY_MESSAGE, &reply)]));
}

fn a_relayed_solicit(bench: Bench) {
    let solicit = [1, 0xaa, 0xbb, 0xcc, 0, 8, 0, 2, 0, 0];
    bench.lab().expect_discard("unknown-type", forward(&[(RELAY_MESSAGE, &solicit)]));
}

fn a_link_layer_address_in_the_query(bench: Bench) {
    let mut lab = bench.lab();
    for mut query in [Client::on(L1, 1).discover(), behind_one(2).discover()] {
        query.after.push((CLIENT_LINK_LAYER, vec![0, 1, 2, 9, 9, 9, 9, 9]));
        let offer = lab.offer(&query);
        assert!(offer.options6.is_empty());
        assert_of_p1(&offer);
    }
}

fn an_unknown_relay_option(bench: Bench) {
    let relay = Level::new(0, "2001:db8:1::1", "fe80::1").with(65_000, b"what");
    let offer = bench.lab().offer(&Client::on(L1, 1).behind(vec![relay]).discover());
    assert!(offer.relays[0].options.is_empty());
}

fn two_relayed_messages(bench: Bench) {
    let query = Client::on(L1, 1).discover().datagram().payload;
    let twice = forward(&[(RELAY_MESSAGE, &query), (RELAY_MESSAGE, &query)]);
    bench.lab().expect_discard("dup-relay-msg", &twice);
}

fn an_empty_interface_id(bench: Bench) {
    let relay = Level::new(0, "2001:db8:1::1", "fe80::1").with(INTERFACE_ID, b"");
    let offer = bench.lab().offer(&Client::on(L1, 1).behind(vec![relay]).discover());
    assert_eq!(offer.relays[0].options, [(INTERFACE_ID, Vec::new())]);
}

/// RFC 9928: the relay of old clients asks in DHCPv4-queries of its own.
fn a_client_behind_a_dhcpv4_relay(bench: Bench) {
    let mut lab = bench.lab();
    let client = Client::on(L3, 1).incapable();
    let agent = [&[1, 4][..], b"eth0", &[2, 6, 2, 0, 0, 0, 0, 9]].concat();
    let through = |query: Query| query.giaddr([10, 0, 0, 1]).set(82, &agent);
    let offer = lab.offer(&through(client.discover()));
    let ack = lab.ack(&through(client.select(&offer)));
    for reply in [&offer, &ack] {
        assert_eq!(reply.codes().last(), Some(&82));
        assert_eq!(reply.option(82), Some(&agent[..]));
        assert_eq!(reply.message.giaddr.octets(), [10, 0, 0, 1]);
        assert_eq!(reply.message.chaddr[..6], client.hardware);
        assert_eq!(reply.message.flags, 0);
    }
    assert_eq!(ack.message.yiaddr.octets()[..3], [203, 0, 113]);
    let elsewhere = client.reboot(crate::packet::Tuple {
        address: [203, 0, 113, if ack.message.yiaddr.octets()[3] == 10 { 11 } else { 10 }].into(),
        ports: None,
    });
    let nak = lab.nak_without_change(&through(elsewhere));
    assert_eq!(nak.message.flags, 0x8000);
    assert_eq!(nak.codes().last(), Some(&82));
}

/// 255 octets fit into 548 beside a lease, but not beside an identifier that is as long.
fn relay_information_that_does_not_fit(bench: Bench) {
    let mut lab = bench.lab();
    let limit = 576_u16.to_be_bytes();
    let agent = [&[1, 253][..], &[7; 253]].concat();
    let ask = |client: &Client, lab: &mut Lab| {
        let query = client.discover().parameters(&[159]);
        let query = query.giaddr([10, 0, 0, 1]).set(57, &limit).set(82, &agent);
        lab.send_and_count(&query).expect("an answer")
    };
    let (fits, omitted) = ask(&Client::on(L1, 1), &mut lab);
    assert_eq!((fits.option(82), omitted), (Some(&agent[..]), vec![]));
    assert_eq!(fits.codes().last(), Some(&82));
    assert!(fits.message_length <= 576 - 28);
    let long = Client::on(L1, 2).identified_by(Some(&[9; 200]));
    let (without, omitted) = ask(&long, &mut lab);
    assert!(!without.has(82));
    assert_eq!(omitted, [(Remark::RelayInformationOmitted.name().to_owned(), 1)]);
    assert!(without.message_length <= 576 - 28);
}

fn the_group_of_all_servers(bench: Bench) {
    let offer = bench.lab().offer(&behind_one(1).discover().to("ff05::1:3"));
    assert_of_p1(&offer);
    assert!(!offer.source.is_multicast());
}

/// `Reply::assert_lawful` holds the reply's source against the query's destination.
fn unicast_from_a_client(bench: Bench) {
    let mut lab = bench.lab();
    let client = Client::on(L1, 1);
    lab.obtain_tuple(&client, p1(18, 9));
    if bench == Bench::Daemon {
        // Another address of the same host, which is not in the server's list.
        let elsewhere = client.renew(p1(18, 9)).to("2001:db8:ffff::548");
        lab.expect_discard("not-our-destination", &elsewhere);
    }
}
