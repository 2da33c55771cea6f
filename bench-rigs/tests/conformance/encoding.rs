//! P01-P12, P15-P17, P23: option 159, its port sets, the envelope, and the vectors.

use std::net::Ipv4Addr;

use portlease::{
    lease::{
        geometry::{Geometry, PoolSpec},
        key::LinkId,
    },
    wire::{
        dhcpv4::View,
        dhcpv6::{self, Response},
        identity::ClientIdentifier,
        portparams::{PortParams, interface_identifier, psid_of},
    },
};

use crate::{
    lab::Bench,
    packet::{Ports, shared},
    query::{Client, L1, L2},
    registry::{Case, codec, server},
    reply::Reply,
};

#[path = "../../../userspace/tests/vectors/mod.rs"]
pub mod vectors;

pub const CASES: &[Case] = &[
    codec("P01", six_bits_encode),
    codec("P02", offset_and_length_encode),
    codec("P03", sixteen_bits_encode),
    codec("P04", no_bits_encode),
    codec("P05", a_sample_of_kea_decodes),
    codec("P06", without_a_length_the_psid_is_ignored),
    codec("P07", the_example_of_rfc_7597),
    codec("P08", the_first_set_of_rfc_7597),
    codec("P09", first_and_last_contiguous_set),
    codec("P10", a_port_tells_its_set),
    codec("P11", sets_are_disjoint_and_cover_all),
    codec("P12", sets_with_system_ports_are_excluded),
    server("P13", only_the_first_flag_counts),
    server("P14", response_flags_are_zero),
    codec("P15", vectors_go_there_and_back),
    codec("P16", addresses_of_option_88),
    codec("P17", a_broken_option_88_is_not_used),
    server("P18", a_split_identifier_is_one),
    server("P19", a_split_option_159_is_one),
    server("P20", half_an_option_in_file),
    server("P21", options_in_file_and_sname),
    server("P22", who_a_client_is),
    codec("P23", the_psid_in_an_interface_identifier),
];

fn params(offset: u8, psid_length: u8, psid: u16) -> PortParams {
    PortParams::new(offset, psid_length, psid).unwrap()
}

/// The whole option: code, length and content.
fn option(params: PortParams) -> Vec<u8> {
    [vec![159, 4], params.encode().to_vec()].concat()
}

fn six_bits_encode() {
    assert_eq!(option(params(0, 6, 1)), [0x9f, 4, 0, 6, 4, 0]);
}

fn offset_and_length_encode() {
    assert_eq!(option(params(6, 8, 0x34)), [0x9f, 4, 6, 8, 0x34, 0]);
}

fn sixteen_bits_encode() {
    assert_eq!(option(params(0, 16, 65_535)), [0x9f, 4, 0, 16, 0xff, 0xff]);
}

fn no_bits_encode() {
    assert_eq!(option(params(0, 0, 0)), [0x9f, 4, 0, 0, 0, 0]);
    // Whatever the PSID, nothing of it is written and no shift overflows.
    let lax = PortParams { offset: 0, psid_length: 0, psid: 0x1234 };
    assert_eq!(lax.encode(), [0, 0, 0, 0]);
}

fn a_sample_of_kea_decodes() {
    assert_eq!(PortParams::decode([2, 4, 0x30, 0]), Some(params(2, 4, 3)));
}

fn without_a_length_the_psid_is_ignored() {
    assert_eq!(PortParams::decode([0, 0, 0x12, 0x34]), Some(params(0, 0, 0)));
}

/// First range, second if there is one, last, and how many ranges and ports.
fn shape(params: PortParams) -> ([(u16, u16); 2], usize, usize) {
    let ranges: Vec<_> = params.ports().ranges().map(|r| (*r.start(), *r.end())).collect();
    let ports = ranges.iter().map(|(first, last)| usize::from(last - first) + 1).sum();
    ([ranges[0], ranges[ranges.len() - 1]], ranges.len(), ports)
}

fn the_example_of_rfc_7597() {
    assert_eq!(shape(params(6, 8, 0x34)), ([(1232, 1235), (64_720, 64_723)], 63, 252));
}

fn the_first_set_of_rfc_7597() {
    assert_eq!(shape(params(6, 8, 0)).0, [(1024, 1027), (64_512, 64_515)]);
}

fn first_and_last_contiguous_set() {
    assert_eq!(shape(params(0, 6, 0)).0, [(0, 1023); 2]);
    assert_eq!(shape(params(0, 6, 63)).0, [(64_512, 65_535); 2]);
}

fn a_port_tells_its_set() {
    assert_eq!(psid_of(1232, 6, 8), Some(0x34));
    assert_eq!(psid_of(1023, 6, 8), None);
    assert!((0..256).all(|psid| !params(6, 8, psid).ports().contains(1023)));
}

/// Every port of the space belongs to exactly one set, for every offset and length that fit.
fn sets_are_disjoint_and_cover_all() {
    for offset in 0..=15_u8 {
        for length in 0..=16 - offset {
            let mut owners = vec![0_u8; 65_536];
            for psid in 0..1_u32 << length {
                let set = params(offset, length, u16::try_from(psid).unwrap());
                for range in set.ports().ranges() {
                    range.for_each(|port| owners[usize::from(port)] += 1);
                }
            }
            let first = if offset == 0 { 0 } else { 1 << (16 - offset) };
            let (below, above) = owners.split_at(first);
            assert!(below.iter().all(|count| *count == 0), "a={offset} k={length}");
            assert!(above.iter().all(|count| *count == 1), "a={offset} k={length}");
        }
    }
}

fn geometry(offset: u8, psid_length: u8) -> Geometry {
    let address = Ipv4Addr::new(192, 0, 2, 1);
    let spec = PoolSpec {
        name: "P".to_owned(),
        link: LinkId(0),
        ranges: vec![address..=address],
        offset,
        psid_length,
        reserved_ports: vec![0..=1023],
    };
    Geometry::new(&spec).unwrap()
}

fn sets_with_system_ports_are_excluded() {
    let excluded = [(4, 1), (5, 1), (6, 1), (7, 2), (8, 4), (9, 8), (10, 16), (11, 32), (12, 64)];
    let deep = [(13, 128), (14, 256), (15, 512), (16, 1024)];
    for (length, count) in excluded.into_iter().chain(deep) {
        let reserved: Vec<u16> = geometry(0, length).reserved_psids().collect();
        assert_eq!(reserved, (0..count).collect::<Vec<u16>>(), "k={length}");
        let usable = (1 << length) - u32::from(count);
        assert_eq!(geometry(0, length).usable_slots(), usable, "k={length}");
    }
}

/// A REQUEST with ciaddr of an address that is no pool's: silent in RENEWING, refused in REBINDING by an authority.
fn only_the_first_flag_counts(bench: Bench) {
    let mut lab = bench.lab_with(|setup| setup.set("server.authoritative", true));
    let elsewhere = shared([198, 18, 0, 1], 0, 6, 1);
    let mut query = Client::on(L1, 1).rebind(elsewhere);
    query.flags = [0x80, 0, 0];
    lab.expect_discard("not-our-address", &query);
    for flags in [[0x7f, 0xff, 0xff], [0, 0, 0]] {
        query.flags = flags;
        lab.nak(&query);
    }
}

fn response_flags_are_zero(bench: Bench) {
    let mut query = Client::on(L1, 1).discover();
    query.flags = [0xff; 3];
    let offer = bench.lab().offer(&query);
    assert_eq!(offer.payload[1..4], [0; 3]);
}

/// What the test's own codec makes of each vector is the vector again, and the product reads the same out of it.
fn vectors_go_there_and_back() {
    for (name, hex) in vectors::ALL {
        let octets = vectors::octets(hex);
        assert_eq!(rebuilt(&octets), octets, "{name}");
    }
    let discover = vectors::octets(vectors::DISCOVER);
    let offer = vectors::octets(vectors::OFFER);
    assert!(dhcpv6::Query::parse(&discover).is_ok() && Response::parse(&offer).is_ok());
    let nobody = (std::net::Ipv6Addr::LOCALHOST, 546);
    for (hex, kind, ports) in [
        (vectors::OFFER, 2, Some(Ports::new(0, 6, 1))),
        (vectors::ACK, 5, Some(Ports::new(0, 6, 1))),
        (vectors::NAK, 6, None),
        (vectors::RELAY_REPLY, 2, Some(Ports::new(0, 6, 1))),
        (vectors::OFFER_GMA, 2, Some(Ports::new(6, 8, 0x34))),
    ] {
        let octets = vectors::octets(hex);
        let reply = Reply::read(nobody.0, nobody, &octets);
        assert_eq!((reply.kind(), reply.ports()), (kind, ports));
        let parsed = Response::parse(&octets).unwrap();
        let view = View::parse_reply(parsed.message).unwrap();
        assert_eq!(u8::try_from(view.kind() as u16).unwrap(), kind);
        assert_eq!(view.xid(), reply.message.xid);
    }
}

/// The same message, taken apart and put together by the product's codec.
fn rebuilt(octets: &[u8]) -> Vec<u8> {
    use portlease::wire::writer::Writer;
    let mut out = vec![0; 1500];
    let mut w = Writer::new(&mut out);
    match octets[0] {
        20 | 12 => {
            let query = dhcpv6::Query::parse(octets).unwrap();
            let relays: Vec<_> = query
                .relays
                .iter()
                .map(|relay| dhcpv6::RelayForward {
                    hop_count: relay.hop_count(),
                    link_address: relay.link_address(),
                    peer_address: relay.peer_address(),
                    interface_id: relay.interface_id(),
                    remote_id: relay.remote_id(),
                    client_link_layer: relay.option(dhcpv6::OPTION_CLIENT_LINK_LAYER),
                })
                .collect();
            let envelope = if relays.is_empty() {
                dhcpv6::begin_query(&mut w, query.unicast)
            } else {
                dhcpv6::begin_relayed_query(&mut w, &relays, query.unicast)
            };
            write_message(&View::parse_request(query.message).unwrap(), 1, &mut w);
            envelope.finish(&mut w);
        }
        _ => {
            let response = Response::parse(octets).unwrap();
            let envelope = dhcpv6::begin_response(&mut w, response.relays);
            write_message(&View::parse_reply(response.message).unwrap(), 2, &mut w);
            envelope.finish(&mut w);
        }
    }
    let length = w.finish().unwrap();
    out.truncate(length);
    out
}

fn write_message(view: &View<'_>, op: u8, w: &mut portlease::wire::writer::Writer<'_>) {
    use portlease::wire::dhcpv4::{Header, put_end, put_option};
    let header = Header {
        op,
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
    header.emit(w);
    for (code, value) in view.options() {
        put_option(w, code, value);
    }
    put_end(w);
}

fn addresses_of_option_88() {
    let three: Vec<u8> = (0..48).collect();
    for (length, count) in [(0, 0), (16, 1), (48, 3)] {
        let content = &three[..length];
        let addresses: Vec<_> = dhcpv6::server_addresses(content).unwrap().collect();
        assert_eq!(addresses.len(), count);
        let read = addresses.iter().flat_map(std::net::Ipv6Addr::octets);
        assert!(read.eq(content.iter().copied()));
    }
}

fn a_broken_option_88_is_not_used() {
    assert!(dhcpv6::server_addresses(&[0; 15]).is_none());
}

/// The identifier in two pieces is the identifier in one: the same client, the same lease.
fn a_split_identifier_is_one(bench: Bench) {
    let mut lab = bench.lab();
    let client = Client::on(L1, 1);
    let lease = lab.obtain(&client).tuple();
    let identifier = client.identifier.clone().unwrap();
    let (first, second) = identifier.split_at(8);
    let query = client.identified_by(None).renew(lease).add(61, first).add(61, second);
    let ack = lab.ack(&query);
    assert_eq!(ack.option(61), Some(&identifier[..]));
    assert_eq!(ack.tuple(), lease);
    assert_eq!(lab.active().len(), 1);
}

/// M8: 00 06 and 04 00 are one value, PSID 1 of 6 bits.
fn a_split_option_159_is_one(bench: Bench) {
    let mut lab = bench.lab();
    let wanted = shared([192, 0, 2, 19], 0, 6, 1);
    let query = Client::on(L1, 1).discover_for(wanted).without(159);
    let query = query.add(159, &[0, 6]).add(159, &[4, 0]);
    assert_eq!(lab.offer(&query).tuple(), wanted);
}

fn half_an_option_in_file(bench: Bench) {
    let mut lab = bench.lab();
    let wanted = shared([192, 0, 2, 18], 0, 6, 33);
    let [a, b, c, d] = wanted.ports.unwrap().octets();
    let mut query = Client::on(L1, 1).discover_for(wanted).without(159);
    query = query.set(52, &[1]).add(159, &[a, b]);
    query.message.file[..5].copy_from_slice(&[159, 2, c, d, 255]);
    assert_eq!(lab.offer(&query).tuple(), wanted);
}

/// One option in three pieces: `options`, then `file`, then `sname`.
fn options_in_file_and_sname(bench: Bench) {
    let mut lab = bench.lab();
    let wanted = shared([198, 51, 100, 1], 6, 8, 0x34);
    let mut query = Client::on(L2, 1).discover_for(wanted).without(159).without(50);
    query = query.set(52, &[3]).add(159, &[6]);
    query.message.file[..10].copy_from_slice(&[159, 2, 8, 0x34, 50, 2, 198, 51, 255, 0]);
    query.message.sname[..8].copy_from_slice(&[159, 1, 0, 50, 2, 100, 1, 255]);
    assert_eq!(lab.offer(&query).tuple(), wanted);
}

/// To the server all identifiers are octets; to its operator one of RFC 4361 is an IAID and a DUID.
fn who_a_client_is(bench: Bench) {
    let identifier = [255, 0, 0, 0, 1, 0, 3, 0, 1, 2, 0, 0, 0, 0, 1];
    let shown = "iaid 00000001 duid 00030001020000000001";
    assert_eq!(ClientIdentifier::parse(&identifier).unwrap().to_string(), shown);
    let mut lab = bench.lab_on_disk();
    // The same DUID with another IAID, another type, and octets of no form at all: four clients.
    let mut other = identifier;
    other[4] = 2;
    let mut of_type_1 = identifier;
    of_type_1[0] = 1;
    let all = [&identifier[..], &other, &of_type_1, b"whatever"];
    let clients = all.map(|identifier| Client::on(L1, 1).identified_by(Some(identifier)));
    let leases = clients.each_ref().map(|client| lab.obtain(client).tuple());
    for (client, lease) in clients.iter().zip(leases) {
        lab.assert_holds(client, lease);
    }
    assert_eq!(lab.active().len(), 4);
    if bench == Bench::Daemon {
        // Their pool is taken away, and the log says whose leases those are.
        lab.restart_with(|setup| setup.set_toml("link.0.pool.0.addresses", "[\"10.0.0.1\"]"));
        let log = lab.log();
        let named = [shown, "iaid 00000002 duid 0003", "0x0100000001000300", "0x7768617465766572"];
        assert!(named.iter().all(|client| log.contains(client)), "{named:?} in: {log}");
    }
}

fn the_psid_in_an_interface_identifier() {
    let identifier = interface_identifier(Ipv4Addr::new(192, 0, 2, 18), 0x34);
    assert_eq!(identifier, 0x0000_c000_0212_0034);
}
