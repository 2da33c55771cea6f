//! The machine in virtual time against a server that says what the test tells it to say. Names that begin with `k`
//! and a number are cases of the conformance checklist for clients.

mod discovery;
mod hostile;
mod keep;
mod obtain;
mod session;
mod softwire;

use std::{net::Ipv4Addr, time::Duration};

use super::{
    choose::Mode,
    lease::{Assignment, Lease, Softwire},
    machine::{Action, Config, Event, Loss, Machine, Memory, Note, OnLoss},
    messages::{HardwareAddress, Sender},
    replies::Ignored,
    timers::Moment,
};
use crate::wire::{
    dhcpv4::{self, Header, MessageType, View},
    dhcpv6::{self, Query, Relays},
    portparams::PortParams,
    writer::Writer,
};

const IDENTIFIER: [u8; 15] = [255, 0, 0, 0, 1, 0, 3, 0, 1, 2, 0, 0, 0, 0, 1];
const SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 254);
const OTHER_SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 253);
const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 18);
const SECOND: Duration = Duration::from_secs(1);

/// The port set that the scripted server leases.
const PORTS: PortParams = PortParams { offset: 6, psid_length: 8, psid: 0x34 };

pub(super) fn shared() -> Assignment {
    Assignment { address: ADDRESS, port_params: Some(PORTS) }
}

fn whole() -> Assignment {
    Assignment { address: ADDRESS, port_params: None }
}

fn config() -> Config {
    Config::new(Sender {
        identifier: IDENTIFIER.to_vec(),
        hardware: HardwareAddress::new(1, &[2, 0, 0, 0, 0, 1]).unwrap(),
    })
}

/// A query that left the machine.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    pub(super) at: Moment,
    pub(super) octets: Vec<u8>,
}

impl Sent {
    fn query(&self) -> Query<'_> {
        Query::parse(&self.octets).unwrap()
    }

    pub(super) fn view(&self) -> View<'_> {
        View::parse_request(self.query().message).unwrap()
    }

    pub(super) fn kind(&self) -> MessageType {
        self.view().kind()
    }

    /// Option 159 as it is on the wire.
    fn port_params(&self) -> Option<Vec<u8>> {
        self.option(dhcpv4::OPTION_PORT_PARAMS)
    }

    fn option(&self, code: u8) -> Option<Vec<u8>> {
        self.view().option(code).map(|value| value.pieces().flatten().copied().collect())
    }
}

/// What the scripted server says. A field that is `None` is left out.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    kind: MessageType,
    address: Ipv4Addr,
    server_id: Option<Ipv4Addr>,
    lease: Option<u32>,
    renewal: Option<u32>,
    rebinding: Option<u32>,
    identifier: Option<Vec<u8>>,
    /// Octets of option 159, true or false.
    port_params: Option<Vec<u8>>,
    /// Other DHCPv4 options.
    options: Vec<(u8, Vec<u8>)>,
    /// In place of the query's.
    xid: Option<u32>,
    chaddr: Option<[u8; 16]>,
}

impl Answer {
    fn new(kind: MessageType, assignment: Assignment) -> Self {
        Answer {
            kind,
            address: assignment.address,
            server_id: Some(SERVER),
            lease: Some(3600),
            renewal: None,
            rebinding: None,
            identifier: Some(IDENTIFIER.to_vec()),
            port_params: assignment.port_params.map(|params| params.encode().to_vec()),
            options: Vec::new(),
            xid: None,
            chaddr: None,
        }
    }

    pub(super) fn offer(assignment: Assignment) -> Self {
        Self::new(MessageType::Offer, assignment)
    }

    pub(super) fn ack(assignment: Assignment) -> Self {
        Self::new(MessageType::Ack, assignment)
    }

    fn nak() -> Self {
        let nothing = Assignment { address: Ipv4Addr::UNSPECIFIED, port_params: None };
        Answer { lease: None, ..Self::new(MessageType::Nak, nothing) }
    }

    fn by(self, server_id: Ipv4Addr) -> Self {
        Answer { server_id: Some(server_id), ..self }
    }

    fn lasting(self, seconds: u32) -> Self {
        Answer { lease: Some(seconds), ..self }
    }

    /// The answer to a query, as a UDP payload.
    pub(super) fn to(&self, sent: &Sent) -> Vec<u8> {
        let view = sent.view();
        let mut buffer = [0; 1500];
        let mut w = Writer::new(&mut buffer);
        let envelope = dhcpv6::begin_response(&mut w, Relays::NONE);
        let header = Header {
            hardware_type: view.hardware_type(),
            hardware_length: view.hardware_length(),
            xid: self.xid.unwrap_or(view.xid()),
            yiaddr: self.address,
            chaddr: self.chaddr.unwrap_or(*view.chaddr()),
            ..Header::default()
        };
        header.emit(&mut w);
        dhcpv4::put_message_type(&mut w, self.kind);
        if let Some(server_id) = self.server_id {
            dhcpv4::put_address(&mut w, dhcpv4::OPTION_SERVER_ID, server_id);
        }
        let times = [
            (dhcpv4::OPTION_LEASE_TIME, self.lease),
            (dhcpv4::OPTION_RENEWAL_TIME, self.renewal),
            (dhcpv4::OPTION_REBINDING_TIME, self.rebinding),
        ];
        for (code, value) in times {
            if let Some(value) = value {
                dhcpv4::put_u32(&mut w, code, value);
            }
        }
        if let Some(identifier) = &self.identifier {
            dhcpv4::put_option(&mut w, dhcpv4::OPTION_CLIENT_ID, identifier);
        }
        if let Some(octets) = &self.port_params {
            dhcpv4::put_option(&mut w, dhcpv4::OPTION_PORT_PARAMS, octets);
        }
        for (code, content) in &self.options {
            dhcpv4::put_option(&mut w, *code, content);
        }
        dhcpv4::put_end(&mut w);
        envelope.finish(&mut w);
        w.written().to_vec()
    }
}

/// A machine, its clock, and what it did that nobody has looked at yet.
struct Bench {
    machine: Machine,
    now: Moment,
    sent: Vec<Sent>,
    events: Vec<Action>,
    notes: Vec<Note>,
    stopped: bool,
}

impl Bench {
    /// A machine that has just been started. The clock does not begin at zero, so that nothing depends on that.
    fn start(config: Config, memory: Memory) -> Self {
        Self::start_seeded(config, memory, 1)
    }

    fn start_seeded(config: Config, memory: Memory, seed: u64) -> Self {
        let now = Moment(1_000_000);
        let mut bench = Bench {
            machine: Machine::new(config, memory, seed, now),
            now,
            sent: Vec::new(),
            events: Vec::new(),
            notes: Vec::new(),
            stopped: false,
        };
        bench.handle(Event::Start);
        bench
    }

    /// A machine that holds `assignment` for an hour. It was obtained at [`Bench::now`], to the millisecond.
    fn bound(assignment: Assignment) -> Self {
        Self::bound_for(assignment, 3600)
    }

    fn bound_for(assignment: Assignment, seconds: u32) -> Self {
        let mut bench = Self::start(config(), Memory::Nothing);
        let discover = bench.next_sent();
        bench.hear(&Answer::offer(assignment).lasting(seconds).to(&discover));
        let request = bench.next_sent();
        bench.hear(&Answer::ack(assignment).lasting(seconds).to(&request));
        bench.lease();
        bench.events.clear();
        bench.notes.clear();
        bench
    }

    fn handle(&mut self, event: Event<'_>) {
        let mut actions = Vec::new();
        self.machine.handle(self.now, event, &mut actions);
        for action in actions {
            assert!(!self.stopped, "something follows the end: {action:?}");
            match action {
                Action::Send(octets) => self.sent.push(Sent { at: self.now, octets }),
                Action::Log(note) => self.notes.push(note),
                Action::Stopped => self.stopped = true,
                event => self.events.push(event),
            }
        }
        let due = self.machine.deadline();
        assert!(due.is_none_or(|due| due > self.now), "something due was left: {:?}", self.machine);
    }

    fn hear(&mut self, datagram: &[u8]) {
        self.handle(Event::Datagram(datagram));
    }

    /// Lets time pass. The machine is woken exactly when it wants to be.
    fn run_until(&mut self, end: Moment) {
        while let Some(due) = self.machine.deadline().filter(|&due| due <= end) {
            self.now = due;
            self.handle(Event::Timer);
        }
        self.now = self.now.max(end);
    }

    fn run_for(&mut self, duration: Duration) {
        self.run_until(self.now.plus(duration));
    }

    /// Lets time pass until the next query leaves, and takes it.
    fn next_sent(&mut self) -> Sent {
        while self.sent.is_empty() {
            self.now = self.machine.deadline().expect("it waits for nothing");
            self.handle(Event::Timer);
        }
        self.sent.remove(0)
    }

    /// The lease that was just obtained, taken from the events.
    fn lease(&self) -> Lease {
        let [.., Action::Obtained(lease)] = self.events[..] else { panic!("{:?}", self.events) };
        assert_eq!(self.machine.lease(), Some(&lease));
        lease
    }

    /// Asserts that a datagram changes nothing, and says why it was ignored.
    fn ignored(&mut self, datagram: &[u8]) -> Ignored {
        let before = format!("{:?}", self.machine);
        self.hear(datagram);
        assert_eq!(before, format!("{:?}", self.machine));
        assert!(self.sent.is_empty() && self.events.is_empty());
        let Some(Note::Ignored(reason)) = self.notes.pop() else { panic!("{:?}", self.notes) };
        reason
    }
}

fn seconds_between(earlier: &Sent, later: &Sent) -> f64 {
    later.at.since(earlier.at).as_secs_f64()
}
