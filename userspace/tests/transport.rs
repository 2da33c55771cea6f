//! What stands around a DHCPv4 message: options of the query and the response themselves, and
//! relays, by the engine alone.

mod common;

use std::net::Ipv6Addr;

use portlease::{
    engine::{Engine, Verdict, policy::Policy, policy::Softwire, remark::Remark},
    lease::promise::{LaneId, Promise},
    wire::{
        datagram::Datagram,
        dhcpv4::{MessageType, View},
        dhcpv6::{self, Response, SERVER_PORT, put_option, softwire::BindPrefix},
        writer::Writer,
    },
};

use common::{L1, Query, START, Server, network};

const SERVER: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 0x547);

/// One option.
fn option(code: u16, content: &[u8]) -> Vec<u8> {
    let mut buffer = vec![0; content.len() + 4];
    put_option(&mut Writer::new(&mut buffer), code, content);
    buffer
}

/// The query's payload with these options before its own.
fn beside(query: &Query, options: &[u8]) -> Vec<u8> {
    let payload = query.octets();
    [&payload[..4], options, &payload[4..]].concat()
}

/// The reply to a datagram from a client of L1 and the UDP port that it goes to.
fn ask(engine: &Engine, payload: &[u8]) -> Result<(Vec<u8>, u16), &'static str> {
    let peer = Ipv6Addr::from(u128::from(network(L1)) | 0x10);
    let datagram = Datagram { peer, peer_port: 5000, local: SERVER, interface: 1, payload };
    let mut out = [0; 4096];
    let promise = Promise { lane: LaneId(0), sequence: 1 };
    let reply = match engine.answer(START, &datagram, promise, &mut out) {
        Verdict::Ignore(reason) => return Err(reason.name()),
        Verdict::Reply(reply) => reply,
        Verdict::Promise { reply, .. } => reply.expect("a reply"),
    };
    Ok((out[..reply.length()].to_vec(), reply.port()))
}

fn serving(change: impl FnOnce(&mut Policy)) -> Engine {
    Server::with(change).engine
}

mod softwires {
    use super::*;

    fn configured() -> Softwire {
        let relays = ["2001:db8::b1", "2001:db8::b2"].map(|relay| relay.parse().unwrap());
        let prefix = BindPrefix::new("2001:db8:1:200::".parse().unwrap(), 57);
        Softwire { border_relays: relays.to_vec(), bind_prefix: prefix, ..Softwire::default() }
    }

    fn codes(codes: &[u16]) -> Vec<u8> {
        option(6, &codes.iter().flat_map(|code| code.to_be_bytes()).collect::<Vec<u8>>())
    }

    /// Codes and contents beside option 87 in the response to `payload`.
    fn told(engine: &Engine, payload: &[u8]) -> Vec<(u16, Vec<u8>)> {
        let (octets, _) = ask(engine, payload).unwrap();
        let response = Response::parse(&octets).unwrap();
        let options = response.options().filter(|(code, _)| *code != 87);
        options.map(|(code, content)| (code, content.to_vec())).collect()
    }

    #[test]
    fn w01_who_asks_for_90_and_137_is_told_beside_the_offer() {
        let engine = serving(|policy| policy.softwire = Some(configured()));
        let payload = beside(&Query::discover(1, L1), &codes(&[90, 137]));
        let relay = |last: &str| (90, last.parse::<Ipv6Addr>().unwrap().octets().to_vec());
        let prefix = (137, vec![57, 0x20, 1, 0xd, 0xb8, 0, 1, 2, 0]);
        let all = [relay("2001:db8::b1"), relay("2001:db8::b2"), prefix];
        assert_eq!(told(&engine, &payload), all);
        let relayed = Query::discover(1, L1).octets();
        let inner = beside(&Query::discover(1, L1), &codes(&[137, 90, 90, 137]));
        assert_eq!(told(&engine, &inner), all, "each once, whatever the order");
        assert_eq!(told(&engine, &relayed), [], "nothing for who does not ask");
        let one = beside(&Query::discover(1, L1), &codes(&[137]));
        assert_eq!(told(&engine, &one), all[2..]);
    }

    #[test]
    fn nothing_is_told_that_is_not_configured() {
        let payload = beside(&Query::discover(1, L1), &codes(&[90, 137]));
        assert_eq!(told(&serving(|_| {}), &payload), []);
        let engine = serving(|policy| {
            policy.softwire = Some(Softwire { bind_prefix: None, ..configured() });
        });
        assert_eq!(told(&engine, &payload).len(), 2, "relays alone");
    }

    #[test]
    fn an_ack_tells_it_and_a_nak_does_not() {
        let mut server = Server::with(|policy| policy.softwire = Some(configured()));
        let offer = server.send(&Query::discover(1, L1)).offer();
        let select = beside(&Query::select(1, L1, &offer), &codes(&[90]));
        assert_eq!(told(&server.engine, &select).len(), 2);
        let other = beside(&Query::select(2, L1, &offer), &codes(&[90]));
        let (octets, _) = ask(&server.engine, &other).unwrap();
        let response = Response::parse(&octets).unwrap();
        assert_eq!(View::parse_reply(response.message).unwrap().kind(), MessageType::Nak);
        assert_eq!(response.options().count(), 1);
    }
}

mod relays {
    use super::*;

    /// A level of Relay-forward around `message`.
    struct Level<'a> {
        hop_count: u8,
        link: &'a str,
        peer: &'a str,
        /// Options before the Relay Message option.
        options: Vec<u8>,
    }

    /// A relay on the link of this address that does not say more.
    fn at(link: &str) -> Level<'_> {
        Level { hop_count: 0, link, peer: "fe80::1", options: Vec::new() }
    }

    impl Level<'_> {
        fn around(&self, message: &[u8]) -> Vec<u8> {
            let address = |text: &str| text.parse::<Ipv6Addr>().unwrap().octets();
            let header = [&[12, self.hop_count][..], &address(self.link), &address(self.peer)];
            [&header.concat()[..], &self.options, &option(9, message)].concat()
        }
    }

    fn discover() -> Vec<u8> {
        Query { relayed: false, ..Query::discover(1, 9) }.octets()
    }

    /// The options of each Relay-reply in the answer to `payload` but for the Relay Message option,
    /// outermost first.
    fn levels(payload: &[u8]) -> Vec<Vec<(u16, Vec<u8>)>> {
        let (octets, port) = ask(&serving(|_| {}), payload).unwrap();
        assert_eq!(port, SERVER_PORT);
        let response = Response::parse(&octets).unwrap();
        let options = |relay: dhcpv6::Relay<'_>| {
            let options = relay.options().filter(|(code, _)| *code != 9);
            options.map(|(code, content)| (code, content.to_vec())).collect()
        };
        response.relays.iter().map(options).collect()
    }

    /// The address that is offered: each link has others.
    fn offered(payload: &[u8]) -> Result<std::net::Ipv4Addr, &'static str> {
        let (octets, _) = ask(&serving(|_| {}), payload)?;
        let response = Response::parse(&octets).unwrap();
        Ok(View::parse_reply(response.message).unwrap().yiaddr())
    }

    #[test]
    fn r03_a_relay_in_the_access_node_says_which_line_and_the_next_one_which_link() {
        // RFC 6221 §6.1: an LDRA has no address of its own.
        let line = Level { options: option(18, b"line 7"), ..at("::") };
        let router = Level { hop_count: 1, ..at("2001:db8:1::1") };
        let payload = router.around(&line.around(&discover()));
        assert_eq!(offered(&payload).unwrap().octets()[..3], [192, 0, 2]);
        assert_eq!(levels(&payload), [vec![], vec![(18, b"line 7".to_vec())]]);
    }

    #[test]
    fn r04_a_link_local_link_address_says_nothing() {
        let relay = Level { peer: "fe80::1", ..at("fe80::1") };
        assert_eq!(offered(&relay.around(&discover())), Err("no-attachment"));
        let global = Level { peer: "2001:db8:1::10", ..at("fe80::1") };
        assert!(offered(&global.around(&discover())).is_ok(), "the peer-address says it");
    }

    #[test]
    fn r06_r07_a_relay_is_answered_at_its_own_port_only_if_it_says_so() {
        let port = option(135, &[0, 0]);
        let plain = at("2001:db8:1::1").around(&discover());
        let to = |payload: &[u8]| ask(&serving(|_| {}), payload).unwrap().1;
        assert_eq!(to(&plain), SERVER_PORT);
        let with_port = Level { options: port.clone(), ..at("2001:db8:1::1") };
        assert_eq!(to(&with_port.around(&discover())), 5000);
        assert_eq!(to(&at("::").around(&with_port.around(&discover()))), SERVER_PORT);
        assert_eq!(to(&Level { options: port, ..at("::") }.around(&plain)), 5000);
    }

    #[test]
    fn what_a_relay_supplies_for_the_client_is_not_echoed() {
        // RFC 6422 §6: contents of RSOO that are not for this are silently discarded.
        let supplied = option(66, &option(65, b"realm"));
        let noise = [supplied, option(53, b"\0\x03\0\x01relay"), option(65000, b"?")].concat();
        let relay = Level { options: noise, ..at("2001:db8:1::1") };
        assert_eq!(levels(&relay.around(&discover())), [vec![]]);
    }

    #[test]
    fn b33_a_peer_that_nobody_can_be_is_answered_and_noticed() {
        for peer in ["::", "ff02::1:2"] {
            let payload = Level { peer, ..at("2001:db8:1::1") }.around(&discover());
            let datagram = Datagram {
                peer: "2001:db8:ffff::a".parse().unwrap(),
                peer_port: 547,
                local: SERVER,
                interface: 1,
                payload: &payload,
            };
            let mut out = [0; 1500];
            let promise = Promise { lane: LaneId(0), sequence: 1 };
            let engine = serving(|_| {});
            let Verdict::Reply(reply) = engine.answer(START, &datagram, promise, &mut out) else {
                panic!("{peer}: an OFFER can leave at once");
            };
            assert!(reply.remarks().has(Remark::StrangePeer));
            let response = Response::parse(&out[..reply.length()]).unwrap();
            let level = response.relays.innermost().unwrap();
            assert_eq!(level.peer_address(), peer.parse::<Ipv6Addr>().unwrap());
        }
    }

    /// A query of a client of DHCPv4 alone, as a 4o6 relay agent makes it (RFC 9928 §3).
    fn agent(kind: MessageType, change: impl FnOnce(&mut Query)) -> Vec<u8> {
        let mut query = Query {
            giaddr: "10.0.0.1".parse().unwrap(),
            client_identifier: None,
            ..Query::new(kind, 1, common::L3)
        }
        .without_159();
        change(&mut query);
        let mut message = query.message();
        message.pop();
        // Circuit-ID and Remote-ID (RFC 3046).
        message.extend([82, 10, 1, 3, b'l', b'7', b'!', 2, 3, 1, 2, 3, 255]);
        let payload = [&[20, 0, 0, 0][..], &option(87, &message)].concat();
        let line = Level { options: option(18, b"line 7"), ..at("2001:db8:3::1") };
        line.around(&payload)
    }

    #[test]
    fn r17_a_legacy_client_behind_a_4o6_relay_agent_gets_its_agent_s_fields_back() {
        let (octets, port) = ask(&serving(|_| {}), &agent(MessageType::Discover, |_| {})).unwrap();
        assert_eq!(port, SERVER_PORT, "over IPv6, whatever giaddr says");
        let response = Response::parse(&octets).unwrap();
        let offer = View::parse_reply(response.message).unwrap();
        assert_eq!(offer.kind(), MessageType::Offer);
        assert_eq!(offer.giaddr().octets(), [10, 0, 0, 1]);
        assert_eq!((offer.hardware_type(), offer.hardware_length()), (1, 6));
        assert_eq!(offer.hardware_address(), [2, 0, 0, 0, 0, 1]);
        let end = [82, 10, 1, 3, b'l', b'7', b'!', 2, 3, 1, 2, 3, 255];
        assert!(response.message.ends_with(&end), "the agent's information comes last");

        let refused = agent(MessageType::Request, |query| {
            query.requested = Some("192.0.2.77".parse().unwrap());
            query.server_id = Some(common::SERVER_ID);
        });
        let (octets, _) = ask(&serving(|_| {}), &refused).unwrap();
        let response = Response::parse(&octets).unwrap();
        let nak = View::parse_reply(response.message).unwrap();
        assert_eq!(nak.kind(), MessageType::Nak);
        assert_eq!(nak.giaddr().octets(), [10, 0, 0, 1]);
        assert_ne!(nak.flags() & 0x8000, 0, "broadcast on the client's own link");
        assert!(response.message.ends_with(&end));
    }

    #[test]
    fn b35_r11_r12_what_is_for_others_is_not_answered_relayed_or_not() {
        let engine = serving(|_| {});
        let relay = at("2001:db8:1::1");
        let (offer, _) = ask(&engine, &discover_on_l1()).unwrap();
        let (relayed_offer, _) = ask(&engine, &relay.around(&discover())).unwrap();
        for (message, reason) in [
            (&offer[..], "unknown-type"),
            (&relayed_offer, "relay-reply"),
            (&[7, 1, 2, 3], "unknown-type"),
            (&[1, 1, 2, 3], "unknown-type"),
            (&[5, 1, 2, 3], "unknown-type"),
            (&[22, 1, 2, 3], "unknown-type"),
        ] {
            assert_eq!(ask(&engine, message), Err(reason), "{message:?}");
            assert_eq!(ask(&engine, &relay.around(message)), Err(reason), "relayed {message:?}");
        }
    }

    fn discover_on_l1() -> Vec<u8> {
        Query::discover(1, L1).octets()
    }
}
