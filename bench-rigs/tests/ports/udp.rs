//! UDP ports.

use bench_rigs::stage::{SERVER, Stage};
use portlease::{
    net::steer::Mode,
    wire::dhcpv6::{ALL_RELAYS_AND_SERVERS, ALL_SERVERS},
};

use crate::rig::{
    ANYCAST, PATIENCE, SILENCE, Station, UdpRig, XdpRig, check, facts, frame, to_group,
};

#[test]
fn queries_are_answered_from_the_right_address() {
    let stage = Stage::new(1).unwrap();
    let mut rig = UdpRig::new(&stage);
    let station = Station::new(&stage);
    let mut direct = to_group(b"from a link-local client", ALL_RELAYS_AND_SERVERS);
    direct.source = stage.clients_end().link_local();
    let mut anycast = frame(b"to an address that the kernel would not choose");
    anycast.destination = ANYCAST;
    let cases = [
        (frame(b"to the server"), SERVER),
        (anycast, ANYCAST),
        (to_group(b"from a relay", ALL_RELAYS_AND_SERVERS), SERVER),
        (to_group(b"to the site", ALL_SERVERS), SERVER),
        (direct, stage.server_end().link_local()),
    ];
    for (number, (asked, source)) in cases.iter().enumerate() {
        station.send(asked);
        rig.serve(number + 1);
        let seen = &rig.mirror.seen[number];
        assert_eq!((seen.peer, seen.local), (asked.source, asked.destination));
        assert_eq!(seen.interface, facts(&stage).index);
        check(asked, &station.receive(PATIENCE).unwrap(), *source);
    }
}

#[test]
fn what_xdp_passes_the_socket_answers() {
    let stage = Stage::new(1).unwrap();
    let mut xdp = XdpRig::new(&stage, Mode::Native);
    let mut udp = UdpRig::new(&stage);
    let station = Station::new(&stage);

    let optioned = frame(b"behind an extension header");
    station.send_octets(&optioned.build_with_extension_header());
    udp.serve(1);
    check(&optioned, &station.receive(PATIENCE).unwrap(), SERVER);

    let fragmented = frame(&[b'f'; 700]);
    for fragment in fragmented.build_fragments(256, 7) {
        station.send_octets(&fragment);
    }
    udp.serve(2);
    check(&fragmented, &station.receive(PATIENCE).unwrap(), SERVER);

    // A reply beyond the MTU leaves in fragments, which the station does not put together.
    let long = frame(&[b'l'; 2_000]);
    for fragment in long.build_fragments(1_000, 8) {
        station.send_octets(&fragment);
    }
    udp.serve(3);
    assert_eq!(udp.mirror.seen[2].payload, long.payload);

    let plain = frame(b"plain");
    station.send(&plain);
    xdp.serve(1);
    check(&plain, &station.receive(PATIENCE).unwrap(), SERVER);
    assert_eq!(udp.mirror.seen.len(), 3);
    assert!(station.receive(SILENCE).is_none());
}
