//! Other people's codecs: what they write we read, what we write they read. smoltcp and etherparse
//! know frames, dhcproto knows DHCPv4.

use std::net::{Ipv4Addr, Ipv6Addr};

use dhcproto::{
    Decodable, Decoder, Encodable, Encoder,
    v4::{self, DhcpOption, OptionCode, UnknownOption},
};
use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TransportSlice, VlanId, VlanSlice};
use portlease::wire::{
    dhcpv4::{self, Header, MessageType, PortParamsField, View},
    frame::{self, FrameFault},
    portparams::PortParams,
    writer::Writer,
};
use proptest::{collection::vec, option, prelude::*};
use smoltcp::{
    phy::ChecksumCapabilities,
    wire::{
        EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr, IpAddress, IpProtocol,
        Ipv6Packet, Ipv6Repr, UdpPacket, UdpRepr,
    },
};

const OWN_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0xfe];
const PEER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

fn unicast() -> impl Strategy<Value = Ipv6Addr> {
    any::<u128>().prop_map(Ipv6Addr::from).prop_filter("unicast", |a| !a.is_multicast())
}

/// The frame of a datagram to port 547, as smoltcp writes it.
fn by_smoltcp(source: Ipv6Addr, port: u16, destination: Ipv6Addr, payload: &[u8]) -> Vec<u8> {
    let udp = UdpRepr { src_port: port, dst_port: 547 };
    let ip = Ipv6Repr {
        src_addr: source,
        dst_addr: destination,
        next_header: IpProtocol::Udp,
        payload_len: udp.header_len() + payload.len(),
        hop_limit: 255,
    };
    let ethernet = EthernetRepr {
        src_addr: EthernetAddress(PEER_MAC),
        dst_addr: EthernetAddress(OWN_MAC),
        ethertype: EthernetProtocol::Ipv6,
    };
    let mut octets = vec![0; ethernet.buffer_len() + ip.buffer_len() + ip.payload_len];
    let mut frame = EthernetFrame::new_unchecked(&mut octets);
    ethernet.emit(&mut frame);
    let mut packet = Ipv6Packet::new_unchecked(frame.payload_mut());
    ip.emit(&mut packet);
    udp.emit(
        &mut UdpPacket::new_unchecked(packet.payload_mut()),
        &IpAddress::Ipv6(source),
        &IpAddress::Ipv6(destination),
        payload.len(),
        |place| place.copy_from_slice(payload),
        &ChecksumCapabilities::default(),
    );
    octets
}

/// Our reply to `request` with this payload.
fn wrapped(request: &[u8], payload: &[u8], source: Ipv6Addr, port: u16) -> Vec<u8> {
    let start = frame::headroom(&frame::take_apart(request, &OWN_MAC).unwrap());
    let mut out = vec![0xee; start + payload.len() + 7];
    out[start..][..payload.len()].copy_from_slice(payload);
    let length = frame::wrap(&mut out, request, payload.len(), source, port, &OWN_MAC).unwrap();
    out.truncate(length);
    out
}

proptest! {
    #[test]
    fn smoltcp_and_we_read_each_others_frames(
        (peer, own) in (unicast(), unicast()),
        port: u16,
        payload in vec(any::<u8>(), 0..600),
        at: prop::sample::Index,
    ) {
        let request = by_smoltcp(peer, port, own, &payload);
        let taken = frame::take_apart(&request, &OWN_MAC).unwrap();
        prop_assert_eq!(taken.payload, &payload[..]);
        prop_assert_eq!((taken.source, taken.destination), (peer, own));
        prop_assert_eq!((taken.source_port, taken.destination_port), (port, 547));

        let reply = wrapped(&request, &payload, own, port);
        let parsed = EthernetFrame::new_checked(&reply).unwrap();
        prop_assert_eq!(parsed.dst_addr(), EthernetAddress(PEER_MAC));
        prop_assert_eq!(parsed.src_addr(), EthernetAddress(OWN_MAC));
        let packet = Ipv6Packet::new_checked(parsed.payload()).unwrap();
        let ip = Ipv6Repr::parse(&packet).unwrap();
        prop_assert_eq!((ip.src_addr, ip.dst_addr), (own, peer));
        prop_assert_eq!(ip.next_header, IpProtocol::Udp);
        let udp = UdpPacket::new_checked(packet.payload()).unwrap();
        let addresses = [IpAddress::Ipv6(own), IpAddress::Ipv6(peer)];
        prop_assert!(udp.verify_checksum(&addresses[0], &addresses[1]));
        prop_assert_eq!((udp.src_port(), udp.dst_port()), (547, port));
        prop_assert_eq!(udp.payload(), &payload[..]);

        // A payload that is spoiled on its way is refused by both.
        if !payload.is_empty() {
            let mut spoiled = request;
            let at = 62 + at.index(payload.len());
            spoiled[at] ^= 0x10;
            prop_assert_eq!(frame::dissect(&spoiled), Err(FrameFault::BadChecksum));
            let udp = UdpPacket::new_checked(&spoiled[54..]).unwrap();
            prop_assert!(!udp.verify_checksum(&IpAddress::Ipv6(peer), &IpAddress::Ipv6(own)));
        }
    }

    #[test]
    fn etherparse_and_we_read_each_others_tags(
        (peer, own) in (unicast(), unicast()),
        tags in vec(0..4096u16, 0..3),
        port: u16,
        payload in vec(any::<u8>(), 0..600),
    ) {
        let ids: Vec<VlanId> = tags.iter().map(|tag| VlanId::try_new(*tag).unwrap()).collect();
        let ethernet = PacketBuilder::ethernet2(PEER_MAC, OWN_MAC);
        let mut request = Vec::new();
        let addresses = (peer.octets(), own.octets());
        match ids[..] {
            [] => ethernet.ipv6(addresses.0, addresses.1, 7),
            [one] => ethernet.single_vlan(one).ipv6(addresses.0, addresses.1, 7),
            [outer, inner, ..] => {
                ethernet.double_vlan(outer, inner).ipv6(addresses.0, addresses.1, 7)
            }
        }
        .udp(port, 547)
        .write(&mut request, &payload)
        .unwrap();
        let taken = frame::take_apart(&request, &OWN_MAC).unwrap();
        prop_assert_eq!(taken.payload, &payload[..]);
        prop_assert_eq!((taken.source, taken.destination), (peer, own));
        prop_assert_eq!(taken.header_length, 62 + 4 * tags.len());

        let reply = wrapped(&request, &payload, own, port);
        let sliced = SlicedPacket::from_ethernet(&reply).unwrap();
        let seen: Vec<u16> = match sliced.vlan() {
            None => Vec::new(),
            Some(VlanSlice::SingleVlan(one)) => vec![one.vlan_identifier().value()],
            Some(VlanSlice::DoubleVlan(two)) => {
                vec![two.outer.vlan_identifier().value(), two.inner.vlan_identifier().value()]
            }
        };
        prop_assert_eq!(seen, tags);
        let Some(NetSlice::Ipv6(ip)) = sliced.net else { panic!("IPv6") };
        prop_assert_eq!(ip.header().destination_addr(), peer);
        let Some(TransportSlice::Udp(udp)) = sliced.transport else { panic!("UDP") };
        prop_assert_eq!(udp.payload(), &payload[..]);
        let checksum = udp.to_header().calc_checksum_ipv6_raw(
            own.octets(),
            peer.octets(),
            udp.payload(),
        );
        prop_assert_eq!(udp.checksum(), checksum.unwrap());
    }
}

/// What a message says, whoever writes it.
#[derive(Clone, Debug)]
struct Said {
    header: Header,
    kind: MessageType,
    identifier: Vec<u8>,
    list: Vec<u8>,
    requested: Option<Ipv4Addr>,
    server_id: Option<Ipv4Addr>,
    lease: Option<u32>,
    size: Option<u16>,
    params: Option<PortParams>,
    long: Vec<u8>,
}

fn said(op: u8) -> impl Strategy<Value = Said> {
    let address = || any::<u32>().prop_map(Ipv4Addr::from);
    // dhcproto knows the hardware's length from its address only.
    let fixed = (any::<(u32, u16, u16)>(), vec(any::<u8>(), 16..=16), [address(), address()]);
    let options = (
        prop::sample::select(MessageType::ALL),
        vec(any::<u8>(), 1..300),
        vec(1..=254u8, 1..20),
        option::of(address()),
        option::of(address()),
        option::of(any::<u32>()),
        option::of(any::<u16>()),
        option::of((0..=6u8, 1..=10u8)),
        vec(any::<u8>(), 0..700),
    );
    (fixed, options).prop_map(move |((numbers, hardware, addresses), options)| {
        let (kind, identifier, list, requested, server_id, lease, size, cut, long) = options;
        let header = Header {
            op,
            hardware_type: 1,
            hardware_length: 16,
            xid: numbers.0,
            seconds: numbers.1,
            flags: numbers.2 & dhcpv4::FLAG_BROADCAST,
            ciaddr: addresses[0],
            yiaddr: addresses[1],
            siaddr: Ipv4Addr::UNSPECIFIED,
            giaddr: addresses[1],
            chaddr: hardware.try_into().unwrap(),
        };
        let params = cut.map(|(offset, length)| PortParams::new(offset, length, 1).unwrap());
        Said { header, kind, identifier, list, requested, server_id, lease, size, params, long }
    })
}

fn by_dhcproto(said: &Said) -> Vec<u8> {
    let Header { ciaddr, yiaddr, siaddr, giaddr, chaddr, .. } = said.header;
    let mut message = v4::Message::new(ciaddr, yiaddr, siaddr, giaddr, &chaddr);
    message
        .set_opcode(said.header.op.into())
        .set_xid(said.header.xid)
        .set_secs(said.header.seconds)
        .set_flags(said.header.flags.into());
    let options = message.opts_mut();
    options.insert(DhcpOption::MessageType(said.kind.number().into()));
    options.insert(DhcpOption::ClientIdentifier(said.identifier.clone()));
    let codes = said.list.iter().map(|code| OptionCode::from(*code)).collect();
    options.insert(DhcpOption::ParameterRequestList(codes));
    let others = [
        said.requested.map(DhcpOption::RequestedIpAddress),
        said.server_id.map(DhcpOption::ServerIdentifier),
        said.lease.map(DhcpOption::AddressLeaseTime),
        said.size.map(DhcpOption::MaxMessageSize),
    ];
    for option in others.into_iter().flatten() {
        options.insert(option);
    }
    for (code, data) in [
        (dhcpv4::OPTION_PORT_PARAMS, said.params.map(|it| it.encode().to_vec())),
        (224, Some(said.long.clone()).filter(|long| !long.is_empty())),
    ] {
        if let Some(data) = data {
            let option = UnknownOption::new(OptionCode::from(code), data);
            options.insert(DhcpOption::Unknown(option));
        }
    }
    let mut octets = Vec::new();
    message.encode(&mut Encoder::new(&mut octets)).unwrap();
    octets
}

fn by_us(said: &Said) -> Vec<u8> {
    let mut buffer = vec![0xee; 4096];
    let mut w = Writer::new(&mut buffer);
    said.header.emit(&mut w);
    dhcpv4::put_message_type(&mut w, said.kind);
    dhcpv4::put_option(&mut w, dhcpv4::OPTION_CLIENT_ID, &said.identifier);
    dhcpv4::put_option(&mut w, dhcpv4::OPTION_PARAMETER_REQUEST_LIST, &said.list);
    let addresses = [
        (dhcpv4::OPTION_REQUESTED_ADDRESS, said.requested),
        (dhcpv4::OPTION_SERVER_ID, said.server_id),
    ];
    for (code, address) in addresses {
        if let Some(address) = address {
            dhcpv4::put_address(&mut w, code, address);
        }
    }
    if let Some(seconds) = said.lease {
        dhcpv4::put_u32(&mut w, dhcpv4::OPTION_LEASE_TIME, seconds);
    }
    if let Some(octets) = said.size {
        dhcpv4::put_u16(&mut w, dhcpv4::OPTION_MAX_MESSAGE_SIZE, octets);
    }
    if let Some(params) = said.params {
        dhcpv4::put_port_params(&mut w, params);
    }
    if !said.long.is_empty() {
        dhcpv4::put_option(&mut w, 224, &said.long);
    }
    dhcpv4::put_end(&mut w);
    let length = w.finish().unwrap();
    buffer.truncate(length);
    buffer
}

fn octets(value: Option<dhcpv4::Value<'_>>) -> Vec<u8> {
    value.map(|value| value.pieces().flatten().copied().collect()).unwrap_or_default()
}

proptest! {
    #[test]
    fn we_read_what_dhcproto_writes(said in prop_oneof![said(1), said(2)]) {
        let message = by_dhcproto(&said);
        let reader = if said.header.op == 1 { View::parse_request } else { View::parse_reply };
        let view = reader(&message).unwrap();
        prop_assert_eq!(view.kind(), said.kind);
        prop_assert_eq!(octets(view.client_identifier()), said.identifier);
        prop_assert_eq!(octets(view.parameter_request_list()), said.list);
        prop_assert_eq!(view.requested_address(), said.requested);
        prop_assert_eq!(view.server_id(), said.server_id);
        prop_assert_eq!(view.lease_seconds(), said.lease);
        prop_assert_eq!(view.max_message_size(), said.size);
        prop_assert_eq!(view.port_params().present(), said.params);
        prop_assert_eq!(view.port_params() == PortParamsField::Absent, said.params.is_none());
        prop_assert_eq!(octets(view.option(224)), said.long);
        let header = Header {
            op: said.header.op,
            hardware_type: view.hardware_type(),
            hardware_length: view.hardware_length(),
            xid: view.xid(),
            seconds: view.seconds(),
            flags: view.flags(),
            ciaddr: view.ciaddr(),
            yiaddr: view.yiaddr(),
            siaddr: view.siaddr(),
            giaddr: view.giaddr(),
            chaddr: *view.chaddr(),
        };
        prop_assert_eq!(header, said.header);
    }

    #[test]
    fn dhcproto_reads_what_we_write(said in prop_oneof![said(1), said(2)]) {
        let ours = v4::Message::decode(&mut Decoder::new(&by_us(&said))).unwrap();
        let theirs = v4::Message::decode(&mut Decoder::new(&by_dhcproto(&said))).unwrap();
        prop_assert_eq!(ours, theirs);
    }
}
