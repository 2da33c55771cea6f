//! Clients, servers and the network between them. What passes is written down as a story.

use std::{collections::VecDeque, fmt::Write as _, net::Ipv4Addr, net::Ipv6Addr, time::Duration};

use portlease::{
    client::{
        choose::Mode,
        lease::{Assignment, Lease},
        machine::{Action, Config, Event, Machine, Memory},
        messages::{HardwareAddress, Sender},
        timers::Moment,
    },
    lease::stamp::Now,
    wire::{
        dhcpv4::View,
        dhcpv6::{Query, Response},
    },
};

use crate::common::{Answer, START, Server, client_identifier, network};

/// A server, and whether packets reach it.
pub struct Site {
    pub server: Server,
    pub up: bool,
}

/// A client: its machine, and what it was told to use.
pub struct Node {
    pub machine: Machine,
    pub lease: Option<Lease>,
    pub stopped: bool,
    number: u8,
    link: u16,
}

/// How a client behaves, besides being itself.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    pub link: u16,
    pub mode: Mode,
    pub psid_length: Option<u8>,
    pub memory: Memory,
}

impl Manner {
    /// A client on `link` that remembers nothing.
    pub fn on(link: u16) -> Manner {
        Manner { link, mode: Mode::PreferFull, psid_length: None, memory: Memory::Nothing }
    }
}

/// All of it. Everybody's clock is the same; packets take no time.
pub struct World {
    pub now: Moment,
    pub sites: Vec<Site>,
    pub nodes: Vec<Node>,
    /// How many copies of each datagram arrive: none, one or more.
    pub weather: Box<dyn FnMut() -> usize>,
    story: String,
    xids: Vec<u32>,
    swept: Moment,
}

impl World {
    pub fn new(servers: Vec<Server>) -> World {
        World {
            now: Moment(START.0),
            sites: servers.into_iter().map(|server| Site { server, up: true }).collect(),
            nodes: Vec::new(),
            weather: Box::new(|| 1),
            story: String::new(),
            xids: Vec::new(),
            swept: Moment(START.0),
        }
    }

    /// Starts another client and returns its place.
    pub fn add(&mut self, manner: Manner) -> usize {
        let number = u8::try_from(self.nodes.len() + 1).unwrap();
        let machine = self.machine(number, manner);
        self.nodes.push(Node { machine, lease: None, stopped: false, number, link: manner.link });
        self.tell(self.nodes.len() - 1, Event::Start);
        self.nodes.len() - 1
    }

    /// A client that has lost its memory but for `manner`, in place of the one before.
    pub fn restart(&mut self, node: usize, manner: Manner) {
        self.nodes[node].machine = self.machine(self.nodes[node].number, manner);
        self.nodes[node].lease = None;
        self.note(node, "restarts");
        self.tell(node, Event::Start);
    }

    fn machine(&self, number: u8, manner: Manner) -> Machine {
        let sender = Sender {
            identifier: client_identifier(number),
            hardware: HardwareAddress::new(1, &[2, 0, 0, 0, 0, number]).unwrap(),
        };
        let config = Config {
            mode: manner.mode,
            psid_length: manner.psid_length,
            destinations: u32::try_from(self.sites.len()).unwrap(),
            initial_delay: Duration::ZERO..=Duration::ZERO,
            ..Config::new(sender)
        };
        Machine::new(config, manner.memory, u64::from(number), self.now)
    }

    /// The link that a client is on.
    pub fn link(&self, node: usize) -> u16 {
        self.nodes[node].link
    }

    /// Something happens to a client, and all that follows from it at this moment.
    pub fn tell(&mut self, node: usize, event: Event<'_>) {
        let mut heard = VecDeque::new();
        self.handle(node, event, &mut heard);
        while let Some((node, octets)) = heard.pop_front() {
            self.handle(node, Event::Datagram(&octets), &mut heard);
        }
    }

    /// Lets time pass.
    pub fn run_for(&mut self, seconds: u64) {
        let end = self.now.plus(Duration::from_secs(seconds));
        loop {
            let deadlines = self.nodes.iter().map(|node| node.machine.deadline());
            let due = deadlines.enumerate().filter_map(|(node, due)| Some((due?, node))).min();
            let Some((due, node)) = due.filter(|&(due, _)| due <= end) else { break };
            self.now = due;
            self.tell(node, Event::Timer);
        }
        self.now = end;
        self.sweep();
    }

    /// Lets time pass until a client has a lease.
    pub fn run_until_leased(&mut self, node: usize) -> Lease {
        for _ in 0..10_000 {
            if let Some(lease) = self.nodes[node].lease {
                return lease;
            }
            self.run_for(1);
        }
        panic!("no lease in hours:\n{}", self.story);
    }

    /// What was written since the last call.
    pub fn story(&mut self) -> String {
        std::mem::take(&mut self.story)
    }

    fn sweep(&mut self) {
        if self.now.since(self.swept) < Duration::from_secs(1) {
            return;
        }
        self.swept = self.now;
        for site in &mut self.sites {
            site.server.now = Now(self.now.0);
            site.server.engine.leases().sweep_all(site.server.now);
        }
    }

    fn handle(&mut self, node: usize, event: Event<'_>, heard: &mut VecDeque<(usize, Vec<u8>)>) {
        self.sweep();
        let mut actions = Vec::new();
        self.nodes[node].machine.handle(self.now, event, &mut actions);
        for action in actions {
            match action {
                Action::Send(octets) => self.transmit(node, &octets, heard),
                Action::Obtained(lease) => self.hold(node, "obtained", lease),
                Action::Renewed(lease) => self.hold(node, "renewed", lease),
                Action::Changed { to, .. } => self.hold(node, "changed to", to),
                Action::Lost(lease, loss) => {
                    self.nodes[node].lease = None;
                    let text = format!("lost {}: {loss:?}", tuple(lease.assignment));
                    self.note(node, &text);
                }
                Action::Log(_) => {}
                Action::Inform(_)
                | Action::Servers(_)
                | Action::NativeStop
                | Action::NativeStart => {
                    panic!("no session asked for {action:?}");
                }
                Action::Stopped => {
                    self.nodes[node].stopped = true;
                    self.note(node, "stopped");
                }
            }
        }
    }

    fn hold(&mut self, node: usize, verb: &str, lease: Lease) {
        let text = format!("{verb} {}", tuple(lease.assignment));
        self.note(node, &text);
        self.nodes[node].lease = Some(lease);
        let holders = self.nodes.iter().filter_map(|node| node.lease);
        let same = holders.filter(|held| held.assignment == lease.assignment).count();
        assert_eq!(same, 1, "two clients use {}:\n{}", tuple(lease.assignment), self.story);
    }

    /// One datagram to every server, and the answers back.
    fn transmit(&mut self, node: usize, octets: &[u8], heard: &mut VecDeque<(usize, Vec<u8>)>) {
        let query = Query::parse(octets).unwrap();
        let text = self.describe_query(&query);
        self.note(node, &text);
        let mut source = network(self.nodes[node].link).octets();
        source[15] = self.nodes[node].number;
        for site in 0..self.sites.len() {
            let copies = if self.sites[site].up { (self.weather)() } else { 0 };
            if copies == 0 {
                self.line(&format!("  server {}: never hears it", site + 1));
            }
            for _ in 0..copies {
                let server = &mut self.sites[site].server;
                server.now = Now(self.now.0);
                let answer = server.deliver(octets, Ipv6Addr::from(source));
                let (text, reply) = match answer {
                    Answer::Silent(reason) => (format!("silent: {reason}"), None),
                    Answer::Done => ("silent: done".to_owned(), None),
                    Answer::Information(_) => unreachable!("nobody asks for information"),
                    Answer::Reply(reply) => {
                        (self.describe_reply(&reply.octets), Some(reply.octets))
                    }
                };
                let arrivals = reply.as_ref().map_or(1, |_| (self.weather)());
                let fate = if arrivals == 0 { " (lost)" } else { "" };
                self.line(&format!("  server {}: {text}{fate}", site + 1));
                let reply = reply.into_iter();
                heard.extend(reply.flat_map(|octets| vec![(node, octets); arrivals]));
            }
        }
    }

    fn note(&mut self, node: usize, text: &str) {
        let number = self.nodes[node].number;
        self.line(&format!("client {number}: {text}"));
    }

    fn line(&mut self, text: &str) {
        let seconds = self.now.since(Moment(START.0)).as_secs_f64();
        writeln!(self.story, "{seconds:7.0} {text}").unwrap();
    }

    /// Small numbers in place of random ones, in the order of their appearance.
    fn xid(&mut self, xid: u32) -> usize {
        let known = self.xids.iter().position(|&seen| seen == xid);
        known.unwrap_or_else(|| {
            self.xids.push(xid);
            self.xids.len() - 1
        }) + 1
    }

    fn describe_query(&mut self, query: &Query<'_>) -> String {
        let view = View::parse_request(query.message).unwrap();
        let unicast = if query.unicast { " U" } else { "" };
        let mut text = format!("{}{unicast} #{}", kind(&view), self.xid(view.xid()));
        let port_params = view.port_params().present();
        let assignment = |address| tuple(Assignment { address, port_params });
        if !view.ciaddr().is_unspecified() {
            write!(text, " has {}", assignment(view.ciaddr())).unwrap();
        }
        match view.requested_address() {
            Some(address) => write!(text, " wants {}", assignment(address)).unwrap(),
            None if view.ciaddr().is_unspecified() && port_params.is_some() => {
                let length = port_params.unwrap().psid_length;
                write!(text, " wants k = {length}").unwrap();
            }
            None => {}
        }
        if let Some(server) = view.server_id() {
            write!(text, " of {server}").unwrap();
        }
        if view.seconds() > 0 {
            write!(text, " since {} s", view.seconds()).unwrap();
        }
        text
    }

    fn describe_reply(&mut self, octets: &[u8]) -> String {
        let response = Response::parse(octets).unwrap();
        let view = View::parse_reply(response.message).unwrap();
        let mut text = format!("{} #{}", kind(&view), self.xid(view.xid()));
        if !view.yiaddr().is_unspecified() {
            let port_params = view.port_params().present();
            let assignment = Assignment { address: view.yiaddr(), port_params };
            write!(text, " {}", tuple(assignment)).unwrap();
        }
        if let Some(seconds) = view.lease_seconds() {
            write!(text, " for {seconds} s").unwrap();
        }
        text
    }
}

fn kind(view: &View<'_>) -> String {
    format!("{:?}", view.kind()).to_uppercase()
}

/// `192.0.2.18[1/6]`: PSID 1 of six bits; with an offset `192.0.2.18[1/6+4]`.
pub fn tuple(assignment: Assignment) -> String {
    let address: Ipv4Addr = assignment.address;
    match assignment.port_params {
        None => format!("{address}"),
        Some(params) if params.offset == 0 => {
            format!("{address}[{}/{}]", params.psid, params.psid_length)
        }
        Some(params) => {
            format!("{address}[{}/{}+{}]", params.psid, params.psid_length, params.offset)
        }
    }
}
