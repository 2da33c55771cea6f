//! A server without a network: the real engine over real leases, with the reference configuration and a clock that
//! the test moves; and messages to send to it.
#![allow(dead_code, reason = "each test binary uses its own part")]

mod reference;

use std::{net::Ipv4Addr, net::Ipv6Addr, sync::Arc};

use portlease::{
    engine::{
        Engine, ReplyKind, Verdict,
        policy::{Policy, Reservation},
        remark::Remarks,
    },
    lease::{
        Features, Leases, Settings,
        geometry::PoolSpec,
        key::IdentitySecret,
        promise::{LaneId, Promise, Watermarks},
        record::Record,
        stamp::Now,
    },
    wire::{
        datagram::Datagram,
        dhcpv4::{self, Header, MessageType, PortParamsField, View},
        dhcpv6::{self, RelayForward, Response},
        portparams::PortParams,
        writer::Writer,
    },
};

pub use reference::*;

/// When the tests begin, in milliseconds.
pub const START: Now = Now(1_800_000_000_000);

/// The secret of the tests' identities.
pub const SECRET: IdentitySecret = IdentitySecret([7; 16]);

/// The leases of the reference configuration, empty.
pub fn leases(pools: &[PoolSpec], watermarks: &Arc<Watermarks>) -> Leases {
    leases_with(pools, watermarks, Features::default())
}

/// The same, and what they do besides leasing.
fn leases_with(pools: &[PoolSpec], watermarks: &Arc<Watermarks>, features: Features) -> Leases {
    let settings = Settings {
        capacity: 1000,
        offers_max: 1000,
        hold_down_seconds: 120,
        decline_hold_seconds: 86400,
        watermarks: Arc::clone(watermarks),
        shards: None,
        features,
    };
    Leases::new(pools, settings).unwrap()
}

/// An engine, the leases that it decides over, and a clock.
pub struct Server {
    pub engine: Engine,
    pub now: Now,
    /// Every record that was promised, in order.
    pub journal: Vec<Record>,
    pools: Vec<PoolSpec>,
    /// What is reserved after the next restart, if that is to change.
    reserved: Option<Vec<Reservation>>,
    watermarks: Arc<Watermarks>,
}

impl Server {
    pub fn reference() -> Server {
        Server::with(|_| {})
    }

    /// The reference configuration, with a policy changed by `change`.
    pub fn with(change: impl FnOnce(&mut Policy)) -> Server {
        Server::serving(&reference_pools(), change)
    }

    /// Other pools, which have the numbers and links of the reference configuration's.
    pub fn serving(pools: &[PoolSpec], change: impl FnOnce(&mut Policy)) -> Server {
        Server::featuring(pools, Features::default(), change)
    }

    /// The same, and leases that do more.
    pub fn featuring(
        pools: &[PoolSpec],
        features: Features,
        change: impl FnOnce(&mut Policy),
    ) -> Server {
        let mut policy = reference_policy();
        change(&mut policy);
        let watermarks = Arc::new(Watermarks::new(1));
        let leases = Arc::new(leases_with(pools, &watermarks, features));
        let engine = Engine::new(policy, leases, SECRET);
        let (journal, pools) = (Vec::new(), pools.to_vec());
        Server { engine, now: START, journal, pools, reserved: None, watermarks }
    }

    /// The server after a crash: what it has promised is read back, in another order.
    pub fn restarted(self, features: Features) -> Server {
        let Server { engine, now, journal, pools, reserved, .. } = self;
        let watermarks = Arc::new(Watermarks::new(1));
        let leases = leases_with(&pools, &watermarks, features);
        let mut recovery = leases.recover();
        journal.iter().rev().for_each(|record| recovery.adopt(record));
        recovery.finish(now).unwrap();
        leases.check_invariants().unwrap();
        let mut policy = engine.policy().clone();
        policy.reservations = reserved.unwrap_or(policy.reservations);
        let engine = Engine::new(policy, Arc::new(leases), SECRET);
        watermarks.publish(LaneId(0), journal.len() as u64);
        Server { engine, now, journal, pools, reserved: None, watermarks }
    }

    /// Other reservations from the next restart on.
    pub fn reserve(&mut self, reservations: &[Reservation]) {
        self.reserved = Some(reservations.to_vec());
    }

    /// Lets time pass, sweeping as the workers do.
    pub fn advance(&mut self, seconds: u64) {
        self.now.0 += seconds * 1000;
        self.engine.leases().sweep_all(self.now);
        self.engine.leases().check_invariants().unwrap();
    }

    /// Sends a query; what it promises is durable at once.
    pub fn send(&mut self, query: &Query) -> Answer {
        self.deliver(&query.octets(), query.source())
    }

    /// Sends the payload of a datagram.
    pub fn deliver(&mut self, payload: &[u8], peer: Ipv6Addr) -> Answer {
        let datagram = datagram(payload, peer);
        let promise = Promise { lane: LaneId(0), sequence: self.journal.len() as u64 + 1 };
        let mut out = [0; 1500];
        let verdict = self.engine.answer(self.now, &datagram, promise, &mut out);
        let reply = match verdict {
            Verdict::Ignore(reason) => return Answer::Silent(reason.name()),
            Verdict::Reply(reply) => Some(reply),
            Verdict::Promise { records, reply } => {
                self.journal.extend(records.iter());
                self.watermarks.publish(LaneId(0), self.journal.len() as u64);
                reply
            }
        };
        self.engine.leases().check_invariants().unwrap();
        match reply {
            None => Answer::Done,
            Some(reply) => {
                let octets = &out[..reply.length()];
                if reply.kind() == ReplyKind::Information {
                    return Answer::Information(octets.to_vec());
                }
                Answer::Reply(Received::of(octets, reply.port(), reply.remarks()))
            }
        }
    }

    /// Sends a query and leaves what it promises undurable. Whether its reply has to wait.
    pub fn promise_without_commit(&mut self, query: &Query) -> bool {
        let payload = query.octets();
        let promise = Promise { lane: LaneId(0), sequence: self.journal.len() as u64 + 1 };
        let mut out = [0; 1500];
        let datagram = datagram(&payload, query.source());
        match self.engine.answer(self.now, &datagram, promise, &mut out) {
            Verdict::Promise { records, reply: Some(_) } => {
                self.journal.extend(records.iter());
                true
            }
            Verdict::Reply(_) => false,
            other => panic!("{other:?}"),
        }
    }

    /// Leases that run.
    pub fn active(&self) -> usize {
        self.engine.leases().census(self.now).active
    }

    /// Makes durable what is not yet.
    pub fn commit(&mut self) {
        self.watermarks.publish(LaneId(0), self.journal.len() as u64);
    }

    /// Sends a query that has only `room` octets for its reply; why there is none.
    pub fn refuse_for_room(&mut self, query: &Query, room: usize) -> &'static str {
        let payload = query.octets();
        let promise = Promise { lane: LaneId(0), sequence: self.journal.len() as u64 + 1 };
        let mut out = vec![0; room];
        match self.engine.answer(self.now, &datagram(&payload, query.source()), promise, &mut out) {
            Verdict::Ignore(reason) => reason.name(),
            other => panic!("{other:?}"),
        }
    }

    /// DISCOVER and REQUEST: a whole lease for `client` on `link`.
    pub fn obtain(&mut self, client: u8, link: u16) -> Received {
        let offer = self.send(&Query::discover(client, link)).offer();
        self.send(&Query::select(client, link, &offer)).ack()
    }
}

fn datagram(payload: &[u8], peer: Ipv6Addr) -> Datagram<'_> {
    let local = "2001:db8:ffff::547".parse().unwrap();
    Datagram { peer, peer_port: 547, local, interface: 1, payload }
}

/// What came back.
#[derive(Debug)]
pub enum Answer {
    /// Nothing, for this reason.
    Silent(&'static str),
    /// Nothing, and something was done.
    Done,
    Reply(Received),
    /// A Reply to an Information-request: its octets.
    Information(Vec<u8>),
}

impl Answer {
    #[track_caller]
    pub fn reply(self, kind: MessageType) -> Received {
        match self {
            Answer::Reply(reply) if reply.kind == kind => reply,
            other => panic!("expected {kind:?}, got {other:?}"),
        }
    }

    #[track_caller]
    pub fn offer(self) -> Received {
        self.reply(MessageType::Offer)
    }

    #[track_caller]
    pub fn ack(self) -> Received {
        self.reply(MessageType::Ack)
    }

    #[track_caller]
    pub fn nak(self) -> Received {
        let nak = self.reply(MessageType::Nak);
        // RFC 2131 Table 3: no address, no lease time; RFC 7618: no option 159.
        assert!(
            nak.address.is_unspecified() && nak.lease_seconds.is_none() && nak.params.is_none()
        );
        nak
    }

    #[track_caller]
    pub fn silent(self, reason: &str) {
        match self {
            Answer::Silent(seen) if seen == reason => {}
            other => panic!("expected silence for {reason}, got {other:?}"),
        }
    }
}

/// A reply, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    pub kind: MessageType,
    pub port: u16,
    /// What is to be counted beside it.
    pub remarks: Remarks,
    pub xid: u32,
    pub flags: u16,
    pub seconds: u16,
    pub ciaddr: Ipv4Addr,
    pub address: Ipv4Addr,
    pub params: Option<PortParams>,
    pub lease_seconds: Option<u32>,
    pub renewal_seconds: Option<u32>,
    pub rebinding_seconds: Option<u32>,
    pub server_id: Option<Ipv4Addr>,
    pub client_identifier: Option<Vec<u8>>,
    pub softwire: Option<Ipv6Addr>,
    pub octets: Vec<u8>,
}

impl Received {
    pub fn read(octets: &[u8], port: u16) -> Received {
        Received::of(octets, port, Remarks::default())
    }

    /// The same, with what the engine remarks.
    pub fn of(octets: &[u8], port: u16, remarks: Remarks) -> Received {
        let response = Response::parse(octets).unwrap();
        let view = View::parse_reply(response.message).unwrap();
        Received {
            kind: view.kind(),
            port,
            remarks,
            xid: view.xid(),
            flags: view.flags(),
            seconds: view.seconds(),
            ciaddr: view.ciaddr(),
            address: view.yiaddr(),
            params: match view.port_params() {
                PortParamsField::Absent => None,
                PortParamsField::Present(params) => Some(params),
                PortParamsField::Invalid => panic!("invalid option 159 in a reply"),
            },
            lease_seconds: view.lease_seconds(),
            renewal_seconds: view.renewal_seconds(),
            rebinding_seconds: view.rebinding_seconds(),
            server_id: view.server_id(),
            client_identifier: view
                .client_identifier()
                .map(|value| value.pieces().flatten().copied().collect()),
            softwire: view.softwire_source(),
            octets: octets.to_vec(),
        }
    }

    /// Address and port set, for comparison.
    pub fn tuple(&self) -> (Ipv4Addr, Option<PortParams>) {
        (self.address, self.params)
    }
}

/// A query to be sent: fields as the test wants them, right or wrong.
#[derive(Clone, Debug)]
pub struct Query {
    pub kind: MessageType,
    pub client: u8,
    pub link: u16,
    pub relayed: bool,
    pub unicast: bool,
    pub xid: u32,
    pub seconds: u16,
    pub flags: u16,
    pub ciaddr: Ipv4Addr,
    pub giaddr: Ipv4Addr,
    pub hardware: Vec<u8>,
    pub client_identifier: Option<Vec<u8>>,
    pub requested: Option<Ipv4Addr>,
    pub server_id: Option<Ipv4Addr>,
    pub lease_seconds: Option<u32>,
    /// Content of option 159, as it stands.
    pub params: Option<Vec<u8>>,
    pub parameter_list: Vec<u8>,
    /// Interface-Id of the relay.
    pub interface_id: Option<Vec<u8>>,
    /// Remote-Id of the relay.
    pub remote_id: Option<Vec<u8>>,
    /// Further options, behind all others.
    pub extra: Vec<(u8, Vec<u8>)>,
    /// Content of option 109, as it stands.
    pub softwire: Option<Vec<u8>>,
}

/// An RFC 4361 client identifier that ends in `client`.
pub fn client_identifier(client: u8) -> Vec<u8> {
    vec![255, 0, 0, 0, 1, 0, 3, 0, 1, 2, 0, 0, 0, 0, client]
}

/// The octets of option 159.
pub fn params(offset: u8, psid_length: u8, psid: u16) -> Vec<u8> {
    PortParams { offset, psid_length, psid }.encode().to_vec()
}

impl Query {
    pub fn new(kind: MessageType, client: u8, link: u16) -> Query {
        Query {
            kind,
            client,
            link,
            relayed: false,
            unicast: false,
            xid: 0x1122_3344,
            seconds: 0,
            flags: 0,
            ciaddr: Ipv4Addr::UNSPECIFIED,
            giaddr: Ipv4Addr::UNSPECIFIED,
            hardware: vec![2, 0, 0, 0, 0, client],
            client_identifier: Some(client_identifier(client)),
            requested: None,
            server_id: None,
            lease_seconds: None,
            params: None,
            parameter_list: vec![1, 3, 6, 51, 58, 59, 159],
            interface_id: Some(b"ge-0/0/1".to_vec()),
            remote_id: None,
            extra: Vec::new(),
            softwire: None,
        }
    }

    pub fn discover(client: u8, link: u16) -> Query {
        Query::new(MessageType::Discover, client, link)
    }

    /// The REQUEST that chooses `offer`.
    pub fn select(client: u8, link: u16, offer: &Received) -> Query {
        Query {
            requested: Some(offer.address),
            server_id: offer.server_id,
            params: offer.params.map(|params| params.encode().to_vec()),
            ..Query::new(MessageType::Request, client, link)
        }
    }

    /// The REQUEST of a client that reboots with `lease`.
    pub fn reboot(client: u8, link: u16, lease: &Received) -> Query {
        Query { server_id: None, ..Query::select(client, link, lease) }
    }

    /// The REQUEST that extends `lease` with its server.
    pub fn renew(client: u8, link: u16, lease: &Received) -> Query {
        Query {
            ciaddr: lease.address,
            params: lease.params.map(|params| params.encode().to_vec()),
            unicast: true,
            ..Query::new(MessageType::Request, client, link)
        }
    }

    /// The REQUEST that extends `lease` with any server.
    pub fn rebind(client: u8, link: u16, lease: &Received) -> Query {
        Query { unicast: false, ..Query::renew(client, link, lease) }
    }

    pub fn release(client: u8, link: u16, lease: &Received) -> Query {
        Query {
            kind: MessageType::Release,
            server_id: Some(SERVER_ID),
            parameter_list: Vec::new(),
            ..Query::renew(client, link, lease)
        }
    }

    /// A client that cannot take shared addresses.
    pub fn without_159(mut self) -> Query {
        self.parameter_list.retain(|code| *code != 159);
        self
    }

    pub fn source(&self) -> Ipv6Addr {
        let mut octets = network(self.link).octets();
        octets[15] = if self.relayed { 254 } else { self.client };
        Ipv6Addr::from(octets)
    }

    /// The DHCPv4 message.
    pub fn message(&self) -> Vec<u8> {
        let mut buffer = [0; 1500];
        let mut w = Writer::new(&mut buffer);
        self.write_message(&mut w);
        let length = w.finish().unwrap();
        buffer[..length].to_vec()
    }

    fn write_message(&self, w: &mut Writer<'_>) {
        let mut chaddr = [0; 16];
        chaddr[..self.hardware.len()].copy_from_slice(&self.hardware);
        let header = Header {
            op: dhcpv4::BOOT_REQUEST,
            hardware_type: 1,
            hardware_length: u8::try_from(self.hardware.len()).unwrap(),
            xid: self.xid,
            seconds: self.seconds,
            flags: self.flags,
            ciaddr: self.ciaddr,
            yiaddr: Ipv4Addr::UNSPECIFIED,
            siaddr: Ipv4Addr::UNSPECIFIED,
            giaddr: self.giaddr,
            chaddr,
        };
        header.emit(w);
        dhcpv4::put_message_type(w, self.kind);
        if let Some(identifier) = &self.client_identifier {
            dhcpv4::put_option(w, dhcpv4::OPTION_CLIENT_ID, identifier);
        }
        if let Some(address) = self.server_id {
            dhcpv4::put_address(w, dhcpv4::OPTION_SERVER_ID, address);
        }
        if let Some(address) = self.requested {
            dhcpv4::put_address(w, dhcpv4::OPTION_REQUESTED_ADDRESS, address);
        }
        if let Some(seconds) = self.lease_seconds {
            dhcpv4::put_u32(w, dhcpv4::OPTION_LEASE_TIME, seconds);
        }
        if !self.parameter_list.is_empty() {
            dhcpv4::put_option(w, dhcpv4::OPTION_PARAMETER_REQUEST_LIST, &self.parameter_list);
        }
        if let Some(params) = &self.params {
            dhcpv4::put_option(w, dhcpv4::OPTION_PORT_PARAMS, params);
        }
        for (code, content) in &self.extra {
            dhcpv4::put_option(w, *code, content);
        }
        if let Some(softwire) = &self.softwire {
            dhcpv4::put_option(w, dhcpv4::OPTION_SOFTWIRE_SOURCE, softwire);
        }
        dhcpv4::put_end(w);
    }

    /// The payload of the datagram: direct, or through a relay on the client's link.
    pub fn octets(&self) -> Vec<u8> {
        let mut buffer = [0; 2000];
        let mut w = Writer::new(&mut buffer);
        let envelope = if self.relayed {
            let mut link_address = network(self.link).octets();
            link_address[15] = 1;
            let relay = RelayForward {
                hop_count: 0,
                link_address: Ipv6Addr::from(link_address),
                peer_address: Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, u16::from(self.client)),
                interface_id: self.interface_id.as_deref(),
                remote_id: self.remote_id.as_deref(),
                client_link_layer: None,
            };
            dhcpv6::begin_relayed_query(&mut w, &[relay], self.unicast)
        } else {
            dhcpv6::begin_query(&mut w, self.unicast)
        };
        self.write_message(&mut w);
        envelope.finish(&mut w);
        let length = w.finish().unwrap();
        buffer[..length].to_vec()
    }
}
