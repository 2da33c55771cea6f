//! A lease's whole life on each datapath, direct and through two relays.

use std::{collections::BTreeSet, net::SocketAddrV6};

use bench_rigs::{
    error::Result,
    exchange::{Talker, expect},
    load::{Backend, Backoff, Control, Load, Mix, Options, Pace, Place},
    message::{Identity, Message},
    stage::LINK,
};
use portlease::wire::{
    dhcpv4::MessageType,
    dhcpv6::{CLIENT_PORT, Response},
};

use crate::scene::{Scene, two_relays};

/// Obtain, renew, rebind, restart, release, and obtain again.
fn live(datapath: &str, relayed: bool) -> Result<()> {
    let scene = Scene::new(datapath)?;
    let by_socket_before = scene.socket_datagrams()?;
    let talker = scene.talker(relayed)?;
    let one = Identity::new(0, 1);
    let lease = talker.obtain(&one)?;
    let ports = lease.ports.expect("a shared address");
    assert_eq!((ports.offset, ports.psid_length), (0, 6));
    assert!((1..64).contains(&ports.psid), "PSID 0 holds the well-known ports: {ports:?}");
    assert!(["192.0.2.18", "192.0.2.19"].contains(&lease.address.to_string().as_str()));
    assert_eq!(lease.lease_seconds, 3600);

    talker.extend(&one, &Message::renew(&one, 11, &lease), &lease)?;
    talker.extend(&one, &Message::rebind(&one, 12, &lease), &lease)?;
    talker.extend(&one, &Message::reboot(&one, 13, &lease), &lease)?;

    let two = Identity::new(0, 2);
    let other = talker.obtain(&two)?;
    assert_ne!(other.tuple(), lease.tuple());

    talker.expect_silence(&one, &Message::release(&one, 14, &lease))?;
    let again = talker.obtain(&one)?;
    assert_eq!(again.tuple(), lease.tuple(), "a client gets back what it released");
    talker.extend(&two, &Message::renew(&two, 15, &other), &other)?;

    let counters = scene.daemon.counters()?;
    let by_socket = scene.socket_datagrams()? - by_socket_before;
    if datapath == "socket" {
        assert!(by_socket >= 10, "the socket saw {by_socket}");
    } else {
        assert_eq!(by_socket, 0, "the kernel's sockets must see nothing");
        assert!(counters.get("xdp-steered") >= 10, "{counters:?}");
    }
    Ok(())
}

#[test]
fn direct_over_native_xdp() {
    live("xdp-native", false).unwrap();
}

#[test]
fn relayed_over_native_xdp() {
    live("xdp-native", true).unwrap();
}

#[test]
fn direct_over_generic_xdp() {
    live("xdp-generic", false).unwrap();
}

#[test]
fn relayed_over_generic_xdp() {
    live("xdp-generic", true).unwrap();
}

#[test]
fn direct_over_the_socket() {
    live("socket", false).unwrap();
}

#[test]
fn relayed_over_the_socket() {
    live("socket", true).unwrap();
}

/// Each level comes back with its own hop count, link-address, peer-address and Interface-Id, and nothing else.
#[test]
fn relay_levels_come_back_as_they_came() {
    for datapath in ["xdp-native", "socket"] {
        let scene = Scene::new(datapath).unwrap();
        let talker = scene.relayed().unwrap();
        let one = Identity::new(0, 1);
        let discover = Message::discover(&one, 77);
        let payload = talker.ask_once(&one, &discover).unwrap().expect("an answer");
        let response = Response::parse(&payload).unwrap();
        let sent = two_relays();
        let levels: Vec<_> = response.relays.iter().collect();
        assert_eq!(levels.len(), sent.len());
        for (level, sent) in levels.iter().zip(&sent) {
            assert_eq!(level.hop_count(), sent.hop_count);
            assert_eq!(level.link_address(), sent.link_address);
            assert_eq!(level.peer_address(), sent.peer_address);
            assert_eq!(level.interface_id(), sent.interface_id);
            assert_eq!(level.option(37), None, "Remote-ID is not for the way back");
            assert_eq!(level.option(79), None);
        }
    }
}

/// A client that knows no server speaks from its link-local address to all of them, and is answered from one.
#[test]
fn multicast_queries_are_answered_from_a_link_local_address() {
    for datapath in ["xdp-native", "xdp-generic", "socket"] {
        let scene = Scene::with(datapath, |config| {
            config.links =
                config.links.replace("match = [", "match = [{ interface = \"pl-srv\" }, ");
        })
        .unwrap();
        let clients = scene.stage.clients_end();
        let source =
            SocketAddrV6::new(clients.link_local(), CLIENT_PORT, 0, clients.index().unwrap());
        let server = scene.stage.multicast().unwrap();
        let talker = Talker::open(&scene.stage.clients, source, server, Vec::new()).unwrap();
        let one = Identity::new(0, 1);
        talker.obtain(&one).unwrap();
        talker.send(&Message::discover(&one, 5).to_payload(&[])).unwrap();
        let (_, from) = talker.receive(std::time::Duration::from_secs(2)).unwrap().unwrap();
        assert_eq!(*from.ip(), scene.stage.server_end().link_local(), "{datapath}");
    }
}

/// 63 clients share each address; the next one gets nothing, and that is counted.
#[test]
fn an_exhausted_pool_offers_nothing_and_never_leases_reserved_ports() {
    let scene = Scene::new("xdp-native").unwrap();
    let talker = scene.direct().unwrap();
    let mut tuples = BTreeSet::new();
    for number in 0..126 {
        let lease = talker.obtain(&Identity::new(0, number)).unwrap();
        let ports = lease.ports.unwrap();
        assert!(!ports.ports().intersects(&(0..=1023)), "client {number} got {lease:?}");
        assert!(tuples.insert((lease.address, ports.psid)), "client {number} got {lease:?}");
    }
    let addresses: BTreeSet<_> = tuples.iter().map(|&(address, _)| address).collect();
    for address in addresses {
        assert_eq!(tuples.range((address, 0)..=(address, u16::MAX)).count(), 63);
    }
    let before = scene.daemon.counters().unwrap();
    let late = Identity::new(0, 126);
    talker.expect_silence(&late, &Message::discover(&late, 1)).unwrap();
    let counters = scene.daemon.counters().unwrap();
    assert_eq!(counters.get("pool-exhausted") - before.get("pool-exhausted"), 1);
    let holder = Identity::new(0, 7);
    let answer = talker.ask(&holder, &Message::discover(&holder, 2)).unwrap();
    expect(&answer, MessageType::Offer).unwrap();
}

/// A client whose requests list no port parameters gets nothing where all addresses are shared.
#[test]
fn a_client_that_cannot_share_is_left_alone() {
    let scene = Scene::new("xdp-native").unwrap();
    let talker = scene.direct().unwrap();
    let one = Identity::new(0, 1);
    let before = scene.daemon.counters().unwrap();
    talker.expect_silence(&one, &Message::discover(&one, 1).without_sharing()).unwrap();
    let counters = scene.daemon.counters().unwrap();
    assert_eq!(counters.get("no-159-in-prl") - before.get("no-159-in-prl"), 1);
}

/// Clients spread over source addresses reach more than one worker, and none gets what another has.
#[test]
fn several_queues_serve_one_table() {
    let scene = Scene::with("xdp-native", |config| {
        config.links =
            bench_rigs::daemon::link("L1", "2001:db8:1::/64", &["10.0.0.0-10.0.0.63"], 0, 6);
    })
    .unwrap();
    let prefix = u128::from(LINK) & !0xffff;
    let sources = (0x100..0x110_u128).map(|host| (prefix | host).into()).collect();
    let options = Options {
        place: Place {
            server: scene.stage.unicast(),
            sources,
            foreign: true,
            interface: None,
            relay: None,
        },
        backend: Backend::Udp,
        clients: 2000,
        seed: 3,
        sharing: true,
        pace: Pace::Closed { window: 64 },
        backoff: Backoff::Fixed { timeout: std::time::Duration::from_secs(1), tries: Some(8) },
        reserved: vec![0..=1023],
        server_id: None,
        release_rate: 10_000.0,
        mix: Mix::even(),
        progress: false,
    };
    let mut load = scene.stage.clients.enter(|| Load::new(options)).unwrap().unwrap();
    let control = Control::default();
    for phase in ["new", "renew", "rebind", "reboot", "mixed=4000", "renew"] {
        load.run(phase.parse().unwrap(), &control).unwrap();
    }
    let summary = load.summary();
    assert!(!summary.violated() && summary.unanswered() == 0, "{summary}");
}
