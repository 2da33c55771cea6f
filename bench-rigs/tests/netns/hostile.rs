//! Octets that are no query: each is dropped and counted under one name, and the daemon goes on.

use bench_rigs::message::{Identity, Message, relay_at};
use portlease::wire::dhcpv6::RelayForward;

use crate::scene::{DATAPATHS, Scene, reasons};

/// Where the options of the DHCPv4 message begin in a direct query: two headers and the fixed fields.
const OPTIONS: usize = 4 + 4 + 240;

/// A sound DISCOVER, to be spoilt.
fn sound() -> Vec<u8> {
    let identity = Identity::new(0, 9);
    Message::discover(&identity, 0x1234).to_payload(&[])
}

/// The sound DISCOVER after a change of its octets.
fn spoilt(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut payload = sound();
    change(&mut payload);
    payload
}

/// A query around a DHCPv4 message.
fn query(message: &[u8]) -> Vec<u8> {
    let mut payload = vec![20, 0, 0, 0];
    put(&mut payload, 87, message);
    payload
}

fn put(payload: &mut Vec<u8>, code: u16, content: &[u8]) {
    payload.extend(code.to_be_bytes());
    payload.extend(u16::try_from(content.len()).unwrap().to_be_bytes());
    payload.extend(content);
}

/// The sound DHCPv4 message with these options in place of its own.
fn with_options(options: &[u8]) -> Vec<u8> {
    let mut message = sound()[8..OPTIONS].to_vec();
    message.extend(options);
    query(&message)
}

/// A Relay-forward with these options.
fn relay(options: &[(u16, &[u8])]) -> Vec<u8> {
    let mut payload = vec![12, 0];
    payload.extend([0; 32]);
    for (code, content) in options {
        put(&mut payload, *code, content);
    }
    payload
}

/// A sound DISCOVER behind this many relays.
fn nested(levels: usize) -> Vec<u8> {
    let identity = Identity::new(0, 9);
    let level = relay_at("2001:db8:1::1".parse().unwrap(), "fe80::1".parse().unwrap());
    let chain: Vec<RelayForward<'_>> = vec![level; levels];
    Message::discover(&identity, 1).to_payload(&chain)
}

/// What is sent, and the one counter that it must move.
fn cases() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    const CLIENT_ID: &[u8] = &[61, 3, 1, 2, 3];
    const DISCOVER: &[u8] = &[53, 1, 1];
    let options = |parts: &[&[u8]]| with_options(&parts.concat());
    let relayed_solicit = relay(&[(9, &[1, 1, 2, 3])]);
    let mut reply = nested(1);
    reply[0] = 13;
    let mut twice = sound();
    let again = twice[4..].to_vec();
    twice.extend(again);
    let overrun = options(&[DISCOVER, &[61, 200, 1]]);
    vec![
        ("no octets", "short-header", Vec::new()),
        ("three octets", "short-header", vec![20, 0, 0]),
        ("a header alone", "no-dhcpv4-msg", vec![20, 0, 0, 0]),
        ("an empty option 87", "no-dhcpv4-msg", query(&[])),
        ("239 octets of DHCPv4", "v4-short", query(&sound()[8..8 + 239])),
        ("option 87 beyond the packet", "truncated-tlv", sound()[..200].to_vec()),
        ("two options 87", "dup-dhcpv4-msg", twice),
        ("one trailing octet", "truncated-tlv", spoilt(|payload| payload.push(0))),
        ("three trailing octets", "truncated-tlv", spoilt(|payload| payload.extend([0; 3]))),
        ("a wrong cookie", "bad-cookie", spoilt(|payload| payload[OPTIONS - 1] ^= 1)),
        ("no message type", "no-msg-type", with_options(&[CLIENT_ID, &[255]].concat())),
        ("nothing but padding", "no-msg-type", with_options(&[0; 312])),
        ("an empty message type", "bad-msg-type", with_options(&[53, 0, 255])),
        ("a long message type", "bad-msg-type", with_options(&[53, 2, 1, 1, 255])),
        ("message type 0", "bad-msg-type", with_options(&[53, 1, 0, 255])),
        ("message type 200", "bad-msg-type", with_options(&[53, 1, 200, 255])),
        ("two message types", "bad-msg-type", options(&[DISCOVER, DISCOVER, &[255]])),
        ("a server's message", "server-msg", options(&[&[53, 1, 2], CLIENT_ID, &[255]])),
        ("a reply", "bad-op", spoilt(|payload| payload[8] = 2)),
        ("hlen 17", "bad-hlen", spoilt(|payload| payload[10] = 17)),
        ("hlen 255", "bad-hlen", spoilt(|payload| payload[10] = 255)),
        ("an option that overruns", "option-overrun", overrun),
        ("a truncated 159", "option-overrun", options(&[DISCOVER, CLIENT_ID, &[159, 4, 0, 6]])),
        ("an empty identifier", "bad-option-length", options(&[DISCOVER, &[61, 0, 255]])),
        (
            "a server identifier of three octets",
            "bad-option-length",
            options(&[DISCOVER, CLIENT_ID, &[54, 3, 1, 2, 3, 255]]),
        ),
        ("34 relays", "nesting", nested(34)),
        ("a relay without a message", "no-relay-msg", relay(&[(18, b"x")])),
        ("a relayed relay-reply", "relay-reply", relay(&[(9, &reply)])),
        ("a relay-reply", "relay-reply", reply),
        ("a relayed SOLICIT", "unknown-type", relayed_solicit),
        ("two relay messages", "dup-relay-msg", relay(&[(9, &sound()), (9, &sound())])),
        ("a SOLICIT", "unknown-type", vec![1, 1, 2, 3]),
        ("a DHCPv4-response", "unknown-type", spoilt(|payload| payload[0] = 21)),
        ("a REPLY", "unknown-type", spoilt(|payload| payload[0] = 7)),
    ]
}

fn every_case_moves_one_counter(datapath: &str) {
    let scene = Scene::new(datapath).unwrap();
    let talker = scene.direct().unwrap();
    let sum = |counters: &bench_rigs::daemon::Counters| -> u64 {
        reasons().iter().map(|name| counters.get(name)).sum()
    };
    let mut before = scene.daemon.counters().unwrap();
    for (what, expected, payload) in cases() {
        talker.send(&payload).unwrap();
        let seen = sum(&before);
        let counters = scene.daemon.counters_when(|counters| sum(counters) > seen).unwrap();
        let moved: Vec<_> = counters
            .since(&before)
            .into_iter()
            .filter(|(name, _)| reasons().contains(&name.as_str()))
            .collect();
        assert_eq!(moved, [(expected.to_owned(), 1)], "{datapath}: {what}");
        before = counters;
    }
    talker.obtain(&Identity::new(0, 1)).unwrap();
}

#[test]
fn malformed_datagrams_move_one_counter_each_over_native_xdp() {
    every_case_moves_one_counter("xdp-native");
}

#[test]
fn malformed_datagrams_move_one_counter_each_over_generic_xdp() {
    every_case_moves_one_counter("xdp-generic");
}

#[test]
fn malformed_datagrams_move_one_counter_each_over_the_socket() {
    every_case_moves_one_counter("socket");
}

/// Random octets, spoilt queries and giants: no answer is expected of them, only that the daemon survives.
#[test]
fn random_octets_do_not_stop_the_daemon() {
    let mut random = fastrand::Rng::with_seed(7618);
    for datapath in DATAPATHS {
        let mut scene = Scene::new(datapath).unwrap();
        let talker = scene.direct().unwrap();
        for _ in 0..2000 {
            let mut payload = if random.bool() { nested(random.usize(0..4)) } else { sound() };
            for _ in 0..random.usize(1..8) {
                let at = random.usize(..payload.len());
                payload[at] = random.u8(..);
            }
            payload.truncate(random.usize(..=payload.len()));
            talker.send(&payload).unwrap();
        }
        let giant = [vec![20, 0, 0, 0], vec![0; 60_000]].concat();
        talker.send(&giant).unwrap();
        let ones = vec![12_u8; 1200];
        talker.send(&ones).unwrap();
        assert!(scene.daemon.process().is_running(), "{datapath}");
        talker.obtain(&Identity::new(0, 1)).unwrap();
    }
}
