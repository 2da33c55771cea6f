//! Stateless DHCPv6 by the engine alone: what is answered, with what, and what is not.

mod common;

use std::net::Ipv6Addr;

use portlease::{
    engine::{
        Engine, ReplyKind, Verdict,
        policy::{Information, Lightweight, Policy},
    },
    lease::promise::{LaneId, Promise},
    wire::{
        datagram::Datagram,
        dhcpv6::{self, CLIENT_PORT, RelayForward, Reply, SERVER_PORT, put_option},
        writer::Writer,
    },
};

use common::{SECRET, START, Server, network};

const TRANSACTION: [u8; 3] = [0xab, 0xcd, 0xef];
const CLIENT_DUID: &[u8] = &[0, 3, 0, 1, 2, 0, 0, 0, 0, 1];
const SERVER: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 0x547);

/// An engine that answers Information-requests with everything that it can.
fn engine(change: impl FnOnce(&mut Policy)) -> Engine {
    Server::with(|policy| {
        policy.information = Some(Information {
            servers: vec![SERVER, "2001:db8:ffff::548".parse().unwrap()],
            refresh_seconds: 86_400,
            retry_seconds_max: Some(3600),
            border_relays: vec!["2001:db8::b1".parse().unwrap()],
            lightweight: Some(Lightweight {
                border_relays: vec!["2001:db8::b2".parse().unwrap()],
                binding: None,
            }),
            priority: vec![88, 96],
        });
        change(policy);
    })
    .engine
}

/// An Information-request through `relays` with these options.
fn request(relays: &[RelayForward<'_>], options: &[(u16, &[u8])]) -> Vec<u8> {
    let mut buffer = vec![0; 2048];
    let mut w = Writer::new(&mut buffer);
    let envelope = dhcpv6::begin_information_request(&mut w, relays, TRANSACTION);
    for (code, content) in options {
        put_option(&mut w, *code, content);
    }
    envelope.finish(&mut w);
    let length = w.finish().unwrap();
    buffer.truncate(length);
    buffer
}

/// The options of a client that asks for these, as clients of RFC 7341 do.
fn asking(codes: &[u16]) -> Vec<u8> {
    let codes: Vec<u8> = codes.iter().flat_map(|code| code.to_be_bytes()).collect();
    request(&[], &[(1, CLIENT_DUID), (8, &[0, 0]), (6, &codes)])
}

/// A reply's octets and UDP port, or why there is none.
fn ask_at(
    engine: &Engine,
    payload: &[u8],
    local: Ipv6Addr,
) -> Result<(Vec<u8>, u16), &'static str> {
    let peer = "fe80::1".parse().unwrap();
    let datagram = Datagram { peer, peer_port: 5000, local, interface: 1, payload };
    let mut out = [0; 1500];
    let promise = Promise { lane: LaneId(0), sequence: 1 };
    match engine.answer(START, &datagram, promise, &mut out) {
        Verdict::Reply(reply) => {
            assert_eq!(reply.kind(), ReplyKind::Information);
            Ok((out[..reply.length()].to_vec(), reply.port()))
        }
        Verdict::Ignore(reason) => Err(reason.name()),
        Verdict::Promise { .. } => panic!("there is nothing to promise"),
    }
}

fn ask(engine: &Engine, payload: &[u8]) -> Result<(Vec<u8>, u16), &'static str> {
    ask_at(engine, payload, dhcpv6::ALL_RELAYS_AND_SERVERS)
}

/// Codes and contents of the options of a reply to `payload`.
fn answer(engine: &Engine, payload: &[u8]) -> Vec<(u16, Vec<u8>)> {
    let (octets, port) = ask(engine, payload).unwrap();
    assert_eq!(port, CLIENT_PORT);
    let reply = Reply::parse(&octets).unwrap();
    assert_eq!(reply.transaction, TRANSACTION);
    reply.options().map(|(code, content)| (code, content.to_vec())).collect()
}

#[test]
fn a_client_is_told_what_it_asks_for_and_nothing_else() {
    let engine = engine(|_| {});
    let codes = |asked: &[u16]| -> Vec<u16> {
        answer(&engine, &asking(asked)).iter().map(|(code, _)| *code).collect()
    };
    assert_eq!(codes(&[]), [2, 1]);
    assert_eq!(codes(&[88]), [2, 1, 88]);
    assert_eq!(codes(&[88, 32, 83, 90, 96, 111]), [2, 1, 88, 32, 83, 90, 96, 111]);
    assert_eq!(codes(&[23, 88, 88, 31]), [2, 1, 88], "once, and not what is not known");
    let all = answer(&engine, &asking(&[88, 32, 83, 90, 96, 111]));
    let content = |code: u16| -> &[u8] { &all.iter().find(|(seen, _)| *seen == code).unwrap().1 };
    assert_eq!(content(1), CLIENT_DUID);
    let servers: Vec<Ipv6Addr> = dhcpv6::server_addresses(content(88)).unwrap().collect();
    assert_eq!(servers, [SERVER, "2001:db8:ffff::548".parse().unwrap()]);
    assert_eq!(content(32), 86_400_u32.to_be_bytes());
    assert_eq!(content(83), 3600_u32.to_be_bytes());
    assert_eq!(content(90), "2001:db8::b1".parse::<Ipv6Addr>().unwrap().octets());
    let relay: Ipv6Addr = "2001:db8::b2".parse().unwrap();
    assert_eq!(content(96), [&[0, 90, 0, 16][..], &relay.octets()].concat());
    assert_eq!(content(111), [0, 88, 0, 96]);
}

#[test]
fn an_empty_list_of_servers_is_an_empty_option() {
    let engine = engine(|policy| {
        policy.information = Some(Information { refresh_seconds: 600, ..Information::default() });
    });
    let all = answer(&engine, &asking(&[88, 90, 96, 111, 83]));
    assert_eq!(all.last(), Some(&(88, Vec::new())), "{all:?}");
}

#[test]
fn a_reply_bears_the_server_s_duid_and_the_client_s_if_it_came() {
    let made = engine(|_| {});
    let anonymous = answer(&made, &request(&[], &[(6, &[0, 88])]));
    assert_eq!(anonymous.iter().map(|(code, _)| *code).collect::<Vec<_>>(), [2, 88]);
    assert_eq!(anonymous[0].1, [&[0, 4][..], &SECRET.server_uuid()].concat(), "a DUID-UUID");
    assert_eq!(made.server_duid(), Some(&anonymous[0].1[..]));
    let configured = engine(|policy| policy.server_duid = Some(vec![0, 2, 0, 0, 0, 9, 1]));
    assert_eq!(answer(&configured, &asking(&[]))[0].1, [0, 2, 0, 0, 0, 9, 1]);
}

#[test]
fn what_a_server_must_discard_it_discards_under_its_own_name() {
    let made = engine(|_| {});
    let duid = made.server_duid().unwrap().to_vec();
    let ours = request(&[], &[(2, &duid), (6, &[0, 88])]);
    assert!(ask(&made, &ours).is_ok(), "a client may name us");
    let other = request(&[], &[(2, &[0, 4, 1, 2, 3]), (6, &[0, 88])]);
    assert_eq!(ask(&made, &other), Err("information-other-server"));
    for association in [3, 4, 25] {
        let payload = request(&[], &[(association, &[0; 12])]);
        assert_eq!(ask(&made, &payload), Err("information-with-ia"));
    }
    let plain = asking(&[88]);
    assert_eq!(ask_at(&made, &plain, SERVER), Err("information-unicast"));
    assert!(ask_at(&made, &plain, dhcpv6::ALL_SERVERS).is_ok());
    assert_eq!(ask(&made, &plain[..plain.len() - 1]), Err("truncated-tlv"));
    assert_eq!(ask(&made, &plain[..3]), Err("short-header"));
    let off = engine(|policy| policy.information = None);
    assert_eq!(ask(&off, &plain), Err("information-off"));
    assert_eq!(off.server_duid(), None);
}

#[test]
fn a_relayed_request_is_answered_through_the_same_relays() {
    let engine = engine(|_| {});
    let inner = RelayForward {
        interface_id: Some(b""),
        remote_id: Some(b"\0\0\0\x09x"),
        ..level(0, network(1), "fe80::9".parse().unwrap())
    };
    let outer = level(1, Ipv6Addr::UNSPECIFIED, "2001:db8:ffff::b".parse().unwrap());
    let payload = request(&[outer, inner], &[(6, &[0, 88])]);
    // Relays may speak to us alone: only what a client says itself has to come by multicast.
    let (octets, port) = ask_at(&engine, &payload, SERVER).unwrap();
    assert_eq!(port, SERVER_PORT);
    let reply = Reply::parse(&octets).unwrap();
    assert_eq!(reply.transaction, TRANSACTION);
    assert!(reply.option(88).is_some());
    let levels: Vec<_> = reply.relays.iter().collect();
    assert_eq!(levels.len(), 2);
    assert_eq!((levels[0].hop_count(), levels[1].hop_count()), (1, 0));
    assert_eq!(levels[0].peer_address(), outer.peer_address);
    assert_eq!(levels[1].link_address(), network(1));
    assert_eq!(levels[1].interface_id(), Some(&b""[..]));
    assert_eq!(levels[1].remote_id(), None);
}

fn level(hop_count: u8, link_address: Ipv6Addr, peer_address: Ipv6Addr) -> RelayForward<'static> {
    RelayForward {
        hop_count,
        link_address,
        peer_address,
        interface_id: None,
        remote_id: None,
        client_link_layer: None,
    }
}

#[test]
fn a_reply_that_does_not_fit_is_none() {
    let engine = engine(|_| {});
    let payload = asking(&[88]);
    let peer = "fe80::1".parse().unwrap();
    let local = dhcpv6::ALL_RELAYS_AND_SERVERS;
    let datagram = Datagram { peer, peer_port: 546, local, interface: 1, payload: &payload };
    let whole = ask(&engine, &payload).unwrap().0.len();
    for room in 0..=whole {
        let mut out = vec![0; room];
        let promise = Promise { lane: LaneId(0), sequence: 1 };
        match engine.answer(START, &datagram, promise, &mut out) {
            Verdict::Reply(reply) => assert_eq!((reply.length(), room), (whole, whole)),
            Verdict::Ignore(reason) => assert_eq!(reason.name(), "reply-too-large"),
            Verdict::Promise { .. } => panic!("there is nothing to promise"),
        }
    }
}
