//! `classify` on the host: what is taken, what is passed, and a slow and obvious second opinion on both.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops")]

use proptest::prelude::*;
use xdp_ebpf::{
    Counter,
    classify::{OPTIONS_MAX, Site, Verdict, classify},
};

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const GROUP_MAC: [u8; 6] = [0x33, 0x33, 0, 1, 0, 2];
const SERVER: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0x47];
const GROUP: [u8; 16] = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 2];
const SITE_GROUP: [u8; 16] = [0xff, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 3];

struct Ours;

impl Site for Ours {
    fn mac(&self) -> [u8; 6] {
        MAC
    }
    fn listens(&self, address: &[u8; 16]) -> bool {
        *address == SERVER
    }
}

fn verdict(frame: &[u8]) -> Verdict {
    classify(frame, &Ours)
}

fn option(code: u16, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap();
    [&code.to_be_bytes()[..], &length.to_be_bytes(), body].concat()
}

fn query() -> Vec<u8> {
    [vec![20, 0, 0, 0], option(87, &[1; 244])].concat()
}

/// A Relay-forward around `inner`, behind `before` other options.
fn relayed(inner: &[u8], before: usize) -> Vec<u8> {
    let mut message = vec![12, 0];
    message.extend([0x20; 32]);
    for _ in 0..before {
        message.extend(option(18, b"interface"));
    }
    message.extend(option(9, inner));
    message
}

fn chain(innermost: Vec<u8>, levels: usize, before: usize) -> Vec<u8> {
    (0..levels).fold(innermost, |message, _| relayed(&message, before))
}

struct Frame {
    mac: [u8; 6],
    tags: Vec<u16>,
    destination: [u8; 16],
    next_header: u8,
    port: u16,
    message: Vec<u8>,
}

impl Default for Frame {
    fn default() -> Self {
        Frame {
            mac: MAC,
            tags: vec![],
            destination: SERVER,
            next_header: 17,
            port: 547,
            message: query(),
        }
    }
}

impl Frame {
    fn octets(&self) -> Vec<u8> {
        let mut frame = [&self.mac[..], &[2, 0, 0, 0, 0, 9]].concat();
        for tag in &self.tags {
            frame.extend(tag.to_be_bytes());
            frame.extend([0, 7]);
        }
        let length = u16::try_from(self.message.len() + 8).unwrap().to_be_bytes();
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
        frame.extend(length);
        frame.extend([self.next_header, 64]);
        frame.extend([0x20; 16]);
        frame.extend(self.destination);
        frame.extend(547_u16.to_be_bytes());
        frame.extend(self.port.to_be_bytes());
        frame.extend(length);
        frame.extend([0, 0]);
        frame.extend(&self.message);
        frame
    }

    fn verdict(&self) -> Verdict {
        verdict(&self.octets())
    }
}

#[test]
fn queries_to_our_addresses_are_taken() {
    assert_eq!(Frame::default().verdict(), Verdict::Take);
    for destination in [GROUP, SITE_GROUP] {
        for mac in [MAC, GROUP_MAC] {
            let frame = Frame { mac, destination, ..Frame::default() };
            assert_eq!(frame.verdict(), Verdict::Take);
        }
    }
}

#[test]
fn what_is_not_for_us_passes_and_says_why() {
    let other = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    let mut all_nodes = GROUP;
    all_nodes[13] = 0;
    let cases = [
        (Frame { mac: [2, 0, 0, 0, 0, 2], ..Frame::default() }, Counter::ForeignMac),
        (Frame { mac: [0xff; 6], ..Frame::default() }, Counter::ForeignMac),
        (Frame { destination: other, ..Frame::default() }, Counter::NotOurAddress),
        (Frame { destination: all_nodes, ..Frame::default() }, Counter::NotOurAddress),
        (Frame { mac: GROUP_MAC, ..Frame::default() }, Counter::NotOurAddress),
        (Frame { port: 546, ..Frame::default() }, Counter::NotOurPort),
        (Frame { next_header: 6, ..Frame::default() }, Counter::NotUdp),
        (Frame { next_header: 44, ..Frame::default() }, Counter::NotUdp),
        (Frame { next_header: 0, ..Frame::default() }, Counter::NotUdp),
        (Frame { tags: vec![0x0800], ..Frame::default() }, Counter::NotIpv6),
    ];
    for (frame, counter) in cases {
        assert_eq!(frame.verdict(), Verdict::Pass(counter));
    }
    let mut ipv4 = Frame::default().octets();
    ipv4[14] = 0x45;
    assert_eq!(verdict(&ipv4), Verdict::Pass(Counter::NotIpv6));
}

#[test]
fn up_to_two_vlan_tags_are_seen_through() {
    for tags in [vec![0x8100], vec![0x88a8], vec![0x88a8, 0x8100], vec![0x8100, 0x8100]] {
        assert_eq!(Frame { tags, ..Frame::default() }.verdict(), Verdict::Take);
    }
    for tags in [vec![0x9100], vec![0x8100; 3]] {
        let frame = Frame { tags, ..Frame::default() };
        assert_eq!(frame.verdict(), Verdict::Pass(Counter::NotIpv6));
    }
}

#[test]
fn only_dhcpv4_queries_are_taken_relayed_or_not() {
    for kind in (0..=u8::MAX).filter(|kind| ![12, 20].contains(kind)) {
        let plain = vec![kind, 1, 2, 3, 0, 1, 0, 4, 1, 2, 3, 4];
        for message in [plain.clone(), relayed(&plain, 1), chain(plain, 3, 2)] {
            let frame = Frame { message, ..Frame::default() };
            assert_eq!(frame.verdict(), Verdict::Pass(Counter::NotQuery), "type {kind}");
        }
    }
}

#[test]
fn chains_of_relays_are_followed_as_far_as_promised() {
    for (levels, before) in [(1, 0), (1, 8), (4, 8), (8, 8), (8, 11), (33, 0), (96, 0), (1, 95)] {
        let frame = Frame { message: chain(query(), levels, before), ..Frame::default() };
        assert_eq!(frame.verdict(), Verdict::Take, "{levels} levels of {before} options");
    }
    for (levels, before) in [(1, OPTIONS_MAX), (8, 12), (OPTIONS_MAX + 1, 0)] {
        let frame = Frame { message: chain(query(), levels, before), ..Frame::default() };
        assert_eq!(frame.verdict(), Verdict::Pass(Counter::TooDeep));
    }
}

#[test]
fn nothing_beyond_the_end_of_a_packet_or_an_option_is_believed() {
    let whole = Frame { message: chain(query(), 3, 2), tags: vec![0x8100], ..Frame::default() };
    let whole = whole.octets();
    // Up to the type of the innermost message every octet matters; behind it nothing is looked at.
    let needed = whole.len() - query().len() + 4;
    for length in 0..needed {
        assert_eq!(verdict(&whole[..length]), Verdict::Pass(Counter::Truncated), "{length}");
    }
    for length in needed..=whole.len() {
        assert_eq!(verdict(&whole[..length]), Verdict::Take, "{length}");
    }

    // An option that claims more than the relay message around it holds.
    let inner = relayed(&query(), 0);
    let mut outer = relayed(&inner, 0);
    let at = 34 + 4 + 34 + 2;
    outer[at..at + 2].copy_from_slice(&u16::try_from(query().len() + 1).unwrap().to_be_bytes());
    outer.extend([0; 64]);
    let frame = Frame { message: outer, ..Frame::default() };
    assert_eq!(frame.verdict(), Verdict::Pass(Counter::Truncated));

    // An IPv6 payload too short for the message: the rest is padding, whatever is in it.
    let mut frame = Frame::default().octets();
    for length in 0..12_u16 {
        frame[18..20].copy_from_slice(&length.to_be_bytes());
        assert_eq!(verdict(&frame), Verdict::Pass(Counter::Truncated), "{length}");
    }
}

/// Cuts `count` octets off the front.
fn cut<'a>(rest: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (front, back) = rest.split_at_checked(count)?;
    *rest = back;
    Some(front)
}

/// The decision in plain words, with slices and recursion: `None` if something ends too early or goes too far.
fn second_opinion(mut frame: &[u8]) -> Option<bool> {
    let mac = cut(&mut frame, 6)?;
    let is_group = mac[..2] == [0x33, 0x33];
    if !is_group && mac != MAC {
        return Some(false);
    }
    cut(&mut frame, 6)?;
    let mut tags = 0;
    loop {
        match cut(&mut frame, 2)? {
            [0x86, 0xdd] => break,
            [0x81, 0x00] | [0x88, 0xa8] if tags < 2 => tags += 1,
            _ => return Some(false),
        }
        cut(&mut frame, 2)?;
    }
    let ipv6 = cut(&mut frame, 40)?;
    let destination: [u8; 16] = ipv6[24..40].try_into().ok()?;
    let is_ours =
        [GROUP, SITE_GROUP].contains(&destination) || (destination == SERVER && !is_group);
    let udp = cut(&mut frame, 8)?;
    if ipv6[0] >> 4 != 6 || ipv6[6] != 17 || !is_ours || udp[2..4] != [2, 35] {
        return Some(false);
    }
    let length = usize::from(u16::from_be_bytes([ipv6[4], ipv6[5]])).checked_sub(8)?;
    is_query(frame, length, &mut 0)
}

/// `message` may be cut short by the end of the frame; its length is then still `length`.
fn is_query(mut message: &[u8], length: usize, options: &mut usize) -> Option<bool> {
    message = &message[..length.min(message.len())];
    match cut(&mut message, 4)?[0] {
        20 => return Some(true),
        12 => {}
        _ => return Some(false),
    }
    let mut left = length.checked_sub(34)?;
    cut(&mut message, 30)?;
    loop {
        *options += 1;
        if *options > OPTIONS_MAX {
            return None;
        }
        let header = cut(&mut message, 4)?;
        let body = usize::from(u16::from_be_bytes([header[2], header[3]]));
        left = left.checked_sub(4 + body)?;
        if header[..2] == [0, 9] {
            return is_query(message, body, options);
        }
        cut(&mut message, body)?;
    }
}

fn any_message() -> impl Strategy<Value = Vec<u8>> {
    let innermost = prop_oneof![
        4 => Just(query()),
        2 => prop::collection::vec(any::<u8>(), 0..64),
        1 => Just(vec![1, 0, 0, 1, 0, 1, 0, 2, 9, 9]),
    ];
    (innermost, 0..7_usize, 0..10_usize).prop_map(|(m, levels, before)| chain(m, levels, before))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn the_second_opinion_agrees(
        message in any_message(),
        mac in prop_oneof![8 => Just(MAC), 2 => Just(GROUP_MAC), 1 => any::<[u8; 6]>()],
        destination in prop_oneof![Just(SERVER), Just(GROUP), Just(SITE_GROUP), any::<[u8; 16]>()],
        tags in prop::collection::vec(prop_oneof![Just(0x8100), Just(0x88a8)], 0..4),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut_at in prop::option::weighted(0.2, any::<prop::sample::Index>()),
    ) {
        let mut frame = Frame { mac, tags, destination, message, ..Frame::default() }.octets();
        for (at, value) in edits {
            let at = at.index(frame.len());
            frame[at] = value;
        }
        if let Some(at) = cut_at {
            frame.truncate(at.index(frame.len()));
        }
        let expected = second_opinion(&frame).unwrap_or(false);
        prop_assert_eq!(verdict(&frame) == Verdict::Take, expected);
    }

    #[test]
    fn noise_is_never_steered_and_never_harmful(noise in prop::collection::vec(any::<u8>(), 0..600)) {
        prop_assert_eq!(verdict(&noise) == Verdict::Take, second_opinion(&noise) == Some(true));
    }
}
