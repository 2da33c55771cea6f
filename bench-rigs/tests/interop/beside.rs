//! Kea's DHCPv6 server on our host, on our interface and on our port: the fast path takes what is ours, and everything
//! else reaches Kea.

use std::{
    net::{Ipv6Addr, SocketAddrV6},
    path::Path,
    time::Duration,
};

use bench_rigs::{
    daemon::{Config, Counters, Daemon, Process, folder_on_disk},
    error::Result,
    exchange::Talker,
    kea,
    load::{Backend, Backoff, Control, Load, Mix, Options, Pace, Place},
    message::Identity,
    stage::{CLIENT, CLIENT_INTERFACE, SERVER, SERVER_INTERFACE, Stage},
};
use portlease::wire::dhcpv6::{self, CLIENT_PORT, INFORMATION_REQUEST, REPLY};

use crate::scene::{PATIENCE, link, silences};

/// Message types of a DHCPv6 exchange (RFC 8415 §7.3).
const SOLICIT: u8 = 1;
const ADVERTISE: u8 = 2;
const REQUEST: u8 = 3;

/// Status Code (RFC 8415 §21.13), which nothing may carry that went well.
const OPTION_STATUS: u16 = 13;

/// Identity Association for Non-temporary Addresses (RFC 8415 §21.4).
const OPTION_IA_NA: u16 = 3;

/// Clients of ours during the load.
const CLIENTS: u32 = 3000;

/// Exchanges a second of four messages each that perfdhcp begins with Kea, and for how many seconds.
const SOLICITS: (u32, u32) = (100, 6);

/// Where option 88 sends clients.
const SERVERS: [Ipv6Addr; 2] = [SERVER, Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 0x548)];

fn put_option(message: &mut Vec<u8>, code: u16, content: &[u8]) {
    message.extend(code.to_be_bytes());
    message.extend(u16::try_from(content.len()).unwrap().to_be_bytes());
    message.extend(content);
}

/// A message of an ordinary DHCPv6 client that asks for option 88, with more options.
fn message(kind: u8, more: &[(u16, &[u8])]) -> Vec<u8> {
    let mut message = vec![kind, 0xab, 0xcd, kind];
    put_option(&mut message, dhcpv6::OPTION_CLIENT_ID, &[0, 3, 0, 1, 2, 0, 0, 0, 9, 9]);
    put_option(&mut message, dhcpv6::OPTION_ELAPSED_TIME, &[0, 0]);
    put_option(&mut message, dhcpv6::OPTION_REQUEST, &[0, 88, 0, 32]);
    for (code, content) in more {
        put_option(&mut message, *code, content);
    }
    message
}

/// Asks until the type that is expected comes back for the transaction. Gives its options.
fn ask(client: &Talker<'_>, message: &[u8], expected: u8) -> Vec<(u16, Vec<u8>)> {
    for _ in 0..5 {
        client.send(message).unwrap();
        while let Some((answer, _)) = client.receive(Duration::from_secs(1)).unwrap() {
            if answer[0] == expected && answer[1..4] == message[1..4] {
                let mut options = dhcpv6::Options::new(&answer[4..]);
                let list = options.by_ref().map(|(code, value)| (code, value.to_vec())).collect();
                assert!(options.is_exhausted());
                return list;
            }
        }
    }
    panic!("no answer of type {expected} to {message:02x?}");
}

fn find(options: &[(u16, Vec<u8>)], wanted: u16) -> Option<&[u8]> {
    options.iter().find(|(code, _)| *code == wanted).map(|(_, value)| &value[..])
}

/// What option 88 of an answer names.
fn servers(options: &[(u16, Vec<u8>)]) -> Vec<Ipv6Addr> {
    let content = find(options, dhcpv6::OPTION_4O6_SERVER).expect("option 88 in Kea's answer");
    dhcpv6::server_addresses(content).unwrap().collect()
}

/// Kea alone on the stage's server.
fn start_kea(stage: &Stage, folder: &Path) -> Result<Process> {
    let setup = kea::Setup {
        namespace: &stage.server,
        interface: SERVER_INTERFACE,
        address: SERVER,
        folder,
        threads: 0,
    };
    kea::start_dhcp6(&setup, &SERVERS)
}

/// Leaves port 547 to Kea, and has room for the load.
fn config() -> Config {
    let mut config = Config { udp: false, ..Config::new(SERVER_INTERFACE, SERVER, "xdp-native") };
    config.links = link(&["addresses = [\"192.0.2.0-192.0.2.63\"]\npsid-len = 6"]);
    config
}

fn load(stage: &Stage) -> Load {
    let options = Options {
        place: Place {
            server: stage.unicast(),
            // perfdhcp takes the interface's own.
            sources: vec![Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x20)],
            foreign: true,
            interface: None,
            relay: None,
        },
        backend: Backend::Udp,
        clients: CLIENTS,
        seed: 5,
        sharing: true,
        pace: Pace::Closed { window: 32 },
        backoff: Backoff::Fixed { timeout: Duration::from_secs(1), tries: Some(8) },
        reserved: vec![0..=1023],
        server_id: None,
        release_rate: 10_000.0,
        mix: Mix::even(),
        progress: false,
    };
    stage.clients.enter(|| Load::new(options)).unwrap().unwrap()
}

/// An ordinary client gets an address and option 88 from Kea, while one of ours gets a lease from us.
#[test]
fn an_ordinary_client_is_answered_by_kea_and_told_where_we_are() {
    let stage = Stage::new(1).unwrap();
    let folder = folder_on_disk("interop-").unwrap();
    let daemon = Daemon::start(&stage.server, &config(), folder.path()).unwrap();
    let _kea = start_kea(&stage, folder.path()).unwrap();
    let clients = stage.clients_end();
    let source = SocketAddrV6::new(clients.link_local(), CLIENT_PORT, 0, clients.index().unwrap());
    let client =
        Talker::open(&stage.clients, source, stage.multicast().unwrap(), Vec::new()).unwrap();

    let association: &[u8] = &[0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0];
    let solicit = message(SOLICIT, &[(OPTION_IA_NA, association)]);
    let advertise = ask(&client, &solicit, ADVERTISE);
    assert_eq!(servers(&advertise), SERVERS);
    let server_id = find(&advertise, dhcpv6::OPTION_SERVER_ID).expect("Kea's DUID");
    let offered = find(&advertise, OPTION_IA_NA).expect("an address");
    let wanted = [(dhcpv6::OPTION_SERVER_ID, server_id), (OPTION_IA_NA, offered)];
    let reply = ask(&client, &message(REQUEST, &wanted), REPLY);
    assert_eq!(servers(&reply), SERVERS);
    assert_eq!(find(&reply, OPTION_IA_NA), Some(offered));
    assert_eq!(find(&reply, OPTION_STATUS), None);

    let reply = ask(&client, &message(INFORMATION_REQUEST, &[]), REPLY);
    assert_eq!(servers(&reply), SERVERS);
    assert_eq!(
        find(&reply, dhcpv6::OPTION_INFORMATION_REFRESH_TIME),
        Some(&86_400_u32.to_be_bytes()[..])
    );

    let ours = Talker::direct(&stage.clients, CLIENT, stage.unicast()).unwrap();
    assert!(ours.obtain(&Identity::new(0, 1)).unwrap().ports.is_some());
    let counters = daemon.counters().unwrap();
    assert_eq!(counters.get("datagrams"), 2, "DISCOVER and REQUEST alone: {counters:?}");
    assert_eq!(silences(&counters, &Counters::default()), [], "{counters:?}");
}

/// Both under load at once: every lease of ours is right, and Kea leaves no exchange unfinished.
#[test]
fn kea_and_we_serve_one_port_under_load() {
    let stage = Stage::new(1).unwrap();
    let folder = folder_on_disk("interop-").unwrap();
    let daemon = Daemon::start(&stage.server, &config(), folder.path()).unwrap();
    let _kea = start_kea(&stage, folder.path()).unwrap();
    let mut load = load(&stage);

    let (rate, seconds) = SOLICITS;
    let mut command = stage.clients.command("perfdhcp");
    command.args(["-6", "-l", CLIENT_INTERFACE, "-u", "-d", "5", "-W", "2000000"]);
    command.args(["-r", &rate.to_string(), "-p", &seconds.to_string(), "-R", "100000"]);
    let mut perfdhcp = Process::start("perfdhcp", command).unwrap();
    let control = Control::default();
    for phase in ["new", "renew", "rebind", "mixed=3000", "renew"] {
        load.run(phase.parse().unwrap(), &control).unwrap();
    }
    // As long as perfdhcp goes on.
    while perfdhcp.is_running() {
        load.run("renew".parse().unwrap(), &control).unwrap();
    }
    let status = perfdhcp.wait_exit(PATIENCE).unwrap();
    assert!(status.success(), "{status}: {}", perfdhcp.log());
    let summary = load.summary();
    assert!(!summary.violated() && summary.unanswered() == 0, "{summary}");

    let counters = daemon.counters().unwrap();
    assert_eq!(silences(&counters, &Counters::default()), [], "{counters:?}");
    // Four messages an exchange, of which two are for the server. The kernel gave them all to Kea.
    let by_kea = stage.server.run("cat /proc/net/snmp6").unwrap();
    let line = by_kea.lines().find_map(|line| line.strip_prefix("Udp6InDatagrams")).unwrap();
    let by_kea: u32 = line.trim().parse().unwrap();
    let expected = 2 * rate * seconds;
    assert!(by_kea > expected / 10 * 9 && by_kea < expected * 2, "{by_kea}, expected {expected}");
    assert!(counters.get("xdp-steered") > u64::from(CLIENTS) * 5, "{counters:?}");
}
