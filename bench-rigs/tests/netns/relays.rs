//! Relays of every kind before the real daemon: where its answers go, where they come from, and
//! what comes back in them.

use std::{
    net::{Ipv6Addr, SocketAddrV6},
    time::Duration,
};

use bench_rigs::{
    exchange::{Talker, read},
    message::{Identity, Message},
    stage::{LINK, RELAY, SERVER},
};
use portlease::wire::{
    dhcpv4::{MessageType, View},
    dhcpv6::{ALL_SERVERS, Response, SERVER_PORT},
};

use crate::scene::{DATAPATHS, Scene};

/// How long an answer may take, and how long silence is listened to.
const PATIENCE: Duration = Duration::from_secs(5);
const SILENCE: Duration = Duration::from_millis(300);

fn option(code: u16, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap();
    [&code.to_be_bytes(), &length.to_be_bytes(), content].concat()
}

/// A Relay-forward with these options around `message`.
fn forward(hop_count: u8, link_address: Ipv6Addr, options: &[u8], message: &[u8]) -> Vec<u8> {
    let peer: Ipv6Addr = "fe80::1".parse().unwrap();
    let header = [&[12, hop_count][..], &link_address.octets(), &peer.octets()].concat();
    [&header[..], options, &option(9, message)].concat()
}

fn discover(identity: &Identity) -> Vec<u8> {
    Message::discover(identity, 1).to_payload(&[])
}

/// A relay that speaks from another port is answered there if it says so, and else at 547
/// (RFC 8357 §5.2).
#[test]
fn the_answer_goes_to_the_port_that_the_relay_asks_for() {
    let one = Identity::new(0, 1);
    for datapath in DATAPATHS {
        let scene = Scene::new(datapath).unwrap();
        let open = |port| {
            let source = SocketAddrV6::new(RELAY, port, 0, 0);
            let server = scene.stage.unicast();
            Talker::open(&scene.stage.clients, source, server, Vec::new()).unwrap()
        };
        let (own, usual) = (open(5000), open(SERVER_PORT));
        own.send(&forward(0, LINK, &option(135, &[0, 0]), &discover(&one))).unwrap();
        let (octets, from) = own.receive(PATIENCE).unwrap().expect("an answer at port 5000");
        assert_eq!((*from.ip(), from.port()), (SERVER, SERVER_PORT), "{datapath}");
        let level = Response::parse(&octets).unwrap().relays.innermost().unwrap();
        assert_eq!(level.option(135), Some(&[0, 0][..]), "{datapath}");

        own.send(&forward(0, LINK, &[], &discover(&one))).unwrap();
        let (octets, _) = usual.receive(PATIENCE).unwrap().expect("an answer at port 547");
        assert!(read(&octets, &one).is_some(), "{datapath}");
        assert_eq!(own.receive(SILENCE).unwrap(), None, "{datapath}");
    }
}

/// An LDRA in the access node (RFC 6221) names the line, the router behind it the link.
#[test]
fn a_lightweight_relay_gets_its_line_back() {
    let one = Identity::new(0, 1);
    for datapath in DATAPATHS {
        let scene = Scene::with(datapath, |config| {
            let whole = "match = [{ link-address = \"2001:db8:1::/64\" }, ";
            let line =
                "match = [{ link-address = \"2001:db8:1::/64\", interface-id = \"line 7\" }, ";
            config.links = config.links.replace(whole, line);
        })
        .unwrap();
        let talker = scene.relayed().unwrap();
        let through = |line: &[u8]| {
            let access = forward(0, Ipv6Addr::UNSPECIFIED, &option(18, line), &discover(&one));
            forward(1, LINK, &option(18, b"uplink"), &access)
        };
        talker.send(&through(b"line 7")).unwrap();
        let (octets, _) = talker.receive(PATIENCE).unwrap().expect("an answer");
        let relays: Vec<_> = Response::parse(&octets).unwrap().relays.iter().collect();
        assert_eq!(relays.len(), 2, "{datapath}");
        assert_eq!(relays[0].interface_id(), Some(&b"uplink"[..]));
        assert_eq!(relays[1].interface_id(), Some(&b"line 7"[..]));
        assert!(relays[1].link_address().is_unspecified());
        // Another line of the same link is no client of ours here.
        talker.send(&through(b"line 8")).unwrap();
        assert_eq!(talker.receive(SILENCE).unwrap(), None, "{datapath}");
        let counters = scene.daemon.counters_when(|now| now.get("no-attachment") > 0).unwrap();
        assert_eq!(counters.get("no-attachment"), 1, "{datapath}");
    }
}

/// A link with whole addresses, for clients that know nothing of sharing.
const WHOLE: &str = "[[link]]\nname = \"L3\"\nmatch = [{ link-address = \"2001:db8:3::/64\" }]\n\
                     [[link.pool]]\nname = \"F\"\naddresses = [\"203.0.113.10-203.0.113.12\"]\n";

/// A 4o6 relay agent (RFC 9928) speaks for a client of DHCPv4 alone. What it needs to find that
/// client comes back.
#[test]
fn a_4o6_relay_agent_gets_back_what_its_clients_are_found_by() {
    const INFORMATION: &[u8] = &[82, 8, 1, 6, b'l', b'i', b'n', b'e', b' ', b'7'];
    let link: Ipv6Addr = "2001:db8:3::1".parse().unwrap();
    let legacy = Identity::new(0, 1);
    // The message as the client has sent it, with what its relay has put in.
    let relayed = |message: &Message<'_>| {
        let payload = Message { identifier: None, ..message.without_sharing() }.to_payload(&[]);
        let mut dhcpv4 = payload[8..payload.len() - 1].to_vec();
        dhcpv4[24..28].copy_from_slice(&[10, 0, 0, 1]);
        dhcpv4.extend(INFORMATION);
        dhcpv4.push(255);
        let query = [&[20, 0, 0, 0][..], &option(87, &dhcpv4)].concat();
        forward(0, link, &option(18, b"line 7"), &query)
    };
    for datapath in DATAPATHS {
        let scene = Scene::with(datapath, |config| config.links.push_str(WHOLE)).unwrap();
        let talker = scene.relayed().unwrap();
        let ask = |message: &Message<'_>| {
            talker.send(&relayed(message)).unwrap();
            let (octets, _) = talker.receive(PATIENCE).unwrap().expect("an answer");
            let dhcpv4 = Response::parse(&octets).unwrap().message.to_vec();
            let end = [INFORMATION, &[255]].concat();
            assert!(dhcpv4.ends_with(&end), "{datapath}: option 82 is the last one");
            let view = View::parse_reply(&dhcpv4).unwrap();
            assert_eq!(view.giaddr().octets(), [10, 0, 0, 1], "{datapath}");
            assert_eq!(view.hardware_address(), legacy.hardware, "{datapath}");
            let answer = read(&octets, &legacy).unwrap();
            (answer, view.flags() & 0x8000 != 0)
        };
        let (offer, _) = ask(&Message::discover(&legacy, 1));
        assert_eq!(offer.kind, MessageType::Offer);
        let (ack, _) = ask(&Message::select(&legacy, 1, &offer.lease));
        assert_eq!((ack.kind, ack.lease.ports), (MessageType::Ack, None));
        assert_eq!(ack.lease.address.octets()[..3], [203, 0, 113]);
        let stranger =
            bench_rigs::message::Lease { address: "203.0.113.99".parse().unwrap(), ..ack.lease };
        let (nak, broadcast) = ask(&Message::select(&legacy, 2, &stranger));
        assert_eq!((nak.kind, broadcast), (MessageType::Nak, true), "{datapath}");
    }
}

/// Relays may speak to the group of all servers of a site, and nobody to an address that is not
/// configured.
#[test]
fn all_servers_of_the_site_are_reached_and_other_addresses_are_not() {
    let one = Identity::new(0, 1);
    let other: Ipv6Addr = "2001:db8:ffff::99".parse().unwrap();
    for datapath in DATAPATHS {
        let scene = Scene::new(datapath).unwrap();
        scene.stage.server_end().add_address(&format!("{other}/64")).unwrap();
        let scope = scene.stage.clients_end().index().unwrap();
        let source = SocketAddrV6::new(RELAY, SERVER_PORT, 0, 0);
        let open = |server| Talker::open(&scene.stage.clients, source, server, Vec::new()).unwrap();
        let payload = forward(0, LINK, &[], &discover(&one));
        let group = open(SocketAddrV6::new(ALL_SERVERS, SERVER_PORT, 0, scope));
        group.send(&payload).unwrap();
        let (octets, from) = group.receive(PATIENCE).unwrap().expect("an answer");
        assert!(read(&octets, &one).is_some() && !from.ip().is_multicast(), "{datapath}: {from}");
        drop(group);

        let (mac, end) = (scene.stage.server_end().mac, scene.stage.clients_end());
        end.add_neighbour(&other.to_string(), mac).unwrap();
        let elsewhere = open(SocketAddrV6::new(other, SERVER_PORT, 0, 0));
        elsewhere.send(&payload).unwrap();
        assert_eq!(elsewhere.receive(SILENCE).unwrap(), None, "{datapath}");
        let refused = "not-our-destination";
        let counters = scene.daemon.counters_when(|now| now.get(refused) > 0).unwrap();
        assert_eq!(counters.get(refused), 1, "{datapath}: {counters:?}");
    }
}

/// What no relay of sound mind says is answered all the same, to the relay that says it, and
/// noticed.
#[test]
fn a_relay_that_names_nobody_is_answered_and_the_operator_hears_of_it() {
    let one = Identity::new(0, 1);
    let mut scene = Scene::new("xdp-native").unwrap();
    let talker = scene.relayed().unwrap();
    let mut payload = forward(0, LINK, &[], &discover(&one));
    payload[18..34].fill(0);
    talker.send(&payload).unwrap();
    assert!(talker.receive(PATIENCE).unwrap().is_some());
    scene.daemon.process().wait_for("strange-peer-address: 1 more", 0, PATIENCE).unwrap();
    talker.send(&forward(0, LINK, &[], &[20, 0, 0, 0])).unwrap();
    scene.daemon.process().wait_for("no-dhcpv4-msg: 1 more", 0, PATIENCE).unwrap();
}
