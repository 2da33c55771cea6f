//! Stateless DHCPv6 by the real daemon: clients that ask where the DHCP 4o6 servers are, beside
//! queries that XDP steers.

use std::{
    net::{Ipv6Addr, SocketAddrV6},
    time::Duration,
};

use bench_rigs::{
    daemon::{Config, Daemon, START_TIMEOUT},
    error::Result,
    exchange::Talker,
    message::Identity,
    stage::{RELAY, SERVER, SERVER_INTERFACE, Stage},
};
use portlease::wire::{
    dhcpv6::{self, CLIENT_PORT, RelayForward, Reply, put_option, server_addresses},
    writer::Writer,
};

use crate::scene::{DATAPATHS, QUEUES, Scene, folder, reasons, two_relays};

/// All that can be told.
const INFORMATION: &str = "[information]\nservers = [\"2001:db8:ffff::547\"]\nrefresh = \"12h\"\n\
                           br = [\"2001:db8::b1\"]\nlw = { br = [\"2001:db8::b1\"] }\n\
                           priority = [88, 96]\n";

const TRANSACTION: [u8; 3] = [0x0a, 0x0b, 0x0c];
const CLIENT_DUID: &[u8] = &[0, 3, 0, 1, 2, 0, 0, 0, 0, 1];

/// How long an answer may take, and how long silence is listened to.
const PATIENCE: Duration = Duration::from_secs(5);
const SILENCE: Duration = Duration::from_millis(300);

/// An Information-request for options 88, 32, 90, 96 and 111.
fn request(relays: &[RelayForward<'_>]) -> Vec<u8> {
    let mut buffer = vec![0; 1024];
    let mut w = Writer::new(&mut buffer);
    let envelope = dhcpv6::begin_information_request(&mut w, relays, TRANSACTION);
    put_option(&mut w, dhcpv6::OPTION_CLIENT_ID, CLIENT_DUID);
    put_option(&mut w, dhcpv6::OPTION_ELAPSED_TIME, &[0, 0]);
    let codes: Vec<u8> = [88_u16, 32, 90, 96, 111].iter().flat_map(|c| c.to_be_bytes()).collect();
    put_option(&mut w, dhcpv6::OPTION_REQUEST, &codes);
    envelope.finish(&mut w);
    let length = w.finish().unwrap();
    buffer.truncate(length);
    buffer
}

/// A client that knows nothing but its link-local address, and the group of all servers.
fn newcomer(stage: &Stage) -> Result<Talker<'static>> {
    let clients = stage.clients_end();
    let source = SocketAddrV6::new(clients.link_local(), CLIENT_PORT, 0, clients.index()?);
    Talker::open(&stage.clients, source, stage.multicast()?, Vec::new())
}

/// What is told in the answer to `payload`, and who tells it.
fn ask(talker: &Talker<'_>, payload: &[u8]) -> (Vec<u8>, Ipv6Addr) {
    talker.send(payload).unwrap();
    let (octets, from) = talker.receive(PATIENCE).unwrap().expect("an answer");
    (octets, *from.ip())
}

fn informed(datapath: &str) {
    let scene = Scene::with(datapath, |config| config.links.push_str(INFORMATION)).unwrap();
    let talker = newcomer(&scene.stage).unwrap();
    let (octets, from) = ask(&talker, &request(&[]));
    assert_eq!(from, scene.stage.server_end().link_local(), "{datapath}");
    let reply = Reply::parse(&octets).unwrap();
    assert_eq!(reply.transaction, TRANSACTION);
    assert_eq!(reply.option(1), Some(CLIENT_DUID));
    let servers: Vec<Ipv6Addr> = server_addresses(reply.option(88).unwrap()).unwrap().collect();
    assert_eq!(servers, [SERVER]);
    assert_eq!(reply.option(32), Some(&(12 * 3600_u32).to_be_bytes()[..]));
    let relay: Ipv6Addr = "2001:db8::b1".parse().unwrap();
    assert_eq!(reply.option(90), Some(&relay.octets()[..]));
    assert_eq!(reply.option(96), Some(&[&[0, 90, 0, 16][..], &relay.octets()].concat()[..]));
    assert_eq!(reply.option(111), Some(&[0, 88, 0, 96][..]));

    // Who has been told asks the server for a lease: by XDP, if there is one.
    let lease = scene.direct().unwrap().obtain(&Identity::new(0, 1)).unwrap();
    assert!(lease.ports.is_some());

    let relayed = scene.relayed().unwrap();
    let (octets, from) = ask(&relayed, &request(&two_relays()));
    assert_eq!(from, SERVER, "from the address that was asked");
    let reply = Reply::parse(&octets).unwrap();
    let levels: Vec<_> = reply.relays.iter().collect();
    assert_eq!(levels.len(), 2);
    for (level, sent) in levels.iter().zip(&two_relays()) {
        assert_eq!(level.hop_count(), sent.hop_count);
        assert_eq!(level.link_address(), sent.link_address);
        assert_eq!(level.peer_address(), sent.peer_address);
        assert_eq!(level.interface_id(), sent.interface_id);
    }
    assert!(reply.option(88).is_some());

    let counters = scene.daemon.counters().unwrap();
    assert_eq!(counters.get("information-replies"), 2, "{datapath}: {counters:?}");
    if datapath != "socket" {
        assert!(counters.get("xdp-steered") >= 2, "{counters:?}");
        assert!(counters.get("xdp-pass-not-query") >= 2, "{counters:?}");
    }
}

#[test]
fn clients_are_told_beside_native_xdp() {
    informed("xdp-native");
}

#[test]
fn clients_are_told_beside_generic_xdp() {
    informed("xdp-generic");
}

#[test]
fn clients_are_told_by_the_socket() {
    informed("socket");
}

/// Without the section nobody is told anything; and with it not whoever asks as he must not.
#[test]
fn who_must_not_be_told_is_not_and_is_counted() {
    for datapath in DATAPATHS {
        for (section, unicast, reason) in
            [("", false, "information-off"), (INFORMATION, true, "information-unicast")]
        {
            let scene = Scene::with(datapath, |config| config.links.push_str(section)).unwrap();
            let talker = if unicast { scene.direct() } else { newcomer(&scene.stage) }.unwrap();
            talker.send(&request(&[])).unwrap();
            assert_eq!(talker.receive(SILENCE).unwrap(), None, "{datapath}: {reason}");
            let counters = scene.daemon.counters_when(|now| now.get(reason) > 0).unwrap();
            let moved: Vec<_> =
                reasons().into_iter().filter(|name| counters.get(name) > 0).collect();
            assert_eq!(moved, [reason], "{datapath}: {counters:?}");
            assert_eq!(counters.get(reason), 1);
        }
    }
}

/// Clients that have met a server know it again when it comes back.
#[test]
fn the_server_keeps_its_duid_as_long_as_its_store() {
    let stage = Stage::new(QUEUES).unwrap();
    let folder = folder().unwrap();
    let mut config = Config::new(SERVER_INTERFACE, SERVER, "xdp-native");
    config.store = Some(folder.path().join("store"));
    config.links.push_str(INFORMATION);
    let talker = newcomer(&stage).unwrap();
    let met = || {
        let mut daemon = Daemon::start(&stage.server, &config, folder.path()).unwrap();
        let (octets, _) = ask(&talker, &request(&[]));
        let duid = Reply::parse(&octets).unwrap().option(2).unwrap().to_vec();
        let text = duid.iter().fold(String::new(), |text, octet| format!("{text}{octet:02x}"));
        assert!(daemon.log().contains(&text), "the log names it: {}", daemon.log());
        daemon.kill().unwrap();
        duid
    };
    let first = met();
    assert_eq!((first.len(), &first[..2]), (18, &[0, 4][..]), "a DUID-UUID");
    assert_eq!(met(), first);
}

/// What cannot work is said before anything starts.
#[test]
fn it_is_refused_where_the_port_is_left_to_another_server() {
    let stage = Stage::new(1).unwrap();
    let folder = folder().unwrap();
    let mut config = Config::new(SERVER_INTERFACE, SERVER, "xdp-native");
    config.udp = false;
    config.links.push_str(INFORMATION);
    let mut daemon = Daemon::spawn(&stage.server, &config, folder.path()).unwrap();
    let status = daemon.process().wait_exit(START_TIMEOUT).unwrap();
    assert!(!status.success());
    assert!(daemon.log().contains("server.udp is false"), "{}", daemon.log());
}

/// A relay's own unicast is no client's.
#[test]
fn a_relay_may_ask_for_its_clients_by_unicast_from_any_address() {
    let scene = Scene::with("socket", |config| config.links.push_str(INFORMATION)).unwrap();
    let source = SocketAddrV6::new(RELAY, 547, 0, 0);
    let server = scene.stage.unicast();
    let talker = Talker::open(&scene.stage.clients, source, server, Vec::new()).unwrap();
    let (octets, _) = ask(&talker, &request(&two_relays()[1..]));
    assert_eq!(Reply::parse(&octets).unwrap().relays.levels(), 1);
}
