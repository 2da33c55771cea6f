//! One interface served by ports of ours, and a station at the other end that speaks in frames.

use std::{
    net::Ipv6Addr,
    sync::Arc,
    time::{Duration, Instant},
};

use bench_rigs::{
    frame::Frame,
    netns::Netns,
    stage::{CLIENT, CLIENT_INTERFACE, CLIENT_MAC, SERVER, SERVER_INTERFACE, SERVER_MAC, Stage},
    sys::FrameSocket,
};
use portlease::{
    net::{
        Disposal, Handler, Port,
        counters::{Event, NetCounters},
        link::{Facts, Published},
        steer::{Mode, Steering},
        sys::WakeFd,
        udp::{UdpOptions, UdpPort},
        xdp::{XdpOptions, XdpPort},
    },
    wire::datagram::Datagram,
};

/// How long anything may take that has to happen.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// An address of the server that is on no interface of the link: replies must leave from it all the same.
pub const ANYCAST: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xaaaa, 0, 0, 0, 0, 0x547);

/// How long silence is listened to.
pub const SILENCE: Duration = Duration::from_millis(300);

/// A payload that begins with these octets is a query whose reply is parked; see [`query`].
const PARK: &[u8] = b"park";

/// A DHCPv4-query around `content`.
pub fn query(content: &[u8]) -> Vec<u8> {
    [&[20, 0, 0, 0], content].concat()
}

/// Answers each query with a response of the same content, and remembers what it has seen.
pub struct Mirror<R> {
    pub parked: Vec<R>,
    pub seen: Vec<Seen>,
}

/// What came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub peer: Ipv6Addr,
    pub peer_port: u16,
    pub local: Ipv6Addr,
    pub interface: u32,
    pub payload: Vec<u8>,
    /// The octets that a reply could have had.
    pub room: usize,
}

impl<R> Mirror<R> {
    pub fn new() -> Self {
        Self { parked: Vec::new(), seen: Vec::new() }
    }
}

impl<R> Handler<R> for Mirror<R> {
    type Reading<'a> = Datagram<'a>;

    fn read<'a>(&self, datagram: &Datagram<'a>, reading: &mut Datagram<'a>) {
        *reading = *datagram;
    }

    fn approach(&self, _datagram: &Datagram<'_>) {}

    fn answer(&mut self, datagram: &Datagram<'_>, out: &mut [u8]) -> Disposal {
        let &Datagram { peer, peer_port, local, interface, payload } = datagram;
        let room = out.len();
        self.seen.push(Seen { peer, peer_port, local, interface, payload: payload.to_vec(), room });
        let (length, port) = (payload.len(), 546);
        let Some(out) = out.get_mut(..length) else { return Disposal::Discard };
        out.copy_from_slice(payload);
        out[0] = 21;
        if payload[4..].starts_with(PARK) {
            Disposal::Park { length, port }
        } else {
            Disposal::Send { length, port }
        }
    }

    fn park(&mut self, reply: R) {
        self.parked.push(reply);
    }
}

/// Facts about the served interface.
pub fn facts(stage: &Stage) -> Facts {
    stage.server.enter(|| Facts::read(SERVER_INTERFACE)).unwrap().unwrap()
}

/// An interface with the XDP program and a port on each queue.
pub struct XdpRig {
    pub steering: Steering,
    pub ports: Vec<XdpPort>,
    pub mirror: Mirror<portlease::net::xdp::XdpReply>,
}

impl XdpRig {
    pub fn new(stage: &Stage, mode: Mode) -> Self {
        let facts = facts(stage);
        let open = || {
            let published = Arc::new(Published::new(facts.reach()));
            let mut steering = Steering::attach(&facts, &[SERVER], &[mode]).unwrap();
            let ports = (0..facts.queues).map(|queue| {
                let options = XdpOptions { ring_frames: 64, reply_frames: 64 };
                let published = Arc::clone(&published);
                let port = XdpPort::open(&facts, queue, mode, options, published).unwrap();
                steering.admit(queue, port.socket()).unwrap();
                port
            });
            let ports = ports.collect();
            Self { steering, ports, mirror: Mirror::new() }
        };
        stage.server.enter(open).unwrap()
    }

    /// Serves all queues until `enough` datagrams have come in since the rig was made, or patience ends.
    pub fn serve(&mut self, enough: usize) {
        let deadline = Instant::now() + PATIENCE;
        while self.mirror.seen.len() < enough && Instant::now() < deadline {
            self.serve_once();
        }
        assert!(self.mirror.seen.len() >= enough, "{:?} of {enough}", self.mirror.seen);
    }

    /// Serves all queues for as long as silence is listened to.
    pub fn serve_in_silence(&mut self) {
        let deadline = Instant::now() + SILENCE;
        while Instant::now() < deadline {
            self.serve_once();
        }
    }

    fn serve_once(&mut self) {
        let wake = WakeFd::new().unwrap();
        for port in &mut self.ports {
            port.burst(64, &mut self.mirror);
            port.flush().unwrap();
            port.wait(2, &wake).unwrap();
            port.tick();
        }
    }

    pub fn counters(&self) -> &NetCounters {
        self.ports[0].counters()
    }
}

/// A UDP port on the interface.
pub struct UdpRig {
    pub port: UdpPort,
    pub mirror: Mirror<portlease::net::udp::UdpReply>,
}

impl UdpRig {
    pub fn new(stage: &Stage) -> Self {
        let facts = facts(stage);
        let published = Arc::new(Published::new(facts.reach()));
        let options = UdpOptions { replies: 64, ..UdpOptions::default() };
        let listen = [SERVER, ANYCAST];
        stage.server.ip(&format!("addr add {ANYCAST}/128 dev lo")).unwrap();
        let port = stage.server.enter(|| UdpPort::open(&[(facts, published)], &listen, options));
        Self { port: port.unwrap().unwrap(), mirror: Mirror::new() }
    }

    /// As [`XdpRig::serve`].
    pub fn serve(&mut self, enough: usize) {
        let wake = WakeFd::new().unwrap();
        let deadline = Instant::now() + PATIENCE;
        while self.mirror.seen.len() < enough && Instant::now() < deadline {
            self.port.burst(64, &mut self.mirror);
            self.port.flush().unwrap();
            self.port.wait(2, &wake).unwrap();
        }
        assert!(self.mirror.seen.len() >= enough, "{:?} of {enough}", self.mirror.seen);
        let failed = self.port.counters().get(Event::TransmitFailed);
        assert_eq!(failed, 0, "replies that the kernel refused");
    }
}

/// The other end of the link.
pub struct Station {
    socket: FrameSocket,
}

impl Station {
    pub fn new(stage: &Stage) -> Self {
        Self::at(&stage.clients, CLIENT_INTERFACE)
    }

    fn at(namespace: &Netns, interface: &str) -> Self {
        let socket = namespace.enter(|| FrameSocket::open(interface)).unwrap().unwrap();
        Self { socket }
    }

    pub fn send(&self, frame: &Frame) {
        self.send_octets(&frame.build());
    }

    pub fn send_octets(&self, octets: &[u8]) {
        self.socket.send(octets).unwrap();
    }

    /// The next frame from the server's port 547, if one comes in time.
    pub fn receive(&self, patience: Duration) -> Option<Frame> {
        let deadline = Instant::now() + patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let octets = self.socket.receive(left).unwrap()?;
            let frame = Frame::read(&octets).filter(|frame| frame.source_port == 547);
            if frame.is_some() {
                return frame;
            }
        }
    }
}

/// A direct client's query to the server's unicast address.
pub fn frame(content: &[u8]) -> Frame {
    Frame {
        destination_mac: SERVER_MAC,
        source_mac: CLIENT_MAC,
        tags: Vec::new(),
        source: CLIENT,
        destination: SERVER,
        source_port: 546,
        destination_port: 547,
        checksum: None,
        payload: query(content),
    }
}

/// The same to a multicast group.
pub fn to_group(content: &[u8], group: Ipv6Addr) -> Frame {
    let [.., a, b, c, d] = group.octets();
    Frame { destination_mac: [0x33, 0x33, a, b, c, d], destination: group, ..frame(content) }
}

/// `answer` is the mirror's answer to `asked`, sent from `source`.
pub fn check(asked: &Frame, answer: &Frame, source: Ipv6Addr) {
    assert_eq!(answer.destination_mac, asked.source_mac);
    assert_eq!(answer.source_mac, SERVER_MAC);
    assert_eq!(answer.tags, asked.tags);
    assert_eq!((answer.source, answer.destination), (source, asked.source));
    assert_eq!((answer.source_port, answer.destination_port), (547, 546));
    assert!(answer.is_checksum_right(), "checksum of {answer:?}");
    assert_eq!(answer.payload[0], 21);
    assert_eq!(answer.payload[1..], asked.payload[1..]);
}
