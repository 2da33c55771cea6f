//! The options of a reply: what must be said, and what the client asked for, in its order and within its limit.
//!
//! Options that a lease needs are never left out. What the operator configured follows the client's list as far as
//! there is room: what does not fit, and all that the client wants less, is left out.

use super::{
    essentials::{Essentials, Pouring, option_length},
    exchange::Exchange,
    options::OptionSet,
    remark::Remark,
};
use crate::wire::{
    dhcpv4::{self, OPTION_RELAY_INFORMATION, OPTION_ROUTER, OPTION_SUBNET_MASK},
    writer::Writer,
};

/// Octets of IPv4 and UDP header that a limit of option 57 includes (RFC 2132 §9.10 leaves it open; the
/// conservative reading).
const HEADERS_V4: usize = 28;

/// The message size that every client must accept (RFC 2131 §2).
const MESSAGE_SIZE_MIN: u16 = 576;

/// Octets of a DHCPv6 message in an IPv6 packet that every path carries whole: 1280 less IPv6 and UDP headers.
const ENVELOPE_SIZE_MAX: usize = 1280 - 40 - 8;

/// Octets of the End option.
const END_LENGTH: usize = 1;

/// Fills the message that begins at `start` and has its message type and server identifier already, up to End.
pub(super) fn put_options(
    w: &mut Writer<'_>,
    exchange: &Exchange<'_>,
    start: usize,
    essentials: &Essentials<'_>,
    configured: &OptionSet,
) {
    let message = exchange.message;
    // A limit below the legal minimum is that minimum (RFC 2132 §9.10).
    let limit = message.max_message_size().unwrap_or(0).max(MESSAGE_SIZE_MIN);
    let limit = (start + usize::from(limit) - HEADERS_V4).min(w.len() + w.room());
    let needed = w.len() + essentials.length() + END_LENGTH;

    let agent = message.relay_agent_information();
    let agent_length = agent.as_ref().map_or(0, |value| option_length(value.len()));
    let agent_fits = needed + agent_length <= limit;
    let needed = needed + if agent_fits { agent_length } else { 0 };

    let mut room = limit.min(ENVELOPE_SIZE_MAX).saturating_sub(needed);
    let mut pouring = essentials.pour();
    put_requested(w, exchange, &mut pouring, configured, &mut room);
    pouring.finish(w);
    match agent {
        // req-S78 (RFC 3046 §2.2): whole, as the last option, never in an overloaded field; or not at all.
        Some(information) if agent_fits => {
            dhcpv4::put_value(w, OPTION_RELAY_INFORMATION, &information);
        }
        Some(_) => exchange.remark(Remark::RelayInformationOmitted),
        None => {}
    }
    dhcpv4::put_end(w);
}

/// Writes what the client's list asks for, within `room`.
///
/// req-S76 (RFC 2132 §9.8): what is asked for, in the order in which it is, each once.
#[inline]
fn put_requested(
    w: &mut Writer<'_>,
    exchange: &Exchange<'_>,
    essentials: &mut Pouring<'_, '_>,
    configured: &OptionSet,
    room: &mut usize,
) {
    let Some(list) = exchange.message.parameter_request_list() else { return };
    let mut wanted = configured.codes();
    let mut omits = false;
    let mut answer = |code: u8| {
        if essentials.put(w, code) || !wanted.remove(code) {
            return;
        }
        // RFC 2132 §3.3: the mask comes before the router.
        let masked = code == OPTION_ROUTER
            && list.contains(OPTION_SUBNET_MASK)
            && wanted.remove(OPTION_SUBNET_MASK);
        for code in masked.then_some(OPTION_SUBNET_MASK).into_iter().chain([code]) {
            let option = configured.encoded(code);
            omits |= option.len() > *room;
            if !omits {
                *room -= option.len();
                w.bytes(option);
            }
        }
    };
    let (mut codes, mut others) = (list.first(), list.others());
    loop {
        for &code in codes {
            answer(code);
        }
        let Some(next) = others.as_mut().and_then(Iterator::next) else { break };
        codes = next;
    }
    if omits {
        exchange.remark(Remark::OptionsOmitted);
    }
}
