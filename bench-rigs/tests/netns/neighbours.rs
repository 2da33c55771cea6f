//! The daemon beside others: another DHCPv6 server on the same port, traffic that only passes through, a real relay
//! and a real client.

use std::{
    net::{Ipv6Addr, SocketAddrV6, UdpSocket},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use bench_rigs::{
    daemon::{Process, portlease_binary},
    error::Result,
    exchange::Talker,
    message::{Identity, Message},
    netns::Netns,
    relay::{Relay, RelayOptions},
    stage::{CLIENT_INTERFACE, LINK, RELAY, SERVER, SERVER_INTERFACE},
    sys::{self, Binding},
    veth::{self, End},
};
use portlease::wire::dhcpv6::{ALL_RELAYS_AND_SERVERS, SERVER_PORT};

use crate::scene::{Scene, XDP};

/// A SOLICIT with a client identifier.
const SOLICIT: &[u8] = &[1, 0xab, 0xcd, 0xef, 0, 1, 0, 4, 0, 3, 0, 1];

/// Another DHCPv6 server: a socket on the server's port that joined the group.
fn other_server(scene: &Scene) -> Result<UdpSocket> {
    let socket = scene.stage.server.enter(|| {
        let binding = Binding {
            address: SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, SERVER_PORT, 0, 0),
            foreign: false,
            interface: None,
            receive_buffer: None,
        };
        let socket = sys::udp_socket(&binding)?;
        let index = sys::interface_index(SERVER_INTERFACE)?;
        socket.join_multicast_v6(&ALL_RELAYS_AND_SERVERS, index)?;
        socket.set_read_timeout(Some(Duration::from_secs(2)))?;
        Ok::<_, std::io::Error>(socket)
    })?;
    Ok(socket.expect("port 547 is free for another server"))
}

fn heard(socket: &UdpSocket) -> Option<Vec<u8>> {
    let mut buffer = [0; 2048];
    let (length, _) = socket.recv_from(&mut buffer).ok()?;
    Some(buffer[..length].to_vec())
}

#[test]
fn another_dhcpv6_server_gets_what_is_not_for_us() {
    for datapath in XDP {
        let scene = Scene::with(datapath, |config| config.udp = false).unwrap();
        let other = other_server(&scene).unwrap();
        let direct = scene.direct().unwrap();
        let relayed = scene.relayed().unwrap();
        let client = Identity::new(0, 1);

        direct.obtain(&client).unwrap();
        direct.send(SOLICIT).unwrap();
        assert_eq!(heard(&other).as_deref(), Some(SOLICIT), "{datapath}: nothing but the SOLICIT");

        let forwarded =
            bench_rigs::relay::forward(SOLICIT, "fe80::1".parse().unwrap(), LINK, b"port").unwrap();
        let relayed_client = Identity::new(0, 2);
        relayed.obtain(&relayed_client).unwrap();
        relayed.send(&forwarded).unwrap();
        assert_eq!(heard(&other), Some(forwarded), "{datapath}");

        let to_all = scene.stage.multicast().unwrap();
        let clients = scene.stage.clients_end();
        let source = SocketAddrV6::new(clients.link_local(), 546, 0, clients.index().unwrap());
        let neighbour = Talker::open(&scene.stage.clients, source, to_all, Vec::new()).unwrap();
        neighbour.send(SOLICIT).unwrap();
        assert_eq!(heard(&other).as_deref(), Some(SOLICIT), "{datapath}: by multicast");
    }
}

/// A query to a host behind us is that host's: it passes, octet for octet.
#[test]
fn traffic_in_transit_is_left_alone() {
    for datapath in XDP {
        let scene = Scene::new(datapath).unwrap();
        let far = Netns::new("far").unwrap();
        let near_end =
            End { namespace: &scene.stage.server, name: "to-far", mac: [2, 0, 0, 0, 1, 1] };
        let far_end = End { namespace: &far, name: "far", mac: [2, 0, 0, 0, 1, 2] };
        veth::connect(near_end, far_end, 1).unwrap();
        near_end.add_address("2001:db8:fa::1/64").unwrap();
        far_end.add_address("2001:db8:fa::2/64").unwrap();
        near_end.add_neighbour("2001:db8:fa::2", far_end.mac).unwrap();
        scene.stage.server.run("sysctl -qw net.ipv6.conf.all.forwarding=1").unwrap();
        let via = scene.stage.server_end().link_local();
        let route = format!("-6 route add 2001:db8:fa::/64 via {via} dev {CLIENT_INTERFACE}");
        scene.stage.clients.ip(&route).unwrap();

        let address = SocketAddrV6::new("2001:db8:fa::2".parse().unwrap(), SERVER_PORT, 0, 0);
        let binding = Binding { address, foreign: false, interface: None, receive_buffer: None };
        let listener = far.enter(|| sys::udp_socket(&binding)).unwrap().unwrap();
        listener.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
        let source = SocketAddrV6::new(RELAY, 546, 0, 0);
        let talker = Talker::open(&scene.stage.clients, source, address, Vec::new()).unwrap();
        let client = Identity::new(0, 1);
        let query = Message::discover(&client, 1).to_payload(&[]);
        talker.send(&query).unwrap();
        assert_eq!(heard(&listener), Some(query), "{datapath}");
        scene.direct().unwrap().obtain(&client).unwrap();
    }
}

/// A real client behind a real relay that knows nothing of DHCPv4.
#[test]
fn a_real_client_behind_a_real_relay_obtains_renews_and_releases() {
    for datapath in ["xdp-native", "socket"] {
        let scene = Scene::new(datapath).unwrap();
        let home = Netns::new("home").unwrap();
        let down = End { namespace: &scene.stage.clients, name: "port-1", mac: [2, 0, 0, 0, 2, 1] };
        let up = End { namespace: &home, name: "wan", mac: [2, 0, 0, 0, 2, 2] };
        veth::connect(down, up, 1).unwrap();
        let options = RelayOptions {
            upstream: CLIENT_INTERFACE.to_owned(),
            server: SERVER,
            downstream: vec!["port-1".to_owned()],
            link_address: LINK,
        };
        let relay = scene.stage.clients.enter(|| Relay::open(&options)).unwrap().unwrap();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let relaying = scope.spawn(|| relay.run(&stop));
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                converse(&home);
            }));
            stop.store(true, Ordering::Relaxed);
            let passed = relaying.join().unwrap().unwrap();
            result.unwrap();
            assert!(passed.forward >= 4 && passed.back >= 3, "{passed:?}");
            assert_eq!(passed.discarded, 0);
        });
        let counters = scene.daemon.counters().unwrap();
        assert!(counters.get("acks") >= 2, "{datapath}: {counters:?}");
    }
}

/// The real client: obtains, renews on SIGUSR1, releases on SIGTERM.
fn converse(home: &Netns) {
    let mut command = home.command(portlease_binary().unwrap());
    command.args(["client", "--interface", "wan", "--multicast", "--output", "json"]);
    command.args(["--initial-delay", "0"]);
    let mut client = Process::start("portlease client", command).unwrap();
    let patience = Duration::from_secs(15);
    let field = |line: &str, name: &str| -> serde_json::Value {
        serde_json::from_str::<serde_json::Value>(line).unwrap()[name].clone()
    };
    let obtained = client.wait_for("\"obtained\"", 0, patience).unwrap();
    assert_eq!(field(&obtained, "shared"), true);
    assert_eq!(field(&obtained, "psid_length"), 6);
    assert_eq!(field(&obtained, "port_count"), 1024);
    client.signal(sys::Signal::User1).unwrap();
    let renewed = client.wait_for("\"renewed\"", 0, patience).unwrap();
    for name in ["address", "psid", "server_id"] {
        assert_eq!(field(&obtained, name), field(&renewed, name));
    }
    let status = client.terminate(patience).unwrap();
    assert!(status.success(), "{status}: {}", client.log());
    client.wait_for("\"released\"", 0, patience).unwrap();
}
