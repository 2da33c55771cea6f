//! The options of a reply: what must be said, and what the client asked for, in its order and within its limit.
//!
//! Options that a lease needs are never left out. What the operator configured follows the client's list as far as
//! there is room: what does not fit, and all that the client wants less, is left out.

use std::net::Ipv6Addr;

use super::{exchange::Exchange, options::OptionSet, remark::Remark};
use crate::wire::{
    dhcpv4::{
        self, OPTION_CLIENT_ID, OPTION_LEASE_TIME, OPTION_MESSAGE, OPTION_PORT_PARAMS,
        OPTION_REBINDING_TIME, OPTION_RELAY_INFORMATION, OPTION_RENEWAL_TIME, OPTION_ROUTER,
        OPTION_SOFTWIRE_SOURCE, OPTION_SUBNET_MASK, Value,
    },
    portparams::PortParams,
    writer::Writer,
};

/// Octets of IPv4 and UDP header that a limit of option 57 includes (RFC 2132 §9.10 leaves it open; the
/// conservative reading).
const HEADERS_V4: usize = 28;

/// The message size that every client must accept (RFC 2131 §2).
const MESSAGE_SIZE_MIN: u16 = 576;

/// Octets of a DHCPv6 message in an IPv6 packet that every path carries whole: 1280 less IPv6 and UDP headers.
const ENVELOPE_SIZE_MAX: usize = 1280 - 40 - 8;

/// Octets of code and length.
const OPTION_HEADER: usize = 2;

/// Octets of the End option.
const END_LENGTH: usize = 1;

/// What a reply says whether it is asked for or not. Each is taken out when it is written.
#[derive(Debug, Default)]
pub(super) struct Essentials<'a> {
    pub lease_seconds: Option<u32>,
    pub renewal_seconds: Option<u32>,
    pub rebinding_seconds: Option<u32>,
    /// Why a NAK says no.
    pub message: Option<&'static str>,
    pub client_identifier: Option<Value<'a>>,
    pub softwire: Option<Ipv6Addr>,
    pub port_params: Option<PortParams>,
}

/// The order of those that the client does not ask for.
const ESSENTIAL_CODES: [u8; 7] = [
    OPTION_LEASE_TIME,
    OPTION_RENEWAL_TIME,
    OPTION_REBINDING_TIME,
    OPTION_MESSAGE,
    OPTION_CLIENT_ID,
    OPTION_SOFTWIRE_SOURCE,
    OPTION_PORT_PARAMS,
];

impl Essentials<'_> {
    /// Octets that they take.
    fn length(&self) -> usize {
        let times = [self.lease_seconds, self.renewal_seconds, self.rebinding_seconds];
        let fours = times.iter().flatten().count() + usize::from(self.port_params.is_some());
        let identifier = self.client_identifier.as_ref().map_or(0, |value| length(value.len()));
        let softwire = self.softwire.map_or(0, |_| length(size_of::<Ipv6Addr>()));
        let message = self.message.map_or(0, |text| length(text.len()));
        fours * length(size_of::<u32>()) + identifier + softwire + message
    }

    /// Writes the one with this code. False if there is none, or it has been written.
    #[inline]
    fn put(&mut self, w: &mut Writer<'_>, code: u8) -> bool {
        let number = match code {
            OPTION_LEASE_TIME => self.lease_seconds.take(),
            OPTION_RENEWAL_TIME => self.renewal_seconds.take(),
            OPTION_REBINDING_TIME => self.rebinding_seconds.take(),
            OPTION_PORT_PARAMS => {
                return self
                    .port_params
                    .take()
                    .map(|params| dhcpv4::put_port_params(w, params))
                    .is_some();
            }
            OPTION_MESSAGE => {
                let text = self.message.take();
                return text.map(|text| dhcpv4::put_option(w, code, text.as_bytes())).is_some();
            }
            OPTION_CLIENT_ID => {
                let identifier = self.client_identifier.take();
                return identifier.map(|value| dhcpv4::put_value(w, code, &value)).is_some();
            }
            OPTION_SOFTWIRE_SOURCE => {
                let address = self.softwire.take();
                return address.map(|ip| dhcpv4::put_option(w, code, &ip.octets())).is_some();
            }
            _ => None,
        };
        number.map(|number| dhcpv4::put_u32(w, code, number)).is_some()
    }
}

/// Octets of an option with `content` octets of content; it is split after every 255 of them.
fn length(content: usize) -> usize {
    content + OPTION_HEADER * content.div_ceil(255).max(1)
}

/// Fills the message that begins at `start` and has its message type and server identifier already, up to End.
pub(super) fn put_options(
    w: &mut Writer<'_>,
    exchange: &Exchange<'_>,
    start: usize,
    mut essentials: Essentials<'_>,
    configured: &OptionSet,
) {
    let message = exchange.message;
    // A limit below the legal minimum is that minimum (RFC 2132 §9.10).
    let limit = message.max_message_size().unwrap_or(0).max(MESSAGE_SIZE_MIN);
    let limit = (start + usize::from(limit) - HEADERS_V4).min(w.len() + w.room());
    let needed = w.len() + essentials.length() + END_LENGTH;

    let agent = message.relay_agent_information();
    let agent_length = agent.as_ref().map_or(0, |value| length(value.len()));
    let agent_fits = needed + agent_length <= limit;
    let needed = needed + if agent_fits { agent_length } else { 0 };

    let mut room = limit.min(ENVELOPE_SIZE_MAX).saturating_sub(needed);
    put_requested(w, exchange, &mut essentials, configured, &mut room);
    for code in ESSENTIAL_CODES {
        essentials.put(w, code);
    }
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
fn put_requested(
    w: &mut Writer<'_>,
    exchange: &Exchange<'_>,
    essentials: &mut Essentials<'_>,
    configured: &OptionSet,
    room: &mut usize,
) {
    let mut wanted = configured.codes();
    let Some(list) = exchange.message.parameter_request_list() else { return };
    let mut omits = false;
    let mut put = |w: &mut Writer<'_>, code: u8| {
        let option = configured.encoded(code);
        omits |= option.len() > *room;
        if !omits {
            *room -= option.len();
            w.bytes(option);
        }
    };
    for &code in list.pieces().flatten() {
        if essentials.put(w, code) || !wanted.remove(code) {
            continue;
        }
        // RFC 2132 §3.3: the mask comes before the router.
        if code == OPTION_ROUTER
            && list.contains(OPTION_SUBNET_MASK)
            && wanted.remove(OPTION_SUBNET_MASK)
        {
            put(w, OPTION_SUBNET_MASK);
        }
        put(w, code);
    }
    if omits {
        exchange.remark(Remark::OptionsOmitted);
    }
}
