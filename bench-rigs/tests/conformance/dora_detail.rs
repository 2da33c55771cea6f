//! D19-D35: what a REQUEST may lack, options and times of replies, identities, and what survives a crash.

use portlease::engine::remark::Remark;

use crate::{
    dora::{assert_of_p1, p1},
    lab::Bench,
    query::{Client, L1, L2, L3},
    registry::{Case, TIME, engine_only, server},
};

pub const CASES: &[Case] = &[
    server("D19", a_request_that_cannot_be_answered_with_ports),
    server("D20", a_late_request_for_a_free_tuple),
    engine_only("D21", TIME, a_late_request_for_a_taken_tuple),
    server("D22", an_exhausted_pool),
    server("D23", only_options_that_there_are),
    server("D24", a_shorter_lease),
    server("D25", an_endless_lease),
    server("D26", renewal_and_rebinding_times),
    server("D27", no_shared_lease_without_an_identifier),
    server("D28", identifiers_that_differ_in_an_octet),
    server("D29", another_hardware_address),
    server("D30", the_broadcast_flag),
    server("D31", the_unicast_flag_on_the_first_messages),
    server("D32", seconds_are_not_echoed),
    server("D33", options_that_nobody_knows),
    server("D34", more_options_than_there_is_room_for),
    server("D35", a_crash_after_the_ack),
];

fn a_request_that_cannot_be_answered_with_ports(bench: Bench) {
    let mut lab = bench.lab();
    let client = Client::on(L1, 1);
    let offer = lab.offer(&client.discover());
    let query = client.select(&offer).not_listing_ports();
    lab.expect_discard("no-159-in-prl", &query);
}

fn a_late_request_for_a_free_tuple(bench: Bench) {
    let mut lab = bench.lab_with(|setup| setup.set("lease.offer-hold", "1s"));
    let client = Client::on(L1, 1);
    let offer = lab.offer(&client.discover());
    lab.wait(3);
    assert_eq!(lab.ack(&client.select(&offer)).tuple(), offer.tuple());
    lab.assert_holds(&client, offer.tuple());
}

fn a_late_request_for_a_taken_tuple(bench: Bench) {
    let mut lab = bench.lab();
    let (one, two) = (Client::on(L1, 1), Client::on(L1, 2));
    let offer = lab.offer(&one.discover());
    lab.wait(61);
    lab.obtain_tuple(&two, offer.tuple());
    lab.nak_without_change(&one.select(&offer));
    lab.assert_holds(&two, offer.tuple());
}

/// Nobody is offered anything here any more; elsewhere everybody is.
fn an_exhausted_pool(bench: Bench) {
    let mut lab = bench.lab_with(|setup| {
        let one = toml::Value::from(vec!["192.0.2.18"]);
        setup.set("link.0.pool.0.addresses", one);
    });
    for number in 1..=63 {
        assert_of_p1(&lab.obtain(&Client::on(L1, number)));
    }
    lab.expect_discard("pool-exhausted", &Client::on(L1, 64).discover());
    lab.offer(&Client::on(L2, 64).discover());
    lab.offer(&Client::on(L3, 65).discover());
    if bench == Bench::Daemon {
        // Once a second it is looked at whether a pool is full, and said.
        lab.wait(2);
        let log = lab.log();
        assert!(log.contains("WARN") && log.contains("P1"), "an alarm in: {log}");
    }
}

fn only_options_that_there_are(bench: Bench) {
    let mut lab = bench.lab();
    let query = Client::on(L1, 1).discover().parameters(&[159, 51, 58, 59, 3, 1, 6]);
    let offer = lab.offer(&query);
    assert!([51, 58, 59, 159].iter().all(|code| offer.has(*code)), "{:?}", offer.codes());
    assert!(!offer.has(3) && !offer.has(6));
    assert!(offer.message.options.iter().all(|(_, value)| !value.is_empty()));
    if let Some(mask) = offer.option(1) {
        assert_eq!(mask, [255; 4], "a shared address is nobody's network");
    }
    let mut lab = bench.lab_with(|setup| {
        setup.set_toml("options.subnet-mask", "\"255.255.255.255\"");
        setup.set_toml("options.routers", "[\"192.0.2.1\"]");
    });
    let codes = lab.offer(&query).codes();
    let place = |code| codes.iter().position(|other| *other == code);
    assert!(place(1).is_some() && place(1) < place(3), "RFC 2132 §3.3: {codes:?}");
    assert_eq!(place(6), None);
}

fn a_shorter_lease(bench: Bench) {
    let mut lab = bench.lab();
    let client = Client::on(L1, 1);
    let asking = 600_u32.to_be_bytes();
    let offer = lab.offer(&client.discover().set(51, &asking));
    assert_eq!(offer.lease_seconds(), 600);
    let ack = lab.ack(&client.select(&offer).set(51, &asking));
    assert_eq!(ack.lease_seconds(), 600);
}

fn an_endless_lease(bench: Bench) {
    let mut lab = bench.lab();
    let client = Client::on(L1, 1);
    let offer = lab.offer(&client.discover().set(51, &[0xff; 4]));
    assert_eq!(offer.lease_seconds(), 3600);
    let ack = lab.ack(&client.select(&offer).set(51, &[0xff; 4]));
    assert_eq!(ack.lease_seconds(), 3600);
}

fn renewal_and_rebinding_times(bench: Bench) {
    let mut lab = bench.lab();
    let client = Client::on(L1, 1);
    let offer = lab.offer(&client.discover());
    let ack = lab.ack(&client.select(&offer));
    for reply in [offer, ack] {
        assert_eq!([51, 58, 59].map(|code| reply.number(code).unwrap()), [3600, 1800, 3150]);
    }
    let short = lab.offer(&Client::on(L1, 2).discover().set(51, &601_u32.to_be_bytes()));
    let [lease, t1, t2] = [51, 58, 59].map(|code| short.number(code).unwrap());
    assert!(t1 < t2 && t2 < lease, "{t1} {t2} {lease}");
}

fn no_shared_lease_without_an_identifier(bench: Bench) {
    let query = Client::on(L1, 1).identified_by(None).discover();
    bench.lab().expect_discard("no-client-id", &query);
}

fn identifiers_that_differ_in_an_octet(bench: Bench) {
    let mut lab = bench.lab();
    let one = Client::on(L1, 1);
    let mut identifier = one.identifier.clone().unwrap();
    *identifier.last_mut().unwrap() ^= 0x40;
    let two = one.clone().identified_by(Some(&identifier));
    let leases = [&one, &two].map(|client| lab.obtain(client).tuple());
    assert_ne!(leases[0], leases[1]);
    lab.assert_holds(&one, leases[0]);
    lab.assert_holds(&two, leases[1]);
}

fn another_hardware_address(bench: Bench) {
    let mut lab = bench.lab();
    let client = Client::on(L1, 1);
    let lease = lab.obtain(&client).tuple();
    let other = Client { hardware: vec![2, 9, 9, 9, 9, 9], ..client };
    assert_eq!(lab.obtain(&other).tuple(), lease);
    assert_eq!(lab.active().len(), 1);
}

/// Every reply is held against the flags of its query and the way back; see `Reply::assert_lawful`.
fn the_broadcast_flag(bench: Bench) {
    let mut query = Client::on(L1, 1).discover();
    query.message.flags = 0x8000;
    let offer = bench.lab().offer(&query);
    assert_eq!(offer.message.flags, 0x8000);
    assert_eq!((offer.destination, offer.destination_port), (query.source, 546));
}

fn the_unicast_flag_on_the_first_messages(bench: Bench) {
    let mut lab = bench.lab();
    let client = Client::on(L1, 1);
    let offer = lab.offer(&client.discover().unicast());
    let lease = lab.ack(&client.select(&offer)).tuple();
    assert_eq!(lab.ack(&client.reboot(lease).unicast()).tuple(), lease);
}

fn seconds_are_not_echoed(bench: Bench) {
    let mut query = Client::on(L1, 1).discover();
    query.message.secs = 300;
    assert_eq!(bench.lab().offer(&query).message.secs, 0);
}

fn options_that_nobody_knows(bench: Bench) {
    let mut lab = bench.lab();
    let with = |query: crate::query::Query| {
        query.set(60, b"vendor").set(77, b"\x05class").set(124, &[0, 0, 0x7d, 0xb7, 1, 0])
    };
    let client = Client::on(L1, 1);
    let offer = lab.offer(&with(client.discover()));
    let ack = lab.ack(&with(client.select(&offer)));
    assert_eq!(ack.tuple(), offer.tuple());
    assert!([60, 77, 124].iter().all(|code| !ack.has(*code)));
}

/// Codes 230 to 239, of 100 octets each.
pub fn configure_many(setup: &mut crate::setup::Setup) {
    for code in MANY {
        let text = char::from(b'a' + (code - 230)).to_string().repeat(100);
        let value = format!("{{ type = \"text\", value = \"{text}\" }}");
        setup.set_toml(&format!("options.{code}"), &value);
    }
}

pub const MANY: std::ops::Range<u8> = 230..240;

/// The last ones that are asked for are left out, and nothing that the lease needs.
fn more_options_than_there_is_room_for(bench: Bench) {
    let mut lab = bench.lab_with(configure_many);
    let client = Client::on(L1, 1);
    let list: Vec<u8> = MANY.rev().chain([159, 51]).collect();
    let with_limit =
        |query: crate::query::Query| query.parameters(&list).set(57, &576_u16.to_be_bytes());
    let offer = lab.offer(&with_limit(client.discover()));
    let (ack, remarks) = lab.send_and_count(&with_limit(client.select(&offer))).unwrap();
    assert_eq!(remarks, [(Remark::OptionsOmitted.name().to_owned(), 1)]);
    for reply in [offer, ack] {
        assert!(reply.message_length <= 576 - 28, "{} octets", reply.message_length);
        assert!([51, 53, 54, 58, 59, 61, 159].iter().all(|code| reply.has(*code)));
        let said: Vec<u8> = reply.codes().into_iter().filter(|code| MANY.contains(code)).collect();
        assert!(!said.is_empty() && list.starts_with(&said), "{said:?}");
    }
}

fn a_crash_after_the_ack(bench: Bench) {
    let mut lab = bench.lab_on_disk();
    let (one, two) = (Client::on(L1, 1), Client::on(L1, 2));
    let lease = lab.obtain_tuple(&one, p1(19, 7)).tuple();
    lab.crash();
    lab.assert_holds(&one, lease);
    assert_ne!(lab.offer(&two.discover_for(lease)).tuple(), lease);
    assert_eq!(lab.ack(&one.renew(lease)).tuple(), lease);
    assert_eq!(lab.ack(&one.reboot(lease)).tuple(), lease);
}
