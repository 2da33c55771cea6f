//! Frames that no socket would send: VLAN tags, fragments, extension headers, wrong checksums, other stations.

use std::{net::Ipv6Addr, time::Duration};

use bench_rigs::{
    frame::{Frame, SERVICE_VLAN, VLAN},
    message::{Identity, Message, relay_at},
    stage::{CLIENT, CLIENT_INTERFACE, CLIENT_MAC, LINK, SERVER, SERVER_MAC},
    sys::FrameSocket,
};
use portlease::wire::{dhcpv4::MessageType, dhcpv6::RelayForward};

use crate::scene::{DATAPATHS, Scene, XDP};

/// How long an answer to a frame may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long silence is listened to.
const SILENCE: Duration = Duration::from_millis(700);

/// A client that speaks in frames.
struct Station {
    socket: FrameSocket,
}

impl Station {
    fn new(scene: &Scene) -> Self {
        let socket = scene.stage.clients.enter(|| FrameSocket::open(CLIENT_INTERFACE));
        Self { socket: socket.unwrap().unwrap() }
    }

    /// The next frame from the server's DHCPv6 port.
    fn answer(&self, patience: Duration) -> Option<Frame> {
        let deadline = std::time::Instant::now() + patience;
        loop {
            let left = deadline.saturating_duration_since(std::time::Instant::now());
            let octets = self.socket.receive(left).unwrap()?;
            let frame = Frame::read(&octets).filter(|frame| frame.source_port == 547);
            if let Some(frame) = frame {
                return Some(frame);
            }
        }
    }
}

/// A DISCOVER in a frame.
fn discover(number: u32) -> Frame {
    let identity = Identity::new(0, number);
    Frame {
        destination_mac: SERVER_MAC,
        source_mac: CLIENT_MAC,
        tags: Vec::new(),
        source: CLIENT,
        destination: SERVER,
        source_port: 546,
        destination_port: 547,
        checksum: None,
        payload: Message::discover(&identity, number).to_payload(&[]),
    }
}

/// The answer is an OFFER that goes back the way the query came.
fn check(query: &Frame, answer: &Frame) {
    assert_eq!(answer.tags, query.tags);
    assert_eq!(answer.destination_mac, query.source_mac);
    assert_eq!(answer.source_mac, SERVER_MAC);
    assert_eq!(answer.destination, query.source);
    assert_eq!(answer.destination_port, 546);
    assert!(answer.is_checksum_right());
    let read = bench_rigs::message::Answer::read(&answer.payload, |_| None).unwrap();
    assert_eq!(read.kind, MessageType::Offer);
}

#[test]
fn tagged_frames_are_answered_with_their_tags() {
    for datapath in XDP {
        let scene = Scene::new(datapath).unwrap();
        let station = Station::new(&scene);
        for (number, tags) in
            [(1, vec![(VLAN, 100)]), (2, vec![(SERVICE_VLAN, 0x2007), (VLAN, 100)])]
        {
            let query = Frame { tags, ..discover(number) };
            station.socket.send(&query.build()).unwrap();
            let answer = station.answer(PATIENCE).unwrap_or_else(|| {
                panic!("{datapath}: no answer to {:?}; {}", query.tags, scene.daemon.log())
            });
            check(&query, &answer);
        }
    }
}

#[test]
fn multicast_frames_from_a_foreign_station_are_answered_to_it() {
    for datapath in XDP {
        let scene = Scene::new(datapath).unwrap();
        let station = Station::new(&scene);
        let query = Frame {
            destination_mac: [0x33, 0x33, 0, 1, 0, 2],
            source_mac: [0x02, 0xaa, 0, 0, 0, 7],
            destination: "ff02::1:2".parse().unwrap(),
            ..discover(1)
        };
        station.socket.send(&query.build()).unwrap();
        let answer = station.answer(PATIENCE).expect("an answer");
        assert_eq!(answer.destination_mac, query.source_mac);
        assert!(answer.is_checksum_right());
    }
}

/// Fragments and extension headers pass XDP; the kernel puts them together and the socket answers.
#[test]
fn fragments_and_extension_headers_are_answered_by_the_socket() {
    for datapath in DATAPATHS {
        let scene = Scene::new(datapath).unwrap();
        let station = Station::new(&scene);
        let query = discover(1);
        for fragment in query.build_fragments(160, 7) {
            station.socket.send(&fragment).unwrap();
        }
        let answer = station.answer(PATIENCE).unwrap_or_else(|| panic!("{datapath}: fragments"));
        check(&query, &answer);
        let query = discover(2);
        station.socket.send(&query.build_with_extension_header()).unwrap();
        let answer = station.answer(PATIENCE).unwrap_or_else(|| panic!("{datapath}: extension"));
        check(&query, &answer);
        assert!(scene.socket_datagrams().unwrap() >= 2);
    }
}

/// Chains deeper than XDP looks are answered by the socket; what is not too deep for XDP is answered by XDP.
#[test]
fn chains_of_relays_are_answered_at_every_depth() {
    for datapath in XDP {
        let scene = Scene::new(datapath).unwrap();
        for levels in [1_u8, 4, 9, 32] {
            let by_socket = scene.socket_datagrams().unwrap();
            let chain: Vec<RelayForward<'_>> = (0..levels)
                .rev()
                .map(|hop_count| {
                    let far = Ipv6Addr::UNSPECIFIED;
                    let link = if hop_count == 0 { LINK } else { far };
                    RelayForward { hop_count, ..relay_at(link, "fe80::1".parse().unwrap()) }
                })
                .collect();
            let talker = bench_rigs::exchange::Talker::relayed(
                &scene.stage.clients,
                bench_rigs::stage::RELAY,
                scene.stage.unicast(),
                chain,
            );
            let identity = Identity::new(0, levels.into());
            let answer = talker.unwrap().ask(&identity, &Message::discover(&identity, 1)).unwrap();
            assert_eq!(answer.relay_levels, usize::from(levels));
            if levels <= 4 {
                assert_eq!(scene.socket_datagrams().unwrap(), by_socket, "{levels} levels");
            }
        }
        assert!(scene.socket_datagrams().unwrap() > 0, "{datapath}: 32 levels fit into XDP?");
    }
}

#[test]
fn wrong_and_missing_checksums_are_dropped_and_counted() {
    for (datapath, wrong, missing) in [
        ("xdp-native", "frame-bad-checksum", "frame-zero-checksum"),
        ("xdp-generic", "frame-bad-checksum", "frame-zero-checksum"),
    ] {
        let scene = Scene::new(datapath).unwrap();
        let station = Station::new(&scene);
        for (checksum, name) in [(0x1234, wrong), (0, missing)] {
            let before = scene.daemon.counters().unwrap();
            let query = Frame { checksum: Some(checksum), ..discover(1) };
            station.socket.send(&query.build()).unwrap();
            assert!(station.answer(SILENCE).is_none(), "{datapath}: {checksum} was answered");
            let counters = scene.daemon.counters().unwrap();
            assert_eq!(counters.get(name) - before.get(name), 1, "{datapath} {counters:?}");
        }
    }
    // Where the kernel is the one that checks, it is the one that counts.
    let scene = Scene::new("socket").unwrap();
    let station = Station::new(&scene);
    let before = scene.kernel_counter("Udp6InCsumErrors").unwrap();
    for checksum in [0x1234, 0] {
        let query = Frame { checksum: Some(checksum), ..discover(1) };
        station.socket.send(&query.build()).unwrap();
        assert!(station.answer(SILENCE).is_none());
    }
    assert!(scene.kernel_counter("Udp6InCsumErrors").unwrap() > before);
}

#[test]
fn frames_for_other_stations_and_addresses_are_not_ours() {
    for datapath in DATAPATHS {
        let scene = Scene::new(datapath).unwrap();
        let station = Station::new(&scene);
        let foreign = Frame { destination_mac: [0x02, 9, 9, 9, 9, 9], ..discover(1) };
        station.socket.send(&foreign.build()).unwrap();
        assert!(station.answer(SILENCE).is_none(), "{datapath}: another station's frame");
        let elsewhere = Frame { destination: "2001:db8:ffff::1".parse().unwrap(), ..discover(1) };
        station.socket.send(&elsewhere.build()).unwrap();
        assert!(station.answer(SILENCE).is_none(), "{datapath}: another host's address");
        let source = Frame { source_port: 0, ..discover(1) };
        let before = scene.daemon.counters().unwrap();
        station.socket.send(&source.build()).unwrap();
        assert!(station.answer(SILENCE).is_none(), "{datapath}: source port 0");
        let counters = scene.daemon.counters().unwrap();
        assert_eq!(counters.get("bad-source") - before.get("bad-source"), 1, "{datapath}");
        station.socket.send(&discover(1).build()).unwrap();
        check(&discover(1), &station.answer(PATIENCE).unwrap());
    }
}
