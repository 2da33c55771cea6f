//! The messages of a simulated client: what it sends, and what it makes of the answers.

use std::net::{Ipv4Addr, Ipv6Addr};

use portlease::wire::{
    dhcpv4::{self, Header, MessageType, PortParamsField, View},
    dhcpv6::{self, RelayForward, Response},
    portparams::PortParams,
    writer::Writer,
};

/// Octets of our client identifiers: type 255, IAID, DUID-LL of an Ethernet address (RFC 4361 §6.1).
pub const IDENTIFIER_LENGTH: usize = 15;

/// What a capable client asks for: mask, router, servers, times, and the port parameters (RFC 7618 §6).
pub const PARAMETERS_SHARED: &[u8] = &[1, 3, 6, 51, 58, 59, 159];

/// The same without port parameters: a client that knows whole addresses only.
pub const PARAMETERS_FULL: &[u8] = &[1, 3, 6, 51, 58, 59];

/// Who a simulated client is. All of it follows from a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Ethernet address, locally administered.
    pub hardware: [u8; 6],
    /// Option 61.
    pub identifier: [u8; IDENTIFIER_LENGTH],
}

impl Identity {
    /// The client of this number in the population of this `seed`.
    pub fn new(seed: u8, number: u32) -> Self {
        let [a, b, c, d] = number.to_be_bytes();
        let hardware = [0x02, seed, a, b, c, d];
        let mut identifier = [0; IDENTIFIER_LENGTH];
        identifier[0] = 255;
        identifier[1..5].copy_from_slice(&number.to_be_bytes());
        identifier[5..9].copy_from_slice(&[0, 3, 0, 1]);
        identifier[9..].copy_from_slice(&hardware);
        Self { hardware, identifier }
    }
}

/// What a client has been offered or holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The shared or whole address.
    pub address: Ipv4Addr,
    /// The port set; none for a whole address.
    pub ports: Option<PortParams>,
    /// Who leases it, option 54.
    pub server: Ipv4Addr,
    /// For how long.
    pub lease_seconds: u32,
}

impl Lease {
    /// The tuple alone: renewals must keep it, while times may change.
    pub fn tuple(&self) -> (Ipv4Addr, Option<PortParams>) {
        (self.address, self.ports)
    }
}

/// One DHCPv4 message of a client, option by option.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// Option 53.
    pub kind: MessageType,
    /// The U flag of the DHCPv4-query around it (RFC 7341 §6.3).
    pub unicast: bool,
    /// Transaction.
    pub xid: u32,
    /// The client's own address, in a message about a lease in use.
    pub ciaddr: Ipv4Addr,
    /// Hardware address.
    pub hardware: [u8; 6],
    /// Option 61.
    pub identifier: Option<&'a [u8]>,
    /// Option 50.
    pub requested: Option<Ipv4Addr>,
    /// Option 54.
    pub server: Option<Ipv4Addr>,
    /// Option 55.
    pub parameters: Option<&'a [u8]>,
    /// Option 159.
    pub ports: Option<PortParams>,
}

impl<'a> Message<'a> {
    fn new(kind: MessageType, identity: &'a Identity, xid: u32) -> Self {
        Self {
            kind,
            unicast: false,
            xid,
            ciaddr: Ipv4Addr::UNSPECIFIED,
            hardware: identity.hardware,
            identifier: Some(&identity.identifier),
            requested: None,
            server: None,
            parameters: Some(PARAMETERS_SHARED),
            ports: None,
        }
    }

    /// DISCOVER of a client that can share an address.
    pub fn discover(identity: &'a Identity, xid: u32) -> Self {
        Self::new(MessageType::Discover, identity, xid)
    }

    /// REQUEST for an offer (RFC 2131 §4.3.2, SELECTING).
    pub fn select(identity: &'a Identity, xid: u32, offer: &Lease) -> Self {
        Self {
            requested: Some(offer.address),
            server: Some(offer.server),
            ports: offer.ports,
            ..Self::new(MessageType::Request, identity, xid)
        }
    }

    /// REQUEST that extends a lease through the server that gave it.
    pub fn renew(identity: &'a Identity, xid: u32, lease: &Lease) -> Self {
        Self { unicast: true, ..Self::rebind(identity, xid, lease) }
    }

    /// REQUEST that extends a lease through any server.
    pub fn rebind(identity: &'a Identity, xid: u32, lease: &Lease) -> Self {
        Self {
            ciaddr: lease.address,
            ports: lease.ports,
            ..Self::new(MessageType::Request, identity, xid)
        }
    }

    /// REQUEST of a client that has restarted (INIT-REBOOT).
    pub fn reboot(identity: &'a Identity, xid: u32, lease: &Lease) -> Self {
        Self {
            requested: Some(lease.address),
            ports: lease.ports,
            ..Self::new(MessageType::Request, identity, xid)
        }
    }

    /// RELEASE, which carries the ports but no parameter request list (RFC 7618 §6, RFC 2131 Table 5).
    pub fn release(identity: &'a Identity, xid: u32, lease: &Lease) -> Self {
        Self {
            unicast: true,
            ciaddr: lease.address,
            server: Some(lease.server),
            parameters: None,
            ports: lease.ports,
            ..Self::new(MessageType::Release, identity, xid)
        }
    }

    /// The same from a client that knows no port parameters.
    #[must_use]
    pub fn without_sharing(mut self) -> Self {
        self.parameters = self.parameters.map(|_| PARAMETERS_FULL);
        self.ports = None;
        self
    }

    /// Writes the whole DHCPv6 payload, as it leaves the client or the outermost relay.
    pub fn emit(&self, w: &mut Writer<'_>, relays: &[RelayForward<'_>]) {
        let envelope = if relays.is_empty() {
            dhcpv6::begin_query(w, self.unicast)
        } else {
            dhcpv6::begin_relayed_query(w, relays, self.unicast)
        };
        self.emit_dhcpv4(w);
        envelope.finish(w);
    }

    /// The DHCPv6 payload on its own.
    pub fn to_payload(&self, relays: &[RelayForward<'_>]) -> Vec<u8> {
        let mut buffer = vec![0; 4096];
        let mut w = Writer::new(&mut buffer);
        self.emit(&mut w, relays);
        let length = w.finish().unwrap_or(0);
        buffer.truncate(length);
        buffer
    }

    fn emit_dhcpv4(&self, w: &mut Writer<'_>) {
        let mut chaddr = [0; 16];
        chaddr[..6].copy_from_slice(&self.hardware);
        let header = Header {
            op: 1,
            hardware_type: 1,
            hardware_length: 6,
            xid: self.xid,
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
        if let Some(identifier) = self.identifier {
            dhcpv4::put_option(w, 61, identifier);
        }
        if let Some(server) = self.server {
            dhcpv4::put_address(w, 54, server);
        }
        if let Some(requested) = self.requested {
            dhcpv4::put_address(w, 50, requested);
        }
        if let Some(parameters) = self.parameters {
            dhcpv4::put_option(w, 55, parameters);
        }
        if let Some(ports) = self.ports {
            dhcpv4::put_port_params(w, ports);
        }
        dhcpv4::put_end(w);
    }
}

/// What a server said, read from a whole DHCPv6 payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// OFFER, ACK or NAK.
    pub kind: MessageType,
    /// Transaction.
    pub xid: u32,
    /// Levels of Relay-reply around it.
    pub relay_levels: usize,
    /// Whether the client identifier came back as we know it (RFC 6842 §3).
    pub same_identifier: bool,
    /// Whether option 159 was there but made no sense.
    pub invalid_ports: bool,
    /// yiaddr, options 159, 54 and 51. The server of a NAK is in it too; its address is 0.0.0.0.
    pub lease: Lease,
    /// Option 58.
    pub renewal_seconds: Option<u32>,
    /// Option 59.
    pub rebinding_seconds: Option<u32>,
}

impl Answer {
    /// Reads an answer. `identifier_of` gives the identifier that belongs to a transaction.
    ///
    /// `None` if it is not a DHCPv4-response at all, or one without a server identifier.
    pub fn read(
        payload: &[u8],
        identifier_of: impl FnOnce(u32) -> Option<Identity>,
    ) -> Option<Self> {
        let response = Response::parse(payload).ok()?;
        let view = View::parse_reply(response.message).ok()?;
        let (ports, invalid_ports) = match view.port_params() {
            PortParamsField::Absent => (None, false),
            PortParamsField::Invalid => (None, true),
            PortParamsField::Present(ports) => (Some(ports), false),
        };
        let known = identifier_of(view.xid());
        let same_identifier = known.is_some_and(|identity| {
            let mut returned = [0; IDENTIFIER_LENGTH + 1];
            view.client_identifier().and_then(|value| value.copy_to(&mut returned))
                == Some(IDENTIFIER_LENGTH)
                && returned[..IDENTIFIER_LENGTH] == identity.identifier
        });
        Some(Self {
            kind: view.kind(),
            xid: view.xid(),
            relay_levels: response.relays.levels(),
            same_identifier,
            invalid_ports,
            lease: Lease {
                address: view.yiaddr(),
                ports,
                server: view.server_id()?,
                lease_seconds: view.lease_seconds().unwrap_or(0),
            },
            renewal_seconds: view.renewal_seconds(),
            rebinding_seconds: view.rebinding_seconds(),
        })
    }
}

/// A level of a relay chain that says only where the client is.
pub fn relay_at(link_address: Ipv6Addr, peer_address: Ipv6Addr) -> RelayForward<'static> {
    RelayForward {
        hop_count: 0,
        link_address,
        peer_address,
        interface_id: None,
        remote_id: None,
        client_link_layer: None,
    }
}
