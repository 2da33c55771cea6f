//! What must hold of a client for any sequence of events: datagrams, silence, and whatever else happens to it.
//!
//! An input begins with an octet that chooses the configuration, and goes on with steps: an octet that says what
//! happens, its length in two octets, and its content. A datagram may be anything at all, or a reply to the client's
//! last query, which is made here and spoiled by the content.

use std::{collections::VecDeque, net::Ipv4Addr, time::Duration};

use portlease::{
    client::{
        choose::Mode,
        discovery::{self, Discovery},
        lease::{Assignment, Lease},
        machine::{Action, Config, Event, Machine, Memory, OnLoss},
        messages::{HardwareAddress, Sender},
        timers::Moment,
    },
    wire::{
        dhcpv4::{self, Header, MessageType, View},
        dhcpv6::{self, Query, Relays},
        portparams::PortParams,
        writer::Writer,
    },
};

/// The client's identifier (RFC 4361).
const IDENTIFIER: [u8; 15] = [255, 0, 0, 0, 1, 0, 3, 0, 1, 2, 0, 0, 0, 0, 1];

/// The client's DUID.
const DUID: [u8; 10] = [0, 3, 0, 1, 2, 0, 0, 0, 0, 1];

/// Datagrams that may leave in any [`RATE_WINDOW`] (RFC 8415 §14.1).
const RATE_MAX: usize = 20;
const RATE_WINDOW: Duration = Duration::from_secs(20);

/// How long before something happens, by the low three bits of its step's octet.
const PAUSES: [u64; 8] = [0, 1, 1_000, 5_000, 61_000, 1_800_000, 3_600_000, 86_400_000];

/// Wake-ups in one pause; a client with more is busy with itself.
const WAKES_MAX: usize = 40_000;

/// One step, as the octets of an input.
pub(crate) fn step(what: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).expect("a short step");
    let [high, low] = length.to_be_bytes();
    [&[what, high, low], content].concat()
}

/// The first step of an input and the rest.
fn take_step(input: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[what, high, low], rest) = input.split_first_chunk()?;
    let length = usize::from(u16::from_be_bytes([high, low])).min(rest.len());
    let (content, rest) = rest.split_at(length);
    Some((what, content, rest))
}

/// Any life of a client.
pub(crate) fn life(input: &[u8]) {
    let Some((&choice, mut rest)) = input.split_first() else { return };
    let mut life = Life::new(choice);
    life.tell(Event::Start);
    while let Some((what, content, after)) = take_step(rest) {
        rest = after;
        life.pass(PAUSES[usize::from(what & 7)]);
        match what >> 3 {
            0..=15 => {
                let reply = life.reply(what >> 3, content);
                life.tell(Event::Datagram(&reply));
            }
            16..=19 => life.tell(Event::Datagram(content)),
            20 | 21 => life.tell(Event::RenewNow),
            22 => life.tell(Event::SourceChanged),
            23 => {
                life.enabled = false;
                life.tell(Event::Disabled(OnLoss::Now));
            }
            24 => {
                life.enabled = false;
                life.tell(Event::Disabled(OnLoss::LeaseEnd));
            }
            25 | 26 => {
                life.enabled = true;
                life.tell(Event::Enabled(1));
                life.tell(Event::Start);
            }
            27 => life.tell(Event::Release),
            _ => life.tell(Event::Timer),
        }
    }
}

/// A client and all that is known of it from outside.
struct Life {
    machine: Machine,
    config: Config,
    now: Moment,
    lease: Option<Lease>,
    /// When the last datagrams left.
    sent: VecDeque<Moment>,
    /// The last query: its kind and its `xid`.
    asked: Option<(MessageType, u32)>,
    enabled: bool,
    stopped: bool,
}

impl Life {
    fn new(choice: u8) -> Self {
        let hardware = HardwareAddress::new(1, &[2, 0, 0, 0, 0, 1]).expect("six octets");
        let sender = Sender { identifier: IDENTIFIER.to_vec(), hardware };
        let modes = [
            Mode::PreferFull,
            Mode::PreferShared,
            Mode::SharedOnly,
            Mode::FullOnly,
            Mode::FullFirst,
        ];
        let config = Config {
            mode: modes[usize::from(choice & 7) % modes.len()],
            psid_length: (choice & 8 != 0).then_some(6),
            ..Config::new(sender)
        };
        let had = Assignment { address: Ipv4Addr::new(192, 0, 2, 18), port_params: Some(ports()) };
        let memory = match choice >> 6 {
            0 | 1 => Memory::Nothing,
            2 => Memory::Wish(had),
            _ => Memory::Lease(had),
        };
        let now = Moment(1_000_000);
        Life {
            machine: Machine::new(config.clone(), memory, u64::from(choice), now),
            config,
            now,
            lease: None,
            sent: VecDeque::new(),
            asked: None,
            enabled: true,
            stopped: false,
        }
    }

    /// Lets time pass and wakes the client whenever it wants.
    fn pass(&mut self, milliseconds: u64) {
        let end = Moment(self.now.0 + milliseconds);
        for _ in 0..WAKES_MAX {
            match self.machine.deadline() {
                Some(deadline) if deadline <= end => {
                    self.now = self.now.max(deadline);
                    self.tell(Event::Timer);
                }
                _ => {
                    self.now = end;
                    return;
                }
            }
        }
        panic!("the client wakes up again and again");
    }

    fn tell(&mut self, event: Event<'_>) {
        let mut actions = Vec::new();
        self.machine.handle(self.now, event, &mut actions);
        assert!(actions.len() < 100, "one event leads to {} actions", actions.len());
        for action in actions {
            assert!(!self.stopped, "{action:?} after it stopped");
            self.note(action);
        }
        assert_eq!(self.machine.lease().is_some(), self.lease.is_some());
        if let Some(lease) = &self.lease {
            assert!(!lease.is_over(self.now), "{lease:?} is over");
        }
        let deadline = self.machine.deadline();
        assert!(deadline.is_none_or(|deadline| deadline > self.now), "{deadline:?} is past");
    }

    fn note(&mut self, action: Action) {
        match action {
            Action::Send(octets) => self.note_query(&octets),
            Action::Obtained(lease) => {
                assert_eq!(self.lease, None, "it has a lease already");
                self.accept(lease);
            }
            Action::Renewed(lease) => {
                let before = self.lease.expect("a lease that goes on");
                assert_eq!(before.assignment, lease.assignment);
                self.accept(lease);
            }
            Action::Changed { from, to } => {
                assert_eq!(self.lease, Some(from));
                self.accept(to);
            }
            Action::Lost(lease, _) => assert_eq!(self.lease.take(), Some(lease)),
            Action::Stopped => self.stopped = true,
            _ => {}
        }
    }

    fn accept(&mut self, lease: Lease) {
        let terms = lease.terms;
        assert!(lease.assignment.port_count() > 0, "{lease:?} is of no port");
        assert!(!lease.assignment.address.is_unspecified());
        assert!(terms.renewal_seconds <= terms.rebinding_seconds, "{terms:?}");
        assert!(terms.rebinding_seconds <= terms.lease_seconds, "{terms:?}");
        let shared = lease.assignment.port_params.is_some();
        assert!(!shared || self.config.mode != Mode::FullOnly, "{lease:?} is shared");
        self.lease = Some(lease);
    }

    fn note_query(&mut self, octets: &[u8]) {
        assert!(self.enabled, "nothing may be sent without option 88");
        self.sent.push_back(self.now);
        while self.sent.front().is_some_and(|&first| self.now.since(first) >= RATE_WINDOW) {
            self.sent.pop_front();
        }
        // A full bucket and what flows into it meanwhile.
        assert!(self.sent.len() <= 2 * RATE_MAX, "{} datagrams in 20 s", self.sent.len());
        let query = Query::parse(octets).expect("a query that can be read");
        let view = View::parse_request(query.message).expect("a request that can be read");
        let kind = view.kind();
        let identifier = view.client_identifier().expect("every query has a client identifier");
        assert!(identifier.pieces().flatten().eq(&IDENTIFIER));
        let bound = !view.ciaddr().is_unspecified();
        let listed = view.requests(dhcpv4::OPTION_PORT_PARAMS);
        match kind {
            MessageType::Discover => {
                assert!(!query.unicast && !bound && view.server_id().is_none());
            }
            MessageType::Request if bound => {
                assert!(view.server_id().is_none() && view.requested_address().is_none());
            }
            MessageType::Request => assert!(!query.unicast && view.requested_address().is_some()),
            MessageType::Release => {
                assert!(query.unicast && bound && view.server_id().is_some());
                assert!(view.parameter_request_list().is_none());
            }
            MessageType::Decline => assert!(view.parameter_request_list().is_none()),
            other => panic!("a client that sends {other:?}"),
        }
        assert!(self.config.mode != Mode::FullOnly || !listed, "it cannot share");
        self.asked = Some((kind, view.xid()));
    }

    /// A reply to the last query, spoiled by `content`: pairs of a place and the bits that are flipped there.
    fn reply(&self, shape: u8, content: &[u8]) -> Vec<u8> {
        let (asked, xid) = self.asked.unwrap_or((MessageType::Discover, 0));
        let kind = match (shape & 3, asked) {
            (3, _) => MessageType::Nak,
            (_, MessageType::Discover) => MessageType::Offer,
            _ => MessageType::Ack,
        };
        let header = Header {
            op: dhcpv4::BOOT_REPLY,
            hardware_type: 1,
            hardware_length: 6,
            xid,
            seconds: 0,
            flags: 0,
            ciaddr: Ipv4Addr::UNSPECIFIED,
            yiaddr: Ipv4Addr::new(192, 0, 2, 18),
            siaddr: Ipv4Addr::UNSPECIFIED,
            giaddr: Ipv4Addr::UNSPECIFIED,
            chaddr: [2, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        };
        let mut octets = [0; 600];
        let mut w = Writer::new(&mut octets);
        let envelope = dhcpv6::begin_response(&mut w, Relays::NONE);
        header.emit(&mut w);
        dhcpv4::put_message_type(&mut w, kind);
        dhcpv4::put_address(&mut w, dhcpv4::OPTION_SERVER_ID, Ipv4Addr::new(192, 0, 2, 254));
        dhcpv4::put_option(&mut w, dhcpv4::OPTION_CLIENT_ID, &IDENTIFIER);
        if kind != MessageType::Nak {
            dhcpv4::put_u32(&mut w, dhcpv4::OPTION_LEASE_TIME, 3600);
            if shape & 4 == 0 {
                dhcpv4::put_port_params(&mut w, ports());
            }
            if shape & 8 != 0 {
                dhcpv4::put_u32(&mut w, dhcpv4::OPTION_RENEWAL_TIME, 300);
                dhcpv4::put_u32(&mut w, dhcpv4::OPTION_REBINDING_TIME, 600);
            }
        }
        dhcpv4::put_end(&mut w);
        envelope.finish(&mut w);
        let mut reply = w.written().to_vec();
        let places = reply.len();
        let (changes, _) = content.as_chunks::<3>();
        for &[high, low, bits] in changes {
            reply[usize::from(u16::from_be_bytes([high, low])) % places] ^= bits;
        }
        reply
    }
}

/// The port set of the replies.
fn ports() -> PortParams {
    PortParams { offset: 6, psid_length: 8, psid: 0x34 }
}

/// Any answers to a client that looks for servers: the steps are those of [`life`], without replies made here.
pub(crate) fn search(input: &[u8]) {
    let duid = input.first().is_some_and(|octet| octet & 1 != 0).then(|| DUID.to_vec());
    let mut discovery = Discovery::new(discovery::Config::new(duid), 7);
    let (mut now, mut transaction) = (Moment(1_000_000), [0; 3]);
    let mut rest = input.get(1..).unwrap_or_default();
    let mut event = discovery::Event::Start;
    let mut patched;
    loop {
        let mut actions = Vec::new();
        discovery.handle(now, event, &mut actions);
        assert!(actions.len() < 4, "{actions:?}");
        for action in &actions {
            if let discovery::Action::Send(octets) = action {
                assert_eq!(octets.first(), Some(&dhcpv6::INFORMATION_REQUEST));
                transaction = octets[1..4].try_into().expect("a transaction");
            }
        }
        let Some((what, content, after)) = take_step(rest) else { return };
        rest = after;
        now = Moment(now.0 + PAUSES[usize::from(what & 7)]);
        event = match what >> 3 {
            0..=3 => discovery::Event::Timer,
            4 => discovery::Event::Again,
            5..=8 => discovery::Event::Datagram(content),
            _ => {
                patched = [&[dhcpv6::REPLY], &transaction[..], content].concat();
                discovery::Event::Datagram(&patched)
            }
        };
    }
}
