//! What stands around a DHCPv4 message: options of the query and the response themselves, and
//! relays, by the engine alone.

mod common;

use std::net::Ipv6Addr;

use portlease::{
    engine::{Engine, Verdict, policy::Policy, policy::Softwire},
    lease::promise::{LaneId, Promise},
    wire::{
        datagram::Datagram,
        dhcpv4::{MessageType, View},
        dhcpv6::{Response, put_option, softwire::BindPrefix},
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
    Ok((out[..reply.length].to_vec(), reply.port))
}

fn serving(change: impl FnOnce(&mut Policy)) -> Engine {
    Server::with(change).engine
}

mod softwires {
    use super::*;

    fn configured() -> Softwire {
        let relays = ["2001:db8::b1", "2001:db8::b2"].map(|relay| relay.parse().unwrap());
        let prefix = BindPrefix::new("2001:db8:1:200::".parse().unwrap(), 57);
        Softwire { border_relays: relays.to_vec(), bind_prefix: prefix }
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
