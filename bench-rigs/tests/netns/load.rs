//! The load generator's AF_XDP backend against the real daemon: every exchange ends, and nothing contradicts.

use std::{net::UdpSocket, time::Duration};

use bench_rigs::{
    load::{
        Attach, Backend, Backoff, Control, Load, Mix, Options, Pace, Place, RelayPlace, Summary,
        XdpPlace,
    },
    stage::{CLIENT, CLIENT_INTERFACE, LINK, RELAY, SERVER},
};

use crate::scene::Scene;

fn backend(attach: Attach) -> Backend {
    Backend::Xdp(XdpPlace {
        interface: CLIENT_INTERFACE.to_owned(),
        attach,
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
        assert_eq!(counters.get("bad-checksum"), 0, "{counters:?}");
    }
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
