//! case-P15: the twelve reference messages, read, and written octet by octet by the emitters.

use std::net::{Ipv4Addr, Ipv6Addr};

use portlease::wire::{
    dhcpv4::{self, Header, MessageType, PortParamsField, View},
    dhcpv6::{self, Envelope, Query, RelayForward, Response},
    identity::ClientIdentifier,
    portparams::PortParams,
    writer::Writer,
};

use crate::vectors;

const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 18);
const SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 254);
const NOBODY: Ipv4Addr = Ipv4Addr::UNSPECIFIED;
const CLIENT: ClientIdentifier<'static> =
    ClientIdentifier { iaid: 1, duid: &[0, 3, 0, 1, 2, 0, 0, 0, 0, 1] };
const REQUEST_LIST: [u8; 7] = [1, 3, 6, 51, 58, 59, 159];

const HINT: PortParams = PortParams { offset: 0, psid_length: 6, psid: 0 };
const PSID_ONE: PortParams = PortParams { offset: 0, psid_length: 6, psid: 1 };
const PSID_0X34: PortParams = PortParams { offset: 6, psid_length: 8, psid: 0x34 };

/// What a message of the reference client or server says, in the order of its options.
#[derive(Clone, Copy)]
struct Said {
    kind: MessageType,
    xid: u32,
    ciaddr: Ipv4Addr,
    yiaddr: Ipv4Addr,
    server_id: bool,
    requested: bool,
    times: Option<(u32, Option<(u32, u32)>)>,
    list: bool,
    params: Option<PortParams>,
}

const SAYS: Said = Said {
    kind: MessageType::Discover,
    xid: 0x1122_3344,
    ciaddr: NOBODY,
    yiaddr: NOBODY,
    server_id: false,
    requested: false,
    times: None,
    list: false,
    params: None,
};

impl Said {
    fn is_reply(&self) -> bool {
        matches!(self.kind, MessageType::Offer | MessageType::Ack | MessageType::Nak)
    }

    fn emit(&self, w: &mut Writer<'_>) {
        let mut chaddr = [0; 16];
        chaddr[..6].copy_from_slice(&[2, 0, 0, 0, 0, 1]);
        Header {
            op: if self.is_reply() { dhcpv4::BOOT_REPLY } else { dhcpv4::BOOT_REQUEST },
            hardware_type: 1,
            hardware_length: 6,
            xid: self.xid,
            ciaddr: self.ciaddr,
            yiaddr: self.yiaddr,
            chaddr,
            ..Header::default()
        }
        .emit(w);
        dhcpv4::put_message_type(w, self.kind);
        let mut identifier = [0; 32];
        let length = CLIENT.build(&mut identifier).unwrap();
        let put_client = |w: &mut Writer<'_>| {
            dhcpv4::put_option(w, dhcpv4::OPTION_CLIENT_ID, &identifier[..length]);
        };
        // Clients put their identifier first, servers theirs.
        if !self.is_reply() {
            put_client(w);
        }
        if self.server_id {
            dhcpv4::put_address(w, dhcpv4::OPTION_SERVER_ID, SERVER);
        }
        if self.requested {
            dhcpv4::put_address(w, dhcpv4::OPTION_REQUESTED_ADDRESS, ADDRESS);
        }
        if let Some((lease, rest)) = self.times {
            dhcpv4::put_u32(w, dhcpv4::OPTION_LEASE_TIME, lease);
            if let Some((renewal, rebinding)) = rest {
                dhcpv4::put_u32(w, dhcpv4::OPTION_RENEWAL_TIME, renewal);
                dhcpv4::put_u32(w, dhcpv4::OPTION_REBINDING_TIME, rebinding);
            }
        }
        if self.is_reply() {
            put_client(w);
        }
        if self.list {
            dhcpv4::put_option(w, dhcpv4::OPTION_PARAMETER_REQUEST_LIST, &REQUEST_LIST);
        }
        if let Some(params) = self.params {
            dhcpv4::put_port_params(w, params);
        }
        dhcpv4::put_end(w);
    }

    fn read(&self, message: &[u8]) {
        let parse = if self.is_reply() { View::parse_reply } else { View::parse_request };
        let view = parse(message).unwrap();
        assert_eq!(view.kind(), self.kind);
        assert_eq!(view.xid(), self.xid);
        assert_eq!((view.ciaddr(), view.yiaddr()), (self.ciaddr, self.yiaddr));
        assert_eq!(view.hardware_address(), [2, 0, 0, 0, 0, 1]);
        let identifier = view.client_identifier().unwrap().contiguous().unwrap();
        assert_eq!(ClientIdentifier::parse(identifier), Some(CLIENT));
        assert_eq!(view.server_id(), self.server_id.then_some(SERVER));
        assert_eq!(view.requested_address(), self.requested.then_some(ADDRESS));
        assert_eq!(view.lease_seconds(), self.times.map(|(lease, _)| lease));
        let rest = self.times.and_then(|(_, rest)| rest);
        assert_eq!(view.renewal_seconds().zip(view.rebinding_seconds()), rest);
        let list = view.parameter_request_list().and_then(|list| list.contiguous());
        assert_eq!(list, self.list.then_some(&REQUEST_LIST[..]));
        assert_eq!(view.requests(159), self.list);
        let field = self.params.map_or(PortParamsField::Absent, PortParamsField::Present);
        assert_eq!(view.port_params(), field);
        assert!(!view.overload_ignored());
    }
}

/// Emits a message and its envelope, and compares; then reads it.
fn compare(vector: &str, begin: impl FnOnce(&mut Writer<'_>) -> Envelope, said: Said) {
    let expected = vectors::octets(vector);
    let mut buffer = [0xee; 512];
    let mut w = Writer::new(&mut buffer);
    let envelope = begin(&mut w);
    said.emit(&mut w);
    envelope.finish(&mut w);
    assert_eq!(w.written(), expected, "{:?}", said.kind);
    if said.is_reply() {
        said.read(Response::parse(&expected).unwrap().message);
    } else {
        said.read(Query::parse(&expected).unwrap().message);
    }
}

/// A client's message, sent directly.
fn query(vector: &str, unicast: bool, said: Said) {
    compare(vector, |w| dhcpv6::begin_query(w, unicast), said);
    assert_eq!(Query::parse(&vectors::octets(vector)).unwrap().unicast, unicast);
}

/// A server's answer to `question`.
fn answer(vector: &str, question: &str, said: Said) {
    let question = vectors::octets(question);
    let relays = Query::parse(&question).unwrap().relays;
    compare(vector, |w| dhcpv6::begin_response(w, relays), said);
}

const OFFERED: Said = Said {
    kind: MessageType::Offer,
    yiaddr: ADDRESS,
    server_id: true,
    times: Some((3600, Some((1800, 3150)))),
    params: Some(PSID_ONE),
    ..SAYS
};

#[test]
fn a_conversation() {
    let discover = Said { list: true, params: Some(HINT), ..SAYS };
    query(vectors::DISCOVER, false, discover);
    answer(vectors::OFFER, vectors::DISCOVER, OFFERED);
    let request = Said { kind: MessageType::Request, list: true, params: Some(PSID_ONE), ..SAYS };
    let selecting = Said { server_id: true, requested: true, ..request };
    query(vectors::REQUEST_SELECTING, false, selecting);
    answer(vectors::ACK, vectors::REQUEST_SELECTING, Said { kind: MessageType::Ack, ..OFFERED });
    let renewing = Said { xid: 0x1122_3345, ciaddr: ADDRESS, ..request };
    query(vectors::REQUEST_RENEWING, true, renewing);
    let rebinding = Said { xid: 0x1122_3346, ..renewing };
    query(vectors::REQUEST_REBINDING, false, rebinding);
    let release = Said {
        kind: MessageType::Release,
        xid: 0x1122_3348,
        ciaddr: ADDRESS,
        server_id: true,
        params: Some(PSID_ONE),
        ..SAYS
    };
    query(vectors::RELEASE, true, release);
}

#[test]
fn a_reboot_that_is_refused() {
    let request = Said {
        kind: MessageType::Request,
        xid: 0x1122_3347,
        requested: true,
        list: true,
        params: Some(PSID_ONE),
        ..SAYS
    };
    query(vectors::REQUEST_INIT_REBOOT, false, request);
    let refused = Said { kind: MessageType::Nak, xid: 0x1122_3347, server_id: true, ..SAYS };
    answer(vectors::NAK, vectors::REQUEST_INIT_REBOOT, refused);
}

#[test]
fn a_set_of_many_ranges() {
    let offer = Said { times: Some((3600, None)), params: Some(PSID_0X34), ..OFFERED };
    answer(vectors::OFFER_GMA, vectors::DISCOVER, offer);
    assert_eq!(PSID_0X34.ports().ranges().next(), Some(1232..=1235));
}

/// case-R01: through two relays and back.
#[test]
fn through_relays() {
    let address = |text: &str| text.parse::<Ipv6Addr>().unwrap();
    let relays = [
        RelayForward {
            hop_count: 1,
            link_address: Ipv6Addr::UNSPECIFIED,
            peer_address: address("2001:db8:ffff::a"),
            interface_id: None,
            remote_id: None,
            client_link_layer: None,
        },
        RelayForward {
            hop_count: 0,
            link_address: address("2001:db8:1::1"),
            peer_address: address("fe80::ff:fe00:1"),
            interface_id: Some(b"ge-0/0/1.100"),
            remote_id: Some(b"\0\0\x07\xdbcust-0001"),
            client_link_layer: Some(&[0, 1, 2, 0, 0, 0, 0, 1]),
        },
    ];
    let discover = Said { list: true, params: Some(HINT), ..SAYS };
    compare(vectors::RELAY_FORWARD, |w| dhcpv6::begin_relayed_query(w, &relays, false), discover);
    answer(vectors::RELAY_REPLY, vectors::RELAY_FORWARD, OFFERED);
}

#[test]
fn no_reference_message_is_forgotten() {
    assert_eq!(vectors::ALL.len(), 12);
}
