//! DHCPv4 messages (RFC 2131): a view that is checked once, and emitters.
//!
//! [`View::parse_request`] goes over the options in one pass and remembers where those stand that a
//! server decides by. Nothing is copied and nothing allocated; an option that came in several
//! pieces (RFC 3396) is put together again by whoever asks for it.

mod emit;
mod found;
mod options;
mod view;

pub use emit::{
    Header, pad_to, put_address, put_end, put_message_type, put_option, put_port_params, put_u8,
    put_u16, put_u32, put_value,
};
pub use options::{Options, Value};
pub use view::{PortParamsField, View};

/// `op` of what clients send (RFC 2131 §2).
pub const BOOT_REQUEST: u8 = 1;
/// `op` of what servers send (RFC 2131 §2).
pub const BOOT_REPLY: u8 = 2;

/// The four octets before the options (RFC 2131 §3).
pub const MAGIC_COOKIE: [u8; 4] = [99, 130, 83, 99];

/// Octets of the fixed fields and the cookie: where the options begin.
pub const FIXED_LENGTH: usize = 240;

/// Octets of `chaddr`, the greatest `hlen`.
pub const HARDWARE_LENGTH_MAX: u8 = 16;

/// The least length of a BOOTP message, for clients that insist on it (RFC 1542 §2.1).
pub const BOOTP_LENGTH_MIN: usize = 300;

/// Broadcast flag (RFC 2131 §2). Without meaning over DHCPv6, but echoed.
pub const FLAG_BROADCAST: u16 = 0x8000;

/// Pad: one octet, no length (RFC 2132 §3.1).
pub const PAD: u8 = 0;
/// Subnet Mask (RFC 2132 §3.3).
pub const OPTION_SUBNET_MASK: u8 = 1;
/// Router (RFC 2132 §3.5).
pub const OPTION_ROUTER: u8 = 3;
/// Domain Name Server (RFC 2132 §3.8).
pub const OPTION_DNS_SERVERS: u8 = 6;
/// Requested IP Address (RFC 2132 §9.1).
pub const OPTION_REQUESTED_ADDRESS: u8 = 50;
/// IP Address Lease Time (RFC 2132 §9.2).
pub const OPTION_LEASE_TIME: u8 = 51;
/// Option Overload (RFC 2132 §9.3).
pub const OPTION_OVERLOAD: u8 = 52;
/// DHCP Message Type (RFC 2132 §9.6).
pub const OPTION_MESSAGE_TYPE: u8 = 53;
/// Server Identifier (RFC 2132 §9.7).
pub const OPTION_SERVER_ID: u8 = 54;
/// Parameter Request List (RFC 2132 §9.8).
pub const OPTION_PARAMETER_REQUEST_LIST: u8 = 55;
/// Message: a text for humans (RFC 2132 §9.9).
pub const OPTION_MESSAGE: u8 = 56;
/// Maximum DHCP Message Size (RFC 2132 §9.10).
pub const OPTION_MAX_MESSAGE_SIZE: u8 = 57;
/// Renewal Time, T1 (RFC 2132 §9.11).
pub const OPTION_RENEWAL_TIME: u8 = 58;
/// Rebinding Time, T2 (RFC 2132 §9.12).
pub const OPTION_REBINDING_TIME: u8 = 59;
/// Vendor Class Identifier (RFC 2132 §9.13).
pub const OPTION_VENDOR_CLASS: u8 = 60;
/// Client Identifier (RFC 2132 §9.14, RFC 4361, RFC 6842).
pub const OPTION_CLIENT_ID: u8 = 61;
/// Relay Agent Information (RFC 3046).
pub const OPTION_RELAY_INFORMATION: u8 = 82;
/// A softwire's IPv6 source address: `OPTION_DHCP4O6_S46_SADDR` (RFC 8539 §6.2).
pub const OPTION_SOFTWIRE_SOURCE: u8 = 109;
/// Address and port set: `OPTION_V4_PORTPARAMS` (RFC 7618 §9).
pub const OPTION_PORT_PARAMS: u8 = 159;
/// End: one octet, no length (RFC 2132 §3.2).
pub const END: u8 = 255;

macro_rules! message_types {
    ($($(#[$doc:meta])* $variant:ident = $number:literal,)*) => {
        /// DHCP Message Type, option 53 (RFC 2132 §9.6, RFC 3203, RFC 4388).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum MessageType { $($(#[$doc])* $variant = $number,)* }

        impl MessageType {
            /// All that are known, in the order of their numbers.
            pub const ALL: &[MessageType] = &[$(MessageType::$variant,)*];

            /// The number on the wire.
            pub const fn number(self) -> u8 {
                match self { $(MessageType::$variant => $number,)* }
            }

            /// The type of that number, if it is known.
            pub const fn from_number(number: u8) -> Option<Self> {
                match number { $($number => Some(MessageType::$variant),)* _ => None }
            }
        }
    };
}

message_types! {
    /// A client looks for servers.
    Discover = 1,
    /// A server offers.
    Offer = 2,
    /// A client takes an offer, or verifies or extends its lease.
    Request = 3,
    /// A client has found its address in use.
    Decline = 4,
    /// A server grants.
    Ack = 5,
    /// A server refuses.
    Nak = 6,
    /// A client gives its lease up.
    Release = 7,
    /// A client has an address and asks for options only.
    Inform = 8,
    /// A server wants a client to renew (RFC 3203).
    ForceRenew = 9,
    /// A relay asks about a lease (RFC 4388).
    LeaseQuery = 10,
    /// Answer: no lease (RFC 4388).
    LeaseUnassigned = 11,
    /// Answer: not known (RFC 4388).
    LeaseUnknown = 12,
    /// Answer: leased (RFC 4388).
    LeaseActive = 13,
}

#[cfg(test)]
mod tests;
