//! The envelope: relays, hostile peers, and what is repeated in a reply.

use super::*;
use crate::wire::{vectors, writer::Writer};

const MESSAGE: &[u8] = b"a DHCPv4 message";

/// One option.
fn option(code: u16, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap();
    [&code.to_be_bytes(), &length.to_be_bytes(), content].concat()
}

/// A DHCPv4-query with these flags and options.
fn query(flags: [u8; 3], options: &[u8]) -> Vec<u8> {
    [&[DHCPV4_QUERY], &flags[..], options].concat()
}

/// A plain DHCPv4-query.
fn plain() -> Vec<u8> {
    query([0; 3], &option(OPTION_DHCPV4_MESSAGE, MESSAGE))
}

/// A Relay-forward with this link-address and these options, the Relay Message among them.
fn relay(hop_count: u8, link_address: &str, options: &[u8]) -> Vec<u8> {
    let link: Ipv6Addr = link_address.parse().unwrap();
    let peer: Ipv6Addr = "fe80::1".parse().unwrap();
    [&[RELAY_FORWARD, hop_count], &link.octets()[..], &peer.octets(), options].concat()
}

fn through(hop_count: u8, link_address: &str, message: &[u8]) -> Vec<u8> {
    relay(hop_count, link_address, &option(OPTION_RELAY_MESSAGE, message))
}

/// The response to `payload` that holds [`MESSAGE`].
fn respond(payload: &[u8]) -> Vec<u8> {
    let query = Query::parse(payload).unwrap();
    let mut buffer = vec![0xee; 1 << 16];
    let mut w = Writer::new(&mut buffer);
    let envelope = begin_response(&mut w, query.relays);
    w.bytes(MESSAGE);
    envelope.finish(&mut w);
    let length = w.finish().unwrap();
    buffer.truncate(length);
    buffer
}

fn fault(payload: &[u8]) -> Malformed {
    Query::parse(payload).expect_err("malformed")
}

#[test]
fn flag_u_is_the_only_flag() {
    // case-P13.
    for (flags, unicast) in
        [([0x80, 0, 0], true), ([0x7f, 0xff, 0xff], false), ([0; 3], false), ([0xff; 3], true)]
    {
        let octets = query(flags, &option(OPTION_DHCPV4_MESSAGE, MESSAGE));
        assert_eq!(Query::parse(&octets).unwrap().unicast, unicast, "{flags:?}");
    }
}

#[test]
fn a_response_has_no_flags() {
    // case-P14.
    let octets = query([0xff; 3], &option(OPTION_DHCPV4_MESSAGE, MESSAGE));
    assert_eq!(respond(&octets)[..4], [DHCPV4_RESPONSE, 0, 0, 0]);
}

#[test]
fn a_response_is_read_whatever_its_flags() {
    let mut octets = respond(&plain());
    octets[1..4].fill(0xff);
    let response = Response::parse(&octets).unwrap();
    assert_eq!(response.message, MESSAGE);
    assert!(response.relays.is_empty());
}

#[test]
fn a_response_without_the_message_is_refused() {
    assert_eq!(
        Response::parse(&[DHCPV4_RESPONSE, 0, 0, 0]).unwrap_err(),
        Malformed::NoDhcpv4Message
    );
    assert_eq!(Response::parse(&plain()).unwrap_err(), Malformed::UnknownType);
}

#[test]
fn short_and_empty_messages_are_refused() {
    for length in 0..4 {
        // case-B01.
        assert_eq!(fault(&plain()[..length]), Malformed::ShortHeader);
    }
    // case-B02, case-B03.
    assert_eq!(fault(&query([0; 3], &[])), Malformed::NoDhcpv4Message);
    let empty = option(OPTION_DHCPV4_MESSAGE, &[]);
    assert_eq!(fault(&query([0; 3], &empty)), Malformed::NoDhcpv4Message);
    // A Relay-forward of fewer octets than its header.
    assert_eq!(fault(&through(0, "::", &plain())[..33]), Malformed::ShortHeader);
}

#[test]
fn options_that_run_past_the_message_are_refused() {
    // case-B05, case-B07: wherever the message is cut, and whatever a length says.
    let octets = plain();
    for length in 5..octets.len() {
        assert_eq!(fault(&octets[..length]), Malformed::TruncatedTlv, "{length} octets");
    }
    let mut long = octets.clone();
    long[7] += 1;
    assert_eq!(fault(&long), Malformed::TruncatedTlv);
    for extra in 1..4 {
        let trailing = [&octets[..], &[0; 3][..extra]].concat();
        assert_eq!(fault(&trailing), Malformed::TruncatedTlv, "{extra} octets more");
        let inside = through(0, "::", &trailing);
        assert_eq!(fault(&inside), Malformed::TruncatedTlv, "{extra} octets more inside");
        let outside = [&through(0, "::", &octets)[..], &[0; 3][..extra]].concat();
        assert_eq!(fault(&outside), Malformed::TruncatedTlv, "{extra} octets more outside");
    }
}

#[test]
fn singletons_are_there_once() {
    // case-B06, case-R15.
    let message = option(OPTION_DHCPV4_MESSAGE, MESSAGE);
    let twice = query([0; 3], &[message.clone(), message].concat());
    assert_eq!(fault(&twice), Malformed::DuplicateDhcpv4Message);
    let inner = option(OPTION_RELAY_MESSAGE, &plain());
    let twice = relay(0, "::", &[inner.clone(), inner].concat());
    assert_eq!(fault(&twice), Malformed::DuplicateRelayMessage);
}

#[test]
fn messages_for_others_are_refused() {
    for kind in (0..=u8::MAX).filter(|kind| ![RELAY_FORWARD, DHCPV4_QUERY].contains(kind)) {
        let mut octets = plain();
        octets[0] = kind;
        let expected =
            if kind == RELAY_REPLY { Malformed::RelayReply } else { Malformed::UnknownType };
        // case-B35, and inside a Relay-forward case-R11, case-R12.
        assert_eq!(fault(&octets), expected, "type {kind}");
        assert_eq!(fault(&through(0, "::", &octets)), expected, "type {kind} relayed");
    }
    // case-R10.
    assert_eq!(fault(&relay(0, "::", &[])), Malformed::NoRelayMessage);
    let empty = option(OPTION_RELAY_MESSAGE, &[]);
    assert_eq!(fault(&relay(0, "::", &empty)), Malformed::NoRelayMessage);
}

#[test]
fn unknown_options_are_skipped() {
    // case-R13, case-R14.
    let noise = [option(65000, b"?"), option(OPTION_CLIENT_LINK_LAYER, &[0, 1, 2])].concat();
    let options = [noise.clone(), option(OPTION_DHCPV4_MESSAGE, MESSAGE), noise.clone()].concat();
    let octets = query([0; 3], &options);
    assert_eq!(Query::parse(&octets).unwrap().message, MESSAGE);
    let relayed = relay(0, "2001:db8::1", &[noise, option(OPTION_RELAY_MESSAGE, &octets)].concat());
    let reply = respond(&relayed);
    let level = Response::parse(&reply).unwrap().relays.innermost().unwrap();
    assert_eq!(level.options().map(|(code, _)| code).collect::<Vec<_>>(), [OPTION_RELAY_MESSAGE]);
}

/// A query through `levels` relays.
fn nested(levels: usize) -> Vec<u8> {
    (0..levels).fold(plain(), |message, level| {
        through(u8::try_from(level % 256).unwrap(), "2001:db8:1::1", &message)
    })
}

#[test]
fn nine_levels_and_thirty_three_are_answered_and_one_more_is_not() {
    // case-R08, case-R09.
    for levels in [0, 1, 9, RELAY_LEVELS_MAX] {
        let octets = nested(levels);
        let query = Query::parse(&octets).unwrap();
        assert_eq!(query.relays.levels(), levels);
        let hops: Vec<u8> = query.relays.iter().map(Relay::hop_count).collect();
        let expected: Vec<u8> = (0..levels).rev().map(|hop| u8::try_from(hop).unwrap()).collect();
        assert_eq!(hops, expected);
        let reply = respond(&octets);
        let response = Response::parse(&reply).unwrap();
        assert_eq!(response.message, MESSAGE);
        assert_eq!(response.relays.iter().map(Relay::hop_count).collect::<Vec<_>>(), expected);
    }
    assert_eq!(fault(&nested(RELAY_LEVELS_MAX + 1)), Malformed::Nesting);
    assert_eq!(fault(&nested(600)), Malformed::Nesting);
}

#[test]
fn the_innermost_usable_link_address_counts() {
    let link = |addresses: &[&str]| {
        let octets =
            addresses.iter().fold(plain(), |message, address| through(0, address, &message));
        let path = Query::parse(&octets).unwrap().relays.path();
        path.link_address.map(|address| address.to_string())
    };
    // Innermost first. case-R02, case-R03, case-R04.
    assert_eq!(link(&["2001:db8:1::1", "::"]).as_deref(), Some("2001:db8:1::1"));
    assert_eq!(link(&["::", "2001:db8:1::1"]).as_deref(), Some("2001:db8:1::1"));
    assert_eq!(link(&["2001:db8:1::1", "2001:db8:2::1"]).as_deref(), Some("2001:db8:1::1"));
    assert_eq!(link(&["fe80::1", "ff02::1", "fd00::1"]).as_deref(), Some("fd00::1"));
    assert_eq!(link(&["fe80::1"]), None);
    assert_eq!(link(&[]), None);
}

#[test]
fn a_peer_that_nobody_can_be_is_noticed_at_any_level() {
    let strange = |peers: &[&str]| {
        let octets = peers.iter().fold(plain(), |message, peer| {
            let mut relay = through(0, "2001:db8:1::1", &message);
            relay[18..34].copy_from_slice(&peer.parse::<Ipv6Addr>().unwrap().octets());
            relay
        });
        Query::parse(&octets).unwrap().relays.path().has_strange_peer
    };
    assert!(!strange(&[]) && !strange(&["fe80::1"]) && !strange(&["fe80::1", "2001:db8::1"]));
    for nobody in ["::", "ff02::1", "ff05::1:3"] {
        // case-B33.
        assert!(strange(&[nobody]), "{nobody}");
        assert!(strange(&[nobody, "fe80::1"]) && strange(&["fe80::1", nobody]), "{nobody}");
    }
}

#[test]
fn the_relay_closest_to_the_client_says_its_link_layer_address() {
    let told = |content: &[u8]| option(OPTION_CLIENT_LINK_LAYER, content);
    let level = |noted: &[u8], message: &[u8]| {
        relay(0, "::", &[noted, &option(OPTION_RELAY_MESSAGE, message)].concat())
    };
    let seen = |octets: &[u8]| {
        Query::parse(octets).unwrap().relays.client_link_layer().map(<[u8]>::to_vec)
    };
    let inner = level(&told(&[0, 1, 2, 0, 0, 0, 0, 1]), &plain());
    let outer = level(&told(&[0, 1, 2, 0, 0, 0, 0, 2]), &inner);
    assert_eq!(seen(&outer), Some(vec![0, 1, 2, 0, 0, 0, 0, 1]));
    assert_eq!(seen(&level(&told(&[0, 1, 9]), &level(&[], &plain()))), None, "not another's");
    // case-R13: in the query itself it is nothing.
    let inside = query([0; 3], &[told(&[0, 1, 9]), plain()[4..].to_vec()].concat());
    assert_eq!((seen(&inside), seen(&level(&[], &inside))), (None, None));
}

#[test]
fn a_relay_says_who_and_where() {
    let octets = vectors::octets(vectors::RELAY_FORWARD);
    let query = Query::parse(&octets).unwrap();
    let outer = query.relays.outermost().unwrap();
    assert_eq!(outer.hop_count(), 1);
    assert_eq!(outer.link_address(), Ipv6Addr::UNSPECIFIED);
    assert_eq!(outer.peer_address(), "2001:db8:ffff::a".parse::<Ipv6Addr>().unwrap());
    assert_eq!((outer.interface_id(), outer.remote_id()), (None, None));
    let inner = query.relays.innermost().unwrap();
    assert_eq!(inner.hop_count(), 0);
    assert_eq!(inner.link_address(), "2001:db8:1::1".parse::<Ipv6Addr>().unwrap());
    assert_eq!(inner.peer_address(), "fe80::ff:fe00:1".parse::<Ipv6Addr>().unwrap());
    assert_eq!(inner.interface_id(), Some(&b"ge-0/0/1.100"[..]));
    assert_eq!(inner.remote_id(), Some(&b"\0\0\x07\xdbcust-0001"[..]));
    assert_eq!(inner.option(OPTION_CLIENT_LINK_LAYER), Some(&[0, 1, 2, 0, 0, 0, 0, 1][..]));
    assert_eq!(inner.option(OPTION_RELAY_PORT), None);
}

/// The options of the only level of the reply to one relay with these options, but for the Relay
/// Message.
fn echoed(options: &[u8]) -> Vec<(u16, Vec<u8>)> {
    let forward =
        relay(0, "2001:db8:1::1", &[options, &option(OPTION_RELAY_MESSAGE, &plain())].concat());
    let reply = respond(&forward);
    let level = Response::parse(&reply).unwrap().relays.innermost().unwrap();
    let options: Vec<_> = level.options().map(|(code, content)| (code, content.to_vec())).collect();
    let (last, others) = options.split_last().unwrap();
    assert_eq!(last.0, OPTION_RELAY_MESSAGE, "the message comes last");
    others.to_vec()
}

#[test]
fn an_interface_id_is_repeated_as_it_is() {
    // case-R16: and an empty one is one.
    for content in [&b""[..], b"ge-0/0/1", &[0xff; 300]] {
        let options = option(OPTION_INTERFACE_ID, content);
        assert_eq!(echoed(&options), [(OPTION_INTERFACE_ID, content.to_vec())]);
    }
    let two = [option(OPTION_INTERFACE_ID, b"1"), option(OPTION_INTERFACE_ID, b"2")].concat();
    assert_eq!(echoed(&two), [(OPTION_INTERFACE_ID, b"1".to_vec())], "a singleton");
}

#[test]
fn an_echo_request_brings_back_what_was_there() {
    // case-R05: 37 is copied, 18 not doubled, 999 was not there.
    let codes = [37u16, 18, 999].map(u16::to_be_bytes).concat();
    let options = [
        option(OPTION_ECHO_REQUEST, &codes),
        option(OPTION_REMOTE_ID, b"remote"),
        option(OPTION_SUBSCRIBER_ID, b"subscriber"),
        option(OPTION_INTERFACE_ID, b"interface"),
    ]
    .concat();
    assert_eq!(
        echoed(&options),
        [(OPTION_REMOTE_ID, b"remote".to_vec()), (OPTION_INTERFACE_ID, b"interface".to_vec())]
    );
}

#[test]
fn an_echo_request_cannot_double_the_message_or_ask_for_ever() {
    let codes = [OPTION_RELAY_MESSAGE, OPTION_RELAY_PORT].map(u16::to_be_bytes).concat();
    let options =
        [option(OPTION_ECHO_REQUEST, &codes), option(OPTION_RELAY_PORT, &[2, 35])].concat();
    assert_eq!(echoed(&options), [(OPTION_RELAY_PORT, vec![2, 35])]);
    let many: Vec<u8> = (1000u16..2000).flat_map(u16::to_be_bytes).collect();
    let contents: Vec<u8> = (1000..2000).flat_map(|code| option(code, b"x")).collect();
    let options = [option(OPTION_ECHO_REQUEST, &many), contents].concat();
    assert_eq!(echoed(&options).len(), ERO_CODES_MAX);
}

#[test]
fn a_relay_port_is_repeated_and_told() {
    // case-R06, case-R07: only the outermost level's counts.
    let port = option(OPTION_RELAY_PORT, &[0, 0]);
    assert_eq!(echoed(&port), [(OPTION_RELAY_PORT, vec![0, 0])]);
    let inner = relay(0, "::", &[port.clone(), option(OPTION_RELAY_MESSAGE, &plain())].concat());
    assert!(Query::parse(&inner).unwrap().relays.relay_port());
    let outer = through(1, "::", &inner);
    assert!(!Query::parse(&outer).unwrap().relays.relay_port());
    assert!(!Query::parse(&plain()).unwrap().relays.relay_port());
}

#[test]
fn a_level_that_is_too_long_is_an_overflow() {
    let mut buffer = vec![0; 1 << 18];
    let mut w = Writer::new(&mut buffer);
    let envelope = begin_query(&mut w, true);
    w.zeros(usize::from(u16::MAX));
    envelope.finish(&mut w);
    assert!(!w.overflowed(), "just as long as a length can say");
    let mut w = Writer::new(&mut buffer);
    let envelope = begin_query(&mut w, true);
    w.zeros(usize::from(u16::MAX) + 1);
    envelope.finish(&mut w);
    assert!(w.overflowed());
    let mut w = Writer::new(&mut buffer);
    put_option(&mut w, 1, &vec![0; 1 << 16]);
    assert!(w.overflowed());
}

#[test]
fn an_envelope_that_does_not_fit_is_an_overflow() {
    let octets = vectors::octets(vectors::RELAY_FORWARD);
    let query = Query::parse(&octets).unwrap();
    let whole = respond(&octets).len();
    for room in 0..=whole {
        let mut buffer = vec![0; room];
        let mut w = Writer::new(&mut buffer);
        let envelope = begin_response(&mut w, query.relays);
        w.bytes(MESSAGE);
        envelope.finish(&mut w);
        assert_eq!(w.finish(), (room == whole).then_some(whole));
    }
}

#[test]
fn an_envelope_can_begin_anywhere() {
    let octets = nested(3);
    let query = Query::parse(&octets).unwrap();
    let mut buffer = [0; 300];
    let mut w = Writer::new(&mut buffer);
    w.zeros(100);
    let envelope = begin_response(&mut w, query.relays);
    w.bytes(MESSAGE);
    envelope.finish(&mut w);
    let length = w.finish().unwrap();
    assert_eq!(buffer[100..length], respond(&octets));
}

#[test]
fn server_addresses_come_by_sixteen_octets() {
    // case-P16, case-P17.
    let count = |length: usize| server_addresses(&vec![0x20; length]).map(|list| list.len());
    assert_eq!([count(0), count(16), count(48)], [Some(0), Some(1), Some(3)]);
    assert_eq!([count(15), count(17), count(1)], [None; 3]);
    let one = ALL_SERVERS.octets();
    assert_eq!(server_addresses(&one).unwrap().collect::<Vec<_>>(), [ALL_SERVERS]);
}
