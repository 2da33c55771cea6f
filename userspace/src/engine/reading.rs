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
        dhcpv6::{self, InformationRequest, OptionRequest, Relays, Request},
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

impl Query<'_> {
    /// No query, to read one into.
    const BLANK: Query<'static> = Query {
        envelope: dhcpv6::Query {
            unicast: false,
            requested: OptionRequest::NONE,
            relays: Relays::NONE,
            message: &[],
        },
        message: View::BLANK,
        link: LinkId(0),
        source: Ipv6Addr::UNSPECIFIED,
        site: SiteId::UNKNOWN,
        remarks: Remarks::NONE,
        client: Err(Refusal::NoClientId),
    };
}

impl Default for Reading<'_> {
    /// Of no datagram: nothing is answered.
    #[inline]
    fn default() -> Self {
        let content = Err(Reason::Refused(Refusal::BadSource));
        Reading { datagram: Datagram::default(), content }
    }
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
    pub fn read<'a>(&self, datagram: &Datagram<'a>) -> Reading<'a> {
        let mut reading = Reading::default();
        self.read_into(datagram, &mut reading);
        reading
    }

    /// The same, into the place where the reading stays: one that is handed from one to the next is copied right after
    /// it was written, for which a processor has to wait.
    #[inline]
    pub fn read_into<'a>(&self, datagram: &Datagram<'a>, reading: &mut Reading<'a>) {
        reading.datagram = *datagram;
        if let Err(reason) = self.read_content(datagram, &mut reading.content) {
            reading.content = Err(reason);
        }
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
    fn read_content<'a>(
        &self,
        datagram: &Datagram<'a>,
        content: &mut Result<Content<'a>, Reason>,
    ) -> Result<(), Reason> {
        if datagram.peer_port == 0 || datagram.peer.is_unspecified() {
            return Err(Refusal::BadSource.into());
        }
        let envelope = match Request::parse(datagram.payload)? {
            Request::Query(envelope) => envelope,
            Request::Information(request) => {
                *content = Ok(Content::Information(request));
                return Ok(());
            }
        };
        *content = Ok(Content::Query(Query::BLANK));
        match content {
            Ok(Content::Query(query)) => self.read_query(datagram, envelope, query),
            _ => Ok(()),
        }
    }

    #[inline]
    fn read_query<'a>(
        &self,
        datagram: &Datagram<'a>,
        envelope: dhcpv6::Query<'a>,
        query: &mut Query<'a>,
    ) -> Result<(), Reason> {
        query.envelope = envelope;
        let message = &mut query.message;
        message.read_request(envelope.message)?;
        let path = envelope.relays.path();
        let attachment = attachment(datagram, &path);
        let link = self.chooser.choose(&attachment).ok_or(Refusal::NoAttachment)?;
        query.link = link;
        query.source = attachment.source;
        query.remarks = Remarks::NONE
            .and_if(path.has_strange_peer, Remark::StrangePeer)
            .and_if(message.overload_ignored(), Remark::BadOverload);
        if self.counts_sites || message.kind() != MessageType::Discover {
            // An OFFER leaves no record that would name the site.
            query.site = self.sites.identify(&attachment);
        }
        if let Some(address) = message.requested_address()
            && let PortParamsField::Present(params) = message.port_params()
        {
            self.leases.pools().approach(tuple(address, params));
        }
        query.client = identify(&self.secret, message);
        if let Ok(client) = query.client {
            self.leases.approach(client.identity.on(link));
        }
        Ok(())
    }
}
