//! perf4o6 as a program against the real daemon: storms, mixed work, an avalanche on a server that comes late, and a
//! server that lies.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddrV6, UdpSocket},
    path::Path,
    process::Output,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use bench_rigs::{
    daemon::{Config, Daemon},
    frame::Frame,
    load::Summary,
    message::Answer,
    pcap,
    stage::{CLIENT, SERVER, SERVER_INTERFACE, Stage},
};
use portlease::wire::{
    dhcpv4::{self, Header, MessageType, View},
    dhcpv6::Query,
    portparams::PortParams,
    writer::Writer,
};

use crate::scene::{QUEUES, Scene, folder};

/// Runs the generator among the clients, with a JSON result in `folder`.
fn perf4o6(stage: &Stage, folder: &Path, arguments: &str) -> (Output, Summary) {
    let json = folder.join("result.json");
    let mut command = stage.clients.command(env!("CARGO_BIN_EXE_perf4o6"));
    command.args(["--quiet", "--json"]).arg(&json);
    command.args(["--server", &SERVER.to_string()]).args(arguments.split_whitespace());
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let text = fs::read_to_string(&json).unwrap_or_else(|_| panic!("no result: {said}"));
    (output, serde_json::from_str(&text).unwrap())
}

/// The daemon with room for so many clients.
fn scene(clients: u32) -> Scene {
    Scene::with("xdp-native", |config| *config = config.clone().for_clients(2 * clients)).unwrap()
}

#[test]
fn storms_and_a_mix_end_well_and_are_drawn() {
    let scene = scene(3000);
    let plots = scene.folder.path().join("plots");
    let phases = "new,reboot-storm,mixed=9000,renew=0.3s@rate:2000,rebind=0.3s@ramp:1k-3k/0.3s,\
                  release-storm,avalanche";
    let arguments = format!(
        "--source 2001:db8:1::100 --sources 8 --foreign-sources --clients 3000 --phases {phases} \
         --mix new=30,renew=40,rebind=10,reboot=10,release=10 --time-scale 0.05 --plots {}",
        plots.display()
    );
    let (output, summary) = perf4o6(&scene.stage, scene.folder.path(), &arguments);
    assert!(output.status.success(), "{summary}");
    let phase = |number: usize| &summary.phases[number];
    assert_eq!((phase(0).completed, phase(1).completed), (3000, 3000), "{summary}");
    assert_eq!(phase(1).answers["reboot-ack"].count, 3000);
    let kinds: Vec<_> = phase(2).answers.keys().map(String::as_str).collect();
    assert_eq!(kinds, ["ack", "offer", "rebind-ack", "reboot-ack", "renew-ack"]);
    // 600 are expected at 2000 a second; so many are all but certain.
    assert!((450..750).contains(&phase(3).completed), "{summary}");
    assert!((450..750).contains(&phase(4).completed), "{summary}");
    assert_eq!(summary.leases, 3000, "{summary}");
    let drawn = fs::read_dir(&plots).unwrap().count();
    assert_eq!(drawn, 1 + 2 * summary.phases.len());
    let svg = fs::read_to_string(plots.join("2-reboot-storm-latency.svg")).unwrap();
    assert!(svg.contains("reboot-ack") && svg.ends_with("</svg>\n"));
}

#[test]
fn an_avalanche_reaches_a_server_that_comes_late() {
    let stage = Stage::new(QUEUES).unwrap();
    let folder = folder().unwrap();
    let config = Config::new(SERVER_INTERFACE, SERVER, "xdp-native").for_clients(4000);
    let summary = std::thread::scope(|scope| {
        let arguments = format!(
            "--source {CLIENT} --clients 2000 --phases avalanche,renew --time-scale 0.25 --tries 8"
        );
        let run = scope.spawn(|| perf4o6(&stage, folder.path(), &{ arguments }));
        // The first wait is over 3/4 s: the daemon is there for later tries only.
        std::thread::sleep(Duration::from_millis(300));
        let _daemon = Daemon::start(&stage.server, &config, folder.path()).unwrap();
        let (output, summary) = run.join().unwrap();
        assert!(output.status.success(), "{summary}");
        summary
    });
    let avalanche = &summary.phases[0];
    assert_eq!((avalanche.completed, avalanche.unanswered), (2000, 0), "{summary}");
    assert!(avalanche.retransmitted >= 2000, "{summary}");
    // Nobody was served before a quarter of 3 s, since latencies count from the start.
    assert!(avalanche.latency.min_us >= 700_000, "{summary}");
    assert!(!summary.violated() && summary.phases[1].completed == 2000, "{summary}");
}

#[test]
fn many_relays_and_a_scenario_file() {
    let scene = scene(1000);
    let file = scene.folder.path().join("relays.toml");
    let text = "source = [\"2001:db8:1::200\"]\nsources = 16\nforeign-sources = true\n\
                relay = \"2001:db8:1::1\"\nrelay-step = 128\ninterface-id = true\n\
                clients = 1000\nphases = [\"new\", \"renew\"]\npace = \"window:32\"\n";
    fs::write(&file, text).unwrap();
    let arguments = format!("--scenario {} --phases new,renew,release", file.display());
    let (output, summary) = perf4o6(&scene.stage, scene.folder.path(), &arguments);
    assert!(output.status.success(), "{summary}");
    assert_eq!(summary.phases.len(), 3);
    assert_eq!(summary.phases[1].completed, 1000);
    assert_eq!(summary.scenario["relay-step"], 128);
}

#[test]
fn a_search_finds_a_rate_and_reports_its_trials() {
    let scene = scene(4000);
    let arguments = format!(
        "--source {CLIENT} --clients 2000 --phases new,renew@search --search-from 500 \
         --trial-seconds 0.2 --warm-up-seconds 0.05 --precision-percent 40 --loss-percent 5"
    );
    let (output, summary) = perf4o6(&scene.stage, scene.folder.path(), &arguments);
    assert!(matches!(output.status.code(), Some(0)), "{summary}");
    let found = summary.phases[1].search.as_ref().unwrap();
    assert!(found.rate.unwrap() >= 500.0 && found.trials.len() > 3, "{summary}");
    assert!(!summary.violated(), "{summary}");
}

#[test]
fn usage_and_silence_have_their_exit_codes() {
    let stage = Stage::new(1).unwrap();
    let folder = folder().unwrap();
    let arguments = format!("--source {CLIENT} --clients 3 --phases new --timeout-ms 20 --tries 2");
    let (output, summary) = perf4o6(&stage, folder.path(), &arguments);
    assert_eq!(output.status.code(), Some(3), "{summary}");
    assert_eq!((summary.unanswered(), summary.phases[0].retransmitted), (3, 3));
    let file = folder.path().join("bad.toml");
    fs::write(&file, "clients = 5\nclints = 6\n").unwrap();
    let mut command = stage.clients.command(env!("CARGO_BIN_EXE_perf4o6"));
    let output = command.arg("--scenario").arg(&file).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("bad.toml") && said.contains("line 2") && said.contains("clints"),
        "{said}"
    );
}

/// A server that promises everybody the same ports, until it is told to stop.
fn lie(socket: &UdpSocket, stop: &AtomicBool) {
    socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let mut buffer = [0; 1500];
    while !stop.load(Ordering::Relaxed) {
        let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
        socket.send_to(&promise(&buffer[..length]), from).unwrap();
    }
}

/// OFFER or ACK of one and the same tuple.
fn promise(payload: &[u8]) -> Vec<u8> {
    let query = Query::parse(payload).unwrap();
    let view = View::parse_request(query.message).unwrap();
    let mut identifier = [0; 64];
    let length = view.client_identifier().and_then(|value| value.copy_to(&mut identifier)).unwrap();
    let kind = match view.kind() {
        MessageType::Discover => MessageType::Offer,
        _ => MessageType::Ack,
    };
    let mut buffer = [0; 1500];
    let mut w = Writer::new(&mut buffer);
    let zero = Ipv4Addr::UNSPECIFIED;
    let header = Header {
        op: 2,
        hardware_type: 1,
        hardware_length: 6,
        xid: view.xid(),
        seconds: 0,
        flags: 0,
        ciaddr: zero,
        yiaddr: Ipv4Addr::new(192, 0, 2, 18),
        siaddr: zero,
        giaddr: zero,
        chaddr: [0; 16],
    };
    header.emit(&mut w);
    dhcpv4::put_message_type(&mut w, kind);
    dhcpv4::put_address(&mut w, 54, Ipv4Addr::new(192, 0, 2, 254));
    dhcpv4::put_u32(&mut w, 51, 3600);
    dhcpv4::put_option(&mut w, 61, &identifier[..length]);
    dhcpv4::put_port_params(&mut w, PortParams { offset: 0, psid_length: 6, psid: 5 });
    dhcpv4::put_end(&mut w);
    let length = w.finish().unwrap();
    // DHCPV4-RESPONSE with its option 87 (RFC 7341 §6.2).
    let mut response = vec![21, 0, 0, 0, 0, 87];
    response.extend(u16::try_from(length).unwrap().to_be_bytes());
    response.extend(&buffer[..length]);
    response
}

#[test]
fn a_server_that_lies_is_caught_and_its_lie_is_in_the_capture() {
    let stage = Stage::new(1).unwrap();
    let folder = folder().unwrap();
    let capture = folder.path().join("wrong.pcap");
    let address = SocketAddrV6::new(SERVER, 547, 0, 0);
    let socket = stage.server.enter(|| UdpSocket::bind(address)).unwrap().unwrap();
    let stop = AtomicBool::new(false);
    let (output, summary) = std::thread::scope(|scope| {
        scope.spawn(|| lie(&socket, &stop));
        let arguments =
            format!("--source {CLIENT} --clients 10 --phases new --wrong {}", capture.display());
        let result = perf4o6(&stage, folder.path(), &arguments);
        stop.store(true, Ordering::Relaxed);
        result
    });
    assert_eq!(output.status.code(), Some(1), "{summary}");
    assert_eq!(summary.violations["held-twice"], 9, "{summary}");
    let packets = pcap::read(&capture).unwrap();
    assert_eq!(packets.len(), 9);
    for (_, _, octets) in packets {
        let frame = Frame::read(&octets).unwrap();
        assert!(frame.is_checksum_right());
        assert_eq!((frame.source, frame.source_port, frame.destination), (SERVER, 547, CLIENT));
        let answer = Answer::read(&frame.payload, |_| None).unwrap();
        assert_eq!(answer.kind, MessageType::Ack);
        assert_eq!(answer.lease.address, Ipv4Addr::new(192, 0, 2, 18));
    }
}
