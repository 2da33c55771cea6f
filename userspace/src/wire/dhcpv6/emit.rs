//! Writing the envelope: the headers and relay levels around a DHCPv4 message.
//!
//! The DHCPv4 message is written where it will stay; only then are the lengths around it known.
//! Until then each length field holds the distance back to the length field of the level outside
//! it, so that no list of levels is kept.

use std::net::Ipv6Addr;

use super::{
    DHCPV4_QUERY, DHCPV4_RESPONSE, FLAG_UNICAST, INFORMATION_REQUEST, OPTION_CLIENT_LINK_LAYER,
    OPTION_DHCPV4_MESSAGE, OPTION_ECHO_REQUEST, OPTION_INTERFACE_ID, OPTION_RELAY_MESSAGE,
    OPTION_RELAY_PORT, OPTION_REMOTE_ID, RELAY_FORWARD, RELAY_REPLY, REPLY, Relay, Relays,
};
use crate::wire::writer::Writer;

/// The most codes of an Echo Request option that are honoured at one level. RFC 4994 knows no
/// limit; without one a single datagram could ask for 16,000 codes among 16,000 options.
pub const ERO_CODES_MAX: usize = 32;

/// A message whose lengths are still open. [`finish`](Envelope::finish) it when its content is
/// written.
#[derive(Debug)]
#[must_use = "the lengths of the message are not written yet"]
pub struct Envelope {
    /// Where the innermost open length field is: that of option 87, or of the Relay Message option
    /// around a message that has none. `None` if there is no length to write.
    innermost: Option<usize>,
}

impl Envelope {
    /// Closes all levels. Everything written since is the content of the innermost one.
    #[inline]
    pub fn finish(self, w: &mut Writer<'_>) {
        let end = w.len();
        let Some(mut at) = self.innermost else { return };
        while let Some(back) = w.peek_u16(at).filter(|_| !w.overflowed()) {
            let length = end.saturating_sub(at).saturating_sub(size_of::<u16>());
            match u16::try_from(length) {
                Ok(length) => w.patch_u16(at, length),
                Err(_) => w.overflow(),
            }
            if back == 0 {
                break;
            }
            at = at.saturating_sub(usize::from(back));
        }
    }
}

/// Opens an option whose length is not known yet, inside the one whose length is open at `outside`.
#[inline]
fn open(w: &mut Writer<'_>, code: u16, outside: Option<usize>) -> usize {
    let [high, low] = code.to_be_bytes();
    let at = w.len().wrapping_add(size_of::<u16>());
    match u16::try_from(outside.map_or(0, |outside| at.saturating_sub(outside))) {
        Ok(back) => {
            let [far, near] = back.to_be_bytes();
            w.array([high, low, far, near]);
        }
        Err(_) => w.overflow(),
    }
    at
}

/// One DHCPv6 option.
pub fn put_option(w: &mut Writer<'_>, code: u16, content: &[u8]) {
    w.u16(code);
    match u16::try_from(content.len()) {
        Ok(length) => w.u16(length),
        Err(_) => w.overflow(),
    }
    w.bytes(content);
}

/// Begins the answer to what came through `relays`: a Relay-reply for each Relay-forward, and
/// inside them a DHCPv4-response up to the header of option 87 (RFC 7341 §11, RFC 8415 §19.3).
///
/// Each level repeats hop-count, link-address and peer-address, Interface-Id (RFC 8415 §21.18),
/// Relay Source Port (RFC 8357 §5.2) and what its Echo Request asks for (RFC 4994 §5). The 24 flags
/// are 0 (RFC 7341 §6.4).
#[inline]
pub fn begin_response(w: &mut Writer<'_>, relays: Relays<'_>) -> Envelope {
    begin_response_with(w, relays, |_| {})
}

/// The same with options beside option 87, which `beside` writes (RFC 8539 §5).
#[inline]
pub fn begin_response_with(
    w: &mut Writer<'_>,
    relays: Relays<'_>,
    beside: impl FnOnce(&mut Writer<'_>),
) -> Envelope {
    // req-S9 (RFC 7341 §11): what came in Relay-forwards goes back in as many Relay-replies.
    let outside = if relays.is_empty() { None } else { put_relay_replies(w, relays) };
    // req-S3 (RFC 7341 §6.4): whatever the flags of the query, those of the response are 0.
    w.array([DHCPV4_RESPONSE, 0, 0, 0]);
    beside(w);
    // req-S1 (RFC 7341 §6.2): a response always has the DHCPv4 Message option.
    Envelope { innermost: Some(open(w, OPTION_DHCPV4_MESSAGE, outside)) }
}

/// Begins a Reply to what came through `relays`, up to its first option (RFC 8415 §18.3.6, §19.3).
/// `transaction` is that of the message it answers.
pub fn begin_reply(w: &mut Writer<'_>, relays: Relays<'_>, transaction: [u8; 3]) -> Envelope {
    let innermost = put_relay_replies(w, relays);
    w.u8(REPLY);
    w.array(transaction);
    Envelope { innermost }
}

/// Begins an Information-request as it arrives through `relays`, outermost first, or as a client
/// sends it if there are none.
pub fn begin_information_request(
    w: &mut Writer<'_>,
    relays: &[RelayForward<'_>],
    transaction: [u8; 3],
) -> Envelope {
    let innermost = put_relay_forwards(w, relays);
    w.u8(INFORMATION_REQUEST);
    w.array(transaction);
    Envelope { innermost }
}

/// A Relay-reply for each Relay-forward; the last length that is open then.
fn put_relay_replies(w: &mut Writer<'_>, relays: Relays<'_>) -> Option<usize> {
    let mut outside = None;
    for relay in relays {
        w.u8(RELAY_REPLY);
        // req-S10 (RFC 8415 §19.3): hop-count, link-address and peer-address go back unaltered.
        w.array(relay.copied());
        echo(w, relay);
        outside = Some(open(w, OPTION_RELAY_MESSAGE, outside));
    }
    outside
}

/// Begins a DHCPv4-query as a client sends it. `unicast` is flag U (RFC 7341 §6.3).
pub fn begin_query(w: &mut Writer<'_>, unicast: bool) -> Envelope {
    begin_message(w, DHCPV4_QUERY, if unicast { FLAG_UNICAST } else { 0 }, None)
}

/// One level of Relay-forward to be written.
#[derive(Clone, Copy, Debug)]
pub struct RelayForward<'a> {
    /// Relays between this one and the client.
    pub hop_count: u8,
    /// An address of the client's link, or unspecified.
    pub link_address: Ipv6Addr,
    /// Where the relay got the message from.
    pub peer_address: Ipv6Addr,
    /// Content of Interface-Id (18).
    pub interface_id: Option<&'a [u8]>,
    /// Content of Remote-ID (37): enterprise number and string.
    pub remote_id: Option<&'a [u8]>,
    /// Content of Client Link-Layer Address (79): hardware type (2 octets) and address.
    pub client_link_layer: Option<&'a [u8]>,
}

/// Begins a DHCPv4-query as it arrives through `relays`, outermost first.
pub fn begin_relayed_query(
    w: &mut Writer<'_>,
    relays: &[RelayForward<'_>],
    unicast: bool,
) -> Envelope {
    let outside = put_relay_forwards(w, relays);
    begin_message(w, DHCPV4_QUERY, if unicast { FLAG_UNICAST } else { 0 }, outside)
}

/// The levels of `relays`; the last length that is open then.
fn put_relay_forwards(w: &mut Writer<'_>, relays: &[RelayForward<'_>]) -> Option<usize> {
    let mut outside = None;
    for relay in relays {
        w.u8(RELAY_FORWARD);
        w.u8(relay.hop_count);
        w.array(relay.link_address.octets());
        w.array(relay.peer_address.octets());
        for (code, content) in [
            (OPTION_INTERFACE_ID, relay.interface_id),
            (OPTION_REMOTE_ID, relay.remote_id),
            (OPTION_CLIENT_LINK_LAYER, relay.client_link_layer),
        ] {
            if let Some(content) = content {
                put_option(w, code, content);
            }
        }
        outside = Some(open(w, OPTION_RELAY_MESSAGE, outside));
    }
    outside
}

#[inline]
fn begin_message(w: &mut Writer<'_>, kind: u8, flags: u8, outside: Option<usize>) -> Envelope {
    w.array([kind, flags, 0, 0]);
    Envelope { innermost: Some(open(w, OPTION_DHCPV4_MESSAGE, outside)) }
}

/// The options of a Relay-forward that its Relay-reply repeats. One pass, in the order of the
/// Relay-forward.
fn echo(w: &mut Writer<'_>, relay: Relay<'_>) {
    let (wanted, _) = relay.option(OPTION_ECHO_REQUEST).unwrap_or_default().as_chunks::<2>();
    let wanted = wanted.get(..ERO_CODES_MAX).unwrap_or(wanted);
    let (mut interface_id, mut relay_port) = (false, false);
    for (code, content) in relay.options() {
        let repeated = match code {
            OPTION_RELAY_MESSAGE => false,
            // req-S11 (RFC 8415 §21.18): Interface-Id goes back as it is, an empty one too.
            OPTION_INTERFACE_ID => !std::mem::replace(&mut interface_id, true),
            // req-S13 (RFC 8357 §5.2): and so does Relay Source Port.
            OPTION_RELAY_PORT => !std::mem::replace(&mut relay_port, true),
            // req-S12 (RFC 4994 §5): what is asked for and there is copied, known or not; what is in
            // the reply already is not doubled, and what was not there is left out.
            _ => wanted.contains(&code.to_be_bytes()),
        };
        if repeated {
            put_option(w, code, content);
        }
    }
}
