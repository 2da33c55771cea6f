//! Writes a DHCPv4 reply, in its DHCPv4-response, in its relay-replies, straight into the caller's buffer.

use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
};

use super::{
    essentials::Essentials,
    exchange::Exchange,
    fill,
    objection::Objection,
    options::{NO_OPTIONS, OptionSet},
    policy::Policy,
    reason::Refusal,
    remark::Remarks,
    times,
};
use crate::{
    lease::{pool::PoolId, record::Tuple},
    wire::{
        datagram::Datagram,
        dhcpv4::{self, Header, MessageType},
        dhcpv6::{
            self, CLIENT_PORT, Relays, SERVER_PORT,
            softwire::{put_bind_prefix, put_border_relays},
        },
        portparams::PortParams,
        writer::Writer,
    },
};

/// The reply that was written. One integer: what is put together of parts in memory, and then handed on whole, keeps a
/// processor waiting.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Reply(u64);

impl Reply {
    /// A reply of so many octets at the start of the buffer: a DHCPv6 message, which has at most 65,535.
    #[inline]
    pub(crate) fn new(length: usize, port: u16, kind: ReplyKind, remarks: Remarks) -> Self {
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        let kind = match kind {
            ReplyKind::Dhcpv4(kind) => kind.number(),
            ReplyKind::Information => 0,
        };
        let small = u64::from(port) << 16 | u64::from(kind) << 8 | u64::from(remarks.bits());
        Self(u64::from(length) << 32 | small)
    }

    /// Octets of the DHCPv6 message at the start of the buffer.
    #[inline]
    pub fn length(self) -> usize {
        (self.0 >> 32) as usize
    }

    /// UDP port it goes to: the client's, the relay's, or what RFC 8357 says.
    #[expect(clippy::cast_possible_truncation, reason = "cut out of the integer")]
    #[inline]
    pub fn port(self) -> u16 {
        (self.0 >> 16) as u16
    }

    /// What it says.
    #[expect(clippy::cast_possible_truncation, reason = "cut out of the integer")]
    #[inline]
    pub fn kind(self) -> ReplyKind {
        let kind = MessageType::from_number((self.0 >> 8) as u8);
        kind.map_or(ReplyKind::Information, ReplyKind::Dhcpv4)
    }

    /// What is to be counted beside it.
    #[expect(clippy::cast_possible_truncation, reason = "cut out of the integer")]
    #[inline]
    pub fn remarks(self) -> Remarks {
        Remarks::from_bits(self.0 as u8)
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply")
            .field("length", &self.length())
            .field("port", &self.port())
            .field("kind", &self.kind())
            .field("remarks", &self.remarks())
            .finish()
    }
}

/// What a reply is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyKind {
    /// A DHCPv4-response: OFFER, ACK or NAK.
    Dhcpv4(MessageType),
    /// A Reply to an Information-request.
    Information,
}

/// What a reply says of a lease.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// Where it is leased from.
    pub pool: PoolId,
    /// What is leased.
    pub tuple: Tuple,
    /// For how long, in seconds.
    pub seconds: u32,
    /// The softwire's IPv6 source address, if the lease has one (RFC 8539 §8).
    pub softwire: Option<Ipv6Addr>,
}

/// An OFFER or an ACK.
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
    let Tuple { offset, psid_length, psid, .. } = terms.tuple;
    let times = times::renewal_and_rebinding(terms.seconds);
    // req-S62 (RFC 2131 §4.3.1): an OFFER and an ACK of a REQUEST bear the lease time, T1 and T2.
    let mut essentials = Essentials::new(exchange.message);
    essentials.set_times(terms.seconds, times);
    if let Some(address) = terms.softwire {
        essentials.set_softwire(address);
    }
    if psid_length != 0 {
        // req-S33 (RFC 7618 §6): an ACK of a shared address bears its port set, as the OFFER did.
        essentials.set_port_params(PortParams { offset, psid_length, psid });
    }
    let options = policy.options_of(terms.pool, terms.tuple);
    let length = write(policy, exchange, &header, kind, &essentials, options, out);
    made(policy, exchange, kind, length)
}

/// An ACK of an INFORM.
///
/// req-S75 (RFC 2131 §4.3.5): no lease time, no address of ours, no option 159; what the client asked for.
pub(super) fn information(
    policy: &Policy,
    exchange: &Exchange<'_>,
    options: &OptionSet,
    out: &mut [u8],
) -> Result<Reply, Refusal> {
    let ciaddr = exchange.message.ciaddr();
    let header = header(exchange, MessageType::Ack, ciaddr, Ipv4Addr::UNSPECIFIED);
    let essentials = identity(exchange);
    let kind = MessageType::Ack;
    let length = write(policy, exchange, &header, kind, &essentials, options, out);
    made(policy, exchange, kind, length)
}

/// A NAK.
///
/// req-S63 (RFC 2131 §4.3.1, RFC 3046 §2.2): nothing but who says it, to whom and why, and what a relay has added.
pub(super) fn refusal(
    policy: &Policy,
    exchange: &Exchange<'_>,
    objection: Objection,
    out: &mut [u8],
) -> Result<Reply, Refusal> {
    let nobody = Ipv4Addr::UNSPECIFIED;
    let header = header(exchange, MessageType::Nak, nobody, nobody);
    let mut essentials = identity(exchange);
    essentials.set_message(objection.text());
    let kind = MessageType::Nak;
    let length = write(policy, exchange, &header, kind, &essentials, &NO_OPTIONS, out);
    made(policy, exchange, kind, length)
}

/// req-S61 (RFC 6842 §3): the identifier goes back unaltered, and only if it came.
fn identity<'a>(exchange: &Exchange<'a>) -> Essentials<'a> {
    Essentials::new(exchange.message)
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

/// The UDP port to which the answer to `datagram` goes.
pub(super) fn port(policy: &Policy, datagram: &Datagram<'_>, relays: Relays<'_>) -> u16 {
    // req-S18 (RFC 9915 §7.2): clients listen on 546, relays and servers on 547.
    if relays.is_empty() {
        if policy.reply_to_source_port { datagram.peer_port } else { CLIENT_PORT }
    } else if relays.relay_port() {
        // req-S13 (RFC 8357 §5.2): to the port that the relay has sent from.
        datagram.peer_port
    } else {
        SERVER_PORT
    }
}

/// What the client asks for about softwires, beside option 87 (RFC 8539 §5).
// req-S2 (RFC 7341 §6.2): a response has no options that are about IPv6 alone; these two are not.
fn put_softwire(w: &mut Writer<'_>, policy: &Policy, exchange: &Exchange<'_>, kind: MessageType) {
    let Some(softwire) = policy.softwire.as_ref() else { return };
    // Who is refused has no softwire.
    if kind == MessageType::Nak {
        return;
    }
    if exchange.requested.contains(dhcpv6::OPTION_S46_BR) {
        put_border_relays(w, &softwire.border_relays);
    }
    if let Some(prefix) = softwire.bind_prefix
        && exchange.requested.contains(dhcpv6::OPTION_S46_BIND_PREFIX)
    {
        // req-S94 (RFC 8539 §6.1): there is one prefix, so at most one option 137.
        put_bind_prefix(w, prefix);
    }
}

/// Writes a message. Its octets, if there was room.
fn write(
    policy: &Policy,
    exchange: &Exchange<'_>,
    header: &Header,
    kind: MessageType,
    essentials: &Essentials<'_>,
    configured: &OptionSet,
    out: &mut [u8],
) -> Option<usize> {
    let mut w = Writer::new(out);
    let beside = |w: &mut Writer<'_>| put_softwire(w, policy, exchange, kind);
    let envelope = dhcpv6::begin_response_with(&mut w, exchange.relays, beside);
    let start = w.len();
    header.emit_reply(&mut w, kind, policy.server_id);
    fill::put_options(&mut w, exchange, start, essentials, configured);
    if policy.pad_to_300 {
        dhcpv4::pad_to(&mut w, start, dhcpv4::BOOTP_LENGTH_MIN);
    }
    envelope.finish(&mut w);
    w.finish()
}

/// The reply that was written, if there was room.
#[inline]
fn made(
    policy: &Policy,
    exchange: &Exchange<'_>,
    kind: MessageType,
    length: Option<usize>,
) -> Result<Reply, Refusal> {
    let length = length.ok_or(Refusal::ReplyTooLarge)?;
    let port = port(policy, exchange.datagram, exchange.relays);
    Ok(Reply::new(length, port, ReplyKind::Dhcpv4(kind), exchange.remarks.get()))
}
