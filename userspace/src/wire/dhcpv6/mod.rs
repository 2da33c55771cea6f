//! DHCPv6 around DHCPv4: the query and the response of RFC 7341 and the chain of relays they come
//! through (RFC 8415 §9).
//!
//! [`Request`] is what a server gets, [`Response`] and [`Reply`] what a client gets; [`emit`] writes
//! them. Nothing is stored a level: a [`Relays`] is the outermost message and a count, and whoever
//! wants the levels walks them again, which is linear in the message.

mod emit;
mod information;
mod relays;
pub mod softwire;

use std::net::Ipv6Addr;

pub use emit::{
    ERO_CODES_MAX, Envelope, RelayForward, begin_information_request, begin_query,
    begin_relayed_query, begin_reply, begin_response, begin_response_with, put_option,
};
pub use information::{InformationRequest, Reply};
pub use relays::{Path, Relay, RelayIter, Relays};

use super::Malformed;

/// The most levels of Relay-forward that are read. RFC 8415 §7.6 allows 9; relays of RFC 3315
/// counted to 32.
pub const RELAY_LEVELS_MAX: usize = 33;

/// The UDP port on which clients listen (RFC 8415 §7.2).
pub const CLIENT_PORT: u16 = 546;
/// The UDP port on which servers and relays listen (RFC 8415 §7.2).
pub const SERVER_PORT: u16 = 547;

/// `All_DHCP_Relay_Agents_and_Servers` (RFC 8415 §7.1).
pub const ALL_RELAYS_AND_SERVERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);
/// `All_DHCP_Servers` (RFC 8415 §7.1).
pub const ALL_SERVERS: Ipv6Addr = Ipv6Addr::new(0xff05, 0, 0, 0, 0, 0, 1, 3);

/// Message type of a Reply (RFC 8415 §7.3).
pub const REPLY: u8 = 7;
/// Message type of an Information-request (RFC 8415 §7.3).
pub const INFORMATION_REQUEST: u8 = 11;
/// Message type of a Relay-forward (RFC 8415 §7.3).
pub const RELAY_FORWARD: u8 = 12;
/// Message type of a Relay-reply (RFC 8415 §7.3).
pub const RELAY_REPLY: u8 = 13;
/// Message type of a DHCPv4-query (RFC 7341 §6).
pub const DHCPV4_QUERY: u8 = 20;
/// Message type of a DHCPv4-response (RFC 7341 §6).
pub const DHCPV4_RESPONSE: u8 = 21;

/// Client Identifier (RFC 8415 §21.2).
pub const OPTION_CLIENT_ID: u16 = 1;
/// Server Identifier (RFC 8415 §21.3).
pub const OPTION_SERVER_ID: u16 = 2;
/// Identity Association for Non-temporary Addresses (RFC 8415 §21.4).
pub const OPTION_IA_NA: u16 = 3;
/// Identity Association for Temporary Addresses (RFC 8415 §21.5).
pub const OPTION_IA_TA: u16 = 4;
/// Option Request (RFC 8415 §21.7).
pub const OPTION_REQUEST: u16 = 6;
/// Elapsed Time (RFC 8415 §21.9).
pub const OPTION_ELAPSED_TIME: u16 = 8;
/// Relay Message (RFC 8415 §21.10).
pub const OPTION_RELAY_MESSAGE: u16 = 9;
/// Status Code (RFC 8415 §21.13).
pub const OPTION_STATUS_CODE: u16 = 13;
/// Interface-Id (RFC 8415 §21.18).
pub const OPTION_INTERFACE_ID: u16 = 18;
/// Identity Association for Prefix Delegation (RFC 8415 §21.21).
pub const OPTION_IA_PD: u16 = 25;
/// Information Refresh Time (RFC 8415 §21.23).
pub const OPTION_INFORMATION_REFRESH_TIME: u16 = 32;
/// Relay Agent Remote-ID: enterprise number and an opaque string (RFC 4649).
pub const OPTION_REMOTE_ID: u16 = 37;
/// Relay Agent Subscriber-ID (RFC 4580).
pub const OPTION_SUBSCRIBER_ID: u16 = 38;
/// Relay Agent Echo Request (RFC 4994).
pub const OPTION_ECHO_REQUEST: u16 = 43;
/// Client Link-Layer Address (RFC 6939).
pub const OPTION_CLIENT_LINK_LAYER: u16 = 79;
/// `INF_MAX_RT`: how long a client may wait between two Information-requests (RFC 8415 §21.25).
pub const OPTION_INF_MAX_RT: u16 = 83;
/// DHCPv4 Message (RFC 7341 §7.1).
pub const OPTION_DHCPV4_MESSAGE: u16 = 87;
/// DHCP 4o6 Server Address (RFC 7341 §7.2).
pub const OPTION_4O6_SERVER: u16 = 88;
/// Softwire border relay: the address of one (RFC 7598 §4.2), also at top level (RFC 8539 §4).
pub const OPTION_S46_BR: u16 = 90;
/// Binding of an IPv4 address to an IPv6 prefix (RFC 7598 §4.4).
pub const OPTION_S46_V4V6BIND: u16 = 92;
/// Port set of a binding, coded as option 159 (RFC 7598 §4.5).
pub const OPTION_S46_PORT_PARAMS: u16 = 93;
/// Container of what a lightweight 4over6 client needs (RFC 7598 §5.3).
pub const OPTION_S46_CONTAINER_LW: u16 = 96;
/// Softwire mechanisms by their option codes, the preferred one first (RFC 8026 §1.4).
pub const OPTION_S46_PRIORITY: u16 = 111;
/// Relay Source Port (RFC 8357 §5.2).
pub const OPTION_RELAY_PORT: u16 = 135;

/// The prefix in which a client shall choose its softwire address (RFC 8539 §6.1).
pub const OPTION_S46_BIND_PREFIX: u16 = 137;

/// Bit U of a DHCPv4-query, in the first of the three octets of its flags (RFC 7341 §6.3).
const FLAG_UNICAST: u8 = 0x80;

/// Octets of a message of RFC 7341 before its options: the type and 24 flags.
const MESSAGE_HEADER_LENGTH: usize = 4;

/// Octets of a relay message before its options (RFC 8415 §9).
const RELAY_HEADER_LENGTH: usize = 34;

/// What a server gets, as it came through any number of relays.
#[derive(Clone, Copy, Debug)]
pub enum Request<'a> {
    /// A DHCPv4 message in a DHCPv4-query (RFC 7341 §6).
    Query(Query<'a>),
    /// A client that asks for configuration only (RFC 8415 §18.2.6).
    Information(InformationRequest<'a>),
}

impl<'a> Request<'a> {
    /// Reads a UDP payload that was sent to a server.
    #[inline]
    pub fn parse(payload: &'a [u8]) -> Result<Self, Malformed> {
        let unwrapped = unwrap(payload, RELAY_FORWARD)?;
        match unwrapped.kind {
            DHCPV4_QUERY => Query::read(unwrapped).map(Self::Query),
            INFORMATION_REQUEST => InformationRequest::read(unwrapped).map(Self::Information),
            // req-S16 (RFC 8415 §16.14): a Relay-reply is for relays, and what is of no known type
            // for nobody; a Relay-forward around one of them does not change that.
            RELAY_REPLY => Err(Malformed::RelayReply),
            _ => Err(Malformed::UnknownType),
        }
    }
}

/// A DHCPv4-query, as it came through any number of relays.
#[derive(Clone, Copy, Debug)]
pub struct Query<'a> {
    /// Flag U: a native client would have sent this by unicast (RFC 7341 §6.3, §8). It tells
    /// RENEWING from REBINDING.
    pub unicast: bool,
    /// DHCPv6 options that the client wants in the response (RFC 8539 §5).
    pub requested: OptionRequest<'a>,
    /// The relays that forwarded it; empty if the client sent it directly.
    pub relays: Relays<'a>,
    /// The DHCPv4 message: the content of option 87.
    pub message: &'a [u8],
}

impl<'a> Query<'a> {
    /// Reads a UDP payload that was sent to a server and can be nothing but a query.
    #[inline]
    pub fn parse(payload: &'a [u8]) -> Result<Self, Malformed> {
        match Request::parse(payload)? {
            Request::Query(query) => Ok(query),
            Request::Information(_) => Err(Malformed::UnknownType),
        }
    }

    #[inline]
    fn read(unwrapped: Unwrapped<'a>) -> Result<Self, Malformed> {
        let Unwrapped { relays, header: [flags, _, _], options, .. } = unwrapped;
        let content = Content::read(options)?;
        // req-S4 (RFC 7341 §6.3): of the 24 flags only U is looked at.
        Ok(Self {
            unicast: flags & FLAG_UNICAST != 0,
            requested: content.requested,
            relays,
            message: content.message,
        })
    }
}

/// A DHCPv4-response, as a client gets it (no relays) or as a relay gets it.
#[derive(Clone, Copy, Debug)]
pub struct Response<'a> {
    /// The Relay-reply levels around it.
    pub relays: Relays<'a>,
    /// The DHCPv4 message: the content of option 87.
    pub message: &'a [u8],
    options: &'a [u8],
}

impl<'a> Response<'a> {
    /// Reads a UDP payload that was sent to a client or a relay. The flags are ignored (RFC 7341
    /// §6.4).
    pub fn parse(payload: &'a [u8]) -> Result<Self, Malformed> {
        let Unwrapped { relays, kind, options, .. } = unwrap(payload, RELAY_REPLY)?;
        if kind != DHCPV4_RESPONSE {
            return Err(Malformed::UnknownType);
        }
        Ok(Self { relays, message: Content::read(options)?.message, options })
    }

    /// All options of the response itself, option 87 among them: a server may put 90 and 137 beside
    /// it (RFC 8539 §5).
    pub fn options(&self) -> Options<'a> {
        Options::new(self.options)
    }
}

/// The codes of an Option Request option (RFC 8415 §21.7).
#[derive(Clone, Copy, Debug, Default)]
pub struct OptionRequest<'a>(&'a [u8]);

impl<'a> OptionRequest<'a> {
    /// No codes.
    pub(crate) const NONE: OptionRequest<'static> = OptionRequest(&[]);

    /// The codes in the option's content; half a code at its end is none.
    pub fn new(content: &'a [u8]) -> Self {
        Self(content)
    }

    /// Whether the client wants that option.
    pub fn contains(self, code: u16) -> bool {
        self.0.as_chunks::<2>().0.contains(&code.to_be_bytes())
    }
}

/// What counts of the options of a DHCPv4-query or a DHCPv4-response.
struct Content<'a> {
    message: &'a [u8],
    requested: OptionRequest<'a>,
}

impl<'a> Content<'a> {
    /// Goes through all options once. Those that are not known here are skipped, Client Link-Layer
    /// Address among them.
    // req-S15 (RFC 8415 §16): no option that is unknown or out of place costs a client its answer.
    // req-S14 (RFC 6939 §6): option 79 counts in a Relay-forward only.
    // req-S17 (RFC 8415 §21): a second option 87 is a fault, never a continuation of the first.
    #[inline]
    fn read(options: &'a [u8]) -> Result<Self, Malformed> {
        let (mut message, mut requested) = (None, None);
        let mut options = Options::new(options);
        for (code, content) in options.by_ref() {
            match code {
                OPTION_DHCPV4_MESSAGE if message.is_some() => {
                    return Err(Malformed::DuplicateDhcpv4Message);
                }
                OPTION_DHCPV4_MESSAGE => message = Some(content),
                OPTION_REQUEST => {
                    requested.get_or_insert(OptionRequest(content));
                }
                _ => {}
            }
        }
        if !options.is_exhausted() {
            return Err(Malformed::TruncatedTlv);
        }
        // req-S5 (RFC 7341 §11): no query without option 87 is answered.
        let message = message.filter(|message: &&[u8]| !message.is_empty());
        let message = message.ok_or(Malformed::NoDhcpv4Message)?;
        Ok(Self { message, requested: requested.unwrap_or_default() })
    }
}

/// What stands inside the relay levels, of either direction.
#[derive(Clone, Copy)]
struct Unwrapped<'a> {
    relays: Relays<'a>,
    /// Message type.
    kind: u8,
    /// The three octets after it: flags, or a transaction identifier.
    header: [u8; 3],
    /// All after those.
    options: &'a [u8],
}

/// Goes through the levels of `relay_type` down to a message of another type. Every option of every
/// level is looked at once, so that an option that runs out of its message is found wherever it is.
#[inline]
fn unwrap(payload: &[u8], relay_type: u8) -> Result<Unwrapped<'_>, Malformed> {
    let mut message = payload;
    for levels in 0..=RELAY_LEVELS_MAX {
        let (&[kind, header @ ..], options) =
            message.split_first_chunk::<MESSAGE_HEADER_LENGTH>().ok_or(Malformed::ShortHeader)?;
        if kind != relay_type {
            return Ok(Unwrapped { relays: Relays::new(payload, levels), kind, header, options });
        }
        let (_, options) =
            message.split_first_chunk::<RELAY_HEADER_LENGTH>().ok_or(Malformed::ShortHeader)?;
        message = the_only(
            Options::new(options),
            OPTION_RELAY_MESSAGE,
            Malformed::NoRelayMessage,
            Malformed::DuplicateRelayMessage,
        )?;
    }
    Err(Malformed::Nesting)
}

/// The content of the option that must be there exactly once and not be empty.
#[inline]
fn the_only(
    mut options: Options<'_>,
    code: u16,
    none: Malformed,
    several: Malformed,
) -> Result<&[u8], Malformed> {
    let mut found = None;
    for (seen, content) in options.by_ref() {
        if seen == code && found.replace(content).is_some() {
            return Err(several);
        }
    }
    if !options.is_exhausted() {
        return Err(Malformed::TruncatedTlv);
    }
    found.filter(|content| !content.is_empty()).ok_or(none)
}

/// The options of a DHCPv6 message: codes and contents, in order. Ends at the first that does not
/// fit.
#[derive(Clone, Debug)]
pub struct Options<'a> {
    rest: &'a [u8],
}

impl<'a> Options<'a> {
    /// Over the octets that follow a message's header.
    pub fn new(octets: &'a [u8]) -> Self {
        Self { rest: octets }
    }

    /// After the iterator has ended: whether it came to the end of the message and not to an option
    /// that runs past it (RFC 8415 §21.1).
    pub fn is_exhausted(&self) -> bool {
        self.rest.is_empty()
    }
}

impl<'a> Iterator for Options<'a> {
    type Item = (u16, &'a [u8]);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let (&[code_high, code_low, length_high, length_low], rest) =
            self.rest.split_first_chunk()?;
        let length = u16::from_be_bytes([length_high, length_low]);
        let (content, rest) = rest.split_at_checked(usize::from(length))?;
        self.rest = rest;
        Some((u16::from_be_bytes([code_high, code_low]), content))
    }
}

/// The addresses of option 88 (RFC 7341 §7.2), in order, repetitions included. `None` if the option
/// is malformed; an empty list means [`ALL_RELAYS_AND_SERVERS`].
pub fn server_addresses(content: &[u8]) -> Option<impl ExactSizeIterator<Item = Ipv6Addr> + '_> {
    let (addresses, rest) = content.as_chunks::<16>();
    rest.is_empty().then(|| addresses.iter().map(|octets| Ipv6Addr::from(*octets)))
}

#[cfg(test)]
mod tests;
