//! The real client keeps a home to its ports, shown with real traffic: what leaves bears leased ports and identifiers
//! and no others, before, during and after the lease.

use std::{
    collections::BTreeSet,
    fs,
    net::{Ipv4Addr, SocketAddrV6, UdpSocket},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use bench_rigs::{
    daemon::{Config, Daemon, Process},
    stage::{SERVER, SERVER_INTERFACE},
    sys::Signal,
};
use portlease::wire::{
    dhcpv4::{self, Header, MessageType, View},
    dhcpv6::{self, Query, Relays, SERVER_PORT},
    portparams::PortParams,
    writer::Writer,
};
use serde_json::Value;

use crate::{
    home::{
        self, Home, LEASED, REMOTE, SERVICES, SOFTWIRE, ask_udp, tcp_flows, udp_flows,
        wait_for_line,
    },
    scene::folder,
};

const PATIENCE: Duration = Duration::from_secs(15);

/// Flows of each kind at a time: with 63 ranges of four, many times what one range holds.
const FLOWS: usize = 150;

fn wait_for(client: &Process, event: &str, from: usize) -> Value {
    let line = client.wait_for(&format!("\"event\":\"{event}\""), from, PATIENCE).unwrap();
    serde_json::from_str(&line).unwrap()
}

fn ports_of(lease: &Value) -> PortParams {
    let number = |name: &str| lease[name].as_u64().unwrap();
    let small = |name: &str| u8::try_from(number(name)).unwrap();
    let psid = u16::try_from(number("psid")).unwrap();
    PortParams::new(small("offset"), small("psid_length"), psid).unwrap()
}

/// How many ranges of the set were used.
fn ranges_used(ports: PortParams, numbers: &BTreeSet<u16>) -> usize {
    ports.ports().ranges().filter(|range| numbers.iter().any(|port| range.contains(port))).count()
}

/// Everything that a home does at once: every answer comes back, and nothing foreign is seen outside.
fn use_the_ports(home: &Home, ports: PortParams) {
    let (udp, tcp, same, refused) = home
        .lan
        .enter(|| {
            // Whomever a socket speaks to, it is seen with the same port, as long as there is room.
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
            let same: BTreeSet<_> = SERVICES
                .iter()
                .map(|&service| {
                    socket.connect((REMOTE, service)).unwrap();
                    ask_udp(&socket, Duration::from_secs(2))
                })
                .collect();
            let (sockets, udp) = udp_flows(FLOWS, SERVICES[0]);
            let (streams, tcp) = tcp_flows(FLOWS, SERVICES[0]);
            assert_eq!((sockets.len(), streams.len()), (FLOWS, FLOWS), "answered");
            // An error of the network finds back to whom it is for.
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
            socket.connect((REMOTE, 9)).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
            socket.send(b"?").unwrap();
            let refused = socket.recv(&mut [0; 8]).map_err(|error| error.kind());
            (udp, tcp, same, refused)
        })
        .unwrap();
    assert_eq!((udp.len(), tcp.len()), (FLOWS, FLOWS), "each flow has a port of its own");
    assert_eq!(same.len(), 1, "{same:?}");
    assert_eq!(refused, Err(std::io::ErrorKind::ConnectionRefused));
    let identifiers: Vec<u16> = (0..60).map(|number| number * 1031).collect();
    assert_eq!(home.ping(&identifiers).unwrap().len(), identifiers.len());
    // The router's own traffic is no exception.
    let own = home.router().enter(|| udp_flows(10, SERVICES[1]).1).unwrap();
    assert_eq!(own.len(), 10);

    let seen = home.seen_in_a_while();
    let foreign: Vec<_> = seen.iter().filter(|packet| !packet.is_within(ports)).collect();
    assert!(foreign.is_empty(), "{ports:?}: {foreign:?}");
    for protocol in [1, 6, 17] {
        let numbers: BTreeSet<_> = seen
            .iter()
            .filter(|packet| packet.protocol == protocol)
            .filter_map(|packet| packet.number)
            .collect();
        let (used, all) = (ranges_used(ports, &numbers), ports.ports().ranges().count());
        assert!(used * 2 > all, "protocol {protocol}: {used} of {all} ranges in use");
    }
}

/// What has no port of the set is dropped, on the way out and on the way in.
fn try_what_is_foreign(home: &Home, ports: PortParams) {
    home.seen();
    let gre = home::packet(47, &[0; 16]);
    let timestamp = home::icmp(13, 7);
    home.host_sends(&[gre, timestamp]).unwrap();
    assert_eq!(home.seen_in_a_while(), []);

    let inside = ports.ports().ranges().last().unwrap();
    let (inside, closed) = (*inside.start(), *inside.end());
    let outside = (2000..=u16::MAX).find(|&port| !ports.ports().contains(port)).unwrap();
    let heard = home.router().enter(|| {
        [inside, outside].map(|port| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap())
    });
    let [inside_socket, outside_socket] = heard.unwrap();
    let refused = home.internet.enter(|| {
        let socket = UdpSocket::bind((REMOTE, 0)).unwrap();
        for port in [outside, inside] {
            socket.send_to(b"!", (LEASED, port)).unwrap();
        }
        socket.connect((LEASED, closed)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        socket.send(b"!").unwrap();
        socket.recv(&mut [0; 8]).map_err(|error| error.kind())
    });
    assert_eq!(
        refused.unwrap(),
        Err(std::io::ErrorKind::ConnectionRefused),
        "the router's own error leaves, for a port of the set"
    );
    inside_socket.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(inside_socket.recv(&mut [0; 8]).unwrap(), 1);
    // It was sent first.
    outside_socket.set_nonblocking(true).unwrap();
    assert!(outside_socket.recv(&mut [0; 8]).is_err(), "port {outside} is another's");
    assert!(home.seen_in_a_while().iter().all(|packet| packet.is_within(ports)));
}

fn state_of_router(home: &Home) -> (String, String) {
    let rules = home.router().run("nft list ruleset").unwrap();
    let addresses = home.router().ip(&format!("-4 -oneline address show dev {SOFTWIRE}")).unwrap();
    (rules, addresses)
}

/// The real server, with a pool of one address.
fn serve(home: &Home, pool: &str, folder: &Path) -> Daemon {
    let mut config = Config::new(SERVER_INTERFACE, SERVER, "socket");
    config.links = format!(
        "[[link]]\nname = \"L1\"\nmatch = [{{ source = \"2001:db8::/32\" }}]\n\
         [[link.pool]]\nname = \"P1\"\naddresses = [\"{LEASED}\"]\n{pool}"
    );
    Daemon::start(&home.stage.server, &config, folder).unwrap()
}

/// A whole address is only translated to: every port is its holder's, and so is every protocol.
#[test]
fn k13_a_whole_address_is_used_whole_and_brings_the_options_that_were_asked_for() {
    let home = Home::new().unwrap();
    let folder = folder().unwrap();
    let pool = "[link.pool.options]\ninterface-mtu = 1460\ndomain-name = \"home.example\"\n";
    let _daemon = serve(&home, pool, folder.path());
    let mut client = home.client(&["--request-option", "15", "--request-option", "26"]).unwrap();
    let lease = wait_for(&client, "obtained", 0);
    assert_eq!((&lease["shared"], &lease["options"]["26"]), (&false.into(), &"05b4".into()));
    assert_eq!(lease["options"]["15"], "686f6d652e6578616d706c65");

    let answered = home.lan.enter(|| udp_flows(20, SERVICES[0]).1.len()).unwrap();
    assert_eq!((answered, home.ping(&[7, 70, 700]).unwrap().len()), (20, 3));
    home.host_sends(&[home::packet(47, &[0; 16])]).unwrap();
    let seen = home.seen_in_a_while();
    assert!(seen.iter().all(|packet| packet.source == Some(LEASED)), "{seen:?}");
    assert!(seen.iter().any(|packet| packet.protocol == 47), "{seen:?}");
    assert!(client.terminate(PATIENCE).unwrap().success());
    assert!(!state_of_router(&home).0.contains("portlease"));
}

/// req-C25, req-C26, req-C29 (RFC 7618 §7): one contiguous range, and 63 of them, from the real server.
#[test]
fn k14_k31_a_home_uses_its_ports_and_no_others() {
    for (offset, psid_length) in [(0, 6), (6, 8)] {
        let home = Home::new().unwrap();
        let folder = folder().unwrap();
        let pool = format!("psid-offset = {offset}\npsid-len = {psid_length}\n");
        let _daemon = serve(&home, &pool, folder.path());
        let mut client = home.client(&[]).unwrap();
        let lease = wait_for(&client, "obtained", 0);
        let ports = ports_of(&lease);
        assert_eq!((ports.offset, ports.psid_length), (offset, psid_length));
        use_the_ports(&home, ports);
        try_what_is_foreign(&home, ports);
        let status = client.terminate(PATIENCE).unwrap();
        assert!(status.success(), "{status}: {}", client.log());
        let (rules, addresses) = state_of_router(&home);
        assert!(!rules.contains("portlease"), "{rules}");
        assert_eq!(addresses, "");
        assert!(home.seen().iter().all(|packet| packet.is_within(ports)));
    }
}

/// What the scripted server says to a REQUEST, and offers.
#[derive(Clone, Copy)]
enum Script {
    Silence,
    Refuse,
    Grant(PortParams, u32),
}

/// A server that does what it is told.
struct Scripted {
    script: Arc<Mutex<Script>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Scripted {
    fn start(home: &Home) -> Self {
        let bind = || UdpSocket::bind(SocketAddrV6::new(SERVER, SERVER_PORT, 0, 0)).unwrap();
        let socket = home.stage.server.enter(bind).unwrap();
        let script = Arc::new(Mutex::new(Script::Silence));
        let stop = Arc::new(AtomicBool::new(false));
        let (said, stopped) = (Arc::clone(&script), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
            let mut buffer = [0; 1500];
            while !stopped.load(Ordering::Relaxed) {
                let Ok((length, peer)) = socket.recv_from(&mut buffer) else { continue };
                let script = *said.lock().unwrap();
                if let Some(answer) = answer(&buffer[..length], script) {
                    socket.send_to(&answer, peer).unwrap();
                }
            }
        });
        Scripted { script, stop, thread: Some(thread) }
    }

    fn say(&self, script: Script) {
        *self.script.lock().unwrap() = script;
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn answer(datagram: &[u8], script: Script) -> Option<Vec<u8>> {
    let query = Query::parse(datagram).ok()?;
    let view = View::parse_request(query.message).ok()?;
    let (kind, grant) = match (view.kind(), script) {
        (MessageType::Discover, Script::Grant(ports, seconds)) => {
            (MessageType::Offer, Some((ports, seconds)))
        }
        (MessageType::Request, Script::Grant(ports, seconds)) => {
            (MessageType::Ack, Some((ports, seconds)))
        }
        (MessageType::Request, Script::Refuse) => (MessageType::Nak, None),
        _ => return None,
    };
    let mut buffer = [0; 1500];
    let mut w = Writer::new(&mut buffer);
    let envelope = dhcpv6::begin_response(&mut w, Relays::NONE);
    let yiaddr = if grant.is_some() { LEASED } else { Ipv4Addr::UNSPECIFIED };
    Header { xid: view.xid(), yiaddr, chaddr: *view.chaddr(), ..Header::default() }.emit(&mut w);
    dhcpv4::put_message_type(&mut w, kind);
    dhcpv4::put_address(&mut w, dhcpv4::OPTION_SERVER_ID, Ipv4Addr::new(192, 0, 2, 254));
    if let Some((ports, seconds)) = grant {
        dhcpv4::put_u32(&mut w, dhcpv4::OPTION_LEASE_TIME, seconds);
        dhcpv4::put_option(&mut w, dhcpv4::OPTION_DNS_SERVERS, &[192, 0, 2, 53]);
        // A domain name that a shell would run.
        dhcpv4::put_option(&mut w, 15, b"$(touch pwned)");
        dhcpv4::put_port_params(&mut w, ports);
    }
    dhcpv4::put_end(&mut w);
    envelope.finish(&mut w);
    Some(w.written().to_vec())
}

fn ports(psid: u16) -> PortParams {
    PortParams::new(6, 8, psid).unwrap()
}

/// A datagram of a new socket in the home, to no avail or with the port that was seen.
fn try_once(home: &Home) -> Option<u16> {
    home.lan
        .enter(|| {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
            socket.connect((REMOTE, SERVICES[0])).unwrap();
            ask_udp(&socket, Duration::from_millis(300))
        })
        .unwrap()
}

/// Nothing comes out of the softwire, whatever the home sends and whoever routes it there, and the address is not
/// there.
fn assert_closed(home: &Home) {
    home.router().ip(&format!("route add default dev {SOFTWIRE}")).unwrap();
    home.seen();
    assert_eq!(try_once(home), None);
    let _ =
        home.router().enter(|| UdpSocket::bind((LEASED, 0)).map(|_| panic!("{LEASED} is used")));
    home.host_sends(&[home::icmp(8, 1024)]).unwrap();
    assert_eq!(home.seen_in_a_while(), []);
    home.router().ip(&format!("route del default dev {SOFTWIRE}")).unwrap();
    let (_, addresses) = state_of_router(home);
    assert_eq!(addresses, "");
}

/// req-C38 (RFC 7596 §5.1), req-C34 (RFC 2131 §4.4.5): other ports, and none any more.
#[test]
fn k11_k18_k24_k32_when_the_ports_change_the_old_ones_are_gone_and_after_a_loss_nothing_leaves() {
    let home = Home::new().unwrap();
    let server = Scripted::start(&home);
    let folder = folder().unwrap();
    let log = folder.path().join("events");
    let script = folder.path().join("script");
    let body = format!(
        "#!/bin/sh\ncd {}\necho \"event $PORTLEASE_EVENT\" >> events\nenv | grep ^PORTLEASE_ >> events\n",
        folder.path().display()
    );
    fs::write(&script, body).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let mut client = home.client(&["--script", script.to_str().unwrap()]).unwrap();

    client.wait_for("asking", 0, PATIENCE).unwrap();
    assert_closed(&home);

    server.say(Script::Grant(ports(52), 3600));
    assert_eq!(ports_of(&wait_for(&client, "obtained", 0)), ports(52));
    let (sockets, first) = home.lan.enter(|| udp_flows(20, SERVICES[0])).unwrap();
    assert_eq!(first.len(), 20);
    let from = client.log_length();
    client.signal(Signal::User1).unwrap();
    wait_for(&client, "renewed", from);
    let again = |sockets: &[UdpSocket]| -> BTreeSet<u16> {
        sockets.iter().filter_map(|socket| ask_udp(socket, Duration::from_secs(2))).collect()
    };
    assert_eq!(again(&sockets), first, "a renewal disturbs no flow");

    server.say(Script::Grant(ports(53), 3600));
    let from = client.log_length();
    client.signal(Signal::User1).unwrap();
    assert_eq!(ports_of(&wait_for(&client, "changed", from)), ports(53));
    home.seen();
    let second = again(&sockets);
    assert_eq!(second.len(), 20, "flows go on, with other ports");
    let seen = home.seen_in_a_while();
    assert!(seen.len() >= 20 && seen.iter().all(|packet| packet.is_within(ports(53))), "{seen:?}");

    server.say(Script::Refuse);
    let from = client.log_length();
    client.signal(Signal::User1).unwrap();
    assert_eq!(wait_for(&client, "lost", from)["reason"], "refused");
    assert_closed(&home);

    // A lease that nobody extends ends by itself.
    server.say(Script::Grant(ports(54), 4));
    let from = client.log_length();
    wait_for(&client, "obtained", from);
    server.say(Script::Silence);
    assert!(try_once(&home).is_some_and(|port| ports(54).ports().contains(port)));
    assert_eq!(wait_for(&client, "lost", from)["reason"], "expired");
    assert_closed(&home);

    assert!(client.terminate(PATIENCE).unwrap().success());
    let told = wait_for_line(&log, "event stop");
    let events: Vec<_> = told.lines().filter_map(|line| line.strip_prefix("event ")).collect();
    let expected = ["bound", "renewed", "changed", "refused", "bound", "expired", "stop"];
    assert_eq!(events, expected);
    for line in [
        "PORTLEASE_OLD_PSID=52",
        "PORTLEASE_PSID=53",
        "PORTLEASE_SOFTWIRE=sw0",
        "PORTLEASE_DNS_SERVERS=192.0.2.53",
    ] {
        assert!(told.lines().any(|told| told == line), "{line} in {told}");
    }
    assert!(!told.contains("DOMAIN_NAME") && !folder.path().join("pwned").exists());
}

/// Who is killed leaves rules behind that the kernel closes in time, and that the next start removes at once.
#[test]
fn a_killed_client_leaves_nothing_that_outlives_the_lease() {
    let home = Home::new().unwrap();
    let server = Scripted::start(&home);
    server.say(Script::Grant(ports(52), 5));
    let mut client = home.client(&[]).unwrap();
    wait_for(&client, "obtained", 0);
    assert!(try_once(&home).is_some());
    client.kill().unwrap();
    let (rules, addresses) = state_of_router(&home);
    assert!(rules.contains("portlease_sw0") && addresses.contains("192.0.2.18"));
    let deadline = std::time::Instant::now() + PATIENCE;
    while !state_of_router(&home).1.is_empty() {
        assert!(std::time::Instant::now() < deadline, "the address stays");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_closed(&home);

    server.say(Script::Grant(ports(53), 3600));
    let mut client = home.client(&[]).unwrap();
    wait_for(&client, "obtained", 0);
    client.kill().unwrap();
    assert!(state_of_router(&home).1.contains("192.0.2.18"));
    server.say(Script::Silence);
    let mut client = home.client(&[]).unwrap();
    client.wait_for("asking", 0, PATIENCE).unwrap();
    assert_closed(&home);
    assert!(client.terminate(PATIENCE).unwrap().success());
    assert!(!state_of_router(&home).0.contains("portlease"));
}

/// What is wrong is named, before anything is asked for.
#[test]
fn what_cannot_be_applied_is_said_at_the_start() {
    let home = Home::new().unwrap();
    for (arguments, expected) in [
        (&["--softwire", "nowhere"][..], "no interface \"nowhere\""),
        (&["--softwire", "clients"], "point-to-point"),
    ] {
        let mut command = home.router().command(bench_rigs::daemon::portlease_binary().unwrap());
        command.args(["client", "--interface", "clients", "--apply", "nftables"]).args(arguments);
        let mut client = Process::start("portlease client", command).unwrap();
        assert!(!client.wait_exit(PATIENCE).unwrap().success());
        assert!(client.log().contains(expected), "{}", client.log());
    }
}
