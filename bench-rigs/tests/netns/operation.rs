//! What an operator does to the daemon and its host: stops, kills, starts twice, takes interfaces down.

use std::{net::SocketAddrV6, time::Duration};

use bench_rigs::{
    daemon::{Config, Daemon, Process, START_TIMEOUT, portlease_binary},
    error::Result,
    exchange::Talker,
    message::{Identity, Message},
    stage::{CLIENT, SERVER, SERVER_INTERFACE, Stage},
    sys::{self, Binding},
};

use crate::scene::{DATAPATHS, QUEUES, Scene, XDP, folder};

/// How XDP is attached to the server's interface, as the kernel tells: 1 native, 2 generic; none if it is not.
fn attached(stage: &Stage) -> Result<Option<u64>> {
    let text = stage.server.run(&format!("ip -json link show dev {SERVER_INTERFACE}"))?;
    let links: serde_json::Value = serde_json::from_str(&text).expect("JSON of ip");
    Ok(links[0]["xdp"]["mode"].as_u64())
}

/// Whether the server's port is free in the server's namespace.
fn port_is_free(stage: &Stage) -> bool {
    let binding = Binding {
        address: SocketAddrV6::new(SERVER, 547, 0, 0),
        foreign: false,
        interface: None,
        receive_buffer: None,
    };
    stage.server.enter(|| sys::udp_socket(&binding)).unwrap().is_ok()
}

/// XDP is attached in the mode that was asked for, and gone after the daemon, however it ended.
#[test]
fn nothing_stays_behind_after_exit_or_kill() {
    for (datapath, mode) in DATAPATHS.into_iter().zip([Some(1), Some(2), None]) {
        let mut scene = Scene::new(datapath).unwrap();
        assert_eq!(attached(&scene.stage).unwrap(), mode, "{datapath}");
        let status = scene.daemon.stop().unwrap();
        assert!(status.success(), "{datapath}: {status}: {}", scene.daemon.log());
        assert_eq!(attached(&scene.stage).unwrap(), None, "{datapath} after SIGTERM");
        assert!(port_is_free(&scene.stage));

        let config = Config::new(SERVER_INTERFACE, SERVER, datapath);
        let daemon = Daemon::start(&scene.stage.server, &config, scene.folder.path());
        scene.daemon = daemon.unwrap();
        assert_eq!(attached(&scene.stage).unwrap(), mode, "{datapath}");
        scene.daemon.kill().unwrap();
        assert_eq!(attached(&scene.stage).unwrap(), None, "{datapath} after SIGKILL");
        assert!(port_is_free(&scene.stage));
    }
}

/// SIGTERM under load: what was acknowledged is durable, the exit is clean, and the counters are in the log.
#[test]
fn a_stop_under_load_drains_and_loses_nothing() {
    let store = folder().unwrap();
    let with_store = |config: &mut Config| config.store = Some(store.path().to_path_buf());
    let mut scene = Scene::with("xdp-native", with_store).unwrap();
    let talker = scene.direct().unwrap();
    let mut leases = Vec::new();
    for number in 0..50 {
        let identity = Identity::new(0, number);
        leases.push((identity, talker.obtain(&identity).unwrap()));
    }
    for (identity, lease) in &leases {
        let renewal = Message::renew(identity, 1, lease).to_payload(&[]);
        talker.send(&renewal).unwrap();
    }
    let status = scene.daemon.stop().unwrap();
    assert!(status.success(), "{status}: {}", scene.daemon.log());
    assert!(scene.daemon.log().contains("acks "), "{}", scene.daemon.log());

    let mut config = Config::new(SERVER_INTERFACE, SERVER, "xdp-native");
    with_store(&mut config);
    scene.daemon = Daemon::start(&scene.stage.server, &config, scene.folder.path()).unwrap();
    drop(talker);
    let talker = scene.direct().unwrap();
    for (identity, lease) in &leases {
        talker.extend(identity, &Message::reboot(identity, 2, lease), lease).unwrap();
    }
}

#[test]
fn a_second_daemon_on_the_store_is_refused() {
    let store = folder().unwrap();
    let with_store = |config: &mut Config| config.store = Some(store.path().to_path_buf());
    let scene = Scene::with("socket", with_store).unwrap();
    let other = Stage::new(1).unwrap();
    let mut config = Config::new(SERVER_INTERFACE, SERVER, "socket");
    with_store(&mut config);
    let files = folder().unwrap();
    let mut second = Daemon::spawn(&other.server, &config, files.path()).unwrap();
    let status = second.process().wait_exit(START_TIMEOUT).unwrap();
    assert!(!status.success());
    let log = second.log();
    let path = store.path().display().to_string();
    assert!(log.contains("use") && log.contains(&path), "{log}");
    scene.direct().unwrap().obtain(&Identity::new(0, 1)).unwrap();
}

/// Port 547 is taken: the message says so, and how to share it.
#[test]
fn a_taken_port_is_named_with_the_way_to_share_it() {
    let stage = Stage::new(1).unwrap();
    let binding = Binding {
        address: SocketAddrV6::new(std::net::Ipv6Addr::UNSPECIFIED, 547, 0, 0),
        foreign: false,
        interface: None,
        receive_buffer: None,
    };
    let _other = stage.server.enter(|| sys::udp_socket(&binding)).unwrap().unwrap();
    let files = folder().unwrap();
    let config = Config::new(SERVER_INTERFACE, SERVER, "xdp-native");
    let mut daemon = Daemon::spawn(&stage.server, &config, files.path()).unwrap();
    let status = daemon.process().wait_exit(START_TIMEOUT).unwrap();
    assert!(!status.success());
    let log = daemon.log();
    assert!(log.contains("547") && log.contains("udp = false"), "{log}");
}

/// The interface goes down and comes up: the daemon says so and serves again.
#[test]
fn an_interface_that_comes_back_is_served_again() {
    for datapath in DATAPATHS {
        let mut scene = Scene::new(datapath).unwrap();
        let talker = scene.direct().unwrap();
        let client = Identity::new(0, 1);
        let lease = talker.obtain(&client).unwrap();
        let from = scene.daemon.process().log_length();
        scene.stage.server.ip(&format!("link set {SERVER_INTERFACE} down")).unwrap();
        let patience = Duration::from_secs(10);
        scene.daemon.process().wait_for("down", from, patience).unwrap();
        scene.stage.server.ip(&format!("link set {SERVER_INTERFACE} up")).unwrap();
        scene.stage.route_back().unwrap();
        scene.daemon.process().wait_for("up", from, patience).unwrap();
        let renewal = Message::renew(&client, 1, &lease);
        talker.extend(&client, &renewal, &lease).unwrap();
        assert!(scene.daemon.stop().unwrap().success());
    }
}

/// The interface vanishes: the daemon says so, goes on, and serves the one that comes in its place.
#[test]
fn an_interface_that_vanishes_and_comes_again_is_served_again() {
    for datapath in DATAPATHS {
        let mut scene = Scene::new(datapath).unwrap();
        scene.direct().unwrap().obtain(&Identity::new(0, 1)).unwrap();
        let from = scene.daemon.process().log_length();
        scene.stage.server.ip(&format!("link del {SERVER_INTERFACE}")).unwrap();
        let patience = Duration::from_secs(10);
        let line = scene.daemon.process().wait_for(SERVER_INTERFACE, from, patience).unwrap();
        assert!(line.contains("gone") || line.contains("vanish"), "{line}");
        scene.stage.connect(QUEUES).unwrap();
        let client = Identity::new(0, 2);
        let talker = scene.direct().unwrap();
        // It may take a while until the daemon looks again; a client asks again for as long.
        bench_rigs::interrupt::wait_until("service", Duration::from_secs(30), || {
            talker.ask_once(&client, &Message::discover(&client, 1)).map(|answer| answer.is_some())
        })
        .unwrap_or_else(|error| panic!("{datapath}: {error}; {}", scene.daemon.log()));
        talker.obtain(&client).unwrap();
        assert!(scene.daemon.stop().unwrap().success(), "{}", scene.daemon.log());
    }
}

/// The number of queues grows under the daemon: it says so, and those that came later are served too, by the socket.
#[test]
fn an_interface_that_changes_its_queues_is_served_on_all_of_them() {
    for datapath in XDP {
        let stage = Stage::new(QUEUES).unwrap();
        // With native XDP an end needs at least as many queues to receive on as the other has to send on.
        stage.clients.run("ethtool -L clients rx 2 tx 1").unwrap();
        stage.server.run(&format!("ethtool -L {SERVER_INTERFACE} rx 1 tx 1")).unwrap();
        let files = folder().unwrap();
        let config = Config::new(SERVER_INTERFACE, SERVER, datapath);
        let daemon = Daemon::start(&stage.server, &config, files.path()).unwrap();
        let mut scene = Scene { daemon, stage, folder: files };
        let talker = scene.direct().unwrap();
        talker.obtain(&Identity::new(0, 1)).unwrap();
        let from = scene.daemon.process().log_length();
        // The kernel refuses to take away a queue that has a socket; more of them it gives.
        scene.stage.server.run(&format!("ethtool -L {SERVER_INTERFACE} rx 2 tx 2")).unwrap();
        let patience = Duration::from_secs(10);
        scene.daemon.process().wait_for("had 1 queues and now has 2", from, patience).unwrap();
        scene.daemon.process().wait_for("attached by", from, patience).unwrap();
        scene.stage.clients.run("ethtool -L clients rx 2 tx 2").unwrap();
        // Flows are spread over the queues by their addresses.
        for host in 0x20..0x30_u128 {
            let source = (u128::from(CLIENT) & !0xff | host).into();
            let server = scene.stage.unicast();
            let talker = Talker::direct(&scene.stage.clients, source, server).unwrap();
            talker.obtain(&Identity::new(0, u32::try_from(host).unwrap())).unwrap();
        }
        assert!(scene.daemon.stop().unwrap().success(), "{}", scene.daemon.log());
    }
}

/// A privilege is missing: the message names the capability.
#[test]
fn a_missing_capability_is_named() {
    for (without, named) in [("net_admin", "CAP_NET_ADMIN"), ("bpf,-sys_admin", "CAP_BPF")] {
        let stage = Stage::new(1).unwrap();
        let files = folder().unwrap();
        let config = Config::new(SERVER_INTERFACE, SERVER, "xdp-native");
        let path = files.path().join("portlease.toml");
        std::fs::write(&path, config.to_string()).unwrap();
        let mut command = stage.server.command("setpriv");
        command.arg(format!("--bounding-set=-{without}"));
        command.arg(portlease_binary().unwrap()).arg("run").arg("--config").arg(&path);
        let mut daemon = Process::start("portlease run", command).unwrap();
        let status = daemon.wait_exit(START_TIMEOUT).unwrap();
        assert!(!status.success());
        assert!(daemon.log().contains(named), "without {without}: {}", daemon.log());
    }
}

/// Somebody else's XDP program stays where it is: native XDP is refused by name, `auto` serves by the socket.
#[test]
fn a_foreign_xdp_program_is_left_in_place() {
    let stage = Stage::new(QUEUES).unwrap();
    let attach = || sys::XdpLink::attach_foreign(SERVER_INTERFACE);
    let _foreign = stage.server.enter(attach).unwrap().unwrap();
    let before = attached(&stage).unwrap();
    assert!(before.is_some());
    let files = folder().unwrap();
    let config = Config::new(SERVER_INTERFACE, SERVER, XDP[0]);
    let mut daemon = Daemon::spawn(&stage.server, &config, files.path()).unwrap();
    let status = daemon.process().wait_exit(START_TIMEOUT).unwrap();
    assert!(!status.success());
    let log = daemon.log();
    assert!(log.contains("XDP program") && log.contains(SERVER_INTERFACE), "{log}");

    let config = Config::new(SERVER_INTERFACE, SERVER, "auto");
    let daemon = Daemon::start(&stage.server, &config, files.path()).unwrap();
    let scene = Scene { daemon, stage, folder: files };
    scene.direct().unwrap().obtain(&Identity::new(0, 1)).unwrap();
    assert_eq!(attached(&scene.stage).unwrap(), before);
    assert!(scene.daemon.log().contains("socket"), "{}", scene.daemon.log());
}
