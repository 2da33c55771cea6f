//! Workloads shared by the benches: an engine over leases of a chosen size, and the messages of its clients.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use portlease::{
    engine::{
        Engine, Verdict,
        options::OptionSet,
        policy::{BindSource, Link, Match, Policy, Prefer, PsidChoice, SitePolicy, Times},
    },
    lease::{
        Features, Leases, Settings,
        geometry::PoolSpec,
        key::{IdentitySecret, LinkId},
        pool::PoolId,
        promise::{LaneId, Promise, Watermarks},
        stamp::Now,
    },
    wire::{
        datagram::Datagram,
        dhcpv4::{self, Header, MessageType, View},
        dhcpv6::{self, Query, RelayForward, Response},
        portparams::PortParams,
        writer::Writer,
    },
};

/// When every workload begins, in milliseconds.
pub const START: Now = Now(1_800_000_000_000);

/// Seconds of a lease.
pub const LEASE_SECONDS: u32 = 3600;

const SERVER_ID: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 254);

/// An engine with one link and one pool of shared addresses, 63 clients to an address.
pub struct World {
    /// The engine.
    pub engine: Engine,
    watermarks: Arc<Watermarks>,
    sequence: u64,
}

impl World {
    /// An engine with room for `clients`.
    ///
    /// # Panics
    ///
    /// If so many clients do not fit into 10.0.0.0/8.
    pub fn new(clients: u32) -> World {
        let addresses = clients / 63 + 2;
        let first = u32::from(Ipv4Addr::new(10, 0, 0, 0));
        let pool = PoolSpec {
            name: "pool".to_owned(),
            link: LinkId(0),
            ranges: vec![Ipv4Addr::from(first)..=Ipv4Addr::from(first + addresses - 1)],
            offset: 0,
            psid_length: 6,
            reserved_ports: vec![0..=1023],
        };
        let watermarks = Arc::new(Watermarks::new(1));
        let settings = Settings {
            capacity: clients as usize + 1000,
            offers_max: clients + 1000,
            hold_down_seconds: 120,
            decline_hold_seconds: 86400,
            watermarks: Arc::clone(&watermarks),
            shards: None,
            features: Features::default(),
        };
        let leases = Leases::new(&[pool], settings).expect("the pool fits");
        let engine = Engine::new(policy(), Arc::new(leases), IdentitySecret([7; 16]));
        World { engine, watermarks, sequence: 1 }
    }

    /// Answers `payload`; whatever it promises is durable at once. Octets of the reply.
    pub fn answer(&mut self, now: Now, payload: &[u8], out: &mut [u8]) -> Option<usize> {
        let peer = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1);
        let datagram = Datagram { peer, peer_port: 547, local: peer, interface: 1, payload };
        let promise = Promise { lane: LaneId(0), sequence: self.sequence };
        match self.engine.answer(now, &datagram, promise, out) {
            Verdict::Ignore(_) => None,
            Verdict::Reply(reply) => Some(reply.length),
            Verdict::Promise { records, reply } => {
                self.sequence += records.len() as u64;
                self.watermarks.publish(LaneId(0), self.sequence - 1);
                reply.map(|reply| reply.length)
            }
        }
    }

    /// Takes a client through DISCOVER and REQUEST, and builds the messages of its further life.
    ///
    /// # Panics
    ///
    /// If the client gets no lease.
    pub fn obtain(&mut self, client: u32, relayed: bool, now: Now) -> Life {
        let mut out = [0; 1500];
        let discover = Message::new(MessageType::Discover, client).octets(relayed);
        let length = self.answer(now, &discover, &mut out).expect("an offer");
        let response = Response::parse(&out[..length]).expect("a response");
        let offer = View::parse_reply(response.message).expect("an offer");
        let (address, params) = (offer.yiaddr(), offer.port_params().present().expect("ports"));
        let select = Message {
            server_id: Some(SERVER_ID),
            requested: Some(address),
            params: Some(params),
            ..Message::new(MessageType::Request, client)
        };
        let select = select.octets(relayed);
        self.answer(now, &select, &mut out).expect("an acknowledgement");
        let renew = Message {
            ciaddr: address,
            params: Some(params),
            unicast: true,
            ..Message::new(MessageType::Request, client)
        };
        let release =
            Message { kind: MessageType::Release, server_id: Some(SERVER_ID), ..renew.clone() };
        Life { discover, select, renew: renew.octets(relayed), release: release.octets(relayed) }
    }
}

/// The messages of one client.
pub struct Life {
    /// DHCPDISCOVER.
    pub discover: Vec<u8>,
    /// DHCPREQUEST of the offer.
    pub select: Vec<u8>,
    /// DHCPREQUEST that renews.
    pub renew: Vec<u8>,
    /// DHCPRELEASE.
    pub release: Vec<u8>,
}

/// The payload of a DISCOVER of client 1, for benches of the wire alone.
pub fn discover(relayed: bool) -> Vec<u8> {
    let payload = Message::new(MessageType::Discover, 1).octets(relayed);
    debug_assert!(Query::parse(&payload).is_ok());
    payload
}

#[derive(Clone)]
struct Message {
    kind: MessageType,
    client: u32,
    unicast: bool,
    ciaddr: Ipv4Addr,
    server_id: Option<Ipv4Addr>,
    requested: Option<Ipv4Addr>,
    params: Option<PortParams>,
}

impl Message {
    fn new(kind: MessageType, client: u32) -> Message {
        let ciaddr = Ipv4Addr::UNSPECIFIED;
        Message {
            kind,
            client,
            unicast: false,
            ciaddr,
            server_id: None,
            requested: None,
            params: None,
        }
    }

    fn octets(&self, relayed: bool) -> Vec<u8> {
        let mut buffer = [0; 1500];
        let mut w = Writer::new(&mut buffer);
        let relay = RelayForward {
            hop_count: 0,
            link_address: Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1),
            peer_address: Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 9),
            interface_id: Some(b"ge-0/0/1.100"),
            remote_id: None,
            client_link_layer: None,
        };
        let relays: &[RelayForward<'_>] = if relayed { &[relay] } else { &[] };
        let envelope = dhcpv6::begin_relayed_query(&mut w, relays, self.unicast);
        self.write(&mut w);
        envelope.finish(&mut w);
        let length = w.finish().expect("the message fits");
        buffer[..length].to_vec()
    }

    fn write(&self, w: &mut Writer<'_>) {
        let mut chaddr = [0; 16];
        chaddr[..4].copy_from_slice(&self.client.to_be_bytes());
        let header = Header {
            op: dhcpv4::BOOT_REQUEST,
            hardware_type: 1,
            hardware_length: 6,
            xid: self.client,
            seconds: 0,
            flags: 0,
            ciaddr: self.ciaddr,
            yiaddr: Ipv4Addr::UNSPECIFIED,
            siaddr: Ipv4Addr::UNSPECIFIED,
            giaddr: Ipv4Addr::UNSPECIFIED,
            chaddr,
        };
        header.emit(w);
        dhcpv4::put_message_type(w, self.kind);
        let mut identifier = [255, 0, 0, 0, 1, 0, 3, 0, 1, 2, 0, 0, 0, 0, 0];
        identifier[11..].copy_from_slice(&self.client.to_be_bytes());
        dhcpv4::put_option(w, dhcpv4::OPTION_CLIENT_ID, &identifier);
        if let Some(address) = self.server_id {
            dhcpv4::put_address(w, dhcpv4::OPTION_SERVER_ID, address);
        }
        if let Some(address) = self.requested {
            dhcpv4::put_address(w, dhcpv4::OPTION_REQUESTED_ADDRESS, address);
        }
        if self.kind != MessageType::Release {
            let list = [1, 3, 6, 51, 58, 59, dhcpv4::OPTION_PORT_PARAMS];
            dhcpv4::put_option(w, dhcpv4::OPTION_PARAMETER_REQUEST_LIST, &list);
        }
        if let Some(params) = self.params {
            dhcpv4::put_port_params(w, params);
        }
        dhcpv4::put_end(w);
    }
}

fn policy() -> Policy {
    Policy {
        server_id: SERVER_ID,
        other_server_ids: Vec::new(),
        authoritative: false,
        times: Times {
            lease_seconds: LEASE_SECONDS,
            lease_seconds_max: 86400,
            offer_hold_seconds: 60,
            hold_down_seconds: 120,
            decline_hold_seconds: 86400,
            early_renewal_percent: 10,
        },
        links: vec![Link {
            name: "link".to_owned(),
            shared: vec![PoolId(0)],
            full: Vec::new(),
            prefer: Prefer::Shared,
            options: OptionSet::default(),
        }],
        matches: vec![(Match::default(), LinkId(0))],
        pool_options: Vec::new(),
        reservations: Vec::new(),
        reservation_options: Vec::new(),
        extend_leases: true,
        answer_inform_without_159: false,
        accept_renew_without_159: false,
        accept_renew_with_50: true,
        accept_release_without_159: false,
        bind_source: BindSource::Log,
        ignore_159: false,
        psid_choice: PsidChoice::Random,
        softwire: None,
        information: None,
        server_duid: None,
        sites: SitePolicy::default(),
        reply_to_source_port: false,
        pad_to_300: false,
    }
}
