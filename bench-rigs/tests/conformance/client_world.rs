//! The client's program in a namespace, and a server on its link that says what the test lets it say. Every frame of
//! the link is seen.

use std::{
    net::{Ipv6Addr, UdpSocket},
    time::{Duration, Instant},
};

use bench_rigs::{
    daemon::{Process, portlease_binary},
    frame::Frame,
    stage::{CLIENT_INTERFACE, SERVER, SERVER_INTERFACE, SERVER_MAC, Stage},
    sys::FrameSocket,
};
use serde_json::Value;

use crate::{
    client_messages::{Answer, Asked, INFORMATION_REQUEST, information},
    packet::{DISCOVER, QUERY, REQUEST, Tuple},
};

/// How long anything may take that must happen.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The server's second address.
pub const SECOND_ADDRESS: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 0x548);

/// The addresses from which the client asks [`SERVER`]: first the one, then the other.
pub const SOURCE: Ipv6Addr = bench_rigs::stage::RELAY;
pub const OTHER_SOURCE: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 0xb);

/// The `EtherType` of ARP.
const ARP: [u8; 2] = [8, 6];

/// A datagram of the client's.
#[derive(Clone, Debug)]
pub struct Heard(Frame);

impl Heard {
    pub fn source(&self) -> Ipv6Addr {
        self.0.source
    }

    pub fn destination(&self) -> Ipv6Addr {
        self.0.destination
    }

    pub fn payload(&self) -> &[u8] {
        &self.0.payload
    }

    /// The DHCPV4-QUERY that it is.
    #[track_caller]
    pub fn asked(&self) -> Asked {
        Asked::read(&self.0.payload)
    }

    fn is_query(&self) -> bool {
        self.0.payload.first() == Some(&QUERY)
    }
}

/// A server that answers by hand.
pub struct Desk {
    link: FrameSocket,
    /// Keeps the kernel from refusing what comes for port 547.
    _port: UdpSocket,
    others: Vec<Vec<u8>>,
}

impl Desk {
    /// Opens it at the server's end of the link.
    pub fn open(stage: &Stage) -> Self {
        let end = stage.server_end();
        end.add_address(&format!("{SECOND_ADDRESS}/64")).unwrap();
        stage.clients_end().add_neighbour(&SECOND_ADDRESS.to_string(), SERVER_MAC).unwrap();
        let sockets = stage.server.enter(|| {
            let port = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 547)).unwrap();
            (FrameSocket::open(SERVER_INTERFACE).unwrap(), port)
        });
        let (link, port) = sockets.unwrap();
        Self { link, _port: port, others: Vec::new() }
    }

    /// The next datagram to the server's port, if one comes in time.
    pub fn hear(&mut self, patience: Duration) -> Option<Heard> {
        let deadline = Instant::now() + patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let octets = self.link.receive(left).unwrap()?;
            let frame = Frame::read(&octets).filter(|frame| frame.destination_port == 547);
            let Some(frame) = frame else {
                self.others.push(octets);
                continue;
            };
            assert_eq!(frame.source_port, 546, "RFC 7341 §9, RFC 8415 §7.2");
            assert!(frame.is_checksum_right());
            return Some(Heard(frame));
        }
    }

    /// The next query, whatever else is asked before it.
    #[track_caller]
    pub fn query(&mut self) -> Heard {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let heard = self.hear(left).expect("a query");
            if heard.is_query() {
                return heard;
            }
        }
    }

    /// The queries of some time.
    pub fn queries(&mut self, duration: Duration) -> Vec<Heard> {
        let end = Instant::now() + duration;
        let next = || self.hear(end.saturating_duration_since(Instant::now()));
        std::iter::from_fn(next).filter(Heard::is_query).collect()
    }

    /// The next Information-request. Nothing else may come before it.
    #[track_caller]
    pub fn inform(&mut self) -> Heard {
        let heard = self.hear(PATIENCE).expect("an Information-request");
        assert_eq!(heard.payload()[0], INFORMATION_REQUEST, "before the servers are known");
        heard
    }

    /// Waits for an Information-request and says that these are the servers; see [`information`].
    #[track_caller]
    pub fn tell(&mut self, servers: Option<&[Ipv6Addr]>) {
        let request = self.inform();
        self.say(&request, SERVER, &information(request.payload(), servers));
    }

    /// Answers a query.
    pub fn answer(&self, heard: &Heard, answer: &Answer) {
        self.answer_from(heard, SERVER, answer);
    }

    /// Answers a query from this address.
    pub fn answer_from(&self, heard: &Heard, source: Ipv6Addr, answer: &Answer) {
        self.say(heard, source, &answer.to(&heard.asked()));
    }

    /// Sends a datagram to where another one came from.
    pub fn say(&self, heard: &Heard, source: Ipv6Addr, payload: &[u8]) {
        let frame = Frame {
            destination_mac: heard.0.source_mac,
            source_mac: SERVER_MAC,
            tags: Vec::new(),
            source,
            destination: heard.0.source,
            source_port: 547,
            destination_port: heard.0.source_port,
            checksum: None,
            payload: payload.to_vec(),
        };
        self.link.send(&frame.build()).unwrap();
    }

    /// Serves the next DISCOVER and the REQUEST that follows with this ACK. Gives the DISCOVER.
    #[track_caller]
    pub fn lease(&mut self, tuple: Tuple, ack: &Answer) -> Asked {
        let discover = self.query();
        assert_eq!(discover.asked().kind(), DISCOVER);
        self.answer(&discover, &Answer::offer(tuple));
        let request = self.query();
        assert_eq!(request.asked().kind(), REQUEST);
        self.answer(&request, ack);
        discover.asked()
    }

    /// Asserts that no ARP was heard.
    pub fn assert_no_arp(&mut self) {
        self.queries(Duration::from_millis(50));
        let arp = self.others.iter().find(|frame| frame.get(12..14) == Some(&ARP[..]));
        assert_eq!(arp, None, "ARP");
    }
}

/// The client's program on the stage. It begins at once and takes the first offer.
pub fn start(stage: &Stage, arguments: &[&str]) -> Process {
    let mut command = stage.clients.command(portlease_binary().unwrap());
    command.args(["client", "--interface", CLIENT_INTERFACE, "--output", "json"]);
    command.args(["--initial-delay", "0", "--offer-wait", "0"]).args(arguments);
    Process::start("portlease client", command).unwrap()
}

/// Waits for the next event of this name, from this line of the client's output on.
#[track_caller]
pub fn event(client: &Process, name: &str, from: usize) -> Value {
    let line = client.wait_for(&format!("\"event\":\"{name}\""), from, PATIENCE).unwrap();
    serde_json::from_str(&line).unwrap()
}

/// Asserts that the client printed this lease.
#[track_caller]
pub fn assert_tells(told: &Value, tuple: Tuple) {
    let ports = tuple.ports.map(|ports| (ports.offset, ports.length, ports.psid));
    assert_eq!(told["address"], tuple.address.to_string());
    let value = |name: &str| told[name].as_u64();
    assert_eq!(value("offset"), ports.map(|(offset, _, _)| offset.into()));
    assert_eq!(value("psid_length"), ports.map(|(_, length, _)| length.into()));
    assert_eq!(value("psid"), ports.map(|(_, _, psid)| psid.into()));
}

/// The IPv4 addresses of the client's host, apart from its loopback's.
pub fn ipv4_addresses(stage: &Stage) -> Vec<String> {
    let text = stage.clients.ip("-4 -oneline address show").unwrap();
    text.lines().filter(|line| !line.contains(" lo ")).map(str::to_owned).collect()
}

/// Replaces the address from which the client asks.
pub fn move_client(stage: &Stage) {
    stage.clients.ip(&format!("address del {SOURCE}/64 dev {CLIENT_INTERFACE}")).unwrap();
    stage.clients_end().add_address(&format!("{OTHER_SOURCE}/64")).unwrap();
}
