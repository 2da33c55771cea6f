//! What the client hears: which datagrams are answers to it, and what they say.

use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
};

use super::{
    lease::{Few, Network},
    messages::Sender,
    softwire::Ends,
};
use crate::wire::{
    Malformed,
    dhcpv4::{self, MessageType, PortParamsField, View},
    dhcpv6::Response,
};

/// Why a datagram was not an answer. All of these are ignored; the wait for a proper answer goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ignored {
    /// It is not a DHCPv4-response with one DHCPv4 reply in it.
    Malformed(Malformed),
    /// It is a Relay-reply, which is for relays.
    RelayReply,
    /// Another exchange's `xid`.
    OtherTransaction,
    /// Another client's option 61 (RFC 6842 §3) or, without one, another `chaddr`.
    OtherClient,
    /// A message that servers do not send to clients, or not in this state.
    Unexpected(MessageType),
    /// No server identifier (RFC 2131 Table 3: MUST).
    NoServerId,
    /// Another server than the one that was selected.
    OtherServer(Ipv4Addr),
    /// No lease time in an OFFER or ACK (RFC 2131 Table 3: MUST), or one of zero seconds.
    NoLeaseTime,
    /// `yiaddr` is not an address that a host can have.
    BadAddress(Ipv4Addr),
    /// Option 159 contradicts itself (RFC 7618 §9).
    BadPortParams,
    /// An address of a kind that the client was told not to take.
    UnwantedKind,
    /// More offers than a client weighs.
    TooManyOffers,
    /// An OFFER without a border relay (option 90), or for a bind prefix (option 137) in which the
    /// client has no address.
    NoSoftwire,
    /// An ACK in RENEWING or REBINDING for something other than the lease: that stays as it is.
    OtherAssignment,
    /// An ACK that came when its lease was over already.
    TooLate,
}

impl fmt::Display for Ignored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ignored::Malformed(malformed) => write!(f, "malformed: {malformed}"),
            Ignored::RelayReply => f.write_str("a Relay-reply"),
            Ignored::OtherTransaction => f.write_str("another transaction's xid"),
            Ignored::OtherClient => f.write_str("another client's identifier"),
            Ignored::Unexpected(kind) => write!(f, "{kind:?} is not expected now"),
            Ignored::NoServerId => f.write_str("no server identifier"),
            Ignored::OtherServer(server) => write!(f, "from server {server}, which was not chosen"),
            Ignored::NoLeaseTime => f.write_str("no lease time"),
            Ignored::BadAddress(address) => write!(f, "{address} is no host's address"),
            Ignored::BadPortParams => f.write_str("port parameters that contradict themselves"),
            Ignored::UnwantedKind => f.write_str("an address of a kind that is not wanted"),
            Ignored::NoSoftwire => f.write_str("no softwire could end where it says"),
            Ignored::TooManyOffers => f.write_str("more offers than are weighed"),
            Ignored::OtherAssignment => f.write_str("acknowledges something other than the lease"),
            Ignored::TooLate => f.write_str("its lease is over already"),
        }
    }
}

/// An answer to this client's current exchange.
#[derive(Clone, Copy, Debug)]
pub enum Reply {
    /// OFFER.
    Offer(Grant),
    /// ACK.
    Ack(Grant),
    /// NAK, and who sent it.
    Nak(Ipv4Addr),
}

/// What an OFFER or an ACK gives.
#[derive(Clone, Copy, Debug)]
pub struct Grant {
    /// Option 54.
    pub server_id: Ipv4Addr,
    /// `yiaddr`.
    pub address: Ipv4Addr,
    /// Option 159.
    pub port_params: PortParamsField,
    /// Option 51, not zero.
    pub lease_seconds: u32,
    /// Option 58.
    pub renewal_seconds: Option<u32>,
    /// Option 59.
    pub rebinding_seconds: Option<u32>,
    /// Options 1, 3 and 6.
    pub network: Network,
    /// Option 109.
    pub softwire_source: Option<Ipv6Addr>,
    /// What the response said beside the DHCPv4 message.
    pub ends: Ends,
}

impl Reply {
    /// Reads a UDP payload. Who sent it does not matter: `xid` and client identifier say whose answer it is.
    pub fn read(datagram: &[u8], sender: &Sender, xid: u32) -> Result<Reply, Ignored> {
        // req-C7 (RFC 7341 §9): without option 87 it is nothing, and its flags do not matter.
        let response = Response::parse(datagram).map_err(Ignored::Malformed)?;
        if !response.relays.is_empty() {
            return Err(Ignored::RelayReply);
        }
        let view = View::parse_reply(response.message).map_err(Ignored::Malformed)?;
        // req-C31 (RFC 6842 §3; 2131 §4.4.1): who the answer is for is in it.
        if view.xid() != xid {
            return Err(Ignored::OtherTransaction);
        }
        if !is_for(sender, &view) {
            return Err(Ignored::OtherClient);
        }
        let kind = view.kind();
        let server_id = view.server_id().ok_or(Ignored::NoServerId);
        match kind {
            MessageType::Nak => Ok(Reply::Nak(server_id?)),
            MessageType::Offer => Ok(Reply::Offer(grant(&response, &view, server_id?)?)),
            MessageType::Ack => Ok(Reply::Ack(grant(&response, &view, server_id?)?)),
            _ => Err(Ignored::Unexpected(kind)),
        }
    }
}

/// Whether a reply is for us. Servers older than RFC 6842 return no identifier; then `chaddr` has to do.
fn is_for(sender: &Sender, view: &View<'_>) -> bool {
    match view.client_identifier() {
        Some(identifier) => identifier.pieces().flatten().eq(sender.identifier.iter()),
        None => view.chaddr() == sender.hardware.octets(),
    }
}

fn grant(response: &Response<'_>, view: &View<'_>, server_id: Ipv4Addr) -> Result<Grant, Ignored> {
    let address = view.yiaddr();
    if !is_host(address) {
        return Err(Ignored::BadAddress(address));
    }
    let lease_seconds = view.lease_seconds().filter(|&seconds| seconds > 0);
    Ok(Grant {
        server_id,
        address,
        port_params: view.port_params(),
        lease_seconds: lease_seconds.ok_or(Ignored::NoLeaseTime)?,
        renewal_seconds: view.renewal_seconds(),
        rebinding_seconds: view.rebinding_seconds(),
        network: Network {
            subnet_mask: addresses(view, dhcpv4::OPTION_SUBNET_MASK).first(),
            routers: addresses(view, dhcpv4::OPTION_ROUTER),
            dns_servers: addresses(view, dhcpv4::OPTION_DNS_SERVERS),
        },
        softwire_source: view
            .option(dhcpv4::OPTION_SOFTWIRE_SOURCE)
            .and_then(|value| value.to_array::<16>())
            .map(Ipv6Addr::from),
        ends: Ends::read(&response.options()),
    })
}

/// The addresses of an option that is a list of them; none if its length is not a multiple of four.
fn addresses(view: &View<'_>, code: u8) -> Few<Ipv4Addr> {
    let octets: Vec<u8> = view
        .option(code)
        .map(|value| value.pieces().flatten().copied().collect())
        .unwrap_or_default();
    match octets.as_chunks::<4>() {
        (addresses, []) => addresses.iter().map(|octets| Ipv4Addr::from(*octets)).collect(),
        _ => Few::default(),
    }
}

/// Whether a host can have this address. Private ones are as good as others.
fn is_host(address: Ipv4Addr) -> bool {
    let [first, ..] = address.octets();
    // 0/8 is "this network", 127/8 loopback, 224/4 and above are groups and reserved.
    first != 0 && first != 127 && first < 224
}
