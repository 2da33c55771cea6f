//! A client made of dhcproto's encoders against the daemon, direct and through a relay; dhcproto reads the answers.
//!
//! dhcproto takes the content of every Relay Message option for another relay's message, and offers no way to make one
//! that holds a client's: the relay's 34 octets are the rig's.

use std::{
    net::{Ipv4Addr, SocketAddrV6},
    time::Duration,
};

use ::dhcproto::{
    Decodable as _, Decoder, Encodable as _,
    v4::{self, DhcpOption, OptionCode},
    v6,
};
use bench_rigs::{exchange::Talker, relay};
use portlease::wire::portparams::PortParams;

use crate::scene::{CLIENT_AT, ONE, ONE_AT, PATIENCE, SHARED, Scene};

const IDENTIFIER: [u8; 15] = [255, 0, 0, 0, 77, 0, 3, 0, 1, 2, 0, 0, 0, 0, 77];
const HARDWARE: [u8; 6] = [2, 0, 0, 0, 0, 77];

/// Where the relay's client says that it is.
const PEER: &str = "fe80::4d";

/// Option 159, which dhcproto knows by its number only.
const PORT_PARAMS: OptionCode = OptionCode::Unknown(159);

struct Client<'t> {
    talker: &'t Talker<'static>,
    relayed: bool,
    xid: u32,
}

impl Client<'_> {
    /// One DHCPv4 message in its envelope.
    fn message(&self, kind: v4::MessageType, ciaddr: Ipv4Addr, more: &[DhcpOption]) -> Vec<u8> {
        let nobody = Ipv4Addr::UNSPECIFIED;
        let mut message = v4::Message::new(ciaddr, nobody, nobody, nobody, &HARDWARE);
        message.set_xid(self.xid);
        let options = message.opts_mut();
        options.insert(DhcpOption::MessageType(kind));
        options.insert(DhcpOption::ClientIdentifier(IDENTIFIER.to_vec()));
        if kind != v4::MessageType::Release {
            let list = [1, 3, 6, 51, 58, 59, 159].map(OptionCode::from).to_vec();
            options.insert(DhcpOption::ParameterRequestList(list));
        }
        for option in more {
            options.insert(option.clone());
        }
        // Flag U where a client of DHCPv4 would have sent to the server alone (RFC 7341 §6.3).
        let flags = [if ciaddr == nobody { 0 } else { 0x80 }, 0, 0];
        let mut query = v6::Message::new_with_id(v6::MessageType::DHCPv4Query, flags);
        let content = v6::UnknownOption::new(v6::OptionCode::Dhcpv4Msg, message.to_vec().unwrap());
        query.opts_mut().insert(v6::DhcpOption::Unknown(content));
        let payload = query.to_vec().unwrap();
        if self.relayed {
            relay::forward(&payload, PEER.parse().unwrap(), CLIENT_AT, b"port 7").unwrap()
        } else {
            payload
        }
    }

    /// Sends it until it is answered, and has dhcproto read the answer.
    fn ask(&self, kind: v4::MessageType, ciaddr: Ipv4Addr, more: &[DhcpOption]) -> v4::Message {
        let message = self.message(kind, ciaddr, more);
        self.talker.send(&message).unwrap();
        let (payload, _) = self.talker.receive(PATIENCE).unwrap().expect("an answer");
        let response = if self.relayed {
            let back = relay::back(&payload).unwrap();
            assert_eq!(back.interface_id, b"port 7");
            assert_eq!(back.peer_address.to_string(), PEER);
            back.message.to_vec()
        } else {
            payload
        };
        let response = v6::Message::decode(&mut Decoder::new(&response)).unwrap();
        assert_eq!(response.msg_type(), v6::MessageType::DHCPv4Response);
        assert_eq!(response.xid(), [0; 3], "the flags of a response");
        let options: Vec<_> = response.opts().iter().collect();
        let [v6::DhcpOption::Unknown(content)] = options[..] else { panic!("{response:?}") };
        assert_eq!(content.code(), v6::OptionCode::Dhcpv4Msg);
        let answer = v4::Message::decode(&mut Decoder::new(content.data())).unwrap();
        assert_eq!(answer.opcode(), v4::Opcode::BootReply);
        assert_eq!((answer.xid(), answer.chaddr()), (self.xid, &HARDWARE[..]));
        let identifier = answer.opts().get(OptionCode::ClientIdentifier);
        assert_eq!(identifier, Some(&DhcpOption::ClientIdentifier(IDENTIFIER.to_vec())));
        answer
    }

    /// DISCOVER to ACK. Gives what was acknowledged.
    fn obtain(&mut self) -> (Ipv4Addr, DhcpOption) {
        self.xid += 1;
        let nobody = Ipv4Addr::UNSPECIFIED;
        let offer = self.ask(v4::MessageType::Discover, nobody, &[]);
        assert_eq!(offer.opts().msg_type(), Some(v4::MessageType::Offer));
        let (address, ports) = (offer.yiaddr(), ports_of(&offer));
        let wanted = [
            DhcpOption::RequestedIpAddress(address),
            DhcpOption::ServerIdentifier(ONE),
            ports.clone(),
        ];
        let ack = self.ask(v4::MessageType::Request, nobody, &wanted);
        check_ack(&ack, address, &ports);
        assert!(ack.ciaddr().is_unspecified());
        (address, ports)
    }
}

fn ports_of(answer: &v4::Message) -> DhcpOption {
    let option = answer.opts().get(PORT_PARAMS).cloned().expect("option 159");
    let DhcpOption::Unknown(content) = &option else { panic!("dhcproto knows 159: {option:?}") };
    let ports = PortParams::decode(content.data().try_into().unwrap()).unwrap();
    assert_eq!((ports.offset, ports.psid_length), (0, 6));
    assert!(ports.psid > 0);
    option
}

fn check_ack(ack: &v4::Message, address: Ipv4Addr, ports: &DhcpOption) {
    assert_eq!(ack.opts().msg_type(), Some(v4::MessageType::Ack));
    assert_eq!((ack.yiaddr(), &ports_of(ack)), (address, ports));
    for (code, expected) in [
        (OptionCode::ServerIdentifier, DhcpOption::ServerIdentifier(ONE)),
        (OptionCode::AddressLeaseTime, DhcpOption::AddressLeaseTime(3600)),
        (OptionCode::Renewal, DhcpOption::Renewal(1800)),
        (OptionCode::Rebinding, DhcpOption::Rebinding(3150)),
    ] {
        assert_eq!(ack.opts().get(code), Some(&expected));
    }
}

fn converse(relayed: bool) {
    let mut scene = Scene::new().unwrap();
    let ours = scene.ours(ONE, ONE_AT, &[SHARED]).unwrap();
    let before = ours.daemon.counters().unwrap();
    let server = SocketAddrV6::new(ONE_AT, 547, 0, 0);
    let host = &scene.client.namespace;
    let open = if relayed {
        Talker::relayed(host, CLIENT_AT, server, Vec::new())
    } else {
        Talker::direct(host, CLIENT_AT, server)
    };
    let talker = open.unwrap();
    let mut client = Client { talker: &talker, relayed, xid: 0xd4c9_0000 };
    let (address, ports) = client.obtain();
    client.xid += 1;
    let renewed = client.ask(v4::MessageType::Request, address, std::slice::from_ref(&ports));
    check_ack(&renewed, address, &ports);
    assert_eq!(renewed.ciaddr(), address);
    client.xid += 1;
    let given_back = [DhcpOption::ServerIdentifier(ONE), ports.clone()];
    talker.send(&client.message(v4::MessageType::Release, address, &given_back)).unwrap();
    let counters = ours.daemon.counters_when(|counters| counters.get("leases-held-down") == 1);
    assert_eq!(counters.unwrap().get("leases-held-down"), 1, "{}", ours.daemon.log());
    assert_eq!(talker.receive(Duration::from_millis(200)).unwrap(), None, "RELEASE has no answer");
    assert_eq!(client.obtain(), (address, ports), "what the client had rests for it");
    assert_eq!(ours.silences(&before).unwrap(), [], "every message of dhcproto's is understood");
}

#[test]
fn dhcproto_obtains_renews_and_releases() {
    converse(false);
}

#[test]
fn dhcproto_does_so_through_a_relay() {
    converse(true);
}
