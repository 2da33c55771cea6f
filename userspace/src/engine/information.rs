//! Stateless DHCPv6: an Information-request is answered with what the configuration has of what it
//! asks for.
//!
//! Nothing is leased and nothing is written: the answer is the same for every client that asks for
//! the same. Options are encoded once, when the engine is made.

use std::net::Ipv6Addr;

use super::{
    Decided, Engine, Verdict,
    exchange::attachment,
    policy::{Information, Policy},
    reason::Refusal,
    remark::{Remark, Remarks},
    reply::{self, Reply, ReplyKind},
};
use crate::{
    lease::{
        key::{IdentitySecret, LinkId},
        stamp::Now,
    },
    wire::{
        datagram::Datagram,
        dhcpv6::{self, InformationRequest, put_option, softwire},
        writer::Writer,
    },
};

/// Tells sites on no link apart from those on one.
const NO_LINK: LinkId = LinkId(u16::MAX);

/// A DUID made of a UUID (RFC 6355 §4).
const DUID_UUID: u16 = 4;

/// Octets that all instances of one option may have, headers included.
const OPTION_LENGTH_MAX: usize = 4_096;

/// What Replies are made of.
pub(super) struct Service {
    duid: Vec<u8>,
    /// Code and encoded instances of each option that a client may ask for.
    options: Vec<(u16, Vec<u8>)>,
}

impl Service {
    /// Prepares what `policy` says; `None` if Information-requests are not to be answered.
    pub(super) fn new(policy: &Policy, secret: &IdentitySecret) -> Option<Self> {
        let information = policy.information.as_ref()?;
        let duid = policy
            .server_duid
            .clone()
            .unwrap_or_else(|| [&DUID_UUID.to_be_bytes()[..], &secret.server_uuid()].concat());
        Some(Self { duid, options: options(information) })
    }

    /// The server's DUID.
    pub(super) fn duid(&self) -> &[u8] {
        &self.duid
    }
}

/// The options that `information` has something to say about.
fn options(information: &Information) -> Vec<(u16, Vec<u8>)> {
    let addresses: Vec<u8> = information.servers.iter().flat_map(Ipv6Addr::octets).collect();
    let seconds = information.refresh_seconds.to_be_bytes();
    let mut options = vec![
        // RFC 7341 §7.2: an empty option is there too, and means the multicast group.
        encoded(dhcpv6::OPTION_4O6_SERVER, |w, code| put_option(w, code, &addresses)),
        encoded(dhcpv6::OPTION_INFORMATION_REFRESH_TIME, |w, code| put_option(w, code, &seconds)),
    ];
    if let Some(seconds) = information.retry_seconds_max {
        let code = dhcpv6::OPTION_INF_MAX_RT;
        options.push(encoded(code, |w, code| put_option(w, code, &seconds.to_be_bytes())));
    }
    if !information.border_relays.is_empty() {
        let relays = &information.border_relays;
        options.push(encoded(dhcpv6::OPTION_S46_BR, |w, _| softwire::put_border_relays(w, relays)));
    }
    if let Some(lightweight) = &information.lightweight {
        let (relays, binding) = (&lightweight.border_relays, lightweight.binding.as_ref());
        let put = |w: &mut Writer<'_>, _| softwire::put_container_lw(w, relays, binding);
        options.push(encoded(dhcpv6::OPTION_S46_CONTAINER_LW, put));
    }
    if !information.priority.is_empty() {
        let codes = information.priority.iter().flat_map(|code| code.to_be_bytes());
        let codes: Vec<u8> = codes.collect();
        let put = |w: &mut Writer<'_>, code| put_option(w, code, &codes);
        options.push(encoded(dhcpv6::OPTION_S46_PRIORITY, put));
    }
    options
}

/// An option as `put` writes it. The configuration's own limits are far below the buffer's.
fn encoded(code: u16, put: impl FnOnce(&mut Writer<'_>, u16)) -> (u16, Vec<u8>) {
    let mut buffer = vec![0; OPTION_LENGTH_MAX];
    let mut w = Writer::new(&mut buffer);
    put(&mut w, code);
    debug_assert!(!w.overflowed(), "option {code} is too long");
    (code, w.written().to_vec())
}

/// A Reply, or why there is none (RFC 8415 §16.12, §18.3.6).
pub(super) fn answer(
    engine: &Engine,
    now: Now,
    datagram: &Datagram<'_>,
    request: &InformationRequest<'_>,
    out: &mut [u8],
) -> Decided {
    let service = engine.information.as_ref().ok_or(Refusal::InformationOff)?;
    // req-S19 (RFC 9915 §16): of what clients may say, only DHCPv4-queries are taken by unicast.
    if request.relays.is_empty() && !datagram.local.is_multicast() {
        return Err(Refusal::InformationUnicast.into());
    }
    if request.server_id.is_some_and(|duid| duid != service.duid) {
        return Err(Refusal::InformationOtherServer.into());
    }
    if request.has_identity_association {
        return Err(Refusal::InformationWithIa.into());
    }
    let path = request.relays.path();
    let attachment = attachment(datagram, &path);
    // Whoever is on no link is told too: there is nothing here that only one link has.
    let link = engine.chooser.choose(&attachment).unwrap_or(NO_LINK);
    engine.admit(now, engine.sites.identify(&attachment), link)?;
    let mut w = Writer::new(out);
    let envelope = dhcpv6::begin_reply(&mut w, request.relays, request.transaction);
    put_option(&mut w, dhcpv6::OPTION_SERVER_ID, &service.duid);
    if let Some(duid) = request.client_id {
        put_option(&mut w, dhcpv6::OPTION_CLIENT_ID, duid);
    }
    for (code, octets) in &service.options {
        if request.requested.contains(*code) {
            w.bytes(octets);
        }
    }
    envelope.finish(&mut w);
    let length = w.finish().ok_or(Refusal::ReplyTooLarge)?;
    let port = reply::port(&engine.policy, datagram, request.relays);
    let remarks = Remarks::default().and_if(path.has_strange_peer, Remark::StrangePeer);
    Ok(Verdict::Reply(Reply::new(length, port, ReplyKind::Information, remarks)))
}
