//! K14, K18, K31, K32, K34: what the client's program does to the router that it runs on. Real packets of a home cross
//! it, and every packet that comes out of the softwire is looked at.

use std::{
    collections::BTreeSet,
    fs,
    net::{Ipv4Addr, UdpSocket},
    ops::RangeInclusive,
    os::unix::fs::PermissionsExt as _,
    time::{Duration, Instant},
};

use bench_rigs::{
    daemon::Process,
    stage::{CLIENT_INTERFACE, SERVER, Stage},
    sys::{FrameSocket, Signal},
};
use portlease::{
    client::{
        machine::{Action, OnLoss},
        session::Event,
    },
    wire::portparams::PortParams,
};
use serde_json::Value;

use crate::{
    client_keep::an_expired_lease_is_lost_at_once,
    client_messages::{Answer, information, of_63_ranges},
    client_rig::{Rig, assignment},
    client_world::{Desk, PATIENCE, assert_tells, event, start},
    home::{self, Home, LEASED, REMOTE, SERVICES, SOFTWIRE, ask_udp, udp_flows},
    packet::{DISCOVER, REQUEST, Tuple},
    registry::{Case, client},
};

pub const CASES: &[Case] = &[
    client("K14", no_arp_and_no_packet_before_the_filter),
    client("K18", expiry),
    client("K31", sixty_three_ranges),
    client("K32", other_ports_at_a_renewal),
    client("K34", native_dhcpv4_stops),
];

/// UDP's number (RFC 768).
const UDP: u8 = 17;

/// The ports of offset 6 and length 8, by RFC 7597 §5.1: 6 bits that are not zero, 8 bits of PSID, 2 bits.
fn ranges(psid: u16) -> Vec<RangeInclusive<u16>> {
    (1..64).map(|a: u16| (a << 10 | psid << 2)..=(a << 10 | psid << 2 | 3)).collect()
}

fn params(psid: u16) -> PortParams {
    assignment(of_63_ranges(psid)).port_params.unwrap()
}

fn home() -> (Home, Desk) {
    let home = Home::new().unwrap();
    let desk = Desk::open(&home.stage);
    (home, desk)
}

/// Leases this to the client on the router, and waits until it says so.
#[track_caller]
fn bind(client: &Process, desk: &mut Desk, tuple: Tuple) {
    desk.lease(tuple, &Answer::ack(tuple));
    assert_tells(&event(client, "obtained", 0), tuple);
}

/// Datagrams of the host's to the remote host, from every 97th port.
fn from_many_ports() -> Vec<Vec<u8>> {
    let ports = (1..=u16::MAX).step_by(97);
    let datagram = |port: u16| {
        let [high, low] = port.to_be_bytes();
        let service = SERVICES[0].to_be_bytes();
        // Without a checksum, which RFC 768 allows.
        home::packet(UDP, &[high, low, service[0], service[1], 0, 9, 0, 0, b'?'])
    };
    ports.map(datagram).collect()
}

/// Whether ARP in a frame speaks of the leased address.
fn is_arp_for_leased(frame: &[u8]) -> bool {
    let is_arp = frame.get(12..14) == Some(&[8, 6][..]);
    is_arp && frame.windows(4).any(|octets| octets == LEASED.octets())
}

/// A home sends all the time, and there is a way out before there is a lease.
fn no_arp_and_no_packet_before_the_filter() {
    let (home, mut desk) = home();
    let lan = home.lan.enter(|| FrameSocket::open("eth0").unwrap()).unwrap();
    let client = home.client(&[]).unwrap();
    let packets = from_many_ports();
    let discover = desk.query();
    home.router().ip(&format!("route add default dev {SOFTWIRE}")).unwrap();
    home.host_sends(&packets).unwrap();
    assert_eq!(home.seen_in_a_while(), [], "before there is a lease");
    let tuple = of_63_ranges(0x34);
    desk.answer(&discover, &Answer::offer(tuple));
    let request = desk.query();
    let seen = std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            for batch in packets.chunks(20).cycle().take(100) {
                home.host_sends(batch).unwrap();
            }
        });
        desk.answer(&request, &Answer::ack(tuple));
        assert_tells(&event(&client, "obtained", 0), tuple);
        sender.join().unwrap();
        home.seen_in_a_while()
    });
    assert!(seen.len() > 20, "the home has a way out now: {}", seen.len());
    let foreign: Vec<_> = seen.iter().filter(|packet| !packet.is_within(params(0x34))).collect();
    assert!(foreign.is_empty(), "ARP, or a packet without a leased port: {foreign:?}");
    // The router itself may ask for its remote host, and hosts of the home for the address.
    home.lan.run("ip neigh flush dev eth0").unwrap();
    let _ = home.router().enter(|| udp_flows(5, SERVICES[0])).unwrap();
    desk.assert_no_arp();
    while let Some(frame) = lan.receive(Duration::from_millis(20)).unwrap() {
        assert!(!is_arp_for_leased(&frame), "{frame:02x?}");
    }
    let foreign = home.seen().into_iter().find(|packet| !packet.is_within(params(0x34)));
    assert_eq!(foreign, None, "ARP on the softwire, or a packet without a leased port");
}

fn expiry() {
    an_expired_lease_is_lost_at_once();
    let (home, mut desk) = home();
    let client = home.client(&[]).unwrap();
    let tuple = of_63_ranges(0x34);
    let ack = Answer::ack(tuple).lasting(4);
    desk.lease(tuple, &ack);
    let began = Instant::now();
    assert_tells(&event(&client, "obtained", 0), tuple);
    assert!(is_held(&home) && !ports_in_the_filter(&home, "ports").is_empty());
    let lost = event(&client, "lost", 0);
    assert_eq!(lost["reason"], "expired");
    let lasted = began.elapsed().as_secs_f64();
    assert!((3.5..5.5).contains(&lasted), "{lasted} s");
    // Address and filter are gone before anybody hears of it, and nothing passes.
    assert!(!is_held(&home));
    assert_eq!(ports_in_the_filter(&home, "ports"), []);
    home.seen();
    home.host_sends(&from_many_ports()).unwrap();
    assert_eq!(home.seen_in_a_while(), []);
    // INIT: after the renewals that nobody answered.
    let kinds = std::iter::repeat_with(|| desk.query().asked().kind());
    let rest: Vec<u8> = kinds.take_while(|kind| *kind != DISCOVER).collect();
    assert!(rest.iter().all(|kind| *kind == REQUEST), "{rest:?}");
}

/// Whether the leased address is on the softwire.
fn is_held(home: &Home) -> bool {
    let shown = home.router().ip(&format!("-4 -oneline address show dev {SOFTWIRE}")).unwrap();
    shown.contains(&LEASED.to_string())
}

/// The intervals of a set of the client's table, as the kernel has them. None if there is no such set.
fn ports_in_the_filter(home: &Home, set: &str) -> Vec<RangeInclusive<u16>> {
    let text =
        home.router().run(&format!("nft --json list table ip portlease_{SOFTWIRE}")).unwrap();
    let listed: Value = serde_json::from_str(&text).unwrap();
    let objects = listed["nftables"].as_array().unwrap();
    let set = objects.iter().map(|object| &object["set"]).find(|known| known["name"] == set);
    let elements = set.and_then(|set| set["elem"].as_array()).into_iter().flatten();
    let number = |value: &Value| u16::try_from(value.as_u64().unwrap()).unwrap();
    let interval = |element: &Value| match element["range"].as_array() {
        Some(ends) => number(&ends[0])..=number(&ends[1]),
        None => number(element)..=number(element),
    };
    let mut intervals: Vec<_> = elements.map(interval).collect();
    intervals.sort_by_key(|interval| *interval.start());
    intervals
}

fn sixty_three_ranges() {
    let (home, mut desk) = home();
    let client = home.client(&[]).unwrap();
    bind(&client, &mut desk, of_63_ranges(0x34));
    let expected = ranges(0x34);
    assert_eq!((expected.len(), expected[0].clone()), (63, 1232..=1235), "RFC 7597 Appendix A");
    assert_eq!(expected[62], 64_720..=64_723);
    for set in ["ports", "numbers"] {
        assert_eq!(ports_in_the_filter(&home, set), expected, "{set}");
    }
    // And so it is with packets. Of pings the identifier takes the place of the port.
    let (sockets, ports) = home.lan.enter(|| udp_flows(100, SERVICES[0])).unwrap();
    assert_eq!((sockets.len(), ports.len()), (100, 100), "each flow has a port of its own");
    let identifiers: Vec<u16> = (0..40).map(|number| number * 1031).collect();
    assert_eq!(home.ping(&identifiers).unwrap().len(), identifiers.len());
    let seen = home.seen_in_a_while();
    let numbers: BTreeSet<u16> = seen.iter().filter_map(|packet| packet.number).collect();
    let foreign = numbers.iter().find(|number| !expected.iter().any(|one| one.contains(number)));
    assert_eq!(foreign, None);
    assert!(seen.iter().all(|packet| packet.is_within(params(0x34))), "{seen:?}");
    let used = expected.iter().filter(|range| numbers.range((*range).clone()).next().is_some());
    assert!(used.count() > 40, "not one range alone");
    assert_only_leased_ports_come_in(&home, &[1236, 1231, 2048, 64_724, 1024], 2256);
}

/// Of datagrams from outside to these ports of the leased address, only the one to the last port arrives.
fn assert_only_leased_ports_come_in(home: &Home, foreign: &[u16], leased: u16) {
    let listen = || [foreign, &[leased]].concat().into_iter().map(listener).collect();
    let listeners: Vec<UdpSocket> = home.router().enter(listen).unwrap();
    let send = || {
        let socket = UdpSocket::bind((REMOTE, 0)).unwrap();
        for &port in foreign.iter().chain([&leased]) {
            socket.send_to(b"!", (LEASED, port)).unwrap();
        }
    };
    home.internet.enter(send).unwrap();
    let (own, others) = listeners.split_last().unwrap();
    own.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(own.recv(&mut [0; 8]).unwrap(), 1);
    // What was sent before it would be here by now.
    for (other, port) in others.iter().zip(foreign) {
        other.set_nonblocking(true).unwrap();
        assert!(other.recv(&mut [0; 8]).is_err(), "port {port} is another's");
    }
}

fn listener(port: u16) -> UdpSocket {
    UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap()
}

/// Has the client renew, answers that with this ACK, and waits for this event.
#[track_caller]
fn renew(client: &Process, desk: &mut Desk, ack: &Answer, expected: &str) -> Value {
    let from = client.log_length();
    client.signal(Signal::User1).unwrap();
    let request = desk.query();
    desk.answer(&request, ack);
    event(client, expected, from)
}

/// Asks again on each socket, and gives the ports that the remote host saw.
fn again(home: &Home, sockets: &[UdpSocket]) -> BTreeSet<u16> {
    let ask = |socket: &UdpSocket| ask_udp(socket, Duration::from_secs(2));
    let ports = home.lan.enter(|| sockets.iter().filter_map(ask).collect());
    ports.unwrap()
}

fn other_ports_at_a_renewal() {
    let mut rig = Rig::bound(of_63_ranges(0x34));
    let from = *rig.session.lease().unwrap();
    let renewal = rig.next_sent();
    rig.hear(&Answer::ack(of_63_ranges(0x35)).to(&renewal.asked));
    let [Action::Changed { from: former, to }] = rig.events[..] else { panic!("{:?}", rig.events) };
    assert_eq!((former, to.assignment), (from, assignment(of_63_ranges(0x35))));

    let (home, mut desk) = home();
    let client = home.client(&[]).unwrap();
    bind(&client, &mut desk, of_63_ranges(0x34));
    let (sockets, first) = home.lan.enter(|| udp_flows(20, SERVICES[0])).unwrap();
    assert_eq!(first.len(), 20);
    renew(&client, &mut desk, &Answer::ack(of_63_ranges(0x34)), "renewed");
    assert_eq!(again(&home, &sockets), first, "translations last as long as the ports");
    let told = renew(&client, &mut desk, &Answer::ack(of_63_ranges(0x35)), "changed");
    assert_tells(&told, of_63_ranges(0x35));
    client.wait_for(&format!("forgot 20 flows of {LEASED}"), 0, PATIENCE).unwrap();
    assert_eq!(ports_in_the_filter(&home, "ports"), ranges(0x35));
    // A flow whose translation was kept would still leave by its old port, and be dropped.
    home.seen();
    let second = again(&home, &sockets);
    assert_eq!(second.len(), 20, "the same sockets, with other ports");
    assert!(first.is_disjoint(&second));
    let seen = home.seen_in_a_while();
    assert!(seen.iter().all(|packet| packet.is_within(params(0x35))), "{seen:?}");
}

/// What plain DHCPv4 once configured on the interface.
const NATIVE: &str = "10.77.0.5/24";

/// A script in the place of what ends the DHCPv4 client that the host has.
const SCRIPT: &str = "#!/bin/sh
[ \"$PORTLEASE_EVENT\" = native-stop ] && ip -4 address flush dev \"$PORTLEASE_INTERFACE\"
exit 0
";

fn has_native_address(stage: &Stage) -> bool {
    let shown = stage.clients.ip(&format!("-4 -oneline address show dev {CLIENT_INTERFACE}"));
    shown.unwrap().contains(NATIVE)
}

fn native_dhcpv4_stops() {
    // Without the option plain DHCPv4 is left alone; with it, it stops before anything is asked.
    let mut rig = Rig::discovering(OnLoss::Now);
    let request = rig.next_inform();
    rig.handle(Event::Datagram(&information(&request, None)));
    let request = rig.next_inform();
    assert_eq!(rig.take_events(), []);
    rig.handle(Event::Datagram(&information(&request, Some(&[]))));
    assert_eq!(rig.take_events()[0], Action::NativeStop);
    assert!(rig.take_sent().is_empty());

    let stage = Stage::new(1).unwrap();
    let mut desk = Desk::open(&stage);
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("script");
    fs::write(&script, SCRIPT).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    stage.clients.ip(&format!("address add {NATIVE} dev {CLIENT_INTERFACE}")).unwrap();
    let client = start(&stage, &["--script", script.to_str().unwrap()]);
    let request = desk.inform();
    assert!(has_native_address(&stage), "nobody has said anything yet");
    desk.say(&request, SERVER, &information(request.payload(), Some(&[])));
    let told = event(&client, "native-stop", 0);
    assert_eq!(told["interface"], CLIENT_INTERFACE);
    let deadline = Instant::now() + PATIENCE;
    while has_native_address(&stage) {
        assert!(Instant::now() < deadline, "{NATIVE} stays: {}", client.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    desk.lease(of_63_ranges(0x34), &Answer::ack(of_63_ranges(0x34)));
    event(&client, "obtained", 0);
}
