//! The first step to an answer: what a datagram says, before anybody asks who holds what.
//!
//! A worker reads a whole burst before it answers the first of it. While the others are read, the memory that each
//! answer will need is on its way.

use std::net::Ipv6Addr;

use super::{
    Engine, discover,
    exchange::{Identified, attachment, identify},
    reason::{Reason, Refusal},
    remark::{Remark, Remarks},
    tuple,
};
use crate::{
    lease::key::{LinkId, SiteId},
    wire::{
        datagram::Datagram,
        dhcpv4::{MessageType, PortParamsField, View},
        dhcpv6::{self, InformationRequest, Request},
    },
};

/// A datagram that has been read. What [`Engine::decide`] makes of it follows from this, the time and the leases.
#[derive(Debug)]
pub struct Reading<'a> {
    pub(super) datagram: Datagram<'a>,
    pub(super) content: Result<Content<'a>, Reason>,
}

/// What a sound datagram is.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "almost all are queries; a box would allocate")]
pub(super) enum Content<'a> {
    /// A DHCPv4 message.
    Query(Query<'a>),
    /// An Information-request.
    Information(InformationRequest<'a>),
}

/// A query: the message, who asks, and from where.
#[derive(Debug)]
pub(super) struct Query<'a> {
    pub envelope: dhcpv6::Query<'a>,
    pub message: View<'a>,
    pub link: LinkId,
    /// The client's IPv6 address.
    pub source: Ipv6Addr,
    /// The customer site that it came from, where that matters.
    pub site: SiteId,
    pub remarks: Remarks,
    /// An error if the message has no identity. It counts only once its site has been heard.
    pub client: Result<Identified, Refusal>,
}

impl Reading<'_> {
    /// Whether its client only begins: a DISCOVER, which it sends again if nobody answers (RFC 2131 §4.1).
    #[inline]
    pub fn begins(&self) -> bool {
        let Ok(Content::Query(query)) = &self.content else { return false };
        query.message.kind() == MessageType::Discover
    }
}

impl Engine {
    /// Reads a datagram, and asks for the memory by which its client is found.
    #[inline]
    pub fn read<'a>(&self, datagram: &Datagram<'a>) -> Reading<'a> {
        Reading { datagram: *datagram, content: self.content(datagram) }
    }

    /// Asks for the memory that the answer will be made of, as far as what was [read](Self::read) says.
    #[inline]
    pub fn approach(&self, reading: &Reading<'_>) {
        if let Ok(Content::Query(query)) = &reading.content
            && let Ok(client) = query.client
        {
            let key = client.identity.on(query.link);
            self.leases.approach_closer(key);
            if query.message.kind() == MessageType::Discover {
                discover::approach(self, key, self.link(query.link));
            }
        }
    }

    #[inline]
    fn content<'a>(&self, datagram: &Datagram<'a>) -> Result<Content<'a>, Reason> {
        if datagram.peer_port == 0 || datagram.peer.is_unspecified() {
            return Err(Refusal::BadSource.into());
        }
        match Request::parse(datagram.payload)? {
            Request::Query(envelope) => self.query(datagram, envelope),
            Request::Information(request) => Ok(Content::Information(request)),
        }
    }

    #[inline]
    fn query<'a>(
        &self,
        datagram: &Datagram<'a>,
        envelope: dhcpv6::Query<'a>,
    ) -> Result<Content<'a>, Reason> {
        let message = View::parse_request(envelope.message)?;
        let path = envelope.relays.path();
        let attachment = attachment(datagram, &path);
        let link = self.chooser.choose(&attachment).ok_or(Refusal::NoAttachment)?;
        let remarks = Remarks::default()
            .and_if(path.has_strange_peer, Remark::StrangePeer)
            .and_if(message.overload_ignored(), Remark::BadOverload);
        // An OFFER leaves no record that would name the site.
        let site = if self.counts_sites || message.kind() != MessageType::Discover {
            self.sites.identify(&attachment)
        } else {
            SiteId::UNKNOWN
        };
        let client = identify(&self.secret, &message);
        if let Some(address) = message.requested_address()
            && let PortParamsField::Present(params) = message.port_params()
        {
            self.leases.pools().approach(tuple(address, params));
        }
        if let Ok(client) = client {
            self.leases.approach(client.identity.on(link));
        }
        let source = attachment.source;
        Ok(Content::Query(Query { envelope, message, link, source, site, remarks, client }))
    }
}
