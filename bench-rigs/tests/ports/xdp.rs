//! AF_XDP ports.

use bench_rigs::{
    frame::{SERVICE_VLAN, VLAN},
    stage::{CLIENT_INTERFACE, SERVER, SERVER_INTERFACE, Stage},
};
use portlease::{
    net::{Port, counters::Event, steer::Mode},
    wire::{
        dhcpv6::{ALL_RELAYS_AND_SERVERS, ALL_SERVERS},
        frame::FrameFault,
    },
};
use xdp_ebpf::Counter;

use crate::rig::{PATIENCE, SILENCE, Station, XdpRig, check, facts, frame, to_group};

const MODES: [Mode; 2] = [Mode::Native, Mode::Generic];

#[test]
fn queries_are_answered_the_way_they_came() {
    for mode in MODES {
        let stage = Stage::new(1).unwrap();
        let mut rig = XdpRig::new(&stage, mode);
        let station = Station::new(&stage);
        let link_local = stage.server_end().link_local();
        let mut direct = to_group(b"from a link-local client", ALL_RELAYS_AND_SERVERS);
        direct.source = stage.clients_end().link_local();
        let cases = [
            (frame(b"to the server"), SERVER),
            (frame(&[b'x'; 1_400]), SERVER),
            (frame(b""), SERVER),
            (to_group(b"from a relay", ALL_RELAYS_AND_SERVERS), SERVER),
            (to_group(b"to the site", ALL_SERVERS), SERVER),
            (direct, link_local),
        ];
        for (number, (asked, source)) in cases.iter().enumerate() {
            station.send(asked);
            rig.serve(number + 1);
            let seen = &rig.mirror.seen[number];
            assert_eq!((seen.peer, seen.local), (asked.source, asked.destination));
            assert_eq!((seen.peer_port, seen.interface), (546, facts(&stage).index));
            assert_eq!(seen.payload, asked.payload);
            // The whole MTU, less the headers of IPv6 and UDP.
            assert_eq!(seen.room, 1_500 - 48);
            let answer = station.receive(PATIENCE).unwrap();
            check(asked, &answer, *source);
        }
        let counters = rig.counters();
        assert_eq!((counters.get(Event::Received), counters.get(Event::Sent)), (6, 6));
        assert_eq!(rig.steering.totals().unwrap().get(Counter::Steered), 6);
        assert!(!rig.ports[0].has_outstanding());
    }
}

#[test]
fn vlan_tags_stay_on_the_reply() {
    for mode in MODES {
        let stage = Stage::new(1).unwrap();
        let mut rig = XdpRig::new(&stage, mode);
        let station = Station::new(&stage);
        let stacks = [vec![(VLAN, 100)], vec![(SERVICE_VLAN, 0x2007), (VLAN, 100)]];
        for (number, tags) in stacks.into_iter().enumerate() {
            let mut asked = frame(b"tagged");
            asked.tags = tags;
            station.send(&asked);
            rig.serve(number + 1);
            assert_eq!(rig.mirror.seen[number].room, 1_500 - 48);
            check(&asked, &station.receive(PATIENCE).unwrap(), SERVER);
        }
    }
}

#[test]
fn a_parked_reply_leaves_when_it_is_released_and_not_before() {
    let stage = Stage::new(1).unwrap();
    let mut rig = XdpRig::new(&stage, Mode::Native);
    let station = Station::new(&stage);
    let capacity = rig.ports[0].capacity();
    let (first, second) = (frame(b"park me"), frame(b"park me too"));
    station.send(&first);
    station.send(&second);
    rig.serve(2);
    assert_eq!(rig.ports[0].capacity(), capacity - 2);
    assert!(station.receive(SILENCE).is_none());
    let port = &mut rig.ports[0];
    port.discard(rig.mirror.parked.pop().unwrap());
    port.send(rig.mirror.parked.pop().unwrap());
    assert!(port.has_outstanding());
    port.flush().unwrap();
    check(&first, &station.receive(PATIENCE).unwrap(), SERVER);
    assert!(station.receive(SILENCE).is_none());
    // The frame comes back when the station's end has let go of it.
    rig.serve_in_silence();
    assert_eq!(rig.ports[0].capacity(), capacity);
}

#[test]
fn no_frame_is_lost_and_no_more_is_taken_than_can_be_answered() {
    for mode in MODES {
        let stage = Stage::new(1).unwrap();
        let mut rig = XdpRig::new(&stage, mode);
        let station = Station::new(&stage);
        let capacity = rig.ports[0].capacity();
        for _ in 0..capacity {
            station.send(&frame(b"park"));
        }
        rig.serve(capacity);
        assert_eq!(rig.ports[0].capacity(), 0);
        // Nothing can be built: what comes now waits in the ring.
        station.send(&frame(b"late"));
        rig.serve_in_silence();
        assert_eq!(rig.mirror.seen.len(), capacity);
        for reply in std::mem::take(&mut rig.mirror.parked) {
            rig.ports[0].send(reply);
        }
        rig.ports[0].flush().unwrap();
        for _ in 0..capacity {
            check(&frame(b"park"), &station.receive(PATIENCE).unwrap(), SERVER);
        }
        rig.serve(capacity + 1);
        check(&frame(b"late"), &station.receive(PATIENCE).unwrap(), SERVER);
        // Round and round: every frame is used several times.
        for number in 0..5 * capacity {
            let asked = frame(&number.to_be_bytes());
            station.send(&asked);
            rig.serve(capacity + 2 + number);
            check(&asked, &station.receive(PATIENCE).unwrap(), SERVER);
        }
        rig.serve_in_silence();
        assert_eq!(rig.ports[0].capacity(), capacity);
    }
}

#[test]
fn frames_that_find_no_room_are_dropped_by_the_kernel_and_counted() {
    let stage = Stage::new(1).unwrap();
    let mut rig = XdpRig::new(&stage, Mode::Native);
    let station = Station::new(&stage);
    // Nobody serves, and the ring has 64 places.
    for _ in 0..64 + 10 {
        station.send(&frame(b"crowd"));
    }
    rig.serve(64);
    rig.serve_in_silence();
    assert_eq!(rig.mirror.seen.len(), 64);
    assert_eq!(rig.counters().get(Event::ReceiveDropped), 10);
}

#[test]
fn every_queue_has_its_port() {
    for mode in MODES {
        let stage = Stage::new(4).unwrap();
        let mut rig = XdpRig::new(&stage, mode);
        assert_eq!(rig.ports.len(), 4);
        let station = Station::new(&stage);
        // Another flow for each, which the sender's end spreads over its queues, and so over ours.
        for flow in 0..64 {
            let mut asked = frame(b"flow");
            asked.source_port = 10_000 + flow;
            station.send(&asked);
        }
        rig.serve(64);
        for _ in 0..64 {
            let answer = station.receive(PATIENCE).unwrap();
            assert_eq!(answer.payload[4..], *b"flow");
        }
        let received = rig.ports.iter().map(|port| port.counters().get(Event::Received));
        let received: Vec<_> = received.collect();
        assert_eq!(received.iter().sum::<u64>(), 64);
        assert!(received.iter().filter(|&&count| count > 0).count() >= 2, "{received:?}");
    }
}

#[test]
fn wrong_checksums_are_dropped_and_counted_also_those_of_local_senders() {
    let stage = Stage::new(1).unwrap();
    let mut rig = XdpRig::new(&stage, Mode::Native);
    let station = Station::new(&stage);
    for checksum in [0, 0x1234] {
        let mut wrong = frame(b"wrong");
        wrong.checksum = Some(checksum);
        station.send(&wrong);
    }
    rig.serve_in_silence();
    assert_eq!(rig.counters().fault(FrameFault::ZeroChecksum), 1);
    assert_eq!(rig.counters().fault(FrameFault::BadChecksum), 1);
    // A kernel that leaves checksums to the network card sends a half-made one, and veth has no card to finish it.
    stage.clients.run(&format!("ethtool -K {CLIENT_INTERFACE} tx on")).unwrap();
    let socket = stage.clients.enter(|| std::net::UdpSocket::bind(("::", 0)).unwrap()).unwrap();
    socket.send_to(&frame(b"partial").payload, (SERVER, 547)).unwrap();
    rig.serve_in_silence();
    assert_eq!(rig.counters().fault(FrameFault::BadChecksum), 2);
    assert!(rig.mirror.seen.is_empty());
    // The frames that were dropped are in use again.
    stage.clients.run(&format!("ethtool -K {CLIENT_INTERFACE} tx off")).unwrap();
    socket.send_to(&frame(b"whole").payload, (SERVER, 547)).unwrap();
    rig.serve(1);
}

#[test]
fn an_interface_that_goes_down_is_served_again_when_it_is_up() {
    for mode in MODES {
        let stage = Stage::new(1).unwrap();
        let mut rig = XdpRig::new(&stage, mode);
        let station = Station::new(&stage);
        station.send(&frame(b"park"));
        rig.serve(1);
        stage.server.ip(&format!("link set {SERVER_INTERFACE} down")).unwrap();
        // Released while nothing can leave: no error, and no end of the world.
        let reply = rig.mirror.parked.pop().unwrap();
        rig.ports[0].send(reply);
        rig.serve_in_silence();
        stage.server.ip(&format!("link set {SERVER_INTERFACE} up")).unwrap();
        rig.serve_in_silence();
        while station.receive(SILENCE).is_some() {}
        let asked = frame(b"again");
        station.send(&asked);
        rig.serve(2);
        check(&asked, &station.receive(PATIENCE).unwrap(), SERVER);
    }
}
