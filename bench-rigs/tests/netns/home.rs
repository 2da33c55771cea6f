//! A home behind a shared address: a host, the router with the real client, and the Internet beyond the softwire,
//! where every packet is looked at.

use std::{
    collections::BTreeSet,
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket},
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use bench_rigs::{
    daemon::{Process, portlease_binary},
    error::Result,
    netns::Netns,
    stage::{CLIENT_INTERFACE, SERVER, Stage},
    sys::FrameSocket,
    veth::{self, End},
};
use portlease::wire::{checksum::Sum, portparams::PortParams};

/// The softwire's end in the router. A pair with one hardware address for both ends and without ARP stands for it.
pub const SOFTWIRE: &str = "sw0";

/// Its other end.
const FAR_END: &str = "inet";

/// What the home's addresses are leased from.
pub const LEASED: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 18);

/// A host on the Internet.
pub const REMOTE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);

/// A host in the home.
const INSIDE: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 2);

/// Ports at which the remote host answers with the port that it sees.
pub const SERVICES: [u16; 2] = [5000, 5001];

const SOFTWIRE_MAC: [u8; 6] = [2, 0, 0, 0, 3, 1];
const ROUTER_MAC: [u8; 6] = [2, 0, 0, 0, 4, 1];
const HOST_MAC: [u8; 6] = [2, 0, 0, 0, 4, 2];

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// The namespaces, and who answers and watches in that of the Internet.
pub struct Home {
    pub stage: Stage,
    pub lan: Netns,
    pub internet: Netns,
    watch: Watch,
}

impl Home {
    pub fn new() -> Result<Self> {
        let stage = Stage::new(1)?;
        let (lan, internet) = (Netns::new("lan")?, Netns::new("internet")?);
        let router = &stage.clients;
        let near = End { namespace: router, name: SOFTWIRE, mac: SOFTWIRE_MAC };
        let far = End { namespace: &internet, name: FAR_END, mac: SOFTWIRE_MAC };
        veth::connect(near, far, 1)?;
        internet.ip(&format!("link set {FAR_END} arp off"))?;
        for last in 1..=3 {
            far.add_address(&format!("198.51.100.{last}/32"))?;
        }
        far.add_route(&format!("{LEASED}/32"))?;
        let inner = End { namespace: router, name: "lan", mac: ROUTER_MAC };
        let host = End { namespace: &lan, name: "eth0", mac: HOST_MAC };
        veth::connect(inner, host, 1)?;
        inner.add_address("192.168.1.1/24")?;
        host.add_address(&format!("{INSIDE}/24"))?;
        lan.ip("route add default via 192.168.1.1")?;
        router.run("sysctl -qw net.ipv4.ip_forward=1")?;
        let watch = Watch::start(&internet)?;
        Ok(Self { stage, lan, internet, watch })
    }

    /// The router, where the client runs.
    pub fn router(&self) -> &Netns {
        &self.stage.clients
    }

    /// Starts the real client on the router.
    pub fn client(&self, arguments: &[&str]) -> Result<Process> {
        let mut command = self.router().command(portlease_binary()?);
        command.args(["client", "--interface", CLIENT_INTERFACE, "--server", &SERVER.to_string()]);
        command.args(["--output", "json", "--initial-delay", "0", "--offer-wait", "0"]);
        command.args(["--apply", "nftables", "--softwire", SOFTWIRE, "--route"]).args(arguments);
        Process::start("portlease client", command)
    }

    /// The packets that came out of the softwire since this was last asked.
    pub fn seen(&self) -> Vec<Packet> {
        self.watch.take()
    }

    /// The same after a while in which something might still come.
    pub fn seen_in_a_while(&self) -> Vec<Packet> {
        std::thread::sleep(Duration::from_millis(300));
        self.seen()
    }

    /// Sends an IPv4 packet of the host's, as it is, to the router.
    pub fn host_sends(&self, packets: &[Vec<u8>]) -> Result<()> {
        self.lan.enter(|| {
            let socket = FrameSocket::open("eth0").unwrap();
            for packet in packets {
                let frame = [&ROUTER_MAC[..], &HOST_MAC, &[8, 0], packet].concat();
                socket.send(&frame).unwrap();
            }
        })
    }

    /// Pings the remote host with each of these identifiers. Gives those that were answered.
    pub fn ping(&self, identifiers: &[u16]) -> Result<BTreeSet<u16>> {
        self.lan.enter(|| {
            let socket = FrameSocket::open("eth0").unwrap();
            let mut answered = BTreeSet::new();
            // Once more for each that was lost: a router that is short of identifiers drops a first packet.
            for _ in 0..4 {
                for &identifier in identifiers.iter().filter(|id| !answered.contains(*id)) {
                    let packet = echo_request(identifier);
                    let frame = [&ROUTER_MAC[..], &HOST_MAC, &[8, 0], &packet].concat();
                    socket.send(&frame).unwrap();
                }
                while let Some(frame) = socket.receive(Duration::from_millis(300)).unwrap() {
                    let Some(packet) = Packet::read(&frame) else { continue };
                    // The host's own requests are not received here; what has an identifier is an answer.
                    answered.extend(packet.number.filter(|_| packet.protocol == ICMP));
                    if answered.len() == identifiers.len() {
                        return answered;
                    }
                }
            }
            answered
        })
    }
}

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// What matters of a packet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Packet {
    /// `None`: it is ARP.
    pub source: Option<Ipv4Addr>,
    pub protocol: u8,
    /// Source port, or identifier of a ping; of an ICMP error the port of the packet that it quotes.
    pub number: Option<u16>,
}

impl Packet {
    /// Reads a frame. `None`: IPv6, which is no matter here.
    fn read(frame: &[u8]) -> Option<Self> {
        let arp = Packet { source: None, protocol: 0, number: None };
        match frame.get(12..14)? {
            [8, 0] => {}
            [8, 6] => return Some(arp),
            _ => return None,
        }
        let header = frame.get(14..34)?;
        let content = frame.get(34..)?;
        let word =
            |at: usize| content.get(at..at + 2).map(|two| u16::from_be_bytes([two[0], two[1]]));
        let number = match (header[9], content.first()) {
            (TCP | UDP, _) => word(0),
            (ICMP, Some(0 | 8)) => word(4),
            // Destination port of what is quoted, behind two headers.
            (ICMP, Some(3 | 11)) => word(30),
            _ => None,
        };
        let source = Ipv4Addr::new(header[12], header[13], header[14], header[15]);
        Some(Packet { source: Some(source), protocol: header[9], number })
    }

    /// Whether others could not take it for theirs.
    pub fn is_within(&self, ports: PortParams) -> bool {
        self.source == Some(LEASED)
            && self.number.is_some_and(|number| ports.ports().contains(number))
    }
}

/// An IPv4 packet of the host's to the remote host.
pub fn packet(protocol: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(20 + content.len()).unwrap();
    let mut packet = vec![0x45, 0];
    packet.extend(length.to_be_bytes());
    packet.extend([0, 0, 0x40, 0, 64, protocol, 0, 0]);
    packet.extend(INSIDE.octets());
    packet.extend(REMOTE.octets());
    let checksum = !Sum::new().over(&packet).fold();
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    packet.extend(content);
    packet
}

/// An ICMP message with an identifier.
pub fn icmp(kind: u8, identifier: u16) -> Vec<u8> {
    let mut content = vec![kind, 0, 0, 0];
    content.extend(identifier.to_be_bytes());
    content.extend([0; 14]);
    let checksum = !Sum::new().over(&content).fold();
    content[2..4].copy_from_slice(&checksum.to_be_bytes());
    packet(ICMP, &content)
}

fn echo_request(identifier: u16) -> Vec<u8> {
    icmp(8, identifier)
}

/// Sends once from each of `count` new sockets of the calling thread's namespace, again where nothing comes back.
/// Gives the sockets that were answered, and the ports that the remote host saw.
pub fn udp_flows(count: usize, service: u16) -> (Vec<UdpSocket>, BTreeSet<u16>) {
    let remote = SocketAddrV4::new(REMOTE, service);
    let sockets: Vec<_> = (0..count)
        .map(|_| {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
            socket.connect(remote).unwrap();
            socket
        })
        .collect();
    let mut ports = BTreeSet::new();
    let answered = sockets.into_iter().filter(|socket| {
        let port = (0..5).find_map(|_| ask_udp(socket, Duration::from_millis(200)));
        ports.extend(port);
        port.is_some()
    });
    (answered.collect(), ports)
}

/// Sends on a connected socket. Gives the port that the remote host saw, if it answers.
pub fn ask_udp(socket: &UdpSocket, patience: Duration) -> Option<u16> {
    socket.set_read_timeout(Some(patience)).unwrap();
    // What the network said of an earlier datagram is reported now.
    let _ = socket.send(b"?");
    let mut port = [0; 2];
    (socket.recv(&mut port).ok()? == 2).then(|| u16::from_be_bytes(port))
}

/// Opens so many connections from the calling thread's namespace, all at once, and speaks on each. Gives them and the
/// ports that the remote host saw.
pub fn tcp_flows(count: usize, service: u16) -> (Vec<TcpStream>, BTreeSet<u16>) {
    let remote = SocketAddr::from((REMOTE, service));
    let (mut streams, mut ports) = (Vec::new(), BTreeSet::new());
    for _ in 0..count {
        // A first packet that is dropped for want of a port is repeated after a second.
        let Ok(mut stream) = TcpStream::connect_timeout(&remote, PATIENCE) else { continue };
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut port = [0; 2];
        if stream.write_all(b"?").is_ok() && stream.read_exact(&mut port).is_ok() {
            ports.insert(u16::from_be_bytes(port));
            streams.push(stream);
        }
    }
    (streams, ports)
}

/// Threads in the Internet: the remote host's services, and the observer of all that arrives.
struct Watch {
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<Vec<Packet>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Watch {
    fn start(internet: &Netns) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (observer, sockets, listeners) = internet.enter(|| {
            let observer = FrameSocket::open(FAR_END).unwrap();
            let any = |port| SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port);
            let sockets = SERVICES.map(|port| UdpSocket::bind(any(port)).unwrap());
            let listeners = SERVICES.map(|port| TcpListener::bind(any(port)).unwrap());
            (observer, sockets, listeners)
        })?;
        let mut threads = Vec::new();
        let (stopped, packets) = (Arc::clone(&stop), Arc::clone(&seen));
        threads.push(std::thread::spawn(move || observe(&observer, &stopped, &packets)));
        for socket in sockets {
            let stopped = Arc::clone(&stop);
            threads.push(std::thread::spawn(move || answer_udp(&socket, &stopped)));
        }
        for listener in listeners {
            let stopped = Arc::clone(&stop);
            threads.push(std::thread::spawn(move || answer_tcp(&listener, &stopped)));
        }
        Ok(Self { stop, seen, threads })
    }

    fn take(&self) -> Vec<Packet> {
        std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// How often a thread looks whether it is to stop.
const TICK: Duration = Duration::from_millis(50);

fn observe(socket: &FrameSocket, stop: &AtomicBool, seen: &Mutex<Vec<Packet>>) {
    while !stop.load(Ordering::Relaxed) {
        let Ok(Some(frame)) = socket.receive(TICK) else { continue };
        if let Some(packet) = Packet::read(&frame) {
            seen.lock().unwrap_or_else(PoisonError::into_inner).push(packet);
        }
    }
}

fn answer_udp(socket: &UdpSocket, stop: &AtomicBool) {
    socket.set_read_timeout(Some(TICK)).unwrap();
    let mut buffer = [0; 64];
    while !stop.load(Ordering::Relaxed) {
        let Ok((_, peer)) = socket.recv_from(&mut buffer) else { continue };
        let _ = socket.send_to(&peer.port().to_be_bytes(), peer);
    }
}

fn answer_tcp(listener: &TcpListener, stop: &AtomicBool) {
    listener.set_nonblocking(true).unwrap();
    // Connections stay open until everything ends.
    let mut streams: Vec<TcpStream> = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((mut stream, peer)) => {
                let _ = stream.write_all(&peer.port().to_be_bytes());
                streams.push(stream);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(_) => {}
        }
    }
}

/// Waits until a file has a line that contains `text`. Gives the file's content.
pub fn wait_for_line(path: &Path, text: &str) -> String {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let content = std::fs::read_to_string(path).unwrap_or_default();
        if content.lines().any(|line| line.contains(text)) {
            return content;
        }
        assert!(Instant::now() < deadline, "no `{text}` in:\n{content}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
