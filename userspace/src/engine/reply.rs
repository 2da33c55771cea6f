//! Writes a DHCPv4 reply, in its DHCPv4-response, in its relay-replies, straight into the caller's buffer.

use std::net::Ipv4Addr;

use super::{exchange::Exchange, policy::Policy, reason::Refusal, times};
use crate::{
    lease::record::Tuple,
    wire::{
        dhcpv4::{self, Header, MessageType},
        dhcpv6::{self, CLIENT_PORT, SERVER_PORT},
        portparams::PortParams,
        writer::Writer,
    },
};

/// The reply that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Octets of the DHCPv6 message at the start of the buffer.
    pub length: usize,
    /// UDP port it goes to: the client's, the relay's, or what RFC 8357 says.
    pub port: u16,
    /// OFFER, ACK or NAK.
    pub kind: MessageType,
}

/// What a reply says of a lease.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// What is leased.
    pub tuple: Tuple,
    /// For how long, in seconds.
    pub seconds: u32,
}

/// Octets of IPv4 and UDP header that a limit of option 57 includes (RFC 2132 §9.10 leaves it open; the
/// conservative reading).
const HEADERS: usize = 28;

/// The message size that every client must accept (RFC 2131 §2).
const MESSAGE_SIZE_MIN: u16 = 576;

/// Options of an OFFER or an ACK.
pub(super) fn lease(
    policy: &Policy,
    exchange: &Exchange<'_>,
    kind: MessageType,
    terms: Terms,
    out: &mut [u8],
) -> Result<Reply, Refusal> {
    // RFC 2131 Table 3: an ACK repeats the client's ciaddr, an OFFER has none.
    let ciaddr = match kind {
        MessageType::Ack => exchange.message.ciaddr(),
        _ => Ipv4Addr::UNSPECIFIED,
    };
    let header = header(exchange, kind, ciaddr, terms.tuple.address);
    write(policy, exchange, &header, kind, out, |w| {
        dhcpv4::put_u32(w, dhcpv4::OPTION_LEASE_TIME, terms.seconds);
        if let Some((renewal, rebinding)) = times::renewal_and_rebinding(terms.seconds) {
            dhcpv4::put_u32(w, dhcpv4::OPTION_RENEWAL_TIME, renewal);
            dhcpv4::put_u32(w, dhcpv4::OPTION_REBINDING_TIME, rebinding);
        }
        put_client_identifier(w, exchange);
        if terms.tuple.psid_length != 0 {
            let Tuple { offset, psid_length, psid, .. } = terms.tuple;
            dhcpv4::put_port_params(w, PortParams { offset, psid_length, psid });
        }
    })
}

/// A NAK: nothing but who says it and to whom (RFC 2131 Table 3, RFC 6842 §3).
pub(super) fn refusal(
    policy: &Policy,
    exchange: &Exchange<'_>,
    out: &mut [u8],
) -> Result<Reply, Refusal> {
    let nobody = Ipv4Addr::UNSPECIFIED;
    let header = header(exchange, MessageType::Nak, nobody, nobody);
    write(policy, exchange, &header, MessageType::Nak, out, |w| put_client_identifier(w, exchange))
}

/// The client identifier goes back unaltered, and only if it came (RFC 6842 §3).
fn put_client_identifier(w: &mut Writer<'_>, exchange: &Exchange<'_>) {
    if let Some(identifier) = exchange.message.client_identifier() {
        dhcpv4::put_value(w, dhcpv4::OPTION_CLIENT_ID, &identifier);
    }
}

/// The fixed fields of a reply (RFC 2131 Table 3).
fn header(
    exchange: &Exchange<'_>,
    kind: MessageType,
    ciaddr: Ipv4Addr,
    yiaddr: Ipv4Addr,
) -> Header {
    let message = exchange.message;
    // A NAK through a DHCPv4 relay is broadcast there, for the client may have no address (RFC 2131 §4.3.2).
    let broadcast = kind == MessageType::Nak && !message.giaddr().is_unspecified();
    Header {
        op: dhcpv4::BOOT_REPLY,
        hardware_type: message.hardware_type(),
        hardware_length: message.hardware_length(),
        xid: message.xid(),
        seconds: 0,
        flags: if broadcast { message.flags() | dhcpv4::FLAG_BROADCAST } else { message.flags() },
        ciaddr,
        yiaddr,
        siaddr: Ipv4Addr::UNSPECIFIED,
        giaddr: message.giaddr(),
        chaddr: *message.chaddr(),
    }
}

/// Option 82 goes back whole, as the last option; if it does not fit, not at all (RFC 3046 §2.2).
fn put_relay_agent_information(w: &mut Writer<'_>, exchange: &Exchange<'_>, start: usize) {
    let Some(information) = exchange.message.relay_agent_information() else { return };
    let limit = usize::from(exchange.message.max_message_size().unwrap_or(0).max(MESSAGE_SIZE_MIN));
    let written = w.len() - start;
    // Two octets of code and length for every 255 of value, and the End option.
    let needed = information.len() + 2 * information.len().div_ceil(255) + 1;
    if written + needed <= limit - HEADERS {
        dhcpv4::put_value(w, dhcpv4::OPTION_RELAY_INFORMATION, &information);
    }
}

/// RFC 9915 §7.2: clients listen on 546, relays on 547; RFC 8357 §5.2 lets a relay name its source port.
fn port(policy: &Policy, exchange: &Exchange<'_>) -> u16 {
    if exchange.relays.is_empty() {
        if policy.reply_to_source_port { exchange.datagram.peer_port } else { CLIENT_PORT }
    } else if exchange.relays.relay_port() {
        exchange.datagram.peer_port
    } else {
        SERVER_PORT
    }
}

fn write(
    policy: &Policy,
    exchange: &Exchange<'_>,
    header: &Header,
    kind: MessageType,
    out: &mut [u8],
    options: impl FnOnce(&mut Writer<'_>),
) -> Result<Reply, Refusal> {
    let mut w = Writer::new(out);
    let envelope = dhcpv6::begin_response(&mut w, exchange.relays);
    let start = w.len();
    header.emit(&mut w);
    dhcpv4::put_message_type(&mut w, kind);
    dhcpv4::put_address(&mut w, dhcpv4::OPTION_SERVER_ID, policy.server_id);
    options(&mut w);
    put_relay_agent_information(&mut w, exchange, start);
    dhcpv4::put_end(&mut w);
    if policy.pad_to_300 {
        dhcpv4::pad_to(&mut w, start, dhcpv4::BOOTP_LENGTH_MIN);
    }
    envelope.finish(&mut w);
    let length = w.finish().ok_or(Refusal::ReplyTooLarge)?;
    Ok(Reply { length, port: port(policy, exchange), kind })
}
