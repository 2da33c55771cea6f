//! B20-B34, B37: values that cannot be, and senders who mean harm.

use std::time::Instant;

use portlease::engine::remark::Remark;

use crate::{
    dora::{assert_of_p1, p1},
    dora_detail::{MANY, configure_many},
    encoding::vectors,
    lab::{Bench, Lab},
    packet::{Datagram, Level, QUERY},
    query::{Client, L1, L3, Query},
    registry::{Case, TIME, engine_only, server},
    reply::Reply,
};

pub const CASES: &[Case] = &[
    server("B20", hints_of_a_wrong_length),
    server("B21", hints_that_contradict_themselves),
    server("B22", contradictory_ports_are_selected),
    server("B23", contradictory_ports_are_renewed),
    server("B24", ports_twice),
    // server("B26", lists_of_any_length),
    server("B26", lists_of_any_length),
    server("B27", identifiers_of_any_length),
    server("B28", addresses_that_nobody_can_have),
    server("B29", the_servers_own_address),
    server("B31", as_many_options_as_there_can_be)
        .remark("no allocation: `userspace/tests/zero_alloc.rs`"),
    engine_only("B32", "`make fuzz` goes on from there", random_octets),
    server("B33", relays_that_do_not_know_their_client),
    server("B34", senders_that_cannot_be_answered),
    engine_only("B37", TIME, a_replayed_request),
    server("B38", limits_of_any_size),
];

/// M1, M2 and M11.
const WRONG_LENGTHS: [&[u8]; 3] = [&[0, 6, 4], &[0, 6, 4, 0, 0], &[]];

/// M3 to M6.
const CONTRADICTIONS: [[u8; 4]; 4] =
    [[16, 6, 4, 0], [0, 17, 0xff, 0xff], [10, 8, 1, 0], [0, 6, 4, 1]];

fn hints_of_a_wrong_length(bench: Bench) {
    let mut lab = bench.lab();
    for octets in WRONG_LENGTHS {
        assert_of_p1(&lab.offer(&Client::on(L1, 1).discover().raw_ports(octets)));
    }
}

fn hints_that_contradict_themselves(bench: Bench) {
    let mut lab = bench.lab();
    for octets in CONTRADICTIONS {
        assert_of_p1(&lab.offer(&Client::on(L1, 1).discover().raw_ports(&octets)));
    }
}

fn contradictory_ports_are_selected(bench: Bench) {
    let mut lab = bench.lab();
    let client = Client::on(L1, 1);
    let offer = lab.offer(&client.discover());
    for octets in CONTRADICTIONS {
        lab.nak_without_change(&client.select(&offer).raw_ports(&octets));
    }
    assert!(lab.active().is_empty());
}

fn contradictory_ports_are_renewed(bench: Bench) {
    let mut lab = bench.lab();
    let client = Client::on(L1, 1);
    lab.obtain_tuple(&client, p1(19, 1));
    // M6 is that very tuple, with a bit of padding set.
    lab.nak_without_change(&client.renew(p1(19, 1)).raw_ports(&CONTRADICTIONS[3]));
    lab.assert_holds(&client, p1(19, 1));
}

/// M7, as what it is together: eight octets.
fn ports_twice(bench: Bench) {
    let mut lab = bench.lab();
    let (one, two) = (Client::on(L1, 1), Client::on(L1, 2));
    let twice = |query: Query| query.clone().add(159, query.option(159).unwrap());
    let offer = lab.offer(&one.discover());
    lab.nak_without_change(&twice(one.select(&offer)));
    lab.obtain_tuple(&two, p1(19, 1));
    lab.nak_without_change(&twice(two.renew(p1(19, 1))));
    lab.expect_discard("bad-portparams", &twice(two.release(p1(19, 1))));
    lab.assert_holds(&two, p1(19, 1));
}

fn lists_of_any_length(bench: Bench) {
    let mut lab = bench.lab_with(|setup| {
        setup.set("options.domain-name-servers", toml::Value::from(vec!["192.0.2.53"]));
    });
    lab.expect_discard("no-159-in-prl", &Client::on(L1, 1).discover().parameters(&[]));
    lab.offer(&Client::on(L3, 1).discover().parameters(&[]));
    let mut codes: Vec<u8> = [159, 6, 51].into_iter().cycle().take(255).collect();
    codes[200] = 1;
    let offer = lab.offer(&Client::on(L1, 2).discover().parameters(&codes));
    assert_of_p1(&offer);
    // That no option comes twice is asserted of every reply.
    assert_eq!(offer.option(6), Some(&[192, 0, 2, 53][..]));
}

fn identifiers_of_any_length(bench: Bench) {
    let mut lab = bench.lab();
    let with = |link: u16, identifier: &[u8]| Client::on(link, 1).identified_by(Some(identifier));
    lab.expect_discard("bad-option-length", &with(L1, &[]).discover());
    // One octet is no identifier of RFC 2132 §9.14: a key, but not one for a shared lease.
    lab.expect_discard("no-client-id", &with(L1, &[7]).discover());
    let whole = [7, 8].map(|octet| lab.obtain(&with(L3, &[octet])).tuple());
    assert_ne!(whole[0], whole[1]);
    let mut long = vec![0xab; 255];
    let one = lab.obtain(&with(L1, &long));
    assert_eq!(one.option(61), Some(&long[..]));
    long[254] = 0xcd;
    assert_ne!(lab.obtain(&with(L1, &long)).tuple(), one.tuple());
}

fn addresses_that_nobody_can_have(bench: Bench) {
    let mut lab = bench.lab();
    let client = Client::on(L1, 1);
    for address in [[0; 4], [255; 4], [127, 0, 0, 1]] {
        assert_of_p1(&lab.offer(&client.discover().set(50, &address)));
        let tuple = crate::packet::shared(address, 0, 6, 7);
        lab.nak_without_change(&client.select_tuple(tuple));
    }
}

fn the_servers_own_address(bench: Bench) {
    let own = crate::packet::shared([192, 0, 2, 254], 0, 6, 7);
    bench.lab().expect_discard("not-our-address", &Client::on(L1, 1).renew(own));
}

/// A datagram of 64 KiB takes about as long for each of its options as a small one does, and changes nothing.
fn as_many_options_as_there_can_be(bench: Bench) {
    let mut lab = bench.lab();
    if bench == Bench::Daemon {
        // Longer than any datagram that is received at all.
        lab.expect_discard("rx-too-long", full_of_options(64_000));
        assert_of_p1(&lab.offer(&Client::on(L1, 1).discover()));
        return;
    }
    let mut fastest = |octets: usize| {
        let datagram = full_of_options(octets);
        let times = (0..20).map(|_| {
            let begin = Instant::now();
            lab.deliver(&datagram);
            begin.elapsed()
        });
        times.min().unwrap()
    };
    let (small, large) = (fastest(4_000), fastest(64_000));
    assert!(large < small * 16 * 8, "{large:?} for 16 times the octets of {small:?}");
    let mut lab = bench.lab();
    let tlvs: Vec<u8> = [0, 77, 0, 0].into_iter().cycle().take(64_000).collect();
    let envelope = [vec![QUERY, 0, 0, 0], tlvs].concat();
    let datagram = Client::on(L1, 1).discover().replaced_by(&envelope);
    lab.expect_discard("no-dhcpv4-msg", &datagram);
}

/// A DISCOVER with options of one octet each up to this length.
fn full_of_options(octets: usize) -> Datagram {
    let mut query = Client::on(L1, 1).discover();
    let options = [77, 1, 9].into_iter().cycle().take((octets - 300) / 3 * 3);
    query.message.tail = options.chain([255]).collect();
    query.datagram()
}

/// Each bit of each vector turned once, then octets changed, cut and put in at random: whatever comes of it, the
/// state is sound, which the engine's backend checks after each datagram, and the server still serves.
fn random_octets(bench: Bench) {
    const ROUNDS: u32 = 100_000;
    let mut lab = bench.lab();
    let sound: Vec<Vec<u8>> = vectors::ALL.iter().map(|(_, hex)| vectors::octets(hex)).collect();
    let carrier = Client::on(L1, 1).discover();
    let deliver = |lab: &mut Lab, octets: &[u8]| {
        for sent in lab.deliver(carrier.replaced_by(octets)).sent {
            Reply::read(sent.source, (sent.destination, sent.destination_port), &sent.payload);
        }
    };
    for vector in &sound {
        for bit in 0..vector.len() * 8 {
            let mut octets = vector.clone();
            octets[bit / 8] ^= 1 << (bit % 8);
            deliver(&mut lab, &octets);
        }
        lab.wait(100);
    }
    let mut random = fastrand::Rng::with_seed(7618);
    for round in 0..ROUNDS {
        if round % 500 == 0 {
            lab.wait(100);
        }
        let mut octets = sound[random.usize(..sound.len())].clone();
        for _ in 0..random.usize(1..6) {
            let at = random.usize(..octets.len());
            match random.u8(0..4) {
                0 => octets.truncate(at.max(1)),
                1 => octets.insert(at, random.u8(..)),
                _ => octets[at] = random.u8(..),
            }
        }
        deliver(&mut lab, &octets);
    }
    lab.wait(4000);
    assert_of_p1(&lab.obtain(&Client::on(L1, 999)));
}

fn relays_that_do_not_know_their_client(bench: Bench) {
    let mut lab = bench.lab();
    for (number, peer) in [(1, "::"), (2, "ff02::1")] {
        let relay = Level::new(0, "2001:db8:1::1", peer);
        let query = Client::on(L1, number).behind(vec![relay]).discover();
        let (offer, remarks) = lab.send_and_count(&query).expect("an answer to the relay");
        assert_of_p1(&offer);
        assert_eq!(remarks, [(Remark::StrangePeer.name().to_owned(), 1)]);
        assert_eq!(offer.relays[0].peer, peer.parse::<std::net::Ipv6Addr>().unwrap());
    }
    if bench == Bench::Daemon {
        lab.wait(2);
        assert!(lab.log().contains(Remark::StrangePeer.name()), "a remark in: {}", lab.log());
    }
}

fn senders_that_cannot_be_answered(bench: Bench) {
    let mut lab = bench.lab();
    let query = Client::on(L1, 1).discover();
    lab.expect_discard("bad-source", &query.clone().port(0));
    lab.expect_discard("bad-source", &query.from("::".parse().unwrap()).to("ff02::1:2"));
}

fn a_replayed_request(bench: Bench) {
    let mut lab = bench.lab();
    let (one, two) = (Client::on(L1, 1), Client::on(L1, 2));
    let offer = lab.offer(&one.discover());
    let request = one.select(&offer);
    lab.ack(&request);
    // Within the hold-down it is the same client's, and only its.
    lab.silent(&one.release(offer.tuple()));
    lab.nak_without_change(&two.select_tuple(offer.tuple()));
    lab.ack(&request);
    lab.assert_holds(&one, offer.tuple());
    // Afterwards it is whoever's comes first.
    lab.silent(&one.release(offer.tuple()));
    lab.wait(130);
    lab.obtain_tuple(&two, offer.tuple());
    lab.nak_without_change(&request);
    lab.assert_holds(&two, offer.tuple());
    assert_eq!(lab.active().len(), 1);
}

/// No limit is below 576 octets, and ours is what one packet carries on every path.
fn limits_of_any_size(bench: Bench) {
    let mut lab = bench.lab_with(configure_many);
    let list: Vec<u8> = MANY.chain([159]).collect();
    let mut length = |limit: u16| {
        let query = Client::on(L1, 1).discover().parameters(&list);
        let offer = lab.offer(&query.set(57, &limit.to_be_bytes()));
        assert_of_p1(&offer);
        (offer.message_length, offer.payload.len())
    };
    let least = length(576);
    assert!((400..=576 - 28).contains(&least.0), "{least:?}");
    assert_eq!(length(0), least);
    assert_eq!(length(575), least);
    let (message, payload) = length(65_535);
    assert!(message > least.0 + 500 && payload <= 1280 - 48, "{message} {payload}");
}
