//! The load generator's AF_XDP backend against the real daemon: every exchange ends, and nothing contradicts.

use std::{
    net::{Ipv4Addr, Ipv6Addr, UdpSocket},
    thread,
    time::Duration,
};

use bench_rigs::{
    load::{
        Attach, Backend, Backoff, Control, Load, Mix, Options, Pace, Place, RelayPlace, Summary,
        Transmit, XdpPlace,
    },
    message::IDENTIFIER_LENGTH,
    stage::{CLIENT, CLIENT_INTERFACE, LINK, RELAY, SERVER, SERVER_MAC},
};
use portlease::wire::{
    dhcpv4::{self, Header, MessageType, View},
    dhcpv6::{Query, begin_response},
    portparams::PortParams,
    writer::Writer,
};

use crate::scene::Scene;

fn backend(attach: Attach) -> Backend {
    backend_by(attach, Transmit::Socket)
}

fn backend_by(attach: Attach, transmit: Transmit) -> Backend {
    Backend::Xdp(XdpPlace {
        interface: CLIENT_INTERFACE.to_owned(),
        attach,
        transmit,
        server_mac: None,
        queues: None,
    })
}

fn options(scene: &Scene, backend: Backend) -> Options {
    let prefix = u128::from(LINK) & !0xffff;
    Options {
        place: Place {
            server: scene.stage.unicast(),
            sources: (0x100..0x108_u128).map(|host| (prefix | host).into()).collect(),
            foreign: true,
            interface: None,
            relay: None,
        },
        backend,
        clients: 1000,
        seed: 3,
        sharing: true,
        pace: Pace::Closed { window: 64 },
        backoff: Backoff::Fixed { timeout: Duration::from_secs(1), tries: Some(8) },
        reserved: vec![0..=1023],
        server_id: None,
        release_rate: 10_000.0,
        mix: Mix::even(),
        progress: false,
    }
}

fn scene(datapath: &str) -> Scene {
    Scene::with(datapath, |config| {
        config.links =
            bench_rigs::daemon::link("L1", "2001:db8:1::/64", &["10.0.0.0-10.0.0.63"], 0, 6);
    })
    .unwrap()
}

fn run(scene: &Scene, options: Options) -> Summary {
    let load = scene.stage.clients.enter(|| {
        let mut load = Load::new(options)?;
        for phase in ["new", "renew", "rebind", "reboot", "mixed=3000", "release", "new"] {
            load.run(phase.parse().unwrap(), &Control::default())?;
        }
        Ok::<_, bench_rigs::error::RigError>(load.summary())
    });
    let summary = load.unwrap().unwrap();
    assert!(!summary.violated() && summary.unanswered() == 0, "{summary}");
    assert_eq!((summary.unreadable, summary.leases), (0, 1000), "{summary}");
    assert_eq!(summary.phases[0].completed, 1000);
    summary
}

#[test]
fn direct_clients_live_over_af_xdp_at_both_ends() {
    for attach in [Attach::Native, Attach::Generic] {
        let scene = scene("xdp-native");
        run(&scene, options(&scene, backend(attach)));
        let counters = scene.daemon.counters().unwrap();
        assert_eq!(counters.get("frame-bad-checksum"), 0, "{counters:?}");
    }
}

/// Bursts leave without socket buffers, single frames do not; what arrives is the same, behind relays too.
#[test]
fn bursts_leave_in_frames_of_the_kernels_own() {
    let scene = scene("xdp-native");
    let live = backend_by(Attach::Auto, Transmit::LiveFrames);
    let relay = RelayPlace { link_address: LINK, link_step: None, levels: 1, interface_id: true };
    for relay in [None, Some(relay)] {
        let before = redirected(&scene);
        let mut options = options(&scene, live.clone());
        options.place.relay = relay;
        options.seed += u8::from(options.place.relay.is_some());
        run(&scene, options);
        // At least the first windows of each phase were bursts.
        assert!(redirected(&scene) - before > 500);
    }
    let counters = scene.daemon.counters().unwrap();
    assert_eq!(counters.get("frame-bad-checksum"), 0, "{counters:?}");
}

/// Frames that were redirected out of the clients' interface.
fn redirected(scene: &Scene) -> u64 {
    let text = scene.stage.clients.run(&format!("ethtool -S {CLIENT_INTERFACE}")).unwrap();
    let of_queues = text.lines().filter_map(|line| line.trim().split_once("xdp_xmit: "));
    of_queues.filter_map(|(_, count)| count.parse::<u64>().ok()).sum()
}

#[test]
fn a_server_with_an_ordinary_socket_is_driven_too() {
    let scene = scene("socket");
    run(&scene, options(&scene, backend(Attach::Auto)));
}

#[test]
fn relays_over_af_xdp_get_their_answers() {
    let scene = scene("xdp-native");
    let relay = RelayPlace { link_address: LINK, link_step: None, levels: 2, interface_id: true };
    let mut options = options(&scene, backend(Attach::Auto));
    options.place = Place { sources: vec![RELAY], relay: Some(relay), ..options.place };
    run(&scene, options);
}

/// What is not for the load still reaches the kernel of its host, whose sockets work beside it.
#[test]
fn other_traffic_of_the_interface_passes() {
    let scene = scene("xdp-native");
    let options = options(&scene, backend(Attach::Native));
    let load = scene.stage.clients.enter(|| Load::new(options)).unwrap().unwrap();
    let listen = || UdpSocket::bind((CLIENT, 4000));
    let listener = scene.stage.clients.enter(listen).unwrap().unwrap();
    let speaker = scene.stage.server.enter(|| UdpSocket::bind((SERVER, 0))).unwrap().unwrap();
    speaker.send_to(b"not for the load", (CLIENT, 4000)).unwrap();
    listener.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut buffer = [0; 64];
    let (length, _) = listener.recv_from(&mut buffer).unwrap();
    assert_eq!(&buffer[..length], b"not for the load");
    drop(load);
}

/// What a server that lies says in an answer of this kind: identifier, PSID and seconds.
type Lie = fn(MessageType, &mut [u8; IDENTIFIER_LENGTH]) -> (u16, u32);

/// Answers queries with one lease for all, until none comes for a while.
fn answer(socket: &UdpSocket, lie: Lie) {
    let (mut query, mut reply) = ([0; 1500], [0; 1500]);
    socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    while let Ok((length, from)) = socket.recv_from(&mut query) {
        let query = Query::parse(&query[..length]).unwrap();
        let view = View::parse_request(query.message).unwrap();
        let mut identifier = [0; IDENTIFIER_LENGTH];
        view.client_identifier().unwrap().copy_to(&mut identifier).unwrap();
        let kind = match view.kind() {
            MessageType::Discover => MessageType::Offer,
            _ => MessageType::Ack,
        };
        let (psid, seconds) = lie(kind, &mut identifier);
        let mut w = Writer::new(&mut reply);
        let envelope = begin_response(&mut w, query.relays);
        let yiaddr = Ipv4Addr::new(10, 0, 0, 1);
        let none = Ipv4Addr::UNSPECIFIED;
        let header = Header {
            op: 2,
            hardware_type: 1,
            hardware_length: 6,
            xid: view.xid(),
            seconds: 0,
            flags: 0,
            ciaddr: none,
            yiaddr,
            siaddr: none,
            giaddr: none,
            chaddr: [0; 16],
        };
        header.emit(&mut w);
        dhcpv4::put_message_type(&mut w, kind);
        dhcpv4::put_address(&mut w, 54, Ipv4Addr::new(192, 0, 2, 254));
        dhcpv4::put_u32(&mut w, 51, seconds);
        dhcpv4::put_option(&mut w, 61, &identifier);
        dhcpv4::put_port_params(&mut w, PortParams { offset: 0, psid_length: 6, psid });
        dhcpv4::put_end(&mut w);
        envelope.finish(&mut w);
        let length = w.finish().unwrap();
        socket.send_to(&reply[..length], from).unwrap();
    }
}

/// Every kind of lie is seen through AF_XDP as it is through sockets.
#[test]
fn a_server_that_lies_is_found_out() {
    let lies: [(&str, Lie); 5] = [
        ("held-twice", |_, _| (5, 3600)),
        ("reserved-port", |_, _| (0, 3600)),
        ("times", |_, _| (5, 0)),
        ("client-identifier", |_, identifier| {
            identifier[14] ^= 1;
            (5, 3600)
        }),
        ("tuple-changed", |kind, _| (if kind == MessageType::Offer { 5 } else { 6 }, 3600)),
    ];
    for backend in [Backend::Udp, backend(Attach::Auto)] {
        for (name, lie) in lies {
            let scene = Scene::new("socket").unwrap();
            let mut options = options(&scene, backend.clone());
            options.place.server.set_ip(OTHER);
            options.clients = 3;
            scene.stage.server_end().add_address(&format!("{OTHER}/64")).unwrap();
            scene.stage.clients_end().add_neighbour(&OTHER.to_string(), SERVER_MAC).unwrap();
            let bind = || UdpSocket::bind((OTHER, 5470));
            let socket = scene.stage.server.enter(bind).unwrap().unwrap();
            options.place.server.set_port(5470);
            let server = thread::spawn(move || answer(&socket, lie));
            let mut load = scene.stage.clients.enter(|| Load::new(options)).unwrap().unwrap();
            load.run("new".parse().unwrap(), &Control::default()).unwrap();
            server.join().unwrap();
            let summary = load.summary();
            assert!(summary.violations.contains_key(name), "{name}: {summary}");
        }
    }
}

/// An address of the server's host that the daemon does not serve.
const OTHER: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 0x999);
