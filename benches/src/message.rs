//! What clients send: a DHCPv4 message in a DHCPv4-query, direct or behind a relay.

use std::net::{Ipv4Addr, Ipv6Addr};

use portlease::{
    lease::pool::Slot,
    wire::{
        dhcpv4::{self, Header, MessageType},
        dhcpv6::{self, RelayForward},
        portparams::PortParams,
        writer::Writer,
    },
};

use crate::population::{PSID_LENGTH, identifier};

/// The server of all workloads.
pub const SERVER_ID: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 254);

/// Octets that the longest message of a workload takes.
pub const MESSAGE_MAX: usize = 512;

/// What a client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// DHCPDISCOVER.
    Discover,
    /// DHCPREQUEST of an offered slot.
    Select(Slot),
    /// DHCPREQUEST that renews the lease, to this server.
    Renew(Slot),
    /// DHCPREQUEST that renews the lease, to any server.
    Rebind(Slot),
    /// DHCPREQUEST after a reboot.
    Reboot(Slot),
    /// DHCPRELEASE.
    Release(Slot),
}

/// The address and the port set of a slot of the workloads' pool.
fn tuple(slot: Slot) -> (Ipv4Addr, PortParams) {
    let first = u32::from(Ipv4Addr::new(10, 0, 0, 0));
    let address = Ipv4Addr::from(first + (slot.0 >> PSID_LENGTH));
    let psid = u16::try_from(slot.0 & ((1 << PSID_LENGTH) - 1)).unwrap_or(0);
    (address, PortParams { offset: 0, psid_length: PSID_LENGTH, psid })
}

/// The slot of an address and a port set.
pub fn slot(address: Ipv4Addr, params: PortParams) -> Slot {
    let first = u32::from(Ipv4Addr::new(10, 0, 0, 0));
    Slot((u32::from(address) - first) << PSID_LENGTH | u32::from(params.psid))
}

/// Writes what `client` sends into `buffer`, behind a relay or not. Returns its octets.
///
/// # Panics
///
/// If `buffer` is shorter than [`MESSAGE_MAX`].
pub fn write(buffer: &mut [u8], client: u32, wish: Wish, relayed: bool) -> usize {
    let mut w = Writer::new(buffer);
    let relay = RelayForward {
        hop_count: 0,
        link_address: Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1),
        peer_address: Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 9),
        interface_id: Some(b"ge-0/0/1.100"),
        remote_id: None,
        client_link_layer: None,
    };
    let relays: &[RelayForward<'_>] = if relayed { &[relay] } else { &[] };
    let unicast = matches!(wish, Wish::Renew(_) | Wish::Release(_));
    let envelope = dhcpv6::begin_relayed_query(&mut w, relays, unicast);
    write_inner(&mut w, client, wish);
    envelope.finish(&mut w);
    w.finish().expect("the message fits")
}

fn write_inner(w: &mut Writer<'_>, client: u32, wish: Wish) {
    let nobody = Ipv4Addr::UNSPECIFIED;
    let (kind, tuple) = match wish {
        Wish::Discover => (MessageType::Discover, None),
        Wish::Release(slot) => (MessageType::Release, Some(tuple(slot))),
        Wish::Select(slot) | Wish::Renew(slot) | Wish::Rebind(slot) | Wish::Reboot(slot) => {
            (MessageType::Request, Some(tuple(slot)))
        }
    };
    let asks = matches!(wish, Wish::Select(_) | Wish::Reboot(_));
    let (requested, bound) = match tuple {
        Some((address, _)) if asks => (Some(address), nobody),
        Some((address, _)) => (None, address),
        None => (None, nobody),
    };
    let mut chaddr = [0; 16];
    chaddr[..4].copy_from_slice(&client.to_be_bytes());
    let header = Header {
        op: dhcpv4::BOOT_REQUEST,
        hardware_type: 1,
        hardware_length: 6,
        xid: client,
        seconds: 0,
        flags: 0,
        ciaddr: bound,
        yiaddr: nobody,
        siaddr: nobody,
        giaddr: nobody,
        chaddr,
    };
    header.emit(w);
    dhcpv4::put_message_type(w, kind);
    dhcpv4::put_option(w, dhcpv4::OPTION_CLIENT_ID, &identifier(client));
    if matches!(wish, Wish::Select(_) | Wish::Release(_)) {
        dhcpv4::put_address(w, dhcpv4::OPTION_SERVER_ID, SERVER_ID);
    }
    if let Some(address) = requested {
        dhcpv4::put_address(w, dhcpv4::OPTION_REQUESTED_ADDRESS, address);
    }
    if kind != MessageType::Release {
        let list = [1, 3, 6, 51, 58, 59, dhcpv4::OPTION_PORT_PARAMS];
        dhcpv4::put_option(w, dhcpv4::OPTION_PARAMETER_REQUEST_LIST, &list);
    }
    if let Some((_, params)) = tuple {
        dhcpv4::put_port_params(w, params);
    }
    dhcpv4::put_end(w);
}

/// The octets of one message.
pub fn octets(client: u32, wish: Wish, relayed: bool) -> Vec<u8> {
    let mut buffer = vec![0; MESSAGE_MAX];
    let length = write(&mut buffer, client, wish, relayed);
    buffer.truncate(length);
    buffer
}
