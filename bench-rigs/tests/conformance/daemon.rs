//! The daemon in a namespace: datagrams in frames that the test makes itself, and every frame that comes back.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bench_rigs::{
    daemon::{Counters, Daemon, folder_on_disk},
    frame::Frame,
    netns::Netns,
    stage::{CLIENT_INTERFACE, CLIENT_MAC, RELAY, SERVER, SERVER_INTERFACE, SERVER_MAC},
    sys::FrameSocket,
    veth::{self, End},
};
use portlease::{
    engine::reason::Reason, journal::RingLog, lease::record::Record, wire::frame::FrameFault,
};
use tempfile::TempDir;

use crate::{
    lab::{Backend, Outcome, Sent, remark_names},
    packet::Datagram,
    setup::Setup,
};

/// How long the server may take with a datagram before the test gives up.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long a reply is waited for before the counters are asked whether there will be one.
const USUAL: Duration = Duration::from_millis(40);

/// How long it is listened for a second datagram.
const AFTERWARDS: Duration = Duration::from_millis(3);

/// The longest frame that is sent in one piece; a longer datagram goes in fragments.
const MTU: usize = 1500;

/// Counters of the ports that tell of a datagram that never reaches the engine.
const PORT_REASONS: &[&str] = &["not-our-destination", "rx-too-long", "no-source-address"];

/// An address of the host that the server does not serve.
const UNSERVED: &str = "2001:db8:ffff::548/64";

/// What is sent.
const REPLIES: &[&str] = &["offers", "acks", "naks", "information-replies"];

/// What is done and needs no reply.
const SILENT: &str = "promises-without-reply";

/// The longest time that a test of the daemon may wait: where time must move, the engine is tested.
const WAIT_SECONDS_MAX: u64 = 3;

/// The server in a namespace, and the frames of the link to it.
pub struct DaemonBackend {
    setup: Setup,
    daemon: Daemon,
    link: FrameSocket,
    counters: Counters,
    others: Vec<Vec<u8>>,
    folder: TempDir,
    server: Netns,
    _clients: Netns,
}

impl DaemonBackend {
    pub fn new(mut setup: Setup) -> Self {
        let server = Netns::new("server").unwrap();
        let clients = Netns::new("clients").unwrap();
        let server_end = End { namespace: &server, name: SERVER_INTERFACE, mac: SERVER_MAC };
        let clients_end = End { namespace: &clients, name: CLIENT_INTERFACE, mac: CLIENT_MAC };
        veth::connect(server_end, clients_end, 1).unwrap();
        server_end.add_address(&format!("{SERVER}/64")).unwrap();
        server_end.add_address(UNSERVED).unwrap();
        server_end.add_neighbour(&RELAY.to_string(), CLIENT_MAC).unwrap();
        let via = clients_end.link_local();
        server.ip(&format!("-6 route add default via {via} dev {SERVER_INTERFACE}")).unwrap();
        let link = clients.enter(|| FrameSocket::open(CLIENT_INTERFACE)).unwrap().unwrap();
        let folder = folder_on_disk("conformance-").unwrap();
        setup.store_in(folder.path());
        let daemon = start(&server, &folder, &setup);
        let counters = daemon.counters().unwrap();
        Self {
            setup,
            daemon,
            link,
            counters,
            others: Vec::new(),
            folder,
            server,
            _clients: clients,
        }
    }

    fn transmit(&self, datagram: &Datagram) {
        let destination_mac = match datagram.destination.octets() {
            [0xff, .., a, b, c, d] => [0x33, 0x33, a, b, c, d],
            _ => SERVER_MAC,
        };
        let frame = Frame {
            destination_mac,
            source_mac: CLIENT_MAC,
            tags: Vec::new(),
            source: datagram.source,
            destination: datagram.destination,
            source_port: datagram.source_port,
            destination_port: 547,
            checksum: None,
            payload: datagram.payload.clone(),
        };
        if datagram.payload.len() + 48 <= MTU {
            self.link.send(&frame.build()).unwrap();
        } else {
            for fragment in frame.build_fragments(MTU - 64, 0x7618) {
                self.link.send(&fragment).unwrap();
            }
        }
    }

    /// The next datagram of the server's port.
    fn receive(&mut self, patience: Duration) -> Option<Sent> {
        let deadline = Instant::now() + patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let octets = self.link.receive(left).unwrap()?;
            let frame = Frame::read(&octets).filter(|frame| frame.source_port == 547);
            let Some(frame) = frame else {
                self.others.push(octets);
                continue;
            };
            assert!(frame.is_checksum_right(), "checksum of {frame:?}");
            return Some(Sent {
                source: frame.source,
                destination: frame.destination,
                destination_port: frame.destination_port,
                payload: frame.payload,
            });
        }
    }
}

fn start(server: &Netns, folder: &TempDir, setup: &Setup) -> Daemon {
    let config = folder.path().join("portlease.toml");
    std::fs::write(&config, setup.text()).unwrap();
    let mut daemon = Daemon::spawn_with(server, &config, &[]).unwrap();
    daemon.wait_ready().unwrap();
    daemon
}

/// The names of all counters that say why a datagram got no answer.
fn reasons() -> impl Iterator<Item = &'static str> {
    let faults = FrameFault::ALL.iter().map(|fault| fault.name());
    Reason::all().map(Reason::name).chain(faults).chain(PORT_REASONS.iter().copied())
}

/// How many datagrams the server is done with.
fn finished(counters: &Counters) -> u64 {
    let refused: u64 = reasons().map(|name| counters.get(name)).sum();
    refused + replies(counters) + counters.get(SILENT)
}

/// How many replies the server has made.
fn replies(counters: &Counters) -> u64 {
    REPLIES.iter().map(|name| counters.get(name)).sum()
}

impl Backend for DaemonBackend {
    fn deliver(&mut self, datagram: &Datagram) -> Outcome {
        let before = self.counters.clone();
        self.transmit(datagram);
        let deadline = Instant::now() + PATIENCE;
        let mut sent = Vec::new();
        loop {
            sent.extend(self.receive(USUAL));
            self.counters = self.daemon.counters().unwrap();
            let answered = replies(&self.counters) > replies(&before);
            let done = finished(&self.counters) > finished(&before);
            if done && (!answered || !sent.is_empty()) {
                break;
            }
            assert!(
                Instant::now() < deadline,
                "no sign of the datagram: {:?}; {}",
                self.counters.since(&before),
                self.daemon.log()
            );
        }
        while let Some(more) = self.receive(AFTERWARDS) {
            sent.push(more);
        }
        let rose = self.counters.since(&before);
        let among = |names: &[&str]| -> BTreeMap<String, u64> {
            let own = rose.iter().filter(|(name, _)| names.contains(&name.as_str()));
            own.cloned().collect()
        };
        let counted = among(&reasons().collect::<Vec<_>>());
        Outcome { sent, counted, remarks: among(&remark_names().collect::<Vec<_>>()) }
    }

    fn state(&mut self) -> Vec<String> {
        self.counters = self.daemon.counters().unwrap();
        let of_leases = |name: &str| {
            name.starts_with("leases-") || name.starts_with("pool-") && name.ends_with("-held")
        };
        let counters = self.counters.iter();
        let counters =
            counters.filter(|(name, _)| of_leases(name) || *name == "offers-outstanding");
        let mut lines: Vec<String> =
            counters.map(|(name, value)| format!("{name} {value}")).collect();
        lines.extend(self.records().iter().map(|record| format!("{record:?}")));
        lines
    }

    /// Read out of the log on the disk, as a start after a crash would read it.
    fn records(&mut self) -> Vec<Record> {
        let mut records = Vec::new();
        RingLog::read(self.folder.path(), &mut |record| records.push(*record)).unwrap();
        records
    }

    fn wait(&mut self, seconds: u64) {
        assert!(seconds <= WAIT_SECONDS_MAX, "where time must move, the engine is tested");
        std::thread::sleep(Duration::from_secs(seconds));
    }

    fn now(&self) -> u32 {
        let passed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        u32::try_from(passed.as_secs()).unwrap()
    }

    fn crash(&mut self, change: &mut dyn FnMut(&mut Setup)) {
        self.daemon.kill().unwrap();
        change(&mut self.setup);
        self.daemon = start(&self.server, &self.folder, &self.setup);
        self.counters = self.daemon.counters().unwrap();
    }

    fn log(&mut self) -> String {
        self.daemon.log()
    }

    fn other_frames(&mut self) -> Vec<Vec<u8>> {
        while self.receive(AFTERWARDS).is_some() {}
        self.others.clone()
    }
}
