//! What the client sends: DHCPv4 messages in DHCPv4-queries (RFC 7341 §6, RFC 7618 §6, RFC 2131 Table 5).

use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
};

use super::lease::Assignment;
use crate::wire::{
    dhcpv4::{self, Header, MessageType},
    dhcpv6::{self, OPTION_S46_BIND_PREFIX, OPTION_S46_BR},
    portparams::PortParams,
    writer::Writer,
};

/// What the client asks for: subnet mask, router, name servers, lease time, T1, T2 and port parameters.
const REQUESTED: [u8; 7] = [
    dhcpv4::OPTION_SUBNET_MASK,
    dhcpv4::OPTION_ROUTER,
    dhcpv4::OPTION_DNS_SERVERS,
    dhcpv4::OPTION_LEASE_TIME,
    dhcpv4::OPTION_RENEWAL_TIME,
    dhcpv4::OPTION_REBINDING_TIME,
    dhcpv4::OPTION_PORT_PARAMS,
];

/// Room for the longest message: 252 octets of headers, the longest client identifier and a handful of options.
const BUFFER_LENGTH: usize = 1024;

/// The interface's own address as `htype`, `hlen` and `chaddr` carry it. Not an identity: option 61 is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct HardwareAddress {
    kind: u8,
    length: u8,
    octets: [u8; 16],
}

impl HardwareAddress {
    /// An address of ARP hardware type `kind` (1 is Ethernet). `None` if it does not fit into `chaddr`.
    pub fn new(kind: u8, address: &[u8]) -> Option<Self> {
        let mut octets = [0; 16];
        octets.get_mut(..address.len())?.copy_from_slice(address);
        Some(HardwareAddress { kind, length: u8::try_from(address.len()).ok()?, octets })
    }

    /// `chaddr`, zero-padded.
    pub fn octets(&self) -> &[u8; 16] {
        &self.octets
    }
}

/// Who the client is, in every message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sender {
    /// Content of option 61 (RFC 7341 §9 demands it, in the form of RFC 4361).
    pub identifier: Vec<u8>,
    /// The interface's address; all zero if it has none.
    pub hardware: HardwareAddress,
}

/// What tells one message of a client from the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// DISCOVER. May ask for an address, or for a port set of some size.
    Discover {
        /// Option 50, and 159 beside it.
        wanted: Option<Assignment>,
        /// PSID length of option 159 when nothing else is wanted.
        psid_length: Option<u8>,
    },
    /// REQUEST for what a server offered (RFC 2131 §4.3.2, SELECTING).
    Select {
        /// What was offered.
        offered: Assignment,
        /// Who offered it.
        server_id: Ipv4Addr,
    },
    /// REQUEST for what was leased before a restart (INIT-REBOOT).
    Reboot(Assignment),
    /// REQUEST to extend a lease, towards its server (RENEWING).
    Renew(Assignment),
    /// REQUEST to extend a lease, towards any server (REBINDING).
    Rebind(Assignment),
    /// RELEASE.
    Release {
        /// What is given back.
        assignment: Assignment,
        /// Who leased it.
        server_id: Ipv4Addr,
    },
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Purpose::Discover { wanted: Some(wanted), .. } => write!(f, "DISCOVER, {wanted} again"),
            Purpose::Discover { wanted: None, psid_length: Some(length) } => {
                write!(f, "DISCOVER, PSID length {length}")
            }
            Purpose::Discover { wanted: None, psid_length: None } => f.write_str("DISCOVER"),
            Purpose::Select { offered, server_id } => {
                write!(f, "REQUEST for {offered}, offered by {server_id}")
            }
            Purpose::Reboot(assignment) => write!(f, "REQUEST for {assignment} after a restart"),
            Purpose::Renew(assignment) => write!(f, "REQUEST to renew {assignment}"),
            Purpose::Rebind(assignment) => write!(f, "REQUEST to rebind {assignment}"),
            Purpose::Release { assignment, .. } => write!(f, "RELEASE of {assignment}"),
        }
    }
}

/// The options and fields that a purpose needs.
struct Shape {
    kind: MessageType,
    /// Whether plain DHCPv4 would unicast it: the U flag (RFC 7341 §6.3).
    unicast: bool,
    /// `ciaddr`.
    client: Option<Ipv4Addr>,
    /// Option 54.
    server_id: Option<Ipv4Addr>,
    /// Option 50.
    requested: Option<Ipv4Addr>,
    /// Option 159.
    port_params: Option<PortParams>,
}

impl Purpose {
    fn shape(self) -> Shape {
        let request = Shape {
            kind: MessageType::Request,
            unicast: false,
            client: None,
            server_id: None,
            requested: None,
            port_params: None,
        };
        // req-C33 (RFC 2131 §4.3.2): ciaddr, without 54 or 50. req-C27 (RFC 7618 §6 step 6): and 159.
        let extend = |assignment: Assignment, unicast| Shape {
            unicast,
            client: Some(assignment.address),
            port_params: assignment.port_params,
            ..request
        };
        match self {
            // req-C21 (RFC 7618 §7): 50 and 159 for the same again, 159 alone for a size.
            Purpose::Discover { wanted: Some(wanted), .. } => Shape {
                kind: MessageType::Discover,
                requested: Some(wanted.address),
                port_params: wanted.port_params,
                ..request
            },
            Purpose::Discover { wanted: None, psid_length } => Shape {
                kind: MessageType::Discover,
                port_params: psid_length.and_then(|length| PortParams::new(0, length, 0)),
                ..request
            },
            // req-C23 (RFC 7618 §6 step 3): the 159 of the offer. req-C32 (RFC 2131 §4.3.2): 54 and 50,
            // and no ciaddr.
            Purpose::Select { offered, server_id } => Shape {
                server_id: Some(server_id),
                requested: Some(offered.address),
                port_params: offered.port_params,
                ..request
            },
            Purpose::Reboot(assignment) => Shape {
                requested: Some(assignment.address),
                port_params: assignment.port_params,
                ..request
            },
            // req-C6 (RFC 7341 §6.3; 2131 §4.4.4): U where plain DHCPv4 would know whom to send to.
            Purpose::Renew(assignment) => extend(assignment, true),
            Purpose::Rebind(assignment) => extend(assignment, false),
            Purpose::Release { assignment, server_id } => Shape {
                kind: MessageType::Release,
                server_id: Some(server_id),
                ..extend(assignment, true)
            },
        }
    }
}

/// One DHCPv4 message, in its DHCPv4-query.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// Who sends it.
    pub sender: &'a Sender,
    /// What for.
    pub purpose: Purpose,
    /// Whether option 159 stands in the parameter request list.
    pub sharing: bool,
    /// What else stands in it.
    pub requested_options: &'a [u8],
    /// Whether options 90 and 137 are asked for (RFC 8539 §7.1).
    pub tunneling: bool,
    /// Content of option 109, in REQUESTs.
    pub softwire_source: Option<Ipv6Addr>,
    /// `xid`.
    pub xid: u32,
    /// `secs`.
    pub seconds: u16,
}

/// The whole DHCPv6 message: the payload of one UDP datagram.
///
/// req-C5 (RFC 7341 §9): one option 87 with the DHCPv4 message as it is, and no request for 88.
pub fn compose(message: &Message<'_>) -> Vec<u8> {
    let &Message { sender, purpose, sharing, xid, seconds, .. } = message;
    let shape = purpose.shape();
    let mut buffer = [0; BUFFER_LENGTH];
    let mut w = Writer::new(&mut buffer);
    let envelope = dhcpv6::begin_query(&mut w, shape.unicast);
    let header = Header {
        op: dhcpv4::BOOT_REQUEST,
        hardware_type: sender.hardware.kind,
        hardware_length: sender.hardware.length,
        xid,
        seconds,
        flags: 0,
        ciaddr: shape.client.unwrap_or(Ipv4Addr::UNSPECIFIED),
        yiaddr: Ipv4Addr::UNSPECIFIED,
        siaddr: Ipv4Addr::UNSPECIFIED,
        giaddr: Ipv4Addr::UNSPECIFIED,
        chaddr: sender.hardware.octets,
    };
    header.emit(&mut w);
    dhcpv4::put_message_type(&mut w, shape.kind);
    // req-C9 (RFC 7341 §9; 4361 §6.1): in every message, and always the same.
    dhcpv4::put_option(&mut w, dhcpv4::OPTION_CLIENT_ID, &sender.identifier);
    if let Some(server_id) = shape.server_id {
        dhcpv4::put_address(&mut w, dhcpv4::OPTION_SERVER_ID, server_id);
    }
    if let Some(requested) = shape.requested {
        dhcpv4::put_address(&mut w, dhcpv4::OPTION_REQUESTED_ADDRESS, requested);
    }
    // req-C20 (RFC 7618 §6 step 1): with 159, unless no port set is wanted. RFC 2131 Table 5: the
    // list is the same in every message, and there is none in a RELEASE.
    if shape.kind != MessageType::Release {
        let unshared = REQUESTED.split_last().map_or(&[][..], |(_, rest)| rest);
        let mut list = if sharing { REQUESTED.to_vec() } else { unshared.to_vec() };
        for &code in message.requested_options {
            if !list.contains(&code) {
                list.push(code);
            }
        }
        dhcpv4::put_option(&mut w, dhcpv4::OPTION_PARAMETER_REQUEST_LIST, &list);
    }
    if let Some(params) = shape.port_params {
        dhcpv4::put_port_params(&mut w, params);
    }
    // req-C41 (RFC 8539 §7.1-7.3): in each REQUEST, in no RELEASE.
    if let (MessageType::Request, Some(source)) = (shape.kind, message.softwire_source) {
        dhcpv4::put_option(&mut w, dhcpv4::OPTION_SOFTWIRE_SOURCE, &source.octets());
    }
    dhcpv4::put_end(&mut w);
    envelope.finish(&mut w);
    if message.tunneling && shape.kind != MessageType::Release {
        // req-C40 (RFC 8539 §7.1): the query itself asks for the border relay and the bind prefix.
        let [a, b] = [OPTION_S46_BR, OPTION_S46_BIND_PREFIX].map(u16::to_be_bytes);
        dhcpv6::put_option(&mut w, dhcpv6::OPTION_REQUEST, [a, b].as_flattened());
    }
    w.written().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::vectors;

    const SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 254);

    fn sender() -> Sender {
        Sender {
            identifier: vectors::octets("ff0000000100030001020000000001"),
            hardware: HardwareAddress::new(1, &[2, 0, 0, 0, 0, 1]).unwrap(),
        }
    }

    fn assignment() -> Assignment {
        let port_params = PortParams::new(0, 6, 1);
        Assignment { address: Ipv4Addr::new(192, 0, 2, 18), port_params }
    }

    /// Compares with a vector, whose own `xid` and `secs` are used.
    fn assert_composes(vector: &str, purpose: Purpose) {
        let expected = vectors::octets(vector);
        let xid = u32::from_be_bytes(expected[12..16].try_into().unwrap());
        let seconds = u16::from_be_bytes(expected[16..18].try_into().unwrap());
        let octets = compose(&Message { xid, seconds, ..message(&sender(), purpose) });
        assert_eq!(octets, expected, "{purpose}");
    }

    fn message(sender: &Sender, purpose: Purpose) -> Message<'_> {
        Message {
            sender,
            purpose,
            sharing: true,
            requested_options: &[],
            tunneling: false,
            softwire_source: None,
            xid: 1,
            seconds: 0,
        }
    }

    #[test]
    fn k10_k15_k16_k21_k22_every_message_is_the_reference_message() {
        let (assignment, server_id) = (assignment(), SERVER);
        let discover = Purpose::Discover { wanted: None, psid_length: Some(6) };
        assert_composes(vectors::DISCOVER, discover);
        let select = Purpose::Select { offered: assignment, server_id };
        assert_composes(vectors::REQUEST_SELECTING, select);
        assert_composes(vectors::REQUEST_RENEWING, Purpose::Renew(assignment));
        assert_composes(vectors::REQUEST_REBINDING, Purpose::Rebind(assignment));
        assert_composes(vectors::REQUEST_INIT_REBOOT, Purpose::Reboot(assignment));
        assert_composes(vectors::RELEASE, Purpose::Release { assignment, server_id });
    }

    #[test]
    fn without_sharing_159_is_not_in_the_list() {
        let purpose = Purpose::Discover { wanted: None, psid_length: None };
        let octets = compose(&Message { sharing: false, ..message(&sender(), purpose) });
        let list = &octets[octets.len() - 9..];
        assert_eq!(list, [55, 6, 1, 3, 6, 51, 58, 59, 255]);
    }

    #[test]
    fn what_else_is_asked_for_follows_in_the_list_and_stands_there_once() {
        let purpose = Purpose::Discover { wanted: None, psid_length: None };
        let requested_options = &[15, 26, 6, 15];
        let octets = compose(&Message { requested_options, ..message(&sender(), purpose) });
        let list = &octets[octets.len() - 12..];
        assert_eq!(list, [55, 9, 1, 3, 6, 51, 58, 59, 159, 15, 26, 255]);
    }

    #[test]
    fn the_longest_identifier_and_list_fit() {
        let mut sender = sender();
        sender.identifier = vec![7; 255];
        let purpose = Purpose::Select { offered: assignment(), server_id: SERVER };
        let requested_options: Vec<_> = (1..=254).collect();
        let octets = compose(&Message {
            requested_options: &requested_options,
            tunneling: true,
            softwire_source: Some(Ipv6Addr::LOCALHOST),
            ..message(&sender, purpose)
        });
        let sent = dhcpv6::Query::parse(&octets).unwrap().message;
        assert_eq!(sent.last(), Some(&255));
        let octets = compose(&message(&sender, purpose));
        assert_eq!(octets.last(), Some(&255));
    }

    #[test]
    fn a_hardware_address_is_at_most_16_octets() {
        assert!(HardwareAddress::new(32, &[1; 16]).is_some());
        assert!(HardwareAddress::new(32, &[1; 17]).is_none());
    }
}
