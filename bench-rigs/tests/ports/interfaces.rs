//! Facts about interfaces, and what changes about them.

use std::time::Instant;

use bench_rigs::stage::{CLIENT_INTERFACE, SERVER, SERVER_INTERFACE, SERVER_MAC, Stage};
use portlease::net::{
    Port,
    link::{Change, Watch},
    steer::Mode,
    sys::WakeFd,
};

use crate::rig::{PATIENCE, Station, XdpRig, check, facts, frame};

/// What `watch` tells when it tells something.
fn changes(stage: &Stage, watch: &mut Watch) -> Vec<Change> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let changes = stage.server.enter(|| watch.poll()).unwrap().unwrap();
        if !changes.is_empty() || Instant::now() > deadline {
            return changes;
        }
    }
}

#[test]
fn facts_are_read_and_followed() {
    let stage = Stage::new(4).unwrap();
    let facts = facts(&stage);
    assert_eq!(facts.index, stage.server_end().index().unwrap());
    assert_eq!((facts.mac, facts.mtu, facts.queues), (SERVER_MAC, 1_500, 4));
    assert!(facts.is_up && facts.is_running);
    let reach = facts.reach();
    assert_eq!(reach.global, Some(SERVER));
    assert_eq!(reach.link_local, Some(stage.server_end().link_local()));

    let mut watch = Watch::new(facts);
    assert_eq!(stage.server.enter(|| watch.poll()).unwrap().unwrap(), []);
    let mut told = |command: &str| {
        stage.server.run(command).unwrap();
        changes(&stage, &mut watch)
    };
    let interface = SERVER_INTERFACE;
    let told_queues = told(&format!("ethtool -L {interface} rx 2 tx 2"));
    assert_eq!(told_queues, [Change::Queues { from: 4, to: 2 }]);
    let told_mtu = told(&format!("ip link set {interface} mtu 1400"));
    assert_eq!(told_mtu, [Change::Mtu { from: 1_500, to: 1_400 }]);
    let told_address = told(&format!("ip addr add 2001:db8::7/64 dev {interface} nodad"));
    assert_eq!(told_address, [Change::Addresses]);
    assert!(told(&format!("ip link set {interface} down")).contains(&Change::Down));
    assert!(told(&format!("ip link set {interface} up")).contains(&Change::Up));
    assert_eq!(told(&format!("ip link del {interface}")), [Change::Vanished]);
    assert!(watch.facts().is_none());
    stage.server.ip(&format!("link add {interface} type veth peer name other")).unwrap();
    assert_eq!(changes(&stage, &mut watch), [Change::Appeared]);
}

#[test]
fn a_port_survives_its_interface_and_says_so() {
    for mode in [Mode::Native, Mode::Generic] {
        let stage = Stage::new(1).unwrap();
        let mut rig = XdpRig::new(&stage, mode);
        let station = Station::new(&stage);
        station.send(&frame(b"park"));
        rig.serve(1);
        stage.server.ip(&format!("link del {SERVER_INTERFACE}")).unwrap();
        let port = &mut rig.ports[0];
        port.send(rig.mirror.parked.pop().unwrap());
        let wake = WakeFd::new().unwrap();
        let deadline = Instant::now() + PATIENCE;
        let error = loop {
            assert!(Instant::now() < deadline, "the port does not notice");
            if let Err(error) = port.flush().and_then(|()| port.wait(1, &wake)) {
                break error;
            }
        };
        assert!(error.to_string().contains(SERVER_INTERFACE), "{error}");
        drop(rig);
        // The same names again, and nothing is in the way.
        drop(station);
        stage.server.ip(&format!("link show dev {SERVER_INTERFACE}")).unwrap_err();
        stage.clients.ip(&format!("link show dev {CLIENT_INTERFACE}")).unwrap_err();
        let again = Stage::new(1).unwrap();
        let mut rig = XdpRig::new(&again, mode);
        let station = Station::new(&again);
        let asked = frame(b"again");
        station.send(&asked);
        rig.serve(1);
        check(&asked, &station.receive(PATIENCE).unwrap(), SERVER);
    }
}
