//! The client's machines in this process, with a clock that the test moves and a server that it plays.

use std::{ops::RangeInclusive, time::Duration};

use portlease::{
    client::{
        discovery,
        lease::{Assignment, Lease},
        machine::{Action, Config, Memory, Note, OnLoss},
        messages::{HardwareAddress, Sender},
        servers::Servers,
        session::{self, Event, Session, Source},
        timers::Moment,
    },
    wire::portparams::PortParams,
};

use crate::{
    client_messages::{Answer, Asked},
    packet::{DISCOVER, REQUEST, Tuple},
};

pub const SECOND: Duration = Duration::from_secs(1);

/// The client's identity: type 255, IAID 1, DUID-LL.
pub const IDENTIFIER: [u8; 15] = [255, 0, 0, 0, 1, 0, 3, 0, 1, 2, 0, 0, 0, 0, 1];

/// Seeds with which a case about what is random runs.
pub const SEEDS: RangeInclusive<u64> = 1..=200;

/// A client as the RFCs recommend it.
pub fn config() -> Config {
    let hardware = HardwareAddress::new(1, &[2, 0, 0, 0, 0, 1]).unwrap();
    Config::new(Sender { identifier: IDENTIFIER.to_vec(), hardware })
}

/// What the client calls a tuple.
pub fn assignment(tuple: Tuple) -> Assignment {
    let port_params = tuple.ports.map(|ports| PortParams {
        offset: ports.offset,
        psid_length: ports.length,
        psid: ports.psid,
    });
    Assignment { address: tuple.address, port_params }
}

/// A query and when it left.
#[derive(Clone, Debug)]
pub struct Sent {
    pub at: Moment,
    pub asked: Asked,
}

impl Sent {
    pub fn seconds_after(&self, earlier: &Sent) -> f64 {
        self.at.since(earlier.at).as_secs_f64()
    }
}

/// A client, its clock, and what it did that nobody has looked at yet.
pub struct Rig {
    pub session: Session,
    pub now: Moment,
    sent: Vec<Sent>,
    pub informs: Vec<Vec<u8>>,
    /// All but transmissions and remarks.
    pub events: Vec<Action>,
    pub notes: Vec<Note>,
    memory: Memory,
}

impl Rig {
    fn new(session: session::Config, memory: Memory, seed: u64) -> Self {
        // The clock does not begin at zero, so that nothing depends on that.
        let now = Moment(1_000_000);
        let mut rig = Rig {
            session: Session::new(session, seed, now),
            now,
            sent: Vec::new(),
            informs: Vec::new(),
            events: Vec::new(),
            notes: Vec::new(),
            memory,
        };
        rig.handle(Event::Start);
        rig
    }

    /// A client that asks by multicast and remembers this.
    pub fn start(machine: Config, memory: Memory, seed: u64) -> Self {
        let source = Source::Fixed(Servers::Group);
        let session = session::Config { machine, source, on_loss: OnLoss::Now };
        let mut rig = Self::new(session, memory, seed);
        rig.events.clear();
        rig
    }

    /// A client that knows nothing.
    pub fn fresh() -> Self {
        Self::start(config(), Memory::Nothing, 1)
    }

    /// A client that looks for its servers by DHCPv6.
    pub fn discovering(on_loss: OnLoss) -> Self {
        let source = Source::Discovery(discovery::Config::new(Some(IDENTIFIER[5..].to_vec())));
        let session = session::Config { machine: config(), source, on_loss };
        Self::new(session, Memory::Nothing, 1)
    }

    /// A client that holds this for an hour.
    pub fn bound(tuple: Tuple) -> Self {
        Self::bound_by(&Answer::ack(tuple), tuple)
    }

    /// A client that holds what this ACK gives.
    pub fn bound_by(ack: &Answer, tuple: Tuple) -> Self {
        let mut rig = Self::fresh();
        rig.obtain(&Answer::offer(tuple), ack);
        rig
    }

    /// Answers the next DISCOVER and REQUEST. Gives the lease, and forgets how it came about.
    #[track_caller]
    pub fn obtain(&mut self, offer: &Answer, ack: &Answer) -> Lease {
        let discover = self.next_sent();
        assert_eq!(discover.asked.kind(), DISCOVER);
        self.hear(&offer.to(&discover.asked));
        let request = self.next_sent();
        assert_eq!(request.asked.kind(), REQUEST);
        self.hear(&ack.to(&request.asked));
        let [Action::Obtained(lease)] = self.events[..] else { panic!("{:?}", self.events) };
        assert_eq!(self.session.lease(), Some(&lease));
        self.events.clear();
        self.notes.clear();
        lease
    }

    pub fn handle(&mut self, event: Event<'_>) {
        let mut actions = Vec::new();
        self.session.handle(self.now, event, &mut actions);
        let mut found = None;
        for action in actions {
            match action {
                Action::Send(octets) => {
                    self.sent.push(Sent { at: self.now, asked: Asked::read(&octets) });
                }
                Action::Inform(octets) => self.informs.push(octets),
                Action::Log(note) => self.notes.push(note),
                action => {
                    if let Action::Servers(Some(servers)) = &action {
                        found = Some(servers.addresses().len());
                    }
                    self.events.push(action);
                }
            }
        }
        if let Some(count) = found {
            let destinations = u32::try_from(count).unwrap();
            self.handle(Event::Reachable { destinations, offer_wait: SECOND, memory: self.memory });
        }
        let due = self.session.deadline();
        assert!(due.is_none_or(|due| due > self.now), "something due was left: {:?}", self.session);
    }

    pub fn hear(&mut self, datagram: &[u8]) {
        self.handle(Event::Datagram(datagram));
    }

    /// Asserts that a datagram changes nothing and causes nothing.
    #[track_caller]
    pub fn ignores(&mut self, datagram: &[u8]) {
        let before = format!("{:?}", self.session);
        self.hear(datagram);
        assert_eq!(before, format!("{:?}", self.session));
        assert!(self.sent.is_empty() && self.events.is_empty());
        let Some(Note::Ignored(_)) = self.notes.pop() else { panic!("{:?}", self.notes) };
    }

    /// Lets time pass. The client is woken exactly when it wants to be.
    pub fn run_until(&mut self, end: Moment) {
        while let Some(due) = self.session.deadline().filter(|&due| due <= end) {
            self.now = self.now.max(due);
            self.handle(Event::Timer);
        }
        self.now = self.now.max(end);
    }

    pub fn run_for(&mut self, duration: Duration) {
        self.run_until(self.now.plus(duration));
    }

    /// Lets time pass until something happens that `take` finds.
    #[track_caller]
    fn wait<T>(&mut self, mut take: impl FnMut(&mut Self) -> Option<T>) -> T {
        loop {
            if let Some(found) = take(self) {
                return found;
            }
            let due = self.session.deadline().expect("it waits for nothing");
            self.now = self.now.max(due);
            self.handle(Event::Timer);
        }
    }

    /// Lets time pass until the next query leaves.
    #[track_caller]
    pub fn next_sent(&mut self) -> Sent {
        self.wait(|rig| (!rig.sent.is_empty()).then(|| rig.sent.remove(0)))
    }

    /// Lets time pass until the next Information-request leaves.
    #[track_caller]
    pub fn next_inform(&mut self) -> Vec<u8> {
        self.wait(|rig| (!rig.informs.is_empty()).then(|| rig.informs.remove(0)))
    }

    /// Takes the queries that have left.
    pub fn take_sent(&mut self) -> Vec<Sent> {
        std::mem::take(&mut self.sent)
    }

    /// Takes what happened.
    pub fn take_events(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.events)
    }
}
