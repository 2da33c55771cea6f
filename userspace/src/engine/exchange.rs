//! One query, read: who asks, from where, and what for.

use std::{cell::Cell, net::Ipv6Addr};

use super::{
    choose::Attachment,
    reason::Refusal,
    remark::{Remark, Remarks},
};
use crate::{
    lease::{
        client::Holder,
        key::{BindingKey, ClientIdentity, IdentityKind, IdentitySecret, LinkId, SiteId},
        promise::Promise,
        stamp::Now,
    },
    wire::{
        datagram::Datagram,
        dhcpv4::{self, Value, View},
        dhcpv6::{OptionRequest, Path, Relay, Relays},
    },
};

/// What the messages' own files decide by.
pub(super) struct Exchange<'a> {
    pub now: Now,
    pub datagram: &'a Datagram<'a>,
    pub relays: Relays<'a>,
    /// The U flag (RFC 7341 §6.3): over IPv4 the client would have sent this by unicast.
    pub unicast: bool,
    /// What is to be counted beside the answer.
    pub remarks: Cell<Remarks>,
    /// DHCPv6 options that the client wants beside the DHCPv4 message.
    pub requested: OptionRequest<'a>,
    pub message: &'a View<'a>,
    /// Where the packet came from.
    pub link: LinkId,
    /// The client's IPv6 address.
    pub source: Ipv6Addr,
    pub client: Client<'a>,
    /// The customer site that the packet came from.
    pub site: SiteId,
    /// The place of the first record that the answer may push.
    pub promise: Promise,
}

impl Exchange<'_> {
    /// Notes something to be counted beside the answer.
    pub(super) fn remark(&self, remark: Remark) {
        self.remarks.set(self.remarks.get().and(remark));
    }

    /// Whether the client can use a shared address: it lists option 159.
    ///
    /// req-S35 (RFC 7618 §8): who does not list it never hears it.
    /// req-S36 (RFC 7618 §8): who lists it hears it with every shared address.
    pub(super) fn is_capable(&self) -> bool {
        self.message.requests(dhcpv4::OPTION_PORT_PARAMS)
    }

    /// The client on the link that its packet came from.
    pub(super) fn key(&self) -> BindingKey {
        self.client.identity.on(self.link)
    }

    /// The client, for a record.
    pub(super) fn holder(&self) -> Holder<'_> {
        Holder {
            identity: self.client.identity,
            client: self.client.octets,
            hardware: self.client.hardware,
            source: self.source,
            softwire: None,
        }
    }
}

/// Who asks.
#[derive(Clone, Copy)]
pub(super) struct Client<'a> {
    pub identity: ClientIdentity,
    /// Option 61, or `htype` and `chaddr`; the first octets of a very long identifier.
    pub octets: &'a [u8],
    pub hardware: bool,
    /// Whether the identifier can be part of a shared binding (RFC 7618 §6): it must be one of RFC 2132 §9.14.
    pub can_share: bool,
}

/// Room for an identifier that has to be put together: split options, or `htype` and `chaddr`.
pub(super) type Scratch = [u8; 255];

/// RFC 2132 §9.14: a type octet and at least one octet of identifier.
const IDENTIFIER_LENGTH_MIN: usize = 2;

/// Who asks, but for the octets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Identified {
    pub identity: ClientIdentity,
    pub hardware: bool,
    pub can_share: bool,
}

/// Identifies the sender of `message`.
///
/// req-S60 (RFC 2131 §4.2): by its client identifier, octet for octet, or by its hardware address if it has none.
#[inline]
pub(super) fn identify(secret: &IdentitySecret, message: &View<'_>) -> Result<Identified, Refusal> {
    if let Some(identifier) = message.client_identifier() {
        let kind = IdentityKind::ClientIdentifier;
        let identity = match identifier.contiguous() {
            Some(octets) => secret.identify(kind, octets),
            None => secret.identify_pieces(kind, identifier.pieces()),
        };
        let can_share = identifier.len() >= IDENTIFIER_LENGTH_MIN;
        return Ok(Identified { identity, hardware: false, can_share });
    }
    let mut scratch: Scratch = [0; 255];
    let octets = hardware_identity(message, &mut scratch);
    if octets.is_empty() {
        return Err(Refusal::NoClientId);
    }
    let identity = secret.identify(IdentityKind::HardwareAddress, octets);
    Ok(Identified { identity, hardware: true, can_share: false })
}

/// The octets that a client is identified by; put together in `scratch` if they do not stand together in the packet.
pub(super) fn identifying_octets<'a>(message: &View<'a>, scratch: &'a mut Scratch) -> &'a [u8] {
    match message.client_identifier() {
        Some(identifier) => joined(&identifier, scratch),
        None => hardware_identity(message, scratch),
    }
}

/// `htype` and `chaddr`; nothing if there is no hardware address.
fn hardware_identity<'a>(message: &View<'a>, scratch: &'a mut Scratch) -> &'a [u8] {
    let address = message.hardware_address();
    if let Some((head, rest)) = scratch.split_first_mut()
        && let Some(room) = rest.get_mut(..address.len())
        && !address.is_empty()
    {
        *head = message.hardware_type();
        room.copy_from_slice(address);
        return scratch.get(..=address.len()).unwrap_or_default();
    }
    &[]
}

/// The octets of `value` in one piece: as they stand in the packet, or put together in `scratch`.
fn joined<'a>(value: &Value<'a>, scratch: &'a mut Scratch) -> &'a [u8] {
    if let Some(octets) = value.contiguous() {
        return octets;
    }
    let mut length = 0;
    for (place, octet) in scratch.iter_mut().zip(value.pieces().flatten()) {
        *place = *octet;
        length += 1;
    }
    scratch.get(..length).unwrap_or_default()
}

/// What the packet says about where its client is.
// req-S7 (RFC 7341 §11): by local policy, from the link-address, the IPv6 source, or what else the
// relay closest to the client says.
pub(super) fn attachment<'a>(datagram: &Datagram<'a>, path: &Path<'a>) -> Attachment<'a> {
    Attachment {
        link_address: path.link_address,
        source: path.innermost.map_or(datagram.peer, Relay::peer_address),
        relayed: path.innermost.is_some(),
        interface: datagram.interface,
        interface_id: path.innermost.and_then(Relay::interface_id),
        remote_id: path.innermost.and_then(Relay::remote_id),
    }
}
