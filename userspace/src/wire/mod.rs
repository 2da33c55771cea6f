//! Octets to values and back: no I/O, no allocation, no `unsafe`, and no panic on any input.
//!
//! Two families of types. *Views* borrow the octets of a packet and are checked once, when they are
//! made; after that every accessor is total. *Emitters* write into a caller's buffer through a
//! [`Writer`](writer::Writer), which remembers an overflow instead of panicking. [`Malformed`]
//! names each way in which octets can fail to be a message, so that the caller can count it under
//! its own name.

#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::as_conversions, clippy::indexing_slicing))]

pub mod checksum;
pub mod datagram;
pub mod dhcpv4;
pub mod dhcpv6;
pub mod frame;
pub mod identity;
pub mod portparams;
pub mod writer;

#[cfg(test)]
#[path = "../../tests/vectors/mod.rs"]
pub(crate) mod vectors;

use std::fmt;

/// Every way in which octets fail to be a DHCPv4-over-DHCPv6 message. Each is a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Malformed {
    /// Fewer octets than the fixed header of the DHCPv6 message needs (RFC 8415 §8, §9).
    ShortHeader,
    /// A DHCPv6 message type that is neither a DHCPv4-query nor a Relay-forward (RFC 8415 §16).
    UnknownType,
    /// A Relay-reply, which only relays may receive (RFC 8415 §16.14).
    RelayReply,
    /// More levels of Relay-forward than [`RELAY_LEVELS_MAX`](dhcpv6::RELAY_LEVELS_MAX).
    Nesting,
    /// A Relay-forward without the Relay Message option (RFC 8415 §9.1).
    NoRelayMessage,
    /// A Relay-forward with two Relay Message options (RFC 8415 §21: a singleton).
    DuplicateRelayMessage,
    /// A DHCPv6 option that runs past the end of its message (RFC 8415 §21.1).
    TruncatedTlv,
    /// A DHCPv4-query without the DHCPv4 Message option, or with an empty one (RFC 7341 §11).
    NoDhcpv4Message,
    /// A DHCPv4-query with two DHCPv4 Message options (RFC 7341 §9).
    DuplicateDhcpv4Message,
    /// A DHCPv4 message shorter than its fixed header and magic cookie (RFC 2131 §2).
    Dhcpv4Short,
    /// The four octets before the options are not 99.130.83.99 (RFC 2131 §3).
    BadCookie,
    /// `op` is not that of a request (RFC 2131 §2).
    BadOp,
    /// `hlen` is greater than the 16 octets of `chaddr` (RFC 2131 §2).
    BadHardwareLength,
    /// An option that decides the message's meaning (50, 53, 54, 61) has a length that its RFC
    /// forbids.
    BadOptionLength,
    /// A DHCPv4 option runs past the field that holds it (RFC 2131 §4.1).
    OptionOverrun,
    /// No DHCP Message Type option.
    ///
    /// req-S20 (RFC 7341 §5): BOOTP messages may be carried, too; this server leaves them alone.
    NoMessageType,
    /// The DHCP Message Type is none that RFC 2132 §9.6 knows, or appears twice.
    BadMessageType,
}

impl Malformed {
    /// All variants, in the order of their discriminants.
    pub const ALL: [Malformed; 17] = [
        Malformed::ShortHeader,
        Malformed::UnknownType,
        Malformed::RelayReply,
        Malformed::Nesting,
        Malformed::NoRelayMessage,
        Malformed::DuplicateRelayMessage,
        Malformed::TruncatedTlv,
        Malformed::NoDhcpv4Message,
        Malformed::DuplicateDhcpv4Message,
        Malformed::Dhcpv4Short,
        Malformed::BadCookie,
        Malformed::BadOp,
        Malformed::BadHardwareLength,
        Malformed::BadOptionLength,
        Malformed::OptionOverrun,
        Malformed::NoMessageType,
        Malformed::BadMessageType,
    ];

    /// The counter's name.
    pub const fn name(self) -> &'static str {
        match self {
            Malformed::ShortHeader => "short-header",
            Malformed::UnknownType => "unknown-type",
            Malformed::RelayReply => "relay-reply",
            Malformed::Nesting => "nesting",
            Malformed::NoRelayMessage => "no-relay-msg",
            Malformed::DuplicateRelayMessage => "dup-relay-msg",
            Malformed::TruncatedTlv => "truncated-tlv",
            Malformed::NoDhcpv4Message => "no-dhcpv4-msg",
            Malformed::DuplicateDhcpv4Message => "dup-dhcpv4-msg",
            Malformed::Dhcpv4Short => "v4-short",
            Malformed::BadCookie => "bad-cookie",
            Malformed::BadOp => "bad-op",
            Malformed::BadHardwareLength => "bad-hlen",
            Malformed::BadOptionLength => "bad-option-length",
            Malformed::OptionOverrun => "option-overrun",
            Malformed::NoMessageType => "no-msg-type",
            Malformed::BadMessageType => "bad-msg-type",
        }
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
